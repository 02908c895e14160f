//! Sessions that only this server knows (`localSessionsEnabled`, read-only mode): made, expired and ended here, without a transaction. One that asks
//! for an ephemeral becomes a session of the ensemble first, under its own id, or is refused.
//!
//! Invariants: a session is local or the ensemble's, never both: it leaves `local` in the step in which its createSession is prepared or
//! forwarded; nobody expires a local session without asking its shard (A17); local sessions end with the role they were made in.

use super::Replica;
use super::expiry::{Due, Holder, Owner, Standing};
use crate::base::{ConnKey, Instant, SessionId, WallTime, Xid};
use crate::handoff::{Control, Reply};
use crate::proto::{ErrorCode, Request};

/// What members of an ensemble may be told about how they serve their clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientModes {
    /// New sessions are local.
    pub local_sessions: bool,
    /// A local session that asks for an ephemeral becomes the ensemble's; else it is refused the ephemeral.
    pub upgrades: bool,
    /// A leader takes clients.
    pub leader_serves: bool,
    /// For how long a server looks for a leader before it serves those that only read; `None`: it never does.
    pub read_only_after_ms: Option<u64>,
}

impl Default for ClientModes {
    fn default() -> Self {
        ClientModes { local_sessions: false, upgrades: false, leader_serves: true, read_only_after_ms: None }
    }
}

/// What a request of a local session comes to.
pub(super) enum Locally {
    /// It is carried out like that of any other session.
    AsItIs,
    /// Its session becomes the ensemble's first.
    Upgraded,
    /// It fails, in its place in history, and this is what its client is told.
    Refused(ErrorCode),
}

impl Replica {
    /// New sessions here are known to nobody else.
    pub(super) fn makes_local_sessions(&self) -> bool {
        self.member.is_some() && self.config.modes.local_sessions
    }

    /// It leads, and is to keep its time for that.
    pub(super) fn refuses_clients(&self) -> bool {
        self.member.is_some() && self.decides() && !self.config.modes.leader_serves
    }

    pub(super) fn owns_locally(&self, session: SessionId, conn: ConnKey) -> bool {
        self.local.standing(session, conn) == Standing::Owner
    }

    pub(super) fn new_local_session(&mut self, now: Instant, owner: Owner, timeout_ms: i32) {
        let session = self.next_session_id();
        self.local.open(session, timeout_ms, now);
        self.attach_local(now, owner, session, timeout_ms);
    }

    /// Somebody comes back for a session that lives here and nowhere else; the password is known to be right.
    pub(super) fn connect_locally(&mut self, now: Instant, owner: Owner, session: SessionId, timeout_ms: i32) {
        if self.displace(self.local.owner(session), owner) {
            self.attach_local(now, owner, session, timeout_ms);
        }
    }

    fn attach_local(&mut self, now: Instant, owner: Owner, session: SessionId, timeout_ms: i32) {
        self.local.attach(session, Holder::Here(owner), timeout_ms, now);
        self.tell_attached(owner, session, timeout_ms);
    }

    /// The session has ended; the answer comes behind everything that was asked before.
    pub(super) fn answer_closed(&mut self, conn: ConnKey, xid: Xid) {
        let reply = self.answer_frame(conn, xid, |_| ());
        self.groups.answer(Reply { close: true, ..reply });
    }

    /// A malformed request needs nothing: it fails in any case.
    pub(super) fn judge_locally(&self, session: SessionId, request: &Request<'_>) -> Locally {
        if !self.local.is_open(session) || !request.makes_ephemeral() {
            return Locally::AsItIs;
        }
        match request {
            _ if self.config.modes.upgrades => Locally::Upgraded,
            // The part that fails says why by itself: its session has expired, as far as the ensemble knows.
            Request::Multi(_) => Locally::AsItIs,
            _ => Locally::Refused(ErrorCode::EphemeralOnLocalSession),
        }
    }

    /// Leader: a session of its own becomes the ensemble's.
    pub(super) fn upgrade(&mut self, now: Instant, wall: WallTime, session: SessionId) {
        let Some((owner, timeout_ms)) = self.local.take(session) else { return };
        if self.open_session(now, wall, session, timeout_ms)
            && let Some(owner) = owner
        {
            self.sessions.attach(session, Holder::Here(owner), timeout_ms, now);
        }
    }

    /// Deals with some of the local sessions that are due; `poll_timeout` asks for the rest at once.
    pub(super) fn expire_local(&mut self) {
        for _ in 0..super::intake::EXPIRIES_PER_STEP {
            let Some(due) = self.local.next_expired() else { return };
            match due {
                Due::Ask(session, conn) => self.groups.control(conn, Control::AskHeard { conn, session }),
                Due::Expire(session) => {
                    self.expired += 1;
                    if let Some((Some(owner), _)) = self.local.take(session) {
                        self.cut(owner.conn);
                    }
                }
            }
        }
    }

    /// When something is to be done about a local session.
    pub(super) fn next_local(&self) -> Option<Instant> {
        if self.local.has_due() { Some(Instant(0)) } else { self.local.next_due() }
    }
}

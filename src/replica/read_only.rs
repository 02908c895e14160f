//! Read-only mode (`readonlymode.enabled`): a member that has looked for a leader long enough serves those clients that say they only read.
//!
//! They see the tree at `applied`: while this process lives that is committed history. A server that was started again counts its whole log as
//! applied, as ZooKeeper does, so what it shows then may have been acknowledged to nobody, and may be taken back when a quorum is found that never
//! had it. Nobody is shown two histories all the same: who has seen more than a server holds is not taken by it (P8).
//!
//! Invariants: it ends, and its connections are cut by an order in the stream, in the step in which the election ends, so before anything
//! that follows changes log, tree or `applied` (A13); the tree does not change while it lasts; its sessions are local.

use super::Replica;
use super::expiry::Owner;
use super::password::derived_password;
use crate::base::secret::same_secret;
use crate::base::{Instant, Reader, SessionId};
use crate::handoff::{Control, ToReplica};
use crate::proto::connect::ConnectRequest;
use crate::proto::request::RequestHeader;
use crate::proto::{OpCode, Request};
use crate::tree::ephemeral_prefix;
use crate::zab::ServerState;

/// Where a member stands with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ReadOnly {
    /// It has a role, or is about to.
    No,
    /// It looks for a leader; it will have done so for long enough by then.
    Until(Instant),
    /// It has looked for long enough, and waits for its tree to rest.
    Due,
    /// It serves reads.
    Serving,
}

impl Replica {
    pub(super) fn is_read_only(&self) -> bool {
        self.member.as_ref().is_some_and(|m| m.read_only == ReadOnly::Serving)
    }

    /// Begins or ends it; asked after everything that happens.
    pub(super) fn judge_read_only(&mut self, now: Instant) {
        let Some(after_ms) = self.config.modes.read_only_after_ms else { return };
        let Some(member) = &mut self.member else { return };
        if member.is_serving() || member.zab.state() != ServerState::Looking {
            return self.end_read_only();
        }
        let before = member.read_only;
        let next = match before {
            ReadOnly::No => ReadOnly::Until(now.plus_ms(after_ms)),
            ReadOnly::Until(due) if now < due => return,
            ReadOnly::Until(_) | ReadOnly::Due if self.tree_rests() => ReadOnly::Serving,
            ReadOnly::Until(_) | ReadOnly::Due => ReadOnly::Due,
            ReadOnly::Serving => return,
        };
        if let Some(member) = &mut self.member {
            member.read_only = next;
        }
    }

    /// When it is to be judged again if nothing happens before.
    pub(super) fn next_read_only(&self) -> Option<Instant> {
        if let ReadOnly::Until(due) = self.member.as_ref()?.read_only { Some(due) } else { None }
    }

    /// What can be published is, and nothing that was ordered of tree or log is under way.
    fn tree_rests(&self) -> bool {
        let rests = self.member.as_ref().is_some_and(|m| m.tree_is_whole());
        rests && self.log.durable_zxid() == self.log.appended_zxid() && self.limit() <= self.tree.applied()
    }

    /// The election is over: its clients go and find a server that serves everything.
    pub(super) fn end_read_only(&mut self) {
        let Some(member) = &mut self.member else { return };
        if std::mem::replace(&mut member.read_only, ReadOnly::No) == ReadOnly::Serving {
            self.local.clear();
            self.groups.control_all(Control::CutAll);
        }
    }

    pub(super) fn read_only_message(&mut self, now: Instant, message: ToReplica) {
        match message {
            ToReplica::Connect { conn, accepted, request } => self.connect_read_only(now, Owner { conn, accepted }, &request),
            ToReplica::Request { conn, session, frame, .. } if self.owns_locally(session, conn) => {
                let mut body = Reader::new(&frame);
                let Ok(header) = RequestHeader::read(&mut body) else { return };
                match OpCode::from_i32(header.op).map(|op| Request::decode(op, &mut body)) {
                    Some(Ok(Request::CloseSession)) => {
                        self.local.take(session);
                        self.answer_closed(conn, header.xid);
                    }
                    Some(Ok(Request::GetEphemerals { prefix })) => {
                        self.groups.ephemerals(conn, self.tree.ephemeral_cells(session), ephemeral_prefix(prefix));
                    }
                    // Shards forward nothing else of such connections.
                    _ => {}
                }
            }
            ToReplica::Detach { conn, session, heard } => self.local.detach(session, conn, heard),
            ToReplica::Heard { conn, session, heard, at } => self.local.heard(session, conn, heard, at),
            // Such a connection stays in its shard.
            ToReplica::Move { .. } => {}
            ToReplica::Request { .. } | ToReplica::Failed { .. } | ToReplica::AllHeard { .. } => {}
        }
    }

    /// A session that is not of this server's making may live where there is a quorum, so nobody is told here that it does not.
    fn connect_read_only(&mut self, now: Instant, owner: Owner, request: &ConnectRequest) {
        if !request.read_only || request.last_zxid_seen > self.tree.applied().as_i64() {
            return self.cut(owner.conn);
        }
        let timeout_ms = self.negotiated(request);
        if request.session == SessionId::NONE {
            return self.new_local_session(now, owner, timeout_ms);
        }
        if !same_secret(&derived_password(request.session), &request.password) {
            return self.groups.control(owner.conn, Control::Refused { conn: owner.conn });
        }
        if self.local.is_open(request.session) {
            self.connect_locally(now, owner, request.session, timeout_ms);
        } else {
            self.cut(owner.conn);
        }
    }
}

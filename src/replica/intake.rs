//! What shards send: requests become transactions, connect requests become sessions or attach to them.

use super::expiry::{Due, Holder, Owner, Sessions, Standing};
use super::local::Locally;
use super::member::Member;
use super::password::derived_password;
use super::report::ProposalBytes;
use super::{Arrival, Replica};
use crate::base::secret::same_secret;
use crate::base::{Auth, ConnKey, Instant, Reader, SessionId, WallTime, Writer, Xid, Zxid};
use crate::handoff::{Control, Reply, ToReplica};
use crate::proto::connect::ConnectRequest;
use crate::proto::request::RequestHeader;
use crate::proto::response::ReplyFrame;
use crate::proto::{ErrorCode, OpCode, Request};
use crate::tree::{Prepare, Prepared, ephemeral_prefix};
use crate::zab::{ReconfigError, ReconfigRequest};
use std::sync::Arc;

/// Sessions dealt with in one step. All that were connected through one address may be due at once, and requests must not wait for them all.
pub(super) const EXPIRIES_PER_STEP: usize = 8;

/// Who asks for a transaction.
pub(super) struct Asker<'a> {
    pub(super) session: SessionId,
    pub(super) xid: Xid,
    pub(super) auth: &'a Auth,
    /// Where the reply goes; `None` for the server's own transactions.
    pub(super) conn: Option<ConnKey>,
}

/// What is to be prepared.
pub(super) enum Work<'a> {
    Request(&'a Request<'a>),
    Error(ErrorCode),
    CreateSession { timeout_ms: i32 },
    CloseSession,
}

impl Replica {
    pub(super) fn arrived(&mut self, now: Instant, wall: WallTime, arrival: Arrival) {
        match arrival {
            Arrival::Shard(ToReplica::Connect { conn, .. }) if self.refuses_clients() => self.cut(conn),
            Arrival::Shard(message) if self.decides() => self.message(now, wall, message),
            Arrival::Shard(message) if self.is_serving() => self.learner_message(now, message),
            Arrival::Shard(message) if self.is_read_only() => self.read_only_message(now, message),
            // As ZooKeeper does it without a role: the client tries another server.
            Arrival::Shard(ToReplica::Connect { conn, .. }) => self.cut(conn),
            Arrival::Shard(_) => {}
            Arrival::Append(zxid, payload) => self.append(zxid, &payload),
            Arrival::Forwarded(link, request) => self.forwarded(now, wall, link, &request),
            Arrival::Revalidate(link, session, timeout_ms) => self.revalidate(now, link, session, timeout_ms),
            Arrival::Revalidated(session, valid) => self.revalidated(session, valid),
            Arrival::Synced => self.synced(),
        }
    }

    fn message(&mut self, now: Instant, wall: WallTime, message: ToReplica) {
        match message {
            ToReplica::Request { conn, session, frame, auth, .. } => self.request(now, wall, conn, session, &frame, &auth),
            ToReplica::Failed { conn, session, xid, err, auth } => self.failed(wall, conn, session, xid, err, &auth),
            ToReplica::Connect { conn, accepted, request } => self.connect(now, wall, Owner { conn, accepted }, &request),
            ToReplica::Detach { conn, session, heard } => self.table_of(session).detach(session, conn, heard),
            ToReplica::Move { from, to, session, heard } => self.move_session(from, to, session, heard),
            ToReplica::Heard { conn, session, heard, at } => self.table_of(session).heard(session, conn, heard, at),
            ToReplica::AllHeard { .. } => {}
        }
    }

    fn request(&mut self, now: Instant, wall: WallTime, conn: ConnKey, session: SessionId, frame: &[u8], auth: &Arc<Auth>) {
        let mut body = Reader::new(frame);
        let Ok(header) = RequestHeader::read(&mut body) else {
            self.fatal = Some("a shard forwarded a request without a header".into());
            return;
        };
        let asker = Asker { session, xid: header.xid, auth, conn: Some(conn) };
        match self.table_of(session).standing(session, conn) {
            Standing::Stranger => return,
            Standing::OwnerOfClosing => return self.prepare(wall, &asker, Work::Error(ErrorCode::SessionExpired)),
            Standing::Owner => {}
        }
        let request = OpCode::from_i32(header.op).ok_or(()).and_then(|op| Request::decode(op, &mut body).map_err(|_| ()));
        match request {
            // In its place in the stream it comes after everything prepared before it, which is all that is committed if nobody else leads (P9).
            Ok(Request::Sync { path }) => {
                if let Some(member) = &mut self.member {
                    self.groups.await_round(member.zab.confirm());
                }
                let reply = self.answer_frame(conn, header.xid, |out| out.put_string(path));
                self.groups.answer(reply);
            }
            Ok(Request::GetEphemerals { prefix }) => {
                self.groups.ephemerals(conn, self.tree.ephemeral_cells(session), ephemeral_prefix(prefix));
            }
            Ok(Request::CloseSession) if self.local.take(session).is_some() => self.answer_closed(conn, header.xid),
            Ok(Request::CloseSession) => self.prepare(wall, &asker, Work::CloseSession),
            Ok(request) => {
                let work = match self.judge_locally(session, &request) {
                    Locally::Refused(err) => Work::Error(err),
                    Locally::AsItIs => Work::Request(&request),
                    Locally::Upgraded => {
                        self.upgrade(now, wall, session);
                        Work::Request(&request)
                    }
                };
                self.prepare(wall, &asker, work);
            }
            // The shard has decoded it before (A15).
            Err(()) => self.fatal = Some("a shard forwarded a request that cannot be decoded".into()),
        }
    }

    /// A request that fails by itself and takes a zxid.
    fn failed(&mut self, wall: WallTime, conn: ConnKey, session: SessionId, xid: Xid, err: ErrorCode, auth: &Auth) {
        let err = match self.table_of(session).standing(session, conn) {
            Standing::Stranger => return,
            Standing::OwnerOfClosing => ErrorCode::SessionExpired,
            Standing::Owner => err,
        };
        self.prepare(wall, &Asker { session, xid, auth, conn: Some(conn) }, Work::Error(err));
    }

    /// A frame for an answer in order with the writes, as of everything prepared so far.
    pub(super) fn answer_frame(&mut self, conn: ConnKey, xid: Xid, body: impl FnOnce(&mut Vec<u8>)) -> Reply {
        self.groups.seal_if_large();
        // Without a role, what is beyond `applied` is nobody's to know.
        let zxid = if self.is_serving() { self.tree.head_zxid() } else { self.tree.applied() };
        let bytes = self.groups.bytes();
        let start = bytes.len();
        let frame = ReplyFrame::begin(bytes, xid, zxid);
        body(bytes);
        frame.finish(bytes);
        self.groups.reply_since(start, conn, ErrorCode::Ok, false)
    }

    /// Closes a connection without a word.
    pub(super) fn cut(&mut self, conn: ConnKey) {
        self.groups.control(conn, Control::Cut { conn });
    }

    /// Password first (S6, A16); then the session must exist; then the newest connection gets it.
    fn connect(&mut self, now: Instant, wall: WallTime, owner: Owner, request: &ConnectRequest) {
        let timeout_ms = self.negotiated(request);
        // The shard has looked at what the client has seen; in an ensemble its view may be of a history that is gone (P8).
        if self.member.is_some() && request.last_zxid_seen > self.tree.applied().as_i64() {
            return self.cut(owner.conn);
        }
        if request.session == SessionId::NONE {
            return self.new_session(now, wall, owner, timeout_ms);
        }
        let known = same_secret(&derived_password(request.session), &request.password);
        if known && self.local.is_open(request.session) {
            return self.connect_locally(now, owner, request.session, timeout_ms);
        }
        if !known || !self.sessions.is_open(request.session) || !self.tree.has_session(request.session) {
            return self.groups.control(owner.conn, Control::Refused { conn: owner.conn });
        }
        if !self.displace(self.sessions.owner(request.session), owner) {
            return;
        }
        self.tree.set_session_timeout(request.session, timeout_ms);
        self.attach(now, owner, request.session, timeout_ms);
    }

    /// The owner is another one from the point of history on that both shards are told of.
    pub(super) fn move_session(&mut self, from: ConnKey, to: ConnKey, session: SessionId, heard: Instant) {
        let moved = self.table_of(session).move_owner(session, from, to, heard);
        if moved || self.member.as_mut().is_some_and(|member| member.learner.move_owner(session, from, to)) {
            self.groups.control_both(from, to, Control::Moved { from, to, session });
        }
    }

    /// The newest of two connections keeps their session, the other one is cut; false when that is `owner`.
    pub(super) fn displace(&mut self, other: Option<Owner>, owner: Owner) -> bool {
        let overtaken = other.is_some_and(|other| other.accepted > owner.accepted);
        if let Some(loser) = if overtaken { Some(owner) } else { other } {
            self.cut(loser.conn);
        }
        !overtaken
    }

    fn new_session(&mut self, now: Instant, wall: WallTime, owner: Owner, timeout_ms: i32) {
        if self.makes_local_sessions() {
            return self.new_local_session(now, owner, timeout_ms);
        }
        let session = self.next_session_id();
        if self.open_session(now, wall, session, timeout_ms) {
            self.attach(now, owner, session, timeout_ms);
        } else {
            self.cut(owner.conn);
        }
    }

    /// The transaction that makes a session known to everybody. False: there is none, and so there is no session.
    pub(super) fn open_session(&mut self, now: Instant, wall: WallTime, session: SessionId, timeout_ms: i32) -> bool {
        if self.next_zxid().is_none() {
            return false;
        }
        let auth = Auth::default();
        self.prepare(wall, &Asker { session, xid: Xid(0), auth: &auth, conn: None }, Work::CreateSession { timeout_ms });
        self.sessions.open(session, timeout_ms, now);
        true
    }

    /// Where a session of a connection here is kept; that of an unknown one does not matter.
    fn table_of(&mut self, session: SessionId) -> &mut Sessions {
        if self.local.is_known(session) { &mut self.local } else { &mut self.sessions }
    }

    fn attach(&mut self, now: Instant, owner: Owner, session: SessionId, timeout_ms: i32) {
        self.sessions.attach(session, Holder::Here(owner), timeout_ms, now);
        self.tell_attached(owner, session, timeout_ms);
    }

    pub(super) fn tell_attached(&mut self, owner: Owner, session: SessionId, timeout_ms: i32) {
        let (conn, password) = (owner.conn, derived_password(session));
        let (read_only, local) = (self.is_read_only(), self.local.is_known(session));
        self.groups.control(conn, Control::Attached { conn, session, timeout_ms, password, read_only, local });
    }

    pub(super) fn negotiated(&self, request: &ConnectRequest) -> i32 {
        request.timeout_ms.clamp(self.config.min_session_timeout_ms, self.config.max_session_timeout_ms)
    }

    pub(super) fn next_session_id(&mut self) -> SessionId {
        loop {
            let id = SessionId(self.next_session);
            self.next_session = self.next_session.wrapping_add(1);
            // The lowest number marks containers, 0 means none.
            if id.0 != i64::MIN && id != SessionId::NONE && !self.is_taken(id) {
                return id;
            }
        }
    }

    fn is_taken(&self, id: SessionId) -> bool {
        self.sessions.is_known(id)
            || self.local.is_known(id)
            || self.tree.has_session(id)
            || self.member.as_ref().is_some_and(|m| m.learner.is_creating(id))
    }

    /// Deals with some of the sessions that are due, as far as the log takes their end; `poll_timeout` asks for the rest at once.
    pub(super) fn expire_due(&mut self, wall: WallTime) {
        for _ in 0..EXPIRIES_PER_STEP {
            let Some(due) = self.sessions.next_expired() else { return };
            match due {
                Due::Ask(session, conn) => self.groups.control(conn, Control::AskHeard { conn, session }),
                Due::Expire(_) if !self.log.can_append() => return self.sessions.put_back(due),
                Due::Expire(session) => {
                    self.expired += 1;
                    let auth = Auth::default();
                    self.prepare(wall, &Asker { session, xid: Xid(0), auth: &auth, conn: None }, Work::CloseSession);
                }
            }
        }
    }

    /// A request of the server itself.
    pub(super) fn prepare_own(&mut self, wall: WallTime, request: &Request<'_>) {
        let auth = Auth::default();
        self.prepare(wall, &Asker { session: SessionId::NONE, xid: Xid(0), auth: &auth, conn: None }, Work::Request(request));
    }

    /// One transaction: onto the tree, into the log, into the batch that will be published once it is durable. A leader that proposes nothing
    /// any more is about to lose its role: who asks it is cut off, so that nothing sent behind this is answered as if it had been done.
    pub(super) fn prepare(&mut self, wall: WallTime, asker: &Asker<'_>, work: Work<'_>) {
        let Some(zxid) = self.next_zxid() else {
            return asker.conn.into_iter().for_each(|conn| self.cut(conn));
        };
        let p = Prepare { zxid, time: wall, session: asker.session, cxid: asker.xid, auth: asker.auth };
        self.payload.clear();
        let (tree, payload) = (&mut self.tree, &mut self.payload);
        let bytes = self.groups.bytes();
        let start = bytes.len();
        let frame = ReplyFrame::begin(bytes, asker.xid, zxid);
        let closes = matches!(work, Work::CloseSession);
        let prepared = match work {
            Work::Request(request @ Request::Reconfig { .. }) if self.member.is_some() && tree.changes_configuration() => {
                match planned(self.member.as_deref(), request) {
                    Ok(text) => tree.prepare_reconfig(&p, &text, payload, bytes),
                    Err(err) => Prepared { err, ..tree.prepare_error(&p, err, payload) },
                }
            }
            Work::Request(request) => tree.prepare(&p, request, payload, bytes),
            Work::Error(err) => Prepared { err, ..tree.prepare_error(&p, err, payload) },
            Work::CreateSession { timeout_ms } => tree.prepare_create_session(&p, timeout_ms, payload),
            Work::CloseSession => tree.prepare_close_session(&p, payload),
        };
        match (asker.conn, prepared.err) {
            (None, _) => bytes.truncate(start),
            (Some(_), ErrorCode::Ok) => frame.finish(bytes),
            (Some(_), err) => frame.fail(bytes, err),
        }
        assert_eq!(tree.head_zxid(), zxid, "a prepared request takes its zxid");
        self.log.append(zxid, &self.payload);
        if let Some(member) = &mut self.member {
            member.zab.propose(zxid, self.payload.as_slice().into());
            member.proposal_bytes = Some(ProposalBytes::and(member.proposal_bytes, self.payload.len()));
        }
        let reply = asker.conn.map(|conn| self.groups.reply_since(start, conn, prepared.err, closes));
        let closed = prepared.effects.closed_session;
        self.groups.txn(zxid, &prepared.effects.events, reply, closed);
        if closes {
            self.session_ended(zxid, asker);
        }
        self.groups.seal_if_large();
        self.roll_if_due();
    }

    /// The session is closing; a connection that did not ask for it is cut when the end is published.
    fn session_ended(&mut self, zxid: Zxid, asker: &Asker<'_>) {
        if let Some(owner) = self.sessions.close(asker.session, zxid).filter(|o| Some(o.conn) != asker.conn) {
            self.cut(owner.conn);
        }
    }
}

/// The configuration that a request asks for, as text.
fn planned(member: Option<&Member>, request: &Request<'_>) -> Result<String, ErrorCode> {
    let Request::Reconfig { joining, leaving, new_members, config_id } = request else { return Err(ErrorCode::Unimplemented) };
    let wanted = ReconfigRequest { joining: *joining, leaving: *leaving, members: *new_members, version: *config_id };
    let planned = member.ok_or(ErrorCode::Unimplemented)?.zab.plan_reconfig(&wanted);
    planned.map(|next| next.to_text()).map_err(|why| match why {
        ReconfigError::InProgress => ErrorCode::ReconfigInProgress,
        ReconfigError::BadVersion => ErrorCode::BadVersion,
        ReconfigError::BadArguments => ErrorCode::BadArguments,
        ReconfigError::Malformed => ErrorCode::Marshalling,
        ReconfigError::NoQuorum => ErrorCode::NewConfigNoQuorum,
    })
}

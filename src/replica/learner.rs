//! What a follower or observer does for its clients: it sends their writes to the leader, remembers in which order, and answers each from the
//! transaction it has become; it asks the leader before a session goes on here, and tells it which sessions are alive.
//!
//! Invariants: a session's requests are answered in the order sent (P7): transactions come back in the order forwarded (A14), so the one
//! that is the session's own matches the oldest that waits; what is answered here waits behind them; behind a sync everything waits until
//! it is answered, so that nothing sent after it can be taken for what it must show (P9). Only the connection that owns a session is heard
//! (A16).

use super::Replica;
use super::expiry::Owner;
use super::local::Locally;
use super::member::Member;
use super::password::derived_password;
use crate::base::secret::same_secret;
use crate::base::{Auth, ConnKey, Instant, Reader, SessionId, Writer, Xid, Zxid};
use crate::handoff::{Control, ToReplica};
use crate::proto::connect::ConnectRequest;
use crate::proto::request::RequestHeader;
use crate::proto::response::ReplyFrame;
use crate::proto::{ErrorCode, OpCode, Request};
use crate::record::{Txn, TxnHeader, TxnType};
use crate::tree::{Effects, Prepared, ephemeral_prefix};
use crate::zab::ForwardedRequest;
use foldhash::fast::FixedState;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// Everything that ends with the role.
pub(super) struct Learner {
    attached: BySession<Connecting>,
    queues: BySession<VecDeque<Awaited>>,
    /// Connections whose new session is being made.
    creating: BySession<Connecting>,
    /// Connections that ask for a session the leader must be asked about, oldest first.
    revalidating: BySession<VecDeque<Connecting>>,
    /// The session of each sync under way, oldest first; each has one at most.
    syncs: VecDeque<SessionId>,
    /// Heard from since the leader last asked.
    touched: BTreeMap<SessionId, i32>,
    /// When the shards are to be asked again whom they have heard from.
    ask_at: Instant,
    /// Requests that wait for the leader.
    outstanding: usize,
}

/// A leader pings twice in a tick.
const QUESTIONS_PER_TICK: u64 = 4;

type BySession<T> = HashMap<SessionId, T, FixedState>;

/// A connection with its session, or on the way to it.
#[derive(Clone, Copy)]
struct Connecting {
    owner: Owner,
    timeout_ms: i32,
}

/// A request of a session, in the order sent.
enum Awaited {
    /// Forwarded; its transaction has not come. When that is an error, the client is told `instead`, if this server knows better.
    Txn { conn: ConnKey, xid: Xid, closes: bool, instead: Option<ErrorCode> },
    /// A local session is to become the ensemble's; the transaction has not come.
    Upgrade,
    /// Forwarded; `due` when the leader has answered.
    Sync { conn: ConnKey, xid: Xid, path: Box<str>, due: bool },
    /// To be answered here, in its turn.
    Ephemerals { conn: ConnKey, prefix: Option<Box<str>> },
    /// Likewise: a local session has ended.
    Closed { conn: ConnKey, xid: Xid },
    /// Behind a sync: not looked at yet.
    Held(ToReplica),
}

impl Awaited {
    /// It waits for the leader: its own answer, or that of the sync before it.
    fn is_outstanding(&self) -> bool {
        matches!(self, Awaited::Txn { .. } | Awaited::Upgrade | Awaited::Sync { .. } | Awaited::Held(_))
    }

    /// Is a transaction with this header what it has become?
    fn is_outcome(&self, header: &TxnHeader) -> bool {
        let is = |kind: TxnType| header.kind == kind as i32;
        match self {
            Awaited::Txn { xid, closes, .. } => {
                *xid == header.cxid && !is(TxnType::CreateSession) && (*closes || !is(TxnType::CloseSession))
            }
            Awaited::Upgrade => header.cxid == Xid(0) && (is(TxnType::CreateSession) || is(TxnType::Error)),
            _ => false,
        }
    }
}

/// What was forwarded and has become a transaction that is here.
#[derive(Clone, Copy)]
enum Asked {
    Request { conn: ConnKey, closes: bool, instead: Option<ErrorCode> },
    Upgrade,
}

impl Learner {
    pub(super) fn new(seed: u64) -> Self {
        Learner {
            attached: HashMap::with_hasher(FixedState::with_seed(seed)),
            queues: HashMap::with_hasher(FixedState::with_seed(seed)),
            creating: HashMap::with_hasher(FixedState::with_seed(seed)),
            revalidating: HashMap::with_hasher(FixedState::with_seed(seed)),
            syncs: VecDeque::new(),
            touched: BTreeMap::new(),
            ask_at: Instant::default(),
            outstanding: 0,
        }
    }

    /// Nothing is awaited any more, nobody is attached.
    pub(super) fn clear(&mut self) {
        self.attached.clear();
        self.queues.clear();
        self.creating.clear();
        self.revalidating.clear();
        self.syncs.clear();
        self.touched.clear();
        self.outstanding = 0;
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// When there is something to ask the shards.
    pub(super) fn next_question(&self) -> Option<Instant> {
        (!self.attached.is_empty()).then_some(self.ask_at)
    }

    /// Sessions of connections of this server.
    pub(super) fn attached(&self) -> usize {
        self.attached.len()
    }

    /// Its number is being given to a new session.
    pub(super) fn is_creating(&self, session: SessionId) -> bool {
        self.creating.contains_key(&session)
    }

    fn owns(&self, session: SessionId, conn: ConnKey) -> bool {
        self.attached.get(&session).is_some_and(|a| a.owner.conn == conn)
    }

    fn await_turn(&mut self, session: SessionId, awaited: Awaited) {
        self.outstanding += usize::from(awaited.is_outstanding());
        self.queues.entry(session).or_default().push_back(awaited);
    }

    /// Something that only the leader's answer to a sync releases waits at the end of the queue.
    fn is_behind_sync(&self, session: SessionId) -> bool {
        let last = self.queues.get(&session).and_then(VecDeque::back);
        matches!(last, Some(Awaited::Sync { .. } | Awaited::Held(_)))
    }

    /// The request this transaction is the outcome of, if it came from here. Requests before it have lost theirs, which a leader must not
    /// let happen: their connections go to `orphans`.
    fn take_asked(&mut self, header: &TxnHeader, orphans: &mut Vec<ConnKey>) -> Option<Asked> {
        let queue = self.queues.get_mut(&header.session)?;
        let at = queue.iter().position(|awaited| awaited.is_outcome(header))?;
        for lost in queue.drain(..at) {
            self.outstanding -= usize::from(lost.is_outstanding());
            match lost {
                // Of what is answered here, its turn was the one that was lost.
                Awaited::Txn { conn, .. } | Awaited::Ephemerals { conn, .. } | Awaited::Closed { conn, .. } => orphans.push(conn),
                Awaited::Upgrade | Awaited::Sync { .. } | Awaited::Held(_) => {}
            }
        }
        self.outstanding -= 1;
        match queue.pop_front()? {
            Awaited::Txn { conn, closes, instead, .. } => Some(Asked::Request { conn, closes, instead }),
            _ => Some(Asked::Upgrade),
        }
    }

    /// What stands at the front of a session's queue and can be answered now.
    fn take_due(&mut self, session: SessionId) -> Option<Awaited> {
        let queue = self.queues.get_mut(&session)?;
        let due = match queue.front() {
            Some(Awaited::Ephemerals { .. } | Awaited::Closed { .. } | Awaited::Sync { due: true, .. }) => queue.pop_front(),
            _ => None,
        };
        self.outstanding -= usize::from(matches!(due, Some(Awaited::Sync { .. })));
        if queue.is_empty() {
            self.queues.remove(&session);
        }
        due
    }

    /// What waited behind the sync that has just been answered.
    fn take_held(&mut self, session: SessionId) -> Vec<ToReplica> {
        let waiting = self.queues.remove(&session).into_iter().flatten();
        let held: Vec<_> = waiting.filter_map(|a| if let Awaited::Held(message) = a { Some(message) } else { None }).collect();
        self.outstanding -= held.len();
        held
    }

    /// The session's connection goes to another shard; false when it is not the owner.
    pub(super) fn move_owner(&mut self, session: SessionId, from: ConnKey, to: ConnKey) -> bool {
        let attached = self.attached.get_mut(&session).filter(|attached| attached.owner.conn == from);
        attached.map(|attached| attached.owner.conn = to).is_some()
    }

    /// The connection serves the session no more; its sign of life still counts.
    fn detach(&mut self, session: SessionId, conn: ConnKey) {
        if self.owns(session, conn)
            && let Some(gone) = self.attached.remove(&session)
        {
            self.touched.insert(session, gone.timeout_ms);
        }
    }
}

impl Member {
    /// Asks the leader to make a session known to everybody.
    fn create_session(&mut self, session: SessionId, timeout_ms: i32) {
        let (op, body) = (OpCode::CreateSession as i32, timeout_ms.to_be_bytes().into());
        self.zab.forward(ForwardedRequest { session, cxid: Xid(0), op, body, auth: Arc::default() });
    }
}

impl Replica {
    pub(super) fn learner_message(&mut self, now: Instant, message: ToReplica) {
        let Some(member) = &mut self.member else { return };
        let learner = &mut member.learner;
        match message {
            ToReplica::Request { .. } | ToReplica::Failed { .. } => self.learner_request(message),
            ToReplica::Connect { conn, accepted, request } => self.connect_to_learner(now, Owner { conn, accepted }, &request),
            ToReplica::Detach { conn, session, heard } => {
                learner.detach(session, conn);
                self.local.detach(session, conn, heard);
            }
            ToReplica::Move { from, to, session, heard } => self.move_session(from, to, session, heard),
            ToReplica::Heard { conn, session, heard, at } => self.local.heard(session, conn, heard, at),
            ToReplica::AllHeard { sessions } => {
                let Learner { attached, touched, .. } = learner;
                touched.extend(sessions.into_iter().filter(|(session, _)| attached.contains_key(session)));
            }
        }
    }

    fn learner_request(&mut self, message: ToReplica) {
        let Some(member) = &mut self.member else { return };
        match message {
            ToReplica::Request { session, .. } | ToReplica::Failed { session, .. } if member.learner.is_behind_sync(session) => {
                member.learner.await_turn(session, Awaited::Held(message));
            }
            ToReplica::Request { conn, session, frame, auth, .. } if self.owns(session, conn) => self.forward(conn, session, &frame, &auth),
            // It takes its place in history by what the leader cannot decode either.
            ToReplica::Failed { conn, session, xid, err: _, auth } if self.owns(session, conn) => {
                self.forward_as(conn, session, xid, OpCode::Multi, &[], &auth, None);
            }
            _ => {}
        }
    }

    /// The connection has the session, be it the ensemble's or a local one.
    fn owns(&self, session: SessionId, conn: ConnKey) -> bool {
        self.member.as_ref().is_some_and(|m| m.learner.owns(session, conn)) || self.owns_locally(session, conn)
    }

    fn forward(&mut self, conn: ConnKey, session: SessionId, frame: &[u8], auth: &Arc<Auth>) {
        let Some(member) = &mut self.member else { return };
        let mut body = Reader::new(frame);
        let header = RequestHeader::read(&mut body).ok();
        let Some((header, op)) = header.and_then(|h| OpCode::from_i32(h.op).map(|op| (h, op))) else {
            self.fatal = Some("a shard forwarded a request without a header".into());
            return;
        };
        let rest = body.remaining();
        let mut instead = None;
        match op {
            OpCode::GetEphemerals => {
                let Ok(Request::GetEphemerals { prefix }) = Request::decode(op, &mut body) else { return };
                let prefix = prefix.map(Box::from);
                member.learner.await_turn(session, Awaited::Ephemerals { conn, prefix });
                return self.answer_due(session);
            }
            OpCode::CloseSession if self.local.take(session).is_some() => {
                member.learner.await_turn(session, Awaited::Closed { conn, xid: header.xid });
                return self.answer_due(session);
            }
            OpCode::Create | OpCode::Create2 | OpCode::Multi if self.local.is_open(session) => {
                let judged = Request::decode(op, &mut body).map(|request| self.judge_locally(session, &request));
                match judged {
                    Ok(Locally::Upgraded) => self.upgrade_through_leader(session),
                    Ok(Locally::Refused(err)) => instead = Some(err),
                    Ok(Locally::AsItIs) | Err(_) => {}
                }
            }
            _ => {}
        }
        let rest = if op == OpCode::CloseSession { &[] } else { rest };
        self.forward_as(conn, session, header.xid, op, rest, auth, instead);
    }

    #[allow(clippy::too_many_arguments)]
    fn forward_as(
        &mut self,
        conn: ConnKey,
        session: SessionId,
        xid: Xid,
        op: OpCode,
        body: &[u8],
        auth: &Arc<Auth>,
        instead: Option<ErrorCode>,
    ) {
        let Some(member) = &mut self.member else { return };
        let awaited = match op {
            OpCode::Sync => {
                let path = Reader::new(body).string().unwrap_or_default().into();
                member.learner.syncs.push_back(session);
                Awaited::Sync { conn, xid, path, due: false }
            }
            _ => Awaited::Txn { conn, xid, closes: op == OpCode::CloseSession, instead },
        };
        member.learner.await_turn(session, awaited);
        member.zab.forward(ForwardedRequest { session, cxid: xid, op: op as i32, body: body.into(), auth: auth.clone() });
    }

    /// A local session of ours is the ensemble's from now on. The leader hears of it before it hears from it.
    fn upgrade_through_leader(&mut self, session: SessionId) {
        let Some(member) = &mut self.member else { return };
        let Some((Some(owner), timeout_ms)) = self.local.take(session) else { return };
        member.learner.attached.insert(session, Connecting { owner, timeout_ms });
        member.learner.await_turn(session, Awaited::Upgrade);
        member.create_session(session, timeout_ms);
    }

    /// Password first (S6, A16), then what the client has seen (P8), then the leader's word on the session if it is not this server's own business.
    fn connect_to_learner(&mut self, now: Instant, owner: Owner, request: &ConnectRequest) {
        let timeout_ms = self.negotiated(request);
        if request.last_zxid_seen > self.tree.applied().as_i64() {
            return self.cut(owner.conn);
        }
        let connecting = Connecting { owner, timeout_ms };
        if request.session != SessionId::NONE {
            if !same_secret(&derived_password(request.session), &request.password) {
                return self.groups.control(owner.conn, Control::Refused { conn: owner.conn });
            }
            if self.local.is_open(request.session) {
                return self.connect_locally(now, owner, request.session, timeout_ms);
            }
            let Some(member) = &mut self.member else { return };
            member.learner.revalidating.entry(request.session).or_default().push_back(connecting);
            return member.zab.revalidate(request.session, timeout_ms);
        }
        if self.makes_local_sessions() {
            return self.new_local_session(now, owner, timeout_ms);
        }
        let session = self.next_session_id();
        let Some(member) = &mut self.member else { return };
        member.learner.creating.insert(session, connecting);
        member.create_session(session, timeout_ms);
    }

    /// The leader has said whether a session may go on here.
    pub(super) fn revalidated(&mut self, session: SessionId, valid: bool) {
        let Some(member) = &mut self.member else { return };
        let Some(waiting) = member.learner.revalidating.get_mut(&session) else { return };
        let connecting = waiting.pop_front();
        if waiting.is_empty() {
            member.learner.revalidating.remove(&session);
        }
        let Some(connecting) = connecting else { return };
        let conn = connecting.owner.conn;
        if !valid {
            return self.groups.control(conn, Control::Refused { conn });
        }
        let other = member.learner.attached.get(&session).map(|other| other.owner);
        if self.displace(other, connecting.owner) {
            self.attach_here(session, connecting);
        }
    }

    fn attach_here(&mut self, session: SessionId, connecting: Connecting) {
        let Some(member) = &mut self.member else { return };
        member.learner.attached.insert(session, connecting);
        self.tree.set_session_timeout(session, connecting.timeout_ms);
        self.tell_attached(connecting.owner, session, connecting.timeout_ms);
    }

    /// The leader wants to know who is alive. It gets at once what the shards have answered last: it may have asked for another reason, which
    /// waits (`zab::Zab::confirm`).
    pub(super) fn tell_touched(&mut self, zxid: Zxid) {
        let Some(member) = &mut self.member else { return };
        let sessions = std::mem::take(&mut member.learner.touched).into_iter();
        let touched = sessions.chain(self.connections.told(self.config.server_id)).collect();
        member.zab.pinged(zxid, touched);
    }

    /// Asks the shards whom they have heard from, twice as often as a leader asks us: it goes through all their sessions, and must neither be
    /// done for every ping nor leave an answer to wait for long.
    pub(super) fn ask_shards(&mut self, now: Instant) {
        let pause_ms = self.config.tick_ms / QUESTIONS_PER_TICK;
        let Some(member) = &mut self.member else { return };
        if member.learner.next_question().is_some_and(|at| at <= now) {
            member.learner.ask_at = now.plus_ms(pause_ms.max(1));
            self.groups.control_all(Control::AskAllHeard);
        }
    }

    /// The oldest sync is due: everything committed before the leader answered is here.
    pub(super) fn synced(&mut self) {
        let Some(member) = &mut self.member else { return };
        let Some(session) = member.learner.syncs.pop_front() else { return };
        for awaited in member.learner.queues.entry(session).or_default() {
            if let Awaited::Sync { due, .. } = awaited {
                *due = true;
            }
        }
        self.answer_due(session);
    }

    /// Answers what has come to the front of a session's queue.
    fn answer_due(&mut self, session: SessionId) {
        while let Some(due) = self.member.as_mut().and_then(|m| m.learner.take_due(session)) {
            match due {
                Awaited::Ephemerals { conn, prefix } => {
                    let cells = self.tree.ephemeral_cells(session);
                    self.groups.ephemerals(conn, cells, ephemeral_prefix(prefix.as_deref()));
                }
                Awaited::Sync { conn, xid, path, .. } => {
                    let reply = self.answer_frame(conn, xid, |out| out.put_string(&path));
                    self.groups.answer(reply);
                    let held = self.member.as_mut().map(|m| m.learner.take_held(session)).unwrap_or_default();
                    held.into_iter().for_each(|message| self.learner_request(message));
                }
                Awaited::Closed { conn, xid } => self.answer_closed(conn, xid),
                Awaited::Txn { .. } | Awaited::Upgrade | Awaited::Held(_) => {}
            }
        }
    }

    /// Applies a transaction of the leader's and answers the client it came from, as the leader would have.
    pub(super) fn apply_for_clients(&mut self, header: &TxnHeader, txn: &Txn<'_>) {
        let Some(member) = &mut self.member else { return };
        let mut cut = Vec::new();
        let asked = member.learner.take_asked(header, &mut cut);
        let mut reply = None;
        let effects = match asked {
            None | Some(Asked::Upgrade) => self.tree.apply(header, txn),
            Some(Asked::Request { conn, closes, instead }) => {
                let bytes = self.groups.bytes();
                let start = bytes.len();
                let frame = ReplyFrame::begin(bytes, header.cxid, header.zxid);
                let Prepared { err, effects } = self.tree.apply_answering(header, txn, bytes);
                let err = if err == ErrorCode::Ok { err } else { instead.unwrap_or(err) };
                match err {
                    ErrorCode::Ok => frame.finish(bytes),
                    ErrorCode::SessionMoved => bytes.truncate(start),
                    err => frame.fail(bytes, err),
                }
                if err == ErrorCode::SessionMoved {
                    // Another server has the session now: as in ZooKeeper the connection is closed without a word.
                    member.learner.detach(header.session, conn);
                    cut.push(conn);
                } else {
                    reply = Some(self.groups.reply_since(start, conn, err, closes));
                }
                effects
            }
        };
        let closer = match asked {
            Some(Asked::Request { conn, closes: true, .. }) => Some(conn),
            _ => None,
        };
        self.groups.txn(header.zxid, &effects.events, reply, effects.closed_session);
        self.after_session_change(header, txn, &effects, closer, &mut cut);
        if let (Some(Asked::Upgrade), Txn::Error { .. }) = (asked, txn) {
            self.refuse_upgrade(header.session, &mut cut);
        }
        cut.into_iter().for_each(|conn| self.groups.control(conn, Control::Cut { conn }));
        self.answer_due(header.session);
    }

    /// The leader has not taken a session that was local: it is nobody's.
    fn refuse_upgrade(&mut self, session: SessionId, cut: &mut Vec<ConnKey>) {
        let gone = self.member.as_mut().and_then(|m| m.learner.attached.remove(&session));
        cut.extend(gone.map(|gone| gone.owner.conn));
    }

    /// A session that was made for a connection here, or one that has ended while a connection here has it.
    fn after_session_change(
        &mut self,
        header: &TxnHeader,
        txn: &Txn<'_>,
        effects: &Effects,
        closer: Option<ConnKey>,
        cut: &mut Vec<ConnKey>,
    ) {
        let Some(member) = &mut self.member else { return };
        if let Some(ended) = effects.closed_session.and_then(|session| member.learner.attached.remove(&session)) {
            cut.extend(Some(ended.owner.conn).filter(|conn| Some(*conn) != closer));
        }
        match txn {
            Txn::CreateSession { .. } => {
                if let Some(connecting) = member.learner.creating.remove(&header.session) {
                    self.attach_here(header.session, connecting);
                }
            }
            Txn::Error { .. } if header.cxid == Xid(0) => {
                if let Some(connecting) = member.learner.creating.remove(&header.session) {
                    let conn = connecting.owner.conn;
                    self.groups.control(conn, Control::Refused { conn });
                }
            }
            _ => {}
        }
    }
}

//! What shards and the replica say to each other. Plain data.

use super::bell::{Concerns, Interest};
use crate::base::{AclList, Auth, ConnKey, Instant, SessionId, ShardId, Xid, Zxid};
use crate::proto::connect::{ConnectRequest, Password};
use crate::proto::{ErrorCode, EventType};
use foldhash::fast::FixedState;
use imbl::OrdSet;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

/// Shards one process can have.
pub const SHARDS_MAX: usize = 256;

/// From a shard to the replica, in the order sent. `conn` is who sends, `session` whom it serves.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum ToReplica {
    /// A write or an ordered request: the whole frame payload (header included), decoded successfully by the shard (rule A15).
    /// `at` is when it was put into the queue.
    Request { conn: ConnKey, session: SessionId, frame: Box<[u8]>, auth: Arc<Auth>, at: Instant },
    /// A write that could not be decoded and yet takes its place in history (a malformed multi): an error transaction with this code.
    Failed { conn: ConnKey, session: SessionId, xid: Xid, err: ErrorCode, auth: Arc<Auth> },
    /// A connect request that passed the shard's own checks. `accepted` orders connections that ask for the same session: the
    /// newest one gets it, whichever message arrives first.
    Connect { conn: ConnKey, accepted: Instant, request: ConnectRequest },
    /// The connection is gone; `heard` is when the session was last heard from.
    Detach { conn: ConnKey, session: SessionId, heard: Instant },
    /// Everything `from` has asked for is answered, and another shard has a place for it: the session, last heard from at `heard`, is to be
    /// `to`'s. Nothing comes of it when it is not `from`'s any more, which is then being told so.
    Move { from: ConnKey, to: ConnKey, session: SessionId, heard: Instant },
    /// Answer to `Control::AskHeard`, as of the moment `at`: the message may have to wait.
    Heard { conn: ConnKey, session: SessionId, heard: Instant, at: Instant },
    /// Answer to `Control::AskAllHeard`: the sessions heard from since the last one, with their timeouts in ms.
    AllHeard { sessions: Vec<(SessionId, i32)> },
}

impl ToReplica {
    /// When a request was put into the queue.
    #[must_use]
    pub fn queued_at(&self) -> Option<Instant> {
        if let ToReplica::Request { at, .. } = self { Some(*at) } else { None }
    }

    /// Bytes that the message keeps in memory and a client has sent.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            ToReplica::Request { frame, .. } => frame.len(),
            ToReplica::Connect { request, .. } => request.password.len(),
            ToReplica::Failed { .. }
            | ToReplica::Detach { .. }
            | ToReplica::Move { .. }
            | ToReplica::Heard { .. }
            | ToReplica::AllHeard { .. } => 0,
        }
    }
}

/// One consecutive stretch of the published history, as shards consume it. Immutable once published.
#[derive(Debug, Default)]
pub struct Batch {
    /// Everything in the batch is at or below this (the `applied` value that releases it: rule A2).
    pub last_zxid: Zxid,
    /// Which tree it belongs to, counted from 0: a shard that has not been given the reader of this one yet waits.
    pub tree: u64,
    /// The batch begins with the answer to a sync: it may be published when a quorum has confirmed this round (`zab::Zab::confirm`). 0: at any time.
    pub round: u64,
    /// In publication order.
    pub entries: Vec<Entry>,
    /// Bytes the entries refer to: whole reply frames (length included), event paths.
    pub bytes: Vec<u8>,
    /// Events the entries refer to.
    pub events: Vec<Event>,
    /// The shards that a reply or a control is for: they are woken in any case.
    pub shards: ShardSet,
    /// How its transactions have come here; `None` when it has none.
    pub passed: Option<Passed>,
}

/// When the oldest transaction of a batch went from one stage to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// In the turn in which it was prepared (a learner: appended).
    pub prepared: Instant,
    /// It was in this server's log, on the disk.
    pub durable: Instant,
    /// It was committed, and shown to the shards.
    pub published: Instant,
}

impl Passed {
    /// Until it was in the log on the disk, µs.
    #[must_use]
    pub fn log_us(&self) -> u64 {
        self.durable.since_us(self.prepared)
    }
    /// From then on until it could be published, µs: standing alone nothing but the turn, in an ensemble the quorum.
    #[must_use]
    pub fn quorum_us(&self) -> u64 {
        self.published.since_us(self.durable)
    }
}

impl Batch {
    /// The path of one of its events.
    #[must_use]
    pub fn path(&self, event: &Event) -> &str {
        // Written from a `str` by the replica, so this cannot fail; an empty path matches no watch.
        std::str::from_utf8(&self.bytes[event.path.start as usize..event.path.end as usize]).unwrap_or("")
    }
    /// The bytes of one of its replies.
    #[must_use]
    pub fn frame(&self, reply: &Reply) -> &[u8] {
        &self.bytes[reply.frame.start as usize..reply.frame.end as usize]
    }
}

impl Concerns for Batch {
    fn concerns(&self, shard: usize, interest: &Interest) -> bool {
        self.shards.contains(ShardId(shard as u16)) || self.events.iter().any(|e| e.concerns(interest))
    }
}

/// A set of shards.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ShardSet([u64; SHARDS_MAX / 64]);

impl ShardSet {
    /// All there can be.
    pub const ALL: ShardSet = ShardSet([u64::MAX; SHARDS_MAX / 64]);

    /// Adds one.
    pub fn insert(&mut self, shard: ShardId) {
        self.0[usize::from(shard.0) / 64] |= 1 << (shard.0 % 64);
    }
    /// True when it is in.
    #[must_use]
    pub fn contains(&self, shard: ShardId) -> bool {
        self.0[usize::from(shard.0) / 64] & (1 << (shard.0 % 64)) != 0
    }
}

/// One step of a batch.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Entry {
    /// A committed transaction: first its events, then its reply, then the reads of that session queued behind it (rule A4).
    Txn { zxid: Zxid, events: Range<u32>, reply: Option<Reply>, closed: Option<SessionId> },
    /// An ordered answer without a transaction (sync): the reply is complete; reads behind it are served at the last `zxid` consumed.
    Answer(Reply),
    /// getEphemerals: the shard makes the reply, from the cells of the session's ephemerals as of the last `zxid` consumed.
    Ephemerals { conn: ConnKey, cells: OrdSet<u32>, prefix: Box<str> },
    /// Control that may not overtake replies (rule A9).
    Control(Control),
}

/// A complete reply frame for one connection. Its pending write is the oldest one of that connection.
#[derive(Debug, Clone)]
pub struct Reply {
    /// For whom; ignored when that connection is gone.
    pub conn: ConnKey,
    /// Where the frame lies in `Batch::bytes`.
    pub frame: Range<u32>,
    /// Its error code, for statistics.
    pub err: ErrorCode,
    /// Close the connection after this reply has been sent (closeSession).
    pub close: bool,
}

/// A change watchers may see.
#[derive(Debug)]
pub struct Event {
    /// NodeCreated, NodeDeleted or NodeDataChanged.
    pub kind: EventType,
    /// Path, in `Batch::bytes`.
    pub path: Range<u32>,
    /// ACL of the node at that moment.
    pub acl: Arc<AclList>,
    /// ACL of the parent, for the NodeChildrenChanged that follows a create or delete.
    pub parent_acl: Option<Arc<AclList>>,
    /// `path_hash` of the path.
    pub hash: u64,
    /// `path_hash` of the parent's path (of the path itself for data changes and for the root).
    pub parent_hash: u64,
}

impl Event {
    /// May a shard with this interest have a watch it fires?
    #[must_use]
    pub fn concerns(&self, interest: &Interest) -> bool {
        interest.matches(self.hash) || interest.matches(self.parent_hash)
    }
}

/// Hash of a path for interest filters. Not seeded: a collision only costs a look-up that finds nothing.
#[must_use]
pub fn path_hash(path: &str) -> u64 {
    FixedState::with_seed(0).hash_one(path.as_bytes())
}

/// Orders from the replica to the shard that owns a connection.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Control {
    /// The connection now serves this session; answer its connect request and process what waits behind it. `read_only`: for as long as this
    /// server is without a quorum, and for reads alone. `local`: no other server knows the session.
    Attached { conn: ConnKey, session: SessionId, timeout_ms: i32, password: Password, read_only: bool, local: bool },
    /// The connect request is refused: answer with zeroes and close. (Session unknown, expired, or wrong password.)
    Refused { conn: ConnKey },
    /// The session of connection `from` is that of `to`, in another shard, from this point of history on: its events are told by `from` before it
    /// and by `to` after it.
    Moved { from: ConnKey, to: ConnKey, session: SessionId },
    /// Close without a packet: the session was moved, expired or closed elsewhere.
    Cut { conn: ConnKey },
    /// When was this session last heard from? Answer with `ToReplica::Heard` after the sockets have been reaped (rule A17).
    AskHeard { conn: ConnKey, session: SessionId },
    /// Which sessions were heard from since the last question of this kind? Answer with `ToReplica::AllHeard`;
    /// what is still in the sockets comes with the next answer.
    AskAllHeard,
    /// Cut every connection that has a session or awaits one: this server has left its role in the ensemble.
    CutAll,
}

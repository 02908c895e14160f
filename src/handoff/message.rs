//! What shards and the replica say to each other. Plain data.

use crate::base::{AclList, Auth, ConnKey, Instant, SessionId, Zxid};
use crate::proto::connect::{ConnectRequest, Password};
use crate::proto::{ErrorCode, EventType};
use std::ops::Range;
use std::sync::Arc;

/// From a shard to the replica, in the order sent.
#[derive(Debug)]
pub enum ToReplica {
    /// A write or an ordered request: the whole frame payload (header included), decoded successfully by the shard (rule A15).
    Request { conn: ConnKey, session: SessionId, frame: Box<[u8]>, auth: Arc<Auth> },
    /// A connect request that passed the shard's own checks. `peer` is for logs.
    Connect { conn: ConnKey, request: ConnectRequest },
    /// The connection is gone; `heard` is when the session was last heard from.
    Detach { conn: ConnKey, session: SessionId, heard: Instant },
    /// Answer to `Control::AskHeard`.
    Heard { conn: ConnKey, session: SessionId, heard: Instant },
}

/// One consecutive stretch of the published history, as shards consume it. Immutable once published.
#[derive(Debug, Default)]
pub struct Batch {
    /// Everything in the batch is at or below this (the `applied` value that releases it: rule A2).
    pub last_zxid: Zxid,
    /// In publication order.
    pub entries: Vec<Entry>,
    /// Bytes the entries refer to: whole reply frames (length included), event paths.
    pub bytes: Vec<u8>,
    /// Events the entries refer to.
    pub events: Vec<Event>,
}

/// One step of a batch.
#[derive(Debug)]
pub enum Entry {
    /// A committed transaction: first its events, then its reply, then the reads of that session queued behind it (rule A4).
    Txn { zxid: Zxid, events: Range<u32>, reply: Option<Reply>, closed: Option<SessionId> },
    /// An ordered answer without a transaction (sync, getEphemerals): the reply is complete; reads behind it are served at the last `zxid` consumed.
    Answer(Reply),
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
}

/// Orders from the replica to the shard that owns a connection.
#[derive(Debug, Clone)]
pub enum Control {
    /// The connection now serves this session; answer its connect request and process what waits behind it.
    Attached { conn: ConnKey, session: SessionId, timeout_ms: i32, password: Password },
    /// The connect request is refused: answer with zeroes and close. (Session unknown, expired, or wrong password.)
    Refused { conn: ConnKey },
    /// Close without a packet: the session was moved, expired or closed elsewhere.
    Cut { conn: ConnKey },
    /// When was this session last heard from? Answer with `ToReplica::Heard` after the sockets have been reaped (rule A17).
    AskHeard { conn: ConnKey, session: SessionId },
}

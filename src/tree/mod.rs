//! The znode state machine: deterministic, one writer (`Tree`), readers at a zxid (`TreeReader`). INTERFACE (bodies to be written).
//!
//! Leader, follower and replay change state only through `apply` of a decoded transaction (rule A11); `prepare_*` validates a request
//! on the newest state, builds and encodes the transaction, applies what it decodes back, and adds the digest.

pub mod store;

use crate::base::{AclList, Auth, SessionId, WallTime, Xid, Zxid};
use crate::proto::{ErrorCode, EventType, Request};
use crate::record::{Txn, TxnDigest, TxnHeader};
use std::sync::Arc;

/// Settings the tree needs; a small struct by value.
#[derive(Clone, Debug)]
pub struct TreeConfig {
    pub extended_types: bool,
    pub emulate_353_ttl: bool,
    pub enforce_quota: bool,
    pub skip_acl: bool,
    pub digest_enabled: bool,
    pub close_session_txn: bool,
    pub reconfig_enabled: bool,
    pub hash_seed: u64,
}

/// A request to be prepared.
pub struct Prepare<'a> {
    pub zxid: Zxid,
    pub time: WallTime,
    pub session: SessionId,
    pub cxid: Xid,
    pub auth: &'a Auth,
}

/// A change a watcher may want to know of, in firing order.
#[derive(Clone, Debug)]
pub struct NodeEvent {
    /// NodeCreated, NodeDeleted or NodeDataChanged of `path`. The NodeChildrenChanged of the parent is carried by `parent_acl`.
    pub kind: EventType,
    pub path: Box<str>,
    /// ACL of the node itself (as it was, for a delete); the READ check at fire time uses it (rule B9).
    pub acl: Arc<AclList>,
    /// For create and delete: the parent's ACL, for the NodeChildrenChanged that follows. `None` for data changes.
    pub parent_acl: Option<Arc<AclList>>,
}

/// What applying a transaction did, beyond the tree.
#[derive(Default, Debug)]
pub struct Effects {
    pub events: Vec<NodeEvent>,
    /// The session this transaction ended.
    pub closed_session: Option<SessionId>,
}

/// What a prepared request came to.
pub struct Prepared {
    /// Code in the reply header (a failed multi is `Ok` here; its errors are in the body).
    pub err: ErrorCode,
    pub effects: Effects,
}

pub struct Tree {}

impl Tree {
    /// A fresh tree with the system nodes of a first start (semantics section 4), at zxid 0, everything committed.
    pub fn new(config: TreeConfig) -> Self { unimplemented!() }
    /// Validates `request` (a write) on the newest state, appends the transaction payload (header + body + digest) to `payload`, applies
    /// it uncommitted, and appends the *body* of the client's reply to `reply` (nothing when err != Ok). Always consumes the zxid.
    pub fn prepare(&mut self, p: &Prepare<'_>, request: &Request<'_>, payload: &mut Vec<u8>, reply: &mut Vec<u8>) -> Prepared { unimplemented!() }
    /// The error transaction for a request refused before validation (session closing, moved, undecodable on a leader).
    pub fn prepare_error(&mut self, p: &Prepare<'_>, err: ErrorCode, payload: &mut Vec<u8>) -> Prepared { unimplemented!() }
    pub fn prepare_create_session(&mut self, p: &Prepare<'_>, timeout_ms: i32, payload: &mut Vec<u8>) -> Prepared { unimplemented!() }
    pub fn prepare_close_session(&mut self, p: &Prepare<'_>, payload: &mut Vec<u8>) -> Prepared { unimplemented!() }
    /// Applies a decoded transaction on top, uncommitted. Total: every transaction that decodes has an effect (L22). Returns the effects.
    pub fn apply(&mut self, header: &TxnHeader, txn: &Txn<'_>) -> Effects { unimplemented!() }
    /// Compares a transaction's digest with the tree's newest one; `None` when not comparable.
    pub fn digest_matches(&self, digest: Option<&TxnDigest>) -> Option<bool> { unimplemented!() }
    /// Commits everything up to `zxid` (published to readers by this call; the caller has put the batch on the stream first: A2).
    pub fn commit(&mut self, zxid: Zxid) { unimplemented!() }
    /// Undoes everything above `zxid` that is not committed.
    pub fn undo_above(&mut self, zxid: Zxid) { unimplemented!() }
    pub fn applied(&self) -> Zxid { unimplemented!() }
    /// zxid of the newest transaction applied, committed or not.
    pub fn head_zxid(&self) -> Zxid { unimplemented!() }
    pub fn reclaim(&mut self, budget: usize) -> usize { unimplemented!() }
    /// Read access for one shard.
    pub fn reader(&mut self) -> TreeReader { unimplemented!() }
    /// Sessions at the head: (id, timeout ms).
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, i32)> + '_ { std::iter::empty() }
    /// True when the session exists at the head and is not closed by an uncommitted transaction.
    pub fn has_session(&self, session: SessionId) -> bool { unimplemented!() }
    /// Changes a session's timeout in memory (reconnect renegotiates it; no transaction).
    pub fn set_session_timeout(&mut self, session: SessionId, timeout_ms: i32) { unimplemented!() }
    /// Ephemeral paths of a session at the head that start with `prefix` (null, blank or "/": all), sorted.
    pub fn ephemerals(&self, session: SessionId, prefix: Option<&str>) -> Vec<String> { unimplemented!() }
    /// All sessions with ephemerals at the head, for `dump`.
    pub fn ephemerals_by_session(&self) -> Vec<(SessionId, Vec<String>)> { unimplemented!() }
    /// Containers and TTL nodes due for removal at `now`, at most `max` (semantics section 6).
    pub fn due_for_removal(&self, now: WallTime, max_never_used_ms: i64, max: usize) -> Vec<String> { unimplemented!() }
    /// Deletes ephemerals whose session does not exist, directly, without a transaction (start of a standalone server or leader).
    pub fn remove_dead_ephemerals(&mut self) -> usize { unimplemented!() }
    /// What a snapshot at `applied` needs: a held zxid and the side tables as of it.
    pub fn begin_image(&mut self) -> Image { unimplemented!() }
    pub fn counts(&self) -> TreeCounts { unimplemented!() }
    /// (zxid, digest) for each committed zxid divisible by 128, newest 1024, oldest first (4lw `hash`).
    pub fn digest_history(&self) -> Vec<(Zxid, u64)> { unimplemented!() }
}

/// For srvr, mntr.
#[derive(Clone, Copy, Default, Debug)]
pub struct TreeCounts {
    /// As ZooKeeper counts: the root twice.
    pub znodes: u64,
    pub ephemerals: u64,
    pub data_bytes: u64,
    pub sessions: u64,
}

/// A consistent image of the tree at one committed zxid, to be written by a background thread (`image.rs`). `Send`.
pub struct Image {}

impl Image {
    pub fn zxid(&self) -> Zxid { unimplemented!() }
    /// Streams sessions, ACL table and nodes (parents first) in ZooKeeper's snapshot layout, sections 2 to 5, to `sink` piece by piece;
    /// `pause` is called between slices of about 1 ms. The file's header, seals and optional sections are storage's.
    pub fn write(&mut self, sink: &mut dyn FnMut(&[u8]) -> std::io::Result<()>, pause: &mut dyn FnMut()) -> std::io::Result<()> { unimplemented!() }
    pub fn digest(&self) -> Option<TxnDigest> { unimplemented!() }
}

/// One shard's view. Reads are answered at a given zxid between `low` and the burst's.
pub struct TreeReader {}

impl TreeReader {
    pub fn begin_burst(&mut self) -> Zxid { unimplemented!() }
    pub fn applied(&self) -> Zxid { unimplemented!() }
    pub fn set_low(&mut self, zxid: Zxid) { unimplemented!() }
    pub fn park(&mut self) { unimplemented!() }
    /// getData body: buffer + Stat.
    pub fn get_data(&self, at: Zxid, path: &str, auth: &Auth, out: &mut Vec<u8>) -> Result<(), ErrorCode> { unimplemented!() }
    /// exists body: Stat.
    pub fn exists(&self, at: Zxid, path: &str, auth: &Auth, out: &mut Vec<u8>) -> Result<(), ErrorCode> { unimplemented!() }
    pub fn get_children(&self, at: Zxid, path: &str, with_stat: bool, auth: &Auth, out: &mut Vec<u8>) -> Result<(), ErrorCode> { unimplemented!() }
    pub fn get_acl(&self, at: Zxid, path: &str, auth: &Auth, out: &mut Vec<u8>) -> Result<(), ErrorCode> { unimplemented!() }
    pub fn get_all_children_number(&self, at: Zxid, path: &str, auth: &Auth, out: &mut Vec<u8>) -> Result<(), ErrorCode> { unimplemented!() }
    /// multiRead body, terminator included; a part that fails is an error part.
    pub fn multi_read(&self, at: Zxid, parts: &[Request<'_>], auth: &Auth, out: &mut Vec<u8>) { unimplemented!() }
    /// (mzxid, pzxid) for setWatches, no ACL check.
    pub fn change_zxids(&self, at: Zxid, path: &str) -> Option<(i64, i64)> { unimplemented!() }
}

/// The one permission check (semantics section 8): true when `auth` holds `perm` under `acl`. Used for requests and at watch fire time.
pub fn permits(acl: &AclList, perm: crate::base::Perms, auth: &Auth, skip_acl: bool) -> bool { unimplemented!() }

//! This server's deterministic brain: prepare, log, publish; sessions and their expiry; when to snapshot. INTERFACE.
//!
//! `handle(now, wall, Input)`, then `poll_output` until `None`, then `poll_timeout`. Touches no socket, file or clock.
use crate::base::{Instant, SessionId, ShardId, WallTime, Zxid};
use crate::handoff::{Batch, ToReplica};
use crate::storage::log::{FileId, LogAction, LogConfig, SyncToken};
use crate::tree::{Image, Tree};

#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    pub server_id: i64,
    pub tick_ms: u64,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    pub snap_count: u64,
    /// `None` = off.
    pub snap_size_limit_bytes: Option<u64>,
    pub container_check_interval_ms: u64,
    pub container_max_per_minute: u64,
    pub container_max_never_used_ms: i64,
    pub global_outstanding_limit: usize,
    pub log: LogConfig,
    /// Jitter (snapshot trigger), hash seeds.
    pub seed: u64,
}

/// Everything that can happen to it.
#[derive(Debug)]
pub enum Input {
    Shard(ShardId, ToReplica),
    LogOpened(FileId),
    LogSynced(SyncToken),
    /// The background snapshot at this zxid ended; false = failed (warned, kept serving).
    SnapshotDone { zxid: Zxid, ok: bool },
    /// `poll_timeout` has passed.
    Timeout,
    /// Begin a clean stop: no more admission; what is appended is flushed and answered.
    Stop,
}

/// Everything the shell must do.
pub enum Output {
    Log(LogAction),
    /// Append to the stream; then call `Replica::published` (which moves `applied`), then wake the shards in `wake` (bit per shard; A2, A8).
    Publish(Batch),
    /// Write a snapshot on a background thread, then purge if so configured; report with `SnapshotDone`.
    Snapshot(Image),
    /// A broken invariant: print and abort.
    Fatal(String),
    /// After `Stop`: everything is flushed and published.
    Stopped,
}

pub struct Replica {}

impl Replica {
    /// Over a recovered tree (everything in it committed). Session timers start afresh at `now`.
    pub fn new(config: ReplicaConfig, tree: Tree, now: Instant) -> Self { unimplemented!() }
    pub fn handle(&mut self, now: Instant, wall: WallTime, input: Input) { unimplemented!() }
    pub fn poll_output(&mut self) -> Option<Output> { unimplemented!() }
    /// After a `Publish` batch is on the stream: moves `applied` to its last zxid.
    pub fn published(&mut self, last_zxid: Zxid) { unimplemented!() }
    pub fn poll_timeout(&self) -> Option<Instant> { unimplemented!() }
    /// False: leave messages in the shards' queues (log at its unsynced limit, or stopping).
    pub fn admits(&self) -> bool { unimplemented!() }
    /// Reclaims retired tree versions; call once per turn.
    pub fn reclaim(&mut self) { unimplemented!() }
    pub fn tree_mut(&mut self) -> &mut Tree { unimplemented!() }
    pub fn report(&self, now: Instant) -> ReplicaReport { unimplemented!() }
}

/// Plain numbers for admin commands.
#[derive(Clone, Debug, Default)]
pub struct ReplicaReport {
    pub last_zxid: Zxid,
    pub tree: crate::tree::TreeCounts,
    pub outstanding: u64,
    /// (session, timeout ms, ms until expiry)
    pub sessions: Vec<(SessionId, i32, u64)>,
    pub ephemerals: Vec<(SessionId, Vec<String>)>,
    pub digest_history: Vec<(Zxid, u64)>,
    pub last_snapshot: Option<(Zxid, WallTime)>,
    pub snapshots_taken: u64,
}

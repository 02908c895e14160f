//! Who can be told what, across cores: one inbox per shard, one per shard towards the replica, one for what else the replica must hear.
//!
//! A kick says "look at your inbox and at the stream"; it costs a system call only when the owner is parked (`handoff::Inbox`).

use crate::base::{ShardId, Zxid};
use crate::handoff::{Inbox, ToReplica};
use crate::reactor::accept::Accepted;
use crate::replica::ReplicaReport;
use crate::shard::ShardReport;
use crate::storage::log::FileId;
use std::sync::Arc;

/// Sockets, reports and orders waiting for one shard; a full inbox refuses new sockets.
const SHARD_INBOX_LEN: usize = 1024;
/// Completions and orders waiting for the replica: few are ever under way.
const CONTROL_INBOX_LEN: usize = 1024;

/// To one shard's executor, besides the published stream.
pub enum ToShard {
    /// A new client socket.
    Accepted(Accepted),
    /// Answer with this shard's report.
    Report(Arc<Inbox<Report>>),
    /// `srst`, `crst`.
    ResetStats,
    /// Close the listening sockets (they belong to shard 0).
    StopAccepting,
    /// Everything is flushed and published: send what is left, close all connections, end the executor.
    Stop,
}

/// To the replica's task, besides what shards send.
pub enum ToReplicaTask {
    /// The file has its final name and the directory is synced.
    LogOpened(FileId),
    /// A prepared segment, or room for one, has become available to the log.
    SpareReady,
    /// The background snapshot ended.
    SnapshotDone {
        /// Its zxid.
        zxid: Zxid,
        /// False: failed; a warning was logged.
        ok: bool,
    },
    /// Answer with the replica's report.
    Report(Arc<Inbox<Report>>),
    /// Begin a clean stop.
    Stop,
}

/// An answer to a request for reports (rule B4).
pub enum Report {
    /// From one shard.
    Shard(ShardId, Box<ShardReport>),
    /// From the replica.
    Replica(Box<ReplicaReport>),
}

/// The inboxes of one server. Shared by all its executors.
pub struct Mesh {
    /// By shard.
    pub shards: Vec<Arc<Inbox<ToShard>>>,
    /// From each shard to the replica.
    pub to_replica: Vec<Arc<Inbox<ToReplica>>>,
    /// To the replica's task.
    pub control: Arc<Inbox<ToReplicaTask>>,
}

impl Mesh {
    /// Inboxes for this many shards.
    pub fn new(shards: usize, shard_queue_len: usize) -> Self {
        assert!(shards > 0 && shards <= SHARDS_MAX);
        Mesh {
            shards: (0..shards).map(|_| Arc::new(Inbox::new(SHARD_INBOX_LEN))).collect(),
            to_replica: (0..shards).map(|_| Arc::new(Inbox::new(shard_queue_len))).collect(),
            control: Arc::new(Inbox::new(CONTROL_INBOX_LEN)),
        }
    }

    /// Orders one shard; false when its inbox is full.
    pub fn tell(&self, shard: usize, message: ToShard) -> Result<(), ToShard> {
        let inbox = &self.shards[shard];
        inbox.push(message)?;
        inbox.kick();
        Ok(())
    }

    /// Wakes the shards whose bit is set, if they are parked (rule A8).
    pub fn wake(&self, mut shards: u64) {
        while shards != 0 {
            let shard = shards.trailing_zeros() as usize;
            shards &= shards - 1;
            if let Some(inbox) = self.shards.get(shard) {
                inbox.kick();
            }
        }
    }

    /// Bits of all shards.
    pub fn all(&self) -> u64 {
        u64::MAX >> (SHARDS_MAX - self.shards.len())
    }
}

/// A wake-up mask is one word.
pub const SHARDS_MAX: usize = 64;

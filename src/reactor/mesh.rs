//! Who can be told what, across cores: one inbox per shard, one per shard towards the replica, one for what else the replica must hear.
//!
//! Waking costs a system call only when the owner is parked (`handoff::Inbox`, `handoff::Bell`).

use crate::base::{ShardId, Zxid};
use crate::disk::LogFile;
use crate::handoff::message::SHARDS_MAX;
use crate::handoff::{Bell, Inbox, ToReplica};
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
    /// `crst`.
    ResetConnectionStats,
    /// `srst`.
    ResetServerStats,
    /// Close the listening sockets (they belong to shard 0).
    StopAccepting,
    /// Everything is flushed and published: send what is left, close all connections, end the executor.
    Stop,
}

/// To the replica's task, besides what shards send.
pub enum ToReplicaTask {
    /// The file has its final name and the directory is synced.
    LogOpened(FileId),
    /// The segment that could not be given at once.
    SegmentTaken(FileId, Box<LogFile>),
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

/// The inboxes and doorbells of one server. Shared by all its executors.
pub struct Mesh {
    /// By shard: what else than the stream it has to look at. Ring its bell after a push (`tell`).
    pub shards: Vec<Arc<Inbox<ToShard>>>,
    /// By shard: rung when there is something to look at.
    pub bells: Vec<Arc<Bell>>,
    /// From each shard to the replica.
    pub to_replica: Vec<Arc<Inbox<ToReplica>>>,
    /// To the replica's task.
    pub control: Arc<Inbox<ToReplicaTask>>,
}

impl Mesh {
    /// Inboxes for this many shards, at the start of a stream.
    pub fn new(shards: usize, shard_queue_len: usize) -> Self {
        assert!(shards > 0 && shards <= SHARDS_MAX);
        Mesh {
            shards: (0..shards).map(|_| Arc::new(Inbox::new(SHARD_INBOX_LEN))).collect(),
            bells: (0..shards).map(|_| Arc::new(Bell::new(0))).collect(),
            to_replica: (0..shards).map(|_| Arc::new(Inbox::new(shard_queue_len))).collect(),
            control: Arc::new(Inbox::new(CONTROL_INBOX_LEN)),
        }
    }

    /// Orders one shard; `Err` gives the order back when its inbox is full.
    pub fn tell(&self, shard: usize, order: ToShard) -> Result<(), ToShard> {
        self.shards[shard].push(order)?;
        self.bells[shard].ring();
        Ok(())
    }

    /// Tells the replica's task; `Err` gives the message back when its inbox is full.
    pub fn tell_replica(&self, message: ToReplicaTask) -> Result<(), ToReplicaTask> {
        self.control.push(message)?;
        self.control.kick();
        Ok(())
    }
}

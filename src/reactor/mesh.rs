//! Who can be told what, across cores: one inbox per shard, one per shard towards the replica, one for what else the replica must hear.
//!
//! Waking costs a system call only when the owner is parked (`handoff::Inbox`, `handoff::Bell`).

use crate::balance::Load;
use crate::base::limits::SHARD_QUEUE_BYTES_MAX;
use crate::base::{ConnId, ConnKey, ShardId, Zxid};
use crate::disk::LogFile;
use crate::handoff::bell::FILTER_BITS;
use crate::handoff::message::SHARDS_MAX;
use crate::handoff::{Bell, Inbox, ToReplica};
use crate::metrics::ReplicaMetrics;
use crate::reactor::accept::{Accepted, MovedSocket};
use crate::reactor::disk_io::FlushJob;
use crate::replica::ReplicaReport;
use crate::shard::{Departed, Detail, ShardReport};
use crate::storage::log::FileId;
use crate::tree::{Tree, TreeReader};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

/// Sockets, reports and orders waiting for one shard; a full inbox refuses new sockets.
const SHARD_INBOX_LEN: usize = 1024;
/// Results and orders waiting for the replica. Orders that find it so full come back to whoever gave them.
const CONTROL_INBOX_LEN: usize = 1024;
/// Room that only results of threads may take: far more than are ever under way, so none finds the inbox full.
const RESULTS_UNDER_WAY_MAX: usize = 512;

/// To one shard's executor, besides the published stream.
pub enum ToShard {
    /// A new client socket.
    Accepted(Accepted),
    /// Give so many connections to another shard.
    #[allow(missing_docs)]
    GiveAway { to: ShardId, connections: u32 },
    /// Close so many connections that have been silent for so long, so that their clients go elsewhere.
    #[allow(missing_docs)]
    Shed { connections: u64, idle_ms: u64 },
    /// A connection of another shard wants a place here; answer with `Reserved`.
    #[allow(missing_docs)]
    Reserve { conn: ConnKey, peer: SocketAddr },
    /// This connection has a place in another shard.
    #[allow(missing_docs)]
    Reserved { conn: ConnId, to: ConnKey },
    /// The place is not needed.
    Release(ConnId),
    /// A connection of another shard comes to its place.
    #[allow(missing_docs)]
    Arrive { at: ConnId, departed: Box<Departed>, socket: MovedSocket },
    /// Answer with this shard's report.
    Report(Arc<Inbox<Report>>, Detail),
    /// `crst`.
    ResetConnectionStats,
    /// `srst`.
    ResetServerStats,
    /// Read this tree from now on; no client is connected to the old one. With the tree's generation.
    ReplaceTree(u64, Box<TreeReader>),
    /// Close the listening sockets (they belong to shard 0).
    StopAccepting,
    /// Everything is flushed and published: send what is left, close all connections, end the executor.
    Stop,
    /// Close all sockets as they are; `Stop` follows.
    Kill,
}

/// To the replica's task, besides what shards send.
pub enum ToReplicaTask {
    /// The file has its final name and the directory is synced.
    LogOpened(FileId),
    /// The mark, as it was written last, is on disk.
    MarkSynced,
    /// The log holds nothing above the zxid of its cut any more.
    LogCut,
    /// The segment that could not be given at once.
    SegmentTaken(FileId, Box<LogFile>),
    /// The flush is complete.
    Flushed(FlushJob),
    /// The background snapshot ended.
    SnapshotDone {
        /// Its zxid.
        zxid: Zxid,
        /// False: failed; a warning was logged.
        ok: bool,
    },
    /// A leader's image of this zxid is in its temporary file, or why not.
    ImageReceived(Result<Zxid, String>),
    /// The tree in it, or why it cannot be loaded.
    ImageLoaded(Result<Box<Tree>, String>),
    /// That image has the name by which recovery finds it.
    ImageInstalled,
    /// The tree as the log has it now that it was cut.
    TreeLoaded(Box<Tree>),
    /// Answer with the replica's report.
    Report {
        #[allow(missing_docs)]
        to: Arc<Inbox<Report>>,
        /// With sessions, ephemerals and digests.
        lists: bool,
    },
    /// `srst`.
    ResetServerStats,
    /// Connections of this server, where they are counted for everybody to see.
    Connections(Option<u32>),
    /// Begin a clean stop.
    Stop,
    /// Go no further, whatever is under way.
    Kill,
}

/// An answer to a request for reports (rule B4).
pub enum Report {
    /// From one shard.
    Shard(ShardId, Box<ShardReport>),
    /// From the replica.
    Replica(Box<(ReplicaReport, ReplicaMetrics)>),
}

/// What a shard has to do, for whoever places and moves connections. Written by few, now and then; nothing is ordered by it.
#[derive(Default)]
pub struct ShardLoad {
    connections: AtomicU32,
    work: AtomicU64,
    shed: AtomicU64,
}

impl ShardLoad {
    /// A connection came.
    pub fn gain(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection went.
    pub fn lose(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// What the shard has done so far.
    pub fn set_work(&self, work: u64) {
        self.work.store(work, Ordering::Relaxed);
    }

    /// Connections the shard has closed so far so that their clients go elsewhere.
    pub fn set_shed(&self, shed: u64) {
        self.shed.store(shed, Ordering::Relaxed);
    }

    fn now(&self) -> Load {
        Load { connections: self.connections.load(Ordering::Relaxed), work: self.work.load(Ordering::Relaxed) }
    }
}

/// The inboxes and doorbells of one server. Shared by all its executors.
pub struct Mesh {
    /// By shard: what else than the stream it has to look at. Ring its bell after a push (`tell`).
    pub shards: Vec<Arc<Inbox<ToShard>>>,
    /// By shard: rung when there is something to look at.
    pub bells: Vec<Arc<Bell>>,
    /// From each shard to the replica.
    pub to_replica: Vec<Arc<Inbox<ToReplica>>>,
    /// By shard: what it has to do.
    pub loads: Vec<Arc<ShardLoad>>,
    /// By shard: it found its queue to the replica full.
    room_wanted: Vec<AtomicBool>,
    /// To the replica's task.
    pub control: Arc<Inbox<ToReplicaTask>>,
}

impl Mesh {
    /// Inboxes for this many shards, at the start of a stream.
    pub fn new(shards: usize, shard_queue_len: usize) -> Self {
        assert!(shards > 0 && shards <= SHARDS_MAX);
        Mesh {
            shards: (0..shards).map(|_| Arc::new(Inbox::new(SHARD_INBOX_LEN))).collect(),
            bells: (0..shards).map(|_| Arc::new(Bell::new(0, FILTER_BITS))).collect(),
            to_replica: (0..shards).map(|_| Arc::new(Inbox::weighing(shard_queue_len, SHARD_QUEUE_BYTES_MAX, ToReplica::weight))).collect(),
            loads: (0..shards).map(|_| Arc::default()).collect(),
            room_wanted: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            control: Arc::new(Inbox::new(CONTROL_INBOX_LEN)),
        }
    }

    /// Orders one shard; `Err` gives the order back when its inbox is full.
    pub fn tell(&self, shard: usize, order: ToShard) -> Result<(), ToShard> {
        self.shards[shard].push(order)?;
        self.bells[shard].ring();
        Ok(())
    }

    /// What all shards have to do now.
    pub fn loads_now(&self) -> Vec<Load> {
        self.loads.iter().map(|load| load.now()).collect()
    }

    /// Connections all shards have closed so far so that their clients go elsewhere.
    pub fn shed_so_far(&self) -> u64 {
        self.loads.iter().map(|load| load.shed.load(Ordering::Relaxed)).sum()
    }

    /// True when a shard's inbox is half full: new work can wait, orders and reports cannot.
    pub fn is_busy(&self, shard: usize) -> bool {
        self.shards[shard].len() >= SHARD_INBOX_LEN / 2
    }

    /// Orders the replica's task; `Err` gives the order back when its inbox has room for results only.
    pub fn tell_replica(&self, message: ToReplicaTask) -> Result<(), ToReplicaTask> {
        // Every core may find the last place at once; what is kept for results is more than cores.
        if self.control.len() >= CONTROL_INBOX_LEN - RESULTS_UNDER_WAY_MAX {
            return Err(message);
        }
        self.control.push(message)?;
        self.control.kick();
        Ok(())
    }

    /// Shard: asks to be woken when there is room in its queue to the replica. Try once more after this: either that finds room, or the
    /// replica finds the wish.
    pub fn want_room(&self, shard: usize) {
        self.room_wanted[shard].store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst); // the wish before the second try
    }

    /// Replica: messages have been taken from the shard's queue.
    pub fn made_room(&self, shard: usize) {
        fence(Ordering::SeqCst); // the room before the look at the wish
        let wanted = &self.room_wanted[shard];
        if wanted.load(Ordering::Relaxed) && wanted.swap(false, Ordering::AcqRel) {
            self.bells[shard].ring();
        }
    }
}

/// Tells the replica's task what has come of something it asked for; from any thread. Each is awaited: a lost one would be a server that hangs.
pub fn tell_result(control: &Inbox<ToReplicaTask>, result: ToReplicaTask) {
    if control.push(result).is_err() {
        super::fatal("more results wait for the replica than it can have asked for");
    }
    control.kick();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Wake, Waker};

    #[derive(Default)]
    struct Count(AtomicU64);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_shard_that_found_its_queue_full_is_woken_once_when_there_is_room() {
        let mesh = Mesh::new(2, 1);
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut wait = pin!(mesh.bells[1].wait(|| false));
        assert_eq!(wait.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
        mesh.made_room(1);
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "nobody asked");
        mesh.want_room(1);
        mesh.made_room(0);
        mesh.made_room(1);
        mesh.made_room(1);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(wait.poll(&mut Context::from_waker(&waker)), Poll::Ready(()));
    }

    #[test]
    fn an_order_to_a_full_inbox_comes_back() {
        let mesh = Mesh::new(1, 1);
        (0..SHARD_INBOX_LEN).for_each(|_| assert!(mesh.tell(0, ToShard::ResetServerStats).is_ok()));
        assert!(matches!(mesh.tell(0, ToShard::Stop), Err(ToShard::Stop)));
    }

    #[test]
    fn orders_leave_room_for_every_result_a_replica_that_takes_nothing_can_be_told_of() {
        let mesh = Mesh::new(1, 1);
        let orders = (0..2 * CONTROL_INBOX_LEN).filter(|_| mesh.tell_replica(ToReplicaTask::ResetServerStats).is_ok()).count();
        assert_eq!(orders, CONTROL_INBOX_LEN - RESULTS_UNDER_WAY_MAX);
        (0..RESULTS_UNDER_WAY_MAX).for_each(|_| tell_result(&mesh.control, ToReplicaTask::MarkSynced));
        let mut told = Vec::new();
        mesh.control.drain(&mut told, usize::MAX);
        let results = told.iter().filter(|told| matches!(told, ToReplicaTask::MarkSynced)).count();
        assert_eq!(results, RESULTS_UNDER_WAY_MAX, "none is lost");
    }
}

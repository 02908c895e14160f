//! Executors: how many, on which cores, and starting them so that one that cannot start is an error and not a missing core.

use crate::balance;
use crate::base::ShardId;
use crate::handoff::{Batch, Publisher};
use crate::reactor::accept::{AcceptLimits, Acceptor};
use crate::reactor::balancing::Balancing;
use crate::reactor::client_io::ShardLoop;
use crate::reactor::disk_io::{Disk, LogFiles, Snapshots};
use crate::reactor::executor::{Executor, NotBegun, Nudges};
use crate::reactor::mesh::Mesh;
use crate::reactor::peer_io::{PeerIo, PeerParts};
use crate::reactor::replica_loop::ReplicaLoop;
use crate::reactor::words::Admin;
use crate::replica::Replica;
use crate::shard::Shard;
use glommio::{Latency, Placement, Shares};
use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The replica's share of its executor's time; another task queue has 1000.
const REPLICA_SHARES: usize = 4000;

/// What an executor locks of memory, for its rings.
pub const LOCKED_BYTES_PER_EXECUTOR: u64 = 240 << 10;

/// Where executors run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorePlan {
    /// One per shard: the core it is bound to, if any.
    pub cores: Vec<Option<usize>>,
}

/// What speaks against binding executors to cores.
#[derive(Clone, Copy)]
struct Machine {
    /// The scheduler takes cores away to keep to it.
    has_quota: bool,
    may_pin: bool,
}

/// Why a server could not start its executors.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// io_uring is missing, forbidden or out of locked memory.
    #[error("executor {shard} of {shards} could not start: {reason}. {}", what_is_missing(reason))]
    NotStarted {
        /// Which.
        shard: usize,
        /// Of how many.
        shards: usize,
        /// What the system said.
        reason: String,
    },
    /// The machine gives this process no time, or the kernel does not come back.
    #[error("executor {shard} of {shards} had not begun to run after {} s, so the start is given up: is this machine overloaded?", patience.as_secs())]
    Late {
        /// Which.
        shard: usize,
        /// Of how many.
        shards: usize,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The process may not use as many cores as should be bound.
    #[error("zoo.pin=yes needs {shards} cores, and this process may use {cores}; lower zoo.shards or set zoo.pin=auto")]
    TooFewCores {
        /// Wanted.
        shards: usize,
        /// In the affinity mask.
        cores: usize,
    },
    /// It may not bind threads at all.
    #[error("zoo.pin=yes, but this process may not choose its cores (sched_setaffinity is refused); allow it or set zoo.pin=auto")]
    MayNotPin,
}

fn what_is_missing(reason: &str) -> &'static str {
    if reason.contains("MemLock") || reason.contains("os error 12") {
        "The limit of locked memory has to be 512 KiB at least, and each executor uses about 240 KiB: raise it (ulimit -l, LimitMEMLOCK) or lower zoo.shards"
    } else {
        "It needs io_uring: Linux 5.8 or newer, not blocked by a container's seccomp profile nor by kernel.io_uring_disabled"
    }
}

impl CorePlan {
    /// Chooses the number of shards and their cores for this process's affinity mask.
    ///
    /// On one or two cores one shard is best: it shares its executor with the replica, and a hop between parked cores costs more than the
    /// second core brings (rule B1). Binding helps when every shard has a core of its own; under a CPU quota it hurts.
    pub fn new(shards: Option<u16>, pin: Option<bool>) -> Result<Self, ExecutorError> {
        let machine = Machine { has_quota: has_cpu_quota(), may_pin: may_pin() };
        let plan = Self::choose(&usable_cores(), shards.map(usize::from), pin, machine)?;
        if plan.cores.len() > 1 && !machine.may_pin {
            tracing::info!("this process may not choose its cores: shards run wherever the kernel puts them");
        }
        Ok(plan)
    }

    fn choose(cores: &[usize], shards: Option<usize>, pin: Option<bool>, machine: Machine) -> Result<Self, ExecutorError> {
        let automatic = if cores.len() <= 2 { 1 } else { cores.len() };
        let shards = shards.unwrap_or(automatic).clamp(1, crate::handoff::message::SHARDS_MAX);
        let enough = shards <= cores.len();
        if pin == Some(true) && !enough {
            return Err(ExecutorError::TooFewCores { shards, cores: cores.len() });
        }
        if pin == Some(true) && !machine.may_pin {
            return Err(ExecutorError::MayNotPin);
        }
        let bind = pin.unwrap_or(enough && shards > 1 && !machine.has_quota && machine.may_pin);
        Ok(CorePlan { cores: (0..shards).map(|shard| bind.then(|| cores[shard])).collect() })
    }

    /// Are executors bound to cores?
    pub fn pinned(&self) -> bool {
        self.cores.iter().any(Option::is_some)
    }
}

/// To be called before a server starts its first thread: registering for membarrier takes long once there are threads.
pub fn prepare_process() {
    glommio::early_init();
}

fn usable_cores() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect(),
        Err(_) => (0..std::thread::available_parallelism().map_or(1, usize::from)).collect(),
    }
}

/// Whether threads of this process may be bound to cores: some sandboxes refuse even what changes nothing.
fn may_pin() -> bool {
    rustix::thread::sched_getaffinity(None).is_ok_and(|mask| rustix::thread::sched_setaffinity(None, &mask).is_ok())
}

fn has_cpu_quota() -> bool {
    std::fs::read_to_string("/sys/fs/cgroup/cpu.max").is_ok_and(|max| !max.starts_with("max"))
}

/// Everything the executors of one server work with; built before the first of them starts.
pub struct Parts {
    /// One per executor.
    pub shards: Vec<Shard>,
    /// The one writer.
    pub replica: Replica,
    /// Its end of the published stream.
    pub publisher: Publisher<Batch>,
    /// Its log.
    pub log: Disk,
    /// Its snapshots.
    pub snapshots: Snapshots,
    /// The way to the other servers, for a member of an ensemble.
    pub peers: Option<PeerParts>,
    /// How they reach each other.
    pub mesh: Arc<Mesh>,
    /// Answers four-letter admin.
    pub admin: Arc<Admin>,
    /// Where clients connect.
    pub listener: TcpListener,
    /// How many may.
    pub limits: AcceptLimits,
    /// SO_KEEPALIVE on client sockets.
    pub keep_alive: bool,
    /// Connections of shard 0, in percent of another's.
    pub replica_share_percent: u32,
    /// Which shard a new one goes to.
    pub placement: balance::Placement,
    /// How often it is looked whether some should go to other shards.
    pub rebalance_every: Option<Duration>,
    /// A flush that takes this long is worth a warning.
    pub fsync_warning: Duration,
}

/// The running executors.
pub struct Executors {
    running: Vec<Executor>,
    nudges: Nudges,
}

impl Executors {
    /// Starts one executor per core of the plan and returns when all run. Shard 0's comes last: it lets clients in.
    pub fn start(plan: &CorePlan, parts: Parts) -> Result<Self, ExecutorError> {
        let shards = plan.cores.len();
        assert_eq!(shards, parts.shards.len());
        let mut executors = Executors::none(shards)?;
        let Parts { shards: shard_parts, replica, publisher, log, snapshots, peers, mesh, admin, listener, .. } = parts;
        let mut shard_parts: Vec<_> = shard_parts.into_iter().enumerate().collect();
        while shard_parts.len() > 1 {
            let Some((i, shard)) = shard_parts.pop() else { break };
            let (mesh, admin) = (mesh.clone(), admin.clone());
            executors.start_one(plan, i, move || async move {
                ShardLoop::new(ShardId(i as u16), shard, mesh, admin).run(None).await;
            })?;
        }
        let Some((_, shard)) = shard_parts.pop() else { return Ok(executors) };
        let shares = balance::Shares::new(shards, parts.replica_share_percent);
        let placer = balance::Placer::new(parts.placement, shares.clone());
        let balanced_by = (parts.placement, parts.rebalance_every.map(|every| every.as_millis() as u64));
        let (limits, keep_alive, fsync_warning) = (parts.limits, parts.keep_alive, parts.fsync_warning);
        executors.start_one(plan, 0, move || async move {
            let queue = glommio::executor().create_task_queue(Shares::Static(REPLICA_SHARES), Latency::NotImportant, "replica");
            let bind = peers.as_ref().map(|parts| parts.bind_clients.clone());
            let peers = peers.map(|parts| PeerIo::start(parts, mesh.control.clone(), queue));
            let moves = peers.as_ref().map(PeerIo::client_moves).zip(bind);
            let log = LogFiles::new(log, mesh.control.clone(), fsync_warning)
                .unwrap_or_else(|e| super::fatal(&format!("no thread for flushing the transaction log: {e}")));
            let replica = ReplicaLoop::new(replica, publisher, log, snapshots, peers, mesh.clone());
            let placer = Rc::new(RefCell::new(placer));
            let balancing = Balancing::new(mesh.clone(), replica.clone(), placer.clone(), shares, balanced_by);
            let balancing = glommio::spawn_local(balancing.run());
            let replica = super::spawn_into(replica.run(), queue);
            let mut acceptor = Acceptor::new(mesh.clone(), limits, keep_alive, placer);
            let accepting = glommio::spawn_local(async move {
                if let Err(e) = acceptor.run(listener, moves).await {
                    super::fatal(&format!("cannot accept connections any more: {e}"));
                }
            });
            ShardLoop::new(ShardId(0), shard, mesh, admin).run(Some(accepting)).await;
            balancing.cancel().await;
            replica.await;
        })?;
        Ok(executors)
    }

    /// Starts the executors of a plan with nothing to do, and ends them: whether that works here can be known in no other way.
    pub fn try_out(plan: &CorePlan) -> Result<(), ExecutorError> {
        let shards = plan.cores.len();
        let mut executors = Executors::none(shards)?;
        for shard in 0..shards {
            executors.start_one(plan, shard, || async {})?;
        }
        executors.join().map_err(|reason| ExecutorError::NotStarted { shard: 0, shards, reason })
    }

    fn none(shards: usize) -> Result<Self, ExecutorError> {
        let nudges = Nudges::start().map_err(|e| ExecutorError::NotStarted { shard: 0, shards, reason: e.to_string() })?;
        Ok(Executors { running: Vec::with_capacity(shards), nudges })
    }

    fn start_one<F>(&mut self, plan: &CorePlan, shard: usize, main: impl FnOnce() -> F + Send + 'static) -> Result<(), ExecutorError>
    where
        F: Future<Output = ()> + 'static,
    {
        let shards = plan.cores.len();
        let place = plan.cores[shard].map_or(Placement::Unbound, Placement::Fixed);
        let executor = Executor::start(format!("zoo-shard-{shard}"), place, &self.nudges, main).map_err(|e| match e {
            NotBegun::Failed(reason) => ExecutorError::NotStarted { shard, shards, reason },
            NotBegun::Late(patience) => ExecutorError::Late { shard, shards, patience },
        })?;
        self.running.push(executor);
        Ok(())
    }

    /// Waits until all have ended; `Err` names the one that ended by a panic.
    pub fn join(self) -> Result<(), String> {
        let mut result = Ok(());
        let Executors { running, nudges: _nudges } = self;
        for (i, executor) in running.into_iter().enumerate() {
            if let Err(e) = executor.join() {
                result = Err(format!("an executor (started as number {i}) ended by itself: {e}"));
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(cores: &[usize], shards: Option<usize>, pin: Option<bool>, has_quota: bool) -> Vec<Option<usize>> {
        CorePlan::choose(cores, shards, pin, Machine { has_quota, may_pin: true }).expect("possible").cores
    }

    #[test]
    fn one_or_two_cores_get_one_unbound_shard() {
        assert_eq!(plan(&[0], None, None, false), [None]);
        assert_eq!(plan(&[0, 1], None, None, false), [None]);
    }

    #[test]
    fn more_cores_get_a_bound_shard_each_from_the_affinity_mask() {
        assert_eq!(plan(&[2, 3, 5], None, None, false), [Some(2), Some(3), Some(5)]);
        assert_eq!(plan(&[2, 3, 5], None, None, true), [None; 3], "a quota moves threads around");
        assert_eq!(plan(&[2, 3, 5], None, Some(false), false), [None; 3]);
    }

    #[test]
    fn more_shards_than_cores_run_unbound_and_cannot_be_pinned() {
        assert_eq!(plan(&[0, 1], Some(4), None, false), [None; 4]);
        let machine = Machine { has_quota: false, may_pin: true };
        assert!(matches!(CorePlan::choose(&[0, 1], Some(4), Some(true), machine), Err(ExecutorError::TooFewCores { .. })));
    }

    #[test]
    fn who_may_not_choose_cores_runs_unbound_unless_told_to_pin() {
        let machine = Machine { has_quota: false, may_pin: false };
        let plan = |pin| CorePlan::choose(&[0, 1], Some(2), pin, machine).map(|plan| plan.pinned());
        assert!(matches!((plan(None), plan(Some(false)), plan(Some(true))), (Ok(false), Ok(false), Err(ExecutorError::MayNotPin))));
    }

    #[test]
    fn an_executor_that_cannot_start_is_an_error() {
        let plan = CorePlan { cores: vec![Some(1 << 20)] };
        let mut executors = Executors::none(1).expect("a thread");
        let error = executors.start_one(&plan, 0, || async {}).expect_err("there is no such core");
        assert!(error.to_string().contains("executor 0 of 1"), "{error}");
    }
}

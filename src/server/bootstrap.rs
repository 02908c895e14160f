//! Starting a server: ports, directory, recovery, cores; and the handle by which it is stopped.
//!
//! Nothing here is global: several servers may run in one process. Clients are let in last, when everything else works.

use super::config::{ConfigError, PurgeConfig, ServerConfig};
use super::member;
use super::recovery::{self, Purpose, Recovered, RecoveryError};
use super::shutdown::{Stopper, stop_on_signals};
use super::snapshots::SnapshotFiles;
use crate::admin::version;
use crate::base::limits::SHARD_QUEUE_LEN;
use crate::base::{ShardId, Zxid};
use crate::disk::lost_page::report_lost_pages;
use crate::disk::mapping::map_refusal;
use crate::disk::{DirLock, LogWriter, MarkFile, Segments, SegmentsConfig};
use crate::handoff::Publisher;
use crate::reactor::accept::{self, AcceptLimits};
use crate::reactor::clock;
use crate::reactor::disk_io::{Disk, RunningSnapshot, Snapshots, on_segment_event};
use crate::reactor::executors::{CorePlan, ExecutorError, Executors, Parts, prepare_process};
use crate::reactor::mesh::Mesh;
use crate::reactor::peer_io::Cuts;
use crate::reactor::words::Admin;
use crate::record::epochs::{Epochs, StoredEpoch};
use crate::replica::Replica;
use crate::shard::Shard;
use crate::storage::format::{MARK_FILE, SPARE_PREFIX};
use crate::storage::mark::MARK_FILE_BYTES;
use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::rand::GetRandomFlags;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Connections of the core that also runs the replica, in percent of another core's, when there are enough others.
const REPLICA_SHARE_PERCENT: u32 = 50;
/// From so many shards on.
const REPLICA_SHARE_SHARDS: usize = 4;

/// Why a server did not start, or how it ended badly.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What was set.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The client port.
    #[error("cannot listen on {address}: {error}{}", listen_hint(error))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The election port.
    #[error("cannot listen for elections on {address}: {error}")]
    Election {
        /// Where.
        address: String,
        /// Why not.
        error: io::Error,
    },
    /// The quorum port.
    #[error("cannot listen for learners on {address}: {error}")]
    Quorum {
        /// Where.
        address: String,
        /// Why not.
        error: io::Error,
    },
    /// The data directory, or what is in it.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// Too many cores asked for, or io_uring cannot be used.
    #[error(transparent)]
    Executors(#[from] ExecutorError),
    /// Threads or files that every server needs.
    #[error("{what}: {error}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        error: io::Error,
    },
    /// A running server came to an end that nobody asked for.
    #[error("{0}")]
    Ended(String),
}

fn listen_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another process has this port; clientPort chooses one)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need privileges)",
        _ => "",
    }
}

impl StartError {
    /// ZooKeeper's exit code for it: 3 when the data directory cannot be used, 14 when the election port cannot be, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Recovery(_) => 3,
            StartError::Election { .. } => 14,
            _ => 1,
        }
    }
}

/// Runs a server in the foreground until SIGINT or SIGTERM.
pub fn run(config: ServerConfig) -> Result<(), StartError> {
    raise_descriptor_limit();
    report_lost_pages().map_err(|error| StartError::System { what: "cannot handle SIGBUS", error })?;
    let server = Running::start(&config, Ports::bind(&config)?)?;
    stop_on_signals(server.stopper()).map_err(|error| StartError::System { what: "cannot handle signals", error })?;
    server.wait()?;
    tracing::info!("stopped");
    Ok(())
}

/// Every client is a descriptor, and the usual soft limit is 1024: takes what the hard limit allows, as a Java VM does.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(e) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!("the limit on open files stays: {e}");
        }
    }
}

/// A server that accepts clients. Dropping it stops it.
pub(super) struct Running {
    address: SocketAddr,
    stopper: Stopper,
    executors: Option<Executors>,
    snapshot: RunningSnapshot,
    /// Ends with the server.
    purge: Option<Purge>,
    /// Nobody else may use the directory meanwhile. Threads that work in it and are not waited for have it, too.
    locks: Arc<Vec<DirLock>>,
}

/// Where a server listens.
pub(super) struct Ports {
    pub(super) client: TcpListener,
    /// Of a member of an ensemble.
    pub(super) members: Option<member::Ports>,
    /// Who is out of a member's reach, where that can be ordered.
    pub(super) cuts: Option<Arc<Cuts>>,
}

impl Ports {
    /// As configured; port 0 lets the kernel choose.
    pub(super) fn bind(config: &ServerConfig) -> Result<Self, StartError> {
        let client = accept::listen(config.net.listen, config.net.backlog);
        let client = client.map_err(|error| StartError::Listen { address: config.net.listen, error })?;
        Self::with_client(client, config)
    }

    /// The same with a client port that is bound.
    pub(super) fn with_client(client: TcpListener, config: &ServerConfig) -> Result<Self, StartError> {
        Ok(Ports { client, members: config.ensemble.as_ref().map(member::bind_ports).transpose()?, cuts: None })
    }
}

/// For how long a server that has ended waits for threads that still work in its directory; until they have ended nobody else gets it.
const LAST_WORK: Duration = Duration::from_secs(10);

impl Running {
    /// Starts one.
    pub(super) fn start(config: &ServerConfig, ports: Ports) -> Result<Self, StartError> {
        let plan = CorePlan::new(config.cores.shards, config.cores.pin)?;
        prepare_process();
        let address = ports.client.local_addr().map_err(|error| StartError::Listen { address: config.net.listen, error })?;
        let mesh = Arc::new(Mesh::new(plan.cores.len(), SHARD_QUEUE_LEN));
        let mut recovered = recovery::recover(&config.storage, &config.tree(seed()), purpose(config))?;
        recovered.notes.iter().for_each(|note| tracing::warn!("{note}"));
        let files = SnapshotFiles::new(&config.storage, config.znodes.digest_enabled);
        let last_zxid = recovered.last_zxid;
        let locks = Arc::new(std::mem::take(&mut recovered.locks));
        let parts = assemble(config, recovered, &files, &mesh, Place { ports, address, locks: &locks })?;
        let snapshot = parts.snapshots.running();
        let executors = Executors::start(&plan, parts)?;
        let purge = config.storage.purge.map(|purge| Purge::start(files, purge)).transpose();
        let purge = purge.map_err(|error| StartError::System { what: "cannot start purging", error })?;
        announce(config, address, &plan, last_zxid);
        Ok(Running { address, stopper: Stopper::new(mesh), executors: Some(executors), snapshot, purge, locks })
    }

    /// Where clients connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Something that can stop it from any thread.
    pub(super) fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until it has been stopped.
    pub(super) fn wait(mut self) -> Result<(), StartError> {
        self.join()
    }

    fn join(&mut self) -> Result<(), StartError> {
        let Some(executors) = self.executors.take() else { return Ok(()) };
        let ended = executors.join().map_err(StartError::Ended);
        self.snapshot.end();
        self.purge = None;
        let began = Instant::now();
        while Arc::strong_count(&self.locks) > 1 && began.elapsed() < LAST_WORK {
            std::thread::sleep(Duration::from_millis(1));
        }
        ended
    }

    /// Stops it cleanly: flushes, answers, closes, and gives up what is written in the background. The directory is free afterwards.
    pub(super) fn stop(self) -> Result<(), StartError> {
        self.stopper.stop();
        self.wait()
    }

    /// Ends it as a killed process ends: nothing is flushed, answered or closed. The directory is free afterwards.
    pub(super) fn kill(self) -> Result<(), StartError> {
        self.stopper.kill();
        self.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.executors.is_some() {
            self.stopper.stop();
            if let Err(e) = self.join() {
                tracing::error!("{e}");
            }
        }
    }
}

/// What a server has of the machine.
struct Place<'a> {
    ports: Ports,
    address: SocketAddr,
    locks: &'a Arc<Vec<DirLock>>,
}

fn purpose(config: &ServerConfig) -> Purpose {
    config.ensemble.as_ref().map_or(Purpose::Standalone, |ensemble| Purpose::Member { recent_max: ensemble.tail_count_min })
}

/// Builds what the executors work with.
fn assemble(
    config: &ServerConfig,
    mut recovered: Recovered,
    files: &SnapshotFiles,
    mesh: &Arc<Mesh>,
    place: Place<'_>,
) -> Result<Parts, StartError> {
    let stored = config.ensemble.as_ref().map(|_| member::stored(config, &mut recovered)).transpose()?;
    let epochs = stored.as_ref().map_or(recovered.epochs, |stored| {
        let [accepted, current] = [stored.accepted_epoch, stored.current_epoch].map(|epoch| StoredEpoch(i64::from(epoch)));
        Epochs { accepted, current }
    });
    let mut tree = recovered.tree;
    let publisher = Publisher::new();
    let shards = (0..mesh.shards.len())
        .map(|i| {
            let (to_replica, bell) = (mesh.to_replica[i].clone(), mesh.bells[i].clone());
            Shard::with_bell(ShardId(i as u16), config.shard(seed()), tree.reader(), publisher.subscribe(), to_replica, bell)
        })
        .collect();
    let file_id = file_id().map_err(|error| StartError::System { what: "no random numbers", error })?;
    let log_config = config.log(file_id, epochs, recovered.mark);
    let log = open_log(config, files, log_config.segment_bytes, mesh)?;
    let (settings, now, wall) = (config.replica(seed(), log_config), clock::now(), clock::wall());
    let replica = match (config.zab(seed()), stored) {
        (Some(zab), Some(stored)) => Replica::member(settings, tree, zab, stored, now, wall),
        _ => Replica::new(settings, tree, now, wall),
    };
    let Ports { client: listener, members, cuts } = place.ports;
    let surroundings = member::Surroundings { locks: place.locks, cuts };
    let peers = members.and_then(|ports| member::peer_parts(config, ports, files, config.tree(seed()), surroundings));
    let files = files.clone();
    let snapshots = Snapshots::new(Arc::new(move |image, background| files.write_in_background(image, background)), mesh.control.clone());
    let limit = |max: Option<usize>| max.map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX));
    let automatic_share = if mesh.shards.len() >= REPLICA_SHARE_SHARDS { REPLICA_SHARE_PERCENT } else { 100 };
    Ok(Parts {
        shards,
        replica,
        publisher,
        log,
        snapshots,
        peers,
        mesh: mesh.clone(),
        admin: Arc::new(Admin::new(config.facts(place.address.port()))),
        listener,
        limits: AcceptLimits { per_address: limit(config.net.max_client_cnxns), total: limit(config.net.max_cnxns) },
        keep_alive: config.net.tcp_keep_alive,
        placement: config.cores.placement,
        rebalance_every: config.cores.rebalance_ms.map(Duration::from_millis),
        replica_share_percent: config.cores.replica_share_percent.map_or(automatic_share, u32::from),
        fsync_warning: Duration::from_millis(config.storage.fsync_warning_ms),
    })
}

fn open_log(config: &ServerConfig, files: &SnapshotFiles, segment_bytes: u64, mesh: &Mesh) -> Result<Disk, StartError> {
    let failed = |what| move |error| StartError::System { what, error };
    let dir = config.storage.log_version_dir();
    // Where nothing is ever flushed, what a killed process has written has to be in the page cache.
    let writer = match config.storage.log_writer {
        None | Some(LogWriter::Direct) if !config.storage.force_sync => LogWriter::Map,
        chosen => chosen.unwrap_or(LogWriter::Direct),
    };
    let map_mark = writer != LogWriter::Pwrite && map_refusal(&dir).map_err(failed("cannot examine the log directory"))?.is_none();
    let mark = MarkFile::open(&dir.join(MARK_FILE), MARK_FILE_BYTES, map_mark).map_err(failed("cannot open the mark"))?;
    let segments = SegmentsConfig {
        dir,
        segment_bytes,
        spare_prefix: SPARE_PREFIX,
        writer,
        mark: Some(Arc::new(mark.sync_handle().map_err(failed("cannot open the mark"))?)),
    };
    let control = mesh.control.clone();
    let segments =
        Segments::start(segments, move |event| on_segment_event(&control, event)).map_err(failed("cannot prepare log segments"))?;
    if let Some(refusal) = segments.refusal().filter(|_| writer != LogWriter::Pwrite) {
        tracing::info!("{refusal}");
    }
    let dir = config.storage.log_version_dir();
    let files = files.clone();
    Ok(Disk { segments, mark, cut: Arc::new(move |above| files.change(|| recovery::cut_logs(&dir, above))) })
}

/// Removes old snapshots and logs at the intervals of `autopurge.purgeInterval`, the first time at once.
struct Purge {
    /// Dropped to end the thread.
    until: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Purge {
    fn drop(&mut self) {
        self.until = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed, and harms nobody else.
            let _ = thread.join();
        }
    }
}

impl Purge {
    fn start(files: SnapshotFiles, config: PurgeConfig) -> io::Result<Self> {
        let (until, ended) = mpsc::channel();
        let interval = Duration::from_secs(config.interval_hours.saturating_mul(3600));
        let thread = std::thread::Builder::new().name("zoo-purge".into()).spawn(move || {
            loop {
                match files.purge(config.retain_count) {
                    Ok(removed) if removed.is_empty() => {}
                    Ok(removed) => tracing::info!("purged {}", removed.join(", ")),
                    Err(e) => tracing::warn!("old snapshots and logs could not be purged: {e}"),
                }
                if ended.recv_timeout(interval) != Err(mpsc::RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Purge { until: Some(until), thread: Some(thread) })
    }
}

/// The one line that says that the server is ready.
fn announce(config: &ServerConfig, address: SocketAddr, plan: &CorePlan, zxid: Zxid) {
    let host = if address.ip().is_unspecified() { "localhost".to_owned() } else { address.ip().to_string() };
    let member = config.ensemble.as_ref().map_or_else(String::new, |ensemble| {
        tracing::warn!("servers of an ensemble do not authenticate each other: nobody else should reach their election and quorum ports");
        format!("server {} of an ensemble of {}, ", ensemble.me.0, ensemble.membership.members.len())
    });
    tracing::info!(
        "zoo {} is ready: listening on {address}, {member}data in {}, {} {}{}, at zxid {zxid}; try: zkCli.sh -server {host}:{}",
        version::zoo_build(),
        config.storage.data_dir.display(),
        plan.cores.len(),
        if plan.cores.len() == 1 { "shard" } else { "shards" },
        if plan.pinned() { " on cores of their own" } else { "" },
        address.port(),
    );
}

/// The id of this run's log files (rule A23): random, never zero. It is written into every file, so it must tell nothing about the seeds of our
/// hashes: it comes from the kernel, not from the generator they come from.
fn file_id() -> io::Result<i64> {
    loop {
        let mut bytes = [0; 8];
        let filled = rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())?;
        let id = i64::from_ne_bytes(bytes);
        if filled == bytes.len() && id != 0 {
            return Ok(id);
        }
    }
}

/// A number nobody can guess.
pub(super) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

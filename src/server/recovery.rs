//! From a data directory to a tree that may be served: newest good snapshot, then every log record after it, then the repairs that make
//! the directory ready to be written again (storage format section 6, rules D3 to D8, A12, A20, A22, A23).
//!
//! Invariants
//! 1. Nothing is changed in the directory until the whole history has been read and found good; a refusal leaves it as it was, so that the
//!    operator and the tools see what this code saw. (Spares and temporary files of a crashed run are no history.)
//! 2. Nothing acknowledged is ever dropped: what is cut was never flushed, or never acknowledged (D4). Anything else is refused (D5).
//! 3. One server per directory: the locks are held as long as `Recovered` lives.

use super::config::StorageConfig;
use super::snapshots::{self, SnapshotFiles};
use crate::base::Zxid;
use crate::base::limits::TAIL_BYTES_MAX;
use crate::disk::{DirLock, ReadAheadFile, dir};
use crate::reactor::peer_io::vouch;
use crate::reactor::populate::Populate;
use crate::record::TxnDigest;
use crate::record::epochs::{ACCEPTED_EPOCH_FILE, CURRENT_EPOCH_FILE, Epochs, StoredEpoch};
use crate::record::txn::decode_payload;
use crate::storage::format::{Compression, FileKind, INITIALIZE_FILE, LOCK_FILE, MARK_FILE, SPARE_PREFIX, TEMP_PREFIX, VOUCHED_FILE};
use crate::storage::mark::Mark;
use crate::storage::recover::{self, Corruption, Damage, LogEnd, LogSource, ReplayError, ReplayPlan};
use crate::storage::segment::Record;
use crate::storage::snapshot::{SnapshotDigest, SnapshotReader};
use crate::tree::{EXPECTED_MAX, ImageDigest, ImageLoader, Tree, TreeConfig};
use crate::zab::{Emptiness, Payload};
use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A server's state as of its last stop or crash.
pub struct Recovered {
    /// Everything in it is committed.
    pub tree: Tree,
    /// The last transaction in it; the log goes on after it.
    pub last_zxid: Zxid,
    /// Snapshot used; `None` for a fresh directory or a history that is all logs.
    pub snapshot: Option<Zxid>,
    /// The logs must lead to here, whatever they are cut to, or the directory would not be read again: the newest snapshot's zxid, be it readable
    /// or not, or the end of a fuzzy one.
    pub least_end: Zxid,
    /// Log records applied on top.
    pub replayed: u64,
    /// The end of the log, without a gap, oldest first; empty for a server that stands alone.
    pub recent: Vec<(Zxid, Payload)>,
    /// What the epoch files say.
    pub epochs: Epochs,
    /// What it would mean if there were nothing.
    pub emptiness: Emptiness,
    /// What the mark beside the logs says now.
    pub mark: Option<Mark>,
    /// What an operator may want to know, one line each.
    pub notes: Vec<String>,
    /// Held until the server ends.
    pub locks: Vec<DirLock>,
}

/// Why a server does not start from a directory.
#[derive(Debug)]
pub enum RecoveryError {
    /// A file or directory could not be used.
    Io {
        /// What was attempted, with the path.
        what: String,
        /// Why not.
        error: io::Error,
    },
    /// `datadir.autocreate` is off and the directory does not exist.
    NoDirectory(PathBuf),
    /// Another server holds it.
    InUse(PathBuf),
    /// With two directories: a log among the snapshots, or the other way round.
    Misplaced(PathBuf),
    /// Neither snapshot nor log, and an empty database is not to be created.
    NoDatabase(PathBuf),
    /// Logs without a snapshot they could be applied to (D6).
    NoSnapshot {
        /// Where snapshots should be.
        dir: PathBuf,
        /// What was wrong with those there are.
        refused: Vec<String>,
    },
    /// Committed history is damaged (D5).
    Damaged {
        /// The log directory.
        dir: PathBuf,
        /// Where and how.
        corruption: Corruption,
        /// Snapshots passed over before, and why.
        refused: Vec<String>,
    },
    /// A transaction gave another tree than the server that logged it had (L17).
    DigestMismatch {
        /// The log's path.
        log: PathBuf,
        /// Where the record is.
        offset: u64,
        /// The transaction.
        zxid: Zxid,
    },
}

impl fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoveryError::Io { what, error } => write!(f, "{what}: {error}"),
            RecoveryError::NoDirectory(dir) => write!(f, "{} does not exist, and datadir.autocreate is off", dir.display()),
            RecoveryError::InUse(path) => write!(f, "another server uses this directory (it holds {})", path.display()),
            RecoveryError::Misplaced(path) => {
                write!(f, "{} does not belong there: logs are in dataLogDir, snapshots in dataDir", path.display())
            }
            RecoveryError::NoDatabase(dir) => {
                write!(
                    f,
                    "{} holds no database and db.autocreate is off; create a file named {INITIALIZE_FILE} beside version-2 to start empty",
                    dir.display()
                )
            }
            RecoveryError::NoSnapshot { dir, refused } => {
                write!(
                    f,
                    "there are log entries but no usable snapshot in {} (snapshot.trust.empty=true would replay them from nothing)",
                    dir.display()
                )?;
                refused.iter().try_for_each(|r| write!(f, "; {r}"))
            }
            RecoveryError::Damaged { dir, corruption, refused } => {
                let at = corruption.last_good.0;
                write!(f, "the log is damaged: {}/{corruption}. Nothing was changed. ", dir.display())?;
                refused.iter().try_for_each(|r| write!(f, "Also {r}. "))?;
                write!(f, "If everything after zxid 0x{at:x} may be lost: zoo log repair {} --cut-after 0x{at:x}", dir.display())
            }
            RecoveryError::DigestMismatch { log, offset, zxid } => write!(
                f,
                "{}, offset {offset}: after transaction {zxid} the tree is not the one that was logged; refusing to serve it (digest.enabled=false \
                 would not compare)",
                log.display()
            ),
        }
    }
}
impl std::error::Error for RecoveryError {}

/// For whom a directory is recovered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A server whose log is the whole truth.
    Standalone,
    /// A member of an ensemble: its log may end with what the others do not have.
    Member {
        /// How many of the last transactions are wanted as bytes.
        recent_max: usize,
    },
}

/// Recovers the state in the configured directories and makes them ready for a new run.
pub fn recover(storage: &StorageConfig, config: &TreeConfig, purpose: Purpose) -> Result<Recovered, RecoveryError> {
    let dirs = Dirs::prepare(storage)?;
    let locks = dirs.lock()?;
    dirs.sweep()?;
    let history = dirs.scan()?;
    let marked = dirs.initialize_marker().exists();
    let mut start = Start::load(&dirs, &history, config, storage, Recent::new(purpose))?;
    if purpose == Purpose::Standalone && start.snapshot.is_none() && history.logs.is_empty() && !(storage.create_database || marked) {
        return Err(RecoveryError::NoDatabase(dirs.snapshots));
    }
    let end = start.replay(&dirs, &history)?;
    dirs.repair(&history, &end)?;
    let is_empty = end.last_zxid == Zxid::ZERO && purpose != Purpose::Standalone && history.epochs.current <= StoredEpoch(0);
    let is_vouched = dirs.vouch(is_empty, marked)?;
    let emptiness = match (is_vouched, storage.create_database) {
        (true, _) => Emptiness::Vouched,
        (false, true) => Emptiness::Unexplained,
        (false, false) => Emptiness::Distrusted,
    };
    if is_empty && emptiness == Emptiness::Distrusted {
        start.notes.push(format!(
            "there is no database and db.autocreate is off: this server takes no part in elections before another one has brought it up to date; \
             a file named {INITIALIZE_FILE} beside version-2 says that it starts from nothing"
        ));
    }
    let least_end = start.reached();
    let mut tree = start.tree;
    if start.snapshot.is_none() && (purpose == Purpose::Standalone || end.last_zxid == Zxid::ZERO) {
        // A first start, or logs alone: from now on there is a snapshot to start from, for this server and for any other. A member does not
        // know whether the end of its log is committed, and what is not may not be in a snapshot (A13).
        let written = SnapshotFiles::new(storage, config.digest_enabled).write(tree.begin_image());
        written.map_err(io_error(|| format!("writing a snapshot in {}", dirs.snapshots.display())))?;
    }
    let dead = tree.dead_sessions().len();
    if dead > 0 {
        start.notes.push(format!("{dead} sessions that no longer exist own ephemeral nodes; they are closed now"));
    }
    Ok(Recovered {
        tree,
        last_zxid: end.last_zxid,
        snapshot: start.snapshot,
        least_end,
        replayed: end.replayed,
        recent: start.recent.entries.into(),
        epochs: history.epochs,
        emptiness,
        mark: end.mark,
        notes: start.notes,
        locks,
    })
}

/// Reads the tree in the directory of this running server, which neither logs nor snapshots meanwhile.
pub fn reload(storage: &StorageConfig, config: &TreeConfig) -> Result<Tree, RecoveryError> {
    let dirs = Dirs::of(storage);
    let history = dirs.scan()?;
    let mut start = Start::load(&dirs, &history, config, storage, Recent::new(Purpose::Standalone))?;
    start.replay(&dirs, &history)?;
    Ok(start.tree)
}

fn io_error(what: impl FnOnce() -> String) -> impl FnOnce(io::Error) -> RecoveryError {
    move |error| RecoveryError::Io { what: what(), error }
}

/// The two directories, which may be one.
struct Dirs {
    snapshots: PathBuf,
    logs: PathBuf,
    /// Beside which the `initialize` marker lies.
    marker_parent: PathBuf,
}

/// What the directories hold.
struct History {
    /// Newest first.
    snapshots: Vec<(Zxid, Compression)>,
    /// Oldest first.
    logs: Vec<Zxid>,
    epochs: Epochs,
    mark: Option<Mark>,
}

impl Dirs {
    fn of(storage: &StorageConfig) -> Self {
        Dirs { snapshots: storage.snapshot_version_dir(), logs: storage.log_version_dir(), marker_parent: storage.log_dir.clone() }
    }

    fn prepare(storage: &StorageConfig) -> Result<Self, RecoveryError> {
        let dirs = Self::of(storage);
        for dir in [&dirs.snapshots, &dirs.logs] {
            if storage.create_dirs {
                dir::create_dirs(dir).map_err(io_error(|| format!("creating {}", dir.display())))?;
            } else if !dir.is_dir() {
                return Err(RecoveryError::NoDirectory(dir.clone()));
            }
        }
        Ok(dirs)
    }

    fn one(&self) -> bool {
        self.snapshots == self.logs
    }

    fn each(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.snapshots.as_path()).chain((!self.one()).then_some(self.logs.as_path()))
    }

    fn lock(&self) -> Result<Vec<DirLock>, RecoveryError> {
        let lock = |dir: &Path| {
            let lock = DirLock::acquire(dir, LOCK_FILE).map_err(io_error(|| format!("locking {}", dir.display())))?;
            lock.ok_or_else(|| RecoveryError::InUse(dir.join(LOCK_FILE)))
        };
        self.each().map(lock).collect()
    }

    /// Removes spares and temporary files that a crash left behind: nothing in them was ever part of the history.
    fn sweep(&self) -> Result<(), RecoveryError> {
        for dir in self.each() {
            let entries = dir::list(dir).map_err(io_error(|| format!("reading {}", dir.display())))?;
            let leftovers = entries.into_iter().map(|e| e.name).filter(|n| n.starts_with(SPARE_PREFIX) || n.starts_with(TEMP_PREFIX));
            dir::remove(dir, leftovers).map_err(io_error(|| format!("tidying {}", dir.display())))?;
        }
        Ok(())
    }

    fn scan(&self) -> Result<History, RecoveryError> {
        let epochs =
            read_epochs(&self.snapshots).map_err(io_error(|| format!("reading the epoch files in {}", self.snapshots.display())))?;
        let mark = read_mark(&self.logs, &epochs).map_err(io_error(|| format!("reading {MARK_FILE} in {}", self.logs.display())))?;
        let mut history = History { snapshots: Vec::new(), logs: Vec::new(), epochs, mark };
        for dir in self.each() {
            let files = snapshots::history_files(dir).map_err(io_error(|| format!("reading {}", dir.display())))?;
            for file in files {
                match file {
                    FileKind::Log(zxid) if dir == self.logs => history.logs.push(zxid),
                    FileKind::Snapshot(zxid, compression) if dir == self.snapshots => history.snapshots.push((zxid, compression)),
                    misplaced => return Err(RecoveryError::Misplaced(dir.join(misplaced.name()))),
                }
            }
        }
        history.logs.sort();
        history.snapshots.sort();
        history.snapshots.reverse();
        Ok(history)
    }

    fn initialize_marker(&self) -> PathBuf {
        self.marker_parent.join(INITIALIZE_FILE)
    }

    /// The operator's marker holds for one start, whatever it was needed for; where it was needed to vouch for an empty member, that goes on
    /// until there is a history. It lies with the history then, so that what wipes the one wipes the other.
    fn vouch(&self, is_empty: bool, marked: bool) -> Result<bool, RecoveryError> {
        let written = || format!("writing {VOUCHED_FILE} in {}", self.snapshots.display());
        if !is_empty {
            dir::remove(&self.snapshots, [VOUCHED_FILE]).map_err(io_error(written))?;
        } else if marked {
            vouch(&self.snapshots).map_err(io_error(written))?;
        }
        self.use_up_initialize_marker()?;
        Ok(is_empty && self.snapshots.join(VOUCHED_FILE).exists())
    }

    fn use_up_initialize_marker(&self) -> Result<(), RecoveryError> {
        let removed = dir::remove(&self.marker_parent, [INITIALIZE_FILE]);
        removed.map_err(io_error(|| format!("removing {}", self.initialize_marker().display())))
    }

    /// Makes what stays durable, cuts the tail, removes logs without records, and leaves a mark that describes the result. Each step is durable before the next.
    fn repair(&self, history: &History, end: &LogEnd) -> Result<(), RecoveryError> {
        // ZooKeeper does not fsync the snapshots it takes while it runs.
        let snapshots = history.snapshots.iter().map(|(zxid, compression)| FileKind::Snapshot(*zxid, *compression).name());
        dir::sync_files(&self.snapshots, snapshots)
            .map_err(io_error(|| format!("syncing the snapshots in {}", self.snapshots.display())))?;
        let keep = end.keep.iter().map(|log| FileKind::Log(*log).name());
        dir::sync_files(&self.logs, keep).map_err(io_error(|| format!("syncing the logs in {}", self.logs.display())))?;
        if let Some((log, bytes)) = end.cut {
            let path = self.logs.join(FileKind::Log(log).name());
            dir::cut(&path, bytes).map_err(io_error(|| format!("cutting {} to {bytes} bytes", path.display())))?;
        }
        let remove = end.remove.iter().rev().map(|log| FileKind::Log(*log).name());
        dir::remove(&self.logs, remove).map_err(io_error(|| format!("removing logs without records in {}", self.logs.display())))?;
        write_mark(&self.logs, end.mark.as_ref()).map_err(io_error(|| format!("writing {MARK_FILE} in {}", self.logs.display())))
    }
}

/// What the epoch files beside the snapshots say. One that is no number was not written by a server of ours.
pub fn read_epochs(snapshot_dir: &Path) -> io::Result<Epochs> {
    let read = |name| match fs::read_to_string(snapshot_dir.join(name)) {
        Ok(text) => Ok(StoredEpoch::parse(&text).unwrap_or(StoredEpoch(i64::MAX))),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Ok(StoredEpoch(i64::MAX)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Epochs::NONE.accepted),
        Err(e) => Err(e),
    };
    Ok(Epochs { accepted: read(ACCEPTED_EPOCH_FILE)?, current: read(CURRENT_EPOCH_FILE)? })
}

/// The mark beside the logs, if there is one that means this directory. Recovery is strict without it, and refuses nothing for its sake.
pub fn read_mark(log_dir: &Path, epochs: &Epochs) -> io::Result<Option<Mark>> {
    match fs::read(log_dir.join(MARK_FILE)) {
        Ok(bytes) => Ok(Mark::read(&bytes).map(|(_, mark)| mark).filter(|mark| mark.is_of(epochs))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Replaces the mark file by one with this mark in its first slot, or by one that says nothing.
pub fn write_mark(log_dir: &Path, mark: Option<&Mark>) -> io::Result<()> {
    let content = Mark::file(mark);
    dir::replace_file(log_dir, &format!("{TEMP_PREFIX}{MARK_FILE}"), MARK_FILE, |file| file.write_all(&content))?;
    Ok(())
}

/// Removes every record above `above` from a directory whose mark vouches for nothing, each step durable before the next (L20).
pub fn cut_logs(log_dir: &Path, above: Zxid) -> io::Result<()> {
    let mut logs: Vec<Zxid> = snapshots::history_files(log_dir)?
        .into_iter()
        .filter_map(|file| if let FileKind::Log(zxid) = file { Some(zxid) } else { None })
        .collect();
    logs.sort();
    let plan = recover::plan_cut(&mut LogDir(log_dir), &logs, above)?;
    for log in plan.remove {
        // One by one: a crash in between must not leave a gap.
        dir::remove(log_dir, [FileKind::Log(log).name()])?;
    }
    plan.cut.map_or(Ok(()), |(log, bytes)| dir::cut(&log_dir.join(FileKind::Log(log).name()), bytes))
}

/// The tree of the snapshot, and what is known of its digests.
struct Start {
    tree: Tree,
    after: Zxid,
    snapshot: Option<Zxid>,
    digests: Digests,
    /// Newer snapshots that could not be used.
    refused: Vec<(Zxid, String)>,
    notes: Vec<String>,
    recent: Recent,
}

/// The last transactions of the log, as bytes.
struct Recent {
    entries: VecDeque<(Zxid, Payload)>,
    bytes: usize,
    count_max: usize,
}

impl Recent {
    fn new(purpose: Purpose) -> Self {
        let count_max = if let Purpose::Member { recent_max } = purpose { recent_max } else { 0 };
        Recent { entries: VecDeque::new(), bytes: 0, count_max }
    }

    fn push(&mut self, zxid: Zxid, payload: &[u8]) {
        if self.count_max == 0 {
            return;
        }
        self.entries.push_back((zxid, payload.into()));
        self.bytes += payload.len();
        while self.entries.len() > self.count_max || self.bytes > TAIL_BYTES_MAX {
            let Some((_, oldest)) = self.entries.pop_front() else { return };
            self.bytes -= oldest.len();
        }
    }
}

impl Start {
    /// The newest snapshot that loads. When none does: an empty tree, if the logs reach back to the beginning or the operator says so (D6).
    fn load(dirs: &Dirs, history: &History, config: &TreeConfig, storage: &StorageConfig, recent: Recent) -> Result<Self, RecoveryError> {
        let mut refused: Vec<(Zxid, String)> = Vec::new();
        for &(zxid, compression) in &history.snapshots {
            match load_snapshot(dirs, zxid, compression, config) {
                Ok((tree, exact_from)) => {
                    let notes = refused.iter().map(|(_, why)| format!("{why}; an older snapshot is used")).collect();
                    let digests = Digests { exact_from, proven: false };
                    return Ok(Start { tree, after: zxid, snapshot: Some(zxid), digests, refused, notes, recent });
                }
                Err(why) => refused.push((zxid, format!("{} {why}", FileKind::Snapshot(zxid, compression).name()))),
            }
        }
        let whole = history.logs.first().is_none_or(|first| *first == Zxid(1));
        let nothing_lost = refused.is_empty() || !history.logs.is_empty();
        if !(nothing_lost && (whole || storage.trust_empty_snapshot)) {
            let refused = refused.into_iter().map(|(_, why)| why).collect();
            return Err(RecoveryError::NoSnapshot { dir: dirs.snapshots.clone(), refused });
        }
        // With snapshot.trust.empty the logs may begin anywhere; what they do not hold is not there.
        let after = if whole { Zxid::ZERO } else { history.logs.first().map_or(Zxid::ZERO, |first| Zxid(first.0.saturating_sub(1))) };
        let digests = Digests { exact_from: whole.then_some(Zxid::ZERO), proven: whole };
        let notes = refused.iter().map(|(_, why)| format!("{why}; the logs are read from their beginning")).collect();
        Ok(Start { tree: Tree::new(config.clone()), after, snapshot: None, digests, refused, notes, recent })
    }

    fn replay(&mut self, dirs: &Dirs, history: &History) -> Result<LogEnd, RecoveryError> {
        self.tree.begin_replay();
        let plan = ReplayPlan { logs: &history.logs, after: self.after, mark: history.mark, epochs: history.epochs };
        let (tree, digests, recent) = (&mut self.tree, &mut self.digests, &mut self.recent);
        let mut populate = Populate::default();
        let mut unread: Vec<Zxid> = self.refused.iter().map(|(zxid, _)| *zxid).filter(|zxid| *zxid > plan.after).collect();
        let mut apply = |log: Zxid, record: &Record<'_>| {
            apply_record(tree, digests, log, record, &mut populate)?;
            recent.push(tree.head_zxid(), record.payload);
            unread.retain(|zxid| *zxid != tree.head_zxid());
            Ok(())
        };
        let replayed = recover::replay(&mut LogDir(&dirs.logs), &plan, &mut apply);
        let end = replayed.map_err(|e| self.explain(dirs, e))?;
        self.tree.commit(end.last_zxid);
        self.tree.end_replay();
        self.note_the_end(&end);
        let reached = self.reached();
        if reached > end.last_zxid {
            let log = history.logs.last().copied().unwrap_or(end.last_zxid);
            let corruption = Corruption { log, offset: 0, last_good: end.last_zxid, damage: Damage::EndsBefore(reached) };
            return Err(self.explain(dirs, ReplayError::Corrupt(corruption)));
        }
        // The logs beside an image from a leader need not lead to it: where a new epoch begins behind it, no number is missing, but history is.
        if let Some(passed) = unread.into_iter().min() {
            let log = history.logs.iter().copied().find(|log| *log > passed).unwrap_or(passed);
            let corruption = Corruption { log, offset: 0, last_good: self.after, damage: Damage::PassesBy(passed) };
            return Err(self.explain(dirs, ReplayError::Corrupt(corruption)));
        }
        Ok(end)
    }

    /// A newer snapshot that cannot be read proves that its zxid had been reached (D6), and so does one that was written while its last
    /// transactions were applied: before them it is a mixture that never was a state (A12).
    fn reached(&self) -> Zxid {
        let unread = self.refused.iter().map(|(zxid, _)| *zxid).max();
        unread.max(self.digests.exact_from).max(self.snapshot).unwrap_or(Zxid::ZERO)
    }

    fn note_the_end(&mut self, end: &LogEnd) {
        if let (true, Some((log, bytes))) = (end.torn, end.cut) {
            let name = FileKind::Log(log).name();
            self.notes
                .push(format!("{name} ends with a record that was never completed; cut to {bytes} bytes, after zxid {}", end.last_zxid));
        }
    }

    fn explain(&self, dirs: &Dirs, error: ReplayError<Refused>) -> RecoveryError {
        let path = |log| dirs.logs.join(FileKind::Log(log).name());
        match error {
            ReplayError::Io { log, error } => RecoveryError::Io { what: format!("reading {}", path(log).display()), error },
            ReplayError::Corrupt(corruption) | ReplayError::Refused(Refused::Undecodable(corruption)) => {
                let refused = self.refused.iter().map(|(_, why)| why.clone()).collect();
                RecoveryError::Damaged { dir: dirs.logs.clone(), corruption, refused }
            }
            ReplayError::Refused(Refused::Digest { log, offset, zxid }) => RecoveryError::DigestMismatch { log: path(log), offset, zxid },
        }
    }
}

fn load_snapshot(dirs: &Dirs, zxid: Zxid, compression: Compression, config: &TreeConfig) -> Result<(Tree, Option<Zxid>), String> {
    load(
        snapshots::open(&dirs.snapshots, &FileKind::Snapshot(zxid, compression).name(), compression).map_err(|e| e.to_string())?,
        zxid,
        config,
    )
}

/// The tree in a snapshot, and where it is known to be exact.
pub(super) fn load(mut reader: SnapshotReader<ReadAheadFile>, zxid: Zxid, config: &TreeConfig) -> Result<(Tree, Option<Zxid>), String> {
    let mut loader = ImageLoader::new(config.clone(), zxid);
    let mut populate = Populate::default();
    while let Some(piece) = reader.next_piece().map_err(|e| e.to_string())? {
        loader.take(piece).map_err(|e| format!("cannot be loaded: {e}"))?;
        loader.memory_front().into_iter().for_each(|address| populate.ahead_of(address));
    }
    let sections = reader.finish().map_err(|e| e.to_string())?;
    let tree = loader.finish(sections.digest.map(image_digest)).map_err(|e| format!("cannot be loaded: {e}"))?;
    match tree.digest_matches(None) {
        Some(false) => Err("does not have the digest it carries".to_owned()),
        _ => Ok((tree, sections.exact_from())),
    }
}

fn image_digest(d: SnapshotDigest) -> ImageDigest {
    ImageDigest { zxid: d.zxid, digest: TxnDigest { version: d.version, digest: d.digest } }
}

/// When digests may be compared. A Java snapshot can hold effects of transactions after the zxid in its name, so until replay has passed
/// its end the tree is not what it was at any time (rule A12).
struct Digests {
    /// Where the image's end is known to be.
    exact_from: Option<Zxid>,
    /// A digest has matched: the state is exact from then on.
    proven: bool,
}

impl Digests {
    /// False: the tree is wrong.
    fn accept(&mut self, zxid: Zxid, matches: Option<bool>) -> bool {
        match matches {
            None => true,
            Some(true) => {
                self.proven = true;
                true
            }
            Some(false) => !self.proven && self.exact_from.is_none_or(|end| zxid < end),
        }
    }
}

enum Refused {
    Undecodable(Corruption),
    Digest { log: Zxid, offset: u64, zxid: Zxid },
}

/// Versions are released in groups: once per record would cost more than applying it.
const COMMIT_EVERY: u64 = 256;

fn apply_record(tree: &mut Tree, digests: &mut Digests, log: Zxid, record: &Record<'_>, populate: &mut Populate) -> Result<(), Refused> {
    let (header, txn, digest) = decode_payload(record.payload).map_err(|e| {
        let damage = Damage::Undecodable(e.to_string());
        Refused::Undecodable(Corruption { log, offset: record.offset, last_good: tree.head_zxid(), damage })
    })?;
    if header.zxid.0.is_multiple_of(EXPECTED_MAX as u64) {
        tree.expect(record.bodies_behind());
    }
    tree.apply_unheard(&header, &txn);
    if header.zxid.0.is_multiple_of(COMMIT_EVERY) {
        tree.commit(header.zxid);
        tree.reclaim(usize::MAX);
        tree.memory_front().into_iter().for_each(|address| populate.ahead_of(address));
    }
    let matches = tree.digest_matches(digest.as_ref());
    if digests.accept(header.zxid, matches) { Ok(()) } else { Err(Refused::Digest { log, offset: record.offset, zxid: header.zxid }) }
}

/// Logs of a real directory.
pub struct LogDir<'a>(pub &'a Path);

impl LogDir<'_> {
    /// Where a log is.
    pub fn path(&self, log: Zxid) -> PathBuf {
        self.0.join(FileKind::Log(log).name())
    }
}

impl LogSource for LogDir<'_> {
    type File = ReadAheadFile;
    fn open(&mut self, log: Zxid) -> io::Result<ReadAheadFile> {
        ReadAheadFile::start(File::open(self.path(log))?)
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;

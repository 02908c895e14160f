//! One member: what it does to its disk in the order in which the server does it, and what a crash at any moment may lead to.

use crate::disk::{DirSync, Disk, Ino, Sync};
use crate::trace::{Op, traced};
use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use zoo::base::prng::Prng;
use zoo::base::{AclVec, SessionId, WallTime, Xid, Zxid};
use zoo::disk::dir;
use zoo::reactor::peer_io::write_epoch;
use zoo::record::TxnHeader;
use zoo::record::epochs::{Epochs, StoredEpoch};
use zoo::record::txn::{CreateKind, CreateTxn, Txn, decode_payload, encode_payload};
use zoo::server::ServerConfig;
use zoo::server::epochs::read_epochs;
use zoo::server::recovery::{self, Purpose, Recovered};
use zoo::server::snapshots::SnapshotFiles;
use zoo::storage::format::{Compression, FileKind, MARK_FILE};
use zoo::storage::log::{FileId, Log, LogAction, LogConfig, SyncToken};
use zoo::storage::snapshot::{self, Sections};
use zoo::tree::{Tree, TreeConfig};
use zoo::zab::EpochFile;

const SEGMENT: u64 = 4096;
/// Of so many steps one is the last.
const STEPS: u64 = 900;
/// After one of so many steps the crash is tried.
const TRIED: u64 = 40;
const VERSION_DIR: &str = "version-2";
const RECEIVED: &str = "zoo-tmp.received";

/// The end of a life.
pub struct Crash;

/// A state of the tree: the last transaction, and the digest of all nodes.
type State = (Zxid, u64);

/// A transaction, and the state after it.
#[derive(Clone)]
struct Entry {
    payload: Vec<u8>,
    state: State,
}

/// What histories held.
#[derive(Clone, Default)]
pub struct Outline {
    pub epochs: u64,
    pub cuts: u64,
    pub reloads: u64,
    pub images: u64,
    pub snapshots: u64,
    pub purged: u64,
}

impl Outline {
    pub fn add(&mut self, other: &Outline) {
        self.epochs += other.epochs;
        self.cuts += other.cuts;
        self.reloads += other.reloads;
        self.images += other.images;
        self.snapshots += other.snapshots;
        self.purged += other.purged;
    }
}

/// What the segment thread is doing, step by step.
enum Job {
    Name(FileId, Zxid),
    NameMarkSync(FileId, Zxid, Sync),
    NameDirSync(FileId, DirSync),
    Close(FileId, usize),
    CloseSync(Sync),
    SyncMark(Sync),
    Cut(Zxid),
    CutMarkSync(Zxid, Sync),
    /// The last change of the cut is on disk.
    CutDone(usize),
}

pub struct Member {
    server: ServerConfig,
    disk: Disk,
    log: Log,
    files: HashMap<FileId, (Ino, String)>,
    mark: Ino,
    flush: Option<(SyncToken, Sync)>,
    jobs: VecDeque<Job>,
    spares: u64,
    /// Changes that real code makes, one list for each thread that is at work, and how many such lists have come to their end.
    real: Vec<(usize, VecDeque<Op>)>,
    begun: usize,
    /// The history here, the empty tree first. A leader's image is an entry without a payload.
    view: Vec<Entry>,
    /// A crash leaves no less of it than this many entries.
    least: usize,
    /// While an image is being put in place it may be what a crash leaves: the history it stands for.
    image: Option<Vec<Entry>>,
    /// What the tree counts as applied and does not undo.
    applied: usize,
    committed: usize,
    /// The log is not cut below it.
    floor: Zxid,
    /// Promised, and the promise that is being written.
    accepted: (u32, u32),
    /// Adopted, and what is being written.
    current: (u32, u32),
    branches: u64,
    pub outline: Outline,
}

fn new_server() -> ServerConfig {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let base = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    let dir = base.join(format!("zoo-member-crash-{}-{count}", std::process::id()));
    ServerConfig::development("127.0.0.1:0".parse().expect("an address"), dir)
}

fn tree_config(server: &ServerConfig) -> TreeConfig {
    server.tree(1)
}

fn state_of(tree: &mut Tree) -> State {
    let image = tree.begin_image();
    (image.zxid(), image.digest().expect("digests are on").digest)
}

fn epochs(accepted: u32, current: u32) -> Epochs {
    let [accepted, current] = [accepted, current].map(|epoch| StoredEpoch(i64::from(epoch)));
    Epochs { accepted, current }
}

/// The directory in which real code finds what the simulated disk holds; gone with this.
struct RealDir(PathBuf);

impl RealDir {
    fn of(server: &ServerConfig, disk: &Disk) -> RealDir {
        let root = server.storage.data_dir.clone();
        let dir = root.join(VERSION_DIR);
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&dir).expect("created");
        for name in disk.names() {
            let ino = disk.lookup(&name).expect("listed");
            fs::write(dir.join(&name), disk.read(ino)).expect("written");
        }
        RealDir(root)
    }
    fn path(&self) -> PathBuf {
        self.0.join(VERSION_DIR)
    }
    /// What is there now is what the simulated disk shows.
    fn is_like(&self, disk: &Disk) -> bool {
        let names: Vec<String> = dir::list(&self.path()).expect("listed").into_iter().map(|entry| entry.name).collect();
        names == disk.names()
            && names.iter().all(|name| {
                let ino = disk.lookup(name).expect("listed");
                fs::read(self.path().join(name)).expect("read") == disk.read(ino)
            })
    }
}

impl Drop for RealDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Carries out on the simulated disk what real code did.
fn carry_out(disk: &mut Disk, op: &Op, rng: &mut Prng) {
    let ino = |disk: &Disk, name: &str| disk.lookup(name).unwrap_or_else(|| panic!("{op:?} of a file that is not there"));
    match op {
        Op::Create(name) => drop(disk.create(name, Vec::new())),
        Op::Resize(name, bytes) => disk.resize(ino(disk, name), *bytes),
        Op::Write(name, at, bytes) => {
            let ino = ino(disk, name);
            if at + bytes.len() > disk.read(ino).len() {
                disk.resize(ino, at + bytes.len());
            }
            disk.write(ino, *at, bytes, rng);
        }
        Op::Sync(name) => {
            let sync = disk.sync_begin(ino(disk, name));
            disk.sync_end(sync);
        }
        Op::Rename(from, to) => disk.rename(from, to),
        Op::Remove(name) => disk.remove(name),
        Op::SyncDir => {
            let sync = disk.dir_sync_begin();
            disk.dir_sync_end(sync);
        }
    }
}

/// What was recovered, accepted and current epoch, and what recovery has changed on the disk.
type Started = (Recovered, (u32, u32), Vec<Op>);

/// A start: the recovery of tree, log and epochs, with what it changes.
fn start(server: &ServerConfig, disk: &Disk) -> Result<Started, String> {
    let real = RealDir::of(server, disk);
    let (recovered, ops) = traced(&real.path(), || {
        let recovered = recovery::recover(&server.storage, &tree_config(server), Purpose::Member { recent_max: 10 })?;
        let epochs = read_epochs(&server.storage.snapshot_version_dir(), recovered.last_zxid)?;
        Ok((recovered, epochs))
    });
    let (recovered, epochs) = recovered.map_err(|e: recovery::RecoveryError| e.to_string())?;
    Ok((recovered, epochs, ops))
}

impl Member {
    /// With an empty disk.
    pub fn new(rng: &mut Prng) -> Member {
        let server = new_server();
        let mut tree = Tree::new(tree_config(&server));
        let origin = Entry { payload: Vec::new(), state: state_of(&mut tree) };
        let mut disk = Disk::default();
        let (recovered, epochs, ops) = start(&server, &disk).expect("an empty directory is good");
        ops.iter().for_each(|op| carry_out(&mut disk, op, rng));
        Member::over(server, disk, &recovered, vec![origin], epochs, rng)
    }

    /// Over a recovered disk.
    fn over(
        server: ServerConfig,
        disk: Disk,
        recovered: &Recovered,
        view: Vec<Entry>,
        (accepted, current): (u32, u32),
        rng: &mut Prng,
    ) -> Member {
        let config = LogConfig {
            segment_bytes: SEGMENT,
            unsynced_bytes_max: 0,
            force_sync: true,
            file_bytes_max: None,
            payload_bytes_max: zoo::base::limits::TXN_PAYLOAD_MAX,
            dbid: 1 + rng.below(u64::MAX / 2) as i64,
            epochs: epochs(accepted, current),
            mark: recovered.mark,
        };
        let mark = disk.lookup(MARK_FILE).expect("recovery leaves one");
        let all = view.len();
        Member {
            log: Log::new(config, recovered.last_zxid),
            server,
            disk,
            files: HashMap::new(),
            mark,
            flush: None,
            jobs: VecDeque::new(),
            spares: 0,
            real: Vec::new(),
            begun: 0,
            view,
            least: all,
            image: None,
            applied: all,
            committed: 1,
            floor: recovered.least_end,
            accepted: (accepted, accepted),
            current: (current, current),
            branches: 0,
            outline: Outline::default(),
        }
    }

    // ---- what it does

    /// One epoch after the other, until the crash.
    pub fn live(&mut self, rng: &mut Prng) -> Crash {
        loop {
            if let Err(crash) = self.epoch(rng) {
                return crash;
            }
        }
    }

    fn epoch(&mut self, rng: &mut Prng) -> Result<(), Crash> {
        // An epoch may have come and gone of which this member has not heard.
        let missed = self.accepted.0 + 1;
        let epoch = missed + 1;
        self.until(rng, Member::is_settled)?;
        self.write_epoch(rng, EpochFile::Accepted, epoch)?;
        match rng.below(3) {
            0 => self.truncate(rng)?,
            1 => self.install(rng, missed)?,
            _ => {}
        }
        self.until(rng, Member::is_settled)?;
        self.write_epoch(rng, EpochFile::Current, epoch)?;
        self.outline.epochs += 1;
        // The leader is established with this history: it is committed.
        self.committed = self.view.len();
        self.serve(rng, epoch)
    }

    /// The mark first, then the file (A23); it is in memory when it is on disk (L7).
    fn write_epoch(&mut self, rng: &mut Prng, file: EpochFile, epoch: u32) -> Result<(), Crash> {
        self.log.raise_epochs(file.of(epoch));
        self.until(rng, |m| !m.log.is_raising())?;
        let pair = if file == EpochFile::Accepted { &mut self.accepted } else { &mut self.current };
        pair.1 = epoch;
        let done = self.real(|dir, _| write_epoch(dir, file, epoch).expect("written"));
        self.until(rng, |m| m.is_done(done))?;
        let pair = if file == EpochFile::Accepted { &mut self.accepted } else { &mut self.current };
        pair.0 = epoch;
        Ok(())
    }

    fn truncate(&mut self, rng: &mut Prng) -> Result<(), Crash> {
        let from = self.committed.max(self.view.iter().position(|e| e.state.0 >= self.floor).map_or(self.view.len(), |at| at + 1));
        if from >= self.view.len() {
            return Ok(());
        }
        let keep = from + rng.below((self.view.len() - from) as u64) as usize;
        let end = self.view[keep - 1].state;
        self.outline.cuts += 1;
        self.log.cut(end.0);
        self.until(rng, |m| !m.log.is_cutting())?;
        self.view.truncate(keep);
        self.least = keep;
        if keep < self.applied {
            self.applied = keep;
            self.outline.reloads += 1;
            let mut read = None;
            self.real(|_, server| read = Some(recovery::reload(&server.storage, &tree_config(server)).map(|mut tree| state_of(&mut tree))));
            assert_eq!(read.expect("done").map_err(|e| e.to_string()), Ok(end), "what is read again after a cut");
        }
        Ok(())
    }

    /// A leader's image takes the place of what is not committed, perhaps with entries of an epoch this member has missed.
    fn install(&mut self, rng: &mut Prng, missed: u32) -> Result<(), Crash> {
        let keep = self.committed + rng.below((self.view.len() - self.committed + 1) as u64) as usize;
        let mut view: Vec<Entry> = self.view[..keep].to_vec();
        let mut tree = self.tree_of(&view);
        for counter in 1..=rng.below(4) as u32 {
            view.push(self.entry(&mut tree, Zxid::new(missed, counter), rng));
        }
        let zxid = tree.head_zxid();
        if view.len() == 1 {
            return Ok(());
        }
        self.outline.images += 1;
        let mut image = tree.begin_image();
        self.real(|dir, _| {
            let written = dir::replace_file(dir, "zoo-tmp.receiving", RECEIVED, |file| {
                snapshot::write(file, Compression::None, &Sections::default(), |sink| image.write(sink))
            });
            written.map(drop).map_err(|e: std::io::Error| e).expect("written");
        });
        // No snapshot of the old tree may come after it.
        self.until(rng, |m| m.real.is_empty())?;
        self.log.cut(zxid);
        self.until(rng, |m| !m.log.is_cutting())?;
        self.image = Some(view.clone());
        let files = SnapshotFiles::new(&self.server.storage, true);
        let done = self.real(|_, _| files.install(zxid).expect("installed"));
        self.until(rng, |m| m.is_done(done))?;
        self.image = None;
        (self.least, self.applied, self.floor) = (view.len(), view.len(), zxid);
        self.view = view;
        Ok(())
    }

    /// Transactions, rolls, snapshots and purges, some time.
    fn serve(&mut self, rng: &mut Prng, epoch: u32) -> Result<(), Crash> {
        let mut tree = self.tree_of(&self.view);
        let mut counter = 0;
        let mut writing = None;
        for _ in 0..rng.below(40) {
            if self.log.can_append() {
                for _ in 0..rng.below(5) {
                    counter += 1;
                    let entry = self.entry(&mut tree, Zxid::new(epoch, counter), rng);
                    self.log.append(entry.state.0, &entry.payload);
                    self.view.push(entry);
                }
            }
            for _ in 0..rng.below(12) {
                self.step(rng)?;
            }
            let durable = self.durable();
            self.committed += rng.below((durable.max(self.committed) - self.committed + 1) as u64) as usize;
            self.applied = self.applied.max(self.committed);
            writing = writing.filter(|done| !self.is_done(*done));
            if writing.is_none() && rng.chance(1, 6) {
                self.log.roll();
                writing = Some(if rng.chance(1, 3) { self.purge() } else { self.snapshot() });
            }
        }
        // Nothing of this role may still come when the next one begins; a snapshot may.
        self.until(rng, Member::is_settled)
    }

    fn snapshot(&mut self) -> usize {
        let mut tree = self.tree_of(&self.view[..self.committed]);
        self.outline.snapshots += 1;
        let files = SnapshotFiles::new(&self.server.storage, true);
        self.real(|_, _| assert!(files.write(tree.begin_image()).expect("written") > 0))
    }
    fn purge(&mut self) -> usize {
        let files = SnapshotFiles::new(&self.server.storage, true);
        let mut purged = 0;
        let done = self.real(|_, _| purged = files.purge(3).expect("purged").len() as u64);
        self.outline.purged += purged;
        done
    }

    /// A transaction that no other history has.
    fn entry(&mut self, tree: &mut Tree, zxid: Zxid, rng: &mut Prng) -> Entry {
        self.branches += 1;
        let header = TxnHeader { session: SessionId(1), cxid: Xid(0), zxid, time: WallTime(1), kind: 1 };
        let path = format!("/{:x}-{}-{}", zxid.0, self.branches, rng.next_u64());
        // Zeros are what torn records look like.
        let data = vec![if rng.chance(1, 4) { 0 } else { 7 }; rng.below(600) as usize];
        let kind = CreateKind::Create { ephemeral: false };
        let create = CreateTxn { kind, path: &path, data: Some(&data), acl: AclVec::OPEN, parent_cversion: Some(self.branches as i32) };
        let mut payload = Vec::new();
        encode_payload(&header, &Txn::Create(create), &mut payload);
        apply(tree, &payload);
        Entry { payload, state: state_of(tree) }
    }
    fn tree_of(&self, view: &[Entry]) -> Tree {
        let mut tree = Tree::new(tree_config(&self.server));
        view[1..].iter().for_each(|entry| apply(&mut tree, &entry.payload));
        assert_eq!(Some(state_of(&mut tree)), view.last().map(|e| e.state));
        tree
    }

    // ---- how it gets to the disk

    /// Everything appended is on disk, and nothing else is under way that a role waits for.
    fn is_settled(&self) -> bool {
        self.log.durable_zxid() == self.log.appended_zxid() && !self.log.is_cutting()
    }
    /// How much of the view is on disk.
    fn durable(&self) -> usize {
        let durable = self.log.durable_zxid();
        self.view.iter().rposition(|e| e.state.0 <= durable).map_or(1, |at| at + 1)
    }
    fn until(&mut self, rng: &mut Prng, done: impl Fn(&Member) -> bool) -> Result<(), Crash> {
        while !done(self) {
            self.step(rng)?;
        }
        Ok(())
    }
    fn step(&mut self, rng: &mut Prng) -> Result<(), Crash> {
        match rng.below(10) {
            0..2 => {
                if let Some((token, sync)) = self.flush.take() {
                    self.disk.sync_end(sync);
                    self.log.handle_synced(token);
                }
            }
            2..5 => self.job_step(),
            5..7 if !self.real.is_empty() => {
                let at = rng.below(self.real.len() as u64) as usize;
                if let Some(op) = self.real[at].1.pop_front() {
                    carry_out(&mut self.disk, &op, rng);
                }
                self.real.retain(|(_, ops)| !ops.is_empty());
            }
            _ => {
                if let Some(action) = self.log.poll_action() {
                    self.perform(action, rng);
                }
            }
        }
        if !self.log.is_cutting() && self.image.is_none() {
            self.least = self.least.max(self.durable());
        }
        if rng.chance(1, TRIED) {
            let left = self.disk.power_failure(rng.below(101), rng);
            self.judge(&left, "a crash that is tried");
        }
        if rng.chance(1, STEPS) { Err(Crash) } else { Ok(()) }
    }

    fn perform(&mut self, action: LogAction, rng: &mut Prng) {
        match action {
            LogAction::Open { file, min_bytes, .. } => {
                self.spares += 1;
                let name = format!("zoo-spare.{}", self.spares);
                let ino = self.disk.create(&name, vec![0; min_bytes as usize]);
                self.files.insert(file, (ino, name));
            }
            LogAction::Write { file, offset, bytes } => self.disk.write(self.files[&file].0, offset as usize, &bytes, rng),
            LogAction::Sync { file, token } => self.flush = Some((token, self.disk.sync_begin(self.files[&file].0))),
            LogAction::Mark { offset, bytes } => self.disk.write(self.mark, offset as usize, &bytes, rng),
            LogAction::SyncMark => self.jobs.push_back(Job::SyncMark(self.disk.sync_begin(self.mark))),
            LogAction::Name { file, first_zxid } => self.jobs.push_back(Job::Name(file, first_zxid)),
            LogAction::Close { file, used_bytes } => self.jobs.push_back(Job::Close(file, used_bytes as usize)),
            LogAction::Cut { above, mark_offset, mark } => {
                self.disk.write(self.mark, mark_offset as usize, &mark, rng);
                self.jobs.push_back(Job::Cut(above));
            }
        }
    }

    /// The segment thread.
    fn job_step(&mut self) {
        let next = match self.jobs.pop_front() {
            None => return,
            Some(Job::Name(file, zxid)) => Job::NameMarkSync(file, zxid, self.disk.sync_begin(self.mark)),
            Some(Job::NameMarkSync(file, zxid, sync)) => {
                self.disk.sync_end(sync);
                self.disk.rename(&self.files[&file].1.clone(), &FileKind::Log(zxid).name());
                Job::NameDirSync(file, self.disk.dir_sync_begin())
            }
            Some(Job::NameDirSync(file, sync)) => {
                self.disk.dir_sync_end(sync);
                return self.log.handle_opened(file);
            }
            Some(Job::Close(file, bytes)) => {
                let (ino, _) = self.files.remove(&file).expect("open until closed");
                self.disk.resize(ino, bytes);
                Job::CloseSync(self.disk.sync_begin(ino))
            }
            Some(Job::CloseSync(sync)) => return self.disk.sync_end(sync),
            Some(Job::SyncMark(sync)) => {
                self.disk.sync_end(sync);
                return self.log.handle_mark_synced();
            }
            Some(Job::Cut(above)) => Job::CutMarkSync(above, self.disk.sync_begin(self.mark)),
            Some(Job::CutMarkSync(above, sync)) => {
                self.disk.sync_end(sync);
                // From here on what is above may be gone.
                let left = self.view.iter().rposition(|e| e.state.0 <= above).map_or(1, |at| at + 1);
                self.least = self.least.min(left);
                Job::CutDone(self.real(|dir, _| recovery::cut_logs(dir, above).expect("cut")))
            }
            Some(Job::CutDone(work)) if self.is_done(work) => return self.log.handle_cut(),
            Some(waiting) => waiting,
        };
        self.jobs.push_front(next);
    }

    /// Has real code do something to the directory as it is. What it changes happens step by step from now on.
    fn real(&mut self, work: impl FnOnce(&Path, &ServerConfig)) -> usize {
        let real = RealDir::of(&self.server, &self.disk);
        let ((), ops) = traced(&real.path(), || work(&real.path(), &self.server));
        let mut after = self.disk.clone();
        ops.iter().for_each(|op| carry_out(&mut after, op, &mut Prng::new(1)));
        assert!(real.is_like(&after), "something was changed that was not seen: {ops:?}");
        self.begun += 1;
        if !ops.is_empty() {
            self.real.push((self.begun, ops.into()));
        }
        self.begun
    }
    fn is_done(&self, work: usize) -> bool {
        self.real.iter().all(|(n, _)| *n != work)
    }

    // ---- what a crash may lead to

    /// Starts from what a crash has left, and compares it with what may be.
    fn judge(&self, left: &Disk, context: &str) -> (Recovered, State, (u32, u32), Vec<Op>) {
        let (mut recovered, (accepted, current), ops) =
            start(&self.server, left).unwrap_or_else(|why| panic!("{context}: a crash was taken for damage: {why}"));
        let state = state_of(&mut recovered.tree);
        assert_eq!(state.0, recovered.last_zxid);
        let least = self.view[self.least - 1].state.0;
        assert!(self.history_at(state).is_some(), "{context}: {} came back, which is no state from {least} on", state.0);
        let of_log = state.0.epoch();
        for (what, now, (least, most)) in [("promised", accepted, self.accepted), ("adopted", current, self.current)] {
            assert!((least..=most.max(of_log)).contains(&now), "{context}: epoch {least} to {most} was {what}, {now} came back");
        }
        (recovered, state, (accepted, current), ops)
    }

    /// The history that has come back with this state, if it is one that may.
    fn history_at(&self, state: State) -> Option<&[Entry]> {
        if let Some(image) = self.image.as_deref().filter(|image| image.last().is_some_and(|e| e.state == state)) {
            return Some(image);
        }
        let at = self.view.iter().position(|e| e.state == state)?;
        (at + 1 >= self.least).then(|| &self.view[..=at])
    }

    pub fn after_power_failure(self, rng: &mut Prng, context: &str) -> Member {
        let left = self.disk.power_failure(rng.below(101), rng);
        self.after(left, rng, &format!("{context}, power failure"))
    }
    /// What was written is there, and still not on disk.
    pub fn after_kill(self, rng: &mut Prng, context: &str) -> Member {
        let left = self.disk.clone();
        self.after(left, rng, &format!("{context}, kill"))
    }
    fn after(mut self, mut disk: Disk, rng: &mut Prng, context: &str) -> Member {
        let (recovered, state, epochs, ops) = self.judge(&disk, context);
        for op in &ops {
            carry_out(&mut disk, op, rng);
            if rng.chance(1, 4) {
                let again = disk.power_failure(rng.below(101), rng);
                self.judge(&again, &format!("{context}, and again in recovery after {op:?}"));
            }
        }
        let view = self.history_at(state).expect("judged").to_vec();
        // What a recovered server tells must not be lost later.
        (self.view, self.image) = (view.clone(), None);
        (self.least, self.accepted, self.current) = (view.len(), (epochs.0, epochs.0), (epochs.1, epochs.1));
        self.judge(&disk.power_failure(0, rng), &format!("{context}, after recovery"));
        let Member { server, committed, branches, outline, .. } = self;
        assert!(committed <= view.len(), "{context}: {committed} were committed, {} came back", view.len());
        Member { committed, branches, outline, ..Member::over(server, disk, &recovered, view, epochs, rng) }
    }
}

fn apply(tree: &mut Tree, payload: &[u8]) {
    let (header, txn, _) = decode_payload(payload).expect("ours");
    let _ = tree.apply(&header, &txn);
    tree.commit(header.zxid);
}

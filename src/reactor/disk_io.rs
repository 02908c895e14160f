//! The disk as the replica's task sees it: performs the log's actions without waiting, and snapshots on threads of their own.
//!
//! Bytes are written to segments that the segment thread has prepared; flushes are performed by a thread that does nothing else, so that it
//! may block (rule A21): a ring would hand them to a kernel thread all the same, and take longer to do so; everything else (names, cuts,
//! directories) is the segment thread's. Invariants:
//! 1. Actions are performed in the order given. While a segment is being made, all later ones wait (`stalled`).
//! 2. At most one flush is under way; the log sees to that, `sync` asserts it.
//! 3. Any failure of the log's disk ends the process (L12).

use crate::base::Zxid;
use crate::disk::{Background, Flush, LogFile, MarkFile, SegmentEvent, Segments};
use crate::handoff::Inbox;
use crate::reactor::mesh::{ToReplicaTask, tell_result};
use crate::storage::format::FileKind;
use crate::storage::log::{FileId, LogAction, SyncToken};
use crate::tree::Image;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the log's files are made of; travels to the replica's executor.
pub struct Disk {
    /// Prepares, names and closes segments.
    pub segments: Segments,
    /// The durable mark.
    pub mark: MarkFile,
    /// Removes everything above a zxid from the log's directory.
    pub cut: CutLogs,
}

/// Removes everything above a zxid from the log's directory, durably; blocking.
pub type CutLogs = Arc<dyn Fn(Zxid) -> io::Result<()> + Send + Sync>;

/// Tells the replica's task what the segment thread has done. Runs on that thread.
pub fn on_segment_event(control: &Inbox<ToReplicaTask>, event: SegmentEvent) {
    let message = match event {
        SegmentEvent::Taken { request, file } => ToReplicaTask::SegmentTaken(FileId(request), Box::new(file)),
        SegmentEvent::Named { request } => ToReplicaTask::LogOpened(FileId(request)),
        SegmentEvent::Done { .. } => ToReplicaTask::LogCut,
        SegmentEvent::Failed { what, error } => super::fatal(&format!("{what} failed: {error}; the transaction log cannot go on")),
    };
    tell_result(control, message);
}

/// The open files of the log. Lives on the replica's executor.
pub struct LogFiles {
    segments: Segments,
    mark: MarkFile,
    cut: CutLogs,
    open: HashMap<FileId, LogFile>,
    /// The file whose segment is being made.
    awaited: Option<FileId>,
    stalled: VecDeque<LogAction>,
    flusher: Flusher,
    flushing: bool,
    slow: Duration,
}

/// The thread that flushes. Dropping it waits for the flush under way: whoever uses the directory next finds it at rest.
struct Flusher {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    fn start(control: Arc<Inbox<ToReplicaTask>>, slow: Duration) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new().name("zoo-flush".into()).spawn(move || perform_flushes(&inbox, &control, slow))?;
        Ok(Flusher { jobs: Some(jobs), thread: Some(thread) })
    }

    fn perform(&self, job: Job) {
        // The thread ends only after this.
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked: that would have ended the process.
            let _ = thread.join();
        }
    }
}

/// For the thread that flushes.
enum Job {
    Log(FlushJob),
    Mark(File),
}

/// A flush on its way to the thread that performs it, and back.
pub struct FlushJob {
    file: FileId,
    token: SyncToken,
    flush: Flush,
    /// How long it took; nothing before it is done.
    pub took: Duration,
}

impl LogFiles {
    /// No file is open yet. Completed flushes are told to `control`; one that takes `slow` is worth a warning.
    pub fn new(disk: Disk, control: Arc<Inbox<ToReplicaTask>>, slow: Duration) -> io::Result<Self> {
        let Disk { segments, mark, cut } = disk;
        let flusher = Flusher::start(control, slow)?;
        Ok(LogFiles { segments, mark, cut, open: HashMap::new(), awaited: None, stalled: VecDeque::new(), flusher, flushing: false, slow })
    }

    /// Nothing more will be asked for; the directory stays as a killed process leaves it.
    pub fn abandon(&mut self) {
        self.segments.abandon();
    }

    /// What takes so long is worth a warning.
    pub fn slow(&self) -> Duration {
        self.slow
    }

    /// Performs an action, or keeps it until the segment before it is there.
    pub fn perform(&mut self, action: LogAction) {
        if self.awaited.is_some() {
            self.stalled.push_back(action);
        } else {
            self.perform_now(action);
        }
    }

    /// The segment thread has made the segment that was asked for.
    pub fn segment_taken(&mut self, file: FileId, segment: LogFile) {
        assert_eq!(self.awaited, Some(file), "one segment is asked for at a time");
        self.awaited = None;
        self.open.insert(file, segment);
        while self.awaited.is_none() {
            let Some(action) = self.stalled.pop_front() else { return };
            self.perform_now(action);
        }
    }

    fn perform_now(&mut self, action: LogAction) {
        match action {
            LogAction::Open { file, min_bytes, .. } => match self.segments.take(file.0, min_bytes) {
                Some(segment) => drop(self.open.insert(file, segment)),
                None => self.awaited = Some(file),
            },
            LogAction::Write { file, offset, bytes } => {
                if let Err(e) = self.file(file).write(offset, &bytes) {
                    super::fatal(&format!("writing to the transaction log failed: {e}"));
                }
            }
            LogAction::Sync { file, token } => self.sync(file, token),
            LogAction::Mark { offset, bytes } => self.write_mark(offset, &bytes),
            LogAction::SyncMark => self.sync_mark(),
            LogAction::Name { file, first_zxid } => self.name(file, first_zxid),
            LogAction::Close { file, used_bytes } => {
                if let Some(open) = self.open.remove(&file) {
                    self.segments.close(open, used_bytes);
                }
            }
            LogAction::Cut { above, mark_offset, mark } => {
                self.write_mark(mark_offset, &mark);
                let cut = self.cut.clone();
                self.segments.then(above.0, "removing transactions from the log", Box::new(move || cut(above)));
            }
        }
    }

    fn write_mark(&mut self, offset: u64, bytes: &[u8]) {
        if let Err(e) = self.mark.write(offset, bytes) {
            super::fatal(&format!("writing the durable mark failed: {e}"));
        }
    }

    fn sync_mark(&self) {
        match self.mark.sync_handle() {
            Ok(file) => self.flusher.perform(Job::Mark(file)),
            Err(e) => super::fatal(&format!("the durable mark cannot be flushed: {e}")),
        }
    }

    fn sync(&mut self, file: FileId, token: SyncToken) {
        assert!(!std::mem::replace(&mut self.flushing, true), "one flush at a time");
        match self.file(file).flush() {
            Ok(flush) => self.flusher.perform(Job::Log(FlushJob { file, token, flush, took: Duration::ZERO })),
            Err(e) => super::fatal(&format!("no memory for the transaction log: {e}")),
        }
    }

    /// A flush has been performed; the log is to be told of its token.
    pub fn flushed(&mut self, done: FlushJob) -> SyncToken {
        self.flushing = false;
        self.file(done.file).flushed(done.flush);
        done.token
    }

    fn name(&mut self, id: FileId, first_zxid: Zxid) {
        let Some(open) = self.open.get(&id) else { panic!("{id:?} is named before it is open") };
        self.segments.name(id.0, open, FileKind::Log(first_zxid).name());
    }

    fn file(&mut self, id: FileId) -> &mut LogFile {
        let Some(open) = self.open.get_mut(&id) else { panic!("{id:?} is used before it is open") };
        open
    }
}

fn perform_flushes(jobs: &Receiver<Job>, control: &Inbox<ToReplicaTask>, slow: Duration) {
    let _guard = super::AbortOnPanic;
    super::priority::short_turns();
    for job in jobs {
        let began = Instant::now();
        let mut job = match job {
            Job::Log(job) => job,
            Job::Mark(file) => {
                if let Err(e) = file.sync_all() {
                    super::fatal(&format!("the durable mark could not be flushed: {e}"));
                }
                tell_result(control, ToReplicaTask::MarkSynced);
                continue;
            }
        };
        if let Err(e) = job.flush.perform() {
            super::fatal(&format!("the transaction log could not be flushed: {e}; what it holds is unknown, so this server stops"));
        }
        let took = began.elapsed();
        job.took = took;
        tell_result(control, ToReplicaTask::Flushed(job));
        if took >= slow {
            tracing::warn!("flushing the transaction log took {} ms; slow disks delay every write", took.as_millis());
        }
    }
}

/// Writes one snapshot and returns its size; blocking, and an error soon after it was abandoned.
pub type WriteSnapshot = Arc<dyn Fn(Image, &Background) -> io::Result<u64> + Send + Sync>;

/// Snapshots, each on a thread of its own, one at a time.
pub struct Snapshots {
    write: WriteSnapshot,
    control: Arc<Inbox<ToReplicaTask>>,
    running: RunningSnapshot,
}

/// The thread that writes a snapshot, for whoever ends the server. Clones are the same one.
#[derive(Clone, Default)]
pub struct RunningSnapshot(Arc<Mutex<Option<Writing>>>);

/// The thread, and what makes it give up.
type Writing = (JoinHandle<()>, Background);

impl RunningSnapshot {
    /// Gives up the snapshot that is being written, if there is one, and waits until its file is gone: the log has all it would hold.
    pub fn end(&self) {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((thread, background)) = running {
            background.abandon();
            // It cannot have panicked: that would have ended the process.
            let _ = thread.join();
        }
    }

    fn set(&self, thread: JoinHandle<()>, background: Background) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((thread, background));
    }
}

impl Snapshots {
    /// `write` does the work; the end is told to `control`.
    pub fn new(write: WriteSnapshot, control: Arc<Inbox<ToReplicaTask>>) -> Self {
        Snapshots { write, control, running: RunningSnapshot::default() }
    }

    /// To end the last one after the executors have ended.
    pub fn running(&self) -> RunningSnapshot {
        self.running.clone()
    }

    /// Gives up the one that is being written; its end is told as always.
    pub fn abandon(&self) {
        if let Some((_, background)) = &*self.running.0.lock().unwrap_or_else(PoisonError::into_inner) {
            background.abandon();
        }
    }

    /// Starts one.
    pub fn begin(&self, image: Image) {
        let (write, control, zxid) = (self.write.clone(), self.control.clone(), image.zxid());
        let background = Background::default();
        let abandonable = background.clone();
        let run = move || {
            let _guard = super::AbortOnPanic;
            super::lower_priority();
            let ok = match write(image, &background) {
                Ok(bytes) => {
                    tracing::info!("wrote the snapshot at {zxid}, {bytes} bytes");
                    true
                }
                Err(_) if background.is_abandoned() => {
                    tracing::info!("the snapshot at {zxid} was given up: the server stops, or its tree is replaced; its logs are kept");
                    false
                }
                Err(e) => {
                    tracing::warn!("the snapshot at {zxid} could not be written: {e}; the server goes on, its logs are kept");
                    false
                }
            };
            tell_result(&control, ToReplicaTask::SnapshotDone { zxid, ok });
        };
        match std::thread::Builder::new().name("zoo-snapshot".into()).spawn(run) {
            Ok(thread) => self.running.set(thread, abandonable),
            Err(e) => {
                tracing::warn!("no thread for the snapshot at {zxid}: {e}");
                tell_result(&self.control, ToReplicaTask::SnapshotDone { zxid, ok: false });
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::disk::{LogWriter, SegmentsConfig, dir};
    use crate::reactor::executor;
    use crate::storage::format::{MARK_FILE, SPARE_PREFIX};
    use crate::storage::mark::MARK_FILE_BYTES;
    use crate::tree::{Tree, TreeConfig};
    use std::io::Write;
    use std::path::Path;

    const SEGMENT: u64 = 64 << 10;

    pub(in crate::reactor) fn disk(dir: &Path, control: &Arc<Inbox<ToReplicaTask>>) -> Disk {
        std::fs::write(dir.join(MARK_FILE), [0; MARK_FILE_BYTES]).expect("written");
        let mark = MarkFile::open(&dir.join(MARK_FILE), MARK_FILE_BYTES, false).expect("a mark");
        let config = SegmentsConfig {
            dir: dir.to_path_buf(),
            segment_bytes: SEGMENT,
            spare_prefix: SPARE_PREFIX,
            writer: LogWriter::Direct,
            mark: None,
        };
        let control = control.clone();
        let segments = Segments::start(config, move |event| on_segment_event(&control, event)).expect("started");
        Disk { segments, mark, cut: Arc::new(|_| Ok(())) }
    }

    /// Runs a body with the log's files on an executor, as the replica's task has them.
    fn with_files<F: Future<Output = ()>>(dir: &Path, body: impl FnOnce(LogFiles, Arc<Inbox<ToReplicaTask>>) -> F + Send + 'static) {
        let control = Arc::new(Inbox::new(16));
        let disk = disk(dir, &control);
        executor::run(move || async move { body(files(disk, &control), control).await });
    }

    fn files(disk: Disk, control: &Arc<Inbox<ToReplicaTask>>) -> LogFiles {
        LogFiles::new(disk, control.clone(), Duration::from_secs(60)).expect("a thread")
    }

    async fn next(control: &Inbox<ToReplicaTask>) -> ToReplicaTask {
        control.ready().await;
        let mut one = Vec::new();
        control.drain(&mut one, 1);
        one.remove(0)
    }

    fn open(file: u64, zxid: u64, min_bytes: u64) -> LogAction {
        LogAction::Open { file: FileId(file), first_zxid: Zxid(zxid), min_bytes }
    }
    fn write(file: u64, offset: u64, bytes: &[u8]) -> LogAction {
        LogAction::Write { file: FileId(file), offset, bytes: bytes.to_vec() }
    }

    #[test]
    fn actions_behind_a_segment_that_is_being_made_wait_for_it_and_keep_their_order() {
        let dir = tempfile::tempdir().expect("temp dir");
        with_files(dir.path(), |mut files, control| async move {
            // Larger than any spare, so it has to be made.
            files.perform(open(1, 5, 2 * SEGMENT));
            files.perform(write(1, 0, b"head"));
            files.perform(write(1, 4, b"tail"));
            files.perform(LogAction::Sync { file: FileId(1), token: SyncToken(7) });
            assert!(!files.flushing, "nothing is flushed before it is written");
            let ToReplicaTask::SegmentTaken(file, segment) = next(&control).await else { panic!("a segment") };
            files.segment_taken(file, *segment);
            let ToReplicaTask::Flushed(job) = next(&control).await else { panic!("the flush") };
            assert_eq!(files.flushed(job), SyncToken(7));
            files.perform(LogAction::Name { file: FileId(1), first_zxid: Zxid(5) });
            assert!(matches!(next(&control).await, ToReplicaTask::LogOpened(FileId(1))));
            files.perform(LogAction::Close { file: FileId(1), used_bytes: 8 });
        });
        assert_eq!(std::fs::read(dir.path().join("log.5")).expect("named"), b"headtail", "cut to its used length");
    }

    #[test]
    fn every_flush_comes_back_to_an_executor_that_nothing_else_wakes() {
        const FLUSHES: u64 = 500;
        let dir = tempfile::tempdir().expect("temp dir");
        with_files(dir.path(), |mut files, control| async move {
            files.perform(open(1, 1, SEGMENT));
            if files.awaited.is_some() {
                let ToReplicaTask::SegmentTaken(file, segment) = next(&control).await else { panic!("a segment") };
                files.segment_taken(file, *segment);
            }
            for n in 0..FLUSHES {
                files.perform(write(1, n * 8, &n.to_be_bytes()));
                files.perform(LogAction::Sync { file: FileId(1), token: SyncToken(n) });
                let ToReplicaTask::Flushed(job) = next(&control).await else { panic!("the flush") };
                assert_eq!(files.flushed(job), SyncToken(n));
            }
            files.perform(LogAction::Name { file: FileId(1), first_zxid: Zxid(1) });
            assert!(matches!(next(&control).await, ToReplicaTask::LogOpened(FileId(1))));
            files.perform(LogAction::Close { file: FileId(1), used_bytes: FLUSHES * 8 });
        });
        let expected: Vec<u8> = (0..FLUSHES).flat_map(u64::to_be_bytes).collect();
        assert_eq!(std::fs::read(dir.path().join("log.1")).expect("named"), expected);
    }

    #[test]
    fn a_second_file_is_written_while_the_first_is_still_open() {
        let dir = tempfile::tempdir().expect("temp dir");
        with_files(dir.path(), |mut files, control| async move {
            for (file, zxid) in [(1, 1), (2, 9)] {
                files.perform(open(file, zxid, 100));
                files.perform(write(file, 0, &[file as u8; 10]));
                while files.awaited.is_some() {
                    match next(&control).await {
                        ToReplicaTask::SegmentTaken(file, segment) => files.segment_taken(file, *segment),
                        _ => panic!("only segments are asked for"),
                    }
                }
            }
            for (file, zxid) in [(1, 1), (2, 9)] {
                files.perform(LogAction::Sync { file: FileId(file), token: SyncToken(zxid) });
                loop {
                    match next(&control).await {
                        ToReplicaTask::Flushed(job) => break assert_eq!(files.flushed(job), SyncToken(zxid)),
                        ToReplicaTask::LogOpened(_) => {}
                        _ => panic!("only a flush and names are asked for"),
                    }
                }
                files.perform(LogAction::Name { file: FileId(file), first_zxid: Zxid(zxid) });
                files.perform(LogAction::Close { file: FileId(file), used_bytes: 10 });
            }
        });
        assert_eq!(std::fs::read(dir.path().join("log.1")).expect("named"), [1; 10]);
        assert_eq!(std::fs::read(dir.path().join("log.9")).expect("named"), [2; 10]);
    }

    #[test]
    fn a_snapshot_that_is_given_up_does_not_take_the_next_one_with_it() {
        let control = Arc::new(Inbox::new(16));
        let (begin, begun) = std::sync::mpsc::sync_channel(0);
        let write: WriteSnapshot = Arc::new(move |_, background| {
            begin.send(()).expect("the test waits");
            begin.send(()).expect("the test waits");
            if background.is_abandoned() { Err(io::Error::other("given up")) } else { Ok(1) }
        });
        let snapshots = Snapshots::new(write, control.clone());
        let done = |abandoned: bool| {
            snapshots.begin(Tree::new(TreeConfig::default()).begin_image());
            begun.recv().expect("begun");
            if abandoned {
                snapshots.abandon();
            }
            begun.recv().expect("goes on");
            let mut told = Vec::new();
            while control.drain(&mut told, 16) == 0 {
                std::thread::yield_now();
            }
            matches!(told[..], [ToReplicaTask::SnapshotDone { ok: true, .. }])
        };
        assert_eq!((done(true), done(false)), (false, true));
    }

    #[test]
    fn a_snapshot_that_is_being_written_is_given_up_when_the_server_ends_and_leaves_no_file() {
        let dir = tempfile::tempdir().expect("temp dir");
        let control = Arc::new(Inbox::new(16));
        let (began, begun) = std::sync::mpsc::channel();
        let path = dir.path().to_path_buf();
        let write: WriteSnapshot = Arc::new(move |_, background| {
            dir::replace_file_in_background(&path, "temp", "snapshot", background, |file| -> io::Result<()> {
                began.send(()).expect("the test waits");
                // Ends by itself, so that a failure is not a test that hangs.
                (0..32).try_for_each(|_| file.write_all(&[0; 1 << 20]))
            })
        });
        let snapshots = Snapshots::new(write, control.clone());
        snapshots.begin(Tree::new(TreeConfig::default()).begin_image());
        begun.recv().expect("begun");
        snapshots.running().end();
        assert!(dir::list(dir.path()).expect("listed").is_empty());
        let mut told = Vec::new();
        control.drain(&mut told, 16);
        assert!(matches!(&told[..], [ToReplicaTask::SnapshotDone { zxid: Zxid::ZERO, ok: false }]), "the replica is told");
    }
}

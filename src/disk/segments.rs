//! Log segments: prepared one ahead by a background thread, taken without waiting, named and closed off the reactor (rule A20).
//!
//! A spare is allocated, zero-filled and synced before it is used, so an append changes no metadata and its fdatasync writes data only.
//! Zeros go out with O_DIRECT: through the page cache they would leave large folios behind, and a mapped append of 100 bytes would then
//! write a whole folio (measured: 1 MiB). Where O_DIRECT is refused, the cache is dropped after the sync.
//!
//! Zeros go out in small steps with pauses between them, unless somebody waits for the segment: a flush of the log meanwhile finds a device that has
//! little else to do and little else to make durable.

use super::flush::BLOCK_BYTES;
use super::mapping::{LogFile, LogWriter, ReadAhead};
use super::{MapRefusal, dir, mapping};
use memmap2::MmapMut;
use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Size of one zero-filling write.
const FILL_BYTES: u64 = 256 << 10;
/// Each is followed by a pause so many times as long.
const PAUSE_SHARE: u32 = 2;
/// However long it took, the pause is not longer.
const PAUSE_MAX: Duration = Duration::from_millis(10);

/// Settings.
#[derive(Clone, Debug)]
pub struct SegmentsConfig {
    /// Where logs are.
    pub dir: PathBuf,
    /// Size of a prepared spare.
    pub segment_bytes: u64,
    /// Neutral name; a number is appended.
    pub spare_prefix: &'static str,
    /// How segments are written where that works; otherwise in the next way that does, pwrite being the last.
    pub writer: LogWriter,
    /// Synced before a segment is named.
    pub mark: Option<Arc<File>>,
}

/// What happened in the background.
#[derive(Debug)]
pub enum SegmentEvent {
    /// The segment `take` could not give at once.
    Taken {
        /// As passed to `take`.
        request: u64,
        /// The segment.
        file: LogFile,
    },
    /// The directory entry is durable.
    Named {
        /// As passed to `name`.
        request: u64,
    },
    /// What `then` was given has been done.
    Done {
        /// As passed to `then`.
        request: u64,
    },
    /// A disk operation failed; the server must stop (L12).
    Failed {
        /// What was attempted.
        what: String,
        /// Why not.
        error: io::Error,
    },
}

enum Job {
    Take { request: u64, min_bytes: u64 },
    Name { request: u64, from: PathBuf, to: String },
    Close { file: LogFile, used_bytes: u64 },
    Then { request: u64, what: &'static str, work: Work },
    Prepare,
    Stop { keep_spare: bool },
}

/// Something else to be done with the directory.
pub type Work = Box<dyn FnOnce() -> io::Result<()> + Send + Sync>;

type Spare = Arc<Mutex<Option<LogFile>>>;

/// The front end, used by one thread; the work is done by another.
#[derive(Debug)]
pub struct Segments {
    jobs: Sender<Job>,
    spare: Spare,
    pace: Pace,
    refusal: Option<MapRefusal>,
    /// Left where it is at the end.
    keep_spare: bool,
    thread: Option<JoinHandle<()>>,
}

impl Segments {
    /// Starts the background thread, which begins with preparing a spare. Events arrive on that thread.
    pub fn start(config: SegmentsConfig, on_event: impl Fn(SegmentEvent) + Send + 'static) -> io::Result<Self> {
        let refusal = mapping::map_refusal(&config.dir)?;
        let (spare, pace) = (Spare::default(), Pace::default());
        let (jobs, inbox) = mpsc::channel();
        let (ahead, ahead_inbox) = mpsc::channel();
        let writer = if refusal.is_some() { LogWriter::Pwrite } else { config.writer };
        let worker = Worker {
            config,
            writer,
            spare: Arc::clone(&spare),
            pace: pace.clone(),
            ahead,
            spares_made: 0,
            spare_failed: false,
            on_event: Box::new(on_event),
        };
        // On its own thread: it must not wait behind the filling of a spare. It ends with the last segment.
        std::thread::Builder::new().name("zoo-read-ahead".into()).spawn(move || ahead_inbox.iter().for_each(|r: ReadAhead| r.perform()))?;
        jobs.send(Job::Prepare).map_err(io::Error::other)?;
        let thread = std::thread::Builder::new().name("zoo-segments".into()).spawn(move || worker.run(&inbox))?;
        Ok(Segments { jobs, spare, pace, refusal, keep_spare: false, thread: Some(thread) })
    }

    /// Why maps are not used, if so.
    #[must_use]
    pub const fn refusal(&self) -> Option<MapRefusal> {
        self.refusal
    }

    /// The prepared spare if it is ready and large enough; otherwise `None`, and `Taken` follows.
    pub fn take(&mut self, request: u64, min_bytes: u64) -> Option<LogFile> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.as_ref().is_some_and(|s| s.bytes() >= min_bytes) {
            return spare.take();
        }
        drop(spare);
        self.pace.hurry(true);
        self.send(Job::Take { request, min_bytes });
        None
    }

    /// Renames a segment and makes that durable; `Named` follows. The next spare is prepared after it.
    pub fn name(&mut self, request: u64, file: &LogFile, name: String) {
        self.send(Job::Name { request, from: file.path().to_path_buf(), to: name });
        self.send(Job::Prepare);
    }

    /// Unmaps the segment, cuts it to its used length and syncs it.
    pub fn close(&mut self, file: LogFile, used_bytes: u64) {
        self.send(Job::Close { file, used_bytes });
    }

    /// Does `work` after everything asked for before, when the mark as it is now is on disk; `Done` follows.
    pub fn then(&mut self, request: u64, what: &'static str, work: Work) {
        self.send(Job::Then { request, what, work });
    }

    /// The directory is to be left as a killed process leaves it.
    pub fn abandon(&mut self) {
        self.keep_spare = true;
    }

    /// Waits for everything asked for, and removes the unused spare.
    pub fn stop(mut self) {
        self.join();
    }

    fn send(&self, job: Job) {
        // The thread ends only by `Stop`.
        let _ = self.jobs.send(job);
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.send(Job::Stop { keep_spare: self.keep_spare });
            let _ = thread.join();
        }
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        self.join();
    }
}

struct Worker {
    config: SegmentsConfig,
    writer: LogWriter,
    spare: Spare,
    pace: Pace,
    ahead: Sender<ReadAhead>,
    spares_made: u64,
    /// The last attempt to make a spare has failed.
    spare_failed: bool,
    on_event: Box<dyn Fn(SegmentEvent) + Send>,
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Job>) {
        for job in inbox.iter() {
            match job {
                Job::Take { request, min_bytes } => self.take(request, min_bytes),
                Job::Name { request, from, to } => self.name(request, &from, &to),
                Job::Close { file, used_bytes } => self.close(file, used_bytes),
                Job::Then { request, what, work } => self.then(request, what, work),
                Job::Prepare => self.prepare(),
                Job::Stop { keep_spare: true } => return,
                Job::Stop { keep_spare: false } => break,
            }
        }
        if let Some(spare) = self.take_spare() {
            // Best effort: start-up removes spares too.
            let _ = dir::remove(&self.config.dir, [spare.path()]);
        }
    }

    fn take_spare(&self) -> Option<LogFile> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn take(&mut self, request: u64, min_bytes: u64) {
        let ready = self.take_spare();
        let file = match ready {
            Some(spare) if spare.bytes() >= min_bytes => Ok(spare),
            too_small => {
                let made = self.create(min_bytes.max(self.config.segment_bytes));
                if let Some(spare) = too_small {
                    *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(spare);
                }
                made
            }
        };
        self.pace.hurry(false);
        match file {
            Ok(file) => (self.on_event)(SegmentEvent::Taken { request, file }),
            Err(error) => self.failed("preparing a log segment", error),
        }
    }

    fn name(&self, request: u64, from: &Path, to: &str) {
        let result = self.sync_mark().and_then(|()| {
            std::fs::rename(from, self.config.dir.join(to))?;
            dir::sync_dir(&self.config.dir)
        });
        match result {
            Ok(()) => (self.on_event)(SegmentEvent::Named { request }),
            Err(error) => self.failed(&format!("naming {to}"), error),
        }
    }

    fn then(&self, request: u64, what: &str, work: Work) {
        match self.sync_mark().and_then(|()| work()) {
            Ok(()) => (self.on_event)(SegmentEvent::Done { request }),
            Err(error) => self.failed(what, error),
        }
    }

    fn sync_mark(&self) -> io::Result<()> {
        self.config.mark.as_ref().map_or(Ok(()), |mark| mark.sync_all())
    }

    fn close(&mut self, file: LogFile, used_bytes: u64) {
        if let Err(error) = file.close(used_bytes) {
            self.failed("closing a log segment", error);
        }
        // On a disk that is almost full, what the cut has given back may be the room that was missing.
        if self.spare_failed {
            self.prepare();
        }
    }

    /// Makes a spare unless there is one. A failure is not reported now: the segment in use may last until there is room again, and the
    /// attempt is repeated when a segment is closed, and when one is needed.
    fn prepare(&mut self) {
        if self.spare.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return;
        }
        let made = self.create(self.config.segment_bytes);
        self.spare_failed = made.is_err();
        match made {
            Ok(file) => *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(file),
            Err(error) => tracing::warn!("cannot prepare the next log segment in {}: {error}", self.config.dir.display()),
        }
    }

    fn create(&mut self, bytes: u64) -> io::Result<LogFile> {
        self.spares_made += 1;
        let path = self.config.dir.join(format!("{}{}", self.config.spare_prefix, self.spares_made));
        let bytes = bytes.next_multiple_of(BLOCK_BYTES);
        let made = create_zeroed(&path, bytes, &self.pace).and_then(|(file, direct)| {
            let writer = if self.writer == LogWriter::Direct && !direct { LogWriter::Map } else { self.writer };
            LogFile::new(file, path.clone(), bytes, writer)
        });
        match made {
            Ok(mut file) => {
                file.set_read_ahead(self.ahead.clone());
                Ok(file)
            }
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn failed(&self, what: &str, error: io::Error) {
        (self.on_event)(SegmentEvent::Failed { what: what.to_owned(), error });
    }
}

/// How fast zeros are written.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    hurries: Arc<AtomicBool>,
}

impl Pace {
    /// Somebody waits, or no longer does.
    pub fn hurry(&self, hurries: bool) {
        self.hurries.store(hurries, Ordering::Relaxed);
    }
    /// For how long to pause after a write that took so long.
    fn pause(&self, took: Duration) -> Duration {
        if self.hurries.load(Ordering::Relaxed) { Duration::ZERO } else { (took * PAUSE_SHARE).min(PAUSE_MAX) }
    }
}

/// Creates a file whose `bytes` bytes are allocated, zero and on disk, and which has nothing in the page cache. True when the file system
/// takes O_DIRECT.
pub fn create_zeroed(path: &Path, bytes: u64, pace: &Pace) -> io::Result<(File, bool)> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        // Where it is not supported, writing the zeros allocates.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    let direct = fill_direct(path, bytes, pace)?;
    if !direct {
        fill(&file, bytes, pace)?;
        file.sync_all()?;
        // Failure only costs speed.
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
    }
    file.sync_all()?;
    Ok((file, direct))
}

/// Fills with O_DIRECT; `Ok(false)` where the file system refuses that.
fn fill_direct(path: &Path, bytes: u64, pace: &Pace) -> io::Result<bool> {
    let refused = |e: &io::Error| matches!(Errno::from_io_error(e), Some(Errno::INVAL | Errno::OPNOTSUPP));
    let direct = OpenOptions::new().write(true).custom_flags(OFlags::DIRECT.bits() as i32).open(path);
    match direct.and_then(|file| fill(&file, bytes, pace)) {
        Ok(()) => Ok(true),
        Err(e) if refused(&e) => Ok(false),
        Err(e) => Err(e),
    }
}

fn fill(mut file: &File, bytes: u64, pace: &Pace) -> io::Result<()> {
    // An anonymous map: zero and page-aligned, as O_DIRECT wants it.
    let zeros = MmapMut::map_anon(FILL_BYTES as usize)?;
    let mut left = bytes;
    io::Seek::rewind(&mut file)?;
    while left > 0 {
        let (n, started) = (left.min(FILL_BYTES), Instant::now());
        file.write_all(&zeros[..n as usize])?;
        left -= n;
        std::thread::sleep(pace.pause(started.elapsed()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PREFIX: &str = "spare.";

    struct Fixture {
        dir: tempfile::TempDir,
        segments: Segments,
        events: Receiver<SegmentEvent>,
    }

    fn start(segment_bytes: u64, writer: LogWriter) -> Fixture {
        let dir = tempfile::tempdir().expect("temp dir");
        let (tx, events) = mpsc::channel();
        let config = SegmentsConfig { dir: dir.path().to_path_buf(), segment_bytes, spare_prefix: PREFIX, writer, mark: None };
        let segments = Segments::start(config, move |e| drop(tx.send(e))).expect("started");
        Fixture { dir, segments, events }
    }

    impl Fixture {
        fn event(&self) -> SegmentEvent {
            self.events.recv_timeout(Duration::from_secs(60)).expect("an event")
        }
        fn take(&mut self, min_bytes: u64) -> LogFile {
            match self.segments.take(1, min_bytes) {
                Some(file) => file,
                None => match self.event() {
                    SegmentEvent::Taken { request: 1, file } => file,
                    other => panic!("{other:?}"),
                },
            }
        }
        fn names(&self) -> Vec<String> {
            dir::list(self.dir.path()).expect("listed").into_iter().map(|e| e.name).collect()
        }
    }

    #[test]
    fn a_segment_is_taken_written_named_and_cut_with_every_way_of_writing() {
        for writer in [LogWriter::Direct, LogWriter::Map, LogWriter::Pwrite] {
            let mut f = start(64 << 10, writer);
            let mut file = f.take(100);
            assert_eq!(file.bytes(), 64 << 10);
            file.write(0, b"header").expect("written");
            file.write(6, b"record").expect("written");
            file.sync().expect("synced");
            f.segments.name(2, &file, "log.5".into());
            assert!(matches!(f.event(), SegmentEvent::Named { request: 2 }));
            f.segments.close(file, 12);
            let path = f.dir.path().join("log.5");
            f.segments.join();
            assert_eq!(std::fs::read(path).expect("read"), b"headerrecord");
            assert_eq!(f.names(), ["log.5"], "the unused spare is gone");
        }
    }

    #[test]
    fn a_request_larger_than_the_spare_gets_a_larger_segment_and_keeps_the_spare() {
        let mut f = start(8 << 10, LogWriter::Map);
        let large = f.take(20_000);
        assert_eq!(large.bytes(), 20_480);
        let small = f.take(1);
        assert_eq!(small.bytes(), 8 << 10);
    }

    #[test]
    fn a_write_beyond_the_segment_is_an_error_not_an_extension() {
        for writer in [LogWriter::Direct, LogWriter::Map, LogWriter::Pwrite] {
            let mut f = start(8 << 10, writer);
            let mut file = f.take(1);
            file.write(0, &[7; (8 << 10) - 1]).expect("written");
            assert!(file.write((8 << 10) - 1, b"ab").is_err());
            assert!(file.write(u64::MAX, b"a").is_err());
            file.write((8 << 10) - 1, b"a").and_then(|()| file.sync()).expect("written");
            assert_eq!(std::fs::read(file.path()).expect("read").last(), Some(&b'a'));
        }
    }

    #[test]
    fn a_fresh_segment_is_allocated_and_zero() {
        let mut f = start(256 << 10, LogWriter::Map);
        let file = f.take(1);
        let path = file.path().to_path_buf();
        assert!(std::fs::read(&path).expect("read").iter().all(|b| *b == 0));
        let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&path).expect("stat"));
        assert!(blocks * 512 >= 256 << 10, "allocated, not sparse: {blocks} blocks");
    }

    #[test]
    fn a_spare_that_could_not_be_made_is_made_after_a_segment_was_closed_or_when_one_is_needed() {
        let mut f = start(8 << 10, LogWriter::Map);
        let mut file = f.take(1);
        // Its name is taken, so it cannot be made.
        std::fs::create_dir(f.dir.path().join("spare.2")).expect("a directory in the way");
        file.write(0, b"x").expect("written");
        f.segments.name(1, &file, "log.1".into());
        assert!(matches!(f.event(), SegmentEvent::Named { request: 1 }), "that there is no spare is no failure yet");
        f.segments.close(file, 1);
        let (started, spare) = (std::time::Instant::now(), f.dir.path().join("spare.3"));
        while !spare.exists() {
            assert!(started.elapsed() < Duration::from_secs(60), "the attempt is not repeated");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(f.take(1).path(), spare);

        std::fs::create_dir(f.dir.path().join("spare.4")).expect("a directory in the way");
        assert!(f.segments.take(1, 1).is_none());
        match f.event() {
            SegmentEvent::Failed { what, .. } => assert_eq!(what, "preparing a log segment"),
            other => panic!("one that is needed and cannot be made ends the log: {other:?}"),
        }
        assert_eq!(f.take(1).path(), f.dir.path().join("spare.5"));
    }

    #[test]
    fn zeros_give_way_to_flushes_unless_somebody_waits_for_the_segment() {
        let pace = Pace::default();
        let pauses = |pace: &Pace| [0, 1, 1000].map(|ms| pace.pause(Duration::from_millis(ms)));
        let unhurried = pauses(&pace);
        assert_eq!(unhurried, [Duration::ZERO, PAUSE_SHARE * Duration::from_millis(1), PAUSE_MAX]);
        pace.hurry(true);
        assert_eq!(pauses(&pace), [Duration::ZERO; 3]);
        let mut f = start(8 << 10, LogWriter::Map);
        let large = f.take(20_000);
        assert_eq!((large.bytes(), pauses(&f.segments.pace)), (20_480, unhurried), "nobody waits any more");
    }

    #[test]
    fn a_rename_that_fails_is_reported() {
        let mut f = start(8 << 10, LogWriter::Map);
        let file = f.take(1);
        std::fs::remove_file(file.path()).expect("removed");
        f.segments.name(1, &file, "log.1".into());
        assert!(matches!(f.event(), SegmentEvent::Failed { .. }));
    }
}

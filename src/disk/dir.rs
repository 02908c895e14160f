//! Directories: atomic scans, durable renames and replacements, and the lock that keeps a second server out.
//!
//! Creating, renaming and deleting are durable only after an fsync of the directory (rule D2); every function here that changes a
//! directory does that before it returns.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Data of a file being replaced is synced in steps of this size, so that the log's own flushes do not wait behind one large write-back.
const SYNC_STEP_BYTES: u64 = 4 << 20;
/// Steps of a file that is written in the background while a log is being flushed: what a flush may have to wait for.
const BACKGROUND_STEP_BYTES: u64 = 1 << 20;
/// What is written in the background per second, at most: a fraction of what the disks of servers can do (rule B2).
const BACKGROUND_BYTES_PER_SECOND: u64 = 64 << 20;
/// Longest rest between two steps, on a disk so slow that half of its time is not enough for others.
const REST_MAX: Duration = Duration::from_millis(250);

/// A regular file in a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// The regular files of a directory, sorted by name. A file that vanishes during the scan is left out.
pub fn list(dir: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = match fs::metadata(entry.path()) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
            entries.push(Entry { name, bytes: metadata.len() });
        }
    }
    entries.sort();
    Ok(entries)
}

/// fsync of a directory.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates the directory and its parents, durably.
pub fn create_dirs(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        create_dirs(parent)?;
    }
    match fs::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    sync_dir(parent_of(dir))
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Renames inside one directory, durably.
pub fn rename(dir: &Path, from: &str, to: &str) -> io::Result<()> {
    fs::rename(dir.join(from), dir.join(to))?;
    sync_dir(dir)
}

/// Deletes files, durably and in the order given; one that is already gone is fine.
pub fn remove(dir: &Path, names: impl IntoIterator<Item = impl AsRef<Path>>) -> io::Result<()> {
    let mut removed = false;
    for name in names {
        match fs::remove_file(dir.join(name)) {
            Ok(()) => removed = true,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    if removed { sync_dir(dir) } else { Ok(()) }
}

/// fsync of files' data and sizes, as the page cache has them, and of their directory.
pub fn sync_files(dir: &Path, names: impl IntoIterator<Item = impl AsRef<Path>>) -> io::Result<()> {
    for name in names {
        OpenOptions::new().write(true).open(dir.join(name))?.sync_all()?;
    }
    sync_dir(dir)
}

/// Cuts a file, durably.
pub fn cut(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(bytes)?;
    file.sync_all()
}

/// Writing beside a log that must not wait: a step, then a rest at least as long, and never more than a fixed number of bytes a second; until
/// it is abandoned. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Background(Arc<AtomicBool>);

impl Background {
    /// What is being written is not wanted any more: its next write fails.
    pub fn abandon(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    /// True after `abandon`.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// How long to rest after a step of so many bytes that took so long.
    fn rest(bytes: u64, took: Duration) -> Duration {
        let at_full_rate = Duration::from_nanos(bytes * 1_000_000_000 / BACKGROUND_BYTES_PER_SECOND);
        at_full_rate.saturating_sub(took).max(took).min(REST_MAX)
    }
}

/// A file under a temporary name whose data is synced in steps.
#[derive(Debug)]
pub struct SteppedFile<'a> {
    file: File,
    background: Option<&'a Background>,
    since_sync: u64,
    step_began: Instant,
    written: u64,
}

impl SteppedFile<'_> {
    fn end_step(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        if self.background.is_some() {
            std::thread::sleep(Background::rest(self.since_sync, self.step_began.elapsed()));
        }
        self.since_sync = 0;
        self.step_began = Instant::now();
        Ok(())
    }
}

impl Write for SteppedFile<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.background.is_some_and(Background::is_abandoned) {
            return Err(io::Error::other("abandoned"));
        }
        let n = self.file.write(buf)?;
        self.since_sync += n as u64;
        self.written += n as u64;
        if self.since_sync >= if self.background.is_some() { BACKGROUND_STEP_BYTES } else { SYNC_STEP_BYTES } {
            self.end_step()?;
        }
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts a file in place whole or not at all: written as `temp`, fsynced, renamed to `name`, directory fsynced. On error nothing is left
/// behind and an older file of that name is untouched. Returns the size.
pub fn replace_file<E: From<io::Error>>(
    dir: &Path,
    temp: &str,
    name: &str,
    write: impl FnOnce(&mut SteppedFile<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    replace(dir, temp, name, None, write)
}

/// The same in the background; one that was abandoned in time is an error.
pub fn replace_file_in_background<E: From<io::Error>>(
    dir: &Path,
    temp: &str,
    name: &str,
    background: &Background,
    write: impl FnOnce(&mut SteppedFile<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    replace(dir, temp, name, Some(background), write)
}

fn replace<E: From<io::Error>>(
    dir: &Path,
    temp: &str,
    name: &str,
    background: Option<&Background>,
    write: impl FnOnce(&mut SteppedFile<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    let temp_path = dir.join(temp);
    let result = write_temp(&temp_path, background, write).and_then(|bytes| {
        rename(dir, temp, name)?;
        Ok(bytes)
    });
    if result.is_err() {
        // Best effort: start-up removes what is left.
        let _ = fs::remove_file(&temp_path);
    }
    result
}

fn write_temp<E: From<io::Error>>(
    path: &Path,
    background: Option<&Background>,
    write: impl FnOnce(&mut SteppedFile<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let mut stepped = SteppedFile { file, background, since_sync: 0, step_began: Instant::now(), written: 0 };
    write(&mut stepped)?;
    stepped.file.sync_all()?;
    Ok(stepped.written)
}

/// Holds a directory for this process. Released when dropped, or when the process ends in any way.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
    path: PathBuf,
}

impl DirLock {
    /// Locks `dir` through the file `name` in it. `Ok(None)`: another server holds it.
    pub fn acquire(dir: &Path, name: &str) -> io::Result<Option<Self>> {
        let path = dir.join(name);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(DirLock { _file: file, path })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
    /// The lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_that_fails_leaves_the_old_file_and_no_temporary() {
        let dir = tempfile::tempdir().expect("temp dir");
        let put = |text: &'static str, fail: bool| {
            replace_file(dir.path(), "tmp", "f", |w| -> io::Result<()> {
                w.write_all(text.as_bytes())?;
                if fail { Err(io::Error::other("planned")) } else { Ok(()) }
            })
        };
        assert_eq!(put("old", false).expect("written"), 3);
        assert!(put("new", true).is_err());
        assert_eq!(list(dir.path()).expect("listed"), [Entry { name: "f".into(), bytes: 3 }]);
        assert_eq!(fs::read(dir.path().join("f")).expect("read"), b"old");
        put("newer", false).expect("written");
        assert_eq!(fs::read(dir.path().join("f")).expect("read"), b"newer");
    }

    #[test]
    fn what_is_written_in_the_background_rests_as_long_as_it_works_and_keeps_its_rate_b2() {
        let (step, full_rate) = (BACKGROUND_STEP_BYTES, Duration::from_micros(15_625));
        let rest = |ms| Background::rest(step, Duration::from_millis(ms));
        assert_eq!(rest(0), full_rate);
        assert_eq!(rest(5) + Duration::from_millis(5), full_rate, "what the step took counts");
        assert_eq!(rest(100), Duration::from_millis(100), "a slow disk is left to others half of the time");
        assert_eq!(rest(10_000), REST_MAX);
        assert_eq!(Background::rest(3 * step, Duration::ZERO), 3 * full_rate, "larger steps rest longer");
    }

    #[test]
    fn a_file_abandoned_while_it_is_written_leaves_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let background = Background::default();
        let result = replace_file_in_background(dir.path(), "tmp", "f", &background, |w| -> io::Result<()> {
            w.write_all(b"begun")?;
            background.abandon();
            w.write_all(b"and never ended")
        });
        assert!(result.is_err() && background.is_abandoned());
        assert!(list(dir.path()).expect("listed").is_empty());
    }

    #[test]
    fn a_directory_is_locked_by_one_holder_at_a_time() {
        let dir = tempfile::tempdir().expect("temp dir");
        let first = DirLock::acquire(dir.path(), "lock").expect("io");
        assert!(first.is_some());
        assert!(DirLock::acquire(dir.path(), "lock").expect("io").is_none());
        drop(first);
        assert!(DirLock::acquire(dir.path(), "lock").expect("io").is_some());
    }

    #[test]
    fn removing_what_is_not_there_is_fine() {
        let dir = tempfile::tempdir().expect("temp dir");
        fs::write(dir.path().join("a"), b"").expect("written");
        remove(dir.path(), ["a", "b"]).expect("removed");
        assert!(list(dir.path()).expect("listed").is_empty());
    }
}

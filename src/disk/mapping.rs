//! Files that are written in place: log segments and the mark. Three ways to write with one interface: whole blocks past the page cache, a
//! copy into a memory map, or pwrite where neither works well.
//!
//! A mapped file is fully allocated, zero-filled and synced before it is mapped: a sparse one would kill the process with SIGBUS when the
//! disk is full. Nobody cuts a file while it is mapped; `LogFile::close` unmaps first.

use super::flush::{Flush, Tail};
use memmap2::{MmapMut, MmapOptions};
use rustix::fs::{Advice, OFlags, fadvise, fstatfs};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// How bytes get into a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogWriter {
    /// Collected in memory, then written in whole blocks past the page cache. Only a flush puts anything into the file.
    Direct,
    /// Copied into a memory map.
    Map,
    /// pwrite.
    Pwrite,
}

/// Why files in a directory are not mapped; they are written with pwrite instead (rule A21).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapRefusal {
    /// The file system.
    pub file_system: &'static str,
}

impl fmt::Display for MapRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the log is written with pwrite: memory maps are not used on {}", self.file_system)
    }
}

/// File systems on which a map is slow, wasteful or not durable through fdatasync: copy-on-write, stacked, in memory, over the network.
const NO_MAPS: [(u64, &str); 10] = [
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0x794c_7630, "overlayfs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x6573_5546, "fuse"),
    (0x0102_1997, "9p"),
];

/// Whether files in `dir` may be mapped.
pub fn map_refusal(dir: &Path) -> io::Result<Option<MapRefusal>> {
    let kind = fstatfs(File::open(dir)?)?.f_type as u64 & 0xffff_ffff;
    Ok(NO_MAPS.iter().find(|(magic, _)| *magic == kind).map(|(_, file_system)| MapRefusal { file_system }))
}

/// How far ahead of the append position pages of a mapped segment are read in, so that a copy does not wait for the disk.
const READ_AHEAD_BYTES: u64 = 1 << 20;

/// A request to read in a part of a file, done by a background thread.
#[derive(Debug)]
pub struct ReadAhead {
    file: Arc<File>,
    offset: u64,
}

impl ReadAhead {
    /// Asks the kernel for the pages. Failure only costs speed.
    pub fn perform(&self) {
        let _ = fadvise(&*self.file, self.offset, NonZeroU64::new(READ_AHEAD_BYTES), Advice::WillNeed);
    }
}

/// A log segment being written.
#[derive(Debug)]
pub struct LogFile {
    /// Open since before the first write, so that it sees every write-back error (a later descriptor would not).
    file: Arc<File>,
    to: Target,
    bytes: u64,
    path: PathBuf,
    ahead: Option<Sender<ReadAhead>>,
    read_until: u64,
}

/// Where an append goes.
#[derive(Debug)]
enum Target {
    Direct(Tail),
    Map(MmapMut),
    PageCache,
}

impl LogFile {
    /// Takes a file of `bytes` bytes that are allocated and zero on disk.
    pub(super) fn new(file: File, path: PathBuf, bytes: u64, writer: LogWriter) -> io::Result<Self> {
        let to = match writer {
            LogWriter::Direct => {
                let flags = OFlags::DIRECT | OFlags::DSYNC;
                Target::Direct(Tail::new(OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(&path)?)?)
            }
            LogWriter::Map => {
                let len = usize::try_from(bytes).map_err(|_| io::Error::other("segment does not fit in memory"))?;
                // SAFETY: the file is fully allocated and is this process's alone (the directory is locked); it is cut only by `close`,
                // after the map is gone. The map is used through bounds-checked slices only.
                Target::Map(unsafe { MmapOptions::new().len(len).map_mut(&file)? })
            }
            LogWriter::Pwrite => Target::PageCache,
        };
        Ok(LogFile { file: Arc::new(file), to, bytes, path, ahead: None, read_until: 0 })
    }

    /// Reads pages in ahead of the writes, through the thread behind `ahead`.
    pub(super) fn set_read_ahead(&mut self, ahead: Sender<ReadAhead>) {
        if self.writer() == LogWriter::Map {
            self.ahead = Some(ahead);
            self.read_ahead_of(0);
        }
    }

    /// Puts `bytes` at `offset`, in a direct segment the end of the last write. Durable after a flush that was taken later, not before.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= self.bytes);
        let end = end.ok_or_else(|| io::Error::other(format!("write beyond the end of {}", self.path.display())))?;
        if end > self.read_until {
            self.read_ahead_of(end);
        }
        match &mut self.to {
            Target::Direct(tail) => tail.append(offset, bytes)?,
            Target::Map(map) => map[offset as usize..end as usize].copy_from_slice(bytes),
            Target::PageCache => self.file.write_all_at(bytes, offset)?,
        }
        Ok(())
    }

    /// What makes everything written so far durable, to be performed where blocking does no harm; one at a time.
    pub fn flush(&mut self) -> io::Result<Flush> {
        match &mut self.to {
            Target::Direct(tail) => tail.take(),
            Target::Map(_) | Target::PageCache => Ok(Flush::sync(Arc::clone(&self.file))),
        }
    }

    /// The flush has been performed.
    pub fn flushed(&mut self, flush: Flush) {
        if let Target::Direct(tail) = &mut self.to {
            tail.give_back(flush);
        }
    }

    /// Flushes at once.
    pub fn sync(&mut self) -> io::Result<()> {
        let mut flush = self.flush()?;
        flush.perform()?;
        self.flushed(flush);
        Ok(())
    }

    /// Asks for the window after the one `position` lies in, when it is entered.
    fn read_ahead_of(&mut self, position: u64) {
        let Some(ahead) = &self.ahead else { return };
        let from = position - position % READ_AHEAD_BYTES;
        for offset in [from, from + READ_AHEAD_BYTES] {
            // Fails only when the thread is gone, that is when the server stops.
            let _ = ahead.send(ReadAhead { file: Arc::clone(&self.file), offset });
        }
        self.read_until = from + READ_AHEAD_BYTES;
    }

    /// Where the file was created; it may have been renamed since.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Its size.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
    /// How it is written.
    #[must_use]
    pub const fn writer(&self) -> LogWriter {
        match self.to {
            Target::Direct(_) => LogWriter::Direct,
            Target::Map(_) => LogWriter::Map,
            Target::PageCache => LogWriter::Pwrite,
        }
    }

    /// Unmaps, cuts to `used_bytes`, fsyncs (rule A20).
    pub fn close(self, used_bytes: u64) -> io::Result<()> {
        assert!(used_bytes <= self.bytes, "a segment is never extended");
        drop(self.to);
        self.file.set_len(used_bytes)?;
        self.file.sync_all()
    }
}

/// The mark file: two slots that are overwritten in turn.
#[derive(Debug)]
pub struct MarkFile {
    file: File,
    map: Option<MmapMut>,
}

impl MarkFile {
    /// Opens an existing mark file of at least `bytes` bytes.
    pub fn open(path: &Path, bytes: usize, mapped: bool) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if (file.metadata()?.len() as usize) < bytes {
            return Err(io::Error::other(format!("{} is too short", path.display())));
        }
        // SAFETY: as for `LogFile::new`; the file was written in full before, and is never cut.
        let map = if mapped { Some(unsafe { MmapOptions::new().len(bytes).map_mut(&file)? }) } else { None };
        Ok(MarkFile { file, map })
    }
    /// Overwrites a part; durable some time later, or after `sync_handle` has been synced.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match &mut self.map {
            Some(map) => {
                let at = offset as usize;
                let slot = map.get_mut(at..at + bytes.len()).ok_or_else(|| io::Error::other("write beyond the end of the mark file"))?;
                slot.copy_from_slice(bytes);
                Ok(())
            }
            None => self.file.write_all_at(bytes, offset),
        }
    }
    /// A descriptor for another thread to sync.
    pub fn sync_handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

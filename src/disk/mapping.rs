//! Files that are written in place: log segments and the mark. Two ways to write with one interface: a copy into a memory map, or pwrite
//! where maps do not work well.
//!
//! A mapped file is fully allocated, zero-filled and synced before it is mapped: a sparse one would kill the process with SIGBUS when the
//! disk is full. Nobody cuts a file while it is mapped; `LogFile::close` unmaps first.

use memmap2::{MmapMut, MmapOptions};
use rustix::fs::{Advice, fadvise, fstatfs};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;

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
    map: Option<MmapMut>,
    bytes: u64,
    path: PathBuf,
    ahead: Option<Sender<ReadAhead>>,
    read_until: u64,
}

impl LogFile {
    /// Takes a file of `bytes` bytes that are allocated and zero on disk.
    pub(super) fn new(file: File, path: PathBuf, bytes: u64, mapped: bool) -> io::Result<Self> {
        let map = if mapped {
            let len = usize::try_from(bytes).map_err(|_| io::Error::other("segment does not fit in memory"))?;
            // SAFETY: the file is fully allocated and is this process's alone (the directory is locked); it is cut only by `close`, after
            // the map is gone. The map is used through bounds-checked slices only.
            Some(unsafe { MmapOptions::new().len(len).map_mut(&file)? })
        } else {
            None
        };
        Ok(LogFile { file: Arc::new(file), map, bytes, path, ahead: None, read_until: 0 })
    }

    /// Reads pages in ahead of the writes, through the thread behind `ahead`.
    pub(super) fn set_read_ahead(&mut self, ahead: Sender<ReadAhead>) {
        if self.map.is_some() {
            self.ahead = Some(ahead);
            self.read_ahead_of(0);
        }
    }

    /// Puts `bytes` at `offset`. Durable after an fdatasync of `as_fd`, not before.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= self.bytes);
        let end = end.ok_or_else(|| io::Error::other(format!("write beyond the end of {}", self.path.display())))?;
        if end > self.read_until {
            self.read_ahead_of(end);
        }
        match &mut self.map {
            Some(map) => map[offset as usize..end as usize].copy_from_slice(bytes),
            None => self.file.write_all_at(bytes, offset)?,
        }
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

    /// The descriptor to fdatasync.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
    /// fdatasync by a blocking call.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
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
    /// True for a memory map, false for pwrite.
    #[must_use]
    pub const fn is_mapped(&self) -> bool {
        self.map.is_some()
    }

    /// Unmaps, cuts to `used_bytes`, fsyncs (rule A20).
    pub fn close(mut self, used_bytes: u64) -> io::Result<()> {
        assert!(used_bytes <= self.bytes, "a segment is never extended");
        drop(self.map.take());
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

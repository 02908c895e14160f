//! Making what was written to a segment durable: a `Flush` goes to a thread that may block, is performed there, and comes back to its segment.
//!
//! With maps and pwrite the bytes are in the page cache by then, and a flush is fdatasync. A direct segment keeps them in memory of its own,
//! and a flush is one write of whole blocks with O_DIRECT and O_DSYNC. Measured on ext4 over virtio, that takes two thirds of the time of a
//! copy into a map and fdatasync, and of the processor's work too: no page becomes dirty, is protected again and faulted in by the next append.

use memmap2::MmapMut;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Alignment and granularity of segments and of what is written with O_DIRECT; no device has larger sectors.
pub(super) const BLOCK_BYTES: u64 = 4096;
/// First size of a segment's buffer, and the largest that is kept for the next group.
const BUFFER_BYTES: usize = 256 << 10;

/// What a flush has to do; for a thread that may block.
#[derive(Debug)]
pub struct Flush(Work);

#[derive(Debug)]
enum Work {
    Sync(Arc<File>),
    Write { file: Arc<File>, buffer: MmapMut, at: u64, bytes: usize },
}

impl Flush {
    /// Of what is in the page cache.
    pub(super) fn sync(file: Arc<File>) -> Self {
        Flush(Work::Sync(file))
    }

    /// Returns when everything written before the flush was taken is on stable storage. After an error nothing is known (L12).
    pub fn perform(&mut self) -> io::Result<()> {
        match &self.0 {
            Work::Sync(file) => file.sync_data(),
            Work::Write { file, buffer, at, bytes } => file.write_all_at(&buffer[..*bytes], *at),
        }
    }
}

/// The end of a segment that is written directly: the bytes that no flush has taken, behind those that share their first block.
#[derive(Debug)]
pub(super) struct Tail {
    /// Open with O_DIRECT and O_DSYNC.
    file: Arc<File>,
    /// Begins with a block; an anonymous map, because O_DIRECT wants memory that is aligned as the file is.
    buffer: MmapMut,
    /// Place of the buffer in the file.
    at: u64,
    /// Used bytes of the buffer.
    bytes: usize,
    /// For the next group, while this one is written.
    spare: Option<MmapMut>,
}

impl Tail {
    /// Of an empty segment.
    pub(super) fn new(file: File) -> io::Result<Self> {
        Ok(Tail { file: Arc::new(file), buffer: MmapMut::map_anon(BUFFER_BYTES)?, at: 0, bytes: 0, spare: None })
    }

    /// Appends; `offset` is where the last append ended.
    pub(super) fn append(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if offset != self.at + self.bytes as u64 {
            return Err(io::Error::other("a segment is written from front to back"));
        }
        let end = self.bytes + bytes.len();
        if end > self.buffer.len() {
            let mut larger = MmapMut::map_anon(end.next_power_of_two())?;
            larger[..self.bytes].copy_from_slice(&self.buffer[..self.bytes]);
            self.buffer = larger;
        }
        self.buffer[self.bytes..end].copy_from_slice(bytes);
        self.bytes = end;
        Ok(())
    }

    /// Everything appended, in whole blocks; the next group begins with the last block once more unless it is full.
    pub(super) fn take(&mut self) -> io::Result<Flush> {
        let full = self.bytes - self.bytes % BLOCK_BYTES as usize;
        let mut next = self.spare.take().map_or_else(|| MmapMut::map_anon(BUFFER_BYTES), Ok)?;
        next[..self.bytes - full].copy_from_slice(&self.buffer[full..self.bytes]);
        let mut buffer = std::mem::replace(&mut self.buffer, next);
        let bytes = self.bytes.next_multiple_of(BLOCK_BYTES as usize);
        buffer[self.bytes..bytes].fill(0);
        let flush = Flush(Work::Write { file: Arc::clone(&self.file), buffer, at: self.at, bytes });
        self.at += full as u64;
        self.bytes -= full;
        Ok(flush)
    }

    /// Takes the buffer of a performed flush back.
    pub(super) fn give_back(&mut self, flush: Flush) {
        if let Work::Write { buffer, .. } = flush.0
            && buffer.len() <= BUFFER_BYTES
        {
            self.spare = Some(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt;

    fn performed(tail: &mut Tail, mut flush: Flush) {
        flush.perform().expect("written");
        tail.give_back(flush);
    }

    proptest! {
        #[test]
        fn what_was_appended_is_in_the_file_after_its_flush_whatever_the_groups(
            groups in prop::collection::vec(prop::collection::vec(1usize..6000, 1..4), 1..12),
            large in 0usize..(2 * BUFFER_BYTES),
        ) {
            // Not opened with O_DIRECT: that is the file system's part, and temporary ones refuse it.
            let file = tempfile::tempfile().expect("a file");
            let mut tail = Tail::new(file.try_clone().expect("a descriptor")).expect("memory");
            let (mut expected, mut under_way) = (Vec::new(), None);
            for (n, group) in groups.iter().chain([&vec![large]]).enumerate() {
                for size in group {
                    let bytes = vec![n as u8 + 1; *size];
                    tail.append(expected.len() as u64, &bytes).expect("appended");
                    expected.extend_from_slice(&bytes);
                }
                // The group before is written while this one grows.
                if let Some(flush) = under_way.take() {
                    performed(&mut tail, flush);
                }
                under_way = Some(tail.take().expect("memory"));
            }
            performed(&mut tail, under_way.expect("the last group"));
            let length = file.metadata().expect("known").len() as usize;
            prop_assert_eq!(length, expected.len().next_multiple_of(BLOCK_BYTES as usize));
            let mut found = vec![0xff; length];
            file.read_exact_at(&mut found, 0).expect("read");
            prop_assert_eq!(&found[..expected.len()], &expected[..]);
            prop_assert!(found[expected.len()..].iter().all(|b| *b == 0), "zeros behind the last record");
        }
    }

    #[test]
    fn only_the_end_is_written() {
        let mut tail = Tail::new(tempfile::tempfile().expect("a file")).expect("memory");
        tail.append(0, b"ab").expect("appended");
        assert!(tail.append(1, b"x").is_err());
        assert!(tail.append(3, b"x").is_err());
        tail.append(2, b"c").expect("appended");
    }
}

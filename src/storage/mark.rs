//! The durable mark: a note beside the log that says up to where a flush had completed (rules D3, A22, A23).
//!
//! An aid, never a verdict: it helps to tell a torn tail from damage, and a missing, stale or foreign mark only means that recovery
//! decides by the log alone, more strictly. Of the two slots, each with its own checksum, one is always whole and durable: only the other is
//! written, until a flush has made that the durable one (`MarkWriter`).

use crate::base::checksum::{Crc32, adler32};
use crate::base::{Reader, Writer, Zxid};
use crate::record::epochs::{Epochs, StoredEpoch};

/// Distance of the slots; each lies in a sector of its own.
pub const MARK_SLOT_BYTES: usize = 512;
/// Size of the mark file.
pub const MARK_FILE_BYTES: usize = 2 * MARK_SLOT_BYTES;
/// "zoomark2": layout and version.
const MAGIC: u64 = 0x7a6f_6f6d_6172_6b32;
/// Ten numbers of eight bytes.
const BODY_BYTES: usize = 10 * 8;

/// What a completed flush covered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// First zxid, that is the name, of the log file.
    pub file: Zxid,
    /// The dbid in that file's header: another one means that the file is not the one meant here.
    pub dbid: i64,
    /// End of the last durable record.
    pub offset: u64,
    /// Its zxid.
    pub zxid: Zxid,
    /// Adler-32 of its payload.
    pub adler: u32,
    /// At most so many bytes were ever written beyond a durable position by the run that has this dbid.
    pub unsynced_bytes_max: u64,
    /// The epochs this server had accepted and followed, or was about to. An epoch file that says more was written by another server, which
    /// may have truncated our files as its leader told it.
    pub epochs: Epochs,
}

impl Mark {
    /// The mark of a run that flushes nothing (`forceSync=no`): it vouches for no record, and anything may be missing after a crash.
    #[must_use]
    pub fn nothing_flushed(self) -> Self {
        Mark { offset: 0, adler: 0, unsynced_bytes_max: u64::MAX, ..self }
    }
    /// Whether it still means this directory, whose epoch files say `found` (rule A23). A server of ours raises the epochs in its mark, durably,
    /// before it writes an epoch file; then only others are ever ahead of the mark. Times of files say nothing: both write epoch files.
    #[must_use]
    pub fn is_of(&self, found: &Epochs) -> bool {
        found.within(&self.epochs)
    }
    /// Whether it says that something is durable.
    #[must_use]
    pub const fn vouches(&self) -> bool {
        self.offset > 0
    }

    /// What stands in a slot that holds the `sequence`-th mark.
    #[must_use]
    pub fn slot(&self, sequence: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(BODY_BYTES + 4);
        out.put_i64(MAGIC as i64);
        out.put_i64(sequence as i64);
        out.put_i64(self.file.as_i64());
        out.put_i64(self.dbid);
        out.put_i64(self.offset as i64);
        out.put_i64(self.zxid.as_i64());
        out.put_i64(i64::from(self.adler));
        out.put_i64(self.unsynced_bytes_max as i64);
        out.put_i64(self.epochs.accepted.0);
        out.put_i64(self.epochs.current.0);
        let sum = checksum(&out);
        out.put_i32(sum as i32);
        out
    }

    /// The content of a mark file that says this, or nothing. A run's own marks go to the other slot first, and are newer.
    #[must_use]
    pub fn file(mark: Option<&Mark>) -> Vec<u8> {
        let mut content = mark.map_or_else(Vec::new, |mark| mark.slot(0));
        content.resize(MARK_FILE_BYTES, 0);
        content
    }

    /// The newest mark in a mark file, with its sequence number; `None` when no slot is whole.
    #[must_use]
    pub fn read(file: &[u8]) -> Option<(u64, Mark)> {
        file.chunks(MARK_SLOT_BYTES).take(2).filter_map(read_slot).max_by_key(|(sequence, _)| *sequence)
    }
}

fn checksum(body: &[u8]) -> u32 {
    let mut crc = Crc32::new();
    crc.update(body);
    crc.value() ^ adler32(body)
}

fn read_slot(slot: &[u8]) -> Option<(u64, Mark)> {
    let mut r = Reader::new(slot);
    let mut next = || r.i64().ok().map(|v| v as u64);
    let (magic, sequence, file, dbid, offset, zxid, adler, unsynced_bytes_max) =
        (next()?, next()?, next()?, next()?, next()?, next()?, next()?, next()?);
    let epochs = Epochs { accepted: StoredEpoch(next()? as i64), current: StoredEpoch(next()? as i64) };
    let sum = r.i32().ok()? as u32;
    if magic != MAGIC || sum != checksum(slot.get(..BODY_BYTES)?) {
        return None;
    }
    let adler = u32::try_from(adler).ok()?;
    Some((sequence, Mark { file: Zxid(file), dbid: dbid as i64, offset, zxid: Zxid(zxid), adler, unsynced_bytes_max, epochs }))
}

/// Decides where marks are written while a log runs.
///
/// Marks are written without a flush, and a crash may leave anything of what was not flushed, half a slot included. So the slot that is certainly
/// on disk is never written; it is given up for the other one when that has been flushed as it stands, which is why nothing is written while
/// a flush is under way. Between two flushes a crash leaves a mark that is at least as new as the one flushed last: of the run whose files have
/// names, and with the epochs that have been raised.
#[derive(Debug, Default)]
pub struct MarkWriter {
    sequence: u64,
    /// The slot that is on disk; recovery leaves its mark in the first one.
    durable: usize,
    /// The other one was written since the last flush.
    is_written: bool,
    flushes: u32,
}

impl MarkWriter {
    /// Nothing may be written now.
    #[must_use]
    pub const fn is_flushing(&self) -> bool {
        self.flushes > 0
    }
    /// The place in the file and the bytes of a mark. Precondition: no flush is under way.
    pub fn write(&mut self, mark: &Mark) -> (u64, Vec<u8>) {
        assert!(!self.is_flushing(), "a mark is written while it is flushed");
        self.sequence += 1;
        self.is_written = true;
        (((1 - self.durable) * MARK_SLOT_BYTES) as u64, mark.slot(self.sequence))
    }
    /// A flush of the mark file is asked for.
    pub const fn flush(&mut self) {
        self.flushes += 1;
    }
    /// It has been done.
    pub fn flushed(&mut self) {
        assert!(self.is_flushing(), "a flush of the mark that was not asked for");
        self.flushes -= 1;
        if std::mem::take(&mut self.is_written) {
            self.durable = 1 - self.durable;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(offset: u64) -> Mark {
        Mark { file: Zxid(5), dbid: -77, offset, zxid: Zxid(9), adler: 0xfedc_ba98, unsynced_bytes_max: 1 << 24, epochs: epochs(8, 7) }
    }

    fn epochs(accepted: i64, current: i64) -> Epochs {
        Epochs { accepted: StoredEpoch(accepted), current: StoredEpoch(current) }
    }

    #[test]
    fn a_mark_is_void_once_somebody_went_on_to_an_epoch_it_does_not_know_a23() {
        for (found, of) in [((8, 7), true), ((8, 8), false), ((9, 7), false), ((7, 7), true), ((-1, -1), true)] {
            assert_eq!(mark(100).is_of(&epochs(found.0, found.1)), of, "{found:?}");
        }
        assert!(!Mark { epochs: Epochs::NONE, ..mark(100) }.is_of(&epochs(0, 0)), "a server that stands alone has no epoch files");
    }

    fn file_of(marks: &[(u64, Mark)]) -> Vec<u8> {
        let mut file = vec![0; MARK_FILE_BYTES];
        for (sequence, m) in marks {
            put(&mut file, ((sequence % 2) * MARK_SLOT_BYTES as u64, m.slot(*sequence)));
        }
        file
    }

    fn put(file: &mut [u8], (at, bytes): (u64, Vec<u8>)) {
        file[at as usize..][..bytes.len()].copy_from_slice(&bytes);
    }

    /// A23: after a power failure every slot holds any of what was written to it since it was flushed, or half of it.
    #[test]
    fn whatever_a_crash_leaves_there_is_a_mark_at_least_as_new_as_the_one_flushed_last() {
        let mut writer = MarkWriter::default();
        let mut file = Mark::file(Some(&mark(0)));
        for round in 1..6 {
            for step in 1..4 {
                let (at, bytes) = writer.write(&mark(10 * round + step));
                let mut torn = file.clone();
                torn[at as usize + 40] ^= 1;
                assert_eq!(Mark::read(&torn).expect("the other slot").1.offset, if round == 1 { 0 } else { 10 * round - 7 });
                put(&mut file, (at, bytes));
                assert_eq!(Mark::read(&file).expect("whole").1.offset, 10 * round + step);
            }
            writer.flush();
            writer.flush();
            writer.flushed();
            assert!(writer.is_flushing());
            writer.flushed();
        }
    }

    #[test]
    fn the_newest_whole_slot_wins() {
        let file = file_of(&[(6, mark(100)), (7, mark(200))]);
        assert_eq!(Mark::read(&file), Some((7, mark(200))));
        let file = file_of(&[(8, mark(300)), (7, mark(200))]);
        assert_eq!(Mark::read(&file), Some((8, mark(300))));
    }

    #[test]
    fn a_slot_torn_or_flipped_anywhere_leaves_the_other_one() {
        let good = file_of(&[(6, mark(100)), (7, mark(200))]);
        for byte in 0..BODY_BYTES + 4 {
            let mut bad = good.clone();
            bad[MARK_SLOT_BYTES + byte] ^= 0x10;
            assert_eq!(Mark::read(&bad), Some((6, mark(100))), "byte {byte}");
        }
        assert_eq!(Mark::read(&[]), None);
        assert_eq!(Mark::read(&[0; MARK_FILE_BYTES]), None);
    }
}

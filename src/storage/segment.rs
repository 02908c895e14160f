//! Reading ZooKeeper records out of one log file, front to back, from any `Read`, with a buffer that never exceeds one record and a
//! read-ahead. Says where the good records end and what lies behind; what that *means* is decided in `recover`.

use super::format::{FILE_HEADER_BYTES, FileHeader, LOG_MAGIC};
use crate::base::checksum::Adler32Index;
use crate::base::{Reader, Zxid};
use crate::record::TxnHeader;
use crate::record::frame::{FrameError, RECORD_OVERHEAD, RECORD_PREFIX, read_frame, split_frame};
use crate::record::header::TXN_HEADER_BYTES;
use std::fmt;
use std::io::{self, Read};

/// Bytes asked for at a time.
const READ_BYTES: usize = 256 << 10;

/// A good record and where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Of its first byte.
    pub offset: u64,
    /// Of the byte after it.
    pub end: u64,
    /// Adler-32 of the payload.
    pub adler: u32,
    /// Transaction header, body and digest.
    pub payload: &'a [u8],
    /// Its decoded header.
    pub header: TxnHeader,
    /// What follows it, as far as it has been read.
    behind: &'a [u8],
}

impl<'a> Record<'a> {
    /// Bodies of the transactions that follow, as far as they have been read. Nothing of them has been checked: for guesses only.
    pub fn bodies_behind(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.behind;
        std::iter::from_fn(move || {
            let (_, payload) = split_frame(rest).ok()?;
            rest = &rest[payload.len() + RECORD_OVERHEAD..];
            payload.get(TXN_HEADER_BYTES..)
        })
    }
}

/// Where good records end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stop {
    /// First byte that is not part of a good record.
    pub offset: u64,
    /// Why.
    pub why: StopReason,
}

/// Why reading stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopReason {
    /// The file ends exactly after a record.
    EndOfFile,
    /// The bytes there are not a record.
    Frame(FrameError),
    /// A record with a right checksum that is too short for a transaction header.
    NoTxnHeader,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopReason::EndOfFile => f.write_str("end of file"),
            StopReason::Frame(e) => e.fmt(f),
            StopReason::NoTxnHeader => f.write_str("a record too short for a transaction"),
        }
    }
}

/// What is wrong with the first 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderError {
    /// No bytes at all.
    Empty,
    /// Fewer than 16 bytes.
    Short(usize),
    /// Nothing but zeros in the whole file: it was allocated but nothing of it became durable.
    AllZero,
    /// Not a log.
    BadMagic(u32),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::Empty => f.write_str("the file is empty"),
            HeaderError::Short(n) => write!(f, "the file has only {n} bytes"),
            HeaderError::AllZero => f.write_str("the file holds only zeros"),
            HeaderError::BadMagic(m) => write!(f, "magic 0x{m:08x} is not that of a log"),
        }
    }
}

/// What lies behind the last good record of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rest {
    /// Nothing but zeros, or nothing at all.
    pub all_zero: bool,
    /// Start of the last whole record found at any position, if there is one whose zxid is above the last good one.
    pub last_record: Option<u64>,
    /// Size of the file.
    pub file_bytes: u64,
}

/// Reads one log file.
#[derive(Debug)]
pub struct RecordReader<R> {
    input: R,
    buf: Vec<u8>,
    /// Bytes of `buf` before this are consumed.
    start: usize,
    /// File offset of `buf[start]`.
    offset: u64,
    end_of_input: bool,
    last: Zxid,
}

impl<R: Read> RecordReader<R> {
    /// Reads the header. The outer error is of the input, the inner one of its content.
    pub fn open(mut input: R) -> io::Result<Result<(FileHeader, Self), HeaderError>> {
        let mut head = Vec::with_capacity(FILE_HEADER_BYTES);
        input.by_ref().take(FILE_HEADER_BYTES as u64).read_to_end(&mut head)?;
        let Some(header) = FileHeader::read(&head) else {
            return Ok(Err(if head.is_empty() { HeaderError::Empty } else { HeaderError::Short(head.len()) }));
        };
        if header.magic == LOG_MAGIC {
            let reader =
                RecordReader { input, buf: Vec::new(), start: 0, offset: FILE_HEADER_BYTES as u64, end_of_input: false, last: Zxid::ZERO };
            return Ok(Ok((header, reader)));
        }
        let all_zero = head.iter().all(|b| *b == 0) && skip_zeros(&mut input)?.is_empty();
        Ok(Err(if all_zero { HeaderError::AllZero } else { HeaderError::BadMagic(header.magic) }))
    }

    /// The next record, or where they end. After a `Stop` it stops there for ever.
    #[allow(clippy::should_implement_trait)] // It lends from its buffer.
    pub fn next(&mut self) -> io::Result<Result<Record<'_>, Stop>> {
        let mut need = RECORD_PREFIX;
        let found = loop {
            self.fill(need)?;
            match read_frame(&self.buf[self.start..]) {
                Err(FrameError::Incomplete(n)) if n > need && !self.end_of_input => need = n,
                Err(e) => return Ok(Err(self.stop(e))),
                Ok(frame) => break Found { whole: frame.len(), adler: frame.adler },
            }
        };
        Ok(self.take_record(found))
    }

    /// Looks at everything behind the last good record. Records are searched at every position, not only where the next one should be.
    pub fn examine_rest(mut self) -> io::Result<Rest> {
        let from = self.offset;
        let mut rest = self.buf.split_off(self.start);
        if rest.iter().all(|b| *b == 0) {
            let zeros = rest.len() as u64;
            let mut counting = Counting { input: &mut self.input, count: 0 };
            let tail = skip_zeros(&mut counting)?;
            if tail.is_empty() {
                return Ok(Rest { all_zero: true, last_record: None, file_bytes: from + zeros + counting.count });
            }
            // A record may begin with zeros (its checksum field does), so keep some in front.
            let skipped = zeros + counting.count - tail.len() as u64;
            let kept = skipped.min(RECORD_PREFIX as u64);
            rest = vec![0; kept as usize];
            rest.extend_from_slice(&tail);
            self.offset = from + skipped - kept;
        }
        self.input.read_to_end(&mut rest)?;
        let found = find_last_record(&rest, self.last);
        let file_bytes = self.offset + rest.len() as u64;
        Ok(Rest { all_zero: false, last_record: found.map(|at| self.offset + at as u64), file_bytes })
    }

    /// Zxid of the last good record; zero before the first.
    #[must_use]
    pub const fn last_zxid(&self) -> Zxid {
        self.last
    }

    fn take_record(&mut self, frame: Found) -> Result<Record<'_>, Stop> {
        let offset = self.offset;
        let payload = &self.buf[self.start + RECORD_PREFIX..self.start + frame.whole - 1];
        let Ok(header) = TxnHeader::read(&mut Reader::new(payload)) else {
            return Err(Stop { offset, why: StopReason::NoTxnHeader });
        };
        self.start += frame.whole;
        self.offset += frame.whole as u64;
        self.last = header.zxid;
        Ok(Record { offset, end: self.offset, adler: frame.adler, payload, header, behind: &self.buf[self.start..] })
    }

    fn stop(&self, e: FrameError) -> Stop {
        let at_end = self.end_of_input && self.start == self.buf.len();
        let why = if at_end { StopReason::EndOfFile } else { StopReason::Frame(e) };
        Stop { offset: self.offset, why }
    }

    /// Makes at least `need` unread bytes available, or reaches the end of the input.
    fn fill(&mut self, need: usize) -> io::Result<()> {
        if self.buf.len() - self.start >= need || self.end_of_input {
            return Ok(());
        }
        self.buf.drain(..self.start);
        self.start = 0;
        while self.buf.len() < need && !self.end_of_input {
            let want = READ_BYTES.max(need - self.buf.len()) as u64;
            let got = self.input.by_ref().take(want).read_to_end(&mut self.buf)?;
            self.end_of_input = (got as u64) < want;
        }
        Ok(())
    }
}

/// A good frame at the start of the unread bytes, without the borrow.
struct Found {
    whole: usize,
    adler: u32,
}

/// Counts what passes through.
struct Counting<R> {
    input: R,
    count: u64,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buf)?;
        self.count += n as u64;
        Ok(n)
    }
}

/// Reads over zeros; returns what was read from the first other byte on, empty at the end of the input.
fn skip_zeros(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; READ_BYTES];
    loop {
        let n = match input.read(&mut chunk) {
            Ok(0) => return Ok(Vec::new()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if let Some(at) = chunk[..n].iter().position(|b| *b != 0) {
            return Ok(chunk[at..n].to_vec());
        }
    }
}

/// Start of the last whole record in `bytes` whose zxid is above `after`, wherever it begins. What clients have written may look like the
/// beginnings of long records at every position, so no checksum may cost time of a record's length.
fn find_last_record(bytes: &[u8], after: Zxid) -> Option<usize> {
    let smallest = RECORD_OVERHEAD + TXN_HEADER_BYTES;
    let last_start = bytes.len().checked_sub(smallest)?;
    let sums = Adler32Index::new(bytes);
    let is_record = |at: usize| {
        let header = TxnHeader::read(&mut Reader::new(&bytes[at + RECORD_PREFIX..]));
        header.is_ok_and(|h| h.zxid > after)
            && split_frame(&bytes[at..]).is_ok_and(|(stored, payload)| {
                let start = at + RECORD_PREFIX;
                payload.len() >= TXN_HEADER_BYTES && stored == u64::from(sums.sum(start, start + payload.len()))
            })
    };
    // The upper half of the checksum field is zero: a cheap test that passes over most positions.
    (0..=last_start).rev().find(|&at| bytes[at..at + 4] == [0; 4] && is_record(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{SessionId, WallTime, Writer, Xid};
    use crate::record::frame::write_frame;

    fn payload(zxid: u64, extra: usize) -> Vec<u8> {
        let mut out = Vec::new();
        TxnHeader { session: SessionId(1), cxid: Xid(1), zxid: Zxid(zxid), time: WallTime(1), kind: -1 }.write(&mut out);
        out.put_raw(&vec![7; extra]);
        out
    }

    fn log(zxids: std::ops::RangeInclusive<u64>) -> Vec<u8> {
        let mut out = Vec::new();
        FileHeader::log(0).write(&mut out);
        for zxid in zxids {
            write_frame(&payload(zxid, 4), &mut out);
        }
        out
    }

    const RECORD: usize = 13 + 36;

    fn read_all(bytes: &[u8]) -> (Vec<u64>, Stop, Rest) {
        let (_, mut reader) = RecordReader::open(bytes).expect("io").expect("header");
        let mut seen = Vec::new();
        let stop = loop {
            match reader.next().expect("io") {
                Ok(record) => seen.push(record.header.zxid.0),
                Err(stop) => break stop,
            }
        };
        assert_eq!(reader.next().expect("io").expect_err("stopped").offset, stop.offset);
        (seen, stop, reader.examine_rest().expect("io"))
    }

    #[test]
    fn records_are_read_in_order_up_to_the_exact_end() {
        let bytes = log(1..=5);
        let (seen, stop, rest) = read_all(&bytes);
        assert_eq!(seen, [1, 2, 3, 4, 5]);
        assert_eq!(stop, Stop { offset: bytes.len() as u64, why: StopReason::EndOfFile });
        assert_eq!(rest, Rest { all_zero: true, last_record: None, file_bytes: bytes.len() as u64 });
    }

    #[test]
    fn records_larger_than_the_buffer_and_long_padding_are_read() {
        let mut bytes = log(1..=1);
        write_frame(&payload(2, 3 * READ_BYTES), &mut bytes);
        let end = bytes.len() as u64;
        bytes.resize(bytes.len() + 3 * READ_BYTES, 0);
        let (seen, stop, rest) = read_all(&bytes);
        assert_eq!(seen, [1, 2]);
        assert_eq!(stop, Stop { offset: end, why: StopReason::Frame(FrameError::ZeroLength) });
        assert_eq!(rest, Rest { all_zero: true, last_record: None, file_bytes: bytes.len() as u64 });
    }

    #[test]
    fn a_record_shows_the_bodies_behind_it_as_far_as_they_are_whole() {
        let mut bytes = log(1..=4);
        bytes[16 + 2 * RECORD + RECORD_PREFIX + TXN_HEADER_BYTES] = 8; // no longer what its checksum is of: here nobody asks
        bytes.truncate(bytes.len() - 1);
        let (_, mut reader) = RecordReader::open(&bytes[..]).expect("io").expect("header");
        let first = reader.next().expect("io").expect("a record");
        let bodies: Vec<&[u8]> = first.bodies_behind().collect();
        assert_eq!(bodies, [[7, 7, 7, 7], [8, 7, 7, 7]], "the last one is not whole");
        let second = reader.next().expect("io").expect("a record");
        assert_eq!(second.bodies_behind().count(), 1);
        assert!(reader.next().expect("io").is_err(), "what was shown is judged all the same");
    }

    #[test]
    fn a_whole_record_behind_a_bad_one_is_found_wherever_it_begins() {
        for junk in [0usize, 1, 5, 300_000] {
            let mut bytes = log(1..=2);
            let bad_at = 16 + RECORD;
            bytes[bad_at + 20] ^= 1;
            bytes.resize(bytes.len() + junk, 0);
            let at = bytes.len() as u64;
            write_frame(&payload(3, 0), &mut bytes);
            let (seen, stop, rest) = read_all(&bytes);
            assert_eq!(seen, [1]);
            assert_eq!(stop.offset, bad_at as u64);
            assert_eq!(rest, Rest { all_zero: false, last_record: Some(at), file_bytes: bytes.len() as u64 }, "junk {junk}");
        }
    }

    #[test]
    fn a_whole_record_behind_a_hole_of_zeros_is_found() {
        for hole in [RECORD, 4096, 1 << 20] {
            let mut bytes = log(1..=1);
            bytes.resize(bytes.len() + hole, 0);
            let at = bytes.len() as u64;
            write_frame(&payload(2, 0), &mut bytes);
            let (seen, stop, rest) = read_all(&bytes);
            assert_eq!((seen, stop.why), (vec![1], StopReason::Frame(FrameError::ZeroLength)));
            assert_eq!(rest.last_record, Some(at), "hole of {hole}");
            assert_eq!(rest.file_bytes, bytes.len() as u64);
        }
    }

    #[test]
    fn an_old_record_left_behind_is_not_taken_for_a_newer_one() {
        let mut bytes = log(5..=5);
        bytes.extend_from_slice(&[0; 13]);
        write_frame(&payload(4, 0), &mut bytes);
        assert_eq!(read_all(&bytes).2.last_record, None);
    }

    #[test]
    fn what_looks_like_long_records_everywhere_is_searched_in_bounded_time() {
        // Every 36 bytes a record of all that follows, whole but for its checksum: quadratic for whoever computes each.
        let mut bytes = log(1..=1);
        let stop = bytes.len();
        let size = 8 << 20;
        while bytes.len() < size {
            let left = size.saturating_sub(bytes.len() + RECORD_PREFIX) as i32;
            bytes.put_i64(1);
            bytes.put_i32(left.max(1));
            bytes.put_raw(&payload(9, 0)[..24]);
        }
        bytes.truncate(size);
        bytes.push(b'B');
        bytes[stop..stop + 12].fill(0xff);
        let (_, end, rest) = read_all(&bytes);
        assert_eq!((end.offset, rest.last_record), (stop as u64, None));
    }

    #[test]
    fn every_kind_of_bad_header_is_told_apart() {
        let open = |bytes: &[u8]| RecordReader::open(bytes).expect("io").map(|_| ()).expect_err("bad");
        assert_eq!(open(&[]), HeaderError::Empty);
        assert_eq!(open(&[0; 15]), HeaderError::Short(15));
        assert_eq!(open(&[0; 8208]), HeaderError::AllZero);
        let mut late = vec![0; 8208];
        late[8000] = 1;
        assert_eq!(open(&late), HeaderError::BadMagic(0));
        assert_eq!(open(b"ZKSN0000000000000"), HeaderError::BadMagic(0x5a4b_534e));
    }

    #[test]
    fn a_checksummed_record_that_is_no_transaction_stops_the_reader() {
        let mut bytes = log(1..=1);
        write_frame(b"short", &mut bytes);
        let (seen, stop, _) = read_all(&bytes);
        assert_eq!((seen, stop.why), (vec![1], StopReason::NoTxnHeader));
    }
}

//! Reading a snapshot file piece by piece: memory holds one piece, never the file, and whoever builds a tree from it can do so while the
//! rest is still being read. The price: what is built counts for nothing until `finish` has seen the last seal.

use super::format::{FILE_HEADER_BYTES, FileHeader, SNAPSHOT_MAGIC};
use super::snapshot::{ReadSections, SEAL_BYTES, SLASH, SnapshotDigest, SnapshotError};
use super::snapshot_body::BodyReader;
use crate::base::checksum::Adler32;
use crate::base::{DecodeError, Reader, Zxid};
use std::io::{self, Read};

/// Bytes asked for at a time.
const READ_BYTES: usize = 256 << 10;
/// All that may follow the body. Digests before version 2 are texts, so there is no exact length; nobody writes long ones.
const SECTIONS_BYTES_MAX: usize = 64 << 10;
/// Last-zxid section and its seal.
const LAST_ZXID_SECTION_BYTES: usize = 8 + SEAL_BYTES;

/// Where in the body the reader is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// Before sessions and ACL table.
    Tables,
    Nodes,
    /// Behind the end marker.
    Ended,
}

/// Reads one snapshot from its plain bytes (`decoder`).
pub struct SnapshotReader<R> {
    input: R,
    buf: Vec<u8>,
    /// Bytes of `buf` before this are consumed.
    start: usize,
    /// File offset of `buf[start]`.
    offset: usize,
    end_of_input: bool,
    /// Of everything consumed.
    sum: Adler32,
    part: Part,
}

impl<R: Read> SnapshotReader<R> {
    /// Reads the file header.
    pub fn open(input: R) -> Result<Self, SnapshotError> {
        let (buf, sum) = (Vec::with_capacity(2 * READ_BYTES), Adler32::new());
        let mut reader = SnapshotReader { input, buf, start: 0, offset: 0, end_of_input: false, sum, part: Part::Tables };
        reader.fill(FILE_HEADER_BYTES)?;
        if FileHeader::read(reader.unread()).is_none_or(|h| h.magic != SNAPSHOT_MAGIC) {
            return Err(SnapshotError::BadHeader);
        }
        reader.consume(FILE_HEADER_BYTES);
        Ok(reader)
    }

    /// The next whole entries of the body; the first piece begins with sessions and ACL table, the last ends with the end marker, and after
    /// it comes `None`. Their structure has been checked, their checksum not yet.
    pub fn next_piece(&mut self) -> Result<Option<&[u8]>, SnapshotError> {
        if self.part == Part::Ended {
            return Ok(None);
        }
        let mut need = READ_BYTES;
        loop {
            self.fill(need)?;
            let (part, whole, error) = measure(self.part, self.unread());
            if whole > 0 {
                self.part = part;
                return Ok(Some(self.consume(whole)));
            }
            match error {
                // Damage may look like an entry that has not ended yet: then it is read to the end of the file, at most.
                Some(error) if self.end_of_input || !may_be_incomplete(error) => {
                    return Err(SnapshotError::BadBody { offset: self.offset, error });
                }
                _ => need = 2 * self.unread().len().max(need),
            }
        }
    }

    /// Checks the seals, reads the sections and makes sure that nothing follows. The body must have been read to its end.
    pub fn finish(mut self) -> Result<ReadSections, SnapshotError> {
        assert!(self.part == Part::Ended, "the sections come after the body");
        self.fill(SECTIONS_BYTES_MAX + 1)?;
        if !self.end_of_input {
            return Err(SnapshotError::BadSeal { offset: self.offset + SECTIONS_BYTES_MAX });
        }
        Tail { r: Reader::new(self.unread()), base: self.offset, sum: self.sum.clone(), summed: 0 }.read()
    }

    fn unread(&self) -> &[u8] {
        &self.buf[self.start..]
    }

    fn consume(&mut self, bytes: usize) -> &[u8] {
        let piece = self.start..self.start + bytes;
        self.sum.update(&self.buf[piece.clone()]);
        self.start = piece.end;
        self.offset += bytes;
        &self.buf[piece]
    }

    /// Makes at least `need` unread bytes available, or reaches the end of the input. No more is asked for than has been seen twice over,
    /// whatever a damaged length says (rule S1).
    fn fill(&mut self, need: usize) -> io::Result<()> {
        if self.unread().len() >= need || self.end_of_input {
            return Ok(());
        }
        self.buf.drain(..self.start);
        self.start = 0;
        let want = (need - self.buf.len()) as u64;
        let got = self.input.by_ref().take(want).read_to_end(&mut self.buf)?;
        self.end_of_input = (got as u64) < want;
        Ok(())
    }
}

/// How many bytes of `bytes` are whole entries, the part of the body that follows them, and why there are not more.
fn measure(mut part: Part, bytes: &[u8]) -> (Part, usize, Option<DecodeError>) {
    let mut body = BodyReader::new(bytes);
    let mut whole = 0;
    loop {
        let more = match part {
            Part::Tables => body.skip_tables().map(|()| Part::Nodes),
            Part::Nodes => body.skip_node().map(|more| if more { Part::Nodes } else { Part::Ended }),
            Part::Ended => return (part, whole, None),
        };
        match more {
            Ok(next) => (part, whole) = (next, body.position()),
            Err(error) => return (part, whole, Some(error)),
        }
    }
}

fn may_be_incomplete(error: DecodeError) -> bool {
    matches!(error, DecodeError::Truncated) || matches!(error, DecodeError::BadLength(n) if n >= 0)
}

/// Everything behind the body.
struct Tail<'a> {
    r: Reader<'a>,
    /// File offset of its first byte.
    base: usize,
    sum: Adler32,
    /// How much of it is in `sum`.
    summed: usize,
}

impl Tail<'_> {
    /// Which sections there are is told by the number of bytes left; the seals prove it.
    fn read(mut self) -> Result<ReadSections, SnapshotError> {
        self.check_seal()?;
        let mut sections = ReadSections::default();
        if !self.r.is_empty() && self.r.remaining().len() != LAST_ZXID_SECTION_BYTES {
            sections.digest = Some(self.section(read_digest)?);
        }
        if self.r.remaining().len() == LAST_ZXID_SECTION_BYTES {
            sections.last_zxid = Some(self.section(|r| r.i64().map(Zxid::from_i64))?);
        }
        if self.r.is_empty() { Ok(sections) } else { Err(self.bad_seal()) }
    }

    fn section<T>(&mut self, read: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>) -> Result<T, SnapshotError> {
        let bad = self.bad_seal();
        let value = read(&mut self.r).map_err(|_| bad)?;
        self.check_seal()?;
        Ok(value)
    }

    fn check_seal(&mut self) -> Result<(), SnapshotError> {
        let bad = self.bad_seal();
        let covered = self.r.since(self.summed);
        self.sum.update(covered);
        self.summed += covered.len();
        let holds = match (self.r.i64(), self.r.take(SLASH.len())) {
            (Ok(stored), Ok(slash)) => stored == i64::from(self.sum.value()) && slash == SLASH,
            _ => false,
        };
        if holds { Ok(()) } else { Err(bad) }
    }

    fn bad_seal(&self) -> SnapshotError {
        SnapshotError::BadSeal { offset: self.base + self.r.position() }
    }
}

fn read_digest(r: &mut Reader<'_>) -> Result<SnapshotDigest, DecodeError> {
    let (zxid, version) = (Zxid::from_i64(r.i64()?), r.i32()?);
    // Versions before 2 wrote a text, which nothing compares any more.
    let digest = if version < 2 { r.buffer().map(|_| 0)? } else { r.i64()? as u64 };
    Ok(SnapshotDigest { zxid, version, digest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Writer;
    use crate::storage::format::Compression;
    use crate::storage::snapshot::{self, Sections, Snapshot};

    /// No sessions, no lists, and nodes with so many bytes of data each.
    fn file(data: &[usize]) -> Vec<u8> {
        let mut body = vec![0; 8];
        for (i, len) in data.iter().enumerate() {
            body.put_string(&if i == 0 { String::new() } else { format!("/n{i}") });
            body.put_buffer(Some(&vec![i as u8; *len]));
            body.put_raw(&[0; 8 + 60]);
        }
        body.put_string("/");
        let mut out = Vec::new();
        snapshot::write(&mut out, Compression::None, &Sections::default(), |sink| sink(&body)).expect("written");
        out
    }

    #[test]
    fn a_large_file_is_read_in_small_pieces_of_whole_entries() {
        let file = file(&vec![1000; 5000]);
        let mut reader = SnapshotReader::open(&file[..]).expect("a header");
        let (mut body, mut pieces) = (Vec::new(), 0);
        while let Some(piece) = reader.next_piece().expect("good") {
            assert!(piece.len() <= READ_BYTES, "a piece of {}", piece.len());
            pieces += 1;
            body.extend_from_slice(piece);
            assert!(reader.buf.capacity() <= 4 * READ_BYTES, "{} bytes are kept", reader.buf.capacity());
        }
        assert!(pieces > 15, "{pieces} pieces");
        assert_eq!(reader.finish().expect("sealed"), ReadSections::default());
        assert_eq!(body, Snapshot::parse(&file).expect("good").body());
    }

    #[test]
    fn an_entry_larger_than_the_buffer_is_one_piece() {
        let file = file(&[0, 10, 3 * READ_BYTES, 10]);
        let mut reader = SnapshotReader::open(&file[..]).expect("a header");
        let mut largest = 0;
        while let Some(piece) = reader.next_piece().expect("good") {
            largest = largest.max(piece.len());
        }
        assert!(largest > 3 * READ_BYTES);
        reader.finish().expect("sealed");
    }

    #[test]
    fn a_length_beyond_the_file_is_refused_with_the_place_of_its_entry() {
        let mut file = file(&[0, 10, 10]);
        let first = FILE_HEADER_BYTES + 8;
        let second = first + 4 + 4 + 68;
        file[second + 4 + 3..second + 4 + 7].copy_from_slice(&i32::MAX.to_be_bytes());
        let mut reader = SnapshotReader::open(&file[..]).expect("a header");
        assert_eq!(reader.next_piece().expect("the root is good").map(<[u8]>::len), Some(second - FILE_HEADER_BYTES));
        match reader.next_piece() {
            Err(SnapshotError::BadBody { offset, error: DecodeError::BadLength(i32::MAX) }) => assert_eq!(offset, second),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_follows_the_sections_is_bounded() {
        let mut file = file(&[0]);
        file.resize(file.len() + 10 * SECTIONS_BYTES_MAX, 0);
        let mut reader = SnapshotReader::open(&file[..]).expect("a header");
        while reader.next_piece().expect("good").is_some() {}
        assert!(matches!(reader.finish(), Err(SnapshotError::BadSeal { .. })));
    }
}

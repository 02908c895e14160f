//! Snapshot files: header, body, seals, optional sections, plain or compressed (layout in `format`).
//!
//! Knows where the body begins and ends, and that the checksums hold. What the body means is the tree's business: it is written by a closure
//! and handed out as bytes. How a file is read, piece by piece, is in `snapshot_read`.

use super::format::{Compression, FILE_HEADER_BYTES, FileHeader, SNAPSHOT_MAGIC};
pub use super::snapshot_read::SnapshotReader;
use super::xerial::{XerialReader, XerialWriter};
use crate::base::checksum::Adler32;
use crate::base::{DecodeError, Writer, Zxid};
use crate::record::TxnDigest;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::fmt;
use std::io::{self, BufWriter, Read, Write};

/// Bytes of a seal: checksum and the string "/".
pub const SEAL_BYTES: usize = 8 + 4 + 1;
/// The string "/": end of the nodes, and the end of each seal.
pub(super) const SLASH: &[u8] = b"\0\0\0\x01/";

/// The two optional sections. A default 3.9 server wants both; one with other flags rejects files with the wrong ones, and none of them
/// rejects a file with neither (storage format 4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sections {
    /// The tree's digest and the zxid it belongs to.
    pub digest: Option<(Zxid, TxnDigest)>,
    /// The last transaction in the image.
    pub last_zxid: Option<Zxid>,
}

/// What a snapshot's body is written to.
pub type Sink<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// Writes a whole snapshot to `out`. `body` writes sessions, ACL table, nodes and the end marker, in pieces of any size.
pub fn write(
    out: impl Write,
    compression: Compression,
    sections: &Sections,
    body: impl FnOnce(&mut Sink<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut sealed = Sealed { out: Encoder::new(out, compression)?, sum: Adler32::new() };
    let mut head = Vec::new();
    FileHeader::snapshot().write(&mut head);
    sealed.put(&head)?;
    body(&mut |piece| sealed.put(piece))?;
    sealed.seal()?;
    let mut section = Vec::new();
    if let Some((zxid, digest)) = &sections.digest {
        section.put_i64(zxid.as_i64());
        digest.write(&mut section);
        sealed.put(&section)?;
        sealed.seal()?;
    }
    if let Some(zxid) = sections.last_zxid {
        sealed.put(&zxid.as_i64().to_be_bytes())?;
        sealed.seal()?;
    }
    sealed.out.finish()
}

struct Sealed<W: Write> {
    out: Encoder<W>,
    /// Of everything written so far, seals included.
    sum: Adler32,
}

impl<W: Write> Sealed<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.out.write_all(bytes)
    }
    fn seal(&mut self) -> io::Result<()> {
        let mut seal = Vec::with_capacity(SEAL_BYTES);
        seal.put_i64(i64::from(self.sum.value()));
        seal.put_raw(SLASH);
        self.put(&seal)
    }
}

#[allow(clippy::large_enum_variant)] // One at a time, on the stack of one function.
enum Encoder<W: Write> {
    Plain(BufWriter<W>),
    Gzip(BufWriter<GzEncoder<W>>),
    Snappy(XerialWriter<W>),
}

/// Enough to make one system call per many nodes.
const WRITE_BUFFER_BYTES: usize = 256 << 10;

impl<W: Write> Encoder<W> {
    fn new(out: W, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Encoder::Plain(BufWriter::with_capacity(WRITE_BUFFER_BYTES, out)),
            Compression::Gzip => {
                Encoder::Gzip(BufWriter::with_capacity(WRITE_BUFFER_BYTES, GzEncoder::new(out, flate2::Compression::default())))
            }
            Compression::Snappy => Encoder::Snappy(XerialWriter::new(out)?),
        })
    }
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Encoder::Plain(w) => w.write_all(bytes),
            Encoder::Gzip(w) => w.write_all(bytes),
            Encoder::Snappy(w) => w.write_all(bytes),
        }
    }
    fn finish(self) -> io::Result<()> {
        match self {
            Encoder::Plain(mut w) => w.flush(),
            Encoder::Gzip(w) => w.into_inner().map_err(io::IntoInnerError::into_error)?.finish()?.flush(),
            Encoder::Snappy(w) => w.finish()?.flush(),
        }
    }
}

/// Why a snapshot file is not valid.
#[derive(Debug)]
pub enum SnapshotError {
    /// It could not be read, or not be decompressed.
    Io(io::Error),
    /// Its first bytes are not those of a snapshot.
    BadHeader,
    /// The body is not a sequence of sessions, lists and nodes; where it stops being one.
    BadBody {
        /// In the plain bytes.
        offset: usize,
        /// Why.
        error: DecodeError,
    },
    /// A checksum does not hold, or a section is not what it should be.
    BadSeal {
        /// In the plain bytes.
        offset: usize,
    },
}

impl From<io::Error> for SnapshotError {
    fn from(e: io::Error) -> Self {
        SnapshotError::Io(e)
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Io(e) => write!(f, "cannot be read: {e}"),
            SnapshotError::BadHeader => f.write_str("is not a snapshot (wrong magic, or too short)"),
            SnapshotError::BadBody { offset, error } => write!(f, "is damaged at offset {offset}: {error}"),
            SnapshotError::BadSeal { offset } => write!(f, "has a checksum at offset {offset} that does not hold"),
        }
    }
}
impl std::error::Error for SnapshotError {}

/// The digest section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotDigest {
    /// The zxid whose state has this digest. In a fuzzy image it may be above the one in the name; 0 means unknown.
    pub zxid: Zxid,
    /// Algorithm.
    pub version: i32,
    /// Sum of node digests; 0 for versions below 2, which hold a text instead.
    pub digest: u64,
}

/// The optional sections of a snapshot that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReadSections {
    /// Digest section, if there is one.
    pub digest: Option<SnapshotDigest>,
    /// Last-zxid section, if there is one.
    pub last_zxid: Option<Zxid>,
}

impl ReadSections {
    /// The zxid from which on the image is exact, when that is known: nothing newer than it can be in the image (rule A12). An image that is
    /// exact at the zxid of its name has that zxid in every section.
    #[must_use]
    pub fn exact_from(&self) -> Option<Zxid> {
        let from_digest = self.digest.map(|d| d.zxid).filter(|z| *z != Zxid::ZERO);
        from_digest.max(self.last_zxid)
    }
}

/// A verified snapshot, decompressed and whole in memory: for tools. A server reads its own by `SnapshotReader`.
#[derive(Debug)]
pub struct Snapshot {
    body: Vec<u8>,
    /// What follows the body.
    pub sections: ReadSections,
}

impl Snapshot {
    /// Reads a snapshot file, checking its structure and every seal.
    pub fn read(file: impl Read + Send, compression: Compression) -> Result<Self, SnapshotError> {
        let mut reader = SnapshotReader::open(decoder(file, compression)?)?;
        let mut body = Vec::new();
        while let Some(piece) = reader.next_piece()? {
            body.extend_from_slice(piece);
        }
        Ok(Snapshot { sections: reader.finish()?, body })
    }

    /// From the plain bytes of a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, SnapshotError> {
        Self::read(bytes, Compression::None)
    }

    /// Sessions, ACL table, nodes, end marker.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// Checks the seal of a whole file without keeping it in memory: the last seal covers everything before it, earlier seals included. Used where a
/// snapshot only has to be known as whole, as before a purge.
pub fn verify_stream(file: impl Read + Send, compression: Compression) -> Result<(), SnapshotError> {
    const CHUNK: usize = 256 << 10;
    let mut input = decoder(file, compression)?;
    let mut buf = Vec::with_capacity(CHUNK + SEAL_BYTES);
    let mut sum = Adler32::new();
    let mut seen = 0usize;
    loop {
        let got = input.by_ref().take(CHUNK as u64).read_to_end(&mut buf)?;
        if seen == 0 && FileHeader::read(&buf).is_none_or(|h| h.magic != SNAPSHOT_MAGIC) {
            return Err(SnapshotError::BadHeader);
        }
        seen += got;
        if got == 0 {
            break;
        }
        // The last bytes read so far may be the seal.
        let covered = buf.len().saturating_sub(SEAL_BYTES);
        sum.update(&buf[..covered]);
        buf.drain(..covered);
    }
    let offset = seen.saturating_sub(SEAL_BYTES);
    let want = [&u64::from(sum.value()).to_be_bytes()[..], SLASH].concat();
    if offset > FILE_HEADER_BYTES && buf == want { Ok(()) } else { Err(SnapshotError::BadSeal { offset }) }
}

/// The plain bytes of a snapshot file.
pub fn decoder<'a>(file: impl Read + Send + 'a, compression: Compression) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(MultiGzDecoder::new(file)),
        Compression::Snappy => Box::new(XerialReader::new(file)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::AclVec;
    use proptest::prelude::*;

    /// One session, one list, `nodes` nodes and the end marker.
    fn body(nodes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_i32(1);
        out.put_i64(77);
        out.put_i32(4000);
        out.put_i32(1);
        out.put_i64(1);
        out.put_raw(AclVec::OPEN.raw());
        for i in 0..nodes {
            out.put_string(&if i == 0 { String::new() } else { format!("/node-{i}") });
            let data = [i as u8; 40];
            out.put_buffer((i % 3 != 0).then_some(&data[..]));
            out.put_i64(1);
            out.put_raw(&[1; 60]);
        }
        out.put_string("/");
        out
    }

    fn both() -> Sections {
        Sections { digest: Some((Zxid(9), TxnDigest { version: 2, digest: 0x1234 })), last_zxid: Some(Zxid(9)) }
    }

    fn written(body: &[u8], compression: Compression, sections: &Sections) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, compression, sections, |sink| body.chunks(7).try_for_each(sink)).expect("written");
        out
    }

    const ALL: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Snappy];

    #[test]
    fn every_combination_of_compression_and_sections_reads_back() {
        let body = body(2000);
        for compression in ALL {
            for (digest, last) in [(true, true), (true, false), (false, true), (false, false)] {
                let sections = Sections { digest: both().digest.filter(|_| digest), last_zxid: both().last_zxid.filter(|_| last) };
                let file = written(&body, compression, &sections);
                let snapshot = Snapshot::read(&file[..], compression).expect("valid");
                assert_eq!(snapshot.body(), &body[..]);
                assert_eq!(snapshot.sections.digest.map(|d| (d.zxid, d.digest)), sections.digest.map(|(z, d)| (z, d.digest)));
                assert_eq!(snapshot.sections.last_zxid, sections.last_zxid);
                verify_stream(&file[..], compression).expect("valid");
            }
        }
    }

    #[test]
    fn the_sections_have_the_lengths_that_tell_them_apart() {
        let plain = |s: &Sections| written(&body(1), Compression::None, s).len();
        let none = plain(&Sections::default());
        assert_eq!(plain(&both()) - none, 54);
        assert_eq!(plain(&Sections { digest: None, ..both() }) - none, 21);
        assert_eq!(plain(&Sections { last_zxid: None, ..both() }) - none, 33);
    }

    #[test]
    fn a_file_cut_anywhere_is_refused_unless_the_cut_is_between_sections() {
        let file = written(&body(5), Compression::None, &both());
        let whole_at = [file.len() - 54, file.len() - 21];
        for cut in 0..file.len() {
            let valid = Snapshot::parse(&file[..cut]).is_ok();
            assert_eq!(valid, whole_at.contains(&cut), "cut at {cut}");
            assert_eq!(verify_stream(&file[..cut], Compression::None).is_ok(), valid, "cut at {cut}");
        }
    }

    #[test]
    fn a_file_with_any_bit_flipped_is_refused() {
        for compression in ALL {
            let file = written(&body(5), compression, &both());
            for bit in 0..file.len() * 8 {
                let mut bad = file.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                // A gzip header has bits that mean nothing.
                if let Ok(snapshot) = Snapshot::read(&bad[..], compression) {
                    assert!(compression != Compression::None, "bit {bit}");
                    assert_eq!(snapshot.body(), &body(5)[..]);
                }
            }
        }
    }

    #[test]
    fn an_old_digest_section_with_a_text_is_read_over() {
        let mut file = written(&body(1), Compression::None, &Sections::default());
        let mut sum = Adler32::new();
        file.put_i64(9);
        file.put_i32(1);
        file.put_string("abcdef");
        sum.update(&file);
        file.put_i64(i64::from(sum.value()));
        file.put_raw(SLASH);
        let snapshot = Snapshot::parse(&file).expect("valid");
        assert_eq!(snapshot.sections.digest, Some(SnapshotDigest { zxid: Zxid(9), version: 1, digest: 0 }));
    }

    #[test]
    fn an_error_while_writing_the_body_is_handed_on() {
        let result = write(&mut Vec::new(), Compression::Snappy, &both(), |_| Err(io::Error::other("planned")));
        assert!(result.is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), magic in any::<bool>()) {
            if magic && bytes.len() >= 4 {
                bytes[..4].copy_from_slice(b"ZKSN");
            }
            for compression in ALL {
                let _ = Snapshot::read(&bytes[..], compression);
                let _ = verify_stream(&bytes[..], compression);
            }
        }
    }
}

//! Xerial's stream framing of snappy: an 8-byte magic, two version numbers, then chunks of a length and one raw snappy block.

use std::io::{self, Read, Write};

const MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const VERSION: i32 = 1;
/// Input per block, as the Java library uses it.
const BLOCK_BYTES: usize = 32 << 10;
/// Largest compressed block accepted.
const CHUNK_BYTES_MAX: usize = 64 << 20;
/// No snappy block expands more than this: a copy of 64 bytes takes three.
const EXPANSION_MAX: usize = 32;

/// Compresses.
pub struct XerialWriter<W: Write> {
    out: W,
    block: Vec<u8>,
    encoder: snap::raw::Encoder,
    compressed: Vec<u8>,
}

impl<W: Write> XerialWriter<W> {
    /// Writes the stream's header.
    pub fn new(mut out: W) -> io::Result<Self> {
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&VERSION.to_be_bytes());
        head.extend_from_slice(&VERSION.to_be_bytes());
        out.write_all(&head)?;
        let compressed = vec![0; 4 + snap::raw::max_compress_len(BLOCK_BYTES)];
        Ok(XerialWriter { out, block: Vec::with_capacity(BLOCK_BYTES), encoder: snap::raw::Encoder::new(), compressed })
    }
    /// Adds bytes.
    pub fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = bytes.len().min(BLOCK_BYTES - self.block.len());
            self.block.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.block.len() == BLOCK_BYTES {
                self.put_block()?;
            }
        }
        Ok(())
    }
    /// Writes what is left.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            self.put_block()?;
        }
        Ok(self.out)
    }
    fn put_block(&mut self) -> io::Result<()> {
        let n = self.encoder.compress(&self.block, &mut self.compressed[4..])?;
        self.compressed[..4].copy_from_slice(&(n as u32).to_be_bytes());
        self.out.write_all(&self.compressed[..4 + n])?;
        self.block.clear();
        Ok(())
    }
}

/// Decompresses.
pub struct XerialReader<R: Read> {
    input: R,
    block: Vec<u8>,
    at: usize,
}

impl<R: Read> XerialReader<R> {
    /// Reads and checks the stream's header.
    pub fn new(mut input: R) -> io::Result<Self> {
        let mut head = [0; 16];
        input.read_exact(&mut head)?;
        if &head[..8] != MAGIC {
            return Err(bad("not a snappy stream"));
        }
        Ok(XerialReader { input, block: Vec::new(), at: 0 })
    }

    /// False at the end of the stream.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut length = Vec::with_capacity(4);
        self.input.by_ref().take(4).read_to_end(&mut length)?;
        if length.is_empty() {
            return Ok(false);
        }
        let length: [u8; 4] = length.try_into().map_err(|_| bad("stream ends inside a length"))?;
        let length = u32::from_be_bytes(length) as usize;
        if length > CHUNK_BYTES_MAX {
            return Err(bad("unreasonable block length"));
        }
        let mut compressed = Vec::new();
        self.input.by_ref().take(length as u64).read_to_end(&mut compressed)?;
        if compressed.len() < length {
            return Err(bad("stream ends inside a block"));
        }
        if snap::raw::decompress_len(&compressed)? > length.saturating_mul(EXPANSION_MAX) {
            return Err(bad("unreasonable block size"));
        }
        self.block = snap::raw::Decoder::new().decompress_vec(&compressed)?;
        self.at = 0;
        Ok(true)
    }
}

impl<R: Read> Read for XerialReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let n = buf.len().min(self.block.len() - self.at);
        buf[..n].copy_from_slice(&self.block[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

//! The frame of a transaction in a log file: checksum, length, payload, end marker.
//!
//! ```text
//! Adler-32 of the payload, as i64 | payload length, i32 | payload | 'B'
//! ```
//! Knows one record at a time: where a log ends, and whether a bad record is a torn tail or damage, is `storage::recover`'s.

use crate::base::checksum::adler32;
use crate::base::{Reader, Writer};
use std::fmt;

/// Bytes of a record around its payload.
pub const RECORD_OVERHEAD: usize = RECORD_PREFIX + 1;
/// Bytes before the payload.
pub const RECORD_PREFIX: usize = 12;
/// The byte after each payload; its absence means that the record was not written completely.
pub const END_OF_RECORD: u8 = b'B';

/// Why the bytes at a position are not a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// More bytes are needed: at least this many, counted from the start of the record.
    Incomplete(usize),
    /// A length of zero: padding, or the end.
    ZeroLength,
    /// A negative length.
    BadLength(i32),
    /// The byte after the payload is not the end marker.
    NoEndMarker(u8),
    /// The record is complete but its payload does not have this checksum.
    BadChecksum {
        /// As stored.
        stored: u64,
        /// Of the payload found.
        computed: u32,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Incomplete(_) => f.write_str("the file ends inside a record"),
            FrameError::ZeroLength => f.write_str("zero length"),
            FrameError::BadLength(n) => write!(f, "unreasonable length {n}"),
            FrameError::NoEndMarker(b) => write!(f, "end marker missing (found 0x{b:02x})"),
            FrameError::BadChecksum { stored, computed } => write!(f, "checksum 0x{computed:x} where 0x{stored:x} is recorded"),
        }
    }
}

/// One record, borrowed from the bytes it lies in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// Transaction header, body and digest.
    pub payload: &'a [u8],
    /// Adler-32 of the payload.
    pub adler: u32,
}

impl Frame<'_> {
    /// Bytes the whole record takes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.payload.len() + RECORD_OVERHEAD
    }
    /// Never: a frame has at least its overhead.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }
}

/// Appends a record with this payload; returns the payload's Adler-32.
pub fn write_frame(payload: &[u8], out: &mut Vec<u8>) -> u32 {
    assert!(!payload.is_empty(), "a record of length zero reads as the end of the log");
    let adler = adler32(payload);
    out.reserve(payload.len() + RECORD_OVERHEAD);
    out.put_i64(i64::from(adler));
    out.put_len(payload.len());
    out.put_raw(payload);
    out.put_u8(END_OF_RECORD);
    adler
}

/// Reads the record at the start of `bytes`. Its length is bounded by them alone: how large a transaction may be is a setting of whoever
/// wrote it.
pub fn read_frame(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let (stored, payload) = split_frame(bytes)?;
    let computed = adler32(payload);
    if stored != u64::from(computed) {
        return Err(FrameError::BadChecksum { stored, computed });
    }
    Ok(Frame { payload, adler: computed })
}

/// The stored checksum and the payload of the record at the start of `bytes`, if it is one but for its checksum.
pub fn split_frame(bytes: &[u8]) -> Result<(u64, &[u8]), FrameError> {
    let mut r = Reader::new(bytes);
    let incomplete = |_| FrameError::Incomplete(RECORD_PREFIX);
    let stored = r.i64().map_err(incomplete)? as u64;
    let length = r.i32().map_err(incomplete)?;
    if length == 0 {
        return Err(FrameError::ZeroLength);
    }
    if length < 0 {
        return Err(FrameError::BadLength(length));
    }
    let whole = length as usize + RECORD_OVERHEAD;
    let payload = r.take(length as usize).map_err(|_| FrameError::Incomplete(whole))?;
    match r.u8().map_err(|_| FrameError::Incomplete(whole))? {
        END_OF_RECORD => Ok((stored, payload)),
        other => Err(FrameError::NoEndMarker(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_frame(payload, &mut out);
        out
    }

    #[test]
    fn a_record_reads_back_and_leaves_what_follows() {
        let mut bytes = framed(b"payload");
        bytes.extend_from_slice(b"next");
        let frame = read_frame(&bytes).expect("good");
        assert_eq!((frame.payload, frame.len()), (&b"payload"[..], bytes.len() - 4));
    }

    #[test]
    fn every_cut_is_incomplete_and_every_flip_is_noticed() {
        let bytes = framed(b"some payload");
        for cut in 0..bytes.len() {
            assert!(matches!(read_frame(&bytes[..cut]), Err(FrameError::Incomplete(_))), "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read_frame(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn impossible_lengths_are_told_apart_and_large_ones_want_more_bytes() {
        let mut bytes = framed(b"abc");
        for (length, want) in [
            (0i32, FrameError::ZeroLength),
            (-1, FrameError::BadLength(-1)),
            (-5, FrameError::BadLength(-5)),
            (i32::MAX, FrameError::Incomplete(i32::MAX as usize + RECORD_OVERHEAD)),
        ] {
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            assert_eq!(read_frame(&bytes), Err(want));
        }
    }

    #[test]
    fn padding_and_a_missing_marker_are_told_apart() {
        assert_eq!(read_frame(&[0; 64]), Err(FrameError::ZeroLength));
        let mut bytes = framed(b"abc");
        *bytes.last_mut().expect("not empty") = 0;
        assert_eq!(read_frame(&bytes), Err(FrameError::NoEndMarker(0)));
    }
}

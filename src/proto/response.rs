//! Reply headers and multi results. Bodies are written by whoever owns the data, straight into the output buffer.

use super::{ErrorCode, OpCode};
use crate::base::{DecodeError, Reader, Writer, Xid, Zxid};

/// Encoded length of a reply header.
pub const REPLY_HEADER_BYTES: usize = 16;

/// Reply header as clients read it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyHeader {
    /// Echo of the request's.
    pub xid: Xid,
    /// See the protocol: the write's own, or the last one applied.
    pub zxid: i64,
    /// `ErrorCode` as a number.
    pub err: i32,
}

impl ReplyHeader {
    /// Reads 16 bytes.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(ReplyHeader { xid: Xid(r.i32()?), zxid: r.i64()?, err: r.i32()? })
    }
}

/// A reply frame being written in place: the length and the error are filled in when it is finished.
#[must_use = "a frame that is not finished has no length"]
#[derive(Debug)]
pub struct ReplyFrame {
    start: usize,
}

impl ReplyFrame {
    /// Appends length placeholder and header to `out`; the body follows by appending to `out`.
    pub fn begin(out: &mut Vec<u8>, xid: Xid, zxid: Zxid) -> Self {
        let start = out.len();
        out.put_i32(0);
        out.put_i32(xid.0);
        out.put_i64(zxid.as_i64());
        out.put_i32(0);
        ReplyFrame { start }
    }
    /// Fills in the length; err stays 0.
    pub fn finish(self, out: &mut [u8]) {
        let len = (out.len() - self.start - 4) as i32;
        out[self.start..self.start + 4].copy_from_slice(&len.to_be_bytes());
    }
    /// Drops whatever body was appended and finishes as a header-only reply with this error.
    pub fn fail(self, out: &mut Vec<u8>, err: ErrorCode) {
        out.truncate(self.start + 4 + REPLY_HEADER_BYTES);
        let at = self.start + 16;
        out[at..at + 4].copy_from_slice(&err.code().to_be_bytes());
        self.finish(out);
    }
}

/// Appends a header-only reply frame. `zxid` is signed because some refusals carry -1 or 0.
pub fn write_header_only(out: &mut Vec<u8>, xid: Xid, zxid: i64, err: ErrorCode) {
    out.put_len(REPLY_HEADER_BYTES);
    out.put_i32(xid.0);
    out.put_i64(zxid);
    out.put_i32(err.code());
}

/// Appends a MultiHeader of a successful part.
pub fn write_multi_ok(out: &mut impl Writer, op: OpCode) {
    out.put_i32(op as i32);
    out.put_bool(false);
    out.put_i32(0);
}

/// Appends a whole error part: MultiHeader of type -1 and the code again as body.
pub fn write_multi_error(out: &mut impl Writer, err: ErrorCode) {
    out.put_i32(-1);
    out.put_bool(false);
    out.put_i32(err.code());
    out.put_i32(err.code());
}

/// Appends the terminating MultiHeader.
pub fn write_multi_end(out: &mut impl Writer) {
    out.put_i32(-1);
    out.put_bool(true);
    out.put_i32(-1);
}

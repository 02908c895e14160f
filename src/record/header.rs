//! The 32-byte header in front of every transaction.

use crate::base::{DecodeError, Reader, SessionId, WallTime, Writer, Xid, Zxid};

/// Encoded length of a header.
pub const TXN_HEADER_BYTES: usize = 32;

/// Who asked for a transaction, its place in history, and the leader's wall clock when it was prepared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxnHeader {
    /// The session that asked (0 for the server's own).
    pub session: SessionId,
    /// The client's request number.
    pub cxid: Xid,
    /// Place in history.
    pub zxid: Zxid,
    /// Wall-clock milliseconds; becomes ctime and mtime.
    pub time: WallTime,
    /// `TxnType` as a number; kept raw so that an unknown type can be reported.
    pub kind: i32,
}

impl TxnHeader {
    /// Reads 32 bytes.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(TxnHeader {
            session: SessionId(r.i64()?),
            cxid: Xid(r.i32()?),
            zxid: Zxid::from_i64(r.i64()?),
            time: WallTime(r.i64()?),
            kind: r.i32()?,
        })
    }
    /// Writes 32 bytes.
    pub fn write(&self, out: &mut impl Writer) {
        out.put_i64(self.session.0);
        out.put_i32(self.cxid.0);
        out.put_i64(self.zxid.as_i64());
        out.put_i64(self.time.0);
        out.put_i32(self.kind);
    }
}

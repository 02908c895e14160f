//! The body of a snapshot, entry by entry: for tools that show or compare snapshots without building a tree, and for the structural check of
//! every snapshot that is read.

use crate::base::{AclVec, DecodeError, Reader, SessionId, Zxid};

/// A node as it lies in the file; the root has the empty path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeEntry<'a> {
    /// Path.
    pub path: &'a str,
    /// Data; null and empty are distinct.
    pub data: Option<&'a [u8]>,
    /// Number of its list in the table; -1 is the open list.
    pub acl: i64,
    /// Its numbers.
    pub stat: PersistedStat,
}

/// A stat as snapshots hold it: `cversion` counts creations only, and the owner of containers and TTL nodes is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct PersistedStat {
    pub czxid: Zxid,
    pub mzxid: Zxid,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub pzxid: Zxid,
}

/// Bytes of a stat in a snapshot.
pub(super) const PERSISTED_STAT_BYTES: usize = 60;
/// What stands in place of a path after the last node.
pub(super) const END_MARKER: &[u8] = b"/";
/// Bytes of a session with its timeout.
pub(super) const SESSION_BYTES: usize = 8 + 4;
/// Number and count of a list, which may be empty.
const LIST_BYTES_MIN: usize = 8 + 4;

/// A reader of bodies; sections must be asked for in their order.
#[derive(Clone, Debug)]
pub struct BodyReader<'a> {
    r: Reader<'a>,
}

impl<'a> BodyReader<'a> {
    /// From the first byte after the file header.
    #[must_use]
    pub const fn new(body: &'a [u8]) -> Self {
        BodyReader { r: Reader::new(body) }
    }
    /// Bytes read so far.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.r.position()
    }
    /// Sessions with their timeouts in milliseconds.
    pub fn sessions(&mut self) -> Result<Vec<(SessionId, i32)>, DecodeError> {
        let count = self.r.count(SESSION_BYTES)?.unwrap_or(0);
        (0..count).map(|_| Ok((SessionId(self.r.i64()?), self.r.i32()?))).collect()
    }
    /// Lists by number.
    pub fn acls(&mut self) -> Result<Vec<(i64, AclVec<'a>)>, DecodeError> {
        let count = self.r.count(LIST_BYTES_MIN)?.unwrap_or(0);
        (0..count).map(|_| Ok((self.r.i64()?, AclVec::read(&mut self.r)?))).collect()
    }
    /// The next node; `None` at the end marker.
    pub fn next_node(&mut self) -> Result<Option<NodeEntry<'a>>, DecodeError> {
        let path = self.r.buffer()?.ok_or(DecodeError::Null)?;
        if path == END_MARKER {
            return Ok(None);
        }
        let path = std::str::from_utf8(path).map_err(|_| DecodeError::NotUtf8)?;
        let (data, acl) = (self.r.buffer()?, self.r.i64()?);
        let mut r = Reader::new(self.r.take(PERSISTED_STAT_BYTES)?);
        let stat = PersistedStat {
            czxid: Zxid::from_i64(r.i64()?),
            mzxid: Zxid::from_i64(r.i64()?),
            ctime: r.i64()?,
            mtime: r.i64()?,
            version: r.i32()?,
            cversion: r.i32()?,
            aversion: r.i32()?,
            ephemeral_owner: r.i64()?,
            pzxid: Zxid::from_i64(r.i64()?),
        };
        Ok(Some(NodeEntry { path, data, acl, stat }))
    }
    /// Reads over the whole body without looking into it; `Err` has the offset.
    #[cfg(test)]
    pub fn skip_all(mut self) -> Result<usize, (usize, DecodeError)> {
        let mut skip = || -> Result<(), DecodeError> {
            self.skip_tables()?;
            while self.skip_node()? {}
            Ok(())
        };
        skip().map_err(|e| (0, e))?;
        Ok(self.position())
    }
    /// Reads over sessions and ACL table.
    pub fn skip_tables(&mut self) -> Result<(), DecodeError> {
        let sessions = self.r.count(SESSION_BYTES)?.unwrap_or(0);
        self.r.take(sessions * SESSION_BYTES)?;
        self.acls().map(|_| ())
    }
    /// Reads over one node without looking into it; false at the end marker, which is read over too.
    pub fn skip_node(&mut self) -> Result<bool, DecodeError> {
        if self.r.buffer()?.ok_or(DecodeError::Null)? == END_MARKER {
            return Ok(false);
        }
        self.r.buffer()?;
        self.r.take(8 + PERSISTED_STAT_BYTES)?;
        Ok(true)
    }
}

//! Access control lists. A list travels and is stored in its encoded form, so interning, logging, snapshots and replies are
//! byte copies; it is walked entry by entry only when a permission is checked.

use super::jute::{DecodeError, Reader, Writer};
use std::sync::Arc;

/// Permission bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Perms(pub i32);

impl Perms {
    /// To read data and list children.
    pub const READ: Perms = Perms(1);
    /// To set data.
    pub const WRITE: Perms = Perms(2);
    /// To make children.
    pub const CREATE: Perms = Perms(4);
    /// To delete children.
    pub const DELETE: Perms = Perms(8);
    /// To set the list itself.
    pub const ADMIN: Perms = Perms(16);
    /// All of them.
    pub const ALL: Perms = Perms(31);
}

/// One entry of an ACL, borrowed. A null scheme or id reads as "" (null is refused where clients create lists).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AclEntry<'a> {
    /// Permission bits; unknown ones are kept.
    pub perms: i32,
    /// Scheme, such as "world".
    pub scheme: &'a str,
    /// Identity in that scheme.
    pub id: &'a str,
    /// True when scheme or id was null on the wire.
    pub has_null: bool,
}

impl<'a> AclEntry<'a> {
    /// Reads one entry.
    pub fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let perms = r.i32()?;
        let scheme = r.opt_string()?;
        let id = r.opt_string()?;
        let has_null = scheme.is_none() || id.is_none();
        Ok(AclEntry { perms, scheme: scheme.unwrap_or(""), id: id.unwrap_or(""), has_null })
    }
    /// Writes one entry.
    pub fn write(&self, out: &mut impl Writer) {
        out.put_i32(self.perms);
        out.put_string(self.scheme);
        out.put_string(self.id);
    }
}

/// A vector of ACL entries that has been checked and is still encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AclVec<'a> {
    count: usize,
    raw: &'a [u8],
}

/// world:anyone with all permissions, encoded.
const OPEN_RAW: &[u8] = b"\0\0\0\x01\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone";
/// world:anyone with READ, encoded.
const READ_RAW: &[u8] = b"\0\0\0\x01\0\0\0\x01\0\0\0\x05world\0\0\0\x06anyone";

impl<'a> AclVec<'a> {
    /// world:anyone:cdrwa.
    pub const OPEN: AclVec<'static> = AclVec { count: 1, raw: OPEN_RAW };
    /// world:anyone:r.
    pub const WORLD_READ: AclVec<'static> = AclVec { count: 1, raw: READ_RAW };

    /// Reads and checks a vector; null is kept as null (`is_null`).
    pub fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let start = r.position();
        let count = r.count(12)?.unwrap_or(0);
        for _ in 0..count {
            AclEntry::read(r)?;
        }
        Ok(AclVec { count, raw: r.since(start) })
    }
    /// Entries; 0 for null.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }
    /// True for null and empty lists.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// True for a null vector.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.raw == (-1i32).to_be_bytes()
    }
    /// The encoded form, count included.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }
    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = AclEntry<'a>> + use<'a> {
        let mut reader = Reader::new(self.raw.get(4..).unwrap_or(&[]));
        // Checked when constructed, so nothing is lost by ending at an error.
        (0..self.count).map_while(move |_| AclEntry::read(&mut reader).ok())
    }
}

/// An interned, immutable ACL (rule B9). Equal lists share one allocation; `id` is the number it has in snapshots.
#[derive(Debug, PartialEq, Eq)]
pub struct AclList {
    /// -1 for the open list, from 1 upward for interned ones.
    pub id: i64,
    raw: Box<[u8]>,
    count: usize,
}

impl AclList {
    /// The number of the open list, which is in no snapshot's table.
    pub const OPEN_ID: i64 = -1;

    /// Interned form of `list` under this number.
    #[must_use]
    pub fn new(id: i64, list: AclVec<'_>) -> Arc<Self> {
        Arc::new(AclList { id, raw: list.raw.into(), count: list.count })
    }
    /// The list.
    #[must_use]
    pub fn entries(&self) -> AclVec<'_> {
        AclVec { count: self.count, raw: &self.raw }
    }
}

/// One identity of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct AuthId {
    /// Scheme.
    pub scheme: String,
    /// Identity.
    pub id: String,
}

/// All identities of a connection; shared, replaced as a whole when one is added.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Auth {
    /// In the order they were gained.
    pub ids: Vec<AuthId>,
}

impl Auth {
    /// True when one identity is of scheme `super`.
    #[must_use]
    pub fn is_super(&self) -> bool {
        self.ids.iter().any(|i| i.scheme == "super")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constant_lists_are_what_they_say() {
        for (list, perms) in [(AclVec::OPEN, 31), (AclVec::WORLD_READ, 1)] {
            let again = AclVec::read(&mut Reader::new(list.raw())).expect("valid");
            assert_eq!(again, list);
            let entries: Vec<_> = list.iter().collect();
            assert_eq!(entries, [AclEntry { perms, scheme: "world", id: "anyone", has_null: false }]);
        }
    }
}

//! The Stat record, as numbers and as the 68 bytes that go to clients.

use super::jute::{DecodeError, Reader, Writer};
use zerocopy::byteorder::big_endian::{I32, I64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of a Stat on the wire.
pub const STAT_WIRE_BYTES: usize = 68;

/// A Stat in wire layout: big-endian, unaligned, 68 bytes; replies copy it as it is. `cversion` is the value clients see
/// (2 × stored − numChildren) and `ephemeral_owner` is 0 for container and TTL nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct StatWire {
    /// As in [`Stat`].
    pub czxid: I64,
    /// As in [`Stat`].
    pub mzxid: I64,
    /// As in [`Stat`].
    pub ctime: I64,
    /// As in [`Stat`].
    pub mtime: I64,
    /// As in [`Stat`].
    pub version: I32,
    /// As in [`Stat`].
    pub cversion: I32,
    /// As in [`Stat`].
    pub aversion: I32,
    /// As in [`Stat`].
    pub ephemeral_owner: I64,
    /// As in [`Stat`].
    pub data_length: I32,
    /// As in [`Stat`].
    pub num_children: I32,
    /// As in [`Stat`].
    pub pzxid: I64,
}

const _: () = assert!(size_of::<StatWire>() == STAT_WIRE_BYTES);

/// The same record as native numbers, for clients and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// The transaction that made the node.
    pub czxid: i64,
    /// The last one that changed its data.
    pub mzxid: i64,
    /// When it was made, in ms since 1970.
    pub ctime: i64,
    /// When its data were changed last, likewise.
    pub mtime: i64,
    /// How often its data were changed.
    pub version: i32,
    /// How often its children were changed.
    pub cversion: i32,
    /// How often its access control list was changed.
    pub aversion: i32,
    /// The session it goes with; 0 if it stays.
    pub ephemeral_owner: i64,
    /// Bytes of data.
    pub data_length: i32,
    /// How many children it has.
    pub num_children: i32,
    /// The last transaction that made or deleted a child.
    pub pzxid: i64,
}

impl Stat {
    /// Reads the 68 bytes.
    pub fn read(r: &mut Reader<'_>) -> Result<Stat, DecodeError> {
        let bytes = r.take(STAT_WIRE_BYTES)?;
        StatWire::read_from_bytes(bytes).map(|w| w.to_stat()).map_err(|_| DecodeError::Truncated)
    }
    /// Writes the 68 bytes.
    pub fn write(&self, out: &mut impl Writer) {
        out.put_raw(StatWire::from(*self).as_bytes());
    }
}

impl StatWire {
    /// As native numbers.
    #[must_use]
    pub fn to_stat(self) -> Stat {
        Stat {
            czxid: self.czxid.get(),
            mzxid: self.mzxid.get(),
            ctime: self.ctime.get(),
            mtime: self.mtime.get(),
            version: self.version.get(),
            cversion: self.cversion.get(),
            aversion: self.aversion.get(),
            ephemeral_owner: self.ephemeral_owner.get(),
            data_length: self.data_length.get(),
            num_children: self.num_children.get(),
            pzxid: self.pzxid.get(),
        }
    }
}

impl From<Stat> for StatWire {
    fn from(s: Stat) -> Self {
        StatWire {
            czxid: s.czxid.into(),
            mzxid: s.mzxid.into(),
            ctime: s.ctime.into(),
            mtime: s.mtime.into(),
            version: s.version.into(),
            cversion: s.cversion.into(),
            aversion: s.aversion.into(),
            ephemeral_owner: s.ephemeral_owner.into(),
            data_length: s.data_length.into(),
            num_children: s.num_children.into(),
            pzxid: s.pzxid.into(),
        }
    }
}

//! Versioned cells: the shared znode store. One writer, lock-free readers at a zxid.
//!
//! A *cell* is stable per path; it heads a chain of immutable *bodies*, each stamped with the zxid that made it and linked to the
//! one before. The writer pushes bodies (uncommitted ones lie above `applied`), then `commit(z)` moves `applied`. A reader at
//! zxid `a` takes the newest body stamped `<= a`; a tombstone body means absent. Rules A1, A2, A5, A6, A10, A12, A18, A19, B12.
//!
//! Two implementations with the same interface: `cells` (the real one) and `plain` (the naive twin: a map per path and version,
//! behind a lock), chosen by the feature `plain-store`. Nothing above this module can tell them apart, nor how many cores read.

#[cfg(not(feature = "plain-store"))]
pub mod cells;
#[cfg(any(test, feature = "plain-store"))]
pub mod plain;
#[cfg(not(feature = "plain-store"))]
mod sync;

#[cfg(not(feature = "plain-store"))]
pub use cells::{EXPECTED_MAX, Hold, NodeView, Reader, Writer};
#[cfg(feature = "plain-store")]
pub use plain::{EXPECTED_MAX, Hold, NodeView, Reader, Writer};

use crate::base::AclList;
use std::sync::Arc;

/// Longest path a body can have; far above what a frame or a log record can carry.
pub const PATH_BYTES_MAX: usize = (1 << 27) - 1;

/// A cell's number. Stable while the node exists; reused after a deleted node's cell has been reclaimed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CellId(pub u32);

/// The persisted stat of a node (`StatPersisted`): `cversion` and `owner` are the *stored* values (rule A19). A body derives
/// its 68 wire bytes from this plus data length and child count: wire cversion = 2 × stored − children (wrapping), wire
/// ephemeralOwner = 0 for container and TTL owners when `wire_owner` says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct NodeMeta {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    /// Counts child creates only.
    pub cversion: i32,
    pub aversion: i32,
    /// Stored owner: session id, container marker, or TTL encoding.
    pub owner: i64,
    /// What clients see as ephemeralOwner: `owner` for ordinary ephemerals, else 0.
    pub wire_owner: i64,
    pub pzxid: i64,
}

/// What happens to the data in a new body.
#[derive(Clone, Copy, Debug)]
pub enum DataChange<'a> {
    /// As in the body before.
    Keep,
    /// Replaced; null and empty are distinct.
    Set(Option<&'a [u8]>),
}

/// What happens to the set of children in a new body.
#[derive(Clone, Copy, Debug)]
pub enum ChildChange<'a> {
    /// As in the body before.
    Keep,
    /// This child joins.
    Add(CellId),
    /// These children leave.
    Remove(&'a [CellId]),
}

/// A new body on top of an existing node.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Change<'a> {
    pub meta: NodeMeta,
    pub data: DataChange<'a>,
    /// `None` keeps the ACL.
    pub acl: Option<Arc<AclList>>,
    pub children: ChildChange<'a>,
}

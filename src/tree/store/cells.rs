//! Versioned cells with lock-free readers. INTERFACE (bodies to be written):
use super::{CellId, Change, NodeMeta};
use crate::base::{AclList, StatWire, Zxid};
use std::sync::Arc;

/// The one writer. `Send`, not `Clone`. All methods below that push take a zxid >= every zxid pushed before.
pub struct Writer {}
/// One shard's read access: owns a reader slot {lowest zxid it may still read at, or idle; quiescence counter} (rule A5).
pub struct Reader {}
/// A zxid held for a long read (snapshot, sync stream, huge listing; rules A6, B5). Own slot; may be sent to another thread.
pub struct Hold {}
/// One node at one zxid.
pub struct NodeView<'a> { _p: std::marker::PhantomData<&'a ()> }

impl Writer {
    /// Empty store, `applied` = 0. `hash_seed`: random in production, fixed in simulation.
    pub fn new(hash_seed: u64) -> Self { unimplemented!() }
    /// Newest state of a path, uncommitted changes included; `None` when absent or deleted.
    pub fn head(&self, path: &str) -> Option<NodeView<'_>> { unimplemented!() }
    /// The same by cell.
    pub fn head_of(&self, cell: CellId) -> Option<NodeView<'_>> { unimplemented!() }
    /// Committed state of a path: newest body at or below `applied` (quota checks, rule B10).
    pub fn committed(&self, path: &str) -> Option<NodeView<'_>> { unimplemented!() }
    /// Children of a node in its newest state, in the set's order.
    pub fn head_children(&self, cell: CellId) -> Vec<CellId> { unimplemented!() }
    /// Pushes the first body of a new (or re-created: the cell is reused) node. The parent is updated by a separate `change`.
    /// Precondition (asserted): absent at the head. No children.
    pub fn create(&mut self, zxid: Zxid, path: &str, meta: &NodeMeta, data: Option<&[u8]>, acl: &Arc<AclList>) -> CellId { unimplemented!() }
    /// Pushes a body on top of an existing node.
    pub fn change(&mut self, zxid: Zxid, cell: CellId, change: &Change<'_>) { unimplemented!() }
    /// Pushes a tombstone. Precondition (asserted): present at the head, no children.
    pub fn remove(&mut self, zxid: Zxid, cell: CellId) { unimplemented!() }
    /// Takes back the most recent push that is not committed. Precondition (asserted): there is one.
    pub fn undo_last(&mut self) { unimplemented!() }
    /// Uncommitted pushes outstanding.
    pub fn uncommitted_len(&self) -> usize { unimplemented!() }
    /// Everything pushed with a stamp <= `zxid` becomes visible: `applied` = `zxid`. Never decreases (asserted).
    pub fn commit(&mut self, zxid: Zxid) { unimplemented!() }
    /// The published zxid.
    pub fn applied(&self) -> Zxid { unimplemented!() }
    /// Frees at most `budget` retired bodies/cells that no reader can reach any more; returns how many. Call once per turn.
    pub fn reclaim(&mut self, budget: usize) -> usize { unimplemented!() }
    /// Retired but not yet freed bodies.
    pub fn garbage_len(&self) -> usize { unimplemented!() }
    /// Nodes present at the head.
    pub fn node_count(&self) -> usize { unimplemented!() }
    /// Sum of data bytes of the nodes at the head plus path bytes (approximate_data_size).
    pub fn data_bytes(&self) -> u64 { unimplemented!() }
    /// A new reader (any thread may use it; created by the writer).
    pub fn reader(&mut self) -> Reader { unimplemented!() }
    /// Holds the current `applied` for a long read.
    pub fn hold(&mut self) -> Hold { unimplemented!() }
}

impl Reader {
    /// Starts or continues reading: registers this reader at `applied` if it was parked (published, fenced, re-checked: A5), else keeps
    /// its lowest zxid; passes a quiescent point (`&mut self`: no view is alive); returns `applied` as loaded.
    pub fn begin_burst(&mut self) -> Zxid { unimplemented!() }
    /// `applied`, without registering: only to decide whether to begin a burst.
    pub fn applied(&self) -> Zxid { unimplemented!() }
    /// Raises the lowest zxid this reader may still read at. Precondition: registered, low <= last begin_burst() result.
    pub fn set_low(&mut self, zxid: Zxid) { unimplemented!() }
    /// Nothing more to read: holds nothing.
    pub fn park(&mut self) { unimplemented!() }
    /// A node at `at` (low <= at <= last begin_burst() result).
    pub fn get(&self, path: &str, at: Zxid) -> Option<NodeView<'_>> { unimplemented!() }
    /// The same by cell.
    pub fn node(&self, cell: CellId, at: Zxid) -> Option<NodeView<'_>> { unimplemented!() }
    /// A second slot at `at`, for a listing that is sent in slices (B5).
    pub fn hold(&self, at: Zxid) -> Hold { unimplemented!() }
}

impl Hold {
    /// The zxid held.
    pub fn zxid(&self) -> Zxid { unimplemented!() }
    /// A node at the held zxid.
    pub fn get(&self, path: &str) -> Option<NodeView<'_>> { unimplemented!() }
    /// The same by cell.
    pub fn node(&self, cell: CellId) -> Option<NodeView<'_>> { unimplemented!() }
    /// Quiescent point between slices (`&mut self`: no view is alive).
    pub fn quiesce(&mut self) { unimplemented!() }
}

impl<'a> NodeView<'a> {
    pub fn cell(&self) -> CellId { unimplemented!() }
    pub fn path(&self) -> &str { unimplemented!() }
    /// Stamp of the body.
    pub fn zxid(&self) -> Zxid { unimplemented!() }
    pub fn meta(&self) -> NodeMeta { unimplemented!() }
    /// The 68 bytes clients see.
    pub fn stat(&self) -> &StatWire { unimplemented!() }
    pub fn data(&self) -> Option<&[u8]> { unimplemented!() }
    pub fn acl(&self) -> &Arc<AclList> { unimplemented!() }
    pub fn children_len(&self) -> usize { unimplemented!() }
    /// Children cells in the set's order (deterministic for a given history).
    pub fn children(&self) -> impl Iterator<Item = CellId> + '_ { std::iter::empty() }
}

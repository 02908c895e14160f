//! Readers, holds, and what they see.

use super::super::sync::{Arc, Ordering};
use super::super::{CellId, NodeMeta};
use super::Shared;
use super::body::BodyRef;
use super::slots::{Claim, IDLE};
use crate::base::{AclList, StatWire, Zxid};
use std::cell::Cell;
use std::marker::PhantomData;

/// One shard's read access: owns a reader slot {lowest zxid it may still read at, or idle; quiescence counter} (rule A5).
pub struct Reader {
    /// Before `shared`: given back while the registry lives.
    claim: Claim,
    /// As in the slot; `IDLE` when parked.
    low: u64,
    /// Result of the last `begin_burst`.
    burst: u64,
    shared: Arc<Shared>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        // SAFETY: the reader keeps `shared`, and so the registry, until the claim is dropped.
        let claim = unsafe { shared.slots.reader() };
        Reader { claim, low: IDLE, burst: 0, shared }
    }

    /// Starts or continues reading: registers this reader at `applied` if it was parked (published, fenced, re-checked: A5), else keeps
    /// its lowest zxid; passes a quiescent point (`&mut self`: no view is alive); returns `applied` as loaded.
    pub fn begin_burst(&mut self) -> Zxid {
        if self.low == IDLE {
            self.burst = self.claim.register(&self.shared.published);
            self.low = self.burst;
        } else {
            self.claim.quiesce(&self.shared.published);
            self.burst = self.shared.published.applied.load(Ordering::Acquire);
        }
        Zxid(self.burst)
    }
    /// `applied`, without registering: only to decide whether to begin a burst.
    pub fn applied(&self) -> Zxid {
        Zxid(self.shared.published.applied.load(Ordering::Acquire))
    }
    /// Raises the lowest zxid this reader may still read at. Precondition (asserted): registered, low <= last begin_burst() result.
    pub fn set_low(&mut self, zxid: Zxid) {
        assert!(self.low <= zxid.0 && zxid.0 <= self.burst, "the lowest zxid rises, up to the burst's");
        self.low = zxid.0;
        self.claim.set_low(zxid.0);
        self.claim.quiesce(&self.shared.published);
    }
    /// Nothing more to read: holds nothing.
    pub fn park(&mut self) {
        self.low = IDLE;
        self.claim.go_offline();
        self.claim.set_low(IDLE);
    }
    /// A node at `at` (asserted: low <= at <= last begin_burst() result).
    pub fn get(&self, path: &str, at: Zxid) -> Option<NodeView<'_>> {
        self.check(at);
        // SAFETY: registered at or below `at`, online, and the next quiescent point needs `&mut self`, hence the view's end.
        unsafe { self.shared.version_at(self.shared.head(path)?, at.0) }.map(NodeView::new)
    }
    /// The same by cell. The number must come from a view at the same zxid; else the node may be another one, or none.
    pub fn node(&self, cell: CellId, at: Zxid) -> Option<NodeView<'_>> {
        self.check(at);
        // SAFETY: as in `get`.
        unsafe { self.shared.version_at(self.shared.head_of(cell)?, at.0) }.map(NodeView::new)
    }
    /// A second slot at `at`, for a listing that is sent in slices (B5). `at` as for `get`.
    pub fn hold(&self, at: Zxid) -> Hold {
        self.check(at);
        Hold::new(Arc::clone(&self.shared), at.0)
    }

    fn check(&self, at: Zxid) {
        assert!(self.low <= at.0 && at.0 <= self.burst, "read outside what this reader holds");
    }
}

/// A zxid held for a long read (snapshot, sync stream, huge listing; rules A6, B5). Own slot; may be sent to another thread. It keeps at
/// most one body per node changed since; memory beyond that only while views are in use, until the next `quiesce`.
pub struct Hold {
    /// Before `shared`, as in `Reader`.
    claim: Claim,
    zxid: u64,
    /// Looked at something since the last quiescent point.
    online: Cell<bool>,
    shared: Arc<Shared>,
}

impl Hold {
    /// The caller is entitled to read at `zxid` while this runs: it is registered at or below, or it is the writer and `zxid` is `applied`.
    pub(super) fn new(shared: Arc<Shared>, zxid: u64) -> Self {
        // SAFETY: the hold keeps `shared`, and so the registry, until the claim is dropped.
        let claim = unsafe { shared.slots.hold(zxid) };
        Hold { claim, zxid, online: Cell::new(false), shared }
    }
    /// The zxid held.
    pub fn zxid(&self) -> Zxid {
        Zxid(self.zxid)
    }
    /// A node at the held zxid.
    pub fn get(&self, path: &str) -> Option<NodeView<'_>> {
        self.go_online();
        // SAFETY: the zxid is held, the slot online, and the next quiescent point needs `&mut self`, hence the view's end.
        unsafe { self.shared.version_at(self.shared.head(path)?, self.zxid) }.map(NodeView::new)
    }
    /// The same by cell. The number must come from a view at the same zxid.
    pub fn node(&self, cell: CellId) -> Option<NodeView<'_>> {
        self.go_online();
        // SAFETY: as in `get`.
        unsafe { self.shared.version_at(self.shared.head_of(cell)?, self.zxid) }.map(NodeView::new)
    }
    /// Quiescent point between slices (`&mut self`: no view is alive).
    pub fn quiesce(&mut self) {
        self.online.set(false);
        self.claim.go_offline();
    }

    fn go_online(&self) {
        if !self.online.replace(true) {
            self.claim.go_online(&self.shared.published);
        }
    }
}

/// One node at one zxid.
pub struct NodeView<'a> {
    body: BodyRef,
    _owner: PhantomData<&'a ()>,
}

impl NodeView<'_> {
    /// The lifetime is that of the borrow which keeps the body.
    pub(super) fn new(body: BodyRef) -> Self {
        NodeView { body, _owner: PhantomData }
    }
    /// The node's cell.
    pub fn cell(&self) -> CellId {
        self.body.cell()
    }
    /// The node's path.
    pub fn path(&self) -> &str {
        self.body.path()
    }
    /// Stamp of the body.
    pub fn zxid(&self) -> Zxid {
        Zxid(self.body.stamp())
    }
    /// The persisted stat.
    pub fn meta(&self) -> NodeMeta {
        self.body.meta()
    }
    /// The 68 bytes clients see.
    pub fn stat(&self) -> &StatWire {
        self.body.stat()
    }
    /// The data; null and empty are distinct.
    pub fn data(&self) -> Option<&[u8]> {
        self.body.data()
    }
    /// The ACL.
    pub fn acl(&self) -> &std::sync::Arc<AclList> {
        self.body.acl().expect("a view is never of a tombstone")
    }
    /// Number of children.
    pub fn children_len(&self) -> usize {
        self.body.children().len()
    }
    /// Children cells in the set's order: by cell number, deterministic for a given sequence of calls to the store.
    pub fn children(&self) -> impl Iterator<Item = CellId> + '_ {
        self.body.children().iter_after(None)
    }
    /// The same from the first child after `after` on, for a listing in slices: finding the place costs O(log n).
    pub fn children_after(&self, after: Option<CellId>) -> impl Iterator<Item = CellId> + '_ {
        self.body.children().iter_after(after)
    }
}

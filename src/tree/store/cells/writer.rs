//! The writer: pushes bodies, publishes them, takes them back. Reclaiming is in `reclaim`.

use super::super::sync::{Arc, Ordering};
use super::super::{CellId, Change, ChildChange, DataChange, NodeMeta};
use super::body::{self, Body, BodyRef, Data, Draft, Node};
use super::children::ChildSet;
use super::index::Fill;
use super::reader::{Hold, NodeView, Reader};
use super::reclaim::{Garbage, Reclaimer};
use super::{Shared, arena};
use crate::base::{AclList, Zxid};
use std::collections::VecDeque;
use std::ptr::NonNull;

/// Calls after which everything is reclaimed that nobody holds: one unlinks, the next frees.
const GRACE_CALLS: usize = 4;

/// The one writer. `Send`, not `Clone`. All methods that push take a zxid that is not below `applied` nor below that of any push
/// still in place.
pub struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) reclaimer: Reclaimer,
    /// Cell numbers to be used again.
    pub(super) free_cells: Vec<CellId>,
    /// Numbers from here on were never used.
    unused_cell: u32,
    fill: Fill,
    /// Pushes not committed, oldest first.
    uncommitted: VecDeque<NonNull<Body>>,
    node_count: usize,
    data_bytes: u64,
    /// See `begin_alone`.
    alone: bool,
}

// SAFETY: all pointers lead into `shared` or to bodies this writer alone may free; nothing is tied to a thread.
unsafe impl Send for Writer {}

impl Writer {
    /// Empty store, `applied` = 0. `hash_seed`: random in production, fixed in simulation.
    pub fn new(hash_seed: u64) -> Self {
        Self::with_parts(hash_seed, super::INDEX_PARTS)
    }

    pub(super) fn with_parts(hash_seed: u64, parts: usize) -> Self {
        let (shared, fill) = Shared::new(hash_seed, parts);
        Writer {
            shared: Arc::new(shared),
            reclaimer: Reclaimer::default(),
            free_cells: Vec::new(),
            unused_cell: 0,
            fill,
            uncommitted: VecDeque::new(),
            node_count: 0,
            data_bytes: 0,
            alone: false,
        }
    }

    /// Newest state of a path, uncommitted changes included; `None` when absent or deleted.
    pub fn head(&self, path: &str) -> Option<NodeView<'_>> {
        self.find(path).filter(|body| !body.is_tombstone()).map(NodeView::new)
    }
    /// The same by cell.
    pub fn head_of(&self, cell: CellId) -> Option<NodeView<'_>> {
        self.head_body(cell).filter(|body| !body.is_tombstone()).map(NodeView::new)
    }
    /// Committed state of a path: newest body at or below `applied` (quota checks, rule B10).
    pub fn committed(&self, path: &str) -> Option<NodeView<'_>> {
        // SAFETY: only this writer frees, and the view borrows it.
        unsafe { self.shared.version_at(self.find(path)?, self.applied().0) }.map(NodeView::new)
    }
    /// Children of a node in its newest state, in the set's order.
    pub fn head_children(&self, cell: CellId) -> Vec<CellId> {
        self.head_of(cell).map_or_else(Vec::new, |node| node.children().collect())
    }

    /// Pushes the first body of a new (or re-created: the cell is reused) node. The parent is updated by a separate `change`.
    /// Precondition (asserted): absent at the head. No children.
    pub fn create(&mut self, zxid: Zxid, path: &str, meta: &NodeMeta, data: Option<&[u8]>, acl: &std::sync::Arc<AclList>) -> CellId {
        self.create_if_absent(zxid, path, meta, data, || std::sync::Arc::clone(acl)).expect("created where a node is")
    }

    /// The same with one look at the index, where the caller does not know whether the node is there: then nothing is done, `acl` is not
    /// asked for, and the node's cell is the error.
    pub fn create_if_absent(
        &mut self,
        zxid: Zxid,
        path: &str,
        meta: &NodeMeta,
        data: Option<&[u8]>,
        acl: impl FnOnce() -> std::sync::Arc<AclList>,
    ) -> Result<CellId, CellId> {
        self.check_stamp(zxid);
        let hash = self.shared.hash(path);
        // SAFETY: as in `find`.
        let tombstone = unsafe { self.shared.head_hashed(hash, path) };
        if let Some(body) = tombstone.filter(|body| !body.is_tombstone()) {
            return Err(body.cell());
        }
        let cell = tombstone.map_or_else(|| self.take_cell(), |body| body.cell());
        let node = Node { meta, data: Data::new(data), acl: acl(), children: ChildSet::default() };
        let prev = tombstone.map_or(std::ptr::null_mut(), |body| body.pointer().as_ptr());
        let body = body::allocate(Draft { prev, stamp: zxid.0, cell, path, node: Some(node) });
        self.push(cell, body);
        if tombstone.is_none() {
            // After the cell has its body: a probe that meets the entry finds the path there.
            let replaced = self.shared.index.insert(&mut self.fill, hash, cell);
            replaced.into_iter().for_each(|table| self.reclaimer.unlinked(Garbage::Table(table)));
        }
        Ok(cell)
    }

    /// Pushes a body on top of an existing node.
    pub fn change(&mut self, zxid: Zxid, cell: CellId, change: &Change<'_>) {
        self.check_stamp(zxid);
        let head = self.head_node(cell);
        let mut children = self.children_again(head);
        match change.children {
            ChildChange::Keep => {}
            ChildChange::Add(child) => children.insert(child),
            ChildChange::Remove(gone) => children = children.without_all(gone),
        }
        let data = match change.data {
            DataChange::Keep => head.data_again(),
            DataChange::Set(data) => Data::new(data),
        };
        let acl = std::sync::Arc::clone(change.acl.as_ref().or(head.acl()).expect("a node has an ACL"));
        let node = Node { meta: &change.meta, data, acl, children };
        let body = body::allocate(Draft { prev: self.kept(head), stamp: zxid.0, cell, path: head.path(), node: Some(node) });
        self.push(cell, body);
    }

    /// Until `end_alone` nobody reads and nothing is taken back, as while a log is replayed: a version takes the place of the one before it at
    /// once, and what it is pushed under need not be committed. Precondition: nothing is uncommitted.
    pub fn begin_alone(&mut self) {
        assert!(self.uncommitted.is_empty(), "what can be taken back keeps the version before it");
        // Without readers each call ends a grace period; where something is kept all the same, versions go the usual way.
        for _ in 0..GRACE_CALLS {
            self.reclaim(usize::MAX);
        }
        self.alone = Arc::get_mut(&mut self.shared).is_some() && self.reclaimer.is_idle();
    }
    /// Everything pushed since `begin_alone` is committed.
    pub fn end_alone(&mut self) {
        self.alone = false;
    }

    /// Pushes a body with these children added to those it has: what loading an image does once per node instead of once per child.
    /// Precondition: none of them is a child already.
    pub fn add_children(&mut self, zxid: Zxid, cell: CellId, joining: &[CellId]) {
        self.check_stamp(zxid);
        let head = self.head_node(cell);
        let acl = std::sync::Arc::clone(head.acl().expect("a node has an ACL"));
        let node = Node { meta: &head.meta(), data: head.data_again(), acl, children: head.children().with_all(joining) };
        let body = body::allocate(Draft { prev: self.kept(head), stamp: zxid.0, cell, path: head.path(), node: Some(node) });
        self.push(cell, body);
    }

    /// Pushes a tombstone. Precondition (asserted): present at the head, no children.
    pub fn remove(&mut self, zxid: Zxid, cell: CellId) {
        self.check_stamp(zxid);
        let head = self.head_node(cell);
        assert!(head.children().len() == 0, "removed with children");
        if self.alone {
            self.uncount(head);
            return self.retire(cell, head.pointer());
        }
        let body = body::allocate(Draft { prev: head.pointer().as_ptr(), stamp: zxid.0, cell, path: head.path(), node: None });
        self.push(cell, body);
    }

    /// Takes back the most recent push that is not committed. Precondition (asserted): there is one.
    pub fn undo_last(&mut self) {
        let pointer = self.uncommitted.pop_back().expect("a push to take back");
        let body = self.linked(pointer);
        let (cell, prev) = (body.cell(), body.header().prev.load(Ordering::Relaxed));
        self.uncount(body);
        match NonNull::new(prev) {
            Some(older) => {
                let older = self.linked(older);
                self.count(older);
                self.cell(cell).store(prev, Ordering::Release);
                self.reclaimer.unlinked(Garbage::Body(pointer));
                if older.is_tombstone() {
                    self.reclaimer.check_bare(cell);
                }
            }
            None => self.retire(cell, pointer),
        }
    }

    /// Uncommitted pushes outstanding.
    pub fn uncommitted_len(&self) -> usize {
        self.uncommitted.len()
    }

    /// Everything pushed with a stamp <= `zxid` becomes visible: `applied` = `zxid`. Never decreases (asserted).
    pub fn commit(&mut self, zxid: Zxid) {
        assert!(zxid >= self.applied(), "applied never decreases");
        while let Some(body) = self.uncommitted.front().copied()
            && self.linked(body).stamp() <= zxid.0
        {
            self.uncommitted.pop_front();
            if !self.linked(body).header().prev.load(Ordering::Relaxed).is_null() {
                self.reclaimer.supersede(body);
            }
        }
        self.shared.published.applied.store(zxid.0, Ordering::SeqCst);
    }

    /// The published zxid.
    pub fn applied(&self) -> Zxid {
        Zxid(self.shared.published.applied.load(Ordering::Relaxed))
    }
    /// Retired but not yet freed bodies.
    pub fn garbage_len(&self) -> usize {
        self.reclaimer.bodies()
    }
    /// Nodes present at the head.
    pub fn node_count(&self) -> usize {
        self.node_count
    }
    /// Sum of data bytes of the nodes at the head plus path bytes (approximate_data_size).
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }
    /// Address of the newest body of the cell that was taken last.
    pub fn newest_address(&self) -> Option<usize> {
        let newest = CellId(self.unused_cell.checked_sub(1)?);
        Some(self.shared.arena.get(newest)?.load(Ordering::Relaxed).addr())
    }
    /// A new reader (any thread may use it; created by the writer).
    pub fn reader(&mut self) -> Reader {
        assert!(!self.alone, "what a reader selects is kept");
        Reader::new(Arc::clone(&self.shared))
    }
    /// Holds the current `applied` for a long read.
    pub fn hold(&mut self) -> Hold {
        assert!(!self.alone, "what a hold selects is kept");
        Hold::new(Arc::clone(&self.shared), self.applied().0)
    }

    /// Newest body in the cell, tombstones included.
    pub(super) fn head_body(&self, cell: CellId) -> Option<BodyRef> {
        NonNull::new(self.shared.arena.get(cell)?.load(Ordering::Relaxed)).map(|body| self.linked(body))
    }
    /// A body that is linked, or was and waits to be freed: only this writer frees bodies, so it may look at those at any time.
    pub(super) fn linked(&self, body: NonNull<Body>) -> BodyRef {
        // SAFETY: as said above; callers take the pointer from a link or from the queues of bodies not yet freed.
        unsafe { BodyRef::new(body) }
    }
    /// Takes a cell with nothing left but `last` out of reach, to be used again after a grace period.
    pub(super) fn retire(&mut self, cell: CellId, last: NonNull<Body>) {
        let hash = self.shared.hash(self.linked(last).path());
        let replaced = self.shared.index.remove(&mut self.fill, hash, cell);
        replaced.into_iter().for_each(|table| self.reclaimer.unlinked(Garbage::Table(table)));
        // Not only out of the index: a reader may know the number.
        self.cell(cell).store(std::ptr::null_mut(), Ordering::Release);
        self.reclaimer.unlinked(Garbage::Cell(cell, last));
    }
    /// True when a push of this body has not been committed, whatever its stamp.
    pub(super) fn is_uncommitted(&self, body: BodyRef) -> bool {
        self.uncommitted.front().is_some_and(|first| self.linked(*first).stamp() <= body.stamp())
    }

    fn find(&self, path: &str) -> Option<BodyRef> {
        // SAFETY: only this writer frees, and it is borrowed.
        unsafe { self.shared.head(path) }
    }
    fn head_node(&self, cell: CellId) -> BodyRef {
        self.head_body(cell).filter(|body| !body.is_tombstone()).expect("a node at the head")
    }
    fn cell(&self, cell: CellId) -> &arena::Cell {
        self.shared.arena.get(cell).expect("a cell in use")
    }
    fn take_cell(&mut self) -> CellId {
        let cell = self.free_cells.pop().unwrap_or_else(|| {
            let cell = CellId(self.unused_cell);
            self.unused_cell += 1;
            cell
        });
        self.shared.arena.reserve(cell);
        cell
    }
    /// The version before a new one, as it will be linked.
    fn kept(&self, head: BodyRef) -> *mut Body {
        if self.alone { std::ptr::null_mut() } else { head.pointer().as_ptr() }
    }
    /// The children for a version that follows `head`: shared with it, or what it had.
    fn children_again(&self, head: BodyRef) -> ChildSet {
        if self.alone {
            // SAFETY: nobody reads, and this writer has borrowed nothing from the body, which the next push frees.
            unsafe { body::take_children(head.pointer()) }
        } else {
            head.children().clone()
        }
    }
    /// Puts a version in the place of the one before, which goes.
    fn replace(&mut self, cell: CellId, body: NonNull<Body>) {
        let older = NonNull::new(self.cell(cell).load(Ordering::Relaxed));
        self.count(self.linked(body));
        self.cell(cell).store(body.as_ptr(), Ordering::Release);
        if let Some(older) = older {
            self.uncount(self.linked(older));
            // SAFETY: nobody reads; the only link to it was cut just now, and it is in no queue, since nothing is uncommitted or superseded.
            unsafe { body::free(older) };
        }
    }
    fn push(&mut self, cell: CellId, body: NonNull<Body>) {
        if self.alone {
            return self.replace(cell, body);
        }
        let new = self.linked(body);
        if let Some(older) = NonNull::new(new.header().prev.load(Ordering::Relaxed)) {
            self.uncount(self.linked(older));
        }
        self.count(new);
        self.uncommitted.push_back(body);
        self.cell(cell).store(body.as_ptr(), Ordering::Release);
    }
    fn check_stamp(&self, zxid: Zxid) {
        assert!(zxid >= self.applied(), "pushed below applied");
        let newest = self.uncommitted.back().map_or(0, |body| self.linked(*body).stamp());
        assert!(zxid.0 >= newest, "pushed below an earlier push");
    }
    fn count(&mut self, body: BodyRef) {
        if !body.is_tombstone() {
            self.node_count += 1;
            self.data_bytes += body.counted_bytes();
        }
    }
    fn uncount(&mut self, body: BodyRef) {
        if !body.is_tombstone() {
            self.node_count -= 1;
            self.data_bytes -= body.counted_bytes();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Readers may still be reading: what they might look at goes when the last of them does.
        let _ = self.shared.leftovers.set(self.reclaimer.take_unlinked());
    }
}

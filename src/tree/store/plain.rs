//! The naive twin of `cells`: every version of every node behind one lock, every view owning its body. Obviously right, slow, and
//! without `unsafe`; every test of the tree also runs on it (feature `plain-store`). Not for production.

use super::{CellId, Change, ChildChange, DataChange, NodeMeta};
use crate::base::stat::Stat;
use crate::base::{AclList, StatWire, Zxid};
use imbl::OrdSet;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// As of the real one.
pub const EXPECTED_MAX: usize = 16;

/// One node at one version.
struct Body {
    zxid: Zxid,
    cell: CellId,
    path: Arc<str>,
    meta: NodeMeta,
    stat: StatWire,
    data: Option<Arc<[u8]>>,
    acl: Arc<AclList>,
    children: OrdSet<CellId>,
}

/// A stamped version; no body is a tombstone.
struct Version {
    zxid: Zxid,
    body: Option<Arc<Body>>,
}

/// All versions of one path, oldest first. Of two with one stamp the later one counts.
struct Cell {
    path: Arc<str>,
    versions: Vec<Version>,
}

#[derive(Default)]
struct Shared {
    applied: Zxid,
    by_path: HashMap<Arc<str>, CellId>,
    cells: Vec<Option<Cell>>,
    free: Vec<CellId>,
    /// The lowest zxid each registered reader or hold may still read at.
    slots: BTreeMap<u64, Zxid>,
    next_slot: u64,
}

impl Shared {
    fn cell(&self, id: CellId) -> Option<&Cell> {
        self.cells.get(id.0 as usize)?.as_ref()
    }
    fn cell_mut(&mut self, id: CellId) -> &mut Cell {
        self.cells[id.0 as usize].as_mut().expect("a cell in use")
    }
    fn at(&self, id: CellId, at: Zxid) -> Option<Arc<Body>> {
        let version = self.cell(id)?.versions.iter().rev().find(|v| v.zxid <= at)?;
        version.body.clone()
    }
    fn get(&self, path: &str, at: Zxid) -> Option<Arc<Body>> {
        self.at(*self.by_path.get(path)?, at)
    }
    fn take_slot(&mut self, low: Zxid) -> u64 {
        self.next_slot += 1;
        self.slots.insert(self.next_slot, low);
        self.next_slot
    }
}

#[derive(Clone)]
struct Handle(Arc<RwLock<Shared>>);

impl Handle {
    fn read(&self) -> RwLockReadGuard<'_, Shared> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn write(&self) -> RwLockWriteGuard<'_, Shared> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one writer.
pub struct Writer {
    shared: Handle,
    /// Pushes that are not committed, oldest first.
    pending: VecDeque<(Zxid, CellId)>,
    /// Pushes that covered an older version, oldest first: what `reclaim` looks at.
    covered: VecDeque<(Zxid, CellId)>,
    node_count: usize,
    data_bytes: u64,
}

/// One shard's read access.
pub struct Reader {
    shared: Handle,
    slot: Option<u64>,
}

/// A zxid held for a long read.
pub struct Hold {
    shared: Handle,
    slot: u64,
    zxid: Zxid,
}

/// One node at one zxid.
pub struct NodeView<'a> {
    body: Arc<Body>,
    _store: PhantomData<&'a ()>,
}

fn view<'a>(body: Arc<Body>) -> NodeView<'a> {
    NodeView { body, _store: PhantomData }
}

fn weight(body: &Body) -> u64 {
    (body.path.len() + body.data.as_ref().map_or(0, |d| d.len())) as u64
}

#[allow(clippy::too_many_arguments)]
fn body(
    zxid: Zxid,
    cell: CellId,
    path: Arc<str>,
    meta: NodeMeta,
    data: Option<Arc<[u8]>>,
    acl: Arc<AclList>,
    children: OrdSet<CellId>,
) -> Arc<Body> {
    let count = children.len() as i32;
    let stat = StatWire::from(Stat {
        czxid: meta.czxid,
        mzxid: meta.mzxid,
        ctime: meta.ctime,
        mtime: meta.mtime,
        version: meta.version,
        cversion: meta.cversion.wrapping_mul(2).wrapping_sub(count),
        aversion: meta.aversion,
        ephemeral_owner: meta.wire_owner,
        data_length: data.as_ref().map_or(0, |d| d.len() as i32),
        num_children: count,
        pzxid: meta.pzxid,
    });
    Arc::new(Body { zxid, cell, path, meta, stat, data, acl, children })
}

impl Writer {
    /// Empty store, `applied` = 0. The seed is of no use here.
    pub fn new(_hash_seed: u64) -> Self {
        Writer {
            shared: Handle(Arc::new(RwLock::new(Shared::default()))),
            pending: VecDeque::new(),
            covered: VecDeque::new(),
            node_count: 0,
            data_bytes: 0,
        }
    }
    /// Nothing is fetched ahead.
    pub fn expect<'a>(&self, _paths: impl IntoIterator<Item = &'a str>) {}
    /// Nobody needs to know.
    pub fn newest_address(&self) -> Option<usize> {
        None
    }
    /// Newest state of a path, uncommitted changes included.
    pub fn head(&self, path: &str) -> Option<NodeView<'_>> {
        self.shared.read().get(path, Zxid::MAX).map(view)
    }
    /// The same by cell.
    pub fn head_of(&self, cell: CellId) -> Option<NodeView<'_>> {
        self.shared.read().at(cell, Zxid::MAX).map(view)
    }
    /// Committed state of a path.
    pub fn committed(&self, path: &str) -> Option<NodeView<'_>> {
        let shared = self.shared.read();
        shared.get(path, shared.applied).map(view)
    }
    /// Children of a node in its newest state.
    pub fn head_children(&self, cell: CellId) -> Vec<CellId> {
        self.head_of(cell).map_or_else(Vec::new, |v| v.children().collect())
    }
    /// Pushes the first body of a new or re-created node.
    pub fn create(&mut self, zxid: Zxid, path: &str, meta: &NodeMeta, data: Option<&[u8]>, acl: &Arc<AclList>) -> CellId {
        self.create_if_absent(zxid, path, meta, data, || Arc::clone(acl)).expect("node exists at the head")
    }
    /// The same, or the cell of the node that is there.
    pub fn create_if_absent(
        &mut self,
        zxid: Zxid,
        path: &str,
        meta: &NodeMeta,
        data: Option<&[u8]>,
        acl: impl FnOnce() -> Arc<AclList>,
    ) -> Result<CellId, CellId> {
        if let Some(there) = self.head(path) {
            return Err(there.cell());
        }
        let cell = self.cell_for(path);
        let name = self.shared.read().cell(cell).map(|c| Arc::clone(&c.path)).expect("a cell in use");
        let body = body(zxid, cell, name, *meta, data.map(Arc::from), acl(), OrdSet::new());
        self.push(zxid, cell, Some(body));
        Ok(cell)
    }
    /// Pushes a body on top of an existing node.
    pub fn change(&mut self, zxid: Zxid, cell: CellId, change: &Change<'_>) {
        let old = self.shared.read().at(cell, Zxid::MAX).expect("node exists at the head");
        let data = match change.data {
            DataChange::Keep => old.data.clone(),
            DataChange::Set(data) => data.map(Arc::from),
        };
        let mut children = old.children.clone();
        match change.children {
            ChildChange::Keep => {}
            ChildChange::Add(child) => assert!(children.insert(child).is_none(), "child is new"),
            ChildChange::Remove(gone) => gone.iter().for_each(|child| assert!(children.remove(child).is_some(), "child is there")),
        }
        let acl = change.acl.clone().unwrap_or_else(|| Arc::clone(&old.acl));
        let body = body(zxid, cell, Arc::clone(&old.path), change.meta, data, acl, children);
        self.push(zxid, cell, Some(body));
    }
    /// Nobody reads and nothing is taken back from here to `end_alone`: no difference here.
    pub fn begin_alone(&mut self) {}
    /// See `begin_alone`.
    pub fn end_alone(&mut self) {}
    /// Pushes a body with these children added.
    pub fn add_children(&mut self, zxid: Zxid, cell: CellId, joining: &[CellId]) {
        let old = self.shared.read().at(cell, Zxid::MAX).expect("node exists at the head");
        let mut children = old.children.clone();
        children.extend(joining.iter().copied());
        let body = body(zxid, cell, Arc::clone(&old.path), old.meta, old.data.clone(), Arc::clone(&old.acl), children);
        self.push(zxid, cell, Some(body));
    }
    /// Pushes a tombstone.
    pub fn remove(&mut self, zxid: Zxid, cell: CellId) {
        let old = self.shared.read().at(cell, Zxid::MAX).expect("node exists at the head");
        assert!(old.children.is_empty(), "node has no children");
        self.push(zxid, cell, None);
    }
    /// Takes back the most recent push that is not committed.
    pub fn undo_last(&mut self) {
        let (zxid, cell) = self.pending.pop_back().expect("an uncommitted push");
        if self.covered.back() == Some(&(zxid, cell)) {
            self.covered.pop_back();
        }
        let version = self.shared.write().cell_mut(cell).versions.pop().expect("the push to undo");
        assert_eq!(version.zxid, zxid, "undo in reverse order");
        self.count_out(version.body.as_deref());
        let below = self.shared.read().at(cell, Zxid::MAX);
        self.count_in(below.as_deref());
        let mut shared = self.shared.write();
        if shared.cell_mut(cell).versions.is_empty() {
            free(&mut shared, cell);
        }
    }
    /// Uncommitted pushes outstanding.
    pub fn uncommitted_len(&self) -> usize {
        self.pending.len()
    }
    /// Publishes everything stamped at or below `zxid`.
    pub fn commit(&mut self, zxid: Zxid) {
        let mut shared = self.shared.write();
        assert!(zxid >= shared.applied, "applied never decreases");
        shared.applied = zxid;
        drop(shared);
        while self.pending.front().is_some_and(|(z, _)| *z <= zxid) {
            self.pending.pop_front();
        }
    }
    /// The published zxid.
    pub fn applied(&self) -> Zxid {
        self.shared.read().applied
    }
    /// Drops at most about `budget` versions nobody can select any more.
    pub fn reclaim(&mut self, budget: usize) -> usize {
        let mut shared = self.shared.write();
        let low = shared.slots.values().copied().fold(shared.applied, Zxid::min);
        let mut freed = 0;
        while freed < budget && self.covered.front().is_some_and(|(z, _)| *z <= low) {
            let Some((_, cell)) = self.covered.pop_front() else { break };
            if shared.cell(cell).is_none() {
                continue;
            }
            let versions = &mut shared.cell_mut(cell).versions;
            let keep = versions.iter().rposition(|v| v.zxid <= low).unwrap_or(0);
            freed += keep;
            versions.drain(..keep);
            if versions.len() == 1 && versions[0].body.is_none() && versions[0].zxid <= low {
                freed += 1;
                free(&mut shared, cell);
            }
        }
        freed
    }
    /// Versions covered by newer ones and not dropped yet.
    pub fn garbage_len(&self) -> usize {
        self.covered.len()
    }
    /// Nodes present at the head.
    pub fn node_count(&self) -> usize {
        self.node_count
    }
    /// Path and data bytes of the nodes at the head.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }
    /// A new reader.
    pub fn reader(&mut self) -> Reader {
        Reader { shared: self.shared.clone(), slot: None }
    }
    /// Holds the current `applied`.
    pub fn hold(&mut self) -> Hold {
        let mut shared = self.shared.write();
        let zxid = shared.applied;
        Hold { shared: self.shared.clone(), slot: shared.take_slot(zxid), zxid }
    }

    fn cell_for(&mut self, path: &str) -> CellId {
        let mut shared = self.shared.write();
        if let Some(id) = shared.by_path.get(path) {
            return *id;
        }
        let path: Arc<str> = path.into();
        let cell = Some(Cell { path: Arc::clone(&path), versions: Vec::new() });
        let id = if let Some(id) = shared.free.pop() {
            shared.cells[id.0 as usize] = cell;
            id
        } else {
            shared.cells.push(cell);
            CellId(shared.cells.len() as u32 - 1)
        };
        shared.by_path.insert(path, id);
        id
    }
    fn push(&mut self, zxid: Zxid, cell: CellId, body: Option<Arc<Body>>) {
        assert!(zxid >= self.pending.back().map_or(self.applied(), |p| p.0), "stamps do not go back");
        let old = self.shared.read().at(cell, Zxid::MAX);
        self.count_out(old.as_deref());
        self.count_in(body.as_deref());
        let mut shared = self.shared.write();
        let versions = &mut shared.cell_mut(cell).versions;
        assert!(versions.last().is_none_or(|v| v.zxid <= zxid), "stamps of a cell do not go back");
        if !versions.is_empty() {
            self.covered.push_back((zxid, cell));
        }
        versions.push(Version { zxid, body });
        self.pending.push_back((zxid, cell));
    }
    fn count_in(&mut self, body: Option<&Body>) {
        if let Some(body) = body {
            self.node_count += 1;
            self.data_bytes += weight(body);
        }
    }
    fn count_out(&mut self, body: Option<&Body>) {
        if let Some(body) = body {
            self.node_count -= 1;
            self.data_bytes -= weight(body);
        }
    }
}

fn free(shared: &mut Shared, cell: CellId) {
    if let Some(gone) = shared.cells[cell.0 as usize].take() {
        shared.by_path.remove(&gone.path);
        shared.free.push(cell);
    }
}

impl Reader {
    /// Starts or continues reading; returns `applied`.
    pub fn begin_burst(&mut self) -> Zxid {
        let mut shared = self.shared.write();
        let applied = shared.applied;
        if self.slot.is_none() {
            self.slot = Some(shared.take_slot(applied));
        }
        applied
    }
    /// `applied`, without registering.
    pub fn applied(&self) -> Zxid {
        self.shared.read().applied
    }
    /// Raises the lowest zxid this reader may still read at.
    pub fn set_low(&mut self, zxid: Zxid) {
        let slot = self.slot.expect("a registered reader");
        let mut shared = self.shared.write();
        assert!(zxid <= shared.applied, "low is at most applied");
        let low = shared.slots.entry(slot).or_default();
        *low = zxid.max(*low);
    }
    /// Nothing more to read.
    pub fn park(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.shared.write().slots.remove(&slot);
        }
    }
    /// A node at `at`.
    pub fn get(&self, path: &str, at: Zxid) -> Option<NodeView<'_>> {
        self.shared.read().get(path, at).map(view)
    }
    /// The same by cell.
    pub fn node(&self, cell: CellId, at: Zxid) -> Option<NodeView<'_>> {
        self.shared.read().at(cell, at).map(view)
    }
    /// A second slot at `at`.
    pub fn hold(&self, at: Zxid) -> Hold {
        Hold { shared: self.shared.clone(), slot: self.shared.write().take_slot(at), zxid: at }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.park();
    }
}

impl Hold {
    /// The zxid held.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }
    /// A node at the held zxid.
    pub fn get(&self, path: &str) -> Option<NodeView<'_>> {
        self.shared.read().get(path, self.zxid).map(view)
    }
    /// The same by cell.
    pub fn node(&self, cell: CellId) -> Option<NodeView<'_>> {
        self.shared.read().at(cell, self.zxid).map(view)
    }
    /// Quiescent point; views own what they show, so there is nothing to do.
    pub fn quiesce(&mut self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.write().slots.remove(&self.slot);
    }
}

impl NodeView<'_> {
    /// The cell.
    pub fn cell(&self) -> CellId {
        self.body.cell
    }
    /// Absolute path.
    pub fn path(&self) -> &str {
        &self.body.path
    }
    /// Stamp of the body.
    pub fn zxid(&self) -> Zxid {
        self.body.zxid
    }
    /// Stored numbers.
    pub fn meta(&self) -> NodeMeta {
        self.body.meta
    }
    /// The 68 bytes clients see.
    pub fn stat(&self) -> &StatWire {
        &self.body.stat
    }
    /// Data; null and empty are distinct.
    pub fn data(&self) -> Option<&[u8]> {
        self.body.data.as_deref()
    }
    /// Access control list.
    pub fn acl(&self) -> &Arc<AclList> {
        &self.body.acl
    }
    /// Number of children.
    pub fn children_len(&self) -> usize {
        self.body.children.len()
    }
    /// Children in the set's order.
    pub fn children(&self) -> impl Iterator<Item = CellId> + '_ {
        self.body.children.iter().copied()
    }
    /// Children after the given one in the set's order; all of them after `None`.
    pub fn children_after(&self, after: Option<CellId>) -> impl Iterator<Item = CellId> + '_ {
        self.body.children.iter().copied().filter(move |cell| after.is_none_or(|a| *cell > a))
    }
}

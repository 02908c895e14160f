//! Random histories against a model that copies everything: one map per committed zxid, one per uncommitted push.

use super::super::super::{CellId, Change, ChildChange, DataChange, NodeMeta};
use super::super::reader::{Hold, NodeView, Reader};
use super::super::{Writer, body};
use crate::base::path::parent;
use crate::base::{AclList, AclVec, StatWire, Zxid};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const PATHS: [&str; 9] = ["/", "/a", "/b", "/a/x", "/a/y", "/a/z", "/b/x", "/a/x/1", "/a/x/2"];
const BIG: usize = 3 * body::INLINE_DATA_MAX;

#[derive(Clone, PartialEq, Debug)]
struct Expected {
    stamp: u64,
    meta: NodeMeta,
    data: Option<Vec<u8>>,
    acl: i64,
    children: BTreeSet<&'static str>,
}

type State = BTreeMap<&'static str, Expected>;

#[derive(Clone, Debug)]
enum Op {
    /// The next push is of a new zxid.
    NextZxid,
    Create(usize, Option<usize>),
    Remove(usize),
    Change(usize, Option<Option<usize>>, bool),
    Undo(usize),
    /// Commits up to so many zxids below the head.
    Commit(u64),
    Reclaim(usize),
    Burst(usize),
    SetLow(usize, u64),
    Park(usize),
    HoldHere,
    HoldOf(usize, u64),
    Release(usize),
    Quiesce(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let size = prop_oneof![Just(None), (0usize..200).prop_map(Some), Just(Some(body::INLINE_DATA_MAX)), Just(Some(BIG))];
    let path = 0..PATHS.len();
    let pushes = prop_oneof![
        4 => (path.clone(), size.clone()).prop_map(|(p, s)| Op::Create(p, s)),
        3 => path.clone().prop_map(Op::Remove),
        4 => (path, prop::option::of(size), any::<bool>()).prop_map(|(p, s, a)| Op::Change(p, s, a)),
    ];
    prop_oneof![
        8 => Just(Op::NextZxid),
        24 => pushes,
        3 => (1usize..6).prop_map(Op::Undo),
        8 => (0u64..3).prop_map(Op::Commit),
        6 => prop_oneof![Just(1usize), Just(3), Just(1000)].prop_map(Op::Reclaim),
        6 => (0usize..3).prop_map(Op::Burst),
        2 => (0usize..3, 0u64..4).prop_map(|(r, back)| Op::SetLow(r, back)),
        3 => (0usize..3).prop_map(Op::Park),
        1 => Just(Op::HoldHere),
        2 => (0usize..3, 0u64..4).prop_map(|(r, back)| Op::HoldOf(r, back)),
        2 => (0usize..4).prop_map(Op::Release),
        2 => (0usize..4).prop_map(Op::Quiesce),
    ]
}

struct ModelReader {
    reader: Reader,
    /// (low, burst) when registered.
    range: Option<(u64, u64)>,
}

struct Pushed {
    stamp: u64,
    state: State,
    /// Parents and children agree: the last push of an operation.
    whole: bool,
}

struct World {
    writer: Writer,
    zxid: u64,
    /// States after each push not committed; the first is the newest committed one.
    head: Vec<Pushed>,
    /// Committed states by the zxid that made them.
    committed: BTreeMap<u64, State>,
    readers: Vec<ModelReader>,
    holds: Vec<Hold>,
    next_number: i64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut writer = Writer::with_parts(seed, 2);
        let readers = (0..3).map(|_| ModelReader { reader: writer.reader(), range: None }).collect();
        World {
            writer,
            zxid: 1,
            head: vec![Pushed { stamp: 0, state: State::new(), whole: true }],
            committed: BTreeMap::from([(0, State::new())]),
            readers,
            holds: Vec::new(),
            next_number: 1,
        }
    }

    fn state(&self) -> &State {
        &self.head.last().expect("never empty").state
    }
    /// The state at a zxid at or below `applied`.
    fn state_at(&self, zxid: u64) -> &State {
        self.committed.range(..=zxid).next_back().expect("zero is there").1
    }
    fn pushed(&mut self, state: State, whole: bool) {
        self.head.push(Pushed { stamp: self.zxid, state, whole });
    }
    /// Numbers that differ in every push, some of them extreme.
    fn meta(&mut self) -> NodeMeta {
        self.next_number += 1;
        let n = self.next_number;
        let owner = if n % 3 == 0 { i64::MIN | n } else { n };
        NodeMeta {
            czxid: n,
            mzxid: -n,
            ctime: n << 20,
            mtime: n << 21,
            version: n as i32,
            cversion: (n as i32).wrapping_mul(0x3456_789B),
            aversion: -(n as i32),
            owner,
            wire_owner: if n % 3 == 0 { 0 } else { owner },
            pzxid: n << 40,
        }
    }
    fn data(&self, size: Option<usize>) -> Option<Vec<u8>> {
        size.map(|size| (0..size).map(|i| (i as i64 ^ self.next_number) as u8).collect())
    }
    fn acl(&self) -> Arc<AclList> {
        AclList::new(self.next_number, AclVec::WORLD_READ)
    }

    fn cell(&self, path: &str) -> CellId {
        self.writer.head(path).expect("in the model too").cell()
    }

    /// Changes the parent's children, as one more push.
    fn change_parent(&mut self, path: &'static str, children: ChildChange<'_>) {
        let Some(parent) = parent(path) else { return };
        let meta = self.meta();
        let cell = self.cell(parent);
        self.writer.change(Zxid(self.zxid), cell, &Change { meta, data: DataChange::Keep, acl: None, children });
        let mut state = self.state().clone();
        let node = state.get_mut(parent).expect("parents stay while they have children");
        node.stamp = self.zxid;
        node.meta = meta;
        match children {
            ChildChange::Add(_) => assert!(node.children.insert(path)),
            ChildChange::Remove(_) => assert!(node.children.remove(path)),
            ChildChange::Keep => {}
        }
        self.pushed(state, true);
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::NextZxid => self.zxid += 1,
            Op::Create(path, size) => self.create(PATHS[path], size),
            Op::Remove(path) => self.remove(PATHS[path]),
            Op::Change(path, size, acl) => self.change(PATHS[path], size, acl),
            Op::Undo(count) => {
                let mut left = count.min(self.head.len() - 1);
                while left > 0 || !self.head.last().expect("never empty").whole {
                    self.writer.undo_last();
                    self.head.pop();
                    left = left.saturating_sub(1);
                }
            }
            Op::Commit(back) => self.commit(back),
            Op::Reclaim(budget) => {
                let before = self.writer.garbage_len();
                let freed = self.writer.reclaim(budget);
                assert!(freed <= budget && freed <= before);
            }
            Op::Burst(reader) => self.burst(reader),
            Op::SetLow(reader, back) => {
                let reader = &mut self.readers[reader];
                if let Some((low, burst)) = &mut reader.range {
                    *low = burst.saturating_sub(back).max(*low);
                    reader.reader.set_low(Zxid(*low));
                }
            }
            Op::Park(reader) => {
                self.readers[reader].range = None;
                self.readers[reader].reader.park();
            }
            Op::HoldHere => {
                self.holds.push(self.writer.hold());
                assert_eq!(self.holds.last().map(Hold::zxid), Some(self.writer.applied()));
            }
            Op::HoldOf(reader, back) => {
                if let Some((low, burst)) = self.readers[reader].range {
                    let at = Zxid(burst.saturating_sub(back).max(low));
                    self.holds.push(self.readers[reader].reader.hold(at));
                }
            }
            Op::Release(hold) => {
                if hold < self.holds.len() {
                    self.holds.swap_remove(hold);
                }
            }
            Op::Quiesce(hold) => {
                if let Some(hold) = self.holds.get_mut(hold) {
                    hold.quiesce();
                }
            }
        }
    }

    fn create(&mut self, path: &'static str, size: Option<usize>) {
        let orphan = parent(path).is_some_and(|parent| !self.state().contains_key(parent));
        if orphan || self.state().contains_key(path) {
            return;
        }
        let (meta, data, acl) = (self.meta(), self.data(size), self.acl());
        let cell = self.writer.create(Zxid(self.zxid), path, &meta, data.as_deref(), &acl);
        let mut state = self.state().clone();
        state.insert(path, Expected { stamp: self.zxid, meta, data, acl: acl.id, children: BTreeSet::new() });
        self.pushed(state, parent(path).is_none());
        self.change_parent(path, ChildChange::Add(cell));
    }

    fn remove(&mut self, path: &'static str) {
        if self.state().get(path).is_none_or(|node| !node.children.is_empty()) {
            return;
        }
        let cell = self.cell(path);
        self.writer.remove(Zxid(self.zxid), cell);
        let mut state = self.state().clone();
        state.remove(path);
        self.pushed(state, parent(path).is_none());
        self.change_parent(path, ChildChange::Remove(&[cell]));
    }

    fn change(&mut self, path: &'static str, size: Option<Option<usize>>, new_acl: bool) {
        if !self.state().contains_key(path) {
            return;
        }
        let (meta, acl) = (self.meta(), new_acl.then(|| self.acl()));
        let new_data = size.map(|size| self.data(size));
        let data = new_data.as_ref().map_or(DataChange::Keep, |data| DataChange::Set(data.as_deref()));
        let cell = self.cell(path);
        self.writer.change(Zxid(self.zxid), cell, &Change { meta, data, acl: acl.clone(), children: ChildChange::Keep });
        let mut state = self.state().clone();
        let node = state.get_mut(path).expect("checked above");
        node.stamp = self.zxid;
        node.meta = meta;
        node.acl = acl.map_or(node.acl, |acl| acl.id);
        node.data = new_data.unwrap_or_else(|| node.data.clone());
        self.pushed(state, true);
    }

    fn commit(&mut self, back: u64) {
        let zxid = self.zxid.saturating_sub(back).max(self.writer.applied().0);
        self.writer.commit(Zxid(zxid));
        let last = self.head.iter().rposition(|push| push.stamp <= zxid).expect("the committed state is there");
        self.committed.extend(self.head.drain(..last).map(|push| (push.stamp, push.state)));
        self.committed.insert(self.head[0].stamp, self.head[0].state.clone());
        assert_eq!(self.writer.applied(), Zxid(zxid));
        // What is stamped at or below `applied` is visible at once: the next push is of a newer zxid.
        self.zxid = self.zxid.max(zxid + 1);
    }

    fn burst(&mut self, reader: usize) {
        let reader = &mut self.readers[reader];
        let applied = reader.reader.begin_burst().0;
        assert_eq!(applied, self.writer.applied().0);
        let low = reader.range.map_or(applied, |(low, _)| low);
        reader.range = Some((low, applied));
    }

    fn check(&self) {
        let head = self.state();
        assert_eq!(self.writer.node_count(), head.len());
        let bytes = head.iter().map(|(path, node)| path.len() + node.data.as_ref().map_or(0, Vec::len));
        assert_eq!(self.writer.data_bytes(), bytes.sum::<usize>() as u64);
        assert_eq!(self.writer.uncommitted_len(), self.head.len() - 1);
        let applied = self.state_at(self.writer.applied().0);
        for path in PATHS {
            compare(self.writer.head(path), head.get(path), path, |cell| self.writer.head_of(cell));
            compare_node(self.writer.committed(path), applied.get(path), path);
        }
        for reader in &self.readers {
            let Some((low, burst)) = reader.range else { continue };
            for at in low..=burst {
                for path in PATHS {
                    let expected = self.state_at(at).get(path);
                    compare(reader.reader.get(path, Zxid(at)), expected, path, |cell| reader.reader.node(cell, Zxid(at)));
                }
            }
        }
        for hold in &self.holds {
            for path in PATHS {
                compare(hold.get(path), self.state_at(hold.zxid().0).get(path), path, |cell| hold.node(cell));
            }
        }
    }

    /// With everyone gone, all garbage goes, and what stays is one body per node.
    fn wind_up(mut self) {
        while self.head.len() > 1 {
            self.writer.undo_last();
            self.head.pop();
        }
        for reader in &mut self.readers {
            reader.range = None;
            reader.reader.park();
        }
        self.holds.clear();
        for _ in 0..3 {
            self.writer.reclaim(usize::MAX);
        }
        assert_eq!(self.writer.garbage_len(), 0);
        self.check();
    }
}

fn compare<'a>(view: Option<NodeView<'_>>, expected: Option<&Expected>, path: &str, node: impl Fn(CellId) -> Option<NodeView<'a>>) {
    if let (Some(view), Some(expected)) = (&view, expected) {
        assert_eq!(view.children_len(), expected.children.len());
        let cells: Vec<_> = view.children().collect();
        let named: BTreeSet<String> = cells.iter().map(|cell| node(*cell).expect("a child exists").path().to_owned()).collect();
        assert!(named.iter().map(String::as_str).eq(expected.children.iter().copied()), "children of {path}");
        let middle = cells.get(cells.len() / 2).copied();
        assert!(view.children_after(middle).eq(cells.iter().copied().filter(|cell| Some(*cell) > middle)));
        compare_view(&node(view.cell()).expect("the same by cell"), expected);
    }
    compare_node(view, expected, path);
}

fn compare_node(view: Option<NodeView<'_>>, expected: Option<&Expected>, path: &str) {
    match (view, expected) {
        (None, None) => {}
        (Some(view), Some(expected)) => {
            assert_eq!(view.path(), path);
            compare_view(&view, expected);
        }
        (view, expected) => panic!("{path}: found {:?}, expected {expected:?}", view.map(|v| v.meta())),
    }
}

fn compare_view(view: &NodeView<'_>, expected: &Expected) {
    assert_eq!(view.zxid().0, expected.stamp);
    assert_eq!(view.meta(), expected.meta);
    assert_eq!(view.data(), expected.data.as_deref());
    assert_eq!(view.acl().id, expected.acl);
    let meta = &expected.meta;
    let stat = StatWire {
        czxid: meta.czxid.into(),
        mzxid: meta.mzxid.into(),
        ctime: meta.ctime.into(),
        mtime: meta.mtime.into(),
        version: meta.version.into(),
        cversion: meta.cversion.wrapping_mul(2).wrapping_sub(expected.children.len() as i32).into(),
        aversion: meta.aversion.into(),
        ephemeral_owner: meta.wire_owner.into(),
        data_length: (expected.data.as_ref().map_or(0, Vec::len) as i32).into(),
        num_children: (expected.children.len() as i32).into(),
        pzxid: meta.pzxid.into(),
    };
    assert_eq!(*view.stat(), stat);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64)))]
    #[test]
    fn every_reader_sees_what_the_model_holds_at_its_zxid(seed: u64, ops in prop::collection::vec(op(), 1..200)) {
        let live = body::live::get();
        let mut world = World::new(seed);
        world.run(Op::Create(0, None));
        for op in ops {
            world.run(op);
            world.check();
        }
        world.wind_up();
        prop_assert_eq!(body::live::get(), live, "every body is freed");
    }
}

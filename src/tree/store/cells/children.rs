//! The set of a node's children: immutable, shared between the bodies that have the same children, ordered by cell number.
//!
//! A B+ tree of sorted arrays whose versions share all but the changed path: no change copies a huge directory, and up to
//! [`LEAF_MAX`] children are one array. Children mostly join in the order of their numbers, so a full leaf is left full then: about
//! five bytes a child. The order is that of the cell numbers, hence the same for the same sequence of calls.

use super::super::CellId;
use smallvec::SmallVec;
use std::sync::Arc;

/// Most children in one array.
const LEAF_MAX: usize = 64;
/// Most parts of a branch.
const BRANCH_MAX: usize = 32;
/// A set that loses more than one in so many members is made anew: taking one out copies a leaf and the branches above it.
const REBUILD_SHARE: usize = 64;

/// One immutable set; cloning shares it. The empty set takes no memory beyond the pointer.
#[derive(Clone, Default)]
pub(super) struct ChildSet(Option<Arc<Set>>);

/// A subtree, never empty. All leaves are at one depth.
enum Set {
    Leaf(Ids),
    Branch(Branch),
}

type Ids = SmallVec<[u32; 4]>;

struct Branch {
    /// Members below.
    len: usize,
    /// The first member of each part.
    firsts: Vec<u32>,
    parts: Vec<Arc<Set>>,
}

/// What a change made of a subtree.
enum Changed {
    Nothing,
    Gone,
    One(Arc<Set>),
    Two(Arc<Set>, Arc<Set>),
}

const _: () = assert!(size_of::<ChildSet>() == 8);

impl ChildSet {
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |root| root.len())
    }

    /// The set with this child; the same set when it is in already.
    pub(super) fn with(&self, child: CellId) -> Self {
        let Some(root) = &self.0 else { return ChildSet(Some(leaf(&[child.0]))) };
        match Set::insert(root, child.0) {
            Changed::Nothing | Changed::Gone => self.clone(),
            Changed::One(root) => ChildSet(Some(root)),
            Changed::Two(left, right) => ChildSet(Some(branch(vec![left, right]))),
        }
    }

    /// Adds a child: in place where nobody shares what has to change.
    pub(super) fn insert(&mut self, child: CellId) {
        let in_place = self.0.as_mut().and_then(Arc::get_mut).and_then(|root| root.insert_in_place(child.0));
        if in_place.is_none() {
            *self = self.with(child);
        }
    }

    /// The set with all of these.
    pub(super) fn with_all(&self, children: &[CellId]) -> Self {
        let mut ids: Vec<u32> = self.iter_after(None).chain(children.iter().copied()).map(|cell| cell.0).collect();
        ids.sort_unstable();
        ids.dedup();
        Self::of_sorted(&ids)
    }

    fn of_sorted(ids: &[u32]) -> Self {
        let mut level: Vec<Arc<Set>> = ids.chunks(LEAF_MAX).map(leaf).collect();
        while level.len() > 1 {
            level = level.chunks(BRANCH_MAX).map(|parts| branch(parts.to_vec())).collect();
        }
        ChildSet(level.pop())
    }

    /// The set without this child; the same set when it is not in.
    pub(super) fn without(&self, child: CellId) -> Self {
        let Some(root) = &self.0 else { return ChildSet(None) };
        let mut root = match root.remove(child.0) {
            Changed::Gone => return ChildSet(None),
            Changed::One(root) => root,
            Changed::Nothing | Changed::Two(..) => return self.clone(),
        };
        while let Set::Branch(Branch { parts, .. }) = &*root
            && let [only] = &parts[..]
        {
            root = Arc::clone(only);
        }
        ChildSet(Some(root))
    }

    /// The set without these children: taken out one by one where they are few, otherwise made anew.
    pub(super) fn without_all(&self, children: &[CellId]) -> Self {
        if let [child] = children {
            return self.without(*child);
        }
        if children.len() * REBUILD_SHARE < self.len() {
            return children.iter().fold(self.clone(), |set, child| set.without(*child));
        }
        let mut gone: Vec<u32> = children.iter().map(|cell| cell.0).collect();
        gone.sort_unstable();
        let left: Vec<u32> = self.iter_after(None).map(|cell| cell.0).filter(|id| gone.binary_search(id).is_err()).collect();
        Self::of_sorted(&left)
    }

    /// Members in order, from the first one greater than `after`.
    pub(super) fn iter_after(&self, after: Option<CellId>) -> impl Iterator<Item = CellId> + '_ {
        let mut iter = Iter { rest: &[], above: SmallVec::new() };
        if let Some(root) = &self.0 {
            iter.descend(root, after.map(|cell| cell.0));
        }
        iter
    }
}

impl Set {
    fn len(&self) -> usize {
        match self {
            Set::Leaf(ids) => ids.len(),
            Set::Branch(branch) => branch.len,
        }
    }
    fn first(&self) -> u32 {
        match self {
            Set::Leaf(ids) => ids[0],
            Set::Branch(branch) => branch.firsts[0],
        }
    }

    fn insert(this: &Arc<Set>, id: u32) -> Changed {
        match &**this {
            Set::Leaf(ids) => match ids.binary_search(&id) {
                Ok(_) => Changed::Nothing,
                Err(at) if ids.len() < LEAF_MAX => Changed::One(leaf_of(&[&ids[..at], &[id], &ids[at..]])),
                // Joining at the end leaves this one full.
                Err(LEAF_MAX) => Changed::Two(Arc::clone(this), leaf(&[id])),
                Err(at) => {
                    let (left, right) = ids.split_at(LEAF_MAX / 2);
                    match at.checked_sub(left.len()) {
                        None => Changed::Two(leaf_of(&[&left[..at], &[id], &left[at..]]), leaf(right)),
                        Some(at) => Changed::Two(leaf(left), leaf_of(&[&right[..at], &[id], &right[at..]])),
                    }
                }
            },
            Set::Branch(node) => {
                let at = node.part_of(id);
                match Set::insert(&node.parts[at], id) {
                    Changed::Nothing | Changed::Gone => Changed::Nothing,
                    Changed::One(part) => Changed::One(node.replaced(at, 1, &[part])),
                    Changed::Two(left, right) => node.split_at(at, left, right),
                }
            }
        }
    }

    /// How many members that has added; `None` when something is shared or full, and nothing is changed.
    fn insert_in_place(&mut self, id: u32) -> Option<usize> {
        match self {
            Set::Leaf(ids) => match ids.binary_search(&id) {
                Ok(_) => Some(0),
                Err(_) if ids.len() == LEAF_MAX => None,
                Err(at) => {
                    ids.insert(at, id);
                    Some(1)
                }
            },
            Set::Branch(node) => {
                let at = node.part_of(id);
                let added = Arc::get_mut(&mut node.parts[at])?.insert_in_place(id)?;
                node.len += added;
                node.firsts[at] = node.firsts[at].min(id);
                Some(added)
            }
        }
    }

    fn remove(&self, id: u32) -> Changed {
        match self {
            Set::Leaf(ids) => match ids.binary_search(&id) {
                Err(_) => Changed::Nothing,
                Ok(_) if ids.len() == 1 => Changed::Gone,
                Ok(at) => Changed::One(leaf_of(&[&ids[..at], &ids[at + 1..]])),
            },
            Set::Branch(node) => {
                let at = node.part_of(id);
                match node.parts[at].remove(id) {
                    Changed::Nothing | Changed::Two(..) => Changed::Nothing,
                    Changed::Gone if node.parts.len() == 1 => Changed::Gone,
                    Changed::Gone => Changed::One(node.replaced(at, 1, &[])),
                    Changed::One(part) => Changed::One(node.merged(at, part)),
                }
            }
        }
    }

    /// Both as one, when that is at most half full: so that what is sparse does not stay so, nor splits again at once.
    fn join(left: &Set, right: &Set) -> Option<Arc<Set>> {
        match (left, right) {
            (Set::Leaf(left), Set::Leaf(right)) => (left.len() + right.len() <= LEAF_MAX / 2).then(|| leaf_of(&[left, right])),
            (Set::Branch(left), Set::Branch(right)) => {
                (left.parts.len() + right.parts.len() <= BRANCH_MAX / 2).then(|| branch([&left.parts[..], &right.parts].concat()))
            }
            _ => None,
        }
    }
}

impl Branch {
    /// The part where `id` is or would be.
    fn part_of(&self, id: u32) -> usize {
        self.firsts.partition_point(|first| *first <= id).saturating_sub(1)
    }
    /// With `count` parts from `at` on replaced.
    fn replaced(&self, at: usize, count: usize, parts: &[Arc<Set>]) -> Arc<Set> {
        branch([&self.parts[..at], parts, &self.parts[at + count..]].concat())
    }
    /// With part `at` replaced by one that has become smaller.
    fn merged(&self, at: usize, part: Arc<Set>) -> Arc<Set> {
        if at > 0
            && let Some(joined) = Set::join(&self.parts[at - 1], &part)
        {
            return self.replaced(at - 1, 2, &[joined]);
        }
        if let Some(next) = self.parts.get(at + 1)
            && let Some(joined) = Set::join(&part, next)
        {
            return self.replaced(at, 2, &[joined]);
        }
        self.replaced(at, 1, &[part])
    }
    /// With part `at` replaced by two.
    fn split_at(&self, at: usize, left: Arc<Set>, right: Arc<Set>) -> Changed {
        if self.parts.len() < BRANCH_MAX {
            return Changed::One(self.replaced(at, 1, &[left, right]));
        }
        let mut parts = [&self.parts[..at], &[left, right], &self.parts[at + 1..]].concat();
        // Joining at the end leaves this one full.
        let rest = parts.split_off(if at + 1 == BRANCH_MAX { BRANCH_MAX } else { BRANCH_MAX / 2 });
        Changed::Two(branch(parts), branch(rest))
    }
}

fn leaf(ids: &[u32]) -> Arc<Set> {
    Arc::new(Set::Leaf(Ids::from_slice(ids)))
}
fn leaf_of(pieces: &[&[u32]]) -> Arc<Set> {
    let mut ids = Ids::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
    pieces.iter().for_each(|piece| ids.extend_from_slice(piece));
    Arc::new(Set::Leaf(ids))
}
fn branch(parts: Vec<Arc<Set>>) -> Arc<Set> {
    let len = parts.iter().map(|part| part.len()).sum();
    let firsts = parts.iter().map(|part| part.first()).collect();
    Arc::new(Set::Branch(Branch { len, firsts, parts }))
}

struct Iter<'a> {
    /// What is left of the leaf at hand.
    rest: &'a [u32],
    /// What is left of the branches above it, the lowest last.
    above: SmallVec<[&'a [Arc<Set>]; 6]>,
}

impl<'a> Iter<'a> {
    /// To the first member below `set` that is greater than `after`.
    fn descend(&mut self, mut set: &'a Set, after: Option<u32>) {
        loop {
            match set {
                Set::Leaf(ids) => {
                    self.rest = &ids[after.map_or(0, |after| ids.partition_point(|id| *id <= after))..];
                    return;
                }
                Set::Branch(node) => {
                    let at = after.map_or(0, |after| node.part_of(after));
                    self.above.push(&node.parts[at + 1..]);
                    set = &node.parts[at];
                }
            }
        }
    }
}

impl Iterator for Iter<'_> {
    type Item = CellId;

    fn next(&mut self) -> Option<CellId> {
        loop {
            if let Some((id, rest)) = self.rest.split_first() {
                self.rest = rest;
                return Some(CellId(*id));
            }
            if let Some((next, rest)) = self.above.pop()?.split_first() {
                self.above.push(rest);
                self.descend(next, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Depth and counts hold below; returns the depth.
    fn check(set: &Set, is_root: bool) -> usize {
        match set {
            Set::Leaf(ids) => {
                assert!((1..=LEAF_MAX).contains(&ids.len()) && ids.is_sorted());
                0
            }
            Set::Branch(node) => {
                assert!((1 + usize::from(is_root)..=BRANCH_MAX).contains(&node.parts.len()));
                assert!(node.firsts.iter().copied().eq(node.parts.iter().map(|part| part.first())));
                assert_eq!(node.len, node.parts.iter().map(|part| part.len()).sum::<usize>());
                let depths: BTreeSet<usize> = node.parts.iter().map(|part| check(part, false)).collect();
                assert_eq!(depths.len(), 1, "all leaves are at one depth");
                1 + depths.first().expect("just counted")
            }
        }
    }

    #[test]
    fn large_sets_stay_right_in_any_order_of_joining_and_leaving() {
        let mut prng = crate::base::prng::Prng::new(3);
        for shuffled in [false, true] {
            let mut ids: Vec<u32> = (0..20_000).collect();
            let mut shuffle = |ids: &mut Vec<u32>| (1..ids.len()).for_each(|i| ids.swap(i, prng.below(i as u64 + 1) as usize));
            if shuffled {
                shuffle(&mut ids);
            }
            let full = ids.iter().fold(ChildSet::default(), |set, id| set.with(CellId(*id)));
            assert!(full.iter_after(None).map(|cell| cell.0).eq(0..20_000));
            let depth = check(full.0.as_ref().expect("not empty"), true);
            assert!(depth <= 3, "wide, not deep: {depth}");
            shuffle(&mut ids);
            let mut set = full.clone();
            for (gone, id) in ids.iter().enumerate() {
                assert_eq!(set.len(), 20_000 - gone);
                set = set.without(CellId(*id));
                if gone % 500 == 0 {
                    check(set.0.as_ref().expect("not empty"), true);
                    assert!(set.iter_after(Some(CellId(*id))).next().is_none_or(|next| next.0 > *id));
                }
            }
            assert!(set.0.is_none());
            assert_eq!(full.iter_after(Some(CellId(12_344))).next(), Some(CellId(12_345)), "the older version is as it was");
        }
    }

    #[test]
    fn what_is_joined_in_order_is_kept_dense_and_what_empties_shrinks() {
        let leaves = |set: &ChildSet| {
            fn count(set: &Set) -> usize {
                match set {
                    Set::Leaf(_) => 1,
                    Set::Branch(node) => node.parts.iter().map(|part| count(part)).sum(),
                }
            }
            count(set.0.as_ref().expect("not empty"))
        };
        let mut set = (0..6400).fold(ChildSet::default(), |set, id| set.with(CellId(id)));
        assert_eq!(leaves(&set), 100);
        for id in (0..6400).filter(|id| id % 32 != 0) {
            set = set.without(CellId(id));
        }
        assert_eq!(set.len(), 200);
        assert!(leaves(&set) <= 20, "{} leaves for 200 members", leaves(&set));
    }

    proptest! {
        #[test]
        fn adding_many_equals_adding_one_by_one(first in prop::collection::vec(0u32..900, 0..300), then in prop::collection::vec(0u32..900, 0..300)) {
            let start = first.iter().fold(ChildSet::default(), |set, id| set.with(CellId(*id)));
            let cells: Vec<CellId> = then.iter().map(|id| CellId(*id)).collect();
            let one_by_one = cells.iter().fold(start.clone(), |set, cell| set.with(*cell));
            let at_once = start.with_all(&cells);
            prop_assert_eq!(at_once.len(), one_by_one.len());
            prop_assert!(at_once.iter_after(None).eq(one_by_one.iter_after(None)));
        }

        #[test]
        fn taking_many_out_equals_taking_them_one_by_one(len in 0u32..3000, gone in prop::collection::vec(0u32..3000, 0..300), all in any::<bool>()) {
            let start = (0..len).fold(ChildSet::default(), |set, id| set.with(CellId(id)));
            let gone: Vec<CellId> = if all { (0..len).rev().map(CellId).collect() } else { gone.into_iter().map(CellId).collect() };
            let one_by_one = gone.iter().fold(start.clone(), |set, cell| set.without(*cell));
            let at_once = start.without_all(&gone);
            prop_assert_eq!(at_once.len(), one_by_one.len());
            prop_assert!(at_once.iter_after(None).eq(one_by_one.iter_after(None)));
        }

        #[test]
        fn behaves_as_an_ordered_set_and_old_versions_stay(ops in prop::collection::vec((any::<bool>(), 0u32..400), 0..1000)) {
            let mut set = ChildSet::default();
            let mut model = BTreeSet::new();
            let mut older = Vec::new();
            for (add, id) in ops {
                // Every other version is shared with nobody.
                if id % 2 == 0 {
                    older.push((set.clone(), model.clone()));
                }
                if add {
                    set.insert(CellId(id));
                    model.insert(id);
                } else {
                    set = set.without(CellId(id));
                    model.remove(&id);
                }
                if let Some(root) = &set.0 {
                    check(root, true);
                }
                prop_assert_eq!(set.len(), model.len());
                let after: Vec<u32> = set.iter_after(Some(CellId(id))).map(|c| c.0).collect();
                prop_assert_eq!(after, model.range(id + 1..).copied().collect::<Vec<_>>());
            }
            older.push((set, model));
            for (set, model) in older.iter().rev().take(40) {
                prop_assert!(set.iter_after(None).map(|c| c.0).eq(model.iter().copied()));
            }
        }
    }
}

//! The set of a node's children: immutable, shared between the bodies that have the same children, ordered by cell number.
//!
//! Few children are one sorted array, copied on a change; many are a persistent tree that shares all but the changed path, so no
//! change copies a huge directory. The order is that of the cell numbers, hence the same for the same sequence of calls.

use super::super::CellId;
use smallvec::SmallVec;
use std::ops::Bound;
use std::sync::Arc;

/// Up to this many children are kept in an array.
pub(super) const FEW_MAX: usize = 32;

/// One immutable set; cloning shares it. The empty set takes no memory beyond the pointer.
#[derive(Clone, Default)]
pub(super) struct ChildSet(Option<Arc<Set>>);

enum Set {
    Few(SmallVec<[u32; 4]>),
    Many(imbl::OrdSet<u32>),
}

const _: () = assert!(size_of::<ChildSet>() == 8);

impl ChildSet {
    pub(super) fn len(&self) -> usize {
        match self.0.as_deref() {
            None => 0,
            Some(Set::Few(ids)) => ids.len(),
            Some(Set::Many(ids)) => ids.len(),
        }
    }

    /// The set with this child; the same set when it is in already.
    pub(super) fn with(&self, child: CellId) -> Self {
        let id = child.0;
        match self.0.as_deref() {
            None => Self::few(SmallVec::from_slice(&[id])),
            Some(Set::Few(ids)) => match ids.binary_search(&id) {
                Ok(_) => self.clone(),
                Err(at) if ids.len() < FEW_MAX => {
                    let mut more = SmallVec::with_capacity(ids.len() + 1);
                    more.extend_from_slice(&ids[..at]);
                    more.push(id);
                    more.extend_from_slice(&ids[at..]);
                    Self::few(more)
                }
                Err(_) => {
                    let mut many: imbl::OrdSet<u32> = ids.iter().copied().collect();
                    many.insert(id);
                    Self::many(many)
                }
            },
            Some(Set::Many(ids)) => Self::many(ids.update(id)),
        }
    }

    /// The set with all of these.
    pub(super) fn with_all(&self, children: &[CellId]) -> Self {
        let mut ids: SmallVec<[u32; 4]> = self.iter_after(None).chain(children.iter().copied()).map(|cell| cell.0).collect();
        ids.sort_unstable();
        ids.dedup();
        match ids.len() {
            0 => ChildSet(None),
            few if few <= FEW_MAX => Self::few(SmallVec::from_slice(&ids)),
            _ => Self::many(ids.iter().copied().collect()),
        }
    }

    /// The set without this child; the same set when it is not in.
    pub(super) fn without(&self, child: CellId) -> Self {
        let id = child.0;
        match self.0.as_deref() {
            None => ChildSet(None),
            Some(Set::Few(ids)) => match ids.binary_search(&id) {
                Err(_) => self.clone(),
                Ok(_) if ids.len() == 1 => ChildSet(None),
                Ok(at) => {
                    let mut fewer = SmallVec::with_capacity(ids.len() - 1);
                    fewer.extend_from_slice(&ids[..at]);
                    fewer.extend_from_slice(&ids[at + 1..]);
                    Self::few(fewer)
                }
            },
            Some(Set::Many(ids)) => {
                let fewer = ids.without(&id);
                // Half the limit, so that a directory at the limit does not change its form with every change.
                if fewer.len() <= FEW_MAX / 2 { Self::few(fewer.iter().copied().collect()) } else { Self::many(fewer) }
            }
        }
    }

    /// Members in order, from the first one greater than `after`.
    pub(super) fn iter_after(&self, after: Option<CellId>) -> impl Iterator<Item = CellId> + '_ {
        let from = after.map_or(Bound::Unbounded, |cell| Bound::Excluded(cell.0));
        let (few, many) = match self.0.as_deref() {
            None => (&[][..], None),
            Some(Set::Few(ids)) => {
                let start = after.map_or(0, |cell| ids.partition_point(|id| *id <= cell.0));
                (&ids[start..], None)
            }
            Some(Set::Many(ids)) => (&[][..], Some(ids.range((from, Bound::Unbounded)))),
        };
        few.iter().chain(many.into_iter().flatten()).map(|id| CellId(*id))
    }

    fn few(ids: SmallVec<[u32; 4]>) -> Self {
        ChildSet(Some(Arc::new(Set::Few(ids))))
    }
    fn many(ids: imbl::OrdSet<u32>) -> Self {
        ChildSet(Some(Arc::new(Set::Many(ids))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn adding_many_equals_adding_one_by_one(first in prop::collection::vec(0u32..200, 0..60), then in prop::collection::vec(0u32..200, 0..60)) {
            let start = first.iter().fold(ChildSet::default(), |set, id| set.with(CellId(*id)));
            let cells: Vec<CellId> = then.iter().map(|id| CellId(*id)).collect();
            let one_by_one = cells.iter().fold(start.clone(), |set, cell| set.with(*cell));
            let at_once = start.with_all(&cells);
            prop_assert_eq!(at_once.len(), one_by_one.len());
            prop_assert!(at_once.iter_after(None).eq(one_by_one.iter_after(None)));
        }

        #[test]
        fn behaves_as_an_ordered_set_and_old_versions_stay(ops in prop::collection::vec((any::<bool>(), 0u32..120), 0..400)) {
            let mut set = ChildSet::default();
            let mut model = BTreeSet::new();
            let mut older = Vec::new();
            for (add, id) in ops {
                older.push((set.clone(), model.clone()));
                if add {
                    set = set.with(CellId(id));
                    model.insert(id);
                } else {
                    set = set.without(CellId(id));
                    model.remove(&id);
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

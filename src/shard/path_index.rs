//! Finds the slot of a watched path: open addressing over slot numbers, 4 bytes each; the paths stay in their slots.

use foldhash::fast::FixedState;
use std::hash::BuildHasher;

const EMPTY: u32 = u32::MAX;
const CAPACITY_MIN: usize = 16;

/// Slot numbers by hash; linear probing, no tombstones.
pub(super) struct PathIndex {
    state: FixedState,
    table: Vec<u32>,
    len: usize,
}

impl PathIndex {
    pub(super) fn new(seed: u64) -> Self {
        PathIndex { state: FixedState::with_seed(seed), table: Vec::new(), len: 0 }
    }

    pub(super) fn hash(&self, path: &str) -> u32 {
        self.state.hash_one(path.as_bytes()) as u32
    }

    pub(super) fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let mut at = self.home(hash);
        loop {
            match self.table[at] {
                EMPTY => return None,
                slot if is_it(slot) => return Some(slot),
                _ => at = self.after(at),
            }
        }
    }

    /// Precondition: the slot is not in the index. `hash_of` gives the hash of a slot that is.
    pub(super) fn insert(&mut self, hash: u32, slot: u32, hash_of: impl Fn(u32) -> u32) {
        if (self.len + 1) * 4 > self.table.len() * 3 {
            self.resize((self.table.len() * 2).max(CAPACITY_MIN), &hash_of);
        }
        self.put(hash, slot);
        self.len += 1;
    }

    /// Removes a slot; false when it was not in the index.
    pub(super) fn remove(&mut self, hash: u32, slot: u32, hash_of: impl Fn(u32) -> u32) -> bool {
        if self.len == 0 {
            return false;
        }
        let mut hole = self.home(hash);
        while self.table[hole] != slot {
            if self.table[hole] == EMPTY {
                return false;
            }
            hole = self.after(hole);
        }
        // Moves later entries of the run back, so that no entry is behind an empty place.
        let mut next = self.after(hole);
        while self.table[next] != EMPTY {
            let home = self.home(hash_of(self.table[next]));
            let mask = self.table.len() - 1;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.table[hole] = self.table[next];
                hole = next;
            }
            next = self.after(next);
        }
        self.table[hole] = EMPTY;
        self.len -= 1;
        if self.len * 8 < self.table.len() && self.table.len() > CAPACITY_MIN {
            self.resize(self.table.len() / 2, &hash_of);
        }
        true
    }

    fn resize(&mut self, capacity: usize, hash_of: &impl Fn(u32) -> u32) {
        let old = std::mem::replace(&mut self.table, vec![EMPTY; capacity]);
        for slot in old.into_iter().filter(|slot| *slot != EMPTY) {
            self.put(hash_of(slot), slot);
        }
    }

    fn put(&mut self, hash: u32, slot: u32) {
        let mut at = self.home(hash);
        while self.table[at] != EMPTY {
            at = self.after(at);
        }
        self.table[at] = slot;
    }

    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.table.len() - 1)
    }
    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.table.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn holds_what_a_set_holds(ops in proptest::collection::vec((any::<bool>(), 0u32..200), 0..600)) {
            // A hash with many collisions and runs that wrap around.
            let hash_of = |slot: u32| u32::MAX - 40 + (slot * 7) % 31;
            let (mut index, mut model) = (PathIndex::new(0), BTreeSet::new());
            for (insert, slot) in ops {
                if insert && model.insert(slot) {
                    index.insert(hash_of(slot), slot, hash_of);
                } else if !insert {
                    prop_assert_eq!(index.remove(hash_of(slot), slot, hash_of), model.remove(&slot));
                }
                prop_assert_eq!(index.len, model.len());
            }
            for slot in 0..200 {
                prop_assert_eq!(index.find(hash_of(slot), |s| s == slot).is_some(), model.contains(&slot));
            }
        }
    }
}

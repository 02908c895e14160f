//! From a path's hash to a cell's number: many small open-addressing tables, one per hash prefix (rule A18).
//!
//! One word per entry: 32 bits of hash, 32 bits of cell number + 1. Linear probing; an entry's home follows from its hash bits by
//! multiplication, so tables may have any length and are rebuilt in sequence. The writer changes words in place, and only in ways a
//! probe may meet at any moment: empty → entry, entry → marker, marker → entry, and marker → empty only directly before an empty word.
//! An entry never moves within a table. A part that is full, or full of markers, is rebuilt alone; readers inside the old table
//! finish there: what it lacks was created after they chose their zxid, and the table is freed only after they have left.

use super::super::CellId;
use super::super::sync::{AtomicPtr, AtomicU64, Canary, MODEL, Ordering};
use std::ptr::{self, NonNull};

const EMPTY: u64 = 0;
/// An entry was here; probes go on.
const MARKER: u64 = 1 << 32;
const SLOTS_MIN: usize = if MODEL { 2 } else { 8 };

pub(super) struct Table {
    slots: Box<[AtomicU64]>,
    canary: Canary,
}

/// The part readers see.
pub(super) struct Index {
    parts: Box<[AtomicPtr<Table>]>,
}

/// The writer's bookkeeping: per part, entries and words that are not empty.
pub(super) struct Fill {
    parts: Box<[PartFill]>,
}

#[derive(Clone, Copy, Default)]
struct PartFill {
    live: u32,
    used: u32,
}

impl Index {
    pub(super) fn new(parts: usize) -> (Self, Fill) {
        let index = Index { parts: (0..parts).map(|_| AtomicPtr::new(ptr::null_mut())).collect() };
        (index, Fill { parts: vec![PartFill::default(); parts].into() })
    }

    /// The first cell with this hash that `pick` accepts.
    ///
    /// # Safety
    /// A table retired by `insert` or `remove` during this call must not be freed before it returns.
    pub(super) unsafe fn find<R>(&self, hash: u64, mut pick: impl FnMut(CellId) -> Option<R>) -> Option<R> {
        let table = self.parts[self.part(hash)].load(Ordering::Acquire);
        // SAFETY: set pointers come from `Box::into_raw`; not freed meanwhile, by the contract.
        let table = unsafe { table.as_ref() }?;
        table.canary.look();
        let tag = hash as u32;
        let mut at = table.home(tag);
        loop {
            let word = table.slots[at].load(Ordering::Acquire);
            if word == EMPTY {
                return None;
            }
            if (word >> 32) as u32 == tag
                && let Some(cell) = cell_of(word)
                && let Some(found) = pick(cell)
            {
                return Some(found);
            }
            at = if at + 1 == table.slots.len() { 0 } else { at + 1 };
        }
    }

    // ---- writer only, ahead of a look-up: each step needs what the one before has fetched

    pub(super) fn fetch_part(&self, hash: u64) {
        fetch(&self.parts[self.part(hash)]);
    }
    pub(super) fn fetch_table(&self, hash: u64) {
        fetch(self.parts[self.part(hash)].load(Ordering::Relaxed));
    }
    pub(super) fn fetch_slot(&self, hash: u64) {
        if let Some(table) = self.table(self.part(hash)) {
            fetch(&table.slots[table.home(hash as u32)]);
        }
    }
    /// The first cell whose entry has this hash: most probably the one that is going to be found.
    pub(super) fn guess(&self, hash: u64) -> Option<CellId> {
        let table = self.table(self.part(hash))?;
        let words = table.probe(hash as u32).map(|at| table.slots[at].load(Ordering::Relaxed)).take_while(|word| *word != EMPTY);
        words.filter(|word| (word >> 32) as u32 == hash as u32).find_map(cell_of)
    }

    /// Adds an entry. Returns the table this replaced, if any, for the caller to free when all readers have left it.
    pub(super) fn insert(&self, fill: &mut Fill, hash: u64, cell: CellId) -> Option<NonNull<Table>> {
        let part = self.part(hash);
        let mut retired = None;
        // One more entry must leave room: a probe ends only at an empty word.
        if !has_room(fill.parts[part].used as usize + 1, self.table(part).map_or(0, |t| t.slots.len())) {
            retired = self.rebuild(fill, part, 1);
        }
        let table = self.table(part).expect("made above");
        let tag = hash as u32;
        for at in table.probe(tag) {
            let word = table.slots[at].load(Ordering::Relaxed);
            if word == EMPTY || word == MARKER {
                table.slots[at].store(entry(tag, cell), Ordering::Release);
                fill.parts[part].live += 1;
                fill.parts[part].used += u32::from(word == EMPTY);
                return retired;
            }
        }
        unreachable!("a table always has an empty word")
    }

    /// Takes an entry out (it must be there). Returns the table this replaced, if any.
    pub(super) fn remove(&self, fill: &mut Fill, hash: u64, cell: CellId) -> Option<NonNull<Table>> {
        let part = self.part(hash);
        let table = self.table(part).expect("the entry is there");
        let tag = hash as u32;
        let len = table.slots.len();
        let mut at = table
            .probe(tag)
            .take_while(|at| table.slots[*at].load(Ordering::Relaxed) != EMPTY)
            .find(|at| table.slots[*at].load(Ordering::Relaxed) == entry(tag, cell))
            .expect("the entry is there");
        table.slots[at].store(MARKER, Ordering::Release);
        let fill_part = &mut fill.parts[part];
        fill_part.live -= 1;
        // Markers directly before an empty word lead nowhere.
        if table.slots[(at + 1) % len].load(Ordering::Relaxed) == EMPTY {
            while table.slots[at].load(Ordering::Relaxed) == MARKER {
                table.slots[at].store(EMPTY, Ordering::Release);
                fill_part.used -= 1;
                at = (at + len - 1) % len;
            }
        }
        let sparse = len > SLOTS_MIN && (fill_part.live as usize) < len / 5;
        if sparse { self.rebuild(fill, part, 0) } else { None }
    }

    /// Replaces a part's table by one that fits its entries and `extra` more.
    fn rebuild(&self, fill: &mut Fill, part: usize, extra: usize) -> Option<NonNull<Table>> {
        let live = fill.parts[part].live as usize;
        let table = Table::new(((live + extra) * 20 / 11).max(SLOTS_MIN));
        if let Some(old) = self.table(part) {
            for word in old.slots.iter().map(|slot| slot.load(Ordering::Relaxed)).filter(|word| cell_of(*word).is_some()) {
                let home = table.probe((word >> 32) as u32).find(|at| table.slots[*at].load(Ordering::Relaxed) == EMPTY);
                table.slots[home.expect("larger than its entries")].store(word, Ordering::Relaxed);
            }
        }
        fill.parts[part].used = live as u32;
        let old = self.parts[part].load(Ordering::Relaxed);
        self.parts[part].store(Box::into_raw(Box::new(table)), Ordering::Release);
        NonNull::new(old)
    }

    /// The writer's view of a part: it alone replaces tables, so the current one stays while it looks.
    fn table(&self, part: usize) -> Option<&Table> {
        // SAFETY: set pointers come from `Box::into_raw`; the current table of a part is freed only with the index.
        unsafe { self.parts[part].load(Ordering::Relaxed).as_ref() }
    }
    fn part(&self, hash: u64) -> usize {
        (((hash >> 32) * self.parts.len() as u64) >> 32) as usize
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        for part in &self.parts {
            if let Some(table) = NonNull::new(part.load(Ordering::Acquire)) {
                // SAFETY: with the index gone nobody reaches its tables; retired ones are no longer in `parts`.
                unsafe { free_table(table) };
            }
        }
    }
}

/// Frees a table that `insert` or `remove` returned.
///
/// # Safety
/// No reader is inside it, and it was not freed before.
pub(super) unsafe fn free_table(table: NonNull<Table>) {
    // SAFETY: by the contract; made by `Box::into_raw` in `rebuild`.
    let table = unsafe { Box::from_raw(table.as_ptr()) };
    table.canary.free();
    if MODEL {
        Box::leak(table);
    }
}

impl Table {
    fn new(len: usize) -> Self {
        Table { slots: (0..len).map(|_| AtomicU64::new(EMPTY)).collect(), canary: Canary::new() }
    }
    /// Positions from the tag's home on, each once.
    fn probe(&self, tag: u32) -> impl Iterator<Item = usize> + use<> {
        let home = self.home(tag);
        (home..self.slots.len()).chain(0..home)
    }
    fn home(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.slots.len() as u64) >> 32) as usize
    }
}

/// Asks for memory that is going to be read, without waiting for it.
pub(super) fn fetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it reads nothing; an address that is none does no harm.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

fn entry(tag: u32, cell: CellId) -> u64 {
    (u64::from(tag) << 32) | (u64::from(cell.0) + 1)
}
fn cell_of(word: u64) -> Option<CellId> {
    (word as u32).checked_sub(1).map(CellId)
}
/// At most four fifths of the words may be used.
fn has_room(used: usize, len: usize) -> bool {
    used * 5 <= len * 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn finds_what_is_in_and_nothing_else(ops in prop::collection::vec((0u32..3, 0u32..80), 0..600)) {
            let (index, mut fill) = Index::new(2);
            let mut model = BTreeMap::new();
            let mut retired = Vec::new();
            // Few distinct tags and only two parts, so that probe runs are long and wrap around.
            let hash = |id: u32| (u64::from(id % 2) << 63) | u64::from(u32::MAX - (id % 7) * 3);
            for (op, id) in ops {
                if op < 2 && !model.contains_key(&id) {
                    retired.extend(index.insert(&mut fill, hash(id), CellId(id)));
                    model.insert(id, ());
                } else if op == 2 && model.remove(&id).is_some() {
                    retired.extend(index.remove(&mut fill, hash(id), CellId(id)));
                }
                for id in 0..80 {
                    // SAFETY: nothing is freed before the end.
                    let found = unsafe { index.find(hash(id), |cell| (cell == CellId(id)).then_some(())) };
                    prop_assert_eq!(found.is_some(), model.contains_key(&id));
                    let guessed = index.guess(hash(id));
                    prop_assert_eq!(guessed.is_some(), model.keys().any(|other| hash(*other) == hash(id)));
                    prop_assert!(guessed.is_none_or(|cell| hash(cell.0) == hash(id) && model.contains_key(&cell.0)));
                }
            }
            for table in retired {
                // SAFETY: one thread, no find under way; each was replaced once.
                unsafe { free_table(table) };
            }
        }
    }

    #[test]
    fn churn_keeps_tables_small_and_an_emptied_index_shrinks() {
        let (index, mut fill) = Index::new(2);
        let hash = |id: u32| u64::from(id.wrapping_mul(0x9E37_79B9));
        let mut retired = Vec::new();
        for id in 0..100_000u32 {
            retired.extend(index.insert(&mut fill, hash(id), CellId(id)));
            if id >= 10 {
                retired.extend(index.remove(&mut fill, hash(id - 10), CellId(id - 10)));
            }
        }
        assert_eq!(fill.parts[0].live, 10);
        assert!(index.table(0).expect("used").slots.len() <= 64);
        for id in 100_000..150_000 {
            retired.extend(index.insert(&mut fill, hash(id), CellId(id)));
        }
        for id in 100_000..150_000 {
            retired.extend(index.remove(&mut fill, hash(id), CellId(id)));
        }
        assert!(index.table(0).expect("used").slots.len() <= 64);
        for table in retired {
            // SAFETY: one thread, no find under way; each was replaced once.
            unsafe { free_table(table) };
        }
    }
}

//! Cells by number: each is one atomic pointer to the newest body. Chunks double in size, never move and go with the store, so a number
//! leads to its cell with no lock and no reference count, and an empty store has one small chunk.

use super::super::CellId;
use super::super::sync::{AtomicPtr, MODEL, Ordering};
use super::body::Body;
use std::ptr;

pub(super) type Cell = AtomicPtr<Body>;

const FIRST_CHUNK_BITS: u32 = if MODEL { 1 } else { 10 };
const CHUNKS: usize = 32 - FIRST_CHUNK_BITS as usize;
/// One past the largest cell number: where the chunks end.
pub(super) const CELLS_MAX: u64 = (1 << 32) - (1 << FIRST_CHUNK_BITS);

pub(super) struct Arena {
    chunks: [AtomicPtr<Cell>; CHUNKS],
}

impl Arena {
    pub(super) fn new() -> Self {
        Arena { chunks: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())) }
    }

    /// The cell of this number; `None` when no cell of its chunk was ever used.
    pub(super) fn get(&self, cell: CellId) -> Option<&Cell> {
        if u64::from(cell.0) >= CELLS_MAX {
            return None;
        }
        let (chunk, offset) = locate(cell);
        let cells = self.chunks[chunk].load(Ordering::Acquire);
        // SAFETY: a chunk that is set has `chunk_len(chunk)` cells, more than `offset`, and is freed only with the arena.
        (!cells.is_null()).then(|| unsafe { &*cells.add(offset) })
    }

    /// Makes the cell's chunk exist. Writer only.
    pub(super) fn reserve(&self, cell: CellId) {
        assert!(u64::from(cell.0) < CELLS_MAX, "more znodes than cell numbers");
        let (chunk, _) = locate(cell);
        if self.chunks[chunk].load(Ordering::Relaxed).is_null() {
            let cells = Box::into_raw(new_chunk(chunk_len(chunk)));
            self.chunks[chunk].store(cells.cast::<Cell>(), Ordering::Release);
        }
    }

    /// Every cell that may be in use, for taking the store down.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Cell> {
        (0..CELLS_MAX as u32).map_while(|id| self.get(CellId(id)))
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for (chunk, cells) in self.chunks.iter().enumerate() {
            let cells = cells.load(Ordering::Acquire);
            if !cells.is_null() {
                // SAFETY: made by `Box::into_raw` of a slice of this length in `reserve`, freed once, here.
                drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(cells, chunk_len(chunk))) });
            }
        }
    }
}

fn chunk_len(chunk: usize) -> usize {
    1 << (chunk as u32 + FIRST_CHUNK_BITS)
}

/// Chunk and offset: numbers are shifted by the first chunk's length, so that the top bit names the chunk.
fn locate(cell: CellId) -> (usize, usize) {
    let shifted = u64::from(cell.0) + (1 << FIRST_CHUNK_BITS);
    let top = shifted.ilog2();
    ((top - FIRST_CHUNK_BITS) as usize, (shifted - (1 << top)) as usize)
}

/// Zeroed by the system, so a large chunk costs memory only as it fills.
fn new_chunk(len: usize) -> Box<[Cell]> {
    if MODEL {
        return (0..len).map(|_| Cell::new(ptr::null_mut())).collect();
    }
    // SAFETY: an `AtomicPtr` has the layout of a pointer, and all-zero bytes are the null pointer.
    unsafe { Box::<[Cell]>::new_zeroed_slice(len).assume_init() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fill_chunk_after_chunk_without_gap() {
        let mut expected = (0, 0);
        for id in 0..100_000 {
            assert_eq!(locate(CellId(id)), expected);
            expected = if expected.1 + 1 == chunk_len(expected.0) { (expected.0 + 1, 0) } else { (expected.0, expected.1 + 1) };
        }
        let last = CellId((CELLS_MAX - 1) as u32);
        assert_eq!(locate(last), (CHUNKS - 1, chunk_len(CHUNKS - 1) - 1));
    }
}

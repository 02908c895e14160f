//! Fetching ahead what look-ups are going to need.
//!
//! On the way from a path to its newest body are five pieces of memory, each found through the one before: the part's place, its table, the
//! entry, the cell, the body. Among many other things that a server does none of them is in the core's cache, and a look-up is five waits. Those
//! of several look-ups overlap when each step is made for all of them before the next one.

use super::super::CellId;
use super::super::sync::Ordering;
use super::body::Body;
use super::index::fetch;
use super::writer::Writer;
use smallvec::SmallVec;

/// Paths that are fetched together: about as many pieces of memory as a core can wait for at a time.
pub const EXPECTED_MAX: usize = 16;
/// Memory comes in pieces of so many bytes.
const CACHE_LINE_BYTES: usize = 64;
/// Of a body: its header, its path, and the beginning of its data.
const BODY_LINES: usize = 3;

impl Writer {
    /// These paths are going to be looked up, the first `EXPECTED_MAX` of them soon. Whether they are or not makes no difference but in time.
    pub fn expect<'a>(&self, paths: impl IntoIterator<Item = &'a str>) {
        let hashes: SmallVec<[u64; EXPECTED_MAX]> = paths.into_iter().take(EXPECTED_MAX).map(|path| self.shared.hash(path)).collect();
        if hashes.len() < 2 {
            return;
        }
        let index = &self.shared.index;
        hashes.iter().for_each(|hash| index.fetch_part(*hash));
        hashes.iter().for_each(|hash| index.fetch_table(*hash));
        hashes.iter().for_each(|hash| index.fetch_slot(*hash));
        let cells: SmallVec<[CellId; EXPECTED_MAX]> = hashes.iter().filter_map(|hash| index.guess(*hash)).collect();
        cells.iter().filter_map(|cell| self.shared.arena.get(*cell)).for_each(|cell| fetch(cell));
        for cell in cells {
            let head: *const Body = self.shared.arena.get(cell).map_or(std::ptr::null(), |cell| cell.load(Ordering::Relaxed));
            (0..BODY_LINES).for_each(|line| fetch(head.cast::<u8>().wrapping_add(line * CACHE_LINE_BYTES)));
        }
    }
}

//! A list that grows without moving what is in it: a table of many entries would be copied, and its core stopped, just when it is largest.

use std::ops::{Index, IndexMut};

/// Entries of one piece, as a power of two.
const PIECE_BITS: u32 = 10;

/// Entries by number, 0 and up.
pub(super) struct Pieces<T> {
    pieces: Vec<Vec<T>>,
    len: u32,
}

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Pieces { pieces: Vec::new(), len: 0 }
    }
}

impl<T> Pieces<T> {
    /// How many.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Adds one; its number.
    pub(super) fn push(&mut self, entry: T) -> u32 {
        let at = self.len;
        // The first piece grows as it needs: most tables are small.
        if at > 0 && at.is_multiple_of(1 << PIECE_BITS) {
            self.pieces.push(Vec::with_capacity(1 << PIECE_BITS));
        } else if at == 0 {
            self.pieces.push(Vec::new());
        }
        self.pieces[(at >> PIECE_BITS) as usize].push(entry);
        self.len += 1;
        at
    }
}

impl<T> Index<u32> for Pieces<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        &self.pieces[(at >> PIECE_BITS) as usize][at as usize % (1 << PIECE_BITS)]
    }
}

impl<T> IndexMut<u32> for Pieces<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.pieces[(at >> PIECE_BITS) as usize][at as usize % (1 << PIECE_BITS)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_numbers_and_their_places() {
        let mut pieces = Pieces::default();
        for n in 0..1 << PIECE_BITS {
            assert_eq!(pieces.push(n), n);
        }
        let places: Vec<*const u32> = (0..pieces.len()).map(|at| std::ptr::from_ref(&pieces[at])).collect();
        for n in 1 << PIECE_BITS..5 << PIECE_BITS {
            assert_eq!(pieces.push(n), n);
        }
        pieces[3] = 7;
        assert!(places.iter().enumerate().all(|(at, place)| std::ptr::eq(*place, &pieces[at as u32])));
        assert!((0..pieces.len()).all(|at| pieces[at] == if at == 3 { 7 } else { at }));
    }
}

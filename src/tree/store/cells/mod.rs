//! Versioned cells with lock-free readers: the store proper.
//!
//! What it is: `arena` (cells by number), `index` (path hash → cell), `body` (one version of one node), `children` (sets of cells),
//! `slots` (who reads what), driven by one `Writer` (`writer`, `reclaim`, `expect`) and read by `Reader`s and `Hold`s (`reader`). It must never know
//! what a transaction, a session or a permission is. The writer lives on the replica's core, a reader on each shard's, holds anywhere.
//! Nothing is thread-local or global, nothing waits for anyone, and driven from one thread it is deterministic (rule B12).
//!
//! # Why it is safe
//!
//! Words: a *version* is a body; the version after it in the chain when it was superseded is its *successor*; a read at `a` *selects* the
//! newest version stamped ≤ `a`, so it selects B exactly when `B.stamp <= a < successor.stamp`. A *quiescent point* of a reader or hold is a
//! moment at which it has no view: its methods take `&mut self`, views borrow it.
//!
//! 1. *Reads see whole states.* Bodies are filled before they are linked (release), `applied` is stored after all bodies up to it were
//!    linked (release), and a reader picks `a <= applied` as it loaded it (acquire). So at `a` it finds every version ≤ `a`, and what is
//!    newer does not matter: it is skipped by its stamp. Of two bodies with one stamp the upper one is found first.
//! 2. *No selectable version is unlinked.* B is unlinked only when (a) its successor's stamp ≤ *floor*, the minimum of `applied` and every
//!    reader's lowest zxid, and (b) no held zxid lies in `[B.stamp, successor.stamp)`. Registered readers read at or above the floor. A
//!    reader that registers later reads at an `applied` it re-checked after a SeqCst fence: either the writer's scan, which begins with such a
//!    fence, saw the registration, or the re-check saw the `applied` the scan worked with, or a later one (the floor is at most that).
//!    A hold is taken by the writer at `applied`, or by a reader at or above its lowest zxid, which it keeps meanwhile; a scan that saw neither
//!    the hold nor the reader's old zxid has seen `holds_taken` change, and started over. (b) concerns the holds the scan saw;
//!    later ones are at or above the floor.
//!    Stamps never decrease up a chain, hence what remains linked still gives every permitted reader its version.
//! 3. *Nothing is freed under a reader.* Three kinds of memory are unlinked: bodies (superseded or undone), cells' last bodies (cell pointer
//!    set to null, index entry to a marker), and replaced index tables. Each is queued with the running grace number, the number is raised
//!    and published (release), and the memory is freed when every online slot has published a larger one. A slot publishes at a quiescent
//!    point the number it loads there (acquire): whatever it looks at later, it loads after the unlinking. One that was offline fences
//!    between going online and looking, the writer between unlinking and scanning: either the scan sees it online, or it sees the
//!    unlinking. Parking and dropping store with release, the scan loads with acquire: what was read was read before the free.
//! 4. *A reader that stands on an unlinked body finds its way.* An unlinked body's own link stays. It leads to the body that was before it
//!    then; that one may be unlinked too, later, and is then freed later, after this reader's next quiescent point.
//! 5. *Cell numbers.* A number is used again only after a grace period. A probe compares the path of the head body it loaded and walks on
//!    from that very body, so a reader never mixes two nodes, whatever the cell holds a moment later. A children set selected at `a` names
//!    nodes present at `a`; by 2 their versions are linked, so their cells are not retired, in whatever order deletes are reclaimed.
//! 6. *A cell is retired* when its only body is a committed tombstone stamped ≤ floor, or when the only body it ever had is undone. For readers and holds
//!    the node is then absent with the entry or without: a hold below the tombstone would keep the version it selects, and there is none.
//! 7. *Undone bodies* were stamped above `applied`, or were pushed at `applied` itself by a start-up that nobody reads from yet.
//!    Readers may have passed over them, never selected them, and leave them within a grace period.
//!
//! Dropping: readers and holds share the store; the last owner frees all that is linked, and what the writer left unlinked.
#![allow(unsafe_code)]

mod arena;
mod body;
mod children;
mod expect;
mod index;
mod reader;
mod reclaim;
mod slots;
mod writer;

#[cfg(test)]
mod tests;

pub use expect::EXPECTED_MAX;
pub use reader::{Hold, NodeView, Reader};
pub use writer::Writer;

use super::CellId;
use super::sync::{AtomicU64, MODEL, Ordering};
use crate::base::prng::Prng;
use arena::Arena;
use body::BodyRef;
use crossbeam::utils::CachePadded;
use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use index::{Fill, Index};
use reclaim::Garbage;
use slots::{Published, Slots};
use std::hash::Hasher;
use std::ptr::NonNull;
use std::sync::OnceLock;

/// Tables of the index: at a million znodes each is rebuilt in a microsecond or two.
const INDEX_PARTS: usize = if MODEL { 1 } else { 1024 };

/// What the writer, readers and holds share.
struct Shared {
    published: CachePadded<Published>,
    arena: Arena,
    index: Index,
    slots: Slots,
    seed: SharedSeed,
    /// Must not be zero: the hash tells lengths apart by turning this.
    hash_start: u64,
    /// Unlinked but not freed when the writer went.
    leftovers: OnceLock<Vec<Garbage>>,
}

impl Shared {
    fn new(hash_seed: u64, parts: usize) -> (Self, Fill) {
        let (index, fill) = Index::new(parts);
        let shared = Shared {
            published: CachePadded::new(Published { applied: AtomicU64::new(0), grace: AtomicU64::new(0) }),
            arena: Arena::new(),
            index,
            slots: Slots::new(),
            seed: SharedSeed::from_u64(hash_seed),
            hash_start: Prng::new(hash_seed).next_u64() | 1,
            leftovers: OnceLock::new(),
        };
        (shared, fill)
    }

    fn hash(&self, path: &str) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.hash_start, &self.seed);
        hasher.write(path.as_bytes());
        hasher.finish()
    }

    /// The newest body of a path, committed or not, tombstone or not.
    ///
    /// # Safety
    /// The caller is the writer, or a registered reader or hold that is online; it does not use the body beyond its next quiescent point.
    unsafe fn head(&self, path: &str) -> Option<BodyRef> {
        // SAFETY: as the caller promises.
        unsafe { self.head_hashed(self.hash(path), path) }
    }

    /// The same where the path's hash is known already.
    ///
    /// # Safety
    /// As for `head`.
    unsafe fn head_hashed(&self, hash: u64, path: &str) -> Option<BodyRef> {
        let of_path = |cell| {
            // SAFETY: as the caller promises.
            let head = unsafe { self.head_of(cell) }?;
            (head.path() == path).then_some(head)
        };
        // SAFETY: as the caller promises; tables are freed after a grace period, like bodies.
        unsafe { self.index.find(hash, of_path) }
    }

    /// The newest body of a cell.
    ///
    /// # Safety
    /// As for `head`.
    unsafe fn head_of(&self, cell: CellId) -> Option<BodyRef> {
        let head = NonNull::new(self.arena.get(cell)?.load(Ordering::Acquire))?;
        // SAFETY: linked just now, so it is not freed before the caller's next quiescent point.
        Some(unsafe { BodyRef::new(head) })
    }

    /// The version a read at `at` selects, from a head on; `None` when the node does not exist at `at`.
    ///
    /// # Safety
    /// As for `head`, and the caller is entitled to read at `at`.
    unsafe fn version_at(&self, head: BodyRef, at: u64) -> Option<BodyRef> {
        let mut body = head;
        while body.stamp() > at {
            let older = NonNull::new(body.header().prev.load(Ordering::Acquire))?;
            // SAFETY: a link found since the last quiescent point (arguments 3 and 4 above).
            body = unsafe { BodyRef::new(older) };
        }
        (!body.is_tombstone()).then_some(body)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for cell in self.arena.iter() {
            let mut next = NonNull::new(cell.load(Ordering::Acquire));
            while let Some(pointer) = next {
                // SAFETY: the last owner is going: nobody else reads, and linked bodies are not freed elsewhere.
                unsafe {
                    next = NonNull::new(BodyRef::new(pointer).header().prev.load(Ordering::Acquire));
                    body::free(pointer);
                }
            }
        }
        for garbage in self.leftovers.take().into_iter().flatten() {
            // SAFETY: as above; what is unlinked is in no chain.
            unsafe { garbage.free() };
        }
    }
}

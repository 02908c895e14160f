//! What the writer takes out of the shared structures and frees, and when (rules A5, A6, A18); the argument is in the module above.
//!
//! A committed body waits in `superseded` until no reader is below its stamp. Then the version before it is unlinked or, if a hold
//! selects that version, kept under that hold's zxid and looked at again when the hold is gone. What is unlinked waits in `unlinked`
//! for a grace period, then is freed. Every queue entry costs a constant, so a call costs what its budget says.

use super::super::CellId;
use super::super::sync::Ordering;
use super::body::{self, Body, BodyRef};
use super::index::{self, Table};
use super::slots::Scan;
use super::writer::Writer;
use std::collections::{BTreeMap, VecDeque};
use std::ptr::NonNull;

/// How far down a chain one search for a kept version may go before it is put off: bounds a step when one node has changed very often.
const CHAIN_STEPS_MAX: usize = 256;

#[derive(Default)]
pub(super) struct Reclaimer {
    /// Committed bodies with a version before them, in the order of their stamps.
    superseded: VecDeque<NonNull<Body>>,
    /// Versions that holds select, by the zxid of one hold that does.
    kept: BTreeMap<u64, Vec<Kept>>,
    /// Versions whose hold is gone.
    recheck: VecDeque<Vec<Kept>>,
    kept_len: usize,
    /// Cells that may be down to a committed tombstone.
    bare: VecDeque<CellId>,
    /// Out of reach, with the grace number under which that happened; in order.
    unlinked: VecDeque<(u64, Garbage)>,
    unlinked_tables: usize,
    grace: u64,
    /// Zxids of the holds, as of the last scan; sorted.
    held: Vec<u64>,
}

/// A version that was not unlinked when its turn came, and the stamp of the one after it at that time.
struct Kept {
    body: NonNull<Body>,
    end: u64,
}

pub(super) enum Garbage {
    Body(NonNull<Body>),
    Table(NonNull<Table>),
    /// The last body of a cell, whose number can be used again.
    Cell(CellId, NonNull<Body>),
}

// SAFETY: what the pointers name is owned by whoever owns the garbage.
unsafe impl Send for Garbage {}
// SAFETY: shared access reaches nothing through them.
unsafe impl Sync for Garbage {}

impl Garbage {
    /// # Safety
    /// Nobody can reach it any more.
    pub(super) unsafe fn free(self) {
        match self {
            // SAFETY: by the contract; a piece of garbage is made once, when its only link is cut.
            Garbage::Body(body) | Garbage::Cell(_, body) => unsafe { body::free(body) },
            // SAFETY: as above.
            Garbage::Table(table) => unsafe { index::free_table(table) },
        }
    }
}

impl Reclaimer {
    /// A body that has a version before it was committed.
    pub(super) fn supersede(&mut self, newer: NonNull<Body>) {
        self.superseded.push_back(newer);
    }
    /// An undo brought a cell's tombstone back to its head.
    pub(super) fn check_bare(&mut self, cell: CellId) {
        self.bare.push_back(cell);
    }
    /// The last link to something was cut just now.
    pub(super) fn unlinked(&mut self, garbage: Garbage) {
        self.unlinked_tables += usize::from(matches!(garbage, Garbage::Table(_)));
        self.unlinked.push_back((self.grace, garbage));
    }
    /// Bodies superseded by committed ones, undone, or perhaps the last tombstone of a cell, and not freed.
    pub(super) fn bodies(&self) -> usize {
        self.superseded.len() + self.kept_len + self.bare.len() + self.unlinked.len() - self.unlinked_tables
    }
    /// All that is unlinked and not freed, given away.
    pub(super) fn take_unlinked(&mut self) -> Vec<Garbage> {
        self.unlinked.drain(..).map(|(_, garbage)| garbage).collect()
    }
    pub(super) fn is_idle(&self) -> bool {
        self.superseded.is_empty() && self.unlinked.is_empty() && self.bare.is_empty() && self.kept_len == 0
    }
    /// Moves what was kept for holds that are gone to `recheck`.
    fn release_kept(&mut self) {
        let Reclaimer { kept, held, recheck, .. } = self;
        recheck.extend(kept.extract_if(.., |hold, _| held.binary_search(hold).is_err()).map(|(_, versions)| versions));
    }
    /// The smallest held zxid that selects a version stamped `from` whose successor is stamped `to`.
    fn holder(&self, from: u64, to: u64) -> Option<u64> {
        let at = self.held.partition_point(|held| *held < from);
        self.held.get(at).copied().filter(|held| *held < to)
    }
}

impl Writer {
    /// Frees at most `budget` retired bodies/cells that no reader can reach any more; returns how many. Call once per turn.
    pub fn reclaim(&mut self, budget: usize) -> usize {
        if self.reclaimer.is_idle() {
            return 0;
        }
        let applied = self.applied().0;
        let Some(scan) = self.shared.slots.scan(applied, self.reclaimer.grace, &mut self.reclaimer.held) else { return 0 };
        let freed = self.free_unlinked(&scan, budget);
        self.reclaimer.release_kept();
        let mut left = budget;
        self.recheck_kept(&mut left);
        self.unlink_superseded(&scan, &mut left);
        self.retire_bare(&scan, &mut left);
        self.end_grace();
        freed
    }

    /// Frees what was unlinked before every reader's last quiescent point.
    fn free_unlinked(&mut self, scan: &Scan, budget: usize) -> usize {
        let mut freed = 0;
        for _ in 0..budget {
            let Some((_, garbage)) = self.reclaimer.unlinked.pop_front_if(|(grace, _)| *grace < scan.quiescent) else { break };
            freed += usize::from(!matches!(garbage, Garbage::Table(_)));
            match &garbage {
                Garbage::Body(_) => {}
                Garbage::Table(_) => self.reclaimer.unlinked_tables -= 1,
                Garbage::Cell(cell, _) => self.free_cells.push(*cell),
            }
            // SAFETY: unlinked under a grace number that every reader online has left behind; one that came online since the scan's
            // fence sees it unlinked.
            unsafe { garbage.free() };
        }
        freed
    }

    /// Unlinks the version before each committed body that no reader is below.
    fn unlink_superseded(&mut self, scan: &Scan, left: &mut usize) {
        while *left > 0
            && let Some(newer) = self.reclaimer.superseded.front().copied()
        {
            // A body leaves the chain only by its successor's entry, which comes later in this queue.
            let newer = self.linked(newer);
            if newer.stamp() > scan.floor {
                return;
            }
            self.reclaimer.superseded.pop_front();
            *left -= 1;
            let older = NonNull::new(newer.header().prev.load(Ordering::Relaxed)).expect("queued only with a version before it");
            self.unlink_or_keep(newer, Kept { body: older, end: newer.stamp() });
        }
    }

    /// Looks again at versions whose hold is gone.
    fn recheck_kept(&mut self, left: &mut usize) {
        let mut put_off = Vec::new();
        while *left > 0
            && let Some(versions) = self.reclaimer.recheck.back_mut()
        {
            let Some(kept) = versions.pop() else {
                self.reclaimer.recheck.pop_back();
                continue;
            };
            self.reclaimer.kept_len -= 1;
            *left -= 1;
            match self.successor(kept.body) {
                Some(newer) => self.unlink_or_keep(newer, kept),
                None => put_off.push(kept),
            }
        }
        if !put_off.is_empty() {
            self.reclaimer.kept_len += put_off.len();
            self.reclaimer.recheck.push_front(put_off);
        }
    }

    /// The body whose link leads to `body`; `None` when it is too far down to look for now.
    fn successor(&self, body: NonNull<Body>) -> Option<BodyRef> {
        let head = self.head_body(self.linked(body).cell()).expect("a kept version is linked");
        let mut newer = head;
        for _ in 0..CHAIN_STEPS_MAX {
            let older = NonNull::new(newer.header().prev.load(Ordering::Relaxed)).expect("a kept version is linked");
            if older == body {
                return Some(newer);
            }
            newer = self.linked(older);
        }
        None
    }

    /// `kept.body` is the version directly before `newer`, and no reader is below `kept.end`.
    fn unlink_or_keep(&mut self, newer: BodyRef, kept: Kept) {
        let older = self.linked(kept.body);
        if let Some(hold) = self.reclaimer.holder(older.stamp(), kept.end) {
            self.reclaimer.kept_len += 1;
            self.reclaimer.kept.entry(hold).or_default().push(kept);
            return;
        }
        // Readers inside the chain may be standing on `older`: its own link stays as it is, so they find their way on.
        let next = older.header().prev.load(Ordering::Relaxed);
        newer.header().prev.store(next, Ordering::Release);
        self.reclaimer.unlinked(Garbage::Body(kept.body));
        if next.is_null() && newer.is_tombstone() {
            self.reclaimer.bare.push_back(newer.cell());
        }
    }

    /// Takes cells whose only body is a committed tombstone out of the index.
    fn retire_bare(&mut self, scan: &Scan, left: &mut usize) {
        for _ in 0..self.reclaimer.bare.len().min(*left) {
            let Some(cell) = self.reclaimer.bare.pop_front() else { return };
            *left -= 1;
            // Created again since, or retired by an earlier entry: nothing to do, or the new body's own entries will see to it.
            let Some(head) = self.head_body(cell) else { continue };
            if !head.is_tombstone() || !head.header().prev.load(Ordering::Relaxed).is_null() {
                continue;
            }
            if head.stamp() > scan.floor || self.is_uncommitted(head) {
                self.reclaimer.bare.push_back(cell);
                continue;
            }
            self.retire(cell, head.pointer());
        }
    }

    /// Starts a new grace period when something was unlinked in the running one.
    fn end_grace(&mut self) {
        if self.reclaimer.unlinked.back().is_some_and(|(grace, _)| *grace == self.reclaimer.grace) {
            self.reclaimer.grace += 1;
            self.shared.published.grace.store(self.reclaimer.grace, Ordering::Release);
        }
    }
}

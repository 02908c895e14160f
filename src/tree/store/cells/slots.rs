//! Who may still read what: one slot per reader and per hold, found by the writer through two lists that only grow (rule A5).
//!
//! A slot says two independent things. `low`: the lowest zxid its owner may still read at, or [`IDLE`]; it keeps *versions*. `seen`: the
//! newest grace number its owner has met at a quiescent point, or [`OFFLINE`] while it certainly looks at nothing; it keeps *memory*.

use super::super::sync::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence};
use crossbeam::utils::CachePadded;
use std::ptr;

/// `low` of a slot that keeps no version.
pub(super) const IDLE: u64 = u64::MAX;
/// `seen` of a slot whose owner looks at nothing.
pub(super) const OFFLINE: u64 = u64::MAX;
/// How often a scan starts over because holds came meanwhile; after that the writer reclaims nothing this turn.
const SCAN_TRIES: usize = 4;

/// What the writer publishes: both change together with the store's state, so they share a line.
pub(super) struct Published {
    /// Everything stamped at or below is visible.
    pub(super) applied: AtomicU64,
    /// Number of the running grace period: what was unlinked under a smaller number is unreachable for whoever has met this one.
    pub(super) grace: AtomicU64,
}

/// The registry.
pub(super) struct Slots {
    readers: AtomicPtr<Slot>,
    holds: AtomicPtr<Slot>,
    /// Counts holds taken, so that a scan notices one that came while it ran.
    holds_taken: AtomicU64,
}

pub(super) struct Slot {
    state: CachePadded<State>,
    taken: AtomicBool,
    next: *const Slot,
}

struct State {
    low: AtomicU64,
    seen: AtomicU64,
}

// SAFETY: `next` is set before the slot is published and never changes; it points to another slot that lives as long.
unsafe impl Send for Slot {}
// SAFETY: as above; all else is atomic.
unsafe impl Sync for Slot {}

/// A claim on a slot; given back when dropped. Whoever has it keeps the registry alive.
pub(super) struct Claim(*const Slot);

// SAFETY: the slot is shared, atomic state.
unsafe impl Send for Claim {}
// SAFETY: as above.
unsafe impl Sync for Claim {}

/// What one scan found.
pub(super) struct Scan {
    /// No reader reads below this, now or later; at most `applied`.
    pub(super) floor: u64,
    /// What was unlinked under a smaller grace number can be freed.
    pub(super) quiescent: u64,
}

impl Slots {
    pub(super) fn new() -> Self {
        Slots { readers: AtomicPtr::new(ptr::null_mut()), holds: AtomicPtr::new(ptr::null_mut()), holds_taken: AtomicU64::new(0) }
    }

    /// A slot for a reader, idle.
    ///
    /// # Safety
    /// The registry must outlive the claim.
    pub(super) unsafe fn reader(&self) -> Claim {
        claim(&self.readers)
    }

    /// A slot that holds `zxid` from now on. The caller is itself entitled to read at `zxid` until this returns.
    ///
    /// # Safety
    /// The registry must outlive the claim.
    pub(super) unsafe fn hold(&self, zxid: u64) -> Claim {
        let claim = claim(&self.holds);
        claim.set_low(zxid);
        // After the slot says so, before the caller gives up its own right: see `scan`.
        self.holds_taken.fetch_add(1, Ordering::AcqRel);
        claim
    }

    /// Looks at all slots. `applied` and `grace` are the values the writer published last; `held` is filled with the zxids of the holds,
    /// sorted. `None` when holds kept coming: try again later.
    ///
    /// The fence pairs with the one after a reader's registration: either this scan sees the registration, or the reader sees everything
    /// the writer published and unlinked before this scan. A hold needs no fence, since its taker still has a slot of its own that says
    /// as much; but this scan may pass the hold's slot before it is set and the taker's after it was raised. Then it also sees
    /// `holds_taken` changed, and starts over.
    pub(super) fn scan(&self, applied: u64, grace: u64, held: &mut Vec<u64>) -> Option<Scan> {
        fence(Ordering::SeqCst);
        for _ in 0..SCAN_TRIES {
            let before = self.holds_taken.load(Ordering::Acquire);
            let mut scan = Scan { floor: applied, quiescent: grace };
            held.clear();
            for slot in iter(&self.holds) {
                let low = slot.state.low.load(Ordering::Acquire);
                if low != IDLE {
                    held.push(low);
                }
                scan.quiescent = scan.quiescent.min(slot.state.seen.load(Ordering::Acquire));
            }
            for slot in iter(&self.readers) {
                scan.floor = scan.floor.min(slot.state.low.load(Ordering::Acquire));
                scan.quiescent = scan.quiescent.min(slot.state.seen.load(Ordering::Acquire));
            }
            if self.holds_taken.load(Ordering::Acquire) == before {
                held.sort_unstable();
                return Some(scan);
            }
        }
        None
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for list in [&self.readers, &self.holds] {
            let mut slot = list.load(Ordering::Acquire);
            while !slot.is_null() {
                // SAFETY: made by `Box::into_raw` in `claim`; the registry outlives all claims, so nobody else has the pointer.
                let owned = unsafe { Box::from_raw(slot) };
                slot = owned.next.cast_mut();
            }
        }
    }
}

impl Claim {
    fn state(&self) -> &State {
        // SAFETY: slots live as long as the registry, which outlives the claim.
        unsafe { &(*self.0).state }
    }

    /// Registers an idle reader: `low` = `applied` and online, such that no scan can have missed both this and a newer `applied`.
    pub(super) fn register(&self, published: &Published) -> u64 {
        let mut zxid = published.applied.load(Ordering::Acquire);
        loop {
            self.state().seen.store(published.grace.load(Ordering::Acquire), Ordering::Release);
            self.state().low.store(zxid, Ordering::Release);
            fence(Ordering::SeqCst);
            let now = published.applied.load(Ordering::Acquire);
            if now == zxid {
                return zxid;
            }
            // The writer may have scanned before it could see us: what it kept was chosen by the newer `applied`.
            zxid = now;
        }
    }
    /// From now on the owner may look at nodes, kept by a `low` that is set already.
    pub(super) fn go_online(&self, published: &Published) {
        self.state().seen.store(published.grace.load(Ordering::Acquire), Ordering::Release);
        fence(Ordering::SeqCst);
    }
    /// A quiescent point of an owner that stays online: it looks at nothing it found before. Everything it will find, it finds after
    /// the grace number was loaded, hence after the unlinking that came before that number: no fence needed.
    pub(super) fn quiesce(&self, published: &Published) {
        self.state().seen.store(published.grace.load(Ordering::Acquire), Ordering::Release);
    }
    /// The owner looks at nothing until it goes online again.
    pub(super) fn go_offline(&self) {
        self.state().seen.store(OFFLINE, Ordering::Release);
    }
    pub(super) fn set_low(&self, zxid: u64) {
        self.state().low.store(zxid, Ordering::Release);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.go_offline();
        self.set_low(IDLE);
        // SAFETY: as in `state`.
        unsafe { &*self.0 }.taken.store(false, Ordering::Release);
    }
}

fn iter(list: &AtomicPtr<Slot>) -> impl Iterator<Item = &Slot> {
    let mut next = list.load(Ordering::Acquire).cast_const();
    std::iter::from_fn(move || {
        // SAFETY: slots are published whole and freed only with the registry, which `list` borrows.
        let slot = unsafe { next.as_ref() }?;
        next = slot.next;
        Some(slot)
    })
}

/// A free slot of the list, or a new one at its front.
fn claim(list: &AtomicPtr<Slot>) -> Claim {
    for slot in iter(list) {
        if !slot.taken.load(Ordering::Relaxed) && slot.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return Claim(slot);
        }
    }
    let state = CachePadded::new(State { low: AtomicU64::new(IDLE), seen: AtomicU64::new(OFFLINE) });
    let slot = Box::into_raw(Box::new(Slot { state, taken: AtomicBool::new(true), next: ptr::null() }));
    let mut front = list.load(Ordering::Acquire);
    loop {
        // SAFETY: ours alone until the exchange below succeeds.
        unsafe { (*slot).next = front };
        match list.compare_exchange(front, slot, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Claim(slot),
            Err(now) => front = now,
        }
    }
}

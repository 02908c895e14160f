//! Who must be woken by a commit (rule A8): per shard a flag "parked", its waker, and a conservative filter of what it watches.
//!
//! Replica side: put the batch on the stream, move `applied`, then `notify`: fence, read flag and filter, wake. Shard side:
//! update the filter while serving; before parking set the flag, fence, look at `applied` again. One of the two sees the other,
//! so an event is never left behind; a wake-up too many is harmless.

use super::sync::{Arc, AtomicBool, AtomicU64, AtomicWaker, Ordering, fence};
use std::future::poll_fn;
use std::task::Poll;

/// A shard this many published batches behind is woken even if none concerns it, so that the stream's memory is given back.
const IDLE_LAG_BATCHES: u64 = 64;
/// Bits of a shard's filter: 8 KiB.
pub const FILTER_BITS: usize = 1 << 16;

/// What a published item can be asked before a shard is woken for it.
pub trait Concerns {
    /// True when the shard with this number may have something to do with it.
    fn concerns(&self, shard: usize, interest: &Interest) -> bool;
}

/// Wakes the shards that the item published at `position` may concern. Call after `applied` has moved.
pub fn notify<T: Concerns>(bells: &[Arc<Bell>], item: &T, position: u64) {
    fence(Ordering::SeqCst); // `applied` before the flags and filters
    for (shard, bell) in bells.iter().enumerate() {
        if bell.armed.load(Ordering::Relaxed) && (bell.lags(position) || item.concerns(shard, &bell.interest)) {
            bell.waker.wake();
        }
    }
}

/// One shard's doorbell.
pub struct Bell {
    /// The shard is parked or about to be. Written by the shard only.
    armed: AtomicBool,
    /// Times it was rung for another reason than the stream.
    rings: AtomicU64,
    /// How many of them the shard has heard. Written by the shard only.
    heard: AtomicU64,
    waker: AtomicWaker,
    interest: Interest,
    /// Stream position the shard has consumed.
    consumed: AtomicU64,
}

impl Bell {
    /// A bell of a shard that watches nothing and starts at this stream position; `filter_bits` as in `Interest::new`.
    #[must_use]
    pub fn new(position: u64, filter_bits: usize) -> Self {
        Bell {
            armed: AtomicBool::new(false),
            rings: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            waker: AtomicWaker::new(),
            interest: Interest::new(filter_bits),
            consumed: AtomicU64::new(position),
        }
    }

    /// Any thread: wakes the shard whatever it watches (room in the replica's queue, a message of another kind).
    pub fn ring(&self) {
        self.rings.fetch_add(1, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed) {
            self.waker.wake();
        }
    }

    /// Shard: ready when rung or when `behind` says the stream has something for it.
    pub async fn wait(&self, mut behind: impl FnMut() -> bool) {
        poll_fn(|cx| {
            if self.hears() || behind() {
                self.armed.store(false, Ordering::Relaxed);
                return Poll::Ready(());
            }
            self.waker.register(cx.waker());
            self.armed.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst); // filter and flag before the second look
            if self.hears() || behind() {
                self.armed.store(false, Ordering::Relaxed);
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    /// The filter; written by the shard only.
    #[must_use]
    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// Shard: everything up to this stream position has been consumed.
    pub fn set_consumed(&self, position: u64) {
        self.consumed.store(position, Ordering::Relaxed);
    }

    /// Stream position the shard has consumed, as last told (rule A7: the reactor stops the process when one lags too long).
    #[must_use]
    pub fn consumed(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }

    fn lags(&self, position: u64) -> bool {
        position.saturating_sub(self.consumed()) >= IDLE_LAG_BATCHES
    }

    /// True when it was rung since the last time this was asked.
    fn hears(&self) -> bool {
        let rings = self.rings.load(Ordering::Acquire);
        let before = self.heard.load(Ordering::Relaxed);
        self.heard.store(rings, Ordering::Relaxed);
        rings != before
    }
}

/// A Bloom filter of watched paths with one hash. The owner counts what maps to a bit and tells when to set or clear it.
pub struct Interest {
    words: Box<[AtomicU64]>,
    everything: AtomicBool,
}

impl Interest {
    /// A filter of `bits` bits (a power of two, at least 64) that matches nothing.
    #[must_use]
    pub fn new(bits: usize) -> Self {
        assert!(bits.is_power_of_two() && bits >= 64);
        Interest { words: (0..bits / 64).map(|_| AtomicU64::new(0)).collect(), everything: AtomicBool::new(false) }
    }
    /// Number of bits.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.words.len() * 64
    }
    /// The bit a path hash maps to.
    #[must_use]
    pub fn bit(&self, hash: u64) -> usize {
        hash as usize & (self.bits() - 1)
    }
    /// Owner: sets or clears one bit.
    pub fn set(&self, bit: usize, on: bool) {
        let word = &self.words[bit / 64];
        let (old, mask) = (word.load(Ordering::Relaxed), 1 << (bit % 64));
        word.store(if on { old | mask } else { old & !mask }, Ordering::Relaxed);
    }
    /// Owner: match everything (recursive watches exist) or only what is set.
    pub fn set_everything(&self, on: bool) {
        self.everything.store(on, Ordering::Relaxed);
    }
    /// May something with this path hash be watched?
    #[must_use]
    pub fn matches(&self, hash: u64) -> bool {
        let bit = self.bit(hash);
        self.everything.load(Ordering::Relaxed) || self.words[bit / 64].load(Ordering::Relaxed) & (1 << (bit % 64)) != 0
    }
}

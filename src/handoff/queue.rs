//! A bounded many-producer inbox with one wake-up per burst.
//!
//! The owner parks only after it has armed the flag and looked once more; a producer looks at the flag only after its pushes
//! (two fences: one of the two sees the other). Waking a parked reactor is dear, so producers push a burst and kick once.

use super::sync::{ArrayQueue, AtomicBool, AtomicU64, AtomicWaker, Ordering, fence};
use std::future::poll_fn;
use std::task::Poll;

/// Bounded inbox of one executor. Push a whole burst, then `kick` once.
pub struct Inbox<T> {
    queue: ArrayQueue<T>,
    /// The owner is parked or about to be. Written by the owner only.
    armed: AtomicBool,
    waker: AtomicWaker,
    /// What the queued items weigh together; what is being taken out may still be in it.
    weight: AtomicU64,
    weight_max: u64,
    weigh: fn(&T) -> usize,
}

impl<T> Inbox<T> {
    /// An empty inbox for at most `capacity` items.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self::weighing(capacity, usize::MAX, |_| 0)
    }

    /// The same for items that together weigh at most `weight_max`; a heavier one passes when it is the only one with a weight.
    #[must_use]
    pub fn weighing(capacity: usize, weight_max: usize, weigh: fn(&T) -> usize) -> Self {
        Inbox {
            queue: ArrayQueue::new(capacity),
            armed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            weight: AtomicU64::new(0),
            weight_max: weight_max as u64,
            weigh,
        }
    }

    /// Any thread. `Err` gives the item back when full: back-pressure, never block a reactor.
    pub fn push(&self, item: T) -> Result<(), T> {
        let weight = (self.weigh)(&item) as u64;
        if weight == 0 {
            return self.queue.push(item);
        }
        let before = self.weight.fetch_add(weight, Ordering::Relaxed);
        let pushed = if before > 0 && before + weight > self.weight_max { Err(item) } else { self.queue.push(item) };
        if pushed.is_err() {
            self.weight.fetch_sub(weight, Ordering::Relaxed);
        }
        pushed
    }

    /// Any thread: wakes the owner if it is parked.
    pub fn kick(&self) {
        fence(Ordering::SeqCst); // the pushes before the flag
        if self.armed.load(Ordering::Relaxed) {
            // Takes the waker out: further kicks before the owner has looked find none.
            self.waker.wake();
        }
    }

    /// Owner: moves at most `max` items to `out`, returns how many.
    pub fn drain(&self, out: &mut Vec<T>, max: usize) -> usize {
        let (before, mut weight) = (out.len(), 0);
        while out.len() - before < max
            && let Some(item) = self.queue.pop()
        {
            weight += (self.weigh)(&item) as u64;
            out.push(item);
        }
        if weight > 0 {
            self.weight.fetch_sub(weight, Ordering::Relaxed);
        }
        out.len() - before
    }

    /// Owner: ready when something is queued; arms the wake-up before the second look.
    pub async fn ready(&self) {
        poll_fn(|cx| {
            if !self.is_empty() {
                self.armed.store(false, Ordering::Relaxed);
                return Poll::Ready(());
            }
            self.waker.register(cx.waker());
            self.armed.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst); // the flag before the second look
            if self.is_empty() {
                return Poll::Pending;
            }
            self.armed.store(false, Ordering::Relaxed);
            Poll::Ready(())
        })
        .await;
    }

    /// What the queued items weigh right now.
    pub fn weight(&self) -> usize {
        self.weight.load(Ordering::Relaxed) as usize
    }
    /// Items queued right now.
    pub fn len(&self) -> usize {
        self.queue.len()
    }
    /// True when nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
    /// The bound.
    pub fn capacity(&self) -> usize {
        self.queue.capacity()
    }
}

//! Every interleaving of the hand-off between cores, as far as loom models it: the same source files as in the crate, over
//! loom's atomics instead of the processor's. A lost wake-up shows as a deadlock, a use after free or a leak as a failure.
#![allow(missing_docs, unsafe_code, dead_code)]

/// What `src/handoff/sync.rs` offers, modelled.
mod sync {
    pub use loom::sync::Arc;
    use loom::sync::Mutex;
    pub use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence};
    use std::task::Waker;

    pub fn into_inner<T>(arc: Arc<T>) -> Option<T> {
        Arc::try_unwrap(arc).ok()
    }

    /// A queue as weak as a correct one can be: looking at an empty place synchronises with nothing, so the fences around it are
    /// all that orders it against the flags. Places are not reused; the models are short.
    pub struct ArrayQueue<T> {
        slots: Vec<(AtomicBool, Mutex<Option<T>>)>,
        tail: AtomicU64,
        /// The owner's.
        head: AtomicU64,
    }

    impl<T> ArrayQueue<T> {
        pub fn new(capacity: usize) -> Self {
            let slots = (0..capacity).map(|_| (AtomicBool::new(false), Mutex::new(None))).collect();
            ArrayQueue { slots, tail: AtomicU64::new(0), head: AtomicU64::new(0) }
        }
        pub fn push(&self, item: T) -> Result<(), T> {
            let (ready, place) = &self.slots[self.tail.fetch_add(1, Ordering::Relaxed) as usize];
            *place.lock().expect("no panic holds it") = Some(item);
            ready.store(true, Ordering::Release);
            Ok(())
        }
        pub fn pop(&self) -> Option<T> {
            let head = self.head.load(Ordering::Relaxed);
            let (ready, place) = self.slots.get(head as usize)?;
            if !ready.load(Ordering::Acquire) {
                return None;
            }
            self.head.store(head + 1, Ordering::Relaxed);
            place.lock().expect("no panic holds it").take()
        }
        pub fn is_empty(&self) -> bool {
            let head = self.head.load(Ordering::Relaxed) as usize;
            self.slots.get(head).is_none_or(|(ready, _)| !ready.load(Ordering::Acquire))
        }
        pub fn len(&self) -> usize {
            (self.tail.load(Ordering::Relaxed) - self.head.load(Ordering::Relaxed)) as usize
        }
        pub fn capacity(&self) -> usize {
            self.slots.len()
        }
    }

    /// A cell for one waker; the crate's own correctness is taken as given.
    pub struct AtomicWaker(Mutex<Option<Waker>>);

    impl AtomicWaker {
        pub fn new() -> Self {
            AtomicWaker(Mutex::new(None))
        }
        pub fn register(&self, waker: &Waker) {
            *self.0.lock().expect("no panic holds it") = Some(waker.clone());
        }
        pub fn wake(&self) {
            let waker = self.0.lock().expect("no panic holds it").take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

#[path = "../src/handoff/bell.rs"]
mod bell;
#[path = "../src/handoff/queue.rs"]
mod queue;
#[path = "../src/handoff/stream.rs"]
mod stream;

use bell::{Bell, Concerns, Interest, notify};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use queue::Inbox;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc as StdArc;
use std::task::{Context, Poll, Wake, Waker};
use stream::Publisher;
use sync::Arc;

/// Runs a future on this thread; parks in loom's sense, so that a wake-up that never comes is a deadlock loom reports.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Parker {
        woken: Mutex<bool>,
        condition: Condvar,
    }
    impl Wake for Parker {
        fn wake(self: StdArc<Self>) {
            *self.woken.lock().expect("no panic holds it") = true;
            self.condition.notify_one();
        }
    }
    let parker = StdArc::new(Parker { woken: Mutex::new(false), condition: Condvar::new() });
    let waker = Waker::from(parker.clone());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(out) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return out;
        }
        let mut woken = parker.woken.lock().expect("no panic holds it");
        while !*woken {
            woken = parker.condition.wait(woken).expect("no panic holds it");
        }
        *woken = false;
    }
}

/// Three threads have too many interleavings to see all: those with few pre-emptions.
fn bounded_model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(f);
}

#[test]
fn a_pushed_item_is_never_left_behind_by_a_parked_owner() {
    bounded_model(|| {
        let inbox = Arc::new(Inbox::new(4));
        let producers: Vec<_> = (0..2)
            .map(|i| {
                let inbox = inbox.clone();
                thread::spawn(move || {
                    inbox.push(i).expect("room");
                    inbox.kick();
                })
            })
            .collect();
        let mut got = Vec::new();
        while got.len() < 2 {
            block_on(inbox.ready());
            inbox.drain(&mut got, 1);
        }
        got.sort_unstable();
        assert_eq!(got, [0, 1]);
        producers.into_iter().for_each(|p| p.join().expect("no panic"));
    });
}

/// Publishing, reading and the last drop of a chain in every order.
#[test]
fn a_subscriber_sees_everything_in_order_and_nothing_leaks() {
    loom::model(|| {
        let mut publisher: Publisher<Box<i32>> = Publisher::new();
        let mut subscriber = publisher.subscribe();
        let reader = thread::spawn(move || {
            let mut last = 0;
            while let Some(item) = subscriber.peek() {
                assert_eq!(**item, last + 1);
                last = **item;
                subscriber.advance();
            }
            last
        });
        publisher.publish(Box::new(1));
        publisher.publish(Box::new(2));
        drop(publisher);
        assert!(reader.join().expect("no panic") <= 2);
    });
}

/// Two readers leave a chain at the same time: each node is freed once, whoever is last.
#[test]
fn readers_that_leave_together_free_the_chain_once() {
    bounded_model(|| {
        let mut publisher: Publisher<Box<i32>> = Publisher::new();
        let subscribers = [publisher.subscribe(), publisher.subscribe()];
        publisher.publish(Box::new(1));
        publisher.publish(Box::new(2));
        drop(publisher);
        let readers = subscribers.map(|mut subscriber| {
            thread::spawn(move || {
                assert_eq!(subscriber.peek().map(|item| **item), Some(1));
                subscriber.advance();
            })
        });
        readers.into_iter().for_each(|r| r.join().expect("no panic"));
    });
}

/// An item that concerns whoever watches this path hash.
struct Change(u64);

impl Concerns for Change {
    fn concerns(&self, _shard: usize, interest: &Interest) -> bool {
        interest.matches(self.0)
    }
}

/// The shard registers a watch and parks while the replica commits a change of that path: it must hear of it (A8).
#[test]
fn a_change_of_a_watched_path_wakes_a_shard_that_parks_meanwhile_a8() {
    loom::model(|| {
        const HASH: u64 = 3;
        let bell = Arc::new(Bell::new(0, 64));
        let applied = Arc::new(AtomicU64::new(0));
        let replica = {
            let (bell, applied) = (bell.clone(), applied.clone());
            thread::spawn(move || {
                applied.store(1, Ordering::Release);
                notify(&[bell], &Change(HASH), 1);
            })
        };
        // The read that sets the watch was served before the change.
        if applied.load(Ordering::Acquire) == 0 {
            let interest = bell.interest();
            interest.set(interest.bit(HASH), true);
            block_on(bell.wait(|| applied.load(Ordering::Acquire) > 0));
        }
        assert_eq!(applied.load(Ordering::Acquire), 1);
        replica.join().expect("no panic");
    });
}

#[test]
fn a_ring_is_heard_by_a_shard_that_parks_meanwhile() {
    loom::model(|| {
        let bell = Arc::new(Bell::new(0, 64));
        let other = {
            let bell = bell.clone();
            thread::spawn(move || bell.ring())
        };
        block_on(bell.wait(|| false));
        other.join().expect("no panic");
    });
}

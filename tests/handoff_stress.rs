//! Real threads on the hand-off: what loom cannot reach by its depth, repetition reaches.
//!
//! A replica thread publishes and moves `applied`; shard threads park on their doorbells and must see everything, in order, soon
//! after it concerns them; producers fill a small inbox in bursts. `HANDOFF_STRESS` multiplies the work.
#![allow(missing_docs)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use zoo::base::prng::Prng;
use zoo::handoff::bell::Concerns;
use zoo::handoff::{Bell, Inbox, Interest, Publisher, notify};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, parking it in between: a lost wake-up hangs the test.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(out) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return out;
        }
        thread::park();
    }
}

fn work(n: u64) -> u64 {
    n * std::env::var("HANDOFF_STRESS").ok().and_then(|v| v.parse::<u64>().ok()).unwrap_or(1)
}

/// A published item: its number and the shard it is for.
struct Item {
    number: u64,
    shard: usize,
}

impl Concerns for Item {
    fn concerns(&self, shard: usize, _: &Interest) -> bool {
        self.shard == shard
    }
}

#[test]
fn shards_see_every_item_in_order_and_are_woken_for_theirs() {
    const SHARDS: usize = 3;
    let items = work(50_000);
    let mut publisher: Publisher<Item> = Publisher::new();
    let applied = Arc::new(AtomicU64::new(0));
    let bells: Vec<Arc<Bell>> = (0..SHARDS).map(|_| Arc::new(Bell::new(0, 64))).collect();
    // How far each shard has come with the items that are for it: the publisher waits for it now and then, so that shards park.
    let served: Vec<Arc<AtomicU64>> = (0..SHARDS).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let shards: Vec<_> = (0..SHARDS)
        .map(|shard| {
            let (mut stream, applied, bell, served) = (publisher.subscribe(), applied.clone(), bells[shard].clone(), served[shard].clone());
            thread::spawn(move || {
                let mut last = 0;
                while last < items {
                    block_on(bell.wait(|| stream.peek().is_some_and(|item| item.number <= applied.load(Ordering::SeqCst))));
                    let applied = applied.load(Ordering::SeqCst);
                    while let Some(item) = stream.peek().filter(|item| item.number <= applied) {
                        assert_eq!(item.number, last + 1);
                        last = item.number;
                        if item.shard == shard {
                            served.store(last, Ordering::Release);
                        }
                        stream.advance();
                    }
                    assert!(stream.position() >= applied, "all that was applied was on the stream (A2)");
                    bell.set_consumed(stream.position());
                }
            })
        })
        .collect();
    let mut prng = Prng::new(1);
    for number in 1..=items {
        let shard = prng.below(SHARDS as u64) as usize;
        let published = publisher.publish(Item { number, shard });
        applied.store(number, Ordering::SeqCst);
        notify(&bells, &*published, published.position());
        if prng.chance(1, 64) {
            while served[shard].load(Ordering::Acquire) < number {
                thread::yield_now();
            }
        }
    }
    for bell in &bells {
        bell.ring();
    }
    for shard in shards {
        // Those the last item does not concern look again when they are rung.
        shard.join().expect("no panic");
    }
}

#[test]
fn an_inbox_loses_nothing_and_keeps_each_producers_order() {
    const PRODUCERS: u64 = 3;
    let each = work(50_000);
    let inbox = Arc::new(Inbox::new(16));
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let inbox = inbox.clone();
            thread::spawn(move || {
                let mut prng = Prng::new(producer);
                let mut next = 0;
                while next < each {
                    for _ in 0..1 + prng.below(8) {
                        if next < each && inbox.push((producer, next)).is_ok() {
                            next += 1;
                        }
                    }
                    inbox.kick();
                    if prng.chance(1, 16) {
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let (mut next, mut out) = ([0; PRODUCERS as usize], Vec::new());
    while next.iter().sum::<u64>() < PRODUCERS * each {
        block_on(inbox.ready());
        inbox.drain(&mut out, 5);
        for (producer, number) in out.drain(..) {
            assert_eq!(number, next[producer as usize]);
            next[producer as usize] += 1;
        }
    }
    producers.into_iter().for_each(|p| p.join().expect("no panic"));
    assert!(inbox.is_empty());
}

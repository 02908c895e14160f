//! The files of this folder are also included by the loom tests, so their unit tests are here.

use super::*;
use std::future::Future;
use std::sync::Arc;

#[test]
fn every_subscriber_sees_everything_after_it_joined_in_order() {
    let mut publisher = Publisher::new();
    let mut early = publisher.subscribe();
    publisher.publish(1);
    let mut late = publisher.subscribe();
    publisher.publish(2);
    let read = |s: &mut Subscriber<i32>| {
        let mut seen = Vec::new();
        while let Some(item) = s.peek() {
            seen.push(*item);
            s.advance();
        }
        seen
    };
    assert_eq!(read(&mut early), [1, 2]);
    assert_eq!(read(&mut late), [2]);
    assert_eq!((early.position(), late.position(), publisher.position()), (2, 2, 2));
}

#[test]
fn an_item_is_freed_when_the_slowest_reader_has_passed_its_successor() {
    let token = Arc::new(());
    let mut publisher = Publisher::new();
    let (mut a, mut b) = (publisher.subscribe(), publisher.subscribe());
    for _ in 0..3 {
        publisher.publish(token.clone());
    }
    assert_eq!(Arc::strong_count(&token), 4);
    for _ in 0..3 {
        a.advance();
    }
    assert_eq!(Arc::strong_count(&token), 4, "b is still at the start");
    b.advance();
    b.advance();
    assert_eq!(Arc::strong_count(&token), 3);
    drop((a, b, publisher));
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn a_chain_longer_than_any_stack_is_freed() {
    let mut publisher = Publisher::new();
    let behind = publisher.subscribe();
    for i in 0..1_000_000 {
        publisher.publish(i);
    }
    drop(publisher);
    drop(behind);
}

#[test]
fn a_full_inbox_gives_the_item_back_and_drains_in_order() {
    let inbox = Inbox::new(2);
    assert_eq!((inbox.push(1), inbox.push(2), inbox.push(3)), (Ok(()), Ok(()), Err(3)));
    let mut out = Vec::new();
    assert_eq!((inbox.drain(&mut out, 1), inbox.drain(&mut out, 9)), (1, 1));
    assert_eq!(out, [1, 2]);
    assert!(inbox.is_empty());
}

#[test]
fn an_inbox_of_weighed_items_is_full_by_weight_and_takes_any_single_one() {
    let inbox = Inbox::weighing(10, 100, |n: &usize| *n);
    assert_eq!(inbox.push(500), Ok(()), "alone it passes");
    assert_eq!((inbox.push(1), inbox.push(0)), (Err(1), Ok(())), "what weighs nothing is only counted");
    let mut out = Vec::new();
    assert_eq!(inbox.drain(&mut out, 1), 1);
    assert_eq!((inbox.push(60), inbox.push(41), inbox.push(40)), (Ok(()), Err(41), Ok(())));
    assert_eq!((inbox.weight(), inbox.drain(&mut out, 9), inbox.weight()), (100, 3, 0));
    assert_eq!(out, [500, 0, 60, 40]);
    let narrow = Inbox::weighing(1, 100, |n: &usize| *n);
    assert_eq!((narrow.push(7), narrow.push(8), narrow.weight()), (Ok(()), Err(8), 7), "what did not enter weighs nothing");
}

#[test]
fn an_idle_shard_is_woken_before_the_stream_behind_it_grows_long() {
    struct Nothing;
    impl bell::Concerns for Nothing {
        fn concerns(&self, _: usize, _: &Interest) -> bool {
            false
        }
    }
    struct Count(std::sync::atomic::AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let bell = Arc::new(Bell::new(0, 64));
    let count = Arc::new(Count(0.into()));
    let waker = std::task::Waker::from(count.clone());
    let mut waiting = std::pin::pin!(bell.wait(|| false));
    assert!(waiting.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
    let first_wake = (1..1000).find(|position| {
        notify(std::slice::from_ref(&bell), &Nothing, *position);
        count.0.load(std::sync::atomic::Ordering::Relaxed) > 0
    });
    assert_eq!(first_wake, Some(64));
}

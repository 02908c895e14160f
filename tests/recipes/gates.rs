//! Semaphores, barriers and counters.

use super::proxy::Cut;
use super::{PATIENCE, Place};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use zoo::client::CreateMode;
use zoo::proto::OpCode;
use zoo::recipes::{Barrier, Counter, DoubleBarrier, Error, Semaphore};

#[test]
fn a_semaphore_has_so_many_holders_and_never_more() {
    let place = Place::new();
    let clients: Vec<_> = (0..3).map(|_| place.counted()).collect();
    let first: Vec<_> = (0..3).map(|i| Semaphore::new(&clients[i], "/three", 3).acquire().expect("free")).collect();
    assert!(Semaphore::new(&clients[0], "/three", 3).try_acquire().expect("an answer").is_none());
    first.into_iter().for_each(|lease| lease.release().expect("released"));
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let threads: Vec<_> = (0..12)
        .map(|i| {
            let (semaphore, inside, most) = (Semaphore::new(&clients[i % 3], "/three", 3), inside.clone(), most.clone());
            std::thread::spawn(move || {
                for _ in 0..5 {
                    let lease = semaphore.acquire().expect("its turn");
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    lease.confirm().expect("held");
                    inside.fetch_sub(1, Ordering::SeqCst);
                    lease.release().expect("released");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let most = most.load(Ordering::SeqCst);
    assert!(most <= 3, "{most} at a time");
    assert_eq!(clients[0].children("/three/leases"), Ok(vec![]));
}

#[test]
fn a_lease_comes_back_with_its_session_and_lost_answers_cost_none() {
    let place = Place::new();
    let (client, doomed) = (place.counted(), place.client());
    let (semaphore, others) = (Semaphore::new(&client, "/two", 2), Semaphore::new(&doomed, "/two", 2));
    for (op, cut) in [(OpCode::Create2, Cut::Answer), (OpCode::Create2, Cut::Request), (OpCode::Delete, Cut::Answer)] {
        client.ensure("/two/locks").expect("made");
        place.proxy.cut(op, cut);
        semaphore.acquire().expect("free").release().expect("released");
        assert_eq!((client.children("/two/locks"), client.children("/two/leases")), (Ok(vec![]), Ok(vec![])), "{op:?} {cut:?}");
    }
    let (one, _two) = (others.acquire().expect("free"), others.acquire().expect("free"));
    assert!(semaphore.try_acquire().expect("an answer").is_none());
    assert_eq!(semaphore.acquire_for(Duration::from_millis(30)).map(drop), Err(Error::TimedOut));
    one.release().expect("released");
    let mine = semaphore.acquire_for(PATIENCE).expect("one is free");
    let waits = std::thread::spawn({
        let semaphore = semaphore.clone();
        move || semaphore.acquire_for(PATIENCE)
    });
    super::support::wait_until("it waits", || client.children("/two/leases").expect("there").len() == 3);
    assert!(semaphore.try_acquire().expect("an answer").is_none(), "somebody waits already");
    place.end_session(&doomed);
    let next = waits.join().expect("no panic").expect("its turn");
    assert!(next.token() > mine.token());
}

#[test]
fn a_barrier_holds_everybody_until_it_is_opened() {
    let place = Place::new();
    let (client, other) = (place.client(), place.client());
    let (barrier, same) = (Barrier::new(&client, "/gates/one"), Barrier::new(&other, "/gates/one"));
    barrier.pass().expect("open");
    barrier.close().expect("closed");
    barrier.close().expect("is closed");
    assert_eq!(same.pass_for(Duration::from_millis(20)), Err(Error::TimedOut));
    let waits = std::thread::spawn(move || same.pass_for(PATIENCE));
    barrier.open().expect("opened");
    barrier.open().expect("is open");
    assert_eq!(waits.join().expect("no panic"), Ok(()));
}

#[test]
fn members_enter_and_leave_together_round_by_round() {
    const ROUNDS: usize = 15;
    let place = Place::new();
    let clients: Vec<_> = (0..3).map(|_| place.client()).collect();
    let (come, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let threads: Vec<_> = clients
        .iter()
        .map(|client| {
            let (barrier, come, gone) = (DoubleBarrier::new(client, "/gates/both", 3), come.clone(), gone.clone());
            std::thread::spawn(move || {
                for round in 1..=ROUNDS {
                    come.fetch_add(1, Ordering::SeqCst);
                    let inside = barrier.enter_for(PATIENCE).expect("all come");
                    assert!(come.load(Ordering::SeqCst) >= 3 * round, "all have come");
                    gone.fetch_add(1, Ordering::SeqCst);
                    inside.leave_for(PATIENCE).expect("all go");
                    assert!(gone.load(Ordering::SeqCst) >= 3 * round, "all have gone");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

#[test]
fn who_comes_too_late_waits_for_the_next_round_and_who_dies_has_left() {
    let place = Place::new();
    let (client, doomed, late) = (place.client(), place.client(), place.client());
    client.ensure("/gates/both").expect("made");
    let enter = |client: &zoo::client::ZooClient| {
        let barrier = DoubleBarrier::new(client, "/gates/both", 2);
        std::thread::spawn(move || barrier.enter_for(PATIENCE))
    };
    assert_eq!(DoubleBarrier::new(&client, "/gates/both", 2).enter_for(Duration::from_millis(20)).map(drop), Err(Error::TimedOut));
    super::support::wait_until("who gave up is gone", || client.children("/gates/both") == Ok(vec![]));
    let [one, two] = [&client, &doomed].map(enter).map(|thread| thread.join().expect("no panic").expect("both have come"));
    let third = enter(&late);
    super::support::wait_until("it waits", || client.children("/gates/both").expect("there").len() == 3);
    assert_eq!(one.leave_for(Duration::from_millis(30)), Err(Error::TimedOut), "another one is still inside");
    let fourth = enter(&client);
    super::support::wait_until("it waits, too", || client.children("/gates/both").expect("there").len() == 3);
    assert!(!third.is_finished() && !fourth.is_finished());
    place.end_session(&doomed);
    let [third, fourth] = [third, fourth].map(|thread| thread.join().expect("no panic").expect("a new round"));
    assert!(two.leave().is_err_and(|why| why.session_is_over()));
    drop(third);
    fourth.leave_for(PATIENCE).expect("nobody else is inside");
}

#[test]
fn a_counter_counts_everything_once() {
    let place = Place::new();
    let (client, other) = (place.counted(), place.client());
    let (counter, same) = (Counter::open(&client, "/app/count").expect("made"), Counter::open(&other, "/app/count").expect("there"));
    assert_eq!((counter.get(), counter.add(5), same.add(-7)), (Ok(0), Ok(5), Ok(-2)));
    assert_eq!(client.get("/app/count").expect("there").0, b"-2");
    for cut in [Cut::Answer, Cut::Request] {
        place.proxy.cut(OpCode::Multi, cut);
        let before = same.get().expect("a number");
        assert_eq!(counter.add(1), Ok(before + 1), "{cut:?}");
    }
    assert!(place.proxy.all_cut());
    let before = counter.get().expect("a number");
    std::thread::scope(|scope| {
        for counter in [&counter, &same] {
            (0..2).for_each(|_| drop(scope.spawn(|| (0..20).for_each(|_| assert!(counter.add(1).is_ok())))));
        }
    });
    assert_eq!(counter.get(), Ok(before + 80));
    assert_eq!((counter.compare_and_set(0, 1), counter.compare_and_set(before + 80, i64::MAX)), (Ok(false), Ok(true)));
    assert!(matches!(counter.add(1), Err(Error::Foreign(_))));
    let mark = other.children("/app/count").expect("there");
    mark.iter().for_each(|name| other.delete(&format!("/app/count/{name}")).expect("by hand"));
    assert_eq!((counter.add(-1), counter.add(-1)), (Err(Error::Lost), Ok(i64::MAX - 1)));
    other.create("/text", b"many", CreateMode::Persistent).expect("made");
    assert!(matches!(Counter::open(&client, "/text").expect("there").get(), Err(Error::Foreign(_))));
    place.end_session(&other);
    assert!(same.add(1).is_err_and(|why| why.session_is_over()));
}

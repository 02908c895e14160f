//! One holder at a time.

use super::proxy::Cut;
use super::trouble::{self, Members};
use super::{PATIENCE, Place};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use zoo::client::{CreateMode, ErrorCode};
use zoo::proto::OpCode;
use zoo::recipes::{Error, Mutex, Names, ReadWriteLock};

#[test]
fn a_lock_costs_a_listing_more_than_its_two_writes() {
    let place = Place::new();
    let client = place.counted();
    client.ensure("/lock").expect("made");
    let before = place.proxy.all_requests();
    let held = Mutex::new(&client, "/lock").lock().expect("free");
    assert!(held.seems_held() && held.confirm().is_ok());
    let asked = place.proxy.requests(OpCode::Sync) + place.proxy.requests(OpCode::Exists);
    held.release().expect("released");
    assert_eq!(place.proxy.all_requests() - before - asked, 3, "create and listing leave together, and delete");
    assert_eq!(client.children("/lock"), Ok(vec![]));
}

#[test]
fn a_hundred_contenders_are_woken_one_by_one() {
    const CONTENDERS: usize = 100;
    let place = Place::new();
    let clients: Vec<_> = (0..4).map(|_| place.counted()).collect();
    let first = Mutex::new(&clients[0], "/lock").lock().expect("free");
    let (last_token, inside, begun) = (Arc::new(AtomicI64::new(first.token().0)), Arc::new(AtomicUsize::new(0)), place.proxy.events());
    let threads: Vec<_> = (0..CONTENDERS)
        .map(|i| {
            let (lock, last_token, inside) = (Mutex::new(&clients[i % 4], "/lock"), last_token.clone(), inside.clone());
            std::thread::spawn(move || {
                let held = lock.lock().expect("its turn");
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "alone");
                assert!(last_token.swap(held.token().0, Ordering::SeqCst) < held.token().0, "tokens grow");
                inside.fetch_sub(1, Ordering::SeqCst);
                held.release().expect("released");
            })
        })
        .collect();
    super::support::wait_until("all are in line", || clients[0].children("/lock").expect("there").len() == CONTENDERS + 1);
    super::support::wait_until("all watch", || place.proxy.requests(OpCode::GetData) >= CONTENDERS);
    first.release().expect("released");
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert_eq!(place.proxy.events() - begun, CONTENDERS, "one event for each hand-over");
}

#[test]
fn lost_answers_leave_nobody_in_line_twice_and_nothing_locked() {
    let place = Place::new();
    let (client, other) = (place.counted(), place.client());
    for (op, cut) in
        [(OpCode::Create2, Cut::Answer), (OpCode::Create2, Cut::Request), (OpCode::Delete, Cut::Answer), (OpCode::Delete, Cut::Request)]
    {
        client.ensure("/lock").expect("made");
        place.proxy.cut(op, cut);
        let held = Mutex::new(&client, "/lock").lock().expect("free");
        assert_eq!(other.children("/lock").expect("there").len(), 1, "{op:?} {cut:?}");
        assert_eq!(other.exists(&held.path()).expect("an answer").map(|stat| stat.czxid), Some(held.token().0));
        held.release().expect("released");
        assert!(place.proxy.all_cut());
        assert_eq!(other.children("/lock"), Ok(vec![]), "{op:?} {cut:?}");
    }
}

#[test]
fn who_gives_up_waiting_or_drops_the_lock_makes_way() {
    let place = Place::new();
    let (client, other) = (place.client(), place.client());
    let (lock, others) = (Mutex::new(&client, "/lock").data(b"me"), Mutex::new(&other, "/lock"));
    let held = lock.lock_for(PATIENCE).expect("free");
    assert!(others.try_lock().expect("an answer").is_none());
    assert_eq!(others.lock_for(Duration::from_millis(50)).map(drop), Err(Error::TimedOut));
    super::support::wait_until("its node goes", || client.children("/lock").expect("there").len() == 1);
    assert_eq!(others.contenders(), Ok(vec![b"me".to_vec()]));
    drop(held);
    others.lock_for(PATIENCE).expect("free again").release().expect("released");
    assert!(lock.try_lock().expect("an answer").is_some());
}

#[test]
fn who_loses_the_session_or_the_node_is_told_and_cannot_write_any_more() {
    let place = Place::new();
    let (client, other) = (place.client(), place.client());
    other.create("/x", b"", CreateMode::Persistent).expect("made");
    let held = Mutex::new(&other, "/lock").lock().expect("free");
    let waits = std::thread::spawn({
        let lock = Mutex::new(&client, "/lock");
        move || lock.lock()
    });
    super::support::wait_until("it waits", || other.children("/lock").expect("there").len() == 2);
    place.end_session(&other);
    let next = waits.join().expect("no panic").expect("its turn");
    assert!(next.token() > held.token());
    assert!(held.confirm().is_err_and(|why| why.session_is_over()));
    assert!(!held.seems_held());
    assert!(Mutex::new(&other, "/lock").lock().is_err_and(|why| why.session_is_over()));
    assert!(held.release().is_err_and(|why| why.session_is_over()));
    next.transaction().set("/x", b"mine").commit().expect("it is held");
    client.delete(&next.path()).expect("by hand");
    assert_eq!(next.confirm(), Err(Error::Lost));
    let refused = next.transaction().set("/x", b"still mine?").commit();
    assert_eq!(refused.map_err(|why| why.code()), Err(Some(ErrorCode::NoNode)));
    next.release().expect("there is nothing to release");
}

#[test]
fn waiting_ends_with_the_session_and_with_the_node() {
    let place = Place::new();
    let (holder, client) = (place.client(), place.client());
    let _held = Mutex::new(&holder, "/lock").lock().expect("free");
    for by_hand in [true, false] {
        let waits = std::thread::spawn({
            let lock = Mutex::new(&client, "/lock").data(b"waits");
            move || lock.lock()
        });
        super::support::wait_until("it waits", || holder.children("/lock").expect("there").len() == 2);
        if by_hand {
            let names = holder.children("/lock").expect("there");
            let waiting = names.iter().max_by_key(|name| name[name.len() - 10..].to_owned()).expect("two");
            holder.delete(&format!("/lock/{waiting}")).expect("by hand");
            // It learns of that when it looks again.
            holder.set(&format!("/lock/{}", names.iter().find(|name| *name != waiting).expect("two")), b"x").expect("set");
        } else {
            place.end_session(&client);
        }
        let ended = waits.join().expect("no panic").map(drop).expect_err("not its turn");
        assert!(if by_hand { ended == Error::Lost } else { ended.session_is_over() }, "{ended:?}");
    }
}

#[test]
fn contenders_of_other_clients_count_by_their_numbers() {
    let place = Place::new();
    let (client, other) = (place.client(), place.client());
    for names in [Names::Curator, Names::Kazoo] {
        for theirs in ["_c_0a8f61be-0ee0-4bf9-8e0e-cdd43f0d0cd0-lock-", "9f9fd8e1ef2142b9b2fc4b6d2a1bd2a1__lock__"] {
            other.ensure("/lock").expect("made");
            let path = other.create(&format!("/lock/{theirs}"), b"", CreateMode::EphemeralSequential).expect("made");
            let lock = Mutex::new(&client, "/lock").names(names);
            assert!(lock.try_lock().expect("an answer").is_none(), "{names:?} waits for {theirs}");
            other.delete(&path).expect("released");
            let held = lock.try_lock().expect("an answer").expect("free");
            let later = other.create(&format!("/lock/{theirs}"), b"", CreateMode::EphemeralSequential).expect("made");
            assert!(held.confirm().is_ok());
            other.delete(&later).expect("gone");
            held.release().expect("released");
        }
    }
}

/// Each of those that take turns holds the lock at least so often.
const HELD_MIN: u64 = 2;

/// Holders write by `transaction`; in the log that the servers keep, the token of an earlier holder never comes behind that of a later one.
#[test]
fn nobody_writes_after_a_later_holder_under_kills_pauses_and_lost_sessions() {
    nobody_writes_after_a_later_holder(Members::processes());
}

#[test]
fn nobody_writes_after_a_later_holder_under_partitions_and_lost_sessions() {
    nobody_writes_after_a_later_holder(Members::network());
}

fn nobody_writes_after_a_later_holder(members: Members) {
    let (client, held, _members) = trouble::during(members, 6, 0x10c4, |trouble, _| {
        let mut held_times = 0;
        let begun = Instant::now();
        // One that vanishes keeps the others waiting until its session ends, perhaps beyond the trouble.
        let goes_on = |held_times| !trouble.is_over() || held_times < HELD_MIN && begun.elapsed() < PATIENCE;
        'sessions: while goes_on(held_times) {
            let client = trouble.client();
            let lock = Mutex::new(&client, "/lock");
            while goes_on(held_times) {
                let held = match lock.lock_for(Duration::from_secs(3)) {
                    Ok(held) => held,
                    Err(Error::TimedOut) => continue,
                    Err(why) if why.session_is_over() => continue 'sessions,
                    Err(why) => panic!("{why}"),
                };
                held_times += 1;
                let token = held.token().0.to_string();
                for _ in 0..3 {
                    drop(client.ensure("/log"));
                    drop(held.transaction().create("/log/", token.as_bytes(), CreateMode::PersistentSequential).commit());
                }
                // Some release, some leave it to the destructor, some vanish.
                match held_times % 8 {
                    0 => drop(held),
                    7 => {
                        client.abandon();
                        continue 'sessions;
                    }
                    _ => match held.release() {
                        Ok(()) | Err(Error::TimedOut) => {}
                        Err(why) if why.session_is_over() => continue 'sessions,
                        Err(why) => panic!("{why}"),
                    },
                }
            }
        }
        held_times
    });
    let mut names = client.children("/log").expect("there");
    names.sort_unstable();
    let read = |name: &String| String::from_utf8(client.get(&format!("/log/{name}")).expect("there").0).expect("text");
    let tokens: Vec<i64> = names.iter().map(|name| read(name).parse().expect("a number")).collect();
    assert!(tokens.is_sorted(), "{tokens:?}");
    let holders = tokens.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert!(held.iter().all(|times| *times >= HELD_MIN) && holders >= held.len(), "{holders} holders wrote, {held:?} held it");
    super::support::wait_until("nobody is left in line", || {
        client.children("/lock").is_ok_and(|names| names.is_empty()) || client.exists("/lock") == Ok(None)
    });
}

#[test]
fn readers_share_a_lock_that_writers_have_alone_and_nobody_is_overtaken() {
    let place = Place::new();
    let (client, other) = (place.client(), place.client());
    for names in [Names::Curator, Names::Kazoo] {
        let (lock, others) = (ReadWriteLock::new(&client, "/rw").names(names), ReadWriteLock::new(&other, "/rw").names(names));
        let (one, two) = (lock.read().expect("free"), others.try_read().expect("an answer").expect("readers share"));
        assert!(lock.try_write().expect("an answer").is_none());
        let writes = std::thread::spawn({
            let others = others.clone();
            move || others.write_for(PATIENCE)
        });
        super::support::wait_until("a writer waits", || client.children("/rw").expect("there").len() == 3);
        assert!(lock.try_read().expect("an answer").is_none(), "behind a writer that waits");
        assert_eq!(lock.read_for(Duration::from_millis(20)).map(drop), Err(Error::TimedOut));
        one.release().expect("released");
        super::support::wait_until("the reader that gave up is gone", || client.children("/rw").expect("there").len() == 2);
        let last = two.token();
        two.release().expect("released");
        let written = writes.join().expect("no panic").expect("its turn");
        assert!(written.token() > last);
        assert!(lock.try_read().expect("an answer").is_none());
        assert!(Mutex::new(&client, "/rw").try_lock().expect("an answer").is_none(), "a mutex is a writer");
        written.release().expect("released");
        lock.try_write().expect("an answer").expect("free").release().expect("released");
    }
}

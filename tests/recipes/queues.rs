//! No item is lost, none acknowledged twice.

use super::proxy::Cut;
use super::trouble::{self, Members};
use super::{PATIENCE, Place};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;
use zoo::client::{CreateMode, ErrorCode};
use zoo::proto::OpCode;
use zoo::recipes::{Error, WorkQueue};

fn item(taken: &zoo::recipes::Taken) -> String {
    String::from_utf8(taken.item().to_vec()).expect("text")
}

#[test]
fn items_come_by_priority_and_in_the_order_they_were_put() {
    let place = Place::new();
    let client = place.client();
    let queue = WorkQueue::open(&client, "/app/queue").expect("made");
    assert!(queue.try_take().expect("an answer").is_none());
    for text in ["a", "b"] {
        queue.put(text.as_bytes()).expect("put");
    }
    queue.put_at(5, b"urgent").expect("put");
    queue.put_at(60_000, b"whenever").expect("put");
    queue.put_all(100, &[b"c", b"d"]).expect("put");
    assert_eq!(queue.count(), Ok(6));
    let order: Vec<_> = (0..6)
        .map(|_| {
            let taken = queue.take().expect("there");
            let text = item(&taken);
            taken.acknowledge().expect("ours");
            text
        })
        .collect();
    assert_eq!(order, ["urgent", "a", "b", "c", "d", "whenever"]);
    assert_eq!(queue.take_for(Duration::from_millis(20)).map(drop), Err(Error::TimedOut));
    assert_eq!((queue.count(), client.children("/app/queue/taken")), (Ok(0), Ok(vec![])));
}

#[test]
fn an_item_comes_back_when_its_consumer_lets_go_or_dies_and_keeps_its_place() {
    let place = Place::new();
    let (client, doomed) = (place.client(), place.client());
    let (queue, others) = (WorkQueue::open(&client, "/queue").expect("made"), WorkQueue::open(&doomed, "/queue").expect("there"));
    queue.put_all(100, &[b"a", b"b"]).expect("put");
    let taken = others.take().expect("there");
    let (name, token) = (taken.name().to_owned(), taken.token());
    let second = queue.take().expect("there");
    assert_eq!((item(&taken), item(&second)), ("a".into(), "b".into()));
    let waits = std::thread::scope(|scope| {
        let waits = scope.spawn(|| queue.take_for(PATIENCE));
        place.end_session(&doomed);
        waits.join().expect("no panic").expect("it came back")
    });
    assert_eq!((item(&waits), waits.name()), ("a".into(), &*name));
    assert!(waits.token() > token);
    assert!(taken.acknowledge().is_err_and(|why| why.session_is_over()));
    second.let_go().expect("ours");
    assert_eq!(item(&queue.take().expect("it is back")), "b", "and dropped it comes back, too");
    let again = queue.take_for(PATIENCE).expect("it is back");
    assert_eq!(item(&again), "b");
    client.delete(&format!("/queue/taken/{}", again.name())).expect("by hand");
    assert_eq!(again.acknowledge(), Err(Error::Lost));
    waits.acknowledge().expect("ours");
}

#[test]
fn lost_answers_neither_lose_nor_double_an_item() {
    let place = Place::new();
    let (client, other) = (place.counted(), place.client());
    let queue = WorkQueue::open(&client, "/queue").expect("made");
    queue.put(b"first").expect("put");
    queue.take().expect("there").acknowledge().expect("ours");
    for cut in [Cut::Answer, Cut::Request] {
        place.proxy.cut(OpCode::Multi, cut);
        queue.put(b"x").expect("put");
        assert_eq!(queue.count(), Ok(1), "{cut:?} of put");
        place.proxy.cut(OpCode::Multi, cut);
        let taken = queue.take().expect("there");
        assert_eq!(other.children("/queue/taken").expect("there").len(), 1);
        place.proxy.cut(OpCode::Multi, cut);
        taken.acknowledge().expect("ours");
        assert_eq!(queue.count(), Ok(0), "{cut:?} of acknowledge");
        assert!(place.proxy.all_cut());
    }
    assert_eq!(other.children("/queue/taken"), Ok(vec![]));
}

#[test]
fn results_appear_with_the_acknowledgement_or_not_at_all() {
    let place = Place::new();
    let client = place.client();
    let queue = WorkQueue::open(&client, "/queue").expect("made");
    queue.put(b"x").expect("put");
    let refused = queue.take().expect("there").acknowledge_with(|t| t.set("/no/such/node", b""));
    assert_eq!(
        refused.map_err(|why| matches!(why, Error::Client(zoo::client::Error::RefusedPart { index: 2, code: ErrorCode::NoNode }))),
        Err(true)
    );
    queue.take_for(PATIENCE).expect("it is back").acknowledge_with(|t| t.create("/done", b"", CreateMode::Persistent)).expect("ours");
    assert!(client.exists("/done").expect("an answer").is_some());
    assert_eq!(queue.count(), Ok(0));
}

#[test]
fn every_item_is_acknowledged_once_under_kills_pauses_and_lost_sessions() {
    every_item_is_acknowledged_once(Members::processes());
}

#[test]
fn every_item_is_acknowledged_once_under_partitions_and_lost_sessions() {
    every_item_is_acknowledged_once(Members::network());
}

fn every_item_is_acknowledged_once(members: Members) {
    const PRODUCERS: usize = 2;
    let (acknowledged, put) = (Mutex::new(BTreeMap::<String, usize>::new()), Mutex::new(Vec::new()));
    let uncertain = Mutex::new(BTreeSet::new());
    let (client, _, _members) = trouble::during(members, 6, 0x9e0e, |trouble, i| {
        let mut count = 0;
        'sessions: while !trouble.is_over() {
            let client = trouble.client();
            let Ok(queue) = WorkQueue::open(&client, "/queue") else { continue };
            while !trouble.is_over() {
                if i < PRODUCERS {
                    count += 1;
                    let text = format!("{i}-{count}");
                    match queue.put(text.as_bytes()) {
                        Ok(()) => put.lock().expect("not poisoned").push((text, true)),
                        Err(why) if why.session_is_over() => {
                            put.lock().expect("not poisoned").push((text, false));
                            continue 'sessions;
                        }
                        Err(why) => panic!("{why}"),
                    }
                    // Consumers set the pace.
                    while queue.count().is_ok_and(|count| count > 20) && !trouble.is_over() {
                        std::thread::yield_now();
                    }
                    continue;
                }
                let taken = match queue.take_for(Duration::from_millis(500)) {
                    Ok(taken) => taken,
                    Err(Error::TimedOut) => continue,
                    Err(why) if why.session_is_over() => continue 'sessions,
                    Err(why) => panic!("{why}"),
                };
                count += 1;
                let text = item(&taken);
                match count % 10 {
                    0 => drop(taken),
                    1 => {
                        client.abandon();
                        continue 'sessions;
                    }
                    _ => match taken.acknowledge() {
                        Ok(()) => *acknowledged.lock().expect("not poisoned").entry(text).or_insert(0) += 1,
                        // Nobody heard the answer, if there was one.
                        Err(why) if why.session_is_over() => {
                            uncertain.lock().expect("not poisoned").insert(text);
                            continue 'sessions;
                        }
                        Err(why) => panic!("{why}"),
                    },
                }
            }
        }
    });
    // Whatever is left, down to what was held by sessions that have vanished.
    let queue = WorkQueue::open(&client, "/queue").expect("there");
    let mut left = Vec::new();
    while queue.count().expect("an answer") > 0 {
        let taken = queue.take_for(PATIENCE).expect("its consumer's session ends");
        left.push(item(&taken));
        taken.acknowledge().expect("ours");
    }
    let mut acknowledged = acknowledged.into_inner().expect("not poisoned");
    for text in left {
        *acknowledged.entry(text).or_insert(0) += 1;
    }
    let put = put.into_inner().expect("not poisoned");
    assert!(acknowledged.values().all(|times| *times == 1), "{acknowledged:?}");
    let uncertain = uncertain.into_inner().expect("not poisoned");
    let is_known = |text: &String| acknowledged.contains_key(text) || uncertain.contains(text);
    let lost: Vec<_> = put.iter().filter(|(text, is_certain)| *is_certain && !is_known(text)).collect();
    assert!(lost.is_empty(), "{lost:?} of {} items, {} acknowledgements uncertain", put.len(), uncertain.len());
    assert!(uncertain.len() * 4 < put.len(), "{} of {} uncertain", uncertain.len(), put.len());
    assert!(put.len() > 20, "{} items", put.len());
}

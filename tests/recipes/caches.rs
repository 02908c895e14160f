//! A copy that is always a state the tree had.

use super::proxy::Cut;
use super::support::wait_until;
use super::{PATIENCE, Place};
use std::sync::mpsc;
use zoo::client::CreateMode;
use zoo::proto::OpCode;
use zoo::recipes::{Cache, Change, Error, Freshness, Sessions, Snapshot};

fn text<'a>(snapshot: &'a Snapshot, path: &str) -> Option<&'a str> {
    snapshot.get(path).map(|node| std::str::from_utf8(&node.data).expect("text"))
}

#[test]
fn a_copy_follows_its_subtree_and_tells_what_changes() {
    let place = Place::new();
    let client = place.client();
    let (tell, told) = mpsc::channel();
    let cache = Cache::start_with(&place.sessions(), "/config", move |snapshot, changes| {
        tell.send((snapshot.number(), changes.to_vec())).expect("somebody listens");
    })
    .expect("started");
    let empty = cache.until(PATIENCE, |_| true).expect("loaded");
    assert_eq!((empty.nodes().count(), told.recv().expect("told")), (0, (1, vec![])));
    client.create_all("/config/db/url", b"one", CreateMode::Persistent).expect("made");
    client.create("/config2", b"", CreateMode::Persistent).expect("made");
    let seen = cache.until(PATIENCE, |s| s.get("/config/db/url").is_some()).expect("seen");
    assert_eq!(seen.nodes().map(|(path, _)| path).collect::<Vec<_>>(), ["/config", "/config/db", "/config/db/url"]);
    assert_eq!(seen.children("/config").map(|(name, _)| name).collect::<Vec<_>>(), ["db"]);
    client.set("/config/db/url", b"two").expect("set");
    cache.until(PATIENCE, |s| text(s, "/config/db/url") == Some("two")).expect("seen");
    client.delete_all("/config/db").expect("gone");
    let seen = cache.until(PATIENCE, |s| s.get("/config/db").is_none()).expect("seen");
    assert_eq!(seen.nodes().count(), 1);
    let url = "/config/db/url".to_owned();
    let mut changes = Vec::new();
    while !changes.contains(&Change::Removed(url.clone())) {
        changes.extend(told.recv_timeout(PATIENCE).expect("the listener is told of each snapshot").1);
    }
    for change in [Change::Added(url.clone()), Change::Changed(url.clone()), Change::Removed(url)] {
        assert_eq!(changes.iter().filter(|c| **c == change).count(), 1, "{change:?} in {changes:?}");
    }
    assert_eq!(cache.freshness(), Freshness::Current);
}

/// Two nodes that only ever change together are never seen apart, whatever is in flight.
#[test]
fn a_transaction_is_seen_whole_while_much_changes() {
    let place = Place::new();
    let client = place.client();
    client
        .transaction()
        .create("/pair", b"", CreateMode::Persistent)
        .create("/pair/a", b"0", CreateMode::Persistent)
        .create("/pair/b", b"0", CreateMode::Persistent)
        .commit()
        .expect("made");
    let (tell, told) = mpsc::channel();
    let cache = Cache::start_with(&place.sessions(), "/pair", move |snapshot, _| tell.send(snapshot.clone()).expect("somebody listens"))
        .expect("started");
    for i in 1..=300 {
        let value = i.to_string();
        let both = client.transaction().set("/pair/a", value.as_bytes()).set("/pair/b", value.as_bytes());
        let all = if i % 3 == 0 { both.create("/pair/c", b"", CreateMode::Persistent).delete("/pair/c") } else { both };
        drop(all.send());
        if i % 7 == 0 {
            client.sync("/").expect("answered");
        }
    }
    cache.until(PATIENCE, |s| text(s, "/pair/a") == Some("300")).expect("the last one");
    let snapshots: Vec<Snapshot> = told.try_iter().collect();
    assert!(snapshots.iter().all(|s| text(s, "/pair/a") == text(s, "/pair/b") && s.get("/pair/c").is_none()));
    let values: Vec<u32> = snapshots.iter().filter_map(|s| text(s, "/pair/a")?.parse().ok()).collect();
    assert!(values.is_sorted() && values.len() > 1, "{values:?}");
}

#[test]
fn what_is_missed_without_a_connection_or_a_session_is_found_afterwards() {
    let place = Place::new();
    let client = place.client();
    client.create_all("/config/a", b"1", CreateMode::Persistent).expect("made");
    client.create("/config/gone", b"", CreateMode::Persistent).expect("made");
    let sessions = Sessions::new(super::builder(&place.proxy.address.to_string()));
    let cache = Cache::start(&sessions, "/config").expect("started");
    let first = cache.until(PATIENCE, |s| s.get("/config/gone").is_some()).expect("loaded");
    // Whoever asks next loses the connection, and the copy's reads with it.
    place.proxy.cut(OpCode::Exists, Cut::Request);
    place.proxy.cut(OpCode::GetChildren2, Cut::Request);
    let asks = sessions.current().expect("a client").exists("/config");
    assert!(asks.is_ok(), "repeated");
    client.delete("/config/gone").expect("gone");
    client.set("/config/a", b"2").expect("set");
    let second = cache.until(PATIENCE, |s| s.get("/config/gone").is_none() && text(s, "/config/a") == Some("2")).expect("found");
    assert!(second.number() > first.number());
    place.end_session(&sessions.current().expect("a client"));
    client.set("/config/a", b"3").expect("set");
    cache.until(PATIENCE, |s| text(s, "/config/a") == Some("3")).expect("found in a new session");
    sessions.close().expect("closed");
    assert_eq!(cache.until(PATIENCE, |s| text(s, "/config/a") == Some("4")).map(drop), Err(Error::Client(zoo::client::Error::Closed)));
    assert!(matches!(cache.freshness(), Freshness::Over(_)));
}

/// More happens than a watch keeps while nobody takes it.
#[test]
fn a_listener_that_takes_its_time_gets_everything_read_again_and_a_new_watch() {
    let place = Place::new();
    let client = place.client();
    client.create("/busy", b"", CreateMode::Persistent).expect("made");
    let (go_on, held) = mpsc::channel::<()>();
    let sessions = Sessions::new(super::builder(&place.proxy.address.to_string()));
    let cache = Cache::start_with(&sessions, "/busy", move |_, _| {
        let _ = held.recv();
    })
    .expect("started");
    cache.until(PATIENCE, |s| s.number() == 1).expect("loaded");
    let begun = place.proxy.events();
    let sets: Vec<_> = (0..10_100).map(|i| client.pipelined().set_version("/busy", i.to_string().as_bytes(), -1)).collect();
    assert!(sets.into_iter().all(|set| set.wait().is_ok()));
    wait_until("the watch is over", || place.proxy.events() - begun == 10_100);
    drop(go_on);
    cache.until(PATIENCE, |s| text(s, "/busy") == Some("10099")).expect("read again");
    client.create("/busy/a", b"", CreateMode::Persistent).expect("made");
    cache.until(PATIENCE, |s| s.get("/busy/a").is_some()).expect("seen");
    wait_until("it is at rest", || cache.freshness() == Freshness::Current);
    let asked = place.proxy.all_requests();
    assert!((0..50).all(|_| client.set("/", b"").is_ok()));
    assert!(place.proxy.all_requests() - asked < 10, "nothing is read over and over");
    assert_eq!(cache.freshness(), Freshness::Current);
}

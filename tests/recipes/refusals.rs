//! What recipes say where they can do nothing: below a chroot that does not exist, where they may not write, and without a server that answers.

use super::support::wait_until;
use super::{PATIENCE, Place, builder};
use rustix::process::Signal;
use std::time::{Duration, Instant};
use zoo::client::{self, Acl, CreateMode, ErrorCode};
use zoo::recipes::{
    Barrier, Cache, Counter, DoubleBarrier, Error, Group, LeaderLatch, LeaderSelector, Member, Mutex, PersistentNode, ReadWriteLock,
    Semaphore, Sessions, Then, WorkQueue,
};

/// The first thing that each recipe has to write.
fn all(servers: &str, below: &str) -> Vec<(&'static str, Result<(), Error>)> {
    let (client, sessions) = (builder(servers).connect().expect("a session"), Sessions::new(builder(servers)));
    let (at, group) = (|name: &str| format!("{below}/{name}"), Group::new(&sessions, &format!("{below}/group")));
    vec![
        ("mutex", Mutex::new(&client, &at("lock")).lock_for(PATIENCE).map(drop)),
        ("mutex, if free", Mutex::new(&client, &at("lock")).try_lock().map(drop)),
        ("read-write lock", ReadWriteLock::new(&client, &at("lock")).write_for(PATIENCE).map(drop)),
        ("semaphore", Semaphore::new(&client, &at("two"), 2).acquire_for(PATIENCE).map(drop)),
        ("queue", WorkQueue::open(&client, &at("queue")).map(drop)),
        ("counter", Counter::open(&client, &at("count")).map(drop)),
        ("barrier", Barrier::new(&client, &at("barrier")).close()),
        ("double barrier", DoubleBarrier::new(&client, &at("gate"), 2).enter_for(PATIENCE).map(drop)),
        ("latch", LeaderLatch::start(&sessions, &at("latch"), b"").and_then(|latch| latch.until_leader(PATIENCE)).map(drop)),
        ("selector", LeaderSelector::new(&sessions, &at("selector"), b"").run(|_| Then::Stop)),
        ("persistent node", PersistentNode::start(&sessions, &at("node"), b"").and_then(|node| node.until_there(PATIENCE)).map(drop)),
        ("member", group.join(Member::new("a", "a:1")).and_then(|member| member.until_listed(PATIENCE)).map(drop)),
    ]
}

fn all_are_refused(servers: &str, below: &str, reason: ErrorCode) {
    for (recipe, ended) in all(servers, below) {
        assert_eq!(ended, Err(Error::Client(client::Error::Refused(reason))), "{recipe}");
        assert!(!ended.is_err_and(|why| why.session_is_over()), "{recipe}");
    }
}

#[test]
fn below_a_chroot_that_does_not_exist_every_recipe_says_so() {
    let place = Place::new();
    let servers = format!("{}/no/such", place.server.address);
    all_are_refused(&servers, "", ErrorCode::NoNode);
    let cache = Cache::start(&Sessions::new(builder(&servers)), "/config").expect("started");
    assert_eq!(cache.until(PATIENCE, |_| true).expect("nothing is something, too").nodes().count(), 0);
    place.client().create_all("/no/such/config", b"x", CreateMode::Persistent).expect("made");
    cache.until(PATIENCE, |seen| seen.get("/config").is_some()).expect("its watch was set on what did not exist");
}

#[test]
fn where_a_recipe_may_not_write_it_says_so() {
    let place = Place::new();
    let owner = place.client();
    owner.add_auth("digest", b"owner:secret").expect("accepted");
    owner.create_with("/closed", b"", &Acl::read_only(), CreateMode::Persistent).expect("made");
    all_are_refused(&place.server.address.to_string(), "/closed", ErrorCode::NoAuth);
    owner.create_with("/secret", b"", &Acl::creator(), CreateMode::Persistent).expect("made");
    all_are_refused(&place.server.address.to_string(), "/secret", ErrorCode::NoAuth);
    let cache = Cache::start(&place.sessions(), "/").expect("started");
    let seen = cache.until(PATIENCE, |seen| seen.get("/closed").is_some()).expect("loaded");
    assert!(seen.get("/secret").is_none(), "what may not be read is left out");
}

/// All calls that are given a time keep to it, whether the server stands still or is gone; what they have begun is taken back when it answers again.
#[test]
fn without_a_server_that_answers_nobody_waits_longer_than_it_wants() {
    let place = Place::new();
    let (client, sessions) = (place.client(), place.sessions());
    let queue = WorkQueue::open(&client, "/queue").expect("made");
    sessions.current().and_then(|client| Ok(client.sync("/")?)).expect("a session");
    let calls = |is_there: &str| {
        let short = Duration::from_millis(100);
        let begun = Instant::now();
        let ended = [
            ("mutex", Mutex::new(&client, "/lock").lock_for(short).map(drop)),
            ("read-write lock", ReadWriteLock::new(&client, "/rw").read_for(short).map(drop)),
            ("semaphore", Semaphore::new(&client, "/two", 2).acquire_for(short).map(drop)),
            ("queue", queue.take_for(short).map(drop)),
            ("barrier", Barrier::new(&client, "/barrier").pass_for(short)),
            ("double barrier", DoubleBarrier::new(&client, "/gate", 2).enter_for(short).map(drop)),
        ];
        for (recipe, ended) in ended {
            assert_eq!(ended, Err(Error::TimedOut), "{recipe}, {is_there}");
        }
        let (latch, node) = (LeaderLatch::start(&sessions, "/latch", b""), PersistentNode::start(&sessions, "/node", b""));
        let (latch, node) = (latch.expect("it begins"), node.expect("it begins"));
        let cache = Cache::start(&sessions, "/config").expect("it begins");
        assert_eq!(latch.until_leader(short), Err(Error::TimedOut), "{is_there}");
        assert_eq!(node.until_there(short), Err(Error::TimedOut), "{is_there}");
        assert_eq!(cache.until(short, |_| true).map(drop), Err(Error::TimedOut), "{is_there}");
        assert!(begun.elapsed() < PATIENCE, "{is_there}");
        (latch, node, cache)
    };
    place.server.signal(Signal::STOP);
    let (latch, node, cache) = calls("it stands still");
    place.server.signal(Signal::CONT);
    // Who goes on by itself has gone on.
    latch.until_leader(PATIENCE).expect("alone");
    node.until_there(PATIENCE).expect("alone");
    cache.until(PATIENCE, |_| true).expect("loaded");
    for path in ["/lock", "/rw", "/two/locks", "/two/leases", "/gate"] {
        wait_until("what was begun is taken back", || client.children(path).map_or(true, |names| names.is_empty()));
    }
    latch.stop().expect("stopped");
    node.stop().expect("stopped");
    drop(cache);
    place.server.signal(Signal::KILL);
    // Their ends wait for a server as long as they may; nobody has to wait for that.
    let gone = calls("it is gone");
    drop(std::thread::spawn(move || drop(gone)));
}

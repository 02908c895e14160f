//! Connections that move between shards while they are in use: their clients notice nothing.

use crate::shared;
use crate::support::{Frame, RawClient, path_watch, set_data, wait_until, word};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zoo::base::{SessionId, Writer};
use zoo::proto::{EventType, OpCode};
use zoo::server::ZooServer;

/// Clients that are never idle.
const WORKERS: usize = 12;
/// Clients that watch one node.
const WATCHERS: usize = 12;
/// Connections that come and go, so that one shard has far more than the other.
const PASSERS_BY: usize = 64;
/// Moves after which enough has been seen.
const ENOUGH: u64 = 300;
/// Session timeout where no session is to end: nobody here sends pings.
const TIMEOUT_MS: i32 = 600_000;

fn skewed_server() -> ZooServer {
    ZooServer::builder()
        .shards(2)
        .set("zoo.rebalanceInterval", 10)
        .set("4lw.commands.whitelist", "*")
        .session_timeouts(Duration::from_secs(1), Duration::from_secs(600))
        .force_sync(false)
        .start()
        .expect("starts")
}

fn moved(address: SocketAddr) -> u64 {
    let mntr = word(address, "mntr");
    let line = mntr.lines().find_map(|line| line.strip_prefix("zk_zoo_connections_moved")).expect("mntr tells");
    line.trim().parse().expect("a number")
}

/// A session that does not end by itself.
fn attach(address: SocketAddr) -> RawClient {
    RawClient::attach(address, SessionId::NONE, [0; 16], TIMEOUT_MS).expect("a session")
}

/// Has one shard lose its connections, and then the other one, until connections have moved often enough.
fn unsettle(address: SocketAddr) {
    for round in 0.. {
        let passers_by: Vec<RawClient> = (0..PASSERS_BY).map(|_| RawClient::connect(address)).collect();
        // They are dealt in turn, so every other one is on the same shard.
        let staying: Vec<RawClient> = passers_by.into_iter().enumerate().filter(|(i, _)| (i + round) % 2 == 0).map(|(_, c)| c).collect();
        let before = moved(address);
        if before >= ENOUGH {
            return;
        }
        wait_until("connections move", || moved(address) > before);
        drop(staying);
    }
}

/// Writes, reads and watches a node of its own, many requests at a time, and knows every frame that must come back.
fn work(address: SocketAddr, number: usize, enough: &AtomicBool) -> usize {
    let mut client = attach(address);
    let path = format!("/worker-{number}");
    assert_eq!(client.create(&path, b"", 0).err, 0);
    assert_eq!(client.create(&format!("{path}/here"), b"", 1).err, 0);
    let mut written = 0;
    while !enough.load(Ordering::Relaxed) {
        let value = |n: i32| format!("{number}:{n}").into_bytes();
        let mut requests = Vec::new();
        for n in written..written + 8 {
            requests.push((OpCode::SetData, set_data(&path, &value(n), n)));
            requests.push((OpCode::GetData, path_watch(&path, true)));
        }
        let mut xid = client.send_all(&requests).expect("sent");
        let mut next = || client.receive().expect("the connection stays");
        for n in written..written + 8 {
            if n > 0 {
                let event = next();
                assert!(event.is_event(), "{path}: an event is lost before write {n}: {event:?}");
                assert_eq!(event.event(), (EventType::NodeDataChanged as i32, path.clone()));
            }
            let set = next();
            assert_eq!((set.xid, set.err), (xid, 0), "{path}: the reply to write {n}: {set:?}");
            let get: Frame = next();
            assert_eq!((get.xid, get.data().0), (xid + 1, Some(value(n))), "{path}: the read behind write {n}");
            xid += 2;
        }
        written += 8;
    }
    written as usize
}

/// Watches a node for good; how often it has heard of a change when the node is deleted.
fn watch(mut client: RawClient) -> usize {
    let mut changes = 0;
    loop {
        let frame = client.receive().expect("the connection stays");
        let (kind, path) = frame.event();
        assert_eq!(path, "/hot");
        match kind {
            kind if kind == EventType::NodeDataChanged as i32 => changes += 1,
            kind if kind == EventType::NodeDeleted as i32 => return changes,
            other => panic!("an event of kind {other}"),
        }
    }
}

#[test]
fn connections_that_move_lose_no_reply_and_no_event_and_get_none_twice() {
    let _shared = shared();
    let server = skewed_server();
    let address = server.address();
    let mut writer = attach(address);
    assert_eq!(writer.create("/hot", b"", 0).err, 0);
    let mut body = Vec::new();
    body.put_string("/hot");
    body.put_i32(0);
    let watchers: Vec<RawClient> = (0..WATCHERS)
        .map(|_| {
            let mut client = attach(address);
            assert_eq!(client.call(OpCode::AddWatch, &body).err, 0);
            client
        })
        .collect();
    let enough = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|n| scope.spawn(move || work(address, n, enough))).collect();
        let watchers: Vec<_> = watchers.into_iter().map(|client| scope.spawn(move || watch(client))).collect();
        let changing = scope.spawn(move || {
            let mut changes = 0;
            while !enough.load(Ordering::Relaxed) {
                assert_eq!(writer.set("/hot", b"", -1).err, 0);
                changes += 1;
            }
            let mut delete = Vec::new();
            delete.put_string("/hot");
            delete.put_i32(-1);
            assert_eq!(writer.call(OpCode::Delete, &delete).err, 0);
            changes
        });
        unsettle(address);
        enough.store(true, Ordering::Relaxed);
        let changes: usize = changing.join().expect("every write was answered");
        for watcher in watchers {
            assert_eq!(watcher.join().expect("no strange event"), changes, "events of one watcher");
        }
        let written: usize = workers.into_iter().map(|worker| worker.join().expect("every frame as it must be")).sum();
        println!("{} moves, {written} writes of workers, {changes} changes watched by {WATCHERS}", moved(address));
    });
}

#[test]
fn a_session_whose_connection_has_moved_ends_and_expires_as_any_other() {
    let _shared = shared();
    let server = ZooServer::builder()
        .shards(2)
        .tick(Duration::from_millis(500))
        .set("zoo.rebalanceInterval", 10)
        .set("4lw.commands.whitelist", "*")
        .start()
        .expect("starts");
    let address = server.address();
    let mut clients: Vec<RawClient> =
        (0..32).map(|_| RawClient::attach(address, SessionId::NONE, [0; 16], 10_000).expect("a session")).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.create(&format!("/e-{i}"), b"", 1).err, 0);
    }
    // All of one shard: half of the others go there. They are heard from all the time, or their sessions would end.
    let mut left: Vec<(usize, RawClient)> = Vec::new();
    for (i, client) in clients.into_iter().enumerate() {
        if i % 2 == 0 { left.push((i, client)) } else { client.close() }
    }
    wait_until("some move", || {
        left.iter_mut().for_each(|(i, client)| assert_eq!(client.get(&format!("/e-{i}"), false).err, 0));
        moved(address) >= 4
    });
    let mut reader = RawClient::connect(address);
    let mut vanished = Vec::new();
    for (n, (i, client)) in left.into_iter().enumerate() {
        // Half of them say goodbye, half of them just go.
        if n % 2 == 0 {
            client.close()
        } else {
            drop(client)
        }
        vanished.push(format!("/e-{i}"));
    }
    wait_until("ephemerals go with their sessions", || vanished.iter().all(|path| reader.get(path, false).err != 0));
}

//! A Java ensemble becomes one of ours, server by server on the directories and files as they are, and goes back, while clients work.

use crate::members::Mixed;
use crate::reference::client::{Client, Reply};
use crate::reference::process::Kind::{Java, Zoo};
use crate::reference::request::*;
use crate::reference::seen::{self, Seen};
use crate::session::{Held, Session};
use crate::writers::Writers;
use std::collections::BTreeMap;
use std::time::Instant;
use zoo::base::Reader;

const NODE_DELETED: i32 = 2;
const NODE_DATA_CHANGED: i32 = 3;
const NODE_CHILDREN_CHANGED: i32 = 4;

/// Every kind of node; what is below `/kept` changes no more.
fn fill(client: &mut Client) {
    for top in ["/kept", "/kept/q", "/watched", "/watched/data", "/lock", "/mine"] {
        client.ok(&create(top, b"", PERSISTENT));
    }
    client.ok(&auth("digest", b"u:p"));
    client.ok(&create_as(CREATE, "/kept/guarded", b"secret", &[(31, "auth", ""), (1, "world", "anyone")], PERSISTENT));
    client.ok(&create_null("/kept/null"));
    client.ok(&create_container("/kept/container"));
    client.ok(&create("/kept/container/child", b"keeps it", PERSISTENT));
    client.ok(&create_ttl("/kept/ttl", b"long", TTL, 1_000_000_000));
    for path in ["/zookeeper/quota/kept", "/zookeeper/quota/kept/q"] {
        client.ok(&create(path, b"", PERSISTENT));
    }
    client.ok(&create("/zookeeper/quota/kept/q/zookeeper_limits", b"count=1000,bytes=100000", PERSISTENT));
    client.ok(&create("/zookeeper/quota/kept/q/zookeeper_stats", b"count=0,bytes=0", PERSISTENT));
    for i in 0..200 {
        client.ok(&create(&format!("/kept/q/n{i}"), &vec![b'x'; i], PERSISTENT));
        client.ok(&set_data(&format!("/kept/q/n{}", i / 2), b"again", -1));
    }
    (0..10).for_each(|_| drop(client.ok(&create("/kept/s-", b"", SEQUENTIAL))));
}

/// Sessions that live through all of it.
struct Living {
    holder: Held,
    waiter: Held,
    watcher: Held,
}

fn path_of(reply: &Reply) -> String {
    Reader::new(&reply.body).string().unwrap().to_owned()
}

impl Living {
    /// One has ephemerals and a lock, one waits for the lock, one watches.
    fn begin(members: &Mixed) -> Living {
        let mut ports = members.ports;
        let mut open = || {
            ports.rotate_left(1);
            Session::open(&ports)
        };
        let (mut holder, mut waiter, mut watcher) = (open(), open(), open());
        (0..5).for_each(|i| drop(holder.certainly(&create(&format!("/mine/{i}"), b"", EPHEMERAL))));
        let lock = path_of(&holder.certainly(&create("/lock/n-", b"", EPHEMERAL_SEQUENTIAL)));
        waiter.certainly(&create("/lock/n-", b"", EPHEMERAL_SEQUENTIAL));
        waiter.certainly(&sync("/lock"));
        waiter.watch_data(&lock);
        watcher.certainly(&sync("/watched"));
        watcher.watch_data("/watched/data");
        watcher.watch_children("/watched");
        Living { holder: holder.hold(), waiter: waiter.hold(), watcher: watcher.hold() }
    }

    /// What was waited for happens now, once, and the holder's nodes go with it.
    fn end(self, members: &Mixed) {
        let (holder, mut waiter, mut watcher) = (self.holder.back(), self.waiter.back(), self.watcher.back());
        let mut other = Client::open(members.ports[0]);
        assert_eq!((&waiter.events, &watcher.events), (&vec![], &vec![]), "nothing has happened yet");
        for _ in 0..2 {
            other.ok(&set_data("/watched/data", b"new", -1));
            other.ok(&create("/watched/child-", b"", SEQUENTIAL));
            watcher.certainly(&sync("/watched"));
        }
        assert_eq!(watcher.events, [(NODE_DATA_CHANGED, "/watched/data".to_owned()), (NODE_CHILDREN_CHANGED, "/watched".to_owned())]);
        assert_eq!(owned(&mut other, holder.id.0), ["/lock/n-0000000000", "/mine/0", "/mine/1", "/mine/2", "/mine/3", "/mine/4"]);
        holder.close();
        waiter.certainly(&sync("/lock"));
        assert_eq!(waiter.events, [(NODE_DELETED, "/lock/n-0000000000".to_owned())]);
        waiter.close();
        watcher.close();
        for port in members.ports {
            let mut client = Client::open(port);
            client.ok(&sync("/"));
            assert_eq!((client.children("/mine"), client.children("/lock")), (vec![], vec![]));
        }
    }
}

/// The ephemeral nodes of a session, as one member shows them.
fn owned(client: &mut Client, session: i64) -> Vec<String> {
    client.ok(&sync("/"));
    let nodes = ["/lock", "/mine"].map(|top| seen::below(client, top)).into_iter().flatten();
    nodes.filter(|(_, node)| node.stat.ephemeral_owner == session).map(|(path, _)| path).collect()
}

fn kept(port: u16) -> BTreeMap<String, Seen> {
    let mut client = Client::open(port);
    client.ok(&auth("digest", b"u:p"));
    client.ok(&sync("/kept"));
    seen::below(&mut client, "/kept")
}

/// Ephemerals are there on every member, and what does not change has not changed.
fn nothing_is_missing(members: &Mixed, before: &BTreeMap<String, Seen>, story: &str) {
    for (i, port) in members.ports.iter().enumerate() {
        let mut client = Client::open(*port);
        client.ok(&sync("/"));
        assert_eq!(client.children("/mine").len(), 5, "{story}: ephemerals on member {}", i + 1);
        assert_eq!(client.children("/lock").len(), 2, "{story}: locks on member {}", i + 1);
        seen::assert_same(before, &kept(*port), &format!("{story}: member {}", i + 1));
    }
    members.no_other_tree();
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer mixed"]
fn a_java_ensemble_becomes_ours_and_goes_back_server_by_server() {
    let began = Instant::now();
    let mut members = Mixed::prepare([Java, Java, Java]);
    (1..=3).for_each(|id| members.run(id));
    let first = members.settled(&[1, 2, 3]);
    fill(&mut Client::open(members.ports[first - 1]));
    let before = kept(members.ports[0]);
    let living = Living::begin(&members);
    let writers = Writers::start(&members);
    writers.go_on(&members);
    println!("{:5.1?}: {first} (Java) leads, clients are at work", began.elapsed());
    for kind in [Zoo, Java] {
        // Followers first and the leader last on the way there, as one does; the leader first on the way back.
        let leader = members.settled(&[1, 2, 3]);
        let mut order: Vec<usize> = (1..=3).filter(|id| *id != leader).collect();
        order.insert(if kind == Zoo { 2 } else { 0 }, leader);
        for id in order {
            members.replace(id, kind);
            writers.go_on(&members);
            let leader = members.settled(&[1, 2, 3]);
            println!("{:5.1?}: member {id} is {kind:?}, {leader} ({:?}) leads", began.elapsed(), members.kinds[leader - 1]);
            nothing_is_missing(&members, &before, &format!("member {id} is {kind:?}"));
        }
    }
    living.end(&members);
    println!("{:5.1?}: all {} acknowledged writes are everywhere", began.elapsed(), writers.finish(&members));
    members.all_agree();
    members.no_other_tree();
}

//! Balancing strategies where members are mixed: nobody closes anything by himself, an order is carried out, and Java servers take no notice.

use crate::members::{Mixed, POLL, SETTLE_MAX};
use crate::reference::client::Client;
use crate::reference::process::Kind::{self, Java, Zoo};
use crate::reference::request::{auth, create_as, delete, exists};
use crate::reference::words;
use crate::session::{Held, Session};
use std::time::{Duration, Instant};

/// Sessions at one server.
const SESSIONS: usize = 30;
/// Longer than it takes servers that are all ours to publish their numbers, or to find that they are not.
const NOTHING_FOR: Duration = Duration::from_secs(13);
const CREATE: i32 = 1;
const READ: i32 = 1;

fn connections(members: &Mixed, id: usize) -> usize {
    let srvr = words::ask(members.ports[id - 1], "srvr").unwrap();
    let count = srvr.lines().find_map(|line| line.strip_prefix("Connections: ")).unwrap();
    count.parse::<usize>().unwrap() - 1
}

fn say(root: &mut Client, path: &str, json: &[u8]) {
    root.ok(&create_as(CREATE, path, json, &[(READ, "world", "anyone")], 0));
}

/// All sessions are at member 2, which is ours; member 3 leads.
fn only_orders_are_carried_out(kinds: [Kind; 3]) {
    let mut members = Mixed::prepare(kinds).set("DigestAuthenticationProvider.superDigest", "super:D/InIHSb7yEEbrWz8b9l71RjZJU=");
    members.run_all();
    members.settled(&[1, 2, 3]);
    let ports = [members.ports[1], members.ports[0], members.ports[2]];
    let sessions: Vec<Session> = (0..SESSIONS).map(|_| Session::open(&ports)).collect();
    let ids: Vec<_> = sessions.iter().map(|session| session.id).collect();
    let held: Vec<Held> = sessions.into_iter().map(Session::hold).collect();
    let mut root = Client::open(members.ports[0]);
    root.ok(&auth("digest", b"super:test"));
    say(&mut root, "/zookeeper/balance", b"");
    say(&mut root, "/zookeeper/balance/servers", br#"{"strategy":"even","idle":0}"#);
    let until = Instant::now() + NOTHING_FOR;
    while Instant::now() < until {
        assert_ne!(root.err(&exists("/zookeeper/balance/counts", false)), 0, "not all tell their numbers");
        assert_eq!(connections(&members, 2), SESSIONS, "nobody knows what its share is");
        std::thread::sleep(POLL);
    }
    say(&mut root, "/zookeeper/balance/shed", br#"{"server":2,"connections":20,"idle":0}"#);
    let began = Instant::now();
    while connections(&members, 2) > SESSIONS - 20 {
        assert!(began.elapsed() < SETTLE_MAX, "{} are left", connections(&members, 2));
        std::thread::sleep(POLL);
    }
    let sessions: Vec<Session> = held.into_iter().map(Held::back).collect();
    assert!(sessions.iter().map(|session| session.id).eq(ids), "no session is lost");
    sessions.into_iter().for_each(Session::close);
    ["shed", "servers"].iter().for_each(|name| drop(root.ok(&delete(&format!("/zookeeper/balance/{name}"), -1))));
    root.ok(&delete("/zookeeper/balance", -1));
    members.all_agree();
    members.no_other_tree();
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer mixed"]
fn ours_follow_a_java_leader_and_give_connections_up_when_told() {
    only_orders_are_carried_out([Zoo, Zoo, Java]);
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer mixed"]
fn one_of_ours_leads_a_java_server_and_publishes_nothing() {
    only_orders_are_carried_out([Java, Zoo, Zoo]);
}

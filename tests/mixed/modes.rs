//! How members serve their clients: local sessions, leaders that take no clients, reads without a quorum. Java's ensembles pass the same tests.

use crate::members::{Mixed, POLL, SETTLE_MAX};
use crate::reference::client::Client;
use crate::reference::process::Kind::{self, Java, Zoo};
use crate::reference::request::{self, check, close_session, create, get_data, multi, set_data, sync};
use crate::reference::words;
use std::time::Instant;
use zoo::base::SessionId;
use zoo::proto::connect::ConnectRequest;

const EPHEMERAL: i32 = 1;

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < SETTLE_MAX, "not in time: {what}");
        std::thread::sleep(POLL);
    }
}

fn counts(port: u16) -> (Option<f64>, Option<f64>) {
    (words::monitored(port, "zk_global_sessions"), words::monitored(port, "zk_local_sessions"))
}

fn local_sessions(kinds: [Kind; 3], upgrading: bool) -> Mixed {
    let setting = if upgrading { "true" } else { "false" };
    let mut mixed = Mixed::prepare(kinds).set("localSessionsEnabled", "true").set("localSessionsUpgradingEnabled", setting);
    mixed.run_all();
    mixed.settled(&[1, 2, 3]);
    mixed
}

/// Everything but ephemerals, at every member.
fn stays_local(kinds: [Kind; 3]) {
    let mut mixed = local_sessions(kinds, false);
    let leader = mixed.settled(&[1, 2, 3]);
    for id in 1..=3 {
        let (port, elsewhere) = (mixed.ports[id - 1], mixed.ports[id % 3]);
        let context = format!("member {id} of {kinds:?} led by {leader}");
        let mut client = Client::open(port);
        assert_eq!(counts(port), (Some(0.0), Some(1.0)), "{context}");
        let dump = words::ask(port, "dump").unwrap();
        let rest = if id == leader { "Global Session Sets (0)/(0):" } else { "Global Sessions(0):" };
        assert!(
            dump.starts_with("SessionTracker dump:\nLocal Session Sets (1)/(1):\n1 expire at ") && dump.contains(rest),
            "{context}: {dump}"
        );
        client.ok(&create(&format!("/of{id}"), b"", 0));
        client.ok(&set_data(&format!("/of{id}"), b"data", 0));
        client.ok(&sync("/"));
        assert_eq!(client.err(&create("/e", b"", EPHEMERAL)), -120, "{context}");
        let parts = [create(&format!("/m{id}"), b"", 0), create("/e", b"", EPHEMERAL)];
        let body = client.ok(&multi(&parts)).body;
        // Two results: the first was taken back, the second failed.
        let second = i32::from_be_bytes(body[9 + 4 + 9..][..4].try_into().unwrap());
        let expected = if id == leader && kinds[id - 1] == Java { -120 } else { -112 };
        assert_eq!(second, expected, "{context}: {body:?}");
        let moved = Client::attach(elsewhere, client.session.session, &client.session.password);
        assert_eq!(moved.session.timeout_ms, 0, "{context}: it is nobody else's");
        let mut again = Client::attach(port, client.session.session, &client.session.password);
        assert_eq!(again.session.session, client.session.session, "{context}");
        again.ok(&get_data(&format!("/of{id}"), false));
        assert_eq!(again.err(&close_session()), 0);
        assert_eq!(counts(port), (Some(0.0), Some(0.0)), "{context}");
    }
    mixed.all_agree();
}

fn is_upgraded(kinds: [Kind; 3]) {
    let mixed = local_sessions(kinds, true);
    for id in 1..=3 {
        let (port, elsewhere) = (mixed.ports[id - 1], mixed.ports[id % 3]);
        let context = format!("member {id} of {kinds:?}");
        for several in [false, true] {
            let path = format!("/e{id}{several}");
            let mut client = Client::open(port);
            if several {
                client.ok(&multi(&[create(&path, b"", EPHEMERAL)]));
            } else {
                client.ok(&create(&path, b"", EPHEMERAL));
            }
            assert_eq!(counts(port), (Some(1.0), Some(0.0)), "{context}");
            let mut visitor = Client::open(elsewhere);
            visitor.ok(&sync("/"));
            visitor.ok(&get_data(&path, false));
            visitor.ok(&close_session());
            let mut moved = Client::attach(elsewhere, client.session.session, &client.session.password);
            assert_eq!(moved.session.session, client.session.session, "{context}");
            let write = set_data(&path, b"moved", -1);
            if moved.try_call(&write).is_none() {
                // A Java leader answers its client before it has made itself the owner of the session; a write may be faster.
                assert_eq!(kinds[id % 3], Java, "{context}: it has the session");
                moved = Client::attach(elsewhere, client.session.session, &client.session.password);
                moved.ok(&write);
            }
            // A Java leader has been seen to serve the old connection still (its source allows it a late change of the owner): ours are asked only.
            if kinds[id - 1] == Zoo {
                assert_eq!(client.try_call(&set_data(&path, b"", -1)), None, "{context}: the old connection is fenced");
            }
            let modes: Vec<_> = (1..=3).map(|id| mixed.mode(id)).collect();
            let ended = moved.try_call(&close_session()).map(|reply| reply.err);
            assert_eq!(ended, Some(0), "{context}: the end of the session, several: {several}, {modes:?}");
            let mut reader = Client::open(port);
            reader.ok(&sync("/"));
            assert_eq!(reader.err(&get_data(&path, false)), -101, "{context}: it ended with its session");
            assert_eq!(reader.err(&close_session()), 0);
        }
    }
    mixed.all_agree();
}

#[test]
#[ignore = "needs the reference server"]
fn local_sessions_are_served_by_every_member_and_refused_ephemerals() {
    stays_local([Java, Java, Java]);
    stays_local([Zoo, Java, Zoo]);
    stays_local([Zoo, Zoo, Java]);
}

#[test]
#[ignore = "needs the reference server"]
fn local_sessions_become_the_ensembles_for_an_ephemeral() {
    is_upgraded([Java, Java, Java]);
    is_upgraded([Zoo, Java, Zoo]);
    is_upgraded([Zoo, Zoo, Java]);
}

fn leads_without_clients(kinds: [Kind; 3]) {
    let mut mixed = Mixed::prepare(kinds).set("leaderServes", "no");
    mixed.run_all();
    let followers = |mixed: &Mixed, ids: &[usize]| -> Vec<usize> {
        ids.iter().copied().filter(|id| mixed.mode(*id).as_deref() == Some("follower")).collect()
    };
    wait_until("two follow", || followers(&mixed, &[1, 2, 3]).len() == 2);
    let following = followers(&mixed, &[1, 2, 3]);
    let leader = (1..=3).find(|id| !following.contains(id)).unwrap();
    let port = mixed.ports[leader - 1];
    for word in ["srvr", "stat", "mntr", "cons", "conf", "dump"] {
        let answer = words::ask(port, word).unwrap();
        assert_eq!(answer, "This ZooKeeper instance is not currently serving requests\n", "{word} of {kinds:?}");
    }
    assert_eq!(words::ask(port, "isro").unwrap(), "null");
    assert!(Client::try_connect(port, &ConnectRequest::new_session(20_000)).is_err(), "closed without a word");
    mixed.write_everywhere(&following, "written");
    mixed.kill(leader);
    let rest = following.clone();
    wait_until("one follows the other", || followers(&mixed, &rest).len() == 1);
    mixed.run(leader);
    wait_until("the one that led follows", || followers(&mixed, &[leader]).len() == 1);
    mixed.write_everywhere(&[leader], "again");
}

#[test]
#[ignore = "needs the reference server"]
fn a_leader_that_is_to_take_no_clients_takes_none_until_it_follows() {
    leads_without_clients([Java, Java, Java]);
    leads_without_clients([Zoo, Java, Zoo]);
}

/// What member 1 does when it is left alone.
fn reads_alone(kinds: [Kind; 3]) {
    // Java serves no new reader without local sessions.
    let mut mixed = Mixed::prepare(kinds).set("readonlymode.enabled", "true").set("localSessionsEnabled", "true");
    mixed.run_all();
    mixed.settled(&[1, 2, 3]);
    let port = mixed.ports[0];
    assert_eq!(words::ask(port, "isro").unwrap(), "rw");
    let mut writer = Client::open(port);
    writer.ok(&create("/a", b"kept", 0));
    mixed.kill(2);
    mixed.kill(3);
    assert!(writer.is_closed());
    wait_until("it serves readers", || words::ask(port, "isro").is_ok_and(|answer| answer == "ro"));
    let srvr = words::ask(port, "srvr").unwrap();
    assert_eq!(srvr.lines().nth(1), Some("READ-ONLY mode; serving only read-only clients"), "{kinds:?}");
    assert!(srvr.contains("Mode: read-only\n"));
    assert_eq!(words::ask(port, "stat").unwrap().lines().nth(1), Some("READ-ONLY mode; serving only read-only clients"));
    let mntr = words::ask(port, "mntr").unwrap();
    assert!(mntr.contains("zk_server_state\tread-only\n") && !mntr.contains("zk_peer_state"), "{mntr}");
    let conf = words::ask(port, "conf").unwrap();
    assert!(conf.ends_with("peerType=0\n"), "{conf}");
    let request = ConnectRequest::new_session(20_000);
    assert!(Client::try_connect(port, &request).is_err(), "closed without a word");
    let request = ConnectRequest { read_only: true, ..request };
    let mut reader = Client::try_connect(port, &request).unwrap();
    assert_ne!(reader.session.session, SessionId::NONE);
    assert_eq!(reader.session.read_only, Some(true));
    let dump = words::ask(port, "dump").unwrap();
    assert!(dump.starts_with("SessionTracker dump:\nLocal Session Sets (1)/(1):\n") && dump.contains("Global Sessions(0):"), "{dump}");
    assert_eq!(reader.data("/a").0.as_deref(), Some(&b"kept"[..]));
    let refused = [
        create("/b", b"", 0),
        create("/b", b"", EPHEMERAL),
        request::create2("/b", b"", 0),
        request::create_container("/b"),
        request::create_ttl("/b", b"", 5, 1000),
        request::delete("/a", -1),
        set_data("/a", b"no", -1),
        request::set_acl("/a", &[], -1),
        multi(&[check("/a", 0)]),
        request::reconfig(None, None, None, -1),
        sync("/"),
        request::raw(5, b"malformed"),
    ];
    let zxid = reader.ok(&get_data("/a", false)).zxid;
    for request in &refused {
        let reply = reader.call(request);
        assert_eq!((reply.err, reply.zxid), (-119, zxid), "{} of {kinds:?}", request.describe());
    }
    reader.ok(&request::exists("/a", true));
    reader.ok(&request::get_children("/", true));
    reader.ok(&request::get_ephemerals(None));
    reader.ok(&request::who_am_i());
    let mut other = Client::try_connect(port, &request).unwrap();
    other.ok(&close_session());
    assert!(other.is_closed());
    mixed.run(2);
    mixed.run(3);
    assert!(reader.is_closed());
    mixed.settled(&[1, 2, 3]);
    let mut back = Client::try_connect(port, &request).unwrap();
    assert_eq!(back.session.read_only, Some(false));
    back.ok(&set_data("/a", b"new", -1));
}

#[test]
#[ignore = "needs the reference server"]
fn a_member_without_a_quorum_serves_those_that_only_read() {
    reads_alone([Java, Java, Java]);
    reads_alone([Zoo, Java, Java]);
}

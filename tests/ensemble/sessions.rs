//! Sessions that only their server knows, and leaders that take no clients.

use super::cluster::{Client, Cluster};
use super::driver::{self, Frame, Setup, TICK_MS, TIMEOUT_MS, again, data_of, new_session};
use super::{errors, get, put_multi, zxid_of};
use zoo::base::{SessionId, Writer as _, Zxid};
use zoo::proto::OpCode;
use zoo::replica::ClientModes;
use zoo::zab::ServerState;

const LOCAL: ClientModes = ClientModes { local_sessions: true, upgrades: false, leader_serves: true, read_only_after_ms: None };
const UPGRADING: ClientModes = ClientModes { upgrades: true, ..LOCAL };

fn with(modes: ClientModes) -> Setup {
    let mut setup = Setup::default();
    setup.replica.modes = modes;
    setup
}

/// Three voters and an observer.
fn four(modes: ClientModes) -> Cluster {
    Cluster::started(with(modes), 3, 1)
}

/// (of the ensemble, local) at a server.
fn counts(c: &mut Cluster, n: usize) -> (usize, usize) {
    let now = c.now;
    let report = c.world(n).replica.report(now);
    assert_eq!(report.local_sessions.as_ref().map_or(0, Vec::len), report.local_session_count);
    (report.sessions.len(), report.local_session_count)
}

fn expired(c: &mut Cluster, n: usize) -> u64 {
    let counters = c.world(n).replica.summary().counters;
    counters.iter().find(|(name, _)| *name == "stale_sessions_expired").map_or(0, |(_, count)| *count)
}

fn applied(c: &mut Cluster, n: usize) -> Zxid {
    c.state(n).0
}

fn pings(c: &mut Cluster, clients: &[Client]) {
    for client in clients {
        c.world(client.node).request_as(client.index, -2, OpCode::Ping as i32, |_| ());
    }
}

fn ephemeral_multi(b: &mut Vec<u8>, path: &str) {
    b.put_i32(OpCode::Create as i32);
    b.put_bool(false);
    b.put_i32(-1);
    driver::put_create(b, path, "", 1);
    b.put_i32(-1);
    b.put_bool(true);
    b.put_i32(-1);
}

#[test]
fn a_local_session_costs_no_transaction_and_does_all_that_needs_no_ephemeral() {
    let mut c = four(LOCAL);
    let before = applied(&mut c, 0);
    let clients: Vec<Client> = (0..4).map(|n| c.connect(n)).collect();
    for (n, client) in clients.iter().enumerate() {
        assert_eq!(client.session.session.0 >> 56, n as i64 + 1, "its number tells whose it is");
        assert_eq!(counts(&mut c, n), (0, 1));
    }
    assert_eq!(applied(&mut c, 0), before, "nobody else has heard of them");
    for client in &clients {
        let n = client.node;
        let path = format!("/of{n}");
        c.ok(client, |w, i| w.create(i, &path, "0", 0));
        c.ok(client, |w, i| w.get(i, &path, true));
        let frames = c.ask(client, |w, i| w.set(i, &path, "1"));
        assert!(matches!(frames.as_slice(), [Frame::Event { kind: 3, .. }, Frame::Reply { err: 0, .. }]), "{frames:?}");
        c.ok(client, |w, i| w.request(i, OpCode::Multi, |b| put_multi(b, &format!("{path}m"), true)));
        c.ok(client, |w, i| w.request(i, OpCode::Sync, |b| b.put_string("/")));
        c.ok(client, |w, i| w.request(i, OpCode::GetEphemerals, |b| b.put_string("/")));
        assert_eq!(errors(&c.ask(client, |w, i| w.request(i, OpCode::Multi, |b| b.put_i32(1)))), [-5], "in its place in history");
        // Pipelined writes and reads keep their order.
        (0..10).for_each(|k| {
            c.world(n).set(client.index, &path, &k.to_string());
            c.world(n).get(client.index, &path, false);
        });
        c.settle();
        let frames = c.world(n).take(client.index);
        let seen: Vec<String> = frames.iter().skip(1).step_by(2).map(data_of).collect();
        assert_eq!(seen, (0..10).map(|k| k.to_string()).collect::<Vec<_>>());
    }
    c.assert_same();
}

#[test]
fn a_local_session_ends_without_a_transaction_behind_what_it_asked_before() {
    let mut c = four(LOCAL);
    for n in 0..4 {
        let client = c.connect(n);
        c.ok(&client, |w, i| w.create(i, &format!("/first{n}"), "", 0));
        let before = applied(&mut c, n);
        let world = c.world(n);
        world.create(client.index, &format!("/last{n}"), "", 0);
        world.request(client.index, OpCode::Sync, |b| b.put_string("/"));
        world.request(client.index, OpCode::GetEphemerals, |b| b.put_string("/"));
        world.request(client.index, OpCode::CloseSession, |_| ());
        c.settle();
        let frames = c.world(n).take(client.index);
        assert_eq!(errors(&frames), [0, 0, 0, 0], "{frames:?}");
        assert!(c.is_closed(&client));
        assert_eq!(counts(&mut c, n), (0, 0));
        assert_eq!(zxid_of(&frames[3]), applied(&mut c, n));
        assert_eq!(applied(&mut c, n).0, before.0 + 1, "the create alone");
        let (_, answer) = c.try_connect(n, 0, &again(&client.session));
        assert_eq!(answer.map(|a| a.session), Some(SessionId::NONE), "it is over");
    }
    c.assert_same();
}

#[test]
fn an_ephemeral_of_a_local_session_is_refused_where_it_cannot_become_the_ensembles() {
    let mut c = four(LOCAL);
    for n in 0..4 {
        let client = c.connect(n);
        for op in [OpCode::Create, OpCode::Create2] {
            for flags in [1, 3] {
                let frames = c.ask(&client, |w, i| w.request(i, op, |b| driver::put_create(b, "/e", "", flags)));
                assert_eq!(errors(&frames), [-120], "{op:?} {flags} at {n}");
            }
        }
        let frames = c.ask(&client, |w, i| w.request(i, OpCode::Multi, |b| ephemeral_multi(b, "/e")));
        let [Frame::Reply { err: 0, body, .. }] = frames.as_slice() else { panic!("{frames:?}") };
        assert_eq!(body[9..13], (-112i32).to_be_bytes(), "the part says that there is no such session");
        c.ok(&client, |w, i| w.create(i, &format!("/p{n}"), "", 0));
        assert_eq!(counts(&mut c, n), (0, 1), "it goes on");
    }
    c.assert_same();
}

#[test]
fn a_local_session_becomes_the_ensembles_when_it_creates_an_ephemeral() {
    let mut c = four(UPGRADING);
    for n in 0..4 {
        for (k, multi) in [(0, false), (1, true)] {
            let client = c.connect(n);
            let path = format!("/e{n}{k}");
            let made = |b: &mut Vec<u8>| if multi { ephemeral_multi(b, &path) } else { driver::put_create(b, &path, "", 1) };
            let op = if multi { OpCode::Multi } else { OpCode::Create };
            // What is sent behind it is answered behind it; a number of 0 is a request's as good as any.
            let world = c.world(n);
            world.request_as(client.index, 0, op as i32, made);
            world.get(client.index, &path, false);
            c.settle();
            assert_eq!(errors(&c.world(n).take(client.index)), [0, 0], "at {n}");
            assert_eq!(counts(&mut c, n).1, 0, "it is local no more");
            // So it moves, and its ephemeral with it.
            let elsewhere = (n + 1) % 4;
            let moved = c.connect_again(elsewhere, &client.session);
            assert_eq!(c.ask(&client, |w, i| w.set(i, &path, "")), [], "the old connection is fenced");
            c.ok(&moved, |w, i| w.set(i, &path, "moved"));
            assert_eq!(errors(&c.ask(&moved, |w, i| w.request(i, OpCode::CloseSession, |_| ()))), [0]);
            let reader = c.connect(n);
            assert_eq!(errors(&c.ask(&reader, |w, i| w.get(i, &path, false))), [-101], "it ended with its session");
            c.ok(&reader, |w, i| w.request(i, OpCode::CloseSession, |_| ()));
        }
    }
    c.assert_same();
}

#[test]
fn a_session_that_was_local_is_expired_by_the_leader_and_a_local_one_by_its_server_p13() {
    let mut c = four(UPGRADING);
    let leader = c.leader().expect("one");
    let silent: Vec<Client> = (0..4).map(|n| c.connect(n)).collect();
    let alive: Vec<Client> = (0..4).map(|n| c.connect(n)).collect();
    let owners: Vec<Client> = (0..4).map(|n| c.connect(n)).collect();
    for client in &owners {
        c.ok(client, |w, i| w.create(i, &format!("/of{}", client.node), "", 1));
    }
    for _ in 0..10 {
        c.pass(TIMEOUT_MS as u64 / 3);
        pings(&mut c, &alive);
    }
    for n in 0..4 {
        assert!(c.is_closed(&silent[n]) && c.is_closed(&owners[n]), "they said nothing");
        assert!(!c.is_closed(&alive[n]), "it pings");
        assert_eq!(expired(&mut c, n), if n == leader { 5 } else { 1 }, "at {n}, the leader is {leader}");
        assert_eq!(counts(&mut c, n), (0, 1));
        c.settle();
        c.world(n).take(alive[n].index);
        assert_eq!(errors(&c.ask(&alive[n], |w, i| w.get(i, &format!("/of{n}"), false))), [-101]);
    }
    c.assert_same();
}

#[test]
fn a_local_session_goes_on_at_its_server_and_nowhere_else() {
    let mut c = four(LOCAL);
    for n in 0..4 {
        let old = c.connect(n);
        let (_, answer) = c.try_connect((n + 1) % 4, 0, &again(&old.session));
        assert_eq!(answer.map(|a| (a.session, a.timeout_ms)), Some((SessionId::NONE, 0)), "expired, as far as that one knows");
        let mut wrong = again(&old.session);
        wrong.password[3] ^= 1;
        let (_, answer) = c.try_connect(n, 0, &wrong);
        assert_eq!(answer.map(|a| a.session), Some(SessionId::NONE));
        assert!(!c.is_closed(&old), "a wrong password harms nobody (S6)");
        let new = c.connect_again(n, &old.session);
        assert_eq!(new.session.session, old.session.session);
        assert!(c.is_closed(&old), "the newest connection has it (A16)");
        c.ok(&new, |w, i| w.create(i, &format!("/{n}"), "", 0));
        c.world(n).hang_up(new.index);
        c.settle();
        let back = c.connect_again(n, &old.session);
        assert_eq!(get(&mut c, &back, &format!("/{n}")), "");
        assert_eq!(counts(&mut c, n), (0, 1));
    }
}

#[test]
fn local_sessions_end_with_the_role_they_were_made_in() {
    let mut c = four(LOCAL);
    let leader = c.leader().expect("one");
    let survivor = c.followers()[0];
    let client = c.connect(survivor);
    c.kill(leader);
    c.until("another leader", |c| c.leader().is_some_and(|n| n != leader) && c.followers().len() == 2);
    assert!(c.is_closed(&client));
    assert_eq!(counts(&mut c, survivor), (0, 0));
    let (_, answer) = c.try_connect(survivor, 0, &again(&client.session));
    assert_eq!(answer.map(|a| a.session), Some(SessionId::NONE));
}

#[test]
fn a_leader_without_local_sessions_refuses_the_writes_of_those_of_others_and_is_not_harmed() {
    let mut c = Cluster::new(with(ClientModes::default()), 3, 0);
    c.start_with(0, with(UPGRADING));
    (1..3).for_each(|n| c.start(n));
    c.until_all_serve();
    assert_eq!(c.leader(), Some(2));
    let client = c.connect(0);
    assert_eq!(errors(&c.ask(&client, |w, i| w.create(i, "/a", "", 0))), [-112], "the leader knows no such session");
    c.ok(&client, |w, i| w.create(i, "/e", "", 1));
    c.ok(&client, |w, i| w.create(i, "/a", "", 0));
    c.assert_same();
}

#[test]
fn a_leader_that_is_to_take_no_clients_turns_them_away_while_it_leads() {
    let mut c = four(ClientModes { leader_serves: false, ..ClientModes::default() });
    let leader = c.leader().expect("one");
    let (_, answer) = c.try_connect(leader, 0, &new_session());
    assert_eq!(answer, None, "closed without a word");
    assert!(!c.report(leader).takes_clients && c.report(leader).is_serving);
    let follower = c.followers()[0];
    let client = c.connect(follower);
    c.ok(&client, |w, i| w.create(i, "/a", "", 1));
    let (_, answer) = c.try_connect(leader, 0, &again(&client.session));
    assert_eq!(answer, None, "nor for a session it knows");
    // Another one leads, and this one takes clients when it follows.
    c.kill(leader);
    c.until("another leader", |c| c.leader().is_some_and(|n| n != leader));
    c.start(leader);
    c.until_all_serve();
    assert_ne!(c.leader(), Some(leader));
    let back = c.connect_again(leader, &client.session);
    assert_eq!(get(&mut c, &back, "/a"), "");
    assert!(c.report(leader).takes_clients);
    let next = c.leader().expect("one");
    assert_eq!(c.report(next).state, ServerState::Leading);
    let (_, answer) = c.try_connect(next, 0, &new_session());
    assert_eq!(answer, None);
    c.pass(TICK_MS);
    c.assert_same();
}

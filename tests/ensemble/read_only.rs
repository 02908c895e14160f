//! Members that have no quorum, and clients that only read.

use super::cluster::{Client, Cluster};
use super::driver::{self, Frame, Setup, TICK_MS, TIMEOUT_MS, again, data_of, new_session};
use super::{errors, get, zxid_of};
use zoo::base::{SessionId, Writer as _};
use zoo::proto::OpCode;
use zoo::proto::connect::ConnectRequest;
use zoo::replica::ClientModes;

const AFTER_MS: u64 = TICK_MS;

fn three() -> Cluster {
    Cluster::started(setup(ClientModes::default()), 3, 0)
}

fn setup(modes: ClientModes) -> Setup {
    let mut setup = Setup::default();
    setup.replica.modes = ClientModes { read_only_after_ms: Some(AFTER_MS), ..modes };
    setup
}

fn reader() -> ConnectRequest {
    ConnectRequest { read_only: true, ..new_session() }
}

fn try_reader(c: &mut Cluster, node: usize) -> Option<Client> {
    let (index, answer) = c.try_connect(node, 0, &reader());
    answer.map(|session| Client { node, index, session })
}

/// All but one server go away; that one serves reads.
fn left_alone() -> (Cluster, usize) {
    let mut c = three();
    let alone = c.followers()[0];
    let writer = c.connect(alone);
    c.ok(&writer, |w, i| w.create(i, "/a", "kept", 0));
    c.up().into_iter().filter(|n| *n != alone).for_each(|n| c.kill(n));
    c.until("it is alone and serves reads", |c| c.report(alone).is_read_only);
    assert!(c.is_closed(&writer));
    (c, alone)
}

fn others(c: &Cluster, of: usize) -> Vec<usize> {
    (0..c.nodes.len()).filter(|n| *n != of).collect()
}

#[test]
fn a_server_serves_reads_only_after_it_has_looked_for_a_leader_for_long_enough() {
    let mut c = three();
    let alone = c.followers()[0];
    others(&c, alone).into_iter().for_each(|n| c.kill(n));
    c.until("it looks", |c| !c.report(alone).is_serving);
    let began = c.now;
    assert!(try_reader(&mut c, alone).is_none(), "not yet");
    c.until("it serves reads", |c| c.report(alone).is_read_only);
    let took = c.now.since_ms(began);
    assert!((AFTER_MS - 100..=AFTER_MS + 100).contains(&took), "{took}");
    assert_eq!(c.report(alone).mode(), "read-only");
    assert!(!c.report(alone).is_serving && !c.report(alone).takes_clients);
}

#[test]
fn who_has_not_said_that_it_only_reads_is_turned_away() {
    let (mut c, alone) = left_alone();
    for request in [new_session(), ConnectRequest { has_read_only: false, ..new_session() }] {
        let (_, answer) = c.try_connect(alone, 0, &request);
        assert_eq!(answer, None, "closed without a word");
    }
    let client = try_reader(&mut c, alone).expect("a session");
    assert_eq!(client.session.read_only, Some(true), "it is told what it has got");
    assert_eq!(client.session.session.0 >> 56, alone as i64 + 1);
}

#[test]
fn reads_and_watches_work_and_what_needs_a_quorum_is_refused_in_its_turn() {
    let (mut c, alone) = left_alone();
    let client = try_reader(&mut c, alone).expect("a session");
    assert_eq!(get(&mut c, &client, "/a"), "kept");
    let world = c.world(alone);
    let me = client.index;
    world.get(me, "/a", true);
    world.set(me, "/a", "no");
    world.create(me, "/b", "", 0);
    world.request(me, OpCode::Create2, |b| driver::put_create(b, "/b", "", 1));
    world.delete(me, "/a");
    world.request(me, OpCode::Multi, |b| b.put_i32(1));
    world.request(me, OpCode::SetAcl, |_| ());
    world.request(me, OpCode::Reconfig, |_| ());
    world.request(me, OpCode::Sync, |b| b.put_string("/"));
    world.read(me, OpCode::Exists, "/b", true);
    world.request(me, OpCode::GetEphemerals, |b| b.put_string("/"));
    world.get(me, "/a", false);
    c.settle();
    let frames = c.world(alone).take(me);
    assert_eq!(errors(&frames), [0, -119, -119, -119, -119, -119, -119, -119, -119, -101, 0, 0]);
    let applied = c.state(alone).0;
    assert!(frames.iter().all(|f| zxid_of(f) == applied), "{frames:?}");
    assert_eq!(data_of(&frames[11]), "kept");
    assert_eq!(errors(&c.ask(&client, |w, i| w.request(i, OpCode::CloseSession, |_| ()))), [0]);
    assert!(c.is_closed(&client));
    assert_eq!(c.state(alone).0, applied, "nothing has changed");
}

#[test]
fn sessions_of_readers_live_while_they_are_heard_from_and_go_on_at_their_server() {
    let (mut c, alone) = left_alone();
    let silent = try_reader(&mut c, alone).expect("a session");
    let mut client = try_reader(&mut c, alone).expect("a session");
    for round in 0..6 {
        c.pass(TIMEOUT_MS as u64 / 3);
        c.world(alone).request_as(client.index, -2, OpCode::Ping as i32, |_| ());
        c.settle();
        c.world(alone).take(client.index);
        if round % 2 == 0 {
            let request = ConnectRequest { read_only: true, ..again(&client.session) };
            let (index, answer) = c.try_connect(alone, 0, &request);
            assert_eq!(answer.as_ref(), Some(&client.session), "the same, and read-only");
            client.index = index;
        }
    }
    assert!(c.is_closed(&silent) && !c.is_closed(&client));
    assert_eq!(c.world(alone).replica.summary().local_session_count, 1);
    let (_, answer) = c.try_connect(alone, 0, &ConnectRequest { read_only: true, ..again(&silent.session) });
    assert_eq!(answer, None, "it may live where there is a quorum, so it is not called expired");
}

#[test]
fn a_session_of_the_ensemble_is_sent_away_unharmed_and_goes_on_when_there_is_a_quorum() {
    let mut c = three();
    let alone = c.followers()[0];
    let owner = c.connect(alone);
    c.ok(&owner, |w, i| w.create(i, "/e", "mine", 1));
    let rest = others(&c, alone);
    rest.iter().for_each(|n| c.kill(*n));
    c.until("it serves reads", |c| c.report(alone).is_read_only);
    let request = ConnectRequest { read_only: true, ..again(&owner.session) };
    let (_, answer) = c.try_connect(alone, 0, &request);
    assert_eq!(answer, None, "closed without a word, not expired");
    let mut wrong = request.clone();
    wrong.password[0] ^= 1;
    let (_, answer) = c.try_connect(alone, 0, &wrong);
    assert_eq!(answer.map(|a| a.session), Some(SessionId::NONE));
    // As a new client it may read meanwhile.
    let visitor = try_reader(&mut c, alone).expect("a session");
    assert_eq!(get(&mut c, &visitor, "/e"), "mine");
    rest.iter().for_each(|n| c.start(*n));
    c.until_all_serve();
    let (index, answer) = c.try_connect(alone, 0, &request);
    let back = Client { node: alone, index, session: answer.expect("the session goes on") };
    assert_eq!(back.session.read_only, Some(false));
    c.ok(&back, |w, i| w.set(i, "/e", "still mine"));
    c.assert_same();
}

#[test]
fn when_the_election_ends_readers_are_cut_before_anything_changes_and_their_sessions_are_over() {
    let (mut c, alone) = left_alone();
    let client = try_reader(&mut c, alone).expect("a session");
    c.ok(&client, |w, i| w.get(i, "/a", true));
    others(&c, alone).into_iter().for_each(|n| c.start(n));
    // At no moment is a reader connected to a server that has elected.
    for _ in 0..2000 {
        if c.report(alone).is_serving {
            break;
        }
        c.tick_by(10);
        c.settle();
        if c.report(alone).state != zoo::zab::ServerState::Looking {
            assert!(c.is_closed(&client) && !c.report(alone).is_read_only);
        }
    }
    c.until_all_serve();
    assert_eq!(c.world(alone).take(client.index), [] as [Frame; 0], "not a word");
    for node in 0..3 {
        let (_, answer) = c.try_connect(node, 0, &ConnectRequest { read_only: true, ..again(&client.session) });
        assert_eq!(answer.map(|a| a.session), Some(SessionId::NONE), "where there is a quorum it is known to be over");
    }
    let back = try_reader(&mut c, alone).expect("a session");
    assert_eq!(back.session.read_only, Some(false));
    c.ok(&back, |w, i| w.create(i, "/w", "", 1));
    c.assert_same();
}

/// What was never committed is not shown, though it is in the log, and what the quorum decides about it later contradicts nobody.
#[test]
fn a_server_that_goes_on_running_shows_only_what_was_committed_a13() {
    let mut c = three();
    let leader = c.leader().expect("one");
    let client = c.connect(leader);
    c.ok(&client, |w, i| w.create(i, "/a", "kept", 0));
    c.separate(&[leader]);
    assert_eq!(c.ask(&client, |w, i| w.set(i, "/a", "lost")), [], "not committed");
    c.until("it serves reads", |c| c.report(leader).is_read_only);
    let visitor = try_reader(&mut c, leader).expect("a session");
    let frame = c.ok(&visitor, |w, i| w.get(i, "/a", false));
    assert_eq!(data_of(&frame), "kept");
    let closed = c.ask(&visitor, |w, i| w.request(i, OpCode::CloseSession, |_| ()));
    assert_eq!(zxid_of(&closed[0]), zxid_of(&frame), "nor does its number show");
    c.heal();
    c.until_all_serve();
    let back = c.connect(leader);
    assert_eq!(get(&mut c, &back, "/a"), "kept");
    c.assert_same();
}

/// As ZooKeeper does it: what a server that was restarted has in its log it shows. Who has seen that is taken by no server that does not have it (P8).
#[test]
fn a_server_that_was_restarted_shows_its_log_and_nobody_sees_time_go_back_p8() {
    let mut c = three();
    let leader = c.leader().expect("one");
    let client = c.connect(leader);
    c.ok(&client, |w, i| w.create(i, "/a", "kept", 0));
    c.separate(&[leader]);
    assert_eq!(c.ask(&client, |w, i| w.set(i, "/a", "lost")), [], "not committed");
    c.kill(leader);
    c.start(leader);
    c.until("it serves reads", |c| c.report(leader).is_read_only);
    let visitor = try_reader(&mut c, leader).expect("a session");
    let seen = c.ok(&visitor, |w, i| w.get(i, "/a", false));
    assert_eq!(data_of(&seen), "lost");
    let request = ConnectRequest { last_zxid_seen: zxid_of(&seen).as_i64(), ..reader() };
    let rest = others(&c, leader);
    let serving: Vec<usize> = rest.iter().copied().filter(|n| c.report(*n).is_serving).collect();
    assert_eq!(serving.len(), 2, "the others go on without it");
    for n in serving {
        let (_, answer) = c.try_connect(n, 0, &request);
        assert_eq!(answer, None, "it does not have what this client has seen");
    }
    c.heal();
    c.until_all_serve();
    assert!(c.is_closed(&visitor));
    let back = c.connect(leader);
    assert_eq!(get(&mut c, &back, "/a"), "kept");
    c.ok(&back, |w, i| w.set(i, "/a", "new"));
    let (index, answer) = c.try_connect(leader, 0, &request);
    let back = Client { node: leader, index, session: answer.expect("the history has gone beyond it") };
    assert_eq!(get(&mut c, &back, "/a"), "new");
    c.assert_same();
}

#[test]
fn readers_are_served_whether_sessions_are_local_or_not_and_by_observers_too() {
    for modes in [ClientModes::default(), ClientModes { local_sessions: true, upgrades: true, ..ClientModes::default() }] {
        let mut c = Cluster::started(setup(modes), 3, 1);
        (0..3).for_each(|n| c.kill(n));
        c.until("the observer serves reads", |c| c.report(3).is_read_only);
        let client = try_reader(&mut c, 3).expect("a session");
        assert_eq!(errors(&c.ask(&client, |w, i| w.create(i, "/e", "", 1))), [-119]);
        (0..3).for_each(|n| c.start(n));
        c.until_all_serve();
        assert!(c.is_closed(&client));
    }
}

#[test]
fn without_the_setting_a_server_without_a_quorum_serves_nobody() {
    let mut c = Cluster::started(Setup::default(), 3, 0);
    let alone = c.followers()[0];
    others(&c, alone).into_iter().for_each(|n| c.kill(n));
    c.pass(10 * TICK_MS);
    assert!(!c.report(alone).is_read_only);
    assert!(try_reader(&mut c, alone).is_none());
}

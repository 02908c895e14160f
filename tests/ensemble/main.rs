//! Ensembles from bytes to bytes: real shards, replicas, logs and trees over a simulated network and simulated disks. What clients can see.
#![allow(missing_docs)]

#[path = "../pipeline/driver.rs"]
mod driver;

mod cluster;
mod handover;
mod mode_histories;
mod random;
mod read_only;
mod sessions;

use cluster::{Client, Cluster, Tamper};
use driver::{Frame, Setup, TICK_MS, TIMEOUT_MS, again, data_of, new_session};
use std::sync::Arc;
use zoo::base::{ConnId, ConnKey, Instant, SessionId, ShardId, WallTime, Writer as _, Xid, Zxid};
use zoo::handoff::{Batch, Control, Entry, Inbox, Publisher};
use zoo::proto::OpCode;
use zoo::record::TxnHeader;
use zoo::record::txn::Txn;
use zoo::shard::{Shard, ShardConfig};
use zoo::tree::Tree;

const SESSION_MOVED_CLOSES: &str = "a connection whose session has moved is closed without a word";

fn three() -> Cluster {
    Cluster::started(Setup::default(), 3, 0)
}

fn get(c: &mut Cluster, client: &Client, path: &str) -> String {
    data_of(&c.ok(client, |w, i| w.get(i, path, false)))
}

fn zxid_of(frame: &Frame) -> Zxid {
    match frame {
        Frame::Reply { zxid, .. } => Zxid::from_i64(*zxid),
        other => panic!("no reply: {other:?}"),
    }
}

fn errors(frames: &[Frame]) -> Vec<i32> {
    frames.iter().filter_map(|f| if let Frame::Reply { err, .. } = f { Some(*err) } else { None }).collect()
}

#[test]
fn an_ensemble_elects_a_leader_and_every_member_serves_writes_reads_and_watches() {
    let mut c = Cluster::started(Setup { shards: 2, ..Setup::default() }, 3, 1);
    assert_eq!(c.leader(), Some(2), "equal histories: the highest id");
    let clients: Vec<Client> = (0..4).map(|n| c.connect(n)).collect();
    for (n, client) in clients.iter().enumerate() {
        assert_eq!(client.session.session.0 >> 56, n as i64 + 1, "the id of the server that made the session");
    }
    for (n, client) in clients.iter().enumerate() {
        let path = format!("/of{n}");
        let created = c.ok(client, |w, i| w.create(i, &path, "0", 0));
        assert_eq!(zxid_of(&created).epoch(), 1);
        for other in &clients {
            assert_eq!(get(&mut c, other, &path), "0");
            c.ok(other, |w, i| w.get(i, &path, true));
        }
        c.world(n).set(client.index, &path, "1");
        c.settle();
        for other in &clients {
            let seen = c.world(other.node).take(other.index);
            assert!(matches!(seen.as_slice(), [Frame::Event { kind: 3, .. }, ..]), "{seen:?}");
            assert_eq!(get(&mut c, other, &path), "1");
        }
    }
    c.assert_same();
}

#[test]
fn an_event_comes_before_the_reply_that_caused_it_at_a_learner_too_p10() {
    let mut c = three();
    let client = c.connect(0);
    c.ok(&client, |w, i| w.create(i, "/a", "", 0));
    c.ok(&client, |w, i| w.get(i, "/a", true));
    let frames = c.ask(&client, |w, i| w.set(i, "/a", "x"));
    assert!(matches!(frames.as_slice(), [Frame::Event { kind: 3, .. }, Frame::Reply { err: 0, .. }]), "{frames:?}");
}

#[test]
fn requests_pipelined_at_a_learner_are_answered_in_order_each_read_seeing_the_write_before_it_a4() {
    let mut c = three();
    let client = c.connect(0);
    c.ok(&client, |w, i| w.create(i, "/a", "", 0));
    let world = c.world(0);
    for n in 0..30 {
        world.set(client.index, "/a", &n.to_string());
        world.get(client.index, "/a", false);
        if n % 7 == 0 {
            world.request(client.index, OpCode::Sync, |b| b.put_string("/a"));
            world.request(client.index, OpCode::GetEphemerals, |b| b.put_string("/"));
            world.create(client.index, "/a", "exists", 0);
        }
    }
    let last = world.clients[client.index].next_xid - 1;
    c.settle();
    let frames = c.world(0).take(client.index);
    let mut xids = Vec::new();
    let mut written = 0;
    for frame in &frames {
        let Frame::Reply { xid, err, body, .. } = frame else { panic!("{frame:?}") };
        xids.push(*xid);
        assert!(*err == 0 || *err == -110, "{frame:?}");
        if body.len() > 80 {
            continue;
        }
        if *err == 0 && body.len() == 4 + written.to_string().len() + 68 {
            assert_eq!(data_of(frame), written.to_string());
            written += 1;
        }
    }
    assert_eq!(written, 30, "every read saw the write before it");
    assert_eq!(xids, (2..=last).collect::<Vec<_>>(), "in the order sent (P7)");
}

#[test]
fn every_member_answers_the_same_request_alike() {
    let mut c = three();
    let clients: Vec<Client> = (0..3).map(|n| c.connect(n)).collect();
    let mut answers: Vec<Vec<(i32, Vec<u8>)>> = vec![Vec::new(); 3];
    for client in &clients {
        let n = client.node;
        c.ok(client, |w, i| w.create(i, &format!("/{n}"), "", 0));
        let base = format!("/{n}/s-");
        let requests: Vec<Vec<Frame>> = vec![
            c.ask(client, |w, i| w.create(i, &base, "x", 2)),
            c.ask(client, |w, i| w.create(i, &base, "x", 1)),
            c.ask(client, |w, i| w.create(i, &base, "x", 1)),
            c.ask(client, |w, i| w.create(i, &format!("{base}/below"), "x", 0)),
            c.ask(client, |w, i| w.request(i, OpCode::Create2, |b| driver::put_create(b, &format!("/{n}/c2"), "data", 0))),
            c.ask(client, |w, i| w.request(i, OpCode::CreateContainer, |b| driver::put_create(b, &format!("/{n}/box"), "", 4))),
            c.ask(client, |w, i| w.set(i, &format!("/{n}/c2"), "more")),
            c.ask(client, |w, i| w.set(i, "/absent", "more")),
            c.ask(client, |w, i| w.delete(i, &format!("/{n}"))),
            c.ask(client, |w, i| w.delete(i, &format!("/{n}/c2"))),
            c.ask(client, |w, i| w.request(i, OpCode::Multi, |b| put_multi(b, &format!("/{n}/m"), true))),
            c.ask(client, |w, i| w.request(i, OpCode::Multi, |b| put_multi(b, &format!("/{n}/m"), false))),
            c.ask(client, |w, i| w.request(i, OpCode::Multi, |b| b.put_i32(1))),
            c.ask(client, |w, i| w.request(i, OpCode::GetEphemerals, |b| b.put_string("/"))),
            c.ask(client, |w, i| w.request(i, OpCode::Sync, |b| b.put_string("/any"))),
            c.ask(client, |w, i| {
                w.request(i, OpCode::Reconfig, |b| {
                    (0..3).for_each(|_| b.put_i32(-1));
                    b.put_i64(-1);
                })
            }),
        ];
        for frames in requests {
            let [Frame::Reply { err, body, .. }] = frames.as_slice() else { panic!("one reply: {frames:?}") };
            // Zxids and times differ; what they are part of has the same size and the same names.
            let names: Vec<u8> = body.iter().filter(|b| b.is_ascii_graphic() && !b.is_ascii_digit()).copied().collect();
            answers[n].push((*err, if body.len() >= 68 { vec![body.len() as u8] } else { names }));
        }
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[1], answers[2]);
    let codes: Vec<i32> = answers[0].iter().map(|(err, _)| *err).collect();
    assert_eq!(codes, [0, 0, -110, -108, 0, 0, 0, -101, -111, 0, 0, 0, -5, 0, 0, -123]);
    c.assert_same();
}

/// A create and a set of it, then a check that passes or fails.
fn put_multi(b: &mut Vec<u8>, path: &str, passes: bool) {
    let header = |b: &mut Vec<u8>, op: i32| {
        b.put_i32(op);
        b.put_bool(false);
        b.put_i32(-1);
    };
    let path = if passes { path.to_owned() } else { format!("{path}2") };
    header(b, OpCode::Create as i32);
    driver::put_create(b, &path, "m", 0);
    header(b, OpCode::SetData as i32);
    b.put_string(&path);
    b.put_string("n");
    b.put_i32(0);
    header(b, OpCode::Check as i32);
    b.put_string(&path);
    b.put_i32(if passes { 1 } else { 7 });
    b.put_i32(-1);
    b.put_bool(true);
    b.put_i32(-1);
}

#[test]
fn a_session_moves_to_another_server_and_its_old_connection_is_fenced_a16() {
    let mut c = three();
    let leader = c.leader().expect("one");
    let (a, b) = (c.followers()[0], c.followers()[1]);
    for (from, to) in [(a, b), (a, leader), (leader, b)] {
        let old = c.connect(from);
        let path = format!("/from{from}to{to}");
        c.ok(&old, |w, i| w.create(i, &path, "", 1));
        let new = c.connect_again(to, &old.session);
        assert_eq!(new.session.session, old.session.session);
        c.ok(&new, |w, i| w.set(i, &path, "new"));
        let answers = c.ask(&old, |w, i| w.set(i, &path, "old"));
        assert_eq!(answers, [], "{SESSION_MOVED_CLOSES}");
        assert!(c.is_closed(&old), "{SESSION_MOVED_CLOSES}: {from} to {to}");
        assert_eq!(get(&mut c, &new, &path), "new");
        c.pass(3 * TIMEOUT_MS as u64 / 4);
        assert!(!c.is_closed(&new));
    }
}

#[test]
fn a_wrong_password_or_an_ended_session_is_refused_and_harms_nobody_s6() {
    let mut c = three();
    for node in 0..3 {
        let owner = c.connect(node);
        for at in 0..3 {
            let mut request = again(&owner.session);
            request.password[3] ^= 1;
            let (_, answer) = c.try_connect(at, 0, &request);
            assert_eq!(answer.map(|a| (a.session, a.timeout_ms)), Some((SessionId::NONE, 0)));
            c.ok(&owner, |w, i| w.create(i, &format!("/{node}{at}"), "", 0));
        }
        let closed = c.ask(&owner, |w, i| w.request(i, OpCode::CloseSession, |_| ()));
        assert_eq!(errors(&closed), [0]);
        assert!(c.is_closed(&owner));
        for at in 0..3 {
            let (_, answer) = c.try_connect(at, 0, &again(&owner.session));
            assert_eq!(answer.map(|a| a.session), Some(SessionId::NONE));
        }
    }
    c.assert_same();
}

#[test]
fn sessions_live_while_any_server_hears_from_them_and_are_ended_by_the_leader_p13() {
    let mut c = three();
    let alive: Vec<Client> = (0..3).map(|n| c.connect(n)).collect();
    let silent: Vec<Client> = (0..3).map(|n| c.connect(n)).collect();
    for client in alive.iter().chain(&silent) {
        c.ok(client, |w, i| w.create(i, &format!("/{}", i + 10 * client.node), "", 1));
    }
    for _ in 0..10 {
        c.pass(TIMEOUT_MS as u64 / 3);
        for client in &alive {
            c.world(client.node).request_as(client.index, -2, OpCode::Ping as i32, |_| ());
        }
    }
    for client in &alive {
        assert!(!c.is_closed(client), "it pings");
        c.settle();
        c.world(client.node).take(client.index);
        c.ok(client, |w, i| w.read(i, OpCode::Exists, &format!("/{}", i + 10 * client.node), false));
    }
    for client in &silent {
        assert!(c.is_closed(client), "it says nothing");
        let asker = alive[0].clone();
        let gone = c.ask(&asker, |w, i| w.read(i, OpCode::Exists, &format!("/{}", client.index + 10 * client.node), false));
        assert_eq!(errors(&gone), [-101], "its ephemerals went with it");
    }
    let expired = |c: &Cluster, n: usize| {
        let counters = c.nodes[n].world.as_ref().expect("up").replica.summary().counters;
        counters.iter().find(|(name, _)| *name == "stale_sessions_expired").map_or(0, |(_, count)| *count)
    };
    let leader = c.leader().expect("one");
    let counts: Vec<u64> = (0..3).map(|n| expired(&c, n)).collect();
    assert!((0..3).all(|n| counts[n] == if n == leader { 3 } else { 0 }), "{counts:?}");
    c.assert_same();
}

#[test]
fn when_the_leader_dies_its_clients_go_on_elsewhere_with_session_ephemerals_and_data() {
    let mut c = three();
    let leader = c.leader().expect("one");
    let survivor = c.followers()[0];
    let (at_leader, at_follower) = (c.connect(leader), c.connect(survivor));
    c.ok(&at_leader, |w, i| w.create(i, "/leader", "1", 1));
    c.ok(&at_follower, |w, i| w.create(i, "/follower", "2", 1));
    c.kill(leader);
    c.until("another leader", |c| c.leader().is_some_and(|n| n != leader) && c.followers().len() == 1);
    assert!(c.is_closed(&at_follower), "a server that has lost its leader cuts its clients");
    let (first, second) = (c.connect_again(survivor, &at_leader.session), c.connect_again(survivor, &at_follower.session));
    assert_eq!(get(&mut c, &first, "/follower"), "2");
    assert_eq!(get(&mut c, &second, "/leader"), "1");
    let created = c.ok(&first, |w, i| w.create(i, "/new", "", 0));
    assert_eq!(zxid_of(&created), Zxid::new(2, 1), "the first of the new epoch");
    c.start(leader);
    c.until_all_serve();
    let back = c.connect(leader);
    assert_eq!(get(&mut c, &back, "/leader"), "1");
    c.assert_same();
}

#[test]
fn a_follower_that_was_down_gets_what_it_missed_as_a_difference() {
    let mut c = three();
    let (follower, other) = (c.followers()[0], c.followers()[1]);
    let client = c.connect(other);
    c.ok(&client, |w, i| w.create(i, "/a", "0", 0));
    c.kill(follower);
    for n in 0..20 {
        c.ok(&client, |w, i| w.set(i, "/a", &n.to_string()));
    }
    c.openings.clear();
    c.start(follower);
    c.until_all_serve();
    assert_eq!(c.openings, [(follower, "DIFF")]);
    let reader = c.connect(follower);
    assert_eq!(get(&mut c, &reader, "/a"), "19");
    c.assert_same();
}

/// Neither a leader that was just started nor its follower has what the third server lacks in memory: it is in log files only.
#[test]
fn a_follower_behind_what_is_in_memory_is_fed_from_the_log_of_a_leader_that_was_restarted() {
    let mut c = three();
    let (late, leader) = (c.followers()[0], c.leader().expect("a leader"));
    let client = c.connect(leader);
    c.ok(&client, |w, i| w.create(i, "/a", "0", 0));
    c.kill(late);
    for n in 0..40 {
        c.ok(&client, |w, i| w.set(i, "/a", &n.to_string()));
    }
    let rest: Vec<usize> = c.up();
    rest.iter().for_each(|n| c.kill(*n));
    c.recent = 3;
    rest.iter().for_each(|n| c.start(*n));
    c.until_all_serve();
    c.openings.clear();
    c.start(late);
    c.until_all_serve();
    assert_eq!(c.openings, [(late, "DIFF")]);
    assert!(c.log_parts >= 3, "{} parts", c.log_parts);
    let reader = c.connect(late);
    assert_eq!(get(&mut c, &reader, "/a"), "39");
    c.ok(&reader, |w, i| w.set(i, "/a", "40"));
    c.assert_same();
}

#[test]
fn a_follower_with_an_empty_disk_gets_an_image_and_snapshots_it_again() {
    let mut c = three();
    let (follower, other) = (c.followers()[0], c.followers()[1]);
    let client = c.connect(other);
    c.ok(&client, |w, i| w.create(i, "/a", "kept", 1));
    c.kill(follower);
    c.wipe(follower);
    c.openings.clear();
    c.start(follower);
    c.until_all_serve();
    assert_eq!(c.openings, [(follower, "SNAP")]);
    let taken = c.world(follower).replica.summary().snapshots_taken;
    assert_eq!(taken, 1, "what came may not have been exact at its zxid");
    let reader = c.connect(follower);
    assert_eq!(get(&mut c, &reader, "/a"), "kept");
    c.ok(&reader, |w, i| w.set(i, "/a", "changed"));
    c.assert_same();
    c.kill(follower);
    c.start(follower);
    c.until_all_serve();
    c.assert_same();
}

/// A write that only the leader has logged; its client never hears of it.
fn write_that_is_lost(c: &mut Cluster, leader: usize) -> Client {
    let client = c.connect(leader);
    c.ok(&client, |w, i| w.create(i, "/a", "kept", 0));
    c.separate(&[leader]);
    assert_eq!(c.ask(&client, |w, i| w.set(i, "/a", "lost")), [], "not committed");
    assert_eq!(c.ask(&client, |w, i| w.create(i, "/lost", "", 1)), [], "not committed");
    client
}

#[test]
fn what_only_a_deposed_leader_has_logged_is_removed_from_its_tree_and_log() {
    let mut c = three();
    let leader = c.leader().expect("one");
    let client = write_that_is_lost(&mut c, leader);
    c.until("it steps down", |c| !c.report(leader).is_serving);
    assert!(c.is_closed(&client));
    let others: Vec<usize> = c.up().into_iter().filter(|n| *n != leader).collect();
    c.until("the others serve", |c| others.iter().all(|n| c.report(*n).is_serving));
    c.openings.clear();
    c.heal();
    c.until_all_serve();
    assert_eq!(c.openings, [(leader, "TRUNC")]);
    let reader = c.connect(leader);
    assert_eq!(get(&mut c, &reader, "/a"), "kept");
    assert_eq!(errors(&c.ask(&reader, |w, i| w.get(i, "/lost", false))), [-101]);
    c.ok(&reader, |w, i| w.create(i, "/lost", "found", 0));
    c.assert_same();
}

#[test]
fn a_restarted_leader_reads_its_tree_again_when_it_has_recovered_too_much() {
    let mut c = three();
    let leader = c.leader().expect("one");
    write_that_is_lost(&mut c, leader);
    c.kill(leader);
    c.until("the others serve", |c| c.leader().is_some() && c.followers().len() == 1);
    c.heal();
    c.openings.clear();
    c.start(leader);
    c.until_all_serve();
    assert_eq!(c.openings, [(leader, "TRUNC")]);
    let reader = c.connect(leader);
    assert_eq!(get(&mut c, &reader, "/a"), "kept");
    c.ok(&reader, |w, i| w.create(i, "/lost", "found", 0));
    c.assert_same();
    c.kill(leader);
    c.start(leader);
    c.until_all_serve();
    c.assert_same();
}

#[test]
fn a_history_that_ended_in_an_epoch_that_went_on_elsewhere_is_replaced_by_an_image() {
    let mut c = three();
    let leader = c.leader().expect("one");
    write_that_is_lost(&mut c, leader);
    c.until("it steps down", |c| !c.report(leader).is_serving);
    let others: Vec<usize> = c.up().into_iter().filter(|n| *n != leader).collect();
    c.until("the others serve", |c| others.iter().all(|n| c.report(*n).is_serving));
    let client = c.connect(others[0]);
    c.ok(&client, |w, i| w.set(i, "/a", "newer"));
    c.openings.clear();
    c.heal();
    c.until_all_serve();
    assert_eq!(c.openings, [(leader, "SNAP")]);
    let reader = c.connect(leader);
    assert_eq!(get(&mut c, &reader, "/a"), "newer");
    c.assert_same();
}

/// The tree has made way for the image's when that turns out to be none: it is read again from the disk, and the image asked for again.
#[test]
fn a_server_goes_back_to_its_disk_when_an_image_cannot_be_loaded_l5() {
    let mut c = three();
    let leader = c.leader().expect("one");
    write_that_is_lost(&mut c, leader);
    c.until("it steps down", |c| !c.report(leader).is_serving);
    let others: Vec<usize> = c.up().into_iter().filter(|n| *n != leader).collect();
    c.until("the others serve", |c| others.iter().all(|n| c.report(*n).is_serving));
    let client = c.connect(others[0]);
    c.ok(&client, |w, i| w.set(i, "/a", "newer"));
    c.openings.clear();
    c.unusable = Some(leader);
    c.heal();
    c.until_all_serve();
    assert_eq!(c.openings, [(leader, "SNAP"), (leader, "SNAP")]);
    let reader = c.connect(leader);
    assert_eq!(get(&mut c, &reader, "/a"), "newer");
    c.assert_same();
}

#[test]
fn what_a_quorum_has_logged_survives_the_leader_that_never_committed_it_a1() {
    let mut c = three();
    let leader = c.leader().expect("one");
    let client = c.connect(leader);
    c.ok(&client, |w, i| w.create(i, "/a", "0", 0));
    c.world(leader).set(client.index, "/a", "1");
    let world = c.world(leader);
    while world.deliver(client.index, usize::MAX) || world.replica_step(usize::MAX) {}
    // The proposals leave; then the leader is gone before it hears of any acknowledgement.
    let others: Vec<usize> = c.up().into_iter().filter(|n| *n != leader).collect();
    c.carry_out(leader);
    c.kill(leader);
    c.until("the others serve", |c| others.iter().all(|n| c.report(*n).is_serving));
    let reader = c.connect(others[0]);
    assert_eq!(get(&mut c, &reader, "/a"), "1");
    c.start(leader);
    c.until_all_serve();
    c.assert_same();
}

#[test]
fn without_a_role_connections_are_cut_and_connects_turned_away() {
    let mut c = three();
    let (follower, leader) = (c.followers()[0], c.leader().expect("one"));
    let client = c.connect(follower);
    let others: Vec<usize> = c.up().into_iter().filter(|n| *n != follower).collect();
    others.iter().for_each(|n| c.kill(*n));
    c.pass(6 * TICK_MS);
    assert!(c.is_closed(&client));
    let (_, answer) = c.try_connect(follower, 0, &again(&client.session));
    assert_eq!(answer, None, "closed without a word");
    let (_, answer) = c.try_connect(follower, 0, &new_session());
    assert_eq!(answer, None, "closed without a word");
    c.start(leader);
    c.until("two serve", |c| c.leader().is_some() && c.followers().len() == 1);
    let client = c.connect_again(follower, &client.session);
    c.ok(&client, |w, i| w.create(i, "/a", "", 0));
}

#[test]
fn a_sync_shows_everything_committed_before_it_p9() {
    let mut c = three();
    let (a, b) = (c.followers()[0], c.followers()[1]);
    let (writer, reader) = (c.connect(a), c.connect(b));
    c.ok(&writer, |w, i| w.create(i, "/a", "0", 0));
    // The reader's server hears nothing for a while.
    c.deaf.insert(b);
    c.ok(&writer, |w, i| w.set(i, "/a", "1"));
    assert_eq!(data_of(&c.ok(&reader, |w, i| w.get(i, "/a", false))), "0", "reads may be stale");
    let world = c.world(b);
    world.request(reader.index, OpCode::Sync, |b| b.put_string("/a"));
    world.get(reader.index, "/a", false);
    c.settle();
    assert_eq!(c.world(b).take(reader.index), [], "not before it is known what is committed");
    c.deaf.clear();
    c.settle();
    let frames = c.world(b).take(reader.index);
    assert_eq!((frames.len(), data_of(&frames[1])), (2, "1".to_owned()));
}

#[test]
fn a_leader_that_may_have_been_deposed_answers_no_sync_l13() {
    let mut c = three();
    let leader = c.leader().expect("one");
    let client = c.connect(leader);
    c.ok(&client, |w, i| w.request(i, OpCode::Sync, |b| b.put_string("/")));
    // It pauses with the question in its socket, for longer than its followers wait for it.
    c.separate(&[leader]);
    c.world(leader).request(client.index, OpCode::Sync, |b| b.put_string("/"));
    c.now = c.now.plus_ms(6 * TICK_MS);
    let now = c.now;
    c.world(leader).now = now;
    c.settle();
    assert_eq!(c.world(leader).take(client.index), [], "no answer");
    c.until("it steps down", |c| !c.report(leader).is_serving);
    assert!(c.is_closed(&client));
    assert_eq!(c.world(leader).take(client.index), [], "nor then");
}

#[test]
fn a_client_that_has_seen_more_is_turned_away_by_a_learner_that_lags_p8() {
    let mut c = three();
    let (a, b) = (c.followers()[0], c.followers()[1]);
    let client = c.connect(a);
    c.deaf.insert(b);
    let seen = zxid_of(&c.ok(&client, |w, i| w.create(i, "/a", "", 0)));
    let request = zoo::proto::connect::ConnectRequest { last_zxid_seen: seen.as_i64(), ..again(&client.session) };
    let (_, answer) = c.try_connect(b, 0, &request);
    assert_eq!(answer, None);
    c.deaf.clear();
    c.settle();
    let (_, answer) = c.try_connect(b, 0, &request);
    assert_eq!(answer.map(|a| a.session), Some(client.session.session));
}

#[test]
fn a_follower_whose_tree_differs_takes_an_image_once_l17() {
    let mut c = three();
    let (follower, other) = (c.followers()[0], c.followers()[1]);
    let (client, at_follower) = (c.connect(other), c.connect(follower));
    c.tamper = Some((follower, Tamper::Digest));
    c.openings.clear();
    c.ok(&client, |w, i| w.create(i, "/a", "good", 0));
    c.settle();
    assert!(c.is_closed(&at_follower), "nobody is served from a tree that differs");
    c.until_all_serve();
    assert_eq!(c.openings, [(follower, "SNAP")]);
    let reader = c.connect(follower);
    assert_eq!(get(&mut c, &reader, "/a"), "good");
    c.assert_same();
}

#[test]
#[should_panic(expected = "for the second time")]
fn a_follower_whose_tree_differs_again_stops_l17() {
    let mut c = three();
    let (follower, other) = (c.followers()[0], c.followers()[1]);
    let client = c.connect(other);
    for path in ["/a", "/b"] {
        c.tamper = Some((follower, Tamper::Digest));
        c.ok(&client, |w, i| w.create(i, path, "", 0));
        c.until_all_serve();
    }
}

/// The snapshot was begun before the tree was found to differ, and comes to its end when the leader's image is here already.
#[test]
fn a_snapshot_of_a_tree_that_is_to_be_replaced_is_given_up_and_never_comes_after_the_image_l17() {
    let mut setup = Setup::default();
    setup.replica.snap_count = 10;
    let mut c = Cluster::started(setup, 3, 0);
    let (follower, other) = (c.followers()[0], c.followers()[1]);
    let client = c.connect(other);
    c.holds_snapshots = true;
    c.ok(&client, |w, i| w.create(i, "/a", "0", 0));
    while c.world(follower).snapshots.is_empty() {
        c.ok(&client, |w, i| w.set(i, "/a", "1"));
    }
    assert_eq!(c.world(follower).abandoned, 0);
    c.tamper = Some((follower, Tamper::Digest));
    c.openings.clear();
    c.ok(&client, |w, i| w.set(i, "/a", "2"));
    c.until("the leader's image is on its way", |c| c.openings.contains(&(follower, "SNAP")));
    c.pass(2_000);
    assert_eq!(c.world(follower).abandoned, 1);
    assert!(!c.report(follower).is_serving, "the image waits for the file to be gone");
    c.holds_snapshots = false;
    c.until_all_serve();
    c.assert_same();
    c.kill(follower);
    c.start(follower);
    c.until_all_serve();
    let reader = c.connect(follower);
    assert_eq!(get(&mut c, &reader, "/a"), "2");
    c.assert_same();
}

/// As a Java server would.
#[test]
fn a_transaction_of_an_unknown_kind_is_neither_logged_nor_acknowledged_and_its_leader_is_left_l22() {
    let mut c = three();
    let (follower, other) = (c.followers()[0], c.followers()[1]);
    let (client, at_follower) = (c.connect(other), c.connect(follower));
    c.tamper = Some((follower, Tamper::Kind));
    c.openings.clear();
    c.ok(&client, |w, i| w.create(i, "/a", "good", 0));
    c.settle();
    assert!(c.is_closed(&at_follower));
    let said = |(n, note): &(usize, String)| *n == follower && note.contains("cannot be read by this version: ");
    assert!(c.notes.iter().any(said), "{:?}", c.notes);
    c.until_all_serve();
    assert_eq!(c.openings, [(follower, "DIFF")], "it had everything before, and gets the rest as it is");
    let reader = c.connect(follower);
    assert_eq!(get(&mut c, &reader, "/a"), "good");
    c.assert_same();
}

#[test]
fn what_is_sent_behind_a_sync_waits_for_it_and_keeps_its_order() {
    let mut c = three();
    let (a, b) = (c.followers()[0], c.followers()[1]);
    let (writer, client) = (c.connect(a), c.connect(b));
    c.ok(&writer, |w, i| w.create(i, "/a", "0", 0));
    c.deaf.insert(b);
    c.ok(&writer, |w, i| w.set(i, "/a", "1"));
    let world = c.world(b);
    let sync = world.request(client.index, OpCode::Sync, |b| b.put_string("/a"));
    let get = world.get(client.index, "/a", false);
    let set = world.set(client.index, "/a", "2");
    let again = world.request(client.index, OpCode::Sync, |b| b.put_string("/a"));
    let ephemerals = world.request(client.index, OpCode::GetEphemerals, |b| b.put_string("/"));
    let last = world.get(client.index, "/a", false);
    c.settle();
    c.deaf.clear();
    c.settle();
    let frames = c.world(b).take(client.index);
    let xids: Vec<i32> = frames.iter().filter_map(|f| if let Frame::Reply { xid, err: 0, .. } = f { Some(*xid) } else { None }).collect();
    assert_eq!(xids, [sync, get, set, again, ephemerals, last]);
    assert_eq!((data_of(&frames[1]), data_of(&frames[5])), ("1".to_owned(), "2".to_owned()));
    assert!(zxid_of(&frames[0]) < zxid_of(&frames[2]), "the read between them sees nothing of the write");
}

#[test]
fn what_waits_behind_a_sync_counts_as_outstanding_s2() {
    let mut setup = Setup::default();
    setup.replica.global_outstanding_limit = 10;
    let mut c = Cluster::started(setup, 3, 0);
    let (leader, follower) = (c.leader().expect("one"), c.followers()[0]);
    let client = c.connect(follower);
    c.deaf.insert(leader);
    let world = c.world(follower);
    world.request(client.index, OpCode::Sync, |b| b.put_string("/"));
    for n in 0..20 {
        world.create(client.index, &format!("/{n}"), "", 0);
    }
    c.settle();
    assert!(!c.world(follower).replica.admits(), "others wait in their shards");
    c.deaf.clear();
    c.settle();
    assert_eq!(errors(&c.world(follower).take(client.index)), [0; 21]);
    assert!(c.world(follower).replica.admits());
}

#[test]
fn syncs_that_wait_for_a_quorum_count_as_outstanding_s2() {
    let mut setup = Setup::default();
    setup.replica.global_outstanding_limit = 10;
    let mut c = Cluster::started(setup, 3, 0);
    let leader = c.leader().expect("one");
    let client = c.connect(leader);
    c.deaf.extend(c.followers());
    for _ in 0..20 {
        c.world(leader).request(client.index, OpCode::Sync, |b| b.put_string("/"));
    }
    c.settle();
    assert!(!c.world(leader).replica.admits(), "others wait in their shards");
    c.deaf.clear();
    c.settle();
    assert_eq!(errors(&c.world(leader).take(client.index)), [0; 20]);
    assert!(c.world(leader).replica.admits());
}

#[test]
fn an_observer_serves_without_a_vote_and_is_not_needed() {
    let mut c = Cluster::started(Setup::default(), 3, 1);
    let observer = 3;
    let client = c.connect(observer);
    c.ok(&client, |w, i| w.create(i, "/a", "1", 1));
    c.ok(&client, |w, i| w.request(i, OpCode::Sync, |b| b.put_string("/a")));
    c.kill(observer);
    let voter = c.connect(0);
    assert_eq!(get(&mut c, &voter, "/a"), "1");
    c.ok(&voter, |w, i| w.set(i, "/a", "2"));
    c.start(observer);
    c.until_all_serve();
    let client = c.connect_again(observer, &client.session);
    assert_eq!(get(&mut c, &client, "/a"), "2");
    c.assert_same();
}

/// Three voters and two observers that learn from followers.
fn with_masters() -> Cluster {
    let mut c = Cluster::new(Setup::default(), 3, 2);
    c.observer_masters = true;
    (0..5).for_each(|n| c.start(n));
    c.until_all_serve();
    c
}

/// The follower this observer learns from.
fn master_of(c: &Cluster, observer: usize) -> usize {
    (c.report(observer).observer_master.expect("it observes").0 - 1) as usize
}

#[test]
fn observers_are_fed_by_followers_and_their_clients_served_through_them() {
    let mut c = with_masters();
    let leader = c.leader().expect("a leader");
    for observer in [3, 4] {
        let master = master_of(&c, observer);
        assert_ne!(master, leader);
        assert!(c.report(master).feeds_observers && c.report(master).learners.synced_observers > 0);
    }
    assert_eq!(c.report(leader).learners.synced_observers, 0);
    let (a, b) = (c.connect(3), c.connect(4));
    c.ok(&a, |w, i| w.create(i, "/a", "0", 0));
    let own = c.connect(master_of(&c, 3));
    for n in 0..10 {
        c.ok(&a, |w, i| w.set(i, "/a", &n.to_string()));
        c.ok(&own, |w, i| w.set(i, "/a", &format!("{n} again")));
        c.ok(&b, |w, i| w.request(i, OpCode::Sync, |b| b.put_string("/a")));
        c.ok(&own, |w, i| w.request(i, OpCode::Sync, |b| b.put_string("/a")));
        assert_eq!(get(&mut c, &b, "/a"), format!("{n} again"));
    }
    assert_eq!(errors(&c.ask(&a, |w, i| w.create(i, "/a", "0", 0))), [-110], "what fails fails here as well");
    c.assert_same();
}

#[test]
fn sessions_at_observers_behind_a_master_live_move_and_expire_p13() {
    let mut c = with_masters();
    let (a, b) = (c.connect(3), c.connect(4));
    c.ok(&a, |w, i| w.create(i, "/eph", "", 1));
    c.ok(&b, |w, i| w.create(i, "/other", "", 1));
    for _ in 0..10 {
        c.pass(TIMEOUT_MS as u64 / 3);
        c.world(a.node).request_as(a.index, -2, OpCode::Ping as i32, |_| ());
    }
    c.settle();
    c.world(a.node).take(a.index);
    let reader = c.connect(c.leader().expect("a leader"));
    assert_eq!(get(&mut c, &reader, "/eph"), "", "its master tells the leader that it is heard");
    assert_eq!(errors(&c.ask(&reader, |w, i| w.get(i, "/other", false))), [-101], "and that the silent one is not");
    let moved = c.connect_again(4, &a.session);
    c.ok(&moved, |w, i| w.create(i, "/eph2", "", 1));
    assert_eq!(moved.session.session, a.session.session);
    c.assert_same();
}

#[test]
fn an_observer_finds_another_master_when_its_own_is_gone_and_follows_a_new_leader() {
    let mut c = with_masters();
    let client = c.connect(3);
    c.ok(&client, |w, i| w.create(i, "/a", "0", 0));
    let gone = master_of(&c, 3);
    c.kill(gone);
    c.until_all_serve();
    assert_ne!(master_of(&c, 3), gone);
    let client = c.connect_again(3, &client.session);
    c.ok(&client, |w, i| w.set(i, "/a", "1"));
    c.start(gone);
    c.until_all_serve();
    let leader = c.leader().expect("a leader");
    c.kill(leader);
    c.until_all_serve();
    let client = c.connect_again(3, &client.session);
    c.ok(&client, |w, i| w.set(i, "/a", "2"));
    c.start(leader);
    c.until_all_serve();
    c.assert_same();
}

#[test]
fn a_master_brings_observers_up_to_date_in_every_way() {
    let mut c = with_masters();
    let client = c.connect(0);
    c.ok(&client, |w, i| w.create(i, "/a", "0", 0));
    c.kill(3);
    c.kill(4);
    c.wipe(4);
    for n in 0..30 {
        c.ok(&client, |w, i| w.set(i, "/a", &n.to_string()));
    }
    c.openings.clear();
    c.start(3);
    c.start(4);
    c.until_all_serve();
    assert!(c.openings.contains(&(3, "DIFF")) && c.openings.contains(&(4, "SNAP")), "{:?}", c.openings);
    let leader = c.leader().expect("a leader");
    assert!(master_of(&c, 3) != leader && master_of(&c, 4) != leader);
    c.assert_same();
}

#[test]
fn snapshots_are_taken_of_committed_states_by_every_role_a13() {
    let mut setup = Setup::default();
    setup.replica.snap_count = 40;
    let mut c = Cluster::started(setup, 3, 0);
    let client = c.connect(0);
    c.ok(&client, |w, i| w.create(i, "/a", "", 0));
    for n in 0..200 {
        c.ok(&client, |w, i| w.set(i, "/a", &n.to_string()));
    }
    for n in 0..3 {
        let taken = c.nodes[n].world.as_ref().expect("up").replica.summary().snapshots_taken;
        assert!(taken >= 3, "server {n} took {taken}");
    }
    for n in 0..3 {
        c.kill(n);
    }
    for n in 0..3 {
        c.start(n);
    }
    c.until_all_serve();
    let client = c.connect(1);
    assert_eq!(get(&mut c, &client, "/a"), "199");
    c.assert_same();
}

#[test]
fn a_member_that_stops_closes_its_log_and_the_others_go_on() {
    let mut c = three();
    let leader = c.leader().expect("one");
    let client = c.connect(leader);
    c.ok(&client, |w, i| w.create(i, "/a", "1", 0));
    c.world(leader).input(zoo::replica::Input::Stop);
    c.settle();
    assert!(c.world(leader).stopped && c.world(leader).disk.closed > 0);
    c.kill(leader);
    c.until("the others serve", |c| c.leader().is_some() && c.followers().len() == 1);
    let other = c.followers()[0];
    let client = c.connect_again(other, &client.session);
    assert_eq!(get(&mut c, &client, "/a"), "1");
}

#[test]
fn a_leader_that_stops_takes_up_nothing_that_others_send_and_waits_for_nobody() {
    let mut c = three();
    let leader = c.leader().expect("one");
    let followers = c.followers();
    let (own, theirs) = (c.connect(leader), c.connect(followers[0]));
    c.world(leader).disk.is_stalled = true;
    c.world(leader).create(own.index, "/a", "", 0);
    c.settle();
    c.world(leader).input(zoo::replica::Input::Stop);
    c.world(followers[0]).create(theirs.index, "/b", "", 0);
    c.settle();
    followers.into_iter().for_each(|n| c.kill(n));
    c.world(leader).disk.is_stalled = false;
    c.settle();
    assert!(c.world(leader).stopped, "what was forwarded to it would need a quorum");
}

#[test]
fn a_learner_whose_disk_is_slow_leaves_packets_on_their_link_and_delays_nobody_a22() {
    let mut c = three();
    let (follower, other) = (c.followers()[0], c.followers()[1]);
    let client = c.connect(other);
    c.ok(&client, |w, i| w.create(i, "/a", "", 0));
    c.world(follower).disk.is_stalled = true;
    let value = "x".repeat(200 << 10);
    for _ in 0..180 {
        c.ok(&client, |w, i| w.set(i, "/a", &value));
    }
    assert!(!c.world(follower).replica.admits_packets(), "it has enough to do");
    let written = c.world(follower).disk.written_bytes;
    assert!(written <= 18 << 20, "{written} bytes were written and not flushed");
    c.world(follower).disk.is_stalled = false;
    c.settle();
    assert!(c.world(follower).replica.admits_packets());
    c.assert_same();
}

#[test]
fn members_that_do_not_wait_for_their_disks_serve_too() {
    let mut setup = Setup::default();
    setup.replica.log.force_sync = false;
    let mut c = Cluster::started(setup, 3, 0);
    for node in 0..3 {
        let client = c.connect(node);
        c.ok(&client, |w, i| w.create(i, &format!("/{node}"), "", 1));
        c.ok(&client, |w, i| w.request(i, OpCode::Sync, |b| b.put_string("/")));
    }
    c.assert_same();
}

#[test]
fn used_containers_are_removed_by_one_transaction_of_the_leader() {
    let mut c = three();
    let client = c.connect(0);
    c.ok(&client, |w, i| w.request(i, OpCode::CreateContainer, |b| driver::put_create(b, "/box", "", 4)));
    c.ok(&client, |w, i| w.create(i, "/box/child", "", 0));
    let before = zxid_of(&c.ok(&client, |w, i| w.delete(i, "/box/child")));
    let end = c.now.plus_ms(90_000);
    while c.now < end {
        c.pass(TIMEOUT_MS as u64 / 3);
        c.ask(&client, |w, i| {
            w.request_as(i, -2, OpCode::Ping as i32, |_| ());
            0
        });
    }
    assert_eq!(errors(&c.ask(&client, |w, i| w.read(i, OpCode::Exists, "/box", false))), [-101]);
    assert_eq!(c.state(0).0, before.next().expect("in the epoch"), "one transaction, and nothing else happened");
    c.assert_same();
}

/// Many connects are turned away while an image is installed, and one still waits for its answer.
#[test]
fn a_shard_reads_a_new_tree_from_the_end_of_what_is_published_of_it_a5() {
    let setup = Setup::default();
    let config = ShardConfig { turn_cost_max: 2, ..setup.shard };
    let (mut old, mut new) = (Tree::new(setup.tree.clone()), Tree::new(setup.tree));
    let mut publisher = Publisher::new();
    let mut shard = Shard::new(ShardId(0), config, old.reader(), publisher.subscribe(), Arc::new(Inbox::new(4)));
    let waiting = shard.accept(Instant(0), "127.0.0.1:1".parse().expect("an address"));
    let mut request = Vec::new();
    new_session().write_frame(&mut request);
    shard.input(waiting)[..request.len()].copy_from_slice(&request);
    shard.received(Instant(0), waiting, request.len());
    let header = TxnHeader { session: SessionId(1), cxid: Xid(1), zxid: Zxid(7), time: WallTime(1), kind: -11 };
    let _ = new.apply(&header, &Txn::CloseSession { paths: None });
    let gone = ConnKey { shard: ShardId(0), conn: ConnId(99) };
    let entries = (0..5).map(|_| Entry::Control(Control::Cut { conn: gone })).collect();
    publisher.publish(Batch { last_zxid: Zxid(7), tree: 1, entries, ..Batch::default() });
    new.commit(Zxid(7));
    shard.replace_tree(Instant(0), 1, new.reader());
    assert_eq!((shard.read_zxid(), shard.behind()), (Zxid(7), false));
}

//! Requests from bytes to bytes through shard, replica, log and tree, without a reactor: the promises a client can see.
#![allow(missing_docs)]

mod driver;
mod model;
mod random;
mod turns;

use driver::{Frame, Setup, World, again, data_of, frame, new_session, put_create};
use zoo::base::{SessionId, WallTime, Writer, Xid, Zxid};
use zoo::proto::OpCode;
use zoo::proto::connect::ConnectRequest;
use zoo::record::{Txn, TxnHeader, TxnType};
use zoo::shard::Detail;
use zoo::tree::Tree;

fn event(zxid: i64, kind: i32, path: &str) -> Frame {
    Frame::Event { zxid, kind, path: path.into() }
}

#[test]
fn a_session_opens_and_writes_answer_with_their_own_zxid() {
    let mut w = World::new(Setup::default());
    let (c, response) = w.connect(0);
    assert_eq!((response.timeout_ms, response.read_only), (10_000, Some(false)));
    assert_eq!(response.session.0 >> 56, 1, "server id in the top byte");
    let xid = w.create(c, "/a", "x", 0);
    w.settle();
    let mut path = Vec::new();
    path.put_string("/a");
    assert_eq!(w.take(c), [Frame::Reply { xid, zxid: 2, err: 0, body: path }]);
    let again = w.create(c, "/a", "x", 0);
    let get = w.get(c, "/a", false);
    w.settle();
    // The failure takes a zxid, and the read behind it shows it.
    assert_eq!(w.replies(c), [(again, 3, -110), (get, 3, 0)]);
}

#[test]
fn reads_pipelined_behind_writes_see_exactly_the_write_before_them_a4() {
    let mut w = World::new(Setup::default());
    let (c, _) = w.connect(0);
    w.create(c, "/a", "0", 0);
    w.settle();
    w.take(c);
    for i in 1..=50 {
        w.set(c, "/a", &i.to_string());
        w.get(c, "/a", false);
    }
    w.request_as(c, -2, OpCode::Ping as i32, |_| ());
    w.settle();
    let frames = w.take(c);
    assert_eq!(frames.len(), 101);
    for i in 0..50 {
        assert_eq!(data_of(&frames[2 * i + 1]), (i + 1).to_string());
        let zxid = |f: &Frame| if let Frame::Reply { zxid, .. } = f { *zxid } else { 0 };
        assert_eq!(zxid(&frames[2 * i]), zxid(&frames[2 * i + 1]), "the read is served at the write's zxid");
    }
    assert!(matches!(frames[100], Frame::Reply { xid: -2, err: 0, .. }));
    assert!(w.disk.syncs < 10, "pipelined writes share flushes: {}", w.disk.syncs);
}

#[test]
fn nothing_is_answered_before_the_flush_completes_p2() {
    let mut w = World::new(Setup::default());
    let (c, _) = w.connect(0);
    w.create(c, "/a", "", 0);
    w.deliver(c, usize::MAX);
    w.replica_step(usize::MAX);
    w.shard_step(0);
    assert_eq!(w.take(c), []);
    let (other, _) = (w.open(0), ());
    let mut bytes = Vec::new();
    new_session().write_frame(&mut bytes);
    w.send(other, &bytes);
    assert!(w.disk_step());
    w.shard_step(0);
    assert_eq!(w.replies(c), [(1, 2, 0)]);
}

#[test]
fn a_write_acknowledged_on_one_shard_is_read_on_another_promise_3() {
    let mut w = World::new(Setup { shards: 2, ..Setup::default() });
    let ((a, _), (b, _)) = (w.connect(0), w.connect(1));
    w.create(a, "/a", "1", 0);
    w.deliver(a, usize::MAX);
    w.replica_step(usize::MAX);
    while w.disk_step() {}
    w.shard_step(0);
    assert_eq!(w.replies(a).len(), 1, "acknowledged on shard 0, shard 1 has not run");
    w.get(b, "/a", false);
    w.deliver(b, usize::MAX);
    assert_eq!(data_of(&w.take(b)[0]), "1");
}

#[test]
fn nothing_is_shown_before_applied_has_moved_a2() {
    let mut w = World::new(Setup { shards: 2, ..Setup::default() });
    let ((a, _), (b, _)) = (w.connect(0), w.connect(1));
    w.look_before_applied = true;
    w.request(b, OpCode::AddWatch, |r| {
        r.put_string("/a");
        r.put_i32(0);
    });
    w.settle();
    for _ in 0..3 {
        w.create(a, "/a", "", 0);
        w.delete(a, "/a");
    }
    w.settle();
    assert_eq!(w.replies(a).len(), 6);
    assert_eq!(w.take(b).len(), 7);
}

#[test]
fn an_event_arrives_before_its_cause_can_be_read_p10() {
    let mut w = World::new(Setup { shards: 2, ..Setup::default() });
    let ((a, _), (b, _)) = (w.connect(0), w.connect(1));
    w.create(a, "/a", "1", 0);
    w.settle();
    w.take(a);
    w.get(b, "/a", true);
    w.get(a, "/a", true);
    w.settle();
    w.take(a);
    w.take(b);
    w.set(a, "/a", "2");
    w.get(b, "/a", false);
    w.deliver(a, usize::MAX);
    w.replica_step(usize::MAX);
    while w.disk_step() {}
    // Shard 1 serves the read before it was woken: the event comes first all the same.
    w.deliver(b, usize::MAX);
    let frames = w.take(b);
    assert_eq!(frames[0], event(4, 3, "/a"));
    assert_eq!(data_of(&frames[1]), "2");
    w.settle();
    let frames = w.take(a);
    assert_eq!(frames[0], event(4, 3, "/a"), "also on the writer's own connection, before its reply");
    assert!(matches!(frames[1], Frame::Reply { err: 0, zxid: 4, .. }));
    w.set(a, "/a", "3");
    w.settle();
    assert_eq!(w.take(b), [], "a standard watch fires once");
}

#[test]
fn a_parked_shard_is_woken_for_its_watches_only_a8() {
    let mut w = World::new(Setup { shards: 2, ..Setup::default() });
    let ((a, _), (b, _)) = (w.connect(0), w.connect(1));
    w.read(b, OpCode::Exists, "/watched", true);
    w.settle();
    w.take(b);
    let position = w.shards[1].shard.bell().consumed();
    w.create(a, "/other", "", 0);
    w.settle();
    assert_eq!(w.shards[1].shard.bell().consumed(), position, "nothing there concerns shard 1");
    w.create(a, "/watched", "", 0);
    w.settle();
    assert_eq!(w.take(b), [event(4, 1, "/watched")]);
}

#[test]
fn persistent_and_recursive_watches_fire_in_zookeepers_order() {
    let mut w = World::new(Setup { shards: 2, ..Setup::default() });
    let ((a, _), (b, _)) = (w.connect(0), w.connect(1));
    w.create(a, "/p", "", 0);
    w.delete(a, "/p");
    for mode in [0, 1] {
        w.request(b, OpCode::AddWatch, |r| {
            r.put_string("/p");
            r.put_i32(mode);
        });
    }
    w.read(b, OpCode::Exists, "/p", true);
    w.settle();
    let frames = w.take(b);
    assert!(matches!(&frames[0], Frame::Reply { err: 0, body, .. } if body == &[0; 4]));
    let first = driver::applied(&mut w).as_i64();
    w.create(a, "/p", "", 0);
    w.create(a, "/p/x", "", 0);
    w.set(a, "/p", "1");
    w.delete(a, "/p/x");
    w.delete(a, "/p");
    w.settle();
    let want = [(1, 1, "/p"), (2, 1, "/p/x"), (2, 4, "/p"), (3, 3, "/p"), (4, 2, "/p/x"), (4, 4, "/p"), (5, 2, "/p")];
    let want: Vec<Frame> = want.iter().map(|(step, kind, path)| event(first + step, *kind, path)).collect();
    assert_eq!(w.take(b), want);
}

#[test]
fn a_watch_is_spent_but_silent_for_who_may_not_read_s5() {
    let mut w = World::new(Setup { shards: 2, ..Setup::default() });
    let ((a, _), (b, _)) = (w.connect(0), w.connect(1));
    w.request_as(a, -4, OpCode::Auth as i32, |r| {
        r.put_i32(0);
        r.put_string("digest");
        r.put_string("u:p");
    });
    w.read(b, OpCode::Exists, "/secret", true);
    w.settle();
    w.take(b);
    w.request(a, OpCode::Create, |r| {
        r.put_string("/secret");
        r.put_string("");
        r.put_i32(1);
        r.put_i32(31);
        r.put_string("auth");
        r.put_string("");
        r.put_i32(0);
    });
    w.settle();
    assert_eq!(w.replies(a), [(-4, 0, 0), (1, 3, 0)]);
    assert_eq!(w.take(b), []);
    assert_eq!(w.shards[1].shard.report(w.now, w.wall(), Detail::ALL).watch_count, 0);
    w.get(b, "/secret", true);
    w.settle();
    assert_eq!(w.replies(b), [(2, 3, -102)]);
    assert_eq!(w.shards[1].shard.report(w.now, w.wall(), Detail::ALL).watch_count, 0, "a refused read registers nothing");
}

#[test]
fn set_watches_replays_what_was_missed_and_registers_the_rest() {
    let mut w = World::new(Setup::default());
    let (c, response) = w.connect(0);
    for path in ["/old", "/changed", "/parent", "/appeared"] {
        w.create(c, path, "", 0);
    }
    w.settle();
    let seen = driver::applied(&mut w).as_i64();
    w.set(c, "/changed", "1");
    w.create(c, "/parent/child", "", 0);
    w.settle();
    w.take(c);
    w.hang_up(c);
    let (d, _) = w.connect_with(0, &again(&response));
    w.request_as(d, -8, OpCode::SetWatches2 as i32, |r| {
        r.put_i64(seen);
        let lists: [&[&str]; 5] = [&["/old", "/changed", "/gone"], &["/appeared", "/absent"], &["/parent", "/old"], &["/pp"], &["/rr"]];
        for list in lists {
            r.put_len(list.len());
            list.iter().for_each(|path| r.put_string(path));
        }
    });
    w.settle();
    let now = driver::applied(&mut w).as_i64();
    let want = [
        event(-1, 3, "/changed"),
        event(-1, 2, "/gone"),
        event(-1, 1, "/appeared"),
        event(-1, 4, "/parent"),
        Frame::Reply { xid: -8, zxid: now, err: 0, body: vec![] },
    ];
    assert_eq!(w.take(d), want);
    for (path, kind) in [("/old", 3), ("/absent", 1), ("/pp", 1), ("/rr", 1)] {
        if kind == 3 {
            w.set(d, path, "2");
        } else {
            w.create(d, path, "", 0);
        }
        w.settle();
        let frames = w.take(d);
        assert!(matches!(&frames[0], Frame::Event { kind: k, path: p, .. } if *k == kind && p == path), "{path}: {frames:?}");
    }
}

#[test]
fn check_and_remove_watches_answer_as_zookeeper() {
    let mut w = World::new(Setup::default());
    let (c, _) = w.connect(0);
    w.read(c, OpCode::Exists, "/a", true);
    w.request(c, OpCode::AddWatch, |r| {
        r.put_string("/b");
        r.put_i32(0);
    });
    w.settle();
    w.take(c);
    let kinds = [
        (OpCode::CheckWatches, "/a", 2, 0),
        (OpCode::CheckWatches, "/a", 1, -121),
        (OpCode::CheckWatches, "/b", 2, -121),
        (OpCode::CheckWatches, "/b", 3, 0),
        (OpCode::CheckWatches, "/b", 4, 0),
        (OpCode::CheckWatches, "/b", 5, -121),
        (OpCode::CheckWatches, "/b", 6, -5),
        (OpCode::RemoveWatches, "/b", 1, -121),
        (OpCode::RemoveWatches, "/b", 4, 0),
        (OpCode::RemoveWatches, "/b", 3, -121),
        (OpCode::RemoveWatches, "/a", 3, 0),
        (OpCode::RemoveWatches, "/a", 0, -5),
    ];
    for (op, path, kind, _) in kinds {
        w.request(c, op, |r| {
            r.put_string(path);
            r.put_i32(kind);
        });
    }
    w.settle();
    let got: Vec<i32> = w.replies(c).iter().map(|r| r.2).collect();
    assert_eq!(got, kinds.map(|k| k.3));
    assert_eq!(w.shards[0].shard.report(w.now, w.wall(), Detail::ALL).watch_count, 0);
}

/// One operation of a multi: its code and what writes its body.
type Part<'a> = (OpCode, &'a dyn Fn(&mut Vec<u8>));

fn multi(parts: &[Part<'_>]) -> impl FnOnce(&mut Vec<u8>) {
    let mut body = Vec::new();
    for (op, part) in parts {
        body.put_i32(*op as i32);
        body.put_bool(false);
        body.put_i32(-1);
        part(&mut body);
    }
    body.put_i32(-1);
    body.put_bool(true);
    body.put_i32(-1);
    move |out| out.put_raw(&body)
}

#[test]
fn a_multi_is_seen_whole_or_not_at_all_p11() {
    let mut w = World::new(Setup { shards: 2, ..Setup::default() });
    let ((a, _), (b, _)) = (w.connect(0), w.connect(1));
    w.request(b, OpCode::AddWatch, |r| {
        r.put_string("/");
        r.put_i32(1);
    });
    w.settle();
    w.take(b);
    let create = |path: &'static str| move |r: &mut Vec<u8>| put_create(r, path, "", 0);
    let check = |r: &mut Vec<u8>| {
        r.put_string("/m");
        r.put_i32(7);
    };
    w.request(a, OpCode::Multi, multi(&[(OpCode::Create, &create("/m")), (OpCode::Check, &check)]));
    w.request(a, OpCode::Multi, multi(&[(OpCode::Create, &create("/m")), (OpCode::Create, &create("/m/x"))]));
    w.settle();
    let replies = w.replies(a);
    assert_eq!(replies, [(1, 3, 0), (2, 4, 0)]);
    assert_eq!(w.take(b), [event(4, 1, "/m"), event(4, 1, "/m/x")], "a failed multi fires nothing");
}

#[test]
fn an_undecodable_multi_takes_a_zxid_and_other_writes_do_not() {
    let mut w = World::new(Setup::default());
    let (c, _) = w.connect(0);
    w.request(c, OpCode::SetData, |r| r.put_i32(1000));
    w.request(c, OpCode::Multi, |r| r.put_i32(14));
    w.request(c, OpCode::Create, |r| r.put_i32(-1));
    w.create(c, "/ok", "", 0);
    w.settle();
    assert_eq!(w.replies(c), [(1, 1, -5), (2, 2, -5), (3, 2, -5), (4, 3, 0)], "in session order");
}

#[test]
fn a_multi_longer_than_the_limit_is_refused_as_undecodable() {
    let mut setup = Setup::default();
    setup.shard.multi_ops_max = 2;
    let mut w = World::new(setup);
    let (c, _) = w.connect(0);
    let create = |path: &'static str| move |r: &mut Vec<u8>| put_create(r, path, "", 0);
    w.request(
        c,
        OpCode::Multi,
        multi(&[(OpCode::Create, &create("/a")), (OpCode::Create, &create("/b")), (OpCode::Create, &create("/c"))]),
    );
    w.request(c, OpCode::Multi, multi(&[(OpCode::Create, &create("/a")), (OpCode::Create, &create("/b"))]));
    w.settle();
    assert_eq!(w.replies(c), [(1, 2, -5), (2, 3, 0)]);
}

#[test]
fn unknown_and_refused_operations_are_answered_in_turn_then_closed() {
    for op in [0, 10, 13, 20, -10, -1, 108, 999] {
        let mut w = World::new(Setup::default());
        let (c, _) = w.connect(0);
        w.create(c, "/a", "", 0);
        w.request_as(c, 9, op, |r| r.put_string("/a"));
        w.get(c, "/a", false);
        w.settle();
        assert_eq!(w.replies(c), [(1, 2, 0), (9, -1, -6)], "op {op}");
        assert!(w.clients[c].closed);
    }
}

#[test]
fn garbage_costs_its_own_connection_only_p6() {
    let garbage: [&[u8]; 6] =
        [b"xxxx", &(-1i32).to_be_bytes(), &0x0010_0000i32.to_be_bytes(), b"\0\0\0\x04\0\0\0\0", b"\0\0\0\0", b"\xff\xf4\xff\xfd"];
    let mut w = World::new(Setup::default());
    let (good, _) = w.connect(0);
    for bytes in garbage {
        let fresh = w.open(0);
        w.send(fresh, bytes);
        w.settle();
        assert!(w.clients[fresh].closed && w.clients[fresh].received.is_empty(), "{bytes:?}");
    }
    for bytes in [&b"\0\0\0\x07\0\0\0\0\0\0\0"[..], b"ruok", &(-5i32).to_be_bytes(), b"\0\0\0\0", b"\0\0\0\x01\0"] {
        let (c, _) = w.connect(0);
        w.send(c, bytes);
        w.settle();
        assert!(w.clients[c].closed && w.clients[c].received.is_empty(), "{bytes:?}");
    }
    w.create(good, "/a", "", 0);
    w.settle();
    assert_eq!(w.replies(good).len(), 1);
}

#[test]
fn four_letter_words_reach_admin_in_pieces() {
    let mut w = World::new(Setup::default());
    let c = w.open(0);
    w.send(c, b"ru");
    w.settle();
    assert!(!w.clients[c].closed);
    w.send(c, b"ok");
    w.settle();
    assert_eq!((w.clients[c].words.clone(), w.clients[c].received.clone()), (vec![*b"ruok"], b"imok".to_vec()));
    assert!(w.clients[c].closed);
    assert_eq!(w.shards[0].shard.report(w.now, w.wall(), Detail::ALL).packets_received, 1, "a word is a packet");
}

#[test]
fn requests_pipelined_behind_the_connect_frame_are_served() {
    let mut w = World::new(Setup::default());
    let c = w.open(0);
    let mut bytes = Vec::new();
    ConnectRequest { has_read_only: false, ..new_session() }.write_frame(&mut bytes);
    bytes.extend(frame(1, OpCode::Create as i32, |b| put_create(b, "/a", "x", 0)));
    bytes.extend(frame(2, OpCode::GetData as i32, |b| {
        b.put_string("/a");
        b.put_bool(false);
    }));
    for piece in bytes.chunks(5) {
        w.send(c, piece);
        w.settle();
    }
    let frames = w.take(c);
    assert!(matches!(&frames[0], Frame::Connected(r) if r.read_only.is_none() && r.timeout_ms == 10_000));
    assert_eq!(data_of(&frames[2]), "x");
}

#[test]
fn a_client_that_has_seen_more_is_turned_away_p8() {
    let mut w = World::new(Setup::default());
    let c = w.open(0);
    let mut bytes = Vec::new();
    ConnectRequest { last_zxid_seen: 1, ..new_session() }.write_frame(&mut bytes);
    w.send(c, &bytes);
    w.settle();
    assert!(w.clients[c].closed && w.clients[c].received.is_empty());
}

#[test]
fn a_half_open_connection_is_closed() {
    let mut w = World::new(Setup::default());
    let c = w.open(0);
    w.send(c, b"\0\0\0\x2d\0");
    w.pass(9_900);
    assert!(!w.clients[c].closed);
    w.pass(10_200);
    assert!(w.clients[c].closed);
}

#[test]
fn the_timeout_is_negotiated_on_every_connect() {
    let mut w = World::new(Setup::default());
    let (c, response) = w.connect_with(0, &ConnectRequest { timeout_ms: 1000, ..new_session() });
    assert_eq!(response.timeout_ms, 4000);
    w.hang_up(c);
    let (_, response) = w.connect_with(0, &ConnectRequest { timeout_ms: i32::MAX, ..again(&response) });
    assert_eq!(response.timeout_ms, 40_000);
}

#[test]
fn a_session_moves_and_the_older_connection_is_cut_a16() {
    let mut w = World::new(Setup { shards: 2, ..Setup::default() });
    let (a, response) = w.connect(0);
    w.create(a, "/eph", "", 1);
    w.settle();
    w.take(a);
    // A write of the old connection that reaches the replica after the move is dropped unanswered.
    let b = w.open(1);
    let mut bytes = Vec::new();
    again(&response).write_frame(&mut bytes);
    w.send(b, &bytes);
    w.deliver(b, usize::MAX);
    w.replica_step(usize::MAX);
    w.create(a, "/late", "", 0);
    w.deliver(a, usize::MAX);
    w.settle();
    assert!(w.clients[a].closed);
    assert_eq!(w.take(a), []);
    assert!(matches!(&w.take(b)[..], [Frame::Connected(r)] if r.session == response.session));
    w.read(b, OpCode::Exists, "/late", false);
    w.read(b, OpCode::Exists, "/eph", false);
    w.settle();
    assert_eq!(w.replies(b).iter().map(|r| r.2).collect::<Vec<_>>(), [-101, 0]);
}

#[test]
fn the_password_is_checked_before_anything_happens_s6() {
    let mut w = World::new(Setup::default());
    let (a, response) = w.connect(0);
    for request in [
        ConnectRequest { password: vec![1; 16], ..again(&response) },
        ConnectRequest { password: vec![], ..again(&response) },
        ConnectRequest { session: SessionId(response.session.0 + 1), ..again(&response) },
    ] {
        let (b, refused) = w.connect_with(0, &request);
        assert_eq!((refused.timeout_ms, refused.session, refused.password), (0, SessionId::NONE, [0; 16]));
        assert!(w.clients[b].closed);
    }
    w.create(a, "/still", "", 0);
    w.settle();
    assert_eq!(w.replies(a).len(), 1, "the live connection is untouched");
}

#[test]
fn close_session_deletes_ephemerals_answers_then_closes() {
    let mut w = World::new(Setup { shards: 2, ..Setup::default() });
    let ((a, response), (b, _)) = (w.connect(0), w.connect(1));
    w.create(a, "/eph", "", 1);
    w.get(a, "/eph", true);
    w.settle();
    w.take(a);
    w.read(b, OpCode::Exists, "/eph", true);
    w.settle();
    w.take(b);
    let xid = w.request(a, OpCode::CloseSession, |_| ());
    w.get(a, "/", false);
    w.settle();
    let zxid = driver::applied(&mut w).as_i64();
    assert_eq!(w.take(a), [event(zxid, 2, "/eph"), Frame::Reply { xid, zxid, err: 0, body: vec![] }], "and nothing after it");
    assert!(w.clients[a].closed);
    assert_eq!(w.take(b), [event(zxid, 2, "/eph")]);
    let (_, refused) = w.connect_with(0, &again(&response));
    assert_eq!(refused.timeout_ms, 0);
}

#[test]
fn a_silent_session_expires_and_a_pinging_one_does_not_p13() {
    let mut w = World::new(Setup { shards: 2, ..Setup::default() });
    let ((silent, _), (lively, _)) = (w.connect(0), w.connect(1));
    w.create(silent, "/eph", "", 1);
    w.settle();
    w.take(silent);
    for _ in 0..9 {
        w.pass(1000);
        w.request_as(lively, -2, OpCode::Ping as i32, |_| ());
        w.settle();
    }
    assert!(!w.clients[silent].closed);
    for _ in 0..6 {
        w.pass(1000);
        w.request_as(lively, -2, OpCode::Ping as i32, |_| ());
        w.settle();
    }
    assert!(w.clients[silent].closed, "between timeout and timeout + tick, plus the question to its shard");
    assert_eq!(w.take(silent), [], "closed without a packet");
    assert!(!w.clients[lively].closed);
    w.read(lively, OpCode::Exists, "/eph", false);
    w.settle();
    assert_eq!(w.replies(lively).last().map(|r| r.2), Some(-101));
}

#[test]
fn sessions_that_are_due_together_end_in_steps_so_that_requests_get_their_turn() {
    let mut w = World::new(Setup::default());
    for _ in 0..100 {
        let (c, _) = w.connect(0);
        w.hang_up(c);
    }
    w.settle();
    let open = |w: &World| w.replica.report(w.now).sessions.len();
    for _ in 0..60 {
        if open(&w) < 100 {
            break;
        }
        w.now = w.now.plus_ms(1000);
        w.timers();
    }
    assert!((80..100).contains(&open(&w)), "{} left after the first step", open(&w));
    assert!(w.replica.poll_timeout().is_some_and(|at| at <= w.now), "the rest is due at once");
    w.pass(50 * 100);
    assert_eq!(open(&w), 0);
}

#[test]
fn a_disconnected_session_lives_until_its_timeout() {
    let mut w = World::new(Setup::default());
    let (a, response) = w.connect(0);
    w.hang_up(a);
    w.pass(9_000);
    let (b, back) = w.connect_with(0, &again(&response));
    assert_eq!(back.session, response.session);
    w.hang_up(b);
    w.pass(13_000);
    let (_, refused) = w.connect_with(0, &again(&response));
    assert_eq!(refused.timeout_ms, 0);
}

#[test]
fn a_connection_we_pause_counts_as_alive_a17() {
    let mut setup = Setup::default();
    setup.shard.out_buffer_bytes_max = 4000;
    let mut w = World::new(setup);
    let (c, _) = w.connect(0);
    w.create(c, "/big", &"x".repeat(3000), 0);
    w.settle();
    w.clients[c].deaf = true;
    w.get(c, "/big", false);
    w.settle();
    assert!(w.clients[c].paused, "above half of its output buffer");
    for _ in 0..7 {
        w.pass(9_000);
        assert!(!w.clients[c].closed, "we did not read its pings, but it takes what it is sent");
        w.sip(c);
    }
    w.listen(c);
    w.settle();
    assert!(!w.clients[c].paused);
    assert_eq!(w.replies(c).len(), 2);
}

#[test]
fn a_client_that_never_reads_is_paused_then_closed_s2() {
    let mut setup = Setup::default();
    setup.shard.out_buffer_bytes_max = 10_000;
    let mut w = World::new(setup);
    let ((c, _), (writer, _), (quiet, _)) = (w.connect(0), w.connect(0), w.connect(0));
    w.create(writer, "/big", &"x".repeat(9000), 0);
    w.settle();
    w.take(writer);
    w.clients[c].deaf = true;
    w.request(c, OpCode::AddWatch, |r| {
        r.put_string("/big");
        r.put_i32(0);
    });
    w.get(c, "/big", false);
    for _ in 0..100 {
        w.get(c, "/big", false);
    }
    w.clients[quiet].deaf = true;
    w.get(quiet, "/big", false);
    w.settle();
    assert!(w.clients[c].paused && w.clients[quiet].paused);
    assert!(w.shards[0].shard.output(w.clients[c].conn).len() < 20_000, "requests it sends without reading are not served");
    for i in 0..200 {
        w.set(writer, "/big", &i.to_string());
    }
    w.settle();
    assert_eq!(w.replies(writer).len(), 200, "a slow reader holds up nobody");
    w.pass(10_100);
    assert!(w.clients[c].closed, "its events fill the buffer and it takes none");
    assert!(w.clients[quiet].closed, "nothing fires, but it takes nothing either");
}

#[test]
fn a_full_queue_to_the_replica_holds_connections_back_and_loses_nothing() {
    let mut w = World::new(Setup { inbox_len: 4, shards: 2, ..Setup::default() });
    let clients: Vec<usize> = (0..6).map(|i| w.connect(i % 2).0).collect();
    for c in &clients {
        for i in 0..50 {
            w.create(*c, &format!("/{c}-{i}"), "", 0);
            w.read(*c, OpCode::Exists, &format!("/{c}-{i}"), false);
        }
    }
    for c in &clients {
        while w.deliver(*c, usize::MAX) {}
    }
    assert!(clients.iter().any(|c| w.clients[*c].paused));
    let late = w.open(0);
    let mut bytes = Vec::new();
    new_session().write_frame(&mut bytes);
    w.send(late, &bytes);
    w.hang_up(clients[0]);
    w.settle();
    assert!(matches!(&w.take(late)[..], [Frame::Connected(_)]));
    for c in &clients[1..] {
        let replies = w.replies(*c);
        assert_eq!(replies.len(), 100);
        assert!(replies.iter().enumerate().all(|(i, r)| r.0 == i as i32 + 1 && r.2 == 0), "{replies:?}");
    }
}

#[test]
fn one_session_cannot_have_more_outstanding_than_its_share() {
    let mut setup = Setup::default();
    setup.shard.session_outstanding_max = 10;
    let mut w = World::new(setup);
    let (c, _) = w.connect(0);
    for i in 0..100 {
        w.create(c, &format!("/{i}"), "", 0);
    }
    while w.deliver(c, usize::MAX) {}
    assert!(w.clients[c].paused);
    assert_eq!(w.shards[0].shard.report(w.now, w.wall(), Detail::ALL).connections[0].queued, 10);
    w.settle();
    assert_eq!(w.replies(c).len(), 100);
    assert!(!w.clients[c].paused);
}

#[test]
fn sync_and_get_ephemerals_answer_in_order_with_writes() {
    let mut w = World::new(Setup::default());
    let (c, _) = w.connect(0);
    w.create(c, "/e2", "", 1);
    w.create(c, "/e1", "", 1);
    let sync = w.request(c, OpCode::Sync, |r| r.put_string("/nowhere"));
    let list = w.request(c, OpCode::GetEphemerals, |r| r.put_string("/"));
    w.get(c, "/e1", false);
    w.settle();
    let frames = w.take(c);
    let mut path = Vec::new();
    path.put_string("/nowhere");
    let mut paths = Vec::new();
    paths.put_len(2);
    paths.put_string("/e1");
    paths.put_string("/e2");
    assert_eq!(frames[2], Frame::Reply { xid: sync, zxid: 3, err: 0, body: path });
    assert_eq!(frames[3], Frame::Reply { xid: list, zxid: 3, err: 0, body: paths });
    assert!(matches!(frames[4], Frame::Reply { err: 0, .. }));
    // With nothing outstanding there is no flush to wait for.
    let syncs = w.disk.syncs;
    w.request(c, OpCode::Sync, |r| r.put_string("/"));
    w.settle();
    assert_eq!((w.replies(c).len(), w.disk.syncs), (1, syncs));
}

#[test]
fn who_am_i_and_auth_packets() {
    let mut w = World::new(Setup::default());
    let (c, _) = w.connect(0);
    w.create(c, "/a", "", 0);
    let auth = |r: &mut Vec<u8>| {
        r.put_i32(0);
        r.put_string("digest");
        r.put_string("u:p");
    };
    // The auth reply overtakes the write; the identity counts for what comes behind it.
    w.request(c, OpCode::WhoAmI, |_| ());
    w.request_as(c, -4, OpCode::Auth as i32, auth);
    w.request(c, OpCode::WhoAmI, |_| ());
    w.settle();
    let frames = w.take(c);
    assert_eq!(frames[0], Frame::Reply { xid: -4, zxid: 0, err: 0, body: vec![] });
    let count = |f: &Frame| if let Frame::Reply { body, .. } = f { body[3] } else { 0 };
    assert_eq!((count(&frames[2]), count(&frames[3])), (1, 2));
    w.request_as(c, -4, OpCode::Auth as i32, |r| {
        r.put_i32(0);
        r.put_string("nonesuch");
        r.put_string("u:p");
    });
    w.settle();
    assert_eq!(w.replies(c), [(-4, 0, -115)]);
    assert!(w.clients[c].closed);
    assert_eq!(w.shards[0].shard.report(w.now, w.wall(), Detail::ALL).auth_failed, 1);
}

#[test]
fn one_connection_cannot_collect_identities_without_end_s2() {
    let mut w = World::new(Setup::default());
    let (c, _) = w.connect(0);
    for i in 0..300 {
        w.request_as(c, -4, OpCode::Auth as i32, |r| {
            r.put_i32(0);
            r.put_string("digest");
            r.put_string(&format!("u{i}:p"));
        });
    }
    w.settle();
    assert_eq!(w.replies(c).last(), Some(&(-4, 0, -115)));
    assert!(w.clients[c].closed);
}

#[test]
fn the_log_rolls_and_a_snapshot_is_taken_at_a_committed_zxid() {
    let mut setup = Setup::default();
    setup.replica.snap_count = 20;
    let mut w = World::new(setup);
    let (c, _) = w.connect(0);
    for i in 0..100 {
        w.create(c, &format!("/{i}"), "", 0);
        if i % 7 == 0 {
            w.settle();
        }
    }
    w.settle();
    assert_eq!(w.snapshots.len(), 1, "one at a time");
    assert!(w.disk.opened >= 4, "rolled {} times", w.disk.opened);
    let zxid = w.snapshots[0].zxid();
    assert!(zxid <= driver::applied(&mut w));
    w.input(zoo::replica::Input::SnapshotDone { zxid, ok: true });
    for i in 100..140 {
        w.create(c, &format!("/{i}"), "", 0);
    }
    w.settle();
    assert_eq!(w.snapshots.len(), 2);
    let report = w.replica.report(w.now);
    assert_eq!((report.snapshots_taken, report.last_snapshot.map(|s| s.0)), (1, Some(zxid)));
}

#[test]
fn expired_ttl_nodes_and_used_containers_are_removed() {
    let mut setup = Setup::default();
    setup.tree.extended_types = true;
    let mut w = World::new(setup);
    let (c, _) = w.connect(0);
    w.request(c, OpCode::CreateContainer, |b| put_create(b, "/c", "", 4));
    w.create(c, "/c/x", "", 0);
    w.delete(c, "/c/x");
    w.request(c, OpCode::CreateTtl, |b| {
        put_create(b, "/ttl", "", 5);
        b.put_i64(1000);
    });
    w.read(c, OpCode::Exists, "/c", true);
    w.settle();
    assert!(w.replies(c).iter().all(|r| r.2 == 0));
    for _ in 0..13 {
        w.pass(5000);
        w.request_as(c, -2, OpCode::Ping as i32, |_| ());
        w.settle();
    }
    let events: Vec<Frame> = w.take(c).into_iter().filter(|f| matches!(f, Frame::Event { .. })).collect();
    assert!(matches!(&events[..], [Frame::Event { kind: 2, path, .. }] if path == "/c"), "{events:?}");
    w.read(c, OpCode::Exists, "/ttl", false);
    w.settle();
    assert_eq!(w.replies(c).last().map(|r| r.2), Some(-101));
}

#[test]
fn a_clean_stop_flushes_answers_and_closes_the_log() {
    let mut w = World::new(Setup::default());
    let (c, _) = w.connect(0);
    w.create(c, "/a", "", 0);
    w.deliver(c, usize::MAX);
    w.replica_step(usize::MAX);
    w.input(zoo::replica::Input::Stop);
    assert!(!w.stopped && !w.replica.admits());
    w.create(c, "/b", "", 0);
    w.settle();
    assert!(w.stopped);
    assert_eq!(w.replies(c).len(), 1, "what was appended is answered, what came later is not");
    assert_eq!((w.disk.opened, w.disk.closed), (1, 1));
}

#[test]
fn reports_count_what_happened() {
    let mut w = World::new(Setup::default());
    let (c, response) = w.connect(0);
    w.create(c, "/a", "", 0);
    w.get(c, "/a", true);
    w.settle();
    let report = w.shards[0].shard.report(w.now, w.wall(), Detail::ALL);
    assert_eq!((report.packets_received, report.packets_sent, report.watch_count), (3, 3, 1));
    assert_eq!(report.watches, [("/a".to_string(), vec![response.session])]);
    let conn = &report.connections[0];
    assert_eq!((conn.session, conn.last_op, conn.last_cxid, conn.last_zxid), (Some(response.session), "GETD", 2, 2));
    let replica = w.replica.report(w.now);
    assert_eq!((replica.last_zxid.0, replica.outstanding, replica.sessions.len()), (2, 0, 1));
}

#[test]
fn when_the_counter_is_used_up_history_goes_on_in_the_next_epoch_b7() {
    let setup = Setup::default();
    let mut tree = Tree::new(setup.tree.clone());
    let last = Zxid::new(0, u32::MAX - 2);
    let header = TxnHeader { session: SessionId::NONE, cxid: Xid(0), zxid: last, time: WallTime(0), kind: TxnType::Error as i32 };
    tree.apply(&header, &Txn::Error { code: -101 });
    tree.commit(last);
    let mut w = World::over(setup, tree);
    let (c, _) = w.connect(0);
    for i in 0..3 {
        w.create(c, &format!("/{i}"), "", 0);
    }
    w.settle();
    let zxids: Vec<i64> = w.replies(c).iter().map(|r| r.1).collect();
    assert_eq!(zxids, [0xffff_ffff, 0x1_0000_0001, 0x1_0000_0002]);
}

#[test]
fn the_newest_connection_keeps_the_session_whichever_message_comes_first_l16() {
    let mut w = World::new(Setup { shards: 2, ..Setup::default() });
    let (first, response) = w.connect(0);
    w.hang_up(first);
    w.settle();
    let mut bytes = Vec::new();
    again(&response).write_frame(&mut bytes);
    let older = w.open(0);
    w.now = w.now.plus_ms(1);
    let newer = w.open(1);
    for client in [newer, older] {
        w.send(client, &bytes);
        w.deliver(client, usize::MAX);
        w.replica_step(usize::MAX);
    }
    w.settle();
    assert!(w.clients[older].closed && w.take(older).is_empty());
    assert!(!w.clients[newer].closed && w.take(newer).len() == 1);
}

#[test]
fn a_request_of_an_expiring_session_fails_and_its_connection_is_cut() {
    let mut w = World::new(Setup::default());
    let (c, _) = w.connect(0);
    let before = driver::applied(&mut w).0;
    w.pass(11_950);
    w.now = w.now.plus_ms(50);
    // The replica asks, the shard answers after its socket was read: silent for too long.
    w.timers();
    w.shard_step(0);
    w.replica_step(usize::MAX);
    w.create(c, "/late", "", 0);
    w.deliver(c, usize::MAX);
    w.settle();
    assert!(w.clients[c].closed);
    assert_eq!(w.take(c), [], "closed without a packet");
    assert_eq!(driver::applied(&mut w).0, before + 2, "the end of the session, and an error in the late request's place");
    let (d, _) = w.connect(0);
    w.read(d, OpCode::Exists, "/late", false);
    w.settle();
    assert_eq!(w.replies(d)[0].2, -101);
}

#[test]
fn bytes_that_wait_unread_in_a_socket_keep_a_session_alive_a17() {
    let mut w = World::new(Setup { shards: 2, ..Setup::default() });
    let ((c, _), (silent, _)) = (w.connect(1), w.connect(1));
    w.clients[c].neglected = true;
    w.clients[silent].neglected = true;
    w.request_as(c, -2, OpCode::Ping as i32, |_| ());
    w.pass(13_000);
    assert!(!w.clients[c].closed, "asked, and its socket was read before the answer");
    assert_eq!(w.replies(c).len(), 1);
    assert!(w.clients[silent].closed, "whoever is silent is found out by the same question");
    w.pass(13_000);
    assert!(w.clients[c].closed);
}

#[test]
fn admission_stops_at_the_outstanding_limit_and_everything_is_answered() {
    let mut setup = Setup::default();
    setup.replica.global_outstanding_limit = 5;
    let mut w = World::new(setup);
    let (c, _) = w.connect(0);
    for i in 0..100 {
        w.create(c, &format!("/{i}"), "", 0);
    }
    w.deliver(c, usize::MAX);
    w.replica_step(5);
    assert!(!w.replica.admits());
    assert_eq!(w.replica.report(w.now).outstanding, 5);
    w.settle();
    assert_eq!(w.replies(c).len(), 100);
}

#[test]
fn large_writes_wait_for_the_log_a22() {
    let mut setup = Setup::default();
    setup.replica.log.unsynced_bytes_max = 1;
    let mut w = World::new(setup);
    let (c, _) = w.connect(0);
    let data = "x".repeat(900_000);
    for i in 0..20 {
        w.create(c, &format!("/{i}"), &data, 0);
    }
    while w.deliver(c, usize::MAX) {}
    // More than the log takes at once is handed over in one turn: the rest waits inside the replica, in order.
    w.replica_step(usize::MAX);
    assert!(!w.replica.admits());
    w.settle();
    let replies = w.replies(c);
    assert_eq!(replies.len(), 20);
    assert!(replies.iter().enumerate().all(|(i, r)| *r == (i as i32 + 1, i as i64 + 2, 0)));
}

#[test]
fn the_largest_frame_is_served_and_one_byte_more_closes() {
    let max = zoo::base::limits::JUTE_MAX_BUFFER;
    for (extra, served) in [(0, true), (1, false)] {
        let mut w = World::new(Setup::default());
        let (c, _) = w.connect(0);
        // Header, path with its length, watch flag.
        let path = format!("/{}", "x".repeat(max - 8 - 4 - 1 - 1 + extra));
        w.read(c, OpCode::Exists, &path, false);
        w.settle();
        assert_eq!((w.replies(c).len(), w.clients[c].closed), (usize::from(served), !served));
    }
}

//! Requests from bytes to bytes through shard, replica, log and tree, without a reactor: the promises a client can see.
#![allow(missing_docs)]

mod driver;
mod limits;
mod model;
mod moves;
mod random;
mod sessions;
mod sheds;
mod turns;
mod watches;

use driver::{Frame, Setup, World, data_of, new_session, put_create};
use watches::event;
use zoo::base::{SessionId, WallTime, Writer, Xid, Zxid};
use zoo::proto::OpCode;
use zoo::record::{Txn, TxnHeader, TxnType};
use zoo::shard::Detail;
use zoo::tree::Tree;

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
fn a_connection_is_reported_by_its_last_operation() {
    let mut w = World::new(Setup::default());
    let (c, _) = w.connect(0);
    let last = |w: &mut World| {
        w.settle();
        let report = w.shards[0].shard.report(w.now, w.wall(), Detail::ALL);
        let conn = &report.connections[0];
        (conn.last_op, conn.last_cxid, conn.last_zxid, report.latency_count)
    };
    assert_eq!(last(&mut w), ("SESS", 0, 1, 1), "opening a session is one");
    w.create(c, "/a", "", 0);
    assert_eq!(last(&mut w), ("CREA", 1, 2, 2));
    w.create(c, "/a", "", 0);
    assert_eq!(last(&mut w), ("NA", 2, 3, 3), "a write that failed is not named");
    w.request_as(c, -4, OpCode::Auth as i32, |b| {
        b.put_i32(0);
        b.put_string("digest");
        b.put_string("u:p");
    });
    assert_eq!(last(&mut w), ("NA", 2, 3, 3), "an identity is no operation");
    w.get(c, "/none", false);
    assert_eq!(last(&mut w), ("GETD", 3, 3, 4), "a read that failed is named");
    w.request(c, OpCode::SetData, |_| ());
    assert_eq!(last(&mut w), ("NA", 4, 3, 5), "nor is one that cannot be decoded");
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

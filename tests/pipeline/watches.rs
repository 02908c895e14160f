//! When watches fire, and which do not.

use super::driver::{Frame, Setup, World, again, data_of};
use zoo::base::Writer;
use zoo::proto::OpCode;
use zoo::shard::Detail;

pub fn event(zxid: i64, kind: i32, path: &str) -> Frame {
    Frame::Event { zxid, kind, path: path.into() }
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
    let first = super::driver::applied(&mut w).as_i64();
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
    let seen = super::driver::applied(&mut w).as_i64();
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
    let now = super::driver::applied(&mut w).as_i64();
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

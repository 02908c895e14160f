//! Nothing takes a shard long: listings in pieces (B5), the stream and requests in turns (B2), and what a shard forwards is bounded.

use super::driver::{self, Frame, Setup, World, data_of, new_session, put_create};
use super::watches::event;
use zoo::base::{AclVec, Reader, SessionId, Stat, WallTime, Writer, Xid, Zxid};
use zoo::proto::OpCode;
use zoo::record::txn::{CreateKind, CreateTxn};
use zoo::record::{Txn, TxnHeader};
use zoo::tree::{Tree, TreeConfig};

/// A server whose `/big` has this many children, one zxid each.
fn with_children(setup: Setup, children: usize) -> World {
    let mut tree = Tree::new(TreeConfig::default());
    let mut create = |zxid: u64, path: &str| {
        let header = TxnHeader { session: SessionId(0), cxid: Xid(0), zxid: Zxid(zxid), time: WallTime(1), kind: 1 };
        let kind = CreateKind::Create { ephemeral: false };
        let txn = Txn::Create(CreateTxn { kind, path, data: None, acl: AclVec::OPEN, parent_cversion: Some(zxid as i32) });
        let _ = tree.apply(&header, &txn);
        tree.commit(Zxid(zxid));
    };
    create(1, "/big");
    for i in 0..children {
        create(2 + i as u64, &format!("/big/c{i}"));
    }
    create(2 + children as u64, "/small");
    World::over(setup, tree)
}

fn listed(body: &[u8]) -> (Vec<String>, usize) {
    let mut r = Reader::new(body);
    let mut names: Vec<String> = r.string_vec().expect("names").iter().map(str::to_owned).collect();
    names.sort();
    (names, r.remaining().len())
}

/// Delivers what one client has sent, and lets its shard work until a listing or a stream needs more than this turn.
fn deliver(w: &mut World, client: usize) {
    while w.deliver(client, usize::MAX) {}
}

#[test]
fn a_small_read_of_another_connection_is_answered_before_a_listing_of_200_000_children_has_been_sent_whole_b5() {
    const CHILDREN: usize = 200_000;
    let mut w = with_children(Setup { shards: 2, ..Setup::default() }, CHILDREN);
    let ((a, _), (b, _), (c, _)) = (w.connect(0), w.connect(0), w.connect(1));
    let at = driver::applied(&mut w).as_i64();
    let list = w.read(a, OpCode::GetChildren2, "/big", true);
    deliver(&mut w, a);
    assert_eq!(w.take(a), [], "not all in one turn");
    let (mut answered, mut longest) = (0, 0);
    while w.take(a).is_empty() {
        let before = w.clients[a].received.len();
        assert!(w.shard_step(0), "its shard has work");
        longest = longest.max(w.clients[a].received.len() - before);
        if answered < 100 {
            w.get(b, "/small", false);
            w.set(c, "/small", &answered.to_string());
            w.delete(c, &format!("/big/c{answered}"));
            w.create(c, &format!("/big/new{answered}"), "", 0);
            deliver(&mut w, b);
            deliver(&mut w, c);
            while w.replica_step(usize::MAX) | w.disk_step() {}
            assert_eq!(w.replies(b).len(), 1, "answered between two pieces");
            answered += 1;
        }
        if w.clients[a].received.len() > 4 * CHILDREN {
            break;
        }
    }
    assert_eq!(answered, 100);
    assert!(longest <= 64 << 10, "{longest} bytes in one turn");
    w.settle();
    let frames = w.take(a);
    let Frame::Reply { xid, zxid, err: 0, body } = &frames[0] else { panic!("{:?}", &frames[..1]) };
    assert_eq!((*xid, *zxid), (list, at), "as of the moment it was asked for");
    let (names, rest) = listed(body);
    let mut want: Vec<String> = (0..CHILDREN).map(|i| format!("c{i}")).collect();
    want.sort();
    assert!(names == want, "exactly the children of then");
    let stat = Stat::read(&mut Reader::new(&body[body.len() - rest..])).expect("a stat");
    assert_eq!((stat.num_children as usize, stat.pzxid), (CHILDREN, CHILDREN as i64 + 1));
    let first_change = at + 2;
    assert_eq!(frames[1..], [event(first_change, 4, "/big")], "what happened meanwhile is told behind it, once");
    assert_eq!(w.replies(c).len(), 300);
}

#[test]
fn what_a_client_sends_behind_its_listing_is_answered_behind_it_up_to_the_end_of_its_session() {
    let mut w = with_children(Setup::default(), 5000);
    let (a, _) = w.connect(0);
    w.set(a, "/small", "1");
    w.get(a, "/small", false);
    w.read(a, OpCode::GetChildren, "/big", false);
    w.read(a, OpCode::GetChildren, "/big", false);
    w.set(a, "/small", "2");
    w.get(a, "/small", false);
    w.request(a, OpCode::GetAllChildrenNumber, |r| r.put_string("/"));
    w.request(a, OpCode::CloseSession, |_| ());
    w.settle();
    let frames = w.take(a);
    let xids: Vec<i32> = frames.iter().map(|f| if let Frame::Reply { xid, err: 0, .. } = f { *xid } else { panic!("{f:?}") }).collect();
    assert_eq!(xids, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!((data_of(&frames[1]), data_of(&frames[5])), ("1".to_owned(), "2".to_owned()));
    for list in &frames[2..4] {
        let Frame::Reply { body, .. } = list else { unreachable!() };
        assert_eq!(listed(body).0.len(), 5000);
    }
    let znodes = w.replica.tree_mut().counts().znodes as i32;
    let Frame::Reply { body, .. } = &frames[6] else { unreachable!() };
    assert_eq!(Reader::new(body).i32(), Ok(znodes - 2), "all below the root, which is counted twice");
    assert!(w.clients[a].closed);
}

#[test]
fn a_long_multi_read_is_made_in_pieces_as_of_one_zxid_and_holds_up_nobody_b5() {
    const LISTS: usize = 20;
    let mut w = with_children(Setup::default(), 5000);
    let ((a, _), (b, _)) = (w.connect(0), w.connect(0));
    w.set(b, "/small", &"x".repeat(100_000));
    w.settle();
    w.take(b);
    let at = driver::applied(&mut w).as_i64();
    let part = |r: &mut Vec<u8>, op: i32, path: &str| {
        r.put_i32(op);
        r.put_bool(false);
        r.put_i32(-1);
        r.put_string(path);
        r.put_bool(false);
    };
    let asked = w.request(a, OpCode::MultiRead, |r| {
        (0..LISTS).for_each(|_| part(r, OpCode::GetChildren as i32, "/big"));
        (0..LISTS).for_each(|_| part(r, OpCode::GetData as i32, "/small"));
        part(r, OpCode::GetData as i32, "/none");
        r.put_i32(-1);
        r.put_bool(true);
        r.put_i32(-1);
    });
    deliver(&mut w, a);
    assert_eq!(w.take(a), [], "not all in one turn");
    let (mut answered, mut longest) = (0, 0);
    while answered < 50 {
        let before = w.clients[a].received.len();
        assert!(w.shard_step(0), "its shard has work");
        longest = longest.max(w.clients[a].received.len() - before);
        w.get(b, "/none", false);
        w.set(b, "/small", &answered.to_string());
        w.delete(b, &format!("/big/c{answered}"));
        deliver(&mut w, b);
        while w.replica_step(usize::MAX) | w.disk_step() {}
        answered += 1;
    }
    assert!(longest <= (64 << 10) + 110_000, "{longest} bytes in one turn");
    w.get(a, "/small", false);
    w.settle();
    assert!(w.replies(b).len() >= 100);
    let frames = w.take(a);
    let Frame::Reply { xid, zxid, err: 0, body } = &frames[0] else { panic!("{:?}", frames.len()) };
    assert_eq!((*xid, *zxid), (asked, at), "as of the moment it was asked for");
    let mut r = Reader::new(body);
    let mut head = || (r.i32(), r.bool(), r.i32());
    assert_eq!(head(), (Ok(OpCode::GetChildren as i32), Ok(false), Ok(0)));
    for n in 0..LISTS {
        assert_eq!(r.string_vec().expect("names").iter().count(), 5000, "exactly the children of then, in list {n}");
        let next = if n + 1 < LISTS { OpCode::GetChildren } else { OpCode::GetData };
        assert_eq!((r.i32(), r.bool(), r.i32()), (Ok(next as i32), Ok(false), Ok(0)));
    }
    for n in 0..LISTS {
        assert_eq!(r.buffer().map(|data| data.map(<[u8]>::len)), Ok(Some(100_000)));
        Stat::read(&mut r).expect("a stat");
        let next = if n + 1 < LISTS { (Ok(OpCode::GetData as i32), Ok(false), Ok(0)) } else { (Ok(-1), Ok(false), Ok(-101)) };
        assert_eq!((r.i32(), r.bool(), r.i32()), next);
    }
    assert_eq!((r.i32(), r.i32(), r.bool(), r.i32(), r.remaining()), (Ok(-101), Ok(-1), Ok(true), Ok(-1), &[][..]));
    assert_eq!(data_of(&frames[1]), "49", "what was asked behind it comes behind it, newer");
}

#[test]
fn a_client_that_takes_nothing_keeps_little_of_a_listing_and_not_for_ever() {
    let mut w = with_children(Setup::default(), 50_000);
    let ((a, _), (b, _)) = (w.connect(0), w.connect(0));
    w.clients[a].deaf = true;
    w.read(a, OpCode::GetChildren, "/big", false);
    w.settle();
    let conn = w.clients[a].conn;
    let kept = w.shards[0].shard.output(conn).len();
    assert!((64 << 10..96 << 10).contains(&kept), "{kept} bytes are made ahead");
    let pass = |w: &mut World, seconds: u64| {
        for _ in 0..seconds {
            w.request_as(a, -2, OpCode::Ping as i32, |_| ());
            w.request_as(b, -2, OpCode::Ping as i32, |_| ());
            w.pass(1000);
        }
    };
    pass(&mut w, 9);
    assert!(!w.clients[a].closed);
    w.sip(a);
    pass(&mut w, 5);
    assert!(!w.clients[a].closed, "it takes something");
    pass(&mut w, 10);
    assert!(w.clients[a].closed && !w.clients[b].closed, "it takes nothing for a session timeout, whatever it sends");
    assert_eq!(w.shards[0].shard.output(conn), b"", "nothing of it is left");
}

#[test]
fn too_many_listings_wait_for_each_other_and_all_come() {
    let most = zoo::base::limits::LISTINGS_MAX;
    let mut w = with_children(Setup::default(), 12_000);
    let clients: Vec<usize> = (0..most + 3).map(|_| w.connect(0).0).collect();
    for c in &clients {
        w.clients[*c].deaf = true;
        w.read(*c, OpCode::GetChildren, "/big", false);
    }
    w.settle();
    let waits = |w: &World, c: usize| w.clients[c].paused;
    assert_eq!(clients.iter().filter(|c| waits(&w, **c)).count(), 3);
    let (last, first) = (clients[most], clients[0]);
    w.listen(last);
    w.settle();
    assert_eq!(w.replies(last).len(), 0, "nothing has been made for it");
    w.listen(first);
    w.settle();
    assert_eq!((w.replies(first).len(), w.replies(last).len()), (1, 1), "one that ended made room");
    for c in clients {
        if w.clients[c].deaf {
            w.listen(c);
            w.settle();
            assert_eq!(w.replies(c).len(), 1);
        }
    }
}

#[test]
fn many_ephemerals_are_listed_in_pieces_in_order_with_writes() {
    let mut setup = Setup::default();
    setup.shard.listing_nodes_per_turn = 100;
    let mut w = World::new(setup);
    let ((a, _), (b, _)) = (w.connect(0), w.connect(0));
    for i in 0..2000 {
        w.create(a, &format!("/e{i:04}"), "", 1);
    }
    w.settle();
    w.take(a);
    w.create(a, "/e2000", "", 1);
    let list = w.request(a, OpCode::GetEphemerals, |r| r.put_string("/e1"));
    w.delete(a, "/e1000");
    w.get(a, "/e1000", false);
    deliver(&mut w, a);
    let mut between = 0;
    while w.shard_step(0) | w.replica_step(usize::MAX) | w.disk_step() {
        w.get(b, "/e0000", false);
        deliver(&mut w, b);
        between += w.replies(b).len();
    }
    assert!(between >= 20, "another connection was served {between} times meanwhile");
    w.settle();
    let frames = w.take(a);
    let Frame::Reply { xid, zxid, err: 0, body } = &frames[1] else { panic!("{:?}", frames[1]) };
    let created = if let Frame::Reply { zxid, .. } = &frames[0] { *zxid } else { 0 };
    assert_eq!((*xid, *zxid), (list, created));
    let want: Vec<String> = (1000..2000).map(|i| format!("/e{i}")).collect();
    assert_eq!(listed(body).0, want, "also the one that was deleted behind it");
    assert!(matches!(frames[3], Frame::Reply { err: -101, .. }));
}

#[test]
fn an_event_for_many_is_told_in_turns_and_nobody_reads_its_cause_before_b2_p10() {
    const WATCHERS: usize = 300;
    let mut setup = Setup { shards: 2, ..Setup::default() };
    setup.shard.turn_cost_max = 20;
    let mut w = World::new(setup);
    let (writer, _) = w.connect(1);
    w.create(writer, "/a", "1", 0);
    w.settle();
    let watchers: Vec<usize> = (0..WATCHERS).map(|_| w.connect(0).0).collect();
    for c in &watchers {
        w.get(*c, "/a", true);
    }
    w.settle();
    watchers.iter().for_each(|c| drop(w.take(*c)));
    w.set(writer, "/a", "2");
    deliver(&mut w, writer);
    while w.replica_step(usize::MAX) | w.disk_step() {}
    let told = |w: &World| watchers.iter().filter(|c| !w.clients[**c].received.is_empty()).count();
    assert!(w.shard_step(0));
    assert!((1..=20).contains(&told(&w)), "{} in one turn", told(&w));
    // One that has been told and one that has not read what the event is about.
    let (early, late) = (watchers[0], watchers[WATCHERS - 1]);
    for c in [early, late] {
        w.get(c, "/a", true);
        deliver(&mut w, c);
    }
    let zxid = driver::applied(&mut w).as_i64();
    let mut turns = 1;
    while w.shard_step(0) {
        turns += 1;
        w.replica_step(usize::MAX);
    }
    assert!(turns >= WATCHERS / 20 - 2, "{turns} turns");
    for c in &watchers {
        let frames = w.take(*c);
        assert_eq!(frames[0], event(zxid, 3, "/a"));
        assert_eq!(frames.len(), 1 + usize::from(*c == early || *c == late), "each is told once");
        assert!(frames[1..].iter().all(|f| data_of(f) == "2"));
    }
    w.set(writer, "/a", "3");
    w.settle();
    let again = watchers.iter().filter(|c| !w.clients[**c].received.is_empty()).count();
    assert_eq!(again, 2, "watches set meanwhile are those of the new data");
}

#[test]
fn the_end_of_a_session_with_many_ephemerals_is_consumed_in_turns_and_seen_whole() {
    const EPHEMERALS: usize = 1000;
    let mut setup = Setup { shards: 2, ..Setup::default() };
    setup.shard.turn_cost_max = 50;
    let mut w = World::new(setup);
    let ((owner, _), (watcher, _), (reader, _)) = (w.connect(1), w.connect(0), w.connect(0));
    w.create(owner, "/d", "", 0);
    for i in 0..EPHEMERALS {
        w.create(owner, &format!("/d/{i}"), "", 1);
    }
    w.settle();
    w.request(watcher, OpCode::AddWatch, |r| {
        r.put_string("/d");
        r.put_i32(1);
    });
    w.settle();
    w.take(watcher);
    w.request(owner, OpCode::CloseSession, |_| ());
    deliver(&mut w, owner);
    while w.replica_step(usize::MAX) | w.disk_step() {}
    let mut turns = 0;
    while w.shard_step(0) {
        turns += 1;
        if turns == 2 {
            w.read(reader, OpCode::GetChildren, "/d", false);
            deliver(&mut w, reader);
        }
        if turns > 2 && !w.clients[reader].received.is_empty() {
            break;
        }
    }
    assert!(turns >= EPHEMERALS / 50, "{turns} turns");
    let frames = w.take(reader);
    assert!(matches!(&frames[..], [Frame::Reply { err: 0, body, .. }] if body == &[0; 4]), "none is left for who may look: {frames:?}");
    w.settle();
    let frames = w.take(watcher);
    let deleted = frames.iter().filter(|f| matches!(f, Frame::Event { kind: 2, .. })).count();
    assert_eq!((deleted, frames.len()), (EPHEMERALS, EPHEMERALS));
}

#[test]
fn a_thousand_requests_of_one_connection_do_not_hold_up_another() {
    let mut setup = Setup::default();
    setup.shard.turn_cost_max = 60;
    let mut w = World::new(setup);
    let ((a, _), (b, _)) = (w.connect(0), w.connect(0));
    w.create(a, "/a", "1", 0);
    w.settle();
    w.take(a);
    for _ in 0..1000 {
        w.get(a, "/a", false);
    }
    w.deliver(a, usize::MAX);
    w.get(b, "/a", false);
    w.deliver(b, usize::MAX);
    assert_eq!(w.replies(b).len(), 1);
    assert!(w.replies(a).len() < 100 && w.clients[a].paused);
    w.settle();
    let replies = w.replies(a);
    assert!(replies.len() > 900 && replies.last().is_some_and(|r| r.0 == 1001), "{}", replies.len());
    assert!(!w.clients[a].paused);
}

#[test]
fn what_a_shard_has_forwarded_and_the_replica_not_taken_is_bounded_in_bytes_and_nothing_is_lost() {
    const BYTES_MAX: usize = 20_000;
    let mut w = World::new(Setup { inbox_bytes_max: BYTES_MAX, shards: 2, ..Setup::default() });
    let clients: Vec<usize> = (0..6).map(|i| w.connect(i % 2).0).collect();
    for c in &clients {
        for i in 0..50 {
            w.create(*c, &format!("/{c}-{i}"), &"x".repeat(1000), 0);
        }
    }
    for c in &clients {
        deliver(&mut w, *c);
    }
    for inbox in &w.inboxes {
        assert!((BYTES_MAX - 2000..=BYTES_MAX).contains(&inbox.weight()), "{} bytes", inbox.weight());
    }
    assert!(clients.iter().filter(|c| w.clients[**c].paused).count() >= 4, "their sockets are not read");
    // One larger than the bound itself passes all the same, when its turn comes.
    w.create(clients[0], "/large", &"x".repeat(2 * BYTES_MAX), 0);
    // Who has something light to say is heard: a new client, and one that leaves.
    let late = w.open(0);
    let mut bytes = Vec::new();
    new_session().write_frame(&mut bytes);
    w.send(late, &bytes);
    w.hang_up(clients[1]);
    w.settle();
    assert!(matches!(&w.take(late)[..], [Frame::Connected(_)]));
    for c in clients.iter().filter(|c| **c != clients[1]) {
        let replies = w.replies(*c);
        let want = 50 + i32::from(*c == clients[0]);
        assert!(replies.iter().map(|r| (r.0, r.2)).eq((1..=want).map(|xid| (xid, 0))), "{replies:?}");
    }
    assert!(w.inboxes.iter().all(|inbox| inbox.weight() == 0));
}

#[test]
fn deferred_listings_that_have_grown_meanwhile_are_exact_all_the_same_a4() {
    let mut setup = Setup::default();
    setup.shard.listing_nodes_per_turn = 4;
    let mut w = World::new(setup);
    let (a, _) = w.connect(0);
    w.create(a, "/d", "", 0);
    w.settle();
    w.take(a);
    // Nothing is long when these are sent; each must see exactly what was created before it.
    for i in 0..12 {
        w.request(a, OpCode::Create, |r| put_create(r, &format!("/d/{i}"), "", 0));
        w.read(a, OpCode::GetChildren, "/d", false);
    }
    w.settle();
    let frames = w.take(a);
    let lists: Vec<usize> = frames
        .iter()
        .skip(1)
        .step_by(2)
        .map(|f| if let Frame::Reply { err: 0, body, .. } = f { listed(body).0.len() } else { 0 })
        .collect();
    assert_eq!(lists, (1..=12).collect::<Vec<_>>());
}

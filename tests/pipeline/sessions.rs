//! How sessions open, move, expire and end, and who they are.

use super::driver::{Frame, Setup, World, again, data_of, frame, new_session, put_create};
use super::watches::event;
use zoo::base::{SessionId, Writer};
use zoo::proto::OpCode;
use zoo::proto::connect::ConnectRequest;
use zoo::shard::Detail;

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
    let zxid = super::driver::applied(&mut w).as_i64();
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
    let before = super::driver::applied(&mut w).0;
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
    assert_eq!(super::driver::applied(&mut w).0, before + 2, "the end of the session, and an error in the late request's place");
    let (d, _) = w.connect(0);
    w.read(d, OpCode::Exists, "/late", false);
    w.settle();
    assert_eq!(w.replies(d)[0].2, -101);
}

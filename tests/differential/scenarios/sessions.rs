//! Sessions: how they end, move, are refused, and what happens to their ephemerals.

use super::Context;
use crate::pair::{Due, TIMEOUT_MS, Then};
use crate::reference::request::*;
use zoo::base::SessionId;

pub fn close(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let owner = p.connect();
    let watcher = p.connect();
    p.call(watcher, &create("/sc", b"", PERSISTENT));
    p.call(watcher, &add_watch("/sc", 1));
    p.call(watcher, &get_children("/sc", true));
    for i in 0..5 {
        p.call(owner, &create(&format!("/sc/e{i}"), b"", EPHEMERAL));
    }
    p.call(owner, &create("/sc/s-", b"", EPHEMERAL_SEQUENTIAL));
    p.call(owner, &multi(&[create("/sc/m", b"", EPHEMERAL), create("/sc/p", b"", PERSISTENT)]));
    p.call(owner, &exists("/sc/e1", true));
    p.call(owner, &get_data("/sc/p", true));
    p.call(watcher, &exists("/sc/e0", true));
    p.call(watcher, &get_data("/sc/e2", true));
    p.call(watcher, &delete("/sc/e3", -1));
    p.call(owner, &get_ephemerals(None));
    p.close(owner);
    p.call(watcher, &get_children2("/sc", false));
    // Its id is gone for good.
    let again = p.socket();
    p.handshake(again, |known| known.again(owner));
    p.wait_closed(again);
    // A session without ephemerals.
    let plain = p.connect();
    p.close(plain);
    p.call(watcher, &get_children2("/sc", false));
}

pub fn reattach(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let watcher = p.connect();
    p.call(watcher, &create("/sr", b"", PERSISTENT));
    let first = p.connect();
    p.call(first, &create("/sr/e", b"", EPHEMERAL));
    p.call(first, &auth("digest", b"u:p"));
    p.drop_socket(first);
    let second = p.reattach(first);
    p.call(second, &who_am_i());
    p.call(second, &exists("/sr/e", false));
    p.call(second, &get_ephemerals(None));
    p.call(second, &create("/sr/e2", b"", EPHEMERAL));
    // While the older connection is still there: it is closed.
    let third = p.reattach(second);
    p.wait_closed(second);
    p.call(third, &get_ephemerals(None));
    p.call(third, &delete("/sr/e", -1));
    // With another timeout and without the read-only flag.
    let fourth = p.socket();
    p.forget(third);
    p.handshake(fourth, |known| {
        let mut request = known.again(third);
        request.timeout_ms = 5000;
        request.has_read_only = false;
        request
    });
    p.wait_closed(third);
    p.call(watcher, &get_children("/sr", true));
    p.close(fourth);
    p.call(watcher, &get_children("/sr", true));
}

pub fn refused(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let live = p.connect();
    p.call(live, &create("/sx", b"", EPHEMERAL));
    p.drop_socket(live);
    let change: [fn(&mut zoo::proto::connect::ConnectRequest); 6] = [
        |r| r.password = vec![1; 16],
        |r| r.password = Vec::new(),
        |r| r.password.truncate(15),
        |r| r.session = SessionId(0x0123_4567_89ab_cdef),
        |r| r.session = SessionId(-1),
        |r| {
            r.password = vec![1; 16];
            r.has_read_only = false;
        },
    ];
    for bad in change {
        let conn = p.socket();
        p.handshake(conn, |known| {
            let mut request = known.again(live);
            bad(&mut request);
            request
        });
        p.wait_closed(conn);
    }
    // Seen more than there is.
    let conn = p.socket();
    let frames = |known: &crate::pair::Known<'_>| {
        let mut request = known.again(live);
        request.last_zxid_seen = i64::MAX - 1;
        request
    };
    p.handshake(conn, frames);
    // The session itself has not suffered.
    let again = p.reattach(live);
    p.call(again, &get_ephemerals(None));
}

pub fn expiry(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let watcher = p.connect();
    p.call(watcher, &create("/se", b"", PERSISTENT));
    let short = p.connect_with(2000);
    p.call(short, &create("/se/e", b"", EPHEMERAL));
    p.call(watcher, &exists("/se/e", true));
    p.drop_socket(short);
    p.wait_for(watcher, &exists("/se/e", false), -101);
    let late = p.socket();
    p.handshake(late, |known| known.again(short));
    p.wait_closed(late);
    // Idle but connected: the server closes the connection without a word.
    let idle = p.socket();
    p.raw(idle, &idle_connect(), &[Due::Connect], Then::Open);
    p.wait_closed(idle);
    p.call(watcher, &get_children2("/se", false));
}

/// A connect request for the shortest session.
fn idle_connect() -> Vec<u8> {
    zoo::proto::connect::ConnectRequest::new_session(1).frame()
}

pub fn timeouts(c: &mut Context<'_>) {
    let p = &mut c.pair;
    for timeout in [0, -1, 1, 1999, 2000, 2001, 6000, 19_999, 20_000, 20_001, i32::MAX, i32::MIN] {
        let conn = p.connect_with(timeout);
        p.close(conn);
    }
    let conn = p.connect_with(TIMEOUT_MS);
    p.call(conn, &ping());
}

/// Sixty connections from one address by default; further ones are closed without a word, four-letter words included.
pub fn connection_limit(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let held: Vec<_> = (0..60).map(|_| p.socket()).collect();
    let first = held[0];
    p.raw(first, &idle_connect(), &[Due::Connect], Then::Open);
    p.word("srvr", |text| if text.is_empty() || text.starts_with("no answer") { "closed".into() } else { text.into() });
    for conn in held {
        p.drop_socket(conn);
    }
}

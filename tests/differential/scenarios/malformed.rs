//! What is not a request: bodies that end early, lengths that lie, frames that are none.

use super::Context;
use crate::pair::{Due, Then};
use crate::reference::request::*;
use zoo::base::Writer;

fn examples() -> Vec<Request> {
    let acl: &[Acl<'_>] = &[(31, "world", "anyone"), (1, "digest", "a:b")];
    vec![
        create_as(CREATE, "/bad/c", b"data", acl, PERSISTENT),
        create_as(CREATE2, "/bad/c2", b"data", acl, PERSISTENT),
        create_container("/bad/cc"),
        create_ttl("/bad/ct", b"data", TTL, 1_000_000),
        delete("/bad/none", -1),
        exists("/bad", true),
        get_data("/bad", true),
        set_data("/bad", b"data", -1),
        get_acl("/bad"),
        set_acl("/bad", OPEN, -1),
        get_children("/bad", true),
        get_children2("/bad", true),
        sync("/bad"),
        multi(&[check("/bad", -1), set_data("/bad", b"m", -1)]),
        multi_read(&[get_data("/bad", false)]),
        check_watches("/bad", 3),
        remove_watches("/bad", 3),
        add_watch("/bad", 0),
        set_watches(0, &[&["/bad"], &["/bad/none"], &[]]),
        set_watches(0, &[&["/bad"], &[], &[], &["/bad"], &[]]),
        get_ephemerals(Some("/bad")),
        get_all_children_number("/bad"),
        reconfig(Some("server.1=a"), None, None, -1),
    ]
}

pub fn bodies(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    p.call(a, &create("/bad", b"", PERSISTENT));
    for example in examples() {
        let whole = &example.body;
        let mut cuts: Vec<usize> =
            (0..=8).chain((0..whole.len()).step_by(5)).chain([whole.len() - 1]).filter(|n| *n < whole.len()).collect();
        cuts.sort_unstable();
        cuts.dedup();
        for cut in cuts {
            p.call(a, &raw(example.op, &whole[..cut]));
        }
        p.call(a, &raw(example.op, &[&whole[..], b"bytes after the end"].concat()));
        // The first field is mostly a length: null, negative, too large, just too large.
        // The null path of delete and sync is left to the listed differences.
        for length in [-1, -2, i32::MIN, i32::MAX, 0x20_0000, whole.len() as i32] {
            if matches!((example.op, length), (DELETE | SYNC, -1)) {
                continue;
            }
            let mut body = whole.clone();
            body[..4].copy_from_slice(&length.to_be_bytes());
            p.call(a, &raw(example.op, &body));
        }
    }
    // What the connection itself reads: the connection ends.
    for example in [auth("digest", b"u:p"), sasl(Some(b"abc"))] {
        for cut in 0..example.body.len() {
            let conn = p.connect();
            p.calls_then(conn, &[raw(example.op, &example.body[..cut])], Then::Closed);
        }
    }
    // Counts that lie.
    for count in [-2, 2, 1000, i32::MAX, -1] {
        let mut body = Vec::new();
        body.put_string("/bad/count");
        body.put_buffer(Some(b""));
        body.put_i32(count);
        body.put_i32(31);
        body.put_string("world");
        body.put_string("anyone");
        body.put_i32(0);
        p.call(a, &raw(CREATE, &body));
        if count == -1 {
            break; // null lists of setWatches: see the listed differences
        }
        let mut body = Vec::new();
        body.put_i64(0);
        body.put_i32(count);
        body.put_i32(0);
        body.put_i32(0);
        p.call(a, &raw(SET_WATCHES, &body));
    }
    p.call(a, &get_children2("/bad", false));
    p.call(a, &get_data("/bad", false));
}

pub fn unknown_requests(c: &mut Context<'_>) {
    let p = &mut c.pair;
    for kind in [0, 10, 13, 23, 24, 50, 99, 108, 109, 1000, -1, -2, -100, i32::MIN, i32::MAX] {
        let a = p.connect();
        p.last_call(a, &raw(kind, b"some body"));
    }
    let a = p.connect();
    p.last_call(a, &check("/", -1));
}

pub fn framing(c: &mut Context<'_>) {
    let p = &mut c.pair;
    for length in [-1, i32::MIN, 0x10_0000, 2_000_000, i32::MAX, 0x7275_6f6b] {
        let a = p.connect();
        p.raw(a, &length.to_be_bytes(), &[], Then::Closed);
        let fresh = p.socket();
        if length != 0x7275_6f6b {
            p.raw(fresh, &length.to_be_bytes(), &[], Then::Closed);
        }
    }
    for short in 0..8u32 {
        let a = p.connect();
        let mut bytes = short.to_be_bytes().to_vec();
        bytes.extend(vec![0; short as usize]);
        p.raw(a, &bytes, &[], Then::Closed);
    }
    // The largest frame there is.
    let a = p.connect();
    p.call(a, &create("/frame", b"", PERSISTENT));
    let head = set_data("/frame", b"", -1).body.len() + 8;
    p.call(a, &set_data("/frame", &vec![7; 0xf_ffff - head], -1));
    p.call(a, &get_data("/frame", false));
    p.call(a, &set_data("/frame", b"", -1));
    // One byte at a time, and many requests in one piece.
    let frame = get_data("/frame", false).frame(5);
    for (i, byte) in frame.iter().enumerate() {
        let due: &[Due] = if i + 1 == frame.len() { &[Due::Reply(GET_DATA)] } else { &[] };
        p.raw(a, &[*byte], due, Then::Open);
    }
    p.calls(a, &vec![get_data("/frame", false); 300]);
}

fn connect_frame(timeout: i32, session: i64, password: Option<&[u8]>, tail: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_i32(0);
    body.put_i64(0);
    body.put_i32(timeout);
    body.put_i64(session);
    body.put_buffer(password);
    body.put_raw(tail);
    let mut frame = Vec::new();
    frame.put_len(body.len());
    frame.put_raw(&body);
    frame
}

pub fn connect_requests(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let zeroes = [0u8; 16];
    for (password, tail) in [
        (Some(&zeroes[..]), &[0u8][..]),
        (Some(&zeroes[..]), &[1]),
        (Some(&zeroes[..]), &[5]),
        (Some(&zeroes[..]), &[]),
        (Some(&zeroes[..]), &[0, 1, 2, 3]),
        (Some(&b"short"[..]), &[0]),
        (Some(&b""[..]), &[0]),
        (Some(&b"rather longer than sixteen bytes"[..]), &[0]),
        (None, &[0]),
    ] {
        let a = p.socket();
        p.raw(a, &connect_frame(10_000, 0, password, tail), &[Due::Connect], Then::Open);
        p.call(a, &ping());
        p.close(a);
    }
    // Another protocol version is not looked at.
    let a = p.socket();
    let mut frame = connect_frame(10_000, 0, Some(&zeroes), &[0]);
    frame[4..8].copy_from_slice(&77i32.to_be_bytes());
    p.raw(a, &frame, &[Due::Connect], Then::Open);
    // Requests behind the connect request.
    let a = p.socket();
    let frames =
        [connect_frame(10_000, 0, Some(&zeroes), &[0]), create("/behind", b"x", 0).frame(1), get_data("/behind", true).frame(2)].concat();
    p.raw(a, &frames, &[Due::Connect, Due::Reply(CREATE), Due::Reply(GET_DATA)], Then::Open);
    p.call(a, &set_data("/behind", b"", -1));
    // Cut short.
    let whole = connect_frame(10_000, 0, Some(&zeroes), &[]);
    for cut in [4, 8, 16, 27, 28, 43] {
        let a = p.socket();
        let mut frame = whole[..cut + 4].to_vec();
        frame[..4].copy_from_slice(&(cut as i32).to_be_bytes());
        p.raw(a, &frame, &[], Then::Closed);
    }
    let a = p.socket();
    p.raw(a, &connect_frame(10_000, 0, Some(&zeroes), &[0])[..20], &[], Then::Open);
    p.drop_socket(a);
    // A client that has seen more than the server.
    let a = p.socket();
    let mut ahead = connect_frame(10_000, 0, Some(&zeroes), &[0]);
    ahead[8..16].copy_from_slice(&i64::MAX.to_be_bytes());
    p.raw(a, &ahead, &[], Then::Closed);
    let a = p.socket();
    let mut negative = connect_frame(10_000, 0, Some(&zeroes), &[0]);
    negative[8..16].copy_from_slice(&(-5i64).to_be_bytes());
    p.raw(a, &negative, &[Due::Connect], Then::Open);
}

pub fn odd_xids(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    for xid in [77, 5, 5, 0, -7, -3, i32::MAX, i32::MIN, -4, -8] {
        p.raw(a, &get_data("/", false).frame(xid), &[Due::Reply(GET_DATA)], Then::Open);
        p.raw(a, &create(&format!("/xid{xid}"), b"", PERSISTENT).frame(xid), &[Due::Reply(CREATE)], Then::Open);
    }
    for xid in [-2, 7, 0, -1] {
        p.raw(a, &ping().frame(xid), &[Due::Reply(PING)], Then::Open);
    }
    p.raw(a, &[&ping().frame(-2)[..3], &[12], &ping().frame(-2)[4..], b"more"].concat(), &[Due::Reply(PING)], Then::Open);
    p.raw(a, &auth("digest", b"u:p").frame(99), &[Due::Reply(AUTH)], Then::Open);
    p.raw(a, &set_watches(0, &[&["/xid77"], &[], &[]]).frame(12), &[Due::Reply(SET_WATCHES)], Then::Open);
}

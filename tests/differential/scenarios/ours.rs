//! Where we differ from Java on purpose, one test for each listed difference.

use crate::reference::client::Client;
use crate::reference::process::{Kind, Server, Settings};
use crate::reference::request::*;
use zoo::base::SessionId;

pub fn run() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(&[("tickTime", "1000"), ("extendedTypesEnabled", "true"), ("enforceQuota", "true")]);
    let server = Server::start(Kind::Zoo, dir.path(), &settings);
    a_wrong_password_does_not_touch_the_session(server.port);
    clients_cannot_issue_what_only_the_server_may(server.port);
    a_ttl_request_needs_a_ttl_mode_and_a_legal_ttl(server.port);
    nothing_after_a_close_has_an_effect(server.port);
    what_cannot_be_decoded_is_refused_before_it_is_logged(server.port);
    a_refused_read_multi_has_no_body(server.port);
    null_lists_of_set_watches_are_empty(server.port);
    limits_that_are_no_limits_stop_no_write(server.port);
    a_new_acl_holds_for_the_very_next_request(server.port);
    server.stop();
}

/// Java closes the connection that holds the session before it looks at the password.
fn a_wrong_password_does_not_touch_the_session(port: u16) {
    let mut owner = Client::open(port);
    let mut thief = Client::attach(port, owner.session.session, &[9; 16]);
    assert_eq!((thief.session.timeout_ms, thief.session.session), (0, SessionId::NONE));
    assert!(thief.is_closed());
    assert_eq!(owner.err(&create("/still-here", b"", EPHEMERAL)), 0);
    assert_eq!(owner.err(&close_session()), 0);
}

/// Java carries out deleteContainer and createSession for anybody.
fn clients_cannot_issue_what_only_the_server_may(port: u16) {
    let mut keeper = Client::open(port);
    assert_eq!(keeper.err(&create_container("/container")), 0);
    for request in [delete_container("/container"), raw(CREATE_SESSION, &5000i32.to_be_bytes())] {
        let mut client = Client::open(port);
        let reply = client.try_call(&request).expect("a reply before the close");
        assert_eq!((reply.err, reply.zxid), (-6, -1), "{}", request.describe());
        assert!(client.is_closed());
    }
    assert_eq!(keeper.err(&exists("/container", false)), 0);
}

/// Java logs some of these and fails while it carries them out.
fn a_ttl_request_needs_a_ttl_mode_and_a_legal_ttl(port: u16) {
    let mut client = Client::open(port);
    for flags in [PERSISTENT, EPHEMERAL, SEQUENTIAL, EPHEMERAL_SEQUENTIAL, CONTAINER] {
        for ttl in [i64::MIN, -5, -1, 0, 1, 5000, i64::MAX] {
            assert_eq!(client.err(&create_ttl("/ttl", b"", flags, ttl)), -8, "flags {flags} ttl {ttl}");
        }
    }
    for flags in [TTL, TTL_SEQUENTIAL] {
        for ttl in [i64::MIN, -1, 0, 0x100_0000_0000, i64::MAX] {
            assert_eq!(client.err(&create_ttl("/ttl", b"", flags, ttl)), -8, "flags {flags} ttl {ttl}");
        }
    }
    assert_eq!(client.err(&exists("/ttl", false)), -101);
}

/// Java answers what follows a closeSession in the same packet with -112, or not at all, as it happens.
fn nothing_after_a_close_has_an_effect(port: u16) {
    let mut client = Client::open(port);
    let frames = [close_session().frame(7), create("/late", b"", PERSISTENT).frame(8)].concat();
    client.send(&frames);
    assert_eq!(client.receive().expect("the answer to the close").xid, 7);
    while let Some(late) = client.receive() {
        assert_eq!(late.err, -112);
    }
    let mut other = Client::open(port);
    assert_eq!(other.err(&exists("/late", false)), -101);
}

/// Java replaces bytes that are not UTF-8 and goes on, and finds out about a null path of a delete, or a null id of an ACL entry, only when it
/// has taken a zxid; a sync without a path it answers. Here all of them are marshalling errors, or invalid ACLs, and the tree never sees them.
fn what_cannot_be_decoded_is_refused_before_it_is_logged(port: u16) {
    let mut client = Client::open(port);
    let zxid = client.call(&ping()).zxid;
    let not_utf8 = |tail: &[u8]| [&[0, 0, 0, 6][..], b"/bad\xff\xfe", tail].concat();
    for request in [
        raw(EXISTS, &not_utf8(&[0])),
        raw(GET_DATA, &not_utf8(&[0])),
        raw(DELETE, &not_utf8(&[0xff; 4])),
        raw(SET_DATA, &not_utf8(&[0xff; 8])),
        raw(DELETE, &[0xff; 8]),
        raw(SYNC, &[0xff; 4]),
    ] {
        let reply = client.call(&request);
        assert_eq!((reply.err, reply.zxid, reply.body.len()), (-5, zxid, 0), "{}", request.describe());
    }
    let head = [0, 0, 0, 4, b'/', b'n', b'u', b'l', 0, 0, 0, 0];
    let null_id = raw(CREATE, &[&head[..], &[0, 0, 0, 1, 0, 0, 0, 31, 0, 0, 0, 5], b"world", &[0xff; 4], &[0; 4]].concat());
    assert_eq!(client.err(&null_id), -114);
}

/// Java appends an end marker to the error when it has begun to answer.
fn a_refused_read_multi_has_no_body(port: u16) {
    let mut client = Client::open(port);
    for parts in [vec![set_data("/", b"", -1)], vec![get_data("/", false), set_data("/", b"", -1)]] {
        let reply = client.call(&multi_read(&parts));
        assert_eq!((reply.err, reply.body.len()), (-5, 0));
    }
}

/// In Java every write below such a quota fails with a marshalling error.
fn limits_that_are_no_limits_stop_no_write(port: u16) {
    let mut client = Client::open(port);
    client.ok(&create("/limited", b"", PERSISTENT));
    client.ok(&create("/zookeeper/quota/limited", b"", PERSISTENT));
    client.ok(&create("/zookeeper/quota/limited/zookeeper_stats", b"", PERSISTENT));
    client.ok(&create("/zookeeper/quota/limited/zookeeper_limits", b"nonsense", PERSISTENT));
    for text in [&b"nonsense"[..], b"count=x", b"=,=;"] {
        client.ok(&set_data("/zookeeper/quota/limited/zookeeper_limits", text, -1));
        client.ok(&set_data("/limited", b"data", -1));
    }
}

/// A marshalling error in Java, after it has registered what the other lists say.
fn null_lists_of_set_watches_are_empty(port: u16) {
    let mut client = Client::open(port);
    let body = [&[0; 8][..], &[0xff; 4], &[0xff; 4], &[0xff; 4]].concat();
    assert_eq!(client.err(&raw(SET_WATCHES, &body)), 0);
}

/// Java judges requests that are sent right behind a setACL by the old list, until it has carried the setACL out.
fn a_new_acl_holds_for_the_very_next_request(port: u16) {
    let mut client = Client::open(port);
    client.ok(&create("/closing", b"", PERSISTENT));
    let requests =
        [set_acl("/closing", &[(1, "world", "anyone")], -1), set_data("/closing", b"x", -1), create("/closing/x", b"", PERSISTENT)];
    client.send(&requests.iter().flat_map(|r| r.frame(1)).collect::<Vec<_>>());
    let answers: Vec<_> = requests.iter().map(|_| client.receive().expect("an answer").err).collect();
    assert_eq!(answers, [0, -102, -102]);
}

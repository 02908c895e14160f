//! Where we differ from Java on purpose, one test for each listed difference.

use crate::reference::client::Client;
use crate::reference::process::{Kind, Server, Settings};
use crate::reference::request::*;
use zoo::base::SessionId;

pub fn run() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(&[("tickTime", "1000"), ("extendedTypesEnabled", "true")]);
    let server = Server::start(Kind::Zoo, dir.path(), &settings);
    a_wrong_password_does_not_touch_the_session(server.port);
    clients_cannot_issue_what_only_the_server_may(server.port);
    a_ttl_request_needs_a_ttl_mode_and_a_legal_ttl(server.port);
    nothing_after_a_close_has_an_effect(server.port);
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

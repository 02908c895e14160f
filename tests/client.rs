//! The client of this library against a server of this library, over real sockets.

use std::time::{Duration, Instant};
use zoo::client::{AddWatchMode, CreateMode, Error, ErrorCode, EventType, Reply, SessionState, ZooClient};
use zoo::server::{Mode, ZooEnsemble, ZooServer};

/// Long enough for a busy machine; nothing waits that long when it works.
const PATIENCE: Duration = Duration::from_secs(60);

struct Place {
    server: ZooServer,
    address: std::net::SocketAddr,
}

impl Place {
    fn new() -> Self {
        let server = ZooServer::start().expect("a server");
        let address = server.address();
        Place { server, address }
    }

    fn client(&self) -> ZooClient {
        ZooClient::builder(self.server.host()).session_timeout(Duration::from_secs(30)).connect().expect("a session")
    }
}

#[test]
fn every_operation_does_what_it_says() {
    let place = Place::new();
    let c = place.client();
    assert_eq!(c.create("/a", b"one", CreateMode::Persistent).as_deref(), Ok("/a"));
    assert_eq!(c.create("/a", b"", CreateMode::Persistent), Err(Error::Refused(ErrorCode::NodeExists)));
    let (data, stat) = c.get("/a").expect("there");
    assert_eq!((&data[..], stat.version), (&b"one"[..], 0));
    assert_eq!(c.set_version("/a", b"two", 0).expect("its version").version, 1);
    assert_eq!(c.set_version("/a", b"three", 0), Err(Error::Refused(ErrorCode::BadVersion)));
    assert_eq!(c.create("/a/n-", b"", CreateMode::EphemeralSequential).as_deref(), Ok("/a/n-0000000000"));
    assert_eq!(c.children("/a").expect("there"), ["n-0000000000"]);
    assert_eq!(c.ephemerals("/a").expect("a list"), ["/a/n-0000000000"]);
    assert_eq!(c.exists("/b"), Ok(None));
    assert_eq!(c.exists("/a").expect("an answer").expect("there").num_children, 1);
    c.create_all("/x/y/z", b"deep", CreateMode::Persistent).expect("with its parents");
    c.ensure("/x/y").expect("there already");
    assert_eq!(c.count_all("/x"), Ok(2));
    assert_eq!(c.delete("/x"), Err(Error::Refused(ErrorCode::NotEmpty)));
    c.delete_all("/x").expect("all of it");
    assert_eq!(c.exists("/x"), Ok(None));
    c.add_auth("digest", b"me:secret").expect("accepted");
    assert!(c.who_am_i().expect("a list").contains(&("digest".into(), "me".into())));
    c.set_acl("/a", &zoo::client::Acl::creator()).expect("allowed");
    assert_eq!(place.client().get("/a"), Err(Error::Refused(ErrorCode::NoAuth)));
    assert_eq!(c.get_acl("/a").expect("allowed").0[0].scheme, "digest");
    c.sync("/").expect("answered");
    assert_eq!(c.create("a", b"", CreateMode::Persistent).map_err(|e| matches!(e, Error::BadPath(_))), Err(true));
    assert_eq!(c.pipelined().get_all(&["/a", "/none"]).wait().expect("both")[1], Err(Error::Refused(ErrorCode::NoNode)));
}

#[test]
fn a_transaction_happens_whole_or_not_at_all() {
    let place = Place::new();
    let c = place.client();
    let done = c.transaction().create("/a", b"1", CreateMode::Persistent).set("/a", b"2").check("/a", 1).commit().expect("all of it");
    assert!(matches!(&done[..], [Reply::Created(path, _), Reply::Stat(Some(_)), Reply::Nothing] if path == "/a"));
    let refused = c.transaction().set("/a", b"3").delete_version("/a", 7).create("/b", b"", CreateMode::Persistent).commit();
    assert_eq!(refused, Err(Error::RefusedPart { index: 1, code: ErrorCode::BadVersion }));
    assert_eq!(c.get("/a").expect("there").0, b"2");
    assert!(c.transaction().delete("no path").commit().is_err());
    assert_eq!(c.transaction().commit(), Ok(vec![]));
}

#[test]
fn watches_tell_what_they_should_and_end() {
    let place = Place::new();
    let (c, other) = (place.client(), place.client());
    let (absent, mut created) = c.exists_and_watch("/a").expect("an answer");
    assert_eq!(absent, None);
    let mut all = c.add_watch("/a", AddWatchMode::PersistentRecursive).expect("set");
    other.create("/a", b"", CreateMode::Persistent).expect("made");
    other.create("/a/b", b"", CreateMode::Persistent).expect("made");
    other.set("/a", b"x").expect("set");
    let event = created.wait().expect("an event");
    assert_eq!((event.kind, event.path.as_str()), (EventType::NodeCreated, "/a"));
    assert_eq!(created.wait(), None, "it fires once");
    let seen: Vec<_> = (0..3).map(|_| all.wait().expect("an event")).map(|e| (e.kind, e.path)).collect();
    let want = [(EventType::NodeCreated, "/a"), (EventType::NodeCreated, "/a/b"), (EventType::NodeDataChanged, "/a")];
    assert_eq!(seen, want.map(|(kind, path)| (kind, path.to_owned())));
    c.remove_watches("/a").expect("removed");
    assert_eq!(all.wait(), None);
    let (_, mut none) = c.pipelined().get_and_watch("/none");
    assert_eq!(none.wait(), None, "there is no node, so there is no watch");
    let (_, _, mut last) = c.get_and_watch("/a").expect("there");
    c.close().expect("closed");
    assert_eq!(last.wait(), None, "the session is over");
    assert_eq!(c.get("/a"), Err(Error::Closed));
}

#[test]
fn a_session_lives_through_a_restart_of_its_server() {
    let mut place = Place::new();
    let c = place.client();
    let mut states = c.states();
    c.create("/mine", b"", CreateMode::Ephemeral).expect("made");
    let mut watch = c.add_watch("/", AddWatchMode::PersistentRecursive).expect("set");
    let session = c.session_id();
    place.server.stop().expect("a clean stop");
    assert_eq!(states.wait_for(PATIENCE), Ok(Some(SessionState::Suspended)));
    let read = c.pipelined().get("/mine");
    place.server.restart().expect("the same port");
    assert_eq!(states.wait_for(PATIENCE), Ok(Some(SessionState::Connected)));
    assert_eq!(read.wait().expect("asked again").1.ephemeral_owner, session);
    assert_eq!(c.session_id(), session);
    c.set("/mine", b"still").expect("set");
    let event = watch.wait_for(PATIENCE).expect("in time").expect("an event");
    assert_eq!((event.kind, event.path.as_str()), (EventType::NodeDataChanged, "/mine"));
    let other = place.client();
    drop(c);
    assert_eq!(other.exists("/mine"), Ok(None), "the last handle closes the session");
}

#[test]
fn an_abandoned_session_goes_with_its_timeout() {
    let place = Place::new();
    let c = ZooClient::builder(&place.address.to_string()).session_timeout(Duration::from_secs(4)).connect().expect("a session");
    c.create("/mine", b"", CreateMode::Ephemeral).expect("made");
    let other = place.client();
    let (there, mut gone) = other.exists_and_watch("/mine").expect("an answer");
    assert!(there.is_some());
    let begun = Instant::now();
    c.abandon();
    assert_eq!(gone.wait_for(PATIENCE).expect("in time").expect("an event").kind, EventType::NodeDeleted);
    assert!(begun.elapsed() > Duration::from_secs(2), "nobody has closed it");
}

#[test]
fn requests_leave_together_and_are_answered_in_order() {
    let place = Place::new();
    let c = place.client();
    let p = c.pipelined();
    let writes: Vec<_> = (0..500).map(|i| p.create(&format!("/n{i:03}"), b"", CreateMode::Persistent)).collect();
    let reads: Vec<_> = (0..500).map(|i| p.get(&format!("/n{i:03}"))).collect();
    for (i, write) in writes.into_iter().enumerate() {
        assert_eq!(write.wait(), Ok(format!("/n{i:03}")));
    }
    assert!(reads.into_iter().all(|read| read.wait().is_ok()), "each sees the write before it");
}

#[test]
fn nobody_waits_for_ever_when_no_server_is_there() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let nobody = ZooClient::builder(&unused.to_string()).connect_patience(Duration::from_millis(300)).connect();
    let why = nobody.map(drop).expect_err("nobody is there");
    assert!(matches!(&why, Error::Unreachable(why) if why.starts_with(&unused.to_string())), "{why}");
    assert!(why.may_be_repeated() && !why.may_have_happened());
    let c = ZooClient::builder(&unused.to_string()).request_timeout(Duration::from_millis(300)).start().expect("it begins");
    assert_eq!(c.set("/a", b""), Err(Error::NotSent));
    assert_eq!(c.add_auth("digest", b"u:p"), Err(Error::NotSent));
    assert_eq!(c.state(), SessionState::Connecting);
    assert!(c.trouble().is_some_and(|why| why.starts_with(&unused.to_string())));
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_at = silent.local_addr().expect("an address");
    let c = ZooClient::builder(&silent_at.to_string()).session_timeout(Duration::from_millis(900)).connect_patience(Duration::from_secs(3));
    assert_eq!(c.connect().map(drop), Err(Error::Unreachable(format!("{silent_at}: it has not answered in time"))));
}

#[test]
fn everything_below_a_chroot_looks_like_a_tree_of_its_own() {
    let place = Place::new();
    let c = place.client();
    c.ensure("/app/one").expect("made");
    let inside = ZooClient::connect(&format!("{}/app/one", place.address)).expect("a session");
    let mut watch = inside.add_watch("/", AddWatchMode::PersistentRecursive).expect("set");
    assert_eq!(inside.create("/x", b"", CreateMode::PersistentSequential).as_deref(), Ok("/x0000000000"));
    assert_eq!(watch.wait().expect("an event").path, "/x0000000000");
    assert_eq!(c.children("/app/one").expect("there"), ["x0000000000"]);
    assert_eq!(inside.send("ls", "/", "").map(|r| matches!(r, Reply::Children(names, _) if names == ["x0000000000"])), Ok(true));
    let lost = ZooClient::connect(&format!("{}/no/such", place.address)).expect("a session");
    assert_eq!(lost.create("/x", b"", CreateMode::Persistent), Err(Error::Refused(ErrorCode::NoNode)));
    lost.ensure("/").expect("the chroot itself");
    lost.ensure("/").expect("there already");
    assert_eq!(lost.create("/x", b"", CreateMode::Persistent).as_deref(), Ok("/x"));
    assert!(c.exists("/no/such/x").expect("an answer").is_some());
}

#[test]
fn operations_can_be_called_by_name() {
    let place = Place::new();
    let c = place.client();
    c.send("create", "/test", "hi").expect("made");
    c.send("set", "/test", "hello").expect("set");
    assert!(matches!(c.send("get", "/test", ""), Ok(Reply::Data(data, _)) if data == b"hello"));
    assert!(matches!(c.send("create -e -s", "/test/n", ""), Ok(Reply::Created(path, _)) if path == "/test/n0000000000"));
    assert_eq!(c.send("delete", "/test", "7"), Err(Error::Refused(ErrorCode::BadVersion)));
    assert_eq!(c.send("deleteall", "/test", ""), Ok(Reply::Nothing));
    for (command, value) in [("fly", ""), ("get -x", ""), ("create -q", ""), ("delete", "x")] {
        assert!(matches!(c.send(command, "/test", value), Err(Error::BadArgument(_))), "{command}");
    }
}

#[test]
fn who_follows_the_members_goes_on_at_one_it_was_never_told_of() {
    let mut ensemble = ZooEnsemble::start(3).expect("an ensemble");
    let leader = ensemble.leader().expect("a leader");
    let here = ensemble.ids().find(|id| *id != leader).expect("a follower");
    let address = ensemble.member(here).host().to_owned();
    let c = ZooClient::builder(&address).session_timeout(PATIENCE).follow_members(true).connect().expect("a session");
    // Who the members are is asked before this, so it is known with this answer.
    c.create("/a", b"kept", CreateMode::Ephemeral).expect("made");
    ensemble.member_mut(here).kill().expect("killed");
    let (data, stat) = c.get("/a").expect("another member answers");
    assert_eq!((&data[..], stat.ephemeral_owner), (&b"kept"[..], c.session_id()), "in the same session");
}

#[test]
fn who_puts_up_with_a_server_that_takes_no_writes_leaves_it_for_one_that_does() {
    let ensemble = ZooEnsemble::builder(3).set("readonlymode.enabled", true).start().expect("an ensemble");
    let leader = ensemble.leader().expect("a leader");
    let cut_off = ensemble.ids().find(|id| *id != leader).expect("a follower");
    ensemble.isolate(cut_off);
    ensemble.until(cut_off, Mode::ReadOnly).expect("it serves reads alone");
    let here = ensemble.member(cut_off).host().to_owned();
    let c = ZooClient::builder(&ensemble.host()).session_timeout(PATIENCE).read_only(true).prefer(&[&here]).start().expect("a client");
    let mut states = c.states();
    let mut passed = Vec::new();
    while c.state() != SessionState::Connected {
        passed.extend(states.wait_for(PATIENCE).expect("in time"));
    }
    // The first of them may have been before anybody listened.
    let expected = [SessionState::ConnectedReadOnly, SessionState::Suspended, SessionState::Connected];
    assert!(expected.starts_with(&passed) || expected[1..].starts_with(&passed), "{passed:?}");
    c.create("/a", b"", CreateMode::Persistent).expect("it takes writes");
}

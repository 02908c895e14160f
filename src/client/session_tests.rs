use super::*;
use crate::base::Reader;
use crate::base::{Stat, Zxid};
use crate::client::CreateMode;
use crate::client::op::{Ops, event_path};
use crate::proto::connect::ConnectResponse;
use crate::proto::event::write_notification;
use crate::proto::response::ReplyFrame;
use crate::proto::{ErrorCode, EventType};

type Done = &'static str;

#[derive(Clone, Debug, PartialEq, Eq)]
struct To(&'static str);

impl Sink for To {
    fn is_wanted(&self) -> bool {
        true
    }
}

const OPS: Ops<'static> = Ops { chroot: "" };
const TIMEOUT_MS: u64 = 9_000;

/// A session and the server it talks to, both on paper.
struct Desk {
    session: Session<Done, To>,
    now: Instant,
    /// What the client has sent and nobody has looked at.
    sent: Vec<u8>,
    told: Vec<String>,
}

impl Desk {
    fn new(servers: usize) -> Self {
        Self::preferring(servers, Preference::default())
    }

    fn preferring(servers: usize, preference: Preference) -> Self {
        let settings = SessionSettings {
            timeout_ms: TIMEOUT_MS as u32,
            read_only: false,
            request_timeout_ms: 20_000,
            reply_bytes_max: 1 << 20,
            chroot: String::new(),
            seed: 3,
            preference,
            fail_fast: false,
        };
        let hosts = (0..servers).map(|n| Host { name: format!("h{n}"), port: 1 }).collect();
        let mut desk = Desk { session: Session::new(settings, hosts, Instant(0)), now: Instant(0), sent: Vec::new(), told: Vec::new() };
        desk.settle();
        desk
    }

    fn attached() -> Self {
        let mut desk = Desk::new(1);
        desk.attach(77);
        desk.told.clear();
        desk
    }

    fn settle(&mut self) {
        while let Some(output) = self.session.poll_output() {
            self.told.push(match output {
                Output::Connect(host) => format!("connect {}", host.name),
                Output::Disconnect => "disconnect".into(),
                Output::Done(done, Ok(Reply::Nothing)) => format!("{done}: done"),
                Output::Done(done, Ok(reply)) => format!("{done}: {reply:?}"),
                Output::Done(done, Err(why)) => format!("{done}: {why:?}"),
                Output::Notified(_) => continue, // as often as the server says so
                Output::Event(to, event) => format!("{} sees {:?} {}", to.0, event.kind, event.path),
                Output::WatchEnded(to) => format!("{} is over", to.0),
                Output::State(state) => format!("{state:?}"),
                Output::Probe(host) => format!("ask {}", host.name),
                Output::Measure(hosts) => format!("measure {}", hosts.len()),
            });
        }
    }

    fn told(&mut self) -> Vec<String> {
        self.settle();
        std::mem::take(&mut self.told)
    }

    /// The network takes everything.
    fn flush(&mut self) {
        let bytes = self.session.transmit().to_vec();
        self.session.transmitted(self.now, bytes.len());
        self.sent.extend(bytes);
    }

    fn connect(&mut self) -> ConnectRequest {
        self.session.connected(self.now);
        self.flush();
        let request = ConnectRequest::decode(&self.sent[4..]).expect("a greeting");
        self.sent.clear();
        request
    }

    fn attach(&mut self, session: i64) {
        self.connect();
        self.welcome(session);
    }

    fn welcome(&mut self, session: i64) {
        self.welcome_to(session, false);
    }

    fn welcome_to(&mut self, session: i64, read_only: bool) {
        let mut answer = Vec::new();
        let response =
            ConnectResponse { timeout_ms: TIMEOUT_MS as i32, session: SessionId(session), password: [7; 16], read_only: Some(read_only) };
        response.write_frame(&mut answer);
        self.session.received(self.now, &answer);
        self.flush();
        self.settle();
    }

    /// The requests that have been sent: xid and operation.
    fn requests(&mut self) -> Vec<(i32, OpCode)> {
        self.flush();
        let sent = std::mem::take(&mut self.sent);
        let mut r = Reader::new(&sent);
        let mut all = Vec::new();
        while !r.is_empty() {
            let mut frame = Reader::new(r.buffer().expect("whole").expect("no null"));
            all.push((frame.i32().expect("xid"), OpCode::from_i32(frame.i32().expect("op")).expect("known")));
        }
        all
    }

    fn answer(&mut self, xid: i32, zxid: u64, err: i32, body: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        let frame = ReplyFrame::begin(&mut out, Xid(xid), Zxid::from_i64(zxid as i64));
        if err == 0 {
            body(&mut out);
            frame.finish(&mut out);
        } else {
            frame.fail(&mut out, ErrorCode::from_i32(err));
        }
        self.session.received(self.now, &out);
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        self.session.timeout(self.now);
    }

    fn submit(&mut self, op: Op, done: Done, sink: Option<&'static str>) {
        self.session.submit(self.now, op, done, sink.map(To));
    }

    fn cut(&mut self) {
        self.pass(2 * SHORT_LIVED_MS);
        self.session.disconnected(self.now);
    }
}

fn host(name: &str) -> Host {
    Host { name: name.to_owned(), port: 1 }
}

fn some_data(body: &mut Vec<u8>) {
    body.put_buffer(Some(b"x"));
    Stat::default().write(body);
}

fn get(path: &str, watch: bool) -> Op {
    OPS.get(path, watch).expect("a path")
}

fn set(path: &str) -> Op {
    OPS.set(path, b"x", -1).expect("a path")
}

fn node(out: &mut Vec<u8>) {
    out.put_buffer(Some(b"d"));
    Stat::default().write(out);
}

#[test]
fn a_session_goes_on_at_the_next_server_with_what_it_has_seen() {
    let mut d = Desk::new(2);
    let first = d.told();
    let greeting = d.connect();
    assert_eq!((greeting.session, greeting.last_zxid_seen, greeting.timeout_ms), (SessionId::NONE, 0, 9000));
    d.welcome(77);
    d.submit(set("/a"), "set", None);
    assert_eq!(d.requests(), [(1, OpCode::SetData)]);
    d.answer(1, 5, 0, |out| Stat::default().write(out));
    d.cut();
    let told = d.told();
    assert!(told[1].starts_with("set: Stat"));
    assert_eq!(told[2..4], ["disconnect", "Suspended"]);
    assert!(told[4].starts_with("connect h") && told[4] != first[0]);
    let again = d.connect();
    assert_eq!((again.session, again.last_zxid_seen, &again.password[..]), (SessionId(77), 5, &[7; 16][..]));
}

#[test]
fn after_a_lost_connection_reads_are_repeated_and_writes_are_not() {
    let mut d = Desk::attached();
    d.submit(get("/a", false), "read", None);
    d.submit(set("/a"), "write", None);
    d.submit(get("/b", false), "second read", None);
    d.requests();
    d.submit(set("/c"), "unsent", None);
    d.cut();
    assert_eq!(d.told(), ["disconnect", "write: ConnectionLoss", "unsent: NotSent", "Suspended", "connect h0"]);
    d.attach(77);
    assert_eq!(d.requests(), [(5, OpCode::GetData), (6, OpCode::GetData)]);
    d.answer(5, 1, 0, node);
    d.answer(6, 1, -101, |_| {});
    assert_eq!(
        d.told()[1..],
        ["read: Data([100], ".to_owned() + &format!("{:?})", Stat::default()), "second read: Refused(NoNode)".to_owned()]
    );
}

#[test]
fn watches_and_credentials_are_set_again_before_anything_else_is_asked() {
    let mut d = Desk::attached();
    d.session.add_auth(d.now, "digest".into(), b"u:p".to_vec(), "auth");
    d.submit(get("/a", true), "get", Some("watcher"));
    d.submit(OPS.exists("/b", true).expect("a path"), "exists", Some("waiter"));
    assert_eq!(d.requests(), [(-4, OpCode::Auth), (1, OpCode::GetData), (2, OpCode::Exists)]);
    d.answer(-4, 0, 0, |_| {});
    d.answer(1, 3, 0, node);
    d.answer(2, 3, -101, |_| {});
    assert_eq!(d.told()[2], "exists: Stat(None)");
    d.cut();
    d.submit(set("/c"), "set", None);
    d.attach(77);
    assert_eq!(d.requests(), [(-4, OpCode::Auth), (-8, OpCode::SetWatches), (3, OpCode::SetData)]);
    d.told();
    let mut events = Vec::new();
    write_notification(&mut events, -1, EventType::NodeDataChanged, "/a");
    write_notification(&mut events, 9, EventType::NodeCreated, "/b");
    write_notification(&mut events, 10, EventType::NodeDataChanged, "/b");
    // In two pieces that are no frames.
    d.session.received(d.now, &events[..50]);
    d.session.received(d.now, &events[50..]);
    assert_eq!(d.told(), ["watcher sees NodeDataChanged /a", "watcher is over", "waiter sees NodeCreated /b", "waiter is over"]);
    assert_eq!(d.session.last_zxid(), 10);
}

#[test]
fn an_expired_session_ends_everything() {
    let mut d = Desk::attached();
    d.submit(get("/a", true), "get", Some("watcher"));
    d.requests();
    d.answer(1, 3, 0, node);
    d.submit(set("/a"), "set", None);
    d.requests();
    d.cut();
    d.submit(set("/b"), "waiting", None);
    d.told();
    d.connect();
    let mut answer = Vec::new();
    ConnectResponse::refused(Some(false)).write_frame(&mut answer);
    d.session.received(d.now, &answer);
    assert_eq!(d.told(), ["disconnect", "waiting: SessionExpired", "watcher is over", "Expired"]);
    d.submit(get("/a", true), "late", Some("late watcher"));
    assert_eq!(d.told(), ["late: SessionExpired", "late watcher is over"]);
    assert_eq!(d.session.poll_timeout(), None);
}

#[test]
fn silence_is_broken_by_pings_and_a_silent_server_is_left() {
    let mut d = Desk::attached();
    d.pass(TIMEOUT_MS / 3);
    assert_eq!(d.requests(), [(-2, OpCode::Ping)]);
    d.answer(-2, 4, 0, |_| {});
    d.pass(TIMEOUT_MS / 3);
    assert_eq!(d.requests(), [(-2, OpCode::Ping)]);
    assert!(d.told().is_empty());
    d.pass(TIMEOUT_MS / 3);
    assert_eq!(d.told()[..2], ["disconnect", "Suspended"]);
}

#[test]
fn nobody_is_called_in_a_tight_loop() {
    let mut d = Desk::new(3);
    let mut calls = 0;
    for _ in 0..600 {
        calls += d.told().iter().filter(|t| t.starts_with("connect")).count();
        d.session.connect_failed(d.now);
        d.pass(100);
    }
    assert!((150..250).contains(&calls), "{calls} calls of three servers in a minute, a second after each round");
}

#[test]
fn requests_do_not_wait_for_ever() {
    let mut d = Desk::new(1);
    d.submit(set("/a"), "set", None);
    d.submit(get("/a", false), "get", None);
    d.pass(20_000);
    assert!(d.told().ends_with(&["set: NotSent".to_owned(), "get: NotSent".to_owned()]));
    let mut d = Desk::attached();
    d.submit(set("/a"), "set", None);
    d.requests();
    for _ in 0..10 {
        d.pass(2_000);
        d.answer(-2, 1, 0, |_| {});
    }
    assert_eq!(d.told()[..2], ["disconnect", "set: ConnectionLoss"], "it pings, and does not answer");
}

#[test]
fn a_server_that_answers_nonsense_is_left() {
    for nonsense in [&b"\xff\xff\xff\xf0"[..], b"\x7f\xff\xff\xff", b"\0\0\0\x10\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0\0", b"\0\0\0\x02\0\0"] {
        let mut d = Desk::attached();
        d.submit(set("/a"), "set", None);
        d.requests();
        d.session.received(d.now, nonsense);
        let told = d.told();
        assert!(told[0].starts_with("set: BadReply"), "{told:?}");
        assert_eq!(told[1..3], ["disconnect", "Suspended"]);
    }
}

#[test]
fn closing_ends_the_session_whether_the_server_says_so_or_not() {
    for answered in [true, false] {
        let mut d = Desk::attached();
        d.submit(OPS.close(), "close", None);
        d.submit(set("/a"), "too late", None);
        assert_eq!(d.requests()[0], (1, OpCode::CloseSession));
        if answered {
            d.answer(1, 4, 0, |_| {});
        } else {
            d.session.disconnected(d.now);
        }
        let told = d.told();
        let ends: Vec<&str> = told.iter().map(String::as_str).filter(|t| *t != "disconnect").collect();
        assert_eq!(ends, ["close: done", "too late: Closed", "Closed"], "answered: {answered}");
    }
}

#[test]
fn the_chroot_is_in_front_of_what_is_sent_and_not_of_what_comes_back() {
    let ops = Ops { chroot: "/app" };
    for (path, mode, sent) in [("/", CreateMode::PersistentSequential, "/app/"), ("/a", CreateMode::Persistent, "/app/a")] {
        let op = ops.create(path, Some(b""), &[], mode).expect("a path");
        assert_eq!(Reader::new(&op.body).string(), Ok(sent));
    }
    assert_eq!(Reader::new(&ops.get("/", false).expect("a path").body).string(), Ok("/app"));
    assert!(ops.get("/a/", false).is_err());
    for (server, client) in [("/app/a", "/a"), ("/app", "/"), ("/apple", "/apple"), ("/zookeeper/config", "/zookeeper/config")] {
        assert_eq!(event_path(server, "/app"), client);
    }
}

#[test]
fn who_is_at_a_server_that_takes_no_writes_looks_for_one_that_does_and_goes_there_between_requests() {
    let mut desk = Desk::new(2);
    let here = desk.told()[0].replace("connect ", "");
    let other = if here == "h0" { "h1" } else { "h0" };
    desk.connect();
    desk.welcome_to(0, true);
    assert_eq!(desk.told(), ["ConnectedReadOnly"]);
    for pause in [SEARCH_MS_MIN, 2 * SEARCH_MS_MIN] {
        desk.pass(pause - 1);
        assert_eq!(desk.told(), [""; 0]);
        desk.pass(1);
        assert_eq!(desk.told(), [format!("ask {other}")]);
        desk.session.probed(desk.now, host(other), false);
    }
    desk.submit(get("/a", false), "first", None);
    desk.session.probed(desk.now, host(other), true);
    desk.submit(get("/b", false), "second", None);
    assert_eq!((desk.told().len(), desk.requests().len()), (0, 1), "what was asked is waited for, the rest is kept");
    desk.answer(1, 5, 0, some_data);
    let told = desk.told();
    assert!(told[0].starts_with("first: Data"), "{told:?}");
    assert_eq!(told[1..], ["disconnect".to_owned(), "Suspended".into(), format!("connect {other}")]);
    desk.attach(1);
    assert_eq!(desk.told(), ["Connected"]);
    desk.pass(10 * SEARCH_MS_MIN);
    assert_eq!(desk.told(), [""; 0], "and is content");
}

#[test]
fn a_server_that_has_left_the_list_is_left() {
    let mut desk = Desk::attached();
    desk.session.set_hosts(desk.now, vec![host("h9")]);
    assert_eq!(desk.told(), ["disconnect", "Suspended", "connect h9"]);
}

#[test]
fn who_is_in_a_hurry_does_not_wait_for_another_round_over_the_servers() {
    for (fail_fast, told) in [(true, vec!["get: NotSent"]), (false, vec![])] {
        let mut desk = Desk::new(2);
        desk.session.settings.fail_fast = fail_fast;
        desk.submit(get("/a", false), "get", None);
        desk.session.connect_failed(desk.now);
        desk.told();
        desk.session.connect_failed(desk.now);
        assert_eq!(desk.told(), told);
    }
}

#[test]
fn who_prefers_near_servers_has_them_measured_now_and_then_and_goes_to_one_between_requests() {
    let mut desk = Desk::preferring(2, Preference { near_percent: Some(200), ..Preference::default() });
    let here = desk.told()[0].replace("connect ", "");
    let other = if here == "h0" { "h1" } else { "h0" };
    desk.attach(1);
    assert_eq!(desk.told(), ["Connected"]);
    desk.pass(1);
    assert_eq!(desk.told(), ["measure 2"]);
    desk.session.measured(desk.now, vec![(host(&here), 9_000), (host(other), 5_000)]);
    assert_eq!(desk.told(), [""; 0], "it is near enough");
    let mut waited = 1;
    while desk.told().is_empty() {
        desk.pass(1_000);
        desk.flush();
        desk.answer(-2, 0, 0, |_| {});
        waited += 1_000;
    }
    assert!((MEASURE_MS / 2..=MEASURE_MS * 2).contains(&waited), "{waited}");
    desk.submit(get("/a", false), "first", None);
    desk.requests();
    desk.session.measured(desk.now, vec![(host(&here), 9_000), (host(other), 1_000)]);
    assert_eq!(desk.told(), [""; 0], "what was asked is waited for");
    desk.answer(1, 5, 0, some_data);
    assert_eq!(desk.told()[1..], ["disconnect".to_owned(), "Suspended".into(), format!("connect {other}")]);
}

#[test]
fn credentials_of_the_moment_are_shown_to_one_server_and_before_all_others() {
    let mut d = Desk::new(1);
    d.session.add_auth(d.now, "digest".into(), b"lasting".to_vec(), "auth");
    d.session.show(vec![("token".into(), b"first".to_vec())]);
    d.connect();
    d.welcome(77);
    d.flush();
    let shown = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|part| part == what);
    let (token, lasting) = (shown(&d.sent, b"first"), shown(&d.sent, b"lasting"));
    assert!(token.is_some() && token < lasting, "{token:?}, {lasting:?}");
    d.sent.clear();
    d.told();
    d.answer(-4, 0, 0, |_| {});
    assert_eq!(d.told(), <[&str; 0]>::default(), "nobody waits for this one");
    d.answer(-4, 0, 0, |_| {});
    assert_eq!(d.told(), ["auth: done"]);
    d.cut();
    d.session.show(vec![("token".into(), b"second".to_vec())]);
    d.connect();
    d.welcome(77);
    d.flush();
    assert!(shown(&d.sent, b"first").is_none() && shown(&d.sent, b"second").is_some());
    d.sent.clear();
    d.session.show(vec![("token".into(), b"late".to_vec())]);
    d.cut();
    d.connect();
    d.welcome(77);
    d.flush();
    assert!(shown(&d.sent, b"late").is_none(), "they were for a connection that was there already");
}

#[test]
fn nobody_waits_longer_for_credentials_to_be_accepted_than_for_anything_else() {
    let mut d = Desk::new(1);
    d.session.add_auth(d.now, "digest".into(), b"u:p".to_vec(), "auth");
    d.pass(20_000);
    assert!(d.told().contains(&"auth: NotSent".to_owned()));
    d.session.add_auth(d.now, "digest".into(), b"u:p".to_vec(), "again");
    d.pass(2 * REST_MS_MAX);
    d.attach(77);
    assert_eq!(d.requests(), [(-4, OpCode::Auth)], "known once");
    d.told();
    d.answer(-4, 0, 0, |_| {});
    assert_eq!(d.told(), ["again: done"]);
}

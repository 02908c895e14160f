//! Two servers, or two ensembles, fed the same bytes. Every step sends on one connection of each, reads what both answer, fences the other
//! connections with pings (a ping's reply cannot overtake an event that was due before it), and compares. In ensembles connections are spread
//! over the members, and each is pinged until its member knows of the step.

use crate::reference::process::{Kind, Server, Settings, free_port};
use crate::reference::request::{self as op, Request};
use crate::reference::words;
use crate::text::{self, Names};
use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use zoo::base::SessionId;
use zoo::proto::connect::{ConnectRequest, ConnectResponse};

/// Longest wait for an answer; a server that stays silent for it is reported and its connection dropped.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Longest wait for a close that is due.
const CLOSE_MAX: Duration = Duration::from_secs(15);
/// Reports kept per scenario; what follows a first difference is mostly its echo.
const REPORTS_MAX: usize = 6;
/// What connections ask for unless a scenario says otherwise.
pub const TIMEOUT_MS: i32 = 20_000;

/// A connection of the pair, by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conn(pub usize);

/// An answer that is still due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    Connect,
    /// A reply to a request of this type.
    Reply(i32),
}

/// What is expected of the connection after the answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    Open,
    /// The server closes it.
    Closed,
}

#[derive(Debug)]
struct Link {
    /// Of the member it is connected to.
    port: u16,
    stream: Option<TcpStream>,
    session: i64,
    /// The session was closed by a request that was answered.
    closed: bool,
    password: [u8; 16],
    last_zxid: i64,
}

#[derive(Debug)]
struct Side {
    kind: Kind,
    servers: Vec<Server>,
    /// Of the members; one, when it is no ensemble.
    ports: Vec<u16>,
    names: Names,
    links: Vec<Link>,
}

#[derive(Debug)]
pub struct Pair {
    sides: [Side; 2],
    next_xid: i32,
    fenced: Vec<Conn>,
    scenario: String,
    reports: usize,
    pub steps: usize,
    pub differences: Vec<String>,
    trail: VecDeque<String>,
}

impl Pair {
    /// Starts both servers, or ensembles of so many members, on empty directories below `dir`.
    pub fn start(dir: &Path, kinds: [Kind; 2], settings: &Settings, members: usize) -> Pair {
        let places = [0, 1].map(|i| dir.join(["left", "right"][i]));
        let servers = std::thread::scope(|scope| {
            let start = |kind, place: &PathBuf| {
                let place = place.clone();
                scope.spawn(move || {
                    if members == 1 { vec![Server::start(kind, &place, settings)] } else { ensemble(kind, &place, settings, members) }
                })
            };
            [0, 1].map(|i| start(kinds[i], &places[i])).map(|started| started.join().expect("server start"))
        });
        let sides = servers.map(|servers| Side {
            kind: servers[0].kind,
            ports: servers.iter().map(|server| server.port).collect(),
            servers,
            names: Names::default(),
            links: Vec::new(),
        });
        Pair {
            sides,
            next_xid: 1,
            fenced: Vec::new(),
            scenario: String::new(),
            reports: 0,
            steps: 0,
            differences: Vec::new(),
            trail: VecDeque::new(),
        }
    }

    /// Begins a scenario: all sessions of the one before are closed, zxids count from here.
    pub fn scenario(&mut self, name: &str) {
        for conn in std::mem::take(&mut self.fenced) {
            if self.sides.iter().all(|s| s.links[conn.0].stream.is_some()) {
                self.close(conn);
            }
        }
        self.sides.iter_mut().for_each(Side::end_sessions);
        self.scenario = name.to_owned();
        self.reports = 0;
        self.trail.clear();
        let conn = self.connect();
        let zxids = self.zxids(conn);
        if zxids[0] - self.sides[0].names.zxid_base != zxids[1] - self.sides[1].names.zxid_base {
            self.report("zxids used since the last scenario began", &format!("{:#x}", zxids[0]), &format!("{:#x}", zxids[1]));
        }
        for (side, zxid) in self.sides.iter_mut().zip(zxids) {
            side.names.zxid_base = zxid;
        }
        self.close(conn);
    }

    // ---- connections

    /// A new session.
    pub fn connect(&mut self) -> Conn {
        self.connect_with(TIMEOUT_MS)
    }

    pub fn connect_with(&mut self, timeout_ms: i32) -> Conn {
        let conn = self.socket();
        self.handshake(conn, |_| ConnectRequest::new_session(timeout_ms));
        conn
    }

    /// A connection that has not said anything yet.
    pub fn socket(&mut self) -> Conn {
        self.sides.iter().for_each(Side::wait_until_members_agree);
        for side in &mut self.sides {
            let port = side.ports[side.links.len() % side.ports.len()];
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let stream = TcpStream::connect_timeout(&address, ANSWER_MAX).ok().inspect(|s| s.set_nodelay(true).expect("nodelay"));
            side.links.push(Link { port, stream, session: 0, closed: false, password: [0; 16], last_zxid: 0 });
        }
        let conn = Conn(self.sides[0].links.len() - 1);
        self.fenced.push(conn);
        conn
    }

    /// Sends a connect request (made per side) and compares the answers.
    pub fn handshake(&mut self, conn: Conn, request: impl Fn(&Known) -> ConnectRequest) {
        let frames = [0, 1].map(|i| request(&self.known(i)).frame());
        self.exchange(conn, "connect", frames, &[Due::Connect], Then::Open);
    }

    /// A new connection that asks for the session of `old`, with its right password.
    pub fn reattach(&mut self, old: Conn) -> Conn {
        self.forget(old);
        let conn = self.socket();
        self.handshake(conn, |known| known.again(old));
        conn
    }

    /// No longer pings this connection: the server is about to close it.
    pub fn forget(&mut self, conn: Conn) {
        self.fenced.retain(|c| *c != conn);
    }

    /// Drops the socket without a word.
    pub fn drop_socket(&mut self, conn: Conn) {
        for side in &mut self.sides {
            side.links[conn.0].stream = None;
        }
        self.fenced.retain(|c| *c != conn);
    }

    /// Closes the session; the reply and what precedes it are compared, then the end of the stream.
    pub fn close(&mut self, conn: Conn) {
        let xid = self.take_xid();
        let frame = op::close_session().frame(xid);
        self.exchange(conn, "closeSession", [frame.clone(), frame], &[Due::Reply(op::CLOSE_SESSION)], Then::Closed);
        for side in &mut self.sides {
            side.links[conn.0].closed = true;
        }
    }

    // ---- requests

    pub fn call(&mut self, conn: Conn, request: &Request) {
        self.calls(conn, std::slice::from_ref(request));
    }

    /// Several requests in one write.
    pub fn calls(&mut self, conn: Conn, requests: &[Request]) {
        self.calls_then(conn, requests, Then::Open);
    }

    /// A request after whose reply the server closes.
    pub fn last_call(&mut self, conn: Conn, request: &Request) {
        self.calls_then(conn, std::slice::from_ref(request), Then::Closed);
    }

    pub fn calls_then(&mut self, conn: Conn, requests: &[Request], then: Then) {
        let mut bytes = Vec::new();
        let mut due = Vec::new();
        for request in requests {
            let xid = if request.op == op::PING { -2 } else { self.take_xid() };
            bytes.extend(request.frame(xid));
            due.push(Due::Reply(request.op));
        }
        let shown: Vec<_> = requests.iter().take(3).map(Request::describe).collect();
        let more = if requests.len() > 3 { format!("; … {} in all", requests.len()) } else { String::new() };
        self.exchange(conn, &(shown.join("; ") + &more), [bytes.clone(), bytes], &due, then)
    }

    /// A request that is not the same for both sides, for instance because it carries a zxid.
    pub fn call_each(&mut self, conn: Conn, request: impl Fn(&Known) -> Request) {
        let xid = self.take_xid();
        let requests = [0, 1].map(|i| request(&self.known(i)));
        let due = [Due::Reply(requests[0].op)];
        let frames = requests.clone().map(|r| r.frame(xid));
        self.exchange(conn, &requests[0].describe(), frames, &due, Then::Open);
    }

    /// Bytes as they are.
    pub fn raw(&mut self, conn: Conn, bytes: &[u8], due: &[Due], then: Then) {
        let what = format!("raw \"{}\"", bytes[..bytes.len().min(160)].escape_ascii());
        self.exchange(conn, &what, [bytes.to_vec(), bytes.to_vec()], due, then);
    }

    /// Repeats a read until the left side answers with `err`, then expects the right one to get there as well, and compares.
    pub fn wait_for(&mut self, conn: Conn, request: &Request, err: i32) {
        for i in 0..2 {
            let deadline = Instant::now() + ANSWER_MAX;
            while Instant::now() < deadline {
                let lines = self.sides[i].exchange(conn.0, &request.frame(1), &[Due::Reply(request.op)], Then::Open);
                let wanted = format!(" err={err}");
                if lines.iter().any(|l| l.starts_with("reply") && (l.ends_with(&wanted) || l.contains(&format!("{wanted} ")))) {
                    break;
                }
                if lines.iter().any(|l| l.starts_with("closed") || l.starts_with("silent")) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        self.call(conn, request);
    }

    /// Waits until both servers have closed the connection, and compares what they sent before. Where a session has ended by it, the member
    /// that closes may know that before the others.
    pub fn wait_closed(&mut self, conn: Conn) {
        self.exchange(conn, "until closed", [Vec::new(), Vec::new()], &[], Then::Closed);
        self.sides.iter().for_each(Side::wait_until_members_agree);
    }

    /// Both servers' last zxid, from a ping.
    pub fn zxids(&mut self, conn: Conn) -> [i64; 2] {
        self.call(conn, &op::ping());
        [0, 1].map(|i| self.sides[i].links[conn.0].last_zxid)
    }

    // ---- four-letter words

    /// Compares the answers to a word after `masked` has removed what may differ. A server may still be closing connections that are gone, or
    /// counting those that have just come, so it is asked again until both say the same or have had time enough to.
    pub fn word(&mut self, word: &str, masked: impl Fn(&str) -> String) {
        self.steps += 1;
        let deadline = Instant::now() + ANSWER_MAX;
        loop {
            let answers = [0, 1].map(|i| {
                let answer = words::ask(self.sides[i].ports[0], word).unwrap_or_else(|e| format!("no answer: {e}"));
                masked(&self.sides[i].names.in_text(&answer))
            });
            if answers[0] == answers[1] {
                return;
            }
            if Instant::now() >= deadline {
                return self.report(&format!("word {word}"), &answers[0], &answers[1]);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What a session is called in the texts that are compared.
    pub fn session_name(&self, conn: Conn) -> String {
        self.sides[0].names.session(self.sides[0].links[conn.0].session)
    }

    pub fn is_ensemble(&self) -> bool {
        self.sides[0].ports.len() > 1
    }

    pub fn ports(&self) -> [u16; 2] {
        [0, 1].map(|i| self.sides[i].ports[0])
    }

    // ---- processes

    /// Stops both servers (or kills them) and starts them again on the same ports and directories.
    pub fn restart(&mut self, dir: &Path, settings: &Settings, kill: bool) {
        // Side by side: no session's time runs out on one while the other starts.
        std::thread::scope(|scope| {
            for (side, name) in self.sides.iter_mut().zip(["left", "right"]) {
                scope.spawn(move || {
                    let server = side.servers.pop().expect("running");
                    if kill {
                        server.kill()
                    } else {
                        server.stop()
                    }
                    side.servers.push(Server::start_on(side.kind, &dir.join(name), settings, side.ports[0]));
                });
            }
        });
    }

    // ---- inside

    fn known(&self, side: usize) -> Known<'_> {
        Known { side: &self.sides[side] }
    }

    fn take_xid(&mut self) -> i32 {
        self.next_xid += 1;
        self.next_xid
    }

    fn exchange(&mut self, conn: Conn, what: &str, frames: [Vec<u8>; 2], due: &[Due], then: Then) {
        self.steps += 1;
        self.trail.push_back(format!("c{} {what}", conn.0));
        if self.trail.len() > 12 {
            self.trail.pop_front();
        }
        for (side, frame) in self.sides.iter_mut().zip(&frames) {
            side.send(conn.0, frame);
        }
        let [left, right] = &mut self.sides;
        let lines = [left.receive(conn.0, due, then), right.receive(conn.0, due, then)];
        let unordered = due.contains(&Due::Reply(op::CLOSE_SESSION));
        self.compare(what, conn, &lines, unordered);
        if then == Then::Closed {
            self.fenced.retain(|c| *c != conn);
        }
        let reads_only = due.iter().all(|d| matches!(d, Due::Reply(op::PING | op::EXISTS | op::GET_DATA | op::GET_CHILDREN | op::GET_ACL)));
        if !reads_only {
            self.fence(conn, unordered);
        }
    }

    /// Collects and compares what the last step caused on the other connections.
    fn fence(&mut self, except: Conn, unordered: bool) {
        // The answer to the end of a session may get lost with its connection, and with it how far the others have to be.
        if unordered {
            self.sides.iter().for_each(Side::wait_until_members_agree);
        }
        for conn in self.fenced.clone() {
            let ready = |s: &Side| s.links[conn.0].session != 0 && s.links[conn.0].stream.is_some();
            if conn == except || !self.sides.iter().all(ready) {
                continue;
            }
            let lines = [0, 1].map(|i| self.sides[i].fence(conn.0));
            self.compare("what it caused", conn, &lines, unordered);
        }
    }

    fn compare(&mut self, what: &str, conn: Conn, lines: &[Vec<String>; 2], unordered: bool) {
        let mut lines = lines.clone();
        if unordered {
            // The ephemerals of a session are deleted in no particular order.
            for l in &mut lines {
                let events = l.iter().take_while(|line| line.starts_with("event")).count();
                l[..events].sort();
            }
        }
        // Silence on both sides would compare nothing: the scenario is wrong.
        let nothing = lines[0].iter().any(|l| l.starts_with("silent") || l == "not connected");
        if nothing || lines[0] != lines[1] {
            self.report(&format!("c{} {what}", conn.0), &lines[0].join("\n    "), &lines[1].join("\n    "));
        }
    }

    /// Notes a difference.
    pub fn report(&mut self, what: &str, left: &str, right: &str) {
        self.reports += 1;
        if self.reports > REPORTS_MAX {
            return;
        }
        let kinds = [0, 1].map(|i| format!("{:?}", self.sides[i].kind));
        let before: Vec<_> = self.trail.iter().rev().skip(1).take(4).rev().map(|t| format!("  after {t}\n")).collect();
        let text = format!("[{}] {what}\n{}  {}:\n    {left}\n  {}:\n    {right}\n", self.scenario, before.concat(), kinds[0], kinds[1]);
        eprintln!("{text}");
        self.differences.push(text);
    }
}

/// What a request made for one side may refer to.
#[derive(Debug)]
pub struct Known<'a> {
    side: &'a Side,
}

impl Known<'_> {
    /// A connect request for the session of `conn`, with everything right.
    pub fn again(&self, conn: Conn) -> ConnectRequest {
        let link = &self.side.links[conn.0];
        let request = ConnectRequest::again(SessionId(link.session), &link.password, TIMEOUT_MS);
        ConnectRequest { last_zxid_seen: link.last_zxid, ..request }
    }
    /// The last zxid this connection has seen.
    pub fn last_zxid(&self, conn: Conn) -> i64 {
        self.side.links[conn.0].last_zxid
    }
    /// A zxid counted from the beginning of the scenario.
    pub fn zxid(&self, offset: i64) -> i64 {
        self.side.names.zxid_base + offset
    }
}

/// Members 1 to N, serving.
fn ensemble(kind: Kind, place: &Path, settings: &Settings, members: usize) -> Vec<Server> {
    let mut settings = settings.clone();
    // Nothing that happens in a test may take so long that somebody elects again.
    settings.config.extend([("initLimit", "60"), ("syncLimit", "60")].map(|(key, value)| (key.to_owned(), value.to_owned())));
    let line = |id| (format!("server.{id}"), format!("127.0.0.1:{}:{}", free_port(), free_port()));
    settings.config.extend((1..=members).map(line));
    let start = |id: usize| {
        let place = place.join(id.to_string());
        fs::create_dir_all(place.join("data")).expect("a directory");
        fs::write(place.join("data/myid"), id.to_string()).expect("written");
        Server::spawn(kind, &place, &settings, free_port())
    };
    let mut servers: Vec<Server> = (1..=members).map(start).collect();
    servers.iter_mut().for_each(Server::wait_until_serving);
    // Before the first transaction of an epoch a leader counts it already, and its followers do not.
    Side::end_session(servers[0].port, 0, [0; 16]).expect("a session, opened and closed");
    servers
}

impl Side {
    /// A member that is behind refuses who has seen more.
    fn wait_until_members_agree(&self) {
        if self.ports.len() == 1 {
            return;
        }
        let zxid = |port: &u16| words::ask(*port, "srvr").ok()?.lines().find_map(|line| line.strip_prefix("Zxid: ").map(str::to_owned));
        let deadline = Instant::now() + ANSWER_MAX;
        loop {
            let zxids: Vec<_> = self.ports.iter().map(zxid).collect();
            if zxids[0].is_some() && zxids.iter().all(|z| *z == zxids[0]) {
                return;
            }
            assert!(Instant::now() < deadline, "members of {:?} are at {zxids:?}", self.kind);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Closes every session that was left without a connection. Otherwise each would expire at a moment of its own choosing, in the
    /// middle of some later scenario, and take a zxid there on one side first.
    fn end_sessions(&mut self) {
        let closed: HashSet<i64> = self.links.iter().filter(|l| l.closed).map(|l| l.session).collect();
        let left: HashMap<i64, (u16, [u8; 16])> = self
            .links
            .iter()
            .filter(|l| l.session != 0 && !closed.contains(&l.session))
            .map(|l| (l.session, (l.port, l.password)))
            .collect();
        for (session, (port, password)) in left {
            Self::end_session(port, session, password).expect("a session that can be closed, or has expired");
        }
        for link in &mut self.links {
            link.closed = true;
            link.stream = None;
        }
    }

    fn end_session(port: u16, session: i64, password: [u8; 16]) -> io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), ANSWER_MAX)?;
        stream.write_all(&ConnectRequest::again(SessionId(session), &password, TIMEOUT_MS).frame())?;
        let answer = read_frame(&mut stream, ANSWER_MAX)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let answer = ConnectResponse::decode(&answer).map_err(|_| io::ErrorKind::InvalidData)?;
        if answer.session.0 != 0 {
            stream.write_all(&op::close_session().frame(1))?;
            while read_frame(&mut stream, ANSWER_MAX)?.is_some() {}
        }
        Ok(())
    }

    /// What is due on a connection, up to a ping that its member answers with all that any answer has shown: in an ensemble it may be behind.
    fn fence(&mut self, conn: usize) -> Vec<String> {
        let newest = self.links.iter().map(|link| link.last_zxid).max().unwrap_or(0);
        let deadline = Instant::now() + ANSWER_MAX;
        let mut lines = Vec::new();
        loop {
            lines.append(&mut self.exchange(conn, &op::ping().frame(-2), &[Due::Reply(op::PING)], Then::Open));
            let link = &self.links[conn];
            if link.last_zxid >= newest || link.stream.is_none() || Instant::now() >= deadline {
                return lines;
            }
            lines.pop();
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn exchange(&mut self, conn: usize, frame: &[u8], due: &[Due], then: Then) -> Vec<String> {
        self.send(conn, frame);
        self.receive(conn, due, then)
    }

    fn send(&mut self, conn: usize, frame: &[u8]) {
        // A failed write shows when the answer is read.
        if let Some(stream) = &mut self.links[conn].stream {
            let _ = stream.write_all(frame);
        }
    }

    /// Reads until everything due has come, then to the end if the server is to close.
    fn receive(&mut self, conn: usize, due: &[Due], then: Then) -> Vec<String> {
        let mut lines = Vec::new();
        let mut due: VecDeque<Due> = due.iter().copied().collect();
        while !due.is_empty() || then == Then::Closed {
            let Some(stream) = &mut self.links[conn].stream else {
                lines.push("not connected".into());
                break;
            };
            let longest = if due.is_empty() { CLOSE_MAX } else { ANSWER_MAX };
            match read_frame(stream, longest) {
                Ok(Some(payload)) => lines.push(self.note(conn, &payload, &mut due)),
                Ok(None) => {
                    lines.push("closed".into());
                    self.links[conn].stream = None;
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                    lines.push("closed".into());
                    self.links[conn].stream = None;
                    break;
                }
                Err(e) => {
                    lines.push(format!("silent ({})", e.kind()));
                    self.links[conn].stream = None;
                    break;
                }
            }
        }
        lines
    }

    fn note(&mut self, conn: usize, payload: &[u8], due: &mut VecDeque<Due>) -> String {
        let link = &mut self.links[conn];
        if due.front() == Some(&Due::Connect) {
            due.pop_front();
            if let Ok(r) = ConnectResponse::decode(payload) {
                link.session = r.session.0;
                link.password = r.password;
                if r.session.0 != 0 {
                    self.names.add_session(r.session.0);
                }
            }
            return text::connect_response(&self.names, payload);
        }
        let is_event = payload.starts_with(&[0xff; 4]);
        if let Some(zxid) = payload.get(4..12) {
            let zxid = i64::from_be_bytes(zxid.try_into().expect("eight bytes"));
            link.last_zxid = link.last_zxid.max(zxid);
        }
        let request = match (is_event, due.front()) {
            (false, Some(Due::Reply(op))) => {
                let op = *op;
                due.pop_front();
                op
            }
            _ => 0,
        };
        text::frame(&self.names, request, payload)
    }
}

/// One frame's payload; `None` at the end of the stream.
fn read_frame(stream: &mut TcpStream, longest: Duration) -> io::Result<Option<Vec<u8>>> {
    stream.set_read_timeout(Some(longest))?;
    let mut length = [0; 4];
    let mut have = 0;
    while have < 4 {
        match stream.read(&mut length[have..])? {
            0 if have == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => have += n,
        }
    }
    let length = i32::from_be_bytes(length);
    let mut payload = vec![0; usize::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?];
    stream.read_exact(&mut payload)?;
    Ok(Some(payload))
}

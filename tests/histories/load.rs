//! Clients that read, write and watch without end, go to another member when their connection is lost, and note all they see.

use super::history::*;
use crate::support::{Frame, PATIENCE, RawClient, create, path_watch, set_data, wait_until};
use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use zoo::base::prng::Prng;
use zoo::base::{Reader, SessionId, Stat, Writer};
use zoo::proto::OpCode;
use zoo::proto::connect::{ConnectRequest, Password};

const REGISTERS: u64 = 4;
const SESSION: Duration = Duration::from_secs(20);
/// Leaves some of a small machine to the servers.
const PAUSE: Duration = Duration::from_millis(4);
const RETRY: Duration = Duration::from_millis(20);
/// Requests under way at once, at most.
const BURST: u64 = 6;
/// How long an answer is waited for. One client has patience: it is still there when a member that stood still goes on.
const IMPATIENT: Duration = Duration::from_secs(3);

/// Several clients, on threads of their own.
pub struct Load {
    stop: Arc<AtomicBool>,
    writes: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<History>>,
}

impl Load {
    /// Makes what they share, and starts them. The first member is the favourite of the first client, and so on.
    pub fn start(members: &[SocketAddr], clients: usize, seed: u64) -> Self {
        prepare(members[0]);
        let (stop, writes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let began = Instant::now();
        let clients = (0..clients).map(|number| {
            let client = Client {
                number,
                members: members.to_vec(),
                next_member: number,
                patience: if number == 0 { PATIENCE } else { IMPATIENT },
                random: Prng::new(seed.wrapping_add(number as u64)),
                began,
                heard: began,
                writes: writes.clone(),
                connection: None,
                session: None,
                count: 0,
                known: [-1; REGISTERS as usize],
                mine: Vec::new(),
                notes: Vec::new(),
            };
            let stop = stop.clone();
            std::thread::spawn(move || client.run(&stop))
        });
        Load { clients: clients.collect(), stop, writes }
    }

    /// Waits until so many more writes were acknowledged.
    pub fn goes_on(&self, what: &str, count: usize) {
        let before = self.writes.load(Ordering::Relaxed);
        wait_until(what, || self.writes.load(Ordering::Relaxed) >= before + count || self.clients.iter().any(JoinHandle::is_finished));
        assert!(!self.clients.iter().any(JoinHandle::is_finished), "{what}: a client has failed");
    }

    /// Ends all sessions; what they saw.
    pub fn stop(self) -> Vec<History> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().map(|client| client.join().expect("a client notes what it sees and judges nothing")).collect()
    }
}

fn prepare(member: SocketAddr) {
    let mut client = RawClient::connect(member);
    let registers = (0..REGISTERS).map(|n| format!("/r/{n}"));
    for path in ["/r", "/m", NODES, SEQUENCE, EPHEMERALS].into_iter().chain(TWINS).map(str::to_owned).chain(registers) {
        assert_eq!(client.create(&path, b"", OPEN).err, 0, "{path}");
    }
    client.close();
}

struct Open {
    id: SessionId,
    password: Password,
    seen: i64,
    watches: BTreeSet<String>,
}

struct Client {
    number: usize,
    members: Vec<SocketAddr>,
    next_member: usize,
    patience: Duration,
    random: Prng,
    began: Instant,
    heard: Instant,
    writes: Arc<AtomicUsize>,
    connection: Option<RawClient>,
    session: Option<Open>,
    count: u64,
    /// The version of each register, as seen last.
    known: [i32; REGISTERS as usize],
    /// Nodes it has created and not deleted yet.
    mine: Vec<String>,
    notes: History,
}

impl Client {
    fn run(mut self, stop: &AtomicBool) -> History {
        while !stop.load(Ordering::Relaxed) {
            if self.is_connected() {
                let burst: Vec<_> = (0..1 + self.random.below(BURST)).map(|_| self.choose()).collect();
                self.exchange(burst);
                if self.random.chance(1, 150) {
                    self.exchange(vec![Request::Close]);
                }
                std::thread::sleep(PAUSE);
            } else {
                std::thread::sleep(RETRY);
            }
        }
        let given_up = Instant::now() + PATIENCE;
        while self.session.is_some() && Instant::now() < given_up {
            if self.is_connected() {
                self.exchange(vec![Request::Close]);
            } else {
                std::thread::sleep(RETRY);
            }
        }
        self.notes
    }

    fn value(&mut self) -> String {
        self.count += 1;
        format!("{}-{}", self.number, self.count)
    }

    fn choose(&mut self) -> Request {
        let register = self.random.below(REGISTERS) as usize;
        let path = format!("/r/{register}");
        match self.random.below(100) {
            0..22 => {
                let expected = if self.random.chance(1, 2) { self.known[register] } else { -1 };
                Request::Set { path, value: self.value(), expected }
            }
            22..42 => Request::Get { path, watch: self.random.chance(1, 3) },
            42..50 => Request::Sync,
            50..58 => Request::SetTwins { value: self.value() },
            58..68 => Request::Get { path: TWINS[register % 2].to_owned(), watch: self.random.chance(1, 3) },
            68..76 => self.create(NODES, OPEN),
            76..82 => self.create(SEQUENCE, SEQUENTIAL),
            82..88 => self.create(EPHEMERALS, EPHEMERAL),
            88..91 => Request::List { path: EPHEMERALS.to_owned() },
            _ if self.mine.is_empty() => Request::Sync,
            _ => Request::Delete { path: self.mine.swap_remove(self.random.below(self.mine.len() as u64) as usize) },
        }
    }

    fn create(&mut self, parent: &str, flags: i32) -> Request {
        let value = self.value();
        let name = if flags == SEQUENTIAL { "" } else { value.as_str() };
        Request::Create { path: format!("{parent}/{name}"), flags, value }
    }

    fn is_connected(&mut self) -> bool {
        self.connection.is_some() || self.connect().is_ok()
    }

    /// Goes on with the session at the next member, or begins a new one there.
    fn connect(&mut self) -> io::Result<()> {
        let member = self.members[self.next_member % self.members.len()];
        self.next_member += 1;
        let mut stream = TcpStream::connect_timeout(&member, IMPATIENT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(IMPATIENT))?;
        let timeout_ms = SESSION.as_millis() as i32;
        let request = match &self.session {
            Some(open) => ConnectRequest { last_zxid_seen: open.seen, ..ConnectRequest::again(open.id, &open.password, timeout_ms) },
            None => ConnectRequest::new_session(timeout_ms),
        };
        stream.write_all(&request.frame())?;
        let asked = Instant::now();
        let Some(mut connection) = RawClient::enter(stream)? else {
            if self.session.take().is_some() {
                self.notes.push(Note::Expired { silence: asked.elapsed() + asked.duration_since(self.heard), timeout: SESSION });
            }
            return Err(io::ErrorKind::NotFound.into());
        };
        connection.stream().set_read_timeout(Some(self.patience))?;
        self.heard = Instant::now();
        let watches = match &self.session {
            Some(open) => {
                self.notes.push(Note::Moved);
                Request::Watch { paths: open.watches.iter().cloned().collect(), seen: open.seen }
            }
            None => {
                self.notes.push(Note::Opened(connection.session.0));
                self.session = Some(Open { id: connection.session, password: connection.password, seen: 0, watches: BTreeSet::new() });
                Request::Sync
            }
        };
        self.connection = Some(connection);
        self.exchange(vec![watches]);
        Ok(())
    }

    /// Sends all at once and notes all that comes; what is not answered when the connection is lost is in doubt.
    fn exchange(&mut self, requests: Vec<Request>) {
        let Some(mut connection) = self.connection.take() else { return };
        let sent = self.began.elapsed();
        let frames: Vec<_> = requests.iter().map(encode).collect();
        let mut result = connection.send_all(&frames).map(drop);
        let mut is_closed = false;
        for request in requests {
            let mut answer = None;
            while result.is_ok() && answer.is_none() {
                match connection.receive() {
                    Ok(frame) if frame.is_event() => self.event(&frame),
                    Ok(frame) => answer = Some((self.began.elapsed(), decode(&request, &frame))),
                    Err(e) => result = Err(e),
                }
            }
            if let Some((_, reply)) = &answer {
                self.learn(&request, reply);
            }
            is_closed |= request == Request::Close && answer.is_some();
            self.notes.push(Note::Done(Call { request, sent, answer }));
        }
        if is_closed {
            self.session = None;
        } else if result.is_ok() {
            self.connection = Some(connection);
        }
    }

    fn event(&mut self, frame: &Frame) {
        let (kind, path) = frame.event();
        if let Some(open) = &mut self.session {
            open.watches.remove(&path);
        }
        self.notes.push(Note::Event { kind, path, zxid: frame.zxid });
    }

    fn learn(&mut self, request: &Request, reply: &Reply) {
        self.heard = Instant::now();
        if request.is_write() && reply.err == 0 {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(open) = &mut self.session {
            open.seen = open.seen.max(reply.zxid);
            if let Request::Get { path, watch: true } = request
                && reply.err == 0
            {
                open.watches.insert(path.clone());
            }
        }
        match request {
            Request::Set { path, .. } | Request::Get { path, .. } => {
                let register = path.strip_prefix("/r/").and_then(|n| n.parse::<usize>().ok());
                if let (Some(register), Some(stat)) = (register, reply.stat) {
                    self.known[register] = stat.version;
                }
            }
            Request::Create { flags: OPEN | SEQUENTIAL, .. } if reply.err == 0 => self.mine.push(reply.names[0].clone()),
            _ => {}
        }
    }
}

fn encode(request: &Request) -> (OpCode, Vec<u8>) {
    match request {
        Request::Set { path, value, expected } => (OpCode::SetData, set_data(path, value.as_bytes(), *expected)),
        Request::SetTwins { value } => (OpCode::Multi, twins(value)),
        Request::Create { path, value, flags } => (OpCode::Create, create(path, value.as_bytes(), *flags)),
        Request::Delete { path } => {
            let mut body = Vec::new();
            body.put_string(path);
            body.put_i32(-1);
            (OpCode::Delete, body)
        }
        Request::Get { path, watch } => (OpCode::GetData, path_watch(path, *watch)),
        Request::List { path } => (OpCode::GetChildren, path_watch(path, false)),
        Request::Sync => {
            let mut body = Vec::new();
            body.put_string("/");
            (OpCode::Sync, body)
        }
        Request::Watch { paths, seen } => {
            let mut body = Vec::new();
            body.put_i64(*seen);
            body.put_len(paths.len());
            paths.iter().for_each(|path| body.put_string(path));
            (0..2).for_each(|_| body.put_len(0));
            (OpCode::SetWatches, body)
        }
        Request::Close => (OpCode::CloseSession, Vec::new()),
    }
}

fn twins(value: &str) -> Vec<u8> {
    let mut body = Vec::new();
    let mut head = |kind: i32, is_end: bool, part: &[u8]| {
        body.put_i32(kind);
        body.put_bool(is_end);
        body.put_i32(-1);
        body.put_raw(part);
    };
    TWINS.into_iter().for_each(|path| head(OpCode::SetData as i32, false, &set_data(path, value.as_bytes(), -1)));
    head(-1, true, &[]);
    body
}

fn decode(request: &Request, frame: &Frame) -> Reply {
    let mut reply = Reply { zxid: frame.zxid, err: frame.err, ..Reply::default() };
    if frame.err == 0 {
        let mut r = Reader::new(&frame.body);
        let stat = |r: &mut Reader<'_>| Some(Stat::read(r).expect("a stat"));
        match request {
            Request::Set { .. } => reply.stat = stat(&mut r),
            Request::SetTwins { .. } => {
                r.take(9).expect("the header of the first part");
                reply.stat = stat(&mut r);
            }
            Request::Get { .. } => {
                reply.value = String::from_utf8(r.buffer().expect("data").unwrap_or_default().to_vec()).expect("text");
                reply.stat = stat(&mut r);
            }
            Request::Create { .. } => reply.names.push(r.string().expect("a path").to_owned()),
            Request::List { .. } => reply.names.extend(r.string_vec().expect("names").iter().map(str::to_owned)),
            _ => {}
        }
    }
    reply
}

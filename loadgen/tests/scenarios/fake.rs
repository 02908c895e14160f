//! A tiny server in the test's own process: real frames over real sockets, a flat map for a tree, and faults on request.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use zoo::base::{Reader, SessionId, Stat, Writer, Xid};
use zoo::proto::connect::{ConnectRequest, ConnectResponse};
use zoo::proto::event::write_notification;
use zoo::proto::request::{CreateRequest, RequestHeader};
use zoo::proto::{ErrorCode, EventType, OpCode, Request};

/// What the server does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing.
    None,
    /// Answers the n-th getData with another request's xid.
    WrongXid(usize),
    /// Answers the n-th getData a byte short.
    ShortData(usize),
    /// Answers the n-th getData with a zxid from the past.
    ZxidBack(usize),
    /// Answers every second getData with NoNode.
    Errors,
    /// Hangs up at the n-th getData.
    HangUp(usize),
    /// Sleeps once, at the n-th getData.
    Stall(usize, Duration),
    /// Acknowledges the first create of every connection of a run and forgets it.
    LosesCreates,
    /// Sends every watch event twice.
    DoubleEvents,
    /// Dies at the n-th setData, when it is done and not answered: all connections end, and no more are taken.
    DieAt(usize),
    /// Never says a word to a client that comes with a session.
    MuteToMoves,
    /// Knows no session but those it has begun itself.
    Forgets,
}

/// What the servers of an ensemble, or one alone, have in common.
#[derive(Default)]
pub struct Shared {
    tree: Mutex<Tree>,
    /// Connect requests for sessions that exist.
    moves: Mutex<Vec<ConnectRequest>>,
}

impl Shared {
    /// Every path there is.
    pub fn paths(&self) -> Vec<String> {
        locked(&self.tree).nodes.keys().cloned().collect()
    }

    /// Every connect request for a session that existed.
    pub fn moves(&self) -> Vec<ConnectRequest> {
        locked(&self.moves).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of every session.
const PASSWORD: [u8; 16] = *b"of every session";

#[derive(Default)]
struct Tree {
    zxid: i64,
    /// Path to data length and number of children.
    nodes: BTreeMap<String, (usize, i32)>,
    sequence: i32,
    watches: Vec<(String, TcpStream)>,
    /// Those that stay, with what they are above.
    recursive: Vec<(String, TcpStream)>,
}

struct Server {
    fault: Fault,
    gets: AtomicUsize,
    sets: AtomicUsize,
    is_dead: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
    shared: Arc<Shared>,
}

/// Starts a server on a free port; it lives as long as the test's process.
pub fn start(fault: Fault) -> SocketAddr {
    start_inspected(fault).0
}

/// The same, with a look at the paths it holds.
pub fn start_inspected(fault: Fault) -> (SocketAddr, impl Fn() -> Vec<String>) {
    let shared = Arc::<Shared>::default();
    (start_member(fault, &shared), move || shared.paths())
}

/// Starts a server that shares its tree with others; it lives as long as the test's process.
pub fn start_member(fault: Fault, shared: &Arc<Shared>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let server = Arc::new(Server {
        fault,
        gets: AtomicUsize::new(0),
        sets: AtomicUsize::new(0),
        is_dead: AtomicBool::new(false),
        streams: Mutex::default(),
        shared: Arc::clone(shared),
    });
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if server.is_dead.load(SeqCst) {
                return;
            }
            locked(&server.streams).push(stream.try_clone().expect("a socket"));
            let server = Arc::clone(&server);
            thread::spawn(move || {
                // A client that goes away ends its thread, nothing else; a connection that is hung up ends for its other handles, too.
                let _ = server.serve(&stream);
                let _ = stream.shutdown(Shutdown::Both);
            });
        }
    });
    addr
}

impl Server {
    fn tree(&self) -> MutexGuard<'_, Tree> {
        locked(&self.shared.tree)
    }

    /// Ends every connection, and the listener with the next one.
    fn die(&self, stream: &TcpStream) {
        self.is_dead.store(true, SeqCst);
        // Its end is what wakes the listener's thread; nobody is answered any more.
        let _ = stream.local_addr().map(TcpStream::connect);
        for stream in locked(&self.streams).drain(..) {
            // The client may have closed it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// The answer to a connect request; all zero refuses.
    fn welcome(&self, connect: &ConnectRequest) -> ConnectResponse {
        let is_known = connect.session == SessionId::NONE || (self.fault != Fault::Forgets && connect.password == PASSWORD);
        if connect.session != SessionId::NONE {
            locked(&self.shared.moves).push(connect.clone());
        }
        match is_known {
            true => ConnectResponse { timeout_ms: connect.timeout_ms, session: SessionId(7), password: PASSWORD, read_only: Some(false) },
            false => ConnectResponse::refused(Some(false)),
        }
    }

    fn serve(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let connect = ConnectRequest::decode(&read_frame(&mut stream)?).expect("a connect request");
        let mut out = Vec::new();
        if self.fault != Fault::MuteToMoves || connect.session == SessionId::NONE {
            self.welcome(&connect).write_frame(&mut out);
        }
        stream.write_all(&out)?;
        loop {
            let frame = read_frame(&mut stream)?;
            let mut r = Reader::new(&frame);
            let header = RequestHeader::read(&mut r).expect("a header");
            let request = Request::decode(OpCode::from_i32(header.op).expect("a known operation"), &mut r).expect("a body");
            let closes = request == Request::CloseSession;
            let is_last = matches!(request, Request::SetData { .. }) && self.fault == Fault::DieAt(self.sets.fetch_add(1, SeqCst) + 1);
            let Some(reply) = self.answer(header.xid, request, stream) else { return Ok(()) };
            if is_last {
                self.die(stream);
                return Ok(());
            }
            stream.write_all(&reply)?;
            if closes {
                return Ok(());
            }
        }
    }

    /// The whole reply frame; `None` hangs up.
    fn answer(&self, xid: Xid, request: Request<'_>, stream: &TcpStream) -> Option<Vec<u8>> {
        let mut tree = self.tree();
        let (mut xid, mut zxid_offset, mut fail) = (xid, 0, None);
        let mut short = false;
        if let Request::GetData { watch: false, .. } = request {
            let n = self.gets.fetch_add(1, SeqCst) + 1;
            match self.fault {
                Fault::WrongXid(at) if at == n => xid = Xid(xid.0 + 1),
                Fault::ShortData(at) if at == n => short = true,
                Fault::ZxidBack(at) if at == n => zxid_offset = -1,
                Fault::HangUp(at) if at == n => return None,
                Fault::Stall(at, how_long) if at == n => thread::sleep(how_long),
                Fault::Errors if n.is_multiple_of(2) => fail = Some(ErrorCode::NoNode),
                _ => {}
            }
        }
        let result = match fail {
            Some(code) => Err(code),
            None if self.fault == Fault::LosesCreates && loses(&request) => Ok(path_of(&request)),
            None => tree.apply(&request, stream, short, self.fault == Fault::DoubleEvents),
        };
        let (err, body) = result.map_or_else(|code| (code.code(), Vec::new()), |body| (0, body));
        let mut out = Vec::new();
        out.put_len(16 + body.len());
        out.put_i32(xid.0);
        out.put_i64(tree.zxid + zxid_offset);
        out.put_i32(err);
        out.put_raw(&body);
        Some(out)
    }
}

impl Tree {
    fn apply(&mut self, request: &Request<'_>, stream: &TcpStream, short: bool, double: bool) -> Result<Vec<u8>, ErrorCode> {
        let mut out = Vec::new();
        match request {
            Request::GetData { path, watch } => {
                let (len, _) = *self.node(path)?;
                out.put_buffer(Some(&vec![0; len - usize::from(short)]));
                self.stat(path)?.write(&mut out);
                if *watch {
                    self.watches.push(((*path).to_owned(), stream.try_clone().expect("a socket")));
                }
            }
            Request::AddWatch { path, .. } => self.recursive.push((format!("{path}/"), stream.try_clone().expect("a socket"))),
            Request::Exists { path, .. } => self.stat(path)?.write(&mut out),
            Request::GetChildren { path, with_stat, .. } => {
                self.node(path)?;
                let prefix = format!("{path}/");
                let names: Vec<_> = self.nodes.keys().filter_map(|p| p.strip_prefix(&prefix)).filter(|n| !n.contains('/')).collect();
                out.put_len(names.len());
                names.iter().for_each(|n| out.put_string(n));
                if *with_stat {
                    self.stat(path)?.write(&mut out);
                }
            }
            Request::SetData { path, data, .. } => {
                self.node(path)?.0 = data.map_or(0, <[u8]>::len);
                self.zxid += 1;
                self.stat(path)?.write(&mut out);
                self.fire(path, double);
            }
            Request::Create(create) => out.put_string(&self.create(create)?),
            Request::Delete { path, .. } => {
                if self.node(path)?.1 > 0 {
                    return Err(ErrorCode::NotEmpty);
                }
                self.nodes.remove(*path);
                if let Some(parent) = self.parent(path) {
                    parent.1 -= 1;
                }
                self.zxid += 1;
            }
            Request::Multi(parts) => {
                for part in parts {
                    let body = self.apply(part, stream, false, false)?;
                    out.put_i32(OpCode::SetData as i32);
                    out.put_bool(false);
                    out.put_i32(0);
                    out.put_raw(&body);
                }
                zoo::proto::response::write_multi_end(&mut out);
            }
            _ => {}
        }
        Ok(out)
    }

    fn create(&mut self, create: &CreateRequest<'_>) -> Result<String, ErrorCode> {
        let mut path = create.path.to_owned();
        if create.flags == 2 {
            path.push_str(&format!("{:010}", self.sequence));
            self.sequence += 1;
        }
        if self.nodes.contains_key(&path) {
            return Err(ErrorCode::NodeExists);
        }
        if path.matches('/').count() > 1 {
            self.parent(&path).ok_or(ErrorCode::NoNode)?.1 += 1;
        }
        self.nodes.insert(path.clone(), (create.data.map_or(0, <[u8]>::len), 0));
        self.zxid += 1;
        Ok(path)
    }

    fn fire(&mut self, path: &str, double: bool) {
        let (fired, kept): (Vec<_>, _) = std::mem::take(&mut self.watches).into_iter().partition(|(p, _)| p == path);
        self.watches = kept;
        let mut event = Vec::new();
        for _ in 0..1 + usize::from(double) {
            write_notification(&mut event, self.zxid, EventType::NodeDataChanged, path);
        }
        let below = self.recursive.iter().filter(|(above, _)| path.starts_with(above.as_str()));
        for (_, stream) in fired.iter().chain(below) {
            // The watcher may be gone.
            let _ = (&*stream).write_all(&event);
        }
    }

    fn node(&mut self, path: &str) -> Result<&mut (usize, i32), ErrorCode> {
        self.nodes.get_mut(path).ok_or(ErrorCode::NoNode)
    }

    fn parent(&mut self, path: &str) -> Option<&mut (usize, i32)> {
        let (parent, _) = path.rsplit_once('/')?;
        self.nodes.get_mut(parent)
    }

    fn stat(&mut self, path: &str) -> Result<Stat, ErrorCode> {
        let (len, num_children) = *self.node(path)?;
        Ok(Stat { data_length: len as i32, num_children, ..Stat::default() })
    }
}

/// The first znode of any connection of a run.
fn loses(request: &Request<'_>) -> bool {
    matches!(request, Request::Create(create) if create.path.ends_with("/n000000000"))
}

fn path_of(request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    if let Request::Create(create) = request {
        out.put_string(create.path);
    }
    out
}

fn read_frame(stream: &mut &TcpStream) -> io::Result<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let mut frame = vec![0; u32::from_be_bytes(head) as usize];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

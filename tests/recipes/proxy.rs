//! Between clients and a server: counts what they say to each other, and breaks connections where it hurts.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zoo::base::SessionId;
use zoo::proto::OpCode;
use zoo::proto::connect::{ConnectResponse, Password};

/// Where the next request of a kind ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// The server does not get it.
    Request,
    /// The server carries it out, the client does not hear of it.
    Answer,
    /// The session ends in its place.
    Expiry,
    /// The session ends when the server has carried it out, and before the client hears of it.
    LateExpiry,
    /// An event of a watch is not heard.
    Event,
    /// The session ends in its place.
    EventExpiry,
}

impl Cut {
    pub const ALL: [Cut; 6] = [Cut::Request, Cut::Answer, Cut::Expiry, Cut::LateExpiry, Cut::Event, Cut::EventExpiry];

    pub fn ends_the_session(self) -> bool {
        matches!(self, Cut::Expiry | Cut::LateExpiry | Cut::EventExpiry)
    }

    pub fn is_of_an_event(self) -> bool {
        matches!(self, Cut::Event | Cut::EventExpiry)
    }

    fn comes_after_the_request(self) -> bool {
        matches!(self, Cut::Answer | Cut::LateExpiry)
    }
}

struct Shared {
    target: SocketAddr,
    cuts: Mutex<Vec<(OpCode, Cut)>>,
    /// How many requests, or events, still pass before this happens.
    next_cut: Mutex<Option<(usize, Cut)>>,
    requests: Mutex<BTreeMap<i32, usize>>,
    events: AtomicUsize,
}

/// See the module. It serves until the process ends.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            target,
            cuts: Mutex::default(),
            next_cut: Mutex::default(),
            requests: Mutex::default(),
            events: AtomicUsize::new(0),
        });
        let serves = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if let Ok(server) = TcpStream::connect(serves.target) {
                    serves.join(client, server);
                }
            }
        });
        Proxy { address, shared }
    }

    /// Breaks the connection of the next request of this kind.
    pub fn cut(&self, op: OpCode, cut: Cut) {
        lock(&self.shared.cuts).push((op, cut));
    }

    /// Have all cuts been made?
    pub fn all_cut(&self) -> bool {
        lock(&self.shared.cuts).is_empty()
    }

    /// Breaks the connection of the request, or of the event, whatever its kind, behind so many others.
    pub fn cut_behind(&self, others: usize, cut: Cut) {
        *lock(&self.shared.next_cut) = Some((others, cut));
    }

    /// Has that happened? If not, it will not any more.
    pub fn has_cut(&self) -> bool {
        lock(&self.shared.next_cut).take().is_none()
    }

    /// Requests of this kind so far.
    pub fn requests(&self, op: OpCode) -> usize {
        lock(&self.shared.requests).get(&(op as i32)).copied().unwrap_or(0)
    }

    /// Requests of all kinds so far, but for pings.
    pub fn all_requests(&self) -> usize {
        let requests = lock(&self.shared.requests);
        requests.iter().filter(|(op, _)| **op != OpCode::Ping as i32).map(|(_, count)| count).sum()
    }

    /// Events of watches so far.
    pub fn events(&self) -> usize {
        self.shared.events.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn frame(from: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut frame = length.to_vec();
    frame.resize(4 + u32::from_be_bytes(length) as usize, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame)
}

fn number(frame: &[u8], at: usize) -> i32 {
    frame[at..].first_chunk().map_or(0, |bytes| i32::from_be_bytes(*bytes))
}

/// What both directions of a connection know.
#[derive(Default)]
struct Link {
    /// The answer that does not get through.
    doomed: Mutex<Option<(i32, Cut)>>,
    session: Mutex<Option<(SessionId, Password)>>,
}

impl Shared {
    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("a socket");
        }
        let link = Arc::new(Link::default());
        let (up, down) = (self.clone(), self.clone());
        let (link_up, ends) = (link.clone(), [&client, &server].map(|s| s.try_clone().expect("a socket")));
        let (from_client, to_server) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
        std::thread::spawn(move || {
            let _ = up.carry_requests(from_client, to_server, &link_up);
            ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
        });
        std::thread::spawn(move || {
            let _ = down.carry_answers(&server, &client, &link);
            [&client, &server].iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
        });
    }

    fn carry_requests(&self, mut from: TcpStream, mut to: TcpStream, link: &Link) -> std::io::Result<()> {
        to.write_all(&frame(&mut from)?)?;
        loop {
            let request = frame(&mut from)?;
            let (xid, op) = (number(&request, 4), number(&request, 8));
            match self.cut_at(xid, op) {
                Some(cut) if cut.comes_after_the_request() => *lock(&link.doomed) = Some((xid, cut)),
                Some(cut) => {
                    self.end_session(link, cut);
                    return Ok(());
                }
                None => *lock(&self.requests).entry(op).or_insert(0) += 1,
            }
            to.write_all(&request)?;
        }
    }

    fn cut_at(&self, xid: i32, op: i32) -> Option<Cut> {
        // Pings and watches that are set again have numbers below 0.
        if xid > 0
            && let Some(cut) = self.next_cut(|cut| !cut.is_of_an_event())
        {
            return Some(cut);
        }
        let mut cuts = lock(&self.cuts);
        cuts.iter().position(|(at, _)| *at as i32 == op).map(|i| cuts.remove(i).1)
    }

    /// The cut that is due here, if it is one of those meant; else it is nearer by one.
    fn next_cut(&self, is_meant: impl Fn(Cut) -> bool) -> Option<Cut> {
        let mut next = lock(&self.next_cut);
        let (behind, cut) = next.as_mut().filter(|(_, cut)| is_meant(*cut))?;
        if let Some(nearer) = behind.checked_sub(1) {
            *behind = nearer;
            return None;
        }
        let cut = *cut;
        *next = None;
        Some(cut)
    }

    fn carry_answers(&self, mut from: &TcpStream, mut to: &TcpStream, link: &Link) -> std::io::Result<()> {
        let greeting = frame(&mut from)?;
        *lock(&link.session) = ConnectResponse::decode(&greeting[4..]).ok().map(|greeting| (greeting.session, greeting.password));
        to.write_all(&greeting)?;
        loop {
            let answer = frame(&mut from)?;
            let xid = number(&answer, 4);
            if let Some((_, cut)) = lock(&link.doomed).filter(|(doomed, _)| *doomed == xid) {
                self.end_session(link, cut);
                return Ok(());
            }
            if xid == -1 {
                if let Some(cut) = self.next_cut(Cut::is_of_an_event) {
                    self.end_session(link, cut);
                    return Ok(());
                }
                self.events.fetch_add(1, Ordering::Relaxed);
            }
            to.write_all(&answer)?;
        }
    }

    fn end_session(&self, link: &Link, cut: Cut) {
        let session = *lock(&link.session);
        if let Some((id, password)) = session.filter(|_| cut.ends_the_session()) {
            super::end_session(self.target, id, password);
        }
    }
}

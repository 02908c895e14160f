//! Between clients and a server: counts what they say to each other, and breaks connections where it hurts.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use zoo::proto::OpCode;

/// Where the next request of a kind ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// The server does not get it.
    Request,
    /// The server carries it out, the client does not hear of it.
    Answer,
}

struct Shared {
    target: SocketAddr,
    cuts: Mutex<Vec<(OpCode, Cut)>>,
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
        let shared = Arc::new(Shared { target, cuts: Mutex::default(), requests: Mutex::default(), events: AtomicUsize::new(0) });
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
        self.shared.cuts.lock().unwrap_or_else(PoisonError::into_inner).push((op, cut));
    }

    /// Have all cuts been made?
    pub fn all_cut(&self) -> bool {
        self.shared.cuts.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Requests of this kind so far.
    pub fn requests(&self, op: OpCode) -> usize {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).get(&(op as i32)).copied().unwrap_or(0)
    }

    /// Requests of all kinds so far, but for pings.
    pub fn all_requests(&self) -> usize {
        let requests = self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().filter(|(op, _)| **op != OpCode::Ping as i32).map(|(_, count)| count).sum()
    }

    /// Events of watches so far.
    pub fn events(&self) -> usize {
        self.shared.events.load(Ordering::Relaxed)
    }
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

impl Shared {
    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("a socket");
        }
        let doomed = Arc::new(Mutex::new(None));
        let (up, down) = (self.clone(), self.clone());
        let (doomed_up, ends) = (doomed.clone(), [&client, &server].map(|s| s.try_clone().expect("a socket")));
        let (from_client, to_server) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
        std::thread::spawn(move || {
            let _ = up.carry_requests(from_client, to_server, &doomed_up);
            ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
        });
        std::thread::spawn(move || {
            let _ = down.carry_answers(&server, &client, &doomed);
            [&client, &server].iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
        });
    }

    fn carry_requests(&self, mut from: TcpStream, mut to: TcpStream, doomed: &Mutex<Option<i32>>) -> std::io::Result<()> {
        to.write_all(&frame(&mut from)?)?;
        loop {
            let request = frame(&mut from)?;
            let (xid, op) = (number(&request, 4), number(&request, 8));
            let cut = {
                let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
                cuts.iter().position(|(at, _)| *at as i32 == op).map(|i| cuts.remove(i).1)
            };
            match cut {
                Some(Cut::Request) => return Ok(()),
                Some(Cut::Answer) => *doomed.lock().unwrap_or_else(PoisonError::into_inner) = Some(xid),
                None => *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry(op).or_insert(0) += 1,
            }
            to.write_all(&request)?;
        }
    }

    fn carry_answers(&self, mut from: &TcpStream, mut to: &TcpStream, doomed: &Mutex<Option<i32>>) -> std::io::Result<()> {
        to.write_all(&frame(&mut from)?)?;
        loop {
            let answer = frame(&mut from)?;
            let xid = number(&answer, 4);
            if *doomed.lock().unwrap_or_else(PoisonError::into_inner) == Some(xid) {
                return Ok(());
            }
            if xid == -1 {
                self.events.fetch_add(1, Ordering::Relaxed);
            }
            to.write_all(&answer)?;
        }
    }
}

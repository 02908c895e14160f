//! A small blocking client: one request, one reply.

use super::request::{self, Request};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use zoo::base::{Reader, SessionId, Stat};
use zoo::proto::connect::{ConnectRequest, ConnectResponse};

const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Of the next request of any client. As with real clients a session never uses a number twice, not on another connection either: Java servers tell by session and
/// number which of their clients' requests a transaction answers, and a write that was refused elsewhere, because the session had moved, is such a transaction.
static NEXT_XID: AtomicI32 = AtomicI32::new(1);

#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    pub session: ConnectResponse,
}

/// A reply or an event (xid -1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub xid: i32,
    pub zxid: i64,
    pub err: i32,
    pub body: Vec<u8>,
}

impl Client {
    pub fn open(port: u16) -> Client {
        Self::attach(port, SessionId::NONE, &[0; 16])
    }

    /// Connects for an existing session; whether the server agreed is in `session`.
    pub fn attach(port: u16, session: SessionId, password: &[u8]) -> Client {
        Self::attach_with(port, session, password, 20_000)
    }

    pub fn attach_with(port: u16, session: SessionId, password: &[u8], timeout_ms: i32) -> Client {
        Self::try_attach(port, session, password, timeout_ms, 0).expect("an answer to the connect request")
    }

    /// The same from a server that may be gone, or have no role yet, or not have come as far as this client has seen.
    pub fn try_attach(port: u16, session: SessionId, password: &[u8], timeout_ms: i32, last_zxid_seen: i64) -> io::Result<Client> {
        let request = ConnectRequest { last_zxid_seen, ..ConnectRequest::again(session, password, timeout_ms) };
        Self::try_connect(port, &request)
    }

    /// Any connect request.
    pub fn try_connect(port: u16, request: &ConnectRequest) -> io::Result<Client> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.write_all(&request.frame())?;
        let answer = read_frame(&mut stream).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Client { stream, session: ConnectResponse::decode(&answer).unwrap() })
    }

    /// Bytes as they are; a failure shows when the answer is read.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next frame; `None` when the server has closed.
    pub fn receive(&mut self) -> Option<Reply> {
        let payload = read_frame(&mut self.stream)?;
        let mut r = Reader::new(&payload);
        let (xid, zxid, err) = (r.i32().unwrap(), r.i64().unwrap(), r.i32().unwrap());
        Some(Reply { xid, zxid, err, body: r.remaining().to_vec() })
    }

    /// The reply, skipping events; `None` when the server closed instead.
    pub fn try_call(&mut self, request: &Request) -> Option<Reply> {
        self.send(&request.frame(NEXT_XID.fetch_add(1, Ordering::Relaxed)));
        loop {
            let reply = self.receive()?;
            if reply.xid != -1 {
                return Some(reply);
            }
        }
    }

    pub fn call(&mut self, request: &Request) -> Reply {
        self.try_call(request).unwrap_or_else(|| panic!("closed after {}", request.describe()))
    }

    /// Only the error code.
    pub fn err(&mut self, request: &Request) -> i32 {
        self.call(request).err
    }

    /// A request that must succeed.
    pub fn ok(&mut self, request: &Request) -> Reply {
        let reply = self.call(request);
        assert_eq!(reply.err, 0, "{}", request.describe());
        reply
    }

    pub fn children(&mut self, path: &str) -> Vec<String> {
        let reply = self.ok(&request::get_children(path, false));
        let mut names: Vec<_> = Reader::new(&reply.body).string_vec().unwrap().iter().map(str::to_owned).collect();
        names.sort();
        names
    }

    pub fn data(&mut self, path: &str) -> (Option<Vec<u8>>, Stat) {
        let reply = self.ok(&request::get_data(path, false));
        let mut r = Reader::new(&reply.body);
        (r.buffer().unwrap().map(<[u8]>::to_vec), Stat::read(&mut r).unwrap())
    }

    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 1]), Ok(0) | Err(_))
    }
}

fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut payload = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some(payload)
}

//! One session over one socket: handshake, framing and buffers; blocking calls for preparations, and the non-blocking
//! halves that the driver's loop uses.

use crate::target::{Endpoint, Protocol};
use crate::workload::{Mismatch, begin_request, write_create_persistent, write_read};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use zoo::base::{DecodeError, Reader, SessionId, Xid};
use zoo::proto::connect::{ConnectRequest, ConnectResponse, Password};
use zoo::proto::response::{REPLY_HEADER_BYTES, ReplyHeader};
use zoo::proto::{ErrorCode, OpCode};

/// First size of a receive buffer: holds the replies of a deep pipeline in one read.
const IN_BUFFER_BYTES: usize = 64 << 10;
/// Longest reply accepted; longer means the stream is out of step.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// Wait for a connection, and for an answer while preparing.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What went wrong with a connection.
#[derive(Debug)]
pub enum Failure {
    /// The socket.
    Io(io::Error),
    /// The server closed it.
    Closed,
    /// The server refused the session.
    Refused,
    /// A reply that cannot be right.
    Mismatch(String),
    /// An error code where none may be.
    Code(i32, String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Io(e) => write!(f, "{e}"),
            Failure::Closed => f.write_str("the server closed the connection"),
            Failure::Refused => f.write_str("the server refused the session"),
            Failure::Mismatch(why) => write!(f, "wrong reply: {why}"),
            Failure::Code(code, what) => write!(f, "error {code} for {what}"),
        }
    }
}
impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Failure::Io(e)
    }
}
impl From<DecodeError> for Failure {
    fn from(e: DecodeError) -> Self {
        Failure::Mismatch(e.to_string())
    }
}
impl From<Mismatch> for Failure {
    fn from(m: Mismatch) -> Self {
        Failure::Mismatch(m.0)
    }
}

/// Received bytes, cut into frames.
#[derive(Debug)]
pub struct InBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl InBuffer {
    fn new() -> Self {
        InBuffer { bytes: vec![0; IN_BUFFER_BYTES], start: 0, end: 0 }
    }

    /// One read into the free part; 0 means the peer has closed.
    fn read_from(&mut self, mut source: impl Read) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end == self.bytes.len() {
                self.bytes.resize(2 * self.bytes.len(), 0);
            }
        }
        let n = source.read(&mut self.bytes[self.end..])?;
        self.end += n;
        Ok(n)
    }

    /// Appends bytes that came by another way.
    #[cfg(feature = "etcd")]
    fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            // Reading from memory cannot fail.
            let _ = self.read_from(&mut rest);
        }
    }

    /// True when the last read may have left bytes in the socket.
    fn is_full(&self) -> bool {
        self.end == self.bytes.len()
    }

    /// The payload of the next whole frame.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, Failure> {
        let Some(head) = self.bytes[self.start..self.end].first_chunk::<4>() else { return Ok(None) };
        let len = i32::from_be_bytes(*head);
        let Some(len) = usize::try_from(len).ok().filter(|n| *n <= REPLY_BYTES_MAX) else {
            return Err(Failure::Mismatch(format!("frame length {len}")));
        };
        let (from, to) = (self.start + 4, self.start + 4 + len);
        if to > self.end {
            return Ok(None);
        }
        self.start = to;
        Ok(Some(&self.bytes[from..to]))
    }
}

/// Splits a reply into its header and body.
pub fn split_reply(frame: &[u8]) -> Result<(ReplyHeader, &[u8]), Failure> {
    let header = ReplyHeader::read(&mut Reader::new(frame))?;
    Ok((header, &frame[REPLY_HEADER_BYTES..]))
}

fn millis(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}

/// Sends what the socket takes of it; true when nothing is left.
fn write_some(mut stream: &TcpStream, output: &mut Vec<u8>, sent: &mut usize) -> Result<bool, Failure> {
    while *sent < output.len() {
        match stream.write(&output[*sent..]) {
            Ok(0) => return Err(Failure::Closed),
            Ok(n) => *sent += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    output.clear();
    *sent = 0;
    Ok(true)
}

/// How much was there; `None` when nothing was.
fn read_some(read: impl FnOnce() -> io::Result<usize>) -> Result<Option<usize>, Failure> {
    match read() {
        Ok(0) => Err(Failure::Closed),
        Ok(n) => Ok(Some(n)),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// A socket whose connection is being made; the first write tells whether it was.
fn begin_connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    match rustix::net::connect(&socket, &addr) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(e) => return Err(e.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A session without a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    /// Its number.
    pub id: SessionId,
    password: Password,
}

impl Ticket {
    /// As [`Session::move_to`].
    pub fn resume(&self, addr: SocketAddr, timeout: Duration, last_zxid_seen: i64) -> Result<Session, Failure> {
        let mut session = Session::over(begin_connect(addr)?, self.id, self.password);
        let again = ConnectRequest::again(self.id, &self.password, millis(timeout));
        ConnectRequest { last_zxid_seen, ..again }.write_frame(&mut session.output);
        Ok(session)
    }
}

/// A connected session.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    /// Received bytes.
    pub input: InBuffer,
    /// Requests not sent yet.
    pub output: Vec<u8>,
    sent: usize,
    /// What etcd is told and says instead.
    #[cfg(feature = "etcd")]
    etcd: Option<Box<crate::etcd::Wire>>,
    last_xid: i32,
    /// Its number; `NONE` until the server has given one.
    pub id: SessionId,
    password: Password,
}

impl Session {
    /// Connects and waits for the session.
    pub fn connect(server: impl Into<Endpoint>, timeout: Duration) -> Result<Self, Failure> {
        Self::connect_within(CALL_TIMEOUT, server, timeout)
    }

    /// The same with another limit on the wait for the connection and for each answer.
    pub fn connect_within(limit: Duration, server: impl Into<Endpoint>, timeout: Duration) -> Result<Self, Failure> {
        let Endpoint { addr, protocol } = server.into();
        let stream = TcpStream::connect_timeout(&addr, limit)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        let mut session = Session::over(stream, SessionId::NONE, Password::default());
        match protocol {
            Protocol::ZooKeeper => {}
            #[cfg(feature = "etcd")]
            Protocol::Etcd => {
                session.etcd = Some(Box::new(crate::etcd::Wire::new(addr.to_string())));
                return Ok(session);
            }
        }
        ConnectRequest::new_session(millis(timeout)).write_frame(&mut session.output);
        session.flush()?;
        let response = ConnectResponse::decode(session.wait_frame()?)?;
        session.welcome(&response)?;
        Ok(session)
    }

    /// Begins to move this session to another server, without waiting for anything: its connect request is the first output, and the server's
    /// answer to it the first input. A session without a number asks for a new one.
    pub fn move_to(&self, addr: SocketAddr, timeout: Duration, last_zxid_seen: i64) -> Result<Self, Failure> {
        self.ticket().resume(addr, timeout, last_zxid_seen)
    }

    /// What is needed to come back after the connection is gone.
    pub fn ticket(&self) -> Ticket {
        Ticket { id: self.id, password: self.password }
    }

    fn over(stream: TcpStream, id: SessionId, password: Password) -> Self {
        Session {
            stream,
            input: InBuffer::new(),
            output: Vec::new(),
            sent: 0,
            #[cfg(feature = "etcd")]
            etcd: None,
            last_xid: 0,
            id,
            password,
        }
    }

    /// The server's answer to the connect request.
    pub fn welcome(&mut self, response: &ConnectResponse) -> Result<(), Failure> {
        if response.timeout_ms <= 0 {
            return Err(Failure::Refused);
        }
        (self.id, self.password) = (response.session, response.password);
        Ok(())
    }

    /// The session has ended: the next move asks for a new one.
    pub fn forget(&mut self) {
        (self.id, self.password) = (SessionId::NONE, Password::default());
    }

    /// The socket, for epoll and options.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The next request number; starts again at 1 rather than run into the reserved negative ones.
    pub fn next_xid(&mut self) -> Xid {
        self.last_xid = self.last_xid.checked_add(1).unwrap_or(1);
        Xid(self.last_xid)
    }

    /// Sends what the socket takes; true when nothing is left.
    pub fn flush(&mut self) -> Result<bool, Failure> {
        #[cfg(feature = "etcd")]
        if let Some(wire) = &mut self.etcd {
            let requests = std::mem::take(&mut self.output);
            wire.ask(&requests)?;
            return write_some(&self.stream, &mut wire.out, &mut self.sent);
        }
        write_some(&self.stream, &mut self.output, &mut self.sent)
    }

    /// One receive; false when nothing was there.
    pub fn receive(&mut self) -> Result<bool, Failure> {
        #[cfg(feature = "etcd")]
        if let Some(wire) = &mut self.etcd {
            let mut bytes = [0; IN_BUFFER_BYTES];
            let Some(n) = read_some(|| (&self.stream).read(&mut bytes))? else { return Ok(false) };
            let mut replies = Vec::new();
            wire.take(&bytes[..n], &mut replies)?;
            self.input.push(&replies);
            write_some(&self.stream, &mut wire.out, &mut self.sent)?;
            return Ok(true);
        }
        Ok(read_some(|| self.input.read_from(&self.stream))?.is_some())
    }

    /// True when another receive is worth its system call.
    pub fn may_have_more(&self) -> bool {
        self.input.is_full()
    }

    /// Waits for one frame (blocking sockets only).
    pub fn wait_frame(&mut self) -> Result<&[u8], Failure> {
        // Two steps: the borrow checker does not accept returning the frame from inside the loop.
        while !self.has_frame() {
            if !self.receive()? {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
        }
        self.input.next_frame()?.ok_or(Failure::Closed)
    }

    fn has_frame(&self) -> bool {
        let bytes = &self.input.bytes[self.input.start..self.input.end];
        let Some(head) = bytes.first_chunk::<4>() else { return false };
        // A negative length counts as a frame here and fails when it is taken.
        usize::try_from(i32::from_be_bytes(*head)).map_or(true, |len| len > REPLY_BYTES_MAX || bytes.len() >= 4 + len)
    }

    /// Sends one request and waits for its reply; notifications before it are passed over.
    pub fn call(&mut self, write: impl FnOnce(&mut Vec<u8>, Xid)) -> Result<(ReplyHeader, Vec<u8>), Failure> {
        let xid = self.next_xid();
        write(&mut self.output, xid);
        self.flush()?;
        loop {
            let (header, body) = split_reply(self.wait_frame()?)?;
            if header.xid == Xid::NOTIFICATION {
                continue;
            }
            if header.xid != xid {
                return Err(Failure::Mismatch(format!("reply to xid {} instead of {}", header.xid.0, xid.0)));
            }
            return Ok((header, body.to_vec()));
        }
    }

    /// Creates a persistent znode; one that exists already is fine.
    pub fn create_if_absent(&mut self, path: &str, data: &[u8]) -> Result<(), Failure> {
        let (header, _) = self.call(|out, xid| write_create_persistent(out, xid, path, data))?;
        match header.err {
            0 => Ok(()),
            e if e == ErrorCode::NodeExists.code() => Ok(()),
            e => Err(Failure::Code(e, format!("create {path}"))),
        }
    }

    /// Creates `path` and every parent that is missing.
    pub fn create_all(&mut self, path: &str) -> Result<(), Failure> {
        for (at, _) in path.match_indices('/').skip(1) {
            self.create_if_absent(&path[..at], b"")?;
        }
        self.create_if_absent(path, b"")
    }

    /// Names of the children; none when there is no such znode.
    pub fn children(&mut self, path: &str) -> Result<Vec<String>, Failure> {
        let (header, body) = self.call(|out, xid| write_read(out, xid, OpCode::GetChildren, path, false))?;
        match header.err {
            0 => Ok(Reader::new(&body).string_vec()?.iter().map(str::to_owned).collect()),
            e if e == ErrorCode::NoNode.code() => Ok(Vec::new()),
            e => Err(Failure::Code(e, format!("getChildren {path}"))),
        }
    }

    /// Sends many requests with at most `depth` unanswered; `on_error` judges error codes (Err stops).
    pub fn pipeline(
        &mut self,
        count: usize,
        depth: usize,
        mut write: impl FnMut(usize, Xid, &mut Vec<u8>),
        mut on_reply: impl FnMut(usize, i32) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (first, mut issued, mut answered) = (self.last_xid + 1, 0, 0);
        while answered < count {
            // Topped up in halves, so that requests leave in bursts rather than one for one.
            if issued - answered <= depth / 2 {
                while issued < count && issued - answered < depth {
                    let xid = self.next_xid();
                    write(issued, xid, &mut self.output);
                    issued += 1;
                }
                self.flush()?;
            }
            let (header, _) = split_reply(self.wait_frame()?)?;
            if header.xid.0 != first + answered as i32 {
                return Err(Failure::Mismatch(format!("reply to xid {} instead of {}", header.xid.0, first + answered as i32)));
            }
            on_reply(answered, header.err)?;
            answered += 1;
        }
        Ok(())
    }

    /// Closes the session (blocking) and, with it, its ephemerals and watches.
    pub fn close(mut self) -> Result<(), Failure> {
        self.stream.set_nonblocking(false)?;
        let (header, _) = self.call(|out, xid| begin_request(out, xid, OpCode::CloseSession).finish(out))?;
        if header.err == 0 { Ok(()) } else { Err(Failure::Code(header.err, "closeSession".to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_bytes_arrive() {
        let mut wire = Vec::new();
        for n in [3usize, 0, 100_000, 5] {
            wire.extend_from_slice(&(n as i32).to_be_bytes());
            wire.extend(std::iter::repeat_n(7u8, n));
        }
        for step in [1, 7, 4_096, wire.len()] {
            let (mut input, mut got) = (InBuffer::new(), Vec::new());
            for chunk in wire.chunks(step) {
                let mut rest = chunk;
                while !rest.is_empty() {
                    input.read_from(&mut rest).expect("memory");
                    while let Some(frame) = input.next_frame().expect("valid") {
                        got.push(frame.len());
                    }
                }
            }
            assert_eq!(got, [3, 0, 100_000, 5], "step {step}");
        }
    }

    #[test]
    fn an_impossible_length_is_a_failure_not_an_allocation() {
        for len in [-1, i32::MAX] {
            let mut input = InBuffer::new();
            input.read_from(&len.to_be_bytes()[..]).expect("memory");
            assert!(matches!(input.next_frame(), Err(Failure::Mismatch(_))));
        }
    }
}

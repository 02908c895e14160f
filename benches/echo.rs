//! The floor under every reply: a bare glommio server that answers with frames of the right size and does nothing else.
//!
//! `cargo bench --bench echo` measures its round trip over loopback with one blocking client.
//! `cargo bench --bench echo -- --listen 127.0.0.1:7001 [--value-size 100]` serves until it is killed, for `loadgen`.
//!
//! One executor, one task per connection, the shape the real server has: one receive, all frames in it, one send. A getData with a
//! watch is remembered, and the next setData of anything sends an event to all of these: one frame, as many sends.

use glommio::io::PollableFd;
use glommio::{LocalExecutorBuilder, Placement};
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};
use zoo::base::{Reader, SessionId, Stat, Writer};
use zoo::proto::connect::{ConnectRequest, ConnectResponse};
use zoo::proto::event::write_notification;
use zoo::proto::response::ReplyHeader;
use zoo::proto::{ErrorCode, EventType, OpCode};

/// As the server's executors.
const IO_MEMORY: usize = 64 << 10;
const RING_DEPTH: usize = 128;
const PREEMPT_TIMER: Duration = Duration::from_millis(1);
/// Receive buffer of a connection.
const BUFFER_BYTES: usize = 64 << 10;
/// Round trips measured, and those before.
const ROUND_TRIPS: usize = 20_000;
const WARMUP_ROUND_TRIPS: usize = 2_000;
/// When it only has to be shown that the program works.
const ROUND_TRIPS_IN_TEST: usize = 100;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1));
    let value_size = value("--value-size").map_or(100, |n| n.parse().expect("--value-size takes a number"));
    if let Some(addr) = value("--listen") {
        let listener = TcpListener::bind(addr).unwrap_or_else(|e| panic!("{addr}: {e}"));
        println!("echo server on {addr}, values of {value_size} B, process {}", std::process::id());
        serve(listener, value_size);
        return;
    }
    let measured = args.iter().any(|a| a == "--bench");
    round_trips(value_size, if measured { ROUND_TRIPS } else { ROUND_TRIPS_IN_TEST });
}

fn serve(listener: TcpListener, value_size: usize) {
    listener.set_nonblocking(true).expect("a listener can be non-blocking");
    LocalExecutorBuilder::new(Placement::Unbound)
        .name("echo")
        .io_memory(IO_MEMORY)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        .spawn(move || async move {
            let listener = PollableFd::new(listener).expect("inside an executor");
            let watchers = Rc::new(RefCell::new(Vec::new()));
            loop {
                match listener.get_ref().accept() {
                    Ok((stream, _)) => {
                        drop(glommio::spawn_local(connection(stream, Answers::new(value_size), watchers.clone())).detach());
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => listener.readable().await.expect("poll a listener"),
                    Err(e) => panic!("accept: {e}"),
                }
            }
        })
        .expect("io_uring is available")
        .join()
        .expect("the executor does not panic");
}

type Watchers = Rc<RefCell<Vec<Rc<PollableFd<TcpStream>>>>>;

async fn connection(stream: TcpStream, answers: Answers, watchers: Watchers) {
    if stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true)).is_err() {
        return;
    }
    let Ok(socket) = PollableFd::new(stream).map(Rc::new) else { return };
    let (mut input, mut filled, mut output, mut connected) = (vec![0u8; BUFFER_BYTES], 0, Vec::with_capacity(BUFFER_BYTES), false);
    loop {
        if socket.readable().await.is_err() {
            return;
        }
        match socket.get_ref().read(&mut input[filled..]) {
            Ok(0) => return,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        }
        let mut at = 0;
        let mut ends = false;
        while let Some(head) = input[at..filled].first_chunk::<4>() {
            let end = at + 4 + u32::from_be_bytes(*head) as usize;
            assert!(end - at <= BUFFER_BYTES, "frames of this program's clients fit the buffer");
            if end > filled {
                break;
            }
            let frame = &input[at + 4..end];
            if connected {
                watch(frame, &socket, &watchers);
            }
            ends |= answers.answer(frame, &mut connected, &mut output);
            at = end;
        }
        input.copy_within(at..filled, 0);
        filled -= at;
        if send_all(&socket, &output).await.is_err() || ends {
            return;
        }
        output.clear();
    }
}

/// Remembers who watches, and tells all of them when something is set.
fn watch(frame: &[u8], socket: &Rc<PollableFd<TcpStream>>, watchers: &Watchers) {
    let mut r = Reader::new(frame);
    let op = r.i32().and_then(|_xid| r.i32()).ok().and_then(OpCode::from_i32);
    let path = r.string().unwrap_or_default();
    match op {
        Some(OpCode::GetData) if r.bool() == Ok(true) => watchers.borrow_mut().push(socket.clone()),
        Some(OpCode::SetData) => {
            let mut event = Vec::new();
            write_notification(&mut event, 0, EventType::NodeDataChanged, path);
            for watcher in watchers.borrow_mut().drain(..) {
                // A client that is gone hears nothing; one that does not read for so long is not one of this program's.
                drop(watcher.get_ref().write(&event));
            }
        }
        _ => {}
    }
}

async fn send_all(socket: &PollableFd<TcpStream>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.get_ref().write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => socket.writable().await.map_err(io::Error::other)?,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Bodies made beforehand.
struct Answers {
    get: Vec<u8>,
    stat: Vec<u8>,
}

impl Answers {
    fn new(value_size: usize) -> Self {
        let stat = Stat { data_length: value_size as i32, ..Stat::default() };
        let (mut get, mut only_stat) = (Vec::new(), Vec::new());
        get.put_buffer(Some(&vec![b'v'; value_size]));
        stat.write(&mut get);
        stat.write(&mut only_stat);
        Answers { get, stat: only_stat }
    }

    /// Appends the answer to one frame; true when it asks to close the session.
    fn answer(&self, frame: &[u8], connected: &mut bool, out: &mut Vec<u8>) -> bool {
        let mut r = Reader::new(frame);
        if !std::mem::replace(connected, true) {
            let request = ConnectRequest::decode(frame).expect("clients of this program are well behaved");
            ConnectResponse { timeout_ms: request.timeout_ms, session: SessionId(1), password: [0; 16], read_only: Some(false) }
                .write_frame(out);
            return false;
        }
        let (xid, op) = (r.i32().expect("a header"), r.i32().expect("a header"));
        let (err, body) = match OpCode::from_i32(op) {
            Some(OpCode::GetData) => (0, &self.get[..]),
            Some(OpCode::SetData | OpCode::Exists) => (0, &self.stat[..]),
            // The path comes back as it came, length included.
            Some(OpCode::Create) => (0, r.remaining().get(..4 + r.string().map_or(0, str::len)).unwrap_or_default()),
            Some(OpCode::GetChildren | OpCode::GetChildren2) => (ErrorCode::NoNode.code(), &[][..]),
            _ => (0, &[][..]),
        };
        out.put_len(16 + body.len());
        out.put_i32(xid);
        out.put_i64(0);
        out.put_i32(err);
        out.put_raw(body);
        op == OpCode::CloseSession as i32
    }
}

fn round_trips(value_size: usize, count: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("bound");
    std::thread::spawn(move || serve(listener, value_size));
    let mut client = Client::connect(addr);
    for (name, op) in [("getData", OpCode::GetData), ("setData", OpCode::SetData)] {
        let mut body = Vec::new();
        body.put_string("/loadgen/keys/k0000000");
        match op {
            OpCode::GetData => body.put_bool(false),
            _ => {
                body.put_buffer(Some(&vec![b'v'; value_size]));
                body.put_i32(-1);
            }
        }
        let mut took: Vec<_> = (0..WARMUP_ROUND_TRIPS.min(count) + count).map(|i| client.round_trip(i as i32 + 1, op, &body)).collect();
        took.drain(..took.len() - count);
        took.sort();
        let us = |q: f64| took[((count - 1) as f64 * q) as usize].as_secs_f64() * 1e6;
        println!("echo, one connection, {name} of {value_size} B: p50 {:.1} µs, p99 {:.1} µs ({count} round trips)", us(0.5), us(0.99));
    }
}

/// A blocking client: what it costs belongs to the round trip.
struct Client {
    stream: TcpStream,
    out: Vec<u8>,
}

impl Client {
    fn connect(addr: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("the server listens");
        stream.set_nodelay(true).expect("TCP");
        let mut client = Client { stream, out: Vec::new() };
        ConnectRequest::new_session(30_000).write_frame(&mut client.out);
        client.exchange(|frame| assert!(ConnectResponse::decode(frame).is_ok_and(|r| r.timeout_ms > 0)));
        client
    }

    fn round_trip(&mut self, xid: i32, op: OpCode, body: &[u8]) -> Duration {
        let start = Instant::now();
        self.out.put_len(8 + body.len());
        self.out.put_i32(xid);
        self.out.put_i32(op as i32);
        self.out.put_raw(body);
        self.exchange(|frame| {
            let header = ReplyHeader::read(&mut Reader::new(frame)).expect("a header");
            assert_eq!((header.xid.0, header.err), (xid, 0));
        });
        start.elapsed()
    }

    fn exchange(&mut self, check: impl FnOnce(&[u8])) {
        self.stream.write_all(&self.out).expect("the server reads");
        self.out.clear();
        let (mut buffer, mut filled) = ([0u8; 4096], 0);
        loop {
            let n = self.stream.read(&mut buffer[filled..]).expect("the server answers");
            assert!(n > 0, "the server closed");
            filled += n;
            if let Some(head) = buffer[..filled].first_chunk::<4>() {
                let end = 4 + u32::from_be_bytes(*head) as usize;
                if filled >= end {
                    return check(&buffer[4..end]);
                }
            }
        }
    }
}

//! The floor under every reply: a bare glommio server that answers with frames of the right size and does nothing else.
//!
//! `cargo bench --bench echo` measures its round trip over loopback with one blocking client.
//! `cargo bench --bench echo -- --listen 127.0.0.1:7001 [--value-size 100]` serves until it is killed, for `loadgen`.

#[path = "support/echo.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};
use support::serve;
use zoo::base::{Reader, Writer};
use zoo::proto::OpCode;
use zoo::proto::connect::{ConnectRequest, ConnectResponse};
use zoo::proto::response::ReplyHeader;

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

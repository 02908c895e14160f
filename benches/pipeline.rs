//! Requests from bytes to bytes on one thread: shard, replica, log framing and tree, with a disk that completes at once. What is
//! left out is the reactor (sockets, wake-ups) and the flush; so this is the CPU cost of our own code per request. Beside getData and setData what one
//! would write first: a hash map, no log, no sessions, no order, a string for every path.
//!
//! `--count KIND` does a fixed amount of work of one kind in the function `counted`, and prints how many requests that were: for
//! `benches/instructions.sh`. `--count` alone prints the kinds.
#![allow(missing_docs)]

#[path = "../tests/pipeline/driver.rs"]
mod driver;

use criterion::{BatchSize, Criterion, Throughput, criterion_group};
use driver::{Setup, World, frame, put_create};
use std::collections::HashMap;
use zoo::base::stat::STAT_WIRE_BYTES;
use zoo::base::{ConnId, Reader, Writer, Zxid};
use zoo::proto::request::RequestHeader;
use zoo::proto::response::ReplyFrame;
use zoo::proto::{OpCode, Request};

const PIPELINED: usize = 64;
const NODES: usize = 10_000;
/// Rounds whose instructions are counted, and as many before them.
const COUNTED: usize = 100;

/// The server whose costs are measured is built with this one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is asked for: its name, the operation, and its body for the n-th node.
type Kind = (&'static str, OpCode, fn(&mut Vec<u8>, usize));

const GET: Kind = ("getData", OpCode::GetData, read_body);
const EXISTS: Kind = ("exists", OpCode::Exists, read_body);
const SET: Kind = ("setData", OpCode::SetData, set_body);
const WATCH: Kind = ("getData with watch", OpCode::GetData, watch_body);
const SET_WATCHED: Kind = ("setData of watched nodes", OpCode::SetData, set_body);

fn read_body(b: &mut Vec<u8>, i: usize) {
    b.put_string(&path(i));
    b.put_bool(false);
}

fn watch_body(b: &mut Vec<u8>, i: usize) {
    b.put_string(&path(i));
    b.put_bool(true);
}

fn set_body(b: &mut Vec<u8>, i: usize) {
    b.put_string(&path(i));
    b.put_string(&"y".repeat(100));
    b.put_i32(-1);
}

/// As many requests as a round has, for nodes that lie apart.
fn burst(next: &mut usize, (_, op, body): Kind) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..PIPELINED {
        *next = (*next + 7919) % NODES;
        bytes.extend(frame(1, op as i32, |b| body(b, *next)));
    }
    bytes
}

/// A pair of requests, so many times, for nodes that did not exist before.
fn creates_and_deletes(number: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..PIPELINED {
        *number += 1;
        let path = format!("/app/svc-00/new-{number}");
        bytes.extend(frame(1, OpCode::Create as i32, |b| put_create(b, &path, "x", 0)));
        bytes.extend(frame(1, OpCode::Delete as i32, |b| {
            b.put_string(&path);
            b.put_i32(-1);
        }));
    }
    bytes
}

fn path(i: usize) -> String {
    format!("/app/svc-{:02}/inst-{:03}", i / 1000, i % 1000)
}

/// A server with `NODES` nodes of 100 bytes, and a client.
fn filled() -> (World, usize) {
    let mut setup = Setup::default();
    setup.shard.watches_per_session_max = 2 * NODES;
    let mut w = World::new(setup);
    let (c, _) = w.connect(0);
    w.create(c, "/app", "", 0);
    for i in 0..NODES {
        if i % 1000 == 0 {
            w.create(c, &format!("/app/svc-{:02}", i / 1000), "", 0);
        }
        w.create(c, &path(i), &"x".repeat(100), 0);
        if i % 100 == 0 {
            w.settle();
        }
    }
    w.settle();
    w.take(c);
    (w, c)
}

/// One receive of these bytes, everything that follows, and the send of what it made ready.
fn round(w: &mut World, conn: ConnId, mut bytes: &[u8]) -> usize {
    let now = w.now;
    while !bytes.is_empty() {
        let room = w.shards[0].shard.input(conn);
        let n = room.len().min(bytes.len());
        room[..n].copy_from_slice(&bytes[..n]);
        bytes = &bytes[n..];
        w.shards[0].shard.received(now, conn, n);
    }
    while w.replica_step(256) | w.disk_step() {}
    w.taken.clear();
    let shard = &mut w.shards[0].shard;
    let mut sent = 0;
    loop {
        shard.drain(now);
        while let Some(conn) = shard.poll_transmit() {
            let n = shard.output(conn).len();
            shard.sent(conn, n);
            sent += n;
        }
        if !shard.behind() {
            return sent;
        }
    }
}

fn requests(c: &mut Criterion) {
    let (mut w, client) = filled();
    let conn = w.clients[client].conn;
    let mut group = c.benchmark_group("pipeline, 64 requests a round");
    group.throughput(Throughput::Elements(PIPELINED as u64));
    let mut next = 0;
    // A successful reply of each of these has a Stat in it: a round of refusals would be fast and worth nothing.
    let sent_min = PIPELINED * (20 + STAT_WIRE_BYTES);
    for kind in [GET, EXISTS, SET, WATCH, SET_WATCHED] {
        group.bench_function(kind.0, |b| {
            b.iter_batched(|| burst(&mut next, kind), |bytes| assert!(round(&mut w, conn, &bytes) >= sent_min), BatchSize::SmallInput);
        });
    }
    let mut nodes: HashMap<String, (i64, Vec<u8>)> = (0..NODES).map(|i| (path(i), (0, vec![b'x'; 100]))).collect();
    for kind in [GET, SET] {
        group.bench_function(format!("{}, naive", kind.0), |b| {
            b.iter_batched(|| burst(&mut next, kind), |bytes| assert!(naive(&mut nodes, &bytes).len() >= sent_min), BatchSize::SmallInput);
        });
    }
    group.finish();

    let mut number = 0;
    let mut group = c.benchmark_group("pipeline, 64 creates and their deletes a round");
    group.throughput(Throughput::Elements(2 * PIPELINED as u64));
    group.bench_function(CREATE_DELETE, |b| {
        b.iter_batched(|| creates_and_deletes(&mut number), |bytes| assert!(round(&mut w, conn, &bytes) > 0), BatchSize::SmallInput);
    });
    group.finish();
}

/// Answers getData and setData from a map.
fn naive(nodes: &mut HashMap<String, (i64, Vec<u8>)>, mut bytes: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        let mut body = Reader::new(frame);
        let header = RequestHeader::read(&mut body).expect("a header");
        let (node, data) = match Request::decode(OpCode::from_i32(header.op).expect("an operation"), &mut body).expect("a request") {
            Request::GetData { path, .. } => nodes.get_mut(&path.to_owned()).map(|node| (node.0, Some(node.1.clone()))),
            Request::SetData { path, data, .. } => nodes.get_mut(&path.to_owned()).map(|node| {
                *node = (node.0 + 1, data.unwrap_or_default().to_vec());
                (node.0, None)
            }),
            other => unreachable!("{other:?}"),
        }
        .expect("there");
        let reply = ReplyFrame::begin(&mut sent, header.xid, Zxid(node as u64));
        if let Some(data) = data {
            sent.put_buffer(Some(&data));
        }
        sent.put_raw(&[0; STAT_WIRE_BYTES]);
        reply.finish(&mut sent);
        bytes = rest;
    }
    sent
}

const CREATE_DELETE: &str = "create + delete";

/// The only function whose instructions count.
#[inline(never)]
fn counted(w: &mut World, conn: ConnId, rounds: &[Vec<u8>]) -> usize {
    rounds.iter().map(|bytes| round(w, conn, bytes)).sum()
}

fn count(name: Option<&str>) {
    let kinds = [GET, EXISTS, SET];
    let Some(name) = name else {
        return kinds.iter().map(|kind| kind.0).chain([CREATE_DELETE]).for_each(|name| println!("{name}"));
    };
    let (mut w, client) = filled();
    let conn = w.clients[client].conn;
    let (mut next, mut number) = (0, 0);
    let mut bytes = || match kinds.iter().find(|kind| kind.0 == name) {
        Some(kind) => burst(&mut next, *kind),
        None => creates_and_deletes(&mut number),
    };
    let rounds: Vec<Vec<u8>> = (0..2 * COUNTED).map(|_| bytes()).collect();
    let (before, measured) = rounds.split_at(COUNTED);
    before.iter().for_each(|bytes| assert!(round(&mut w, conn, bytes) > 0));
    assert!(counted(&mut w, conn, measured) > 0);
    println!("{}", COUNTED * PIPELINED * if name == CREATE_DELETE { 2 } else { 1 });
}

criterion_group!(benches, requests);

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if let Some(at) = words.iter().position(|word| word == "--count") {
        return count(words.get(at + 1).map(String::as_str).filter(|word| !word.starts_with("--")));
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}

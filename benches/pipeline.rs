//! Requests from bytes to bytes on one thread: shard, replica, log framing and tree, with a disk that completes at once. What is
//! left out is the reactor (sockets, wake-ups) and the flush; so this is the CPU cost of our own code per request.
#![allow(missing_docs)]

#[path = "../tests/pipeline/driver.rs"]
mod driver;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use driver::{Setup, World, frame, put_create};
use zoo::base::stat::STAT_WIRE_BYTES;
use zoo::base::{ConnId, Writer};
use zoo::proto::OpCode;

const PIPELINED: usize = 64;
const NODES: usize = 10_000;

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
    let mut burst = |op: OpCode, body: &dyn Fn(&mut Vec<u8>, usize)| {
        let mut bytes = Vec::new();
        for _ in 0..PIPELINED {
            next = (next + 7919) % NODES;
            bytes.extend(frame(1, op as i32, |b| body(b, next)));
        }
        bytes
    };
    let get = |b: &mut Vec<u8>, i: usize| {
        b.put_string(&path(i));
        b.put_bool(false);
    };
    let watch = |b: &mut Vec<u8>, i: usize| {
        b.put_string(&path(i));
        b.put_bool(true);
    };
    let set = |b: &mut Vec<u8>, i: usize| {
        b.put_string(&path(i));
        b.put_string(&"y".repeat(100));
        b.put_i32(-1);
    };
    // A successful reply of each of these has a Stat in it: a round of refusals would be fast and worth nothing.
    let sent_min = PIPELINED * (20 + STAT_WIRE_BYTES);
    let mut run = |name: &str, op: OpCode, body: &dyn Fn(&mut Vec<u8>, usize)| {
        group.bench_function(name, |b| {
            b.iter_batched(|| burst(op, body), |bytes| assert!(round(&mut w, conn, &bytes) >= sent_min), BatchSize::SmallInput);
        });
    };
    run("getData", OpCode::GetData, &get);
    run("exists", OpCode::Exists, &get);
    run("setData", OpCode::SetData, &set);
    run("getData with watch", OpCode::GetData, &watch);
    run("setData of watched nodes", OpCode::SetData, &set);
    group.finish();

    let mut number = 0;
    let mut group = c.benchmark_group("pipeline, 64 creates and their deletes a round");
    group.throughput(Throughput::Elements(2 * PIPELINED as u64));
    group.bench_function("create + delete", |b| {
        b.iter_batched(
            || {
                let mut bytes = Vec::new();
                for _ in 0..PIPELINED {
                    number += 1;
                    let path = format!("/app/svc-00/new-{number}");
                    bytes.extend(frame(1, OpCode::Create as i32, |b| put_create(b, &path, "x", 0)));
                    bytes.extend(frame(1, OpCode::Delete as i32, |b| {
                        b.put_string(&path);
                        b.put_i32(-1);
                    }));
                }
                bytes
            },
            |bytes| assert!(round(&mut w, conn, &bytes) > 0),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, requests);
criterion_main!(benches);

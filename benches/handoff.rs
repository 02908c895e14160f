//! What it costs to hand things between cores, without the cores: inbox, stream, doorbells. Beside each the naive way: a queue behind a lock,
//! one for each reader, a channel's wake-up.
#![allow(missing_docs)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::{Arc, Condvar, Mutex};
use zoo::base::{ShardId, Zxid};
use zoo::handoff::{Batch, Bell, Entry, Inbox, Publisher, notify, path_hash};

const BURST: usize = 64;

fn inbox(c: &mut Criterion) {
    let inbox = Inbox::new(1024);
    let mut out = Vec::with_capacity(BURST);
    let mut group = c.benchmark_group("inbox");
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function("burst of 64: push, kick, drain", |b| {
        b.iter(|| {
            for i in 0..BURST {
                inbox.push(i).expect("room");
            }
            inbox.kick();
            inbox.drain(&mut out, BURST);
            black_box(&out);
            out.clear();
        });
    });
    let (queue, woken) = (Mutex::new(VecDeque::with_capacity(1024)), Condvar::new());
    group.bench_function("the same through a queue behind a lock", |b| {
        b.iter(|| {
            for i in 0..BURST {
                queue.lock().expect("nobody has panicked").push_back(i);
            }
            woken.notify_one();
            out.extend(queue.lock().expect("nobody has panicked").drain(..BURST));
            black_box(&out);
            out.clear();
        });
    });
    group.finish();
}

fn stream(c: &mut Criterion) {
    for shards in [1, 4, 16] {
        let mut publisher = Publisher::new();
        let mut subscribers: Vec<_> = (0..shards).map(|_| publisher.subscribe()).collect();
        c.bench_function(&format!("stream: publish one, {shards} subscribers pass it"), |b| {
            b.iter(|| {
                publisher.publish([0u64; 8]);
                for subscriber in &mut subscribers {
                    black_box(subscriber.peek().expect("published")[0]);
                    subscriber.advance();
                }
            });
        });
        let queues: Vec<_> = (0..shards).map(|_| Mutex::new(VecDeque::new())).collect();
        c.bench_function(&format!("the same through a queue for each of {shards}"), |b| {
            b.iter(|| {
                let item = Arc::new([0u64; 8]);
                queues.iter().for_each(|queue| queue.lock().expect("nobody has panicked").push_back(item.clone()));
                for queue in &queues {
                    black_box(queue.lock().expect("nobody has panicked").pop_front().expect("published")[0]);
                }
            });
        });
    }
}

fn wake(c: &mut Criterion) {
    let bells: Vec<_> = (0..16).map(|_| Arc::new(Bell::new(0, 1 << 16))).collect();
    let mut batch = Batch { last_zxid: Zxid(1), ..Batch::default() };
    batch.entries.push(Entry::Txn { zxid: Zxid(1), events: 0..0, reply: None, closed: None });
    batch.shards.insert(ShardId(3));
    c.bench_function("notify: 16 shards that are awake", |b| b.iter(|| notify(black_box(&bells), &batch, 1)));
    let conditions: Vec<_> = (0..16).map(|_| Condvar::new()).collect();
    c.bench_function("the same with 16 condition variables", |b| b.iter(|| conditions.iter().for_each(Condvar::notify_one)));
    let standard = RandomState::new();
    c.bench_function("path hash, the standard library's", |b| b.iter(|| black_box(standard.hash_one(black_box("/app/svc-123/inst-456")))));
    c.bench_function("path hash", |b| {
        b.iter_batched(|| "/app/svc-123/inst-456".to_string(), |path| black_box(path_hash(&path)), BatchSize::SmallInput)
    });
}

criterion_group!(benches, inbox, stream, wake);
criterion_main!(benches);

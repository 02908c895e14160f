//! The znode store beside a naive twin (one hash map behind a read-write lock): reads hot and cold, with the writer idle and busy;
//! changes and creates, published one by one and in batches of 64; memory per znode.
//!
//! `cargo bench --bench tree_store`. `ZOO_BENCH_ZNODES` sets the size (default 1,000,000), paths are `/app/svc-123/inst-456` with 1,000
//! children a parent, data is 100 bytes, the allocator mimalloc. Times are CPU time of the measuring thread, so that a machine with other
//! work does not count it; what waiting for a lock costs in wall time is therefore left out, in favour of the naive twin.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rustix::time::{ClockId, clock_gettime};
use std::collections::{BTreeSet, HashMap};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::Duration;
use zoo::base::prng::Prng;
use zoo::base::{AclList, AclVec, Stat, StatWire, Zxid};
use zoo::tree::store::{CellId, Change, ChildChange, DataChange, NodeMeta, Reader, Writer};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CHILDREN: usize = 1000;
const DATA: [u8; 100] = [7; 100];
const HOT: usize = 64;
const BATCH: u64 = 64;

fn znodes() -> usize {
    std::env::var("ZOO_BENCH_ZNODES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000)
}
fn path_of(number: usize) -> String {
    format!("/app/svc-{:03}/inst-{:03}", number / CHILDREN, number % CHILDREN)
}
fn parent_of(number: usize) -> String {
    format!("/app/svc-{:03}", number / CHILDREN)
}
fn anonymous_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).unwrap_or(0) * 1024
}
fn report(what: &str, before: usize, nodes: usize) {
    let per_znode = (anonymous_bytes() - before) as f64 / nodes as f64 - DATA.len() as f64;
    println!("memory: {what}: {per_znode:.0} bytes per znode beyond its data ({nodes} znodes)");
}

struct Versioned {
    writer: Writer,
    zxid: u64,
    acl: Arc<AclList>,
}

impl Versioned {
    fn filled(nodes: usize) -> Self {
        let mut store = Versioned { writer: Writer::new(1), zxid: 0, acl: AclList::new(AclList::OPEN_ID, AclVec::OPEN) };
        for number in 0..nodes {
            store.zxid += 1;
            if number % CHILDREN == 0 {
                store.create_at(&parent_of(number), None);
            }
            let parent = store.writer.head(&parent_of(number)).unwrap().cell();
            store.create_at(&path_of(number), Some(parent));
            store.publish();
        }
        while store.writer.garbage_len() > 0 {
            store.writer.reclaim(usize::MAX);
        }
        store
    }
    fn create_at(&mut self, path: &str, parent: Option<CellId>) -> CellId {
        let cell = self.writer.create(Zxid(self.zxid), path, &NodeMeta::default(), Some(&DATA), &self.acl);
        if let Some(parent) = parent {
            self.change_children(parent, ChildChange::Add(cell));
        }
        cell
    }
    fn change_children(&mut self, parent: CellId, children: ChildChange<'_>) {
        let meta = self.writer.head_of(parent).unwrap().meta();
        self.writer.change(Zxid(self.zxid), parent, &Change { meta, data: DataChange::Keep, acl: None, children });
    }
    fn set_data(&mut self, path: &str) {
        let node = self.writer.head(path).unwrap();
        let (cell, meta) = (node.cell(), NodeMeta { version: node.meta().version + 1, ..node.meta() });
        let change = Change { meta, data: DataChange::Set(Some(&DATA)), acl: None, children: ChildChange::Keep };
        self.writer.change(Zxid(self.zxid), cell, &change);
    }
    fn create_and_delete(&mut self, path: &str, parent: &str) {
        let parent = self.writer.head(parent).unwrap().cell();
        let cell = self.create_at(path, Some(parent));
        self.zxid += 1;
        self.writer.remove(Zxid(self.zxid), cell);
        self.change_children(parent, ChildChange::Remove(&[cell]));
    }
    fn publish(&mut self) {
        self.writer.commit(Zxid(self.zxid));
        self.writer.reclaim(256);
    }
}

/// What one would write first.
#[derive(Default)]
struct Naive {
    nodes: RwLock<HashMap<Box<str>, NaiveNode, foldhash::fast::FixedState>>,
}

struct NaiveNode {
    stat: StatWire,
    data: Box<[u8]>,
    _acl: Arc<AclList>,
    children: BTreeSet<Box<str>>,
}

impl Naive {
    fn filled(nodes: usize) -> Self {
        let naive = Naive::default();
        let acl = AclList::new(AclList::OPEN_ID, AclVec::OPEN);
        for number in 0..nodes {
            if number % CHILDREN == 0 {
                naive.create(&parent_of(number), &parent_of(number), &acl);
            }
            naive.create(&path_of(number), &parent_of(number), &acl);
        }
        naive
    }
    fn create(&self, path: &str, parent: &str, acl: &Arc<AclList>) {
        let node = NaiveNode { stat: StatWire::default(), data: DATA.into(), _acl: Arc::clone(acl), children: BTreeSet::new() };
        let mut nodes = self.nodes.write().unwrap();
        nodes.insert(path.into(), node);
        if path != parent {
            nodes.get_mut(parent).unwrap().children.insert(path[parent.len() + 1..].into());
        }
    }
    fn delete(&self, path: &str, parent: &str) {
        let mut nodes = self.nodes.write().unwrap();
        nodes.remove(path);
        nodes.get_mut(parent).unwrap().children.remove(&path[parent.len() + 1..]);
    }
    fn set_data(&self, path: &str) {
        let mut nodes = self.nodes.write().unwrap();
        let node = nodes.get_mut(path).unwrap();
        node.stat = Stat { version: node.stat.version.get() + 1, ..node.stat.to_stat() }.into();
        node.data = DATA.into();
    }
    /// What a reply needs: data and Stat, copied.
    fn get(&self, path: &str, out: &mut Vec<u8>) {
        let nodes = self.nodes.read().unwrap();
        let node = &nodes[path];
        out.clear();
        out.extend_from_slice(&node.data);
        out.extend_from_slice(zerocopy::IntoBytes::as_bytes(&node.stat));
    }
}

fn get(reader: &Reader, at: Zxid, path: &str, out: &mut Vec<u8>) {
    let node = reader.get(path, at).unwrap();
    out.clear();
    out.extend_from_slice(node.data().unwrap());
    out.extend_from_slice(zerocopy::IntoBytes::as_bytes(node.stat()));
}

/// Paths to read, made beforehand and small enough to be in cache themselves.
fn paths(nodes: usize, count: usize) -> Vec<String> {
    let mut prng = Prng::new(5);
    (0..count).map(|_| path_of(prng.below(nodes as u64) as usize)).collect()
}

fn reads(c: &mut Criterion<CpuTime>, nodes: usize, store: &mut Versioned, naive: &Naive) {
    let mut group = c.benchmark_group("get");
    let mut out = Vec::with_capacity(1024);
    for (name, paths) in [("hot", paths(nodes, HOT)), ("cold", paths(nodes, nodes.min(1 << 18)))] {
        let mut reader = store.writer.reader();
        let mut next = paths.iter().cycle();
        group.bench_function(BenchmarkId::new("versioned", name), |b| {
            let at = reader.begin_burst();
            b.iter(|| get(&reader, at, next.next().unwrap(), black_box(&mut out)));
        });
        group.bench_function(BenchmarkId::new("naive", name), |b| {
            b.iter(|| naive.get(next.next().unwrap(), black_box(&mut out)));
        });
    }
    let paths = paths(nodes, nodes.min(1 << 18));
    let mut next = paths.iter().cycle();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut reader = store.writer.reader();
        scope.spawn(|| {
            let mut next = paths.iter().rev().cycle();
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..BATCH {
                    store.zxid += 1;
                    store.set_data(next.next().unwrap());
                }
                store.publish();
            }
        });
        group.bench_function(BenchmarkId::new("versioned", "cold, writer busy"), |b| {
            // A burst of 64 reads per registration.
            let mut at = reader.begin_burst();
            let mut left = BATCH;
            b.iter(|| {
                if left == 0 {
                    at = reader.begin_burst();
                    reader.set_low(at);
                    left = BATCH;
                }
                left -= 1;
                get(&reader, at, next.next().unwrap(), black_box(&mut out));
            });
        });
        stop.store(true, Ordering::Relaxed);
    });
    stop.store(false, Ordering::Relaxed);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = paths.iter().rev().cycle();
            while !stop.load(Ordering::Relaxed) {
                naive.set_data(next.next().unwrap());
            }
        });
        group.bench_function(BenchmarkId::new("naive", "cold, writer busy"), |b| {
            b.iter(|| naive.get(next.next().unwrap(), black_box(&mut out)));
        });
        stop.store(true, Ordering::Relaxed);
    });
    group.finish();
}

fn changes(c: &mut Criterion<CpuTime>, nodes: usize, store: &mut Versioned, naive: &Naive) {
    let paths = paths(nodes, nodes.min(1 << 18));
    let mut next = paths.iter().cycle();
    let mut group = c.benchmark_group("change");
    group.throughput(Throughput::Elements(1));
    group.bench_function("versioned/published each", |b| {
        b.iter(|| {
            store.zxid += 1;
            store.set_data(next.next().unwrap());
            store.publish();
        });
    });
    group.bench_function("naive/published each", |b| b.iter(|| naive.set_data(next.next().unwrap())));
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("versioned/batch of 64", |b| {
        b.iter(|| {
            for _ in 0..BATCH {
                store.zxid += 1;
                store.set_data(next.next().unwrap());
            }
            store.publish();
        });
    });
    group.finish();

    let mut group = c.benchmark_group("create and delete");
    let mut prng = Prng::new(11);
    let mut fresh = || {
        let number = prng.below(nodes as u64) as usize;
        (format!("{}x", path_of(number)), parent_of(number))
    };
    group.throughput(Throughput::Elements(1));
    group.bench_function("versioned/published each", |b| {
        b.iter(|| {
            let (path, parent) = fresh();
            store.zxid += 1;
            store.create_and_delete(&path, &parent);
            store.publish();
        });
    });
    let acl = AclList::new(AclList::OPEN_ID, AclVec::OPEN);
    group.bench_function("naive/published each", |b| {
        b.iter(|| {
            let (path, parent) = fresh();
            naive.create(&path, &parent, &acl);
            naive.delete(&path, &parent);
        });
    });
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("versioned/batch of 64", |b| {
        b.iter(|| {
            for _ in 0..BATCH {
                let (path, parent) = fresh();
                store.zxid += 1;
                store.create_and_delete(&path, &parent);
            }
            store.publish();
        });
    });
    group.finish();
}

/// CPU time of this thread.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    }
    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }
    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }
    fn zero(&self) -> Duration {
        Duration::ZERO
    }
    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn bench(c: &mut Criterion<CpuTime>) {
    let nodes = znodes().next_multiple_of(CHILDREN);
    let before = anonymous_bytes();
    drop(black_box(Writer::new(1)));
    println!("memory: an empty store: {} bytes", anonymous_bytes().saturating_sub(before));
    let before = anonymous_bytes();
    let mut store = Versioned::filled(nodes);
    report("versioned", before, nodes);
    let before = anonymous_bytes();
    let naive = Naive::filled(nodes);
    report("naive", before, nodes);
    reads(c, nodes, &mut store, &naive);
    changes(c, nodes, &mut store, &naive);
}

criterion_group! {
    name = tree_store;
    config = Criterion::default().with_measurement(CpuTime).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    targets = bench
}
criterion_main!(tree_store);

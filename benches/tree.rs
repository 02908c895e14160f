//! The tree on one core: reads and prepare → commit on a large tree, and images of it. Floors beside them: one hash map from path to data, of the
//! same size, and a copy of an image's bytes. (`tree_store` has the store beside a naive twin.)
//!
//! `ZOO_BENCH_ZNODES` sets the size (default 1,000,000 leaves `/app/svc-123/inst-456`, 1,000 to a parent, 100 data bytes).
//! Times are CPU time of the thread, so that other work on the machine disturbs them less; caches it does not bring back.
#![allow(missing_docs)]

use criterion::measurement::{Measurement, ValueFormatter, WallTime as Nanoseconds};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use foldhash::fast::FixedState;
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::hint::black_box;
use std::time::Duration;
use zoo::base::prng::Prng;
use zoo::base::{AclVec, Auth, SessionId, WallTime, Xid, Zxid};
use zoo::proto::request::CreateRequest;
use zoo::proto::{ErrorCode, OpCode, Request};
use zoo::tree::{Prepare, Tree, TreeConfig, load_image};

const DATA: [u8; 100] = [b'd'; 100];
const CHILDREN_PER_PARENT: u64 = 1000;

fn znodes() -> u64 {
    std::env::var("ZOO_BENCH_ZNODES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000)
}
fn create(path: &str) -> Request<'_> {
    Request::Create(CreateRequest { op: OpCode::Create, path, data: Some(&DATA), acl: AclVec::OPEN, flags: 0, ttl: None })
}
fn leaf(n: u64) -> String {
    format!("/app/svc-{}/inst-{}", n / CHILDREN_PER_PARENT, n % CHILDREN_PER_PARENT)
}

/// The writer as the replica drives it.
struct Driver {
    tree: Tree,
    zxid: u64,
    auth: Auth,
    payload: Vec<u8>,
    reply: Vec<u8>,
}

impl Driver {
    fn new(znodes: u64) -> Self {
        let tree = Tree::new(TreeConfig { hash_seed: 42, ..TreeConfig::default() });
        let mut driver = Driver { tree, zxid: 0, auth: Auth::default(), payload: Vec::new(), reply: Vec::new() };
        driver.run(&create("/app"));
        driver.run(&create("/new"));
        for n in 0..znodes {
            if n.is_multiple_of(CHILDREN_PER_PARENT) {
                driver.run(&create(&format!("/app/svc-{}", n / CHILDREN_PER_PARENT)));
            }
            driver.run(&create(&leaf(n)));
        }
        driver
    }
    /// prepare and commit, with the reclaiming the replica does once a turn.
    fn run(&mut self, request: &Request<'_>) -> ErrorCode {
        let prepared = self.prepare(request);
        self.tree.commit(Zxid(self.zxid));
        self.tree.reclaim(8);
        prepared
    }
    fn prepare(&mut self, request: &Request<'_>) -> ErrorCode {
        self.zxid += 1;
        self.payload.clear();
        self.reply.clear();
        let p = Prepare { zxid: Zxid(self.zxid), time: WallTime(self.zxid as i64), session: SessionId(1), cxid: Xid(1), auth: &self.auth };
        let prepared = self.tree.prepare(&p, request, &mut self.payload, &mut self.reply);
        black_box(&prepared.effects);
        prepared.err
    }
}

fn random_paths(count: u64, znodes: u64) -> Vec<String> {
    let mut prng = Prng::new(7);
    (0..count).map(|_| leaf(prng.below(znodes))).collect()
}

fn reads(c: &mut Criterion<CpuTime>, driver: &mut Driver, znodes: u64) {
    let mut reader = driver.tree.reader();
    let at = reader.begin_burst();
    let paths = random_paths(1 << 16, znodes);
    let auth = Auth::default();
    let mut out = Vec::with_capacity(1 << 20);
    let mut next = paths.iter().cycle();
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Elements(1));
    group.bench_function("get_data", |b| {
        b.iter(|| {
            out.clear();
            reader.get_data(at, next.next().expect("endless"), &auth, &mut out).expect("there");
        });
    });
    group.bench_function("exists", |b| {
        b.iter(|| {
            out.clear();
            reader.exists(at, next.next().expect("endless"), &auth, &mut out).expect("there");
        });
    });
    group.bench_function("get_children of 1000", |b| {
        let mut parents =
            (0..znodes.div_ceil(CHILDREN_PER_PARENT)).map(|n| format!("/app/svc-{n}")).collect::<Vec<_>>().into_iter().cycle();
        b.iter(|| {
            out.clear();
            assert!(
                reader
                    .get_children(at, &parents.next().expect("endless"), false, &auth, (usize::MAX, usize::MAX), &mut out)
                    .expect("there")
            );
        });
    });
    group.finish();
    reader.park();
}

/// What no tree can do without: finding a path's data and copying it, or another value in its place.
fn floors(c: &mut Criterion<CpuTime>, znodes: u64) {
    let mut map: HashMap<String, Box<[u8]>, FixedState> = (0..znodes).map(|n| (leaf(n), DATA.into())).collect();
    let paths = random_paths(1 << 16, znodes);
    let mut next = paths.iter().cycle();
    let mut out = Vec::with_capacity(1 << 20);
    let mut group = c.benchmark_group("floor: a hash map");
    group.throughput(Throughput::Elements(1));
    group.bench_function("found and copied", |b| {
        b.iter(|| {
            out.clear();
            out.extend_from_slice(&map[next.next().expect("endless")]);
        });
    });
    group.bench_function("another value", |b| b.iter(|| map.insert(next.next().expect("endless").clone(), DATA.into())));
    group.finish();
}

fn writes(c: &mut Criterion<CpuTime>, driver: &mut Driver, znodes: u64) {
    let paths = random_paths(1 << 16, znodes);
    let mut next = paths.iter().cycle();
    let mut group = c.benchmark_group("prepare and commit");
    group.throughput(Throughput::Elements(1));
    group.bench_function("set_data", |b| {
        b.iter(|| driver.run(&Request::SetData { path: next.next().expect("endless"), data: Some(&DATA), version: -1 }));
    });
    group.bench_function("create sequential and delete", |b| {
        b.iter(|| {
            let made = Request::Create(CreateRequest {
                op: OpCode::Create,
                path: "/new/n-",
                data: Some(&DATA),
                acl: AclVec::OPEN,
                flags: 2,
                ttl: None,
            });
            assert_eq!(driver.run(&made), ErrorCode::Ok);
            let path = String::from_utf8(driver.reply[4..].to_vec()).expect("a path");
            driver.run(&Request::Delete { path: &path, version: -1 })
        });
    });
    group.bench_function("multi of 8 set_data", |b| {
        b.iter(|| {
            let parts = (0..8).map(|_| Request::SetData { path: next.next().expect("endless"), data: Some(&DATA), version: -1 }).collect();
            driver.run(&Request::Multi(parts))
        });
    });
    group.bench_function("failing create", |b| b.iter(|| driver.run(&create("/app"))));
    group.bench_function("set_data, committed in groups of 64", |b| {
        b.iter(|| {
            let err = driver.prepare(&Request::SetData { path: next.next().expect("endless"), data: Some(&DATA), version: -1 });
            if driver.zxid.is_multiple_of(64) {
                driver.tree.commit(Zxid(driver.zxid));
                driver.tree.reclaim(256);
            }
            err
        });
    });
    driver.tree.commit(Zxid(driver.zxid));
    group.finish();
}

fn images(c: &mut Criterion<CpuTime>, driver: &mut Driver, znodes: u64) {
    let mut bytes = Vec::new();
    let mut group = c.benchmark_group("image");
    group.throughput(Throughput::Elements(znodes)).sample_size(10);
    group.bench_function("write", |b| {
        b.iter(|| {
            bytes.clear();
            let mut sink = |piece: &[u8]| {
                bytes.extend_from_slice(piece);
                Ok(())
            };
            driver.tree.begin_image().write(&mut sink).expect("memory takes everything");
        });
    });
    group.bench_function("load", |b| {
        b.iter_batched(
            || (),
            |()| load_image(TreeConfig::default(), Zxid(driver.zxid), &bytes, None).expect("a good image").0,
            BatchSize::PerIteration,
        );
    });
    let mut copy = Vec::with_capacity(bytes.len());
    group.bench_function("floor: a copy of its bytes", |b| {
        b.iter(|| {
            copy.clear();
            copy.extend_from_slice(black_box(&bytes));
        });
    });
    group.finish();
}

fn all(c: &mut Criterion<CpuTime>) {
    let znodes = znodes();
    floors(c, znodes);
    let mut driver = Driver::new(znodes);
    reads(c, &mut driver, znodes);
    writes(c, &mut driver, znodes);
    images(c, &mut driver, znodes);
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
        Nanoseconds.to_f64(value)
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        Nanoseconds.formatter()
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = all
}
criterion_main!(benches);

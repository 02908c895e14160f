//! kill -9 under pipelined writes at random moments: no acknowledged write is lost, what survives of each client's writes is a prefix.
//!
//! Each client alternates "set its counter to i" and "create its node i". After a restart on the same directory the counter and the nodes
//! must agree on one point at or after the last acknowledged write and at or before the last one sent (P2, P3, P4, P7).
//! Takes about 20 seconds; `ZOO_CRASH_SECONDS` asks for more, `ZOO_CRASH_SEED` for the same moments again (timing still differs).

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{RawClient, ServerProcess, create, path_watch, set_data, temp_dir};
use zoo::base::SessionId;
use zoo::base::prng::Prng;
use zoo::proto::OpCode;

const CLIENTS: usize = 4;
/// Requests a client has under way.
const WINDOW: u64 = 64;

/// Settings that make rolls, snapshots and purges happen in a short life.
const SETTINGS: [&[&str]; 4] = [
    &[],
    &["snapCount=300", "preAllocSize=256"],
    &["txnLogSizeLimitInKb=64", "preAllocSize=1024"],
    &["snapCount=100", "zoo.logWriter=pwrite", "preAllocSize=256"],
];

/// What one client knows of its own writes; survives its connection.
#[derive(Default)]
struct Progress {
    /// Steps sent: step 2i sets the counter to i, step 2i + 1 creates node i.
    sent: AtomicU64,
    /// Steps acknowledged.
    acked: AtomicU64,
}

#[test]
fn no_acknowledged_write_is_lost_when_the_process_is_killed() {
    let seconds = std::env::var("ZOO_CRASH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(20);
    let seed = std::env::var("ZOO_CRASH_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| u64::from(std::process::id()));
    println!("ZOO_CRASH_SEED={seed}");
    let mut rng = Prng::new(seed);
    let budget = Duration::from_secs(seconds) / 3;
    for shards in [1, 2, 4] {
        let dir = temp_dir();
        let progress: Arc<Vec<Progress>> = Arc::new((0..CLIENTS).map(|_| Progress::default()).collect());
        let (started, mut rounds) = (Instant::now(), 0);
        while rounds < 3 || started.elapsed() < budget {
            round(dir.path(), shards, &progress, &mut rng);
            rounds += 1;
        }
        let server = ServerProcess::start(dir.path(), shards, &[]);
        check(server.address, &progress);
        let acked: u64 = progress.iter().map(|p| p.acked.load(Ordering::Relaxed)).sum();
        println!("{shards} shards: {rounds} kills, {acked} acknowledged writes, none lost");
        assert!(acked > 0);
    }
}

fn round(dir: &Path, shards: usize, progress: &Arc<Vec<Progress>>, rng: &mut Prng) {
    let settings = SETTINGS[rng.below(SETTINGS.len() as u64) as usize];
    let server = ServerProcess::start(dir, shards, settings);
    check(server.address, progress);
    let address = server.address;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|c| {
            let progress = progress.clone();
            std::thread::spawn(move || write_until_the_end(address, c, &progress[c]))
        })
        .collect();
    std::thread::sleep(Duration::from_millis(rng.below(400)));
    server.kill();
    for client in clients {
        client.join().expect("the client saw only correct answers");
    }
}

/// Writes with a window of requests until the server is gone.
fn write_until_the_end(address: SocketAddr, client: usize, progress: &Progress) {
    let Ok(Some(mut connection)) = RawClient::try_attach(address, SessionId::NONE, [0; 16], 30_000) else { return };
    let mut pending = 0;
    loop {
        let mut burst = Vec::new();
        while pending < WINDOW {
            let step = progress.sent.fetch_add(1, Ordering::Relaxed);
            burst.push(request(client, step));
            pending += 1;
        }
        if connection.send_all(&burst).is_err() {
            return;
        }
        for _ in 0..WINDOW / 2 {
            let Ok(reply) = connection.reply() else { return };
            assert_eq!(reply.err, 0, "client {client} after {} writes", progress.acked.load(Ordering::Relaxed));
            progress.acked.fetch_add(1, Ordering::Relaxed);
            pending -= 1;
        }
    }
}

fn request(client: usize, step: u64) -> (OpCode, Vec<u8>) {
    let i = step / 2;
    if step.is_multiple_of(2) {
        (OpCode::SetData, set_data(&counter(client), &i.to_be_bytes(), -1))
    } else {
        (OpCode::Create, create(&node(client, i), b"", 0))
    }
}

fn counter(client: usize) -> String {
    format!("/counter-{client}")
}
fn node(client: usize, i: u64) -> String {
    format!("/counter-{client}/{i}")
}

/// Compares what the server has with what each client knows, then makes both agree.
fn check(address: SocketAddr, progress: &[Progress]) {
    let mut connection = RawClient::connect(address);
    for (client, progress) in progress.iter().enumerate() {
        let (sent, acked) = (progress.sent.load(Ordering::Relaxed), progress.acked.load(Ordering::Relaxed));
        let counter_reply = connection.get(&counter(client), false);
        if counter_reply.err == -101 && sent == 0 {
            assert_eq!(connection.create(&counter(client), b"", 0).err, 0);
            continue;
        }
        let (data, stat) = counter_reply.data();
        let data = data.unwrap_or_default();
        let nodes = u64::from(stat.num_children as u32);
        // Steps done: the counter says at least 2i + 1, and one more when node i is there too.
        let done = match <[u8; 8]>::try_from(&data[..]) {
            Ok(bytes) => 2 * u64::from_be_bytes(bytes) + 1 + u64::from(nodes > u64::from_be_bytes(bytes)),
            Err(_) => 0,
        };
        assert!(acked <= done, "client {client}: {acked} writes were acknowledged, {done} survived");
        assert!(done <= sent, "client {client}: {sent} writes were sent, {done} survived");
        assert_eq!(nodes, done / 2, "client {client}: the survivors are a prefix of {done} writes");
        let recent = nodes.saturating_sub(3)..nodes;
        let exists: Vec<_> = recent.clone().chain(0..nodes.min(2)).map(|i| (OpCode::Exists, path_watch(&node(client, i), false))).collect();
        connection.send_all(&exists).expect("sent");
        for request in &exists {
            assert_eq!(connection.reply().expect("answered").err, 0, "client {client}: {request:?} of {nodes}");
        }
        assert_eq!(connection.call(OpCode::Exists, &path_watch(&node(client, nodes), false)).err, -101, "nothing after the end");
        progress.sent.store(done, Ordering::Relaxed);
        progress.acked.store(done, Ordering::Relaxed);
    }
}

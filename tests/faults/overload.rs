//! More than the servers can do, from clients that do not wait: memory stays bounded, whoever keeps pinging keeps its session, there is no election,
//! what was acknowledged is there, and those who come afterwards are served at once.

use crate::ensemble::Cluster;
use crate::support::{PATIENCE, RawClient, create, path_watch, set_data};
use crate::{OPEN, Witness};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use zoo::base::{Reader, SessionId, Writer, Xid};
use zoo::proto::OpCode;

/// Clients that send without waiting, as fast as the kernel takes it, so that only the servers' own limits hold them back; and what each sends, first
/// and then once more.
const FLOODS: usize = 9;
const REQUESTS: [usize; 2] = [600, 1_800];
const BATCH: usize = 50;
const VALUE: usize = 8 << 10;
/// One request in so many creates a znode; the others set the client's own.
const CREATE_EVERY: usize = 10;
/// What a member may take more in the second flood: half of what it is sent more, all of which would be there if nothing bounded it.
const MORE_MAX: u64 = (FLOODS * (REQUESTS[1] - REQUESTS[0]) * VALUE) as u64 / 2;
const MEMBERS: [usize; 3] = [1, 2, 3];
/// Of sessions that only ping.
const TIMEOUT_MS: i32 = 20_000;
const PING_EVERY: Duration = Duration::from_secs(2);
/// Until somebody who comes afterwards has been served, on a machine that is busy with other things.
const RECOVERY_MAX: Duration = Duration::from_secs(20);

/// Number of the epoch that the newest transaction of a member belongs to.
fn epoch(cluster: &Cluster, id: usize) -> u64 {
    let said = cluster.word(id, "srvr");
    let zxid = said.lines().find_map(|line| line.strip_prefix("Zxid: 0x")).and_then(|hex| u64::from_str_radix(hex, 16).ok());
    zxid.unwrap_or_else(|| panic!("no zxid in {said:?}")) >> 32
}

fn home(flood: usize) -> String {
    format!("/flood-{flood}")
}

/// Sends everything at once and reads the answers beside; how many creates were acknowledged.
fn flood(client: &mut RawClient, number: usize, requests: usize) -> usize {
    let mut receiver = client.receiver();
    std::thread::scope(|scope| {
        let answers = scope.spawn(move || {
            let mut created = 0;
            for at in 0..requests {
                let reply = receiver.reply().unwrap_or_else(|e| panic!("flood {number}, request {at}: {e}"));
                assert_eq!(reply.err, 0, "flood {number}, request {at}");
                created += usize::from(at % CREATE_EVERY == 0);
            }
            created
        });
        let value = vec![b'v'; VALUE];
        let all: Vec<_> = (0..requests)
            .map(|at| match at % CREATE_EVERY {
                0 => (OpCode::Create, create(&format!("{}/{requests}-{at}", home(number)), b"", OPEN)),
                _ => (OpCode::SetData, set_data(&home(number), &value, -1)),
            })
            .collect();
        for batch in all.chunks(BATCH) {
            client.send_all(batch).expect("sent, sooner or later");
        }
        answers.join().expect("every answer was right")
    })
}

/// All of them at once, at every member. How many creates were acknowledged, and the most memory that each member took meanwhile.
fn flood_all(cluster: &Cluster, requests: usize) -> (usize, [u64; 3]) {
    let (over, most) = (AtomicBool::new(false), MEMBERS.map(|_| AtomicU64::new(0)));
    let acknowledged = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for (id, most) in MEMBERS.iter().zip(&most) {
                    most.fetch_max(cluster.process(*id).resident(), Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let floods: Vec<_> =
            (0..FLOODS).map(|n| scope.spawn(move || flood(&mut cluster.client(MEMBERS[n % MEMBERS.len()]), n, requests))).collect();
        let created: Vec<_> = floods.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        created.into_iter().map(|n| n.expect("a flood was answered")).sum()
    });
    (acknowledged, most.map(AtomicU64::into_inner))
}

/// Pings until it is told to stop; the session has to be there all the time.
fn keep_pinging(cluster: &Cluster, id: usize, stop: &AtomicBool) {
    let mut client = RawClient::attach(cluster.address(id), SessionId::NONE, [0; 16], TIMEOUT_MS).expect("a session");
    while !stop.load(Ordering::Relaxed) {
        assert_eq!(ping(&mut client), Xid::PING.0, "a session at member {id} that kept pinging");
        let next = Instant::now() + PING_EVERY;
        while Instant::now() < next && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    client.close();
}

/// The number of the reply.
fn ping(client: &mut RawClient) -> i32 {
    let mut request = Vec::new();
    request.put_i32(8);
    request.put_i32(Xid::PING.0);
    request.put_i32(OpCode::Ping as i32);
    client.stream().write_all(&request).expect("sent");
    client.reply().expect("answered").xid
}

#[test]
fn an_ensemble_that_is_asked_for_more_than_it_can_do_bounds_its_memory_and_keeps_its_promises() {
    let mut cluster = Cluster::start(3, &["4lw.commands.whitelist=*"]);
    let leader = cluster.settled(&MEMBERS);
    let mut first = cluster.client(leader);
    (0..FLOODS).for_each(|n| assert_eq!(first.create(&home(n), b"", OPEN).err, 0));
    let epoch_before = epoch(&cluster, leader);
    let witness = Witness::start(cluster.address(leader));
    let stop = AtomicBool::new(false);
    let floods = std::thread::scope(|scope| {
        let (cluster, stop) = (&cluster, &stop);
        let pinging = MEMBERS.map(|id| scope.spawn(move || keep_pinging(cluster, id, stop)));
        let floods = std::panic::catch_unwind(|| REQUESTS.map(|requests| flood_all(cluster, requests)));
        stop.store(true, Ordering::Relaxed);
        pinging.into_iter().for_each(|p| p.join().expect("a session that kept pinging lives"));
        floods.expect("the floods were answered")
    });
    let began = Instant::now();
    let mut late = cluster.client(leader % MEMBERS.len() + 1);
    assert_eq!(late.create("/late", b"", OPEN).err, 0);
    assert!(began.elapsed() < RECOVERY_MAX.min(PATIENCE), "{:?} until somebody was served again", began.elapsed());
    witness.finish();
    assert_eq!((cluster.settled(&MEMBERS), epoch(&cluster, leader)), (leader, epoch_before), "there was an election\n{}", cluster.logs());
    assert_eq!(late.call(OpCode::Sync, &sync_body()).err, 0);
    let there: usize = (0..FLOODS).map(|n| children(&mut late, &home(n))).sum();
    let [(acknowledged, small), (more_acknowledged, large)] = floods;
    assert_eq!(there, acknowledged + more_acknowledged, "acknowledged creates");
    for ((id, small), large) in MEMBERS.iter().zip(small).zip(large) {
        println!("member {id} took {} MiB, then {} MiB", small >> 20, large >> 20);
        assert!(large.saturating_sub(small) < MORE_MAX, "member {id} took {} MiB, then {} MiB", small >> 20, large >> 20);
    }
    MEMBERS.iter().for_each(|id| cluster.kill(*id));
}

fn sync_body() -> Vec<u8> {
    let with_watch = path_watch("/", false);
    with_watch[..with_watch.len() - 1].to_vec()
}

fn children(client: &mut RawClient, path: &str) -> usize {
    let reply = client.call(OpCode::GetChildren, &path_watch(path, false));
    assert_eq!(reply.err, 0, "{path}");
    Reader::new(&reply.body).string_vec().expect("names").len()
}

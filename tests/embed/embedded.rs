//! A `ZooServer` as a program has it: made without a word, stopped, killed, started again, dropped; and nothing stays behind.

use crate::support::{PATIENCE, RawClient, temp_dir, wait_until};
use crate::{alone, shared};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use zoo::client::{CreateMode, SessionState, ZooClient};
use zoo::server::ZooServer;

/// For an idle server to be watched: long beside the ticks in which the kernel counts.
const IDLE: Duration = Duration::from_secs(2);
/// What all its threads may use meanwhile: a hundredth of a core is more than ten times what they do.
const IDLE_CPU_MAX: Duration = Duration::from_millis(40);

/// This process's threads of servers: their names, and the processor time they have used.
pub fn threads() -> Vec<(String, Duration)> {
    let tasks = fs::read_dir("/proc/self/task").expect("this process").filter_map(Result::ok);
    // One may end while it is looked at.
    tasks.filter_map(|task| thread(&task.path())).filter(|(name, _)| name.starts_with("zoo-")).collect()
}

/// Those that were waited for may be shown for a moment.
pub fn until_no_thread_is_left() {
    let began = Instant::now();
    while !threads().is_empty() {
        assert!(began.elapsed() < PATIENCE, "threads are left: {:?}", threads());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn thread(dir: &Path) -> Option<(String, Duration)> {
    let name = fs::read_to_string(dir.join("comm")).ok()?;
    let stat = fs::read_to_string(dir.join("stat")).ok()?;
    let ticks: u64 = stat.rsplit(')').next()?.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Some((name.trim().to_owned(), Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())))
}

fn data_files(server: &ZooServer) -> Vec<(String, u64)> {
    let entries = fs::read_dir(server.data_dir().join("version-2")).expect("its data");
    let entry = |e: fs::DirEntry| (e.file_name().into_string().expect("a name"), e.metadata().expect("a file").len());
    let mut files: Vec<_> = entries.map(|e| entry(e.expect("an entry"))).collect();
    files.sort();
    files
}

#[test]
fn many_servers_are_started_without_a_word_and_share_nothing() {
    let _shared = shared();
    let servers: Vec<_> = (0..8).map(|_| ZooServer::start().expect("starts")).collect();
    let clients: Vec<_> = servers.iter().map(|server| ZooClient::connect(server.host()).expect("a session")).collect();
    for (i, client) in clients.iter().enumerate() {
        client.create("/mine", format!("{i}").as_bytes(), CreateMode::Persistent).expect("made");
    }
    for (i, client) in clients.iter().enumerate() {
        assert_eq!(client.get("/mine").expect("there").0, format!("{i}").into_bytes());
    }
    let dirs: std::collections::BTreeSet<_> = servers.iter().map(|server| server.data_dir().to_owned()).collect();
    assert_eq!(dirs.len(), servers.len());
}

#[test]
fn a_temporary_directory_goes_with_its_server_and_a_given_one_stays() {
    let _shared = shared();
    let kept = temp_dir();
    let (temporary, given) = (ZooServer::start().expect("starts"), ZooServer::builder().data_dir(kept.path()).start().expect("starts"));
    let dir = temporary.data_dir().to_owned();
    assert!(dir.join("version-2").is_dir() && given.data_dir() == kept.path());
    drop((temporary, given));
    assert!(!dir.exists());
    assert!(kept.path().join("version-2").is_dir());
}

#[test]
fn a_server_that_is_started_again_keeps_its_port_its_data_and_its_sessions() {
    let _shared = shared();
    let mut server = ZooServer::builder().shards(2).start().expect("starts");
    let (host, address) = (server.host().to_owned(), server.address());
    let client = ZooClient::builder(&host).session_timeout(Duration::from_secs(30)).connect().expect("a session");
    client.create("/kept", b"1", CreateMode::Ephemeral).expect("made");
    let session = client.session_id();
    server.restart().expect("starts");
    assert_eq!((server.host(), server.address()), (host.as_str(), address));
    assert_eq!(client.get("/kept").expect("there").0, b"1");
    assert_eq!((client.session_id(), client.state()), (session, SessionState::Connected));
    server.stop().expect("stops");
    assert!(!server.is_running() && server.stopper().is_none());
    server.stop().expect("has stopped already");
    server.restart().expect("starts");
    assert_eq!(client.get("/kept").expect("there").0, b"1");
}

#[test]
fn a_killed_server_has_lost_nothing_that_was_acknowledged() {
    let _shared = shared();
    for writer in ["direct", "map", "pwrite"] {
        let mut server = ZooServer::builder().shards(2).set("zoo.logWriter", writer).start().expect("starts");
        let mut acknowledged = Vec::new();
        for round in 0..3 {
            let enough = AtomicBool::new(false);
            let address = server.address();
            std::thread::scope(|scope| {
                let enough = &enough;
                let writer = |w| scope.spawn(move || write_until_cut(address, &format!("/{round}-{w}-"), enough));
                let writers: Vec<_> = (0..4).map(writer).collect();
                wait_until("writers are at work", || enough.load(Ordering::Relaxed));
                server.kill().expect("ends");
                acknowledged.extend(writers.into_iter().flat_map(|writer| writer.join().expect("ends")));
            });
            server.restart().expect("starts");
        }
        let mut client = RawClient::connect(server.address());
        let lost: Vec<_> = acknowledged.iter().filter(|path| client.get(path, false).err != 0).collect();
        assert!(
            lost.is_empty() && acknowledged.len() >= 3 * ENOUGH,
            "{writer}: {} of {} are lost: {lost:?}",
            lost.len(),
            acknowledged.len()
        );
    }
}

/// Nodes of one writer after which the server may be killed.
const ENOUGH: usize = 20;

/// Makes nodes until the connection is lost; those that were acknowledged.
fn write_until_cut(address: std::net::SocketAddr, prefix: &str, enough: &AtomicBool) -> Vec<String> {
    let mut client = RawClient::connect(address);
    let mut made = Vec::new();
    loop {
        let path = format!("{prefix}{}", made.len());
        let sent = client.send(zoo::proto::OpCode::Create, &crate::support::create(&path, b"", 0));
        match sent.and_then(|_| client.reply()) {
            Ok(reply) => assert_eq!(reply.err, 0, "{path}"),
            Err(_) => return made,
        }
        made.push(path);
        if made.len() == ENOUGH {
            enough.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_killed_server_puts_nothing_in_order_and_a_stopped_one_does() {
    let _shared = shared();
    let mut server = ZooServer::start().expect("starts");
    RawClient::connect(server.address()).create("/x", b"", 0);
    let log_bytes =
        |server: &ZooServer| data_files(server).iter().filter(|(name, _)| name.starts_with("log.")).map(|(_, n)| *n).sum::<u64>();
    // The spare is made in the background, after the first log has its name.
    wait_until("a spare is there", || data_files(&server).iter().any(|(name, _)| name.starts_with("zoo-spare.")));
    let running = data_files(&server);
    server.kill().expect("ends");
    let killed = data_files(&server);
    assert!(log_bytes(&server) >= 1 << 20, "the segment is as long as it was: {killed:?}");
    assert!(running.iter().all(|(name, _)| killed.iter().any(|(left, _)| left == name)), "{running:?} and then {killed:?}");
    server.restart().expect("starts");
    server.stop().expect("stops");
    assert!(log_bytes(&server) < 4096, "cut to what is used: {:?}", data_files(&server));
}

#[test]
fn nothing_of_a_server_goes_on_after_it_was_stopped_or_killed() {
    let _alone = alone();
    until_no_thread_is_left();
    for kill in [false, true] {
        let mut server = ZooServer::builder().shards(3).set("autopurge.purgeInterval", 1).start().expect("starts");
        let mut client = RawClient::connect(server.address());
        assert_eq!(client.create("/x", b"", 0).err, 0);
        assert!(threads().len() > 3, "{:?}", threads());
        if kill { server.kill() } else { server.stop() }.expect("ends");
        assert!(client.is_closed());
        until_no_thread_is_left();
    }
}

#[test]
fn an_idle_server_uses_almost_no_processor_time() {
    let _alone = alone();
    let server = ZooServer::builder().shards(2).start().expect("starts");
    let client = ZooClient::connect(server.host()).expect("a session");
    client.create("/x", b"", CreateMode::Persistent).expect("made");
    // The spare segment of the log is being made.
    wait_until("there is nothing left to do", || {
        let before = used();
        std::thread::sleep(Duration::from_millis(100));
        used() - before < Duration::from_millis(10)
    });
    let before = used();
    std::thread::sleep(IDLE);
    let idle = used() - before;
    assert!(idle <= IDLE_CPU_MAX, "{idle:?} in {IDLE:?}: {:?}", threads());
}

fn used() -> Duration {
    threads().iter().map(|(_, used)| *used).sum()
}

//! Servers inside this process: started on ports of the kernel's choice, several at once, stopped and started again.

#[path = "../support/mod.rs"]
mod support;

mod balancing;
mod embedded;
mod ensemble;
mod moves;

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use support::{RawClient, path_watch, set_data, temp_dir};
use zoo::proto::OpCode;
use zoo::server::{ServerConfig, StartError, ZooServer, on_fatal};

fn config(dir: &std::path::Path, shards: u16) -> ServerConfig {
    let mut config = ServerConfig::development(SocketAddr::from(([127, 0, 0, 1], 0)), dir);
    config.cores.shards = Some(shards);
    config.storage.pre_alloc_bytes = 1 << 20;
    config
}

/// Held by every test here; the one that counts descriptors of the process holds it alone.
static PROCESS: RwLock<()> = RwLock::new(());

fn shared() -> RwLockReadGuard<'static, ()> {
    PROCESS.read().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, ()> {
    PROCESS.write().unwrap_or_else(PoisonError::into_inner)
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("readable").count()
}

#[test]
fn several_servers_run_in_one_process_and_know_nothing_of_each_other() {
    let _shared = shared();
    let dirs: Vec<_> = (0..3).map(|_| temp_dir()).collect();
    let servers: Vec<_> =
        dirs.iter().zip([1, 2, 4]).map(|(dir, shards)| ZooServer::start_with(config(dir.path(), shards)).expect("starts")).collect();
    for (i, server) in servers.iter().enumerate() {
        RawClient::connect(server.address()).create(&format!("/only-{i}"), b"", 0);
    }
    for (i, server) in servers.iter().enumerate() {
        let mut client = RawClient::connect(server.address());
        let found: Vec<_> = (0..servers.len()).filter(|j| client.get(&format!("/only-{j}"), false).err == 0).collect();
        assert_eq!(found, [i]);
    }
    servers.into_iter().for_each(|mut server| server.stop().expect("stops cleanly"));
}

#[test]
fn a_stopped_server_leaves_its_directory_free_and_its_state_whole() {
    let _shared = shared();
    let dir = temp_dir();
    for round in 0..5 {
        let mut server = ZooServer::start_with(config(dir.path(), 1 + round % 2)).expect("the directory is free");
        let mut client = RawClient::connect(server.address());
        for earlier in 0..round {
            assert_eq!(client.get(&format!("/round-{earlier}"), false).err, 0);
        }
        assert_eq!(client.create(&format!("/round-{round}"), b"", 0).err, 0);
        server.stop().expect("stops cleanly");
        assert!(client.is_closed());
    }
}

#[test]
fn a_dropped_server_is_stopped() {
    let _shared = shared();
    let dir = temp_dir();
    let address = {
        let server = ZooServer::start_with(config(dir.path(), 2)).expect("starts");
        RawClient::connect(server.address()).create("/x", b"", 0);
        server.address()
    };
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
    ZooServer::start_with(config(dir.path(), 2)).expect("the directory is free").stop().expect("stops cleanly");
}

#[test]
fn starting_and_stopping_leaks_no_descriptors() {
    let _alone = alone();
    let dir = temp_dir();
    let once = || {
        let mut server = ZooServer::start_with(config(dir.path(), 2)).expect("starts");
        RawClient::connect(server.address()).create("/x", b"", 0);
        server.stop().expect("stops cleanly");
    };
    once();
    let before = open_descriptors();
    (0..5).for_each(|_| once());
    assert_eq!(open_descriptors(), before);
}

#[test]
fn a_server_that_cannot_start_leaves_nothing_behind() {
    let _shared = shared();
    let (one, two) = (temp_dir(), temp_dir());
    let mut server = ZooServer::start_with(config(one.path(), 1)).expect("starts");
    let mut taken = config(two.path(), 1);
    taken.net.listen = server.address();
    assert!(matches!(ZooServer::start_with(taken), Err(StartError::Listen { .. })));
    assert!(matches!(ZooServer::start_with(config(one.path(), 1)), Err(StartError::Recovery(_))), "the directory is in use");
    let mut pinned = config(two.path(), 200);
    pinned.cores.pin = Some(true);
    assert!(matches!(ZooServer::start_with(pinned), Err(StartError::Executors(_))));
    ZooServer::start_with(config(two.path(), 1)).expect("starts").stop().expect("stops cleanly");
    server.stop().expect("stops cleanly");
}

#[test]
fn a_write_taken_up_while_replies_are_being_sent_reaches_the_replica_at_once() {
    let _shared = shared();
    let dir = temp_dir();
    let mut config = config(dir.path(), 1);
    // Half of it is less than one reply: after a read the connection is paused until the reply is in the socket.
    config.sessions.out_buffer_bytes_max = 16 << 10;
    let mut server = ZooServer::start_with(config).expect("starts");
    let mut client = RawClient::connect(server.address());
    assert_eq!(client.create("/big", &[7; 20 << 10], 0).err, 0);
    // Shorter than anything else that would make the server look again: no ping is sent, and nothing is due.
    client.stream().set_read_timeout(Some(Duration::from_secs(8))).expect("a socket");
    client.send_all(&[(OpCode::GetData, path_watch("/big", false)), (OpCode::SetData, set_data("/big", b"", -1))]).expect("sent");
    assert_eq!(client.reply().expect("the read").err, 0);
    assert_eq!(client.reply().expect("the write behind it").err, 0);
    server.stop().expect("stops cleanly");
}

/// Where a process of this test binary whose server shall fail has its files.
const DOOMED: &str = "ZOO_TEST_DOOMED";

#[test]
fn a_program_hears_why_its_server_ends_it() {
    let _shared = shared();
    let dir = temp_dir();
    let status = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "doomed", "--ignored"])
        .env(DOOMED, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("runs");
    assert_eq!(status.signal(), Some(rustix::process::Signal::ABORT.as_raw()), "{status}");
    let why = std::fs::read_to_string(dir.path().join("why")).expect("the hook was called");
    assert!(why.contains("the transaction log cannot go on"), "{why}");
}

#[test]
#[ignore = "ends its process; run by another test"]
fn doomed() {
    let Some(dir) = std::env::var_os(DOOMED).map(PathBuf::from) else { return };
    let why = dir.join("why");
    on_fatal(move |message| std::fs::write(&why, message).expect("written"));
    let server = ZooServer::start_with(config(&dir.join("data"), 1)).expect("starts");
    // The first write needs a log file of that name, and its directory is gone.
    std::fs::rename(dir.join("data"), dir.join("elsewhere")).expect("renamed");
    let mut client = RawClient::connect(server.address());
    client.create("/never", b"", 0);
}

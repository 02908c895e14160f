//! Disks that are full, that fail, or whose files vanish under a running server. They are small loop devices on a small file system in memory,
//! so these tests need root; without it they say loudly that nothing was tested.

use crate::OPEN;
use crate::damage::record_offsets;
use crate::small_disk::{Filler, SmallDisk, run, run_when_free, text};
use crate::support::{RawClient, ServerProcess, create, files, path_watch, set_data, skipped, temp_dir, wait_until};
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::process::ExitStatus;
use zoo::proto::OpCode;

/// Node `i` exists exactly when write `i` was done; all acknowledged ones are a prefix.
struct Writes {
    /// Bytes of each acknowledged write.
    acked: Vec<usize>,
}

/// Bytes of a write that are not the path's.
const PAYLOAD_BYTES: usize = 1000;

impl Writes {
    fn new() -> Self {
        Writes { acked: Vec::new() }
    }

    fn data(i: usize, bytes: usize) -> Vec<u8> {
        vec![i as u8; bytes]
    }

    /// Writes one node; false when the server is gone.
    fn one_of(&mut self, client: &mut RawClient, bytes: usize) -> bool {
        let i = self.acked.len();
        let body = create(&format!("/n-{i:06}"), &Self::data(i, bytes), OPEN);
        let Ok(reply) = client.send(OpCode::Create, &body).and_then(|_| client.reply()) else { return false };
        assert_eq!(reply.err, 0, "write {i}");
        self.acked.push(bytes);
        true
    }

    fn one(&mut self, client: &mut RawClient) -> bool {
        self.one_of(client, PAYLOAD_BYTES)
    }

    fn some(&mut self, client: &mut RawClient, n: usize) {
        (0..n).for_each(|_| assert!(self.one(client), "served"));
    }

    /// All acknowledged writes are there, and at most the one that was under way besides.
    fn check(&self, address: SocketAddr) {
        let mut client = RawClient::connect(address);
        for (i, bytes) in self.acked.iter().enumerate() {
            let reply = client.get(&format!("/n-{i:06}"), false);
            assert_eq!(reply.data().0, Some(Self::data(i, *bytes)), "write {i} of {}", self.acked.len());
        }
        let beyond = format!("/n-{:06}", self.acked.len() + 1);
        assert_eq!(client.call(OpCode::Exists, &path_watch(&beyond, false)).err, -101, "nothing was done that was not sent");
    }
}

/// It ended by itself, badly, and said why.
fn assert_fatal((status, log): (ExitStatus, String), why: &str) {
    assert!(!status.success(), "{status}: {log}");
    assert_eq!(log.matches(&format!("fatal: {why}")).count(), 1, "not '{why}' once, but:\n{log}");
    assert!(!log.contains("Enhanced") && !log.contains("op:"), "an operator is told what the system said:\n{log}");
}

#[test]
fn on_a_full_disk_snapshots_fail_then_the_log_ends_the_server_and_nothing_is_lost() {
    const NAME: &str = "on_a_full_disk_snapshots_fail_then_the_log_ends_the_server_and_nothing_is_lost";
    let Some(disk) = SmallDisk::new(NAME) else { return };
    let settings: &[&str] = &["preAllocSize=1024", "snapCount=400"];
    let server = ServerProcess::start(&disk.data_dir(), 1, settings);
    let mut client = RawClient::connect(server.address);
    let mut writes = Writes::new();
    // A snapshot does not fit into what closing the first log, of 32 MiB, gives back.
    for i in 0..25 {
        assert_eq!(client.create(&format!("/ballast-{i}"), &vec![i; 1_000_000], OPEN).err, 0);
    }
    writes.some(&mut client, 20);
    let spares = || files(&disk.data_dir(), "zoo-spare").len();
    wait_until("the next segment is ready", || spares() == 1);
    let mut filler = Filler::new(disk.mount_point().join("filler"));
    filler.fill();

    // Until the log rolls, which begins a snapshot. The next log has its segment already.
    while files(&disk.data_dir(), "log.").len() == 1 {
        assert!(writes.one(&mut client), "served:\n{}", server.log());
        assert!(writes.acked.len() < 2_000, "no snapshot is begun:\n{}", server.log());
    }
    wait_until("the snapshot fails", || {
        filler.fill();
        server.log().contains("could not be written")
    });
    assert!(server.log().contains("the server goes on, its logs are kept"), "{}", server.log());
    writes.some(&mut client, 50);
    assert_eq!(client.set("/n-000000", &[0; PAYLOAD_BYTES], -1).err, 0, "serving goes on");

    // The next logs need segments that cannot be made.
    loop {
        filler.fill();
        if !writes.one(&mut client) {
            break;
        }
        assert!(writes.acked.len() < 10_000, "the server finds room on a full disk:\n{}", server.log());
    }
    assert!(server.log().contains("cannot prepare the next log segment"), "{}", server.log());
    println!("ended after {} acknowledged writes", writes.acked.len());
    assert_fatal(server.ended(), "preparing a log segment failed: No space left");

    filler.remove();
    let server = ServerProcess::start(&disk.data_dir(), 1, settings);
    writes.check(server.address);
    let mut client = RawClient::connect(server.address);
    writes.some(&mut client, 1);
}

#[test]
fn a_flush_that_fails_ends_the_server_at_once_and_nothing_acknowledged_is_lost() {
    const NAME: &str = "a_flush_that_fails_ends_the_server_at_once_and_nothing_acknowledged_is_lost";
    for writer in ["direct", "map", "pwrite"] {
        let Some(disk) = SmallDisk::new(NAME) else { return };
        let log_writer = format!("zoo.logWriter={writer}");
        let settings = ["preAllocSize=1024", log_writer.as_str()];
        let server = ServerProcess::start(&disk.data_dir(), 1, &settings);
        let mut client = RawClient::connect(server.address);
        let mut writes = Writes::new();
        writes.some(&mut client, 20);
        wait_until("the next segment is ready", || files(&disk.data_dir(), "zoo-spare").len() == 1);
        // One write up to the end of a page, and beyond it the device has no memory any more, and can get none. (Of a request that it can
        // carry out in part a loop device does not say that it failed.)
        const LAST_GOOD: u64 = 256 << 10;
        let log = &files(&disk.data_dir(), "log.")[0];
        let [.., last, end] = record_offsets(log)[..] else { panic!("records") };
        let overhead = (end - last) as usize - PAYLOAD_BYTES;
        assert!(writes.one_of(&mut client, (LAST_GOOD - end) as usize - overhead));
        assert_eq!(record_offsets(log).last(), Some(&LAST_GOOD));
        disk.punch(log, LAST_GOOD);
        let mut filler = Filler::new(disk.backing().join("filler"));
        filler.fill();
        assert!(!writes.one(&mut client), "acknowledged although it could not be written");
        assert!(client.is_closed());
        // The kernel says EIO, or what the device below it had said.
        assert_fatal(server.ended(), "the transaction log could not be flushed: ");

        // What was in memory is forgotten; only what the device has counts.
        disk.unmount().expect("unmounted");
        filler.remove();
        disk.mount().expect("mounted");
        let server = ServerProcess::start(&disk.data_dir(), 1, &settings);
        writes.check(server.address);
        let mut client = RawClient::connect(server.address);
        writes.some(&mut client, 1);
    }
}

#[test]
fn a_mapped_log_that_loses_its_pages_ends_the_server_with_a_message() {
    let dir = temp_dir();
    let server = ServerProcess::start(dir.path(), 1, &["zoo.logWriter=map"]);
    if server.log().contains("the log is written with pwrite") {
        return skipped("a_mapped_log_that_loses_its_pages_ends_the_server_with_a_message", "logs are not mapped on this file system");
    }
    let mut client = RawClient::connect(server.address);
    let mut writes = Writes::new();
    writes.some(&mut client, 20);
    OpenOptions::new().write(true).open(&files(dir.path(), "log.")[0]).and_then(|log| log.set_len(64 << 10)).expect("cut");
    while writes.one(&mut client) {
        assert!(writes.acked.len() < 1_000, "the server has not noticed that its log was cut");
    }
    assert_fatal(server.ended(), "SIGBUS: a page of a mapped file could not be read or written");
    let server = ServerProcess::start(dir.path(), 1, &[]);
    writes.check(server.address);
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let parent = temp_dir();
    let file = parent.path().join("file");
    std::fs::write(&file, b"").expect("written");
    let Err((status, log)) = ServerProcess::try_start(&file.join("data"), 0, 1, &[]) else { panic!("started below a file") };
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains(&text(&file)), "{log}");

    // A directory with a history, on a file system that has become read-only.
    let Some(disk) = SmallDisk::new("a_directory_that_cannot_be_written_is_refused") else { return };
    let server = ServerProcess::start(&disk.data_dir(), 1, &["preAllocSize=1024"]);
    let mut client = RawClient::connect(server.address);
    assert_eq!(client.create("/kept", b"1", OPEN).err, 0);
    assert_eq!(client.call(OpCode::SetData, &set_data("/kept", b"2", 0)).err, 0);
    server.kill();
    run_when_free("mount", &["-o", "remount,ro", &text(&disk.mount_point())]).expect("read-only");
    let Err((status, log)) = ServerProcess::try_start(&disk.data_dir(), 0, 1, &[]) else { panic!("started on a read-only disk") };
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("Read-only file system") && log.contains(&text(&disk.data_dir())), "{log}");
    run("mount", &["-o", "remount,rw", &text(&disk.mount_point())]).expect("writable again");
    let server = ServerProcess::start(&disk.data_dir(), 1, &["preAllocSize=1024"]);
    assert_eq!(RawClient::connect(server.address).get("/kept", false).data().0.as_deref(), Some(&b"2"[..]));
}

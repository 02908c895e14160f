//! Files that are torn, damaged or held by somebody else when a server starts.

use crate::OPEN;
use crate::support::{RawClient, ServerProcess, files, temp_dir, wait_until};
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Nodes a history has.
const NODES: i64 = 40;

/// A directory whose server was killed after it had acknowledged `NODES` creates, and the zxid of each.
struct History {
    dir: tempfile::TempDir,
    zxids: Vec<i64>,
}

impl History {
    fn write(settings: &[&str]) -> Self {
        let dir = temp_dir();
        let server = ServerProcess::start(dir.path(), 1, settings);
        let mut client = RawClient::connect(server.address);
        let create = |i| {
            let reply = client.create(&node(i), &data(i), OPEN);
            assert_eq!(reply.err, 0);
            reply.zxid
        };
        let zxids = (0..NODES).map(create).collect();
        server.kill();
        History { dir, zxids }
    }

    fn log(&self) -> PathBuf {
        files(self.dir.path(), "log.").pop().expect("a log")
    }

    fn offsets(&self) -> Vec<u64> {
        record_offsets(&self.log())
    }

    fn flip(&self, offset: u64) {
        let log = OpenOptions::new().read(true).write(true).open(self.log()).expect("a log");
        let mut byte = [0];
        log.read_exact_at(&mut byte, offset).expect("read");
        log.write_all_at(&[byte[0] ^ 0x40], offset).expect("written");
    }

    fn start(&self) -> ServerProcess {
        ServerProcess::start(self.dir.path(), 1, &[])
    }

    /// The message of a start that is refused because of the data.
    fn refusal(&self) -> String {
        match ServerProcess::try_start(self.dir.path(), 0, 1, &[]) {
            Ok(server) => panic!("started from damaged data:\n{}", server.log()),
            Err((status, log)) => {
                assert_eq!(status.code(), Some(3), "{log}");
                log
            }
        }
    }
}

fn node(i: i64) -> String {
    format!("/node-{i}")
}

fn data(i: i64) -> Vec<u8> {
    vec![i as u8; 300]
}

/// Where each record of a log begins, and where the last one ends.
pub fn record_offsets(log: &Path) -> Vec<u64> {
    let (_, lines) = zoo(&["log", "print", "--json", &log.display().to_string()]);
    let number = |line: &str, key: &str| {
        let rest = line.split(&format!("\"{key}\":")).nth(1)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let mut offsets: Vec<u64> = lines.lines().filter_map(|line| number(line, "offset")).collect();
    offsets.extend(lines.lines().filter_map(|line| number(line, "data_end")));
    assert!(offsets.len() > 2, "{lines}");
    offsets
}

/// Exactly the first `n` nodes are there.
fn assert_nodes(address: SocketAddr, n: i64) {
    let mut client = RawClient::connect(address);
    for i in 0..NODES {
        let reply = client.get(&node(i), false);
        if i < n {
            assert_eq!(reply.data().0, Some(data(i)), "node {i} of {n}");
        } else {
            assert_eq!(reply.err, -101, "node {i} of {n}");
        }
    }
}

/// Runs `zoo`; whether it succeeded, and all it printed.
fn zoo(args: &[&str]) -> (bool, String) {
    let binary = std::env::var("ZOO_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_zoo").to_owned());
    let output = Command::new(binary).args(args).env("NO_COLOR", "1").stdin(Stdio::null()).output().expect("the zoo binary runs");
    (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// Everything in the directory but what a start may always change.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    ["log.", "snapshot."].iter().flat_map(|prefix| files(dir, prefix)).map(|f| (f.clone(), std::fs::read(f).expect("read"))).collect()
}

#[test]
fn a_record_that_was_never_completed_is_cut_and_told_of() {
    for half in [false, true] {
        let history = History::write(&[]);
        let offsets = history.offsets();
        let [.., last, end] = offsets[..] else { panic!("records") };
        // What a crash leaves of the next record: its beginning, or pages of it without the beginning.
        let mut torn = vec![0; (end - last) as usize];
        let log = OpenOptions::new().read(true).write(true).open(history.log()).expect("a log");
        log.read_exact_at(&mut torn, last).expect("read");
        let cut = torn.len() / 2;
        let piece = if half { cut..torn.len() } else { 0..cut };
        log.write_all_at(&torn[piece.clone()], end + piece.start as u64).expect("written");
        drop(log);
        let server = history.start();
        assert!(server.log().contains("ends with a record that was never completed; cut to"), "{}", server.log());
        assert_nodes(server.address, NODES);
        drop(server);
        let server = history.start();
        assert!(!server.log().contains("never completed"), "told once: {}", server.log());
        assert_nodes(server.address, NODES);
    }
}

#[test]
fn an_acknowledged_record_that_has_changed_is_never_taken_for_a_torn_one() {
    let history = History::write(&[]);
    let [.., last, _] = history.offsets()[..] else { panic!("records") };
    history.flip(last + 40);
    let message = history.refusal();
    assert!(message.contains(&format!("offset {last}")) && message.contains("had been written durably"), "{message}");
}

#[test]
fn damage_inside_the_log_is_refused_until_an_operator_cuts_it() {
    let history = History::write(&[]);
    let offsets = history.offsets();
    let damaged = offsets.len() / 2;
    history.flip(offsets[damaged] + 40);
    let before = contents(history.dir.path());
    let message = history.refusal();
    let name = history.log().display().to_string();
    assert!(message.contains(&format!("{name}, offset {}", offsets[damaged])), "{message}");
    assert_eq!(contents(history.dir.path()), before, "a refusal changes nothing");
    assert_eq!(history.refusal().lines().last(), message.lines().last(), "nor does it wear off");

    // The command is in the message; an operator copies it.
    let command = message.split("may be lost: zoo ").nth(1).and_then(|rest| rest.lines().next()).expect("tells the command");
    let mut args: Vec<&str> = command.split_whitespace().collect();
    args.push("--yes");
    let (ok, said) = zoo(&args);
    assert!(ok, "{said}");
    let cut_after = args.iter().find_map(|a| a.strip_prefix("0x")).and_then(|z| i64::from_str_radix(z, 16).ok()).expect("a zxid");
    let kept = history.zxids.iter().filter(|z| **z <= cut_after).count() as i64;
    assert!(kept > 0 && kept < NODES, "{command}");
    let server = history.start();
    assert_nodes(server.address, kept);
    // And it is whole again: it can be written and restarted.
    assert_eq!(RawClient::connect(server.address).create("/after", b"", OPEN).err, 0);
    server.kill();
    let server = history.start();
    assert_nodes(server.address, kept);
    assert_eq!(RawClient::connect(server.address).get("/after", false).err, 0);
}

#[test]
fn a_snapshot_that_cannot_be_read_is_passed_over_when_the_logs_reach_beyond_it() {
    for cut in [true, false] {
        let history = History::write(&["snapCount=10"]);
        // The last snapshot may have been under way when the server was killed.
        let snapshots = files(history.dir.path(), "snapshot.");
        assert!(snapshots.len() >= 2, "{snapshots:?}");
        let zxid = |path: &PathBuf| u64::from_str_radix(path.extension()?.to_str()?, 16).ok();
        let newest = snapshots.iter().max_by_key(|path| zxid(path)).expect("snapshots");
        let file = OpenOptions::new().read(true).write(true).open(newest).expect("a snapshot");
        let bytes = file.metadata().expect("a file").len();
        if cut {
            file.set_len(bytes / 2).expect("cut");
        } else {
            let mut byte = [0];
            file.read_exact_at(&mut byte, bytes / 2).expect("read");
            file.write_all_at(&[byte[0] ^ 1], bytes / 2).expect("written");
        }
        let server = history.start();
        let name = newest.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(server.log().contains(&name), "the operator is told: {}", server.log());
        assert_nodes(server.address, NODES);
    }
}

#[test]
fn without_a_snapshot_that_can_be_read_only_whole_logs_are_served() {
    for whole in [true, false] {
        let history = History::write(&["snapCount=10"]);
        let snapshots = files(history.dir.path(), "snapshot.");
        snapshots.iter().for_each(|snapshot| std::fs::write(snapshot, b"").expect("emptied"));
        if whole {
            let server = history.start();
            let told = server.log().lines().filter(|line| line.contains("the logs are read from their beginning")).count();
            assert_eq!(told, snapshots.len(), "the operator is told: {}", server.log());
            assert_nodes(server.address, NODES);
            continue;
        }
        let first = history.dir.path().join("version-2/log.1");
        std::fs::remove_file(first).expect("a log from the beginning");
        let before = contents(history.dir.path());
        assert!(history.refusal().contains("no usable snapshot"));
        assert_eq!(contents(history.dir.path()), before, "a refusal changes nothing");
    }
}

#[test]
fn a_second_server_and_the_repair_tool_keep_off_a_directory_in_use() {
    let dir = temp_dir();
    let server = ServerProcess::start(dir.path(), 1, &[]);
    let mut client = RawClient::connect(server.address);
    assert_eq!(client.create("/x", b"", OPEN).err, 0);
    let Err((status, log)) = ServerProcess::try_start(dir.path(), 0, 1, &[]) else { panic!("two servers on one directory") };
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("another server uses this directory"), "{log}");
    let (ok, said) = zoo(&["log", "repair", &dir.path().display().to_string(), "--cut-after", "0x1", "--yes"]);
    assert!(!ok && said.contains("stop it first"), "{said}");
    assert_eq!(client.set("/x", b"1", 0).err, 0, "the first goes on");
}

#[test]
fn log_files_of_different_runs_carry_different_random_ids() {
    let dir = temp_dir();
    let mut ids = Vec::new();
    for run in 0..4 {
        let server = ServerProcess::start(dir.path(), 1, &[]);
        let mut client = RawClient::connect(server.address);
        assert_eq!(client.create(&node(run), b"", OPEN).err, 0);
        wait_until("the log has its name", || files(dir.path(), "log.").len() > run as usize);
        server.kill();
    }
    for log in files(dir.path(), "log.") {
        let header = std::fs::read(&log).expect("read");
        ids.push(i64::from_be_bytes(header[8..16].try_into().expect("eight bytes")));
    }
    assert_eq!(ids.len(), 4);
    assert!(!ids.contains(&0), "{ids:?}");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "{ids:?}");
}

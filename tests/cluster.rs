//! Ensembles of real processes: elections, writes through every member, kill -9, members that come back, hostile bytes on their ports.

#[path = "support/cluster.rs"]
mod ensemble;
mod support;

use ensemble::Cluster;
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use support::{RawClient, create, path_watch, wait_until};
use zoo::base::SessionId;
use zoo::proto::OpCode;

fn others(of: usize) -> Vec<usize> {
    (1..=3).filter(|id| *id != of).collect()
}

/// P1, P7.
#[test]
fn three_members_elect_a_leader_and_each_takes_writes_that_all_show() {
    let cluster = Cluster::start(3, &["4lw.commands.whitelist=*"]);
    let leader = cluster.settled(&[1, 2, 3]);
    for id in 1..=3 {
        let mut client = cluster.client(id);
        let path = format!("/through-{id}");
        assert_eq!(client.create(&path, b"data", 0).path(), path);
        assert_eq!(client.get(&path, false).data().0.as_deref(), Some(&b"data"[..]), "its own write is there at once");
        assert_eq!(client.create(&path, b"", 0).err, -110, "and is there once");
        client.close();
    }
    for id in 1..=3 {
        (1..=3).for_each(|through| cluster.shows(id, &format!("/through-{through}")));
    }
    let monitor = cluster.word(leader, "mntr");
    for line in ["zk_server_state\tleader", "zk_peer_state\tleading - broadcast", "zk_quorum_size\t3", "zk_synced_followers\t2"] {
        assert!(monitor.contains(line), "{line}:\n{monitor}");
    }
    let configuration = cluster.word(leader, "conf");
    assert!(configuration.contains(&format!("serverId={leader}\n")) && configuration.contains("membership: \nserver.1=127.0.0.1:"));
    assert!(cluster.word(others(leader)[0], "dump").contains("Global Sessions("));
    for member in cluster.members {
        let (status, log) = member.process.expect("running").stop_with(Signal::TERM);
        assert!(status.success(), "member {} ends with {status}:\n{log}", member.id);
    }
}

/// Creates /w-0, /w-1, … at any of the members until told to stop; what was acknowledged is counted, and nothing is sent before the one
/// before it is known to be there.
fn write_on(addresses: Vec<std::net::SocketAddr>, stop: &AtomicBool, acknowledged: &AtomicUsize) {
    let mut at = 0;
    while !stop.load(Ordering::Relaxed) {
        at += 1;
        let address = addresses[at % addresses.len()];
        let Ok(Some(mut client)) = RawClient::try_attach(address, SessionId::NONE, [0; 16], 30_000) else {
            std::thread::sleep(std::time::Duration::from_millis(20));
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            let next = acknowledged.load(Ordering::Relaxed);
            let sent = client.send(OpCode::Create, &create(&format!("/w-{next}"), b"x", 0));
            match sent.and_then(|_| client.reply()) {
                // It exists when the reply to an earlier attempt was lost.
                Ok(reply) if reply.err == 0 || reply.err == -110 => {
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                Ok(reply) => panic!("{reply:?}"),
                Err(_) => break,
            }
        }
    }
}

/// A client that writes to whichever member takes it, on a thread of its own.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<()>,
}

impl Writer {
    fn start(cluster: &Cluster) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let addresses: Vec<_> = cluster.members.iter().map(|member| cluster.address(member.id)).collect();
        let thread = std::thread::spawn({
            let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
            move || write_on(addresses, &stop, &acknowledged)
        });
        Writer { stop, acknowledged, thread }
    }

    fn written(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits for this many more.
    fn goes_on(&self, what: &str, count: usize) {
        let before = self.written();
        wait_until(what, || self.written() >= before + count);
    }

    /// Ends it, and looks for everything it was promised at every member.
    fn check(self, cluster: &Cluster) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer ends");
        let written = self.acknowledged.load(Ordering::Relaxed);
        for member in &cluster.members {
            cluster.shows(member.id, &format!("/w-{}", written - 1));
            let mut client = cluster.client(member.id);
            for n in 0..written {
                let found = client.call(OpCode::Exists, &path_watch(&format!("/w-{n}"), false));
                assert_eq!(found.err, 0, "member {} has lost /w-{n} of {written}", member.id);
            }
        }
    }
}

/// P2, P3, P15: the leader is killed under writes; the rest goes on; the killed one comes back by what it missed, with everything.
#[test]
fn the_rest_goes_on_when_the_leader_is_killed_and_no_acknowledged_write_is_lost() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.settled(&[1, 2, 3]);
    let writer = Writer::start(&cluster);
    writer.goes_on("writes before the kill", 50);
    cluster.kill(leader);
    writer.goes_on("writes after the kill", 50);
    let next = cluster.settled(&others(leader));
    assert_ne!(next, leader);
    cluster.run(leader);
    cluster.settled(&[1, 2, 3]);
    writer.goes_on("writes with all three", 20);
    writer.check(&cluster);
    assert!(!cluster.log(leader).contains("the leader's image"), "what it missed was enough:\n{}", cluster.log(leader));
}

/// P3, L7: whoever is killed in whatever company, what was acknowledged is there when a majority is.
/// Whatever it waits for of the others: their acknowledgements of a write, their answers before a sync, or somebody to elect.
#[test]
fn a_member_that_the_others_have_left_alone_stops_when_told() {
    for ms in [0, 100, 3_000] {
        let mut cluster = Cluster::start(3, &[]);
        let leader = cluster.settled(&[1, 2, 3]);
        let mut client = cluster.client(leader);
        assert_eq!(client.create("/a", b"", 0).err, 0);
        let mut learner = cluster.client(others(leader)[0]);
        others(leader).into_iter().for_each(|id| cluster.process(id).signal(Signal::STOP));
        client.send_all(&[(OpCode::Create, create("/b", b"", 0)), (OpCode::Sync, path_watch("/", false)[..5].to_vec())]).expect("sent");
        learner.send(OpCode::Create, &create("/c", b"", 0)).expect("sent");
        std::thread::sleep(std::time::Duration::from_millis(ms));
        if ms == 3_000 {
            // It has no role any more, and cannot find one.
            others(leader).into_iter().for_each(|id| cluster.kill(id));
            wait_until("it serves nobody", || cluster.mode(leader).is_none());
        }
        let (status, log) = cluster.members[leader - 1].process.take().expect("running").stop_with(Signal::TERM);
        assert!(status.success() && log.contains("stopped"), "after {ms} ms it ends with {status}:\n{log}");
        // Those that stand still end as well, when they go on without their leader.
        for id in others(leader).into_iter().filter(|id| cluster.is_running(*id)).collect::<Vec<_>>() {
            cluster.process(id).signal(Signal::CONT);
            let (status, log) = cluster.members[id - 1].process.take().expect("running").stop_with(Signal::TERM);
            assert!(status.success() && log.contains("stopped"), "member {id} ends with {status}:\n{log}");
        }
        (1..=3).for_each(|id| cluster.run(id));
        cluster.settled(&[1, 2, 3]);
        cluster.shows(leader, "/a");
    }
}

#[test]
fn members_killed_in_turn_together_and_all_at_once_lose_nothing() {
    let mut cluster = Cluster::start(3, &["snapCount=60", "preAllocSize=256"]);
    cluster.settled(&[1, 2, 3]);
    let writer = Writer::start(&cluster);
    for killed in [&[1][..], &[2], &[3], &[1, 2], &[2, 3], &[1, 2, 3]] {
        writer.goes_on("writes before the kill", 30);
        killed.iter().for_each(|id| cluster.kill(*id));
        killed.iter().for_each(|id| cluster.run(*id));
        cluster.settled(&[1, 2, 3]);
    }
    writer.goes_on("writes after all kills", 30);
    writer.check(&cluster);
}

/// A member without its disk comes back as a learner, by an image.
#[test]
fn a_wiped_member_comes_back_by_an_image() {
    let mut cluster = Cluster::start(3, &["snapCount=100", "preAllocSize=256"]);
    let leader = cluster.settled(&[1, 2, 3]);
    let wiped = others(leader)[0];
    let mut client = cluster.client(leader);
    for n in 0..800 {
        assert_eq!(client.create(&format!("/n-{n}"), &[b'x'; 200], 0).err, 0);
    }
    cluster.kill(wiped);
    std::fs::remove_dir_all(cluster.data_dir(wiped).join("version-2")).expect("removed");
    assert_eq!(client.create("/while-away", b"", 0).err, 0);
    cluster.run(wiped);
    cluster.shows(wiped, "/while-away");
    cluster.shows(wiped, "/n-0");
    assert!(cluster.log(wiped).contains("received the leader's image"), "{}", cluster.log(wiped));
    // It is as good as any other one now: with it alone beside a third, the ensemble goes on.
    let third = (1..=3).find(|id| *id != leader && *id != wiped).expect("three");
    cluster.kill(leader);
    cluster.settled(&[wiped, third]);
    let mut client = cluster.client(wiped);
    assert_eq!(client.create("/after", b"", 0).err, 0);
    cluster.shows(third, "/after");
    // And what it has received survives a restart.
    cluster.kill(wiped);
    cluster.run(wiped);
    cluster.settled(&[wiped, third]);
    cluster.shows(wiped, "/n-799");
    cluster.shows(wiped, "/after");
}

/// S7, P6: bytes that no server sends cost their own connection.
#[test]
fn garbage_on_the_ports_for_other_servers_harms_nobody() {
    let cluster = Cluster::start(3, &[]);
    let leader = cluster.settled(&[1, 2, 3]);
    let mut held = Vec::new();
    for member in &cluster.members {
        for port in [member.election_port, member.quorum_port] {
            for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 400], &[0; 400], &[]] {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
                let _ = stream.write_all(garbage);
                held.push(stream);
            }
        }
    }
    for id in 1..=3 {
        assert_eq!(cluster.client(id).create(&format!("/still-{id}"), b"", 0).err, 0);
    }
    assert_eq!(cluster.settled(&[1, 2, 3]), leader, "nobody had to elect again");
}

/// A port such that this and the others which `zoo ensemble` derives from it are free.
fn base_port() -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let all_free = |base: &u16| [0, 700, 1700].iter().all(|offset| (0..3).all(|i| free(base + offset + i)));
    // Below the ports that other tests of this program choose.
    (0..100).map(|n| 10_000 + ((std::process::id() * 61 + n * 13) % 8_000) as u16).find(all_free).expect("free ports")
}

/// `zoo ensemble` with three members, all serving.
struct EnsembleCommand {
    process: Child,
    lines: Box<dyn Iterator<Item = String>>,
    base_port: u16,
    dir: tempfile::TempDir,
}

impl EnsembleCommand {
    fn start() -> Self {
        let (dir, base_port) = (support::temp_dir(), base_port());
        let mut command = Command::new(std::env::var("ZOO_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_zoo").to_owned()));
        command.args(["ensemble", "--servers", "3", "--port", &base_port.to_string(), "--dir"]).arg(dir.path().join("members"));
        let mut process = command.arg("--zoo.shards=1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the zoo binary runs");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines().map_while(Result::ok);
        assert!(lines.next().expect("a line").starts_with("3 members in "));
        let mut serving = 0;
        while serving < 3 {
            let line = lines.next().expect("it goes on until all serve");
            assert!(!line.contains("has ended"), "{line}");
            serving += usize::from(line.ends_with("  leader") || line.ends_with("  follower"));
        }
        EnsembleCommand { process, lines: Box::new(lines), base_port, dir }
    }
}

impl Drop for EnsembleCommand {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_ensemble_command_runs_members_says_what_they_are_and_stops_them() {
    let mut ensemble = EnsembleCommand::start();
    ensemble.process.stdin.take().expect("piped").write_all(b"\n").expect("taken");
    let table: Vec<_> = ensemble.lines.by_ref().skip_while(|line| !line.starts_with("server   address")).take(4).collect();
    assert_eq!(table.iter().filter(|line| line.contains(" leader ")).count(), 1, "{table:?}");
    rustix::process::kill_process(rustix::process::Pid::from_child(&ensemble.process), Signal::INT).expect("alive");
    assert_eq!(ensemble.lines.by_ref().last().as_deref(), Some("stopping"));
    assert!(ensemble.process.wait().expect("ends").success());
}

#[test]
fn no_member_outlives_an_ensemble_command_that_is_killed() {
    let mut ensemble = EnsembleCommand::start();
    let address = |i: u16| std::net::SocketAddr::from(([127, 0, 0, 1], ensemble.base_port + i));
    assert_eq!(RawClient::connect(address(0)).create("/kept", b"", 0).err, 0);
    ensemble.process.kill().expect("alive");
    ensemble.process.wait().expect("waited for");
    for id in 1..=3 {
        let log = ensemble.dir.path().join(format!("members/{id}/zoo.log"));
        wait_until(&format!("member {id} stops as it does when asked to"), || {
            std::fs::read_to_string(&log).expect("messages").contains("stopped")
        });
        wait_until(&format!("member {id} listens no more"), || TcpStream::connect(address(id - 1)).is_err());
    }
}

#[test]
fn an_observer_serves_clients_and_votes_for_nobody() {
    let mut cluster = Cluster::prepare(4, &["4lw.commands.whitelist=*"]);
    cluster.observers = vec![4];
    (1..=4).for_each(|id| cluster.run(id));
    let leader = cluster.settled(&[1, 2, 3, 4]);
    assert_eq!(cluster.mode(4).as_deref(), Some("observer"));
    let mut client = cluster.client(4);
    assert_eq!(client.create("/observed", b"", 0).err, 0);
    assert_eq!(client.get("/observed", false).err, 0);
    (1..=3).for_each(|id| cluster.shows(id, "/observed"));
    assert!(cluster.word(leader, "mntr").contains("zk_synced_observers\t1"), "{}", cluster.word(leader, "mntr"));
    // Two voters of three are gone: an observer is no replacement.
    let gone = others(leader);
    gone.iter().for_each(|id| cluster.kill(*id));
    wait_until("nobody serves without a quorum", || cluster.mode(leader).is_none() && cluster.mode(4).is_none());
    cluster.run(gone[0]);
    cluster.settled(&[leader, gone[0], 4]);
    cluster.shows(4, "/observed");
}

/// The observer learns from a follower, and from the next one when that is gone.
#[test]
fn an_observer_learns_from_followers_that_are_its_masters() {
    let mut cluster = Cluster::prepare(4, &["4lw.commands.whitelist=*"]);
    (cluster.observers, cluster.is_spread) = (vec![4], true);
    cluster.settings.push(format!("observerMasterPort={}", support::ports::free_port()));
    (1..=4).for_each(|id| cluster.run(id));
    let leader = cluster.settled(&[1, 2, 3, 4]);
    let master = |cluster: &Cluster| {
        let said = cluster.word(4, "mntr");
        said.lines().find_map(|l| l.strip_prefix("zk_observer_master_id\t")).and_then(|id| id.parse::<usize>().ok())
    };
    let first = master(&cluster).expect("it observes");
    assert_ne!(first, leader);
    assert!(cluster.word(first, "mntr").contains("zk_synced_observers\t1"), "{}", cluster.word(first, "mntr"));
    let mut client = cluster.client(4);
    assert_eq!(client.create("/observed", b"", 1).err, 0);
    (1..=3).for_each(|id| cluster.shows(id, "/observed"));
    cluster.kill(first);
    let rest = [leader, 6 - leader - first];
    wait_until("another master", || cluster.mode(4).is_some() && master(&cluster) == Some(rest[1]));
    let mut client = RawClient::attach(cluster.address(4), client.session, client.password, 30_000).expect("it goes on");
    assert_eq!(client.get("/observed", false).err, 0);
    assert_eq!(client.create("/again", b"", 0).err, 0);
    cluster.run(first);
    cluster.settled(&[1, 2, 3, 4]);
    cluster.shows(first, "/again");
}

/// All but one have lost their disks: with markers that vouch for them the one goes on with its data, and without them it does not.
#[test]
fn an_ensemble_is_restored_from_the_data_of_one_member() {
    let mut cluster = Cluster::start(3, &[]);
    let kept = cluster.settled(&[1, 2, 3]);
    assert_eq!(cluster.client(kept).create("/kept", b"", 0).err, 0);
    (1..=3).for_each(|id| cluster.kill(id));
    for id in others(kept) {
        std::fs::remove_dir_all(cluster.data_dir(id).join("version-2")).expect("removed");
        std::fs::write(cluster.data_dir(id).join("initialize"), b"").expect("written");
    }
    cluster.run(kept);
    others(kept).into_iter().for_each(|id| cluster.run(id));
    assert_eq!(cluster.settled(&[1, 2, 3]), kept);
    (1..=3).for_each(|id| cluster.shows(id, "/kept"));
    for id in others(kept) {
        assert!(!cluster.data_dir(id).join("initialize").exists(), "it holds for one start");
    }
}

/// A leader that was restarted has little in memory: who was away longer is sent records from its log.
#[test]
fn a_member_that_was_away_for_long_is_fed_from_the_log() {
    let mut cluster = Cluster::start(3, &["snapCount=300", "snapshotSizeFactor=1000", "preAllocSize=256"]);
    let leader = cluster.settled(&[1, 2, 3]);
    let late = others(leader)[0];
    assert_eq!(cluster.client(leader).create("/first", b"", 0).err, 0);
    cluster.shows(late, "/first");
    cluster.kill(late);
    let mut client = cluster.client(leader);
    for n in 0..1_500 {
        assert_eq!(client.create(&format!("/n-{n}"), &[b'x'; 2_000], 0).err, 0);
    }
    let rest = [leader, 6 - leader - late];
    rest.into_iter().for_each(|id| cluster.kill(id));
    rest.into_iter().for_each(|id| cluster.run(id));
    cluster.settled(&rest);
    cluster.run(late);
    cluster.settled(&[1, 2, 3]);
    cluster.shows(late, "/n-1499");
    let log = cluster.log(late);
    assert!(!log.contains("the leader's image"), "{log}");
    let mut client = cluster.client(late);
    for n in 0..1_500 {
        assert_eq!(client.get(&format!("/n-{n}"), false).err, 0, "/n-{n}");
    }
}

#[test]
fn a_taken_election_port_ends_the_start_with_zookeepers_exit_code() {
    let mut cluster = Cluster::prepare(3, &["electionPortBindRetry=1"]);
    let taken = TcpListener::bind(("127.0.0.1", cluster.members[0].election_port)).expect("free");
    let (status, log) = cluster.try_run(1).expect_err("the port is taken");
    assert_eq!(status.code(), Some(14), "{log}");
    assert!(log.contains("cannot listen for elections on 127.0.0.1:"), "{log}");
    drop(taken);
    cluster.run(1);
}

/// What a client may send at all goes through every member.
#[test]
fn the_largest_writes_go_through_every_member() {
    let cluster = Cluster::start(3, &[]);
    cluster.settled(&[1, 2, 3]);
    for id in 1..=3 {
        let path = format!("/large-{id}");
        let mut client = cluster.client(id);
        assert_eq!(client.create(&path, b"", 0).err, 0);
        for (version, bytes) in [400_000, 1_000_000, 1_048_500].into_iter().enumerate() {
            assert_eq!(client.set(&path, &vec![7; bytes], version as i32).err, 0, "{bytes} bytes through member {id}:\n{}", cluster.logs());
        }
        (1..=3).for_each(|other| cluster.shows(other, &path));
    }
}

/// P13, S6: a session goes on at any member, for whoever has its password, and its ephemerals go with it everywhere.
#[test]
fn sessions_move_between_members_and_take_their_ephemerals_along() {
    const EPHEMERAL: i32 = 1;
    let cluster = Cluster::start(3, &[]);
    cluster.settled(&[1, 2, 3]);
    let mut first = cluster.client(1);
    assert_eq!(first.create("/mine", b"", EPHEMERAL).err, 0);
    let (session, password) = (first.session, first.password);
    drop(first);
    for (n, id) in [2, 3, 1, 2, 1].into_iter().enumerate() {
        let mut moved = RawClient::attach(cluster.address(id), session, password, 30_000).expect("it goes on here");
        assert_eq!(moved.session, session);
        assert_eq!(moved.create(&format!("/move-{n}"), b"", 0).err, 0);
        assert_eq!(moved.get("/mine", false).err, 0, "its own write is behind this one");
    }
    assert!(RawClient::attach(cluster.address(3), session, [7; 16], 30_000).is_none(), "the wrong password");
    let gone = |path: &str| {
        for id in 1..=3 {
            let mut client = cluster.client(id);
            wait_until(&format!("{path} is gone from member {id}"), || client.get(path, false).err == -101);
        }
    };
    RawClient::attach(cluster.address(3), session, password, 30_000).expect("it goes on here").close();
    gone("/mine");
    // A client that falls silent at any member is expired by the leader.
    for id in 1..=3 {
        let brief = RawClient::try_attach(cluster.address(id), SessionId::NONE, [0; 16], 1_000).expect("an answer");
        let mut brief = brief.expect("a new session");
        assert_eq!(brief.create("/brief", b"", EPHEMERAL).err, 0);
        gone("/brief");
    }
}

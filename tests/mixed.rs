//! Ensembles of our servers and reference servers: either leads, either follows, either is killed and comes back, and all show one history.
//!
//! Needs the reference server: `tests/run.sh --layer mixed`, or `cargo test --test mixed -- --ignored`.
#![allow(missing_docs, clippy::unwrap_used)]

mod reference;

use reference::client::Client;
use reference::process::{Kind, Server, Settings, free_port};
use reference::request::{create, exists, set_data};
use reference::words;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest wait for an ensemble to settle: a Java process on a loaded machine takes many seconds to join.
const SETTLE_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// Members 1 to 3.
struct Mixed {
    dir: tempfile::TempDir,
    kinds: [Kind; 3],
    ports: [u16; 3],
    settings: Settings,
    servers: [Option<Server>; 3],
}

impl Mixed {
    fn prepare(kinds: [Kind; 3]) -> Self {
        let mut settings = Settings::new(&[
            ("tickTime", "500"),
            ("initLimit", "60"),
            ("syncLimit", "30"),
            ("maxSessionTimeout", "60000"),
            ("4lw.commands.whitelist", "*"),
            ("preAllocSize", "1024"),
            // A Java leader can need a second to open its port.
            ("leaderConnectDelayDuringRetryMs", "1000"),
        ]);
        for id in 1..=3 {
            settings.config.push((format!("server.{id}"), format!("127.0.0.1:{}:{}", free_port(), free_port())));
        }
        let ports = [(); 3].map(|()| free_port());
        Mixed { dir: tempfile::tempdir().unwrap(), kinds, ports, settings, servers: [None, None, None] }
    }

    fn place(&self, id: usize) -> PathBuf {
        self.dir.path().join(id.to_string())
    }

    fn run(&mut self, id: usize) {
        std::fs::create_dir_all(self.place(id).join("data")).unwrap();
        std::fs::write(self.place(id).join("data/myid"), id.to_string()).unwrap();
        self.servers[id - 1] = Some(Server::spawn(self.kinds[id - 1], &self.place(id), &self.settings, self.ports[id - 1]));
    }

    fn kill(&mut self, id: usize) {
        self.servers[id - 1].take().unwrap().kill();
    }

    fn mode(&self, id: usize) -> Option<String> {
        let answer = words::ask(self.ports[id - 1], "srvr").ok()?;
        answer.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
    }

    /// Waits until all of these serve; the leader's id.
    fn settled(&self, ids: &[usize]) -> usize {
        let began = Instant::now();
        loop {
            let modes: Vec<_> = ids.iter().map(|id| self.mode(*id)).collect();
            let leader = ids.iter().zip(&modes).find(|(_, mode)| mode.as_deref() == Some("leader"));
            if let (Some((leader, _)), true) = (leader, modes.iter().all(Option::is_some)) {
                return *leader;
            }
            let logs = || self.servers.iter().flatten().map(Server::log_tail).collect::<Vec<_>>().join("\n---\n");
            assert!(began.elapsed() < SETTLE_MAX, "{ids:?} do not settle: {modes:?}\n{}", logs());
            std::thread::sleep(POLL);
        }
    }

    /// Writes through each of these, and waits until each shows what the others took.
    fn write_everywhere(&self, ids: &[usize], name: &str) {
        for id in ids {
            let mut client = Client::open(self.ports[id - 1]);
            client.ok(&create(&format!("/{name}-{id}"), b"one", 0));
            client.ok(&set_data(&format!("/{name}-{id}"), b"two", 0));
            assert_eq!(client.data(&format!("/{name}-{id}")).0.as_deref(), Some(&b"two"[..]));
        }
        for id in ids {
            ids.iter().for_each(|through| self.shows(*id, &format!("/{name}-{through}")));
        }
    }

    fn shows(&self, id: usize, path: &str) {
        let mut client = Client::open(self.ports[id - 1]);
        let began = Instant::now();
        while client.err(&exists(path, false)) != 0 {
            assert!(began.elapsed() < SETTLE_MAX, "member {id} does not show {path}");
            std::thread::sleep(POLL);
        }
    }

    /// Every Java server compares the digest in each transaction with its own tree.
    fn java_saw_no_other_tree(&self) {
        for (i, kind) in self.kinds.iter().enumerate() {
            if *kind == Kind::Java && self.servers[i].is_some() {
                assert_eq!(words::monitored(self.ports[i], "zk_digest_mismatches_count"), Some(0.0));
            }
        }
    }
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer mixed"]
fn a_java_server_follows_ours_and_goes_on_with_one_of_them() {
    let mut members = Mixed::prepare([Kind::Java, Kind::Zoo, Kind::Zoo]);
    [2, 3].into_iter().for_each(|id| members.run(id));
    let leader = members.settled(&[2, 3]);
    assert_eq!(leader, 3, "with equal histories the larger number");
    members.write_everywhere(&[2, 3], "before");
    members.run(1);
    assert_eq!(members.settled(&[1, 2, 3]), 3);
    members.shows(1, "/before-2");
    members.write_everywhere(&[1, 2, 3], "all");
    members.kill(3);
    members.settled(&[1, 2]);
    members.write_everywhere(&[1, 2], "two");
    members.run(3);
    members.settled(&[1, 2, 3]);
    members.write_everywhere(&[1, 2, 3], "again");
    (1..=3).for_each(|id| members.shows(id, "/two-1"));
    members.java_saw_no_other_tree();
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer mixed"]
fn ours_follow_a_java_leader_outlive_it_and_take_it_back() {
    let mut members = Mixed::prepare([Kind::Zoo, Kind::Zoo, Kind::Java]);
    [1, 3].into_iter().for_each(|id| members.run(id));
    assert_eq!(members.settled(&[1, 3]), 3, "with equal histories the larger number");
    members.write_everywhere(&[1, 3], "before");
    // It has nothing: the Java leader sends it an image.
    members.run(2);
    assert_eq!(members.settled(&[1, 2, 3]), 3);
    members.write_everywhere(&[1, 2, 3], "all");
    members.kill(3);
    members.settled(&[1, 2]);
    members.write_everywhere(&[1, 2], "ours");
    members.run(3);
    members.settled(&[1, 2, 3]);
    members.shows(3, "/ours-1");
    members.write_everywhere(&[1, 2, 3], "again");
    members.java_saw_no_other_tree();
}

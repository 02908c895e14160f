//! The members of one ensemble: processes of either kind on directories that stay.

use crate::reference::client::Client;
use crate::reference::process::{Kind, Server, Settings, free_port};
use crate::reference::request::{create, exists, set_data, sync};
use crate::reference::{seen, words};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest wait for an ensemble to settle: a Java process on a loaded machine takes many seconds to join.
pub const SETTLE_MAX: Duration = Duration::from_secs(120);
pub const POLL: Duration = Duration::from_millis(50);

/// Members 1 to 3.
pub struct Mixed {
    dir: tempfile::TempDir,
    pub kinds: [Kind; 3],
    pub ports: [u16; 3],
    settings: Settings,
    servers: [Option<Server>; 3],
}

impl Mixed {
    pub fn prepare(kinds: [Kind; 3]) -> Self {
        Self::with(kinds, &[])
    }

    /// Member 3 observes, and learns from the follower among the others. Each has a loopback address of its own, since the port is one.
    pub fn with_master(kinds: [Kind; 3]) -> Self {
        let mut members = Self::spread(kinds, &[3], |id| format!("127.0.0.{id}"));
        members.settings.config.push(("observerMasterPort".to_owned(), free_port().to_string()));
        members
    }

    /// Members that may change.
    pub fn changing(kinds: [Kind; 3]) -> Self {
        let mut members = Self::prepare(kinds);
        members.settings.config.push(("reconfigEnabled".into(), "true".into()));
        members.settings = members.settings.clone().define("zookeeper.skipACL", "yes");
        members
    }

    /// What a request for this member to join says.
    pub fn line(&self, id: usize) -> String {
        let key = format!("server.{id}");
        let (_, value) = self.settings.config.iter().find(|(name, _)| *name == key).unwrap();
        format!("{key}={value}:participant;127.0.0.1:{}", self.ports[id - 1])
    }

    /// `observers` have no vote.
    pub fn with(kinds: [Kind; 3], observers: &[usize]) -> Self {
        Self::spread(kinds, observers, |_| "127.0.0.1".to_owned())
    }

    fn spread(kinds: [Kind; 3], observers: &[usize], host: impl Fn(usize) -> String) -> Self {
        let mut settings = Settings::new(&[
            ("tickTime", "500"),
            ("initLimit", "60"),
            ("syncLimit", "30"),
            ("maxSessionTimeout", "60000"),
            ("4lw.commands.whitelist", "*"),
            ("maxClientCnxns", "0"),
            ("extendedTypesEnabled", "true"),
            // Several snapshots and logs in a test's life.
            ("snapCount", "300"),
            ("preAllocSize", "1024"),
            // A Java leader can need a second to open its port.
            ("leaderConnectDelayDuringRetryMs", "1000"),
        ]);
        for id in 1..=3 {
            let role = if observers.contains(&id) { ":observer" } else { "" };
            settings.config.push((format!("server.{id}"), format!("{}:{}:{}{role}", host(id), free_port(), free_port())));
        }
        let ports = [(); 3].map(|()| free_port());
        Mixed { dir: tempfile::tempdir().unwrap(), kinds, ports, settings, servers: [None, None, None] }
    }

    /// The same with a further setting: a line of the file, or a property where Java reads no line.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        if key == "readonlymode.enabled" {
            self.settings = self.settings.define(key, value);
        } else {
            self.settings.config.push((key.to_owned(), value.to_owned()));
        }
        self
    }

    pub fn run_all(&mut self) {
        (1..=3).for_each(|id| self.run(id));
    }

    pub fn place(&self, id: usize) -> PathBuf {
        self.dir.path().join(id.to_string())
    }

    pub fn run(&mut self, id: usize) {
        std::fs::create_dir_all(self.place(id).join("data")).unwrap();
        std::fs::write(self.place(id).join("data/myid"), id.to_string()).unwrap();
        self.servers[id - 1] = Some(Server::spawn(self.kinds[id - 1], &self.place(id), &self.settings, self.ports[id - 1]));
    }

    pub fn kill(&mut self, id: usize) {
        self.servers[id - 1].take().unwrap().kill();
    }

    /// SIGTERM, and the end awaited.
    pub fn stop(&mut self, id: usize) {
        self.servers[id - 1].take().unwrap().stop();
    }

    /// The same directory and configuration, another kind of server.
    pub fn replace(&mut self, id: usize, kind: Kind) {
        self.stop(id);
        self.kinds[id - 1] = kind;
        self.run(id);
        self.settled(&[1, 2, 3]);
    }

    pub fn mode(&self, id: usize) -> Option<String> {
        let answer = words::ask(self.ports[id - 1], "srvr").ok()?;
        answer.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
    }

    /// Waits until all of these serve; the leader's id.
    pub fn settled(&mut self, ids: &[usize]) -> usize {
        let began = Instant::now();
        loop {
            ids.iter().for_each(|id| self.revive(*id));
            let modes: Vec<_> = ids.iter().map(|id| self.mode(*id)).collect();
            let mut leaders = ids.iter().zip(&modes).filter(|(_, mode)| mode.as_deref() == Some("leader")).map(|(id, _)| *id);
            if let (Some(leader), None, true) = (leaders.next(), leaders.next(), modes.iter().all(Option::is_some)) {
                return leader;
            }
            assert!(began.elapsed() < SETTLE_MAX, "{ids:?} do not settle: {modes:?}\n{}", self.last_words());
            std::thread::sleep(POLL);
        }
    }

    /// A Java server that loses its role under writes may read from its log what it is just applying, find a zxid missing between the two, and go on
    /// as a process that does nothing: seen with observers. Its operator would start it again.
    fn revive(&mut self, id: usize) {
        let log = self.place(id).join("java.log");
        if self.kinds[id - 1] != Kind::Java || self.servers[id - 1].is_none() {
            return;
        }
        let said = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
        if said.contains("Committed proposal cached out of order") && said.contains("QuorumPeer main thread exited") {
            println!("note: the main thread of Java server {id} has ended by an error of its own; it is started again");
            self.kill(id);
            std::fs::rename(&log, log.with_extension("dead")).unwrap();
            self.run(id);
        }
    }

    /// The ends of all logs.
    pub fn last_words(&self) -> String {
        let tail = |server: &Server| format!("---- {:?} on {}:\n{}", server.kind, server.port, server.log_tail());
        self.servers.iter().flatten().map(tail).collect::<Vec<_>>().join("\n")
    }

    /// Writes through each of these, and waits until each shows what the others took.
    pub fn write_everywhere(&self, ids: &[usize], name: &str) {
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

    pub fn shows(&self, id: usize, path: &str) {
        let mut client = Client::open(self.ports[id - 1]);
        let began = Instant::now();
        while client.err(&exists(path, false)) != 0 {
            assert!(began.elapsed() < SETTLE_MAX, "member {id} does not show {path}");
            std::thread::sleep(POLL);
        }
    }

    /// All members show one tree and have come to one zxid, once nobody writes any more; none of ours has found another's tree to differ.
    pub fn all_agree(&self) {
        let zxid = |port: u16| words::ask(port, "srvr").unwrap().lines().find_map(|l| l.strip_prefix("Zxid: ").map(str::to_owned));
        let began = Instant::now();
        loop {
            let zxids = self.ports.map(zxid);
            if zxids[0].is_some() && zxids.iter().all(|z| *z == zxids[0]) {
                break;
            }
            assert!(began.elapsed() < SETTLE_MAX, "the members end at {zxids:?}");
            std::thread::sleep(POLL);
        }
        let trees = self.ports.map(|port| {
            let mut client = Client::open(port);
            client.ok(&sync("/"));
            let mut nodes = seen::below(&mut client, "/");
            // A Java server dates this one when it starts.
            nodes.retain(|path, _| path != "/zookeeper/config");
            nodes
        });
        seen::assert_same(&trees[0], &trees[1], "members 1 and 2");
        seen::assert_same(&trees[0], &trees[2], "members 1 and 3");
        self.ours_saw_no_other_tree();
    }

    /// Every server compares the digest in each transaction with its own tree; Java counts what differs, ours asks for an image or stops.
    pub fn no_other_tree(&self) {
        self.ours_saw_no_other_tree();
        for (i, kind) in self.kinds.iter().enumerate() {
            if *kind == Kind::Java && self.servers[i].is_some() {
                let log = std::fs::read_to_string(self.place(i + 1).join("java.log")).unwrap();
                let told: Vec<_> = log.lines().filter(|line| line.contains("igest")).collect();
                let count = words::monitored(self.ports[i], "zk_digest_mismatches_count");
                assert_eq!(count, Some(0.0), "member {}:\n{}", i + 1, told.join("\n"));
            }
        }
    }

    pub fn ours_saw_no_other_tree(&self) {
        for id in 1..=3 {
            let log = std::fs::read_to_string(self.place(id).join("zoo.log")).unwrap_or_default();
            assert!(!log.contains("is not the leader's") && !log.contains("panicked"), "member {id}:\n{log}");
        }
    }
}

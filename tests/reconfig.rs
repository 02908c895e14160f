//! Ensembles of real processes whose membership changes: servers join, leave, lead no more, and come back from the files that were written.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::ports::free_port;
use support::{PATIENCE, RawClient, create, path_watch, temp_dir, wait_until};
use zoo::base::{SessionId, Writer as _};
use zoo::proto::OpCode;

const CONFIG: &str = "/zookeeper/config";
const POLL: Duration = Duration::from_millis(20);

/// Places for servers 1 to N, each with its configuration file.
struct Servers {
    dir: tempfile::TempDir,
    ports: Vec<[u16; 3]>,
    running: Vec<Option<Child>>,
    settings: &'static str,
}

impl Servers {
    fn prepare(count: usize, settings: &'static str) -> Self {
        let ports = (0..count).map(|_| [free_port(), free_port(), free_port()]).collect();
        Servers { dir: temp_dir(), ports, running: (0..count).map(|_| None).collect(), settings }
    }
    fn line(&self, id: usize) -> String {
        let [client, quorum, election] = self.ports[id - 1];
        format!("server.{id}=127.0.0.1:{quorum}:{election}:participant;127.0.0.1:{client}")
    }
    fn file(&self, id: usize) -> PathBuf {
        self.dir.path().join(id.to_string()).join("zoo.cfg")
    }
    /// A server that knows of these members, and has never run.
    fn write_file(&self, id: usize, members: &[usize]) {
        let place = self.dir.path().join(id.to_string());
        std::fs::create_dir_all(place.join("data")).expect("a directory");
        std::fs::write(place.join("data/myid"), id.to_string()).expect("written");
        let lines: Vec<String> = members.iter().map(|member| self.line(*member)).collect();
        let text = format!(
            "tickTime=200\ninitLimit=100\nsyncLimit=40\nmaxSessionTimeout=60000\ndataDir={}\n4lw.commands.whitelist=*\n{}{}\n",
            place.join("data").display(),
            self.settings,
            lines.join("\n")
        );
        std::fs::write(self.file(id), text).expect("written");
    }
    fn run(&mut self, id: usize) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.file(id).with_file_name("log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_zoo"))
            .arg("server")
            .arg(self.file(id))
            .arg("--zoo.shards=1")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.running[id - 1] = Some(child.expect("the zoo binary runs"));
    }
    fn start(count: usize, members: &[usize], settings: &'static str) -> Self {
        let mut servers = Self::prepare(count, settings);
        for id in members {
            servers.write_file(*id, members);
            servers.run(*id);
        }
        servers
    }
    fn kill(&mut self, id: usize) {
        let mut child = self.running[id - 1].take().expect("running");
        child.kill().expect("alive");
        child.wait().expect("ended");
    }
    fn logs(&self) -> String {
        let log = |id: usize| std::fs::read_to_string(self.file(id).with_file_name("log")).unwrap_or_default();
        (1..=self.ports.len()).map(|id| format!("--- {id}\n{}\n", log(id))).collect()
    }
    fn address(&self, id: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[id - 1][0]))
    }
    fn try_client(&self, id: usize) -> Option<RawClient> {
        RawClient::try_attach(self.address(id), SessionId::NONE, [0; 16], 30_000).ok().flatten()
    }
    /// A session at a server as soon as it serves.
    fn client(&self, id: usize) -> RawClient {
        self.until(&format!("server {id} serves"), || self.try_client(id))
    }
    fn until<T>(&self, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = found() {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: not in time\n{}", self.logs());
            std::thread::sleep(POLL);
        }
    }
    fn mode(&self, id: usize) -> Option<String> {
        let mut stream = TcpStream::connect(self.address(id)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(b"srvr").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
    }
    /// The one that leads, when all of these serve.
    fn leader(&self, ids: &[usize]) -> usize {
        self.until(&format!("one of {ids:?} leads"), || {
            let modes: Option<Vec<String>> = ids.iter().map(|id| self.mode(*id)).collect();
            let leads: Vec<usize> = ids.iter().zip(modes?).filter(|(_, mode)| mode == "leader").map(|(id, _)| *id).collect();
            if let [leader] = leads[..] { Some(leader) } else { None }
        })
    }
    /// Text and version of the configuration that a server shows, if it stays with us for so long.
    fn config(&self, id: usize) -> Option<(String, i64)> {
        let mut client = self.try_client(id)?;
        client.send(OpCode::GetData, &path_watch(CONFIG, false)).ok()?;
        let (data, stat) = client.reply().ok()?.data();
        assert_eq!(stat.version, -1);
        Some((String::from_utf8(data?).expect("UTF-8"), stat.mzxid))
    }
    /// Waits until a server shows a configuration of just these members.
    fn shows(&self, id: usize, members: &[usize]) -> i64 {
        let wanted: String = members.iter().map(|member| self.line(*member) + "\n").collect();
        self.until(&format!("server {id} shows {members:?}"), || {
            let (text, version) = self.config(id)?;
            assert!(text.ends_with(&format!("version={version:x}")), "{text} of {version:x}");
            text.starts_with(&wanted).then_some(version)
        })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Asks for another configuration: joining, leaving, all members, version.
fn reconfig(client: &mut RawClient, lists: [Option<&str>; 3], version: i64) -> support::Frame {
    try_reconfig(client, lists, version).expect("an answer")
}
/// The same, where the answer may be lost with a leader.
fn try_reconfig(client: &mut RawClient, lists: [Option<&str>; 3], version: i64) -> std::io::Result<support::Frame> {
    let mut body = Vec::new();
    for list in lists {
        match list {
            Some(list) => body.put_string(list),
            None => body.put_i32(-1),
        }
    }
    body.put_i64(version);
    client.send(OpCode::Reconfig, &body)?;
    client.reply()
}

/// Creates /w-0, /w-1, … wherever it is taken, until told to stop; nothing is sent before the one before it is known to be there.
struct Writes {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<()>,
}

impl Writes {
    fn begin(addresses: Vec<SocketAddr>) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (stop.clone(), acknowledged.clone());
        let thread = std::thread::spawn(move || {
            for address in addresses.iter().cycle() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(Some(mut client)) = RawClient::try_attach(*address, SessionId::NONE, [0; 16], 30_000) else {
                    std::thread::sleep(POLL);
                    continue;
                };
                while !stopped.load(Ordering::Relaxed) {
                    let path = format!("/w-{}", counted.load(Ordering::Relaxed));
                    match client.send(OpCode::Create, &create(&path, b"x", 0)).and_then(|_| client.reply()) {
                        // It is there when the answer to an earlier attempt was lost.
                        Ok(reply) if matches!(reply.err, 0 | -110) => counted.fetch_add(1, Ordering::Relaxed),
                        Ok(reply) => panic!("{reply:?}"),
                        Err(_) => break,
                    };
                }
            }
        });
        Writes { stop, acknowledged, thread }
    }
    fn go_on(&self, what: &str) {
        let before = self.acknowledged.load(Ordering::Relaxed);
        wait_until(what, || self.acknowledged.load(Ordering::Relaxed) >= before + 10);
    }
    fn are_at(self, servers: &Servers, ids: &[usize]) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer ends");
        let count = self.acknowledged.load(Ordering::Relaxed);
        for id in ids {
            let mut client = servers.client(*id);
            servers.until("the last write", || (client.get(&format!("/w-{}", count - 1), false).err == 0).then_some(()));
            for n in 0..count {
                let found = client.call(OpCode::Exists, &path_watch(&format!("/w-{n}"), false)).err;
                assert_eq!(found, 0, "server {id} has lost /w-{n} of {count}");
            }
        }
    }
}

/// Adds a server that has been started with its own line beside those of the others.
fn add(servers: &mut Servers, through: usize, members: &[usize], joining: usize) {
    servers.write_file(joining, &[members, &[joining]].concat());
    servers.run(joining);
    let line = servers.line(joining);
    servers.client(joining);
    let mut client = servers.client(through);
    servers.until("the new server is taken in", || match reconfig(&mut client, [Some(&line), None, None], -1) {
        reply if reply.err == 0 => Some(()),
        reply => {
            assert_eq!(reply.err, -13, "{reply:?}");
            None
        }
    });
}

/// P1: nothing acknowledged is lost while the ensemble grows to five, loses its leader and goes on without; then every member is started again
/// from its files.
#[test]
fn an_ensemble_grows_and_its_leader_leaves_under_writes() {
    let mut servers = Servers::start(5, &[1, 2, 3], "reconfigEnabled=true\nskipACL=yes\n");
    servers.leader(&[1, 2, 3]);
    (1..=3).for_each(|id| assert_eq!(servers.shows(id, &[1, 2, 3]), 1 << 32, "the first epoch gives the version"));
    let writes = Writes::begin((1..=5).map(|id| servers.address(id)).collect());
    writes.go_on("writes to three");
    let mut watcher = servers.client(2);
    assert_eq!(watcher.get(CONFIG, true).err, 0);
    add(&mut servers, 1, &[1, 2, 3], 4);
    assert_eq!(watcher.receive().expect("an event").event(), (3, CONFIG.to_owned()), "the watch fires");
    add(&mut servers, 2, &[1, 2, 3, 4], 5);
    (1..=5).for_each(|id| assert!(servers.shows(id, &[1, 2, 3, 4, 5]) > 1 << 32));
    writes.go_on("writes to five");
    let leader = servers.leader(&[1, 2, 3, 4, 5]);
    let rest: Vec<usize> = (1..=5).filter(|id| *id != leader).collect();
    if let Ok(reply) = try_reconfig(&mut servers.client(rest[0]), [None, Some(&leader.to_string()), None], -1) {
        assert_eq!(reply.err, 0);
    }
    rest.iter().for_each(|id| assert!(servers.shows(*id, &rest) > 1 << 32));
    assert_ne!(servers.leader(&rest), leader);
    writes.go_on("writes under the new leader");
    servers.kill(leader);
    writes.go_on("writes without the old one");
    for id in &rest {
        servers.kill(*id);
        servers.run(*id);
        servers.leader(&rest);
        servers.shows(*id, &rest);
        let file = std::fs::read_to_string(servers.file(*id)).expect("there");
        assert!(file.contains("dynamicConfigFile=") && !file.contains("server."), "{file}");
    }
    writes.go_on("writes after everybody was started again");
    writes.are_at(&servers, &rest);
}

/// The codes of ZooKeeper, in its order.
#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let servers = Servers::start(3, &[1, 2, 3], "reconfigEnabled=true\n");
    servers.leader(&[1, 2, 3]);
    let version = servers.shows(1, &[1, 2, 3]);
    let absent = "server.5=h:1:2;3,server.6=h:4:5;6,server.7=h:7:8;9,server.8=h:10:11;12";
    for id in 1..=3 {
        let mut client = servers.client(id);
        let mut err = |lists: [Option<&str>; 3], version| reconfig(&mut client, lists, version).err;
        assert_eq!(err([None, Some("3"), None], 7), -103);
        assert_eq!(err([Some("server.4=h:1:2"), None, None], version), -8);
        assert_eq!(err([None, Some("three"), None], version), -5);
        assert_eq!(err([None, Some("2,3"), None], version), -8, "one server alone would be a standalone one");
        assert_eq!(err([Some(absent), None, None], version), -13);
        assert_eq!(err([None, None, Some("nonsense=1")], version), -8);
        assert_eq!(err([None, Some("3"), None], version), -102, "only super may");
    }
    (1..=3).for_each(|id| assert_eq!(servers.shows(id, &[1, 2, 3]), version));
}

#[test]
fn an_ensemble_that_may_not_change_keeps_its_files_and_shows_version_0() {
    let servers = Servers::start(3, &[1, 2, 3], "skipACL=yes\n");
    servers.leader(&[1, 2, 3]);
    for id in 1..=3 {
        assert_eq!(servers.shows(id, &[1, 2, 3]), 0);
        assert_eq!(reconfig(&mut servers.client(id), [None, Some("3"), None], -1).err, -123);
        let names = std::fs::read_dir(servers.file(id).parent().expect("a directory")).expect("there");
        assert_eq!(names.count(), 3, "data, log and zoo.cfg");
    }
}

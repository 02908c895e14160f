//! A server process: ours or the reference one, on a free loopback port, with its directory, killed when dropped.

pub use super::ports::free_port;
use super::words;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Longest wait for a server to serve or to end; slow machines start a Java process in several seconds.
const START_MAX: Duration = Duration::from_secs(90);
const STOP_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The reference server.
    Java,
    /// Ours.
    Zoo,
}

/// What a server is started with: lines of its `zoo.cfg` and properties that Java only takes with `-D`.
#[derive(Clone, Default, Debug)]
pub struct Settings {
    pub config: Vec<(String, String)>,
    pub defines: Vec<(String, String)>,
}

impl Settings {
    pub fn new(config: &[(&str, &str)]) -> Self {
        Settings { config: owned(config), defines: Vec::new() }
    }
    #[must_use]
    pub fn define(mut self, name: &str, value: &str) -> Self {
        self.defines.push((name.into(), value.into()));
        self
    }
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

#[derive(Debug)]
pub struct Server {
    pub kind: Kind,
    pub port: u16,
    dir: PathBuf,
    child: Child,
}

impl Server {
    /// Starts a server on `dir` (its data goes to `dir/data`, its messages to `dir/<kind>.log`) and waits until it serves.
    pub fn start(kind: Kind, dir: &Path, settings: &Settings) -> Server {
        let port = free_port();
        Self::start_on(kind, dir, settings, port)
    }

    pub fn start_on(kind: Kind, dir: &Path, settings: &Settings, port: u16) -> Server {
        let mut server = Self::spawn(kind, dir, settings, port);
        server.wait_until_serving();
        server
    }

    /// Starts one that may have to wait for others before it serves.
    pub fn spawn(kind: Kind, dir: &Path, settings: &Settings, port: u16) -> Server {
        let data = dir.join("data");
        fs::create_dir_all(&data).unwrap();
        let mut config = format!("dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\n", data.display());
        for (key, value) in &settings.config {
            config += &format!("{key}={value}\n");
        }
        let file = dir.join("zoo.cfg");
        fs::write(&file, config).unwrap();
        let mut command = match kind {
            Kind::Java => java(settings, &file),
            Kind::Zoo => zoo(settings, &file),
        };
        let log = File::options().create(true).append(true).open(dir.join(format!("{kind:?}.log").to_lowercase())).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).current_dir(dir);
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {kind:?}: {e}"));
        Server { kind, port, dir: dir.to_owned(), child }
    }

    /// Waits until it takes clients.
    pub fn wait_until_serving(&mut self) {
        let deadline = Instant::now() + START_MAX;
        while !words::ask(self.port, "srvr").is_ok_and(|answer| answer.contains("Mode: ")) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{:?} ended while starting ({status}):\n{}", self.kind, self.log_tail());
            }
            assert!(Instant::now() < deadline, "{:?} does not serve after {START_MAX:?}:\n{}", self.kind, self.log_tail());
            std::thread::sleep(POLL);
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of what the server printed.
    pub fn log_tail(&self) -> String {
        let text = fs::read(self.dir.join(format!("{:?}.log", self.kind).to_lowercase())).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Asks the server to end (SIGTERM) and waits for it.
    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let deadline = Instant::now() + STOP_MAX;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "{:?} does not stop:\n{}", self.kind, self.log_tail());
            std::thread::sleep(POLL);
        }
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A program of ZooKeeper's client for Java, from its source.
pub fn java_program(source: &Path) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", oracle_class_path()]).arg(source);
    command
}

/// The class path of the reference server, from `tests/oracle.sh`, which fetches the jars when they are missing.
fn oracle_class_path() -> &'static str {
    static CLASS_PATH: OnceLock<String> = OnceLock::new();
    CLASS_PATH.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle.sh");
        let out = Command::new("bash").arg(script).arg("classpath").stderr(Stdio::inherit()).output().expect("bash");
        assert!(out.status.success(), "the reference server cannot be had");
        String::from_utf8(out.stdout).expect("text").trim().to_owned()
    })
}

fn java(settings: &Settings, file: &Path) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.admin.enableServer=false"]);
    for (name, value) in &settings.defines {
        command.arg(format!("-D{name}={value}"));
    }
    command.args(["-cp", oracle_class_path(), "org.apache.zookeeper.server.quorum.QuorumPeerMain"]).arg(file);
    command
}

fn zoo(settings: &Settings, file: &Path) -> Command {
    let binary = std::env::var("ZOO_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_zoo").to_owned());
    let mut command = Command::new(binary);
    command.arg("server").arg(file);
    for (name, value) in &settings.defines {
        command.arg(format!("-D{name}={value}"));
    }
    command
}

//! An ensemble of real server processes on loopback.
#![allow(dead_code)] // each test binary uses a part of it

use crate::support::ports::free_port;
use crate::support::{PATIENCE, RawClient, ServerProcess, temp_dir, wait_until};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use zoo::base::SessionId;

/// One member, running or not.
pub struct Place {
    pub id: usize,
    pub client_port: u16,
    pub quorum_port: u16,
    pub election_port: u16,
    pub process: Option<ServerProcess>,
}

/// Members 1 to N.
pub struct Cluster {
    dir: tempfile::TempDir,
    pub members: Vec<Place>,
    /// Members without a vote.
    pub observers: Vec<usize>,
    /// The quorum and election ports by which one member reaches another, where these are not the other's own.
    pub routes: BTreeMap<(usize, usize), (u16, u16)>,
    settings: Vec<String>,
    /// One at a time: many servers on few cores would be a test of the machine.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

/// Generous limits in time: a loaded machine is no reason for an election.
const TIMES: [&str; 4] = ["tickTime=200", "initLimit=100", "syncLimit=40", "maxSessionTimeout=60000"];

impl Cluster {
    /// Chooses ports and makes directories; nobody runs yet.
    pub fn prepare(count: usize, settings: &[&str]) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let place =
            |i: usize| Place { id: i + 1, client_port: free_port(), quorum_port: free_port(), election_port: free_port(), process: None };
        let cluster = Cluster {
            dir: temp_dir(),
            members: (0..count).map(place).collect(),
            observers: Vec::new(),
            routes: BTreeMap::new(),
            settings: TIMES.iter().chain(settings).map(|s| (*s).to_owned()).collect(),
            _turn: turn,
        };
        for member in &cluster.members {
            let data = cluster.data_dir(member.id);
            std::fs::create_dir(&data).expect("a directory");
            std::fs::write(data.join("myid"), member.id.to_string()).expect("written");
        }
        cluster
    }

    /// All of them, running.
    pub fn start(count: usize, settings: &[&str]) -> Self {
        let mut cluster = Self::prepare(count, settings);
        (1..=count).for_each(|id| cluster.run(id));
        cluster
    }

    /// Where a member keeps everything.
    pub fn data_dir(&self, id: usize) -> PathBuf {
        self.dir.path().join(id.to_string())
    }

    /// The line of every member, as member `of` is to see it.
    fn server_lines(&self, of: usize) -> Vec<String> {
        let kind = |id| if self.observers.contains(&id) { "observer" } else { "participant" };
        let line = |m: &Place| {
            let (quorum_port, election_port) = self.routes.get(&(of, m.id)).copied().unwrap_or((m.quorum_port, m.election_port));
            format!("server.{}=127.0.0.1:{quorum_port}:{election_port}:{}", m.id, kind(m.id))
        };
        self.members.iter().map(line).collect()
    }

    /// Starts a member.
    pub fn run(&mut self, id: usize) {
        if let Err((status, log)) = self.try_run(id) {
            panic!("member {id} did not start ({status}):\n{log}");
        }
    }

    /// The same; `Err` has its exit status and what it printed.
    pub fn try_run(&mut self, id: usize) -> Result<(), (ExitStatus, String)> {
        let settings: Vec<String> = self.server_lines(id).into_iter().chain(self.settings.iter().cloned()).collect();
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let (dir, port) = (self.data_dir(id), self.members[id - 1].client_port);
        self.members[id - 1].process = Some(ServerProcess::try_start(&dir, port, 1, &settings)?);
        Ok(())
    }

    /// kill -9.
    pub fn kill(&mut self, id: usize) {
        self.members[id - 1].process.take().expect("running").kill();
    }

    pub fn is_running(&self, id: usize) -> bool {
        self.members[id - 1].process.is_some()
    }

    /// The process of a member.
    pub fn process(&self, id: usize) -> &ServerProcess {
        self.members[id - 1].process.as_ref().expect("running")
    }

    /// What a member has printed.
    pub fn log(&self, id: usize) -> String {
        self.members[id - 1].process.as_ref().map_or_else(String::new, ServerProcess::log)
    }

    /// What all have printed.
    pub fn logs(&self) -> String {
        self.members.iter().map(|m| format!("--- member {}\n{}\n", m.id, self.log(m.id))).collect()
    }

    pub fn address(&self, id: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.members[id - 1].client_port))
    }

    /// The answer to a word; empty when there is none.
    pub fn word(&self, id: usize, word: &str) -> String {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(self.address(id))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(word.as_bytes())?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        ask().unwrap_or_default()
    }

    /// leader, follower or observer, while it serves.
    pub fn mode(&self, id: usize) -> Option<String> {
        self.word(id, "srvr").lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
    }

    /// Waits until each of these serves, one of them as the leader; its id.
    pub fn settled(&self, ids: &[usize]) -> usize {
        let began = Instant::now();
        loop {
            let modes: Vec<_> = ids.iter().map(|id| self.mode(*id)).collect();
            let leaders: Vec<usize> = ids.iter().zip(&modes).filter(|(_, m)| m.as_deref() == Some("leader")).map(|(id, _)| *id).collect();
            if let ([leader], true) = (&leaders[..], modes.iter().all(Option::is_some)) {
                return *leader;
            }
            assert!(began.elapsed() < PATIENCE, "{ids:?} do not settle: {modes:?}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A new session at a member, which may not serve yet.
    pub fn client(&self, id: usize) -> RawClient {
        let began = Instant::now();
        loop {
            if let Ok(Some(client)) = RawClient::try_attach(self.address(id), SessionId::NONE, [0; 16], 30_000) {
                return client;
            }
            assert!(began.elapsed() < PATIENCE, "member {id} takes no clients:\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a member shows this node.
    pub fn shows(&self, id: usize, path: &str) {
        let mut client = self.client(id);
        wait_until(&format!("member {id} shows {path}"), || client.get(path, false).err == 0);
    }
}

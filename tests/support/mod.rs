//! Real servers and a raw client for tests of whole processes. The client knows frames and nothing else: no retries, no pings.
#![allow(dead_code)] // each test binary uses a part of it

pub mod ports;

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use zoo::base::{Reader, SessionId, Stat, Writer, Xid};
use zoo::proto::OpCode;
use zoo::proto::connect::{ConnectRequest, ConnectResponse, Password};
use zoo::proto::response::ReplyHeader;

/// Longest wait for anything that must happen; a test that needs so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Says that a test has not tested anything, also where the output of tests that pass is not shown.
pub fn skipped(test: &str, why: &str) {
    // On a line of its own, whatever the test runner has begun to print.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED {test}: {why}");
}

/// A directory that goes away with the test.
pub fn temp_dir() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("zoo-test-").tempdir().expect("a temporary directory")
}

/// A `zoo server` in a process of its own, on a port the kernel chose.
pub struct ServerProcess {
    child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl ServerProcess {
    /// Starts one and returns when it says that it is ready. `settings` are `key=value`.
    pub fn start(dir: &Path, shards: usize, settings: &[&str]) -> Self {
        match Self::try_start(dir, 0, shards, settings) {
            Ok(server) => server,
            Err((status, log)) => panic!("the server did not start ({status}):\n{log}"),
        }
    }

    /// Starts one on `port`; `Err` has its exit status and what it printed. `ZOO_TEST_SHARDS` replaces the number of shards in every test.
    pub fn try_start(dir: &Path, port: u16, shards: usize, settings: &[&str]) -> Result<Self, (ExitStatus, String)> {
        let shards = std::env::var("ZOO_TEST_SHARDS").map_or(shards, |n| n.parse().expect("ZOO_TEST_SHARDS is a number"));
        Self::try_start_by(Command::new(Self::binary()), dir, port, shards, settings)
    }

    /// The program under test.
    pub fn binary() -> String {
        std::env::var("ZOO_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_zoo").to_owned())
    }

    /// The same by a command that runs the program with the arguments it is given.
    pub fn try_start_by(
        mut command: Command,
        dir: &Path,
        port: u16,
        shards: usize,
        settings: &[&str],
    ) -> Result<Self, (ExitStatus, String)> {
        let mut child = command
            .arg("server")
            .arg(format!("--dataDir={}", dir.display()))
            .arg(format!("--clientPort={port}"))
            .arg("--clientPortAddress=127.0.0.1")
            .arg(format!("--zoo.shards={shards}"))
            .args(settings.iter().map(|s| format!("--{s}")))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the zoo binary runs");
        let log = Arc::new(Mutex::new(String::new()));
        let (ready, is_ready) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let copy = log.clone();
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(address) = ready_address(&line) {
                    let _ = ready.send(address);
                }
                let mut log = copy.lock().expect("not poisoned");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let started = Instant::now();
        loop {
            match is_ready.recv_timeout(Duration::from_millis(20)) {
                Ok(address) => return Ok(ServerProcess { child, address, log }),
                Err(_) if started.elapsed() > PATIENCE => {
                    log.lock().expect("not poisoned").push_str(&waits(child.id()));
                    let _ = child.kill();
                }
                Err(_) => {}
            }
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                reader.join().expect("the log is read to its end");
                let text = log.lock().expect("not poisoned").clone();
                return Err((status, text));
            }
        }
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        self.log.lock().expect("not poisoned").clone()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("alive");
    }

    /// Waits until it has ended by itself; its status and what it printed.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                std::thread::sleep(Duration::from_millis(20)); // the reader thread sees the end of the pipe
                return (status, self.log());
            }
            assert!(started.elapsed() < PATIENCE, "the server does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Memory in use now, in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("alive");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process with memory");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("alive").count()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("alive");
        self.child.wait().expect("waited for");
    }

    /// Sends a signal and waits for the end.
    pub fn stop_with(mut self, signal: Signal) -> (ExitStatus, String) {
        kill_process(Pid::from_child(&self.child), signal).expect("alive");
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return (status, self.log());
            }
            assert!(started.elapsed() < PATIENCE, "the server does not stop:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// CPU time used so far.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("alive");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("has a name").split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number");
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process's threads wait for, one line each.
fn waits(process: u32) -> String {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{process}/task")) else { return String::new() };
    let read = |dir: &Path, file: &str| std::fs::read_to_string(dir.join(file)).unwrap_or_default().trim().to_owned();
    let line = |dir: PathBuf| format!("{} waits in {}, system call {}\n", read(&dir, "comm"), read(&dir, "wchan"), read(&dir, "syscall"));
    tasks.filter_map(Result::ok).map(|task| line(task.path())).collect()
}

/// The address in the line that says that the server is ready.
fn ready_address(line: &str) -> Option<SocketAddr> {
    line.split("listening on ").nth(1)?.split([' ', ',']).next()?.parse().ok()
}

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub xid: i32,
    pub zxid: i64,
    pub err: i32,
    pub body: Vec<u8>,
}

impl Frame {
    pub fn is_event(&self) -> bool {
        self.xid == Xid::NOTIFICATION.0
    }
    /// Kind and path of an event.
    pub fn event(&self) -> (i32, String) {
        let mut r = Reader::new(&self.body);
        let kind = r.i32().expect("kind");
        let _state = r.i32().expect("state");
        (kind, r.string().expect("path").to_owned())
    }
    /// Body of getData.
    pub fn data(&self) -> (Option<Vec<u8>>, Stat) {
        assert_eq!(self.err, 0, "{self:?}");
        let mut r = Reader::new(&self.body);
        let data = r.buffer().expect("data").map(<[u8]>::to_vec);
        (data, Stat::read(&mut r).expect("stat"))
    }
    /// Body of create.
    pub fn path(&self) -> String {
        assert_eq!(self.err, 0, "{self:?}");
        Reader::new(&self.body).string().expect("path").to_owned()
    }
}

/// One connection with a session.
pub struct RawClient {
    stream: TcpStream,
    input: BufReader<TcpStream>,
    pub session: SessionId,
    pub password: Password,
    pub timeout_ms: i32,
    next_xid: i32,
    /// Events that arrived while a reply was waited for.
    pub events: Vec<Frame>,
}

impl RawClient {
    /// A new session.
    pub fn connect(address: SocketAddr) -> Self {
        Self::attach(address, SessionId::NONE, [0; 16], 30_000).expect("a new session")
    }

    /// Connects with a session; `None` when it is refused.
    pub fn attach(address: SocketAddr, session: SessionId, password: Password, timeout_ms: i32) -> Option<Self> {
        Self::try_attach(address, session, password, timeout_ms).expect("an answer to the connect request")
    }

    /// Connects with a session; an error when the server goes away meanwhile.
    pub fn try_attach(address: SocketAddr, session: SessionId, password: Password, timeout_ms: i32) -> std::io::Result<Option<Self>> {
        Self::knock(address, session, password, timeout_ms).and_then(Self::enter)
    }

    /// Sends a connect request and does not wait for the answer. The kernel lets a client in even while the server stands still.
    pub fn knock(address: SocketAddr, session: SessionId, password: Password, timeout_ms: i32) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&ConnectRequest::again(session, &password, timeout_ms).frame())?;
        Ok(stream)
    }

    /// The answer to a connect request; `None` when it is refused.
    pub fn enter(stream: TcpStream) -> std::io::Result<Option<Self>> {
        let mut input = BufReader::new(stream.try_clone()?);
        let response = ConnectResponse::decode(&read_frame(&mut input)?).expect("well formed");
        if response.timeout_ms == 0 {
            return Ok(None);
        }
        let (session, password, timeout_ms) = (response.session, response.password, response.timeout_ms);
        Ok(Some(RawClient { stream, input, session, password, timeout_ms, next_xid: 1, events: Vec::new() }))
    }

    /// Sends a request and returns its number.
    pub fn send(&mut self, op: OpCode, body: &[u8]) -> std::io::Result<i32> {
        let xid = self.next_xid;
        self.next_xid += 1;
        let mut out = Vec::with_capacity(body.len() + 12);
        write_request(&mut out, xid, op, body);
        self.stream.write_all(&out)?;
        Ok(xid)
    }

    /// Sends many requests with one write; returns the number of the first.
    pub fn send_all(&mut self, requests: &[(OpCode, Vec<u8>)]) -> std::io::Result<i32> {
        let first = self.next_xid;
        let mut out = Vec::new();
        for (op, body) in requests {
            write_request(&mut out, self.next_xid, *op, body);
            self.next_xid += 1;
        }
        self.stream.write_all(&out)?;
        Ok(first)
    }

    /// The next frame, an event or a reply.
    pub fn receive(&mut self) -> std::io::Result<Frame> {
        let payload = read_frame(&mut self.input)?;
        let mut r = Reader::new(&payload);
        let header = ReplyHeader::read(&mut r).map_err(std::io::Error::other)?;
        Ok(Frame { xid: header.xid.0, zxid: header.zxid, err: header.err, body: r.remaining().to_vec() })
    }

    /// The next reply; events before it go to `events`.
    pub fn reply(&mut self) -> std::io::Result<Frame> {
        loop {
            let frame = self.receive()?;
            if !frame.is_event() {
                return Ok(frame);
            }
            self.events.push(frame);
        }
    }

    /// Sends a request and waits for its reply.
    pub fn call(&mut self, op: OpCode, body: &[u8]) -> Frame {
        let xid = self.send(op, body).expect("sent");
        let reply = self.reply().expect("answered");
        assert_eq!(reply.xid, xid, "replies come in the order of requests");
        reply
    }

    pub fn create(&mut self, path: &str, data: &[u8], flags: i32) -> Frame {
        self.call(OpCode::Create, &create(path, data, flags))
    }
    pub fn get(&mut self, path: &str, watch: bool) -> Frame {
        self.call(OpCode::GetData, &path_watch(path, watch))
    }
    pub fn set(&mut self, path: &str, data: &[u8], version: i32) -> Frame {
        self.call(OpCode::SetData, &set_data(path, data, version))
    }
    pub fn close(mut self) {
        let reply = self.call(OpCode::CloseSession, &[]);
        assert_eq!(reply.err, 0);
    }
    /// The same connection for another thread, which reads while this one sends.
    pub fn receiver(&self) -> Self {
        assert!(self.input.buffer().is_empty(), "nothing has been received for this one");
        let stream = self.stream.try_clone().expect("a socket");
        let input = BufReader::new(stream.try_clone().expect("a socket"));
        let (session, password, timeout_ms, next_xid) = (self.session, self.password, self.timeout_ms, self.next_xid);
        RawClient { stream, input, session, password, timeout_ms, next_xid, events: Vec::new() }
    }
    /// Both directions of the socket, for tests that misbehave.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
    /// True when the server has closed the connection; waits for it.
    pub fn is_closed(&mut self) -> bool {
        match self.receive() {
            Ok(_) => false,
            Err(e) => !matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
        }
    }
}

/// Polls until `done`, and fails with `what` when that takes too long.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Open connections of a server, the one that asks not counted.
pub fn connections(address: SocketAddr) -> usize {
    let srvr = word(address, "srvr");
    let count = srvr.lines().find_map(|line| line.strip_prefix("Connections: ")).expect("srvr tells");
    count.parse::<usize>().expect("a number") - 1
}

/// A four-letter word and its answer.
pub fn word(address: SocketAddr, word: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(word.as_bytes()).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answered and closed");
    text
}

fn write_request(out: &mut Vec<u8>, xid: i32, op: OpCode, body: &[u8]) {
    out.put_len(8 + body.len());
    out.put_i32(xid);
    out.put_i32(op as i32);
    out.put_raw(body);
}

fn read_frame(input: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let mut payload = vec![0; u32::from_be_bytes(length) as usize];
    input.read_exact(&mut payload)?;
    Ok(payload)
}

/// Body of create with an open ACL.
pub fn create(path: &str, data: &[u8], flags: i32) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_string(path);
    body.put_buffer(Some(data));
    body.put_len(1);
    body.put_i32(31);
    body.put_string("world");
    body.put_string("anyone");
    body.put_i32(flags);
    body
}

/// Body of getData, exists and getChildren.
pub fn path_watch(path: &str, watch: bool) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_string(path);
    body.put_bool(watch);
    body
}

/// Body of setData.
pub fn set_data(path: &str, data: &[u8], version: i32) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_string(path);
    body.put_buffer(Some(data));
    body.put_i32(version);
    body
}

/// The files with this prefix in a data directory's `version-2`.
pub fn files(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir.join("version-2"))
        .map(|entries| entries.filter_map(Result::ok).map(|e| e.path()).collect())
        .unwrap_or_default();
    found.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)));
    found.sort();
    found
}

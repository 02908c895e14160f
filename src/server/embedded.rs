//! `ZooServer`: a server inside a program, by default on a free port and in a directory that goes away with it.
//!
//! Nothing it has is global: any number of them live in one process, each with threads, ports and a directory of its own. Two things belong to
//! the process and not to a server: its end, when a server cannot keep its promises (`on_fatal` hears of it first), and its signals, which only
//! the command line handles.

use super::bootstrap::{Ports, Running, StartError, seed};
use super::config::ServerConfig;
use super::shutdown::Stopper;
use crate::conn::auth::digest_id;
use crate::reactor::accept;
use crate::reactor::peer_io::Cuts;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Ports for servers that nobody gave one: below those that kernels give to clients, so that a server which is started again finds its own free.
const PORTS: std::ops::Range<u16> = 10_240..20_000;
/// So many of them are tried before the kernel chooses one.
const PORT_TRIES: u16 = 64;
/// What may be appended and not flushed: little, so that a segment of the log is made in no time.
const UNSYNCED_BYTES: usize = 1 << 20;
/// What differs from a server for development that is started without a file.
const DEFAULTS: [(&str, &str); 5] =
    [("clientPort", "0"), ("maxClientCnxns", "0"), ("zoo.shards", "1"), ("zoo.pin", "no"), ("preAllocSize", "1024")];

/// A server inside this program. Dropping it stops it.
///
/// ```
/// use zoo::client::ZooClient;
/// use zoo::server::ZooServer;
///
/// let server = ZooServer::start()?;
/// let client = ZooClient::connect(server.host())?;
/// client.send("create", "/test", "")?;
/// client.send("set", "/test", "hello")?;
/// assert_eq!(client.get("/test")?.0, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ZooServer {
    /// `None` after it was stopped or killed. Before the directory: it is stopped before that is removed.
    running: Option<Running>,
    config: ServerConfig,
    host: String,
    /// Which other members it cannot reach.
    cuts: Option<Arc<Cuts>>,
    /// Removed with it.
    _home: Option<TempDir>,
}

impl ZooServer {
    /// Starts one on a free port of 127.0.0.1 and in a temporary directory, which is removed when it is dropped.
    pub fn start() -> Result<Self, StartError> {
        Self::builder().start()
    }

    /// The same with settings.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Starts one as configured; port 0 is a free one (`address` tells).
    pub fn start_with(config: ServerConfig) -> Result<Self, StartError> {
        Self::start_in(config, None)
    }

    fn start_in(mut config: ServerConfig, home: Option<TempDir>) -> Result<Self, StartError> {
        let ports = if config.net.listen.port() == 0 {
            let client = free_port(config.net.listen.ip(), config.net.backlog);
            let client = client.map_err(|error| StartError::Listen { address: config.net.listen, error })?;
            Ports::with_client(client, &config)?
        } else {
            Ports::bind(&config)?
        };
        let running = Running::start(&config, ports)?;
        config.net.listen = running.address();
        Ok(ZooServer { running: Some(running), host: connect_string(config.net.listen), config, cuts: None, _home: home })
    }

    /// A member of an ensemble, on ports that are bound.
    pub(super) fn start_member(config: ServerConfig, ports: Ports) -> Result<Self, StartError> {
        let cuts = ports.cuts.clone();
        let running = Running::start(&config, ports)?;
        Ok(ZooServer { running: Some(running), host: connect_string(config.net.listen), config, cuts, _home: None })
    }

    /// What a client connects with: `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where it listens. The same after `restart`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.config.net.listen
    }

    /// Where it keeps its data.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.config.storage.data_dir
    }

    /// False after `stop` and `kill`.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Something that can begin to stop it from any thread; nothing when it does not run.
    #[must_use]
    pub fn stopper(&self) -> Option<Stopper> {
        self.running.as_ref().map(Running::stopper)
    }

    /// Waits until a `stopper` has stopped it.
    pub fn wait(&mut self) -> Result<(), StartError> {
        self.running.take().map_or(Ok(()), Running::wait)
    }

    /// Stops it cleanly: what was accepted is flushed and answered, then everything is closed. Its threads are gone and its directory is free
    /// afterwards. Nothing happens when it does not run.
    pub fn stop(&mut self) -> Result<(), StartError> {
        self.running.take().map_or(Ok(()), Running::stop)
    }

    /// Ends it as `kill -9` ends a process: sockets are closed, nothing is flushed or put in order, and the directory stays as it is. What a client
    /// was told of is there all the same when it is started again.
    ///
    /// ```
    /// use zoo::client::{CreateMode, ZooClient};
    /// use zoo::server::ZooServer;
    ///
    /// let mut server = ZooServer::start()?;
    /// let client = ZooClient::connect(server.host())?;
    /// client.create("/promised", b"", CreateMode::Persistent)?;
    /// server.kill()?;
    /// server.restart()?;
    /// assert!(client.exists("/promised")?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn kill(&mut self) -> Result<(), StartError> {
        self.running.take().map_or(Ok(()), Running::kill)
    }

    /// Starts it again on the same port and data; stops it before, if it runs.
    pub fn restart(&mut self) -> Result<(), StartError> {
        self.stop()?;
        let ports = Ports { cuts: self.cuts.clone(), ..Ports::bind(&self.config)? };
        self.running = Some(Running::start(&self.config, ports)?);
        Ok(())
    }
}

impl std::fmt::Debug for ZooServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (host, data_dir, running) = (&self.host, self.data_dir(), self.is_running());
        f.debug_struct("ZooServer").field("host", host).field("data_dir", &data_dir).field("running", &running).finish()
    }
}

/// Settings of a `ZooServer`: by default a free port of 127.0.0.1, a temporary directory, one shard, as many connections as there are, everything
/// else as for `zoo` without a file.
///
/// ```
/// use std::time::Duration;
/// use zoo::client::{CreateMode, ZooClient};
/// use zoo::server::ZooServer;
///
/// let server = ZooServer::builder().tick(Duration::from_millis(500)).set("extendedTypesEnabled", true).start()?;
/// let client = ZooClient::connect(server.host())?;
/// client.create("/short-lived", b"", CreateMode::PersistentTtl(1_000))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing happens before start"]
#[derive(Clone, Default)]
pub struct ServerBuilder {
    /// In order; the last one of a key counts.
    settings: Vec<(String, String)>,
    data_dir: Option<PathBuf>,
}

impl ServerBuilder {
    /// Any key of `zoo.cfg`, with or without `zookeeper.` in front. The last value of a key counts; what is wrong is told by `start`.
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.push((key.to_owned(), value.to_string()));
        self
    }

    /// Keeps its data here (`dataDir`), and leaves it there.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// Listens on this port (`clientPort`); 0 is a free one.
    pub fn port(self, port: u16) -> Self {
        self.set("clientPort", port)
    }

    /// Listens on this address (`clientPortAddress`).
    pub fn address(self, address: IpAddr) -> Self {
        self.set("clientPortAddress", address)
    }

    /// Serves connections with so many threads (`zoo.shards`).
    pub fn shards(self, shards: u16) -> Self {
        self.set("zoo.shards", shards)
    }

    /// Measures time in these (`tickTime`); sessions last between 2 and 20 of them unless `session_timeouts` says otherwise.
    pub fn tick(self, tick: Duration) -> Self {
        self.set("tickTime", tick.as_millis())
    }

    /// Shortest and longest session timeout (`minSessionTimeout`, `maxSessionTimeout`).
    pub fn session_timeouts(self, min: Duration, max: Duration) -> Self {
        self.set("minSessionTimeout", min.as_millis()).set("maxSessionTimeout", max.as_millis())
    }

    /// Acknowledges only what is on stable storage (`forceSync`); otherwise it outlives the server, but not the machine.
    pub fn force_sync(self, yes: bool) -> Self {
        self.set("forceSync", if yes { "yes" } else { "no" })
    }

    /// Who authenticates with scheme `digest` as `super` with this password may do everything (`DigestAuthenticationProvider.superDigest`).
    pub fn super_password(self, password: &str) -> Self {
        self.set("DigestAuthenticationProvider.superDigest", digest_id(&format!("super:{password}")))
    }

    /// All that `other` sets, too.
    pub(super) fn append(mut self, other: &Self) -> Self {
        self.settings.extend_from_slice(&other.settings);
        self.data_dir = other.data_dir.clone().or(self.data_dir);
        self
    }

    /// Starts it.
    pub fn start(self) -> Result<ZooServer, StartError> {
        let home = match &self.data_dir {
            None if !self.has("dataDir") => Some(temporary_directory()?),
            _ => None,
        };
        let config = self.config(home.as_ref().map(TempDir::path))?;
        ZooServer::start_in(config, home)
    }

    fn has(&self, key: &str) -> bool {
        self.settings.iter().any(|(set, _)| set.strip_prefix("zookeeper.").unwrap_or(set) == key)
    }

    /// The configuration of a server whose data is in `home` unless something else was set.
    pub(super) fn config(&self, home: Option<&Path>) -> Result<ServerConfig, StartError> {
        let data_dir = self.data_dir.as_deref().or(home).map(|dir| ("dataDir", dir.display().to_string()));
        let defaults = DEFAULTS.iter().map(|(key, value)| (*key, (*value).to_owned())).chain(data_dir);
        let chosen = self.settings.iter().map(|(key, value)| (key.as_str(), value.clone()));
        let args: Vec<String> = defaults.chain(chosen).map(|(key, value)| format!("--{key}={value}")).collect();
        let (mut config, warnings) = ServerConfig::load(&args, &|_| None)?;
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        config.storage.unsynced_bytes_max = UNSYNCED_BYTES;
        Ok(config)
    }
}

impl std::fmt::Debug for ServerBuilder {
    /// Keys alone: some values are secrets (rule S9).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<_> = self.settings.iter().map(|(key, _)| key).collect();
        f.debug_struct("ServerBuilder").field("settings", &keys).field("data_dir", &self.data_dir).finish()
    }
}

/// A directory that goes away with its server.
pub(super) fn temporary_directory() -> Result<TempDir, StartError> {
    let made = tempfile::Builder::new().prefix("zoo-").tempdir();
    made.map_err(|error| StartError::System { what: "cannot make a temporary directory", error })
}

/// Binds a port that nobody has.
pub(super) fn free_port(ip: IpAddr, backlog: Option<u32>) -> io::Result<TcpListener> {
    let first = (seed() % u64::from(PORTS.end - PORTS.start)) as u16;
    for n in 0..PORT_TRIES {
        let port = PORTS.start + (first + n) % (PORTS.end - PORTS.start);
        if let Ok(listener) = accept::listen_now(SocketAddr::new(ip, port), backlog) {
            return Ok(listener);
        }
    }
    accept::listen_now(SocketAddr::new(ip, 0), backlog)
}

/// How a client of this machine reaches it.
fn connect_string(address: SocketAddr) -> String {
    let ip = if address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
    SocketAddr::new(ip, address.port()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(builder: &ServerBuilder) -> ServerConfig {
        builder.config(Some(Path::new("/somewhere"))).expect("a configuration")
    }

    #[test]
    fn what_was_set_counts_before_the_defaults_and_what_was_set_last_before_all() {
        let plain = config(&ServerBuilder::default());
        assert_eq!((plain.net.listen.to_string().as_str(), plain.cores.shards), ("127.0.0.1:0", Some(1)));
        assert_eq!((plain.storage.data_dir.as_path(), plain.net.max_client_cnxns), (Path::new("/somewhere"), None));
        let builder = ServerBuilder::default().port(7).shards(3).set("zookeeper.clientPort", 8).set("tickTime", "500").data_dir("/else");
        let set = config(&builder);
        assert_eq!((set.net.listen.port(), set.cores.shards, set.sessions.tick_ms), (8, Some(3), 500));
        assert_eq!((set.storage.data_dir.as_path(), set.sessions.max_timeout_ms), (Path::new("/else"), 10_000));
    }

    #[test]
    fn a_bad_value_is_an_error_and_secrets_stay_out_of_messages() {
        let error = ZooServer::builder().set("tickTime", "soon").start().expect_err("not a number");
        assert!(matches!(&error, StartError::Config(_)) && error.to_string().contains("tickTime"), "{error}");
        let builder = ServerBuilder::default().super_password("hush");
        assert!(!format!("{builder:?}").contains(&digest_id("super:hush")));
        assert_eq!(config(&builder).auth.super_digest, Some(digest_id("super:hush")));
    }

    #[test]
    fn a_connect_string_is_one_that_this_machine_can_use() {
        assert_eq!(connect_string("[::]:5".parse().expect("an address")), "127.0.0.1:5");
        assert_eq!(connect_string("[::1]:5".parse().expect("an address")), "[::1]:5");
    }
}

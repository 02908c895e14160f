//! `ZooEnsemble`: all members of an ensemble inside a program, each a `ZooServer` with ports and a directory of its own, and the network between
//! them, which can be cut.

use super::bootstrap::{Ports, StartError};
use super::embedded::{ServerBuilder, ZooServer, free_port, temporary_directory};
use super::member;
use crate::base::PeerId;
use crate::reactor::peer_io::Cuts;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// What differs from an embedded server that stands alone.
const DEFAULTS: [(&str, &str); 5] =
    [("tickTime", "1000"), ("initLimit", "10"), ("syncLimit", "5"), ("standaloneEnabled", "false"), ("zoo.electionWait", "50")];
/// How long members may take until they serve; a fraction of a second is usual.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often members are asked what they are.
const POLL: Duration = Duration::from_millis(5);
/// How long a member may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// What a member is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Mode {
    /// It leads.
    Leader,
    /// It follows a leader.
    Follower,
    /// It has no leader and serves reads alone (`readonlymode.enabled`).
    ReadOnly,
    /// It has no leader, and refuses clients.
    NotServing,
    /// It does not run.
    Down,
}

/// An ensemble inside this program: members 1 to N on free ports of 127.0.0.1. Dropping it stops all of them.
///
/// ```
/// use zoo::client::{CreateMode, ZooClient};
/// use zoo::server::{Mode, ZooEnsemble};
///
/// let ensemble = ZooEnsemble::start(3)?;
/// let client = ZooClient::connect(&ensemble.host())?;
/// client.create("/test", b"hello", CreateMode::Persistent)?;
///
/// let cut_off = ensemble.leader()?;
/// ensemble.isolate(cut_off);
/// ensemble.until(cut_off, Mode::NotServing)?;
/// let client = ZooClient::connect(ensemble.member(ensemble.leader()?).host())?;
/// client.set("/test", b"the others go on")?;
/// ensemble.heal();
/// ensemble.until(cut_off, Mode::Follower)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ZooEnsemble {
    /// Before the directory: they are stopped before it is removed.
    members: Vec<ZooServer>,
    cuts: Arc<Cuts>,
    /// Removed with it.
    _home: Option<TempDir>,
}

impl ZooEnsemble {
    /// Starts so many members, in a temporary directory that is removed with the ensemble, and returns when all of them serve.
    pub fn start(members: usize) -> Result<Self, StartError> {
        Self::builder(members).start()
    }

    /// The same with settings.
    pub fn builder(members: usize) -> EnsembleBuilder {
        EnsembleBuilder { members, server: ServerBuilder::default(), dir: None }
    }

    /// What a client connects with to reach any of them: `127.0.0.1:PORT,127.0.0.1:PORT,…`.
    #[must_use]
    pub fn host(&self) -> String {
        self.members.iter().map(ZooServer::host).collect::<Vec<_>>().join(",")
    }

    /// How many there are, running or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The numbers of all members.
    pub fn ids(&self) -> impl Iterator<Item = usize> + use<> {
        1..=self.members.len()
    }

    /// Member `id`, from 1 on. To stop, kill and restart it: `member_mut`.
    ///
    /// # Panics
    /// When there is none of that number.
    #[must_use]
    pub fn member(&self, id: usize) -> &ZooServer {
        assert!((1..=self.members.len()).contains(&id), "members are numbered from 1 to {}", self.members.len());
        &self.members[id - 1]
    }

    /// The same, to be stopped, killed and restarted.
    ///
    /// # Panics
    /// When there is none of that number.
    #[must_use]
    pub fn member_mut(&mut self, id: usize) -> &mut ZooServer {
        assert!((1..=self.members.len()).contains(&id), "members are numbered from 1 to {}", self.members.len());
        &mut self.members[id - 1]
    }

    /// What a member says it is, now.
    #[must_use]
    pub fn mode(&self, id: usize) -> Mode {
        let member = self.member(id);
        if member.is_running() { ask(member.address()).map_or(Mode::NotServing, |said| mode_in(&said)) } else { Mode::Down }
    }

    /// The member that leads; waits until there is one, and only one that says so.
    pub fn leader(&self) -> Result<usize, StartError> {
        self.wait_for("the ensemble has no leader", || {
            let mut leaders = self.ids().filter(|id| self.mode(*id) == Mode::Leader);
            leaders.next().filter(|_| leaders.next().is_none())
        })
    }

    /// Waits until a member is what it should be.
    pub fn until(&self, id: usize, mode: Mode) -> Result<(), StartError> {
        self.wait_for("a member does not become what it should be", || (self.mode(id) == mode).then_some(()))
    }

    /// Waits until every member that runs serves clients.
    pub fn until_all_serve(&self) -> Result<(), StartError> {
        let serves = |id| matches!(self.mode(id), Mode::Leader | Mode::Follower | Mode::Down);
        self.wait_for("a member does not serve", || self.ids().all(serves).then_some(()))
    }

    fn wait_for<T>(&self, what: &'static str, found: impl Fn() -> Option<T>) -> Result<T, StartError> {
        let began = Instant::now();
        loop {
            if let Some(found) = found() {
                return Ok(found);
            }
            if began.elapsed() >= PATIENCE {
                let modes: Vec<_> = self.ids().map(|id| self.mode(id)).collect();
                let error = io::Error::new(io::ErrorKind::TimedOut, format!("not within {} s: {modes:?}", PATIENCE.as_secs()));
                return Err(StartError::System { what, error });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Cuts a member off from all others: what connects them is closed, and they find no way to each other until `heal`. Clients reach it.
    pub fn isolate(&self, id: usize) {
        self.ids().filter(|other| *other != id).for_each(|other| self.cut(id, other));
    }

    /// Cuts two members off from each other.
    pub fn cut(&self, one: usize, other: usize) {
        self.cuts.cut(peer(one), peer(other));
    }

    /// All members reach each other again.
    pub fn heal(&self) {
        self.cuts.heal();
    }
}

fn peer(id: usize) -> PeerId {
    PeerId(id as i64)
}

/// Settings of a `ZooEnsemble`.
///
/// ```
/// use zoo::server::ZooEnsemble;
///
/// let ensemble = ZooEnsemble::builder(3).set("tickTime", 200).start()?;
/// # Ok::<(), zoo::server::StartError>(())
/// ```
#[must_use = "nothing happens before start"]
#[derive(Clone, Debug)]
pub struct EnsembleBuilder {
    members: usize,
    server: ServerBuilder,
    dir: Option<PathBuf>,
}

/// One member before it is started.
struct Prepared {
    client: TcpListener,
    quorum: TcpListener,
    election: TcpListener,
    /// What `server.N` says.
    line: String,
}

impl EnsembleBuilder {
    /// Any key of `zoo.cfg`, for every member. Ports, directories and the list of servers are given.
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.server = self.server.set(key, value);
        self
    }

    /// Any settings of a server, for every member.
    pub fn each(mut self, settings: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        self.server = settings(self.server);
        self
    }

    /// Keeps the members' data in `dir/1`, `dir/2`, …, and leaves it there.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Starts the members and returns when all of them serve.
    pub fn start(self) -> Result<ZooEnsemble, StartError> {
        let ensemble = self.start_members()?;
        ensemble.until_all_serve()?;
        Ok(ensemble)
    }

    fn start_members(self) -> Result<ZooEnsemble, StartError> {
        let home = if self.dir.is_none() { Some(temporary_directory()?) } else { None };
        let dir = self.dir.clone().or_else(|| home.as_ref().map(|home| home.path().to_owned())).unwrap_or_default();
        let failed = |what| move |error| StartError::System { what, error };
        let prepared: io::Result<Vec<Prepared>> = (0..self.members).map(|_| prepare()).collect();
        let prepared = prepared.map_err(failed("no ports for the members"))?;
        let lines: Vec<String> = prepared.iter().map(|member| member.line.clone()).collect();
        let cuts = Arc::new(Cuts::default());
        // At once: none of them can serve before there is a quorum.
        let started = std::thread::scope(|scope| {
            let start = |(i, member): (usize, Prepared)| {
                let (dir, lines, cuts, server) = (dir.join((i + 1).to_string()), &lines, cuts.clone(), &self.server);
                scope.spawn(move || start_member(server, i + 1, &dir, lines, member, cuts))
            };
            let starting: Vec<_> = prepared.into_iter().enumerate().map(start).collect();
            let ended = |_| Err(StartError::Ended("a member panicked".to_owned()));
            starting.into_iter().map(|member| member.join().unwrap_or_else(ended)).collect::<Vec<_>>()
        });
        let members = started.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(ZooEnsemble { members, cuts, _home: home })
    }
}

fn prepare() -> io::Result<Prepared> {
    let [client, quorum, election] = [free_port(LOCALHOST, None)?, free_port(LOCALHOST, None)?, free_port(LOCALHOST, None)?];
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    let line = format!("127.0.0.1:{}:{};127.0.0.1:{}", port(&quorum)?, port(&election)?, port(&client)?);
    Ok(Prepared { client, quorum, election, line })
}

fn start_member(
    server: &ServerBuilder,
    id: usize,
    dir: &Path,
    lines: &[String],
    member: Prepared,
    cuts: Arc<Cuts>,
) -> Result<ZooServer, StartError> {
    let failed = |error| StartError::System { what: "cannot prepare a member's directory", error };
    fs::create_dir_all(dir).map_err(failed)?;
    fs::write(dir.join("myid"), id.to_string()).map_err(failed)?;
    let port = member.client.local_addr().map_err(failed)?.port();
    let mut builder = DEFAULTS.iter().fold(ServerBuilder::default(), |builder, (key, value)| builder.set(key, value)).append(server);
    for (i, line) in lines.iter().enumerate() {
        builder = builder.set(&format!("server.{}", i + 1), line);
    }
    let config = builder.data_dir(dir).port(port).config(None)?;
    let members = member::Ports { election: vec![member.election], quorum: vec![member.quorum], observers: Vec::new() };
    ZooServer::start_member(config, Ports { client: member.client, members: Some(members), cuts: Some(cuts) })
}

/// What a server answers to `srvr`.
fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"srvr")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn mode_in(said: &str) -> Mode {
    match said.lines().find_map(|line| line.strip_prefix("Mode: ")) {
        Some("leader") => Mode::Leader,
        Some("follower" | "observer") => Mode::Follower,
        Some("read-only") => Mode::ReadOnly,
        _ => Mode::NotServing,
    }
}

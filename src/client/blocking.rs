//! A client whose calls wait for their answers.

use super::entry::{Credentials, Entry, Stream};
use super::hosts::{ConnectString, Host};
use super::io::{self, Command, Seen, Shared};
use super::op::{Acl, AddWatchMode, CreateMode};
use super::pending::lock;
use super::preference::Preference;
use super::session::SessionSettings;
use super::watch::{News, Notices, States, Watch};
use super::{Error, ErrorCode, Pipelined, SessionState, Stat, Transaction};
use crate::base::path;
use crate::base::secret::Secret;
use std::fmt;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Wanted session timeout, unless another is asked for.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer, unless another is asked for: listings may be larger than what servers accept.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// How long dropping the last handle waits for the server to end the session.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// How often creating a parent and creating its child may be overtaken by somebody who deletes the parent.
const CREATE_ALL_TRIES: usize = 16;

/// How a client is made.
#[must_use = "nothing happens before connect"]
#[derive(Clone, Debug)]
pub struct Builder {
    servers: String,
    session_timeout: Duration,
    request_timeout: Option<Duration>,
    connect_patience: Option<Duration>,
    read_only: bool,
    reply_bytes_max: usize,
    credentials: Vec<(String, Secret)>,
    preference: Preference,
    fail_fast: bool,
    follows_members: bool,
    entry: Entry,
}

impl Builder {
    /// How long the ensemble keeps the session without hearing from the client; servers bound it.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    /// How long a request may wait for a connection or an answer; a session timeout unless this is called.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = Some(timeout);
        self
    }

    /// How long `connect` waits for the first connection; a session timeout unless this is called.
    pub fn connect_patience(mut self, patience: Duration) -> Self {
        self.connect_patience = Some(patience);
        self
    }

    /// Put up with a server that has lost its ensemble: reads work there, writes are refused.
    pub fn read_only(mut self, yes: bool) -> Self {
        self.read_only = yes;
        self
    }

    /// Servers that are tried before the others whenever a connection is needed: those of the own zone. Each is a `name`, a `name:port`, or a pattern with
    /// `*` at its beginning or end: `*.zone-a.example`, `10.1.*`. Called again, it names those of the next best zone.
    pub fn prefer(mut self, servers: &[&str]) -> Self {
        self.preference.zones.push(servers.iter().map(|server| (*server).to_owned()).collect());
        self
    }

    /// Go to a server that is near: one that takes at most `factor` times as long to be connected to as the nearest of its zone (of all servers, unless
    /// `prefer` names zones). Measured when there is a session, and again every few minutes; the session goes to a near server, of the best zone that
    /// can be reached, when what it has asked is answered.
    pub fn prefer_near(mut self, factor: f64) -> Self {
        // A float that is no number becomes 0, and then 1.
        self.preference.near_percent = Some(((factor * 100.0) as u64).max(100));
        self
    }

    /// Requests that wait for a connection end with [`Error::NotSent`] when every server has been tried in vain, and not only when their time is up.
    pub fn fail_fast(mut self, yes: bool) -> Self {
        self.fail_fast = yes;
        self
    }

    /// Keep to the ensemble's members instead of the connect string, as `/zookeeper/config` has them, and follow when they change. For clients that reach
    /// the members at the addresses that stand there.
    pub fn follow_members(mut self, yes: bool) -> Self {
        self.follows_members = yes;
        self
    }

    /// Largest answer that is taken.
    pub fn reply_bytes_max(mut self, bytes: usize) -> Self {
        self.reply_bytes_max = bytes;
        self
    }

    /// Credentials from the start, such as `("digest", "user:password")`.
    pub fn auth(mut self, scheme: &str, auth: &[u8]) -> Self {
        self.credentials.push((scheme.to_owned(), Secret(auth.to_vec())));
        self
    }

    /// Hands every connection to `wrap` before a word is said on it, and talks through what comes back: for TLS with any library, or another kind of tunnel.
    ///
    /// It is called in a thread of its own, with a socket that blocks, and has to finish what it needs the other side for (a handshake) before it
    /// returns; from then on the socket does not block. An error counts as a server that cannot be reached. A connection that takes too long is shut down.
    ///
    /// ```no_run
    /// use std::io::Write;
    /// use zoo::client::ZooClient;
    ///
    /// # fn main() -> Result<(), zoo::client::Error> {
    /// let client = ZooClient::builder("zoo.example:2281")
    ///     .wrap(|mut socket, _host| {
    ///         // TLS would shake hands here, with the name in `_host`; this is for a proxy that wants to be told who comes.
    ///         socket.write_all(b"PROXY UNKNOWN\r\n")?;
    ///         Ok(Box::new(socket))
    ///     })
    ///     .connect()?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wrap(mut self, wrap: impl Fn(TcpStream, &Host) -> std::io::Result<Box<dyn Stream>> + Send + Sync + 'static) -> Self {
        self.entry.wrap = Some(Arc::new(wrap));
        self
    }

    /// Asks `identify` for credentials whenever a connection is made, and shows them there before anything is asked: for those that do not last, such as
    /// tokens. Called in a thread of its own. An error counts as a server that cannot be reached; credentials that a server refuses end the
    /// session, as those of `auth` do.
    ///
    /// ```no_run
    /// use zoo::client::ZooClient;
    ///
    /// # fn main() -> Result<(), zoo::client::Error> {
    /// let client = ZooClient::builder("zoo.example")
    ///     .auth_by(|_host| Ok(vec![("digest".to_owned(), std::fs::read("/run/secrets/zoo")?)]))
    ///     .connect()?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    pub fn auth_by(mut self, identify: impl Fn(&Host) -> std::io::Result<Credentials> + Send + Sync + 'static) -> Self {
        self.entry.identify = Some(Arc::new(identify));
        self
    }

    /// Makes the client and waits for its session.
    pub fn connect(self) -> Result<ZooClient, Error> {
        let patience = self.connect_patience.unwrap_or(self.session_timeout);
        let client = self.start()?;
        client.until_connected(patience)?;
        Ok(client)
    }

    /// Makes the client and does not wait: requests wait for the connection, each for its time.
    pub fn start(self) -> Result<ZooClient, Error> {
        let servers = ConnectString::parse(&self.servers)?;
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let settings = SessionSettings {
            timeout_ms: u32::try_from(ms(self.session_timeout)).unwrap_or(u32::MAX),
            read_only: self.read_only,
            request_timeout_ms: ms(self.request_timeout.unwrap_or(self.session_timeout)),
            reply_bytes_max: self.reply_bytes_max,
            chroot: servers.chroot.clone(),
            seed: random_seed()?,
            preference: self.preference,
            fail_fast: self.fail_fast,
        };
        let (shared, thread) = io::start(settings, servers.hosts, self.follows_members, self.entry)?;
        let client = ZooClient { inner: Arc::new(Inner { shared, chroot: servers.chroot, thread: Mutex::new(Some(thread)) }) };
        for (scheme, auth) in &self.credentials {
            // What is wrong with them ends the session, which everybody is told of.
            drop(client.pipelined().add_auth(scheme, &auth.0));
        }
        Ok(client)
    }
}

fn random_seed() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(|e| Error::Io(format!("no random numbers: {e}")))?;
    Ok(u64::from_ne_bytes(bytes))
}

/// What all handles of a client share.
pub(super) struct Inner {
    pub(super) shared: Arc<Shared>,
    pub(super) chroot: String,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { state, id, .. } = self.shared.seen();
        write!(f, "session {id}, {state:?}")
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Some(thread) = lock(&self.thread).take() else { return };
        if thread.thread().id() == std::thread::current().id() {
            self.shared.post(Command::Abandon);
            return;
        }
        // Whoever has not closed the session does it now; a server that does not answer is not waited for.
        let mut closed = Pipelined { inner: self }.close();
        drop(closed.wait_for(CLOSE_PATIENCE));
        self.shared.post(Command::Abandon);
        drop(thread.join());
    }
}

/// A session with an ensemble. Clones are handles of the same session; when the last one is dropped, it is closed.
#[derive(Clone, Debug)]
pub struct ZooClient {
    inner: Arc<Inner>,
}

impl ZooClient {
    /// A session at one of the servers of a connect string, such as `a:2181,b:2181/app`.
    pub fn connect(servers: &str) -> Result<Self, Error> {
        Self::builder(servers).connect()
    }

    /// Likewise, with settings of its own.
    pub fn builder(servers: &str) -> Builder {
        Builder {
            servers: servers.to_owned(),
            session_timeout: SESSION_TIMEOUT,
            request_timeout: None,
            connect_patience: None,
            read_only: false,
            reply_bytes_max: REPLY_BYTES_MAX,
            credentials: Vec::new(),
            preference: Preference::default(),
            fail_fast: false,
            follows_members: false,
            entry: Entry::default(),
        }
    }

    /// From now on these are the servers, in the form of a connect string without chroot. Clients move only as far as each server is to get its share of
    /// them, and only when what they have asked is answered.
    pub fn set_servers(&self, servers: &str) -> Result<(), Error> {
        let parsed = ConnectString::parse(servers)?;
        if !parsed.chroot.is_empty() {
            return Err(Error::BadArgument("the chroot of a session cannot be changed".to_owned()));
        }
        self.inner.shared.post(Command::SetHosts(parsed.hosts));
        Ok(())
    }

    /// The same operations without waiting.
    #[must_use]
    pub fn pipelined(&self) -> Pipelined<'_> {
        Pipelined { inner: &self.inner }
    }

    /// The session's number; 0 before there is one.
    #[must_use]
    pub fn session_id(&self) -> i64 {
        self.inner.shared.seen().id.0
    }

    /// The session's password.
    #[must_use]
    pub fn session_password(&self) -> [u8; 16] {
        self.inner.shared.seen().password
    }

    /// What the server has granted.
    #[must_use]
    pub fn session_timeout(&self) -> Duration {
        Duration::from_millis(self.inner.shared.seen().timeout_ms)
    }

    /// Where the session is now.
    #[must_use]
    pub fn state(&self) -> SessionState {
        self.inner.shared.seen().state
    }

    /// The states it goes through from now on.
    #[must_use]
    pub fn states(&self) -> States {
        let (feed, news) = News::newest();
        self.inner.shared.post(Command::Observe(feed));
        States { news }
    }

    /// All that it hears from now on: states, and events whichever watch they are for. The state it has reached comes first.
    #[must_use]
    pub fn notices(&self) -> Notices {
        let (feed, news) = News::newest();
        self.inner.shared.post(Command::Listen(feed));
        Notices { news }
    }

    /// Why there is no connection: what the last attempt came to, with the server's name in front. `None` while there is one, or before the
    /// first attempt has failed.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.inner.shared.trouble()
    }

    /// Waits for a connection; [`Error::Unreachable`] says what stood in its way.
    pub fn until_connected(&self, patience: Duration) -> Result<(), Error> {
        let deadline = std::time::Instant::now() + patience;
        let mut states = self.states();
        loop {
            match self.state() {
                SessionState::Connected | SessionState::ConnectedReadOnly => return Ok(()),
                SessionState::Expired => return Err(Error::SessionExpired),
                SessionState::AuthFailed => return Err(Error::AuthFailed),
                SessionState::Closed => return Err(Error::Closed),
                SessionState::Connecting | SessionState::Suspended => {}
            }
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            match states.wait_for(left) {
                Err(_) if left.is_zero() => return Err(self.trouble().map_or(Error::NotSent, Error::Unreachable)),
                Ok(None) => return Err(Error::Closed),
                _ => {}
            }
        }
    }

    /// A new node that everybody may change; its path.
    pub fn create(&self, path: &str, data: &[u8], mode: CreateMode) -> Result<String, Error> {
        self.pipelined().create(path, data, mode).wait()
    }

    /// A new node; its path and what it is.
    pub fn create_with(&self, path: &str, data: &[u8], acl: &[Acl], mode: CreateMode) -> Result<(String, Stat), Error> {
        self.pipelined().create_with(path, data, acl, mode).wait()
    }

    /// A new node, and before it whatever is missing above it, as persistent nodes.
    pub fn create_all(&self, path: &str, data: &[u8], mode: CreateMode) -> Result<String, Error> {
        for _ in 0..CREATE_ALL_TRIES {
            match self.create(path, data, mode) {
                Err(Error::Refused(ErrorCode::NoNode)) => {}
                done => return done,
            }
            let Some(parent) = path::parent(path).filter(|p| *p != "/") else { break };
            self.ensure(parent)?;
        }
        Err(Error::Refused(ErrorCode::NoNode))
    }

    /// Sees to it that there is a node, and all above it; their data stays what it is. For `/`, that is the chroot, which need not exist when a client
    /// connects; as long as it does not, everything is refused with `NoNode`.
    pub fn ensure(&self, path: &str) -> Result<(), Error> {
        if path == "/" && !self.inner.chroot.is_empty() {
            return self.ensure_chroot();
        }
        match self.create_all(path, b"", CreateMode::Persistent) {
            Ok(_) | Err(Error::Refused(ErrorCode::NodeExists)) => Ok(()),
            Err(why) => Err(why),
        }
    }

    fn ensure_chroot(&self) -> Result<(), Error> {
        let ends = self.inner.chroot.match_indices('/').map(|(at, _)| at).skip(1).chain([self.inner.chroot.len()]);
        for end in ends {
            match self.pipelined().create_outside(&self.inner.chroot[..end]).wait() {
                Ok(()) | Err(Error::Refused(ErrorCode::NodeExists)) => {}
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// The end of a node, whatever its version.
    pub fn delete(&self, path: &str) -> Result<(), Error> {
        self.delete_version(path, -1)
    }

    /// The end of a node of this version.
    pub fn delete_version(&self, path: &str, version: i32) -> Result<(), Error> {
        self.pipelined().delete_version(path, version).wait()
    }

    /// The end of a node and of all below it, node by node, from the leaves up. What somebody else creates there meanwhile makes it fail with NotEmpty.
    pub fn delete_all(&self, path: &str) -> Result<(), Error> {
        let gone = |result: Result<(), Error>| match result {
            Err(Error::Refused(ErrorCode::NoNode)) => Ok(()),
            other => other,
        };
        let mut found = vec![path.to_owned()];
        let mut at = 0;
        while at < found.len() {
            let below = match self.children(&found[at]) {
                Err(Error::Refused(ErrorCode::NoNode)) => Vec::new(),
                other => other?,
            };
            let above = if found[at] == "/" { "" } else { &found[at] }.to_owned();
            found.extend(below.iter().map(|name| format!("{above}/{name}")));
            at += 1;
        }
        let pending: Vec<_> = found.iter().rev().map(|p| self.pipelined().delete_version(p, -1)).collect();
        pending.into_iter().try_for_each(|p| gone(p.wait()))
    }

    /// What a node is, if there is one.
    pub fn exists(&self, path: &str) -> Result<Option<Stat>, Error> {
        self.pipelined().exists(path).wait()
    }

    /// Likewise, and a watch for its next change, or its creation.
    pub fn exists_and_watch(&self, path: &str) -> Result<(Option<Stat>, Watch), Error> {
        let (found, watch) = self.pipelined().exists_and_watch(path);
        Ok((found.wait()?, watch))
    }

    /// A node's data, and what it is.
    pub fn get(&self, path: &str) -> Result<(Vec<u8>, Stat), Error> {
        self.pipelined().get(path).wait()
    }

    /// Likewise, and a watch for its next change.
    pub fn get_and_watch(&self, path: &str) -> Result<(Vec<u8>, Stat, Watch), Error> {
        let (found, watch) = self.pipelined().get_and_watch(path);
        let (data, stat) = found.wait()?;
        Ok((data, stat, watch))
    }

    /// New data, whatever the version.
    pub fn set(&self, path: &str, data: &[u8]) -> Result<Stat, Error> {
        self.set_version(path, data, -1)
    }

    /// New data for a node of this version.
    pub fn set_version(&self, path: &str, data: &[u8], version: i32) -> Result<Stat, Error> {
        self.pipelined().set_version(path, data, version).wait()
    }

    /// The names of a node's children, in no order.
    pub fn children(&self, path: &str) -> Result<Vec<String>, Error> {
        self.pipelined().children(path).wait().map(|(names, _)| names)
    }

    /// Likewise, and a watch for their next change.
    pub fn children_and_watch(&self, path: &str) -> Result<(Vec<String>, Watch), Error> {
        let (found, watch) = self.pipelined().children_and_watch(path);
        Ok((found.wait()?.0, watch))
    }

    /// A node's access control list, and what the node is.
    pub fn get_acl(&self, path: &str) -> Result<(Vec<Acl>, Stat), Error> {
        self.pipelined().get_acl(path).wait()
    }

    /// A new access control list, whatever the version of the old one.
    pub fn set_acl(&self, path: &str, acl: &[Acl]) -> Result<Stat, Error> {
        self.pipelined().set_acl(path, acl, -1).wait()
    }

    /// Waits until the server has everything that was committed when the leader heard of this: reads after it see that.
    pub fn sync(&self, path: &str) -> Result<(), Error> {
        self.pipelined().sync(path).wait()
    }

    /// A watch that stays, also over connections, until the session ends, `remove_watches` or it is dropped.
    pub fn add_watch(&self, path: &str, mode: AddWatchMode) -> Result<Watch, Error> {
        let (set, watch) = self.pipelined().add_watch(path, mode);
        set.wait().map(|()| watch)
    }

    /// Ends every watch of this client on a node.
    pub fn remove_watches(&self, path: &str) -> Result<(), Error> {
        self.pipelined().remove_watches(path).wait()
    }

    /// Begins a transaction.
    pub fn transaction(&self) -> Transaction<'_> {
        self.pipelined().transaction()
    }

    /// The ephemeral nodes of this session whose paths begin so.
    pub fn ephemerals(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.pipelined().ephemerals(prefix).wait()
    }

    /// How many nodes there are below one.
    pub fn count_all(&self, path: &str) -> Result<u64, Error> {
        self.pipelined().count_all(path).wait()
    }

    /// Scheme and name of each identity the server knows this connection by.
    pub fn who_am_i(&self) -> Result<Vec<(String, String)>, Error> {
        self.pipelined().who_am_i().wait()
    }

    /// Shows credentials, here and at every server from now on.
    pub fn add_auth(&self, scheme: &str, auth: &[u8]) -> Result<(), Error> {
        self.pipelined().add_auth(scheme, auth).wait()
    }

    /// Ends the session: its ephemeral nodes go at once. Later calls fail with `Closed`, on every handle.
    pub fn close(&self) -> Result<(), Error> {
        self.pipelined().close().wait()
    }

    /// Vanishes without a word, as if the process had died: the session lives on until its timeout.
    pub fn abandon(self) {
        self.inner.shared.post(Command::Abandon);
    }
}

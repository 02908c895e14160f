//! A node that is there as long as its owner is, over sessions.

use super::election::start_thread;
use super::guid::{delete, ensure};
use super::shown::Shown;
use super::wait::{Stop, Until, is_transient};
use super::{Error, Sessions, Token};
use crate::base::path;
use crate::client::{self, CreateMode, ErrorCode, ZooClient, lock};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How it stands with such a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Not there yet, or somebody else's is in its place.
    Absent,
    /// There, and this session's, the last time that was looked at.
    There(Token),
    /// It is not kept any more: stopped, or the client cannot go on for this reason.
    Over(Error),
}

/// An ephemeral node that is made again whenever it goes: with its session, by somebody's hand, or because the data were changed by others.
///
/// - **While the session lives** it is there, but for the moments between its end and its making. When the owner dies it goes with the session.
/// - **One owner.** If another session has such a node, its end is waited for; nothing is taken away from anybody.
///
/// ```
/// # use std::time::Duration;
/// # use zoo::{client::ZooClient, server::ZooServer};
/// # let server = ZooServer::start()?;
/// # let client = ZooClient::connect(server.host())?;
/// use zoo::recipes::{PersistentNode, Sessions};
///
/// let sessions = Sessions::new(ZooClient::builder(server.host()));
/// let node = PersistentNode::start(&sessions, "/here/host-1", b"up")?;
/// node.until_there(Duration::from_secs(10))?;
/// assert_eq!(client.get("/here/host-1")?.0, b"up");
/// node.stop()?;
/// assert_eq!(client.exists("/here/host-1")?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PersistentNode {
    keeping: Arc<Keeping>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Keeping {
    sessions: Sessions,
    path: String,
    data: Mutex<Vec<u8>>,
    standing: Shown<Standing>,
    stop: Stop,
}

impl PersistentNode {
    /// Begins to keep it.
    pub fn start(sessions: &Sessions, path: &str, data: &[u8]) -> Result<Self, Error> {
        sessions.current()?;
        let keeping = Arc::new(Keeping {
            sessions: sessions.clone(),
            path: path.to_owned(),
            data: Mutex::new(data.to_vec()),
            standing: Shown::new(Standing::Absent),
            stop: Stop::default(),
        });
        let runs = keeping.clone();
        let thread = start_thread("zoo-keep-node", move || runs.run())?;
        Ok(PersistentNode { keeping, thread: Some(thread) })
    }

    /// How it stands with it.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.keeping.standing.now()
    }

    /// Waits until it is there.
    pub fn until_there(&self, patience: Duration) -> Result<Token, Error> {
        match self.keeping.standing.wait_for(patience, |standing| *standing != Standing::Absent) {
            Some(Standing::There(token)) => Ok(token),
            Some(Standing::Over(why)) => Err(why),
            _ => Err(Error::TimedOut),
        }
    }

    /// New data, now and whenever it is made again.
    pub fn set_data(&self, data: &[u8]) -> Result<(), Error> {
        data.clone_into(&mut lock(&self.keeping.data));
        let client = self.keeping.sessions.current()?;
        // Where it is not there, whoever makes it looks at the data afterwards; so does the next session.
        session_may_end(self.keeping.write(&client, &Until::done()))
    }

    /// Takes it away and keeps it no longer.
    pub fn stop(mut self) -> Result<(), Error> {
        self.end();
        match self.standing() {
            Standing::Over(Error::Stopped) => Ok(()),
            Standing::Over(why) => Err(why),
            _ => Err(Error::Stopped),
        }
    }

    fn end(&mut self) {
        self.keeping.stop.set();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for PersistentNode {
    fn drop(&mut self) {
        self.end();
    }
}

/// The node ends with the session, too.
fn session_may_end(ended: Result<(), Error>) -> Result<(), Error> {
    if ended == Err(Error::Client(client::Error::SessionExpired)) { Ok(()) } else { ended }
}

impl Keeping {
    fn run(&self) {
        let why = loop {
            let client = match self.sessions.current() {
                Ok(client) => client,
                Err(why) => break why,
            };
            let Err(why) = self.keep(&client);
            match why {
                Error::Stopped => break session_may_end(self.take_away(&client)).err().unwrap_or(Error::Stopped),
                Error::Client(client::Error::SessionExpired) => self.standing.show(Standing::Absent),
                why => break why,
            }
        };
        self.standing.show(Standing::Over(why));
    }

    fn keep(&self, client: &ZooClient) -> Result<Infallible, Error> {
        let until = Until::stopped(&[&self.stop]);
        loop {
            let (found, mut change) = client.pipelined().get_and_watch(&self.path);
            match until.answer(found) {
                Ok((data, stat)) if stat.ephemeral_owner == client.session_id() => {
                    self.standing.show(Standing::There(Token(stat.czxid)));
                    if data != *lock(&self.data) {
                        self.write(client, &until)?;
                    }
                    until.hear(change.event())?;
                }
                Ok(_) => {
                    self.standing.show(Standing::Absent);
                    until.hear(change.event())?;
                }
                Err(why) if why.code() == Some(ErrorCode::NoNode) => {
                    self.standing.show(Standing::Absent);
                    self.make(client, &until)?;
                }
                Err(Error::Client(why)) if is_transient(&why) => until.pause_after(&why)?,
                Err(why) => return Err(why),
            }
        }
    }

    fn make(&self, client: &ZooClient, until: &Until) -> Result<(), Error> {
        let data = lock(&self.data).clone();
        match until.insist(|| client.pipelined().create(&self.path, &data, CreateMode::Ephemeral)) {
            Err(why) if why.code() == Some(ErrorCode::NoNode) => {
                let parent = path::parent(&self.path).ok_or(why)?;
                ensure(client, parent, CreateMode::Persistent, until)
            }
            Err(why) if why.code() == Some(ErrorCode::NodeExists) => Ok(()),
            made => made.map(drop),
        }
    }

    fn write(&self, client: &ZooClient, until: &Until) -> Result<(), Error> {
        let data = lock(&self.data).clone();
        match until.insist(|| client.pipelined().set_version(&self.path, &data, -1)) {
            Err(why) if why.code() == Some(ErrorCode::NoNode) => Ok(()),
            written => written.map(drop),
        }
    }

    fn take_away(&self, client: &ZooClient) -> Result<(), Error> {
        let until = Until::within(client.session_timeout());
        // What was sent before, and given up when this was stopped, comes before the answer or never.
        until.insist(|| client.pipelined().sync(&self.path))?;
        match until.insist(|| client.pipelined().exists(&self.path))? {
            Some(stat) if stat.ephemeral_owner == client.session_id() => delete(client, &self.path, &until),
            _ => Ok(()),
        }
    }
}

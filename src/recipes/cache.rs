//! A copy of a subtree that changes as the subtree does.

use super::election::start_thread;
use super::guid::child;
use super::shown::Shown;
use super::wait::{Either, Stop, Until, is_transient};
use super::{Error, Sessions};
use crate::client::{self, AddWatchMode, ErrorCode, EventType, States, Watch, WatchedEvent, ZooClient};
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Reads that are on their way at once.
const READS_AT_ONCE: usize = 512;

/// A node of a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CachedNode {
    /// What it holds.
    pub data: Vec<u8>,
    /// How often that was changed.
    pub version: i32,
    /// The transaction that made the node.
    pub czxid: i64,
    /// The last one that changed its data.
    pub mzxid: i64,
}

type Nodes = OrdMap<String, Arc<CachedNode>>;

/// The subtree as it was at one moment. Cloning it is cheap.
#[derive(Clone, Default)]
pub struct Snapshot {
    nodes: Nodes,
    number: u64,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot {} with {} nodes", self.number, self.nodes.len())
    }
}

impl Snapshot {
    /// Which one it is: they are counted from 1; 0 is before the first.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// A node.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&CachedNode> {
        self.nodes.get(path).map(|node| &**node)
    }

    /// All nodes and their paths, in the order of these.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &CachedNode)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), &**node))
    }

    /// The names of a node's children and what they are, in the order of the names.
    pub fn children<'a>(&'a self, path: &str) -> impl Iterator<Item = (&'a str, &'a CachedNode)> {
        let front = child(path, "");
        let below = self.nodes.range(front.clone()..).take_while({
            let front = front.clone();
            move |(path, _)| path.starts_with(&front)
        });
        below.map(move |(path, node)| (&path[front.len()..], &**node)).filter(|(name, _)| !name.is_empty() && !name.contains('/'))
    }
}

/// What is different from one snapshot to the next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A node is there.
    Added(String),
    /// A node has other data, or is another one of the same name.
    Changed(String),
    /// A node is gone.
    Removed(String),
}

/// How a copy relates to the servers'.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Freshness {
    /// Nothing is known yet.
    Loading,
    /// Kept up to date by the servers' events.
    Current,
    /// There is no connection, or what was missed without one is still being read.
    Stale,
    /// It is kept up to date no longer: stopped, or the client cannot go on for this reason.
    Over(Error),
}

/// A local copy of a subtree, kept by a watch on all of it.
///
/// - **Consistent.** Every snapshot is the subtree as it was at one moment: a transaction is seen whole or not at all, and snapshots follow each other in time.
/// - **Complete.** Changes that are missed while there is no connection or session are found by reading everything again. A snapshot that stands for several changes
///   shows their outcome only.
/// - **Late, not wrong.** A snapshot is behind by the way to the servers; while nodes are changed faster than they can be read it waits for a pause. [`Freshness`] tells
///   when there is no connection.
/// - Nodes that this client may not read are left out.
///
/// ```
/// # use std::time::Duration;
/// # use zoo::{client::ZooClient, server::ZooServer};
/// # let server = ZooServer::start()?;
/// # let client = ZooClient::connect(server.host())?;
/// use zoo::client::CreateMode;
/// use zoo::recipes::{Cache, Sessions};
///
/// let sessions = Sessions::new(ZooClient::builder(server.host()));
/// let config = Cache::start(&sessions, "/config")?;
/// client.create_all("/config/threads", b"8", CreateMode::Persistent)?;
/// let seen = config.until(Duration::from_secs(10), |now| now.get("/config/threads").is_some())?;
/// assert_eq!(seen.get("/config/threads").map(|node| &node.data[..]), Some(&b"8"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Cache {
    copying: Arc<Copying>,
    thread: Option<JoinHandle<()>>,
}

struct Copying {
    sessions: Sessions,
    root: String,
    shown: Shown<(Snapshot, Freshness)>,
    stop: Stop,
}

impl fmt::Debug for Copying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "copy of {}: {:?}", self.root, self.shown.now())
    }
}

impl Cache {
    /// Begins to copy a node, which need not exist, and all below it.
    pub fn start(sessions: &Sessions, root: &str) -> Result<Self, Error> {
        Self::start_with(sessions, root, |_, _| {})
    }

    /// Likewise; `listener` is called with each snapshot and what is different in it, one after another, on the thread that keeps the copy.
    pub fn start_with(sessions: &Sessions, root: &str, listener: impl FnMut(&Snapshot, &[Change]) + Send + 'static) -> Result<Self, Error> {
        sessions.current()?;
        let shown = Shown::new((Snapshot::default(), Freshness::Loading));
        let copying = Arc::new(Copying { sessions: sessions.clone(), root: root.to_owned(), shown, stop: Stop::default() });
        let runs = copying.clone();
        let thread = start_thread("zoo-cache", move || runs.run(listener))?;
        Ok(Cache { copying, thread: Some(thread) })
    }

    /// The newest snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.copying.shown.now().0
    }

    /// Whether it is kept up to date.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        self.copying.shown.now().1
    }

    /// Waits for a snapshot that is as wanted.
    pub fn until(&self, patience: Duration, is_wanted: impl Fn(&Snapshot) -> bool) -> Result<Snapshot, Error> {
        let fits = |(snapshot, _): &(Snapshot, Freshness)| snapshot.number > 0 && is_wanted(snapshot);
        let decided = |shown: &(Snapshot, Freshness)| fits(shown) || matches!(shown.1, Freshness::Over(_));
        match self.copying.shown.wait_for(patience, decided) {
            Some(shown) if fits(&shown) => Ok(shown.0),
            Some((_, Freshness::Over(why))) => Err(why),
            _ => Err(Error::TimedOut),
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.copying.stop.set();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            drop(thread.join());
        }
    }
}

impl Copying {
    fn run(&self, mut listener: impl FnMut(&Snapshot, &[Change])) {
        let why = loop {
            let Err(why) = self.sessions.current().and_then(|client| self.copy(&client, &mut listener));
            if why != Error::Client(client::Error::SessionExpired) {
                break why;
            }
        };
        self.say(Freshness::Over(why));
    }

    fn say(&self, freshness: Freshness) {
        let (snapshot, was) = self.shown.now();
        if was != freshness {
            self.shown.show((snapshot, freshness));
        }
    }

    fn copy(&self, client: &ZooClient, listener: &mut impl FnMut(&Snapshot, &[Change])) -> Result<Infallible, Error> {
        let until = Until::stopped(&[&self.stop]);
        let mut states = client.states();
        let mut watch = self.watch(client, &until)?;
        loop {
            while let Ok(Some(_)) = states.wait_for(Duration::ZERO) {}
            match self.follow(client, &mut watch, &mut states, &until, listener) {
                Err(Error::Client(why)) if is_transient(&why) => until.pause_after(&why)?,
                ended => ended?,
            }
            if self.shown.now().1 == Freshness::Current {
                self.say(Freshness::Stale);
            }
            if watch.is_overrun() {
                watch = self.watch(client, &until)?;
            }
        }
    }

    /// From reading everything to the end of the connection, or of the watch.
    fn follow(
        &self,
        client: &ZooClient,
        watch: &mut Watch,
        states: &mut States,
        until: &Until,
        listener: &mut impl FnMut(&Snapshot, &[Change]),
    ) -> Result<(), Error> {
        let mut nodes = self.load(client, until)?;
        while settle(client, &mut nodes, watch, states, until)? {
            self.publish(&nodes, listener);
            match until.hear_either(watch.event(), states.change())? {
                Either::One(Some(event)) => apply(client, vec![event], &mut nodes, until)?,
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    fn watch(&self, client: &ZooClient, until: &Until) -> Result<Watch, Error> {
        loop {
            let (set, watch) = client.pipelined().add_watch(&self.root, AddWatchMode::PersistentRecursive);
            match until.answer(set) {
                Ok(()) => return Ok(watch),
                Err(Error::Client(why)) if is_transient(&why) => until.pause_after(&why)?,
                Err(why) => return Err(why),
            }
        }
    }

    /// Everything, level by level. What changes meanwhile is told by events, which are looked at afterwards.
    fn load(&self, client: &ZooClient, until: &Until) -> Result<Nodes, Error> {
        let mut nodes = OrdMap::new();
        let mut level = vec![self.root.clone()];
        while !level.is_empty() {
            let mut next = Vec::new();
            for some in level.chunks(READS_AT_ONCE) {
                read(client, some, &mut nodes, until)?;
                let listings: Vec<_> = some.iter().map(|path| client.pipelined().children(path)).collect();
                for (path, listing) in some.iter().zip(listings) {
                    if let Some((names, _)) = there(until.answer(listing))? {
                        next.extend(names.iter().map(|name| child(path, name)));
                    }
                }
            }
            level = next;
        }
        Ok(nodes)
    }

    fn publish(&self, nodes: &Nodes, listener: &mut impl FnMut(&Snapshot, &[Change])) {
        let (before, freshness) = self.shown.now();
        let changes: Vec<Change> = before
            .nodes
            .diff(nodes)
            .map(|item| match item {
                DiffItem::Add(path, _) => Change::Added(path.clone()),
                DiffItem::Update { new: (path, _), .. } => Change::Changed(path.clone()),
                DiffItem::Remove(path, _) => Change::Removed(path.clone()),
            })
            .collect();
        if changes.is_empty() && before.number > 0 {
            if freshness != Freshness::Current {
                self.shown.show((before, Freshness::Current));
            }
            return;
        }
        let snapshot = Snapshot { nodes: nodes.clone(), number: before.number + 1 };
        self.shown.show((snapshot.clone(), Freshness::Current));
        listener(&snapshot, &changes);
    }
}

/// Works off events until there are none. An event comes before every answer that could show its effect: when there are none behind the last answer, the copy is the
/// tree as it was when that was given. False: events may be missing, because the connection was lost, or because the listener took so long that the watch is over.
fn settle(client: &ZooClient, nodes: &mut Nodes, watch: &mut Watch, states: &mut States, until: &Until) -> Result<bool, Error> {
    loop {
        let mut events = Vec::new();
        while let Ok(event) = watch.wait_for(Duration::ZERO) {
            let Some(event) = event else { return Ok(false) };
            events.push(event);
        }
        if states.wait_for(Duration::ZERO).is_ok() {
            return Ok(false);
        }
        if events.is_empty() {
            return Ok(true);
        }
        apply(client, events, nodes, until)?;
    }
}

/// Reads what the events may have changed; what the copy knows already, by a later read, is not read again.
fn apply(client: &ZooClient, events: Vec<WatchedEvent>, nodes: &mut Nodes, until: &Until) -> Result<(), Error> {
    let mut in_doubt = BTreeSet::new();
    for WatchedEvent { kind, path, zxid } in events {
        let known = nodes.get(&path);
        match (kind, zxid) {
            (EventType::NodeDeleted, Some(zxid)) if known.is_none_or(|node| node.czxid <= zxid) => {
                nodes.remove(&path);
                in_doubt.remove(&path);
            }
            (EventType::NodeDeleted, Some(_)) => {}
            (_, Some(zxid)) if known.is_some_and(|node| node.mzxid >= zxid) => {}
            _ => drop(in_doubt.insert(path)),
        }
    }
    let in_doubt: Vec<String> = in_doubt.into_iter().collect();
    in_doubt.chunks(READS_AT_ONCE).try_for_each(|some| read(client, some, nodes, until))
}

/// `None`: there is no such node, or it is not for us.
fn there<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Err(why) if matches!(why.code(), Some(ErrorCode::NoNode | ErrorCode::NoAuth)) => Ok(None),
        answer => answer.map(Some),
    }
}

fn read(client: &ZooClient, paths: &[String], nodes: &mut Nodes, until: &Until) -> Result<(), Error> {
    let answers: Vec<_> = paths.iter().map(|path| client.pipelined().get(path)).collect();
    for (path, answer) in paths.iter().zip(answers) {
        match there(until.answer(answer))? {
            Some((data, stat)) => {
                let node = CachedNode { data, version: stat.version, czxid: stat.czxid, mzxid: stat.mzxid };
                nodes.insert(path.clone(), Arc::new(node));
            }
            None => drop(nodes.remove(path)),
        }
    }
    Ok(())
}

//! One leader at a time, among processes that stay candidates over sessions.

use super::line::{Line, Names, Place, Purpose};
use super::shown::Shown;
use super::wait::{Either, Stop, Until, is_transient};
use super::{Error, Sessions, Token};
use crate::client::{self, ErrorCode, SessionState, States, Transaction, ZooClient, lock};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a candidate is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// Not the leader: in line, or on the way there.
    Follower,
    /// The leader of the epoch that this token names.
    Leader(Token),
    /// It was the leader when the connection was lost. It may be again, of the same epoch, or somebody else is by now.
    Suspended(Token),
    /// It is no candidate any more: stopped, or the client cannot go on for this reason.
    Over(Error),
}

impl Role {
    /// The epoch led, if any.
    #[must_use]
    pub fn leads(&self) -> Option<Token> {
        match self {
            Role::Leader(token) => Some(*token),
            _ => None,
        }
    }
}

/// A candidate that leads from its turn on until it is stopped, its session ends, or its node is removed; then it lines up again.
///
/// - **One leader per epoch.** An epoch is the life of one node, named by its [`Token`]; epochs grow. Nodes of two epochs never lead at the same time.
/// - **Knowing it.** [`Role::Leader`] is shown while the connection stands, [`Role::Suspended`] as soon as it is known to be lost. Whoever stands still longer than
///   the session lives learns it late: effects have to carry the token, or go by [`LeaderLatch::transaction`].
/// - **Succession.** In the order of arrival; one candidate is woken per epoch.
/// - **Others.** Curator's `LeaderLatch` stands in the same line.
///
/// ```
/// # use std::time::Duration;
/// # use zoo::{client::ZooClient, server::ZooServer};
/// # let server = ZooServer::start()?;
/// # let client = ZooClient::connect(server.host())?;
/// use zoo::recipes::{LeaderLatch, Sessions};
///
/// let sessions = Sessions::new(ZooClient::builder(server.host()));
/// let latch = LeaderLatch::start(&sessions, "/scheduler", b"host-1")?;
/// let epoch = latch.until_leader(Duration::from_secs(10))?;
/// println!("this is the leader of epoch {epoch}");
/// // Only while it leads:
/// latch.transaction(|t| t.create("/schedule", b"", zoo::client::CreateMode::Persistent).commit())??;
/// latch.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LeaderLatch {
    candidacy: Arc<Candidacy>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Candidacy {
    sessions: Sessions,
    path: String,
    id: Vec<u8>,
    role: Shown<Role>,
    /// The place by which it leads.
    leading: Mutex<Option<Arc<Place>>>,
    stop: Stop,
}

impl LeaderLatch {
    /// A candidate at the election of this node; `id` is what others see in [`LeaderLatch::candidates`].
    pub fn start(sessions: &Sessions, path: &str, id: &[u8]) -> Result<Self, Error> {
        Self::start_with(sessions, path, id, |_| {})
    }

    /// Likewise; `listener` is called with every role it gets into, on the thread that stands for it: the sooner it returns, the sooner the next one is known.
    pub fn start_with(sessions: &Sessions, path: &str, id: &[u8], mut listener: impl FnMut(&Role) + Send + 'static) -> Result<Self, Error> {
        sessions.current()?;
        let candidacy = Arc::new(Candidacy {
            sessions: sessions.clone(),
            path: path.to_owned(),
            id: id.to_vec(),
            role: Shown::new(Role::Follower),
            leading: Mutex::new(None),
            stop: Stop::default(),
        });
        let runs = candidacy.clone();
        let mut show = move |candidacy: &Candidacy, role: Role| {
            if candidacy.role.now() != role {
                candidacy.role.show(role.clone());
                listener(&role);
            }
        };
        let thread = start_thread("zoo-election", move || runs.run(&mut show))?;
        Ok(LeaderLatch { candidacy, thread: Some(thread) })
    }

    /// What it is now.
    #[must_use]
    pub fn role(&self) -> Role {
        self.candidacy.role.now()
    }

    /// Waits until it is seen to be something else than `role`, and so long at the most; what it is then. What lasts a moment only may be missed, but not by a listener.
    #[must_use]
    pub fn role_after(&self, role: &Role, patience: Duration) -> Role {
        self.candidacy.role.wait_for(patience, |now| now != role).unwrap_or_else(|| role.clone())
    }

    /// Waits until it leads.
    pub fn until_leader(&self, patience: Duration) -> Result<Token, Error> {
        let decided = |role: &Role| role.leads().is_some() || matches!(role, Role::Over(_));
        match self.candidacy.role.wait_for(patience, decided) {
            Some(Role::Leader(token)) => Ok(token),
            Some(Role::Over(why)) => Err(why),
            _ => Err(Error::TimedOut),
        }
    }

    /// The ids of all candidates, the leader's first.
    pub fn candidates(&self) -> Result<Vec<Vec<u8>>, Error> {
        self.candidacy.line(&self.candidacy.sessions.current()?).contenders()
    }

    /// Runs `write` with a transaction that is carried out only if this candidate leads at that moment. [`Error::Lost`]: it does not.
    pub fn transaction<T>(&self, write: impl FnOnce(Transaction<'_>) -> T) -> Result<T, Error> {
        let place = lock(&self.candidacy.leading).clone().ok_or(Error::Lost)?;
        Ok(write(place.transaction()))
    }

    /// Is no candidate any more. A leader steps down and waits for the servers to know it; [`Error::TimedOut`]: they will, but did not within a session timeout.
    pub fn stop(mut self) -> Result<(), Error> {
        self.end();
        if self.role() == Role::Over(Error::TimedOut) { Err(Error::TimedOut) } else { Ok(()) }
    }

    fn end(&mut self) {
        self.candidacy.stop.set();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for LeaderLatch {
    fn drop(&mut self) {
        self.end();
    }
}

/// The node was removed, or the whole election; or the session is over, and there will be another.
fn may_stand_again(why: &Error) -> bool {
    matches!(why, Error::Lost | Error::Client(client::Error::SessionExpired))
}

pub(super) fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let failed = |e| Error::Client(client::Error::Io(format!("no thread: {e}")));
    std::thread::Builder::new().name(name.into()).spawn(run).map_err(failed)
}

impl Candidacy {
    fn line(&self, client: &ZooClient) -> Line {
        Line { client: client.clone(), path: self.path.clone(), names: Names::Curator, data: self.id.clone() }
    }

    fn run(&self, show: &mut impl FnMut(&Self, Role)) {
        let why = loop {
            let Err(why) = self.sessions.current().and_then(|client| self.stand(&client, show));
            if self.stop.is_set() || !may_stand_again(&why) {
                break why;
            }
        };
        show(self, Role::Over(why));
    }

    /// From lining up to the end of what came of it.
    fn stand(&self, client: &ZooClient, show: &mut impl FnMut(&Self, Role)) -> Result<Infallible, Error> {
        let until = Until::stopped(&[&self.stop]);
        let mut states = client.states();
        let place = Arc::new(self.line(client).pass(Purpose::Latch, &until)?);
        *lock(&self.leading) = Some(place.clone());
        let ended = lead(&place, &mut states, &until, |role| show(self, role));
        *lock(&self.leading) = None;
        // It is known here to be no leader before anybody else is told to be one.
        show(self, Role::Follower);
        if ended == Err(Error::Stopped)
            && let Ok(mut place) = Arc::try_unwrap(place)
        {
            place.leave()?;
        }
        ended
    }
}

/// Shows what a place at the head of the line means, from change to change, until it means nothing any more.
fn lead(place: &Place, states: &mut States, until: &Until, mut show: impl FnMut(Role)) -> Result<Infallible, Error> {
    let (client, path, token) = (place.client(), place.path(), place.token());
    // What happened while it was in line.
    while let Ok(Some(_)) = states.wait_for(Duration::ZERO) {}
    loop {
        match client.state() {
            SessionState::Connected => {}
            state => {
                show(if state.is_over() { Role::Follower } else { Role::Suspended(token) });
                if until.hear(states.change())?.is_none() {
                    return Err(client.exists(&path).err().map_or(Error::Lost, Error::Client));
                }
                continue;
            }
        }
        let (found, mut gone) = client.pipelined().get_and_watch(&path);
        match until.answer(found) {
            Ok((_, stat)) if stat.czxid == token.0 => {}
            Ok(_) => return Err(Error::Lost),
            Err(why) if why.code() == Some(ErrorCode::NoNode) => return Err(Error::Lost),
            Err(Error::Client(why)) if is_transient(&why) => {
                until.pause_after(&why)?;
                continue;
            }
            Err(why) => return Err(why),
        }
        if client.state() != SessionState::Connected {
            continue;
        }
        show(Role::Leader(token));
        // Whichever it is, everything is looked at again; what is over by then is shown nevertheless.
        if let Either::Other(Some(SessionState::Suspended)) = until.hear_either(gone.event(), states.change())? {
            show(Role::Suspended(token));
        }
    }
}

/// What a candidate of a [`LeaderSelector`] does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// Line up again, behind all others.
    Again,
    /// Be no candidate any more.
    Stop,
}

/// A candidate whose leadership is the run of a function: it leads from the call to the return. The guarantees are those of [`LeaderLatch`], the line that of
/// [`super::Mutex`], so Curator's `LeaderSelector` stands in it, and kazoo's `Election` if its lock is given the pattern of `docs/recipes.md`.
///
/// ```
/// # use zoo::{client::ZooClient, server::ZooServer};
/// # let server = ZooServer::start()?;
/// # let client = ZooClient::connect(server.host())?;
/// use zoo::recipes::{LeaderSelector, Sessions, Then};
///
/// let sessions = Sessions::new(ZooClient::builder(server.host()));
/// let mut turns = 0;
/// LeaderSelector::new(&sessions, "/cleaner", b"host-1").run(|leadership| {
///     println!("leads epoch {}", leadership.token());
///     turns += 1;
///     if turns < 2 { Then::Again } else { Then::Stop }
/// })?;
/// assert_eq!(turns, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LeaderSelector {
    sessions: Sessions,
    path: String,
    id: Vec<u8>,
    stop: Stop,
}

/// A leadership, for the function that leads.
#[derive(Debug)]
pub struct Leadership {
    place: Arc<Place>,
    role: Shown<Role>,
}

impl Leadership {
    /// The epoch.
    #[must_use]
    pub fn token(&self) -> Token {
        self.place.token()
    }

    /// [`Role::Leader`], or what came of it.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role.now()
    }

    /// Waits so long for its end, which is also the wish of [`LeaderSelector::stop`]. True: the function should return.
    #[must_use]
    pub fn is_over_within(&self, patience: Duration) -> bool {
        self.role.wait_for(patience, |role| matches!(role, Role::Over(_))).is_some()
    }

    /// Writes that are carried out only if it lasts at that moment; otherwise part 0 is refused.
    pub fn transaction(&self) -> Transaction<'_> {
        self.place.transaction()
    }
}

impl LeaderSelector {
    /// A candidate at the election of this node.
    #[must_use]
    pub fn new(sessions: &Sessions, path: &str, id: &[u8]) -> Self {
        LeaderSelector { sessions: sessions.clone(), path: path.to_owned(), id: id.to_vec(), stop: Stop::default() }
    }

    /// Lines up, leads by `work` when it is its turn, and so on, until `work` wants no more, another thread calls [`LeaderSelector::stop`], or the
    /// client cannot go on. An expired session ends the leadership and not the candidacy.
    pub fn run(&self, mut work: impl FnMut(&Leadership) -> Then) -> Result<(), Error> {
        loop {
            if self.stop.is_set() {
                return Ok(());
            }
            match self.sessions.current().and_then(|client| self.stand(&client, &mut work)) {
                Ok(Then::Stop) | Err(Error::Stopped) => return Ok(()),
                Ok(Then::Again) => {}
                Err(why) if may_stand_again(&why) => {}
                Err(why) => return Err(why),
            }
        }
    }

    /// Ends the candidacy; a leadership in force is told, and ends when its function returns.
    pub fn stop(&self) {
        self.stop.set();
    }

    fn stand(&self, client: &ZooClient, work: &mut impl FnMut(&Leadership) -> Then) -> Result<Then, Error> {
        let mut states = client.states();
        let line = Line { client: client.clone(), path: self.path.clone(), names: Names::Curator, data: self.id.clone() };
        let place = Arc::new(line.pass(Purpose::Lock, &Until::stopped(&[&self.stop]))?);
        let role = Shown::new(Role::Leader(place.token()));
        let leadership = Leadership { place: place.clone(), role: role.clone() };
        // What the function is told while it runs comes from a thread of its own, which ends with it.
        let done = Stop::default();
        let (watched, watch_until, shown) = (place.clone(), Until::stopped(&[&done, &self.stop]), role.clone());
        let watcher = start_thread("zoo-election", move || {
            let ended = lead(&watched, &mut states, &watch_until, |role| shown.show(role));
            let Err(why) = ended;
            shown.show(Role::Over(why));
        })?;
        let then = work(&leadership);
        done.set();
        drop(watcher.join());
        drop(leadership);
        match Arc::try_unwrap(place).map(|mut place| place.leave()) {
            // It goes on in the background, and with the session at the latest.
            Ok(Err(Error::TimedOut)) => Ok(then),
            Ok(Err(why)) if why.session_is_over() => Ok(then),
            Ok(Err(why)) => Err(why),
            _ => Ok(then),
        }
    }
}

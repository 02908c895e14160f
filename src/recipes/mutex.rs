//! One holder at a time.

use super::line::{Line, Names, Place, Purpose};
use super::wait::Until;
use super::{Error, Token};
use crate::client::{Transaction, ZooClient};
use std::time::Duration;

/// A lock that one session's holder has at a time, in the order in which it was asked for.
///
/// - **Exclusion.** Between the creation and the end of the holder's node nobody else holds it. A holder that was cut off or stood still does not
///   know its end at once: let the resource compare [`Held::token`]s, or write by [`Held::transaction`].
/// - **Order.** First come first served; nobody is overtaken, not by the same process either. It is not reentrant: a thread that asks twice waits for itself.
/// - **Liveness.** A holder or contender that dies makes way when its session ends, by its timeout at the latest.
/// - **Failures.** Lost connections are worked around. [`Error::session_is_over`]: nothing is held any more, a new client is needed.
///   [`Error::Lost`]: somebody has deleted the node of this contender.
/// - **Cost.** Uncontended: one round trip to lock, one to release. A release wakes one contender, which costs it two.
/// - **Others.** Curator's `InterProcessMutex` and kazoo's `Lock` stand in the same line; see [`Names`] and `docs/recipes.md`.
///
/// ```
/// # use zoo::{client::ZooClient, server::ZooServer};
/// # let server = ZooServer::start()?;
/// # let client = ZooClient::connect(server.host())?;
/// use zoo::recipes::Mutex;
///
/// let lock = Mutex::new(&client, "/locks/printer");
/// let first = lock.lock()?;
/// assert!(lock.try_lock()?.is_none(), "somebody holds it");
/// let token = first.token();
/// first.release()?;
/// let second = lock.lock()?;
/// assert!(second.token() > token, "a resource that has seen this one refuses the first");
/// second.transaction().create("/printed", b"", zoo::client::CreateMode::Persistent).commit()?;
/// second.release()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Mutex(Line);

impl Mutex {
    /// The lock at this node, which need not exist.
    #[must_use]
    pub fn new(client: &ZooClient, path: &str) -> Self {
        Mutex(Line::new(client, path))
    }

    /// Whose names the nodes get.
    #[must_use]
    pub fn names(mut self, names: Names) -> Self {
        self.0.names = names;
        self
    }

    /// What others see in [`Mutex::contenders`].
    #[must_use]
    pub fn data(mut self, data: &[u8]) -> Self {
        self.0.data = data.to_vec();
        self
    }

    /// Waits until it is held.
    pub fn lock(&self) -> Result<Held, Error> {
        self.0.pass(Purpose::Lock, &Until::done()).map(Held)
    }

    /// Waits so long; then [`Error::TimedOut`].
    pub fn lock_for(&self, patience: Duration) -> Result<Held, Error> {
        self.0.pass(Purpose::Lock, &Until::within(patience)).map(Held)
    }

    /// Holds it, or finds somebody else before.
    pub fn try_lock(&self) -> Result<Option<Held>, Error> {
        Ok(self.0.try_pass(Purpose::Lock)?.map(Held))
    }

    /// The data of the holder and of all who wait, in their order.
    pub fn contenders(&self) -> Result<Vec<Vec<u8>>, Error> {
        self.0.contenders()
    }
}

/// A lock or a lease that is held. Dropping it releases it in the background; [`Held::release`] waits and tells.
#[must_use = "dropped, it is released"]
#[derive(Debug)]
pub struct Held(pub(super) Place);

impl Held {
    /// Greater than that of everybody who held it before.
    #[must_use]
    pub fn token(&self) -> Token {
        self.0.token()
    }

    /// The node by which it is held.
    #[must_use]
    pub fn path(&self) -> String {
        self.0.path()
    }

    /// Is it, as far as is known here without asking? False while there is no connection: it may be lost by then.
    #[must_use]
    pub fn seems_held(&self) -> bool {
        self.0.seems_held()
    }

    /// Asks the servers, past their caches. [`Error::Lost`]: it is not held any more.
    pub fn confirm(&self) -> Result<(), Error> {
        self.0.confirm()
    }

    /// Writes that happen only if it is held at that moment; otherwise part 0 is refused. Among znodes no other fence is needed.
    pub fn transaction(&self) -> Transaction<'_> {
        self.0.transaction()
    }

    /// Releases it. After [`Error::TimedOut`], without a connection for a session timeout, that goes on in the background.
    pub fn release(mut self) -> Result<(), Error> {
        self.0.leave()
    }
}

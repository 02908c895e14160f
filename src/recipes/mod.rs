//! What clients build from znodes: locks, elections, queues, barriers, counters, groups and caches, on top of [`crate::client`].
//!
//! Each recipe writes its guarantees down where it is defined; `docs/recipes.md` has them side by side. What they have in common:
//!
//! - A write whose answer was lost is never guessed about. Nodes are made with an id of their own in their names and looked for again after
//!   `sync`; other writes go together with a mark that tells whether they happened.
//! - Nobody holds anything longer than a session lives. When it ends, calls end with [`Error::session_is_over`]; recipes that run by themselves
//!   ([`LeaderLatch`], [`PersistentNode`], [`Registration`], [`Cache`]) take their sessions from [`Sessions`] and begin again in a new one.
//! - A process that is stopped for longer than its session may still believe that it holds what others hold by then. Only the resource itself can
//!   refuse it: show it the [`Token`], which grows from holder to holder, or write to znodes by `transaction()` of what is held.
//! - Whoever waits is woken when it is their turn, not when anything changes.
//!
//! ```no_run
//! use zoo::client::ZooClient;
//! use zoo::recipes::Mutex;
//!
//! # fn main() -> Result<(), zoo::recipes::Error> {
//! let client = ZooClient::connect("127.0.0.1:2181")?;
//! let held = Mutex::new(&client, "/locks/printer").lock()?;
//! println!("this printer takes orders with {} or more", held.token());
//! held.release()?;
//! # Ok(())
//! # }
//! ```

mod barrier;
mod cache;
mod counter;
mod election;
mod group;
mod guid;
mod line;
mod mutex;
mod once;
mod persistent;
mod queue;
mod read_write;
mod semaphore;
mod sessions;
mod shown;
mod wait;

pub use barrier::{Barrier, DoubleBarrier, Inside};
pub use cache::{Cache, CachedNode, Change, Freshness, Snapshot};
pub use counter::Counter;
pub use election::{LeaderLatch, LeaderSelector, Leadership, Role, Then};
pub use group::{Group, Member, Pick, Registration, Roster};
pub use line::Names;
pub use mutex::{Held, Mutex};
pub use persistent::{PersistentNode, Standing};
pub use queue::{Taken, WorkQueue};
pub use read_write::ReadWriteLock;
pub use semaphore::Semaphore;
pub use sessions::Sessions;

use crate::client;
use std::fmt;

/// A number that grows from holder to holder: the zxid that created the node by which something is held. A resource that has seen one refuses all below it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Token(pub i64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Why a recipe has no result.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The client could not do it. What the connection's end leaves in the dark has been looked up already, as long as the session lived.
    Client(client::Error),
    /// The time that was given is over. Whatever was begun is taken back, in the background if need be.
    TimedOut,
    /// Its owner wants no more of it.
    Stopped,
    /// What was held is lost: somebody has removed its node while the session lived.
    Lost,
    /// A node holds what is not this recipe's.
    Foreign(String),
}

impl Error {
    /// Is the session over, and everything it held gone with it? Then a new client is needed.
    #[must_use]
    pub fn session_is_over(&self) -> bool {
        matches!(self, Error::Client(why) if why.ends_the_client())
    }

    /// Would the same call, with the same client, make sense and be safe? Nothing has come of this one, and what stood in its way may pass.
    #[must_use]
    pub fn may_be_repeated(&self) -> bool {
        match self {
            Error::Client(why) => why.may_be_repeated(),
            Error::TimedOut => true,
            Error::Stopped | Error::Lost | Error::Foreign(_) => false,
        }
    }

    /// Could it have been carried out all the same? Only the end of the session, and a server that fails by itself, leave that open: whatever else
    /// comes between is looked up.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Error::Client(why) if why.may_have_happened())
    }

    fn code(&self) -> Option<client::ErrorCode> {
        match self {
            Error::Client(why) => why.code(),
            _ => None,
        }
    }
}

impl From<client::Error> for Error {
    fn from(why: client::Error) -> Self {
        Error::Client(why)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Client(why) => why.fmt(f),
            Error::TimedOut => f.write_str("not within the time given"),
            Error::Stopped => f.write_str("stopped by its owner"),
            Error::Lost => f.write_str("what was held is lost: its node was removed"),
            Error::Foreign(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Client(why) => Some(why),
            _ => None,
        }
    }
}

//! A client of ZooKeeper ensembles, this server's or any other's.
//!
//! [`ZooClient`] is one session. Its calls wait for their answers; [`ZooClient::pipelined`] gives the same calls without waiting, as [`Pending`]
//! values that are futures for any runtime. The session outlives connections: it goes on at the next server of the connect string, sets its watches
//! and credentials again, and repeats reads. A write whose answer was lost is never repeated: it ends with [`Error::ConnectionLoss`], and only the caller can
//! know what to do then ([`Error::may_have_happened`]).
//!
//! ```no_run
//! use zoo::client::{CreateMode, ZooClient};
//!
//! # fn main() -> Result<(), zoo::client::Error> {
//! let client = ZooClient::connect("127.0.0.1:2181")?;
//! client.create("/hello", b"world", CreateMode::Persistent)?;
//! let (data, stat) = client.get("/hello")?;
//! client.set_version("/hello", b"again", stat.version)?;
//! assert_eq!(data, b"world");
//! # Ok(())
//! # }
//! ```
//!
//! In async code, [`Builder::start`] makes a client without waiting, and its futures need no particular runtime. A future that is dropped gives up the answer
//! and not the operation. The end of the last handle closes the session and waits for that; whoever closes it before does not wait there.
//!
//! ```no_run
//! use zoo::client::{CreateMode, ZooClient};
//!
//! # async fn example() -> Result<(), zoo::client::Error> {
//! let client = ZooClient::builder("127.0.0.1:2181").start()?;
//! let p = client.pipelined();
//! // Both leave at once, in this order.
//! let (created, set) = (p.create("/hello", b"world", CreateMode::Persistent), p.set_version("/hello", b"again", 0));
//! created.await?;
//! set.await?;
//! let (found, mut watch) = p.get_and_watch("/hello");
//! println!("{} bytes", found.await?.0.len());
//! if let Some(event) = watch.event().await {
//!     println!("{:?} of {}", event.kind, event.path);
//! }
//! p.close().await
//! # }
//! ```

mod blocking;
mod by_name;
mod entry;
mod error;
pub(crate) mod four_letter;
mod hosts;
mod io;
mod members;
mod op;
mod pending;
mod pipelined;
mod preference;
pub mod session;
mod transaction;
mod watch;
mod watches;

pub use crate::base::Stat;
pub use crate::proto::{ErrorCode, EventType};
pub use blocking::{Builder, ZooClient};
pub use entry::{Credentials, Stream};
pub use error::Error;
pub use hosts::{ConnectString, Host, client_addresses};
pub use op::{Acl, AddWatchMode, CreateMode, Op, Reply};
pub use pending::Pending;
pub(crate) use pending::{block_on, lock};
pub use pipelined::{Found, Nullable, Pipelined};
pub use preference::Preference;
pub use transaction::Transaction;
pub use watch::{Notice, Notices, States, StillQuiet, Watch, WatchedEvent};
pub use watches::{WatchKind, WatcherType};

/// Where a session is. Recipes stop relying on what they hold when it is anything but `Connected`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum SessionState {
    /// Not connected yet.
    Connecting,
    /// A server has it.
    Connected,
    /// A server that has lost its ensemble answers reads.
    ConnectedReadOnly,
    /// The connection is lost: the session may go on elsewhere, or expire meanwhile.
    Suspended,
    /// It is over; ephemeral nodes are gone.
    Expired,
    /// A server did not accept the credentials; it is over for this client.
    AuthFailed,
    /// The client has closed it.
    Closed,
}

impl SessionState {
    /// Will it never be connected again?
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, SessionState::Expired | SessionState::AuthFailed | SessionState::Closed)
    }
}

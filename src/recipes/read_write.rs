//! Many readers or one writer.

use super::Error;
use super::line::{Line, Names, Purpose};
use super::mutex::Held;
use super::wait::Until;
use crate::client::ZooClient;
use std::time::Duration;

/// A lock that one writer holds, or any number of readers, in the order in which they asked: a reader behind a waiting writer waits as well, so nobody starves.
///
/// Everything else is as with [`super::Mutex`], which counts as a writer in the same line. It is not reentrant: who holds it for reading and asks for
/// writing waits for itself. The tokens of a writer are greater than those of all before it. Curator's `InterProcessReadWriteLock` and kazoo's `ReadLock`
/// and `WriteLock` stand in the same line, each by its own [`Names`].
///
/// ```
/// # use zoo::{client::ZooClient, server::ZooServer};
/// # let server = ZooServer::start()?;
/// # let client = ZooClient::connect(server.host())?;
/// use zoo::recipes::ReadWriteLock;
///
/// let lock = ReadWriteLock::new(&client, "/locks/table");
/// let (one, two) = (lock.read()?, lock.read()?);
/// assert!(lock.try_write()?.is_none(), "there are readers");
/// one.release()?;
/// two.release()?;
/// lock.write()?.release()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ReadWriteLock(Line);

impl ReadWriteLock {
    /// The lock at this node, which need not exist.
    #[must_use]
    pub fn new(client: &ZooClient, path: &str) -> Self {
        ReadWriteLock(Line::new(client, path))
    }

    /// Whose names the nodes get.
    #[must_use]
    pub fn names(mut self, names: Names) -> Self {
        self.0.names = names;
        self
    }

    /// Waits until it is held for reading.
    pub fn read(&self) -> Result<Held, Error> {
        self.0.pass(Purpose::Read, &Until::done()).map(Held)
    }

    /// Waits so long; then [`Error::TimedOut`].
    pub fn read_for(&self, patience: Duration) -> Result<Held, Error> {
        self.0.pass(Purpose::Read, &Until::within(patience)).map(Held)
    }

    /// Holds it for reading, or finds a writer before.
    pub fn try_read(&self) -> Result<Option<Held>, Error> {
        Ok(self.0.try_pass(Purpose::Read)?.map(Held))
    }

    /// Waits until it is held for writing.
    pub fn write(&self) -> Result<Held, Error> {
        self.0.pass(Purpose::Write, &Until::done()).map(Held)
    }

    /// Waits so long; then [`Error::TimedOut`].
    pub fn write_for(&self, patience: Duration) -> Result<Held, Error> {
        self.0.pass(Purpose::Write, &Until::within(patience)).map(Held)
    }

    /// Holds it for writing, or finds somebody else before.
    pub fn try_write(&self) -> Result<Option<Held>, Error> {
        Ok(self.0.try_pass(Purpose::Write)?.map(Held))
    }
}

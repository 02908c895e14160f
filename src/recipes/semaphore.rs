//! So many holders at a time.

use super::Error;
use super::guid::{Guarded, child, new_guid};
use super::line::{Line, Place, Purpose};
use super::mutex::Held;
use super::wait::{Until, is_transient};
use crate::client::{CreateMode, ZooClient};
use std::time::Duration;

/// A number of leases, each held by one session's holder at a time, in the order in which they were asked for.
///
/// Whoever wants one passes a line of its own first, whose head alone looks at the leases: a lease that is given back wakes one. All clients have to name the
/// same number. Failures are those of [`super::Mutex`]; the token of a lease is greater than those of all that were given out before, but several are valid at a time.
/// Curator's `InterProcessSemaphoreV2` shares leases with it.
///
/// ```
/// # use zoo::{client::ZooClient, server::ZooServer};
/// # let server = ZooServer::start()?;
/// # let client = ZooClient::connect(server.host())?;
/// use zoo::recipes::Semaphore;
///
/// let licences = Semaphore::new(&client, "/licences", 2);
/// let (one, two) = (licences.acquire()?, licences.acquire()?);
/// assert!(licences.try_acquire()?.is_none(), "both are in use");
/// one.release()?;
/// assert!(licences.try_acquire()?.is_some());
/// two.release()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Semaphore {
    gate: Line,
    leases: String,
    count: usize,
}

impl Semaphore {
    /// The semaphore at this node, which need not exist, with so many leases.
    #[must_use]
    pub fn new(client: &ZooClient, path: &str, count: usize) -> Self {
        Semaphore { gate: Line::new(client, &child(path, "locks")), leases: child(path, "leases"), count }
    }

    /// Waits for a lease.
    pub fn acquire(&self) -> Result<Held, Error> {
        self.acquire_until(&Until::done())
    }

    /// Waits so long; then [`Error::TimedOut`].
    pub fn acquire_for(&self, patience: Duration) -> Result<Held, Error> {
        self.acquire_until(&Until::within(patience))
    }

    /// A lease, or none when all are held or others wait already.
    pub fn try_acquire(&self) -> Result<Option<Held>, Error> {
        let Some(mut gate) = self.gate.try_pass(Purpose::Lock)? else { return Ok(None) };
        let until = Until::within(self.gate.client.session_timeout());
        let (mut lease, names) = self.join(&until)?;
        let is_free = match names {
            Some(names) => self.has(&lease, &names)?,
            None => self.has(&lease, &lease.list(&until)?)?,
        };
        if !is_free {
            lease.leave()?;
        }
        gate.leave()?;
        Ok(is_free.then_some(Held(lease)))
    }

    fn acquire_until(&self, until: &Until) -> Result<Held, Error> {
        let mut gate = self.gate.pass(Purpose::Lock, until)?;
        let (lease, mut names) = self.join(until)?;
        loop {
            if let Some(names) = names.take()
                && self.has(&lease, &names)?
            {
                break;
            }
            let (listed, mut change) = self.gate.client.pipelined().children_and_watch(&self.leases);
            match until.answer(listed) {
                Ok((listed, _)) if self.has(&lease, &listed)? => break,
                Ok(_) => drop(until.hear(change.event())?),
                Err(Error::Client(why)) if is_transient(&why) => until.pause_after(&why)?,
                Err(why) => return Err(why),
            }
        }
        match gate.leave() {
            // It is on its way.
            Ok(()) | Err(Error::TimedOut) => Ok(Held(lease)),
            Err(why) => Err(why),
        }
    }

    fn join(&self, until: &Until) -> Result<(Place, Option<Vec<String>>), Error> {
        let (client, parent, prefix) = (&self.gate.client, self.leases.as_str(), format!("_c_{}-lease-", new_guid()?));
        let (mode, parents) = (CreateMode::EphemeralSequential, CreateMode::Container);
        let (node, names) = Guarded { client, parent, prefix, data: b"", mode, parents }.create(until)?;
        Ok((Place::new(client, parent, node), names))
    }

    /// Only the one who has passed the gate can be one too many.
    fn has(&self, lease: &Place, names: &[String]) -> Result<bool, Error> {
        if !lease.is_among(names) {
            return Err(Error::Lost);
        }
        Ok(names.len() <= self.count)
    }
}

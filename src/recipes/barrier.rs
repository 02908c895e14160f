//! Points that processes pass together.

use super::Error;
use super::guid::{delete, ensure};
use super::line::{Line, Place, Purpose, in_order};
use super::wait::{Until, is_transient};
use crate::client::{self, CreateMode, ErrorCode, ZooClient};
use std::collections::BTreeSet;
use std::time::Duration;

/// A barrier that somebody closes and somebody opens; whoever comes while it is closed waits.
///
/// It is a node: closed while that exists, also after those who closed it have gone. Curator's `DistributedBarrier` and kazoo's `Barrier` are the same.
///
/// ```
/// # use std::time::Duration;
/// # use zoo::{client::ZooClient, server::ZooServer};
/// # let server = ZooServer::start()?;
/// # let client = ZooClient::connect(server.host())?;
/// use zoo::recipes::{Barrier, Error};
///
/// let barrier = Barrier::new(&client, "/maintenance");
/// barrier.close()?;
/// assert_eq!(barrier.pass_for(Duration::from_millis(10)), Err(Error::TimedOut));
/// barrier.open()?;
/// barrier.pass()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Barrier {
    client: ZooClient,
    path: String,
}

impl Barrier {
    /// The barrier at this node; open if there is none.
    #[must_use]
    pub fn new(client: &ZooClient, path: &str) -> Self {
        Barrier { client: client.clone(), path: path.to_owned() }
    }

    /// Closes it, if it is open.
    pub fn close(&self) -> Result<(), Error> {
        ensure(&self.client, &self.path, CreateMode::Persistent, &Until::done())
    }

    /// Opens it, if it is closed; all who wait go on.
    pub fn open(&self) -> Result<(), Error> {
        delete(&self.client, &self.path, &Until::done())
    }

    /// Waits until it is open.
    pub fn pass(&self) -> Result<(), Error> {
        until_gone(&self.client, &self.path, &Until::done())
    }

    /// Waits so long; then [`Error::TimedOut`].
    pub fn pass_for(&self, patience: Duration) -> Result<(), Error> {
        until_gone(&self.client, &self.path, &Until::within(patience))
    }
}

/// Waits for the end of a node.
fn until_gone(client: &ZooClient, path: &str, until: &Until) -> Result<(), Error> {
    loop {
        let (found, mut change) = client.pipelined().get_and_watch(path);
        match until.answer(found) {
            Ok(_) => drop(until.hear(change.event())?),
            Err(why) if why.code() == Some(ErrorCode::NoNode) => return Ok(()),
            Err(Error::Client(why)) if is_transient(&why) => until.pause_after(&why)?,
            Err(why) => return Err(why),
        }
    }
}

/// A barrier that a number of members enter together and leave together, round by round.
///
/// - **Entering.** `enter` returns when so many members have come: those of a round are written down once, in the node's data, in the order in which they came. Whoever
///   comes too late for a round waits until that one is over and is in the next one.
/// - **Leaving.** `leave` returns when all members of the round have left. A member whose session ends has left.
/// - Failures are those of [`super::Mutex`]. The nodes are this recipe's own; all clients have to name the same number.
///
/// ```
/// # use zoo::{client::ZooClient, server::ZooServer};
/// # let server = ZooServer::start()?;
/// # let client = ZooClient::connect(server.host())?;
/// use zoo::recipes::{DoubleBarrier, Error};
///
/// let barrier = DoubleBarrier::new(&client, "/stage", 2);
/// let member = || -> Result<(), Error> {
///     let inside = barrier.enter()?; // both are here
///     inside.leave() // both are done
/// };
/// std::thread::scope(|scope| {
///     let other = scope.spawn(member);
///     member().and(other.join().expect("no panic"))
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct DoubleBarrier {
    line: Line,
    count: usize,
}

impl DoubleBarrier {
    /// The barrier at this node, which need not exist, for so many members.
    #[must_use]
    pub fn new(client: &ZooClient, path: &str, count: usize) -> Self {
        DoubleBarrier { line: Line::new(client, path), count }
    }

    /// Waits for the others.
    pub fn enter(&self) -> Result<Inside, Error> {
        self.enter_until(&Until::done())
    }

    /// Waits so long; then [`Error::TimedOut`], and this member has not come.
    pub fn enter_for(&self, patience: Duration) -> Result<Inside, Error> {
        self.enter_until(&Until::within(patience))
    }

    fn enter_until(&self, until: &Until) -> Result<Inside, Error> {
        let (client, path) = (&self.line.client, &self.line.path);
        let (place, _) = self.line.join(Purpose::Member, until)?;
        loop {
            let (found, mut change) = client.pipelined().get_and_watch(path);
            let (round, version) = match until.answer(found) {
                Ok((data, stat)) => (names_in(&data), stat.version),
                Err(Error::Client(why)) if is_transient(&why) => {
                    until.pause_after(&why)?;
                    continue;
                }
                Err(why) => return Err(why),
            };
            let names = place.list(until)?;
            if round.iter().any(|name| place.is_named(name)) {
                return Ok(Inside { place, round });
            }
            if !place.is_among(&names) {
                return Err(Error::Lost);
            }
            if let Some(inside) = names.iter().find(|name| round.contains(*name)) {
                until_gone(client, &super::guid::child(path, inside), until)?;
                continue;
            }
            let come: Vec<&str> = in_order(&names).into_iter().take(self.count).map(|member| member.name).collect();
            if come.len() < self.count {
                until.hear(change.event())?;
                continue;
            }
            match until.answer(client.pipelined().set_version(path, come.join("\n").as_bytes(), version)) {
                Ok(_) | Err(Error::Client(client::Error::Refused(ErrorCode::BadVersion))) => {}
                Err(Error::Client(why)) if is_transient(&why) => until.pause_after(&why)?,
                Err(why) => return Err(why),
            }
        }
    }
}

fn names_in(data: &[u8]) -> BTreeSet<String> {
    String::from_utf8_lossy(data).lines().map(str::to_owned).collect()
}

/// A member of a round. Dropped, it leaves and does not wait for the others.
#[must_use = "dropped, it leaves"]
#[derive(Debug)]
pub struct Inside {
    place: Place,
    round: BTreeSet<String>,
}

impl Inside {
    /// Leaves, and waits until all others have.
    pub fn leave(self) -> Result<(), Error> {
        self.leave_until(&Until::done())
    }

    /// Leaves and waits so long; then [`Error::TimedOut`], and others are still inside.
    pub fn leave_for(self, patience: Duration) -> Result<(), Error> {
        self.leave_until(&Until::within(patience))
    }

    fn leave_until(mut self, until: &Until) -> Result<(), Error> {
        self.place.leave()?;
        // In the order of names: everybody waits for the same one.
        for name in self.round.iter().filter(|name| !self.place.is_named(name)) {
            until_gone(self.place.client(), &self.place.sibling(name), until)?;
        }
        Ok(())
    }
}

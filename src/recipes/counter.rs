//! A number that many change.

use super::Error;
use super::guid::ensure;
use super::once::{Marks, refused_part};
use super::wait::Until;
use crate::client::{CreateMode, ErrorCode, ZooClient};

/// A whole number in a node. Each change happens once, also when its answer was lost; only a session that ends in that moment leaves it open. Changes that meet
/// are tried again by those that come second.
///
/// The node holds decimal digits, or nothing for 0, as kazoo's `Counter` has it. Each client that changes it has an ephemeral node below it.
///
/// ```
/// # use zoo::{client::ZooClient, server::ZooServer};
/// # let server = ZooServer::start()?;
/// # let client = ZooClient::connect(server.host())?;
/// use zoo::recipes::Counter;
///
/// let counter = Counter::open(&client, "/visitors")?;
/// assert_eq!(counter.add(2)?, 2);
/// assert!(!counter.compare_and_set(7, 0)?, "it is not 7");
/// assert_eq!(counter.get()?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Counter {
    client: ZooClient,
    path: String,
    marks: Marks,
}

impl Counter {
    /// The counter at this node, which is made if need be.
    pub fn open(client: &ZooClient, path: &str) -> Result<Self, Error> {
        ensure(client, path, CreateMode::Persistent, &Until::done())?;
        Ok(Counter { client: client.clone(), path: path.to_owned(), marks: Marks::below(path) })
    }

    /// What it is, as the server of this client knows it: never older than what this client has seen.
    pub fn get(&self) -> Result<i64, Error> {
        self.read().map(|(value, _)| value)
    }

    /// Adds to it; what it is then. A sum that is no `i64` is refused with [`Error::Foreign`].
    pub fn add(&self, difference: i64) -> Result<i64, Error> {
        loop {
            let (value, version) = self.read()?;
            let sum =
                value.checked_add(difference).ok_or_else(|| Error::Foreign(format!("{value} + {difference} is too much to be counted")))?;
            if self.replace(version, sum)? {
                return Ok(sum);
            }
        }
    }

    /// Makes it `new` if it is `old`; says whether it was.
    pub fn compare_and_set(&self, old: i64, new: i64) -> Result<bool, Error> {
        loop {
            let (value, version) = self.read()?;
            if value != old {
                return Ok(false);
            }
            if self.replace(version, new)? {
                return Ok(true);
            }
        }
    }

    fn read(&self) -> Result<(i64, i32), Error> {
        let (data, stat) = Until::done().insist(|| self.client.pipelined().get(&self.path))?;
        let text = String::from_utf8_lossy(&data);
        let value = if text.is_empty() { Some(0) } else { text.parse().ok() };
        value.map(|value| (value, stat.version)).ok_or_else(|| Error::Foreign(format!("{} holds no number: {text:?}", self.path)))
    }

    /// False: somebody was faster.
    fn replace(&self, version: i32, value: i64) -> Result<bool, Error> {
        let text = value.to_string();
        match self.marks.commit(&self.client, |t| t.set_version(&self.path, text.as_bytes(), version)) {
            Err(why) if refused_part(&why, 0, ErrorCode::BadVersion) => Ok(false),
            ended => ended.map(|()| true),
        }
    }
}

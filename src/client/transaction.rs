//! Several writes that happen together or not at all.

use super::op::{Acl, CreateMode, Op, Ops, Reply};
use super::pipelined::Pipelined;
use super::{Error, Pending};

/// Collects writes; `commit` sends them as one transaction. A bad path is told by `commit`.
///
/// ```
/// # use zoo::{client::ZooClient, server::ZooServer};
/// # let server = ZooServer::start()?;
/// # let client = ZooClient::connect(server.host())?;
/// use zoo::client::{CreateMode, Error, ErrorCode};
///
/// client.create("/from", b"10", CreateMode::Persistent)?;
/// client.create("/to", b"0", CreateMode::Persistent)?;
/// client.transaction().set_version("/from", b"5", 0).set_version("/to", b"5", 0).commit()?;
/// let late = client.transaction().set("/to", b"10").set_version("/from", b"0", 0).commit();
/// assert_eq!(late, Err(Error::RefusedPart { index: 1, code: ErrorCode::BadVersion }));
/// assert_eq!(client.get("/to")?.0, b"5", "neither was done");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is sent before commit"]
#[derive(Debug)]
pub struct Transaction<'a> {
    client: Pipelined<'a>,
    ops: Result<Vec<Op>, Error>,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(client: Pipelined<'a>) -> Self {
        Transaction { client, ops: Ok(Vec::new()) }
    }

    fn with(mut self, op: impl FnOnce(Ops<'_>) -> Result<Op, Error>) -> Self {
        if let Ok(ops) = &mut self.ops {
            match op(self.client.ops()) {
                Ok(op) => ops.push(op),
                Err(why) => self.ops = Err(why),
            }
        }
        self
    }

    /// A new node that everybody may change.
    pub fn create(self, path: &str, data: &[u8], mode: CreateMode) -> Self {
        self.create_with(path, data, &Acl::open(), mode)
    }

    /// A new node.
    pub fn create_with(self, path: &str, data: &[u8], acl: &[Acl], mode: CreateMode) -> Self {
        self.with(|ops| ops.create(path, Some(data), acl, mode))
    }

    /// The end of a node, whatever its version.
    pub fn delete(self, path: &str) -> Self {
        self.delete_version(path, -1)
    }

    /// The end of a node of this version.
    pub fn delete_version(self, path: &str, version: i32) -> Self {
        self.with(|ops| ops.delete(path, version))
    }

    /// New data, whatever the version.
    pub fn set(self, path: &str, data: &[u8]) -> Self {
        self.set_version(path, data, -1)
    }

    /// New data for a node of this version.
    pub fn set_version(self, path: &str, data: &[u8], version: i32) -> Self {
        self.with(|ops| ops.set(path, data, version))
    }

    /// Nothing happens unless this node has this version (-1: exists).
    pub fn check(self, path: &str, version: i32) -> Self {
        self.with(|ops| ops.check(path, version))
    }

    /// Sends it. The answers come in the order of the operations.
    pub fn send(self) -> Pending<Vec<Reply>> {
        match self.ops {
            Ok(ops) => self.client.multi(&ops),
            Err(why) => Pending::failed(why),
        }
    }

    /// Sends it and waits for the answers.
    pub fn commit(self) -> Result<Vec<Reply>, Error> {
        self.send().wait()
    }
}

//! Every operation, without waiting: requests leave in the order of the calls, answers come as futures.

use super::blocking::Inner;
use super::io::Command;
use super::op::{Acl, AddWatchMode, CreateMode, Op, Ops, Reply};
use super::watch::{News, Watch};
use super::{Error, Pending, Stat, Transaction, WatcherType};
use crate::base::DecodeError;
use crate::proto::ErrorCode;

/// Where the members of an ensemble are to be read.
pub(super) const CONFIG: &str = "/zookeeper/config";

/// A view of a client. Several requests of it, and of others, are on their way at once; the server answers each session's in order.
#[derive(Clone, Copy, Debug)]
pub struct Pipelined<'a> {
    pub(super) inner: &'a Inner,
}

/// What a node holds, `None` if it was given nothing, and what it is.
pub type Nullable = (Option<Vec<u8>>, Stat);

/// What a node holds and is, or why that is not known.
pub type Found = Result<(Vec<u8>, Stat), Error>;

/// An answer that does not fit its operation; the session makes sure that this does not happen.
fn unfit<T>(_: Reply) -> Result<T, Error> {
    Err(Error::BadReply(DecodeError::BadValue("answer", 0)))
}

fn nothing(_: Reply) -> Result<(), Error> {
    Ok(())
}

fn created(reply: Reply) -> Result<(String, Stat), Error> {
    match reply {
        Reply::Created(path, stat) => Ok((path, stat)),
        other => unfit(other),
    }
}

fn stat(reply: Reply) -> Result<Stat, Error> {
    match reply {
        Reply::Stat(Some(stat)) => Ok(stat),
        other => unfit(other),
    }
}

pub(super) fn data(reply: Reply) -> Result<(Vec<u8>, Stat), Error> {
    match reply {
        Reply::Data(data, stat) => Ok((data, stat)),
        Reply::NoData(stat) => Ok((Vec::new(), stat)),
        other => unfit(other),
    }
}

fn maybe_data(reply: Reply) -> Result<(Option<Vec<u8>>, Stat), Error> {
    match reply {
        Reply::NoData(stat) => Ok((None, stat)),
        other => data(other).map(|(data, stat)| (Some(data), stat)),
    }
}

fn maybe_stat(reply: Reply) -> Result<Option<Stat>, Error> {
    match reply {
        Reply::Stat(stat) => Ok(stat),
        other => unfit(other),
    }
}

fn children(reply: Reply) -> Result<(Vec<String>, Stat), Error> {
    match reply {
        Reply::Children(names, stat) => Ok((names, stat)),
        other => unfit(other),
    }
}

/// All parts, or the one that was refused: the others were not carried out because of it.
fn all_parts(reply: Reply) -> Result<Vec<Reply>, Error> {
    let Reply::Parts(parts) = reply else { return unfit(reply) };
    let because = |part: &Result<Reply, Error>| part.as_ref().is_err_and(|e| e.code() != Some(ErrorCode::RuntimeInconsistency));
    if let Some(index) = parts.iter().position(because) {
        let code = parts[index].as_ref().err().and_then(Error::code).unwrap_or(ErrorCode::RuntimeInconsistency);
        return Err(Error::RefusedPart { index, code });
    }
    parts.into_iter().collect()
}

impl<'a> Pipelined<'a> {
    pub(super) fn ops(&self) -> Ops<'a> {
        Ops { chroot: &self.inner.chroot }
    }

    /// Sends an operation that was made by hand.
    pub fn submit<T>(&self, op: Result<Op, Error>, take: fn(Reply) -> Result<T, Error>) -> Pending<T> {
        self.submit_watched(op, take, None)
    }

    fn submit_watched<T>(&self, op: Result<Op, Error>, take: fn(Reply) -> Result<T, Error>, watch: Option<&Watch>) -> Pending<T> {
        match op {
            Err(why) => Pending::failed(why),
            Ok(op) => {
                let (done, pending) = Pending::pair(take);
                self.inner.shared.post(Command::Submit(op, done, watch.map(|w| w.feed.clone())));
                pending
            }
        }
    }

    fn watched<T>(&self, op: Result<Op, Error>, take: fn(Reply) -> Result<T, Error>) -> (Pending<T>, Watch) {
        let (feed, news) = News::exact();
        let watch = Watch { feed, news };
        let failed = op.is_err();
        let pending = self.submit_watched(op, take, Some(&watch));
        if failed {
            watch.feed.end();
        }
        (pending, watch)
    }

    /// A new node that everybody may change; its path.
    pub fn create(&self, path: &str, data: &[u8], mode: CreateMode) -> Pending<String> {
        self.submit(self.ops().create(path, Some(data), &Acl::open(), mode), |reply| created(reply).map(|(path, _)| path))
    }

    /// A new node at a path that the chroot is not put in front of.
    pub(super) fn create_outside(&self, path: &str) -> Pending<()> {
        self.submit(Ops { chroot: "" }.create(path, Some(b""), &Acl::open(), CreateMode::Persistent), nothing)
    }

    /// A new node; its path and what it is.
    pub fn create_with(&self, path: &str, data: &[u8], acl: &[Acl], mode: CreateMode) -> Pending<(String, Stat)> {
        self.submit(self.ops().create(path, Some(data), acl, mode), created)
    }

    /// A new node without data, which is not the same as empty data.
    pub fn create_null(&self, path: &str, acl: &[Acl], mode: CreateMode) -> Pending<(String, Stat)> {
        self.submit(self.ops().create(path, None, acl, mode), created)
    }

    /// The end of a node of this version; -1 is any.
    pub fn delete_version(&self, path: &str, version: i32) -> Pending<()> {
        self.submit(self.ops().delete(path, version), nothing)
    }

    /// What a node is, if there is one.
    pub fn exists(&self, path: &str) -> Pending<Option<Stat>> {
        self.submit(self.ops().exists(path, false), maybe_stat)
    }

    /// Likewise, and a watch for its next change, or its creation.
    pub fn exists_and_watch(&self, path: &str) -> (Pending<Option<Stat>>, Watch) {
        self.watched(self.ops().exists(path, true), maybe_stat)
    }

    /// A node's data.
    pub fn get(&self, path: &str) -> Pending<(Vec<u8>, Stat)> {
        self.submit(self.ops().get(path, false), data)
    }

    /// Likewise, and a watch for its next change. Where there is no node, there is no watch.
    pub fn get_and_watch(&self, path: &str) -> (Pending<(Vec<u8>, Stat)>, Watch) {
        self.watched(self.ops().get(path, true), data)
    }

    /// A node's data, `None` if it was given none.
    pub fn get_nullable(&self, path: &str) -> Pending<Nullable> {
        self.submit(self.ops().get(path, false), maybe_data)
    }

    /// Likewise, and a watch for its next change.
    pub fn get_nullable_and_watch(&self, path: &str) -> (Pending<Nullable>, Watch) {
        self.watched(self.ops().get(path, true), maybe_data)
    }

    /// The members of the ensemble, as in `/zookeeper/config`, whatever the chroot is.
    pub fn config(&self) -> Pending<(Vec<u8>, Stat)> {
        self.submit(Ops { chroot: "" }.get(CONFIG, false), data)
    }

    /// Likewise, and a watch for their next change.
    pub fn config_and_watch(&self) -> (Pending<(Vec<u8>, Stat)>, Watch) {
        self.watched(Ops { chroot: "" }.get(CONFIG, true), data)
    }

    /// New data for a node of this version; -1 is any.
    pub fn set_version(&self, path: &str, data: &[u8], version: i32) -> Pending<Stat> {
        self.submit(self.ops().set(path, data, version), stat)
    }

    /// The names of a node's children, in no order, and what the node is.
    pub fn children(&self, path: &str) -> Pending<(Vec<String>, Stat)> {
        self.submit(self.ops().children(path, false), children)
    }

    /// Likewise, and a watch for the next change of these names.
    pub fn children_and_watch(&self, path: &str) -> (Pending<(Vec<String>, Stat)>, Watch) {
        self.watched(self.ops().children(path, true), children)
    }

    /// A node's access control list.
    pub fn get_acl(&self, path: &str) -> Pending<(Vec<Acl>, Stat)> {
        self.submit(self.ops().get_acl(path), |reply| match reply {
            Reply::Acl(list, stat) => Ok((list, stat)),
            other => unfit(other),
        })
    }

    /// A new one for a node whose list has this version; -1 is any.
    pub fn set_acl(&self, path: &str, acl: &[Acl], version: i32) -> Pending<Stat> {
        self.submit(self.ops().set_acl(path, acl, version), stat)
    }

    /// Answered when the server has everything that was committed when the leader heard of it.
    pub fn sync(&self, path: &str) -> Pending<()> {
        self.submit(self.ops().sync(path), nothing)
    }

    /// The ephemeral nodes of this session whose paths begin so.
    pub fn ephemerals(&self, prefix: &str) -> Pending<Vec<String>> {
        self.submit(self.ops().ephemerals(prefix), |reply| match reply {
            Reply::Paths(paths) => Ok(paths),
            other => unfit(other),
        })
    }

    /// How many nodes there are below one.
    pub fn count_all(&self, path: &str) -> Pending<u64> {
        self.submit(self.ops().count_all(path), |reply| match reply {
            Reply::Count(count) => Ok(count),
            other => unfit(other),
        })
    }

    /// Scheme and name of each identity the server knows this connection by.
    pub fn who_am_i(&self) -> Pending<Vec<(String, String)>> {
        self.submit(Ok(self.ops().who_am_i()), |reply| match reply {
            Reply::Identities(list) => Ok(list),
            other => unfit(other),
        })
    }

    /// A watch that stays, also over connections.
    pub fn add_watch(&self, path: &str, mode: AddWatchMode) -> (Pending<()>, Watch) {
        self.watched(self.ops().add_watch(path, mode), nothing)
    }

    /// Ends every watch of this client on a node.
    pub fn remove_watches(&self, path: &str) -> Pending<()> {
        self.remove_watches_of(path, WatcherType::Any)
    }

    /// Ends this client's watches of some kinds on a node.
    pub fn remove_watches_of(&self, path: &str, which: WatcherType) -> Pending<()> {
        self.submit(self.ops().remove_watches(path, which), nothing)
    }

    /// Changes who belongs to the ensemble: servers that join (`server.N=…`, by commas), ids that leave, or a whole new list; only if
    /// the configuration has this version, -1 being any. The new configuration.
    pub fn reconfig(&self, joining: Option<&str>, leaving: Option<&str>, members: Option<&str>, version: i64) -> Pending<(Vec<u8>, Stat)> {
        self.submit(Ok(self.ops().reconfig(joining, leaving, members, version)), data)
    }

    /// Several writes, all or none; easier by `transaction`.
    pub fn multi(&self, ops: &[Op]) -> Pending<Vec<Reply>> {
        self.submit(Ok(self.ops().multi(ops)), all_parts)
    }

    /// The data of several nodes with one request, each as it is or why not.
    pub fn get_all(&self, paths: &[&str]) -> Pending<Vec<Found>> {
        let ops: Result<Vec<Op>, Error> = paths.iter().map(|path| self.ops().get(path, false)).collect();
        self.submit(ops.map(|ops| self.ops().multi_read(&ops)), |reply| match reply {
            Reply::Parts(parts) => Ok(parts.into_iter().map(|part| part.and_then(data)).collect()),
            other => unfit(other),
        })
    }

    /// Begins a transaction.
    pub fn transaction(&self) -> Transaction<'a> {
        Transaction::new(*self)
    }

    /// Shows credentials, here and at every server from now on.
    pub fn add_auth(&self, scheme: &str, auth: &[u8]) -> Pending<()> {
        let (done, pending) = Pending::pair(nothing);
        self.inner.shared.post(Command::Authenticate { scheme: scheme.to_owned(), auth: auth.to_vec(), done });
        pending
    }

    /// Ends the session: its ephemeral nodes go at once.
    pub fn close(&self) -> Pending<()> {
        self.submit(Ok(self.ops().close()), nothing)
    }
}

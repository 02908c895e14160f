//! Operations as they are sent, and answers as they come back: the one place of the client that knows the protocol's records.

use super::Error;
use super::watches::{WatchKind, WatcherType};
use crate::base::jute::{DecodeError, Reader, Writer};
use crate::base::{Stat, path};
use crate::proto::{ErrorCode, OpCode};

/// What kind of node is made, and how it is named.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum CreateMode {
    /// Stays until it is deleted.
    Persistent,
    /// Goes with the session that made it.
    Ephemeral,
    /// Persistent, its name ended by a number that only grows.
    PersistentSequential,
    /// Ephemeral, its name ended by a number that only grows.
    EphemeralSequential,
    /// Goes some time after its last child.
    Container,
    /// Goes when it has neither children nor been changed for so many milliseconds. Servers have to permit it (`extendedTypesEnabled`).
    PersistentTtl(u64),
    /// Likewise, its name ended by a number that only grows.
    PersistentSequentialTtl(u64),
}

impl CreateMode {
    const fn flags(self) -> i32 {
        match self {
            CreateMode::Persistent => 0,
            CreateMode::Ephemeral => 1,
            CreateMode::PersistentSequential => 2,
            CreateMode::EphemeralSequential => 3,
            CreateMode::Container => 4,
            CreateMode::PersistentTtl(_) => 5,
            CreateMode::PersistentSequentialTtl(_) => 6,
        }
    }

    const fn op(self) -> OpCode {
        match self {
            CreateMode::Container => OpCode::CreateContainer,
            CreateMode::PersistentTtl(_) | CreateMode::PersistentSequentialTtl(_) => OpCode::CreateTtl,
            _ => OpCode::Create2,
        }
    }

    const fn ttl(self) -> Option<u64> {
        match self {
            CreateMode::PersistentTtl(ms) | CreateMode::PersistentSequentialTtl(ms) => Some(ms),
            _ => None,
        }
    }

    const fn is_sequential(self) -> bool {
        matches!(self, CreateMode::PersistentSequential | CreateMode::EphemeralSequential | CreateMode::PersistentSequentialTtl(_))
    }
}

/// One entry of an access control list.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Acl {
    /// Sum of READ 1, WRITE 2, CREATE 4, DELETE 8, ADMIN 16.
    pub perms: i32,
    /// Such as `world`, `auth`, `digest`, `ip`.
    pub scheme: String,
    /// Who, in that scheme.
    pub id: String,
}

impl Acl {
    /// Everybody may do everything: what nodes have unless something else is said.
    #[must_use]
    pub fn open() -> Vec<Acl> {
        vec![Acl { perms: 31, scheme: "world".into(), id: "anyone".into() }]
    }

    /// Everybody may read.
    #[must_use]
    pub fn read_only() -> Vec<Acl> {
        vec![Acl { perms: 1, scheme: "world".into(), id: "anyone".into() }]
    }

    /// Everything for whoever creates it, by the credentials of that connection, and nothing for others.
    #[must_use]
    pub fn creator() -> Vec<Acl> {
        vec![Acl { perms: 31, scheme: "auth".into(), id: String::new() }]
    }
}

/// Which watches `add_watch` sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum AddWatchMode {
    /// Every change of the node and of the names of its children.
    Persistent,
    /// Every change of the node and of all below it, but no separate news of names.
    PersistentRecursive,
}

/// What came back.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reply {
    /// Done, and nothing to tell.
    Nothing,
    /// A new node: its path, with its number if it has one, and what it is.
    Created(String, Stat),
    /// What a node is; `None` from `exists` where there is none.
    Stat(Option<Stat>),
    /// A node's data.
    Data(Vec<u8>, Stat),
    /// A node that was given no data, which is not the same as empty data.
    NoData(Stat),
    /// Names of children, without path.
    Children(Vec<String>, Stat),
    /// An access control list.
    Acl(Vec<Acl>, Stat),
    /// Paths.
    Paths(Vec<String>),
    /// A number of nodes.
    Count(u64),
    /// Scheme and name of each identity of the connection.
    Identities(Vec<(String, String)>),
    /// The answers of several operations, in their order.
    Parts(Vec<Result<Reply, Error>>),
}

/// Understands the body of an answer. Paths in it begin with a chroot of so many bytes.
type Decode = fn(&mut Reader<'_>, usize) -> Result<Reply, DecodeError>;

/// An operation, encoded.
#[derive(Clone, Debug)]
pub struct Op {
    pub(super) code: OpCode,
    pub(super) body: Vec<u8>,
    pub(super) decode: Decode,
    /// The watch that goes with it: where, which, and its path with the chroot.
    pub(super) watch: Option<(WatchKind, String)>,
    /// The watches that it ends, and where.
    pub(super) unwatch: Option<(WatcherType, String)>,
    /// Doing it twice is the same as doing it once, so that it is sent again after a lost connection.
    pub(super) repeatable: bool,
}

/// Makes operations; paths get the chroot in front here.
#[derive(Clone, Copy, Debug)]
pub struct Ops<'a> {
    /// Empty, or `/…`.
    pub chroot: &'a str,
}

impl Ops<'_> {
    /// The two parts of a path as servers know it.
    fn path<'p>(&'p self, client_path: &'p str, sequential: bool) -> Result<[&'p str; 2], Error> {
        // A number will stand behind it, so it may end with a slash.
        if sequential {
            path::validate(&format!("{client_path}1"))?
        } else {
            path::validate(client_path)?
        }
        Ok(match (self.chroot, client_path) {
            ("", p) => ["", p],
            (chroot, "/") if !sequential => [chroot, ""],
            (chroot, p) => [chroot, p],
        })
    }

    fn write(code: OpCode, body: Vec<u8>, decode: Decode) -> Op {
        Op { code, body, decode, watch: None, unwatch: None, repeatable: false }
    }

    fn read(code: OpCode, body: Vec<u8>, decode: Decode) -> Op {
        Op { code, body, decode, watch: None, unwatch: None, repeatable: true }
    }

    /// A new node, with data or without.
    pub fn create(&self, path: &str, data: Option<&[u8]>, acl: &[Acl], mode: CreateMode) -> Result<Op, Error> {
        let mut body = Vec::with_capacity(path.len() + data.map_or(0, <[u8]>::len) + 64);
        put_path(&mut body, self.path(path, mode.is_sequential())?);
        body.put_buffer(data);
        put_acl(&mut body, acl);
        body.put_i32(mode.flags());
        if let Some(ttl) = mode.ttl() {
            body.put_i64(i64::try_from(ttl).unwrap_or(i64::MAX));
        }
        Ok(Self::write(mode.op(), body, created))
    }

    /// The end of a node; version -1 means any.
    pub fn delete(&self, path: &str, version: i32) -> Result<Op, Error> {
        Ok(Self::write(OpCode::Delete, self.path_and(path, |body| body.put_i32(version))?, nothing))
    }

    /// New data; version -1 means any.
    pub fn set(&self, path: &str, data: &[u8], version: i32) -> Result<Op, Error> {
        let body = self.path_and(path, |body| {
            body.put_buffer(Some(data));
            body.put_i32(version);
        })?;
        Ok(Self::write(OpCode::SetData, body, stat))
    }

    /// A new access control list; version -1 means any, else the list's.
    pub fn set_acl(&self, path: &str, acl: &[Acl], version: i32) -> Result<Op, Error> {
        let body = self.path_and(path, |body| {
            put_acl(body, acl);
            body.put_i32(version);
        })?;
        Ok(Self::write(OpCode::SetAcl, body, stat))
    }

    /// Only in a transaction: fails it unless the node has this version.
    pub fn check(&self, path: &str, version: i32) -> Result<Op, Error> {
        Ok(Self::write(OpCode::Check, self.path_and(path, |body| body.put_i32(version))?, nothing))
    }

    /// Whether there is a node, and what it is.
    pub fn exists(&self, path: &str, watch: bool) -> Result<Op, Error> {
        // Where there is none, the watch is for its creation: the kind is corrected when the answer is there.
        self.watched_read(OpCode::Exists, path, watch.then_some(WatchKind::Data), stat)
    }

    /// A node's data.
    pub fn get(&self, path: &str, watch: bool) -> Result<Op, Error> {
        self.watched_read(OpCode::GetData, path, watch.then_some(WatchKind::Data), data)
    }

    /// The names of a node's children.
    pub fn children(&self, path: &str, watch: bool) -> Result<Op, Error> {
        self.watched_read(OpCode::GetChildren2, path, watch.then_some(WatchKind::Child), |r, _| {
            Ok(Reply::Children(strings(r)?, Stat::read(r)?))
        })
    }

    /// A node's access control list.
    pub fn get_acl(&self, path: &str) -> Result<Op, Error> {
        Ok(Self::read(OpCode::GetAcl, self.path_and(path, |_| {})?, |r, _| Ok(Reply::Acl(read_acl(r)?, Stat::read(r)?))))
    }

    /// Waits until the server has what the leader had when it was asked.
    pub fn sync(&self, path: &str) -> Result<Op, Error> {
        Ok(Self::read(OpCode::Sync, self.path_and(path, |_| {})?, nothing))
    }

    /// Every ephemeral node of this session below a path.
    pub fn ephemerals(&self, prefix: &str) -> Result<Op, Error> {
        let decode: Decode = |r, chroot| Ok(Reply::Paths(strings(r)?.into_iter().map(|p| client_path(&p, chroot)).collect()));
        Ok(Self::read(OpCode::GetEphemerals, self.path_and(prefix, |_| {})?, decode))
    }

    /// How many nodes there are below one.
    pub fn count_all(&self, path: &str) -> Result<Op, Error> {
        let decode: Decode = |r, _| Ok(Reply::Count(u64::try_from(r.i32()?).unwrap_or(0)));
        Ok(Self::read(OpCode::GetAllChildrenNumber, self.path_and(path, |_| {})?, decode))
    }

    /// Who this connection is to the server.
    #[must_use]
    pub fn who_am_i(&self) -> Op {
        Self::read(OpCode::WhoAmI, Vec::new(), |r, _| {
            let count = r.count(8)?.unwrap_or(0);
            let one = |r: &mut Reader<'_>| Ok((r.opt_string()?.unwrap_or("").to_owned(), r.opt_string()?.unwrap_or("").to_owned()));
            Ok(Reply::Identities((0..count).map(|_| one(r)).collect::<Result<_, DecodeError>>()?))
        })
    }

    /// A watch that stays.
    pub fn add_watch(&self, path: &str, mode: AddWatchMode) -> Result<Op, Error> {
        let (number, kind) = match mode {
            AddWatchMode::Persistent => (0, WatchKind::Persistent),
            AddWatchMode::PersistentRecursive => (1, WatchKind::Recursive),
        };
        let mut op = Self::read(OpCode::AddWatch, self.path_and(path, |body| body.put_i32(number))?, nothing);
        op.watch = Some((kind, self.path(path, false)?.concat()));
        Ok(op)
    }

    /// Ends this client's watches of some kinds on a node.
    pub fn remove_watches(&self, path: &str, which: WatcherType) -> Result<Op, Error> {
        let mut op = Self::read(OpCode::RemoveWatches, self.path_and(path, |body| body.put_i32(which as i32))?, nothing);
        op.unwatch = Some((which, self.path(path, false)?.concat()));
        Ok(op)
    }

    /// Changes who belongs to the ensemble; `version` -1 means any.
    #[must_use]
    pub fn reconfig(&self, joining: Option<&str>, leaving: Option<&str>, members: Option<&str>, version: i64) -> Op {
        let mut body = Vec::new();
        for list in [joining, leaving, members] {
            body.put_buffer(list.map(str::as_bytes));
        }
        body.put_i64(version);
        Self::write(OpCode::Reconfig, body, data)
    }

    /// Several writes, all or none.
    #[must_use]
    pub fn multi(&self, ops: &[Op]) -> Op {
        Self::write(OpCode::Multi, multi_body(ops), parts)
    }

    /// Several reads at one go, each with its own answer.
    #[must_use]
    pub fn multi_read(&self, ops: &[Op]) -> Op {
        Self::read(OpCode::MultiRead, multi_body(ops), parts)
    }

    /// The end of the session.
    #[must_use]
    pub fn close(&self) -> Op {
        Self::write(OpCode::CloseSession, Vec::new(), nothing)
    }

    fn path_and(&self, path: &str, rest: impl FnOnce(&mut Vec<u8>)) -> Result<Vec<u8>, Error> {
        let mut body = Vec::with_capacity(self.chroot.len() + path.len() + 24);
        put_path(&mut body, self.path(path, false)?);
        rest(&mut body);
        Ok(body)
    }

    fn watched_read(&self, code: OpCode, path: &str, watch: Option<WatchKind>, decode: Decode) -> Result<Op, Error> {
        let mut op = Self::read(code, self.path_and(path, |body| body.put_bool(watch.is_some()))?, decode);
        op.watch = match watch {
            Some(kind) => Some((kind, self.path(path, false)?.concat())),
            None => None,
        };
        Ok(op)
    }
}

/// A path as the caller knows it, from one in an answer, which begins with the chroot.
pub(super) fn client_path(server_path: &str, chroot: usize) -> String {
    match server_path.get(chroot..) {
        Some("") => "/".to_owned(),
        Some(rest) => rest.to_owned(),
        None => server_path.to_owned(),
    }
}

/// The path of an event as the caller knows it. The configuration is nobody's own: it stays outside of every chroot.
pub(super) fn event_path(server_path: &str, chroot: &str) -> String {
    match server_path.strip_prefix(chroot) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => client_path(server_path, chroot.len()),
        _ => server_path.to_owned(),
    }
}

fn nothing(_: &mut Reader<'_>, _: usize) -> Result<Reply, DecodeError> {
    Ok(Reply::Nothing)
}

fn stat(r: &mut Reader<'_>, _: usize) -> Result<Reply, DecodeError> {
    Ok(Reply::Stat(Some(Stat::read(r)?)))
}

fn created(r: &mut Reader<'_>, chroot: usize) -> Result<Reply, DecodeError> {
    Ok(Reply::Created(client_path(r.string()?, chroot), Stat::read(r)?))
}

fn data(r: &mut Reader<'_>, _: usize) -> Result<Reply, DecodeError> {
    Ok(match r.buffer()? {
        Some(data) => Reply::Data(data.to_vec(), Stat::read(r)?),
        None => Reply::NoData(Stat::read(r)?),
    })
}

fn strings(r: &mut Reader<'_>) -> Result<Vec<String>, DecodeError> {
    Ok(r.string_vec()?.iter().map(str::to_owned).collect())
}

fn put_path(body: &mut Vec<u8>, parts: [&str; 2]) {
    body.put_len(parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| body.put_raw(part.as_bytes()));
}

fn put_acl(body: &mut Vec<u8>, acl: &[Acl]) {
    body.put_len(acl.len());
    for entry in acl {
        body.put_i32(entry.perms);
        body.put_string(&entry.scheme);
        body.put_string(&entry.id);
    }
}

fn read_acl(r: &mut Reader<'_>) -> Result<Vec<Acl>, DecodeError> {
    let list = crate::base::AclVec::read(r)?;
    Ok(list.iter().map(|e| Acl { perms: e.perms, scheme: e.scheme.to_owned(), id: e.id.to_owned() }).collect())
}

fn multi_body(ops: &[Op]) -> Vec<u8> {
    let mut body = Vec::new();
    for op in ops {
        // A multi lists children without their parent's Stat.
        let code = if op.code == OpCode::GetChildren2 { OpCode::GetChildren } else { op.code };
        body.put_i32(code as i32);
        body.put_bool(false);
        body.put_i32(-1);
        body.put_raw(&op.body);
    }
    body.put_i32(-1);
    body.put_bool(true);
    body.put_i32(-1);
    body
}

fn parts(r: &mut Reader<'_>, chroot: usize) -> Result<Reply, DecodeError> {
    let mut parts = Vec::new();
    loop {
        let (kind, done, _) = (r.i32()?, r.bool()?, r.i32()?);
        if done {
            return Ok(Reply::Parts(parts));
        }
        parts.push(if kind == -1 { Err(refused(r.i32()?)) } else { Ok(part(kind, r, chroot)?) });
    }
}

fn part(kind: i32, r: &mut Reader<'_>, chroot: usize) -> Result<Reply, DecodeError> {
    Ok(match OpCode::from_i32(kind) {
        Some(OpCode::Create) => Reply::Created(client_path(r.string()?, chroot), Stat::default()),
        Some(OpCode::Create2) => created(r, chroot)?,
        Some(OpCode::Delete | OpCode::Check) => Reply::Nothing,
        Some(OpCode::SetData) => stat(r, chroot)?,
        Some(OpCode::GetData) => data(r, chroot)?,
        Some(OpCode::GetChildren) => Reply::Children(strings(r)?, Stat::default()),
        _ => return Err(DecodeError::BadValue("part of a transaction", i64::from(kind))),
    })
}

/// What a server's error number means to a caller. In a transaction 0 stands for a part that would have been carried out.
pub(super) fn refused(code: i32) -> Error {
    match ErrorCode::from_i32(code) {
        ErrorCode::Ok => Error::Refused(ErrorCode::RuntimeInconsistency),
        known if known.code() == code => known.into(),
        _ => Error::Unexpected(code),
    }
}

//! Nodes with an id of their own: whoever does not hear whether the server has made one looks for it by that.

use super::wait::{Until, in_the_background, is_ambiguous};
use super::{Error, Token};
use crate::base::Stat;
use crate::client::{self, Acl, CreateMode, ErrorCode, ZooClient};
use std::fmt::Write;

/// A random UUID in its usual form.
pub(super) fn new_guid() -> Result<String, Error> {
    let mut bytes = [0u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::Client(client::Error::Io(format!("no random numbers: {e}"))))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// A node that was made by us.
#[derive(Clone, Debug)]
pub(super) struct OwnNode {
    pub(super) name: String,
    pub(super) token: Token,
}

/// What is to be made: a node whose name begins with `prefix`, which nobody else's does.
#[derive(Clone, Debug)]
pub(super) struct Guarded<'a> {
    pub(super) client: &'a ZooClient,
    pub(super) parent: &'a str,
    pub(super) prefix: String,
    pub(super) data: &'a [u8],
    pub(super) mode: CreateMode,
    /// What missing parents become.
    pub(super) parents: CreateMode,
}

impl Guarded<'_> {
    /// Makes it once, whatever becomes of connections; parents are made when they are missing. Also the names of all children, listed right behind it at the
    /// cost of no further round trip, if that went well.
    pub(super) fn create(&self, until: &Until) -> Result<(OwnNode, Option<Vec<String>>), Error> {
        let made = self.attempt(until);
        if matches!(made, Err(Error::TimedOut | Error::Stopped | Error::Client(client::Error::Unexpected(_)))) {
            // The last attempt may be on its way.
            take_back(self.client, self.parent, &self.prefix);
        }
        made
    }

    fn attempt(&self, until: &Until) -> Result<(OwnNode, Option<Vec<String>>), Error> {
        let path = child(self.parent, &self.prefix);
        loop {
            let p = self.client.pipelined();
            let made = p.create_with(&path, self.data, &Acl::open(), self.mode);
            let listed = p.children(self.parent);
            match until.answer(made) {
                Ok((path, stat)) => {
                    let names = until.answer(listed).ok().map(|(names, _)| names);
                    return Ok((own(name_of(&path), &stat), names));
                }
                Err(Error::Client(client::Error::Refused(ErrorCode::NoNode))) => ensure(self.client, self.parent, self.parents, until)?,
                Err(Error::Client(why)) if is_ambiguous(&why) => {
                    if let Some(found) = self.find(until)? {
                        return Ok((found, None));
                    }
                }
                Err(Error::Client(why)) if why.may_be_repeated() => until.pause_after(&why)?,
                Err(why) => return Err(why),
            }
        }
    }

    /// What a lost attempt has left. The servers fence the connection it came by, so behind `sync` it is there or will never be.
    fn find(&self, until: &Until) -> Result<Option<OwnNode>, Error> {
        let Some(name) = find(self.client, self.parent, &self.prefix, until)? else { return Ok(None) };
        let path = child(self.parent, &name);
        Ok(until.insist(|| self.client.pipelined().exists(&path))?.map(|stat| own(&name, &stat)))
    }
}

fn own(name: &str, stat: &Stat) -> OwnNode {
    OwnNode { name: name.to_owned(), token: Token(stat.czxid) }
}

pub(super) fn child(parent: &str, name: &str) -> String {
    format!("{}/{name}", parent.trim_end_matches('/'))
}

pub(super) fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn find(client: &ZooClient, parent: &str, prefix: &str, until: &Until) -> Result<Option<String>, Error> {
    until.insist(|| client.pipelined().sync(parent))?;
    match until.insist(|| client.pipelined().children(parent)) {
        Ok((names, _)) => Ok(names.into_iter().find(|name| name.starts_with(prefix))),
        Err(why) if why.code() == Some(ErrorCode::NoNode) => Ok(None),
        Err(why) => Err(why),
    }
}

/// Sees to it that in the end there is no node with this prefix.
pub(super) fn take_back(client: &ZooClient, parent: &str, prefix: &str) {
    let (parent, prefix) = (parent.to_owned(), prefix.to_owned());
    in_the_background(client, move |client| {
        // Errors that are left mean that the session is over.
        if let Ok(Some(name)) = find(client, &parent, &prefix, &Until::done()) {
            let _ = delete(client, &child(&parent, &name), &Until::done());
        }
    });
}

/// Sees to it that there is no such node.
pub(super) fn delete(client: &ZooClient, path: &str, until: &Until) -> Result<(), Error> {
    match until.insist(|| client.pipelined().delete_version(path, -1)) {
        Err(why) if why.code() == Some(ErrorCode::NoNode) => Ok(()),
        ended => ended,
    }
}

/// Sees to it that there are a node and all above it. Containers, which go by themselves when nobody uses them any more, become plain nodes where servers
/// know none.
pub(super) fn ensure(client: &ZooClient, path: &str, mut mode: CreateMode, until: &Until) -> Result<(), Error> {
    let mut missing = vec![path];
    while let Some(&path) = missing.last() {
        match until.insist(|| client.pipelined().create(path, b"", mode)) {
            Err(why) if why.code() == Some(ErrorCode::NoNode) => match crate::base::path::parent(path).filter(|p| *p != "/") {
                Some(parent) => missing.push(parent),
                None => return Err(why),
            },
            Err(why) if why.code() == Some(ErrorCode::Unimplemented) && mode == CreateMode::Container => mode = CreateMode::Persistent,
            Err(why) if why.code() != Some(ErrorCode::NodeExists) => return Err(why),
            _ => drop(missing.pop()),
        }
    }
    Ok(())
}

//! Transactions that happen once, whatever becomes of connections: each moves the version of a node of this session, by which it is recognised.

use super::Error;
use super::guid::{Guarded, child, new_guid};
use super::wait::{Until, is_ambiguous};
use crate::client::{self, CreateMode, ErrorCode, Transaction, ZooClient, lock};
use std::sync::Mutex;

/// Commits below one node, for all threads of a client, one after another.
#[derive(Debug)]
pub(super) struct Marks {
    parent: String,
    /// Made when it is needed.
    mark: Mutex<Option<Mark>>,
}

impl Marks {
    pub(super) fn below(parent: &str) -> Self {
        Marks { parent: parent.to_owned(), mark: Mutex::new(None) }
    }

    /// Has what is added to a transaction carried out, waiting as long as the session lives. What is refused has not happened.
    pub(super) fn commit<'a>(&self, client: &'a ZooClient, add: impl Fn(Transaction<'a>) -> Transaction<'a>) -> Result<(), Error> {
        let mut slot = lock(&self.mark);
        let mut mark = match slot.take() {
            Some(mark) => mark,
            None => Mark::new(client, &self.parent, &Until::done())?,
        };
        let ended = mark.commit(client, add);
        // One that somebody has deleted is made anew for the next.
        if ended != Err(Error::Lost) {
            *slot = Some(mark);
        }
        ended
    }
}

/// A node that goes with the session, and its version.
#[derive(Debug)]
struct Mark {
    path: String,
    version: i32,
}

impl Mark {
    fn new(client: &ZooClient, parent: &str, until: &Until) -> Result<Self, Error> {
        let prefix = format!("_m_{}", new_guid()?);
        let made =
            Guarded { client, parent, prefix, data: b"", mode: CreateMode::Ephemeral, parents: CreateMode::Persistent }.create(until)?;
        Ok(Mark { path: child(parent, &made.0.name), version: 0 })
    }

    fn commit<'a>(&mut self, client: &'a ZooClient, add: impl Fn(Transaction<'a>) -> Transaction<'a>) -> Result<(), Error> {
        let until = Until::done();
        loop {
            let sent = add(client.transaction().set_version(&self.path, b"", self.version)).send();
            match until.answer(sent) {
                Ok(_) => {
                    self.version += 1;
                    return Ok(());
                }
                Err(Error::Client(why)) if is_ambiguous(&why) => {
                    if self.has_moved(client, &until)? {
                        return Ok(());
                    }
                }
                Err(Error::Client(why)) if why.may_be_repeated() => until.pause_after(&why)?,
                Err(Error::Client(client::Error::RefusedPart { index: 0, .. })) => return Err(Error::Lost),
                Err(Error::Client(client::Error::RefusedPart { index, code })) => {
                    return Err(client::Error::RefusedPart { index: index - 1, code }.into());
                }
                Err(why) => return Err(why),
            }
        }
    }

    fn has_moved(&mut self, client: &ZooClient, until: &Until) -> Result<bool, Error> {
        until.insist(|| client.pipelined().sync(&self.path))?;
        let stat = until.insist(|| client.pipelined().exists(&self.path))?.ok_or(Error::Lost)?;
        let has_moved = stat.version != self.version;
        self.version = stat.version;
        Ok(has_moved)
    }
}

/// Is it one part of a transaction that was refused for this reason?
pub(super) fn refused_part(why: &Error, part: usize, reason: ErrorCode) -> bool {
    matches!(why, Error::Client(client::Error::RefusedPart { index, code }) if *index == part && *code == reason)
}

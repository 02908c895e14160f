//! Transactions that happen once, whatever becomes of connections: each moves the version of a node of this session, by which it is recognised.

use super::Error;
use super::guid::{Guarded, child, new_guid};
use super::wait::{Until, is_ambiguous};
use crate::client::{self, CreateMode, ErrorCode, Reply, Transaction, ZooClient};

/// A node that goes with the session, and its version.
#[derive(Debug)]
pub(super) struct Mark {
    path: String,
    version: i32,
}

impl Mark {
    /// A new one below `parent`, where nobody else's business is disturbed by it.
    pub(super) fn new(client: &ZooClient, parent: &str, until: &Until) -> Result<Self, Error> {
        let prefix = format!("_m_{}", new_guid()?);
        let made =
            Guarded { client, parent, prefix, data: b"", mode: CreateMode::Ephemeral, parents: CreateMode::Persistent }.create(until)?;
        Ok(Mark { path: child(parent, &made.0.name), version: 0 })
    }

    /// Has it carried out, waiting as long as the session lives. The answers of what was added, or none where they are lost. What is refused has not happened.
    pub(super) fn commit<'a>(
        &mut self,
        client: &'a ZooClient,
        add: impl Fn(Transaction<'a>) -> Transaction<'a>,
    ) -> Result<Option<Vec<Reply>>, Error> {
        let until = Until::done();
        loop {
            let sent = add(client.transaction().set_version(&self.path, b"", self.version)).send();
            match until.answer(sent) {
                Ok(mut replies) => {
                    self.version += 1;
                    replies.remove(0);
                    return Ok(Some(replies));
                }
                Err(Error::Client(why)) if is_ambiguous(&why) => {
                    if self.has_moved(client, &until)? {
                        return Ok(None);
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

//! Items for one consumer each, which has to say when it is done with one.

use super::guid::{child, delete, ensure, new_guid};
use super::once::{Marks, refused_part};
use super::wait::{Until, in_the_background, is_ambiguous};
use super::{Error, Token};
use crate::base::Stat;
use crate::client::{CreateMode, ErrorCode, Reply, Transaction, ZooClient};
use std::collections::BTreeSet;
use std::time::Duration;

/// What items have that are put without one.
const PRIORITY: u16 = 100;
/// Three digits, as in the names that kazoo gives them.
const PRIORITY_MAX: u16 = 999;

/// A queue whose items are acknowledged, or given to somebody else.
///
/// - **No item is lost.** What `put` has accepted stays until it is acknowledged. It is put once, also when the answer was lost; only a session that ends in that
///   moment leaves it open ([`crate::client::Error::may_have_happened`]).
/// - **One at a time.** An item is with one consumer; when that one's session ends, or it lets go, it is there for others again. One that stood still for longer
///   than its session does its work beside the next one's: effects among znodes belong into [`Taken::acknowledge_with`], which only one of them can do.
/// - **Acknowledged once.** At most one consumer's acknowledgement of an item succeeds.
/// - **Order.** By priority, 0 first and 999 last, and in one priority first in, first out: that is how items are handed out. Items that come back keep their place.
/// - **Cost.** To take one: a listing and one round trip. Listings grow with the queue: it is for thousands of items, not millions. Idle consumers are all woken by news.
/// - **Others.** The layout is that of kazoo's `LockingQueue`, which may put and take as well.
///
/// ```
/// # use zoo::{client::ZooClient, server::ZooServer};
/// # let server = ZooServer::start()?;
/// # let client = ZooClient::connect(server.host())?;
/// use zoo::recipes::WorkQueue;
///
/// let queue = WorkQueue::open(&client, "/jobs")?;
/// queue.put(b"later")?;
/// queue.put_at(0, b"first")?;
/// let job = queue.take()?;
/// assert_eq!(job.item(), b"first");
/// // The result appears with the end of the item, or not at all.
/// job.acknowledge_with(|t| t.create("/done", b"", zoo::client::CreateMode::Persistent))?;
/// queue.take()?.let_go()?; // somebody else may have it
/// assert_eq!(queue.count()?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct WorkQueue {
    client: ZooClient,
    entries: String,
    taken: String,
    producers: Marks,
}

impl WorkQueue {
    /// The queue at this node, which is made if need be.
    pub fn open(client: &ZooClient, path: &str) -> Result<Self, Error> {
        let [entries, taken, producers] = ["entries", "taken", "producers"].map(|name| child(path, name));
        for part in [&entries, &taken, &producers] {
            ensure(client, part, CreateMode::Persistent, &Until::done())?;
        }
        Ok(WorkQueue { client: client.clone(), entries, taken, producers: Marks::below(&producers) })
    }

    /// Puts an item at the end.
    pub fn put(&self, item: &[u8]) -> Result<(), Error> {
        self.put_all(PRIORITY, &[item])
    }

    /// Puts an item behind all of this priority; those above 999 count as 999.
    pub fn put_at(&self, priority: u16, item: &[u8]) -> Result<(), Error> {
        self.put_all(priority, &[item])
    }

    /// Puts all of them or none.
    pub fn put_all(&self, priority: u16, items: &[&[u8]]) -> Result<(), Error> {
        let path = format!("{}/entry-{:03}-", self.entries, priority.min(PRIORITY_MAX));
        let add = |transaction| {
            items.iter().fold(transaction, |t: Transaction<'_>, item| t.create(&path, item, CreateMode::PersistentSequential))
        };
        self.producers.commit(&self.client, add)
    }

    /// Takes the first item, waiting for one as long as it takes.
    pub fn take(&self) -> Result<Taken, Error> {
        self.take_until(&Until::done())
    }

    /// Likewise, waiting so long; then [`Error::TimedOut`].
    pub fn take_for(&self, patience: Duration) -> Result<Taken, Error> {
        self.take_until(&Until::within(patience))
    }

    /// Takes the first item if there is one.
    pub fn try_take(&self) -> Result<Option<Taken>, Error> {
        self.try_take_until(&Until::done())
    }

    /// How many items there are, those included that somebody has taken.
    pub fn count(&self) -> Result<usize, Error> {
        let stat = Until::done().insist(|| self.client.pipelined().exists(&self.entries))?;
        Ok(stat.map_or(0, |stat| usize::try_from(stat.num_children).unwrap_or(0)))
    }

    fn try_take_until(&self, until: &Until) -> Result<Option<Taken>, Error> {
        let (entries, taken) = until.repeat(|| {
            let p = self.client.pipelined();
            let (entries, taken) = (p.children(&self.entries), p.children(&self.taken));
            Ok((until.answer(entries)?.0, until.answer(taken)?.0))
        })?;
        self.take_one(entries, taken, until)
    }

    fn take_until(&self, until: &Until) -> Result<Taken, Error> {
        loop {
            if let Some(taken) = self.try_take_until(until)? {
                return Ok(taken);
            }
            // Again, with watches: most takers find something and need none.
            let (entries, taken, mut new_entry, mut let_go) = until.repeat(|| {
                let p = self.client.pipelined();
                let (entries, new_entry) = p.children_and_watch(&self.entries);
                let (taken, let_go) = p.children_and_watch(&self.taken);
                Ok((until.answer(entries)?.0, until.answer(taken)?.0, new_entry, let_go))
            })?;
            if let Some(taken) = self.take_one(entries, taken, until)? {
                return Ok(taken);
            }
            until.hear_either(new_entry.event(), let_go.event())?;
        }
    }

    fn take_one(&self, mut entries: Vec<String>, taken: Vec<String>, until: &Until) -> Result<Option<Taken>, Error> {
        let taken: BTreeSet<String> = taken.into_iter().collect();
        entries.retain(|name| !taken.contains(name));
        entries.sort_unstable();
        for name in entries {
            if let Some(taken) = self.try_to_take(&name, until)? {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    /// `None`: somebody else was faster.
    fn try_to_take(&self, name: &str, until: &Until) -> Result<Option<Taken>, Error> {
        let id = new_guid()?;
        let (entry, claim) = (child(&self.entries, name), child(&self.taken, name));
        let won = self.claim(&entry, &claim, &id, until);
        if matches!(won, Err(Error::TimedOut | Error::Stopped)) {
            in_the_background(&self.client, move |client| unclaim(client, &claim, &id));
            return won.map(|_| None);
        }
        let Some(stat) = won? else { return Ok(None) };
        let mut taken = Taken { client: self.client.clone(), entry, claim, item: Vec::new(), token: Token(stat.czxid), is_settled: false };
        match until.insist(|| self.client.pipelined().get(&taken.entry)) {
            Ok((item, _)) => {
                taken.item = item;
                Ok(Some(taken))
            }
            // Somebody has emptied the queue by hand.
            Err(why) if why.code() == Some(ErrorCode::NoNode) => taken.let_go().map(|()| None),
            Err(why) => Err(why),
        }
    }

    fn claim(&self, entry: &str, claim: &str, id: &str, until: &Until) -> Result<Option<Stat>, Error> {
        let mut is_in_doubt = false;
        loop {
            let sent = self.client.transaction().check(entry, -1).create(claim, id.as_bytes(), CreateMode::Ephemeral).send();
            match until.answer(sent) {
                Ok(parts) => match parts.into_iter().nth(1) {
                    Some(Reply::Created(_, stat)) => return Ok(Some(stat)),
                    _ => is_in_doubt = true,
                },
                Err(why) if refused_part(&why, 1, ErrorCode::NodeExists) => {
                    return if is_in_doubt { claimed_by(&self.client, claim, id, until) } else { Ok(None) };
                }
                Err(why) if refused_part(&why, 0, ErrorCode::NoNode) => return Ok(None),
                Err(Error::Client(why)) if is_ambiguous(&why) => is_in_doubt = true,
                Err(Error::Client(why)) if why.may_be_repeated() => until.pause_after(&why)?,
                Err(why) => return Err(why),
            }
        }
    }
}

/// What the claim is, if it is the one with this id.
fn claimed_by(client: &ZooClient, claim: &str, id: &str, until: &Until) -> Result<Option<Stat>, Error> {
    until.insist(|| client.pipelined().sync(claim))?;
    match until.insist(|| client.pipelined().get(claim)) {
        Ok((data, stat)) => Ok(Some(stat).filter(|_| data == id.as_bytes())),
        Err(why) if why.code() == Some(ErrorCode::NoNode) => Ok(None),
        Err(why) => Err(why),
    }
}

/// What is left of an attempt that nobody waits for any more.
fn unclaim(client: &ZooClient, claim: &str, id: &str) {
    if let Ok(Some(_)) = claimed_by(client, claim, id, &Until::done()) {
        drop(delete(client, claim, &Until::done()));
    }
}

/// An item for whoever holds this. Dropped, it goes back to the queue, in the background.
#[must_use = "dropped, the item goes back to the queue"]
#[derive(Debug)]
pub struct Taken {
    client: ZooClient,
    entry: String,
    claim: String,
    item: Vec<u8>,
    token: Token,
    is_settled: bool,
}

impl Taken {
    /// What was put.
    #[must_use]
    pub fn item(&self) -> &[u8] {
        &self.item
    }

    /// Its name, the same for everybody who gets it.
    #[must_use]
    pub fn name(&self) -> &str {
        super::guid::name_of(&self.entry)
    }

    /// Greater than that of everybody who had this item before.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    /// The work is done and the item gone. [`Error::Lost`]: it was taken away from this consumer.
    pub fn acknowledge(self) -> Result<(), Error> {
        self.acknowledge_with(|transaction| transaction)
    }

    /// Likewise, together with other writes, or none of it: the results of an item appear exactly once. In [`crate::client::Error::RefusedPart`] the writes are
    /// numbered from 2; the item is back in the queue then.
    pub fn acknowledge_with(mut self, add: impl for<'a> Fn(Transaction<'a>) -> Transaction<'a>) -> Result<(), Error> {
        let until = Until::done();
        let client = self.client.clone();
        loop {
            match until.answer(add(client.transaction().delete(&self.claim).delete(&self.entry)).send()) {
                Ok(_) => break,
                Err(why) if refused_part(&why, 0, ErrorCode::NoNode) || refused_part(&why, 1, ErrorCode::NoNode) => {
                    self.is_settled = true;
                    return Err(Error::Lost);
                }
                Err(Error::Client(why)) if is_ambiguous(&why) => {
                    until.insist(|| client.pipelined().sync(&self.claim))?;
                    let still_there = until.insist(|| client.pipelined().exists(&self.claim))?;
                    if still_there.is_none_or(|stat| stat.czxid != self.token.0) {
                        break;
                    }
                }
                Err(Error::Client(why)) if why.may_be_repeated() => until.pause_after(&why)?,
                Err(why) => return Err(why),
            }
        }
        self.is_settled = true;
        Ok(())
    }

    /// Puts it back where it was, for somebody else.
    pub fn let_go(mut self) -> Result<(), Error> {
        self.is_settled = true;
        delete(&self.client, &self.claim, &Until::done())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.is_settled && !self.client.state().is_over() {
            let claim = std::mem::take(&mut self.claim);
            in_the_background(&self.client, move |client| drop(delete(client, &claim, &Until::done())));
        }
    }
}

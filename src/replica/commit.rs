//! From prepared to published: batches grow while the disk works, and leave whole and in order once they are durable.
//!
//! A batch is sealed when a flush is asked for, so it holds what that flush covers (entries that need no flush travel along in
//! their order: A9). It is released when everything up to its last zxid may be published: is durable, and in an ensemble committed. There
//! the two do not come in the same steps, so a batch may be released in parts.
//!
//! While a member of an ensemble has no role it has no clients: its transactions are *silent*, without entries, and publishing them only
//! moves `applied`. What is ordered meanwhile (to cut a connection) waits for none of them.

use crate::base::{ConnKey, SessionId, Zxid, path};
use crate::handoff::{Batch, Control, Entry, Event, Reply, ShardSet, path_hash};
use crate::proto::ErrorCode;
use crate::tree::NodeEvent;
use imbl::OrdSet;
use std::collections::VecDeque;
use std::ops::Range;

/// A batch above this is sealed early, so that shards get it in pieces.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Room a new batch gets because the one before it was as large: entries (and events), bytes.
const BATCH_ROOM_MAX: (usize, usize) = (1 << 10, 64 << 10);

/// Batches on their way.
pub(super) struct Groups {
    sealed: VecDeque<Batch>,
    open: Batch,
    /// Transactions in them.
    outstanding: usize,
    /// Replies in them: what clients of this server wait for.
    own_outstanding: usize,
    /// Last zxid of the last batch handed out.
    released: Zxid,
    /// Transactions above `released` and up to here are silent.
    silent: Zxid,
    /// The tree they belong to.
    tree: u64,
    committed: u64,
}

impl Groups {
    pub(super) fn new(applied: Zxid) -> Self {
        Groups {
            sealed: VecDeque::new(),
            open: Batch { last_zxid: applied, ..Batch::default() },
            outstanding: 0,
            own_outstanding: 0,
            released: applied,
            silent: applied,
            tree: 0,
            committed: 0,
        }
    }

    /// Where reply frames are written.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.open.bytes
    }

    /// Transactions that are not published.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// What clients of this server wait for, a sync too.
    pub(super) fn own_outstanding(&self) -> usize {
        self.own_outstanding
    }

    /// Transactions handed out for publication in this run.
    pub(super) fn committed(&self) -> u64 {
        self.committed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.open.entries.is_empty()
    }

    /// The role is lost: nobody is told any more what is not published; it is silent from now on.
    pub(super) fn forget_clients(&mut self) {
        self.silent = self.silent.max(self.sealed.back().map_or(self.released, |b| b.last_zxid)).max(self.open.last_zxid);
        self.sealed.clear();
        self.open = self.empty(self.released);
        (self.outstanding, self.own_outstanding) = (0, 0);
    }

    /// A transaction without entries.
    pub(super) fn silent(&mut self, zxid: Zxid) {
        assert!(zxid > self.silent && self.outstanding == 0, "{zxid} is silent before {} or with clients", self.silent);
        self.silent = zxid;
    }

    /// There are clients again: what is added from now on comes after the silent part.
    pub(super) fn expect_clients(&mut self) {
        self.seal();
        self.open.last_zxid = self.silent.max(self.released);
    }

    /// Silent transactions above `zxid` have been undone.
    pub(super) fn undo_above(&mut self, zxid: Zxid) {
        assert!(self.outstanding == 0 && zxid >= self.released, "only what nobody was told of is undone");
        self.silent = self.silent.min(zxid);
    }

    /// Another tree, at `applied`. Orders that are still here go to the readers of the new one.
    pub(super) fn replace_tree(&mut self, applied: Zxid) -> u64 {
        assert!(self.outstanding == 0, "a tree is replaced when nobody is served");
        self.seal();
        self.tree += 1;
        (self.released, self.silent) = (applied, applied);
        for batch in &mut self.sealed {
            (batch.last_zxid, batch.tree) = (applied, self.tree);
        }
        self.open = self.empty(applied);
        self.tree
    }

    /// Adds a transaction with its events and the reply made by `reply_since`.
    pub(super) fn txn(&mut self, zxid: Zxid, events: &[NodeEvent], reply: Option<Reply>, closed: Option<SessionId>) {
        assert!(zxid > self.open.last_zxid, "{zxid} prepared after {}", self.open.last_zxid);
        let first = self.open.events.len() as u32;
        for event in events {
            let event = self.event(event);
            self.open.events.push(event);
        }
        if let Some(reply) = &reply {
            self.open.shards.insert(reply.conn.shard);
            self.own_outstanding += 1;
        }
        let events = first..self.open.events.len() as u32;
        self.open.entries.push(Entry::Txn { zxid, events, reply, closed });
        self.open.last_zxid = zxid;
        self.outstanding += 1;
    }

    /// Adds an answer without a transaction.
    pub(super) fn answer(&mut self, reply: Reply) {
        self.open.shards.insert(reply.conn.shard);
        self.own_outstanding += 1;
        self.open.entries.push(Entry::Answer(reply));
    }

    /// What is added from now on is published when this round is confirmed.
    pub(super) fn await_round(&mut self, round: u64) {
        if self.open.round != round {
            self.seal();
            self.open.round = round;
        }
    }

    /// Adds a control for every shard.
    pub(super) fn control_all(&mut self, control: Control) {
        self.open.shards = ShardSet::ALL;
        self.open.entries.push(Entry::Control(control));
    }

    /// Adds a list of ephemerals, for the shard of `conn` to answer with.
    pub(super) fn ephemerals(&mut self, conn: ConnKey, cells: OrdSet<u32>, prefix: &str) {
        self.open.shards.insert(conn.shard);
        self.open.entries.push(Entry::Ephemerals { conn, cells, prefix: prefix.into() });
    }

    /// Adds a control for the shard of `conn`.
    pub(super) fn control(&mut self, conn: ConnKey, control: Control) {
        self.open.shards.insert(conn.shard);
        self.open.entries.push(Entry::Control(control));
    }

    /// Adds a control for the shards of two connections.
    pub(super) fn control_both(&mut self, one: ConnKey, other: ConnKey, control: Control) {
        self.open.shards.insert(other.shard);
        self.control(one, control);
    }

    /// The reply whose frame was appended to `bytes` since `start`.
    pub(super) fn reply_since(&self, start: usize, conn: ConnKey, err: ErrorCode, close: bool) -> Reply {
        Reply { conn, frame: self.range_since(start), err, close }
    }

    /// The next entries go to a new batch.
    pub(super) fn seal(&mut self) {
        if !self.open.entries.is_empty() {
            let next = self.successor();
            self.sealed.push_back(std::mem::replace(&mut self.open, next));
        }
    }

    /// Seals a batch that has become large.
    pub(super) fn seal_if_large(&mut self) {
        if self.open.bytes.len() >= BATCH_BYTES_MAX {
            self.seal();
        }
    }

    /// The oldest sealed batch, if all of it may be published.
    pub(super) fn take_sealed(&mut self, limit: Zxid) -> Option<Batch> {
        if self.sealed.front()?.last_zxid > limit {
            return None;
        }
        self.sealed.pop_front().map(|batch| self.release(batch))
    }

    /// The open batch, if all of it may be published and nothing is before it.
    pub(super) fn take_open(&mut self, limit: Zxid) -> Option<Batch> {
        if !self.sealed.is_empty() || self.open.entries.is_empty() || self.open.last_zxid > limit {
            return None;
        }
        let next = self.successor();
        let batch = std::mem::replace(&mut self.open, next);
        Some(self.release(batch))
    }

    /// For a member of an ensemble: whatever may be published, be it part of a batch, or silent. Rounds up to `confirmed` are.
    pub(super) fn take_any(&mut self, limit: Zxid, confirmed: u64) -> Option<Batch> {
        let first = self.sealed.front().unwrap_or(&self.open);
        let waits_for_none = first.last_zxid <= self.released && !first.entries.is_empty();
        if !waits_for_none && self.silent > self.released {
            let to = limit.min(self.silent);
            if to <= self.released {
                return None;
            }
            // What is ordered from now on comes after it.
            self.open.last_zxid = self.open.last_zxid.max(to);
            return Some(self.release(self.empty(to)));
        }
        if first.round > confirmed {
            return None;
        }
        let limit = limit.max(self.released);
        let whole = self.take_sealed(limit).or_else(|| self.take_open(limit));
        whole.or_else(|| {
            let released = self.released;
            let part = split(self.sealed.front_mut().unwrap_or(&mut self.open), released, limit)?;
            Some(self.release(part))
        })
    }

    fn release(&mut self, batch: Batch) -> Batch {
        assert!(batch.last_zxid >= self.released, "batches leave in order");
        self.released = batch.last_zxid;
        let (mut txns, mut own) = (0, 0);
        for entry in &batch.entries {
            match entry {
                Entry::Txn { reply, .. } => {
                    txns += 1;
                    own += usize::from(reply.is_some());
                }
                Entry::Answer(_) => own += 1,
                Entry::Ephemerals { .. } | Entry::Control(_) => {}
            }
        }
        self.outstanding -= txns;
        self.own_outstanding -= own;
        self.committed += txns as u64;
        batch
    }

    fn empty(&self, last_zxid: Zxid) -> Batch {
        Batch { last_zxid, tree: self.tree, ..Batch::default() }
    }

    /// Follows the open batch. Under load a group is about as large as the one before.
    fn successor(&self) -> Batch {
        let (entries, bytes) = BATCH_ROOM_MAX;
        Batch {
            entries: Vec::with_capacity(self.open.entries.len().min(entries)),
            events: Vec::with_capacity(self.open.events.len().min(entries)),
            bytes: Vec::with_capacity(self.open.bytes.len().min(bytes)),
            ..self.empty(self.open.last_zxid)
        }
    }

    fn event(&mut self, event: &NodeEvent) -> Event {
        let start = self.open.bytes.len();
        self.open.bytes.extend_from_slice(event.path.as_bytes());
        let hash = path_hash(&event.path);
        let parent = event.parent_acl.as_ref().and_then(|_| path::parent(&event.path));
        Event {
            kind: event.kind,
            path: self.range_since(start),
            acl: event.acl.clone(),
            parent_acl: event.parent_acl.clone(),
            hash,
            parent_hash: parent.map_or(hash, path_hash),
        }
    }

    fn range_since(&self, start: usize) -> Range<u32> {
        let end = self.open.bytes.len();
        assert!(start <= end && end <= u32::MAX as usize, "a batch has outgrown its offsets");
        start as u32..end as u32
    }
}

/// Takes the part off a batch's front that has no transaction above `limit`. Bytes and events lie in the order of the entries.
fn split(batch: &mut Batch, released: Zxid, limit: Zxid) -> Option<Batch> {
    let beyond = |entry: &Entry| matches!(entry, Entry::Txn { zxid, .. } if *zxid > limit);
    let at = batch.entries.iter().position(beyond).filter(|at| *at > 0)?;
    let mut entries = batch.entries.split_off(at);
    let first_event = entries.iter().find_map(|e| if let Entry::Txn { events, .. } = e { Some(events.start) } else { None }).unwrap_or(0);
    let first_byte = entries.iter().find_map(|e| first_byte_of(e, &batch.events)).unwrap_or(batch.bytes.len() as u32);
    let mut events = batch.events.split_off(first_event as usize);
    let bytes = batch.bytes.split_off(first_byte as usize);
    events.iter_mut().for_each(|event| shift(&mut event.path, first_byte));
    for entry in &mut entries {
        match entry {
            Entry::Txn { events, reply, .. } => {
                shift(events, first_event);
                reply.iter_mut().for_each(|reply| shift(&mut reply.frame, first_byte));
            }
            Entry::Answer(reply) => shift(&mut reply.frame, first_byte),
            Entry::Ephemerals { .. } | Entry::Control(_) => {}
        }
    }
    let &mut Batch { last_zxid, tree, round, shards, passed, .. } = batch;
    let rest = Batch { last_zxid, tree, round, entries, bytes, events, shards, passed };
    let mut part = std::mem::replace(batch, rest);
    let last = part.entries.iter().rev().find_map(|e| if let Entry::Txn { zxid, .. } = e { Some(*zxid) } else { None });
    part.last_zxid = last.unwrap_or(released);
    Some(part)
}

/// Where the bytes begin that an entry refers to.
fn first_byte_of(entry: &Entry, events: &[Event]) -> Option<u32> {
    match entry {
        Entry::Txn { reply: Some(reply), .. } | Entry::Answer(reply) => Some(reply.frame.start),
        Entry::Txn { events: range, reply: None, .. } if !range.is_empty() => events.get(range.start as usize).map(|e| e.path.start),
        Entry::Txn { .. } | Entry::Ephemerals { .. } | Entry::Control(_) => None,
    }
}

fn shift(range: &mut Range<u32>, by: u32) {
    *range = range.start - by..range.end - by;
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;

//! From prepared to published: batches grow while the disk works, and leave whole and in order once they are durable.
//!
//! A batch is sealed when a flush is asked for, so it holds what that flush covers (entries that need no flush travel along in
//! their order: A9). It is released when the log's durable zxid has reached its last one.

use crate::base::{ConnKey, Zxid, path};
use crate::handoff::{Batch, Control, Entry, Event, Reply, path_hash};
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
    /// Last zxid of the last batch handed out.
    released: Zxid,
    committed: u64,
}

impl Groups {
    pub(super) fn new(applied: Zxid) -> Self {
        Groups { sealed: VecDeque::new(), open: empty(applied), outstanding: 0, released: applied, committed: 0 }
    }

    /// Where reply frames are written.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.open.bytes
    }

    /// Transactions that are not published.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Transactions handed out for publication in this run.
    pub(super) fn committed(&self) -> u64 {
        self.committed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.open.entries.is_empty()
    }

    /// Adds a transaction with its events and the reply made by `reply_since`.
    pub(super) fn txn(&mut self, zxid: Zxid, events: &[NodeEvent], reply: Option<Reply>, closed: Option<crate::base::SessionId>) {
        assert!(zxid > self.open.last_zxid, "{zxid} prepared after {}", self.open.last_zxid);
        let first = self.open.events.len() as u32;
        for event in events {
            let event = self.event(event);
            self.open.events.push(event);
        }
        if let Some(reply) = &reply {
            self.open.shards.insert(reply.conn.shard);
        }
        let events = first..self.open.events.len() as u32;
        self.open.entries.push(Entry::Txn { zxid, events, reply, closed });
        self.open.last_zxid = zxid;
        self.outstanding += 1;
    }

    /// Adds an answer without a transaction.
    pub(super) fn answer(&mut self, reply: Reply) {
        self.open.shards.insert(reply.conn.shard);
        self.open.entries.push(Entry::Answer(reply));
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

    /// The reply whose frame was appended to `bytes` since `start`.
    pub(super) fn reply_since(&self, start: usize, conn: ConnKey, err: ErrorCode, close: bool) -> Reply {
        Reply { conn, frame: self.range_since(start), err, close }
    }

    /// The next entries go to a new batch.
    pub(super) fn seal(&mut self) {
        if !self.open.entries.is_empty() {
            let next = successor(&self.open);
            self.sealed.push_back(std::mem::replace(&mut self.open, next));
        }
    }

    /// Seals a batch that has become large.
    pub(super) fn seal_if_large(&mut self) {
        if self.open.bytes.len() >= BATCH_BYTES_MAX {
            self.seal();
        }
    }

    /// The oldest sealed batch, if all of it is durable.
    pub(super) fn take_sealed(&mut self, durable: Zxid) -> Option<Batch> {
        if self.sealed.front()?.last_zxid > durable {
            return None;
        }
        self.sealed.pop_front().map(|batch| self.release(batch))
    }

    /// The open batch, if all of it is durable and nothing is before it.
    pub(super) fn take_open(&mut self, durable: Zxid) -> Option<Batch> {
        if !self.sealed.is_empty() || self.open.entries.is_empty() || self.open.last_zxid > durable {
            return None;
        }
        let next = successor(&self.open);
        let batch = std::mem::replace(&mut self.open, next);
        Some(self.release(batch))
    }

    fn release(&mut self, batch: Batch) -> Batch {
        assert!(batch.last_zxid >= self.released, "batches leave in order");
        self.released = batch.last_zxid;
        let txns = batch.entries.iter().filter(|e| matches!(e, Entry::Txn { .. })).count();
        self.outstanding -= txns;
        self.committed += txns as u64;
        batch
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

fn empty(last_zxid: Zxid) -> Batch {
    Batch { last_zxid, ..Batch::default() }
}

/// Under load a group is about as large as the one before.
fn successor(batch: &Batch) -> Batch {
    let (entries, bytes) = BATCH_ROOM_MAX;
    Batch {
        entries: Vec::with_capacity(batch.entries.len().min(entries)),
        events: Vec::with_capacity(batch.events.len().min(entries)),
        bytes: Vec::with_capacity(batch.bytes.len().min(bytes)),
        ..empty(batch.last_zxid)
    }
}

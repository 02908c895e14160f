//! The connections of a shard by number, and what the reactor has to be told about them.

use super::listing::Piecewise;
use super::moving::{Arrival, Leaving};
use super::watch::ClientSlot;
use super::{Close, PAUSED_ALIVE_MS_MAX, ShardConfig};
use crate::base::limits::CONN_PENDING_BYTES_MAX;
use crate::base::{ConnId, Instant};
use crate::conn::{Connection, Phase};
use std::collections::VecDeque;

/// Low bits of a `ConnId` that say where the connection lies; the rest counts accepted connections.
const SLOT_BITS: u32 = 24;

/// One connection and its standing with the reactor.
pub(super) struct Client {
    pub(super) id: ConnId,
    pub(super) conn: Connection,
    /// Its next request found the replica's queue full.
    pub(super) blocked: bool,
    /// Its next request must wait until everything in front of it is answered.
    pub(super) must_wait: bool,
    /// It is in the shard's list of those that wait for a listing of somebody else to end.
    pub(super) awaits_listings: bool,
    /// It is in the shard's list of connections to be processed.
    pub(super) ready: bool,
    /// Its output is above the limit and being watched.
    pub(super) stalled: bool,
    /// It is to go to another shard.
    pub(super) leaving: Option<Leaving>,
    /// It is a place for a connection that comes from another shard.
    pub(super) arrival: Option<Box<Arrival>>,
    /// The long listing it is being sent.
    pub(super) listing: Option<Box<Piecewise>>,
    /// The reactor reads from it.
    reading: bool,
    /// It is in the list of connections with output.
    transmit: bool,
    /// It is counted in `Clients::waiting`.
    waiting: bool,
    /// The reactor has been told to close it.
    closing: bool,
    /// It is to be closed when its listing is complete.
    closes_after_listing: bool,
}

/// All connections of a shard.
#[derive(Default)]
pub(super) struct Clients {
    slots: Vec<Option<Box<Client>>>,
    free: Vec<ClientSlot>,
    accepted: u64,
    waiting: usize,
    /// Long listings under way.
    listings: usize,
    transmits: VecDeque<ConnId>,
    closes: VecDeque<(ConnId, Close)>,
    read_changes: VecDeque<(ConnId, bool)>,
    words: VecDeque<(ConnId, [u8; 4], Vec<u8>)>,
}

impl Client {
    /// May its next request be looked at? When not, it is not read either (back-pressure).
    pub(super) fn may_process(&self, config: &ShardConfig) -> bool {
        let order = &self.conn.order;
        matches!(self.conn.phase, Phase::AwaitConnect | Phase::Serving { .. })
            && !self.conn.ended
            && !self.blocked
            && !self.must_wait
            && !matches!(self.leaving, Some(Leaving::Draining(_) | Leaving::Told(_)))
            && order.len() < config.session_outstanding_max
            && order.bytes() < CONN_PENDING_BYTES_MAX
            && !self.is_clogged(config)
    }

    /// It takes its output more slowly than it asks for more: it is not read until it has caught up, and closed when it takes nothing.
    pub(super) fn is_clogged(&self, config: &ShardConfig) -> bool {
        self.conn.output.len() > config.out_buffer_bytes_max / 2
    }

    /// ZooKeeper's interest in its socket: 1 to read, 4 to write.
    pub(super) fn interest(&self) -> u8 {
        let reads = self.reading && matches!(self.conn.phase, Phase::AwaitConnect | Phase::Serving { .. });
        u8::from(reads) | if self.conn.output.is_empty() { 0 } else { 4 }
    }

    /// It takes nothing, and what it is sent all the same has grown too large: it is given up.
    pub(super) fn has_too_much(&self, config: &ShardConfig) -> bool {
        self.conn.output.len() > config.out_buffer_bytes_max.saturating_mul(2)
    }

    /// Nor is it read while what it has sent waits for the shard's next turn.
    fn may_read(&self, config: &ShardConfig) -> bool {
        !self.ready && self.may_process(config)
    }

    /// The reactor is to be told when it may read from it.
    pub(super) fn wait_to_read(&mut self) {
        self.reading = false;
    }

    /// Was the reactor told not to read from it?
    pub(super) fn is_paused(&self) -> bool {
        !self.reading
    }

    /// When its client was last alive as far as we can tell (A17).
    pub(super) fn alive_at(&self, now: Instant, config: &ShardConfig) -> Instant {
        let paused_by_us = !self.reading || !self.may_read(config);
        if paused_by_us && now.since_ms(self.conn.heard) <= PAUSED_ALIVE_MS_MAX { now } else { self.conn.heard }
    }
}

impl Clients {
    pub(super) fn insert(&mut self, conn: Connection) -> ConnId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as ClientSlot
        });
        assert!(slot < 1 << SLOT_BITS, "more connections than a process can have");
        self.accepted += 1;
        let id = ConnId(self.accepted << SLOT_BITS | u64::from(slot));
        let client = Client {
            id,
            conn,
            blocked: false,
            must_wait: false,
            awaits_listings: false,
            ready: false,
            stalled: false,
            leaving: None,
            arrival: None,
            listing: None,
            reading: true,
            transmit: false,
            waiting: false,
            closing: false,
            closes_after_listing: false,
        };
        self.slots[slot as usize] = Some(Box::new(client));
        id
    }

    pub(super) fn remove(&mut self, id: ConnId) -> Option<Box<Client>> {
        let slot = self.slot(id)?;
        let client = self.slots[slot as usize].take()?;
        self.waiting -= usize::from(client.waiting);
        self.listings -= usize::from(client.listing.is_some());
        self.free.push(slot);
        Some(client)
    }

    pub(super) fn slot(&self, id: ConnId) -> Option<ClientSlot> {
        let slot = (id.0 & ((1 << SLOT_BITS) - 1)) as ClientSlot;
        self.at(slot).filter(|c| c.id == id).map(|_| slot)
    }

    pub(super) fn at(&self, slot: ClientSlot) -> Option<&Client> {
        self.slots.get(slot as usize)?.as_deref()
    }

    pub(super) fn at_mut(&mut self, slot: ClientSlot) -> Option<&mut Client> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&Client> {
        self.slot(id).and_then(|slot| self.at(slot))
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Client> {
        self.slot(id).and_then(|slot| self.at_mut(slot))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.slots.iter().filter_map(|c| c.as_deref())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.slots.iter_mut().filter_map(|c| c.as_deref_mut())
    }

    /// Connections with something that awaits the replica; while there are any, reads may come at old zxids.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Long listings under way.
    pub(super) fn listings(&self) -> usize {
        self.listings
    }

    /// A connection's next reply is made in pieces.
    pub(super) fn begin_listing(&mut self, id: ConnId, listing: Piecewise) {
        let Some(client) = self.get_mut(id) else { return };
        client.conn.output.begin_pieces();
        client.listing = Some(Box::new(listing));
        self.listings += 1;
    }

    /// The last piece is made, or the connection needs none any more.
    pub(super) fn end_listing(&mut self, id: ConnId) -> Option<Box<Piecewise>> {
        let client = self.get_mut(id)?;
        let listing = client.listing.take()?;
        client.conn.output.end_pieces();
        if std::mem::take(&mut client.closes_after_listing) {
            self.closes.push_back((id, Close::AfterOutput));
        }
        self.listings -= 1;
        Some(listing)
    }

    /// After a connection has changed: queues it for sending, tells changes of its reading state, counts whether it waits.
    pub(super) fn update(&mut self, id: ConnId, config: &ShardConfig) {
        let Some(slot) = self.slot(id) else { return };
        let Some(client) = self.slots[slot as usize].as_deref_mut() else { return };
        if !client.transmit && !client.conn.output.bytes().is_empty() {
            client.transmit = true;
            self.transmits.push_back(id);
        }
        let reading = client.may_read(config);
        if client.reading != reading && client.conn.phase != Phase::Closing {
            client.reading = reading;
            self.read_changes.push_back((id, reading));
        }
        let waiting = !client.conn.order.is_idle() || matches!(client.conn.phase, Phase::AwaitAttach { .. });
        if client.waiting != waiting {
            client.waiting = waiting;
            if waiting {
                self.waiting += 1;
            } else {
                self.waiting -= 1;
            }
        }
    }

    /// Nothing more is processed for this connection; the reactor closes it.
    pub(super) fn close(&mut self, id: ConnId, how: Close) {
        let Some(slot) = self.slot(id) else { return };
        let Some(client) = self.slots[slot as usize].as_deref_mut() else { return };
        client.conn.phase = Phase::Closing;
        client.conn.order.clear();
        client.conn.input.clear();
        if client.waiting {
            client.waiting = false;
            self.waiting -= 1;
        }
        if !client.transmit && !client.conn.output.bytes().is_empty() {
            client.transmit = true;
            self.transmits.push_back(id);
        }
        if client.listing.is_some() && !client.closing && how == Close::AfterOutput {
            client.closing = true;
            client.closes_after_listing = true;
        } else if !client.closing {
            client.closing = true;
            self.closes.push_back((id, how));
        } else if client.closes_after_listing && how == Close::Now {
            client.closes_after_listing = false;
            self.closes.push_back((id, how));
        }
    }

    pub(super) fn four_letter(&mut self, id: ConnId, word: [u8; 4], argument: Vec<u8>) {
        self.words.push_back((id, word, argument));
    }

    /// Connections with bytes to send.
    pub(super) fn transmits(&self) -> usize {
        self.transmits.len()
    }

    pub(super) fn poll_transmit(&mut self) -> Option<ConnId> {
        while let Some(id) = self.transmits.pop_front() {
            if let Some(client) = self.get_mut(id) {
                client.transmit = false;
                return Some(id);
            }
        }
        None
    }

    pub(super) fn poll_close(&mut self) -> Option<(ConnId, Close)> {
        self.closes.pop_front()
    }

    pub(super) fn poll_read_change(&mut self) -> Option<(ConnId, bool)> {
        self.read_changes.pop_front()
    }

    pub(super) fn poll_four_letter(&mut self) -> Option<(ConnId, [u8; 4], Vec<u8>)> {
        self.words.pop_front()
    }
}

//! Connections on their way from one shard to another of the same server, each with its session, its watches and what it has been sent.
//!
//! The giver asks the taker for a place, and then looks at no more requests of the connection. When everything in front is answered it tells the
//! replica, which makes the new place the session's owner and says so in the stream (`Control::Moved`), in the same step. Both shards find that
//! at the same point of history:
//! - the giver takes the connection out there: all events before it are in its output, none after it;
//! - the taker remembers where it was. When the connection has arrived, and it may be much further by then, it registers the watches and lets
//!   those events that came in between fire for this connection alone, from the stream, which it has kept.
//!
//! So no event is lost or doubled, no shard waits for another, and the connection's reads never go back: the taker is not before that point.
//! Who closes meanwhile gives the place back; a place that the replica has made an owner without anybody coming is detached.

use super::clients::Client;
use super::watch::{ClientSlot, Modes, Table, Watched};
use super::{Close, Shard};
use crate::base::{ConnId, ConnKey, Instant, SessionId, ShardId, path};
use crate::conn::{Connection, Phase};
use crate::handoff::{Batch, Entry, Event, Subscriber, ToReplica};
use crate::proto::EventType;
use std::net::SocketAddr;

/// A connection with more watches stays where it is: they would be registered in one turn.
const WATCHES_MOVED_MAX: usize = 1_024;

/// How far a connection is on its way to another shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leaving {
    /// A place was asked for; it is served as always.
    Asked,
    /// It has a place. Its next request is not looked at; what is in front of it is being answered.
    Draining(ConnKey),
    /// The replica has been told.
    Told(ConnKey),
}

impl Leaving {
    fn place(self) -> Option<ConnKey> {
        match self {
            Leaving::Asked => None,
            Leaving::Draining(to) | Leaving::Told(to) => Some(to),
        }
    }
}

/// A place that is kept for a connection of another shard.
#[derive(Default)]
pub(super) struct Arrival {
    /// The session is ours since this point of the stream.
    since: Option<Since>,
    departed: Option<Box<Departed>>,
}

/// A point in the stream.
struct Since {
    session: SessionId,
    /// At the batch that holds it.
    stream: Subscriber<Batch>,
    /// The entry behind it.
    entry: usize,
}

/// A connection between two shards.
#[derive(Debug)]
pub struct Departed {
    conn: Connection,
    watches: Vec<Watched>,
}

/// What the reactor has to do with other shards.
#[derive(Debug)]
pub enum Handover {
    /// Ask shard `to` for a place (`Shard::reserve`); the answer goes to `reserved`.
    Reserve {
        /// Who wants to go.
        conn: ConnId,
        /// Where.
        to: ShardId,
        /// Its address.
        peer: SocketAddr,
    },
    /// Give the place back (`Shard::release`).
    Release(ConnKey),
    /// The connection is gone from this shard, and its socket goes to the place with it (`Shard::arrive`).
    Depart {
        /// Who it was here.
        conn: ConnId,
        /// Its place.
        to: ConnKey,
        /// All the shard had of it.
        departed: Box<Departed>,
    },
}

impl Shard {
    /// Begins to give so many connections to another shard, if there are so many that can go; those heard from last first.
    pub fn give_away(&mut self, to: ShardId, connections: usize) {
        let can_go = |client: &&Client| can_go(client) && client.leaving.is_none();
        let mut all: Vec<(Instant, ConnId)> = self.clients.iter().filter(can_go).map(|c| (c.conn.heard, c.id)).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        let few = |id: &ConnId| self.clients.slot(*id).is_some_and(|slot| self.watches.client_count(slot) <= WATCHES_MOVED_MAX);
        let chosen: Vec<ConnId> = all.into_iter().map(|(_, id)| id).filter(few).take(connections).collect();
        for conn in chosen {
            if let Some(client) = self.clients.get_mut(conn) {
                client.leaving = Some(Leaving::Asked);
                self.handovers.push_back(Handover::Reserve { conn, to, peer: client.conn.peer });
            }
        }
    }

    /// What is to be done with other shards next.
    pub fn poll_handover(&mut self) -> Option<Handover> {
        self.handovers.pop_front()
    }

    /// A place for a connection of another shard.
    pub fn reserve(&mut self, now: Instant, peer: SocketAddr) -> ConnId {
        let id = self.clients.insert(Connection::arriving(peer, now));
        if let Some(client) = self.clients.get_mut(id) {
            client.arrival = Some(Box::default());
        }
        id
    }

    /// Another shard has a place for this connection.
    pub fn reserved(&mut self, now: Instant, conn: ConnId, to: ConnKey) {
        match self.clients.get_mut(conn) {
            Some(client) if can_go(client) && client.leaving == Some(Leaving::Asked) => client.leaving = Some(Leaving::Draining(to)),
            Some(client) => {
                client.leaving = None;
                return self.handovers.push_back(Handover::Release(to));
            }
            None => return self.handovers.push_back(Handover::Release(to)),
        }
        self.clients.update(conn, &self.config);
        self.go_on_leaving(now, conn);
    }

    /// Tells the replica, once everything in front is answered.
    pub(super) fn go_on_leaving(&mut self, now: Instant, id: ConnId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let Some(Leaving::Draining(to)) = client.leaving else { return };
        let Phase::Serving { session, .. } = client.conn.phase else { return };
        if client.conn.order.is_idle() && !client.blocked && client.listing.is_none() && !client.awaits_listings {
            client.leaving = Some(Leaving::Told(to));
            // What was heard so far counts for the new owner.
            let heard = client.alive_at(now, &self.config);
            self.tell(ToReplica::Move { from: self.key(id), to, session, heard });
        }
    }

    /// The connection closes: it needs its place in another shard no more.
    pub(super) fn leaves_no_more(&mut self, id: ConnId) {
        let leaving = self.clients.get_mut(id).and_then(|client| client.leaving.take());
        if let Some(to) = leaving.and_then(Leaving::place) {
            self.handovers.push_back(Handover::Release(to));
        }
    }

    /// The replica has moved a session: this is the point of history at which its connection goes from one shard to another.
    pub(super) fn moved(&mut self, now: Instant, from: ConnKey, to: ConnKey, session: SessionId) {
        if from.shard == self.id {
            self.depart(from.conn, to);
        }
        if to.shard == self.id {
            self.expect(now, to, session);
        }
    }

    fn depart(&mut self, id: ConnId, to: ConnKey) {
        let Some(slot) = self.clients.slot(id) else { return };
        // One that is closing has given its place back.
        if self.clients.get(id).is_none_or(|c| c.leaving != Some(Leaving::Told(to)) || c.conn.phase == Phase::Closing) {
            return;
        }
        let watches = self.watches.take_client(slot);
        if let Some(client) = self.clients.remove(id) {
            self.totals.moved += 1;
            self.handovers.push_back(Handover::Depart { conn: id, to, departed: Box::new(Departed { conn: client.conn, watches }) });
        }
    }

    fn expect(&mut self, now: Instant, at: ConnKey, session: SessionId) {
        let arrival = self.clients.get_mut(at.conn).filter(|c| c.conn.phase == Phase::Arriving).and_then(|c| c.arrival.as_mut());
        let Some(arrival) = arrival else {
            // Its connection has closed before it could come; the session must not seem connected.
            return self.tell(ToReplica::Detach { conn: at, session, heard: now });
        };
        arrival.since = Some(Since { session, stream: self.stream.clone(), entry: self.cursor.next() });
        if arrival.departed.is_some() {
            self.arrivals.push_back(at.conn);
        }
    }

    /// Nobody will come to this place.
    pub fn release(&mut self, now: Instant, at: ConnId) {
        let Some(client) = self.clients.get_mut(at) else { return };
        let Some(arrival) = client.arrival.take() else { return };
        if let Some(since) = arrival.since {
            self.tell(ToReplica::Detach { conn: self.key(at), session: since.session, heard: now });
        }
        self.clients.remove(at);
    }

    /// The connection is here. False when its place is gone: the session was closed or went elsewhere meanwhile, or this server has lost its role.
    #[must_use]
    pub fn arrive(&mut self, at: ConnId, departed: Box<Departed>) -> bool {
        let arrival = self.clients.get_mut(at).filter(|c| c.conn.phase == Phase::Arriving).and_then(|c| c.arrival.as_mut());
        let Some(arrival) = arrival else { return false };
        let is_expected = arrival.since.is_some();
        arrival.departed = Some(departed);
        if is_expected {
            self.arrivals.push_back(at);
        }
        true
    }

    /// Those that are here and expected are served from now on. The stream is consumed, and no event is half told.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(id) = self.arrivals.pop_front() {
            let Some(slot) = self.clients.slot(id) else { continue };
            let Some(client) = self.clients.get_mut(id).filter(|c| c.conn.phase == Phase::Arriving) else { continue };
            let Some(arrival) = client.arrival.take() else { continue };
            let (Some(since), Some(departed)) = (arrival.since, arrival.departed) else { continue };
            client.conn = departed.conn;
            client.wait_to_read();
            for Watched { path, table, modes } in &departed.watches {
                self.watches.add(*table, path, slot, *modes);
            }
            if !departed.watches.is_empty() {
                self.catch_up_events(now, slot, since);
            }
            self.totals.arrived += 1;
            if self.clients.get(id).is_some_and(|c| c.conn.input.is_empty()) {
                self.touched(now, id);
            } else {
                self.put_off(id);
            }
        }
    }

    /// The events between the point at which the connection was taken out and where this shard is now, for this connection alone.
    fn catch_up_events(&mut self, now: Instant, slot: ClientSlot, since: Since) {
        let Since { mut stream, entry, .. } = since;
        let mut first = entry;
        while let Some(batch) = stream.peek().filter(|batch| batch.position() <= self.stream.position()) {
            for entry in batch.entries.iter().skip(first) {
                let Entry::Txn { zxid, events, .. } = entry else { continue };
                for event in &batch.events[events.start as usize..events.end as usize] {
                    let (own, of_parent) = self.fire_for(slot, batch.path(event), event);
                    let at = batch.path(event);
                    // Each is told whatever this turn has done: there is one connection to tell.
                    if own {
                        self.begin_turn();
                        self.notify(now, *zxid, event.kind, at, &event.acl, &[slot]);
                    }
                    if let Some((acl, parent)) = event.parent_acl.as_ref().zip(path::parent(at)).filter(|_| of_parent) {
                        self.begin_turn();
                        self.notify(now, *zxid, EventType::NodeChildrenChanged, parent, acl, &[slot]);
                    }
                }
            }
            first = 0;
            stream.advance();
        }
    }

    /// Does the event concern this connection: the node itself, its parent's children? Standard watches are spent by that, as in `fire`.
    fn fire_for(&mut self, slot: ClientSlot, at: &str, event: &Event) -> (bool, bool) {
        let mut own = self.watches.fire_one(Table::Data, at, slot);
        if event.kind == EventType::NodeDeleted {
            own |= self.watches.fire_one(Table::Child, at, slot);
        }
        let parent = event.parent_acl.as_ref().and_then(|_| path::parent(at));
        (own, parent.is_some_and(|parent| self.watches.fire_one(Table::Child, parent, slot)))
    }

    /// This server has lost its role: places that were made owners are nobody's. Their connections are closed when they come.
    pub(super) fn cut_arrivals(&mut self) {
        let expected = |c: &&Client| c.arrival.as_ref().is_some_and(|arrival| arrival.since.is_some());
        let all: Vec<ConnId> = self.clients.iter().filter(expected).map(|c| c.id).collect();
        all.into_iter().for_each(|id| self.silence(id, Some(Close::Now)));
    }
}

/// Nothing about it keeps it here for good.
fn can_go(client: &Client) -> bool {
    matches!(client.conn.phase, Phase::Serving { .. }) && !client.conn.ended && !client.conn.read_only && client.listing.is_none()
}

impl Watched {
    /// One registration.
    pub(super) fn new(path: &str, table: Table, modes: Modes) -> Self {
        Watched { path: path.into(), table, modes }
    }
}

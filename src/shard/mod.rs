//! One core's brain: its connections, its read zxid, its watches; pure.
//!
//! The reactor's turn, per connection with bytes: recv into `input(conn)` → `received(now, conn, n)` (which loads `applied`, drains the stream,
//! then serves: rule A3) → `poll_transmit` until `None`: send `output(conn)` → `poll_close`. On a wake-up from the replica: `drain(now)`, then the same polls.
//! A shard never waits and never calls the replica: what it has to say goes into the replica's inbox, what it hears comes from the stream.
//!
//! No call takes long (rules B2, B5): each does about `turn_cost_max` of work and leaves the rest. While `has_work` says so, `drain` is to be
//! called again, after other connections and tasks had their turn. What is cut: the consumption of the stream (`apply`), also within one
//! transaction; the requests of one connection (`route`); long listings (`listing`).
//!
//! Invariants: nothing leaves a shard for a zxid above the `applied` it has loaded (A2); a session's requests take effect and are
//! answered in the order sent, each read at the zxid of the write before it (A4); an event leaves before any reply that shows its
//! cause (P10); while a read may still be served at an old zxid, the tree's reader holds it (A5); no request is looked at while the stream
//! is not consumed up to an `applied` that was loaded after its bytes came (A3).

mod apply;
mod clients;
mod listing;
mod moving;
mod path_index;
mod pieces;
mod read;
mod report;
mod route;
mod shedding;
mod slow;
mod watch;

use crate::base::{ConnId, ConnKey, Instant, SessionId, ShardId, Zxid};
use crate::conn::{Connection, Latency, Phase};
use crate::handoff::bell::FILTER_BITS;
use crate::handoff::{Batch, Bell, Inbox, Subscriber, ToReplica};
use crate::metrics::ShardMetrics;
use crate::tree::TreeReader;
use apply::Cursor;
use clients::Clients;
use slow::Slow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use watch::Watches;

pub use moving::{Departed, Handover};
pub use report::{ConnReport, Detail, ShardReport};
pub use slow::SlowRequest;

/// Size of the buffer all connections receive into.
const RECEIVE_BYTES: usize = 64 << 10;
/// How long a connection that we do not read counts as alive at most (A17).
const PAUSED_ALIVE_MS_MAX: u64 = 120_000;
/// The answer to a four-letter word counts as a packet for each so many bytes, which is what ZooKeeper sends it in.
const TEXT_BYTES_PER_PACKET: usize = 8192;

/// Settings of a shard; a small struct by value.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct ShardConfig {
    pub frame_bytes_max: usize,
    pub out_buffer_bytes_max: usize,
    pub watches_per_session_max: usize,
    pub session_outstanding_max: usize,
    /// What one call does, in the units of `SHARD_TURN_COST_MAX`.
    pub turn_cost_max: usize,
    /// Nodes a listing looks at in one turn; one of no more children is answered at once.
    pub listing_nodes_per_turn: usize,
    /// Operations in one multi: more is refused with -5.
    pub multi_ops_max: usize,
    /// A request that takes so long is told of (`poll_slow`).
    pub slow_request_ms: Option<u64>,
    /// A connection that has not finished its connect request is closed after this long.
    pub sessionless_ms: u64,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    /// `super:<base64 of SHA-1>`.
    pub super_digest: Option<String>,
    pub digest_auth_enabled: bool,
    pub skip_acl: bool,
    pub hash_seed: u64,
}

/// One core's connections, watches and reads.
pub struct Shard {
    id: ShardId,
    config: ShardConfig,
    reader: TreeReader,
    stream: Subscriber<Batch>,
    to_replica: Arc<Inbox<ToReplica>>,
    bell: Arc<Bell>,
    /// The zxid reads are served at: that of the last entry consumed.
    at: Zxid,
    /// The `applied` up to which the stream is being consumed.
    goal: Zxid,
    /// The place in the next batch, when a turn ended within it.
    cursor: Cursor,
    /// What this turn has done so far.
    spent: usize,
    /// What those before it have done.
    work: u64,
    /// The tree's reader is registered and holds something.
    holding: bool,
    clients: Clients,
    watches: Watches,
    /// What must reach the replica and found its queue full. Bounded by the number of connections.
    held: VecDeque<ToReplica>,
    kick: bool,
    /// Connections whose next request found the replica's queue full.
    blocked: Vec<ConnId>,
    /// Connections with received bytes that may be processed when the stream is consumed. They are not read meanwhile.
    ready: VecDeque<ConnId>,
    /// Connections whose listing can go on.
    listings: VecDeque<ConnId>,
    /// Connections whose next request is a long listing, when there are too many under way.
    listing_waits: VecDeque<ConnId>,
    /// Connections that have not sent their connect request yet, by deadline.
    handshakes: VecDeque<(Instant, ConnId)>,
    /// When the replica was last told which sessions were heard from.
    all_told: Instant,
    /// Which tree `reader` reads; batches of a later one wait for its reader.
    tree: u64,
    /// Connections whose sessions the replica takes for silent: their sockets are to be read before it is told so.
    reaps: VecDeque<ConnId>,
    /// What is to be done with other shards.
    handovers: VecDeque<Handover>,
    /// Connections of other shards that are here and have not been served yet.
    arrivals: VecDeque<ConnId>,
    /// Connections that are to be closed if nothing is in their sockets.
    sheds: VecDeque<ConnId>,
    /// So many were.
    shed: u64,
    stalls: Vec<Stall>,
    totals: Totals,
    metrics: ShardMetrics,
    slow: Slow,
    /// What connections without left-over bytes receive into; lent to `Input` while they are worked on.
    receive: Vec<u8>,
    /// Scratch of `notify`: the packet that all watchers of an event get.
    packet: Vec<u8>,
}

/// A connection that does not take what is sent to it.
struct Stall {
    conn: ConnId,
    deadline: Instant,
    sent_total: u64,
}

#[derive(Clone, Copy, Default)]
struct Totals {
    received: u64,
    received_bytes: u64,
    sent: u64,
    sent_bytes: u64,
    latency: Latency,
    /// Reply frames: the last one's size, and the extremes.
    reply_bytes: Option<(usize, usize, usize)>,
    auth_failed: u64,
    connect_requests: u64,
    half_open_closed: u64,
    /// Connections given to other shards, and got from them.
    moved: u64,
    arrived: u64,
    /// Connections closed so that their clients go to other servers.
    shed: u64,
}

/// What the reactor does with a connection after `poll_transmit`/`poll_close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Send what is in `output`, then shut down and close.
    AfterOutput,
    /// Close at once.
    Now,
}

impl Shard {
    /// A shard without connections, at the position of `stream`.
    #[must_use]
    pub fn new(id: ShardId, config: ShardConfig, reader: TreeReader, stream: Subscriber<Batch>, to_replica: Arc<Inbox<ToReplica>>) -> Self {
        let bell = Arc::new(Bell::new(stream.position(), FILTER_BITS));
        Self::with_bell(id, config, reader, stream, to_replica, bell)
    }

    /// The same with a doorbell made before, for when the replica's side must know it first.
    #[must_use]
    pub fn with_bell(
        id: ShardId,
        config: ShardConfig,
        reader: TreeReader,
        stream: Subscriber<Batch>,
        to_replica: Arc<Inbox<ToReplica>>,
        bell: Arc<Bell>,
    ) -> Self {
        let at = reader.applied();
        let watches = Watches::new(bell.clone(), config.hash_seed);
        Shard {
            id,
            config,
            reader,
            stream,
            to_replica,
            bell,
            at,
            goal: at,
            cursor: Cursor::default(),
            spent: 0,
            work: 0,
            holding: false,
            clients: Clients::default(),
            watches,
            held: VecDeque::new(),
            kick: false,
            blocked: Vec::new(),
            ready: VecDeque::new(),
            listings: VecDeque::new(),
            listing_waits: VecDeque::new(),
            handshakes: VecDeque::new(),
            all_told: Instant(0),
            tree: 0,
            reaps: VecDeque::new(),
            handovers: VecDeque::new(),
            arrivals: VecDeque::new(),
            sheds: VecDeque::new(),
            shed: 0,
            stalls: Vec::new(),
            totals: Totals::default(),
            metrics: ShardMetrics::default(),
            slow: Slow::default(),
            receive: vec![0; RECEIVE_BYTES],
            packet: Vec::new(),
        }
    }

    /// The doorbell the replica's side rings (`handoff::notify`); the shard's task waits on it with `bell.wait(|| shard.behind())`.
    #[must_use]
    pub fn bell(&self) -> Arc<Bell> {
        self.bell.clone()
    }

    /// A new socket. (Per-IP and total limits are the reactor's, checked before.)
    pub fn accept(&mut self, now: Instant, peer: SocketAddr) -> ConnId {
        let id = self.clients.insert(Connection::new(peer, now));
        // As in ZooKeeper: due at the end of the period in which the time runs out.
        let period_ms = self.config.sessionless_ms.max(1);
        let deadline_ms = ((now.as_ms() + period_ms) / period_ms + 1) * period_ms;
        self.handshakes.push_back((Instant(0).plus_ms(deadline_ms), id));
        id
    }

    /// Room to be filled by a recv at once: the next call must be `received` for the same connection, or `input` again. It is the
    /// shard's own buffer, or the connection's while that holds part of a frame (it grows with what has arrived). Empty only for a
    /// connection that is gone.
    pub fn input(&mut self, conn: ConnId) -> &mut [u8] {
        match self.clients.get_mut(conn) {
            None => &mut [],
            Some(client) if client.conn.input.is_empty() => &mut self.receive,
            Some(client) => client.conn.input.spare(),
        }
    }

    /// `n` bytes were received into `input`.
    pub fn received(&mut self, now: Instant, conn: ConnId, n: usize) {
        let Some(client) = self.clients.get_mut(conn) else { return };
        let fresh = client.conn.input.is_empty();
        if !fresh {
            client.conn.input.filled(n);
        }
        client.conn.heard = now;
        self.totals.received_bytes += n as u64;
        self.begin_turn();
        match (self.catch_up(now), fresh) {
            (true, true) => self.process_fresh(now, conn, n),
            (true, false) => self.process(now, conn),
            (false, _) => self.keep_for_later(conn, n, fresh),
        }
        self.rest();
    }

    /// End of stream or a socket error: the session lives on, the connection does not.
    pub fn disconnected(&mut self, now: Instant, conn: ConnId) {
        self.end(now, conn, None);
        self.remove(conn);
        self.rest();
    }

    /// Loads `applied` and works through the stream up to it: events, replies, waiting reads (rules A2, A3, A4). Then some of what earlier
    /// turns have left.
    pub fn drain(&mut self, now: Instant) {
        self.begin_turn();
        if self.catch_up(now) {
            self.settle(now);
            self.process_ready(now);
        }
        self.next_piece(now);
        self.rest();
    }

    /// True when there is something in the stream beyond this shard's position that `applied` releases, or something left to do.
    #[must_use]
    pub fn behind(&self) -> bool {
        self.has_work() || self.stream.peek().is_some_and(|batch| batch.tree == self.tree && batch.last_zxid <= self.reader.applied())
    }

    /// Another tree has taken the place of the one this shard reads (`replica::Output::TreeReplaced`). What is on the stream for the old one
    /// is consumed first; there are no clients to whom the change could show.
    pub fn replace_tree(&mut self, now: Instant, tree: u64, reader: TreeReader) {
        assert!(tree > self.tree, "trees come in order");
        self.begin_turn();
        while !self.catch_up(now) {
            self.begin_turn();
        }
        (self.reader, self.tree, self.at, self.goal, self.holding) = (reader, tree, Zxid::ZERO, Zxid::ZERO, false);
        // To its end: before it there is no zxid at which this reader could be held for a connection that waits (A5).
        while !self.catch_up(now) {
            self.begin_turn();
        }
        self.rest();
    }

    /// True when a call has left something to do for the sake of others: ring this shard's bell, so that `drain` is called once they had
    /// their turn.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.at < self.goal
            || self.cursor.is_within()
            || !self.ready.is_empty()
            || !self.arrivals.is_empty()
            || !self.listings.is_empty()
            || self.clients.transmits() > 0
    }

    /// Connections with bytes to send: so many times gives `poll_transmit` one.
    #[must_use]
    pub fn transmits(&self) -> usize {
        self.clients.transmits()
    }

    /// A connection with bytes to send; each at most once until more is written.
    pub fn poll_transmit(&mut self) -> Option<ConnId> {
        self.clients.poll_transmit()
    }

    /// The bytes to send.
    #[must_use]
    pub fn output(&self, conn: ConnId) -> &[u8] {
        self.clients.get(conn).map_or(&[], |c| c.conn.output.bytes())
    }

    /// `n` of them were sent.
    pub fn sent(&mut self, conn: ConnId, n: usize) {
        let Some(client) = self.clients.get_mut(conn) else { return };
        client.conn.output.advance(n);
        self.totals.sent_bytes += n as u64;
        let paused = client.is_paused();
        self.go_on_listing(conn);
        if paused {
            self.make_ready(conn);
        }
    }

    /// Nothing received from this connection is unanswered and nothing is left to send: when its client has sent all it will, it may go.
    #[must_use]
    pub fn is_settled(&self, conn: ConnId) -> bool {
        self.clients.get(conn).is_none_or(|c| {
            c.conn.order.is_idle()
                && !c.blocked
                && !c.ready
                && !c.must_wait
                && c.conn.output.is_empty()
                && !matches!(c.conn.phase, Phase::AwaitText | Phase::AwaitAttach { .. })
        })
    }

    /// A connection to be closed; nothing more is read from it.
    pub fn poll_close(&mut self) -> Option<(ConnId, Close)> {
        self.clients.poll_close()
    }

    /// The reactor has closed the socket after `poll_close`.
    pub fn closed(&mut self, now: Instant, conn: ConnId) {
        self.disconnected(now, conn);
    }

    /// A connection whose reading state changed: true = resume reading, false = pause (back-pressure).
    pub fn poll_read_change(&mut self) -> Option<(ConnId, bool)> {
        self.clients.poll_read_change()
    }

    /// A request that took long.
    pub fn poll_slow(&mut self) -> Option<SlowRequest> {
        self.slow.poll()
    }

    /// For what only the reactor can measure.
    pub fn metrics_mut(&mut self) -> &mut ShardMetrics {
        &mut self.metrics
    }

    /// A four-letter word arrived on a fresh connection: the reactor answers it through `admin` with `answer_four_letter`.
    pub fn poll_four_letter(&mut self) -> Option<(ConnId, [u8; 4], Vec<u8>)> {
        self.clients.poll_four_letter()
    }

    /// Text to send, then close.
    pub fn answer_four_letter(&mut self, conn: ConnId, text: &[u8]) {
        let Some(client) = self.clients.get_mut(conn) else { return };
        if client.conn.phase == Phase::AwaitText {
            client.conn.output.writer().extend_from_slice(text);
            self.totals.sent += text.len().div_ceil(TEXT_BYTES_PER_PACKET) as u64;
            self.clients.close(conn, Close::AfterOutput);
        }
    }

    /// A connection to be read now, whatever else is due: `input`, a recv, `received` if that gave bytes, then `reaped`. One whose reading is
    /// paused is not read, and one that turns out to have ended is `disconnected`.
    pub fn poll_reap(&mut self) -> Option<ConnId> {
        self.reaps.pop_front()
    }

    /// The reading that `poll_reap` asked for is complete: what the connection's client had sent by then was received, so its silence, if it
    /// is one, is real (A17).
    pub fn reaped(&mut self, now: Instant, conn: ConnId) {
        if let Some(session) = self.clients.get(conn).and_then(|c| c.conn.session()) {
            self.tell_heard(now, conn, session);
        }
    }

    /// When to call `handle_timeout`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let handshake = self.handshakes.front().map(|(at, _)| *at);
        let stall = self.stalls.iter().map(|s| s.deadline).min();
        [handshake, stall].into_iter().flatten().min()
    }

    /// Half-open connections and stalled ones.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, conn)) = self.handshakes.front()
            && at <= now
        {
            self.handshakes.pop_front();
            if self.clients.get(conn).is_some_and(|c| c.conn.phase == Phase::AwaitConnect) {
                self.totals.half_open_closed += 1;
                self.end(now, conn, Some(Close::Now));
            }
        }
        self.check_stalls(now);
        self.rest();
    }

    /// True when something was pushed to the replica since the last call: kick its inbox once.
    pub fn take_kick(&mut self) -> bool {
        std::mem::take(&mut self.kick)
    }

    /// True while the replica's full queue holds something back here: ring this shard's bell when there is room again.
    #[must_use]
    pub fn wants_room(&self) -> bool {
        !self.held.is_empty() || !self.blocked.is_empty()
    }

    /// Retry what a full queue to the replica held back.
    pub fn replica_has_room(&mut self, now: Instant) {
        while let Some(message) = self.held.pop_front() {
            if let Err(message) = self.to_replica.push(message) {
                self.held.push_front(message);
                return;
            }
            self.kick = true;
        }
        if self.blocked.is_empty() {
            return;
        }
        for conn in std::mem::take(&mut self.blocked) {
            if let Some(client) = self.clients.get_mut(conn) {
                client.blocked = false;
                self.make_ready(conn);
                self.go_on_leaving(now, conn);
            }
        }
        self.begin_turn();
        if self.catch_up(now) {
            self.process_ready(now);
        }
        self.rest();
    }

    /// The zxid reads are served at.
    #[must_use]
    pub fn read_zxid(&self) -> Zxid {
        self.at
    }

    fn key(&self, conn: ConnId) -> ConnKey {
        ConnKey { shard: self.id, conn }
    }

    fn begin_turn(&mut self) {
        self.work += std::mem::take(&mut self.spent) as u64;
    }

    /// What this shard has done so far, in the units of a turn's cost.
    #[must_use]
    pub fn work(&self) -> u64 {
        self.work + self.spent as u64
    }

    /// This turn has done its share: what is left waits for the next one.
    fn is_used_up(&self) -> bool {
        self.spent >= self.config.turn_cost_max
    }

    /// End of a burst: hold what deferred reads may still need, or nothing (A5).
    fn rest(&mut self) {
        self.admit_listings();
        if !self.holding {
            return;
        }
        if self.clients.waiting() > 0 {
            self.reader.set_low(self.at);
        } else {
            self.reader.park();
            self.holding = false;
        }
    }

    /// Sends what may not be lost.
    fn tell(&mut self, message: ToReplica) {
        if self.held.is_empty() {
            match self.to_replica.push(message) {
                Ok(()) => self.kick = true,
                Err(message) => self.held.push_back(message),
            }
        } else {
            self.held.push_back(message);
        }
    }

    /// The connection serves no more: its session is detached, its watches are dropped. `how` is for the reactor.
    fn end(&mut self, now: Instant, conn: ConnId, how: Option<Close>) {
        let Some(client) = self.clients.get(conn) else { return };
        if let Some(session) = client.conn.session() {
            let heard = client.alive_at(now, &self.config);
            self.tell(ToReplica::Detach { conn: self.key(conn), session, heard });
        }
        self.silence(conn, how);
    }

    /// The same without telling the replica, which knows already.
    fn silence(&mut self, conn: ConnId, how: Option<Close>) {
        self.leaves_no_more(conn);
        if let Some(slot) = self.clients.slot(conn) {
            self.watches.drop_client(slot);
        }
        self.clients.close(conn, how.unwrap_or(Close::Now));
    }

    fn remove(&mut self, conn: ConnId) {
        self.clients.remove(conn);
    }

    /// The replica has not heard from this session for its timeout. If we have, it is told at once; silence takes a proof (A17).
    fn asked_heard(&mut self, now: Instant, conn: ConnId, session: SessionId) {
        let Some(client) = self.clients.get(conn) else { return };
        let Phase::Serving { session: served, timeout_ms } = client.conn.phase else { return };
        if served != session {
            return;
        }
        if now.since_ms(client.alive_at(now, &self.config)) < timeout_ms.max(0) as u64 {
            self.tell_heard(now, conn, session);
        } else {
            self.reaps.push_back(conn);
        }
    }

    /// Tells when a session was last heard from; a connection that we do not read counts as alive within a bound (A17).
    fn tell_heard(&mut self, now: Instant, conn: ConnId, session: SessionId) {
        let Some(client) = self.clients.get(conn) else { return };
        let heard = client.alive_at(now, &self.config);
        self.tell(ToReplica::Heard { conn: self.key(conn), session, heard, at: now });
    }

    /// The same for all that were heard from since the last time.
    fn tell_all_heard(&mut self, now: Instant) {
        let since = std::mem::replace(&mut self.all_told, now);
        let heard = |client: &clients::Client| match client.conn.phase {
            Phase::Serving { session, timeout_ms } if client.alive_at(now, &self.config) >= since => Some((session, timeout_ms)),
            _ => None,
        };
        let sessions: Vec<_> = self.clients.iter().filter_map(heard).collect();
        if !sessions.is_empty() {
            self.tell(ToReplica::AllHeard { sessions });
        }
    }

    /// Watches a connection that is not read because of its output: we do not hear its client, so what it takes is its sign of life.
    fn note_stall(&mut self, now: Instant, conn: ConnId) {
        let Some(client) = self.clients.get_mut(conn) else { return };
        if client.stalled || !(client.is_clogged(&self.config) || client.listing.as_ref().is_some_and(|l| l.waits)) {
            return;
        }
        client.stalled = true;
        let patience_ms = match client.conn.phase {
            Phase::Serving { timeout_ms, .. } => timeout_ms.max(0) as u64,
            _ => self.config.sessionless_ms,
        };
        self.stalls.push(Stall { conn, deadline: now.plus_ms(patience_ms), sent_total: client.conn.output.sent_total() });
    }

    fn check_stalls(&mut self, now: Instant) {
        let due: Vec<Stall> = self.stalls.extract_if(.., |s| s.deadline <= now).collect();
        for stall in due {
            let Some(client) = self.clients.get_mut(stall.conn) else { continue };
            client.stalled = false;
            if client.conn.output.sent_total() == stall.sent_total {
                self.end(now, stall.conn, Some(Close::Now));
            } else {
                self.note_stall(now, stall.conn);
            }
        }
    }
}

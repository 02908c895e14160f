//! The published history as one shard consumes it: for each transaction its events, then its reply, then the reads behind it (A4).

use super::listing::Piecewise;
use super::route::Answered;
use super::watch::{ClientSlot, Table};
use super::{Close, Shard};
use crate::base::{AclList, ConnId, ConnKey, Instant, Perms, Zxid, path};
use crate::conn::{self, Phase, Turn, Waiting};
use crate::handoff::{Batch, Control, Entry, Event, Reply, ToReplica};
use crate::proto::connect::ConnectResponse;
use crate::proto::event::{fired_by, write_notification};
use crate::proto::response::ReplyFrame;
use crate::proto::{ErrorCode, EventType, OpCode};
use crate::tree::permits;
use imbl::OrdSet;

/// How far a shard is within a batch, so that a turn may end anywhere.
#[derive(Default)]
pub(super) struct Cursor {
    /// Entries done.
    entry: usize,
    /// What comes next in the entry at hand.
    step: Step,
    /// Its events begun.
    events: u32,
    /// Whom the last of them concerns.
    firing: Firing,
    /// A request was answered by this batch.
    answered: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Begin,
    Events,
    /// The reads behind the reply.
    Turns,
}

/// Connections that an event concerns. Their slots mean the same until all are told: who takes over a slot meanwhile has no session yet,
/// since it would have to be attached by a later entry.
#[derive(Default)]
struct Firing {
    hits: Vec<ClientSlot>,
    /// The first so many hear of the node itself, the rest of its parent's children.
    own: usize,
    /// So many are told.
    told: usize,
}

impl Firing {
    fn is_done(&self) -> bool {
        self.told == self.hits.len()
    }
}

impl Cursor {
    /// The turn ended within a batch.
    pub(super) fn is_within(&self) -> bool {
        self.entry > 0 || self.step != Step::Begin
    }

    /// The entry behind the one at hand.
    pub(super) fn next(&self) -> usize {
        self.entry + 1
    }

    fn next_entry(&mut self) {
        self.entry += 1;
        self.step = Step::Begin;
        self.events = 0;
    }
}

impl Shard {
    /// Loads `applied` and works through the stream up to it (A2, A3). False when the turn was used up before: then nothing that was received
    /// may be looked at yet.
    pub(super) fn catch_up(&mut self, now: Instant) -> bool {
        self.goal = self.reader.begin_burst();
        self.holding = true;
        while let Some(batch) = self.stream.peek().filter(|batch| batch.tree == self.tree && batch.last_zxid <= self.goal) {
            if let Some(passed) = batch.passed.filter(|_| !self.cursor.is_within()) {
                self.metrics.publish_us.record(now.since_us(passed.published));
            }
            while let Some(entry) = batch.entries.get(self.cursor.entry) {
                if self.is_used_up() || !self.entry(now, &batch, entry) {
                    return false;
                }
                self.cursor.next_entry();
            }
            (self.cursor.entry, self.cursor.answered) = (0, false);
            self.stream.advance();
            self.bell.set_consumed(self.stream.position());
        }
        assert!(self.at <= self.goal, "consumed {} beyond applied {}", self.at, self.goal);
        self.at = self.goal;
        true
    }

    /// One entry from where the turn before has left it; false when this turn is used up.
    fn entry(&mut self, now: Instant, batch: &Batch, entry: &Entry) -> bool {
        // Once an entry: whatever a turn goes on with, it gets further.
        self.spent += usize::from(self.cursor.step == Step::Begin);
        let reply = match entry {
            Entry::Txn { zxid, events, reply, closed: _ } => {
                if self.cursor.step == Step::Begin {
                    assert!(self.at < *zxid && *zxid <= batch.last_zxid, "{zxid} published after {}", self.at);
                    self.at = *zxid;
                    self.cursor.step = Step::Events;
                }
                if self.cursor.step == Step::Events
                    && !self.events(now, batch, *zxid, &batch.events[events.start as usize..events.end as usize])
                {
                    return false;
                }
                reply.as_ref()
            }
            Entry::Answer(reply) => Some(reply),
            Entry::Ephemerals { conn, cells, prefix } => {
                if self.cursor.step != Step::Turns {
                    self.ephemerals(now, *conn, cells, prefix);
                    self.cursor.step = Step::Turns;
                }
                return self.turns_of(now, *conn);
            }
            Entry::Control(control) => {
                self.control(now, control);
                return true;
            }
        };
        let Some(reply) = reply else { return true };
        if self.cursor.step != Step::Turns {
            self.reply(now, batch, reply);
            self.cursor.step = Step::Turns;
        }
        self.turns_of(now, reply.conn)
    }

    fn events(&mut self, now: Instant, batch: &Batch, zxid: Zxid, events: &[Event]) -> bool {
        if self.watches.is_empty() && self.cursor.firing.is_done() {
            return true;
        }
        loop {
            if let Some(event) = self.cursor.events.checked_sub(1).and_then(|begun| events.get(begun as usize))
                && !self.tell_watchers(now, batch, zxid, event)
            {
                return false;
            }
            let Some(event) = events.get(self.cursor.events as usize) else { return true };
            if self.is_used_up() {
                return false;
            }
            self.spent += 1;
            self.cursor.events += 1;
            if event.concerns(self.bell.interest()) {
                self.fire(batch.path(event), event);
            }
        }
    }

    /// Finds out whom an event concerns; standard watches are spent by that.
    fn fire(&mut self, at: &str, event: &Event) {
        let Firing { hits, own, told } = &mut self.cursor.firing;
        hits.clear();
        self.watches.fire(Table::Data, at, hits);
        if event.kind == EventType::NodeDeleted {
            // Child watches hear of the deletion too, unless the data table has told their connection already.
            let data = hits.len();
            self.watches.fire(Table::Child, at, hits);
            hits[..data].sort_unstable();
            let mut kept = data;
            for i in data..hits.len() {
                if hits[..data].binary_search(&hits[i]).is_err() {
                    hits[kept] = hits[i];
                    kept += 1;
                }
            }
            hits.truncate(kept);
        }
        (*own, *told) = (hits.len(), 0);
        if let Some(parent) = event.parent_acl.as_ref().and_then(|_| path::parent(at)) {
            self.watches.fire(Table::Child, parent, hits);
        }
    }

    /// One packet for each connection concerned that has not been told yet.
    fn tell_watchers(&mut self, now: Instant, batch: &Batch, zxid: Zxid, event: &Event) -> bool {
        if self.cursor.firing.is_done() {
            return true;
        }
        let mut firing = std::mem::take(&mut self.cursor.firing);
        let at = batch.path(event);
        let (own, of_parent) = firing.hits.split_at(firing.own);
        if firing.told < own.len() {
            firing.told += self.notify(now, zxid, event.kind, at, &event.acl, &own[firing.told..]);
        }
        if firing.told >= own.len()
            && let Some((acl, parent)) = event.parent_acl.as_ref().zip(path::parent(at))
        {
            let rest = &of_parent[firing.told - own.len()..];
            firing.told += self.notify(now, zxid, EventType::NodeChildrenChanged, parent, acl, rest);
        }
        let done = firing.is_done();
        self.cursor.firing = firing;
        done
    }

    /// One packet for each of these connections that may read the node (its watch is spent all the same), as far as the turn goes. How many
    /// are dealt with.
    pub(super) fn notify(&mut self, now: Instant, zxid: Zxid, kind: EventType, at: &str, acl: &AclList, hits: &[ClientSlot]) -> usize {
        let mut packet = std::mem::take(&mut self.packet);
        packet.clear();
        write_notification(&mut packet, fired_by(zxid), kind, at);
        let mut done = 0;
        for slot in hits {
            if self.is_used_up() {
                break;
            }
            self.spent += 1;
            done += 1;
            let Some(client) = self.clients.at_mut(*slot) else { continue };
            if client.conn.session().is_none() || !permits(acl, Perms::READ, &client.conn.auth, self.config.skip_acl) {
                continue;
            }
            let id = client.id;
            // Pausing it does not stop events, so this is where a client that takes nothing at all is given up.
            if client.has_too_much(&self.config) {
                self.end(now, id, Some(Close::Now));
                continue;
            }
            client.conn.output.writer().extend_from_slice(&packet);
            client.conn.stats.sent += 1;
            self.totals.sent += 1;
            self.touched(now, id);
        }
        self.packet = packet;
        done
    }

    fn reply(&mut self, now: Instant, batch: &Batch, reply: &Reply) {
        let Some((id, write)) = self.answered_write(reply.conn) else { return };
        let Some(client) = self.clients.get_mut(id) else { return };
        client.conn.output.writer().extend_from_slice(batch.frame(reply));
        let bytes = batch.frame(reply).len();
        let Waiting { op, xid, received, .. } = write;
        if let Some(passed) = batch.passed
            && !std::mem::replace(&mut self.cursor.answered, true)
        {
            self.metrics.prepare_us.record(passed.prepared.since_us(received));
        }
        let refused = reply.err != ErrorCode::Ok;
        self.answered(now, id, Answered { op, refused, xid, zxid: self.at, received, bytes, passed: batch.passed });
        if reply.close {
            self.silence(id, Some(Close::AfterOutput));
        }
    }

    /// The ephemerals of the connection's session: as of the last transaction consumed, because the cells were listed when that was the last.
    fn ephemerals(&mut self, now: Instant, conn: ConnKey, cells: &OrdSet<u32>, prefix: &str) {
        let Some((id, write)) = self.answered_write(conn) else { return };
        if cells.len() > self.config.listing_nodes_per_turn && self.takes_listing(id) {
            let listing = self.reader.list_ephemerals(self.at, cells.clone(), prefix);
            return self.begin_listing(id, Piecewise::new(listing, write.xid, write.op, write.received));
        }
        let Some(client) = self.clients.get_mut(id) else { return };
        let out = client.conn.output.writer();
        let start = out.len();
        let frame = ReplyFrame::begin(out, write.xid, self.at);
        self.reader.get_ephemerals(self.at, cells.iter().copied(), prefix, out);
        frame.finish(out);
        let bytes = out.len() - start;
        let Waiting { op, xid, received, .. } = write;
        self.answered(now, id, Answered { op, refused: false, xid, zxid: self.at, received, bytes, passed: None });
    }

    /// The request that is being answered by an entry of the stream, if its connection still wants to know.
    fn answered_write(&mut self, conn: ConnKey) -> Option<(ConnId, Waiting)> {
        let id = self.own(conn)?;
        let client = self.clients.get_mut(id).filter(|c| c.conn.session().is_some())?;
        let write = client.conn.order.answered();
        assert!(write.is_some(), "a reply for a connection that awaits none");
        Some((id, write?))
    }

    /// Serves what waited behind a reply: the reads up to the next write, at the zxid of the one before. False when the turn is used up.
    fn turns_of(&mut self, now: Instant, conn: ConnKey) -> bool {
        let Some(id) = self.own(conn) else { return true };
        if !self.serve_turns(now, id) {
            return false;
        }
        if self.clients.get(id).is_some_and(|c| c.conn.order.is_idle()) {
            self.stop_waiting(id);
        } else {
            self.make_ready(id);
        }
        self.touched(now, id);
        true
    }

    fn serve_turns(&mut self, now: Instant, id: ConnId) -> bool {
        let Some(client) = self.clients.get_mut(id) else { return true };
        let arena = client.conn.order.take_arena();
        loop {
            let used_up = self.is_used_up();
            let Some(client) = self.clients.get_mut(id).filter(|c| c.conn.phase != Phase::Closing) else { return true };
            if client.has_too_much(&self.config) {
                self.end(now, id, Some(Close::Now));
                return true;
            }
            let turn = if used_up { None } else { client.conn.order.next_turn() };
            match turn {
                Some(Turn::Read { frame, received }) => self.serve(now, id, &arena[frame], received),
                Some(Turn::Auth(auth)) => client.conn.read_auth = auth,
                None => {
                    client.conn.order.return_arena(arena);
                    return !used_up;
                }
            }
        }
    }

    fn control(&mut self, now: Instant, control: &Control) {
        match control {
            Control::Attached { conn, session, timeout_ms, password, read_only, local } => {
                let response =
                    ConnectResponse { timeout_ms: *timeout_ms, session: *session, password: *password, read_only: Some(*read_only) };
                self.attached(now, *conn, response, *local);
            }
            Control::Refused { conn } => self.refused(*conn),
            Control::Cut { conn } => {
                if let Some(id) = self.own(*conn) {
                    self.silence(id, Some(Close::Now));
                }
            }
            Control::AskHeard { conn, session } => {
                if let Some(id) = self.own(*conn) {
                    self.asked_heard(now, id, *session);
                }
            }
            Control::AskAllHeard => self.tell_all_heard(now),
            Control::CutAll => self.cut_all(),
            Control::Moved { from, to, session } => self.moved(now, *from, *to, *session),
        }
    }

    fn cut_all(&mut self) {
        let served = |phase: Phase| matches!(phase, Phase::Serving { .. } | Phase::AwaitAttach { .. });
        let all: Vec<ConnId> = self.clients.iter().filter(|c| served(c.conn.phase)).map(|c| c.id).collect();
        all.into_iter().for_each(|id| self.silence(id, Some(Close::Now)));
        self.cut_arrivals();
    }

    fn attached(&mut self, now: Instant, conn: ConnKey, response: ConnectResponse, local: bool) {
        let ConnectResponse { session, timeout_ms, .. } = response;
        let Some(id) = self.own(conn) else { return };
        let awaiting = self.clients.get_mut(id).and_then(|c| match c.conn.phase {
            Phase::AwaitAttach { has_read_only, opening } => Some((c, has_read_only, opening)),
            _ => None,
        });
        let Some((client, has_read_only, opening)) = awaiting else {
            // It left while it was waiting; the session must not seem connected.
            self.tell(ToReplica::Detach { conn, session, heard: now });
            return;
        };
        client.conn.phase = Phase::Serving { session, timeout_ms };
        client.conn.read_only = response.read_only == Some(true);
        client.conn.local = local;
        client.conn.heard = now;
        let response = ConnectResponse { read_only: response.read_only.filter(|_| has_read_only), ..response };
        response.write_frame(client.conn.output.writer());
        client.conn.stats.sent += 1;
        self.totals.sent += 1;
        if let Some(asked) = opening {
            let latency_ms = now.since_ms(asked);
            client.conn.stats.answered(now, conn::op_label(Some(OpCode::CreateSession)), 0, self.at, latency_ms);
            self.totals.latency.record(latency_ms);
            self.metrics.update_ms.record(latency_ms);
        }
        self.make_ready(id);
        self.touched(now, id);
    }

    fn refused(&mut self, conn: ConnKey) {
        let Some(id) = self.own(conn) else { return };
        let Some(client) = self.clients.get_mut(id) else { return };
        if let Phase::AwaitAttach { has_read_only, .. } = client.conn.phase {
            ConnectResponse::refused(has_read_only.then_some(false)).write_frame(client.conn.output.writer());
            self.silence(id, Some(Close::AfterOutput));
        }
    }

    /// Something was written to the connection or taken from its queue.
    pub(super) fn touched(&mut self, now: Instant, id: ConnId) {
        self.note_stall(now, id);
        self.clients.update(id, &self.config);
        self.go_on_leaving(now, id);
    }

    fn own(&self, conn: ConnKey) -> Option<ConnId> {
        (conn.shard == self.id).then_some(conn.conn)
    }
}

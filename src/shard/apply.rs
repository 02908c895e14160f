//! The published history as one shard consumes it: for each transaction its events, then its reply, then the reads behind it (A4).

use super::route::Answered;
use super::watch::{ClientSlot, Table};
use super::{Close, Shard};
use crate::base::{AclList, ConnId, ConnKey, Instant, Perms, SessionId, Zxid, path};
use crate::conn::{Phase, Turn};
use crate::handoff::{Batch, Control, Entry, Event, Reply, ToReplica};
use crate::proto::EventType;
use crate::proto::connect::{ConnectResponse, Password};
use crate::proto::event::{fired_by, write_notification};
use crate::tree::permits;

impl Shard {
    /// Loads `applied`, works through the stream up to it (A2, A3), then lets paused connections go on.
    pub(super) fn catch_up(&mut self, now: Instant) {
        let applied = self.reader.begin_burst();
        self.holding = true;
        let position = self.stream.position();
        while let Some(batch) = self.stream.peek() {
            if batch.last_zxid > applied {
                break;
            }
            for entry in &batch.entries {
                self.entry(now, &batch, entry);
            }
            self.stream.advance();
        }
        assert!(self.at <= applied, "consumed {} beyond applied {applied}", self.at);
        self.at = applied;
        if self.stream.position() != position {
            self.bell.set_consumed(self.stream.position());
        }
        for conn in std::mem::take(&mut self.resume) {
            self.process(now, conn);
        }
    }

    fn entry(&mut self, now: Instant, batch: &Batch, entry: &Entry) {
        match entry {
            Entry::Txn { zxid, events, reply, closed: _ } => {
                assert!(self.at < *zxid && *zxid <= batch.last_zxid, "{zxid} published after {}", self.at);
                self.at = *zxid;
                if !self.watches.is_empty() {
                    for event in &batch.events[events.start as usize..events.end as usize] {
                        self.event(now, batch, *zxid, event);
                    }
                }
                if let Some(reply) = reply {
                    self.reply(now, batch, reply);
                }
            }
            Entry::Answer(reply) => self.reply(now, batch, reply),
            Entry::Control(control) => self.control(now, control),
        }
    }

    fn event(&mut self, now: Instant, batch: &Batch, zxid: Zxid, event: &Event) {
        if !event.concerns(self.bell.interest()) {
            return;
        }
        let at = batch.path(event);
        let mut hits = std::mem::take(&mut self.hits);
        hits.clear();
        self.watches.fire(Table::Data, at, &mut hits);
        self.notify(now, zxid, event.kind, at, &event.acl, &hits);
        if event.kind == EventType::NodeDeleted {
            // Child watches hear of the deletion too, unless the data table has told their connection already.
            let told = hits.len();
            self.watches.fire(Table::Child, at, &mut hits);
            let (first, second) = hits.split_at_mut(told);
            first.sort_unstable();
            let second: Vec<ClientSlot> = second.iter().copied().filter(|c| first.binary_search(c).is_err()).collect();
            self.notify(now, zxid, event.kind, at, &event.acl, &second);
        }
        if let (Some(acl), Some(parent)) = (&event.parent_acl, path::parent(at)) {
            hits.clear();
            self.watches.fire(Table::Child, parent, &mut hits);
            self.notify(now, zxid, EventType::NodeChildrenChanged, parent, acl, &hits);
        }
        self.hits = hits;
    }

    /// One packet for each of these connections that may read the node (its watch is spent all the same).
    fn notify(&mut self, now: Instant, zxid: Zxid, kind: EventType, at: &str, acl: &AclList, hits: &[ClientSlot]) {
        for slot in hits {
            let Some(client) = self.clients.at_mut(*slot) else { continue };
            if client.conn.session().is_none() || !permits(acl, Perms::READ, &client.conn.auth, self.config.skip_acl) {
                continue;
            }
            // Pausing it does not stop events, so this is where a client that takes nothing at all is given up.
            if client.conn.output.len() > self.config.out_buffer_bytes_max.saturating_mul(2) {
                let id = client.id;
                self.end(now, id, Some(Close::Now));
                continue;
            }
            write_notification(client.conn.output.writer(), fired_by(zxid), kind, at);
            client.conn.stats.sent += 1;
            let id = client.id;
            self.totals.sent += 1;
            self.touched(now, id);
        }
    }

    fn reply(&mut self, now: Instant, batch: &Batch, reply: &Reply) {
        let Some(id) = self.own(reply.conn) else { return };
        let Some(client) = self.clients.get_mut(id).filter(|c| c.conn.session().is_some()) else { return };
        let write = client.conn.order.answered();
        assert!(write.is_some(), "a reply for a connection that awaits none");
        let Some(write) = write else { return };
        client.conn.output.writer().extend_from_slice(batch.frame(reply));
        let bytes = batch.frame(reply).len();
        self.answered(now, id, Answered { op: write.op, xid: write.xid, zxid: self.at, received: write.received, bytes });
        if reply.close {
            self.silence(id, Some(Close::AfterOutput));
            return;
        }
        self.serve_turns(now, id);
        self.touched(now, id);
        self.resume_if_paused(id);
    }

    /// Serves the reads up to the next write, at the zxid of the one before.
    fn serve_turns(&mut self, now: Instant, id: ConnId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let arena = client.conn.order.take_arena();
        loop {
            let Some(client) = self.clients.get_mut(id).filter(|c| c.conn.phase != Phase::Closing) else { return };
            match client.conn.order.next_turn() {
                Some(Turn::Read { frame, received }) => self.serve(now, id, &arena[frame], received),
                Some(Turn::Auth(auth)) => client.conn.read_auth = auth,
                None => return client.conn.order.return_arena(arena),
            }
        }
    }

    fn control(&mut self, now: Instant, control: &Control) {
        match control {
            Control::Attached { conn, session, timeout_ms, password } => self.attached(now, *conn, *session, *timeout_ms, password),
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
        }
    }

    fn attached(&mut self, now: Instant, conn: ConnKey, session: SessionId, timeout_ms: i32, password: &Password) {
        let Some(id) = self.own(conn) else { return };
        let awaiting = self.clients.get_mut(id).and_then(|c| match c.conn.phase {
            Phase::AwaitAttach { has_read_only } => Some((c, has_read_only)),
            _ => None,
        });
        let Some((client, has_read_only)) = awaiting else {
            // It left while it was waiting; the session must not seem connected.
            self.tell(ToReplica::Detach { conn, session, heard: now });
            return;
        };
        client.conn.phase = Phase::Serving { session, timeout_ms };
        client.conn.heard = now;
        let response = ConnectResponse { timeout_ms, session, password: *password, read_only: has_read_only.then_some(false) };
        response.write_frame(client.conn.output.writer());
        client.conn.stats.sent += 1;
        client.conn.stats.last_op = "SESS";
        self.totals.sent += 1;
        self.touched(now, id);
        self.resume.push(id);
    }

    fn refused(&mut self, conn: ConnKey) {
        let Some(id) = self.own(conn) else { return };
        let Some(client) = self.clients.get_mut(id) else { return };
        if let Phase::AwaitAttach { has_read_only } = client.conn.phase {
            ConnectResponse::refused(has_read_only.then_some(false)).write_frame(client.conn.output.writer());
            self.silence(id, Some(Close::AfterOutput));
        }
    }

    /// Something was written to the connection or taken from its queue.
    fn touched(&mut self, now: Instant, id: ConnId) {
        self.note_stall(now, id);
        self.clients.update(id, &self.config);
    }

    /// Replies have left its queue: look at its received bytes again when the burst is consumed.
    fn resume_if_paused(&mut self, id: ConnId) {
        if self.clients.get(id).is_some_and(|c| !c.conn.input.is_empty()) {
            self.resume.push(id);
        }
    }

    fn own(&self, conn: ConnKey) -> Option<ConnId> {
        (conn.shard == self.id).then_some(conn.conn)
    }
}

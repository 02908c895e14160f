//! From received bytes to requests, and where each request goes: to the tree, to the replica, or to the connection itself.

use super::{Close, Shard};
use crate::base::limits::LISTING_BYTES_AHEAD;
use crate::base::{ConnId, Instant, Reader, SessionId, Writer, Xid, Zxid};
use crate::conn::{self, First, FrameStatus, Input, Phase, Waiting, auth};
use crate::handoff::{Passed, ToReplica};
use crate::proto::request::RequestHeader;
use crate::proto::response::{REPLY_HEADER_BYTES, ReplyFrame, write_header_only};
use crate::proto::{ErrorCode, OpClass, OpCode, Request};
use std::net::IpAddr;

/// Bytes of a reply that count as one unit of a turn's cost: what it costs to collect them from many nodes.
const REPLY_BYTES_PER_COST: usize = 64;
/// The same for a frame that is only decoded and copied.
const FRAME_BYTES_PER_COST: usize = 1024;

/// What became of the request at the front.
#[derive(PartialEq, Eq)]
enum Fate {
    /// Consume it and go on.
    Taken,
    /// The replica's queue is full, or it must wait for what is in front of it: it stays where it is.
    Stays,
}

/// A reply as the statistics see it.
pub(super) struct Answered {
    pub(super) op: OpCode,
    /// A write that came to nothing: `cons` does not name it, as in ZooKeeper.
    pub(super) refused: bool,
    pub(super) xid: Xid,
    pub(super) zxid: Zxid,
    pub(super) received: Instant,
    pub(super) bytes: usize,
    /// How what answered it has come here.
    pub(super) passed: Option<Passed>,
}

impl Shard {
    /// Works through a connection's left-over bytes as far as it may.
    pub(super) fn process(&mut self, now: Instant, id: ConnId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if let FrameStatus::Whole(_) = client.conn.input.frame(self.config.frame_bytes_max) {
            self.metrics.received_us.record(now.since_us(client.conn.heard));
        }
        let mut input = std::mem::take(&mut client.conn.input);
        self.work_through(now, id, &mut input);
        if let Some(client) = self.clients.get_mut(id).filter(|c| c.conn.phase != Phase::Closing && !input.is_empty()) {
            client.conn.input = input;
        }
        self.processed(now, id);
    }

    /// The same for `n` bytes in the shard's own buffer; what is left over moves to the connection.
    pub(super) fn process_fresh(&mut self, now: Instant, id: ConnId, n: usize) {
        let mut input = Input::borrowed(std::mem::take(&mut self.receive), n);
        self.work_through(now, id, &mut input);
        if let Some(client) = self.clients.get_mut(id).filter(|c| c.conn.phase != Phase::Closing && !input.is_empty()) {
            client.conn.input = Input::left_over(input.bytes());
        }
        self.receive = input.into_buffer();
        self.processed(now, id);
    }

    /// Bytes that came while the stream was not consumed: they wait for that.
    pub(super) fn keep_for_later(&mut self, id: ConnId, n: usize, fresh: bool) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if fresh {
            client.conn.input = Input::left_over(&self.receive[..n]);
        }
        self.put_off(id);
    }

    /// Connections whose bytes have waited, as far as the turn goes; at least one.
    pub(super) fn process_ready(&mut self, now: Instant) {
        while let Some(id) = self.ready.pop_front() {
            if let Some(client) = self.clients.get_mut(id) {
                client.ready = false;
                self.process(now, id);
            }
            if self.is_used_up() {
                return;
            }
        }
    }

    /// What kept a connection's bytes from being looked at is over.
    pub(super) fn make_ready(&mut self, id: ConnId) {
        let Some(client) = self.clients.get(id).filter(|c| c.may_process(&self.config)) else { return };
        if client.conn.input.is_empty() {
            self.clients.update(id, &self.config);
        } else {
            self.put_off(id);
        }
    }

    /// The connection's bytes are for a later turn; it is not read until then.
    pub(super) fn put_off(&mut self, id: ConnId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if !std::mem::replace(&mut client.ready, true) {
            self.ready.push_back(id);
        }
        self.clients.update(id, &self.config);
    }

    fn work_through(&mut self, now: Instant, id: ConnId, input: &mut Input) {
        while let Some(client) = self.clients.get(id).filter(|c| c.may_process(&self.config)) {
            let more = match client.conn.phase {
                Phase::AwaitConnect => self.first_bytes(now, id, input),
                _ => self.next_request(now, id, input),
            };
            if !more {
                return;
            }
            if self.is_used_up() && !input.is_empty() {
                return self.put_off(id);
            }
        }
    }

    fn processed(&mut self, now: Instant, id: ConnId) {
        self.note_stall(now, id);
        self.clients.update(id, &self.config);
        self.go_on_leaving(now, id);
    }

    fn first_bytes(&mut self, now: Instant, id: ConnId, input: &mut Input) -> bool {
        match conn::handshake::first(input, self.config.frame_bytes_max) {
            First::NeedMore => {}
            First::Close => self.end(now, id, Some(Close::Now)),
            First::FourLetter(word, argument) => {
                // The asker is in its own answer, as a connection that has sent one packet.
                self.totals.received += 1;
                if let Some(client) = self.clients.get_mut(id) {
                    client.conn.stats.received += 1;
                    client.conn.phase = Phase::AwaitText;
                }
                self.clients.four_letter(id, word, argument);
            }
            // A client that has seen more than we have must find a server that has it too (P8).
            First::Connect(request) if request.last_zxid_seen > self.at.as_i64() => self.end(now, id, Some(Close::Now)),
            First::Connect(request) => {
                let (key, is_new) = (self.key(id), request.session == SessionId::NONE);
                self.totals.received += 1;
                self.totals.connect_requests += 1;
                let Some(client) = self.clients.get_mut(id) else { return false };
                client.conn.stats.received += 1;
                client.conn.phase = Phase::AwaitAttach { has_read_only: request.has_read_only, opening: is_new.then_some(now) };
                let accepted = client.conn.stats.established;
                self.tell(ToReplica::Connect { conn: key, accepted, request });
            }
        }
        false
    }

    fn next_request(&mut self, now: Instant, id: ConnId, input: &mut Input) -> bool {
        match input.frame(self.config.frame_bytes_max) {
            FrameStatus::Partial => false,
            FrameStatus::BadLength => {
                self.end(now, id, Some(Close::Now));
                false
            }
            FrameStatus::Whole(len) => {
                if self.request(now, id, &input.bytes()[4..4 + len]) == Fate::Stays {
                    return false;
                }
                input.consume(4 + len);
                true
            }
        }
    }

    fn request(&mut self, now: Instant, id: ConnId, frame: &[u8]) -> Fate {
        let mut body = Reader::new(frame);
        let Ok(header) = RequestHeader::read(&mut body) else {
            self.end(now, id, Some(Close::Now));
            return Fate::Taken;
        };
        let fate = match OpCode::from_i32(header.op).map(|op| (op, op.class())) {
            Some((op, OpClass::Connection)) => self.connection_request(now, id, header, op, &mut body),
            Some((op, _)) if op.needs_quorum() && self.clients.get(id).is_some_and(|c| c.conn.read_only) => {
                self.read_in_turn(now, id, frame)
            }
            Some((op, OpClass::Write | OpClass::Ordered)) => self.forward(now, id, header.xid, op, frame, body),
            Some((_, OpClass::Read | OpClass::Refused)) | None => self.read_in_turn(now, id, frame),
        };
        if fate == Fate::Taken {
            self.totals.received += 1;
            if let Some(client) = self.clients.get_mut(id) {
                client.conn.stats.received += 1;
            }
        }
        fate
    }

    /// A read, or anything else that is answered here in its turn.
    fn read_in_turn(&mut self, now: Instant, id: ConnId, frame: &[u8]) -> Fate {
        if self.must_wait(id, frame) {
            return Fate::Stays;
        }
        let Some(client) = self.clients.get_mut(id) else { return Fate::Taken };
        let received = client.conn.heard;
        if client.conn.order.is_idle() {
            self.serve(now, id, frame, received);
        } else {
            client.conn.order.push_read(frame, received);
        }
        Fate::Taken
    }

    /// A request for the replica. What cannot be decoded is not forwarded (A15): it is answered here, in its turn; only a multi
    /// takes its place in history all the same.
    fn forward(&mut self, now: Instant, id: ConnId, xid: Xid, op: OpCode, frame: &[u8], mut body: Reader<'_>) -> Fate {
        let decodes = match Request::decode(op, &mut body) {
            Ok(Request::Multi(parts)) => parts.len() <= self.config.multi_ops_max,
            decoded => decoded.is_ok(),
        };
        if !decodes && op != OpCode::Multi {
            return self.read_in_turn(now, id, frame);
        }
        if op == OpCode::GetEphemerals && self.must_wait(id, frame) {
            return Fate::Stays;
        }
        self.spent += 1 + frame.len() / FRAME_BYTES_PER_COST;
        let key = self.key(id);
        let Some(client) = self.clients.get_mut(id) else { return Fate::Taken };
        let Some(session) = client.conn.session() else { return Fate::Taken };
        let auth = client.conn.auth.clone();
        let room = self.held.is_empty() && {
            let message = if decodes {
                ToReplica::Request { conn: key, session, frame: frame.into(), auth, at: now }
            } else {
                ToReplica::Failed { conn: key, session, xid, err: ErrorCode::Marshalling, auth }
            };
            self.to_replica.push(message).is_ok()
        };
        if !room {
            client.blocked = true;
            self.blocked.push(id);
            return Fate::Stays;
        }
        self.kick = true;
        client.conn.order.push_write(Waiting { xid, op, received: client.conn.heard, bytes: frame.len() as u32 });
        client.conn.ended = op == OpCode::CloseSession;
        Fate::Taken
    }

    /// Auth and sasl packets are answered at once, ahead of whatever waits.
    fn connection_request(&mut self, now: Instant, id: ConnId, header: RequestHeader, op: OpCode, body: &mut Reader<'_>) -> Fate {
        match Request::decode(op, body) {
            Ok(Request::Auth { scheme, auth: credential }) => self.authenticate(now, id, header.xid, scheme, credential),
            Ok(_) => {
                // No SASL is configured: ZooKeeper answers with a null token and authenticates nothing.
                let Some(client) = self.clients.get_mut(id) else { return Fate::Taken };
                let out = client.conn.output.writer();
                let start = out.len();
                let reply = ReplyFrame::begin(out, header.xid, Zxid::ZERO);
                out.put_buffer(None);
                reply.finish(out);
                let bytes = out.len() - start;
                self.replied(id, bytes);
            }
            Err(_) => self.end(now, id, Some(Close::Now)),
        }
        Fate::Taken
    }

    fn authenticate(&mut self, now: Instant, id: ConnId, xid: Xid, scheme: Option<&str>, credential: Option<&[u8]>) {
        let rules = auth::AuthRules { digest_enabled: self.config.digest_auth_enabled, super_digest: self.config.super_digest.as_deref() };
        let Some(client) = self.clients.get_mut(id) else { return };
        let peer: IpAddr = client.conn.peer.ip();
        let gained = auth::authenticate(scheme, credential, peer, rules).is_some_and(|ids| client.conn.gain(ids));
        let err = if gained { ErrorCode::Ok } else { ErrorCode::AuthFailed };
        write_header_only(client.conn.output.writer(), xid, 0, err);
        self.totals.auth_failed += u64::from(!gained);
        self.replied(id, 4 + REPLY_HEADER_BYTES);
        if err != ErrorCode::Ok {
            self.end(now, id, Some(Close::AfterOutput));
        }
    }

    /// Counts the answer to an operation.
    pub(super) fn answered(&mut self, now: Instant, id: ConnId, answered: Answered) {
        let Answered { op, refused, xid, zxid, received, bytes, .. } = answered;
        let latency_ms = now.since_ms(received);
        self.replied(id, bytes);
        self.totals.latency.record(latency_ms);
        match op.class() {
            OpClass::Read => self.metrics.read_ms.record(latency_ms),
            OpClass::Write => self.metrics.update_ms.record(latency_ms),
            _ => {}
        }
        if let Some(client) = self.clients.get_mut(id) {
            let label = conn::op_label(Some(op).filter(|_| !refused));
            client.conn.stats.answered(now, label, i64::from(xid.0), zxid, latency_ms);
            if self.config.slow_request_ms.is_some_and(|slow| latency_ms >= slow) {
                let session = client.conn.session().unwrap_or(SessionId::NONE);
                self.slow.note(now, conn::op_label(Some(op)), &answered, (session, client.conn.peer));
            }
        }
    }

    /// Counts a reply; that to an identity, or to what a read-only server refuses, is no more than that.
    pub(super) fn replied(&mut self, id: ConnId, bytes: usize) {
        self.spent += 1 + bytes.min(LISTING_BYTES_AHEAD) / REPLY_BYTES_PER_COST;
        self.totals.sent += 1;
        let (_, min, max) = self.totals.reply_bytes.unwrap_or((bytes, bytes, bytes));
        self.totals.reply_bytes = Some((bytes, min.min(bytes), max.max(bytes)));
        if let Some(client) = self.clients.get_mut(id) {
            client.conn.stats.sent += 1;
        }
    }
}

//! What servers send: answers, events, and the greeting in front of them.

use super::{Output, Phase, REST_MS_MIN, Request, SEARCH_MS_MIN, Sent, Session};
use crate::base::jute::{DecodeError, Reader};
use crate::base::{Xid, time::Instant};
use crate::client::op::{Reply, event_path, refused};
use crate::client::watches::{Sink, WatchKind};
use crate::client::{Error, SessionState, WatchedEvent};
use crate::proto::connect::ConnectResponse;
use crate::proto::response::ReplyHeader;
use crate::proto::{ErrorCode, EventType, OpCode};

impl<D, W: Sink> Session<D, W> {
    /// Works through the whole frames of `input` from `at` on.
    pub(super) fn frames(&mut self, now: Instant, input: &[u8], at: &mut usize) -> Result<(), DecodeError> {
        while let Some(head) = input[*at..].first_chunk::<4>() {
            let length = i32::from_be_bytes(*head);
            let bytes =
                usize::try_from(length).ok().filter(|n| *n <= self.settings.reply_bytes_max).ok_or(DecodeError::BadLength(length))?;
            let Some(payload) = input.get(*at + 4..*at + 4 + bytes) else { break };
            *at += 4 + bytes;
            match self.phase {
                Phase::Greeting { .. } => self.greeted(now, payload)?,
                Phase::Attached { .. } => self.answered(payload)?,
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    pub(super) fn keep_input(&mut self, mut input: Vec<u8>, at: usize) {
        if at == input.len() {
            input.clear();
            self.input_start = 0;
        } else if at > input.len() / 2 {
            input.drain(..at);
            self.input_start = 0;
        } else {
            self.input_start = at;
        }
        self.input = input;
    }

    fn greeted(&mut self, now: Instant, payload: &[u8]) -> Result<(), DecodeError> {
        let response = ConnectResponse::decode(payload)?;
        if response.timeout_ms <= 0 {
            self.end_with(Error::SessionExpired);
            return Ok(());
        }
        self.id = response.session;
        self.password = response.password;
        self.negotiated_ms = u64::from(response.timeout_ms.unsigned_abs());
        self.hosts.succeeded();
        self.rest_ms = REST_MS_MIN;
        self.phase = Phase::Attached { since: now };
        let read_only = response.read_only == Some(true);
        self.is_lasting |= !read_only;
        self.search = read_only.then(|| (now.plus_ms(SEARCH_MS_MIN), SEARCH_MS_MIN * 2));
        self.outputs.push_back(Output::State(if read_only { SessionState::ConnectedReadOnly } else { SessionState::Connected }));
        self.send_all_credentials();
        for (op, body) in self.watches.set_again(self.last_zxid) {
            self.frame(Xid::SET_WATCHES, op, &body);
        }
        for request in std::mem::take(&mut self.waiting) {
            self.send(request);
        }
        Ok(())
    }

    fn answered(&mut self, payload: &[u8]) -> Result<(), DecodeError> {
        let mut r = Reader::new(payload);
        let header = ReplyHeader::read(&mut r)?;
        match header.xid {
            Xid::NOTIFICATION => return self.notified(&header, &mut r),
            Xid::PING | Xid::SET_WATCHES => {}
            Xid::AUTH => self.authenticated(header.err),
            xid => return self.completed(xid, &header, &mut r),
        }
        self.seen(header.zxid);
        Ok(())
    }

    fn seen(&mut self, zxid: i64) {
        self.last_zxid = self.last_zxid.max(zxid);
    }

    fn authenticated(&mut self, err: i32) {
        if err != 0 {
            self.end_with(Error::AuthFailed);
        } else if let Some(Some(number)) = self.credentials_sent.pop_front() {
            self.outputs.extend(self.credentials[number].done.take().map(|done| Output::Done(done, Ok(Reply::Nothing))));
        }
    }

    fn notified(&mut self, header: &ReplyHeader, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        let (kind, _state, path) = (r.i32()?, r.i32()?, r.string()?);
        let kind = EventType::from_i32(kind).ok_or(DecodeError::BadValue("event", i64::from(kind)))?;
        self.seen(header.zxid);
        let event = WatchedEvent { kind, path: event_path(path, &self.settings.chroot), zxid: (header.zxid > 0).then_some(header.zxid) };
        self.outputs.push_back(Output::Notified(event.clone()));
        for (sink, is_last) in self.watches.fire(kind, path) {
            self.outputs.push_back(Output::Event(sink.clone(), event.clone()));
            self.outputs.extend(is_last.then_some(Output::WatchEnded(sink)));
        }
        Ok(())
    }

    fn completed(&mut self, xid: Xid, header: &ReplyHeader, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        let front = self.sent.front().ok_or(DecodeError::BadValue("xid, nothing was asked", i64::from(xid.0)))?;
        if front.xid != xid {
            return Err(DecodeError::BadValue("xid, out of order", i64::from(xid.0)));
        }
        let op = &front.request.op;
        let result = match header.err {
            0 => Ok((op.decode)(r, self.settings.chroot.len())?),
            err => Err(refused(err)),
        };
        let Some(Sent { request, .. }) = self.sent.pop_front() else { return Ok(()) };
        self.seen(header.zxid);
        self.watch_of(&request, &result);
        if request.op.code == OpCode::CloseSession {
            self.outputs.push_back(Output::Done(request.done, result));
            self.end_with(Error::Closed);
            return Ok(());
        }
        let expired = matches!(result, Err(Error::SessionExpired));
        let absent = matches!(result, Err(Error::Refused(ErrorCode::NoNode)));
        let result = if absent && request.op.code == OpCode::Exists { Ok(Reply::Stat(None)) } else { result };
        if result.is_err() {
            self.outputs.extend(request.sink.map(Output::WatchEnded));
        }
        self.outputs.push_back(Output::Done(request.done, result));
        if expired {
            self.end_with(Error::SessionExpired);
        }
        Ok(())
    }

    /// The watch that goes with an answer is set before the next frame is looked at: its event may be there already.
    fn watch_of(&mut self, request: &Request<D, W>, result: &Result<Reply, Error>) {
        if let (Some((which, path)), Ok(_)) = (&request.op.unwatch, result) {
            self.outputs.extend(self.watches.remove(path, *which).into_iter().map(Output::WatchEnded));
        }
        let (Some((kind, path)), Some(sink)) = (&request.op.watch, &request.sink) else { return };
        let kind = match result {
            Ok(_) => *kind,
            Err(Error::Refused(ErrorCode::NoNode)) if request.op.code == OpCode::Exists => WatchKind::Exist,
            Err(_) => return,
        };
        self.watches.add(kind, path.clone(), sink.clone());
    }
}

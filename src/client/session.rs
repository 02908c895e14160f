//! A client's session as a pure state machine: what happened and `now` go in, orders come out. It knows no socket, thread or clock.
//!
//! It connects to one server after another, continues its session wherever it gets one, sets its watches and credentials again there, and keeps requests
//! and answers in order. What a lost connection leaves in the dark is told as such: a write that was sent is never sent again, a read always.

use super::hosts::{Host, HostList};
use super::op::{Op, Reply};
use super::preference::Preference;
use super::watches::{Sink, Watches};
use super::{Error, SessionState, WatchedEvent};
use crate::base::jute::{DecodeError, Writer};
use crate::base::prng::Prng;
use crate::base::secret::Secret;
use crate::base::{SessionId, Xid, time::Instant};
use crate::proto::OpCode;
use crate::proto::connect::{ConnectRequest, Password};
use std::collections::VecDeque;

mod incoming;

/// The longest wait between two rounds over all servers.
const REST_MS_MAX: u64 = 1_000;
/// The first one.
const REST_MS_MIN: u64 = 50;
/// A connection that was lost sooner than this counts as an attempt in vain, so that nobody is called in a tight loop.
const SHORT_LIVED_MS: u64 = 1_000;
/// The least time a server gets to accept a connection, however many there are to be tried within a session timeout.
const CONNECT_MS_MIN: u64 = 500;
/// While a server takes no writes: the first and the longest wait before another one is asked, as Java's client has it.
const SEARCH_MS_MIN: u64 = 100;
const SEARCH_MS_MAX: u64 = 60_000;
/// How long measured distances are taken to be right, on the average.
const MEASURE_MS: u64 = 300_000;
/// Bytes that were sent and may still be kept in front of others that were not.
const OUT_SENT_MAX: usize = 64 << 10;
/// Silence after which a ping is sent at the latest.
const PING_MS_MAX: u64 = 10_000;

/// What a session is made with.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// Wanted session timeout; the server may give another.
    pub timeout_ms: u32,
    /// Put up with a server that has lost its ensemble.
    pub read_only: bool,
    /// How long a request may wait for a connection or an answer.
    pub request_timeout_ms: u64,
    /// Largest answer that is taken.
    pub reply_bytes_max: usize,
    /// Empty, or `/…`.
    pub chroot: String,
    /// Decides the order of servers and the length of pauses.
    pub seed: u64,
    /// Servers that are tried before the others.
    pub preference: Preference,
    /// Requests do not wait for another round when all servers have been tried in vain.
    pub fail_fast: bool,
}

/// What the shell has to do.
#[derive(Debug)]
pub enum Output<D, W> {
    /// Drop the connection, if there is one, and make one to this server; then `connected` or `connect_failed`.
    Connect(Host),
    /// Drop the connection.
    Disconnect,
    /// An operation has ended.
    Done(D, Result<Reply, Error>),
    /// The server has told of this; the watches that it concerns follow.
    Notified(WatchedEvent),
    /// A watch has fired.
    Event(W, WatchedEvent),
    /// This watch is over: the session is, or it was removed.
    WatchEnded(W),
    /// The session goes from one state to another.
    State(SessionState),
    /// Ask this server whether it takes writes; then `probed`.
    Probe(Host),
    /// Measure how long it takes to connect to each of these; then `measured`.
    Measure(Vec<Host>),
}

/// Where the session is.
#[derive(Debug)]
enum Phase {
    /// Between attempts.
    Resting {
        until: Instant,
    },
    Connecting {
        until: Instant,
    },
    /// The connect request is sent.
    Greeting {
        until: Instant,
    },
    Attached {
        since: Instant,
    },
    Ended(Error),
}

#[derive(Debug)]
struct Request<D, W> {
    op: Op,
    done: D,
    sink: Option<W>,
    /// When it was given to the session.
    since: Instant,
}

#[derive(Debug)]
struct Sent<D, W> {
    xid: Xid,
    /// Position in all that this connection has to send at which it ends.
    ends_at: u64,
    request: Request<D, W>,
}

#[derive(Debug)]
struct Credential<D> {
    scheme: String,
    auth: Secret,
    /// Until the first server has accepted it, or its time is up.
    done: Option<D>,
    since: Instant,
}

/// See the module. `D` is told how an operation ended, `W` what a watch has seen.
#[derive(Debug)]
pub struct Session<D, W> {
    settings: SessionSettings,
    hosts: HostList,
    random: Prng,
    phase: Phase,
    rest_ms: u64,
    id: SessionId,
    password: Password,
    /// The session is one of the ensemble's. One that a read-only server has given ends with that connection.
    is_lasting: bool,
    negotiated_ms: u64,
    last_zxid: i64,
    next_xid: i32,
    /// Not sent yet: there is no connection.
    waiting: VecDeque<Request<D, W>>,
    sent: VecDeque<Sent<D, W>>,
    credentials: Vec<Credential<D>>,
    /// Those for the next connection alone.
    passing: Vec<(String, Secret)>,
    /// Numbers of the credentials whose answers are awaited, oldest first; passing ones have none.
    credentials_sent: VecDeque<Option<usize>>,
    watches: Watches<W>,
    input: Vec<u8>,
    input_start: usize,
    out: Vec<u8>,
    out_start: usize,
    /// What was taken of all that this connection had to send.
    taken: u64,
    last_sent: Instant,
    last_heard: Instant,
    /// While connected to a server that takes no writes: when another one is asked, and how long after that the next one.
    search: Option<(Instant, u64)>,
    /// When the distances of the servers are measured the next time, where that matters.
    measure_at: Instant,
    /// It is to go on at another server as soon as what was asked here is answered.
    is_leaving: bool,
    outputs: VecDeque<Output<D, W>>,
}

impl<D, W: Sink> Session<D, W> {
    /// Begins at once to connect to one of `hosts`.
    #[must_use]
    pub fn new(settings: SessionSettings, hosts: Vec<Host>, now: Instant) -> Self {
        let mut session = Session {
            hosts: HostList::new(hosts, settings.preference.clone(), settings.seed),
            random: Prng::new(settings.seed ^ 0x5e55),
            phase: Phase::Resting { until: now },
            rest_ms: REST_MS_MIN,
            id: SessionId::NONE,
            password: [0; 16],
            is_lasting: false,
            negotiated_ms: u64::from(settings.timeout_ms),
            last_zxid: 0,
            next_xid: 1,
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            credentials: Vec::new(),
            passing: Vec::new(),
            credentials_sent: VecDeque::new(),
            watches: Watches::new(),
            input: Vec::new(),
            input_start: 0,
            out: Vec::new(),
            out_start: 0,
            taken: 0,
            last_sent: now,
            last_heard: now,
            search: None,
            measure_at: now,
            is_leaving: false,
            outputs: VecDeque::new(),
            settings,
        };
        session.connect(now);
        session
    }

    /// The session's id; 0 before there is one.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The session's password, for whoever continues it.
    #[must_use]
    pub fn password(&self) -> Password {
        self.password
    }

    /// What the server has granted, in milliseconds.
    #[must_use]
    pub fn timeout_ms(&self) -> u64 {
        self.negotiated_ms
    }

    /// The last transaction this client has seen the effects of.
    #[must_use]
    pub fn last_zxid(&self) -> i64 {
        self.last_zxid
    }

    /// Why it is over, if it is.
    #[must_use]
    pub fn end(&self) -> Option<&Error> {
        match &self.phase {
            Phase::Ended(why) => Some(why),
            _ => None,
        }
    }

    /// The next order.
    pub fn poll_output(&mut self) -> Option<Output<D, W>> {
        self.outputs.pop_front()
    }

    /// What is to be sent now.
    #[must_use]
    pub fn transmit(&self) -> &[u8] {
        &self.out[self.out_start..]
    }

    /// So many bytes of it have been sent.
    pub fn transmitted(&mut self, now: Instant, bytes: usize) {
        self.taken += bytes as u64;
        self.out_start += bytes;
        self.last_sent = now;
        if self.out_start == self.out.len() {
            self.out.clear();
            self.out_start = 0;
        } else if self.out_start >= OUT_SENT_MAX && self.out_start > self.out.len() / 2 {
            // Whoever always asks faster than the socket takes it never empties it.
            self.out.drain(..self.out_start);
            self.out_start = 0;
        }
    }

    /// When `timeout` has to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Ended(_) => return None,
            Phase::Resting { until } | Phase::Connecting { until } | Phase::Greeting { until } => *until,
            Phase::Attached { .. } => {
                let due = self.silence_ends().min(self.ping_due());
                let measure = self.settings.preference.near_percent.map(|_| self.measure_at);
                self.search.map(|(at, _)| at).into_iter().chain(measure).fold(due, Instant::min)
            }
        };
        let oldest = self.oldest_request().map(|since| since.plus_ms(self.settings.request_timeout_ms));
        Some(oldest.map_or(phase, |at| at.min(phase)))
    }

    /// Gives it an operation; `sink` is told by the watch that goes with it.
    pub fn submit(&mut self, now: Instant, op: Op, done: D, sink: Option<W>) {
        let request = Request { op, done, sink, since: now };
        match &self.phase {
            Phase::Ended(why) => {
                let why = why.clone();
                self.outputs.push_back(Output::Done(request.done, Err(why)));
                self.outputs.extend(request.sink.map(Output::WatchEnded));
            }
            Phase::Attached { .. } if !self.is_leaving => self.send(request),
            // Nothing to say goodbye to: the session, if there is one, is left to its timeout.
            _ if request.op.code == OpCode::CloseSession => {
                self.end_with(Error::Closed);
                self.outputs.push_back(Output::Done(request.done, Ok(Reply::Nothing)));
            }
            _ => self.waiting.push_back(request),
        }
    }

    /// Gives it credentials, which it shows to every server from now on, also when the time to wait for the first answer is over.
    pub fn add_auth(&mut self, now: Instant, scheme: String, auth: Vec<u8>, done: D) {
        if let Phase::Ended(why) = &self.phase {
            self.outputs.push_back(Output::Done(done, Err(why.clone())));
            return;
        }
        // Given again, it is shown again and known once.
        let is_same = |known: &Credential<D>| known.done.is_none() && known.scheme == scheme && known.auth.0 == auth;
        let known = self.credentials.iter().position(is_same);
        let credential = Credential { scheme, auth: Secret(auth), done: Some(done), since: now };
        let number = known.unwrap_or(self.credentials.len());
        match self.credentials.get_mut(number) {
            Some(known) => *known = credential,
            None => self.credentials.push(credential),
        }
        if matches!(self.phase, Phase::Attached { .. }) {
            self.send_credential(number);
        }
    }

    /// Gives it credentials for the server that it is being connected to, and for no other.
    pub fn show(&mut self, credentials: Vec<(String, Vec<u8>)>) {
        if matches!(self.phase, Phase::Connecting { .. }) {
            self.passing = credentials.into_iter().map(|(scheme, auth)| (scheme, Secret(auth))).collect();
        }
    }

    /// From now on these are the servers. If this client belongs to another one of them, it goes there when what it has asked here is answered.
    pub fn set_hosts(&mut self, now: Instant, hosts: Vec<Host>) {
        if self.hosts.update(hosts) {
            self.leave(now);
        }
    }

    /// What a server has said that was to be asked.
    pub fn probed(&mut self, now: Instant, host: Host, takes_writes: bool) {
        if self.search.is_some() && takes_writes {
            self.hosts.go_first(host);
            self.leave(now);
        }
    }

    /// How long it takes to connect to those servers that could be reached, in µs.
    pub fn measured(&mut self, now: Instant, distances: Vec<(Host, u64)>) {
        if self.hosts.measured(distances) {
            self.leave(now);
        }
    }

    fn leave(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Attached { .. }) {
            self.is_leaving = true;
            self.leave_if_answered(now);
        }
    }

    fn leave_if_answered(&mut self, now: Instant) {
        if self.is_leaving && self.sent.is_empty() && matches!(self.phase, Phase::Attached { .. }) {
            self.lose_connection(now);
        }
    }

    /// Ends it without a word to the server, which keeps the session until its timeout.
    pub fn abandon(&mut self) {
        if !matches!(self.phase, Phase::Ended(_)) {
            self.end_with(Error::Closed);
        }
    }

    /// The connection that was ordered is there.
    pub fn connected(&mut self, now: Instant) {
        if let Phase::Connecting { until } = self.phase {
            let timeout_ms = i32::try_from(self.settings.timeout_ms).unwrap_or(i32::MAX);
            let mut greeting = if self.is_lasting {
                ConnectRequest::again(self.id, &self.password, timeout_ms)
            } else {
                ConnectRequest::new_session(timeout_ms)
            };
            greeting.last_zxid_seen = self.last_zxid;
            greeting.read_only = self.settings.read_only;
            greeting.write_frame(&mut self.out);
            self.last_heard = now;
            self.last_sent = now;
            // A new session is a transaction: it may take longer than a connection.
            self.phase = Phase::Greeting { until: until.max(now.plus_ms(self.read_timeout_ms())) };
        }
    }

    /// It could not be made.
    pub fn connect_failed(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Connecting { .. }) {
            self.connect(now);
        }
    }

    /// The connection is gone.
    pub fn disconnected(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Ended(_) | Phase::Resting { .. }) {
            self.lose_connection(now);
        }
    }

    /// These bytes have come.
    pub fn received(&mut self, now: Instant, bytes: &[u8]) {
        if !matches!(self.phase, Phase::Greeting { .. } | Phase::Attached { .. }) {
            return;
        }
        self.last_heard = now;
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut at = self.input_start;
        let outcome = self.frames(now, &input, &mut at);
        if !matches!(self.phase, Phase::Greeting { .. } | Phase::Attached { .. }) {
            return; // the rest belongs to a connection that is gone
        }
        match outcome {
            Ok(()) => {
                self.keep_input(input, at);
                self.leave_if_answered(now);
            }
            Err(why) => self.distrust(now, why),
        }
    }

    /// Time has passed.
    pub fn timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Ended(_) => return,
            Phase::Resting { until } if until <= now => self.connect(now),
            Phase::Connecting { until } | Phase::Greeting { until } if until <= now => self.lose_connection(now),
            Phase::Attached { .. } if self.silence_ends() <= now => self.lose_connection(now),
            Phase::Attached { .. } if self.ping_due() <= now => {
                self.frame(Xid::PING, OpCode::Ping, &[]);
                self.last_sent = now; // not again before this one has left
            }
            _ => {}
        }
        self.look_for_writes(now);
        self.look_for_near(now);
        self.end_overdue(now);
    }

    fn read_timeout_ms(&self) -> u64 {
        self.negotiated_ms * 2 / 3
    }

    fn silence_ends(&self) -> Instant {
        self.last_heard.plus_ms(self.read_timeout_ms())
    }

    fn ping_due(&self) -> Instant {
        self.last_sent.plus_ms((self.read_timeout_ms() / 2).clamp(1, PING_MS_MAX))
    }

    fn oldest_request(&self) -> Option<Instant> {
        let sent = self.sent.front().map(|s| s.request.since);
        let waiting = self.waiting.front().map(|r| r.since);
        let unconfirmed = self.credentials.iter().filter(|c| c.done.is_some()).map(|c| c.since);
        sent.into_iter().chain(waiting).chain(unconfirmed).min()
    }

    /// Requests that have waited too long: what was not sent is given up, what was not answered brings the connection under suspicion.
    fn end_overdue(&mut self, now: Instant) {
        let limit = self.settings.request_timeout_ms;
        let overdue = |since: Instant| since.plus_ms(limit) <= now;
        while self.waiting.front().is_some_and(|r| overdue(r.since)) {
            if let Some(request) = self.waiting.pop_front() {
                self.fail(request, Error::NotSent);
            }
        }
        let is_attached = matches!(self.phase, Phase::Attached { .. });
        self.give_up_credentials(overdue, if is_attached { Error::ConnectionLoss } else { Error::NotSent });
        if self.sent.front().is_some_and(|s| overdue(s.request.since)) {
            self.lose_connection(now);
            // Reads are given up as well: they have had their time.
            while self.waiting.front().is_some_and(|r| overdue(r.since)) {
                if let Some(request) = self.waiting.pop_front() {
                    self.fail(request, Error::ConnectionLoss);
                }
            }
        }
    }

    /// Nobody waits any longer for these to be accepted; they are shown all the same.
    fn give_up_credentials(&mut self, is_meant: impl Fn(Instant) -> bool, why: Error) {
        for credential in self.credentials.iter_mut().filter(|c| is_meant(c.since)) {
            self.outputs.extend(credential.done.take().map(|done| Output::Done(done, Err(why.clone()))));
        }
    }

    /// Asks the other servers in turn, at growing intervals.
    fn look_for_writes(&mut self, now: Instant) {
        let Some((_, pause)) = self.search.filter(|(at, _)| *at <= now && !self.is_leaving) else { return };
        self.search = Some((now.plus_ms(pause), (pause * 2).min(SEARCH_MS_MAX)));
        self.outputs.extend(self.hosts.another().map(Output::Probe));
    }

    /// Has the distances measured, now and then: networks change.
    fn look_for_near(&mut self, now: Instant) {
        let wants = self.settings.preference.near_percent.is_some() && matches!(self.phase, Phase::Attached { .. });
        if wants && self.measure_at <= now {
            // Not all clients at once.
            self.measure_at = now.plus_ms(MEASURE_MS / 2 + self.random.below(MEASURE_MS));
            self.outputs.push_back(Output::Measure(self.hosts.all().to_vec()));
        }
    }

    fn connect(&mut self, now: Instant) {
        if self.hosts.round_is_over() && !matches!(self.phase, Phase::Resting { .. }) {
            if self.settings.fail_fast {
                for request in std::mem::take(&mut self.waiting) {
                    self.fail(request, Error::NotSent);
                }
                self.give_up_credentials(|_| true, Error::NotSent);
            }
            self.rest(now);
            return;
        }
        let host = self.hosts.advance();
        let patience = (u64::from(self.settings.timeout_ms) / self.hosts.count() as u64).max(CONNECT_MS_MIN);
        self.phase = Phase::Connecting { until: now.plus_ms(patience) };
        self.outputs.push_back(Output::Connect(host));
    }

    fn rest(&mut self, now: Instant) {
        let pause = self.rest_ms / 2 + self.random.below(self.rest_ms / 2 + 1);
        self.rest_ms = (self.rest_ms * 2).min(REST_MS_MAX);
        self.phase = Phase::Resting { until: now.plus_ms(pause) };
    }

    fn lose_connection(&mut self, now: Instant) {
        let was = std::mem::replace(&mut self.phase, Phase::Connecting { until: now });
        self.outputs.push_back(Output::Disconnect);
        let taken = self.taken;
        let is_leaving = std::mem::take(&mut self.is_leaving);
        self.search = None;
        self.forget_connection();
        let mut again = VecDeque::new();
        while let Some(Sent { ends_at, request, .. }) = self.sent.pop_front() {
            if request.op.repeatable {
                again.push_back(request);
            } else if request.op.code == OpCode::CloseSession {
                self.outputs.push_back(Output::Done(request.done, Ok(Reply::Nothing)));
                self.waiting = again;
                self.end_with(Error::Closed);
                return;
            } else {
                self.fail(request, if ends_at <= taken { Error::ConnectionLoss } else { Error::NotSent });
            }
        }
        again.append(&mut self.waiting);
        self.waiting = again;
        if let Phase::Attached { since } = was {
            self.outputs.push_back(Output::State(SessionState::Suspended));
            if now.since_ms(since) < SHORT_LIVED_MS && !is_leaving {
                self.rest(now);
                return;
            }
        }
        self.connect(now);
    }

    fn forget_connection(&mut self) {
        self.input.clear();
        self.input_start = 0;
        self.out.clear();
        self.out_start = 0;
        self.taken = 0;
        self.passing.clear();
        self.credentials_sent.clear();
    }

    /// The server has sent nonsense: whoever waits for it is told, the next one may do better.
    fn distrust(&mut self, now: Instant, why: DecodeError) {
        if let Some(sent) = self.sent.pop_front() {
            self.fail(sent.request, Error::BadReply(why));
        }
        self.lose_connection(now);
    }

    fn end_with(&mut self, why: Error) {
        self.phase = Phase::Ended(why.clone());
        self.outputs.push_back(Output::Disconnect);
        self.forget_connection();
        let sent = std::mem::take(&mut self.sent).into_iter().map(|s| s.request);
        let requests: Vec<_> = sent.chain(std::mem::take(&mut self.waiting)).collect();
        for request in requests {
            self.fail(request, why.clone());
        }
        for credential in std::mem::take(&mut self.credentials) {
            self.outputs.extend(credential.done.map(|done| Output::Done(done, Err(why.clone()))));
        }
        self.outputs.extend(self.watches.drain().into_iter().map(Output::WatchEnded));
        self.outputs.push_back(Output::State(match why {
            Error::SessionExpired => SessionState::Expired,
            Error::AuthFailed => SessionState::AuthFailed,
            _ => SessionState::Closed,
        }));
    }

    fn fail(&mut self, request: Request<D, W>, why: Error) {
        self.outputs.push_back(Output::Done(request.done, Err(why)));
        self.outputs.extend(request.sink.map(Output::WatchEnded));
    }

    /// Appends a whole frame; returns where it ends in all that this connection sends.
    fn frame(&mut self, xid: Xid, op: OpCode, body: &[u8]) -> u64 {
        self.out.put_len(8 + body.len());
        self.out.put_i32(xid.0);
        self.out.put_i32(op as i32);
        self.out.put_raw(body);
        self.taken + (self.out.len() - self.out_start) as u64
    }

    fn send(&mut self, mut request: Request<D, W>) {
        let xid = Xid(self.next_xid);
        self.next_xid = if self.next_xid == i32::MAX { 1 } else { self.next_xid + 1 };
        let body = std::mem::take(&mut request.op.body);
        let ends_at = self.frame(xid, request.op.code, &body);
        if request.op.repeatable {
            request.op.body = body;
        }
        self.sent.push_back(Sent { xid, ends_at, request });
    }

    fn send_credential(&mut self, number: usize) {
        let credential = &self.credentials[number];
        let body = credential_body(&credential.scheme, &credential.auth.0);
        self.frame(Xid::AUTH, OpCode::Auth, &body);
        self.credentials_sent.push_back(Some(number));
    }

    fn send_all_credentials(&mut self) {
        for (scheme, auth) in std::mem::take(&mut self.passing) {
            self.frame(Xid::AUTH, OpCode::Auth, &credential_body(&scheme, &auth.0));
            self.credentials_sent.push_back(None);
        }
        for number in 0..self.credentials.len() {
            self.send_credential(number);
        }
    }
}

fn credential_body(scheme: &str, auth: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_i32(0);
    body.put_string(scheme);
    body.put_buffer(Some(auth));
    body
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

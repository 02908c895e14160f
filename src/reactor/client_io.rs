//! One shard's sockets: reads, sends and closes them as its `Shard` says, and wakes it when the replica has published.
//!
//! One task serves the sockets that are ready, one turn each: it receives into the shard's own buffer, and whatever the turn made ready,
//! for this or any other connection, leaves with one non-blocking send per connection. Invariants:
//! 1. The shard is borrowed for the length of a turn and never across an await.
//! 2. Bytes are received before the shard loads `applied` (rule A3): `turn` receives, then the shard serves.
//! 3. Before the shard's executor may park, the inbox is armed and the stream looked at once more (rule A8).
//! 4. A socket is in the table, and its connection known to the shard, from `accept` until `closed`; nothing else holds it.
//! 5. Readiness is reported once: whoever stops reading a socket that may hold more asks for it again when it wants to go on.

use crate::base::{ConnId, ConnKey, Instant, ShardId};
use crate::handoff::{Bell, Inbox, ToReplica};
use crate::reactor::accept::{Accepted, MovedSocket, Place};
use crate::reactor::clock::{self, Alarm};
use crate::reactor::mesh::{Mesh, Report, ToShard};
use crate::reactor::readiness::{READY_MAX, Readiness, Ready};
use crate::reactor::tasks::Tasks;
use crate::reactor::way::Way;
use crate::reactor::words::Admin;
use crate::shard::{Close, Departed, Detail, Handover, Shard, ShardReport};
use foldhash::HashMap;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::cell::RefCell;
use std::fmt::Display;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Messages one wake-up takes from the inbox before the sockets get their turn.
const MESSAGES_PER_TURN: usize = 64;
/// Receives of one connection in one turn while its buffer keeps being filled.
const RECEIVES_PER_TURN: usize = 4;
/// Sends of one turn (about 200 µs, rule B2): an event that a thousand connections watch leaves in many turns, between which others have theirs.
const SENDS_PER_TURN: usize = 32;
/// How long a stopping server waits for clients to take their last replies.
const LAST_SENDS: Duration = Duration::from_millis(500);

/// A shard and its sockets. Lives on the shard's executor.
pub struct ShardLoop {
    id: ShardId,
    state: RefCell<State>,
    mesh: Arc<Mesh>,
    inbox: Arc<Inbox<ToShard>>,
    bell: Arc<Bell>,
    to_replica: Arc<Inbox<ToReplica>>,
    readiness: Rc<Readiness>,
    alarm: Alarm,
    admin: Arc<Admin>,
    /// Those that gather the answers to four-letter words, and those that wait until other shards have room for an order.
    tasks: Rc<Tasks>,
}

struct State {
    shard: Shard,
    sockets: HashMap<ConnId, ClientSocket>,
    readiness: Rc<Readiness>,
    /// What is ready to be sent and has to wait for a later turn: since when, and behind it there is more.
    unsent: Option<Unsent>,
    /// Four-letter words with what came behind them. Their tasks start when the turn is over: glommio polls a new task at once, which must
    /// not find the shard borrowed.
    words: Vec<(ConnId, [u8; 4], Vec<u8>)>,
}

/// The sends that one turn has left.
#[derive(Clone, Copy)]
struct Unsent {
    since: Instant,
    sends: usize,
}

/// One client's socket and where it stands.
struct ClientSocket {
    fd: OwnedFd,
    /// The shard does not want more bytes for now.
    paused: bool,
    /// The client has sent all it ever will; it is still given the answers to that.
    ended: bool,
    /// A send found no room; the next one comes when there is.
    full: bool,
    /// Close when everything is sent.
    finishing: bool,
    place: Place,
}

impl ShardLoop {
    /// A shard with no connections.
    pub fn new(id: ShardId, shard: Shard, mesh: Arc<Mesh>, admin: Arc<Admin>) -> Rc<Self> {
        let inbox = mesh.shards[usize::from(id.0)].clone();
        let bell = mesh.bells[usize::from(id.0)].clone();
        let to_replica = mesh.to_replica[usize::from(id.0)].clone();
        let readiness = Rc::new(Readiness::of_this_executor().unwrap_or_else(|e| no_sockets(&e)));
        let state = State { shard, sockets: HashMap::default(), readiness: readiness.clone(), unsent: None, words: Vec::new() };
        let alarm = Alarm::of_this_executor();
        Rc::new(ShardLoop { id, state: RefCell::new(state), mesh, inbox, bell, to_replica, readiness, alarm, admin, tasks: Rc::default() })
    }

    /// Serves until told to stop. `accepting` is the task that accepts sockets, on shard 0.
    pub async fn run(self: Rc<Self>, mut accepting: Option<glommio::Task<()>>) {
        let timers = glommio::spawn_local(self.clone().ring());
        let sockets = glommio::spawn_local(self.clone().serve_sockets());
        let mut messages = Vec::with_capacity(MESSAGES_PER_TURN);
        let way = Way::of_this_executor();
        loop {
            self.until_woken().await;
            self.inbox.drain(&mut messages, MESSAGES_PER_TURN);
            for message in messages.drain(..) {
                match message {
                    ToShard::Accepted(accepted) => self.accept(accepted),
                    ToShard::GiveAway { to, connections } => self.turn(|state, _| state.shard.give_away(to, connections as usize)),
                    ToShard::Shed { connections, idle_ms } => {
                        self.turn(|state, now| state.shard.shed(now, usize::try_from(connections).unwrap_or(usize::MAX), idle_ms));
                    }
                    ToShard::Reserve { conn, peer } => self.reserve(conn, peer),
                    ToShard::Reserved { conn, to } => self.turn(|state, now| state.shard.reserved(now, conn, to)),
                    ToShard::Release(at) => self.turn(|state, now| state.shard.release(now, at)),
                    ToShard::Arrive { at, departed, socket } => self.turn(|state, now| Self::arrive(state, now, at, departed, socket)),
                    ToShard::Report(to, detail) => self.report(&to, detail),
                    ToShard::ResetConnectionStats => self.state.borrow_mut().shard.reset_connection_stats(),
                    ToShard::ResetServerStats => self.state.borrow_mut().shard.reset_stats(),
                    ToShard::ReplaceTree(tree, reader) => self.turn(|state, now| state.shard.replace_tree(now, tree, *reader)),
                    ToShard::StopAccepting => stop_accepting(&mut accepting).await,
                    ToShard::Kill => {
                        stop_accepting(&mut accepting).await;
                        self.state.borrow_mut().sockets.clear();
                    }
                    ToShard::Stop => {
                        self.stop().await;
                        sockets.cancel().await;
                        timers.cancel().await;
                        self.tasks.stop().await;
                        return;
                    }
                }
            }
            self.turn(|state, now| {
                state.shard.drain(now);
                if state.shard.wants_room() {
                    state.shard.replica_has_room(now);
                }
            });
            // The run queue goes first: sockets that became readable meanwhile get their turn before the next wake-up's.
            way.give().await;
        }
    }

    /// Ready when the inbox has something or the stream has moved beyond what the shard has seen.
    async fn until_woken(&self) {
        self.bell.wait(|| !self.inbox.is_empty() || self.state.borrow().shard.behind()).await;
    }

    async fn ring(self: Rc<Self>) {
        loop {
            self.alarm.rung().await;
            self.turn(|state, now| state.shard.handle_timeout(now));
        }
    }

    /// Lets the shard do something, then carries out all that follows from it.
    fn turn(self: &Rc<Self>, act: impl FnOnce(&mut State, Instant)) {
        self.turn_at(clock::now(), act);
    }

    /// The same for who has just looked at the clock. When it was looked at once more, because of what was sent: what it said.
    fn turn_at(self: &Rc<Self>, now: Instant, act: impl FnOnce(&mut State, Instant)) -> Option<Instant> {
        let mut state = self.state.borrow_mut();
        act(&mut state, now);
        let made = (state.shard.transmits() > 0).then(clock::now);
        let sends = Self::carry_out(&mut state, now);
        let sent = made.map(|made| state.note_sent(now, made, sends));
        while let Some(slow) = state.shard.poll_slow() {
            tracing::warn!("{slow}");
        }
        if state.shard.wants_room() {
            self.mesh.want_room(usize::from(self.id.0));
            state.shard.replica_has_room(now);
            Self::carry_out(&mut state, now);
        }
        self.hand_over(&mut state);
        // After all that can push: sending makes room for requests that waited for it, and finds connections that are gone.
        if state.shard.take_kick() {
            self.to_replica.kick();
        }
        self.alarm.set(state.shard.poll_timeout());
        let load = &self.mesh.loads[usize::from(self.id.0)];
        load.set_work(state.shard.work());
        load.set_shed(state.shard.shed_so_far());
        if state.shard.has_work() {
            // The main task goes on with it, behind everybody who is ready now.
            self.bell.ring();
        }
        if !state.words.is_empty() {
            let words = std::mem::take(&mut state.words);
            drop(state);
            for (conn, word, argument) in words {
                self.tasks.run(self.clone().answer(conn, word, argument));
            }
        }
        sent
    }

    /// Sends, closes, pauses and resumes what the shard has asked for. What is too much to send in one turn stays with the shard. How many
    /// connections were sent to.
    fn carry_out(state: &mut State, now: Instant) -> usize {
        let mut sends = 0;
        loop {
            let mut idle = true;
            while sends < SENDS_PER_TURN
                && let Some(conn) = state.shard.poll_transmit()
            {
                Self::send(state, now, conn);
                sends += 1;
                idle = false;
            }
            while let Some((conn, close)) = state.shard.poll_close() {
                if close == Close::AfterOutput {
                    Self::send(state, now, conn);
                }
                match state.sockets.get_mut(&conn) {
                    Some(socket) if close == Close::AfterOutput && socket.full => socket.finishing = true,
                    _ => Self::close(state, now, conn),
                }
                idle = false;
            }
            while let Some((conn, resume)) = state.shard.poll_read_change() {
                if let Some(socket) = state.sockets.get_mut(&conn) {
                    socket.paused = !resume;
                    if resume {
                        Self::look_again(state, now, conn);
                    }
                }
                idle = false;
            }
            while let Some(conn) = state.shard.poll_reap() {
                if Self::take_bytes(state, now, conn, false) {
                    Self::look_again(state, now, conn);
                }
                state.shard.reaped(now, conn);
                idle = false;
            }
            while let Some(conn) = state.shard.poll_shed() {
                let is_silent = state.sockets.get(&conn).is_some_and(ClientSocket::is_silent);
                state.shard.shed_if_idle(now, conn, is_silent);
                idle = false;
            }
            while let Some(word) = state.shard.poll_four_letter() {
                state.words.push(word);
                idle = false;
            }
            if idle {
                return sends;
            }
        }
    }

    /// Sends what the connection has, as far as the socket takes it; the rest leaves when it is reported to have room.
    fn send(state: &mut State, now: Instant, conn: ConnId) {
        let Some(socket) = state.sockets.get_mut(&conn).filter(|s| !s.full) else { return };
        match send_output(&mut state.shard, socket, conn) {
            Ok(true) if socket.finishing || socket.ended && state.shard.is_settled(conn) => Self::lost(state, now, conn),
            Ok(sent_all) => socket.full = !sent_all,
            Err(_) => Self::lost(state, now, conn),
        }
    }

    /// The connection is over, for a reason that is not the shard's.
    fn lost(state: &mut State, now: Instant, conn: ConnId) {
        state.shard.disconnected(now, conn);
        Self::close(state, now, conn);
    }

    /// Forgets the connection and closes its socket.
    fn close(state: &mut State, now: Instant, conn: ConnId) {
        if let Some(socket) = state.sockets.remove(&conn) {
            socket.discard_input();
        }
        state.shard.closed(now, conn);
    }

    // ---- sockets ----

    fn accept(self: &Rc<Self>, accepted: Accepted) {
        let Accepted { socket, peer, place } = accepted;
        self.turn(|state, now| {
            let conn = state.shard.accept(now, peer);
            if let Err(e) = state.readiness.add(&socket, conn) {
                tracing::warn!("a connection is closed because its socket cannot be waited for: {e}");
                return state.shard.closed(now, conn);
            }
            let socket = ClientSocket { fd: socket, paused: false, ended: false, full: false, finishing: false, place };
            state.sockets.insert(conn, socket);
        });
    }

    // ---- connections that move between shards ----

    /// Tells other shards what this one has for them.
    fn hand_over(&self, state: &mut State) {
        while let Some(handover) = state.shard.poll_handover() {
            match handover {
                Handover::Reserve { conn, to, peer } => self.tell(to, ToShard::Reserve { conn: ConnKey { shard: self.id, conn }, peer }),
                Handover::Release(to) => self.tell(to.shard, ToShard::Release(to.conn)),
                Handover::Depart { conn, to, departed } => {
                    let Some(ClientSocket { fd, ended, mut place, .. }) = state.sockets.remove(&conn) else { continue };
                    if let Err(e) = state.readiness.remove(&fd) {
                        tracing::debug!("a socket that goes to another shard was not waited for: {e}");
                    }
                    place.move_to(self.mesh.loads[usize::from(to.shard.0)].clone());
                    let socket = MovedSocket { socket: fd, ended, place };
                    self.tell(to.shard, ToShard::Arrive { at: to.conn, departed, socket });
                }
            }
        }
    }

    /// Orders another shard, at once or when it has room.
    fn tell(&self, shard: ShardId, order: ToShard) {
        let shard = usize::from(shard.0);
        let Err(mut order) = self.mesh.tell(shard, order) else { return };
        let mesh = self.mesh.clone();
        self.tasks.run(async move {
            while let Err(back) = mesh.tell(shard, order) {
                order = back;
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
        });
    }

    fn reserve(self: &Rc<Self>, conn: ConnKey, peer: SocketAddr) {
        let mut at = None;
        self.turn(|state, now| at = Some(state.shard.reserve(now, peer)));
        if let Some(at) = at {
            self.tell(conn.shard, ToShard::Reserved { conn: conn.conn, to: ConnKey { shard: self.id, conn: at } });
        }
    }

    fn arrive(state: &mut State, now: Instant, at: ConnId, departed: Box<Departed>, moved: MovedSocket) {
        if !state.shard.arrive(at, departed) {
            return; // its socket closes here
        }
        let MovedSocket { socket, ended, place } = moved;
        if let Err(e) = state.readiness.add(&socket, at) {
            tracing::warn!("a connection is closed because its socket cannot be waited for: {e}");
            return state.shard.release(now, at);
        }
        // What is in its socket is looked at when the shard serves it.
        state.sockets.insert(at, ClientSocket { fd: socket, paused: true, ended, full: false, finishing: false, place });
    }

    /// Serves the sockets that are ready, some at a time, for as long as the task lives.
    async fn serve_sockets(self: Rc<Self>) {
        let mut ready = Vec::with_capacity(READY_MAX);
        let way = Way::of_this_executor();
        let mut last_look = None;
        loop {
            self.readiness.take(&mut ready).unwrap_or_else(|e| no_sockets(&e));
            if ready.is_empty() {
                last_look = None;
                self.readiness.wait().await.unwrap_or_else(|e| no_sockets(&e));
                continue;
            }
            let looked = clock::now();
            self.note_look(looked, last_look.replace(looked), ready.len());
            // One turn begins when the one before has sent, so most need no look of their own at the clock.
            let mut now = Some(looked);
            for ready in ready.drain(..) {
                now = self.ready(ready, looked, now);
            }
            // What these sockets asked for goes first, and what else this core has to do.
            way.give().await;
        }
    }

    fn note_look(&self, looked: Instant, last: Option<Instant>, found: usize) {
        let mut state = self.state.borrow_mut();
        let metrics = state.shard.metrics_mut();
        metrics.sockets_ready.record(found as u64);
        if let Some(last) = last {
            metrics.look_us.record(looked.since_us(last));
        }
    }

    /// A socket that was seen to be ready at `looked`. `now` is given and returned if it is known.
    fn ready(self: &Rc<Self>, ready: Ready, looked: Instant, mut now: Option<Instant>) -> Option<Instant> {
        let conn = ready.conn;
        let was_full = self.state.borrow().sockets.get(&conn).is_some_and(|s| s.full);
        if was_full && ready.writable {
            now = self.turn_at(now.unwrap_or_else(clock::now), |state, now| {
                if let Some(socket) = state.sockets.get_mut(&conn) {
                    socket.full = false;
                    Self::send(state, now, conn);
                }
            });
        }
        if ready.readable {
            let begin = now.take().unwrap_or_else(clock::now);
            self.state.borrow_mut().shard.metrics_mut().ready_us.record(begin.since_us(looked));
            now = Some(begin);
            let more = (0..RECEIVES_PER_TURN).all(|_| self.receive(conn, ready.ended, &mut now));
            if more {
                now = self.turn_at(now.unwrap_or_else(clock::now), |state, now| Self::look_again(state, now, conn));
            }
        }
        now
    }

    /// One turn of a connection: receive what has arrived, let the shard serve it, send what that made ready. True when the socket may hold
    /// more.
    fn receive(self: &Rc<Self>, conn: ConnId, end: bool, now: &mut Option<Instant>) -> bool {
        let mut more = false;
        let begin = now.unwrap_or_else(clock::now);
        *now = self.turn_at(begin, |state, now| more = Self::take_bytes(state, now, conn, end));
        more
    }

    /// One receive, whose bytes go to the shard; an end or an error ends the connection. True when the socket may hold more, that is when the
    /// room was filled, or something but the end was received and the `end` has been reported.
    fn take_bytes(state: &mut State, now: Instant, conn: ConnId, end: bool) -> bool {
        let Some(socket) = state.sockets.get_mut(&conn).filter(|s| !s.paused && !s.ended) else { return false };
        let room = state.shard.input(conn);
        let room_bytes = room.len();
        if room_bytes == 0 {
            return false; // the shard has forgotten this connection
        }
        match rustix::net::recv(&socket.fd, room, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => {
                socket.ended = true;
                if state.shard.is_settled(conn) {
                    Self::lost(state, now, conn);
                }
                false
            }
            Ok((_, n)) => {
                state.shard.received(now, conn, n);
                end || n == room_bytes
            }
            Err(Errno::AGAIN) => false,
            Err(Errno::INTR) => true,
            Err(_) => {
                Self::lost(state, now, conn);
                false
            }
        }
    }

    /// Has the socket reported again: it was left alone with what it may hold.
    fn look_again(state: &mut State, now: Instant, conn: ConnId) {
        let Some(socket) = state.sockets.get(&conn) else { return };
        if let Err(e) = state.readiness.look_again(&socket.fd, conn) {
            tracing::warn!("a connection is closed because its socket cannot be waited for: {e}");
            Self::lost(state, now, conn);
        }
    }

    // ---- reports and the end ----

    fn own_report(&self, detail: Detail) -> ShardReport {
        self.state.borrow().shard.report(clock::now(), clock::wall(), detail)
    }

    fn report(&self, to: &Inbox<Report>, detail: Detail) {
        let report = self.own_report(detail);
        // A gatherer that gave up has no room to offer; nobody misses the report then.
        let _ = to.push(Report::Shard(self.id, Box::new(report)));
        to.kick();
    }

    async fn answer(self: Rc<Self>, conn: ConnId, word: [u8; 4], argument: Vec<u8>) {
        let own = |detail| self.own_report(detail);
        let text = self.admin.answer(&self.mesh, self.id, own, word, &argument).await;
        self.turn(|state, _| {
            if state.sockets.contains_key(&conn) {
                state.shard.answer_four_letter(conn, &text);
            }
        });
    }

    async fn stop(self: &Rc<Self>) {
        let give_up = clock::now().plus_ms(LAST_SENDS.as_millis() as u64);
        self.turn(|state, now| state.shard.drain(now));
        while self.state.borrow().shard.behind() && clock::now() < give_up {
            self.turn(|state, now| state.shard.drain(now));
        }
        while self.state.borrow().sockets.values().any(|socket| socket.full) && clock::now() < give_up {
            glommio::timer::sleep(Duration::from_millis(5)).await;
        }
        self.state.borrow_mut().sockets.clear();
    }
}

impl State {
    /// A turn that began at `began` had made all its answers ready at `made`, and has sent to so many connections since. Returns the time.
    fn note_sent(&mut self, began: Instant, made: Instant, sends: usize) -> Instant {
        let sent = clock::now();
        let metrics = self.shard.metrics_mut();
        metrics.turn_us.record(made.since_us(began));
        metrics.send_us.record(sent.since_us(self.unsent.map_or(made, |unsent| unsent.since)));
        let left = self.shard.transmits();
        self.unsent = match self.unsent {
            _ if left == 0 => None,
            Some(Unsent { since, sends: before }) if before > sends => Some(Unsent { since, sends: before - sends }),
            _ => Some(Unsent { since: made, sends: left }),
        };
        sent
    }
}

impl ClientSocket {
    /// Nothing is in it that the shard has not seen, not even an end, and nothing on its way out. What is in it stays, and is reported.
    fn is_silent(&self) -> bool {
        let peeked = rustix::net::recv(&self.fd, &mut [0; 1][..], RecvFlags::DONTWAIT | RecvFlags::PEEK);
        !self.paused && !self.ended && !self.full && !self.finishing && peeked.err() == Some(Errno::AGAIN)
    }

    /// Unread bytes at close would make the kernel send a reset, which can overtake the last reply.
    fn discard_input(&self) {
        let mut scratch = [0; 1024];
        let _ = rustix::net::recv(&self.fd, &mut scratch[..], RecvFlags::DONTWAIT);
    }
}

async fn stop_accepting(accepting: &mut Option<glommio::Task<()>>) {
    if let Some(task) = accepting.take() {
        task.cancel().await;
    }
}

/// Sends the connection's output; `Ok(true)` when all of it went, `Ok(false)` when the socket is full.
fn send_output(shard: &mut Shard, socket: &ClientSocket, conn: ConnId) -> Result<bool, Errno> {
    loop {
        let output = shard.output(conn);
        if output.is_empty() {
            return Ok(true);
        }
        match rustix::net::send(&socket.fd, output, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(n) => shard.sent(conn, n),
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// A shard that cannot see its sockets serves nobody.
fn no_sockets(error: &dyn Display) -> ! {
    super::fatal(&format!("sockets cannot be waited for: {error}"))
}

//! One shard's sockets: reads, sends and closes them as its `Shard` says, and wakes it when the replica has published.
//!
//! A connection is one long-lived task that waits for readability, receives into the shard's own buffer and ends the turn: whatever the
//! turn made ready, for this or any other connection, leaves with one non-blocking send per connection. A second task exists only while a
//! socket is full. Invariants:
//! 1. The shard is borrowed for the length of a turn and never across an await.
//! 2. Bytes are received before the shard loads `applied` (rule A3): `turn` receives, then the shard serves.
//! 3. Before the shard's executor may park, the inbox is armed and the stream looked at once more (rule A8).
//! 4. A connection's number is known to the shard from `accept` until `closed`; the task may outlive it by one wake-up.

use crate::base::{ConnId, Instant, ShardId};
use crate::handoff::{Bell, Inbox, ToReplica};
use crate::reactor::accept::{Accepted, Place};
use crate::reactor::clock::{self, Alarm};
use crate::reactor::mesh::{Mesh, Report, ToShard};
use crate::reactor::words::Admin;
use crate::shard::{Close, Detail, Shard, ShardReport};
use foldhash::HashMap;
use glommio::io::PollableFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
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
    alarm: Alarm,
    admin: Arc<Admin>,
}

struct State {
    shard: Shard,
    sockets: HashMap<ConnId, Rc<ClientSocket>>,
    /// Tasks to start when the turn is over: glommio polls a new task at once, which must not find the shard borrowed.
    starts: Vec<Start>,
}

/// A task that a turn makes necessary.
enum Start {
    /// The socket is full.
    Writer(ConnId, Rc<ClientSocket>),
    /// A four-letter word with what came behind it.
    Word(ConnId, [u8; 4], Vec<u8>),
}

/// One client's socket and what its tasks have to know.
struct ClientSocket {
    fd: PollableFd<OwnedFd>,
    /// The shard does not want more bytes for now.
    paused: Cell<bool>,
    /// The client has sent all it ever will; it is still given the answers to that.
    ended: Cell<bool>,
    /// A writer task is waiting for room in the socket.
    full: Cell<bool>,
    /// Close when everything is sent.
    finishing: Cell<bool>,
    /// Out of the table: its tasks must end.
    closed: Cell<bool>,
    paused_reader: Cell<Option<Waker>>,
    _place: Place,
}

/// What the reader of a connection does next.
enum Next {
    /// Wait for bytes.
    Readable,
    /// Wait until the shard wants more.
    Resumed,
    /// The connection is over, or will send nothing more.
    End,
}

/// What one receive came to.
enum Received {
    Nothing,
    Some,
    /// There may be more.
    AllThereWasRoomFor,
    /// The connection is over, or will send nothing more.
    End,
}

impl ShardLoop {
    /// A shard with no connections.
    pub fn new(id: ShardId, shard: Shard, mesh: Arc<Mesh>, admin: Arc<Admin>) -> Rc<Self> {
        let inbox = mesh.shards[usize::from(id.0)].clone();
        let bell = mesh.bells[usize::from(id.0)].clone();
        let to_replica = mesh.to_replica[usize::from(id.0)].clone();
        let state = RefCell::new(State { shard, sockets: HashMap::default(), starts: Vec::new() });
        Rc::new(ShardLoop { id, state, mesh, inbox, bell, to_replica, alarm: Alarm::of_this_executor(), admin })
    }

    /// Serves until told to stop. `accepting` is the task that accepts sockets, on shard 0.
    pub async fn run(self: Rc<Self>, mut accepting: Option<glommio::Task<()>>) {
        let timers = glommio::spawn_local(self.clone().ring());
        let mut messages = Vec::with_capacity(MESSAGES_PER_TURN);
        loop {
            self.until_woken().await;
            self.inbox.drain(&mut messages, MESSAGES_PER_TURN);
            for message in messages.drain(..) {
                match message {
                    ToShard::Accepted(accepted) => self.clone().accept(accepted),
                    ToShard::Report(to, detail) => self.report(&to, detail),
                    ToShard::ResetConnectionStats => self.state.borrow_mut().shard.reset_connection_stats(),
                    ToShard::ResetServerStats => self.state.borrow_mut().shard.reset_stats(),
                    ToShard::StopAccepting => {
                        if let Some(task) = accepting.take() {
                            task.cancel().await;
                        }
                    }
                    ToShard::Stop => {
                        self.stop().await;
                        timers.cancel().await;
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
            glommio::executor().yield_now().await;
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
        let now = clock::now();
        let mut state = self.state.borrow_mut();
        act(&mut state, now);
        Self::carry_out(&mut state, now);
        if state.shard.wants_room() {
            self.mesh.want_room(usize::from(self.id.0));
            state.shard.replica_has_room(now);
            Self::carry_out(&mut state, now);
        }
        // After all that can push: sending makes room for requests that waited for it, and finds connections that are gone.
        if state.shard.take_kick() {
            self.to_replica.kick();
        }
        self.alarm.set(state.shard.poll_timeout());
        if state.shard.has_work() {
            // The main task goes on with it, behind everybody who is ready now.
            self.bell.ring();
        }
        if !state.starts.is_empty() {
            let starts = std::mem::take(&mut state.starts);
            drop(state);
            starts.into_iter().for_each(|start| self.start(start));
        }
    }

    fn start(self: &Rc<Self>, start: Start) {
        match start {
            Start::Writer(conn, socket) => glommio::spawn_local(self.clone().write_when_possible(conn, socket)).detach(),
            Start::Word(conn, word, argument) => glommio::spawn_local(self.clone().answer(conn, word, argument)).detach(),
        };
    }

    /// Sends, closes, pauses and resumes what the shard has asked for. What is too much to send in one turn stays with the shard.
    fn carry_out(state: &mut State, now: Instant) {
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
                match state.sockets.get(&conn) {
                    Some(socket) if close == Close::AfterOutput && socket.full.get() => socket.finishing.set(true),
                    _ => Self::close(state, now, conn),
                }
                idle = false;
            }
            while let Some((conn, resume)) = state.shard.poll_read_change() {
                if let Some(socket) = state.sockets.get(&conn) {
                    socket.pause(!resume);
                }
                idle = false;
            }
            while let Some(conn) = state.shard.poll_reap() {
                if let Some(socket) = state.sockets.get(&conn).cloned()
                    && !socket.paused.get()
                    && !socket.ended.get()
                {
                    Self::take_bytes(state, now, conn, &socket);
                }
                state.shard.reaped(now, conn);
                idle = false;
            }
            while let Some((conn, word, argument)) = state.shard.poll_four_letter() {
                state.starts.push(Start::Word(conn, word, argument));
                idle = false;
            }
            if idle {
                return;
            }
        }
    }

    /// Sends what the connection has, as far as the socket takes it; the rest is the writer task's.
    fn send(state: &mut State, now: Instant, conn: ConnId) {
        let Some(socket) = state.sockets.get(&conn) else { return };
        if socket.full.get() {
            return;
        }
        match send_output(&mut state.shard, socket, conn) {
            Ok(true) if socket.ended.get() && state.shard.is_settled(conn) => Self::lost(state, now, conn),
            Ok(true) => {}
            Ok(false) => {
                socket.full.set(true);
                state.starts.push(Start::Writer(conn, socket.clone()));
            }
            Err(_) => Self::lost(state, now, conn),
        }
    }

    /// The connection is over, for a reason that is not the shard's.
    fn lost(state: &mut State, now: Instant, conn: ConnId) {
        state.shard.disconnected(now, conn);
        Self::close(state, now, conn);
    }

    /// Forgets the connection and closes its socket; its tasks end at their next wake-up, which this causes.
    fn close(state: &mut State, now: Instant, conn: ConnId) {
        if let Some(socket) = state.sockets.remove(&conn) {
            socket.closed.set(true);
            socket.discard_input();
            let _ = rustix::net::shutdown(socket.fd.get_ref(), Shutdown::Both);
            socket.pause(false);
        }
        state.shard.closed(now, conn);
    }

    // ---- connections ----

    fn accept(self: Rc<Self>, accepted: Accepted) {
        let Ok(fd) = PollableFd::new(accepted.socket) else { return };
        let now = clock::now();
        let socket = Rc::new(ClientSocket {
            fd,
            paused: Cell::new(false),
            ended: Cell::new(false),
            full: Cell::new(false),
            finishing: Cell::new(false),
            closed: Cell::new(false),
            paused_reader: Cell::new(None),
            _place: accepted.place,
        });
        let conn = {
            let mut state = self.state.borrow_mut();
            let conn = state.shard.accept(now, accepted.peer);
            state.sockets.insert(conn, socket.clone());
            self.alarm.set(state.shard.poll_timeout());
            conn
        };
        glommio::spawn_local(self.read(conn, socket)).detach();
    }

    async fn read(self: Rc<Self>, conn: ConnId, socket: Rc<ClientSocket>) {
        loop {
            match self.receive(conn, &socket) {
                Next::Readable => {
                    if let Err(e) = socket.fd.readable().await.map_err(super::system_error) {
                        return self.give_up(conn, &e);
                    }
                }
                Next::Resumed => socket.resumed().await,
                Next::End => return,
            }
        }
    }

    /// One turn of a connection: receive what has arrived, let the shard serve it, send what that made ready.
    fn receive(self: &Rc<Self>, conn: ConnId, socket: &ClientSocket) -> Next {
        for _ in 0..RECEIVES_PER_TURN {
            if socket.closed.get() || socket.ended.get() {
                return Next::End;
            }
            if socket.paused.get() {
                return Next::Resumed;
            }
            let mut received = Received::Nothing;
            self.turn(|state, now| received = Self::take_bytes(state, now, conn, socket));
            match received {
                Received::AllThereWasRoomFor => {}
                Received::Nothing | Received::Some => return Next::Readable,
                Received::End => return Next::End,
            }
        }
        Next::Readable
    }

    /// One receive, whose bytes go to the shard; an end or an error ends the connection.
    fn take_bytes(state: &mut State, now: Instant, conn: ConnId, socket: &ClientSocket) -> Received {
        let room = state.shard.input(conn);
        let room_bytes = room.len();
        if room_bytes == 0 {
            return Received::End; // the shard has forgotten this connection
        }
        match rustix::net::recv(socket.fd.get_ref(), room, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => {
                socket.ended.set(true);
                if state.shard.is_settled(conn) {
                    Self::lost(state, now, conn);
                }
                Received::End
            }
            Ok((_, n)) => {
                state.shard.received(now, conn, n);
                if n == room_bytes { Received::AllThereWasRoomFor } else { Received::Some }
            }
            Err(Errno::AGAIN | Errno::INTR) => Received::Nothing,
            Err(_) => {
                Self::lost(state, now, conn);
                Received::End
            }
        }
    }

    async fn write_when_possible(self: Rc<Self>, conn: ConnId, socket: Rc<ClientSocket>) {
        while !socket.closed.get() {
            if let Err(e) = socket.fd.writable().await.map_err(super::system_error) {
                return self.give_up(conn, &e);
            }
            if socket.closed.get() {
                return;
            }
            self.turn(|state, now| match send_output(&mut state.shard, &socket, conn) {
                Ok(true) => {
                    socket.full.set(false);
                    if socket.finishing.get() {
                        Self::close(state, now, conn);
                    } else if socket.ended.get() && state.shard.is_settled(conn) {
                        Self::lost(state, now, conn);
                    }
                }
                Ok(false) => {}
                Err(_) => Self::lost(state, now, conn),
            });
            if !socket.full.get() {
                return;
            }
        }
    }

    /// The ring cannot wait for this socket.
    fn give_up(self: &Rc<Self>, conn: ConnId, error: &std::io::Error) {
        tracing::warn!("a connection is closed because its socket cannot be waited for: {error}");
        self.turn(|state, now| {
            if state.sockets.contains_key(&conn) {
                Self::lost(state, now, conn);
            }
        });
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
        while self.state.borrow().sockets.values().any(|socket| socket.full.get()) && clock::now() < give_up {
            glommio::timer::sleep(Duration::from_millis(5)).await;
        }
        let mut state = self.state.borrow_mut();
        for (_, socket) in state.sockets.drain() {
            socket.closed.set(true);
            let _ = rustix::net::shutdown(socket.fd.get_ref(), Shutdown::Both);
            socket.pause(false);
        }
    }
}

impl ClientSocket {
    fn pause(&self, paused: bool) {
        self.paused.set(paused);
        if !paused && let Some(waker) = self.paused_reader.take() {
            waker.wake();
        }
    }

    async fn resumed(&self) {
        poll_fn(|cx| {
            if !self.paused.get() {
                return Poll::Ready(());
            }
            self.paused_reader.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Unread bytes at close would make the kernel send a reset, which can overtake the last reply.
    fn discard_input(&self) {
        let mut scratch = [0; 1024];
        let _ = rustix::net::recv(self.fd.get_ref(), &mut scratch[..], RecvFlags::DONTWAIT);
    }
}

/// Sends the connection's output; `Ok(true)` when all of it went, `Ok(false)` when the socket is full.
fn send_output(shard: &mut Shard, socket: &ClientSocket, conn: ConnId) -> Result<bool, Errno> {
    loop {
        let output = shard.output(conn);
        if output.is_empty() {
            return Ok(true);
        }
        match rustix::net::send(socket.fd.get_ref(), output, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(n) => shard.sent(conn, n),
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

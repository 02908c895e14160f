//! The thread behind a client: it owns the socket, drives the session and tells everybody what came of it.

use super::entry::{Connection, Entered, Entering, Entry};
use super::four_letter;
use super::members::Members;
use super::pending::{Completion, lock};
use super::session::{Output, Session, SessionSettings};
use super::watch::{Feed, Notice};
use super::watches::Sink;
use super::{Error, Host, Op, SessionState, WatchedEvent};
use crate::base::{SessionId, time::Instant};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread::JoinHandle;

/// What one receive takes at most.
const RECEIVE_BYTES: usize = 64 << 10;
/// How long a server may take to say whether it takes writes.
const PROBE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);
/// Connections made to find how far a server is.
const MEASURES: usize = 3;
/// Receives in a row before the rest of the work has its turn.
const RECEIVES_MAX: usize = 16;

/// Commands whose memory is kept for the next ones; that of a larger burst is given back.
const COMMANDS_KEPT: usize = 4_096;

/// What the client's handles ask of the thread.
pub(super) enum Command {
    Submit(Op, Completion, Option<Feed<WatchedEvent>>),
    Authenticate {
        scheme: String,
        auth: Vec<u8>,
        done: Completion,
    },
    Observe(Feed<SessionState>),
    Listen(Feed<Notice>),
    SetHosts(Vec<Host>),
    /// Whether this server takes writes.
    Probed(Host, bool),
    /// How long it takes to connect to those servers that could be reached, in µs.
    Measured(Vec<(Host, u64)>),
    /// The addresses of a host, for this attempt to connect.
    Resolved(u64, Result<Vec<SocketAddr>, io::Error>),
    /// What the program's hooks have made of the connection of this attempt.
    Entered(u64, io::Result<Entered>),
    /// End at once, without a word to the server.
    Abandon,
}

/// What the thread lets others see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) state: SessionState,
    pub(super) id: SessionId,
    pub(super) password: [u8; 16],
    pub(super) timeout_ms: u64,
}

impl Command {
    /// Nobody will carry it out any more.
    fn refuse(self, why: &Error) {
        match self {
            Command::Submit(_, done, sink) => {
                done.complete(Err(why.clone()));
                if let Some(sink) = sink {
                    sink.end();
                }
            }
            Command::Authenticate { done, .. } => done.complete(Err(why.clone())),
            Command::Observe(feed) => feed.end(),
            Command::Listen(feed) => feed.end(),
            Command::SetHosts(_)
            | Command::Probed(..)
            | Command::Measured(_)
            | Command::Resolved(..)
            | Command::Entered(..)
            | Command::Abandon => {}
        }
    }
}

#[derive(Default)]
struct Inbox {
    commands: Vec<Command>,
    /// The thread sleeps, or is about to: the next command has to wake it.
    is_waited_for: bool,
    /// Set when the thread has ended: why nothing is carried out any more.
    end: Option<Error>,
}

/// What both sides have.
pub(super) struct Shared {
    inbox: Mutex<Inbox>,
    bell: OwnedFd,
    seen: Mutex<Seen>,
    trouble: Mutex<Option<String>>,
}

impl Shared {
    pub(super) fn post(&self, command: Command) {
        let mut inbox = lock(&self.inbox);
        if let Some(why) = inbox.end.clone() {
            drop(inbox);
            return command.refuse(&why);
        }
        inbox.commands.push(command);
        let is_waited_for = std::mem::take(&mut inbox.is_waited_for);
        drop(inbox);
        if is_waited_for {
            // The counter of an eventfd overflows after 2^64 rings only.
            let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        }
    }

    pub(super) fn seen(&self) -> Seen {
        *lock(&self.seen)
    }

    /// Why there is no connection, as far as anything is known.
    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }
}

/// Starts the thread.
pub(super) fn start(
    settings: SessionSettings,
    hosts: Vec<Host>,
    follows_members: bool,
    entry: Entry,
) -> Result<(Arc<Shared>, JoinHandle<()>), Error> {
    let failed = |e: io::Error| Error::Io(format!("the client cannot be started: {e}"));
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| failed(e.into()))?;
    let seen = Seen { state: SessionState::Connecting, id: SessionId::NONE, password: [0; 16], timeout_ms: u64::from(settings.timeout_ms) };
    let shared = Arc::new(Shared { inbox: Mutex::default(), bell, seen: Mutex::new(seen), trouble: Mutex::default() });
    let origin = std::time::Instant::now();
    let session = Session::new(settings, hosts, Instant(0));
    let driver = Driver {
        shared: shared.clone(),
        session,
        origin,
        link: Link::None,
        entry: Arc::new(entry),
        attempt: 0,
        target: None,
        observers: Vec::new(),
        listeners: Vec::new(),
        members: follows_members.then(Members::default),
        buffer: vec![0; RECEIVE_BYTES],
        commands: Vec::new(),
        wakers: Vec::new(),
    };
    let thread = std::thread::Builder::new().name("zoo-client".into()).spawn(move || driver.run()).map_err(failed)?;
    Ok((shared, thread))
}

/// The connection, such as it is.
enum Link {
    None,
    /// A name is being looked up.
    Resolving,
    /// Waiting for the handshake with the first of the addresses; the others are still to be tried.
    Connecting(Socket, Vec<SocketAddr>),
    /// The program's hooks are at work.
    Entering(Entering),
    Open(Connection),
}

struct Driver {
    shared: Arc<Shared>,
    session: Session<Completion, Feed<WatchedEvent>>,
    origin: std::time::Instant,
    link: Link,
    entry: Arc<Entry>,
    /// Number of the current attempt to connect: addresses that come for an older one are late.
    attempt: u64,
    /// Whom it is for.
    target: Option<Host>,
    observers: Vec<Feed<SessionState>>,
    listeners: Vec<Feed<Notice>>,
    members: Option<Members>,
    buffer: Vec<u8>,
    /// Empty between two looks into the inbox: its memory changes place with the inbox's.
    commands: Vec<Command>,
    /// Who waits for answers that are there, each once in a row: woken when all of them are, so that one who waits for many is woken once.
    wakers: Vec<Waker>,
}

impl Driver {
    fn run(mut self) {
        loop {
            if !self.take_commands() {
                break;
            }
            self.follow_members();
            self.carry_out();
            self.send();
            self.carry_out();
            if self.session.end().is_some() && matches!(self.link, Link::None) {
                break;
            }
            self.rest();
        }
        self.session.abandon();
        self.carry_out();
        let why = self.session.end().cloned().unwrap_or(Error::Closed);
        let late = {
            let mut inbox = lock(&self.shared.inbox);
            inbox.end = Some(why.clone());
            std::mem::take(&mut inbox.commands)
        };
        for command in late {
            command.refuse(&why);
        }
        self.observers.iter().for_each(Feed::end);
        self.listeners.iter().for_each(Feed::end);
    }

    fn now(&self) -> Instant {
        Instant(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// False: the client is to end at once.
    fn take_commands(&mut self) -> bool {
        let mut commands = std::mem::take(&mut self.commands);
        {
            let mut inbox = lock(&self.shared.inbox);
            inbox.is_waited_for = false;
            std::mem::swap(&mut inbox.commands, &mut commands);
        }
        let now = self.now();
        for command in commands.drain(..) {
            match command {
                Command::Submit(op, done, sink) => self.session.submit(now, op, done, sink),
                Command::Authenticate { scheme, auth, done } => self.session.add_auth(now, scheme, auth, done),
                Command::Observe(feed) => self.observers.push(feed),
                Command::Listen(feed) => {
                    let state = self.shared.seen().state;
                    if state != SessionState::Connecting {
                        feed.put(Notice::State(state));
                    }
                    self.listeners.push(feed);
                }
                Command::SetHosts(hosts) => self.session.set_hosts(now, hosts),
                Command::Probed(host, takes_writes) => self.session.probed(now, host, takes_writes),
                Command::Measured(distances) => self.session.measured(now, distances),
                Command::Resolved(attempt, addresses) => {
                    if attempt == self.attempt && matches!(self.link, Link::Resolving) {
                        match addresses {
                            Ok(addresses) => self.dial(addresses, &"the name has no address"),
                            Err(why) => self.give_up(&why),
                        }
                    }
                }
                Command::Entered(attempt, entered) => {
                    if attempt == self.attempt && matches!(self.link, Link::Entering(_)) {
                        self.entered(entered);
                    }
                }
                Command::Abandon => return false,
            }
        }
        if commands.capacity() <= COMMANDS_KEPT {
            self.commands = commands;
        }
        true
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Connect(host) => self.connect(host),
                Output::Disconnect => self.disconnect(),
                Output::Done(done, result) => {
                    let waiter = done.fill(result);
                    self.wakers.extend(waiter.filter(|w| !self.wakers.last().is_some_and(|last| last.will_wake(w))));
                }
                Output::Notified(event) => notify(&mut self.listeners, &Notice::Event(event)),
                Output::Event(feed, event) => feed.put(event),
                Output::WatchEnded(feed) => feed.end(),
                Output::State(state) => self.tell(state),
                Output::Probe(host) => self.probe(host),
                Output::Measure(hosts) => self.measure(hosts),
            }
        }
        self.wakers.drain(..).for_each(Waker::wake);
    }

    /// The session wants no more of the connection.
    fn disconnect(&mut self) {
        if !matches!(self.link, Link::None) && self.session.end().is_none() {
            self.note(&"it has not answered in time");
        }
        self.link = Link::None;
    }

    /// Keeps why an attempt came to nothing.
    fn note(&self, why: &dyn Display) {
        if let Some(host) = &self.target {
            *lock(&self.shared.trouble) = Some(format!("{host}: {why}"));
        }
    }

    fn tell(&mut self, state: SessionState) {
        if matches!(state, SessionState::Connected | SessionState::ConnectedReadOnly) {
            *lock(&self.shared.trouble) = None;
        }
        {
            let mut seen = lock(&self.shared.seen);
            *seen = Seen { state, id: self.session.id(), password: self.session.password(), timeout_ms: self.session.timeout_ms() };
        }
        notify(&mut self.observers, &state);
        notify(&mut self.listeners, &Notice::State(state));
    }

    /// Reads who the members are, again whenever that has changed.
    fn follow_members(&mut self) {
        let now = self.now();
        let Some(members) = &mut self.members else { return };
        if let Some(hosts) = members.answer() {
            self.session.set_hosts(now, hosts);
        }
        if members.is_to_be_read() {
            let (op, done, feed) = members.read();
            if let Ok(op) = op {
                self.session.submit(now, op, done, Some(feed));
            }
        }
    }

    /// Asks a server in a thread of its own, as `isro` may hang.
    fn probe(&self, host: Host) {
        let (shared, entry) = (self.shared.clone(), self.entry.clone());
        let ask = move || {
            let address = (host.name.as_str(), host.port);
            let answer = four_letter::ask_through(address, "isro", PROBE_PATIENCE, |socket| entry.wrap(socket, &host));
            shared.post(Command::Probed(host, answer.is_ok_and(|answer| answer.trim() == "rw")));
        };
        // Without a thread nobody is asked this time.
        drop(std::thread::Builder::new().name("zoo-probe".into()).spawn(ask));
    }

    /// Connects to each server, in a thread of its own.
    fn measure(&self, hosts: Vec<Host>) {
        let shared = self.shared.clone();
        let measure = move || {
            let distances = hosts.into_iter().filter_map(|host| distance_us(&host).map(|us| (host, us))).collect();
            shared.post(Command::Measured(distances));
        };
        // Without a thread nothing is known of them this time.
        drop(std::thread::Builder::new().name("zoo-measure".into()).spawn(measure));
    }

    fn connect(&mut self, host: Host) {
        self.attempt += 1;
        self.target = Some(host.clone());
        if let Ok(address) = host.name.parse::<IpAddr>() {
            self.dial(vec![SocketAddr::new(address, host.port)], &"no address");
            return;
        }
        self.link = Link::Resolving;
        let (shared, attempt) = (self.shared.clone(), self.attempt);
        let look_up = move || {
            let addresses = (host.name.as_str(), host.port).to_socket_addrs().map(Iterator::collect);
            shared.post(Command::Resolved(attempt, addresses));
        };
        if let Err(why) = std::thread::Builder::new().name("zoo-resolve".into()).spawn(look_up) {
            self.give_up(&why);
        }
    }

    /// Tries the addresses one after another; `why` there is none left.
    fn dial(&mut self, mut addresses: Vec<SocketAddr>, why: &dyn Display) {
        let mut failure = None;
        while !addresses.is_empty() {
            match begin_to_connect(addresses.remove(0)) {
                Ok(socket) => {
                    self.link = Link::Connecting(socket, addresses);
                    return;
                }
                Err(e) => failure = Some(e),
            }
        }
        match failure {
            Some(failure) => self.give_up(&failure),
            None => self.give_up(why),
        }
    }

    fn give_up(&mut self, why: &dyn Display) {
        self.note(why);
        self.link = Link::None;
        self.session.connect_failed(self.now());
        self.carry_out();
    }

    fn lost(&mut self, why: &dyn Display) {
        self.note(why);
        self.link = Link::None;
        self.session.disconnected(self.now());
        self.carry_out();
    }

    fn send(&mut self) {
        while let Link::Open(connection) = &mut self.link {
            let bytes = self.session.transmit();
            if bytes.is_empty() && !connection.is_unflushed() {
                return;
            }
            match connection.write(bytes) {
                Ok(0) => {}
                Ok(sent) => {
                    let now = self.now();
                    self.session.transmitted(now, sent);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // What the server has said before is still to be read; reading tells the end, too.
                Err(e) => {
                    self.receive();
                    if matches!(self.link, Link::Open(_)) {
                        self.lost(&e);
                    }
                }
            }
        }
    }

    fn receive(&mut self) {
        for _ in 0..RECEIVES_MAX {
            let Link::Open(connection) = &mut self.link else { return };
            match connection.read(&mut self.buffer) {
                Ok(0) => return self.lost(&"the server has closed the connection"),
                Ok(bytes) => {
                    let is_exhausted = connection.is_exhausted_by(bytes, self.buffer.len());
                    let now = self.now();
                    self.session.received(now, &self.buffer[..bytes]);
                    self.carry_out();
                    if is_exhausted {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return self.lost(&e),
            }
        }
    }

    /// Sleeps until something happens, and takes it in.
    fn rest(&mut self) {
        let now = self.now();
        let is_idle = {
            let mut inbox = lock(&self.shared.inbox);
            inbox.is_waited_for = inbox.commands.is_empty();
            inbox.is_waited_for
        };
        // A millisecond more: a time-out must not be found a moment too early, again and again.
        let until = |at: Instant| at.since_ns(now).saturating_add(1_000_000);
        let is_unread = matches!(&self.link, Link::Open(connection) if connection.is_unread());
        let patience = if is_idle && !is_unread { self.session.poll_timeout().map(until) } else { Some(0) };
        let patience = patience.map(|ns| Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 });
        let mut ready = vec![PollFd::new(&self.shared.bell, PollFlags::IN)];
        match &self.link {
            Link::Open(connection) => {
                let has_more = connection.is_unflushed() || !self.session.transmit().is_empty();
                let flags = if has_more { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                ready.push(PollFd::new(&connection.socket, flags));
            }
            Link::Connecting(socket, _) => ready.push(PollFd::new(socket, PollFlags::OUT)),
            Link::None | Link::Resolving | Link::Entering(_) => {}
        }
        // Interrupted or out of memory: everything is looked at again.
        let _ = poll(&mut ready, patience.as_ref());
        let rang = !ready[0].revents().is_empty();
        let socket_is_ready = ready.get(1).is_some_and(|fd| !fd.revents().is_empty());
        if rang {
            let _ = rustix::io::read(&self.shared.bell, &mut [0u8; 8]);
        }
        if socket_is_ready || is_unread {
            match std::mem::replace(&mut self.link, Link::None) {
                Link::Connecting(socket, others) => self.connecting_ended(socket, others),
                link => {
                    self.link = link;
                    self.receive();
                }
            }
        }
        let now = self.now();
        if self.session.poll_timeout().is_some_and(|at| at <= now) {
            self.session.timeout(now);
        }
    }

    fn connecting_ended(&mut self, socket: Socket, others: Vec<SocketAddr>) {
        let failure = match socket.take_error() {
            Ok(None) if self.entry.is_free() => {
                self.link = Link::Open(Connection::plain(socket.into()));
                self.session.connected(self.now());
                return;
            }
            Ok(None) => match self.begin_to_enter(socket.into()) {
                Ok(()) => return,
                Err(e) => e,
            },
            Ok(Some(e)) | Err(e) => e,
        };
        self.dial(others, &failure);
    }

    /// Lets the program's hooks work, in a thread of their own.
    fn begin_to_enter(&mut self, socket: TcpStream) -> io::Result<()> {
        let Some(host) = self.target.clone() else { return Err(io::ErrorKind::NotConnected.into()) };
        socket.set_nonblocking(false)?;
        let theirs = socket.try_clone()?;
        let (shared, entry, attempt) = (self.shared.clone(), self.entry.clone(), self.attempt);
        let enter = move || shared.post(Command::Entered(attempt, entry.enter(theirs, &host)));
        std::thread::Builder::new().name("zoo-enter".into()).spawn(enter)?;
        self.link = Link::Entering(Entering::new(socket));
        Ok(())
    }

    fn entered(&mut self, entered: io::Result<Entered>) {
        let Link::Entering(entering) = std::mem::replace(&mut self.link, Link::None) else { return };
        let opened = entered.and_then(|entered| Ok((entering.finish(entered.wrapped)?, entered.credentials)));
        match opened {
            Ok((connection, credentials)) => {
                self.link = Link::Open(connection);
                self.session.show(credentials);
                self.session.connected(self.now());
            }
            Err(why) => self.give_up(&why),
        }
    }
}

/// The least time that it takes to connect.
fn distance_us(host: &Host) -> Option<u64> {
    let address = (host.name.as_str(), host.port).to_socket_addrs().ok()?.next()?;
    let once = || {
        let begin = std::time::Instant::now();
        TcpStream::connect_timeout(&address, PROBE_PATIENCE).ok()?;
        u64::try_from(begin.elapsed().as_micros()).ok()
    };
    // Whom it does not reach once, it does not wait for again.
    let first = once()?;
    (1..MEASURES).filter_map(|_| once()).chain([first]).min()
}

/// Tells everybody who still listens.
fn notify<T: Clone>(feeds: &mut Vec<Feed<T>>, what: &T) {
    feeds.retain(Sink::is_wanted);
    feeds.iter().for_each(|feed| feed.put(what.clone()));
}

fn begin_to_connect(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Err(e) if e.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Err(e),
        _ => Ok(socket),
    }
}

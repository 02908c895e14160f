//! The election port: one connection per pair of servers, and on it the newest thing we have to say to each (A1 to A3).
//!
//! Invariants:
//! 1. At most one attempt to connect per server is under way.
//! 2. One message per server waits to be sent; a newer one replaces it. What was sent last is sent again over a new connection, so a message that
//!    was lost with the old one is not missed; repeated ones are normal.
//! 3. Only servers of the configuration are listened to (S7); every wait for a peer that is not established yet has a deadline.

use super::cuts;
use super::link::InputBuffer;
use super::socket::{PeerSocket, accept_all, within};
use super::{Events, Members, PeerIoConfig, spawn};
use crate::base::PeerId;
use crate::zab::election_link::{Incoming, Outgoing, incoming, outgoing};
use crate::zab::membership::MemberAddress;
use crate::zab::wire::{Decoded, Hello, hello, notification};
use crate::zab::{Input, Notification};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Servers in no configuration that are listened to at a time; the connections of more are closed.
const STRANGERS_MAX: usize = 16;
/// Connections whose initial message has not come. With one more the one that came first is closed: nobody keeps others out by silence.
const SETTING_UP_MAX: usize = 64;

/// All election connections of a server.
pub struct ElectionIo {
    config: Rc<PeerIoConfig>,
    events: Rc<Events>,
    peers: RefCell<BTreeMap<PeerId, Rc<Peer>>>,
    setting_up: RefCell<VecDeque<SettingUp>>,
    /// Connections accepted so far.
    accepted: Cell<u64>,
    /// How we introduce ourselves.
    hello: RefCell<Hello>,
}

/// A connection whose initial message is waited for; dropping the task closes it.
struct SettingUp {
    number: u64,
    task: glommio::Task<()>,
}

/// What is kept about one other server.
#[derive(Default)]
struct Peer {
    /// Where it is to be found.
    addresses: RefCell<Vec<MemberAddress>>,
    /// It is in no configuration.
    is_stranger: Cell<bool>,
    /// Not sent yet.
    pending: RefCell<Option<Vec<u8>>>,
    /// Sent last.
    last: RefCell<Option<Vec<u8>>>,
    connection: RefCell<Option<Rc<Connection>>>,
    connecting: Cell<bool>,
}

struct Connection {
    socket: PeerSocket,
    closed: Cell<bool>,
    /// The sender, while it has nothing to send.
    sender: Cell<Option<Waker>>,
}

impl ElectionIo {
    /// No connections yet.
    pub fn new(config: Rc<PeerIoConfig>, events: Rc<Events>) -> Rc<Self> {
        let (members, hello) = (config.membership.members.clone(), RefCell::new(config.hello.clone()));
        let (peers, setting_up, accepted) = (RefCell::default(), RefCell::default(), Cell::new(0));
        let election = Rc::new(ElectionIo { config, events, peers, setting_up, accepted, hello });
        election.reconfigure(&members);
        election
    }

    /// These are the members from now on. Who is none any more, and not connected, is forgotten.
    pub fn reconfigure(&self, members: &Members) {
        if let Some(own) = members.get(&self.config.me) {
            self.hello.borrow_mut().addresses = own.addresses.iter().map(|a| (a.host.clone(), a.election_port)).collect();
        }
        let mut peers = self.peers.borrow_mut();
        for (id, peer) in peers.iter() {
            peer.is_stranger.set(!members.contains_key(id));
        }
        peers.retain(|_, peer| !peer.is_stranger.get() || peer.connection.borrow().is_some());
        for (id, member) in members.iter().filter(|(id, _)| **id != self.config.me) {
            *peers.entry(*id).or_default().addresses.borrow_mut() = member.addresses.clone();
        }
    }

    fn peer(&self, id: PeerId) -> Option<Rc<Peer>> {
        self.peers.borrow().get(&id).cloned()
    }

    /// A server that is in no configuration and wants to join, if there is room for one more.
    fn stranger(&self, hello: &Hello) -> Option<Rc<Peer>> {
        let mut peers = self.peers.borrow_mut();
        if !self.config.admits_strangers || hello.peer == self.config.me {
            return None;
        }
        peers.retain(|_, peer| !peer.is_stranger.get() || peer.connection.borrow().is_some() || peer.connecting.get());
        if peers.values().filter(|peer| peer.is_stranger.get()).count() >= STRANGERS_MAX {
            return None;
        }
        // Only its election port is ever asked for.
        let address = |(host, port): &(String, u16)| MemberAddress { host: host.clone(), quorum_port: 0, election_port: *port };
        let peer = Peer {
            addresses: RefCell::new(hello.addresses.iter().map(address).collect()),
            is_stranger: Cell::new(true),
            ..Peer::default()
        };
        Some(peers.entry(hello.peer).or_insert_with(|| Rc::new(peer)).clone())
    }

    /// Says something to a server, this one included; connects if need be.
    pub fn notify(self: &Rc<Self>, to: PeerId, message: Notification) {
        if to == self.config.me {
            return self.events.calls.push(Input::Notification { from: to, message });
        }
        let Some(peer) = self.peer(to) else { return };
        let mut bytes = Vec::new();
        notification::encode_frame(&message, &mut bytes);
        *peer.pending.borrow_mut() = Some(bytes);
        match &*peer.connection.borrow() {
            Some(connection) => connection.wake_sender(),
            None => self.connect(to),
        }
    }

    /// Accepts other servers until the task is dropped.
    pub async fn listen(self: Rc<Self>, listener: TcpListener) {
        let keep_alive = self.config.tcp_keep_alive;
        accept_all(listener, keep_alive, |socket| self.set_up(socket)).await;
    }

    fn set_up(self: &Rc<Self>, socket: PeerSocket) {
        let number = self.accepted.get();
        self.accepted.set(number + 1);
        let election = self.clone();
        let task = spawn(async move {
            // A new task is polled at once: its place must be there first.
            glommio::executor().yield_now().await;
            let peer = socket.peer;
            let hello = within(election.config.set_up_limit, read_hello(&socket)).await;
            election.is_set_up(number);
            match hello {
                Some(Ok((hello, input))) => election.admit(&hello, socket, input),
                Some(Err(e)) => election.refused(peer, &e),
                None => election.refused(peer, &"it did not say who it is in time"),
            }
        });
        let mut setting_up = self.setting_up.borrow_mut();
        setting_up.push_back(SettingUp { number, task });
        if setting_up.len() > SETTING_UP_MAX {
            setting_up.pop_front();
            self.events
                .say(|| tracing::warn!("many connections to the election port do not say who they are; closed the one that came first"));
        }
    }

    /// The task of this one goes on alone.
    fn is_set_up(&self, number: u64) {
        let mut setting_up = self.setting_up.borrow_mut();
        if let Some(at) = setting_up.iter().position(|other| other.number == number)
            && let Some(SettingUp { task, .. }) = setting_up.remove(at)
        {
            task.detach();
        }
    }

    /// What becomes of a connection that another server has made.
    fn admit(self: &Rc<Self>, hello: &Hello, socket: PeerSocket, input: InputBuffer) {
        let from = hello.peer;
        let Some(peer) = self.peer(from).or_else(|| self.stranger(hello)) else {
            let why = if from == self.config.me { "has the id of this server" } else { "is not in the configuration" };
            return self.refused(socket.peer, &format_args!("server {} {why}", from.0));
        };
        match incoming(self.config.me, from) {
            Incoming::Keep => self.establish(from, &peer, socket, input),
            Incoming::CallBack => {
                drop(socket);
                peer.close();
                self.connect(from);
            }
            Incoming::Refuse => self.refused(socket.peer, &format_args!("no server has the id {}", from.0)),
        }
    }

    fn refused(&self, peer: SocketAddr, why: &dyn Display) {
        self.events.say(|| tracing::warn!("closed a connection to the election port from {peer}: {why}"));
    }

    /// Begins to connect, unless that is under way.
    fn connect(self: &Rc<Self>, to: PeerId) {
        let Some(peer) = self.peer(to) else { return };
        if peer.connecting.replace(true) {
            return;
        }
        let election = self.clone();
        self.events.tasks.run(async move {
            let connected = election.call(to, &peer).await;
            peer.connecting.set(false);
            match connected {
                Ok(socket) => match outgoing(election.config.me, to) {
                    Outgoing::Keep => election.establish(to, &peer, socket, InputBuffer::default()),
                    Outgoing::Knock => drop(socket),
                },
                Err(e) => tracing::debug!("cannot connect to the election port of server {}: {e}", to.0),
            }
        });
    }

    /// Connects and says who we are.
    async fn call(&self, to: PeerId, peer: &Peer) -> io::Result<PeerSocket> {
        let config = &self.config;
        let addresses = peer.addresses.borrow().clone();
        let socket = cuts::call(config, to, &addresses, |a| a.election_port, config.connect_limit).await?;
        let mut first = Vec::new();
        hello::encode(&self.hello.borrow(), &mut first);
        // In one segment: a Java server reads the addresses with one call.
        let sent = within(config.connect_limit, socket.send(&first)).await;
        sent.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
        Ok(socket)
    }

    /// The connection with this server from now on, in place of any older one.
    fn establish(self: &Rc<Self>, id: PeerId, peer: &Peer, socket: PeerSocket, input: InputBuffer) {
        peer.close();
        tracing::debug!("connected to server {} over the election port ({})", id.0, socket.peer);
        let connection = Rc::new(Connection { socket, closed: Cell::new(false), sender: Cell::new(None) });
        *peer.connection.borrow_mut() = Some(connection.clone());
        if peer.pending.borrow().is_none() {
            peer.pending.replace(peer.last.borrow().clone());
        }
        let (election, sending) = (self.clone(), connection.clone());
        self.events.tasks.run(async move {
            let result = election.send(id, &sending).await;
            election.lost(id, &sending, result);
        });
        let election = self.clone();
        self.events.tasks.run(async move {
            let result = election.receive(id, &connection, input).await;
            election.lost(id, &connection, result);
        });
    }

    async fn send(&self, to: PeerId, connection: &Connection) -> io::Result<()> {
        let Some(peer) = self.peer(to) else { return Ok(()) };
        loop {
            let message = poll_fn(|cx| {
                if connection.closed.get() {
                    return Poll::Ready(None);
                }
                let message = peer.pending.borrow_mut().take();
                if message.is_none() {
                    connection.sender.set(Some(cx.waker().clone()));
                    return Poll::Pending;
                }
                Poll::Ready(message)
            })
            .await;
            let Some(message) = message else { return Ok(()) };
            let sent = connection.socket.send(&message).await;
            *peer.last.borrow_mut() = Some(message);
            sent?;
        }
    }

    async fn receive(&self, from: PeerId, connection: &Connection, mut input: InputBuffer) -> io::Result<()> {
        while !connection.closed.get() {
            while let Decoded::Whole { value, bytes } = notification::decode_frame(input.unread()).map_err(io::Error::other)? {
                match notification::decode(value) {
                    Ok(message) => self.events.calls.push(Input::Notification { from, message }),
                    Err(e) => tracing::debug!("a notification of server {} makes no sense and is dropped: {e}", from.0),
                }
                input.consume(bytes);
            }
            self.events.calls.emptied().await;
            if input.receive(&connection.socket).await? == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    fn lost(&self, id: PeerId, connection: &Rc<Connection>, result: io::Result<()>) {
        connection.close();
        let Some(peer) = self.peer(id) else { return };
        let mut current = peer.connection.borrow_mut();
        if current.as_ref().is_some_and(|current| Rc::ptr_eq(current, connection)) {
            *current = None;
            match result {
                Ok(()) => tracing::debug!("server {} has closed its election connection", id.0),
                Err(e) => tracing::debug!("the election connection to server {} is closed: {e}", id.0),
            }
        }
    }

    /// Closes all connections.
    pub async fn stop(&self) {
        for SettingUp { task, .. } in self.setting_up.take() {
            task.cancel().await;
        }
        self.peers.borrow().values().for_each(|peer| peer.close());
    }
}

impl Peer {
    fn close(&self) {
        if let Some(connection) = self.connection.take() {
            connection.close();
        }
    }
}

impl Connection {
    fn close(&self) {
        self.closed.set(true);
        self.socket.shut();
        self.wake_sender();
    }

    fn wake_sender(&self) {
        if let Some(waker) = self.sender.take() {
            waker.wake();
        }
    }
}

/// Reads the initial message; what comes behind it stays in the buffer.
async fn read_hello(socket: &PeerSocket) -> io::Result<(Hello, InputBuffer)> {
    let mut input = InputBuffer::default();
    loop {
        if let Decoded::Whole { value, bytes } = hello::decode(input.unread()).map_err(io::Error::other)? {
            input.consume(bytes);
            return Ok((value, input));
        }
        if input.receive(socket).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

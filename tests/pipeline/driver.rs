//! One replica, some shards, a disk and clients on one thread: everything but the reactor, one step at a time. It stands alone, or is a member of
//! an ensemble whose tests carry out what it wants of its peers.
//!
//! The disk holds what the log tells it and completes a flush when it is told to. A shard is parked exactly as in the reactor: on
//! its doorbell, so a wake-up that is missing shows as a reply or an event that never comes (rule A8).
#![allow(dead_code)]

#[path = "disk.rs"]
pub mod disk;

use disk::{Completion, Disk, Logs};
use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use zoo::base::{ConnId, ConnKey, Instant, Reader, ShardId, WallTime, Writer, Zxid};
use zoo::handoff::{Batch, Bell, Entry, Inbox, Publisher, ToReplica, notify};
use zoo::proto::OpCode;
use zoo::proto::connect::{ConnectRequest, ConnectResponse};
use zoo::replica::{Input, Output, Replica, ReplicaConfig};
use zoo::shard::{Close, Departed, Handover, Shard, ShardConfig};
use zoo::storage::log::LogConfig;
use zoo::tree::{Tree, TreeConfig};
use zoo::zab::{Stored, ZabConfig};

pub const TICK_MS: u64 = 2000;
pub const TIMEOUT_MS: i32 = 10_000;

/// What may be varied.
#[derive(Clone)]
pub struct Setup {
    pub shards: usize,
    pub shard: ShardConfig,
    pub replica: ReplicaConfig,
    pub tree: TreeConfig,
    pub inbox_len: usize,
    pub inbox_bytes_max: usize,
    /// `None`: it stands alone.
    pub member: Option<(ZabConfig, Stored)>,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            shards: 1,
            shard: ShardConfig {
                frame_bytes_max: zoo::base::limits::JUTE_MAX_BUFFER,
                out_buffer_bytes_max: 1 << 20,
                watches_per_session_max: 10_000,
                session_outstanding_max: 1000,
                turn_cost_max: zoo::base::limits::SHARD_TURN_COST_MAX,
                listing_nodes_per_turn: zoo::base::limits::LISTING_NODES_PER_TURN,
                multi_ops_max: 100,
                slow_request_ms: None,
                sessionless_ms: 10_000,
                min_session_timeout_ms: 2 * TICK_MS as i32,
                max_session_timeout_ms: 20 * TICK_MS as i32,
                super_digest: None,
                digest_auth_enabled: true,
                skip_acl: false,
                hash_seed: 1,
            },
            replica: ReplicaConfig {
                server_id: 1,
                tick_ms: TICK_MS,
                min_session_timeout_ms: 2 * TICK_MS as i32,
                max_session_timeout_ms: 20 * TICK_MS as i32,
                snap_count: 100_000,
                snap_size_limit_bytes: None,
                container_check_interval_ms: 60_000,
                container_max_per_minute: 10_000,
                container_max_never_used_ms: 0,
                global_outstanding_limit: 1000,
                modes: zoo::replica::ClientModes::default(),
                log: LogConfig {
                    segment_bytes: 64 << 20,
                    unsynced_bytes_max: 16 << 20,
                    force_sync: true,
                    file_bytes_max: None,
                    payload_bytes_max: zoo::base::limits::TXN_PAYLOAD_MAX,
                    dbid: 7,
                    epochs: zoo::record::epochs::Epochs::NONE,
                    mark: None,
                },
                seed: 1,
            },
            tree: TreeConfig::default(),
            inbox_len: 1024,
            inbox_bytes_max: 16 << 20,
            member: None,
        }
    }
}

/// Everything.
pub struct World {
    pub now: Instant,
    pub replica: Replica,
    pub publisher: Publisher<Batch>,
    pub inboxes: Vec<Arc<Inbox<ToReplica>>>,
    bells: Vec<Arc<Bell>>,
    pub shards: Vec<ShardSide>,
    pub disk: Disk,
    pub clients: Vec<Client>,
    pub snapshots: Vec<zoo::tree::Image>,
    /// Snapshots that were to be given up.
    pub abandoned: u64,
    pub stopped: bool,
    /// What a member of an ensemble wants done that is not done here; `None`: it stands alone.
    pub orders: Option<VecDeque<Output>>,
    /// All shards look between the moment a batch is on the stream and the moment `applied` moves.
    pub look_before_applied: bool,
    /// What the replica has taken in, in order, for whoever wants to know (copies).
    pub taken: Vec<ToReplica>,
    /// The transactions that were published, for whoever wants to know.
    pub published: Vec<Zxid>,
    /// How far its wall clock is ahead of the others'.
    pub wall_ahead_ms: i64,
    /// What shards have said to each other and nobody has heard yet, oldest first.
    between: VecDeque<Between>,
    /// Connections that have gone from one shard to another.
    pub moves: usize,
    /// Without what made it a member.
    setup: Setup,
}

/// One shard to another, about a connection that moves between them.
enum Between {
    Reserve { conn: ConnKey, to: ShardId, peer: SocketAddr },
    Reserved { conn: ConnKey, to: ConnKey },
    Release(ConnKey),
    Arrive { client: usize, at: ConnKey, departed: Box<Departed> },
}

pub struct ShardSide {
    pub shard: Shard,
    woken: Arc<Flag>,
    parked: bool,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A socket and what its client has seen.
pub struct Client {
    pub shard: usize,
    pub conn: ConnId,
    /// Its places so far, that one last.
    pub places: Vec<ConnKey>,
    /// On its way from one shard to another: its socket is nobody's.
    pub is_between: bool,
    /// Sent by the client, not yet received by the server.
    pub in_flight: VecDeque<u8>,
    /// Sent by the server; whole frames are taken from the front.
    pub received: Vec<u8>,
    pub closed: bool,
    /// The server has stopped reading it.
    pub paused: bool,
    /// The client does not read.
    pub deaf: bool,
    /// The server's executor does not get round to this socket.
    pub neglected: bool,
    pub words: Vec<[u8; 4]>,
    pub attached: bool,
    pub next_xid: i32,
}

/// One frame from the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    Connected(ConnectResponse),
    Event { zxid: i64, kind: i32, path: String },
    Reply { xid: i32, zxid: i64, err: i32, body: Vec<u8> },
}

impl World {
    pub fn new(setup: Setup) -> World {
        let tree = Tree::new(setup.tree.clone());
        Self::over(setup, tree)
    }

    /// A server that has recovered this tree.
    pub fn over(setup: Setup, tree: Tree) -> World {
        Self::over_at(setup, tree, Instant(0).plus_ms(1_000_000))
    }

    /// The same at this time.
    pub fn over_at(mut setup: Setup, tree: Tree, now: Instant) -> World {
        let config = setup.replica.clone();
        let (mut replica, orders) = match setup.member.take() {
            None => (Replica::new(config, tree, now, wall_at(now)), None),
            Some((zab, stored)) => (Replica::member(config, tree, zab, stored, now, wall_at(now)), Some(VecDeque::new())),
        };
        let publisher = Publisher::new();
        let inboxes: Vec<_> =
            (0..setup.shards).map(|_| Arc::new(Inbox::weighing(setup.inbox_len, setup.inbox_bytes_max, ToReplica::weight))).collect();
        let shards: Vec<_> = (0..setup.shards)
            .map(|i| {
                let reader = replica.tree_mut().reader();
                let shard = Shard::new(ShardId(i as u16), setup.shard.clone(), reader, publisher.subscribe(), inboxes[i].clone());
                ShardSide { shard, woken: Arc::new(Flag(AtomicBool::new(true))), parked: false }
            })
            .collect();
        let bells = shards.iter().map(|s| s.shard.bell()).collect();
        World {
            now,
            replica,
            publisher,
            inboxes,
            bells,
            shards,
            disk: Disk::default(),
            clients: Vec::new(),
            snapshots: Vec::new(),
            abandoned: 0,
            stopped: false,
            orders,
            look_before_applied: false,
            taken: Vec::new(),
            published: Vec::new(),
            wall_ahead_ms: 0,
            between: VecDeque::new(),
            moves: 0,
            setup,
        }
    }

    /// The power fails and the server starts again, from what its disk (which must keep what it holds) has left; all connections are gone.
    /// `survives` says how many of so many unflushed bytes are left.
    pub fn crash(&mut self, survives: impl FnMut(usize) -> usize) {
        assert!(self.orders.is_none(), "how a member starts again is its cluster's business");
        let mut logs = self.left_by_crash(survives);
        let tree = disk::recover(Tree::new(self.setup.tree.clone()), &mut logs);
        let after = World::over_at(self.setup.clone(), tree, self.now.plus_ms(1000));
        let before = std::mem::replace(self, after);
        self.look_before_applied = before.look_before_applied;
        self.moves = before.moves;
        self.disk = Disk::after(logs);
    }

    /// The logs that are left when the power fails now.
    pub fn left_by_crash(&self, survives: impl FnMut(usize) -> usize) -> Logs {
        self.disk.left_by_crash(self.setup.replica.log.force_sync, survives)
    }

    pub fn wall(&self) -> WallTime {
        WallTime(wall_at(self.now).0 + self.wall_ahead_ms)
    }

    // ---- clients ----

    /// A raw socket.
    pub fn open(&mut self, shard: usize) -> usize {
        let peer: SocketAddr = format!("127.0.0.1:{}", 10_000 + self.clients.len()).parse().expect("address");
        let conn = self.shards[shard].shard.accept(self.now, peer);
        self.clients.push(Client {
            shard,
            conn,
            places: vec![ConnKey { shard: ShardId(shard as u16), conn }],
            is_between: false,
            in_flight: VecDeque::new(),
            received: Vec::new(),
            closed: false,
            paused: false,
            deaf: false,
            neglected: false,
            words: Vec::new(),
            attached: false,
            next_xid: 1,
        });
        self.clients.len() - 1
    }

    pub fn send(&mut self, client: usize, bytes: &[u8]) {
        self.clients[client].in_flight.extend(bytes);
    }

    /// A connected client with a new session.
    pub fn connect(&mut self, shard: usize) -> (usize, ConnectResponse) {
        self.connect_with(shard, &new_session())
    }

    pub fn connect_with(&mut self, shard: usize, request: &ConnectRequest) -> (usize, ConnectResponse) {
        let client = self.open(shard);
        let mut bytes = Vec::new();
        request.write_frame(&mut bytes);
        self.send(client, &bytes);
        self.settle();
        match self.take(client).as_slice() {
            [Frame::Connected(response)] => (client, response.clone()),
            other => panic!("no connect response but {other:?}"),
        }
    }

    /// Sends one request and returns its xid.
    pub fn request(&mut self, client: usize, op: OpCode, body: impl FnOnce(&mut Vec<u8>)) -> i32 {
        let xid = self.clients[client].next_xid;
        self.clients[client].next_xid += 1;
        self.request_as(client, xid, op as i32, body);
        xid
    }

    pub fn request_as(&mut self, client: usize, xid: i32, op: i32, body: impl FnOnce(&mut Vec<u8>)) {
        let frame = frame(xid, op, body);
        self.send(client, &frame);
    }

    pub fn create(&mut self, client: usize, path: &str, data: &str, flags: i32) -> i32 {
        self.request(client, OpCode::Create, |b| put_create(b, path, data, flags))
    }
    pub fn set(&mut self, client: usize, path: &str, data: &str) -> i32 {
        self.request(client, OpCode::SetData, |b| {
            b.put_string(path);
            b.put_string(data);
            b.put_i32(-1);
        })
    }
    pub fn delete(&mut self, client: usize, path: &str) -> i32 {
        self.request(client, OpCode::Delete, |b| {
            b.put_string(path);
            b.put_i32(-1);
        })
    }
    pub fn get(&mut self, client: usize, path: &str, watch: bool) -> i32 {
        self.read(client, OpCode::GetData, path, watch)
    }
    pub fn read(&mut self, client: usize, op: OpCode, path: &str, watch: bool) -> i32 {
        self.request(client, op, |b| {
            b.put_string(path);
            b.put_bool(watch);
        })
    }

    /// Whole frames received since the last call.
    pub fn take(&mut self, client: usize) -> Vec<Frame> {
        let c = &mut self.clients[client];
        let mut frames = Vec::new();
        while let Some(len) = c.received.first_chunk::<4>().map(|n| i32::from_be_bytes(*n) as usize) {
            if c.received.len() < 4 + len {
                break;
            }
            let payload: Vec<u8> = c.received.drain(..4 + len).skip(4).collect();
            if c.attached {
                frames.push(parse(&payload));
            } else {
                frames.push(Frame::Connected(ConnectResponse::decode(&payload).expect("a connect response")));
                c.attached = true;
            }
        }
        frames
    }

    /// Replies only, as (xid, zxid, err).
    pub fn replies(&mut self, client: usize) -> Vec<(i32, i64, i32)> {
        let frames = self.take(client).into_iter();
        frames.filter_map(|f| if let Frame::Reply { xid, zxid, err, .. } = f { Some((xid, zxid, err)) } else { None }).collect()
    }

    /// The client closes its socket.
    pub fn hang_up(&mut self, client: usize) {
        let (shard, conn) = (self.clients[client].shard, self.clients[client].conn);
        if !self.clients[client].closed {
            self.clients[client].closed = true;
            if self.clients[client].is_between {
                return; // found by whoever gets the socket
            }
            self.shards[shard].shard.disconnected(self.now, conn);
            self.pump(shard);
        }
    }

    /// A shard is told to close so many connections that have been silent for so long.
    pub fn shed(&mut self, shard: usize, connections: usize, idle_ms: u64) {
        self.shards[shard].shard.shed(self.now, connections, idle_ms);
        self.pump(shard);
    }

    // ---- steps ----

    /// The server receives at most `max` bytes of what a client has sent; false when there is nothing to receive.
    pub fn deliver(&mut self, client: usize, max: usize) -> bool {
        let c = &mut self.clients[client];
        let shard = c.shard;
        let received = !c.neglected && !c.is_between && Self::receive(&mut self.shards[shard].shard, c, self.now, max);
        if received {
            self.pump(shard);
        }
        received
    }

    fn receive(side: &mut Shard, client: &mut Client, now: Instant, max: usize) -> bool {
        if client.closed || client.paused || client.in_flight.is_empty() {
            return false;
        }
        let room = side.input(client.conn);
        assert!(!room.is_empty(), "a connection that is read has room");
        let n = max.min(room.len()).min(client.in_flight.len());
        for (place, byte) in room.iter_mut().zip(client.in_flight.drain(..n)) {
            *place = byte;
        }
        side.received(now, client.conn, n);
        true
    }

    /// A shard that was woken drains the stream; false when it is parked.
    pub fn shard_step(&mut self, shard: usize) -> bool {
        let side = &mut self.shards[shard];
        if side.parked && !side.woken.0.swap(false, Ordering::Relaxed) {
            return false;
        }
        let bell = self.bells[shard].clone();
        let waker = Waker::from(side.woken.clone());
        let ready = pin!(bell.wait(|| side.shard.behind())).poll(&mut Context::from_waker(&waker)).is_ready();
        side.parked = !ready;
        if ready {
            side.shard.drain(self.now);
            side.shard.replica_has_room(self.now);
            self.pump(shard);
        }
        ready
    }

    /// A shard is to give some of its connections to another one.
    pub fn give_away(&mut self, from: usize, to: ShardId, connections: usize) {
        self.shards[from].shard.give_away(to, connections);
        self.pump(from);
    }

    /// A shard hears what another one has said about a connection that moves; false when nothing was said.
    pub fn between_step(&mut self) -> bool {
        let Some(said) = self.between.pop_front() else { return false };
        let now = self.now;
        let shard = match said {
            Between::Reserve { conn, to, peer } => {
                let at = self.shards[usize::from(to.0)].shard.reserve(now, peer);
                self.between.push_back(Between::Reserved { conn, to: ConnKey { shard: to, conn: at } });
                to
            }
            Between::Reserved { conn, to } => {
                self.shards[usize::from(conn.shard.0)].shard.reserved(now, conn.conn, to);
                conn.shard
            }
            Between::Release(at) => {
                self.shards[usize::from(at.shard.0)].shard.release(now, at.conn);
                at.shard
            }
            Between::Arrive { client, at, departed } => {
                self.arrive(client, at, departed);
                at.shard
            }
        };
        let shard = usize::from(shard.0);
        self.shards[shard].shard.drain(now);
        self.pump(shard);
        true
    }

    fn arrive(&mut self, client: usize, at: ConnKey, departed: Box<Departed>) {
        let (shard, c) = (&mut self.shards[usize::from(at.shard.0)].shard, &mut self.clients[client]);
        c.is_between = false;
        if shard.arrive(at.conn, departed) {
            (c.shard, c.conn) = (usize::from(at.shard.0), at.conn);
            c.places.push(at);
            self.moves += 1;
            if c.closed {
                shard.disconnected(self.now, at.conn);
            }
        } else {
            c.closed = true;
        }
    }

    /// What a shard has to say to others about its connections.
    fn hand_over(&mut self, shard: usize) {
        let from = ShardId(shard as u16);
        while let Some(handover) = self.shards[shard].shard.poll_handover() {
            self.between.push_back(match handover {
                Handover::Reserve { conn, to, peer } => Between::Reserve { conn: ConnKey { shard: from, conn }, to, peer },
                Handover::Release(to) => Between::Release(to),
                Handover::Depart { conn, to, departed } => {
                    let client = self.clients.iter().position(|c| c.shard == shard && c.conn == conn).expect("known");
                    self.clients[client].is_between = true;
                    Between::Arrive { client, at: to, departed }
                }
            });
        }
    }

    /// The replica takes at most `max` messages of each shard; false when there is nothing to do.
    pub fn replica_step(&mut self, max: usize) -> bool {
        let mut did = false;
        for shard in 0..self.shards.len() {
            let mut messages = Vec::new();
            if self.replica.admits() {
                self.inboxes[shard].drain(&mut messages, max);
            }
            did |= !messages.is_empty();
            for message in messages {
                self.taken.push(copy(&message));
                self.replica.handle(self.now, self.wall(), Input::Shard(ShardId(shard as u16), message));
            }
            if self.shards[shard].shard.wants_room() && self.inboxes[shard].len() < self.inboxes[shard].capacity() {
                self.bells[shard].ring();
            }
        }
        self.outputs() || did
    }

    /// The disk completes what it was asked for first; false when there is nothing.
    pub fn disk_step(&mut self) -> bool {
        let Some(completion) = self.disk.complete() else { return false };
        let input = match completion {
            Completion::Synced(token, ..) => Input::LogSynced(token),
            Completion::Named(file) => Input::LogOpened(file),
            Completion::MarkSynced => Input::MarkSynced,
            Completion::Cut(_) => Input::LogCut,
        };
        self.input(input);
        true
    }

    pub fn input(&mut self, input: Input) {
        self.replica.handle(self.now, self.wall(), input);
        self.outputs();
    }

    /// Time passes, in steps of at most one tick; timers fire, everything else settles after each step.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now.plus_ms(ms);
        while self.now < end {
            self.now = Instant(self.now.0.saturating_add(50_000_000).min(end.0));
            self.timers();
            self.settle();
        }
    }

    pub fn timers(&mut self) {
        for shard in 0..self.shards.len() {
            let side = &mut self.shards[shard].shard;
            if side.poll_timeout().is_some_and(|at| at <= self.now) {
                side.handle_timeout(self.now);
                assert!(side.poll_timeout().is_none_or(|at| at > self.now), "a timer that has fired is over");
                self.pump(shard);
            }
        }
        if self.replica.poll_timeout().is_some_and(|at| at <= self.now) {
            self.input(Input::Timeout);
        }
    }

    /// Runs until nothing moves.
    pub fn settle(&mut self) {
        self.settle_with(true);
    }

    /// Runs until nothing moves but the disk.
    pub fn settle_but_disk(&mut self) {
        self.settle_with(false);
    }

    fn settle_with(&mut self, disk: bool) {
        loop {
            let mut moved = false;
            for client in 0..self.clients.len() {
                moved |= self.deliver(client, usize::MAX);
            }
            moved |= self.replica_step(usize::MAX);
            while disk && self.disk_step() {
                moved = true;
            }
            for shard in 0..self.shards.len() {
                moved |= self.shard_step(shard);
            }
            while self.between_step() {
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    /// A shard looks at the stream without having been woken.
    fn look(&mut self, shard: usize) {
        self.shards[shard].shard.drain(self.now);
        self.pump(shard);
        while self.shards[shard].shard.has_work() {
            self.shards[shard].shard.drain(self.now);
            self.pump(shard);
        }
        let applied = self.replica.tree_mut().applied();
        assert_eq!(self.shards[shard].shard.read_zxid(), applied, "a shard is at `applied`, whatever is on the stream (A2)");
    }

    fn outputs(&mut self) -> bool {
        let mut did = false;
        while let Some(output) = self.replica.poll_output() {
            did = true;
            match output {
                Output::Log(action) => self.disk.act(action),
                Output::Publish(batch) => {
                    let last_zxid = batch.last_zxid;
                    let zxid_of = |entry: &Entry| if let Entry::Txn { zxid, .. } = entry { Some(*zxid) } else { None };
                    let upto = self.replica.summary().member.map_or(last_zxid, |member| member.committed);
                    let mut published: Vec<Zxid> = batch.entries.iter().filter_map(zxid_of).chain([last_zxid]).collect();
                    // What a new role confirms of an older one's is published in silence; and so is, to be sent as an image, what is not confirmed yet.
                    let before = self.replica.applied();
                    if before.epoch() < last_zxid.epoch() {
                        let logged = disk::records(&self.disk.left_by_crash(true, |unflushed| unflushed));
                        published.extend(logged.into_iter().map(|(zxid, _)| zxid).filter(|zxid| *zxid > before && *zxid < last_zxid));
                    }
                    self.published.extend(published.into_iter().filter(|zxid| *zxid <= upto));
                    let published = self.publisher.publish(batch);
                    if self.look_before_applied {
                        (0..self.shards.len()).for_each(|shard| self.look(shard));
                    }
                    self.replica.published(last_zxid);
                    notify(&self.bells, &*published, published.position());
                }
                Output::Snapshot(image) => self.snapshots.push(image),
                Output::AbandonSnapshot => self.abandoned += 1,
                Output::Fatal(why) => panic!("{why}"),
                Output::Stopped => self.stopped = true,
                order => self.orders.as_mut().expect("a server that stands alone speaks to no others").push_back(order),
            }
        }
        self.replica.reclaim();
        did
    }

    /// Every shard gets a reader of the tree that has taken the place of the one before.
    pub fn replace_tree(&mut self, generation: u64) {
        for shard in 0..self.shards.len() {
            let reader = self.replica.tree_mut().reader();
            self.shards[shard].shard.replace_tree(self.now, generation, reader);
            self.pump(shard);
        }
    }

    /// What the reactor does after every call into a shard.
    fn pump(&mut self, shard: usize) {
        let side = &mut self.shards[shard].shard;
        let find = |clients: &mut Vec<Client>, conn| clients.iter().position(|c| c.shard == shard && c.conn == conn).expect("known");
        while let Some(conn) = side.poll_reap() {
            let client = find(&mut self.clients, conn);
            Self::receive(side, &mut self.clients[client], self.now, usize::MAX);
            side.reaped(self.now, conn);
        }
        while let Some(conn) = side.poll_shed() {
            let client = find(&mut self.clients, conn);
            let client = &self.clients[client];
            side.shed_if_idle(self.now, conn, client.in_flight.is_empty() && !client.paused);
        }
        while let Some((conn, reading)) = side.poll_read_change() {
            let client = find(&mut self.clients, conn);
            assert_eq!(self.clients[client].paused, reading, "told only of changes");
            self.clients[client].paused = !reading;
        }
        while let Some((conn, word, _)) = side.poll_four_letter() {
            let client = find(&mut self.clients, conn);
            self.clients[client].words.push(word);
            side.answer_four_letter(conn, b"imok");
        }
        while let Some(conn) = side.poll_transmit() {
            let client = find(&mut self.clients, conn);
            if !self.clients[client].deaf {
                Self::transmit(side, &mut self.clients[client]);
            }
        }
        while let Some((conn, how)) = side.poll_close() {
            let Some(client) = self.clients.iter().position(|c| c.shard == shard && c.conn == conn) else {
                // A place whose connection has not come.
                side.closed(self.now, conn);
                continue;
            };
            if how == Close::AfterOutput {
                Self::transmit(side, &mut self.clients[client]);
            }
            self.clients[client].closed = true;
            side.closed(self.now, conn);
        }
        side.take_kick();
        self.hand_over(shard);
        // A parked shard that has worked parks anew.
        self.shards[shard].woken.0.store(true, Ordering::Relaxed);
    }

    fn transmit(side: &mut Shard, client: &mut Client) {
        let bytes = side.output(client.conn).to_vec();
        client.received.extend_from_slice(&bytes);
        side.sent(client.conn, bytes.len());
    }

    /// A client that is deaf takes one byte.
    pub fn sip(&mut self, client: usize) {
        let shard = self.clients[client].shard;
        let (side, client) = (&mut self.shards[shard].shard, &mut self.clients[client]);
        let byte = side.output(client.conn)[0];
        client.received.push(byte);
        side.sent(client.conn, 1);
    }

    /// A client that was deaf reads again.
    pub fn listen(&mut self, client: usize) {
        self.clients[client].deaf = false;
        let shard = self.clients[client].shard;
        Self::transmit(&mut self.shards[shard].shard, &mut self.clients[client]);
        self.pump(shard);
    }
}

fn copy(message: &ToReplica) -> ToReplica {
    match message {
        ToReplica::Request { conn, session, frame, auth, at } => {
            ToReplica::Request { conn: *conn, session: *session, frame: frame.clone(), auth: auth.clone(), at: *at }
        }
        ToReplica::Failed { conn, session, xid, err, auth } => {
            ToReplica::Failed { conn: *conn, session: *session, xid: *xid, err: *err, auth: auth.clone() }
        }
        ToReplica::Connect { conn, accepted, request } => ToReplica::Connect { conn: *conn, accepted: *accepted, request: request.clone() },
        ToReplica::Detach { conn, session, heard } => ToReplica::Detach { conn: *conn, session: *session, heard: *heard },
        ToReplica::Move { from, to, session, heard } => ToReplica::Move { from: *from, to: *to, session: *session, heard: *heard },
        ToReplica::Heard { conn, session, heard, at } => ToReplica::Heard { conn: *conn, session: *session, heard: *heard, at: *at },
        ToReplica::AllHeard { sessions } => ToReplica::AllHeard { sessions: sessions.clone() },
    }
}

fn wall_at(now: Instant) -> WallTime {
    WallTime(1_700_000_000_000 + now.as_ms() as i64)
}

pub fn new_session() -> ConnectRequest {
    ConnectRequest::new_session(TIMEOUT_MS)
}

pub fn again(response: &ConnectResponse) -> ConnectRequest {
    ConnectRequest { session: response.session, password: response.password.to_vec(), ..new_session() }
}

pub fn frame(xid: i32, op: i32, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.put_i32(xid);
    payload.put_i32(op);
    body(&mut payload);
    let mut frame = Vec::new();
    frame.put_buffer(Some(&payload));
    frame
}

pub fn put_create(b: &mut Vec<u8>, path: &str, data: &str, flags: i32) {
    b.put_string(path);
    b.put_string(data);
    b.put_raw(zoo::base::AclVec::OPEN.raw());
    b.put_i32(flags);
}

fn parse(payload: &[u8]) -> Frame {
    let mut r = Reader::new(payload);
    let (xid, zxid, err) = (r.i32().expect("xid"), r.i64().expect("zxid"), r.i32().expect("err"));
    if xid == -1 {
        let kind = r.i32().expect("type");
        assert_eq!(r.i32(), Ok(3), "state is SyncConnected");
        return Frame::Event { zxid, kind, path: r.string().expect("path").to_string() };
    }
    Frame::Reply { xid, zxid, err, body: r.remaining().to_vec() }
}

/// The data of a getData reply.
pub fn data_of(frame: &Frame) -> String {
    match frame {
        Frame::Reply { err: 0, body, .. } => {
            String::from_utf8(Reader::new(body).buffer().expect("data").unwrap_or(b"").to_vec()).expect("text")
        }
        other => panic!("no data in {other:?}"),
    }
}

/// The applied zxid of a world.
pub fn applied(world: &mut World) -> Zxid {
    world.replica.tree_mut().applied()
}

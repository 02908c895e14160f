//! Several servers, their clients, a network and disks on one thread: everything but the reactor. A server is a `World` of the pipeline
//! tests; what it wants of its peers and of the files besides the log is carried out here.
#![allow(dead_code)]

use crate::driver::disk::{self, Disk, Logs};
use crate::driver::{self, Frame, Setup, World, new_session};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Cursor};
use std::ops::RangeInclusive;
use zoo::base::prng::Prng;
use zoo::base::{Instant, PeerId, SessionId, ShardId, Zxid};
use zoo::proto::connect::{ConnectRequest, ConnectResponse};
use zoo::replica::{Input, MemberReport, Output};
use zoo::storage::log_feed::{LogFeed, LogStore};
use zoo::storage::recover::LogSource;
use zoo::tree::{Image, Tree, TreeConfig, load_image};
use zoo::zab::membership::{Member, MemberAddress, MemberKind};
use zoo::zab::{
    self, Emptiness, EpochFile, EpochToken, LinkId, Membership, Notification, Packet, Payload, Reconfig, ServerState, Stored, ZabConfig,
};

/// Time goes on in steps of this.
const STEP_MS: u64 = 50;
/// An election, discovery and synchronisation take less.
pub const SOON_MS: u64 = 60_000;
/// Nothing takes so many rounds of messages while time stands still.
const ROUNDS_MAX: usize = 10_000;
/// Roles and links given up while time stands still, after which it goes on.
const TRIES_MAX: usize = 100;
/// When everything begins.
const BEGAN_NS: u64 = 1_000_000_000_000;
/// How many at most, where a test does not say otherwise.
const RECENT: usize = 500;

/// What is done to a proposal on its way.
#[derive(Clone, Copy)]
pub enum Tamper {
    /// It tells another digest.
    Digest,
    /// It is of a kind that nobody knows.
    Kind,
}

/// In a transaction: session, cxid, zxid and time come first.
const TXN_KIND_AT: usize = 28;

pub struct Cluster {
    pub now: Instant,
    pub nodes: Vec<Node>,
    setup: Setup,
    membership: Membership,
    pub links: BTreeMap<(usize, LinkId), Link>,
    accepted: u64,
    pub notifications: VecDeque<Late<(usize, usize, Notification)>>,
    /// From the first nothing arrives at the second.
    pub apart: BTreeSet<(usize, usize)>,
    /// What is wrong with what the servers run on.
    pub bug: Option<FileBug>,
    /// How long things take: nothing takes any time, unless told otherwise.
    pub pace: Pace,
    /// What leaders have proposed, committed or not, and when.
    pub proposed: BTreeMap<Zxid, Late<Payload>>,
    /// Who leads each epoch.
    pub leaders: BTreeMap<u32, usize>,
    /// Pings and their answers that have arrived.
    pub pings: Vec<Ping>,
    /// How synchronisations began, to whom.
    pub openings: Vec<(usize, &'static str)>,
    /// The digest of the next proposal to this server is changed on the way.
    pub tamper: Option<(usize, Tamper)>,
    /// Snapshots are written as long as this is so.
    pub holds_snapshots: bool,
    /// The next image that this server receives cannot be loaded.
    pub unusable: Option<usize>,
    /// What servers have said about roles and links.
    pub notes: Vec<(usize, String)>,
    /// Parts of logs behind the first that learners were fed.
    pub log_parts: u64,
    /// Transactions a server that starts keeps in memory.
    pub recent: usize,
    /// Followers feed observers.
    pub observer_masters: bool,
    /// Servers that take no packets for the time being.
    pub deaf: BTreeSet<usize>,
    /// The configuration may be changed.
    pub reconfigures: bool,
}

/// What is due, or happened, at a time.
pub type Late<T> = (Instant, T);

/// One that has arrived. An answer says which sessions its sender has heard from.
pub struct Ping {
    /// The sender's end of the link.
    pub from: (usize, LinkId),
    pub to: usize,
    pub sent: Instant,
    pub heard: Instant,
}

/// How long things take at most; how long each time, dice say.
pub struct Pace {
    pub packet_us: u64,
    pub file_us: u64,
    pub prng: Prng,
    /// By how much a server's clock is too fast, in thousandths.
    pub drift: Vec<i64>,
    /// Servers on whose disks no snapshot has room.
    pub full: BTreeSet<usize>,
}

impl Pace {
    pub fn after(&mut self, now: Instant, us_max: u64) -> Instant {
        if us_max == 0 { now } else { Instant(now.0 + self.prng.below(us_max * 1000 + 1)) }
    }
}

/// What a shell may do wrong with its files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileBug {
    /// D2: a log counts as named before its directory is flushed.
    NameNotFlushed,
}

/// What a directory holds besides the logs.
#[derive(Clone, Default)]
pub struct Files {
    pub accepted_epoch: u32,
    pub current_epoch: u32,
    /// What it says of itself where it is empty.
    emptiness: Emptiness,
    /// Its newest snapshot.
    image: Option<(Zxid, Vec<u8>)>,
    /// All it has had since its logs were purged.
    snapshots: BTreeSet<Zxid>,
    /// Its logs, as of its last crash.
    pub logs: Logs,
}

impl Files {
    fn epoch(&mut self, file: EpochFile, epoch: u32, vouches: bool) {
        if vouches {
            self.emptiness = Emptiness::Vouched;
        }
        match file {
            EpochFile::Accepted => self.accepted_epoch = epoch,
            EpochFile::Current => self.current_epoch = epoch,
        }
    }
    /// A leader's image takes the place of everything newer.
    fn install(&mut self, zxid: Zxid, bytes: Vec<u8>) {
        self.snapshots.retain(|older| *older < zxid);
        self.snapshots.insert(zxid);
        self.image = Some((zxid, bytes));
    }
    fn snapshot(&mut self, zxid: Zxid, bytes: Vec<u8>) {
        self.snapshots.insert(zxid);
        // One that was received meanwhile may be newer.
        if self.image.as_ref().is_none_or(|(newest, _)| *newest < zxid) {
            self.image = Some((zxid, bytes));
        }
    }
    /// Logs that a newer one follows are not needed below the snapshot (D7).
    fn purge(&mut self) {
        let Some((zxid, _)) = self.image else { return };
        let needed = self.logs.range(..=zxid).next_back().map(|(first, _)| *first);
        self.logs.retain(|first, _| needed.is_none_or(|needed| *first >= needed));
        self.snapshots = BTreeSet::from([zxid]);
    }
    /// They show that there is an ensemble with a history.
    pub fn vouch(&self) -> bool {
        self.current_epoch > 0
    }
}

/// A server and its disk; `world` is `None` while it is down.
#[derive(Default)]
pub struct Node {
    pub world: Option<World>,
    pub files: Files,
    /// On its way to the files, in order.
    pub work: VecDeque<Late<Work>>,
    /// An image that was received and has no name yet.
    received: Option<Vec<u8>>,
    /// Times it was started.
    pub lives: u32,
}

/// Work with files besides the log.
pub enum Work {
    /// Whether the disk is said before to have lost nothing.
    Epoch(EpochToken, EpochFile, u32, bool),
    /// The bytes of a snapshot of its own.
    Snapshot(Zxid, Vec<u8>),
    /// What came on a link is written under a temporary name.
    Receive(LinkId, Zxid, Vec<u8>),
    /// ... and loaded ...
    LoadImage(Zxid),
    /// ... and gets its name.
    Install(Zxid),
    /// Snapshot and logs are read again.
    Load(Zxid),
}

/// One end of a link.
pub struct Link {
    peer: (usize, LinkId),
    pub incoming: VecDeque<Late<Item>>,
    /// An image is being installed: nothing further is given.
    pub installing: bool,
}

pub enum Item {
    /// With the time it was sent.
    Packet(Packet, Instant),
    Image(Vec<u8>),
    Gone,
}

/// A client at one server.
#[derive(Clone)]
pub struct Client {
    pub node: usize,
    pub index: usize,
    pub session: ConnectResponse,
}

impl Cluster {
    /// `voters` servers that vote, then `observers` that do not; all down.
    pub fn new(setup: Setup, voters: usize, observers: usize) -> Cluster {
        let address =
            |n: usize| MemberAddress { host: "localhost".into(), quorum_port: 40_000 + n as u16, election_port: 41_000 + n as u16 };
        let member = |n: usize| {
            let kind = if n < voters { MemberKind::Participant } else { MemberKind::Observer };
            (peer(n), Member { addresses: vec![address(n)], kind, client: None })
        };
        let count = voters + observers;
        let members = (0..count).map(member).collect();
        Cluster {
            now: Instant(BEGAN_NS),
            nodes: (0..count).map(|_| Node::default()).collect(),
            setup,
            membership: Membership { members, ..Membership::default() },
            links: BTreeMap::new(),
            accepted: 0,
            notifications: VecDeque::new(),
            apart: BTreeSet::new(),
            bug: None,
            pace: Pace { packet_us: 0, file_us: 0, prng: Prng::new(0), drift: vec![0; count], full: BTreeSet::new() },
            proposed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            pings: Vec::new(),
            openings: Vec::new(),
            tamper: None,
            unusable: None,
            holds_snapshots: false,
            notes: Vec::new(),
            log_parts: 0,
            recent: RECENT,
            observer_masters: false,
            deaf: BTreeSet::new(),
            reconfigures: false,
        }
    }

    /// All up, with a leader and everybody in its service.
    pub fn started(setup: Setup, voters: usize, observers: usize) -> Cluster {
        let mut cluster = Cluster::new(setup, voters, observers);
        (0..voters + observers).for_each(|n| cluster.start(n));
        cluster.until_all_serve();
        cluster
    }

    // ---- servers ----

    /// Starts a server from its disk.
    pub fn start(&mut self, n: usize) {
        self.start_with(n, self.setup.clone());
    }

    /// The same with settings of its own.
    pub fn start_with(&mut self, n: usize, mut setup: Setup) {
        let mut logs = std::mem::take(&mut self.nodes[n].files.logs);
        let (tree, zab) = (disk::recover(self.snapshot(n), &mut logs), self.zab_config(n));
        let clock = self.clock(n);
        let snapshot = self.nodes[n].files.image.as_ref().map_or(Zxid::ZERO, |(zxid, _)| *zxid);
        // Not what is older than the snapshot: an image that came from a leader may have taken the place of it.
        let records: Vec<_> = disk::records(&logs).into_iter().filter(|(zxid, _)| *zxid > snapshot).collect();
        let recent = records.iter().rev().take(self.recent).rev().map(|(zxid, payload)| (*zxid, payload.as_slice().into())).collect();
        let node = &mut self.nodes[n];
        let stored = Stored {
            accepted_epoch: node.files.accepted_epoch,
            current_epoch: node.files.current_epoch,
            last_logged: tree.head_zxid(),
            snapshot,
            emptiness: node.files.emptiness,
            configuration: None,
            recent,
        };
        setup.replica.server_id = peer(n).0;
        setup.member = Some((zab, stored));
        let mut world = World::over_at(setup, tree, clock);
        world.disk = Disk::after(logs);
        node.world = Some(world);
        node.lives += 1;
    }

    fn zab_config(&self, n: usize) -> ZabConfig {
        ZabConfig {
            me: peer(n),
            membership: self.membership.clone(),
            is_observer: self.membership.members[&peer(n)].kind == MemberKind::Observer,
            tick_ms: driver::TICK_MS,
            init_limit: 10,
            sync_limit: 5,
            notification_ms_min: 200,
            notification_ms_max: 60_000,
            finalize_ms: 200,
            connect_retry_ms: 100,
            tail_count_min: 500,
            tail_bytes_max: 1 << 20,
            learner_bytes_max: 64 << 20,
            observer_masters: self.observer_masters,
            seed: n as u64 + 1,
            planted: Default::default(),
            reconfig: Reconfig { enabled: self.reconfigures, voters_min: 1, proposed: None },
        }
    }

    /// Ends a server; its disk keeps what was durable.
    pub fn kill(&mut self, n: usize) {
        self.crash(n, |_| 0);
    }

    /// The power of a server fails: of so many unflushed bytes of its log as many are left as `survives` says.
    pub fn crash(&mut self, n: usize, survives: impl FnMut(usize) -> usize) {
        let node = &mut self.nodes[n];
        let Some(world) = node.world.take() else { return };
        node.files.logs = world.left_by_crash(survives);
        let logs = disk::records(&node.files.logs);
        logged(&mut self.proposed, self.now, logs);
        let node = &mut self.nodes[n];
        if self.bug == Some(FileBug::NameNotFlushed) && self.pace.prng.chance(1, 2) {
            node.files.logs.pop_last();
        }
        node.files.purge();
        // What was being done is done or not.
        let begun = node.work.pop_front().filter(|_| self.pace.prng.chance(1, 2));
        match begun.map(|(_, work)| work) {
            Some(Work::Epoch(_, file, epoch, vouches)) => node.files.epoch(file, epoch, vouches),
            Some(Work::Snapshot(zxid, bytes)) => node.files.snapshot(zxid, bytes),
            Some(Work::Install(zxid)) => node.files.install(zxid, node.received.take().expect("it was received")),
            Some(Work::Receive(..) | Work::LoadImage(_) | Work::Load(_)) | None => {}
        }
        (node.received, node.work) = (None, VecDeque::new());
        self.links.retain(|(owner, _), _| *owner != n);
        let now = self.now;
        for link in self.links.values_mut().filter(|l| l.peer.0 == n) {
            link.incoming.push_back((now, Item::Gone));
        }
        self.notifications.retain(|(_, (from, to, _))| *from != n && *to != n);
    }

    /// What servers have logged and told nobody: it may be committed by an image that holds it.
    pub fn note_logs(&mut self) {
        for n in self.up() {
            let logs = self.world(n).left_by_crash(|_| 0);
            logged(&mut self.proposed, self.now, disk::records(&logs));
        }
    }

    /// Empties the disk of a server that is down.
    pub fn wipe(&mut self, n: usize) {
        assert!(self.nodes[n].world.is_none());
        self.nodes[n].files = Files::default();
    }

    /// These servers and the rest do not reach each other any more. What was on the way is lost, and nobody is told.
    pub fn separate(&mut self, some: &[usize]) {
        let count = self.nodes.len();
        for a in 0..count {
            self.apart.extend((0..count).filter(|b| some.contains(&a) != some.contains(b)).map(|b| (a, b)));
        }
        let apart = self.apart.clone();
        for ((owner, _), link) in &mut self.links {
            if apart.contains(&(*owner, link.peer.0)) {
                link.incoming.clear();
            }
        }
        self.notifications.retain(|(_, (from, to, _))| !apart.contains(&(*from, *to)));
    }

    /// Everybody reaches everybody again; connections from before are gone.
    pub fn heal(&mut self) {
        let (apart, now) = (std::mem::take(&mut self.apart), self.now);
        for ((owner, _), link) in &mut self.links {
            if apart.contains(&(*owner, link.peer.0)) || apart.contains(&(link.peer.0, *owner)) {
                link.incoming.push_back((now, Item::Gone));
            }
        }
    }

    /// What the clock of a server shows.
    pub fn clock(&self, n: usize) -> Instant {
        let passed = (self.now.0 - BEGAN_NS) as i64;
        Instant(BEGAN_NS + (passed + passed / 1000 * self.pace.drift[n]) as u64)
    }

    /// When the clock of a server shows this, or more.
    pub fn when(&self, n: usize, clock: Instant) -> Instant {
        let passed = clock.0.saturating_sub(BEGAN_NS) as i64;
        let drift = self.pace.drift[n];
        Instant(BEGAN_NS + (passed / (1000 + drift) * 1000 + passed % (1000 + drift)) as u64)
    }

    /// The tree of its newest snapshot.
    fn snapshot(&self, n: usize) -> Tree {
        match &self.nodes[n].files.image {
            None => Tree::new(self.setup.tree.clone()),
            Some((zxid, bytes)) => load(&self.setup.tree, *zxid, bytes),
        }
    }

    pub fn world(&mut self, n: usize) -> &mut World {
        self.nodes[n].world.as_mut().expect("it is up")
    }

    pub fn report(&self, n: usize) -> MemberReport {
        let world = self.nodes[n].world.as_ref().expect("it is up");
        world.replica.summary().member.expect("a member")
    }

    pub fn up(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].world.is_some()).collect()
    }

    /// The server that leads and serves; of two the one of the later epoch.
    pub fn leader(&self) -> Option<usize> {
        let leads = |n: &usize| self.report(*n).is_serving && self.report(*n).state == ServerState::Leading;
        self.up().into_iter().filter(leads).max_by_key(|n| self.report(*n).epoch)
    }

    pub fn followers(&self) -> Vec<usize> {
        self.up().into_iter().filter(|n| self.report(*n).is_serving && self.report(*n).state != ServerState::Leading).collect()
    }

    pub fn until_all_serve(&mut self) {
        self.until("all serve", |c| c.leader().is_some() && c.up().into_iter().all(|n| c.report(n).is_serving));
    }

    /// (zxid, digest) of what a server has applied.
    pub fn state(&mut self, n: usize) -> (Zxid, u64) {
        let image = self.world(n).replica.tree_mut().begin_image();
        (image.zxid(), image.digest().expect("digests are on").digest)
    }

    /// The sessions a server knows; ephemerals have no other owners.
    fn sessions(&mut self, n: usize) -> Vec<SessionId> {
        let now = self.now;
        let report = self.world(n).replica.report(now);
        let sessions: Vec<SessionId> = report.sessions.iter().map(|(id, ..)| *id).collect();
        assert!(report.ephemerals.iter().all(|(owner, _)| sessions.contains(owner)), "{:?} of {sessions:?}", report.ephemerals);
        sessions
    }

    /// All that are up have the same history and the same tree, and their shards show it.
    pub fn assert_same(&mut self) {
        self.pass(2 * driver::TICK_MS);
        let states: Vec<_> = self.up().into_iter().map(|n| (n, self.state(n))).collect();
        assert!(states.windows(2).all(|pair| pair[0].1 == pair[1].1), "{states:?}");
        let sessions: Vec<_> = self.up().into_iter().map(|n| self.sessions(n)).collect();
        assert!(sessions.windows(2).all(|pair| pair[0] == pair[1]), "{sessions:?}");
        for (n, (zxid, _)) in states {
            let world = self.world(n);
            (0..world.shards.len()).for_each(|shard| {
                world.shards[shard].shard.drain(world.now);
                assert_eq!(world.shards[shard].shard.read_zxid(), zxid, "shard {shard} of {n}");
            });
        }
    }

    // ---- clients ----

    pub fn connect(&mut self, node: usize) -> Client {
        let (index, answer) = self.try_connect(node, 0, &new_session());
        Client { node, index, session: answer.expect("a session") }
    }

    /// A client goes on with its session at another server.
    pub fn connect_again(&mut self, node: usize, session: &ConnectResponse) -> Client {
        let (index, answer) = self.try_connect(node, 0, &driver::again(session));
        Client { node, index, session: answer.expect("the session goes on") }
    }

    /// `None`: the connection was closed without an answer.
    pub fn try_connect(&mut self, node: usize, shard: usize, request: &ConnectRequest) -> (usize, Option<ConnectResponse>) {
        let client = self.world(node).open(shard);
        let mut bytes = Vec::new();
        request.write_frame(&mut bytes);
        self.world(node).send(client, &bytes);
        self.settle();
        match self.world(node).take(client).as_slice() {
            [Frame::Connected(response)] => (client, Some(response.clone())),
            [] => {
                assert!(self.world(node).clients[client].closed, "neither answered nor closed");
                (client, None)
            }
            other => panic!("no connect response but {other:?}"),
        }
    }

    /// Sends a request, lets everything settle, and gives what the client has received since.
    pub fn ask(&mut self, client: &Client, request: impl FnOnce(&mut World, usize) -> i32) -> Vec<Frame> {
        request(self.world(client.node), client.index);
        self.settle();
        self.world(client.node).take(client.index)
    }

    /// The same for one that succeeds with one reply.
    pub fn ok(&mut self, client: &Client, request: impl FnOnce(&mut World, usize) -> i32) -> Frame {
        let frames = self.ask(client, request);
        match frames.as_slice() {
            [frame @ Frame::Reply { err: 0, .. }] => frame.clone(),
            other => panic!("no good reply but {other:?}"),
        }
    }

    pub fn is_closed(&mut self, client: &Client) -> bool {
        self.world(client.node).clients[client.index].closed
    }

    // ---- steps ----

    /// Runs until nothing moves.
    pub fn settle(&mut self) {
        let noted = self.notes.len();
        for round in 0.. {
            let mut moved = false;
            if self.notes.len() > noted + TRIES_MAX {
                return; // servers try again and again what can only go well later
            }
            assert!(round < ROUNDS_MAX, "there is no end of messages");
            for n in self.up() {
                self.world(n).settle();
                moved |= self.carry_out(n);
            }
            moved |= self.deliver();
            if !moved {
                return;
            }
        }
    }

    pub fn pass(&mut self, ms: u64) {
        let end = self.now.plus_ms(ms);
        while self.now < end {
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.tick_by(STEP_MS);
        self.settle();
    }

    /// Time passes; timers fire, and nothing else happens.
    pub fn tick_by(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        for n in self.up() {
            let now = self.clock(n);
            let world = self.world(n);
            world.now = now;
            world.timers();
            self.carry_out(n);
        }
    }

    /// One thing happens inside a server.
    pub fn small_step(&mut self, n: usize, choice: u64) {
        let world = self.world(n);
        let which = (choice >> 8) as usize;
        match choice % 5 {
            0 if !world.clients.is_empty() => drop(world.deliver(which % world.clients.len(), 1 + which % 97)),
            0 | 1 => drop(world.disk_step()),
            2 => drop(world.replica_step(1 + which % 3)),
            3 => drop(world.shard_step(which % world.shards.len())),
            _ => drop(world.between_step()),
        }
        self.carry_out(n);
    }

    /// One shard of a server begins to give connections to another.
    pub fn move_some(&mut self, n: usize, choice: u64) {
        if self.nodes[n].world.is_some() {
            let world = self.world(n);
            let (shards, from) = (world.shards.len(), choice as usize % world.shards.len());
            if shards > 1 {
                world.give_away(from, ShardId(((from + 1) % shards) as u16), 1 + (choice >> 8) as usize % 2);
            }
            self.carry_out(n);
        }
    }

    /// One notification, or one packet of one link, arrives.
    pub fn deliver_one(&mut self, choice: u64) {
        if choice.is_multiple_of(4)
            && let Some((_, (from, to, message))) = self.notifications.pop_front()
        {
            if self.reaches(from, to) {
                self.tell(to, zab::Input::Notification { from: peer(from), message });
                self.carry_out(to);
            }
            return;
        }
        let waiting: Vec<(usize, LinkId)> = self.links.iter().filter(|(_, l)| !l.incoming.is_empty()).map(|(end, _)| *end).collect();
        if let Some(end) = waiting.get((choice >> 8) as usize % waiting.len().max(1)) {
            self.deliver_on(*end);
            if self.nodes[end.0].world.is_some() {
                self.carry_out(end.0);
            }
        }
    }

    pub fn until(&mut self, what: &str, done: impl Fn(&Cluster) -> bool) {
        let end = self.now.plus_ms(SOON_MS);
        self.settle();
        while !done(self) {
            let last = &self.notes[self.notes.len().saturating_sub(10)..];
            assert!(self.now < end, "not within {SOON_MS} ms: {what}; {last:?}");
            self.tick();
        }
    }

    /// Carries out what a server wants of its peers and of its files; true when there was anything.
    pub fn carry_out(&mut self, n: usize) -> bool {
        let mut any = false;
        while let Some(order) = self.world(n).orders.as_mut().expect("a member").pop_front() {
            any = true;
            match order {
                Output::Peer(order) => self.peer_order(n, order),
                Output::SendSnapshot { link, image, told: zxid } => {
                    self.openings.extend(self.links.get(&(n, link)).map(|l| (l.peer.0, "SNAP")));
                    self.put(n, link, Item::Packet(Packet::Snap { zxid }, self.now));
                    self.put(n, link, Item::Image(bytes_of(image)));
                    self.tell(n, zab::Input::SnapshotSent(link));
                }
                Output::ReadLog { link, from, upto, first, newest } => self.read_log(n, link, from..=upto, first, newest),
                Output::ReceiveSnapshot { link, zxid } => self.receive_image(n, link, zxid),
                Output::LoadSnapshot { zxid } => self.work(n, Work::LoadImage(zxid)),
                Output::InstallSnapshot { zxid } => self.work(n, Work::Install(zxid)),
                Output::LoadTree { zxid } => self.work(n, Work::Load(zxid)),
                Output::TreeReplaced { generation, old } => {
                    drop(old);
                    self.world(n).replace_tree(generation);
                }
                _ => panic!("the world itself carries that out"),
            }
        }
        let written = if self.holds_snapshots { Vec::new() } else { std::mem::take(&mut self.world(n).snapshots) };
        for image in written {
            any = true;
            let zxid = image.zxid();
            let report = self.report(n);
            assert!(zxid <= report.committed || !report.is_serving, "{zxid} is in a snapshot and not committed (A13)");
            self.work(n, Work::Snapshot(zxid, bytes_of(image)));
        }
        any
    }

    /// Plans work with files, or does it at once where nothing takes time.
    fn work(&mut self, n: usize, work: Work) {
        if self.pace.file_us == 0 {
            return self.finish(n, work);
        }
        let after = self.nodes[n].work.back().map_or(self.now, |(due, _)| *due);
        let due = self.pace.after(after, self.pace.file_us);
        self.nodes[n].work.push_back((due, work));
    }

    /// What work with files comes to on the disk, and what the server is told.
    pub fn finish(&mut self, n: usize, work: Work) {
        let files = &mut self.nodes[n].files;
        match work {
            Work::Epoch(token, file, epoch, vouches) => {
                files.epoch(file, epoch, vouches);
                self.tell(n, zab::Input::EpochWritten(token));
            }
            Work::Snapshot(zxid, bytes) => {
                let ok = !self.pace.full.contains(&n);
                if ok {
                    files.snapshot(zxid, bytes);
                }
                self.world(n).input(Input::SnapshotDone { zxid, ok });
            }
            Work::Receive(link, zxid, bytes) => {
                if !self.links.contains_key(&(n, link)) {
                    return self.tell(n, zab::Input::SnapshotFailed("the link is gone".into()));
                }
                self.nodes[n].received = Some(bytes);
                self.world(n).input(Input::SnapshotReceived(zxid));
            }
            Work::LoadImage(zxid) => {
                let loaded = if self.unusable.take_if(|who| *who == n).is_some() {
                    Err("it does not make sense".into())
                } else {
                    let image = self.nodes[n].received.as_ref().expect("it was received");
                    Ok(Box::new(load(&self.setup.tree, zxid, image)))
                };
                let failed = loaded.is_err();
                self.world(n).input(Input::SnapshotLoaded(loaded));
                if failed {
                    self.image_done(n);
                }
            }
            Work::Install(zxid) => {
                let received = self.nodes[n].received.take().expect("it was received");
                self.nodes[n].files.install(zxid, received);
                self.world(n).input(Input::SnapshotInstalled);
                self.image_done(n);
            }
            Work::Load(zxid) => {
                let mut logs = self.world(n).left_by_crash(|_| 0);
                let tree = disk::recover(self.snapshot(n), &mut logs);
                assert_eq!(tree.applied(), zxid, "a tree is loaded after the log was cut to where it ends");
                self.world(n).input(Input::TreeLoaded(Box::new(tree)));
            }
        }
    }

    /// An image has been installed, or is not going to be.
    fn image_done(&mut self, n: usize) {
        self.links.iter_mut().filter(|((owner, _), _)| *owner == n).for_each(|(_, link)| link.installing = false);
    }

    fn peer_order(&mut self, n: usize, order: zab::Output) {
        match order {
            zab::Output::Notify { to, message } => {
                let to = index(to);
                if self.reaches(n, to) {
                    let due = self.pace.after(self.now, self.pace.packet_us);
                    self.notifications.push_back((due, (n, to, message)));
                }
            }
            zab::Output::Connect { link, peer } => self.dial(n, link, index(peer), zab::Input::Accepted),
            zab::Output::ConnectToMaster { link, peer } => self.dial(n, link, index(peer), zab::Input::ObserverAccepted),
            zab::Output::Send { link, packet } => {
                let opening = match &packet {
                    Packet::Diff { .. } => Some("DIFF"),
                    Packet::Trunc { .. } => Some("TRUNC"),
                    _ => None,
                };
                self.openings.extend(opening.and_then(|o| self.links.get(&(n, link)).map(|l| (l.peer.0, o))));
                if let Packet::Proposal { zxid, payload } | Packet::Inform { zxid, payload } = &packet {
                    self.leaders.entry(zxid.epoch()).or_insert(n);
                    let (_, first) = self.proposed.entry(*zxid).or_insert_with(|| (self.now, payload.clone()));
                    assert!(first == payload, "{zxid} is proposed twice (A15)");
                }
                self.put(n, link, Item::Packet(packet, self.now));
            }
            zab::Output::Close(link) => {
                self.put(n, link, Item::Gone);
                self.links.remove(&(n, link));
            }
            zab::Output::WriteEpoch { token, file, epoch, vouches } => {
                let mark = self.world(n).disk.durable_mark;
                assert!(mark.is_none_or(|mark| file.of(epoch).within(&mark.epochs)), "{file:?} says {epoch}, {mark:?} does not (A23)");
                self.work(n, Work::Epoch(token, file, epoch, vouches));
            }
            zab::Output::WriteConfig { token, .. } => self.tell(n, zab::Input::ConfigWritten(token)),
            zab::Output::Config { .. } => {}
            zab::Output::Note(note) => self.notes.push((n, note)),
            other => panic!("the replica carries out {other:?}"),
        }
    }

    fn dial(&mut self, n: usize, link: LinkId, to: usize, accepted: fn(LinkId) -> zab::Input) {
        if !self.reaches(n, to) {
            return self.tell(n, zab::Input::Disconnected(link));
        }
        self.accepted += 2;
        let theirs = LinkId(self.accepted);
        self.links.insert((n, link), Link { peer: (to, theirs), incoming: VecDeque::new(), installing: false });
        self.links.insert((to, theirs), Link { peer: (n, link), incoming: VecDeque::new(), installing: false });
        self.tell(to, accepted(theirs));
        self.tell(n, zab::Input::Connected(link));
    }

    pub fn reaches(&self, from: usize, to: usize) -> bool {
        self.nodes[to].world.is_some() && !self.apart.contains(&(from, to))
    }

    pub fn tell(&mut self, n: usize, input: zab::Input) {
        self.world(n).input(Input::Peer(input));
    }

    fn put(&mut self, n: usize, link: LinkId, item: Item) {
        let Some(to) = self.links.get(&(n, link)).map(|l| l.peer).filter(|to| !self.apart.contains(&(n, to.0))) else { return };
        let item = match item {
            Item::Packet(Packet::Proposal { zxid, payload }, sent) if self.tamper.is_some_and(|(at, _)| at == to.0) => {
                let mut bytes = payload.to_vec();
                match self.tamper.take() {
                    Some((_, Tamper::Digest)) => *bytes.last_mut().expect("a digest") ^= 1,
                    _ => bytes[TXN_KIND_AT..TXN_KIND_AT + 4].copy_from_slice(&999i32.to_be_bytes()),
                }
                Item::Packet(Packet::Proposal { zxid, payload: bytes.into() }, sent)
            }
            item => item,
        };
        let due = self.pace.after(self.now, self.pace.packet_us);
        if let Some(other) = self.links.get_mut(&to) {
            let due = other.incoming.back().map_or(due, |(last, _)| due.max(*last));
            other.incoming.push_back((due, item));
        }
    }

    /// One message of every link and every notification; true when there was any.
    fn deliver(&mut self) -> bool {
        let mut any = false;
        for (_, (from, to, message)) in std::mem::take(&mut self.notifications) {
            any = true;
            if self.reaches(from, to) {
                self.tell(to, zab::Input::Notification { from: peer(from), message });
            }
        }
        let ends: Vec<(usize, LinkId)> = self.links.keys().copied().collect();
        for end in ends {
            any |= self.deliver_on(end);
        }
        any
    }

    /// Whether a server takes packets.
    pub fn admits(&self, n: usize) -> bool {
        !self.deaf.contains(&n) && self.nodes[n].world.as_ref().is_some_and(|w| w.replica.admits_packets())
    }

    pub fn deliver_on(&mut self, end: (usize, LinkId)) -> bool {
        let (n, link) = end;
        if !self.admits(n) {
            return false;
        }
        let now = self.now;
        let Some(state) = self.links.get_mut(&end).filter(|l| !l.installing) else { return false };
        match state.incoming.pop_front_if(|(due, _)| *due <= now).map(|(_, item)| item) {
            None => return false,
            Some(Item::Packet(packet, sent)) => {
                state.installing = matches!(packet, Packet::Snap { .. });
                if let Packet::Ping { .. } = packet {
                    self.pings.push(Ping { from: state.peer, to: n, sent, heard: now });
                }
                self.tell(n, zab::Input::Packet(link, packet));
            }
            Some(Item::Gone) => {
                self.links.remove(&end);
                self.tell(n, zab::Input::Disconnected(link));
            }
            Some(Item::Image(_)) => panic!("an image nobody waits for"),
        }
        true
    }

    /// From the files as they are on the disk, in parts of two or three records.
    fn read_log(&mut self, n: usize, link: LinkId, wanted: RangeInclusive<Zxid>, first: bool, newest: Option<(Zxid, u64)>) {
        let logs = LogFiles(self.world(n).left_by_crash(|_| 0));
        assert!(newest.is_none_or(|(name, used)| logs.0.get(&name).is_none_or(|bytes| bytes.len() as u64 >= used)), "{newest:?}");
        let snapshots: Vec<Zxid> = self.nodes[n].files.snapshots.iter().copied().collect();
        let feed = |snapshots| LogFeed::new(LogFiles(logs.0.clone()), snapshots);
        if first && !feed(snapshots.clone()).leads_through_snapshots(*wanted.start()).expect("memory is readable") {
            return self.tell(n, zab::Input::LogRead(link, Err("an image has taken its place".into())));
        }
        let part: Vec<(Zxid, Payload)> = feed(snapshots).read(*wanted.start(), *wanted.end(), 200).expect("memory is readable");
        self.log_parts += u64::from(!first && !part.is_empty());
        self.tell(n, zab::Input::LogRead(link, Ok(part)));
    }

    fn receive_image(&mut self, n: usize, link: LinkId, zxid: Zxid) {
        match self.links.get_mut(&(n, link)).and_then(|l| l.incoming.pop_front()) {
            Some((_, Item::Image(bytes))) => self.work(n, Work::Receive(link, zxid, bytes)),
            _ => self.tell(n, zab::Input::SnapshotFailed("the link is gone".into())),
        }
    }
}

fn logged(proposed: &mut BTreeMap<Zxid, Late<Payload>>, now: Instant, records: Vec<(Zxid, Vec<u8>)>) {
    for (zxid, payload) in records {
        proposed.entry(zxid).or_insert_with(|| (now, payload.into()));
    }
}

/// Log files of a server that goes on.
struct LogFiles(Logs);

impl LogSource for LogFiles {
    type File = Cursor<Vec<u8>>;
    fn open(&mut self, log: Zxid) -> io::Result<Self::File> {
        self.0.get(&log).cloned().map(Cursor::new).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl LogStore for LogFiles {
    fn logs(&mut self) -> io::Result<Vec<Zxid>> {
        Ok(self.0.keys().copied().collect())
    }
}

pub fn peer(n: usize) -> PeerId {
    PeerId(n as i64 + 1)
}

fn index(peer: PeerId) -> usize {
    (peer.0 - 1) as usize
}

fn bytes_of(mut image: Image) -> Vec<u8> {
    let mut bytes = Vec::new();
    image
        .write(&mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })
        .expect("memory is written");
    bytes
}

fn load(config: &TreeConfig, zxid: Zxid, bytes: &[u8]) -> Tree {
    let (tree, used) = load_image(config.clone(), zxid, bytes, None).expect("an image");
    assert_eq!(used, bytes.len());
    tree
}

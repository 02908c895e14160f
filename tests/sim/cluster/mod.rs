//! The servers, their disks and links, and what happens next. The shell of each broadcast core is modelled here: it appends to a log that
//! is flushed late, publishes what is committed and durable, makes images and installs them.

mod clients;
mod disks;
mod links;

use super::check::Checker;
use super::disk::{Entry, Platter, ShellBug, Work};
use super::network::{Life, Message, Network};
use super::totals::{Counts, Outcome};
use std::collections::{BTreeMap, VecDeque};
use zoo::base::prng::Prng;
use zoo::base::{Instant, PeerId, SessionId, Xid, Zxid};
use zoo::record::{Txn, TxnHeader, TxnType};
use zoo::zab::membership::{Member, MemberAddress, MemberKind};
use zoo::zab::{
    Emptiness, ForwardedRequest, Input, LinkId, Membership, Notification, Output, Packet, Payload, Planted, Reconfig, ReconfigRequest,
    Role, ServerState, Zab, ZabConfig,
};

const OP_CREATE: i32 = 1;
const OP_SYNC: i32 = 9;
pub const TICK_MS: u64 = 200;

/// What is dialed: the input it makes of a link.
pub type Port = fn(LinkId) -> Input;

/// Something that is going to happen.
pub enum Event {
    Wake(Life),
    /// The link named by the output is up, or is not to be had.
    Dialed(Life, LinkId, PeerId, Port),
    Deliver(u64, usize),
    Notified(PeerId, PeerId),
    /// A notification comes once more, late: sent again on a new connection.
    Repeated(PeerId, PeerId, Notification),
    DiskDone(Life),
    SnapshotSent(Life, LinkId),
    SnapshotFailed(Life, LinkId),
    LogRead {
        life: Life,
        link: LinkId,
        from: Zxid,
        upto: Zxid,
        first: bool,
    },
    Start(PeerId),
    Chaos,
    Client,
}

/// How things go in this run.
#[derive(Clone, Debug)]
pub struct Conditions {
    pub delay_ms: u64,
    pub flush_ms: u64,
    /// How long it takes to read a part of a log.
    pub read_ms: u64,
    pub tail_count_min: usize,
    pub tail_bytes_max: usize,
    pub recent_max: usize,
    pub learner_bytes_max: usize,
    /// Followers feed observers.
    pub observer_masters: bool,
    /// Of a hundred images sent, so many do not arrive.
    pub image_failures: u64,
    /// Of a hundred reads of a log, so many are refused.
    pub log_refusals: u64,
    /// Of a hundred parts of a log, so many have a hole.
    pub log_holes: u64,
    /// ... of the parts behind the first, so many are refused.
    pub log_breaks: u64,
    /// Of a thousand flushes, so many fail.
    pub flush_failures: u64,
    /// Of a hundred notifications, so many come a second time.
    pub repeats: u64,
    /// The membership changes: servers beyond the first members are there to join.
    pub reconfigures: bool,
    /// A bug of the core.
    pub planted: Planted,
    /// A bug of the shell.
    pub shell_bug: Option<ShellBug>,
}

/// A running server.
pub struct Running {
    pub life: Life,
    pub zab: Zab,
    /// The log as appended; flushed up to what the platter holds.
    pub memory: Vec<Entry>,
    pub committed: Zxid,
    pub applied: usize,
    work: VecDeque<Work>,
    wake: Option<u64>,
    pub paused_until: u64,
    pub role: Role,
    installing: Option<(u64, usize, LinkId)>,
    /// What must be committed here before the sync sent as number n is answered.
    pub syncs: VecDeque<Zxid>,
    /// The same for syncs of a leader's own clients, with the rounds they wait for.
    pub own_syncs: VecDeque<(u64, Zxid)>,
    /// The last vote given as a candidate: round, then rank.
    voted: Option<(i64, (i64, i64, PeerId))>,
}

pub struct Server {
    pub platter: Platter,
    /// What it held some time ago.
    pub backup: Option<Platter>,
    pub running: Option<Running>,
    lives: u64,
    /// The end of what it held when its disk was wiped, until it serves again: it has acknowledged that, and nobody may rely on it any more.
    wiped: Option<Zxid>,
}

pub struct World {
    pub now: u64,
    pub prng: Prng,
    pub conditions: Conditions,
    /// The one in force: committed last.
    pub membership: Membership,
    /// The one that everybody begins with.
    first: Membership,
    pub servers: BTreeMap<PeerId, Server>,
    pub network: Network,
    pub checker: Checker,
    events: BTreeMap<(u64, u64), Event>,
    order: u64,
    /// A fingerprint of everything that happened.
    pub trace: u64,
    /// What was done to it, by kind.
    faults: Counts,
    /// What it came to, by kind.
    reached: Counts,
    /// Says what happens.
    pub prints: bool,
}

/// Members 1..=voters vote, the next ones observe.
pub fn membership(voters: i64, observers: i64) -> Membership {
    let kind = |id| if id <= voters { MemberKind::Participant } else { MemberKind::Observer };
    let line = |id: i64| (PeerId(id), member(PeerId(id), kind(id), 1));
    Membership { members: (1..=voters + observers).map(line).collect(), ..Membership::default() }
}
fn member(id: PeerId, kind: MemberKind, quorum_port: u16) -> Member {
    Member { addresses: vec![MemberAddress { host: format!("s{}", id.0), quorum_port, election_port: 2 }], kind, client: None }
}

impl World {
    pub fn new(seed: u64, membership: Membership, conditions: Conditions) -> World {
        let server = || Server { platter: Platter::default(), backup: None, running: None, lives: 0, wiped: None };
        let mut world = World {
            now: 1_000_000_000,
            prng: Prng::new(seed),
            conditions,
            servers: membership.members.keys().map(|id| (*id, server())).collect(),
            first: membership.clone(),
            membership,
            network: Network::default(),
            checker: Checker::default(),
            events: BTreeMap::new(),
            order: 0,
            trace: 0,
            faults: Counts::new(),
            reached: Counts::new(),
            prints: false,
        };
        world.start_all();
        world
    }
    fn start_all(&mut self) {
        for id in self.ids() {
            let delay = self.prng.below(500);
            self.after(delay, Event::Start(id));
        }
    }
    /// More servers, which are no members yet.
    pub fn add_servers(&mut self, count: i64) {
        let last = self.ids().last().map_or(0, |id| id.0);
        for id in (last + 1..=last + count).map(PeerId) {
            self.servers.insert(id, Server { platter: Platter::default(), backup: None, running: None, lives: 0, wiped: None });
            let delay = self.prng.below(8_000);
            self.after(delay, Event::Start(id));
        }
    }
    /// What the run came to.
    pub fn outcome(self) -> Outcome {
        let mut reached = self.reached;
        reached.insert("transactions", self.checker.committed.len() as u64);
        reached.insert("epochs", self.checker.epochs() as u64);
        Outcome { simulated_ns: self.now, trace: self.trace, faults: self.faults, reached }
    }
    pub fn ids(&self) -> Vec<PeerId> {
        self.servers.keys().copied().collect()
    }
    pub fn running(&mut self, id: PeerId) -> Option<&mut Running> {
        self.servers.get_mut(&id)?.running.as_mut()
    }
    fn alive(&mut self, life: Life) -> Option<&mut Running> {
        self.running(life.0).filter(|running| running.life == life)
    }
    pub fn leader(&self) -> Option<PeerId> {
        let leads = |s: &Server| s.running.as_ref().is_some_and(|r| matches!(r.role, Role::Leading { .. }));
        self.servers.iter().filter(|(_, s)| leads(s)).map(|(id, _)| *id).next_back()
    }

    pub fn after(&mut self, ms: u64, event: Event) {
        let jitter = self.prng.below(1_000_000);
        self.at(self.now + ms * 1_000_000 + jitter, event);
    }
    fn at(&mut self, time: u64, event: Event) {
        self.order += 1;
        self.events.insert((time, self.order), event);
    }
    fn note(&mut self, what: u64) {
        self.trace = (self.trace ^ what ^ self.now).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(17);
    }

    /// The next event that is not of the world itself but of the test: chaos or clients. `None`: the time is over.
    pub fn step_until(&mut self, end: u64) -> Option<Event> {
        while let Some(((time, _), _)) = self.events.first_key_value() {
            if *time > end {
                break;
            }
            let ((time, _), event) = self.events.pop_first()?;
            self.now = time;
            match event {
                Event::Chaos | Event::Client => return Some(event),
                event => self.happen(event),
            }
        }
        self.now = end;
        None
    }
    /// Puts it off while its server is paused.
    fn paused(&mut self, id: PeerId, event: impl FnOnce() -> Event) -> bool {
        let now = self.now;
        let Some(until) = self.running(id).map(|r| r.paused_until).filter(|until| *until > now) else { return false };
        self.at(until, event());
        true
    }
    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(life) => {
                if !self.paused(life.0, || Event::Wake(life)) {
                    let now = self.now;
                    if let Some(running) = self.alive(life) {
                        if running.wake == Some(now) || running.wake.is_some_and(|at| at <= now) {
                            running.wake = None;
                        }
                        self.input(life, Input::Timeout);
                    }
                }
            }
            Event::Dialed(life, link, to, port) => {
                if !self.paused(life.0, || Event::Dialed(life, link, to, port)) {
                    self.dialed(life, link, to, port);
                }
            }
            Event::Deliver(link, way) => self.deliver(link, way),
            Event::Notified(from, to) => self.notified(from, to),
            Event::Repeated(from, to, message) => {
                if !self.network.is_blocked(from, to)
                    && let Some(life) = self.running(to).filter(|r| r.paused_until == 0).map(|r| r.life)
                {
                    self.input(life, Input::Notification { from, message });
                }
            }
            Event::DiskDone(life) => {
                if !self.paused(life.0, || Event::DiskDone(life)) {
                    self.disk_done(life);
                }
            }
            Event::SnapshotSent(life, link) => {
                if !self.paused(life.0, || Event::SnapshotSent(life, link)) {
                    self.input(life, Input::SnapshotSent(link));
                }
            }
            Event::LogRead { life, link, from, upto, first } => {
                if !self.paused(life.0, || Event::LogRead { life, link, from, upto, first }) {
                    self.read_log(life, link, from, upto, first);
                }
            }
            Event::SnapshotFailed(life, link) => {
                // Other work of the disk may be in the queue; an image that is there arrives.
                let fails = |r: &mut Running| {
                    r.installing.is_some_and(|(_, _, of)| of == link) && !r.work.iter().any(|work| matches!(work, Work::Install(..)))
                };
                if self.alive(life).is_some_and(fails) {
                    self.image_done(life, None);
                }
            }
            Event::Start(id) => self.start(id),
            Event::Chaos | Event::Client => {}
        }
    }

    // ---- servers

    pub fn start(&mut self, id: PeerId) {
        let seed = self.prng.next_u64();
        let conditions = self.conditions.clone();
        let now = Instant(self.now);
        let own = self.platter_config(id);
        let Some(server) = self.servers.get_mut(&id).filter(|s| s.running.is_none()) else { return };
        server.lives += 1;
        let (membership, proposed) = own;
        let is_observer = membership.is_observer(id);
        let config = ZabConfig {
            me: id,
            membership,
            is_observer,
            tick_ms: TICK_MS,
            init_limit: 10,
            sync_limit: 5,
            notification_ms_min: 20,
            notification_ms_max: 2_000,
            finalize_ms: 20,
            connect_retry_ms: 20,
            tail_count_min: conditions.tail_count_min,
            tail_bytes_max: conditions.tail_bytes_max,
            learner_bytes_max: conditions.learner_bytes_max,
            observer_masters: conditions.observer_masters,
            seed,
            planted: conditions.planted,
            reconfig: Reconfig { enabled: conditions.reconfigures, voters_min: 1, proposed },
        };
        let zab = Zab::new(config, server.platter.stored(conditions.recent_max), now);
        let life = (id, server.lives);
        server.running = Some(Running {
            life,
            zab,
            memory: server.platter.history.clone(),
            committed: Zxid::ZERO,
            applied: server.platter.history.len(),
            work: VecDeque::new(),
            wake: None,
            paused_until: 0,
            role: Role::Looking,
            installing: None,
            syncs: VecDeque::new(),
            own_syncs: VecDeque::new(),
            voted: None,
        });
        self.note(id.0 as u64);
        self.pump(life);
    }
    /// The process dies; with its machine, if nobody is told.
    pub fn crash(&mut self, id: PeerId, silently: bool) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        let Some(running) = server.running.take() else { return };
        let pending: Vec<Work> = running.work.into_iter().collect();
        let kept = self.checker.last_in(&server.platter.history);
        // An image or a cut that was asked for may have come to its end.
        let ends = pending.iter().filter_map(Work::end).collect::<Vec<_>>();
        server.platter.crash(&pending, &running.memory, &mut self.prng, self.conditions.shell_bug);
        let links: Vec<(u64, usize)> =
            self.network.by_end.iter().filter(|((life, _), _)| *life == running.life).map(|(_, at)| *at).collect();
        for (link, way) in links {
            self.close_end(link, way, silently);
        }
        let platter = &self.servers[&id].platter;
        let is_kept = kept == Zxid::ZERO || platter.has(kept) || ends.contains(&platter.last());
        assert!(is_kept, "a crash of {id:?} has lost {kept}, which is committed (P3, L5)");
        self.check_disks();
    }
    /// Something was done to it.
    pub fn count(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
        self.say(format_args!("{fault}"));
    }
    /// Something came of it.
    fn reach(&mut self, what: &'static str) {
        *self.reached.entry(what).or_default() += 1;
    }
    /// How often that was.
    pub fn times(&self, what: &'static str) -> u64 {
        self.reached.get(what).copied().unwrap_or_default()
    }
    fn say(&self, what: std::fmt::Arguments<'_>) {
        if self.prints {
            println!("{:>12} {what}", self.now / 1_000);
        }
    }
    pub fn back_up_all(&mut self) {
        for id in self.ids() {
            self.back_up(id);
        }
    }
    /// Takes a copy of its disk.
    pub fn back_up(&mut self, id: PeerId) {
        if let Some(server) = self.servers.get_mut(&id) {
            server.backup = Some(server.platter.clone());
        }
    }
    /// Its disk is what the copy says. Nothing it has acknowledged or promised since may be known to nobody else: then no protocol could help. Nor may it have
    /// lost its disk: what it had promised is not to be seen there any more, and with nothing at all it would not be believed (L21). Nor may an image or
    /// a cut be on its way: another may have more than its leader had committed when it was sent, and the acknowledgement does not count any more.
    pub fn restore(&mut self, id: PeerId) -> bool {
        let platter = &self.servers[&id].platter;
        let others = || self.membership.voters().filter(|other| *other != id).map(|other| &self.servers[&other].platter);
        let is_known = |other: &Platter| {
            (platter.history.is_empty() || other.has(platter.last()))
                && other.has(self.checker.last_committed())
                && other.accepted_epoch >= platter.accepted_epoch
                && other.current_epoch >= platter.current_epoch
        };
        let has_lost_it = self.servers[&id].wiped.is_some();
        let replaces = |running: &Running| running.installing.is_some() || running.work.iter().any(|work| work.end().is_some());
        let is_replaced =
            self.network.replaces_history() || self.servers.values().filter_map(|server| server.running.as_ref()).any(replaces);
        if has_lost_it
            || is_replaced
            || others().count() < 2
            || self.membership.voters().all(|voter| voter != id)
            || !others().all(is_known)
        {
            return false;
        }
        let Some(backup) = self.servers[&id].backup.clone().filter(|backup| backup.current_epoch > 0) else { return false };
        self.crash(id, false);
        self.say(format_args!("{id:?} has {} instead of {}", backup, self.servers[&id].platter));
        if let Some(server) = self.servers.get_mut(&id) {
            server.platter = backup;
        }
        self.count("disks restored");
        true
    }
    /// Its disk is new. One voter's at a time, and where the others can tell that there is an ensemble: two servers with nothing, one of which has lost
    /// it, are not to be told from servers that begin one (L21).
    pub fn wipe(&mut self, id: PeerId) -> bool {
        let others: Vec<&Server> = self.membership.voters().filter(|other| *other != id).map(|other| &self.servers[&other]).collect();
        let is_safe = others.len() >= 2 && others.iter().all(|other| other.wiped.is_none() && other.platter.vouches());
        if !is_safe {
            return false;
        }
        self.lose(id, Emptiness::default());
        self.count("disks wiped");
        true
    }
    /// Its disk is new, whatever that does to the others.
    pub fn lose(&mut self, id: PeerId, emptiness: Emptiness) {
        self.crash(id, false);
        self.say(format_args!("{id:?} has nothing instead of {}", self.servers[&id].platter));
        if let Some(server) = self.servers.get_mut(&id) {
            server.wiped = Some(server.platter.last().max(server.wiped.unwrap_or(Zxid::ZERO)));
            server.platter = Platter { emptiness, ..Platter::default() };
        }
    }
    /// Its replica doubts its state.
    pub fn resync(&mut self, id: PeerId) {
        let now = self.now;
        if let Some(running) = self.running(id).filter(|r| r.paused_until <= now) {
            let life = running.life;
            running.zab.resync("in doubt");
            self.pump(life);
        }
    }
    pub fn pause(&mut self, id: PeerId, ms: u64) {
        let until = self.now + ms * 1_000_000;
        if let Some(running) = self.running(id) {
            running.paused_until = until;
        }
    }

    pub fn input(&mut self, life: Life, input: Input) {
        let now = Instant(self.now);
        if let Some(running) = self.alive(life) {
            running.zab.handle(now, input);
            self.pump(life);
        }
    }
    /// Carries out what the core has ordered.
    pub fn pump(&mut self, life: Life) {
        while let Some(output) = self.alive(life).and_then(|r| r.zab.poll_output()) {
            self.obey(life, output);
        }
        while let Some(running) = self.alive(life)
            && let confirmed = running.zab.confirmed()
            && let Some((_, asked)) = running.own_syncs.pop_front_if(|(round, _)| *round <= confirmed)
        {
            let applied = running.committed;
            self.checker.synced(life.0, Some(asked), applied);
        }
        let Some(running) = self.alive(life) else { return };
        let due = running.zab.poll_timeout().map(|at| at.0);
        let Some(due) = due.filter(|due| running.wake.is_none_or(|wake| *due < wake)) else { return };
        running.wake = Some(due);
        let time = due.max(self.now + 1);
        self.at(time, Event::Wake(life));
    }
    fn obey(&mut self, life: Life, output: Output) {
        match output {
            Output::Notify { to, message } => {
                self.voted(life, &message);
                if self.network.notifications.insert((life.0, to), message).is_none() {
                    let delay = self.prng.below(self.conditions.delay_ms + 1);
                    self.after(delay, Event::Notified(life.0, to));
                }
            }
            Output::Connect { link, peer } => {
                let delay = self.prng.below(self.conditions.delay_ms + 1);
                self.after(delay, Event::Dialed(life, link, peer, Input::Accepted));
            }
            Output::ConnectToMaster { link, peer } => {
                let delay = self.prng.below(self.conditions.delay_ms + 1);
                self.after(delay, Event::Dialed(life, link, peer, Input::ObserverAccepted));
            }
            Output::Send { link, packet } => {
                match packet {
                    Packet::Diff { .. } => self.reach("DIFF"),
                    Packet::Trunc { .. } => self.reach("TRUNC"),
                    _ => {}
                }
                self.send(life, link, Message::Packet(packet));
            }
            Output::SendSnapshot { link, zxid, told } => {
                assert_eq!(zxid, told, "all servers are ours");
                self.send_image(life, link, zxid);
            }
            Output::ReadLog { link, from, upto, first } => {
                let server = &self.servers[&life.0];
                let may_be_sent = server.running.as_ref().is_some_and(|r| r.role == Role::Looking || upto <= r.committed);
                assert!(may_be_sent && upto <= server.platter.last(), "{upto} is read for a learner, and is not committed or not durable");
                let delay = self.prng.below(self.conditions.read_ms + 1);
                self.after(delay, Event::LogRead { life, link, from, upto, first });
            }
            Output::Close(link) => {
                if let Some((link, way)) = self.network.find(life, link) {
                    self.close_end(link, way, false);
                }
                self.fail_image(life, link);
            }
            Output::WriteEpoch { token, file, epoch, vouches } => self.work(life, Work::Epoch(token, file, epoch, vouches)),
            Output::Append { zxid, payload } => {
                if let Some(running) = self.alive(life) {
                    assert!(
                        running.installing.is_none()
                            && running.work.iter().all(|w| matches!(w, Work::Flush(_) | Work::Epoch(..) | Work::Config(..)))
                    );
                    running.memory.push((zxid, payload));
                }
                self.flush(life);
            }
            Output::Commit(zxid) => self.commit(life, zxid),
            Output::Truncate(zxid) => self.work(life, Work::Truncate(zxid)),
            Output::InstallSnapshot { link, .. } => self.install(life, link),
            Output::Role(role) => self.role(life, role),
            Output::Request { link, request, .. } => self.request(life, link, &request),
            Output::Revalidate { link, session, timeout_ms } => {
                if let Some(running) = self.alive(life) {
                    running.zab.revalidated(link, session, timeout_ms > 0);
                }
            }
            Output::Ping { zxid } => {
                if let Some(running) = self.alive(life) {
                    running.zab.pinged(zxid, vec![(SessionId(life.0.0), 1_000)]);
                }
            }
            Output::Synced => {
                if let Some(running) = self.alive(life) {
                    let (asked, applied) = (running.syncs.pop_front(), running.committed);
                    self.checker.synced(life.0, asked, applied);
                }
            }
            Output::Fatal(why) => panic!("server {:?}: {why}", life.0),
            Output::Touched { .. } | Output::LearnerGone(_) | Output::Revalidated { .. } => {}
            // What is in force anywhere is in force; a transaction of it there need not be.
            Output::Config { active, .. } => self.in_force(active),
            Output::WriteConfig { token, write } => self.work(life, Work::Config(token, write)),
            Output::Note(text) => self.say(format_args!("{:?}: {text}", life.0)),
        }
    }
    /// Within a round a vote changes only for a better one (L15).
    fn voted(&mut self, life: Life, message: &Notification) {
        let vote = message.vote;
        let Some(running) = self.alive(life).filter(|_| message.state == ServerState::Looking && vote.zxid.as_i64() != -1) else { return };
        let now = (vote.election_epoch, (vote.peer_epoch, vote.zxid.as_i64(), vote.leader));
        assert!(running.voted <= Some(now), "server {:?} votes {now:?} after {:?} (L15)", life.0, running.voted);
        running.voted = Some(now);
    }
    fn role(&mut self, life: Life, role: Role) {
        self.note(0x100 + life.0.0 as u64);
        if let Role::Leading { epoch } = role
            && let Some(running) = self.alive(life)
        {
            let memory = running.memory.clone();
            self.checker.leads(life.0, epoch, &memory);
            let end = memory.last().map_or(Zxid::ZERO, |(zxid, _)| *zxid);
            let has = |p: &Platter| p.current_epoch >= epoch && (memory.is_empty() || p.has(end));
            let is_held = self.membership.quorum().reached(|id| self.servers[&id].wiped.is_some() || has(&self.servers[&id].platter));
            assert!(is_held, "{:?} leads epoch {epoch}, which is on no quorum of disks (L2)", life.0);
        }
        if let Some(running) = self.alive(life) {
            assert_ne!(running.role, role);
            assert!(running.role == Role::Looking || role == Role::Looking, "{:?} follows {:?}", role, running.role);
            running.role = role;
            running.syncs.clear();
            running.own_syncs.clear();
        }
        if let Some(server) = self.servers.get_mut(&life.0).filter(|_| role != Role::Looking) {
            server.wiped = None;
        }
        self.reach(match role {
            Role::Looking => "roles left",
            Role::Leading { .. } => "leaders",
            Role::Following { .. } => "followers",
            Role::Observing { .. } => "observers",
        });
        self.say(format_args!("{:?}: {role:?}", life.0));
    }
}

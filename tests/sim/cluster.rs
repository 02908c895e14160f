//! The servers, their disks and links, and what happens next. The shell of each broadcast core is modelled here: it appends to a log that
//! is flushed late, publishes what is committed and durable, makes images and installs them.

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
                if self.alive(life).is_some_and(|r| r.installing.is_some_and(|(_, _, of)| of == link) && r.work.is_empty()) {
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
    /// Its disk is what the copy says. Nothing it has acknowledged or promised since may be known to nobody else: then no protocol could help.
    pub fn restore(&mut self, id: PeerId) -> bool {
        let platter = &self.servers[&id].platter;
        let others = || self.membership.voters().filter(|other| *other != id).map(|other| &self.servers[&other].platter);
        let is_known = |other: &Platter| {
            (platter.history.is_empty() || other.has(platter.last()))
                && other.has(self.checker.last_committed())
                && other.accepted_epoch >= platter.accepted_epoch
                && other.current_epoch >= platter.current_epoch
        };
        if others().count() < 2 || self.membership.voters().all(|voter| voter != id) || !others().all(is_known) {
            return false;
        }
        let Some(backup) = self.servers[&id].backup.clone().filter(|backup| backup.current_epoch > 0) else { return false };
        self.crash(id, false);
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
            Output::SendSnapshot { link, zxid } => self.send_image(life, link, zxid),
            Output::ReadLog { link, from, upto, first } => {
                let server = &self.servers[&life.0];
                let may_be_sent = server.running.as_ref().is_some_and(|r| r.role == Role::Looking || upto <= r.committed);
                assert!(may_be_sent && upto <= server.platter.last(), "{upto} is read for a learner, and is not committed or not durable");
                let delay = self.prng.below(self.conditions.flush_ms + 1);
                self.after(delay, Event::LogRead { life, link, from, upto, first });
            }
            Output::Close(link) => {
                if let Some((link, way)) = self.network.find(life, link) {
                    self.close_end(link, way, false);
                }
                self.fail_image(life, link);
            }
            Output::WriteEpoch { token, file, epoch } => self.work(life, Work::Epoch(token, file, epoch)),
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

    // ---- log and disk

    fn work(&mut self, life: Life, work: Work) {
        let Some(running) = self.alive(life) else { return };
        running.work.push_back(work);
        if running.work.len() == 1 {
            self.plan_disk(life);
        }
    }
    fn plan_disk(&mut self, life: Life) {
        let delay = self.prng.below(self.conditions.flush_ms + 1);
        self.after(delay, Event::DiskDone(life));
    }
    /// Everything appended so far, unless a flush is waiting to start.
    fn flush(&mut self, life: Life) {
        let Some(server) = self.servers.get_mut(&life.0) else { return };
        let Some(running) = server.running.as_mut() else { return };
        let waiting = running.work.iter().any(|w| matches!(w, Work::Flush(_)));
        if !waiting && running.memory.len() > server.platter.history.len() {
            let upto = running.memory.len();
            self.work(life, Work::Flush(upto));
        }
    }
    fn disk_done(&mut self, life: Life) {
        let Some(server) = self.servers.get_mut(&life.0) else { return };
        let Some(running) = server.running.as_mut().filter(|r| r.life == life) else { return };
        let Some(work) = running.work.pop_front() else { return };
        if matches!(work, Work::Flush(_)) && self.prng.chance(self.conditions.flush_failures, 1_000) {
            return self.flush_failed(life);
        }
        let Some(server) = self.servers.get_mut(&life.0) else { return };
        let Some(running) = server.running.as_mut() else { return };
        let before = server.platter.history.len();
        if let Work::Truncate(zxid) = &work {
            // Others may have committed more meanwhile, without this server's acknowledgement; `check_disks` sees to that.
            assert!(
                running.committed <= *zxid,
                "server {:?} is cut to {zxid}, below {} which it knows is committed (L6)",
                life.0,
                running.committed
            );
        }
        server.platter.finish(&work, &running.memory, self.conditions.shell_bug);
        let is_shorter = server.platter.history.len() < before;
        let more = !running.work.is_empty();
        if is_shorter {
            self.check_disks();
        }
        let cuts_one_more = self.conditions.shell_bug == Some(ShellBug::CutsOneMore);
        let input = match work {
            Work::Flush(_) => {
                let last = self.servers[&life.0].platter.last();
                self.publish(life);
                Input::Durable(last)
            }
            Work::Epoch(token, ..) => Input::EpochWritten(token),
            Work::Config(token, _) => Input::ConfigWritten(token),
            Work::Truncate(zxid) => {
                let Some(running) = self.alive(life) else { return };
                running.memory.retain(|(at, _)| *at <= zxid);
                let end = running.memory.last().map_or(Zxid::ZERO, |(at, _)| *at);
                if cuts_one_more {
                    running.memory.pop();
                }
                running.applied = running.applied.min(running.memory.len());
                Input::Truncated(end)
            }
            Work::Install(zxid, image) => {
                let Some(running) = self.alive(life) else { return };
                running.applied = image.len();
                running.committed = Zxid::ZERO;
                running.memory = image;
                self.image_done(life, Some(zxid));
                self.plan_more(life, more);
                return;
            }
        };
        self.input(life, input);
        self.flush(life);
        self.plan_more(life, more);
    }
    /// A log that cannot be written ends the process (L12).
    fn flush_failed(&mut self, life: Life) {
        self.count("flushes failed");
        if self.conditions.shell_bug != Some(ShellBug::SwallowedError) {
            self.crash(life.0, false);
            return self.after(300, Event::Start(life.0));
        }
        let Some(running) = self.alive(life) else { return };
        let last = running.memory.last().map_or(Zxid::ZERO, |(at, _)| *at);
        let more = !running.work.is_empty();
        self.input(life, Input::Durable(last));
        self.plan_more(life, more);
    }
    fn plan_more(&mut self, life: Life, more: bool) {
        if more && self.alive(life).is_some() {
            self.plan_disk(life);
        }
    }
    fn commit(&mut self, life: Life, zxid: Zxid) {
        if let Some(running) = self.alive(life) {
            assert!(running.committed <= zxid, "commit moves back to {zxid}");
            assert!(running.memory.iter().rev().any(|(at, _)| *at == zxid) || zxid == Zxid::ZERO, "commit of {zxid}, which is not here");
            running.committed = zxid;
        }
        self.publish(life);
        self.check_disks();
    }
    /// Shows what is committed and durable.
    fn publish(&mut self, life: Life) {
        let Some(server) = self.servers.get_mut(&life.0) else { return };
        let durable = server.platter.last();
        let Some(running) = server.running.as_mut().filter(|r| r.life == life) else { return };
        let upto = running.committed.min(durable);
        let count = running.memory.partition_point(|(at, _)| *at <= upto);
        if count > running.applied || running.committed > Zxid::ZERO && count > 0 {
            running.applied = running.applied.max(count);
            self.checker.published(life.0, &running.memory, count);
            if let Some(next) = self.checker.membership.take() {
                self.in_force(next);
            }
            self.trace = self.trace.rotate_left(5) ^ upto.0;
        }
    }
    /// What is committed is on the disks of a quorum, running or not (P3).
    fn check_disks(&self) {
        let last = self.checker.last_committed();
        if last > Zxid::ZERO {
            let quorum = self.membership.quorum();
            let has = |server: &Server| server.platter.has(last) || server.wiped.is_some_and(|end| end >= last);
            assert!(quorum.reached(|id| has(&self.servers[&id])), "{last} is committed, but on no quorum of disks (P2, P3)");
        }
    }

    /// A part of the log on the disk, which old files may be purged from and which ends where an image has taken its place.
    fn read_log(&mut self, life: Life, link: LinkId, from: Zxid, upto: Zxid, first: bool) {
        if self.prng.chance(self.conditions.log_refusals, 100) {
            return self.input(life, Input::LogRead(link, Err("purged".into())));
        }
        let Some(server) = self.servers.get(&life.0).filter(|s| s.running.as_ref().is_some_and(|r| r.life == life)) else { return };
        let count = 2 + self.prng.below(60) as usize;
        let log = server.platter.log().iter();
        let mut part: Vec<Entry> = log.filter(|(zxid, _)| (from..=upto).contains(zxid)).take(count).cloned().collect();
        // What is missing at the end of an epoch cannot be seen by whoever does not know where it ended.
        let shows = part.len() > 1 && part.get(2).is_none_or(|(next, _)| next.epoch() == part[1].0.epoch());
        if shows && self.prng.chance(self.conditions.log_holes, 100) {
            part.remove(1);
            self.count("holes in logs");
        }
        if !first && !part.is_empty() {
            self.reach("parts of logs sent");
        }
        self.input(life, Input::LogRead(link, Ok(part)));
    }

    // ---- images

    fn send_image(&mut self, life: Life, link: LinkId, zxid: Zxid) {
        let Some(running) = self.alive(life) else { return };
        let count = running.memory.partition_point(|(at, _)| *at <= zxid);
        let end = count.checked_sub(1).map_or(Zxid::ZERO, |last| running.memory[last].0);
        assert_eq!(end, zxid, "an image is as of a transaction, exactly (A12)");
        assert!(running.role == Role::Looking || zxid <= running.committed, "an established leader gives away what is not committed");
        let mut image = running.memory[..count].to_vec();
        if self.conditions.shell_bug == Some(ShellBug::ImageBehindItsLabel) {
            image.pop();
        }
        self.reach("SNAP");
        self.send(life, link, Message::Image(zxid, image));
        let delay = self.prng.below(self.conditions.delay_ms + 1);
        self.after(delay, Event::SnapshotSent(life, link));
    }
    /// The image is the next message of the link; it arrives, or the link dies while it does.
    fn install(&mut self, life: Life, link: LinkId) {
        let Some((at, way)) = self.network.find(life, link) else { return };
        let way = 1 - way;
        let fails = self.prng.chance(self.conditions.image_failures, 100);
        let Some(connection) = self.network.links.get_mut(&at) else { return };
        connection.stalled[way] = Some(0);
        let (zxid, image) = match connection.queues[way].pop_front() {
            Some(Message::Image(zxid, image)) => (zxid, image),
            _ => panic!("no image behind SNAP"),
        };
        if let Some(running) = self.alive(life) {
            running.installing = Some((at, way, link));
        }
        if fails {
            let delay = self.prng.below(2_000);
            self.after(delay, Event::SnapshotFailed(life, link));
        } else {
            self.work(life, Work::Install(zxid, image));
        }
    }
    fn image_done(&mut self, life: Life, installed: Option<Zxid>) {
        let Some(running) = self.alive(life) else { return };
        let Some((at, way, _)) = running.installing.take() else { return };
        let input = installed.map_or_else(|| Input::SnapshotFailed("the stream broke off".into()), Input::SnapshotInstalled);
        self.input(life, input);
        if let Some(link) = self.network.links.get_mut(&at)
            && let Some(owed) = link.stalled[way].take()
        {
            for _ in 0..owed {
                self.after(0, Event::Deliver(at, way));
            }
        }
    }
    /// The link is gone while its image was on the way: it fails, unless the disk has it already.
    fn fail_image(&mut self, life: Life, link: LinkId) {
        self.after(1, Event::SnapshotFailed(life, link));
    }

    // ---- links

    fn send(&mut self, life: Life, link: LinkId, message: Message) {
        let Some((at, way)) = self.network.find(life, link) else { return };
        let delay = self.prng.below(self.conditions.delay_ms * 1_000_000 + 1);
        let Some(link) = self.network.links.get_mut(&at).filter(|l| l.ends[way].is_open) else { return };
        let time = (self.now + delay).max(link.planned[way] + 1);
        link.planned[way] = time;
        let messages = match message {
            Message::Image(zxid, image) => vec![Message::Packet(Packet::Snap { zxid }), Message::Image(zxid, image)],
            message => vec![message],
        };
        link.queues[way].extend(messages);
        self.at(time, Event::Deliver(at, way));
    }
    fn close_end(&mut self, at: u64, way: usize, silently: bool) {
        let Some(link) = self.network.links.get_mut(&at).filter(|l| l.ends[way].is_open) else { return };
        if silently {
            link.is_cut = [true, true];
        } else {
            let life = link.ends[way].life;
            let own = link.ends[way].link;
            self.send(life, own, Message::Closed);
        }
        if let Some(link) = self.network.links.get_mut(&at) {
            link.ends[way].is_open = false;
        }
    }
    fn dialed(&mut self, life: Life, link: LinkId, to: PeerId, port: Port) {
        if self.alive(life).is_none() {
            return;
        }
        let blocked = self.network.is_blocked(life.0, to) || self.network.is_blocked(to, life.0);
        let Some(other) = self.running(to).map(|r| r.life).filter(|_| !blocked) else {
            return self.input(life, Input::Disconnected(link));
        };
        let at = self.network.link(life, link, other);
        let accepted = self.network.links[&at].ends[1].link;
        self.input(other, port(accepted));
        self.input(life, Input::Connected(link));
    }
    fn deliver(&mut self, at: u64, way: usize) {
        let Some(link) = self.network.links.get_mut(&at) else { return };
        let (from, to) = (link.ends[way], link.ends[1 - way]);
        if self.paused(to.life.0, || Event::Deliver(at, way)) {
            return;
        }
        let blocked = self.network.is_blocked(from.life.0, to.life.0);
        let Some(link) = self.network.links.get_mut(&at) else { return };
        if let Some(owed) = &mut link.stalled[way]
            && link.ends[1 - way].is_open
        {
            *owed += 1;
            return;
        }
        link.is_cut[way] |= blocked;
        let Some(message) = link.queues[way].pop_front() else { return };
        if link.is_cut[way] || !to.is_open {
            link.queues[way].clear();
            return;
        }
        match message {
            Message::Packet(packet) => self.input(to.life, Input::Packet(to.link, packet)),
            Message::Image(..) => {} // nobody has asked for it
            Message::Closed => {
                self.network.links.entry(at).and_modify(|l| l.ends[1 - way].is_open = false);
                self.input(to.life, Input::Disconnected(to.link));
                self.fail_image(to.life, to.link);
            }
        }
    }
    fn notified(&mut self, from: PeerId, to: PeerId) {
        if self.network.is_blocked(from, to) {
            self.after(50, Event::Notified(from, to));
        } else if !self.paused(to, || Event::Notified(from, to))
            && let Some(message) = self.network.notifications.remove(&(from, to))
            && let Some(life) = self.running(to).map(|r| r.life)
        {
            if self.prng.chance(self.conditions.repeats, 100) {
                self.count("notifications repeated");
                let delay = self.prng.below(2_000);
                self.after(delay, Event::Repeated(from, to, message.clone()));
            }
            self.input(life, Input::Notification { from, message });
        }
    }

    // ---- clients

    /// A client of this server writes, or asks for a sync.
    pub fn client(&mut self, id: PeerId) {
        if self.prng.chance(1, 4) { self.sync(id) } else { self.write(id) }
    }
    /// A client of this server writes.
    pub fn write(&mut self, id: PeerId) {
        let Some(running) = self.awake(id) else { return };
        let life = running.life;
        match running.role {
            Role::Leading { .. } => self.propose(life),
            Role::Following { .. } | Role::Observing { .. } => self.forward(life, OP_CREATE),
            Role::Looking => {}
        }
    }
    /// A client of this server asks for a sync: all that is committed anywhere must be here when it is answered.
    pub fn sync(&mut self, id: PeerId) {
        let committed = self.checker.last_committed();
        let Some(running) = self.awake(id) else { return };
        let life = running.life;
        match running.role {
            Role::Leading { .. } => {
                running.own_syncs.push_back((running.zab.confirm(), committed));
                self.pump(life);
            }
            Role::Following { .. } | Role::Observing { .. } => {
                running.syncs.push_back(committed);
                self.forward(life, OP_SYNC);
            }
            Role::Looking => {}
        }
    }
    fn awake(&mut self, id: PeerId) -> Option<&mut Running> {
        let now = self.now;
        self.running(id).filter(|r| r.paused_until <= now)
    }
    fn forward(&mut self, life: Life, op: i32) {
        if let Some(running) = self.alive(life) {
            let request = ForwardedRequest { session: SessionId(1), cxid: Xid(1), op, body: Box::default(), auth: Default::default() };
            running.zab.forward(request);
        }
        self.pump(life);
    }
    fn propose(&mut self, life: Life) {
        let Some(zxid) = self.alive(life).and_then(|r| r.zab.next_zxid()) else { return };
        let payload: Payload = self.checker.proposal(zxid).into();
        self.propose_this(life, zxid, payload);
    }
    fn propose_this(&mut self, life: Life, zxid: Zxid, payload: Payload) {
        if let Some(running) = self.alive(life) {
            running.memory.push((zxid, payload.clone()));
            running.zab.propose(zxid, payload);
        }
        self.flush(life);
        self.pump(life);
    }
    fn request(&mut self, life: Life, link: LinkId, request: &ForwardedRequest) {
        if request.op == OP_SYNC {
            if let Some(running) = self.alive(life) {
                running.zab.sync_for(link);
            }
        } else {
            self.propose(life);
        }
    }

    // ---- configurations

    fn in_force(&mut self, membership: Membership) {
        if membership.version > self.membership.version {
            self.membership = membership;
        }
    }

    /// What a server's file says, and what it has of a proposed one. Those that are to join know the first members and themselves.
    fn platter_config(&self, id: PeerId) -> (Membership, Option<Membership>) {
        let platter = &self.servers[&id].platter;
        let first = || {
            let mut first = self.first.clone();
            first.members.entry(id).or_insert_with(|| member(id, MemberKind::Participant, 1));
            first
        };
        (platter.active.clone().unwrap_or_else(first), platter.proposed.clone())
    }
    /// Asks a leader for other members, whoever they may be.
    pub fn reconfigure(&mut self, id: PeerId) {
        let ids = self.ids();
        let mut lines = Vec::new();
        for id in ids {
            let kind = if self.prng.chance(1, 4) { "observer" } else { "participant" };
            let port = 1 + 2 * u64::from(self.prng.chance(1, 8));
            if self.prng.chance(3, 5) {
                lines.push(format!("server.{}=s{}:{port}:2:{kind}", id.0, id.0));
            }
        }
        let members = lines.join(",");
        let request = ReconfigRequest { joining: None, leaving: None, members: Some(&members), version: -1 };
        let Some(running) = self.running(id).filter(|r| matches!(r.role, Role::Leading { .. })) else { return };
        let life = running.life;
        let (Some(zxid), Ok(next)) = (running.zab.next_zxid(), running.zab.plan_reconfig(&request)) else { return };
        let number = self.checker.proposal(zxid);
        let number = i64::from_be_bytes(number.try_into().expect("eight bytes"));
        let header = TxnHeader { session: SessionId(number), cxid: Xid(0), zxid, time: Default::default(), kind: TxnType::Reconfig as i32 };
        let mut payload = Vec::new();
        header.write(&mut payload);
        Txn::Reconfig { path: "/zookeeper/config", data: Some(next.to_text().as_bytes()), version: -1 }.write_body(&mut payload);
        self.count("reconfigurations");
        self.say(format_args!("{:?} proposes {zxid}: {members}", life.0));
        self.propose_this(life, zxid, payload.into());
    }
}

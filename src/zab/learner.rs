//! Following and observing: from the election on until this server leaves its leader. Any packet that is not what the protocol has at this
//! point ends the role (L3): nothing is guessed, the next synchronisation sets things right.

use super::core::{Core, Leave, PROTOCOL_VERSION};
use super::discovery::EPOCH_MAX;
use super::input::LinkId;
use super::leader::LearnerCounts;
use super::master::{Master, Wish};
use super::membership::Membership;
use super::message::{ForwardedRequest, LearnerInfo, Packet, Payload};
use super::output::{EpochFile, Output, Role};
use super::planted::Bug;
use super::reconfig::proposed_in;
use super::tail::follows;
use crate::base::{Instant, PeerId, SessionId, Zxid};
use std::collections::VecDeque;

/// How often a learner dials its leader before it asks for another one.
const DIALS_MAX: u32 = 5;
/// How often it dials masters before: after an election they need some time until they serve.
const MASTER_DIALS: u32 = 20;
/// Sessions told in one packet; more go in several. Java servers take packets of twice `jute.maxbuffer`, and this is less than half of that.
const TOUCHED_MAX: usize = 1 << 16;
/// In place of the zxid of a ping: a table of sessions that went before the answer because it did not fit into it.
pub(super) const ANSWERS_NOTHING: Zxid = Zxid(u64::MAX);
/// In the counter of a greeting: this disk is empty and has lost nothing.
pub(super) const HAS_LOST_NOTHING: u32 = 1;
/// The same: it has no epoch of a history, and does not know what it held before. Java servers do not say so.
pub(super) const MAY_HAVE_LOST_ALL: u32 = 2;
/// In the counter of the answer to that: the leader has neither a history nor an epoch of one.
pub(super) const BEGINS: u32 = 1;
/// The op code of a sync, the only request that is no transaction.
const OP_SYNC: i32 = 9;

/// What is being waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// The link.
    Dialing,
    /// The time to dial again.
    Pausing(Instant),
    /// LEADERINFO.
    Greeting,
    /// Our promise of the leader's epoch, on disk.
    Accepting,
    /// DIFF, TRUNC or SNAP.
    Promised,
    /// The log to be cut there.
    Cutting(Zxid),
    /// The image.
    Installing(Zxid),
    /// The history, up to NEWLEADER.
    Syncing,
    /// The history, up to here, to be on disk.
    Settling(Zxid),
    /// Its epoch to be on disk.
    Adopting,
    /// UPTODATE.
    Acknowledged,
    /// Nothing: in service.
    Serving,
}

/// A follower or an observer, in service or on the way.
pub struct Learner {
    leader: PeerId,
    observes: bool,
    /// Ask for an image, whatever we have; the next leader too, if this one sends none.
    wants_all: bool,
    /// Ask this leader for one: it would have cut what cannot be cut.
    needs_image: bool,
    link: LinkId,
    dials: u32,
    state: State,
    /// When the leader's next word must have come; for a leader that cannot be reached, when to give up.
    deadline: Option<Instant>,
    epoch: u32,
    /// Proposed, not yet committed.
    uncommitted: VecDeque<Zxid>,
    /// Logged for the broadcast, to be acknowledged one by one when durable.
    unacknowledged: VecDeque<Zxid>,
    /// Committed by the leader's word; told to the replica from UPTODATE on.
    committed: Zxid,
    /// Packets that came while the log was being cut.
    waiting: VecDeque<Packet>,
    waiting_bytes: usize,
    pings: u32,
    /// Who asked for the syncs under way, oldest first: a client here, or an observer.
    syncs: VecDeque<Option<LinkId>>,
    /// Who asked about which session.
    revalidations: VecDeque<(SessionId, i32, Option<LinkId>)>,
    /// Of whom to learn, in this order, instead of the leader; empty where that is not wanted.
    masters: Vec<PeerId>,
    /// The observers that learn from this server.
    host: Option<Master>,
    /// The configuration of NEWLEADER: in force from UPTODATE on.
    config: Option<Membership>,
    /// A configuration is in force in which another server leads, or this one has another role: who leads.
    successor: Option<PeerId>,
}

impl Learner {
    /// After an election that this leader won.
    pub fn new(core: &mut Core, leader: PeerId, observes: bool, wants_all: bool, link: LinkId, masters: Vec<PeerId>) -> Learner {
        let mut learner = Learner {
            leader,
            observes,
            wants_all,
            needs_image: false,
            link,
            dials: 0,
            state: State::Dialing,
            deadline: Some(core.now.plus_ms(core.init_ms())),
            epoch: 0,
            uncommitted: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            committed: Zxid::ZERO,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            pings: 0,
            syncs: VecDeque::new(),
            revalidations: VecDeque::new(),
            masters,
            host: None,
            config: None,
            successor: None,
        };
        learner.dial(core, link);
        learner
    }
    fn dial(&mut self, core: &mut Core, link: LinkId) {
        (self.state, self.link, self.dials) = (State::Dialing, link, self.dials + 1);
        core.put(match self.master() {
            Some(peer) => Output::ConnectToMaster { link, peer },
            None => Output::Connect { link, peer: self.leader },
        });
    }
    /// The master it learns from, where that is not the leader itself, which is dialed when no master takes it.
    pub fn master(&self) -> Option<PeerId> {
        let dialed = self.dials.checked_sub(1).filter(|dialed| *dialed < MASTER_DIALS)?;
        self.masters.get(dialed as usize % self.masters.len().max(1)).copied()
    }
    /// It has no vote, and learns what is committed.
    pub fn observes(&self) -> bool {
        self.observes
    }
    /// It feeds observers.
    pub fn feeds_observers(&self) -> bool {
        self.host.is_some()
    }
    /// Links that were dialed.
    pub fn dials(&self) -> u32 {
        self.dials
    }
    /// Counts of its own observers.
    pub fn counts(&self) -> LearnerCounts {
        self.host.as_ref().map(Master::counts).unwrap_or_default()
    }
    /// Its own observers, while it feeds any.
    pub fn host(&mut self) -> Option<&mut Master> {
        self.host.as_mut()
    }
    /// Whom it follows.
    pub fn leader(&self) -> PeerId {
        self.leader
    }
    /// Its connection to it.
    pub fn link(&self) -> LinkId {
        self.link
    }
    /// The leader's epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }
    /// What it is for clients.
    pub fn role(&self) -> Role {
        match (self.state, self.observes) {
            (State::Serving, false) => Role::Following { leader: self.leader },
            (State::Serving, true) => Role::Observing { leader: self.leader },
            _ => Role::Looking,
        }
    }
    /// When the next turn is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.successor.is_some() {
            return Some(Instant::default());
        }
        let own = match self.state {
            State::Pausing(until) => Some(until),
            _ => self.deadline,
        };
        [own, self.host.as_ref().map(Master::poll_timeout)].into_iter().flatten().min()
    }
    /// Dials again, or gives up. `next` is the link to dial with.
    pub fn timeout(&mut self, core: &mut Core, next: impl FnOnce() -> LinkId) -> Result<(), Leave> {
        if let Some(leader) = self.successor {
            return Leave::for_successor(leader);
        }
        if self.deadline.is_some_and(|deadline| core.now > deadline) {
            return Leave::because(format!("the leader has been silent for too long ({:?})", self.state));
        }
        if let State::Pausing(until) = self.state
            && core.now >= until
        {
            self.dial(core, next());
        }
        if let Some(host) = &mut self.host {
            host.timeout(core);
        }
        Ok(())
    }

    /// The link is up: say who we are.
    pub fn connected(&mut self, core: &mut Core, link: LinkId) -> Result<(), Leave> {
        if link != self.link || self.state != State::Dialing {
            return Ok(());
        }
        self.state = State::Greeting;
        self.await_leader(core, core.init_ms());
        // Of the zxid a leader looks at the epoch only. Ours hear in the counter what this disk says of its emptiness.
        let emptiness = if core.local.is_vouched() { HAS_LOST_NOTHING } else { u32::from(core.local.is_in_doubt()) * MAY_HAVE_LOST_ALL };
        let zxid = Zxid::new(core.local.accepted_epoch(), emptiness);
        let info = LearnerInfo { id: Some(core.me()), protocol_version: PROTOCOL_VERSION, config_version: core.config.membership.version };
        let greeting = if self.observes { Packet::ObserverInfo { zxid, info } } else { Packet::FollowerInfo { zxid, info } };
        core.send(self.link, greeting);
        Ok(())
    }
    /// The link is gone, or could not be made.
    pub fn disconnected(&mut self, core: &mut Core, link: LinkId) -> Result<(), Leave> {
        if link != self.link {
            if let Some(host) = &mut self.host {
                host.disconnected(core, link);
            }
            return Ok(());
        }
        if matches!(self.state, State::Pausing(_)) {
            return Ok(()); // closed already
        }
        // A server that is no master hangs up.
        let is_refused = self.state == State::Dialing || self.state == State::Greeting && self.master().is_some();
        let dials_max = if self.masters.is_empty() { DIALS_MAX } else { MASTER_DIALS + DIALS_MAX };
        if !is_refused || self.dials >= dials_max {
            return Leave::because(format!("the link to the leader is gone ({:?})", self.state));
        }
        self.state = State::Pausing(core.now.plus_ms(core.config.connect_retry_ms));
        Ok(())
    }
    fn await_leader(&mut self, core: &Core, ms: u64) {
        self.deadline = Some(core.now.plus_ms(ms));
    }

    /// The leader says something.
    pub fn packet(&mut self, core: &mut Core, link: LinkId, packet: Packet) -> Result<(), Leave> {
        if self.successor.is_some() {
            return Ok(());
        }
        if link != self.link {
            self.hear_observer(core, link, packet);
            return Ok(());
        }
        match self.state {
            State::Cutting(_) => return self.keep(core, packet),
            State::Pausing(_) => return Ok(()), // of a link that was closed
            _ => {}
        }
        if self.deadline.is_some() {
            let serving = matches!(self.state, State::Acknowledged | State::Serving);
            self.await_leader(core, if serving { core.sync_ms() } else { core.init_ms() });
        }
        match (packet, self.state) {
            (Packet::LeaderInfo { zxid, protocol_version }, State::Greeting) => self.epoch_proposed(core, zxid, protocol_version),
            (Packet::Diff { .. }, State::Promised) if !self.asks_for_image() => self.synchronise(core),
            (Packet::Trunc { zxid }, State::Promised) if !self.asks_for_image() => self.cut(core, zxid),
            (Packet::Snap { zxid }, State::Promised) => self.install(core, zxid),
            (Packet::Proposal { zxid, payload }, _) if self.takes_history() && !self.is_observing() => self.append(core, zxid, payload),
            (Packet::Commit { zxid }, _) if self.takes_history() && !self.is_observing() => self.committed(core, zxid),
            (Packet::Commits { first, last }, _) if self.takes_history() && !self.is_observing() => {
                first.through(last).try_for_each(|zxid| self.committed(core, zxid))
            }
            (Packet::Inform { zxid, payload }, _) if self.takes_history() && self.observes => {
                self.append(core, zxid, payload)?;
                self.committed(core, zxid)
            }
            (Packet::CommitAndActivate { zxid, leader }, _) if self.takes_history() && !self.is_observing() => {
                self.committed_with(core, zxid, Some(leader))?;
                self.activate(core, zxid, leader)
            }
            (Packet::InformAndActivate { zxid, leader, payload }, _) if self.takes_history() && self.observes => {
                self.append(core, zxid, payload)?;
                self.committed_with(core, zxid, Some(leader))?;
                self.activate(core, zxid, leader)
            }
            (Packet::NewLeader { zxid, config }, State::Syncing) => {
                self.learn_config(core, config.as_deref())?;
                self.history_ends(core, zxid)
            }
            (Packet::UpToDate, State::Acknowledged) => self.serve(core),
            (Packet::Ping { zxid, .. }, State::Serving) => {
                self.pings += 1;
                core.put(Output::Ping { zxid });
                Ok(())
            }
            (Packet::Ping { .. }, _) if self.takes_history() => Ok(()), // it only keeps the link alive
            (Packet::Revalidated { session, valid }, State::Serving) => {
                self.revalidated(core, session, valid);
                Ok(())
            }
            (Packet::Sync, State::Serving) if !self.syncs.is_empty() => {
                match self.syncs.pop_front().flatten() {
                    Some(observer) => core.send(observer, Packet::Sync),
                    None => core.put(Output::Synced),
                }
                Ok(())
            }
            (packet, state) => Leave::because(format!("the leader sent {} out of place ({state:?})", name(&packet))),
        }
    }
    /// Between the opening of the stream and the end of the role.
    fn takes_history(&self) -> bool {
        matches!(self.state, State::Syncing | State::Settling(_) | State::Adopting | State::Acknowledged | State::Serving)
    }
    fn is_observing(&self) -> bool {
        self.observes && self.state == State::Serving
    }
    fn keep(&mut self, core: &Core, packet: Packet) -> Result<(), Leave> {
        if let Packet::Proposal { payload, .. } | Packet::Inform { payload, .. } = &packet {
            self.waiting_bytes += payload.len();
        }
        self.waiting_bytes += super::core::PACKET_BYTES;
        if self.waiting_bytes > core.config.learner_bytes_max {
            return Leave::because("too much arrived while the log was being cut");
        }
        self.waiting.push_back(packet);
        Ok(())
    }

    /// The leader's epoch: ours from now on, once that is on disk.
    fn epoch_proposed(&mut self, core: &mut Core, zxid: Zxid, protocol_version: i32) -> Result<(), Leave> {
        if protocol_version < PROTOCOL_VERSION {
            return Leave::because("the leader's protocol is older than ZAB 1.0");
        }
        if zxid.epoch() > EPOCH_MAX + 1 {
            return Leave::because(format!("the leader's epoch {} is beyond all bounds", zxid.epoch()));
        }
        self.epoch = zxid.epoch();
        match self.epoch.cmp(&core.local.accepted_epoch()) {
            std::cmp::Ordering::Less => Leave::because(format!("the leader's epoch {} is older than one promised before", self.epoch)),
            std::cmp::Ordering::Equal => {
                self.promise(core, None);
                Ok(())
            }
            std::cmp::Ordering::Greater => {
                self.state = State::Accepting;
                self.deadline = None;
                core.write_promise(self.epoch, zxid.counter() == BEGINS);
                Ok(())
            }
        }
    }
    /// An epoch file is written.
    pub fn epoch_written(&mut self, core: &mut Core, file: EpochFile) -> Result<(), Leave> {
        match (self.state, file) {
            (State::Accepting, EpochFile::Accepted) => {
                let current_epoch = i32::try_from(core.local.current_epoch()).ok();
                self.promise(core, current_epoch);
            }
            (State::Adopting, EpochFile::Current) => self.acknowledge(core),
            (_, EpochFile::Current) if acks_early(core) => {}
            _ => return Leave::because(format!("{file:?} epoch written out of place ({:?})", self.state)),
        }
        Ok(())
    }
    fn asks_for_image(&self) -> bool {
        self.wants_all || self.needs_image
    }
    /// Tells our history. Whoever asks for everything tells none, and none that would count.
    fn promise(&mut self, core: &mut Core, current_epoch: Option<i32>) {
        let (zxid, current_epoch) =
            if self.asks_for_image() { (Zxid::ZERO, None) } else { (core.local.told(core.config.planted), current_epoch) };
        core.send(self.link, Packet::AckEpoch { zxid, current_epoch });
        self.state = State::Promised;
        self.await_leader(core, core.init_ms());
    }

    /// What we have is a part of the leader's history: it is committed when the leader says that it serves.
    fn synchronise(&mut self, core: &mut Core) -> Result<(), Leave> {
        self.state = State::Syncing;
        self.committed = core.local.last();
        self.await_leader(core, core.init_ms());
        Ok(())
    }
    fn cut(&mut self, core: &mut Core, zxid: Zxid) -> Result<(), Leave> {
        if zxid < core.local.known_committed() {
            if self.master().is_some() {
                return Leave::because(format!("the master has committed up to {zxid} only, and this server more"));
            }
            if core.local.current_epoch() == self.epoch {
                // It committed that itself: Java's leaders go by what they have applied, which may be a little behind. It is asked again.
                return Leave::because(format!("the leader has applied up to {zxid} only, and committed more"));
            }
            core.put(Output::Fatal(format!("told to cut the log to {zxid}, below {} which is committed", core.local.known_committed())));
            return Leave::because("the leader would remove what is committed");
        }
        let (local, tail) = (&core.local, &core.local.tail);
        if zxid > local.last() || zxid < local.snapshot() || (zxid >= tail.base() && !tail.holds(zxid)) {
            self.dial_for_image(core, &format!("told to cut the log to {zxid}, which is not in it as a record"));
            return Ok(());
        }
        core.local.truncate();
        core.put(Output::Truncate(zxid));
        self.state = State::Cutting(zxid);
        self.deadline = None;
        Ok(())
    }
    /// The log was cut.
    pub fn truncated(&mut self, core: &mut Core, end: Zxid) -> Result<(), Leave> {
        let State::Cutting(zxid) = self.state else { return Leave::because("the log was cut out of place") };
        if end != zxid {
            self.dial_for_image(core, &format!("told to cut the log to {zxid}, but it held nothing after {end}"));
            return Ok(());
        }
        self.synchronise(core)?;
        self.waiting_bytes = 0;
        for packet in std::mem::take(&mut self.waiting) {
            self.packet(core, self.link, packet)?;
        }
        Ok(())
    }
    /// This leader cannot bring us onto its history by a cut. It knows our history and may need us for its quorum, so it is asked for an image
    /// by itself, on another link: whoever asked the next leader for one, without telling a history, would be missing in its quorum.
    fn dial_for_image(&mut self, core: &mut Core, why: &str) {
        core.note(format!("asking leader {} for an image: {why}", self.leader.0));
        core.put(Output::Close(self.link));
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.needs_image = true;
        self.state = State::Pausing(core.now.plus_ms(core.config.connect_retry_ms));
        self.await_leader(core, core.init_ms());
    }
    fn install(&mut self, core: &mut Core, zxid: Zxid) -> Result<(), Leave> {
        // It takes the place of what we may be needed for: whoever lacks what is committed gets nothing removed here (P3).
        let known = core.local.known_committed();
        if zxid < known {
            return Leave::because(format!("the leader's image is of {zxid}, before {known} which is committed"));
        }
        if zxid.epoch() > self.epoch {
            return Leave::because(format!("the leader's image is of {zxid}, beyond its epoch {}", self.epoch));
        }
        core.local.install();
        core.put(Output::InstallSnapshot { link: self.link, zxid });
        self.state = State::Installing(zxid);
        self.deadline = None; // the shell watches the stream
        Ok(())
    }
    /// The image is in place.
    pub fn installed(&mut self, core: &mut Core) -> Result<(), Leave> {
        if !matches!(self.state, State::Installing(_)) {
            return Leave::because("an image was installed out of place");
        }
        (self.wants_all, self.needs_image) = (false, false);
        self.synchronise(core)
    }

    /// A transaction of the leader's history, or of the broadcast: both go to the log as they come.
    fn append(&mut self, core: &mut Core, zxid: Zxid, payload: Payload) -> Result<(), Leave> {
        let last = core.local.last();
        if !follows(last, zxid) || zxid.epoch() > self.epoch {
            return Leave::because(format!("the leader sent {zxid} after {last}"));
        }
        if core.config.planted.has(Bug::HoleInTail) && self.state == State::Syncing {
            core.local.append_unremembered(zxid);
        } else {
            core.local.append(zxid, payload.clone());
        }
        self.uncommitted.push_back(zxid);
        if self.state == State::Syncing {
            core.local.trim_history(core.config.tail_count_min, core.config.tail_bytes_max);
        } else if !self.observes {
            self.unacknowledged.push_back(zxid);
        }
        if let Some(membership) = proposed_in(&payload) {
            core.propose_config(membership);
        }
        core.put(Output::Append { zxid, payload });
        Ok(())
    }
    fn committed(&mut self, core: &mut Core, zxid: Zxid) -> Result<(), Leave> {
        self.committed_with(core, zxid, None)
    }
    /// With a configuration in which this server leads, if there is one.
    fn committed_with(&mut self, core: &mut Core, zxid: Zxid, leader: Option<PeerId>) -> Result<(), Leave> {
        if self.uncommitted.front() != Some(&zxid) {
            let expected = self.uncommitted.front();
            return Leave::because(format!("the leader committed {zxid} where {expected:?} is next"));
        }
        self.uncommitted.pop_front();
        self.committed = zxid;
        if self.state == State::Serving {
            core.commit(zxid);
            if let Some(host) = &mut self.host {
                host.committed(core, zxid, leader);
            }
            core.local.trim(core.config.tail_count_min, core.config.tail_bytes_max);
        }
        Ok(())
    }

    /// The configuration that was proposed under this zxid is committed. Where that means another leader or another role, this one ends with
    /// the next turn: what is committed so far is shown to clients before.
    fn activate(&mut self, core: &mut Core, zxid: Zxid, leader: PeerId) -> Result<(), Leave> {
        let Some(next) = core.proposed().filter(|proposed| proposed.version == zxid.as_i64()).cloned() else { return Ok(()) };
        if core.activate(next) || leader != self.leader {
            self.successor = Some(leader);
        }
        Ok(())
    }
    /// The newest configuration that the leader knows, to be in force with its epoch.
    fn learn_config(&mut self, core: &mut Core, text: Option<&str>) -> Result<(), Leave> {
        let Some(text) = text.filter(|text| !text.is_empty() && core.config.reconfig.enabled) else { return Ok(()) };
        match Membership::parse(text) {
            Ok(membership) => {
                core.propose_config(membership.clone());
                self.config = Some(membership);
                Ok(())
            }
            Err(why) => Leave::because(format!("the leader's configuration makes no sense here: {why}")),
        }
    }
    /// A leader is established with its configuration. One whose transaction is still on its way takes effect by its own commit.
    fn complete_config(&mut self, core: &mut Core) -> Result<(), Leave> {
        let Some(config) = self.config.take().filter(|config| config.version > core.config.membership.version) else { return Ok(()) };
        if self.uncommitted.iter().any(|zxid| zxid.as_i64() == config.version) {
            return Ok(());
        }
        let still_leads = config.leads_as_in(&core.config.membership, self.leader) || !core.config.membership.is_voter(self.leader);
        if core.activate(config) || !still_leads || !core.config.membership.is_voter(self.leader) {
            return Leave::because("the configuration has changed");
        }
        Ok(())
    }

    /// NEWLEADER: the history is complete. First it, then its epoch, then the acknowledgement (L2).
    fn history_ends(&mut self, core: &mut Core, zxid: Zxid) -> Result<(), Leave> {
        if zxid != Zxid::new(self.epoch, 0) {
            return Leave::because(format!("NEWLEADER of {zxid} in epoch {}", self.epoch));
        }
        if !self.observes {
            self.unacknowledged = self.uncommitted.clone();
        }
        if core.config.planted.has(Bug::CommitInSync) {
            core.commit(core.local.last());
        }
        self.state = State::Settling(core.local.last());
        self.deadline = None;
        self.flushed(core);
        Ok(())
    }
    /// The log has been flushed.
    pub fn flushed(&mut self, core: &mut Core) {
        let durable = core.acknowledgeable();
        let complete = |end| durable >= end && core.has_stored_proposed();
        match self.state {
            State::Settling(end) if complete(end) || core.config.planted.has(Bug::AckBeforeHistory) => {
                self.state = State::Adopting;
                if core.local.current_epoch() == self.epoch {
                    self.acknowledge(core);
                } else {
                    core.write_epoch(EpochFile::Current, self.epoch);
                    if acks_early(core) {
                        self.acknowledge(core);
                    }
                }
            }
            State::Serving => self.acknowledge_flushed(core),
            _ => {}
        }
    }
    fn acknowledge(&mut self, core: &mut Core) {
        self.state = State::Acknowledged;
        self.await_leader(core, core.sync_ms());
        core.send(self.link, Packet::Ack { zxid: Zxid::new(self.epoch, 0) });
    }
    /// One ACK for each proposal, in order: that is how ZooKeeper's leaders count.
    fn acknowledge_flushed(&mut self, core: &mut Core) {
        let durable = core.acknowledgeable();
        while let Some(first) = self.unacknowledged.pop_front_if(|zxid| *zxid <= durable) {
            let mut last = first;
            while let Some(zxid) = self.unacknowledged.pop_front_if(|zxid| *zxid <= durable && last.next() == Some(*zxid)) {
                last = zxid;
            }
            core.send(self.link, Packet::acks(first, last));
        }
    }
    /// UPTODATE: a quorum has the history, so it is committed.
    fn serve(&mut self, core: &mut Core) -> Result<(), Leave> {
        if self.committed < core.local.known_committed() {
            let known = core.local.known_committed();
            if self.master().is_some() {
                return Leave::because(format!("the master's history ends at {}, before {known} which is committed", self.committed));
            }
            core.put(Output::Fatal(format!("the leader's history ends at {}, before {known} which is committed", self.committed)));
            return Leave::because("the leader lacks what is committed");
        }
        self.complete_config(core)?;
        core.send(self.link, Packet::Ack { zxid: Zxid::new(self.epoch, 0) });
        self.state = State::Serving;
        core.commit(self.committed);
        core.put(Output::Role(self.role()));
        if !self.observes && core.config.observer_masters {
            self.host = Some(Master::new(core, self.epoch, self.committed));
        }
        self.acknowledge_flushed(core);
        Ok(())
    }

    /// Sends a client's write or sync on.
    pub fn forward(&mut self, core: &mut Core, request: ForwardedRequest) {
        self.pass_on(core, request, None);
    }
    fn pass_on(&mut self, core: &mut Core, request: ForwardedRequest, from: Option<LinkId>) {
        if self.state == State::Serving {
            if request.op == OP_SYNC {
                self.syncs.push_back(from);
            }
            core.send(self.link, Packet::Request(request));
        }
    }
    /// Asks about a session.
    pub fn revalidate(&mut self, core: &mut Core, session: SessionId, timeout_ms: i32) {
        self.ask_about(core, session, timeout_ms, None);
    }
    fn ask_about(&mut self, core: &mut Core, session: SessionId, timeout_ms: i32, from: Option<LinkId>) {
        if self.state == State::Serving {
            self.revalidations.push_back((session, timeout_ms, from));
            core.send(self.link, Packet::Revalidate { session, timeout_ms });
        }
    }
    /// The leader's answer goes to whoever asked first about the session.
    fn revalidated(&mut self, core: &mut Core, session: SessionId, valid: bool) {
        let asked = self.revalidations.iter().position(|(about, ..)| *about == session).and_then(|at| self.revalidations.remove(at));
        match (asked, &mut self.host) {
            (Some((_, timeout_ms, Some(observer))), Some(host)) => {
                if valid {
                    host.touch(session, timeout_ms);
                }
                core.send(observer, Packet::Revalidated { session, valid });
            }
            _ => core.put(Output::Revalidated { session, valid }),
        }
    }
    /// Answers a ping.
    pub fn pinged(&mut self, core: &mut Core, zxid: Zxid, mut touched: Vec<(SessionId, i32)>) {
        if self.state == State::Serving && self.pings > 0 {
            self.pings -= 1;
            touched.extend(self.host.as_mut().map(Master::take_touched).unwrap_or_default());
            while touched.len() > TOUCHED_MAX {
                let rest = touched.split_off(TOUCHED_MAX);
                core.send(self.link, Packet::Ping { zxid: ANSWERS_NOTHING, touched: std::mem::replace(&mut touched, rest) });
            }
            core.send(self.link, Packet::Ping { zxid, touched });
        }
    }
    /// An observer has connected.
    pub fn observer_accepted(&mut self, core: &mut Core, link: LinkId) {
        match &mut self.host {
            Some(host) => host.accepted(core, link),
            None => core.put(Output::Close(link)),
        }
    }
    fn hear_observer(&mut self, core: &mut Core, link: LinkId, packet: Packet) {
        let Some(host) = &mut self.host else { return };
        match host.packet(core, link, packet) {
            Some(Wish::Request(request)) => self.pass_on(core, request, Some(link)),
            Some(Wish::Revalidate(session, timeout_ms)) => self.ask_about(core, session, timeout_ms, Some(link)),
            None => {}
        }
    }

    /// Closes the links. `true`: the next synchronisation is to ask for everything.
    pub fn leave(&mut self, core: &mut Core) -> bool {
        if let Some(host) = &mut self.host {
            host.leave(core);
        }
        core.put(Output::Close(self.link));
        self.wants_all
    }
}

fn acks_early(core: &Core) -> bool {
    core.config.planted.has(Bug::AckBeforeHistory) || core.config.planted.has(Bug::AckBeforeEpoch)
}

/// For messages.
fn name(packet: &Packet) -> &'static str {
    match packet {
        Packet::Request(_) => "REQUEST",
        Packet::Proposal { .. } => "PROPOSAL",
        Packet::Ack { .. } | Packet::Acks { .. } => "ACK",
        Packet::Commit { .. } | Packet::Commits { .. } => "COMMIT",
        Packet::Ping { .. } => "PING",
        Packet::Revalidate { .. } | Packet::Revalidated { .. } => "REVALIDATE",
        Packet::Sync => "SYNC",
        Packet::Inform { .. } => "INFORM",
        Packet::CommitAndActivate { .. } => "COMMITANDACTIVATE",
        Packet::InformAndActivate { .. } => "INFORMANDACTIVATE",
        Packet::NewLeader { .. } => "NEWLEADER",
        Packet::FollowerInfo { .. } => "FOLLOWERINFO",
        Packet::ObserverInfo { .. } => "OBSERVERINFO",
        Packet::LeaderInfo { .. } => "LEADERINFO",
        Packet::AckEpoch { .. } => "ACKEPOCH",
        Packet::UpToDate => "UPTODATE",
        Packet::Diff { .. } => "DIFF",
        Packet::Trunc { .. } => "TRUNC",
        Packet::Snap { .. } => "SNAP",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zab::election::tests::config;
    use crate::zab::{Stored, ZabConfig};

    #[test]
    fn of_a_long_history_that_comes_no_more_is_kept_in_memory_than_of_any_other_b6() {
        let members = "server.1=a:1:2:participant\nserver.2=b:1:2:participant\nversion=0";
        let settings = ZabConfig { tail_count_min: 5, tail_bytes_max: 1000, ..config(1, members) };
        let mut core = Core::new(settings, Stored::default(), Instant(1_000_000_000));
        let link = LinkId(1);
        let mut learner = Learner::new(&mut core, PeerId(2), false, false, link, Vec::new());
        (learner.state, learner.epoch) = (State::Syncing, 1);
        for counter in 1..=1000 {
            let zxid = Zxid::new(1, counter);
            let payload = Payload::from(vec![0; 100]);
            assert!(learner.packet(&mut core, link, Packet::Proposal { zxid, payload }).is_ok());
            assert!(learner.packet(&mut core, link, Packet::Commit { zxid }).is_ok());
        }
        assert_eq!((core.local.tail.base(), core.local.tail.last()), (Zxid::new(1, 990), Zxid::new(1, 1000)));
    }
}

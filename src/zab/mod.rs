//! Atomic broadcast: elections, discovery, synchronisation and broadcast as ZooKeeper 3.9's servers practise them. Pure: it is told
//! what happened (`Input`) and says what must be done (`Output`); payloads are opaque bytes.
//!
//! Must never know: sockets, files, clocks, znodes, what a transaction means.
#![doc(hidden)]

pub mod config;
pub mod election;
pub mod election_link;
pub mod input;
pub mod membership;
pub mod message;
pub mod output;
pub mod planted;
pub mod quorum;
pub mod reconfig;
pub mod vote;
pub mod wire;

mod broadcast;
mod catch_up;
mod core;
mod discovery;
mod feed;
mod handover;
mod leader;
mod learner;
mod local;
mod master;
mod pipeline;
mod progress;
mod rounds;
mod sync;
mod tail;
mod waiting;

use self::core::{Core, Leave};
use crate::base::prng::Prng;
use crate::base::{Instant, PeerId, SessionId, Zxid};
use leader::Leader;
use learner::Learner;
use vote::ZXID_UNKNOWN;
use waiting::WaitingRoom;

pub use config::{Emptiness, Reconfig, Stored, ZabConfig};
pub use election::{Elected, Election, History, View};
pub use input::{ConfigToken, EpochToken, Input, LinkId};
pub use leader::LearnerCounts;
pub use membership::Membership;
pub use message::{ForwardedRequest, LearnerInfo, Notification, Packet, Payload, ServerState, Vote};
pub use output::{ConfigWrite, EpochFile, Output, Role};
pub use planted::{Bug, Planted};
pub use quorum::Quorum;
pub use reconfig::{ReconfigError, ReconfigRequest};

/// An observer waits a random part of this before it asks again who leads (`zookeeper.observer.election.DelayMs`).
const OBSERVER_DELAY_MS: u64 = 200;

/// How long a server waits when a role ended before it served: at first, and at most when that happens again and again.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 100..=1_000;

/// Bytes of log records read at a time for a learner that is fed from the disk: what one holds of this server's memory, beside its link.
pub const LOG_PART_BYTES: usize = 1 << 20;

/// Roles in vain after which a server that asks for an image tells its history again: those who ask count for no quorum, and when too many
/// ask at once, nobody could ever answer.
const IMAGE_TRIES: u32 = 3;

/// One server's part in the ensemble.
pub struct Zab {
    core: Core,
    election: Election,
    place: Place,
    /// Learners that were quicker than our own election.
    waiting: WaitingRoom,
    /// Ask the next leader for an image.
    wants_all: bool,
    /// Roles that ended before they served, since one did.
    in_vain: u32,
    links: u64,
    /// Masters this observer has dialed, from a random one on.
    masters_dialed: u32,
    prng: Prng,
}

/// What this server is about.
enum Place {
    /// A role was left, or none was entered yet: nothing begins before everything given to the disk has come back (L4), nor before this.
    Settling {
        not_before: Instant,
        /// Who leads next, if a configuration has named it: nobody is asked.
        successor: Option<PeerId>,
    },
    /// The election.
    Electing,
    /// Elected, or leading.
    Leading(Leader),
    /// Has a leader, or is finding it.
    Learning(Box<Learner>),
}

impl Zab {
    /// A server that has just started: LOOKING, with what its disk holds.
    #[must_use]
    pub fn new(config: ZabConfig, stored: Stored, now: Instant) -> Zab {
        let mut zab = Zab {
            election: Election::new(&config),
            waiting: WaitingRoom::new(config.membership.members.len()),
            prng: Prng::new(config.seed),
            core: Core::new(config, stored, now),
            place: Place::Settling { not_before: now, successor: None },
            wants_all: false,
            in_vain: 0,
            links: 1,
            masters_dialed: 0,
        };
        if zab.core.config.is_observer {
            zab.masters_dialed = zab.prng.below(zab.core.config.membership.members.len().max(1) as u64) as u32;
        }
        if zab.core.config.planted.has(Bug::LogIsCommitted) {
            zab.core.commit(zab.core.local.last());
        }
        zab.follow_config();
        zab.begin_when_settled();
        zab
    }

    /// Something happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.core.now = self.core.now.max(now);
        // Whatever happened while we were not running, the clock comes first (L13).
        if let Place::Leading(leader) = &self.place
            && let Err(leave) = leader.check_time(&self.core)
        {
            self.leave(leave);
        }
        let before = self.role();
        if let Err(leave) = self.dispatch(input) {
            self.leave(leave);
        }
        if self.role() != before {
            self.announce_service();
        }
        self.follow_config();
        self.begin_when_settled();
    }
    /// Other configurations count: the election and the transports are told.
    fn follow_config(&mut self) {
        if !self.core.take_reconfigured() {
            return;
        }
        if let Place::Leading(leader) = &mut self.place {
            leader.recount(&self.core);
        }
        let (active, proposed) = (&self.core.config.membership, self.core.proposed());
        let view = View { active, proposed, quorum: &self.core.quorum, is_observer: self.core.config.is_observer };
        let mut out = Vec::new();
        self.election.reconfigure(self.core.now, view, &mut out);
        let order = Output::Config { active: active.clone(), proposed: proposed.cloned() };
        self.core.put(order);
        self.notify(out);
    }
    fn dispatch(&mut self, input: Input) -> Result<(), Leave> {
        match input {
            Input::Notification { from, message } => {
                self.adopt(&message);
                let mut out = Vec::new();
                let elected = self.election.handle(self.core.now, from, &message, &mut out);
                self.notify(out);
                self.elected(elected)
            }
            Input::Timeout => self.timeout(),
            Input::Accepted(link) => {
                self.accepted(link);
                Ok(())
            }
            Input::ObserverAccepted(link) => {
                match &mut self.place {
                    Place::Learning(learner) => learner.observer_accepted(&mut self.core, link),
                    _ => self.core.put(Output::Close(link)),
                }
                Ok(())
            }
            Input::Connected(link) => match &mut self.place {
                Place::Learning(learner) => learner.connected(&mut self.core, link),
                _ => Ok(()),
            },
            Input::Disconnected(link) => self.disconnected(link),
            Input::Packet(link, packet) => self.packet(link, packet),
            Input::SnapshotSent(link) => {
                match &mut self.place {
                    Place::Leading(leader) => leader.snapshot_sent(&self.core, link),
                    Place::Learning(learner) => {
                        if let Some(host) = learner.host() {
                            host.snapshot_sent(&self.core, link);
                        }
                    }
                    Place::Settling { .. } | Place::Electing => {}
                }
                Ok(())
            }
            Input::LogRead(link, part) => {
                match &mut self.place {
                    Place::Leading(leader) => leader.log_read(&mut self.core, link, part),
                    Place::Learning(learner) => {
                        if let Some(host) = learner.host() {
                            host.log_read(&mut self.core, link, part);
                        }
                    }
                    Place::Settling { .. } | Place::Electing => {}
                }
                Ok(())
            }
            Input::Durable(zxid) => self.flushed(zxid),
            Input::EpochWritten(token) => self.epoch_written(token),
            Input::ConfigWritten(token) => {
                self.core.config_written(token);
                self.acknowledgeable()
            }
            Input::Truncated(end) => {
                self.core.local.truncated(end);
                match &mut self.place {
                    Place::Learning(learner) => learner.truncated(&mut self.core, end),
                    _ => Ok(()),
                }
            }
            Input::SnapshotInstalled(zxid) => {
                self.core.local.installed(zxid);
                self.wants_all = false;
                match &mut self.place {
                    Place::Learning(learner) => learner.installed(&mut self.core),
                    _ => Ok(()),
                }
            }
            Input::SnapshotFailed(why) => {
                self.core.local.installation_failed();
                match &self.place {
                    Place::Learning(_) => Leave::because(format!("the image could not be received: {why}")),
                    _ => Ok(()),
                }
            }
        }
    }

    /// The next order; to be called until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.core.poll_output()
    }
    /// When to give `Input::Timeout`, at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let place = match &self.place {
            Place::Settling { not_before, .. } => self.core.is_settled().then_some(*not_before),
            Place::Electing => self.election.poll_timeout(),
            Place::Leading(leader) => Some(leader.poll_timeout()),
            Place::Learning(learner) => learner.poll_timeout(),
        };
        [place, self.waiting.poll_timeout()].into_iter().flatten().min()
    }
    fn timeout(&mut self) -> Result<(), Leave> {
        for link in self.waiting.expired(self.core.now) {
            self.core.put(Output::Close(link));
        }
        match &mut self.place {
            Place::Settling { .. } => Ok(()),
            Place::Electing => {
                let mut out = Vec::new();
                let elected = self.election.timeout(self.core.now, &mut out);
                self.notify(out);
                self.elected(elected)
            }
            Place::Leading(leader) => leader.timeout(&mut self.core),
            Place::Learning(learner) => {
                let links = &mut self.links;
                learner.timeout(&mut self.core, || next_link(links))
            }
        }
    }

    fn accepted(&mut self, link: LinkId) {
        match &mut self.place {
            Place::Leading(leader) => leader.accepted(&mut self.core, link),
            Place::Learning(_) => self.core.put(Output::Close(link)),
            Place::Settling { .. } | Place::Electing => {
                let until = self.core.now.plus_ms(self.core.init_ms());
                if let Some(closed) = self.waiting.enter(link, until) {
                    self.core.put(Output::Close(closed));
                }
            }
        }
    }
    fn disconnected(&mut self, link: LinkId) -> Result<(), Leave> {
        self.waiting.leave(link);
        match &mut self.place {
            Place::Leading(leader) => {
                leader.disconnected(&mut self.core, link);
                return leader.check_retired();
            }
            Place::Learning(learner) => return learner.disconnected(&mut self.core, link),
            Place::Settling { .. } | Place::Electing => {}
        }
        Ok(())
    }
    fn packet(&mut self, link: LinkId, packet: Packet) -> Result<(), Leave> {
        match &mut self.place {
            Place::Leading(leader) => leader.packet(&mut self.core, link, packet),
            Place::Learning(learner) => learner.packet(&mut self.core, link, packet),
            Place::Settling { .. } | Place::Electing => {
                if !self.waiting.keep(link, packet) {
                    self.core.put(Output::Close(link));
                }
                Ok(())
            }
        }
    }
    fn flushed(&mut self, zxid: Zxid) -> Result<(), Leave> {
        self.core.local.flushed(zxid);
        self.acknowledgeable()
    }
    /// More of what we have may be acknowledged.
    fn acknowledgeable(&mut self) -> Result<(), Leave> {
        match &mut self.place {
            Place::Leading(leader) => leader.flushed(&mut self.core),
            Place::Learning(learner) => {
                learner.flushed(&mut self.core);
                Ok(())
            }
            Place::Settling { .. } | Place::Electing => Ok(()),
        }
    }
    fn epoch_written(&mut self, token: EpochToken) -> Result<(), Leave> {
        let Some(file) = self.core.local.epoch_written(token) else { return Ok(()) };
        match &mut self.place {
            Place::Leading(leader) => leader.epoch_written(&mut self.core, file)?,
            Place::Learning(learner) => learner.epoch_written(&mut self.core, file)?,
            Place::Settling { .. } | Place::Electing => {}
        }
        Ok(())
    }

    /// Gives the role up: clients first, then links. What is on its way to the disk is waited for before anything else (A1, L4).
    fn leave(&mut self, Leave { why, mut successor }: Leave) {
        let mut not_before = self.core.now;
        let established = self.role() != Role::Looking;
        match &mut self.place {
            Place::Settling { .. } | Place::Electing => return,
            Place::Leading(leader) => {
                self.core.note(format!("leading no longer: {why}"));
                if established {
                    self.core.put(Output::Role(Role::Looking));
                }
                leader.leave(&mut self.core);
                successor = successor.or(leader.successor());
            }
            Place::Learning(learner) => {
                self.core.note(format!("leaving leader {}: {why}", learner.leader().0));
                if established {
                    self.core.put(Output::Role(Role::Looking));
                }
                self.wants_all = learner.leave(&mut self.core);
                self.masters_dialed = self.masters_dialed.wrapping_add(learner.dials());
                if self.core.config.is_observer {
                    not_before = not_before.plus_ms(self.prng.below(OBSERVER_DELAY_MS));
                }
            }
        }
        if !established && successor.is_none() {
            let pause_ms = (PAUSE_MS.start() << self.in_vain.min(8)).min(*PAUSE_MS.end());
            not_before = not_before.plus_ms(pause_ms / 2 + self.prng.below(pause_ms / 2 + 1));
            self.in_vain = self.in_vain.saturating_add(1);
            self.wants_all &= self.in_vain < IMAGE_TRIES;
        }
        self.election.withdraw();
        self.place = Place::Settling { not_before, successor };
    }
    /// Begins an election when the old role has left nothing behind: with the true end of the log, durable.
    fn begin_when_settled(&mut self) {
        let Place::Settling { not_before, successor } = self.place else { return };
        let planted = self.core.config.planted;
        if planted.has(Bug::MemoryAheadOfLog) {
            self.core.local.flushed(self.core.local.last());
        }
        if !self.core.is_settled() && !planted.has(Bug::NoBarrier) || self.core.now < not_before {
            return;
        }
        self.place = Place::Electing;
        if let Some(leader) = successor.filter(|id| self.may_be_led_by(*id)) {
            let elected = self.election.appoint(leader, self.core.local.told(planted));
            if let Err(leave) = self.elected(Some(elected)) {
                self.leave(leave);
            }
            return;
        }
        let local = &self.core.local;
        let is_empty = local.accepted_epoch() == 0 && local.durable() == Zxid::ZERO && !local.is_vouched();
        let last_logged = if local.emptiness() == Some(Emptiness::Distrusted) { ZXID_UNKNOWN } else { local.told(planted) };
        let history = History { last_logged, current_epoch: local.current_epoch(), may_have_forgotten: is_empty };
        let mut out = Vec::new();
        self.election.begin(self.core.now, history, &mut out);
        self.notify(out);
    }
    fn notify(&mut self, out: Vec<(PeerId, Notification)>) {
        for (to, message) in out {
            self.core.put(Output::Notify { to, message });
        }
    }
    fn elected(&mut self, elected: Option<Elected>) -> Result<(), Leave> {
        let Some(Elected { state, vote }) = elected else { return Ok(()) };
        if state != ServerState::Leading {
            let link = next_link(&mut self.links);
            let observes = state == ServerState::Observing;
            for link in self.waiting.close() {
                self.core.put(Output::Close(link));
            }
            let masters = if observes { self.masters(vote.leader) } else { Vec::new() };
            self.place = Place::Learning(Box::new(Learner::new(&mut self.core, vote.leader, observes, self.wants_all, link, masters)));
            return Ok(());
        }
        self.wants_all = false;
        self.place = Place::Leading(Leader::new(&mut self.core));
        for (link, packet) in self.waiting.open() {
            self.accepted(link);
            if let Some(packet) = packet {
                self.packet(link, packet)?;
            }
        }
        Ok(())
    }
    /// Every voter but the leader may be a master; the next one to dial first.
    fn masters(&self, leader: PeerId) -> Vec<PeerId> {
        let is_master = |id: &PeerId| self.core.config.observer_masters && *id != leader;
        let mut masters: Vec<PeerId> = self.core.config.membership.voters().filter(is_master).collect();
        let next = self.masters_dialed as usize % masters.len().max(1);
        masters.rotate_left(next);
        masters
    }
    /// A member with a vote; this server only if it does not observe.
    fn may_be_led_by(&self, id: PeerId) -> bool {
        self.core.config.membership.is_voter(id)
    }
    /// Who is looking believes whoever knows a newer configuration: it is in force there.
    fn adopt(&mut self, message: &Notification) {
        let Some(text) = message.config.as_deref().filter(|_| matches!(self.place, Place::Electing) && self.core.config.reconfig.enabled)
        else {
            return;
        };
        if reconfig::version_of(text).is_none_or(|version| version <= self.core.config.membership.version) {
            return;
        }
        match Membership::parse(text) {
            Ok(membership) => {
                self.core.activate(membership);
                self.follow_config();
            }
            Err(why) => self.core.note(format!("another server has a configuration that makes no sense here: {why}")),
        }
    }
    /// From the start of service on, the announced vote names the new epoch: whoever looks for a leader finds all members agree.
    fn announce_service(&mut self) {
        match self.role() {
            Role::Looking => return,
            Role::Leading { epoch } => self.election.serving(epoch),
            Role::Following { .. } | Role::Observing { .. } => {
                if let Place::Learning(learner) = &self.place {
                    self.election.serving(learner.epoch());
                }
            }
        }
        self.in_vain = 0;
    }

    /// What this server is for its clients.
    #[must_use]
    pub fn role(&self) -> Role {
        match &self.place {
            Place::Leading(leader) => leader.role(),
            Place::Learning(learner) => learner.role(),
            Place::Settling { .. } | Place::Electing => Role::Looking,
        }
    }
    /// What it is for its peers: following or leading as soon as the election has ended.
    #[must_use]
    pub fn state(&self) -> ServerState {
        self.election.state()
    }
    /// Whom it follows, or itself when it leads; known from the end of the election on.
    #[must_use]
    pub fn leader(&self) -> Option<PeerId> {
        match &self.place {
            Place::Leading(_) => Some(self.core.me()),
            Place::Learning(learner) => Some(learner.leader()),
            Place::Settling { .. } | Place::Electing => None,
        }
    }
    /// The epoch of the history here (`currentEpoch`).
    #[must_use]
    pub fn current_epoch(&self) -> u32 {
        self.core.local.current_epoch()
    }
    /// The highest epoch promised (`acceptedEpoch`).
    #[must_use]
    pub fn accepted_epoch(&self) -> u32 {
        self.core.local.accepted_epoch()
    }
    /// Leading: the configuration that a request asks for, to be proposed under the zxid of `next_zxid`.
    pub fn plan_reconfig(&self, request: &ReconfigRequest<'_>) -> Result<Membership, ReconfigError> {
        match (&self.place, self.next_zxid()) {
            (Place::Leading(leader), Some(zxid)) => leader.plan_reconfig(&self.core, request, zxid),
            _ => Err(ReconfigError::NoQuorum),
        }
    }
    /// The members it works with.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.core.config.membership
    }
    /// Observing: whom it learns from, a follower or the leader.
    #[must_use]
    pub fn observer_master(&self) -> Option<PeerId> {
        match &self.place {
            Place::Learning(learner) if learner.observes() => Some(learner.master().unwrap_or(learner.leader())),
            _ => None,
        }
    }
    /// Following: it feeds observers.
    #[must_use]
    pub fn feeds_observers(&self) -> bool {
        matches!(&self.place, Place::Learning(learner) if learner.feeds_observers())
    }
    /// Leading, or a master of observers: its learners, counted.
    #[must_use]
    pub fn learner_counts(&self) -> LearnerCounts {
        match &self.place {
            Place::Leading(leader) => leader.counts(),
            Place::Learning(learner) => learner.counts(),
            Place::Settling { .. } | Place::Electing => LearnerCounts::default(),
        }
    }
    /// Leading: the learners that take part, but for those of masters.
    #[must_use]
    pub fn serving_learners(&self) -> Vec<PeerId> {
        if let Place::Leading(leader) = &self.place { leader.serving().collect() } else { Vec::new() }
    }
    /// Leading: a sync of an own client has come. It may be answered when `confirmed` has reached this, and everything proposed so far is
    /// committed (B3). Numbers are of one leadership.
    pub fn confirm(&mut self) -> u64 {
        match &mut self.place {
            Place::Leading(leader) => leader.confirm(&mut self.core),
            _ => u64::MAX,
        }
    }
    /// Leading: up to where it is confirmed that nobody else led when it was asked.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        match &self.place {
            Place::Leading(leader) => leader.last_confirmed(&self.core),
            _ => 0,
        }
    }
    /// Leading: the zxid of the next proposal. `None`: not leading, or the counter is used up, and the leader is about to step down.
    #[must_use]
    pub fn next_zxid(&self) -> Option<Zxid> {
        match &self.place {
            Place::Leading(leader) => leader.next_zxid(),
            _ => None,
        }
    }
    /// Leading: broadcasts what the replica has applied to its head and appended to its log under the zxid of `next_zxid`.
    pub fn propose(&mut self, zxid: Zxid, payload: Payload) {
        assert_eq!(self.next_zxid(), Some(zxid), "proposal out of turn");
        if let Place::Leading(leader) = &mut self.place {
            leader.propose(&mut self.core, zxid, payload);
        }
        self.follow_config();
    }
    /// Leading: the sync of a learner's client (`Output::Request`, op 9), when everything that learner sent before it has been proposed.
    pub fn sync_for(&mut self, link: LinkId) {
        if let Place::Leading(leader) = &mut self.place {
            leader.sync_for(&mut self.core, link);
        }
    }
    /// Leading: the answer to `Output::Revalidate`.
    pub fn revalidated(&mut self, link: LinkId, session: SessionId, valid: bool) {
        if let Place::Leading(leader) = &mut self.place {
            leader.revalidated(&mut self.core, link, session, valid);
        }
    }
    /// Following, observing: sends a client's write, or its sync, to the leader.
    pub fn forward(&mut self, request: ForwardedRequest) {
        if let Place::Learning(learner) = &mut self.place {
            learner.forward(&mut self.core, request);
        }
    }
    /// Following, observing: asks the leader whether this session may go on here.
    pub fn revalidate(&mut self, session: SessionId, timeout_ms: i32) {
        if let Place::Learning(learner) = &mut self.place {
            learner.revalidate(&mut self.core, session, timeout_ms);
        }
    }
    /// Following, observing: the answer to `Output::Ping`.
    pub fn pinged(&mut self, zxid: Zxid, touched: Vec<(SessionId, i32)>) {
        if let Place::Learning(learner) = &mut self.place {
            learner.pinged(&mut self.core, zxid, touched);
        }
    }
    /// Following, observing: the leader has sent over this link what the replica cannot read, and so must neither log nor acknowledge (L22).
    /// Leaves; the next synchronisation sets things right, if it was the way here that spoiled it.
    pub fn refuse(&mut self, link: LinkId, why: &str) {
        if matches!(&self.place, Place::Learning(learner) if learner.link() == link) {
            self.leave(Leave { why: why.into(), successor: None });
            self.begin_when_settled();
        }
    }
    /// Following, observing: the replica has found that its state is not the leader's (L17). Leaves, and asks the next leader for an image;
    /// votes go on telling the true end of the log.
    pub fn resync(&mut self, why: &str) {
        if matches!(self.place, Place::Learning(_)) {
            self.leave(Leave { why: why.into(), successor: None });
            self.wants_all = true;
            self.begin_when_settled();
        }
    }
}

fn next_link(links: &mut u64) -> LinkId {
    let link = LinkId(*links);
    *links += 2;
    link
}

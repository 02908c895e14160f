//! Leading: from the election on until this server steps down. Discovery is in `discovery.rs`, the history that learners are sent in
//! `feed.rs`, proposals and commits in `broadcast.rs`; here is what holds them together: the learners' packets, and time.

use super::core::{Core, Leave};
use super::input::LinkId;
use super::learner::ANSWERS_NOTHING;
use super::message::Packet;
use super::output::{EpochFile, Output, Role};
use super::pipeline::Pipeline;
use super::planted::Bug;
use super::progress::{AckWatch, Kind, Progress, Step};
use super::rounds::Rounds;
use crate::base::{Instant, PeerId, Zxid};
use std::collections::BTreeMap;

/// What is being waited for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// A quorum of learners, with the epochs they have promised.
    Gathering,
    /// Our own promise of the new epoch, on disk.
    Accepting,
    /// The promises of a quorum.
    Promising,
    /// Our own history's new epoch, on disk.
    Adopting,
    /// A quorum with our history.
    Syncing,
    /// Nothing: established.
    Serving,
}

/// Why a learner's link is closed.
pub type Refusal = &'static str;

/// A leader, established or on the way.
pub struct Leader {
    pub(super) stage: Stage,
    /// Until when the stage must have ended.
    pub(super) deadline: Instant,
    pub(super) epoch: u32,
    /// The epoch and end of our history when we were elected: whoever has more must not follow us.
    pub(super) rank: (u32, Zxid),
    pub(super) learners: BTreeMap<LinkId, Progress>,
    /// From the new epoch on.
    pub(super) pipeline: Option<Pipeline>,
    /// Is nobody else leading?
    pub(super) rounds: Rounds,
    /// Our own log's slowness.
    pub(super) overdue: AckWatch,
    next_tick: Instant,
    /// A voter has promised a newer epoch than ours and cannot come back to it.
    pub(super) superseded: bool,
    /// A follower that feeds observers: nothing is decided here.
    pub(super) relays: bool,
    /// A configuration is in force in which another server leads: nothing is proposed or committed any more, and the role ends when the
    /// followers have left.
    pub(super) successor: Option<PeerId>,
    /// At most so many links that have not said who they are.
    strangers_max: usize,
}

/// Counts for the operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LearnerCounts {
    /// Links of learners.
    pub learners: u64,
    /// Voters that follow.
    pub synced_followers: u64,
    /// Observers.
    pub synced_observers: u64,
    /// Followers without a vote.
    pub synced_non_voting_followers: u64,
    /// Syncs that wait for commits.
    pub pending_syncs: u64,
}

/// Links beyond the members' own that may wait to say who they are.
const STRANGERS_SPARE: usize = 16;

impl Leader {
    /// Elected just now, with a log that is durable whole.
    pub fn new(core: &mut Core) -> Leader {
        let mut leader = Leader::begin(core);
        leader.gather(core);
        leader
    }
    /// What of a leader a follower has that feeds observers with what is committed.
    pub(super) fn of_observers(core: &Core, epoch: u32, committed: Zxid) -> Leader {
        let pipeline = Some(Pipeline::relayed(epoch, committed));
        Leader { stage: Stage::Serving, epoch, pipeline, relays: true, ..Leader::begin(core) }
    }
    fn begin(core: &Core) -> Leader {
        Leader {
            stage: Stage::Gathering,
            deadline: core.now.plus_ms(core.init_ms()),
            epoch: 0,
            rank: (core.local.current_epoch(), core.local.last()),
            learners: BTreeMap::new(),
            pipeline: None,
            rounds: Rounds::default(),
            overdue: AckWatch::default(),
            next_tick: core.now.plus_ms(core.config.tick_ms / 2),
            superseded: false,
            relays: false,
            successor: None,
            strangers_max: core.config.membership.members.len() + STRANGERS_SPARE,
        }
    }
    /// When the next turn is due.
    pub fn poll_timeout(&self) -> Instant {
        self.next_tick
    }
    /// The next zxid, once established.
    pub fn next_zxid(&self) -> Option<Zxid> {
        self.pipeline.as_ref().filter(|_| self.stage == Stage::Serving && self.successor.is_none()).and_then(Pipeline::next)
    }
    /// The epoch, once established.
    pub fn role(&self) -> Role {
        if self.stage == Stage::Serving { Role::Leading { epoch: self.epoch } } else { Role::Looking }
    }
    /// The learners that take part.
    pub fn serving(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.learners.values().filter(|l| l.step == Step::Serving).map(|l| l.peer)
    }
    /// Counts.
    pub fn counts(&self) -> LearnerCounts {
        let serving = |kind, votes| {
            self.learners
                .values()
                .filter(|l| l.step == Step::Serving && l.kind == kind && (kind == Kind::Observer || l.votes == votes))
                .count() as u64
        };
        LearnerCounts {
            learners: self.learners.values().filter(|l| l.step > Step::Unknown).count() as u64,
            synced_followers: serving(Kind::Follower, true),
            synced_observers: serving(Kind::Observer, false),
            synced_non_voting_followers: serving(Kind::Follower, false),
            pending_syncs: self.pipeline.as_ref().map_or(0, Pipeline::pending_syncs) as u64,
        }
    }

    /// Is the time over until which this leadership could be trusted? Asked before anything else is done with an input (L13).
    pub fn check_time(&self, core: &Core) -> Result<(), Leave> {
        if self.stage != Stage::Serving {
            return if core.now > self.deadline { Leave::because(format!("no quorum while {:?}", self.stage)) } else { Ok(()) };
        }
        if core.now > self.contact_deadline(core) {
            if let Some(leader) = self.successor {
                return Leave::for_successor(leader);
            }
            return Leave::because("no quorum of followers has been heard of within syncLimit");
        }
        Ok(())
    }
    /// `syncLimit` after a quorum was sent pings which it has answered.
    fn contact_deadline(&self, core: &Core) -> Instant {
        if core.config.planted.has(Bug::NoDeadline) {
            return Instant(u64::MAX);
        }
        let of = |id| if id == core.me() { Some(Instant(u64::MAX)) } else { self.voter(id).and_then(|l| l.contact) };
        core.quorum.level(of).map_or(Instant::default(), |contact| contact.plus_ms(core.sync_ms()))
    }
    /// The link of a server that may be asked for its promise and its history: an observer that a proposed configuration gives a vote has
    /// one before it knows.
    pub(super) fn member(&self, id: PeerId) -> Option<&Progress> {
        self.learners.values().find(|l| l.step > Step::Unknown && l.peer == id)
    }
    /// The link of a follower; whether it counts is for the quorum to say.
    pub(super) fn voter(&self, id: PeerId) -> Option<&Progress> {
        self.learners.values().find(|l| l.kind == Kind::Follower && l.step > Step::Unknown && l.peer == id)
    }

    /// A learner has connected. Of too many that have not said who they are the one that came first goes: nobody keeps others out by silence.
    pub fn accepted(&mut self, core: &mut Core, link: LinkId) {
        if self.successor.is_some() {
            core.put(Output::Close(link));
            return;
        }
        self.learners.insert(link, Progress::new(core.now.plus_ms(core.init_ms())));
        let mut strangers = self.learners.iter().filter(|(_, l)| l.step == Step::Unknown).map(|(link, _)| *link);
        if let Some(first) = strangers.next()
            && strangers.count() >= self.strangers_max
        {
            self.refuse(core, first, "others are waiting, and it has not said who it is");
        }
    }
    /// A link is gone.
    pub fn disconnected(&mut self, core: &mut Core, link: LinkId) {
        if let Some(learner) = self.learners.remove(&link) {
            if let Some(pipeline) = &mut self.pipeline {
                pipeline.forget(link);
            }
            if learner.awaits_log() {
                core.needs_image(learner.peer);
            }
            if learner.step == Step::Serving {
                core.put(Output::LearnerGone(link));
            }
        }
    }
    /// Closes a link; whoever is behind it may come again.
    pub(super) fn refuse(&mut self, core: &mut Core, link: LinkId, why: Refusal) {
        let Some(learner) = self.learners.get(&link) else { return };
        if learner.step > Step::Unknown {
            core.note(format!("closing the link of learner {}: {why}", learner.peer.0));
        } else {
            core.note(format!("closing a learner's link: {why}"));
        }
        core.put(Output::Close(link));
        self.disconnected(core, link);
    }
    /// A packet.
    pub fn packet(&mut self, core: &mut Core, link: LinkId, packet: Packet) -> Result<(), Leave> {
        // Most of what a serving learner says commits nothing: requests, and acknowledgements of what a quorum has already.
        let acknowledged = match packet {
            Packet::Ack { zxid } | Packet::Acks { last: zxid, .. } => Some(zxid),
            _ => None,
        };
        let is_beyond = |zxid| self.pipeline.as_ref().is_none_or(|pipeline| zxid > pipeline.committed());
        let is_news = self.learners.get(&link).is_none_or(|l| l.step != Step::Serving) || acknowledged.is_some_and(is_beyond);
        self.handshake(core, link, packet);
        if is_news { self.advance(core) } else { Ok(()) }
    }
    /// What is out of place costs its link, nothing else (S7).
    pub(super) fn handshake(&mut self, core: &mut Core, link: LinkId, packet: Packet) {
        let Some(learner) = self.learners.get_mut(&link) else { return };
        if learner.step == Step::Serving {
            learner.deadline = Some(core.now.plus_ms(core.sync_ms()));
        }
        let step = learner.step;
        let done = match packet {
            Packet::FollowerInfo { zxid, info } if step == Step::Unknown => self.greeted(core, link, zxid, info, Kind::Follower),
            Packet::ObserverInfo { zxid, info } if step == Step::Unknown => self.greeted(core, link, zxid, info, Kind::Observer),
            Packet::AckEpoch { zxid, current_epoch } if step == Step::Told => self.promised(core, link, zxid, current_epoch),
            Packet::Ack { zxid } | Packet::Acks { last: zxid, .. } if step >= Step::Syncing => self.acked(core, link, zxid),
            packet if step == Step::Serving && !self.relays => self.served(core, link, packet),
            _ => Err("a packet out of place"),
        };
        if let Err(why) = done {
            self.refuse(core, link, why);
        }
    }
    /// A packet of a learner that takes part.
    fn served(&mut self, core: &mut Core, link: LinkId, packet: Packet) -> Result<(), Refusal> {
        let learner = self.learners.get_mut(&link).ok_or("unknown link")?;
        match packet {
            Packet::Ping { zxid: ANSWERS_NOTHING, touched } => core.put(Output::Touched { link, sessions: touched }),
            Packet::Ping { zxid: _, touched } => {
                learner.contact = Some(learner.answer().ok_or("an answer to no ping")?);
                core.put(Output::Touched { link, sessions: touched });
                self.confirmed(core);
            }
            Packet::Request(request) => core.put(Output::Request { from: learner.peer, link, request }),
            Packet::Revalidate { session, timeout_ms } => core.put(Output::Revalidate { link, session, timeout_ms }),
            _ => return Err("a packet that no learner sends"),
        }
        Ok(())
    }

    /// Our log has been flushed.
    pub fn flushed(&mut self, core: &mut Core) -> Result<(), Leave> {
        if let Some(pipeline) = &self.pipeline {
            self.overdue.acked(core.acknowledgeable(), pipeline.last(), core.now);
        }
        self.advance(core)
    }
    /// Our epoch is written.
    pub fn epoch_written(&mut self, core: &mut Core, file: EpochFile) -> Result<(), Leave> {
        match (self.stage, file) {
            (Stage::Accepting, EpochFile::Accepted) => self.enter(core, Stage::Promising),
            (Stage::Adopting, EpochFile::Current) => self.enter(core, Stage::Syncing),
            _ => return Leave::because(format!("{file:?} epoch written while {:?}", self.stage)),
        }
        self.advance(core)
    }
    /// Begins a stage, with its own time.
    pub(super) fn enter(&mut self, core: &mut Core, stage: Stage) {
        self.stage = stage;
        self.deadline = core.now.plus_ms(core.init_ms());
        match stage {
            Stage::Promising => self.tell_epoch(core),
            Stage::Syncing => self.feed_promised(core),
            _ => {}
        }
    }
    /// Whatever has become possible.
    fn advance(&mut self, core: &mut Core) -> Result<(), Leave> {
        if self.superseded {
            return Leave::because("a voter has promised a newer epoch, and only a still newer one can have it back");
        }
        match self.stage {
            Stage::Gathering => self.gather(core),
            Stage::Promising => self.adopt(core),
            Stage::Syncing => self.establish(core),
            Stage::Serving => self.commit_reached(core),
            Stage::Accepting | Stage::Adopting => {}
        }
        Ok(())
    }

    /// Every half tick: pings, and whoever has taken too long.
    pub fn timeout(&mut self, core: &mut Core) -> Result<(), Leave> {
        if core.now < self.next_tick {
            return Ok(());
        }
        self.tend(core);
        if self.overdue.is_overdue(core.now, core.sync_ms()) {
            return Leave::because("our own log has not answered within syncLimit");
        }
        if self.stage == Stage::Serving && self.pipeline.as_ref().is_some_and(|p| p.next().is_none()) {
            return Leave::because("the counter of the epoch is used up");
        }
        core.local.trim(core.config.tail_count_min, core.config.tail_bytes_max);
        self.check_retired()?;
        self.check_time(core)
    }
    /// What is due for the learners.
    pub(super) fn tend(&mut self, core: &mut Core) {
        if core.now < self.next_tick {
            return;
        }
        self.next_tick = core.now.plus_ms(core.config.tick_ms / 2);
        let sync_ms = core.sync_ms();
        let late = |l: &Progress| l.deadline.is_some_and(|deadline| core.now > deadline);
        let slow = |l: &Progress| l.step == Step::Serving && l.overdue.is_overdue(core.now, sync_ms);
        let silent: Vec<LinkId> = self.learners.iter().filter(|(_, l)| late(l)).map(|(link, _)| *link).collect();
        let behind: Vec<LinkId> = self.learners.iter().filter(|(_, l)| slow(l)).map(|(link, _)| *link).collect();
        for link in silent {
            self.refuse(core, link, "it has been silent for too long");
        }
        for link in behind {
            self.refuse(core, link, "its log is too slow");
        }
        let pinged: Vec<LinkId> = self.learners.iter().filter(|(_, l)| l.step >= Step::Synced).map(|(link, _)| *link).collect();
        for link in pinged {
            self.ping(core, link);
        }
    }
    /// Closes every link.
    pub fn leave(&mut self, core: &mut Core) {
        for link in std::mem::take(&mut self.learners).into_keys() {
            core.put(Output::Close(link));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zab::{Membership, Stored, ZabConfig};

    #[test]
    fn a_leader_whose_counter_is_used_up_steps_down_for_a_new_epoch() {
        let membership = Membership::parse("server.5=a:1:2:participant\nversion=0").expect("valid");
        let config = ZabConfig {
            me: PeerId(5),
            membership,
            is_observer: false,
            tick_ms: 1_000,
            init_limit: 10,
            sync_limit: 5,
            notification_ms_min: 1,
            notification_ms_max: 1,
            finalize_ms: 1,
            connect_retry_ms: 1,
            tail_count_min: 1,
            tail_bytes_max: 0,
            learner_bytes_max: 1,
            observer_masters: false,
            seed: 1,
            planted: Default::default(),
            reconfig: Default::default(),
        };
        let mut core = Core::new(config, Stored::default(), Instant(1));
        let mut leader = Leader::new(&mut core);
        for _ in 0..2 {
            let Some(Output::WriteEpoch { token, .. }) = core.poll_output() else { panic!("an epoch is written") };
            let file = core.local.epoch_written(token).expect("the one under way");
            leader.epoch_written(&mut core, file).expect("leads");
        }
        let last = Zxid::new(1, u32::MAX - 2);
        leader.pipeline.as_mut().expect("an epoch").skip_to(last);
        let zxid = leader.next_zxid().expect("one is left");
        assert_eq!(zxid, Zxid::new(1, u32::MAX - 1));
        leader.pipeline.as_mut().expect("an epoch").skip_to(zxid);
        assert_eq!(leader.next_zxid(), None);
        core.now = core.now.plus_ms(500);
        assert!(leader.timeout(&mut core).is_err());
    }
}

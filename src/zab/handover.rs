//! Changes of the configuration, as a leader makes them: the check of a request, the new configuration of a new leader, what is committed with
//! a configuration, and the end of a leader that the new one does not have.

use super::core::{Core, Leave};
use super::feed::send;
use super::leader::{Leader, Stage};
use super::membership::Membership;
use super::message::{Packet, Payload};
use super::progress::{Kind, Progress, Step};
use super::reconfig::{ReconfigError, ReconfigRequest};
use crate::base::{PeerId, Zxid};

impl Leader {
    /// The configuration a request asks for, judged as ZooKeeper judges it and in that order.
    pub fn plan_reconfig(&self, core: &Core, request: &ReconfigRequest<'_>, zxid: Zxid) -> Result<Membership, ReconfigError> {
        let current = &core.config.membership;
        if core.proposed().is_some() {
            return Err(ReconfigError::InProgress);
        }
        if request.version != -1 && request.version != current.version {
            return Err(ReconfigError::BadVersion);
        }
        let next = request.applied_to(current, core.config.reconfig.voters_min, zxid)?;
        let me = core.me();
        let is_synced = |id| id == me || self.voter(id).is_some_and(|l| l.step == Step::Serving);
        if next.quorum().reached(is_synced) { Ok(next) } else { Err(ReconfigError::NoQuorum) }
    }

    /// A configuration that was never changed gets a version with the first epoch, so that it counts for more than what the file of a server
    /// says that is to join.
    pub(super) fn establish_config(&self, core: &mut Core) {
        if core.config.membership.version == 0 && core.proposed().is_none() {
            let version = Zxid::new(self.epoch, 0).as_i64();
            core.propose_config(Membership { version, ..core.config.membership.clone() });
        }
    }

    /// A quorum, of both configurations, has our history, and with it the configuration that was proposed.
    pub(super) fn complete_config(&mut self, core: &mut Core) {
        if let Some(next) = core.proposed().cloned() {
            let leader = self.leader_of(core, &next, Zxid::ZERO);
            self.take_effect(core, next, leader);
        }
    }

    /// A configuration is committed: everybody learns that, and who leads in it.
    pub(super) fn commit_config(&mut self, core: &mut Core, zxid: Zxid, payload: &Payload) {
        let Some(next) = core.proposed().cloned() else { return };
        let leader = self.leader_of(core, &next, zxid);
        for (link, learner) in self.learners.iter_mut().filter(|(_, l)| l.is_fed()) {
            let packet = match learner.kind {
                Kind::Follower => Packet::CommitAndActivate { zxid, leader },
                Kind::Observer => Packet::InformAndActivate { zxid, leader, payload: payload.clone() },
            };
            send(core, *link, learner, packet);
        }
        self.take_effect(core, next, leader);
    }

    fn take_effect(&mut self, core: &mut Core, next: Membership, leader: PeerId) {
        core.activate(next);
        if leader != core.me() {
            core.note(format!("server {} leads in the new configuration", leader.0));
            self.successor = Some(leader);
        }
    }

    /// This server if it votes in the new configuration and is found where it was, else whoever of its voters has the most.
    fn leader_of(&self, core: &Core, next: &Membership, zxid: Zxid) -> PeerId {
        let me = core.me();
        if next.leads_as_in(&core.config.membership, me) {
            return me;
        }
        let has_it = |l: &&Progress| l.kind == Kind::Follower && l.step >= Step::Synced && l.acked >= zxid && next.is_voter(l.peer);
        let candidates = self.learners.values().filter(has_it).map(|l| (l.acked, std::cmp::Reverse(l.peer)));
        candidates.max().map_or(me, |(_, std::cmp::Reverse(peer))| peer)
    }

    /// Whose lead this one ends for.
    pub fn successor(&self) -> Option<PeerId> {
        self.successor
    }
    /// Others lead, and everybody has been told: whoever followed has closed its link.
    pub fn check_retired(&self) -> Result<(), Leave> {
        match self.successor {
            Some(leader) if self.stage == Stage::Serving && !self.learners.values().any(Progress::is_fed) => Leave::for_successor(leader),
            _ => Ok(()),
        }
    }
    /// Counts the votes of those who are connected anew.
    pub fn recount(&mut self, core: &Core) {
        for learner in self.learners.values_mut().filter(|l| l.step > Step::Unknown) {
            learner.votes = learner.kind == Kind::Follower && core.is_voter(learner.peer);
        }
    }
}

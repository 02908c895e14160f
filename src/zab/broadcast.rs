//! Broadcast, as the leader does it: proposals to everybody who is fed, commits in order when a quorum has them on disk.

use super::core::Core;
use super::feed::send;
use super::input::LinkId;
use super::leader::{Leader, Refusal};
use super::message::{Packet, Payload};
use super::planted::Bug;
use super::progress::{Kind, Progress, Step};
use super::reconfig::proposed_in;
use crate::base::{SessionId, Zxid};

impl Leader {
    /// Broadcasts what the replica has appended to its log.
    pub fn propose(&mut self, core: &mut Core, zxid: Zxid, payload: Payload) {
        if let Some(membership) = proposed_in(&payload) {
            core.propose_config(membership);
        }
        let Some(pipeline) = &mut self.pipeline else { return };
        pipeline.push(zxid, payload.clone());
        core.local.append(zxid, payload.clone());
        self.overdue.sent(zxid, core.now);
        let skips_joiners = core.config.planted.has(Bug::JoinerMissesProposals);
        let is_told = |l: &Progress| l.is_fed() && l.kind == Kind::Follower && !(skips_joiners && l.step < Step::Serving);
        for (link, learner) in self.learners.iter_mut().filter(|(_, l)| is_told(l)) {
            send(core, *link, learner, Packet::Proposal { zxid, payload: payload.clone() });
            learner.sent = zxid;
            if learner.step == Step::Serving {
                learner.overdue.sent(zxid, core.now);
            }
        }
        self.bound_queues(core);
    }

    /// A learner has everything up to here on its disk.
    pub(super) fn acked(&mut self, core: &mut Core, link: LinkId, zxid: Zxid) -> Result<(), Refusal> {
        let learner = self.learners.get_mut(&link).ok_or("unknown link")?;
        if zxid.counter() == 0 {
            if zxid.epoch() != self.epoch {
                return Err("an ACK of another epoch");
            }
            // The second one, of UPTODATE, says nothing new.
            return if learner.step == Step::Syncing { self.synced(core, link) } else { Ok(()) };
        }
        if learner.step < Step::Serving || learner.kind == Kind::Observer || zxid > learner.sent {
            return Err("an ACK of what it was not asked for");
        }
        learner.acked = learner.acked.max(zxid);
        learner.overdue.acked(learner.acked, learner.sent, core.now);
        Ok(())
    }

    /// Commits what a quorum has, in order, and answers the syncs that waited for it.
    pub(super) fn commit_reached(&mut self, core: &mut Core) {
        while self.successor.is_none() && self.commit_up_to(core, self.reached(core)) {}
    }
    /// What a quorum has.
    fn reached(&self, core: &Core) -> Option<Zxid> {
        let (me, ours) = (core.me(), core.acknowledgeable());
        let has = |id| {
            if id == me { Some(ours) } else { self.voter(id).filter(|l| l.step >= Step::Synced).map(|l| l.acked) }
        };
        if core.config.planted.has(Bug::CommitWithoutQuorum) { Some(ours) } else { core.quorum.level(has) }
    }
    /// `true`: a configuration was committed on the way, and what comes behind it needs another quorum.
    fn commit_up_to(&mut self, core: &mut Core, reached: Option<Zxid>) -> bool {
        let (Some(reached), Some(pipeline)) = (reached, &mut self.pipeline) else { return false };
        let (mut committed, mut activated, mut told) = (None, None, None);
        let observed = self.learners.values().any(|l| l.is_fed() && l.kind == Kind::Observer);
        while let Some((zxid, payload)) = pipeline.commit_next(reached) {
            committed = Some(zxid);
            if core.proposed().is_some_and(|proposed| proposed.version == zxid.as_i64()) {
                activated = Some((zxid, payload));
                break;
            }
            told = Some((told.map_or(zxid, |(first, _)| first), zxid));
            for (link, learner) in self.learners.iter_mut().filter(|(_, l)| observed && l.is_fed() && l.kind == Kind::Observer) {
                send(core, *link, learner, Packet::Inform { zxid, payload: payload.clone() });
            }
        }
        if let Some((first, last)) = told {
            for (link, learner) in self.learners.iter_mut().filter(|(_, l)| l.is_fed() && l.kind == Kind::Follower) {
                send(core, *link, learner, Packet::commits(first, last));
            }
        }
        if let Some((zxid, payload)) = &activated {
            self.commit_config(core, *zxid, payload);
        }
        if let Some(zxid) = committed {
            core.commit(zxid);
            core.local.trim(core.config.tail_count_min, core.config.tail_bytes_max);
            self.answer_syncs(core);
            self.bound_queues(core);
        }
        activated.is_some()
    }

    /// The round of pings whose answers prove that nobody else leads now.
    pub fn confirm(&mut self, core: &mut Core) -> u64 {
        let (round, begins) = self.rounds.ask();
        if begins {
            self.ping_voters(core);
            self.confirmed(core);
        }
        round
    }
    fn ping_voters(&mut self, core: &mut Core) {
        let voters = self.learners.iter().filter(|(_, l)| l.votes && l.step == Step::Serving);
        let links: Vec<LinkId> = voters.map(|(link, _)| *link).collect();
        for link in links {
            self.ping(core, link);
        }
    }
    /// Whether a quorum has answered the round under way.
    pub(super) fn confirmed(&mut self, core: &mut Core) {
        loop {
            let me = core.me();
            let of = |id| if id == me { Some(u64::MAX) } else { self.voter(id).map(|l| l.confirmed) };
            let Some(round) = core.quorum.level(of) else { return };
            if !self.rounds.reached(round) {
                return self.answer_syncs(core);
            }
            self.ping_voters(core);
        }
    }
    /// Rounds up to this one are answered.
    pub fn last_confirmed(&self, core: &Core) -> u64 {
        if core.config.planted.has(Bug::SyncUnconfirmed) { u64::MAX } else { self.rounds.answered() }
    }
    /// Behind the commits they wait for.
    fn answer_syncs(&mut self, core: &mut Core) {
        let confirmed = self.last_confirmed(core);
        while let Some(link) = self.pipeline.as_mut().and_then(|pipeline| pipeline.due_sync(confirmed)) {
            core.send(link, Packet::Sync);
        }
    }

    /// A learner's sync, when everything it sent before has been proposed.
    pub fn sync_for(&mut self, core: &mut Core, link: LinkId) {
        if !self.learners.contains_key(&link) {
            return;
        }
        let round = self.confirm(core);
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.sync(link, round);
            self.answer_syncs(core);
        }
    }
    /// The replica's answer about a session.
    pub fn revalidated(&mut self, core: &mut Core, link: LinkId, session: SessionId, valid: bool) {
        if self.learners.contains_key(&link) {
            core.send(link, Packet::Revalidated { session, valid });
        }
    }
}

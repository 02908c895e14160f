//! Discovery, as the leader does it: a new epoch higher than any that a quorum has promised, and a quorum that promises it.
//! What is promised is on disk before it is said (L7, A24).

use super::core::{Core, PROTOCOL_VERSION};
use super::input::LinkId;
use super::leader::{Leader, Refusal, Stage};
use super::learner::{BEGINS, HAS_LOST_NOTHING, MAY_HAVE_LOST_ALL};
use super::message::{LearnerInfo, Packet};
use super::output::EpochFile;
use super::pipeline::Pipeline;
use super::planted::Bug;
use super::progress::{Kind, Progress, Step};
use super::quorum::Quorum;
use super::vote::ZXID_UNKNOWN;
use crate::base::Zxid;

/// The highest epoch that a learner may have promised, so that the next one still can be told: ACKEPOCH has room for no more, and votes are compared
/// as signed numbers. A learner beyond it is turned away.
pub(super) const EPOCH_MAX: u32 = i32::MAX as u32 - 1;
/// How far a learner's promise may be ahead of ours; one beyond it is turned away. Whoever knows the number of a member can speak for it here, and an epoch is
/// used up for ever: a stranger must not take all that are left at once. A leader that never served costs one, and days of such leaders do not get this far.
const EPOCH_JUMP_MAX: u32 = 1 << 20;

impl Leader {
    /// A learner says who it is.
    pub(super) fn greeted(&mut self, core: &mut Core, link: LinkId, told: Zxid, info: LearnerInfo, kind: Kind) -> Result<(), Refusal> {
        if self.relays && kind == Kind::Follower {
            return Err("observers are fed here, and followers only by the leader");
        }
        let peer = info
            .id
            .filter(|id| core.config.reconfig.enabled || core.config.membership.members.contains_key(id))
            .ok_or("it is no member of this ensemble")?;
        if peer == core.me() {
            return Err("it has our own id");
        }
        if info.protocol_version < PROTOCOL_VERSION {
            return Err("its protocol is older than ZAB 1.0");
        }
        if info.config_version > core.config.membership.version {
            return Err("it knows a newer configuration");
        }
        let accepted_epoch = told.epoch();
        if accepted_epoch > EPOCH_MAX {
            return Err("its epoch is beyond all bounds");
        }
        let ours = self.epoch.max(core.local.accepted_epoch());
        if accepted_epoch.saturating_sub(ours) > EPOCH_JUMP_MAX {
            return Err("its acceptedEpoch is too far ahead of ours to be one of this ensemble");
        }
        let older = self.learners.iter().find(|(_, l)| l.step > Step::Unknown && l.peer == peer).map(|(older, _)| *older);
        if let Some(older) = older {
            self.refuse(core, older, "it has connected anew");
        }
        let votes = kind == Kind::Follower && core.is_voter(peer);
        let learner = self.learners.get_mut(&link).ok_or("unknown link")?;
        learner.greeted(peer, kind, votes, accepted_epoch);
        learner.is_vouched = told.counter() == HAS_LOST_NOTHING;
        learner.is_in_doubt = told.counter() == MAY_HAVE_LOST_ALL;
        learner.cuts_wholly = told.counter() != 0;
        self.superseded |= votes && self.stage > Stage::Gathering && accepted_epoch > self.epoch;
        if self.stage >= Stage::Promising {
            self.tell(core, link);
        }
        Ok(())
    }

    /// Chooses the epoch once a quorum is here.
    pub(super) fn gather(&mut self, core: &mut Core) {
        let me = core.me();
        let counts = |id| id == me || self.member(id).is_some_and(|l| !may_have_forgotten(core, l));
        if !core.quorum.reached(counts) {
            return;
        }
        let promised = self.learners.values().map(|l| l.accepted_epoch).max().unwrap_or(0);
        self.epoch = promised.max(core.local.accepted_epoch()).saturating_add(1);
        self.establish_config(core);
        self.enter(core, Stage::Accepting);
        core.write_epoch(EpochFile::Accepted, self.epoch);
    }

    /// The epoch is on our disk: everybody who waits may know it.
    pub(super) fn tell_epoch(&mut self, core: &mut Core) {
        self.pipeline = Some(Pipeline::new(self.epoch, self.rank.1));
        let waiting: Vec<LinkId> = self.learners.iter().filter(|(_, l)| l.step == Step::Greeted).map(|(link, _)| *link).collect();
        for link in waiting {
            self.tell(core, link);
        }
    }
    fn tell(&mut self, core: &mut Core, link: LinkId) {
        let Some(learner) = self.learners.get_mut(&link) else { return };
        learner.step = Step::Told;
        learner.deadline = Some(core.now.plus_ms(core.init_ms()));
        let begins = learner.is_in_doubt && self.rank == (0, Zxid::ZERO);
        let zxid = Zxid::new(self.epoch, if begins { BEGINS } else { 0 });
        core.send(link, Packet::LeaderInfo { zxid, protocol_version: PROTOCOL_VERSION });
    }

    /// A learner promises the epoch, and tells its history.
    pub(super) fn promised(&mut self, core: &mut Core, link: LinkId, last: Zxid, current_epoch: Option<i32>) -> Result<(), Refusal> {
        let established = self.stage > Stage::Promising;
        let learner = self.learners.get_mut(&link).ok_or("unknown link")?;
        // A follower without a vote may have what was proposed to make it a voter and is lost: no quorum has it.
        let has_a_say = learner.votes || learner.kind == Kind::Observer;
        if let Some(epoch) = current_epoch
            && !established
            && has_a_say
            && last != ZXID_UNKNOWN
            && (i64::from(epoch), last) > (i64::from(self.rank.0), self.rank.1)
        {
            // Whoever only is to vote cannot lead instead: it waits for what the others say of the rest of its history.
            let may_lead = core.config.membership.is_voter(learner.peer) || learner.kind == Kind::Observer;
            if may_lead || i64::from(epoch) != i64::from(self.rank.0) {
                return Err("it has more history than we have");
            }
            learner.is_ahead = true;
        }
        learner.promise = (last, current_epoch);
        learner.step = Step::Promised;
        learner.deadline = None;
        if self.stage >= Stage::Syncing {
            self.feed(core, link);
        }
        Ok(())
    }

    /// Takes the epoch as that of our history, once a quorum has promised it.
    pub(super) fn adopt(&mut self, core: &mut Core) {
        let takes_ahead = self.learners.values().any(|l| l.is_ahead) && self.more_is_lost(core);
        let counts = |id| id == core.me() || self.member(id).is_some_and(|l| self.tells_history(core, l) && (takes_ahead || !l.is_ahead));
        if core.quorum.reached(counts) {
            self.enter(core, Stage::Adopting);
            core.write_epoch(EpochFile::Current, self.epoch);
        }
    }
    /// It has promised, and said what it has: all that it ever had.
    fn tells_history(&self, core: &Core, l: &Progress) -> bool {
        let tells_history = l.promise.1.is_some() && l.promise.0 != ZXID_UNKNOWN;
        // Wiped, it may have promised an epoch since, and left its leader before it was brought up to date: it has nothing, or that one's image,
        // and no epoch of a history that would make it more than ours (a restart finds one in the image). That is all it may have had only where no
        // ensemble has had a leader: that we have logged nothing ourselves does not say that nobody has. Java servers do not say whether they are in doubt.
        let may_have_had_more = self.rank.1.epoch() > 0 || self.rank.0 > 0 && l.is_in_doubt;
        let has_nothing = l.promise.1 == Some(0) && !l.is_vouched && may_have_had_more;
        let forgot = may_have_forgotten(core, l) || has_nothing && !core.config.planted.has(Bug::WipedServerCounts);
        l.step >= Step::Promised && tells_history && !forgot
    }
    /// Is it certain that nothing was committed of what those have beyond our history who are only to vote? They have the epoch of our history,
    /// and so that history itself. Whoever lacks the rest of it has promised our epoch, and will not acknowledge it any more. Up to the change of members it
    /// takes a quorum of those in force, behind it one of the new ones: and to get there, both.
    fn more_is_lost(&self, core: &Core) -> bool {
        let Some(proposed) = core.proposed() else { return false };
        let (active, next) = (core.config.membership.quorum(), proposed.quorum());
        let ends_below = |id, end| {
            let of = |l: &Progress| self.tells_history(core, l) && !l.is_ahead && l.promise.0 < end;
            if id == core.me() { self.rank.1 < end } else { self.member(id).is_some_and(of) }
        };
        let beyond = Zxid(self.rank.1.0.saturating_add(1));
        let change = Zxid::from_i64(proposed.version);
        let is_blocked = |quorum: &Quorum, end| !quorum.reached(|id| !ends_below(id, end));
        let never_in_force = is_blocked(&active, change) || is_blocked(&next, change);
        is_blocked(&active, beyond) && (never_in_force || is_blocked(&next, beyond))
    }
}

/// A voter that has never promised anything, in an ensemble that has had a leader: as far as we can know its disk was wiped, and with it
/// what it had acknowledged. It is brought up to date like everybody, but does not help to decide what the history is (L21), unless its operator
/// vouches that there was nothing.
fn may_have_forgotten(core: &Core, learner: &Progress) -> bool {
    learner.accepted_epoch == 0 && !learner.is_vouched && core.local.current_epoch() > 0 && !core.config.planted.has(Bug::WipedServerCounts)
}

//! Discovery, as the leader does it: a new epoch higher than any that a quorum has promised, and a quorum that promises it.
//! What is promised is on disk before it is said (L7, A24).

use super::core::{Core, PROTOCOL_VERSION};
use super::input::LinkId;
use super::leader::{Leader, Refusal, Stage};
use super::message::{LearnerInfo, Packet};
use super::output::EpochFile;
use super::pipeline::Pipeline;
use super::planted::Bug;
use super::progress::{Kind, Step};
use super::vote::ZXID_UNKNOWN;
use crate::base::Zxid;

/// ACKEPOCH has room for no more, and votes are compared as signed numbers.
const EPOCH_MAX: u32 = i32::MAX as u32 - 1;

impl Leader {
    /// A learner says who it is.
    pub(super) fn greeted(
        &mut self,
        core: &mut Core,
        link: LinkId,
        accepted_epoch: u32,
        info: LearnerInfo,
        kind: Kind,
    ) -> Result<(), Refusal> {
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
        if accepted_epoch > EPOCH_MAX {
            return Err("its epoch is beyond all bounds");
        }
        let older = self.learners.iter().find(|(_, l)| l.step > Step::Unknown && l.peer == peer).map(|(older, _)| *older);
        if let Some(older) = older {
            self.refuse(core, older, "it has connected anew");
        }
        let votes = kind == Kind::Follower && core.is_voter(peer);
        let learner = self.learners.get_mut(&link).ok_or("unknown link")?;
        learner.greeted(peer, kind, votes, accepted_epoch);
        self.superseded |= votes && self.stage > Stage::Gathering && accepted_epoch > self.epoch;
        if self.stage >= Stage::Promising {
            self.tell(core, link);
        }
        Ok(())
    }

    /// Chooses the epoch once a quorum is here.
    pub(super) fn gather(&mut self, core: &mut Core) {
        let me = core.me();
        let counts = |id| id == me || self.member(id).is_some_and(|l| !may_have_forgotten(core, l.accepted_epoch));
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
        core.send(link, Packet::LeaderInfo { zxid: Zxid::new(self.epoch, 0), protocol_version: PROTOCOL_VERSION });
    }

    /// A learner promises the epoch, and tells its history.
    pub(super) fn promised(&mut self, core: &mut Core, link: LinkId, last: Zxid, current_epoch: Option<i32>) -> Result<(), Refusal> {
        let established = self.stage > Stage::Promising;
        let learner = self.learners.get_mut(&link).ok_or("unknown link")?;
        if let Some(epoch) = current_epoch
            && !established
            && last != ZXID_UNKNOWN
            && (i64::from(epoch), last) > (i64::from(self.rank.0), self.rank.1)
        {
            return Err("it has more history than we have");
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
        let me = core.me();
        let counts = |id| {
            id == me
                || self.member(id).is_some_and(|l| {
                    let tells_history = l.promise.1.is_some() && l.promise.0 != ZXID_UNKNOWN;
                    // Wiped, it may have promised an epoch since, and stopped before it was brought up to date: nothing is what it has,
                    // and nothing is what it may have had only where no ensemble has logged anything.
                    let has_nothing = l.promise == (Zxid::ZERO, Some(0)) && self.rank.1.epoch() > 0;
                    let forgot =
                        may_have_forgotten(core, l.accepted_epoch) || has_nothing && !core.config.planted.has(Bug::WipedServerCounts);
                    l.step >= Step::Promised && tells_history && !forgot
                })
        };
        if core.quorum.reached(counts) {
            self.enter(core, Stage::Adopting);
            core.write_epoch(EpochFile::Current, self.epoch);
        }
    }
}

/// A voter that has never promised anything, in an ensemble that has had a leader: as far as we can know its disk was wiped, and with it
/// what it had acknowledged. It is brought up to date like everybody, but does not help to decide what the history is (L21).
fn may_have_forgotten(core: &Core, accepted_epoch: u32) -> bool {
    accepted_epoch == 0 && core.local.current_epoch() > 0 && !core.config.planted.has(Bug::WipedServerCounts)
}

//! A leader's outstanding proposals: broadcast, not yet committed. Committed strictly in order, and no zxid twice (A15).

use super::input::LinkId;
use super::message::Payload;
use super::tail::follows;
use crate::base::Zxid;
use std::collections::VecDeque;

/// The last counter given to a proposal. The one after it is the sign, in ZooKeeper, that a new epoch is needed.
const COUNTER_MAX: u32 = u32::MAX - 1;

/// Proposals in flight, and the syncs that wait for them.
#[derive(Debug)]
pub struct Pipeline {
    /// The end of what is committed: at first the end of the history of earlier epochs.
    committed: Zxid,
    /// The last zxid given; the epoch with counter 0 before the first.
    last: Zxid,
    outstanding: VecDeque<(Zxid, Payload)>,
    /// What must be committed and which round of confirmation be answered before the sync is, and who waits.
    syncs: VecDeque<(Zxid, u64, LinkId)>,
}

impl Pipeline {
    /// Of this epoch, on a history that ends at `end`.
    pub fn new(epoch: u32, end: Zxid) -> Pipeline {
        assert!(end < Zxid::new(epoch, 1), "history up to {end} in epoch {epoch}");
        Pipeline { committed: end, last: Zxid::new(epoch, 0), outstanding: VecDeque::new(), syncs: VecDeque::new() }
    }
    /// Of a follower that hands on what its leader has committed: up to here.
    pub fn relayed(epoch: u32, committed: Zxid) -> Pipeline {
        let last = committed.max(Zxid::new(epoch, 0));
        Pipeline { committed, last, outstanding: VecDeque::new(), syncs: VecDeque::new() }
    }
    /// The same, further on.
    pub fn relay_to(&mut self, zxid: Zxid) {
        assert!(zxid > self.committed, "commit of {zxid} after {}", self.committed);
        (self.last, self.committed) = (zxid, zxid);
    }
    /// Committed up to here.
    pub fn committed(&self) -> Zxid {
        self.committed
    }
    /// The last zxid proposed.
    pub fn last(&self) -> Zxid {
        self.last
    }
    /// Oldest first.
    pub fn outstanding(&self) -> impl Iterator<Item = &(Zxid, Payload)> {
        self.outstanding.iter()
    }
    /// The next zxid; `None` when the counter is used up.
    pub fn next(&self) -> Option<Zxid> {
        self.last.next().filter(|zxid| zxid.counter() <= COUNTER_MAX)
    }
    /// Puts a proposal in.
    pub fn push(&mut self, zxid: Zxid, payload: Payload) {
        assert!(self.next() == Some(zxid) && follows(self.last, zxid), "proposal {zxid} after {}", self.last);
        self.last = zxid;
        self.outstanding.push_back((zxid, payload));
    }
    /// Commits the oldest proposal if the quorum has reached it.
    pub fn commit_next(&mut self, reached: Zxid) -> Option<(Zxid, Payload)> {
        let (zxid, payload) = self.outstanding.pop_front_if(|(zxid, _)| *zxid <= reached)?;
        assert!(zxid > self.committed, "commit of {zxid} after {}", self.committed);
        self.committed = zxid;
        Some((zxid, payload))
    }
    /// A learner's sync, behind everything proposed, and this round of confirmation.
    pub fn sync(&mut self, from: LinkId, round: u64) {
        let behind = self.outstanding.back().map_or(self.committed, |(zxid, _)| *zxid);
        self.syncs.push_back((behind, round, from));
    }
    /// The next sync that waits for nothing any more, when these rounds are answered.
    pub fn due_sync(&mut self, confirmed: u64) -> Option<LinkId> {
        let committed = self.committed;
        self.syncs.pop_front_if(|(behind, round, _)| *behind <= committed && *round <= confirmed).map(|(.., link)| link)
    }
    /// Forgets the syncs of a learner that is gone.
    pub fn forget(&mut self, link: LinkId) {
        self.syncs.retain(|(.., from)| *from != link);
    }
    /// As if everything before had been proposed and committed.
    #[cfg(test)]
    pub fn skip_to(&mut self, zxid: Zxid) {
        (self.last, self.committed) = (zxid, zxid);
    }
    /// Syncs that wait.
    pub fn pending_syncs(&self) -> usize {
        self.syncs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload() -> Payload {
        Payload::from(vec![1])
    }
    fn filled() -> Pipeline {
        let mut pipeline = Pipeline::new(2, Zxid::new(1, 7));
        for counter in 1..=3 {
            pipeline.push(Zxid::new(2, counter), payload());
        }
        pipeline
    }

    #[test]
    fn commits_come_in_order_up_to_what_the_quorum_has() {
        let mut pipeline = filled();
        let mut committed = |reached| {
            let mut zxids = Vec::new();
            while let Some((zxid, _)) = pipeline.commit_next(reached) {
                zxids.push(zxid.counter());
            }
            zxids
        };
        assert_eq!(committed(Zxid::new(1, 9)), Vec::<u32>::new());
        assert_eq!(committed(Zxid::new(2, 2)), [1, 2]);
        assert_eq!(committed(Zxid::new(2, 1)), Vec::<u32>::new());
        assert_eq!(committed(Zxid::new(2, 3)), [3]);
    }
    #[test]
    #[should_panic(expected = "proposal 0x200000003 after 0x200000003")]
    fn no_zxid_is_proposed_twice_a15() {
        filled().push(Zxid::new(2, 3), payload());
    }
    #[test]
    fn the_last_counter_of_an_epoch_is_never_given() {
        let mut pipeline = Pipeline::new(2, Zxid::ZERO);
        pipeline.last = Zxid::new(2, u32::MAX - 2);
        assert_eq!(pipeline.next(), Some(Zxid::new(2, u32::MAX - 1)));
        pipeline.push(Zxid::new(2, u32::MAX - 1), payload());
        assert_eq!(pipeline.next(), None);
    }
    #[test]
    fn a_sync_waits_for_what_was_proposed_before_it_and_for_its_round() {
        let mut pipeline = filled();
        pipeline.sync(LinkId(1), 1);
        pipeline.push(Zxid::new(2, 4), payload());
        pipeline.sync(LinkId(2), 2);
        pipeline.sync(LinkId(3), 2);
        for _ in 0..2 {
            assert!(pipeline.commit_next(Zxid::new(2, 4)).is_some());
            assert_eq!(pipeline.due_sync(9), None);
        }
        assert!(pipeline.commit_next(Zxid::new(2, 4)).is_some());
        assert_eq!(pipeline.due_sync(0), None, "it may have been another leader's time already");
        assert_eq!((pipeline.due_sync(9), pipeline.due_sync(9)), (Some(LinkId(1)), None));
        pipeline.forget(LinkId(2));
        assert!(pipeline.commit_next(Zxid::new(2, 4)).is_some());
        assert_eq!((pipeline.due_sync(2), pipeline.due_sync(2)), (Some(LinkId(3)), None));
        pipeline.sync(LinkId(4), 3);
        assert_eq!((pipeline.due_sync(2), pipeline.due_sync(3)), (None, Some(LinkId(4))), "nothing is outstanding");
    }
}

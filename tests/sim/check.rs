//! The promises, checked against what really happened.

use super::disk::Entry;
use std::collections::BTreeMap;
use zoo::base::{PeerId, Zxid};
use zoo::zab::Membership;
use zoo::zab::reconfig::proposed_in;

/// What is known of the ensemble as a whole.
#[derive(Default)]
pub struct Checker {
    /// Everything any server has published as committed, in order.
    pub committed: Vec<Entry>,
    leaders: BTreeMap<u32, PeerId>,
    proposed: BTreeMap<Zxid, u64>,
    proposals: u64,
    /// A configuration that has just been committed.
    pub membership: Option<Membership>,
}

impl Checker {
    /// A leader invents a transaction.
    pub fn proposal(&mut self, zxid: Zxid) -> Vec<u8> {
        self.proposals += 1;
        let twice = self.proposed.insert(zxid, self.proposals);
        // Another leader cannot use the same epoch, so no zxid is ever given to two transactions.
        assert_eq!(twice, None, "{zxid} is proposed twice (A15)");
        self.proposals.to_be_bytes().to_vec()
    }
    /// A server shows its clients the first `count` of its history.
    pub fn published(&mut self, who: PeerId, history: &[Entry], count: usize) {
        for (n, entry) in history[..count].iter().enumerate().skip(self.committed.len().min(count).saturating_sub(8)) {
            match self.committed.get(n) {
                Some(known) => assert_eq!(known, entry, "server {who:?} published something else than others did (P1)"),
                None => {
                    let (zxid, payload) = entry;
                    let number = u64::from_be_bytes(payload[..8].try_into().expect("eight bytes"));
                    assert_eq!(self.proposed.get(zxid), Some(&number), "server {who:?} published what nobody proposed");
                    assert!(self.committed.last().is_none_or(|(last, _)| last < zxid), "{zxid} after {:?}", self.committed.last());
                    self.committed.push(entry.clone());
                    self.membership = proposed_in(payload).or(self.membership.take());
                }
            }
        }
    }
    /// A server takes up leadership: with everything that is committed, but for what a later leader has added. Whoever follows that one already may
    /// have acknowledged this one's history before, and the acknowledgement have been under way for long; nobody of those acknowledges more.
    pub fn leads(&mut self, who: PeerId, epoch: u32, history: &[Entry]) {
        let first = *self.leaders.entry(epoch).or_insert(who);
        assert_eq!(first, who, "two leaders of epoch {epoch}");
        let before = self.committed.partition_point(|(zxid, _)| zxid.epoch() <= epoch);
        assert!(history.len() >= before, "leader {who:?} of epoch {epoch} lacks what is committed (P3)");
        assert!(
            history.len() == before || self.committed.len() == before,
            "leader {who:?} of epoch {epoch} has more than a later one took over (P3)"
        );
        for (known, own) in self.committed.iter().zip(history) {
            assert_eq!(own, known, "leader {who:?} of epoch {epoch} has another history (P3)");
        }
    }
    /// Everything committed anywhere when a sync was asked is here when it is answered (P9, B3).
    pub fn synced(&self, who: PeerId, asked: Option<Zxid>, applied: Zxid) {
        assert!(asked.is_none_or(|asked| asked <= applied), "server {who:?}: sync answered at {applied} instead of {asked:?} (P9)");
    }
    /// The last of these that is committed.
    pub fn last_in(&self, history: &[Entry]) -> Zxid {
        let is_committed = |zxid: &Zxid| self.committed.binary_search_by_key(zxid, |(at, _)| *at).is_ok();
        history.iter().rev().map(|(zxid, _)| *zxid).find(is_committed).unwrap_or(Zxid::ZERO)
    }
    /// Epochs that had a leader.
    pub fn epochs(&self) -> usize {
        self.leaders.len()
    }
    pub fn last_committed(&self) -> Zxid {
        self.committed.last().map_or(Zxid::ZERO, |(last, _)| *last)
    }
}

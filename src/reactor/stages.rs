//! Where the time of a write goes between the turn that prepared it and its publication: into our own log, then to a quorum.

use crate::base::{Instant, Zxid};
use crate::handoff::Passed;
use std::collections::VecDeque;

/// Turns in which transactions were prepared (a learner: appended) that are not published. Oldest first.
#[derive(Debug, Default)]
pub struct Stages {
    turns: VecDeque<Turn>,
    /// So many of them are durable here.
    durable: usize,
}

#[derive(Debug)]
struct Turn {
    /// Its last transaction.
    last: Zxid,
    prepared: Instant,
    /// When it was known to be durable here.
    durable: Option<Instant>,
}

impl Stages {
    /// The history ends at `head` now; everything up to `published` is published.
    pub fn prepared(&mut self, now: Instant, head: Zxid, published: Zxid) {
        // History may have been cut.
        while self.turns.pop_back_if(|turn| turn.last > head).is_some() {}
        self.durable = self.durable.min(self.turns.len());
        if self.turns.back().map_or(published, |turn| turn.last) < head {
            self.turns.push_back(Turn { last: head, prepared: now, durable: None });
        }
    }

    /// Our log is on the disk up to `zxid`.
    pub fn durable(&mut self, now: Instant, zxid: Zxid) {
        let newly = self.turns.iter_mut().skip(self.durable).take_while(|turn| turn.last <= zxid);
        self.durable += newly.map(|turn| turn.durable = Some(now)).count();
    }

    /// What is published now ends at `last`.
    pub fn published(&mut self, now: Instant, last: Zxid) -> Option<Passed> {
        let oldest = self.turns.front()?;
        let passed = Passed { prepared: oldest.prepared, durable: oldest.durable.unwrap_or(now), published: now };
        while self.turns.pop_front_if(|turn| turn.last <= last).is_some() {
            self.durable = self.durable.saturating_sub(1);
        }
        Some(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Instant {
        Instant(us * 1_000)
    }

    fn passed(prepared: u64, durable: u64, published: u64) -> Option<Passed> {
        Some(Passed { prepared: at(prepared), durable: at(durable), published: at(published) })
    }

    #[test]
    fn a_group_takes_what_its_oldest_transaction_took_in_each_stage() {
        let mut stages = Stages::default();
        stages.prepared(at(10), Zxid(2), Zxid(0));
        stages.prepared(at(20), Zxid(2), Zxid(0)); // a turn that prepared nothing
        stages.prepared(at(30), Zxid(4), Zxid(0));
        stages.durable(at(100), Zxid(3));
        stages.durable(at(150), Zxid(4));
        assert_eq!(stages.published(at(400), Zxid(2)), passed(10, 100, 400));
        let last = stages.published(at(500), Zxid(4));
        assert_eq!(last, passed(30, 150, 500));
        assert_eq!(last.map(|last| (last.log_us(), last.quorum_us())), Some((120, 350)));
        assert_eq!(stages.published(at(600), Zxid(4)), None);
    }

    #[test]
    fn what_is_published_before_the_disk_has_answered_spent_all_its_time_on_the_log() {
        let mut stages = Stages::default();
        stages.prepared(at(10), Zxid(1), Zxid(0));
        assert_eq!(stages.published(at(25), Zxid(1)), passed(10, 25, 25));
    }

    #[test]
    fn what_was_cut_off_the_history_is_forgotten() {
        let mut stages = Stages::default();
        stages.prepared(at(10), Zxid(1), Zxid(0));
        stages.prepared(at(20), Zxid(5), Zxid(0));
        stages.durable(at(30), Zxid(5));
        stages.prepared(at(40), Zxid(1), Zxid(0));
        stages.prepared(at(50), Zxid(7), Zxid(0));
        stages.durable(at(60), Zxid(7));
        assert_eq!(stages.published(at(70), Zxid(1)), passed(10, 30, 70));
        assert_eq!(stages.published(at(80), Zxid(7)), passed(50, 60, 80));
    }
}

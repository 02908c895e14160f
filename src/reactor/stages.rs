//! Where the time of a write goes between the turn that prepared it and its publication: into our own log, then to a quorum.

use crate::base::{Instant, Zxid};
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

/// What the oldest transaction of a group took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Took {
    /// Until it was in our log on the disk, µs.
    pub log_us: u64,
    /// From then on until it could be published, µs: standing alone nothing but the turn, in an ensemble the quorum.
    pub quorum_us: u64,
}

impl Took {
    /// Both.
    pub fn total_us(self) -> u64 {
        self.log_us + self.quorum_us
    }
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
    pub fn published(&mut self, now: Instant, last: Zxid) -> Option<Took> {
        let oldest = self.turns.front()?;
        let durable = oldest.durable.unwrap_or(now);
        let took = Took { log_us: durable.since_ns(oldest.prepared) / 1000, quorum_us: now.since_ns(durable) / 1000 };
        while self.turns.pop_front_if(|turn| turn.last <= last).is_some() {
            self.durable = self.durable.saturating_sub(1);
        }
        Some(took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Instant {
        Instant(us * 1_000)
    }

    #[test]
    fn a_group_takes_what_its_oldest_transaction_took_in_each_stage() {
        let mut stages = Stages::default();
        stages.prepared(at(10), Zxid(2), Zxid(0));
        stages.prepared(at(20), Zxid(2), Zxid(0)); // a turn that prepared nothing
        stages.prepared(at(30), Zxid(4), Zxid(0));
        stages.durable(at(100), Zxid(3));
        stages.durable(at(150), Zxid(4));
        assert_eq!(stages.published(at(400), Zxid(2)), Some(Took { log_us: 90, quorum_us: 300 }));
        let last = stages.published(at(500), Zxid(4)).expect("one is left");
        assert_eq!((last, last.total_us()), (Took { log_us: 120, quorum_us: 350 }, 470));
        assert_eq!(stages.published(at(600), Zxid(4)), None);
    }

    #[test]
    fn what_is_published_before_the_disk_has_answered_spent_all_its_time_on_the_log() {
        let mut stages = Stages::default();
        stages.prepared(at(10), Zxid(1), Zxid(0));
        assert_eq!(stages.published(at(25), Zxid(1)), Some(Took { log_us: 15, quorum_us: 0 }));
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
        assert_eq!(stages.published(at(70), Zxid(1)), Some(Took { log_us: 20, quorum_us: 40 }));
        assert_eq!(stages.published(at(80), Zxid(7)), Some(Took { log_us: 10, quorum_us: 20 }));
    }
}

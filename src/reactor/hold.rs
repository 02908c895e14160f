//! When the next flush may begin: whoever was answered and asks again at once should be in it.
//!
//! Clients that wait for each answer would otherwise fall into groups, each of which waits for the flush of another and then for its own. So after
//! something was published a flush waits for one round of the executor, counted from when there was something to flush: not if that is later
//! than a flush takes, nor if as many have asked as were answered.

use crate::base::{Instant, Zxid};
use std::time::Duration;

/// What is known since the last answers.
#[derive(Debug, Default)]
pub struct Hold {
    /// The history's end when they were given.
    from: Zxid,
    /// How many may ask again; 0: no flush has to wait.
    awaited: u64,
    given: Instant,
    /// Nobody is waited for longer than a flush takes, and this is what the last one took.
    patience: Duration,
}

impl Hold {
    /// A flush has taken this long.
    pub fn flushed(&mut self, took: Duration) {
        self.patience = took;
    }

    /// So many are answered now; the history ends at `head`.
    pub fn answered(&mut self, now: Instant, head: Zxid, count: usize) {
        (self.given, self.from, self.awaited) = (now, head, count as u64);
    }

    /// A flush that could have begun has waited for a round: it waits no longer.
    pub fn waited(&mut self) {
        self.awaited = 0;
    }

    /// A flush would have to wait. The history ends at `head`.
    pub fn lasts(&mut self, now: Instant, head: Zxid) -> bool {
        let asked = head.0.saturating_sub(self.from.0);
        if asked >= self.awaited || u128::from(now.since_ns(self.given)) > self.patience.as_nanos() {
            self.awaited = 0;
        }
        self.awaited > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Instant {
        Instant(us * 1_000)
    }
    fn after_three_answers() -> Hold {
        let mut hold = Hold::default();
        assert!(!hold.lasts(at(0), Zxid(5)), "nobody was answered");
        hold.flushed(Duration::from_micros(100));
        hold.answered(at(10), Zxid(5), 3);
        hold
    }

    #[test]
    fn a_flush_waits_until_all_have_asked_again() {
        let mut hold = after_three_answers();
        assert!(hold.lasts(at(10), Zxid(5)) && hold.lasts(at(20), Zxid(7)));
        assert!(!hold.lasts(at(20), Zxid(8)));
        assert!(!hold.lasts(at(21), Zxid(8)), "and the one after it does not");
    }

    #[test]
    fn a_flush_waits_for_one_round() {
        let mut hold = after_three_answers();
        assert!(hold.lasts(at(20), Zxid(6)));
        hold.waited();
        assert!(!hold.lasts(at(20), Zxid(6)));
    }

    #[test]
    fn a_flush_that_comes_later_than_one_takes_does_not_wait() {
        let mut hold = after_three_answers();
        assert!(hold.lasts(at(110), Zxid(6)));
        assert!(!hold.lasts(at(111), Zxid(6)));
    }

    #[test]
    fn a_client_alone_never_waits() {
        let mut hold = Hold::default();
        hold.flushed(Duration::from_micros(100));
        hold.answered(at(10), Zxid(5), 1);
        assert!(!hold.lasts(at(11), Zxid(6)));
    }
}

//! Notices that this process stood still: stopped by a signal, swapped out, on a suspended machine (rule A17).
//!
//! While it did, clients went on: what they sent lies in sockets, and those that lost their connection wait to be accepted. None of that is
//! known yet when the first timer fires afterwards, so a standstill counts as a restart: the timers of all sessions start afresh.

use crate::base::Instant;

/// How often the clock is looked at while there are sessions, whatever else happens; more often where sessions may be short.
const LOOK_MS_MIN: u64 = 100;
const LOOK_MS_MAX: u64 = 500;
/// Looks in the shortest session timeout.
const LOOKS_PER_TIMEOUT: u64 = 4;
/// A gap of more than so many looks is a standstill. A shorter one costs a client less than half of the shortest timeout.
const STANDSTILL_LOOKS: u64 = 2;

/// When the clock was last looked at.
pub(super) struct Pauses {
    looked: Instant,
    look_ms: u64,
}

impl Pauses {
    pub(super) fn new(min_session_timeout_ms: i32, now: Instant) -> Self {
        let look_ms = (min_session_timeout_ms.max(0) as u64 / LOOKS_PER_TIMEOUT).clamp(LOOK_MS_MIN, LOOK_MS_MAX);
        Pauses { looked: now, look_ms }
    }

    /// Looks; true when nobody has looked for too long. To be asked before anything is done about the time.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        let gap_ms = now.since_ms(self.looked);
        self.looked = self.looked.max(now);
        gap_ms > STANDSTILL_LOOKS * self.look_ms
    }

    /// When to look at the latest.
    pub(super) fn next_look(&self) -> Instant {
        self.looked.plus_ms(self.look_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gap_of_more_than_two_looks_is_a_standstill() {
        let at = |ms| Instant(0).plus_ms(ms);
        let mut pauses = Pauses::new(4_000, at(0));
        assert_eq!(pauses.next_look(), at(500));
        assert!(!pauses.look(at(500)) && !pauses.look(at(1_500)));
        assert!(pauses.look(at(2_501)));
        assert!(!pauses.look(at(2_600)), "said once");
        assert!(!pauses.look(at(2_000)) && !pauses.look(at(3_600)), "a turn that began before another one says nothing");
        assert_eq!(Pauses::new(0, at(0)).next_look(), at(LOOK_MS_MIN));
    }
}

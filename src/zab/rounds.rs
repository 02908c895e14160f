//! Certainty of leading (B3): rounds of pings, one after the other.
//!
//! A sync may be answered only if nobody else led when it was asked: what another leader had committed by then would be missing. No clock can
//! prove that: a follower which starts anew has forgotten what its answers promised, and helps the next leader to its quorum at once. So a
//! ping goes to all voters after the sync has come. Who answers it follows still; another leader would have needed a quorum that had left, and
//! two quorums have a voter in common. One round serves every sync that came before it began, and while one is under way all that come wait for
//! the next: the cost is one round trip, or two.

/// Counts them. Nothing is proven by round 0.
#[derive(Debug, Default)]
pub struct Rounds {
    begun: u64,
    answered: u64,
    /// Somebody waits for the one after `begun`.
    is_next_wanted: bool,
}

impl Rounds {
    /// The round that proves that nobody else leads now, and whether it begins now.
    pub fn ask(&mut self) -> (u64, bool) {
        let begins = self.answered == self.begun;
        if begins {
            self.begun += 1;
        } else {
            self.is_next_wanted = true;
        }
        (self.begun + u64::from(self.is_next_wanted), begins)
    }
    /// The one under way, which every ping belongs to.
    #[must_use]
    pub const fn begun(&self) -> u64 {
        self.begun
    }
    /// The last one that a quorum has answered.
    #[must_use]
    pub const fn answered(&self) -> u64 {
        self.answered
    }
    /// A quorum has answered pings up to this round. True: the next one begins.
    pub fn reached(&mut self, round: u64) -> bool {
        self.answered = self.answered.max(round.min(self.begun));
        let begins = self.answered == self.begun && std::mem::take(&mut self.is_next_wanted);
        self.begun += u64::from(begins);
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_during_a_round_waits_for_one_more_and_all_of_it_for_the_same() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.ask(), (1, true));
        assert_eq!((rounds.ask(), rounds.ask()), ((2, false), (2, false)));
        assert!(!rounds.reached(0));
        assert_eq!(rounds.answered(), 0);
        assert!(rounds.reached(1), "the second begins");
        assert_eq!((rounds.begun(), rounds.answered()), (2, 1));
        assert_eq!(rounds.ask(), (3, false));
        assert!(rounds.reached(u64::MAX) && !rounds.reached(2));
        assert!(!rounds.reached(u64::MAX), "nobody waits for a fourth");
        assert_eq!((rounds.begun(), rounds.answered()), (3, 3));
        assert_eq!(rounds.ask(), (4, true));
    }
}

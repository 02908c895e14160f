//! How many connections a server closes because it has more than its share of the ensemble's; their clients go on elsewhere.
//!
//! Where those arrive is not ours to say: a client tries the next server of its list. So it goes in rounds. A round is based on what was published of
//! all servers at one time and closes at most what is too much by that, at a bounded rate, and never below the share. The next one begins when the clients
//! have had the time to arrive, with newer numbers. As only those above the tolerance give, and never more than they have too much, it comes to rest.
//!
//! Clients that cannot go elsewhere (one server in their list) come back, or go to and fro between those they know. A round after which the ensemble is
//! hardly more even than it was before has failed; after each in a row the pause is twice as long.

use super::strategy::{Counts, Pace};

/// For how long after the last close clients are on their way. Until then nothing new is decided, and what was published may count some of them nowhere.
const SETTLE_MS: u64 = 3_000;
/// For how long the ensemble is taken to have as many connections as it once had, though fewer are published: some may be on their way.
const ON_THE_WAY_MS: u64 = 15_000;
/// The pause after a round that has brought nothing; doubled with each in a row.
const PAUSE_MS: u64 = 10_000;
const DOUBLINGS_MAX: u32 = 6;
/// A round that makes the ensemble more even than it ever was by less than this part of what it has closed (a quarter) has failed.
const PART_MIN: u64 = 4;
/// How long it is remembered how even the ensemble was: it has become another one since.
const BEST_MS: u64 = 3_600_000;
/// Nobody is disturbed for less.
const EXCESS_MIN: u64 = 2;

/// What is known at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The moment.
    pub now_ms: u64,
    /// What is published of all servers.
    pub counts: &'a Counts,
    /// Which publication that is: another one has another number.
    pub publication: i64,
    /// Which of the servers this one is.
    pub own: i64,
    /// What it has now.
    pub connections: u32,
    /// What it has closed so far; only grows.
    pub closed: u64,
}

/// Decides what one server closes.
#[derive(Debug, Default)]
pub struct Shedder {
    round: Option<Round>,
    /// What the last round that closed something has to be measured by.
    trial: Option<Trial>,
    /// The least that one server had too much after a round, and when; `None` once nobody has.
    best: Option<(u64, u64)>,
    /// Rounds in a row that have failed.
    failures: u32,
    not_before_ms: u64,
    /// The most connections that were published lately, and when.
    total: (u64, u64),
    last_close_ms: Option<u64>,
    closed: u64,
    allowance: Allowance,
}

#[derive(Clone, Copy, Debug)]
struct Round {
    publication: i64,
    share: u64,
    left: u64,
}

/// The state of the ensemble before a round, and what that has closed.
#[derive(Clone, Copy, Debug)]
struct Trial {
    spread: u64,
    closed: u64,
}

impl Shedder {
    /// How many connections to close now, at most; to be asked a few times a second. What it says is forgotten if it is not done.
    pub fn look(&mut self, tolerance_percent: u64, pace: Pace, sight: &Sight<'_>) -> u64 {
        let allowed = self.allowance.now(sight.now_ms, pace.rate);
        self.note_closed(sight);
        if self.may_begin(sight) {
            self.begin(tolerance_percent, sight);
        }
        let Some(round) = &self.round else { return 0 };
        let beyond = u64::from(sight.connections).saturating_sub(round.share);
        allowed.min(round.left).min(beyond)
    }

    fn note_closed(&mut self, sight: &Sight<'_>) {
        let closed = sight.closed.saturating_sub(std::mem::replace(&mut self.closed, sight.closed));
        if closed == 0 {
            return;
        }
        self.last_close_ms = Some(sight.now_ms);
        self.allowance.spend(closed);
        if let Some(round) = &mut self.round {
            round.left = round.left.saturating_sub(closed);
        }
        if let Some(trial) = &mut self.trial {
            trial.closed += closed;
        }
    }

    fn may_begin(&self, sight: &Sight<'_>) -> bool {
        let is_settled = self.last_close_ms.is_none_or(|at| sight.now_ms.saturating_sub(at) >= SETTLE_MS);
        is_settled && self.not_before_ms <= sight.now_ms && self.round.is_none_or(|round| round.publication != sight.publication)
    }

    /// A round on the numbers that are published now; perhaps there is nothing to do in it.
    fn begin(&mut self, tolerance_percent: u64, sight: &Sight<'_>) {
        let all = &sight.counts.0;
        let servers = all.len() as u64;
        let Some(own) = all.get(&sight.own).filter(|_| servers > 1) else {
            self.round = None;
            return;
        };
        let published = all.values().copied().map(u64::from).sum::<u64>();
        if published >= self.total.0 || sight.now_ms.saturating_sub(self.total.1) > ON_THE_WAY_MS {
            self.total = (published, sight.now_ms);
        }
        let share = self.total.0.div_ceil(servers);
        let too_much = |connections: u64| {
            let excess = connections.saturating_sub(share);
            if excess >= EXCESS_MIN && excess * 100 > share * tolerance_percent { excess } else { 0 }
        };
        let spread = all.values().map(|n| u64::from(*n).saturating_sub(share)).max().unwrap_or(0);
        if let Some(trial) = self.trial.take_if(|trial| trial.closed > 0) {
            self.judge(sight.now_ms, trial, spread);
        }
        if all.values().all(|n| too_much(u64::from(*n)) == 0) {
            (self.failures, self.best) = (0, None);
        }
        if self.not_before_ms > sight.now_ms {
            self.round = None;
            return;
        }
        let left = too_much(u64::from(*own));
        self.round = Some(Round { publication: sight.publication, share, left });
        if left > 0 {
            self.trial = Some(Trial { spread, closed: 0 });
        }
    }

    fn judge(&mut self, now_ms: u64, trial: Trial, spread: u64) {
        let known = self.best.filter(|(_, at)| now_ms.saturating_sub(*at) < BEST_MS);
        let best = known.map_or(trial.spread, |(best, _)| best.min(trial.spread));
        if known.is_none_or(|(before, _)| spread.min(best) < before) {
            self.best = Some((spread.min(best), now_ms));
        }
        if best.saturating_sub(spread).saturating_mul(PART_MIN) >= trial.closed {
            self.failures = 0;
            return;
        }
        self.not_before_ms = now_ms + (PAUSE_MS << self.failures.min(DOUBLINGS_MAX));
        self.failures += 1;
    }
}

/// A rate, as what may be done now. Never more than a second's worth.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    at_ms: Option<u64>,
    /// In thousandths of a connection.
    thousandths: u64,
}

impl Allowance {
    /// What may be closed now.
    pub(super) fn now(&mut self, now_ms: u64, rate: u64) -> u64 {
        let passed = self.at_ms.replace(now_ms).map_or(0, |at| now_ms.saturating_sub(at));
        self.thousandths = self.thousandths.saturating_add(passed.saturating_mul(rate)).min(rate * 1_000);
        self.thousandths / 1_000
    }

    /// So many were closed.
    pub(super) fn spend(&mut self, closed: u64) {
        self.thousandths = self.thousandths.saturating_sub(closed.saturating_mul(1_000));
    }
}

#[cfg(test)]
#[path = "shedding_tests.rs"]
mod tests;

//! Notices a shard that no longer follows the published stream (rule A7).
//!
//! Publishing waits for no shard, so a stuck one would make memory grow and its clients hang for ever. A shard that makes no progress for
//! `SHARD_LAG_MS_MAX` while there is much to do stops the process. Time in which the replica itself did not look (a stopped process, a
//! suspended machine) counts for nothing: the shards had no more of it.

use crate::base::Instant;
use crate::base::limits::SHARD_LAG_MS_MAX;
use crate::handoff::Bell;
use std::sync::Arc;

/// Fewer batches than this are no lag: an idle shard is not woken for each.
const LAG_BATCHES_MIN: u64 = 1024;
/// How often progress is looked at.
const LOOK_MS: u64 = 1_000;
/// A longer gap between two looks means that we were not running.
const GAP_MS_MAX: u64 = 5 * LOOK_MS;

/// Progress of all shards, as the replica's task sees it.
pub struct LagWatch {
    looked: Instant,
    shards: Vec<Progress>,
}

#[derive(Clone)]
struct Progress {
    consumed: u64,
    stuck_ms: u64,
}

impl LagWatch {
    /// All shards are up to date.
    pub fn new(shards: usize, now: Instant) -> Self {
        LagWatch { looked: now, shards: vec![Progress { consumed: 0, stuck_ms: 0 }; shards] }
    }

    /// To be called after publishing; looks now and then. `Some` names a shard that is stuck.
    pub fn check(&mut self, now: Instant, published: u64, bells: &[Arc<Bell>]) -> Option<usize> {
        let since = now.since_ms(self.looked);
        if since < LOOK_MS {
            return None;
        }
        self.looked = now;
        let counted = if since > GAP_MS_MAX { 0 } else { since };
        let mut stuck = None;
        for (shard, (progress, bell)) in self.shards.iter_mut().zip(bells).enumerate() {
            let consumed = bell.consumed();
            if consumed != progress.consumed || published.saturating_sub(consumed) < LAG_BATCHES_MIN {
                *progress = Progress { consumed, stuck_ms: 0 };
            } else {
                progress.stuck_ms += counted;
            }
            if progress.stuck_ms > SHARD_LAG_MS_MAX {
                stuck = Some(shard);
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::bell::FILTER_BITS;

    fn bells() -> Vec<Arc<Bell>> {
        (0..2).map(|_| Arc::new(Bell::new(0, FILTER_BITS))).collect()
    }

    /// Looks once a second; returns the second at which a shard is reported, and which.
    fn run(seconds: u64, mut each: impl FnMut(u64, &[Arc<Bell>])) -> Option<(u64, usize)> {
        let bells = bells();
        let mut watch = LagWatch::new(2, Instant(0));
        (1..=seconds).find_map(|s| {
            each(s, &bells);
            watch.check(Instant(0).plus_ms(s * 1000), 1_000_000, &bells).map(|shard| (s, shard))
        })
    }

    #[test]
    fn a_shard_without_progress_is_reported_after_the_limit() {
        let stuck = run(100, |s, bells| bells[0].set_consumed(s));
        assert_eq!(stuck, Some((SHARD_LAG_MS_MAX / 1000 + 1, 1)));
    }

    #[test]
    fn progress_however_slow_is_enough() {
        assert_eq!(run(600, |s, bells| bells.iter().for_each(|b| b.set_consumed(s / 30))), None);
    }

    #[test]
    fn time_in_which_nobody_looked_does_not_count() {
        let bells = bells();
        let mut watch = LagWatch::new(2, Instant(0));
        for hour in 1..10 {
            assert_eq!(watch.check(Instant(0).plus_ms(hour * 3_600_000), 1_000_000, &bells), None);
        }
    }
}

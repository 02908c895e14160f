//! Containers and TTL nodes that are due: looked for at an interval, removed at a pace.

use super::{Replica, ReplicaConfig};
use crate::base::{Instant, WallTime};
use crate::proto::Request;
use std::collections::VecDeque;

/// Removals happen in slices of this length.
const SLICE_MS: u64 = 100;
const MINUTE_MS: u64 = 60_000;

/// What is to be removed, and when the next step is.
pub(super) struct Removals {
    paths: VecDeque<String>,
    /// When to look for candidates again; `None` when that is off.
    next_check: Option<Instant>,
    next_slice: Instant,
}

impl Removals {
    pub(super) fn new(config: &ReplicaConfig, now: Instant) -> Self {
        let on = config.container_check_interval_ms > 0 && config.container_max_per_minute > 0;
        Removals { paths: VecDeque::new(), next_check: on.then(|| now.plus_ms(config.container_check_interval_ms)), next_slice: now }
    }

    /// This server leads from now on.
    pub(super) fn restart(&mut self, config: &ReplicaConfig, now: Instant) {
        *self = Removals::new(config, now);
    }

    /// It does not lead any more.
    pub(super) fn forget(&mut self) {
        self.paths.clear();
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        if self.paths.is_empty() { self.next_check } else { Some(self.next_slice) }
    }
}

impl Replica {
    /// Looks for candidates when it is time, and removes some. One that has become ineligible since fails by itself.
    pub(super) fn remove_due(&mut self, now: Instant, wall: WallTime) {
        let interval_ms = self.config.container_check_interval_ms;
        let per_minute = self.config.container_max_per_minute;
        if self.removals.paths.is_empty() && self.removals.next_check.is_some_and(|at| at <= now) {
            let most = (per_minute.saturating_mul(interval_ms) / MINUTE_MS).clamp(1, 1 << 20) as usize;
            self.removals.paths = self.tree.due_for_removal(wall, self.config.container_max_never_used_ms, most).into();
            self.removals.next_check = Some(now.plus_ms(interval_ms));
            self.removals.next_slice = now;
        }
        if self.removals.next_slice > now {
            return;
        }
        // At least one a slice; a slower pace makes longer slices.
        let a_slice = (per_minute * SLICE_MS / MINUTE_MS).max(1);
        for _ in 0..a_slice {
            if !self.log.can_append() {
                break;
            }
            let Some(path) = self.removals.paths.pop_front() else { return };
            self.prepare_own(wall, &Request::DeleteContainer { path: &path });
        }
        let slice_ms = (a_slice * MINUTE_MS).div_ceil(per_minute.max(1));
        self.removals.next_slice = now.plus_ms(slice_ms);
    }
}

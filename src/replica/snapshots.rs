//! When to snapshot: after a number of transactions or bytes with a random part, so that members of an ensemble do not all
//! snapshot at once. The log rolls there, and the image is taken when everything before the roll is committed.

use super::{Replica, ReplicaConfig};
use crate::base::prng::Prng;
use crate::base::{WallTime, Zxid};

/// Triggers and the state of the one snapshot that may be under way.
pub(super) struct Snapshots {
    txns: u64,
    bytes: Option<u64>,
    /// Taken once this is committed.
    wanted: Option<Zxid>,
    running: bool,
    /// What is being written is not wanted any more.
    is_abandoned: bool,
    taken: u64,
    failed: u64,
    last: Option<(Zxid, WallTime)>,
}

impl Snapshots {
    pub(super) fn new(config: &ReplicaConfig, prng: &mut Prng) -> Self {
        let mut snapshots =
            Snapshots { txns: 0, bytes: None, wanted: None, running: false, is_abandoned: false, taken: 0, failed: 0, last: None };
        snapshots.draw(config, prng);
        snapshots
    }

    /// A snapshot is to be taken now.
    pub(super) fn take_due(&mut self, applied: Zxid) -> bool {
        let due = !self.running && self.wanted.is_some_and(|zxid| zxid <= applied);
        if due {
            self.wanted = None;
            self.running = true;
        }
        due
    }

    /// A snapshot at or after `zxid` is to be taken.
    pub(super) fn want(&mut self, zxid: Zxid) {
        self.wanted = Some(zxid);
    }

    /// History above `zxid` is gone.
    pub(super) fn forget_above(&mut self, zxid: Zxid) {
        self.wanted = self.wanted.filter(|wanted| *wanted <= zxid);
    }

    /// The tree that is being written is to be replaced. True: there is one, and the shell is to be told.
    pub(super) fn abandon(&mut self) -> bool {
        self.wanted = None;
        self.running && !std::mem::replace(&mut self.is_abandoned, true)
    }

    /// A file may still come under a snapshot's name.
    pub(super) fn is_running(&self) -> bool {
        self.running
    }

    pub(super) fn done(&mut self, zxid: Zxid, ok: bool, wall: WallTime) {
        self.running = false;
        if std::mem::take(&mut self.is_abandoned) {
            return;
        }
        if ok {
            self.taken += 1;
            self.last = Some((zxid, wall));
        } else {
            self.failed += 1;
        }
    }

    pub(super) fn last(&self) -> Option<(Zxid, WallTime)> {
        self.last
    }
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }
    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// The next trigger: between half and the whole of what is configured.
    fn draw(&mut self, config: &ReplicaConfig, prng: &mut Prng) {
        let draw = |whole: u64, prng: &mut Prng| whole / 2 + prng.below(whole / 2);
        self.txns = draw(config.snap_count.max(2), prng);
        self.bytes = config.snap_size_limit_bytes.map(|limit| draw(limit, prng));
    }
}

impl Replica {
    /// After an append: rolls the log and wants a snapshot when a trigger is passed. With one still under way it only rolls.
    pub(super) fn roll_if_due(&mut self) {
        let (txns, bytes) = self.log.since_roll();
        if txns <= self.snapshots.txns && self.snapshots.bytes.is_none_or(|limit| bytes <= limit) {
            return;
        }
        self.log.roll();
        self.snapshots.draw(&self.config, &mut self.prng);
        if !self.snapshots.running && self.snapshots.wanted.is_none() {
            self.snapshots.wanted = Some(self.tree.head_zxid());
        }
    }
}

//! Which shard a connection belongs to: where new ones go (`Placer`), and which shard gives some of its own away (`Balancer`); and which
//! server of an ensemble gives some to the others (`Shedder`); by strategies that may change while everything runs (`Steward`). Pure.
//!
//! Knows shards and servers by number and what they have to do, and nothing of sockets or sessions. Shard 0 also runs the replica, so it counts
//! for a share of another one: all numbers of shards are compared per share.

mod moving;
mod shedding;
mod steward;
pub mod strategy;

pub use moving::{Balancer, GiveAway};
pub use shedding::{Shedder, Sight};
pub use steward::{Node, Nodes, Note, Orders, Shed, Steward};

/// What one shard has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections it has.
    pub connections: u32,
    /// What it has done so far, in the units of `limits::SHARD_TURN_COST_MAX`; only grows.
    pub work: u64,
}

/// How it is decided which shard is to have a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The one with the fewest.
    LeastConnections,
    /// The one that has done least of late.
    LeastLoad,
}

impl Placement {
    /// What they are called in configurations.
    pub const NAMES: [(&str, Placement); 3] =
        [("round-robin", Placement::RoundRobin), ("least-connections", Placement::LeastConnections), ("least-load", Placement::LeastLoad)];

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, placement)| *placement)
    }

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, placement)| *placement == self).map_or("", |(name, _)| name)
    }
}

/// How much of another shard's load each one is to have, in percent: never 0 for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares(Vec<u32>);

impl Shares {
    /// Shard 0 gets `first_percent` of what another one gets, and everything when there is no other.
    #[must_use]
    pub fn new(shards: usize, first_percent: u32) -> Self {
        let mut shares = vec![100; shards];
        if shards > 1 {
            shares[0] = first_percent.min(100);
        }
        Shares(shares)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    /// `amount` as it would be for a whole share; anything is beyond everything for a shard that is to have none.
    fn per_share(&self, shard: usize, amount: u64) -> u64 {
        let none = if amount == 0 { 0 } else { u64::MAX };
        amount.saturating_mul(100).checked_div(u64::from(self.0[shard])).unwrap_or(none)
    }
}

/// How long what shards have done stays the measure of what they do (`Placement::LeastLoad`).
pub const SAMPLE_MS: u64 = 500;

/// Chooses shards for new connections.
#[derive(Debug)]
pub struct Placer {
    placement: Placement,
    turn: Turn,
    shares: Shares,
    recent: Recent,
}

/// What was done between the last two samples.
#[derive(Debug, Default)]
struct Recent {
    /// When the last sample was taken, in ms.
    at_ms: Option<u64>,
    work: Vec<u64>,
    done: Vec<u64>,
    /// What a connection does on the average, which a new one is expected to do.
    of_one: u64,
    /// New ones since the sample, which has nothing of them yet.
    placed: Vec<u64>,
}

impl Placer {
    /// For shards with these shares.
    #[must_use]
    pub fn new(placement: Placement, shares: Shares) -> Self {
        let (turn, recent) = (Turn::new(&shares), Recent::new(shares.len()));
        Placer { placement, turn, shares, recent }
    }

    /// Another way from now on.
    pub fn set(&mut self, placement: Placement) {
        self.placement = placement;
    }

    /// The shard for the next connection; `loads` are those of all shards, now.
    #[must_use]
    pub fn choose(&mut self, now_ms: u64, loads: &[Load]) -> usize {
        let turn = self.turn.peek();
        match self.placement {
            Placement::RoundRobin => turn,
            Placement::LeastConnections => self.least(turn, |_, shard| u64::from(loads[shard].connections)),
            Placement::LeastLoad => {
                self.recent.sample(now_ms, loads);
                self.least(turn, |recent, shard| recent.expected(shard))
            }
        }
    }

    /// The connection went there.
    pub fn placed(&mut self, shard: usize) {
        self.turn.next();
        self.recent.placed[shard] += 1;
    }

    /// Among equals it is the one whose turn it is, or the first after it.
    fn least(&self, turn: usize, amount: impl Fn(&Recent, usize) -> u64) -> usize {
        let shards = self.shares.len();
        // With one more than it has: a shard that is to have less is not the first to get something.
        let key = |shard: &usize| self.shares.per_share(*shard, amount(&self.recent, *shard).saturating_add(1));
        (0..shards).map(|i| (turn + i) % shards).min_by_key(key).unwrap_or(turn)
    }
}

impl Recent {
    fn new(shards: usize) -> Self {
        Recent { placed: vec![0; shards], done: vec![0; shards], ..Recent::default() }
    }

    fn sample(&mut self, now_ms: u64, loads: &[Load]) {
        if self.at_ms.is_some_and(|at| now_ms.saturating_sub(at) < SAMPLE_MS) {
            return;
        }
        let before = std::mem::replace(&mut self.work, loads.iter().map(|load| load.work).collect());
        if self.at_ms.replace(now_ms).is_some() {
            self.done = self.work.iter().zip(&before).map(|(now, before)| now.saturating_sub(*before)).collect();
        }
        let connections = loads.iter().map(|load| u64::from(load.connections)).sum::<u64>();
        self.of_one = self.done.iter().sum::<u64>().checked_div(connections).unwrap_or(0).max(1);
        self.placed.fill(0);
    }

    fn expected(&self, shard: usize) -> u64 {
        self.done[shard].saturating_add(self.placed[shard].saturating_mul(self.of_one))
    }
}

/// Weighted round robin: shard 0 takes a share of a full turn.
#[derive(Debug)]
struct Turn {
    shards: usize,
    next: usize,
    share_percent: u32,
    credit: u32,
}

impl Turn {
    fn new(shares: &Shares) -> Self {
        let share_percent = shares.0[0];
        // Shard 0 comes first, whatever its share; with none it never comes.
        Turn { shards: shares.len(), next: usize::from(share_percent == 0), share_percent, credit: 0 }
    }

    /// Whose turn it is.
    fn peek(&self) -> usize {
        self.next
    }

    fn next(&mut self) -> usize {
        let shard = self.next;
        self.next = (shard + 1) % self.shards;
        if self.next == 0 {
            self.credit += self.share_percent;
            match self.credit.checked_sub(100) {
                Some(left) => self.credit = left,
                None => self.next = 1,
            }
        }
        shard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads<const N: usize>(all: [(u32, u64); N]) -> [Load; N] {
        all.map(|(connections, work)| Load { connections, work })
    }

    fn in_turn(shards: usize, percent: u32, n: usize) -> Vec<usize> {
        let mut turn = Turn::new(&Shares::new(shards, percent));
        let mut counts = vec![0; shards];
        (0..n).for_each(|_| counts[turn.next()] += 1);
        counts
    }

    #[test]
    fn connections_are_dealt_in_turn_with_a_share_for_the_replicas_core() {
        assert_eq!(in_turn(1, 0, 7), [7]);
        assert_eq!(in_turn(2, 100, 10), [5, 5]);
        assert_eq!(in_turn(4, 50, 70), [10, 20, 20, 20]);
        assert_eq!(in_turn(3, 0, 10), [0, 5, 5]);
        assert_eq!(Turn::new(&Shares::new(4, 100)).next(), 0);
    }

    /// Connections that come one after the other and stay, beside those there are.
    fn placed<const N: usize>(mut placer: Placer, mut now: [Load; N], n: usize) -> [u32; N] {
        for _ in 0..n {
            let shard = placer.choose(0, &now);
            placer.placed(shard);
            now[shard].connections += 1;
        }
        now.map(|load| load.connections)
    }

    #[test]
    fn who_has_fewest_connections_gets_the_next_until_all_have_their_share() {
        let placer = |percent| Placer::new(Placement::LeastConnections, Shares::new(3, percent));
        assert_eq!(placed(placer(100), loads([(9, 0), (0, 0), (3, 0)]), 9), [9, 6, 6]);
        assert_eq!(placed(placer(100), loads([(0, 0), (0, 0), (0, 0)]), 9), [3, 3, 3]);
        assert_eq!(placed(placer(50), loads([(0, 0), (0, 0), (0, 0)]), 50), [10, 20, 20]);
        assert_eq!(placed(placer(0), loads([(0, 0), (0, 0), (0, 0)]), 10), [0, 5, 5]);
    }

    #[test]
    fn who_has_done_least_of_late_gets_the_next_and_not_all_of_a_burst() {
        let mut placer = Placer::new(Placement::LeastLoad, Shares::new(2, 100));
        let mut now = loads([(10, 1_000), (10, 9_000)]);
        let _ = placer.choose(0, &now);
        // Since then the first one has worked, whatever the second did before.
        now = loads([(10, 3_000), (10, 9_000)]);
        assert_eq!(placer.choose(SAMPLE_MS, &now), 1);
        let mut counts = [0; 2];
        for _ in 0..40 {
            let shard = placer.choose(SAMPLE_MS + 1, &now);
            placer.placed(shard);
            counts[shard] += 1;
        }
        // Each new one is expected to do 2,000 / 20: the second gets 20 for the difference, and then both get the same.
        assert_eq!(counts, [10, 30]);
    }

    #[test]
    fn a_way_that_is_changed_counts_from_the_next_connection_on() {
        let mut placer = Placer::new(Placement::RoundRobin, Shares::new(2, 100));
        let now = loads([(5, 0), (0, 0)]);
        assert_eq!(placer.choose(0, &now), 0);
        placer.set(Placement::LeastConnections);
        assert_eq!(placer.choose(0, &now), 1);
    }
}

//! When shards are skewed, and which gives how many connections to which: looked at from time to time, acted upon when it lasts.
//!
//! Each step takes away at most half of the difference, so it never swings; small differences are left alone, because a move costs more than it
//! brings.

use super::{Load, Placement, Shares};

/// Looks in a row that must find the same shard ahead.
const LOOKS: u32 = 2;
/// Connections moved by one order: the next look sees what it has brought.
const MOVED_MAX: u32 = 64;
/// A difference of fewer connections is none.
const CONNECTIONS_MIN: u64 = 4;
/// Nor is one that is less than this part of what the busier shard has (a quarter).
const PART_MIN: u64 = 4;
/// Work between two looks below which nobody has too much to do: about a hundredth of a core in a second.
const WORK_MIN: u64 = 50_000;

/// An order to a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GiveAway {
    /// Who gives.
    pub from: usize,
    /// Who gets.
    pub to: usize,
    /// How many connections.
    pub connections: u32,
}

/// Decides about moves.
#[derive(Debug)]
pub struct Balancer {
    placement: Placement,
    shares: Shares,
    before: Vec<u64>,
    /// Who was ahead of whom in the last looks, and in how many.
    seen: Option<(usize, usize, u32)>,
}

impl Balancer {
    /// For shards with these shares, by the measure of `placement`: connections, or work for `LeastLoad`.
    #[must_use]
    pub fn new(placement: Placement, shares: Shares) -> Self {
        Balancer { placement, before: vec![0; shares.len()], shares, seen: None }
    }

    /// Another measure from now on.
    pub fn set(&mut self, placement: Placement) {
        self.placement = placement;
        self.seen = None;
    }

    /// What is to be moved; to be asked at regular intervals.
    pub fn look(&mut self, loads: &[Load]) -> Option<GiveAway> {
        let work: Vec<u64> = loads.iter().map(|load| load.work).collect();
        let done: Vec<u64> = work.iter().zip(&self.before).map(|(now, before)| now.saturating_sub(*before)).collect();
        self.before = work;
        let (amounts, least) = match self.placement {
            Placement::LeastLoad => (done, WORK_MIN),
            Placement::RoundRobin | Placement::LeastConnections => {
                (loads.iter().map(|load| u64::from(load.connections)).collect(), CONNECTIONS_MIN)
            }
        };
        let per_share = |shard: &usize| self.shares.per_share(*shard, amounts[*shard]);
        let has_share = |shard: &usize| self.shares.0[*shard] > 0;
        let has_any = |shard: &usize| amounts[*shard] > 0;
        let from = (0..loads.len()).filter(has_any).max_by_key(per_share)?;
        let to = (0..loads.len()).filter(has_share).min_by_key(per_share)?;
        // What each has for a whole share: half a share with half as much is not behind.
        let (most, fewest) = (per_share(&from), per_share(&to));
        let difference = most.saturating_sub(fewest);
        let is_skewed = from != to && difference >= least && difference >= most / PART_MIN;
        if !is_skewed {
            self.seen = None;
            return None;
        }
        let looks = self.seen.filter(|(f, t, _)| (*f, *t) == (from, to)).map_or(1, |(_, _, looks)| looks + 1);
        self.seen = Some((from, to, looks));
        if looks < LOOKS {
            return None;
        }
        self.seen = None;
        let connections = self.to_move(from, to, &amounts, loads[from].connections);
        (connections > 0).then_some(GiveAway { from, to, connections })
    }

    /// As many as make the two equal per share, if each does as much as the others.
    fn to_move(&self, from: usize, to: usize, amounts: &[u64], connections: u32) -> u32 {
        let (from_share, to_share) = (u64::from(self.shares.0[from]), u64::from(self.shares.0[to]));
        let of_two = amounts[from] + amounts[to];
        let fair = of_two.saturating_mul(from_share) / (from_share + to_share);
        let excess = amounts[from].saturating_sub(fair);
        let moved = (u64::from(connections).saturating_mul(excess)).checked_div(amounts[from]).unwrap_or(0);
        u32::try_from(moved).unwrap_or(u32::MAX).min(MOVED_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_connections(shards: usize, percent: u32) -> Balancer {
        Balancer::new(Placement::LeastConnections, Shares::new(shards, percent))
    }

    fn having(connections: &[u32]) -> Vec<Load> {
        connections.iter().map(|n| Load { connections: *n, work: 0 }).collect()
    }

    /// Looks until there is nothing to do any more; what each shard has then.
    fn settled(balancer: &mut Balancer, mut connections: Vec<u32>) -> Vec<u32> {
        let mut quiet = 0;
        for _ in 0..10_000 {
            match balancer.look(&having(&connections)) {
                Some(GiveAway { from, to, connections: n }) => {
                    assert!(n <= connections[from]);
                    connections[from] -= n;
                    connections[to] += n;
                    quiet = 0;
                }
                None => quiet += 1,
            }
            if quiet > LOOKS {
                return connections;
            }
        }
        panic!("moves have no end: {connections:?}")
    }

    #[test]
    fn a_skew_that_lasts_is_evened_out_in_steps_and_a_passing_one_is_not() {
        let mut balancer = by_connections(2, 100);
        assert_eq!(balancer.look(&having(&[100, 0])), None, "seen for the first time");
        assert_eq!(balancer.look(&having(&[50, 50])), None);
        assert_eq!(balancer.look(&having(&[100, 0])), None, "for the first time again");
        assert_eq!(balancer.look(&having(&[100, 0])), Some(GiveAway { from: 0, to: 1, connections: 50 }));
        assert_eq!(settled(&mut balancer, vec![1000, 0]), [552, 448], "less than a quarter is not worth a move");
        assert_eq!(settled(&mut by_connections(2, 50), vec![90, 0]), [30, 60], "a share of a half");
        assert_eq!(settled(&mut by_connections(3, 50), vec![100, 0, 0]), [22, 44, 34]);
        assert_eq!(settled(&mut by_connections(3, 0), vec![40, 0, 0]), [0, 20, 20], "no share at all");
        assert_eq!(settled(&mut by_connections(3, 0), vec![0, 40, 0]), [0, 20, 20], "who is to have none and has none is not in the way");
    }

    #[test]
    fn work_counts_where_placement_is_by_load() {
        let mut balancer = Balancer::new(Placement::LeastLoad, Shares::new(2, 100));
        let mut work = [0, 0];
        let mut look = |done: [u64; 2]| {
            work = [work[0] + done[0], work[1] + done[1]];
            balancer.look(&[Load { connections: 10, work: work[0] }, Load { connections: 10, work: work[1] }])
        };
        assert_eq!(look([30_000, 0]), None);
        assert_eq!(look([30_000, 0]), None, "nobody has much to do");
        assert_eq!(look([1_000_000, 200_000]), None);
        assert_eq!(look([1_000_000, 200_000]), Some(GiveAway { from: 0, to: 1, connections: 4 }));
    }

    proptest! {
        #[test]
        fn it_comes_to_rest_with_nobody_far_ahead_and_nothing_lost(connections in prop::collection::vec(0u32..3000, 1..9)) {
            let total: u32 = connections.iter().sum();
            let mut balancer = by_connections(connections.len(), 100);
            let settled = settled(&mut balancer, connections);
            prop_assert_eq!(settled.iter().sum::<u32>(), total);
            let (most, fewest) = (*settled.iter().max().expect("some"), *settled.iter().min().expect("some"));
            let difference = u64::from(most - fewest);
            prop_assert!(difference < CONNECTIONS_MIN || difference < u64::from(most) / PART_MIN + 1, "{:?}", settled);
        }
    }
}

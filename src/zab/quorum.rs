//! Quorums as arithmetic: majority, hierarchical (groups with weights), and several of them at once.

use crate::base::PeerId;
use smallvec::SmallVec;

/// So many voters are counted without allocating.
const VOTERS_USUAL: usize = 7;

/// Decides which sets of servers are enough. Any two quorums of one configuration have a server in common.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quorum {
    /// Every one of them must be satisfied: one, or two while the configuration changes.
    rules: Vec<Rule>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Rule {
    /// More than half of these.
    Majority(Vec<PeerId>),
    /// More than half of the groups, each by more than half of its weight; a group without weight is none.
    Hierarchical(Vec<Vec<(PeerId, u64)>>),
}

impl Quorum {
    /// More than half of the voters; nothing at all satisfies an empty set of them.
    #[must_use]
    pub fn majority(voters: impl IntoIterator<Item = PeerId>) -> Quorum {
        let mut voters: Vec<PeerId> = voters.into_iter().collect();
        voters.sort_unstable();
        voters.dedup();
        Quorum { rules: vec![Rule::Majority(voters)] }
    }

    /// Groups of voters with their weights; no voter is in two groups.
    #[must_use]
    pub fn hierarchical(groups: impl IntoIterator<Item = Vec<(PeerId, u64)>>) -> Quorum {
        Quorum { rules: vec![Rule::Hierarchical(groups.into_iter().filter(|group| total(group, |_| true) > 0).collect())] }
    }

    /// Both at once.
    #[must_use]
    pub fn and(mut self, other: Quorum) -> Quorum {
        for rule in other.rules {
            if !self.rules.contains(&rule) {
                self.rules.push(rule);
            }
        }
        self
    }

    /// Do those for whom `has` holds form a quorum?
    pub fn reached(&self, has: impl Fn(PeerId) -> bool) -> bool {
        self.rules.iter().all(|rule| rule.reached(&has))
    }

    /// The highest value that the members of some quorum have all reached: a commit point, a deadline. `None`: no quorum has any.
    pub fn level<T: Ord + Copy>(&self, of: impl Fn(PeerId) -> Option<T>) -> Option<T> {
        let levels = self.rules.iter().map(|rule| rule.level(&of));
        levels.min().flatten()
    }

    /// The weight of a server in elections: a server without any votes, but is never elected.
    #[must_use]
    pub fn weight(&self, id: PeerId) -> u64 {
        self.rules.iter().map(|rule| rule.weight(id)).max().unwrap_or(0)
    }
}

impl Rule {
    fn reached(&self, has: &impl Fn(PeerId) -> bool) -> bool {
        match self {
            Rule::Majority(voters) => voters.iter().filter(|id| has(**id)).count() > voters.len() / 2,
            Rule::Hierarchical(groups) => {
                let won = groups.iter().filter(|group| total(group, has) > total(group, |_| true) / 2).count();
                won > groups.len() / 2
            }
        }
    }

    fn level<T: Ord + Copy>(&self, of: &impl Fn(PeerId) -> Option<T>) -> Option<T> {
        match self {
            Rule::Majority(voters) => descending(voters.iter().copied(), of).get(voters.len() / 2).copied(),
            Rule::Hierarchical(groups) => {
                let values = descending(groups.iter().flatten().map(|(id, _)| *id), of);
                values.into_iter().find(|value| self.reached(&|id| of(id).is_some_and(|has| has >= *value)))
            }
        }
    }

    fn weight(&self, id: PeerId) -> u64 {
        match self {
            Rule::Majority(_) => 1,
            Rule::Hierarchical(groups) => groups.iter().flatten().find(|(member, _)| *member == id).map_or(0, |(_, weight)| *weight),
        }
    }
}

/// What the servers have reached, best first.
fn descending<T: Ord + Copy>(ids: impl Iterator<Item = PeerId>, of: &impl Fn(PeerId) -> Option<T>) -> SmallVec<[T; VOTERS_USUAL]> {
    let mut values: SmallVec<[T; VOTERS_USUAL]> = ids.filter_map(of).collect();
    values.sort_unstable_by(|a, b| b.cmp(a));
    values
}

/// The weight of those members of a group for whom `has` holds.
fn total(group: &[(PeerId, u64)], has: impl Fn(PeerId) -> bool) -> u128 {
    group.iter().filter(|(id, _)| has(*id)).map(|(_, weight)| u128::from(*weight)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn ids(numbers: &[i64]) -> BTreeSet<PeerId> {
        numbers.iter().copied().map(PeerId).collect()
    }

    fn reached(quorum: &Quorum, by: &[i64]) -> bool {
        let by = ids(by);
        quorum.reached(|id| by.contains(&id))
    }

    #[test]
    fn a_majority_is_more_than_half_of_the_voters_and_counts_nobody_else() {
        let three = Quorum::majority(ids(&[1, 2, 3]));
        assert!(reached(&three, &[1, 3]) && !reached(&three, &[1]) && !reached(&three, &[1, 7, 8, 9]));
        let four = Quorum::majority(ids(&[1, 2, 3, 4]));
        assert!(!reached(&four, &[1, 2]) && reached(&four, &[1, 2, 4]));
        assert!(reached(&Quorum::majority(ids(&[5])), &[5]));
        assert!(!Quorum::majority([]).reached(|_| true), "nobody's quorum is never there");
    }

    #[test]
    fn groups_count_by_weight_and_groups_without_weight_do_not_count() {
        let group = |members: &[(i64, u64)]| members.iter().map(|(id, weight)| (PeerId(*id), *weight)).collect::<Vec<_>>();
        let q = Quorum::hierarchical([group(&[(1, 1), (2, 1), (3, 1)]), group(&[(4, 3), (5, 1), (6, 1)]), group(&[(7, 0), (8, 0)])]);
        assert!(reached(&q, &[1, 2, 4]), "two of three in one group, the heavy one of the other; the third group is none");
        assert!(!reached(&q, &[1, 2, 5, 6]) && !reached(&q, &[1, 2, 3]) && !reached(&q, &[1, 4, 5, 6]));
        assert_eq!((q.weight(PeerId(4)), q.weight(PeerId(7)), q.weight(PeerId(99))), (3, 0, 0));
        assert_eq!(Quorum::majority(ids(&[1])).weight(PeerId(1)), 1);
        assert!(!Quorum::hierarchical([group(&[(1, 0)])]).reached(|_| true), "no weight, no quorum");
        assert!(Quorum::hierarchical([group(&[(1, u64::MAX), (2, u64::MAX)])]).reached(|_| true), "sums do not overflow");
    }

    #[test]
    fn while_the_configuration_changes_both_must_agree() {
        let both = Quorum::majority(ids(&[1, 2, 3])).and(Quorum::majority(ids(&[3, 4, 5])));
        assert!(reached(&both, &[2, 3, 4]) && !reached(&both, &[1, 2, 3]) && !reached(&both, &[3, 4, 5]));
        assert_eq!(both.level(|id| Some(id.0)), Some(2), "5 and 4 reach the one, but only 2 the other");
    }

    /// The rule said the long way round: sums per group in maps, halves as comparisons of doubles.
    fn naive(groups: &[Vec<(PeerId, u64)>], set: &BTreeSet<PeerId>) -> bool {
        let (mut weight, mut won): (BTreeMap<usize, u128>, BTreeMap<usize, u128>) = Default::default();
        for (number, group) in groups.iter().enumerate() {
            for (id, w) in group {
                *weight.entry(number).or_default() += u128::from(*w);
                *won.entry(number).or_default() += if set.contains(id) { u128::from(*w) } else { 0 };
            }
        }
        let counted = weight.iter().filter(|(_, w)| **w > 0);
        let majorities = counted.clone().filter(|(number, w)| won[number] * 2 > **w).count();
        majorities * 2 > counted.count()
    }

    fn subset(of: &[PeerId], mask: u16) -> BTreeSet<PeerId> {
        of.iter().enumerate().filter(|(n, _)| mask & (1 << n) != 0).map(|(_, id)| *id).collect()
    }

    proptest! {
        #[test]
        fn quorums_agree_with_the_naive_rule_and_always_overlap(
            sizes in prop::collection::vec(prop::collection::vec(0u64..4, 1..4), 1..4),
            masks in any::<(u16, u16)>(),
        ) {
            let mut next = 0;
            let groups: Vec<Vec<(PeerId, u64)>> = sizes.iter().map(|weights| weights.iter().map(|w| { next += 1; (PeerId(next), *w) }).collect()).collect();
            let all: Vec<PeerId> = (1..=next).map(PeerId).collect();
            let plain = Quorum::majority(all.clone());
            let weighed = Quorum::hierarchical(groups.clone());
            let (a, b) = (subset(&all, masks.0), subset(&all, masks.1));
            let has = |quorum: &Quorum, set: &BTreeSet<PeerId>| quorum.reached(|id| set.contains(&id));
            prop_assert_eq!(has(&plain, &a), a.len() * 2 > all.len());
            prop_assert_eq!(has(&weighed, &a), naive(&groups, &a));
            prop_assert_eq!(has(&plain.clone().and(weighed.clone()), &a), a.len() * 2 > all.len() && naive(&groups, &a));
            for quorum in [&plain, &weighed] {
                if has(quorum, &a) && has(quorum, &b) {
                    prop_assert!(!a.is_disjoint(&b));
                }
            }
        }

        #[test]
        fn the_level_is_the_highest_a_quorum_has_reached(values in prop::collection::vec(prop::option::of(0u32..6), 1..8), weights in prop::collection::vec(0u64..3, 8)) {
            let of = |id: PeerId| values[id.0 as usize];
            let members = || (0..values.len()).map(|n| (PeerId(n as i64), weights[n]));
            for quorum in [Quorum::majority(members().map(|(id, _)| id)), Quorum::hierarchical([members().collect()])] {
                let naive = (0..6).rev().find(|level| quorum.reached(|id| of(id).is_some_and(|has| has >= *level)));
                prop_assert_eq!(quorum.level(of), naive);
            }
        }
    }
}

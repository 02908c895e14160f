//! Whole ensembles of servers that shed, with clients that go where they like.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

const LOOK_MS: u64 = 250;
const PUBLISH_MS: u64 = 5_000;
const TOLERANCE: u64 = 5;

/// Servers, what is published of them, and clients on their way.
struct Ensemble {
    now_ms: u64,
    connections: Vec<u32>,
    shedders: Vec<Shedder>,
    closed: Vec<u64>,
    published: (u64, i64, Counts),
    /// When they arrive, and where.
    on_the_way: VecDeque<(u64, usize)>,
    /// Where a client goes whose connection is closed.
    next: Box<dyn FnMut(usize) -> usize>,
}

impl Ensemble {
    fn new(connections: &[u32], next: impl FnMut(usize) -> usize + 'static) -> Self {
        let mut ensemble = Ensemble {
            now_ms: 1_000,
            connections: connections.to_vec(),
            shedders: connections.iter().map(|_| Shedder::default()).collect(),
            closed: vec![0; connections.len()],
            published: (0, 0, Counts::default()),
            on_the_way: VecDeque::new(),
            next: Box::new(next),
        };
        ensemble.publish();
        ensemble
    }

    fn publish(&mut self) {
        let counts = Counts(self.connections.iter().enumerate().map(|(server, n)| (server as i64, *n)).collect());
        if counts != self.published.2 {
            self.published = (self.now_ms, self.published.1 + 1, counts);
        }
    }

    /// A quarter of a second of everybody; how many connections each has closed in it.
    fn step(&mut self, rate: u64, travel_ms: u64) -> Vec<u64> {
        self.now_ms += LOOK_MS;
        while self.on_the_way.front().is_some_and(|(at, _)| *at <= self.now_ms) {
            let Some((_, server)) = self.on_the_way.pop_front() else { break };
            self.connections[server] += 1;
        }
        if self.now_ms >= self.published.0 + PUBLISH_MS {
            self.publish();
        }
        (0..self.connections.len()).map(|server| self.shed(server, rate, travel_ms)).collect()
    }

    fn shed(&mut self, server: usize, rate: u64, travel_ms: u64) -> u64 {
        let sight = Sight {
            now_ms: self.now_ms,
            counts: &self.published.2,
            publication: self.published.1,
            own: server as i64,
            connections: self.connections[server],
            closed: self.closed[server],
        };
        let n = self.shedders[server].look(TOLERANCE, Pace { rate, idle_ms: 0 }, &sight);
        assert!(n <= u64::from(self.connections[server]), "it has what it closes");
        self.connections[server] -= n as u32;
        self.closed[server] += n;
        for _ in 0..n {
            let to = (self.next)(server);
            self.on_the_way.push_back((self.now_ms + travel_ms, to));
        }
        n
    }

    fn run(&mut self, ms: u64, rate: u64) -> u64 {
        (0..ms / LOOK_MS).map(|_| self.step(rate, 500).iter().sum::<u64>()).sum()
    }

    fn is_even(&self, percent: u64) -> bool {
        let total = self.connections.iter().copied().map(u64::from).sum::<u64>() + self.on_the_way.len() as u64;
        let share = total.div_ceil(self.connections.len() as u64);
        self.connections.iter().all(|n| u64::from(*n) < share + EXCESS_MIN || u64::from(*n) * 100 <= share * (100 + percent))
    }
}

/// The neighbour, or one that a seed decides.
fn elsewhere(servers: usize, seed: Option<u64>) -> impl FnMut(usize) -> usize {
    let mut state = seed.unwrap_or(0) | 1;
    move |from| {
        if seed.is_none() {
            return (from + 1) % servers;
        }
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (from + 1 + (state >> 33) as usize % (servers - 1)) % servers
    }
}

#[test]
fn all_on_one_of_three_are_even_within_ten_percent_in_thirty_seconds() {
    for seed in [None, Some(1), Some(2), Some(3), Some(4), Some(5)] {
        let mut ensemble = Ensemble::new(&[300, 0, 0], elsewhere(3, seed));
        ensemble.run(25_000, 50);
        let even = 90..=110;
        assert!(ensemble.connections.iter().all(|n| even.contains(n)), "{seed:?}: {:?}", ensemble.connections);
    }
}

#[test]
fn nothing_is_closed_within_the_tolerance_or_alone_or_without_numbers() {
    let closed = |connections: &[u32]| Ensemble::new(connections, |_| 0).run(60_000, 50);
    assert_eq!(closed(&[105, 97, 98]), 0);
    assert_eq!(closed(&[2, 1, 0]), 0, "one too many is nothing");
    assert_eq!(closed(&[500]), 0);
    assert_eq!(closed(&[0, 0, 0]), 0);
    let counts = Counts([(1, 90), (2, 0)].into());
    let stranger = Sight { now_ms: 9_000, counts: &counts, publication: 1, own: 3, connections: 90, closed: 0 };
    assert_eq!(Shedder::default().look(0, Pace { rate: 1_000, idle_ms: 0 }, &stranger), 0, "nothing is known of it");
}

#[test]
fn no_more_are_closed_in_a_second_than_the_rate_says() {
    let mut ensemble = Ensemble::new(&[10_000, 0, 0], elsewhere(3, Some(9)));
    for _ in 0..200 {
        let second: u64 = (0..4).map(|_| ensemble.step(40, 500)[0]).sum();
        assert!(second <= 80, "{second} in a second, with what was left of the one before");
    }
    assert!(ensemble.closed[0] <= 40 * 201 && ensemble.closed[0] > 40 * 100, "{}", ensemble.closed[0]);
}

#[test]
fn connections_on_their_way_are_not_taken_for_gone() {
    // They need longer than it takes to publish again: what is published in between counts them nowhere.
    let mut ensemble = Ensemble::new(&[300, 0, 0], elsewhere(3, None));
    for _ in 0..60_000 / LOOK_MS {
        ensemble.step(100, 7_000);
        assert!(ensemble.connections[0] >= 100, "never below its share");
    }
}

#[test]
fn clients_that_can_go_nowhere_else_are_disturbed_less_and_less() {
    let mut ensemble = Ensemble::new(&[300, 0, 0], |from| from);
    let first_minute = ensemble.run(60_000, 50);
    ensemble.run(600_000, 50);
    let ten_minutes_later = ensemble.run(600_000, 50);
    assert!(first_minute >= 200, "it was tried: {first_minute}");
    assert!(ten_minutes_later <= 200, "once in ten minutes: {ten_minutes_later}");
}

#[test]
fn clients_that_know_two_of_three_servers_do_not_swing_between_them_for_ever() {
    let mut ensemble = Ensemble::new(&[300, 0, 0], |from| 1 - from);
    ensemble.run(900_000, 50);
    assert!(ensemble.run(600_000, 50) <= 400, "{:?}", ensemble.connections);
}

#[test]
fn a_skew_that_comes_later_is_evened_out_as_the_first_one_was() {
    let mut ensemble = Ensemble::new(&[300, 0, 0], elsewhere(3, Some(7)));
    ensemble.run(60_000, 50);
    // One server was restarted: all its clients are with the others.
    let gone = std::mem::take(&mut ensemble.connections[2]);
    ensemble.connections[0] += gone;
    ensemble.run(30_000, 50);
    assert!(ensemble.is_even(10), "{:?}", ensemble.connections);
}

proptest! {
    #[test]
    fn it_comes_to_rest_evenly_from_any_skew(
        connections in prop::collection::vec(0u32..2_000, 2..8),
        seed in prop::option::of(any::<u64>()),
        rate in 20u64..500,
    ) {
        let servers = connections.len();
        let share = connections.iter().map(|n| u64::from(*n)).sum::<u64>().div_ceil(servers as u64);
        let excess: u64 = connections.iter().map(|n| u64::from(*n).saturating_sub(share)).sum();
        let mut ensemble = Ensemble::new(&connections, elsewhere(servers, seed));
        let closed = ensemble.run(1_800_000, rate);
        prop_assert!(ensemble.is_even(TOLERANCE), "{:?}", ensemble.connections);
        // Whoever goes round the whole ring is closed at each server on the way, and no more.
        prop_assert!(closed <= excess * servers as u64 + 10 * servers as u64, "{} closed for {} too many", closed, excess);
        prop_assert_eq!(ensemble.run(600_000, rate), 0, "at rest");
    }
}

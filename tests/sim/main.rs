//! Whole ensembles on one thread, from one seed, in virtual time: several broadcast cores, a network that delays, stalls and cuts, disks
//! that flush late and lose what was not flushed, servers that crash, pause and come back. After every step the promises are checked.
//! Some runs heal only a quorum at first, which must then finish everything. `planted.rs` proves that broken rules are noticed.
//! The same seed gives the same run: `SIM_SEED=n` repeats one, `SIM_RUNS=n` tries so many.

mod chaos;
mod check;
mod cluster;
mod disk;
mod golden;
mod leader_scripts;
mod learner_scripts;
mod network;
#[cfg(feature = "planted-bugs")]
mod planted;
mod scenarios;
mod script;

use chaos::{Chaos, run};
use zoo::base::PeerId;

const RUNS: u64 = 40;

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    match number("SIM_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("SIM_RUNS").unwrap_or(RUNS)).collect(),
    }
}

#[test]
fn three_servers_keep_their_promises() {
    for seed in seeds() {
        run(seed, &Chaos::of(seed, 3, 0));
    }
}

#[test]
fn five_servers_and_an_observer_keep_their_promises() {
    for seed in seeds() {
        run(seed, &Chaos::of(seed, 5, 1));
    }
}

#[test]
fn one_voter_with_an_observer_keeps_its_promises() {
    for seed in seeds().into_iter().take(10) {
        run(seed, &Chaos::of(seed, 1, 1));
    }
}

#[test]
fn a_hierarchy_of_groups_keeps_its_promises() {
    for seed in seeds().into_iter().take(20) {
        let mut chaos = Chaos::of(seed, 5, 0);
        chaos.groups =
            [(1, vec![1, 2, 3]), (2, vec![4]), (3, vec![5])].map(|(group, ids)| (group, ids.into_iter().map(PeerId).collect())).into();
        run(seed, &chaos);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 4] {
        let chaos = Chaos::of(seed, 3, 1);
        assert_eq!(run(seed, &chaos).trace, run(seed, &chaos).trace);
    }
}

//! Proof that the simulation bites: every bug that can be planted is found, each within so many seeds.

use super::chaos::{Chaos, run};
use super::disk::ShellBug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use zoo::zab::{Bug, Planted};

/// Seeds tried for each bug; `SIM_SEARCH` overrides.
const SEEDS: u64 = 400;

const CORE: [Bug; 13] = [
    Bug::HoleInTail,
    Bug::AckBeforeHistory,
    Bug::AckBeforeEpoch,
    Bug::CommitInSync,
    Bug::NoBarrier,
    Bug::LogIsCommitted,
    Bug::NoDeadline,
    Bug::SyncUnconfirmed,
    Bug::FickleVote,
    Bug::JoinerMissesProposals,
    Bug::MemoryAheadOfLog,
    Bug::VoteOfCommitted,
    Bug::CommitWithoutQuorum,
];
const SHELL: [ShellBug; 4] = [ShellBug::HalfImage, ShellBug::CutsOneMore, ShellBug::ImageBehindItsLabel, ShellBug::SwallowedError];

/// The first seed that fails, and how.
fn search(planted: Planted, shell_bug: Option<ShellBug>) -> Option<(u64, String)> {
    let seeds = std::env::var("SIM_SEARCH").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    (1..=seeds).find_map(|seed| {
        let mut chaos = if seed % 3 == 0 { Chaos::of(seed, 5, 1) } else { Chaos::of(seed, 3, 0) };
        let innocent = chaos.clone();
        chaos.is_searched = true;
        (chaos.conditions.planted, chaos.conditions.shell_bug) = (planted, shell_bug);
        let failure = catch_unwind(AssertUnwindSafe(|| run(seed, &chaos))).err()?;
        run(seed, &innocent); // it is the bug that fails
        let text = failure.downcast_ref::<String>().cloned();
        Some((seed, text.or_else(|| failure.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()))
    })
}

#[test]
#[ignore = "takes a minute of an optimised build: tests/run.sh --layer sim"]
fn every_planted_bug_is_found() {
    std::panic::set_hook(Box::new(|_| {}));
    let core = CORE.map(|bug| (format!("{bug:?}"), Planted::with(bug), None));
    let shell = SHELL.map(|bug| (format!("{bug:?}"), Planted::default(), Some(bug)));
    let all: Vec<_> = core.into_iter().chain(shell).collect();
    let missed: Vec<String> = std::thread::scope(|scope| {
        let halves: Vec<_> = (0..2)
            .map(|half| {
                let mine = all.iter().skip(half).step_by(2);
                scope.spawn(move || mine.filter(|(name, core, shell)| !is_found(name, *core, *shell)).map(|bug| bug.0.clone()).collect())
            })
            .collect();
        halves.into_iter().flat_map(|half| half.join().unwrap_or_else(|_| vec!["a seed that fails without any bug".to_owned()])).collect()
    });
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
fn is_found(name: &str, core: Planted, shell: Option<ShellBug>) -> bool {
    let started = std::time::Instant::now();
    let found = search(core, shell);
    let seconds = started.elapsed().as_secs_f32();
    match &found {
        Some((seed, how)) => println!("{name}: seed {seed}, {seconds:.1} s: {}", how.chars().take(140).collect::<String>()),
        None => println!("{name}: NOT FOUND, {seconds:.1} s"),
    }
    found.is_some()
}

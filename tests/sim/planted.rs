//! Proof that the simulation bites: every bug that can be planted is found, each within so many seeds.

use super::chaos::{Chaos, run};
use super::disk::ShellBug;
use super::runs::{caught, keep_panics, locked, on_threads};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use zoo::zab::{Bug, Planted};

/// Seeds tried for each bug.
const SEEDS: u64 = 400;

const CORE: [Bug; 14] = [
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
    Bug::WipedServerCounts,
    Bug::MemoryAheadOfLog,
    Bug::VoteOfCommitted,
    Bug::CommitWithoutQuorum,
];
const SHELL: [ShellBug; 4] = [ShellBug::HalfImage, ShellBug::CutsOneMore, ShellBug::ImageBehindItsLabel, ShellBug::SwallowedError];

/// Whether each of them makes a seed fail that holds without it.
pub fn all_are_found(jobs: usize) -> bool {
    keep_panics();
    let core = CORE.map(|bug| (format!("{bug:?}"), Planted::with(bug), None));
    let shell = SHELL.map(|bug| (format!("{bug:?}"), Planted::default(), Some(bug)));
    let all: Vec<_> = core.into_iter().chain(shell).collect();
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    on_threads(jobs, &|| {
        while let Some((name, core, shell)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let started = Instant::now();
            let found = search(*core, *shell);
            let seconds = started.elapsed().as_secs_f32();
            match found {
                Ok((seed, how)) => println!("{name}: seed {seed}, {seconds:.1} s: {}", how.chars().take(140).collect::<String>()),
                Err(why) => {
                    println!("{name}: {why}, {seconds:.1} s");
                    locked(&missed).push(name);
                }
            }
        }
    });
    let missed = locked(&missed);
    println!("{} planted bugs, {} not found", all.len(), missed.len());
    missed.is_empty()
}

/// The first seed that fails, and how.
fn search(planted: Planted, shell_bug: Option<ShellBug>) -> Result<(u64, String), String> {
    for seed in 1..=SEEDS {
        let mut chaos = Chaos::of(seed);
        let innocent = chaos.clone();
        (chaos.conditions.planted, chaos.conditions.shell_bug) = (planted, shell_bug);
        if let Err(how) = caught(|| run(seed, &chaos, false)) {
            // It has to be the bug that fails.
            return match caught(|| run(seed, &innocent, false)) {
                Ok(_) => Ok((seed, how)),
                Err(why) => Err(format!("seed {seed} fails without it: {why}")),
            };
        }
    }
    Err("NOT FOUND".into())
}

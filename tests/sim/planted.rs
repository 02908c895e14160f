//! Proof that the simulation bites: every bug that can be planted is found, each within so many seeds.

use super::chaos::{Chaos, run};
use super::disk::ShellBug;
use super::members::cluster::FileBug;
use super::members::{self, MemberBug};
use super::runs::{caught, keep_panics, locked, on_threads};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use zoo::zab::{Bug, Planted};

/// Seeds tried for each bug. Nearly all are found within a hundred; a learner that misses proposals while it joins hurts only where joining takes long.
const SEEDS: u64 = 2_000;

const CORE: [Bug; 15] = [
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
    Bug::ProposedConfigIgnored,
];
const SHELL: [ShellBug; 4] = [ShellBug::HalfImage, ShellBug::CutsOneMore, ShellBug::ImageBehindItsLabel, ShellBug::SwallowedError];

const MEMBERS: [MemberBug; 2] = [MemberBug::ForgottenEphemeral, MemberBug::Files(FileBug::NameNotFlushed)];

/// One that can be planted.
#[derive(Clone, Copy, Debug)]
enum Any {
    Core(Bug),
    Shell(ShellBug),
    Member(MemberBug),
}

impl Any {
    /// A run of this seed with the bug, or without.
    fn run(self, seed: u64, is_planted: bool) {
        let is_of_changes = matches!(self, Any::Core(Bug::ProposedConfigIgnored));
        let mut chaos = if is_of_changes { Chaos::with_changes(seed) } else { Chaos::of(seed) };
        match self {
            Any::Core(bug) if is_planted => chaos.conditions.planted = Planted::with(bug),
            Any::Shell(bug) if is_planted => chaos.conditions.shell_bug = Some(bug),
            Any::Member(bug) => return drop(members::run_with(seed, Some(bug).filter(|_| is_planted), false)),
            Any::Core(_) | Any::Shell(_) => {}
        }
        drop(run(seed, &chaos, false));
    }
}

/// Whether each of them makes a seed fail that holds without it.
pub fn all_are_found(jobs: usize) -> bool {
    keep_panics();
    let (core, shell) = (CORE.into_iter().map(Any::Core), SHELL.into_iter().map(Any::Shell));
    let all: Vec<Any> = core.chain(shell).chain(MEMBERS.into_iter().map(Any::Member)).collect();
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    on_threads(jobs, &|| {
        while let Some(bug) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let started = Instant::now();
            let found = search(*bug);
            let seconds = started.elapsed().as_secs_f32();
            match found {
                Ok((seed, how)) => println!("{bug:?}: seed {seed}, {seconds:.1} s: {}", how.chars().take(140).collect::<String>()),
                Err(why) => {
                    println!("{bug:?}: {why}, {seconds:.1} s");
                    locked(&missed).push(bug);
                }
            }
        }
    });
    let missed = locked(&missed);
    println!("{} planted bugs, {} not found", all.len(), missed.len());
    missed.is_empty()
}

/// The first seed that fails, and how.
fn search(bug: Any) -> Result<(u64, String), String> {
    for seed in 1..=SEEDS {
        if let Err(how) = caught(|| bug.run(seed, true)) {
            // It has to be the bug that fails.
            return match caught(|| bug.run(seed, false)) {
                Ok(()) => Ok((seed, how)),
                Err(why) => Err(format!("seed {seed} fails without it: {why}")),
            };
        }
    }
    Err("NOT FOUND".into())
}

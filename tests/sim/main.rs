//! Whole ensembles on one thread each, from one seed, in virtual time. A seed is two runs of broadcast cores, with a network that delays, stalls
//! and cuts, disks that flush late and lose what was not flushed, servers that crash, pause and come back (`chaos`), without and with changing
//! members; on request (`--members`) a third of whole servers, from the bytes of their clients to the bytes of their disks (`members`). After every step the promises are checked; some runs
//! heal only a quorum at first, which must then finish everything. `planted` proves that broken rules are noticed.
//!
//! The same seed gives the same run, whatever the build: some are run twice to see that. A program of its own, whose scripts are picked by name as
//! tests are: `cargo test --test sim -- --help`.
#![allow(missing_docs)]

#[path = "../pipeline/driver.rs"]
mod driver;

mod chaos;
mod check;
mod cluster;
mod disk;
mod golden;
mod leader_scripts;
mod learner_scripts;
mod members;
mod network;
mod options;
#[cfg(feature = "planted-bugs")]
mod planted;
mod runs;
mod scenarios;
mod script;
mod totals;

use options::Options;
use std::process::ExitCode;

/// A test by its name.
pub type Named = (&'static str, fn());

/// Functions, by their names. One that is not listed is dead code, and the compiler says so.
#[macro_export]
macro_rules! named {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name as fn())),*] };
}

const PROGRAM: &[Named] = {
    use options::a_name_picks_scripts_and_a_number_of_seeds_picks_seeds;
    named![a_name_picks_scripts_and_a_number_of_seeds_picks_seeds]
};
const SCRIPTS: &[&[Named]] = &[PROGRAM, leader_scripts::ALL, learner_scripts::ALL, golden::ALL, scenarios::ALL];

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    let selected: Vec<Named> = SCRIPTS.iter().copied().flatten().copied().filter(|(name, _)| options.selects(name)).collect();
    if options.lists {
        selected.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let Some(seed) = options.replay {
        runs::replay(seed, options.members);
        return ExitCode::SUCCESS;
    }
    let mut is_good = !options.scripts || runs::scripts(&selected, options.jobs);
    if options.seeds > 0 || options.hours > 0.0 {
        is_good &= runs::seeds(&options);
    }
    if options.plants {
        is_good &= search(options.jobs);
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(feature = "planted-bugs")]
fn search(jobs: usize) -> bool {
    planted::all_are_found(jobs)
}
#[cfg(not(feature = "planted-bugs"))]
fn search(_: usize) -> bool {
    eprintln!("no bugs can be planted without the feature planted-bugs");
    false
}

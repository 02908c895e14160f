//! Runs scripts and seeds, on as many threads as asked for.

use super::Named;
use super::chaos::{self, Chaos};
use super::members;
use super::options::Options;
use super::totals::{Outcome, Totals};
use rustix::time::{ClockId, clock_gettime};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// One seed of so many is run twice.
const TWICE_IN: u64 = 25;
/// Nobody reads more of them.
const VIOLATIONS_MAX: usize = 20;

/// The runs of a seed; `true`: printing what happens.
type Run = (&'static str, fn(u64, bool) -> Outcome);
const RUNS: &[Run] = &[
    ("cores", |seed, prints| chaos::run(seed, &Chaos::of(seed), prints).outcome()),
    ("changes", |seed, prints| chaos::run(seed, &Chaos::with_changes(seed), prints).outcome()),
];
/// Only on request: they take several times as long.
const WHOLE: &[Run] = &[("members", members::run)];

fn runs(with_members: bool) -> impl Iterator<Item = &'static Run> {
    RUNS.iter().chain(WHOLE.iter().filter(move |_| with_members))
}

thread_local! {
    static FAILURE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The panic of what fails, as text.
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| FAILURE.take())
}

/// Panics are kept for whoever catches them, and printed by nobody else.
pub fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("a panic without a text");
        let place = info.location().map_or_else(String::new, |at| format!(" ({}:{})", at.file(), at.line()));
        FAILURE.set(format!("{text}{place}"));
    }));
}

/// One seed, with everything that it prints.
pub fn replay(seed: u64, with_members: bool) {
    for (name, run) in runs(with_members) {
        println!("seed {seed}, {name}:");
        let outcome = run(seed, true);
        println!("{outcome:#?}");
    }
}

/// Whether all hold.
pub fn scripts(scripts: &[Named], jobs: usize) -> bool {
    keep_panics();
    let next = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let work = || {
        while let Some((name, script)) = scripts.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            match caught(script) {
                Ok(()) => println!("test {name} ... ok"),
                Err(why) => {
                    println!("test {name} ... FAILED");
                    locked(&failed).push((*name, why));
                }
            }
        }
    };
    on_threads(jobs, &work);
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (name, why) in &failed {
        println!("\n---- {name}\n{why}");
    }
    println!("{} scripts, {} failed", scripts.len(), failed.len());
    failed.is_empty()
}

/// Whether nothing went wrong in as many seeds as asked for.
pub fn seeds(options: &Options) -> bool {
    keep_panics();
    let next = AtomicU64::new(options.from);
    let totals = Mutex::new(Totals::default());
    let work = || {
        let began = busy_ns();
        loop {
            {
                let totals = locked(&totals);
                let started = next.load(Ordering::Relaxed) - options.from;
                let is_enough = started >= options.seeds && totals.hours() >= options.hours;
                if is_enough || totals.violations.len() >= VIOLATIONS_MAX {
                    break;
                }
            }
            one_seed(next.fetch_add(1, Ordering::Relaxed), options.members, &totals);
        }
        locked(&totals).busy_ns += busy_ns() - began;
    };
    on_threads(options.jobs, &work);
    let mut totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    totals.violations.sort();
    println!("{totals}");
    totals.violations.is_empty()
}

fn one_seed(seed: u64, with_members: bool, totals: &Mutex<Totals>) {
    let is_repeated = seed.is_multiple_of(TWICE_IN);
    for (name, run) in runs(with_members) {
        let first = caught(|| run(seed, false));
        let again = is_repeated.then(|| caught(|| run(seed, false)));
        let mut totals = locked(totals);
        if again.is_some_and(|again| again != first) {
            totals.violations.push((seed, name, "the same seed gives another run".into()));
        }
        match first {
            Ok(outcome) => totals.add(&outcome),
            Err(why) => {
                println!("seed {seed} ({name}) fails: {why}");
                totals.violations.push((seed, name, why));
            }
        }
    }
    let mut totals = locked(totals);
    totals.seeds += 1;
    totals.run_twice += u64::from(is_repeated);
}

/// Runs this on so many threads, one of them this one.
pub fn on_threads(jobs: usize, work: &(impl Fn() + Sync)) {
    std::thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(work);
        }
        work();
    });
}

/// What is behind the lock; a thread that has panicked has left it as good as any other.
pub fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Processor time of this thread.
fn busy_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

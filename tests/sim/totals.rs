//! What runs came to.

use std::collections::BTreeMap;
use std::fmt;

/// Things counted, by their names.
pub type Counts = BTreeMap<&'static str, u64>;

/// One run.
#[derive(Default, PartialEq, Debug)]
pub struct Outcome {
    /// Virtual time.
    pub simulated_ns: u64,
    /// A fingerprint of everything that happened.
    pub trace: u64,
    /// What was done to it, and how often.
    pub faults: Counts,
    /// What came of it, and how often.
    pub reached: Counts,
}

/// Many runs.
#[derive(Default)]
pub struct Totals {
    pub seeds: u64,
    simulated_ns: u64,
    /// Of all threads.
    pub busy_ns: u64,
    pub run_twice: u64,
    faults: Counts,
    reached: Counts,
    /// Seed, run, what was wrong.
    pub violations: Vec<(u64, &'static str, String)>,
}

impl Totals {
    pub fn add(&mut self, outcome: &Outcome) {
        self.simulated_ns += outcome.simulated_ns;
        count_all(&mut self.faults, &outcome.faults);
        count_all(&mut self.reached, &outcome.reached);
    }
    pub fn hours(&self) -> f64 {
        self.simulated_ns as f64 / 3.6e12
    }
}

fn count_all(sum: &mut Counts, more: &Counts) {
    for (what, count) in more {
        *sum.entry(what).or_default() += count;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core_hours = self.busy_ns as f64 / 3.6e12;
        writeln!(
            f,
            "{} seeds, {} of them twice; {:.2} cluster-hours, {:.0} for each core-hour",
            self.seeds,
            self.run_twice,
            self.hours(),
            self.hours() / core_hours.max(1e-12)
        )?;
        for (title, counts) in [("faults", &self.faults), ("reached", &self.reached)] {
            let counts: Vec<String> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
            writeln!(f, "{title}: {}", counts.join(", "))?;
        }
        for (seed, run, what) in &self.violations {
            writeln!(f, "VIOLATION in seed {seed} ({run}): {what}\n  cargo test --test sim -- --seed {seed}")?;
        }
        write!(f, "{} violations", self.violations.len())
    }
}

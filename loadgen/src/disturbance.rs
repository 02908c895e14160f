//! A command that is run in the middle of a run, to see what it does to those being served: a kill, a server that comes back.

use crate::measure::Latencies;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What to do, and when.
#[derive(Clone, PartialEq, Debug)]
pub struct Disturbance {
    /// For the shell.
    pub command: String,
    /// Seconds of the measured window that come before it.
    pub after_s: f64,
}

/// Parts of a run, in their order and as figures are named.
pub const PHASES: [&str; 3] = ["before", "during", "after"];
const DURING: u8 = 1;
const AFTER: u8 = 2;

/// The part of the run that is now: before the command has begun, while it runs, after it has ended.
#[derive(Debug, Default)]
pub struct Phase(AtomicU8);

impl Phase {
    /// As an index into [`PHASES`].
    pub fn now(&self) -> usize {
        usize::from(self.0.load(Relaxed)).min(PHASES.len() - 1)
    }

    /// Runs the command and returns how long it took.
    pub fn run(&self, command: &str) -> Result<Duration, String> {
        self.0.store(DURING, Relaxed);
        let started = Instant::now();
        let output = Command::new("sh").args(["-c", command]).output();
        let took = started.elapsed();
        self.0.store(AFTER, Relaxed);
        match output {
            Ok(output) if output.status.success() => Ok(took),
            Ok(output) => Err(format!("{command:?} failed, {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end())),
            Err(e) => Err(format!("{command:?} cannot be run: {e}")),
        }
    }
}

/// Latencies by phase.
pub type PhaseLatencies = [Latencies; PHASES.len()];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_moves_the_run_from_phase_to_phase() {
        let phase = Phase::default();
        assert_eq!(PHASES[phase.now()], "before");
        assert!(phase.run("sleep 0.05").expect("it runs") >= Duration::from_millis(50));
        assert_eq!(PHASES[phase.now()], "after");
    }

    #[test]
    fn a_command_that_fails_says_so_with_its_own_words() {
        let why = Phase::default().run("echo nobody here >&2; exit 3").expect_err("it fails");
        assert!(why.contains("nobody here") && why.contains('3'), "{why}");
    }
}

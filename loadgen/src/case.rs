//! What can be run on a target, whoever asked for it: a command of its own, a comparison, or a workload's file.

use crate::connection::Failure;
use crate::driver::Pace;
use crate::fan_out::{FanOutOptions, run_fan_out};
use crate::fill::{FillOptions, run_fill};
use crate::idle::{IdleOptions, run_idle};
use crate::load::{LoadOptions, run_load};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::sessions::{SessionsOptions, run_sessions};
use crate::target::Target;
use std::path::PathBuf;

/// Stands for a target's label in what is run on several.
const LABEL: &str = "{label}";

/// One thing to run.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Case {
    Load(Box<LoadOptions>),
    Fill(FillOptions),
    FanOut(FanOutOptions),
    Sessions(SessionsOptions),
    Idle(IdleOptions),
}

/// A case with the name of its workload; without one it has an empty name.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct NamedCase {
    pub name: String,
    /// Of the workload's file.
    pub version: Option<u32>,
    pub case: Case,
}

impl Case {
    /// Runs it.
    pub fn run(&self, target: &Target, progress: &Progress) -> Result<Outcome, Failure> {
        match self {
            Case::Load(options) => run_load(target, &for_target(options, target), progress),
            Case::Fill(options) => run_fill(target, options, progress),
            Case::FanOut(options) => run_fan_out(target, options, progress),
            Case::Sessions(options) => run_sessions(target, options, progress),
            Case::Idle(options) => run_idle(target, options, progress),
        }
    }

    /// Can this be asked of the target?
    pub fn suits(&self, target: &Target) -> bool {
        match self {
            Case::Load(o) => target.takes(o.value_size) && !o.mix.any(|kind| !target.does(kind)),
            Case::FanOut(o) => target.does_all() || (target.notifies() && o.is_plain()),
            Case::Fill(_) | Case::Sessions(_) | Case::Idle(_) => target.does_all(),
        }
    }

    /// The same as an open loop, for one that is closed.
    pub fn open_loop(&self, rate: f64) -> Option<Case> {
        let Case::Load(options) = self else { return None };
        let Pace::Closed { spacing, .. } = options.pace else { return None };
        Some(Case::Load(Box::new(LoadOptions { pace: Pace::Open { rate, spacing }, ..(**options).clone() })))
    }

    /// The same for so many seconds and without anything that happens meanwhile: what comes before a measurement.
    pub fn warm_run(&self, seconds: f64) -> Option<Case> {
        let Case::Load(options) = self else { return None };
        let quiet = LoadOptions { warmup_s: 0.0, duration_s: seconds, disturbance: None, snapshot_dir: None, ..(**options).clone() };
        Some(Case::Load(Box::new(quiet)))
    }

    /// In words.
    pub fn describe(&self) -> String {
        match self {
            Case::Load(options) => describe_load(options),
            Case::Fill(o) => {
                format!("{} znodes of {} B below {}, {} children a parent", o.znodes, o.value_size, o.root, o.children_per_parent)
            }
            Case::FanOut(options) => options.describe(),
            Case::Sessions(o) => format!("{} clients connecting and closing, {} s", o.clients, o.duration_s),
            Case::Idle(options) => options.describe(),
        }
    }
}

fn describe_load(o: &LoadOptions) -> String {
    let pace = match o.pace {
        Pace::Closed { in_flight, .. } => format!("closed loop, {in_flight} in flight each"),
        Pace::Open { rate, .. } => format!("open loop, {rate:.0} ops/s"),
    };
    let during = o.disturbance.as_ref().map_or(String::new(), |d| format!("; after {} s: {}", d.after_s, d.command));
    format!(
        "{}; {} connections; {pace}; {} keys of {} B; warm-up {} s, {} s measured; seed {}{during}",
        o.mix, o.connections, o.key_count, o.value_size, o.warmup_s, o.duration_s, o.seed
    )
}

fn for_target(options: &LoadOptions, target: &Target) -> LoadOptions {
    let mut options = options.clone();
    if let Some(disturbance) = &mut options.disturbance {
        disturbance.command = disturbance.command.replace(LABEL, &target.label);
    }
    options.snapshot_dir = options.snapshot_dir.map(|dir| PathBuf::from(dir.to_string_lossy().replace(LABEL, &target.label)));
    options
}

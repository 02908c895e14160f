//! Runs saved with `--json`, side by side: one table for each label beside the first one's.

use crate::compare::Series;
use crate::outcome::{Outcome, conditions_text};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// All runs of one label, in the order they were given.
#[derive(Debug)]
struct Group {
    label: String,
    /// Of its first run, as it was saved.
    conditions: Vec<(String, String)>,
    outcomes: Vec<Outcome>,
}

/// Prints it. `only` are the beginnings of the names of figures that are shown; none shows all.
pub fn run_report(files: &[PathBuf], only: &[String]) -> Result<(), String> {
    let groups = read_groups(files)?;
    let Some((first, others)) = groups.split_first() else { return Err("no run is given".to_owned()) };
    print!("{}, {} runs\n{}", first.label, first.outcomes.len(), conditions_text(&first.conditions));
    let others = if others.is_empty() { std::slice::from_ref(first) } else { others };
    for other in others {
        let series = Series { a: shown(&first.outcomes, only), b: shown(&other.outcomes, only) };
        println!("\nmedian [lowest–highest]; ~ marks a ratio within its spread\n{}", series.table(&first.label, &other.label));
    }
    Ok(())
}

fn shown(outcomes: &[Outcome], only: &[String]) -> Vec<Outcome> {
    let is_shown = |name: &str| only.is_empty() || only.iter().any(|prefix| name.starts_with(prefix.as_str()));
    let mut outcomes = outcomes.to_vec();
    outcomes.iter_mut().for_each(|o| o.metrics.retain(|m| is_shown(&m.name)));
    outcomes
}

fn read_groups(files: &[PathBuf]) -> Result<Vec<Group>, String> {
    let mut groups: Vec<Group> = Vec::new();
    for file in files {
        let mut run = read_run(file).map_err(|why| format!("{}: {why}", file.display()))?;
        match groups.iter_mut().find(|g| g.label == run.label) {
            Some(group) => group.outcomes.append(&mut run.outcomes),
            None => groups.push(run),
        }
    }
    Ok(groups)
}

/// A group of one.
fn read_run(file: &Path) -> Result<Group, String> {
    let text = fs::read_to_string(file).map_err(|e| e.to_string())?;
    let json: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let label = json["server"].as_str().map(str::to_owned);
    let (label, outcome) = label.zip(Outcome::from_json(&json)).ok_or("this is no run that was saved with --json")?;
    if let Some(why) = &outcome.failure {
        return Err(format!("this run failed: {why}"));
    }
    let conditions = json["conditions"].as_object().into_iter().flatten();
    let conditions = conditions.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    Ok(Group { label, conditions, outcomes: vec![outcome] })
}

//! Saved runs, side by side: for each workload one table for each label beside the first one's, and a page with drawings.

use crate::compare::Series;
use crate::outcome::{Outcome, conditions_text};
use crate::page;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// All runs of one workload.
#[derive(Debug)]
pub struct Section {
    /// The workload's name; empty for runs that were given none.
    pub name: String,
    /// By label, in the order they were given; never empty.
    pub groups: Vec<Group>,
}

/// All runs of one label, in the order they were given.
#[derive(Debug)]
pub struct Group {
    /// Whose.
    pub label: String,
    /// Of its first run, as it was saved.
    pub conditions: Vec<(String, String)>,
    /// Never empty.
    pub outcomes: Vec<Outcome>,
}

/// Prints it, and writes the page. `only` are the beginnings of the names of figures that are printed; none prints all.
pub fn run_report(files: &[PathBuf], only: &[String], html: Option<&Path>) -> Result<(), String> {
    let sections = read_sections(files)?;
    for section in &sections {
        print!("{}", section_text(section, only));
    }
    html.map_or(Ok(()), |file| fs::write(file, page::page(&sections)).map_err(|e| format!("{}: {e}", file.display())))
}

fn section_text(section: &Section, only: &[String]) -> String {
    let Some((first, others)) = section.groups.split_first() else { return String::new() };
    let title = if section.name.is_empty() { String::new() } else { format!("{}: ", section.name) };
    let mut text = format!("{title}{}, {} runs\n{}", first.label, first.outcomes.len(), conditions_text(&first.conditions));
    let others = if others.is_empty() { std::slice::from_ref(first) } else { others };
    for other in others {
        let series = Series { a: shown(&first.outcomes, only), b: shown(&other.outcomes, only) };
        text.push_str("\nmedian [lowest–highest]; ~ marks a ratio within its spread\n");
        text.push_str(&series.table(&first.label, &other.label));
        text.push('\n');
    }
    text
}

fn shown(outcomes: &[Outcome], only: &[String]) -> Vec<Outcome> {
    let is_shown = |name: &str| only.is_empty() || only.iter().any(|prefix| name.starts_with(prefix.as_str()));
    let mut outcomes = outcomes.to_vec();
    outcomes.iter_mut().for_each(|o| o.metrics.retain(|m| is_shown(&m.name)));
    outcomes
}

fn read_sections(files: &[PathBuf]) -> Result<Vec<Section>, String> {
    let mut sections: Vec<Section> = Vec::new();
    for file in files {
        let (name, run) = read_run(file).map_err(|why| format!("{}: {why}", file.display()))?;
        match sections.iter_mut().find(|s| s.name == name) {
            Some(section) => section.add(run),
            None => sections.push(Section { name, groups: vec![run] }),
        }
    }
    Ok(sections)
}

impl Section {
    fn add(&mut self, mut run: Group) {
        match self.groups.iter_mut().find(|g| g.label == run.label) {
            Some(group) => group.outcomes.append(&mut run.outcomes),
            None => self.groups.push(run),
        }
    }
}

/// The workload's name, and a group of one.
fn read_run(file: &Path) -> Result<(String, Group), String> {
    let text = fs::read_to_string(file).map_err(|e| e.to_string())?;
    let json: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let label = json["server"].as_str().map(str::to_owned);
    let (label, outcome) = label.zip(Outcome::from_json(&json)).ok_or("this is no run that was saved with --json")?;
    if let Some(why) = &outcome.failure {
        return Err(format!("this run failed: {why}"));
    }
    let conditions = json["conditions"].as_object().into_iter().flatten();
    let conditions = conditions.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    Ok((json["workload"].as_str().unwrap_or_default().to_owned(), Group { label, conditions, outcomes: vec![outcome] }))
}

//! Running servers, measured in turns: A B C, B C A, C A B, … so that the machine's moods fall on all. What counts is the ratio of
//! neighbours, and its spread over the turns.

use crate::case::NamedCase;
use crate::cli::TurnsArgs;
use crate::host::Machine;
use crate::measure::{Metric, Summary, find, ratios};
use crate::outcome::{Outcome, conditions, conditions_json, conditions_text, format_value};
use crate::progress::Progress;
use crate::target::Target;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::fs;

/// All runs of one workload.
#[derive(Debug, Default)]
pub struct Section {
    /// The workload's name; empty for runs that were given none.
    pub name: String,
    /// Of its first run, as they were saved.
    pub conditions: Vec<(String, String)>,
    /// By label, in the order they were given; each is compared with the first.
    pub groups: Vec<Group>,
    /// Runs whose figures are worthless, and why.
    pub failures: Vec<String>,
}

/// All runs of one label, in the order they were made.
#[derive(Debug)]
pub struct Group {
    /// Whose.
    pub label: String,
    /// Never empty.
    pub outcomes: Vec<Outcome>,
}

/// Runs every case on every target that it suits; with an open share, closed loops are followed by open ones at that share of the slowest
/// target's throughput, the same rate for all. A run that fails is told of in its section; the others go on.
pub fn run_cases(targets: &[Target], cases: &[NamedCase], args: &TurnsArgs) -> Result<Vec<Section>, String> {
    if let Some(dir) = &args.save {
        fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    let mut sections: Vec<Section> = Vec::new();
    for case in cases {
        let suited: Vec<_> = targets.iter().filter(|t| case.case.suits(t)).collect();
        if args.warm_run > 0.0
            && let Some(warm) = case.case.warm_run(args.warm_run)
        {
            let warm = NamedCase { name: format!("{}, warm-up", case.name), case: warm, ..case.clone() };
            // What is wrong with a target shows in the runs that count.
            let _ = Turns { args, targets: &suited, case: &warm, number: None }.measure(1);
        }
        let first = Turns { args, targets: &suited, case, number: Some(sections.len() + 1) }.measure(args.alternations)?;
        let rate = first.slowest("throughput").unwrap_or(0.0) * args.open_share;
        sections.push(first);
        if rate > 0.0
            && let Some(open) = case.case.open_loop(rate)
        {
            let name = if case.name.is_empty() { "open loop".to_owned() } else { format!("{}, open loop", case.name) };
            let open = NamedCase { name, case: open, ..case.clone() };
            sections.push(Turns { args, targets: &suited, case: &open, number: Some(sections.len() + 1) }.measure(args.alternations)?);
        }
    }
    Ok(sections)
}

/// The turns of one case.
struct Turns<'a> {
    args: &'a TurnsArgs,
    targets: &'a [&'a Target],
    case: &'a NamedCase,
    /// Of its section, in names of files; runs that do not count have none.
    number: Option<usize>,
}

impl Turns<'_> {
    fn measure(&self, turns: usize) -> Result<Section, String> {
        let mut section = Section { name: self.case.name.clone(), ..Section::default() };
        for (turn, step, target) in order(turns, self.targets) {
            let machine = Machine::describe(self.args.output.data_dir.as_deref());
            let conditions = conditions(&machine, &self.args.output.durability, &self.what());
            let progress = Progress::new(&format!("{}/{turns} {}: {}", turn + 1, self.case.name, target.label));
            let outcome = self.case.case.run(target, &progress);
            drop(progress);
            let outcome = outcome.unwrap_or_else(|e| Outcome { failure: Some(e.to_string()), ..Outcome::default() });
            if let Some(number) = self.number {
                self.save(&format!("{number:02}-{turn:02}-{step}"), target, &conditions, &outcome)?;
            }
            let conditions = conditions.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            section.add(&target.label, conditions, outcome);
        }
        Ok(section)
    }

    fn what(&self) -> String {
        let version = self.case.version.map_or(String::new(), |v| format!("version {v}: "));
        format!("{version}{}", self.case.case.describe())
    }

    fn save(&self, name: &str, target: &Target, conditions: &[(&'static str, String)], outcome: &Outcome) -> Result<(), String> {
        let Some(dir) = &self.args.save else { return Ok(()) };
        let mut value = outcome.json();
        value["workload"] = json!(self.case.name);
        value["server"] = json!(target.label);
        value["conditions"] = conditions_json(conditions);
        let write = |file: &str, bytes: Vec<u8>| fs::write(dir.join(file), bytes).map_err(|e| format!("{}: {e}", dir.join(file).display()));
        write(&format!("{name}.json"), format!("{value:#}\n").into_bytes())?;
        match &outcome.intervals {
            Some(intervals) => write(&format!("{name}.hlog"), intervals.log(&format!("{} {}", self.case.name, target.label))?),
            None => Ok(()),
        }
    }
}

/// Turn, step and target of each run: everybody is the first in a turn as often as the others.
fn order<'a>(turns: usize, targets: &'a [&'a Target]) -> impl Iterator<Item = (usize, usize, &'a Target)> {
    (0..turns).flat_map(move |turn| (0..targets.len()).map(move |step| (turn, step, targets[(turn + step) % targets.len()])))
}

impl Section {
    /// Adds a run.
    pub fn add(&mut self, label: &str, conditions: Vec<(String, String)>, outcome: Outcome) {
        if self.conditions.is_empty() {
            self.conditions = conditions;
        }
        if let Some(why) = &outcome.failure {
            self.failures.push(format!("{label}: {why}"));
            return;
        }
        match self.groups.iter_mut().find(|g| g.label == label) {
            Some(group) => group.outcomes.push(outcome),
            None => self.groups.push(Group { label: label.to_owned(), outcomes: vec![outcome] }),
        }
    }

    /// Median of a metric of the target that has least of it.
    fn slowest(&self, name: &str) -> Option<f64> {
        self.groups.iter().filter_map(|g| Some(g.summary(name)?.median)).min_by(f64::total_cmp)
    }

    /// Names and units of all figures of any run, in the order of the first that has them.
    pub fn metrics(&self) -> Vec<&Metric> {
        let mut all: Vec<&Metric> = Vec::new();
        for metric in self.groups.iter().flat_map(|g| &g.outcomes).flat_map(|o| &o.metrics) {
            if !all.iter().any(|m| m.name == metric.name) {
                all.push(metric);
            }
        }
        all
    }

    /// The first group's figure divided by another's, run by run.
    pub fn ratio(&self, other: usize, name: &str) -> Option<Summary> {
        let (a, b) = (self.groups.first()?.values(name), self.groups.get(other)?.values(name));
        // A metric that one run lacks (a snapshot that did not happen) cannot be paired.
        if a.len() == b.len() { Summary::of(&ratios(&a, &b)) } else { None }
    }

    /// For people. `only` are the beginnings of the names of figures that are shown; none shows all.
    pub fn text(&self, only: &[String]) -> String {
        let title = if self.name.is_empty() { String::new() } else { format!("{}: ", self.name) };
        let labels: Vec<_> = self.groups.iter().map(|g| g.label.as_str()).collect();
        let runs = self.groups.first().map_or(0, |g| g.outcomes.len());
        let mut text = format!("{title}{}, {runs} runs each\n{}", labels.join(", "), conditions_text(&self.conditions));
        if !self.groups.is_empty() {
            text.push_str("\nmedian [lowest–highest]; ~ marks a ratio within its spread\n");
            text.push_str(&self.table(only));
        }
        self.failures.iter().for_each(|why| {
            let _ = writeln!(text, "  FAILED: {why}");
        });
        text.push('\n');
        text
    }

    fn table(&self, only: &[String]) -> String {
        let is_shown = |name: &str| only.is_empty() || only.iter().any(|prefix| name.starts_with(prefix.as_str()));
        let range = |s: &Summary| format!("{} [{}–{}]", format_value(s.median), format_value(s.min), format_value(s.max));
        let mut lines = vec![self.columns("", |g| g.label.clone(), |at| format!("{} / {}", self.groups[0].label, self.groups[at].label))];
        for metric in self.metrics().into_iter().filter(|m| is_shown(&m.name)) {
            lines.push(self.columns(
                format!("{} ({})", metric.name, metric.unit).trim_end_matches(" ()"),
                |g| g.summary(&metric.name).as_ref().map_or("–".to_owned(), range),
                |at| {
                    let ratio = self.ratio(at, &metric.name);
                    ratio.map_or("–".to_owned(), |r| format!("{}{}", range(&r), if r.is_decided() { "" } else { " ~" }))
                },
            ));
        }
        lines.push(self.columns("errors", |g| g.errors().to_string(), |_| String::new()));
        aligned(&lines)
    }

    /// A name, what each group has, and behind all but the first what it is beside the first.
    fn columns(&self, name: &str, value: impl Fn(&Group) -> String, beside: impl Fn(usize) -> String) -> Vec<String> {
        let mut line = vec![name.to_owned()];
        for (at, group) in self.groups.iter().enumerate() {
            line.push(value(group));
            if at > 0 {
                line.push(beside(at));
            }
        }
        line
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let show = |s: Summary| json!({"median": s.median, "min": s.min, "max": s.max});
        let by_label = |of: &dyn Fn(usize) -> Option<Summary>, from: usize| -> Map<String, Value> {
            (from..self.groups.len()).filter_map(|at| Some((self.groups[at].label.clone(), show(of(at)?)))).collect()
        };
        let metrics: Map<_, _> = self
            .metrics()
            .into_iter()
            .map(|m| {
                let servers = by_label(&|at| self.groups[at].summary(&m.name), 0);
                let ratios = by_label(&|at| self.ratio(at, &m.name), 1);
                (m.name.clone(), json!({"unit": m.unit, "servers": servers, "ratio_of_first": ratios}))
            })
            .collect();
        let conditions: Map<_, _> = self.conditions.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let errors: Map<_, _> = self.groups.iter().map(|g| (g.label.clone(), json!(g.errors()))).collect();
        let labels: Vec<_> = self.groups.iter().map(|g| &g.label).collect();
        json!({"workload": self.name, "servers": labels, "conditions": conditions, "metrics": metrics, "errors": errors, "failures": self.failures})
    }
}

impl Group {
    /// A figure of each run that has it.
    pub fn values(&self, name: &str) -> Vec<f64> {
        self.outcomes.iter().filter_map(|o| find(&o.metrics, name)).collect()
    }

    /// Of these.
    pub fn summary(&self, name: &str) -> Option<Summary> {
        Summary::of(&self.values(name))
    }

    /// Error replies of all runs.
    pub fn errors(&self) -> u64 {
        self.outcomes.iter().flat_map(|o| &o.errors).map(|(_, n)| n).sum()
    }
}

/// Columns as wide as their widest cell; the first to the left, the others to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<_> = (0..columns).map(|c| lines.iter().map(|l| l[c].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = if at == 0 { write!(text, "  {cell:<width$}") } else { write!(text, "  {cell:>width$}") };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(throughput: f64) -> Outcome {
        Outcome { metrics: vec![Metric::new("throughput", throughput, "ops/s")], ..Outcome::default() }
    }

    fn section(runs: &[(&str, f64)]) -> Section {
        let mut section = Section::default();
        runs.iter().for_each(|(label, throughput)| section.add(label, Vec::new(), outcome(*throughput)));
        section
    }

    #[test]
    fn servers_take_turns_at_going_first() {
        let targets = ["127.0.0.1:1,a", "127.0.0.1:2,b", "127.0.0.1:3,c"].map(|t| t.parse::<Target>().expect("valid"));
        let said = |turns, targets: &[&Target]| order(turns, targets).map(|(_, _, t)| t.label.clone()).collect::<String>();
        assert_eq!(said(3, &targets.each_ref()), "abcbcacab");
        assert_eq!(said(3, &targets.each_ref()[..2]), "abbaab");
    }

    #[test]
    fn every_server_stands_beside_the_first() {
        let section = section(&[("a", 10.0), ("b", 10.0), ("c", 4.0), ("b", 10.0), ("a", 20.0), ("a", 30.0), ("b", 10.0)]);
        assert_eq!(section.slowest("throughput"), Some(4.0));
        let table = section.text(&[]);
        assert!(table.contains("a / b") && table.contains("2.00 [1.00–3.00] ~") && table.contains("a / c"), "{table}");
        let json = section.json();
        assert_eq!(json["metrics"]["throughput"]["ratio_of_first"]["b"]["median"], 2.0);
        assert_eq!(json["metrics"]["throughput"]["ratio_of_first"]["c"], Value::Null, "three runs beside one are no pairs");
        assert!(!section.text(&["p99".to_owned()]).contains("throughput"));
    }

    #[test]
    fn a_failed_run_is_told_of_by_name_and_counts_for_nothing() {
        let mut section = section(&[("one", 1.0)]);
        section.add("two", Vec::new(), Outcome { failure: Some("wrong reply".to_owned()), ..outcome(9.0) });
        assert_eq!((section.failures.as_slice(), section.groups.len()), (&["two: wrong reply".to_owned()][..], 1));
        assert!(section.text(&[]).contains("FAILED: two: wrong reply"));
    }
}

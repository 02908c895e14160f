//! What a scenario returns, and how it is shown.

use crate::host::Machine;
use crate::intervals::Intervals;
use crate::measure::{Latencies, Metric, QUANTILES};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::time::Duration;

/// The figures of one run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// In the order they are shown.
    pub metrics: Vec<Metric>,
    /// Error replies and missing ones, by what they were.
    pub errors: Vec<(String, u64)>,
    /// Why the figures are worthless.
    pub failure: Option<String>,
    /// What drawings are made of: counts over time, the distribution of latencies, CPU and memory.
    pub points: Option<Value>,
    /// Latencies in time, for a log; not read again.
    pub intervals: Option<Intervals>,
}

impl Outcome {
    /// Of one kind of latency, without times: its distribution and its log.
    pub fn of_latencies(metrics: Vec<Metric>, latencies: &Latencies, took: Duration) -> Self {
        let points = Some(json!({"distribution": latencies.distribution()}));
        Outcome { metrics, points, intervals: Some(Intervals::of_all(latencies.clone(), took)), ..Outcome::default() }
    }

    /// For people: one line a figure; the quantiles of one thing share a line.
    pub fn table(&self) -> String {
        let width = self.metrics.iter().map(|m| m.name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        let mut rest = &self.metrics[..];
        while let Some((m, tail)) = rest.split_first() {
            match latency_group(rest) {
                Some((name, group)) => {
                    let _ = write!(text, "  {name:<width$}");
                    for (m, what) in group.iter().zip(QUANTILES) {
                        let _ = write!(text, "  {what} {:>8}", format_value(m.value));
                    }
                    let _ = writeln!(text, " {}", m.unit);
                    rest = &rest[group.len()..];
                }
                None => {
                    let _ = writeln!(text, "  {:<width$}  {:>12} {}", m.name, format_value(m.value), m.unit);
                    rest = tail;
                }
            }
        }
        match self.errors.is_empty() {
            true => text.push_str("  no errors\n"),
            false => self.errors.iter().for_each(|(what, n)| {
                let _ = writeln!(text, "  {what}: {n}");
            }),
        }
        if let Some(why) = &self.failure {
            let _ = writeln!(text, "  FAILED: {why}");
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        // An object's members come back in the order of their names.
        let order: Vec<_> = self.metrics.iter().map(|m| &m.name).collect();
        let metrics: Map<_, _> = self.metrics.iter().map(|m| (m.name.clone(), json!({"value": m.value, "unit": m.unit}))).collect();
        let errors: Map<_, _> = self.errors.iter().map(|(what, n)| (what.clone(), json!(n))).collect();
        json!({"order": order, "metrics": metrics, "errors": errors, "failure": self.failure, "points": self.points})
    }

    /// What [`Outcome::json`] has written.
    pub fn from_json(json: &Value) -> Option<Self> {
        let metric = |name: &Value| {
            let name = name.as_str()?;
            let metric = json["metrics"].get(name)?;
            Some(Metric::new(name, metric["value"].as_f64()?, metric["unit"].as_str()?.to_owned()))
        };
        let error = |(what, n): (&String, &Value)| Some((what.clone(), n.as_u64()?));
        Some(Outcome {
            metrics: json["order"].as_array()?.iter().map(metric).collect::<Option<_>>()?,
            errors: json["errors"].as_object()?.iter().map(error).collect::<Option<_>>()?,
            failure: json["failure"].as_str().map(str::to_owned),
            points: Some(json["points"].clone()).filter(|p| !p.is_null()),
            intervals: None,
        })
    }
}

/// The quantiles of one thing, when `metrics` begins with them, and its name.
fn latency_group(metrics: &[Metric]) -> Option<(&str, &[Metric])> {
    let group = metrics.get(..QUANTILES.len())?;
    let name = group[0].name.strip_suffix(QUANTILES[0])?;
    let fits = group.iter().zip(QUANTILES).all(|(m, what)| m.name.strip_suffix(what) == Some(name));
    fits.then_some((if name.is_empty() { "latency" } else { name.trim_end() }, group))
}

/// About three significant digits: more would pretend.
pub fn format_value(v: f64) -> String {
    match v.abs() {
        a if a >= 100.0 || a == 0.0 => format!("{v:.0}"),
        a if a >= 10.0 => format!("{v:.1}"),
        a if a >= 1.0 => format!("{v:.2}"),
        _ => format!("{v:.3}"),
    }
}

/// The conditions of a measurement, one line each.
pub fn conditions(machine: &Machine, durability: &str, workload: &str) -> Vec<(&'static str, String)> {
    vec![
        ("machine", format!("{} cores, {}", machine.cores, machine.cpu)),
        ("kernel", machine.kernel.clone()),
        ("load", format!("{} (load averages before this run)", machine.load_average)),
        ("disk", machine.disk.clone().unwrap_or_else(|| "not stated (--data-dir)".to_owned())),
        ("durability", durability.to_owned()),
        ("workload", workload.to_owned()),
    ]
}

/// Conditions for people.
pub fn conditions_text(conditions: &[(impl std::fmt::Display, String)]) -> String {
    conditions.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "  {name:<10}  {value}");
        text
    })
}

/// Conditions for programs.
pub fn conditions_json(conditions: &[(&'static str, String)]) -> Value {
    Value::Object(conditions.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Latencies;

    #[test]
    fn values_keep_three_digits() {
        let shown: Vec<_> = [0.0, 0.1234, 1.234, 12.34, 123.4, 123_456.7].into_iter().map(format_value).collect();
        assert_eq!(shown, ["0", "0.123", "1.23", "12.3", "123", "123457"]);
    }

    #[test]
    fn quantiles_share_a_line() {
        let mut latencies = Latencies::default();
        latencies.record(1_000_000);
        let metrics = [latencies.metrics(""), latencies.metrics("get"), vec![Metric::new("ops", 5.0, "")]].concat();
        let table = Outcome { metrics, ..Outcome::default() }.table();
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(table.starts_with("  latency") && table.contains("\n  get"), "{table}");
    }

    #[test]
    fn errors_and_failures_are_shown() {
        let outcome = Outcome {
            metrics: vec![Metric::new("throughput", 5.0, "ops/s")],
            errors: vec![("get error -101".to_owned(), 3)],
            failure: Some("wrong reply".to_owned()),
            ..Outcome::default()
        };
        let table = outcome.table();
        assert!(table.contains("5.00 ops/s") && table.contains("get error -101: 3") && table.contains("FAILED: wrong reply"), "{table}");
        assert_eq!(outcome.json()["errors"]["get error -101"], 3);
        assert_eq!(outcome.json()["metrics"]["throughput"]["unit"], "ops/s");
    }

    #[test]
    fn what_was_saved_is_read_again_in_its_order() {
        let outcome = Outcome {
            metrics: ["z", "a", "m"].map(|name| Metric::new(name, 1.5, "ms")).to_vec(),
            errors: vec![("get error -101".to_owned(), 3)],
            failure: None,
            points: Some(json!({"point_s": 0.1})),
            intervals: None,
        };
        let again = Outcome::from_json(&outcome.json()).expect("our own words");
        assert_eq!((again.metrics, again.errors, again.points), (outcome.metrics, outcome.errors, outcome.points));
        assert!(Outcome::from_json(&json!({"metrics": {}})).is_none());
    }
}

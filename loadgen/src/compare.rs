//! Two running servers, measured in turns: A, B, B, A, A, B, … so that the machine's moods fall on both. What counts is the ratio
//! of neighbours, and its spread over the alternations.

use crate::measure::{Metric, Summary, find, ratios};
use crate::outcome::{Outcome, format_value};
use crate::target::Target;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::fmt::Write;

/// The outcomes of one kind of run, alternation by alternation.
#[derive(Debug, Default)]
pub struct Series {
    /// Of the first server.
    pub a: Vec<Outcome>,
    /// Of the second.
    pub b: Vec<Outcome>,
}

impl Series {
    /// Runs `n` alternations. A run that failed ends it with its reason.
    pub fn measure(
        n: usize,
        a: &Target,
        b: &Target,
        mut run: impl FnMut(usize, &Target) -> Result<Outcome, String>,
    ) -> Result<Self, String> {
        let mut series = Series::default();
        let mut one = |round, target: &Target| {
            let outcome = run(round, target).map_err(|e| format!("{}: {e}", target.label))?;
            match &outcome.failure {
                Some(why) => Err(format!("{}: {why}", target.label)),
                None => Ok(outcome),
            }
        };
        for round in 0..n {
            if round % 2 == 0 {
                series.a.push(one(round, a)?);
                series.b.push(one(round, b)?);
            } else {
                series.b.push(one(round, b)?);
                series.a.push(one(round, a)?);
            }
        }
        Ok(series)
    }

    /// Median of a metric of each server.
    pub fn medians(&self, name: &str) -> Option<(f64, f64)> {
        Some((Summary::of(&values(&self.a, name))?.median, Summary::of(&values(&self.b, name))?.median))
    }

    fn rows(&self) -> Vec<Row> {
        let Some(first) = self.a.first() else { return Vec::new() };
        first.metrics.iter().filter_map(|m| Row::of(m, &values(&self.a, &m.name), &values(&self.b, &m.name))).collect()
    }

    /// Error replies of all runs of each server.
    fn errors(&self) -> (u64, u64) {
        let sum = |outcomes: &[Outcome]| outcomes.iter().flat_map(|o| &o.errors).map(|(_, n)| n).sum();
        (sum(&self.a), sum(&self.b))
    }

    /// For people.
    pub fn table(&self, a: &str, b: &str) -> String {
        let range = |s: &Summary| format!("{} [{}–{}]", format_value(s.median), format_value(s.min), format_value(s.max));
        let mut lines = vec![[String::new(), a.to_owned(), b.to_owned(), format!("{a} / {b}")]];
        for row in self.rows() {
            let ratio = row.ratio.map_or("–".to_owned(), |r| format!("{}{}", range(&r), if r.is_decided() { "" } else { " ~" }));
            lines.push([format!("{} ({})", row.name, row.unit).replace(" ()", ""), range(&row.a), range(&row.b), ratio]);
        }
        let (ea, eb) = self.errors();
        lines.push(["errors".to_owned(), ea.to_string(), eb.to_string(), String::new()]);
        let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2), width(3)];
        lines.iter().fold(String::new(), |mut text, [name, a, b, ratio]| {
            let _ = writeln!(
                text,
                "  {name:<w0$}  {a:>w1$}  {b:>w2$}  {ratio:>w3$}",
                w0 = widths[0],
                w1 = widths[1],
                w2 = widths[2],
                w3 = widths[3]
            );
            text
        })
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let show = |s: &Summary| json!({"median": s.median, "min": s.min, "max": s.max});
        let rows: serde_json::Map<_, _> = self
            .rows()
            .into_iter()
            .map(|r| (r.name.clone(), json!({"unit": r.unit, "a": show(&r.a), "b": show(&r.b), "ratio": r.ratio.as_ref().map(show)})))
            .collect();
        let (ea, eb) = self.errors();
        json!({"metrics": rows, "errors": {"a": ea, "b": eb}})
    }
}

fn values(outcomes: &[Outcome], name: &str) -> Vec<f64> {
    outcomes.iter().filter_map(|o| find(&o.metrics, name)).collect()
}

struct Row {
    name: String,
    unit: Cow<'static, str>,
    a: Summary,
    b: Summary,
    ratio: Option<Summary>,
}

impl Row {
    fn of(metric: &Metric, a: &[f64], b: &[f64]) -> Option<Self> {
        // A metric that one run lacks (a snapshot that did not happen) cannot be paired.
        let ratio = if a.len() == b.len() { Summary::of(&ratios(a, b)) } else { None };
        Some(Row { name: metric.name.clone(), unit: metric.unit.clone(), a: Summary::of(a)?, b: Summary::of(b)?, ratio })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(throughput: f64) -> Outcome {
        Outcome { metrics: vec![Metric::new("throughput", throughput, "ops/s")], ..Outcome::default() }
    }

    #[test]
    fn servers_take_turns_at_going_first() {
        let (a, b): (Target, Target) = ("127.0.0.1:1,a".parse().expect("valid"), "127.0.0.1:2,b".parse().expect("valid"));
        let mut order = String::new();
        let series = Series::measure(3, &a, &b, |round, target| {
            order.push_str(&target.label);
            Ok(outcome(if target.label == "a" { 10.0 * (round + 1) as f64 } else { 10.0 }))
        })
        .expect("no failure");
        assert_eq!(order, "abbaab");
        assert_eq!(series.medians("throughput"), Some((20.0, 10.0)));
        let table = series.table("a", "b");
        assert!(table.contains("2.00 [1.00–3.00] ~"), "{table}");
        assert_eq!(series.json()["metrics"]["throughput"]["ratio"]["median"], 2.0);
    }

    #[test]
    fn a_failed_run_fails_the_comparison_by_name() {
        let (a, b): (Target, Target) = ("127.0.0.1:1,one".parse().expect("valid"), "127.0.0.1:2,two".parse().expect("valid"));
        let result = Series::measure(1, &a, &b, |_, target| {
            Ok(if target.label == "two" { Outcome { failure: Some("wrong reply".to_owned()), ..outcome(1.0) } } else { outcome(1.0) })
        });
        assert_eq!(result.err().as_deref(), Some("two: wrong reply"));
    }
}

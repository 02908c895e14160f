//! A page that needs nothing but itself: for each workload the figures, latency quantiles and throughput over time of several servers side by side.

use crate::measure::{QUANTILES, Summary, find, ratios};
use crate::outcome::{Outcome, format_value};
use crate::report::{Group, Section};
use serde_json::Value;
use std::fmt::Write;

/// Figures of the table, where a run has them.
const FIGURES: [&str; 11] = [
    "throughput",
    "p50",
    "p99",
    "p99.9",
    "max",
    "longest gap without a write",
    "server CPU",
    "loadgen CPU",
    "server RSS",
    "server peak RSS",
    "send lateness p99",
];
/// A drawing, in units of its own.
const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 230.0;
/// Its margins.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 28.0;
/// Lines across a drawing, where its scale is linear.
const STEPS: usize = 4;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2530; --dim: #66717f; --line: #d9dee5; --ground: #ffffff;
  --s0: #0b6fb8; --s1: #d1701b; --s2: #3a8f5c; --s3: #8457a8; --s4: #a83e4c; --s5: #6c6c2c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --dim: #98a3b1; --line: #343c47; --ground: #14181e;
  --s0: #58aee8; --s1: #eb9a55; --s2: #6cc38e; --s3: #b592d6; --s4: #e07f8b; --s5: #bcbc6a; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 1300px; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .3rem; border-top: 1px solid var(--line); padding-top: 1rem; }
p.conditions { color: var(--dim); font-size: .85rem; margin: .2rem 0 1rem; }
div.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } td small { color: var(--dim); }
div.drawings { display: flex; flex-wrap: wrap; gap: 1rem 2rem; margin-top: 1rem; } figure { margin: 0; flex: 1 1 420px; max-width: 640px; }
figcaption { color: var(--dim); font-size: .85rem; } svg { width: 100%; height: auto; } svg text { fill: var(--dim); font-size: 11px; }
svg line { stroke: var(--line); } svg polyline { fill: none; stroke-width: 1.6; }
span.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; }";

/// The whole page.
pub fn page(sections: &[Section]) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>loadgen</title><style>{STYLE}</style></head><body>\n<h1>Load on ZooKeeper servers</h1>\n\
         <p class=\"conditions\">Medians [lowest–highest] of the runs. Machines differ and are noisy: ratios count.</p>\n"
    );
    sections.iter().for_each(|section| html.push_str(&section_html(section)));
    html.push_str("</body></html>\n");
    html
}

fn section_html(section: &Section) -> String {
    let name = if section.name.is_empty() { "load" } else { &section.name };
    let conditions = section.groups.first().map_or(&[][..], |g| &g.conditions);
    let conditions: Vec<_> = conditions.iter().map(|(name, value)| format!("{}: {}", escape(name), escape(value))).collect();
    format!(
        "<h2>{}</h2>\n<p class=\"conditions\">{}</p>\n<div class=\"scroll\">{}</div>\n<div class=\"drawings\">\n{}{}</div>\n",
        escape(name),
        conditions.join(" · "),
        table(&section.groups),
        figure("Latency quantiles, µs, each line ten times the one below", &bars(&section.groups)),
        figure("Replies a second over the first run, s", &curves(&section.groups)),
    )
}

fn figure(caption: &str, drawing: &str) -> String {
    format!(
        "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{caption}\">{drawing}</svg><figcaption>{caption}</figcaption></figure>\n"
    )
}

fn summary(group: &Group, name: &str) -> Option<Summary> {
    Summary::of(&values(group, name))
}

fn values(group: &Group, name: &str) -> Vec<f64> {
    group.outcomes.iter().filter_map(|o| find(&o.metrics, name)).collect()
}

fn table(groups: &[Group]) -> String {
    let mut html = String::from("<table><tr><th></th>");
    for (at, group) in groups.iter().enumerate() {
        let _ = write!(html, "<th><span class=\"key\" style=\"background:{}\"></span>{}</th>", colour(at), escape(&group.label));
        if at > 0 {
            let _ = write!(html, "<th>{} / {}</th>", escape(&groups[0].label), escape(&group.label));
        }
    }
    html.push_str("</tr>\n");
    let unit_of = |name: &str| groups.iter().flat_map(|g| &g.outcomes).flat_map(|o| &o.metrics).find(|m| m.name == name).map(|m| &m.unit);
    for name in FIGURES {
        let Some(unit) = unit_of(name) else { continue };
        let _ = write!(html, "<tr><td>{name} <small>{unit}</small></td>");
        for (at, group) in groups.iter().enumerate() {
            html.push_str(&cell(summary(group, name)));
            if at > 0 {
                html.push_str(&cell(Summary::of(&ratios(&values(&groups[0], name), &values(group, name)))));
            }
        }
        html.push_str("</tr>\n");
    }
    let _ = write!(html, "<tr><td>errors</td>");
    for (at, group) in groups.iter().enumerate() {
        let errors: u64 = group.outcomes.iter().flat_map(|o| &o.errors).map(|(_, n)| n).sum();
        let _ = write!(html, "<td>{errors}</td>{}", if at > 0 { "<td></td>" } else { "" });
    }
    html.push_str("</tr></table>");
    html
}

fn cell(summary: Option<Summary>) -> String {
    let spread = |s: &Summary| format!(" <small>[{}–{}]</small>", format_value(s.min), format_value(s.max));
    summary.map_or("<td>–</td>".to_owned(), |s| {
        format!("<td>{}{}</td>", format_value(s.median), if s.min < s.max { spread(&s) } else { String::new() })
    })
}

/// Where a share of the height is.
fn y(share: f64) -> f64 {
    TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - share.clamp(0.0, 1.0))
}

fn level(share: f64, label: &str) -> String {
    let (y, x) = (y(share), LEFT - 6.0);
    let (to, text_y) = (WIDTH - RIGHT, y + 4.0);
    format!(
        "<line x1=\"{LEFT}\" x2=\"{to}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{x}\" y=\"{text_y:.1}\" text-anchor=\"end\">{label}</text>"
    )
}

/// Quantiles beside each other, on a logarithmic scale.
fn bars(groups: &[Group]) -> String {
    let shown: Vec<Vec<f64>> = groups.iter().map(|g| QUANTILES.iter().map(|q| summary(g, q).map_or(0.0, |s| s.median)).collect()).collect();
    let logs = || shown.iter().flatten().filter(|v| **v > 0.0).map(|v| v.log10());
    let (low, high) = (logs().fold(f64::INFINITY, f64::min).floor(), logs().fold(0.0, f64::max).ceil());
    if !low.is_finite() {
        return String::new();
    }
    // The smallest bar is not to vanish.
    let low = low.min(high) - 1.0;
    let mut svg = String::new();
    for power in low as i32 + 1..=high as i32 {
        svg.push_str(&level((f64::from(power) - low) / (high - low), &format_value(10f64.powi(power))));
    }
    let slot = (WIDTH - LEFT - RIGHT) / QUANTILES.len() as f64;
    let width = slot * 0.8 / groups.len() as f64;
    for (q, quantile) in QUANTILES.iter().enumerate() {
        let from = LEFT + slot * (q as f64 + 0.1);
        for (at, group) in groups.iter().enumerate() {
            let value = shown[at][q];
            if value > 0.0 {
                let top = y((value.log10() - low) / (high - low));
                let (x, height) = (from + width * at as f64, HEIGHT - BOTTOM - top);
                let _ = write!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{}\"><title>{} {quantile} {} µs</title></rect>",
                    width - 2.0,
                    colour(at),
                    escape(&group.label),
                    format_value(value)
                );
            }
        }
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{quantile}</text>", from + slot * 0.4, HEIGHT - 10.0);
    }
    svg
}

/// Throughput over time, of each label's first run.
fn curves(groups: &[Group]) -> String {
    let curves: Vec<(f64, Vec<f64>)> = groups.iter().map(|g| g.outcomes.first().map(points).unwrap_or_default()).collect();
    let highest = curves.iter().flat_map(|(_, c)| c).fold(0.0, |a: f64, b| a.max(*b));
    let longest = curves.iter().map(|(point_s, c)| point_s * c.len() as f64).fold(0.0, f64::max);
    if highest == 0.0 || longest == 0.0 {
        return String::new();
    }
    let mut svg = String::new();
    for step in 0..=STEPS {
        let share = step as f64 / STEPS as f64;
        svg.push_str(&level(share, &format_value(share * highest)));
        let x = LEFT + (WIDTH - LEFT - RIGHT) * share;
        let anchor = if step == STEPS { "end" } else { "middle" };
        let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>", HEIGHT - 10.0, format_value(share * longest));
    }
    for (at, (point_s, curve)) in curves.iter().enumerate() {
        let _ = write!(svg, "<polyline stroke=\"{}\" points=\"", colour(at));
        for (i, value) in curve.iter().enumerate() {
            let x = LEFT + (WIDTH - LEFT - RIGHT) * (i as f64 + 0.5) * point_s / longest;
            let _ = write!(svg, "{x:.1},{:.1} ", y(value / highest));
        }
        let _ = write!(svg, "\"><title>{}</title></polyline>", escape(&groups[at].label));
    }
    svg
}

/// Seconds of a point, and replies a second at each.
fn points(outcome: &Outcome) -> (f64, Vec<f64>) {
    let Some(points) = &outcome.points else { return (0.0, Vec::new()) };
    let point_s = points["point_s"].as_f64().filter(|s| *s > 0.0).unwrap_or(1.0);
    let replies = points["replies"].as_array().into_iter().flatten().filter_map(Value::as_f64);
    (point_s, replies.map(|n| n / point_s).collect())
}

fn colour(at: usize) -> String {
    format!("var(--s{})", at % 6)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Metric;
    use serde_json::json;

    fn group(label: &str, throughput: f64, p50: f64) -> Group {
        let metrics =
            vec![Metric::new("throughput", throughput, "ops/s"), Metric::new("p50", p50, "µs"), Metric::new("max", 9.0 * p50, "µs")];
        let outcome = Outcome { metrics, points: Some(json!({"point_s": 0.1, "replies": [1, 4, 2]})), ..Outcome::default() };
        Group { label: label.to_owned(), conditions: vec![("machine".to_owned(), "2 cores".to_owned())], outcomes: vec![outcome] }
    }

    #[test]
    fn a_page_shows_every_server_of_every_workload_and_needs_nothing_else() {
        let sections = [
            Section { name: "a".to_owned(), groups: vec![group("zoo", 40.0, 7.0), group("java", 10.0, 70.0)] },
            Section { name: "b".to_owned(), groups: vec![group("<i>", 1.0, 0.0)] },
        ];
        let html = page(&sections);
        assert_eq!((html.matches("<h2>").count(), html.matches("<polyline").count(), html.matches("<rect").count()), (2, 3, 4), "{html}");
        assert!(html.contains("<td>40.0</td>") && html.contains("<td>4.00</td>") && html.contains("2 cores"), "{html}");
        assert!(html.contains("&lt;i&gt;") && !html.contains("<i>"), "labels are text");
        assert!(!["http:", "https:", "src=", "NaN", "inf"].iter().any(|bad| html.contains(bad)), "{html}");
    }

    #[test]
    fn runs_without_points_or_latencies_leave_their_drawings_empty() {
        let bare = Group { label: "x".to_owned(), conditions: Vec::new(), outcomes: vec![Outcome::default()] };
        assert_eq!((bars(std::slice::from_ref(&bare)), curves(&[bare])), (String::new(), String::new()));
    }
}

//! A page that needs nothing but itself: what every server is beside the first, then for each workload the figures, the distribution of latencies,
//! throughput, latency and memory over time and CPU per operation, side by side.

use crate::compare::{Group, Section};
use crate::draw::{Line, Scale, bars, colour, escape, figure, lines};
use crate::measure::Summary;
use crate::outcome::{Outcome, format_value};
use serde_json::Value;
use std::fmt::Write;

/// What the first table tells, the names it has in different workloads, and whether more of it is better.
const OVERVIEW: [(&str, &[&str], bool); 6] = [
    ("throughput", &["throughput", "sessions opened", "sessions", "creates"], true),
    ("p50", &["p50", "event p50", "connect p50", "back p50"], false),
    ("p99", &["p99", "event p99", "connect p99", "back p99"], false),
    ("p99.9", &["p99.9", "event p99.9", "connect p99.9", "back p99.9"], false),
    ("CPU per op", &["server CPU"], false),
    ("memory", &["server RSS", "RSS settled"], false),
];

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2530; --dim: #66717f; --line: #d9dee5; --ground: #ffffff; --good: #1d7a46; --bad: #b3342f;
  --s0: #0b6fb8; --s1: #d1701b; --s2: #3a8f5c; --s3: #8457a8; --s4: #a83e4c; --s5: #6c6c2c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --dim: #98a3b1; --line: #343c47; --ground: #14181e; --good: #6cc38e; --bad: #ee8079;
  --s0: #58aee8; --s1: #eb9a55; --s2: #6cc38e; --s3: #b592d6; --s4: #e07f8b; --s5: #bcbc6a; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 1300px; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .3rem; border-top: 1px solid var(--line); padding-top: 1rem; }
a { color: inherit; } p.conditions { color: var(--dim); font-size: .85rem; margin: .2rem 0 1rem; } p.failure { color: var(--bad); }
div.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } td small { color: var(--dim); } td.good { color: var(--good); } td.bad { color: var(--bad); }
div.drawings { display: flex; flex-wrap: wrap; gap: 1rem 2rem; margin-top: 1rem; } figure { margin: 0; flex: 1 1 420px; max-width: 640px; }
figcaption { color: var(--dim); font-size: .85rem; } svg { width: 100%; height: auto; } svg text { fill: var(--dim); font-size: 11px; }
svg line { stroke: var(--line); } svg path { stroke: var(--ink); } svg polyline { fill: none; stroke-width: 1.6; opacity: .8; }
span.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; }";

/// The whole page.
pub fn page(sections: &[Section]) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>loadgen</title><style>{STYLE}</style></head><body>\n<h1>Load on servers, side by side</h1>\n\
         <p class=\"conditions\">Medians [lowest–highest] of the runs; ~ marks a ratio whose spread includes 1: nothing was shown. \
         A ratio is the median of those of neighbouring runs. Machines differ and are noisy: ratios count.</p>\n"
    );
    html.push_str(&overview(sections));
    sections.iter().enumerate().for_each(|(at, section)| html.push_str(&section_html(at, section)));
    html.push_str("</body></html>\n");
    html
}

/// For each workload and each server but the first: the first one's figure divided by its.
fn overview(sections: &[Section]) -> String {
    let mut html = String::from("<div class=\"scroll\"><table class=\"overview\"><tr><th>workload</th><th>ratio</th>");
    OVERVIEW.iter().for_each(|(title, ..)| {
        let _ = write!(html, "<th>{title}</th>");
    });
    html.push_str("</tr>\n");
    for (at, section) in sections.iter().enumerate() {
        for other in 1..section.groups.len() {
            let (first, second) = (&section.groups[0].label, &section.groups[other].label);
            let name = escape(title(section));
            let _ = write!(html, "<tr><td><a href=\"#w{at}\">{name}</a></td><td>{} / {}</td>", escape(first), escape(second));
            for (_, names, more_is_better) in OVERVIEW {
                html.push_str(&ratio_cell(names.iter().find_map(|name| section.ratio(other, name)), Some(more_is_better)));
            }
            html.push_str("</tr>\n");
        }
    }
    html.push_str("</table></div>\n");
    html
}

fn title(section: &Section) -> &str {
    if section.name.is_empty() { "load" } else { &section.name }
}

fn section_html(at: usize, section: &Section) -> String {
    let conditions: Vec<_> = section.conditions.iter().map(|(name, value)| format!("{}: {}", escape(name), escape(value))).collect();
    let failures: String = section.failures.iter().map(|why| format!("<p class=\"failure\">failed: {}</p>\n", escape(why))).collect();
    format!(
        "<h2 id=\"w{at}\">{}</h2>\n<p class=\"conditions\">{}</p>\n{failures}<div class=\"scroll\">{}</div>\n<div class=\"drawings\">\n{}</div>\n",
        escape(title(section)),
        conditions.join(" · "),
        table(section),
        drawings(&section.groups),
    )
}

fn table(section: &Section) -> String {
    let groups = &section.groups;
    if groups.is_empty() {
        return String::new();
    }
    let mut html = String::from("<table><tr><th></th>");
    for (at, group) in groups.iter().enumerate() {
        let _ = write!(html, "<th><span class=\"key\" style=\"background:{}\"></span>{}</th>", colour(at), escape(&group.label));
        if at > 0 {
            let _ = write!(html, "<th>{} / {}</th>", escape(&groups[0].label), escape(&group.label));
        }
    }
    html.push_str("</tr>\n");
    for metric in section.metrics() {
        let better = OVERVIEW.iter().find(|(_, names, _)| names.contains(&metric.name.as_str())).map(|(_, _, more)| *more);
        let _ = write!(html, "<tr><td>{} <small>{}</small></td>", escape(&metric.name), metric.unit);
        for (at, group) in groups.iter().enumerate() {
            html.push_str(&value_cell(group.summary(&metric.name)));
            if at > 0 {
                html.push_str(&ratio_cell(section.ratio(at, &metric.name), better));
            }
        }
        html.push_str("</tr>\n");
    }
    let _ = write!(html, "<tr><td>errors</td>");
    for (at, group) in groups.iter().enumerate() {
        let _ = write!(html, "<td>{}</td>{}", group.errors(), if at > 0 { "<td></td>" } else { "" });
    }
    html.push_str("</tr></table>");
    html
}

fn range(s: &Summary) -> String {
    let spread = if s.min < s.max { format!(" <small>[{}–{}]</small>", format_value(s.min), format_value(s.max)) } else { String::new() };
    format!("{}{spread}", format_value(s.median))
}

fn value_cell(summary: Option<Summary>) -> String {
    summary.map_or("<td>–</td>".to_owned(), |s| format!("<td>{}</td>", range(&s)))
}

/// A ratio, coloured where it is known which side of 1 is the good one.
fn ratio_cell(ratio: Option<Summary>, more_is_better: Option<bool>) -> String {
    let Some(ratio) = ratio else { return "<td>–</td>".to_owned() };
    let class = match more_is_better {
        Some(more) if ratio.is_decided() => [" class=\"bad\"", " class=\"good\""][usize::from((ratio.median > 1.0) == more)],
        _ => "",
    };
    format!("<td{class}>{}{}</td>", range(&ratio), if ratio.is_decided() { "" } else { " ~" })
}

fn drawings(groups: &[Group]) -> String {
    let cost: Vec<_> = groups.iter().map(|g| (g.label.clone(), g.summary("server CPU"))).collect();
    let unit = groups.iter().flat_map(|g| &g.outcomes).flat_map(|o| &o.metrics).find(|m| m.name == "server CPU").map(|m| &*m.unit);
    [
        (
            "Latency in µs below which a share of the requests lies; each line a run",
            lines(&runs(groups, distribution), Scale::Tail, Scale::Log),
        ),
        ("Replies a second over the time in s; each line a run", lines(&runs(groups, throughput), Scale::Linear, Scale::Linear)),
        ("p99 of each second in µs over the time in s; each line a run", lines(&runs(groups, p99), Scale::Linear, Scale::Log)),
        (&format!("CPU of the server, {}; the stroke is the spread", unit.unwrap_or_default()), bars(&cost)),
        (
            "Memory of the server (RSS) in MiB over the time in s; each line a run",
            lines(&runs(groups, memory), Scale::Linear, Scale::Linear),
        ),
    ]
    .into_iter()
    .filter_map(|(caption, drawing): (&str, _)| Some(figure(caption, &drawing?)))
    .collect()
}

/// A line of each run.
fn runs(groups: &[Group], points: impl Fn(&Value) -> Vec<(f64, f64)>) -> Vec<Line> {
    let of = |at: usize, group: &Group, outcome: &Outcome| {
        let points = outcome.points.as_ref().map(&points).unwrap_or_default();
        Line { colour: at, label: group.label.clone(), points }
    };
    groups.iter().enumerate().flat_map(|(at, g)| g.outcomes.iter().map(move |o| (at, g, o))).map(|(at, g, o)| of(at, g, o)).collect()
}

fn numbers(values: &Value) -> impl Iterator<Item = f64> {
    values.as_array().into_iter().flatten().filter_map(Value::as_f64)
}

/// What each point of a run stands for, at the middle of its time.
fn over_time<'a>(step_s: &Value, values: impl Iterator<Item = f64> + 'a) -> impl Iterator<Item = (f64, f64)> + 'a {
    let step_s = step_s.as_f64().unwrap_or(1.0);
    values.enumerate().map(move |(at, value)| ((at as f64 + 0.5) * step_s, value))
}

fn distribution(points: &Value) -> Vec<(f64, f64)> {
    let pair = |pair: &Value| Some((pair[0].as_f64()?, pair[1].as_f64()?));
    points["distribution"].as_array().into_iter().flatten().filter_map(pair).collect()
}

fn throughput(points: &Value) -> Vec<(f64, f64)> {
    let second = points["point_s"].as_f64().filter(|s| *s > 0.0).unwrap_or(1.0);
    over_time(&points["point_s"], numbers(&points["replies"]).map(|n| n / second)).collect()
}

fn p99(points: &Value) -> Vec<(f64, f64)> {
    // A second without an answer has no latency.
    over_time(&points["intervals"]["interval_s"], numbers(&points["intervals"]["p99"])).filter(|(_, us)| *us > 0.0).collect()
}

fn memory(points: &Value) -> Vec<(f64, f64)> {
    numbers(&points["usage"]["at_s"]).zip(numbers(&points["usage"]["rss_mib"])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Metric;
    use serde_json::json;

    fn outcome(throughput: f64, p50: f64) -> Outcome {
        let metrics = [("throughput", throughput, "ops/s"), ("p50", p50, "µs"), ("server CPU", p50, "µs/op")];
        let points = json!({"point_s": 0.1, "replies": [1, 4, 2], "distribution": [[0.0, 1.0], [0.9, p50]],
            "intervals": {"interval_s": 1.0, "p50": [1.0, 2.0], "p99": [9.0, 0.0]}, "usage": {"at_s": [0.5, 1.0], "cores": [1.0, 1.0], "rss_mib": [7.0, 8.0]}});
        Outcome { metrics: metrics.map(|(n, v, u)| Metric::new(n, v, u)).to_vec(), points: Some(points), ..Outcome::default() }
    }

    fn section(name: &str, runs: &[(&str, f64, f64)]) -> Section {
        let mut section = Section { name: name.to_owned(), ..Section::default() };
        let conditions = || vec![("machine".to_owned(), "2 cores".to_owned())];
        runs.iter().for_each(|(label, throughput, p50)| section.add(label, conditions(), outcome(*throughput, *p50)));
        section
    }

    #[test]
    fn a_page_shows_every_server_of_every_workload_and_needs_nothing_else() {
        let two = section("a", &[("zoo", 40.0, 7.0), ("java", 10.0, 70.0)]);
        let html = page(&[two, section("b", &[("<i>", 1.0, 3.0)])]);
        let count = |what: &str| html.matches(what).count();
        assert_eq!((count("<h2"), count("<figure>"), count("<polyline"), count("<rect")), (2, 10, 12, 3), "{html}");
        assert!(html.contains("<td>40.0</td>") && html.contains("<td class=\"good\">4.00</td>") && html.contains("2 cores"), "{html}");
        assert!(html.contains("&lt;i&gt;") && !html.contains("<i>"), "labels are text");
        assert!(!["http:", "https:", "src=", "NaN", "inf"].iter().any(|bad| html.contains(bad)), "{html}");
    }

    #[test]
    fn the_first_table_says_on_which_side_of_one_each_ratio_lies() {
        let runs = [("a", 10.0, 9.0), ("b", 20.0, 9.0), ("a", 10.0, 3.0), ("b", 20.0, 1.0)];
        let html = overview(&[section("x", &runs)]);
        assert!(html.contains("<td class=\"bad\">0.500</td>"), "half of the throughput: {html}");
        assert!(html.contains("<td>2.00 <small>[1.00–3.00]</small> ~</td>"), "a p50 that is as good as the other's once: {html}");
    }

    #[test]
    fn runs_without_points_and_failures_without_runs_leave_their_places_empty() {
        let mut failed = Section::default();
        failed.add("x", Vec::new(), Outcome { failure: Some("a < b".to_owned()), ..Outcome::default() });
        let html = page(&[failed]);
        assert!(html.contains("failed: x: a &lt; b") && !html.contains("<figure>"), "{html}");
        let bare = Group { label: "x".to_owned(), outcomes: vec![Outcome::default()] };
        assert_eq!(drawings(&[bare]), "");
    }
}

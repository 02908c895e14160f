//! Lines and bars as SVG, for the page: nothing but text in, nothing but text out.

use crate::measure::Summary;
use crate::outcome::format_value;
use std::fmt::Write;

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
/// Colours there are; further servers share them.
const COLOURS: usize = 6;

/// How a direction is divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// From 0 on, evenly.
    Linear,
    /// By powers of ten.
    Log,
    /// Shares below 1, by powers of ten of what is left: 90 %, 99 %, 99.9 %.
    Tail,
}

/// One line of a drawing.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    /// Of the server it belongs to.
    pub colour: usize,
    /// Shown by a pointer that rests on it.
    pub label: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

/// The colour of the n-th server.
pub fn colour(at: usize) -> String {
    format!("var(--s{})", at % COLOURS)
}

/// Makes text of something that is none.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A drawing with its caption.
pub fn figure(caption: &str, drawing: &str) -> String {
    let caption = escape(caption);
    format!(
        "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{caption}\">{drawing}</svg><figcaption>{caption}</figcaption></figure>\n"
    )
}

/// Where a range lies on one side of a drawing.
struct Side {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Side {
    /// `None` when there is nothing to show.
    fn of(scale: Scale, values: impl Iterator<Item = f64>) -> Option<Self> {
        let side = Side { scale, low: 0.0, high: 0.0 };
        let placed: Vec<f64> = values.map(|v| side.place(v)).filter(|v| v.is_finite()).collect();
        let high = placed.iter().copied().reduce(f64::max)?;
        let low = placed.iter().copied().reduce(f64::min)?;
        let (low, high) = match scale {
            Scale::Linear => (0.0, high),
            // At least one power of ten.
            Scale::Log => (low.floor(), high.ceil().max(low.floor() + 1.0)),
            Scale::Tail => (0.0, high.max(1.0)),
        };
        (high > low).then_some(Side { scale, low, high })
    }

    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.log10(),
            Scale::Tail => -(1.0 - value).log10(),
        }
    }

    fn share(&self, value: f64) -> f64 {
        ((self.place(value) - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Values with a label of their own.
    fn marks(&self) -> Vec<(f64, String)> {
        let powers = || (self.low.ceil() as i32)..=(self.high.floor() as i32);
        match self.scale {
            Scale::Linear => (0..=STEPS).map(|n| self.high * n as f64 / STEPS as f64).map(|v| (v, format_value(v))).collect(),
            Scale::Log => powers().map(|p| 10f64.powi(p)).map(|v| (v, format_value(v))).collect(),
            Scale::Tail => powers().map(|p| (1.0 - 10f64.powi(-p), percent(p))).collect(),
        }
    }
}

/// All but the `power`-th power of a tenth.
fn percent(power: i32) -> String {
    let digits = usize::try_from(power - 2).unwrap_or(0);
    format!("{:.digits$} %", 100.0 - 10f64.powi(2 - power))
}

fn x(share: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * share
}

fn y(share: f64) -> f64 {
    TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - share)
}

fn levels(svg: &mut String, side: &Side) {
    let (label_x, to) = (LEFT - 6.0, WIDTH - RIGHT);
    for (value, label) in side.marks() {
        let y = y(side.share(value));
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{to}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{label_x}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            y + 4.0
        );
    }
}

fn under(svg: &mut String, x: f64, label: &str) {
    let anchor = if x > WIDTH - LEFT { "end" } else { "middle" };
    let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>", HEIGHT - 10.0, escape(label));
}

/// Lines over a common scale; `None` when they have no points.
pub fn lines(lines: &[Line], across: Scale, up: Scale) -> Option<String> {
    let points = || lines.iter().flat_map(|l| &l.points);
    let (across, up) = (Side::of(across, points().map(|p| p.0))?, Side::of(up, points().map(|p| p.1))?);
    let mut svg = String::new();
    levels(&mut svg, &up);
    across.marks().iter().for_each(|(value, label)| under(&mut svg, x(across.share(*value)), label));
    for line in lines.iter().filter(|l| !l.points.is_empty()) {
        let _ = write!(svg, "<polyline stroke=\"{}\" points=\"", colour(line.colour));
        for (right, height) in &line.points {
            let _ = write!(svg, "{:.1},{:.1} ", x(across.share(*right)), y(up.share(*height)));
        }
        let _ = write!(svg, "\"><title>{}</title></polyline>", escape(&line.label));
    }
    Some(svg)
}

/// Bars from 0 on beside each other, with their spread; `None` when there is none.
pub fn bars(bars: &[(String, Option<Summary>)]) -> Option<String> {
    let up = Side::of(Scale::Linear, bars.iter().filter_map(|(_, s)| s.as_ref()).map(|s| s.max))?;
    let mut svg = String::new();
    levels(&mut svg, &up);
    let slot = (WIDTH - LEFT - RIGHT) / bars.len() as f64;
    for (at, (label, summary)) in bars.iter().enumerate() {
        let middle = LEFT + slot * (at as f64 + 0.5);
        under(&mut svg, middle, label);
        let Some(summary) = summary else { continue };
        let (top, width) = (y(up.share(summary.median)), (slot * 0.5).min(90.0));
        let _ = write!(
            svg,
            "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\"><title>{} {}</title></rect>\
             <path d=\"M{middle:.1} {:.1}V{:.1}\"/><text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            middle - width / 2.0,
            HEIGHT - BOTTOM - top,
            colour(at),
            escape(label),
            format_value(summary.median),
            y(up.share(summary.min)),
            y(up.share(summary.max)),
            (y(up.share(summary.max)) - 3.0).max(TOP + 2.0),
            format_value(summary.median)
        );
    }
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[(f64, f64)]) -> Line {
        Line { colour: 1, label: "a<b".to_owned(), points: points.to_vec() }
    }

    #[test]
    fn a_line_goes_from_corner_to_corner_of_its_scale() {
        let svg = lines(&[line(&[(0.0, 10.0), (4.0, 1_000.0)])], Scale::Linear, Scale::Log).expect("points");
        assert!(svg.contains("points=\"70.0,202.0 610.0,10.0 \"") && svg.contains("a&lt;b"), "{svg}");
        assert!(["10.0", "100", "1000"].iter().all(|mark| svg.contains(&format!(">{mark}</text>"))), "{svg}");
    }

    #[test]
    fn the_tail_of_a_distribution_is_marked_by_nines() {
        let svg = lines(&[line(&[(0.0, 1.0), (0.99, 5.0), (0.9991, 9.0)])], Scale::Tail, Scale::Log).expect("points");
        assert!([">0 %<", ">90 %<", ">99 %<", ">99.9 %<"].iter().all(|mark| svg.contains(mark)), "{svg}");
    }

    #[test]
    fn what_cannot_be_shown_is_left_out_and_never_written_as_no_number() {
        assert_eq!((lines(&[line(&[])], Scale::Linear, Scale::Log), bars(&[("x".to_owned(), None)])), (None, None));
        let odd = lines(&[line(&[(0.0, 0.0), (1.0, f64::NAN), (2.0, 5.0)])], Scale::Linear, Scale::Linear).expect("a point");
        assert_eq!(lines(&[line(&[(0.0, 0.0)])], Scale::Linear, Scale::Log), None);
        assert!(!odd.contains("inf"), "{odd}");
    }

    #[test]
    fn a_bar_shows_its_spread() {
        let bar = Summary { median: 2.0, min: 1.0, max: 4.0 };
        let svg = bars(&[("zoo".to_owned(), Some(bar)), ("none".to_owned(), None)]).expect("a bar");
        assert_eq!((svg.matches("<rect").count(), svg.matches("<path").count()), (1, 1));
        assert!(svg.contains(">2.00</text>") && svg.contains("none"), "{svg}");
    }
}

//! Numbers and what is made of them: latency histograms, named metrics, medians, ratios and their spread.

use hdrhistogram::Histogram;
use std::borrow::Cow;
use std::time::Duration;

/// Latencies are told apart from this many nanoseconds on.
const LATENCY_NS_MIN: u64 = 64;
/// Longer ones are counted as this.
const LATENCY_NS_MAX: u64 = 300_000_000_000;
/// Significant digits of a latency.
const LATENCY_DIGITS: u8 = 3;

/// Steps of the curve of a distribution within a decade of what lies above, and how many decades it has.
const CURVE_STEPS: [f64; 6] = [1.0, 0.7, 0.5, 0.35, 0.25, 0.15];
const CURVE_DECADES: i32 = 6;

/// What is told of a distribution, in this order.
pub const QUANTILES: [&str; 4] = ["p50", "p99", "p99.9", "max"];

/// Latencies in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Latencies(Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, LATENCY_DIGITS).expect("constant bounds are valid"))
    }
}

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }
    /// Adds all of another's.
    pub fn add(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("same bounds");
    }
    /// How many.
    pub fn count(&self) -> u64 {
        self.0.len()
    }
    /// The value below which this share lies, in microseconds.
    pub fn quantile_us(&self, q: f64) -> f64 {
        self.0.value_at_quantile(q) as f64 / 1e3
    }
    /// The largest, in microseconds.
    pub fn max_us(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }
    /// Pairs of a share and the latency below which it lies, in microseconds: what a curve of the whole distribution needs.
    pub fn distribution(&self) -> Vec<(f64, f64)> {
        let tails = (0..CURVE_DECADES).flat_map(|decade| CURVE_STEPS.map(|step| 1.0 - step * 10f64.powi(-decade)));
        // A share that one latency of all decides is the last that means anything.
        let shares = tails.take_while(|q| (1.0 - q) * self.count() as f64 >= 1.0);
        shares.map(|q| (q, self.quantile_us(q))).collect()
    }
    /// For those who write it down.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }
    /// p50, p99, p99.9 and maximum as metrics whose names begin with `prefix`.
    pub fn metrics(&self, prefix: &str) -> Vec<Metric> {
        let name = |what: &str| if prefix.is_empty() { what.to_owned() } else { format!("{prefix} {what}") };
        let values = [self.quantile_us(0.5), self.quantile_us(0.99), self.quantile_us(0.999), self.max_us()];
        QUANTILES.iter().zip(values).map(|(what, v)| Metric::new(name(what), v, "µs")).collect()
    }
}

/// One figure of one run.
#[derive(Clone, PartialEq, Debug)]
pub struct Metric {
    /// Unique in its run.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: Cow<'static, str>,
}

impl Metric {
    /// A figure.
    pub fn new(name: impl Into<String>, value: f64, unit: impl Into<Cow<'static, str>>) -> Self {
        Metric { name: name.into(), value, unit: unit.into() }
    }
}

/// The metric of this name.
pub fn find(metrics: &[Metric], name: &str) -> Option<f64> {
    metrics.iter().find(|m| m.name == name).map(|m| m.value)
}

/// `d` spread over `n`, in microseconds; 0 when nothing was done.
pub fn us_per(d: Duration, n: u64) -> f64 {
    if n == 0 { 0.0 } else { d.as_secs_f64() * 1e6 / n as f64 }
}

/// Several measurements of the same thing.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Summary {
    /// The middle one; the mean of the middle two of an even number.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// `None` of nothing.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let mid = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[mid] } else { (sorted[mid - 1] + sorted[mid]) / 2.0 };
        Some(Summary { median, min, max })
    }

    /// True when 1 lies outside: the two sides differ by more than the spread.
    pub fn is_decided(&self) -> bool {
        self.min > 1.0 || self.max < 1.0
    }
}

/// `a[i] / b[i]`, pair by pair: both were measured close together, so drift of the machine cancels out. Pairs whose divisor is 0 are left out.
pub fn ratios(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).filter(|(_, b)| **b != 0.0).map(|(a, b)| a / b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_of_odd_even_and_nothing() {
        assert_eq!(Summary::of(&[3.0, 1.0, 2.0]), Some(Summary { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Summary::of(&[4.0, 1.0, 2.0, 3.0]), Some(Summary { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn ratios_pair_neighbours_and_skip_zero() {
        assert_eq!(ratios(&[2.0, 9.0, 5.0], &[1.0, 3.0, 0.0]), [2.0, 3.0]);
    }

    #[test]
    fn a_ratio_is_decided_only_beyond_its_spread() {
        let of = |v: &[f64]| Summary::of(v).expect("some").is_decided();
        assert!(of(&[0.5, 0.9]) && of(&[1.1, 3.0]) && !of(&[0.9, 1.1]));
    }

    #[test]
    fn latencies_keep_three_digits_and_cap_the_longest() {
        let mut l = Latencies::default();
        for us in 1..=1_000 {
            l.record(us * 1_000);
        }
        assert!((l.quantile_us(0.5) - 500.0).abs() < 1.0, "{}", l.quantile_us(0.5));
        assert!((l.quantile_us(0.99) - 990.0).abs() < 1.5, "{}", l.quantile_us(0.99));
        let mut long = Latencies::default();
        long.record(u64::MAX);
        assert_eq!(long.count(), 1);
        long.add(&l);
        assert_eq!(long.count(), 1_001);
    }

    #[test]
    fn the_curve_of_a_distribution_rises_and_ends_where_single_latencies_decide() {
        let mut l = Latencies::default();
        (1..=1_000).for_each(|us| l.record(us * 1_000));
        let curve = l.distribution();
        assert!(curve.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1), "{curve:?}");
        let (last, us) = *curve.last().expect("points");
        assert!((0.998..0.9991).contains(&last) && us <= 1_000.0, "{curve:?}");
        assert!(Latencies::default().distribution().is_empty());
    }

    #[test]
    fn cost_of_nothing_is_nothing() {
        assert_eq!(us_per(Duration::from_secs(1), 0), 0.0);
        assert_eq!(us_per(Duration::from_millis(1), 100), 10.0);
    }
}

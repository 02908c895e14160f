//! Latencies second by second: how they went over a run, and the HdrHistogram log that other programs read.

use crate::measure::Latencies;
use crate::schedule::{SECOND_NS, Window};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde_json::{Value, json};
use std::time::Duration;

/// Most intervals of a run; longer runs have longer ones. A histogram takes 200 KB.
const INTERVALS_MAX: u64 = 60;
/// Values of a log are nanoseconds; its readers are shown milliseconds.
const LOG_DIVISOR: f64 = 1e6;

/// Latencies of a measured window, in intervals of a second or more.
#[derive(Clone, Debug, Default)]
pub struct Intervals {
    from_ns: u64,
    length_ns: u64,
    latencies: Vec<Latencies>,
}

impl Intervals {
    /// Of this window, with nothing in it.
    pub fn of(window: Window) -> Self {
        let all = window.to_ns.saturating_sub(window.from_ns);
        Intervals { from_ns: window.from_ns, length_ns: all.div_ceil(INTERVALS_MAX).max(SECOND_NS), latencies: Vec::new() }
    }

    /// Of something that has no times of its own: one interval.
    pub fn of_all(latencies: Latencies, took: Duration) -> Self {
        Intervals { from_ns: 0, length_ns: took.as_nanos() as u64, latencies: vec![latencies] }
    }

    /// Adds a latency to the interval of a moment of the window.
    pub fn record(&mut self, at_ns: u64, latency_ns: u64) {
        // The window's end bounds it, and so does the number of intervals.
        let Some(at) = at_ns.saturating_sub(self.from_ns).checked_div(self.length_ns) else { return };
        let at = at.min(INTERVALS_MAX) as usize;
        if at >= self.latencies.len() {
            self.latencies.resize_with(at + 1, Latencies::default);
        }
        self.latencies[at].record(latency_ns);
    }

    /// Adds another worker's of the same window.
    pub fn add(&mut self, other: &Intervals) {
        (self.from_ns, self.length_ns) = (other.from_ns, other.length_ns);
        if self.latencies.len() < other.latencies.len() {
            self.latencies.resize_with(other.latencies.len(), Latencies::default);
        }
        for (sum, more) in self.latencies.iter_mut().zip(&other.latencies) {
            sum.add(more);
        }
    }

    /// For drawings: how long one is, and quantiles of each in microseconds.
    pub fn json(&self) -> Value {
        let of = |q: f64| self.latencies.iter().map(|l| l.quantile_us(q)).collect::<Vec<_>>();
        json!({"interval_s": self.length_ns as f64 / SECOND_NS as f64, "p50": of(0.5), "p99": of(0.99)})
    }

    /// As a log in HdrHistogram's own format, one line an interval.
    pub fn log(&self, what: &str) -> Result<Vec<u8>, String> {
        let (mut text, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
        let wrong = |e: &dyn std::fmt::Display| format!("histogram log: {e}");
        let tag: String = what.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment(&format!("latencies in nanoseconds, {what}"))
            .with_max_value_divisor(LOG_DIVISOR)
            .begin_log_with(&mut text, &mut serializer)
            .map_err(|e| wrong(&e))?;
        let length = Duration::from_nanos(self.length_ns);
        for (at, latencies) in self.latencies.iter().enumerate() {
            let from = length.saturating_mul(u32::try_from(at).unwrap_or(u32::MAX));
            log.write_histogram(latencies.histogram(), from, length, Tag::new(&tag)).map_err(|e| wrong(&format!("{e:?}")))?;
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn latencies_go_to_the_second_they_belong_to_and_workers_add_up() {
        let window = Window::new(1.0, 3.0, 1.0);
        let mut both = Intervals::default();
        for worker in [[1_200_000_000, 3_900_000_000], [1_900_000_000, 2_000_000_000]] {
            let mut one = Intervals::of(window);
            worker.iter().for_each(|at| one.record(*at, 5_000));
            both.add(&one);
        }
        assert_eq!(both.latencies.iter().map(Latencies::count).collect::<Vec<_>>(), [2, 1, 1]);
        let json = both.json();
        assert_eq!((json["interval_s"].as_f64(), json["p99"].as_array().map(Vec::len)), (Some(1.0), Some(3)));
    }

    #[test]
    fn a_long_run_has_no_more_intervals_than_a_page_can_show() {
        let mut long = Intervals::of(Window::new(0.0, 3_600.0, 0.0));
        long.record(3_599 * SECOND_NS, 1_000);
        long.record(u64::MAX, 1_000);
        assert_eq!((long.length_ns, long.latencies.len() as u64), (60 * SECOND_NS, INTERVALS_MAX + 1));
    }

    #[test]
    fn a_log_holds_every_latency_in_the_format_others_read() {
        let mut intervals = Intervals::of(Window::new(0.0, 2.0, 0.0));
        (0..500).for_each(|n| intervals.record(n * 4_000_000, 1_000_000 + n));
        let log = intervals.log("get, zoo").expect("a log");
        let (mut read, mut deserializer) = (0, Deserializer::new());
        for entry in IntervalLogIterator::new(&log).map(|e| e.expect("an entry")) {
            if let LogEntry::Interval(interval) = entry {
                assert_eq!(interval.tag().map(|t| t.as_str()), Some("get__zoo"));
                let bytes = base64_decoded(interval.encoded_histogram());
                let histogram: Histogram<u64> = deserializer.deserialize(&mut &bytes[..]).expect("a histogram");
                read += histogram.len();
            }
        }
        assert_eq!(read, 500);
    }

    /// The alphabet of a log's histograms, without a dependency for one test.
    fn base64_decoded(text: &str) -> Vec<u8> {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let sextets: Vec<u32> = text.bytes().filter_map(|b| ALPHABET.iter().position(|a| *a == b)).map(|at| at as u32).collect();
        sextets
            .chunks(4)
            .flat_map(|four| {
                let bits = four.iter().enumerate().fold(0, |bits, (at, s)| bits | s << (18 - 6 * at));
                bits.to_be_bytes()[1..four.len()].to_vec()
            })
            .collect()
    }
}

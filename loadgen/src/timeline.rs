//! What was answered when: counts in equal slices of a run. From them come the longest gap without a successful write and the throughput over time.

use crate::schedule::{SECOND_NS, Window};
use crate::target::Target;
use serde_json::{Value, json};
use std::time::Duration;

/// Width of a slice, and with it the precision of a gap.
const SLICE_NS: u64 = 1_000_000;
/// Later moments are counted in the last slice: an hour.
const SLICES_MAX: usize = 3_600_000;
/// Between two looks at CPU and memory: CPU time is counted in steps of 10 ms.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// Slices that become one point of a drawing.
const SLICES_PER_POINT: usize = 100;

/// Counts by slice, from the start of the run.
#[derive(Clone, Debug, Default)]
pub struct Timeline(Vec<u32>);

impl Timeline {
    /// One more at this moment.
    pub fn record(&mut self, ns: u64) {
        let at = usize::try_from(ns / SLICE_NS).map_or(SLICES_MAX - 1, |at| at.min(SLICES_MAX - 1));
        if at >= self.0.len() {
            self.0.resize(at + 1, 0);
        }
        self.0[at] = self.0[at].saturating_add(1);
    }

    /// Adds another worker's.
    pub fn add(&mut self, other: &Timeline) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        for (sum, n) in self.0.iter_mut().zip(&other.0) {
            *sum = sum.saturating_add(*n);
        }
    }

    /// The longest stretch of the measured window with nothing in it, in milliseconds; the window's ends count as if there was something.
    pub fn longest_gap_ms(&self, window: Window) -> f64 {
        let (mut longest, mut gap) = (0, 0);
        for n in self.measured(window) {
            gap = if n == 0 { gap + 1 } else { 0 };
            longest = longest.max(gap);
        }
        (longest * SLICE_NS) as f64 / 1e6
    }

    /// Counts over the measured window, in points of a tenth of a second.
    pub fn points(&self, window: Window) -> Vec<u64> {
        let slices: Vec<_> = self.measured(window).collect();
        slices.chunks(SLICES_PER_POINT).map(|point| point.iter().map(|n| u64::from(*n)).sum()).collect()
    }

    fn measured(&self, window: Window) -> impl Iterator<Item = u32> {
        (window.from_ns / SLICE_NS..window.to_ns / SLICE_NS)
            .map(|at| usize::try_from(at).ok().and_then(|at| self.0.get(at)).map_or(0, |n| *n))
    }
}

/// Points of a drawing: how long each is, all replies, successful writes.
pub fn points_json(replies: &Timeline, writes: &Timeline, window: Window) -> Value {
    let seconds = (SLICES_PER_POINT as u64 * SLICE_NS) as f64 / SECOND_NS as f64;
    json!({"point_s": seconds, "replies": replies.points(window), "writes": writes.points(window)})
}

/// CPU and memory of a target over time.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    last: Option<(Duration, Duration)>,
    at_s: Vec<f64>,
    cores: Vec<f64>,
    rss_mib: Vec<f64>,
}

impl Samples {
    /// One more, unless the last one is fresh or the target's processes are not known.
    pub fn take(&mut self, target: &Target, at: Duration) {
        if self.last.is_some_and(|(last, _)| at.saturating_sub(last) < SAMPLE_EVERY) {
            return;
        }
        let Some((cpu, memory)) = target.cpu_time().zip(target.memory()) else { return };
        if let Some((last, before)) = self.last {
            self.at_s.push(at.as_secs_f64());
            self.cores.push(cpu.saturating_sub(before).as_secs_f64() / at.saturating_sub(last).as_secs_f64());
            self.rss_mib.push(memory.rss as f64 / f64::from(1 << 20));
        }
        self.last = Some((at, cpu));
    }

    /// For a drawing.
    pub fn json(&self) -> Value {
        json!({"at_s": self.at_s, "cores": self.cores, "rss_mib": self.rss_mib})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(moments_ms: &[u64]) -> Timeline {
        let mut timeline = Timeline::default();
        moments_ms.iter().for_each(|ms| timeline.record(ms * MS));
        timeline
    }

    #[test]
    fn the_longest_gap_lies_between_successes_or_at_an_end_of_the_window() {
        let window = Window::new(1.0, 1.0, 1.0);
        for (moments, want) in [
            (&[1_000, 1_300, 1_900, 1_999][..], 599.0),
            (&[1_400, 1_600, 1_999], 400.0),
            (&[1_000, 1_100], 899.0),
            // What happens before and after does not shorten it.
            (&[500, 2_500], 1_000.0),
        ] {
            assert_eq!(at(moments).longest_gap_ms(window), want, "{moments:?}");
        }
    }

    #[test]
    fn workers_fill_each_others_gaps() {
        let mut both = at(&[0, 900]);
        both.add(&at(&[500]));
        assert_eq!(both.longest_gap_ms(Window::new(0.0, 1.0, 0.0)), 499.0);
    }

    #[test]
    fn points_add_up_to_what_was_recorded_in_the_window() {
        let timeline = at(&[5, 99, 100, 101, 250, 300]);
        assert_eq!(timeline.points(Window::new(0.0, 0.3, 1.0)), [2, 2, 1]);
    }

    #[test]
    fn samples_are_taken_now_and_then_of_processes_that_are_known() {
        let own: Target = format!("127.0.0.1:1,{}", std::process::id()).parse().expect("valid");
        let mut samples = Samples::default();
        [0, 100, 500, 900, 1_200].into_iter().for_each(|ms| samples.take(&own, Duration::from_millis(ms)));
        assert_eq!(samples.at_s, [0.5, 1.2]);
        assert!(samples.rss_mib.iter().all(|mib| *mib > 0.0) && samples.cores.len() == 2);
        let mut unknown = Samples::default();
        (0..3).for_each(|s| unknown.take(&"127.0.0.1:1".parse().expect("valid"), Duration::from_secs(s)));
        assert!(unknown.at_s.is_empty());
    }

    #[test]
    fn a_moment_beyond_all_measure_is_counted_not_allocated() {
        let mut timeline = Timeline::default();
        timeline.record(u64::MAX);
        assert_eq!(timeline.0.len(), SLICES_MAX);
    }
}

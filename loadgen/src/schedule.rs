//! When requests are sent: an open loop's arrival times, decided before the first is sent, so that a slow server
//! cannot slow the load down and hide its own delay (coordinated omission).

use std::str::FromStr;
use zoo::base::prng::Prng;

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// How arrivals are spaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spacing {
    /// Equal gaps.
    Steady,
    /// Exponential gaps: independent clients.
    Poisson,
}

impl FromStr for Spacing {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "steady" => Ok(Spacing::Steady),
            "poisson" => Ok(Spacing::Poisson),
            _ => Err(format!("{s:?} is neither steady nor poisson")),
        }
    }
}

/// The arrival times of one worker, in nanoseconds from the start of the run.
#[derive(Debug)]
pub struct Arrivals {
    gap_ns: f64,
    next_ns: f64,
    spacing: Spacing,
    prng: Prng,
}

impl Arrivals {
    /// `rate` arrivals a second split evenly over `workers`; worker `index` is offset so that together they are evenly spaced.
    pub fn new(rate: f64, workers: usize, index: usize, spacing: Spacing, seed: u64) -> Self {
        let gap_ns = SECOND_NS as f64 * workers as f64 / rate;
        let next_ns = gap_ns * index as f64 / workers as f64;
        Arrivals { gap_ns, next_ns, spacing, prng: Prng::new(seed ^ (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)) }
    }

    /// The time of the next arrival.
    pub fn next_ns(&self) -> u64 {
        self.next_ns as u64
    }

    /// Goes on to the one after it.
    pub fn advance(&mut self) {
        self.next_ns += match self.spacing {
            Spacing::Steady => self.gap_ns,
            Spacing::Poisson => {
                // Uniform in (0, 1]: the logarithm is finite.
                let u = ((self.prng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
                -u.ln() * self.gap_ns
            }
        };
    }
}

/// The times of a run, in nanoseconds from its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Measuring begins.
    pub from_ns: u64,
    /// Measuring and sending end.
    pub to_ns: u64,
    /// Replies still missing are given up.
    pub drained_ns: u64,
}

impl Window {
    /// After the warm-up, for the duration.
    pub fn new(warmup_s: f64, duration_s: f64, drain_s: f64) -> Self {
        let at = |s: f64| (s * SECOND_NS as f64) as u64;
        Window { from_ns: at(warmup_s), to_ns: at(warmup_s + duration_s), drained_ns: at(warmup_s + duration_s + drain_s) }
    }

    /// True for a moment that is measured.
    pub fn contains(&self, ns: u64) -> bool {
        (self.from_ns..self.to_ns).contains(&ns)
    }

    /// Measured seconds.
    pub fn seconds(&self) -> f64 {
        (self.to_ns - self.from_ns) as f64 / SECOND_NS as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(rate: f64, workers: usize, spacing: Spacing, n: usize) -> Vec<u64> {
        let mut all = Vec::new();
        for index in 0..workers {
            let mut arrivals = Arrivals::new(rate, workers, index, spacing, 9);
            for _ in 0..n / workers {
                all.push(arrivals.next_ns());
                arrivals.advance();
            }
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn steady_arrivals_of_all_workers_are_evenly_spaced() {
        let all = times(1_000.0, 2, Spacing::Steady, 10);
        assert_eq!(all, (0..10).map(|i| i * 1_000_000).collect::<Vec<_>>());
    }

    #[test]
    fn steady_arrivals_do_not_drift() {
        let mut arrivals = Arrivals::new(30_000.0, 1, 0, Spacing::Steady, 9);
        for _ in 0..300_000 {
            arrivals.advance();
        }
        assert!(arrivals.next_ns().abs_diff(10 * SECOND_NS) < 10_000, "{}", arrivals.next_ns());
    }

    #[test]
    fn poisson_arrivals_keep_the_rate_and_repeat_for_a_seed() {
        let all = times(10_000.0, 1, Spacing::Poisson, 20_000);
        let seconds = *all.last().expect("some") as f64 / SECOND_NS as f64;
        assert!((1.9..2.1).contains(&seconds), "{seconds}");
        assert_eq!(all, times(10_000.0, 1, Spacing::Poisson, 20_000));
        let gaps: Vec<_> = all.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(gaps.iter().min() < gaps.iter().max());
    }

    #[test]
    fn window_measures_after_the_warm_up_only() {
        let w = Window::new(1.0, 2.0, 5.0);
        assert!(!w.contains(SECOND_NS - 1) && w.contains(SECOND_NS) && w.contains(3 * SECOND_NS - 1) && !w.contains(3 * SECOND_NS));
        assert!((w.seconds() - 2.0).abs() < 1e-9);
    }
}

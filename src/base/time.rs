//! Points in time as plain values. Nothing here can read a clock: the reactor passes `now` in.

/// Monotonic nanoseconds since an arbitrary origin. Drives every timer; counts pauses (CLOCK_BOOTTIME).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// This instant plus `ms` milliseconds, saturating.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Instant(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }
    /// Whole milliseconds since the origin.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0 / 1_000_000
    }
    /// Nanoseconds from `earlier` to this instant; 0 if it is later.
    #[must_use]
    pub const fn since_ns(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
    /// Microseconds from `earlier` to this instant; 0 if it is later.
    #[must_use]
    pub const fn since_us(self, earlier: Instant) -> u64 {
        self.since_ns(earlier) / 1_000
    }
    /// Milliseconds from `earlier` to this instant; 0 if it is later.
    #[must_use]
    pub const fn since_ms(self, earlier: Instant) -> u64 {
        self.since_ns(earlier) / 1_000_000
    }
}

/// Wall-clock milliseconds since the Unix epoch: fills ctime, mtime and TTL arithmetic and the first session id of a run, and nothing else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WallTime(pub i64);

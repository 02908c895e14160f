//! What a worker, or all of them, counted.

use crate::disturbance::PhaseLatencies;
use crate::intervals::Intervals;
use crate::measure::Latencies;
use crate::timeline::Timeline;
use std::collections::BTreeMap;

/// What a worker, or all of them, measured.
#[derive(Debug, Default)]
pub struct Tally {
    /// By kind.
    pub latencies: BTreeMap<&'static str, Latencies>,
    /// All of them, in time.
    pub intervals: Intervals,
    /// Of replies that came while a snapshot was written.
    pub in_snapshot: Latencies,
    /// Of the others, when snapshots are watched for.
    pub out_of_snapshot: Latencies,
    /// Of replies before, during and after a disturbance.
    pub by_phase: PhaseLatencies,
    /// All replies, in time.
    pub replies: Timeline,
    /// Successful writes, in time.
    pub writes: Timeline,
    /// From the end of a connection to the next one's session.
    pub moves: Latencies,
    /// Sessions that had ended when their client came back; new ones took their place.
    pub sessions_lost: u64,
    /// Writes sent whose reply was lost with the connection: done or not, nobody knows.
    pub unknown_writes: u64,
    /// Reads whose reply was lost with the connection.
    pub lost_reads: u64,
    /// How late requests were really sent, in an open loop.
    pub lateness: Latencies,
    /// Error codes by kind.
    pub errors: BTreeMap<(&'static str, i32), u64>,
    /// Measured requests without a reply when the run ended.
    pub unanswered: u64,
    /// Created and not deleted.
    pub left_over: Vec<String>,
    /// Why the run is worthless.
    pub failure: Option<String>,
}

impl Tally {
    /// Adds another worker's.
    pub fn add(&mut self, other: Tally) {
        for (kind, latencies) in &other.latencies {
            self.latencies.entry(kind).or_default().add(latencies);
        }
        self.intervals.add(&other.intervals);
        self.in_snapshot.add(&other.in_snapshot);
        self.out_of_snapshot.add(&other.out_of_snapshot);
        for (sum, more) in self.by_phase.iter_mut().zip(&other.by_phase) {
            sum.add(more);
        }
        self.replies.add(&other.replies);
        self.writes.add(&other.writes);
        self.moves.add(&other.moves);
        self.sessions_lost += other.sessions_lost;
        self.unknown_writes += other.unknown_writes;
        self.lost_reads += other.lost_reads;
        self.lateness.add(&other.lateness);
        for (key, n) in other.errors {
            *self.errors.entry(key).or_default() += n;
        }
        self.unanswered += other.unanswered;
        self.left_over.extend(other.left_over);
        self.failure = self.failure.take().or(other.failure);
    }

    /// All kinds together.
    pub fn total(&self) -> Latencies {
        let mut total = Latencies::default();
        for latencies in self.latencies.values() {
            total.add(latencies);
        }
        total
    }
}

//! What cores measure while they work: counts, sums and extremes, and percentiles where ZooKeeper has them too.
//!
//! Each core owns its metrics and writes them without sharing anything; whoever shows them merges copies. A recording costs a few
//! nanoseconds. Names are those of ZooKeeper's `mntr`, without `zk_`; what has no counterpart there begins with `zoo_`.
//!
//! Stages are measured once a turn, burst or batch, never once a request, with the clock readings of the turns and one more in those that send.
//! What went through a stage together counts once, with the time of the oldest.

use hdrhistogram::Histogram;

/// Percentiles are right to one part in a hundred, up to this; above, they are this.
const PERCENTILE_MAX: u64 = 3_600_000;
const PERCENTILE_DIGITS: u8 = 2;
/// Percentiles shown, with their prefixes.
pub const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)];

/// Values of one kind.
#[derive(Clone, Debug)]
pub struct Summary {
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
    histogram: Option<Histogram<u64>>,
}

impl Summary {
    /// Without percentiles.
    #[must_use]
    pub fn basic() -> Self {
        Summary { count: 0, sum: 0, min: u64::MAX, max: 0, histogram: None }
    }

    /// With percentiles.
    #[must_use]
    pub fn with_percentiles() -> Self {
        Summary { histogram: Histogram::new_with_max(PERCENTILE_MAX, PERCENTILE_DIGITS).ok(), ..Self::basic() }
    }

    /// Adds one value.
    pub fn record(&mut self, value: u64) {
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(value);
        }
    }

    /// Adds everything another core has recorded of the same kind.
    pub fn merge(&mut self, other: &Summary) {
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if let (Some(own), Some(others)) = (&mut self.histogram, &other.histogram) {
            // They have the same bounds, so every value has a place.
            let _ = own.add(others);
        }
    }

    /// Values recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
    /// Of all values.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }
    /// Smallest value; 0 when there is none.
    #[must_use]
    pub fn min(&self) -> u64 {
        if self.count == 0 { 0 } else { self.min }
    }
    /// Largest value; 0 when there is none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }
    /// Mean; 0 when there is no value.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }
    /// The value that so large a part of all values does not exceed; `None` for a summary without percentiles.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<u64> {
        self.histogram.as_ref().map(|h| h.value_at_quantile(part).min(self.max))
    }
}

/// The stages of a request in their order, with what each is, for whoever shows them.
pub const STAGES: [(&str, &str); 10] = [
    ("zoo_look_to_look_us", "sockets: from one look at them to the next, while there is always something"),
    ("zoo_ready_to_receive_us", "sockets: seen to be readable, until the bytes are taken"),
    ("zoo_receive_to_decode_us", "shard: bytes received that have to wait, until the requests in them are looked at"),
    ("zoo_turn_us", "shard: one turn, until all its answers and requests to the replica are ready"),
    ("zoo_queue_to_replica_us", "write: put into the queue of the replica, until taken out"),
    ("zoo_receive_to_prepare_us", "write: received, until prepared (a follower's: and come back from the leader)"),
    ("zoo_prepare_to_durable_us", "write: from there until it is in the log on the disk"),
    ("zoo_durable_to_publish_us", "write: from there until a quorum has it"),
    ("zoo_publish_to_shard_us", "write: from there until its shard answers"),
    ("zoo_answer_to_sent_us", "answer: ready, until it is given to the kernel"),
];

/// Of one shard.
#[derive(Clone, Debug)]
pub struct ShardMetrics {
    /// From the receipt of a read to its reply, ms.
    pub read_ms: Summary,
    /// The same of writes: the queue, the disk and the way back included.
    pub update_ms: Summary,
    /// Between two looks at the sockets, the first of which found something, as the second one did: what comes in between waits at most as long.
    pub look_us: Summary,
    /// Sockets found by a look.
    pub sockets_ready: Summary,
    /// From the look that found bytes in a socket to the turn that takes them.
    pub ready_us: Summary,
    /// From the receipt of bytes to the first look at the requests in them; of those that had to wait.
    pub received_us: Summary,
    /// From the beginning of a turn until all that it answers is ready to be sent; of turns that answer.
    pub turn_us: Summary,
    /// From there until it is sent, as far as sockets take it.
    pub send_us: Summary,
    /// From the receipt of a write until it was prepared; the first of every batch.
    pub prepare_us: Summary,
    /// From the publication of a batch until this shard consumes it.
    pub publish_us: Summary,
}

impl Default for ShardMetrics {
    fn default() -> Self {
        let fine = Summary::with_percentiles;
        ShardMetrics {
            read_ms: fine(),
            update_ms: fine(),
            look_us: fine(),
            sockets_ready: Summary::basic(),
            ready_us: fine(),
            received_us: fine(),
            turn_us: fine(),
            send_us: fine(),
            prepare_us: fine(),
            publish_us: fine(),
        }
    }
}

impl ShardMetrics {
    /// Name and values of each.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Summary)> {
        [
            ("readlatency", &self.read_ms),
            ("updatelatency", &self.update_ms),
            ("zoo_look_to_look_us", &self.look_us),
            ("zoo_sockets_ready", &self.sockets_ready),
            ("zoo_ready_to_receive_us", &self.ready_us),
            ("zoo_receive_to_decode_us", &self.received_us),
            ("zoo_turn_us", &self.turn_us),
            ("zoo_answer_to_sent_us", &self.send_us),
            ("zoo_receive_to_prepare_us", &self.prepare_us),
            ("zoo_publish_to_shard_us", &self.publish_us),
        ]
        .into_iter()
    }
}

/// Of the replica and its log.
#[derive(Clone, Debug)]
pub struct ReplicaMetrics {
    /// Messages of shards taken up in one turn.
    pub queue_size: Summary,
    /// Messages in the shards' queues before that.
    pub queued: Summary,
    /// How long the oldest request of those taken from one shard at once was in its queue, µs.
    pub queue_us: Summary,
    /// Transactions that are prepared and not published, when others are published.
    pub unpublished: Summary,
    /// One flush of the log, ms.
    pub fsync_ms: Summary,
    /// The same in µs, with percentiles.
    pub fsync_us: Summary,
    /// Entries (transactions, ordered answers) published together.
    pub batch_size: Summary,
    /// From the turn in which the oldest transaction of a batch was prepared (a learner: appended) to its publication, µs.
    pub publish_us: Summary,
    /// Of that: until it was durable in this server's log, µs.
    pub log_us: Summary,
    /// Of that: from then on, µs; in an ensemble the wait for a quorum.
    pub quorum_us: Summary,
    /// Bytes of the log one flush was asked for.
    pub flush_bytes: Summary,
    /// Bytes written since the last flush was asked for.
    unflushed: u64,
}

impl Default for ReplicaMetrics {
    fn default() -> Self {
        let basic = Summary::basic;
        let fine = Summary::with_percentiles;
        ReplicaMetrics {
            queue_size: basic(),
            queued: basic(),
            queue_us: fine(),
            unpublished: basic(),
            fsync_ms: basic(),
            fsync_us: fine(),
            batch_size: basic(),
            publish_us: fine(),
            log_us: fine(),
            quorum_us: fine(),
            flush_bytes: basic(),
            unflushed: 0,
        }
    }
}

impl ReplicaMetrics {
    /// The log has been given so many bytes.
    pub fn written(&mut self, bytes: usize) {
        self.unflushed += bytes as u64;
    }
    /// A flush of all that was written begins.
    pub fn flush_asked(&mut self) {
        self.flush_bytes.record(std::mem::take(&mut self.unflushed));
    }
    /// A flush has taken so long.
    pub fn flushed(&mut self, took_us: u64) {
        self.fsync_ms.record(took_us / 1000);
        self.fsync_us.record(took_us);
    }
    /// A batch is published: its oldest transaction has taken so long to be in the log, and then so long. So many others are left.
    pub fn published(&mut self, log_us: u64, quorum_us: u64, unpublished: u64) {
        self.publish_us.record(log_us + quorum_us);
        self.log_us.record(log_us);
        self.quorum_us.record(quorum_us);
        self.unpublished.record(unpublished);
    }

    /// Name and values of each.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Summary)> {
        [
            ("prep_processor_queue_size", &self.queue_size),
            ("zoo_replica_queue", &self.queued),
            ("zoo_queue_to_replica_us", &self.queue_us),
            ("zoo_unpublished", &self.unpublished),
            ("fsynctime", &self.fsync_ms),
            ("zoo_fsync_us", &self.fsync_us),
            ("sync_processor_batch_size", &self.batch_size),
            ("zoo_prepare_to_publish_us", &self.publish_us),
            ("zoo_prepare_to_durable_us", &self.log_us),
            ("zoo_durable_to_publish_us", &self.quorum_us),
            ("zoo_flush_bytes", &self.flush_bytes),
        ]
        .into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_recorded_is_all_zeros() {
        let s = Summary::with_percentiles();
        assert_eq!((s.count(), s.sum(), s.min(), s.max(), s.mean(), s.quantile(0.999)), (0, 0, 0, 0, 0.0, Some(0)));
        assert_eq!(Summary::basic().quantile(0.5), None);
    }

    #[test]
    fn merged_cores_are_as_one() {
        let (mut one, mut other, mut both) = (Summary::with_percentiles(), Summary::with_percentiles(), Summary::with_percentiles());
        for value in 0..1000 {
            if value % 3 == 0 { &mut one } else { &mut other }.record(value);
            both.record(value);
        }
        one.merge(&other);
        one.merge(&Summary::with_percentiles());
        assert_eq!((one.count(), one.sum(), one.min(), one.max()), (1000, 499_500, 0, 999));
        for (_, part) in PERCENTILES {
            assert_eq!(one.quantile(part), both.quantile(part));
            let (got, exact) = (one.quantile(part).expect("percentiles") as f64, part * 1000.0);
            assert!((got - exact).abs() <= exact / 50.0, "{part}: {got}");
        }
    }

    #[test]
    fn every_stage_is_measured_by_somebody() {
        let (shard, replica) = (ShardMetrics::default(), ReplicaMetrics::default());
        let measured: Vec<&str> =
            shard.named().chain(replica.named()).filter(|(_, s)| s.quantile(0.5).is_some()).map(|(name, _)| name).collect();
        STAGES.iter().for_each(|(name, _)| assert!(measured.contains(name), "{name} has no percentiles"));
    }

    #[test]
    fn values_beyond_every_bound_are_counted() {
        let mut s = Summary::with_percentiles();
        [u64::MAX, 5].into_iter().for_each(|value| s.record(value));
        assert_eq!((s.count(), s.sum(), s.min(), s.max()), (2, u64::MAX, 5, u64::MAX));
        assert!(s.quantile(0.99).expect("percentiles") >= PERCENTILE_MAX);
    }
}

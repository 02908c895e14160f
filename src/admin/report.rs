//! The plain structs that admin commands are formatted from, and the sums over all shards.

use super::four_letter::Whitelist;
use super::process::ProcessFacts;
use crate::base::{Instant, SessionId, WallTime};
use crate::metrics::{ReplicaMetrics, Summary};
use crate::replica::ReplicaReport;
use crate::shard::{ConnReport, ShardReport};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;

/// What does not change while the server runs.
#[derive(Clone, Debug, Default)]
pub struct ServerFacts {
    /// The port clients really use (after the kernel chose one for port 0).
    pub client_port: u16,
    /// As configured; -1 is the system's own.
    pub backlog: i64,
    /// Directory of the snapshots (`…/version-2`).
    pub snapshot_dir: PathBuf,
    /// Directory of the logs (`…/version-2`).
    pub log_dir: PathBuf,
    #[allow(missing_docs)]
    pub tick_ms: u64,
    /// Per client address; 0 is unlimited, as in the file.
    pub max_client_cnxns: u64,
    #[allow(missing_docs)]
    pub min_session_timeout_ms: i32,
    #[allow(missing_docs)]
    pub max_session_timeout_ms: i32,
    /// Of a member of an ensemble.
    pub member: Option<MemberFacts>,
    /// Bucket width of the connections in `dump`.
    pub sessionless_ms: u64,
    /// Which words are answered.
    pub whitelist: Whitelist,
}

/// What a member of an ensemble is told, for `conf`.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct MemberFacts {
    pub server_id: i64,
    pub init_limit: u64,
    pub sync_limit: u64,
}

/// Bytes on disk, recursively, preallocated space included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectorySizes {
    /// Of the snapshot directory.
    pub snapshot_bytes: u64,
    /// Of the log directory.
    pub log_bytes: u64,
}

/// Everything a command may be formatted from, at about the same moment. Parts a word does not need may be left at their default.
#[derive(Clone, Debug, Default)]
pub struct AdminView {
    #[allow(missing_docs)]
    pub facts: ServerFacts,
    /// False while the server cannot answer clients: most words then say so.
    pub serving: bool,
    /// Wall clock, for dates.
    pub now: WallTime,
    /// The clock that only goes forward, for durations.
    pub clock: Instant,
    /// Milliseconds since the server began to serve.
    pub uptime_ms: u64,
    /// `stmk`'s last value; ZooKeeper's default is 306.
    pub trace_mask: i64,
    #[allow(missing_docs)]
    pub replica: ReplicaReport,
    /// What the replica's task has measured.
    pub replica_metrics: ReplicaMetrics,
    /// Of every shard that answered in time.
    pub shards: Vec<ShardReport>,
    /// Shards that did not answer in time: the text says that it is incomplete (rule B4).
    pub shards_missing: usize,
    #[allow(missing_docs)]
    pub process: ProcessFacts,
    #[allow(missing_docs)]
    pub directories: DirectorySizes,
}

impl AdminView {
    /// The word for what this server is.
    #[must_use]
    pub fn mode(&self) -> &'static str {
        self.replica.member.as_ref().map_or("standalone", |member| member.mode())
    }

    /// It serves only clients that read.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.replica.member.as_ref().is_some_and(|member| member.is_read_only)
    }

    /// All connections, shard by shard, where their shards were asked for them.
    pub fn connections(&self) -> impl Iterator<Item = &ConnReport> {
        self.shards.iter().flat_map(|s| &s.connections)
    }

    /// Requests received and not answered yet: what connections hold back and what the replica has under way overlap, so the larger.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        self.replica.outstanding.max(self.shards.iter().map(|s| s.queued).sum())
    }

    /// The counters of all shards together.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        let mut min = u64::MAX;
        for s in &self.shards {
            sum.packets_received += s.packets_received;
            sum.packets_sent += s.packets_sent;
            sum.latency_count += s.latency_count;
            sum.latency_sum_ms += s.latency_sum_ms;
            sum.latency_max_ms = sum.latency_max_ms.max(s.latency_max_ms);
            sum.watch_count += s.watch_count;
            sum.local_connections += s.local_connections;
            sum.remote_connections += s.remote_connections;
            sum.auth_failed += s.auth_failed;
            if s.latency_count > 0 {
                min = min.min(s.latency_min_ms);
            }
        }
        sum.latency_min_ms = if sum.latency_count > 0 { min } else { 0 };
        sum
    }

    /// All summaries by name, merged over the cores.
    #[must_use]
    pub fn summaries(&self) -> BTreeMap<&'static str, Summary> {
        let mut merged: BTreeMap<&'static str, Summary> = BTreeMap::new();
        let shards = self.shards.iter().flat_map(|s| s.metrics.named());
        for (name, summary) in shards.chain(self.replica_metrics.named()) {
            match merged.entry(name) {
                Entry::Vacant(first) => drop(first.insert(summary.clone())),
                Entry::Occupied(mut sum) => sum.get_mut().merge(summary),
            }
        }
        merged
    }

    /// Data watches of all shards by path; sessions in ascending order.
    #[must_use]
    pub fn watches_by_path(&self) -> BTreeMap<&str, Vec<SessionId>> {
        let mut by_path: BTreeMap<&str, Vec<SessionId>> = BTreeMap::new();
        for (path, sessions) in self.shards.iter().flat_map(|s| &s.watches) {
            by_path.entry(path).or_default().extend(sessions);
        }
        by_path.values_mut().for_each(|sessions| sessions.sort_unstable());
        by_path
    }

    /// Data watches of all shards by session; paths in ascending order.
    #[must_use]
    pub fn watches_by_session(&self) -> BTreeMap<SessionId, Vec<&str>> {
        let mut by_session: BTreeMap<SessionId, Vec<&str>> = BTreeMap::new();
        for (path, sessions) in self.shards.iter().flat_map(|s| &s.watches) {
            for session in sessions {
                by_session.entry(*session).or_default().push(path);
            }
        }
        by_session.values_mut().for_each(|paths| paths.sort_unstable());
        by_session
    }
}

/// Counters of all shards together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Totals {
    pub packets_received: u64,
    pub packets_sent: u64,
    pub latency_count: u64,
    pub latency_sum_ms: u64,
    /// 0 while nothing has been answered.
    pub latency_min_ms: u64,
    pub latency_max_ms: u64,
    pub watch_count: u64,
    pub auth_failed: u64,
    pub local_connections: u64,
    pub remote_connections: u64,
}

impl Totals {
    /// Mean latency in ms; 0 while nothing has been answered.
    #[must_use]
    pub fn latency_avg_ms(&self) -> f64 {
        if self.latency_count == 0 { 0.0 } else { self.latency_sum_ms as f64 / self.latency_count as f64 }
    }
}

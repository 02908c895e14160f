//! `mntr`: one `zk_<key>\t<value>` line per metric. Only keys with a value that is really measured here, plus `zk_zoo_version`.

use crate::admin::report::AdminView;
use crate::admin::{java_text, version};
use crate::metrics::PERCENTILES;
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

pub(super) fn mntr(view: &AdminView) -> String {
    let mut out = Lines(String::new());
    out.line("version", version::zookeeper_build());
    out.line("zoo_version", version::ZOO_VERSION);
    out.line("server_state", view.mode());
    member(&mut out, view);
    latency(&mut out, view);
    connections(&mut out, view);
    znodes(&mut out, view);
    quotas(&mut out, view);
    process(&mut out, view);
    counters(&mut out, view);
    summaries(&mut out, view);
    if view.shards_missing > 0 {
        out.line("zoo_shards_missing", view.shards_missing);
    }
    out.0
}

/// What only members of ensembles have.
fn member(out: &mut Lines, view: &AdminView) {
    let Some(member) = view.replica.member.as_ref().filter(|member| !member.is_read_only) else { return };
    out.line("peer_state", member.peer_state());
    out.line("quorum_size", member.quorum_size);
    let counts = member.learners;
    if member.feeds_observers {
        out.line("synced_observers", counts.synced_observers);
    }
    if let Some(master) = member.observer_master {
        out.line("observer_master_id", master.0);
    }
    if !member.leads() {
        return;
    }
    out.line("learners", counts.learners);
    out.line("synced_followers", counts.synced_followers);
    out.line("synced_observers", counts.synced_observers);
    out.line("synced_non_voting_followers", counts.synced_non_voting_followers);
    out.line("pending_syncs", counts.pending_syncs);
    out.line("leader_uptime", view.clock.since_ms(member.role_since));
    let (bytes, text) = (member.proposal_bytes, |size: Option<usize>| size.map_or("-1".to_owned(), |n| n.to_string()));
    out.line("last_proposal_size", text(bytes.map(|b| b.last)));
    out.line("min_proposal_size", text(bytes.map(|b| b.min)));
    out.line("max_proposal_size", text(bytes.map(|b| b.max)));
}

fn latency(out: &mut Lines, view: &AdminView) {
    let sum = view.totals();
    out.line("avg_latency", java_text::mean(sum.latency_avg_ms()));
    out.line("min_latency", sum.latency_min_ms);
    out.line("max_latency", sum.latency_max_ms);
    out.line("packets_received", sum.packets_received);
    out.line("packets_sent", sum.packets_sent);
    out.line("auth_failed_count", sum.auth_failed);
    out.line("outstanding_requests", view.outstanding());
}

fn connections(out: &mut Lines, view: &AdminView) {
    let sum = view.totals();
    out.line("num_alive_connections", sum.local_connections + sum.remote_connections);
    out.line("connection_drop_probability", java_text::double(0.0));
    out.line("outstanding_tls_handshake", 0);
    out.line("non_mtls_local_conn_count", sum.local_connections);
    out.line("non_mtls_remote_conn_count", sum.remote_connections);
}

fn znodes(out: &mut Lines, view: &AdminView) {
    let tree = view.replica.tree;
    out.line("znode_count", tree.znodes);
    out.line("ephemerals_count", tree.ephemerals);
    out.line("approximate_data_size", tree.data_bytes);
    out.line("global_sessions", tree.sessions);
    out.line("local_sessions", view.replica.local_session_count);
    out.line("watch_count", view.totals().watch_count);
    out.line("snap_count", view.replica.snapshots_taken);
}

fn quotas(out: &mut Lines, view: &AdminView) {
    for (namespace, sums) in &view.replica.quotas {
        out.line(&format!("{namespace}_quota_count_limit_per_namespace"), sums.count_limit);
        out.line(&format!("{namespace}_quota_bytes_limit_per_namespace"), sums.bytes_limit);
        out.line(&format!("{namespace}_quota_count_usage_per_namespace"), sums.count_used);
        out.line(&format!("{namespace}_quota_bytes_usage_per_namespace"), sums.bytes_used);
    }
}

fn process(out: &mut Lines, view: &AdminView) {
    out.line("uptime", view.uptime_ms);
    out.line("open_file_descriptor_count", view.process.open_files);
    out.line("max_file_descriptor_count", view.process.open_files_max);
}

fn counters(out: &mut Lines, view: &AdminView) {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (key, value) in view.shards.iter().flat_map(|s| &s.counters).chain(&view.replica.counters) {
        *sums.entry(key).or_default() += value;
    }
    for (key, value) in sums {
        out.line(key, value);
    }
    // Which shard replied last is not known; the largest last one stands for it.
    let sizes = || view.shards.iter().filter_map(|s| s.reply_bytes);
    let text = |size: Option<usize>| size.map_or("-1".to_string(), |n| n.to_string());
    out.line("last_client_response_size", text(sizes().map(|s| s.0).max()));
    out.line("min_client_response_size", text(sizes().map(|s| s.1).min()));
    out.line("max_client_response_size", text(sizes().map(|s| s.2).max()));
}

fn summaries(out: &mut Lines, view: &AdminView) {
    for (name, summary) in view.summaries() {
        out.line(&format!("avg_{name}"), java_text::mean(summary.mean()));
        for (aggregate, value) in [("min", summary.min()), ("max", summary.max()), ("cnt", summary.count()), ("sum", summary.sum())] {
            out.line(&format!("{aggregate}_{name}"), value);
        }
        for (prefix, part) in PERCENTILES {
            if let Some(value) = summary.quantile(part) {
                out.line(&format!("{prefix}_{name}"), value);
            }
        }
    }
}

struct Lines(String);

impl Lines {
    fn line(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.0, "zk_{key}\t{value}");
    }
}

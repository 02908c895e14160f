//! Plain numbers for admin commands.

use super::{Shard, Totals};
use crate::base::{Instant, SessionId, WallTime};
use crate::conn::Phase;
use crate::metrics::ShardMetrics;
use std::net::SocketAddr;

/// What a shard knows for admin commands.
#[derive(Clone, Debug, Default)]
pub struct ShardReport {
    /// One entry per connection, four-letter ones included; if asked for.
    pub connections: Vec<ConnReport>,
    /// Connections from this machine.
    pub local_connections: u64,
    /// Connections from others.
    pub remote_connections: u64,
    /// Requests its connections hold back.
    pub queued: u64,
    /// Requests received.
    pub packets_received: u64,
    /// Replies and events queued.
    pub packets_sent: u64,
    /// Requests answered, sum, min and max of their latency in ms.
    pub latency_count: u64,
    /// Sum of latencies.
    pub latency_sum_ms: u64,
    /// Smallest latency; 0 when none.
    pub latency_min_ms: u64,
    /// Largest latency.
    pub latency_max_ms: u64,
    /// Data-table watches: (path, sessions); if asked for.
    pub watches: Vec<(String, Vec<SessionId>)>,
    /// Both tables.
    pub watch_count: u64,
    /// Auth packets refused.
    pub auth_failed: u64,
    /// Further counters under their `mntr` names, to be summed over shards.
    pub counters: Vec<(&'static str, u64)>,
    /// Reply frames in bytes (last, smallest, largest); `None` before the first.
    pub reply_bytes: Option<(usize, usize, usize)>,
    /// Latencies.
    pub metrics: ShardMetrics,
}

/// One line of `cons` and `stat`.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct ConnReport {
    pub peer: SocketAddr,
    pub session: Option<SessionId>,
    /// What the server waits for: 1 for requests, 4 for room in the socket.
    pub interest: u8,
    pub queued: u64,
    pub received: u64,
    pub sent: u64,
    pub last_op: &'static str,
    /// Wall-clock ms at which it was accepted.
    pub established_ms: i64,
    pub timeout_ms: i32,
    pub last_cxid: i64,
    pub last_zxid: i64,
    /// Monotonic ms of the last reply; 0 when none.
    pub last_response_ms: u64,
    pub last_latency_ms: u64,
    pub min_latency_ms: u64,
    pub avg_latency_ms: u64,
    pub max_latency_ms: u64,
}

/// What a report holds besides numbers: each costs work and memory of its size (rule B2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// A line per connection.
    pub connections: bool,
    /// Every data watch.
    pub watches: bool,
}

impl Detail {
    /// Everything there is.
    pub const ALL: Detail = Detail { connections: true, watches: true };
}

impl Shard {
    /// What admin commands want to know of this shard.
    #[must_use]
    pub fn report(&self, now: Instant, wall: WallTime, detail: Detail) -> ShardReport {
        let mut report = self.numbers();
        if detail.connections {
            report.connections = self.clients.iter().filter(|c| c.arrival.is_none()).map(|c| conn_report(c, now, wall)).collect();
        }
        if detail.watches {
            let session_of = |slot: &u32| self.clients.at(*slot).and_then(|c| c.conn.session());
            let watches = self.watches.data_watches().into_iter();
            report.watches = watches.map(|(path, slots)| (path.to_string(), slots.iter().filter_map(session_of).collect())).collect();
        }
        report
    }

    fn numbers(&self) -> ShardReport {
        let mut report = ShardReport {
            packets_received: self.totals.received,
            packets_sent: self.totals.sent,
            latency_count: self.totals.latency.count,
            latency_sum_ms: self.totals.latency.sum_ms,
            latency_min_ms: self.totals.latency.min_ms,
            latency_max_ms: self.totals.latency.max_ms,
            watch_count: self.watches.len() as u64,
            auth_failed: self.totals.auth_failed,
            counters: vec![
                ("bytes_received_count", self.totals.received_bytes),
                ("response_bytes", self.totals.sent_bytes),
                ("connection_request_count", self.totals.connect_requests),
                ("sessionless_connections_expired", self.totals.half_open_closed),
                ("zoo_connections_moved", self.totals.moved),
                ("zoo_connections_shed", self.totals.shed),
            ],
            reply_bytes: self.totals.reply_bytes,
            metrics: self.metrics.clone(),
            ..ShardReport::default()
        };
        for client in self.clients.iter().filter(|c| c.arrival.is_none()) {
            let local = client.conn.peer.ip().is_loopback();
            *if local { &mut report.local_connections } else { &mut report.remote_connections } += 1;
            report.queued += client.conn.order.len() as u64;
        }
        report
    }

    /// `srst`: the shard's own counters.
    pub fn reset_stats(&mut self) {
        self.totals = Totals::default();
        self.metrics = ShardMetrics::default();
    }

    /// `crst`: the counters of each connection.
    pub fn reset_connection_stats(&mut self) {
        for client in self.clients.iter_mut() {
            client.conn.stats.reset();
        }
    }
}

fn conn_report(client: &super::clients::Client, now: Instant, wall: WallTime) -> ConnReport {
    let conn = &client.conn;
    let stats = &conn.stats;
    ConnReport {
        peer: conn.peer,
        session: conn.session(),
        interest: client.interest(),
        queued: conn.order.len() as u64,
        received: stats.received,
        sent: stats.sent,
        last_op: stats.last_op,
        established_ms: wall.0 - now.since_ms(stats.established) as i64,
        timeout_ms: if let Phase::Serving { timeout_ms, .. } = conn.phase { timeout_ms } else { 0 },
        last_cxid: stats.last_cxid,
        last_zxid: stats.last_zxid,
        last_response_ms: stats.last_response.as_ms(),
        last_latency_ms: stats.last_latency_ms,
        min_latency_ms: stats.latency.min_ms,
        avg_latency_ms: stats.latency.sum_ms.checked_div(stats.latency.count).unwrap_or(0),
        max_latency_ms: stats.latency.max_ms,
    }
}

//! `srvr`, `conf`, `dirs` and `hash`: the server as a whole.

use crate::admin::report::{AdminView, MemberFacts};
use crate::admin::{java_text, version};
use crate::base::PeerId;
use crate::replica::report::MemberReport;
use std::fmt::Write as _;

pub(super) fn srvr(view: &AdminView) -> String {
    format!("{}{}{}", version_lines(view), super::incomplete(view), statistics(view))
}

/// What `srvr` and `stat` begin with.
pub(super) fn version_lines(view: &AdminView) -> String {
    let read_only = if view.is_read_only() { "READ-ONLY mode; serving only read-only clients\n" } else { "" };
    format!("Zookeeper version: {}\n{read_only}", version::zookeeper_build())
}

/// The part that `srvr` and `stat` have in common.
pub(super) fn statistics(view: &AdminView) -> String {
    let sum = view.totals();
    let lines = [
        format!("Latency min/avg/max: {}/{}/{}", sum.latency_min_ms, java_text::mean(sum.latency_avg_ms()), sum.latency_max_ms),
        format!("Received: {}", sum.packets_received),
        format!("Sent: {}", sum.packets_sent),
        format!("Connections: {}", sum.local_connections + sum.remote_connections),
        format!("Outstanding: {}", view.outstanding()),
        format!("Zxid: {}", view.replica.last_zxid),
        format!("Mode: {}", view.mode()),
        format!("Node count: {}\n", view.replica.tree.znodes),
    ];
    lines.join("\n") + &proposal_sizes(view)
}

/// A leader's last line.
fn proposal_sizes(view: &AdminView) -> String {
    match view.replica.member.as_ref().filter(|member| member.leads()).map(|member| member.proposal_bytes) {
        None => String::new(),
        Some(None) => "Proposal sizes last/min/max: -1/-1/-1\n".to_owned(),
        Some(Some(bytes)) => format!("Proposal sizes last/min/max: {}/{}/{}\n", bytes.last, bytes.min, bytes.max),
    }
}

pub(super) fn conf(view: &AdminView) -> String {
    let facts = &view.facts;
    let lines = [
        format!("clientPort={}", facts.client_port),
        "secureClientPort=-1".to_owned(),
        format!("dataDir={}", facts.snapshot_dir.display()),
        format!("dataDirSize={}", view.directories.snapshot_bytes),
        format!("dataLogDir={}", facts.log_dir.display()),
        format!("dataLogSize={}", view.directories.log_bytes),
        format!("tickTime={}", facts.tick_ms),
        format!("maxClientCnxns={}", facts.max_client_cnxns),
        format!("minSessionTimeout={}", facts.min_session_timeout_ms),
        format!("maxSessionTimeout={}", facts.max_session_timeout_ms),
        format!("clientPortListenBacklog={}", facts.backlog),
        format!("serverId={}\n", facts.member.as_ref().map_or(0, |member| member.server_id)),
    ];
    let member = facts.member.as_ref();
    lines.join("\n") + &member.map_or_else(String::new, |member| member_conf(member, view.replica.member.as_ref(), view.is_read_only()))
}

/// What `conf` adds for a member of an ensemble; the membership is not told without a quorum, and ends without a newline.
fn member_conf(member: &MemberFacts, report: Option<&MemberReport>, is_read_only: bool) -> String {
    let id = PeerId(member.server_id);
    let own = report.and_then(|report| report.membership.members.get(&id));
    let addresses = || own.iter().flat_map(|own| &own.addresses);
    let ports = |ports: String| if ports.is_empty() { "0".to_owned() } else { ports };
    let observes = report.is_some_and(|report| report.membership.is_observer(id));
    let lines = [
        format!("initLimit={}", member.init_limit),
        format!("syncLimit={}", member.sync_limit),
        "electionAlg=3".to_owned(),
        format!("electionPort={}", ports(joined(addresses().map(|a| a.election_port)))),
        format!("quorumPort={}", ports(joined(addresses().map(|a| a.quorum_port)))),
        format!("peerType={}\n", u8::from(observes)),
    ];
    let text = report.map_or_else(String::new, |report| report.membership.to_text());
    let membership = if is_read_only { String::new() } else { format!("membership: \n{text}") };
    lines.join("\n") + &membership
}

/// The ports of a member with several addresses, each once.
fn joined(ports: impl Iterator<Item = u16>) -> String {
    let mut distinct: Vec<String> = Vec::new();
    for port in ports.map(|port| port.to_string()) {
        if !distinct.contains(&port) {
            distinct.push(port);
        }
    }
    distinct.join("|")
}

pub(super) fn dirs(view: &AdminView) -> String {
    format!("datadir_size: {}\nlogdir_size: {}\n", view.directories.snapshot_bytes, view.directories.log_bytes)
}

pub(super) fn hash(view: &AdminView) -> String {
    let mut out = String::new();
    for (zxid, digest) in &view.replica.digest_history {
        // The digest is a Java long: signed decimal.
        let _ = writeln!(out, "{:x}: {}", zxid.0, *digest as i64);
    }
    out
}

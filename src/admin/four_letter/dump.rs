//! `dump`: sessions and connections by expiry, and ephemerals by session.

use crate::admin::java_text;
use crate::admin::report::AdminView;
use crate::base::WallTime;
use crate::base::address::socket_text;
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

pub(super) fn dump(view: &AdminView) -> String {
    let mut out = String::from("SessionTracker dump:\n");
    let sessions = &view.replica.sessions;
    let leads = view.replica.member.as_ref().is_none_or(|member| member.leads());
    if let Some(local) = &view.replica.local_sessions {
        out.push_str("Local Session ");
        write_sets(&mut out, view.now, local.iter().map(|(session, _, ms_left)| (*ms_left, *session)));
        out.push_str(if leads { "Global " } else { "" });
    }
    if leads {
        out.push_str("Session ");
        write_sets(&mut out, view.now, sessions.iter().map(|(session, _, ms_left)| (*ms_left, *session)));
    } else {
        // Only a leader knows when they expire.
        let _ = writeln!(out, "Global Sessions({}):", sessions.len());
        for (session, timeout_ms, _) in sessions {
            let _ = writeln!(out, "{session}\t{timeout_ms}ms");
        }
    }
    let ephemerals = &view.replica.ephemerals;
    let _ = writeln!(out, "ephemeral nodes dump:\nSessions with Ephemerals ({}):", ephemerals.len());
    for (session, paths) in ephemerals {
        let _ = writeln!(out, "{session}:");
        for path in paths {
            let _ = writeln!(out, "\t{path}");
        }
    }
    out.push_str("Connections dump:\nConnections ");
    write_sets(&mut out, view.now, connections(view));
    out + &super::incomplete(view)
}

/// Connections with the milliseconds until they are looked at again: ZooKeeper rounds them up to buckets of its sessionless timeout.
fn connections(view: &AdminView) -> impl Iterator<Item = (u64, String)> {
    let bucket = i64::try_from(view.facts.sessionless_ms.max(1)).unwrap_or(i64::MAX);
    view.connections().map(move |c| {
        let timeout = if c.session.is_some() { i64::from(c.timeout_ms) } else { bucket };
        let due = ((view.now.0 + timeout) / bucket + 1).saturating_mul(bucket);
        let session = c.session.unwrap_or_default();
        ((due - view.now.0).max(0) as u64, format!("ip: /{} sessionId: {session}", socket_text(c.peer)))
    })
}

/// `Sets (<buckets>)/(<entries>):`, then every bucket with its date and entries.
fn write_sets<T: Display>(out: &mut String, now: WallTime, entries: impl Iterator<Item = (u64, T)>) {
    let mut buckets: BTreeMap<u64, Vec<T>> = BTreeMap::new();
    for (ms_left, entry) in entries {
        buckets.entry(ms_left).or_default().push(entry);
    }
    let _ = writeln!(out, "Sets ({})/({}):", buckets.len(), buckets.values().map(Vec::len).sum::<usize>());
    for (ms_left, entries) in buckets {
        let at = WallTime(now.0.saturating_add_unsigned(ms_left));
        let _ = writeln!(out, "{} expire at {}:", entries.len(), java_text::date(at));
        for entry in entries {
            let _ = writeln!(out, "\t{entry}");
        }
    }
}

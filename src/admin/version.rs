//! Which version this is: our own, and the ZooKeeper release whose behaviour tools may rely on.

use super::java_text;
use crate::base::WallTime;

/// Version of this package.
pub const ZOO_VERSION: &str = env!("CARGO_PKG_VERSION");
/// The ZooKeeper release that protocol, files and commands follow.
pub const ZOOKEEPER_VERSION: &str = "3.9.4";
/// Full commit id of the source, or "unknown".
pub const COMMIT: &str = env!("ZOO_COMMIT");

/// `3.9.4-<commit>, built on 2026-11-22 17:54 UTC`, the form ZooKeeper's tools parse.
#[must_use]
pub fn zookeeper_build() -> String {
    format!("{ZOOKEEPER_VERSION}-{COMMIT}, built on {}", java_text::minute(commit_date()))
}

/// `0.1.0 (commit …, 2026-11-22 17:54 UTC)`.
#[must_use]
pub fn zoo_build() -> String {
    format!("{ZOO_VERSION} (commit {COMMIT}, {})", java_text::minute(commit_date()))
}

fn commit_date() -> WallTime {
    WallTime(env!("ZOO_COMMIT_SECONDS").parse::<i64>().unwrap_or(0) * 1_000)
}

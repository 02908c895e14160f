//! Quotas: which subtrees have one, and the text of limits and usage (semantics section 7).
//!
//! A quota is armed by its limits node. Usage is the text of the stats node, edited in place without touching its stat: derived state,
//! kept by every server for itself.

use super::Tree;
use super::store::{CellId, Change, ChildChange, DataChange};
use super::undo::UndoOp;
use super::znode::{QUOTA, ROOT};
use crate::base::{Zxid, path};
use crate::proto::ErrorCode;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";
/// With more quotas than these their sums are not made: whoever asks for them every few seconds must not hold up writes.
const SUMMED_MAX: usize = 1_000;

/// Paths under a quota.
#[derive(Default)]
pub(super) struct Quotas {
    armed: HashSet<Box<str>, foldhash::fast::FixedState>,
}

impl Quotas {
    /// None armed.
    pub(super) fn new(hash_seed: u64) -> Self {
        Quotas { armed: HashSet::with_hasher(foldhash::fast::FixedState::with_seed(hash_seed)) }
    }
    /// The deepest armed path that is `path` or above it. A quota on the root is never applied.
    pub(super) fn deepest<'p>(&self, path: &'p str) -> Option<&'p str> {
        if self.armed.is_empty() { None } else { prefixes(path).find(|p| self.armed.contains(*p)) }
    }
    pub(super) fn arm(&mut self, path: &str) -> bool {
        self.armed.insert(path.into())
    }
    pub(super) fn disarm(&mut self, path: &str) -> bool {
        self.armed.remove(path)
    }
    /// Armed paths in order, for comparing.
    #[cfg(test)]
    pub(super) fn dump(&self) -> Vec<&str> {
        let mut all: Vec<_> = self.armed.iter().map(AsRef::as_ref).collect();
        all.sort_unstable();
        all
    }
}

/// `path` and everything above it but the root, deepest first.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |p| path::parent(p)).filter(|p| !p.is_empty() && *p != ROOT)
}

/// Limits and usage of all quotas below one child of the root, for monitoring; each absent "none" is a -1 in the sum, as in ZooKeeper.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct QuotaSums {
    pub count_limit: i64,
    pub bytes_limit: i64,
    pub count_used: i64,
    pub bytes_used: i64,
}

/// What a node below "/zookeeper/quota" is to the quota machinery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum QuotaNode<'a> {
    /// The limits of this path.
    Limits(&'a str),
    /// The usage of this path.
    Stats(&'a str),
}

impl<'a> QuotaNode<'a> {
    /// Reads a znode's path.
    pub(super) fn of(node: &'a str) -> Option<QuotaNode<'a>> {
        let below = node.strip_prefix(QUOTA)?;
        let (path, name) = below.rsplit_once('/')?;
        let path = if path.is_empty() { ROOT } else { path };
        match name {
            LIMITS if path.starts_with('/') => Some(QuotaNode::Limits(path)),
            STATS if path.starts_with('/') => Some(QuotaNode::Stats(path)),
            _ => None,
        }
    }
}

fn quota_node(path: &str, name: &str) -> String {
    let path = if path == ROOT { "" } else { path };
    format!("{QUOTA}{path}/{name}")
}

/// Numbers of a limits or stats node; -1 is "none".
#[derive(Clone, PartialEq, Eq, Debug)]
struct Track {
    count: i64,
    bytes: i64,
    /// Everything else that was written there, hard limits among it.
    extra: BTreeMap<String, i64>,
}

impl Track {
    const COUNT_HARD: &'static str = "countHardLimit";
    const BYTES_HARD: &'static str = "byteHardLimit";

    /// Reads a node's text. What is not a number counts as not there; nothing is refused, because the text is a client's.
    fn parse(data: Option<&[u8]>) -> Track {
        let text = String::from_utf8_lossy(data.unwrap_or(&[]));
        let mut track = Track { count: -1, bytes: -1, extra: BTreeMap::new() };
        for pair in text.split([',', ';']).filter(|p| !p.is_empty()) {
            let mut parts = pair.split('=');
            let (Some(key), value) = (parts.next(), parts.next().unwrap_or("")) else { continue };
            let value = value.parse().unwrap_or(-1);
            match key {
                "count" => track.count = value,
                "bytes" => track.bytes = value,
                _ => {
                    track.extra.insert(key.to_owned(), value);
                }
            }
        }
        track
    }
    fn hard(&self, key: &str) -> i64 {
        self.extra.get(key).copied().unwrap_or(-1)
    }
    fn text(&self) -> String {
        let mut out = format!("count={},bytes={}", self.count, self.bytes);
        if !self.extra.is_empty() {
            out.push('='); // makes parsers that know no hard limits stop here
            for (key, value) in &self.extra {
                // Writing to a String cannot fail.
                let _ = write!(out, ";{key}={value}");
            }
        }
        out
    }
}

/// A change of what a subtree uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct UsageChange {
    pub(super) count: i64,
    pub(super) bytes: i64,
}

fn len(data: Option<&[u8]>) -> i64 {
    data.map_or(0, |d| d.len() as i64)
}

impl Tree {
    /// Refuses a write beyond a hard limit (-125). Limits and usage are read as committed (rule B10).
    pub(super) fn check_quota(&self, path: &str, change: UsageChange) -> Result<(), ErrorCode> {
        if !self.config.enforce_quota {
            return Ok(());
        }
        for prefix in prefixes(path) {
            let Some(limits) = self.store.committed(&quota_node(prefix, LIMITS)) else { continue };
            let limits = Track::parse(limits.data());
            let Some(stats) = self.store.committed(&quota_node(prefix, STATS)) else { return Ok(()) };
            let used = Track::parse(stats.data());
            let exceeds = |limit: i64, used: i64, more: i64| more != 0 && limit > -1 && used.saturating_add(more) > limit;
            let count_exceeded = exceeds(limits.hard(Track::COUNT_HARD), used.count, change.count);
            let bytes_exceeded = exceeds(limits.hard(Track::BYTES_HARD), used.bytes, change.bytes);
            return if count_exceeded || bytes_exceeded { Err(ErrorCode::QuotaExceeded) } else { Ok(()) };
        }
        Ok(())
    }

    /// The committed limits and usage by child of the root; nothing when there are too many quotas.
    pub fn quota_sums(&self) -> Vec<(String, QuotaSums)> {
        let mut sums = BTreeMap::<&str, QuotaSums>::new();
        let subjects = self.quotas.armed.iter().take(if self.quotas.armed.len() > SUMMED_MAX { 0 } else { SUMMED_MAX });
        for subject in subjects {
            let top = subject.split('/').nth(1).filter(|top| !top.is_empty());
            let (Some(top), Some(limits)) = (top, self.store.committed(&quota_node(subject, LIMITS))) else { continue };
            let sum = sums.entry(top).or_default();
            let limits = Track::parse(limits.data());
            let limit = |hard: i64, soft: i64| if hard > -1 { hard } else { soft };
            sum.count_limit = sum.count_limit.saturating_add(limit(limits.hard(Track::COUNT_HARD), limits.count));
            sum.bytes_limit = sum.bytes_limit.saturating_add(limit(limits.hard(Track::BYTES_HARD), limits.bytes));
            let Some(stats) = self.store.committed(&quota_node(subject, STATS)) else { continue };
            let used = Track::parse(stats.data());
            sum.count_used = sum.count_used.saturating_add(used.count);
            sum.bytes_used = sum.bytes_used.saturating_add(used.bytes);
        }
        sums.into_iter().map(|(top, sum)| (top.to_owned(), sum)).collect()
    }

    /// A node has been created: limits arm, stats get the real numbers, everything else is charged.
    pub(super) fn quota_created(&mut self, stamp: Zxid, path: &str, data: Option<&[u8]>) {
        match QuotaNode::of(path) {
            Some(QuotaNode::Limits(subject)) if self.quotas.arm(subject) => self.undo.push(UndoOp::QuotaArmed(subject.into())),
            Some(QuotaNode::Stats(subject)) => self.recount(stamp, subject),
            _ => {}
        }
        self.charge(stamp, path, UsageChange { count: 1, bytes: len(data) });
    }

    /// A node has been deleted.
    pub(super) fn quota_deleted(&mut self, stamp: Zxid, path: &str, data_len: usize) {
        if let Some(QuotaNode::Limits(subject)) = QuotaNode::of(path)
            && self.quotas.disarm(subject)
        {
            self.undo.push(UndoOp::QuotaDisarmed(subject.into()));
        }
        self.charge(stamp, path, UsageChange { count: -1, bytes: -(data_len as i64) });
    }

    /// Adds to the usage of the deepest quota above `path`; without a stats node there is nothing to add to.
    pub(super) fn charge(&mut self, stamp: Zxid, path: &str, change: UsageChange) {
        let Some(prefix) = self.quotas.deepest(path) else { return };
        if change.count == 0 && change.bytes == 0 {
            return;
        }
        let stats = quota_node(prefix, STATS);
        let Some(node) = self.store.head(&stats) else { return };
        let mut track = Track::parse(node.data());
        track.count = track.count.wrapping_add(change.count);
        track.bytes = track.bytes.wrapping_add(change.bytes);
        let (cell, text) = (node.cell(), track.text());
        self.replace_stats(stamp, cell, &text);
    }

    /// Writes the real numbers of the subtree into its stats node.
    pub(super) fn recount(&mut self, stamp: Zxid, subject: &str) {
        let Some(cell) = self.store.head(&quota_node(subject, STATS)).map(|n| n.cell()) else { return };
        let mut track = Track { count: 0, bytes: 0, extra: BTreeMap::new() };
        let mut todo: Vec<CellId> = self.store.head(subject).map(|n| n.cell()).into_iter().collect();
        while let Some(node) = todo.pop().and_then(|c| self.store.head_of(c)) {
            track.count += 1;
            track.bytes += len(node.data());
            todo.extend(node.children());
        }
        self.replace_stats(stamp, cell, &track.text());
    }

    fn replace_stats(&mut self, stamp: Zxid, cell: CellId, text: &str) {
        let Some(node) = self.store.head_of(cell) else { return };
        let meta = node.meta();
        // Nothing to do for the digest: everything below "/zookeeper/" counts 0 in it.
        let change = Change { meta, data: DataChange::Set(Some(text.as_bytes())), acl: None, children: ChildChange::Keep };
        self.push_change(stamp, cell, &change);
    }

    /// Arms every quota of a loaded tree and recounts its usage.
    pub(super) fn load_quotas(&mut self, stamp: Zxid) {
        let mut subjects = Vec::new();
        let mut todo: Vec<CellId> = self.store.head(QUOTA).map(|n| n.cell()).into_iter().collect();
        while let Some(node) = todo.pop().and_then(|c| self.store.head_of(c)) {
            if let Some(QuotaNode::Limits(subject)) = QuotaNode::of(node.path()) {
                subjects.push(subject.to_owned());
            }
            todo.extend(node.children());
        }
        for subject in subjects {
            self.quotas.arm(&subject);
            self.recount(stamp, &subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written_as_zookeeper_does() {
        for (text, count, bytes, again) in [
            ("count=5,bytes=-1", 5, -1, "count=5,bytes=-1"),
            ("bytes=7,count=3", 3, 7, "count=3,bytes=7"),
            ("count=1,bytes=2=;byteHardLimit=30;countHardLimit=4", 1, 2, "count=1,bytes=2=;byteHardLimit=30;countHardLimit=4"),
            ("count=;;,bytes=9", -1, 9, "count=-1,bytes=9"),
            ("", -1, -1, "count=-1,bytes=-1"),
            ("count=x", -1, -1, "count=-1,bytes=-1"),
        ] {
            let track = Track::parse(Some(text.as_bytes()));
            assert_eq!((track.count, track.bytes), (count, bytes), "{text:?}");
            assert_eq!(track.text(), again);
        }
        assert_eq!(Track::parse(None).count, -1);
    }

    #[test]
    fn quota_nodes_are_recognised_by_path() {
        assert_eq!(QuotaNode::of("/zookeeper/quota/a/b/zookeeper_limits"), Some(QuotaNode::Limits("/a/b")));
        assert_eq!(QuotaNode::of("/zookeeper/quota/a/zookeeper_stats"), Some(QuotaNode::Stats("/a")));
        assert_eq!(QuotaNode::of("/zookeeper/quota/zookeeper_limits"), Some(QuotaNode::Limits("/")));
        for other in ["/zookeeper/quota", "/zookeeper/quota/a", "/zookeeper/quotax/zookeeper_limits", "/a/zookeeper_limits"] {
            assert_eq!(QuotaNode::of(other), None, "{other}");
        }
    }

    #[test]
    fn the_deepest_armed_path_wins_and_the_root_never_does() {
        let mut quotas = Quotas::new(1);
        for path in ["/", "/a", "/a/b/c"] {
            quotas.arm(path);
        }
        for (path, want) in [("/a/b/c/d", Some("/a/b/c")), ("/a/b/c", Some("/a/b/c")), ("/a/b", Some("/a")), ("/ab", None), ("/", None)] {
            assert_eq!(quotas.deepest(path), want, "{path}");
        }
    }
}

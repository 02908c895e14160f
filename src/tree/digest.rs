//! The tree digest: the sum of one CRC-32 per node, kept up to date change by change, as ZooKeeper's digest version 2.
//!
//! Everything below "/zookeeper/" counts 0, the root is hashed under the empty path; ACLs and children sets are not hashed.

use super::store::NodeMeta;
use crate::base::{Zxid, checksum::Crc32};
use std::collections::VecDeque;

/// Length of the digest at the end of a transaction.
pub(super) const DIGEST_BYTES: usize = 12;
/// Digests of committed zxids are remembered at this distance.
const HISTORY_INTERVAL: u64 = 128;
/// So many are remembered; the oldest goes first.
const HISTORY_LEN_MAX: usize = 1024;

/// The part of a node's digest that its numbers do not change: path and data. Hashing it once serves the old and the new number.
pub(super) struct Prefix(Option<Crc32>);

impl Prefix {
    /// Path and data of a node.
    pub(super) fn of(path: &str, data: Option<&[u8]>) -> Prefix {
        if path.starts_with("/zookeeper/") {
            return Prefix(None);
        }
        let mut crc = Crc32::new();
        crc.update(if path == "/" { b"" } else { path.as_bytes() });
        crc.update(data.unwrap_or(&[]));
        Prefix(Some(crc))
    }
    /// The node's digest with these numbers.
    pub(super) fn with(&self, meta: &NodeMeta) -> u64 {
        let Some(crc) = &self.0 else { return 0 };
        let mut numbers = [0u8; 60];
        for (i, long) in [meta.czxid, meta.mzxid, meta.pzxid, meta.ctime, meta.mtime].into_iter().enumerate() {
            numbers[i * 8..i * 8 + 8].copy_from_slice(&long.to_be_bytes());
        }
        for (i, int) in [meta.version, meta.cversion, meta.aversion].into_iter().enumerate() {
            numbers[40 + i * 4..44 + i * 4].copy_from_slice(&int.to_be_bytes());
        }
        numbers[52..].copy_from_slice(&meta.owner.to_be_bytes());
        let mut crc = crc.clone();
        crc.update(&numbers);
        u64::from(crc.value())
    }
}

/// The digest of one node.
pub(super) fn of_node(path: &str, data: Option<&[u8]>, meta: &NodeMeta) -> u64 {
    Prefix::of(path, data).with(meta)
}

/// Digests of committed zxids, for comparing servers.
#[derive(Default)]
pub(super) struct History {
    entries: VecDeque<(Zxid, u64)>,
}

impl History {
    /// Notes the digest after `zxid` when it is one of those that are remembered.
    pub(super) fn note(&mut self, zxid: Zxid, digest: u64) {
        if !zxid.0.is_multiple_of(HISTORY_INTERVAL) {
            return;
        }
        if self.entries.back().is_some_and(|(newest, _)| *newest == zxid) {
            self.entries.pop_back();
        }
        if self.entries.len() == HISTORY_LEN_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back((zxid, digest));
    }
    /// Oldest first.
    pub(super) fn to_vec(&self) -> Vec<(Zxid, u64)> {
        self.entries.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_tree_has_the_known_digest() {
        let root = of_node("/", Some(b""), &NodeMeta::default());
        let zookeeper = of_node("/zookeeper", Some(b""), &NodeMeta::default());
        assert_eq!((root, zookeeper), (0x0412_8908, 0x4DB4_4D58));
        assert_eq!(of_node("/zookeeper/config", Some(b"x"), &NodeMeta::default()), 0);
        assert_ne!(of_node("/zookeeperx", Some(b"x"), &NodeMeta::default()), 0);
    }

    #[test]
    fn history_keeps_the_newest_multiples_of_the_interval() {
        let mut history = History::default();
        for n in 1..=HISTORY_INTERVAL * (HISTORY_LEN_MAX as u64 + 2) {
            history.note(Zxid(n), n);
        }
        let kept = history.to_vec();
        assert_eq!(kept.len(), HISTORY_LEN_MAX);
        assert_eq!(kept[0], (Zxid(3 * HISTORY_INTERVAL), 3 * HISTORY_INTERVAL));
        assert_eq!(kept.last().map(|e| e.0), Some(Zxid(HISTORY_INTERVAL * (HISTORY_LEN_MAX as u64 + 2))));
    }
}

//! What the stored numbers of a znode mean: the kinds of owner, a first stat, the paths the server itself made, sequence suffixes.

use super::TreeConfig;
use super::store::NodeMeta;
use crate::base::SessionId;

/// The root; "" is another name for it.
pub(super) const ROOT: &str = "/";
/// Parent of the system nodes.
pub(super) const ZOOKEEPER: &str = "/zookeeper";
/// Below it lie the quotas.
pub(super) const QUOTA: &str = "/zookeeper/quota";
/// Text of the ensemble's configuration.
pub(super) const CONFIG: &str = "/zookeeper/config";
/// Its version, whatever is written to it: what counts is its mzxid.
pub(super) const CONFIG_VERSION: i32 = -1;

/// Stored owner of a container.
pub(super) const CONTAINER_OWNER: i64 = i64::MIN;
/// Top byte of an extended owner.
const EXTENDED_MASK: u64 = 0xff00_0000_0000_0000;
/// The two bytes that tell which extended feature; 0 is TTL.
const FEATURE_MASK: u64 = 0x00ff_ff00_0000_0000;
/// Milliseconds of a TTL owner; also the longest TTL.
const TTL_MASK: u64 = 0x0000_00ff_ffff_ffff;

/// What a stored `ephemeralOwner` says about its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    /// Persistent.
    Nobody,
    /// Ephemeral, of this session.
    Session(SessionId),
    /// Removed when its last child is gone.
    Container,
    /// Removed when childless and unchanged for so many milliseconds.
    Ttl(i64),
}

impl Owner {
    /// Reads a stored owner. TTL owners mean something only with extended types; without, they look like sessions, as in ZooKeeper.
    /// So does an extended owner of an unknown feature, which ZooKeeper cannot even represent.
    pub(super) fn of(stored: i64, config: &TreeConfig) -> Owner {
        let bits = stored as u64;
        if stored == 0 {
            return Owner::Nobody;
        }
        if stored == CONTAINER_OWNER {
            return Owner::Container;
        }
        let extended = bits & EXTENDED_MASK == EXTENDED_MASK && bits & FEATURE_MASK == 0;
        if config.extended_types && (extended || (config.emulate_353_ttl && stored < 0)) {
            return Owner::Ttl((bits & TTL_MASK) as i64);
        }
        Owner::Session(SessionId(stored))
    }
    /// What clients see as ephemeralOwner.
    pub(super) fn wire(self) -> i64 {
        if let Owner::Session(id) = self { id.0 } else { 0 }
    }
}

/// The stored owner of a TTL node; `None` when the time is not a legal one.
pub(super) fn ttl_owner(ttl_ms: i64) -> Option<i64> {
    (ttl_ms > 0 && ttl_ms <= TTL_MASK as i64).then_some((EXTENDED_MASK | ttl_ms as u64) as i64)
}

/// The stat of a node at birth.
pub(super) fn newborn(zxid: i64, time: i64, owner: i64, config: &TreeConfig) -> NodeMeta {
    NodeMeta {
        czxid: zxid,
        mzxid: zxid,
        pzxid: zxid,
        ctime: time,
        mtime: time,
        owner,
        wire_owner: Owner::of(owner, config).wire(),
        ..NodeMeta::default()
    }
}

/// True for the nodes nobody may delete.
pub(super) fn is_special(path: &str) -> bool {
    matches!(path, ROOT | ZOOKEEPER | QUOTA | CONFIG)
}

/// The parent by plain text, as ZooKeeper cuts it: up to the last "/". `None` without any; "/" for top-level paths and for the root itself.
pub(super) fn parent_text(path: &str) -> Option<&str> {
    match path.rfind('/') {
        None => None,
        Some(0) => Some(ROOT),
        Some(i) => Some(&path[..i]),
    }
}

/// The number a sequential name ends with: ten digits at least, a minus sign counted.
pub(super) fn write_suffix(cversion: i32, out: &mut String) {
    use std::fmt::Write as _;
    // Writing to a String cannot fail.
    let _ = write!(out, "{cversion:010}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(extended_types: bool, emulate_353_ttl: bool) -> TreeConfig {
        TreeConfig { extended_types, emulate_353_ttl, ..TreeConfig::default() }
    }

    #[test]
    fn owners_are_read_as_the_switches_say() {
        let ttl = ttl_owner(5000).expect("legal");
        let odd_feature = (EXTENDED_MASK | 0x0000_0100_0000_0001) as i64;
        let old_ttl = i64::MIN + 77;
        for (stored, off, on, on_353) in [
            (0, Owner::Nobody, Owner::Nobody, Owner::Nobody),
            (i64::MIN, Owner::Container, Owner::Container, Owner::Container),
            (7, Owner::Session(SessionId(7)), Owner::Session(SessionId(7)), Owner::Session(SessionId(7))),
            (ttl, Owner::Session(SessionId(ttl)), Owner::Ttl(5000), Owner::Ttl(5000)),
            (odd_feature, Owner::Session(SessionId(odd_feature)), Owner::Session(SessionId(odd_feature)), Owner::Ttl(1)),
            (old_ttl, Owner::Session(SessionId(old_ttl)), Owner::Session(SessionId(old_ttl)), Owner::Ttl(77)),
        ] {
            assert_eq!(Owner::of(stored, &config(false, false)), off, "{stored:x} off");
            assert_eq!(Owner::of(stored, &config(true, false)), on, "{stored:x} on");
            assert_eq!(Owner::of(stored, &config(true, true)), on_353, "{stored:x} with 3.5.3");
        }
        assert_eq!(Owner::of(stored_353_needs_extended(), &config(false, true)), Owner::Session(SessionId(-5)));
    }

    fn stored_353_needs_extended() -> i64 {
        -5
    }

    #[test]
    fn only_legal_times_make_a_ttl_owner() {
        assert_eq!(ttl_owner(0), None);
        assert_eq!(ttl_owner(-1), None);
        assert_eq!(ttl_owner(0x100_0000_0000), None);
        assert_eq!(ttl_owner(0xff_ffff_ffff), Some(0xff00_00ff_ffff_ffff_u64 as i64));
    }

    #[test]
    fn suffixes_have_ten_characters_until_they_overflow() {
        for (n, want) in [(0, "0000000000"), (123, "0000000123"), (i32::MAX, "2147483647"), (-5, "-000000005"), (i32::MIN, "-2147483648")] {
            let mut name = String::new();
            write_suffix(n, &mut name);
            assert_eq!(name, want);
        }
    }
}

//! Watch notifications.

use crate::base::{Writer, Xid, Zxid};

/// What happened to a node; the four kinds a server sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(i32)]
#[allow(missing_docs, clippy::enum_variant_names)] // the names of the protocol
pub enum EventType {
    NodeCreated = 1,
    NodeDeleted = 2,
    NodeDataChanged = 3,
    NodeChildrenChanged = 4,
}

impl EventType {
    /// The kind with this number, if a server sends it.
    #[must_use]
    pub const fn from_i32(n: i32) -> Option<Self> {
        Some(match n {
            1 => EventType::NodeCreated,
            2 => EventType::NodeDeleted,
            3 => EventType::NodeDataChanged,
            4 => EventType::NodeChildrenChanged,
            _ => return None,
        })
    }
}

/// Keeper state SyncConnected, the only one a server sends.
const STATE_SYNC_CONNECTED: i32 = 3;

/// Appends a whole notification frame, length included. `zxid` is the transaction that fired it, -1 for replayed setWatches.
pub fn write_notification(out: &mut Vec<u8>, zxid: i64, kind: EventType, path: &str) {
    out.put_len(16 + 12 + path.len());
    out.put_i32(Xid::NOTIFICATION.0);
    out.put_i64(zxid);
    out.put_i32(0);
    out.put_i32(kind as i32);
    out.put_i32(STATE_SYNC_CONNECTED);
    out.put_string(path);
}

/// Header zxid of events synthesised while replaying setWatches.
pub const ZXID_REPLAYED: i64 = -1;

/// The header zxid of an event fired by a transaction.
#[must_use]
pub const fn fired_by(zxid: Zxid) -> i64 {
    zxid.as_i64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_notification() {
        let mut out = Vec::new();
        write_notification(&mut out, 0x12, EventType::NodeCreated, "/h");
        let want = b"\0\0\0\x1e\xff\xff\xff\xff\0\0\0\0\0\0\0\x12\0\0\0\0\0\0\0\x01\0\0\0\x03\0\0\0\x02/h";
        assert_eq!(out, want);
    }
}

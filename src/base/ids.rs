//! Newtypes for every identifier, so that two of them cannot be exchanged by mistake.

use std::fmt;

/// A client session. 0 means "none yet" in a connect request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(pub i64);

impl SessionId {
    /// No session.
    pub const NONE: SessionId = SessionId(0);
}
impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

/// A client-chosen request number, echoed in the reply.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Xid(pub i32);

impl Xid {
    /// Watch notifications (server to client).
    pub const NOTIFICATION: Xid = Xid(-1);
    /// Pings, both ways.
    pub const PING: Xid = Xid(-2);
    /// Auth packets, as clients send them.
    pub const AUTH: Xid = Xid(-4);
    /// setWatches and setWatches2, as clients send them.
    pub const SET_WATCHES: Xid = Xid(-8);
}

/// One core's part of the server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ShardId(pub u16);

/// A connection within its shard, never reused while the process lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ConnId(pub u64);

/// A connection of this server: the shard that owns it and its number there. It is the connection *generation* of
/// design rule A16: a number is never given twice, so a newer connection of the same session has another key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ConnKey {
    /// The owning shard.
    pub shard: ShardId,
    /// The connection in that shard.
    pub conn: ConnId,
}

/// Another server of the ensemble (`server.N`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PeerId(pub i64);

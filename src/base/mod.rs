//! Vocabulary shared by every layer, and the wire primitives that `proto`, `record` and `tree` have in common.
//!
//! Imports nothing of ours. Knows no protocol state, no clock, no socket and no file.

pub mod acl;
pub mod address;
pub mod checksum;
pub mod ids;
pub mod jute;
pub mod limits;
pub mod path;
pub mod prng;
pub mod secret;
pub mod stat;
pub mod time;
pub mod zxid;

pub use acl::{AclList, AclVec, Auth, AuthId, Perms};
pub use ids::{ConnId, ConnKey, PeerId, SessionId, ShardId, Xid};
pub use jute::{DecodeError, Reader, Writer};
pub use stat::{Stat, StatWire};
pub use time::{Instant, WallTime};
pub use zxid::Zxid;

//! Log and snapshots as pure state machines over bytes and actions, in ZooKeeper's own file formats.
//!
//! Knows bytes, zxids and file names. Never opens a file, never looks inside a transaction's body, knows no tree and no clock.

pub mod format;
pub mod group_commit;
pub mod log;
pub mod log_feed;
pub mod mark;
pub mod recover;
pub mod retention;
pub mod segment;
pub mod snapshot;
pub mod snapshot_body;
mod snapshot_read;
pub mod snapshot_stream;
mod xerial;

//! What crosses cores: messages, the bounded inbox of the replica, the published stream, and the doorbells that wake shards.
//!
//! Lock-free, no runtime: everything here works with plain `std` wakers. Each file takes its primitives from `sync`, so that the
//! loom tests (`tests/loom_handoff.rs`) can include the same files over modelled ones.
//!
//! Invariants: an item pushed and kicked is seen without another push (no lost wake-up); a published item is seen by every
//! subscriber exactly once, in order; nothing published waits for a subscriber (rule A7).
#![allow(unsafe_code)]

pub mod bell;
pub mod message;
pub mod queue;
pub mod stream;
mod sync;

pub use bell::{Bell, Interest, notify};
pub use message::{Batch, Control, Entry, Event, Passed, Reply, ShardSet, ToReplica, path_hash};
pub use queue::Inbox;
pub use stream::{Published, Publisher, Subscriber};

#[cfg(test)]
mod tests;

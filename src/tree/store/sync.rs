//! What the store is built on that a model checker must see: atomics, and where shared memory is looked at and freed.
//!
//! `tests/loom_store.rs` includes the files of `cells` with loom's atomics in this module's place, so that the very code that runs in
//! production is what loom explores.

pub(super) use std::sync::Arc;
pub(super) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence};

/// Whether this is a model: tables start small then, and freed memory is marked rather than given back.
pub(super) const MODEL: bool = false;

/// Tells a model when a piece of shared memory is looked at and when it is freed. Nothing at all otherwise.
pub(super) struct Canary;

impl Canary {
    pub(super) const fn new() -> Self {
        Canary
    }
    /// The memory is being read.
    pub(super) const fn look(&self) {}
    /// The memory is about to be freed.
    pub(super) const fn free(&self) {}
}

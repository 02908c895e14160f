//! The atomics the store is built on: the standard library's, or loom's when built with `--cfg loom`, so that the very code that runs in
//! production is what the loom tests explore.

#[cfg(loom)]
pub(super) use loom::sync::Arc;
#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(super) use std::sync::Arc;
#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence};

/// Tells loom when a piece of shared memory is looked at and when it is freed: a look that is not ordered before the free fails the
/// model. Nothing at all in an ordinary build.
#[derive(Default)]
pub(super) struct Canary {
    #[cfg(loom)]
    alive: loom::cell::UnsafeCell<()>,
}

impl Canary {
    /// The memory is being read.
    #[inline(always)]
    pub(super) fn look(&self) {
        #[cfg(loom)]
        self.alive.with(|_| ());
    }
    /// The memory is about to be freed.
    #[inline(always)]
    pub(super) fn free(&self) {
        #[cfg(loom)]
        self.alive.with_mut(|_| ());
    }
}

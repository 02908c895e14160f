//! The atomics the store is built on: the standard library's, or loom's when built with `--cfg loom`, so that the very code that runs in
//! production is what the loom tests explore.
#![allow(unsafe_code)]

#[cfg(loom)]
pub(super) use loom::sync::Arc;
#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(super) use std::sync::Arc;
#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence};

/// Tells loom when a piece of shared memory is looked at and when it is freed: a look after the free, or one that is not ordered before
/// it, fails the model. Nothing at all in an ordinary build. (Under loom the memory itself is leaked, so that a late look finds this.)
pub(super) struct Canary {
    #[cfg(loom)]
    alive: loom::cell::UnsafeCell<bool>,
}

impl Canary {
    pub(super) fn new() -> Self {
        Canary {
            #[cfg(loom)]
            alive: loom::cell::UnsafeCell::new(true),
        }
    }
    /// The memory is being read.
    #[inline(always)]
    pub(super) fn look(&self) {
        #[cfg(loom)]
        // SAFETY: loom checks that no write is concurrent.
        self.alive.with(|alive| assert!(unsafe { *alive }, "used after it was freed"));
    }
    /// The memory is about to be freed.
    #[inline(always)]
    pub(super) fn free(&self) {
        #[cfg(loom)]
        // SAFETY: loom checks that no other access is concurrent.
        self.alive.with_mut(|alive| unsafe { assert!(std::mem::replace(&mut *alive, false), "freed twice") });
    }
}

//! The primitives the other files here are built on; the loom tests replace this file by modelled ones.

pub use atomic_waker::AtomicWaker;
pub use crossbeam::queue::ArrayQueue;
pub use std::sync::Arc;
pub use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence};

/// The value, when this was the last reference; exactly one of several concurrent callers gets it.
pub fn into_inner<T>(arc: Arc<T>) -> Option<T> {
    Arc::into_inner(arc)
}

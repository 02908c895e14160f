//! A value that one thread changes and others look at or wait for.

use crate::client::lock;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Shown<T>(Arc<(Mutex<T>, Condvar)>);

impl<T> Clone for Shown<T> {
    fn clone(&self) -> Self {
        Shown(self.0.clone())
    }
}

impl<T: Clone> Shown<T> {
    pub(super) fn new(value: T) -> Self {
        Shown(Arc::new((Mutex::new(value), Condvar::new())))
    }

    pub(super) fn now(&self) -> T {
        lock(&self.0.0).clone()
    }

    pub(super) fn show(&self, value: T) {
        *lock(&self.0.0) = value;
        self.0.1.notify_all();
    }

    /// Waits until it is as wanted; `None` when it is not within that time.
    pub(super) fn wait_for(&self, patience: Duration, is_wanted: impl Fn(&T) -> bool) -> Option<T> {
        let deadline = Instant::now().checked_add(patience);
        let mut value = lock(&self.0.0);
        while !is_wanted(&value) {
            value = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return None,
                Some(left) => self.0.1.wait_timeout(value, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.0.1.wait(value).unwrap_or_else(PoisonError::into_inner),
            };
        }
        Some(value.clone())
    }
}

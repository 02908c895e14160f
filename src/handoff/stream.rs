//! The published stream: one writer, many readers, each at its own position.
//!
//! A linked chain of immutable nodes. The writer holds the newest node, every subscriber the last one it has passed; a node
//! owns its successor. So a node lives exactly as long as somebody is at it or before it, and publishing waits for nobody (A7).
//! A chain of any length is freed without recursion.

use super::sync::{Arc, AtomicPtr, Ordering, into_inner};
use std::ops::Deref;
use std::ptr;

/// The writing end.
pub struct Publisher<T> {
    tail: Arc<Node<T>>,
}

/// One reader's position: the last node it has passed.
pub struct Subscriber<T> {
    at: Arc<Node<T>>,
}

/// A published item; keeps it alive.
pub struct Published<T> {
    node: Arc<Node<T>>,
}

struct Node<T> {
    /// Position in the stream; the root, which has no item, is 0.
    position: u64,
    item: Option<T>,
    /// Null, or the successor as `Arc::into_raw`. Written once, by the publisher; this node owns the reference.
    next: AtomicPtr<Node<T>>,
}

// SAFETY: a node hands out `&T` to several threads and may drop `T` on any of them; `next` is atomic and written once.
unsafe impl<T: Send + Sync> Send for Node<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Node<T> {}

impl<T> Publisher<T> {
    /// An empty stream.
    #[must_use]
    pub fn new() -> Self {
        Publisher { tail: Arc::new(Node::new(0, None)) }
    }

    /// A reader that sees everything published from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscriber<T> {
        Subscriber { at: self.tail.clone() }
    }

    /// Appends an item and returns it as the readers see it.
    pub fn publish(&mut self, item: T) -> Published<T> {
        let node = Arc::new(Node::new(self.tail.position + 1, Some(item)));
        self.tail.next.store(Arc::into_raw(node.clone()).cast_mut(), Ordering::Release);
        self.tail = node.clone();
        Published { node }
    }

    /// Items published so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.tail.position
    }
}

impl<T> Default for Publisher<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Subscriber<T> {
    /// A second reader at the same position.
    fn clone(&self) -> Self {
        Subscriber { at: self.at.clone() }
    }
}

impl<T> Subscriber<T> {
    /// The next item, if there is one; the position does not move.
    #[must_use]
    pub fn peek(&self) -> Option<Published<T>> {
        self.at.next().map(|node| Published { node })
    }
    /// Moves past the item `peek` returned.
    pub fn advance(&mut self) {
        if let Some(next) = self.at.next() {
            self.at = next;
        }
    }
    /// Items passed, as counted by the publisher.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at.position
    }
}

impl<T> Published<T> {
    /// Its place in the stream, from 1.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.node.position
    }
}

impl<T> Deref for Published<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // Only the root has no item, and nothing hands out the root.
        self.node.item.as_ref().expect("a published node has an item")
    }
}

impl<T> Node<T> {
    fn new(position: u64, item: Option<T>) -> Self {
        Node { position, item, next: AtomicPtr::new(ptr::null_mut()) }
    }

    fn next(&self) -> Option<Arc<Node<T>>> {
        let next = self.next.load(Ordering::Acquire);
        if next.is_null() {
            return None;
        }
        // SAFETY: `next` came from `Arc::into_raw` and `self` owns that reference until it is dropped, which `&self` prevents;
        // so the count is at least 1 here, and the one added is the one returned.
        unsafe {
            Arc::increment_strong_count(next);
            Some(Arc::from_raw(next))
        }
    }

    fn take_next(&mut self) -> Option<Arc<Node<T>>> {
        let next = self.next.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: the reference `self` owned; it is given up here, once, since `next` is null from now on.
        (!next.is_null()).then(|| unsafe { Arc::from_raw(next) })
    }
}

impl<T> Drop for Node<T> {
    fn drop(&mut self) {
        let mut next = self.take_next();
        while let Some(arc) = next {
            // Whoever holds the last reference goes on; a plain drop here would recurse once per node.
            next = into_inner(arc).and_then(|mut node| node.take_next());
        }
    }
}

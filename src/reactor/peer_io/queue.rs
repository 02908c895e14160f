//! A queue between tasks of one executor.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// Items in order, the task that waits for them, and the tasks that wait until they are fewer.
pub struct LocalQueue<T> {
    items: RefCell<VecDeque<T>>,
    taker: RefCell<Option<Waker>>,
    givers: RefCell<Vec<Waker>>,
}

impl<T> Default for LocalQueue<T> {
    fn default() -> Self {
        LocalQueue { items: RefCell::default(), taker: RefCell::default(), givers: RefCell::default() }
    }
}

impl<T> LocalQueue<T> {
    /// Appends an item and wakes whoever waits for one.
    pub fn push(&self, item: T) {
        self.items.borrow_mut().push_back(item);
        if let Some(waker) = self.taker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Changes the newest item, if there is one and `change` says that it did.
    pub fn change_newest(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        self.items.borrow_mut().back_mut().is_some_and(change)
    }

    /// Takes the oldest item.
    pub fn pop(&self) -> Option<T> {
        let item = self.items.borrow_mut().pop_front();
        if self.is_empty() {
            self.givers.take().into_iter().for_each(Waker::wake);
        }
        item
    }

    /// True when there is nothing.
    pub fn is_empty(&self) -> bool {
        self.items.borrow().is_empty()
    }

    /// True when there is something; otherwise the task is woken when there is.
    pub fn poll_ready(&self, cx: &Context<'_>) -> bool {
        let ready = !self.is_empty();
        if !ready {
            *self.taker.borrow_mut() = Some(cx.waker().clone());
        }
        ready
    }

    /// Waits for the oldest item; for one task.
    pub async fn next(&self) -> T {
        poll_fn(|cx| if self.poll_ready(cx) { self.pop().map_or(Poll::Pending, Poll::Ready) } else { Poll::Pending }).await
    }

    /// Waits until everything has been taken; for any number of tasks.
    pub async fn emptied(&self) {
        poll_fn(|cx| {
            if self.is_empty() {
                return Poll::Ready(());
            }
            self.givers.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    #[test]
    fn who_gives_waits_until_all_is_taken_and_who_takes_until_there_is_something() {
        let queue = LocalQueue::default();
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(pin!(queue.next()).poll(&mut cx), Poll::Pending);
        queue.push(1);
        queue.push(2);
        let mut giver = pin!(queue.emptied());
        assert_eq!(giver.as_mut().poll(&mut cx), Poll::Pending);
        assert_eq!(pin!(queue.next()).poll(&mut cx), Poll::Ready(1));
        assert_eq!(giver.as_mut().poll(&mut cx), Poll::Pending, "one is left");
        assert_eq!(queue.pop(), Some(2));
        assert_eq!(giver.poll(&mut cx), Poll::Ready(()));
    }
}

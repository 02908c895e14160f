//! What watches and the session itself tell: queues that are read by waiting, or as futures for any runtime.

use super::SessionState;
use super::pending::{block_on, lock};
use super::watches::Sink;
use crate::proto::EventType;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Something has happened to a node.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct WatchedEvent {
    /// What.
    pub kind: EventType,
    /// To which node, as this client names it.
    pub path: String,
    /// The transaction that did it. `None`: it happened while the client was not connected, or the server is older than 3.9.
    pub zxid: Option<i64>,
}

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<T>,
    ended: bool,
    waiter: Option<Waker>,
}

/// The side that fills a queue. Unread news are kept: their number is bounded by what the server sends.
#[derive(Debug)]
pub(super) struct Feed<T>(Weak<Mutex<Queue<T>>>);

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        Feed(self.0.clone())
    }
}

impl<T> Feed<T> {
    pub(super) fn put(&self, item: T) {
        self.change(|queue| queue.items.push_back(item));
    }

    pub(super) fn end(&self) {
        self.change(|queue| queue.ended = true);
    }

    fn change(&self, f: impl FnOnce(&mut Queue<T>)) {
        let Some(queue) = self.0.upgrade() else { return };
        let waiter = {
            let mut queue = lock(&queue);
            f(&mut queue);
            queue.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

impl<T> Sink for Feed<T> {
    fn is_wanted(&self) -> bool {
        self.0.strong_count() > 0
    }
}

#[derive(Debug)]
pub(super) struct News<T>(Arc<Mutex<Queue<T>>>);

impl<T> News<T> {
    pub(super) fn new() -> (Feed<T>, Self) {
        let queue = Arc::new(Mutex::new(Queue { items: VecDeque::new(), ended: false, waiter: None }));
        (Feed(Arc::downgrade(&queue)), News(queue))
    }

    fn next(&self) -> Next<'_, T> {
        Next(self)
    }

    fn wait(&self) -> Option<T> {
        block_on(self.next(), None).flatten()
    }

    fn wait_for(&self, patience: Duration) -> Result<Option<T>, StillQuiet> {
        block_on(self.next(), Some(Instant::now() + patience)).ok_or(StillQuiet)
    }
}

/// The next item, or `None` when there will be none.
struct Next<'a, T>(&'a News<T>);

impl<T> Future for Next<'_, T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut queue = lock(&self.0.0);
        match queue.items.pop_front() {
            Some(item) => Poll::Ready(Some(item)),
            None if queue.ended => Poll::Ready(None),
            None => {
                queue.waiter = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// What a watch tells. A watch that was set with a read fires once; one of `add_watch` goes on until it is removed. Dropping this ends the interest.
#[derive(Debug)]
pub struct Watch {
    pub(super) feed: Feed<WatchedEvent>,
    pub(super) news: News<WatchedEvent>,
}

impl Watch {
    /// The next event, as a future; `None` when the watch is over: fired once, removed, or its session has ended.
    pub fn event(&mut self) -> impl Future<Output = Option<WatchedEvent>> + '_ {
        self.news.next()
    }

    /// Waits for it.
    pub fn wait(&mut self) -> Option<WatchedEvent> {
        self.news.wait()
    }

    /// Waits so long. `Err`: nothing has happened yet.
    pub fn wait_for(&mut self, patience: Duration) -> Result<Option<WatchedEvent>, StillQuiet> {
        self.news.wait_for(patience)
    }
}

/// Something a client hears from its servers, whoever asked for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The session goes to this state.
    State(SessionState),
    /// A server tells of a change of a node: once, however many watches of this client it concerns.
    Event(WatchedEvent),
}

/// All that a client hears, from when this was asked for on, in its order.
#[derive(Debug)]
pub struct Notices {
    pub(super) news: News<Notice>,
}

impl Notices {
    /// The next one, as a future; `None` when the session is over and that has been told.
    pub fn next(&mut self) -> impl Future<Output = Option<Notice>> + '_ {
        self.news.next()
    }

    /// Waits for it.
    pub fn wait(&mut self) -> Option<Notice> {
        self.news.wait()
    }
}

/// Nothing has happened so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StillQuiet;

/// The states a session goes through, from when this was asked for on.
#[derive(Debug)]
pub struct States {
    pub(super) news: News<SessionState>,
}

impl States {
    /// The next one, as a future; `None` when the session is over and that has been told.
    pub fn change(&mut self) -> impl Future<Output = Option<SessionState>> + '_ {
        self.news.next()
    }

    /// Waits for it.
    pub fn wait(&mut self) -> Option<SessionState> {
        self.news.wait()
    }

    /// Waits so long. `Err`: nothing has changed yet.
    pub fn wait_for(&mut self, patience: Duration) -> Result<Option<SessionState>, StillQuiet> {
        self.news.wait_for(patience)
    }
}

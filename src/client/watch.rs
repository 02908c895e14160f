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

/// Unread news that a queue keeps. One more, and the oldest is dropped (states, notices), or the watch ends (events).
const UNREAD_MAX: usize = 10_000;

/// What a full queue does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WhenFull {
    /// Whoever missed one event does not know what there is: what is kept can still be read, then it is over.
    End,
    /// What is newer makes up for it.
    DropOldest,
}

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<T>,
    when_full: WhenFull,
    dropped: u64,
    ended: bool,
    waiter: Option<Waker>,
}

/// The side that fills a queue.
#[derive(Debug)]
pub(super) struct Feed<T>(Weak<Mutex<Queue<T>>>);

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        Feed(self.0.clone())
    }
}

impl<T> Feed<T> {
    pub(super) fn put(&self, item: T) {
        self.change(|queue| queue.put(item));
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

impl<T> Queue<T> {
    fn put(&mut self, item: T) {
        if self.ended {
            return;
        }
        if self.items.len() == UNREAD_MAX {
            self.dropped += 1;
            if self.when_full == WhenFull::End {
                self.ended = true;
                return;
            }
            self.items.pop_front();
        }
        self.items.push_back(item);
    }
}

impl<T> Sink for Feed<T> {
    fn is_wanted(&self) -> bool {
        self.0.upgrade().is_some_and(|queue| !lock(&queue).ended)
    }
}

#[derive(Debug)]
pub(super) struct News<T>(Arc<Mutex<Queue<T>>>);

impl<T> News<T> {
    /// A queue that ends when it is full.
    pub(super) fn exact() -> (Feed<T>, Self) {
        Self::new(WhenFull::End)
    }

    /// A queue that keeps the newest.
    pub(super) fn newest() -> (Feed<T>, Self) {
        Self::new(WhenFull::DropOldest)
    }

    fn new(when_full: WhenFull) -> (Feed<T>, Self) {
        let queue = Arc::new(Mutex::new(Queue { items: VecDeque::new(), when_full, dropped: 0, ended: false, waiter: None }));
        (Feed(Arc::downgrade(&queue)), News(queue))
    }

    fn dropped(&self) -> u64 {
        lock(&self.0).dropped
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
/// It keeps 10,000 events that nobody has read; with one more it is over, and [`Watch::is_overrun`].
///
/// ```
/// # use zoo::{client::ZooClient, server::ZooServer};
/// # let server = ZooServer::start()?;
/// # let client = ZooClient::connect(server.host())?;
/// use zoo::client::{AddWatchMode, CreateMode, EventType};
///
/// let mut all = client.add_watch("/app", AddWatchMode::PersistentRecursive)?;
/// client.create_all("/app/config", b"", CreateMode::Persistent)?;
/// let seen: Vec<_> = (0..2).filter_map(|_| all.wait()).map(|event| (event.kind, event.path)).collect();
/// assert_eq!(seen, [(EventType::NodeCreated, "/app".to_owned()), (EventType::NodeCreated, "/app/config".to_owned())]);
/// client.remove_watches("/app")?;
/// assert_eq!(all.wait(), None, "it is over");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

    /// Has it ended because too much was left unread? Then events are missing: watch again, and read again.
    #[must_use]
    pub fn is_overrun(&self) -> bool {
        self.news.dropped() > 0
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

/// All that a client hears, from when this was asked for on, in its order. Of more than 10,000 that nobody has read the newest are kept.
#[derive(Debug)]
pub struct Notices {
    pub(super) news: News<Notice>,
}

impl Notices {
    /// How many were dropped because nobody read them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.news.dropped()
    }

    /// The next one, as a future; `None` when the session is over and that has been told.
    pub fn notice(&mut self) -> impl Future<Output = Option<Notice>> + '_ {
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

/// The states a session goes through, from when this was asked for on. Of more than 10,000 that nobody has read the newest are kept.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_of_events_ends_when_nobody_reads_and_one_of_states_keeps_the_newest() {
        let (feed, mut exact) = (0..=UNREAD_MAX).fold(News::exact(), |(feed, news), n| {
            feed.put(n);
            (feed, news)
        });
        assert!(!feed.is_wanted());
        let read: Vec<usize> = std::iter::from_fn(|| exact.wait()).collect();
        assert_eq!((read.len(), read.last().copied(), exact.dropped()), (UNREAD_MAX, Some(UNREAD_MAX - 1), 1));

        let (feed, newest) = News::newest();
        (0..UNREAD_MAX + 3).for_each(|n| feed.put(n));
        assert!(feed.is_wanted());
        assert_eq!((newest.wait(), newest.dropped()), (Some(3), 3));
        exact = newest;
        feed.end();
        assert_eq!(std::iter::from_fn(|| exact.wait()).last(), Some(UNREAD_MAX + 2));
    }
}

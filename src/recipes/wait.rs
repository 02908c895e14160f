//! Waiting that ends: for an answer, a watch or a change of the session, until a moment, or until the owner wants no more.

use super::Error;
use crate::client::{self, Pending, ZooClient, block_on, lock};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// What a server asks for that throttles its clients: a little peace.
const THROTTLED_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct StopState {
    is_set: bool,
    waiters: Vec<(u64, Waker)>,
    next: u64,
}

/// Ends whatever those who look at it wait for, now and from now on.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<Mutex<StopState>>);

impl Stop {
    pub(super) fn set(&self) {
        let waiters = {
            let mut state = lock(&self.0);
            state.is_set = true;
            std::mem::take(&mut state.waiters)
        };
        waiters.into_iter().for_each(|(_, waiter)| waiter.wake());
    }

    pub(super) fn is_set(&self) -> bool {
        lock(&self.0).is_set
    }

    fn look(&self) -> Look<'_> {
        let mut state = lock(&self.0);
        state.next += 1;
        Look { stop: self, id: state.next }
    }
}

/// One waiting for it; it is woken once and forgotten afterwards.
struct Look<'a> {
    stop: &'a Stop,
    id: u64,
}

impl Look<'_> {
    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.stop.0);
        if state.is_set {
            return Poll::Ready(());
        }
        state.waiters.retain(|(id, _)| *id != self.id);
        state.waiters.push((self.id, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        lock(&self.stop.0).waiters.retain(|(id, _)| *id != self.id);
    }
}

/// How long something may take.
#[derive(Clone, Debug, Default)]
pub(super) struct Until {
    deadline: Option<Instant>,
    stops: Vec<Stop>,
}

impl Until {
    /// As long as it takes, or as long as the session lives.
    pub(super) fn done() -> Self {
        Until::default()
    }

    /// So long; a time beyond what a clock can show means for ever.
    pub(super) fn within(patience: Duration) -> Self {
        Until { deadline: Instant::now().checked_add(patience), stops: Vec::new() }
    }

    /// Until one of these says so.
    pub(super) fn stopped(stops: &[&Stop]) -> Self {
        Until { deadline: None, stops: stops.iter().map(|stop| (*stop).clone()).collect() }
    }

    /// This or so long, whichever is over first.
    pub(super) fn at_most(&self, patience: Duration) -> Self {
        let soon = Instant::now().checked_add(patience);
        Until { deadline: [self.deadline, soon].into_iter().flatten().min(), stops: self.stops.clone() }
    }

    /// Waits for what a future gives.
    pub(super) fn hear<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        let mut future = pin!(future);
        let looks: Vec<_> = self.stops.iter().map(Stop::look).collect();
        let either = poll_fn(|cx| {
            if let Poll::Ready(heard) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(heard));
            }
            let is_stopped = looks.iter().any(|look| look.poll(cx).is_ready());
            if is_stopped { Poll::Ready(Err(Error::Stopped)) } else { Poll::Pending }
        });
        block_on(either, self.deadline).unwrap_or(Err(Error::TimedOut))
    }

    /// Waits for whichever is first; the other one stays what it was.
    pub(super) fn hear_either<A: Future, B: Future>(&self, one: A, other: B) -> Result<Either<A::Output, B::Output>, Error> {
        let (mut one, mut other) = (pin!(one), pin!(other));
        self.hear(poll_fn(|cx| {
            if let Poll::Ready(heard) = one.as_mut().poll(cx) {
                return Poll::Ready(Either::One(heard));
            }
            other.as_mut().poll(cx).map(Either::Other)
        }))
    }

    /// One attempt.
    pub(super) fn answer<T>(&self, pending: Pending<T>) -> Result<T, Error> {
        self.hear(pending)?.map_err(Error::Client)
    }

    /// Attempts until the servers have answered: for what may be done twice. Each attempt waits for a connection itself.
    pub(super) fn insist<T>(&self, mut attempt: impl FnMut() -> Pending<T>) -> Result<T, Error> {
        self.repeat(|| self.answer(attempt()))
    }

    /// Likewise, for attempts of several requests.
    pub(super) fn repeat<T>(&self, mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        loop {
            match attempt() {
                Err(Error::Client(why)) if is_transient(&why) => self.pause_after(&why)?,
                ended => return ended,
            }
        }
    }

    pub(super) fn pause_after(&self, why: &client::Error) -> Result<(), Error> {
        if why.code().is_none() {
            return Ok(());
        }
        match self.at_most(THROTTLED_PAUSE).hear(std::future::pending::<()>()) {
            Err(Error::Stopped) => Err(Error::Stopped),
            _ if self.deadline.is_some_and(|at| at <= Instant::now()) => Err(Error::TimedOut),
            _ => Ok(()),
        }
    }
}

/// What came first.
pub(super) enum Either<A, B> {
    One(A),
    Other(B),
}

/// Nobody knows whether it happened, or it did not; the session may go on.
pub(super) fn is_transient(why: &client::Error) -> bool {
    is_ambiguous(why) || why.may_be_repeated()
}

/// It may have happened, and the session may go on. Not so where a server fails by itself: that need not end, and is the caller's to judge.
pub(super) fn is_ambiguous(why: &client::Error) -> bool {
    why.may_have_happened() && !why.ends_the_client() && !matches!(why, client::Error::Unexpected(_))
}

/// Has somebody else's thread do what has to be done in the end, as long as the session lives: taking back what would stand in others' way.
/// Should there be no thread to be had, the session's end does it.
pub(super) fn in_the_background(client: &ZooClient, work: impl FnOnce(&ZooClient) + Send + 'static) {
    let client = client.clone();
    drop(std::thread::Builder::new().name("zoo-take-back".into()).spawn(move || work(&client)));
}

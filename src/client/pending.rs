//! An answer that is on its way: a future for any runtime, or something to wait for.

use super::{Error, Reply};
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Locks, whatever another thread has panicked over: what is inside is whole between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Slot {
    result: Option<Result<Reply, Error>>,
    waiter: Option<Waker>,
}

/// The side that fills it. Dropped unfilled, it says that the client is closed.
#[derive(Debug)]
pub struct Completion(Option<Arc<Mutex<Slot>>>);

impl Completion {
    pub(super) fn complete(self, result: Result<Reply, Error>) {
        if let Some(waiter) = self.fill(result) {
            waiter.wake();
        }
    }

    /// Likewise, but whoever waits for it is still to be woken.
    pub(super) fn fill(mut self, result: Result<Reply, Error>) -> Option<Waker> {
        self.take_waiter(result)
    }

    fn take_waiter(&mut self, result: Result<Reply, Error>) -> Option<Waker> {
        let slot = self.0.take()?;
        let mut slot = lock(&slot);
        slot.result = Some(result);
        slot.waiter.take()
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(waiter) = self.take_waiter(Err(Error::Closed)) {
            waiter.wake();
        }
    }
}

/// The answer to one operation, some day. Dropping it does not take the operation back.
///
/// ```
/// # use zoo::{client::ZooClient, server::ZooServer};
/// # let server = ZooServer::start()?;
/// # let client = ZooClient::connect(server.host())?;
/// use zoo::client::CreateMode;
///
/// let p = client.pipelined();
/// // All leave at once and are carried out in this order.
/// let made: Vec<_> = (0..100).map(|i| p.create(&format!("/n{i}"), b"", CreateMode::Persistent)).collect();
/// let last = p.exists("/n99");
/// for node in made {
///     node.wait()?; // or node.await
/// }
/// assert!(last.wait()?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nobody learns how the operation ended"]
#[derive(Debug)]
pub struct Pending<T> {
    slot: Result<Arc<Mutex<Slot>>, Option<Error>>,
    take: fn(Reply) -> Result<T, Error>,
    result: PhantomData<fn() -> T>,
}

impl<T> Pending<T> {
    pub(super) fn pair(take: fn(Reply) -> Result<T, Error>) -> (Completion, Self) {
        let slot = Arc::new(Mutex::new(Slot::default()));
        (Completion(Some(slot.clone())), Pending { slot: Ok(slot), take, result: PhantomData })
    }

    /// One that has failed before anything was sent.
    pub(super) fn failed(why: Error) -> Self {
        Pending { slot: Err(Some(why)), take: |_| Err(Error::Closed), result: PhantomData }
    }

    /// Waits for the answer.
    pub fn wait(self) -> Result<T, Error> {
        block_on(self, None).unwrap_or(Err(Error::Closed))
    }

    /// Waits so long; `None` when there is no answer yet. The operation goes on.
    pub fn wait_for(&mut self, patience: Duration) -> Option<Result<T, Error>> {
        block_on(self, Some(Instant::now() + patience))
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match &mut self.slot {
            Err(why) => Err(why.take().unwrap_or(Error::Closed)),
            Ok(slot) => {
                let mut slot = lock(slot);
                match slot.result.take() {
                    Some(result) => result,
                    None => {
                        slot.waiter = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                }
            }
        };
        Poll::Ready(result.and_then(self.take))
    }
}

thread_local! {
    /// Wakes this thread; made once, as threads wait often.
    static WAKER: Waker = unpark_this_thread();
}

struct Unpark(Thread);

fn unpark_this_thread() -> Waker {
    Waker::from(Arc::new(Unpark(std::thread::current())))
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, until `deadline` at the longest.
pub(crate) fn block_on<F: Future + Unpin>(mut future: F, deadline: Option<Instant>) -> Option<F::Output> {
    // In destructors at a thread's end there may be none left.
    let waker = WAKER.try_with(Waker::clone).unwrap_or_else(|_| unpark_this_thread());
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = Pin::new(&mut future).poll(&mut cx) {
            return Some(output);
        }
        match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
            None => std::thread::park(),
            Some(Duration::ZERO) => return None,
            Some(left) => std::thread::park_timeout(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    fn nothing(_: Reply) -> Result<(), Error> {
        Ok(())
    }

    #[test]
    fn a_future_that_was_dropped_leaves_nothing_behind_when_its_answer_comes() {
        let (done, mut pending) = Pending::pair(nothing);
        let slot = done.0.as_ref().map(Arc::downgrade).expect("unfilled");
        assert_eq!(pending.wait_for(Duration::ZERO), None);
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        assert!(Pin::new(&mut pending).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(pending);
        assert!(slot.upgrade().is_some(), "the answer is still to come");
        assert!(done.fill(Ok(Reply::Nothing)).is_some_and(|waiter| waiter.will_wake(&waker)));
        assert!(slot.upgrade().is_none());
    }

    #[test]
    fn the_last_task_that_polls_is_woken_and_an_answer_that_never_comes_says_so() {
        let (done, mut pending) = Pending::pair(nothing);
        let wakers = [(), ()].map(|()| Waker::from(Arc::new(Unpark(std::thread::current()))));
        for waker in &wakers {
            assert!(Pin::new(&mut pending).poll(&mut Context::from_waker(waker)).is_pending());
        }
        assert!(done.fill(Ok(Reply::Nothing)).is_some_and(|waiter| waiter.will_wake(&wakers[1])));
        assert_eq!(pending.wait(), Ok(()));
        let (done, pending) = Pending::pair(nothing);
        let waits = std::thread::spawn(|| pending.wait());
        drop(done);
        assert_eq!(waits.join().expect("no panic"), Err(Error::Closed));
        let ready = poll_fn(|_| Poll::Ready(7));
        assert_eq!(block_on(ready, None), Some(7));
    }
}

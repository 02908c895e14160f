//! One executor on a thread of its own: its start, which succeeds or fails within a bound, and the nudges that end a sleep it should not be in.
//!
//! glommio 0.12 puts an executor to sleep with tasks ready to run when, after it has looked at its rings and before the first task has run, its
//! latency ring gets a completion that no task waits for. Then only another event wakes it, and before its first task there may never be one.
//! The pre-emption timer is such a completion, and on a loaded machine a common one: it is set beyond reach (`PREEMPT_TIMER`). By its source
//! there could be others, like the wake-up by a thread that has put its message down and loses its core before it rings. Nobody has seen one;
//! what it could do is bounded by the nudges. Each wakes the executor from outside, whatever it waits for, until it has run its tasks.

use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Registered with each of an executor's three rings, so pinned memory: the smallest amount glommio takes.
const IO_MEMORY: usize = 64 << 10;
/// Entries of each ring.
const RING_DEPTH: usize = 128;
/// Never: an executor that is pre-empted before its first task has run would sleep with work to do. Long tasks give way by themselves.
pub(super) const PREEMPT_TIMER: Duration = Duration::from_secs(24 * 3600);
/// How long an executor may take to begin; milliseconds are usual. Then the start has failed.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long an executor may sleep with work to do. Ten times a second would cost an idle one 0.1 % of a core.
const NUDGE_EVERY: Duration = Duration::from_secs(1);

/// Why an executor does not run.
#[derive(Debug)]
pub enum NotBegun {
    /// It could not be set up.
    Failed(String),
    /// It had not begun when patience was at an end, and never will.
    Late(Duration),
}

/// A running executor.
#[derive(Debug)]
pub struct Executor {
    thread: JoinHandle<()>,
}

/// What the thread tells whoever starts it.
enum Told {
    Begun,
    Failed(String),
}

impl Executor {
    /// Starts one and returns when it runs `main`. A panic in it ends the process.
    pub fn start<F>(name: String, place: Placement, nudges: &Nudges, main: impl FnOnce() -> F + Send + 'static) -> Result<Self, NotBegun>
    where
        F: Future<Output = ()> + 'static,
    {
        let builder = LocalExecutorBuilder::new(place).io_memory(IO_MEMORY).ring_depth(RING_DEPTH).preempt_timer(PREEMPT_TIMER);
        Self::start_within(START_PATIENCE, name, nudges, move || builder.make(), main)
    }

    fn start_within<F>(
        patience: Duration,
        name: String,
        nudges: &Nudges,
        make: impl FnOnce() -> Result<LocalExecutor, GlommioError<()>> + Send + 'static,
        main: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Self, NotBegun>
    where
        F: Future<Output = ()> + 'static,
    {
        let deadline = Instant::now() + patience;
        let (tell, told) = mpsc::channel();
        let nudged = nudges.sender.clone();
        // Set by whoever comes first: the executor that begins, or the starter that gives up.
        let decided = Arc::new(AtomicBool::new(false));
        let begins = decided.clone();
        let run = move || {
            let executor = match make() {
                Ok(executor) => executor,
                Err(e) => {
                    drop(main); // with the files and sockets in it, before anybody is told
                    let _ = tell.send(Told::Failed(e.to_string()));
                    return;
                }
            };
            let _guard = super::AbortOnPanic;
            // Polled at once, before the executor runs.
            executor.spawn(be_nudged(nudged)).detach();
            executor.run(async move {
                if !begins.swap(true, Ordering::SeqCst) {
                    let main = main();
                    let _ = tell.send(Told::Begun);
                    main.await;
                }
            });
        };
        let thread = std::thread::Builder::new().name(name).spawn(run).map_err(|e| NotBegun::Failed(e.to_string()))?;
        loop {
            match told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Told::Begun) => return Ok(Executor { thread }),
                Ok(Told::Failed(reason)) => return Err(NotBegun::Failed(reason)),
                Err(RecvTimeoutError::Disconnected) => return Err(NotBegun::Failed(ended_at_once(thread))),
                Err(RecvTimeoutError::Timeout) if !decided.swap(true, Ordering::SeqCst) => return Err(NotBegun::Late(patience)),
                // It is just beginning.
                Err(RecvTimeoutError::Timeout) => std::thread::yield_now(),
            }
        }
    }

    /// Waits until it has ended; `Err` when it did so by a panic.
    pub fn join(self) -> Result<(), String> {
        self.thread.join().map_err(|panic| panic_message(&*panic))
    }
}

/// The thread is gone without a word.
fn ended_at_once(thread: JoinHandle<()>) -> String {
    thread.join().map_or_else(|panic| panic_message(&*panic), |()| "it ended at once".to_owned())
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".to_owned())
}

/// A task that does nothing but being woken from outside.
async fn be_nudged(mut nudges: Option<Sender<Waker>>) {
    poll_fn(|cx| {
        if let Some(nudges) = nudges.take() {
            // Without a thread that nudges there are no nudges.
            let _ = nudges.send(cx.waker().clone());
        }
        Poll::Pending
    })
    .await
}

/// The thread that nudges a server's executors. Dropping it ends the thread.
#[derive(Debug)]
pub struct Nudges {
    sender: Option<Sender<Waker>>,
    thread: Option<JoinHandle<()>>,
}

impl Nudges {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        Self::start_every(NUDGE_EVERY)
    }

    fn start_every(interval: Duration) -> io::Result<Self> {
        let (sender, wakers) = mpsc::channel();
        let thread = std::thread::Builder::new().name("zoo-nudge".into()).spawn(move || nudge(&wakers, interval))?;
        Ok(Nudges { sender: Some(sender), thread: Some(thread) })
    }
}

impl Drop for Nudges {
    fn drop(&mut self) {
        self.sender = None;
        // Executors that run hold no end of it: each has sent its waker when it began.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn nudge(added: &Receiver<Waker>, interval: Duration) {
    let _guard = super::AbortOnPanic;
    let mut wakers = Vec::new();
    loop {
        match added.recv_timeout(interval) {
            Ok(waker) => wakers.push(waker),
            Err(RecvTimeoutError::Timeout) => wakers.iter().for_each(Waker::wake_by_ref),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Runs a test's body on an executor of its own and waits for its end.
#[cfg(test)]
pub(super) fn run<F: Future<Output = ()> + 'static>(body: impl FnOnce() -> F + Send + 'static) {
    let executor = LocalExecutorBuilder::default().io_memory(IO_MEMORY).preempt_timer(PREEMPT_TIMER);
    executor.spawn(body).expect("executor").join().expect("runs");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Wake;

    fn nudges() -> Nudges {
        Nudges::start_every(Duration::from_millis(5)).expect("a thread")
    }

    struct Heard(Sender<()>);

    impl Wake for Heard {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }

    #[test]
    fn who_is_nudged_is_nudged_again_and_again_until_nobody_wants_it_any_more() {
        let nudges = nudges();
        let added: Vec<_> = (0..2)
            .map(|_| {
                let (heard, hears) = mpsc::channel();
                nudges.sender.as_ref().expect("it runs").send(Arc::new(Heard(heard)).into()).expect("the thread runs");
                hears
            })
            .collect();
        for hears in &added {
            assert_eq!(hears.iter().take(3).count(), 3);
        }
        drop(nudges);
        // They end with the thread, which has the other ends.
        added.iter().for_each(|hears| hears.iter().for_each(drop));
    }

    #[test]
    fn a_nudge_reaches_an_executor_that_sleeps_and_waits_for_nothing_else() {
        let nudges = nudges();
        let sender = nudges.sender.clone();
        let main = move || {
            let mut polls = 0;
            poll_fn(move |cx| {
                polls += 1;
                if polls == 1 {
                    sender.as_ref().expect("it runs").send(cx.waker().clone()).expect("the thread runs");
                }
                if polls > 3 { Poll::Ready(()) } else { Poll::Pending }
            })
        };
        let executor = Executor::start("nudged".into(), Placement::Unbound, &nudges, main).expect("begins");
        executor.join().expect("is polled until it ends");
    }

    #[test]
    fn an_executor_that_has_not_begun_within_the_bound_is_an_error_and_never_begins() {
        let nudges = nudges();
        let (open, gate) = mpsc::channel::<()>();
        let (ran, runs) = mpsc::channel();
        let make = move || {
            let _ = gate.recv();
            LocalExecutorBuilder::default().io_memory(IO_MEMORY).preempt_timer(PREEMPT_TIMER).make()
        };
        let main = move || async move { ran.send(()).expect("the test waits") };
        let patience = Duration::from_millis(20);
        let error = Executor::start_within(patience, "late".into(), &nudges, make, main).expect_err("nobody has opened the gate");
        assert!(matches!(error, NotBegun::Late(after) if after == patience), "{error:?}");
        drop(open);
        assert!(runs.recv().is_err(), "what it was to run is dropped without having run");
    }

    #[test]
    fn an_executor_that_cannot_be_set_up_says_why_and_one_whose_thread_panics_too() {
        let nudges = nudges();
        let place = Placement::Fixed(1 << 20);
        let start = |name: &str, place| Executor::start(name.into(), place, &nudges, || async {});
        assert!(matches!(start("nowhere", place), Err(NotBegun::Failed(reason)) if !reason.is_empty()), "there is no such core");
        let make = || panic!("planned");
        let error = Executor::start_within(START_PATIENCE, "panics".into(), &nudges, make, || async {}).expect_err("never begins");
        assert!(matches!(error, NotBegun::Failed(reason) if reason == "planned"));
    }
}

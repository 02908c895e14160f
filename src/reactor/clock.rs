//! The real clocks, read once per turn, and the one timer of an executor.
//!
//! Every deadline of a core is one number (`poll_timeout`), so an executor sleeps on at most one timer, and on none when nothing is due.

use crate::base::{Instant, WallTime};
use glommio::timer::Timer;
use rustix::time::{ClockId, clock_gettime};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Monotonic time that goes on while the machine sleeps: a server that was suspended knows it (rule B3).
pub fn now() -> Instant {
    let t = clock_gettime(ClockId::Boottime);
    Instant(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
}

/// Wall-clock time, for ctime, mtime and TTLs only.
pub fn wall() -> WallTime {
    let t = clock_gettime(ClockId::Realtime);
    WallTime(t.tv_sec * 1000 + t.tv_nsec / 1_000_000)
}

/// One deadline of one executor, which may be moved at any time.
///
/// Deadlines mostly move into the future (a session was heard from); the sleeper is left alone then and looks again when its old time has
/// come. Only an earlier deadline disturbs it.
#[derive(Default)]
pub struct Alarm {
    deadline: Cell<Option<Instant>>,
    sleeping_until: Cell<Option<Instant>>,
    sleeper: RefCell<Option<Waker>>,
}

impl Alarm {
    /// Replaces the deadline.
    pub fn set(&self, deadline: Option<Instant>) {
        self.deadline.set(deadline);
        let Some(deadline) = deadline else { return };
        if self.sleeping_until.get().is_none_or(|until| deadline < until)
            && let Some(waker) = self.sleeper.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Returns when the deadline has passed, and clears it. One task per alarm awaits this.
    pub async fn rung(&self) {
        loop {
            let Some(deadline) = self.deadline.get() else {
                self.until_set().await;
                continue;
            };
            let now = now();
            if now >= deadline {
                self.deadline.set(None);
                return;
            }
            self.sleep(deadline, Duration::from_nanos(deadline.since_ns(now))).await;
        }
    }

    async fn until_set(&self) {
        poll_fn(|cx| {
            if self.deadline.get().is_some() {
                return Poll::Ready(());
            }
            *self.sleeper.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Sleeps that long, or until an earlier deadline is set.
    async fn sleep(&self, until: Instant, duration: Duration) {
        self.sleeping_until.set(Some(until));
        let mut timer = pin!(Timer::new(duration));
        poll_fn(|cx| {
            if self.deadline.get().is_some_and(|deadline| deadline < until) {
                return Poll::Ready(());
            }
            *self.sleeper.borrow_mut() = Some(cx.waker().clone());
            timer.as_mut().poll(cx).map(|_| ())
        })
        .await;
        self.sleeping_until.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glommio::LocalExecutorBuilder;
    use std::rc::Rc;

    fn run<F: Future<Output = ()> + 'static>(body: impl FnOnce() -> F + Send + 'static) {
        LocalExecutorBuilder::default().io_memory(64 << 10).spawn(body).expect("executor").join().expect("runs");
    }

    #[test]
    fn an_alarm_rings_once_at_its_deadline() {
        run(|| async {
            let alarm = Alarm::default();
            let start = now();
            alarm.set(Some(start.plus_ms(20)));
            alarm.rung().await;
            assert!(now() >= start.plus_ms(20));
            assert_eq!(alarm.deadline.get(), None);
        });
    }

    #[test]
    fn an_earlier_deadline_disturbs_the_sleeper_and_a_later_one_is_waited_for() {
        run(|| async {
            let alarm = Rc::new(Alarm::default());
            let start = now();
            alarm.set(Some(start.plus_ms(60_000)));
            let sleeper = glommio::spawn_local({
                let alarm = alarm.clone();
                async move { alarm.rung().await }
            })
            .detach();
            glommio::executor().yield_now().await;
            alarm.set(Some(start.plus_ms(10)));
            glommio::executor().yield_now().await;
            alarm.set(Some(start.plus_ms(40)));
            sleeper.await;
            let rang = now();
            assert!(rang >= start.plus_ms(40) && rang < start.plus_ms(30_000), "{}", rang.since_ms(start));
        });
    }
}

//! The real clocks, read once per turn, and the one timer of an executor.
//!
//! Every deadline of a core is one number (`poll_timeout`), so an executor sleeps on at most one timer, and on none when nothing is due.
//! That timer is a timerfd: a poll of it stays in the ring for as long as nothing is due, and the kernel hears of a deadline only when one
//! becomes earlier. A timer of the executor's own would be armed and cancelled in a ring every time the executor parks.

use crate::base::{Instant, WallTime};
use glommio::io::PollableFd;
use rustix::time::{ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{clock_gettime, timerfd_create, timerfd_settime};
use std::cell::Cell;
use std::fmt::Display;
use std::os::fd::OwnedFd;

/// Monotonic time that goes on while the machine sleeps: a server that was suspended knows it (rule B3).
pub fn now() -> Instant {
    let t = clock_gettime(ClockId::Boottime);
    Instant(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
}

/// Wall-clock time, for ctime, mtime, TTLs and the first session id of a run only.
pub fn wall() -> WallTime {
    let t = clock_gettime(ClockId::Realtime);
    WallTime(t.tv_sec * 1000 + t.tv_nsec / 1_000_000)
}

/// One deadline of one executor, which may be moved at any time.
///
/// Deadlines mostly move into the future (a session was heard from); the timer is left alone then, and when its old time has come, it is
/// set anew. Only an earlier deadline costs a system call at once.
pub struct Alarm {
    deadline: Cell<Option<Instant>>,
    /// When the timer fires; never later than the deadline.
    armed: Cell<Option<Instant>>,
    timer: PollableFd<OwnedFd>,
}

impl Alarm {
    /// An alarm without a deadline.
    pub fn of_this_executor() -> Self {
        // Of the same clock as `now`, so that what was due while the machine slept is due when it wakes.
        let timer =
            timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC).unwrap_or_else(|e| no_timer(&e));
        let timer = PollableFd::new(timer).unwrap_or_else(|e| no_timer(&e));
        Alarm { deadline: Cell::new(None), armed: Cell::new(None), timer }
    }

    /// Replaces the deadline.
    pub fn set(&self, deadline: Option<Instant>) {
        self.deadline.set(deadline);
        if let Some(deadline) = deadline
            && self.armed.get().is_none_or(|armed| deadline < armed)
        {
            self.arm(Some(deadline));
        }
    }

    /// Returns when the deadline has passed, and clears it. One task per alarm awaits this.
    pub async fn rung(&self) {
        loop {
            if let Err(e) = self.timer.readable().await.map_err(super::system_error) {
                no_timer(&e);
            }
            let due = self.deadline.get().is_some_and(|deadline| deadline <= now());
            if due {
                self.deadline.set(None);
            }
            self.arm(self.deadline.get());
            if due {
                return;
            }
        }
    }

    /// Sets the timer, or stops it; either way it is not readable any more.
    fn arm(&self, at: Option<Instant>) {
        // All zero would stop it.
        let ns = at.map_or(0, |at| at.0.max(1));
        let it_value = Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        if let Err(e) = timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval, it_value }) {
            no_timer(&e);
        }
        self.armed.set(at);
    }
}

/// Without its timer an executor would never expire a session.
fn no_timer(error: &dyn Display) -> ! {
    super::fatal(&format!("a timer does not work: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::executor::run;
    use std::rc::Rc;
    use std::time::Duration;

    #[test]
    fn an_alarm_rings_once_at_its_deadline() {
        run(|| async {
            let alarm = Alarm::of_this_executor();
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
            let alarm = Rc::new(Alarm::of_this_executor());
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

    #[test]
    fn a_deadline_that_is_taken_back_does_not_ring_and_the_next_one_does() {
        run(|| async {
            let alarm = Rc::new(Alarm::of_this_executor());
            let rings = Rc::new(Cell::new(0));
            let task = glommio::spawn_local({
                let (alarm, rings) = (alarm.clone(), rings.clone());
                async move {
                    loop {
                        alarm.rung().await;
                        rings.set(rings.get() + 1);
                        if rings.get() == 2 {
                            return;
                        }
                    }
                }
            })
            .detach();
            let start = now();
            alarm.set(Some(start.plus_ms(5)));
            alarm.set(None);
            glommio::timer::sleep(Duration::from_millis(20)).await;
            assert_eq!(rings.get(), 0, "taken back");
            alarm.set(Some(start));
            glommio::timer::sleep(Duration::from_millis(20)).await;
            assert_eq!((rings.get(), alarm.armed.get()), (1, None), "one that has passed rings at once, and once");
            alarm.set(Some(now().plus_ms(5)));
            task.await;
        });
    }
}

//! Giving way: how a task that may always have more to do lets the rest of its core go on.
//!
//! Yielding lets other tasks run, but glommio looks at its rings only when none is runnable, or when its preempt timer has fired. That timer is
//! of no use here: when it fires before the first task has run (the thread lost its core for so long), glommio 0.12 takes the queues for empty
//! and sleeps, with runnable tasks in them, until something else happens. So the timer is set beyond reach (`executor::PREEMPT_TIMER`), and a
//! task that goes on and on waits for the ring itself now and then.

use glommio::io::PollableFd;
use rustix::event::{EventfdFlags, eventfd};
use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;

/// Every so many times the ring is waited for.
const YIELDS_PER_LOOK: u32 = 4;

/// For one task.
pub struct Way {
    /// Always readable: a wait for it ends when the ring has been looked at.
    open: PollableFd<OwnedFd>,
    given: Cell<u32>,
}

impl Way {
    /// For a task of this executor.
    pub fn of_this_executor() -> Self {
        let open = eventfd(1, EventfdFlags::CLOEXEC).map_err(io::Error::from).and_then(|fd| PollableFd::new(fd).map_err(io::Error::other));
        Way { open: open.unwrap_or_else(|e| no_ring(&e)), given: Cell::new(0) }
    }

    /// Returns when other tasks have had their turn and, now and then, when the ring has been looked at.
    pub async fn give(&self) {
        let given = (self.given.get() + 1) % YIELDS_PER_LOOK;
        self.given.set(given);
        if given > 0 {
            glommio::executor().yield_now().await;
        } else {
            self.look().await;
        }
    }

    /// Returns when the ring has been looked at and those who were woken by that have had their turn too.
    pub async fn give_round(&self) {
        self.look().await;
        glommio::executor().yield_now().await;
    }

    async fn look(&self) {
        if let Err(e) = self.open.readable().await {
            no_ring(&io::Error::other(e));
        }
    }
}

fn no_ring(error: &io::Error) -> ! {
    super::fatal(&format!("the ring cannot be waited for: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::executor::run;
    use std::rc::Rc;
    use std::time::Duration;

    #[test]
    fn after_a_round_those_that_the_ring_had_something_for_have_had_their_turn() {
        run(|| async {
            let bell = eventfd(0, EventfdFlags::CLOEXEC).expect("a descriptor");
            let heard = Rc::new(Cell::new(false));
            let hears = glommio::spawn_local({
                let heard = heard.clone();
                let bell = PollableFd::new(bell.try_clone().expect("a descriptor")).expect("pollable");
                async move {
                    bell.readable().await.expect("polled");
                    heard.set(true);
                }
            })
            .detach();
            let way = Way::of_this_executor();
            way.give_round().await;
            assert!(!heard.get());
            rustix::io::write(&bell, &1u64.to_ne_bytes()).expect("rung");
            way.give_round().await;
            assert!(heard.get());
            hears.await;
        });
    }

    #[test]
    fn a_task_that_always_has_more_to_do_keeps_nothing_in_the_ring_waiting() {
        run(|| async {
            let done = Rc::new(Cell::new(false));
            let timer = glommio::spawn_local({
                let done = done.clone();
                async move {
                    glommio::timer::sleep(Duration::from_millis(5)).await;
                    done.set(true);
                }
            })
            .detach();
            let way = Way::of_this_executor();
            while !done.get() {
                way.give().await;
            }
            timer.await;
        });
    }
}

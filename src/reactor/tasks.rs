//! Tasks that end by themselves, or with the server: an executor that ends with a task asleep never frees what the task holds, its sockets
//! included.

use glommio::Task;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;

/// Some tasks of one executor. They run in the queue of whoever starts them.
#[derive(Default)]
pub struct Tasks {
    started: Cell<u64>,
    running: RefCell<BTreeMap<u64, Task<()>>>,
}

impl Tasks {
    /// Starts one.
    pub fn run(self: &Rc<Self>, work: impl Future<Output = ()> + 'static) {
        let number = self.started.get();
        self.started.set(number + 1);
        let (tasks, has_ended) = (self.clone(), Rc::new(Cell::new(false)));
        let ends = has_ended.clone();
        let task = super::spawn_into(
            async move {
                work.await;
                ends.set(true);
                tasks.forget(number);
            },
            glommio::executor().current_task_queue(),
        );
        // A new task is polled at once.
        if has_ended.get() {
            task.detach();
        } else {
            self.running.borrow_mut().insert(number, task);
        }
    }

    /// It is ending: not a task to be cancelled any more.
    fn forget(&self, number: u64) {
        let task = self.running.borrow_mut().remove(&number);
        if let Some(task) = task {
            task.detach();
        }
    }

    /// Ends all of them, and returns when what they held is free.
    pub async fn stop(&self) {
        loop {
            let Some((_, task)) = self.running.borrow_mut().pop_first() else { return };
            task.cancel().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::executor::run;
    use std::future::pending;

    #[test]
    fn tasks_end_by_themselves_or_when_they_are_stopped_and_free_what_they_hold() {
        run(|| async {
            let (tasks, held) = (Rc::new(Tasks::default()), Rc::new(()));
            let hold = || held.clone();
            let (at_once, soon, never) = (hold(), hold(), hold());
            tasks.run(async move { drop(at_once) });
            tasks.run(async move {
                glommio::executor().yield_now().await;
                drop(soon);
            });
            tasks.run(async move {
                pending::<()>().await;
                drop(never);
            });
            while Rc::strong_count(&held) > 2 {
                glommio::executor().yield_now().await;
            }
            assert_eq!(tasks.running.borrow().len(), 1, "those that have ended are forgotten");
            tasks.stop().await;
            assert_eq!((Rc::strong_count(&held), tasks.running.borrow().len()), (1, 0));
        });
    }
}

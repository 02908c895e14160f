//! Ending a server: by signal, or by whoever embeds it.

use crate::reactor::mesh::{Mesh, ToReplicaTask, ToShard};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Begins a clean stop: no new connections, what was accepted is flushed and answered, then everything is closed. May be called from any
/// thread, more than once.
#[derive(Clone)]
pub struct Stopper {
    mesh: Arc<Mesh>,
}

impl Stopper {
    pub(super) fn new(mesh: Arc<Mesh>) -> Self {
        Stopper { mesh }
    }

    /// Begins the stop and returns at once.
    pub fn stop(&self) {
        insist(ToShard::StopAccepting, |order| self.mesh.tell(0, order));
        if !insist(ToReplicaTask::Stop, |order| self.mesh.tell_replica(order)) {
            tracing::warn!("the server could not be told to stop: it has ended, or does nothing any more");
        }
    }

    /// Begins an end like that of a killed process: nothing more is answered, flushed or closed.
    pub(super) fn kill(&self) {
        for shard in 0..self.mesh.shards.len() {
            insist(ToShard::Kill, |order| self.mesh.tell(shard, order));
        }
        insist(ToReplicaTask::Kill, |order| self.mesh.tell_replica(order));
    }
}

/// Gives an order for which there may be no room; false: it could not be given. Inboxes are full for moments only, or for ever when the executors have
/// ended, and then there is nothing to end.
fn insist<T>(mut order: T, give: impl Fn(T) -> Result<(), T>) -> bool {
    for _ in 0..ATTEMPTS {
        match give(order) {
            Ok(()) => return true,
            Err(back) => order = back,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// Milliseconds an order waits for room.
const ATTEMPTS: u32 = 1_000;

/// How long a clean stop may take: with a disk that has stopped answering it would take for ever. Then the process ends as if it had been killed, which loses
/// nothing that was acknowledged (P2), and says so.
const STOP_MAX: Duration = Duration::from_secs(30);
/// The exit status then.
const NOT_CLEAN: i32 = 1;

/// A second signal this soon after the first is the same wish: some process managers signal a process and then its group.
const SAME_WISH: Duration = Duration::from_secs(1);

/// Stops the server at the first SIGINT or SIGTERM; at a later one the process ends at once. Signals are handled by a plain thread, never by
/// an executor.
pub fn stop_on_signals(stopper: Stopper) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("zoo-signals".into()).spawn(move || {
        let mut first: Option<Instant> = None;
        for signal in signals.forever() {
            match first {
                None => {
                    tracing::info!("{}: stopping", signal_name(signal));
                    first = Some(Instant::now());
                    end_after(STOP_MAX, || std::process::exit(NOT_CLEAN));
                    stopper.stop();
                }
                Some(at) if at.elapsed() < SAME_WISH => {}
                Some(_) => {
                    tracing::warn!("{} again: ending at once", signal_name(signal));
                    std::process::exit(128 + signal);
                }
            }
        }
    })?;
    Ok(())
}

/// Sees to the end, should it not have come by then.
fn end_after(limit: Duration, end: impl FnOnce() + Send + 'static) {
    let waiting = std::thread::Builder::new().name("zoo-last-stop".into()).spawn(move || {
        std::thread::sleep(limit);
        tracing::error!(
            "the stop has not come to its end within {} s: ending at once; what was acknowledged is on the disk",
            limit.as_secs()
        );
        end();
    });
    if let Err(e) = waiting {
        tracing::warn!("nobody will end this process if it does not stop by itself: {e}");
    }
}

fn signal_name(signal: i32) -> &'static str {
    if signal == SIGINT { "SIGINT" } else { "SIGTERM" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{RecvTimeoutError, channel};

    #[test]
    fn a_stop_that_does_not_come_to_its_end_is_ended() {
        let (ended, is_ended) = channel();
        let began = Instant::now();
        end_after(Duration::from_millis(50), move || ended.send(()).expect("awaited"));
        assert_eq!(is_ended.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout), "not before its time");
        is_ended.recv().expect("it comes");
        assert!(began.elapsed() >= Duration::from_millis(50));
    }

    #[test]
    fn an_order_that_finds_no_room_is_given_when_there_is_some_and_given_up_when_there_never_is() {
        let attempts = std::cell::Cell::new(0);
        let third = |order| {
            attempts.set(attempts.get() + 1);
            if attempts.get() < 3 { Err(order) } else { Ok(()) }
        };
        assert!(insist((), third));
        assert!(!insist((), Err));
    }
}

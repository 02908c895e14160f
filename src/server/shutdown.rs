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
        insist(ToReplicaTask::Stop, |order| self.mesh.tell_replica(order));
    }

    /// Begins an end like that of a killed process: nothing more is answered, flushed or closed.
    pub(super) fn kill(&self) {
        for shard in 0..self.mesh.shards.len() {
            insist(ToShard::Kill, |order| self.mesh.tell(shard, order));
        }
        insist(ToReplicaTask::Kill, |order| self.mesh.tell_replica(order));
    }
}

/// Gives an order for which there may be no room. Inboxes are full for moments only, or for ever when the executors have ended, and then there
/// is nothing to end.
fn insist<T>(mut order: T, give: impl Fn(T) -> Result<(), T>) {
    for _ in 0..ATTEMPTS {
        match give(order) {
            Ok(()) => return,
            Err(back) => order = back,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Milliseconds an order waits for room.
const ATTEMPTS: u32 = 1_000;

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
                    stopper.stop();
                    first = Some(Instant::now());
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

fn signal_name(signal: i32) -> &'static str {
    if signal == SIGINT { "SIGINT" } else { "SIGTERM" }
}

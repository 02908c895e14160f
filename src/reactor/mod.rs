//! The shell that gives the pure cores their sockets, disk, clock and cores. The only module that names glommio.
//!
//! One executor per shard; shard 0's also runs the replica, in a task queue of its own. What a core asks for is carried out here and what
//! happens is handed back as input; no decision about znodes, sessions or order is made in this module.
#![allow(unsafe_code)]

pub mod accept;
mod balancing;
pub mod client_io;
pub mod clock;
pub mod disk_io;
pub mod executor;
pub mod executors;
mod hold;
pub mod lag;
pub mod mesh;
pub mod peer_io;
mod priority;
pub mod readiness;
pub mod replica_loop;
mod stages;
mod tasks;
pub mod way;
pub mod words;

use crate::handoff::Inbox;
use glommio::{GlommioError, TaskQueueHandle};
use priority::lower_priority;
use std::future::Future;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

type Hook = Arc<dyn Fn(&str) + Send + Sync>;

/// Of the process, as its end is.
static ON_FATAL: RwLock<Option<Hook>> = RwLock::new(None);

/// What a program with servers in it wants to do before one of them aborts the process; replaces what was set before. `hook` gets the reason, on
/// whatever thread found it. It must not wait for anything of this library.
pub fn on_fatal(hook: impl Fn(&str) + Send + Sync + 'static) {
    *ON_FATAL.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
}

/// The end of a process that cannot keep its promises: says why and aborts, without unwinding or flushing anything.
pub fn fatal(message: &str) -> ! {
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("fatal: {message}");
    } else {
        eprintln!("zoo: fatal: {message}"); // whoever listens to nothing hears at least this
    }
    let hook = ON_FATAL.read().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(hook) = hook {
        hook(message);
    }
    std::process::abort()
}

/// What the system said, without what glommio knows of the operation, which means nothing to an operator.
fn system_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::EnhancedIoError { source, .. } => source,
        other => other.into(),
    }
}

/// Makes a panic of the thread that holds it the end of the process, also where panics unwind: what it was changing may be half changed,
/// and a server with a missing part is the worst outcome.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            fatal("a thread of the server panicked");
        }
    }
}

/// A task in a queue of this executor.
fn spawn_into(task: impl Future<Output = ()> + 'static, queue: TaskQueueHandle) -> glommio::Task<()> {
    match glommio::spawn_local_into(task, queue) {
        Ok(task) => task,
        Err(e) => fatal(&format!("a task queue is gone: {e}")),
    }
}

/// What blocking work gives, done on a thread of its own. For rare work: each call makes a thread.
async fn on_thread<R: Send + 'static>(name: &str, work: impl FnOnce() -> R + Send + 'static) -> io::Result<R> {
    let answer = Arc::new(Inbox::new(1));
    let to = answer.clone();
    std::thread::Builder::new().name(name.into()).spawn(move || {
        let _guard = AbortOnPanic;
        let _ = to.push(work());
        to.kick();
    })?;
    let mut result = Vec::with_capacity(1);
    while result.is_empty() {
        answer.ready().await;
        answer.drain(&mut result, 1);
    }
    Ok(result.remove(0))
}

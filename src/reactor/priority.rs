//! Whose turn comes first on a core that several threads want.

use std::io;
use std::time::Duration;

/// Background work must not take a core away from the reactors; the lowest priority that still makes progress.
pub(super) fn lower_priority() {
    const NICE: i32 = 10;
    if let Err(e) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::debug!("a background thread keeps its priority: {e}");
    }
}

/// For a thread that runs for microseconds and then sleeps: it gets its turn when it wakes, and not only when whoever has the core has used up a turn
/// of the usual length, which may be a tick of 4 ms. No share of the processor comes with it, and no privilege is needed: the scheduler (Linux 6.12
/// and later, sched(7)) is asked for short turns, and those who have shorter ones come sooner. An older kernel ignores it.
pub(super) fn short_turns() {
    if let Err(e) = ask_for_turns_of(Duration::from_micros(100)) {
        tracing::debug!("a thread keeps turns of the usual length: {e}");
    }
}

/// `struct sched_attr` of sched_setattr(2), in its first form. Times in nanoseconds.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

const SIZE: u32 = size_of::<SchedAttr>() as u32;

fn ask_for_turns_of(turn: Duration) -> io::Result<()> {
    let attr = SchedAttr { runtime: turn.as_nanos() as u64, ..current()? };
    // SAFETY: the kernel reads `size` bytes of `attr`, which is that large, and keeps nothing of it. Thread 0 is the caller.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Policy, nice value and length of turns of this thread, which stay as they are but for what is asked for.
fn current() -> io::Result<SchedAttr> {
    let mut attr = SchedAttr::default();
    // SAFETY: the kernel writes at most the `SIZE` bytes it is told of into `attr`, which is that large. Thread 0 is the caller.
    let answer = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, SIZE, 0) };
    if answer == 0 { Ok(SchedAttr { size: SIZE, ..attr }) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gets_shorter_turns_and_keeps_its_nice_value() {
        std::thread::spawn(|| {
            lower_priority();
            let before = current().expect("told");
            ask_for_turns_of(Duration::from_micros(100)).expect("granted");
            let after = current().expect("told");
            assert_eq!((after.policy, after.nice), (before.policy, 10));
            // Kernels before 6.12 have one length for all, and tell 0.
            assert!(after.runtime == 100_000 || after.runtime == before.runtime && before.runtime == 0, "{}", after.runtime);
        })
        .join()
        .expect("ran");
    }
}

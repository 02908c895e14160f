//! Which of an executor's client sockets are ready, asked for all of them at once.
//!
//! The ring polls one descriptor per executor, that of an epoll set. To poll every socket in the ring by itself costs an entry, a completion
//! and an interruption of the core for each request of each client. Invariants:
//! 1. The set is edge-triggered: a socket is reported when something about it has changed. Whoever stops before a socket is empty, or leaves
//!    one alone that was reported, calls `look_again` when it wants to go on.
//! 2. The ring looks at the set when it begins to wait, so what became ready after `take` had found nothing ends `wait` at once.
//! 3. A socket leaves the set when its descriptor is closed; what was taken before names a connection that is gone.

use crate::base::ConnId;
use glommio::io::PollableFd;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

/// Sockets reported at a time, so served before other tasks of the core get their turn (rule B2).
pub const READY_MAX: usize = 32;
/// Room to send is reported when a send has found none before.
const INTEREST: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);
/// Nothing comes from the client after what is in the socket now.
const ENDED: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// The sockets of one executor.
pub struct Readiness {
    epoll: PollableFd<OwnedFd>,
}

/// A socket that may have something to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    /// Whose it is.
    pub conn: ConnId,
    /// There is something to receive, if only the end.
    pub readable: bool,
    /// What there is to receive ends with the end, or an error, of which nothing is reported later.
    pub ended: bool,
    /// A send would take something.
    pub writable: bool,
}

impl Readiness {
    /// An empty set.
    pub fn of_this_executor() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Readiness { epoll: PollableFd::new(epoll).map_err(io::Error::other)? })
    }

    /// Adds a connection's socket. What it has already is reported.
    pub fn add(&self, socket: impl AsFd, conn: ConnId) -> io::Result<()> {
        Ok(epoll::add(self.epoll.get_ref(), socket, EventData::new_u64(conn.0), INTEREST)?)
    }

    /// Reports the socket as it is now, after all that are ready.
    pub fn look_again(&self, socket: impl AsFd, conn: ConnId) -> io::Result<()> {
        Ok(epoll::modify(self.epoll.get_ref(), socket, EventData::new_u64(conn.0), INTEREST)?)
    }

    /// Takes a socket out of the set that stays open. What was taken before may still name it.
    pub fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(self.epoll.get_ref(), socket)?)
    }

    /// Appends the sockets that are ready, longest first, at most `READY_MAX`.
    pub fn take(&self, ready: &mut Vec<Ready>) -> io::Result<()> {
        let mut events = [MaybeUninit::uninit(); READY_MAX];
        match epoll::wait(self.epoll.get_ref(), &mut events, Some(&AT_ONCE)) {
            Ok((events, _)) => ready.extend(events.iter().map(Ready::from_event)),
            Err(Errno::INTR) => {} // `wait` looks once more
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    /// Returns when `take` may find something.
    pub async fn wait(&self) -> io::Result<()> {
        self.epoll.readable().await.map_err(io::Error::other)
    }
}

impl Ready {
    fn from_event(event: &Event) -> Self {
        let (flags, data) = (event.flags, event.data);
        let ended = flags.intersects(ENDED);
        Ready {
            conn: ConnId(data.u64()),
            readable: ended || flags.contains(EventFlags::IN),
            ended,
            writable: ended || flags.contains(EventFlags::OUT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::executor;
    use rustix::io::{read, write};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn run<F: Future<Output = ()> + 'static>(body: impl FnOnce(Readiness) -> F + Send + 'static) {
        executor::run(|| async { body(Readiness::of_this_executor().expect("a set")).await });
    }

    /// The client's end and ours, which is in the set under this number.
    fn connected(readiness: &Readiness, conn: u64) -> (OwnedFd, OwnedFd) {
        let (theirs, ours) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).expect("a pair");
        readiness.add(&ours, ConnId(conn)).expect("added");
        (theirs, ours)
    }

    fn readable(readiness: &Readiness) -> Vec<u64> {
        let mut ready = Vec::new();
        readiness.take(&mut ready).expect("taken");
        ready.iter().filter(|r| r.readable).map(|r| r.conn.0).collect()
    }

    #[test]
    fn what_comes_while_nobody_waits_ends_the_next_wait_and_is_reported_once() {
        run(|readiness| async move {
            let (theirs, _ours) = connected(&readiness, 7);
            assert_eq!(readable(&readiness), [0; 0]);
            write(&theirs, b"x").expect("sent");
            readiness.wait().await.expect("waits");
            assert_eq!(readable(&readiness), [7]);
            assert_eq!(readable(&readiness), [0; 0], "though it was not read");
            write(&theirs, b"y").expect("sent");
            assert_eq!(readable(&readiness), [7], "more has come");
        });
    }

    #[test]
    fn a_socket_that_was_left_alone_is_reported_when_asked_for() {
        run(|readiness| async move {
            let (theirs, ours) = connected(&readiness, 7);
            write(&theirs, b"x").expect("sent");
            assert_eq!(readable(&readiness), [7]);
            readiness.look_again(&ours, ConnId(7)).expect("asked");
            readiness.wait().await.expect("waits");
            assert_eq!(readable(&readiness), [7]);
            assert_eq!(read(&ours, &mut [0; 8]).expect("read"), 1);
            readiness.look_again(&ours, ConnId(7)).expect("asked");
            assert_eq!(readable(&readiness), [0; 0], "nothing is there any more");
        });
    }

    #[test]
    fn a_socket_is_writable_again_when_a_full_one_has_been_read() {
        run(|readiness| async move {
            let (theirs, ours) = connected(&readiness, 7);
            while write(&ours, &[0; 4096]).is_ok() {}
            let mut ready = Vec::new();
            readiness.take(&mut ready).expect("taken");
            assert!(ready.iter().all(|r| !r.writable));
            while read(&theirs, &mut [0; 4096]).is_ok() {}
            readiness.wait().await.expect("waits");
            ready.clear();
            readiness.take(&mut ready).expect("taken");
            assert_eq!(ready, [Ready { conn: ConnId(7), readable: false, ended: false, writable: true }]);
        });
    }

    #[test]
    fn the_end_is_reported_with_what_came_before_it_and_a_closed_socket_never() {
        run(|readiness| async move {
            let (theirs, _ours) = connected(&readiness, 7);
            let (other, closed) = connected(&readiness, 8);
            write(&theirs, b"x").expect("sent");
            write(&other, b"x").expect("sent");
            drop((theirs, closed));
            let mut ready = Vec::new();
            readiness.take(&mut ready).expect("taken");
            assert_eq!(ready, [Ready { conn: ConnId(7), readable: true, ended: true, writable: true }]);
        });
    }

    #[test]
    fn no_more_are_reported_than_one_turn_serves_and_none_is_forgotten() {
        run(|readiness| async move {
            let pairs: Vec<_> = (0..READY_MAX as u64 + 3).map(|n| connected(&readiness, n)).collect();
            let _ = readable(&readiness);
            let _ = readable(&readiness);
            pairs.iter().for_each(|(theirs, _)| assert_eq!(write(theirs, b"x"), Ok(1)));
            assert_eq!(readable(&readiness), (0..READY_MAX as u64).collect::<Vec<_>>());
            assert_eq!(readable(&readiness).len(), 3);
        });
    }
}

//! Waiting for connections: one epoll set, in which each stands under its number.

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::time::Timespec;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

pub use epoll::EventFlags;

/// Connections taken from the kernel at once.
const READY_MAX: usize = 256;

/// The connections of one thread.
pub struct Readiness(OwnedFd);

/// Those that a wait has found, to be used again for the next one.
pub struct Ready(Vec<epoll::Event>);

impl Readiness {
    /// Of none.
    pub fn new() -> io::Result<Self> {
        Ok(Readiness(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Waits for one more.
    pub fn add(&self, socket: impl AsFd, at: usize, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, socket, epoll::EventData::new_u64(at as u64), flags)?)
    }

    /// Waits for something else of this one.
    pub fn change(&self, socket: impl AsFd, at: usize, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.0, socket, epoll::EventData::new_u64(at as u64), flags)?)
    }

    /// Waits for this one no more.
    pub fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, socket)?)
    }

    /// One wait, for at most so long; a signal ends it, too.
    pub fn wait(&self, ready: &mut Ready, longest: Duration) -> io::Result<()> {
        ready.0.clear();
        let longest = Timespec { tv_sec: longest.as_secs() as i64, tv_nsec: i64::from(longest.subsec_nanos()) };
        match epoll::wait(&self.0, spare_capacity(&mut ready.0), Some(&longest)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

impl Ready {
    /// Of no wait yet.
    pub fn new() -> Self {
        Ready(Vec::with_capacity(READY_MAX))
    }

    /// Their numbers, and what each is ready for.
    pub fn iter(&self) -> impl Iterator<Item = (usize, EventFlags)> + '_ {
        self.0.iter().map(|event| {
            let (data, flags) = (event.data, event.flags);
            (data.u64() as usize, flags)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn a_wait_finds_those_that_are_ready_for_what_was_asked() {
        let readiness = Readiness::new().expect("a set");
        let (mut ready, soon) = (Ready::new(), Duration::from_millis(1));
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None).expect("a pair");
        readiness.add(&ours, 7, EventFlags::IN).expect("added");
        readiness.wait(&mut ready, soon).expect("waited");
        assert_eq!(ready.iter().count(), 0);
        rustix::io::write(&theirs, b"x").expect("sent");
        for _ in 0..2 {
            readiness.wait(&mut ready, Duration::from_secs(60)).expect("waited");
            assert_eq!(ready.iter().collect::<Vec<_>>(), [(7, EventFlags::IN)], "for as long as nobody reads it, once a wait");
        }
        readiness.change(&ours, 8, EventFlags::OUT).expect("changed");
        readiness.wait(&mut ready, Duration::from_secs(60)).expect("waited");
        assert_eq!(ready.iter().collect::<Vec<_>>(), [(8, EventFlags::OUT)]);
        readiness.remove(&ours).expect("removed");
        readiness.wait(&mut ready, soon).expect("waited");
        assert_eq!(ready.iter().count(), 0);
    }
}

//! Requests that await their turn: a write until its reply is published, and whatever came behind it (rule A4).
//!
//! The front is always a write: reads reach the queue only behind one, and are taken out as soon as it is answered. Their
//! frames lie in one arena, so deferring a read costs a copy and no allocation of its own.

use crate::base::{Auth, Instant, Xid};
use crate::proto::OpCode;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Consumed arena bytes are dropped when they are at least this much and most of it.
const COMPACT_BYTES_MIN: usize = 16 << 10;

/// A forwarded request whose reply has not come yet.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// The client's number for it.
    pub xid: Xid,
    /// Its type.
    pub op: OpCode,
    /// When it was received.
    pub received: Instant,
    /// Size of its frame, which the replica holds.
    pub bytes: u32,
}

/// What may be done now.
#[derive(Debug)]
pub enum Turn {
    /// Serve the read in this part of the arena.
    Read {
        /// Where its frame lies.
        frame: Range<usize>,
        /// When it was received.
        received: Instant,
    },
    /// Reads from here on have these identities.
    Auth(Arc<Auth>),
}

#[derive(Debug)]
enum Pending {
    Write(Waiting),
    Read { bytes: u32, received: Instant },
    Auth(Arc<Auth>),
}

/// The queue of one connection.
#[derive(Debug, Default)]
pub struct Order {
    queue: VecDeque<Pending>,
    arena: Vec<u8>,
    /// Start of the first deferred frame in the arena.
    arena_start: usize,
    bytes: usize,
}

impl Order {
    /// Nothing awaits a turn: a read may be served at once.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }
    /// Requests in the queue.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }
    /// Nothing in the queue.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
    /// Bytes of the requests in the queue.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A request has been forwarded.
    pub fn push_write(&mut self, write: Waiting) {
        self.bytes += write.bytes as usize;
        self.queue.push_back(Pending::Write(write));
    }

    /// A read behind a write: its frame is kept.
    pub fn push_read(&mut self, frame: &[u8], received: Instant) {
        assert!(!self.is_idle(), "a read waits only behind a write");
        if self.arena_start >= COMPACT_BYTES_MIN && self.arena_start * 2 > self.arena.len() {
            self.arena.drain(..self.arena_start);
            self.arena_start = 0;
        }
        self.arena.extend_from_slice(frame);
        self.bytes += frame.len();
        self.queue.push_back(Pending::Read { bytes: frame.len() as u32, received });
    }

    /// Reads behind this point have these identities.
    pub fn push_auth(&mut self, auth: Arc<Auth>) {
        self.queue.push_back(Pending::Auth(auth));
    }

    /// The oldest write has been answered; `None` when none is waiting (a broken promise of the replica).
    pub fn answered(&mut self) -> Option<Waiting> {
        match self.queue.front() {
            Some(Pending::Write(write)) => {
                let write = *write;
                self.bytes -= write.bytes as usize;
                self.queue.pop_front();
                Some(write)
            }
            _ => None,
        }
    }

    /// The next thing before the next write; `None` when a write is at the front or nothing is left.
    pub fn next_turn(&mut self) -> Option<Turn> {
        match self.queue.front()? {
            Pending::Write(_) => return None,
            Pending::Read { .. } | Pending::Auth(_) => {}
        }
        match self.queue.pop_front()? {
            Pending::Read { bytes, received } => {
                let start = self.arena_start;
                self.arena_start += bytes as usize;
                self.bytes -= bytes as usize;
                Some(Turn::Read { frame: start..self.arena_start, received })
            }
            Pending::Auth(auth) => Some(Turn::Auth(auth)),
            Pending::Write(_) => None,
        }
    }

    /// Lends the arena while the reads in it are served; give it back with `return_arena`.
    pub fn take_arena(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.arena)
    }
    /// Takes the arena back.
    pub fn return_arena(&mut self, arena: Vec<u8>) {
        debug_assert!(self.arena.is_empty());
        self.arena = arena;
        if self.arena_start == self.arena.len() {
            self.arena_start = 0;
            self.arena.clear();
            if self.arena.capacity() > COMPACT_BYTES_MIN {
                self.arena = Vec::new();
            }
        }
    }

    /// The connection is closing: nothing of it will be answered.
    pub fn clear(&mut self) {
        *self = Order::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(xid: i32) -> Waiting {
        Waiting { xid: Xid(xid), op: OpCode::SetData, received: Instant(0), bytes: 10 }
    }

    fn turns(order: &mut Order) -> Vec<Vec<u8>> {
        let arena = order.take_arena();
        let mut out = Vec::new();
        while let Some(turn) = order.next_turn() {
            if let Turn::Read { frame, .. } = turn {
                out.push(arena[frame].to_vec());
            }
        }
        order.return_arena(arena);
        out
    }

    #[test]
    fn reads_come_out_between_the_writes_they_were_sent_between() {
        let mut order = Order::default();
        for xid in 0..100 {
            order.push_write(write(xid));
            order.push_read(format!("a{xid}").as_bytes(), Instant(0));
            order.push_read(format!("b{xid}").as_bytes(), Instant(0));
        }
        assert!(turns(&mut order).is_empty(), "nothing before the first write is answered");
        for xid in 0..100 {
            assert_eq!(order.answered().map(|w| w.xid), Some(Xid(xid)));
            assert_eq!(turns(&mut order), [format!("a{xid}").into_bytes(), format!("b{xid}").into_bytes()]);
        }
        assert!(order.is_idle());
        assert_eq!(order.bytes(), 0);
        assert!(order.answered().is_none());
    }

    #[test]
    fn the_arena_stays_as_large_as_what_waits_in_it() {
        let mut order = Order::default();
        order.push_write(write(0));
        for xid in 1..10_000 {
            order.push_read(&[7; 100], Instant(0));
            order.push_write(write(xid));
            assert!(order.answered().is_some());
            assert_eq!(turns(&mut order), [vec![7; 100]]);
        }
        assert!(order.arena.capacity() <= 4 * COMPACT_BYTES_MIN);
    }
}

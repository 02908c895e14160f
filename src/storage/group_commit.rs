//! What one flush covers: everything appended so far, to one file. No timers and no sizes: while a flush is under way the next group
//! forms by itself, so a slow disk makes larger groups and a fast one small ones (rules D1, A22).

use super::log::{FileId, SyncToken};
use crate::base::Zxid;

/// A position in one file: the end of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// Byte after the record.
    pub offset: u64,
    /// Its zxid.
    pub zxid: Zxid,
    /// Adler-32 of its payload.
    pub adler: u32,
}

/// The flush that is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flush {
    /// Names it towards the shell.
    pub token: SyncToken,
    /// The file being flushed.
    pub file: FileId,
    /// What had been written when it was issued; nothing later is covered.
    pub covers: Position,
}

/// At most one flush at a time, each with a token of its own.
#[derive(Debug, Default)]
pub struct GroupCommit {
    in_flight: Option<Flush>,
    tokens_given: u64,
}

impl GroupCommit {
    /// True when a flush may start.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.in_flight.is_none()
    }
    /// Starts a flush of everything written to `file` up to `covers`.
    pub fn start(&mut self, file: FileId, covers: Position) -> SyncToken {
        assert!(self.in_flight.is_none(), "one flush at a time");
        self.tokens_given += 1;
        let token = SyncToken(self.tokens_given);
        self.in_flight = Some(Flush { token, file, covers });
        token
    }
    /// The flush with this token has completed.
    pub fn complete(&mut self, token: SyncToken) -> Flush {
        let flush = self.in_flight.take();
        let flush = flush.expect("a flush completed that was never started");
        assert_eq!(flush.token, token, "completions name the flush under way");
        flush
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_covers_what_was_written_when_it_was_issued() {
        let mut group = GroupCommit::default();
        let at = |offset| Position { offset, zxid: Zxid(offset), adler: 1 };
        let first = group.start(FileId(1), at(10));
        assert!(!group.is_idle());
        assert_eq!(group.complete(first).covers, at(10));
        let second = group.start(FileId(1), at(30));
        assert_ne!(first, second);
    }

    #[test]
    #[should_panic(expected = "one flush at a time")]
    fn two_flushes_at_a_time_are_a_bug() {
        let mut group = GroupCommit::default();
        let at = Position { offset: 1, zxid: Zxid(1), adler: 1 };
        group.start(FileId(1), at);
        group.start(FileId(1), at);
    }
}

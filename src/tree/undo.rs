//! One undo log over all state (rule A10): what to put back, newest first, with a frame per transaction and savepoints inside it.
//!
//! It holds exactly what is not committed: `commit` drops frames from the old end, `undo` takes them from the new end. What an
//! entry means is known by the tables themselves; this module only keeps them in order.

use super::store::CellId;
use crate::base::{SessionId, Zxid};
use std::collections::VecDeque;

/// One step back.
#[derive(Debug)]
pub(super) enum UndoOp {
    /// The store's newest push.
    Store,
    /// The session's timeout before; `None` when it was not there.
    Session(SessionId, Option<i32>),
    /// A node was entered into a side table.
    Entered(Kept, CellId),
    /// A node was taken out of one.
    Left(Kept, CellId),
    /// An ACL got its number.
    AclNew(i64),
    /// An ACL got one more user.
    AclUsed(i64),
    /// An ACL lost a user; when it last had none before.
    AclReleased(i64, Zxid),
    /// A quota came into force.
    QuotaArmed(Box<str>),
    /// A quota ended.
    QuotaDisarmed(Box<str>),
}

/// Which side table holds a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kept {
    /// Ephemerals of a session.
    Ephemeral(SessionId),
    /// Containers without children.
    Container,
    /// Nodes with a time to live, by the wall-clock time after which it has passed.
    Ttl(i64),
}

/// One transaction that is not committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// The transaction.
    pub(super) zxid: Zxid,
    /// Newest zxid before it.
    pub(super) head_before: Zxid,
    /// Tree digest before it.
    pub(super) digest_before: u64,
    ops: usize,
}

/// A place inside the open frame to go back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Savepoint {
    ops: usize,
    /// Tree digest at that point.
    pub(super) digest: u64,
}

/// The log.
#[derive(Default, Debug)]
pub(super) struct UndoLog {
    frames: VecDeque<Frame>,
    ops: VecDeque<UndoOp>,
    /// Nothing will be undone: steps are not kept.
    forgets: bool,
}

impl UndoLog {
    /// Opens the frame of a transaction.
    pub(super) fn begin(&mut self, zxid: Zxid, head_before: Zxid, digest_before: u64) {
        debug_assert!(self.frames.back().is_none_or(|f| f.zxid <= zxid));
        self.frames.push_back(Frame { zxid, head_before, digest_before, ops: 0 });
    }
    /// Whether steps are forgotten at once from now on. Precondition: there is nothing to undo.
    pub(super) fn set_forgets(&mut self, forgets: bool) {
        assert!(self.is_empty());
        self.forgets = forgets;
    }
    /// Notes a step of the open frame.
    pub(super) fn push(&mut self, op: UndoOp) {
        if self.forgets {
            return;
        }
        self.frames.back_mut().expect("changes happen inside a transaction").ops += 1;
        self.ops.push_back(op);
    }
    /// Where the open frame stands.
    pub(super) fn savepoint(&self, digest: u64) -> Savepoint {
        Savepoint { ops: self.ops.len(), digest }
    }
    /// The newest step of the open frame after the savepoint, taken out; `None` when there is no more.
    pub(super) fn pop_to(&mut self, savepoint: &Savepoint) -> Option<UndoOp> {
        if self.ops.len() == savepoint.ops {
            return None;
        }
        let frame = self.frames.back_mut()?;
        frame.ops -= 1;
        self.ops.pop_back()
    }
    /// The newest frame above `zxid`, to be undone: step by step with `pop_of`, then `close_undone`.
    pub(super) fn newest_above(&self, zxid: Zxid) -> Option<Frame> {
        self.frames.back().copied().filter(|f| f.zxid > zxid)
    }
    /// The newest step of the newest frame.
    pub(super) fn pop_of_newest(&mut self) -> Option<UndoOp> {
        let frame = self.frames.back_mut()?;
        if frame.ops == 0 {
            return None;
        }
        frame.ops -= 1;
        self.ops.pop_back()
    }
    /// Drops the newest frame, which has no steps left.
    pub(super) fn drop_newest(&mut self) {
        let gone = self.frames.pop_back();
        assert!(gone.is_some_and(|f| f.ops == 0), "a frame is undone before it is dropped");
    }
    /// Forgets the oldest frame if it is at or below `zxid`: it is committed. Returns it with the digest after it, if a frame follows.
    pub(super) fn forget_committed(&mut self, zxid: Zxid) -> Option<(Zxid, Option<u64>)> {
        let frame = *self.frames.front().filter(|f| f.zxid <= zxid)?;
        self.frames.pop_front();
        self.ops.drain(..frame.ops);
        Some((frame.zxid, self.frames.front().map(|f| f.digest_before)))
    }
    /// Steps of frames above `zxid`, newest first.
    pub(super) fn steps_above(&self, zxid: Zxid) -> impl Iterator<Item = &UndoOp> {
        let steps: usize = self.frames.iter().rev().take_while(|f| f.zxid > zxid).map(|f| f.ops).sum();
        self.ops.iter().rev().take(steps)
    }
    /// True when nothing can be undone (rule B11).
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.ops.is_empty()
    }
}

//! One learner as its leader sees it: how far its handshake is, what it has acknowledged, what is on the way to it.

use crate::base::{Instant, PeerId, Zxid};
use std::collections::VecDeque;

/// What the packet of a learner may be, and what it waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Step {
    /// It has not said who it is.
    Unknown,
    /// It waits for the epoch.
    Greeted,
    /// It was told the epoch; its promise is on the way.
    Told,
    /// It has promised; it waits until a quorum has.
    Promised,
    /// What it lacks is read from the log on the disk, a part at a time; `Progress::sent` is where it is.
    Reading,
    /// The stream of history and NEWLEADER are on the way; proposals follow as they are made (L19).
    Syncing,
    /// It has the history; it waits until a quorum has.
    Synced,
    /// It was told UPTODATE.
    Serving,
}

/// How it will be fed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Proposals and commits; its acks count if it is a voter.
    Follower,
    /// Proposals once they are committed.
    Observer,
}

/// A PING on its way (or the NEWLEADER): what its answer will tell.
#[derive(Clone, Copy, Debug)]
struct Mark {
    sent: Instant,
    bytes: u64,
    round: u64,
}

/// Watches that the oldest acknowledgement does not take too long. Like ZooKeeper, it times one proposal at a time, and then the newest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AckWatch {
    timed: Option<(Zxid, Instant)>,
}

impl AckWatch {
    /// `sent` is waiting for its acknowledgement.
    pub fn sent(&mut self, sent: Zxid, now: Instant) {
        self.timed.get_or_insert((sent, now));
    }
    /// Everything up to `acked` is acknowledged, and `sent` was the last that was sent.
    pub fn acked(&mut self, acked: Zxid, sent: Zxid, now: Instant) {
        if self.timed.is_some_and(|(zxid, _)| zxid <= acked) {
            self.timed = (sent > acked).then_some((sent, now));
        }
    }
    /// Has it taken longer?
    pub fn is_overdue(&self, now: Instant, limit_ms: u64) -> bool {
        self.timed.is_some_and(|(_, since)| now.since_ms(since) > limit_ms)
    }
}

/// A learner's link.
#[derive(Debug)]
pub struct Progress {
    /// How far it is.
    pub step: Step,
    /// Who it is; from `Greeted` on.
    pub peer: PeerId,
    /// How it is fed.
    pub kind: Kind,
    /// Does it count?
    pub votes: bool,
    /// The epoch it had promised before.
    pub accepted_epoch: u32,
    /// It has nothing, and it is certain that it never had.
    pub is_vouched: bool,
    /// It says that it may have had something.
    pub is_in_doubt: bool,
    /// What it is told to cut off does not come back: it is one of ours.
    pub cuts_wholly: bool,
    /// Its promise: the end of its log, and the epoch of its history unless it had promised this epoch before.
    pub promise: (Zxid, Option<i32>),
    /// It has more history than we have, of the same epoch, and cannot lead: it counts when that is known to be lost.
    pub is_ahead: bool,
    /// It has everything up to here on stable storage.
    pub acked: Zxid,
    /// The last proposal sent.
    pub sent: Zxid,
    /// Takes too long, then.
    pub overdue: AckWatch,
    /// Until when its next packet must have come, if it owes one.
    pub deadline: Option<Instant>,
    /// When UPTODATE went, and then the newest ping it has answered: when *it was sent*.
    pub contact: Option<Instant>,
    /// It has answered a ping of this round of confirmation.
    pub confirmed: u64,
    bytes_sent: u64,
    bytes_arrived: u64,
    bytes_marked: u64,
    marks: VecDeque<Mark>,
}

impl Progress {
    /// A link that was just accepted.
    pub fn new(deadline: Instant) -> Progress {
        Progress {
            step: Step::Unknown,
            peer: PeerId(i64::MIN),
            kind: Kind::Observer,
            votes: false,
            accepted_epoch: 0,
            is_vouched: false,
            is_in_doubt: false,
            cuts_wholly: false,
            promise: (Zxid::ZERO, None),
            is_ahead: false,
            acked: Zxid::ZERO,
            sent: Zxid::ZERO,
            overdue: AckWatch::default(),
            deadline: Some(deadline),
            contact: None,
            confirmed: 0,
            bytes_sent: 0,
            bytes_arrived: 0,
            bytes_marked: 0,
            marks: VecDeque::new(),
        }
    }
    /// It has said who it is.
    pub fn greeted(&mut self, peer: PeerId, kind: Kind, votes: bool, accepted_epoch: u32) {
        (self.step, self.peer, self.kind, self.votes, self.accepted_epoch) = (Step::Greeted, peer, kind, votes, accepted_epoch);
        self.deadline = None;
    }
    /// Is it fed with proposals?
    pub fn is_fed(&self) -> bool {
        self.step >= Step::Syncing
    }

    /// Nothing of what it lacks has been found in the log on the disk yet.
    pub fn awaits_log(&self) -> bool {
        self.step == Step::Reading && self.sent == self.promise.0
    }

    /// A packet of about this size is on its way.
    pub fn count(&mut self, bytes: usize) {
        self.bytes_sent += bytes as u64;
    }
    /// Bytes of which it is not known that they have arrived.
    pub fn bytes_unconfirmed(&self) -> u64 {
        self.bytes_sent - self.bytes_arrived
    }
    /// Bytes sent since the last mark.
    pub fn bytes_unmarked(&self) -> u64 {
        self.bytes_sent - self.bytes_marked
    }
    /// Something was sent, in this round of confirmation, that will be answered.
    pub fn mark(&mut self, now: Instant, round: u64) {
        self.marks.push_back(Mark { sent: now, bytes: self.bytes_sent, round });
        self.bytes_marked = self.bytes_sent;
    }
    /// The oldest such thing was answered: when it was sent. `None`: nothing was asked.
    pub fn answer(&mut self) -> Option<Instant> {
        let mark = self.marks.pop_front()?;
        self.bytes_arrived = mark.bytes;
        self.confirmed = mark.round;
        Some(mark.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::default().plus_ms(ms)
    }
    fn zxid(counter: u32) -> Zxid {
        Zxid::new(1, counter)
    }

    #[test]
    fn the_watch_times_the_first_unacknowledged_proposal_then_the_newest() {
        let mut watch = AckWatch::default();
        assert!(!watch.is_overdue(at(1_000_000), 1_000));
        watch.sent(zxid(1), at(0));
        watch.sent(zxid(2), at(900));
        assert!(!watch.is_overdue(at(1_000), 1_000) && watch.is_overdue(at(1_001), 1_000));
        watch.acked(zxid(1), zxid(2), at(1_000));
        assert!(!watch.is_overdue(at(2_000), 1_000) && watch.is_overdue(at(2_001), 1_000));
        watch.acked(zxid(2), zxid(2), at(2_000));
        assert!(!watch.is_overdue(at(9_000), 1_000));
    }
    #[test]
    fn an_answer_tells_when_its_question_left_and_what_has_arrived_with_it() {
        let mut progress = Progress::new(at(0));
        progress.count(100);
        progress.mark(at(5), 3);
        progress.count(30);
        progress.mark(at(7), 4);
        progress.count(1);
        assert_eq!((progress.bytes_unconfirmed(), progress.bytes_unmarked()), (131, 1));
        assert_eq!((progress.answer(), progress.bytes_unconfirmed(), progress.confirmed), (Some(at(5)), 31, 3));
        assert_eq!((progress.answer(), progress.bytes_unconfirmed(), progress.confirmed), (Some(at(7)), 1, 4));
        assert_eq!(progress.answer(), None);
    }
}

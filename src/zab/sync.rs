//! How a leader brings a learner onto its history: what the learner lacks, a cut and then what it lacks, or an image of everything.

use super::message::Payload;
use super::tail::{Tail, follows};
use crate::base::Zxid;

/// How the stream begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opening {
    /// It has a prefix of the history.
    Diff(Zxid),
    /// It has a prefix of the history up to here, and then something else.
    Trunc(Zxid),
    /// Whether it has a prefix, and what it lacks, may be in the log on the disk: DIFF or SNAP, as that says.
    Log,
    /// It is to forget everything; an image of the whole history comes.
    Snap,
}

/// What a learner is sent before it takes part in the broadcast.
#[derive(Debug)]
pub struct Stream {
    /// First.
    pub opening: Opening,
    /// Then: proposal and commit of each.
    pub history: Vec<(Zxid, Payload)>,
}

/// The leader's side of the decision.
#[derive(Clone, Copy, Debug)]
pub struct Leading {
    /// The end of the history that every learner must have: what is committed, or the whole log of a leader that is not established yet.
    pub end: Zxid,
    /// Its epoch.
    pub epoch: u32,
}

/// Decides for a learner whose log ends at `last`. SNAP is always right, and is the answer wherever it is doubtful what the learner has. It is of
/// the whole history: a learner's log is never replaced by less than it may be the only other copy of.
pub fn decide(tail: &Tail, leading: Leading, last: Zxid, queue_max: u64) -> Stream {
    let end = leading.end;
    if last == end {
        return Stream { opening: Opening::Diff(end), history: Vec::new() };
    }
    // Within an epoch there is one history: whoever is beyond the end in its epoch, or has proposals of ours, has the end itself. Across
    // epochs that is not certain.
    let has_end = [end.epoch(), leading.epoch].contains(&last.epoch()) && last.counter() != 0;
    if last > end && has_end && end.counter() != 0 && tail.holds(end) {
        return Stream { opening: Opening::Trunc(end), history: Vec::new() };
    }
    let opening = if last >= end || last == Zxid::ZERO {
        Opening::Snap
    } else if has_prefix(tail, last) {
        match rest(tail, last, end, queue_max) {
            Some(history) => return Stream { opening: Opening::Diff(end), history },
            None => Opening::Log,
        }
    } else if last < tail.base() {
        Opening::Log
    } else {
        Opening::Snap
    };
    Stream { opening, history: Vec::new() }
}

/// What follows `after` up to `end`, if it is in memory without a hole and fits into a learner's queue.
pub fn rest(tail: &Tail, after: Zxid, end: Zxid, queue_max: u64) -> Option<Vec<(Zxid, Payload)>> {
    tail.between(after, end).filter(|history| bytes(history) <= queue_max)
}

/// What a first part of the log, read from `last` on, has for a learner that ends there: what follows. `None`: it does not show that the learner
/// has a prefix of the history. It does by holding `last`, and by going on right behind it in the same epoch, which has one history only.
pub fn joined(last: Zxid, mut part: Vec<(Zxid, Payload)>) -> Option<Vec<(Zxid, Payload)>> {
    let first = part.first()?.0;
    if first == last {
        part.remove(0);
        return Some(part);
    }
    (last.next() == Some(first)).then_some(part)
}

/// Does this part of the log go on right behind `after`, without a hole (L1)?
pub fn goes_on(after: Zxid, part: &[(Zxid, Payload)]) -> bool {
    let mut previous = after;
    part.iter().all(|(zxid, _)| follows(std::mem::replace(&mut previous, *zxid), *zxid))
}

/// Is everything the learner has, up to its end, on our history, so that only what follows is missing?
fn has_prefix(tail: &Tail, last: Zxid) -> bool {
    if tail.holds(last) {
        return true;
    }
    // The start of an epoch, known to learners that were given an image then (B7): right before the first transaction of that epoch.
    last.counter() == 0 && last >= tail.base() && tail.first_after(last) == Some(Zxid::new(last.epoch(), 1))
}

fn bytes(history: &[(Zxid, Payload)]) -> u64 {
    history.iter().map(|(_, payload)| payload.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zab::planted::Planted;
    use crate::zab::vote::ZXID_UNKNOWN;

    fn z(epoch: u32, counter: u32) -> Zxid {
        Zxid::new(epoch, counter)
    }
    /// 1:3 (base), 1:4, 1:5, 3:1, 3:2.
    fn tail() -> Tail {
        Tail::new(
            [z(1, 3), z(1, 4), z(1, 5), z(3, 1), z(3, 2)].map(|zxid| (zxid, Payload::from(vec![0; 10]))).into(),
            z(3, 2),
            Planted::default(),
        )
    }
    fn decided(tail: &Tail, end: Zxid, last: Zxid, queue_max: u64) -> (Opening, Vec<Zxid>) {
        let stream = decide(tail, Leading { end, epoch: 5 }, last, queue_max);
        (stream.opening, stream.history.iter().map(|(zxid, _)| *zxid).collect())
    }

    #[test]
    fn the_learner_is_sent_what_it_lacks_and_an_image_where_its_history_is_doubtful() {
        use Opening::{Diff, Log, Snap, Trunc};
        let end = z(3, 2);
        for (last, opening, history) in [
            (end, Diff(end), vec![]),
            (z(3, 1), Diff(end), vec![z(3, 2)]),
            (z(1, 3), Diff(end), vec![z(1, 4), z(1, 5), z(3, 1), z(3, 2)]),
            (z(1, 2), Log, vec![]),                       // older than what is in memory
            (z(3, 7), Trunc(end), vec![]),                // more of the same epoch
            (z(4, 1), Snap, vec![]),                      // more, of an epoch that never came to be
            (z(5, 1), Trunc(end), vec![]),                // more, and it is ours
            (z(1, 6), Snap, vec![]),                      // not ours: an epoch's end that was never committed
            (z(2, 1), Snap, vec![]),                      // not ours
            (Zxid::ZERO, Snap, vec![]),                   // nothing
            (ZXID_UNKNOWN, Snap, vec![]),                 // nothing, and knows it
            (z(3, 0), Diff(end), vec![z(3, 1), z(3, 2)]), // an image of the start of an epoch that came to be (B7)
            (z(2, 0), Snap, vec![]),                      // of one that did not
            (z(1, 0), Log, vec![]),                       // of one that is older than what is in memory
        ] {
            assert_eq!(decided(&tail(), end, last, 1_000), (opening, history), "{last}");
        }
    }
    #[test]
    fn an_empty_ensemble_needs_nothing() {
        assert_eq!(decided(&Tail::empty(Zxid::ZERO), Zxid::ZERO, Zxid::ZERO, 0), (Opening::Diff(Zxid::ZERO), vec![]));
    }
    #[test]
    fn what_is_outstanding_is_cut_and_sent_again() {
        let mut tail = tail();
        assert!(tail.push(z(3, 3), Payload::from(vec![0])));
        assert_eq!(decided(&tail, z(3, 2), z(3, 3), 1_000), (Opening::Trunc(z(3, 2)), vec![]));
    }
    #[test]
    fn a_difference_too_long_for_the_queue_is_read_from_the_log() {
        assert_eq!(decided(&tail(), z(3, 2), z(1, 3), 39), (Opening::Log, vec![]));
    }
    #[test]
    fn a_hole_in_the_recent_history_is_never_sent_l1() {
        let mut tail = tail();
        assert!(!tail.push(z(3, 9), Payload::from(vec![0])));
        assert_eq!(decided(&tail, z(3, 2), z(1, 4), 1_000), (Opening::Log, vec![]));
    }
    #[test]
    fn a_part_of_the_log_is_joined_where_it_proves_a_prefix_l1() {
        let part = |zxids: &[Zxid]| zxids.iter().map(|zxid| (*zxid, Payload::from(vec![0]))).collect::<Vec<_>>();
        let joins = |last, zxids: &[Zxid]| joined(last, part(zxids)).map(|p| p.iter().map(|(zxid, _)| *zxid).collect::<Vec<_>>());
        assert_eq!(joins(z(1, 3), &[z(1, 3), z(1, 4)]), Some(vec![z(1, 4)]));
        assert_eq!(joins(z(1, 3), &[z(1, 4)]), Some(vec![z(1, 4)]), "an image of it stands before the log");
        assert_eq!(joins(z(2, 0), &[z(2, 1)]), Some(vec![z(2, 1)]), "the start of an epoch (B7)");
        assert_eq!(joins(z(1, 3), &[z(2, 1)]), None, "the epoch may have ended before");
        assert_eq!(joins(z(1, 3), &[z(1, 5)]), None);
        assert_eq!(joins(z(1, 3), &[]), None);
        assert!(goes_on(z(1, 3), &part(&[z(1, 4), z(2, 1), z(2, 2)])));
        assert!(!goes_on(z(1, 3), &part(&[z(1, 4), z(1, 6)])) && !goes_on(z(1, 3), &part(&[z(1, 5)])));
    }
}

//! How a leader brings a learner onto its history: what the learner lacks, a cut and then what it lacks, or an image of everything.

use super::local::Local;
use super::message::Payload;
use super::vote::ZXID_UNKNOWN;
use crate::base::Zxid;

/// How the stream begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opening {
    /// It has a prefix of the history.
    Diff(Zxid),
    /// It has a prefix of the history up to here, and then something else.
    Trunc(Zxid),
    /// It is to forget everything; an image as of this zxid comes.
    Snap(Zxid),
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
    /// It has a quorum.
    pub is_established: bool,
}

/// A learner, as the decision sees it.
#[derive(Clone, Copy, Debug)]
pub struct Lagging {
    /// The end of its log.
    pub last: Zxid,
    /// It tells its true end; not one that asks for everything.
    pub is_sincere: bool,
}

/// Decides. SNAP is always right, and is the answer wherever it is doubtful what the learner has.
pub fn decide(local: &Local, leading: Leading, learner: Lagging, queue_max: u64) -> Result<Stream, &'static str> {
    let end = leading.end;
    let peer = if learner.last == ZXID_UNKNOWN { Zxid::ZERO } else { learner.last };
    if peer == end {
        return Ok(Stream { opening: Opening::Diff(end), history: Vec::new() });
    }
    // Within an epoch there is one history: whoever is beyond the end in its epoch, or has proposals of ours, has the end itself. Across
    // epochs that is not certain.
    let has_end = [end.epoch(), leading.epoch].contains(&peer.epoch()) && peer.counter() != 0;
    if peer > end && has_end && end.counter() != 0 && local.tail.holds(end) {
        return Ok(Stream { opening: Opening::Trunc(end), history: Vec::new() });
    }
    if peer < end && peer != Zxid::ZERO && has_prefix(local, peer) {
        let image_is_shorter = local.applied() > peer;
        match local.tail.between(peer, end) {
            Some(history) if bytes(&history) <= queue_max || !image_is_shorter => {
                return Ok(Stream { opening: Opening::Diff(end), history });
            }
            _ => {}
        }
    }
    image(local, leading, peer, learner.is_sincere)
}

/// Is everything the learner has, up to its end, on our history, so that only what follows is missing?
fn has_prefix(local: &Local, peer: Zxid) -> bool {
    if local.tail.holds(peer) {
        return true;
    }
    // The start of an epoch, known to learners that were given an image then (B7): right before the first transaction of that epoch.
    peer.counter() == 0 && peer >= local.tail.base() && local.tail.first_after(peer) == Some(Zxid::new(peer.epoch(), 1))
}

/// The image is of what is applied here; the rest of the history follows it.
fn image(local: &Local, leading: Leading, peer: Zxid, is_sincere: bool) -> Result<Stream, &'static str> {
    let (at, end) = (local.applied(), leading.end);
    assert!(at <= end, "applied {at} beyond the end {end} of the history");
    // Until a quorum has the history, this learner's log may be the only other copy of what lies between: it must not be replaced by less.
    if !leading.is_established && at < end && (peer > at || !is_sincere) {
        return Err("no image of the whole history can be made yet");
    }
    let history = if at == end { Vec::new() } else { local.tail.between(at, end).ok_or("the recent history has a hole")? };
    Ok(Stream { opening: Opening::Snap(at), history })
}

fn bytes(history: &[(Zxid, Payload)]) -> u64 {
    history.iter().map(|(_, payload)| payload.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zab::Stored;

    fn z(epoch: u32, counter: u32) -> Zxid {
        Zxid::new(epoch, counter)
    }
    /// A log whose tail is 1:3 (base), 1:4, 1:5, 3:1, 3:2.
    fn local() -> Local {
        let recent: Vec<_> = [z(1, 3), z(1, 4), z(1, 5), z(3, 1), z(3, 2)].map(|zxid| (zxid, Payload::from(vec![0; 10]))).into();
        Local::new(Stored { accepted_epoch: 3, current_epoch: 3, last_logged: z(3, 2), snapshot: Zxid::ZERO, recent })
    }
    fn leading(end: Zxid) -> Leading {
        Leading { end, epoch: 5, is_established: true }
    }
    fn decided(local: &Local, end: Zxid, peer: Zxid) -> (Opening, Vec<Zxid>) {
        let learner = Lagging { last: peer, is_sincere: true };
        let stream = decide(local, leading(end), learner, 1_000).unwrap();
        (stream.opening, stream.history.iter().map(|(zxid, _)| *zxid).collect())
    }

    #[test]
    fn the_learner_is_sent_what_it_lacks_and_an_image_where_its_history_is_doubtful() {
        use Opening::{Diff, Snap, Trunc};
        let end = z(3, 2);
        for (peer, opening, history) in [
            (end, Diff(end), vec![]),
            (z(3, 1), Diff(end), vec![z(3, 2)]),
            (z(1, 3), Diff(end), vec![z(1, 4), z(1, 5), z(3, 1), z(3, 2)]),
            (z(1, 2), Snap(end), vec![]),                 // older than what is in memory
            (z(3, 7), Trunc(end), vec![]),                // more of the same epoch
            (z(4, 1), Snap(end), vec![]),                 // more, of an epoch that never came to be
            (z(5, 1), Trunc(end), vec![]),                // more, and it is ours
            (z(1, 6), Snap(end), vec![]),                 // not ours: an epoch's end that was never committed
            (z(2, 1), Snap(end), vec![]),                 // not ours
            (Zxid::ZERO, Snap(end), vec![]),              // nothing
            (ZXID_UNKNOWN, Snap(end), vec![]),            // nothing, and knows it
            (z(3, 0), Diff(end), vec![z(3, 1), z(3, 2)]), // an image of the start of an epoch that came to be (B7)
            (z(2, 0), Snap(end), vec![]),                 // of one that did not
            (z(1, 0), Snap(end), vec![]),                 // of one that is too old
        ] {
            assert_eq!(decided(&local(), end, peer), (opening, history), "{peer}");
        }
    }
    #[test]
    fn an_empty_ensemble_needs_nothing() {
        let local = Local::new(Stored::default());
        assert_eq!(decided(&local, Zxid::ZERO, Zxid::ZERO), (Opening::Diff(Zxid::ZERO), vec![]));
    }
    #[test]
    fn what_is_outstanding_is_cut_and_sent_again() {
        let mut local = local();
        local.append(z(3, 3), Payload::from(vec![0]));
        assert_eq!(decided(&local, z(3, 2), z(3, 3)), (Opening::Trunc(z(3, 2)), vec![]));
    }
    #[test]
    fn a_difference_too_long_for_the_queue_becomes_an_image() {
        let learner = Lagging { last: z(1, 3), is_sincere: true };
        let stream = decide(&local(), leading(z(3, 2)), learner, 39).unwrap();
        assert_eq!(stream.opening, Opening::Snap(z(3, 2)));
    }
    #[test]
    fn an_image_is_of_what_is_applied_and_the_rest_follows() {
        let mut local = local();
        local.append(z(3, 3), Payload::from(vec![0]));
        local.flushed(z(3, 3));
        assert_eq!(decided(&local, z(3, 3), z(1, 1)), (Opening::Snap(z(3, 2)), vec![z(3, 3)]));
    }
    #[test]
    fn a_leader_without_quorum_never_replaces_a_log_by_less_than_it_may_hold() {
        let mut local = local();
        local.append(z(3, 3), Payload::from(vec![0]));
        local.flushed(z(3, 3));
        for (learner, refused) in [
            (Lagging { last: z(4, 1), is_sincere: true }, true),
            (Lagging { last: Zxid::ZERO, is_sincere: false }, true),
            (Lagging { last: Zxid::ZERO, is_sincere: true }, false),
            (Lagging { last: z(1, 1), is_sincere: true }, false),
        ] {
            let established = leading(z(3, 3));
            let alone = Leading { is_established: false, ..established };
            assert_eq!(decide(&local, alone, learner, 1_000).is_err(), refused, "{learner:?}");
            assert!(decide(&local, established, learner, 1_000).is_ok(), "{learner:?}");
        }
    }
    #[test]
    fn a_hole_in_the_recent_history_is_never_sent_l1() {
        let mut local = local();
        assert!(!local.tail.push(z(3, 9), Payload::from(vec![0])));
        assert_eq!(decided(&local, z(3, 2), z(1, 4)), (Opening::Snap(z(3, 2)), vec![]));
    }
}

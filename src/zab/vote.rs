//! The order of votes, and when two of them say the same.

use super::message::{Notification, ServerState, Vote};
use super::quorum::Quorum;
use crate::base::{PeerId, Zxid};

/// The zxid of a server that does not know its history: its votes are heard by nobody.
pub const ZXID_UNKNOWN: Zxid = Zxid::from_i64(-1);
/// The leader, zxid and epoch that a server without a vote announces.
pub const NOBODY: i64 = i64::MIN;

impl Vote {
    /// Would it be better to vote like this than like `other`? By epoch of the history, then its end, then the server's id (L15: a vote
    /// changes only for a better one); a server of weight 0 is never elected. Numbers compare signed, as Java servers compare them.
    #[must_use]
    pub fn is_better_than(&self, other: &Vote, quorum: &Quorum) -> bool {
        quorum.weight(self.leader) != 0 && self.rank() > other.rank()
    }

    fn rank(&self) -> (i64, i64, PeerId) {
        (self.peer_epoch, self.zxid.as_i64(), self.leader)
    }
}

/// A vote as it was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ballot {
    /// The vote.
    pub vote: Vote,
    /// What its caster does.
    pub state: ServerState,
    /// 0 where the format is unknown or was not kept.
    pub version: i32,
}

impl Ballot {
    /// The ballot in a notification.
    #[must_use]
    pub fn of(message: &Notification) -> Ballot {
        Ballot { vote: message.vote, state: message.state, version: message.version }
    }

    /// Do both support the same election? While one of them is looking, all numbers must agree. Servers at work are compared by leader and
    /// epoch: they may have been elected in different rounds (ZK-1732); old formats do not tell the epoch of a server at work.
    #[must_use]
    pub fn agrees_with(&self, other: &Ballot) -> bool {
        let (a, b) = (&self.vote, &other.vote);
        if self.state == ServerState::Looking || other.state == ServerState::Looking {
            return a == b;
        }
        let one_is_old = (self.version > 0) != (other.version > 0);
        a.leader == b.leader && (one_is_old || a.peer_epoch == b.peer_epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(leader: i64, zxid: u64, peer_epoch: i64) -> Vote {
        Vote { leader: PeerId(leader), zxid: Zxid(zxid), peer_epoch, election_epoch: 1 }
    }

    #[test]
    fn votes_are_ordered_by_epoch_then_history_then_id() {
        let quorum = Quorum::majority([1, 2, 3].map(PeerId));
        let ascending = [
            Vote { zxid: Zxid::from_i64(NOBODY), ..vote(NOBODY, 0, NOBODY) },
            vote(1, 9, 0),
            vote(2, 3, 1),
            vote(1, 4, 1),
            vote(2, 4, 1),
            vote(1, 1, 2),
        ];
        for (n, low) in ascending.iter().enumerate() {
            assert!(!low.is_better_than(low, &quorum));
            for high in &ascending[n + 1..] {
                assert!(high.is_better_than(low, &quorum) && !low.is_better_than(high, &quorum), "{low:?} {high:?}");
            }
        }
    }

    #[test]
    fn a_server_without_weight_is_never_better() {
        let quorum = Quorum::hierarchical([vec![(PeerId(1), 1), (PeerId(2), 0)]]);
        assert!(!vote(2, 9, 9).is_better_than(&vote(1, 0, 0), &quorum));
        assert!(vote(1, 9, 9).is_better_than(&vote(2, 0, 0), &quorum));
    }

    #[test]
    fn looking_servers_must_agree_in_everything_and_working_ones_in_leader_and_epoch() {
        let ballot = |vote, state, version| Ballot { vote, state, version };
        let (a, later_round) = (vote(3, 5, 1), Vote { election_epoch: 4, zxid: Zxid(6), ..vote(3, 5, 1) });
        let (following, leading, looking) = (ServerState::Following, ServerState::Leading, ServerState::Looking);
        assert!(ballot(a, following, 2).agrees_with(&ballot(later_round, leading, 2)));
        assert!(!ballot(a, looking, 2).agrees_with(&ballot(later_round, leading, 2)));
        assert!(ballot(a, looking, 0).agrees_with(&ballot(a, leading, 2)));
        let new_epoch = Vote { peer_epoch: 2, ..a };
        assert!(!ballot(a, following, 2).agrees_with(&ballot(new_epoch, leading, 2)));
        assert!(ballot(a, following, 0).agrees_with(&ballot(new_epoch, leading, 2)), "the old format's epoch says nothing");
        assert!(!ballot(a, following, 0).agrees_with(&ballot(new_epoch, leading, 0)));
        assert!(!ballot(a, following, 0).agrees_with(&ballot(vote(2, 5, 1), leading, 2)));
    }
}

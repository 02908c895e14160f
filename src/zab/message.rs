//! What servers of an ensemble say to each other, as types: election notifications and quorum packets of ZooKeeper 3.9.
//! `wire.rs` has their bytes. Payloads of proposals stay opaque: the same bytes are in the log, on the wire and in the tail.

use crate::base::{Auth, PeerId, SessionId, Xid, Zxid};
use std::sync::Arc;

/// The payload of one proposal: transaction header, body and digest, encoded once (`record::txn`).
pub type Payload = Arc<[u8]>;

/// What a server does, as its notifications tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerState {
    /// In an election.
    Looking,
    /// Follows a leader and votes.
    Following,
    /// Leads.
    Leading,
    /// Follows a leader without a vote.
    Observing,
}

/// A vote: who should lead, with which history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vote {
    /// The proposed leader; `i64::MIN` from a server that has no vote.
    pub leader: PeerId,
    /// The last zxid in the proposed leader's log.
    pub zxid: Zxid,
    /// The epoch of the proposed leader's history (`currentEpoch`).
    pub peer_epoch: i64,
    /// The round in which it is cast (the sender's logical clock).
    pub election_epoch: i64,
}

/// A message of the election port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notification {
    /// The sender's state.
    pub state: ServerState,
    /// Its vote: a proposal while it is looking, else its outcome.
    pub vote: Vote,
    /// Format: 2 since 3.5; 0 when the sender is too old to tell.
    pub version: i32,
    /// The sender's configuration (`membership`), as text.
    pub config: Option<Arc<str>>,
}

/// The first packet of a learner: who it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LearnerInfo {
    /// Its id; `None` from learners that do not tell (observers outside the configuration).
    pub id: Option<PeerId>,
    /// 0x10000 since 3.4.
    pub protocol_version: i32,
    /// The version of the configuration it knows.
    pub config_version: i64,
}

/// A client's write on its way to the leader.
#[derive(Clone, PartialEq, Debug)]
pub struct ForwardedRequest {
    /// Whose.
    pub session: SessionId,
    /// Its number; 0 for createSession.
    pub cxid: Xid,
    /// The op code, as sent.
    pub op: i32,
    /// The request's body, without its header. createSession: the timeout as an int. closeSession: empty.
    pub body: Box<[u8]>,
    /// The client's identities, which its other requests have too.
    pub auth: Arc<Auth>,
}

/// A packet of the quorum port.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub enum Packet {
    /// Learner → leader: a write of one of its clients.
    Request(ForwardedRequest),
    /// Leader → follower: log this.
    Proposal { zxid: Zxid, payload: Payload },
    /// Follower → leader: logged up to here. Of a NEWLEADER or UPTODATE: the epoch with counter 0.
    Ack { zxid: Zxid },
    /// Leader → follower: a quorum has it.
    Commit { zxid: Zxid },
    /// Several ACKs of proposals: of each zxid of one epoch in this range. Servers take and give runs whole; on the wire there is one for each.
    Acks { first: Zxid, last: Zxid },
    /// Several COMMITs, likewise.
    Commits { first: Zxid, last: Zxid },
    /// Both ways; the learner returns the zxid and adds the sessions it has heard from since, with their timeouts in ms.
    Ping { zxid: Zxid, touched: Vec<(SessionId, i32)> },
    /// Learner → leader: a client wants to go on with this session here.
    Revalidate { session: SessionId, timeout_ms: i32 },
    /// Leader → learner: whether it may.
    Revalidated { session: SessionId, valid: bool },
    /// Leader → learner: everything before the oldest pending sync is committed. (A sync travels to the leader as a `Request`.)
    Sync,
    /// Leader → observer: proposal and commit in one.
    Inform { zxid: Zxid, payload: Payload },
    /// Leader → follower: a commit that changes the configuration.
    CommitAndActivate { zxid: Zxid, leader: PeerId },
    /// Leader → observer: the same with its proposal.
    InformAndActivate { zxid: Zxid, leader: PeerId, payload: Payload },
    /// Leader → learner: what came before this is the history of the new epoch.
    NewLeader { zxid: Zxid, config: Option<Arc<str>> },
    /// Follower → leader, first: accepted epoch in `zxid`.
    FollowerInfo { zxid: Zxid, info: LearnerInfo },
    /// Observer → leader, first.
    ObserverInfo { zxid: Zxid, info: LearnerInfo },
    /// Leader → learner: the new epoch.
    LeaderInfo { zxid: Zxid, protocol_version: i32 },
    /// Learner → leader: its last logged zxid, and its current epoch; `None` when it has accepted this epoch before.
    AckEpoch { zxid: Zxid, current_epoch: Option<i32> },
    /// Leader → learner: a quorum has the history of the epoch; serve.
    UpToDate,
    /// Leader → learner: you have a prefix of my history; what is missing follows.
    Diff { zxid: Zxid },
    /// Leader → learner: remove everything above this zxid.
    Trunc { zxid: Zxid },
    /// Leader → learner: forget everything; an image as of this zxid follows as a raw stream.
    Snap { zxid: Zxid },
}

impl Packet {
    /// An ACK of each of these.
    pub fn acks(first: Zxid, last: Zxid) -> Packet {
        if first == last { Packet::Ack { zxid: last } } else { Packet::Acks { first, last } }
    }
    /// A COMMIT of each of these.
    pub fn commits(first: Zxid, last: Zxid) -> Packet {
        if first == last { Packet::Commit { zxid: last } } else { Packet::Commits { first, last } }
    }

    /// Takes in the packet that has come behind this one, if together they are a run. What is none stays apart, to be judged by itself.
    #[must_use]
    pub fn absorb(&mut self, next: &Packet) -> bool {
        let (first, last, zxid) = match (&*self, next) {
            (Packet::Ack { zxid: first }, Packet::Ack { zxid }) | (Packet::Commit { zxid: first }, Packet::Commit { zxid }) => {
                (*first, *first, *zxid)
            }
            (Packet::Acks { first, last }, Packet::Ack { zxid }) | (Packet::Commits { first, last }, Packet::Commit { zxid }) => {
                (*first, *last, *zxid)
            }
            _ => return false,
        };
        // Counter 0 is no proposal's: that ACK means something else.
        if first.counter() == 0 || last.next() != Some(zxid) {
            return false;
        }
        *self = if matches!(next, Packet::Ack { .. }) { Packet::Acks { first, last: zxid } } else { Packet::Commits { first, last: zxid } };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(epoch: u32, counter: u32) -> Packet {
        Packet::Ack { zxid: Zxid::new(epoch, counter) }
    }
    fn commit(epoch: u32, counter: u32) -> Packet {
        Packet::Commit { zxid: Zxid::new(epoch, counter) }
    }

    /// What a reader makes of packets that come one after the other.
    fn joined(packets: impl IntoIterator<Item = Packet>) -> Vec<Packet> {
        let mut joined: Vec<Packet> = Vec::new();
        for packet in packets {
            if !joined.last_mut().is_some_and(|before| before.absorb(&packet)) {
                joined.push(packet);
            }
        }
        joined
    }

    #[test]
    fn packets_of_one_kind_whose_zxids_follow_each_other_are_a_run() {
        let (first, last) = (Zxid::new(2, 5), Zxid::new(2, 8));
        assert_eq!(joined((5..=8).map(|counter| ack(2, counter))), [Packet::acks(first, last)]);
        assert_eq!(joined((5..=8).map(|counter| commit(2, counter))), [Packet::commits(first, last)]);
        assert_eq!(joined([commit(2, 5)]), [Packet::commits(first, first)]);
    }

    #[test]
    fn nothing_else_is_joined() {
        let apart = [
            [ack(2, 0), ack(2, 1)], // of NEWLEADER, and of the first proposal
            [ack(2, 0), ack(2, 0)],
            [ack(2, 1), ack(2, 3)],
            [ack(2, 2), ack(2, 1)],
            [ack(2, 1), ack(2, 1)],
            [ack(1, u32::MAX), ack(2, 0)],
            [ack(2, 1), ack(3, 2)],
            [ack(2, 1), commit(2, 2)],
            [commit(2, 1), ack(2, 2)],
            [commit(2, 1), commit(2, 3)],
            [commit(2, 1), Packet::Sync],
            [Packet::Sync, Packet::Sync],
        ];
        for packets in apart {
            assert_eq!(joined(packets.clone()), packets);
        }
        let run = Packet::acks(Zxid::new(2, 1), Zxid::new(2, 2));
        assert_eq!(joined([run.clone(), commit(2, 3)]), [run, commit(2, 3)]);
    }
}

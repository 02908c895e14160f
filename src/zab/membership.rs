//! Who is in the ensemble, who votes, and where they are: the members of a configuration and its text.

use crate::base::PeerId;
use std::collections::BTreeMap;

/// One address of a member. Hosts stay text: resolving them is the transport's, each time anew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberAddress {
    /// Host name or address, without brackets.
    pub host: String,
    /// Where the leader listens for learners.
    pub quorum_port: u16,
    /// Where elections are held.
    pub election_port: u16,
}

/// Whether a member votes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberKind {
    /// Votes and may lead.
    Participant,
    /// Follows without a vote.
    Observer,
}

/// A `server.N` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// One or several (`|` between them).
    pub addresses: Vec<MemberAddress>,
    /// Voter or observer.
    pub kind: MemberKind,
    /// Where its clients connect, if the line says so: host and port.
    pub client: Option<(String, u16)>,
}

/// A configuration of the ensemble.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Membership {
    /// By id.
    pub members: BTreeMap<PeerId, Member>,
    /// Hierarchical quorums: the groups of voters, by group number. Empty: plain majority.
    pub groups: BTreeMap<i64, Vec<PeerId>>,
    /// Weights of voters, where not 1.
    pub weights: BTreeMap<PeerId, u64>,
    /// 0 for a static configuration.
    pub version: i64,
}

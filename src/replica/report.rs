//! Plain numbers for admin commands.

use super::Replica;
use crate::base::{Instant, PeerId, SessionId, WallTime, Zxid};

use crate::zab::membership::MemberKind;

pub use crate::zab::{LearnerCounts, Membership, ServerState};

/// What the replica knows for admin commands.
#[derive(Clone, Debug, Default)]
pub struct ReplicaReport {
    /// Last committed zxid.
    pub last_zxid: Zxid,
    /// Sizes of the tree.
    pub tree: crate::tree::TreeCounts,
    /// Quotas by child of the root.
    pub quotas: Vec<(String, crate::tree::QuotaSums)>,
    /// Transactions prepared and not published.
    pub outstanding: u64,
    /// (session, timeout ms, ms until expiry)
    pub sessions: Vec<(SessionId, i32, u64)>,
    /// The same of the sessions that only this server knows; `None` where there can be none.
    pub local_sessions: Option<Vec<(SessionId, i32, u64)>>,
    /// How many there are.
    pub local_session_count: usize,
    /// Ephemeral paths by session.
    pub ephemerals: Vec<(SessionId, Vec<String>)>,
    /// (zxid, digest) for `hash`.
    pub digest_history: Vec<(Zxid, u64)>,
    /// The newest snapshot of this run.
    pub last_snapshot: Option<(Zxid, WallTime)>,
    /// Snapshots written in this run.
    pub snapshots_taken: u64,
    /// Snapshots that failed in this run.
    pub snapshots_failed: u64,
    /// Further counters under their `mntr` names.
    pub counters: Vec<(&'static str, u64)>,
    /// What only a member of an ensemble has.
    pub member: Option<MemberReport>,
}

/// A member's place in its ensemble.
#[derive(Clone, Debug)]
pub struct MemberReport {
    /// What it does for its peers.
    pub state: ServerState,
    /// It has a role.
    pub is_serving: bool,
    /// It has a role and takes clients: a leader may be told not to.
    pub takes_clients: bool,
    /// It has none, and serves those that only read.
    pub is_read_only: bool,
    /// Whom it follows, or itself.
    pub leader: Option<PeerId>,
    /// The epoch of its history.
    pub epoch: u32,
    /// The highest epoch promised.
    pub accepted_epoch: u32,
    /// The end of its log.
    pub last_logged: Zxid,
    /// What it knows to be committed.
    pub committed: Zxid,
    /// The configuration in force.
    pub membership: Membership,
    /// Servers in the ensemble that vote.
    pub quorum_size: usize,
    /// Learner: requests of its clients that the leader has and that are not here again.
    pub forwarded: usize,
    /// Learner: sessions of its own clients.
    pub attached: usize,
    /// Observer: the server it learns from.
    pub observer_master: Option<PeerId>,
    /// A follower that feeds observers.
    pub feeds_observers: bool,
    /// Leader, or a follower that feeds observers: who learns from it.
    pub learners: LearnerCounts,
    /// Leader: bytes of the proposals it has made as such.
    pub proposal_bytes: Option<ProposalBytes>,
    /// When it took the role that it has, or had.
    pub role_since: Instant,
}

/// Sizes of proposals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ProposalBytes {
    pub last: usize,
    pub min: usize,
    pub max: usize,
}

impl ProposalBytes {
    /// With one more.
    pub(super) fn and(before: Option<Self>, last: usize) -> Self {
        before.map_or(ProposalBytes { last, min: last, max: last }, |b| ProposalBytes { last, min: b.min.min(last), max: b.max.max(last) })
    }
}

impl MemberReport {
    /// ZooKeeper's word for what it is for its clients, while it serves them.
    #[must_use]
    pub fn mode(&self) -> &'static str {
        match self.state {
            _ if self.is_read_only => "read-only",
            ServerState::Leading => "leader",
            ServerState::Following => "follower",
            ServerState::Observing => "observer",
            ServerState::Looking => "looking",
        }
    }

    /// ZooKeeper's word for what it is for its peers, and how far that has come.
    #[must_use]
    pub fn peer_state(&self) -> &'static str {
        match (self.state, self.is_serving) {
            (ServerState::Looking, _) => "looking - election",
            (ServerState::Leading, false) => "leading - synchronization",
            (ServerState::Following, false) => "following - synchronization",
            (ServerState::Observing, false) => "observing - synchronization",
            (ServerState::Leading, true) => "leading - broadcast",
            (ServerState::Following, true) => "following - broadcast",
            (ServerState::Observing, true) => "observing - broadcast",
        }
    }

    /// Whether it leads and serves.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.is_serving && self.state == ServerState::Leading
    }
}

impl Replica {
    /// Everything admin commands want to know. Lists sessions and ephemerals: work and memory of their number.
    #[must_use]
    pub fn report(&self, now: Instant) -> ReplicaReport {
        ReplicaReport {
            sessions: self.known_sessions(now),
            local_sessions: (self.makes_local_sessions() || self.is_read_only()).then(|| self.local.report(now)),
            ephemerals: self.tree.ephemerals_by_session(),
            digest_history: self.tree.digest_history(),
            ..self.summary()
        }
    }

    /// The report without its lists, for commands that are asked every few seconds (rule B2).
    #[must_use]
    pub fn summary(&self) -> ReplicaReport {
        ReplicaReport {
            last_zxid: self.tree.applied(),
            tree: self.tree.counts(),
            quotas: self.tree.quota_sums(),
            outstanding: self.groups.outstanding() as u64,
            sessions: Vec::new(),
            local_sessions: None,
            local_session_count: self.local.len(),
            ephemerals: Vec::new(),
            digest_history: Vec::new(),
            last_snapshot: self.snapshots.last(),
            snapshots_taken: self.snapshots.taken(),
            snapshots_failed: self.snapshots.failed(),
            counters: vec![
                ("commit_count", self.groups.committed()),
                ("proposal_count", self.groups.committed() + self.groups.outstanding() as u64),
                ("stale_sessions_expired", self.expired),
                ("snapshot_error_count", self.snapshots.failed()),
            ],
            member: self.member_report(),
        }
    }

    /// `srst`: what is counted here and not by the shell.
    pub fn reset_stats(&mut self) {
        if let Some(member) = &mut self.member {
            member.proposal_bytes = None;
        }
    }

    /// A learner knows them all, but not when they expire.
    fn known_sessions(&self, now: Instant) -> Vec<(SessionId, i32, u64)> {
        if self.decides() { self.sessions.report(now) } else { self.tree.sessions().map(|(id, timeout_ms)| (id, timeout_ms, 0)).collect() }
    }

    fn member_report(&self) -> Option<MemberReport> {
        let member = self.member.as_deref()?;
        let zab = &member.zab;
        let votes = zab.membership().members.values().filter(|m| m.kind == MemberKind::Participant);
        Some(MemberReport {
            state: zab.state(),
            is_serving: member.is_serving(),
            takes_clients: member.is_serving() && !self.refuses_clients(),
            is_read_only: self.is_read_only(),
            leader: zab.leader(),
            epoch: zab.current_epoch(),
            accepted_epoch: zab.accepted_epoch(),
            last_logged: self.log.appended_zxid(),
            committed: member.committed,
            membership: zab.membership().clone(),
            quorum_size: votes.count(),
            forwarded: member.learner.outstanding(),
            attached: member.learner.attached(),
            learners: zab.learner_counts(),
            observer_master: member.zab.observer_master(),
            feeds_observers: member.zab.feeds_observers(),
            proposal_bytes: member.proposal_bytes,
            role_since: member.role_since,
        })
    }
}

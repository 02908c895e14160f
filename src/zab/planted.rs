//! Bugs on purpose, one per rule, so that the simulation can prove that it would notice. Only the feature `planted-bugs` compiles them in;
//! without it the switch is empty, never on, and costs nothing.

/// A rule that is broken when its bug is switched on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// L1: what a synchronisation brings bypasses the recent history in memory, and nobody looks for the hole.
    HoleInTail,
    /// L2: NEWLEADER is acknowledged while the history is on its way to the disk.
    AckBeforeHistory,
    /// L2, A24: NEWLEADER is acknowledged while the epoch is on its way to the disk.
    AckBeforeEpoch,
    /// L3: the synchronised history counts as committed before the leader is established.
    CommitInSync,
    /// L4: the next election begins while the disk still works for the old role.
    NoBarrier,
    /// L10: after a start, the whole log counts as committed.
    LogIsCommitted,
    /// L13: a leader trusts its leadership for ever.
    NoDeadline,
    /// B3: a sync is answered without asking anybody whether somebody else leads.
    SyncUnconfirmed,
    /// L15: any vote is followed, not only a better one.
    FickleVote,
    /// L19: proposals go only to those who are in service.
    JoinerMissesProposals,
    /// L21: the acknowledgements of a server whose disk was wiped count at once.
    WipedServerCounts,
    /// D10: on leaving a role, what memory has counts as logged.
    MemoryAheadOfLog,
    /// A1: votes and promises tell what is committed instead of what is logged.
    VoteOfCommitted,
    /// A configuration that is proposed counts for nothing before it is in force.
    ProposedConfigIgnored,
    /// The leader's own disk is quorum enough.
    CommitWithoutQuorum,
}

/// Which bug a core has, if any.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Planted {
    #[cfg(feature = "planted-bugs")]
    bug: Option<Bug>,
}

impl Planted {
    /// With this bug.
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub fn with(bug: Bug) -> Planted {
        Planted { bug: Some(bug) }
    }
    /// Is it this one?
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub fn has(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
    /// Never.
    #[cfg(not(feature = "planted-bugs"))]
    #[must_use]
    pub const fn has(self, _: Bug) -> bool {
        false
    }
}

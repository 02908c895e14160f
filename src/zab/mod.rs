//! Atomic broadcast: elections, discovery, synchronisation and broadcast as ZooKeeper 3.9's servers practise them. Pure: it is told
//! what happened (`Input`) and says what must be done (`Output`); payloads are opaque bytes.
//!
//! Must never know: sockets, files, clocks, znodes, what a transaction means.
#![doc(hidden)]

pub mod config;
pub mod election_link;
pub mod input;
pub mod membership;
pub mod message;
pub mod output;
pub mod quorum;
pub mod vote;
pub mod wire;

use crate::base::{Instant, PeerId, SessionId, Zxid};
use std::collections::VecDeque;

pub use config::{Stored, ZabConfig};
pub use input::{EpochToken, Input, LinkId};
pub use membership::Membership;
pub use message::{ForwardedRequest, LearnerInfo, Notification, Packet, Payload, ServerState, Vote};
pub use output::{EpochFile, Output, Role};
pub use quorum::Quorum;

/// One server's part in the ensemble.
pub struct Zab {
    config: ZabConfig,
    stored: Stored,
    outputs: VecDeque<Output>,
}

impl Zab {
    /// A server that has just started: LOOKING, with what its disk holds.
    #[must_use]
    pub fn new(config: ZabConfig, stored: Stored, _now: Instant) -> Zab {
        Zab { config, stored, outputs: VecDeque::new() }
    }
    /// Something happened.
    pub fn handle(&mut self, _now: Instant, _input: Input) {}
    /// The next order; to be called until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
    /// When to give `Input::Timeout`, at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    /// What this server is for its clients.
    #[must_use]
    pub fn role(&self) -> Role {
        Role::Looking
    }
    /// What it is for its peers: following or leading as soon as the election has ended.
    #[must_use]
    pub fn state(&self) -> ServerState {
        ServerState::Looking
    }
    /// Whom it follows, or itself when it leads; known from the end of the election on.
    #[must_use]
    pub fn leader(&self) -> Option<PeerId> {
        None
    }
    /// The epoch of the history here (`currentEpoch`).
    #[must_use]
    pub fn current_epoch(&self) -> u32 {
        self.stored.current_epoch
    }
    /// The highest epoch promised (`acceptedEpoch`).
    #[must_use]
    pub fn accepted_epoch(&self) -> u32 {
        self.stored.accepted_epoch
    }
    /// The members it works with.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.config.membership
    }
    /// Leading: the zxid of the next proposal. `None`: not leading, or the counter is used up, and the leader is about to step down.
    #[must_use]
    pub fn next_zxid(&self) -> Option<Zxid> {
        None
    }
    /// Leading: broadcasts what the replica has applied to its head and appended to its log under the zxid of `next_zxid`.
    pub fn propose(&mut self, _zxid: Zxid, _payload: Payload) {}
    /// Following, observing: sends a client's write, or its sync, to the leader.
    pub fn forward(&mut self, _request: ForwardedRequest) {}
    /// Following, observing: asks the leader whether this session may go on here.
    pub fn revalidate(&mut self, _session: SessionId, _timeout_ms: i32) {}
    /// Leading: the answer to `Output::Revalidate`.
    pub fn revalidated(&mut self, _link: LinkId, _session: SessionId, _valid: bool) {}
    /// Following, observing: the answer to `Output::Ping`.
    pub fn pinged(&mut self, _zxid: Zxid, _touched: Vec<(SessionId, i32)>) {}
    /// Leading: a sync of an own client. `Output::Synced` once what is proposed so far is committed.
    pub fn sync_own(&mut self) {}
    /// Leading: until when this leadership is certain (B3, L13).
    #[must_use]
    pub fn quorum_deadline(&self) -> Option<Instant> {
        None
    }
}

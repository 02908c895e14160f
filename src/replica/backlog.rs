//! What has arrived and is not dealt with: only while the log is at its limit is there anything (A22), and nothing overtakes it.

use crate::base::{SessionId, Zxid};
use crate::handoff::ToReplica;
use crate::proto::request::REQUEST_HEADER_BYTES;
use crate::record::header::TXN_HEADER_BYTES;
use crate::zab::{ForwardedRequest, LinkId, Payload};
use std::collections::VecDeque;

/// Bytes from peers above which their packets are left on the links.
const PEER_BYTES_MAX: usize = 16 << 20;

/// Something whose turn comes in the order of arrival.
pub(super) enum Arrival {
    /// From a shard.
    Shard(ToReplica),
    /// Learner: the next transaction of the history.
    Append(Zxid, Payload),
    /// Leader: a write of another server's client.
    Forwarded(LinkId, ForwardedRequest),
    /// Leader: a session wants to go on at another server.
    Revalidate(LinkId, SessionId, i32),
    /// Learner: the leader's answer to that.
    Revalidated(SessionId, bool),
    /// Learner: the leader's answer to the oldest sync.
    Synced,
}

/// In order of arrival.
#[derive(Default)]
pub(super) struct Backlog {
    queue: VecDeque<Arrival>,
    peer_bytes: usize,
}

impl Backlog {
    pub(super) fn push(&mut self, arrival: Arrival) {
        self.peer_bytes += arrival.peer_bytes();
        self.queue.push_back(arrival);
    }

    pub(super) fn pop(&mut self) -> Option<Arrival> {
        let arrival = self.queue.pop_front()?;
        self.peer_bytes -= arrival.peer_bytes();
        Some(arrival)
    }

    /// Bodies of the transactions that come next and, where they become some here, of requests.
    pub(super) fn bodies(&self, of_requests: bool) -> impl Iterator<Item = &[u8]> {
        self.queue.iter().filter_map(move |arrival| match arrival {
            Arrival::Append(_, payload) => payload.get(TXN_HEADER_BYTES..),
            Arrival::Forwarded(_, request) => Some(&request.body),
            Arrival::Shard(ToReplica::Request { frame, .. }) if of_requests => frame.get(REQUEST_HEADER_BYTES..),
            _ => None,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// There is room for more from peers.
    pub(super) fn admits_packets(&self) -> bool {
        self.peer_bytes < PEER_BYTES_MAX
    }

    pub(super) fn clear(&mut self) {
        *self = Backlog::default();
    }

    /// Drops what belongs to a role that is lost. Transactions stay: that they were given to us is known.
    pub(super) fn keep_appends(&mut self) {
        self.queue.retain(|arrival| matches!(arrival, Arrival::Append(..) | Arrival::Shard(_)));
        self.peer_bytes = self.queue.iter().map(Arrival::peer_bytes).sum();
    }
}

impl Arrival {
    fn peer_bytes(&self) -> usize {
        match self {
            Arrival::Append(_, payload) => payload.len(),
            Arrival::Forwarded(_, request) => request.body.len(),
            _ => 0,
        }
    }
}

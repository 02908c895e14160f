//! Connections that are closed so that their clients go on at other servers, each with its session.
//!
//! A client loses what it has sent and not been answered with its connection. So only those are closed that have been silent for a while, have been
//! given all answers and events, and turn out to have nothing in their sockets. To the replica it is as if they had been heard from just then: a
//! session has all its time to go on elsewhere.

use super::clients::Client;
use super::{Close, Shard};
use crate::base::{ConnId, Instant};
use crate::conn::Phase;
use crate::handoff::ToReplica;

impl Shard {
    /// Begins to close so many connections, if there are so many that can go: those heard from longest ago first.
    pub fn shed(&mut self, now: Instant, connections: usize, idle_ms: u64) {
        let mut idle: Vec<(Instant, ConnId)> =
            self.clients.iter().filter(|c| is_idle(c, now, idle_ms)).map(|c| (c.conn.heard, c.id)).collect();
        idle.sort_unstable();
        self.sheds.extend(idle.into_iter().take(connections).map(|(_, id)| id));
    }

    /// A connection whose socket is to be looked at now; then comes `shed_if_idle`.
    pub fn poll_shed(&mut self) -> Option<ConnId> {
        self.sheds.pop_front()
    }

    /// `is_silent`: its client had sent nothing more by then.
    pub fn shed_if_idle(&mut self, now: Instant, conn: ConnId, is_silent: bool) {
        let Some(client) = self.clients.get(conn).filter(|client| is_silent && is_idle(client, now, 0)) else { return };
        let Phase::Serving { session, .. } = client.conn.phase else { return };
        self.tell(ToReplica::Detach { conn: self.key(conn), session, heard: now });
        self.silence(conn, Some(Close::AfterOutput));
        (self.shed, self.totals.shed) = (self.shed + 1, self.totals.shed + 1);
    }

    /// Connections closed in this way since the start.
    #[must_use]
    pub fn shed_so_far(&self) -> u64 {
        self.shed
    }
}

/// Nothing is lost when it closes now, and its session can go on elsewhere.
fn is_idle(client: &Client, now: Instant, idle_ms: u64) -> bool {
    let conn = &client.conn;
    let is_movable = matches!(conn.phase, Phase::Serving { .. }) && !conn.ended && !conn.read_only && !conn.local;
    let has_all = conn.order.is_idle() && conn.input.is_empty() && conn.output.is_empty() && client.listing.is_none();
    let waits = client.blocked || client.must_wait || client.awaits_listings || client.ready || client.leaving.is_some();
    is_movable && has_all && !waits && now.since_ms(conn.heard) >= idle_ms
}

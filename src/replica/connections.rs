//! How many connections each server of an ensemble has, for everybody to see while that is wanted: learners add theirs to the answers that they give to
//! a leader's pings anyway, and the leader writes all of them into one node, by an ordinary transaction of its own.
//!
//! The number stands among the sessions heard from, as that of a session whose id is the server's number. No session has so small a number, and a
//! leader of another kind knows none of it and passes it over. Nothing is published unless all who learn from this leader have told theirs: then the
//! ensemble is mixed, or one has just come.

use super::Replica;
use super::intake::{Asker, Work};
use crate::balance::strategy::{COUNTS, Counts, ROOT, SERVERS, SHED};
use crate::balance::{Node, Nodes, strategy};
use crate::base::{AclVec, Auth, AuthId, Instant, PeerId, SessionId, WallTime, Xid};
use crate::proto::request::CreateRequest;
use crate::proto::{OpCode, Request};
use crate::tree::Guarded;
use std::collections::BTreeMap;

/// The node changes at most so often.
const PUBLISH_MS: u64 = 5_000;
/// A number that has not been told again for so long is one of a server that is gone; or for so many ticks.
const FRESH_MS: u64 = 10_000;
const FRESH_TICKS: u64 = 5;
/// Session ids below this are numbers of servers.
const SERVERS_MAX: i64 = 1 << 32;
/// Of so many servers numbers are kept; those of others are passed over.
const COUNTED_MAX: usize = 1_024;

/// What is known of everybody's connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    /// Of this server; `None` while they are not wanted.
    own: Option<u32>,
    /// Leader: of those that have told theirs, and when.
    others: BTreeMap<PeerId, (u32, Instant)>,
    published: Option<Instant>,
    /// Leader: since when somebody has not told.
    incomplete: Option<Instant>,
}

/// What the leader's node is to say.
enum Wanted {
    /// This.
    Said(Counts),
    /// It is to go.
    Gone,
    /// It is not known yet.
    Unknown,
}

/// The nodes by which connections are balanced, as committed.
#[derive(Debug, Default)]
pub struct BalanceNodes {
    root: Option<Guarded>,
    cores: Option<Guarded>,
    servers: Option<Guarded>,
    shed: Option<Guarded>,
    counts: Option<Guarded>,
}

impl BalanceNodes {
    /// What a steward looks at.
    #[must_use]
    pub fn nodes(&self) -> Nodes<'_> {
        Nodes {
            root: node(&self.root),
            cores: node(&self.cores),
            servers: node(&self.servers),
            shed: node(&self.shed),
            counts: node(&self.counts),
        }
    }
}

fn node(guarded: &Option<Guarded>) -> Option<Node<'_>> {
    let Guarded { mzxid, aversion, is_guarded, data } = guarded.as_ref()?;
    Some(Node { mzxid: mzxid.as_i64(), aversion: *aversion, is_guarded: *is_guarded, data })
}

impl Connections {
    /// This server has no role any more.
    pub(super) fn forget(&mut self) {
        *self = Connections { own: self.own, ..Connections::default() };
    }

    /// Learner: what it adds to the sessions heard from.
    pub(super) fn told(&self, server: i64) -> Option<(SessionId, i32)> {
        let own = self.own.filter(|_| (0..SERVERS_MAX).contains(&server))?;
        Some((SessionId(server), i32::try_from(own).unwrap_or(i32::MAX)))
    }

    /// Leader: takes the numbers of connections out of what a learner has told. They are kept while they are wanted.
    pub(super) fn take_told(&mut self, now: Instant, sessions: &mut Vec<(SessionId, i32)>) {
        for (server, connections) in sessions.extract_if(.., |(session, _)| (0..SERVERS_MAX).contains(&session.0)) {
            let server = PeerId(server.0);
            if self.own.is_some() && (self.others.len() < COUNTED_MAX || self.others.contains_key(&server)) {
                self.others.insert(server, (connections.unsigned_abs(), now));
            }
        }
    }

    /// Of all servers that take clients, if all `learners` have told theirs lately. `own`: this one, if it does.
    fn wanted(&mut self, now: Instant, own: Option<i64>, learners: &[PeerId], fresh_ms: u64) -> Wanted {
        let Some(connections) = self.own else {
            self.others.clear();
            return Wanted::Gone;
        };
        self.others.retain(|_, (_, heard)| now.since_ms(*heard) <= fresh_ms);
        if learners.iter().all(|learner| self.others.contains_key(learner)) {
            self.incomplete = None;
            let others = self.others.iter().map(|(peer, (connections, _))| (peer.0, *connections));
            return Wanted::Said(Counts(others.chain(own.map(|own| (own, connections))).collect()));
        }
        let since = *self.incomplete.get_or_insert(now);
        if now.since_ms(since) > fresh_ms { Wanted::Gone } else { Wanted::Unknown }
    }
}

impl Replica {
    /// The nodes by which connections are balanced; `None` while this server serves nobody.
    #[must_use]
    pub fn balance_nodes(&self) -> Option<BalanceNodes> {
        if !self.is_serving() {
            return None;
        }
        let Some(root) = self.tree.committed(ROOT) else { return Some(BalanceNodes::default()) };
        let node = |path| self.tree.committed(path);
        // What another leader has written may be about servers that are gone.
        let epoch = self.member.as_ref().map(|member| member.zab.current_epoch());
        let counts = node(COUNTS).filter(|counts| Some(counts.mzxid.epoch()) == epoch);
        Some(BalanceNodes { root: Some(root), cores: node(strategy::CORES), servers: node(SERVERS), shed: node(SHED), counts })
    }

    /// Its number in the ensemble.
    #[must_use]
    pub fn server_id(&self) -> i64 {
        self.config.server_id
    }

    /// This server has so many connections; `None`: nobody wants to know any more. A leader publishes what it knows.
    pub(super) fn count_connections(&mut self, now: Instant, wall: WallTime, own: Option<u32>) {
        self.connections.own = own;
        let Some(member) = self.member.as_ref().filter(|_| self.decides() && self.log.can_append()) else { return };
        let (learners, epoch) = (member.zab.serving_learners(), member.zab.current_epoch());
        let fresh_ms = FRESH_MS.max(self.config.tick_ms.saturating_mul(FRESH_TICKS));
        let there = self.tree.newest(COUNTS);
        let own = Some(self.config.server_id).filter(|_| !self.refuses_clients());
        match self.connections.wanted(now, own, &learners, fresh_ms) {
            Wanted::Unknown => {}
            Wanted::Said(_) if self.tree.newest(ROOT).is_none() => {}
            Wanted::Gone if there.is_none() => {}
            Wanted::Gone => self.prepare_as_super(wall, &Request::Delete { path: COUNTS, version: -1 }),
            Wanted::Said(counts) => {
                let json = counts.to_json();
                let is_known = there.as_ref().is_some_and(|node| *node.data == *json.as_bytes() && node.mzxid.epoch() == epoch);
                if is_known || self.connections.published.is_some_and(|at| now.since_ms(at) < PUBLISH_MS) {
                    return;
                }
                self.connections.published = Some(now);
                let data = Some(json.as_bytes());
                let create = CreateRequest { op: OpCode::Create2, path: COUNTS, data, acl: AclVec::WORLD_READ, flags: 0, ttl: None };
                let set = Request::SetData { path: COUNTS, data, version: -1 };
                self.prepare_as_super(wall, &if there.is_some() { set } else { Request::Create(create) });
            }
        }
    }

    fn prepare_as_super(&mut self, wall: WallTime, request: &Request<'_>) {
        let auth = Auth { ids: vec![AuthId { scheme: "super".to_owned(), id: String::new() }] };
        self.prepare(wall, &Asker { session: SessionId::NONE, xid: Xid(0), auth: &auth, conn: None }, Work::Request(request));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: u64 = 10_000;

    fn at(ms: u64) -> Instant {
        Instant(0).plus_ms(ms)
    }

    fn tell(connections: &mut Connections, ms: u64, server: i64, n: i32) {
        let mut sessions = vec![(SessionId(1 << 56 | 77 << 16), 30_000), (SessionId(server), n)];
        connections.take_told(at(ms), &mut sessions);
        assert_eq!(sessions, [(SessionId(1 << 56 | 77 << 16), 30_000)], "sessions stay");
    }

    fn said(wanted: &Wanted) -> String {
        match wanted {
            Wanted::Said(counts) => counts.to_json(),
            Wanted::Gone => "gone".to_owned(),
            Wanted::Unknown => "unknown".to_owned(),
        }
    }

    #[test]
    fn all_must_have_told_theirs_before_anything_is_published() {
        let mut connections = Connections { own: Some(7), ..Connections::default() };
        let learners = [PeerId(2), PeerId(3)];
        let wanted = |connections: &mut Connections, ms| said(&connections.wanted(at(ms), Some(1), &learners, FRESH));
        tell(&mut connections, 0, 2, 9);
        assert_eq!(wanted(&mut connections, 0), "unknown", "the third has not told");
        tell(&mut connections, 900, 3, 0);
        assert_eq!(wanted(&mut connections, 1_000), r#"{"1":7,"2":9,"3":0}"#);
        tell(&mut connections, 2_000, 4, 5);
        tell(&mut connections, 9_000, 3, 1);
        assert_eq!(wanted(&mut connections, 10_000), r#"{"1":7,"2":9,"3":1,"4":5}"#, "an observer of a follower");
        assert_eq!(wanted(&mut connections, 10_001), "unknown", "the second has been silent for too long");
        assert_eq!(wanted(&mut connections, 20_002), "gone", "it is of another kind");
        tell(&mut connections, 21_000, 2, 3);
        tell(&mut connections, 21_000, 3, 4);
        assert_eq!(said(&connections.wanted(at(21_000), None, &learners, FRESH)), r#"{"2":3,"3":4}"#, "a leader without clients");
        connections.own = None;
        assert_eq!(wanted(&mut connections, 21_001), "gone", "nobody wants to know");
    }

    #[test]
    fn what_nobody_wants_or_too_many_tell_is_not_kept() {
        let mut connections = Connections::default();
        tell(&mut connections, 0, 2, 9);
        assert!(connections.others.is_empty(), "nobody wants to know");
        connections.own = Some(7);
        (2..2_000).for_each(|server| tell(&mut connections, 0, server, 1));
        tell(&mut connections, 0, 2, 9);
        assert_eq!((connections.others.len(), connections.others[&PeerId(2)].0), (COUNTED_MAX, 9));
    }

    #[test]
    fn a_learner_tells_only_while_it_is_wanted() {
        let mut connections = Connections::default();
        assert_eq!(connections.told(3), None);
        connections.own = Some(u32::MAX);
        assert_eq!(connections.told(3), Some((SessionId(3), i32::MAX)));
        assert_eq!(connections.told(SERVERS_MAX), None, "its number would be that of a session");
        connections.forget();
        assert!(connections.told(3).is_some() && connections.others.is_empty());
    }
}

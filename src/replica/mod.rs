//! This server's deterministic brain: prepare, log, publish; sessions and their expiry; when to snapshot.
//!
//! `handle(now, wall, Input)`, then `poll_output` until `None`, then `poll_timeout`. Touches no socket, file or clock.
//!
//! Invariants: nothing is published before the log says it is durable (P2); entries leave in the order they were prepared, and
//! `applied` moves only by `published`, after the batch is on the stream (A2); a session has one owner connection, and only
//! that one's requests are carried out (A16, L16); nobody is expired before its shard has been asked (A17).

mod commit;
mod expiry;
mod intake;
mod password;
mod pauses;
mod removal;
mod snapshots;

use crate::base::prng::Prng;
use crate::base::{Instant, SessionId, ShardId, WallTime, Zxid};
use crate::handoff::{Batch, ToReplica};
use crate::storage::log::{FileId, Log, LogAction, LogConfig, SyncToken};
use crate::tree::{Image, Tree};
use commit::Groups;
use expiry::Sessions;
use pauses::Pauses;
use removal::Removals;
use snapshots::Snapshots;
use std::collections::VecDeque;

pub use password::derived_password;

/// Settings of the replica; a small struct by value.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct ReplicaConfig {
    pub server_id: i64,
    pub tick_ms: u64,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    pub snap_count: u64,
    /// `None` = off.
    pub snap_size_limit_bytes: Option<u64>,
    pub container_check_interval_ms: u64,
    pub container_max_per_minute: u64,
    pub container_max_never_used_ms: i64,
    pub global_outstanding_limit: usize,
    pub log: LogConfig,
    /// Jitter (snapshot trigger), hash seeds.
    pub seed: u64,
}

/// Everything that can happen to it.
#[derive(Debug)]
pub enum Input {
    /// A message from a shard's queue.
    Shard(ShardId, ToReplica),
    /// A log file has its name.
    LogOpened(FileId),
    /// A flush has completed.
    LogSynced(SyncToken),
    /// The background snapshot at this zxid ended; false = failed (warned, kept serving).
    SnapshotDone {
        /// The image's zxid.
        zxid: Zxid,
        /// Whether it is on disk.
        ok: bool,
    },
    /// `poll_timeout` has passed.
    Timeout,
    /// Begin a clean stop: no more admission; what is appended is flushed and answered.
    Stop,
}

/// Everything the shell must do.
pub enum Output {
    /// For the log's shell.
    Log(LogAction),
    /// Append to the stream; then call `Replica::published` (which moves `applied`), then `handoff::notify` the shards (A2, A8).
    Publish(Batch),
    /// Write a snapshot on a background thread, then purge if so configured; report with `SnapshotDone`.
    Snapshot(Image),
    /// A broken invariant: print and abort.
    Fatal(String),
    /// After `Stop`: everything is flushed and published, the log is closed.
    Stopped,
}

/// The one writer.
pub struct Replica {
    config: ReplicaConfig,
    tree: Tree,
    log: Log,
    groups: Groups,
    sessions: Sessions,
    pauses: Pauses,
    removals: Removals,
    snapshots: Snapshots,
    prng: Prng,
    /// Messages that came while the log was at its limit (A22); nothing overtakes them. At most what one turn of the shell drains.
    backlog: VecDeque<ToReplica>,
    next_session: i64,
    /// Sessions expired in this run.
    expired: u64,
    /// Scratch: the payload of the transaction being prepared.
    payload: Vec<u8>,
    stop: Stop,
    fatal: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    No,
    Draining,
    Done,
}

impl Replica {
    /// Over a recovered tree (everything in it committed). Session timers start afresh at `now`, session ids at `wall`.
    #[must_use]
    pub fn new(config: ReplicaConfig, tree: Tree, now: Instant, wall: WallTime) -> Self {
        assert_eq!(tree.head_zxid(), tree.applied(), "a recovered tree is committed");
        let mut prng = Prng::new(config.seed);
        let mut sessions = Sessions::new(config.tick_ms, config.seed);
        for (session, timeout_ms) in tree.sessions() {
            sessions.open(session, timeout_ms, now);
        }
        tree.dead_sessions().into_iter().for_each(|session| sessions.open_dead(session));
        Replica {
            log: Log::new(config.log.clone(), tree.head_zxid()),
            groups: Groups::new(tree.applied()),
            sessions,
            pauses: Pauses::new(config.min_session_timeout_ms, now),
            removals: Removals::new(&config, now),
            snapshots: Snapshots::new(&config, &mut prng),
            prng,
            backlog: VecDeque::new(),
            next_session: first_session_id(config.server_id, wall),
            expired: 0,
            payload: Vec::new(),
            stop: Stop::No,
            fatal: None,
            tree,
            config,
        }
    }

    /// Something happened.
    pub fn handle(&mut self, now: Instant, wall: WallTime, input: Input) {
        if self.pauses.look(now) {
            self.sessions.start_afresh(now);
        }
        match input {
            Input::Shard(_, message) if self.stop != Stop::No => drop(message),
            Input::Shard(_, message) => self.backlog.push_back(message),
            Input::LogOpened(file) => self.log.handle_opened(file),
            Input::LogSynced(token) => self.log.handle_synced(token),
            Input::SnapshotDone { zxid, ok } => self.snapshots.done(zxid, ok, wall),
            Input::Timeout => self.timeout(now, wall),
            Input::Stop => {
                self.stop = Stop::Draining;
                self.backlog.clear();
            }
        }
        self.work(now, wall);
    }

    /// The next thing to do; call until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(why) = self.fatal.take() {
            return Some(Output::Fatal(why));
        }
        if let Some(batch) = self.groups.take_sealed(self.log.durable_zxid()) {
            return Some(Output::Publish(batch));
        }
        if let Some(action) = self.log.poll_action() {
            if matches!(action, LogAction::Sync { .. }) {
                // What this flush covers is what will be published together.
                self.groups.seal();
            }
            return Some(Output::Log(action));
        }
        if let Some(batch) = self.groups.take_open(self.log.durable_zxid()) {
            return Some(Output::Publish(batch));
        }
        if self.snapshots.take_due(self.tree.applied()) {
            return Some(Output::Snapshot(self.tree.begin_image()));
        }
        self.poll_stopped()
    }

    /// After a `Publish` batch is on the stream: moves `applied` to its last zxid.
    pub fn published(&mut self, last_zxid: Zxid) {
        assert!(last_zxid <= self.log.durable_zxid(), "{last_zxid} published before it was durable");
        if last_zxid > self.tree.applied() {
            self.tree.commit(last_zxid);
        }
        self.sessions.committed(last_zxid);
    }

    /// When to call `handle` with `Timeout`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.stop != Stop::No {
            return None;
        }
        if self.sessions.has_due() && self.log.can_append() {
            return Some(Instant(0)); // at once
        }
        let look = (!self.sessions.is_empty()).then(|| self.pauses.next_look());
        [self.sessions.next_due(), self.removals.next_due(), look].into_iter().flatten().min()
    }

    /// False: leave messages in the shards' queues (log at its unsynced limit, too many outstanding, or stopping).
    #[must_use]
    pub fn admits(&self) -> bool {
        self.stop == Stop::No
            && self.backlog.is_empty()
            && self.log.can_append()
            && self.groups.outstanding() < self.config.global_outstanding_limit.max(1)
    }

    /// Reclaims retired tree versions; call once per turn.
    pub fn reclaim(&mut self) {
        self.tree.reclaim(RECLAIM_BUDGET);
    }

    /// For readers, at start-up.
    pub fn tree_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }

    /// Everything admin commands want to know. Lists sessions and ephemerals: work and memory of their number.
    #[must_use]
    pub fn report(&self, now: Instant) -> ReplicaReport {
        ReplicaReport {
            sessions: self.sessions.report(now),
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
            outstanding: self.groups.outstanding() as u64,
            sessions: Vec::new(),
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
        }
    }

    fn work(&mut self, now: Instant, wall: WallTime) {
        while self.log.can_append() && self.fatal.is_none() {
            let Some(message) = self.backlog.pop_front() else { break };
            self.message(now, wall, message);
        }
        if self.stop == Stop::No && self.fatal.is_none() {
            self.expire_due(wall);
        }
    }

    fn timeout(&mut self, now: Instant, wall: WallTime) {
        if self.stop == Stop::No {
            self.sessions.tick(now);
            self.remove_due(now, wall);
        }
    }

    fn poll_stopped(&mut self) -> Option<Output> {
        if self.stop != Stop::Draining || !self.groups.is_empty() {
            return None;
        }
        self.log.close();
        if let Some(action) = self.log.poll_action() {
            return Some(Output::Log(action));
        }
        if !self.log.is_closed() {
            return None;
        }
        self.stop = Stop::Done;
        Some(Output::Stopped)
    }

    /// The next place in history; `None` (and a fatal output) when there is none left.
    fn next_zxid(&mut self) -> Option<Zxid> {
        let head = self.tree.head_zxid();
        let next = head.next().or_else(|| {
            // A standalone server has nobody to agree with on a new epoch; counter 0 stays unused, as everywhere (B7).
            head.epoch().checked_add(1).map(|epoch| Zxid::new(epoch, 1))
        });
        match next {
            Some(zxid) => assert!(zxid > head && zxid.counter() != 0),
            None => self.fatal = Some(format!("no zxid is left after {head}")),
        }
        next
    }
}

/// Retired bodies freed in one turn.
const RECLAIM_BUDGET: usize = 4096;

/// The first session id of this run: server id, 40 bits of the clock, a counter. Of the wall clock, because a client may come back with the id
/// of any earlier run: time since the machine's start would repeat.
fn first_session_id(server_id: i64, wall: WallTime) -> i64 {
    (((wall.0 as u64) << 24) >> 8) as i64 | server_id << 56
}

/// Plain numbers for admin commands.
#[derive(Clone, Debug, Default)]
pub struct ReplicaReport {
    /// Last committed zxid.
    pub last_zxid: Zxid,
    /// Sizes of the tree.
    pub tree: crate::tree::TreeCounts,
    /// Transactions prepared and not published.
    pub outstanding: u64,
    /// (session, timeout ms, ms until expiry)
    pub sessions: Vec<(SessionId, i32, u64)>,
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{AclVec, ConnId, ConnKey, Xid};
    use crate::proto::connect::ConnectRequest;
    use crate::record::TxnHeader;
    use crate::record::txn::{CreateKind, CreateTxn, Txn};
    use crate::tree::TreeConfig;

    fn config() -> ReplicaConfig {
        ReplicaConfig {
            server_id: 0,
            tick_ms: 1000,
            min_session_timeout_ms: 2000,
            max_session_timeout_ms: 20_000,
            snap_count: 100_000,
            snap_size_limit_bytes: None,
            container_check_interval_ms: 0,
            container_max_per_minute: 0,
            container_max_never_used_ms: 0,
            global_outstanding_limit: 1000,
            log: LogConfig {
                segment_bytes: 4096,
                unsynced_bytes_max: 1 << 20,
                force_sync: true,
                file_bytes_max: None,
                payload_bytes_max: crate::base::limits::TXN_PAYLOAD_MAX,
                dbid: 7,
                epochs: crate::record::epochs::Epochs::NONE,
            },
            seed: 1,
        }
    }

    /// A disk that does everything at once.
    fn settle(replica: &mut Replica, now: Instant) {
        while let Some(output) = replica.poll_output() {
            match output {
                Output::Log(LogAction::Sync { token, .. }) => replica.handle(now, WallTime(2), Input::LogSynced(token)),
                Output::Log(LogAction::Name { file, .. }) => replica.handle(now, WallTime(2), Input::LogOpened(file)),
                Output::Publish(batch) => replica.published(batch.last_zxid),
                _ => {}
            }
        }
    }

    /// Nothing happens but time.
    fn pass(replica: &mut Replica, from_ms: u64, to_ms: u64) {
        for ms in (from_ms..=to_ms).step_by(500) {
            let now = Instant(0).plus_ms(ms);
            replica.handle(now, WallTime(2), Input::Timeout);
            settle(replica, now);
        }
    }

    fn connect(replica: &mut Replica, now: Instant, session: SessionId, conn: u64) -> ConnKey {
        let conn = ConnKey { shard: ShardId(0), conn: ConnId(conn) };
        let password = if session == SessionId::NONE { Vec::new() } else { derived_password(session).to_vec() };
        let request = ConnectRequest { last_zxid_seen: 0, timeout_ms: 4000, session, password, read_only: false, has_read_only: false };
        replica.handle(now, WallTime(2), Input::Shard(ShardId(0), ToReplica::Connect { conn, accepted: now, request }));
        settle(replica, now);
        conn
    }

    #[test]
    fn session_ids_start_at_the_wall_clock_and_pass_over_those_that_live() {
        let ms = 0x19a_bcde_f012;
        let first = 0x01 << 56 | 0x9a_bcde_f012 << 16; // server id, the clock's lower 40 bits, the counter
        assert_eq!(first_session_id(1, WallTime(ms)), first);
        assert_eq!(first_session_id(-1, WallTime(ms)), -1 << 56 | 0x9a_bcde_f012 << 16);
        let mut tree = Tree::new(TreeConfig::default());
        for (zxid, session) in [(1, first), (2, first + 1), (3, first + 3)] {
            let header = TxnHeader { session: SessionId(session), cxid: Xid(0), zxid: Zxid(zxid), time: WallTime(1), kind: -10 };
            let _ = tree.apply(&header, &Txn::CreateSession { timeout_ms: 4000 });
        }
        tree.commit(Zxid(3));
        let mut replica = Replica::new(ReplicaConfig { server_id: 1, ..config() }, tree, Instant(0), WallTime(ms));
        for conn in 0..2 {
            connect(&mut replica, Instant(0), SessionId::NONE, conn);
        }
        let ids: Vec<_> = replica.report(Instant(0)).sessions.iter().map(|(id, ..)| id.0 - first).collect();
        assert_eq!(ids, [0, 1, 2, 3, 4], "three of an earlier run, whose clock was as far, and two new ones");
    }

    #[test]
    fn after_a_standstill_every_session_has_its_whole_timeout_again_a17() {
        let mut replica = Replica::new(config(), Tree::new(TreeConfig::default()), Instant(0), WallTime(2));
        let at = |ms| Instant(0).plus_ms(ms);
        for conn in 0..3 {
            let conn = connect(&mut replica, at(0), SessionId::NONE, conn);
            let session = replica.report(at(0)).sessions.last().expect("opened").0;
            replica.handle(at(0), WallTime(2), Input::Shard(ShardId(0), ToReplica::Detach { conn, session, heard: at(0) }));
        }
        pass(&mut replica, 0, 4_500);
        // It stands still over the moment at which they are due. Their clients wait to be accepted; the timer comes first.
        replica.handle(at(9_000), WallTime(2), Input::Timeout);
        settle(&mut replica, at(9_000));
        let (session, ..) = replica.report(at(9_000)).sessions[0];
        connect(&mut replica, at(9_001), session, 7);
        pass(&mut replica, 9_001, 13_001);
        assert_eq!(replica.report(at(13_001)).sessions.len(), 3, "no shorter than after a restart");
        pass(&mut replica, 13_501, 14_001);
        assert_eq!(replica.report(at(14_001)).sessions.len(), 1, "and no longer");
    }

    #[test]
    fn an_answer_that_waited_too_long_expires_nobody_a17() {
        let mut replica = Replica::new(config(), Tree::new(TreeConfig::default()), Instant(0), WallTime(2));
        let at = |ms| Instant(0).plus_ms(ms);
        let conn = connect(&mut replica, at(0), SessionId::NONE, 1);
        let (session, ..) = replica.report(at(0)).sessions[0];
        replica.handle(at(5000), WallTime(2), Input::Timeout);
        settle(&mut replica, at(5000));
        // The shard heard from it just before it answered; its answer waited for half a minute behind others.
        pass(&mut replica, 5_000, 35_000);
        let answer = ToReplica::Heard { conn, session, heard: at(5000), at: at(5020) };
        replica.handle(at(35_000), WallTime(2), Input::Shard(ShardId(0), answer));
        settle(&mut replica, at(35_000));
        assert_eq!(replica.report(at(35_000)).sessions.len(), 1);
        replica.handle(at(35_000), WallTime(2), Input::Timeout);
        assert_eq!(replica.sessions.next_expired(), None, "asked again, and the question is out");
        let silent = ToReplica::Heard { conn, session, heard: at(5000), at: at(35_020) };
        replica.handle(at(35_030), WallTime(2), Input::Shard(ShardId(0), silent));
        settle(&mut replica, at(35_030));
        assert!(replica.report(at(35_030)).sessions.is_empty(), "silence that the shard has seen counts");
    }

    #[test]
    fn ephemerals_whose_session_does_not_exist_go_by_a_logged_transaction_at_once() {
        let mut tree = Tree::new(TreeConfig::default());
        let header = TxnHeader { session: SessionId(7), cxid: Xid(1), zxid: Zxid(1), time: WallTime(1), kind: 1 };
        let kind = CreateKind::Create { ephemeral: true };
        let create = CreateTxn { kind, path: "/dead", data: None, acl: AclVec::OPEN, parent_cversion: Some(1) };
        let _ = tree.apply(&header, &Txn::Create(create));
        tree.commit(Zxid(1));
        let now = Instant(0).plus_ms(100_000);
        let mut replica = Replica::new(config(), tree, now, WallTime(2));
        assert!(replica.poll_timeout().is_some_and(|at| at <= now), "nobody waits for a tick");
        replica.handle(now, WallTime(2), Input::Timeout);
        settle(&mut replica, now);
        let report = replica.report(now);
        assert_eq!((report.last_zxid, report.ephemerals.len(), report.sessions.len()), (Zxid(2), 0, 0));
    }
}

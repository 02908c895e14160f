//! This server's deterministic brain: prepare, log, publish; sessions and their expiry; when to snapshot.
//!
//! It stands alone, or owns a `Zab` (`member`) and is what that says: leader, learner, or nothing for the time being.
//!
//! `handle(now, wall, Input)`, then `poll_output` until `None`, then `poll_timeout`. Touches no socket, file or clock.
//!
//! Invariants: nothing is published before the log says it is durable and, in an ensemble, before it is committed (P2); entries leave in the order they were prepared, and
//! `applied` moves only by `published`, after the batch is on the stream (A2); a session has one owner connection, and only
//! that one's requests are carried out (A16, L16); nobody is expired before its shard has been asked (A17).

mod backlog;
mod commit;
mod connections;
mod expiry;
mod intake;
mod leading;
mod learner;
mod local;
mod member;
mod password;
mod pauses;
mod read_only;
mod removal;
pub mod report;
mod snapshots;

use crate::base::prng::Prng;
use crate::base::{Instant, ShardId, WallTime, Zxid};
use crate::handoff::{Batch, ToReplica};
use crate::storage::log::{FileId, Log, LogAction, LogConfig, SyncToken};
use crate::tree::{EXPECTED_MAX, Image, Tree};
use crate::zab::{self, LinkId, Role, Stored, Zab, ZabConfig};
use backlog::{Arrival, Backlog};
use commit::Groups;
use connections::Connections;
use expiry::Sessions;
use member::Member;
use pauses::Pauses;
use removal::Removals;
use snapshots::Snapshots;

pub use connections::BalanceNodes;
pub use local::ClientModes;
pub use password::derived_password;
pub use report::{MemberReport, ReplicaReport};

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
    pub modes: ClientModes,
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
    /// So many clients are connected here; `None`: they are not to be counted.
    Connections(Option<u32>),
    /// Begin a clean stop: no more admission; what is appended is flushed, and answered by a server that stands alone.
    Stop,
    /// What the transports to the peers and the epoch files report. `Durable`, `Truncated`, `SnapshotInstalled` and `Timeout` are not among
    /// it: the replica says those itself.
    Peer(zab::Input),
    /// `LogAction::SyncMark` is done.
    MarkSynced,
    /// `LogAction::Cut` is done.
    LogCut,
    /// Answer to `Output::ReceiveSnapshot`: the file of this zxid is whole and durable under its temporary name. (It could
    /// not be had: `Peer` with `SnapshotFailed`.)
    SnapshotReceived(Zxid),
    /// Answer to `Output::LoadSnapshot`: the tree in that file; or why it cannot be loaded.
    SnapshotLoaded(Result<Box<Tree>, String>),
    /// Answer to `Output::InstallSnapshot`.
    SnapshotInstalled,
    /// Answer to `Output::LoadTree`.
    TreeLoaded(Box<Tree>),
}

/// Everything the shell must do.
pub enum Output {
    /// For the log's shell.
    Log(LogAction),
    /// Append to the stream; then call `Replica::published` (which moves `applied`), then `handoff::notify` the shards (A2, A8).
    Publish(Batch),
    /// Write a snapshot on a background thread, then purge if so configured; report with `SnapshotDone`.
    Snapshot(Image),
    /// The snapshot that is being written is of a tree that is going to be replaced: give it up, as soon as may be; `SnapshotDone` follows, whether it
    /// was in time or not.
    AbandonSnapshot,
    /// A broken invariant: print and abort.
    Fatal(String),
    /// After `Stop`: everything is flushed and published, the log is closed.
    Stopped,
    /// For the transports to the peers (`Notify`, `Connect`, `Send`, `Close`, `Config`), the epoch files (`WriteEpoch`), the configuration's (`WriteConfig`) and the
    /// log (`Note`); nothing else.
    Peer(zab::Output),
    /// Stream this image to a learner, before what is sent on the link later; report `SnapshotSent` by `Input::Peer`.
    SendSnapshot {
        /// Where.
        link: LinkId,
        /// What.
        image: Image,
        /// The zxid in its packet.
        told: Zxid,
    },
    /// Read this server's log for a learner (`zab::Output::ReadLog`); report `LogRead` by `Input::Peer`.
    ReadLog {
        /// For whom.
        link: LinkId,
        /// The first zxid wanted.
        from: Zxid,
        /// The last one.
        upto: Zxid,
        /// The first order for this link: refused where the log costs more than an image.
        first: bool,
        /// The log that is being written: its name, now or soon, and how much of it is durable.
        newest: Option<(Zxid, u64)>,
    },
    /// Receive the image that follows on the link into a file under a temporary name, and flush it.
    ReceiveSnapshot {
        /// Where it comes from.
        link: LinkId,
        /// What it is as of.
        zxid: Zxid,
    },
    /// Load the tree from the received file, off the reactor, when the trees replaced before are gone: two would need twice the memory.
    LoadSnapshot {
        /// The image's zxid.
        zxid: Zxid,
    },
    /// The log holds nothing above its zxid any more and is closed: give the received file its name, durably; a failure stops the process.
    InstallSnapshot {
        /// The image's zxid.
        zxid: Zxid,
    },
    /// The log ends at this zxid, having been cut below what the tree has applied, or the tree has made way for an image that is none: read snapshot and
    /// logs of the directory again, off the reactor (spares and locks are in use); a failure stops the process.
    LoadTree {
        /// Where the history on disk ends.
        zxid: Zxid,
    },
    /// Give every shard a reader of the new tree (`Shard::replace_tree`), and drop the old one where that may take its time.
    TreeReplaced {
        /// Counts the trees.
        generation: u64,
        /// What was replaced.
        old: Box<Tree>,
    },
}

/// The one writer.
pub struct Replica {
    config: ReplicaConfig,
    tree: Tree,
    log: Log,
    groups: Groups,
    sessions: Sessions,
    /// Those that only this server knows.
    local: Sessions,
    connections: Connections,
    pauses: Pauses,
    removals: Removals,
    snapshots: Snapshots,
    prng: Prng,
    /// What came while the log was at its limit. From shards at most what one turn of the shell drains.
    backlog: Backlog,
    /// `None`: this server stands alone.
    member: Option<Box<Member>>,
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
        let mut replica = Replica {
            log: Log::new(config.log.clone(), tree.head_zxid()),
            groups: Groups::new(tree.applied()),
            sessions: Sessions::new(config.tick_ms, config.seed),
            local: Sessions::new(config.tick_ms, config.seed),
            connections: Connections::default(),
            pauses: Pauses::new(config.min_session_timeout_ms, now),
            removals: Removals::new(&config, now),
            snapshots: Snapshots::new(&config, &mut prng),
            prng,
            backlog: Backlog::default(),
            member: None,
            next_session: first_session_id(config.server_id, wall),
            expired: 0,
            payload: Vec::new(),
            stop: Stop::No,
            fatal: None,
            tree,
            config,
        };
        replica.open_sessions(now);
        replica
    }

    /// The same as a member of an ensemble, which serves nobody before it has a role. What the tree has beyond what is committed can still be
    /// taken back.
    #[must_use]
    pub fn member(config: ReplicaConfig, tree: Tree, zab: ZabConfig, stored: Stored, now: Instant, wall: WallTime) -> Self {
        assert_eq!(tree.head_zxid(), stored.last_logged, "tree and log are one history");
        let mut replica = Replica::new(config, tree, now, wall);
        let member = Member::new(Zab::new(zab, stored, now), replica.tree.head_zxid(), now, wall, replica.config.seed);
        replica.member = Some(Box::new(member));
        replica.sessions.clear();
        replica
    }

    /// Something happened.
    pub fn handle(&mut self, now: Instant, wall: WallTime, input: Input) {
        self.take_in(now, wall, input);
        self.work(now, wall);
    }

    /// The same, to be dealt with by `work`, which must follow: what arrives together is dealt with together.
    pub fn take_in(&mut self, now: Instant, wall: WallTime, input: Input) {
        if self.pauses.look(now) {
            self.sessions.start_afresh(now);
            self.local.start_afresh(now);
        }
        if let Some(member) = &mut self.member {
            member.wall = wall;
        }
        match input {
            Input::Shard(_, message) if self.stop != Stop::No => drop(message),
            Input::Shard(_, message) => self.arrive(Arrival::Shard(message)),
            Input::LogOpened(file) => self.log.handle_opened(file),
            Input::LogSynced(token) => self.log.handle_synced(token),
            Input::SnapshotDone { zxid, ok } => {
                self.snapshots.done(zxid, ok, wall);
                self.make_way_for_image();
            }
            Input::Timeout => self.timeout(now, wall),
            Input::Connections(own) if self.stop == Stop::No => self.count_connections(now, wall, own),
            Input::Connections(_) => {}
            Input::Stop => self.begin_stop(),
            Input::Peer(input) => self.peer(now, input),
            Input::MarkSynced => self.mark_synced(),
            Input::LogCut => self.log_cut(now),
            Input::SnapshotReceived(zxid) => self.snapshot_received(zxid),
            Input::SnapshotLoaded(loaded) => self.snapshot_loaded(loaded),
            Input::SnapshotInstalled => self.snapshot_installed(now),
            Input::TreeLoaded(tree) => self.tree_loaded(now, tree),
        }
    }

    /// The next thing to do; call until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(why) = self.fatal.take() {
            return Some(Output::Fatal(why));
        }
        if let Some(output) = self.member.as_mut().and_then(|m| m.outbox.pop_front()).or_else(|| self.poll_image()) {
            return Some(output);
        }
        if let Some(batch) = self.take_batch(Groups::take_sealed) {
            return Some(Output::Publish(batch));
        }
        if let Some(action) = self.log.poll_action() {
            if matches!(action, LogAction::Sync { .. }) {
                // What this flush covers is what will be published together.
                self.groups.seal();
            }
            self.tell_durable_late();
            return Some(Output::Log(action));
        }
        if let Some(batch) = self.take_batch(Groups::take_open) {
            return Some(Output::Publish(batch));
        }
        if self.may_snapshot() && self.snapshots.take_due(self.tree.applied()) {
            return Some(Output::Snapshot(self.tree.begin_image()));
        }
        self.poll_stopped()
    }

    /// While held, nothing new is flushed: the shell gives those who have just been answered the chance to be in the next flush.
    pub fn hold_flush(&mut self, held: bool) {
        self.log.hold_flush(held);
    }

    /// A flush would start if it were not held.
    #[must_use]
    pub fn holds_flush(&self) -> bool {
        self.log.holds_flush()
    }

    /// After a `Publish` batch is on the stream: moves `applied` to its last zxid.
    pub fn published(&mut self, last_zxid: Zxid) {
        if last_zxid > self.tree.applied() {
            assert!(last_zxid <= self.log.durable_zxid(), "{last_zxid} published before it was durable");
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
        let peers = self.member.as_ref().and_then(|m| m.zab.poll_timeout());
        let mut due = [peers, self.next_local(), self.next_read_only(), None, None, None];
        if self.decides() {
            if self.sessions.has_due() && self.log.can_append() {
                return Some(Instant(0)); // at once
            }
            (due[3], due[4]) = (self.sessions.next_due(), self.removals.next_due());
        } else {
            due[3] = self.member.as_ref().and_then(|m| m.learner.next_question());
        }
        due[5] = (!self.sessions.is_empty() || !self.local.is_empty()).then(|| self.pauses.next_look());
        due.into_iter().flatten().min()
    }

    /// False: leave messages in the shards' queues (log at its unsynced limit, too many outstanding, or stopping).
    #[must_use]
    pub fn admits(&self) -> bool {
        self.stop == Stop::No
            && self.backlog.is_empty()
            && self.log.can_append()
            && self.outstanding() < self.config.global_outstanding_limit.max(1)
    }

    /// False: leave packets of peers on their links (our own disk is behind). Ask again after every turn.
    #[must_use]
    pub fn admits_packets(&self) -> bool {
        self.backlog.admits_packets()
    }

    /// Reclaims retired tree versions; call once per turn.
    pub fn reclaim(&mut self) {
        self.tree.reclaim(RECLAIM_BUDGET);
    }

    /// The newest transaction prepared or appended.
    #[must_use]
    pub fn head_zxid(&self) -> Zxid {
        self.tree.head_zxid()
    }

    /// Transactions that wait to be published.
    #[must_use]
    pub fn unpublished(&self) -> usize {
        self.groups.outstanding()
    }

    /// Everything up to here is in this server's log, durably.
    #[must_use]
    pub fn durable_zxid(&self) -> Zxid {
        self.log.durable_zxid()
    }

    /// The newest transaction published.
    #[must_use]
    pub fn applied(&self) -> Zxid {
        self.tree.applied()
    }

    /// For readers, at start-up.
    pub fn tree_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }

    fn arrive(&mut self, arrival: Arrival) {
        self.backlog.push(arrival);
    }

    /// Deals with what was taken in.
    pub fn work(&mut self, now: Instant, wall: WallTime) {
        let mut taken = 0usize;
        loop {
            while self.log.can_append() && self.fatal.is_none() {
                if taken.is_multiple_of(EXPECTED_MAX) {
                    self.tree.expect(self.backlog.bodies(self.decides()));
                }
                taken += 1;
                let Some(arrival) = self.backlog.pop() else { break };
                self.arrived(now, wall, arrival);
            }
            if self.stop != Stop::No || !self.follow_orders(now) {
                break;
            }
        }
        if self.stop == Stop::No && self.fatal.is_none() && self.decides() {
            self.expire_due(wall);
            self.follow_orders(now);
        }
        if self.stop == Stop::No {
            self.expire_local();
            self.judge_read_only(now);
        }
    }

    fn timeout(&mut self, now: Instant, wall: WallTime) {
        if self.stop != Stop::No {
            return;
        }
        self.zab_timeout(now);
        self.local.tick(now);
        if self.decides() {
            self.sessions.tick(now);
            self.remove_due(now, wall);
        } else {
            self.ask_shards(now);
        }
    }

    /// A member leaves without waiting for the others: what is not published stays in the log, and is answered to nobody.
    fn begin_stop(&mut self) {
        self.stop = Stop::Draining;
        self.backlog.clear();
        if self.member.is_some() {
            self.groups.forget_clients();
        }
    }

    /// It makes transactions of requests: it stands alone or leads.
    fn decides(&self) -> bool {
        self.member.as_ref().is_none_or(|m| matches!(m.role, Role::Leading { .. }))
    }

    fn is_serving(&self) -> bool {
        self.member.as_ref().is_none_or(|m| m.is_serving())
    }

    /// Only what is committed gets into a snapshot, and none is taken of a history that is being synchronised (A13).
    fn may_snapshot(&self) -> bool {
        self.member.as_ref().is_none_or(|m| m.is_serving() && m.committed >= self.tree.applied())
    }

    /// What admission counts: everything, or in an ensemble what this server's own clients wait for, so that those of others cannot keep
    /// them out.
    fn outstanding(&self) -> usize {
        match &self.member {
            None => self.groups.outstanding(),
            Some(member) => member.learner.outstanding().max(self.groups.own_outstanding()),
        }
    }

    /// All sessions there are, their timers started afresh (P13).
    fn open_sessions(&mut self, now: Instant) {
        for (session, timeout_ms) in self.tree.sessions() {
            self.sessions.open(session, timeout_ms, now);
        }
        self.tree.dead_sessions().into_iter().for_each(|session| self.sessions.open_dead(session));
    }

    fn take_batch(&mut self, alone: impl FnOnce(&mut Groups, Zxid) -> Option<Batch>) -> Option<Batch> {
        let limit = self.limit();
        let Some(member) = &self.member else { return alone(&mut self.groups, limit) };
        self.groups.take_any(limit, member.zab.confirmed())
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
        if let Some(member) = &self.member {
            // None: the epoch's numbers are used up, and this leader is about to step down.
            let next = member.zab.next_zxid();
            assert!(next.is_none_or(|zxid| zxid > head && zxid.counter() != 0), "{next:?} is proposed after {head}");
            return next;
        }
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

#[cfg(test)]
pub(crate) mod tests;

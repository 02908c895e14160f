//! The znode state machine: deterministic, one writer (`Tree`), readers at a zxid (`TreeReader`).
//!
//! Leader, follower and replay change state only through `apply` of a decoded transaction (rule A11); `prepare` validates a request on the
//! newest state, builds and encodes the transaction, applies what it decodes back, and adds the digest. Everything a transaction changes
//! is on one undo log until it is committed (rule A10). It knows no clock, no log, no socket and no watcher: times come in with the
//! transaction, events go out as `Effects`.
//!
//! All state (rule A10); "step" is an entry of the undo log:
//!
//! | state | where, of what time | undone by | in an image |
//! |---|---|---|---|
//! | nodes, their children | `store`: every zxid somebody reads at | `Store` | yes |
//! | sessions and timeouts | `sessions`: head | `Session` | as of `applied`: a copy with the outstanding steps taken back |
//! | closing sessions | none: a session closed at the head is not in `sessions` | | |
//! | ephemerals by session, idle containers, TTL nodes by due time | `sessions`: head | `Entered`, `Left` | derived from the nodes |
//! | ACL lists, their numbers and users | `acls`: head, kept until committed nodes lose them | `AclNew`, `AclUsed`, `AclReleased` | lists known at `applied` |
//! | quotas in force | `quotas`: head | `QuotaArmed`, `QuotaDisarmed` | derived from the nodes |
//! | quota usage | text of the stats nodes, so in `store` | `Store` | recounted when loaded |
//! | tree digest | head, `applied`, and before each outstanding transaction | kept with each transaction | at `applied` |
//! | digest history | committed | never | no |
//! | newest zxid | head | kept with each transaction | `applied` |
//! | configuration | text of "/zookeeper/config", so in `store` | `Store` | yes |
//! | configuration in force, as told | `configuration` | shown again after an undo | no |
//!
//! Invariants:
//! 1. The tree at zxid z is a function of the transactions up to z alone. Numbers of ACL lists and cells, and their order, are not part of it.
//! 2. `digest` is the sum of the node digests at the head after every transaction.
//! 3. The undo log holds exactly the transactions above `applied`; undoing all of them gives the state at `applied`, side tables included.

mod acl;
mod configuration;
mod digest;
mod guarded;
mod image;
mod listing;
mod multi_read;
mod op;
mod quota;
mod read;
mod sessions;
pub mod store;
#[cfg(test)]
mod tests;
mod undo;
mod znode;

pub use acl::permits;
pub use guarded::Guarded;
pub use image::{Image, ImageDigest, ImageError, ImageLoader, load_image};
pub use listing::Listing;
pub use quota::QuotaSums;
pub use read::TreeReader;

use crate::base::limits::TXN_PAYLOAD_MAX;
use crate::base::{AclList, AclVec, Auth, SessionId, WallTime, Writer as _, Xid, Zxid};
use crate::proto::{ErrorCode, EventType, Request};
use crate::record::header::TXN_HEADER_BYTES;
use crate::record::txn::{DIGEST_VERSION, decode_payload};
use crate::record::{Txn, TxnDigest, TxnHeader, TxnType};
use acl::AclTable;
use configuration::Configuration;
use digest::{DIGEST_BYTES, History};
use imbl::OrdSet;
use op::Stamp;
use quota::Quotas;
use sessions::Sessions;
use smallvec::SmallVec;
use std::sync::Arc;
pub use store::EXPECTED_MAX;
use store::{Change, ChildChange, DataChange, Writer};
use undo::{Savepoint, UndoLog, UndoOp};
use znode::{CONFIG, QUOTA, ROOT, ZOOKEEPER};

/// From so many bytes of paths and data on a tree is large enough for `memory_front`.
const LARGE_BYTES: u64 = 16 << 20;

/// Settings the tree needs; a small struct by value.
#[derive(Clone, Debug)]
pub struct TreeConfig {
    /// `extendedTypesEnabled`: TTL nodes exist.
    pub extended_types: bool,
    /// `emulate353TTLNodes`: the older TTL encoding is understood too.
    pub emulate_353_ttl: bool,
    /// `enforceQuota`: hard limits refuse writes.
    pub enforce_quota: bool,
    /// `skipACL`: every permission check passes.
    pub skip_acl: bool,
    /// `digest.enabled`: digests are computed, written and compared.
    pub digest_enabled: bool,
    /// `closeSessionTxn.enabled`: the transaction lists the ephemerals.
    pub close_session_txn: bool,
    /// `reconfigEnabled`.
    pub reconfig_enabled: bool,
    /// `DigestAuthenticationProvider.enabled`: ACLs may name `digest` identities.
    pub digest_scheme: bool,
    /// Longest transaction that is logged; a request that would need more is refused with -5.
    pub payload_bytes_max: usize,
    /// Seed of every hash over outside input.
    pub hash_seed: u64,
    /// A bug on purpose, for the simulation to find: the end of a session leaves one of its ephemerals behind (L9).
    #[cfg(feature = "planted-bugs")]
    pub forgets_an_ephemeral: bool,
}

impl Default for TreeConfig {
    /// ZooKeeper's defaults.
    fn default() -> Self {
        TreeConfig {
            extended_types: false,
            emulate_353_ttl: false,
            enforce_quota: false,
            skip_acl: false,
            digest_enabled: true,
            close_session_txn: true,
            reconfig_enabled: false,
            digest_scheme: true,
            payload_bytes_max: TXN_PAYLOAD_MAX,
            hash_seed: 0,
            #[cfg(feature = "planted-bugs")]
            forgets_an_ephemeral: false,
        }
    }
}

/// A request to be prepared: its place in history and who asks.
pub struct Prepare<'a> {
    /// The zxid it takes, whatever it comes to.
    pub zxid: Zxid,
    /// The leader's wall clock.
    pub time: WallTime,
    /// Who asks; 0 for the server itself.
    pub session: SessionId,
    /// The client's request number.
    pub cxid: Xid,
    /// Identities of the connection.
    pub auth: &'a Auth,
}

/// A change a watcher may want to know of, in firing order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEvent {
    /// NodeCreated, NodeDeleted or NodeDataChanged of `path`. The NodeChildrenChanged of the parent is carried by `parent_acl`.
    pub kind: EventType,
    /// The node.
    pub path: Box<str>,
    /// ACL of the node itself (as it was, for a delete); the READ check at fire time uses it (rule B9).
    pub acl: Arc<AclList>,
    /// For create and delete: the parent's ACL, for the NodeChildrenChanged that follows. `None` for data changes.
    pub parent_acl: Option<Arc<AclList>>,
}

/// What applying a transaction did, beyond the tree.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Effects {
    /// In firing order.
    pub events: SmallVec<[NodeEvent; 1]>,
    /// The session this transaction ended.
    pub closed_session: Option<SessionId>,
    /// Nobody watches: there are no events.
    unheard: bool,
}

impl Effects {
    fn event(&mut self, event: impl FnOnce() -> NodeEvent) {
        if !self.unheard {
            self.events.push(event());
        }
    }
}

/// What a prepared request came to.
pub struct Prepared {
    /// Code in the reply header (a failed multi is `Ok` here; its errors are in the body).
    pub err: ErrorCode,
    /// What it did.
    pub effects: Effects,
}

/// The one writer's tree.
pub struct Tree {
    config: TreeConfig,
    store: Writer,
    acls: AclTable,
    sessions: Sessions,
    quotas: Quotas,
    undo: UndoLog,
    /// Newest zxid applied, committed or not.
    head: Zxid,
    /// Digest at the head.
    digest: u64,
    /// Digest at `applied`.
    committed_digest: u64,
    history: History,
    /// What the configuration node is to show.
    configuration: Configuration,
    /// Digest that came with the image this tree was loaded from, and where in history it belongs: until then the state may be a fuzzy
    /// one (rule A12).
    image_digest: Option<ImageDigest>,
}

impl Tree {
    /// A fresh tree with the system nodes of a first start (semantics section 4), at zxid 0, everything committed.
    pub fn new(config: TreeConfig) -> Self {
        let mut tree = Tree::empty(config);
        tree.add_missing_system_nodes(Zxid::ZERO);
        tree.seal_loaded(Zxid::ZERO);
        tree
    }

    /// A fresh tree with the settings of this one.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Tree::new(self.config.clone())
    }

    /// Validates `request` (a write) on the newest state, appends the transaction payload (header + body + digest) to `payload`, applies
    /// it uncommitted, and appends the *body* of the client's reply to `reply` (nothing when err != Ok). Always consumes the zxid.
    pub fn prepare(&mut self, p: &Prepare<'_>, request: &Request<'_>, payload: &mut Vec<u8>, reply: &mut Vec<u8>) -> Prepared {
        match request {
            Request::CloseSession => return self.prepare_close_session(p, payload),
            Request::Multi(parts) => {
                let start = payload.len();
                let header = self.begin(p, TxnType::Multi, payload);
                let stamp = Stamp::new(&header, self.head);
                let effects = self.prepare_multi(p, &stamp, parts, payload, reply, start);
                return self.end_prepared(&header, effects, payload);
            }
            _ => {}
        }
        let Some(kind) = op::txn_type(request).filter(|k| *k != TxnType::Check) else {
            return self.prepare_error(p, ErrorCode::Unimplemented, payload);
        };
        self.prepare_one(p, kind, payload, reply, |tree, payload| tree.build(p, request, payload))
    }

    /// The same for a configuration of the ensemble, which the leader has made of a request: what is left to judge is whether its client may.
    pub fn prepare_reconfig(&mut self, p: &Prepare<'_>, text: &str, payload: &mut Vec<u8>, reply: &mut Vec<u8>) -> Prepared {
        self.prepare_one(p, TxnType::Reconfig, payload, reply, |tree, payload| tree.build_reconfig(p, text, payload))
    }

    fn prepare_one(
        &mut self,
        p: &Prepare<'_>,
        kind: TxnType,
        payload: &mut Vec<u8>,
        reply: &mut Vec<u8>,
        build: impl FnOnce(&Tree, &mut Vec<u8>) -> Result<(), ErrorCode>,
    ) -> Prepared {
        let start = payload.len();
        TxnHeader { session: p.session, cxid: p.cxid, zxid: p.zxid, time: p.time, kind: kind as i32 }.write(payload);
        let mut built = build(self, payload);
        if payload.len() - start > self.config.payload_bytes_max - DIGEST_BYTES {
            built = Err(ErrorCode::Marshalling); // a record readers would refuse is never logged (rule L11)
        }
        if let Err(err) = built {
            payload.truncate(start);
            return self.prepare_error(p, err, payload);
        }
        let (header, txn, _) = decode_payload(&payload[start..]).expect("what was just built can be decoded (rule L11)");
        self.open_frame(&header);
        let mut effects = Effects::default();
        let cell = self.apply_one(&Stamp::new(&header, self.head), &txn, &mut effects);
        self.write_result(op::answered_as(&txn), &txn, cell, reply);
        self.end_prepared(&header, effects, payload)
    }

    /// The error transaction for a request refused before validation (session closing, moved, undecodable on a leader).
    pub fn prepare_error(&mut self, p: &Prepare<'_>, err: ErrorCode, payload: &mut Vec<u8>) -> Prepared {
        let header = self.begin(p, TxnType::Error, payload);
        payload.put_i32(err.code());
        self.head = self.head.max(header.zxid);
        Prepared { err, effects: Effects::default() }
    }

    /// Opens the session `p.session`.
    pub fn prepare_create_session(&mut self, p: &Prepare<'_>, timeout_ms: i32, payload: &mut Vec<u8>) -> Prepared {
        let header = self.begin(p, TxnType::CreateSession, payload);
        payload.put_i32(timeout_ms);
        self.apply_create_session(&Stamp::new(&header, self.head), timeout_ms);
        self.end_prepared(&header, Effects::default(), payload)
    }

    /// Ends the session `p.session` and deletes its ephemerals.
    pub fn prepare_close_session(&mut self, p: &Prepare<'_>, payload: &mut Vec<u8>) -> Prepared {
        let start = payload.len();
        let header = self.begin(p, TxnType::CloseSession, payload);
        let mut effects = Effects::default();
        let stamp = Stamp::new(&header, self.head);
        if !self.config.close_session_txn {
            // Without a body there is no digest either: a reader would take it for the body.
            self.apply_close_session(&stamp, None, &mut effects);
            self.head = self.head.max(header.zxid);
            return Prepared { err: ErrorCode::Ok, effects };
        }
        self.write_ephemerals(p.session, payload);
        let body = &payload[start + TXN_HEADER_BYTES..];
        let paths = crate::base::Reader::new(body).string_vec().expect("what was just built can be decoded (rule L11)");
        self.apply_close_session(&stamp, Some(paths), &mut effects);
        self.end_prepared(&header, effects, payload)
    }

    /// Applies a decoded transaction on top, uncommitted. Total: every transaction that decodes has a defined effect (L22); one at or below
    /// `applied` has none, since history has it already. Returns the effects.
    pub fn apply(&mut self, header: &TxnHeader, txn: &Txn<'_>) -> Effects {
        self.apply_with(header, txn, Effects::default())
    }

    /// The same where nobody watches.
    pub fn apply_unheard(&mut self, header: &TxnHeader, txn: &Txn<'_>) {
        self.apply_with(header, txn, Effects { unheard: true, ..Effects::default() });
    }

    fn apply_with(&mut self, header: &TxnHeader, txn: &Txn<'_>, mut effects: Effects) -> Effects {
        if header.zxid <= self.applied() {
            return effects;
        }
        self.open_frame(header);
        self.apply_one(&Stamp::new(header, self.head), txn, &mut effects);
        self.head = self.head.max(header.zxid);
        effects
    }

    /// Applies a decoded transaction like `apply`, and appends the body of its client's reply exactly as `prepare` did where the transaction
    /// was made: the client's server need not be the one that prepared.
    pub fn apply_answering(&mut self, header: &TxnHeader, txn: &Txn<'_>, reply: &mut Vec<u8>) -> Prepared {
        if header.zxid <= self.applied() {
            return Prepared { err: ErrorCode::Ok, effects: Effects::default() };
        }
        self.open_frame(header);
        let (mut effects, mut err) = (Effects::default(), ErrorCode::Ok);
        let stamp = Stamp::new(header, self.head);
        match txn {
            Txn::Multi(parts) if op::multi::has_moved(parts) => err = ErrorCode::SessionMoved,
            Txn::Multi(parts) => self.apply_multi(&stamp, parts, &mut effects, Some(reply)),
            Txn::Error { code } => err = ErrorCode::from_i32(*code),
            txn => {
                let cell = self.apply_one(&stamp, txn, &mut effects);
                self.write_result(op::answered_as(txn), txn, cell, reply);
            }
        }
        self.head = self.head.max(header.zxid);
        Prepared { err, effects }
    }

    /// What is applied from now on is history that nobody reads yet and nobody takes back: the versions and undo steps that would serve that
    /// are not made. Ends with `end_replay`, when all of it is committed. Precondition: everything is committed.
    pub fn begin_replay(&mut self) {
        self.undo.set_forgets(true);
        self.store.begin_alone();
    }
    /// See `begin_replay`.
    pub fn end_replay(&mut self) {
        assert!(self.head == self.applied(), "replayed history is committed");
        self.undo.set_forgets(false);
        self.store.end_alone();
    }

    /// Compares the digest of the newest transaction with the tree's; `None` when not comparable. Where the digest of the image this tree
    /// was loaded from belongs (right after loading, or when replay reaches it), that one is compared too.
    pub fn digest_matches(&self, digest: Option<&TxnDigest>) -> Option<bool> {
        let image = self.image_digest.filter(|d| d.zxid >= self.head);
        if !self.config.digest_enabled || image.is_some_and(|d| d.zxid > self.head) {
            return None;
        }
        let known = [image.map(|d| d.digest), digest.copied()];
        known.into_iter().flatten().filter(|d| d.version == DIGEST_VERSION).map(|d| d.digest == self.digest).reduce(|a, b| a && b)
    }

    /// True while this tree, loaded from an image written during changes, may not be served, snapshotted or compared (rule A12).
    pub fn is_fuzzy(&self) -> bool {
        self.image_digest.is_some_and(|d| d.zxid > self.head)
    }

    /// Commits everything up to `zxid` (published to readers by this call; the caller has put the batch on the stream first: A2).
    pub fn commit(&mut self, zxid: Zxid) {
        self.store.commit(zxid);
        self.acls.commit(zxid);
        while let Some((done, digest_after)) = self.undo.forget_committed(zxid) {
            self.committed_digest = digest_after.unwrap_or(self.digest);
            if self.config.digest_enabled && self.image_digest.is_none_or(|d| done >= d.zxid) {
                self.history.note(done, self.committed_digest);
            }
        }
    }

    /// Undoes everything above `zxid` that is not committed.
    pub fn undo_above(&mut self, zxid: Zxid) {
        assert!(zxid >= self.applied(), "what is committed stays");
        while let Some(frame) = self.undo.newest_above(zxid) {
            while let Some(step) = self.undo.pop_of_newest() {
                self.take_back(step);
            }
            self.undo.drop_newest();
            self.digest = frame.digest_before;
            self.head = frame.head_before;
        }
        assert!(zxid > self.applied() || (self.undo.is_empty() && self.store.uncommitted_len() == 0), "nothing is left to undo (rule B11)");
        self.configuration.unsettle();
    }

    /// The configuration in force, of which there need not be a transaction: the node shows it from now on, or from the next transaction on
    /// where some are not committed. It is no part of what the transactions make of the tree, nor of the digest.
    pub fn show_configuration(&mut self, text: Arc<str>, version: i64, time: WallTime) {
        self.configuration.set(text, version, time);
        if self.undo.is_empty() && self.head == self.applied() {
            let stamp = self.head;
            self.open_frame_at(stamp);
            self.store.commit(stamp);
            self.undo = UndoLog::default();
        }
    }

    /// Requests and transactions whose bodies begin so are about to come, some `EXPECTED_MAX` of them: what most begin with is the path of a
    /// node, which is fetched ahead.
    pub fn expect<'a>(&self, bodies: impl IntoIterator<Item = &'a [u8]>) {
        let path_of = |body: &'a [u8]| crate::base::Reader::new(body).string().ok().filter(|path| path.starts_with('/'));
        self.store.expect(bodies.into_iter().take(EXPECTED_MAX).filter_map(path_of));
    }

    /// The published zxid.
    pub fn applied(&self) -> Zxid {
        self.store.applied()
    }
    /// zxid of the newest transaction applied, committed or not.
    pub fn head_zxid(&self) -> Zxid {
        self.head
    }
    /// Frees at most `budget` retired versions; call once per turn.
    pub fn reclaim(&mut self, budget: usize) -> usize {
        self.store.reclaim(budget)
    }
    /// Versions that are not the newest of their node, or gone with it, and not freed: those readers and images still need, and those whose
    /// turn has not come.
    pub fn retained_versions(&self) -> usize {
        self.store.garbage_len()
    }
    /// Where in memory the newest znode lies, once there are many: what is created next lies behind it, more likely than elsewhere. For whoever
    /// readies memory ahead of a long load.
    pub fn memory_front(&self) -> Option<usize> {
        if self.store.data_bytes() < LARGE_BYTES { None } else { self.store.newest_address() }
    }
    /// Read access for one shard.
    pub fn reader(&mut self) -> TreeReader {
        TreeReader::new(self.store.reader(), self.config.skip_acl)
    }
    /// Sessions at the head: (id, timeout ms).
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, i32)> + '_ {
        self.sessions.table().iter().map(|(id, timeout_ms)| (*id, *timeout_ms))
    }
    /// True when the session exists at the head and is not closed by an uncommitted transaction.
    pub fn has_session(&self, session: SessionId) -> bool {
        self.sessions.table().contains_key(&session)
    }
    /// Changes a session's timeout in memory (reconnect renegotiates it; no transaction).
    pub fn set_session_timeout(&mut self, session: SessionId, timeout_ms: i32) {
        self.sessions.set_timeout(session, timeout_ms);
    }
    /// Ephemeral paths of a session at the head, sorted.
    pub fn ephemerals(&self, session: SessionId) -> Vec<String> {
        let nodes = self.sessions.ephemerals(session).filter_map(|c| self.store.head_of(c));
        let mut paths: Vec<String> = nodes.map(|n| n.path().to_owned()).collect();
        paths.sort_unstable();
        paths
    }
    /// The cells of a session's ephemerals at the head: shared, not copied.
    pub fn ephemeral_cells(&self, session: SessionId) -> OrdSet<u32> {
        self.sessions.ephemeral_cells(session)
    }
    /// All sessions with ephemerals at the head, for `dump`.
    pub fn ephemerals_by_session(&self) -> Vec<(SessionId, Vec<String>)> {
        self.sessions.owners().map(|id| (id, self.ephemerals(id))).collect()
    }

    /// Containers and TTL nodes due for removal at `now`, at most `max` (semantics section 6). A container must have had a child, or be
    /// older than `max_never_used_ms` if that is positive.
    pub fn due_for_removal(&self, now: WallTime, max_never_used_ms: i64, max: usize) -> Vec<String> {
        let node = |cell| self.store.head_of(cell);
        let containers = self.sessions.idle_containers().filter_map(node).filter(|n| {
            let meta = n.meta();
            meta.cversion > 0 || (max_never_used_ms > 0 && now.0.saturating_sub(meta.mtime) > max_never_used_ms)
        });
        let ttls = self.sessions.passed_ttls(now).filter_map(node).filter(|n| n.children_len() == 0);
        containers.chain(ttls).take(max).map(|n| n.path().to_owned()).collect()
    }

    /// Sessions that own ephemerals and do not exist, as a fuzzy image can leave them. Whoever writes the log ends them by a transaction each:
    /// without one, the tree would not be what the history gives, nor the digests that are logged from then on.
    pub fn dead_sessions(&self) -> Vec<SessionId> {
        self.sessions.owners().filter(|id| !self.has_session(*id)).collect()
    }

    /// What a snapshot at `applied` needs: a held zxid and the side tables as of it.
    pub fn begin_image(&mut self) -> Image {
        let applied = self.applied();
        let mut table = self.sessions.table().clone();
        for step in self.undo.steps_above(applied) {
            if let UndoOp::Session(id, before) = step {
                sessions::undo_in(&mut table, *id, *before);
            }
        }
        let digest = self.config.digest_enabled.then_some(TxnDigest { version: DIGEST_VERSION, digest: self.committed_digest });
        Image::new(self.store.hold(), table, self.acls.numbers().clone(), digest)
    }

    /// Numbers for srvr and mntr.
    pub fn counts(&self) -> TreeCounts {
        TreeCounts {
            znodes: self.store.node_count() as u64 + 1,
            ephemerals: self.sessions.ephemeral_count(),
            data_bytes: self.store.data_bytes(),
            sessions: self.sessions.table().len() as u64,
        }
    }

    /// (zxid, digest) for each committed zxid divisible by 128, newest 1024, oldest first (4lw `hash`).
    pub fn digest_history(&self) -> Vec<(Zxid, u64)> {
        self.history.to_vec()
    }

    fn empty(config: TreeConfig) -> Self {
        Tree {
            store: Writer::new(config.hash_seed),
            acls: AclTable::new(config.hash_seed),
            sessions: Sessions::default(),
            quotas: Quotas::new(config.hash_seed),
            undo: UndoLog::default(),
            head: Zxid::ZERO,
            digest: 0,
            committed_digest: 0,
            history: History::default(),
            configuration: Configuration::default(),
            image_digest: None,
            config,
        }
    }

    /// Makes those of the system nodes that are not there, outside any transaction, without a trace in their parent's stat.
    fn add_missing_system_nodes(&mut self, stamp: Zxid) {
        self.undo.begin(stamp, self.head, self.digest);
        for path in [ROOT, ZOOKEEPER, QUOTA, CONFIG] {
            if self.store.head(path).is_some() {
                continue;
            }
            let mut meta = store::NodeMeta::default();
            let acl = if path == CONFIG {
                meta.aversion = -1;
                self.acls.acquire(AclVec::WORLD_READ, stamp, &mut self.undo)
            } else {
                self.acls.open()
            };
            let cell = self.store.create(stamp, path, &meta, Some(b""), &acl);
            self.digest = self.digest.wrapping_add(digest::of_node(path, Some(b""), &meta));
            if let Some(parent) = znode::parent_text(path).filter(|_| path != ROOT).and_then(|p| self.store.head(p)) {
                let (parent, meta) = (parent.cell(), parent.meta());
                self.store.change(stamp, parent, &Change { meta, data: DataChange::Keep, acl: None, children: ChildChange::Add(cell) });
            }
        }
    }

    /// Ends loading: everything is committed at `stamp`, nothing can be undone.
    fn seal_loaded(&mut self, stamp: Zxid) {
        self.store.commit(stamp);
        while self.store.reclaim(usize::MAX) > 0 {}
        self.undo = UndoLog::default();
        self.head = stamp;
        self.committed_digest = self.digest;
    }

    /// Opens the frame and appends the header of a transaction that is built here.
    fn begin(&mut self, p: &Prepare<'_>, kind: TxnType, payload: &mut Vec<u8>) -> TxnHeader {
        let header = TxnHeader { session: p.session, cxid: p.cxid, zxid: p.zxid, time: p.time, kind: kind as i32 };
        header.write(payload);
        self.open_frame(&header);
        header
    }
    fn open_frame(&mut self, header: &TxnHeader) {
        self.open_frame_at(header.zxid.max(self.head));
    }
    fn open_frame_at(&mut self, stamp: Zxid) {
        self.undo.begin(stamp, self.head, self.digest);
        self.settle_configuration(stamp);
    }
    /// Ends a transaction that is not an error: the digest goes to its end.
    fn end_prepared(&mut self, header: &TxnHeader, effects: Effects, payload: &mut Vec<u8>) -> Prepared {
        self.head = self.head.max(header.zxid);
        if self.config.digest_enabled {
            TxnDigest { version: DIGEST_VERSION, digest: self.digest }.write(payload);
        }
        Prepared { err: ErrorCode::Ok, effects }
    }

    /// Back to a savepoint of the open transaction.
    fn roll_back(&mut self, savepoint: &Savepoint) {
        while let Some(step) = self.undo.pop_to(savepoint) {
            self.take_back(step);
        }
        self.digest = savepoint.digest;
    }
    fn take_back(&mut self, step: UndoOp) {
        match step {
            UndoOp::Store => self.store.undo_last(),
            UndoOp::Session(id, before) => self.sessions.undo_session(id, before),
            UndoOp::Entered(kept, cell) => self.sessions.undo_enter(kept, cell),
            UndoOp::Left(kept, cell) => self.sessions.undo_leave(kept, cell),
            UndoOp::AclNew(id) => self.acls.undo_new(id),
            UndoOp::AclUsed(id) => self.acls.undo_used(id, self.store.applied()),
            UndoOp::AclReleased(id, unused_since) => self.acls.undo_released(id, unused_since),
            UndoOp::QuotaArmed(path) => assert!(self.quotas.disarm(&path), "armed before"),
            UndoOp::QuotaDisarmed(path) => assert!(self.quotas.arm(&path), "not armed before"),
        }
    }
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tree({} of {})", self.applied(), self.head)
    }
}

/// What the paths that getEphemerals gives must start with: null, blank and the root, with blanks around it or not, stand for all.
pub fn ephemeral_prefix(asked: Option<&str>) -> &str {
    asked.filter(|p| !matches!(p.trim(), "" | ROOT)).unwrap_or(ROOT)
}

/// For srvr, mntr.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct TreeCounts {
    /// As ZooKeeper counts: the root twice.
    pub znodes: u64,
    /// Of all sessions.
    pub ephemerals: u64,
    /// Path and data bytes.
    pub data_bytes: u64,
    /// Open sessions.
    pub sessions: u64,
}

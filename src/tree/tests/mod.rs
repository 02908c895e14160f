//! Tests of the tree as a whole. All of them run on the versioned cells and, with the feature `plain-store`, on their naive twin.

mod golden;
mod image;
mod model;
mod ops;
mod props;
mod quota;
mod random;
mod reads;
mod sessions;
mod undo;

use super::store::{CellId, NodeMeta};
use super::znode::Owner;
use super::*;
use crate::base::jute::Reader;
use crate::base::stat::Stat;
use crate::base::{AclVec, AuthId};
use crate::proto::OpCode;
use crate::proto::request::CreateRequest;
use std::collections::BTreeMap;

/// World readable, nothing else.
pub(super) const READ_ONLY: AclVec<'static> = AclVec::WORLD_READ;

/// A tree with a clock and a zxid of its own, and everything it logged.
pub(super) struct Rig {
    pub(super) tree: Tree,
    pub(super) zxid: u64,
    pub(super) now: i64,
    pub(super) session: SessionId,
    pub(super) auth: Auth,
    pub(super) log: Vec<Vec<u8>>,
    /// Commit after every request.
    pub(super) commit: bool,
}

/// What a request came to: error, reply body, effects.
pub(super) struct Outcome {
    pub(super) err: ErrorCode,
    pub(super) reply: Vec<u8>,
    pub(super) effects: Effects,
}

impl Rig {
    pub(super) fn new() -> Rig {
        Rig::with(TreeConfig { extended_types: true, hash_seed: 7, ..TreeConfig::default() })
    }
    pub(super) fn with(config: TreeConfig) -> Rig {
        let auth = auth(&[("ip", "127.0.0.1")]);
        let mut rig = Rig { tree: Tree::new(config), zxid: 0, now: 1000, session: SessionId(0x77), auth, log: Vec::new(), commit: true };
        rig.open_session(SessionId(0x77));
        rig
    }
    fn step<T>(&mut self, f: impl FnOnce(&mut Tree, &Prepare<'_>, &mut Vec<u8>) -> T) -> T {
        self.zxid += 1;
        self.now += 10;
        let mut payload = b"before".to_vec();
        let auth = self.auth.clone();
        let p = Prepare { zxid: Zxid(self.zxid), time: WallTime(self.now), session: self.session, cxid: Xid(5), auth: &auth };
        let out = f(&mut self.tree, &p, &mut payload);
        assert!(payload.starts_with(b"before"), "what was in the buffer stays");
        self.log.push(payload[6..].to_vec());
        assert_eq!(self.tree.head_zxid(), Zxid(self.zxid), "every request takes its zxid");
        if self.commit {
            self.tree.commit(Zxid(self.zxid));
        }
        out
    }
    pub(super) fn open_session(&mut self, id: SessionId) {
        let me = std::mem::replace(&mut self.session, id);
        self.step(|tree, p, payload| tree.prepare_create_session(p, 4000, payload));
        self.session = me;
    }
    pub(super) fn close_session(&mut self, id: SessionId) -> Effects {
        let me = std::mem::replace(&mut self.session, id);
        let prepared = self.step(|tree, p, payload| tree.prepare_close_session(p, payload));
        self.session = me;
        prepared.effects
    }
    pub(super) fn request(&mut self, request: &Request<'_>) -> Outcome {
        let mut reply = Vec::new();
        let prepared = self.step(|tree, p, payload| tree.prepare(p, request, payload, &mut reply));
        assert!(prepared.err == ErrorCode::Ok || reply.is_empty(), "an error has no body");
        Outcome { err: prepared.err, reply, effects: prepared.effects }
    }
    /// Creates an open persistent node that must not fail.
    pub(super) fn make(&mut self, path: &str) {
        self.make_as(path, 0);
    }
    pub(super) fn make_as(&mut self, path: &str, flags: i32) {
        let out = self.request(&create(path, flags));
        assert_eq!(out.err, ErrorCode::Ok, "{path}");
    }
    pub(super) fn err(&mut self, request: &Request<'_>) -> ErrorCode {
        self.request(request).err
    }
    pub(super) fn stat(&self, path: &str) -> Stat {
        self.tree.store.head(path).unwrap_or_else(|| panic!("{path} is there")).stat().to_stat()
    }
    pub(super) fn data(&self, path: &str) -> Option<Vec<u8>> {
        self.tree.store.head(path).unwrap_or_else(|| panic!("{path} is there")).data().map(<[u8]>::to_vec)
    }
    pub(super) fn exists(&self, path: &str) -> bool {
        self.tree.store.head(path).is_some()
    }
    /// The newest transaction, decoded.
    pub(super) fn last_txn(&self) -> (TxnHeader, Txn<'_>, Option<TxnDigest>) {
        decode_payload(self.log.last().expect("something was logged")).expect("what is logged decodes (rule L11)")
    }
}

pub(super) fn auth(ids: &[(&str, &str)]) -> Auth {
    Auth { ids: ids.iter().map(|(scheme, id)| AuthId { scheme: (*scheme).into(), id: (*id).into() }).collect() }
}
pub(super) fn create(path: &str, flags: i32) -> Request<'_> {
    create_with(OpCode::Create, path, Some(b"d"), AclVec::OPEN, flags, None)
}
pub(super) fn create_with<'a>(
    op: OpCode,
    path: &'a str,
    data: Option<&'a [u8]>,
    acl: AclVec<'a>,
    flags: i32,
    ttl: Option<i64>,
) -> Request<'a> {
    Request::Create(CreateRequest { op, path, data, acl, flags, ttl })
}
pub(super) fn set<'a>(path: &'a str, data: &'a [u8], version: i32) -> Request<'a> {
    Request::SetData { path, data: Some(data), version }
}
pub(super) fn delete(path: &str, version: i32) -> Request<'_> {
    Request::Delete { path, version }
}
pub(super) fn check(path: &str, version: i32) -> Request<'_> {
    Request::Check { path, version }
}
pub(super) fn acl_bytes(entries: &[(i32, &str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_len(entries.len());
    for (perms, scheme, id) in entries {
        out.put_i32(*perms);
        out.put_string(scheme);
        out.put_string(id);
    }
    out
}
pub(super) fn acl_vec(raw: &[u8]) -> AclVec<'_> {
    AclVec::read(&mut Reader::new(raw)).expect("a valid list")
}

/// One node, with its children by name and its ACL by contents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NodeDump {
    pub(super) path: String,
    pub(super) data: Option<Vec<u8>>,
    pub(super) meta: NodeMeta,
    pub(super) stat: Stat,
    pub(super) acl: Vec<u8>,
    pub(super) children: Vec<String>,
}

/// Everything replicated that the tree holds at the head; two equal ones are the same state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Dump {
    pub(super) nodes: Vec<NodeDump>,
    pub(super) sessions: Vec<(SessionId, i32)>,
    pub(super) ephemerals: Vec<(SessionId, Vec<String>)>,
    pub(super) containers: Vec<String>,
    pub(super) ttls: Vec<String>,
    pub(super) quotas: Vec<String>,
    pub(super) digest: u64,
    pub(super) counts: TreeCounts,
    /// Users of each ACL, by contents: numbers are a server's own.
    pub(super) acl_uses: Vec<(Vec<u8>, u64)>,
}

pub(super) fn dump(tree: &Tree) -> Dump {
    let mut nodes = Vec::new();
    let mut todo: Vec<CellId> = tree.store.head("/").map(|n| n.cell()).into_iter().collect();
    while let Some(cell) = todo.pop() {
        let node = tree.store.head_of(cell).expect("a child is there");
        let mut children: Vec<String> =
            node.children().map(|c| tree.store.head_of(c).expect("a child is there").path().to_owned()).collect();
        children.sort();
        todo.extend(node.children());
        nodes.push(NodeDump {
            path: node.path().to_owned(),
            data: node.data().map(<[u8]>::to_vec),
            meta: node.meta(),
            stat: node.stat().to_stat(),
            acl: node.acl().entries().raw().to_vec(),
            children,
        });
    }
    nodes.sort_by(|a, b| a.path.cmp(&b.path));
    let paths = |cells: &mut dyn Iterator<Item = CellId>| {
        let mut all: Vec<String> = cells.map(|c| tree.store.head_of(c).expect("a kept node is there").path().to_owned()).collect();
        all.sort();
        all
    };
    // An image may hold one list under several numbers.
    let mut acl_uses = BTreeMap::new();
    for (_, heads, raw) in tree.acls.dump() {
        *acl_uses.entry(raw).or_default() += heads;
    }
    let acl_uses = acl_uses.into_iter().collect();
    Dump {
        nodes,
        sessions: tree.sessions().collect(),
        ephemerals: tree.ephemerals_by_session(),
        containers: paths(&mut tree.sessions.idle_containers()),
        ttls: paths(&mut tree.sessions.ttls()),
        quotas: tree.quotas.dump().into_iter().map(str::to_owned).collect(),
        digest: tree.digest,
        counts: tree.counts(),
        acl_uses,
    }
}

/// The digest computed from nothing but the nodes.
pub(super) fn recomputed_digest(dump: &Dump) -> u64 {
    dump.nodes.iter().fold(0, |sum, n| sum.wrapping_add(digest::of_node(&n.path, n.data.as_deref(), &n.meta)))
}

/// What must hold in every tree: stats agree with contents, every table agrees with the nodes, the digest with its definition.
pub(super) fn assert_consistent(tree: &Tree) {
    let dump = dump(tree);
    if tree.config.digest_enabled {
        assert_eq!(dump.digest, recomputed_digest(&dump), "incremental digest == recomputed");
    }
    let mut acl_uses: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let (mut ephemerals, mut containers, mut ttls) = (0, 0, 0);
    for node in &dump.nodes {
        assert_eq!(node.stat.num_children as usize, node.children.len(), "{}", node.path);
        assert_eq!(node.stat.data_length as usize, node.data.as_ref().map_or(0, Vec::len), "{}", node.path);
        assert_eq!(
            node.stat.cversion,
            node.meta.cversion.wrapping_mul(2).wrapping_sub(node.children.len() as i32),
            "shown cversion of {}",
            node.path
        );
        match Owner::of(node.meta.owner, &tree.config) {
            Owner::Nobody => {}
            Owner::Session(id) => {
                ephemerals += 1;
                assert!(tree.ephemerals(id).contains(&node.path), "{} is among its session's", node.path);
            }
            Owner::Container => {
                containers += usize::from(node.children.is_empty());
                assert_eq!(dump.containers.contains(&node.path), node.children.is_empty(), "{} is idle or not", node.path);
            }
            Owner::Ttl(ttl) => {
                ttls += 1;
                assert!(dump.ttls.contains(&node.path));
                let due = node.meta.mtime.saturating_add(ttl);
                let passed =
                    |now| tree.sessions.passed_ttls(WallTime(now)).any(|c| tree.store.head_of(c).is_some_and(|n| n.path() == node.path));
                assert_eq!((passed(due), passed(due.saturating_add(1))), (false, due < i64::MAX), "{} is due after its time", node.path);
            }
        }
        if tree.store.head(&node.path).is_some_and(|n| n.acl().id != AclList::OPEN_ID) {
            *acl_uses.entry(node.acl.clone()).or_default() += 1;
        }
    }
    assert_eq!(dump.counts.ephemerals, ephemerals);
    assert_eq!((dump.containers.len(), dump.ttls.len()), (containers, ttls));
    assert_eq!(dump.counts.znodes, dump.nodes.len() as u64 + 1);
    let weight: usize = dump.nodes.iter().map(|n| n.path.len() + n.data.as_ref().map_or(0, Vec::len)).sum();
    assert_eq!(dump.counts.data_bytes, weight as u64);
    let kept: Vec<_> = dump.acl_uses.iter().filter(|(_, heads)| *heads > 0).cloned().collect();
    assert_eq!(kept, acl_uses.into_iter().collect::<Vec<_>>(), "users of ACL lists");
}

/// Applies logged payloads to `tree` as at start-up, checking the digest of each, and commits.
pub(super) fn replay<'a>(tree: &mut Tree, payloads: impl IntoIterator<Item = &'a [u8]>) {
    tree.begin_replay();
    for payload in payloads {
        let (header, txn, digest) = decode_payload(payload).expect("what is logged decodes");
        tree.apply_unheard(&header, &txn);
        assert_ne!(tree.digest_matches(digest.as_ref()), Some(false), "digest after {:?}", header.zxid);
        if header.zxid.0.is_multiple_of(3) {
            tree.commit(tree.head_zxid());
            tree.reclaim(usize::MAX);
        }
    }
    tree.commit(tree.head_zxid());
    tree.end_replay();
}

//! ZooKeeper's snapshot stream ⇄ tree: sections 2 to 5 of the storage format (sessions, ACL table, nodes, end marker). File header,
//! seals, compression and optional sections are storage's.
//!
//! Written images are exact at their zxid (rules A6, B8): a hold on the store, and side tables as of the same zxid. Loaded ones may be
//! Java's fuzzy ones; every body is stamped with the image's zxid, whatever its own numbers say (rule A12).

use super::acl::AclNumbers;
use super::sessions::SessionTable;
use super::store::{CellId, Hold, NodeMeta, NodeView, PATH_BYTES_MAX};
use super::znode::{Owner, ROOT, parent_text};
use super::{EXPECTED_MAX, Tree, TreeConfig, digest};
use crate::base::{AclVec, DecodeError, Reader, SessionId, Writer as _, Zxid};
use crate::record::TxnDigest;
use smallvec::SmallVec;
use std::fmt;

/// One slice of writing ends after so many nodes or bytes, whichever is first: well under a millisecond of reading.
const SLICE_NODES_MAX: usize = 512;
const SLICE_BYTES_MAX: usize = 128 << 10;
/// In the node section this path means the end.
const END_MARKER: &str = "/";

/// A consistent image of the tree at one committed zxid, to be written by a background thread. `Send`.
pub struct Image {
    hold: Hold,
    sessions: SessionTable,
    acls: AclNumbers,
    digest: Option<TxnDigest>,
}

/// It goes to a background thread.
const _: fn() = || {
    fn sendable<T: Send>() {}
    sendable::<Image>();
    sendable::<super::TreeReader>();
};

impl Image {
    pub(super) fn new(hold: Hold, sessions: SessionTable, acls: AclNumbers, digest: Option<TxnDigest>) -> Self {
        Image { hold, sessions, acls, digest }
    }
    /// The zxid it shows; file name, optional sections and digest are all of this one (rule B8).
    pub fn zxid(&self) -> Zxid {
        self.hold.zxid()
    }
    /// Digest of the tree at that zxid; `None` when digests are off.
    pub fn digest(&self) -> Option<TxnDigest> {
        self.digest
    }

    /// Streams sessions, ACL table and nodes (parents first) in ZooKeeper's snapshot layout, sections 2 to 5, to `sink` piece by piece; the
    /// file's header, seals and optional sections are storage's. `sink` may take its time: nothing is read meanwhile, so no memory waits to
    /// be freed for it (rule A6); a slice of reading takes less than a millisecond.
    pub fn write(&mut self, sink: &mut dyn FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
        let mut slice = Slice { out: Vec::with_capacity(2 * SLICE_BYTES_MAX), steps: 0, sink };
        slice.out.put_len(self.sessions.len());
        for (id, timeout_ms) in &self.sessions {
            slice.out.put_i64(id.0);
            slice.out.put_i32(*timeout_ms);
            slice.step()?;
        }
        // Lists first used above this zxid belong to transactions that are not in the image.
        let zxid = self.zxid();
        let listed = || self.acls.iter().filter(|(_, (first, _))| *first <= zxid);
        slice.out.put_len(listed().count());
        for (id, (_, list)) in listed() {
            slice.out.put_i64(*id);
            slice.out.put_raw(list.entries().raw());
            slice.step()?;
        }
        self.write_nodes(&mut slice)?;
        slice.out.put_string(END_MARKER);
        slice.flush()
    }

    fn write_nodes(&mut self, slice: &mut Slice<'_>) -> std::io::Result<()> {
        let mut todo: Vec<CellId> = self.hold.get(ROOT).map(|n| n.cell()).into_iter().collect();
        while let Some(cell) = todo.pop() {
            if let Some(node) = self.hold.node(cell) {
                write_node(&node, &mut slice.out);
                todo.extend(node.children());
            }
            if slice.is_full_after_one_more() {
                self.hold.quiesce();
                slice.flush()?;
            }
        }
        self.hold.quiesce();
        Ok(())
    }
}

/// Output gathered until a slice is full.
struct Slice<'a> {
    out: Vec<u8>,
    steps: usize,
    sink: &'a mut dyn FnMut(&[u8]) -> std::io::Result<()>,
}

impl Slice<'_> {
    /// One more entry is in `out`; a full slice is written out.
    fn step(&mut self) -> std::io::Result<()> {
        if self.is_full_after_one_more() { self.flush() } else { Ok(()) }
    }
    fn is_full_after_one_more(&mut self) -> bool {
        self.steps += 1;
        self.steps >= SLICE_NODES_MAX || self.out.len() >= SLICE_BYTES_MAX
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.steps = 0;
        (self.sink)(&self.out)?;
        self.out.clear();
        Ok(())
    }
}

pub(super) fn write_node(node: &NodeView<'_>, out: &mut Vec<u8>) {
    let path = node.path();
    out.put_string(if path == ROOT { "" } else { path });
    out.put_buffer(node.data());
    out.put_i64(node.acl().id);
    let meta = node.meta();
    for long in [meta.czxid, meta.mzxid, meta.ctime, meta.mtime] {
        out.put_i64(long);
    }
    for int in [meta.version, meta.cversion, meta.aversion] {
        out.put_i32(int);
    }
    out.put_i64(meta.owner);
    out.put_i64(meta.pzxid);
}

/// The digest section of a snapshot file: where in history it belongs, and what it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageDigest {
    /// At or above the zxid of the file's name; above it in a fuzzy image.
    pub zxid: Zxid,
    /// The digest.
    pub digest: TxnDigest,
}

/// Why bytes are no image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ImageError {
    /// A field cannot be decoded; offset into the bytes given.
    Decode(usize, DecodeError),
    /// A node comes before its parent, or without it.
    NoParent(String),
    /// A path twice.
    Twice(String),
    /// The first node is not the root, or there is none.
    NoRoot,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::Decode(at, err) => write!(f, "at byte {at} of the image: {err}"),
            ImageError::NoParent(path) => write!(f, "node {path:?} has no parent before it"),
            ImageError::Twice(path) => write!(f, "node {path:?} comes twice"),
            ImageError::NoRoot => f.write_str("no root node"),
        }
    }
}
impl std::error::Error for ImageError {}

/// Builds a tree from sections 2 to 5 of a snapshot file named `zxid`; `bytes` starts at section 2. Returns how many bytes the sections
/// take: the first seal follows. Every try starts from nothing, so a failed one leaves nothing behind.
///
/// `digest` is the file's digest section, if it has one: it is compared by `Tree::digest_matches`, at once or when replay reaches it.
pub fn load_image(config: TreeConfig, zxid: Zxid, bytes: &[u8], digest: Option<ImageDigest>) -> Result<(Tree, usize), ImageError> {
    let mut loader = ImageLoader::new(config, zxid);
    let taken = loader.take(bytes)?;
    Ok((loader.finish(digest)?, taken))
}

/// A tree being built from an image that comes in pieces.
///
/// Nodes come in pre-order, so a parent is nearly always among the ancestors of the node before, and a node's children are known as a
/// whole when the last of them has come. Other orders below the parents are read all the same, only slower.
pub struct ImageLoader {
    tree: Tree,
    zxid: Zxid,
    stage: Stage,
    /// Bytes of the image taken so far.
    offset: usize,
    ancestors: Vec<Ancestor>,
    /// Path of the last ancestor; those of the others are the beginnings of it.
    path: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Tables,
    Nodes,
    Ended,
}

/// A node whose children may still come.
struct Ancestor {
    path_len: usize,
    cell: CellId,
    children: Vec<CellId>,
}

impl ImageLoader {
    /// Nothing loaded yet.
    pub fn new(config: TreeConfig, zxid: Zxid) -> Self {
        ImageLoader { tree: Tree::empty(config), zxid, stage: Stage::Tables, offset: 0, ancestors: Vec::new(), path: String::new() }
    }

    /// Takes the next piece, which must end where an entry does; the first holds sessions and ACL table whole. Returns how much of it
    /// belongs to the image: what follows the end marker does not.
    pub fn take(&mut self, piece: &[u8]) -> Result<usize, ImageError> {
        let mut r = Reader::new(piece);
        if self.stage == Stage::Tables {
            let loaded = read_side_tables(&mut self.tree, self.zxid, &mut r);
            loaded.map_err(|err| ImageError::Decode(r.position(), err))?;
            self.stage = Stage::Nodes;
        }
        while self.stage == Stage::Nodes && !r.is_empty() {
            self.take_some(&mut r)?;
        }
        // Nobody reads yet: what is loaded needs no undoing, and of a parent only its last version stays.
        self.tree.store.commit(self.zxid);
        self.tree.store.reclaim(usize::MAX);
        self.offset += r.position();
        Ok(r.position())
    }

    /// See `Tree::memory_front`.
    pub fn memory_front(&self) -> Option<usize> {
        self.tree.memory_front()
    }

    /// The tree, after the end marker was taken.
    pub fn finish(mut self, digest: Option<ImageDigest>) -> Result<Tree, ImageError> {
        if self.stage != Stage::Ended {
            return Err(ImageError::Decode(self.offset, DecodeError::Truncated));
        }
        if self.ancestors.is_empty() {
            return Err(ImageError::NoRoot);
        }
        while let Some(ancestor) = self.ancestors.pop() {
            self.complete(&ancestor);
        }
        let (mut tree, zxid) = (self.tree, self.zxid);
        tree.acls.load_done();
        tree.add_missing_system_nodes(zxid);
        tree.load_quotas(zxid);
        tree.seal_loaded(zxid);
        // A digest of nothing (zxid 0), or from before the name's zxid, says nothing about this state.
        tree.image_digest = digest.filter(|d| d.zxid != Zxid::ZERO && d.zxid >= zxid);
        Ok(tree)
    }

    /// So many nodes that their places in memory can be fetched together.
    fn take_some(&mut self, r: &mut Reader<'_>) -> Result<(), ImageError> {
        let mut records = SmallVec::<[NodeRecord<'_>; EXPECTED_MAX]>::new();
        let mut read = Ok(());
        while self.stage == Stage::Nodes && read.is_ok() && records.len() < EXPECTED_MAX && !r.is_empty() {
            let start = r.position();
            match read_node(r, &self.tree.config) {
                Ok(Some(record)) => records.push(record),
                Ok(None) => self.stage = Stage::Ended,
                Err(err) => read = Err(ImageError::Decode(self.offset + start, err)),
            }
        }
        self.tree.store.expect(records.iter().map(|record| record.path));
        records.iter().try_for_each(|record| self.add(record))?;
        read
    }

    fn add(&mut self, record: &NodeRecord<'_>) -> Result<(), ImageError> {
        let parent = if record.path == ROOT { None } else { Some(self.find_parent(record.path)?) };
        let (tree, zxid) = (&mut self.tree, self.zxid);
        let acl = || tree.acls.load_use(record.acl, zxid);
        let created = tree.store.create_if_absent(zxid, record.path, &record.meta, record.data, acl);
        let cell = created.map_err(|_| ImageError::Twice(record.path.to_owned()))?;
        if tree.config.digest_enabled {
            tree.digest = tree.digest.wrapping_add(digest::of_node(record.path, record.data, &record.meta));
        }
        tree.sessions.load(Owner::of(record.meta.owner, &tree.config), &record.meta, cell);
        if let Some(parent) = parent {
            self.ancestors[parent].children.push(cell);
        }
        self.push_ancestor(record.path, cell);
        Ok(())
    }

    /// Place of the parent among the ancestors; those below it are complete.
    fn find_parent(&mut self, path: &str) -> Result<usize, ImageError> {
        let no_parent = || ImageError::NoParent(path.to_owned());
        let parent = parent_text(path).ok_or_else(no_parent)?;
        while let Some(last) = self.ancestors.last() {
            self.path.truncate(last.path_len);
            if self.path == parent {
                return Ok(self.ancestors.len() - 1);
            }
            if self.path == ROOT || parent.strip_prefix(self.path.as_str()).is_some_and(|below| below.starts_with('/')) {
                break; // an ancestor of the parent: the parent itself was left before
            }
            let left = self.ancestors.pop();
            left.into_iter().for_each(|ancestor| self.complete(&ancestor));
        }
        let cell = self.tree.store.head(parent).map(|n| n.cell()).ok_or_else(no_parent)?;
        self.push_ancestor(parent, cell);
        Ok(self.ancestors.len() - 1)
    }

    /// `path` begins with the last ancestor's, which `find_parent` left in `self.path`.
    fn push_ancestor(&mut self, path: &str, cell: CellId) {
        self.path.clear();
        self.path.push_str(path);
        self.ancestors.push(Ancestor { path_len: path.len(), cell, children: Vec::new() });
    }

    fn complete(&mut self, ancestor: &Ancestor) {
        let tree = &mut self.tree;
        let Some(node) = tree.store.head_of(ancestor.cell).filter(|_| !ancestor.children.is_empty()) else { return };
        if node.children_len() == 0 && Owner::of(node.meta().owner, &tree.config) == Owner::Container {
            tree.sessions.load_busy_container(ancestor.cell);
        }
        tree.store.add_children(self.zxid, ancestor.cell, &ancestor.children);
    }
}

fn read_side_tables(tree: &mut Tree, zxid: Zxid, r: &mut Reader<'_>) -> Result<(), DecodeError> {
    let count = r.count(12)?.unwrap_or(0);
    let mut sessions = SessionTable::new();
    for _ in 0..count {
        let id = SessionId(r.i64()?);
        sessions.insert(id, r.i32()?);
    }
    tree.sessions.load_table(sessions);
    let count = r.count(12)?.unwrap_or(0);
    for _ in 0..count {
        let id = r.i64()?;
        let list = AclVec::read(r)?;
        tree.acls.load(id, list, zxid);
    }
    Ok(())
}

/// One node as it lies in the image.
struct NodeRecord<'a> {
    path: &'a str,
    data: Option<&'a [u8]>,
    acl: i64,
    meta: NodeMeta,
}

/// The next node; `None` at the end marker.
fn read_node<'a>(r: &mut Reader<'a>, config: &TreeConfig) -> Result<Option<NodeRecord<'a>>, DecodeError> {
    let path = r.string()?;
    if path.len() > PATH_BYTES_MAX {
        return Err(DecodeError::BadLength(path.len() as i32));
    }
    if path == END_MARKER {
        return Ok(None);
    }
    let data = r.buffer()?;
    let acl = r.i64()?;
    let mut meta = NodeMeta {
        czxid: r.i64()?,
        mzxid: r.i64()?,
        ctime: r.i64()?,
        mtime: r.i64()?,
        version: r.i32()?,
        cversion: r.i32()?,
        aversion: r.i32()?,
        owner: r.i64()?,
        wire_owner: 0,
        pzxid: r.i64()?,
    };
    meta.wire_owner = Owner::of(meta.owner, config).wire();
    Ok(Some(NodeRecord { path: if path.is_empty() { ROOT } else { path }, data, acl, meta }))
}

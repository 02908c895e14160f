//! delete and deleteContainer.

use super::{Stamp, next_version};
use crate::base::Perms;
use crate::base::Writer;
use crate::proto::{ErrorCode, EventType};
use crate::tree::digest::Prefix;
use crate::tree::store::{CellId, Change, ChildChange, DataChange};
use crate::tree::undo::UndoOp;
use crate::tree::znode::{CONTAINER_OWNER, Owner, ROOT, is_special, parent_text};
use crate::tree::{Effects, NodeEvent, Prepare, Tree};
use smallvec::SmallVec;

/// Children that are deleted and still in their parent's set: it gets one new body for all that leave it in a row.
#[derive(Default)]
pub(super) struct Leaving {
    parent: Option<CellId>,
    children: SmallVec<[CellId; 4]>,
}

/// The parent of a path that may be deleted at all.
fn deletable_parent(path: &str) -> Result<&str, ErrorCode> {
    if path.contains('\0') || is_special(path) { Err(ErrorCode::BadArguments) } else { parent_text(path).ok_or(ErrorCode::BadArguments) }
}

impl Tree {
    pub(super) fn build_delete(&self, p: &Prepare<'_>, path: &str, version: i32, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let parent = self.node(deletable_parent(path)?)?;
        self.allow(p, &parent, Perms::DELETE)?;
        let node = self.node(path)?;
        next_version(node.meta().version, version)?;
        if node.children_len() > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        out.put_string(path);
        Ok(())
    }

    /// The server's own removal of containers and TTL nodes. It was decided a while ago, so it is judged again: a node that has since been
    /// replaced by one of another kind, or whose time has been renewed, is left alone.
    pub(super) fn build_delete_container(&self, p: &Prepare<'_>, path: &str, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let parent = deletable_parent(path)?;
        let node = self.node(path)?;
        if node.children_len() > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        let meta = node.meta();
        let due = match Owner::of(meta.owner, &self.config) {
            Owner::Nobody | Owner::Session(_) | Owner::Ttl(0) => false,
            Owner::Container => true,
            Owner::Ttl(ttl_ms) => p.time.0.saturating_sub(meta.mtime) > ttl_ms,
        };
        if !due {
            return Err(ErrorCode::BadVersion);
        }
        self.node(parent)?;
        out.put_string(path);
        Ok(())
    }

    /// Deletes a node; one that is not there still raises its parent's pzxid, as ZooKeeper's replay needs. A node that has children, which
    /// only a replay over a fuzzy image can meet, goes with all of them: what belongs there is created again by the same replay.
    pub(in crate::tree) fn apply_delete(&mut self, stamp: &Stamp, path: &str, effects: &mut Effects) {
        let mut leaving = Leaving::default();
        self.apply_delete_among(stamp, path, &mut leaving, effects);
        self.settle_parent(stamp, &mut leaving);
    }

    /// The same as one of many in one transaction, whose parents `settle_parent` tells of it.
    pub(super) fn apply_delete_among(&mut self, stamp: &Stamp, path: &str, leaving: &mut Leaving, effects: &mut Effects) {
        let Some(parent) = Some(path).filter(|p| *p != ROOT).and_then(|p| self.parent_cell(p, leaving)) else { return };
        let Some((cell, acl)) = self.store.head(path).map(|n| (n.cell(), n.acl().clone())) else {
            self.change_parent_of_deleted(stamp, parent, &[]);
            return;
        };
        for descendant in self.descendants_deepest_first(cell) {
            self.remove_node(stamp, descendant, leaving);
        }
        self.remove_node(stamp, cell, leaving);
        effects.event(|| {
            let parent_acl = self.store.head_of(parent).map(|n| n.acl().clone());
            NodeEvent { kind: EventType::NodeDeleted, path: path.into(), acl, parent_acl }
        });
    }

    /// Takes the children that have left out of their parent's set.
    pub(super) fn settle_parent(&mut self, stamp: &Stamp, leaving: &mut Leaving) {
        if let Some(parent) = leaving.parent.take() {
            self.change_parent_of_deleted(stamp, parent, &std::mem::take(&mut leaving.children));
        }
    }

    /// The parent of a path: mostly that of the path before.
    fn parent_cell(&self, path: &str, leaving: &Leaving) -> Option<CellId> {
        let parent = parent_text(path)?;
        let same = leaving.parent.filter(|cell| self.store.head_of(*cell).is_some_and(|n| n.path() == parent));
        same.or_else(|| self.store.head(parent).map(|n| n.cell()))
    }

    fn descendants_deepest_first(&self, cell: CellId) -> Vec<CellId> {
        let mut found = self.store.head_children(cell);
        let mut next = 0;
        while next < found.len() {
            found.extend(self.store.head_children(found[next]));
            next += 1;
        }
        found.reverse();
        found
    }

    /// Takes one childless node out of every table; its parent learns of it later.
    fn remove_node(&mut self, stamp: &Stamp, cell: CellId, leaving: &mut Leaving) {
        let Some(path) = self.store.head_of(cell).map(|n| Box::<str>::from(n.path())) else { return };
        let parent = self.parent_cell(&path, leaving);
        if leaving.parent != parent {
            // First of all: these may be the node's own children, which change it by leaving.
            self.settle_parent(stamp, leaving);
            leaving.parent = parent;
        }
        leaving.children.extend(parent.map(|_| cell));
        let Some(node) = self.store.head_of(cell) else { return };
        let (meta, acl) = (node.meta(), node.acl().clone());
        let data_len = node.data().map_or(0, <[u8]>::len);
        if self.config.digest_enabled {
            let gone = Prefix::of(&path, node.data()).with(&meta);
            self.add_digest(gone, 0);
        }
        self.store.remove(stamp.at, cell);
        self.undo.push(UndoOp::Store);
        self.acls.release(&acl, stamp.at, &mut self.undo);
        self.sessions.leave(Owner::of(meta.owner, &self.config), &meta, cell, &mut self.undo);
        self.quota_deleted(stamp.at, &path, data_len);
    }

    fn change_parent_of_deleted(&mut self, stamp: &Stamp, parent: CellId, gone: &[CellId]) {
        let Some(node) = self.store.head_of(parent) else { return };
        let before = node.meta();
        let mut meta = before;
        meta.pzxid = meta.pzxid.max(stamp.zxid);
        if node.children_len() == gone.len() && before.owner == CONTAINER_OWNER && !gone.is_empty() {
            self.sessions.enter(Owner::Container, &before, parent, &mut self.undo);
        }
        if meta == before && gone.is_empty() {
            return;
        }
        if self.config.digest_enabled {
            let prefix = Prefix::of(node.path(), node.data());
            let (old, new) = (prefix.with(&before), prefix.with(&meta));
            self.add_digest(old, new);
        }
        let children = if gone.is_empty() { ChildChange::Keep } else { ChildChange::Remove(gone) };
        self.push_change(stamp.at, parent, &Change { meta, data: DataChange::Keep, acl: None, children });
    }
}

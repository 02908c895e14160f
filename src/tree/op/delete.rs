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
        let Some(parent) = parent_text(path).filter(|_| path != ROOT).and_then(|p| self.store.head(p)).map(|n| n.cell()) else { return };
        let Some((cell, acl)) = self.store.head(path).map(|n| (n.cell(), n.acl().clone())) else {
            self.change_parent_of_deleted(stamp, parent, ChildChange::Keep);
            return;
        };
        for descendant in self.descendants_deepest_first(cell) {
            self.remove_node(stamp, descendant);
        }
        self.remove_node(stamp, cell);
        let parent_acl = self.store.head_of(parent).map(|n| n.acl().clone());
        effects.events.push(NodeEvent { kind: EventType::NodeDeleted, path: path.into(), acl, parent_acl });
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

    /// Takes one childless node out of its parent and out of every table.
    fn remove_node(&mut self, stamp: &Stamp, cell: CellId) {
        let Some(node) = self.store.head_of(cell) else { return };
        let (path, meta, acl) = (Box::<str>::from(node.path()), node.meta(), node.acl().clone());
        let data_len = node.data().map_or(0, <[u8]>::len);
        if self.config.digest_enabled {
            let gone = Prefix::of(&path, node.data()).with(&meta);
            self.add_digest(gone, 0);
        }
        if let Some(parent) = parent_text(&path).and_then(|p| self.store.head(p)).map(|n| n.cell()) {
            self.change_parent_of_deleted(stamp, parent, ChildChange::Remove(cell));
        }
        self.store.remove(stamp.at, cell);
        self.undo.push(UndoOp::Store);
        self.acls.release(&acl, stamp.at, &mut self.undo);
        self.sessions.leave(Owner::of(meta.owner, &self.config), &meta, cell, &mut self.undo);
        self.quota_deleted(stamp.at, &path, data_len);
    }

    fn change_parent_of_deleted(&mut self, stamp: &Stamp, parent: CellId, children: ChildChange) {
        let Some(node) = self.store.head_of(parent) else { return };
        let before = node.meta();
        let mut meta = before;
        meta.pzxid = meta.pzxid.max(stamp.zxid);
        if node.children_len() == 1 && before.owner == CONTAINER_OWNER && matches!(children, ChildChange::Remove(_)) {
            self.sessions.enter(Owner::Container, &before, parent, &mut self.undo);
        }
        if meta == before && matches!(children, ChildChange::Keep) {
            return;
        }
        if self.config.digest_enabled {
            let prefix = Prefix::of(node.path(), node.data());
            let (old, new) = (prefix.with(&before), prefix.with(&meta));
            self.add_digest(old, new);
        }
        self.push_change(stamp.at, parent, &Change { meta, data: DataChange::Keep, acl: None, children });
    }
}

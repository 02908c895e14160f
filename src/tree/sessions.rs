//! Sessions, and the nodes that end by themselves: ephemerals by session, containers, TTL nodes. All at the head, undone step by step.
//!
//! Nodes are kept by cell, which is stable while the node exists; orders that reach the outside are made from paths. Containers are here
//! while they have no children, TTL nodes are ordered by when they are due, so that looking for what must go costs nothing for what stays.

use super::store::{CellId, NodeMeta};
use super::undo::{Kept, UndoLog, UndoOp};
use super::znode::Owner;
use crate::base::{SessionId, WallTime};
use imbl::{OrdMap, OrdSet};
use std::collections::{BTreeMap, BTreeSet};

/// Sessions and their timeouts in milliseconds; cheap to copy for an image.
pub(super) type SessionTable = OrdMap<SessionId, i32>;

/// The tables.
#[derive(Default)]
pub(super) struct Sessions {
    table: SessionTable,
    /// By cell number; a list of them goes out without a copy.
    ephemerals: BTreeMap<SessionId, OrdSet<u32>>,
    ephemeral_count: u64,
    idle_containers: BTreeSet<CellId>,
    ttls: BTreeSet<(i64, CellId)>,
}

impl Sessions {
    /// The sessions at the head.
    pub(super) fn table(&self) -> &SessionTable {
        &self.table
    }
    /// Opens a session, or renews its timeout.
    pub(super) fn open(&mut self, id: SessionId, timeout_ms: i32, undo: &mut UndoLog) {
        let before = self.table.insert(id, timeout_ms);
        undo.push(UndoOp::Session(id, before));
    }
    /// Ends a session, if it is there.
    pub(super) fn close(&mut self, id: SessionId, undo: &mut UndoLog) {
        if let Some(before) = self.table.remove(&id) {
            undo.push(UndoOp::Session(id, Some(before)));
        }
    }
    /// Changes a timeout that no transaction carries.
    pub(super) fn set_timeout(&mut self, id: SessionId, timeout_ms: i32) {
        if let Some(timeout) = self.table.get_mut(&id) {
            *timeout = timeout_ms;
        }
    }
    /// Ephemerals of one session.
    pub(super) fn ephemerals(&self, id: SessionId) -> impl Iterator<Item = CellId> + '_ {
        self.ephemerals.get(&id).into_iter().flatten().map(|cell| CellId(*cell))
    }
    /// The same as an immutable set of cell numbers.
    pub(super) fn ephemeral_cells(&self, id: SessionId) -> OrdSet<u32> {
        self.ephemerals.get(&id).cloned().unwrap_or_default()
    }
    /// Sessions that own ephemerals, known or not.
    pub(super) fn owners(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.ephemerals.keys().copied()
    }
    /// Ephemerals of all sessions.
    pub(super) fn ephemeral_count(&self) -> u64 {
        self.ephemeral_count
    }
    /// Containers without children.
    pub(super) fn idle_containers(&self) -> impl Iterator<Item = CellId> + '_ {
        self.idle_containers.iter().copied()
    }
    /// All TTL nodes.
    #[cfg(test)]
    pub(super) fn ttls(&self) -> impl Iterator<Item = CellId> + '_ {
        self.ttls.iter().map(|(_, cell)| *cell)
    }
    /// TTL nodes whose time has passed at `now`, with children or without.
    pub(super) fn passed_ttls(&self, now: WallTime) -> impl Iterator<Item = CellId> + '_ {
        self.ttls.range(..(now.0, CellId(0))).map(|(_, cell)| *cell)
    }
    /// A node has come into the state in which the tables keep its kind.
    pub(super) fn enter(&mut self, owner: Owner, meta: &NodeMeta, cell: CellId, undo: &mut UndoLog) {
        if let Some(kept) = kept(owner, meta) {
            self.insert(kept, cell);
            undo.push(UndoOp::Entered(kept, cell));
        }
    }
    /// A node has left that state, or is gone.
    pub(super) fn leave(&mut self, owner: Owner, meta: &NodeMeta, cell: CellId, undo: &mut UndoLog) {
        if let Some(kept) = kept(owner, meta) {
            self.remove(kept, cell);
            undo.push(UndoOp::Left(kept, cell));
        }
    }
    /// A node of an image, without its children; nothing to undo.
    pub(super) fn load(&mut self, owner: Owner, meta: &NodeMeta, cell: CellId) {
        if let Some(kept) = kept(owner, meta) {
            self.insert(kept, cell);
        }
    }
    /// A container of an image that turned out to have children.
    pub(super) fn load_busy_container(&mut self, cell: CellId) {
        self.remove(Kept::Container, cell);
    }
    /// The sessions of an image.
    pub(super) fn load_table(&mut self, table: SessionTable) {
        self.table = table;
    }

    /// Takes a table change back.
    pub(super) fn undo_session(&mut self, id: SessionId, before: Option<i32>) {
        undo_in(&mut self.table, id, before);
    }
    pub(super) fn undo_enter(&mut self, kept: Kept, cell: CellId) {
        self.remove(kept, cell);
    }
    pub(super) fn undo_leave(&mut self, kept: Kept, cell: CellId) {
        self.insert(kept, cell);
    }

    fn insert(&mut self, kept: Kept, cell: CellId) {
        let new = match kept {
            Kept::Ephemeral(id) => {
                self.ephemeral_count += 1;
                self.ephemerals.entry(id).or_default().insert(cell.0).is_none()
            }
            Kept::Container => self.idle_containers.insert(cell),
            Kept::Ttl(due) => self.ttls.insert((due, cell)),
        };
        assert!(new, "a node is kept once");
    }
    fn remove(&mut self, kept: Kept, cell: CellId) {
        let found = match kept {
            Kept::Ephemeral(id) => {
                let set = self.ephemerals.get_mut(&id).expect("the owner of an ephemeral is known");
                let found = set.remove(&cell.0).is_some();
                if set.is_empty() {
                    self.ephemerals.remove(&id);
                }
                self.ephemeral_count -= 1;
                found
            }
            Kept::Container => self.idle_containers.remove(&cell),
            Kept::Ttl(due) => self.ttls.remove(&(due, cell)),
        };
        assert!(found, "a kept node is in its table");
    }
}

/// Takes a change of a session back in `table`.
pub(super) fn undo_in(table: &mut SessionTable, id: SessionId, before: Option<i32>) {
    match before {
        Some(timeout_ms) => table.insert(id, timeout_ms),
        None => table.remove(&id),
    };
}

fn kept(owner: Owner, meta: &NodeMeta) -> Option<Kept> {
    match owner {
        Owner::Nobody => None,
        Owner::Session(id) => Some(Kept::Ephemeral(id)),
        Owner::Container => Some(Kept::Container),
        Owner::Ttl(0) => Some(Kept::Ttl(i64::MAX)), // only the older encoding can say so: never
        Owner::Ttl(ttl_ms) => Some(Kept::Ttl(meta.mtime.saturating_add(ttl_ms))),
    }
}

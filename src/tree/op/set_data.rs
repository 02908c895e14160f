//! setData, and the setting of the configuration node by a reconfig.

use super::{Stamp, next_version, validate};
use crate::base::Perms;
use crate::proto::{ErrorCode, EventType};
use crate::record::Txn;
use crate::tree::quota::UsageChange;
use crate::tree::store::{CellId, Change, ChildChange, DataChange};
use crate::tree::znode::{CONFIG, CONFIG_VERSION, Owner};
use crate::tree::{Effects, NodeEvent, Prepare, Tree, digest};

impl Tree {
    pub(super) fn build_set_data(
        &self,
        p: &Prepare<'_>,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        out: &mut Vec<u8>,
    ) -> Result<(), ErrorCode> {
        validate(path)?;
        let node = self.node(path)?;
        self.allow(p, &node, Perms::WRITE)?;
        let bytes = data.map_or(0, |d| d.len() as i64) - node.data().map_or(0, |d| d.len() as i64);
        self.check_quota(path, UsageChange { count: 0, bytes })?;
        let version = next_version(node.meta().version, version)?;
        Txn::SetData { path, data, version }.write_body(out);
        Ok(())
    }

    /// The configuration node gets a text that the leader has judged.
    pub(in crate::tree) fn build_reconfig(&self, p: &Prepare<'_>, text: &str, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let node = self.node(CONFIG)?;
        self.allow(p, &node, Perms::WRITE)?;
        Txn::Reconfig { path: CONFIG, data: Some(text.as_bytes()), version: CONFIG_VERSION }.write_body(out);
        Ok(())
    }

    pub(super) fn apply_set_data(
        &mut self,
        stamp: &Stamp,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        effects: &mut Effects,
    ) -> Option<CellId> {
        let node = self.store.head(path)?;
        let (cell, before, acl) = (node.cell(), node.meta(), node.acl().clone());
        let mut meta = before;
        meta.version = version;
        meta.mzxid = stamp.zxid;
        meta.mtime = stamp.time;
        let bytes = data.map_or(0, |d| d.len() as i64) - node.data().map_or(0, |d| d.len() as i64);
        if self.config.digest_enabled {
            let (old, new) = (digest::of_node(path, node.data(), &before), digest::of_node(path, data, &meta));
            self.add_digest(old, new);
        }
        self.push_change(stamp.at, cell, &Change { meta, data: DataChange::Set(data), acl: None, children: ChildChange::Keep });
        let owner = Owner::of(meta.owner, &self.config);
        if matches!(owner, Owner::Ttl(_)) {
            self.sessions.leave(owner, &before, cell, &mut self.undo);
            self.sessions.enter(owner, &meta, cell, &mut self.undo);
        }
        self.charge(stamp.at, path, UsageChange { count: 0, bytes });
        effects.events.push(NodeEvent { kind: EventType::NodeDataChanged, path: path.into(), acl, parent_acl: None });
        Some(cell)
    }
}

//! The node of the ensemble's configuration. Transactions write it, and so does the server itself: a configuration that came with a leader, or
//! from a file, has none. As in ZooKeeper its mzxid is the configuration's version then.

use super::store::{Change, ChildChange, DataChange};
use super::undo::UndoOp;
use super::znode::{CONFIG, CONFIG_VERSION};
use super::{Tree, Zxid};
use crate::base::WallTime;
use std::sync::Arc;

/// The configuration in force.
#[derive(Default)]
pub(super) struct Configuration {
    told: Option<Told>,
    /// Whether the node has been looked at since.
    is_settled: bool,
}

#[derive(Clone)]
struct Told {
    text: Arc<str>,
    version: i64,
    time: WallTime,
}

impl Configuration {
    pub(super) fn set(&mut self, text: Arc<str>, version: i64, time: WallTime) {
        *self = Configuration { told: Some(Told { text, version, time }), is_settled: false };
    }
    /// Something was undone: the node may be an older one again.
    pub(super) fn unsettle(&mut self) {
        self.is_settled = false;
    }
}

impl Tree {
    /// Whether requests may change it (`reconfigEnabled`).
    pub fn changes_configuration(&self) -> bool {
        self.config.reconfig_enabled
    }

    /// What the configuration node says at the head; after a recovery, the newest configuration of the history.
    #[must_use]
    pub fn configuration_text(&self) -> Option<String> {
        let node = self.store.head(CONFIG)?;
        node.data().and_then(|data| std::str::from_utf8(data).ok()).map(str::to_owned)
    }

    /// Makes the node show the configuration in force, as a part of the open frame, unless it shows that or the transaction of a newer one.
    pub(super) fn settle_configuration(&mut self, stamp: Zxid) {
        if std::mem::replace(&mut self.configuration.is_settled, true) {
            return;
        }
        let (Some(told), Some(node)) = (self.configuration.told.clone(), self.store.head(CONFIG)) else { return };
        let (cell, mut meta) = (node.cell(), node.meta());
        let is_proposed = meta.mzxid > told.version && meta.mzxid > self.applied().as_i64();
        if is_proposed || node.data() == Some(told.text.as_bytes()) && meta.mzxid == told.version {
            return;
        }
        (meta.version, meta.mzxid, meta.mtime) = (CONFIG_VERSION, told.version, told.time.0);
        let data = DataChange::Set(Some(told.text.as_bytes()));
        self.store.change(stamp, cell, &Change { meta, data, acl: None, children: ChildChange::Keep });
        self.undo.push(UndoOp::Store);
    }
}

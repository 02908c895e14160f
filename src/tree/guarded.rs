//! Nodes by which the server itself is steered ("/zookeeper/balance" and below): what it may know of them, and who may make them.

use super::store::NodeView;
use super::{Tree, Zxid};
use crate::base::acl::AclEntry;
use crate::base::{Auth, Perms, path};

/// A node, for the server itself.
#[derive(Clone, Debug)]
pub struct Guarded {
    /// The transaction that wrote its data.
    pub mzxid: Zxid,
    /// The version of its ACL.
    pub aversion: i32,
    /// Nobody but the super user may do anything but read it.
    pub is_guarded: bool,
    /// What it says; null is empty.
    pub data: Box<[u8]>,
}

impl Tree {
    /// The node as committed.
    #[must_use]
    pub fn committed(&self, path: &str) -> Option<Guarded> {
        self.store.committed(path).map(|node| self.guarded(&node))
    }

    /// The node as it will be when everything under way is committed.
    #[must_use]
    pub fn newest(&self, path: &str) -> Option<Guarded> {
        self.store.head(path).map(|node| self.guarded(&node))
    }

    fn guarded(&self, node: &NodeView<'_>) -> Guarded {
        let meta = node.meta();
        let only_reads = |entry: AclEntry<'_>| entry.scheme == "super" || entry.perms & !Perms::READ.0 == 0;
        let is_guarded = !self.config.skip_acl && node.acl().entries().iter().all(only_reads);
        Guarded { mzxid: Zxid(meta.mzxid as u64), aversion: meta.aversion, is_guarded, data: node.data().unwrap_or(&[]).into() }
    }

    /// The first of those nodes is for the super user to make: who makes it decides who may write it.
    pub(super) fn may_make(&self, path: &str, auth: &Auth) -> bool {
        path != path::BALANCE || self.config.skip_acl || auth.is_super()
    }
}

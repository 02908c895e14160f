//! Tests of the store as a whole: against a naive model, rule by rule, and with real threads. (`tests/loom_store.rs`: every interleaving.)

mod model;
mod rules;
mod stress;

use super::super::{CellId, Change, ChildChange, DataChange, NodeMeta};
use super::Writer;
use crate::base::{AclList, AclVec, Zxid};
use std::sync::Arc;

fn open_acl() -> Arc<AclList> {
    AclList::new(AclList::OPEN_ID, AclVec::OPEN)
}

fn set(data: &[u8]) -> Change<'_> {
    Change { meta: NodeMeta::default(), data: DataChange::Set(Some(data)), acl: None, children: ChildChange::Keep }
}

fn keep() -> Change<'static> {
    Change { meta: NodeMeta::default(), data: DataChange::Keep, acl: None, children: ChildChange::Keep }
}

/// Creates a node without a parent, with this data.
fn create(writer: &mut Writer, zxid: u64, path: &str, data: &[u8]) -> CellId {
    writer.create(Zxid(zxid), path, &NodeMeta::default(), Some(data), &open_acl())
}

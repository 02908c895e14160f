//! check: a condition inside a multi.

use super::{next_version, validate};
use crate::base::Perms;
use crate::proto::ErrorCode;
use crate::record::Txn;
use crate::tree::{Prepare, Tree};

impl Tree {
    pub(super) fn build_check(&self, p: &Prepare<'_>, path: &str, version: i32, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        validate(path)?;
        let node = self.node(path)?;
        self.allow(p, &node, Perms::READ)?;
        let version = next_version(node.meta().version, version)?;
        Txn::Check { path, version }.write_body(out);
        Ok(())
    }
}

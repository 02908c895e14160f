//! setACL.

use super::{Stamp, next_version, validate};
use crate::base::{AclVec, Perms, Reader};
use crate::proto::ErrorCode;
use crate::record::Txn;
use crate::tree::acl::fix_up;
use crate::tree::digest::Prefix;
use crate::tree::store::{CellId, Change, ChildChange, DataChange};
use crate::tree::{Prepare, Tree};

impl Tree {
    pub(super) fn build_set_acl(
        &self,
        p: &Prepare<'_>,
        path: &str,
        acl: AclVec<'_>,
        version: i32,
        out: &mut Vec<u8>,
    ) -> Result<(), ErrorCode> {
        validate(path)?;
        let fixed = fix_up(p.auth, acl, &self.config)?;
        let node = self.node(path)?;
        self.allow(p, &node, Perms::ADMIN)?;
        let version = next_version(node.meta().aversion, version)?;
        let acl = AclVec::read(&mut Reader::new(&fixed)).map_err(|_| ErrorCode::InvalidAcl)?;
        Txn::SetAcl { path, acl, version }.write_body(out);
        Ok(())
    }

    pub(super) fn apply_set_acl(&mut self, stamp: &Stamp, path: &str, acl: AclVec<'_>, version: i32) -> Option<CellId> {
        let node = self.store.head(path)?;
        let (cell, before, old) = (node.cell(), node.meta(), node.acl().clone());
        let mut meta = before;
        meta.aversion = version;
        if self.config.digest_enabled {
            let prefix = Prefix::of(node.path(), node.data());
            let (was, is) = (prefix.with(&before), prefix.with(&meta));
            self.add_digest(was, is);
        }
        let acl = self.acls.acquire(acl, stamp.at, &mut self.undo);
        self.push_change(stamp.at, cell, &Change { meta, data: DataChange::Keep, acl: Some(acl), children: ChildChange::Keep });
        self.acls.release(&old, stamp.at, &mut self.undo);
        Some(cell)
    }
}

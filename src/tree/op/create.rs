//! create, create2, createContainer, createTTL.

use super::{Stamp, raises_parent_on_replay, validate};
use crate::base::{AclVec, Perms, Reader, path};
use crate::proto::request::CreateRequest;
use crate::proto::{ErrorCode, EventType, OpCode};
use crate::record::txn::{CreateKind, CreateTxn};
use crate::tree::acl::fix_up;
use crate::tree::digest::Prefix;
use crate::tree::quota::UsageChange;
use crate::tree::store::{CellId, Change, ChildChange, DataChange};
use crate::tree::undo::UndoOp;
use crate::tree::znode::{self, CONTAINER_OWNER, Owner, ROOT, parent_text, ttl_owner};
use crate::tree::{Effects, NodeEvent, Prepare, Tree};

/// `CreateMode` as sent in the flags.
#[derive(Clone, Copy)]
struct Mode {
    ephemeral: bool,
    sequential: bool,
    ttl: bool,
}

impl Mode {
    fn from_flags(flags: i32) -> Result<Mode, ErrorCode> {
        let (ephemeral, sequential, ttl) = match flags {
            0 | 4 => (false, false, false),
            1 => (true, false, false),
            2 => (false, true, false),
            3 => (true, true, false),
            5 => (false, false, true),
            6 => (false, true, true),
            _ => return Err(ErrorCode::BadArguments),
        };
        Ok(Mode { ephemeral, sequential, ttl })
    }
}

impl Tree {
    pub(super) fn build_create(&self, p: &Prepare<'_>, request: &CreateRequest<'_>, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let mode = Mode::from_flags(request.flags)?;
        self.check_mode(request, mode)?;
        // Which sessions may write is judged before a request gets here; an ephemeral of nobody would never go away.
        if mode.ephemeral && !self.has_session(p.session) {
            return Err(ErrorCode::SessionExpired);
        }
        if request.path.contains('\0') {
            return Err(ErrorCode::BadArguments);
        }
        let parent_path = parent_text(request.path).ok_or(ErrorCode::BadArguments)?;
        let acl = fix_up(p.auth, request.acl, &self.config)?;
        let parent = self.node(parent_path)?;
        self.allow(p, &parent, Perms::CREATE)?;
        if !self.may_make(request.path, p.auth) {
            return Err(ErrorCode::NoAuth);
        }

        let parent_meta = parent.meta();
        let mut full = String::new();
        let path = if mode.sequential {
            full.push_str(request.path);
            znode::write_suffix(parent_meta.cversion, &mut full);
            &full
        } else {
            request.path
        };
        validate(path)?;
        if self.store.head(path).is_some() {
            return Err(ErrorCode::NodeExists);
        }
        if matches!(Owner::of(parent_meta.owner, &self.config), Owner::Session(_)) {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        self.check_quota(path, UsageChange { count: 1, bytes: request.data.map_or(0, |d| d.len() as i64) })?;

        let acl = AclVec::read(&mut Reader::new(&acl)).map_err(|_| ErrorCode::InvalidAcl)?;
        let kind = match request.op {
            OpCode::CreateContainer => CreateKind::Container,
            OpCode::CreateTtl => CreateKind::Ttl { ttl: request.ttl.unwrap_or(-1) },
            OpCode::Create2 => CreateKind::Create2 { ephemeral: mode.ephemeral },
            _ => CreateKind::Create { ephemeral: mode.ephemeral },
        };
        let parent_cversion = Some(parent_meta.cversion.wrapping_add(1));
        crate::record::Txn::Create(CreateTxn { kind, path, data: request.data, acl, parent_cversion }).write_body(out);
        Ok(())
    }

    /// TTL modes need extended types (-6) and a legal time; a time goes with no other mode (-8). What this lets pass, apply can carry out.
    fn check_mode(&self, request: &CreateRequest<'_>, mode: Mode) -> Result<(), ErrorCode> {
        if mode.ttl && !self.config.extended_types {
            return Err(ErrorCode::Unimplemented);
        }
        let legal = match request.op {
            OpCode::CreateTtl => mode.ttl && request.ttl.and_then(ttl_owner).is_some(),
            _ => !mode.ttl,
        };
        if legal { Ok(()) } else { Err(ErrorCode::BadArguments) }
    }

    pub(super) fn apply_create(&mut self, stamp: &Stamp, txn: &CreateTxn<'_>, effects: &mut Effects) -> Option<CellId> {
        let owner = match txn.kind {
            CreateKind::Create { ephemeral } | CreateKind::Create2 { ephemeral } => {
                if ephemeral {
                    stamp.session.0
                } else {
                    0
                }
            }
            CreateKind::Container => CONTAINER_OWNER,
            CreateKind::Ttl { ttl } => ttl_owner(ttl)?, // a time that cannot be stored: no effect
        };
        // A path no parent's set could name has no effect. (Characters are not judged here: what one version refuses, another logged.)
        if !has_shape_of_path(txn.path) {
            return None;
        }
        let parent = self.store.head(parent_text(txn.path)?)?.cell();
        let meta = znode::newborn(stamp.zxid, stamp.time, owner, &self.config);
        let (acls, undo) = (&mut self.acls, &mut self.undo);
        let cell = match self.store.create_if_absent(stamp.at, txn.path, &meta, txn.data, || acls.acquire(txn.acl, stamp.at, undo)) {
            Ok(cell) => cell,
            Err(existing) => {
                self.refresh_acl(stamp, existing, txn.acl);
                if raises_parent_on_replay(txn.kind) {
                    self.change_parent(stamp, parent, txn.parent_cversion, ChildChange::Keep);
                }
                return None;
            }
        };
        self.undo.push(UndoOp::Store);
        self.change_parent(stamp, parent, txn.parent_cversion, ChildChange::Add(cell));
        if self.config.digest_enabled {
            self.add_digest(0, crate::tree::digest::of_node(txn.path, txn.data, &meta));
        }
        self.sessions.enter(Owner::of(owner, &self.config), &meta, cell, &mut self.undo);
        self.quota_created(stamp.at, txn.path, txn.data);
        effects.event(|| {
            let acl_of = |cell| self.store.head_of(cell).map(|n| n.acl().clone());
            let (parent_acl, acl) = (acl_of(parent), acl_of(cell).expect("a node made just now"));
            NodeEvent { kind: EventType::NodeCreated, path: txn.path.into(), acl, parent_acl }
        });
        Some(cell)
    }

    /// The parent's side of a create: cversion and pzxid only ever go up, so that replay cannot lower them (rule L8).
    fn change_parent(&mut self, stamp: &Stamp, parent: CellId, cversion: Option<i32>, children: ChildChange) {
        let Some(node) = self.store.head_of(parent) else { return };
        let before = node.meta();
        let mut meta = before;
        if node.children_len() == 0 && before.owner == CONTAINER_OWNER && matches!(children, ChildChange::Add(_)) {
            self.sessions.leave(Owner::Container, &before, parent, &mut self.undo);
        }
        // Records older than the field, and those that say -1, mean "one more than it is".
        let cversion = cversion.filter(|v| *v != -1).unwrap_or(before.cversion.wrapping_add(1));
        if cversion > before.cversion {
            meta.cversion = cversion;
            meta.pzxid = stamp.zxid;
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

    /// A create that finds its node there, in a replay over a fuzzy image, still settles the ACL.
    fn refresh_acl(&mut self, stamp: &Stamp, cell: CellId, list: AclVec<'_>) {
        let Some(node) = self.store.head_of(cell) else { return };
        let (meta, old) = (node.meta(), node.acl().clone());
        let acl = self.acls.acquire(list, stamp.at, &mut self.undo);
        self.push_change(stamp.at, cell, &Change { meta, data: DataChange::Keep, acl: Some(acl), children: ChildChange::Keep });
        self.acls.release(&old, stamp.at, &mut self.undo);
    }
}

fn has_shape_of_path(path: &str) -> bool {
    use path::PathError::{BadCharacter, RelativeElement};
    path != ROOT && matches!(path::validate(path), Ok(()) | Err(RelativeElement | BadCharacter))
}

//! The operations: for each, the checks that turn a request into a transaction, and the one `apply` of that transaction (rule A11).
//!
//! Checks read the newest state and change nothing; they run in ZooKeeper's order, because clients see which one fails first. `apply`
//! checks nothing: whatever it is given has a defined effect (rule L22), also when replayed over a state that already has it (rule L8).

mod check;
mod create;
mod delete;
pub(super) mod multi;
mod session;
mod set_acl;
mod set_data;

use super::store::{CellId, Change, NodeView};
use super::undo::UndoOp;
use super::{Effects, Prepare, Tree};
use crate::base::{Perms, SessionId, Writer, Zxid, path};
use crate::proto::response::write_multi_ok;
use crate::proto::{ErrorCode, OpCode, Request};
use crate::record::txn::CreateKind;
use crate::record::{Txn, TxnHeader, TxnType};

/// What the parts of one transaction share while it is applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// What new bodies are stamped with: the transaction's zxid, or the head's if replay brings an older one.
    pub(super) at: Zxid,
    /// The transaction's zxid, as stats show it.
    pub(super) zxid: i64,
    /// Its wall-clock time.
    pub(super) time: i64,
    /// Owner of ephemerals it creates.
    pub(super) session: SessionId,
}

impl Stamp {
    pub(super) fn new(header: &TxnHeader, head: Zxid) -> Stamp {
        Stamp { at: header.zxid.max(head), zxid: header.zxid.as_i64(), time: header.time.0, session: header.session }
    }
}

/// The transaction type a request becomes when it passes its checks; `None` for what is no single write.
pub(super) fn txn_type(request: &Request<'_>) -> Option<TxnType> {
    Some(match request {
        Request::Create(c) => match c.op {
            OpCode::Create2 => TxnType::Create2,
            OpCode::CreateContainer => TxnType::CreateContainer,
            OpCode::CreateTtl => TxnType::CreateTtl,
            _ => TxnType::Create,
        },
        Request::Delete { .. } => TxnType::Delete,
        Request::DeleteContainer { .. } => TxnType::DeleteContainer,
        Request::SetData { .. } => TxnType::SetData,
        Request::SetAcl { .. } => TxnType::SetAcl,
        Request::Check { .. } => TxnType::Check,
        Request::Reconfig { .. } => TxnType::Reconfig,
        _ => return None,
    })
}

impl Tree {
    /// Checks one write against the newest state and appends the transaction's body to `out`. An error leaves `out` with rubbish at the
    /// end, for the caller to cut.
    pub(super) fn build(&self, p: &Prepare<'_>, request: &Request<'_>, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        match request {
            Request::Create(c) => self.build_create(p, c, out),
            Request::Delete { path, version } => self.build_delete(p, path, *version, out),
            Request::DeleteContainer { path } => self.build_delete_container(p, path, out),
            Request::SetData { path, data, version } => self.build_set_data(p, path, *data, *version, out),
            Request::SetAcl { path, acl, version } => self.build_set_acl(p, path, *acl, *version, out),
            Request::Check { path, version } => self.build_check(p, path, *version, out),
            // A standalone server has no ensemble to change, and a leader makes a configuration of the request first.
            Request::Reconfig { .. } if !self.config.reconfig_enabled => Err(ErrorCode::ReconfigDisabled),
            Request::Reconfig { .. } => Err(ErrorCode::Unimplemented),
            _ => Err(ErrorCode::Unimplemented),
        }
    }

    /// Applies one change: a whole transaction or one part of a multi. Returns the node it made or changed.
    pub(super) fn apply_one(&mut self, stamp: &Stamp, txn: &Txn<'_>, effects: &mut Effects) -> Option<CellId> {
        match txn {
            Txn::Create(create) => self.apply_create(stamp, create, effects),
            Txn::Delete { path } | Txn::DeleteContainer { path } => {
                self.apply_delete(stamp, path, effects);
                None
            }
            Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
                self.apply_set_data(stamp, path, *data, *version, effects)
            }
            Txn::SetAcl { path, acl, version } => self.apply_set_acl(stamp, path, *acl, *version),
            Txn::CreateSession { timeout_ms } => {
                self.apply_create_session(stamp, *timeout_ms);
                None
            }
            Txn::CloseSession { paths } => {
                self.apply_close_session(stamp, *paths, effects);
                None
            }
            Txn::Multi(parts) => {
                self.apply_multi(stamp, parts, effects, None);
                None
            }
            Txn::Error { .. } | Txn::Check { .. } => None,
        }
    }

    /// The node a request names, as it is now.
    pub(super) fn node(&self, path: &str) -> Result<NodeView<'_>, ErrorCode> {
        self.store.head(path).ok_or(ErrorCode::NoNode)
    }
    /// The permission check at the point of effect (rule S5).
    pub(super) fn allow(&self, p: &Prepare<'_>, node: &NodeView<'_>, perm: Perms) -> Result<(), ErrorCode> {
        if super::permits(node.acl(), perm, p.auth, self.config.skip_acl) { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }
    /// Pushes a body and notes it.
    pub(super) fn push_change(&mut self, at: Zxid, cell: CellId, change: &Change<'_>) {
        self.store.change(at, cell, change);
        self.undo.push(UndoOp::Store);
    }
    /// Adds to the tree digest.
    pub(super) fn add_digest(&mut self, before: u64, after: u64) {
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
    }

    /// Appends what the client gets for a successful operation of kind `op`; `cell` is what `apply_one` returned.
    pub(super) fn write_result(&self, op: OpCode, txn: &Txn<'_>, cell: Option<CellId>, out: &mut Vec<u8>) {
        if let Txn::Create(create) = txn {
            out.put_string(create.path);
        }
        if let Txn::Reconfig { data, .. } = txn {
            out.put_buffer(*data);
        }
        if !matches!(op, OpCode::Create)
            && let Some(node) = cell.and_then(|c| self.store.head_of(c))
        {
            use zerocopy::IntoBytes as _;
            out.put_raw(node.stat().as_bytes());
        }
    }
    /// The same inside a multi's results, with its header.
    pub(super) fn write_part_result(&self, op: OpCode, txn: &Txn<'_>, cell: Option<CellId>, out: &mut Vec<u8>) {
        let shown = match op {
            OpCode::CreateContainer | OpCode::CreateTtl => OpCode::Create2,
            other => other,
        };
        write_multi_ok(out, shown);
        self.write_result(op, txn, cell, out);
    }
}

/// The operation a transaction's client is answered as. It depends on the transaction alone, so that every server gives the same answer.
pub(super) fn answered_as(txn: &Txn<'_>) -> OpCode {
    match txn {
        Txn::Create(c) => match c.kind {
            CreateKind::Create { .. } => OpCode::Create,
            CreateKind::Create2 { .. } => OpCode::Create2,
            CreateKind::Container => OpCode::CreateContainer,
            CreateKind::Ttl { .. } => OpCode::CreateTtl,
        },
        Txn::SetData { .. } => OpCode::SetData,
        Txn::SetAcl { .. } => OpCode::SetAcl,
        Txn::Check { .. } => OpCode::Check,
        Txn::Reconfig { .. } => OpCode::Reconfig,
        _ => OpCode::Delete,
    }
}

/// True for a create that answers its parent's fix-up when the node is already there: type 1 only, as in ZooKeeper.
pub(super) fn raises_parent_on_replay(kind: CreateKind) -> bool {
    matches!(kind, CreateKind::Create { .. })
}

/// The version after a successful check: -1 expects anything, every other number only itself.
pub(super) fn next_version(current: i32, expected: i32) -> Result<i32, ErrorCode> {
    if expected == -1 || expected == current { Ok(current.wrapping_add(1)) } else { Err(ErrorCode::BadVersion) }
}

/// Path validation of setData, setACL, check and, after the suffix, create.
pub(super) fn validate(path: &str) -> Result<(), ErrorCode> {
    path::validate(path).map_err(|_| ErrorCode::BadArguments)
}

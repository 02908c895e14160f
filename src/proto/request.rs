//! Requests as borrowed views of their frame. Decoding checks everything the encoding can get wrong, allocates only for
//! multi, and never panics; what it returns still has to be judged by the tree.

use super::OpCode;
use crate::base::limits::MULTI_OPS_MAX;
use crate::base::{AclVec, DecodeError, Reader, Xid, jute::StringVec};

/// Request header: 8 bytes in front of every request after the connect exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestHeader {
    /// Client-chosen number.
    pub xid: Xid,
    /// Request type, raw: unknown ones are answered with -6.
    pub op: i32,
}

/// Length of a request's header.
pub const REQUEST_HEADER_BYTES: usize = 8;

impl RequestHeader {
    /// Reads 8 bytes.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(RequestHeader { xid: Xid(r.i32()?), op: r.i32()? })
    }
}

/// create, create2, createContainer and createTTL; `op` tells which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct CreateRequest<'a> {
    pub op: OpCode,
    pub path: &'a str,
    pub data: Option<&'a [u8]>,
    pub acl: AclVec<'a>,
    /// `CreateMode` as sent; judged by the tree.
    pub flags: i32,
    /// Only for createTTL.
    pub ttl: Option<i64>,
}

/// setWatches (persistent lists empty) and setWatches2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct SetWatches<'a> {
    pub relative_zxid: i64,
    pub data: StringVec<'a>,
    pub exist: StringVec<'a>,
    pub child: StringVec<'a>,
    pub persistent: StringVec<'a>,
    pub recursive: StringVec<'a>,
}

/// A decoded request.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Request<'a> {
    Create(CreateRequest<'a>),
    Delete {
        path: &'a str,
        version: i32,
    },
    Exists {
        path: &'a str,
        watch: bool,
    },
    GetData {
        path: &'a str,
        watch: bool,
    },
    SetData {
        path: &'a str,
        data: Option<&'a [u8]>,
        version: i32,
    },
    GetAcl {
        path: &'a str,
    },
    SetAcl {
        path: &'a str,
        acl: AclVec<'a>,
        version: i32,
    },
    /// getChildren and getChildren2.
    GetChildren {
        path: &'a str,
        watch: bool,
        with_stat: bool,
    },
    Sync {
        path: &'a str,
    },
    Ping,
    /// Only as a part of a multi.
    Check {
        path: &'a str,
        version: i32,
    },
    Multi(Vec<Request<'a>>),
    MultiRead(Vec<Request<'a>>),
    Reconfig {
        joining: Option<&'a str>,
        leaving: Option<&'a str>,
        new_members: Option<&'a str>,
        config_id: i64,
    },
    CheckWatches {
        path: &'a str,
        kind: i32,
    },
    RemoveWatches {
        path: &'a str,
        kind: i32,
    },
    DeleteContainer {
        path: &'a str,
    },
    Auth {
        scheme: Option<&'a str>,
        auth: Option<&'a [u8]>,
    },
    Sasl {
        token: Option<&'a [u8]>,
    },
    SetWatches(SetWatches<'a>),
    GetEphemerals {
        prefix: Option<&'a str>,
    },
    GetAllChildrenNumber {
        path: &'a str,
    },
    AddWatch {
        path: &'a str,
        mode: i32,
    },
    WhoAmI,
    CreateSession,
    CloseSession,
}

impl<'a> Request<'a> {
    /// Does it ask for an ephemeral of its session? (Only create and create2 count, alone or in a multi, as in ZooKeeper.)
    #[must_use]
    pub fn makes_ephemeral(&self) -> bool {
        match self {
            Request::Create(create) => matches!(create.op, OpCode::Create | OpCode::Create2) && matches!(create.flags, 1 | 3),
            Request::Multi(parts) => parts.iter().any(Request::makes_ephemeral),
            _ => false,
        }
    }

    /// Decodes the body of a request of this type; trailing bytes are ignored, as in ZooKeeper.
    pub fn decode(op: OpCode, r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match op {
            OpCode::Multi => Request::Multi(read_multi(r, is_write_part)?),
            OpCode::MultiRead => Request::MultiRead(read_multi(r, is_read_part)?),
            _ => return Self::decode_single(op, r),
        })
    }

    fn decode_single(op: OpCode, r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match op {
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => Request::Create(CreateRequest {
                op,
                path: r.string()?,
                data: r.buffer()?,
                acl: AclVec::read(r)?,
                flags: r.i32()?,
                ttl: if op == OpCode::CreateTtl { Some(r.i64()?) } else { None },
            }),
            OpCode::Delete => Request::Delete { path: r.string()?, version: r.i32()? },
            OpCode::Exists => Request::Exists { path: r.string()?, watch: r.bool()? },
            OpCode::GetData => Request::GetData { path: r.string()?, watch: r.bool()? },
            OpCode::SetData => Request::SetData { path: r.string()?, data: r.buffer()?, version: r.i32()? },
            OpCode::GetAcl => Request::GetAcl { path: r.string()? },
            OpCode::SetAcl => Request::SetAcl { path: r.string()?, acl: AclVec::read(r)?, version: r.i32()? },
            OpCode::GetChildren => Request::GetChildren { path: r.string()?, watch: r.bool()?, with_stat: false },
            OpCode::GetChildren2 => Request::GetChildren { path: r.string()?, watch: r.bool()?, with_stat: true },
            OpCode::Sync => Request::Sync { path: r.string()? },
            OpCode::Ping => Request::Ping,
            OpCode::Check => Request::Check { path: r.string()?, version: r.i32()? },
            OpCode::Multi | OpCode::MultiRead => return Err(DecodeError::BadValue("nested multi", op as i64)),
            OpCode::Reconfig => {
                Request::Reconfig { joining: r.opt_string()?, leaving: r.opt_string()?, new_members: r.opt_string()?, config_id: r.i64()? }
            }
            OpCode::CheckWatches => Request::CheckWatches { path: r.string()?, kind: r.i32()? },
            OpCode::RemoveWatches => Request::RemoveWatches { path: r.string()?, kind: r.i32()? },
            OpCode::DeleteContainer => Request::DeleteContainer { path: r.string()? },
            OpCode::Auth => {
                let _type = r.i32()?;
                Request::Auth { scheme: r.opt_string()?, auth: r.buffer()? }
            }
            OpCode::Sasl => Request::Sasl { token: r.buffer()? },
            OpCode::SetWatches | OpCode::SetWatches2 => Request::SetWatches(read_set_watches(op, r)?),
            OpCode::GetEphemerals => Request::GetEphemerals { prefix: r.opt_string()? },
            OpCode::GetAllChildrenNumber => Request::GetAllChildrenNumber { path: r.string()? },
            OpCode::AddWatch => Request::AddWatch { path: r.string()?, mode: r.i32()? },
            OpCode::WhoAmI => Request::WhoAmI,
            OpCode::CreateSession => Request::CreateSession,
            OpCode::CloseSession => Request::CloseSession,
        })
    }
}

fn read_set_watches<'a>(op: OpCode, r: &mut Reader<'a>) -> Result<SetWatches<'a>, DecodeError> {
    let relative_zxid = r.i64()?;
    let (data, exist, child) = (r.string_vec()?, r.string_vec()?, r.string_vec()?);
    let (persistent, recursive) =
        if op == OpCode::SetWatches2 { (r.string_vec()?, r.string_vec()?) } else { (StringVec::EMPTY, StringVec::EMPTY) };
    Ok(SetWatches { relative_zxid, data, exist, child, persistent, recursive })
}

fn is_write_part(op: OpCode) -> bool {
    use OpCode::*;
    matches!(op, Create | Create2 | CreateContainer | CreateTtl | Delete | SetData | Check)
}

fn is_read_part(op: OpCode) -> bool {
    matches!(op, OpCode::GetChildren | OpCode::GetData)
}

/// ZooKeeper judges create flags of a multi while decoding, so a bad one fails the whole request (-5): a number that is no mode, and a TTL
/// mode in a request without a TTL. A container mode makes a container, whatever the request's type; a request with a TTL and any other
/// flags is one to create, without the TTL.
fn judge_multi_create(create: CreateRequest<'_>) -> Result<CreateRequest<'_>, DecodeError> {
    let op = match (create.op, create.flags) {
        (OpCode::CreateTtl, 5 | 6) => OpCode::CreateTtl,
        (_, 4) => OpCode::CreateContainer,
        (OpCode::CreateTtl, _) => OpCode::Create,
        (op, 0..=3) => op,
        (_, flags) => return Err(DecodeError::BadValue("create flags", i64::from(flags))),
    };
    Ok(CreateRequest { op, ttl: create.ttl.filter(|_| op == OpCode::CreateTtl), ..create })
}

fn read_multi<'a>(r: &mut Reader<'a>, allowed: fn(OpCode) -> bool) -> Result<Vec<Request<'a>>, DecodeError> {
    let mut parts = Vec::new();
    loop {
        let kind = r.i32()?;
        let done = r.bool()?;
        let _err = r.i32()?;
        if done {
            return Ok(parts);
        }
        if parts.len() == MULTI_OPS_MAX {
            return Err(DecodeError::BadValue("number of operations", parts.len() as i64));
        }
        let op = OpCode::from_i32(kind).filter(|op| allowed(*op)).ok_or(DecodeError::BadValue("multi part", i64::from(kind)))?;
        let part = match Request::decode_single(op, r)? {
            Request::Create(c) => Request::Create(judge_multi_create(c)?),
            Request::GetData { path, .. } => Request::GetData { path, watch: false },
            Request::GetChildren { path, with_stat, .. } => Request::GetChildren { path, watch: false, with_stat },
            other => other,
        };
        parts.push(part);
    }
}

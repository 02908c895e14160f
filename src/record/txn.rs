//! Transaction bodies and their encoding (ZooKeeper's `SerializeUtils` layout, storage format section 3).
//!
//! A `Txn` borrows from the bytes it was decoded from. `encode(decode(bytes)) == bytes` for everything that decodes, old
//! layouts included, so what one server logged another re-logs unchanged.

use super::TxnHeader;
use crate::base::{AclVec, DecodeError, Reader, Writer, jute::StringVec};

/// Numbers of the transaction types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum TxnType {
    CreateSession = -10,
    CloseSession = -11,
    Error = -1,
    Create = 1,
    Delete = 2,
    SetData = 5,
    SetAcl = 7,
    Check = 13,
    Multi = 14,
    Create2 = 15,
    Reconfig = 16,
    CreateContainer = 19,
    DeleteContainer = 20,
    CreateTtl = 21,
}

impl TxnType {
    /// The type with this number.
    #[must_use]
    pub fn from_i32(n: i32) -> Option<Self> {
        use TxnType::*;
        [
            CreateSession,
            CloseSession,
            Error,
            Create,
            Delete,
            SetData,
            SetAcl,
            Check,
            Multi,
            Create2,
            Reconfig,
            CreateContainer,
            DeleteContainer,
            CreateTtl,
        ]
        .into_iter()
        .find(|t| *t as i32 == n)
    }
}

/// A create of any kind; which one is told by `kind`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreateTxn<'a> {
    /// Which create transaction type it is, with the fields only that type has.
    pub kind: CreateKind,
    /// Final path, suffix included.
    pub path: &'a str,
    /// Data; null and empty are distinct.
    pub data: Option<&'a [u8]>,
    /// Access control list.
    pub acl: AclVec<'a>,
    /// The parent's stored cversion after this create; `None` only in records older than the field (`CreateTxnV0`).
    pub parent_cversion: Option<i32>,
}

/// The four create transactions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CreateKind {
    /// Type 1.
    Create {
        /// Owned by the header's session.
        ephemeral: bool,
    },
    /// Type 15; same body as type 1.
    Create2 {
        /// Owned by the header's session.
        ephemeral: bool,
    },
    /// Type 19.
    Container,
    /// Type 21.
    Ttl {
        /// Time to live in milliseconds.
        ttl: i64,
    },
}

/// A decoded transaction body.
#[allow(missing_docs)]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Txn<'a> {
    /// Opens a session; timeout in milliseconds.
    CreateSession { timeout_ms: i32 },
    /// Ends a session and deletes these nodes; `None` when the body is absent (written by old or so configured servers).
    CloseSession { paths: Option<StringVec<'a>> },
    /// A request that failed with this code.
    Error { code: i32 },
    /// Types 1, 15, 19, 21.
    Create(CreateTxn<'a>),
    /// Type 2.
    Delete { path: &'a str },
    /// Type 5; `version` is the new version.
    SetData { path: &'a str, data: Option<&'a [u8]>, version: i32 },
    /// Type 7; `version` is the new aversion.
    SetAcl { path: &'a str, acl: AclVec<'a>, version: i32 },
    /// Type 13, only inside a multi; `version` is the current version + 1.
    Check { path: &'a str, version: i32 },
    /// Type 14: every sub-transaction in its own encoding, or one error per operation.
    Multi(Vec<SubTxn<'a>>),
    /// Type 16: the config node's new text.
    Reconfig { path: &'a str, data: Option<&'a [u8]>, version: i32 },
    /// Type 20: a container or an expired TTL node.
    DeleteContainer { path: &'a str },
}

/// One part of a multi: its type number and its encoded body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubTxn<'a> {
    /// Transaction type number.
    pub kind: i32,
    /// Encoded body; decode with `Txn::read_body`.
    pub body: &'a [u8],
}

/// The tree digest a leader sends along: the digest the tree has after the transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxnDigest {
    /// Digest algorithm version (2).
    pub version: i32,
    /// Sum of node digests.
    pub digest: u64,
}

/// The digest algorithm this server computes.
pub const DIGEST_VERSION: i32 = 2;

impl TxnDigest {
    /// Writes the 12-byte suffix.
    pub fn write(&self, out: &mut impl Writer) {
        out.put_i32(self.version);
        out.put_i64(self.digest as i64);
    }
}

impl<'a> Txn<'a> {
    /// The type number of this body.
    #[must_use]
    pub fn kind(&self) -> i32 {
        let t = match self {
            Txn::CreateSession { .. } => TxnType::CreateSession,
            Txn::CloseSession { .. } => TxnType::CloseSession,
            Txn::Error { .. } => TxnType::Error,
            Txn::Create(c) => match c.kind {
                CreateKind::Create { .. } => TxnType::Create,
                CreateKind::Create2 { .. } => TxnType::Create2,
                CreateKind::Container => TxnType::CreateContainer,
                CreateKind::Ttl { .. } => TxnType::CreateTtl,
            },
            Txn::Delete { .. } => TxnType::Delete,
            Txn::SetData { .. } => TxnType::SetData,
            Txn::SetAcl { .. } => TxnType::SetAcl,
            Txn::Check { .. } => TxnType::Check,
            Txn::Multi(_) => TxnType::Multi,
            Txn::Reconfig { .. } => TxnType::Reconfig,
            Txn::DeleteContainer { .. } => TxnType::DeleteContainer,
        };
        t as i32
    }

    /// Reads a body of type `kind`. A bare check is refused at top level by `decode_payload`, not here.
    pub fn read_body(kind: i32, r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let t = TxnType::from_i32(kind).ok_or(DecodeError::BadValue("transaction type", i64::from(kind)))?;
        Ok(match t {
            TxnType::CreateSession => Txn::CreateSession { timeout_ms: r.i32()? },
            TxnType::CloseSession if r.is_empty() => Txn::CloseSession { paths: None },
            TxnType::CloseSession => Txn::CloseSession { paths: Some(r.string_vec()?) },
            TxnType::Error => Txn::Error { code: r.i32()? },
            TxnType::Create | TxnType::Create2 | TxnType::CreateContainer | TxnType::CreateTtl => Txn::Create(read_create(t, r)?),
            TxnType::Delete => Txn::Delete { path: r.string()? },
            TxnType::DeleteContainer => Txn::DeleteContainer { path: r.string()? },
            TxnType::SetData => Txn::SetData { path: r.string()?, data: r.buffer()?, version: r.i32()? },
            TxnType::Reconfig => Txn::Reconfig { path: r.string()?, data: r.buffer()?, version: r.i32()? },
            TxnType::SetAcl => Txn::SetAcl { path: r.string()?, acl: AclVec::read(r)?, version: r.i32()? },
            TxnType::Check => Txn::Check { path: r.string()?, version: r.i32()? },
            TxnType::Multi => {
                let count = r.count(8)?.unwrap_or(0);
                let mut parts = Vec::with_capacity(count);
                for _ in 0..count {
                    parts.push(SubTxn { kind: r.i32()?, body: r.buffer()?.ok_or(DecodeError::Null)? });
                }
                Txn::Multi(parts)
            }
        })
    }

    /// Writes the body.
    pub fn write_body(&self, out: &mut impl Writer) {
        match self {
            Txn::CreateSession { timeout_ms } => out.put_i32(*timeout_ms),
            Txn::CloseSession { paths: None } => {}
            Txn::CloseSession { paths: Some(v) } => out.put_raw(v.raw()),
            Txn::Error { code } => out.put_i32(*code),
            Txn::Create(c) => write_create(c, out),
            Txn::Delete { path } | Txn::DeleteContainer { path } => out.put_string(path),
            Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
                out.put_string(path);
                out.put_buffer(*data);
                out.put_i32(*version);
            }
            Txn::SetAcl { path, acl, version } => {
                out.put_string(path);
                out.put_raw(acl.raw());
                out.put_i32(*version);
            }
            Txn::Check { path, version } => {
                out.put_string(path);
                out.put_i32(*version);
            }
            Txn::Multi(parts) => {
                out.put_len(parts.len());
                for part in parts {
                    out.put_i32(part.kind);
                    out.put_buffer(Some(part.body));
                }
            }
        }
    }
}

fn read_create<'a>(t: TxnType, r: &mut Reader<'a>) -> Result<CreateTxn<'a>, DecodeError> {
    let path = r.string()?;
    let data = r.buffer()?;
    let acl = AclVec::read(r)?;
    let (kind, parent_cversion) = match t {
        TxnType::CreateContainer => (CreateKind::Container, Some(r.i32()?)),
        TxnType::CreateTtl => {
            let parent = r.i32()?;
            (CreateKind::Ttl { ttl: r.i64()? }, Some(parent))
        }
        _ => {
            let ephemeral = r.bool()?;
            // CreateTxnV0 ends here: servers before 3.3 did not write the parent's cversion.
            let parent = if r.is_empty() { None } else { Some(r.i32()?) };
            let kind = if t == TxnType::Create { CreateKind::Create { ephemeral } } else { CreateKind::Create2 { ephemeral } };
            (kind, parent)
        }
    };
    Ok(CreateTxn { kind, path, data, acl, parent_cversion })
}

fn write_create(c: &CreateTxn<'_>, out: &mut impl Writer) {
    out.put_string(c.path);
    out.put_buffer(c.data);
    out.put_raw(c.acl.raw());
    match c.kind {
        CreateKind::Create { ephemeral } | CreateKind::Create2 { ephemeral } => {
            out.put_bool(ephemeral);
            if let Some(v) = c.parent_cversion {
                out.put_i32(v);
            }
        }
        CreateKind::Container => out.put_i32(c.parent_cversion.unwrap_or(-1)),
        CreateKind::Ttl { ttl } => {
            out.put_i32(c.parent_cversion.unwrap_or(-1));
            out.put_i64(ttl);
        }
    }
}

/// Decodes a whole transaction payload: header, body, optional digest. Trailing bytes after the digest are refused.
pub fn decode_payload(payload: &[u8]) -> Result<(TxnHeader, Txn<'_>, Option<TxnDigest>), DecodeError> {
    let mut r = Reader::new(payload);
    let header = TxnHeader::read(&mut r)?;
    if header.kind == TxnType::Check as i32 {
        return Err(DecodeError::BadValue("top-level transaction type", i64::from(header.kind)));
    }
    let txn = Txn::read_body(header.kind, &mut r)?;
    let digest = if r.is_empty() { None } else { Some(TxnDigest { version: r.i32()?, digest: r.i64()? as u64 }) };
    if r.is_empty() { Ok((header, txn, digest)) } else { Err(DecodeError::BadValue("bytes after the digest", r.remaining().len() as i64)) }
}

/// Appends header and body, without digest.
pub fn encode_payload(header: &TxnHeader, txn: &Txn<'_>, out: &mut Vec<u8>) {
    debug_assert_eq!(header.kind, txn.kind());
    header.write(out);
    txn.write_body(out);
}

#[cfg(test)]
#[path = "txn_tests.rs"]
mod tests;

//! multi: all or nothing, one zxid. Parts are judged and applied one after the other, so that later ones see earlier ones.

use super::{Stamp, answered_as, txn_type};
use crate::base::{Reader, Writer};
use crate::proto::response::{write_multi_end, write_multi_error};
use crate::proto::{ErrorCode, Request};
use crate::record::txn::SubTxn;
use crate::record::{Txn, TxnType};
use crate::tree::digest::DIGEST_BYTES;
use crate::tree::{Effects, Prepare, Tree};

impl Tree {
    /// Appends the multi's body to `payload` and its results to `reply`, and applies its parts. When one fails, what the others did is
    /// taken back, and body and results become the list of errors ZooKeeper makes of it.
    pub(in crate::tree) fn prepare_multi(
        &mut self,
        p: &Prepare<'_>,
        stamp: &Stamp,
        parts: &[Request<'_>],
        payload: &mut Vec<u8>,
        reply: &mut Vec<u8>,
        payload_start: usize,
    ) -> Effects {
        let (savepoint, reply_start) = (self.undo.savepoint(self.digest), reply.len());
        let mut effects = Effects::default();
        payload.put_len(parts.len());
        for (i, part) in parts.iter().enumerate() {
            let part_start = payload.len();
            let room_max =
                (payload_start + self.config.payload_bytes_max - DIGEST_BYTES).saturating_sub((parts.len() - i) * ERROR_PART_BYTES);
            if let Err(err) = self.prepare_part(p, stamp, part, payload, reply, &mut effects, room_max) {
                self.roll_back(&savepoint);
                payload.truncate(part_start);
                reply.truncate(reply_start);
                write_errors(i, parts.len(), err, payload, reply);
                return Effects::default();
            }
        }
        write_multi_end(reply);
        effects
    }

    #[allow(clippy::too_many_arguments)]
    fn prepare_part(
        &mut self,
        p: &Prepare<'_>,
        stamp: &Stamp,
        part: &Request<'_>,
        payload: &mut Vec<u8>,
        reply: &mut Vec<u8>,
        effects: &mut Effects,
        payload_len_max: usize,
    ) -> Result<(), ErrorCode> {
        let kind = txn_type(part).filter(|k| is_part(*k as i32)).ok_or(ErrorCode::Marshalling)? as i32;
        payload.put_i32(kind);
        let len_at = payload.len();
        payload.put_i32(0);
        self.build(p, part, payload)?;
        if payload.len() > payload_len_max {
            return Err(ErrorCode::Marshalling); // a record readers would refuse is never logged (rule L11)
        }
        let body = len_at + 4;
        let len = (payload.len() - body) as i32;
        payload[len_at..body].copy_from_slice(&len.to_be_bytes());
        let txn = Txn::read_body(kind, &mut Reader::new(&payload[body..])).expect("what was just built can be decoded (rule L11)");
        let cell = self.apply_one(stamp, &txn, effects);
        self.write_part_result(answered_as(&txn), &txn, cell, reply);
        Ok(())
    }

    /// Applies all parts, or none when one of them is an error, or is nothing a multi can hold. Appends the results to `reply`, as
    /// `prepare_multi` does.
    pub(in crate::tree) fn apply_multi(
        &mut self,
        stamp: &Stamp,
        parts: &[SubTxn<'_>],
        effects: &mut Effects,
        mut reply: Option<&mut Vec<u8>>,
    ) {
        let whole = parts.iter().all(|part| is_part(part.kind) && decode(part).is_some());
        if whole {
            for txn in parts.iter().filter_map(decode) {
                let cell = self.apply_one(stamp, &txn, effects);
                if let Some(reply) = reply.as_deref_mut() {
                    self.write_part_result(answered_as(&txn), &txn, cell, reply);
                }
            }
        }
        if let Some(reply) = reply {
            if !whole {
                parts.iter().for_each(|part| write_multi_error(reply, error_of(part)));
            }
            write_multi_end(reply);
        }
    }
}

/// The session's requests go through another server by now. Java leaders say so in a part, and it is a matter of the whole connection.
pub(in crate::tree) fn has_moved(parts: &[SubTxn<'_>]) -> bool {
    parts.iter().any(|part| error_of(part) == ErrorCode::SessionMoved)
}

/// Encoded size of a failed part: type, length, code.
const ERROR_PART_BYTES: usize = 12;

fn decode<'a>(part: &SubTxn<'a>) -> Option<Txn<'a>> {
    Txn::read_body(part.kind, &mut Reader::new(part.body)).ok()
}

/// What a part of a multi that failed is answered with.
fn error_of(part: &SubTxn<'_>) -> ErrorCode {
    match Txn::read_body(part.kind, &mut Reader::new(part.body)) {
        Ok(Txn::Error { code }) => ErrorCode::from_i32(code),
        _ => ErrorCode::Ok,
    }
}

/// True for what a multi may carry out: changes of nodes, and checks. Errors, sessions and multis in multis are not among them.
fn is_part(kind: i32) -> bool {
    use TxnType::*;
    matches!(
        TxnType::from_i32(kind),
        Some(Create | Create2 | CreateContainer | CreateTtl | Delete | DeleteContainer | SetData | SetAcl | Check)
    )
}

/// The end of a failed multi: in the record, parts before the failing one stay as they are, it and all later ones become errors; in the
/// reply every part is an error entry.
fn write_errors(failed: usize, count: usize, err: ErrorCode, payload: &mut Vec<u8>, reply: &mut Vec<u8>) {
    for i in 0..count {
        let code = match i.cmp(&failed) {
            std::cmp::Ordering::Less => ErrorCode::Ok,
            std::cmp::Ordering::Equal => err,
            std::cmp::Ordering::Greater => ErrorCode::RuntimeInconsistency,
        };
        if i >= failed {
            payload.put_i32(TxnType::Error as i32);
            payload.put_len(4);
            payload.put_i32(code.code());
        }
        write_multi_error(reply, code);
    }
    write_multi_end(reply);
}

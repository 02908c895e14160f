//! Log records and snapshot entries as text and as JSON, for `zoo log` and `zoo snapshot`.
//!
//! Bytes are hex in JSON; in text they are shown as characters, with everything that is not printable escaped.

use crate::base::{AclVec, DecodeError, Reader, Zxid};
use crate::record::txn::{CreateKind, CreateTxn, SubTxn, Txn, TxnType, decode_payload};
use crate::storage::segment::Record;
use crate::storage::snapshot_body::NodeEntry;
use serde_json::{Value, json};
use std::fmt::Write;

/// A record of a log.
pub fn record_json(record: &Record<'_>) -> Result<Value, DecodeError> {
    let (header, txn, digest) = decode_payload(record.payload)?;
    Ok(json!({
        "offset": record.offset,
        "adler32": hex(u64::from(record.adler)),
        "len": record.payload.len(),
        "hdr": {
            "clientId": hex(header.session.0 as u64), "cxid": header.cxid.0, "zxid": hex(header.zxid.0), "time": header.time.0, "type": header.kind,
        },
        "txn": txn_json(&txn)?,
        "digest": digest.map(|d| json!({ "version": d.version, "treeDigest": hex(d.digest) })),
    }))
}

fn hex(n: u64) -> String {
    format!("{n:#x}")
}

fn bytes_json(data: Option<&[u8]>) -> Value {
    data.map_or(Value::Null, |d| Value::String(hex_bytes(d)))
}

fn hex_bytes(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

/// A list of permissions.
#[must_use]
pub fn acl_json(acl: AclVec<'_>) -> Value {
    acl.iter().map(|e| json!({ "perms": e.perms, "scheme": e.scheme, "id": e.id })).collect()
}

fn txn_json(txn: &Txn<'_>) -> Result<Value, DecodeError> {
    Ok(match txn {
        Txn::CreateSession { timeout_ms } => json!({ "record": "CreateSessionTxn", "timeOut": timeout_ms }),
        Txn::CloseSession { paths: None } => Value::Null,
        Txn::CloseSession { paths: Some(paths) } => {
            json!({ "record": "CloseSessionTxn", "paths2Delete": paths.iter().collect::<Vec<_>>() })
        }
        Txn::Error { code } => json!({ "record": "ErrorTxn", "err": code }),
        Txn::Create(create) => create_json(create),
        Txn::Delete { path } | Txn::DeleteContainer { path } => json!({ "record": "DeleteTxn", "path": path }),
        Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
            json!({ "record": "SetDataTxn", "path": path, "data": bytes_json(*data), "version": version })
        }
        Txn::SetAcl { path, acl, version } => json!({ "record": "SetACLTxn", "path": path, "acl": acl_json(*acl), "version": version }),
        Txn::Check { path, version } => json!({ "record": "CheckVersionTxn", "path": path, "version": version }),
        Txn::Multi(parts) => {
            let parts: Result<Vec<Value>, DecodeError> = parts.iter().map(part_json).collect();
            json!({ "record": "MultiTxn", "txns": parts? })
        }
    })
}

fn part_json(part: &SubTxn<'_>) -> Result<Value, DecodeError> {
    let txn = Txn::read_body(part.kind, &mut Reader::new(part.body))?;
    Ok(json!({ "type": part.kind, "data_len": part.body.len(), "txn": txn_json(&txn)? }))
}

fn create_json(create: &CreateTxn<'_>) -> Value {
    let mut out = json!({
        "record": "CreateTxn", "path": create.path, "data": bytes_json(create.data), "acl": acl_json(create.acl),
        "parentCVersion": create.parent_cversion.unwrap_or(-1),
    });
    match create.kind {
        CreateKind::Create { ephemeral } | CreateKind::Create2 { ephemeral } => out["ephemeral"] = json!(ephemeral),
        CreateKind::Container => out["record"] = json!("CreateContainerTxn"),
        CreateKind::Ttl { ttl } => {
            out["record"] = json!("CreateTTLTxn");
            out["ttl"] = json!(ttl);
        }
    }
    out
}

/// A node of a snapshot.
#[must_use]
pub fn node_json(node: &NodeEntry<'_>) -> Value {
    let stat = &node.stat;
    json!({
        "path": node.path, "data": bytes_json(node.data), "acl": node.acl,
        "czxid": hex(stat.czxid.0), "mzxid": hex(stat.mzxid.0), "ctime": stat.ctime, "mtime": stat.mtime,
        "version": stat.version, "cversion": stat.cversion, "aversion": stat.aversion,
        "ephemeralOwner": hex(stat.ephemeral_owner as u64), "pzxid": hex(stat.pzxid.0),
    })
}

/// A record of a log on one line: time, session, cxid, zxid, operation, and its fields joined by commas.
pub fn record_text(record: &Record<'_>) -> Result<String, DecodeError> {
    let (h, txn, _) = decode_payload(record.payload)?;
    let mut out = format!("{} session {:#x} cxid {:#x} zxid {:#x} {}", date(h.time.0), h.session.0, h.cxid.0, h.zxid.0, op_name(h.kind));
    let details = details(&txn)?;
    if !details.is_empty() {
        out.push(' ');
        out.push_str(&details);
    }
    Ok(out)
}

fn op_name(kind: i32) -> &'static str {
    match TxnType::from_i32(kind) {
        Some(TxnType::CreateSession) => "createSession",
        Some(TxnType::CloseSession) => "closeSession",
        Some(TxnType::Error) => "error",
        Some(TxnType::Create) => "create",
        Some(TxnType::Delete) => "delete",
        Some(TxnType::SetData) => "setData",
        Some(TxnType::SetAcl) => "setACL",
        Some(TxnType::Check) => "check",
        Some(TxnType::Multi) => "multi",
        Some(TxnType::Create2) => "create2",
        Some(TxnType::Reconfig) => "reconfig",
        Some(TxnType::CreateContainer) => "createContainer",
        Some(TxnType::DeleteContainer) => "deleteContainer",
        Some(TxnType::CreateTtl) => "createTTL",
        None => "unknown",
    }
}

fn details(txn: &Txn<'_>) -> Result<String, DecodeError> {
    Ok(match txn {
        Txn::CreateSession { timeout_ms } => timeout_ms.to_string(),
        Txn::CloseSession { paths } => paths.iter().flat_map(|p| p.iter()).map(shown_path).collect::<Vec<_>>().join(","),
        Txn::Error { code } => code.to_string(),
        Txn::Create(c) => {
            let parent = c.parent_cversion.unwrap_or(-1);
            let start = format!("{},{},{}", shown_path(c.path), shown(c.data), acl_text(c.acl));
            match c.kind {
                CreateKind::Create { ephemeral } | CreateKind::Create2 { ephemeral } => format!("{start},{ephemeral},{parent}"),
                CreateKind::Container => format!("{start},{parent}"),
                CreateKind::Ttl { ttl } => format!("{start},{parent},{ttl}"),
            }
        }
        Txn::Delete { path } | Txn::DeleteContainer { path } => shown_path(path),
        Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
            format!("{},{},{version}", shown_path(path), shown(*data))
        }
        Txn::SetAcl { path, acl, version } => format!("{},{},{version}", shown_path(path), acl_text(*acl)),
        Txn::Check { path, version } => format!("{},{version}", shown_path(path)),
        Txn::Multi(parts) => {
            let part = |p: &SubTxn<'_>| {
                let txn = Txn::read_body(p.kind, &mut Reader::new(p.body))?;
                Ok(format!("{}:{}", op_name(p.kind), details(&txn)?))
            };
            parts.iter().map(part).collect::<Result<Vec<_>, DecodeError>>()?.join(";")
        }
    })
}

/// Paths come from clients: control characters must not reach a terminal.
#[must_use]
pub fn shown_path(path: &str) -> String {
    path.escape_debug().to_string()
}

fn shown(data: Option<&[u8]>) -> String {
    data.map_or("null".to_owned(), |d| String::from_utf8_lossy(d).escape_debug().to_string())
}

fn acl_text(acl: AclVec<'_>) -> String {
    let entry = |e: crate::base::acl::AclEntry<'_>| format!("{}:{}:{}", e.scheme.escape_debug(), e.id.escape_debug(), perms(e.perms));
    format!("[{}]", acl.iter().map(entry).collect::<Vec<_>>().join(" "))
}

fn perms(bits: i32) -> String {
    [(4, 'c'), (8, 'd'), (1, 'r'), (2, 'w'), (16, 'a')].into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, letter)| letter).collect()
}

/// Milliseconds since 1970 as a UTC date and time.
#[must_use]
pub fn date(millis: i64) -> String {
    let (days, of_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (hour, minute, second, milli) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Gregorian date of a day number; years begin in March here, so that the leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(DAYS_PER_ERA), shifted.rem_euclid(DAYS_PER_ERA));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A zxid given on the command line: hex with `0x`, as every message of the server shows it, else decimal.
pub fn parse_zxid(text: &str) -> Result<Zxid, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map(Zxid).map_err(|_| "expected a zxid such as 0x1f or 31".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days_and_before_1970() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_361_500_317, "2026-11-22T15:31:40.317Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(date(millis), text);
        }
        // Any number may stand in a file.
        let _ = (date(i64::MIN), date(i64::MAX));
    }

    #[test]
    fn what_clients_wrote_cannot_reach_a_terminal_raw() {
        assert_eq!(shown_path("/a\u{1b}[2J\n"), "/a\\u{1b}[2J\\n");
        assert_eq!(shown(Some(b"\x07\xff")), "\\u{7}\u{fffd}");
        assert_eq!((shown(None), shown(Some(b""))), ("null".to_owned(), String::new()));
    }

    #[test]
    fn zxids_are_read_as_they_are_shown() {
        assert_eq!(parse_zxid("0x1f"), Ok(Zxid(31)));
        assert_eq!(parse_zxid("31"), Ok(Zxid(31)));
        for bad in ["", "0x", "1f", "-1", "0xg"] {
            assert!(parse_zxid(bad).is_err(), "{bad}");
        }
    }
}

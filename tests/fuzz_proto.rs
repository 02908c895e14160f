//! Hostile bytes against every decoder of the client protocol (rules S1, P14): no panic, no allocation beyond a small multiple of the
//! input, and what is accepted means the same when it is encoded again.

mod fuzzing;

use fuzzing::{allocated_by, each_case, mutate, pick};
use zoo::base::prng::Prng;
use zoo::base::{AclVec, Reader, SessionId, Writer};
use zoo::proto::connect::{ConnectRequest, ConnectResponse};
use zoo::proto::request::{CreateRequest, RequestHeader};
use zoo::proto::response::ReplyHeader;
use zoo::proto::{OpClass, OpCode, Request};

const CASES: u64 = 10_000;

/// Every request type.
fn op_codes() -> Vec<OpCode> {
    (-20..200).filter_map(OpCode::from_i32).collect()
}

/// The smallest part of a multi: its header, an empty path and a version.
const MULTI_PART_BYTES_MIN: usize = 9 + 4 + 4;
/// Room for what does not depend on the input, and for the first growth of vectors.
const ALLOCATION_SLACK: usize = 1024;

/// What decoding `input` may allocate: a vector of parts that doubles as it grows; strings and data are borrowed.
fn allocation_max(input: usize) -> usize {
    4 * size_of::<Request<'_>>() * (input / MULTI_PART_BYTES_MIN) + ALLOCATION_SLACK
}

#[test]
fn every_request_type_survives_hostile_bodies() {
    let ops = op_codes();
    assert!(ops.len() >= 31, "request types are found by number");
    each_case("requests", CASES, |rng| {
        let op = pick(rng, &ops);
        let mut body = Vec::new();
        write_random_body(rng, op, &mut body);
        if rng.chance(3, 4) {
            mutate(rng, &mut body);
        }
        check_body(op, &body);
    });
}

#[test]
fn noise_is_no_request_that_hurts() {
    let ops = op_codes();
    each_case("noise", CASES, |rng| {
        let body: Vec<u8> = (0..rng.below(200)).map(|_| rng.next_u64() as u8 & if rng.chance(1, 2) { 3 } else { 0xff }).collect();
        check_body(pick(rng, &ops), &body);
        let _ = RequestHeader::read(&mut Reader::new(&body));
        let _ = ReplyHeader::read(&mut Reader::new(&body));
    });
}

#[test]
fn undamaged_requests_are_accepted_and_consumed_whole() {
    let ops = op_codes();
    each_case("undamaged", CASES, |rng| {
        let op = pick(rng, &ops);
        let mut body = Vec::new();
        write_random_body(rng, op, &mut body);
        let mut reader = Reader::new(&body);
        let decoded = Request::decode(op, &mut reader);
        assert!(decoded.is_ok(), "{op:?}: {decoded:?}");
        assert!(reader.is_empty(), "{op:?} leaves {} bytes", reader.remaining().len());
    });
}

#[test]
fn connect_exchange_survives_hostile_bytes() {
    each_case("connect", CASES, |rng| {
        let mut frame = Vec::new();
        let password = vec![7; pick(rng, &[0, 1, 15, 16, 17, 100])];
        let (read_only, has_read_only) = (rng.chance(1, 2), rng.chance(1, 2));
        let request = ConnectRequest {
            last_zxid_seen: rng.next_u64() as i64,
            timeout_ms: rng.next_u64() as i32,
            session: SessionId(rng.next_u64() as i64),
            password,
            read_only: read_only && has_read_only,
            has_read_only,
        };
        request.write_frame(&mut frame);
        let mut payload = frame.split_off(4);
        assert_eq!(ConnectRequest::decode(&payload), Ok(request));

        mutate(rng, &mut payload);
        let (decoded, bytes) = allocated_by(|| ConnectRequest::decode(&payload));
        assert!(bytes <= payload.len() + ALLOCATION_SLACK, "{bytes} bytes allocated for {}", payload.len());
        if let Ok(request) = decoded {
            let mut again = Vec::new();
            request.write_frame(&mut again);
            assert_eq!(ConnectRequest::decode(&again[4..]).as_ref(), Ok(&request));
        }
        if let Ok(response) = ConnectResponse::decode(&payload) {
            let mut again = Vec::new();
            response.write_frame(&mut again);
            assert_eq!(ConnectResponse::decode(&again[4..]).as_ref(), Ok(&response));
        }
    });
}

/// A part may not be a multi again, so depth cannot be chosen by a client (rule S1).
#[test]
fn a_multi_in_a_multi_is_refused() {
    for inner in [OpCode::Multi, OpCode::MultiRead] {
        let mut body = Vec::new();
        for _ in 0..1_000 {
            write_part_header(&mut body, inner);
        }
        for outer in [OpCode::Multi, OpCode::MultiRead] {
            assert!(Request::decode(outer, &mut Reader::new(&body)).is_err());
        }
    }
}

#[test]
fn every_request_type_is_routed_somewhere() {
    let routed = |class: OpClass| op_codes().into_iter().filter(|op| op.class() == class).count();
    let classes = [OpClass::Connection, OpClass::Read, OpClass::Write, OpClass::Ordered, OpClass::Refused];
    assert!(classes.iter().all(|class| routed(*class) > 0));
    assert_eq!(classes.iter().map(|class| routed(*class)).sum::<usize>(), op_codes().len());
}

/// Decodes, checks what it cost, and that an accepted request survives being encoded again.
fn check_body(op: OpCode, body: &[u8]) {
    let (decoded, bytes) = allocated_by(|| Request::decode(op, &mut Reader::new(body)));
    assert!(bytes <= allocation_max(body.len()), "{op:?}: {bytes} bytes allocated for {}", body.len());
    let Ok(request) = decoded else { return };
    walk(&request);
    let mut again = Vec::new();
    write_body(op, &request, &mut again);
    assert_eq!(Request::decode(op, &mut Reader::new(&again)).as_ref(), Ok(&request), "{op:?}");
}

/// Checked vectors must yield as many elements as they promise.
fn walk(request: &Request<'_>) {
    match request {
        Request::Create(CreateRequest { acl, .. }) | Request::SetAcl { acl, .. } => assert_eq!(acl.iter().count(), acl.len()),
        Request::SetWatches(w) => {
            for list in [w.data, w.exist, w.child, w.persistent, w.recursive] {
                assert_eq!(list.iter().count(), list.len());
            }
        }
        Request::Multi(parts) | Request::MultiRead(parts) => parts.iter().for_each(walk),
        _ => {}
    }
}

fn path(rng: &mut Prng) -> &'static str {
    pick(rng, &["/", "/a", "/a/b", "", "no slash", "/\u{e9}\u{20ac}", "/zookeeper/config"])
}

fn number(rng: &mut Prng) -> i32 {
    pick(rng, &[0, 1, -1, 5, i32::MAX, i32::MIN])
}

fn optional<T>(rng: &mut Prng, value: T) -> Option<T> {
    rng.chance(3, 4).then_some(value)
}

/// Everything a client may send behind the header of `op`.
fn write_random_body(rng: &mut Prng, op: OpCode, out: &mut Vec<u8>) {
    match op {
        OpCode::Multi | OpCode::MultiRead => {
            let parts: &[OpCode] = if op == OpCode::Multi {
                &[
                    OpCode::Create,
                    OpCode::Create2,
                    OpCode::CreateContainer,
                    OpCode::CreateTtl,
                    OpCode::Delete,
                    OpCode::SetData,
                    OpCode::Check,
                ]
            } else {
                &[OpCode::GetData, OpCode::GetChildren]
            };
            for _ in 0..rng.below(6) {
                let part = pick(rng, parts);
                write_part_header(out, part);
                write_random_body(rng, part, out);
            }
            write_end(out);
        }
        _ => write_body(op, &random_single(rng, op), out),
    }
}

fn random_single(rng: &mut Prng, op: OpCode) -> Request<'static> {
    let (path, version) = (path(rng), number(rng));
    let data = optional(rng, &b"data"[..]);
    let acl = if rng.chance(1, 2) { AclVec::OPEN } else { AclVec::WORLD_READ };
    match op {
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
            let ttl = (op == OpCode::CreateTtl).then(|| rng.next_u64() as i64);
            // The modes that every decoder lets pass as they are: a multi judges the others while it is decoded.
            let flags = rng.below(if ttl.is_some() { 7 } else { 4 }) as i32;
            Request::Create(CreateRequest { op, path, data, acl, flags, ttl })
        }
        OpCode::Delete => Request::Delete { path, version },
        OpCode::Exists => Request::Exists { path, watch: rng.chance(1, 2) },
        OpCode::GetData => Request::GetData { path, watch: rng.chance(1, 2) },
        OpCode::SetData => Request::SetData { path, data, version },
        OpCode::GetAcl => Request::GetAcl { path },
        OpCode::SetAcl => Request::SetAcl { path, acl, version },
        OpCode::GetChildren | OpCode::GetChildren2 => {
            Request::GetChildren { path, watch: rng.chance(1, 2), with_stat: op == OpCode::GetChildren2 }
        }
        OpCode::Sync => Request::Sync { path },
        OpCode::Ping => Request::Ping,
        OpCode::Check => Request::Check { path, version },
        OpCode::Multi | OpCode::MultiRead => unreachable!("written part by part"),
        OpCode::Reconfig => Request::Reconfig {
            joining: optional(rng, "server.1=a:1:2;3"),
            leaving: optional(rng, "1,2"),
            new_members: optional(rng, ""),
            config_id: rng.next_u64() as i64,
        },
        OpCode::CheckWatches => Request::CheckWatches { path, kind: version },
        OpCode::RemoveWatches => Request::RemoveWatches { path, kind: version },
        OpCode::DeleteContainer => Request::DeleteContainer { path },
        OpCode::Auth => Request::Auth { scheme: optional(rng, "digest"), auth: Some(b"u:p") },
        OpCode::Sasl => Request::Sasl { token: data },
        OpCode::SetWatches | OpCode::SetWatches2 => Request::decode(op, &mut Reader::new(random_watches(rng, op))).expect("well formed"),
        OpCode::GetEphemerals => Request::GetEphemerals { prefix: optional(rng, path) },
        OpCode::GetAllChildrenNumber => Request::GetAllChildrenNumber { path },
        OpCode::AddWatch => Request::AddWatch { path, mode: version },
        OpCode::WhoAmI => Request::WhoAmI,
        OpCode::CreateSession => Request::CreateSession,
        OpCode::CloseSession => Request::CloseSession,
    }
}

/// Encoded watch lists; leaked, because requests borrow from them and a test process is short-lived.
fn random_watches(rng: &mut Prng, op: OpCode) -> &'static [u8] {
    let mut out = Vec::new();
    out.put_i64(rng.next_u64() as i64);
    for _ in 0..if op == OpCode::SetWatches2 { 5 } else { 3 } {
        let count = rng.below(4) as usize;
        out.put_len(count);
        (0..count).for_each(|_| out.put_string(path(rng)));
    }
    out.leak()
}

fn write_part_header(out: &mut Vec<u8>, op: OpCode) {
    out.put_i32(op as i32);
    out.put_bool(false);
    out.put_i32(-1);
}

fn write_end(out: &mut Vec<u8>) {
    out.put_i32(-1);
    out.put_bool(true);
    out.put_i32(-1);
}

/// The body of a request as a client encodes it.
fn write_body(op: OpCode, request: &Request<'_>, out: &mut Vec<u8>) {
    match *request {
        Request::Create(c) => {
            out.put_string(c.path);
            out.put_buffer(c.data);
            out.put_raw(c.acl.raw());
            out.put_i32(c.flags);
            if let Some(ttl) = c.ttl {
                out.put_i64(ttl);
            }
        }
        Request::Delete { path, version: n } | Request::Check { path, version: n } => put_path_and_number(out, path, n),
        Request::CheckWatches { path, kind: n } | Request::RemoveWatches { path, kind: n } => put_path_and_number(out, path, n),
        Request::AddWatch { path, mode: n } => put_path_and_number(out, path, n),
        Request::Exists { path, watch } | Request::GetData { path, watch } | Request::GetChildren { path, watch, .. } => {
            out.put_string(path);
            out.put_bool(watch);
        }
        Request::SetData { path, data, version } => {
            out.put_string(path);
            out.put_buffer(data);
            out.put_i32(version);
        }
        Request::SetAcl { path, acl, version } => {
            out.put_string(path);
            out.put_raw(acl.raw());
            out.put_i32(version);
        }
        Request::GetAcl { path } | Request::Sync { path } | Request::DeleteContainer { path } | Request::GetAllChildrenNumber { path } => {
            out.put_string(path)
        }
        Request::Ping | Request::WhoAmI | Request::CreateSession | Request::CloseSession => {}
        Request::Multi(ref parts) | Request::MultiRead(ref parts) => {
            for part in parts {
                match part {
                    // Flags that are no mode come only from a part with a TTL, which is one to create without it.
                    Request::Create(c) if c.op == OpCode::Create && !(0..=3).contains(&c.flags) => {
                        write_part_header(out, OpCode::CreateTtl);
                        write_body(OpCode::CreateTtl, &Request::Create(CreateRequest { ttl: Some(0), ..*c }), out);
                    }
                    part => {
                        write_part_header(out, part_op(part));
                        write_body(part_op(part), part, out);
                    }
                }
            }
            write_end(out);
        }
        Request::Reconfig { joining, leaving, new_members, config_id } => {
            [joining, leaving, new_members].iter().for_each(|text| out.put_buffer(text.map(str::as_bytes)));
            out.put_i64(config_id);
        }
        Request::Auth { scheme, auth } => {
            out.put_i32(0);
            out.put_buffer(scheme.map(str::as_bytes));
            out.put_buffer(auth);
        }
        Request::Sasl { token } => out.put_buffer(token),
        Request::SetWatches(w) => {
            out.put_i64(w.relative_zxid);
            let lists = [w.data, w.exist, w.child, w.persistent, w.recursive];
            let sent = if op == OpCode::SetWatches2 { &lists[..] } else { &lists[..3] };
            sent.iter().for_each(|list| out.put_raw(list.raw()));
        }
        Request::GetEphemerals { prefix } => out.put_buffer(prefix.map(str::as_bytes)),
    }
}

fn put_path_and_number(out: &mut Vec<u8>, path: &str, number: i32) {
    out.put_string(path);
    out.put_i32(number);
}

/// The type of a part of a multi.
fn part_op(part: &Request<'_>) -> OpCode {
    match part {
        Request::Create(c) => c.op,
        Request::Delete { .. } => OpCode::Delete,
        Request::SetData { .. } => OpCode::SetData,
        Request::Check { .. } => OpCode::Check,
        Request::GetData { .. } => OpCode::GetData,
        Request::GetChildren { .. } => OpCode::GetChildren,
        other => unreachable!("{other:?} is no part of a multi"),
    }
}

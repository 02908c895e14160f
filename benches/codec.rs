//! The client protocol's codec: frames in, requests out, replies and transactions written. Beside each the naive way, owned strings and
//! vectors, or a copy of as many bytes.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use zoo::base::{AclVec, Reader, Writer, Xid, Zxid};
use zoo::proto::request::RequestHeader;
use zoo::proto::response::ReplyFrame;
use zoo::proto::{OpCode, Request};
use zoo::record::txn::{CreateKind, CreateTxn, decode_payload, encode_payload};
use zoo::record::{Txn, TxnHeader, TxnType};

const PATH: &str = "/app/svc-123/inst-456";

fn get_data() -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_i32(1);
    frame.put_i32(OpCode::GetData as i32);
    frame.put_string(PATH);
    frame.put_bool(false);
    frame
}

fn create() -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_i32(2);
    frame.put_i32(OpCode::Create as i32);
    frame.put_string(PATH);
    frame.put_buffer(Some(&[7; 100]));
    frame.put_raw(AclVec::OPEN.raw());
    frame.put_i32(0);
    frame
}

/// What a request costs to look at.
fn decode(frame: &[u8]) -> Request<'_> {
    let mut body = Reader::new(frame);
    let header = RequestHeader::read(&mut body).expect("a header");
    Request::decode(OpCode::from_i32(header.op).expect("an operation"), &mut body).expect("a request")
}

/// The same with everything copied out, as a straightforward server does.
fn decode_owned(frame: &[u8]) -> (String, Vec<u8>, Vec<(i32, String, String)>) {
    match decode(frame) {
        Request::Create(c) => {
            let acl = c.acl.iter().map(|e| (e.perms, e.scheme.to_owned(), e.id.to_owned())).collect();
            (c.path.to_owned(), c.data.unwrap_or_default().to_vec(), acl)
        }
        Request::GetData { path, .. } => (path.to_owned(), Vec::new(), Vec::new()),
        other => unreachable!("{other:?}"),
    }
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode a request");
    for (name, frame) in [("getData", get_data()), ("create of 100 B", create())] {
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(name, |b| b.iter(|| black_box(decode(black_box(&frame)))));
        group.bench_function(format!("{name}, everything copied"), |b| b.iter(|| black_box(decode_owned(black_box(&frame)))));
    }
    group.finish();
}

fn replies(c: &mut Criterion) {
    let (data, stat) = ([7u8; 100], [1u8; 68]);
    let mut out = Vec::with_capacity(64 << 10);
    c.bench_function("write a getData reply of 100 B", |b| {
        b.iter(|| {
            if out.len() > 60 << 10 {
                out.clear();
            }
            let frame = ReplyFrame::begin(&mut out, Xid(1), Zxid(7));
            out.put_buffer(Some(black_box(&data)));
            out.put_raw(black_box(&stat));
            frame.finish(&mut out);
        });
    });
    c.bench_function("copy as many bytes", |b| {
        let reply = [3u8; 4 + 16 + 4 + 100 + 68];
        b.iter(|| {
            if out.len() > 60 << 10 {
                out.clear();
            }
            out.extend_from_slice(black_box(&reply));
        });
    });
}

fn transactions(c: &mut Criterion) {
    let kind = CreateKind::Create { ephemeral: false };
    let txn = Txn::Create(CreateTxn { kind, path: PATH, data: Some(&[7; 100]), acl: AclVec::OPEN, parent_cversion: Some(1) });
    let header = TxnHeader {
        session: zoo::base::SessionId(1),
        cxid: Xid(1),
        zxid: Zxid(1),
        time: zoo::base::WallTime(1),
        kind: TxnType::Create as i32,
    };
    let mut payload = Vec::new();
    encode_payload(&header, &txn, &mut payload);
    c.bench_function("decode a create transaction", |b| b.iter(|| black_box(decode_payload(black_box(&payload)).expect("decodes"))));
    let mut out = Vec::new();
    c.bench_function("encode a create transaction", |b| {
        b.iter(|| {
            out.clear();
            encode_payload(black_box(&header), black_box(&txn), &mut out);
        });
    });
    c.bench_function("copy a transaction of as many bytes", |b| {
        b.iter(|| {
            out.clear();
            out.extend_from_slice(black_box(&payload));
        });
    });
}

criterion_group!(benches, requests, replies, transactions);
criterion_main!(benches);

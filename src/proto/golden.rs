//! Frames as a ZooKeeper 3.9.4 server and its clients exchanged them, byte for byte: decoded here, and what a server sends encoded
//! again. Session, password and times are those of the recording.

use super::connect::{ConnectRequest, ConnectResponse};
use super::event::{ZXID_REPLAYED, write_notification};
use super::request::{CreateRequest, RequestHeader, SetWatches};
use super::response::{ReplyFrame, ReplyHeader, write_header_only, write_multi_end, write_multi_error, write_multi_ok};
use super::{ErrorCode, EventType, OpCode, Request};
use crate::base::jute::StringVec;
use crate::base::{AclVec, Reader, SessionId, Stat, Writer, Xid, Zxid};

/// Bytes of hexadecimal text; blanks and line ends are ignored.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    assert_eq!(digits.len() % 2, 0, "{text}");
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    digits.chunks(2).map(byte).collect()
}

/// The payload of one whole frame.
fn payload(frame: &[u8]) -> &[u8] {
    let (length, payload) = frame.split_first_chunk::<4>().expect("length");
    assert_eq!(i32::from_be_bytes(*length) as usize, payload.len(), "frame length");
    payload
}

/// Decodes a client's frame, which must be consumed to its end, and checks header and request.
fn assert_request(frame: &str, xid: i32, op: OpCode, want: &Request<'_>) {
    let bytes = hex(frame);
    let mut reader = Reader::new(payload(&bytes));
    let header = RequestHeader::read(&mut reader).expect("header");
    assert_eq!((header.xid, OpCode::from_i32(header.op)), (Xid(xid), Some(op)));
    assert_eq!(Request::decode(op, &mut reader).as_ref(), Ok(want));
    assert!(reader.is_empty(), "{op:?} leaves bytes behind");
}

/// Encodes a reply and checks it against the recording; also reads its header back.
fn assert_reply(frame: &str, xid: i32, zxid: u64, body: impl FnOnce(&mut Vec<u8>)) {
    let mut out = b"earlier reply".to_vec();
    let before = out.len();
    let reply = ReplyFrame::begin(&mut out, Xid(xid), Zxid(zxid));
    body(&mut out);
    reply.finish(&mut out);
    let want = hex(frame);
    assert_eq!(out[before..], want);
    let header = ReplyHeader::read(&mut Reader::new(payload(&want))).expect("header");
    assert_eq!(header, ReplyHeader { xid: Xid(xid), zxid: zxid as i64, err: 0 });
}

#[test]
fn connect_exchange_of_a_new_session() {
    let request = ConnectRequest {
        last_zxid_seen: 0,
        timeout_ms: 10_000,
        session: SessionId::NONE,
        password: vec![0; 16],
        read_only: false,
        has_read_only: true,
    };
    let frame = hex("0000002d 00000000 0000000000000000 00002710 0000000000000000 00000010 00000000000000000000000000000000 00");
    assert_eq!(ConnectRequest::decode(payload(&frame)).as_ref(), Ok(&request));
    let mut out = Vec::new();
    request.write_frame(&mut out);
    assert_eq!(out, frame);

    let response = ConnectResponse {
        timeout_ms: 10_000,
        session: SessionId(0x0100_0024_5f1c_0007),
        password: hex("df0840611bc0d10ed4c87235f715bea8").try_into().expect("16 bytes"),
        read_only: Some(false),
    };
    let frame = hex("00000025 00000000 00002710 010000245f1c0007 00000010 df0840611bc0d10ed4c87235f715bea8 00");
    assert_eq!(ConnectResponse::decode(payload(&frame)).as_ref(), Ok(&response));
    let mut out = Vec::new();
    response.write_frame(&mut out);
    assert_eq!(out, frame);
}

#[test]
fn clients_before_read_only_mode_neither_send_nor_get_the_flag() {
    let frame = hex("0000002c 00000000 0000000000000000 00002710 0000000000000000 00000010 00000000000000000000000000000000");
    let request = ConnectRequest::decode(payload(&frame)).expect("valid");
    assert!(!request.has_read_only && !request.read_only);
    let mut out = Vec::new();
    request.write_frame(&mut out);
    assert_eq!(out, frame);
    let mut out = Vec::new();
    ConnectResponse::refused(None).write_frame(&mut out);
    assert_eq!(out, hex("00000024 00000000 00000000 0000000000000000 00000010 00000000000000000000000000000000"));
}

#[test]
fn create() {
    let frame =
        "00000033 00000001 00000001 00000002 2f67 00000002 6162 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000000";
    let request = CreateRequest { op: OpCode::Create, path: "/g", data: Some(b"ab"), acl: AclVec::OPEN, flags: 0, ttl: None };
    assert_request(frame, 1, OpCode::Create, &Request::Create(request));
    assert_reply("00000016 00000001 0000000000000011 00000000 00000002 2f67", 1, 0x11, |out| out.put_string("/g"));
}

#[test]
fn exists_with_a_watch_on_an_absent_node_and_the_event_of_its_creation() {
    let request = Request::Exists { path: "/h", watch: true };
    assert_request("0000000f 00000002 00000003 00000002 2f68 01", 2, OpCode::Exists, &request);

    let refused = hex("00000010 00000002 0000000000000011 ffffff9b");
    let mut out = Vec::new();
    write_header_only(&mut out, Xid(2), 0x11, ErrorCode::NoNode);
    assert_eq!(out, refused);
    // A reply that fails after part of its body was written is the same.
    let mut out = Vec::new();
    let reply = ReplyFrame::begin(&mut out, Xid(2), Zxid(0x11));
    out.put_string("half of a body");
    reply.fail(&mut out, ErrorCode::NoNode);
    assert_eq!(out, refused);

    let mut out = Vec::new();
    write_notification(&mut out, 0x12, EventType::NodeCreated, "/h");
    assert_eq!(out, hex("0000001e ffffffff 0000000000000012 00000000 00000001 00000003 00000002 2f68"));
    assert_reply("00000016 00000003 0000000000000012 00000000 00000002 2f68", 3, 0x12, |out| out.put_string("/h"));
}

#[test]
fn get_data() {
    let request = Request::GetData { path: "/g", watch: false };
    assert_request("0000000f 00000004 00000004 00000002 2f67 00", 4, OpCode::GetData, &request);
    let stat = Stat { czxid: 0x11, mzxid: 0x11, pzxid: 0x11, data_length: 2, ctime: 5, mtime: 6, ..Stat::default() };
    let stat_bytes = "0000000000000011 0000000000000011 0000000000000005 0000000000000006 00000000 00000000 00000000 \
        0000000000000000 00000002 00000000 0000000000000011";
    let frame = format!("0000005a 00000004 0000000000000012 00000000 00000002 6162 {stat_bytes}");
    assert_reply(&frame, 4, 0x12, |out| {
        out.put_buffer(Some(b"ab"));
        stat.write(out);
    });
    assert_eq!(Stat::read(&mut Reader::new(&hex(stat_bytes))), Ok(stat));
}

#[test]
fn multi_that_fails() {
    let create = "00000002 2f69 00000000 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000000";
    let frame = format!(
        "00000069 00000005 0000000e 00000001 00 ffffffff {create} 0000000d 00 ffffffff 00000002 2f67 00000007
         00000002 00 ffffffff 00000002 2f68 ffffffff ffffffff 01 ffffffff"
    );
    let request = Request::Multi(vec![
        Request::Create(CreateRequest { op: OpCode::Create, path: "/i", data: Some(b""), acl: AclVec::OPEN, flags: 0, ttl: None }),
        Request::Check { path: "/g", version: 7 },
        Request::Delete { path: "/h", version: -1 },
    ]);
    assert_request(&frame, 5, OpCode::Multi, &request);
    let reply = "00000040 00000005 0000000000000013 00000000 ffffffff 00 00000000 00000000 ffffffff 00 ffffff99 ffffff99
        ffffffff 00 fffffffe fffffffe ffffffff 01 ffffffff";
    assert_reply(reply, 5, 0x13, |out| {
        for err in [ErrorCode::Ok, ErrorCode::BadVersion, ErrorCode::RuntimeInconsistency] {
            write_multi_error(out, err);
        }
        write_multi_end(out);
    });
}

#[test]
fn multi_that_succeeds() {
    let stat = Stat { czxid: 0x11, mzxid: 0x14, version: 1, data_length: 1, ..Stat::default() };
    let stat_bytes = "0000000000000011 0000000000000014 0000000000000000 0000000000000000 00000001 00000000 00000000 \
        0000000000000000 00000001 00000000 0000000000000000";
    let frame = format!(
        "00000078 00000006 0000000000000014 00000000 00000005 00 00000000 {stat_bytes} 0000000d 00 00000000
         00000002 00 00000000 ffffffff 01 ffffffff"
    );
    assert_reply(&frame, 6, 0x14, |out| {
        write_multi_ok(out, OpCode::SetData);
        stat.write(out);
        write_multi_ok(out, OpCode::Check);
        write_multi_ok(out, OpCode::Delete);
        write_multi_end(out);
    });
}

#[test]
fn ping_auth_and_close_session_are_answered_by_a_header() {
    assert_request("00000008 fffffffe 0000000b", -2, OpCode::Ping, &Request::Ping);
    let auth = Request::Auth { scheme: Some("digest"), auth: Some(b"u:p") };
    assert_request("0000001d fffffffc 00000064 00000000 00000006 646967657374 00000003 753a70", -4, OpCode::Auth, &auth);
    assert_request("00000008 00000009 fffffff5", 9, OpCode::CloseSession, &Request::CloseSession);
    for (xid, zxid, frame) in [
        (Xid::PING, 0x14, "00000010 fffffffe 0000000000000014 00000000"),
        (Xid::AUTH, 0, "00000010 fffffffc 0000000000000000 00000000"),
        (Xid(9), 0x15, "00000010 00000009 0000000000000015 00000000"),
    ] {
        let mut out = Vec::new();
        write_header_only(&mut out, xid, zxid, ErrorCode::Ok);
        assert_eq!(out, hex(frame));
    }
}

/// Which request a part of a multi is, is decided by its flags; a TTL goes with the modes that have one.
#[test]
fn multi_parts_with_a_ttl_are_creates_without_it_unless_their_mode_has_one() {
    let part = |flags: i32| {
        let mut body = hex("00000015 00 ffffffff 00000002 2f61 00000000 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65");
        body.put_i32(flags);
        body.put_i64(5000);
        body.extend(hex("ffffffff 01 ffffffff"));
        match Request::decode(OpCode::Multi, &mut Reader::new(&body)) {
            Ok(Request::Multi(parts)) => match parts[..] {
                [Request::Create(CreateRequest { op, flags, ttl, .. })] => (op, flags, ttl),
                _ => panic!("{parts:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    for flags in [0, 1, 2, 3, 7, -1] {
        assert_eq!(part(flags), (OpCode::Create, flags, None), "a bad mode is for the tree to refuse, as the part's own error");
    }
    assert_eq!(part(4), (OpCode::CreateContainer, 4, None));
    assert_eq!((part(5), part(6)), ((OpCode::CreateTtl, 5, Some(5000)), (OpCode::CreateTtl, 6, Some(5000))));
}

#[test]
fn add_watch() {
    let request = Request::AddWatch { path: "/g", mode: 1 };
    assert_request("00000012 00000007 0000006a 00000002 2f67 00000001", 7, OpCode::AddWatch, &request);
    // Its body is an error code of its own, always 0.
    assert_reply("00000014 00000007 0000000000000014 00000000 00000000", 7, 0x14, |out| out.put_i32(0));
}

#[test]
fn set_watches_and_the_event_it_replays() {
    let bytes = hex("00000001 00000002 2f67");
    let data = Reader::new(&bytes).string_vec().expect("valid");
    let request = Request::SetWatches(SetWatches {
        relative_zxid: 3,
        data,
        exist: StringVec::EMPTY,
        child: StringVec::EMPTY,
        persistent: StringVec::EMPTY,
        recursive: StringVec::EMPTY,
    });
    let frame = "00000022 fffffff8 00000065 0000000000000003 00000001 00000002 2f67 00000000 00000000";
    assert_request(frame, -8, OpCode::SetWatches, &request);
    let mut out = Vec::new();
    write_notification(&mut out, ZXID_REPLAYED, EventType::NodeDataChanged, "/g");
    write_header_only(&mut out, Xid::SET_WATCHES, 0x14, ErrorCode::Ok);
    let want = "0000001e ffffffff ffffffffffffffff 00000000 00000003 00000003 00000002 2f67
        00000010 fffffff8 0000000000000014 00000000";
    assert_eq!(out, hex(want));
}

#[test]
fn who_am_i() {
    assert_request("00000008 00000008 0000006b", 8, OpCode::WhoAmI, &Request::WhoAmI);
    let frame = "00000036 00000008 0000000000000014 00000000 00000002 00000002 6970 00000009 3132372e302e302e31 \
        00000006 646967657374 00000001 75";
    assert_reply(frame, 8, 0x14, |out| {
        out.put_len(2);
        for text in ["ip", "127.0.0.1", "digest", "u"] {
            out.put_string(text);
        }
    });
}

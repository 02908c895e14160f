use super::*;
use crate::base::{SessionId, WallTime, Xid, Zxid};
use crate::record::header::TXN_HEADER_BYTES;
use proptest::prelude::*;

fn header(kind: i32) -> TxnHeader {
    TxnHeader { session: SessionId(-5), cxid: Xid(7), zxid: Zxid::new(3, 9), time: WallTime(1_700_000_000_000), kind }
}

fn encoded(txn: &Txn<'_>, digest: Option<TxnDigest>) -> Vec<u8> {
    let mut out = Vec::new();
    encode_payload(&header(txn.kind()), txn, &mut out);
    digest.iter().for_each(|d| d.write(&mut out));
    out
}

fn create(kind: CreateKind) -> Txn<'static> {
    Txn::Create(CreateTxn { kind, path: "/a/b", data: Some(b"data"), acl: AclVec::OPEN, parent_cversion: Some(4) })
}

/// One of every type, with null and empty data where data is.
fn one_of_each(paths: StringVec<'_>) -> Vec<Txn<'_>> {
    vec![
        Txn::CreateSession { timeout_ms: 30_000 },
        Txn::CloseSession { paths: Some(paths) },
        Txn::Error { code: -101 },
        create(CreateKind::Create { ephemeral: true }),
        create(CreateKind::Create2 { ephemeral: false }),
        create(CreateKind::Container),
        create(CreateKind::Ttl { ttl: 1 << 39 }),
        Txn::Delete { path: "/gone" },
        Txn::DeleteContainer { path: "/empty" },
        Txn::SetData { path: "/a", data: None, version: 2 },
        Txn::SetData { path: "/a", data: Some(b""), version: 3 },
        Txn::Reconfig { path: "/zookeeper/config", data: Some(b"server.1=x"), version: -1 },
        Txn::SetAcl { path: "/a", acl: AclVec::WORLD_READ, version: 1 },
        Txn::Multi(vec![SubTxn { kind: 2, body: b"\0\0\0\x02/x" }, SubTxn { kind: -1, body: b"\xff\xff\xff\xfe" }]),
    ]
}

#[test]
fn every_type_decodes_to_what_was_encoded_with_and_without_a_digest() {
    let paths = crate::base::Reader::new(b"\0\0\0\x02\0\0\0\x02/a\0\0\0\x02/b").string_vec().expect("valid");
    for txn in one_of_each(paths) {
        for digest in [None, Some(TxnDigest { version: 2, digest: u64::MAX - 3 })] {
            let bytes = encoded(&txn, digest);
            assert_eq!(decode_payload(&bytes), Ok((header(txn.kind()), txn.clone(), digest)));
        }
    }
}

#[test]
fn the_layouts_of_old_servers_are_kept_as_they_are() {
    let old =
        CreateTxn { kind: CreateKind::Create { ephemeral: false }, path: "/v0", data: None, acl: AclVec::OPEN, parent_cversion: None };
    for txn in [Txn::Create(old), Txn::CloseSession { paths: None }] {
        let bytes = encoded(&txn, None);
        let (h, decoded, _) = decode_payload(&bytes).expect("valid");
        assert_eq!(decoded, txn);
        let mut again = Vec::new();
        encode_payload(&h, &decoded, &mut again);
        assert_eq!(again, bytes);
    }
}

/// Nothing that is cut short may pass for a shorter transaction, except where the older layout is exactly that.
#[test]
fn a_payload_cut_anywhere_is_refused() {
    for txn in one_of_each(StringVec::EMPTY) {
        let whole = encoded(&txn, Some(TxnDigest { version: 2, digest: 1 }));
        let body_end = whole.len() - 12;
        for cut in 0..whole.len() {
            let legal = cut == body_end
                || (cut == TXN_HEADER_BYTES && matches!(txn, Txn::CloseSession { .. }))
                || (cut + 4 == body_end
                    && matches!(txn, Txn::Create(CreateTxn { kind: CreateKind::Create { .. } | CreateKind::Create2 { .. }, .. })));
            assert_eq!(decode_payload(&whole[..cut]).is_ok(), legal, "{txn:?} cut at {cut} of {}", whole.len());
        }
    }
}

#[test]
fn bytes_behind_the_digest_unknown_types_and_bare_checks_are_refused() {
    let mut long = encoded(&Txn::Delete { path: "/a" }, Some(TxnDigest { version: 2, digest: 1 }));
    long.push(0);
    assert!(decode_payload(&long).is_err());
    for kind in [0, 3, 4, 6, 13, 22, 99, i32::MIN] {
        let mut bytes = Vec::new();
        header(kind).write(&mut bytes);
        bytes.extend_from_slice(b"\0\0\0\x02/a\0\0\0\x01");
        assert!(decode_payload(&bytes).is_err(), "type {kind}");
    }
}

#[test]
fn a_header_is_32_bytes_in_the_order_of_the_format() {
    let mut bytes = Vec::new();
    header(-10).write(&mut bytes);
    let want = [
        &(-5i64).to_be_bytes()[..],
        &7i32.to_be_bytes(),
        &0x3_0000_0009i64.to_be_bytes(),
        &1_700_000_000_000i64.to_be_bytes(),
        &(-10i32).to_be_bytes(),
    ];
    assert_eq!(bytes, want.concat());
    assert_eq!(bytes.len(), TXN_HEADER_BYTES);
    assert_eq!(TxnHeader::read(&mut crate::base::Reader::new(&bytes)), Ok(header(-10)));
}

proptest! {
    #[test]
    fn arbitrary_bodies_never_panic_and_what_decodes_encodes_to_the_same_bytes(
        kind in prop_oneof![Just(-11), Just(-10), Just(-1), 0i32..23],
        body in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(b'/'), any::<u8>()], 0..80),
    ) {
        let mut bytes = Vec::new();
        header(kind).write(&mut bytes);
        bytes.extend_from_slice(&body);
        if let Ok((h, txn, digest)) = decode_payload(&bytes) {
            let mut again = Vec::new();
            encode_payload(&h, &txn, &mut again);
            digest.iter().for_each(|d| d.write(&mut again));
            // A boolean other than 0 and 1, and a negative count other than -1, are read but not kept.
            let mut r = crate::base::Reader::new(&again);
            prop_assert_eq!(again.len(), bytes.len());
            prop_assert!(TxnHeader::read(&mut r).is_ok());
            let decoded_again = decode_payload(&again).map(|(h, t, d)| (h, t.kind(), d));
            prop_assert_eq!(decoded_again, Ok((h, txn.kind(), digest)));
        }
    }
}

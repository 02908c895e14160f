//! What readers get, at which zxid.

use super::*;
use ErrorCode::{BadArguments, NoAuth, NoNode};

fn reader(rig: &mut Rig) -> (TreeReader, Zxid) {
    let mut reader = rig.tree.reader();
    let at = reader.begin_burst();
    (reader, at)
}
fn bytes(read: impl FnOnce(&mut Vec<u8>) -> Result<(), ErrorCode>) -> Result<Vec<u8>, ErrorCode> {
    let mut out = vec![0xee];
    let done = read(&mut out);
    assert_eq!(out[0], 0xee, "appends");
    done.map(|()| out[1..].to_vec())
}
/// The children, whole and in pieces of every size, which must not differ.
fn list(reader: &TreeReader, at: Zxid, path: &str, with_stat: bool, auth: &Auth, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
    let start = out.len();
    assert!(reader.get_children(at, path, with_stat, auth, (usize::MAX, usize::MAX), out)?);
    for nodes in 1..5 {
        let listing = reader.list_children(at, path, with_stat, auth).expect("as readable as before");
        assert_eq!(in_pieces(listing, nodes), out[start..], "{nodes} at a time");
    }
    Ok(())
}
fn count(reader: &TreeReader, at: Zxid, path: &str, auth: &Auth, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
    out.extend(in_pieces(reader.count_below(at, path, auth)?, usize::MAX));
    for nodes in 1..5 {
        assert_eq!(in_pieces(reader.count_below(at, path, auth)?, nodes), out[out.len() - 4..], "{nodes} at a time");
    }
    Ok(())
}
fn in_pieces(mut listing: Listing, nodes: usize) -> Vec<u8> {
    let bytes = loop {
        if let Some(bytes) = listing.measure(nodes) {
            break bytes;
        }
    };
    let mut out = Vec::new();
    while !listing.write(nodes, usize::MAX, &mut out) {}
    assert_eq!(out.len(), bytes, "as long as announced");
    out
}
fn names(body: &[u8]) -> Vec<String> {
    let mut all: Vec<String> = Reader::new(body).string_vec().expect("names").iter().map(str::to_owned).collect();
    all.sort();
    all
}

#[test]
fn get_data_and_exists_give_what_was_written() {
    let mut rig = Rig::new();
    rig.make("/a");
    rig.request(&create_with(OpCode::Create, "/null", None, AclVec::OPEN, 0, None));
    let (reader, at) = reader(&mut rig);
    let me = Auth::default();
    let body = bytes(|out| reader.get_data(at, "/a", &me, out)).expect("readable");
    let mut r = Reader::new(&body);
    assert_eq!(r.buffer(), Ok(Some(&b"d"[..])));
    assert_eq!(Stat::read(&mut r), Ok(rig.stat("/a")));
    assert!(r.is_empty());
    let body = bytes(|out| reader.get_data(at, "/null", &me, out)).expect("readable");
    assert_eq!(Reader::new(&body).buffer(), Ok(None), "null, not empty");
    let body = bytes(|out| reader.exists(at, "/a", &me, out)).expect("there");
    assert_eq!(Stat::read(&mut Reader::new(&body)), Ok(rig.stat("/a")));
}

#[test]
fn odd_paths_are_not_there_and_the_empty_one_is_the_root() {
    let mut rig = Rig::new();
    rig.make("/a");
    let (reader, at) = reader(&mut rig);
    let me = Auth::default();
    for path in ["/missing", "/a/", "a", "//", "/a//b"] {
        assert_eq!(bytes(|out| reader.get_data(at, path, &me, out)), Err(NoNode), "{path}");
        assert_eq!(bytes(|out| reader.exists(at, path, &me, out)), Err(NoNode), "{path}");
        assert_eq!(bytes(|out| list(&reader, at, path, true, &me, out)), Err(NoNode), "{path}");
        assert_eq!(bytes(|out| reader.get_acl(at, path, &me, out)), Err(NoNode), "{path}");
        assert_eq!(bytes(|out| count(&reader, at, path, &me, out)), Err(NoNode), "{path}");
        assert_eq!(reader.change_zxids(at, path), None);
    }
    assert_eq!(bytes(|out| reader.exists(at, "/a\0", &me, out)), Err(BadArguments));
    assert_eq!(bytes(|out| reader.get_data(at, "/a\0", &me, out)), Err(NoNode));
    assert_eq!(bytes(|out| reader.get_data(at, "", &me, out)), bytes(|out| reader.get_data(at, "/", &me, out)));
    assert_eq!(bytes(|out| list(&reader, at, "", false, &me, out)).map(|b| names(&b)), Ok(vec!["a".to_owned(), "zookeeper".to_owned()]));
    assert!(bytes(|out| reader.exists(at, "", &me, out)).is_ok());
    assert!(bytes(|out| reader.get_acl(at, "", &me, out)).is_ok());
}

#[test]
fn children_are_bare_names_with_the_stat_on_request() {
    let mut rig = Rig::new();
    rig.make("/a");
    for name in ["x", "y", "é中"] {
        rig.make(&format!("/a/{name}"));
    }
    rig.make("/a/x/deep");
    let (reader, at) = reader(&mut rig);
    let me = Auth::default();
    let plain = bytes(|out| list(&reader, at, "/a", false, &me, out)).expect("readable");
    assert_eq!(names(&plain), ["x", "y", "é中"]);
    let with_stat = bytes(|out| list(&reader, at, "/a", true, &me, out)).expect("readable");
    assert_eq!(with_stat[..plain.len()], plain[..]);
    assert_eq!(Stat::read(&mut Reader::new(&with_stat[plain.len()..])), Ok(rig.stat("/a")));
    let below = |path: &str| bytes(|out| count(&reader, at, path, &me, out)).map(|b| Reader::new(&b).i32());
    assert_eq!(below("/a"), Ok(Ok(4)));
    assert_eq!(below("/a/y"), Ok(Ok(0)));
    assert_eq!(below("/"), Ok(Ok(rig.tree.counts().znodes as i32 - 2)));
}

#[test]
fn reads_need_read() {
    let mut rig = Rig::new();
    let digest_only = acl_bytes(&[(31 & !1, "world", "anyone"), (1, "digest", "u:secret")]);
    rig.request(&create_with(OpCode::Create, "/a", None, acl_vec(&digest_only), 0, None));
    let (reader, at) = reader(&mut rig);
    let nobody = Auth::default();
    let me = auth(&[("digest", "u:secret")]);
    type Read = fn(&TreeReader, Zxid, &Auth, &mut Vec<u8>) -> Result<(), ErrorCode>;
    let reads: [Read; 4] = [
        |r, at, who, out| r.get_data(at, "/a", who, out),
        |r, at, who, out| r.exists(at, "/a", who, out),
        |r, at, who, out| list(r, at, "/a", false, who, out),
        |r, at, who, out| count(r, at, "/a", who, out),
    ];
    for read in reads {
        assert_eq!(bytes(|out| read(&reader, at, &nobody, out)), Err(NoAuth));
        assert!(bytes(|out| read(&reader, at, &me, out)).is_ok());
    }
    assert!(reader.change_zxids(at, "/a").is_some(), "setWatches asks nobody");
}

#[test]
fn get_acl_hides_hashes_from_those_who_may_only_read() {
    let mut rig = Rig::new();
    let admin = acl_bytes(&[(1, "world", "anyone"), (31, "digest", "u:secret"), (31, "digest", "nocolon:h:x"), (1, "ip", "1.2.3.4")]);
    // The third entry is not one fix_up would take; images hold what older servers took.
    let txn = Txn::SetAcl { path: "/a", acl: acl_vec(&admin), version: 1 };
    rig.make("/a");
    let header = TxnHeader { session: rig.session, cxid: Xid(1), zxid: Zxid(rig.zxid + 1), time: WallTime(1), kind: 7 };
    rig.tree.apply(&header, &txn);
    rig.tree.commit(header.zxid);
    let (reader, at) = reader(&mut rig);
    let ids = |who: &Auth| {
        let body = bytes(|out| reader.get_acl(at, "/a", who, out)).expect("readable");
        let mut r = Reader::new(&body);
        let list = AclVec::read(&mut r).expect("a list");
        let ids: Vec<String> = list.iter().map(|e| format!("{}:{}", e.scheme, e.id)).collect();
        assert_eq!(Stat::read(&mut r).expect("a stat").aversion, 1);
        ids
    };
    assert_eq!(ids(&Auth::default()), ["world:anyone", "digest:u:x", "digest:nocolon:x", "ip:1.2.3.4"]);
    assert_eq!(ids(&auth(&[("digest", "u:secret")])), ["world:anyone", "digest:u:secret", "digest:nocolon:h:x", "ip:1.2.3.4"]);
    let mut rig = Rig::new();
    let write_only = acl_bytes(&[(2, "world", "anyone")]);
    rig.request(&create_with(OpCode::Create, "/w", None, acl_vec(&write_only), 0, None));
    let admin_only = acl_bytes(&[(16, "world", "anyone")]);
    rig.request(&create_with(OpCode::Create, "/adm", None, acl_vec(&admin_only), 0, None));
    let mut reader = rig.tree.reader();
    let at = reader.begin_burst();
    assert_eq!(bytes(|out| reader.get_acl(at, "/w", &Auth::default(), out)), Err(NoAuth));
    assert!(bytes(|out| reader.get_acl(at, "/adm", &Auth::default(), out)).is_ok(), "ADMIN is enough");
}

#[test]
fn multi_read_answers_part_by_part() {
    let mut rig = Rig::new();
    rig.make("/a");
    rig.make("/a/b");
    let (reader, at) = reader(&mut rig);
    let parts = [
        Request::GetData { path: "/a", watch: false },
        Request::GetChildren { path: "/missing", watch: false, with_stat: false },
        Request::GetChildren { path: "/a", watch: false, with_stat: false },
    ];
    let mut want = Vec::new();
    want.extend_from_slice(b"\0\0\0\x04\0\0\0\0\0");
    reader.get_data(at, "/a", &Auth::default(), &mut want).expect("readable");
    want.extend_from_slice(b"\xff\xff\xff\xff\0\xff\xff\xff\x9b\xff\xff\xff\x9b");
    want.extend_from_slice(b"\0\0\0\x08\0\0\0\0\0");
    want.extend_from_slice(b"\0\0\0\x01\0\0\0\x01b");
    want.extend_from_slice(b"\xff\xff\xff\xff\x01\xff\xff\xff\xff");
    for nodes in [1, 2, 3, 4, usize::MAX] {
        assert_eq!(in_pieces(reader.multi_read(at, &parts, &Auth::default()), nodes), want, "{nodes} at a time");
    }
    assert_eq!(in_pieces(reader.multi_read(at, &[], &Auth::default()), 1).len(), 9, "no more than the end");
}

#[test]
fn a_reader_sees_exactly_the_transactions_up_to_its_zxid() {
    let mut rig = Rig::new();
    rig.make("/a");
    let (mut reader, first) = reader(&mut rig);
    rig.request(&set("/a", b"two", -1));
    rig.make("/a/b");
    rig.commit = false;
    rig.request(&set("/a", b"uncommitted", -1));
    rig.request(&Request::Multi(vec![delete("/a/b", -1), create("/c", 0)]));
    let me = Auth::default();
    let data = |reader: &TreeReader, at: Zxid| {
        let body = bytes(|out| reader.get_data(at, "/a", &me, out)).expect("there");
        Reader::new(&body).buffer().expect("data").map(<[u8]>::to_vec)
    };
    assert_eq!(data(&reader, first), Some(b"d".to_vec()), "the first burst's zxid still shows the first state");
    assert_eq!(bytes(|out| reader.exists(first, "/a/b", &me, out)), Err(NoNode));
    let second = reader.begin_burst();
    assert_eq!(second.0, first.0 + 2, "what is not committed is not readable");
    assert_eq!(data(&reader, Zxid(first.0 + 1)), Some(b"two".to_vec()));
    assert_eq!(data(&reader, second), Some(b"two".to_vec()));
    assert!(bytes(|out| reader.exists(second, "/a/b", &me, out)).is_ok());
    rig.tree.commit(Zxid(rig.zxid));
    rig.tree.reclaim(1000);
    reader.set_low(second);
    assert_eq!(data(&reader, second), Some(b"two".to_vec()), "kept while this reader may read at it");
    let third = reader.begin_burst();
    reader.set_low(third);
    rig.tree.reclaim(1000);
    assert_eq!(data(&reader, third), Some(b"uncommitted".to_vec()));
    assert_eq!(bytes(|out| reader.exists(third, "/a/b", &me, out)), Err(NoNode));
    assert!(bytes(|out| reader.exists(third, "/c", &me, out)).is_ok(), "a multi is visible as a whole");
    reader.park();
}

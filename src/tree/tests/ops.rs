//! What each operation answers and in which order its checks run (semantics sections 3, 8, 9; protocol sections 5, 6).

use super::*;
use crate::record::txn::SubTxn;
use ErrorCode::{
    BadArguments, BadVersion, InvalidAcl, NoAuth, NoChildrenForEphemerals, NoNode, NodeExists, NotEmpty, Ok as Fine, SessionExpired,
    Unimplemented,
};

fn create2(path: &str, flags: i32) -> Request<'_> {
    create_with(OpCode::Create2, path, Some(b"d"), AclVec::OPEN, flags, None)
}
fn ttl(path: &str, flags: i32, ttl: i64) -> Request<'_> {
    create_with(OpCode::CreateTtl, path, Some(b"d"), AclVec::OPEN, flags, Some(ttl))
}
fn string_and_rest(reply: &[u8]) -> (String, Vec<u8>) {
    let mut r = Reader::new(reply);
    (r.string().expect("a path").to_owned(), r.remaining().to_vec())
}

#[test]
fn create_answers_the_path_and_create2_the_stat_too() {
    let mut rig = Rig::new();
    let out = rig.request(&create("/a", 0));
    assert_eq!((out.err, string_and_rest(&out.reply)), (Fine, ("/a".to_owned(), vec![])));
    for (request, path) in [
        (create2("/a/b", 2), "/a/b0000000000"),
        (create_with(OpCode::CreateContainer, "/c", None, AclVec::OPEN, 0, None), "/c"),
        (ttl("/t", 5, 1000), "/t"),
    ] {
        let out = rig.request(&request);
        assert_eq!(out.err, Fine, "{path}");
        let (got, stat) = string_and_rest(&out.reply);
        assert_eq!((got.as_str(), stat.len()), (path, 68));
        assert_eq!(Stat::read(&mut Reader::new(&stat)).expect("68 bytes"), rig.stat(path));
    }
    assert_consistent(&rig.tree);
}

#[test]
fn create_checks_run_in_zookeepers_order() {
    let mut rig = Rig::new();
    rig.make("/a");
    rig.make_as("/eph", 1);
    let closed = acl_bytes(&[(1, "world", "anyone")]);
    rig.request(&create_with(OpCode::Create, "/ro", None, acl_vec(&closed), 0, None));
    let bad_acl = acl_bytes(&[(31, "world", "nobody")]);
    let with_bad_acl = |path| create_with(OpCode::Create, path, None, acl_vec(&bad_acl), 0, None);
    for (request, err, why) in [
        (create("nope/x", 7), BadArguments, "flags come first"),
        (create("x", 1), BadArguments, "no slash"),
        (create("", 0), BadArguments, "empty"),
        (create("/a\0", 0), BadArguments, "NUL"),
        (with_bad_acl("/missing/x"), InvalidAcl, "a bad ACL beats a missing parent"),
        (with_bad_acl("x"), BadArguments, "a path without slash beats a bad ACL"),
        (create("/missing/x", 0), NoNode, "missing parent"),
        (create("/a//b", 0), NoNode, "a missing parent beats bad path characters"),
        (create("/ro//", 0), NoNode, "so does this one"),
        (create("/ro/\u{1}", 0), NoAuth, "CREATE on the parent comes before validation"),
        (create("/ro/x", 0), NoAuth, "CREATE on the parent"),
        (create("/a/", 0), BadArguments, "trailing slash under an existing parent"),
        (create("/a/.", 0), BadArguments, "relative element"),
        (create("/a/\u{e000}", 0), BadArguments, "private use character"),
        (create("/", 0), NodeExists, "the root is there"),
        (create("/a", 0), NodeExists, "there already"),
        (create("/eph/x", 0), NoChildrenForEphemerals, "below an ephemeral"),
        (create("/a/b", 0), Fine, "legal"),
    ] {
        assert_eq!(rig.err(&request), err, "{why}");
    }
    rig.zxid += 1;
    CreateTxnFor { path: "/eph/x", parent_cversion: 1 }.apply(&mut rig); // no client could
    assert_eq!(rig.err(&create("/eph/x", 0)), NodeExists, "NodeExists comes before the kind of parent");
    assert_consistent(&rig.tree);
}

#[test]
fn an_ephemeral_needs_its_session() {
    let mut rig = Rig::new();
    rig.session = SessionId(0xdead);
    assert_eq!(rig.err(&create("/e", 1)), SessionExpired);
    assert_eq!(rig.err(&create("/missing/e", 1)), SessionExpired, "before the parent is looked at");
    rig.session = SessionId(0x77);
    assert_eq!(rig.err(&create("/e", 1)), Fine);
    assert_eq!(rig.stat("/e").ephemeral_owner, 0x77);
}

#[test]
fn the_opcode_decides_the_kind_and_flags_only_validate() {
    let mut rig = Rig::new();
    for (name, request, err) in [
        ("/p", create("/p", 4), Fine),
        ("/c0", create_with(OpCode::CreateContainer, "/c0", None, AclVec::OPEN, 0, None), Fine),
        ("/c1", create_with(OpCode::CreateContainer, "/c1", None, AclVec::OPEN, 1, None), Fine),
        ("/t", ttl("/t", 5, 1), Fine),
        ("/tmax", ttl("/tmax", 5, 0xff_ffff_ffff), Fine),
        ("/x", create("/x", 5), BadArguments),
        ("/x", create2("/x", 6), BadArguments),
        ("/x", ttl("/x", 5, 0), BadArguments),
        ("/x", ttl("/x", 5, 0x100_0000_0000), BadArguments),
        ("/x", ttl("/x", 0, 10), BadArguments),
        ("/x", ttl("/x", 0, -1), BadArguments),
        ("/x", ttl("/x", 1, 10), BadArguments),
        ("/x", create("/x", -1), BadArguments),
    ] {
        assert_eq!(rig.err(&request), err, "{request:?}");
        assert_eq!(rig.exists(name), err == Fine);
    }
    let owner = |rig: &Rig, path: &str| rig.tree.store.head(path).expect("there").meta().owner;
    assert_eq!(owner(&rig, "/p"), 0, "flag 4 on create is a plain node");
    assert_eq!(owner(&rig, "/c0"), i64::MIN);
    assert_eq!(owner(&rig, "/c1"), i64::MIN, "a container whatever the flags");
    assert_eq!(owner(&rig, "/t"), 0xff00_0000_0000_0001_u64 as i64);
    for path in ["/c0", "/t"] {
        assert_eq!(rig.stat(path).ephemeral_owner, 0, "clients see no owner of {path}");
        rig.make(&format!("{path}/child"));
    }
    assert_consistent(&rig.tree);

    let mut rig = Rig::with(TreeConfig::default());
    for request in [ttl("/x", 5, 10), create("/x", 5), ttl("/x", 6, -1)] {
        assert_eq!(rig.err(&request), Unimplemented, "extended types are off: {request:?}");
    }
    assert_eq!(rig.err(&ttl("/x", 0, -1)), BadArguments);
}

#[test]
fn sequence_numbers_count_child_creates_of_any_kind() {
    let mut rig = Rig::new();
    rig.make("/s");
    let next = |rig: &mut Rig| {
        let out = rig.request(&create("/s/n-", 2));
        assert_eq!(out.err, Fine);
        string_and_rest(&out.reply).0
    };
    assert_eq!(next(&mut rig), "/s/n-0000000000");
    rig.make("/s/plain");
    assert_eq!(rig.err(&create("/s/plain", 0)), NodeExists);
    assert_eq!(next(&mut rig), "/s/n-0000000002", "a failed create does not count");
    assert_eq!(rig.err(&delete("/s/plain", -1)), Fine);
    assert_eq!(next(&mut rig), "/s/n-0000000003", "a delete does not count");
    let failing = Request::Multi(vec![create("/s/n-", 2), check("/s", 99)]);
    rig.request(&failing);
    assert_eq!(next(&mut rig), "/s/n-0000000004", "a failed multi does not count");
    rig.request(&Request::Multi(vec![create("/s/m-", 2), create("/s/m-", 2)]));
    assert!(rig.exists("/s/m-0000000005") && rig.exists("/s/m-0000000006"), "consecutive inside a multi");
    rig.commit = false;
    assert_eq!(next(&mut rig), "/s/n-0000000007");
    assert_eq!(next(&mut rig), "/s/n-0000000008", "creates in flight count");
    assert_eq!(rig.request(&create("/s/", 2)).err, Fine);
    assert!(rig.exists("/s/0000000009"), "a name of digits only");
    assert_consistent(&rig.tree);
}

#[test]
fn sequence_numbers_stop_at_the_largest() {
    let mut rig = Rig::new();
    rig.make("/s");
    let raise = CreateTxnFor { path: "/s/x", parent_cversion: i32::MAX };
    rig.zxid += 1;
    raise.apply(&mut rig);
    assert_eq!(rig.tree.store.head("/s").expect("there").meta().cversion, i32::MAX);
    let before = rig.stat("/s").pzxid;
    assert_eq!(rig.err(&create("/s/n-", 2)), Fine);
    assert!(rig.exists("/s/n-2147483647"));
    assert_eq!(rig.stat("/s").pzxid, before, "the parent's numbers no longer advance");
    assert_eq!(rig.err(&create("/s/n-", 2)), NodeExists, "the same suffix again");
    assert_consistent(&rig.tree);
}

#[test]
fn replayed_creates_cannot_lower_the_parent() {
    let mut rig = Rig::new();
    rig.make("/p");
    for name in ["/p/a", "/p/b", "/p/c"] {
        rig.make(name);
    }
    let before = rig.stat("/p");
    for (path, parent_cversion) in [("/p/a", 1), ("/p/gone", 2)] {
        rig.zxid += 1;
        CreateTxnFor { path, parent_cversion }.apply(&mut rig);
        let now = rig.stat("/p");
        assert_eq!((now.pzxid, (now.cversion + now.num_children) / 2), (before.pzxid, 3), "{path} (rule L8)");
    }
    rig.zxid += 1;
    CreateTxnFor { path: "/p/a", parent_cversion: 9 }.apply(&mut rig);
    assert_eq!((rig.stat("/p").pzxid, rig.stat("/p").cversion), (rig.zxid as i64, 2 * 9 - 4), "but raise it, also when the node is there");
    assert_consistent(&rig.tree);
}

struct CreateTxnFor<'a> {
    path: &'a str,
    parent_cversion: i32,
}
impl CreateTxnFor<'_> {
    fn apply(&self, rig: &mut Rig) {
        use crate::record::txn::{CreateKind, CreateTxn};
        let txn = Txn::Create(CreateTxn {
            kind: CreateKind::Create { ephemeral: false },
            path: self.path,
            data: None,
            acl: AclVec::OPEN,
            parent_cversion: Some(self.parent_cversion),
        });
        let header =
            TxnHeader { session: rig.session, cxid: Xid(1), zxid: Zxid(rig.zxid), time: WallTime(rig.now), kind: TxnType::Create as i32 };
        rig.tree.apply(&header, &txn);
        rig.tree.commit(Zxid(rig.zxid));
    }
}

#[test]
fn delete_checks_run_in_zookeepers_order() {
    let mut rig = Rig::new();
    let no_delete = acl_bytes(&[(31 & !8, "world", "anyone")]);
    rig.request(&create_with(OpCode::Create, "/locked", None, acl_vec(&no_delete), 0, None));
    rig.make("/locked/x");
    rig.make("/d");
    rig.make("/d/x");
    rig.make("/v");
    for (path, version, err, why) in [
        ("x", -1, BadArguments, "no slash"),
        ("", -1, BadArguments, "empty"),
        ("/v\0", -1, BadArguments, "NUL"),
        ("/", -1, BadArguments, "root"),
        ("/zookeeper", -1, BadArguments, "system node"),
        ("/zookeeper/quota", -1, BadArguments, "system node"),
        ("/zookeeper/config", -1, BadArguments, "system node"),
        ("/missing/x", -1, NoNode, "missing parent"),
        ("/locked/x", -1, NoAuth, "DELETE on the parent"),
        ("/locked/missing", -1, NoAuth, "even if the child does not exist"),
        ("/missing", -1, NoNode, "missing node"),
        ("/v/", -1, NoNode, "not validated, just not there"),
        ("/d", 5, BadVersion, "version comes before children"),
        ("/d", -2, BadVersion, "no other negative number matches"),
        ("/d", -1, NotEmpty, "children"),
        ("/v", 0, Fine, "right version"),
        ("/v", -1, NoNode, "gone"),
    ] {
        assert_eq!(rig.err(&delete(path, version)), err, "{why}");
    }
    assert_consistent(&rig.tree);
}

#[test]
fn the_servers_own_removal_checks_again() {
    let mut rig = Rig::new();
    rig.make_as("/e", 1);
    rig.make("/p");
    rig.request(&create_with(OpCode::CreateContainer, "/c", None, AclVec::OPEN, 0, None));
    rig.request(&create_with(OpCode::CreateContainer, "/full", None, AclVec::OPEN, 0, None));
    rig.make("/full/x");
    rig.session = SessionId::NONE;
    rig.auth = Auth::default();
    for (path, err) in
        [("/", BadArguments), ("/missing", NoNode), ("/full", NotEmpty), ("/e", BadVersion), ("/p", BadVersion), ("/c", Fine)]
    {
        assert_eq!(rig.err(&Request::DeleteContainer { path }), err, "{path}");
    }
    assert_eq!(rig.last_txn().0.kind, 20);
    assert_consistent(&rig.tree);
}

#[test]
fn set_data_checks_and_counts_versions() {
    let mut rig = Rig::new();
    rig.make("/a");
    let read_only = acl_bytes(&[(1, "world", "anyone")]);
    rig.request(&create_with(OpCode::Create, "/ro", None, acl_vec(&read_only), 0, None));
    for (path, version, err) in [
        ("/a/", -1, BadArguments),
        ("", -1, BadArguments),
        ("/missing", 3, NoNode),
        ("/ro", 9, NoAuth),
        ("/a", 1, BadVersion),
        ("/a", -2, BadVersion),
        ("/a", 0, Fine),
        ("/a", -1, Fine),
    ] {
        assert_eq!(rig.err(&set(path, b"xyz", version)), err, "{path} {version}");
    }
    let out = rig.request(&Request::SetData { path: "/a", data: None, version: 2 });
    let stat = Stat::read(&mut Reader::new(&out.reply)).expect("a stat");
    assert_eq!(stat, rig.stat("/a"));
    assert_eq!((stat.version, stat.data_length, stat.mzxid, stat.mtime), (3, 0, rig.zxid as i64, rig.now));
    assert_eq!(rig.data("/a"), None, "null stays null");
    assert_eq!(rig.err(&set("/zookeeper", b"x", -1)), Fine, "allowed by its ACL");
    assert_eq!(rig.err(&set("/zookeeper/config", b"x", -1)), NoAuth);
    rig.auth = auth(&[("super", "")]);
    assert_eq!(rig.err(&set("/zookeeper/config", b"x", -1)), Fine, "super may");
    assert_consistent(&rig.tree);
}

#[test]
fn versions_wrap_around() {
    let mut rig = Rig::new();
    rig.make("/a");
    let txn = Txn::SetData { path: "/a", data: None, version: i32::MAX };
    let header = TxnHeader { session: rig.session, cxid: Xid(1), zxid: Zxid(50), time: WallTime(1), kind: 5 };
    rig.zxid = 50;
    rig.tree.apply(&header, &txn);
    assert_eq!(rig.err(&set("/a", b"", i32::MAX)), Fine);
    assert_eq!(rig.stat("/a").version, i32::MIN);
    assert_eq!(rig.err(&set("/a", b"", i32::MIN)), Fine);
}

#[test]
fn set_acl_checks_and_counts_its_own_version() {
    let mut rig = Rig::new();
    rig.make("/a");
    let none = acl_bytes(&[]);
    let me = acl_bytes(&[(31, "auth", "")]);
    let set_acl = |path, acl, version| Request::SetAcl { path, acl, version };
    assert_eq!(rig.err(&set_acl("/a/", AclVec::OPEN, -1)), BadArguments);
    assert_eq!(rig.err(&set_acl("/missing", acl_vec(&none), -1)), InvalidAcl, "the list comes before the node");
    assert_eq!(rig.err(&set_acl("/missing", AclVec::OPEN, -1)), NoNode);
    assert_eq!(rig.err(&set_acl("/a", acl_vec(&me), -1)), InvalidAcl, "nobody is authenticated");
    assert_eq!(rig.err(&set_acl("/a", AclVec::OPEN, 1)), BadVersion);
    rig.auth = auth(&[("ip", "127.0.0.1"), ("digest", "u:hash")]);
    let out = rig.request(&set_acl("/a", acl_vec(&me), 0));
    assert_eq!(out.err, Fine);
    assert!(out.effects.events.is_empty(), "setACL fires nothing");
    let stat = Stat::read(&mut Reader::new(&out.reply)).expect("a stat");
    assert_eq!((stat.aversion, stat.version, stat.mzxid), (1, 0, rig.stat("/a").czxid));
    rig.auth = auth(&[("ip", "127.0.0.1")]);
    assert_eq!(rig.err(&set_acl("/a", AclVec::OPEN, 7)), NoAuth, "NoAuth wins over BadVersion");
    assert_consistent(&rig.tree);
}

#[test]
fn reconfig_is_refused_on_a_standalone_server() {
    let request = Request::Reconfig { joining: None, leaving: None, new_members: None, config_id: -1 };
    assert_eq!(Rig::new().err(&request), ErrorCode::ReconfigDisabled);
    let mut rig = Rig::with(TreeConfig { reconfig_enabled: true, ..TreeConfig::default() });
    assert_eq!(rig.err(&request), Unimplemented);
}

#[test]
fn failures_are_logged_without_digest_and_change_nothing() {
    let mut rig = Rig::new();
    rig.make("/a");
    let before = dump(&rig.tree);
    assert_eq!(rig.err(&create("/a", 0)), NodeExists);
    let (header, txn, digest) = rig.last_txn();
    assert_eq!((header.kind, header.cxid, header.session), (-1, Xid(5), SessionId(0x77)));
    assert_eq!((txn, digest), (Txn::Error { code: -110 }, None));
    assert_eq!(dump(&rig.tree), before);
    assert_eq!(rig.err(&check("/a", -1)), Unimplemented, "a bare check is never logged as such");
    assert_eq!(rig.last_txn().1, Txn::Error { code: -6 });
}

#[test]
fn stats_change_as_the_table_says() {
    let mut rig = Rig::new();
    rig.make("/p");
    let born = rig.zxid as i64;
    rig.make("/p/a");
    let a = rig.zxid as i64;
    rig.make("/p/a/x");
    let parent = rig.stat("/p");
    assert_eq!((parent.czxid, parent.mzxid, parent.pzxid), (born, born, a), "grandchildren do not touch pzxid");
    assert_eq!((parent.cversion, parent.num_children, parent.version), (1, 1, 0));
    rig.request(&set("/p/a/x", b"", -1));
    assert_eq!(rig.stat("/p/a").pzxid, rig.stat("/p/a/x").czxid, "a child's data does not touch pzxid");
    rig.request(&delete("/p/a/x", -1));
    rig.request(&delete("/p/a", -1));
    let parent = rig.stat("/p");
    assert_eq!((parent.cversion, parent.num_children, parent.pzxid), (2, 0, rig.zxid as i64));
    assert_eq!((parent.mzxid, parent.mtime, parent.ctime), (born, parent.ctime, parent.mtime));
}

#[test]
fn a_fresh_tree_shows_zookeepers_system_nodes() {
    let tree = Tree::new(TreeConfig::default());
    let stat = |path: &str| tree.store.head(path).expect("there").stat().to_stat();
    assert_eq!((stat("/").cversion, stat("/").num_children), (-1, 1));
    assert_eq!((stat("/zookeeper").cversion, stat("/zookeeper").num_children), (-2, 2));
    assert_eq!(stat("/zookeeper/quota"), Stat::default());
    assert_eq!(stat("/zookeeper/config"), Stat { aversion: -1, ..Stat::default() });
    assert_eq!(tree.counts().znodes, 5);
    assert_eq!((tree.applied(), tree.head_zxid()), (Zxid(0), Zxid(0)));
    assert!(tree.digest_history().is_empty());
    assert_consistent(&tree);
}

fn multi_entries(reply: &[u8]) -> Vec<(i32, i32, Vec<u8>)> {
    let mut r = Reader::new(reply);
    let mut out = Vec::new();
    loop {
        let (kind, done, err) = (r.i32().expect("kind"), r.bool().expect("done"), r.i32().expect("err"));
        if done {
            assert_eq!((kind, err), (-1, -1));
            assert!(r.is_empty(), "nothing after the end");
            return out;
        }
        let start = r.position();
        match kind {
            1 => drop(r.string().expect("a path")),
            15 => {
                r.string().expect("a path");
                r.take(68).expect("a stat");
            }
            5 => drop(r.take(68).expect("a stat")),
            -1 => assert_eq!(r.i32(), Ok(err), "the code again"),
            2 | 13 => {}
            other => panic!("entry of type {other}"),
        }
        out.push((kind, err, r.since(start).to_vec()));
    }
}

#[test]
fn a_multi_answers_each_part_with_what_it_saw() {
    let mut rig = Rig::new();
    let out = rig.request(&Request::Multi(vec![
        create("/m", 0),
        create2("/m/a", 0),
        create_with(OpCode::CreateContainer, "/m/c", None, AclVec::OPEN, 0, None),
        ttl("/m/t", 5, 100),
        set("/m", b"later", 0),
        set("/m", b"last", 1),
        check("/m", 2),
        delete("/m/a", 0),
    ]));
    assert_eq!(out.err, Fine);
    let entries = multi_entries(&out.reply);
    assert_eq!(entries.iter().map(|e| e.0).collect::<Vec<_>>(), [1, 15, 15, 15, 5, 5, 13, 2]);
    let stat = |entry: &(i32, i32, Vec<u8>)| Stat::read(&mut Reader::new(&entry.2[entry.2.len() - 68..])).expect("a stat");
    assert_eq!((stat(&entries[4]).version, stat(&entries[4]).data_length), (1, 5), "the stat right after the part");
    assert_eq!((stat(&entries[5]).version, stat(&entries[5]).data_length), (2, 4));
    let kinds: Vec<_> = out.effects.events.iter().map(|e| (e.kind, e.path.as_ref())).collect();
    use EventType::*;
    assert_eq!(
        kinds,
        [
            (NodeCreated, "/m"),
            (NodeCreated, "/m/a"),
            (NodeCreated, "/m/c"),
            (NodeCreated, "/m/t"),
            (NodeDataChanged, "/m"),
            (NodeDataChanged, "/m"),
            (NodeDeleted, "/m/a")
        ]
    );
    let stat = rig.stat("/m");
    assert_eq!((stat.czxid, stat.mzxid, stat.pzxid), (2, 2, 2), "one zxid");
    assert_consistent(&rig.tree);
    let (_, txn, _) = rig.last_txn();
    let Txn::Multi(parts) = txn else { panic!("a multi") };
    assert_eq!(parts.iter().map(|p| p.kind).collect::<Vec<_>>(), [1, 15, 19, 21, 5, 5, 13, 2]);
    let checked = Txn::read_body(13, &mut Reader::new(parts[6].body));
    assert_eq!(checked, Ok(Txn::Check { path: "/m", version: 3 }), "the logged number is one more");
}

#[test]
fn a_failed_multi_is_a_list_of_errors_and_leaves_no_trace() {
    let mut rig = Rig::new();
    rig.make("/a");
    let before = dump(&rig.tree);
    let out =
        rig.request(&Request::Multi(vec![create("/b", 0), set("/a", b"changed", -1), check("/a", 7), delete("/a", -1), create("/c", 0)]));
    assert_eq!(out.err, Fine, "the errors are in the body");
    let codes: Vec<_> = multi_entries(&out.reply).iter().map(|e| (e.0, e.1)).collect();
    assert_eq!(codes, [(-1, 0), (-1, 0), (-1, -103), (-1, -2), (-1, -2)]);
    assert!(out.effects.events.is_empty());
    assert_eq!(dump(&rig.tree), before);
    let (header, txn, digest) = rig.last_txn();
    assert_eq!(header.kind, 14);
    assert_eq!(digest.map(|d| d.digest), Some(before.digest), "the digest before");
    let Txn::Multi(parts) = txn else { panic!("a multi") };
    assert_eq!(parts.iter().map(|p| p.kind).collect::<Vec<_>>(), [1, 5, -1, -1, -1]);
    let code = |i: usize| i32::from_be_bytes(parts[i].body.try_into().expect("four bytes"));
    assert_eq!((code(2), code(3), code(4)), (-103, -2, -2));
}

#[test]
fn an_empty_multi_succeeds() {
    let mut rig = Rig::new();
    let out = rig.request(&Request::Multi(vec![]));
    assert_eq!(out.err, Fine);
    assert!(multi_entries(&out.reply).is_empty());
    assert_eq!(rig.last_txn().1, Txn::Multi(vec![]));
}

#[test]
fn a_multi_that_outgrows_a_record_is_refused_as_a_whole() {
    let mut rig = Rig::new();
    // Many digest identities: `auth` multiplies the request far beyond its own size.
    let ids: Vec<(String, String)> = (0..500).map(|i| ("digest".to_owned(), format!("user{i}:{}", "h".repeat(100)))).collect();
    rig.auth = Auth { ids: ids.into_iter().map(|(scheme, id)| AuthId { scheme, id }).collect() };
    let mine = acl_bytes(&[(31, "auth", "")]);
    let paths: Vec<String> = (0..60).map(|i| format!("/n{i}")).collect();
    let parts = paths.iter().map(|p| create_with(OpCode::Create, p, None, acl_vec(&mine), 0, None)).collect();
    let before = dump(&rig.tree);
    let out = rig.request(&Request::Multi(parts));
    let codes: Vec<i32> = multi_entries(&out.reply).iter().map(|e| e.1).collect();
    assert!(codes.contains(&-5), "some part did not fit");
    assert!(rig.log.last().expect("logged").len() <= TXN_PAYLOAD_MAX);
    assert_eq!(dump(&rig.tree), before);
}

#[test]
fn events_carry_the_acls_of_node_and_parent() {
    let mut rig = Rig::new();
    rig.request(&create_with(OpCode::Create, "/p", None, READ_ONLY, 0, None));
    rig.auth = auth(&[("super", "")]);
    let out = rig.request(&create("/p/c", 0));
    let event = &out.effects.events[0];
    assert_eq!(event.kind, EventType::NodeCreated);
    assert_eq!(event.acl.entries(), AclVec::OPEN);
    assert_eq!(event.parent_acl.as_ref().map(|a| a.entries().raw().to_vec()), Some(READ_ONLY.raw().to_vec()));
    let out = rig.request(&set("/p", b"x", -1));
    assert_eq!((out.effects.events[0].acl.entries().raw(), &out.effects.events[0].parent_acl), (READ_ONLY.raw(), &None));
    let out = rig.request(&delete("/p/c", -1));
    let event = &out.effects.events[0];
    assert_eq!((event.kind, event.path.as_ref()), (EventType::NodeDeleted, "/p/c"));
    assert_eq!(event.acl.entries(), AclVec::OPEN, "as it was");
    assert!(event.parent_acl.is_some());
}

#[test]
fn skip_acl_lets_everyone_write() {
    let mut rig = Rig::with(TreeConfig { skip_acl: true, ..TreeConfig::default() });
    rig.request(&create_with(OpCode::Create, "/ro", None, READ_ONLY, 0, None));
    assert_eq!(rig.err(&set("/ro", b"x", -1)), Fine);
}

/// A Java leader judges a session part by part; what the last server of that session makes of it concerns its whole connection.
#[test]
fn a_multi_of_a_session_that_has_moved_is_refused_as_a_whole() {
    let mut rig = Rig::new();
    let codes = [ErrorCode::SessionMoved, ErrorCode::RuntimeInconsistency].map(|err| err.code().to_be_bytes());
    let parts = codes.iter().map(|code| SubTxn { kind: TxnType::Error as i32, body: code }).collect();
    let kind = TxnType::Multi as i32;
    let header = TxnHeader { session: rig.session, cxid: Xid(9), zxid: Zxid(rig.zxid + 1), time: WallTime(1), kind };
    let mut reply = Vec::new();
    let done = rig.tree.apply_answering(&header, &Txn::Multi(parts), &mut reply);
    assert_eq!((done.err, reply, done.effects), (ErrorCode::SessionMoved, vec![], Effects::default()));
    assert_eq!(rig.tree.head_zxid(), header.zxid, "it has its place in history all the same");
}

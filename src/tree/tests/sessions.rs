//! Sessions, ephemerals, containers and TTL nodes.

use super::*;
use crate::base::limits::JUTE_MAX_BUFFER;

const OTHER: SessionId = SessionId(0x99);

#[test]
fn closing_deletes_listed_ephemerals_in_order_with_their_events() {
    let mut rig = Rig::new();
    rig.open_session(OTHER);
    rig.make("/p");
    rig.make_as("/p/b", 1);
    rig.make_as("/a", 1);
    rig.session = OTHER;
    rig.make_as("/other", 1);
    rig.session = SessionId(0x77);
    rig.commit = false;
    rig.make_as("/inflight", 1);
    rig.request(&delete("/a", -1));
    let effects = rig.close_session(SessionId(0x77));
    assert_eq!(effects.closed_session, Some(SessionId(0x77)));
    let paths: Vec<_> = effects.events.iter().map(|e| (e.kind, e.path.as_ref())).collect();
    assert_eq!(paths, [(EventType::NodeDeleted, "/inflight"), (EventType::NodeDeleted, "/p/b")]);
    let (header, txn, digest) = rig.last_txn();
    let Txn::CloseSession { paths: Some(listed) } = txn else { panic!("a list") };
    assert_eq!(listed.iter().collect::<Vec<_>>(), ["/inflight", "/p/b"], "in-flight creates and deletes count");
    assert_eq!((header.kind, header.session), (-11, SessionId(0x77)));
    assert!(digest.is_some());
    assert!(!rig.tree.has_session(SessionId(0x77)), "closed at the head, committed or not");
    assert!(rig.exists("/other"));
    assert_eq!(rig.stat("/p").pzxid, rig.zxid as i64);
    assert_consistent(&rig.tree);
}

#[test]
fn a_close_without_list_has_no_digest_and_deletes_the_same() {
    let mut rig = Rig::with(TreeConfig { close_session_txn: false, ..TreeConfig::default() });
    rig.make_as("/e", 1);
    let effects = rig.close_session(SessionId(0x77));
    assert_eq!(effects.events.len(), 1);
    let (_, txn, digest) = rig.last_txn();
    assert_eq!((txn, digest), (Txn::CloseSession { paths: None }, None), "a digest would be read as the body");
    assert_consistent(&rig.tree);
    let mut other = Tree::new(TreeConfig::default());
    replay(&mut other, rig.log.iter().map(Vec::as_slice));
    assert_eq!(dump(&other), dump(&rig.tree));
}

#[test]
fn replay_of_a_close_deletes_what_the_list_misses_and_survives_what_is_gone() {
    let mut rig = Rig::new();
    rig.make_as("/e1", 1);
    rig.make_as("/e2", 1);
    rig.make("/plain");
    let mut raw = Vec::new();
    raw.put_len(3);
    for path in ["/e2", "/gone", "/missing/x"] {
        raw.put_string(path);
    }
    let paths = Reader::new(&raw).string_vec().expect("paths");
    let header = TxnHeader { session: SessionId(0x77), cxid: Xid(0), zxid: Zxid(100), time: WallTime(1), kind: -11 };
    let effects = rig.tree.apply(&header, &Txn::CloseSession { paths: Some(paths) });
    let order: Vec<_> = effects.events.iter().map(|e| e.path.as_ref()).collect();
    assert_eq!(order, ["/e2", "/e1"], "the list first, then the rest");
    assert_eq!(rig.stat("/").pzxid, 100);
    assert!(rig.exists("/plain"));
    assert_consistent(&rig.tree);
}

#[test]
fn a_parent_changes_once_for_all_the_children_a_closing_session_takes_from_it() {
    let mut rig = Rig::new();
    rig.make("/p");
    rig.make("/q");
    (0..200).for_each(|i| rig.make_as(&format!("/p/{i:03}"), 1));
    rig.make_as("/q/one", 1);
    rig.make("/p/stays");
    let (before, digest) = (dump(&rig.tree), rig.tree.digest);
    rig.commit = false;
    let effects = rig.close_session(SessionId(0x77));
    assert_eq!(effects.events.len(), 201);
    assert_eq!(rig.tree.store.uncommitted_len(), 201 + 2, "a tombstone for each node, a body for each parent");
    assert_eq!((rig.stat("/p").num_children, rig.stat("/p").pzxid), (1, rig.zxid as i64));
    assert_consistent(&rig.tree);
    rig.tree.undo_above(rig.tree.applied());
    assert_eq!((dump(&rig.tree), rig.tree.digest), (before, digest));
}

#[test]
fn a_list_too_long_for_a_record_is_cut_and_nothing_survives() {
    let mut rig = Rig::new();
    let long = "x".repeat(60_000);
    let paths: Vec<String> = (0..40).map(|i| format!("/{i:02}-{long}")).collect();
    for path in &paths {
        rig.make_as(path, 1);
    }
    rig.close_session(SessionId(0x77));
    let payload = rig.log.last().expect("logged");
    assert!(payload.len() <= JUTE_MAX_BUFFER + 64, "{} bytes", payload.len());
    assert!(paths.iter().all(|p| !rig.exists(p)));
    let mut other = Tree::new(rig.tree.config.clone());
    replay(&mut other, rig.log.iter().map(Vec::as_slice));
    assert_eq!(dump(&other), dump(&rig.tree));
}

#[test]
fn sessions_are_listed_renewed_and_closed() {
    let mut rig = Rig::new();
    rig.open_session(OTHER);
    rig.tree.set_session_timeout(OTHER, 9000);
    rig.tree.set_session_timeout(SessionId(5), 1);
    assert_eq!(rig.tree.sessions().collect::<Vec<_>>(), [(SessionId(0x77), 4000), (OTHER, 9000)]);
    assert_eq!(rig.tree.counts().sessions, 2);
    let (header, txn, digest) = rig.last_txn();
    assert_eq!((header.kind, header.session, txn), (-10, OTHER, Txn::CreateSession { timeout_ms: 4000 }));
    assert_eq!(digest.map(|d| d.digest), Some(0x51C6_D660));
    rig.close_session(OTHER);
    assert!(!rig.tree.has_session(OTHER) && rig.tree.has_session(SessionId(0x77)));
    let effects = rig.close_session(OTHER);
    assert_eq!(effects.closed_session, Some(OTHER), "closing twice is harmless");
}

#[test]
fn ephemerals_are_listed_by_prefix() {
    let mut rig = Rig::new();
    rig.make("/a");
    for path in ["/a/2", "/a/1", "/ab"] {
        rig.make_as(path, 1);
    }
    assert_eq!(rig.tree.ephemerals(SessionId(0x77)), ["/a/1", "/a/2", "/ab"]);
    assert!(rig.tree.ephemerals(OTHER).is_empty());
    let (cells, mut reader) = (rig.tree.ephemeral_cells(SessionId(0x77)), rig.tree.reader());
    let at = reader.begin_burst();
    let list = |asked| {
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        reader.get_ephemerals(at, cells.iter().copied(), ephemeral_prefix(asked), &mut whole);
        let mut listing = reader.list_ephemerals(at, cells.clone(), ephemeral_prefix(asked));
        while listing.measure(1).is_none() {}
        while !listing.write(1, usize::MAX, &mut pieces) {}
        let paths = |body: &[u8]| Reader::new(body).string_vec().expect("paths").iter().map(str::to_owned).collect::<Vec<_>>();
        let mut sorted = paths(&pieces);
        sorted.sort();
        assert_eq!(sorted, paths(&whole), "in pieces it is the same set");
        paths(&whole)
    };
    assert_eq!(list(None), ["/a/1", "/a/2", "/ab"]);
    for all in ["", " ", "/", " / "] {
        assert_eq!(list(Some(all)).len(), 3, "{all:?}");
    }
    assert_eq!(list(Some("/a")), ["/a/1", "/a/2", "/ab"], "a prefix of the text, not of the path");
    assert_eq!(list(Some("/a/")), ["/a/1", "/a/2"]);
    assert!(list(Some("a")).is_empty());
    assert_eq!(rig.tree.ephemerals_by_session().len(), 1);
}

#[test]
fn ephemerals_of_unknown_sessions_go_by_a_transaction() {
    let mut rig = Rig::new();
    rig.open_session(OTHER);
    rig.make("/p");
    rig.make_as("/mine", 1);
    rig.session = OTHER;
    rig.make_as("/p/dead", 1);
    // As after a fuzzy image: the session is gone, its node is not.
    rig.tree.sessions.load_table([(SessionId(0x77), 4000)].into_iter().collect());
    let digest = rig.tree.digest;
    assert_eq!(rig.tree.dead_sessions(), [OTHER]);
    let mut payload = Vec::new();
    let auth = Auth::default();
    rig.zxid += 1;
    let p = Prepare { zxid: Zxid(rig.zxid), time: WallTime(rig.now), session: OTHER, cxid: Xid(0), auth: &auth };
    assert_eq!(rig.tree.prepare_close_session(&p, &mut payload).effects.closed_session, Some(OTHER));
    rig.tree.commit(Zxid(rig.zxid));
    assert!(!rig.exists("/p/dead") && rig.exists("/mine"));
    assert_eq!(rig.stat("/p").pzxid, rig.zxid as i64);
    assert_eq!((rig.tree.applied(), rig.tree.head_zxid()), (Zxid(rig.zxid), Zxid(rig.zxid)));
    assert_ne!(rig.tree.digest, digest);
    assert!(rig.tree.undo.is_empty());
    assert_consistent(&rig.tree);
    assert!(rig.tree.dead_sessions().is_empty());
    rig.make("/p/after");
}

#[test]
fn containers_and_ttl_nodes_become_due() {
    let mut rig = Rig::new();
    let container = |path| create_with(OpCode::CreateContainer, path, None, AclVec::OPEN, 0, None);
    let ttl = |path, ms| create_with(OpCode::CreateTtl, path, None, AclVec::OPEN, 5, Some(ms));
    for path in ["/used", "/unused", "/full"] {
        rig.request(&container(path));
    }
    for path in ["/used/x", "/full/x"] {
        rig.make(path);
    }
    rig.request(&delete("/used/x", -1));
    rig.request(&ttl("/t", 500));
    let born = rig.now;
    rig.request(&ttl("/tfull", 500));
    rig.make("/tfull/x");
    let due = |rig: &Rig, now, unused| rig.tree.due_for_removal(WallTime(now), unused, 10);
    assert_eq!(due(&rig, rig.now, 0), ["/used"], "a container that had a child; a new one waits for its first");
    assert_eq!(due(&rig, born + 500, 0), ["/used"], "not before its time has passed");
    assert_eq!(due(&rig, born + 501, 0), ["/used", "/t"], "a TTL node with a child stays");
    rig.request(&set("/t", b"", -1));
    assert_eq!(due(&rig, born + 501, 0), ["/used"], "setData starts the time anew");
    assert_eq!(due(&rig, rig.now, 1_000_000), ["/used"]);
    assert_eq!(due(&rig, rig.now, 20), ["/used", "/unused"], "never used for too long");
    assert_eq!(rig.tree.due_for_removal(WallTime(i64::MAX), 1, 2).len(), 2, "at most as many as asked for");
    rig.session = SessionId::NONE;
    let found = due(&rig, rig.now + 1000, 0);
    assert_eq!(rig.err(&Request::DeleteContainer { path: "/t" }), ErrorCode::BadVersion, "renewed since it was found");
    rig.now += 1000;
    for path in found {
        assert_eq!(rig.err(&Request::DeleteContainer { path: &path }), ErrorCode::Ok);
    }
    assert!(!rig.exists("/used") && !rig.exists("/t"));
    assert_consistent(&rig.tree);
}

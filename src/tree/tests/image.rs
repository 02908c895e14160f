//! Images: exact ones of ours, fuzzy ones as Java writes them, damaged ones.

use super::random::{self, rig, run, steps};
use super::*;
use crate::base::DecodeError;
use proptest::prelude::*;

fn bytes_of(image: &mut Image) -> Vec<u8> {
    let mut out = Vec::new();
    let mut sink = |piece: &[u8]| {
        out.extend_from_slice(piece);
        Ok(())
    };
    image.write(&mut sink).expect("a sink that takes everything");
    out
}
fn load(rig: &Rig, zxid: Zxid, bytes: &[u8]) -> Tree {
    let (tree, used) = load_image(rig.tree.config.clone(), zxid, bytes, None).expect("a good image");
    assert_eq!(used, bytes.len());
    tree
}
/// Usage texts are recounted when an image is loaded; a history in which quotas came and went may have left others.
fn without_usage(mut dump: Dump) -> Dump {
    for node in dump.nodes.iter_mut().filter(|n| n.path.ends_with("/zookeeper_stats")) {
        node.data = None;
        node.stat.data_length = 0;
    }
    dump.counts.data_bytes = 0;
    dump
}

#[test]
fn an_image_shows_committed_state_only_and_stays_what_it_was() {
    let mut rig = Rig::new();
    rig.make("/a");
    rig.make_as("/e", 1);
    let committed = dump(&rig.tree);
    let at = rig.zxid;
    rig.commit = false;
    let mine = acl_bytes(&[(31, "world", "anyone"), (1, "ip", "9.9.9.9")]);
    rig.request(&create_with(OpCode::Create, "/later", None, acl_vec(&mine), 0, None));
    rig.open_session(SessionId(0x78));
    rig.close_session(SessionId(0x77));
    let mut image = rig.tree.begin_image();
    assert_eq!(image.zxid(), Zxid(at));
    assert_eq!(image.digest(), Some(TxnDigest { version: 2, digest: committed.digest }));
    // What is committed and reclaimed while the image is written does not show either.
    rig.tree.commit(Zxid(rig.zxid));
    rig.request(&set("/a", b"newer", -1));
    rig.tree.commit(Zxid(rig.zxid));
    rig.tree.reclaim(1000);
    let bytes = bytes_of(&mut image);
    assert!(!bytes.windows(7).any(|w| w == b"9.9.9.9"), "no list of a transaction that is not in the image");
    let tree = load(&rig, Zxid(at), &bytes);
    assert_eq!(dump(&tree), committed);
    assert_eq!((tree.applied(), tree.head_zxid()), (Zxid(at), Zxid(at)));
    assert_eq!(tree.digest_matches(image.digest().as_ref()), Some(true));
    assert!(tree.undo.is_empty());
}

#[test]
fn bodies_of_an_image_carry_its_zxid() {
    let mut rig = Rig::new();
    rig.make("/old");
    for _ in 0..5 {
        rig.make_as("/n-", 2);
    }
    let bytes = bytes_of(&mut rig.tree.begin_image());
    let mut tree = load(&rig, Zxid(rig.zxid), &bytes);
    for path in ["/", "/old", "/zookeeper/config"] {
        assert_eq!(tree.store.head(path).expect("there").zxid(), Zxid(rig.zxid), "{path} (rule A12)");
    }
    let mut reader = tree.reader();
    assert_eq!(reader.begin_burst(), Zxid(rig.zxid));
}

#[test]
fn an_image_is_written_in_slices() {
    let mut rig = Rig::new();
    for i in 0..2000 {
        rig.make(&format!("/n{i}"));
    }
    let mut pieces = 0;
    let mut sink = |piece: &[u8]| {
        pieces += 1;
        assert!(piece.len() < 256 << 10);
        Ok(())
    };
    rig.tree.begin_image().write(&mut sink).expect("a sink that takes everything");
    assert!(pieces >= 4, "{pieces} pieces");
    let mut full = |_: &[u8]| Err(std::io::Error::other("disk full"));
    let failed = rig.tree.begin_image().write(&mut full);
    assert_eq!(failed.map_err(|e| e.to_string()), Err("disk full".to_owned()));
}

// The naive store drops no version between two that are held.
#[cfg(not(feature = "plain-store"))]
#[test]
fn image_after_image_keeps_one_old_version_of_each_changed_node_and_nothing_when_it_is_done_a6() {
    const CHANGED: usize = 5;
    let mut rig = Rig::new();
    for i in 0..2000 {
        rig.make(&format!("/n{i}"));
    }
    let settle = |rig: &mut Rig| {
        for _ in 0..3 {
            rig.tree.reclaim(100_000);
        }
    };
    settle(&mut rig);
    assert_eq!(rig.tree.retained_versions(), 0, "nobody reads");
    for _ in 0..3 {
        let mut image = rig.tree.begin_image();
        let mut written = 0;
        // A disk so slow that every node is changed many times while one piece is written.
        let mut sink = |_: &[u8]| {
            for round in 0..20 {
                (0..CHANGED).for_each(|i| drop(rig.request(&set(&format!("/n{i}"), &[round; 100], -1))));
            }
            settle(&mut rig);
            written += 1;
            assert!(rig.tree.retained_versions() <= CHANGED, "{} after piece {written}", rig.tree.retained_versions());
            Ok(())
        };
        image.write(&mut sink).expect("a sink that takes everything");
        drop(image);
        settle(&mut rig);
        assert_eq!(rig.tree.retained_versions(), 0, "what was kept for the image is given back");
    }
}

#[test]
fn an_image_loads_from_pieces_of_whole_entries_as_it_does_in_one() {
    let mut rig = Rig::new();
    for parent in ["/b", "/a", "/a/deep", "/a/deep/er"] {
        rig.make(parent);
        (0..20).for_each(|i| rig.make(&format!("{parent}/n{i}")));
    }
    rig.make_as("/e", 1);
    let (zxid, bytes) = (Zxid(rig.zxid), bytes_of(&mut rig.tree.begin_image()));
    let whole = dump(&load(&rig, zxid, &bytes));
    // Where entries end: the tables, then every node.
    let mut r = Reader::new(&bytes);
    let tables = 4 + 12 * r.i32().expect("a count") as usize;
    let mut r = Reader::new(&bytes[tables..]);
    for _ in 0..r.i32().expect("a count") {
        r.i64().expect("a number");
        AclVec::read(&mut r).expect("a list");
    }
    let mut ends = vec![tables + r.position()];
    while r.buffer().expect("a path") != Some(b"/") {
        r.buffer().expect("data");
        r.take(68).expect("numbers");
        ends.push(tables + r.position());
    }
    let mut loader = ImageLoader::new(rig.tree.config.clone(), zxid);
    let mut from = 0;
    for end in ends.into_iter().chain([bytes.len()]) {
        assert_eq!(loader.take(&bytes[from..end]), Ok(end - from));
        from = end;
    }
    assert_eq!(loader.take(b"what follows"), Ok(0));
    assert_eq!(dump(&loader.finish(None).expect("whole")), whole);
    let mut cut = ImageLoader::new(rig.tree.config.clone(), zxid);
    cut.take(&bytes[..tables]).map(drop).expect_err("the tables come in one piece");
    let unfinished = ImageLoader::new(rig.tree.config.clone(), zxid).finish(None);
    assert!(matches!(unfinished.map(drop), Err(ImageError::Decode(0, DecodeError::Truncated))), "no end marker, no tree");
}

#[test]
fn the_digest_of_a_fuzzy_image_is_compared_where_it_belongs() {
    let mut rig = Rig::new();
    rig.make("/a");
    let bytes = bytes_of(&mut rig.tree.begin_image());
    let named = rig.zxid;
    rig.make("/b");
    rig.request(&create("/b", 0)); // an error: it has no digest of its own
    let end = rig.zxid;
    rig.make("/c");
    let load_with = |at: u64, digest: u64| {
        let digest = ImageDigest { zxid: Zxid(at), digest: TxnDigest { version: 2, digest } };
        load_image(rig.tree.config.clone(), Zxid(named), &bytes, Some(digest)).expect("a good image").0
    };
    let apply = |tree: &mut Tree, n: u64| {
        let (header, txn, digest) = decode_payload(&rig.log[n as usize - 1]).expect("logged");
        tree.apply(&header, &txn);
        tree.commit(header.zxid);
        tree.digest_matches(digest.as_ref())
    };
    let right = {
        let (_, _, digest) = decode_payload(&rig.log[named as usize]).expect("logged");
        digest.expect("a create has one").digest
    };
    let mut tree = load_with(end, right);
    assert!(tree.is_fuzzy());
    assert_eq!(tree.digest_matches(None), None);
    assert_eq!(apply(&mut tree, named + 1), None, "not compared inside the fuzzy range");
    assert!(tree.is_fuzzy());
    assert_eq!(apply(&mut tree, end), Some(true), "the image's own, at an error transaction");
    assert!(!tree.is_fuzzy());
    assert_eq!(apply(&mut tree, end + 1), Some(true), "from then on each transaction's");
    let mut tree = load_with(end, right + 1);
    apply(&mut tree, named + 1);
    assert_eq!(apply(&mut tree, end), Some(false), "a wrong one is noticed");
    let exact = load_with(named, 5);
    assert_eq!((exact.is_fuzzy(), exact.digest_matches(None)), (false, Some(false)), "an exact one is compared at once");
    for ignored in [0, named - 1] {
        let tree = load_with(ignored, 5);
        assert_eq!((tree.is_fuzzy(), tree.digest_matches(None)), (false, None), "no digest of this state");
    }
}

#[test]
fn a_number_without_list_grants_nothing_until_replay_brings_the_list() {
    let mut rig = Rig::new();
    rig.make("/a");
    let bytes = bytes_of(&mut rig.tree.begin_image());
    // The table has two entries (config's and /a's); drop the second.
    let table = 4 + 12;
    let entry = |i: usize| table + 4 + i * (8 + AclVec::OPEN.raw().len());
    let mut damaged = bytes[..table].to_vec();
    damaged.extend_from_slice(&1i32.to_be_bytes());
    damaged.extend_from_slice(&bytes[entry(0)..entry(1)]);
    damaged.extend_from_slice(&bytes[entry(2)..]);
    let mut tree = load(&rig, Zxid(1), &damaged);
    let mut reader = tree.reader();
    let read = |reader: &mut TreeReader| {
        let at = reader.begin_burst();
        reader.get_data(at, "/a", &auth(&[("ip", "127.0.0.1")]), &mut Vec::new())
    };
    assert_eq!(read(&mut reader), Err(ErrorCode::NoAuth));
    replay(&mut tree, [rig.log[1].as_slice()]);
    assert_eq!(read(&mut reader), Ok(()));
    assert_eq!(tree.store.head("/a").expect("there").acl().entries(), AclVec::OPEN);
    assert_consistent(&tree);
}

#[test]
fn images_that_are_none_are_refused_with_the_reason() {
    let mut rig = Rig::new();
    rig.make("/a");
    let good = bytes_of(&mut rig.tree.begin_image());
    let node = |path: &str| {
        let mut out = Vec::new();
        out.put_string(path);
        out.put_buffer(None);
        out.put_raw(&[0xff; 8]);
        out.put_raw(&[0; 60]);
        out
    };
    let image = |nodes: &[&str]| {
        let mut out = vec![0; 8];
        nodes.iter().for_each(|p| out.extend_from_slice(&node(p)));
        out.put_string("/");
        out
    };
    let err = |bytes: &[u8]| load_image(TreeConfig::default(), Zxid(1), bytes, None).map(|_| ()).expect_err("no image");
    assert_eq!(err(&image(&[])), ImageError::NoRoot);
    assert_eq!(err(&image(&["/a"])), ImageError::NoParent("/a".into()));
    assert_eq!(err(&image(&["", "/a/b"])), ImageError::NoParent("/a/b".into()));
    assert_eq!(err(&image(&["", "a"])), ImageError::NoParent("a".into()));
    assert_eq!(err(&image(&["", "/a", "/b", "/a"])), ImageError::Twice("/a".into()));
    for cut in 0..good.len() {
        assert!(matches!(err(&good[..cut]), ImageError::Decode(_, _)), "cut at {cut}");
    }
    let (tree, _) = load_image(TreeConfig::default(), Zxid(1), &image(&["", "/a", "/b", "/a/x"]), None).expect("any order below parents");
    assert!(tree.store.head("/a/x").is_some() && tree.store.head("/zookeeper/config").is_some(), "missing system nodes are added");
    assert_consistent(&tree);
}

/// A Java server's image: sessions and ACL table first, then nodes one at a time in pre-order while transactions go on.
fn fuzzy_image(rig: &mut Rig, reader: &store::Reader, from: u64, speed: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let sessions = sessions_at(rig, from);
    out.put_len(sessions.len());
    for (id, timeout_ms) in sessions {
        out.put_i64(id.0);
        out.put_i32(timeout_ms);
    }
    let lists: Vec<_> =
        rig.tree.acls.numbers().iter().filter(|(_, (first, _))| first.0 <= from).map(|(id, l)| (*id, l.1.clone())).collect();
    out.put_len(lists.len());
    for (id, list) in lists {
        out.put_i64(id);
        out.put_raw(list.entries().raw());
    }
    let store = &rig.tree.store;
    let mut read = store.committed("/").map(|n| n.cell()).into_iter().collect::<Vec<_>>();
    let mut at = from;
    let mut visited = 0;
    while let Some(cell) = read.pop() {
        if let Some(node) = reader.node(cell, Zxid(at)) {
            crate::tree::image::write_node(&node, &mut out);
            read.extend(node.children());
        }
        visited += 1;
        if visited % 2 == 0 {
            at = (at + speed).min(rig.zxid);
        }
    }
    out.put_string("/");
    out
}

fn sessions_at(rig: &Rig, zxid: u64) -> Vec<(SessionId, i32)> {
    let mut tree = Tree::new(rig.tree.config.clone());
    replay(&mut tree, rig.log[..zxid as usize].iter().map(Vec::as_slice));
    tree.sessions().collect()
}
proptest! {
    #![proptest_config(ProptestConfig { cases: super::props::cases(48), failure_persistence: None, ..ProptestConfig::default() })]

    /// D8, exact images: taken at any transaction boundary and replayed to the end they give the state of the straight history.
    #[test]
    fn an_image_at_any_point_and_replay_equal_the_whole_history(steps in steps(30), at in 0..30usize) {
        let mut rig = rig(false);
        let mut taken = (1, bytes_of(&mut rig.tree.begin_image()));
        for (i, step) in steps.iter().enumerate() {
            run(&mut rig, step);
            if i == at {
                taken = (rig.zxid, bytes_of(&mut rig.tree.begin_image()));
            }
        }
        let mut tree = load(&rig, Zxid(taken.0), &taken.1);
        assert_consistent(&tree);
        replay(&mut tree, rig.log[taken.0 as usize..].iter().map(Vec::as_slice));
        assert_consistent(&tree);
        prop_assert_eq!(without_usage(dump(&tree)), without_usage(dump(&rig.tree)));
    }

    /// D8, L8, fuzzy images: parts of later states at any places, and replay from the name's zxid on converge all the same.
    #[test]
    fn a_fuzzy_image_and_replay_equal_the_whole_history(steps in steps(40), from in 0..40u64, speed in 0..6u64) {
        let mut rig = rig(false);
        let mut reader = rig.tree.store.reader();
        let first = reader.begin_burst().0;
        for step in &steps {
            run(&mut rig, step);
        }
        let from = from.clamp(first, rig.zxid);
        reader.begin_burst();
        let bytes = fuzzy_image(&mut rig, &reader, from, speed);
        let mut tree = load(&rig, Zxid(from), &bytes);
        for payload in &rig.log[from as usize..] {
            let (header, txn, _) = decode_payload(payload).expect("logged");
            tree.apply(&header, &txn);
            tree.commit(header.zxid);
            assert_consistent(&tree);
        }
        prop_assert_eq!(without_usage(dump(&tree)), without_usage(dump(&rig.tree)));
    }
}

#[test]
fn the_random_world_reaches_every_kind_of_node() {
    // The properties above are worth what their histories contain.
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut ok, mut failed) = (0, 0);
    let (mut ephemerals, mut containers, mut ttls, mut quotas) = (0, 0, 0, 0);
    for _ in 0..50 {
        let steps = random::steps(40).new_tree(&mut runner).expect("a value").current();
        let mut rig = rig(false);
        for step in &steps {
            if run(&mut rig, step).err == ErrorCode::Ok {
                ok += 1
            } else {
                failed += 1
            }
            let dump = dump(&rig.tree);
            ephemerals += dump.ephemerals.len();
            containers += dump.containers.len();
            ttls += dump.ttls.len();
            quotas += dump.quotas.len();
        }
    }
    assert!(ok > 300 && failed > 100, "{ok} succeeded, {failed} failed");
    assert!(ephemerals > 20 && containers > 20 && ttls > 20 && quotas > 5, "{ephemerals} {containers} {ttls} {quotas}");
}

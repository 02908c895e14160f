//! Logs and snapshots of a real ZooKeeper 3.9.4: its records through our apply give its digests and its tree.

use super::*;
use std::path::Path;

pub(super) fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/java-3.9.4/storage").join(name);
    std::fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// Payloads of a log file, up to its zero padding.
pub(super) fn payloads(log: &[u8]) -> Vec<&[u8]> {
    let mut r = Reader::new(&log[16..]);
    let mut out = Vec::new();
    while r.remaining().len() > 12 {
        let _adler = r.i64().expect("inside the file");
        let len = r.i32().expect("inside the file");
        if len == 0 {
            break;
        }
        out.push(r.take(len as usize).expect("inside the file"));
        assert_eq!(r.u8(), Ok(b'B'), "end of record");
    }
    out
}

/// Sections 2 to 5 and what follows, past the 16-byte file header.
pub(super) fn load(file: &[u8], zxid: u64) -> Tree {
    let config = TreeConfig { extended_types: true, ..TreeConfig::default() };
    let (tree, used) = load_image(config, Zxid(zxid), &file[16..], None).expect("a good snapshot");
    let mut seal = Reader::new(&file[16 + used..]);
    let sum = seal.i64().expect("a seal");
    assert_eq!(sum, i64::from(crate::base::checksum::adler32(&file[..16 + used])), "the sections end where the seal begins");
    tree
}

fn fresh() -> Tree {
    Tree::new(TreeConfig { extended_types: true, ..TreeConfig::default() })
}

/// Applies a whole log to `tree`; every record that has a digest must give it. Returns how many had one.
fn replay_counting_digests(tree: &mut Tree, log: &[u8]) -> usize {
    let mut compared = 0;
    for payload in payloads(log) {
        let (header, txn, digest) = decode_payload(payload).expect("a record of the fixture");
        tree.apply(&header, &txn);
        if digest.is_some() {
            assert_eq!(tree.digest_matches(digest.as_ref()), Some(true), "digest after {:?}", header.zxid);
            compared += 1;
        }
        tree.commit(header.zxid);
        assert_consistent(tree);
    }
    compared
}

#[test]
fn standalone_log_gives_javas_digests_and_javas_snapshot() {
    let mut tree = fresh();
    let log = fixture("standalone/version-2/log.1");
    assert_eq!(payloads(&log).len(), 0x23);
    assert_eq!(replay_counting_digests(&mut tree, &log), 0x23 - 3, "all but the three errors");
    let snapshot = load(&fixture("standalone/version-2/snapshot.23"), 0x23);
    assert_consistent(&snapshot);
    assert_eq!(dump(&tree), dump(&snapshot));
    assert_eq!(tree.counts().sessions, 1);
}

#[test]
fn logs_of_ensembles_give_javas_digests() {
    for (name, records, with_digest) in [
        ("uncommitted-tail/version-2/log.100000001", 24, 22),
        ("ensemble-reconfig/version-2/log.100000001", 13, 13),
        ("after-trunc/version-2/log.100000001", 21, 19),
    ] {
        let log = fixture(name);
        assert_eq!(payloads(&log).len(), records, "{name}");
        assert_eq!(replay_counting_digests(&mut fresh(), &log), with_digest, "{name}");
    }
}

#[test]
fn truncated_ensemble_log_gives_the_snapshot_taken_after_it() {
    let mut tree = load(&fixture("after-trunc/version-2/snapshot.0"), 0);
    replay_counting_digests(&mut tree, &fixture("after-trunc/version-2/log.100000001"));
    let snapshot = load(&fixture("after-trunc/version-2/snapshot.100000015"), 0x1_0000_0015);
    let (mut ours, mut javas) = (dump(&tree), dump(&snapshot));
    // The configuration's text is refreshed outside the log at every start.
    for dump in [&mut ours, &mut javas] {
        dump.nodes.retain(|n| n.path != "/zookeeper/config");
        dump.counts.data_bytes = 0;
    }
    assert_eq!(ours, javas);
}

#[test]
fn layouts_of_older_servers_load_and_apply() {
    for name in ["neither", "nodigest", "nolastzxid"] {
        let mut tree = load(&fixture(&format!("{name}/version-2/snapshot.0")), 0);
        replay_counting_digests(&mut tree, &fixture(&format!("{name}/version-2/log.1")));
        let snapshot = load(&fixture(&format!("{name}/version-2/snapshot.4")), 4);
        assert_eq!(dump(&tree), dump(&snapshot), "{name}");
    }
    let mut tree = fresh();
    replay_counting_digests(&mut tree, &fixture("legacy/version-2/log.1"));
    assert!(tree.store.head("/v0/eph").is_none(), "a close without a list deletes by the own table");
    let root = tree.store.head("/").expect("root").meta();
    assert_eq!((root.cversion, root.pzxid), (2, 4), "records without the parent's cversion count up");
}

#[test]
fn image_of_the_empty_tree_is_javas_byte_for_byte() {
    let file = fixture("standalone/version-2/snapshot.0");
    let mut tree = fresh();
    let mut out = Vec::new();
    let mut image = tree.begin_image();
    image
        .write(&mut |bytes| {
            out.extend_from_slice(bytes);
            Ok(())
        })
        .expect("a sink that takes everything");
    assert_eq!(image.digest().map(|d| d.digest), Some(0x51C6_D660));
    // Children come in each server's own order, so nodes are compared as a set and the length as a whole.
    let (ours, used) = load_image(TreeConfig::default(), Zxid(0), &out, None).expect("what was written");
    assert_eq!(used, out.len());
    assert_eq!(dump(&ours), dump(&load(&file, 0)));
    let first_seal = file.len() - 54 - 13;
    assert_eq!(out.len(), first_seal - 16);
}

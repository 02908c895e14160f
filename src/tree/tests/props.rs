//! Properties over random histories.

use super::random::{rig, run, step, steps, wild};
use super::*;
use proptest::prelude::*;

fn config() -> ProptestConfig {
    ProptestConfig { cases: cases(64), failure_persistence: None, ..ProptestConfig::default() }
}
/// PROPTEST_CASES overrides.
pub(super) fn cases(default: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

proptest! {
    #![proptest_config(config())]

    /// A11, L22: what prepare does is what replay of its payload does, and every table and the digest stay true to the nodes. The reply made
    /// where a transaction is only applied is the one made where it was prepared.
    #[test]
    fn prepare_then_replay_gives_the_same_tree(steps in steps(40), enforce_quota: bool, commit: bool) {
        let mut rig = rig(enforce_quota);
        rig.commit = commit;
        let mut other = Tree::new(rig.tree.config.clone());
        replay(&mut other, rig.log.iter().map(Vec::as_slice));
        for step in &steps {
            let logged = rig.log.len();
            let outcome = run(&mut rig, step);
            assert_consistent(&rig.tree);
            for payload in &rig.log[logged..] {
                let (header, txn, digest) = decode_payload(payload).expect("what is logged decodes");
                let mut again = Vec::new();
                crate::record::txn::encode_payload(&header, &txn, &mut again);
                prop_assert_eq!(&again[..], &payload[..again.len()], "decoding and encoding give the same bytes");
                let mut reply = Vec::new();
                let Prepared { err, effects } = other.apply_answering(&header, &txn, &mut reply);
                prop_assert_eq!((err, &reply), (outcome.err, &outcome.reply));
                prop_assert_ne!(other.digest_matches(digest.as_ref()), Some(false));
                prop_assert_eq!(digest.is_none(), header.kind == -1, "errors alone have no digest");
                other.commit(header.zxid);
                let shown = |e: &Effects| -> Vec<_> {
                    e.events.iter().map(|v| (v.kind, v.path.clone(), v.acl.entries().raw().to_vec(), v.parent_acl.is_some())).collect()
                };
                prop_assert_eq!(shown(&effects), shown(&outcome.effects));
                prop_assert_eq!(effects.closed_session, outcome.effects.closed_session);
            }
        }
        rig.tree.commit(Zxid(rig.zxid));
        prop_assert_eq!(dump(&other), dump(&rig.tree));
        prop_assert_eq!(other.digest_history(), rig.tree.digest_history());
    }

    /// L22: whatever decodes has an effect and never panics; tables and digest stay true; all of it can be undone.
    #[test]
    fn any_decodable_transaction_can_be_applied_and_undone(txns in prop::collection::vec(wild(), 0..30), commit_at in 0..30usize) {
        let mut tree = Tree::new(TreeConfig { extended_types: true, ..TreeConfig::default() });
        let mut at_commit = dump(&tree);
        for (i, txn) in txns.iter().enumerate() {
            let payload = txn.payload(i as u64);
            let Ok((header, txn, _)) = decode_payload(&payload) else { continue };
            tree.apply(&header, &txn);
            assert_consistent(&tree);
            prop_assert!(tree.head_zxid() >= header.zxid);
            if i == commit_at {
                tree.commit(tree.head_zxid());
                at_commit = dump(&tree);
            }
        }
        tree.undo_above(tree.applied());
        prop_assert_eq!(dump(&tree), at_commit);
        assert_consistent(&tree);
    }

    /// A10, B11: apply then undo equals never applied, side tables and digest included; the same zxids may come again with other content.
    #[test]
    fn apply_then_undo_equals_never_applied(kept in steps(25), undone in steps(25), instead in steps(15), commit_part in 0..100usize) {
        let mut rig = rig(false);
        rig.commit = false;
        for step in &kept {
            run(&mut rig, step);
        }
        let back_to = rig.zxid;
        let (before, acls, session) = (dump(&rig.tree), rig.tree.acls.dump(), rig.session);
        // Some of what stays is committed before, some while the rest is outstanding, some never.
        rig.tree.commit(Zxid(back_to * (commit_part as u64 % 4) / 4).max(rig.tree.applied()));
        let outstanding = (rig.tree.store.uncommitted_len(), rig.tree.undo.steps_above(rig.tree.applied()).count());
        let before_acls_committed = rig.tree.acls.dump();
        for step in &undone {
            run(&mut rig, step);
        }
        rig.tree.undo_above(Zxid(back_to));
        prop_assert_eq!(rig.tree.head_zxid(), Zxid(back_to));
        prop_assert_eq!((rig.tree.store.uncommitted_len(), rig.tree.undo.steps_above(rig.tree.applied()).count()), outstanding);
        let mut after = dump(&rig.tree);
        prop_assert_eq!(rig.tree.acls.dump(), before_acls_committed);
        after.acl_uses.retain(|a| a.1 > 0);
        let mut expected = before;
        expected.acl_uses.retain(|a| a.1 > 0);
        prop_assert_eq!(&after, &expected);
        prop_assert!(acls.len() >= rig.tree.acls.dump().len());

        // The same numbers again, with other content: as if the undone ones had never been.
        rig.zxid = back_to;
        rig.session = session;
        rig.log.truncate(usize::try_from(back_to).expect("small"));
        for step in &instead {
            run(&mut rig, step);
        }
        assert_consistent(&rig.tree);
        rig.tree.commit(Zxid(rig.zxid));
        prop_assert!(rig.tree.undo.is_empty());
        let mut other = Tree::new(rig.tree.config.clone());
        replay(&mut other, rig.log.iter().map(Vec::as_slice));
        prop_assert_eq!(dump(&other), dump(&rig.tree));
    }

    /// A committed state is what readers see, whatever is outstanding above it, and reclaiming changes nothing.
    #[test]
    fn readers_see_committed_states_only(steps in prop::collection::vec((step(), any::<bool>()), 0..40)) {
        let mut rig = rig(false);
        rig.commit = false;
        rig.tree.commit(Zxid(rig.zxid));
        let mut reader = rig.tree.reader();
        let mut shown = all_data(&mut reader);
        for (step, commit) in &steps {
            run(&mut rig, step);
            prop_assert_eq!(&all_data(&mut reader), &shown);
            if *commit {
                rig.tree.commit(Zxid(rig.zxid));
                shown = all_data(&mut reader);
                let head: Vec<_> = random::PATHS.iter().map(|p| rig.tree.store.head(p).map(|n| n.stat().to_stat())).collect();
                prop_assert_eq!(shown.iter().map(|s| s.as_ref().map(|s| s.1)).collect::<Vec<_>>(), head);
            }
            rig.tree.reclaim(3);
        }
    }

    /// Rule S1: bytes that are no image are refused, never a panic; a changed byte may at most give another tree.
    #[test]
    fn damaged_images_never_panic(at in 0..3000usize, value: u8, cut in 0..3000usize) {
        let file = golden::fixture("standalone/version-2/snapshot.23");
        let mut bytes = file[16..].to_vec();
        let at = at % bytes.len();
        bytes[at] = value;
        bytes.truncate(cut.max(at + 1));
        if let Ok((tree, used)) = load_image(TreeConfig::default(), Zxid(0x23), &bytes, None) {
            prop_assert!(used <= bytes.len());
            assert_consistent(&tree);
        }
    }
}

fn all_data(reader: &mut TreeReader) -> Vec<Option<(Vec<u8>, Stat)>> {
    let at = reader.begin_burst();
    reader.set_low(at);
    let superuser = auth(&[("super", "")]);
    random::PATHS
        .iter()
        .map(|path| {
            let mut out = Vec::new();
            reader.get_data(at, path, &superuser, &mut out).ok()?;
            let mut r = Reader::new(&out);
            let data = r.buffer().expect("data").map(<[u8]>::to_vec);
            Some((data.unwrap_or_default(), Stat::read(&mut r).expect("a stat")))
        })
        .collect()
}

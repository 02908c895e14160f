//! Single stories about undoing, beside the random ones.

use super::*;

#[test]
fn a_list_used_by_committed_nodes_survives_until_its_last_user_is_committed_gone() {
    let mut rig = Rig::new();
    let mine = acl_bytes(&[(31, "world", "anyone"), (1, "ip", "1.2.3.4")]);
    rig.request(&create_with(OpCode::Create, "/a", None, acl_vec(&mine), 0, None));
    let listed = |rig: &Rig| rig.tree.acls.dump().iter().any(|(_, _, raw)| *raw == mine);
    rig.commit = false;
    rig.request(&Request::SetAcl { path: "/a", acl: AclVec::OPEN, version: -1 });
    assert!(listed(&rig), "the committed node still shows it");
    let lost_at = rig.zxid;
    rig.request(&create_with(OpCode::Create, "/b", None, acl_vec(&mine), 0, None));
    rig.request(&delete("/b", -1));
    rig.tree.commit(Zxid(lost_at));
    assert!(listed(&rig), "the transaction after the committed one uses it");
    rig.tree.undo_above(Zxid(lost_at));
    assert!(!listed(&rig), "undoing the last user of a list that committed state lost");
    assert_consistent(&rig.tree);
}

#[test]
fn numbers_of_undone_lists_are_given_again() {
    let mut rig = Rig::new();
    rig.make("/open");
    let one = acl_bytes(&[(1, "world", "anyone"), (1, "ip", "1.1.1.1")]);
    let two = acl_bytes(&[(1, "world", "anyone"), (1, "ip", "2.2.2.2")]);
    let number = |rig: &Rig, path: &str| rig.tree.store.head(path).expect("there").acl().id;
    rig.commit = false;
    let back = rig.zxid;
    rig.request(&create_with(OpCode::Create, "/x", None, acl_vec(&one), 0, None));
    let given = number(&rig, "/x");
    rig.tree.undo_above(Zxid(back));
    rig.zxid = back;
    rig.request(&create_with(OpCode::Create, "/x", None, acl_vec(&two), 0, None));
    assert_eq!(number(&rig, "/x"), given);
}

#[test]
fn committing_in_the_middle_forgets_only_what_is_committed() {
    let mut rig = Rig::new();
    rig.commit = false;
    rig.make("/a");
    rig.make("/b");
    rig.make("/c");
    rig.tree.commit(Zxid(rig.zxid - 1));
    assert_eq!(rig.tree.committed_digest, { rig.tree.undo.newest_above(Zxid(rig.zxid - 1)).expect("one frame").digest_before });
    rig.tree.undo_above(Zxid(rig.zxid - 1));
    assert!(rig.exists("/a") && rig.exists("/b") && !rig.exists("/c"));
    assert!(rig.tree.undo.is_empty());
    assert_eq!(rig.tree.committed_digest, rig.tree.digest);
}

#[test]
fn an_expiring_session_comes_back_with_its_nodes() {
    let mut rig = Rig::new();
    rig.make_as("/e", 1);
    rig.commit = false;
    let before = dump(&rig.tree);
    rig.close_session(SessionId(0x77));
    assert!(!rig.exists("/e"));
    rig.tree.undo_above(Zxid(rig.zxid - 1));
    assert_eq!(dump(&rig.tree), before);
    assert!(rig.tree.has_session(SessionId(0x77)));
}

#[test]
#[should_panic(expected = "what is committed stays")]
fn committed_transactions_cannot_be_undone() {
    let mut rig = Rig::new();
    rig.make("/a");
    rig.tree.undo_above(Zxid(rig.zxid - 1));
}

#[test]
fn digests_of_committed_transactions_are_remembered_at_intervals() {
    let mut rig = Rig::new();
    rig.commit = false;
    let mut expected = Vec::new();
    while rig.zxid < 300 {
        rig.request(&create("/n-", 2));
        if rig.zxid.is_multiple_of(128) {
            expected.push((Zxid(rig.zxid), rig.tree.digest));
        }
    }
    assert!(rig.tree.digest_history().is_empty(), "nothing is committed");
    rig.tree.commit(Zxid(200));
    assert_eq!(rig.tree.digest_history(), expected[..1]);
    rig.tree.commit(Zxid(300));
    assert_eq!(rig.tree.digest_history(), expected);
    rig.request(&create("/n-", 9));
    assert_eq!(rig.last_txn().1, Txn::Error { code: -8 });
}

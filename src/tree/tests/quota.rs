//! Quotas at work.

use super::*;

const LIMITS: &str = "/zookeeper/quota/a/zookeeper_limits";
const STATS: &str = "/zookeeper/quota/a/zookeeper_stats";

fn put(rig: &mut Rig, path: &str, text: &str) {
    let request = create_with(OpCode::Create, path, Some(text.as_bytes()), AclVec::OPEN, 0, None);
    assert_eq!(rig.err(&request), ErrorCode::Ok, "{path}");
}
fn usage(rig: &Rig) -> String {
    String::from_utf8(rig.data(STATS).expect("stats have data")).expect("text")
}
/// /a with one child of 3 bytes under a quota.
fn rig_with_quota(limits: &str, enforce_quota: bool) -> Rig {
    let mut rig = Rig::with(TreeConfig { enforce_quota, ..TreeConfig::default() });
    rig.make("/a");
    put(&mut rig, "/a/x", "123");
    rig.make("/zookeeper/quota/a");
    put(&mut rig, LIMITS, limits);
    put(&mut rig, STATS, "count=0,bytes=0");
    rig
}

#[test]
fn usage_is_counted_and_follows_every_change() {
    let mut rig = rig_with_quota("count=5,bytes=-1", false);
    assert_eq!(usage(&rig), "count=2,bytes=4", "the quota's own node counts");
    let born = rig.stat(STATS);
    put(&mut rig, "/a/y", "12");
    assert_eq!(usage(&rig), "count=3,bytes=6");
    rig.request(&set("/a/y", b"12345", -1));
    assert_eq!(usage(&rig), "count=3,bytes=9");
    rig.request(&delete("/a/x", -1));
    assert_eq!(usage(&rig), "count=2,bytes=6");
    rig.request(&Request::Multi(vec![create("/a/m", 0), set("/a/m", b"1234", 0), create("/a/n", 0)]));
    assert_eq!(usage(&rig), "count=4,bytes=11");
    rig.request(&Request::Multi(vec![create("/a/o", 0), check("/missing", 0)]));
    assert_eq!(usage(&rig), "count=4,bytes=11", "a failed multi charges nothing");
    put(&mut rig, "/b", "elsewhere");
    assert_eq!(usage(&rig), "count=4,bytes=11");
    let stat = rig.stat(STATS);
    assert_eq!(stat, Stat { data_length: 16, ..born }, "only the length follows");
    assert_consistent(&rig.tree);
    for i in 0..10 {
        rig.make(&format!("/a/soft{i}"));
    }
    assert!(usage(&rig).starts_with("count=14,"), "a soft limit refuses nothing");
}

#[test]
fn limits_and_usage_are_summed_by_child_of_the_root_up_to_many_quotas() {
    let mut rig = rig_with_quota("count=5,bytes=40=;byteHardLimit=30;countHardLimit=-1", false);
    rig.make("/a/b");
    rig.make("/zookeeper/quota/a/b");
    put(&mut rig, "/zookeeper/quota/a/b/zookeeper_limits", "count=2,bytes=-1");
    put(&mut rig, "/zookeeper/quota/a/b/zookeeper_stats", "");
    put(&mut rig, "/zookeeper/quota/zookeeper_limits", "count=1,bytes=1");
    let sums = QuotaSums { count_limit: 7, bytes_limit: 29, count_used: 4, bytes_used: 6 };
    assert_eq!(rig.tree.quota_sums(), [("a".to_owned(), sums)]);
    for i in 0..1_000 {
        rig.make(&format!("/zookeeper/quota/n{i}"));
        put(&mut rig, &format!("/zookeeper/quota/n{i}/zookeeper_limits"), "count=1,bytes=1");
    }
    assert_eq!(rig.tree.quota_sums(), [], "not by walking for ever");
}

#[test]
fn deleting_the_limits_disarms() {
    let mut rig = rig_with_quota("count=5,bytes=-1", false);
    rig.request(&delete(LIMITS, -1));
    rig.make("/a/y");
    assert_eq!(usage(&rig), "count=2,bytes=4");
    put(&mut rig, LIMITS, "count=5,bytes=-1");
    rig.make("/a/z");
    assert_eq!(usage(&rig), "count=3,bytes=5", "armed again it goes on from the text");
    assert_consistent(&rig.tree);
}

#[test]
fn the_deepest_quota_alone_is_charged() {
    let mut rig = rig_with_quota("count=5,bytes=-1", false);
    rig.make("/a/deep");
    rig.make("/zookeeper/quota/a/deep");
    put(&mut rig, "/zookeeper/quota/a/deep/zookeeper_limits", "count=9,bytes=9");
    put(&mut rig, "/zookeeper/quota/a/deep/zookeeper_stats", "");
    let before = usage(&rig);
    rig.make("/a/deep/x");
    assert_eq!(usage(&rig), before);
    assert_eq!(rig.data("/zookeeper/quota/a/deep/zookeeper_stats"), Some(b"count=2,bytes=2".to_vec()));
}

#[test]
fn a_quota_on_the_root_is_never_applied() {
    let mut rig = Rig::new();
    put(&mut rig, "/zookeeper/quota/zookeeper_limits", "count=1,bytes=1");
    put(&mut rig, "/zookeeper/quota/zookeeper_stats", "");
    let before = rig.data("/zookeeper/quota/zookeeper_stats");
    rig.make("/x");
    assert_eq!(rig.data("/zookeeper/quota/zookeeper_stats"), before);
}

#[test]
fn hard_limits_refuse_only_when_enforced() {
    for (enforce, err) in [(true, ErrorCode::QuotaExceeded), (false, ErrorCode::Ok)] {
        let mut rig = rig_with_quota("count=1,bytes=1=;byteHardLimit=10;countHardLimit=3", enforce);
        assert_eq!(rig.err(&create("/a/ok", 0)), ErrorCode::Ok, "three nodes are allowed");
        assert_eq!(rig.err(&create("/a/many", 0)), err);
        assert_eq!(rig.err(&set("/a/ok", b"123456", -1)), ErrorCode::Ok, "ten bytes are allowed");
        assert_eq!(rig.err(&set("/a/ok", b"1234567", -1)), err);
        assert_eq!(rig.err(&create("/a/x", 0)), ErrorCode::NodeExists, "the quota is judged last");
        assert_eq!(rig.err(&set("/a/ok", b"12345678", 9)), if enforce { err } else { ErrorCode::BadVersion }, "before the version");
        assert_eq!(rig.err(&set("/a/ok", b"1", -1)), ErrorCode::Ok, "shrinking is always allowed");
        assert_consistent(&rig.tree);
    }
}

#[test]
fn checks_read_committed_usage() {
    let mut rig = rig_with_quota("count=-1,bytes=-1=;countHardLimit=3", true);
    // Deletes of the same multi free nothing yet.
    rig.make("/a/y");
    let out = rig.request(&Request::Multi(vec![delete("/a/y", -1), create("/a/z", 0)]));
    assert_eq!(out.reply[5..9], 0i32.to_be_bytes());
    assert_eq!(rig.last_txn().1.kind(), 14);
    assert!(rig.exists("/a/y") && !rig.exists("/a/z"), "the multi failed as a whole");
    // Writes in flight overshoot (rule B10).
    rig.request(&delete("/a/y", -1));
    rig.commit = false;
    assert_eq!(rig.err(&create("/a/1", 0)), ErrorCode::Ok);
    assert_eq!(rig.err(&create("/a/2", 0)), ErrorCode::Ok);
    rig.tree.commit(Zxid(rig.zxid));
    assert_eq!(rig.err(&create("/a/3", 0)), ErrorCode::QuotaExceeded);
    assert!(usage(&rig).starts_with("count=4,"));
}

#[test]
fn a_missing_stats_node_means_not_enforced() {
    let mut rig = Rig::with(TreeConfig { enforce_quota: true, ..TreeConfig::default() });
    rig.make("/a");
    rig.make("/zookeeper/quota/a");
    put(&mut rig, LIMITS, "count=0,bytes=0=;countHardLimit=0");
    assert_eq!(rig.err(&create("/a/x", 0)), ErrorCode::Ok);
}

#[test]
fn whatever_clients_write_into_quota_nodes_is_survived() {
    let mut rig = rig_with_quota("rubbish", true);
    for text in [&b"\xff\xfe"[..], b"", b"count=99999999999999999999", b"=====", b"count=9223372036854775807,bytes=1"] {
        rig.request(&Request::SetData { path: STATS, data: Some(text), version: -1 });
        rig.request(&Request::SetData { path: LIMITS, data: Some(text), version: -1 });
        assert_eq!(rig.err(&create("/a/n-", 2)), ErrorCode::Ok);
    }
    rig.request(&Request::SetData { path: STATS, data: None, version: -1 });
    assert_eq!(rig.err(&create("/a/n-", 2)), ErrorCode::Ok);
    assert_consistent(&rig.tree);
}

//! What the server does by itself: containers, TTL nodes, quotas; and what is left after a restart.

use super::Context;
use crate::pair::Conn;
use crate::reference::request::*;

pub fn containers(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    let b = p.connect();
    p.call(a, &create("/co", b"", PERSISTENT));
    p.call(b, &add_watch("/co", 1));
    p.call(a, &create_container("/co/never"));
    p.call(a, &create_container("/co/used"));
    p.call(a, &create("/co/used/x", b"", PERSISTENT));
    p.call(a, &get_data("/co/used", false));
    p.call(a, &delete("/co/used", -1));
    p.call(a, &delete("/co/used/x", -1));
    p.wait_for(a, &exists("/co/used", false), -101);
    p.call(a, &exists("/co/never", false));
    p.call(a, &set_data("/co/never", b"x", 0));
    p.call(a, &delete("/co/never", 1));
    p.call(a, &get_children2("/co", false));
}

pub fn ttl(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    let b = p.connect();
    p.call(a, &create("/tt", b"", PERSISTENT));
    p.call(b, &add_watch("/tt", 1));
    p.call(a, &create_ttl("/tt/kept", b"", TTL, 1));
    p.call(a, &create("/tt/kept/child", b"", PERSISTENT));
    p.call(a, &create_ttl("/tt/gone", b"x", TTL, 50));
    p.wait_for(a, &exists("/tt/gone", false), -101);
    p.call(a, &get_children2("/tt", false));
    p.call(a, &get_data("/tt/kept", false));
    p.call(a, &delete("/tt/kept/child", -1));
    p.wait_for(a, &exists("/tt/kept", false), -101);
    p.call(a, &create_ttl("/tt/s-", b"", TTL_SEQUENTIAL, 50));
    p.wait_for(a, &get_all_children_number("/tt/s-0000000002"), -101);
    p.call(a, &get_children2("/tt", false));
}

fn quota_nodes(c: &mut Context<'_>, a: Conn, root: &str, limits: &[u8]) {
    let p = &mut c.pair;
    let base = format!("/zookeeper/quota{root}");
    p.call(a, &create(&base, b"", PERSISTENT));
    p.call(a, &create(&format!("{base}/zookeeper_limits"), limits, PERSISTENT));
    p.call(a, &create(&format!("{base}/zookeeper_stats"), b"count=0,bytes=0", PERSISTENT));
}

fn usage(c: &mut Context<'_>, a: Conn, root: &str) {
    let p = &mut c.pair;
    p.call(a, &get_data(&format!("/zookeeper/quota{root}/zookeeper_stats"), false));
    p.call(a, &get_data(&format!("/zookeeper/quota{root}/zookeeper_limits"), false));
}

pub fn quota(c: &mut Context<'_>) {
    let a = c.pair.connect();
    c.pair.call(a, &create("/qu", b"abc", PERSISTENT));
    c.pair.call(a, &create("/qu/x", b"de", PERSISTENT));
    quota_nodes(c, a, "/qu", b"count=-1,bytes=-1=;byteHardLimit=20;countHardLimit=5");
    usage(c, a, "/qu");
    let requests = [
        create("/qu/y", b"12345", PERSISTENT),
        create("/qu/x/deep", b"", EPHEMERAL),
        create("/qu/z", b"", PERSISTENT),
        create("/qu/over", b"", PERSISTENT),
        set_data("/qu", b"123456789012", -1),
        set_data("/qu", b"1234567890123456", -1),
        set_data_opt("/qu", None, -1),
        multi(&[delete("/qu/z", -1), create("/qu/n1", b"", PERSISTENT), create("/qu/n2", b"", PERSISTENT)]),
        multi(&[delete("/qu/z", -1)]),
        create("/qu/z", b"", PERSISTENT),
        delete("/qu/y", -1),
        multi(&[create("/qu/big", b"1234567890123456789012345", PERSISTENT)]),
    ];
    for request in &requests {
        c.pair.call(a, request);
        usage(c, a, "/qu");
    }
    // A deeper quota takes over what is below it.
    quota_nodes(c, a, "/qu/x", b"count=1,bytes=1");
    c.pair.call(a, &create("/qu/x/more", b"xyz", PERSISTENT));
    usage(c, a, "/qu");
    usage(c, a, "/qu/x");
    // Odd texts; for those that are no limits at all see the listed differences.
    for text in [&b"count=3,bytes=-1"[..], b"bytes=5,count=3", b"countHardLimit=4", b""] {
        c.pair.call(a, &set_data("/zookeeper/quota/qu/zookeeper_limits", text, -1));
        c.pair.call(a, &create("/qu/t", b"123456789", PERSISTENT));
        c.pair.call(a, &set_data("/qu", b"1234567", -1));
        c.pair.call(a, &delete("/qu/t", -1));
        usage(c, a, "/qu");
    }
    c.pair.call(a, &delete("/zookeeper/quota/qu/zookeeper_limits", -1));
    c.pair.call(a, &create("/qu/free", b"1234567890123456789012345678901234567890", PERSISTENT));
    usage(c, a, "/qu");
}

/// What monitoring is told: sums by child of the root, hard limits before soft ones.
pub fn quota_gauges(c: &mut Context<'_>) {
    let a = c.pair.connect();
    for path in ["/qg", "/qg/x", "/qg/y"] {
        c.pair.call(a, &create(path, b"abc", PERSISTENT));
    }
    c.pair.call(a, &create("/zookeeper/quota/qg", b"", PERSISTENT));
    quota_nodes(c, a, "/qg/x", b"count=7,bytes=100=;byteHardLimit=20;countHardLimit=-1");
    quota_nodes(c, a, "/qg/y", b"count=-1,bytes=9");
    c.pair.call(a, &create("/qg/x/more", b"12345", PERSISTENT));
    c.pair.word("mntr", |text| {
        let mut lines: Vec<_> = text.lines().filter(|line| line.starts_with("zk_qg_quota_")).collect();
        lines.sort_unstable();
        format!("{} gauges\n{}", lines.len(), lines.join("\n"))
    });
}

/// Without `enforceQuota` nothing is refused.
pub fn soft_quota(c: &mut Context<'_>) {
    let a = c.pair.connect();
    c.pair.call(a, &create("/sq", b"abc", PERSISTENT));
    quota_nodes(c, a, "/sq", b"count=1,bytes=1=;byteHardLimit=2;countHardLimit=1");
    c.pair.call(a, &create("/sq/x", b"0123456789", PERSISTENT));
    c.pair.call(a, &set_data("/sq", b"0123456789", -1));
    usage(c, a, "/sq");
}

pub fn extended_types_off(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    for op in [CREATE, CREATE2, CREATE_CONTAINER] {
        for flags in 0..=7 {
            p.call(a, &create_as(op, &format!("/x{op}-{flags}"), b"", OPEN, flags));
        }
    }
    for flags in 0..=7 {
        p.call(a, &create_ttl(&format!("/y{flags}"), b"", flags, 5000));
    }
    p.call(a, &multi(&[create_ttl("/z", b"", TTL, 5000)]));
    p.call(a, &get_children2("/", false));
}

pub fn reconfiguration(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    p.call(a, &reconfig(Some("server.2=127.0.0.1:1:2;3"), None, None, -1));
    p.call(a, &reconfig(None, None, Some("nonsense"), 5));
    let s = p.connect();
    p.call(s, &auth("digest", b"super:test"));
    p.call(s, &reconfig(None, Some("2"), None, -1));
    p.call(s, &get_data("/zookeeper/config", true));
    p.call(s, &set_acl("/zookeeper/config", OPEN, -1));
    p.call(s, &get_acl("/zookeeper/config"));
    p.call(s, &set_acl("/zookeeper/config", &[(1, "world", "anyone")], -1));
}

fn prepare(c: &mut Context<'_>, root: &str) -> [Conn; 2] {
    let p = &mut c.pair;
    let a = p.connect();
    let b = p.connect();
    p.call(b, &create(root, b"root", PERSISTENT));
    p.call(b, &create(&format!("{root}/e"), b"", EPHEMERAL));
    p.call(b, &create_container(&format!("{root}/c")));
    p.call(b, &create_ttl(&format!("{root}/t"), b"", TTL, 10_000_000));
    let acl: &[Acl<'_>] = &[(31, "digest", "a:b"), (1, "world", "anyone")];
    p.call(b, &create_as(CREATE, &format!("{root}/acl"), b"", acl, PERSISTENT));
    p.call(b, &create_null(&format!("{root}/null")));
    p.call(b, &create(&format!("{root}/s-"), b"", SEQUENTIAL));
    p.call(b, &create(&format!("{root}/gone"), b"", PERSISTENT));
    p.call(b, &delete(&format!("{root}/gone"), -1));
    p.call(b, &set_data(root, b"again", 0));
    p.call(b, &multi(&[set_data(&format!("{root}/null"), b"m", -1), create(&format!("{root}/m"), b"", EPHEMERAL)]));
    p.call(b, &set_data(root, b"", 17));
    p.zxids(a);
    [a, b]
}

fn look(c: &mut Context<'_>, [a, b]: [Conn; 2], root: &str) {
    let p = &mut c.pair;
    p.drop_socket(a);
    p.drop_socket(b);
    // The sessions have survived, with what they own.
    let b2 = p.reattach(b);
    let a2 = p.reattach(a);
    for child in ["", "/e", "/c", "/t", "/acl", "/null", "/s-0000000005", "/gone", "/m"] {
        p.call(a2, &get_data(&format!("{root}{child}"), false));
        p.call(a2, &get_acl(&format!("{root}{child}")));
        p.call(a2, &get_children2(&format!("{root}{child}"), false));
    }
    p.call(b2, &get_ephemerals(None));
    p.call(a2, &get_all_children_number("/"));
    p.call(b2, &create(&format!("{root}/s-"), b"", SEQUENTIAL));
    p.call(a2, &set_data(root, b"after", 1));
    p.close(b2);
    p.call(a2, &get_children2(root, false));
    let c2 = p.connect();
    p.call(c2, &create(&format!("{root}/new"), b"", EPHEMERAL));
}

pub fn clean_restart(c: &mut Context<'_>) {
    let conns = prepare(c, "/re");
    let (dir, settings) = (c.dir, c.settings);
    c.pair.restart(dir, settings, false);
    look(c, conns, "/re");
}

pub fn kill_restart(c: &mut Context<'_>) {
    let conns = prepare(c, "/rk");
    let (dir, settings) = (c.dir, c.settings);
    c.pair.restart(dir, settings, true);
    look(c, conns, "/rk");
}

//! Nodes: kinds, names, versions, stats, the order in which requests are judged.

use super::Context;
use crate::reference::request::*;

pub fn system_nodes(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    for path in ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", ""] {
        p.call(a, &exists(path, false));
        p.call(a, &get_data(path, false));
        p.call(a, &get_children(path, false));
        p.call(a, &get_children2(path, false));
        p.call(a, &get_acl(path));
        p.call(a, &sync(path));
    }
    p.call(a, &get_all_children_number("/"));
    p.call(a, &get_all_children_number("/zookeeper"));
    for path in ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", ""] {
        p.call(a, &delete(path, -1));
        p.call(a, &create(path, b"", 0));
    }
    p.call(a, &set_data("/zookeeper/config", b"x", -1));
    p.call(a, &set_data("/zookeeper/quota", b"q", -1));
    p.call(a, &set_data("/zookeeper", b"z", -1));
    p.call(a, &set_data("/", b"root", -1));
    p.call(a, &get_data("/", false));
    p.call(a, &set_data_opt("/", None, -1));
    p.call(a, &get_data("/", false));
    p.call(a, &create("/zookeeper/own", b"", 0));
    p.call(a, &get_children2("/zookeeper", false));
    p.call(a, &delete("/zookeeper/own", -1));
}

pub fn create_read_delete(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    p.call(a, &create("/crd", b"one", PERSISTENT));
    p.call(a, &create("/crd", b"again", PERSISTENT));
    p.call(a, &create2("/crd/two", b"two", PERSISTENT));
    p.call(a, &create_null("/crd/null"));
    p.call(a, &create("/crd/empty", b"", PERSISTENT));
    for path in ["/crd", "/crd/two", "/crd/null", "/crd/empty", "/crd/none", "/crd/two/none"] {
        p.call(a, &exists(path, false));
        p.call(a, &get_data(path, false));
        p.call(a, &get_children(path, false));
        p.call(a, &get_children2(path, false));
        p.call(a, &get_acl(path));
        p.call(a, &get_all_children_number(path));
    }
    p.call(a, &set_data_opt("/crd/two", None, -1));
    p.call(a, &get_data("/crd/two", false));
    p.call(a, &delete("/crd", -1));
    p.call(a, &delete("/crd/none", -1));
    p.call(a, &delete("/none/none", -1));
    for path in ["/crd/two", "/crd/null", "/crd/empty"] {
        p.call(a, &delete(path, -1));
        p.call(a, &get_children2("/crd", false));
    }
    p.call(a, &delete("/crd", -1));
    p.call(a, &exists("/crd", false));
}

pub fn kinds(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    let b = p.connect();
    p.call(a, &create("/k", b"", PERSISTENT));
    let mut made = Vec::new();
    for op in [CREATE, CREATE2, CREATE_CONTAINER] {
        for flags in -1..=7 {
            let path = format!("/k/{op}-{flags}");
            p.call(a, &create_as(op, &path, b"d", OPEN, flags));
            made.push(path);
        }
    }
    for flags in [TTL, TTL_SEQUENTIAL] {
        for ttl in [1_000_000, 0xff_ffff_ffff, 0, -1, 0x100_0000_0000] {
            p.call(a, &create_ttl(&format!("/k/t{flags}x{ttl}-"), b"d", flags, ttl));
        }
    }
    for flags in [PERSISTENT, EPHEMERAL, SEQUENTIAL, CONTAINER] {
        p.call(a, &create_ttl(&format!("/k/n{flags}-"), b"d", flags, 5000));
    }
    p.call(a, &get_children2("/k", false));
    for path in &made {
        p.call(a, &get_data(path, false));
        p.call(a, &create(&format!("{path}/child"), b"", PERSISTENT));
    }
    p.call(a, &get_ephemerals(None));
    p.call(a, &get_ephemerals(Some("/k/1")));
    p.call(a, &get_ephemerals(Some("")));
    p.call(a, &get_ephemerals(Some("  ")));
    p.call(b, &get_ephemerals(Some("/")));
    p.call(b, &delete("/k/1-1", -1));
    p.call(b, &create("/k/b", b"", EPHEMERAL));
    p.call(b, &get_ephemerals(Some("/k")));
    p.call(a, &get_all_children_number("/k"));
    p.call(a, &get_all_children_number("/"));
}

pub fn sequential(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    p.call(a, &create("/s", b"", PERSISTENT));
    p.call(a, &create("/s/n-", b"", SEQUENTIAL));
    p.call(a, &create2("/s/n-", b"", EPHEMERAL_SEQUENTIAL));
    p.call(a, &create("/s/", b"", SEQUENTIAL));
    p.call(a, &create("/s/plain", b"", PERSISTENT));
    p.call(a, &create("/s/plain", b"", PERSISTENT));
    p.call(a, &create("/s/n-", b"", SEQUENTIAL));
    p.call(a, &delete("/s/plain", -1));
    p.call(a, &create("/s/n-", b"", SEQUENTIAL));
    p.call(a, &create("/s/n-0000000007", b"", PERSISTENT));
    p.call(a, &create("/s/n-", b"", SEQUENTIAL));
    p.call(a, &create("/s/m-0000000009", b"", PERSISTENT));
    p.call(a, &create("/s/m-", b"", SEQUENTIAL));
    p.call(a, &create("/none/n-", b"", SEQUENTIAL));
    p.call(a, &create("s-", b"", SEQUENTIAL));
    p.call(a, &create("", b"", SEQUENTIAL));
    p.call(a, &create("/s/a//", b"", SEQUENTIAL));
    p.call(a, &create("/s/..", b"", SEQUENTIAL));
    p.call(a, &create_ttl("/s/t-", b"", TTL_SEQUENTIAL, 100_000));
    let in_multi: Vec<_> = (0..4).map(|_| create2("/s/q-", b"", SEQUENTIAL)).collect();
    p.call(a, &multi(&in_multi));
    let fails: Vec<_> = in_multi.into_iter().chain([check("/s", 99)]).collect();
    p.call(a, &multi(&fails));
    p.calls(a, &(0..6).map(|_| create("/s/p-", b"", SEQUENTIAL)).collect::<Vec<_>>());
    p.call(a, &get_children2("/s", false));
}

pub fn versions(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    p.call(a, &create("/v", b"0", PERSISTENT));
    for version in [0, 0, 1, -1, 2, 3, -2, i32::MAX, i32::MIN, 4] {
        p.call(a, &set_data("/v", b"x", version));
    }
    for version in [0, 0, 1, -1, 2, 3, -2, 4] {
        p.call(a, &set_acl("/v", OPEN, version));
    }
    p.call(a, &exists("/v", false));
    for version in [0, 1, -2, 5, 6, 7, -1] {
        p.call(a, &delete("/v", version));
    }
    p.call(a, &create2("/v", b"new", PERSISTENT));
    p.call(a, &delete("/v", 0));
}

pub fn data_sizes(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    p.call(a, &create("/d", b"", PERSISTENT));
    for size in [1, 255, 256, 4095, 4096, 65_535, 65_536, 300_000, 1_000_000] {
        let data: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        p.call(a, &set_data("/d", &data, -1));
        p.call(a, &get_data("/d", false));
    }
    p.call(a, &set_data("/d", b"", -1));
    let names: Vec<_> = (0..300).map(|i| create(&format!("/d/child-with-a-rather-long-name-{i:05}"), b"", PERSISTENT)).collect();
    p.calls(a, &names);
    p.call(a, &get_children2("/d", false));
    p.call(a, &get_all_children_number("/d"));
    let deletes: Vec<_> = (0..300).map(|i| delete(&format!("/d/child-with-a-rather-long-name-{i:05}"), -1)).collect();
    p.calls(a, &deletes);
    p.call(a, &get_children2("/d", false));
}

/// Two things wrong with one request: which one is answered.
pub fn order_of_checks(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    let nobody: &[Acl<'_>] = &[(31, "nosuch", "x")];
    p.call(a, &create("/o", b"", PERSISTENT));
    p.call(a, &create("/o/e", b"", EPHEMERAL));
    p.call(a, &create_as(CREATE, "/o/locked", b"", &[(1, "world", "anyone")], PERSISTENT));
    for (path, acl, flags) in [
        ("/none/x", nobody, 0),
        ("/none/x", nobody, 99),
        ("/none//x", OPEN, 0),
        ("/o//x", OPEN, 0),
        ("/o/", OPEN, 0),
        ("/o/e", OPEN, 0),
        ("/o/e/x", OPEN, 0),
        ("/o/e/x", nobody, 0),
        ("/o/e/x\u{1}", OPEN, 0),
        ("/o/e/", OPEN, 0),
        ("/o/locked/x", nobody, 0),
        ("/o/locked/x\u{1}", OPEN, 0),
        ("/o/locked", nobody, 0),
        ("noslash", nobody, 0),
        ("noslash", OPEN, 7),
        ("/nul\0", nobody, 0),
        ("/nul\0", OPEN, 0),
    ] {
        p.call(a, &create_as(CREATE, path, b"", acl, flags));
        p.call(a, &create_as(CREATE2, path, b"", acl, flags));
    }
    p.call(a, &create("/o/locked/x", b"", 0));
    p.call(a, &delete("/o/locked/none", -1));
    p.call(a, &delete("/o", 7));
    p.call(a, &delete("/o/none/none", 7));
    p.call(a, &set_data("/o/locked", b"", 7));
    p.call(a, &set_data("/o/none", b"", 7));
    p.call(a, &set_acl("/o/none", nobody, 7));
    p.call(a, &set_acl("/o/locked", nobody, 7));
    p.call(a, &set_acl("/o/locked", OPEN, 7));
    p.call(a, &set_acl("/o", nobody, 7));
    p.call(a, &get_children2("/o", false));
}

/// One session's requests take effect and are answered in the order sent.
pub fn pipelined(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    let b = p.connect();
    p.call(a, &create("/p", b"", PERSISTENT));
    p.call(b, &add_watch("/p", 1));
    let mut burst = Vec::new();
    for i in 0..40u8 {
        burst.push(set_data("/p", &[i], i32::from(i)));
        burst.push(get_data("/p", true));
        if i % 4 == 0 {
            burst.push(ping());
            burst.push(create(&format!("/p/{i}"), b"", PERSISTENT));
            burst.push(get_children(if i % 8 == 0 { "/p" } else { "/p/none" }, true));
            burst.push(sync("/p"));
            burst.push(set_data("/p", b"wrong", 1000));
            burst.push(exists("/p/0", false));
        }
    }
    p.calls(a, &burst);
    let many: Vec<_> = (0..200).map(|i| create(&format!("/p/many-{i}"), &[0; 100], PERSISTENT)).collect();
    p.calls(b, &many);
    p.calls(a, &(0..200).map(|i| get_data(&format!("/p/many-{i}"), i % 2 == 0)).collect::<Vec<_>>());
    p.calls(a, &(0..200).map(|i| delete(&format!("/p/many-{i}"), -1)).collect::<Vec<_>>());
}

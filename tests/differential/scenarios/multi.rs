//! multi and multiRead.

use super::Context;
use crate::reference::request::*;

pub fn successes(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    let b = p.connect();
    p.call(a, &create("/m", b"", PERSISTENT));
    p.call(b, &add_watch("/m", 1));
    p.call(b, &get_children("/m", true));
    p.call(a, &multi(&[]));
    p.call(
        a,
        &multi(&[
            create("/m/a", b"1", PERSISTENT),
            create2("/m/b", b"2", EPHEMERAL),
            create("/m/s-", b"", SEQUENTIAL),
            create2("/m/s-", b"", EPHEMERAL_SEQUENTIAL),
            create_container("/m/c"),
            create_ttl("/m/t", b"ttl", TTL, 1_000_000),
            create("/m/a/x", b"", PERSISTENT),
            set_data("/m/a", b"11", 0),
            set_data("/m/a", b"12", 1),
            check("/m/a", 2),
            delete("/m/a/x", 0),
            check("/m", -1),
        ]),
    );
    p.call(a, &get_children2("/m", false));
    p.call(a, &get_data("/m/a", false));
    p.call(a, &multi(&[delete("/m/a", -1), create("/m/a", b"again", PERSISTENT), set_data("/m/a", b"s", 0), delete("/m/a", 1)]));
    p.call(a, &multi(&[check("/", -1)]));
    p.call(a, &multi(&[set_data("/m", b"x", -1), set_data("/m", b"y", -1), set_data("/m", b"z", -1)]));
    p.call(b, &get_data("/m", false));
    p.call(a, &get_ephemerals(None));
    p.call(a, &multi(&[create("/m/e1", b"", EPHEMERAL), delete("/m/e1", -1), create("/m/e1", b"", PERSISTENT)]));
    p.call(a, &get_ephemerals(None));
    p.call(a, &exists("/m/e1", false));
    p.call(a, &multi(&(0..200).map(|i| create(&format!("/m/many-{i:03}"), b"v", PERSISTENT)).collect::<Vec<_>>()));
    p.call(a, &get_children2("/m", false));
}

pub fn failures(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    let b = p.connect();
    p.call(a, &create("/mf", b"", PERSISTENT));
    p.call(a, &create("/mf/e", b"", EPHEMERAL));
    p.call(a, &create_as(CREATE, "/mf/locked", b"", &[(1, "world", "anyone")], PERSISTENT));
    p.call(b, &add_watch("/mf", 1));
    let good = || create("/mf/good", b"", PERSISTENT);
    for bad in [
        create("/mf", b"", PERSISTENT),
        create("/mf/none/x", b"", PERSISTENT),
        create("/mf/e/x", b"", PERSISTENT),
        create("/mf/locked/x", b"", PERSISTENT),
        create("bad", b"", PERSISTENT),
        create_as(CREATE, "/mf/acl", b"", &[], PERSISTENT),
        create_as(CREATE, "/mf/acl", b"", &[(31, "auth", "")], PERSISTENT),
        create_ttl("/mf/t", b"", TTL, 0),
        delete("/mf", -1),
        delete("/mf/none", -1),
        delete("/mf/e", 5),
        delete("/", -1),
        set_data("/mf", b"", 5),
        set_data("/mf/none", b"", -1),
        set_data("/mf/locked", b"", -1),
        check("/mf", 5),
        check("/mf/none", -1),
        check("bad", -1),
        good(),
    ] {
        p.call(a, &multi(std::slice::from_ref(&bad)));
        p.call(a, &multi(&[bad.clone(), good()]));
        p.call(a, &multi(&[good(), bad.clone()]));
        p.call(a, &multi(&[good(), set_data("/mf/good", b"1", 0), bad, delete("/mf/good", -1), check("/mf", -1)]));
        p.call(a, &exists("/mf/good", false));
        p.call(a, &exists("/mf", false));
        p.call(a, &delete("/mf/good", -1));
    }
    // A failed one leaves nothing behind, not even among the ephemerals.
    p.call(a, &multi(&[create("/mf/e2", b"", EPHEMERAL), delete("/mf/e", -1), check("/mf/none", 0)]));
    p.call(a, &get_ephemerals(None));
    p.call(a, &get_children2("/mf", false));
}

pub fn decoding(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    p.call(a, &create("/md", b"", PERSISTENT));
    let ok = || set_data("/md", b"x", -1);
    for bad in [
        exists("/md", false),
        get_data("/md", false),
        get_children("/md", false),
        sync("/md"),
        set_acl("/md", OPEN, -1),
        delete_container("/md"),
        multi(&[ok()]),
        reconfig(None, None, None, -1),
        raw(77, b""),
        create("/md/x", b"", 7),
        create("/md/x", b"", -1),
        create2("/md/x", b"", TTL),
    ] {
        p.call(a, &multi(std::slice::from_ref(&bad)));
        p.call(a, &multi(&[ok(), bad.clone()]));
        p.call(a, &multi(&[bad, ok()]));
    }
    // Which part makes what is decided by the flags, not by the type of the part alone.
    for op in [CREATE, CREATE2, CREATE_CONTAINER] {
        for flags in 0..=6 {
            p.call(a, &multi(&[create_as(op, &format!("/md/{op}-{flags}-"), b"d", OPEN, flags)]));
        }
    }
    for flags in [-1, 0, 1, 2, 3, CONTAINER, TTL, TTL_SEQUENTIAL, 7] {
        for ttl in [1_000_000, 0, -1] {
            p.call(a, &multi(&[create_ttl(&format!("/md/t{flags},{ttl}-"), b"d", flags, ttl), ok()]));
        }
    }
    p.call(a, &get_ephemerals(Some(" / ")));
    let whole = multi(&[create("/md/y", b"abc", PERSISTENT), ok(), delete("/md/y", -1)]).body;
    for cut in [0, 1, 4, 5, 8, 9, 10, 20, 40, whole.len() - 9, whole.len() - 5, whole.len() - 1] {
        p.call(a, &raw(MULTI, &whole[..cut]));
    }
    p.call(a, &raw(MULTI, &[&whole[..], b"trailing"].concat()));
    // The end marker is what says done, whatever its type.
    p.call(a, &raw(MULTI, &[0, 0, 0, 1, 1, 0, 0, 0, 0]));
    p.call(a, &get_children2("/md", false));
}

pub fn reads(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    p.call(a, &create("/mr", b"data", PERSISTENT));
    p.call(a, &create("/mr/x", b"", PERSISTENT));
    p.call(a, &create_as(CREATE, "/mr/locked", b"", &[(2, "world", "anyone")], PERSISTENT));
    p.call(a, &multi_read(&[]));
    p.call(a, &multi_read(&[get_data("/mr", true), get_children("/mr", true)]));
    p.call(a, &multi_read(&[get_data("/none", false), get_children("/mr", false), get_data("/mr/locked", false), get_data("/mr", false)]));
    p.call(a, &set_data("/mr", b"no event", -1));
    for bad in [exists("/mr", false), get_children2("/mr", false), get_acl("/mr"), raw(77, b"")] {
        p.call(a, &multi_read(std::slice::from_ref(&bad)));
        p.call(a, &multi_read(&[get_data("/mr", false), bad]));
    }
    let whole = multi_read(&[get_data("/mr", false), get_children("/mr", false)]).body;
    for cut in [0, 4, 8, 12, whole.len() - 9, whole.len() - 1] {
        p.call(a, &raw(MULTI_READ, &whole[..cut]));
    }
}

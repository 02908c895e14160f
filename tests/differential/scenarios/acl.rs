//! Who may do what, what an ACL turns into, which identities a connection has, which events it may see.

use super::Context;
use crate::reference::request::*;

const UP: &str = "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ="; // digest of u:p

pub fn permissions(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    p.call(a, &create("/acl", b"", PERSISTENT));
    for bits in [0, 1, 2, 4, 8, 16, 3, 17, 31, 32, -1] {
        let node = format!("/acl/{bits}");
        p.call(a, &create_as(CREATE, &node, b"d", &[(bits, "world", "anyone")], PERSISTENT));
        p.call(a, &exists(&node, true));
        p.call(a, &get_data(&node, true));
        p.call(a, &get_children(&node, true));
        p.call(a, &get_children2(&node, false));
        p.call(a, &get_acl(&node));
        p.call(a, &get_all_children_number(&node));
        p.call(a, &multi_read(&[get_data(&node, false), get_children(&node, false)]));
        p.call(a, &multi(&[check(&node, 0)]));
        p.call(a, &multi(&[check(&node, 5)]));
        p.call(a, &set_data(&node, b"n", -1));
        p.call(a, &set_data(&node, b"n", 77));
        p.call(a, &create(&format!("{node}/child"), b"", PERSISTENT));
        p.call(a, &delete(&format!("{node}/child"), -1));
        p.call(a, &delete(&format!("{node}/none"), -1));
        p.call(a, &sync(&node));
        p.call(a, &add_watch(&node, 0));
        p.call(a, &set_acl(&node, &[(bits | 16, "world", "anyone")], 77));
        p.call(a, &set_acl(&node, &[(31, "world", "anyone")], -1));
        p.call(a, &get_acl(&node));
    }
    let b = p.connect();
    p.call(b, &auth("digest", b"u:p"));
    let mine: &[Acl<'_>] = &[(31, "digest", UP)];
    p.call(b, &create_as(CREATE, "/acl/mine", b"secret", mine, PERSISTENT));
    p.call(b, &create_as(CREATE, "/acl/shared", b"s", &[(1, "world", "anyone"), (31, "digest", UP), (16, "digest", "o:x")], PERSISTENT));
    for conn in [a, b] {
        for node in ["/acl/mine", "/acl/shared"] {
            p.call(conn, &exists(node, false));
            p.call(conn, &get_data(node, false));
            p.call(conn, &get_acl(node));
            p.call(conn, &set_data(node, b"x", -1));
            p.call(conn, &create(&format!("{node}/x"), b"", PERSISTENT));
            p.call(conn, &multi(&[set_data(node, b"m", -1), check(node, -1)]));
        }
    }
    let s = p.connect();
    p.call(s, &get_data("/acl/mine", false));
    p.call(s, &auth("digest", b"super:wrong"));
    p.call(s, &get_data("/acl/mine", false));
    p.call(s, &auth("digest", b"super:test"));
    p.call(s, &who_am_i());
    p.call(s, &get_data("/acl/mine", false));
    p.call(s, &get_acl("/acl/mine"));
    p.call(s, &create_as(CREATE, "/acl/super", b"", &[(31, "auth", "")], PERSISTENT));
    p.call(s, &get_acl("/acl/super"));
    p.call(s, &delete("/acl/mine/x", -1));
}

pub fn fix_up(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    p.call(a, &create("/fix", b"", PERSISTENT));
    let lists: &[&[Acl<'_>]] = &[
        &[],
        &[(31, "world", "anyone"), (31, "world", "anyone")],
        &[(1, "world", "anyone"), (31, "world", "anyone"), (1, "world", "anyone")],
        &[(31, "world", "someone")],
        &[(31, "world", "")],
        &[(31, "WORLD", "anyone")],
        &[(31, "", "")],
        &[(31, "auth", "")],
        &[(31, "auth", "whatever"), (1, "world", "anyone")],
        &[(31, "nosuch", "x")],
        &[(31, "super", "")],
        &[(31, "x509", "CN=a")],
        &[(31, "sasl", "joe")],
        &[(31, "digest", "a:b")],
        &[(31, "digest", ":b")],
        &[(31, "digest", "a")],
        &[(31, "digest", "a:")],
        &[(31, "digest", "a:b:c")],
        &[(31, "digest", "")],
        &[(31, "ip", "127.0.0.1")],
        &[(31, "ip", "127.0.0.0/8")],
        &[(31, "ip", "127.0.0.1/33")],
        &[(31, "ip", "127.0.0.1/-1")],
        &[(31, "ip", "127.0.0.1/")],
        &[(31, "ip", "127.0.0")],
        &[(31, "ip", "localhost")],
        &[(31, "ip", "::1")],
        &[(31, "ip", "::1/64")],
        &[(31, "ip", "::1/129")],
        &[(31, "ip", "10.0.0.1")],
        &[(31, "ip", "+10.000.0.1/+8")],
        &[(31, "ip", "1.2.3.")],
        &[(31, "ip", "::")],
        &[(31, "ip", "1:2:3:4:5:6:7::")],
        &[(31, "ip", "1:2:3:4:5:6:7::8")],
        &[(31, "ip", "::ffff:127.0.0.1")],
        &[(31, "ip", "::1%lo")],
        &[(31, "ip", "[::1]")],
        &[(0, "world", "anyone")],
    ];
    for round in 0..2 {
        for (i, list) in lists.iter().enumerate() {
            let node = format!("/fix/{round}-{i}");
            p.call(a, &create_as(CREATE2, &node, b"", list, PERSISTENT));
            p.call(a, &get_acl(&node));
            p.call(a, &get_data(&node, false));
            p.call(a, &set_acl("/fix", list, -1));
            p.call(a, &set_acl("/fix", OPEN, -1));
        }
        p.call(a, &auth("digest", b"u:p"));
        p.call(a, &auth("digest", b"v:q"));
    }
    // Null list, null scheme.
    let head = [0, 0, 0, 4, b'/', b'n', b'u', b'l', 0, 0, 0, 0];
    p.call(a, &raw(CREATE, &[&head[..], &[0xff; 4], &[0; 4]].concat()));
    p.call(a, &raw(CREATE, &[&head[..], &[0, 0, 0, 1, 0, 0, 0, 31], &[0xff; 4], &[0, 0, 0, 1, b'x'], &[0; 4]].concat()));
    // kazoo sends a null id with the scheme `auth`.
    let null_id = [&head[..], &[0, 0, 0, 1, 0, 0, 0, 31, 0, 0, 0, 4], b"auth", &[0xff; 4], &[0; 4]].concat();
    p.call(a, &raw(CREATE, &null_id));
    p.call(a, &get_acl("/nul"));
}

pub fn identities(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    p.call(a, &who_am_i());
    for (scheme, data) in
        [("digest", &b"u:p"[..]), ("digest", b"u:p"), ("digest", b"nocolon"), ("digest", b""), ("digest", b":x"), ("ip", b"10.1.1.1")]
    {
        p.call(a, &auth(scheme, data));
        p.call(a, &who_am_i());
    }
    p.call(a, &create_as(CREATE, "/auth", b"", &[(31, "auth", "")], PERSISTENT));
    p.call(a, &get_acl("/auth"));
    for scheme in ["nosuch", "world", "auth", "super", "sasl", "x509", ""] {
        let bad = p.connect();
        p.last_call(bad, &auth(scheme, b"x"));
    }
    let null = p.connect();
    p.last_call(null, &raw(AUTH, &[&[0; 4][..], &[0, 0, 0, 6], b"digest", &[0xff; 4]].concat()));
    let s = p.connect();
    p.call(s, &sasl(Some(b"")));
    p.call(s, &sasl(Some(b"token")));
    p.call(s, &who_am_i());
    // The answer of an auth packet may overtake nothing of its own connection that was asked before and answered.
    p.call(s, &auth("digest", b"z:z"));
    p.call(s, &get_data("/auth", false));
}

/// A connection that may not read a node is not told about it, and its one-shot watch is used up all the same.
pub fn events(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let owner = p.connect();
    let other = p.connect();
    p.call(owner, &auth("digest", b"u:p"));
    let secret: &[Acl<'_>] = &[(31, "digest", UP)];
    p.call(other, &exists("/ev", true));
    p.call(owner, &create_as(CREATE, "/ev", b"", secret, PERSISTENT));
    p.call(owner, &set_acl("/ev", OPEN, -1));
    p.call(owner, &set_data("/ev", b"1", -1));
    p.call(other, &get_data("/ev", true));
    p.call(other, &get_children("/ev", true));
    p.call(owner, &set_acl("/ev", secret, -1));
    p.call(owner, &set_data("/ev", b"2", -1));
    p.call(owner, &create("/ev/child", b"", PERSISTENT));
    p.call(owner, &set_acl("/ev", OPEN, -1));
    p.call(owner, &set_data("/ev", b"3", -1));
    p.call(owner, &create("/ev/child2", b"", PERSISTENT));
    p.call(other, &add_watch("/ev", 1));
    p.call(other, &add_watch("/ev", 0));
    p.call(owner, &create_as(CREATE, "/ev/hidden", b"", secret, PERSISTENT));
    p.call(owner, &set_data("/ev/hidden", b"h", -1));
    p.call(owner, &create("/ev/hidden/open", b"", PERSISTENT));
    p.call(owner, &delete("/ev/hidden/open", -1));
    p.call(owner, &delete("/ev/hidden", -1));
    p.call(owner, &set_acl("/ev", secret, -1));
    p.call(owner, &delete("/ev/child", -1));
    p.call(owner, &delete("/ev/child2", -1));
    p.call(owner, &delete("/ev", -1));
}

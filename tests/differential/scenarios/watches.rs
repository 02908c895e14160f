//! Which requests register which watches, what fires them, in which order.

use super::Context;
use crate::pair::{Conn, Pair};
use crate::reference::request::*;

/// A life of a node and a child, every change of it by `writer`.
fn life(p: &mut Pair, writer: Conn, node: &str) {
    let child = format!("{node}/child");
    p.call(writer, &create(node, b"", PERSISTENT));
    p.call(writer, &set_data(node, b"1", -1));
    p.call(writer, &create(&child, b"", PERSISTENT));
    p.call(writer, &set_data(&child, b"1", -1));
    p.call(writer, &set_acl(node, OPEN, -1));
    p.call(writer, &create(&format!("{child}/grand"), b"", PERSISTENT));
    p.call(writer, &delete(&format!("{child}/grand"), -1));
    p.call(writer, &delete(&child, -1));
    p.call(writer, &set_data(node, b"2", -1));
    p.call(writer, &delete(node, -1));
}

pub fn one_shot(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let writer = p.connect();
    let reader = p.connect();
    p.call(writer, &create("/w", b"", PERSISTENT));
    let kinds: &[fn(&str) -> Request] =
        &[|n| exists(n, true), |n| get_data(n, true), |n| get_children(n, true), |n| get_children2(n, true), |n| exists(n, false)];
    for register in kinds {
        // Absent, present, and again after each change.
        p.call(reader, &register("/w/n"));
        life(p, writer, "/w/n");
        p.call(writer, &create("/w/n", b"", PERSISTENT));
        p.call(reader, &register("/w/n"));
        p.call(reader, &register("/w/n"));
        p.call(writer, &set_data("/w/n", b"1", -1));
        p.call(writer, &create("/w/n/child", b"", PERSISTENT));
        p.call(reader, &register("/w/n"));
        p.call(writer, &delete("/w/n/child", -1));
        p.call(writer, &delete("/w/n", -1));
    }
    // On the parent.
    p.call(reader, &get_children("/w", true));
    p.call(writer, &create("/w/x", b"", EPHEMERAL));
    p.call(reader, &get_children("/w", true));
    p.call(writer, &set_data("/w/x", b"", -1));
    p.call(writer, &delete("/w/x", -1));
    // Both tables on one node: one NodeDeleted.
    p.call(writer, &create("/w/x", b"", PERSISTENT));
    p.call(reader, &get_data("/w/x", true));
    p.call(reader, &get_children("/w/x", true));
    p.call(reader, &get_children("/w", true));
    p.call(writer, &delete("/w/x", -1));
    // The writer's own watches.
    p.call(writer, &exists("/w/own", true));
    p.call(writer, &get_children("/w", true));
    p.call(writer, &create("/w/own", b"", PERSISTENT));
    p.call(writer, &get_data("/w/own", true));
    p.call(writer, &multi(&[set_data("/w/own", b"a", -1), delete("/w/own", -1), create("/w/own", b"", PERSISTENT)]));
    // What failed fires nothing.
    p.call(reader, &get_data("/w/own", true));
    p.call(writer, &set_data("/w/own", b"", 99));
    p.call(writer, &delete("/w/own", 99));
    p.call(writer, &multi(&[set_data("/w/own", b"b", -1), check("/w/own", 99)]));
    p.call(writer, &delete("/w/own", -1));
    // Registered by reads that never watch.
    p.call(writer, &create("/w/q", b"", PERSISTENT));
    p.call(reader, &multi_read(&[get_data("/w/q", true), get_children("/w/q", true)]));
    p.call(reader, &get_acl("/w/q"));
    p.call(reader, &get_all_children_number("/w/q"));
    p.call(writer, &delete("/w/q", -1));
}

pub fn persistent(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let writer = p.connect();
    let reader = p.connect();
    let top = p.connect();
    p.call(top, &add_watch("/", 1));
    for mode in [0, 1] {
        let node = format!("/wp{mode}");
        p.call(reader, &add_watch(&node, mode));
        life(p, writer, &node);
        life(p, writer, &node);
        p.call(reader, &add_watch(&node, mode));
        life(p, writer, &node);
        p.call(writer, &create(&format!("{node}similar"), b"", PERSISTENT));
        p.call(writer, &delete(&format!("{node}similar"), -1));
        // The other mode on the same path.
        p.call(reader, &add_watch(&node, 1 - mode));
        life(p, writer, &node);
    }
    for mode in [-1, 2, 99] {
        p.call(reader, &add_watch("/wp", mode));
    }
}

pub fn all_modes(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let writer = p.connect();
    let reader = p.connect();
    p.call(reader, &exists("/am", true));
    p.call(reader, &add_watch("/am", 0));
    p.call(reader, &add_watch("/am", 1));
    p.call(reader, &add_watch("/", 1));
    life(p, writer, "/am");
    p.call(reader, &exists("/am", true));
    p.call(writer, &create("/am", b"", PERSISTENT));
    p.call(reader, &get_data("/am", true));
    p.call(reader, &get_children("/am", true));
    life(p, writer, "/am/deep");
    p.call(writer, &delete("/am", -1));
}

pub fn removal(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    let writer = p.connect();
    p.call(writer, &create("/rm", b"", PERSISTENT));
    let registrations: [&[Request]; 6] = [
        &[],
        &[get_data("/rm", true)],
        &[get_children("/rm", true)],
        &[get_data("/rm", true), get_children("/rm", true)],
        &[add_watch("/rm", 0)],
        &[add_watch("/rm", 1), exists("/rm", true)],
    ];
    for registered in registrations {
        for kind in [0, 1, 2, 3, 4, 5, 6, -1] {
            for request in registered {
                p.call(a, request);
            }
            for k in 1..=5 {
                p.call(a, &check_watches("/rm", k));
            }
            p.call(a, &check_watches("/rm", kind));
            p.call(a, &remove_watches("/rm", kind));
            p.call(a, &remove_watches("/rm", kind));
            p.call(writer, &set_data("/rm", b"1", -1));
            p.call(writer, &create("/rm/x", b"", PERSISTENT));
            p.call(writer, &delete("/rm/x", -1));
            p.call(a, &remove_watches("/rm", 3));
        }
    }
    p.call(a, &remove_watches("/rm/none", 3));
    p.call(a, &check_watches("", 3));
    // Another connection's watch is not mine.
    p.call(writer, &get_data("/rm", true));
    p.call(a, &check_watches("/rm", 2));
    p.call(a, &remove_watches("/rm", 2));
    p.call(a, &set_data("/rm", b"", -1));
}

/// After a reconnect, relative to several points of the past.
pub fn replayed(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let writer = p.connect();
    for node in ["/sw", "/sw/same", "/sw/set", "/sw/kids", "/sw/gone", "/sw/again"] {
        p.call(writer, &create(node, b"", PERSISTENT));
    }
    let middle = p.connect();
    p.call(writer, &set_data("/sw/set", b"1", -1));
    p.call(writer, &create("/sw/kids/k", b"", PERSISTENT));
    p.call(writer, &delete("/sw/gone", -1));
    p.call(writer, &delete("/sw/again", -1));
    p.call(writer, &create("/sw/again", b"", PERSISTENT));
    let all = ["/sw", "/sw/same", "/sw/set", "/sw/kids", "/sw/gone", "/sw/again", "/sw/never", ""];
    for offset in [0, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1000] {
        for lists in 0..6usize {
            let conn = p.connect();
            let chosen: Vec<&[&str]> = (0..5).map(|i| if i == lists || lists == 5 { &all[..] } else { &[] }).collect();
            let count = if lists < 3 { 3 } else { 5 };
            p.call_each(conn, |known| set_watches(known.zxid(offset), &chosen[..count]));
            for node in ["/sw/same", "/sw/set", "/sw/kids"] {
                p.call(writer, &set_data(node, b"x", -1));
            }
            p.call(writer, &create("/sw/same/n", b"", PERSISTENT));
            p.call(writer, &create("/sw/never", b"", PERSISTENT));
            p.call(writer, &delete("/sw/never", -1));
            p.call(writer, &delete("/sw/same/n", -1));
            p.close(conn);
        }
    }
    let _ = middle;
    for relative in [-1, i64::MAX, i64::MIN] {
        let conn = p.connect();
        p.call(conn, &set_watches(relative, &[&["/sw/set"], &["/sw/set"], &["/sw/set"]]));
        p.call(writer, &set_data("/sw/set", b"y", -1));
    }
    // A session that reattaches has lost its connection's watches until it says them again.
    let first = p.connect();
    p.call(first, &get_data("/sw/same", true));
    p.call(first, &add_watch("/sw", 1));
    p.drop_socket(first);
    p.call(writer, &set_data("/sw/same", b"missed", -1));
    let second = p.reattach(first);
    p.call(writer, &set_data("/sw/same", b"not watched", -1));
    p.call_each(second, |known| set_watches(known.last_zxid(first), &[&["/sw/same"], &["/sw/never"], &["/sw"], &[], &["/sw"]]));
    p.call(writer, &set_data("/sw/same", b"watched", -1));
}

/// Events come before the replies that show their change, in the order of the transactions.
pub fn order(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    let b = p.connect();
    p.call(a, &create("/wo", b"", PERSISTENT));
    p.call(b, &add_watch("/wo", 1));
    p.call(a, &add_watch("/wo", 0));
    let mut burst = Vec::new();
    for i in 0..20 {
        burst.push(create(&format!("/wo/{i}"), b"", PERSISTENT));
        burst.push(get_children("/wo", true));
        burst.push(exists(&format!("/wo/{i}"), true));
        burst.push(set_data("/wo", b"x", -1));
        burst.push(multi(&[set_data(&format!("/wo/{i}"), b"y", -1), delete(&format!("/wo/{i}"), -1), set_data("/wo", b"z", -1)]));
    }
    p.calls(a, &burst);
    p.calls(b, &burst);
}

//! Paths no correct client sends.

use super::Context;
use crate::reference::request::*;
use zoo::base::Writer;

const ODD: &[&str] = &[
    "",
    "a",
    "a/b",
    "//",
    "/a//b",
    "/odd/",
    "/odd/.",
    "/odd/..",
    "/odd/./x",
    "/odd/../x",
    "/odd/.x",
    "/odd/x.",
    "/odd/...",
    "/odd/ x ",
    "/odd/\0",
    "/odd/a\0b",
    "/odd/\u{1}",
    "/odd/\u{1f}",
    "/odd/\u{7e}",
    "/odd/\u{7f}",
    "/odd/\u{9f}",
    "/odd/\u{a0}",
    "/odd/\u{d7ff}",
    "/odd/\u{e000}",
    "/odd/\u{f8ff}",
    "/odd/\u{f900}",
    "/odd/\u{ffef}",
    "/odd/\u{fff0}",
    "/odd/\u{ffff}",
    "/odd/\u{1f600}",
    "/odd/é",
    "/odd/\"quoted\"",
    "/odd\\back",
    "/ok/x",
];

pub fn odd_paths(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    p.call(a, &create("/odd", b"", PERSISTENT));
    for path in ODD {
        p.call(a, &create(path, b"d", PERSISTENT));
        p.call(a, &create2(path, b"d", SEQUENTIAL));
        p.call(a, &exists(path, false));
        p.call(a, &get_data(path, false));
        p.call(a, &get_children(path, false));
        p.call(a, &get_children2(path, false));
        p.call(a, &get_acl(path));
        p.call(a, &set_data(path, b"n", -1));
        p.call(a, &set_acl(path, OPEN, -1));
        p.call(a, &get_all_children_number(path));
        p.call(a, &get_ephemerals(Some(path)));
        p.call(a, &sync(path));
        p.call(a, &multi(&[check(path, -1)]));
        p.call(a, &multi_read(&[get_data(path, false), get_children(path, false)]));
        p.call(a, &add_watch(path, 0));
        p.call(a, &check_watches(path, 3));
        p.call(a, &remove_watches(path, 3));
        p.call(a, &delete(path, -1));
    }
    p.call(a, &get_children2("/odd", false));
}

/// Java replaces what is not UTF-8 before it judges the path, so such a path is bad for writes and missing for reads.
pub fn not_utf8(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    let tail = |fill: fn(&mut Vec<u8>)| {
        let mut body = Vec::new();
        body.put_buffer(Some(b"/bad\xff\xfe"));
        fill(&mut body);
        body
    };
    p.call(a, &raw(EXISTS, &tail(|b| b.put_bool(false))));
    p.call(a, &raw(GET_DATA, &tail(|b| b.put_bool(false))));
    p.call(a, &raw(DELETE, &tail(|b| b.put_i32(-1))));
    p.call(
        a,
        &raw(
            SET_DATA,
            &tail(|b| {
                b.put_buffer(Some(b"x"));
                b.put_i32(-1);
            }),
        ),
    );
    let mut body = Vec::new();
    body.put_buffer(Some(b"/bad\xff"));
    body.put_raw(&create("/", b"d", 0).body[5..]);
    p.call(a, &raw(CREATE, &body));
}

//! Paths no correct client sends.

use super::Context;
use crate::reference::request::*;

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
        if !path.is_empty() {
            // Java counts the root itself below its other name, the empty path.
            p.call(a, &get_all_children_number(path));
        }
        p.call(a, &get_ephemerals(Some(path)));
        if !path.contains('\u{1f600}') {
            // Java answers with two surrogates, three bytes each, which is no UTF-8.
            p.call(a, &sync(path));
        }
        p.call(a, &multi(&[check(path, -1)]));
        p.call(a, &multi_read(&[get_data(path, false), get_children(path, false)]));
        p.call(a, &add_watch(path, 0));
        p.call(a, &check_watches(path, 3));
        p.call(a, &remove_watches(path, 3));
        p.call(a, &delete(path, -1));
    }
    p.call(a, &get_children2("/odd", false));
}

//! Request bodies, built without judging them: tests send what a correct client never would.

use zoo::base::Writer;

/// A request type and its encoded body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub op: i32,
    pub body: Vec<u8>,
}

pub const CREATE: i32 = 1;
pub const DELETE: i32 = 2;
pub const EXISTS: i32 = 3;
pub const GET_DATA: i32 = 4;
pub const SET_DATA: i32 = 5;
pub const GET_ACL: i32 = 6;
pub const SET_ACL: i32 = 7;
pub const GET_CHILDREN: i32 = 8;
pub const SYNC: i32 = 9;
pub const PING: i32 = 11;
pub const GET_CHILDREN2: i32 = 12;
pub const CHECK: i32 = 13;
pub const MULTI: i32 = 14;
pub const CREATE2: i32 = 15;
pub const RECONFIG: i32 = 16;
pub const CHECK_WATCHES: i32 = 17;
pub const REMOVE_WATCHES: i32 = 18;
pub const CREATE_CONTAINER: i32 = 19;
pub const DELETE_CONTAINER: i32 = 20;
pub const CREATE_TTL: i32 = 21;
pub const MULTI_READ: i32 = 22;
pub const AUTH: i32 = 100;
pub const SET_WATCHES: i32 = 101;
pub const SASL: i32 = 102;
pub const GET_EPHEMERALS: i32 = 103;
pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
pub const SET_WATCHES2: i32 = 105;
pub const ADD_WATCH: i32 = 106;
pub const WHO_AM_I: i32 = 107;
pub const CREATE_SESSION: i32 = -10;
pub const CLOSE_SESSION: i32 = -11;

pub const PERSISTENT: i32 = 0;
pub const EPHEMERAL: i32 = 1;
pub const SEQUENTIAL: i32 = 2;
pub const EPHEMERAL_SEQUENTIAL: i32 = 3;
pub const CONTAINER: i32 = 4;
pub const TTL: i32 = 5;
pub const TTL_SEQUENTIAL: i32 = 6;

/// One ACL entry: permissions, scheme, id.
pub type Acl<'a> = (i32, &'a str, &'a str);
pub const OPEN: &[Acl<'static>] = &[(31, "world", "anyone")];

fn body(op: i32, fill: impl FnOnce(&mut Vec<u8>)) -> Request {
    let mut body = Vec::new();
    fill(&mut body);
    Request { op, body }
}

fn put_acl(b: &mut Vec<u8>, acl: &[Acl<'_>]) {
    b.put_len(acl.len());
    for (perms, scheme, id) in acl {
        b.put_i32(*perms);
        b.put_string(scheme);
        b.put_string(id);
    }
}

fn put_strings(b: &mut Vec<u8>, strings: &[&str]) {
    b.put_len(strings.len());
    for s in strings {
        b.put_string(s);
    }
}

/// create, create2 or createContainer.
pub fn create_as(op: i32, path: &str, data: &[u8], acl: &[Acl<'_>], flags: i32) -> Request {
    body(op, |b| {
        b.put_string(path);
        b.put_buffer(Some(data));
        put_acl(b, acl);
        b.put_i32(flags);
    })
}
pub fn create(path: &str, data: &[u8], flags: i32) -> Request {
    create_as(CREATE, path, data, OPEN, flags)
}
pub fn create2(path: &str, data: &[u8], flags: i32) -> Request {
    create_as(CREATE2, path, data, OPEN, flags)
}
pub fn create_container(path: &str) -> Request {
    create_as(CREATE_CONTAINER, path, b"", OPEN, CONTAINER)
}
pub fn create_ttl(path: &str, data: &[u8], flags: i32, ttl: i64) -> Request {
    let mut request = create_as(CREATE_TTL, path, data, OPEN, flags);
    request.body.put_i64(ttl);
    request
}
/// create with null data.
pub fn create_null(path: &str) -> Request {
    body(CREATE, |b| {
        b.put_string(path);
        b.put_buffer(None);
        put_acl(b, OPEN);
        b.put_i32(0);
    })
}
pub fn delete(path: &str, version: i32) -> Request {
    body(DELETE, |b| {
        b.put_string(path);
        b.put_i32(version);
    })
}
fn watched(op: i32, path: &str, watch: bool) -> Request {
    body(op, |b| {
        b.put_string(path);
        b.put_bool(watch);
    })
}
pub fn exists(path: &str, watch: bool) -> Request {
    watched(EXISTS, path, watch)
}
pub fn get_data(path: &str, watch: bool) -> Request {
    watched(GET_DATA, path, watch)
}
pub fn get_children(path: &str, watch: bool) -> Request {
    watched(GET_CHILDREN, path, watch)
}
pub fn get_children2(path: &str, watch: bool) -> Request {
    watched(GET_CHILDREN2, path, watch)
}
pub fn set_data(path: &str, data: &[u8], version: i32) -> Request {
    set_data_opt(path, Some(data), version)
}
pub fn set_data_opt(path: &str, data: Option<&[u8]>, version: i32) -> Request {
    body(SET_DATA, |b| {
        b.put_string(path);
        b.put_buffer(data);
        b.put_i32(version);
    })
}
fn path_only(op: i32, path: &str) -> Request {
    body(op, |b| b.put_string(path))
}
pub fn get_acl(path: &str) -> Request {
    path_only(GET_ACL, path)
}
pub fn set_acl(path: &str, acl: &[Acl<'_>], version: i32) -> Request {
    body(SET_ACL, |b| {
        b.put_string(path);
        put_acl(b, acl);
        b.put_i32(version);
    })
}
pub fn sync(path: &str) -> Request {
    path_only(SYNC, path)
}
pub fn ping() -> Request {
    body(PING, |_| {})
}
pub fn check(path: &str, version: i32) -> Request {
    body(CHECK, |b| {
        b.put_string(path);
        b.put_i32(version);
    })
}
pub fn multi(parts: &[Request]) -> Request {
    multi_as(MULTI, parts)
}
pub fn multi_read(parts: &[Request]) -> Request {
    multi_as(MULTI_READ, parts)
}
pub fn multi_as(op: i32, parts: &[Request]) -> Request {
    body(op, |b| {
        for part in parts {
            b.put_i32(part.op);
            b.put_bool(false);
            b.put_i32(-1);
            b.put_raw(&part.body);
        }
        b.put_i32(-1);
        b.put_bool(true);
        b.put_i32(-1);
    })
}
fn watch_kind(op: i32, path: &str, kind: i32) -> Request {
    body(op, |b| {
        b.put_string(path);
        b.put_i32(kind);
    })
}
pub fn check_watches(path: &str, kind: i32) -> Request {
    watch_kind(CHECK_WATCHES, path, kind)
}
pub fn remove_watches(path: &str, kind: i32) -> Request {
    watch_kind(REMOVE_WATCHES, path, kind)
}
pub fn add_watch(path: &str, mode: i32) -> Request {
    watch_kind(ADD_WATCH, path, mode)
}
pub fn delete_container(path: &str) -> Request {
    path_only(DELETE_CONTAINER, path)
}
pub fn auth(scheme: &str, data: &[u8]) -> Request {
    body(AUTH, |b| {
        b.put_i32(0);
        b.put_string(scheme);
        b.put_buffer(Some(data));
    })
}
pub fn sasl(token: Option<&[u8]>) -> Request {
    body(SASL, |b| b.put_buffer(token))
}
/// setWatches with three lists, setWatches2 with five: data, exist, child, persistent, recursive.
pub fn set_watches(relative_zxid: i64, lists: &[&[&str]]) -> Request {
    let op = if lists.len() > 3 { SET_WATCHES2 } else { SET_WATCHES };
    body(op, |b| {
        b.put_i64(relative_zxid);
        for list in lists {
            put_strings(b, list);
        }
    })
}
pub fn get_ephemerals(prefix: Option<&str>) -> Request {
    body(GET_EPHEMERALS, |b| match prefix {
        Some(p) => b.put_string(p),
        None => b.put_i32(-1),
    })
}
pub fn get_all_children_number(path: &str) -> Request {
    path_only(GET_ALL_CHILDREN_NUMBER, path)
}
pub fn who_am_i() -> Request {
    body(WHO_AM_I, |_| {})
}
pub fn close_session() -> Request {
    body(CLOSE_SESSION, |_| {})
}
pub fn reconfig(joining: Option<&str>, leaving: Option<&str>, members: Option<&str>, config: i64) -> Request {
    body(RECONFIG, |b| {
        for part in [joining, leaving, members] {
            match part {
                Some(p) => b.put_string(p),
                None => b.put_i32(-1),
            }
        }
        b.put_i64(config);
    })
}
/// A request of any type with any body.
pub fn raw(op: i32, bytes: &[u8]) -> Request {
    Request { op, body: bytes.to_vec() }
}

impl Request {
    /// The whole frame.
    pub fn frame(&self, xid: i32) -> Vec<u8> {
        let mut out = Vec::with_capacity(12 + self.body.len());
        out.put_len(8 + self.body.len());
        out.put_i32(xid);
        out.put_i32(self.op);
        out.put_raw(&self.body);
        out
    }
    /// Short readable form for reports.
    pub fn describe(&self) -> String {
        let shown = &self.body[..self.body.len().min(160)];
        format!("op {} body \"{}\"{}", self.op, shown.escape_ascii(), if shown.len() < self.body.len() { "…" } else { "" })
    }
}

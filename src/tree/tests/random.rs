//! Random requests and transactions over a small world, so that they meet each other often.

use super::*;
use crate::record::txn::{CreateKind, CreateTxn, SubTxn};
use proptest::prelude::*;

pub(super) const PATHS: [&str; 12] = [
    "/a",
    "/b",
    "/a/x",
    "/a/y",
    "/a/x/1",
    "/a/x/1/deep",
    "/b/x",
    "/zookeeper/quota/a",
    "/zookeeper/quota/a/zookeeper_limits",
    "/zookeeper/quota/a/zookeeper_stats",
    "/zookeeper/config",
    "/",
];
const DATA: [Option<&[u8]>; 5] = [None, Some(b""), Some(b"1"), Some(b"count=3,bytes=9=;countHardLimit=6"), Some(b"some more bytes")];
pub(super) const SESSIONS: [SessionId; 3] = [SessionId(0x77), SessionId(0x78), SessionId(0x79)];

fn acls() -> &'static [Vec<u8>; 3] {
    static LISTS: std::sync::OnceLock<[Vec<u8>; 3]> = std::sync::OnceLock::new();
    LISTS.get_or_init(|| {
        [
            acl_bytes(&[(31, "world", "anyone")]),
            acl_bytes(&[(31, "digest", "u:h"), (31, "world", "anyone")]),
            acl_bytes(&[(31, "auth", "")]),
        ]
    })
}

/// A request that owns nothing, so that it can be repeated on another tree.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Create {
        op: OpCode,
        path: usize,
        flags: i32,
        data: usize,
        acl: usize,
    },
    Delete {
        path: usize,
        version: i32,
    },
    Set {
        path: usize,
        data: usize,
        version: i32,
    },
    SetAcl {
        path: usize,
        acl: usize,
        version: i32,
    },
    Check {
        path: usize,
        version: i32,
    },
    Multi(Vec<Step>),
    Open(usize),
    Close(usize),
    /// Later requests come from this session.
    As(usize),
}

fn version() -> impl Strategy<Value = i32> {
    prop_oneof![4 => Just(-1), 1 => 0..3i32]
}
fn single() -> impl Strategy<Value = Step> {
    let path = 0..PATHS.len();
    let data = 0..DATA.len();
    let op = prop_oneof![
        4 => Just(OpCode::Create),
        1 => Just(OpCode::Create2),
        1 => Just(OpCode::CreateContainer),
        1 => Just(OpCode::CreateTtl)
    ];
    prop_oneof![
        6 => (op, path.clone(), 0..7i32, data.clone(), 0..3usize)
            .prop_map(|(op, path, flags, data, acl)| Step::Create { op, path, flags, data, acl }),
        3 => (path.clone(), version()).prop_map(|(path, version)| Step::Delete { path, version }),
        3 => (path.clone(), data, version()).prop_map(|(path, data, version)| Step::Set { path, data, version }),
        2 => (path.clone(), 0..3usize, version()).prop_map(|(path, acl, version)| Step::SetAcl { path, acl, version }),
        1 => (path, version()).prop_map(|(path, version)| Step::Check { path, version }),
    ]
}
pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => single(),
        2 => prop::collection::vec(single(), 0..5).prop_map(Step::Multi),
        1 => (0..3usize).prop_map(Step::Open),
        1 => (0..3usize).prop_map(Step::Close),
        1 => (0..3usize).prop_map(Step::As),
    ]
}
pub(super) fn steps(len: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..len)
}

fn request(step: &Step) -> Request<'static> {
    match step {
        Step::Create { op, path, flags, data, acl } => {
            let ttl = (*op == OpCode::CreateTtl).then_some(50);
            create_with(*op, PATHS[*path], DATA[*data], acl_vec(&acls()[*acl]), *flags, ttl)
        }
        Step::Delete { path, version } => delete(PATHS[*path], *version),
        Step::Set { path, data, version } => Request::SetData { path: PATHS[*path], data: DATA[*data], version: *version },
        Step::SetAcl { path, acl, version } => Request::SetAcl { path: PATHS[*path], acl: acl_vec(&acls()[*acl]), version: *version },
        Step::Check { path, version } => check(PATHS[*path], *version),
        Step::Multi(parts) => Request::Multi(parts.iter().filter(|p| !matches!(p, Step::SetAcl { .. })).map(request).collect()),
        Step::Open(_) | Step::Close(_) | Step::As(_) => Request::CloseSession,
    }
}

/// A rig in which all checks of identity can pass.
pub(super) fn rig(enforce_quota: bool) -> Rig {
    let mut rig = Rig::with(TreeConfig { extended_types: true, enforce_quota, ..TreeConfig::default() });
    rig.auth = auth(&[("ip", "127.0.0.1"), ("digest", "u:h")]);
    rig.make("/a");
    rig.make("/zookeeper/quota/a");
    rig
}

/// Carries a step out; returns its effects and, for a request, error and reply.
pub(super) fn run(rig: &mut Rig, step: &Step) -> Outcome {
    match step {
        Step::Open(i) => rig.open_session(SESSIONS[*i]),
        Step::Close(i) => {
            let effects = rig.close_session(SESSIONS[*i]);
            return Outcome { err: ErrorCode::Ok, reply: Vec::new(), effects };
        }
        Step::As(i) => rig.session = SESSIONS[*i],
        _ => return rig.request(&request(step)),
    }
    Outcome { err: ErrorCode::Ok, reply: Vec::new(), effects: Effects::default() }
}

/// A transaction nobody checked: everything that decodes may come.
#[derive(Clone, Debug)]
pub(super) struct WildTxn {
    pub(super) zxid: u64,
    session: i64,
    kind: i32,
    path: String,
    data: usize,
    number: i32,
    ttl: i64,
    ephemeral: bool,
    parts: Vec<WildTxn>,
    rubbish: Vec<u8>,
}

fn wild_path() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        "",
        "a",
        "/a/",
        "//",
        "/a//x",
        "/zookeeper",
        "/zookeeper/quota",
        "/a/.",
        "/a/\u{1}",
        "/zookeeper/quota/zookeeper_limits",
    ]);
    prop_oneof![8 => (0..PATHS.len()).prop_map(|i| PATHS[i].to_owned()), 1 => odd.prop_map(str::to_owned), 1 => "/[ab]/[xyz/]{0,4}"]
}
fn wild_part() -> impl Strategy<Value = WildTxn> {
    let kind = prop::sample::select(vec![1, 1, 1, 15, 19, 21, 2, 2, 5, 7, 13, 16, 20, -1, -10, -11, 14]);
    let number = prop_oneof![Just(-1), Just(i32::MAX), Just(i32::MIN), 0..9i32];
    let ttl = prop_oneof![Just(-1i64), Just(0), Just(7), Just(i64::MAX)];
    let session = prop_oneof![Just(0i64), Just(0x77), Just(0x78), Just(i64::MIN), Just(0xff00_0000_0000_0005_u64 as i64), Just(-1)];
    let rubbish = prop::collection::vec(any::<u8>(), 0..6);
    (0..30u64, session, kind, wild_path(), 0..DATA.len(), number, ttl, any::<bool>(), rubbish).prop_map(
        |(zxid, session, kind, path, data, number, ttl, ephemeral, rubbish)| WildTxn {
            zxid,
            session,
            kind,
            path,
            data,
            number,
            ttl,
            ephemeral,
            parts: Vec::new(),
            rubbish,
        },
    )
}
pub(super) fn wild() -> impl Strategy<Value = WildTxn> {
    (wild_part(), prop::collection::vec(wild_part(), 0..4)).prop_map(|(mut txn, parts)| {
        txn.parts = parts;
        txn
    })
}

impl WildTxn {
    fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let acl = match self.data {
            0 => acl_vec(b"\xff\xff\xff\xff"),
            1 => acl_vec(b"\0\0\0\0"),
            n => acl_vec(&acls()[n % 2]),
        };
        let create = |kind| {
            let parent_cversion = (self.data != 4).then_some(self.number);
            Txn::Create(CreateTxn { kind, path: &self.path, data: DATA[self.data], acl, parent_cversion })
        };
        let mut list = Vec::new();
        list.put_len(self.parts.len());
        self.parts.iter().for_each(|p| list.put_string(&p.path));
        let bodies: Vec<(i32, Vec<u8>)> =
            self.parts.iter().map(|p| (p.kind, if p.rubbish.len() == 3 { p.rubbish.clone() } else { p.body() })).collect();
        match self.kind {
            1 => create(CreateKind::Create { ephemeral: self.ephemeral }),
            15 => create(CreateKind::Create2 { ephemeral: self.ephemeral }),
            19 => create(CreateKind::Container),
            21 => create(CreateKind::Ttl { ttl: self.ttl }),
            2 => Txn::Delete { path: &self.path },
            20 => Txn::DeleteContainer { path: &self.path },
            5 => Txn::SetData { path: &self.path, data: DATA[self.data], version: self.number },
            16 => Txn::Reconfig { path: &self.path, data: DATA[self.data], version: self.number },
            7 => Txn::SetAcl { path: &self.path, acl, version: self.number },
            13 => Txn::Check { path: &self.path, version: self.number },
            -10 => Txn::CreateSession { timeout_ms: self.number },
            -11 if self.ephemeral => Txn::CloseSession { paths: None },
            -11 => Txn::CloseSession { paths: Reader::new(&list).string_vec().ok() },
            14 => Txn::Multi(bodies.iter().map(|(kind, body)| SubTxn { kind: *kind, body }).collect()),
            _ => Txn::Error { code: self.number },
        }
        .write_body(&mut out);
        out
    }
    /// The payload, without digest; `zxid` is a step above `base`, or not.
    pub(super) fn payload(&self, base: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let header = TxnHeader {
            session: SessionId(self.session),
            cxid: Xid(1),
            zxid: Zxid(base + self.zxid),
            time: WallTime(i64::from(self.number)),
            kind: self.kind,
        };
        header.write(&mut out);
        out.extend_from_slice(&self.body());
        out
    }
}

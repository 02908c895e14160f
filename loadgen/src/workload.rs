//! What is asked of the server: the mix of operations, the requests of one connection, and the check of every reply.
//!
//! Deterministic for a seed. Knows no socket and no clock.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use zoo::base::prng::Prng;
use zoo::base::{AclVec, DecodeError, Reader, Stat, Writer, Xid};
use zoo::proto::OpCode;
use zoo::proto::response::write_multi_end;

/// `CreateMode` persistent.
const PERSISTENT: i32 = 0;
/// `CreateMode` persistent sequential.
const PERSISTENT_SEQUENTIAL: i32 = 2;
/// Any version of a znode.
const ANY_VERSION: i32 = -1;

/// One kind of operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs)]
pub enum OpKind {
    Get,
    Exists,
    Children,
    Set,
    Create,
    CreateSeq,
    Delete,
    Multi,
}

impl OpKind {
    /// Every kind, in the order of reports.
    pub const ALL: [OpKind; 8] = {
        use OpKind::*;
        [Get, Exists, Children, Set, Create, CreateSeq, Delete, Multi]
    };

    /// Its name in `--mix` and in reports.
    pub fn name(self) -> &'static str {
        match self {
            OpKind::Get => "get",
            OpKind::Exists => "exists",
            OpKind::Children => "children",
            OpKind::Set => "set",
            OpKind::Create => "create",
            OpKind::CreateSeq => "create-seq",
            OpKind::Delete => "delete",
            OpKind::Multi => "multi",
        }
    }

    /// Changes something.
    pub fn is_write(self) -> bool {
        !matches!(self, OpKind::Get | OpKind::Exists | OpKind::Children)
    }

    /// Creates znodes below a directory of its own.
    pub fn makes_znodes(self) -> bool {
        matches!(self, OpKind::Create | OpKind::CreateSeq | OpKind::Delete)
    }
}

/// Weights of the kinds, such as `get=90,set=10`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mix {
    parts: Vec<(OpKind, u32)>,
    total: u64,
}

impl Mix {
    /// Draws a kind.
    pub fn pick(&self, prng: &mut Prng) -> OpKind {
        if let [(kind, _)] = self.parts[..] {
            return kind;
        }
        let mut at = prng.below(self.total);
        for &(kind, weight) in &self.parts {
            if at < u64::from(weight) {
                return kind;
            }
            at -= u64::from(weight);
        }
        unreachable!("weights add up to the total")
    }

    /// The kind named first.
    pub fn first(&self) -> OpKind {
        self.parts[0].0
    }

    /// True when one of the kinds satisfies `f`.
    pub fn any(&self, f: impl Fn(OpKind) -> bool) -> bool {
        self.parts.iter().any(|(kind, _)| f(*kind))
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts: Vec<(OpKind, u32)> = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let name = name.trim();
            let kind = OpKind::ALL.into_iter().find(|k| k.name() == name).ok_or_else(|| {
                let names: Vec<_> = OpKind::ALL.iter().map(|k| k.name()).collect();
                format!("unknown operation {name:?}; known: {}", names.join(", "))
            })?;
            let weight: u32 = weight.trim().parse().map_err(|_| format!("weight {weight:?} of {name} is not a whole number"))?;
            if weight == 0 {
                return Err(format!("the weight of {name} must be above 0"));
            }
            if parts.iter().any(|(k, _)| *k == kind) {
                return Err(format!("{name} is named twice"));
            }
            parts.push((kind, weight));
        }
        let total = parts.iter().map(|(_, w)| u64::from(*w)).sum();
        Ok(Mix { parts, total })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (kind, weight)) in self.parts.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match self.parts.len() {
                1 => f.write_str(kind.name())?,
                _ => write!(f, "{comma}{}={weight}", kind.name())?,
            }
        }
        Ok(())
    }
}

/// What every connection of a run shares.
#[derive(Debug)]
pub struct Workload {
    /// Weights of the operations.
    pub mix: Mix,
    /// Paths of the keys that exist for the whole run.
    pub keys: Vec<String>,
    /// Their common parent, which `children` lists.
    pub keys_dir: String,
    /// Parent of what this run creates.
    pub scratch_dir: String,
    /// Bytes written and expected back.
    pub value: Vec<u8>,
    /// setData parts of one multi.
    pub multi_size: usize,
}

impl Workload {
    /// The workload below `root`; `tag` keeps the created znodes of two runs apart.
    pub fn new(root: &str, tag: &str, mix: Mix, key_count: usize, value_size: usize, multi_size: usize) -> Self {
        let keys_dir = format!("{root}/keys");
        let keys = (0..key_count).map(|i| format!("{keys_dir}/k{i:07}")).collect();
        Workload { mix, keys, keys_dir, scratch_dir: format!("{root}/{tag}"), value: vec![b'v'; value_size], multi_size }
    }

    /// The directory connection `index` creates in.
    pub fn connection_dir(&self, index: usize) -> String {
        format!("{}/c{index:05}", self.scratch_dir)
    }
}

/// Why a reply cannot be right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mismatch(pub String);

impl From<DecodeError> for Mismatch {
    fn from(e: DecodeError) -> Self {
        Mismatch(format!("reply cannot be decoded: {e}"))
    }
}

/// A request that has been written: what is needed to check its reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Issued {
    /// The kind really sent.
    pub kind: OpKind,
    /// Create: the number in the name.
    serial: u64,
}

/// What a correct reply said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Done.
    Ok,
    /// Refused with this code.
    Error(i32),
}

/// A znode this connection created and may delete.
#[derive(Clone, Copy, Debug)]
enum Made {
    Named(u64),
    Sequential(i32),
}

/// The requests of one connection.
#[derive(Debug)]
pub struct Requests {
    workload: Arc<Workload>,
    prng: Prng,
    dir: String,
    serial: u64,
    made: VecDeque<Made>,
    path: String,
}

impl Requests {
    /// Requests of connection `index`; the same seed and index give the same sequence.
    pub fn new(workload: Arc<Workload>, seed: u64, index: usize) -> Self {
        let mut prng = Prng::new(seed);
        let mut own = 0;
        for _ in 0..=index {
            own = prng.next_u64();
        }
        let dir = workload.connection_dir(index);
        Requests { workload, prng: Prng::new(own), dir, serial: 0, made: VecDeque::new(), path: String::new() }
    }

    /// Appends the next request, as a whole frame, to `out`.
    pub fn write_next(&mut self, xid: Xid, out: &mut Vec<u8>) -> Issued {
        let kind = self.workload.mix.pick(&mut self.prng);
        match kind {
            OpKind::Get => self.write_read(xid, OpCode::GetData, out),
            OpKind::Exists => self.write_read(xid, OpCode::Exists, out),
            OpKind::Children => {
                let frame = begin_request(out, xid, OpCode::GetChildren2);
                out.put_string(&self.workload.keys_dir);
                out.put_bool(false);
                frame.finish(out);
            }
            OpKind::Set => {
                let frame = begin_request(out, xid, OpCode::SetData);
                self.write_set_body(out);
                frame.finish(out);
            }
            OpKind::Multi => self.write_multi(xid, out),
            OpKind::Create => return self.write_create(xid, out),
            OpKind::CreateSeq => {
                let path = format!("{}/s-", self.dir);
                write_create(out, xid, &path, &self.workload.value, PERSISTENT_SEQUENTIAL);
            }
            OpKind::Delete => match self.made.pop_front() {
                // Nothing left to delete: create instead, so that a pure delete load feeds itself.
                None => return self.write_create(xid, out),
                Some(made) => {
                    self.format_made(made);
                    write_delete(out, xid, &self.path);
                }
            },
        }
        Issued { kind, serial: 0 }
    }

    fn key(&mut self) -> usize {
        self.prng.below(self.workload.keys.len() as u64) as usize
    }

    fn write_read(&mut self, xid: Xid, op: OpCode, out: &mut Vec<u8>) {
        let key = self.key();
        let frame = begin_request(out, xid, op);
        out.put_string(&self.workload.keys[key]);
        out.put_bool(false);
        frame.finish(out);
    }

    fn write_set_body(&mut self, out: &mut Vec<u8>) {
        let key = self.key();
        out.put_string(&self.workload.keys[key]);
        out.put_buffer(Some(&self.workload.value));
        out.put_i32(ANY_VERSION);
    }

    fn write_multi(&mut self, xid: Xid, out: &mut Vec<u8>) {
        let frame = begin_request(out, xid, OpCode::Multi);
        for _ in 0..self.workload.multi_size {
            out.put_i32(OpCode::SetData as i32);
            out.put_bool(false);
            out.put_i32(-1);
            self.write_set_body(out);
        }
        write_multi_end(out);
        frame.finish(out);
    }

    fn write_create(&mut self, xid: Xid, out: &mut Vec<u8>) -> Issued {
        let serial = self.serial;
        self.serial += 1;
        self.format_made(Made::Named(serial));
        write_create(out, xid, &self.path, &self.workload.value, PERSISTENT);
        Issued { kind: OpKind::Create, serial }
    }

    fn format_made(&mut self, made: Made) {
        use std::fmt::Write;
        self.path.clear();
        // Writing to a String cannot fail.
        let _ = match made {
            Made::Named(n) => write!(self.path, "{}/n{n:09}", self.dir),
            Made::Sequential(n) => write!(self.path, "{}/s-{n:010}", self.dir),
        };
    }

    /// Checks everything in a reply but its xid. `body` is what follows the reply header.
    pub fn check(&mut self, issued: Issued, err: i32, body: &[u8]) -> Result<Verdict, Mismatch> {
        let mut r = Reader::new(body);
        if err != 0 {
            return if body.is_empty() { Ok(Verdict::Error(err)) } else { Err(Mismatch(format!("body behind error {err}"))) };
        }
        let mut verdict = Verdict::Ok;
        match issued.kind {
            OpKind::Get => {
                let len = r.buffer()?.map_or(0, <[u8]>::len);
                let stat = Stat::read(&mut r)?;
                expect("data length", len, self.workload.value.len())?;
                expect("stat's data length", stat.data_length as usize, len)?;
            }
            OpKind::Exists | OpKind::Set => self.check_stat(&mut r)?,
            OpKind::Children => {
                let names = r.string_vec()?;
                expect("number of children", names.len(), self.workload.keys.len())?;
                let stat = Stat::read(&mut r)?;
                expect("stat's number of children", stat.num_children as usize, names.len())?;
            }
            OpKind::Create => {
                self.format_made(Made::Named(issued.serial));
                expect("created path", r.string()?, self.path.as_str())?;
                self.made.push_back(Made::Named(issued.serial));
            }
            OpKind::CreateSeq => {
                let path = r.string()?;
                let n = path.strip_prefix(self.dir.as_str()).and_then(|p| p.strip_prefix("/s-")).and_then(|n| n.parse().ok());
                let n: i32 = n.ok_or_else(|| Mismatch(format!("sequential path {path:?} is not below {}", self.dir)))?;
                self.made.push_back(Made::Sequential(n));
            }
            OpKind::Delete => {}
            OpKind::Multi => verdict = self.check_multi(&mut r)?,
        }
        if r.is_empty() {
            Ok(verdict)
        } else {
            Err(Mismatch(format!("{} bytes behind the reply to {}", r.remaining().len(), issued.kind.name())))
        }
    }

    fn check_stat(&self, r: &mut Reader<'_>) -> Result<(), Mismatch> {
        let stat = Stat::read(r)?;
        expect("stat's data length", stat.data_length as usize, self.workload.value.len())
    }

    fn check_multi(&self, r: &mut Reader<'_>) -> Result<Verdict, Mismatch> {
        let mut verdict = Verdict::Ok;
        for _ in 0..self.workload.multi_size {
            let (kind, done, err) = (r.i32()?, r.bool()?, r.i32()?);
            expect("end of multi", done, false)?;
            if kind == OpCode::SetData as i32 {
                self.check_stat(r)?;
            } else {
                expect("error repeated in the part", r.i32()?, err)?;
                verdict = Verdict::Error(err);
            }
        }
        let (_, done, _) = (r.i32()?, r.bool()?, r.i32()?);
        expect("end of multi", done, true)?;
        Ok(verdict)
    }

    /// Paths this connection created and has not deleted.
    pub fn left_over(&mut self) -> Vec<String> {
        let made = std::mem::take(&mut self.made);
        let mut paths = Vec::with_capacity(made.len());
        for m in made {
            self.format_made(m);
            paths.push(self.path.clone());
        }
        paths
    }
}

fn expect<T: PartialEq + fmt::Debug>(what: &str, got: T, want: T) -> Result<(), Mismatch> {
    if got == want { Ok(()) } else { Err(Mismatch(format!("{what} is {got:?}, expected {want:?}"))) }
}

/// A request frame being written in place; the length is filled in when it is finished.
#[must_use = "a frame that is not finished has no length"]
#[derive(Debug)]
pub struct RequestFrame {
    start: usize,
}

/// Appends a length placeholder and a request header.
pub fn begin_request(out: &mut Vec<u8>, xid: Xid, op: OpCode) -> RequestFrame {
    let start = out.len();
    out.put_i32(0);
    out.put_i32(xid.0);
    out.put_i32(op as i32);
    RequestFrame { start }
}

impl RequestFrame {
    /// Fills in the length.
    pub fn finish(self, out: &mut [u8]) {
        let len = (out.len() - self.start - 4) as i32;
        out[self.start..self.start + 4].copy_from_slice(&len.to_be_bytes());
    }
}

/// Appends a create with the open ACL.
pub fn write_create(out: &mut Vec<u8>, xid: Xid, path: &str, data: &[u8], flags: i32) {
    let frame = begin_request(out, xid, OpCode::Create);
    out.put_string(path);
    out.put_buffer(Some(data));
    out.put_raw(AclVec::OPEN.raw());
    out.put_i32(flags);
    frame.finish(out);
}

/// Appends a persistent create.
pub fn write_create_persistent(out: &mut Vec<u8>, xid: Xid, path: &str, data: &[u8]) {
    write_create(out, xid, path, data, PERSISTENT);
}

/// Appends a setData of any version.
pub fn write_set(out: &mut Vec<u8>, xid: Xid, path: &str, data: &[u8]) {
    let frame = begin_request(out, xid, OpCode::SetData);
    out.put_string(path);
    out.put_buffer(Some(data));
    out.put_i32(ANY_VERSION);
    frame.finish(out);
}

/// Appends a delete of any version.
pub fn write_delete(out: &mut Vec<u8>, xid: Xid, path: &str) {
    let frame = begin_request(out, xid, OpCode::Delete);
    out.put_string(path);
    out.put_i32(ANY_VERSION);
    frame.finish(out);
}

/// Appends a sync.
pub fn write_sync(out: &mut Vec<u8>, xid: Xid, path: &str) {
    let frame = begin_request(out, xid, OpCode::Sync);
    out.put_string(path);
    frame.finish(out);
}

/// Appends an addWatch that stays, of a znode alone or of everything below it.
pub fn write_add_watch(out: &mut Vec<u8>, xid: Xid, path: &str, recursive: bool) {
    let frame = begin_request(out, xid, OpCode::AddWatch);
    out.put_string(path);
    out.put_i32(i32::from(recursive));
    frame.finish(out);
}

/// Appends a getData, exists, getChildren or getChildren2.
pub fn write_read(out: &mut Vec<u8>, xid: Xid, op: OpCode, path: &str, watch: bool) {
    let frame = begin_request(out, xid, op);
    out.put_string(path);
    out.put_bool(watch);
    frame.finish(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use zoo::proto::Request;
    use zoo::proto::request::RequestHeader;

    fn workload(mix: &str) -> Arc<Workload> {
        Arc::new(Workload::new("/t", "run", mix.parse().expect("mix"), 10, 5, 3))
    }

    #[test]
    fn mix_parses_weights_and_names_what_is_wrong() {
        let mix: Mix = "get=90, set=10".parse().expect("valid");
        assert_eq!(mix.to_string(), "get=90,set=10");
        assert_eq!("create-seq".parse::<Mix>().expect("valid").to_string(), "create-seq");
        for (bad, why) in [("got", "unknown"), ("get=x", "whole number"), ("get=0", "above 0"), ("get,get=2", "twice"), ("", "unknown")] {
            let err = bad.parse::<Mix>().expect_err(bad);
            assert!(err.contains(why), "{bad}: {err}");
        }
    }

    #[test]
    fn mix_draws_in_proportion() {
        let mix: Mix = "get=90,set=10".parse().expect("valid");
        let mut prng = Prng::new(1);
        let sets = (0..10_000).filter(|_| mix.pick(&mut prng) == OpKind::Set).count();
        assert!((900..1_100).contains(&sets), "{sets}");
    }

    #[test]
    fn the_same_seed_gives_the_same_requests_and_connections_differ() {
        let bytes = |index| {
            let (mut requests, mut out) = (Requests::new(workload("get=5,set=5,create=1"), 7, index), Vec::new());
            for n in 1..50 {
                requests.write_next(Xid(n), &mut out);
            }
            out
        };
        assert_eq!(bytes(0), bytes(0));
        assert_ne!(bytes(0), bytes(1));
    }

    #[test]
    fn every_request_decodes_as_the_server_would() {
        let all: Vec<_> = OpKind::ALL.iter().map(|k| k.name()).collect();
        let (mut requests, mut out) = (Requests::new(workload(&all.join(",")), 3, 0), Vec::new());
        for n in 1..200 {
            out.clear();
            requests.write_next(Xid(n), &mut out);
            assert_eq!(i32::from_be_bytes(out[..4].try_into().expect("4 bytes")) as usize, out.len() - 4);
            let mut r = Reader::new(&out[4..]);
            let header = RequestHeader::read(&mut r).expect("header");
            assert_eq!(header.xid, Xid(n));
            Request::decode(OpCode::from_i32(header.op).expect("op"), &mut r).expect("body");
            assert!(r.is_empty());
        }
    }

    #[test]
    fn a_reply_that_does_not_fit_is_a_mismatch() {
        let mut requests = Requests::new(workload("get"), 3, 0);
        let get = requests.write_next(Xid(1), &mut Vec::new());
        let mut body = Vec::new();
        body.put_buffer(Some(b"12345"));
        Stat { data_length: 5, ..Stat::default() }.write(&mut body);
        assert_eq!(requests.check(get, 0, &body), Ok(Verdict::Ok));
        assert_eq!(requests.check(get, -101, &[]), Ok(Verdict::Error(-101)));
        assert!(requests.check(get, -101, &body).is_err(), "a body behind an error");
        body.push(0);
        assert!(requests.check(get, 0, &body).is_err(), "a byte too many");
        body.clear();
        body.put_buffer(Some(b"1234"));
        Stat { data_length: 4, ..Stat::default() }.write(&mut body);
        assert!(requests.check(get, 0, &body).is_err(), "the wrong length");
    }

    #[test]
    fn delete_takes_what_was_created_and_creates_when_there_is_nothing() {
        let mut requests = Requests::new(workload("delete"), 3, 0);
        let mut out = Vec::new();
        let first = requests.write_next(Xid(1), &mut out);
        assert_eq!(first.kind, OpKind::Create);
        let mut body = Vec::new();
        body.put_string("/t/run/c00000/n000000000");
        assert_eq!(requests.check(first, 0, &body), Ok(Verdict::Ok));
        assert_eq!(requests.write_next(Xid(2), &mut out).kind, OpKind::Delete);
        assert!(requests.left_over().is_empty());
    }
}

//! Frames as readable lines in which only what may differ between two correct servers has been replaced: wall-clock times,
//! session ids (by their order of appearance), passwords (by whether they are the derived ones), the order of unordered lists.
//! Whatever a decoder does not consume is appended in hex, so two frames give the same line only when they are the same bytes.

use crate::reference::request as op;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};
use zoo::base::{DecodeError, Reader, SessionId, Stat};
use zoo::proto::connect::ConnectResponse;

/// What is known of one server while its frames are written down.
#[derive(Debug, Default)]
pub struct Names {
    sessions: HashMap<i64, usize>,
    /// Zxids above this one are shown relative to it.
    pub zxid_base: i64,
}

impl Names {
    /// Gives a session the next name.
    pub fn add_session(&mut self, id: i64) {
        let next = self.sessions.len();
        self.sessions.entry(id).or_insert(next);
    }

    pub fn session(&self, id: i64) -> String {
        match (id, self.sessions.get(&id)) {
            (0, _) => "0".into(),
            (_, Some(n)) => format!("S{n}"),
            _ => format!("{id:#x}"),
        }
    }

    /// Replaces every known session id (`0x…`) in a text.
    pub fn in_text(&self, text: &str) -> String {
        let mut known: Vec<_> = self.sessions.iter().map(|(id, n)| (format!("{id:#x}"), format!("S{n}"))).collect();
        known.sort();
        known.iter().fold(text.to_owned(), |t, (id, name)| t.replace(id.as_str(), name))
    }

    pub fn zxid(&self, z: i64) -> String {
        if z > self.zxid_base { format!("+{}", z - self.zxid_base) } else { z.to_string() }
    }
}

/// A wall-clock time in milliseconds: only whether it is plausible.
fn time(ms: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    if ms != 0 && (now - ms).abs() < 3_600_000 { "now".into() } else { ms.to_string() }
}

/// The password ZooKeeper derives from a session id.
pub fn derived_password(session: i64) -> [u8; 16] {
    const MULTIPLIER: i64 = 0x5_DEEC_E66D;
    const MASK: i64 = (1 << 48) - 1;
    let mut state = ((session ^ 0xB341_5C00) ^ MULTIPLIER) & MASK;
    let mut out = [0; 16];
    for chunk in out.chunks_exact_mut(4) {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        chunk.copy_from_slice(&((state >> 16) as u32).to_le_bytes());
    }
    out
}

/// The line for the answer to a connect request. The caller has named the session before.
pub fn connect_response(names: &Names, payload: &[u8]) -> String {
    let Ok(r) = ConnectResponse::decode(payload) else { return format!("connect undecodable {}", hex(payload)) };
    let password = match r.password {
        p if p == derived_password(r.session.0) => "derived".into(),
        p => hex(&p),
    };
    let version = hex(&payload[..4]);
    let server = r.session.0 >> 56;
    let SessionId(id) = r.session;
    let session = names.session(id);
    format!(
        "connect version={version} timeout={} session={session} server={server} password={password} readOnly={:?} length={}",
        r.timeout_ms,
        r.read_only,
        payload.len()
    )
}

/// The line for a notification or a reply (to a request of type `request`).
pub fn frame(names: &Names, request: i32, payload: &[u8]) -> String {
    let mut r = Reader::new(payload);
    let mut line = String::new();
    if let Err(e) = write_frame(names, request, &mut r, &mut line) {
        let _ = write!(line, " [{e}]");
    }
    if !r.is_empty() {
        let _ = write!(line, " rest={}", hex(r.remaining()));
    }
    line
}

fn write_frame(names: &Names, request: i32, r: &mut Reader<'_>, line: &mut String) -> Result<(), DecodeError> {
    let (xid, zxid, err) = (r.i32()?, r.i64()?, r.i32()?);
    if xid == -1 {
        *line = format!("event zxid={} err={err} type={} state={} path={:?}", names.zxid(zxid), r.i32()?, r.i32()?, r.opt_string()?);
        return Ok(());
    }
    *line = format!("reply xid={xid} zxid={} err={err}", names.zxid(zxid));
    if err == 0 { write_body(names, request, r, line) } else { Ok(()) }
}

fn write_body(names: &Names, request: i32, r: &mut Reader<'_>, line: &mut String) -> Result<(), DecodeError> {
    match request {
        op::CREATE | op::SYNC => path(r, line)?,
        op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
            path(r, line)?;
            stat(names, r, line)?;
        }
        op::EXISTS | op::SET_DATA | op::SET_ACL => stat(names, r, line)?,
        op::GET_DATA | op::RECONFIG => {
            data(r, line)?;
            stat(names, r, line)?;
        }
        op::GET_ACL => {
            acl(r, line)?;
            stat(names, r, line)?;
        }
        op::GET_CHILDREN | op::GET_EPHEMERALS => sorted_strings(r, line)?,
        op::GET_CHILDREN2 => {
            sorted_strings(r, line)?;
            stat(names, r, line)?;
        }
        op::MULTI | op::MULTI_READ => multi(names, r, line)?,
        op::SASL => data(r, line)?,
        op::GET_ALL_CHILDREN_NUMBER | op::ADD_WATCH => {
            let _ = write!(line, " int={}", r.i32()?);
        }
        op::WHO_AM_I => who_am_i(r, line)?,
        _ => {}
    }
    Ok(())
}

fn path(r: &mut Reader<'_>, line: &mut String) -> Result<(), DecodeError> {
    let _ = write!(line, " path={:?}", r.opt_string()?);
    Ok(())
}

fn data(r: &mut Reader<'_>, line: &mut String) -> Result<(), DecodeError> {
    match r.buffer()? {
        None => line.push_str(" data=null"),
        Some(d) if d.len() > 200 => {
            let _ = write!(line, " data={} bytes, adler {:08x}", d.len(), simd_adler32::adler32(&d));
        }
        Some(d) => {
            let _ = write!(line, " data=\"{}\"", d.escape_ascii());
        }
    }
    Ok(())
}

fn stat(names: &Names, r: &mut Reader<'_>, line: &mut String) -> Result<(), DecodeError> {
    let s = Stat::read(r)?;
    let _ = write!(
        line,
        " stat{{czxid={} mzxid={} pzxid={} ctime={} mtime={} v={} cv={} av={} owner={} len={} children={}}}",
        names.zxid(s.czxid),
        names.zxid(s.mzxid),
        names.zxid(s.pzxid),
        time(s.ctime),
        time(s.mtime),
        s.version,
        s.cversion,
        s.aversion,
        names.session(s.ephemeral_owner),
        s.data_length,
        s.num_children
    );
    Ok(())
}

/// ACLs as a set: the order is only specified where nothing was expanded, and there the stored list keeps it.
fn acl(r: &mut Reader<'_>, line: &mut String) -> Result<(), DecodeError> {
    let count = r.i32()?;
    let mut entries = Vec::new();
    for _ in 0..count.max(0) {
        entries.push(format!("{}:{:?}:{:?}", r.i32()?, r.opt_string()?, r.opt_string()?));
    }
    entries.sort();
    let _ = write!(line, " acl({count})={}", entries.join(","));
    Ok(())
}

fn sorted_strings(r: &mut Reader<'_>, line: &mut String) -> Result<(), DecodeError> {
    let count = r.i32()?;
    let mut strings = Vec::new();
    for _ in 0..count.max(0) {
        strings.push(r.opt_string()?);
    }
    strings.sort();
    let _ = write!(line, " list({count})={strings:?}");
    Ok(())
}

fn who_am_i(r: &mut Reader<'_>, line: &mut String) -> Result<(), DecodeError> {
    let count = r.i32()?;
    let mut ids = Vec::new();
    for _ in 0..count.max(0) {
        ids.push((r.opt_string()?, r.opt_string()?));
    }
    ids.sort();
    let _ = write!(line, " ids({count})={ids:?}");
    Ok(())
}

fn multi(names: &Names, r: &mut Reader<'_>, line: &mut String) -> Result<(), DecodeError> {
    loop {
        let (kind, done, err) = (r.i32()?, r.bool()?, r.i32()?);
        let _ = write!(line, " part(type={kind} done={done} err={err}");
        if done {
            line.push(')');
            return Ok(());
        }
        if kind == -1 {
            let _ = write!(line, " code={}", r.i32()?);
        } else {
            write_body(names, kind, r, line)?;
        }
        line.push(')');
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

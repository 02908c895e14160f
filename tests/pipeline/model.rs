//! A plain sequential ZooKeeper: what the messages to the replica must come to, in the order it takes them.
#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap};
use zoo::base::{ConnKey, Instant, Reader, SessionId, WallTime, Xid};
use zoo::handoff::ToReplica;
use zoo::proto::request::RequestHeader;
use zoo::proto::{OpCode, Request};

pub const CREATED: i32 = 1;
pub const DELETED: i32 = 2;
pub const CHANGED: i32 = 3;
pub const CHILDREN: i32 = 4;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Node {
    pub data: String,
    pub version: i32,
    pub owner: i64,
    pub mzxid: i64,
    pub pzxid: i64,
    /// Child creates.
    pub creates: i32,
}

pub type State = BTreeMap<String, Node>;

/// One transaction: who asked, what came of it.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    pub by: Option<(ConnKey, Xid)>,
    pub err: i32,
    /// Path of a create's reply.
    pub path: Option<String>,
    /// Node events in firing order: (kind, path).
    pub changes: Vec<(i32, String)>,
    pub opens: Option<SessionId>,
    pub closes: Option<SessionId>,
}

pub struct Model {
    /// By zxid; `states[0]` is the beginning.
    pub states: Vec<State>,
    pub txns: Vec<Txn>,
    owners: HashMap<SessionId, Option<(ConnKey, Instant)>>,
    next_session: i64,
}

impl Model {
    pub fn new(wall: WallTime) -> Self {
        let mut state = State::new();
        for path in ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"] {
            state.insert(path.into(), Node::default());
        }
        Model { states: vec![state], txns: vec![Txn::default()], owners: HashMap::new(), next_session: first_session(wall) }
    }

    /// The server has crashed and started again at `wall`: history ends at `head`, and nobody is connected.
    pub fn crash(&mut self, head: usize, wall: WallTime) {
        self.states.truncate(head + 1);
        self.txns.truncate(head + 1);
        self.owners.clear();
        for txn in &mut self.txns {
            txn.by = None; // connections are numbered anew
            self.owners.extend(txn.opens.map(|session| (session, None)));
            txn.closes.map(|session| self.owners.remove(&session));
        }
        self.next_session = first_session(wall);
    }

    pub fn head(&self) -> &State {
        self.states.last().expect("there is a beginning")
    }

    /// The replica takes this message next.
    pub fn take(&mut self, message: &ToReplica) {
        match message {
            ToReplica::Connect { conn, accepted, request } if request.session == SessionId::NONE => {
                while self.owners.contains_key(&SessionId(self.next_session)) {
                    self.next_session += 1;
                }
                let opens = SessionId(self.next_session);
                self.owners.insert(opens, Some((*conn, *accepted)));
                self.next_session += 1;
                self.push(self.head().clone(), Txn { opens: Some(opens), ..Txn::default() });
            }
            ToReplica::Connect { conn, accepted, request } => {
                if let Some(owner) = self.owners.get_mut(&request.session)
                    && owner.is_none_or(|(_, since)| since <= *accepted)
                {
                    *owner = Some((*conn, *accepted));
                }
            }
            ToReplica::Detach { conn, session, .. } => {
                if let Some(owner) = self.owners.get_mut(session)
                    && owner.is_some_and(|(o, _)| o == *conn)
                {
                    *owner = None;
                }
            }
            ToReplica::Move { from, to, session, .. } => {
                if let Some(owner) = self.owners.get_mut(session)
                    && let Some((conn, _)) = owner.as_mut().filter(|(o, _)| o == from)
                {
                    *conn = *to;
                }
            }
            ToReplica::Heard { .. } | ToReplica::AllHeard { .. } => {}
            ToReplica::Failed { conn, session, xid, err, .. } => {
                if self.owns(*session, *conn) {
                    self.push(self.head().clone(), Txn { by: Some((*conn, *xid)), err: err.code(), ..Txn::default() });
                }
            }
            ToReplica::Request { conn, session, frame, .. } => {
                if self.owns(*session, *conn) {
                    self.request(*conn, *session, frame);
                }
            }
        }
    }

    fn owns(&self, session: SessionId, conn: ConnKey) -> bool {
        self.owners.get(&session).is_some_and(|o| o.is_some_and(|(c, _)| c == conn))
    }

    fn push(&mut self, state: State, txn: Txn) {
        self.states.push(state);
        self.txns.push(txn);
    }

    fn request(&mut self, conn: ConnKey, session: SessionId, frame: &[u8]) {
        let mut r = Reader::new(frame);
        let header = RequestHeader::read(&mut r).expect("a header");
        let op = OpCode::from_i32(header.op).expect("a known type");
        let request = Request::decode(op, &mut r).expect("decodes");
        if matches!(request, Request::Sync { .. } | Request::GetEphemerals { .. }) {
            return;
        }
        let mut txn = Txn { by: Some((conn, header.xid)), ..Txn::default() };
        let mut state = self.head().clone();
        let zxid = self.states.len() as i64;
        let outcome = match &request {
            Request::CloseSession => {
                self.owners.remove(&session);
                txn.closes = Some(session);
                let gone: Vec<String> = state.iter().filter(|(_, n)| n.owner == session.0).map(|(p, _)| p.clone()).collect();
                gone.iter().for_each(|path| remove(&mut state, path, zxid, &mut txn.changes));
                Ok(())
            }
            Request::Multi(parts) => {
                // A failed multi is Ok at the top and changes nothing.
                let mut changes = Vec::new();
                let mut copy = state.clone();
                if parts.iter().try_for_each(|p| step(&mut copy, p, session, zxid, &mut changes).map(drop)).is_ok() {
                    state = copy;
                    txn.changes = changes;
                }
                Ok(())
            }
            request => step(&mut state, request, session, zxid, &mut txn.changes).map(|path| txn.path = path),
        };
        if let Err(err) = outcome {
            txn.err = err;
            txn.changes.clear();
            state = self.head().clone();
        }
        self.push(state, txn);
    }
}

/// Server id, the clock, a counter.
fn first_session(wall: WallTime) -> i64 {
    (((wall.0 as u64) << 24) >> 8) as i64 | 1 << 56
}

/// What a request comes to: the path that is created, or an error, and no more than a part of its effect.
pub fn step(
    state: &mut State,
    request: &Request<'_>,
    session: SessionId,
    zxid: i64,
    changes: &mut Vec<(i32, String)>,
) -> Result<Option<String>, i32> {
    match request {
        Request::Create(c) => {
            let parent = parent(c.path);
            let owner = state.get(&parent).ok_or(-101)?.owner;
            let mut path = c.path.to_string();
            if c.flags & 2 != 0 {
                path += &format!("{:010}", state[&parent].creates);
            }
            if state.contains_key(&path) {
                return Err(-110);
            }
            if owner != 0 {
                return Err(-108);
            }
            let data = String::from_utf8(c.data.unwrap_or(b"").to_vec()).expect("text");
            let owner = if c.flags & 1 != 0 { session.0 } else { 0 };
            state.insert(path.clone(), Node { data, owner, mzxid: zxid, pzxid: zxid, ..Node::default() });
            let parent = state.get_mut(&parent).expect("checked");
            parent.creates += 1;
            parent.pzxid = zxid;
            changes.push((CREATED, path.clone()));
            Ok(Some(path))
        }
        Request::Delete { path, version } => {
            let node = state.get(*path).ok_or(-101)?;
            if *version != -1 && *version != node.version {
                return Err(-103);
            }
            if children(state, path).next().is_some() {
                return Err(-111);
            }
            remove(state, path, zxid, changes);
            Ok(None)
        }
        Request::SetData { path, data, version } => {
            let node = state.get_mut(*path).ok_or(-101)?;
            if *version != -1 && *version != node.version {
                return Err(-103);
            }
            node.data = String::from_utf8(data.unwrap_or(b"").to_vec()).expect("text");
            node.version += 1;
            node.mzxid = zxid;
            changes.push((CHANGED, path.to_string()));
            Ok(None)
        }
        Request::Check { path, version } => {
            let node = state.get(*path).ok_or(-101)?;
            if *version != -1 && *version != node.version { Err(-103) } else { Ok(None) }
        }
        other => panic!("not modelled: {other:?}"),
    }
}

pub fn remove(state: &mut State, path: &str, zxid: i64, changes: &mut Vec<(i32, String)>) {
    state.remove(path);
    if let Some(parent) = state.get_mut(&parent(path)) {
        parent.pzxid = zxid;
    }
    changes.push((DELETED, path.to_string()));
}

pub fn children<'a>(state: &'a State, path: &'a str) -> impl Iterator<Item = &'a str> {
    let prefix = if path == "/" { "/".to_string() } else { format!("{path}/") };
    state.keys().filter_map(move |p| p.strip_prefix(&prefix)).filter(|name| !name.is_empty() && !name.contains('/'))
}

pub fn parent(path: &str) -> String {
    zoo::base::path::parent(path).unwrap_or("/").to_string()
}

/// The watches of one connection, and what fires them.
#[derive(Default, Clone)]
pub struct Watching {
    /// (data table?, path) → modes: 1 standard, 2 persistent, 4 recursive.
    modes: BTreeMap<(bool, String), u8>,
}

impl Watching {
    pub fn add(&mut self, data: bool, path: &str, mode: u8) {
        *self.modes.entry((data, path.to_string())).or_default() |= mode;
    }

    fn hit(&mut self, data: bool, path: &str) -> bool {
        let key = (data, path.to_string());
        let mut hit = false;
        if let Some(modes) = self.modes.get_mut(&key) {
            hit = *modes != 0;
            *modes &= !1;
        }
        let mut at = path.to_string();
        while data && at != "/" {
            at = parent(&at);
            hit |= self.modes.get(&(true, at.clone())).is_some_and(|m| m & 4 != 0);
        }
        self.modes.retain(|_, m| *m != 0);
        hit
    }

    /// The events of one transaction for this connection.
    pub fn fire(&mut self, txn: &Txn) -> Vec<(i32, String)> {
        let mut out = Vec::new();
        for (kind, path) in &txn.changes {
            let data = self.hit(true, path);
            let child = *kind == DELETED && self.hit(false, path);
            if data || child {
                out.push((*kind, path.clone()));
            }
            if *kind != CHANGED && self.hit(false, &parent(path)) {
                out.push((CHILDREN, parent(path)));
            }
        }
        out
    }
}

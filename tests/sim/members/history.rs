//! What clients were told, against what was committed. Zxids are the witness: the committed transactions, in order, are carried out by a plain
//! sequential model; every answer has to be what the model says at its zxid, in the order of the session, and no older than what was known.

use super::cluster::{Cluster, Ping};
use crate::members::model::{self, Node, State, Watching, children, parent, remove};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use zoo::base::{Instant, Reader, SessionId, Zxid};
use zoo::proto::request::RequestHeader;
use zoo::proto::{OpCode, Request};
use zoo::record::txn::{Txn, decode_payload};
use zoo::zab::Payload;

/// Codes of a session that ended or moved while its request was on the way.
const SESSION_ENDS: [i32; 2] = [-112, -118];
/// How much earlier than its timeout says a session may be seen to end: the clock of the leader may be too fast.
const EARLY_MS: u64 = 500;
/// After so long at most a server asks its shards again whom they have heard.
const TELLING_MS: u64 = 1_000;

/// What a client has asked.
#[derive(Clone, Debug)]
pub enum Asked {
    Write,
    Sync,
    Ping,
    Get { path: String, watch: bool },
    Exists { path: String, watch: bool },
    Children { path: String, watch: bool },
    SetWatches { since: i64, data: Vec<String>, exist: Vec<String>, child: Vec<String> },
}

/// A question, and what was known when it was asked.
pub struct Question {
    pub xid: i32,
    pub asked: Asked,
    /// The newest zxid any client had been shown.
    pub floor: i64,
    pub at: Instant,
    /// When its answer was read.
    pub answered: Option<Instant>,
}

/// What came back.
pub enum Told {
    Reply { xid: i32, zxid: i64, err: i32, body: Vec<u8> },
    Event { zxid: i64, kind: i32, path: String },
}

/// One connection of one client.
pub struct Story {
    pub client: usize,
    /// The server.
    pub node: usize,
    pub session: SessionId,
    /// The newest zxid its client had seen before.
    pub since: i64,
    pub questions: Vec<Question>,
    /// So many of them are answered.
    pub answers: usize,
    pub told: Vec<Told>,
}

/// A request that was sent, by whom and under which number.
pub type Requests = BTreeMap<(SessionId, i32), Vec<u8>>;

struct Step {
    zxid: i64,
    state: Rc<State>,
    by: (SessionId, i32),
    err: i32,
    /// The path of a create's reply.
    path: Option<String>,
    fired: model::Txn,
}

/// All that was committed.
pub struct History {
    steps: Vec<Step>,
    /// Sessions that ended, when, and whether they had asked for it.
    pub closed: BTreeMap<SessionId, (i64, bool)>,
    pub opened: BTreeSet<SessionId>,
    /// The last name of a sequence below each parent.
    sequences: BTreeMap<String, String>,
}

impl History {
    /// Of what was proposed, what came to be committed; `seen` are transactions that were published somewhere. In each epoch everything up to the last one
    /// that was published is committed, too.
    pub fn new(proposed: &BTreeMap<Zxid, (Instant, Payload)>, seen: &BTreeMap<Zxid, Instant>, requests: &Requests) -> History {
        let mut last: BTreeMap<u32, u32> = BTreeMap::new();
        for zxid in seen.keys() {
            let last = last.entry(zxid.epoch()).or_default();
            *last = zxid.counter().max(*last);
        }
        let state = ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"].map(|path| (path.to_string(), Node::default()));
        let begin =
            Step { zxid: 0, state: Rc::new(state.into()), by: (SessionId::NONE, 0), err: 0, path: None, fired: model::Txn::default() };
        let mut history = History { steps: vec![begin], closed: BTreeMap::new(), opened: BTreeSet::new(), sequences: BTreeMap::new() };
        for (epoch, last) in last {
            for counter in 1..=last {
                let zxid = Zxid::new(epoch, counter);
                let (_, payload) =
                    proposed.get(&zxid).unwrap_or_else(|| panic!("{zxid} is committed, and nobody was ever told of it (P1)"));
                history.commit(zxid, payload, requests);
            }
        }
        history
    }

    fn commit(&mut self, zxid: Zxid, payload: &[u8], requests: &Requests) {
        let (header, txn, _) = decode_payload(payload).expect("what is logged can be read (L11)");
        let by = (header.session, header.cxid.0);
        let mut state = (*self.last().state).clone();
        let mut step = Step { zxid: zxid.as_i64(), state: self.last().state.clone(), by, err: 0, path: None, fired: model::Txn::default() };
        assert!(
            !self.closed.contains_key(&by.0) || matches!(txn, Txn::Error { .. } | Txn::CloseSession { .. }),
            "{zxid}: {by:?} is over (L16)"
        );
        match &txn {
            Txn::CreateSession { .. } => assert!(self.opened.insert(by.0), "{zxid}: {by:?} begins twice"),
            Txn::CloseSession { paths } => {
                let owned: Vec<String> = state.iter().filter(|(_, n)| n.owner == by.0.0).map(|(path, _)| path.clone()).collect();
                let listed: BTreeSet<String> = paths.iter().flat_map(|paths| paths.iter().map(str::to_string)).collect();
                assert_eq!(owned.iter().cloned().collect::<BTreeSet<_>>(), listed, "{zxid}: the ephemerals of {by:?} (P13, L9)");
                owned.iter().for_each(|path| remove(&mut state, path, zxid.as_i64(), &mut step.fired.changes));
                self.closed.entry(by.0).or_insert((zxid.as_i64(), requests.contains_key(&by)));
            }
            Txn::Error { code } if SESSION_ENDS.contains(code) => step.err = *code,
            txn => self.request(zxid, txn, requests.get(&by), &mut state, &mut step),
        }
        if step.err == 0 {
            step.state = Rc::new(state);
        }
        self.steps.push(step);
    }

    /// The transaction of a request is what the request comes to, here and now (P4, P5, P11, P12).
    fn request(&mut self, zxid: Zxid, txn: &Txn<'_>, frame: Option<&Vec<u8>>, state: &mut State, step: &mut Step) {
        let frame = frame.unwrap_or_else(|| panic!("{zxid}: {:?} never asked for {txn:?} (P4)", step.by));
        let mut r = Reader::new(frame);
        let header = RequestHeader::read(&mut r).expect("a header");
        let request = Request::decode(OpCode::from_i32(header.op).expect("a type"), &mut r).expect("a request");
        let session = step.by.0;
        let changes = &mut step.fired.changes;
        let outcome = match &request {
            Request::Multi(parts) => {
                let mut tried = state.clone();
                let outcome = parts.iter().try_for_each(|part| model::step(&mut tried, part, session, step.zxid, changes).map(drop));
                match outcome {
                    Ok(()) => *state = tried,
                    Err(_) => changes.clear(),
                }
                Ok(None)
            }
            request => model::step(state, request, session, step.zxid, changes),
        };
        match (outcome, txn) {
            (Err(expected), Txn::Error { code }) => {
                assert_eq!(expected, *code, "{zxid}: {request:?}");
                step.err = expected;
                changes.clear();
            }
            (Ok(path), txn) => {
                assert!(!matches!(txn, Txn::Error { .. }) || matches!(request, Request::Multi(_)), "{zxid}: {request:?} came to {txn:?}");
                if let (Some(path), Request::Create(create)) = (&path, &request)
                    && create.flags & 2 != 0
                {
                    let before = self.sequences.insert(parent(path), path.rsplit('/').next().unwrap_or_default().to_string());
                    assert!(before.is_none_or(|before| path.rsplit('/').next() > Some(before.as_str())), "{zxid}: {path} again (P12)");
                }
                step.path = path;
            }
            (Err(expected), txn) => panic!("{zxid}: {request:?} came to {txn:?} instead of {expected} (P5)"),
        }
    }

    fn last(&self) -> &Step {
        self.steps.last().expect("there is a beginning")
    }
    fn index(&self, zxid: i64) -> usize {
        self.steps.partition_point(|step| step.zxid <= zxid) - 1
    }
    fn of(&self, zxid: i64) -> Option<&Step> {
        Some(&self.steps[self.index(zxid)]).filter(|step| step.zxid == zxid)
    }

    // ---- what was told

    /// Nobody's request was carried out twice.
    pub fn check_once(&self) {
        let mut seen = BTreeSet::new();
        for step in self.steps.iter().filter(|step| step.by.1 != 0) {
            assert!(seen.insert(step.by), "{:?} was carried out twice (P4)", step.by);
        }
    }

    /// The end of no session was proposed before its leader could believe that it had been silent for its timeout (P13). How many ended so.
    pub fn check_expiry(&self, stories: &[Story], c: &Cluster, timeout_ms: u64) -> u64 {
        let expired: Vec<_> = self.closed.iter().filter(|(_, (_, was_asked))| !was_asked).collect();
        for (session, (zxid, _)) in &expired {
            let zxid = Zxid::from_i64(*zxid);
            let Some(leader) = c.leaders.get(&zxid.epoch()).copied() else { continue };
            let ended = c.proposed[&zxid].0;
            for story in stories.iter().filter(|s| s.session == **session) {
                let heard = |q: &&Question| q.answered.is_some_and(|answered| knows(c, leader, ended, story.node, q.at, answered));
                let Some(heard) = story.questions.iter().filter(heard).map(|q| q.at).max() else { continue };
                let (silent_ms, node) = (ended.since_ms(heard), story.node);
                assert!(
                    silent_ms + EARLY_MS >= timeout_ms,
                    "{session:?} ends at {zxid}, {silent_ms} ms after it was heard at {node}, of which the leader {leader} knew (P13)"
                );
            }
        }
        expired.len() as u64
    }

    /// Everything one connection was told.
    pub fn check(&self, story: &Story) {
        let (mut watching, mut at, mut last) = (Watching::default(), 0, story.since);
        let mut events: Vec<(i64, i32, String)> = Vec::new();
        let mut questions = story.questions.iter();
        let mut written = 0;
        for told in &story.told {
            let (xid, zxid, err, body) = match told {
                Told::Event { zxid, kind, path } => {
                    events.push((*zxid, *kind, path.clone()));
                    continue;
                }
                Told::Reply { xid, zxid, err, body } => (*xid, *zxid, *err, body),
            };
            let question = questions.next().expect("an answer to a question");
            let who = format!("client {}, {:?}, {:?} at {zxid:x}", story.client, story.session, question.asked);
            assert_eq!(xid, question.xid, "{who}: answers come in the order of the questions (P7)");
            assert!(zxid >= last, "{who}: after {last:x} (P8)");
            last = zxid;
            let replayed = events.iter().position(|e| e.0 == -1).unwrap_or(events.len());
            let replayed = events.split_off(replayed);
            self.check_events(&mut watching, &mut at, zxid, &events, &who);
            events.clear();
            match &question.asked {
                Asked::Write => {
                    let step = self.of(zxid).unwrap_or_else(|| panic!("{who}: nothing of that was committed (P3)"));
                    assert_eq!(step.by, (story.session, xid), "{who}: another's transaction");
                    assert_eq!(step.err, err, "{who}");
                    assert!(zxid > question.floor, "{who}: {:x} was known before it was asked (P5)", question.floor);
                    if let (Some(path), 0) = (&step.path, err)
                        && !body.is_empty()
                    {
                        let told = Reader::new(body).string().expect("a path").to_string();
                        assert_eq!(*path, told, "{who}");
                    }
                    written = zxid;
                }
                Asked::Ping => {}
                Asked::Sync => assert!(zxid >= question.floor, "{who}: {:x} was known before (P9)", question.floor),
                asked => {
                    assert!(zxid >= written, "{who}: an own write at {written:x} (P7)");
                    self.check_read(asked, &mut watching, (zxid, err, body), &replayed, &who);
                }
            }
        }
    }

    /// What came before this answer is what happened up to it to what was watched, no more and no less (P10).
    fn check_events(&self, watching: &mut Watching, at: &mut usize, zxid: i64, events: &[(i64, i32, String)], who: &str) {
        let upto = self.index(zxid);
        let mut expected = Vec::new();
        for step in &self.steps[(*at + 1).min(upto + 1)..=upto] {
            expected.extend(watching.fire(&step.fired).into_iter().map(|(kind, path)| (step.zxid, kind, path)));
        }
        *at = upto.max(*at);
        assert_eq!(events, expected, "{who}: events before it (P10)");
    }

    fn check_read(
        &self,
        asked: &Asked,
        watching: &mut Watching,
        (zxid, err, body): (i64, i32, &[u8]),
        replayed: &[(i64, i32, String)],
        who: &str,
    ) {
        let state = &self.steps[self.index(zxid)].state;
        let expect = |path: &String| if state.contains_key(path) { 0 } else { -101 };
        let mut r = Reader::new(body);
        match asked {
            Asked::Get { path, watch } => {
                assert_eq!(err, expect(path), "{who} (P6)");
                if let Some(node) = state.get(path) {
                    assert_eq!(r.buffer().expect("data").unwrap_or(b""), node.data.as_bytes(), "{who} (P6)");
                    if *watch {
                        watching.add(true, path, 1);
                    }
                }
            }
            Asked::Exists { path, watch } => {
                assert_eq!(err, expect(path), "{who} (P6)");
                if *watch {
                    watching.add(true, path, 1);
                }
            }
            Asked::Children { path, watch } => {
                assert_eq!(err, expect(path), "{who} (P6)");
                if err == 0 {
                    let names = r.string_vec().expect("names");
                    let told: BTreeSet<&str> = names.iter().collect();
                    assert_eq!(told, children(state, path).collect(), "{who} (P6)");
                    if *watch {
                        watching.add(false, path, 1);
                    }
                }
            }
            Asked::SetWatches { since, data, exist, child } => {
                let expected = replay(state, *since, [data, exist, child], watching);
                assert_eq!(replayed, expected, "{who} (P10)");
            }
            Asked::Write | Asked::Sync | Asked::Ping => {}
        }
    }
}

/// Whether a leader knew, when it ended a session, that a question of that had been heard at this server and was answered: it is this leader itself, or one that
/// followed it all the time and has answered two more of its pings since it could ask its shards. Until then it may have been cut off, or have slept.
fn knows(c: &Cluster, leader: usize, ended: Instant, node: usize, asked: Instant, answered: Instant) -> bool {
    if node == leader {
        return answered <= ended;
    }
    let told = |p: &&Ping| p.from.0 == node && p.to == leader && p.heard <= ended;
    let before = c.pings.iter().filter(told).filter(|p| p.sent <= asked).map(|p| p.from.1).next_back();
    let mut since =
        c.pings.iter().filter(told).filter(|p| Some(p.from.1) == before && p.sent > answered.plus_ms(TELLING_MS)).map(|p| p.sent);
    since.next().is_some_and(|first| since.any(|next| next > first))
}

/// What is fired for watches that were set at another server, up to this zxid; the others go on.
fn replay(state: &State, since: i64, [data, exist, child]: [&Vec<String>; 3], watching: &mut Watching) -> Vec<(i64, i32, String)> {
    let mut fired = Vec::new();
    let mut decide = |path: &String, is_data: bool, kind: Option<i32>| match kind {
        Some(kind) => fired.push((-1, kind, path.clone())),
        None => watching.add(is_data, path, 1),
    };
    for path in data {
        decide(path, true, state.get(path).map_or(Some(model::DELETED), |n| (n.mzxid > since).then_some(model::CHANGED)));
    }
    for path in exist {
        decide(path, true, state.get(path).map(|_| model::CREATED));
    }
    for path in child {
        decide(path, false, state.get(path).map_or(Some(model::DELETED), |n| (n.pzxid > since).then_some(model::CHILDREN)));
    }
    fired
}

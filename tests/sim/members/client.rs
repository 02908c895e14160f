//! A client: asks at random, reads what it is told, and goes elsewhere when its connection is gone or nothing comes.

use crate::driver::{Frame, again, frame, new_session, put_create};
use crate::members::history::{Asked, Question, Requests, Story, Told};
use crate::members::timed::Timed;
use std::collections::BTreeMap;
use zoo::base::prng::Prng;
use zoo::base::{Instant, SessionId, Writer};
use zoo::proto::OpCode;
use zoo::proto::connect::{ConnectRequest, ConnectResponse};

const PATHS: [&str; 8] = ["/a", "/a/b", "/a/b/c", "/d", "/d/e", "/f", "/g", "/a/b/d"];
/// Under which sequences are made; it stays.
const SEQUENCES: &str = "/s";
/// Nobody waits for more answers.
const ASKED_MAX: usize = 12;
/// Without an answer for so long, it tries another server.
const PATIENCE_MS: u64 = 6_000;

/// What all clients of a run know together.
#[derive(Default)]
pub struct Records {
    pub requests: Requests,
    pub stories: Vec<Story>,
    /// The newest zxid any client has been shown.
    pub shown: i64,
    /// Sessions that clients were told are over.
    pub over: Vec<SessionId>,
    pub moves: u64,
    pub trace: u64,
}

/// A connection.
struct Place {
    node: usize,
    index: usize,
    /// Which life of that server.
    life: u32,
    /// Where its story is, once it is answered.
    story: Option<usize>,
    /// When something was last heard, or it began.
    heard: Instant,
}

pub struct Client {
    me: usize,
    session: Option<ConnectResponse>,
    at: Option<Place>,
    /// One it has given up, with what is still on its way there.
    left: Option<Place>,
    next_xid: i32,
    seen: i64,
    /// Watches of its last connection that may be set again: (of data, path).
    watches: BTreeMap<(bool, String), bool>,
    /// Answers to writes.
    pub written: u64,
    /// It asks nothing any more.
    pub is_quiet: bool,
}

impl Client {
    pub fn new(me: usize) -> Client {
        Client { me, session: None, at: None, left: None, next_xid: 1, seen: 0, watches: BTreeMap::new(), written: 0, is_quiet: false }
    }

    /// Its turn; it may connect to these servers.
    pub fn turn(&mut self, t: &mut Timed, r: &mut Records, prng: &mut Prng, servers: &[usize]) {
        self.leave_for_good(t, prng);
        let Some(place) = &self.at else { return self.connect(t, r, prng, servers) };
        let (node, index) = (place.node, place.index);
        if !servers.contains(&node) || !is_alive(t, place) {
            return self.lost();
        }
        self.listen(t, r);
        let Some(place) = &self.at else { return };
        let is_closed = t.c.world(node).clients[index].closed;
        if is_closed || t.c.now.since_ms(place.heard) > PATIENCE_MS {
            return self.walk_away(t, r, prng);
        }
        let Some(story) = place.story else { return };
        if r.stories[story].questions.is_empty() && !self.watches.is_empty() && prng.chance(1, 2) {
            return self.set_watches(t, r, story, (node, index));
        }
        let waiting = r.stories[story].questions.len() - r.stories[story].answers;
        match prng.below(40) {
            0 if !self.is_quiet => self.walk_away(t, r, prng),
            _ if waiting >= ASKED_MAX => {}
            _ if self.is_quiet && t.c.now.since_ms(place.heard) < 2_000 => {}
            _ if self.is_quiet => self.ping(t, r, story, (node, index)),
            _ => (0..1 + prng.below(3)).for_each(|_| self.ask(t, r, prng, story, (node, index))),
        }
    }

    /// Everything it has asked is answered.
    pub fn is_answered(&self, r: &Records) -> bool {
        self.at.as_ref().and_then(|place| place.story).is_some_and(|story| r.stories[story].questions.len() == r.stories[story].answers)
    }

    fn lost(&mut self) {
        self.at = None;
    }

    /// It goes elsewhere; what it has sent may still arrive where it was, late (A16).
    fn walk_away(&mut self, t: &mut Timed, r: &mut Records, prng: &mut Prng) {
        let Some(place) = self.at.take() else { return };
        r.moves += 1;
        if prng.chance(1, 2) && self.left.is_none() && !t.c.world(place.node).clients[place.index].closed {
            t.c.world(place.node).clients[place.index].neglected = true;
            self.left = Some(place);
        } else {
            t.c.world(place.node).hang_up(place.index);
            t.touch(place.node);
        }
    }

    fn leave_for_good(&mut self, t: &mut Timed, prng: &mut Prng) {
        let Some(place) = self.left.take_if(|_| prng.chance(1, 8)) else { return };
        if is_alive(t, &place) {
            let world = t.c.world(place.node);
            world.clients[place.index].neglected = false;
            if prng.chance(1, 2) {
                world.settle_but_disk();
            }
            world.hang_up(place.index);
            t.touch(place.node);
        }
    }

    fn connect(&mut self, t: &mut Timed, r: &Records, prng: &mut Prng, servers: &[usize]) {
        let up: Vec<usize> = servers.iter().copied().filter(|n| t.runs(*n)).collect();
        if up.is_empty() || r.stories.len() > 100_000 {
            return;
        }
        let node = up[prng.below(up.len() as u64) as usize];
        let life = t.c.nodes[node].lives;
        let world = t.c.world(node);
        let index = world.open(prng.below(world.shards.len() as u64) as usize);
        let request = ConnectRequest { last_zxid_seen: self.seen, ..self.session.as_ref().map_or_else(new_session, again) };
        let mut bytes = Vec::new();
        request.write_frame(&mut bytes);
        world.send(index, &bytes);
        t.touch(node);
        self.at = Some(Place { node, index, life, story: None, heard: t.c.now });
    }

    fn listen(&mut self, t: &mut Timed, r: &mut Records) {
        let Some(place) = &mut self.at else { return };
        for frame in t.c.world(place.node).take(place.index) {
            place.heard = t.c.now;
            r.trace = (r.trace ^ t.c.now.0 ^ fingerprint(&frame)).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(17);
            match frame {
                Frame::Connected(response) if response.session == SessionId::NONE => {
                    r.over.extend(self.session.take().map(|s| s.session));
                    self.watches.clear();
                    self.at = None;
                    return;
                }
                Frame::Connected(response) => {
                    place.story = Some(r.stories.len());
                    let session = response.session;
                    r.stories.push(Story {
                        client: self.me,
                        node: place.node,
                        session,
                        since: self.seen,
                        questions: Vec::new(),
                        answers: 0,
                        told: Vec::new(),
                    });
                    self.session = Some(response);
                }
                Frame::Event { zxid, kind, path } => {
                    self.watches.remove(&(kind != 4, path.clone()));
                    let story = place.story.expect("connected");
                    r.stories[story].told.push(Told::Event { zxid, kind, path });
                }
                Frame::Reply { xid, zxid, err, body } => {
                    let story = &mut r.stories[place.story.expect("connected")];
                    let question = story.questions.get_mut(story.answers).expect("an answer to a question");
                    story.answers += 1;
                    question.answered = Some(t.c.now);
                    match &question.asked {
                        Asked::Write => self.written += u64::from(err == 0),
                        Asked::Get { path, watch: true } if err == 0 => drop(self.watches.insert((true, path.clone()), true)),
                        Asked::Children { path, watch: true } if err == 0 => drop(self.watches.insert((false, path.clone()), true)),
                        _ => {}
                    }
                    (self.seen, r.shown) = (self.seen.max(zxid), r.shown.max(zxid));
                    story.told.push(Told::Reply { xid, zxid, err, body });
                }
            }
        }
    }

    // ---- questions

    fn ask(&mut self, t: &mut Timed, r: &mut Records, prng: &mut Prng, story: usize, to: (usize, usize)) {
        let path = PATHS[prng.below(PATHS.len() as u64) as usize].to_string();
        let version = if prng.chance(1, 3) { prng.below(3) as i32 } else { -1 };
        let watch = prng.chance(1, 4);
        let text = self.next_xid.to_string();
        let (op, asked, body) = match if self.next_xid == 1 { 99 } else { prng.below(25) } {
            99 => (OpCode::Create, Asked::Write, body(|b| put_create(b, SEQUENCES, "", 0))),
            0..4 => (OpCode::Create, Asked::Write, body(|b| put_create(b, &path, &text, [0, 0, 1][prng.below(3) as usize]))),
            4..6 => (OpCode::Create, Asked::Write, body(|b| put_create(b, "/s/n-", &text, 2 + prng.below(2) as i32))),
            6..8 => (OpCode::Delete, Asked::Write, body(|b| put_versioned(b, &path, None, version))),
            8..13 => (OpCode::SetData, Asked::Write, body(|b| put_versioned(b, &path, Some(&text), version))),
            13 => (OpCode::Multi, Asked::Write, body(|b| put_multi(b, &path, PATHS[prng.below(8) as usize], version, &text))),
            14..16 => (OpCode::Sync, Asked::Sync, body(|b| b.put_string(&path))),
            16..20 => (OpCode::GetData, Asked::Get { path: path.clone(), watch }, body(|b| put_watched(b, &path, watch))),
            20..22 => (OpCode::Exists, Asked::Exists { path: path.clone(), watch }, body(|b| put_watched(b, &path, watch))),
            22..24 => (OpCode::GetChildren, Asked::Children { path: path.clone(), watch }, body(|b| put_watched(b, &path, watch))),
            24 if prng.chance(1, 12) => (OpCode::CloseSession, Asked::Write, Vec::new()),
            _ => return self.ping(t, r, story, to),
        };
        let xid = self.next_xid;
        self.next_xid += 1;
        self.send(t, r, story, to, (xid, op), asked, &body);
    }

    /// Reads every node there may be, once it is connected.
    pub fn read_all(&mut self, t: &mut Timed, r: &mut Records) -> bool {
        let Some(Place { node, index, story: Some(story), .. }) = self.at else { return false };
        for path in PATHS.iter().copied().chain(["/", SEQUENCES]).map(str::to_string) {
            let watched = body(|b| put_watched(b, &path, false));
            for (op, asked) in [
                (OpCode::GetData, Asked::Get { path: path.clone(), watch: false }),
                (OpCode::GetChildren, Asked::Children { path: path.clone(), watch: false }),
            ] {
                let xid = self.next_xid;
                self.next_xid += 1;
                self.send(t, r, story, (node, index), (xid, op), asked, &watched);
            }
        }
        true
    }

    fn ping(&mut self, t: &mut Timed, r: &mut Records, story: usize, to: (usize, usize)) {
        self.send(t, r, story, to, (-2, OpCode::Ping), Asked::Ping, &[]);
    }

    /// Sets its watches anew, on a connection that has none of them yet.
    fn set_watches(&mut self, t: &mut Timed, r: &mut Records, story: usize, to: (usize, usize)) {
        let of = |data: bool| self.watches.keys().filter(|(is_data, _)| *is_data == data).map(|(_, path)| path.clone()).collect();
        let (since, data, child): (i64, Vec<String>, Vec<String>) = (self.seen, of(true), of(false));
        let lists = body(|b| {
            b.put_i64(since);
            for list in [&data, &Vec::new(), &child] {
                b.put_len(list.len());
                list.iter().for_each(|path| b.put_string(path));
            }
        });
        let asked = Asked::SetWatches { since, data, exist: Vec::new(), child };
        self.send(t, r, story, to, (-8, OpCode::SetWatches), asked, &lists);
    }

    #[allow(clippy::too_many_arguments)]
    fn send(
        &mut self,
        t: &mut Timed,
        r: &mut Records,
        story: usize,
        to: (usize, usize),
        (xid, op): (i32, OpCode),
        asked: Asked,
        body: &[u8],
    ) {
        let bytes = frame(xid, op as i32, |b| b.extend_from_slice(body));
        let story = &mut r.stories[story];
        if matches!(asked, Asked::Write) {
            let twice = r.requests.insert((story.session, xid), bytes[4..].to_vec());
            assert!(twice.is_none(), "a client numbers its requests");
        }
        story.questions.push(Question { xid, asked, floor: r.shown, at: t.c.now, answered: None });
        t.c.world(to.0).send(to.1, &bytes);
        t.touch(to.0);
    }
}

/// The server it is connected to has not been restarted since.
fn is_alive(t: &Timed, place: &Place) -> bool {
    t.c.nodes[place.node].world.is_some() && t.c.nodes[place.node].lives == place.life
}

fn fingerprint(frame: &Frame) -> u64 {
    match frame {
        Frame::Connected(response) => response.session.0 as u64,
        Frame::Event { zxid, kind, .. } => *zxid as u64 ^ (*kind as u64) << 60,
        Frame::Reply { xid, zxid, err, body } => *zxid as u64 ^ (*xid as u64) << 32 ^ (*err as u64) << 48 ^ (body.len() as u64) << 20,
    }
}

fn body(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}
fn put_versioned(b: &mut Vec<u8>, path: &str, data: Option<&str>, version: i32) {
    b.put_string(path);
    data.into_iter().for_each(|data| b.put_string(data));
    b.put_i32(version);
}
fn put_watched(b: &mut Vec<u8>, path: &str, watch: bool) {
    b.put_string(path);
    b.put_bool(watch);
}
fn put_multi(b: &mut Vec<u8>, path: &str, other: &str, version: i32, text: &str) {
    for (op, put) in [
        (OpCode::Create, &(|b: &mut Vec<u8>| put_create(b, other, "m", 0)) as &dyn Fn(&mut Vec<u8>)),
        (OpCode::Check, &|b| put_versioned(b, path, None, version)),
        (OpCode::SetData, &|b| put_versioned(b, path, Some(text), -1)),
    ] {
        b.put_i32(op as i32);
        b.put_bool(false);
        b.put_i32(-1);
        put(b);
    }
    b.put_i32(-1);
    b.put_bool(true);
    b.put_i32(-1);
}

//! Random clients over random interleavings of shards, replica and disk, compared with the sequential model: P4 to P12, A2 to A4, A8.

use crate::driver::{Frame, Setup, World, again, new_session};
use crate::model::{Model, Watching, children};
use proptest::prelude::*;
use zoo::base::prng::Prng;
use zoo::base::{ConnKey, Reader, ShardId, Writer, Xid};
use zoo::proto::OpCode;
use zoo::proto::connect::ConnectResponse;

const PATHS: [&str; 8] = ["/a", "/a/b", "/a/b/c", "/d", "/d/e", "/q", "/a/b/d", "/f"];

/// What a client asked, for judging the answer.
enum Asked {
    Write,
    Sync,
    Get { path: String, watch: bool },
    Exists { path: String, watch: bool },
    Children { path: String, watch: bool },
    AddWatch { path: String, mode: i32 },
    SetWatches { since: i64, data: Vec<String>, exist: Vec<String>, child: Vec<String> },
    Ping,
}

/// One connection's whole story.
struct Story {
    client: usize,
    session: Option<ConnectResponse>,
    asked: Vec<(i32, Asked, i64)>,
    frames: Vec<Frame>,
    ended: bool,
    /// The client has hung up or asked for the end: not everything need be answered.
    abandoned: bool,
}

struct Run {
    world: World,
    prng: Prng,
    stories: Vec<Story>,
    /// Sessions to come back to.
    loose: Vec<ConnectResponse>,
    /// The highest zxid any client has been shown.
    shown: i64,
    model: Model,
    /// What clients of earlier lives of the server have seen.
    past: Vec<(bool, Vec<Frame>)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut prng = Prng::new(seed);
        let mut setup = Setup { shards: 1 + prng.below(3) as usize, ..Setup::default() };
        if prng.chance(1, 3) {
            setup.inbox_len = 1 + prng.below(6) as usize;
        }
        if prng.chance(1, 3) {
            setup.inbox_bytes_max = 1 + prng.below(500) as usize;
        }
        if prng.chance(1, 2) {
            setup.shard.turn_cost_max = 1 + prng.below(20) as usize;
            setup.shard.listing_nodes_per_turn = 1 + prng.below(5) as usize;
        }
        if prng.chance(1, 3) {
            setup.shard.session_outstanding_max = 1 + prng.below(8) as usize;
        }
        if prng.chance(1, 4) {
            setup.replica.global_outstanding_limit = 1 + prng.below(5) as usize;
        }
        if prng.chance(1, 4) {
            setup.replica.snap_count = 10;
        }
        setup.replica.log.force_sync = !prng.chance(1, 8);
        let mut world = World::new(setup);
        world.look_before_applied = prng.chance(1, 4);
        world.disk.keeps = true;
        let model = Model::new(world.wall());
        Run { world, prng, stories: Vec::new(), loose: Vec::new(), shown: 0, model, past: Vec::new() }
    }

    fn path(&mut self) -> String {
        PATHS[self.prng.below(PATHS.len() as u64) as usize].to_string()
    }

    fn open(&mut self) {
        let shard = self.prng.below(self.world.shards.len() as u64) as usize;
        let client = self.world.open(shard);
        let request = match self.loose.pop() {
            Some(session) => again(&session),
            None => new_session(),
        };
        let mut bytes = Vec::new();
        request.write_frame(&mut bytes);
        self.world.send(client, &bytes);
        self.stories.push(Story { client, session: None, asked: Vec::new(), frames: Vec::new(), ended: false, abandoned: false });
        // Sockets are accepted at different times, as in life.
        self.world.now = self.world.now.plus_ms(1);
    }

    fn ask(&mut self, s: usize) {
        if self.stories[s].ended || self.stories[s].abandoned {
            return;
        }
        let client = self.stories[s].client;
        let (path, version) = (self.path(), if self.prng.chance(1, 3) { self.prng.below(3) as i32 } else { -1 });
        let watch = self.prng.chance(1, 3);
        let n = self.prng.next_u64();
        let w = &mut self.world;
        let (xid, asked) = match self.prng.below(24) {
            0..=4 => (w.create(client, &path, &n.to_string(), [0, 0, 0, 1, 2, 3][(n % 6) as usize]), Asked::Write),
            5..=6 => {
                let xid = w.request(client, OpCode::Delete, |b| {
                    b.put_string(&path);
                    b.put_i32(version);
                });
                (xid, Asked::Write)
            }
            7..=10 => {
                let xid = w.request(client, OpCode::SetData, |b| {
                    b.put_string(&path);
                    b.put_string(&n.to_string());
                    b.put_i32(version);
                });
                (xid, Asked::Write)
            }
            11 => (w.request(client, OpCode::Multi, |b| put_multi(b, &path, version, n)), Asked::Write),
            12 => (w.request(client, OpCode::Multi, |b| b.put_i32(99)), Asked::Write),
            13 => (w.request(client, OpCode::Sync, |b| b.put_string(&path)), Asked::Sync),
            14..=16 => (w.get(client, &path, watch), Asked::Get { path, watch }),
            17..=18 => (w.read(client, OpCode::Exists, &path, watch), Asked::Exists { path, watch }),
            19..=20 => (w.read(client, OpCode::GetChildren, &path, watch), Asked::Children { path, watch }),
            21 => {
                let mode = (n % 2) as i32;
                let xid = w.request(client, OpCode::AddWatch, |b| {
                    b.put_string(&path);
                    b.put_i32(mode);
                });
                (xid, Asked::AddWatch { path, mode })
            }
            22 => {
                let since = (n % (self.shown.max(0) as u64 + 1)) as i64;
                let lists = [vec![path.clone()], vec![PATHS[(n % 8) as usize].to_string()], vec![PATHS[(n / 8 % 8) as usize].to_string()]];
                w.request_as(client, -8, OpCode::SetWatches as i32, |b| {
                    b.put_i64(since);
                    for list in &lists {
                        b.put_len(list.len());
                        list.iter().for_each(|p| b.put_string(p));
                    }
                });
                let [data, exist, child] = lists;
                (-8, Asked::SetWatches { since, data, exist, child })
            }
            _ => {
                w.request_as(client, -2, OpCode::Ping as i32, |_| ());
                (-2, Asked::Ping)
            }
        };
        let floor = self.shown;
        self.stories[s].asked.push((xid, asked, floor));
    }

    fn step(&mut self) {
        let (clients, shards) = (self.world.clients.len() as u64, self.world.shards.len() as u64);
        let stories = self.stories.len() as u64;
        match self.prng.below(100) {
            0..=3 => self.open(),
            4..=39 if stories > 0 => {
                let s = self.prng.below(stories) as usize;
                if self.stories[s].session.is_some() {
                    for _ in 0..1 + self.prng.below(4) {
                        self.ask(s);
                    }
                }
            }
            40..=64 if clients > 0 => {
                let (client, bytes) = (self.prng.below(clients) as usize, 1 + self.prng.below(200) as usize);
                self.world.deliver(client, bytes);
            }
            65..=79 => {
                let max = 1 + self.prng.below(10) as usize;
                self.world.replica_step(max);
            }
            80..=89 => {
                self.world.disk_step();
            }
            90..=93 => {
                let shard = self.prng.below(shards) as usize;
                self.world.shard_step(shard);
            }
            94..=95 => {
                self.world.between_step();
            }
            96..=97 if shards > 1 => {
                let from = self.prng.below(shards);
                let to = ShardId(((from + 1 + self.prng.below(shards - 1)) % shards) as u16);
                self.world.give_away(from as usize, to, 1 + self.prng.below(3) as usize);
            }
            98 if stories > 0 => self.leave(),
            99 if self.prng.chance(1, 6) => self.crash(),
            _ => {}
        }
        self.listen();
    }

    /// A client hangs up (and its session is taken up again later) or closes its session.
    fn leave(&mut self) {
        let s = self.prng.below(self.stories.len() as u64) as usize;
        let story = &mut self.stories[s];
        if story.ended || story.abandoned {
            return;
        }
        let client = story.client;
        story.abandoned = true;
        match story.session.clone() {
            Some(_) if self.prng.chance(1, 3) => {
                self.world.request(client, OpCode::CloseSession, |_| ());
            }
            session => {
                self.loose.extend(session);
                // Sometimes the new connection comes while the server still has the old one.
                if self.prng.chance(1, 2) {
                    self.world.hang_up(client);
                }
            }
        }
    }

    /// The power fails in the middle of everything. What was shown to anybody is there afterwards (P2, P3), and with it nothing but what came
    /// before and, perhaps, some of what came next.
    fn crash(&mut self) {
        self.listen();
        let head = self.model.states.len() as i64 - 1;
        for story in &mut self.stories {
            story.ended = true;
            if !story.abandoned {
                self.loose.extend(story.session.take());
            }
        }
        self.stories.iter().for_each(|story| self.check_story(story, head));
        self.past.extend(self.stories.drain(..).map(|s| (s.ended, s.frames)));
        let prng = &mut self.prng;
        self.world.crash(|unflushed| if prng.chance(1, 2) { 0 } else { prng.below(unflushed as u64 + 1) as usize });
        let recovered = crate::driver::applied(&mut self.world).as_i64();
        assert!((self.shown..=head).contains(&recovered), "{recovered} of {head} is left, {} was shown", self.shown);
        self.model.crash(recovered as usize, self.world.wall());
        self.look_round();
    }

    /// Reads everything and compares it with the model.
    fn look_round(&mut self) {
        let (client, _) = self.world.connect(0);
        self.listen();
        let state = self.model.head().clone();
        for path in state.keys().filter(|path| !path.starts_with("/zookeeper")) {
            self.world.get(client, path, false);
            self.world.read(client, OpCode::GetChildren, path, false);
            self.world.settle();
            let asked = [Asked::Get { path: path.clone(), watch: false }, Asked::Children { path: path.clone(), watch: false }];
            for (asked, frame) in asked.iter().zip(self.world.take(client)) {
                let Frame::Reply { zxid, err, body, .. } = frame else { panic!("{frame:?}") };
                self.check_read(asked, &mut Watching::default(), zxid, err, &body, &[]);
            }
        }
        self.world.hang_up(client);
    }

    fn listen(&mut self) {
        for message in self.world.taken.drain(..) {
            self.model.take(&message);
        }
        for story in &mut self.stories {
            for frame in self.world.take(story.client) {
                match &frame {
                    Frame::Connected(response) => {
                        assert!(response.timeout_ms > 0, "no session was refused in this run");
                        story.session = Some(response.clone());
                        continue;
                    }
                    Frame::Reply { zxid, .. } => self.shown = self.shown.max(*zxid),
                    Frame::Event { .. } => {}
                }
                story.frames.push(frame);
            }
            story.ended |= self.world.clients[story.client].closed;
        }
    }

    fn check(&self) {
        let head = self.model.states.len() as i64 - 1;
        assert_eq!(self.world.replica.report(self.world.now).last_zxid.as_i64(), head, "every transaction is the model's");
        for story in &self.stories {
            self.check_story(story, head);
        }
    }

    /// Every frame a connection received, in order, against the model.
    fn check_story(&self, story: &Story, head: i64) {
        let client = &self.world.clients[story.client];
        let places = &client.places;
        let writes: Vec<i64> = story.asked.iter().filter(|a| matches!(a.1, Asked::Write)).map(|a| self.zxid_of(places, a.0)).collect();
        let (mut watching, mut at, mut last) = (Watching::default(), 0, 0);
        let mut events: Vec<(i64, i32, String)> = Vec::new();
        let (mut next, mut writes_done) = (0, 0);
        for frame in &story.frames {
            let Frame::Reply { xid, zxid, err, body } = frame else {
                if let Frame::Event { zxid, kind, path } = frame {
                    events.push((*zxid, *kind, path.clone()));
                }
                continue;
            };
            let Some((asked_xid, asked, floor)) = story.asked.get(next) else {
                assert!(story.abandoned, "a reply to nothing"); // the end of closeSession
                break;
            };
            next += 1;
            assert_eq!(xid, asked_xid, "replies leave in the order of the requests (P7)");
            assert!(*zxid >= last, "zxids never go back on a connection");
            assert!(zxid >= floor || matches!(asked, Asked::Write), "a read at {zxid} after {floor} was shown to somebody (promise 3)");
            last = *zxid;
            let replayed = events.iter().position(|e| e.0 == -1).unwrap_or(events.len());
            let replayed = events.split_off(replayed);
            self.check_events(&mut watching, &mut at, *zxid, std::mem::take(&mut events));
            if matches!(asked, Asked::Write) {
                let txn = &self.model.txns[*zxid as usize];
                assert!(is_by(txn, places, *xid), "zxid {zxid} is this request's: {:?}", txn.by);
                assert_eq!((txn.err, &txn.path), (*err, &created_path(txn, *err, body)), "at {zxid}");
                writes_done += 1;
            } else {
                // Between the write before it and the write behind it (A4).
                assert!(writes_done == 0 || *zxid >= writes[writes_done - 1]);
                assert!(writes.get(writes_done).is_none_or(|w| *w < 0 || zxid < w), "a read saw a later write of its session");
                self.check_read(asked, &mut watching, *zxid, *err, body, &replayed);
            }
        }
        if !story.ended {
            assert!(story.abandoned || next == story.asked.len(), "everything is answered");
            self.check_events(&mut watching, &mut at, head, events);
        }
    }

    /// zxid the model gave a request, or -1.
    fn zxid_of(&self, places: &[ConnKey], xid: i32) -> i64 {
        self.model.txns.iter().position(|t| is_by(t, places, xid)).map_or(-1, |z| z as i64)
    }

    /// The events received since the last reply are exactly those of the transactions up to `zxid` (P10).
    fn check_events(&self, watching: &mut Watching, at: &mut i64, zxid: i64, got: Vec<(i64, i32, String)>) {
        let mut want = Vec::new();
        while *at < zxid {
            *at += 1;
            let txn = &self.model.txns[*at as usize];
            want.extend(watching.fire(txn).into_iter().map(|(kind, path)| (*at, kind, path)));
        }
        // The order of one closeSession's deletions is not specified.
        let mut got = got;
        let closes = |z: &i64| self.model.txns[*z as usize].closes.is_some();
        for list in [&mut got, &mut want] {
            for run in list.chunk_by_mut(|a, b| a.0 == b.0) {
                if closes(&run[0].0) {
                    run.sort();
                }
            }
        }
        assert_eq!(got, want, "events up to {zxid}");
    }

    fn check_read(&self, asked: &Asked, watching: &mut Watching, zxid: i64, err: i32, body: &[u8], replayed: &[(i64, i32, String)]) {
        let state = &self.model.states[zxid as usize];
        let mut r = Reader::new(body);
        let want_err = |path: &String| if state.contains_key(path) { 0 } else { -101 };
        if !matches!(asked, Asked::SetWatches { .. }) {
            assert!(replayed.is_empty());
        }
        match asked {
            Asked::Get { path, watch } => {
                assert_eq!(err, want_err(path), "get {path} at {zxid}");
                if let Some(node) = state.get(path) {
                    assert_eq!(r.buffer().expect("data").unwrap_or(b""), node.data.as_bytes(), "get {path} at {zxid}");
                    let stat = zoo::base::Stat::read(&mut r).expect("stat");
                    assert_eq!((stat.version, stat.mzxid, stat.pzxid), (node.version, node.mzxid, node.pzxid));
                    if *watch {
                        watching.add(true, path, 1);
                    }
                }
            }
            Asked::Exists { path, watch } => {
                assert_eq!(err, want_err(path), "exists {path} at {zxid}");
                if *watch {
                    watching.add(true, path, 1);
                }
            }
            Asked::Children { path, watch } => {
                assert_eq!(err, want_err(path), "children of {path} at {zxid}");
                if err == 0 {
                    let names = r.string_vec().expect("names");
                    let mut got: Vec<&str> = names.iter().collect();
                    got.sort_unstable();
                    assert_eq!(got, children(state, path).collect::<Vec<_>>(), "children of {path} at {zxid}");
                    if *watch {
                        watching.add(false, path, 1);
                    }
                }
            }
            Asked::AddWatch { path, mode } => {
                assert_eq!(err, 0);
                watching.add(true, path, if *mode == 0 { 2 } else { 4 });
                if *mode == 0 {
                    watching.add(false, path, 2);
                }
            }
            Asked::SetWatches { since, data, exist, child } => {
                let mut want = Vec::new();
                for path in data {
                    match state.get(path) {
                        None => want.push((-1, 2, path.clone())),
                        Some(n) if n.mzxid > *since => want.push((-1, 3, path.clone())),
                        Some(_) => watching.add(true, path, 1),
                    }
                }
                for path in exist {
                    match state.get(path) {
                        None => watching.add(true, path, 1),
                        Some(_) => want.push((-1, 1, path.clone())),
                    }
                }
                for path in child {
                    match state.get(path) {
                        None => want.push((-1, 2, path.clone())),
                        Some(n) if n.pzxid > *since => want.push((-1, 4, path.clone())),
                        Some(_) => watching.add(false, path, 1),
                    }
                }
                assert_eq!(replayed, want);
            }
            Asked::Sync | Asked::Ping => assert_eq!(err, 0),
            Asked::Write => unreachable!("judged before"),
        }
    }
}

/// Was it asked for by the connection that had these places?
fn is_by(txn: &crate::model::Txn, places: &[ConnKey], xid: i32) -> bool {
    txn.by.is_some_and(|(place, by)| by == Xid(xid) && places.contains(&place))
}

/// The path in a successful create's reply; anything else leaves the model's word.
fn created_path(txn: &crate::model::Txn, err: i32, body: &[u8]) -> Option<String> {
    match &txn.path {
        Some(_) if err == 0 => Some(Reader::new(body).string().expect("path").to_string()),
        other => other.clone(),
    }
}

fn put_multi(b: &mut Vec<u8>, path: &str, version: i32, n: u64) {
    let header = |b: &mut Vec<u8>, op: OpCode| {
        b.put_i32(op as i32);
        b.put_bool(false);
        b.put_i32(-1);
    };
    header(b, OpCode::Create);
    crate::driver::put_create(b, PATHS[(n % 8) as usize], "m", (n % 2) as i32 * 2);
    header(b, OpCode::Check);
    b.put_string(path);
    b.put_i32(version);
    header(b, OpCode::SetData);
    b.put_string(path);
    b.put_string("multi");
    b.put_i32(-1);
    b.put_i32(-1);
    b.put_bool(true);
    b.put_i32(-1);
}

fn run(seed: u64) -> Vec<(bool, Vec<Frame>)> {
    let run = finished(seed);
    run.past.into_iter().chain(run.stories.into_iter().map(|s| (s.ended, s.frames))).collect()
}

fn finished(seed: u64) -> Run {
    let mut run = Run::new(seed);
    for _ in 0..3 {
        run.open();
    }
    for _ in 0..800 {
        run.step();
    }
    run.world.settle();
    run.listen();
    run.world.settle();
    run.listen();
    run.check();
    run
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..4 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

/// The histories above are not only of connections that stay.
#[test]
fn connections_move_in_random_histories() {
    let moves: usize = (0..16).map(|seed| finished(seed).world.moves).sum();
    assert!(moves > 50, "{moves} moves");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]
    #[test]
    fn any_interleaving_keeps_the_promises(seed in any::<u64>()) {
        run(seed);
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64)
}

//! Random histories: clients that write, read, move and are cut off, servers that die, restart, are separated and lag, in steps as small as one
//! message, one flush or one byte range; from one seed each. Every client checks what it is told.

use crate::cluster::{Cluster, SOON_MS};
use crate::driver::{Frame, Setup, again, data_of, new_session};
use std::collections::{BTreeMap, VecDeque};
use zoo::base::prng::Prng;
use zoo::base::{SessionId, Writer as _};
use zoo::proto::OpCode;
use zoo::proto::connect::{ConnectRequest, ConnectResponse};

const CLIENTS: usize = 5;
const STEPS: usize = 2500;

/// What a client awaits.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Asked {
    /// Wrote this number to its own node.
    Wrote(u64),
    /// Read the node of this client.
    Read(usize),
    Synced,
    /// Created or deleted the ephemeral node of its own.
    Flipped,
}

/// A client with a node of its own, `/<n>`, to which it writes ever larger numbers.
struct Actor {
    me: usize,
    session: Option<ConnectResponse>,
    /// Server and connection.
    at: Option<(usize, usize)>,
    /// Which life of that server.
    life: u32,
    is_ready: bool,
    awaited: VecDeque<(i32, Asked)>,
    sent: u64,
    acknowledged: u64,
    last_zxid: i64,
    /// The largest number it has seen of each client (P8).
    seen: BTreeMap<usize, u64>,
    answers: u64,
}

impl Actor {
    fn step(&mut self, c: &mut Cluster, rng: &mut Prng) {
        let Some((node, index)) = self.at else { return self.connect(c, rng) };
        if !self.is_alive(c, node) {
            return self.lost();
        }
        for frame in c.world(node).take(index) {
            self.received(&frame);
        }
        if self.at.is_none() || c.world(node).clients[index].closed {
            return self.lost();
        }
        if !self.is_ready || self.awaited.len() > 8 {
            return;
        }
        match rng.below(20) {
            0 => {
                c.world(node).hang_up(index);
                self.lost();
            }
            1..8 => {
                self.sent += 1;
                let (path, text) = (format!("/{}", self.me), self.sent.to_string());
                let xid = c.world(node).set(index, &path, &text);
                self.awaited.push_back((xid, Asked::Wrote(self.sent)));
            }
            8 => {
                let xid = c.world(node).request(index, OpCode::Sync, |b| b.put_string("/"));
                self.awaited.push_back((xid, Asked::Synced));
            }
            15 => {
                let path = format!("/e{}", self.me);
                let create = rng.below(3) > 0;
                let xid = if create { c.world(node).create(index, &path, "", 1) } else { c.world(node).delete(index, &path) };
                self.awaited.push_back((xid, Asked::Flipped));
            }
            9..15 => {
                let of = rng.below(CLIENTS as u64) as usize;
                let xid = c.world(node).get(index, &format!("/{of}"), false);
                self.awaited.push_back((xid, Asked::Read(of)));
            }
            _ => {}
        }
    }

    fn connect(&mut self, c: &mut Cluster, rng: &mut Prng) {
        let up = c.up();
        if up.is_empty() {
            return;
        }
        let node = up[rng.below(up.len() as u64) as usize];
        let shard = rng.below(c.world(node).shards.len() as u64) as usize;
        let index = c.world(node).open(shard);
        let request = ConnectRequest { last_zxid_seen: self.last_zxid, ..self.session.as_ref().map_or_else(new_session, again) };
        let mut bytes = Vec::new();
        request.write_frame(&mut bytes);
        let world = c.world(node);
        world.send(index, &bytes);
        // A client numbers its requests as long as it lives.
        world.clients[index].next_xid = self.awaited_base();
        (self.at, self.life, self.is_ready) = (Some((node, index)), c.nodes[node].lives, false);
    }

    /// The server it is connected to has not been restarted since.
    fn is_alive(&self, c: &Cluster, node: usize) -> bool {
        c.nodes[node].world.is_some() && c.nodes[node].lives == self.life
    }

    fn awaited_base(&self) -> i32 {
        (self.sent * 100 + self.answers) as i32 + 1
    }

    fn lost(&mut self) {
        (self.at, self.is_ready) = (None, false);
        self.awaited.clear();
    }

    fn received(&mut self, frame: &Frame) {
        match frame {
            Frame::Connected(response) if response.session == SessionId::NONE => {
                self.session = None;
                self.at = None;
            }
            Frame::Connected(response) => {
                self.session = Some(response.clone());
                self.is_ready = true;
            }
            Frame::Event { .. } => panic!("nothing is watched"),
            Frame::Reply { xid, zxid, err, .. } => {
                self.answers += 1;
                let (expected, asked) = self.awaited.pop_front().expect("an answer to a question");
                assert_eq!(expected, *xid, "answers come in the order of the questions (P7)");
                assert!(*zxid >= self.last_zxid, "{zxid:x} after {:x} (P8)", self.last_zxid);
                self.last_zxid = *zxid;
                match asked {
                    // The session may be ending, and whatever is behind it.
                    Asked::Wrote(_) if *err == -112 => {}
                    Asked::Wrote(number) => {
                        assert_eq!(*err, 0);
                        self.acknowledged = number;
                        self.seen.insert(self.me, number);
                    }
                    Asked::Read(of) => {
                        let number: u64 = data_of(frame).parse().expect("a number");
                        let before = self.seen.insert(of, number).unwrap_or(0);
                        assert!(number >= before, "client {} saw {before} and then {number} of {of} (P8)", self.me);
                    }
                    Asked::Synced => assert_eq!(*err, 0),
                    // There or not there already, or its session is ending.
                    Asked::Flipped => assert!([0, -110, -101, -112].contains(err), "{err}"),
                }
            }
        }
    }
}

struct Chaos {
    c: Cluster,
    rng: Prng,
    actors: Vec<Actor>,
}

impl Chaos {
    fn new(seed: u64) -> Chaos {
        let mut rng = Prng::new(seed);
        let mut setup = Setup { shards: 1 + rng.below(2) as usize, ..Setup::default() };
        setup.replica.seed = seed;
        setup.replica.snap_count = 30 + rng.below(200);
        setup.replica.log.segment_bytes = 4096 << rng.below(6);
        let mut c = Cluster::started(setup, 3, rng.below(2) as usize);
        let creator = c.connect(0);
        for n in 0..CLIENTS {
            c.ok(&creator, |w, i| w.create(i, &format!("/{n}"), "0", 0));
        }
        let actor = |me| Actor {
            me,
            session: None,
            at: None,
            life: 0,
            is_ready: false,
            awaited: VecDeque::new(),
            sent: 0,
            acknowledged: 0,
            last_zxid: 0,
            seen: BTreeMap::new(),
            answers: 0,
        };
        Chaos { c, rng, actors: (0..CLIENTS).map(actor).collect() }
    }

    fn step(&mut self) {
        let (c, rng) = (&mut self.c, &mut self.rng);
        let count = c.nodes.len() as u64;
        let n = rng.below(count) as usize;
        match rng.below(1000) {
            0..3 => c.kill(n),
            3..12 => {
                if c.nodes[n].world.is_none() {
                    c.start(n);
                }
            }
            12..14 => c.separate(&[n]),
            14..20 => c.heal(),
            20..23 => drop(c.deaf.insert(n)),
            23..40 => drop(c.deaf.remove(&n)),
            40..60 => c.settle(),
            60..190 => c.tick_by(10 + rng.below(60)),
            190..200 => c.move_some(n, rng.next_u64()),
            200..400 => {
                let actor = rng.below(CLIENTS as u64) as usize;
                self.actors[actor].step(c, rng);
            }
            400..700 => c.deliver_one(rng.next_u64()),
            _ => {
                if c.nodes[n].world.is_some() {
                    c.small_step(n, rng.next_u64());
                }
            }
        }
    }

    fn end(&mut self) {
        let c = &mut self.c;
        c.heal();
        c.deaf.clear();
        (0..c.nodes.len()).filter(|n| c.nodes[*n].world.is_none()).collect::<Vec<_>>().into_iter().for_each(|n| c.start(n));
        c.until_all_serve();
        let began = c.now;
        for actor in &mut self.actors {
            if actor.at.is_some_and(|(node, _)| !actor.is_alive(c, node)) {
                actor.lost();
            }
            // What was asked last is answered, or its connection is gone.
            while actor.at.is_some() && (!actor.awaited.is_empty() || !actor.is_ready) {
                assert!(c.now.since_ms(began) < SOON_MS, "client {} waits for {:?}", actor.me, actor.awaited);
                c.pass(100);
                let Some((node, index)) = actor.at else { break };
                for frame in c.world(node).take(index) {
                    actor.received(&frame);
                }
                if actor.at.is_some() && c.world(node).clients[index].closed {
                    actor.lost();
                }
            }
        }
        c.assert_same();
        for node in 0..c.nodes.len() {
            let reader = c.connect(node);
            for actor in &self.actors {
                let number: u64 = data_of(&c.ok(&reader, |w, i| w.get(i, &format!("/{}", actor.me), false))).parse().expect("a number");
                let (least, most) = (actor.acknowledged, actor.sent);
                assert!((least..=most).contains(&number), "{number} of {}: {least} was acknowledged, {most} sent (P3, P4)", actor.me);
            }
        }
    }
}

fn run(seed: u64) -> (u64, usize, Vec<(zoo::base::Zxid, u64)>) {
    let mut chaos = Chaos::new(seed);
    for _ in 0..STEPS {
        chaos.step();
    }
    chaos.end();
    let answers = chaos.actors.iter().map(|a| a.answers).sum();
    let states = (0..chaos.c.nodes.len()).map(|n| chaos.c.state(n)).collect();
    let moves = (0..chaos.c.nodes.len()).map(|n| chaos.c.world(n).moves).sum();
    (answers, moves, states)
}

/// PROPTEST_CASES overrides.
fn cases() -> u64 {
    number("PROPTEST_CASES").unwrap_or(64)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|n| n.parse().ok())
}

#[test]
fn whatever_happens_to_servers_and_links_clients_are_told_the_truth() {
    let (mut answers, mut moves) = (0, 0);
    let first = number("ZOO_FUZZ_SEED").unwrap_or(0);
    for seed in first..first + cases() {
        let told = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        (answers, moves) = (answers + told.0, moves + told.1);
    }
    assert!(answers > 50 * cases(), "it has to be about something: {answers} answers");
    assert!(cases() < 20 || moves > 10, "{moves} connections have moved between shards");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    assert_eq!(run(7), run(7));
}

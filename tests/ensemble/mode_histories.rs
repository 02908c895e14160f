//! Random histories of ensembles with local sessions, readers without a quorum and leaders that may take no clients: in small steps, with servers
//! that die, come back and are separated. Whatever happens, each connection is answered in order, and no session outlives its silence.

use super::cluster::{Cluster, SOON_MS};
use super::driver::{Frame, Setup, TICK_MS, TIMEOUT_MS, again, new_session};
use std::collections::VecDeque;
use zoo::base::prng::Prng;
use zoo::base::{SessionId, Writer as _};
use zoo::proto::OpCode;
use zoo::proto::connect::{ConnectRequest, ConnectResponse};
use zoo::replica::ClientModes;

const CLIENTS: usize = 6;
const STEPS: usize = 2500;
/// Nobody asks more at once.
const ASKED_MAX: usize = 6;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Asked {
    Write,
    Ephemeral,
    Other,
}

/// A connection, and what is awaited on it.
struct Place {
    node: usize,
    index: usize,
    life: u32,
    is_ready: bool,
    is_read_only: bool,
    awaited: VecDeque<(i32, Asked)>,
    zxid: i64,
}

struct Actor {
    me: usize,
    /// It says that it would do with reading.
    reads: bool,
    session: Option<ConnectResponse>,
    at: Option<Place>,
}

struct Chaos {
    c: Cluster,
    modes: ClientModes,
    rng: Prng,
    actors: Vec<Actor>,
    answers: u64,
    refusals: u64,
}

impl Actor {
    fn connect(&mut self, c: &mut Cluster, rng: &mut Prng) {
        let up = c.up();
        let Some(&node) = up.get(rng.below(up.len().max(1) as u64) as usize) else { return };
        let index = c.world(node).open(0);
        let request = ConnectRequest { read_only: self.reads, ..self.session.as_ref().map_or_else(new_session, again) };
        let mut bytes = Vec::new();
        request.write_frame(&mut bytes);
        c.world(node).send(index, &bytes);
        let life = c.nodes[node].lives;
        self.at = Some(Place { node, index, life, is_ready: false, is_read_only: false, awaited: VecDeque::new(), zxid: 0 });
    }

    fn ask(&mut self, c: &mut Cluster, rng: &mut Prng) {
        let Some(place) = self.at.as_mut().filter(|p| p.is_ready && p.awaited.len() < ASKED_MAX) else { return };
        let (world, i) = (c.world(place.node), place.index);
        let (path, ephemeral) = (format!("/p{}", self.me), format!("/e{}", self.me));
        let (xid, asked) = match rng.below(12) {
            0..3 => (world.set(i, &path, "x"), Asked::Write),
            3 => (world.create(i, &path, "", 0), Asked::Write),
            4 | 5 => (world.create(i, &ephemeral, "", 1), Asked::Ephemeral),
            6 => (world.delete(i, &ephemeral), Asked::Write),
            7 => (world.request(i, OpCode::Sync, |b| b.put_string("/")), Asked::Write),
            8 => (world.request(i, OpCode::GetEphemerals, |b| b.put_string("/")), Asked::Other),
            9 if rng.below(4) == 0 => (world.request(i, OpCode::CloseSession, |_| ()), Asked::Other),
            _ => (world.get(i, &path, false), Asked::Other),
        };
        place.awaited.push_back((xid, asked));
    }
}

impl Chaos {
    fn new(seed: u64) -> Chaos {
        let mut rng = Prng::new(seed);
        let modes = ClientModes {
            local_sessions: rng.below(4) > 0,
            upgrades: rng.below(3) > 0,
            leader_serves: rng.below(4) > 0,
            read_only_after_ms: Some(TICK_MS),
        };
        let mut setup = Setup::default();
        setup.replica.seed = seed;
        setup.replica.snap_count = 30 + rng.below(200);
        setup.replica.modes = modes.clone();
        let c = Cluster::started(setup, 3, rng.below(2) as usize);
        let actors = (0..CLIENTS).map(|me| Actor { me, reads: me % 2 == 0, session: None, at: None }).collect();
        Chaos { c, modes, rng, actors, answers: 0, refusals: 0 }
    }

    /// Takes in what a client has been sent.
    fn listen(&mut self, me: usize) {
        let (c, actor) = (&mut self.c, &mut self.actors[me]);
        let Some(place) = &mut actor.at else { return };
        if c.nodes[place.node].world.is_none() || c.nodes[place.node].lives != place.life {
            actor.at = None;
            return;
        }
        for frame in c.world(place.node).take(place.index) {
            match frame {
                Frame::Connected(response) => {
                    place.is_ready = response.session != SessionId::NONE;
                    place.is_read_only = response.read_only == Some(true);
                    assert!(actor.reads || !place.is_read_only, "it wants to write");
                    actor.session = Some(response).filter(|_| place.is_ready);
                }
                Frame::Event { .. } => panic!("nothing is watched"),
                Frame::Reply { xid, zxid, err, .. } => {
                    let (expected, asked) = place.awaited.pop_front().expect("an answer to a question");
                    assert_eq!(xid, expected, "answers come in the order of the questions (P7)");
                    assert!(zxid >= place.zxid, "{zxid:x} after {:x} (P8)", place.zxid);
                    place.zxid = zxid;
                    let refused = if place.is_read_only { -119 } else { -120 };
                    match (asked, err) {
                        (Asked::Write | Asked::Ephemeral, -119) => assert!(place.is_read_only),
                        (Asked::Write | Asked::Ephemeral, 0) if place.is_read_only => panic!("it had no quorum"),
                        (Asked::Ephemeral, -120) => assert!(self.modes.local_sessions && !self.modes.upgrades),
                        (_, 0 | -101 | -110 | -112) => {}
                        (asked, err) => panic!("{asked:?} is answered with {err}"),
                    }
                    self.answers += 1;
                    self.refusals += u64::from(err == refused);
                }
            }
        }
        if c.world(place.node).clients[place.index].closed {
            actor.at = None;
        }
    }

    fn act(&mut self) {
        let me = self.rng.below(CLIENTS as u64) as usize;
        self.listen(me);
        let (c, rng, actor) = (&mut self.c, &mut self.rng, &mut self.actors[me]);
        match &actor.at {
            None => actor.connect(c, rng),
            Some(place) if rng.below(25) == 0 => {
                c.world(place.node).hang_up(place.index);
                actor.at = None;
            }
            Some(_) => actor.ask(c, rng),
        }
    }

    fn step(&mut self) {
        let n = self.rng.below(self.c.nodes.len() as u64) as usize;
        let c = &mut self.c;
        match self.rng.below(1000) {
            0..4 => c.kill(n),
            4..10 => {
                if c.nodes[n].world.is_none() {
                    c.start(n);
                }
            }
            10..13 => c.separate(&[n]),
            13..18 => c.heal(),
            18..50 => c.settle(),
            50..200 => c.tick_by(10 + self.rng.below(60)),
            200..400 => self.act(),
            400..700 => c.deliver_one(self.rng.next_u64()),
            _ if c.nodes[n].world.is_some() => c.small_step(n, self.rng.next_u64()),
            _ => {}
        }
        self.readers_are_where_nobody_is_elected();
    }

    fn readers_are_where_nobody_is_elected(&self) {
        for n in self.c.up() {
            let report = self.c.report(n);
            assert!(!report.is_read_only || report.state == zoo::zab::ServerState::Looking && !report.is_serving, "{report:?}");
        }
    }

    fn end(&mut self) {
        self.c.heal();
        (0..self.c.nodes.len()).filter(|n| self.c.nodes[*n].world.is_none()).collect::<Vec<_>>().into_iter().for_each(|n| self.c.start(n));
        self.c.until_all_serve();
        let began = self.c.now;
        while (0..CLIENTS).any(|me| self.actors[me].at.as_ref().is_some_and(|p| !p.awaited.is_empty() || !p.is_ready)) {
            assert!(self.c.now.since_ms(began) < SOON_MS, "somebody waits for an answer");
            self.c.pass(100);
            (0..CLIENTS).for_each(|me| self.listen(me));
        }
        self.c.assert_same();
        let now = self.c.now;
        for n in self.c.up() {
            let report = self.c.world(n).replica.report(now);
            let local = report.local_sessions.unwrap_or_default();
            assert!(local.iter().all(|(id, ..)| report.sessions.iter().all(|(other, ..)| id != other)), "a session is of one kind");
        }
        // Nobody says anything any more.
        self.c.pass(TIMEOUT_MS as u64 + 3 * TICK_MS);
        let now = self.c.now;
        for n in self.c.up() {
            let report = self.c.world(n).replica.report(now);
            assert_eq!((report.local_session_count, report.sessions.len(), report.ephemerals.len()), (0, 0, 0), "at {n}");
        }
        self.c.assert_same();
    }
}

fn run(seed: u64) -> (u64, u64) {
    let mut chaos = Chaos::new(seed);
    for _ in 0..STEPS {
        chaos.step();
    }
    chaos.end();
    (chaos.answers, chaos.refusals)
}

/// PROPTEST_CASES and ZOO_FUZZ_SEED override.
#[test]
fn whatever_happens_answers_come_in_order_and_silent_sessions_of_either_kind_end() {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|n| n.parse::<u64>().ok());
    let (first, cases) = (number("ZOO_FUZZ_SEED").unwrap_or(0), number("PROPTEST_CASES").unwrap_or(64));
    let (mut answers, mut refusals) = (0, 0);
    for seed in first..first + cases {
        let told = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        (answers, refusals) = (answers + told.0, refusals + told.1);
    }
    println!("{answers} answers, {refusals} refusals in {cases} histories");
    assert!(answers > 20 * cases && refusals > cases / 8, "it has to be about something: {answers} answers, {refusals} refusals");
}

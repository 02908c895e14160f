//! Whole servers: shards, replica, log and tree of each, over simulated networks, disks and clocks, with clients that compare what they are told with
//! what was committed (P1 to P14). Faults by dice, as in `chaos`: each run turns most of them off and some far up.

pub mod client;
#[path = "../../ensemble/cluster.rs"]
pub mod cluster;
pub mod history;
#[path = "../../pipeline/model.rs"]
pub mod model;
pub mod timed;

use crate::driver::{Setup, TIMEOUT_MS};
use crate::totals::{Counts, Outcome};
use client::{Client, Records};
use cluster::{Cluster, FileBug, Files};
use history::History;
use std::collections::BTreeSet;
use timed::Timed;
use zoo::base::prng::Prng;
use zoo::base::{Instant, SessionId};
use zoo::zab::ServerState;

/// How long things go wrong, and how long they may take to become right again.
const CHAOS_MS: u64 = 120_000;
const HEALING_MS: u64 = 60_000;
/// What may go wrong: how often in a hundred strikes.
#[derive(Clone, Debug)]
struct Faults {
    strike_ms: u64,
    crash: u64,
    crash_all: u64,
    cut_way: u64,
    isolate: u64,
    bridge: u64,
    heal: u64,
    pause: u64,
    stall: u64,
    full: u64,
    wall: u64,
    wipe: u64,
    restore: u64,
    /// Heal only a quorum at first.
    leaves_some_broken: bool,
}

impl Faults {
    fn of(prng: &mut Prng) -> Faults {
        let mut sometimes = |one_in: u64, max: u64| if prng.chance(1, one_in) { 1 + prng.below(max) } else { 0 };
        Faults {
            strike_ms: 500 + sometimes(2, 3_000),
            crash: sometimes(2, 25),
            crash_all: sometimes(5, 5),
            cut_way: sometimes(3, 20),
            isolate: sometimes(3, 20),
            bridge: sometimes(5, 20),
            heal: 10 + sometimes(2, 40),
            pause: sometimes(3, 15),
            stall: sometimes(4, 10),
            full: sometimes(5, 10),
            wall: sometimes(4, 10),
            wipe: sometimes(4, 8),
            restore: sometimes(4, 8),
            leaves_some_broken: sometimes(2, 1) == 1,
        }
    }
}

#[cfg(feature = "planted-bugs")]
fn plant(bug: Option<MemberBug>, setup: &mut Setup) {
    setup.tree.forgets_an_ephemeral = bug == Some(MemberBug::ForgottenEphemeral);
}
#[cfg(not(feature = "planted-bugs"))]
fn plant(_: Option<MemberBug>, _: &mut Setup) {}

/// Something that is going to happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Client(usize),
    Strike,
    Start(usize),
    Unstall(usize),
}

struct Run {
    t: Timed,
    prng: Prng,
    faults: Faults,
    agenda: BTreeSet<(Instant, u64, Event)>,
    order: u64,
    clients: Vec<Client>,
    think_ms: u64,
    naps: bool,
    records: Records,
    /// Which servers clients go to.
    servers: Vec<usize>,
    voters: usize,
    wiped: Option<usize>,
    backups: Vec<Files>,
    counts: Counts,
    prints: bool,
    printed: usize,
}

/// What is wrong on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "planted-bugs"), allow(dead_code))]
pub enum MemberBug {
    Files(FileBug),
    /// L9: a session ends, and one of its ephemerals stays.
    ForgottenEphemeral,
}

/// One seed.
pub fn run(seed: u64, prints: bool) -> Outcome {
    run_with(seed, None, prints)
}

/// The same, with something wrong.
pub fn run_with(seed: u64, bug: Option<MemberBug>, prints: bool) -> Outcome {
    let mut run = Run::new(seed, bug, prints);
    run.begin();
    let end = run.t.c.now.plus_ms(CHAOS_MS);
    run.go_on(end);
    if run.faults.leaves_some_broken {
        run.heal_quorum();
    }
    run.heal();
    run.finish()
}

impl Run {
    fn new(seed: u64, bug: Option<MemberBug>, prints: bool) -> Run {
        let mut prng = Prng::new(seed ^ 0x3E3B_E125);
        let (voters, observers) = [(3, 0), (3, 0), (3, 1), (5, 0), (5, 1), (2, 0)][prng.below(6) as usize];
        let mut setup = Setup { shards: 1 + prng.below(2) as usize, ..Setup::default() };
        setup.replica.seed = seed;
        setup.replica.snap_count = 30 + prng.below(400);
        setup.replica.log.segment_bytes = 4096 << prng.below(6);
        plant(bug, &mut setup);
        let mut c = Cluster::new(setup, voters, observers);
        c.bug = bug.and_then(|bug| if let MemberBug::Files(bug) = bug { Some(bug) } else { None });
        let mut sometimes = |one_in: u64, max: u64| if prng.chance(1, one_in) { 1 + prng.below(max) } else { 0 };
        c.pace.packet_us = 300 + sometimes(2, 20_000) + sometimes(6, 150_000);
        c.pace.file_us = 500 + sometimes(2, 20_000) + sometimes(6, 500_000);
        let flush_us = 300 + sometimes(2, 10_000) + sometimes(6, 400_000);
        let flush_failures = sometimes(5, 4);
        let drifts = sometimes(3, 20);
        c.pace.prng = Prng::new(seed ^ 0x9ACE);
        c.pace.drift = (0..voters + observers).map(|_| prng.below(2 * drifts + 1) as i64 - drifts as i64).collect();
        let faults = Faults::of(&mut prng);
        if prints {
            println!(
                "{voters} voters, {observers} observers, packets {} us, files {} us, flushes {flush_us} us, {faults:#?}",
                c.pace.packet_us, c.pace.file_us
            );
        }
        let count = c.nodes.len();
        let mut t = Timed::new(c, seed, flush_us);
        t.flush_failures = flush_failures;
        let clients = 2 + prng.below(4) as usize;
        let think_ms = 20 + prng.below(600);
        Run {
            t,
            faults,
            agenda: BTreeSet::new(),
            order: 0,
            clients: (0..clients).map(Client::new).collect(),
            think_ms,
            naps: prng.chance(1, 2),
            records: Records::default(),
            servers: (0..count).collect(),
            voters,
            wiped: None,
            backups: vec![Files::default(); count],
            counts: Counts::new(),
            prints,
            printed: 0,
            prng,
        }
    }

    fn begin(&mut self) {
        for n in self.servers.clone() {
            let ms = self.prng.below(3_000);
            self.after(ms, Event::Start(n));
        }
        for client in 0..self.clients.len() {
            self.after(10, Event::Client(client));
        }
        self.after(self.faults.strike_ms, Event::Strike);
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.order += 1;
        let jitter = self.prng.below(1_000_000);
        self.agenda.insert((Instant(self.t.c.now.0 + ms * 1_000_000 + jitter), self.order, event));
    }

    fn count(&mut self, fault: &'static str, n: usize) {
        *self.counts.entry(fault).or_default() += 1;
        self.say(format_args!("{fault}: {n}"));
    }
    fn say(&self, what: std::fmt::Arguments<'_>) {
        if self.prints {
            println!("{:>9} ms {what}", self.t.c.now.as_ms());
        }
    }

    fn go_on(&mut self, end: Instant) {
        while let Some((at, _, event)) = self.agenda.pop_first() {
            if at > end {
                self.agenda.insert((at, 0, event));
                break;
            }
            self.t.run_until(at);
            self.notes();
            for n in std::mem::take(&mut self.t.failed) {
                self.count("flushes failed", n);
                self.after(500, Event::Start(n));
            }
            match event {
                Event::Client(which) => {
                    self.clients[which].turn(&mut self.t, &mut self.records, &mut self.prng, &self.servers);
                    // Some clients sleep for longer than their sessions live.
                    let naps = self.naps && self.prng.chance(1, 300);
                    let ms = self.prng.below(if naps { 2 * TIMEOUT_MS as u64 } else { 2 * self.think_ms });
                    self.after(ms, event);
                }
                Event::Strike => {
                    self.strike();
                    self.after(self.faults.strike_ms, Event::Strike);
                }
                Event::Start(n) => self.t.start(n),
                Event::Unstall(n) => self.t.stall(n, false),
            }
        }
        self.t.run_until(end);
        self.notes();
    }

    fn notes(&mut self) {
        let new = self.printed..self.t.c.notes.len();
        self.printed = new.end;
        for n in new.filter(|_| self.prints) {
            let (server, note) = &self.t.c.notes[n];
            self.say(format_args!("{server}: {note}"));
        }
    }

    // ---- faults

    fn strike(&mut self) {
        let count = self.servers.len();
        let n = self.prng.below(count as u64) as usize;
        let other = self.prng.below(count as u64) as usize;
        let f = self.faults.clone();
        self.settle_wipe();
        if self.hits(f.crash) {
            self.crash(n, 5_000);
        }
        if self.hits(f.crash_all) {
            self.count("power losses", count);
            (0..count).for_each(|n| self.crash(n, 500));
        }
        if self.hits(f.cut_way) && n != other {
            self.count("ways cut", n);
            self.t.c.apart.insert((n, other));
        }
        if self.hits(f.isolate) {
            self.count("isolations", n);
            self.t.c.separate(&[n]);
        }
        if self.hits(f.bridge) {
            // All but one are in two parts, and that one sees both.
            self.count("bridges", n);
            for a in (0..count).filter(|a| *a != n) {
                self.t.c.apart.extend((0..count).filter(|b| *b != n && a % 2 != b % 2).map(|b| (a, b)));
            }
        }
        if self.hits(f.heal) {
            self.t.c.heal();
        }
        if self.hits(f.pause) {
            self.count("pauses", n);
            let ms = self.prng.below(25_000);
            self.t.pause(n, ms);
        }
        if self.hits(f.stall) {
            self.count("disks stuck", n);
            self.t.stall(n, true);
            let ms = self.prng.below(20_000);
            self.after(ms, Event::Unstall(n));
        }
        if self.hits(f.full) {
            self.count("disks full", n);
            let full = &mut self.t.c.pace.full;
            let _ = full.remove(&n) || full.insert(n);
        }
        if self.hits(f.wall) {
            self.count("wall clocks changed", n);
            let ahead = self.prng.below(20_000_000) as i64 - 10_000_000;
            if let Some(world) = self.t.c.nodes[n].world.as_mut() {
                world.wall_ahead_ms = ahead;
            }
        }
        if self.hits(f.wipe) {
            self.wipe(n);
        }
        if self.hits(f.restore) {
            self.restore(n);
        }
    }

    fn hits(&mut self, percent: u64) -> bool {
        self.prng.chance(percent, 100)
    }

    fn crash(&mut self, n: usize, back_ms: u64) {
        self.count("crashes", n);
        self.t.crash(n);
        let ms = self.prng.below(back_ms);
        self.after(ms, Event::Start(n));
    }

    /// A wiped server that serves again has what it needs.
    fn settle_wipe(&mut self) {
        let c = &self.t.c;
        self.wiped = self.wiped.filter(|n| c.nodes[*n].world.is_none() || !c.report(*n).is_serving);
    }

    /// Its disk is new. One voter's at a time, and where the others can tell that there is an ensemble (L21).
    fn wipe(&mut self, n: usize) {
        let mut others = (0..self.voters).filter(|other| *other != n);
        if self.voters < 3 || self.wiped.is_some() || !others.all(|other| self.t.c.nodes[other].files.vouch()) {
            return;
        }
        self.count("disks wiped", n);
        self.t.crash(n);
        self.t.c.wipe(n);
        self.wiped = Some(n);
        let ms = self.prng.below(5_000);
        self.after(ms, Event::Start(n));
    }

    /// Its disk is as it was some time ago; everything it has acknowledged or promised since, all the others know.
    fn restore(&mut self, n: usize) {
        if self.prng.chance(1, 2) {
            self.t.crash(n);
            self.backups[n] = self.t.c.nodes[n].files.clone();
            self.count("disks copied", n);
        } else if self.backups[n].vouch() && self.is_known(n) {
            self.t.crash(n);
            let backup = self.backups[n].clone();
            self.t.c.nodes[n].files = backup;
            self.count("disks restored", n);
        }
        let ms = self.prng.below(2_000);
        self.after(ms, Event::Start(n));
    }

    fn is_known(&self, n: usize) -> bool {
        let c = &self.t.c;
        if self.voters < 3 || n >= self.voters || self.wiped.is_some() || c.nodes[n].world.is_none() {
            return false;
        }
        let (mine, newest) = (c.report(n), self.t.committed.keys().next_back());
        let knows = |other: usize| {
            c.nodes[other].world.is_some() && {
                let report = c.report(other);
                let files = &c.nodes[other].files;
                report.is_serving
                    && Some(&report.committed) >= newest
                    && report.committed >= mine.last_logged
                    && files.accepted_epoch >= c.nodes[n].files.accepted_epoch.max(mine.accepted_epoch)
                    && files.current_epoch >= c.nodes[n].files.current_epoch
            }
        };
        (0..self.voters).filter(|other| *other != n).all(knows)
    }

    // ---- healing

    /// No more faults for these.
    fn mend(&mut self, well: &[usize]) {
        self.agenda.retain(|(_, _, event)| matches!(event, Event::Client(_)));
        self.t.flush_failures = 0;
        self.t.c.pace.full.clear();
        self.t.resume_all();
        for n in well {
            self.t.stall(*n, false);
            self.t.start(*n);
        }
    }

    /// A quorum is well again, the rest stays cut off: everybody gets on there.
    fn heal_quorum(&mut self) {
        let vouching: Vec<usize> = (0..self.voters).filter(|n| self.t.c.nodes[*n].files.vouch()).collect();
        let mut rest = if vouching.is_empty() { (0..self.voters).collect() } else { vouching };
        let needed = self.voters / 2 + 1;
        if rest.len() < needed {
            return;
        }
        let well: Vec<usize> = (0..needed).map(|_| rest.swap_remove(self.prng.below(rest.len() as u64) as usize)).collect();
        self.t.c.heal();
        for n in (0..self.servers.len()).filter(|n| !well.contains(n)) {
            if self.prng.chance(1, 2) {
                self.t.crash(n);
            }
        }
        self.t.c.separate(&well);
        self.say(format_args!("{well:?} are well"));
        self.mend(&well);
        self.servers.clone_from(&well);
        self.until_all_get_on(&well);
        *self.counts.entry("quorums healed alone").or_default() += 1;
    }

    fn heal(&mut self) {
        self.servers = (0..self.t.c.nodes.len()).collect();
        self.t.c.heal();
        self.say(format_args!("all are well"));
        let all = self.servers.clone();
        self.mend(&all);
        self.until_all_get_on(&all);
    }

    /// These serve, and every client has written something.
    fn until_all_get_on(&mut self, servers: &[usize]) {
        let before: Vec<u64> = self.clients.iter().map(|c| c.written).collect();
        let end = self.t.c.now.plus_ms(HEALING_MS);
        loop {
            let serve = servers.iter().all(|n| self.t.c.report(*n).is_serving);
            if serve && self.clients.iter().zip(&before).all(|(client, before)| client.written > *before) {
                return;
            }
            let states: Vec<_> = servers.iter().map(|n| self.t.c.report(*n)).map(|r| (r.state, r.is_serving)).collect();
            let written: Vec<u64> = self.clients.iter().zip(&before).map(|(c, before)| c.written - before).collect();
            assert!(self.t.c.now < end, "{servers:?} do not get on: {states:?}, written {written:?} (P15)");
            let until = self.t.c.now.plus_ms(1_000);
            self.go_on(until);
        }
    }

    // ---- the end

    fn finish(mut self) -> Outcome {
        self.clients.iter_mut().for_each(|client| client.is_quiet = true);
        self.until_level();
        self.look_round();
        self.until_level();
        let c = &mut self.t.c;
        let states: Vec<_> = (0..c.nodes.len()).map(|n| c.state(n)).collect();
        assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "one history, several trees: {states:?} (P1)");
        c.note_logs();
        let history = History::new(&self.t.c.proposed, &self.t.committed, &self.records.requests);
        history.check_once();
        self.records.stories.iter().for_each(|story| history.check(story));
        let expired = history.check_expiry(&self.records.stories, &self.t.c, TIMEOUT_MS as u64);
        let lost: Vec<&SessionId> = self.records.over.iter().filter(|session| !history.closed.contains_key(session)).collect();
        assert!(lost.is_empty(), "{lost:?} are over, and nobody has ended them (P13)");
        self.outcome(&history, expired)
    }

    /// Everything asked is answered, and everybody has all of it.
    fn until_level(&mut self) {
        let end = self.t.c.now.plus_ms(HEALING_MS);
        while !self.clients.iter().all(|client| client.is_answered(&self.records)) || !self.is_level() {
            assert!(self.t.c.now < end, "somebody waits, or somebody is behind: {:?}", self.levels());
            let until = self.t.c.now.plus_ms(500);
            self.go_on(until);
        }
    }
    fn levels(&self) -> Vec<(ServerState, zoo::base::Zxid, zoo::base::Zxid)> {
        (0..self.t.c.nodes.len()).map(|n| self.t.c.report(n)).map(|r| (r.state, r.last_logged, r.committed)).collect()
    }
    fn is_level(&self) -> bool {
        let levels = self.levels();
        levels.iter().all(|(_, logged, committed)| logged == committed && *committed == levels[0].2)
    }

    /// Somebody reads everything at every server.
    fn look_round(&mut self) {
        for n in self.servers.clone() {
            let mut reader = Client::new(self.clients.len() + n);
            reader.is_quiet = true;
            let end = self.t.c.now.plus_ms(HEALING_MS);
            let mut has_asked = false;
            while !has_asked || !reader.is_answered(&self.records) {
                assert!(self.t.c.now < end, "nobody can read at {n}");
                reader.turn(&mut self.t, &mut self.records, &mut self.prng, &[n]);
                if !has_asked {
                    has_asked = reader.read_all(&mut self.t, &mut self.records);
                }
                let until = self.t.c.now.plus_ms(200);
                self.t.run_until(until);
            }
        }
    }

    fn outcome(self, history: &History, expired: u64) -> Outcome {
        let mut reached = Counts::new();
        for (_, opening) in &self.t.c.openings {
            *reached.entry(opening).or_default() += 1;
        }
        let epochs: BTreeSet<u32> = self.t.committed.keys().map(|zxid| zxid.epoch()).collect();
        let answers: usize = self.records.stories.iter().map(|s| s.told.len()).sum();
        reached.extend([
            ("epochs", epochs.len() as u64),
            ("transactions", self.t.c.proposed.len() as u64),
            ("answers and events", answers as u64),
            ("connections", self.records.stories.len() as u64),
            ("moves", self.records.moves),
            ("sessions", history.opened.len() as u64),
            ("sessions expired", expired),
        ]);
        let trace = self.t.trace ^ self.records.trace.rotate_left(7);
        Outcome { simulated_ns: self.t.c.now.as_ms().saturating_sub(1_000_000) * 1_000_000, trace, faults: self.counts, reached }
    }
}

//! Members of an ensemble in virtual time: what happens next happens next. Packets, flushes and work with files take as long as dice say; a server
//! that is paused does nothing, and then everything at once.

use crate::members::cluster::{Cluster, Work};
use std::collections::{BTreeMap, BTreeSet};
use zoo::base::prng::Prng;
use zoo::base::{Instant, Zxid};
use zoo::zab;

pub struct Timed {
    pub c: Cluster,
    pub prng: Prng,
    /// The longest a flush takes.
    pub flush_us: u64,
    /// Of a thousand flushes, so many fail.
    pub flush_failures: u64,
    paused: BTreeMap<usize, Instant>,
    flushes: BTreeMap<usize, Instant>,
    /// When each server wants to be called, as of the last time something happened to it.
    timers: Vec<Instant>,
    /// Servers with something to do now.
    touched: BTreeSet<usize>,
    /// Servers whose disk has failed.
    pub failed: Vec<usize>,
    /// When each transaction was first seen to be committed.
    pub committed: BTreeMap<Zxid, Instant>,
    pub trace: u64,
    /// Steps since time last went on.
    idle: usize,
}

const NEVER: Instant = Instant(u64::MAX);
/// Nothing takes so many steps while time stands still.
const STEPS_MAX: usize = 10_000;

impl Timed {
    pub fn new(c: Cluster, seed: u64, flush_us: u64) -> Timed {
        Timed {
            timers: vec![NEVER; c.nodes.len()],
            c,
            prng: Prng::new(seed ^ 0x71AE_D000),
            flush_us,
            flush_failures: 0,
            paused: BTreeMap::new(),
            flushes: BTreeMap::new(),
            touched: BTreeSet::new(),
            failed: Vec::new(),
            committed: BTreeMap::new(),
            trace: 0,
            idle: 0,
        }
    }

    /// Up and not paused.
    pub fn runs(&self, n: usize) -> bool {
        self.c.nodes[n].world.is_some() && !self.paused.contains_key(&n)
    }
    fn running(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.c.nodes.len()).filter(|n| self.runs(*n))
    }
    pub fn pause(&mut self, n: usize, ms: u64) {
        if self.c.nodes[n].world.is_some() {
            self.paused.insert(n, self.c.now.plus_ms(ms));
        }
    }
    pub fn resume_all(&mut self) {
        self.touched.extend(std::mem::take(&mut self.paused).into_keys());
    }
    pub fn start(&mut self, n: usize) {
        if self.c.nodes[n].world.is_none() {
            self.c.start(n);
            self.touched.insert(n);
        }
    }
    /// The power fails; of what was not flushed, some is left.
    pub fn crash(&mut self, n: usize) {
        self.look(n);
        self.paused.remove(&n);
        self.flushes.remove(&n);
        let prng = &mut self.prng;
        self.c.crash(n, |unflushed| if prng.chance(1, 2) { 0 } else { prng.below(unflushed as u64 + 1) as usize });
        self.touched.extend(0..self.c.nodes.len());
        self.touched.remove(&n);
    }
    /// Something was given to this server.
    pub fn touch(&mut self, n: usize) {
        self.touched.insert(n);
    }
    pub fn stall(&mut self, n: usize, stalls: bool) {
        if let Some(world) = self.c.nodes[n].world.as_mut() {
            world.disk.is_stalled = stalls;
            self.touched.insert(n);
        }
    }

    /// Goes on until this time.
    pub fn run_until(&mut self, end: Instant) {
        loop {
            let due = self.next_due();
            if due > end {
                break;
            }
            // Messages go to and fro, but not for ever.
            self.idle = if due > self.c.now { 0 } else { self.idle + 1 };
            assert!(self.idle < STEPS_MAX, "time stands still: {}", self.why());
            self.c.now = due.max(self.c.now);
            self.step();
        }
        self.c.now = end.max(self.c.now);
        self.set_clocks();
    }

    /// What is due.
    fn why(&self) -> String {
        let timers: Vec<_> = self
            .running()
            .filter_map(|n| Some((n, self.c.nodes[n].world.as_ref()?)))
            .map(|(n, w)| (n, self.c.clock(n), w.replica.poll_timeout(), w.shards[0].shard.poll_timeout()))
            .collect();
        let links: Vec<_> = self.c.links.iter().filter_map(|(end, link)| Some((end, link.incoming.front()?.0, link.installing))).collect();
        format!("{:?}, {timers:?}, {links:?}, touched {:?}, paused {:?}, flushes {:?}", self.c.now, self.touched, self.paused, self.flushes)
    }

    fn next_due(&self) -> Instant {
        if self.touched.iter().any(|n| self.runs(*n)) {
            return self.c.now;
        }
        let c = &self.c;
        let mut due = NEVER;
        for n in self.running() {
            let file = c.nodes[n].work.front().map(|(at, _)| *at);
            due = [Some(self.timers[n]), file, self.flushes.get(&n).copied()].into_iter().flatten().fold(due, Instant::min);
        }
        for ((n, _), link) in &c.links {
            let admits = || !link.installing && self.runs(*n) && c.admits(*n);
            if let Some((at, _)) = link.incoming.front()
                && *at < due
                && admits()
            {
                due = *at;
            }
        }
        let told = c.notifications.iter().filter(|(_, (_, to, _))| !self.paused.contains_key(to)).map(|(at, _)| *at);
        told.chain(self.paused.values().copied()).fold(due, Instant::min)
    }

    fn set_clocks(&mut self) {
        for n in 0..self.c.nodes.len() {
            if self.runs(n) {
                let now = self.c.clock(n);
                self.c.world(n).now = now;
            }
        }
    }

    /// Everything that is due.
    fn step(&mut self) {
        let now = self.c.now;
        let resumed: Vec<usize> = self.paused.iter().filter(|(_, until)| **until <= now).map(|(n, _)| *n).collect();
        for n in resumed {
            self.paused.remove(&n);
            self.touched.insert(n);
        }
        self.set_clocks();
        // Whoever has slept finds both, and may look at either first.
        if self.prng.chance(1, 2) {
            self.packets();
            self.clocks_and_disks();
        } else {
            self.clocks_and_disks();
            self.packets();
        }
        for n in std::mem::take(&mut self.touched) {
            if self.runs(n) {
                self.settle(n);
            } else if self.paused.contains_key(&n) {
                self.touched.insert(n);
            }
        }
    }

    fn clocks_and_disks(&mut self) {
        let now = self.c.now;
        for n in 0..self.c.nodes.len() {
            if !self.runs(n) {
                continue;
            }
            if self.timers[n] <= now {
                self.c.world(n).timers();
                self.touched.insert(n);
            }
            while let Some((_, work)) = self.c.nodes[n].work.pop_front_if(|(due, _)| *due <= now) {
                self.work(n, work);
            }
            if self.flushes.get(&n).is_some_and(|due| *due <= now) {
                self.flushes.remove(&n);
                self.touched.insert(n);
                if self.prng.chance(self.flush_failures, 1_000) {
                    // A log that cannot be written ends the process (L12).
                    self.failed.push(n);
                    self.crash(n);
                } else {
                    self.c.world(n).disk_step();
                }
            }
        }
    }

    fn work(&mut self, n: usize, work: Work) {
        self.c.finish(n, work);
        self.touched.insert(n);
    }

    fn packets(&mut self) {
        let now = self.c.now;
        let (due, later) =
            std::mem::take(&mut self.c.notifications).into_iter().partition(|(at, (_, to, _))| *at <= now && !self.paused.contains_key(to));
        self.c.notifications = later;
        for (_, (from, to, message)) in due {
            if self.c.reaches(from, to) {
                self.c.tell(to, zab::Input::Notification { from: crate::members::cluster::peer(from), message });
                self.touched.insert(to);
            }
        }
        let ready: Vec<_> =
            self.c.links.iter().filter(|(_, l)| l.incoming.front().is_some_and(|(at, _)| *at <= now)).map(|(end, _)| *end).collect();
        for end in ready.into_iter().filter(|end| self.runs(end.0)).collect::<Vec<_>>() {
            while self.c.deliver_on(end) {
                self.c.carry_out(end.0);
                self.touched.insert(end.0);
            }
        }
    }

    /// A server works until only time moves it.
    fn settle(&mut self, n: usize) {
        loop {
            self.c.world(n).settle_but_disk();
            if !self.c.carry_out(n) {
                break;
            }
        }
        self.look(n);
        self.trace = (self.trace ^ self.c.now.0 ^ n as u64).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(17);
        let world = self.c.world(n);
        world.taken.clear();
        let timer = world.shards.iter().filter_map(|s| s.shard.poll_timeout()).chain(world.replica.poll_timeout()).min();
        let is_busy = world.disk.has_work();
        // A deadline may be the last moment at which something is still in time, hence later than now.
        self.timers[n] = timer.map_or(NEVER, |at| self.c.when(n, at).max(Instant(self.c.now.0 + 1_000)));
        if is_busy && !self.flushes.contains_key(&n) {
            let due = Instant(self.c.now.0 + self.prng.below(self.flush_us * 1000 + 1));
            self.flushes.insert(n, due);
        }
    }

    /// Takes note of what a server has published.
    fn look(&mut self, n: usize) {
        let now = self.c.now;
        if let Some(world) = self.c.nodes[n].world.as_mut() {
            for zxid in world.published.drain(..) {
                self.committed.entry(zxid).or_insert(now);
            }
        }
    }
}

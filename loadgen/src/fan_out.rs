//! Watch fan-out: connections with watches on znodes that change; every change must reach each that watches exactly once.
//!
//! One round arms all watches, changes every znode once, and waits for the last event. CPU time is taken over the second half only,
//! from the threads' own run times, since a round is shorter than a clock tick.

use crate::connection::{Failure, Session, split_reply};
use crate::host;
use crate::measure::{Latencies, Metric};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::readiness::{EventFlags, Readiness, Ready};
use crate::target::Target;
use crate::workload::{write_add_watch, write_create_persistent, write_delete, write_read, write_set};
use clap::ValueEnum;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use zoo::base::{Reader, Xid};
use zoo::proto::{EventType, OpCode};

/// A round that takes longer has lost an event.
const ROUND_MAX: Duration = Duration::from_secs(60);
/// After the last event the server may still be tidying up; that belongs to the round.
const AFTER_ROUND: Duration = Duration::from_millis(3);
/// Sessions that wait for their turn are kept alive by a round at least this often.
const POLL: Duration = Duration::from_secs(1);
/// Changes without an answer.
const CHANGES_DEPTH: usize = 256;

/// Who watches what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Watching {
    /// Every connection has a data watch on every znode.
    Each,
    /// Every znode has a data watch of one connection.
    Share,
    /// Every connection has a persistent recursive watch above all of them.
    Recursive,
}

/// How wide and how often.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct FanOutOptions {
    pub watchers: usize,
    pub paths: usize,
    pub watching: Watching,
    pub rounds: usize,
    pub warmup_rounds: usize,
    pub value_size: usize,
    pub root: String,
    pub session_timeout: Duration,
}

impl FanOutOptions {
    /// One znode that all watch: what a server that knows nothing else can be asked, too.
    pub fn is_plain(&self) -> bool {
        self.paths == 1 && self.watching == Watching::Each
    }

    /// In words.
    pub fn describe(&self) -> String {
        let (watchers, paths) = (self.watchers, self.paths);
        let what = match self.watching {
            Watching::Each => format!("{watchers} connections with a data watch each on {paths} znodes"),
            Watching::Share => format!("{paths} znodes with a data watch of one of {watchers} connections each"),
            Watching::Recursive => format!("{watchers} connections with a persistent recursive watch each above {paths} znodes"),
        };
        format!("{what}; every znode changed once a round, {} rounds", self.rounds)
    }

    fn watches(&self, session: usize, path: usize) -> bool {
        self.watching != Watching::Share || path % self.watchers == session
    }

    fn dir(&self) -> String {
        format!("{}/fan-out", self.root)
    }

    fn paths(&self) -> Vec<String> {
        (0..self.paths).map(|n| format!("{}/w{n:05}", self.dir())).collect()
    }
}

/// Runs it.
pub fn run_fan_out(target: &Target, o: &FanOutOptions, progress: &Progress) -> Result<Outcome, Failure> {
    let mut writer = Session::connect(target.first(), o.session_timeout)?;
    writer.create_all(&o.dir())?;
    let paths = o.paths();
    each_path(&mut writer, &paths, |path, xid, out| write_create_persistent(out, xid, path, b""))?;
    progress.stage("connecting");
    let numbers = paths.iter().enumerate().map(|(at, path)| (path.as_str(), at)).collect();
    let mut fan = Fan { options: o, readiness: Readiness::new()?, sessions: Vec::new(), paths: &paths, numbers: &numbers };
    fan.connect(target)?;
    let (mut figures, started) = (Figures::default(), Instant::now());
    for round in 0..o.warmup_rounds + o.rounds {
        let figures = if round < o.warmup_rounds { &mut Figures::default() } else { &mut figures };
        if o.watching != Watching::Recursive || round == 0 {
            fan.arm()?;
        }
        fan.fire(&mut writer, target, figures)?;
        progress.at(round as f64, (o.warmup_rounds + o.rounds) as f64, figures.events.count());
    }
    for session in fan.sessions {
        session.close()?;
    }
    each_path(&mut writer, &paths, |path, xid, out| write_delete(out, xid, path))?;
    for path in [o.dir(), o.root.clone()] {
        // The root may hold another run's znodes; then it stays.
        writer.call(|out, xid| write_delete(out, xid, &path))?;
    }
    writer.close()?;
    Ok(figures.outcome(target.has_pids(), started.elapsed()))
}

/// Of each path; what is there already or gone already is fine.
fn each_path(session: &mut Session, paths: &[String], write: impl Fn(&str, Xid, &mut Vec<u8>)) -> Result<(), Failure> {
    session.pipeline(paths.len(), CHANGES_DEPTH, |i, xid, out| write(&paths[i], xid, out), |_, _| Ok(()))
}

#[derive(Default)]
struct Figures {
    events: Latencies,
    last_events: Latencies,
    server_cpu_ns: u64,
    own_cpu: Duration,
}

impl Figures {
    fn outcome(&self, with_cpu: bool, took: Duration) -> Outcome {
        let per_event = |ns: f64| ns / 1e3 / self.events.count() as f64;
        let mut metrics = vec![Metric::new("events", self.events.count() as f64, "")];
        metrics.extend(self.last_events.metrics("last event"));
        metrics.extend(self.events.metrics("event"));
        if with_cpu {
            metrics.push(Metric::new("server CPU", per_event(self.server_cpu_ns as f64), "µs/event"));
        }
        metrics.push(Metric::new("loadgen CPU", per_event(self.own_cpu.as_nanos() as f64), "µs/event"));
        Outcome::of_latencies(metrics, &self.events, took)
    }
}

struct Fan<'a> {
    options: &'a FanOutOptions,
    readiness: Readiness,
    sessions: Vec<Session>,
    paths: &'a [String],
    numbers: &'a HashMap<&'a str, usize>,
}

impl Fan<'_> {
    fn connect(&mut self, target: &Target) -> Result<(), Failure> {
        for at in 0..self.options.watchers {
            let session = Session::connect(target.of_connection(at), self.options.session_timeout)?;
            session.stream().set_nonblocking(true)?;
            self.readiness.add(session.stream(), at, EventFlags::IN)?;
            self.sessions.push(session);
        }
        Ok(())
    }

    /// Sets every watch and waits for all the answers.
    fn arm(&mut self) -> Result<(), Failure> {
        let (o, dir) = (self.options, self.options.dir());
        let mut expected = vec![0; self.sessions.len()];
        for (at, session) in self.sessions.iter_mut().enumerate() {
            if o.watching == Watching::Recursive {
                let xid = session.next_xid();
                write_add_watch(&mut session.output, xid, &dir, true);
                expected[at] = 1;
            } else {
                for (_, path) in self.paths.iter().enumerate().filter(|(path, _)| o.watches(at, *path)) {
                    let xid = session.next_xid();
                    write_read(&mut session.output, xid, OpCode::GetData, path, true);
                    expected[at] += 1;
                }
            }
        }
        self.wait_frames(&mut expected, |_, frame| {
            let (header, _) = split_reply(frame)?;
            if header.xid.0 > 0 && header.err == 0 { Ok(()) } else { Err(Failure::Mismatch(format!("{header:?} while watches were set"))) }
        })
    }

    /// Changes every znode and waits until each that watches has heard of it once.
    fn fire(&mut self, writer: &mut Session, target: &Target, figures: &mut Figures) -> Result<(), Failure> {
        let (o, paths, numbers) = (self.options, self.paths, self.numbers);
        let value = vec![b'v'; o.value_size];
        let mut expected: Vec<_> = (0..self.sessions.len()).map(|s| (0..paths.len()).filter(|p| o.watches(s, *p)).count()).collect();
        let mut heard = vec![false; self.sessions.len() * paths.len()];
        let cpu_before = target.thread_cpu_times();
        let (own_before, start) = (host::own_cpu_time(), Instant::now());
        let sent_ns: Vec<_> = paths.iter().map(|_| AtomicU64::new(0)).collect();
        let now_ns = || start.elapsed().as_nanos() as u64;
        let mut last = 0;
        thread::scope(|scope| {
            let changes = scope.spawn(|| {
                let write = |i: usize, xid, out: &mut Vec<u8>| {
                    sent_ns[i].store(now_ns(), Relaxed);
                    write_set(out, xid, &paths[i], &value);
                };
                let check = |i: usize, err| if err == 0 { Ok(()) } else { Err(Failure::Code(err, format!("setData {}", paths[i]))) };
                writer.pipeline(paths.len(), CHANGES_DEPTH, write, check)
            });
            let waited = self.wait_frames(&mut expected, |session, frame| {
                let at = event_path(frame, numbers)?;
                if !o.watches(session, at) || std::mem::replace(&mut heard[session * paths.len() + at], true) {
                    return Err(Failure::Mismatch(format!("connection {session} heard of {} once too often", paths[at])));
                }
                last = now_ns();
                figures.events.record(last.saturating_sub(sent_ns[at].load(Relaxed)));
                Ok(())
            });
            let changed = changes.join().map_err(|_| Failure::Mismatch("the thread of the changes panicked".to_owned()))?;
            waited.and(changed)
        })?;
        figures.own_cpu += host::own_cpu_time().saturating_sub(own_before);
        figures.last_events.record(last);
        if target.has_pids() {
            thread::sleep(AFTER_ROUND);
            figures.server_cpu_ns += host::cpu_between(&cpu_before, &target.thread_cpu_times());
        }
        Ok(())
    }

    /// So many frames from each session, in whatever order, and what it still has to say to it.
    fn wait_frames(&mut self, expected: &mut [usize], mut check: impl FnMut(usize, &[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut missing: usize = expected.iter().sum();
        for at in 0..self.sessions.len() {
            self.send(at)?;
        }
        let deadline = Instant::now() + ROUND_MAX;
        let mut ready = Ready::new();
        while missing > 0 {
            if Instant::now() > deadline {
                return Err(Failure::Mismatch(format!("{missing} answers or events are missing")));
            }
            self.readiness.wait(&mut ready, POLL)?;
            for (at, flags) in ready.iter() {
                if flags.contains(EventFlags::OUT) {
                    self.send(at)?;
                }
                let session = &mut self.sessions[at];
                session.receive()?;
                while let Some(frame) = session.input.next_frame()? {
                    expected[at] =
                        expected[at].checked_sub(1).ok_or_else(|| Failure::Mismatch("a connection got two answers to one".to_owned()))?;
                    check(at, frame)?;
                    missing -= 1;
                }
            }
        }
        Ok(())
    }

    /// Sends what the socket takes, and has the kernel tell when it takes the rest.
    fn send(&mut self, at: usize) -> Result<(), Failure> {
        let session = &mut self.sessions[at];
        if session.output.is_empty() {
            return Ok(());
        }
        let flags = if session.flush()? { EventFlags::IN } else { EventFlags::IN | EventFlags::OUT };
        Ok(self.readiness.change(session.stream(), at, flags)?)
    }
}

/// The number of the znode whose change a frame tells.
fn event_path(frame: &[u8], numbers: &HashMap<&str, usize>) -> Result<usize, Failure> {
    let (header, body) = split_reply(frame)?;
    let mut r = Reader::new(body);
    let (kind, _state, path) = (r.i32()?, r.i32()?, r.string()?);
    match numbers.get(path) {
        Some(at) if header.xid == Xid::NOTIFICATION && kind == EventType::NodeDataChanged as i32 => Ok(*at),
        _ => Err(Failure::Mismatch(format!("event {kind} for {path:?} in {header:?}"))),
    }
}

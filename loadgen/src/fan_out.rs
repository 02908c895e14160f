//! Watch fan-out: many connections with one data watch each on one znode; every change must reach each of them exactly once.
//!
//! One round arms all watches, changes the znode, and waits for the last event. CPU time is taken over the second half only,
//! from the threads' own run times, since a round is shorter than a clock tick.

use crate::connection::{Failure, Session, split_reply};
use crate::host;
use crate::measure::{Latencies, Metric};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::target::Target;
use crate::workload::{write_delete, write_read, write_set};
use rustix::event::epoll;
use rustix::time::Timespec;
use std::thread;
use std::time::{Duration, Instant};
use zoo::base::{Reader, Xid};
use zoo::proto::{EventType, OpCode};

/// A round that takes longer has lost an event.
const ROUND_MAX: Duration = Duration::from_secs(30);
/// After the last event the server may still be tidying up; that belongs to the round.
const AFTER_ROUND: Duration = Duration::from_millis(3);
/// Sessions that wait for their turn are kept alive by a round at least this often.
const POLL: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 256;

/// How wide and how often.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct FanOutOptions {
    pub watchers: usize,
    pub rounds: usize,
    pub warmup_rounds: usize,
    pub value_size: usize,
    pub root: String,
    pub session_timeout: Duration,
}

/// Runs it.
pub fn run_fan_out(target: &Target, o: &FanOutOptions, progress: &Progress) -> Result<Outcome, Failure> {
    let mut writer = Session::connect(target.first(), o.session_timeout)?;
    writer.create_all(&o.root)?;
    let path = format!("{}/fan-out", o.root);
    writer.create_if_absent(&path, b"")?;
    progress.stage("connecting");
    let mut fan = Fan::connect(target, o, path)?;
    let mut figures = Figures::default();
    for round in 0..o.warmup_rounds + o.rounds {
        let figures = if round < o.warmup_rounds { &mut Figures::default() } else { &mut figures };
        fan.arm()?;
        fan.fire(&mut writer, &vec![b'v'; o.value_size], target, figures)?;
        progress.at(round as f64, (o.warmup_rounds + o.rounds) as f64, figures.events.count());
    }
    for session in fan.sessions {
        session.close()?;
    }
    for path in [fan.path, o.root.clone()] {
        // The root may hold another run's znodes; then it stays.
        writer.call(|out, xid| write_delete(out, xid, &path))?;
    }
    writer.close()?;
    Ok(figures.outcome(target.has_pids()))
}

#[derive(Default)]
struct Figures {
    events: Latencies,
    last_events: Latencies,
    server_cpu_ns: u64,
    own_cpu: Duration,
}

impl Figures {
    fn outcome(&self, with_cpu: bool) -> Outcome {
        let per_event = |ns: f64| ns / 1e3 / self.events.count() as f64;
        let mut metrics = vec![Metric::new("events", self.events.count() as f64, "")];
        metrics.extend(self.last_events.metrics("last event"));
        metrics.extend(self.events.metrics("event"));
        if with_cpu {
            metrics.push(Metric::new("server CPU", per_event(self.server_cpu_ns as f64), "µs/event"));
        }
        metrics.push(Metric::new("loadgen CPU", per_event(self.own_cpu.as_nanos() as f64), "µs/event"));
        Outcome { metrics, ..Outcome::default() }
    }
}

struct Fan {
    epoll: rustix::fd::OwnedFd,
    sessions: Vec<Session>,
    path: String,
}

impl Fan {
    fn connect(target: &Target, o: &FanOutOptions, path: String) -> Result<Self, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let mut sessions = Vec::with_capacity(o.watchers);
        for at in 0..o.watchers {
            let session = Session::connect(target.of_connection(at), o.session_timeout)?;
            session.stream().set_nonblocking(true)?;
            epoll::add(&epoll, session.stream(), epoll::EventData::new_u64(at as u64), epoll::EventFlags::IN)
                .map_err(std::io::Error::from)?;
            sessions.push(session);
        }
        Ok(Fan { epoll, sessions, path })
    }

    /// Sets every watch and waits for all the answers.
    fn arm(&mut self) -> Result<(), Failure> {
        let mut xids = Vec::with_capacity(self.sessions.len());
        for session in &mut self.sessions {
            let xid = session.next_xid();
            write_read(&mut session.output, xid, OpCode::GetData, &self.path, true);
            session.flush()?;
            xids.push(xid);
        }
        self.wait_each(|at, frame| {
            let (header, _) = split_reply(frame)?;
            if header.xid == xids[at] && header.err == 0 {
                Ok(())
            } else {
                Err(Failure::Mismatch(format!("{header:?} to getData with a watch")))
            }
        })
    }

    /// Changes the znode and waits for the event on every connection.
    fn fire(&mut self, writer: &mut Session, value: &[u8], target: &Target, figures: &mut Figures) -> Result<(), Failure> {
        let path = self.path.clone();
        let cpu_before = target.thread_cpu_times();
        let (own_before, start) = (host::own_cpu_time(), Instant::now());
        let xid = writer.next_xid();
        write_set(&mut writer.output, xid, &path, value);
        writer.flush()?;
        let mut last = Duration::ZERO;
        self.wait_each(|_, frame| {
            last = start.elapsed();
            figures.events.record(last.as_nanos() as u64);
            check_event(frame, &path)
        })?;
        figures.own_cpu += host::own_cpu_time().saturating_sub(own_before);
        figures.last_events.record(last.as_nanos() as u64);
        let (header, _) = split_reply(writer.wait_frame()?)?;
        if header.xid != xid || header.err != 0 {
            return Err(Failure::Mismatch(format!("{header:?} to setData")));
        }
        if target.has_pids() {
            thread::sleep(AFTER_ROUND);
            figures.server_cpu_ns += host::cpu_between(&cpu_before, &target.thread_cpu_times());
        }
        Ok(())
    }

    /// Exactly one frame from each session, in whatever order.
    fn wait_each(&mut self, mut check: impl FnMut(usize, &[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let (deadline, mut seen, mut missing) = (Instant::now() + ROUND_MAX, vec![false; self.sessions.len()], self.sessions.len());
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; EVENTS_MAX];
        while missing > 0 {
            if Instant::now() > deadline {
                return Err(Failure::Mismatch(format!("{missing} of {} connections got nothing", self.sessions.len())));
            }
            let n = match epoll::wait(&self.epoll, &mut events[..], Some(&POLL)) {
                Ok(n) => n,
                Err(rustix::io::Errno::INTR) => 0,
                Err(e) => return Err(std::io::Error::from(e).into()),
            };
            for event in &events[..n] {
                let data = event.data;
                let at = data.u64() as usize;
                let session = &mut self.sessions[at];
                session.receive()?;
                while let Some(frame) = session.input.next_frame()? {
                    if std::mem::replace(&mut seen[at], true) {
                        return Err(Failure::Mismatch("a connection got two answers to one".to_owned()));
                    }
                    check(at, frame)?;
                    missing -= 1;
                }
            }
        }
        Ok(())
    }
}

fn check_event(frame: &[u8], want_path: &str) -> Result<(), Failure> {
    let (header, body) = split_reply(frame)?;
    let mut r = Reader::new(body);
    let (kind, _state, path) = (r.i32()?, r.i32()?, r.string()?);
    if header.xid == Xid::NOTIFICATION && kind == EventType::NodeDataChanged as i32 && path == want_path {
        Ok(())
    } else {
        Err(Failure::Mismatch(format!("event {kind} for {path:?} in {header:?}")))
    }
}

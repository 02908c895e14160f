//! The lean loop: each worker thread drives its share of the connections through one epoll instance. One wake-up of a
//! connection is one receive, a check of every reply in it, and one send of whatever they made room for.
//!
//! Invariants: a closed loop never has more than its depth outstanding; an open loop's latencies begin at the *scheduled*
//! time; replies come in the order of requests, with zxids that never go back.

mod reconnect;

use crate::connection::{Failure, Session, split_reply};
use crate::disturbance::Phase;
use crate::intervals::Intervals;
use crate::measure::Latencies;
use crate::readiness::{EventFlags, Readiness, Ready};
use crate::schedule::{Arrivals, SECOND_NS, Spacing, Window};
use crate::tally::Tally;
use crate::target::Target;
use crate::workload::{Issued, OpKind, Requests, Verdict, Workload, begin_request};
use reconnect::Link;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};
use zoo::base::Xid;
use zoo::proto::OpCode;

/// Longest sleep of a worker, so that it notices the end of the run.
const SLEEP_NS_MAX: u64 = 50_000_000;
/// Requests outstanding on one connection of an open loop; beyond it the schedule waits, and the wait counts as latency.
const OPEN_OUTSTANDING_MAX: usize = 1_000;
/// An idle connection pings this often: well below the shortest session timeout asked for.
const PING_NS: u64 = 3 * SECOND_NS;

/// How requests are paced.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// Each connection keeps this many outstanding.
    Closed {
        /// Requests in flight per connection.
        in_flight: usize,
        /// Of an open loop, should one be made of it.
        spacing: Spacing,
    },
    /// This many requests a second in all, whatever the server does.
    Open {
        /// Requests a second.
        rate: f64,
        /// Their spacing.
        spacing: Spacing,
    },
}

/// One run of load.
#[derive(Debug)]
pub struct Plan {
    /// Where to connect.
    pub target: Target,
    /// What to ask.
    pub workload: Arc<Workload>,
    /// Sessions.
    pub connections: usize,
    /// Worker threads.
    pub threads: usize,
    /// Closed or open.
    pub pace: Pace,
    /// Warm-up, measuring, draining.
    pub window: Window,
    /// Of every random choice.
    pub seed: u64,
    /// Asked of the server.
    pub session_timeout: Duration,
    /// While it is set, replies count as answered during a snapshot.
    pub snapshot_running: Option<Arc<AtomicBool>>,
    /// A connection that breaks goes to the next server; otherwise it ends the run.
    pub reconnect: bool,
}

/// What the threads of a run share.
#[derive(Debug)]
pub struct Shared {
    /// Replies so far.
    pub replies: AtomicU64,
    /// Set by the first failure: everyone ends.
    pub stop: AtomicBool,
    /// Workers connect, then meet here twice: before and after the origin of time is set.
    pub barrier: Barrier,
    /// The run's start.
    pub origin: OnceLock<Instant>,
    /// Of a disturbance.
    pub phase: Phase,
}

/// Body of worker thread `index`: connects, waits for the others, runs, and closes its sessions.
pub fn run_worker(plan: &Plan, shared: &Shared, index: usize) -> Tally {
    let mut worker = Worker::connect(plan, shared, index);
    if let Err(e) = &worker {
        shared.stop.store(true, Relaxed);
        shared.barrier.wait();
        shared.barrier.wait();
        return Tally { failure: Some(format!("cannot connect: {e}")), ..Tally::default() };
    }
    shared.barrier.wait();
    shared.barrier.wait();
    match &mut worker {
        Ok(worker) => worker.run_to_end(),
        Err(_) => unreachable!("returned above"),
    }
}

/// A request whose reply is awaited.
#[derive(Debug)]
struct Pending {
    xid: Xid,
    /// When it was sent (closed loop) or should have been (open loop).
    at_ns: u64,
    /// `None` for a ping.
    issued: Option<Issued>,
}

#[derive(Debug)]
struct Conn {
    session: Session,
    requests: Requests,
    pending: VecDeque<Pending>,
    last_zxid: i64,
    last_sent_ns: u64,
    last_heard_ns: u64,
    /// The socket was full: waiting for it to drain.
    blocked: bool,
    /// Has unsent requests and is in the worker's list of such.
    dirty: bool,
    link: Link,
}

impl Conn {
    fn issue(&mut self, at_ns: u64) {
        let xid = self.session.next_xid();
        let issued = self.requests.write_next(xid, &mut self.session.output);
        self.pending.push_back(Pending { xid, at_ns, issued: Some(issued) });
    }

    fn issue_many(&mut self, n: usize, at_ns: u64) {
        for _ in 0..n {
            self.issue(at_ns);
        }
    }

    fn issue_ping(&mut self, at_ns: u64) {
        begin_request(&mut self.session.output, Xid::PING, OpCode::Ping).finish(&mut self.session.output);
        self.pending.push_back(Pending { xid: Xid::PING, at_ns, issued: None });
    }
}

struct Worker<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    readiness: Readiness,
    conns: Vec<Conn>,
    arrivals: Option<Arrivals>,
    next_conn: usize,
    dirty: Vec<usize>,
    next_ping_check_ns: u64,
    /// Connections that are not up.
    down: usize,
    tally: Tally,
    by_kind: [Option<Box<Latencies>>; OpKind::ALL.len()],
}

impl<'a> Worker<'a> {
    fn connect(plan: &'a Plan, shared: &'a Shared, index: usize) -> Result<Self, Failure> {
        let readiness = Readiness::new()?;
        let mut conns = Vec::new();
        for global in (index..plan.connections).step_by(plan.threads) {
            let session = Session::connect(plan.target.of_connection(global), plan.session_timeout)?;
            session.stream().set_nonblocking(true)?;
            readiness.add(session.stream(), conns.len(), EventFlags::IN)?;
            conns.push(Conn {
                session,
                requests: Requests::new(Arc::clone(&plan.workload), plan.seed, global),
                pending: VecDeque::new(),
                last_zxid: i64::MIN,
                last_sent_ns: 0,
                last_heard_ns: 0,
                blocked: false,
                dirty: false,
                link: Link::of_connection(global),
            });
        }
        let arrivals = match plan.pace {
            Pace::Closed { .. } => None,
            Pace::Open { rate, spacing } => Some(Arrivals::new(rate, plan.threads, index, spacing, plan.seed)),
        };
        // Timers of an open loop are short: let the kernel not round them up by its usual 50 µs.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        Ok(Worker {
            plan,
            shared,
            readiness,
            conns,
            arrivals,
            next_conn: 0,
            dirty: Vec::new(),
            next_ping_check_ns: PING_NS,
            down: 0,
            tally: Tally { intervals: Intervals::of(plan.window), ..Tally::default() },
            by_kind: Default::default(),
        })
    }

    fn now_ns(&self) -> u64 {
        self.shared.origin.get().map_or(0, |origin| origin.elapsed().as_nanos() as u64)
    }

    fn run_to_end(&mut self) -> Tally {
        if !self.conns.is_empty()
            && let Err(e) = self.run()
        {
            self.shared.stop.store(true, Relaxed);
            self.tally.failure = Some(e.to_string());
        }
        let mut tally = std::mem::take(&mut self.tally);
        for (kind, latencies) in OpKind::ALL.iter().zip(&mut self.by_kind) {
            if let Some(latencies) = latencies.take() {
                tally.latencies.insert(kind.name(), *latencies);
            }
        }
        for mut conn in self.conns.drain(..) {
            tally.left_over.extend(conn.requests.left_over());
            if conn.pending.is_empty() && conn.link.is_up() {
                // A session that cannot be closed ends by its timeout; what was measured stays valid.
                let _ = conn.session.close();
            }
        }
        tally
    }

    fn run(&mut self) -> Result<(), Failure> {
        let window = self.plan.window;
        if let Pace::Closed { in_flight, .. } = self.plan.pace {
            for at in 0..self.conns.len() {
                let now = self.now_ns();
                self.conns[at].issue_many(in_flight, now);
                self.flush(at, now)?;
            }
        }
        let mut ready = Ready::new();
        loop {
            let now = self.now_ns();
            self.issue_due(now)?;
            self.ping_idle(now)?;
            self.retry_lost(now)?;
            if self.shared.stop.load(Relaxed) || now >= window.drained_ns {
                break;
            }
            if now >= window.to_ns && self.conns.iter().all(|c| c.pending.is_empty()) {
                break;
            }
            self.readiness.wait(&mut ready, self.sleep(now))?;
            for (at, flags) in ready.iter() {
                self.handle_event(at, flags)?;
            }
        }
        self.count_unanswered();
        Ok(())
    }

    /// Until the next arrival, if that is soon and there is room for it.
    fn sleep(&self, now: u64) -> Duration {
        let until_due = match &self.arrivals {
            Some(a) if a.next_ns() < self.plan.window.to_ns && self.has_room(self.next_conn) => a.next_ns().saturating_sub(now),
            _ => SLEEP_NS_MAX,
        };
        let until_due = until_due.min(self.until_retry(now));
        Duration::from_nanos(until_due.min(SLEEP_NS_MAX))
    }

    fn has_room(&self, at: usize) -> bool {
        self.conns[at].link.is_up() && self.conns[at].pending.len() < OPEN_OUTSTANDING_MAX
    }

    /// Sends everything whose scheduled time has come.
    fn issue_due(&mut self, now: u64) -> Result<(), Failure> {
        let Some(mut arrivals) = self.arrivals.take() else { return Ok(()) };
        self.pass_over_lost();
        while arrivals.next_ns() <= now && arrivals.next_ns() < self.plan.window.to_ns && self.has_room(self.next_conn) {
            let (at, due) = (self.next_conn, arrivals.next_ns());
            self.next_conn = (at + 1) % self.conns.len();
            self.pass_over_lost();
            self.conns[at].issue(due);
            if self.plan.window.contains(due) {
                self.tally.lateness.record(now - due);
            }
            if !self.conns[at].dirty {
                self.conns[at].dirty = true;
                self.dirty.push(at);
            }
            arrivals.advance();
        }
        self.arrivals = Some(arrivals);
        while let Some(at) = self.dirty.pop() {
            self.conns[at].dirty = false;
            self.flush(at, now)?;
        }
        Ok(())
    }

    fn ping_idle(&mut self, now: u64) -> Result<(), Failure> {
        if now < self.next_ping_check_ns || now >= self.plan.window.to_ns {
            return Ok(());
        }
        self.next_ping_check_ns = now + PING_NS / 2;
        for at in 0..self.conns.len() {
            self.give_up_silent(at, now)?;
            if self.conns[at].link.is_up() && self.conns[at].pending.is_empty() && now.saturating_sub(self.conns[at].last_sent_ns) > PING_NS
            {
                self.conns[at].issue_ping(now);
                self.flush(at, now)?;
            }
        }
        Ok(())
    }

    fn handle_event(&mut self, at: usize, flags: EventFlags) -> Result<(), Failure> {
        let handled = self.read_and_write(at, flags);
        self.survive(at, handled)
    }

    fn read_and_write(&mut self, at: usize, flags: EventFlags) -> Result<(), Failure> {
        if flags.contains(EventFlags::OUT) {
            let now = self.now_ns();
            self.send(at, now)?;
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            loop {
                if !self.conns[at].session.receive()? {
                    break;
                }
                self.handle_replies(at)?;
                if !self.conns[at].session.may_have_more() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Checks and counts every whole reply; a closed loop replaces each by a new request, all sent at once.
    fn handle_replies(&mut self, at: usize) -> Result<(), Failure> {
        let now = self.now_ns();
        if !self.conns[at].link.is_up() && !self.finish_move(at, now)? {
            return Ok(());
        }
        let refill = matches!(self.plan.pace, Pace::Closed { .. }) && now < self.plan.window.to_ns;
        let in_snapshot = self.plan.snapshot_running.as_ref().map(|flag| flag.load(Relaxed));
        let phase = self.shared.phase.now();
        let conn = &mut self.conns[at];
        conn.last_heard_ns = now;
        let mut answered = 0;
        while let Some(frame) = conn.session.input.next_frame()? {
            let (header, body) = split_reply(frame)?;
            let Some(pending) = conn.pending.pop_front() else {
                return Err(Failure::Mismatch(format!("reply to xid {} when nothing was asked", header.xid.0)));
            };
            if header.xid != pending.xid {
                return Err(Failure::Mismatch(format!("reply to xid {} instead of {}", header.xid.0, pending.xid.0)));
            }
            if header.zxid < conn.last_zxid {
                return Err(Failure::Mismatch(format!("zxid went back from 0x{:x} to 0x{:x}", conn.last_zxid, header.zxid)));
            }
            conn.last_zxid = header.zxid;
            let Some(issued) = pending.issued else { continue };
            let verdict = conn.requests.check(issued, header.err, body)?;
            answered += 1;
            self.tally.replies.record(now);
            if verdict == Verdict::Ok && issued.kind.is_write() {
                self.tally.writes.record(now);
            }
            let measured_at = if self.arrivals.is_none() { now } else { pending.at_ns };
            if self.plan.window.contains(measured_at) {
                let latency = now.saturating_sub(pending.at_ns);
                self.by_kind[issued.kind as usize].get_or_insert_default().record(latency);
                self.tally.intervals.record(measured_at, latency);
                match in_snapshot {
                    Some(true) => self.tally.in_snapshot.record(latency),
                    Some(false) => self.tally.out_of_snapshot.record(latency),
                    None => {}
                }
                self.tally.by_phase[phase].record(latency);
                if let Verdict::Error(code) = verdict {
                    *self.tally.errors.entry((issued.kind.name(), code)).or_default() += 1;
                }
            }
            if refill {
                conn.issue(now);
            }
        }
        self.shared.replies.fetch_add(answered, Relaxed);
        if refill && answered > 0 { self.send(at, now) } else { Ok(()) }
    }

    /// The same, for callers to whom a broken connection is no news.
    fn flush(&mut self, at: usize, now: u64) -> Result<(), Failure> {
        let sent = self.send(at, now);
        self.survive(at, sent)
    }

    /// One send; the rest waits for the socket to drain.
    fn send(&mut self, at: usize, now: u64) -> Result<(), Failure> {
        let conn = &mut self.conns[at];
        conn.last_sent_ns = now;
        let blocked = !conn.session.flush()?;
        if blocked != conn.blocked {
            conn.blocked = blocked;
            let flags = if blocked { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            self.readiness.change(conn.session.stream(), at, flags)?;
        }
        Ok(())
    }

    /// Requests of the measured window that were never answered count with the age they have reached; leaving them out would
    /// flatter the server. Arrivals that were never even sent count too.
    fn count_unanswered(&mut self) {
        let now = self.now_ns();
        let Some(mut arrivals) = self.arrivals.take() else {
            self.tally.unanswered = self.conns.iter().map(|c| c.pending.iter().filter(|p| p.issued.is_some()).count() as u64).sum();
            return;
        };
        for conn in &self.conns {
            for pending in &conn.pending {
                if let Some(issued) = pending.issued
                    && self.plan.window.contains(pending.at_ns)
                {
                    self.tally.unanswered += 1;
                    self.by_kind[issued.kind as usize].get_or_insert_default().record(now.saturating_sub(pending.at_ns));
                    self.tally.intervals.record(pending.at_ns, now.saturating_sub(pending.at_ns));
                }
            }
        }
        while arrivals.next_ns() < self.plan.window.to_ns.min(now) {
            if self.plan.window.contains(arrivals.next_ns()) {
                self.tally.unanswered += 1;
                let kind = self.plan.workload.mix.first();
                self.by_kind[kind as usize].get_or_insert_default().record(now - arrivals.next_ns());
                self.tally.intervals.record(arrivals.next_ns(), now - arrivals.next_ns());
            }
            arrivals.advance();
        }
    }
}

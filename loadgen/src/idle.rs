//! Sessions that do nothing but stay alive, and watches that never fire: what they cost the server in memory, and in CPU while nothing happens.
//!
//! CPU is taken from the threads' own run times: a server at rest uses less than the tick in which a process's time is counted.

use crate::connection::{Failure, Session, split_reply};
use crate::fill::{PROGRESS_EVERY, layout_path};
use crate::host::{self, Memory};
use crate::measure::Metric;
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::target::Target;
use crate::workload::{begin_request, write_read};
use std::thread;
use std::time::{Duration, Instant};
use zoo::base::Xid;
use zoo::proto::{ErrorCode, OpCode};

/// Threads that connect and set watches: enough for what they wait for to share a flush.
const CONNECTING: usize = 50;
/// Watches asked for before the first answer is waited for.
const WATCHES_IN_FLIGHT: usize = 64;
/// A client sends a ping when it has been silent for this part of its timeout.
const PINGS_PER_TIMEOUT: u32 = 3;
/// Children of one parent in the paths that are watched.
const CHILDREN_PER_PARENT: usize = 1_000;

/// How many and how long.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct IdleOptions {
    pub sessions: usize,
    /// One-shot watches of each session, every one on a path of its own.
    pub watches: usize,
    pub root: String,
    pub session_timeout: Duration,
    /// Quiet time before memory is read.
    pub settle: Duration,
    pub duration: Duration,
}

/// Runs it.
pub fn run_idle(target: &Target, o: &IdleOptions, progress: &Progress) -> Result<Outcome, Failure> {
    let empty = target.memory();
    progress.stage("connecting");
    let mut idle = Idle { clients: connect_all(target, o)?, next: 0, pings: 0, every: o.session_timeout / PINGS_PER_TIMEOUT };
    idle.rest(o.settle, progress)?;
    let connected = target.memory();
    progress.stage("watching");
    watch_all(&mut idle.clients, o)?;
    idle.rest(o.settle, progress)?;
    let watching = target.memory();
    let (cpu_before, pings_before) = (target.thread_cpu_times(), idle.pings);
    let start = Instant::now();
    idle.rest(o.duration, progress)?;
    let took = start.elapsed();
    let cpu_ns = host::cpu_between(&cpu_before, &target.thread_cpu_times());
    let pings = idle.pings - pings_before;
    let mut metrics = vec![Metric::new("sessions", o.sessions as f64, "")];
    if let Some(((empty, connected), watching)) = empty.zip(connected).zip(watching) {
        let grown = |from: Memory, to: Memory, n: usize| (to.rss_anon as f64 - from.rss_anon as f64) / n.max(1) as f64;
        metrics.push(Metric::new("RssAnon empty", empty.rss_anon as f64 / f64::from(1 << 20), "MiB"));
        metrics.push(Metric::new("RssAnon connected", connected.rss_anon as f64 / f64::from(1 << 20), "MiB"));
        metrics.push(Metric::new("memory", grown(empty, connected, o.sessions), "B/session"));
        if o.watches > 0 {
            metrics.push(Metric::new("RssAnon watching", watching.rss_anon as f64 / f64::from(1 << 20), "MiB"));
            metrics.push(Metric::new("watch", grown(connected, watching, o.sessions * o.watches), "B/watch"));
        }
    }
    metrics.push(Metric::new("pings", pings as f64 / took.as_secs_f64(), "/s"));
    if target.has_pids() {
        metrics.push(Metric::new("server CPU", cpu_ns as f64 / 1e7 / took.as_secs_f64(), "% of a core"));
        if pings > 0 {
            metrics.push(Metric::new("server CPU per ping", cpu_ns as f64 / 1e3 / pings as f64, "µs"));
        }
    }
    progress.stage("closing");
    in_parts(&mut idle.clients, |_, client| {
        client.hear()?;
        let (header, _) = client.session.call(|out, xid| begin_request(out, xid, OpCode::CloseSession).finish(out))?;
        if header.err == 0 { Ok(()) } else { Err(Failure::Code(header.err, "closeSession".to_owned())) }
    })?;
    Ok(Outcome { metrics, ..Outcome::default() })
}

/// One session, and whether the answer to its last ping is still to be read.
struct Client {
    session: Session,
    asked: bool,
}

impl Client {
    fn ask(&mut self) -> Result<(), Failure> {
        self.hear()?;
        begin_request(&mut self.session.output, Xid::PING, OpCode::Ping).finish(&mut self.session.output);
        self.session.flush()?;
        self.asked = true;
        Ok(())
    }

    fn hear(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.asked) {
            let (header, _) = split_reply(self.session.wait_frame()?)?;
            if header.xid != Xid::PING || header.err != 0 {
                return Err(Failure::Mismatch(format!("{header:?} to a ping")));
            }
        }
        Ok(())
    }
}

fn connect_all(target: &Target, o: &IdleOptions) -> Result<Vec<Client>, Failure> {
    let mut places: Vec<Option<Client>> = (0..o.sessions).map(|_| None).collect();
    in_parts(&mut places, |n, place| {
        *place = Some(Client { session: Session::connect(target.of_connection(n), o.session_timeout)?, asked: false });
        Ok(())
    })?;
    Ok(places.into_iter().flatten().collect())
}

fn watch_all(clients: &mut [Client], o: &IdleOptions) -> Result<(), Failure> {
    in_parts(clients, |n, client| {
        client.hear()?;
        let path = |i: usize| layout_path(&o.root, n * o.watches + i, CHILDREN_PER_PARENT);
        let write = |i: usize, xid, out: &mut Vec<u8>| write_read(out, xid, OpCode::Exists, &path(i), true);
        client.session.pipeline(o.watches, WATCHES_IN_FLIGHT, write, |i, err| match err {
            0 => Ok(()),
            e if e == ErrorCode::NoNode.code() => Ok(()),
            e => Err(Failure::Code(e, format!("exists {}", path(i)))),
        })
    })
}

/// Deals with all of them, a part on each of several threads.
fn in_parts<T: Send>(all: &mut [T], act: impl Fn(usize, &mut T) -> Result<(), Failure> + Sync) -> Result<(), Failure> {
    let part = all.len().div_ceil(CONNECTING).max(1);
    thread::scope(|scope| {
        let act = &act;
        let workers: Vec<_> = all
            .chunks_mut(part)
            .enumerate()
            .map(|(p, chunk)| scope.spawn(move || chunk.iter_mut().enumerate().try_for_each(|(i, one)| act(p * part + i, one))))
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(Failure::Mismatch("a thread panicked".to_owned()))))
    })
}

/// Sessions that ping in turn, so that each has a ping in `every`.
struct Idle {
    clients: Vec<Client>,
    next: usize,
    pings: u64,
    every: Duration,
}

impl Idle {
    /// Keeps them alive for so long.
    fn rest(&mut self, how_long: Duration, progress: &Progress) -> Result<(), Failure> {
        let (start, mut sent, mut told) = (Instant::now(), 0u64, Duration::ZERO);
        while start.elapsed() < how_long {
            if self.clients.is_empty() {
                thread::sleep(how_long.saturating_sub(start.elapsed()).min(PROGRESS_EVERY));
            } else {
                let due = self.every.mul_f64(sent as f64 / self.clients.len() as f64);
                thread::sleep(due.saturating_sub(start.elapsed()).min(how_long.saturating_sub(start.elapsed())));
                self.ping()?;
                sent += 1;
            }
            if start.elapsed() - told > PROGRESS_EVERY {
                told = start.elapsed();
                progress.at(told.as_secs_f64(), how_long.as_secs_f64(), self.pings);
            }
        }
        Ok(())
    }

    fn ping(&mut self) -> Result<(), Failure> {
        self.clients[self.next].ask()?;
        self.next = (self.next + 1) % self.clients.len();
        self.pings += 1;
        Ok(())
    }
}

//! Many sessions that do nothing: what each costs in memory and CPU, and what watches cost that never fire; then a connection storm, in which
//! all connections are cut at once and every client comes back with its session.
//!
//! CPU of idle sessions is taken from the threads' own run times: the ticks in which a process's time is counted are too coarse for it.

use crate::connection::{Failure, Session};
use crate::fill::layout_path;
use crate::host;
use crate::measure::{Latencies, Metric, us_per};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::readiness::{EventFlags, Readiness, Ready};
use crate::target::Target;
use crate::workload::{begin_request, write_read};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};
use zoo::base::{SessionId, Xid};
use zoo::proto::connect::ConnectResponse;
use zoo::proto::{ErrorCode, OpCode};

/// Files this program needs besides its connections.
const OTHER_FILES: u64 = 64;
/// Ports that are left to others.
const OTHER_PORTS: usize = 1_000;
/// Ports of a system that does not say how many there are.
const PORTS_DEFAULT: usize = 28_000;
/// After the last session the server may still be tidying up; then memory is read.
const SETTLE: Duration = Duration::from_secs(1);
/// A storm that takes longer has lost somebody.
const STORM_MAX: Duration = Duration::from_secs(120);
/// Connections that are being made at once: what the server's backlog takes, or the kernel's own retries of a second would be measured.
const CONNECTING_MAX: usize = 512;
/// Every session pings so many times within its timeout.
const PINGS_PER_TIMEOUT: u32 = 3;
/// Where the paths are that are watched, how many under one parent, and how many watches of a session are asked for at once.
const WATCHED_ROOT: &str = "/app";
const WATCHED_PER_PARENT: usize = 1_000;
const WATCHES_IN_FLIGHT: usize = 256;

/// How many, how long.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct IdleOptions {
    /// 0: as many as the limits allow.
    pub sessions: usize,
    /// Of each session.
    pub watches: usize,
    pub quiet: Duration,
    pub storms: usize,
    pub session_timeout: Duration,
}

impl IdleOptions {
    /// In words.
    pub fn describe(&self) -> String {
        let sessions = if self.sessions == 0 { "as many as the limits allow".to_owned() } else { self.sessions.to_string() };
        let (quiet, timeout) = (self.quiet.as_secs_f64(), self.session_timeout.as_secs_f64());
        let watches = if self.watches == 0 { String::new() } else { format!(", {} watches of each", self.watches) };
        format!(
            "{sessions} idle sessions with a timeout of {timeout} s{watches}, {quiet} s quiet; then {} times all cut and back",
            self.storms
        )
    }
}

/// Runs it.
pub fn run_idle(target: &Target, o: &IdleOptions, progress: &Progress) -> Result<Outcome, Failure> {
    let wanted = sessions_possible(o.sessions, target)?;
    let mut metrics = Vec::new();
    let empty = target.memory();
    progress.stage("opening sessions");
    let cpu_before = target.cpu_time();
    let started = Instant::now();
    let mut crowd = Crowd::open(target, o, wanted)?;
    let opened = started.elapsed();
    metrics.push(Metric::new("sessions", wanted as f64, ""));
    metrics.push(Metric::new("sessions opened", wanted as f64 / opened.as_secs_f64(), "/s"));
    if let Some((before, after)) = cpu_before.zip(target.cpu_time()) {
        metrics.push(Metric::new("server CPU", us_per(after.saturating_sub(before), wanted as u64), "µs/session"));
    }
    thread::sleep(SETTLE);
    let full = target.memory();
    let each = |before: host::Memory, after: host::Memory, n: usize| (after.rss_anon as f64 - before.rss_anon as f64) / n as f64;
    if let Some((empty, full)) = empty.zip(full) {
        metrics.push(Metric::new("memory of a session", each(empty, full, wanted), "B"));
        metrics.push(Metric::new("server RSS", full.rss as f64 / f64::from(1 << 20), "MiB"));
    }
    if o.watches > 0 {
        progress.stage("setting watches");
        crowd.watch_all(o.watches)?;
        thread::sleep(SETTLE);
        if let Some((before, after)) = full.zip(target.memory()) {
            metrics.push(Metric::new("memory of a watch", each(before, after, wanted * o.watches), "B"));
        }
    }
    crowd.stay_idle(target, o, progress, &mut metrics)?;
    let mut back = Latencies::default();
    let mut longest: Vec<f64> = Vec::new();
    let (cpu_before, mut lost) = (target.cpu_time(), 0);
    for storm in 0..o.storms {
        progress.at(storm as f64, o.storms as f64, wanted as u64);
        let started = Instant::now();
        lost += crowd.cut_and_return(target, o.session_timeout, &mut back)?;
        longest.push(started.elapsed().as_secs_f64() * 1e3);
    }
    if o.storms > 0 {
        metrics.push(Metric::new("all back", longest.iter().sum::<f64>() / longest.len() as f64, "ms"));
        metrics.extend(back.metrics("back"));
        if let Some((before, after)) = cpu_before.zip(target.cpu_time()) {
            metrics.push(Metric::new("server CPU of a return", us_per(after.saturating_sub(before), back.count()), "µs"));
        }
    }
    crowd.close()?;
    let outcome = Outcome::of_latencies(metrics, &back, started.elapsed());
    Ok(Outcome { errors: if lost > 0 { vec![("sessions lost".to_owned(), lost)] } else { Vec::new() }, ..outcome })
}

/// As many as are asked for, or as the limits allow; fewer than asked for are an error.
fn sessions_possible(asked: usize, target: &Target) -> Result<usize, Failure> {
    let limit = getrlimit(Resource::Nofile);
    // Where this is refused, the limit stays what it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let files = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |files| files.saturating_sub(OTHER_FILES) as usize);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let range: Vec<usize> = range.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
    let ports = if let [from, to] = range[..] { to.saturating_sub(from) } else { PORTS_DEFAULT };
    // From one address to one port, each connection needs a port of its own.
    let possible = files.min(ports.saturating_sub(OTHER_PORTS) * target.servers().count());
    match asked {
        0 => Ok(possible),
        n if n <= possible => Ok(n),
        n => {
            Err(std::io::Error::other(format!("{n} sessions are more than the limits of files ({files}) and ports ({ports}) allow")).into())
        }
    }
}

struct Crowd {
    readiness: Readiness,
    sessions: Vec<Session>,
}

/// A connection on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Connecting,
    Asked,
    Back,
}

impl Crowd {
    fn open(target: &Target, o: &IdleOptions, wanted: usize) -> Result<Self, Failure> {
        let readiness = Readiness::new()?;
        let mut sessions = Vec::with_capacity(wanted);
        for at in 0..wanted {
            sessions.push(Session::connect(target.of_connection(at), o.session_timeout)?);
        }
        for (at, session) in sessions.iter().enumerate() {
            session.stream().set_nonblocking(true)?;
            readiness.add(session.stream(), at, EventFlags::IN)?;
        }
        Ok(Crowd { readiness, sessions })
    }

    /// Every session asks for nodes that need not exist, each with a watch.
    fn watch_all(&mut self, watches: usize) -> Result<(), Failure> {
        for (at, session) in self.sessions.iter_mut().enumerate() {
            let path = |i: usize| layout_path(WATCHED_ROOT, at * watches + i, WATCHED_PER_PARENT);
            let write = |i: usize, xid, out: &mut Vec<u8>| write_read(out, xid, OpCode::Exists, &path(i), true);
            session.stream().set_nonblocking(false)?;
            session.pipeline(watches, WATCHES_IN_FLIGHT, write, |i, err| match err {
                0 => Ok(()),
                e if e == ErrorCode::NoNode.code() => Ok(()),
                e => Err(Failure::Code(e, format!("exists {}", path(i)))),
            })?;
            session.stream().set_nonblocking(true)?;
        }
        Ok(())
    }

    /// Pings, spread evenly, and what the server needs for that.
    fn stay_idle(&mut self, target: &Target, o: &IdleOptions, progress: &Progress, metrics: &mut Vec<Metric>) -> Result<(), Failure> {
        let (cpu_before, started) = (target.thread_cpu_times(), Instant::now());
        let every = o.session_timeout / PINGS_PER_TIMEOUT;
        let gap = every.checked_div(u32::try_from(self.sessions.len()).unwrap_or(u32::MAX)).unwrap_or(every);
        let (mut sent, mut answered) = (0usize, 0usize);
        // The last answers are waited for, so that a session that has ended shows.
        while started.elapsed() < o.quiet || answered < sent {
            if started.elapsed() > o.quiet + STORM_MAX {
                return Err(Failure::Mismatch(format!("{} pings were not answered", sent - answered)));
            }
            let due = (started.elapsed().min(o.quiet).as_nanos() / gap.as_nanos().max(1)) as usize;
            while sent < due {
                let at = sent % self.sessions.len();
                let session = &mut self.sessions[at];
                begin_request(&mut session.output, Xid::PING, OpCode::Ping).finish(&mut session.output);
                session.flush()?;
                sent += 1;
            }
            self.each_event(gap.max(Duration::from_millis(1)), |_, _, session, _| {
                session.receive()?;
                while session.input.next_frame()?.is_some() {
                    answered += 1;
                }
                Ok(())
            })?;
            progress.at(started.elapsed().as_secs_f64(), o.quiet.as_secs_f64(), answered as u64);
        }
        let took = started.elapsed();
        metrics.push(Metric::new("pings answered", answered as f64, ""));
        if target.has_pids() {
            let ns = host::cpu_between(&cpu_before, &target.thread_cpu_times()) as f64;
            metrics.push(Metric::new("server CPU while idle", ns / 1e7 / took.as_secs_f64(), "% of a core"));
            metrics.push(Metric::new("server CPU of a ping", ns / 1e3 / answered.max(1) as f64, "µs"));
        }
        Ok(())
    }

    /// Cuts all connections, and lets everybody come back with its session. Returns how many were lost.
    fn cut_and_return(&mut self, target: &Target, timeout: Duration, back: &mut Latencies) -> Result<u64, Failure> {
        for session in &self.sessions {
            // Reset rather than linger: otherwise the ports were used up.
            rustix::net::sockopt::set_socket_linger(session.stream(), Some(Duration::ZERO)).map_err(std::io::Error::from)?;
        }
        let began = Instant::now();
        let tickets: Vec<_> = std::mem::take(&mut self.sessions).into_iter().map(|session| session.ticket()).collect();
        let mut ways = Vec::with_capacity(tickets.len());
        let (mut done, mut lost) = (0, 0);
        while done < tickets.len() {
            while ways.len() < tickets.len() && ways.len() - done < CONNECTING_MAX {
                let at = ways.len();
                let session = tickets[at].resume(target.of_connection(at).addr, timeout, 0)?;
                self.readiness.add(session.stream(), at, EventFlags::OUT)?;
                self.sessions.push(session);
                ways.push(Way::Connecting);
            }
            if began.elapsed() > STORM_MAX {
                return Err(Failure::Mismatch(format!("{} of {} did not come back", tickets.len() - done, tickets.len())));
            }
            self.each_event(Duration::from_secs(1), |readiness, at, session, flags| {
                if ways[at] == Way::Back {
                    return Ok(());
                }
                if ways[at] == Way::Connecting && flags.contains(EventFlags::OUT) {
                    session.flush()?;
                    readiness.change(session.stream(), at, EventFlags::IN)?;
                    ways[at] = Way::Asked;
                }
                if !session.receive()? {
                    return Ok(());
                }
                let Some(frame) = session.input.next_frame()? else { return Ok(()) };
                let response = ConnectResponse::decode(frame)?;
                let welcome = session.welcome(&response);
                if tickets[at].id != SessionId::NONE && (welcome.is_err() || session.id != tickets[at].id) {
                    lost += 1;
                }
                if welcome.is_err() {
                    // The server hangs up now; the next storm asks for a new session.
                    session.forget();
                    readiness.remove(session.stream())?;
                }
                ways[at] = Way::Back;
                done += 1;
                back.record(began.elapsed().as_nanos() as u64);
                Ok(())
            })?;
        }
        Ok(lost)
    }

    /// One wait; every connection that has something is handed over.
    fn each_event(
        &mut self,
        longest: Duration,
        mut handle: impl FnMut(&Readiness, usize, &mut Session, EventFlags) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut ready = Ready::new();
        self.readiness.wait(&mut ready, longest)?;
        for (at, flags) in ready.iter() {
            if let Some(session) = self.sessions.get_mut(at) {
                handle(&self.readiness, at, session, flags)?;
            }
        }
        Ok(())
    }

    fn close(self) -> Result<(), Failure> {
        for session in self.sessions.into_iter().filter(|s| s.id != SessionId::NONE) {
            rustix::net::sockopt::set_socket_linger(session.stream(), Some(Duration::ZERO)).map_err(std::io::Error::from)?;
            session.close()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_sessions_than_the_limits_allow_are_refused_and_none_asked_for_takes_them_all() {
        let target: Target = "127.0.0.1:1".parse().expect("valid");
        let all = sessions_possible(0, &target).expect("some");
        assert!(all > 100, "{all}");
        assert_eq!(sessions_possible(all.min(200), &target).expect("fewer"), all.min(200));
        assert!(sessions_possible(usize::MAX, &target).is_err_and(|e| e.to_string().contains("limits")));
    }
}

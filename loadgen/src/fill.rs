//! Fills a server with znodes in the layout of a service registry, `/app/svc-123/inst-456`, and weighs it.

use crate::connection::{Failure, Session};
use crate::host;
use crate::measure::{Metric, us_per};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::target::{Endpoint, Target};
use crate::workload::{write_create_persistent, write_read};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use zoo::base::{Reader, Stat};
use zoo::proto::{ErrorCode, OpCode};

/// How often the progress line moves.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// What to create.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct FillOptions {
    pub znodes: usize,
    pub children_per_parent: usize,
    pub value_size: usize,
    pub root: String,
    pub connections: usize,
    pub in_flight: usize,
    pub session_timeout: Duration,
    /// Quiet time before memory is read.
    pub settle: Duration,
    /// Run then (a garbage collection, for a server that needs one told), before memory is read.
    pub settle_run: Option<String>,
}

impl FillOptions {
    fn parents(&self) -> usize {
        self.znodes.div_ceil(self.children_per_parent)
    }

    fn parent(&self, p: usize) -> String {
        format!("{}/svc-{p:03}", self.root)
    }

    fn child(&self, n: usize) -> String {
        layout_path(&self.root, n, self.children_per_parent)
    }

    fn children_of(&self, p: usize) -> usize {
        self.children_per_parent.min(self.znodes - p * self.children_per_parent)
    }
}

/// The n-th znode of the layout.
pub fn layout_path(root: &str, n: usize, children_per_parent: usize) -> String {
    format!("{root}/svc-{:03}/inst-{:03}", n / children_per_parent, n % children_per_parent)
}

/// Fills, checks the number of children of every parent, settles and weighs.
pub fn run_fill(target: &Target, o: &FillOptions, progress: &Progress) -> Result<Outcome, Failure> {
    let mut session = Session::connect(target.first(), o.session_timeout)?;
    session.create_all(&o.root)?;
    let memory_before = target.memory();
    let cpu_before = target.cpu_time();
    let own_before = host::own_cpu_time();
    let started = Instant::now();
    progress.stage("creating parents");
    session.pipeline(
        o.parents(),
        o.in_flight,
        |i, xid, out| write_create_persistent(out, xid, &o.parent(i), b""),
        |i, err| created(&o.parent(i), err),
    )?;
    // Filling may take longer than an idle session lives.
    session.close()?;
    create_children(target.first(), o, progress)?;
    let took = started.elapsed();
    let cpu = cpu_before.zip(target.cpu_time()).map(|(before, after)| after.saturating_sub(before));
    let own = host::own_cpu_time().saturating_sub(own_before);
    progress.stage("counting children");
    let mut session = Session::connect(target.first(), o.session_timeout)?;
    verify(&mut session, o)?;
    session.close()?;

    let n = o.znodes as u64;
    let mut metrics = vec![
        Metric::new("znodes", n as f64, ""),
        Metric::new("fill", took.as_secs_f64(), "s"),
        Metric::new("creates", n as f64 / took.as_secs_f64(), "ops/s"),
        Metric::new("loadgen CPU", us_per(own, n), "µs/op"),
    ];
    if let Some(cpu) = cpu {
        metrics.push(Metric::new("server CPU", us_per(cpu, n), "µs/op"));
    }
    if let Some(before) = memory_before {
        weigh(target, before, o, progress, &mut metrics);
    }
    Ok(Outcome { metrics, ..Outcome::default() })
}

fn created(path: &str, err: i32) -> Result<(), Failure> {
    if err == 0 || err == ErrorCode::NodeExists.code() { Ok(()) } else { Err(Failure::Code(err, format!("create {path}"))) }
}

fn create_children(server: Endpoint, o: &FillOptions, progress: &Progress) -> Result<(), Failure> {
    let value = vec![b'v'; o.value_size];
    let done = AtomicU64::new(0);
    let connections = o.connections.max(1);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..connections)
            .map(|c| {
                let (value, done) = (&value, &done);
                // Each connection takes whole parents: its share of them.
                let mine: Vec<usize> = (c..o.parents())
                    .step_by(connections)
                    .flat_map(|p| (0..o.children_of(p)).map(move |i| p * o.children_per_parent + i))
                    .collect();
                scope.spawn(move || -> Result<(), Failure> {
                    let mut session = Session::connect(server, o.session_timeout)?;
                    session.pipeline(
                        mine.len(),
                        o.in_flight,
                        |i, xid, out| write_create_persistent(out, xid, &o.child(mine[i]), value),
                        |i, err| {
                            done.fetch_add(1, Relaxed);
                            created(&o.child(mine[i]), err)
                        },
                    )?;
                    session.close()
                })
            })
            .collect();
        while !workers.iter().all(|w| w.is_finished()) {
            thread::sleep(PROGRESS_EVERY);
            progress.at(done.load(Relaxed) as f64, o.znodes as f64, done.load(Relaxed));
        }
        for worker in workers {
            worker.join().map_err(|_| Failure::Mismatch("a fill thread panicked".to_owned()))??;
        }
        Ok(())
    })
}

fn verify(session: &mut Session, o: &FillOptions) -> Result<(), Failure> {
    for p in 0..o.parents() {
        let (header, body) = session.call(|out, xid| write_read(out, xid, OpCode::Exists, &o.parent(p), false))?;
        if header.err != 0 {
            return Err(Failure::Code(header.err, format!("exists {}", o.parent(p))));
        }
        let stat = Stat::read(&mut Reader::new(&body))?;
        if stat.num_children as usize != o.children_of(p) {
            return Err(Failure::Mismatch(format!("{} has {} children, expected {}", o.parent(p), stat.num_children, o.children_of(p))));
        }
    }
    Ok(())
}

fn weigh(target: &Target, before: host::Memory, o: &FillOptions, progress: &Progress, metrics: &mut Vec<Metric>) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let at_once = target.memory().unwrap_or_default();
    progress.stage("settling");
    thread::sleep(o.settle);
    if let Some(line) = &o.settle_run {
        let mut words = line.split_ascii_whitespace();
        let ran = words.next().map(|program| Command::new(program).args(words).output());
        if !matches!(&ran, Some(Ok(output)) if output.status.success()) {
            eprintln!("warning: {line:?} failed; memory is read without it");
        }
    }
    let settled = target.memory().unwrap_or_default();
    let data = (o.znodes * o.value_size) as f64;
    let per_znode = (settled.rss_anon as f64 - before.rss_anon as f64 - data) / o.znodes as f64;
    metrics.extend([
        Metric::new("RssAnon empty", mib(before.rss_anon), "MiB"),
        Metric::new("RssAnon filled", mib(at_once.rss_anon), "MiB"),
        Metric::new("RssAnon settled", mib(settled.rss_anon), "MiB"),
        Metric::new("RSS settled", mib(settled.rss), "MiB"),
        Metric::new("beyond data", per_znode, "B/znode"),
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_that_of_a_service_registry() {
        let o = FillOptions {
            znodes: 2_500,
            children_per_parent: 1_000,
            value_size: 1,
            root: "/app".to_owned(),
            connections: 1,
            in_flight: 1,
            session_timeout: Duration::ZERO,
            settle: Duration::ZERO,
            settle_run: None,
        };
        assert_eq!((o.parents(), o.children_of(1), o.children_of(2)), (3, 1_000, 500));
        assert_eq!(o.child(1_456), "/app/svc-001/inst-456");
    }
}

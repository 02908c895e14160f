//! One run of load against one server: prepares the znodes, starts the workers, samples the server's CPU time over exactly the
//! measured window, cleans up, and turns the tallies into metrics.

use crate::connection::{Failure, Session};
use crate::disturbance::{Disturbance, PHASES, Phase};
use crate::driver::{Pace, Plan, Shared, run_worker};
use crate::host;
use crate::measure::{Metric, us_per};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::schedule::Window;
use crate::snapshots::SnapshotWatch;
use crate::tally::Tally;
use crate::target::Target;
use crate::timeline::{Samples, points_json};
use crate::workload::{Mix, OpKind, Workload, write_create_persistent, write_delete, write_set, write_sync};
use serde_json::json;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use zoo::proto::ErrorCode;

/// Requests outstanding while preparing and cleaning up.
const PREPARE_DEPTH: usize = 256;
/// How long one server may take to welcome who cleans up, before the next is asked.
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(10);
/// How often the progress line moves.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Everything a run needs to know.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct LoadOptions {
    pub mix: Mix,
    pub connections: usize,
    pub threads: usize,
    pub pace: Pace,
    pub key_count: usize,
    pub value_size: usize,
    pub multi_size: usize,
    pub warmup_s: f64,
    pub duration_s: f64,
    pub drain_s: f64,
    pub seed: u64,
    pub root: String,
    pub session_timeout: Duration,
    /// Where the server writes snapshots: splits latencies into during and outside of them.
    pub snapshot_dir: Option<PathBuf>,
    /// Leave the keys.
    pub keep: bool,
    /// Acknowledged creates must be there in the end.
    pub verify: bool,
    /// A client whose connection breaks goes to the next server.
    pub reconnect: bool,
    /// What happens to the servers in the middle of the run.
    pub disturbance: Option<Disturbance>,
}

/// Runs it.
pub fn run_load(target: &Target, options: &LoadOptions, progress: &Progress) -> Result<Outcome, Failure> {
    let tag = format!("run-{}", std::process::id());
    let o = options;
    let workload = Arc::new(Workload::new(&o.root, &tag, o.mix.clone(), o.key_count, o.value_size, o.multi_size));
    progress.stage("preparing znodes");
    prepare(target, o, &workload)?;
    let watch = o.snapshot_dir.clone().map(SnapshotWatch::start);
    let plan = Plan {
        target: target.clone(),
        workload: Arc::clone(&workload),
        connections: o.connections,
        threads: o.threads.clamp(1, o.connections.max(1)),
        pace: o.pace,
        window: Window::new(o.warmup_s, o.duration_s, o.drain_s),
        seed: o.seed,
        session_timeout: o.session_timeout,
        snapshot_running: watch.as_ref().map(SnapshotWatch::flag),
        reconnect: o.reconnect,
    };
    progress.stage("connecting");
    let (mut tally, usage) = run_workers(&plan, o.disturbance.as_ref(), progress);
    progress.stage("cleaning up");
    if tally.failure.is_none() {
        clean_up(target, o, &workload, std::mem::take(&mut tally.left_over))?;
    }
    let snapshots = watch.map(SnapshotWatch::finish);
    Ok(to_outcome(&plan, tally, usage, snapshots))
}

/// CPU and memory over the measured window.
#[derive(Clone, Debug, Default)]
struct Usage {
    samples: Samples,
    server_cpu: Option<Duration>,
    own_cpu: Duration,
    memory: Option<host::Memory>,
    /// How long the disturbance went on.
    disturbed: Option<Duration>,
}

fn run_workers(plan: &Plan, disturbance: Option<&Disturbance>, progress: &Progress) -> (Tally, Usage) {
    let shared = Shared {
        replies: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        barrier: Barrier::new(plan.threads + 1),
        origin: OnceLock::new(),
        phase: Phase::default(),
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.threads)
            .map(|index| {
                let shared = &shared;
                scope.spawn(move || run_worker(plan, shared, index))
            })
            .collect();
        shared.barrier.wait();
        let origin = *shared.origin.get_or_init(Instant::now);
        shared.barrier.wait();
        let disturber = disturbance.map(|d| {
            let shared = &shared;
            scope.spawn(move || disturb(plan, shared, origin, d))
        });
        let mut usage = sample_usage(plan, &shared, origin, progress);
        let mut tally = Tally::default();
        for worker in workers {
            match worker.join() {
                Ok(one) => tally.add(one),
                Err(_) => tally.failure = Some("a worker thread panicked".to_owned()),
            }
        }
        match disturber.map(thread::ScopedJoinHandle::join) {
            None => {}
            Some(Ok(Ok(took))) => usage.disturbed = Some(took),
            Some(Ok(Err(why))) => tally.failure = tally.failure.take().or(Some(why)),
            Some(Err(_)) => tally.failure = Some("the thread of the disturbance panicked".to_owned()),
        }
        (tally, usage)
    })
}

/// Runs the command at its time; the run is worthless when it fails, or goes on longer than anybody measures.
fn disturb(plan: &Plan, shared: &Shared, origin: Instant, disturbance: &Disturbance) -> Result<Duration, String> {
    let due = origin + Duration::from_nanos(plan.window.from_ns) + Duration::from_secs_f64(disturbance.after_s);
    thread::sleep(due.saturating_duration_since(Instant::now()));
    if shared.stop.load(Relaxed) {
        return Err("the run ended before its disturbance".to_owned());
    }
    let took = shared.phase.run(&disturbance.command)?;
    if origin.elapsed() < Duration::from_nanos(plan.window.to_ns) {
        Ok(took)
    } else {
        Err(format!("the run was shorter than its disturbance, which took {:.1} s", took.as_secs_f64()))
    }
}

fn sample_usage(plan: &Plan, shared: &Shared, origin: Instant, progress: &Progress) -> Usage {
    let mut samples = Samples::default();
    let mut sleep_until = |ns: u64| {
        let end = origin + Duration::from_nanos(ns);
        while !shared.stop.load(Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(PROGRESS_EVERY));
            let at = origin.elapsed();
            progress.at(at.as_secs_f64(), plan.window.to_ns as f64 / 1e9, shared.replies.load(Relaxed));
            if at.as_nanos() >= u128::from(plan.window.from_ns) {
                samples.take(&plan.target, at.saturating_sub(Duration::from_nanos(plan.window.from_ns)));
            }
        }
    };
    let sample = || (plan.target.cpu_time(), host::own_cpu_time());
    sleep_until(plan.window.from_ns);
    let (server_before, own_before) = sample();
    sleep_until(plan.window.to_ns);
    let (server_after, own_after) = sample();
    Usage {
        samples,
        server_cpu: server_before.zip(server_after).map(|(before, after)| after.saturating_sub(before)),
        own_cpu: own_after.saturating_sub(own_before),
        memory: plan.target.memory(),
        disturbed: None,
    }
}

fn prepare(target: &Target, o: &LoadOptions, workload: &Workload) -> Result<(), Failure> {
    let mut session = Session::connect(target.first(), o.session_timeout)?;
    session.create_all(&workload.keys_dir)?;
    let known: HashSet<_> = session.children(&workload.keys_dir)?.into_iter().collect();
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let wanted: HashSet<_> = workload.keys.iter().map(|k| name(k)).collect();
    let mut extra: Vec<_> = known.difference(&wanted).map(|n| format!("{}/{n}", workload.keys_dir)).collect();
    extra.sort();
    delete_all(&mut session, &extra)?;
    session.pipeline(
        workload.keys.len(),
        PREPARE_DEPTH,
        |i, xid, out| {
            let key = &workload.keys[i];
            // Keys left by an earlier run may hold values of another size.
            if known.contains(&name(key)) {
                write_set(out, xid, key, &workload.value)
            } else {
                write_create_persistent(out, xid, key, &workload.value)
            }
        },
        |i, err| if err == 0 { Ok(()) } else { Err(Failure::Code(err, format!("preparing {}", workload.keys[i]))) },
    )?;
    if workload.mix.any(OpKind::makes_znodes) {
        session.create_all(&workload.scratch_dir)?;
        session.pipeline(
            o.connections,
            PREPARE_DEPTH,
            |i, xid, out| write_create_persistent(out, xid, &workload.connection_dir(i), b""),
            |_, err| {
                if err == 0 || err == ErrorCode::NodeExists.code() {
                    Ok(())
                } else {
                    Err(Failure::Code(err, "preparing directories".to_owned()))
                }
            },
        )?;
    }
    session.close()?;
    // The others may lag behind: what the first one has acknowledged must be there before anything is asked of them.
    for server in target.servers().skip(1) {
        let mut session = Session::connect(server, o.session_timeout)?;
        sync(&mut session, &o.root)?;
        session.close()?;
    }
    Ok(())
}

fn clean_up(target: &Target, o: &LoadOptions, workload: &Workload, mut left_over: Vec<String>) -> Result<(), Failure> {
    // Those that were disturbed may still be away.
    let first = target.servers().find_map(|server| Session::connect_within(CLEAN_UP_LIMIT, server, o.session_timeout).ok());
    let mut session = first.ok_or(Failure::Closed)?;
    if o.verify {
        verify(&mut session, o, workload, &left_over)?;
    }
    if workload.mix.any(OpKind::makes_znodes) {
        for i in (0..o.connections).filter(|_| o.reconnect) {
            // What was created without an answer is in nobody's list.
            let dir = workload.connection_dir(i);
            left_over.extend(session.children(&dir)?.iter().map(|name| format!("{dir}/{name}")));
        }
        left_over.extend((0..o.connections).map(|i| workload.connection_dir(i)));
        left_over.push(workload.scratch_dir.clone());
    }
    if !o.keep {
        left_over.extend(workload.keys.iter().cloned());
        left_over.push(workload.keys_dir.clone());
        left_over.push(o.root.clone());
    }
    delete_all(&mut session, &left_over)?;
    session.close()
}

/// What was acknowledged must be there, whatever the servers went through.
fn verify(session: &mut Session, o: &LoadOptions, workload: &Workload, acknowledged: &[String]) -> Result<(), Failure> {
    sync(session, &o.root)?;
    let mut there = HashSet::new();
    for i in 0..o.connections {
        let dir = workload.connection_dir(i);
        there.extend(session.children(&dir)?.iter().map(|name| format!("{dir}/{name}")));
    }
    let lost: Vec<_> = acknowledged.iter().filter(|path| !there.contains(*path)).collect();
    match lost.first() {
        None => Ok(()),
        Some(first) => {
            Err(Failure::Mismatch(format!("{} of {} acknowledged creates are gone, {first} among them", lost.len(), acknowledged.len())))
        }
    }
}

/// Has a server catch up with what the others have acknowledged.
fn sync(session: &mut Session, path: &str) -> Result<(), Failure> {
    let (header, _) = session.call(|out, xid| write_sync(out, xid, path))?;
    if header.err == 0 { Ok(()) } else { Err(Failure::Code(header.err, "sync".to_owned())) }
}

/// Deletes in order; what is gone already, or still holds somebody else's znodes, is left.
pub fn delete_all(session: &mut Session, paths: &[String]) -> Result<(), Failure> {
    session.pipeline(
        paths.len(),
        PREPARE_DEPTH,
        |i, xid, out| write_delete(out, xid, &paths[i]),
        |i, err| {
            let fine = [0, ErrorCode::NoNode.code(), ErrorCode::NotEmpty.code()].contains(&err);
            if fine { Ok(()) } else { Err(Failure::Code(err, format!("deleting {}", paths[i]))) }
        },
    )
}

fn to_outcome(plan: &Plan, tally: Tally, usage: Usage, snapshots: Option<usize>) -> Outcome {
    let total = tally.total();
    let answered = total.count() - tally.unanswered.min(total.count());
    let mut metrics = vec![Metric::new("throughput", answered as f64 / plan.window.seconds(), "ops/s")];
    metrics.extend(total.metrics(""));
    if tally.latencies.len() > 1 {
        for (kind, latencies) in &tally.latencies {
            metrics.push(Metric::new(format!("{kind} ops"), latencies.count() as f64, ""));
            metrics.extend(latencies.metrics(kind));
        }
    }
    if let Some(snapshots) = snapshots {
        metrics.push(Metric::new("snapshots seen", snapshots as f64, ""));
        metrics.push(Metric::new("ops in snapshot", tally.in_snapshot.count() as f64, ""));
        metrics.extend(tally.in_snapshot.metrics("in snapshot"));
        metrics.extend(tally.out_of_snapshot.metrics("out of snapshot"));
    }
    metrics.extend(disturbed_metrics(plan, &tally, usage.disturbed));
    if let Some(cpu) = usage.server_cpu {
        metrics.push(Metric::new("server CPU", us_per(cpu, answered), "µs/op"));
    }
    metrics.push(Metric::new("loadgen CPU", us_per(usage.own_cpu, answered), "µs/op"));
    if let Pace::Open { .. } = plan.pace {
        metrics.push(Metric::new("send lateness p50", tally.lateness.quantile_us(0.5), "µs"));
        metrics.push(Metric::new("send lateness p99", tally.lateness.quantile_us(0.99), "µs"));
    }
    if let Some(memory) = usage.memory {
        metrics.push(Metric::new("server RSS", memory.rss as f64 / f64::from(1 << 20), "MiB"));
        metrics.push(Metric::new("server RssAnon", memory.rss_anon as f64 / f64::from(1 << 20), "MiB"));
        metrics.push(Metric::new("server peak RSS", memory.rss_peak as f64 / f64::from(1 << 20), "MiB"));
    }
    let mut errors: Vec<_> = tally.errors.iter().map(|((kind, code), n)| (format!("{kind} error {code}"), *n)).collect();
    let more = [
        ("unanswered", tally.unanswered),
        ("writes of unknown outcome", tally.unknown_writes),
        ("reads without an answer", tally.lost_reads),
        ("sessions lost", tally.sessions_lost),
    ];
    errors.extend(more.into_iter().filter(|(_, n)| *n > 0).map(|(what, n)| (what.to_owned(), n)));
    let mut points = points_json(&tally.replies, &tally.writes, plan.window);
    points["distribution"] = json!(total.distribution());
    points["intervals"] = tally.intervals.json();
    points["usage"] = usage.samples.json();
    Outcome { metrics, errors, failure: tally.failure, points: Some(points), intervals: Some(tally.intervals) }
}

/// What a run with reconnecting clients, or with a disturbance, has to tell besides.
fn disturbed_metrics(plan: &Plan, tally: &Tally, disturbed: Option<Duration>) -> Vec<Metric> {
    let mut metrics = Vec::new();
    if (plan.reconnect || disturbed.is_some()) && plan.workload.mix.any(OpKind::is_write) {
        metrics.push(Metric::new("longest gap without a write", tally.writes.longest_gap_ms(plan.window), "ms"));
    }
    if plan.reconnect {
        metrics.push(Metric::new("moves to another server", tally.moves.count() as f64, ""));
        metrics.extend(tally.moves.metrics("move"));
    }
    if let Some(took) = disturbed {
        metrics.push(Metric::new("disturbance", took.as_secs_f64() * 1e3, "ms"));
        for (latencies, name) in tally.by_phase.iter().zip(PHASES) {
            metrics.push(Metric::new(format!("ops {name}"), latencies.count() as f64, ""));
            metrics.extend(latencies.metrics(name));
        }
        let [before, during, _] = &tally.by_phase;
        if before.count() > 0 && during.count() > 0 {
            metrics.push(Metric::new("p99 during / before", during.quantile_us(0.99) / before.quantile_us(0.99), ""));
        }
    }
    metrics
}

//! Session storm: many clients that each connect, get a session, close it, and start again.

use crate::connection::{Failure, Session};
use crate::host;
use crate::measure::{Latencies, Metric, us_per};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::target::Target;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// How often the progress line moves.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// How many and how long.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct SessionsOptions {
    pub clients: usize,
    pub warmup_s: f64,
    pub duration_s: f64,
    pub session_timeout: Duration,
}

/// Runs it.
pub fn run_sessions(target: &Target, o: &SessionsOptions, progress: &Progress) -> Result<Outcome, Failure> {
    let (measuring, stop, count) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
    let client = |n: usize| -> Result<(Latencies, Latencies), Failure> {
        let (mut connects, mut closes) = (Latencies::default(), Latencies::default());
        while !stop.load(Relaxed) {
            let start = Instant::now();
            let session = Session::connect(target.of_connection(n), o.session_timeout)?;
            let connected = start.elapsed();
            // Reset rather than linger in TIME_WAIT: thousands a second would use up the ports.
            rustix::net::sockopt::set_socket_linger(session.stream(), Some(Duration::ZERO)).map_err(std::io::Error::from)?;
            session.close()?;
            if measuring.load(Relaxed) {
                connects.record(connected.as_nanos() as u64);
                closes.record((start.elapsed() - connected).as_nanos() as u64);
                count.fetch_add(1, Relaxed);
            }
        }
        Ok((connects, closes))
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..o.clients).map(|n| scope.spawn(move || client(n))).collect();
        let wait = |seconds: f64| {
            let start = Instant::now();
            while start.elapsed().as_secs_f64() < seconds && !workers.iter().any(|w| w.is_finished()) {
                thread::sleep(PROGRESS_EVERY.min(Duration::from_secs_f64(seconds)));
                progress.at(start.elapsed().as_secs_f64(), seconds, count.load(Relaxed));
            }
            start.elapsed()
        };
        wait(o.warmup_s);
        let (server_before, own_before) = (target.cpu_time(), host::own_cpu_time());
        measuring.store(true, Relaxed);
        let took = wait(o.duration_s);
        measuring.store(false, Relaxed);
        let n = count.load(Relaxed);
        let server_cpu = server_before.zip(target.cpu_time()).map(|(before, after)| after.saturating_sub(before));
        let own_cpu = host::own_cpu_time().saturating_sub(own_before);
        stop.store(true, Relaxed);
        let (mut connects, mut closes) = (Latencies::default(), Latencies::default());
        for worker in workers {
            let (a, b) = worker.join().map_err(|_| Failure::Mismatch("a client thread panicked".to_owned()))??;
            connects.add(&a);
            closes.add(&b);
        }
        let mut metrics = vec![Metric::new("sessions", n as f64 / took.as_secs_f64(), "/s")];
        metrics.extend(connects.metrics("connect"));
        metrics.extend(closes.metrics("close"));
        if let Some(cpu) = server_cpu {
            metrics.push(Metric::new("server CPU", us_per(cpu, n), "µs/session"));
        }
        metrics.push(Metric::new("loadgen CPU", us_per(own_cpu, n), "µs/session"));
        Ok(Outcome::of_latencies(metrics, &connects, took))
    })
}

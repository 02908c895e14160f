//! Start-up time: starts a server and asks it for a znode until it answers.

use crate::connection::{Failure, Session};
use crate::host;
use crate::measure::Metric;
use crate::outcome::Outcome;
use crate::workload::{write_read, write_sync};
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use zoo::proto::OpCode;

/// Pause between two attempts: also the precision of the figure.
const RETRY_EVERY: Duration = Duration::from_millis(1);

/// How long one attempt may wait for an answer. A Java server accepts connections before it serves, and those it accepted too early are never
/// answered: without this limit its start would seem to take as long as the client is patient.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(1);

/// What to start, and what to wait for.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct StartOptions<'a> {
    pub server: SocketAddr,
    pub path: &'a str,
    pub limit: Duration,
    /// Wait for the answer to a sync, too: then it has everything its leader had committed when it was asked.
    pub until_in_sync: bool,
    pub log: &'a Path,
    pub command: &'a [String],
}

/// Starts the command, waits for the first answered getData, and leaves the server running; one that does not answer is killed. `spawned` learns
/// the process id at once. Returns it too.
pub fn run_start(o: &StartOptions<'_>, spawned: impl FnOnce(u32) -> std::io::Result<()>) -> Result<(Outcome, u32), Failure> {
    let (program, args) = o.command.split_first().ok_or_else(|| std::io::Error::other("no command given"))?;
    if Session::connect(o.server, o.limit).is_ok() {
        return Err(std::io::Error::other(format!("{} answers already", o.server)).into());
    }
    let log = File::create(o.log)?;
    let started = Instant::now();
    let mut child = Command::new(program).args(args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
    let answered = spawned(child.id()).map_err(Failure::Io).and_then(|()| wait_for_answers(o, started, &mut child));
    let mut metrics = match answered {
        Ok(metrics) => metrics,
        Err(e) => {
            // It may have ended by itself.
            let _ = child.kill();
            child.wait()?;
            return Err(e);
        }
    };
    if let Some(cpu) = host::cpu_time(child.id()) {
        metrics.push(Metric::new("server CPU", cpu.as_secs_f64() * 1e3, "ms"));
    }
    if let Some(memory) = host::memory(child.id()) {
        metrics.push(Metric::new("server RSS", memory.rss as f64 / f64::from(1 << 20), "MiB"));
        metrics.push(Metric::new("server peak RSS", memory.rss_peak as f64 / f64::from(1 << 20), "MiB"));
    }
    Ok((Outcome { metrics, ..Outcome::default() }, child.id()))
}

fn wait_for_answers(o: &StartOptions<'_>, started: Instant, child: &mut Child) -> Result<Vec<Metric>, Failure> {
    let elapsed_ms = || started.elapsed().as_secs_f64() * 1e3;
    retry(o, started, child, || ask(o.server, o.path, o.limit))?;
    let mut metrics = vec![Metric::new("first answer", elapsed_ms(), "ms")];
    if o.until_in_sync {
        retry(o, started, child, || sync(o.server, o.path, o.limit))?;
        metrics.push(Metric::new("in sync", elapsed_ms(), "ms"));
    }
    Ok(metrics)
}

fn retry(o: &StartOptions<'_>, started: Instant, child: &mut Child, attempt: impl Fn() -> Result<(), Failure>) -> Result<(), Failure> {
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(e) if started.elapsed() > o.limit => return Err(e),
            Err(e @ Failure::Code(..)) => return Err(e),
            Err(_) => {}
        }
        if let Some(status) = child.try_wait()? {
            return Err(std::io::Error::other(format!("the server ended: {status}")).into());
        }
        thread::sleep(RETRY_EVERY);
    }
}

fn ask(server: SocketAddr, path: &str, timeout: Duration) -> Result<(), Failure> {
    let mut session = Session::connect_within(ATTEMPT_LIMIT, server, timeout)?;
    let (header, _) = session.call(|out, xid| write_read(out, xid, OpCode::GetData, path, false))?;
    if header.err != 0 {
        return Err(Failure::Code(header.err, format!("getData {path}")));
    }
    session.close()
}

fn sync(server: SocketAddr, path: &str, timeout: Duration) -> Result<(), Failure> {
    let mut session = Session::connect_within(ATTEMPT_LIMIT, server, timeout)?;
    let (header, _) = session.call(|out, xid| write_sync(out, xid, path))?;
    if header.err != 0 {
        return Err(Failure::Code(header.err, format!("sync {path}")));
    }
    session.close()
}

//! Start-up time: starts a server and asks it for a znode until it answers.

use crate::connection::{Failure, Session};
use crate::host;
use crate::measure::Metric;
use crate::outcome::Outcome;
use crate::workload::write_read;
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

/// Starts `command`, waits for the first answered getData of `path`, and leaves the server running; one that does not answer is
/// killed. `spawned` learns the process id at once. Returns it too.
pub fn run_start(
    server: SocketAddr,
    path: &str,
    limit: Duration,
    log: &Path,
    command: &[String],
    spawned: impl FnOnce(u32) -> std::io::Result<()>,
) -> Result<(Outcome, u32), Failure> {
    let (program, args) = command.split_first().ok_or_else(|| std::io::Error::other("no command given"))?;
    if Session::connect(server, limit).is_ok() {
        return Err(std::io::Error::other(format!("{server} answers already")).into());
    }
    let log = File::create(log)?;
    let started = Instant::now();
    let mut child = Command::new(program).args(args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
    let answered = spawned(child.id()).map_err(Failure::Io).and_then(|()| wait_for_answer(server, path, limit, started, &mut child));
    if let Err(e) = answered {
        // It may have ended by itself.
        let _ = child.kill();
        child.wait()?;
        return Err(e);
    }
    let took = started.elapsed();
    let mut metrics = vec![Metric::new("first answer", took.as_secs_f64() * 1e3, "ms")];
    if let Some(cpu) = host::cpu_time(child.id()) {
        metrics.push(Metric::new("server CPU", cpu.as_secs_f64() * 1e3, "ms"));
    }
    if let Some(memory) = host::memory(child.id()) {
        metrics.push(Metric::new("server RSS", memory.rss as f64 / f64::from(1 << 20), "MiB"));
    }
    Ok((Outcome { metrics, ..Outcome::default() }, child.id()))
}

fn wait_for_answer(server: SocketAddr, path: &str, limit: Duration, started: Instant, child: &mut Child) -> Result<(), Failure> {
    loop {
        match ask(server, path, limit) {
            Ok(()) => return Ok(()),
            Err(e) if started.elapsed() > limit => return Err(e),
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

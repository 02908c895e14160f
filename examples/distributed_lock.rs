//! Five workers share one printer, which takes one job at a time and nothing from a worker whose lock is lost:
//! `cargo run --example distributed_lock [SERVERS]`, beside a server such as `cargo run --release`. Ends by saying what it has proved.

use std::error::Error;
use std::sync::Mutex as Local;
use std::time::Duration;
use zoo::client::ZooClient;
use zoo::recipes::{Mutex, Token};

const WORKERS: usize = 5;
const JOBS: usize = 20;

/// Something outside of ZooKeeper that must not be used by two at once. It remembers the greatest token it has seen.
#[derive(Default)]
struct Printer {
    newest: Option<Token>,
    jobs: usize,
}

impl Printer {
    fn print(&mut self, token: Token) -> bool {
        let is_fresh = self.newest.is_none_or(|newest| newest <= token);
        if is_fresh {
            self.newest = Some(token);
            self.jobs += 1;
        }
        is_fresh
    }
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    run(&std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2181".into()))
}

/// Everything, at these servers.
pub fn run(servers: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let path = "/examples/printer";
    let printer = Local::new(Printer::default());
    std::thread::scope(|scope| {
        let work = || -> Result<(), Box<dyn Error + Send + Sync>> {
            let client = ZooClient::connect(servers)?;
            let lock = Mutex::new(&client, path);
            for _ in 0..JOBS {
                let held = lock.lock()?;
                proves_quietly(printer.lock().is_ok_and(|mut printer| printer.print(held.token())), "whoever holds the lock is the newest");
                held.release()?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker has panicked")?)
    })?;
    let jobs = printer.lock().map_or(0, |printer| printer.jobs);
    proves(jobs == WORKERS * JOBS, "every job was printed under the lock, with tokens that only grow");

    // A worker that loses its session without knowing it: it has stood still for too long.
    let (slow, other) = (ZooClient::builder(servers).session_timeout(Duration::from_secs(4)).connect()?, ZooClient::connect(servers)?);
    let late = Mutex::new(&slow, path).lock()?;
    slow.abandon();
    let next = Mutex::new(&other, path).lock_for(Duration::from_secs(60))?;
    proves(next.token() > late.token(), "the lock of a worker that has vanished goes to the next one, with a greater token");
    let (new_one_prints, old_one_prints) = printer.lock().map_or((false, true), |mut p| (p.print(next.token()), p.print(late.token())));
    proves(new_one_prints && !old_one_prints, "the printer refuses what comes too late");
    next.release()?;
    Ok(())
}

fn proves(holds: bool, what: &str) {
    proves_quietly(holds, what);
    println!("proved: {what}");
}

fn proves_quietly(holds: bool, what: &str) {
    assert!(holds, "not so: {what}");
}

//! Three members that are killed, stopped and started while sessions are dropped.

use super::ensemble::Cluster;
use super::{builder, end_session};
use rustix::process::Signal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use zoo::base::prng::Prng;
use zoo::client::{Builder, ZooClient};

/// How long it lasts.
const TROUBLE: Duration = Duration::from_secs(6);
/// How long a member stands still, or is away, at the most.
const AWAY_MS: u64 = 900;

/// What all sides of a test know.
pub struct Trouble {
    pub servers: String,
    over: AtomicBool,
    /// Whose sessions may be dropped.
    clients: Mutex<Vec<ZooClient>>,
}

impl Trouble {
    /// Clients that get along with members that are away: they try the next one soon.
    pub fn builder(&self) -> Builder {
        builder(&self.servers)
            .session_timeout(Duration::from_secs(8))
            .request_timeout(Duration::from_secs(2))
            .connect_patience(super::PATIENCE)
    }

    /// A session that may be dropped at any time.
    pub fn client(&self) -> ZooClient {
        let client = self.builder().connect().expect("most members serve");
        self.may_drop(&client);
        client
    }

    pub fn may_drop(&self, client: &ZooClient) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|client| !client.state().is_over());
        clients.push(client.clone());
    }

    /// Everything is well again.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Makes trouble while `work` runs on as many threads; each is told its number and returns when it has seen that the trouble is over.
pub fn during<T: Send>(workers: usize, seed: u64, work: impl Fn(&Trouble, usize) -> T + Sync) -> (ZooClient, Vec<T>, Cluster) {
    let mut cluster = Cluster::start(3, &[]);
    cluster.settled(&[1, 2, 3]);
    let servers: Vec<String> = (1..=3).map(|id| cluster.address(id).to_string()).collect();
    let trouble = Trouble { servers: servers.join(","), over: AtomicBool::new(false), clients: Mutex::default() };
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|i| {
                scope.spawn({
                    let (trouble, work) = (&trouble, &work);
                    move || work(trouble, i)
                })
            })
            .collect();
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| make(&mut cluster, &trouble, seed)));
        // Also when it went wrong: nobody waits for it for ever.
        trouble.over.store(true, Ordering::Relaxed);
        let results = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        if let Err(panic) = made {
            std::panic::resume_unwind(panic);
        }
        results
    });
    let client = builder(&trouble.servers).connect().expect("a session");
    client.sync("/").expect("a quorum");
    (client, results, cluster)
}

fn make(cluster: &mut Cluster, trouble: &Trouble, seed: u64) {
    let mut random = Prng::new(seed);
    let begun = Instant::now();
    while begun.elapsed() < TROUBLE {
        let id = 1 + random.below(3) as usize;
        let away = Duration::from_millis(100 + random.below(AWAY_MS));
        match random.below(3) {
            0 => {
                cluster.kill(id);
                std::thread::sleep(away);
                cluster.run(id);
            }
            1 => {
                cluster.process(id).signal(Signal::STOP);
                std::thread::sleep(away);
                cluster.process(id).signal(Signal::CONT);
            }
            _ => {
                let client = {
                    let clients = trouble.clients.lock().unwrap_or_else(PoisonError::into_inner);
                    (!clients.is_empty()).then(|| clients[random.below(clients.len() as u64) as usize].clone())
                };
                if let Some(client) = client {
                    end_session(cluster.address(id), &client);
                }
            }
        }
        // Some quiet, so that something is done between one trouble and the next.
        cluster.settled(&[1, 2, 3]);
        std::thread::sleep(Duration::from_millis(200));
    }
}

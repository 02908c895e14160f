//! Three members that are killed, stopped and started, or cut off from each other, while sessions are dropped.

use super::ensemble::Cluster;
use super::{builder, end_session};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use zoo::base::SessionId;
use zoo::base::prng::Prng;
use zoo::client::{Builder, ZooClient};
use zoo::server::ZooEnsemble;

/// How long it lasts.
const TROUBLE: Duration = Duration::from_secs(6);
/// How long a member stands still, or is away, at the most.
const AWAY_MS: u64 = 900;
/// How long it is cut off, at the most: well beyond what a leader without followers gives itself (a second).
const CUT_OFF_MS: u64 = 2_200;

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

/// Three members and what can happen to them.
pub enum Members {
    /// Processes, which are killed and stopped.
    Processes(Cluster),
    /// Servers of this process, which are cut off from each other and not from their clients.
    Network(ZooEnsemble),
}

impl Members {
    pub fn processes() -> Self {
        let cluster = Cluster::start(3, &[]);
        cluster.settled(&[1, 2, 3]);
        Members::Processes(cluster)
    }

    pub fn network() -> Self {
        Members::Network(ZooEnsemble::builder(3).set("tickTime", 200).set("maxClientCnxns", 0).start().expect("an ensemble"))
    }

    fn address(&self, id: usize) -> SocketAddr {
        match self {
            Members::Processes(cluster) => cluster.address(id),
            Members::Network(ensemble) => ensemble.member(id).address(),
        }
    }

    /// A member is gone for a while, in one way or another.
    fn lose(&mut self, id: usize, random: &mut Prng) {
        match self {
            Members::Processes(cluster) => {
                let away = Duration::from_millis(100 + random.below(AWAY_MS));
                if random.below(2) == 0 {
                    cluster.kill(id);
                    std::thread::sleep(away);
                    cluster.run(id);
                } else {
                    cluster.process(id).signal(Signal::STOP);
                    std::thread::sleep(away);
                    cluster.process(id).signal(Signal::CONT);
                }
            }
            Members::Network(ensemble) => {
                ensemble.isolate(id);
                std::thread::sleep(Duration::from_millis(300 + random.below(CUT_OFF_MS)));
                ensemble.heal();
            }
        }
    }

    fn settled(&mut self) {
        match self {
            Members::Processes(cluster) => drop(cluster.settled(&[1, 2, 3])),
            Members::Network(ensemble) => ensemble.until_all_serve().expect("they find each other again"),
        }
    }
}

/// Makes trouble while `work` runs on as many threads; each is told its number and returns when it has seen that the trouble is over.
pub fn during<T: Send>(
    mut members: Members,
    workers: usize,
    seed: u64,
    work: impl Fn(&Trouble, usize) -> T + Sync,
) -> (ZooClient, Vec<T>, Members) {
    let servers: Vec<String> = (1..=3).map(|id| members.address(id).to_string()).collect();
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
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| make(&mut members, &trouble, seed)));
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
    (client, results, members)
}

fn make(members: &mut Members, trouble: &Trouble, seed: u64) {
    let mut random = Prng::new(seed);
    let begun = Instant::now();
    while begun.elapsed() < TROUBLE {
        let id = 1 + random.below(3) as usize;
        if random.below(3) < 2 {
            members.lose(id, &mut random);
        } else {
            let client = {
                let clients = trouble.clients.lock().unwrap_or_else(PoisonError::into_inner);
                (!clients.is_empty()).then(|| clients[random.below(clients.len() as u64) as usize].clone())
            };
            if let Some(client) = client {
                end_session(members.address(id), SessionId(client.session_id()), client.session_password());
            }
        }
        // Some quiet, so that something is done between one trouble and the next.
        members.settled();
        std::thread::sleep(Duration::from_millis(200));
    }
}

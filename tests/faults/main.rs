//! Bad input and bad luck, met by a real server: hostile clients, full and failing disks, damaged files, a process that is stopped and goes on.
//! Whatever happens, a well-behaved client gets right answers or none, and what was acknowledged is there afterwards (P2, P3, P14, P15).
#![allow(missing_docs)]

#[path = "../support/small_disk.rs"]
mod small_disk;
#[path = "../support/mod.rs"]
mod support;

mod damage;
mod disks;
#[path = "../support/cluster.rs"]
mod ensemble;
mod hostile;
mod overload;
mod peers;
mod stopped;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use support::{RawClient, wait_until};

const OPEN: i32 = 0;
const EPHEMERAL: i32 = 1;

/// A client that behaves, beside all others: it writes, reads what it wrote, and checks every answer.
struct Witness {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Witness {
    fn start(address: SocketAddr) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (stop.clone(), rounds.clone());
        let thread = std::thread::spawn(move || {
            let mut client = RawClient::connect(address);
            assert_eq!(client.create("/witness", b"", OPEN).err, 0);
            let mut version = 0_i32;
            while !until.load(Ordering::Relaxed) {
                let set = client.set("/witness", &version.to_be_bytes(), version);
                assert_eq!(set.err, 0, "round {version}");
                let (data, stat) = client.get("/witness", false).data();
                assert_eq!((data.as_deref(), stat.mzxid), (Some(&version.to_be_bytes()[..]), set.zxid));
                version += 1;
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2)); // leaves the machine to the others
            }
        });
        let witness = Witness { stop, rounds, thread };
        witness.goes_on();
        witness
    }

    /// Waits until it has been served again from now on.
    fn goes_on(&self) {
        let before = self.rounds.load(Ordering::Relaxed);
        wait_until("the well-behaved client is served", || self.rounds.load(Ordering::Relaxed) > before + 1 || self.thread.is_finished());
        assert!(!self.thread.is_finished(), "the well-behaved client has failed");
    }

    /// It has been served throughout.
    fn finish(self) {
        self.goes_on();
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the well-behaved client saw only right answers");
    }
}

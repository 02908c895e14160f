//! Clients that write without end and remember what was acknowledged.

use crate::members::{Mixed, POLL, SETTLE_MAX};
use crate::reference::client::Client;
use crate::reference::request::{PERSISTENT, create, set_data, sync};
use crate::session::Session;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Leaves some of a small machine to the servers.
const PAUSE: Duration = Duration::from_millis(3);

pub struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Written>>,
}

/// What one writer knows at the end.
pub struct Written {
    writer: usize,
    nodes: Vec<String>,
    counted: i32,
    attempted: i32,
}

impl Writers {
    /// One that begins with each of these members.
    pub fn start(members: &Mixed) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let mut first = Session::open(&members.ports);
        first.certainly(&create("/written", b"", PERSISTENT));
        (0..members.ports.len()).for_each(|writer| drop(first.certainly(&create(&format!("/written/{writer}"), b"", PERSISTENT))));
        first.close();
        let threads = (0..members.ports.len()).map(|writer| {
            let mut ports = members.ports;
            ports.rotate_left(writer);
            let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
            std::thread::spawn(move || write(writer, &ports, &stop, &acknowledged))
        });
        Writers { threads: threads.collect(), stop, acknowledged }
    }

    /// Waits until writes are acknowledged again, more than those that can have been under way; how long that took.
    pub fn go_on(&self, members: &Mixed) -> Duration {
        let began = Instant::now();
        let before = self.acknowledged.load(Ordering::Relaxed);
        while self.acknowledged.load(Ordering::Relaxed) < before + 20 {
            assert!(began.elapsed() < SETTLE_MAX, "nothing is written any more\n{}", members.last_words());
            std::thread::sleep(POLL);
        }
        began.elapsed()
    }

    /// Ends them: every member shows every write that was acknowledged.
    pub fn finish(self, members: &Mixed) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let all: Vec<Written> = self.threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        for (i, port) in members.ports.iter().enumerate() {
            let mut client = Client::open(*port);
            client.ok(&sync("/written"));
            all.iter().for_each(|written| written.is_shown(&mut client, i + 1));
        }
        self.acknowledged.load(Ordering::Relaxed)
    }
}

impl Written {
    fn is_shown(&self, client: &mut Client, member: usize) {
        let top = format!("/written/{}", self.writer);
        let there: BTreeSet<String> = client.children(&top).into_iter().collect();
        let lost: Vec<_> = self.nodes.iter().filter(|name| !there.contains(*name)).collect();
        assert!(
            lost.is_empty(),
            "member {member} has lost {} of {} writes of writer {}: {lost:?}",
            lost.len(),
            self.nodes.len(),
            self.writer
        );
        let version = client.data(&top).1.version;
        let (counted, attempted) = (self.counted, self.attempted);
        assert!(
            (counted..=attempted).contains(&version),
            "member {member} shows {version} changes, of {attempted} {counted} were acknowledged"
        );
    }
}

fn write(writer: usize, ports: &[u16], stop: &AtomicBool, acknowledged: &AtomicU64) -> Written {
    let mut session = Session::open(ports);
    let top = format!("/written/{writer}");
    session.certainly(&sync(&top));
    let mut written = Written { writer, nodes: Vec::new(), counted: 0, attempted: 0 };
    for n in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // A name is tried once: what happened to one whose connection was lost does not matter.
        let name = format!("n{n}");
        if let Some(reply) = session.call(&create(&format!("{top}/{name}"), name.as_bytes(), PERSISTENT)) {
            assert_eq!(reply.err, 0, "creating {top}/{name}");
            written.nodes.push(name);
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        written.attempted += 1;
        if let Some(reply) = session.call(&set_data(&top, n.to_string().as_bytes(), -1)) {
            assert_eq!(reply.err, 0, "changing {top}");
            written.counted += 1;
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(PAUSE);
    }
    session.close();
    written
}

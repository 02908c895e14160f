//! A server that stands still for a while, as under a debugger, a migrating hypervisor or a machine out of memory.

use crate::support::{RawClient, ServerProcess, path_watch, set_data, temp_dir, wait_until};
use crate::{EPHEMERAL, OPEN};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use zoo::base::{SessionId, Xid};
use zoo::proto::OpCode;

const SESSION_MS: i32 = 1_000;
/// Three times the session timeout.
const STANDSTILL: Duration = Duration::from_secs(3);
/// How often a client lets itself be heard, whatever the server does.
const PING_EVERY: Duration = Duration::from_millis(100);

/// Body of the answer to setData.
const STAT_BYTES: usize = 68;

/// A client with an ephemeral node: one thread writes and pings, another reads the answers.
struct Live {
    sent: Arc<AtomicU64>,
    acked: Arc<AtomicU64>,
    threads: [JoinHandle<()>; 2],
}

fn counter(client: usize) -> String {
    format!("/counter-{client}")
}
fn ephemeral(client: usize) -> String {
    format!("/live-{client}")
}

impl Live {
    fn start(address: SocketAddr, number: usize, stop: &Arc<AtomicBool>) -> Self {
        let mut client = RawClient::attach(address, SessionId::NONE, [0; 16], SESSION_MS).expect("a session");
        assert_eq!(client.timeout_ms, SESSION_MS);
        assert_eq!(client.create(&counter(number), b"", OPEN).err, 0);
        assert_eq!(client.create(&ephemeral(number), b"", EPHEMERAL).err, 0);
        let mut reader = client.receiver();
        let (sent, acked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (count_sent, count_acked) = (sent.clone(), acked.clone());
        let until = stop.clone();
        let writer = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                let i = count_sent.load(Ordering::Relaxed) + 1;
                let requests = [(OpCode::SetData, set_data(&counter(number), &i.to_be_bytes(), -1)), (OpCode::Ping, Vec::new())];
                // Before it is sent: the answer may be quicker than this thread.
                count_sent.store(i, Ordering::Relaxed);
                client.send_all(&requests).expect("a live client's connection stays open");
                std::thread::sleep(PING_EVERY);
            }
            client.send(OpCode::GetData, &path_watch(&ephemeral(number), false)).expect("sent");
        });
        let answers = std::thread::spawn(move || {
            loop {
                let frame = reader.reply().expect("a live client's connection stays open");
                assert_eq!(frame.err, 0, "client {number}: {frame:?}");
                match frame.body.len() {
                    0 => assert_eq!(frame.xid, Xid::PING.0),
                    STAT_BYTES => drop(count_acked.fetch_add(1, Ordering::Relaxed)),
                    _ => return, // the ephemeral node is there: the last answer
                }
            }
        });
        Live { sent, acked, threads: [writer, answers] }
    }

    /// Number of writes, all of which were acknowledged.
    fn join(self) -> u64 {
        self.threads.into_iter().for_each(|thread| thread.join().expect("every answer was right"));
        let acked = self.acked.load(Ordering::Relaxed);
        assert_eq!(acked, self.sent.load(Ordering::Relaxed), "every write was answered");
        acked
    }
}

#[test]
fn a_standstill_costs_no_live_client_its_session_and_no_acknowledged_write() {
    for shards in [1, 2] {
        let dir = temp_dir();
        let settings = ["tickTime=100", "minSessionTimeout=200", "maxSessionTimeout=60000"];
        let server = ServerProcess::start(dir.path(), shards, &settings);
        let stop = Arc::new(AtomicBool::new(false));
        let live: Vec<_> = (0..6).map(|i| Live::start(server.address, i, &stop)).collect();
        let acked = |client: &Live| client.acked.load(Ordering::Relaxed);
        // One that is silent, and one with a longer timeout than the standstill.
        let mut silent = RawClient::attach(server.address, SessionId::NONE, [0; 16], SESSION_MS).expect("a session");
        assert_eq!(silent.create("/silent", b"", EPHEMERAL).err, 0);
        let mut observer = RawClient::attach(server.address, SessionId::NONE, [0; 16], 60_000).expect("a session");
        wait_until("all clients write", || live.iter().all(|c| acked(c) > 2));

        server.signal(Signal::STOP);
        std::thread::sleep(STANDSTILL);
        let before: Vec<u64> = live.iter().map(acked).collect();
        let sent: Vec<u64> = live.iter().map(|c| c.sent.load(Ordering::Relaxed)).collect();
        assert!(sent.iter().zip(&before).all(|(sent, acked)| sent > acked), "the clients went on: {sent:?}, {before:?}");
        server.signal(Signal::CONT);
        wait_until("all clients are answered again", || {
            live.iter().zip(&sent).all(|(client, sent)| acked(client) > *sent + 5 || client.threads.iter().any(JoinHandle::is_finished))
        });
        // Whoever is really silent still goes.
        wait_until("the silent session expires", || observer.call(OpCode::Exists, &path_watch("/silent", false)).err == -101);
        stop.store(true, Ordering::Relaxed);
        let counts: Vec<u64> = live.into_iter().map(Live::join).collect();
        server.kill();

        let server = ServerProcess::start(dir.path(), shards, &settings);
        let mut client = RawClient::connect(server.address);
        for (i, count) in counts.iter().enumerate() {
            let data = client.get(&counter(i), false).data().0.expect("a counter");
            assert_eq!(u64::from_be_bytes(data.try_into().expect("eight bytes")), *count, "client {i}");
        }
    }
}

/// Clients that lose their connection shortly before a standstill and come back during it.
const RETURNING: usize = 30;
/// Their timeout: time enough to stop the server after the first of them is gone, however slow the machine.
const RETURNING_MS: i32 = 3_000;

#[test]
fn a_session_whose_client_waits_to_be_accepted_outlives_a_standstill() {
    for shards in [1, 2] {
        let dir = temp_dir();
        let settings = ["tickTime=100", "minSessionTimeout=200", "maxSessionTimeout=60000"];
        let server = ServerProcess::start(dir.path(), shards, &settings);
        let sessions: Vec<_> = (0..RETURNING)
            .map(|i| {
                let mut client = RawClient::attach(server.address, SessionId::NONE, [0; 16], 60_000).expect("a session");
                assert_eq!(client.create(&ephemeral(i), b"", EPHEMERAL).err, 0);
                (client.session, client.password)
            })
            .collect();
        // Short only from now on: none may end because making the others took long. This takes no write, and no turns.
        let knock = |timeout_ms| {
            let knock = |(session, password): &(_, _)| {
                RawClient::knock(server.address, *session, *password, timeout_ms).expect("the kernel listens")
            };
            sessions.iter().map(knock).collect::<Vec<_>>()
        };
        for stream in knock(RETURNING_MS) {
            RawClient::enter(stream).expect("an answer").expect("its session");
        }
        server.signal(Signal::STOP);
        // From now on with time enough for however slowly this test goes on.
        let knocking = knock(60_000);
        std::thread::sleep(Duration::from_millis(RETURNING_MS as u64) + Duration::from_secs(1));
        server.signal(Signal::CONT);
        for (i, stream) in knocking.into_iter().enumerate() {
            let mut client = RawClient::enter(stream).expect("an answer").unwrap_or_else(|| panic!("session {i} was lost"));
            assert_eq!(client.call(OpCode::Exists, &path_watch(&ephemeral(i), false)).err, 0, "its node is there");
        }
        server.kill();
    }
}

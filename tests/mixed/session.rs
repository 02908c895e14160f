//! A session that lives longer than any server: it goes on with another one when its connection is lost, and takes its watches along.

use crate::members::{POLL, SETTLE_MAX};
use crate::reference::client::{Client, Reply};
use crate::reference::request::{self, Request, close_session, ping, set_watches};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use zoo::base::{Reader, SessionId};

/// Longer than it takes to put one server in another's place on a loaded machine.
pub const TIMEOUT_MS: i32 = 50_000;
const PING_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub struct Session {
    ports: Vec<u16>,
    next: usize,
    client: Option<Client>,
    pub id: SessionId,
    password: [u8; 16],
    last_zxid: i64,
    /// Paths with a watch for data, for children.
    watches: [Vec<String>; 2],
    /// Kind and path of each event, in the order of their coming.
    pub events: Vec<(i32, String)>,
}

impl Session {
    /// The first port is tried first.
    pub fn open(ports: &[u16]) -> Session {
        let mut session = Session {
            ports: ports.to_vec(),
            next: 0,
            client: None,
            id: SessionId::NONE,
            password: [0; 16],
            last_zxid: 0,
            watches: Default::default(),
            events: Vec::new(),
        };
        session.connect();
        session
    }

    /// `None`: the connection was lost before the reply, and whether it was done is not known.
    pub fn call(&mut self, request: &Request) -> Option<Reply> {
        if self.client.is_none() {
            self.connect();
        }
        let reply = self.exchange(request);
        if reply.is_none() {
            self.client = None;
        }
        reply
    }

    /// A request that may be repeated, until it is answered; its reply is a success.
    pub fn certainly(&mut self, request: &Request) -> Reply {
        let began = Instant::now();
        loop {
            if let Some(reply) = self.call(request) {
                assert_eq!(reply.err, 0, "{}", request.describe());
                return reply;
            }
            assert!(began.elapsed() < SETTLE_MAX, "no answer to {}", request.describe());
        }
    }

    /// Reads and leaves a watch.
    pub fn watch_data(&mut self, path: &str) {
        self.certainly(&request::get_data(path, true));
        self.watches[0].push(path.to_owned());
    }
    pub fn watch_children(&mut self, path: &str) {
        self.certainly(&request::get_children(path, true));
        self.watches[1].push(path.to_owned());
    }

    pub fn close(mut self) {
        self.certainly(&close_session());
    }

    /// Keeps it alive on a thread of its own.
    pub fn hold(mut self) -> Held {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                self.call(&ping());
                std::thread::sleep(PING_EVERY);
            }
            self
        });
        Held { stop, thread }
    }

    fn connect(&mut self) {
        let began = Instant::now();
        loop {
            let port = self.ports[self.next % self.ports.len()];
            self.next += 1;
            if let Ok(client) = Client::try_attach(port, self.id, &self.password, TIMEOUT_MS, self.last_zxid) {
                assert!(client.session.timeout_ms > 0, "session {} has expired", self.id);
                (self.id, self.password) = (client.session.session, client.session.password);
                self.client = Some(client);
                if self.watch_again().is_some() {
                    return;
                }
                self.client = None;
            }
            assert!(began.elapsed() < SETTLE_MAX, "session {} finds no server", self.id);
            std::thread::sleep(POLL);
        }
    }

    fn watch_again(&mut self) -> Option<()> {
        if self.watches.iter().all(Vec::is_empty) {
            return Some(());
        }
        let watches = self.watches.clone();
        let [data, children] = watches.each_ref().map(|paths| paths.iter().map(String::as_str).collect::<Vec<_>>());
        let reply = self.exchange(&set_watches(self.last_zxid, &[&data, &[], &children]))?;
        assert_eq!(reply.err, 0);
        Some(())
    }

    fn exchange(&mut self, request: &Request) -> Option<Reply> {
        let client = self.client.as_mut()?;
        client.send(&request.frame(1));
        loop {
            let reply = self.client.as_mut()?.receive()?;
            if reply.xid == -1 {
                self.notice(&reply);
                continue;
            }
            self.last_zxid = self.last_zxid.max(reply.zxid);
            return Some(reply);
        }
    }

    fn notice(&mut self, event: &Reply) {
        let mut r = Reader::new(&event.body);
        let (kind, _state, path) = (r.i32().unwrap(), r.i32().unwrap(), r.string().unwrap().to_owned());
        self.watches.iter_mut().for_each(|paths| paths.retain(|watched| *watched != path));
        self.events.push((kind, path));
    }
}

/// A session kept alive by a thread.
#[derive(Debug)]
pub struct Held {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Session>,
}

impl Held {
    /// Back to whoever held it; fails if the session was lost meanwhile.
    pub fn back(self) -> Session {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

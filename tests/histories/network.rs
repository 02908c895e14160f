//! The network between members: each reaches each other one through ports of its own, and on the way bytes can be delayed, dribble, get
//! stuck or be cut off, one way or both.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What a drip lets through at a time, and how long it takes.
const DROP_BYTES: usize = 24;
const DROP_TIME: Duration = Duration::from_millis(2);

/// How it is from one member to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    Open,
    /// Each piece takes so long.
    Slow(Duration),
    /// Some bytes at a time.
    Drip,
    /// Nothing comes through, not even the end of a connection; what was sent comes when the way is open again.
    Stuck,
    /// Connections are reset, new ones are closed at once.
    Cut,
}

/// The way from one member to another.
#[derive(Debug)]
struct Way {
    condition: Mutex<Condition>,
    changed: Condvar,
}

impl Way {
    fn now(&self) -> Condition {
        *self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, condition: Condition) {
        *self.condition.lock().unwrap_or_else(PoisonError::into_inner) = condition;
        self.changed.notify_all();
    }

    /// Waits while nothing comes through.
    fn wait_until_passable(&self) -> Condition {
        let guard = self.condition.lock().unwrap_or_else(PoisonError::into_inner);
        *self.changed.wait_while(guard, |now| *now == Condition::Stuck).unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes bytes to their destination; false when there is no way any more.
    fn carry(&self, mut bytes: &[u8], to: &mut TcpStream) -> bool {
        while !bytes.is_empty() {
            let count = match self.wait_until_passable() {
                Condition::Cut | Condition::Stuck => return false,
                Condition::Open => bytes.len(),
                Condition::Slow(time) => {
                    std::thread::sleep(time);
                    bytes.len()
                }
                Condition::Drip => {
                    std::thread::sleep(DROP_TIME);
                    bytes.len().min(DROP_BYTES)
                }
            };
            if to.write_all(&bytes[..count]).is_err() {
                return false;
            }
            bytes = &bytes[count..];
        }
        true
    }

    /// Copies until one side ends or the way is cut.
    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if !self.carry(&buffer[..count], &mut to) {
                break;
            }
        }
        // The end travels like everything else.
        self.wait_until_passable();
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}

/// From one member's port for another one to that one's own port.
struct Forwarder {
    ways: [Arc<Way>; 2],
    target: u16,
    connections: Mutex<Vec<[TcpStream; 2]>>,
    stopped: AtomicBool,
}

impl Forwarder {
    fn is_cut(&self) -> bool {
        self.ways.iter().any(|way| way.now() == Condition::Cut)
    }

    fn serve(self: &Arc<Self>, listener: &TcpListener) {
        for caller in listener.incoming().map_while(Result::ok) {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            // A caller whose way is cut, or whose target is down, finds its connection closed.
            if !self.is_cut()
                && let Ok(target) = TcpStream::connect(("127.0.0.1", self.target))
            {
                let _ = self.join(caller, target);
            }
        }
    }

    fn join(&self, caller: TcpStream, target: TcpStream) -> std::io::Result<()> {
        for stream in [&caller, &target] {
            stream.set_nodelay(true)?;
        }
        let back = (target.try_clone()?, caller.try_clone()?);
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|[stream, _]| stream.take_error().is_ok() && stream.peer_addr().is_ok());
        connections.push([caller.try_clone()?, target.try_clone()?]);
        drop(connections);
        let [there, here] = self.ways.clone();
        std::thread::spawn(move || there.copy(caller, target));
        std::thread::spawn(move || here.copy(back.0, back.1));
        Ok(())
    }

    fn reset(&self) {
        for stream in self.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..).flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// All ways between members 1 to N.
pub struct Network {
    ways: BTreeMap<(usize, usize), Arc<Way>>,
    forwarders: Vec<(u16, Arc<Forwarder>)>,
    routes: BTreeMap<(usize, usize), (u16, u16)>,
}

impl Network {
    /// All open; `ports` are the quorum and election port of each member.
    pub fn new(ports: &[(u16, u16)]) -> Self {
        let pairs = |n: usize| (1..=n).flat_map(move |from| (1..=n).filter(move |to| *to != from).map(move |to| (from, to)));
        let open = || Arc::new(Way { condition: Mutex::new(Condition::Open), changed: Condvar::new() });
        let ways: BTreeMap<_, _> = pairs(ports.len()).map(|pair| (pair, open())).collect();
        let mut network = Network { ways, forwarders: Vec::new(), routes: BTreeMap::new() };
        for (from, to) in pairs(ports.len()) {
            let (quorum, election) = ports[to - 1];
            let route = (network.forward(from, to, quorum), network.forward(from, to, election));
            network.routes.insert((from, to), route);
        }
        network
    }

    /// The ports by which each reaches each.
    pub fn routes(&self) -> BTreeMap<(usize, usize), (u16, u16)> {
        self.routes.clone()
    }

    fn forward(&mut self, from: usize, to: usize, target: u16) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let ways = [(from, to), (to, from)].map(|pair| self.ways[&pair].clone());
        let forwarder = Arc::new(Forwarder { ways, target, connections: Mutex::default(), stopped: AtomicBool::new(false) });
        self.forwarders.push((port, forwarder.clone()));
        std::thread::spawn(move || forwarder.serve(&listener));
        port
    }

    /// One way.
    pub fn set(&self, from: usize, to: usize, condition: Condition) {
        self.ways[&(from, to)].set(condition);
        if condition == Condition::Cut {
            self.forwarders.iter().filter(|(_, f)| f.is_cut()).for_each(|(_, f)| f.reset());
        }
    }

    /// Both ways between each of one side and each of the other.
    pub fn between(&self, one: &[usize], other: &[usize], condition: Condition) {
        for (a, b) in one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
            self.set(a, b, condition);
            self.set(b, a, condition);
        }
    }

    /// All ways.
    pub fn everywhere(&self, condition: Condition) {
        self.ways.keys().for_each(|(from, to)| self.set(*from, *to, condition));
    }

    pub fn heal(&self) {
        self.everywhere(Condition::Open);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.everywhere(Condition::Cut);
        for (port, forwarder) in &self.forwarders {
            forwarder.stopped.store(true, Ordering::Relaxed);
            // Wakes it up.
            drop(TcpStream::connect(("127.0.0.1", *port)));
        }
    }
}

//! Accepting client sockets: one listener for the whole server, on shard 0's executor; connections are dealt to the shards (`balance`).
//!
//! The listening socket is bound without SO_REUSEPORT, so a second server on the same port is an error and not a thief of half the
//! connections. Limits per address and in all are checked here: a connection beyond one is accepted and closed without a byte, as
//! ZooKeeper does. So is one that would take the last descriptors: without them the log could not go on, and the server would end.

use crate::balance::Placer;
use crate::reactor::clock;
use crate::reactor::mesh::{Mesh, ShardLoad, ToShard};
use crate::reactor::peer_io::{Bind, ClientMoves, bind_in_time};
use crate::reactor::way::Way;
use foldhash::HashMap;
use glommio::io::PollableFd;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::process::{Resource, getrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

/// How long accepting pauses when the process or the machine is out of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(50);
/// How long accepting pauses when the shard whose turn it is has many new connections waiting; the kernel queues meanwhile.
const SHARD_BUSY: Duration = Duration::from_millis(2);
/// The accept queue when the configuration leaves it to us.
const BACKLOG_DEFAULT: i32 = 1024;
/// Sockets accepted in one turn before others get theirs.
const ACCEPTS_PER_TURN: usize = 64;
/// Descriptors that no client gets, because log, snapshots and other servers need some at any time; of a small limit a part.
const OWN_DESCRIPTORS: u64 = 64;
const OWN_PART: u64 = 4;
/// Addresses without connections are forgotten when this many are remembered.
const ADDRESSES_REMEMBERED: usize = 4096;

/// A client socket on its way to its shard: non-blocking, without delay.
pub struct Accepted {
    /// The socket.
    pub socket: OwnedFd,
    /// The client.
    pub peer: SocketAddr,
    /// Its place under the limits, given back on drop.
    pub place: Place,
}

/// A client socket on its way from one shard to another.
pub struct MovedSocket {
    /// The socket.
    pub socket: OwnedFd,
    /// The client has sent all it ever will.
    pub ended: bool,
    /// Counted for the shard it goes to.
    pub place: Place,
}

/// Limits on connections; 0 is unlimited.
#[derive(Clone, Copy, Debug, Default)]
pub struct AcceptLimits {
    /// `maxClientCnxns`.
    pub per_address: u32,
    /// `maxCnxns`.
    pub total: u32,
}

/// How accepting goes on.
enum Next {
    /// There may be more connections waiting.
    More,
    /// There are none.
    Wait,
    /// The next one's shard cannot take it yet.
    ShardBusy,
}

/// One connection's place under the limits.
pub struct Place {
    address: Arc<AtomicU32>,
    total: Arc<AtomicU32>,
    /// Of the shard that has it.
    load: Arc<ShardLoad>,
}

impl Place {
    /// Another shard has it from now on.
    pub fn move_to(&mut self, load: Arc<ShardLoad>) {
        load.gain();
        std::mem::replace(&mut self.load, load).lose();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.lose();
        self.address.fetch_sub(1, Ordering::Relaxed);
        self.total.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a taken port is tried again: the kernel takes down the ring of a killed predecessor in its own time, and until then that ring
/// holds the listening socket.
const TAKEN_PORT_PATIENCE: Duration = Duration::from_secs(3);
const TAKEN_PORT_POLL: Duration = Duration::from_millis(20);

/// Binds a listening socket, before anything else runs on this thread. `[::]` takes both families, or IPv4 alone where the machine has no IPv6.
pub fn listen(address: SocketAddr, backlog: Option<u32>) -> io::Result<TcpListener> {
    let deadline = std::time::Instant::now() + TAKEN_PORT_PATIENCE;
    loop {
        match listen_now(address, backlog) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && std::time::Instant::now() < deadline => std::thread::sleep(TAKEN_PORT_POLL),
            result => return result,
        }
    }
}

/// The same, once: a taken port is an error at once.
pub fn listen_now(address: SocketAddr, backlog: Option<u32>) -> io::Result<TcpListener> {
    match bind(address, backlog) {
        Err(e) if address.ip() == IpAddr::from([0u16; 8]) && e.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => {
            bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())), backlog)
        }
        result => result,
    }
}

fn bind(address: SocketAddr, backlog: Option<u32>) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog.map_or(BACKLOG_DEFAULT, |n| i32::try_from(n).unwrap_or(i32::MAX)))?;
    Ok(socket.into())
}

/// Deals accepted sockets to shards. Lives on shard 0's executor.
pub struct Acceptor {
    mesh: Arc<Mesh>,
    limits: AcceptLimits,
    keep_alive: bool,
    placer: Rc<RefCell<Placer>>,
    by_address: HashMap<IpAddr, Arc<AtomicU32>>,
    total: Arc<AtomicU32>,
    /// The first descriptor that clients do not get. The kernel gives the lowest that is free, so where a client has a lower one, all from here on
    /// are free for us.
    own_descriptors: RawFd,
    refused: u64,
}

impl Acceptor {
    /// Connections go where `placer` says.
    pub fn new(mesh: Arc<Mesh>, limits: AcceptLimits, keep_alive: bool, placer: Rc<RefCell<Placer>>) -> Self {
        let own_descriptors = own_descriptors(getrlimit(Resource::Nofile).current);
        Acceptor { mesh, limits, keep_alive, placer, by_address: HashMap::default(), total: Arc::default(), own_descriptors, refused: 0 }
    }

    /// Accepts until the task is dropped, where the configuration has this server's clients.
    pub async fn run(&mut self, listener: TcpListener, moves: Option<(Rc<ClientMoves>, Bind)>) -> io::Result<()> {
        let Some((moves, bind)) = moves else { return self.accept(listener).await };
        let mut listener = Some(listener);
        loop {
            let accepting = async {
                match listener.take() {
                    Some(listener) => self.accept(listener).await,
                    None => std::future::pending().await,
                }
            };
            let Some((host, port)) = until(accepting, moves.next()).await? else { continue };
            listener = Some(bind_in_time(&bind, &host, port).await);
            tracing::info!("clients connect to {host}:{port} now");
        }
    }

    async fn accept(&mut self, listener: TcpListener) -> io::Result<()> {
        let listener = PollableFd::new(Rc::new(OwnedFd::from(listener))).map_err(super::system_error)?;
        let way = Way::of_this_executor();
        loop {
            match self.accept_some(listener.get_ref().as_ref()) {
                Ok(Next::More) => way.give().await,
                Ok(Next::Wait) => listener.readable().await.map_err(super::system_error)?,
                Ok(Next::ShardBusy) => glommio::timer::sleep(SHARD_BUSY).await,
                Err(e) => {
                    tracing::warn!("cannot accept connections for now: {e}");
                    glommio::timer::sleep(BACK_OFF).await;
                }
            }
        }
    }

    /// Accepts what is waiting.
    fn accept_some(&mut self, listener: &OwnedFd) -> io::Result<Next> {
        for _ in 0..ACCEPTS_PER_TURN {
            let shard = self.placer.borrow_mut().choose(clock::now().as_ms(), &self.mesh.loads_now());
            if self.mesh.is_busy(shard) {
                return Ok(Next::ShardBusy);
            }
            match rustix::net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((socket, Some(peer))) => match SocketAddr::try_from(peer) {
                    Ok(peer) => self.admit(shard, socket, SocketAddr::new(peer.ip().to_canonical(), peer.port())),
                    Err(_) => drop(socket),
                },
                Ok((socket, None)) => drop(socket),
                Err(Errno::AGAIN) => return Ok(Next::Wait),
                Err(e @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::INVAL | Errno::BADF)) => return Err(e.into()),
                Err(_) => {} // that one connection failed before it was accepted
            }
        }
        Ok(Next::More)
    }

    fn admit(&mut self, shard: usize, socket: OwnedFd, peer: SocketAddr) {
        if socket.as_raw_fd() >= self.own_descriptors {
            return self.refuse(peer.ip(), "they have all open files that are left to clients (ulimit -n, LimitNOFILE=)");
        }
        let Some(place) = self.place(shard, peer.ip()) else {
            return self.refuse(peer.ip(), "more than maxClientCnxns or maxCnxns allows");
        };
        if rustix::net::sockopt::set_tcp_nodelay(socket.as_fd(), true).is_err() {
            return; // reset already
        }
        if self.keep_alive {
            let _ = rustix::net::sockopt::set_socket_keepalive(socket.as_fd(), true);
        }
        self.placer.borrow_mut().placed(shard);
        if self.mesh.tell(shard, ToShard::Accepted(Accepted { socket, peer, place })).is_err() {
            tracing::warn!("shard {shard} has too many new connections waiting; closed the one from {peer}");
        }
    }

    /// Says so, more and more rarely.
    fn refuse(&mut self, address: IpAddr, why: &str) {
        self.refused += 1;
        if self.refused.is_power_of_two() {
            tracing::warn!("too many connections: {why}; {} refused so far, this one from {address}", self.refused);
        }
    }

    fn place(&mut self, shard: usize, address: IpAddr) -> Option<Place> {
        if self.by_address.len() >= ADDRESSES_REMEMBERED {
            self.by_address.retain(|_, count| count.load(Ordering::Relaxed) > 0);
        }
        let count = self.by_address.entry(address).or_default();
        let under = |count: &AtomicU32, max: u32| max == 0 || count.load(Ordering::Relaxed) < max;
        if !under(count, self.limits.per_address) || !under(&self.total, self.limits.total) {
            return None;
        }
        count.fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(1, Ordering::Relaxed);
        let load = self.mesh.loads[shard].clone();
        load.gain();
        Some(Place { address: count.clone(), total: self.total.clone(), load })
    }
}

/// Where those begin that clients do not get, under this limit.
fn own_descriptors(limit: Option<u64>) -> RawFd {
    let limit = limit.unwrap_or(u64::MAX);
    RawFd::try_from(limit - OWN_DESCRIPTORS.min(limit / OWN_PART)).unwrap_or(RawFd::MAX)
}

/// The outcome of `other`, unless `work` ends before it with an error.
async fn until<T>(work: impl Future<Output = io::Result<()>>, other: impl Future<Output = T>) -> io::Result<T> {
    let (mut work, mut other) = (pin!(work), pin!(other));
    poll_fn(|cx| match (other.as_mut().poll(cx), work.as_mut().poll(cx)) {
        (Poll::Ready(outcome), _) => Poll::Ready(Ok(outcome)),
        (Poll::Pending, Poll::Ready(ended)) => Poll::Ready(Err(ended.err().unwrap_or_else(|| io::Error::other("accepting has ended")))),
        (Poll::Pending, Poll::Pending) => Poll::Pending,
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{Placement, Shares};

    #[test]
    fn a_taken_port_is_an_error() {
        let first = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), None).expect("binds");
        let address = first.local_addr().expect("bound");
        let error = listen(address, None).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn some_descriptors_are_left_for_the_server() {
        for (limit, first) in [(Some(80), 60), (Some(256), 192), (Some(1024), 960), (Some(1 << 20), (1 << 20) - 64), (None, RawFd::MAX)] {
            assert_eq!(own_descriptors(limit), first, "{limit:?}");
        }
    }

    #[test]
    fn places_are_limited_per_address_and_in_all_and_given_back() {
        let limits = AcceptLimits { per_address: 2, total: 3 };
        let mesh = Arc::new(Mesh::new(2, 16));
        let placer = Placer::new(Placement::RoundRobin, Shares::new(2, 100));
        let mut acceptor = Acceptor::new(mesh.clone(), limits, false, Rc::new(RefCell::new(placer)));
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = acceptor.place(0, a).expect("free");
        let _second = acceptor.place(0, a).expect("free");
        assert!(acceptor.place(0, a).is_none(), "two per address");
        let _third = acceptor.place(1, b).expect("free");
        assert!(acceptor.place(1, b).is_none(), "three in all");
        drop(first);
        let mut moved = acceptor.place(1, b).expect("free");
        let connections = || mesh.loads_now().iter().map(|load| load.connections).collect::<Vec<_>>();
        assert_eq!(connections(), [1, 2]);
        moved.move_to(mesh.loads[0].clone());
        assert_eq!(connections(), [2, 1]);
        drop(moved);
        assert_eq!(connections(), [1, 1]);
    }
}

//! TCP between servers: non-blocking sockets with deadlines, and listeners. Hosts are resolved on a thread of their own, each time anew.

use crate::base::Instant;
use crate::reactor::clock;
use crate::reactor::way::Way;
use crate::zab::membership::MemberAddress;
use glommio::io::PollableFd;
use glommio::timer::Timer;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, ipproto, sockopt};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

/// How long accepting pauses when the process or the machine is out of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(50);
/// Addresses of one host name that are tried; more is no name of a server.
const ADDRESSES_MAX: usize = 8;

/// A connection to another server.
pub struct PeerSocket {
    fd: PollableFd<Arc<OwnedFd>>,
    /// The other end.
    pub peer: SocketAddr,
}

impl PeerSocket {
    /// Connects, within the executor's means: the attempt ends when the future is dropped.
    async fn connect(address: SocketAddr, keep_alive: bool) -> io::Result<Self> {
        let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        let connecting = match rustix::net::connect(&fd, &address) {
            Ok(()) => false,
            Err(Errno::INPROGRESS) => true,
            Err(e) => return Err(e.into()),
        };
        let socket = Self::new(fd, address, keep_alive)?;
        if connecting {
            socket.fd.writable().await.map_err(io::Error::other)?;
            sockopt::socket_error(socket.fd.get_ref())??;
        }
        Ok(socket)
    }

    fn new(fd: OwnedFd, peer: SocketAddr, keep_alive: bool) -> io::Result<Self> {
        sockopt::set_tcp_nodelay(&fd, true)?;
        sockopt::set_socket_keepalive(&fd, keep_alive)?;
        Ok(PeerSocket { fd: PollableFd::new(Arc::new(fd)).map_err(io::Error::other)?, peer })
    }

    /// Receives what there is, at least a byte; 0 is the end.
    pub async fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::net::recv(self.fd.get_ref(), &mut *room, RecvFlags::DONTWAIT) {
                Ok((_, n)) => return Ok(n),
                Err(Errno::AGAIN | Errno::INTR) => self.fd.readable().await.map_err(io::Error::other)?,
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Sends what goes without waiting; `Ok(0)` when the socket is full.
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::net::send(self.fd.get_ref(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(n) => return Ok(n),
                Err(Errno::AGAIN) => return Ok(0),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Sends all of it. What fits into the socket's buffer leaves as one piece.
    pub async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.send_now(bytes)? {
                0 => self.writable().await?,
                n => bytes = &bytes[n..],
            }
        }
        Ok(())
    }

    /// Returns when there is room to send, or an error to find.
    pub async fn writable(&self) -> io::Result<()> {
        self.fd.writable().await.map_err(io::Error::other)
    }

    /// The socket for whoever may want to end it, and is not to keep it open.
    pub fn handle(&self) -> Weak<OwnedFd> {
        Arc::downgrade(self.fd.get_ref())
    }

    /// Ends both directions: whoever waits on the socket finds out.
    pub fn shut(&self) {
        let _ = rustix::net::shutdown(self.fd.get_ref(), Shutdown::Both);
    }
}

/// Connects to one of a member's ports: every address of every host in turn, each host resolved anew, all within `limit`.
pub async fn connect_to_any(
    addresses: &[MemberAddress],
    port: impl Fn(&MemberAddress) -> u16,
    limit: Duration,
    keep_alive: bool,
) -> io::Result<PeerSocket> {
    let deadline = clock::now().plus_ms(limit.as_millis() as u64);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the member has no address");
    for address in addresses {
        let (host, port) = (address.host.clone(), port(address));
        let found = within(left_until(deadline), resolve(host, port)).await.unwrap_or_else(|| Err(timed_out()));
        match found {
            Ok(found) => {
                for at in found {
                    match within(left_until(deadline), PeerSocket::connect(at, keep_alive)).await.unwrap_or_else(|| Err(timed_out())) {
                        Ok(socket) => return Ok(socket),
                        Err(e) => last = e,
                    }
                }
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

fn left_until(deadline: Instant) -> Duration {
    Duration::from_nanos(deadline.since_ns(clock::now()))
}

/// The addresses of a host. Asking a name server can take long, so that happens on a thread of its own.
async fn resolve(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    crate::reactor::on_thread("zoo-resolve", move || resolve_blocking(&host, port)).await?
}

/// The addresses of a host; may wait for a name server.
pub fn resolve_blocking(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<_> = (host, port).to_socket_addrs()?.take(ADDRESSES_MAX).collect();
    if found.is_empty() { Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"))) } else { Ok(found) }
}

/// What a future gives in time; `None` (and its end) when that takes longer.
pub async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut timer = pin!(Timer::new(limit));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => timer.as_mut().poll(cx).map(|_| None),
    })
    .await
}

/// Accepts connections of other servers for as long as the future lives.
pub async fn accept_all(listener: TcpListener, keep_alive: bool, mut accepted: impl FnMut(PeerSocket)) {
    let listener = match PollableFd::new(OwnedFd::from(listener)) {
        Ok(listener) => listener,
        Err(e) => crate::reactor::fatal(&format!("a port for other servers cannot be used: {e}")),
    };
    let way = Way::of_this_executor();
    loop {
        match rustix::net::acceptfrom_with(listener.get_ref(), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok((fd, peer)) => {
                let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                if let Some(socket) = peer.and_then(|peer| PeerSocket::new(fd, peer, keep_alive).ok()) {
                    accepted(socket);
                }
                way.give().await;
            }
            Err(Errno::AGAIN) => {
                if let Err(e) = listener.readable().await {
                    crate::reactor::fatal(&format!("a port for other servers cannot be waited for: {e}"));
                }
            }
            Err(e @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                tracing::warn!("cannot accept connections of other servers for now: {e}");
                glommio::timer::sleep(BACK_OFF).await;
            }
            Err(_) => {} // that one connection failed before it was accepted
        }
    }
}

//! Partitions between servers of one process, for tests: who cannot reach whom, and the connections that this cuts.
//!
//! Either end of a connection ends both, so the one that has made it is enough: it knows whom it has called, on the quorum port as on the
//! election port.

use super::PeerIoConfig;
use super::socket::{PeerSocket, connect_to_any};
use crate::base::PeerId;
use crate::zab::membership::MemberAddress;
use rustix::net::Shutdown;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// The network between the servers of an ensemble in this process: whole, until somebody cuts it.
#[derive(Debug, Default)]
pub struct Cuts(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Pairs, the lower one first.
    cut: BTreeSet<(PeerId, PeerId)>,
    connections: Vec<((PeerId, PeerId), Weak<OwnedFd>)>,
}

fn pair(a: PeerId, b: PeerId) -> (PeerId, PeerId) {
    (a.min(b), a.max(b))
}

impl Cuts {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these two do not reach each other, and what connects them is closed.
    pub fn cut(&self, a: PeerId, b: PeerId) {
        let mut state = self.state();
        state.cut.insert(pair(a, b));
        for (_, connection) in state.connections.extract_if(.., |(between, _)| *between == pair(a, b)) {
            if let Some(fd) = connection.upgrade() {
                // It may have been closed meanwhile.
                let _ = rustix::net::shutdown(&fd, Shutdown::Both);
            }
        }
    }

    /// Everybody reaches everybody again.
    pub fn heal(&self) {
        self.state().cut.clear();
    }

    fn check(&self, a: PeerId, b: PeerId) -> io::Result<()> {
        if self.state().cut.contains(&pair(a, b)) { Err(io::Error::from(io::ErrorKind::NetworkUnreachable)) } else { Ok(()) }
    }

    /// A connection is there: it may stay, for as long as these two are not cut off from each other.
    fn admit(&self, a: PeerId, b: PeerId, socket: &PeerSocket) -> io::Result<()> {
        let mut state = self.state();
        if state.cut.contains(&pair(a, b)) {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        state.connections.retain(|(_, connection)| connection.strong_count() > 0);
        state.connections.push((pair(a, b), socket.handle()));
        Ok(())
    }
}

/// Connects to one of a member's ports (`connect_to_any`), unless it is out of reach.
pub async fn call(
    config: &PeerIoConfig,
    to: PeerId,
    addresses: &[MemberAddress],
    port: impl Fn(&MemberAddress) -> u16,
    limit: Duration,
) -> io::Result<PeerSocket> {
    let Some(cuts) = &config.cuts else { return connect_to_any(addresses, port, limit, config.tcp_keep_alive).await };
    cuts.check(config.me, to)?;
    let socket = connect_to_any(addresses, port, limit, config.tcp_keep_alive).await?;
    cuts.admit(config.me, to, &socket)?;
    Ok(socket)
}

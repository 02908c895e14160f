//! What a member of an ensemble needs besides what every server needs: its ports for the other servers, its epochs, the way a leader's image
//! gets into its directory.

use super::bootstrap::StartError;
use super::config::dynamic::DynamicFiles;
use super::config::{EnsembleConfig, ServerConfig};
use super::epochs::read_epochs;
use super::log_feed;
use super::recovery::{self, Recovered, RecoveryError};
use super::snapshots::SnapshotFiles;
use crate::base::Zxid;
use crate::disk::DirLock;
use crate::reactor::accept;
use crate::reactor::peer_io::{Bind, ConfigFiles, Cuts, History, ImageStream, LogParts, PeerIoConfig, PeerParts, resolve_blocking};
use crate::tree::{Tree, TreeConfig};
use crate::zab::{Membership, Stored};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

/// Between two attempts to bind a port for the other servers.
const BIND_PAUSE: Duration = Duration::from_secs(1);

/// Listening sockets for the other servers.
pub(super) struct Ports {
    pub(super) election: Vec<TcpListener>,
    pub(super) quorum: Vec<TcpListener>,
    pub(super) observers: Vec<TcpListener>,
}

/// What a member has of the process it runs in.
pub(super) struct Surroundings<'a> {
    pub(super) locks: &'a Arc<Vec<DirLock>>,
    pub(super) cuts: Option<Arc<Cuts>>,
}

/// Binds both ports of every address of this server's line.
pub(super) fn bind_ports(ensemble: &EnsembleConfig) -> Result<Ports, StartError> {
    let mut ports = Ports { election: Vec::new(), quorum: Vec::new(), observers: Vec::new() };
    for address in &ensemble.own().addresses {
        ports.election.push(
            bind(ensemble, &address.host, address.election_port).map_err(|(address, error)| StartError::Election { address, error })?,
        );
        ports
            .quorum
            .push(bind(ensemble, &address.host, address.quorum_port).map_err(|(address, error)| StartError::Quorum { address, error })?);
        if let Some(port) = ensemble.observer_master_port.filter(|_| !ensemble.is_observer()) {
            ports.observers.push(bind(ensemble, &address.host, port).map_err(|(address, error)| StartError::Quorum { address, error })?);
        }
    }
    Ok(ports)
}

/// `electionPortBindRetry` attempts: a name may not be known yet, or an address not be up.
fn bind(ensemble: &EnsembleConfig, host: &str, port: u16) -> Result<TcpListener, (String, io::Error)> {
    let mut attempt = 1;
    loop {
        let error = match bind_once(ensemble.listen_on_all, host, port) {
            Ok(listener) => return Ok(listener),
            Err(error) => error,
        };
        if ensemble.bind_retries.is_some_and(|retries| attempt >= retries) {
            return Err((format!("{host}:{port}"), error));
        }
        tracing::warn!("cannot listen on {host}:{port} (attempt {attempt}): {error}");
        attempt += 1;
        std::thread::sleep(BIND_PAUSE);
    }
}

fn bind_once(on_all: bool, host: &str, port: u16) -> io::Result<TcpListener> {
    if on_all {
        return accept::listen(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port), None);
    }
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in resolve_blocking(host, port)? {
        match accept::listen(address, None) {
            Ok(listener) => return Ok(listener),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// What the broadcast core is told of the disk.
pub(super) fn stored(config: &ServerConfig, recovered: &mut Recovered) -> Result<Stored, RecoveryError> {
    let (accepted_epoch, current_epoch) = read_epochs(&config.storage.snapshot_version_dir(), recovered.last_zxid)?;
    let recent = std::mem::take(&mut recovered.recent);
    Ok(Stored {
        accepted_epoch,
        current_epoch,
        last_logged: recovered.last_zxid,
        snapshot: recovered.least_end,
        emptiness: recovered.emptiness,
        configuration: recovered.tree.configuration_text().and_then(|text| Membership::parse(&text).ok()),
        recent,
    })
}

/// The way to the other servers.
pub(super) fn peer_parts(
    config: &ServerConfig,
    ports: Ports,
    files: &SnapshotFiles,
    tree: TreeConfig,
    surroundings: Surroundings<'_>,
) -> Option<PeerParts> {
    let history = Arc::new(Directory { files: files.clone(), config: config.clone(), tree, _locks: surroundings.locks.clone() });
    let on_all = config.ensemble.as_ref()?.listen_on_all;
    let bind: Bind = Arc::new(move |host, port| bind_once(on_all, host, port));
    let bind_clients: Bind = Arc::new(move |host, port| bind_once(false, host, port));
    let configs = config_files(config).map(|files| Arc::new(files) as Arc<dyn ConfigFiles>);
    Some(PeerParts {
        config: PeerIoConfig { cuts: surroundings.cuts, ..config.peer_io()? },
        election: ports.election,
        quorum: ports.quorum,
        observers: ports.observers,
        history,
        configs,
        bind,
        bind_clients,
    })
}

/// Where this server keeps a configuration that changes.
fn config_files(config: &ServerConfig) -> Option<DynamicFiles> {
    let ensemble = config.ensemble.as_ref().filter(|ensemble| ensemble.reconfig.enabled)?;
    let files = DynamicFiles { file: ensemble.file.clone()?, me: ensemble.me };
    if let Err(e) = files.back_up() {
        tracing::warn!("{} cannot be copied before it is changed: {e}", files.file.display());
    }
    Some(files)
}

/// The data directory while this server runs.
struct Directory {
    files: SnapshotFiles,
    config: ServerConfig,
    tree: TreeConfig,
    /// As long as anything works here.
    _locks: Arc<Vec<DirLock>>,
}

impl History for Directory {
    fn receive(&self, image: &ImageStream) -> Result<(), String> {
        self.files.receive(image)
    }
    fn load(&self, zxid: Zxid) -> Result<Tree, String> {
        self.files.load_received(zxid, &self.tree)
    }
    fn install(&self, zxid: Zxid) -> io::Result<()> {
        self.files.install(zxid)
    }
    fn open_log(&self, from: Zxid, newest: Option<(Zxid, u64)>) -> Result<Box<dyn LogParts>, String> {
        log_feed::open(&self.config.storage, from, newest)
    }
    fn reload(&self) -> Result<Tree, String> {
        recovery::reload(&self.config.storage, &self.tree).map_err(|e| e.to_string())
    }
}

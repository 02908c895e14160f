//! The configuration: files, flags and environment in, one typed `ServerConfig` out.
//!
//! Parsed once, when the server starts. Each layer gets a small struct of its own by value (`tree()`, `shard()`, …); nothing
//! below `server` ever sees a key or a string from a file. Invariants:
//! 1. A `ServerConfig` made by `load` is complete and in range; later code never checks again.
//! 2. A key that is not supported never passes in silence: it is a warning, or an error where ignoring it would weaken
//!    security or change what this server is.
//! 3. A message that could reach a log names keys, never the values of secrets (rule S9).

pub mod dynamic;
pub mod ensemble;
pub mod error;
mod keys;
mod properties;
mod resolve;
mod settings;
mod values;

#[cfg(test)]
mod tests;

pub use ensemble::{EnsembleConfig, EnsembleTimes};
pub use error::ConfigError;

use crate::admin::{ServerFacts, Whitelist};
use crate::balance::Placement;
use crate::base::limits;
use crate::disk::LogWriter;
use crate::reactor::peer_io::PeerIoConfig;
use crate::record::epochs::Epochs;
use crate::replica::{ClientModes, ReplicaConfig};
use crate::shard::ShardConfig;
use crate::storage::log::LogConfig;
use crate::storage::mark::Mark;
use crate::tree::TreeConfig;
use crate::zab::ZabConfig;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Everything a server can be told.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// Where and how clients connect.
    pub net: NetConfig,
    /// How the work is spread over the machine's cores.
    pub cores: CoresConfig,
    /// Directories, log and snapshots.
    pub storage: StorageConfig,
    /// Ticks, sessions and the limits on their requests.
    pub sessions: SessionsConfig,
    /// Which znode features are on.
    pub znodes: ZnodesConfig,
    /// Authentication of clients.
    pub auth: AuthConfig,
    /// Commands on the client port.
    pub four_letter: FourLetterConfig,
    /// A member of an ensemble; `None` stands alone.
    pub ensemble: Option<EnsembleConfig>,
}

/// Where and how clients connect.
#[derive(Clone, Debug, PartialEq)]
pub struct NetConfig {
    /// `clientPort`, `clientPortAddress`. `[::]` means every address of both families (`0.0.0.0` where the machine has no IPv6; peers
    /// then arrive as v4-mapped addresses and want `to_canonical`). Port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// `clientPortListenBacklog`; `None` leaves it to the system.
    pub backlog: Option<u32>,
    /// `maxClientCnxns`: connections per client address; `None` is unlimited.
    pub max_client_cnxns: Option<usize>,
    /// `maxCnxns`: connections in all; `None` is unlimited.
    pub max_cnxns: Option<usize>,
    /// `nio.sessionlessCnxnTimeout`: a connection that has not finished its connect request is closed after this long.
    pub sessionless_ms: u64,
    /// `clientTcpKeepAlive`.
    pub tcp_keep_alive: bool,
}

/// How the work is spread over the machine's cores.
#[derive(Clone, Debug, PartialEq)]
pub struct CoresConfig {
    /// `zoo.shards`: how many cores serve connections; `None` chooses by the process's affinity mask.
    pub shards: Option<u16>,
    /// `zoo.pin`: `Some(true)` binds each executor to its core, `None` does so where it helps.
    pub pin: Option<bool>,
    /// `zoo.replicaShare`: how many connections, in percent of another core's, the core gets that also runs the replica; `None` chooses.
    pub replica_share_percent: Option<u8>,
    /// `zoo.placement`: which shard a new connection goes to.
    pub placement: Placement,
    /// `zoo.rebalanceInterval`: how often connections may move to other shards; `None` is never.
    pub rebalance_ms: Option<u64>,
}

/// Directories, log and snapshots.
#[derive(Clone, Debug, PartialEq)]
pub struct StorageConfig {
    /// `dataDir`; snapshots are in its `version-2`.
    pub data_dir: PathBuf,
    /// `dataLogDir`, by default `dataDir`; logs are in its `version-2`.
    pub log_dir: PathBuf,
    /// `datadir.autocreate`: create missing directories.
    pub create_dirs: bool,
    /// `db.autocreate`: an empty directory is an empty database; otherwise only with the `initialize` marker.
    pub create_database: bool,
    /// `snapshot.trust.empty`: accept logs without any snapshot.
    pub trust_empty_snapshot: bool,
    /// `forceSync`: acknowledge only what is on stable storage.
    pub force_sync: bool,
    /// `fsync.warningthresholdms`.
    pub fsync_warning_ms: u64,
    /// `preAllocSize`, in bytes.
    pub pre_alloc_bytes: u64,
    /// `txnLogSizeLimitInKb`, in bytes; `None` is off.
    pub log_file_bytes_max: Option<u64>,
    /// `zoo.logWriter`: how bytes get into the log; `None` chooses the best way for the file system (rule A21).
    pub log_writer: Option<LogWriter>,
    /// `snapshot.compression.method`.
    pub compression: Compression,
    /// `serializeLastProcessedZxid.enabled`: snapshots end with their zxid.
    pub snapshot_has_zxid: bool,
    /// `snapCount`: transactions between snapshots.
    pub snap_count: u64,
    /// `snapSizeLimitInKb`, in bytes: log bytes between snapshots; `None` is off.
    pub snap_log_bytes: Option<u64>,
    /// `autopurge.*`; `None` is off.
    pub purge: Option<PurgeConfig>,
    /// `snapshotSizeFactor`: learners are fed from the log where that is no longer than this part of a snapshot; `None` is off.
    pub snapshot_size_factor: Option<f64>,
    /// Bytes that may be appended and not flushed, at least; a segment of the log holds twice as much.
    pub unsynced_bytes_max: usize,
    /// Longest transaction that is logged: `jute.maxbuffer` and its extra, which is what a ZooKeeper with the same settings can read.
    pub payload_bytes_max: usize,
}

/// How snapshots are written; each kind has its own file suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Plain, with checksums.
    Checked,
    /// `.gz`.
    Gzip,
    /// `.snappy`.
    Snappy,
}

/// Automatic removal of old snapshots and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeConfig {
    /// Snapshots to keep.
    pub retain_count: usize,
    /// Hours between runs; the first is at start.
    pub interval_hours: u64,
}

/// Ticks, sessions and the limits on their requests.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionsConfig {
    /// `tickTime`.
    pub tick_ms: u64,
    /// `minSessionTimeout`, by default 2 ticks.
    pub min_timeout_ms: i32,
    /// `maxSessionTimeout`, by default 20 ticks.
    pub max_timeout_ms: i32,
    /// `jute.maxbuffer`: largest frame of a client.
    pub frame_bytes_max: usize,
    /// `globalOutstandingLimit`.
    pub global_outstanding_limit: usize,
    /// `zoo.outBufferMax`.
    pub out_buffer_bytes_max: usize,
    /// `zoo.watchesPerSessionMax`.
    pub watches_per_session_max: usize,
    /// `zoo.slowRequest`: a request that takes so long is told of; `None` is never.
    pub slow_request_ms: Option<u64>,
    /// `zoo.multiOpsMax`.
    pub multi_ops_max: usize,
}

/// Which znode features are on.
#[derive(Clone, Debug, PartialEq)]
pub struct ZnodesConfig {
    /// `extendedTypesEnabled`: TTL nodes.
    pub extended_types: bool,
    /// `emulate353TTLNodes`.
    pub emulate_353_ttl: bool,
    /// `enforceQuota`.
    pub enforce_quota: bool,
    /// `digest.enabled`.
    pub digest_enabled: bool,
    /// `closeSessionTxn.enabled`.
    pub close_session_txn: bool,
    /// `reconfigEnabled`.
    pub reconfig_enabled: bool,
    /// `znode.container.checkIntervalMs`.
    pub container_check_interval_ms: u64,
    /// `znode.container.maxPerMinute`.
    pub container_max_per_minute: u64,
    /// `znode.container.maxNeverUsedIntervalMs`; 0 keeps containers that never had a child.
    pub container_max_never_used_ms: i64,
}

/// Authentication of clients.
#[derive(Clone, PartialEq)]
pub struct AuthConfig {
    /// `skipACL`.
    pub skip_acl: bool,
    /// `DigestAuthenticationProvider.enabled`.
    pub digest_enabled: bool,
    /// `DigestAuthenticationProvider.superDigest`: `super:<base64 of SHA-1>`, or with another user name.
    pub super_digest: Option<String>,
}

impl std::fmt::Debug for AuthConfig {
    /// Never shows the digest (rule S9).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("skip_acl", &self.skip_acl)
            .field("digest_enabled", &self.digest_enabled)
            .field("super_digest", &self.super_digest.as_ref().map(|_| "(set)"))
            .finish()
    }
}

/// Commands on the client port.
#[derive(Clone, Debug, PartialEq)]
pub struct FourLetterConfig {
    /// `4lw.commands.whitelist`: the words that are answered; `srvr` always is.
    pub whitelist: Whitelist,
}

/// Server number that goes into the session ids of a standalone server, as in ZooKeeper.
const STANDALONE_SESSION_SERVER_ID: i64 = 1;
/// ZooKeeper's default step of log preallocation.
const PRE_ALLOC_BYTES: u64 = 65_536 << 10;
/// Default of `zoo.slowRequest`, as of `fsync.warningthresholdms`.
const SLOW_REQUEST_MS: u64 = 1_000;
/// ZooKeeper's part of a snapshot's size that is still sent as log instead.
const SNAPSHOT_SIZE_FACTOR: f64 = 0.33;
/// The tick of a server that is started without a file.
const DEVELOPMENT_TICK_MS: u64 = 2_000;

impl ServerConfig {
    /// A server for development: loopback only, tickTime 2000, everything else as ZooKeeper's defaults.
    #[must_use]
    pub fn development(listen: SocketAddr, data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        ServerConfig {
            net: NetConfig {
                listen,
                backlog: None,
                max_client_cnxns: Some(60),
                max_cnxns: None,
                sessionless_ms: limits::SESSIONLESS_MS_MAX,
                tcp_keep_alive: false,
            },
            cores: CoresConfig {
                shards: None,
                pin: None,
                replica_share_percent: None,
                placement: Placement::RoundRobin,
                rebalance_ms: None,
            },
            storage: StorageConfig {
                log_dir: data_dir.clone(),
                data_dir,
                create_dirs: true,
                create_database: true,
                trust_empty_snapshot: false,
                force_sync: true,
                fsync_warning_ms: 1_000,
                pre_alloc_bytes: PRE_ALLOC_BYTES,
                log_file_bytes_max: None,
                log_writer: None,
                compression: Compression::Checked,
                snapshot_has_zxid: true,
                snap_count: 100_000,
                snap_log_bytes: Some(4_194_304 << 10),
                purge: None,
                snapshot_size_factor: Some(SNAPSHOT_SIZE_FACTOR),
                unsynced_bytes_max: limits::UNSYNCED_BYTES_MAX,
                payload_bytes_max: limits::TXN_PAYLOAD_MAX,
            },
            sessions: SessionsConfig {
                tick_ms: DEVELOPMENT_TICK_MS,
                min_timeout_ms: 2 * DEVELOPMENT_TICK_MS as i32,
                max_timeout_ms: 20 * DEVELOPMENT_TICK_MS as i32,
                frame_bytes_max: limits::JUTE_MAX_BUFFER,
                global_outstanding_limit: 1_000,
                out_buffer_bytes_max: limits::OUT_BUFFER_MAX,
                watches_per_session_max: limits::WATCHES_PER_SESSION_MAX,
                slow_request_ms: Some(SLOW_REQUEST_MS),
                multi_ops_max: limits::MULTI_OPS_MAX,
            },
            znodes: ZnodesConfig {
                extended_types: false,
                emulate_353_ttl: false,
                enforce_quota: false,
                digest_enabled: true,
                close_session_txn: true,
                reconfig_enabled: false,
                container_check_interval_ms: 60_000,
                container_max_per_minute: 10_000,
                container_max_never_used_ms: 0,
            },
            auth: AuthConfig { skip_acl: false, digest_enabled: true, super_digest: None },
            four_letter: FourLetterConfig { whitelist: Whitelist::default() },
            ensemble: None,
        }
    }

    /// Reads the configuration from the arguments behind `zoo server`, the file they name, and the environment (`env`), and says what
    /// the operator should be warned of.
    pub fn load(args: &[String], env: &dyn Fn(&str) -> Option<String>) -> Result<(Self, Vec<String>), ConfigError> {
        resolve::resolve(&settings::Settings::collect(args, env)?)
    }

    /// What the tree needs; `hash_seed` is random in production and fixed in simulation.
    #[must_use]
    pub fn tree(&self, hash_seed: u64) -> TreeConfig {
        TreeConfig {
            extended_types: self.znodes.extended_types,
            emulate_353_ttl: self.znodes.emulate_353_ttl,
            enforce_quota: self.znodes.enforce_quota,
            skip_acl: self.auth.skip_acl,
            digest_enabled: self.znodes.digest_enabled,
            close_session_txn: self.znodes.close_session_txn,
            reconfig_enabled: self.znodes.reconfig_enabled,
            digest_scheme: self.auth.digest_enabled,
            payload_bytes_max: self.storage.payload_bytes_max,
            hash_seed,
            #[cfg(feature = "planted-bugs")]
            forgets_an_ephemeral: false,
        }
    }

    /// What one shard needs.
    #[must_use]
    pub fn shard(&self, hash_seed: u64) -> ShardConfig {
        ShardConfig {
            frame_bytes_max: self.sessions.frame_bytes_max,
            out_buffer_bytes_max: self.sessions.out_buffer_bytes_max,
            watches_per_session_max: self.sessions.watches_per_session_max,
            session_outstanding_max: limits::SESSION_OUTSTANDING_MAX,
            turn_cost_max: limits::SHARD_TURN_COST_MAX,
            listing_nodes_per_turn: limits::LISTING_NODES_PER_TURN,
            multi_ops_max: self.sessions.multi_ops_max,
            slow_request_ms: self.sessions.slow_request_ms,
            sessionless_ms: self.net.sessionless_ms,
            min_session_timeout_ms: self.sessions.min_timeout_ms,
            max_session_timeout_ms: self.sessions.max_timeout_ms,
            super_digest: self.auth.super_digest.clone(),
            digest_auth_enabled: self.auth.digest_enabled,
            skip_acl: self.auth.skip_acl,
            hash_seed,
        }
    }

    /// What the log needs; `dbid` is the random id of this run's files, `epochs` is what the directory's epoch files say, `mark` what recovery has
    /// left beside the logs (rule A23).
    #[must_use]
    pub fn log(&self, dbid: i64, epochs: Epochs, mark: Option<Mark>) -> LogConfig {
        // The largest transaction must fit in what may be unsynced, and one flush's worth in a segment (base::limits).
        let unsynced = self.storage.unsynced_bytes_max.max(self.storage.payload_bytes_max.saturating_mul(2)) as u64;
        LogConfig {
            segment_bytes: self.storage.pre_alloc_bytes.max(2 * unsynced),
            unsynced_bytes_max: unsynced,
            force_sync: self.storage.force_sync,
            file_bytes_max: self.storage.log_file_bytes_max,
            payload_bytes_max: self.storage.payload_bytes_max,
            dbid,
            epochs,
            mark,
        }
    }

    /// What the replica needs; `seed` feeds its jitter, `log` is what `log` gave.
    #[must_use]
    pub fn replica(&self, seed: u64, log: LogConfig) -> ReplicaConfig {
        ReplicaConfig {
            server_id: self.ensemble.as_ref().map_or(STANDALONE_SESSION_SERVER_ID, |ensemble| ensemble.me.0),
            tick_ms: self.sessions.tick_ms,
            min_session_timeout_ms: self.sessions.min_timeout_ms,
            max_session_timeout_ms: self.sessions.max_timeout_ms,
            snap_count: self.storage.snap_count,
            snap_size_limit_bytes: self.storage.snap_log_bytes,
            container_check_interval_ms: self.znodes.container_check_interval_ms,
            container_max_per_minute: self.znodes.container_max_per_minute,
            container_max_never_used_ms: self.znodes.container_max_never_used_ms,
            global_outstanding_limit: self.sessions.global_outstanding_limit,
            modes: self.ensemble.as_ref().map_or_else(ClientModes::default, |ensemble| ensemble.modes.clone()),
            log,
            seed,
        }
    }

    /// What the broadcast core of a member needs; `seed` feeds its jitter.
    #[must_use]
    pub fn zab(&self, seed: u64) -> Option<ZabConfig> {
        self.ensemble.as_ref().map(|ensemble| ensemble.zab(self.sessions.tick_ms, seed))
    }

    /// What the transports of a member need.
    #[must_use]
    pub fn peer_io(&self) -> Option<PeerIoConfig> {
        let (dir, bytes) = (self.storage.snapshot_version_dir(), self.storage.payload_bytes_max);
        self.ensemble.as_ref().map(|ensemble| ensemble.peer_io(self.sessions.tick_ms, dir, bytes, self.net.listen))
    }

    /// What admin commands say about the configuration; `client_port` is the one really listened on.
    #[must_use]
    pub fn facts(&self, client_port: u16) -> ServerFacts {
        ServerFacts {
            client_port,
            backlog: self.net.backlog.map_or(-1, i64::from),
            snapshot_dir: self.storage.snapshot_version_dir(),
            log_dir: self.storage.log_version_dir(),
            tick_ms: self.sessions.tick_ms,
            max_client_cnxns: self.net.max_client_cnxns.unwrap_or(0) as u64,
            min_session_timeout_ms: self.sessions.min_timeout_ms,
            max_session_timeout_ms: self.sessions.max_timeout_ms,
            member: self.ensemble.as_ref().map(EnsembleConfig::facts),
            sessionless_ms: self.net.sessionless_ms,
            whitelist: self.four_letter.whitelist.clone(),
        }
    }
}

/// Name of the directory that holds the files, below `dataDir` and `dataLogDir`.
const VERSION_DIR: &str = "version-2";

impl StorageConfig {
    /// Where snapshots are.
    #[must_use]
    pub fn snapshot_version_dir(&self) -> PathBuf {
        self.data_dir.join(VERSION_DIR)
    }
    /// Where logs are.
    #[must_use]
    pub fn log_version_dir(&self) -> PathBuf {
        self.log_dir.join(VERSION_DIR)
    }
}

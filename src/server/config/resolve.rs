//! From settings to a `ServerConfig`: defaults, ranges, and what must be refused rather than ignored.

use super::ensemble::{self, Listed};
use super::error::{ConfigError, printable};
use super::keys::{self, Kind};
use super::settings::{Setting, Settings};
use super::values::{auto_or_number, boolean, bytes, choice, decimal, limit, number, number_of, raised, yes_no};
use super::*;
use crate::admin::four_letter::Word;
use crate::zab::membership::Member;
use base64::Engine as _;
use std::net::{IpAddr, Ipv6Addr, ToSocketAddrs};

const INT_MAX: i64 = i32::MAX as i64;
/// 20 ticks must fit a session timeout.
const TICK_MS_MAX: i64 = INT_MAX / 20;
/// tickTime of a server with a file that does not say.
const FILE_TICK_MS: i64 = 3_000;
/// Port and directory of a server without a file.
const DEVELOPMENT_PORT: u16 = 2181;
const DEVELOPMENT_DATA_DIR: &str = "./zoo-data";
/// Snapshots are never taken more often, as in ZooKeeper.
const SNAP_COUNT_MIN: i64 = 2;
/// Fewer snapshots are never kept, as in ZooKeeper.
const SNAPSHOTS_RETAINED_MIN: i64 = 3;
const SHARDS_MAX: i64 = 1024;
/// A frame must at least hold the requests of the handshake.
const FRAME_BYTES_MIN: i64 = 1024;
const OUT_BUFFER_MAX: usize = 1 << 36;
const DEFAULT_METRICS: &str = "org.apache.zookeeper.metrics.impl.DefaultMetricsProvider";

/// The configuration and what the operator should be told about it.
pub fn resolve(settings: &Settings) -> Result<(ServerConfig, Vec<String>), ConfigError> {
    let mut warnings = comment_on_keys(settings);
    refuse_what_cannot_be_ignored(settings)?;
    let listed = Listed::read(settings)?;
    let storage = storage(settings, &mut warnings)?;
    let sessions = sessions(settings)?;
    let (ensemble, own) = ensemble::ensemble(settings, &listed, &storage.data_dir, sessions.tick_ms, &mut warnings)?;
    let config = ServerConfig {
        net: net(settings, own.as_ref())?,
        cores: cores(settings)?,
        storage,
        sessions,
        znodes: znodes(settings)?,
        auth: auth(settings)?,
        four_letter: four_letter(settings, &mut warnings)?,
        ensemble,
    };
    Ok((config, warnings))
}

/// A line for every setting that is unknown or of no effect here.
fn comment_on_keys(settings: &Settings) -> Vec<String> {
    let comment = |s: &Setting| {
        let (origin, key) = (&s.origin, printable(&s.key));
        match keys::kind(&s.key) {
            Some(Kind::Used | Kind::EnsembleOnly) => None,
            Some(Kind::NoEffect(why)) => Some(format!("{origin}: {key} has no effect: {why}")),
            Some(Kind::Unsupported) => Some(format!("{origin}: {key} is not supported yet and is ignored")),
            Some(Kind::ClientOnly) => Some(format!("{origin}: {key} is a setting of clients and is ignored")),
            None => match keys::nearest(&s.key) {
                Some(near) => Some(format!("{origin}: unknown key {key} is ignored; did you mean {near}?")),
                None => Some(format!("{origin}: unknown key {key} is ignored")),
            },
        }
    };
    let on = |key: &str| settings.get(key).filter(|s| s.value.eq_ignore_ascii_case("true"));
    let mut comments: Vec<String> = settings.effective().filter_map(comment).collect();
    comments.extend(
        settings
            .get("secureClientPort")
            .map(|s| format!("{}: secureClientPort: TLS is not supported yet; the port is not opened", s.origin)),
    );
    comments.extend(
        on("admin.enableServer")
            .map(|s| format!("{}: admin.enableServer: the HTTP admin server is not supported yet; its port is not opened", s.origin)),
    );
    comments.extend(
        settings.get("metricsProvider.className").filter(|s| s.value != DEFAULT_METRICS).map(|s| {
            format!("{}: metricsProvider.className: only {DEFAULT_METRICS} is supported yet; no metrics port is opened", s.origin)
        }),
    );
    comments
}

/// Settings that promise security or a role this server cannot give: better not to start.
fn refuse_what_cannot_be_ignored(settings: &Settings) -> Result<(), ConfigError> {
    const SECURITY: [(&str, &str); 6] = [
        ("sslQuorum", "TLS between servers is not supported yet"),
        ("quorum.auth.enableSasl", "SASL between servers is not supported yet"),
        ("quorum.auth.serverRequireSasl", "SASL between servers is not supported yet"),
        ("quorum.auth.learnerRequireSasl", "SASL between servers is not supported yet"),
        ("sessionRequireClientSASLAuth", "SASL is not supported yet, so clients could not be made to use it"),
        ("enforce.auth.enabled", "enforced authentication is not supported yet"),
    ];
    for (key, why) in SECURITY {
        let on = boolean(settings, key, false)?;
        if let Some(setting) = settings.get(key).filter(|_| on) {
            return Err(ConfigError::refused(setting, format!("{why}; starting without it would be less secure than asked for")));
        }
    }
    number(settings, "electionAlg", 3, 3..=3)?;
    choice(settings, "DigestAuthenticationProvider.digestAlg", (), &[("SHA1", ()), ("SHA-1", ())])?;
    choice(settings, "zoo.sessionPassword", (), &[("java", ())])
}

fn net(settings: &Settings, own: Option<&Member>) -> Result<NetConfig, ConfigError> {
    number(settings, "secureClientPort", 0, 0..=65_535)?;
    let backlog = number(settings, "clientPortListenBacklog", -1, -1..=INT_MAX)?;
    Ok(NetConfig {
        listen: listen(settings, own)?,
        backlog: u32::try_from(backlog).ok(),
        max_client_cnxns: limit(settings, "maxClientCnxns", 60)?.map(|n| n as usize),
        max_cnxns: limit(settings, "maxCnxns", 0)?.map(|n| n as usize),
        sessionless_ms: number(settings, "nio.sessionlessCnxnTimeout", limits::SESSIONLESS_MS_MAX as i64, 1..=INT_MAX)?.unsigned_abs(),
        tcp_keep_alive: boolean(settings, "clientTcpKeepAlive", false)?,
    })
}

/// The client address: from its own server line, else from the file's keys, else (without a file) the loopback default. Keys beside a line that has
/// one may say less than the line, and nothing else.
fn listen(settings: &Settings, own: Option<&Member>) -> Result<SocketAddr, ConfigError> {
    let port_key = settings.get("clientPort");
    let address_key = settings.get("clientPortAddress").filter(|s| !s.value.is_empty());
    let from_line = own.and_then(|m| m.client.as_ref());
    let port = port_key.map(|s| number_of(s, 0..=65_535).map(|p| p as u16)).transpose()?;
    if let (Some(setting), Some(port), Some((_, in_line))) = (port_key, port, from_line)
        && port != *in_line
    {
        return Err(ConfigError::refused(setting, format!("contradicts client port {in_line} of the server line")));
    }
    let development = settings.file.is_none();
    let port = match (port, from_line) {
        (Some(port), _) => port,
        (None, Some((_, port))) => *port,
        (None, None) if development => DEVELOPMENT_PORT,
        (None, None) if address_key.is_some() => {
            return Err(ConfigError::Incomplete("clientPortAddress is set, but clientPort is not".to_owned()));
        }
        (None, None) => return Err(ConfigError::Incomplete("clientPort is not set: there would be nothing to serve".to_owned())),
    };
    let all = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    let in_keys =
        address_key.map(|setting| lookup(&setting.value, port).ok_or_else(|| ConfigError::value(setting, "an address of this machine")));
    let Some((host, _)) = from_line else {
        return in_keys.unwrap_or(Ok(if development { SocketAddr::from(([127, 0, 0, 1], port)) } else { all }));
    };
    // A line without a host means all addresses, and is shown like this.
    let is_any = host.is_empty() || host == "0.0.0.0";
    let unknown = || ConfigError::Incomplete(format!("cannot resolve client address {host:?}"));
    let in_line = if is_any { all } else { lookup(host, port).ok_or_else(unknown)? };
    match (address_key, in_keys.transpose()?) {
        (Some(setting), Some(address)) if !address.ip().is_unspecified() && address != in_line => {
            Err(ConfigError::refused(setting, format!("contradicts client address {host:?} of the server line")))
        }
        _ => Ok(in_line),
    }
}

fn lookup(host: &str, port: u16) -> Option<SocketAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    (bare, port).to_socket_addrs().ok()?.next()
}

fn cores(settings: &Settings) -> Result<CoresConfig, ConfigError> {
    Ok(CoresConfig {
        shards: auto_or_number(settings, "zoo.shards", 1..=SHARDS_MAX)?.map(|n| n as u16),
        pin: choice(settings, "zoo.pin", None, &[("auto", None), ("yes", Some(true)), ("no", Some(false))])?,
        replica_share_percent: auto_or_number(settings, "zoo.replicaShare", 0..=100)?.map(|n| n as u8),
        placement: choice(settings, "zoo.placement", Placement::RoundRobin, &Placement::NAMES)?,
        rebalance_ms: u64::try_from(number(settings, "zoo.rebalanceInterval", 0, 0..=INT_MAX)?).ok().filter(|ms| *ms > 0),
    })
}

fn storage(settings: &Settings, warnings: &mut Vec<String>) -> Result<StorageConfig, ConfigError> {
    let data_dir = data_dir(settings)?;
    let log_dir = settings.get("dataLogDir").filter(|s| !s.value.is_empty());
    for setting in settings.get("dataDir").into_iter().chain(log_dir) {
        if !setting.value.starts_with(['/', '.']) {
            let (origin, key) = (&setting.origin, &setting.key);
            warnings.push(format!("{origin}: {key} is relative to the working directory; begin it with ./ to show that this is meant"));
        }
    }
    let kib = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0).map(|n| n << 10);
    const KIB_MAX: i64 = i64::MAX >> 11;
    let compression =
        [("CHECKED", Compression::Checked), ("", Compression::Checked), ("gz", Compression::Gzip), ("snappy", Compression::Snappy)];
    let (frame, extra) = frame_bytes(settings)?;
    Ok(StorageConfig {
        log_dir: log_dir.map_or_else(|| data_dir.clone(), |s| PathBuf::from(&s.value)),
        data_dir,
        create_dirs: boolean(settings, "datadir.autocreate", true)?,
        create_database: boolean(settings, "db.autocreate", true)?,
        trust_empty_snapshot: boolean(settings, "snapshot.trust.empty", false)?,
        force_sync: yes_no(settings, "forceSync", true)?,
        fsync_warning_ms: number(settings, "fsync.warningthresholdms", 1_000, 0..=INT_MAX)?.unsigned_abs(),
        pre_alloc_bytes: number(settings, "preAllocSize", (PRE_ALLOC_BYTES >> 10) as i64, 1..=INT_MAX)?.unsigned_abs() << 10,
        log_file_bytes_max: kib(number(settings, "txnLogSizeLimitInKb", -1, -1..=KIB_MAX)?),
        log_writer: choice(
            settings,
            "zoo.logWriter",
            None,
            &[("auto", None), ("direct", Some(LogWriter::Direct)), ("map", Some(LogWriter::Map)), ("pwrite", Some(LogWriter::Pwrite))],
        )?,
        compression: choice(settings, "snapshot.compression.method", Compression::Checked, &compression)?,
        snapshot_has_zxid: boolean(settings, "serializeLastProcessedZxid.enabled", true)?,
        snap_count: raised(settings, "snapCount", 100_000, SNAP_COUNT_MIN, warnings)?.unsigned_abs(),
        snap_log_bytes: kib(number(settings, "snapSizeLimitInKb", 4_194_304, -1..=KIB_MAX)?),
        purge: purge(settings, warnings)?,
        snapshot_size_factor: Some(decimal(settings, "snapshotSizeFactor", SNAPSHOT_SIZE_FACTOR)?).filter(|factor| *factor >= 0.0),
        unsynced_bytes_max: limits::UNSYNCED_BYTES_MAX,
        payload_bytes_max: frame + extra,
    })
}

fn data_dir(settings: &Settings) -> Result<PathBuf, ConfigError> {
    match settings.get("dataDir") {
        Some(setting) if setting.value.is_empty() => Err(ConfigError::value(setting, "a directory")),
        Some(setting) => Ok(PathBuf::from(&setting.value)),
        None if settings.file.is_none() => Ok(PathBuf::from(DEVELOPMENT_DATA_DIR)),
        None => Err(ConfigError::Incomplete("dataDir is not set".to_owned())),
    }
}

fn purge(settings: &Settings, warnings: &mut Vec<String>) -> Result<Option<PurgeConfig>, ConfigError> {
    let interval = limit(settings, "autopurge.purgeInterval", 0)?;
    let retain = raised(settings, "autopurge.snapRetainCount", SNAPSHOTS_RETAINED_MIN, SNAPSHOTS_RETAINED_MIN, warnings)?;
    Ok(interval.map(|interval_hours| PurgeConfig { retain_count: retain as usize, interval_hours }))
}

/// `jute.maxbuffer` and the extra that decoding from disk allows.
fn frame_bytes(settings: &Settings) -> Result<(usize, usize), ConfigError> {
    let frame = number(settings, "jute.maxbuffer", limits::JUTE_MAX_BUFFER as i64, FRAME_BYTES_MIN..=INT_MAX / 4)?;
    let extra = number(settings, "jute.maxbuffer.extrasize", frame, 0..=INT_MAX / 4)?.max(FRAME_BYTES_MIN);
    Ok((frame as usize, extra as usize))
}

fn sessions(settings: &Settings) -> Result<SessionsConfig, ConfigError> {
    let default_tick = if settings.file.is_none() { DEVELOPMENT_TICK_MS as i64 } else { FILE_TICK_MS };
    let tick = number(settings, "tickTime", default_tick, 1..=TICK_MS_MAX)?;
    let or_ticks = |key: &str, ticks: i64| match number(settings, key, -1, -1..=INT_MAX)? {
        -1 => Ok(ticks * tick),
        ms => Ok(ms),
    };
    let (min, max) = (or_ticks("minSessionTimeout", 2)?, or_ticks("maxSessionTimeout", 20)?);
    if min > max {
        let setting = settings.get("minSessionTimeout").or_else(|| settings.get("maxSessionTimeout"));
        let why = format!("the shortest session timeout ({min} ms) is longer than the longest ({max} ms)");
        return Err(setting.map_or_else(|| ConfigError::Incomplete(why.clone()), |s| ConfigError::refused(s, why.clone())));
    }
    let (frame_bytes_max, _) = frame_bytes(settings)?;
    // A reply may be as large as a frame, and a few of them must fit.
    let out_buffer_min = 4 * frame_bytes_max;
    Ok(SessionsConfig {
        tick_ms: tick.unsigned_abs(),
        min_timeout_ms: min as i32,
        max_timeout_ms: max as i32,
        frame_bytes_max,
        global_outstanding_limit: number(settings, "globalOutstandingLimit", 1_000, 1..=INT_MAX)? as usize,
        out_buffer_bytes_max: bytes(
            settings,
            "zoo.outBufferMax",
            limits::OUT_BUFFER_MAX.max(out_buffer_min),
            out_buffer_min..=OUT_BUFFER_MAX,
        )?,
        watches_per_session_max: number(settings, "zoo.watchesPerSessionMax", limits::WATCHES_PER_SESSION_MAX as i64, 1..=INT_MAX)?
            as usize,
        slow_request_ms: Some(number(settings, "zoo.slowRequest", SLOW_REQUEST_MS as i64, 0..=INT_MAX)?.unsigned_abs())
            .filter(|ms| *ms > 0),
        multi_ops_max: number(settings, "zoo.multiOpsMax", limits::MULTI_OPS_MAX as i64, 1..=limits::MULTI_OPS_MAX as i64)? as usize,
    })
}

fn znodes(settings: &Settings) -> Result<ZnodesConfig, ConfigError> {
    Ok(ZnodesConfig {
        extended_types: boolean(settings, "extendedTypesEnabled", false)?,
        emulate_353_ttl: boolean(settings, "emulate353TTLNodes", false)?,
        enforce_quota: boolean(settings, "enforceQuota", false)?,
        digest_enabled: boolean(settings, "digest.enabled", true)?,
        close_session_txn: boolean(settings, "closeSessionTxn.enabled", true)?,
        reconfig_enabled: boolean(settings, "reconfigEnabled", false)?,
        container_check_interval_ms: number(settings, "znode.container.checkIntervalMs", 60_000, 1..=INT_MAX)?.unsigned_abs(),
        container_max_per_minute: number(settings, "znode.container.maxPerMinute", 10_000, 1..=INT_MAX)?.unsigned_abs(),
        container_max_never_used_ms: number(settings, "znode.container.maxNeverUsedIntervalMs", 0, 0..=i64::MAX)?,
    })
}

fn auth(settings: &Settings) -> Result<AuthConfig, ConfigError> {
    let super_digest = settings.get("DigestAuthenticationProvider.superDigest").filter(|s| !s.value.is_empty());
    Ok(AuthConfig {
        skip_acl: yes_no(settings, "skipACL", false)?,
        digest_enabled: boolean(settings, "DigestAuthenticationProvider.enabled", true)?,
        super_digest: super_digest.map(super_digest_of).transpose()?,
    })
}

/// Checks `user:<base64 of SHA-1>`, which is compared as a whole: `super` is a habit, and every user name does.
fn super_digest_of(setting: &Setting) -> Result<String, ConfigError> {
    const SHA1_BYTES: usize = 20;
    let (_, digest) = setting.value.rsplit_once(':').unwrap_or_default();
    let decoded = base64::engine::general_purpose::STANDARD.decode(digest);
    if decoded.is_ok_and(|d| d.len() == SHA1_BYTES) {
        return Ok(setting.value.clone());
    }
    Err(ConfigError::value(setting, "super:<base64 of the SHA-1 of super:password>"))
}

fn four_letter(settings: &Settings, warnings: &mut Vec<String>) -> Result<FourLetterConfig, ConfigError> {
    boolean(settings, "admin.enableServer", true)?;
    let list = settings.get("4lw.commands.whitelist");
    let (mut whitelist, unknown) = Whitelist::parse(list.map_or("", |s| &s.value));
    for (word, setting) in unknown.iter().zip(list.into_iter().cycle()) {
        warnings.push(format!("{}: 4lw.commands.whitelist: there is no command {word:?}", setting.origin));
    }
    if boolean(settings, "readonlymode.enabled", false)? {
        whitelist.add(Word::Isro);
    }
    Ok(FourLetterConfig { whitelist })
}

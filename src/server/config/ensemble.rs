//! Membership and timing of an ensemble: whether this server stands alone or is a member, and everything a member is told.

use super::dynamic;
use super::error::ConfigError;
use super::settings::{Setting, Settings, read_file};
use super::values::{boolean, choice, number, raised, yes_no};
use crate::admin::MemberFacts;
use crate::base::{PeerId, limits};
use crate::reactor::peer_io::PeerIoConfig;
use crate::replica::ClientModes;
use crate::zab::membership::{Member, MemberKind};
use crate::zab::wire::Hello;
use crate::zab::{Membership, Reconfig, ZabConfig};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a `server.N` value must look like.
const EXPECTED: &str = "host:quorumPort:electionPort[:participant|observer][;[clientHost:]clientPort]";
const INT_MAX: i64 = i32::MAX as i64;
/// ZooKeeper's wait for a better vote.
const ELECTION_WAIT_MS: i64 = 200;
/// For how long a server looks for a leader, at least, before it serves clients that only read; a longer tick counts instead.
const READ_ONLY_AFTER_MS_MIN: u64 = 2_000;
/// Room in a packet for what is no transaction: the sessions in a ping.
const PING_TABLE_BYTES: usize = 1 << 20;
/// The highest number of a server whose sessions cannot be taken for a time to live.
const EXTENDED_ID_MAX: i64 = 254;
/// The file that says which member this is.
const MYID_FILE: &str = "myid";

/// A member of an ensemble.
#[derive(Clone, Debug, PartialEq)]
pub struct EnsembleConfig {
    /// `myid`.
    pub me: PeerId,
    /// `server.N`, `group.N`, `weight.N`.
    pub membership: Membership,
    /// Timing.
    pub times: EnsembleTimes,
    /// `quorumListenOnAllIPs`.
    pub listen_on_all: bool,
    /// `electionPortBindRetry`; `None` tries for ever.
    pub bind_retries: Option<u32>,
    /// `commitLogCount`.
    pub tail_count_min: usize,
    /// `observerMasterPort`: followers feed observers there.
    pub observer_master_port: Option<u16>,
    /// `tcpKeepAlive`.
    pub tcp_keep_alive: bool,
    /// `multiAddress.enabled`.
    pub multi_address: bool,
    /// `reconfigEnabled`, `standaloneEnabled`, and what is proposed.
    pub reconfig: Reconfig,
    /// The configuration file, of which the files of changed configurations have their names.
    pub file: Option<PathBuf>,
    /// `localSessionsEnabled`, `localSessionsUpgradingEnabled`, `leaderServes`, `readonlymode.enabled`.
    pub modes: ClientModes,
}

/// Limits in time, all in milliseconds unless they are ticks.
#[derive(Clone, Debug, PartialEq)]
pub struct EnsembleTimes {
    /// `initLimit`, in ticks.
    pub init_limit: u64,
    /// `syncLimit`, in ticks.
    pub sync_limit: u64,
    /// `connectToLearnerMasterLimit`, in ticks; `initLimit` when it is 0.
    pub connect_limit: u64,
    /// `cnxTimeout`.
    pub election_connect_ms: u64,
    /// `quorumCnxnTimeoutMs`; `None`: `syncLimit`.
    pub set_up_ms: Option<u64>,
    /// `fastleader.minNotificationInterval`.
    pub notification_ms_min: u64,
    /// `fastleader.maxNotificationInterval`.
    pub notification_ms_max: u64,
    /// `leaderConnectDelayDuringRetryMs`.
    pub connect_retry_ms: u64,
    /// `zoo.electionWait`.
    pub election_wait_ms: u64,
}

impl EnsembleConfig {
    /// This server's own line. Checked at load.
    #[must_use]
    pub fn own(&self) -> &Member {
        &self.membership.members[&self.me]
    }

    /// Does it vote?
    #[must_use]
    pub fn is_observer(&self) -> bool {
        self.own().kind == MemberKind::Observer
    }

    /// What `conf` says about it.
    pub(super) fn facts(&self) -> MemberFacts {
        MemberFacts { server_id: self.me.0, init_limit: self.times.init_limit, sync_limit: self.times.sync_limit }
    }

    /// What the broadcast core needs.
    pub(super) fn zab(&self, tick_ms: u64, seed: u64) -> ZabConfig {
        ZabConfig {
            me: self.me,
            membership: self.membership.clone(),
            is_observer: self.is_observer(),
            tick_ms,
            init_limit: self.times.init_limit,
            sync_limit: self.times.sync_limit,
            notification_ms_min: self.times.notification_ms_min,
            notification_ms_max: self.times.notification_ms_max,
            finalize_ms: self.times.election_wait_ms,
            connect_retry_ms: self.times.connect_retry_ms,
            tail_count_min: self.tail_count_min,
            tail_bytes_max: limits::TAIL_BYTES_MAX,
            learner_bytes_max: limits::LEARNER_BYTES_MAX,
            observer_masters: self.observer_master_port.is_some(),
            seed,
            planted: Default::default(),
            reconfig: self.reconfig.clone(),
        }
    }

    /// What the transports need.
    pub(super) fn peer_io(&self, tick_ms: u64, epoch_dir: PathBuf, packet_bytes_max: usize, client_listen: SocketAddr) -> PeerIoConfig {
        let times = &self.times;
        let ticks = |n: u64| Duration::from_millis(tick_ms.saturating_mul(n));
        let addresses = self.own().addresses.iter().map(|a| (a.host.clone(), a.election_port));
        PeerIoConfig {
            me: self.me,
            membership: self.membership.clone(),
            hello: Hello { peer: self.me, addresses: addresses.collect(), multi_address: self.multi_address },
            connect_limit: Duration::from_millis(times.election_connect_ms),
            set_up_limit: times.set_up_ms.map_or_else(|| ticks(times.sync_limit), Duration::from_millis),
            learner_connect_limit: ticks(times.connect_limit),
            image_silence: ticks(times.init_limit),
            link_bytes_max: limits::LEARNER_BYTES_MAX,
            packet_bytes_max: packet_bytes_max + PING_TABLE_BYTES,
            observer_master_port: self.observer_master_port,
            tcp_keep_alive: self.tcp_keep_alive,
            client_listen,
            admits_strangers: self.reconfig.enabled,
            epoch_dir,
            cuts: None,
        }
    }
}

/// The members listed in the file or in the dynamic file.
pub(super) struct Listed {
    membership: Membership,
    /// A line to point at.
    line: Option<Setting>,
    /// They are an ensemble, and not one server that stands alone.
    distributed: bool,
}

impl Listed {
    /// Reads and judges them.
    pub(super) fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let lines = lines(settings)?;
        let servers: Vec<_> = lines.iter().filter(|line| line.key.starts_with("server.")).collect();
        let mut voters = 0;
        for line in &servers {
            let id = line.key.strip_prefix("server.").and_then(|id| id.parse::<i64>().ok());
            let member = Member::parse(&line.key, &line.value).ok().filter(|_| id.is_some_and(|id| id >= 0));
            let member = member.ok_or_else(|| ConfigError::value(line, EXPECTED))?;
            voters += usize::from(member.kind == MemberKind::Participant);
        }
        let standalone = boolean(settings, "standaloneEnabled", true)?;
        let Some(line) = servers.first().copied().or(lines.first()).cloned() else {
            return match settings.get("standaloneEnabled").filter(|_| !standalone) {
                Some(setting) => Err(ConfigError::refused(setting, "no servers are listed")),
                None => Ok(Listed { membership: Membership::default(), line: None, distributed: false }),
            };
        };
        if servers.len() > voters && voters <= usize::from(standalone) {
            return Err(ConfigError::refused(&line, "observers need a quorum of participants"));
        }
        let entries = lines.iter().map(|line| (line.key.as_str(), line.value.as_str()));
        let membership = Membership::from_settings(entries).map_err(|why| ConfigError::refused(&line, why.to_string()))?;
        Ok(Listed { membership, line: Some(line), distributed: voters > 1 || !standalone })
    }

    /// The one line of a server that stands alone: it may name the client address.
    fn only(&self) -> Option<&Member> {
        self.membership.members.values().next().filter(|_| !self.distributed)
    }
}

/// The `server.`, `group.` and `weight.` lines.
fn lines(settings: &Settings) -> Result<Vec<Setting>, ConfigError> {
    let listed = |s: &&Setting| {
        ["server.", "group.", "weight."].iter().any(|family| s.key.strip_prefix(family).is_some_and(|n| n.parse::<i64>().is_ok()))
            || s.key.strip_prefix("server.").is_some_and(|n| super::keys::kind(&s.key) == Some(super::keys::Kind::Used) && !n.is_empty())
    };
    let Some(file) = settings.get("dynamicConfigFile") else { return Ok(settings.effective().filter(listed).cloned().collect()) };
    if let Some(line) = settings.effective().find(listed) {
        return Err(ConfigError::refused(line, "servers are listed in dynamicConfigFile and may not be listed here too"));
    }
    let path = Path::new(&file.value);
    let (mut lines, others): (Vec<Setting>, Vec<Setting>) = read_file(path)?.into_iter().partition(|s| listed(&s));
    if let Some(other) = others.iter().find(|s| s.key != "version") {
        return Err(ConfigError::refused(other, "a file of servers says nothing else".to_owned()));
    }
    // The version of a dynamic file is the end of its name.
    let version = path.extension().and_then(|v| v.to_str()).filter(|v| i64::from_str_radix(v, 16).is_ok());
    lines.extend(version.map(|v| Setting { key: "version".to_owned(), value: v.to_owned(), origin: file.origin.clone() }));
    Ok(lines)
}

/// A member's settings, or `None` for a server that stands alone; values are checked in either case. Also the server line that may name the client
/// address.
pub(super) fn ensemble(
    settings: &Settings,
    listed: &Listed,
    data_dir: &Path,
    tick_ms: u64,
    warnings: &mut Vec<String>,
) -> Result<(Option<EnsembleConfig>, Option<Member>), ConfigError> {
    let times = times(settings, listed.distributed)?;
    let bind_retries = number(settings, "electionPortBindRetry", 3, 0..=INT_MAX)?;
    let (listen_on_all, tcp_keep_alive) = (boolean(settings, "quorumListenOnAllIPs", false)?, boolean(settings, "tcpKeepAlive", false)?);
    let multi_address = boolean(settings, "multiAddress.enabled", false)?;
    let tail_count_min = raised(settings, "commitLogCount", COMMIT_LOG_COUNT, COMMIT_LOG_COUNT, warnings)? as usize;
    let observer_master_port = number(settings, "observerMasterPort", 0, -1..=i64::from(u16::MAX))?;
    let observer_master_port = u16::try_from(observer_master_port).ok().filter(|port| *port > 0);
    for key in ["syncEnabled", "observer.syncEnabled"] {
        if !boolean(settings, key, true)? {
            warnings.push(format!("{key}=false has no effect: observers log what they are told, as other members do"));
        }
    }
    let kinds = [("participant", MemberKind::Participant), ("observer", MemberKind::Observer)];
    let kind = choice(settings, "peerType", MemberKind::Participant, &kinds)?;
    let modes = modes(settings, tick_ms)?;
    if !listed.distributed {
        return Ok((None, listed.only().cloned()));
    }
    warn_of_what_is_missing(settings, warnings);
    let me = my_id(data_dir)?;
    let Some(own) = listed.membership.members.get(&me) else {
        let why = format!("{} says {}, and there is no server.{}", data_dir.join(MYID_FILE).display(), me.0, me.0);
        return Err(listed
            .line
            .as_ref()
            .map_or_else(|| ConfigError::Incomplete(why.clone()), |line| ConfigError::refused(line, why.clone())));
    };
    if let Some(setting) = settings.get("peerType").filter(|_| own.kind != kind) {
        warnings.push(format!("{}: peerType contradicts server.{}; the list of servers counts", setting.origin, me.0));
    }
    if boolean(settings, "extendedTypesEnabled", false)?
        && let Some(setting) = settings.get("extendedTypesEnabled").filter(|_| me.0 > EXTENDED_ID_MAX)
    {
        return Err(ConfigError::refused(setting, format!("the sessions of server {} would look like times to live", me.0)));
    }
    let own = own.clone();
    let bind_retries = u32::try_from(bind_retries).ok().filter(|n| *n > 0);
    let membership = listed.membership.clone();
    let file = settings.file.clone();
    let reconfig = reconfig(settings, file.as_deref())?;
    let config = EnsembleConfig {
        me,
        membership,
        times,
        listen_on_all,
        bind_retries,
        tail_count_min,
        observer_master_port,
        tcp_keep_alive,
        multi_address,
        reconfig,
        file,
        modes,
    };
    Ok((Some(config), Some(own)))
}

/// `commitLogCount`, which is also its least.
const COMMIT_LOG_COUNT: i64 = 500;

fn times(settings: &Settings, required: bool) -> Result<EnsembleTimes, ConfigError> {
    let limit = |key: &str| -> Result<u64, ConfigError> {
        if required && settings.get(key).is_none() {
            return Err(ConfigError::Incomplete(format!("{key} is not set: a member of an ensemble needs it")));
        }
        Ok(number(settings, key, 1, 1..=INT_MAX)?.unsigned_abs())
    };
    let ms = |key: &str, default: i64, min: i64| number(settings, key, default, min..=INT_MAX).map(i64::unsigned_abs);
    let (init_limit, sync_limit) = (limit("initLimit")?, limit("syncLimit")?);
    let connect_limit = ms("connectToLearnerMasterLimit", 0, 0)?;
    let set_up = number(settings, "quorumCnxnTimeoutMs", -1, -1..=INT_MAX)?;
    let notification_ms_min = ms("fastleader.minNotificationInterval", 200, 1)?;
    Ok(EnsembleTimes {
        init_limit,
        sync_limit,
        connect_limit: if connect_limit == 0 { init_limit } else { connect_limit },
        election_connect_ms: ms("cnxTimeout", 5_000, 1)?,
        set_up_ms: u64::try_from(set_up).ok().filter(|ms| *ms > 0),
        notification_ms_min,
        notification_ms_max: ms("fastleader.maxNotificationInterval", 60_000, 1)?.max(notification_ms_min),
        connect_retry_ms: ms("leaderConnectDelayDuringRetryMs", 100, 0)?,
        election_wait_ms: ms("zoo.electionWait", ELECTION_WAIT_MS, 0)?,
    })
}

fn modes(settings: &Settings, tick_ms: u64) -> Result<ClientModes, ConfigError> {
    Ok(ClientModes {
        local_sessions: boolean(settings, "localSessionsEnabled", false)?,
        upgrades: boolean(settings, "localSessionsUpgradingEnabled", false)?,
        leader_serves: yes_no(settings, "leaderServes", true)?,
        read_only_after_ms: boolean(settings, "readonlymode.enabled", false)?.then_some(tick_ms.max(READ_ONLY_AFTER_MS_MIN)),
    })
}

/// What a member cannot do yet.
fn warn_of_what_is_missing(settings: &Settings, warnings: &mut Vec<String>) {
    const MISSING: [(&str, &str); 4] = [
        ("portUnification", "connections with TLS are not understood"),
        ("forceSnapshotSync", "learners are brought up to date by what they miss"),
        ("leader.closeSocketAsync", "sockets are always closed without waiting"),
        ("learner.closeSocketAsync", "sockets are always closed without waiting"),
    ];
    for (key, instead) in MISSING {
        if let Some(setting) = settings.get(key).filter(|s| s.value.eq_ignore_ascii_case("true")) {
            warnings.push(format!("{}: {key} is not supported yet: {instead}", setting.origin));
        }
    }
    let oracle = settings.get("oraclePath");
    warnings.extend(oracle.map(|s| format!("{}: oraclePath is not supported yet: a majority is needed", s.origin)));
}

/// Whether and how the membership may change.
fn reconfig(settings: &Settings, file: Option<&Path>) -> Result<Reconfig, ConfigError> {
    let enabled = boolean(settings, "reconfigEnabled", false)?;
    let voters_min = if boolean(settings, "standaloneEnabled", true)? { 2 } else { 1 };
    let proposed = file.filter(|_| enabled).map(dynamic::read_proposed).transpose()?.flatten();
    Ok(Reconfig { enabled, voters_min, proposed })
}

/// The number in `dataDir/myid`.
fn my_id(data_dir: &Path) -> Result<PeerId, ConfigError> {
    let path = data_dir.join(MYID_FILE);
    let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::File { path: path.clone(), source })?;
    let id = text.lines().next().and_then(|line| line.trim().parse::<i64>().ok()).filter(|id| *id >= 0);
    id.map(PeerId).ok_or_else(|| ConfigError::Incomplete(format!("{}: the first line must be the number of this server", path.display())))
}

#[cfg(test)]
#[path = "ensemble_tests.rs"]
mod tests;

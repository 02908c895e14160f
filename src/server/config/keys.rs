//! Every key that ZooKeeper 3.9 knows, by name and without its `zookeeper.` prefix, and what becomes of it here; and our own keys.

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Read by `resolve`.
    Used,
    /// Of no effect on a standalone server, in ZooKeeper as here: accepted in silence, since every sample file has some.
    EnsembleOnly,
    /// Tunes something that does not exist here; the text says why.
    NoEffect(&'static str),
    /// Works in ZooKeeper and not yet here.
    Unsupported,
    /// A setting of client programs.
    ClientOnly,
}

use Kind::{ClientOnly, EnsembleOnly, NoEffect, Unsupported, Used};

const THREADS: Kind = NoEffect("this server has one thread per core; see zoo.shards");
const BATCHING: Kind = NoEffect("writes are grouped by the disk's own pace");
const CACHES: Kind = NoEffect("replies are copied from the tree without a cache");
const WATCH_TABLES: Kind = NoEffect("there is one implementation of watches");
const JVM: Kind = NoEffect("there is no Java virtual machine");

/// Keys with their full name.
const KEYS: &[(&str, Kind)] = &[
    // Our own.
    ("zoo.shards", Used),
    ("zoo.electionWait", Used),
    ("zoo.pin", Used),
    ("zoo.replicaShare", Used),
    ("zoo.placement", Used),
    ("zoo.rebalanceInterval", Used),
    ("zoo.slowRequest", Used),
    ("zoo.sessionPassword", Used),
    ("zoo.outBufferMax", Used),
    ("zoo.watchesPerSessionMax", Used),
    ("zoo.multiOpsMax", Used),
    ("zoo.logWriter", Used),
    // Directories, ports, ticks.
    ("dataDir", Used),
    ("dataLogDir", Used),
    ("clientPort", Used),
    ("clientPortAddress", Used),
    ("clientPortListenBacklog", Used),
    ("secureClientPort", Used),
    ("secureClientPortAddress", Unsupported),
    ("tickTime", Used),
    ("minSessionTimeout", Used),
    ("maxSessionTimeout", Used),
    ("maxClientCnxns", Used),
    ("maxCnxns", Used),
    ("nio.sessionlessCnxnTimeout", Used),
    ("clientTcpKeepAlive", Used),
    ("jute.maxbuffer", Used),
    ("jute.maxbuffer.extrasize", Used),
    ("globalOutstandingLimit", Used),
    ("4lw.commands.whitelist", Used),
    // Log and snapshots.
    ("autopurge.snapRetainCount", Used),
    ("autopurge.purgeInterval", Used),
    ("snapCount", Used),
    ("snapSizeLimitInKb", Used),
    ("txnLogSizeLimitInKb", Used),
    ("preAllocSize", Used),
    ("forceSync", Used),
    ("fsync.warningthresholdms", Used),
    ("snapshot.compression.method", Used),
    ("snapshot.trust.empty", Used),
    ("datadir.autocreate", Used),
    ("db.autocreate", Used),
    ("digest.enabled", Used),
    ("serializeLastProcessedZxid.enabled", Used),
    ("closeSessionTxn.enabled", Used),
    // Znodes and access.
    ("extendedTypesEnabled", Used),
    ("emulate353TTLNodes", Used),
    ("znode.container.checkIntervalMs", Used),
    ("znode.container.maxPerMinute", Used),
    ("znode.container.maxNeverUsedIntervalMs", Used),
    ("skipACL", Used),
    ("enforceQuota", Used),
    ("readonlymode.enabled", Used),
    ("DigestAuthenticationProvider.enabled", Used),
    ("DigestAuthenticationProvider.superDigest", Used),
    ("DigestAuthenticationProvider.digestAlg", Used),
    ("sessionRequireClientSASLAuth", Used),
    ("enforce.auth.enabled", Used),
    ("enforce.auth.schemes", Unsupported),
    // Membership, its security and its timing.
    ("standaloneEnabled", Used),
    ("reconfigEnabled", Used),
    ("dynamicConfigFile", Used),
    ("sslQuorum", Used),
    ("quorum.auth.enableSasl", Used),
    ("quorum.auth.serverRequireSasl", Used),
    ("quorum.auth.learnerRequireSasl", Used),
    ("electionAlg", Used),
    ("peerType", Used),
    ("metricsProvider.className", Used),
    ("initLimit", Used),
    ("syncLimit", Used),
    ("connectToLearnerMasterLimit", Used),
    ("quorumListenOnAllIPs", Used),
    ("multiAddress.enabled", Used),
    ("commitLogCount", Used),
    ("cnxTimeout", Used),
    ("quorumCnxnTimeoutMs", Used),
    ("electionPortBindRetry", Used),
    ("fastleader.minNotificationInterval", Used),
    ("fastleader.maxNotificationInterval", Used),
    ("leaderConnectDelayDuringRetryMs", Used),
    ("tcpKeepAlive", Used),
    ("localSessionsEnabled", Used),
    ("localSessionsUpgradingEnabled", Used),
    ("leaderServes", Used),
    // Only of meaning in an ensemble, and not needed by ours; what a member cannot do without is refused or warned of.
    ("syncEnabled", Used),
    ("observer.syncEnabled", Used),
    ("observerMasterPort", Used),
    ("observerMaster.sizeLimit", EnsembleOnly),
    ("portUnification", EnsembleOnly),
    ("sslQuorumReloadCertFiles", EnsembleOnly),
    ("quorum.auth.learner.saslLoginContext", EnsembleOnly),
    ("quorum.auth.server.saslLoginContext", EnsembleOnly),
    ("quorum.auth.kerberos.servicePrincipal", EnsembleOnly),
    ("quorum.cnxn.threads.size", EnsembleOnly),
    ("multiAddress.reachabilityCheckTimeoutMs", EnsembleOnly),
    ("multiAddress.reachabilityCheckEnabled", EnsembleOnly),
    ("oraclePath", EnsembleOnly),
    ("snapshotSizeFactor", Used),
    ("enableEagerACLCheck", EnsembleOnly),
    ("leader.maxConcurrentSnapSyncs", EnsembleOnly),
    ("leader.maxConcurrentDiffSyncs", EnsembleOnly),
    ("leader.maxTimeToWaitForEpoch", EnsembleOnly),
    ("leader.ackLoggingFrequency", EnsembleOnly),
    ("leader.closeSocketAsync", EnsembleOnly),
    ("learner.closeSocketAsync", EnsembleOnly),
    ("learner.asyncSending", EnsembleOnly),
    ("forceSnapshotSync", EnsembleOnly),
    ("observer.reconnectDelayMs", EnsembleOnly),
    ("observer.election.DelayMs", EnsembleOnly),
    ("follower.skipLearnerRequestToNextProcessor", EnsembleOnly),
    ("forward_learner_requests_to_commit_processor_disabled", EnsembleOnly),
    ("follower.nodelay", EnsembleOnly),
    ("leader.nodelay", EnsembleOnly),
    // Tunes what is built differently here.
    ("flushDelay", BATCHING),
    ("maxWriteQueuePollTime", BATCHING),
    ("maxBatchSize", BATCHING),
    ("maxResponseCacheSize", CACHES),
    ("maxGetChildrenResponseCacheSize", CACHES),
    ("intBufferStartingSizeBytes", CACHES),
    ("watchManagerName", WATCH_TABLES),
    ("watcherCleanThreadsNum", WATCH_TABLES),
    ("watcherCleanThreshold", WATCH_TABLES),
    ("watcherCleanIntervalInSeconds", WATCH_TABLES),
    ("maxInProcessingDeadWatchers", WATCH_TABLES),
    ("bitHashCacheSize", WATCH_TABLES),
    ("commitProcessor.numWorkerThreads", THREADS),
    ("commitProcessor.shutdownTimeout", THREADS),
    ("commitProcessor.maxReadBatchSize", THREADS),
    ("commitProcessor.maxCommitBatchSize", THREADS),
    ("nio.numSelectorThreads", THREADS),
    ("nio.numWorkerThreads", THREADS),
    ("nio.directBufferBytes", THREADS),
    ("nio.shutdownTimeout", THREADS),
    ("serverCnxnFactory", THREADS),
    ("netty.advancedFlowControl.enabled", THREADS),
    ("request_throttler.shutdownTimeout", THREADS),
    ("jvm.pause.monitor", JVM),
    ("jvm.pause.info-threshold.ms", JVM),
    ("jvm.pause.warn-threshold.ms", JVM),
    ("jvm.pause.sleep.time.ms", JVM),
    // Not yet.
    ("netty.server.outstandingHandshake.limit", Unsupported),
    ("netty.server.earlyDropSecureConnectionHandshakes", Unsupported),
    ("audit.enable", Unsupported),
    ("audit.impl.class", Unsupported),
    ("pathStats.enabled", Unsupported),
    ("pathStats.slotCapacity", Unsupported),
    ("pathStats.slotDuration", Unsupported),
    ("pathStats.maxDepth", Unsupported),
    ("pathStats.sampleRate", Unsupported),
    ("pathStats.initialDelay", Unsupported),
    ("pathStats.delay", Unsupported),
    ("pathStats.topPathMax", Unsupported),
    ("messageTracker.Enabled", Unsupported),
    ("messageTracker.BufferSize", Unsupported),
    ("request_throttle_max_requests", Unsupported),
    ("request_throttle_stall_time", Unsupported),
    ("request_throttle_drop_stale", Unsupported),
    ("request_stale_latency_check", Unsupported),
    ("request_stale_connection_check", Unsupported),
    ("throttled_op_wait_time", Unsupported),
    ("connection_throttle_tokens", Unsupported),
    ("connection_throttle_fill_time", Unsupported),
    ("connection_throttle_fill_count", Unsupported),
    ("connection_throttle_freeze_time", Unsupported),
    ("connection_throttle_drop_increase", Unsupported),
    ("connection_throttle_drop_decrease", Unsupported),
    ("connection_throttle_decrease_ratio", Unsupported),
    ("connection_throttle_weight_enabled", Unsupported),
    ("connection_throttle_global_session_weight", Unsupported),
    ("connection_throttle_renew_session_weight", Unsupported),
    ("connection_throttle_local_session_weight", Unsupported),
    ("largeRequestMaxBytes", Unsupported),
    ("largeRequestThreshold", Unsupported),
    ("X509AuthenticationProvider.superUser", Unsupported),
    ("superUser", Unsupported),
    ("SASLAuthenticationProvider.superPassword", Unsupported),
    ("IPAuthenticationProvider.usexforwardedfor", Unsupported),
    ("ensembleAuthName", Unsupported),
    ("allowSaslFailedClients", Unsupported),
    ("letAnySaslUserDoX", Unsupported),
    ("sasl.serverconfig", Unsupported),
    ("java.security.auth.login.config", Unsupported),
    ("security.auth_to_local", Unsupported),
    ("requireKerberosConfig", Unsupported),
    ("kinit", Unsupported),
    ("client.portUnification", Unsupported),
    ("client.certReload", Unsupported),
    ("fips-mode", Unsupported),
    ("admin.enableServer", Used),
    ("controllerPort", Unsupported),
    // Read by client programs.
    ("client.secure", ClientOnly),
    ("clientCnxnSocket", ClientOnly),
    ("disableAutoWatchReset", ClientOnly),
    ("request.timeout", ClientOnly),
    ("sasl.client", ClientOnly),
    ("sasl.clientconfig", ClientOnly),
    ("sasl.client.username", ClientOnly),
    ("server.principal", ClientOnly),
    ("server.realm", ClientOnly),
];

/// Families of keys that share a beginning; looked at after the full names.
const FAMILIES: &[(&str, Kind)] = &[
    ("server.", Used),
    ("group.", Used),
    ("weight.", Used),
    ("ssl.quorum.", EnsembleOnly),
    ("ssl.", Unsupported),
    ("admin.", Unsupported),
    ("authProvider.", Unsupported),
    ("superUser.", Unsupported),
    ("kerberos.", Unsupported),
    ("metricsProvider.", Unsupported),
    ("java.", JVM),
];

/// The key as the table has it: without `zookeeper.`.
#[must_use]
pub fn canonical(key: &str) -> &str {
    key.strip_prefix("zookeeper.").unwrap_or(key)
}

/// What becomes of a canonical key; `None` for unknown ones.
#[must_use]
pub fn kind(key: &str) -> Option<Kind> {
    let exact = KEYS.iter().find(|(name, _)| *name == key);
    let family = || FAMILIES.iter().find(|(prefix, _)| key.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()));
    exact.or_else(family).map(|(_, kind)| *kind)
}

/// True for keys whose value must not appear in a message (rule S9).
#[must_use]
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "superdigest", "secret", "keyfile"].iter().any(|part| key.contains(part))
}

/// Names longer than this have no neighbour: comparing them would cost more than the hint is worth.
const NAME_BYTES_MAX: usize = 100;

/// The known key that `key` was most likely meant to be.
#[must_use]
pub fn nearest(key: &str) -> Option<&'static str> {
    if key.len() > NAME_BYTES_MAX {
        return None;
    }
    let wanted = key.to_ascii_lowercase();
    let distance = |name: &str| edit_distance(wanted.as_bytes(), name.to_ascii_lowercase().as_bytes());
    let (name, distance) = KEYS.iter().map(|(name, _)| (*name, distance(name))).min_by_key(|(_, d)| *d)?;
    // More than two fifths of the letters wrong is no hint but a guess.
    (distance * 5 <= key.len() * 2).then_some(name)
}

/// Insertions, deletions and replacements that turn `a` into `b`.
fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Names of all keys that `resolve` must read.
#[cfg(test)]
pub(super) fn used() -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter(|(_, kind)| *kind == Used).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_with_and_without_their_prefix_and_by_family() {
        assert_eq!(kind(canonical("zookeeper.snapCount")), Some(Used));
        assert_eq!(kind(canonical("snapCount")), Some(Used));
        assert_eq!(kind("server.1"), Some(Used));
        assert_eq!(kind("server.principal"), Some(ClientOnly));
        assert_eq!(kind("ssl.quorum.keyStore.location"), Some(EnsembleOnly));
        assert_eq!(kind("ssl.keyStore.location"), Some(Unsupported));
        assert_eq!(kind("snapcount"), None);
        assert_eq!(kind("server."), None);
    }

    #[test]
    fn no_key_is_listed_twice() {
        let mut names: Vec<_> = KEYS.iter().chain(FAMILIES).map(|(name, _)| *name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_misspelt_key_has_a_nearest_one_and_nonsense_has_none() {
        for (wrong, right) in [
            ("ticktime", "tickTime"),
            ("tickTme", "tickTime"),
            ("autopurge.snapRetainCont", "autopurge.snapRetainCount"),
            ("maxClientConnections", "maxClientCnxns"),
            ("zoo.shard", "zoo.shards"),
        ] {
            assert_eq!(nearest(wrong), Some(right), "{wrong}");
        }
        for nonsense in ["qwertyuiop", "x", "", &"y".repeat(1000)] {
            assert_eq!(nearest(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn edit_distances() {
        for (a, b, d) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("abc", "abc", 0), ("abc", "cab", 2)] {
            assert_eq!(edit_distance(a.as_bytes(), b.as_bytes()), d, "{a} {b}");
        }
    }

    #[test]
    fn secrets_are_recognised_by_name() {
        for key in ["ssl.keyStore.password", "DigestAuthenticationProvider.superDigest", "SASLAuthenticationProvider.superPassword"] {
            assert!(is_secret(key), "{key}");
        }
        assert!(!is_secret("dataDir"));
    }
}

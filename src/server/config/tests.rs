//! What whole configurations come to.

use super::*;
use crate::admin::four_letter::Word;

/// A directory with a `zoo.cfg` of these lines, and its path.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("zoo.cfg");
    std::fs::write(&path, text).expect("write");
    let path = path.to_str().expect("UTF-8").to_owned();
    (dir, path)
}

fn load_file(text: &str, flags: &[&str]) -> Result<(ServerConfig, Vec<String>), ConfigError> {
    let (_dir, path) = file(text);
    let args: Vec<String> = std::iter::once(path).chain(flags.iter().map(|f| (*f).to_owned())).collect();
    ServerConfig::load(&args, &|_| None)
}

fn load(flags: &[&str]) -> Result<(ServerConfig, Vec<String>), ConfigError> {
    let args: Vec<String> = flags.iter().map(|f| (*f).to_owned()).collect();
    ServerConfig::load(&args, &|_| None)
}

/// The least a file must say.
const MINIMAL: &str = "dataDir=/data\nclientPort=2181\n";

fn with(lines: &str) -> (ServerConfig, Vec<String>) {
    load_file(&format!("{MINIMAL}{lines}"), &[]).expect("valid")
}

fn refusal(lines: &str) -> String {
    load_file(&format!("{MINIMAL}{lines}"), &[]).expect_err(lines).to_string()
}

#[test]
fn no_arguments_make_a_development_server_on_loopback() {
    let (config, warnings) = load(&[]).expect("valid");
    assert_eq!(config, ServerConfig::development(([127, 0, 0, 1], 2181).into(), "./zoo-data"));
    assert_eq!(warnings, [""; 0]);
    let (config, _) = load(&["--clientPort", "2281", "--dataDir=/x"]).expect("valid");
    assert_eq!(config, ServerConfig::development(([127, 0, 0, 1], 2281).into(), "/x"));
}

#[test]
fn a_minimal_file_has_zookeepers_defaults() {
    let (config, warnings) = with("");
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.net.listen, "[::]:2181".parse().expect("address"));
    assert_eq!((config.net.max_client_cnxns, config.net.max_cnxns, config.net.backlog), (Some(60), None, None));
    assert_eq!((config.sessions.tick_ms, config.sessions.min_timeout_ms, config.sessions.max_timeout_ms), (3_000, 6_000, 60_000));
    assert_eq!((config.storage.data_dir.as_path(), config.storage.log_dir.as_path()), ("/data".as_ref(), "/data".as_ref()));
    assert_eq!((config.storage.snap_count, config.storage.snap_log_bytes), (100_000, Some(4 << 30)));
    assert_eq!((config.storage.log_file_bytes_max, config.storage.purge, config.storage.force_sync), (None, None, true));
    assert!(config.four_letter.whitelist.allows(Word::Srvr) && !config.four_letter.whitelist.allows(Word::Ruok));
}

#[test]
fn zookeepers_sample_file_passes_without_a_warning() {
    let sample = "# The number of milliseconds of each tick\ntickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir=/tmp/zookeeper\n\
        clientPort=2181\n#maxClientCnxns=60\n#autopurge.purgeInterval=1\n";
    let (config, warnings) = load_file(sample, &[]).expect("valid");
    assert_eq!(warnings, [""; 0]);
    assert_eq!((config.sessions.tick_ms, config.sessions.max_timeout_ms), (2_000, 40_000));
}

#[test]
fn supported_keys_arrive_where_they_belong() {
    let (config, warnings) = with(
        "tickTime=500\nminSessionTimeout=700\nmaxSessionTimeout=9000\nmaxClientCnxns=0\nmaxCnxns=7\nclientPortAddress=127.0.0.1\n\
        clientPortListenBacklog=64\ndataLogDir=/log\nautopurge.purgeInterval=2\nautopurge.snapRetainCount=5\nsnapCount=10\n\
        snapSizeLimitInKb=-1\ntxnLogSizeLimitInKb=3\npreAllocSize=8\nforceSync=no\njute.maxbuffer=0x200000\n\
        snapshot.compression.method=snappy\nextendedTypesEnabled=TRUE\nenforceQuota=true\nskipACL=yes\n\
        4lw.commands.whitelist=ruok, mntr\nreadonlymode.enabled=true\nzoo.shards=3\nzoo.pin=no\nzoo.replicaShare=25\n\
        zoo.outBufferMax=32m\nzoo.watchesPerSessionMax=10\nzoo.multiOpsMax=20\nzoo.slowRequest=0\nzoo.logWriter=pwrite\n\
        DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=\nznode.container.checkIntervalMs=11\n\
        nio.sessionlessCnxnTimeout=900\n",
    );
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.net.listen, "127.0.0.1:2181".parse().expect("address"));
    assert_eq!((config.net.max_client_cnxns, config.net.max_cnxns, config.net.backlog), (None, Some(7), Some(64)));
    assert_eq!(config.net.sessionless_ms, 900);
    let s = &config.storage;
    assert_eq!(s.log_dir.as_path(), std::path::Path::new("/log"));
    assert_eq!(s.purge, Some(PurgeConfig { retain_count: 5, interval_hours: 2 }));
    assert_eq!((s.snap_count, s.snap_log_bytes, s.log_file_bytes_max), (10, None, Some(3 << 10)));
    assert_eq!(
        (s.pre_alloc_bytes, s.force_sync, s.compression, s.log_writer),
        (8 << 10, false, Compression::Snappy, Some(LogWriter::Pwrite))
    );
    assert_eq!(s.payload_bytes_max, 4 << 20);
    assert_eq!(
        config.cores,
        CoresConfig {
            shards: Some(3),
            pin: Some(false),
            replica_share_percent: Some(25),
            placement: Placement::RoundRobin,
            rebalance_ms: None
        }
    );
    let words = [Word::Ruok, Word::Mntr, Word::Isro, Word::Srvr];
    assert!(words.iter().all(|w| config.four_letter.whitelist.allows(*w)));

    let shard = config.shard(1);
    assert_eq!((shard.frame_bytes_max, shard.out_buffer_bytes_max, shard.watches_per_session_max), (2 << 20, 32 << 20, 10));
    assert_eq!((shard.min_session_timeout_ms, shard.max_session_timeout_ms), (700, 9_000));
    assert_eq!((shard.multi_ops_max, shard.sessionless_ms, shard.slow_request_ms), (20, 900, None));
    assert_eq!((shard.super_digest.as_deref(), shard.skip_acl), (Some("super:D/InIHSb7yEEbrWz8b9l71RjZJU="), true));
    let tree = config.tree(1);
    assert!(tree.extended_types && tree.enforce_quota && tree.skip_acl && tree.digest_enabled && !tree.reconfig_enabled);
    let replica = config.replica(1, config.log(2, Epochs::NONE, None));
    assert_eq!((replica.tick_ms, replica.snap_count, replica.container_check_interval_ms), (500, 10, 11));
    assert!(!replica.log.force_sync && replica.log.dbid == 2);
}

#[test]
fn the_log_always_has_room_for_the_largest_transaction() {
    for lines in ["preAllocSize=1\n", "jute.maxbuffer=104857600\n", "jute.maxbuffer=1024\n"] {
        let (config, _) = with(lines);
        let log = config.log(0, Epochs::NONE, None);
        assert!(log.unsynced_bytes_max > config.storage.payload_bytes_max as u64, "{lines}");
        let largest = config.tree(0).payload_bytes_max;
        assert!(
            largest > config.shard(0).frame_bytes_max && largest == log.payload_bytes_max,
            "what a shard lets in can be logged: {lines}"
        );
        assert!(log.segment_bytes >= 2 * log.unsynced_bytes_max, "{lines}");
    }
}

#[test]
fn bad_values_name_file_line_key_and_what_was_expected() {
    let (_dir, path) = file("dataDir=/data\nclientPort=2181\n\ntickTime=abc\n");
    let error = ServerConfig::load(std::slice::from_ref(&path), &|_| None).expect_err("bad value").to_string();
    assert_eq!(error, format!("{path}:4: tickTime: \"abc\" is not a whole number from 1 to 107374182"));

    let error = load(&["--forceSync", "maybe"]).expect_err("bad value").to_string();
    assert_eq!(error, "command line: forceSync: \"maybe\" is not yes or no");
    let error = load(&["--zoo.outBufferMax=1x"]).expect_err("bad value").to_string();
    assert!(error.contains("a number of bytes from"), "{error}");
}

#[test]
fn values_out_of_range_are_refused() {
    for line in [
        "tickTime=0",
        "tickTime=200000000",
        "clientPort=65536",
        "clientPort=-1",
        "electionAlg=2",
        "skipACL=true",
        "extendedTypesEnabled=yes",
        "snapshot.compression.method=zip",
        "jute.maxbuffer=100",
        "peerType=boss",
        "zoo.shards=0",
        "zoo.shards=many",
        "zoo.pin=maybe",
        "zoo.placement=random",
        "zoo.outBufferMax=1",
        "zoo.outBufferMax=99999999999999999999g",
        "minSessionTimeout=-2",
        "initLimit=0",
        "electionPortBindRetry=x",
        "server.-1=a:1:2",
        "server.1=nonsense",
        "clientPortAddress=no such host",
        "DigestAuthenticationProvider.digestAlg=SHA3-256",
        "zoo.sessionPassword=mac",
    ] {
        let error = refusal(line);
        assert!(error.contains(line.split('=').next().expect("key")), "{line}: {error}");
    }
    assert!(refusal("minSessionTimeout=9000\nmaxSessionTimeout=8000").contains("longer than the longest"));
}

#[test]
fn a_server_without_port_or_directory_is_refused() {
    assert_eq!(load_file("clientPort=1", &[]).expect_err("no directory").to_string(), "dataDir is not set");
    let error = load_file("dataDir=/d", &[]).expect_err("no port").to_string();
    assert_eq!(error, "clientPort is not set: there would be nothing to serve");
    let error = load_file("dataDir=/d\nclientPortAddress=::1", &[]).expect_err("no port").to_string();
    assert_eq!(error, "clientPortAddress is set, but clientPort is not");
    let error = load_file("dataDir=/d\nsecureClientPort=2281", &[]).expect_err("only TLS").to_string();
    assert!(error.starts_with("clientPort is not set"), "{error}");
}

#[test]
fn what_would_weaken_security_if_ignored_is_refused() {
    for key in [
        "sslQuorum",
        "quorum.auth.enableSasl",
        "quorum.auth.serverRequireSasl",
        "quorum.auth.learnerRequireSasl",
        "sessionRequireClientSASLAuth",
        "zookeeper.enforce.auth.enabled",
    ] {
        let error = refusal(&format!("{key}=true"));
        assert!(error.contains("less secure"), "{key}: {error}");
        assert_eq!(with(&format!("{key}=false")).1, [""; 0], "{key}");
    }
}

#[test]
fn one_server_line_is_a_server_that_stands_alone() {
    let (config, warnings) = with("server.1=localhost:2888:3888\n");
    assert_eq!((config.ensemble, warnings), (None, Vec::new()));
    assert!(refusal("standaloneEnabled=false").contains("no servers are listed"));
    for lines in ["server.1=a:1:2:observer", "server.1=a:1:2\nserver.2=b:1:2:observer"] {
        assert!(refusal(lines).contains("observers need a quorum"), "{lines}");
    }
}

#[test]
fn the_client_address_may_come_from_the_server_line_but_must_not_contradict_the_file() {
    let (config, _) = load_file("dataDir=/d\nserver.1=localhost:1:2:participant;127.0.0.1:2185", &[]).expect("valid");
    assert_eq!(config.net.listen, "127.0.0.1:2185".parse().expect("address"));
    let (config, _) = load_file("dataDir=/d\nserver.1=localhost:1:2;2185", &[]).expect("valid");
    assert_eq!(config.net.listen, "[::]:2185".parse().expect("address"));
    assert!(refusal("server.1=localhost:1:2;2185").contains("contradicts"));
    let with_address = |address: &str, line: &str| {
        load_file(&format!("{MINIMAL}clientPortAddress={address}\nserver.1=localhost:1:2;{line}"), &[]).map(|(config, _)| config.net.listen)
    };
    for address in ["0.0.0.0", "::", "127.0.0.1"] {
        let listen = with_address(address, "127.0.0.1:2181").expect("valid");
        assert_eq!(listen, "127.0.0.1:2181".parse().expect("address"), "the line counts, whatever {address} would let in");
    }
    for line in ["2181", "127.0.0.2:2181"] {
        let error = with_address("127.0.0.1", line).expect_err("two addresses").to_string();
        assert!(error.contains("clientPortAddress") && error.contains("contradicts"), "{error}");
    }
}

#[test]
fn a_dynamic_file_is_read_for_its_members() {
    let (_dir, members) = file("server.1=a:1:2;2186\nversion=0");
    let (config, _) = load_file(&format!("dataDir=/d\ndynamicConfigFile={members}"), &[]).expect("valid");
    assert_eq!(config.net.listen.port(), 2186);
    assert!(refusal(&format!("dynamicConfigFile={members}\nserver.1=a:1:2")).contains("may not be listed here"));
    assert!(refusal("dynamicConfigFile=/no/such/file").contains("cannot read"));
    let (_dir, more) = file("server.1=a:1:2;2186\nclientPort=2186");
    assert!(refusal(&format!("dynamicConfigFile={more}")).contains("clientPort"));
}

#[test]
fn unknown_and_unsupported_keys_are_warned_of_by_name() {
    let (_, warnings) = with("tickTme=1\nqwertyuiop=1\naudit.enable=true\nmaxBatchSize=5\nclient.secure=true\nsecureClientPort=2281\n");
    let warned = |part: &str| warnings.iter().any(|w| w.contains(part));
    assert!(warned("zoo.cfg:3: unknown key tickTme is ignored; did you mean tickTime?"), "{warnings:?}");
    assert!(warned("unknown key qwertyuiop is ignored"));
    assert!(warned("audit.enable is not supported yet and is ignored"));
    assert!(warned("maxBatchSize has no effect: writes are grouped by the disk's own pace"));
    assert!(warned("client.secure is a setting of clients"));
    assert!(warned("secureClientPort: TLS is not supported yet; the port is not opened"));
    assert_eq!(warnings.len(), 6);
}

#[test]
fn doubtful_values_are_warned_of() {
    let (config, warnings) = with(
        "4lw.commands.whitelist=ruok,rouk\nautopurge.snapRetainCount=-1\nautopurge.purgeInterval=1\ndataLogDir=logs\nadmin.enableServer=true\n\
        snapCount=0\ncommitLogCount=499\n",
    );
    let warned = |part: &str| warnings.iter().any(|w| w.contains(part));
    assert!(warned("there is no command \"rouk\""), "{warnings:?}");
    assert!(warned("autopurge.snapRetainCount is raised to 3"));
    assert!(warned("snapCount is raised to 2"));
    assert!(warned("commitLogCount is raised to 500"));
    assert_eq!(config.storage.purge, Some(PurgeConfig { retain_count: 3, interval_hours: 1 }));
    assert_eq!(config.storage.snap_count, 2);
    assert!(warned("dataLogDir is relative"));
    assert!(warned("admin.enableServer: the HTTP admin server is not supported yet"));
    assert_eq!(warnings.len(), 6);
}

#[test]
fn limits_that_are_not_positive_are_off() {
    for n in [0, -1, -60] {
        let (config, warnings) = with(&format!("maxClientCnxns={n}\nmaxCnxns={n}\nautopurge.purgeInterval={n}\n"));
        assert_eq!((config.net.max_client_cnxns, config.net.max_cnxns, config.storage.purge), (None, None, None));
        assert_eq!(warnings, [""; 0]);
    }
}

/// Rule S9.
#[test]
fn secrets_appear_in_no_message() {
    let secret = "hunter2";
    for key in
        ["DigestAuthenticationProvider.superDigest", "ssl.keyStore.password", "SASLAuthenticationProvider.superPassword", "my.secret"]
    {
        let told = match load_file(&format!("{MINIMAL}{key}={secret}"), &[]) {
            Ok((config, warnings)) => format!("{config:?}{warnings:?}"),
            Err(error) => format!("{error}{error:?}"),
        };
        assert!(!told.contains(secret), "{key}: {told}");
    }
    let (config, _) = with("DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=");
    assert!(!format!("{config:?}").contains("D/InIHSb"));
}

/// `super` is a habit: what counts is the whole digest, whoever it names.
#[test]
fn a_super_digest_names_any_user() {
    for digest in ["super:D/InIHSb7yEEbrWz8b9l71RjZJU=", "admin:D/InIHSb7yEEbrWz8b9l71RjZJU="] {
        let (config, _) = with(&format!("DigestAuthenticationProvider.superDigest={digest}"));
        assert_eq!(config.auth.super_digest.as_deref(), Some(digest));
    }
    for not_hashed in ["super", "super:", "super:secret", "D/InIHSb7yEEbrWz8b9l71RjZJU=", "super:D/InIHSb7yEEbrWz8b9l71RjZJU=x"] {
        let refused = refusal(&format!("DigestAuthenticationProvider.superDigest={not_hashed}"));
        assert!(refused.contains("super:<base64"), "{not_hashed}: {refused}");
    }
}

#[test]
fn control_characters_are_escaped_in_messages() {
    let (_, warnings) = with("bad\\u001bkey=1");
    assert!(warnings[0].contains("bad\\u{1b}key"), "{warnings:?}");
    assert!(refusal("forceSync=a\\u001bb").contains("a\\u{1b}b"));
}

#[test]
fn every_key_that_is_used_is_documented() {
    let page = include_str!("../../../docs/configuration.md");
    let missing: Vec<_> = keys::used().filter(|key| !page.contains(&format!("`{key}`"))).collect();
    assert_eq!(missing, [""; 0]);
}

/// A key that the table calls used but nothing reads would be ignored in silence.
#[test]
fn every_key_that_counts_as_used_changes_something() {
    let (normal, _) = with("");
    for key in keys::used() {
        let untouched = match load_file(&format!("{MINIMAL}{key}=!nonsense!"), &[]) {
            Ok((config, warnings)) => config == normal && warnings.is_empty(),
            Err(_) => false,
        };
        assert!(!untouched, "{key} is read by nobody");
    }
}

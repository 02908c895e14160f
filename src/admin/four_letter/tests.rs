//! The text of every word, byte for byte, as a ZooKeeper 3.9.4 server lays it out.

use super::*;
use crate::admin::report::{DirectorySizes, MemberFacts, ServerFacts};
use crate::admin::version;
use crate::base::{Instant, SessionId, WallTime, Zxid};
use crate::metrics::ReplicaMetrics;
use crate::replica::report::{LearnerCounts, MemberReport, ProposalBytes, ReplicaReport, ServerState};
use crate::shard::{ConnReport, ShardReport};
use crate::tree::{QuotaSums, TreeCounts};
use crate::zab::Membership;

const ALICE: SessionId = SessionId(0x0100_0024_5f1c_0000);
const BOB: SessionId = SessionId(0x0100_0024_5f1c_0001);

fn connection(port: u16, session: Option<SessionId>) -> ConnReport {
    ConnReport {
        peer: ([127, 0, 0, 1], port).into(),
        session,
        interest: u8::from(session.is_some()),
        queued: 0,
        received: 12,
        sent: 11,
        last_op: "GETD",
        established_ms: 1_700_000_000_123,
        timeout_ms: 10_000,
        last_cxid: 10,
        last_zxid: 0x2a,
        last_response_ms: 987_654,
        last_latency_ms: 1,
        min_latency_ms: 0,
        avg_latency_ms: 2,
        max_latency_ms: 7,
    }
}

/// Two shards: alice and the asker on the first, bob on the second.
fn view() -> AdminView {
    let asker = ConnReport { received: 1, sent: 0, ..connection(40_009, None) };
    let first = ShardReport {
        connections: vec![connection(40_001, Some(ALICE)), asker],
        local_connections: 2,
        packets_received: 13,
        packets_sent: 11,
        latency_count: 10,
        latency_sum_ms: 4,
        latency_min_ms: 1,
        latency_max_ms: 3,
        watches: vec![("/b".into(), vec![ALICE]), ("/a".into(), vec![ALICE])],
        watch_count: 3,
        auth_failed: 1,
        ..ShardReport::default()
    };
    let bob = ConnReport { last_cxid: -1, last_zxid: -1, last_op: "NA", queued: 2, ..connection(40_002, Some(BOB)) };
    let second = ShardReport {
        connections: vec![bob],
        remote_connections: 1,
        queued: 2,
        packets_received: 7,
        packets_sent: 9,
        latency_count: 2,
        latency_sum_ms: 11,
        latency_min_ms: 0,
        latency_max_ms: 9,
        watches: vec![("/a".into(), vec![BOB])],
        watch_count: 1,
        auth_failed: 0,
        ..ShardReport::default()
    };
    let (mut first, mut second) = (first, second);
    [1, 9].into_iter().for_each(|ms| first.metrics.read_ms.record(ms));
    second.metrics.read_ms.record(3);
    let mut replica_metrics = ReplicaMetrics::default();
    replica_metrics.fsync_ms.record(7);
    let replica = ReplicaReport {
        last_zxid: Zxid(0x2a),
        tree: TreeCounts { znodes: 9, ephemerals: 2, data_bytes: 210, sessions: 2 },
        quotas: vec![("app".into(), QuotaSums { count_limit: 5, bytes_limit: -1, count_used: 3, bytes_used: 70 })],
        outstanding: 1,
        sessions: vec![(ALICE, 10_000, 6_000), (BOB, 10_000, 4_000)],
        ephemerals: vec![(ALICE, vec!["/a/e1".into(), "/a/e2".into()])],
        digest_history: vec![(Zxid(0x80), 1_371_985_504), (Zxid(0x1_0000_0100), u64::MAX)],
        snapshots_taken: 4,
        ..ReplicaReport::default()
    };
    let (whitelist, unknown) = Whitelist::parse("*");
    assert!(unknown.is_empty());
    AdminView {
        facts: ServerFacts {
            client_port: 2181,
            backlog: -1,
            snapshot_dir: "/data/version-2".into(),
            log_dir: "/log/version-2".into(),
            tick_ms: 2000,
            max_client_cnxns: 60,
            min_session_timeout_ms: 4000,
            max_session_timeout_ms: 40_000,
            member: None,
            sessionless_ms: 10_000,
            whitelist,
        },
        serving: true,
        now: WallTime(1_764_000_000_000),
        clock: Instant(0).plus_ms(4_000),
        uptime_ms: 123_456,
        trace_mask: 306,
        replica,
        replica_metrics,
        shards: vec![first, second],
        directories: DirectorySizes { snapshot_bytes: 424, log_bytes: 67_108_880 },
        ..AdminView::default()
    }
}

fn said(word: &[u8; 4], view: &AdminView) -> String {
    String::from_utf8(answer(*word, b"", view).text).expect("text")
}

fn version_line() -> String {
    format!("Zookeeper version: {}\n", version::zookeeper_build())
}

const STATISTICS: &str = "Latency min/avg/max: 0/1.25/9\nReceived: 20\nSent: 20\nConnections: 3\nOutstanding: 2\nZxid: 0x2a\n\
    Mode: standalone\nNode count: 9\n";

#[test]
fn the_version_line_is_what_tools_parse() {
    let line = version_line();
    let rest = line.strip_prefix("Zookeeper version: 3.9.4-").expect("version first");
    let (commit, date) = rest.split_once(", built on ").expect("date behind the commit");
    assert!(!commit.is_empty() && commit.chars().all(|c| c.is_ascii_alphanumeric()));
    assert_eq!(date.len(), "2026-11-22 17:54 UTC\n".len());
    assert!(date.ends_with(" UTC\n"));
}

#[test]
fn ruok_and_isro_say_it_without_a_newline() {
    assert_eq!(said(b"ruok", &view()), "imok");
    assert_eq!(said(b"isro", &view()), "rw");
}

#[test]
fn srvr_and_stat() {
    assert_eq!(said(b"srvr", &view()), format!("{}{STATISTICS}", version_line()));
    let clients = "Clients:\n /127.0.0.1:40001[1](queued=0,recved=12,sent=11)\n /127.0.0.1:40009[0](queued=0,recved=1,sent=0)\n \
        /127.0.0.1:40002[1](queued=2,recved=12,sent=11)\n\n";
    assert_eq!(said(b"stat", &view()), format!("{}{clients}{STATISTICS}", version_line()));
}

#[test]
fn an_idle_server_has_zero_latencies() {
    let view = AdminView { shards: vec![ShardReport { latency_min_ms: u64::MAX, ..ShardReport::default() }], ..view() };
    assert!(said(b"srvr", &view).contains("\nLatency min/avg/max: 0/0.0/0\n"));
}

#[test]
fn addresses_are_spelt_as_zookeeper_spells_them() {
    let mut view = view();
    view.shards[0].connections[0].peer = "[2001:db8::1]:40001".parse().expect("an address");
    for word in [b"cons", b"stat", b"dump"] {
        let text = said(word, &view);
        assert!(text.contains("/[2001:db8:0:0:0:0:0:1]:40001"), "{text}");
    }
}

#[test]
fn cons_has_a_full_line_for_every_session() {
    let want = " /127.0.0.1:40001[1](queued=0,recved=12,sent=11,sid=0x10000245f1c0000,lop=GETD,est=1700000000123,to=10000,lcxid=0xa,\
        lzxid=0x2a,lresp=987654,llat=1,minlat=0,avglat=2,maxlat=7)\n \
        /127.0.0.1:40009[0](queued=0,recved=1,sent=0)\n \
        /127.0.0.1:40002[1](queued=2,recved=12,sent=11,sid=0x10000245f1c0001,lop=NA,est=1700000000123,to=10000,\
        lzxid=0xffffffffffffffff,lresp=987654,llat=1,minlat=0,avglat=2,maxlat=7)\n\n";
    assert_eq!(said(b"cons", &view()), want);
}

#[test]
fn conf_and_dirs() {
    let want = "clientPort=2181\nsecureClientPort=-1\ndataDir=/data/version-2\ndataDirSize=424\ndataLogDir=/log/version-2\n\
        dataLogSize=67108880\ntickTime=2000\nmaxClientCnxns=60\nminSessionTimeout=4000\nmaxSessionTimeout=40000\n\
        clientPortListenBacklog=-1\nserverId=0\n";
    assert_eq!(said(b"conf", &view()), want);
    assert_eq!(said(b"dirs", &view()), "datadir_size: 424\nlogdir_size: 67108880\n");
}

#[test]
fn dump_groups_sessions_and_connections_by_expiry() {
    let want = "SessionTracker dump:\nSession Sets (2)/(2):\n\
        1 expire at Mon Nov 24 16:00:04 UTC 2025:\n\t0x10000245f1c0001\n\
        1 expire at Mon Nov 24 16:00:06 UTC 2025:\n\t0x10000245f1c0000\n\
        ephemeral nodes dump:\nSessions with Ephemerals (1):\n0x10000245f1c0000:\n\t/a/e1\n\t/a/e2\n\
        Connections dump:\nConnections Sets (1)/(3):\n3 expire at Mon Nov 24 16:00:20 UTC 2025:\n\
        \tip: /127.0.0.1:40001 sessionId: 0x10000245f1c0000\n\
        \tip: /127.0.0.1:40009 sessionId: 0x0\n\
        \tip: /127.0.0.1:40002 sessionId: 0x10000245f1c0001\n";
    assert_eq!(said(b"dump", &view()), want);
}

#[test]
fn watches_by_sum_session_and_path() {
    assert_eq!(said(b"wchs", &view()), "2 connections watching 2 paths\nTotal watches:3\n");
    assert_eq!(said(b"wchc", &view()), "0x10000245f1c0000\n\t/a\n\t/b\n0x10000245f1c0001\n\t/a\n\n");
    assert_eq!(said(b"wchp", &view()), "/a\n\t0x10000245f1c0000\n\t0x10000245f1c0001\n/b\n\t0x10000245f1c0000\n\n");
}

#[test]
fn hash_prints_digests_as_java_longs() {
    assert_eq!(said(b"hash", &view()), "80: 1371985504\n100000100: -1\n");
    assert_eq!(said(b"hash", &AdminView { replica: ReplicaReport::default(), ..view() }), "");
}

#[test]
fn mntr_lines_are_tab_separated_and_unique() {
    let text = said(b"mntr", &view());
    let lines: Vec<(&str, &str)> = text.lines().map(|l| l.split_once('\t').expect("key, tab, value")).collect();
    let value = |key: &str| lines.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
    for (key, want) in [
        ("zk_version", version::zookeeper_build().as_str()),
        ("zk_zoo_version", version::ZOO_VERSION),
        ("zk_server_state", "standalone"),
        ("zk_avg_latency", "1.25"),
        ("zk_max_latency", "9"),
        ("zk_packets_received", "20"),
        ("zk_num_alive_connections", "3"),
        ("zk_non_mtls_remote_conn_count", "1"),
        ("zk_cnt_readlatency", "3"),
        ("zk_avg_readlatency", "4.3333"),
        ("zk_min_readlatency", "1"),
        ("zk_p50_readlatency", "3"),
        ("zk_p999_readlatency", "9"),
        ("zk_sum_updatelatency", "0"),
        ("zk_max_fsynctime", "7"),
        ("zk_outstanding_requests", "2"),
        ("zk_znode_count", "9"),
        ("zk_watch_count", "4"),
        ("zk_ephemerals_count", "2"),
        ("zk_approximate_data_size", "210"),
        ("zk_global_sessions", "2"),
        ("zk_snap_count", "4"),
        ("zk_auth_failed_count", "1"),
        ("zk_connection_drop_probability", "0.0"),
        ("zk_app_quota_count_limit_per_namespace", "5"),
        ("zk_app_quota_bytes_limit_per_namespace", "-1"),
        ("zk_app_quota_count_usage_per_namespace", "3"),
        ("zk_app_quota_bytes_usage_per_namespace", "70"),
        ("zk_uptime", "123456"),
    ] {
        assert_eq!(value(key), Some(want), "{key}");
    }
    let mut keys: Vec<_> = lines.iter().map(|(k, _)| *k).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), lines.len());
    assert!(keys.iter().all(|k| k.starts_with("zk_")));
}

#[test]
fn envi_has_zookeepers_keys_in_order() {
    let text = said(b"envi", &view());
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("Environment:"));
    let keys: Vec<_> = lines.map(|l| l.split_once('=').expect("key=value").0).collect();
    let want = "zookeeper.version host.name java.version java.vendor java.home java.class.path java.library.path java.io.tmpdir \
        java.compiler os.name os.arch os.version user.name user.home user.dir os.memory.free os.memory.max os.memory.total";
    assert_eq!(keys, want.split_whitespace().collect::<Vec<_>>());
    assert!(text.contains("\nos.memory.free=0MB\n"));
}

#[test]
fn resets_are_ordered_and_confirmed() {
    let both = [(b"crst", Order::ResetConnections, "Connection stats reset.\n"), (b"srst", Order::ResetServer, "Server stats reset.\n")];
    for (word, order, text) in both {
        assert_eq!(answer(*word, b"", &view()), Answer { text: text.into(), order: Some(order) });
    }
}

#[test]
fn the_trace_mask_is_set_only_when_it_came_with_the_word() {
    assert_eq!(said(b"gtmk", &view()), "306");
    let set = answer(*b"stmk", &[0, 0, 0, 0, 0, 0, 1, 50, 9, 9], &view());
    assert_eq!(set, Answer { text: "306".into(), order: Some(Order::SetTraceMask(306)) });
    assert_eq!(answer(*b"stmk", &[0; 7], &view()), Answer::default());
}

#[test]
fn words_outside_the_whitelist_say_so_and_gather_nothing() {
    let mut view = view();
    view.facts.whitelist = Whitelist::default();
    assert_eq!(said(b"ruok", &view), "ruok is not executed because it is not in the whitelist.\n");
    assert_eq!(said(b"stmk", &view), "stmk is not executed because it is not in the whitelist.\n");
    assert_eq!(needs(*b"wchc", &view.facts), Needs::default());
    assert!(said(b"srvr", &view).starts_with("Zookeeper version: "));
    assert!(needs(*b"srvr", &view.facts).replica);
}

/// Rule B2: probes ask these every few seconds.
#[test]
fn words_for_probes_gather_no_lists() {
    let facts = view().facts;
    let lists = |word: &[u8; 4]| {
        let n = needs(*word, &facts);
        (n.connections, n.watches, n.lists)
    };
    for word in [b"ruok", b"srvr", b"mntr", b"isro"] {
        assert_eq!(lists(word), (false, false, false), "{}", word.escape_ascii());
    }
    for word in [b"stat", b"cons"] {
        assert_eq!(lists(word), (true, false, false), "{}", word.escape_ascii());
    }
    for word in [b"wchs", b"wchc", b"wchp"] {
        assert_eq!(lists(word), (false, true, false), "{}", word.escape_ascii());
    }
    assert_eq!((lists(b"dump"), lists(b"hash")), ((true, false, true), (false, false, true)));
}

#[test]
fn a_server_that_does_not_serve_says_so() {
    let view = AdminView { serving: false, ..view() };
    let refusal = "This ZooKeeper instance is not currently serving requests";
    for (word, _) in WORDS.iter().map(|(w, b)| (w, b)).filter(|(w, _)| !w.needs_no_server() && **w != Word::TelnetClose) {
        let end = if *word == Word::Hash { "" } else { "\n" };
        let bytes: [u8; 4] = word.name().as_bytes().try_into().expect("four letters");
        assert_eq!(said(&bytes, &view), format!("{refusal}{end}"));
    }
    assert_eq!(said(b"ruok", &view), "imok");
    assert_eq!(said(b"isro", &view), "null");
    assert!(said(b"envi", &view).starts_with("Environment:\n"));
}

#[test]
fn an_answer_with_cores_missing_says_that_it_is_partial() {
    let view = AdminView { shards_missing: 1, ..view() };
    for word in [b"srvr", b"stat", b"cons", b"dump", b"wchs", b"wchc", b"wchp"] {
        assert!(said(word, &view).contains("Incomplete: 1 of 3 cores did not answer in time\n"), "{}", word.escape_ascii());
    }
    assert!(said(b"mntr", &view).contains("zk_zoo_shards_missing\t1\n"));
}

#[test]
fn only_exact_lower_case_words_are_words() {
    for other in [*b"RUOK", *b"ruo\n", *b"xxxx", [0, 0, 0, 45]] {
        assert_eq!(Word::from_bytes(other), None);
        assert_eq!(answer(other, b"", &view()), Answer::default());
    }
    assert_eq!(Word::from_bytes([0xff, 0xf4, 0xff, 0xfd]), Some(Word::TelnetClose));
    assert_eq!(answer([0xff, 0xf4, 0xff, 0xfd], b"", &view()), Answer::default());
    let mut strict = view();
    strict.facts.whitelist = Whitelist::default();
    assert_eq!(said(&[0xff, 0xf4, 0xff, 0xfd], &strict), "telnet close is not executed because it is not in the whitelist.\n");
}

/// The same server as a member of an ensemble.
fn member(state: ServerState, is_serving: bool) -> AdminView {
    let mut view = view();
    view.facts.member = Some(MemberFacts { server_id: 3, init_limit: 10, sync_limit: 5 });
    view.serving = is_serving;
    let membership = Membership::parse("server.3=a:2888:3888:participant\nversion=0").expect("valid");
    view.replica.member = Some(MemberReport {
        membership,
        state,
        is_serving,
        takes_clients: is_serving,
        is_read_only: false,
        leader: None,
        epoch: 1,
        accepted_epoch: 1,
        last_logged: Zxid(0x2a),
        committed: Zxid(0x2a),
        quorum_size: 3,
        forwarded: 0,
        attached: 0,
        learners: LearnerCounts { learners: 3, synced_followers: 2, synced_observers: 1, ..LearnerCounts::default() },
        observer_master: None,
        feeds_observers: false,
        proposal_bytes: Some(ProposalBytes { last: 48, min: 32, max: 99 }),
        role_since: Instant(0).plus_ms(500),
    });
    view
}

fn read_only_member() -> AdminView {
    let mut view = member(ServerState::Looking, false);
    view.serving = true;
    view.replica.member.as_mut().expect("a member").is_read_only = true;
    view.replica.local_sessions = Some(vec![(SessionId(0x0300_0000_0000_0001), 4000, 2000)]);
    view.replica.local_session_count = 1;
    view
}

#[test]
fn a_member_without_a_quorum_says_that_it_only_reads_and_tells_no_membership() {
    let view = read_only_member();
    let srvr = said(b"srvr", &view);
    assert_eq!(srvr.lines().nth(1), Some("READ-ONLY mode; serving only read-only clients"));
    assert!(srvr.contains("\nMode: read-only\n"), "{srvr}");
    let stat = said(b"stat", &view);
    assert_eq!(stat.lines().skip(1).take(2).collect::<Vec<_>>(), ["READ-ONLY mode; serving only read-only clients", "Clients:"]);
    assert_eq!(said(b"isro", &view), "ro");
    assert!(said(b"conf", &view).ends_with("peerType=0\n"));
    let mntr = said(b"mntr", &view);
    assert!(mntr.contains("zk_server_state\tread-only\n") && mntr.contains("zk_local_sessions\t1\n"), "{mntr}");
    assert!(!mntr.contains("zk_peer_state") && !mntr.contains("zk_quorum_size"), "{mntr}");
    let dump = said(b"dump", &view);
    assert!(dump.starts_with("SessionTracker dump:\nLocal Session Sets (1)/(1):\n1 expire at "), "{dump}");
    assert!(dump.contains("\t0x300000000000001\nGlobal Sessions("), "{dump}");
}

#[test]
fn dump_tells_local_sessions_from_those_of_the_ensemble() {
    let mut leader = member(ServerState::Leading, true);
    leader.replica.local_sessions = Some(Vec::new());
    let dump = said(b"dump", &leader);
    assert!(dump.starts_with("SessionTracker dump:\nLocal Session Sets (0)/(0):\nGlobal Session Sets ("), "{dump}");
}

#[test]
fn srvr_of_a_member_shows_its_mode_and_a_leader_its_proposals() {
    let leader = said(b"srvr", &member(ServerState::Leading, true));
    assert!(leader.ends_with("Mode: leader\nNode count: 9\nProposal sizes last/min/max: 48/32/99\n"), "{leader}");
    let mut silent = member(ServerState::Leading, true);
    silent.replica.member.as_mut().expect("a member").proposal_bytes = None;
    assert!(said(b"stat", &silent).ends_with("\nProposal sizes last/min/max: -1/-1/-1\n"));
    assert!(said(b"srvr", &member(ServerState::Following, true)).ends_with("Mode: follower\nNode count: 9\n"));
    assert!(said(b"srvr", &member(ServerState::Observing, true)).ends_with("Mode: observer\nNode count: 9\n"));
    let refusal = "This ZooKeeper instance is not currently serving requests\n";
    assert_eq!(said(b"srvr", &member(ServerState::Looking, false)), refusal);
    assert_eq!(
        (said(b"isro", &member(ServerState::Leading, true)), said(b"isro", &member(ServerState::Looking, false))),
        ("rw".into(), "null".into())
    );
}

#[test]
fn mntr_of_a_leader_counts_its_learners() {
    let leader = said(b"mntr", &member(ServerState::Leading, true));
    for line in [
        "zk_server_state\tleader",
        "zk_peer_state\tleading - broadcast",
        "zk_quorum_size\t3",
        "zk_learners\t3",
        "zk_synced_followers\t2",
        "zk_synced_observers\t1",
        "zk_leader_uptime\t3500",
        "zk_last_proposal_size\t48",
    ] {
        assert!(leader.lines().any(|l| l == line), "{line}: {leader}");
    }
    let follower = said(b"mntr", &member(ServerState::Following, true));
    assert!(follower.contains("zk_peer_state\tfollowing - broadcast\n") && !follower.contains("zk_learners"));
}

#[test]
fn conf_of_a_member_ends_with_its_membership() {
    let text = said(b"conf", &member(ServerState::Following, true));
    let want = "\nserverId=3\ninitLimit=10\nsyncLimit=5\nelectionAlg=3\nelectionPort=3888\nquorumPort=2888\npeerType=0\nmembership: \n\
        server.3=a:2888:3888:participant\nversion=0";
    assert!(text.ends_with(want), "{text}");
}

#[test]
fn conf_names_each_port_of_a_member_with_several_addresses_once() {
    let mut several = member(ServerState::Following, true);
    let membership = Membership::parse("server.3=a:2888:3888|b:2888:3889:participant\nversion=0").expect("valid");
    several.replica.member.as_mut().expect("a member").membership = membership;
    let text = said(b"conf", &several);
    assert!(text.contains("\nelectionPort=3888|3889\nquorumPort=2888\n"), "{text}");
}

#[test]
fn dump_of_a_learner_lists_sessions_without_their_expiry() {
    let text = said(b"dump", &member(ServerState::Following, true));
    let want = format!("SessionTracker dump:\nGlobal Sessions(2):\n{ALICE}\t10000ms\n{BOB}\t10000ms\nephemeral nodes dump:\n");
    assert!(text.starts_with(&want), "{text}");
    assert!(said(b"dump", &member(ServerState::Leading, true)).starts_with("SessionTracker dump:\nSession Sets ("));
}

#[test]
fn whether_a_member_serves_is_asked_for_every_word_that_needs_a_server() {
    let facts = member(ServerState::Looking, false).facts;
    for word in [b"conf", b"isro", b"wchs", b"cons", b"dirs", b"crst"] {
        assert!(needs(*word, &facts).replica, "{}", word.escape_ascii());
        assert!(!needs(*word, &view().facts).replica, "{}", word.escape_ascii());
    }
    assert_eq!(needs(*b"ruok", &facts), Needs::default());
}

//! What the configuration of a member comes to.

use super::super::{ConfigError, ServerConfig};
use super::*;
use std::fs;

/// Three voters and an observer.
const FOUR: &str = "server.1=a:2888:3888\nserver.2=b:2888:3888;2182\nserver.3=[::1]:2888:3888\nserver.4=d:2888:3888:observer\n";
const LIMITS: &str = "initLimit=10\nsyncLimit=5\n";

fn load(lines: &str, myid: Option<&str>) -> Result<(ServerConfig, Vec<String>), ConfigError> {
    let dir = tempfile::tempdir().expect("temporary directory");
    if let Some(myid) = myid {
        fs::write(dir.path().join("myid"), myid).expect("written");
    }
    let file = dir.path().join("zoo.cfg");
    let port = if lines.contains("server.2=b:2888:3888;2182") && myid == Some("2\n") { "" } else { "clientPort=2181\n" };
    fs::write(&file, format!("dataDir={}\n{port}{lines}", dir.path().display())).expect("written");
    ServerConfig::load(&[file.to_str().expect("UTF-8").to_owned()], &|_| None)
}

fn member(lines: &str, myid: &str) -> (ServerConfig, EnsembleConfig, Vec<String>) {
    let (config, warnings) = load(lines, Some(myid)).expect("valid");
    let ensemble = config.ensemble.clone().expect("a member");
    (config, ensemble, warnings)
}

fn refusal(lines: &str, myid: Option<&str>) -> String {
    load(lines, myid).expect_err(lines).to_string()
}

#[test]
fn a_member_has_zookeepers_defaults() {
    let (config, ensemble, warnings) = member(&format!("{FOUR}{LIMITS}"), "1\n");
    assert_eq!(warnings, [""; 0]);
    assert_eq!((ensemble.me, ensemble.is_observer(), ensemble.membership.voters().count()), (PeerId(1), false, 3));
    assert_eq!((ensemble.bind_retries, ensemble.tail_count_min, ensemble.listen_on_all), (Some(3), 500, false));
    let zab = config.zab(7).expect("a member");
    assert_eq!((zab.init_limit, zab.sync_limit, zab.tick_ms), (10, 5, 3_000));
    assert_eq!((zab.notification_ms_min, zab.notification_ms_max, zab.finalize_ms, zab.connect_retry_ms), (200, 60_000, 200, 100));
    let io = config.peer_io().expect("a member");
    assert_eq!((io.connect_limit, io.set_up_limit), (Duration::from_secs(5), Duration::from_secs(15)));
    assert_eq!((io.learner_connect_limit, io.image_silence), (Duration::from_secs(30), Duration::from_secs(30)));
    assert_eq!((io.hello.peer, io.hello.addresses, io.hello.multi_address), (PeerId(1), vec![("a".to_owned(), 3888)], false));
    assert_eq!(
        config.replica(1, config.log(2, crate::record::epochs::Epochs::NONE, None)).server_id,
        1,
        "session ids begin with the server's number"
    );
}

#[test]
fn every_setting_of_a_member_arrives() {
    let lines = "connectToLearnerMasterLimit=3\nquorumListenOnAllIPs=true\nelectionPortBindRetry=0\ncnxTimeout=70\n\
        quorumCnxnTimeoutMs=80\nfastleader.minNotificationInterval=5\nfastleader.maxNotificationInterval=6\n\
        leaderConnectDelayDuringRetryMs=7\nzoo.electionWait=8\ncommitLogCount=900\ntcpKeepAlive=true\nmultiAddress.enabled=true\ntickTime=100\n";
    let (config, ensemble, warnings) = member(&format!("{FOUR}{LIMITS}{lines}peerType=observer\n"), "4");
    assert_eq!(warnings, [""; 0]);
    assert!(ensemble.is_observer() && ensemble.listen_on_all && ensemble.tcp_keep_alive && ensemble.bind_retries.is_none());
    let (zab, io) = (config.zab(7).expect("a member"), config.peer_io().expect("a member"));
    assert_eq!((zab.tail_count_min, zab.connect_retry_ms, zab.notification_ms_min, zab.notification_ms_max), (900, 7, 5, 6));
    assert_eq!((io.connect_limit.as_millis(), io.set_up_limit.as_millis(), io.learner_connect_limit.as_millis()), (70, 80, 300));
    assert!(io.hello.multi_address && zab.is_observer && zab.finalize_ms == 8);
}

#[test]
fn groups_and_weights_are_part_of_the_membership() {
    let (_, ensemble, _) = member(&format!("{FOUR}{LIMITS}group.1=1:2:3\nweight.3=0\n"), "1");
    assert_eq!(ensemble.membership.groups[&1], [PeerId(1), PeerId(2), PeerId(3)]);
    assert_eq!(ensemble.membership.weights[&PeerId(3)], 0);
    assert!(refusal(&format!("{FOUR}{LIMITS}group.1=1:2\n"), Some("1")).contains("group"));
}

#[test]
fn the_client_address_is_that_of_the_own_line() {
    let (config, _, _) = member(&format!("{FOUR}{LIMITS}"), "2\n");
    assert_eq!(config.net.listen.port(), 2182);
}

#[test]
fn one_voter_is_an_ensemble_when_standalone_is_off() {
    let (_, ensemble, _) = member(&format!("server.5=a:1:2\nstandaloneEnabled=false\n{LIMITS}"), "5");
    assert_eq!(ensemble.me, PeerId(5));
    assert_eq!(load("server.5=a:1:2\n", None).expect("valid").0.ensemble, None);
}

#[test]
fn what_a_member_needs_must_be_there() {
    assert!(refusal(&format!("{FOUR}{LIMITS}"), None).contains("myid"));
    for nonsense in ["", "one", "-3"] {
        assert!(refusal(&format!("{FOUR}{LIMITS}"), Some(nonsense)).contains("number of this server"), "{nonsense:?}");
    }
    assert!(refusal(&format!("{FOUR}{LIMITS}"), Some("9")).contains("there is no server.9"));
    assert!(refusal(&format!("{FOUR}initLimit=5\n"), Some("1")).contains("syncLimit is not set"));
    assert!(refusal(&format!("{FOUR}syncLimit=5\n"), Some("1")).contains("initLimit is not set"));
}

/// A session's number begins with that of its server; one that begins with 255 would be an owner with another meaning.
#[test]
fn a_server_with_extended_types_has_a_number_up_to_254() {
    for (id, types, is_taken) in [(254, true, true), (255, false, true), (255, true, false)] {
        let lines = format!("server.1=a:1:2\nserver.{id}=b:1:2\n{LIMITS}extendedTypesEnabled={types}\n");
        assert_eq!(load(&lines, Some(&id.to_string())).is_ok(), is_taken, "{id} {types}");
    }
}

#[test]
fn what_the_other_members_would_rely_on_is_refused_and_the_rest_is_said() {
    assert!(refusal(&format!("{FOUR}{LIMITS}sslQuorum=true\n"), Some("1")).contains("less secure"));
    let lines = "syncEnabled=false\nportUnification=true\nforceSnapshotSync=true\noraclePath=/x\npeerType=observer\n";
    let (_, _, warnings) = member(&format!("{FOUR}{LIMITS}{lines}"), "1");
    for key in lines.lines().filter_map(|line| line.split('=').next()) {
        assert!(warnings.iter().any(|warning| warning.contains(key)), "{key}: {warnings:?}");
    }
    assert_eq!(warnings.len(), 5);
}

#[test]
fn how_a_member_serves_its_clients() {
    let (_, plain, _) = member(&format!("{FOUR}{LIMITS}"), "1");
    assert_eq!(plain.modes, ClientModes::default());
    let lines =
        "tickTime=3000\nlocalSessionsEnabled=true\nlocalSessionsUpgradingEnabled=true\nleaderServes=no\nreadonlymode.enabled=true\n";
    let (_, ensemble, warnings) = member(&format!("{FOUR}{LIMITS}{lines}"), "1");
    let all = ClientModes { local_sessions: true, upgrades: true, leader_serves: false, read_only_after_ms: Some(3000) };
    assert_eq!((ensemble.modes, warnings), (all, vec![]));
    let (_, ensemble, _) = member(&format!("{FOUR}{LIMITS}tickTime=500\nreadonlymode.enabled=true\n"), "1");
    assert_eq!(ensemble.modes.read_only_after_ms, Some(2000), "never less than two seconds");
    for wrong in ["localSessionsEnabled=maybe", "localSessionsUpgradingEnabled=1", "leaderServes=perhaps", "readonlymode.enabled=ro"] {
        assert!(refusal(&format!("{FOUR}{LIMITS}{wrong}\n"), Some("1")).contains(wrong.split('=').next().unwrap_or_default()), "{wrong}");
    }
}

#[test]
fn a_dynamic_file_gives_members_and_version() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("zoo.cfg.dynamic.100000000");
    fs::write(&path, FOUR).expect("written");
    let (_, ensemble, _) = member(&format!("{LIMITS}dynamicConfigFile={}\n", path.display()), "3");
    assert_eq!((ensemble.membership.version, ensemble.membership.members.len()), (1 << 32, 4));
}

#[test]
fn a_membership_that_may_change_comes_with_what_is_proposed() {
    let (_, ensemble, _) = member(&format!("{FOUR}{LIMITS}"), "1");
    assert_eq!(ensemble.reconfig, Reconfig { enabled: false, voters_min: 2, proposed: None });
    let (config, ensemble, _) = member(&format!("{FOUR}{LIMITS}reconfigEnabled=true\nstandaloneEnabled=false\n"), "1");
    assert_eq!(ensemble.reconfig, Reconfig { enabled: true, voters_min: 1, proposed: None });
    assert!(config.peer_io().expect("a member").admits_strangers);
}

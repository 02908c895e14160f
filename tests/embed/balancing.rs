//! Connections balanced by strategies in znodes, which change while everything runs.

use crate::shared;
use crate::support::{RawClient, connections, wait_until, word};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use zoo::base::SessionId;
use zoo::client::{Acl, CreateMode, Error, ErrorCode, ZooClient};
use zoo::server::{ServerBuilder, ZooEnsemble, ZooServer};

/// Sessions that begin at one server of three.
const CLIENTS: usize = 300;
/// Of these so many are never idle.
const WORKERS: usize = 10;
/// What each server may have when they are even, within 10 %.
const EVEN: std::ops::RangeInclusive<usize> = 90..=110;
const ROOT: &str = "/zookeeper/balance";
const PASSWORD: &str = "open sesame";

fn settings(server: ServerBuilder) -> ServerBuilder {
    let server = server.super_password(PASSWORD).force_sync(false).set("maxClientCnxns", 0).set("4lw.commands.whitelist", "*");
    server.session_timeouts(Duration::from_secs(1), Duration::from_secs(600))
}

fn builder(servers: &str) -> zoo::client::Builder {
    ZooClient::builder(servers).session_timeout(Duration::from_secs(60)).request_timeout(Duration::from_secs(60))
}

fn super_user(servers: &str) -> ZooClient {
    builder(servers).auth("digest", format!("super:{PASSWORD}").as_bytes()).connect().expect("a session")
}

/// Writes a strategy, whether there is one or not.
fn say(client: &ZooClient, name: &str, json: &str) {
    let path = format!("{ROOT}/{name}");
    match client.set(&path, json.as_bytes()) {
        Err(Error::Refused(ErrorCode::NoNode)) => {
            client.create_with(&path, json.as_bytes(), &Acl::read_only(), CreateMode::Persistent).map(drop).expect("made");
        }
        result => drop(result.expect("set")),
    }
}

fn of_each(ensemble: &ZooEnsemble) -> Vec<usize> {
    ensemble.ids().map(|id| connections(ensemble.member(id).address())).collect()
}

/// Servers that are none: nobody listens there.
fn dead_ends() -> [SocketAddr; 2] {
    let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    free.map(|listener| listener.local_addr().expect("it has one"))
}

/// Sessions at one member that know all of them. A list of as many servers as before moves nobody.
fn skewed_clients(ensemble: &ZooEnsemble, member: usize) -> Vec<ZooClient> {
    let [one, other] = dead_ends();
    let first = format!("{},{one},{other}", ensemble.member(member).host());
    let clients: Vec<ZooClient> = (0..CLIENTS).map(|_| builder(&first).start().expect("starts")).collect();
    for (i, client) in clients.iter().enumerate() {
        client.until_connected(Duration::from_secs(120)).expect("a session");
        client.set_servers(&ensemble.host()).expect("servers");
        client.create(&format!("/here-{i}"), b"", CreateMode::Ephemeral).expect("made");
    }
    clients
}

/// Writes for as long as it is wanted; each write is answered.
fn work(client: &ZooClient, number: usize, enough: &AtomicBool) -> i32 {
    let mut written = 0;
    while !enough.load(Ordering::Relaxed) {
        let stat = client.set(&format!("/here-{number}"), b"busy").expect("no request is lost");
        written += 1;
        assert_eq!(stat.version, written, "nor done twice");
        std::thread::sleep(Duration::from_millis(20));
    }
    written
}

#[test]
fn three_hundred_sessions_at_one_of_three_servers_are_spread_evenly_and_none_is_lost() {
    let _shared = shared();
    let ensemble = ZooEnsemble::builder(3).each(settings).start().expect("starts");
    ensemble.until_all_serve().expect("they serve");
    let clients = skewed_clients(&ensemble, 1);
    let sessions: Vec<i64> = clients.iter().map(ZooClient::session_id).collect();
    assert_eq!(of_each(&ensemble), [CLIENTS, 0, 0]);
    let root = super_user(ensemble.member(2).host());
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (some, enough) = (clients.iter().take(WORKERS), &enough);
        let workers: Vec<_> = some.enumerate().map(|(i, client)| scope.spawn(move || work(client, i, enough))).collect();
        root.create_with(ROOT, b"", &Acl::read_only(), CreateMode::Persistent).expect("made");
        say(&root, "servers", r#"{"strategy":"even"}"#);
        let begin = Instant::now();
        wait_until("the servers have as much as each other", || of_each(&ensemble).iter().all(|n| EVEN.contains(n)));
        eprintln!("even after {:?}: {:?}", begin.elapsed(), of_each(&ensemble));
        enough.store(true, Ordering::Relaxed);
        assert!(workers.into_iter().all(|worker| worker.join().expect("it ends well") > 0));
    });
    for (i, client) in clients.iter().enumerate() {
        let found = client.exists(&format!("/here-{i}")).expect("an answer").expect("its ephemeral is there");
        assert_eq!((found.ephemeral_owner, client.session_id()), (sessions[i], sessions[i]), "its session goes on");
    }
    let counts = || serde_json::from_slice::<serde_json::Value>(&root.get(&format!("{ROOT}/counts")).expect("published").0).expect("JSON");
    wait_until("what is published is what there is", || {
        (1..=3).all(|id| counts()[id.to_string()].as_u64().is_some_and(|n| EVEN.contains(&(n as usize))))
    });

    // One is emptied by an order, whatever the strategy was.
    say(&root, "servers", r#"{"strategy":"none"}"#);
    say(&root, "shed", r#"{"server":3,"percent":100,"idle":0,"rate":1000}"#);
    wait_until("the third has none", || of_each(&ensemble)[2] == 0);
    assert!(clients.iter().zip(&sessions).all(|(client, session)| client.session_id() == *session));
    root.delete(&format!("{ROOT}/servers")).expect("gone");
    wait_until("nothing is published any more", || root.exists(&format!("{ROOT}/counts")).expect("an answer").is_none());
}

fn moved(server: &ZooServer) -> u64 {
    let mntr = word(server.address(), "mntr");
    let line = mntr.lines().find_map(|line| line.strip_prefix("zk_zoo_connections_moved")).expect("mntr tells");
    line.trim().parse().expect("a number")
}

/// Skews the two shards of a server, which deals connections in turn: every other one stays. True if some then move.
fn moves(server: &ZooServer, patience: Duration) -> bool {
    let before = moved(server);
    let all: Vec<RawClient> =
        (0..64).map(|_| RawClient::attach(server.address(), SessionId::NONE, [0; 16], 600_000).expect("a session")).collect();
    let staying: Vec<RawClient> = all.into_iter().enumerate().filter(|(i, _)| i % 2 == 0).map(|(_, client)| client).collect();
    let give_up = Instant::now() + patience;
    while moved(server) == before && Instant::now() < give_up {
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(staying);
    moved(server) > before
}

/// Longer than it takes for a strategy to be seen and carried out.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(2);
const MOVING: &str = r#"{"strategy":"round-robin","rebalanceInterval":10}"#;

#[test]
fn a_strategy_over_cores_changes_while_the_server_runs_and_a_malformed_one_changes_nothing() {
    let _shared = shared();
    let server = settings(ZooServer::builder()).shards(2).start().expect("starts");
    let root = super_user(server.host());
    assert!(!moves(&server, SHORT), "by the configuration nothing moves");
    root.create_with(ROOT, b"", &Acl::read_only(), CreateMode::Persistent).expect("made");
    say(&root, "cores", MOVING);
    assert!(moves(&server, LONG), "now it does");
    say(&root, "cores", r#"{"strategy":"round-robin","rebalanceInterval":"#);
    assert!(moves(&server, LONG), "what was understood last stays in force");
    say(&root, "cores", r#"{"strategy":"round-robin","rebalanceInterval":0}"#);
    wait_until("never is a number like any other", || !moves(&server, SHORT));
    say(&root, "cores", MOVING);
    assert!(moves(&server, LONG));
    root.delete(&format!("{ROOT}/cores")).expect("gone");
    wait_until("what the configuration says is in force again", || !moves(&server, SHORT));
}

#[test]
fn a_strategy_that_others_may_write_is_ignored_and_only_the_super_user_makes_the_first_node() {
    let _shared = shared();
    let server = settings(ZooServer::builder()).shards(2).start().expect("starts");
    let anybody = builder(server.host()).connect().expect("a session");
    let refused = anybody.create_with(ROOT, b"", &Acl::read_only(), CreateMode::Persistent);
    assert!(matches!(refused, Err(Error::Refused(ErrorCode::NoAuth))), "{refused:?}");
    let root = super_user(server.host());
    root.create(ROOT, b"", CreateMode::Persistent).expect("made");
    say(&root, "cores", MOVING);
    assert!(!moves(&server, SHORT), "anybody may put another one there");
    root.set_acl(ROOT, &Acl::read_only()).expect("set");
    assert!(moves(&server, LONG), "nobody may any more");
    let refused = anybody.set(&format!("{ROOT}/cores"), b"{}");
    assert!(matches!(refused, Err(Error::Refused(ErrorCode::NoAuth))), "{refused:?}");
}

//! A real server process: the protocol's basics over real sockets and a real disk, start and stop. With 1, 2 and 4 shards.

mod support;

use rustix::process::Signal;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::{PATIENCE, RawClient, ServerProcess, create, files, path_watch, set_data, temp_dir, wait_until, word};
use zoo::base::SessionId;
use zoo::proto::{EventType, OpCode};

const SHARDS: [usize; 3] = [1, 2, 4];
const OPEN: i32 = 0;
const EPHEMERAL: i32 = 1;

#[test]
fn create_get_set_watch() {
    for shards in SHARDS {
        let dir = temp_dir();
        let server = ServerProcess::start(dir.path(), shards, &[]);
        let (mut a, mut b) = (RawClient::connect(server.address), RawClient::connect(server.address));
        assert_eq!(a.create("/x", b"one", OPEN).path(), "/x");
        let (data, stat) = b.get("/x", true).data();
        assert_eq!((data.as_deref(), stat.version), (Some(&b"one"[..]), 0), "a write acknowledged to one client is read by another");
        let set = a.set("/x", b"two", 0);
        assert_eq!(set.err, 0);
        let event = b.receive().expect("the watch fires");
        assert!(event.is_event());
        assert_eq!(event.event(), (EventType::NodeDataChanged as i32, "/x".to_owned()));
        assert_eq!(event.zxid, set.zxid, "the event carries the zxid of the change");
        assert_eq!(b.get("/x", false).data().0.as_deref(), Some(&b"two"[..]));
        assert_eq!(a.set("/x", b"three", 0).err, -103, "the version has moved on");
        assert_eq!(a.get("/nothing", false).err, -101);
        a.close();
        b.close();
    }
}

#[test]
fn replies_come_in_order_and_each_get_sees_exactly_the_set_before_it() {
    for shards in SHARDS {
        let dir = temp_dir();
        let server = ServerProcess::start(dir.path(), shards, &[]);
        let mut client = RawClient::connect(server.address);
        client.create("/n", b"", OPEN);
        let requests: Vec<_> = (0..200)
            .flat_map(|i: i32| [(OpCode::SetData, set_data("/n", &i.to_be_bytes(), -1)), (OpCode::GetData, path_watch("/n", false))])
            .collect();
        let first = client.send_all(&requests).expect("sent");
        for i in 0..200 {
            let set = client.reply().expect("a reply to setData");
            assert_eq!((set.xid, set.err), (first + 2 * i, 0));
            let get = client.reply().expect("a reply to getData");
            assert_eq!(get.xid, first + 2 * i + 1);
            assert_eq!(get.data().0.as_deref(), Some(&i.to_be_bytes()[..]), "shards: {shards}");
        }
    }
}

#[test]
fn what_was_written_is_there_after_kill_and_after_a_clean_stop() {
    for shards in SHARDS {
        let dir = temp_dir();
        let server = ServerProcess::start(dir.path(), shards, &[]);
        let mut client = RawClient::connect(server.address);
        client.create("/kept", b"1", OPEN);
        client.create("/gone", b"", EPHEMERAL);
        let (session, password) = (client.session, client.password);
        server.kill();

        let server = ServerProcess::start(dir.path(), shards, &[]);
        let mut client = RawClient::attach(server.address, session, password, 30_000).expect("the session has outlived the server");
        assert_eq!(client.session, session);
        assert_eq!(client.get("/kept", false).data().0.as_deref(), Some(&b"1"[..]));
        assert_eq!(client.get("/gone", false).data().1.ephemeral_owner, session.0);
        assert_eq!(client.set("/kept", b"2", -1).err, 0);
        client.close();
        let (status, log) = server.stop_with(Signal::TERM);
        assert_eq!(status.code(), Some(0), "{log}");

        let server = ServerProcess::start(dir.path(), shards, &[]);
        let mut client = RawClient::connect(server.address);
        assert_eq!(client.get("/kept", false).data().0.as_deref(), Some(&b"2"[..]));
        assert_eq!(client.get("/gone", false).err, -101, "its session was closed");
        assert!(RawClient::attach(server.address, session, password, 30_000).is_none(), "closed sessions do not come back");
    }
}

#[test]
fn a_clean_stop_answers_what_it_has_accepted_and_leaves_whole_log_files() {
    for (shards, signal) in [(1, Signal::TERM), (2, Signal::INT)] {
        let dir = temp_dir();
        let server = ServerProcess::start(dir.path(), shards, &[]);
        let mut client = RawClient::connect(server.address);
        assert_eq!(client.create("/s", b"", OPEN).err, 0);
        let (status, log) = server.stop_with(signal);
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(client.is_closed());
        let logs = files(dir.path(), "log.");
        assert_eq!(logs.len(), 1, "{logs:?}");
        let bytes = std::fs::metadata(&logs[0]).expect("a file").len();
        assert!(bytes < 64 << 10, "the file is cut to what it holds, not left at the size of a segment: {bytes}");
    }
}

#[test]
fn a_taken_port_is_an_error_that_names_it() {
    let (one, two) = (temp_dir(), temp_dir());
    let server = ServerProcess::start(one.path(), 1, &[]);
    let port = server.address.port();
    let Err((status, log)) = ServerProcess::try_start(two.path(), port, 1, &[]) else { panic!("a second server on the same port") };
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(&port.to_string()) && log.contains("in use"), "{log}");
}

#[test]
fn a_data_directory_serves_one_server_at_a_time() {
    let dir = temp_dir();
    let server = ServerProcess::start(dir.path(), 1, &[]);
    let Err((status, log)) = ServerProcess::try_start(dir.path(), 0, 1, &[]) else { panic!("two servers share a data directory") };
    assert_eq!(status.code(), Some(3), "{log}");
    drop(server);
    ServerProcess::start(dir.path(), 1, &[]);
}

#[test]
fn four_letter_words_are_answered_and_the_connection_is_closed() {
    for shards in SHARDS {
        let dir = temp_dir();
        let server = ServerProcess::start(dir.path(), shards, &["4lw.commands.whitelist=*"]);
        let mut clients: Vec<_> = (0..4).map(|_| RawClient::connect(server.address)).collect();
        clients[0].create("/w", b"", OPEN);
        clients.iter_mut().for_each(|c| assert_eq!(c.get("/w", true).err, 0));
        assert_eq!(word(server.address, "ruok"), "imok");
        assert_eq!(word(server.address, "ruok\n"), "imok", "what follows the word does no harm");
        let srvr = word(server.address, "srvr");
        assert!(srvr.contains("Mode: standalone") && srvr.contains("Connections: 5"), "{srvr}");
        // Four connects, five replies, two words; this one is sent when it says so.
        assert!(srvr.contains("Sent: 11\n"), "answers to words are packets, too ({shards}): {srvr}");
        let watches = word(server.address, "wchs");
        assert!(watches.starts_with("4 connections watching 1 paths"), "all shards are asked ({shards}): {watches}");
        assert_eq!(word(server.address, "cons").lines().filter(|l| l.contains("sid=0x")).count(), 4);
        let mut half_closed = TcpStream::connect(server.address).expect("listens");
        half_closed.write_all(b"srvr").expect("sent");
        half_closed.shutdown(std::net::Shutdown::Write).expect("a socket");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut half_closed, &mut text).expect("answered");
        assert!(text.contains("Mode: standalone"), "a client that has sent all it will is still answered: {text:?}");
    }
}

#[test]
fn connections_of_one_address_are_limited_and_places_are_given_back() {
    let dir = temp_dir();
    let server = ServerProcess::start(dir.path(), 2, &["maxClientCnxns=3"]);
    let mut clients: Vec<_> = (0..3).map(|_| RawClient::connect(server.address)).collect();
    let mut refused = TcpStream::connect(server.address).expect("accepted by the kernel");
    refused.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let read = std::io::Read::read(&mut refused, &mut [0; 1]);
    assert!(matches!(read, Ok(0)) || read.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset), "closed without a byte");
    clients.pop().expect("three").close();
    let started = Instant::now();
    while refused_connect(server.address) {
        assert!(started.elapsed() < PATIENCE, "the place is never given back");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn refused_connect(address: std::net::SocketAddr) -> bool {
    let stream = TcpStream::connect(address).expect("accepted by the kernel");
    stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
    matches!(std::io::Read::read(&mut &stream, &mut [0; 1]), Ok(0))
}

#[test]
fn garbage_costs_its_own_connection_only() {
    let dir = temp_dir();
    let server = ServerProcess::start(dir.path(), 1, &[]);
    let mut good = RawClient::connect(server.address);
    good.create("/g", b"", OPEN);
    for garbage in [&b"\xff\xff\xff\xff rubbish"[..], &[0x7f; 64], b"GET / HTTP/1.1\r\n\r\n", &[0, 0, 0, 4, 1, 2, 3, 4]] {
        let mut bad = TcpStream::connect(server.address).expect("listens");
        bad.write_all(garbage).expect("sent");
        bad.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let end = std::io::Read::read(&mut bad, &mut [0; 16]);
        assert!(matches!(end, Ok(0)) || end.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset), "{garbage:?}");
    }
    assert_eq!(good.get("/g", false).err, 0);
}

#[test]
fn a_client_that_has_sent_all_it_will_still_gets_its_answers() {
    for shards in [1, 2] {
        let dir = temp_dir();
        let server = ServerProcess::start(dir.path(), shards, &[]);
        let mut client = RawClient::connect(server.address);
        client.create("/h", b"", OPEN);
        let requests: Vec<_> = (0..50).map(|i: i32| (OpCode::SetData, set_data("/h", &i.to_be_bytes(), -1))).collect();
        let first = client.send_all(&requests).expect("sent");
        client.stream().shutdown(std::net::Shutdown::Write).expect("a socket");
        for i in 0..50 {
            let reply = client.reply().expect("answered");
            assert_eq!((reply.xid, reply.err), (first + i, 0));
        }
        assert!(client.is_closed(), "then the connection is closed");
    }
}

#[test]
fn a_client_that_does_not_read_slows_nobody() {
    for shards in [1, 2] {
        let dir = temp_dir();
        let server = ServerProcess::start(dir.path(), shards, &[]);
        let (mut lazy, mut other) = (RawClient::connect(server.address), RawClient::connect(server.address));
        let big = vec![7; 512 << 10];
        assert_eq!(other.create("/big", &big, OPEN).err, 0);
        let requests: Vec<_> = (0..400).map(|_| (OpCode::GetData, path_watch("/big", false))).collect();
        let first = lazy.send_all(&requests).expect("requests are small");
        for _ in 0..50 {
            assert_eq!(other.set("/big", b"", -1).err, 0);
            assert_eq!(other.set("/big", &big, -1).err, 0);
        }
        for i in 0..400 {
            let reply = lazy.reply().expect("every request is answered in the end");
            assert_eq!((reply.xid, reply.err), (first + i, 0));
        }
    }
}

#[test]
fn many_clients_write_and_read_their_own_writes() {
    for shards in SHARDS {
        let dir = temp_dir();
        let server = ServerProcess::start(dir.path(), shards, &["maxClientCnxns=0"]);
        let address = server.address;
        let threads: Vec<_> = (0..8)
            .map(|t| {
                std::thread::spawn(move || {
                    let mut client = RawClient::connect(address);
                    let path = format!("/t{t}");
                    client.create(&path, b"", OPEN);
                    for i in 0..50_i32 {
                        let set = client.set(&path, &i.to_be_bytes(), i);
                        assert_eq!(set.err, 0);
                        let (data, stat) = client.get(&path, false).data();
                        assert_eq!((data.as_deref(), stat.version, stat.mzxid), (Some(&i.to_be_bytes()[..]), i + 1, set.zxid));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().expect("no assertion failed"));
    }
}

#[test]
fn a_session_whose_client_is_silent_expires_and_its_ephemerals_go() {
    for shards in [1, 2] {
        let dir = temp_dir();
        let server = ServerProcess::start(dir.path(), shards, &["tickTime=100", "minSessionTimeout=200", "maxSessionTimeout=60000"]);
        let mut silent = RawClient::attach(server.address, SessionId::NONE, [0; 16], 400).expect("a session");
        assert_eq!(silent.timeout_ms, 400);
        silent.create("/e", b"", EPHEMERAL);
        let mut watcher = RawClient::connect(server.address);
        assert_eq!(watcher.call(OpCode::Exists, &path_watch("/e", true)).err, 0);
        let event = watcher.receive().expect("the session expires");
        assert_eq!(event.event(), (EventType::NodeDeleted as i32, "/e".to_owned()));
        assert!(silent.is_closed());
    }
}

#[test]
fn an_idle_server_uses_no_cpu() {
    let dir = temp_dir();
    let server = ServerProcess::start(dir.path(), 2, &[]);
    let _clients: Vec<_> = (0..20).map(|_| RawClient::connect(server.address)).collect();
    std::thread::sleep(Duration::from_millis(500)); // starting up is over
    let before = server.cpu();
    std::thread::sleep(Duration::from_secs(2));
    let used = server.cpu() - before;
    assert!(used <= Duration::from_millis(40), "{used:?} of CPU in two idle seconds");
}

#[test]
fn sequential_creates_of_many_clients_have_unique_increasing_names() {
    let dir = temp_dir();
    let server = ServerProcess::start(dir.path(), 4, &[]);
    let address = server.address;
    RawClient::connect(address).create("/q", b"", OPEN);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = RawClient::connect(address);
                let requests: Vec<_> = (0..100).map(|_| (OpCode::Create, create("/q/n-", b"", 2))).collect();
                client.send_all(&requests).expect("sent");
                (0..100).map(|_| client.reply().expect("created").path()).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut names = Vec::new();
    for thread in threads {
        let own = thread.join().expect("no assertion failed");
        assert!(own.is_sorted(), "one client's names increase");
        names.extend(own);
    }
    names.sort();
    let want: Vec<_> = (0..400).map(|i| format!("/q/n-{i:010}")).collect();
    assert_eq!(names, want);
}

#[test]
fn a_request_of_the_largest_size_is_logged_and_read_back_whatever_the_limit_is_then() {
    let dir = temp_dir();
    let large = "jute.maxbuffer=6000000";
    let data = vec![7; 6_000_000 - 100];
    let server = ServerProcess::start(dir.path(), 1, &[large]);
    let mut client = RawClient::connect(server.address);
    for i in 0..3 {
        assert_eq!(client.create(&format!("/large-{i}"), &data, OPEN).err, 0);
    }
    server.kill();
    for settings in [&[][..], &["jute.maxbuffer=2048"], &[large]] {
        let server = ServerProcess::start(dir.path(), 1, settings);
        let mut client = RawClient::connect(server.address);
        for i in 0..3 {
            assert!(client.get(&format!("/large-{i}"), false).data().0.is_some_and(|d| d == data), "{settings:?}");
        }
        server.kill();
    }
}

#[test]
fn mntr_shows_what_was_measured_and_srst_forgets_it() {
    for shards in [1, 2] {
        let dir = temp_dir();
        let server = ServerProcess::start(dir.path(), shards, &["4lw.commands.whitelist=*"]);
        let mut clients = [RawClient::connect(server.address), RawClient::connect(server.address)];
        for (i, client) in clients.iter_mut().enumerate() {
            for j in 0..10 {
                assert_eq!(client.create(&format!("/m-{i}-{j}"), b"", OPEN).err, 0);
                client.get("/", false).data();
            }
        }
        let value = |key: &str| {
            let text = word(server.address, "mntr");
            let line = text.lines().find_map(|line| line.strip_prefix("zk_")?.strip_prefix(key)?.strip_prefix('\t'));
            line.unwrap_or_else(|| panic!("no {key} in {text}")).parse::<f64>().expect("a number")
        };
        assert_eq!(
            (value("cnt_readlatency"), value("cnt_updatelatency")),
            (20.0, 22.0),
            "of all shards together, two sessions among the updates"
        );
        assert!(value("p50_updatelatency") <= value("max_updatelatency"));
        assert!(value("cnt_fsynctime") >= 1.0 && value("min_zoo_fsync_us") > 0.0 && value("min_zoo_flush_bytes") > 0.0);
        assert!(value("cnt_zoo_prepare_to_publish_us") >= 1.0 && value("min_zoo_prepare_to_publish_us") > 0.0);
        assert_eq!(value("cnt_zoo_prepare_to_durable_us"), value("cnt_zoo_prepare_to_publish_us"));
        assert_eq!(value("cnt_zoo_durable_to_publish_us"), value("cnt_zoo_prepare_to_publish_us"));
        assert!(value("min_zoo_prepare_to_durable_us") > 0.0);
        // What went through a stage together counts once, so only the ends of the way have a known count.
        for stage in ["ready_to_receive_us", "turn_us", "answer_to_sent_us"] {
            assert!(value(&format!("cnt_zoo_{stage}")) >= 40.0, "{stage} of 40 requests, one at a time");
        }
        assert!(value("max_zoo_turn_us") > 0.0 && value("max_zoo_answer_to_sent_us") > 0.0);
        for stage in ["queue_to_replica_us", "receive_to_prepare_us", "publish_to_shard_us"] {
            assert!(value(&format!("cnt_zoo_{stage}")) >= 20.0, "{stage} of 20 writes, one at a time");
        }
        assert!(value("min_zoo_sockets_ready") >= 1.0 && value("max_zoo_replica_queue") >= 1.0 && value("cnt_zoo_unpublished") >= 20.0);
        assert!(value("sum_sync_processor_batch_size") >= 20.0 && value("max_prep_processor_queue_size") >= 1.0);
        assert_eq!(word(server.address, "cons").matches("[1](").count(), 2, "both are read from");
        word(server.address, "srst");
        for key in
            ["cnt_readlatency", "cnt_updatelatency", "cnt_fsynctime", "cnt_sync_processor_batch_size", "cnt_zoo_receive_to_prepare_us"]
        {
            wait_until("the statistics are reset", || value(key) == 0.0);
        }
    }
}

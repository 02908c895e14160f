//! The commands of `zoo` that talk to servers, as processes of their own, against a server in this process.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use zoo::client::{Acl, CreateMode, ZooClient};
use zoo::server::ZooServer;

/// Long enough for a busy machine; nothing waits that long when it works.
const PATIENCE: Duration = Duration::from_secs(60);

fn zoo(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zoo")).args(args).stdin(Stdio::null()).output().expect("the binary runs")
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

/// What a script of commands prints.
fn script(server: &ZooServer, options: &[&str], lines: &str) -> Output {
    let mut args = vec!["cli", "-waitforconnection", "-server"];
    args.push(server.host());
    args.extend(options);
    let mut child = Command::new(env!("CARGO_BIN_EXE_zoo"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("taken");
    child.wait_with_output().expect("it ends")
}

#[test]
fn single_commands_print_results_and_end_with_zkclis_codes() {
    let server = ZooServer::start().expect("a server");
    let address = server.host().to_owned();
    let cli = |words: &[&str]| zoo(&[&["cli", "-server", &address], words].concat());
    let made = cli(&["create", "/a", "two words"]);
    assert_eq!((made.status.code(), made.stderr.as_slice()), (Some(0), &b"Created /a\n"[..]));
    let got = cli(&["get", "/a"]);
    assert_eq!((got.status.code(), out(&got).lines().last()), (Some(0), Some("two words")));
    let none = cli(&["get", "/none"]);
    assert_eq!((none.status.code(), none.stderr.as_slice()), (Some(1), &b"Node does not exist: /none\n"[..]));
    assert_eq!(cli(&["nonsense"]).status.code(), Some(127));
    let json: Value = serde_json::from_str(out(&cli(&["-o", "json", "get", "-s", "/a"]))).expect("JSON and nothing else");
    assert_eq!((&json["data"], &json["stat"]["dataVersion"]), (&Value::from("two words"), &Value::from(0)));
}

#[test]
fn a_script_is_told_of_what_it_watches_and_of_the_end() {
    let server = ZooServer::start().expect("a server");
    let ran = script(&server, &["-o", "json"], "create /a\nget -w /a\nset /a x\ndeleteall /a\nquit\nls /\n");
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let lines: Vec<Value> = out(&ran).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let events: Vec<_> = lines.iter().filter(|line| !line["event"].is_null()).collect();
    let states: Vec<_> = events.iter().map(|line| (line["event"]["state"].as_str(), line["event"]["type"].as_str())).collect();
    let expected = [("SyncConnected", "None"), ("SyncConnected", "NodeDataChanged"), ("Closed", "None")];
    assert_eq!(states, expected.map(|(state, kind)| (Some(state), Some(kind))));
    // Four commands and quit; nothing after it.
    assert_eq!(lines.len() - events.len(), 5, "{lines:?}");
    assert_eq!(lines.iter().find(|line| line.get("data").is_some()).map(|line| line["data"].is_null()), Some(true));
}

#[test]
fn the_last_command_of_a_script_decides_how_it_ends() {
    let server = ZooServer::start().expect("a server");
    assert_eq!(script(&server, &[], "ls /none\nls /\n").status.code(), Some(0));
    assert_eq!(script(&server, &[], "ls /\nls /none\n").status.code(), Some(1));
    assert_eq!(script(&server, &["-nonsense"], "").status.code(), Some(2));
}

/// `zoo COMMAND PATH` at this server, with what stands behind.
fn at(server: &ZooServer, command: &str, path: &str, rest: &[&str]) -> Command {
    let mut zoo = Command::new(env!("CARGO_BIN_EXE_zoo"));
    zoo.args([command, path, "--server", server.host()]).args(rest).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    zoo
}

fn code(command: &mut Command) -> Option<i32> {
    command.output().expect("the binary runs").status.code()
}

/// Waits for what another process does.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < give_up, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lines(file: &Path) -> usize {
    std::fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

#[test]
fn a_lock_ends_like_its_command() {
    let server = ZooServer::start().expect("a server");
    for (script, expected) in [("exit 7", 7), ("test \"$ZOO_TOKEN\" -gt 0", 0), ("kill -KILL $$", 128 + 9)] {
        assert_eq!(code(&mut at(&server, "lock", "/l", &["--", "sh", "-c", script])), Some(expected), "{script}");
    }
    assert_eq!(code(&mut at(&server, "lock", "/l", &["--", "/no/such/command"])), Some(127));
    assert_eq!(code(&mut at(&server, "lock", "no-path", &["--", "true"])), Some(2));
    assert_eq!(code(&mut at(&server, "lock", "/l", &[])), Some(2));
}

#[test]
fn one_command_at_a_time_runs_under_a_lock() {
    let server = ZooServer::start().expect("a server");
    let dir = tempfile::tempdir().expect("a directory");
    let (log, go) = (dir.path().join("log"), dir.path().join("go"));
    let script = format!("echo in >>{0}; while [ ! -e {1} ]; do sleep 0.05; done; echo out >>{0}", log.display(), go.display());
    let mut first = at(&server, "lock", "/l", &["--", "sh", "-c", &script]).spawn().expect("runs");
    until("the first is in", || lines(&log) == 1);
    let mut second = at(&server, "lock", "/l", &["--", "sh", "-c", &script]).spawn().expect("runs");
    let client = ZooClient::connect(server.host()).expect("a session");
    until("the second is in line", || client.children("/l").is_ok_and(|names| names.len() == 2));
    assert_eq!((lines(&log), second.try_wait().expect("a child")), (1, None));
    std::fs::write(&go, "").expect("written");
    assert!(first.wait().expect("a child").success() && second.wait().expect("a child").success());
    assert_eq!(std::fs::read_to_string(&log).expect("text"), "in\nout\nin\nout\n");
}

/// Takes the holder's node away, as an administrator may, or as the servers do when its session expires.
fn take_away(client: &ZooClient, path: &str) {
    for name in client.children(path).expect("there") {
        client.delete(&format!("{path}/{name}")).expect("deleted");
    }
}

#[test]
fn a_command_does_not_outlive_its_lock() {
    let server = ZooServer::start().expect("a server");
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("log");
    let script = format!("echo $$ >>{}; while true; do sleep 1; done", log.display());
    let mut holder = at(&server, "lock", "/l", &["--", "sh", "-c", &script]).spawn().expect("runs");
    until("it runs", || lines(&log) == 1);
    let pid = std::fs::read_to_string(&log).expect("text").trim().to_owned();
    take_away(&ZooClient::connect(server.host()).expect("a session"), "/l");
    assert_eq!(holder.wait().expect("a child").code(), Some(1));
    assert!(!Path::new("/proc").join(pid).exists(), "the command is gone when its keeper ends");
}

/// The connection breaks: for a moment, which the lock and its command outlive, and then for good, by which the command is asked to end and then killed.
#[test]
fn a_command_goes_on_over_a_short_cut_and_is_stopped_by_a_long_one() {
    let mut server = ZooServer::builder().session_timeouts(Duration::from_secs(1), PATIENCE).start().expect("a server");
    let dir = tempfile::tempdir().expect("a directory");
    let (log, go) = (dir.path().join("log"), dir.path().join("go"));
    let script = format!(
        "trap 'echo asked >>{0}' TERM; echo $$ >>{0}; while [ ! -e {1} ]; do sleep 0.05; done; echo done >>{0}",
        log.display(),
        go.display()
    );
    let hold = |server: &ZooServer, timeout_ms: &str| {
        let holder = at(server, "lock", "/l", &["--session-timeout", timeout_ms, "--", "sh", "-c", &script]).spawn().expect("runs");
        until("it runs", || lines(&log) == 1);
        holder
    };
    let mut holder = hold(&server, "60000");
    let client = ZooClient::builder(server.host()).session_timeout(PATIENCE).connect().expect("a session");
    let held = client.children("/l").expect("there");
    server.kill().expect("killed");
    server.restart().expect("the same port");
    assert_eq!(client.children("/l").as_ref(), Ok(&held), "nobody else has it");
    std::fs::write(&go, "").expect("written");
    assert!(holder.wait().expect("a child").success());
    let said = std::fs::read_to_string(&log).expect("text");
    assert!(said.ends_with("done\n") && !said.contains("asked"), "{said}");

    [&go, &log].iter().for_each(|file| std::fs::remove_file(file).expect("there"));
    let mut holder = hold(&server, "6000");
    let pid = std::fs::read_to_string(&log).expect("text").trim().to_owned();
    server.kill().expect("killed");
    assert_eq!(holder.wait().expect("a child").code(), Some(1));
    let said = std::fs::read_to_string(&log).expect("text");
    assert!(said.ends_with("asked\n"), "{said}");
    assert!(!Path::new("/proc").join(pid).exists(), "the command is gone when its keeper ends");
}

#[test]
fn a_leader_that_was_deposed_stands_again_and_signals_reach_its_command() {
    let server = ZooServer::start().expect("a server");
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("log");
    let script = format!("trap 'exit 9' TERM; echo in >>{}; while true; do sleep 0.05; done", log.display());
    let mut candidate = at(&server, "elect", "/e", &["--", "sh", "-c", &script]).spawn().expect("runs");
    until("it leads", || lines(&log) == 1);
    take_away(&ZooClient::connect(server.host()).expect("a session"), "/e");
    until("it leads again", || lines(&log) == 2);
    kill_process(Pid::from_child(&candidate), Signal::TERM).expect("alive");
    assert_eq!(candidate.wait().expect("a child").code(), Some(9));
}

#[test]
fn watch_prints_what_is_there_and_then_what_happens() {
    let server = ZooServer::start().expect("a server");
    let client = ZooClient::connect(server.host()).expect("a session");
    client.create("/w", b"one", CreateMode::Persistent).expect("made");
    let mut watch = at(&server, "watch", "/w", &["-o", "json", "--count", "2"]).spawn().expect("runs");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("JSON") };
    assert_eq!(next()["data"], "one");
    client.set("/w", b"two").expect("set");
    let changed = next();
    assert_eq!((&changed["event"]["type"], &changed["data"]), (&Value::from("NodeDataChanged"), &Value::from("two")));
    client.delete("/w").expect("deleted");
    assert_eq!(next()["event"]["type"], "NodeDeleted");
    assert!(watch.wait().expect("a child").success());
}

#[test]
fn status_shows_a_server_that_serves_and_one_that_is_not_there() {
    let server = ZooServer::start().expect("a server");
    let address = server.host().to_owned();
    let good = zoo(&["status", &address]);
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    assert!(out(&good).lines().nth(1).is_some_and(|line| line.contains(&address) && line.contains("standalone")), "{}", out(&good));

    // Bound and not listened to by anybody who answers: refused, as nobody accepts once it is closed.
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let both = zoo(&["status", "-o", "json", &format!("{address},{closed}")]);
    assert_eq!(both.status.code(), Some(1));
    let rows: Value = serde_json::from_str(out(&both)).expect("JSON");
    assert_eq!((&rows[0]["mode"], &rows[0]["serving"]), (&Value::from("standalone"), &Value::from(true)));
    assert_eq!((&rows[1]["mode"], &rows[1]["serving"]), (&Value::from("unreachable"), &Value::from(false)));

    assert_eq!(zoo(&["status", "nowhere:x"]).status.code(), Some(2));
}

#[test]
fn status_shows_the_stages_of_a_server_whose_whitelist_allows_it() {
    let server = ZooServer::builder().set("4lw.commands.whitelist", "srvr,mntr").start().expect("a server");
    ZooClient::connect(server.host()).and_then(|client| client.create("/a", b"", CreateMode::Persistent)).expect("made");
    let shown = zoo(&["status", "--stages", server.host()]);
    for stage in ["one turn", "put into the queue of the replica", "in the log on the disk", "given to the kernel"] {
        assert_eq!(out(&shown).matches(stage).count(), 1, "{stage}: {}", out(&shown));
    }
    let json: Value = serde_json::from_str(out(&zoo(&["status", "--stages", "-o", "json", server.host()]))).expect("JSON");
    let durable = &json[0]["stages"]["zoo_prepare_to_durable_us"];
    assert!(durable["cnt"].as_u64() >= Some(2) && durable["max"].as_u64() > Some(0), "the session and the znode: {durable}");

    let silent = ZooServer::start().expect("a server");
    assert!(out(&zoo(&["status", "--stages", silent.host()])).contains("whitelist"), "only srvr is allowed where nothing is said");
}

#[test]
fn status_shows_the_balancing_strategies_and_which_are_ignored() {
    let server = ZooServer::builder().super_password("hush").start().expect("a server");
    assert_eq!(out(&zoo(&["status", server.host()])).lines().count(), 2, "nothing is said");
    let root = ZooClient::builder(server.host()).auth("digest", b"super:hush").connect().expect("a session");
    let say = |path: &str, json: &[u8]| root.create_with(path, json, &Acl::read_only(), CreateMode::Persistent).expect("made");
    say("/zookeeper/balance", b"");
    say("/zookeeper/balance/cores", br#"{"strategy":"least-load"}"#);
    say("/zookeeper/balance/servers", br#"{"strategy":"uneven"}"#);
    let shown = zoo(&["status", server.host()]);
    let lines: Vec<&str> = out(&shown).lines().skip(2).collect();
    assert!(lines[0].starts_with("balance/cores: least-load"), "{lines:?}");
    assert!(lines[1].starts_with("balance/servers: ignored") && lines[1].contains("uneven"), "{lines:?}");
    assert_eq!(out(&zoo(&["status", "--no-session", server.host()])).lines().count(), 2);
    let json: Value = serde_json::from_str(out(&zoo(&["status", "-o", "json", server.host()]))).expect("JSON");
    assert_eq!(json[0]["balance"]["servers"]["says"], Value::Null);
    assert!(json[0]["balance"]["servers"]["ignored"].as_str().is_some_and(|why| why.contains("uneven")));
}

#[test]
fn a_check_says_of_each_thing_how_it_is_and_starts_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("zoo.cfg");
    let data = dir.path().join("data");
    std::fs::write(&config, format!("dataDir={}\nclientPort=0\n", data.display())).expect("written");
    let config = config.to_str().expect("UTF-8");
    let checked = zoo(&["server", "--check", "--measure", config, "--forceSync=no"]);
    let lines: Vec<_> = out(&checked).lines().collect();
    let (last, findings) = lines.split_last().expect("lines");
    assert!(findings.iter().all(|l| ["ok ", "advice ", "PROBLEM "].iter().any(|v| l.starts_with(v))), "{lines:#?}");
    for subject in ["kernel", "io_uring", "shards:", "locked memory", "open files", "clock source", "dataDir", "forceSync=no", "swap"] {
        assert!(findings.iter().any(|l| l.contains(subject)), "nothing is said of {subject}: {lines:#?}");
    }
    let problems = findings.iter().filter(|l| l.starts_with("PROBLEM")).count();
    assert!(last.starts_with(&format!("{problems} problems, ")), "{last}");
    assert_eq!(checked.status.code(), Some(i32::from(problems > 0)));
    assert!(!data.exists(), "nothing was started");
}

#[test]
fn a_check_fails_where_the_server_would() {
    let refused = zoo(&["server", "--check", "--dataDir=/nowhere/at/all", "--zookeeper.datadir.autocreate=false"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(out(&refused).lines().any(|l| l.starts_with("PROBLEM") && l.contains("/nowhere/at/all")), "{refused:?}");
    assert_eq!(zoo(&["server", "--check", "--tickTime=x"]).status.code(), Some(2));
}

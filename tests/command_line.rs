//! The commands of `zoo` that talk to servers, as processes of their own, against a server in this process.

use serde_json::Value;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use zoo::server::ZooServer;

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

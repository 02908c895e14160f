//! The commands of `zoo` that talk to servers, as processes of their own, against a server in this process.

use serde_json::Value;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use zoo::server::ZooServer;

fn zoo(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zoo")).args(args).stdin(Stdio::null()).output().expect("the binary runs")
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
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

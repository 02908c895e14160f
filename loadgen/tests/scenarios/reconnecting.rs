//! Clients that outlive their server, and disturbances in the middle of a run.

use crate::fake::{self, Fault, Shared};
use crate::metric;
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use zoo::base::SessionId;

fn run(servers: &[SocketAddr], args: &[&str]) -> (bool, Value) {
    let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
    let servers = servers.join(",");
    let base = ["run", "--server", &servers, "--json", "--mix", "set", "--warmup", "0", "--duration", "0.5", "--connections", "4"];
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).args(base).args(args).output().expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.success(), json)
}

/// Servers with one tree.
fn ensemble<const N: usize>(faults: [Fault; N]) -> (Arc<Shared>, [SocketAddr; N]) {
    let shared = Arc::<Shared>::default();
    let addrs = faults.map(|fault| fake::start_member(fault, &shared));
    (shared, addrs)
}

#[test]
fn clients_of_a_server_that_dies_go_on_at_the_next_one_with_their_sessions() {
    let (shared, servers) = ensemble([Fault::DieAt(60), Fault::None]);
    let (ok, json) = run(&servers, &["--reconnect", "--in-flight", "2"]);
    assert!(ok, "{json:#}");
    assert_eq!(metric(&json, "moves to another server"), 2.0, "two of four connections were there: {json:#}");
    let moves = shared.moves();
    assert!(moves.iter().all(|m| m.session == SessionId(7) && m.last_zxid_seen > 0), "{moves:?}");
    let unknown = json["errors"]["writes of unknown outcome"].as_u64().expect("the last write was not answered");
    assert!((1..=4).contains(&unknown), "{json:#}");
    assert!(metric(&json, "longest gap without a write") < 500.0, "{json:#}");
}

#[test]
fn without_the_option_a_lost_connection_fails_the_run() {
    let (_, servers) = ensemble([Fault::DieAt(60), Fault::None]);
    let (ok, json) = run(&servers, &[]);
    assert!(!ok && json["failure"].is_string(), "{json:#}");
}

#[test]
fn a_session_that_has_ended_is_counted_and_replaced() {
    let (_, servers) = ensemble([Fault::DieAt(60), Fault::Forgets]);
    let (ok, json) = run(&servers, &["--reconnect"]);
    assert!(ok, "{json:#}");
    assert_eq!(json["errors"]["sessions lost"], 2, "{json:#}");
    assert_eq!(metric(&json, "moves to another server"), 2.0, "{json:#}");
}

#[test]
fn a_server_that_never_answers_a_connect_request_is_left_for_the_next() {
    let (_, servers) = ensemble([Fault::DieAt(60), Fault::MuteToMoves, Fault::None]);
    let (ok, json) = run(&servers, &["--reconnect", "--connections", "1", "--duration", "2"]);
    assert!(ok && metric(&json, "moves to another server") == 1.0, "{json:#}");
    assert!(metric(&json, "move max") >= 1e6, "{json:#}");
}

#[test]
fn a_server_behind_what_the_session_has_seen_fails_the_run() {
    let (_, [dies]) = ensemble([Fault::DieAt(600)]);
    let (_, [behind]) = ensemble([Fault::None]);
    let (ok, json) = run(&[dies, behind], &["--reconnect", "--keys", "1", "--connections", "1"]);
    let failure = json["failure"].as_str().unwrap_or_default();
    assert!(!ok && failure.contains("zxid went back"), "{json:#}");
}

#[test]
fn nothing_created_without_an_answer_stays_behind() {
    let (shared, servers) = ensemble([Fault::DieAt(60), Fault::None]);
    let (ok, json) = run(&servers, &["--reconnect", "--mix", "create=1,create-seq=1,set=1", "--in-flight", "3"]);
    assert!(ok, "{json:#}");
    assert_eq!(shared.paths(), [""; 0]);
}

#[test]
fn an_open_loop_goes_on_with_the_connections_that_are_left() {
    let (_, servers) = ensemble([Fault::DieAt(20), Fault::None]);
    let (ok, json) = run(&servers, &["--reconnect", "--rate", "400"]);
    assert!(ok, "{json:#}");
    let unknown = json["errors"]["writes of unknown outcome"].as_f64().expect("one at least");
    let answered = metric(&json, "throughput") * 0.5;
    assert_eq!(answered + unknown, 200.0, "every arrival is answered or of unknown outcome: {json:#}");
}

#[test]
fn latencies_before_during_and_after_a_disturbance_are_told_apart() {
    let (_, servers) = ensemble([Fault::None]);
    let (ok, json) = run(&servers, &["--during", "sleep 0.15", "--during-at", "0.1"]);
    assert!(ok, "{json:#}");
    let ops = ["before", "during", "after"].map(|phase| metric(&json, &format!("ops {phase}")));
    assert!(ops.iter().all(|n| *n > 0.0), "{ops:?}");
    assert!(metric(&json, "disturbance") >= 150.0 && metric(&json, "p99 during / before") > 0.0, "{json:#}");
    assert_eq!(json["points"]["writes"].as_array().map(Vec::len), Some(5), "{json:#}");
}

#[test]
fn a_disturbance_that_fails_or_outlasts_the_run_makes_it_worthless() {
    let (_, servers) = ensemble([Fault::None]);
    for (command, why) in [("exit 3", "failed"), ("sleep 0.6", "shorter than its disturbance")] {
        let (ok, json) = run(&servers, &["--during", command, "--during-at", "0.1"]);
        assert!(!ok && json["failure"].as_str().is_some_and(|f| f.contains(why)), "{json:#}");
    }
}

#[test]
fn saved_runs_are_put_side_by_side() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut files = Vec::new();
    for label in ["one", "two", "one", "two"] {
        let (_, servers) = ensemble([Fault::None]);
        let (ok, json) = run(&servers, &["--label", label, "--during", "true", "--during-at", "0.1"]);
        assert!(ok, "{json:#}");
        files.push(dir.path().join(files.len().to_string()));
        std::fs::write(&files[files.len() - 1], json.to_string()).expect("written");
    }
    let report = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_loadgen")).arg("report").args(&files).args(args).output().expect("runs");
    let output = report(&["--only", "longest,throughput"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("one / two") && text.contains("longest gap without a write") && !text.contains("p99"), "{text}");
    std::fs::write(&files[3], "{}").expect("written");
    assert!(!report(&[]).status.success(), "what is no run is refused");
}

#[test]
fn workloads_of_a_file_run_on_every_target_and_end_up_on_one_page() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("two.workload");
    let text = "version = 4\nconnections = 2\nkeys = 20\nwarmup = 0\nduration = 9\n[reads]\nmix = get\n[writes]\nmix = create\n[never]\nmix = exists\n";
    std::fs::write(&file, text).expect("written");
    let (page, runs) = (dir.path().join("page.html"), dir.path().join("runs"));
    // The second can only be read.
    let targets = ["one", "two,ops=get"].map(|label| format!("{},{label}", ensemble([Fault::None]).1[0]));
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["suite", "--target", &targets[0], "--target", &targets[1], "--duration", "0.2"])
        .args(["--alternations", "2", "--warm-run", "0", "--open-share", "0.2", "--only", "reads,writes", "--workload"])
        .arg(&file)
        .arg("--save")
        .arg(&runs)
        .arg("--html")
        .arg(&page)
        .output()
        .expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("two: reads: one, two, 2 runs each") && text.contains("two: writes: one, 2 runs each"), "{text}");
    assert!(
        text.contains("two: writes, open loop: one, 2 runs") && text.contains("one / two") && text.contains("version 4: get;"),
        "{text}"
    );
    let kinds = ["json", "hlog"].map(|kind| {
        let files = std::fs::read_dir(&runs).expect("saved").flatten();
        files.filter(|f| f.path().extension().is_some_and(|e| e == kind)).count()
    });
    assert_eq!(kinds, [12, 12], "twice two loops of the first workload on two targets, of the second on one");
    let html = std::fs::read_to_string(&page).expect("written");
    assert!(
        html.matches("<h2").count() == 4 && html.contains("two: reads, open loop") && html.matches("<polyline").count() >= 12,
        "{html}"
    );
}

//! The program itself against servers that behave and servers that do not.

mod fake;
mod reconnecting;

use fake::Fault;
use serde_json::Value;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

fn loadgen(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen")).args(args).output().expect("the program runs")
}

fn run(server: SocketAddr, args: &[&str]) -> (bool, Value) {
    let server = server.to_string();
    let base = ["run", "--server", &server, "--json", "--warmup", "0", "--duration", "0.3", "--connections", "4", "--keys", "20"];
    let output = loadgen(&[&base[..], args].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.success(), json)
}

fn metric(json: &Value, name: &str) -> f64 {
    json["metrics"][name]["value"].as_f64().unwrap_or_else(|| panic!("no {name} in {json:#}"))
}

#[test]
fn every_operation_is_answered_checked_and_counted() {
    let mix = "get=4,exists=2,children=1,set=2,create=4,create-seq=2,delete=3,multi=1";
    let (ok, json) = run(fake::start(Fault::None), &["--mix", mix, "--in-flight", "3"]);
    assert!(ok, "{json:#}");
    assert_eq!(json["errors"], serde_json::json!({}));
    for kind in ["get", "exists", "children", "set", "create", "create-seq", "delete", "multi"] {
        assert!(metric(&json, &format!("{kind} ops")) > 0.0);
    }
    assert!(metric(&json, "p50") > 0.0 && metric(&json, "p50") <= metric(&json, "max"));
}

#[test]
fn a_run_leaves_nothing_behind() {
    let (server, paths) = fake::start_inspected(Fault::None);
    assert!(run(server, &["--mix", "create=3,create-seq=1,delete=1"]).0);
    assert_eq!(paths(), [""; 0]);
    assert!(run(server, &["--mix", "create=3,create-seq=1,delete=1", "--keep"]).0);
    assert_eq!(paths().len(), 22, "the keys, their directory and the root");
}

#[test]
fn an_acknowledged_create_that_is_gone_fails_a_run_that_looks_for_it() {
    let call = |fault, extra: &[&str]| {
        let server = fake::start(fault).to_string();
        let base =
            ["run", "--server", &server, "--mix", "create", "--warmup", "0", "--duration", "0.2", "--connections", "3", "--keys", "5"];
        loadgen(&[&base[..], extra].concat())
    };
    assert!(call(Fault::None, &["--verify"]).status.success() && call(Fault::LosesCreates, &[]).status.success());
    let lost = call(Fault::LosesCreates, &["--verify"]);
    let why = String::from_utf8_lossy(&lost.stderr);
    assert!(!lost.status.success() && why.contains("3 of ") && why.contains("acknowledged creates are gone"), "{why}");
}

#[test]
fn error_replies_are_counted_and_do_not_fail_the_run() {
    let (ok, json) = run(fake::start(Fault::Errors), &[]);
    assert!(ok);
    let errors = json["errors"]["get error -101"].as_f64().expect("counted");
    let answered = metric(&json, "throughput") * 0.3;
    assert!((errors / answered - 0.5).abs() < 0.05, "{errors} of {answered}");
}

#[test]
fn a_wrong_reply_fails_the_run_and_says_why() {
    // A server that hangs up on requests it has not read makes the kernel send a reset.
    for (fault, why) in [
        (Fault::WrongXid(50), ["reply to xid"; 2]),
        (Fault::ShortData(50), ["data length"; 2]),
        (Fault::ZxidBack(50), ["zxid went back"; 2]),
        (Fault::HangUp(50), ["closed the connection", "Connection reset"]),
    ] {
        let (ok, json) = run(fake::start(fault), &["--in-flight", "2"]);
        let failure = json["failure"].as_str().unwrap_or_default();
        assert!(!ok && why.iter().any(|why| failure.contains(why)), "{fault:?}: {failure}");
    }
}

#[test]
fn an_open_loop_charges_a_stall_to_every_request_it_delayed() {
    let stall = Duration::from_millis(250);
    let server = fake::start(Fault::Stall(30, stall));
    let (ok, json) = run(server, &["--rate", "200", "--duration", "1", "--connections", "1"]);
    assert!(ok, "{json:#}");
    // 50 of 200 arrivals fall into the stall; the first of them waits all of it, and all were sent in spite of it.
    assert!(metric(&json, "p99") > 200_000.0, "{json:#}");
    assert!((metric(&json, "throughput") - 200.0).abs() < 2.0, "{json:#}");
}

#[test]
fn an_open_loop_counts_what_was_never_answered() {
    let server = fake::start(Fault::Stall(1, Duration::from_secs(3)));
    let (_, json) = run(server, &["--rate", "100", "--duration", "0.5", "--drain", "0.1", "--connections", "1"]);
    assert_eq!(json["errors"]["unanswered"], 50, "{json:#}");
}

#[test]
fn the_progress_line_stays_off_when_nobody_looks() {
    let server = fake::start(Fault::None).to_string();
    let output = loadgen(&["run", "--server", &server, "--warmup", "0", "--duration", "0.2"]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn fan_out_counts_each_event_once() {
    let args = |addr: &str| {
        ["fan-out", "--json", "--watchers", "20", "--rounds", "3", "--warmup-rounds", "1", "--server", addr].map(str::to_owned)
    };
    let call = |fault| {
        let args = args(&fake::start(fault).to_string());
        loadgen(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let good = call(Fault::None);
    let json: Value = serde_json::from_slice(&good.stdout).expect("JSON");
    assert_eq!(metric(&json, "events"), 60.0);
    let bad = call(Fault::DoubleEvents);
    assert!(!bad.status.success(), "a doubled event must not pass");
}

#[test]
fn fill_checks_the_number_of_children() {
    let server = fake::start(Fault::None).to_string();
    let output = loadgen(&["fill", "--server", &server, "--znodes", "2500", "--children-per-parent", "100", "--settle", "0", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Znodes that are there already are fine; another layout under the same root is not what was asked for.
    let again = loadgen(&["fill", "--server", &server, "--znodes", "2400", "--children-per-parent", "50", "--settle", "0"]);
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("children, expected"));
}

#[test]
fn sessions_come_and_go() {
    let server = fake::start(Fault::None).to_string();
    let output = loadgen(&["sessions", "--server", &server, "--clients", "3", "--warmup", "0.1", "--duration", "0.3", "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(metric(&json, "sessions") > 0.0);
}

#[test]
fn every_way_to_watch_counts_each_event_once() {
    for (watching, paths, events) in [("each", "3", 3.0 * 12.0 * 2.0), ("share", "7", 7.0 * 2.0), ("recursive", "5", 5.0 * 12.0 * 2.0)] {
        let server = fake::start(Fault::None).to_string();
        let args = ["--watchers", "12", "--paths", paths, "--watch", watching, "--rounds", "2", "--warmup-rounds", "1"];
        let output = loadgen(&[&["fan-out", "--json", "--server", &server], &args[..]].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        let json: Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{watching}: {e}: {}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(metric(&json, "events"), events, "{watching}");
    }
}

#[test]
fn idle_sessions_ping_and_come_back_when_all_connections_are_cut() {
    let own = std::process::id().to_string();
    let args = ["--sessions", "30", "--quiet", "0.3", "--session-timeout", "3", "--watches", "3", "--pid", &own];
    for (fault, storms, lost) in [(Fault::None, "2", Value::Null), (Fault::Forgets, "1", serde_json::json!(30))] {
        let server = fake::start(fault).to_string();
        let output = loadgen(&[&["idle", "--json", "--server", &server, "--storms", storms], &args[..]].concat());
        let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((metric(&json, "sessions"), &json["errors"]["sessions lost"]), (30.0, &lost), "{json:#}");
        assert!(metric(&json, "memory of a watch").is_finite() && metric(&json, "server CPU of a ping") > 0.0, "{json:#}");
        // One of each session a second.
        assert!((5.0..=40.0).contains(&metric(&json, "pings answered")) && metric(&json, "all back") > 0.0, "{json:#}");
    }
}

#[test]
fn compare_reports_every_server_and_its_ratio_to_the_first() {
    let targets = ["one", "two", "three"].map(|label| format!("{},{label}", fake::start(Fault::None)));
    let args = "--json --alternations 2 --warm-run 0 --warmup 0 --duration 0.2 --connections 2";
    let mut words = vec!["compare"];
    targets.iter().for_each(|target| words.extend(["--target", target]));
    words.extend(args.split(' '));
    let output = loadgen(&words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let sections = json.as_array().expect("sections");
    assert_eq!(sections.len(), 2, "closed and open");
    for section in sections {
        assert_eq!(section["servers"], serde_json::json!(["one", "two", "three"]));
        for other in ["two", "three"] {
            assert!(section["metrics"]["throughput"]["ratio_of_first"][other]["median"].as_f64().expect("a ratio") > 0.0);
        }
    }
    let workload = sections[1]["conditions"]["workload"].as_str().expect("text");
    assert!(workload.contains("open loop"), "{workload}");
}

#[test]
fn a_target_that_fails_is_told_of_and_the_others_are_measured() {
    let targets = [(Fault::None, "good"), (Fault::WrongXid(5), "bad")].map(|(fault, label)| format!("{},{label}", fake::start(fault)));
    let words = "--alternations 1 --warm-run 0 --open-share 0 --warmup 0 --duration 0.2 --connections 2";
    let words: Vec<_> = ["compare", "--target", &targets[0], "--target", &targets[1]].into_iter().chain(words.split(' ')).collect();
    let output = loadgen(&words);
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success() && error.contains("bad: wrong reply"), "{error}");
    assert!(text.contains("throughput") && text.contains("FAILED: bad: wrong reply"), "{text}");
}

#[test]
fn start_reports_a_command_that_ends_without_serving() {
    let output = loadgen(&["start", "--server", "127.0.0.1:1", "--limit", "20", "--", "false"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the server ended"), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn start_refuses_an_address_that_answers_already() {
    let server = fake::start(Fault::None).to_string();
    let output = loadgen(&["start", "--server", &server, "--", "sleep", "60"]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("answers already"));
}

#[test]
fn a_server_that_is_not_there_is_an_error_not_a_hang() {
    let output = loadgen(&["run", "--server", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("refused"));
}

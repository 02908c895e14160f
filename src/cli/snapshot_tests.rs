use super::*;
use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: SnapshotArgs,
}

fn zoo_snapshot(args: &[&str]) -> (Result<bool, String>, String) {
    let cli = Cli::try_parse_from(std::iter::once("snapshot").chain(args.iter().copied())).expect("valid arguments");
    let mut out = Vec::new();
    let result = run(&cli.args, &mut out);
    (result, String::from_utf8(out).expect("text"))
}

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/java-3.9.4/storage/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_snapshot_is_printed_in_the_layout_of_javas_tool() {
    let (result, text) = zoo_snapshot(&["print", &fixture("standalone/version-2/snapshot.23")]);
    assert_eq!(result, Ok(true));
    assert!(text.starts_with("ZNode Details (count="), "{text}");
    let node = "----\n/a\n  cZxid = 0x00000000000003\n  ctime = 2026-11-22T15:31:40.374Z\n  mZxid = 0x00000000000012\n  mtime = \
                2026-11-22T15:31:40.443Z\n  pZxid = 0x00000000000023\n  cversion = 9\n  dataVersion = 1\n  aclVersion = 1\n  ephemeralOwner = \
                0x00000000000000\n  dataLength = 8\n";
    assert!(text.contains(node), "{text}");
    assert!(text.contains("Session Details (sid, timeout, ephemeralCount):\n0x1000010bb900000, 600000, "), "{text}");
    assert!(text.contains("Target zxid digest is: 23, 37816356674\n"), "{text}");
    assert!(text.ends_with("----\nLast zxid: 0x23\n"), "{text}");
    let (_, text) = zoo_snapshot(&["print", "--data", &fixture("standalone/version-2/snapshot.23")]);
    assert!(text.contains("  data = ZGF0YS1hLTI=\n"), "{text}");
}

#[test]
fn the_three_encodings_of_a_state_verify_and_do_not_differ() {
    let [plain, gz, snappy] = ["", ".gz", ".snappy"].map(|s| fixture(&format!("standalone/version-2/snapshot.23{s}")));
    let (result, text) = zoo_snapshot(&["verify", &plain, &gz, &snappy]);
    assert_eq!(result, Ok(true), "{text}");
    assert!(text.contains("its digest matches"), "{text}");
    for other in [&gz, &snappy] {
        let (result, text) = zoo_snapshot(&["compare", &plain, other]);
        assert_eq!(result, Ok(true), "{text}");
    }
}

#[test]
fn differences_are_named() {
    let (result, text) =
        zoo_snapshot(&["compare", &fixture("standalone/version-2/snapshot.0"), &fixture("standalone/version-2/snapshot.23")]);
    assert_eq!(result, Ok(false));
    for line in ["+ /a/b\n", "! : ", "+ session 0x1000010bb900000, timeout 600000\n"] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
}

#[test]
fn a_damaged_snapshot_is_said_to_be_damaged() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut bytes = std::fs::read(fixture("standalone/version-2/snapshot.23")).expect("read");
    bytes[300] ^= 1;
    let path = dir.path().join("snapshot.23");
    std::fs::write(&path, bytes).expect("written");
    let (result, text) = zoo_snapshot(&["verify", path.to_str().expect("text")]);
    assert_eq!(result, Ok(false));
    assert!(text.contains("snapshot.23"), "{text}");
}

#[test]
fn json_has_sections_first_and_then_a_node_per_line() {
    let (_, text) = zoo_snapshot(&["print", "--json", &fixture("nodigest/version-2/snapshot.4")]);
    let values: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).expect("json")).collect();
    assert_eq!((&values[0]["last_processed_zxid"], &values[0]["zxid_digest"]), (&json!("0x4"), &serde_json::Value::Null));
    assert!(values[1..].iter().any(|v| v["path"] == "/zookeeper"));
}

use super::*;
use crate::base::{SessionId, WallTime, Writer, Xid};
use crate::record::TxnHeader;
use crate::record::frame::write_frame;
use crate::storage::format::MARK_FILE;
use crate::storage::mark::Mark;
use clap::Parser;
use std::fs;
use std::io::Cursor;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: LogArgs,
}

fn zoo_log(args: &[&str], answer: &str) -> (Result<bool, String>, String) {
    let cli = Cli::try_parse_from(std::iter::once("log").chain(args.iter().copied())).expect("valid arguments");
    let mut out = Vec::new();
    let result = run(&cli.args, &mut Cursor::new(answer.as_bytes()), &mut out);
    (result, String::from_utf8(out).expect("text"))
}

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/java-3.9.4/storage/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn log(zxids: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    let mut out = Vec::new();
    FileHeader::log(0).write(&mut out);
    for zxid in zxids {
        let mut payload = Vec::new();
        TxnHeader { session: SessionId(1), cxid: Xid(1), zxid: Zxid(zxid), time: WallTime(1), kind: -1 }.write(&mut payload);
        payload.put_i32(-101);
        write_frame(&payload, &mut out);
    }
    out
}

const RECORD: usize = 13 + 36;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new(files: &[(&str, Vec<u8>)]) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        files.iter().for_each(|(name, content)| fs::write(dir.path().join(name), content).expect("written"));
        Dir(dir)
    }
    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("text").to_owned()
    }
    fn names(&self) -> Vec<String> {
        dir::list(self.0.path()).expect("listed").into_iter().map(|e| e.name).filter(|n| n != LOCK_FILE && n != MARK_FILE).collect()
    }
    fn bytes(&self, name: &str) -> usize {
        fs::read(self.path(name)).expect("read").len()
    }
}

#[test]
fn a_log_is_printed_in_the_layout_of_javas_tool() {
    let (result, text) = zoo_log(&["print", &fixture("standalone/version-2/log.1")], "");
    assert_eq!(result, Ok(true));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "ZooKeeper Transactional Log File with dbid 0 txnlog format version 2");
    assert_eq!(lines[1], "2026-11-22T15:31:40.317Z session 0x1000010bb900000 cxid 0x0 zxid 0x1 createSession 600000");
    assert_eq!(
        lines[3],
        "2026-11-22T15:31:40.374Z session 0x1000010bb900000 cxid 0x1 zxid 0x3 create /a,data-a,[world:anyone:cdrwa],false,1"
    );
    assert!(text.contains(" error -110\n") && text.contains(" setACL /a,[world:anyone:cdrwa digest:"), "{text}");
    assert!(text.contains(" multi create:/m,"), "{text}");
    assert_eq!(*lines.last().expect("a line"), "EOF reached after 35 txns.");
}

#[test]
fn json_has_one_object_per_line() {
    let (result, text) = zoo_log(&["print", "--json", &fixture("legacy/version-2/log.1")], "");
    assert_eq!(result, Ok(true));
    let values: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).expect("json")).collect();
    assert_eq!(values[0]["header"]["magic"], "0x5a4b4c47");
    assert_eq!(values[2]["txn"]["path"], "/v0");
    let end = values.last().expect("an end");
    assert_eq!((end["data_end"].as_u64(), end["clean"].as_bool()), (Some(380), Some(true)));
}

#[test]
fn verify_tells_good_files_from_bad_ones() {
    let mut flipped = log(1..=3);
    flipped[16 + RECORD + 20] ^= 1;
    let mut gap = log(1..=2);
    gap.extend_from_slice(&log(4..=4)[16..]);
    let d = Dir::new(&[("log.1", log(1..=3)), ("flipped", flipped), ("gap", gap), ("other", b"something else entirely".to_vec())]);
    assert_eq!(zoo_log(&["verify", &d.path("log.1")], "").0, Ok(true));
    let (result, text) = zoo_log(&["verify", &d.path("flipped")], "");
    assert_eq!(result, Ok(false));
    assert!(text.contains(&format!("CRC ERROR - offset {}", 16 + RECORD)) && text.contains("whole record behind it"), "{text}");
    let (result, text) = zoo_log(&["verify", &d.path("gap")], "");
    assert_eq!(result, Ok(false));
    assert!(text.contains("0x4 does not follow"), "{text}");
    assert!(zoo_log(&["verify", &d.path("other")], "").0.is_err_and(|e| e.contains("magic")));
    assert!(zoo_log(&["verify", &d.path("missing")], "").0.is_err());
}

#[test]
fn a_directory_is_verified_as_a_server_would_read_it() {
    for set in ["standalone", "uncommitted-tail", "legacy", "neither"] {
        let (result, text) = zoo_log(&["verify", &fixture(set)], "");
        assert_eq!(result, Ok(true), "{text}");
    }
    let d = Dir::new(&[("log.1", log(1..=3)), ("log.5", log(5..=6))]);
    let (result, text) = zoo_log(&["verify", &d.path("")], "");
    assert_eq!(result, Ok(false));
    assert!(text.contains("DAMAGED") && text.contains("0x5"), "{text}");
}

#[test]
fn a_repair_cuts_keeps_a_copy_and_lowers_the_mark() {
    let mut damaged = log(1..=4);
    damaged[16 + 2 * RECORD + 20] ^= 1;
    let whole = damaged.len();
    let d = Dir::new(&[("log.1", damaged), ("log.5", log(5..=6)), ("snapshot.3", b"newer".to_vec()), ("snapshot.0", b"older".to_vec())]);
    let (result, text) = zoo_log(&["repair", &d.path(""), "--cut-after", "0x2"], "yes\n");
    assert_eq!(result, Ok(true), "{text}");
    assert_eq!(d.names(), ["log.1", "snapshot.0", "zoo-kept.1.log.1", "zoo-kept.1.log.5", "zoo-kept.1.snapshot.3"]);
    assert_eq!((d.bytes("log.1"), d.bytes("zoo-kept.1.log.1")), (16 + 2 * RECORD, whole));
    assert_eq!(Mark::read(&fs::read(d.path(MARK_FILE)).expect("read")), None);
    let (result, text) = zoo_log(&["repair", &d.path(""), "--cut-after", "0x2", "--yes"], "");
    assert_eq!(result, Ok(true));
    assert!(text.contains("Nothing to do"), "{text}");
}

#[test]
fn a_repair_asks_first_and_takes_only_yes_for_an_answer() {
    for answer in ["no\n", "\n", "", "y\n"] {
        let d = Dir::new(&[("log.1", log(1..=4))]);
        let (result, text) = zoo_log(&["repair", &d.path(""), "--cut-after", "2"], answer);
        assert_eq!(result, Ok(false));
        assert!(text.contains("Nothing was changed"), "{text}");
        assert_eq!((d.names(), d.bytes("log.1")), (vec!["log.1".to_owned()], 16 + 4 * RECORD));
    }
}

#[test]
fn a_directory_in_use_is_not_repaired() {
    let d = Dir::new(&[("log.1", log(1..=4))]);
    let _server = DirLock::acquire(d.0.path(), LOCK_FILE).expect("io").expect("free");
    assert!(zoo_log(&["repair", &d.path(""), "--cut-after", "2", "--yes"], "").0.is_err_and(|e| e.contains("stop it first")));
}

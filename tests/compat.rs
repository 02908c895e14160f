//! Golden files of a real ZooKeeper 3.9.4: what it wrote is read as its own readers read it, and written again byte for byte.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use zoo::cli::dump::{acl_json, node_json, record_json};
use zoo::record::frame::write_frame;
use zoo::record::txn::{TxnDigest, decode_payload, encode_payload};
use zoo::storage::format::{Compression, FileHeader, FileKind};
use zoo::storage::segment::RecordReader;
use zoo::storage::snapshot::{self, Sections, Snapshot};
use zoo::storage::snapshot_body::BodyReader;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/java-3.9.4/storage")
}

/// Every golden file of this kind with what Java's readers said of it: (set, name, bytes, expected).
fn golden(prefix: &str) -> Vec<(String, String, Vec<u8>, Value)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join("expected")).expect("fixtures are there") {
        let path = entry.expect("entry").path();
        let stem = path.file_stem().and_then(|s| s.to_str()).expect("a name").to_owned();
        let (set, name) = stem.split_once("__").expect("set and file");
        if name.starts_with(prefix) {
            let bytes = std::fs::read(root().join(set).join("version-2").join(name)).expect("the file");
            let expected = serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("json");
            found.push((set.to_owned(), name.to_owned(), bytes, expected));
        }
    }
    found.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    found
}

#[test]
fn every_log_record_decodes_to_what_java_reads() {
    let logs = golden("log.");
    assert_eq!(logs.len(), 8, "one log per set");
    let mut records = 0;
    for (set, name, bytes, expected) in logs {
        let (header, mut reader) = RecordReader::open(&bytes[..]).expect("io").expect("a log");
        assert_eq!(header.dbid, 0);
        let mut got = Vec::new();
        while let Ok(record) = reader.next().expect("io") {
            let mut value = record_json(&record).expect("decodes");
            value["eor"] = json!(66);
            got.push(value);
        }
        let want = expected["records"].as_array().expect("records");
        assert_eq!(got.len(), want.len(), "{set}/{name}");
        for (got, want) in got.iter().zip(want) {
            assert_eq!(got, want, "{set}/{name}");
        }
        records += got.len();
        let end = got.last().map_or(16, |r| r["offset"].as_u64().expect("offset") + r["len"].as_u64().expect("len") + 13);
        assert_eq!(Value::from(end), expected["data_end"], "{set}/{name}");
        assert!(reader.examine_rest().expect("io").all_zero, "{set}/{name} ends with padding");
    }
    assert!(records > 80, "{records} records in all");
}

#[test]
fn every_log_record_is_written_again_byte_for_byte() {
    for (set, name, bytes, _) in golden("log.") {
        let mut again = Vec::new();
        FileHeader::log(0).write(&mut again);
        let (_, mut reader) = RecordReader::open(&bytes[..]).expect("io").expect("a log");
        while let Ok(record) = reader.next().expect("io") {
            let (header, txn, digest) = decode_payload(record.payload).expect("decodes");
            let mut payload = Vec::new();
            encode_payload(&header, &txn, &mut payload);
            digest.iter().for_each(|d: &TxnDigest| d.write(&mut payload));
            write_frame(&payload, &mut again);
        }
        assert_eq!(bytes[..again.len()], again, "{set}/{name}");
        assert!(bytes[again.len()..].iter().all(|b| *b == 0), "{set}/{name}: only padding is left out");
    }
}

fn read(name: &str, bytes: &[u8]) -> (Snapshot, Compression) {
    let Some(FileKind::Snapshot(_, compression)) = FileKind::parse(name) else { panic!("{name}") };
    (Snapshot::read(bytes, compression).unwrap_or_else(|e| panic!("{name} {e}")), compression)
}

#[test]
fn every_snapshot_decodes_to_what_java_reads() {
    let snapshots = golden("snapshot.");
    assert_eq!(snapshots.len(), 14);
    for (set, name, bytes, expected) in snapshots {
        let (snapshot, _) = read(&name, &bytes);
        let mut body = BodyReader::new(snapshot.body());
        let sessions: Vec<Value> =
            body.sessions().expect("decodes").iter().map(|(id, t)| json!({ "id": format!("{:#x}", id.0), "timeout": t })).collect();
        assert_eq!(Value::from(sessions), expected["sessions"], "{set}/{name}");
        let acls: Vec<Value> = body.acls().expect("decodes").iter().map(|(id, acl)| json!({ "id": id, "acl": acl_json(*acl) })).collect();
        assert_eq!(Value::from(acls), expected["acls"], "{set}/{name}");
        for want in expected["nodes"].as_array().expect("nodes") {
            let node = body.next_node().expect("decodes").expect("as many nodes");
            let mut want = want.clone();
            want.as_object_mut().expect("object").remove("node_digest");
            assert_eq!(node_json(&node), want, "{set}/{name}");
        }
        assert_eq!(body.next_node(), Ok(None), "{set}/{name}");
        let digest = snapshot
            .sections
            .digest
            .map(|d| json!({ "zxid": format!("{:#x}", d.zxid.0), "digestVersion": d.version, "digest": format!("{:#x}", d.digest) }));
        assert_eq!(digest.unwrap_or(Value::Null), expected["zxid_digest"], "{set}/{name}");
        let last = snapshot.sections.last_zxid.map_or(Value::Null, |z| Value::from(format!("{:#x}", z.0)));
        assert_eq!(last, expected["last_processed_zxid"], "{set}/{name}");
    }
}

#[test]
fn every_snapshot_is_written_again_byte_for_byte() {
    for (set, name, bytes, expected) in golden("snapshot.") {
        let (snapshot, compression) = read(&name, &bytes);
        let digest = snapshot.sections.digest.map(|d| (d.zxid, TxnDigest { version: d.version, digest: d.digest }));
        let sections = Sections { digest, last_zxid: snapshot.sections.last_zxid };
        let mut plain = Vec::new();
        snapshot::write(&mut plain, Compression::None, &sections, |sink| sink(snapshot.body())).expect("written");
        assert_eq!(Value::from(plain.len()), expected["uncompressed_size"], "{set}/{name}");
        if compression == Compression::None {
            assert_eq!(plain, bytes, "{set}/{name}");
        }
        // Compressors differ; what they hold does not.
        let mut packed = Vec::new();
        snapshot::write(&mut packed, compression, &sections, |sink| sink(snapshot.body())).expect("written");
        assert_eq!(Snapshot::read(&packed[..], compression).expect("valid").body(), snapshot.body(), "{set}/{name}");
        assert_eq!(packed[..2], bytes[..2], "{set}/{name}: Java tells the kind by the first bytes");
    }
}

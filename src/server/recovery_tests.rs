use super::*;
use crate::base::{AclVec, SessionId, WallTime, Xid};
use crate::record::TxnHeader;
use crate::record::frame::write_frame;
use crate::record::txn::{CreateKind, CreateTxn, Txn, encode_payload};
use crate::server::ServerConfig;
use crate::storage::format::FileHeader;
use crate::storage::snapshot::Snapshot;
use std::collections::BTreeMap;

struct Fixture {
    dir: tempfile::TempDir,
    storage: StorageConfig,
    tree: TreeConfig,
}

impl Fixture {
    fn empty() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let server = ServerConfig::development("127.0.0.1:0".parse().expect("address"), dir.path());
        let tree = TreeConfig { extended_types: true, ..server.tree(1) };
        Fixture { storage: server.storage, tree, dir }
    }

    /// A copy of a directory that a Java server left.
    fn java(set: &str) -> Self {
        let fixture = Self::empty();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/java-3.9.4/storage").join(set).join("version-2");
        fs::create_dir(fixture.history()).expect("created");
        for entry in fs::read_dir(from).expect("fixtures are there") {
            let entry = entry.expect("entry");
            fs::write(fixture.history().join(entry.file_name()), fs::read(entry.path()).expect("read")).expect("copied");
        }
        fixture
    }

    fn history(&self) -> PathBuf {
        self.dir.path().join("version-2")
    }
    fn put(&self, name: &str, content: &[u8]) {
        dir::create_dirs(&self.history()).expect("created");
        fs::write(self.history().join(name), content).expect("written");
    }
    fn get(&self, name: &str) -> Vec<u8> {
        fs::read(self.history().join(name)).expect("read")
    }
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = dir::list(&self.history()).expect("listed").into_iter();
        entries.filter(|e| e.name != LOCK_FILE && e.name != MARK_FILE).map(|e| (e.name.clone(), self.get(&e.name))).collect()
    }
    fn recover(&self) -> Result<Recovered, RecoveryError> {
        recover(&self.storage, &self.tree, Purpose::Standalone)
    }
    fn recovered(&self) -> Recovered {
        self.recover().unwrap_or_else(|e| panic!("{e}"))
    }
    fn refused(&self) -> RecoveryError {
        let before = self.files();
        let error = self.recover().err().expect("refused");
        assert_eq!(self.files(), before, "a refusal changes nothing");
        error
    }
}

/// A log of creates `/n<zxid>` from `first` on.
fn log_of_creates(first: u64, count: u64) -> Vec<u8> {
    let mut out = Vec::new();
    FileHeader::log(0).write(&mut out);
    for zxid in first..first + count {
        let header = TxnHeader { session: SessionId(1), cxid: Xid(1), zxid: Zxid(zxid), time: WallTime(9), kind: 1 };
        let path = format!("/n{zxid}");
        let create = CreateTxn {
            kind: CreateKind::Create { ephemeral: false },
            path: &path,
            data: Some(b"d"),
            acl: AclVec::OPEN,
            parent_cversion: Some(zxid as i32),
        };
        let mut payload = Vec::new();
        encode_payload(&header, &Txn::Create(create), &mut payload);
        write_frame(&payload, &mut out);
    }
    out
}

fn znodes(recovered: &Recovered) -> u64 {
    recovered.tree.counts().znodes
}

#[test]
fn a_first_start_makes_an_empty_database_with_javas_first_snapshot() {
    let f = Fixture::empty();
    let recovered = f.recovered();
    assert_eq!((recovered.last_zxid, recovered.snapshot, recovered.replayed), (Zxid::ZERO, None, 0));
    let written = f.get("snapshot.0");
    assert_eq!(written.len(), 478, "as many bytes as Java's with default flags");
    assert!(Snapshot::parse(&written).is_ok());
    drop(recovered);
    assert_eq!(f.recovered().snapshot, Some(Zxid::ZERO));
}

#[test]
fn an_empty_directory_is_refused_without_autocreate_unless_the_marker_is_there() {
    let mut f = Fixture::empty();
    f.storage.create_database = false;
    dir::create_dirs(&f.history()).expect("created");
    assert!(matches!(f.refused(), RecoveryError::NoDatabase(_)));
    let marker = f.dir.path().join(INITIALIZE_FILE);
    fs::write(&marker, b"").expect("written");
    drop(f.recovered());
    assert!(!marker.exists(), "it holds for one start");
}

#[test]
fn a_member_that_is_empty_counts_as_its_marker_says_until_it_has_a_history_l21() {
    let mut f = Fixture::empty();
    let member = |f: &Fixture| recover(&f.storage, &f.tree, Purpose::Member { recent_max: 1 }).unwrap_or_else(|e| panic!("{e}"));
    let marker = f.dir.path().join(INITIALIZE_FILE);
    assert_eq!(member(&f).emptiness, Emptiness::Unexplained);
    f.storage.create_database = false;
    let distrusted = member(&f);
    assert_eq!((distrusted.emptiness, distrusted.notes.len()), (Emptiness::Distrusted, 1), "it starts, for others to bring it up to date");
    drop(distrusted);
    fs::write(&marker, b"").expect("written");
    assert_eq!(member(&f).emptiness, Emptiness::Vouched);
    assert!(!marker.exists());
    assert_eq!(member(&f).emptiness, Emptiness::Vouched, "a crash before it was brought up to date changes nothing");
    f.put(CURRENT_EPOCH_FILE, b"1");
    assert_ne!(member(&f).emptiness, Emptiness::Vouched);
    fs::remove_file(f.history().join(CURRENT_EPOCH_FILE)).expect("removed");
    assert_ne!(member(&f).emptiness, Emptiness::Vouched, "what was vouched for has come to an end");
    fs::write(&marker, b"").expect("written");
    drop(member(&f));
    fs::remove_dir_all(f.history()).expect("wiped");
    assert_ne!(member(&f).emptiness, Emptiness::Vouched, "a wipe takes it away");
}

#[test]
fn a_missing_directory_is_refused_when_directories_are_not_created() {
    let mut f = Fixture::empty();
    f.storage.create_dirs = false;
    assert!(matches!(f.recover().err(), Some(RecoveryError::NoDirectory(_))));
}

#[test]
fn every_directory_of_a_java_server_recovers_to_its_last_transaction() {
    let sets = [
        ("standalone", 0x23),
        ("nodigest", 0x4),
        ("nolastzxid", 0x4),
        ("neither", 0x4),
        ("ensemble-reconfig", 0),
        ("uncommitted-tail", 0x1_0000_0018),
        ("after-trunc", 0x1_0000_0015),
        ("legacy", 0),
    ];
    for (set, last) in sets {
        let f = Fixture::java(set);
        let recovered = f.recovered();
        assert!(recovered.last_zxid.0 > 0, "{set}");
        if last != 0 {
            assert_eq!(recovered.last_zxid, Zxid(last), "{set}");
        }
        let (count, zxid) = (znodes(&recovered), recovered.last_zxid);
        drop(recovered);
        let again = f.recovered();
        assert_eq!((znodes(&again), again.last_zxid), (count, zxid), "{set}: a second start gives the same");
    }
}

#[test]
fn a_java_history_gives_the_same_tree_from_any_snapshot_in_it() {
    let f = Fixture::java("standalone");
    let newest = znodes(&f.recovered());
    for gone in ["snapshot.23", "snapshot.23.gz", "snapshot.23.snappy"] {
        fs::remove_file(f.history().join(gone)).expect("removed");
        let recovered = f.recovered();
        assert_eq!(znodes(&recovered), newest, "without {gone}");
        assert_eq!(recovered.last_zxid, Zxid(0x23));
    }
    assert_eq!(f.recovered().replayed, 0x23, "in the end from snapshot.0");
}

#[test]
fn a_directory_is_used_by_one_server_at_a_time() {
    let f = Fixture::empty();
    let first = f.recovered();
    assert!(matches!(f.recover().err(), Some(RecoveryError::InUse(_))));
    drop(first);
    drop(f.recovered());
}

#[test]
fn files_in_the_wrong_one_of_two_directories_are_refused() {
    let mut f = Fixture::empty();
    f.storage.log_dir = f.dir.path().join("logs");
    drop(f.recovered());
    f.put("log.1", &log_of_creates(1, 2));
    assert!(matches!(f.refused(), RecoveryError::Misplaced(_)));
    fs::rename(f.history().join("log.1"), f.storage.log_version_dir().join("log.1")).expect("moved");
    assert_eq!(f.recovered().last_zxid, Zxid(2));
}

#[test]
fn a_torn_tail_and_padding_are_cut_durably_and_said() {
    let f = Fixture::empty();
    drop(f.recovered());
    let mut log = log_of_creates(1, 3);
    let good = log.len();
    log.extend_from_slice(&log_of_creates(4, 1)[16..60]);
    f.put("log.1", &log);
    let recovered = f.recovered();
    assert_eq!(recovered.last_zxid, Zxid(3));
    assert!(recovered.notes.iter().any(|n| n.contains("log.1") && n.contains("never completed")), "{:?}", recovered.notes);
    assert_eq!(f.get("log.1").len(), good);
    drop(recovered);
    let mut padded = log_of_creates(1, 3);
    padded.resize(9000, 0);
    f.put("log.1", &padded);
    assert!(f.recovered().notes.is_empty(), "padding is nothing to speak of");
    assert_eq!(f.get("log.1").len(), good);
}

#[test]
fn spares_temporaries_and_logs_without_a_record_do_not_survive_a_start_a20() {
    let f = Fixture::empty();
    drop(f.recovered());
    f.put("log.1", &log_of_creates(1, 3));
    f.put("log.4", &[0; 4096]);
    f.put("zoo-spare.3", &[0; 4096]);
    f.put("zoo-tmp.snapshot.3", b"half");
    drop(f.recovered());
    assert_eq!(f.files().into_keys().collect::<Vec<_>>(), ["log.1", "snapshot.0"]);
}

#[test]
fn damage_in_the_middle_stops_the_start_and_names_file_offset_and_tool_d5() {
    let f = Fixture::empty();
    drop(f.recovered());
    let mut log = log_of_creates(1, 5);
    let record = (log.len() - 16) / 5;
    log[16 + 2 * record + 30] ^= 1;
    f.put("log.1", &log);
    let message = f.refused().to_string();
    for part in [&format!("log.1, offset {}", 16 + 2 * record), "zoo log repair", "--cut-after 0x2", "Nothing was changed"] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
}

#[test]
fn a_bad_snapshot_is_passed_over_only_when_the_logs_reach_beyond_it_d6() {
    let f = Fixture::empty();
    drop(f.recovered());
    f.put("log.1", &log_of_creates(1, 5));
    for content in [&b"ZKSN"[..], &f.get("snapshot.0")[..100], b""] {
        f.put("snapshot.5", content);
        let recovered = f.recovered();
        assert_eq!((recovered.last_zxid, recovered.snapshot), (Zxid(5), Some(Zxid::ZERO)));
        assert!(recovered.notes.iter().any(|n| n.contains("snapshot.5")), "{:?}", recovered.notes);
    }
    fs::rename(f.history().join("snapshot.5"), f.history().join("snapshot.6")).expect("renamed");
    assert!(f.refused().to_string().contains("0x6 had been reached"));
}

/// L6: where a log may be cut to is decided with this number, so that the directory can be read again afterwards.
#[test]
fn the_newest_snapshot_that_cannot_be_read_says_how_far_the_logs_must_always_lead() {
    let f = Fixture::empty();
    drop(f.recovered());
    f.put("log.1", &log_of_creates(1, 7));
    f.put("snapshot.5", b"ZKSN and then nothing");
    let recovered = recover(&f.storage, &f.tree, Purpose::Member { recent_max: 10 }).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((recovered.snapshot, recovered.least_end), (Some(Zxid::ZERO), Zxid(5)));
    cut_logs(&f.history(), recovered.least_end).expect("cut");
    assert_eq!(reload(&f.storage, &f.tree).unwrap_or_else(|e| panic!("{e}")).head_zxid(), Zxid(5));
    cut_logs(&f.history(), Zxid(4)).expect("cut");
    assert!(reload(&f.storage, &f.tree).expect_err("refused").to_string().contains("0x5 had been reached"));
}

/// Beside an image from a leader lie logs of another branch, and behind it a new epoch begins: that follows on anything.
#[test]
fn a_bad_snapshot_is_not_passed_over_by_logs_that_do_not_lead_through_it_d6() {
    let f = Fixture::empty();
    drop(f.recovered());
    let (image, next) = (Zxid::new(2, 9), Zxid::new(3, 1));
    f.put("log.1", &log_of_creates(1, 5));
    f.put(&FileKind::Log(next).name(), &log_of_creates(next.0, 2));
    f.put(&FileKind::Snapshot(image, Compression::None).name(), b"ZKSN and then nothing");
    let why = f.refused().to_string();
    assert!(why.contains("the logs do not lead through 0x200000009") && why.contains("log.300000001"), "{why}");
}

/// The newer snapshot is of a leader that was never established; what was logged above the image is cut by then.
#[test]
fn after_an_image_is_installed_recovery_begins_with_it_whatever_there_was_l5() {
    let written = |count| {
        let f = Fixture::empty();
        f.put("log.1", &log_of_creates(1, count));
        let mut recovered = f.recovered();
        SnapshotFiles::new(&f.storage, true).write(recovered.tree.begin_image()).expect("written");
        f.get(&FileKind::Snapshot(Zxid(count), Compression::None).name())
    };
    let f = Fixture::empty();
    f.put("snapshot.5", &written(5));
    f.put("snapshot.3.gz", b"another copy, which would be preferred");
    f.put("snapshot.2", &written(2));
    f.put("zoo-tmp.received", &written(3));
    SnapshotFiles::new(&f.storage, true).install(Zxid(3)).expect("installed");
    let recovered = f.recovered();
    assert_eq!((recovered.last_zxid, recovered.snapshot), (Zxid(3), Some(Zxid(3))));
    assert_eq!(f.files().into_keys().collect::<Vec<_>>(), ["snapshot.2", "snapshot.3"]);
}

#[test]
fn logs_without_a_snapshot_are_refused_unless_they_begin_at_the_beginning_d6() {
    let mut f = Fixture::empty();
    f.put("log.3", &log_of_creates(3, 2));
    assert!(matches!(f.refused(), RecoveryError::NoSnapshot { .. }));
    f.storage.trust_empty_snapshot = true;
    let recovered = f.recovered();
    assert_eq!(recovered.last_zxid, Zxid(4));
    drop(recovered);
    assert!(f.files().contains_key("snapshot.4"), "from now on there is one");

    let whole = Fixture::empty();
    whole.put("log.1", &log_of_creates(1, 2));
    assert_eq!(whole.recovered().last_zxid, Zxid(2));
}

#[test]
fn only_bad_snapshots_and_no_logs_are_refused() {
    let f = Fixture::empty();
    f.put("snapshot.0", b"ZKSN and then nothing");
    assert!(matches!(f.refused(), RecoveryError::NoSnapshot { .. }));
}

/// A Java member may cut our newest log on its leader's order and write nothing else but its epochs.
#[test]
fn a_mark_from_before_another_server_used_the_directory_is_void_a23() {
    let f = Fixture::empty();
    drop(f.recovered());
    let mut log = log_of_creates(1, 3);
    log[8..16].copy_from_slice(&77i64.to_be_bytes());
    f.put("log.1", &log);
    let mark = Mark {
        file: Zxid(1),
        dbid: 77,
        offset: log.len() as u64 + 100,
        zxid: Zxid(4),
        adler: 1,
        unsynced_bytes_max: 1 << 20,
        epochs: Epochs { accepted: StoredEpoch(5), current: StoredEpoch(4) },
    };
    write_mark(&f.history(), Some(&mark)).expect("written");
    let damaged = |f: &Fixture| matches!(f.refused(), RecoveryError::Damaged { .. });
    assert!(damaged(&f), "nobody has been here");
    f.put(CURRENT_EPOCH_FILE, b"4");
    f.put(ACCEPTED_EPOCH_FILE, b"5");
    assert!(damaged(&f), "what its writer knew of, or wrote later than the mark, says nothing");
    for (name, text) in [(ACCEPTED_EPOCH_FILE, "6"), (CURRENT_EPOCH_FILE, "5"), (CURRENT_EPOCH_FILE, "not a number")] {
        let other = Fixture::empty();
        f.files().iter().for_each(|(name, content)| other.put(name, content));
        other.put(MARK_FILE, &f.get(MARK_FILE));
        other.put(name, text.as_bytes());
        let recovered = other.recovered();
        assert_eq!(recovered.last_zxid, Zxid(3), "{name} {text}");
        let known = Mark::read(&other.get(MARK_FILE)).expect("a new mark").1.epochs;
        assert_eq!(known, recovered.epochs, "from here on the mark knows of it");
    }
}

#[test]
fn a_record_that_does_not_decode_is_damage_even_at_the_end() {
    let f = Fixture::empty();
    let mut log = log_of_creates(1, 2);
    let mut payload = Vec::new();
    TxnHeader { session: SessionId(1), cxid: Xid(1), zxid: Zxid(3), time: WallTime(9), kind: 99 }.write(&mut payload);
    write_frame(&payload, &mut log);
    f.put("log.1", &log);
    assert!(f.refused().to_string().contains("cannot be used"));
}

#[test]
fn a_digest_that_does_not_match_stops_a_standalone_server_l17() {
    let f = Fixture::java("standalone");
    for name in ["snapshot.23", "snapshot.23.gz", "snapshot.23.snappy"] {
        fs::remove_file(f.history().join(name)).expect("removed");
    }
    // The log without its first create is a whole log of another history; only the digests tell.
    let log = f.get("log.1");
    let mut forged = log[..16].to_vec();
    let (_, mut reader) = crate::storage::segment::RecordReader::open(&log[..]).expect("io").expect("header");
    while let Ok(record) = reader.next().expect("io") {
        let mut payload = record.payload.to_vec();
        if record.header.zxid == Zxid(3) {
            let at = payload.windows(6).position(|w| w == b"data-a").expect("the data");
            payload[at] = b'D';
        }
        write_frame(&payload, &mut forged);
    }
    f.put("log.1", &forged);
    let error = f.refused();
    assert!(matches!(error, RecoveryError::DigestMismatch { zxid: Zxid(3), .. }), "{error}");
}

#[test]
fn digests_are_not_compared_before_the_end_of_a_fuzzy_image_a12() {
    let known = |end| Digests { exact_from: Some(Zxid(end)), proven: false };
    let mut fuzzy = known(5);
    assert!(fuzzy.accept(Zxid(4), Some(false)), "inside the image's fuzzy part");
    assert!(!fuzzy.accept(Zxid(5), Some(false)), "at its end the state is exact");
    let mut unknown = Digests { exact_from: None, proven: false };
    assert!(unknown.accept(Zxid(4), Some(false)), "nobody knows where the image ends");
    assert!(unknown.accept(Zxid(5), Some(true)));
    assert!(!unknown.accept(Zxid(6), Some(false)), "but once exact, always exact");
}

#[test]
fn a_written_snapshot_loads_and_replaces_the_replay() {
    for compression in
        [super::super::config::Compression::Checked, super::super::config::Compression::Gzip, super::super::config::Compression::Snappy]
    {
        let mut f = Fixture::java("standalone");
        f.storage.compression = compression;
        for name in ["snapshot.23", "snapshot.23.gz", "snapshot.23.snappy"] {
            fs::remove_file(f.history().join(name)).expect("removed");
        }
        let mut recovered = f.recovered();
        let count = znodes(&recovered);
        SnapshotFiles::new(&f.storage, true).write(recovered.tree.begin_image()).expect("written");
        drop(recovered);
        let again = f.recovered();
        assert_eq!((again.snapshot, again.replayed, znodes(&again)), (Some(Zxid(0x23)), 0, count));
    }
}

#[test]
fn a_purge_keeps_what_recovery_needs() {
    let f = Fixture::empty();
    drop(f.recovered());
    for first in [1, 4, 7, 10] {
        f.put(&format!("log.{first:x}"), &log_of_creates(first, 3));
        let mut recovered = f.recovered();
        SnapshotFiles::new(&f.storage, true).write(recovered.tree.begin_image()).expect("written");
    }
    let removed = SnapshotFiles::new(&f.storage, true).purge(3).expect("purged");
    assert_eq!(removed, ["snapshot.0", "log.1", "snapshot.3"]);
    fs::remove_file(f.history().join("snapshot.c")).expect("removed");
    fs::remove_file(f.history().join("snapshot.9")).expect("removed");
    assert_eq!(f.recovered().last_zxid, Zxid(12), "the oldest kept snapshot and the kept logs are enough");
}

#[test]
fn a_run_that_began_with_ephemerals_of_an_unknown_session_can_be_replayed_l17() {
    let f = Fixture::empty();
    let mut log = log_of_creates(1, 2);
    let header = TxnHeader { session: SessionId(7), cxid: Xid(1), zxid: Zxid(3), time: WallTime(9), kind: 1 };
    let kind = CreateKind::Create { ephemeral: true };
    let create = CreateTxn { kind, path: "/dead", data: None, acl: AclVec::OPEN, parent_cversion: Some(3) };
    let mut payload = Vec::new();
    encode_payload(&header, &Txn::Create(create), &mut payload);
    write_frame(&payload, &mut log);
    f.put("log.1", &log);
    let mut recovered = f.recovered();
    let auth = crate::base::Auth::default();
    let p = crate::tree::Prepare { zxid: Zxid(4), time: WallTime(10), session: SessionId(1), cxid: Xid(2), auth: &auth };
    payload.clear();
    let request = crate::proto::Request::Delete { path: "/n1", version: -1 };
    let prepared = recovered.tree.prepare(&p, &request, &mut payload, &mut Vec::new());
    assert_eq!(prepared.err, crate::proto::ErrorCode::Ok);
    drop(recovered);
    let mut next = Vec::new();
    FileHeader::log(0).write(&mut next);
    write_frame(&payload, &mut next);
    f.put("log.4", &next);
    assert_eq!(f.recovered().last_zxid, Zxid(4), "the logged digest is that of the tree the logs lead to");
}

/// A13: what a member recovers need not be committed, so no snapshot is made of it; the end of its log is wanted for learners.
#[test]
fn a_member_gets_the_end_of_its_log_as_bytes_and_no_snapshot_of_it() {
    let mut f = Fixture::empty();
    f.storage.trust_empty_snapshot = true;
    f.put("log.1", &log_of_creates(1, 5));
    let member = recover(&f.storage, &f.tree, Purpose::Member { recent_max: 3 }).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((member.last_zxid, member.snapshot), (Zxid(5), None));
    let decoded = |payload: &[u8]| decode_payload(payload).expect("whole").0.zxid;
    let recent: Vec<_> = member.recent.iter().map(|(zxid, payload)| (*zxid, decoded(payload))).collect();
    assert_eq!(recent, [3, 4, 5].map(|n| (Zxid(n), Zxid(n))));
    assert!(!f.files().keys().any(|name| name.starts_with("snapshot.")));
    assert_eq!(reload(&f.storage, &f.tree).unwrap_or_else(|e| panic!("{e}")).head_zxid(), Zxid(5));
    drop(member);
    let alone = f.recovered();
    assert!(alone.recent.is_empty() && f.files().contains_key("snapshot.5"));
}

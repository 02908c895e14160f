//! The log on a real file system: the real `Log`, real segments, a stop or a kill, and the real recovery of the directory.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;
use zoo::base::{SessionId, WallTime, Writer, Xid, Zxid};
use zoo::disk::{LogFile, LogWriter, MarkFile, SegmentEvent, Segments, SegmentsConfig, dir};
use zoo::record::TxnHeader;
use zoo::server::ServerConfig;
use zoo::server::config::StorageConfig;
use zoo::server::recovery::{self, Recovered};
use zoo::storage::format::{FileKind, MARK_FILE, SPARE_PREFIX};
use zoo::storage::log::{FileId, Log, LogAction, LogConfig};
use zoo::storage::mark::MARK_FILE_BYTES;

const SEGMENT: u64 = 8 << 10;

/// A shell that waits for everything.
struct Shell {
    log: Log,
    segments: Segments,
    events: Receiver<SegmentEvent>,
    mark: MarkFile,
    dir: PathBuf,
    files: HashMap<FileId, LogFile>,
}

impl Shell {
    fn start(log_dir: &Path, last: Zxid, writer: LogWriter) -> Self {
        let mark = MarkFile::open(&log_dir.join(MARK_FILE), MARK_FILE_BYTES, writer != LogWriter::Pwrite).expect("recovery leaves one");
        let (tx, events) = mpsc::channel();
        let config = SegmentsConfig {
            dir: log_dir.to_path_buf(),
            segment_bytes: SEGMENT,
            spare_prefix: SPARE_PREFIX,
            writer,
            mark: Some(Arc::new(mark.sync_handle().expect("a descriptor"))),
        };
        let segments = Segments::start(config, move |e| drop(tx.send(e))).expect("started");
        let config = LogConfig {
            segment_bytes: SEGMENT,
            unsynced_bytes_max: 0,
            force_sync: true,
            file_bytes_max: None,
            payload_bytes_max: zoo::base::limits::TXN_PAYLOAD_MAX,
            dbid: last.0 as i64 + 1,
            epochs: zoo::record::epochs::Epochs::NONE,
            mark: None,
        };
        Shell { log: Log::new(config, last), segments, events, mark, dir: log_dir.to_path_buf(), files: HashMap::new() }
    }

    fn append(&mut self, count: u64) {
        for _ in 0..count {
            let zxid = self.log.appended_zxid().next().expect("in the epoch");
            let mut payload = Vec::new();
            TxnHeader { session: SessionId(1), cxid: Xid(1), zxid, time: WallTime(1), kind: -1 }.write(&mut payload);
            payload.put_i32(-101);
            self.log.append(zxid, &payload);
            self.settle();
        }
        assert_eq!(self.log.durable_zxid(), self.log.appended_zxid());
    }

    fn settle(&mut self) {
        let mut waiting = VecDeque::new();
        while let Some(action) = self.log.poll_action() {
            if let LogAction::Name { file, .. } = action {
                waiting.push_back(file);
            }
            self.perform(action);
            if let Some(file) = waiting.pop_front() {
                match self.event() {
                    SegmentEvent::Named { request } => assert_eq!(request, file.0),
                    other => panic!("{other:?}"),
                }
                self.log.handle_opened(file);
            }
        }
    }

    fn perform(&mut self, action: LogAction) {
        match action {
            LogAction::Open { file, min_bytes, .. } => {
                let taken = self.segments.take(file.0, min_bytes);
                let segment = taken.unwrap_or_else(|| match self.event() {
                    SegmentEvent::Taken { file, .. } => file,
                    other => panic!("{other:?}"),
                });
                self.files.insert(file, segment);
            }
            LogAction::Write { file, offset, bytes } => self.files.get_mut(&file).expect("open").write(offset, &bytes).expect("written"),
            LogAction::Sync { file, token } => {
                self.files.get_mut(&file).expect("open").sync().expect("synced");
                self.log.handle_synced(token);
            }
            LogAction::Mark { offset, bytes } => self.mark.write(offset, &bytes).expect("written"),
            LogAction::SyncMark => panic!("no epoch is raised here"),
            LogAction::Name { file, first_zxid } => self.segments.name(file.0, &self.files[&file], FileKind::Log(first_zxid).name()),
            LogAction::Close { file, used_bytes } => self.segments.close(self.files.remove(&file).expect("open"), used_bytes),
            LogAction::Cut { above, mark_offset, mark } => {
                self.mark.write(mark_offset, &mark).expect("written");
                let dir = self.dir.clone();
                self.segments.then(1, "cutting", Box::new(move || recovery::cut_logs(&dir, above)));
                assert!(matches!(self.event(), SegmentEvent::Done { request: 1 }));
                self.log.handle_cut();
            }
        }
    }

    fn event(&self) -> SegmentEvent {
        self.events.recv_timeout(Duration::from_secs(60)).expect("an event")
    }
}

fn recover(data_dir: &Path) -> (StorageConfig, Recovered) {
    let config = ServerConfig::development("127.0.0.1:0".parse().expect("an address"), data_dir);
    let recovered = recovery::recover(&config.storage, &config.tree(1), recovery::Purpose::Standalone).unwrap_or_else(|e| panic!("{e}"));
    (config.storage, recovered)
}

#[test]
fn what_was_acknowledged_is_there_after_a_stop_and_after_a_kill() {
    for writer in [LogWriter::Direct, LogWriter::Map, LogWriter::Pwrite] {
        let root = tempfile::tempdir().expect("temp dir");
        let mut expected = 0;
        for life in 0..4 {
            let (storage, recovered) = recover(root.path());
            assert_eq!(recovered.last_zxid, Zxid(expected), "{writer:?}, life {life}");
            assert!(recovered.notes.is_empty(), "nothing was torn: {:?}", recovered.notes);
            let log_dir = storage.log_version_dir();
            let mut shell = Shell::start(&log_dir, recovered.last_zxid, writer);
            shell.append(400);
            expected += 400;
            if life % 2 == 0 {
                shell.log.close();
                shell.settle();
                assert!(shell.log.is_closed());
                shell.segments.stop();
                let files = dir::list(&log_dir).expect("listed");
                let logs: Vec<_> = files.iter().filter(|f| f.name.starts_with("log.")).collect();
                assert!(logs.len() > 2, "segments of this size hold no more: {logs:?}");
                assert!(logs.iter().all(|f| (f.bytes - 16) % 49 == 0), "cut to the used length (A20): {logs:?}");
                assert!(!files.iter().any(|f| f.name.starts_with(SPARE_PREFIX)), "the unused spare is gone: {files:?}");
            }
            // Else it is dropped in the middle of things, with its padding, its spare and its mark, as a killed process leaves them.
        }
        let (_, recovered) = recover(root.path());
        assert_eq!(recovered.last_zxid, Zxid(expected));
    }
}

/// The mark of a killed server is exact, so that even the last acknowledged record cannot be damaged in silence (D3).
#[test]
fn damage_to_the_very_last_acknowledged_record_is_noticed() {
    let root = tempfile::tempdir().expect("temp dir");
    let (storage, recovered) = recover(root.path());
    let log_dir = storage.log_version_dir();
    let mut shell = Shell::start(&log_dir, recovered.last_zxid, LogWriter::Direct);
    shell.append(10);
    drop((shell, recovered));
    let path = log_dir.join("log.1");
    let mut bytes = std::fs::read(&path).expect("read");
    let last = 16 + 9 * 49 + 20;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let config = ServerConfig::development("127.0.0.1:0".parse().expect("an address"), root.path());
    let refused = recovery::recover(&config.storage, &config.tree(1), recovery::Purpose::Standalone).err().expect("refused").to_string();
    assert!(refused.contains("log.1, offset 457") && refused.contains("written durably"), "{refused}");
}

/// What a leader has a server forget is gone from files of this run and of earlier ones, and other transactions take its numbers (L6, L20).
#[test]
fn what_was_cut_off_is_gone_after_a_kill_too() {
    for writer in [LogWriter::Direct, LogWriter::Map, LogWriter::Pwrite] {
        let root = tempfile::tempdir().expect("temp dir");
        let (storage, recovered) = recover(root.path());
        let mut shell = Shell::start(&storage.log_version_dir(), recovered.last_zxid, writer);
        shell.append(300);
        drop((shell, recovered));
        let (_, recovered) = recover(root.path());
        let mut shell = Shell::start(&storage.log_version_dir(), recovered.last_zxid, writer);
        shell.append(200);
        for (cut, added) in [(430, 20), (250, 0), (100, 7)] {
            shell.log.cut(Zxid(cut));
            shell.settle();
            assert_eq!(shell.log.durable_zxid(), Zxid(cut));
            shell.append(added);
        }
        drop((shell, recovered));
        let (_, recovered) = recover(root.path());
        assert_eq!(recovered.last_zxid, Zxid(107), "maps {writer:?}");
    }
}

//! The disk of a world: completes what the log asks for when it is told to, and knows what a power failure would leave.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Cursor};
use zoo::base::Zxid;
use zoo::record::epochs::Epochs;
use zoo::record::txn::decode_payload;
use zoo::storage::log::{FileId, LogAction, SyncToken};
use zoo::storage::mark::Mark;
use zoo::storage::recover::{LogSource, ReplayPlan, plan_cut, replay};
use zoo::storage::segment::{Record, RecordReader};
use zoo::tree::Tree;

/// What log files hold, by their names.
pub type Logs = BTreeMap<Zxid, Vec<u8>>;

/// Completions the log awaits.
#[derive(Default)]
pub struct Disk {
    pub pending: VecDeque<Completion>,
    pub syncs: u64,
    pub opened: u64,
    pub closed: u64,
    pub written_bytes: u64,
    /// What the files hold is kept, for `left_by_crash`.
    pub keeps: bool,
    /// It completes nothing for the time being.
    pub is_stalled: bool,
    files: BTreeMap<FileId, LogFile>,
    mark: Option<Mark>,
    /// The mark as it was flushed last.
    pub durable_mark: Option<Mark>,
    /// Logs of earlier lives and from before a cut.
    older: Logs,
}

#[derive(Clone, Copy, Debug)]
pub enum Completion {
    /// With the file and how much of it the flush covers.
    Synced(SyncToken, FileId, usize),
    Named(FileId),
    MarkSynced,
    /// Nothing above this is left.
    Cut(Zxid),
}

#[derive(Default)]
struct LogFile {
    first_zxid: Zxid,
    named: bool,
    bytes: Vec<u8>,
    /// Bytes a completed flush covers.
    durable: usize,
}

impl Disk {
    /// Of a server that goes on after `older` logs.
    pub fn after(older: Logs) -> Self {
        Disk { older, keeps: true, ..Disk::default() }
    }

    pub fn act(&mut self, action: LogAction) {
        match action {
            LogAction::Open { file, first_zxid, .. } => {
                self.opened += 1;
                self.files.insert(file, LogFile { first_zxid, ..LogFile::default() });
            }
            LogAction::Write { file, offset, bytes } => {
                self.written_bytes += bytes.len() as u64;
                if self.keeps {
                    let file = self.file(file);
                    assert_eq!(file.bytes.len() as u64, offset, "written without a hole");
                    file.bytes.extend_from_slice(&bytes);
                }
            }
            LogAction::Mark { bytes, .. } => self.mark = Mark::read(&bytes).map(|(_, mark)| mark),
            LogAction::SyncMark => self.pending.push_back(Completion::MarkSynced),
            LogAction::Sync { file, token } => {
                self.syncs += 1;
                let covers = self.file(file).bytes.len();
                self.pending.push_back(Completion::Synced(token, file, covers));
            }
            LogAction::Name { file, .. } => self.pending.push_back(Completion::Named(file)),
            LogAction::Close { .. } => self.closed += 1,
            LogAction::Cut { above, .. } => self.pending.push_back(Completion::Cut(above)),
        }
    }

    /// Whether it completes something when told to.
    pub fn has_work(&self) -> bool {
        !self.is_stalled && !self.pending.is_empty()
    }

    /// The next completion, whose effect is durable from now on.
    pub fn complete(&mut self) -> Option<Completion> {
        if self.is_stalled {
            return None;
        }
        let completion = self.pending.pop_front()?;
        match completion {
            Completion::Synced(_, file, covers) => self.file(file).durable = covers,
            Completion::Named(file) => {
                self.file(file).named = true;
                self.durable_mark = self.mark;
            }
            Completion::MarkSynced => self.durable_mark = self.mark,
            Completion::Cut(above) => self.cut(above),
        }
        Some(completion)
    }

    fn file(&mut self, file: FileId) -> &mut LogFile {
        self.files.get_mut(&file).expect("a file that was opened")
    }

    /// A log at rest loses what is above this zxid, and starts a new file when it goes on.
    fn cut(&mut self, above: Zxid) {
        assert!(self.pending.is_empty(), "a log is cut when it is at rest");
        for file in std::mem::take(&mut self.files).into_values() {
            assert!(file.named, "a log is cut when it is at rest");
            self.older.insert(file.first_zxid, file.bytes);
        }
        let plan = plan_cut(&mut Source(&self.older), &names(&self.older), above).expect("memory is read");
        repair(&mut self.older, plan.cut, &plan.remove);
    }

    /// The logs that are left when the power fails: of what is not flushed, as much as `survives` says of so many bytes. Where nothing is ever
    /// flushed (`forceSync=no`) only the process ends, and the file system keeps everything.
    pub fn left_by_crash(&self, force_sync: bool, mut survives: impl FnMut(usize) -> usize) -> Logs {
        let mut logs = self.older.clone();
        for file in self.files.values().filter(|file| file.named) {
            let unflushed = file.bytes.len() - file.durable;
            let left = if force_sync { file.durable + survives(unflushed) } else { file.bytes.len() };
            logs.insert(file.first_zxid, file.bytes[..left].to_vec());
        }
        logs
    }
}

struct Source<'a>(&'a Logs);

impl<'a> LogSource for Source<'a> {
    type File = Cursor<&'a [u8]>;
    fn open(&mut self, log: Zxid) -> io::Result<Self::File> {
        self.0.get(&log).map(|bytes| Cursor::new(&bytes[..])).ok_or(io::ErrorKind::NotFound.into())
    }
}

/// What this tree, of a snapshot, and the logs come to; the logs are repaired as recovery says.
pub fn recover(mut tree: Tree, logs: &mut Logs) -> Tree {
    let names = names(logs);
    let plan = ReplayPlan { logs: &names, after: tree.applied(), mark: None, epochs: Epochs::NONE };
    let mut apply = |zxid: Zxid, record: &Record<'_>| -> Result<(), String> {
        let (header, txn, digest) = decode_payload(record.payload).map_err(|e| e.to_string())?;
        let _ = tree.apply(&header, &txn);
        assert_ne!(tree.digest_matches(digest.as_ref()), Some(false), "the tree at {zxid} is the one that was logged (L17)");
        Ok(())
    };
    let end = replay(&mut Source(logs), &plan, &mut apply).expect("a crash leaves no damage (D4)");
    tree.commit(end.last_zxid);
    repair(logs, end.cut, &end.remove);
    tree
}

/// All records, in order.
pub fn records(logs: &Logs) -> Vec<(Zxid, Vec<u8>)> {
    let mut records = Vec::new();
    for bytes in logs.values() {
        // A file whose header was never flushed holds nothing.
        let Ok((_, mut reader)) = RecordReader::open(Cursor::new(&bytes[..])).expect("memory is read") else { continue };
        while let Ok(record) = reader.next().expect("memory is read") {
            records.push((record.header.zxid, record.payload.to_vec()));
        }
    }
    records
}

fn names(logs: &Logs) -> Vec<Zxid> {
    logs.keys().copied().collect()
}

fn repair(logs: &mut Logs, cut: Option<(Zxid, u64)>, remove: &[Zxid]) {
    if let Some((log, bytes)) = cut {
        logs.get_mut(&log).expect("it was read").truncate(bytes as usize);
    }
    remove.iter().for_each(|log| drop(logs.remove(log)));
}

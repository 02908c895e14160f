//! The disk of a world: completes what the log asks for when it is told to, and knows what a power failure would leave.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Cursor};
use zoo::base::Zxid;
use zoo::record::epochs::Epochs;
use zoo::record::txn::decode_payload;
use zoo::storage::log::{FileId, LogAction, SyncToken};
use zoo::storage::recover::{LogSource, ReplayPlan, replay};
use zoo::storage::segment::Record;
use zoo::tree::{Tree, TreeConfig};

/// Completions the log awaits.
#[derive(Default)]
pub struct Disk {
    pub pending: VecDeque<Completion>,
    pub syncs: u64,
    pub opened: u64,
    pub closed: u64,
    pub written_bytes: u64,
    /// What the files hold is kept, for `crash`.
    pub keeps: bool,
    files: BTreeMap<FileId, LogFile>,
    /// Logs of earlier lives, by their names.
    older: BTreeMap<Zxid, Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
pub enum Completion {
    /// With the file and how much of it the flush covers.
    Synced(SyncToken, FileId, usize),
    Named(FileId),
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
    pub fn after(older: BTreeMap<Zxid, Vec<u8>>) -> Self {
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
            LogAction::Mark { .. } => {}
            LogAction::Sync { file, token } => {
                self.syncs += 1;
                let covers = self.file(file).bytes.len();
                self.pending.push_back(Completion::Synced(token, file, covers));
            }
            LogAction::Name { file, .. } => self.pending.push_back(Completion::Named(file)),
            LogAction::Close { .. } => self.closed += 1,
            LogAction::Cut { .. } => panic!("nobody has this server forget anything"),
        }
    }

    /// The next completion, whose effect is durable from now on.
    pub fn complete(&mut self) -> Option<Completion> {
        let completion = self.pending.pop_front()?;
        match completion {
            Completion::Synced(_, file, covers) => self.file(file).durable = covers,
            Completion::Named(file) => self.file(file).named = true,
        }
        Some(completion)
    }

    fn file(&mut self, file: FileId) -> &mut LogFile {
        self.files.get_mut(&file).expect("a file that was opened")
    }

    /// The logs that are left when the power fails: of what is not flushed, as much as `survives` says of so many bytes. Where nothing is ever
    /// flushed (`forceSync=no`) only the process ends, and the file system keeps everything.
    pub fn crash(self, force_sync: bool, mut survives: impl FnMut(usize) -> usize) -> BTreeMap<Zxid, Vec<u8>> {
        let mut logs = self.older;
        for mut file in self.files.into_values().filter(|file| file.named) {
            if force_sync {
                let unflushed = file.bytes.len() - file.durable;
                file.bytes.truncate(file.durable + survives(unflushed));
            }
            logs.insert(file.first_zxid, file.bytes);
        }
        logs
    }
}

struct Logs<'a>(&'a BTreeMap<Zxid, Vec<u8>>);

impl<'a> LogSource for Logs<'a> {
    type File = Cursor<&'a [u8]>;
    fn open(&mut self, log: Zxid) -> io::Result<Self::File> {
        self.0.get(&log).map(|bytes| Cursor::new(&bytes[..])).ok_or(io::ErrorKind::NotFound.into())
    }
}

/// The tree that these logs come to; they are repaired as recovery says.
pub fn recover(config: &TreeConfig, logs: &mut BTreeMap<Zxid, Vec<u8>>) -> Tree {
    let names: Vec<Zxid> = logs.keys().copied().collect();
    let plan = ReplayPlan { logs: &names, after: Zxid::ZERO, mark: None, epochs: Epochs::NONE };
    let mut tree = Tree::new(config.clone());
    let mut apply = |_: Zxid, record: &Record<'_>| -> Result<(), String> {
        let (header, txn, digest) = decode_payload(record.payload).map_err(|e| e.to_string())?;
        let _ = tree.apply(&header, &txn);
        assert_ne!(tree.digest_matches(digest.as_ref()), Some(false), "the tree at {} is the one that was logged (L17)", header.zxid);
        Ok(())
    };
    let end = replay(&mut Logs(logs), &plan, &mut apply).expect("a crash leaves no damage (D4)");
    tree.commit(end.last_zxid);
    if let Some((log, bytes)) = end.cut {
        logs.get_mut(&log).expect("it was read").truncate(bytes as usize);
    }
    end.remove.iter().for_each(|log| drop(logs.remove(log)));
    tree
}

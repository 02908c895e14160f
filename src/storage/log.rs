//! The transaction log as a state machine: what to write where, what one flush covers, what is durable. Performs nothing itself:
//! the shell takes `LogAction`s, carries them out in order and reports completions.
//!
//! Must never know: paths, file descriptors, clocks, what a transaction means.
//!
//! Invariants
//! 1. `durable_zxid` moves only by completions: the flush that covers a record *and* the directory entry of its file (P2, D1, D2).
//! 2. A file gets its `log.` name only after its first records are durable, and after every older file has got its own: no crash
//!    leaves a `log.` file without a durable first record (A20), nor a gap between files.
//! 3. Files are flushed in order, one flush at a time; bytes written but not flushed never exceed `unsynced_limit` (A22).
//! 4. Every record is whole in one file.
//!
//! Life of a file: `Open` (a prepared spare, neutral name) → `Write`… → `Sync` → `Mark` → `Name` → … → `Close` once a later file has
//! taken over, or the log is cut or closed, and everything in it is durable.

use super::format::{FILE_HEADER_BYTES, FileHeader};
use super::group_commit::{GroupCommit, Position};
use super::mark::{Mark, MarkWriter};
use crate::base::Zxid;
use crate::record::epochs::Epochs;
use crate::record::frame::{RECORD_OVERHEAD, write_frame};
use std::collections::VecDeque;

/// A log file of this run, in opening order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId(pub u64);
/// One flush.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SyncToken(pub u64);

/// What the shell must do, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum LogAction {
    /// Take a prepared spare segment, or create one of at least `min_bytes`, for `file`. It keeps its neutral name for now.
    Open {
        /// Names the file from now on.
        file: FileId,
        /// What it will be called later.
        first_zxid: Zxid,
        /// It must hold at least so much.
        min_bytes: u64,
    },
    /// Put these bytes at `offset` of the file.
    Write {
        /// Which file.
        file: FileId,
        /// Where.
        offset: u64,
        /// Framed records, or the header and framed records.
        bytes: Vec<u8>,
    },
    /// fdatasync the file; report with `handle_synced`. At most one is under way.
    Sync {
        /// Which file.
        file: FileId,
        /// To be given back.
        token: SyncToken,
    },
    /// Put these bytes at `offset` of the mark file. No flush and no report: it becomes durable when it does, or before the next `Name`.
    Mark {
        /// Where.
        offset: u64,
        /// One slot.
        bytes: Vec<u8>,
    },
    /// Off the reactor: fsync the mark file; report with `handle_mark_synced`.
    SyncMark,
    /// Off the reactor: fsync the mark file, rename the file to `log.<first_zxid>`, fsync the directory; report with `handle_opened`.
    Name {
        /// Which file.
        file: FileId,
        /// Its name.
        first_zxid: Zxid,
    },
    /// Everything in it is durable and nothing will be added: unmap, cut to `used_bytes`, fsync (rule A20). Off the reactor; no report.
    Close {
        /// Which file.
        file: FileId,
        /// Its final size.
        used_bytes: u64,
    },
    /// After the `Close`s before it, off the reactor, each step durable before the next: put the mark into its file; remove everything above
    /// this zxid, newest file first (`recover::plan_cut`); report with `handle_cut` (A23, L6, L20).
    Cut {
        /// The last zxid that stays.
        above: Zxid,
        /// Where the mark goes.
        mark_offset: u64,
        /// A mark that vouches for nothing.
        mark: Vec<u8>,
    },
}

/// Settings of the log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Size of a prepared segment.
    pub segment_bytes: u64,
    /// Bound on bytes written and not flushed; raised to hold at least two of the largest transactions.
    pub unsynced_bytes_max: u64,
    /// False is `forceSync=no`: what the file system has, in a file that has its name, counts as durable; no flush is asked for.
    pub force_sync: bool,
    /// `txnLogSizeLimitInKb`: roll when a file exceeds it.
    pub file_bytes_max: Option<u64>,
    /// Longest payload that is appended.
    pub payload_bytes_max: usize,
    /// Random id for the dbid of each file's header (rule A23).
    pub dbid: i64,
    /// For the mark: what the epoch files say, or will.
    pub epochs: Epochs,
    /// What recovery has left in the mark file.
    pub mark: Option<Mark>,
}

/// What may come beside the largest transaction before a flush: the header of a new file, and transactions that the replica makes with it.
const BESIDE_BYTES: usize = 4096;
/// Room the next group gets because the one before it was as large.
const GROUP_ROOM_MAX: usize = 64 << 10;

/// Where a file is on its way to its `log.` name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Naming {
    /// Nothing of it is durable yet, or an older file has no name yet.
    Waiting,
    /// `Name` has been given out.
    Requested,
    /// The directory entry is durable.
    Done,
}

/// How far the removal of what is above a zxid has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cutting {
    No,
    /// Files are being closed.
    Wanted(Zxid),
    /// `Cut` has been given out.
    Requested(Zxid),
}

/// How far the mark is behind epochs that were raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Raising {
    No,
    /// The mark is to be written.
    Wanted,
    /// It is being flushed.
    Requested,
}

#[derive(Debug)]
struct LogFile {
    id: FileId,
    first_zxid: Zxid,
    capacity: u64,
    /// End of the last record queued.
    appended: Position,
    /// End of the last record in a `Write` that has been given out.
    written: Position,
    /// End of the last record a completed flush covered.
    synced: Position,
    naming: Naming,
}

/// The log of this run.
#[derive(Debug)]
pub struct Log {
    config: LogConfig,
    unsynced_limit: u64,
    last: Zxid,
    durable: Zxid,
    /// Oldest first; the last one takes appends. Earlier ones leave when they are closed.
    files: VecDeque<LogFile>,
    files_opened: u64,
    /// Given out before anything else.
    open_wanted: VecDeque<LogAction>,
    /// Framed bytes of the newest file that have not been given out, and where they begin.
    pending: Vec<u8>,
    pending_offset: u64,
    group: GroupCommit,
    unsynced_bytes: u64,
    marks: MarkWriter,
    /// The newest mark, or the one that recovery has left.
    said: Option<Mark>,
    mark_wanted: bool,
    raising: Raising,
    roll_wanted: bool,
    cutting: Cutting,
    closing: bool,
    /// No flush starts for now.
    held: bool,
    since_roll: (u64, u64),
}

impl Log {
    /// An empty log whose last zxid is `last`; the first append opens a file.
    #[must_use]
    pub fn new(config: LogConfig, last: Zxid) -> Self {
        let unsynced_limit = config.unsynced_bytes_max.max(2 * (config.payload_bytes_max + RECORD_OVERHEAD + BESIDE_BYTES) as u64);
        Log {
            said: config.mark,
            config,
            unsynced_limit,
            last,
            durable: last,
            files: VecDeque::new(),
            files_opened: 0,
            open_wanted: VecDeque::new(),
            pending: Vec::new(),
            pending_offset: 0,
            group: GroupCommit::default(),
            unsynced_bytes: 0,
            marks: MarkWriter::default(),
            mark_wanted: false,
            raising: Raising::No,
            roll_wanted: false,
            cutting: Cutting::No,
            closing: false,
            held: false,
            since_roll: (0, 0),
        }
    }

    /// False at the unsynced limit (rule A22): admission closes until a flush has completed.
    #[must_use]
    pub fn can_append(&self) -> bool {
        // The other half is room for one transaction of any legal size and for those the replica makes itself.
        !self.closing && self.cutting == Cutting::No && self.unsynced_bytes <= self.unsynced_limit / 2
    }

    /// Frames and queues one payload. Preconditions: `zxid` is above the last one, and `can_append`.
    pub fn append(&mut self, zxid: Zxid, payload: &[u8]) {
        assert!(zxid > self.last, "{zxid} appended after {}", self.last);
        assert!(!self.closing && self.cutting == Cutting::No, "append to a closed log");
        let record_bytes = (payload.len() + RECORD_OVERHEAD) as u64;
        if self.needs_new_file(record_bytes) {
            self.open_file(zxid, record_bytes);
        }
        let before = self.pending.len();
        let adler = write_frame(payload, &mut self.pending);
        let added = (self.pending.len() - before) as u64;
        let offset = self.pending_offset + self.pending.len() as u64;
        let file = self.files.back_mut().expect("a file is open");
        assert!(offset <= file.capacity, "a record is whole in one file");
        file.appended = Position { offset, zxid, adler };
        self.last = zxid;
        self.unsynced_bytes += added;
        self.since_roll.0 += 1;
        self.since_roll.1 += added;
        assert!(self.unsynced_bytes <= self.unsynced_limit || !self.config.force_sync, "admission ignored can_append");
    }

    /// While held, no flush starts, so that the next one covers more.
    pub fn hold_flush(&mut self, held: bool) {
        self.held = held;
    }

    /// A flush would start if it were not held.
    #[must_use]
    pub fn holds_flush(&self) -> bool {
        self.held && self.group.is_idle() && self.files.iter().any(|f| f.synced.offset < f.written.offset)
    }

    /// The next append goes to a new file, and `since_roll` starts again.
    pub fn roll(&mut self) {
        self.roll_wanted = true;
        self.since_roll = (0, 0);
    }

    /// Removes everything above `zxid`, in the files of earlier runs too, and goes on after `zxid`, which may lie above everything that is there
    /// (an image has taken the place of the history). Nothing can be appended until `is_cutting` says that it is over. Precondition:
    /// everything appended is durable.
    pub fn cut(&mut self, zxid: Zxid) {
        assert!(self.durable == self.last && self.cutting == Cutting::No, "a log is cut when it is at rest");
        self.cutting = Cutting::Wanted(zxid);
    }

    /// A cut is under way.
    #[must_use]
    pub fn is_cutting(&self) -> bool {
        self.cutting != Cutting::No
    }

    /// Nothing above the zxid of the cut is left, durably.
    pub fn handle_cut(&mut self) {
        let Cutting::Requested(zxid) = self.cutting else { panic!("a cut was reported that was not asked for") };
        self.cutting = Cutting::No;
        self.marks.flushed();
        (self.last, self.durable) = (zxid, zxid);
        self.roll_wanted = false;
        self.since_roll = (0, 0);
    }

    /// An epoch file is going to say so: the mark must know it first, durably, or it would be taken for another server's doing after a crash, and
    /// be void when it is needed most (A23). Lowers nothing. The file may be written when `is_raising` says that it is over.
    pub fn raise_epochs(&mut self, epochs: Epochs) {
        assert!(!self.is_raising(), "one epoch file after the other");
        let raised = self.config.epochs.max(epochs);
        if raised == self.config.epochs {
            return;
        }
        self.config.epochs = raised;
        // Where there is no mark yet, the first one will say it, before its file has a name.
        if self.mark().is_some() {
            (self.mark_wanted, self.raising) = (true, Raising::Wanted);
        }
    }

    /// The mark on disk does not know yet of epochs that were raised.
    #[must_use]
    pub fn is_raising(&self) -> bool {
        self.raising != Raising::No
    }

    /// The mark as it was written last is on disk.
    pub fn handle_mark_synced(&mut self) {
        assert_eq!(self.raising, Raising::Requested, "the mark is flushed when it was asked for");
        self.raising = Raising::No;
        self.marks.flushed();
    }

    /// No more appends: once everything is durable, the last file is closed too.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// What to do next; call until `None` after appends and completions. A `Sync` comes out when something is not durable, no flush is
    /// under way and none is held.
    pub fn poll_action(&mut self) -> Option<LogAction> {
        if let Some(action) = self.open_wanted.pop_front() {
            return Some(action);
        }
        self.poll_write()
            .or_else(|| self.poll_mark())
            .or_else(|| self.poll_sync_mark())
            .or_else(|| self.poll_name())
            .or_else(|| self.poll_sync())
            .or_else(|| self.poll_close())
            .or_else(|| self.poll_cut())
    }

    /// The file has its name and the directory entry is durable.
    pub fn handle_opened(&mut self, file: FileId) {
        let file = self.files.iter_mut().find(|f| f.id == file).expect("a file that was opened");
        assert_eq!(file.naming, Naming::Requested, "named once, after it was asked for");
        file.naming = Naming::Done;
        self.marks.flushed();
        // A file that waited for this one is marked before it is named.
        self.mark_wanted |= self.files.iter().any(|f| f.naming == Naming::Waiting && f.synced.offset > 0);
        self.advance();
    }

    /// The flush has completed without error.
    pub fn handle_synced(&mut self, token: SyncToken) {
        let flush = self.group.complete(token);
        let file = self.files.iter_mut().find(|f| f.id == flush.file).expect("a file being flushed stays open");
        assert!(flush.covers.offset > file.synced.offset && flush.covers.offset <= file.written.offset);
        self.unsynced_bytes -= flush.covers.offset - file.synced.offset;
        file.synced = flush.covers;
        self.mark_wanted = true;
        self.roll_when_large();
        self.advance();
    }

    /// Everything at or below it is on stable storage, its directory entry included.
    #[must_use]
    pub const fn durable_zxid(&self) -> Zxid {
        self.durable
    }
    /// The last zxid appended.
    #[must_use]
    pub const fn appended_zxid(&self) -> Zxid {
        self.last
    }
    /// Since the last `roll`: (transactions, bytes); decides when to snapshot.
    #[must_use]
    pub const fn since_roll(&self) -> (u64, u64) {
        self.since_roll
    }
    /// Size of the current file up to the last durable record.
    #[must_use]
    pub fn durable_position(&self) -> Option<(FileId, u64)> {
        self.files.back().map(|f| (f.id, f.synced.offset))
    }
    /// The name the current file has or will have, and its size up to the last durable record.
    #[must_use]
    pub fn newest(&self) -> Option<(Zxid, u64)> {
        self.files.back().map(|f| (f.first_zxid, f.synced.offset))
    }
    /// The bound on unsynced bytes that holds, which may be above the configured one.
    #[must_use]
    pub const fn unsynced_limit(&self) -> u64 {
        self.unsynced_limit
    }
    /// After `close`: every file has been given out for closing.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closing && self.files.is_empty() && self.cutting == Cutting::No
    }

    fn needs_new_file(&self, record_bytes: u64) -> bool {
        match self.files.back() {
            None => true,
            Some(file) => self.roll_wanted || file.appended.offset + record_bytes > file.capacity,
        }
    }

    fn open_file(&mut self, first_zxid: Zxid, record_bytes: u64) {
        self.flush_pending_of_old_file();
        self.roll_wanted = false;
        self.files_opened += 1;
        let id = FileId(self.files_opened);
        let capacity = self.config.segment_bytes.max(FILE_HEADER_BYTES as u64 + record_bytes);
        let start = Position { offset: 0, zxid: self.last, adler: 0 };
        self.files.push_back(LogFile { id, first_zxid, capacity, appended: start, written: start, synced: start, naming: Naming::Waiting });
        self.open_wanted.push_back(LogAction::Open { file: id, first_zxid, min_bytes: capacity });
        self.pending_offset = 0;
        FileHeader::log(self.config.dbid).write(&mut self.pending);
        self.unsynced_bytes += FILE_HEADER_BYTES as u64;
    }

    /// Bytes of the file being left must be given out before the new file is opened, since `pending` belongs to the newest.
    fn flush_pending_of_old_file(&mut self) {
        if let Some(action) = self.take_pending() {
            self.open_wanted.push_back(action);
        }
    }

    fn take_pending(&mut self) -> Option<LogAction> {
        if self.pending.is_empty() {
            return None;
        }
        let room = self.pending.len().min(GROUP_ROOM_MAX);
        let bytes = std::mem::replace(&mut self.pending, Vec::with_capacity(room));
        let offset = self.pending_offset;
        self.pending_offset += bytes.len() as u64;
        let file = self.files.back_mut().expect("pending bytes belong to a file");
        assert_eq!(self.pending_offset, file.appended.offset);
        file.written = file.appended;
        Some(LogAction::Write { file: file.id, offset, bytes })
    }

    fn poll_write(&mut self) -> Option<LogAction> {
        let action = self.take_pending()?;
        if !self.config.force_sync {
            self.trust_the_file_system();
        }
        Some(action)
    }

    /// `forceSync=no`: what the shell has been told to write counts as flushed.
    fn trust_the_file_system(&mut self) {
        for file in &mut self.files {
            self.mark_wanted |= file.synced.offset == 0;
            file.synced = file.written;
        }
        self.unsynced_bytes = 0;
        self.roll_when_large();
        self.advance();
    }

    fn roll_when_large(&mut self) {
        let Some(max) = self.config.file_bytes_max else { return };
        if self.files.back().is_some_and(|newest| newest.synced.offset > max) {
            self.roll_wanted = true;
        }
    }

    fn poll_mark(&mut self) -> Option<LogAction> {
        if !self.mark_wanted || self.marks.is_flushing() {
            return None;
        }
        self.mark_wanted = false;
        let mark = self.mark()?;
        self.said = Some(mark);
        let (offset, bytes) = self.marks.write(&mark);
        Some(LogAction::Mark { offset, bytes })
    }

    fn poll_sync_mark(&mut self) -> Option<LogAction> {
        if self.raising != Raising::Wanted || self.marks.is_flushing() {
            return None;
        }
        self.raising = Raising::Requested;
        self.marks.flush();
        Some(LogAction::SyncMark)
    }

    /// What the mark is to say now: where no open file has anything flushed, what it said before.
    fn mark(&self) -> Option<Mark> {
        let LogConfig { dbid, epochs, force_sync, .. } = self.config;
        let Some(file) = self.marked_file() else { return self.said.map(|mark| Mark { epochs, ..mark }) };
        let Position { offset, zxid, adler } = file.synced;
        let mark = Mark { file: file.first_zxid, dbid, offset, zxid, adler, unsynced_bytes_max: self.unsynced_limit, epochs };
        Some(if force_sync { mark } else { mark.nothing_flushed() })
    }

    /// The newest file with flushed records up to which every file has its name, or is the next to get it: a mark must not vouch for records
    /// that a crash would leave behind in a file without a name.
    fn marked_file(&self) -> Option<&LogFile> {
        let unnamed = self.files.iter().position(|f| f.naming != Naming::Done).unwrap_or(self.files.len());
        self.files.iter().take(unnamed + 1).rev().find(|f| f.synced.offset > 0)
    }

    fn poll_name(&mut self) -> Option<LogAction> {
        let file = self.files.iter_mut().find(|f| f.naming != Naming::Done)?;
        if file.naming == Naming::Requested || file.synced.offset == 0 || self.mark_wanted {
            return None;
        }
        file.naming = Naming::Requested;
        self.marks.flush();
        Some(LogAction::Name { file: file.id, first_zxid: file.first_zxid })
    }

    fn poll_sync(&mut self) -> Option<LogAction> {
        if self.held || !self.group.is_idle() {
            return None;
        }
        let file = self.files.iter().find(|f| f.synced.offset < f.written.offset)?;
        let token = self.group.start(file.id, file.written);
        Some(LogAction::Sync { file: file.id, token })
    }

    fn poll_close(&mut self) -> Option<LogAction> {
        let file = self.files.front()?;
        let finished = file.naming == Naming::Done && file.synced.offset == file.appended.offset;
        let successor = self.files.len() > 1 || self.closing || self.cutting != Cutting::No;
        if !(finished && successor && self.group.is_idle()) {
            return None;
        }
        let file = self.files.pop_front()?;
        Some(LogAction::Close { file: file.id, used_bytes: file.appended.offset })
    }

    fn poll_cut(&mut self) -> Option<LogAction> {
        let Cutting::Wanted(zxid) = self.cutting else { return None };
        if !self.files.is_empty() || self.marks.is_flushing() {
            return None;
        }
        self.cutting = Cutting::Requested(zxid);
        let LogConfig { dbid, epochs, .. } = self.config;
        let nothing = Mark { file: zxid, dbid, offset: 0, zxid, adler: 0, unsynced_bytes_max: self.unsynced_limit, epochs };
        self.said = Some(nothing);
        let (mark_offset, mark) = self.marks.write(&nothing);
        self.marks.flush();
        Some(LogAction::Cut { above: zxid, mark_offset, mark })
    }

    /// Moves `durable` over every record that is flushed and lies in a file with a durable name, stopping at the first that is not.
    fn advance(&mut self) {
        for file in &self.files {
            if file.naming != Naming::Done {
                return;
            }
            self.durable = self.durable.max(file.synced.zxid);
            if file.synced.offset < file.appended.offset {
                return;
            }
        }
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;

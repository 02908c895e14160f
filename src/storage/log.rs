//! The transaction log as a state machine: what to write where, what one flush covers, what is durable. Performs nothing itself.
use crate::base::Zxid;

/// A log file of this run, in opening order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileId(pub u64);
/// One flush.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SyncToken(pub u64);

/// What the shell must do, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum LogAction {
    /// Take a prepared spare segment (or create one of at least `min_bytes`), give it to `file`; its name will be `log.<zxid>`. Rename and
    /// directory sync happen off the reactor and are reported by `handle_opened`; writes to it may start at once (rule A20).
    Open { file: FileId, first_zxid: Zxid, min_bytes: u64 },
    /// Copy these bytes to `offset` of the file's mapping (records or the 16-byte header, already framed).
    Write { file: FileId, offset: u64, bytes: Vec<u8> },
    /// fdatasync the file; report with `handle_synced`. At most one is under way.
    Sync { file: FileId, token: SyncToken },
    /// Everything in it is durable: unmap, cut to `used_bytes`, fsync (rule A20).
    Close { file: FileId, used_bytes: u64 },
}

#[derive(Clone, Debug)]
pub struct LogConfig {
    pub segment_bytes: u64,
    pub unsynced_bytes_max: u64,
    /// `forceSync=no`: appended counts as durable.
    pub force_sync: bool,
    /// `txnLogSizeLimitInKb`: roll when a file exceeds it.
    pub file_bytes_max: Option<u64>,
    /// Random id for the dbid of each file's header (rule A23).
    pub dbid: i64,
}

pub struct Log {}

impl Log {
    /// An empty log whose last zxid is `last`; the first append opens a file.
    pub fn new(config: LogConfig, last: Zxid) -> Self { unimplemented!() }
    /// False at the unsynced limit (rule A22): admission closes.
    pub fn can_append(&self) -> bool { unimplemented!() }
    /// Frames and queues one payload. Precondition: `zxid` > last.
    pub fn append(&mut self, zxid: Zxid, payload: &[u8]) { unimplemented!() }
    /// The next append goes to a new file.
    pub fn roll(&mut self) { unimplemented!() }
    /// What to do next; call until `None` after appends and completions. A Sync comes out when appended > durable and none is under way.
    pub fn poll_action(&mut self) -> Option<LogAction> { unimplemented!() }
    pub fn handle_opened(&mut self, file: FileId) { unimplemented!() }
    pub fn handle_synced(&mut self, token: SyncToken) { unimplemented!() }
    /// Everything at or below it is on stable storage, its directory entry included.
    pub fn durable_zxid(&self) -> Zxid { unimplemented!() }
    pub fn appended_zxid(&self) -> Zxid { unimplemented!() }
    /// Since the last roll: (transactions, bytes); decides when to snapshot.
    pub fn since_roll(&self) -> (u64, u64) { unimplemented!() }
    /// Size of the current file up to the last durable record.
    pub fn durable_position(&self) -> Option<(FileId, u64)> { unimplemented!() }
}

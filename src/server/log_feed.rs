//! The log of a running server as learners are fed from it: when that costs less than an image, and how it is read. Blocking; for threads.

use super::config::StorageConfig;
use super::recovery::LogDir;
use super::snapshots::history_files;
use crate::base::Zxid;
use crate::reactor::peer_io::LogParts;
use crate::storage::format::FileKind;
use crate::storage::log_feed::{LogFeed, LogStore};
use crate::storage::recover::LogSource;
use crate::zab::{LOG_PART_BYTES, Payload};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A log directory that is in use.
struct Logs(PathBuf);

impl LogSource for Logs {
    type File = File;
    fn open(&mut self, log: Zxid) -> io::Result<File> {
        File::open(LogDir(&self.0).path(log))
    }
}

impl LogStore for Logs {
    fn logs(&mut self) -> io::Result<Vec<Zxid>> {
        let files = history_files(&self.0)?.into_iter();
        let mut logs: Vec<Zxid> = files.filter(|f| matches!(f, FileKind::Log(_))).map(|f| f.zxid()).collect();
        logs.sort();
        Ok(logs)
    }
}

/// Goes to the first record at or above `from`. Refused where what follows it is longer than `snapshotSizeFactor` of the newest snapshot; of
/// the log that is being written, `newest` tells what is used.
pub fn open(storage: &StorageConfig, from: Zxid, newest: Option<(Zxid, u64)>) -> Result<Box<dyn LogParts>, String> {
    let Some(factor) = storage.snapshot_size_factor else { return Err("snapshotSizeFactor switches it off".to_owned()) };
    let (snapshots, limit) = snapshots(&storage.snapshot_version_dir(), factor).map_err(|e| format!("reading the snapshots: {e}"))?;
    let dir = storage.log_version_dir();
    let mut feed = LogFeed::new(Logs(dir.clone()), snapshots.clone());
    let at = feed.seek(from).map_err(|e| format!("reading the logs: {e}"))?;
    let Some((log, offset)) = at else { return Err(format!("it holds nothing from {from} on")) };
    let bytes = cost(&mut Logs(dir.clone()), log, newest).map_err(|e| format!("reading the logs: {e}"))?.saturating_sub(offset);
    if bytes > limit {
        return Err(format!("{bytes} bytes of it cost more than an image ({limit} would not)"));
    }
    let leads = LogFeed::new(Logs(dir), snapshots).leads_through_snapshots(from).map_err(|e| format!("reading the logs: {e}"))?;
    if !leads {
        return Err("an image has taken the place of a part of it".to_owned());
    }
    Ok(Box::new(Parts(feed)))
}

/// The snapshots there are, and how many bytes of log cost as much as an image.
fn snapshots(dir: &Path, factor: f64) -> io::Result<(Vec<Zxid>, u64)> {
    let mut files: Vec<FileKind> = history_files(dir)?.into_iter().filter(|f| matches!(f, FileKind::Snapshot(..))).collect();
    files.sort_by_key(|f| f.zxid());
    let newest = files.last().map_or(Ok(0), |newest| fs::metadata(dir.join(newest.name())).map(|m| m.len()))?;
    Ok((files.iter().map(|f| f.zxid()).collect(), (newest as f64 * factor) as u64))
}

/// Bytes of this log and all later ones.
fn cost(logs: &mut Logs, first: Zxid, newest: Option<(Zxid, u64)>) -> io::Result<u64> {
    let mut bytes = 0;
    for log in logs.logs()?.into_iter().filter(|log| *log >= first) {
        bytes += match newest {
            Some((name, used)) if name == log => used,
            _ => fs::metadata(LogDir(&logs.0).path(log))?.len(),
        };
    }
    Ok(bytes)
}

struct Parts(LogFeed<Logs>);

impl LogParts for Parts {
    fn read(&mut self, from: Zxid, upto: Zxid) -> Result<Vec<(Zxid, Payload)>, String> {
        self.0.read(from, upto, LOG_PART_BYTES).map_err(|e| format!("reading the logs: {e}"))
    }
}

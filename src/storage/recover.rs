//! Reading a directory of logs back after a stop or a crash: every record above the snapshot, in order, and then the verdict on how the
//! history ends: cleanly, with a torn tail that was never acknowledged, or with damage (rules D3 to D6, A22, A23).
//!
//! Performs no repair: it says what to cut and remove. Where files come from is behind `LogSource`, so the same code reads a real
//! directory and a simulated disk.
//!
//! The verdict on the first bad bytes of the last file that has records:
//! - below a valid mark: damage, whatever is there;
//! - only zeros to the end of the file: the end;
//! - a whole record further on, and either no valid mark, or further away than a run ever writes ahead of a flush: damage;
//! - otherwise: a torn tail.
//!
//! Bad bytes in an earlier file are the end of that file when the next one goes on at previous + 1, and damage when it does not. That is how
//! ZooKeeper's own directories look after a crash: it leaves a torn tail where it is and starts a new file.

use super::format::FileKind;
use super::mark::Mark;
use super::segment::{HeaderError, Record, RecordReader, Rest, Stop, StopReason};
use crate::base::Zxid;
use crate::record::epochs::Epochs;
use std::fmt;
use std::io::{self, Read};

/// Gives log files to read.
pub trait LogSource {
    /// An open file.
    type File: Read;
    /// Opens the log named by this zxid.
    fn open(&mut self, log: Zxid) -> io::Result<Self::File>;
}

/// What is to be read.
#[derive(Clone, Debug)]
pub struct ReplayPlan<'a> {
    /// Names of all logs of the directory, ascending.
    pub logs: &'a [Zxid],
    /// The snapshot's zxid: records above it are replayed.
    pub after: Zxid,
    /// The mark found beside the logs, if it means this directory (`Mark::is_of`).
    pub mark: Option<Mark>,
    /// What the epoch files say.
    pub epochs: Epochs,
}

/// How the history ends, and what must be done before it goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEnd {
    /// Zxid of the last record replayed, or of the snapshot.
    pub last_zxid: Zxid,
    /// Records replayed.
    pub replayed: u64,
    /// The logs that stay, oldest first. They must be fsynced before the history goes on: after a crash of the process alone, records that were
    /// never flushed are read back from the page cache and would be missing after a power failure later. Without forceSync that is true of
    /// every log, not only of the last one.
    pub keep: Vec<Zxid>,
    /// Cut this log to so many bytes: what follows is padding or a torn tail.
    pub cut: Option<(Zxid, u64)>,
    /// Remove these logs: nothing in them ever became durable.
    pub remove: Vec<Zxid>,
    /// True when `cut` removes more than zeros.
    pub torn: bool,
    /// The mark that describes the end, when the last log carries an id of ours.
    pub mark: Option<Mark>,
}

/// Why a history cannot be used. None of these is ever repaired without an operator's order (D5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Corruption {
    /// The log.
    pub log: Zxid,
    /// Where in it.
    pub offset: u64,
    /// Last zxid before it that is good.
    pub last_good: Zxid,
    /// What is wrong.
    pub damage: Damage,
}

/// What is wrong with a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Damage {
    /// The first 16 bytes.
    Header(HeaderError),
    /// A bad record below the durable mark: it had been flushed.
    BelowMark(StopReason),
    /// A bad record with a whole one behind it, at this offset.
    GoodRecordBehind(StopReason, u64),
    /// A bad record, and the next log does not go on at the following zxid but at this one.
    NextLogElsewhere(StopReason, Zxid),
    /// A good record with an impossible zxid.
    OutOfOrder(Zxid),
    /// The logs go on at this zxid; those between are missing.
    Gap(Zxid),
    /// The first record is not the one the name tells.
    WrongName(Zxid),
    /// A record that cannot be decoded or applied.
    Undecodable(String),
    /// The logs end before a zxid that is known to have been reached.
    EndsBefore(Zxid),
    /// The logs lead to later transactions, but not through this one, of which there is a snapshot that cannot be read.
    PassesBy(Zxid),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Header(e) => write!(f, "{e}"),
            Damage::BelowMark(why) => write!(f, "{why}, in a part that had been written durably"),
            Damage::GoodRecordBehind(why, at) => write!(f, "{why}, with a whole record behind it at offset {at}"),
            Damage::NextLogElsewhere(why, zxid) => write!(f, "{why}, and the next log goes on at {zxid}"),
            Damage::OutOfOrder(zxid) => write!(f, "a record with zxid {zxid} where it cannot be"),
            Damage::Gap(zxid) => write!(f, "the next record is {zxid}: what lies between is missing"),
            Damage::WrongName(zxid) => write!(f, "the first record is {zxid}, which is not what the file's name says"),
            Damage::Undecodable(why) => write!(f, "a record with a right checksum that cannot be used: {why}"),
            Damage::EndsBefore(zxid) => write!(f, "the log ends here, but {zxid} had been reached"),
            Damage::PassesBy(zxid) => write!(f, "the logs do not lead through {zxid}, whose snapshot cannot be read"),
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = FileKind::Log(self.log).name();
        write!(f, "{name}, offset {}: {} (last good zxid {})", self.offset, self.damage, self.last_good)
    }
}

/// Why replay ended early.
#[derive(Debug)]
pub enum ReplayError<E> {
    /// The file could not be read. Not the same as "not there" (D9).
    Io {
        /// The log.
        log: Zxid,
        /// The error.
        error: io::Error,
    },
    /// The history is damaged.
    Corrupt(Corruption),
    /// The caller refused a record.
    Refused(E),
}

/// Replays every record above `plan.after` through `apply`, in order, and says how the history ends.
pub fn replay<S: LogSource, E>(
    source: &mut S,
    plan: &ReplayPlan<'_>,
    apply: &mut dyn FnMut(Zxid, &Record<'_>) -> Result<(), E>,
) -> Result<LogEnd, ReplayError<E>> {
    debug_assert!(plan.logs.is_sorted());
    let first = plan.logs.iter().rposition(|log| *log <= plan.after).unwrap_or(0);
    let mut state = State { plan, mark: plan.mark, last: plan.after, replayed: 0, tail: None, stumps: Vec::new(), remove: Vec::new() };
    for &log in &plan.logs[first..] {
        state.read_log(source, log, apply)?;
    }
    state.finish().map_err(ReplayError::Corrupt)
}

/// Where one log ended.
struct Tail {
    log: Zxid,
    dbid: i64,
    stop: Stop,
    rest: Rest,
    /// The last good record: zxid and checksum; `None` when there is none.
    last_record: Option<(Zxid, u32)>,
}

struct State<'a> {
    plan: &'a ReplayPlan<'a>,
    /// None once it has been found not to mean these files.
    mark: Option<Mark>,
    last: Zxid,
    replayed: u64,
    /// End of the newest log that has records.
    tail: Option<Tail>,
    /// Logs behind it that hold bytes and no good record: the last files a crash may have left, each judged like the tail, which they do
    /// not hide.
    stumps: Vec<Tail>,
    remove: Vec<Zxid>,
}

impl State<'_> {
    fn read_log<S: LogSource, E>(
        &mut self,
        source: &mut S,
        log: Zxid,
        apply: &mut dyn FnMut(Zxid, &Record<'_>) -> Result<(), E>,
    ) -> Result<(), ReplayError<E>> {
        let io_error = |error| ReplayError::Io { log, error };
        let input = source.open(log).map_err(io_error)?;
        let (header, mut reader) = match RecordReader::open(input).map_err(io_error)? {
            Ok(opened) => opened,
            Err(e) => return self.bad_header(log, e).map_err(ReplayError::Corrupt),
        };
        let mut last_record = None;
        let stop = loop {
            let record = match reader.next().map_err(io_error)? {
                Ok(record) => record,
                Err(stop) => break stop,
            };
            self.check(log, header.dbid, &record, last_record.is_none()).map_err(ReplayError::Corrupt)?;
            last_record = Some((record.header.zxid, record.adler));
            if record.header.zxid > self.plan.after {
                apply(log, &record).map_err(ReplayError::Refused)?;
                self.last = record.header.zxid;
                self.replayed += 1;
            }
        };
        let rest = reader.examine_rest().map_err(io_error)?;
        if last_record.is_none() && rest.all_zero && !self.marked(log) {
            // A header and nothing else: no record of it was ever durable.
            self.remove.push(log);
            return Ok(());
        }
        let tail = Tail { log, dbid: header.dbid, stop, rest, last_record };
        if last_record.is_none() {
            self.stumps.push(tail);
        } else {
            self.stumps.clear(); // the history goes on behind them, or `check` would have refused this one
            self.tail = Some(tail);
        }
        Ok(())
    }

    /// A log whose first bytes are not a header. Tolerated where nothing can have been lost with it: no mark names it, and it has not the
    /// look of something else. If records are missing because of it, the next log does not go on at previous + 1.
    fn bad_header(&mut self, log: Zxid, error: HeaderError) -> Result<(), Corruption> {
        let never_durable = matches!(error, HeaderError::Empty | HeaderError::Short(_) | HeaderError::AllZero);
        if never_durable && !self.marked(log) {
            self.remove.push(log);
            return Ok(());
        }
        Err(Corruption { log, offset: 0, last_good: self.last, damage: Damage::Header(error) })
    }

    fn marked(&self, log: Zxid) -> bool {
        self.mark.is_some_and(|m| m.vouches() && m.file == log)
    }

    /// Checks a good record against its neighbours, and the mark against it.
    fn check(&mut self, log: Zxid, dbid: i64, record: &Record<'_>, first: bool) -> Result<(), Corruption> {
        let zxid = record.header.zxid;
        let damage = |log, offset, damage| Err(Corruption { log, offset, last_good: self.last, damage });
        if first && zxid != log {
            return damage(log, record.offset, Damage::WrongName(zxid));
        }
        if let Some(mark) = self.mark.filter(|m| m.file == log) {
            let same_place = mark.offset == record.end;
            if mark.dbid != dbid || (same_place && (mark.zxid, mark.adler) != (zxid, record.adler)) {
                self.mark = None;
            }
        }
        if zxid <= self.plan.after || follows(self.last, zxid) {
            return Ok(());
        }
        if zxid <= self.last {
            return damage(log, record.offset, Damage::OutOfOrder(zxid));
        }
        match self.stumps.first().or(self.tail.as_ref()) {
            Some(tail) if first && !tail.rest.all_zero => damage(tail.log, tail.stop.offset, Damage::NextLogElsewhere(tail.stop.why, zxid)),
            _ => damage(log, record.offset, Damage::Gap(zxid)),
        }
    }

    fn finish(mut self) -> Result<LogEnd, Corruption> {
        let known = |mark: Option<Mark>, tail: &Tail| mark.filter(|m| tail.dbid != 0 && m.dbid == tail.dbid);
        for stump in std::mem::take(&mut self.stumps) {
            self.judge(&stump, known(self.mark, &stump))?;
            self.remove.push(stump.log);
        }
        self.remove.sort();
        let keep = self.plan.logs.iter().copied().filter(|log| !self.remove.contains(log)).collect();
        let remove = std::mem::take(&mut self.remove);
        let mut end = LogEnd { last_zxid: self.last, replayed: self.replayed, keep, cut: None, remove, torn: false, mark: None };
        let Some(tail) = self.tail.take() else { return Ok(end) };
        let known = known(self.mark, &tail);
        self.judge(&tail, known)?;
        end.torn = !tail.rest.all_zero;
        if let Some((zxid, adler)) = tail.last_record {
            end.cut = (tail.stop.offset < tail.rest.file_bytes).then_some((tail.log, tail.stop.offset));
            let unsynced_bytes_max = known.map_or(0, |m| m.unsynced_bytes_max);
            let Tail { log: file, dbid, stop: Stop { offset, .. }, .. } = tail;
            let mark = Mark { file, dbid, offset, zxid, adler, unsynced_bytes_max, epochs: self.plan.epochs };
            end.mark = (tail.dbid != 0).then_some(mark);
        }
        Ok(end)
    }

    /// The verdict on the bytes behind the last good record of the history.
    fn judge(&self, tail: &Tail, mark: Option<Mark>) -> Result<(), Corruption> {
        // Not the tail's own last record: an image may have taken the place of what came after it.
        let last_good = self.last;
        let damage = |damage| Err(Corruption { log: tail.log, offset: tail.stop.offset, last_good, damage });
        if let Some(mark) = mark.filter(Mark::vouches) {
            let flushed =
                if mark.file == tail.log { tail.stop.offset < mark.offset } else { mark.file > tail.log && !follows(last_good, mark.file) };
            if flushed {
                return damage(Damage::BelowMark(tail.stop.why));
            }
        }
        if tail.rest.all_zero {
            return Ok(());
        }
        // Without a mark any whole record proves damage; with one, records this close may have been written out of order before a crash.
        let reach = mark.map_or(0, |m| m.unsynced_bytes_max);
        match tail.rest.last_record {
            Some(at) if at > tail.stop.offset.saturating_add(reach) => damage(Damage::GoodRecordBehind(tail.stop.why, at)),
            _ => Ok(()),
        }
    }
}

/// Whether `next` may come straight after `last`: the following zxid, or the first of a later epoch.
#[must_use]
pub fn follows(last: Zxid, next: Zxid) -> bool {
    last.next() == Some(next) || (next.epoch() > last.epoch() && next.counter() <= 1)
}

/// Where logs must be cut so that nothing above a zxid remains.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CutPlan {
    /// Last record that stays; `None` when no record does.
    pub last: Option<Zxid>,
    /// Logs that stay, oldest first: to be fsynced, since a server without forceSync may never have done it.
    pub keep: Vec<Zxid>,
    /// Cut this log to so many bytes.
    pub cut: Option<(Zxid, u64)>,
    /// Remove these logs, newest first, so that a crash in between leaves no gap.
    pub remove: Vec<Zxid>,
}

/// Plans the removal of every record above `zxid`, and of everything behind the first bad one (storage format 2.6: ZooKeeper's own truncation
/// may leave one record too many, this one does not).
pub fn plan_cut<S: LogSource>(source: &mut S, logs: &[Zxid], zxid: Zxid) -> io::Result<CutPlan> {
    debug_assert!(logs.is_sorted());
    let keep = logs.partition_point(|log| *log <= zxid);
    let mut plan = CutPlan { last: None, keep: Vec::new(), cut: None, remove: logs[keep..].iter().rev().copied().collect() };
    for (i, &log) in logs[..keep].iter().enumerate().rev() {
        let (last, end, file_bytes) = good_part(source.open(log)?, zxid)?;
        if let Some(last) = last {
            plan.last = Some(last);
            plan.keep = logs[..=i].to_vec();
            plan.cut = (end < file_bytes).then_some((log, end));
            return Ok(plan);
        }
        plan.remove.push(log);
    }
    Ok(plan)
}

/// Last record at or below `zxid`, where it ends, and the file's size.
fn good_part(input: impl Read, zxid: Zxid) -> io::Result<(Option<Zxid>, u64, u64)> {
    let Ok((_, mut reader)) = RecordReader::open(input)? else {
        return Ok((None, 0, 0));
    };
    let mut kept: Option<(Zxid, u64)> = None;
    while let Ok(record) = reader.next()? {
        if record.header.zxid > zxid {
            // Something follows, so the file is longer than what is kept.
            return Ok((kept.map(|k| k.0), kept.map_or(0, |k| k.1), u64::MAX));
        }
        kept = Some((record.header.zxid, record.end));
    }
    let file_bytes = reader.examine_rest()?.file_bytes;
    Ok((kept.map(|k| k.0), kept.map_or(0, |k| k.1), file_bytes))
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;

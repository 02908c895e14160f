//! Reading the log of a running server from some transaction on, a part at a time, for learners that lack more than is in memory.
//!
//! The log is appended to meanwhile, rolled, and old files of it may be purged; it is not cut, since whoever feeds learners leads. Whatever is
//! missing ends the reading: what comes out is in order, but whether it goes on without a hole is for the reader to check, except for one
//! kind that zxids do not show: an image has taken the place of what stood in the log. What is below it in the files may be history that went on
//! nowhere, and is not to be read as what led to it (`leads_through_snapshots`).

use super::recover::LogSource;
use super::segment::RecordReader;
use crate::base::Zxid;
use std::io;

/// A directory of logs that is in use.
pub trait LogStore: LogSource {
    /// Names of the logs there are now, ascending.
    fn logs(&mut self) -> io::Result<Vec<Zxid>>;
}

/// A place in the log.
pub struct LogFeed<S: LogStore> {
    store: S,
    /// Ascending. The log must lead through them: where it passes one by, what that holds stands in no log.
    snapshots: Vec<Zxid>,
    file: Option<OpenLog<S::File>>,
    /// Read already, and not given out.
    ahead: Option<Found>,
    /// The last record read before that.
    last: Option<Zxid>,
}

struct OpenLog<F> {
    name: Zxid,
    reader: RecordReader<F>,
    /// It was the newest: more may have been written behind what was read of it.
    grows: bool,
}

struct Found {
    zxid: Zxid,
    payload: Box<[u8]>,
    log: Zxid,
    offset: u64,
}

impl<S: LogStore> LogFeed<S> {
    /// Over a directory with these snapshots. They are to be listed before its logs are, so that no purge takes one away in between.
    pub fn new(store: S, mut snapshots: Vec<Zxid>) -> Self {
        snapshots.sort();
        LogFeed { store, snapshots, file: None, ahead: None, last: None }
    }

    /// Goes to the first record at or above `from`: the name of its log, and where it lies in that. `None`: there is none.
    pub fn seek(&mut self, from: Zxid) -> io::Result<Option<(Zxid, u64)>> {
        self.ahead = self.next(from, &mut false)?;
        Ok(self.ahead.as_ref().map(|found| (found.log, found.offset)))
    }

    /// Does the log, from `from` on, hold the transaction of every later snapshot? If it does not, an image came in its place, and what stands
    /// before it is not known to be history. Reads up to the newest snapshot.
    pub fn leads_through_snapshots(mut self, from: Zxid) -> io::Result<bool> {
        let Some(newest) = self.snapshots.last().copied() else { return Ok(true) };
        let (mut wanted, mut fresh) = (from, false);
        while wanted <= newest {
            let Some(found) = self.next(wanted, &mut fresh)? else { return Ok(newest <= from) };
            // What was passed over before `from` says nothing.
            self.last = self.last.max(Some(from));
            if self.passes_by(found.zxid) {
                return Ok(false);
            }
            self.last = Some(found.zxid);
            wanted = Zxid(found.zxid.0 + 1);
        }
        Ok(true)
    }

    /// The records from `from` on, up to `upto`, which is durable: about `bytes_max` of them, but two at least. Fewer, or none, where the log
    /// ends or passes a snapshot by.
    pub fn read<P: From<Box<[u8]>>>(&mut self, from: Zxid, upto: Zxid, bytes_max: usize) -> io::Result<Vec<(Zxid, P)>> {
        let (mut part, mut bytes) = (Vec::new(), 0);
        let (mut wanted, mut fresh) = (from, false);
        while wanted <= upto && (bytes < bytes_max || part.len() < 2) {
            let Some(found) = self.next(wanted, &mut fresh)? else { break };
            if found.zxid > upto || self.passes_by(found.zxid) {
                self.ahead = Some(found);
                break;
            }
            self.last = Some(found.zxid);
            wanted = Zxid(found.zxid.0 + 1);
            bytes += found.payload.len();
            part.push((found.zxid, found.payload.into()));
        }
        Ok(part)
    }

    /// The first record at or above `from`. `fresh`: the file under way was opened in this call, so that all that was durable before is seen.
    fn next(&mut self, from: Zxid, fresh: &mut bool) -> io::Result<Option<Found>> {
        if let Some(found) = self.ahead.take().filter(|found| found.zxid >= from) {
            return Ok(Some(found));
        }
        if self.file.is_none() {
            let logs = self.store.logs()?;
            self.open(&logs, logs.iter().copied().rfind(|log| *log <= from).or(logs.first().copied()))?;
            *fresh = true;
        }
        while let Some(file) = &mut self.file {
            match file.reader.next()? {
                Ok(record) if record.header.zxid < from => self.last = Some(record.header.zxid),
                Ok(record) => {
                    let (zxid, payload) = (record.header.zxid, record.payload.into());
                    return Ok(Some(Found { zxid, payload, log: file.name, offset: record.offset }));
                }
                Err(_) => self.go_on(fresh)?,
            }
        }
        Ok(None)
    }

    /// A snapshot lies between the last record and this one.
    fn passes_by(&self, zxid: Zxid) -> bool {
        self.last.is_some_and(|last| self.snapshots.iter().any(|snapshot| last < *snapshot && *snapshot < zxid))
    }

    /// A file has ended: it is looked at once more if it was being written, and then the next one.
    fn go_on(&mut self, fresh: &mut bool) -> io::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let logs = self.store.logs()?;
        let again = file.grows && !std::mem::replace(fresh, true);
        self.open(&logs, if again { Some(file.name) } else { logs.iter().copied().find(|log| *log > file.name) })
    }

    fn open(&mut self, logs: &[Zxid], name: Option<Zxid>) -> io::Result<()> {
        let Some(name) = name else { return Ok(()) };
        // Where there is no header, nothing can be used: as if there were no file.
        if let Ok((_, reader)) = RecordReader::open(self.store.open(name)?)? {
            self.file = Some(OpenLog { name, reader, grows: logs.last() == Some(&name) });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{SessionId, WallTime, Xid};
    use crate::record::TxnHeader;
    use crate::record::frame::write_frame;
    use crate::storage::format::FileHeader;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::io::Cursor;
    use std::rc::Rc;

    #[derive(Clone, Default)]
    struct Dir(Rc<RefCell<BTreeMap<Zxid, Vec<u8>>>>);

    impl LogSource for Dir {
        type File = Cursor<Vec<u8>>;
        fn open(&mut self, log: Zxid) -> io::Result<Self::File> {
            self.0.borrow().get(&log).cloned().map(Cursor::new).ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }
    impl LogStore for Dir {
        fn logs(&mut self) -> io::Result<Vec<Zxid>> {
            Ok(self.0.borrow().keys().copied().collect())
        }
    }

    fn z(epoch: u32, counter: u32) -> Zxid {
        Zxid::new(epoch, counter)
    }
    impl Dir {
        /// Puts records into the log of this name, with padding behind them.
        fn write(&self, log: Zxid, zxids: impl IntoIterator<Item = Zxid>) {
            let mut logs = self.0.borrow_mut();
            let file = logs.entry(log).or_insert_with(|| {
                let mut header = Vec::new();
                FileHeader::log(7).write(&mut header);
                header
            });
            let end = file.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1).max(16);
            file.truncate(end);
            for zxid in zxids {
                let mut payload = Vec::new();
                TxnHeader { session: SessionId(1), cxid: Xid(1), zxid, time: WallTime(1), kind: -1 }.write(&mut payload);
                write_frame(&payload, file);
            }
            file.extend([0; 4096]);
        }
        fn feed(&self, snapshots: &[Zxid]) -> LogFeed<Dir> {
            LogFeed::new(self.clone(), snapshots.to_vec())
        }
    }
    fn read(feed: &mut LogFeed<Dir>, from: Zxid, upto: Zxid, bytes_max: usize) -> Vec<Zxid> {
        let part: Vec<(Zxid, Box<[u8]>)> = feed.read(from, upto, bytes_max).expect("readable");
        part.into_iter().map(|(zxid, _)| zxid).collect()
    }
    fn counters(epoch: u32, range: std::ops::RangeInclusive<u32>) -> Vec<Zxid> {
        range.map(|counter| z(epoch, counter)).collect()
    }

    #[test]
    fn records_come_in_parts_across_files_up_to_where_they_are_wanted() {
        let dir = Dir::default();
        dir.write(z(1, 1), counters(1, 1..=9));
        dir.write(z(1, 10), counters(1, 10..=20));
        let mut feed = dir.feed(&[]);
        assert_eq!(feed.seek(z(1, 3)).expect("readable").map(|(log, _)| log), Some(z(1, 1)));
        assert_eq!(read(&mut feed, z(1, 3), z(1, 18), 5 * 32), counters(1, 3..=7));
        assert_eq!(read(&mut feed, z(1, 8), z(1, 18), 1), counters(1, 8..=9), "two at least");
        assert_eq!(read(&mut feed, z(1, 10), z(1, 18), 1 << 20), counters(1, 10..=18));
        assert_eq!(read(&mut feed, z(1, 19), z(1, 20), 1 << 20), counters(1, 19..=20));
    }
    #[test]
    fn what_is_appended_and_rolled_while_it_is_read_is_seen() {
        let dir = Dir::default();
        dir.write(z(1, 1), counters(1, 1..=4));
        let mut feed = dir.feed(&[]);
        assert_eq!(read(&mut feed, z(1, 1), z(1, 4), 1 << 20), counters(1, 1..=4));
        dir.write(z(1, 1), counters(1, 5..=6));
        dir.write(z(1, 7), counters(1, 7..=8));
        assert_eq!(read(&mut feed, z(1, 5), z(1, 8), 1 << 20), counters(1, 5..=8));
        assert_eq!(read(&mut feed, z(1, 9), z(1, 9), 1 << 20), []);
        dir.write(z(1, 7), counters(1, 9..=9));
        assert_eq!(read(&mut feed, z(1, 9), z(1, 9), 1 << 20), counters(1, 9..=9));
    }
    #[test]
    fn what_was_purged_is_missing_and_what_is_open_is_read_to_its_end() {
        let dir = Dir::default();
        dir.write(z(1, 1), counters(1, 1..=4));
        dir.write(z(1, 5), counters(1, 5..=6));
        dir.write(z(1, 7), counters(1, 7..=8));
        let mut feed = dir.feed(&[]);
        assert_eq!(read(&mut feed, z(1, 1), z(1, 8), 1), counters(1, 1..=2));
        dir.0.borrow_mut().remove(&z(1, 1));
        dir.0.borrow_mut().remove(&z(1, 5));
        assert_eq!(read(&mut feed, z(1, 3), z(1, 8), 1 << 20), [z(1, 3), z(1, 4), z(1, 7), z(1, 8)], "the hole shows");
        let mut late = dir.feed(&[]);
        assert_eq!(late.seek(z(1, 3)).expect("readable").map(|(log, _)| log), Some(z(1, 7)));
    }
    #[test]
    fn a_record_that_is_damaged_ends_its_file() {
        let dir = Dir::default();
        dir.write(z(1, 1), counters(1, 1..=9));
        if let Some(file) = dir.0.borrow_mut().get_mut(&z(1, 1)) {
            file[16 + 3 * 45 + 20] ^= 1;
        }
        assert_eq!(read(&mut dir.feed(&[]), z(1, 1), z(1, 9), 1 << 20), counters(1, 1..=3));
    }
    #[test]
    fn what_stands_before_an_image_is_not_taken_for_what_led_to_it_l1() {
        let leads = |dir: &Dir, snapshots: &[Zxid], from: Zxid| dir.feed(snapshots).leads_through_snapshots(from).expect("readable");
        let dir = Dir::default();
        dir.write(z(1, 1), counters(1, 1..=5)); // 1:4 and 1:5 went on nowhere: an image of 3:7 replaced them
        dir.write(z(3, 8), counters(3, 8..=12));
        dir.write(z(3, 13), counters(3, 13..=14));
        let snapshots = [z(1, 2), z(3, 7), z(3, 12)];
        for from in [z(1, 1), z(1, 3), z(1, 5), z(3, 6)] {
            assert!(!leads(&dir, &snapshots, from), "{from}");
        }
        for from in [z(3, 7), z(3, 8), z(3, 12), z(3, 14)] {
            assert!(leads(&dir, &snapshots, from), "{from}");
        }
        assert!(leads(&dir, &[z(1, 2)], z(1, 1)) && leads(&dir, &[], z(1, 1)));
        assert!(!leads(&dir, &[z(4, 1)], z(3, 14)), "an image beyond the log");
    }
    #[test]
    fn a_log_that_passes_a_snapshot_by_ends_before_it_l1() {
        let dir = Dir::default();
        dir.write(z(1, 1), counters(1, 1..=5)); // 1:6 and 1:7 are in the snapshot alone
        dir.write(z(2, 1), counters(2, 1..=3));
        let mut feed = dir.feed(&[z(2, 0), z(1, 3)]);
        assert_eq!(read(&mut feed, z(1, 2), z(2, 3), 1 << 20), counters(1, 2..=5));
        assert_eq!(read(&mut feed, z(1, 6), z(2, 3), 1 << 20), [], "nor later");
        assert_eq!(read(&mut dir.feed(&[z(2, 0)]), z(2, 1), z(2, 3), 1 << 20), counters(2, 1..=3), "from behind it on the log is whole");
    }
}

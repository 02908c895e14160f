//! Crash consistency of the log: the real `Log` and the real recovery over a simulated disk, crashed at any moment, again and again.
//!
//! Whatever a crash leaves: recovery accepts it (a crash is never taken for damage), every acknowledged record is there, and what is there is
//! a prefix of what was appended (promises P2 and P3 for one server, rules D1, D2, D4, A20, A22, A23).

#[path = "../support/crash_disk.rs"]
mod disk;

use disk::{DirSync, Disk, Ino, Sync};
use std::collections::{HashMap, VecDeque};
use std::io::{self, Cursor};
use zoo::base::prng::Prng;
use zoo::base::{SessionId, WallTime, Writer, Xid, Zxid};
use zoo::record::TxnHeader;
use zoo::record::epochs::Epochs;
use zoo::storage::format::{FileKind, MARK_FILE};
use zoo::storage::log::{FileId, Log, LogAction, LogConfig, SyncToken};
use zoo::storage::mark::Mark;
use zoo::storage::recover::{LogEnd, LogSource, ReplayPlan, replay};
use zoo::storage::segment::Record;

const SEGMENT: usize = 4096;

fn payload(zxid: u64, rng: &mut Prng) -> Vec<u8> {
    let mut out = Vec::new();
    TxnHeader { session: SessionId(1), cxid: Xid(0), zxid: Zxid(zxid), time: WallTime(1), kind: -1 }.write(&mut out);
    let size = if rng.chance(1, 30) { 5000 } else { rng.below(700) };
    // Zeros are what torn records look like, so some payloads hold many.
    let zeros = rng.chance(1, 4);
    (0..size).for_each(|_| out.put_u8(if zeros { 0 } else { rng.next_u64() as u8 }));
    out
}

/// What the segment thread is doing, step by step.
enum Job {
    Name(FileId, Zxid),
    NameMarkSync(FileId, Zxid, Sync),
    NameDirSync(FileId, DirSync),
    Close(FileId, usize),
    CloseSync(Sync),
}

struct Server {
    disk: Disk,
    log: Log,
    files: HashMap<FileId, (Ino, String)>,
    mark: Ino,
    flush: Option<(SyncToken, Sync)>,
    jobs: VecDeque<Job>,
    spares: usize,
    /// Everything appended since the beginning of time that was not lost in a crash, by zxid from 1.
    history: Vec<Vec<u8>>,
}

impl Server {
    /// Over a recovered disk.
    fn start(disk: Disk, history: Vec<Vec<u8>>, dbid: i64, force_sync: bool) -> Self {
        let config = LogConfig {
            segment_bytes: SEGMENT as u64,
            unsynced_bytes_max: 0,
            force_sync,
            file_bytes_max: None,
            payload_bytes_max: zoo::base::limits::TXN_PAYLOAD_MAX,
            dbid,
            epochs: Epochs::NONE,
            mark: disk.lookup(MARK_FILE).and_then(|ino| Mark::read(disk.read(ino))).map(|(_, mark)| mark),
        };
        let mark = disk.lookup(MARK_FILE).expect("recovery leaves one");
        let log = Log::new(config, Zxid(history.len() as u64));
        Server { disk, log, files: HashMap::new(), mark, flush: None, jobs: VecDeque::new(), spares: 0, history }
    }

    /// One thing that may happen next.
    fn step(&mut self, rng: &mut Prng) {
        match rng.below(10) {
            0..3 if self.log.can_append() => {
                for _ in 0..=rng.below(4) {
                    let zxid = self.history.len() as u64 + 1;
                    self.history.push(payload(zxid, rng));
                    self.log.append(Zxid(zxid), &self.history[zxid as usize - 1]);
                }
            }
            3 if rng.chance(1, 10) => self.log.roll(),
            4..6 => {
                if let Some((token, sync)) = self.flush.take() {
                    self.disk.sync_end(sync);
                    self.log.handle_synced(token);
                }
            }
            6..8 => self.job_step(),
            _ => {
                if let Some(action) = self.log.poll_action() {
                    self.perform(action, rng);
                }
            }
        }
    }

    fn perform(&mut self, action: LogAction, rng: &mut Prng) {
        match action {
            LogAction::Open { file, min_bytes, .. } => {
                self.spares += 1;
                let name = format!("zoo-spare.{}", self.spares);
                let ino = self.disk.create(&name, vec![0; min_bytes as usize]);
                self.files.insert(file, (ino, name));
            }
            LogAction::Write { file, offset, bytes } => self.disk.write(self.files[&file].0, offset as usize, &bytes, rng),
            LogAction::Sync { file, token } => self.flush = Some((token, self.disk.sync_begin(self.files[&file].0))),
            LogAction::Mark { offset, bytes } => self.disk.write(self.mark, offset as usize, &bytes, rng),
            LogAction::Name { file, first_zxid } => self.jobs.push_back(Job::Name(file, first_zxid)),
            LogAction::Close { file, used_bytes } => self.jobs.push_back(Job::Close(file, used_bytes as usize)),
            LogAction::SyncMark | LogAction::Cut { .. } => panic!("nothing is cut here, and no epoch raised"),
        }
    }

    /// The segment thread: fsync of the mark, rename, fsync of the directory; or cut, fsync.
    fn job_step(&mut self) {
        match self.jobs.pop_front() {
            None => {}
            Some(Job::Name(file, zxid)) => self.jobs.push_front(Job::NameMarkSync(file, zxid, self.disk.sync_begin(self.mark))),
            Some(Job::NameMarkSync(file, zxid, sync)) => {
                self.disk.sync_end(sync);
                self.disk.rename(&self.files[&file].1.clone(), &FileKind::Log(zxid).name());
                self.jobs.push_front(Job::NameDirSync(file, self.disk.dir_sync_begin()));
            }
            Some(Job::NameDirSync(file, sync)) => {
                self.disk.dir_sync_end(sync);
                self.log.handle_opened(file);
            }
            Some(Job::Close(file, bytes)) => {
                let (ino, _) = self.files.remove(&file).expect("open until closed");
                self.disk.resize(ino, bytes);
                self.jobs.push_front(Job::CloseSync(self.disk.sync_begin(ino)));
            }
            Some(Job::CloseSync(sync)) => self.disk.sync_end(sync),
        }
    }
}

struct Logs<'a>(&'a Disk);

impl LogSource for Logs<'_> {
    type File = Cursor<Vec<u8>>;
    fn open(&mut self, log: Zxid) -> io::Result<Self::File> {
        let ino = self.0.lookup(&FileKind::Log(log).name()).ok_or(io::ErrorKind::NotFound)?;
        Ok(Cursor::new(self.0.read(ino).to_vec()))
    }
}

/// Reads the directory back. Whatever it comes to, it is a prefix of what was appended.
fn read_back(disk: &Disk, history: &[Vec<u8>]) -> (Option<Mark>, Result<LogEnd, String>) {
    let mut logs: Vec<Zxid> = disk.names().iter().filter_map(|n| FileKind::parse(n)).map(FileKind::zxid).collect();
    logs.sort();
    let mark = disk.lookup(MARK_FILE).and_then(|ino| Mark::read(disk.read(ino))).map(|(_, mark)| mark);
    let plan = ReplayPlan { logs: &logs, after: Zxid::ZERO, mark, epochs: Epochs::NONE };
    let mut seen = 0;
    let mut apply = |_: Zxid, record: &Record<'_>| -> Result<(), String> {
        seen += 1;
        let is_own = history.get(seen - 1).is_some_and(|want| record.header.zxid.0 == seen as u64 && record.payload == &want[..]);
        assert!(is_own, "record {seen} is another one than was appended (P14)");
        Ok(())
    };
    let end = replay(&mut Logs(disk), &plan, &mut apply).map_err(|why| format!("{why:?}"));
    assert!(end.as_ref().is_ok_and(|end| end.last_zxid.0 == seen as u64) || end.is_err());
    (mark, end)
}

/// Reads the directory back and compares it with what was acknowledged and appended.
fn recover(disk: &Disk, history: &[Vec<u8>], acked: u64, context: &str) -> LogEnd {
    let (mark, end) = read_back(disk, history);
    let end = end.unwrap_or_else(|why| panic!("{context}: a crash was taken for damage: {why}; {mark:?}"));
    assert!(end.last_zxid.0 >= acked, "{context}: {acked} had been acknowledged, {} came back", end.last_zxid);
    end
}

/// Carries out what recovery asks for, each step with a crash possible after it.
fn repair(disk: &mut Disk, end: &LogEnd, rng: &mut Prng) -> Vec<Disk> {
    let mut between = Vec::new();
    let mut step = |disk: &Disk, rng: &mut Prng| between.push(disk.power_failure(rng.below(101), rng));
    let log_ino = |disk: &Disk, log: Zxid| disk.lookup(&FileKind::Log(log).name()).expect("it was read");
    for log in &end.keep {
        let sync = disk.sync_begin(log_ino(disk, *log));
        disk.sync_end(sync);
    }
    let dir = disk.dir_sync_begin();
    disk.dir_sync_end(dir);
    if let Some((log, bytes)) = end.cut {
        let ino = log_ino(disk, log);
        disk.resize(ino, bytes as usize);
        step(disk, rng);
        let sync = disk.sync_begin(ino);
        disk.sync_end(sync);
    }
    for log in end.remove.iter().rev() {
        disk.remove(&FileKind::Log(*log).name());
        step(disk, rng);
    }
    for name in disk.names().iter().filter(|n| n.starts_with("zoo-spare.")) {
        disk.remove(name);
    }
    disk.create("zoo-tmp.zoo-mark", Mark::file(end.mark.as_ref()));
    disk.rename("zoo-tmp.zoo-mark", MARK_FILE);
    step(disk, rng);
    let dir = disk.dir_sync_begin();
    disk.dir_sync_end(dir);
    between
}

/// Several lives of one data directory, each ended by a crash.
fn lives(seed: u64) {
    let mut rng = Prng::new(seed);
    let mut disk = Disk::default();
    let mut history: Vec<Vec<u8>> = Vec::new();
    let first = recover(&disk, &history, 0, "empty");
    repair(&mut disk, &first, &mut rng);
    for life in 0..4 {
        let mut server = Server::start(disk, history, 1 + rng.below(u64::MAX / 2) as i64, true);
        for step in 0..rng.below(300) {
            server.step(&mut rng);
            if rng.chance(1, 12) {
                let context = format!("seed {seed}, life {life}, step {step}");
                let left = server.disk.power_failure(rng.below(101), &mut rng);
                recover(&left, &server.history, server.log.durable_zxid().0, &context);
            }
        }
        let acked = server.log.durable_zxid().0;
        let context = format!("seed {seed}, life {life}, end");
        // The power fails, or only the process ends and the page cache stays.
        let power = rng.chance(1, 2);
        disk = if power { server.disk.power_failure(rng.below(101), &mut rng) } else { server.disk };
        let end = recover(&disk, &server.history, acked, &context);
        history = server.history;
        history.truncate(end.last_zxid.0 as usize);
        for again in repair(&mut disk, &end, &mut rng) {
            recover(&again, &history, acked, &format!("{context}, crashed again in recovery"));
        }
        // What a recovered server serves must not be lost later.
        let later = disk.power_failure(0, &mut rng);
        recover(&later, &history, end.last_zxid.0, &format!("{context}, after recovery"));
    }
}

#[test]
fn no_crash_loses_an_acknowledged_record_or_is_taken_for_damage() {
    let seeds = std::env::var("ZOO_CRASH_SEEDS").ok().and_then(|v| v.parse().ok()).unwrap_or(300);
    (0..seeds).for_each(lives);
}

#[test]
fn without_force_sync_a_process_crash_loses_nothing_that_was_acknowledged() {
    for seed in 0..50 {
        let mut rng = Prng::new(seed);
        let mut disk = Disk::default();
        let first = recover(&disk, &[], 0, "empty");
        repair(&mut disk, &first, &mut rng);
        let mut server = Server::start(disk, Vec::new(), 5, false);
        for _ in 0..rng.below(400) {
            server.step(&mut rng);
        }
        let end = recover(&server.disk, &server.history, server.log.durable_zxid().0, &format!("seed {seed}"));
        // From here on it is as durable as with forceSync, in however many files it lies.
        let mut disk = server.disk;
        repair(&mut disk, &end, &mut rng);
        recover(&disk.power_failure(0, &mut rng), &server.history, end.last_zxid.0, &format!("seed {seed}, after recovery"));
    }
}

/// Sectors in which other bytes are found than were written: a bit has flipped, nothing was ever written, or what belongs elsewhere.
fn rot(disk: &mut Disk, rng: &mut Prng) -> String {
    let logs: Vec<Ino> = disk
        .names()
        .iter()
        .filter(|n| FileKind::parse(n).is_some())
        .filter_map(|n| disk.lookup(n))
        .filter(|ino| !disk.read(*ino).is_empty())
        .collect();
    let any = |rng: &mut Prng| logs[rng.below(logs.len() as u64) as usize];
    let (ino, other) = (any(rng), any(rng));
    let sector = |bytes: &[u8], rng: &mut Prng| {
        let at = rng.below(bytes.len().div_ceil(SECTOR) as u64) as usize * SECTOR;
        at..bytes.len().min(at + SECTOR)
    };
    let (to, from) = (sector(disk.read(ino), rng), sector(disk.read(other), rng));
    let mut bytes = disk.read(ino)[to.clone()].to_vec();
    let what = ["a bit has flipped", "zeros", "another sector"][rng.below(3) as usize];
    match what {
        "zeros" => bytes.fill(0),
        "another sector" => bytes.iter_mut().zip(&disk.read(other)[from]).for_each(|(byte, other)| *byte = *other),
        _ => {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << rng.below(8);
        }
    }
    disk.write(ino, to.start, &bytes, rng);
    format!("{what} at {}", to.start)
}
const SECTOR: usize = 512;

/// P14, D3, D4: what the mark vouches for comes back, or the start is refused; and nothing else ever does.
#[test]
fn a_sector_with_other_bytes_is_noticed_and_never_served_p14() {
    let (mut refused, mut unharmed) = (0, 0);
    for seed in 0..300 {
        let mut rng = Prng::new(seed);
        let mut disk = Disk::default();
        let first = recover(&disk, &[], 0, "empty");
        repair(&mut disk, &first, &mut rng);
        let mut server = Server::start(disk, Vec::new(), 1 + rng.below(u64::MAX / 2) as i64, true);
        for _ in 0..100 + rng.below(300) {
            server.step(&mut rng);
        }
        if server.log.durable_zxid() == Zxid::ZERO {
            continue;
        }
        for _ in 0..10 {
            let mut disk = server.disk.power_failure(rng.below(101), &mut rng);
            let what = rot(&mut disk, &mut rng);
            match read_back(&disk, &server.history) {
                (mark, Ok(end)) => {
                    let vouched = mark.map_or(Zxid::ZERO, |mark| mark.zxid);
                    assert!(end.last_zxid >= vouched, "seed {seed}, {what}: {vouched} is vouched for, {} came back", end.last_zxid);
                    unharmed += 1;
                }
                (_, Err(_)) => refused += 1,
            }
        }
    }
    assert!(refused > 500 && unharmed > 100, "{refused} refused, {unharmed} unharmed");
}

//! What this server has: its epochs and history, in memory and on its disk, and which of its disk's work is under way.
//! A role is entered only when nothing is under way (L4).

use super::config::{Emptiness, Stored};
use super::input::EpochToken;
use super::message::Payload;
use super::output::EpochFile;
use super::planted::{Bug, Planted};
use super::tail::Tail;
use crate::base::Zxid;

/// Work of the disk that a role waits for. One at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum DiskWork {
    Epoch(EpochToken, EpochFile, u32),
    Truncation,
    Installation,
}

/// This server's own state, whatever its role.
pub struct Local {
    accepted_epoch: u32,
    current_epoch: u32,
    last: Zxid,
    durable: Zxid,
    emptiness: Emptiness,
    /// The log cannot be cut below it.
    snapshot: Zxid,
    /// Committed for certain, as far as heard since the start: no leader may take that away (L6).
    known: Zxid,
    /// What the replica was told.
    committed: Zxid,
    /// The end of the history.
    pub tail: Tail,
    work: Option<DiskWork>,
    tokens: u64,
}

impl Local {
    /// As the disk has it.
    pub fn new(stored: Stored, planted: Planted) -> Local {
        let last = stored.last_logged;
        assert!(stored.snapshot <= last, "the snapshot {} is beyond the log's end {last}", stored.snapshot);
        Local {
            accepted_epoch: stored.accepted_epoch.max(stored.current_epoch),
            current_epoch: stored.current_epoch,
            last,
            durable: last,
            emptiness: stored.emptiness,
            snapshot: stored.snapshot,
            known: Zxid::ZERO,
            committed: Zxid::ZERO,
            tail: Tail::new(stored.recent, last, planted),
            work: None,
            tokens: 0,
        }
    }
    /// The highest epoch promised, durably.
    pub fn accepted_epoch(&self) -> u32 {
        self.accepted_epoch
    }
    /// The epoch whose history is here, durably.
    pub fn current_epoch(&self) -> u32 {
        self.current_epoch
    }
    /// The end of the log.
    pub fn last(&self) -> Zxid {
        self.last
    }
    /// Up to where it is on stable storage.
    pub fn durable(&self) -> Zxid {
        self.durable
    }
    /// The end of the history as peers are told: what is durable, committed or not (A1).
    pub fn told(&self, planted: Planted) -> Zxid {
        if planted.has(Bug::VoteOfCommitted) { self.known } else { self.durable }
    }
    /// What it means that there is no history here; `None` where there is one, if only of an epoch.
    pub fn emptiness(&self) -> Option<Emptiness> {
        (self.last == Zxid::ZERO && self.current_epoch == 0).then_some(self.emptiness)
    }
    /// The operator vouches that nothing was here at the start, and no epoch was taken part in since: an image may have come, and nothing was acknowledged.
    pub fn is_vouched(&self) -> bool {
        self.current_epoch == 0 && self.emptiness == Emptiness::Vouched
    }
    /// Nothing is here, and nobody says why.
    pub fn is_unexplained(&self) -> bool {
        self.emptiness() == Some(Emptiness::Unexplained)
    }
    /// It is certain that nothing was here, and is being written down. Nobody is told before that has been done: no link begins meanwhile.
    pub fn vouch(&mut self) {
        self.emptiness = Emptiness::Vouched;
    }
    /// There is no epoch of a history, and whether there was one before is not known: this server has been wiped, or has followed nobody to the end yet.
    pub fn is_in_doubt(&self) -> bool {
        self.current_epoch == 0 && !self.is_vouched()
    }
    /// What stands before it can be had only as an image.
    pub fn snapshot(&self) -> Zxid {
        self.snapshot
    }
    /// Up to where it is known to be committed: never to be cut below (L6).
    pub fn known_committed(&self) -> Zxid {
        self.known
    }
    /// Everything appended is durable, and nothing else is under way.
    pub fn is_settled(&self) -> bool {
        self.durable == self.last && self.work.is_none()
    }

    /// A transaction is going to the log.
    pub fn append(&mut self, zxid: Zxid, payload: Payload) {
        assert!(zxid > self.last, "{zxid} after {}", self.last);
        self.last = zxid;
        // A role checks that nothing is missing before it appends; should that ever fail, the tail is not what spreads it (L1).
        let _ = self.tail.push(zxid, payload);
    }
    /// As `append`, past the tail (only a planted bug does that).
    pub fn append_unremembered(&mut self, zxid: Zxid) {
        self.last = zxid;
    }
    /// The log has been flushed up to here.
    pub fn flushed(&mut self, zxid: Zxid) {
        assert!(zxid <= self.last, "durable {zxid} beyond the log's end {}", self.last);
        self.durable = self.durable.max(zxid);
    }
    /// Committed up to here.
    pub fn commit(&mut self, zxid: Zxid) {
        assert!(self.committed <= zxid && zxid <= self.last, "commit of {zxid} between {} and {}", self.committed, self.last);
        self.committed = zxid;
        self.known = self.known.max(zxid);
    }
    /// Forgets what no learner that is a little behind would need.
    pub fn trim(&mut self, count_min: usize, bytes_max: usize) {
        self.tail.trim(count_min, bytes_max, self.committed);
    }
    /// The same while a history comes that is committed as a whole, which may be larger than what is to be kept of it.
    pub fn trim_history(&mut self, count_min: usize, bytes_max: usize) {
        self.tail.trim(count_min, bytes_max, self.last);
    }

    /// An epoch file is going to be written.
    pub fn write_epoch(&mut self, file: EpochFile, epoch: u32) -> EpochToken {
        self.tokens += 1;
        let token = EpochToken(self.tokens);
        self.begin(DiskWork::Epoch(token, file, epoch));
        token
    }
    /// It is written: only now is it so in memory (L7).
    pub fn epoch_written(&mut self, token: EpochToken) -> Option<EpochFile> {
        let Some(DiskWork::Epoch(expected, file, epoch)) = self.work else { return None };
        if expected != token {
            return None;
        }
        self.work = None;
        self.set_epoch(file, epoch);
        Some(file)
    }
    fn set_epoch(&mut self, file: EpochFile, epoch: u32) {
        match file {
            EpochFile::Accepted => self.accepted_epoch = epoch,
            EpochFile::Current => self.current_epoch = epoch,
        }
    }
    /// The log is going to be cut.
    pub fn truncate(&mut self) {
        self.begin(DiskWork::Truncation);
    }
    /// It ends here now.
    pub fn truncated(&mut self, end: Zxid) {
        assert_eq!(self.work, Some(DiskWork::Truncation));
        assert!(self.known.max(self.snapshot) <= end && end <= self.last, "cut to {end}: known {}, last {}", self.known, self.last);
        self.tail.cut(end);
        self.work = None;
        (self.last, self.durable) = (end, end);
    }
    /// An image is going to take the place of everything.
    pub fn install(&mut self) {
        self.begin(DiskWork::Installation);
    }
    /// It has.
    pub fn installed(&mut self, zxid: Zxid) {
        assert_eq!(self.work, Some(DiskWork::Installation));
        self.work = None;
        self.tail.restart(zxid);
        (self.last, self.durable, self.committed, self.snapshot) = (zxid, zxid, zxid, zxid);
    }
    /// It has not; everything is what it was (L5).
    pub fn installation_failed(&mut self) {
        assert_eq!(self.work, Some(DiskWork::Installation));
        self.work = None;
    }
    fn begin(&mut self, work: DiskWork) {
        assert!(self.work.is_none(), "{work:?} while {:?}", self.work);
        self.work = Some(work);
    }
}

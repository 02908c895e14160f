//! What a server's disk holds, and what a crash leaves of what was under way.

use std::fmt;
use zoo::base::Zxid;
use zoo::base::prng::Prng;
use zoo::zab::reconfig::proposed_in;
use zoo::zab::{ConfigToken, ConfigWrite, Emptiness, EpochFile, EpochToken, Membership, Payload, Stored};

/// A transaction in a log.
pub type Entry = (Zxid, Payload);

/// On stable storage. The history is kept whole; `imaged` of it are in a snapshot, the rest in the log.
#[derive(Clone, Default)]
pub struct Platter {
    pub accepted_epoch: u32,
    pub current_epoch: u32,
    pub history: Vec<Entry>,
    pub imaged: usize,
    /// What is said of it where it is empty.
    pub emptiness: Emptiness,
    /// The configuration in force, as far as it was written.
    pub active: Option<Membership>,
    pub proposed: Option<Membership>,
}

impl fmt::Display for Platter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epochs {} {}, {} transactions up to {}", self.accepted_epoch, self.current_epoch, self.history.len(), self.last())
    }
}

/// Something on its way to the disk.
#[derive(Clone)]
pub enum Work {
    /// The log up to so many entries.
    Flush(usize),
    /// Whether the disk is said before to have lost nothing.
    Epoch(EpochToken, EpochFile, u32, bool),
    Config(ConfigToken, ConfigWrite),
    Truncate(Zxid),
    Install(Zxid, Vec<Entry>),
}

impl Work {
    /// Where the history ends with it, if that is for it to say.
    pub fn end(&self) -> Option<Zxid> {
        match self {
            Work::Truncate(zxid) | Work::Install(zxid, _) => Some(*zxid),
            Work::Flush(_) | Work::Epoch(..) | Work::Config(..) => None,
        }
    }
}

/// What a shell may do wrong with its disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShellBug {
    /// L5: an image takes its place before it is whole.
    HalfImage,
    /// L6: a cut takes one transaction too many.
    CutsOneMore,
    /// L8, A12: an image does not hold all that its zxid says.
    ImageBehindItsLabel,
    /// L12: a write failed, and nobody minds.
    SwallowedError,
}

impl Platter {
    pub fn last(&self) -> Zxid {
        self.history.last().map_or(Zxid::ZERO, |(zxid, _)| *zxid)
    }
    pub fn has(&self, zxid: Zxid) -> bool {
        self.history.binary_search_by_key(&zxid, |(at, _)| *at).is_ok()
    }
    /// It shows that there is an ensemble with a history, and counts among those who know it (L21).
    pub fn vouches(&self) -> bool {
        self.current_epoch > 0
    }
    /// The work is done; `memory` is what the server's log holds, flushed or not.
    pub fn finish(&mut self, work: &Work, memory: &[Entry], bug: Option<ShellBug>) {
        match work {
            Work::Flush(upto) => {
                let from = self.history.len();
                self.history.extend_from_slice(&memory[from.min(*upto)..*upto]);
            }
            Work::Epoch(_, file, epoch, vouches) => {
                if *vouches {
                    self.emptiness = Emptiness::Vouched;
                }
                match file {
                    EpochFile::Accepted => self.accepted_epoch = *epoch,
                    EpochFile::Current => self.current_epoch = *epoch,
                }
            }
            Work::Config(_, ConfigWrite::Proposed(text)) => {
                self.proposed = text.as_ref().map(|text| Membership::parse(text).expect("a configuration"));
            }
            Work::Config(_, ConfigWrite::Active { membership, keeps_proposed }) => {
                self.active = Some(membership.clone());
                self.proposed = self.proposed.take().filter(|_| *keeps_proposed);
            }
            Work::Truncate(zxid) => {
                self.history.retain(|(at, _)| at <= zxid);
                if bug == Some(ShellBug::CutsOneMore) && self.history.len() > self.imaged {
                    self.history.pop();
                }
                assert!(self.imaged <= self.history.len(), "a snapshot holds what is cut off");
            }
            Work::Install(_, image) => {
                self.history.clone_from(image);
                self.imaged = image.len();
            }
        }
    }
    /// Power is lost: of what was under way, some is there.
    pub fn crash(&mut self, pending: &[Work], memory: &[Entry], prng: &mut Prng, bug: Option<ShellBug>) {
        for work in pending {
            match work {
                Work::Flush(_) => {}
                Work::Install(zxid, image) if bug == Some(ShellBug::HalfImage) => {
                    return self.finish(&Work::Install(*zxid, image[..image.len() / 2].to_vec()), memory, None);
                }
                whole => {
                    if matches!(whole, Work::Epoch(_, _, _, true)) && prng.chance(1, 3) {
                        self.emptiness = Emptiness::Vouched;
                        return;
                    }
                    if prng.chance(1, 2) {
                        self.finish(whole, memory, bug);
                    }
                    return; // nothing else is under way with it
                }
            }
        }
        let (durable, appended) = (self.history.len(), memory.len());
        if appended > durable {
            let kept = durable + prng.below((appended - durable) as u64 + 1) as usize;
            self.history.extend_from_slice(&memory[durable..kept]);
        }
    }
    /// What is in log files: everything behind the image that was installed last.
    pub fn log(&self) -> &[Entry] {
        &self.history[self.imaged..]
    }
    /// What a starting server finds. A history of a later epoch than `currentEpoch` shows that the epoch had a leader: the file catches up.
    pub fn stored(&self, recent_max: usize) -> Stored {
        let of_history = self.last().epoch();
        let from = self.imaged.max(self.history.len().saturating_sub(recent_max));
        let snapshot = self.imaged.checked_sub(1).map_or(Zxid::ZERO, |last| self.history[last].0);
        Stored {
            accepted_epoch: self.accepted_epoch.max(of_history),
            current_epoch: self.current_epoch.max(of_history),
            last_logged: self.last(),
            snapshot,
            emptiness: self.emptiness,
            configuration: self.history.iter().rev().find_map(|(_, payload)| proposed_in(payload)),
            recent: self.history[from..].to_vec(),
        }
    }
}

//! The two epoch files of an ensemble member: `acceptedEpoch` and `currentEpoch`, each a decimal number without a newline.
//! Knows their names, text and the relation between them; writing them durably is `disk`'s.

use crate::base::Zxid;

/// The highest epoch this server promised to follow.
pub const ACCEPTED_EPOCH_FILE: &str = "acceptedEpoch";
/// The epoch whose history this server has.
pub const CURRENT_EPOCH_FILE: &str = "currentEpoch";

/// An epoch as the files hold it. ZooKeeper writes a long; -1 stands for "none" before the first epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StoredEpoch(pub i64);

impl StoredEpoch {
    /// Parses a file's content; surrounding white space is accepted, as ZooKeeper reads the first line only.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.lines().next()?.trim().parse().ok().map(StoredEpoch)
    }
    /// The file's content.
    #[must_use]
    pub fn to_text(self) -> String {
        self.0.to_string()
    }
}

/// Both epochs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Epochs {
    /// Promised.
    pub accepted: StoredEpoch,
    /// Followed.
    pub current: StoredEpoch,
}

impl Epochs {
    /// Of a server that has never been a member of an ensemble, and has no such files.
    pub const NONE: Epochs = Epochs { accepted: StoredEpoch(-1), current: StoredEpoch(-1) };

    /// Neither is above its counterpart: since `known` was noted, nobody has gone on to an epoch that whoever noted it did not know of.
    #[must_use]
    pub fn within(&self, known: &Epochs) -> bool {
        self.accepted <= known.accepted && self.current <= known.current
    }

    /// The higher one of each.
    #[must_use]
    pub fn max(self, other: Epochs) -> Epochs {
        Epochs { accepted: self.accepted.max(other.accepted), current: self.current.max(other.current) }
    }

    /// accepted ≥ current ≥ epoch of the last transaction: holds at every crash point when files are written in the right order (L7).
    #[must_use]
    pub fn consistent_with(&self, last: Zxid) -> bool {
        self.accepted >= self.current && self.current.0 >= i64::from(last.epoch())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_no_newline_and_reads_back() {
        assert_eq!(StoredEpoch(12).to_text(), "12");
        for text in ["12", "12\n", " 12 \nrest"] {
            assert_eq!(StoredEpoch::parse(text), Some(StoredEpoch(12)));
        }
        for text in ["", "\n", "x", "1.5"] {
            assert_eq!(StoredEpoch::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_order_of_the_epochs_is_checked_against_the_history() {
        let epochs = |accepted, current| Epochs { accepted: StoredEpoch(accepted), current: StoredEpoch(current) };
        assert!(epochs(3, 2).consistent_with(Zxid::new(2, 9)));
        assert!(!epochs(2, 3).consistent_with(Zxid::new(2, 9)));
        assert!(!epochs(3, 2).consistent_with(Zxid::new(3, 1)));
    }
}

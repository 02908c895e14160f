//! The epoch files of a member at start: read, made consistent with the log, and written when they were not (L7).

use super::recovery::RecoveryError;
use crate::base::Zxid;
use crate::reactor::peer_io::write_epoch;
use crate::record::epochs::{ACCEPTED_EPOCH_FILE, CURRENT_EPOCH_FILE, Epochs, StoredEpoch};
use crate::zab::EpochFile;
use std::fs;
use std::io;
use std::path::Path;

/// `acceptedEpoch` and `currentEpoch` of a directory whose log ends with `last`; both are on disk afterwards.
///
/// A file that is missing counts as the epoch of the last transaction, as in ZooKeeper. A log that has reached a later epoch than `currentEpoch`
/// is what a crash leaves in the middle of a synchronisation: its transactions prove that the epoch's leader was established and that its
/// history is here up to them, so `currentEpoch` catches up. An `acceptedEpoch` below what was read as `currentEpoch` no crash can leave: it is
/// always written first.
///
/// The mark is not raised before these writes: recovery has just made everything durable that it could vouch for, and the first file of this
/// run is named behind a mark that says these epochs. Should the power fail in between, the strict reading without a mark has nothing to refuse.
pub fn read_epochs(dir: &Path, last: Zxid) -> Result<(u32, u32), RecoveryError> {
    let of_log = StoredEpoch(i64::from(last.epoch()));
    let (accepted, current) = (read(dir, ACCEPTED_EPOCH_FILE)?, read(dir, CURRENT_EPOCH_FILE)?);
    if let (Some(accepted), Some(current)) = (accepted, current)
        && accepted < current
    {
        let error = format!(
            "{ACCEPTED_EPOCH_FILE} says {} and {CURRENT_EPOCH_FILE} says {}; the first is never the lower one",
            accepted.0, current.0
        );
        return Err(failed(dir, "the epoch files", io::Error::other(error)));
    }
    let least = StoredEpoch(0).max(of_log);
    let now = current.map_or(of_log, |current| current.max(least));
    let epochs = Epochs { accepted: accepted.map_or(now, |accepted| accepted.max(now)), current: now };
    assert!(epochs.consistent_with(last));
    let mut result = [0; 2];
    let files = [(EpochFile::Accepted, accepted, epochs.accepted), (EpochFile::Current, current, epochs.current)];
    for (i, (file, before, epoch)) in files.into_iter().enumerate() {
        let too_large = |_| failed(dir, "the epoch files", io::Error::other(format!("{} is no epoch", epoch.0)));
        result[i] = u32::try_from(epoch.0).map_err(too_large)?;
        if before != Some(epoch) {
            write_epoch(dir, file, result[i]).map_err(|error| failed(dir, "writing the epoch files", error))?;
        }
    }
    Ok((result[0], result[1]))
}

fn read(dir: &Path, name: &str) -> Result<Option<StoredEpoch>, RecoveryError> {
    let text = match fs::read_to_string(dir.join(name)) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(dir, name, error)),
    };
    let no_number = || failed(dir, name, io::Error::other("it does not hold a number"));
    StoredEpoch::parse(&text).map(Some).ok_or_else(no_number)
}

fn failed(dir: &Path, what: &str, error: io::Error) -> RecoveryError {
    RecoveryError::Io { what: format!("{what} in {}", dir.display()), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(tempfile::TempDir);

    impl Dir {
        fn new(accepted: Option<&str>, current: Option<&str>) -> Self {
            let dir = Dir(tempfile::tempdir().expect("temp dir"));
            for (name, text) in [(ACCEPTED_EPOCH_FILE, accepted), (CURRENT_EPOCH_FILE, current)] {
                if let Some(text) = text {
                    fs::write(dir.0.path().join(name), text).expect("written");
                }
            }
            dir
        }
        fn read(&self, last: Zxid) -> Result<(u32, u32), RecoveryError> {
            read_epochs(self.0.path(), last)
        }
        fn files(&self) -> [String; 2] {
            [ACCEPTED_EPOCH_FILE, CURRENT_EPOCH_FILE].map(|name| fs::read_to_string(self.0.path().join(name)).expect("there"))
        }
    }

    #[test]
    fn missing_files_are_derived_from_the_log_and_written() {
        let fresh = Dir::new(None, None);
        assert_eq!(fresh.read(Zxid::ZERO).expect("read"), (0, 0));
        assert_eq!(fresh.files(), ["0", "0"]);
        let old = Dir::new(None, None);
        assert_eq!(old.read(Zxid::new(3, 7)).expect("read"), (3, 3));
        assert_eq!(old.files(), ["3", "3"]);
        assert_eq!(Dir::new(Some("5"), None).read(Zxid::new(3, 7)).expect("read"), (5, 3));
    }

    /// L7.
    #[test]
    fn every_crash_between_the_files_and_the_log_recovers() {
        for (accepted, current, last, want) in [
            ("4", "3", Zxid::new(3, 9), (4, 3)),
            ("4", "4", Zxid::new(3, 9), (4, 4)),
            ("4", "3", Zxid::new(4, 2), (4, 4)),
            ("-1", "-1", Zxid::ZERO, (0, 0)),
        ] {
            let dir = Dir::new(Some(accepted), Some(current));
            assert_eq!(dir.read(last).expect("read"), want, "{accepted} {current} {last}");
            assert_eq!(dir.read(last).expect("read again"), want);
        }
    }

    #[test]
    fn files_that_no_crash_can_leave_are_refused() {
        for (accepted, current) in [("2", "3"), ("x", "1"), ("1", ""), ("99999999999", "1")] {
            assert!(Dir::new(Some(accepted), Some(current)).read(Zxid::ZERO).is_err(), "{accepted} {current}");
        }
    }
}

//! Which files may go: everything that is not needed to recover from the newest N verified snapshots (rule D7).

use super::format::{Compression, FileKind};
use crate::base::Zxid;

/// Fewer snapshots are never kept, as in ZooKeeper.
pub const RETAIN_SNAPSHOTS_MIN: usize = 3;

/// The files to delete, oldest first. `is_valid` verifies a snapshot; it is asked only as often as needed, newest first. Nothing is deleted when no
/// snapshot is valid.
pub fn purge_plan(files: &[FileKind], retain: usize, is_valid: &mut dyn FnMut(Zxid, Compression) -> bool) -> Vec<FileKind> {
    let Some(oldest_kept) = oldest_kept_snapshot(files, retain.max(RETAIN_SNAPSHOTS_MIN), is_valid) else {
        return Vec::new();
    };
    let logs = files.iter().filter(|f| matches!(f, FileKind::Log(_))).map(|f| f.zxid());
    // The log that goes on from the snapshot may have begun before it.
    let first_log_kept = logs.filter(|z| *z <= oldest_kept).max().unwrap_or(oldest_kept);
    let goes = |f: &&FileKind| match f {
        FileKind::Snapshot(zxid, _) => *zxid < oldest_kept,
        FileKind::Log(zxid) => *zxid < first_log_kept,
    };
    let mut plan: Vec<FileKind> = files.iter().filter(goes).copied().collect();
    plan.sort_by_key(|f| (f.zxid(), *f));
    plan
}

/// The `retain`-th newest valid snapshot, or the oldest valid one if there are fewer.
fn oldest_kept_snapshot(files: &[FileKind], retain: usize, is_valid: &mut dyn FnMut(Zxid, Compression) -> bool) -> Option<Zxid> {
    let mut snapshots: Vec<(Zxid, Compression)> =
        files.iter().filter_map(|f| if let FileKind::Snapshot(z, c) = f { Some((*z, *c)) } else { None }).collect();
    snapshots.sort();
    let mut kept: Vec<Zxid> = Vec::new();
    for (zxid, compression) in snapshots.into_iter().rev() {
        if kept.len() == retain {
            break;
        }
        // One state stored in two ways counts once.
        if kept.last() != Some(&zxid) && is_valid(zxid, compression) {
            kept.push(zxid);
        }
    }
    kept.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snap(z: u64) -> FileKind {
        FileKind::Snapshot(Zxid(z), Compression::None)
    }
    fn log(z: u64) -> FileKind {
        FileKind::Log(Zxid(z))
    }

    #[test]
    fn the_newest_three_and_every_log_back_to_the_oldest_of_them_stay() {
        let files = [snap(0), snap(10), snap(20), snap(30), snap(40), log(1), log(8), log(15), log(21), log(35), log(41)];
        let plan = purge_plan(&files, 3, &mut |_, _| true);
        assert_eq!(plan, [snap(0), log(1), log(8), snap(10)], "log.15 holds 20 and what follows it");
    }

    #[test]
    fn a_snapshot_that_is_not_valid_does_not_count_d7() {
        let files = [snap(10), snap(20), snap(30), snap(40), log(1), log(11), log(31)];
        let plan = purge_plan(&files, 3, &mut |z, _| z != Zxid(40));
        assert!(plan.is_empty(), "10, 20 and 30 are needed, and log.1 goes on from 10");
    }

    #[test]
    fn without_a_valid_snapshot_nothing_goes() {
        let files = [snap(10), snap(20), snap(30), snap(40), log(1)];
        assert!(purge_plan(&files, 3, &mut |_, _| false).is_empty());
        assert!(purge_plan(&[log(1), log(5)], 3, &mut |_, _| true).is_empty());
    }

    #[test]
    fn fewer_than_three_are_never_kept() {
        let files = [snap(10), snap(20), snap(30), snap(40)];
        assert_eq!(purge_plan(&files, 0, &mut |_, _| true), [snap(10)]);
    }

    #[test]
    fn one_state_in_two_encodings_counts_once() {
        let gz = FileKind::Snapshot(Zxid(30), Compression::Gzip);
        let files = [snap(10), snap(20), snap(30), gz, snap(5)];
        assert_eq!(purge_plan(&files, 3, &mut |_, _| true), [snap(5)]);
    }
}

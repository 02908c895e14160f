//! Watches a data directory for snapshots being written: a file with "snap" in its name that grows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often the directory is read.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A snapshot counts as running this much longer than its file grows: the server syncs it then, and its writeback holds up the log.
const AFTER_GROWTH: Duration = Duration::from_secs(2);

/// A thread that keeps a flag up to date.
#[derive(Debug)]
pub struct SnapshotWatch {
    running: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl SnapshotWatch {
    /// Watches `dir` and its direct subdirectories.
    pub fn start(dir: PathBuf) -> Self {
        let (running, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (running, stop) = (Arc::clone(&running), Arc::clone(&stop));
            move || watch(&dir, &running, &stop)
        });
        SnapshotWatch { running, stop, thread }
    }

    /// True while a snapshot grows.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.running)
    }

    /// Stops; how many snapshots were seen being written.
    pub fn finish(self) -> usize {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap_or(0)
    }
}

fn watch(dir: &Path, running: &AtomicBool, stop: &AtomicBool) -> usize {
    let mut known = sizes(dir);
    let (mut grown, mut last_growth) = (BTreeSet::new(), None::<Instant>);
    while !stop.load(Relaxed) {
        thread::sleep(LOOK_EVERY);
        let now = sizes(dir);
        let growing: Vec<_> =
            now.iter().filter(|(path, len)| known.get(*path).is_none_or(|old| old < len)).map(|(path, _)| path.clone()).collect();
        if !growing.is_empty() {
            last_growth = Some(Instant::now());
            grown.extend(growing);
        }
        running.store(last_growth.is_some_and(|at| at.elapsed() < AFTER_GROWTH), Relaxed);
        known = now;
    }
    // A file written under a temporary name and then renamed is one snapshot: count those that are still there.
    grown.iter().filter(|path| known.contains_key(*path)).count()
}

fn sizes(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let entries = |d: &Path| std::fs::read_dir(d).into_iter().flatten().flatten();
    for entry in entries(dir) {
        let inside: Vec<_> = if entry.path().is_dir() { entries(&entry.path()).collect() } else { vec![entry] };
        for file in inside {
            if file.file_name().to_string_lossy().contains("snap")
                && let Ok(meta) = file.metadata()
            {
                found.insert(file.path(), meta.len());
            }
        }
    }
    found
}

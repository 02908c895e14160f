//! Snapshot files of a running server: writing one from an image of the tree, and removing what is no longer needed. Blocking; for background
//! threads and start-up.

use crate::base::Zxid;
use crate::disk::{Background, ReadAheadFile, dir};
use crate::reactor::peer_io::ImageStream;
use crate::server::config::{self, StorageConfig};
use crate::server::recovery;
use crate::storage::format::{Compression, FileKind, TEMP_PREFIX};
use crate::storage::retention::purge_plan;
use crate::storage::snapshot::{self, Sections, SnapshotError, SnapshotReader};
use crate::tree::{Image, Tree, TreeConfig};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A leader's image while it comes, and until the log has made way for it; start-up removes either.
const RECEIVING: &str = "zoo-tmp.receiving";
const RECEIVED: &str = "zoo-tmp.received";

/// Where and how snapshots are written.
#[derive(Clone, Debug)]
pub struct SnapshotFiles {
    snapshot_dir: PathBuf,
    log_dir: PathBuf,
    compression: Compression,
    with_digest: bool,
    with_last_zxid: bool,
    /// Counts the changes of history that are no appends. Held while one is made, and while a file is purged.
    changes: Arc<Mutex<u64>>,
}

impl SnapshotFiles {
    /// `with_digest`: the tree keeps digests, so the file gets the section that a server with digests expects.
    #[must_use]
    pub fn new(storage: &StorageConfig, with_digest: bool) -> Self {
        let compression = match storage.compression {
            config::Compression::Checked => Compression::None,
            config::Compression::Gzip => Compression::Gzip,
            config::Compression::Snappy => Compression::Snappy,
        };
        SnapshotFiles {
            snapshot_dir: storage.snapshot_version_dir(),
            log_dir: storage.log_version_dir(),
            compression,
            with_digest,
            with_last_zxid: storage.snapshot_has_zxid,
            changes: Arc::default(),
        }
    }

    /// Does something to the history that is no append, such as cutting the log: no file is purged meanwhile, nor afterwards by a plan
    /// that was made before.
    pub fn change<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut changes = self.changes();
        *changes += 1;
        work()
    }

    fn changes(&self) -> MutexGuard<'_, u64> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `snapshot.<zxid of the image>`: whole and durable, or not at all (D2). Name, sections and digest are all of one zxid (rule B8).
    pub fn write(&self, image: Image) -> io::Result<u64> {
        let (temp, name) = self.names(&image);
        dir::replace_file(&self.snapshot_dir, &temp, &name, |file| self.write_to(file, image))
    }

    /// The same beside a log that must not wait, until it is abandoned.
    pub fn write_in_background(&self, image: Image, background: &Background) -> io::Result<u64> {
        let (temp, name) = self.names(&image);
        dir::replace_file_in_background(&self.snapshot_dir, &temp, &name, background, |file| self.write_to(file, image))
    }

    fn names(&self, image: &Image) -> (String, String) {
        let name = FileKind::Snapshot(image.zxid(), self.compression).name();
        (format!("{TEMP_PREFIX}{name}"), name)
    }

    fn write_to(&self, file: impl Write, mut image: Image) -> io::Result<()> {
        let zxid = image.zxid();
        let sections = Sections {
            digest: image.digest().filter(|_| self.with_digest).map(|digest| (zxid, digest)),
            last_zxid: self.with_last_zxid.then_some(zxid),
        };
        snapshot::write(file, self.compression, &sections, |sink| image.write(sink))
    }

    /// Writes the image that comes from a leader under a temporary name, whole and durable (C3). Java's images hold no digest and may be ahead of
    /// their zxid, so the file says neither.
    pub fn receive(&self, image: &ImageStream) -> Result<(), String> {
        let written = dir::replace_file(&self.snapshot_dir, RECEIVING, RECEIVED, |file| {
            snapshot::write(file, Compression::None, &Sections::default(), |sink| {
                while let Some(piece) = image.next()? {
                    sink(&piece)?;
                }
                Ok(())
            })
        });
        written.map(drop).map_err(|e: io::Error| e.to_string())
    }

    /// Loads the image received last.
    pub fn load_received(&self, zxid: Zxid, config: &TreeConfig) -> Result<Tree, String> {
        let snapshot = open(&self.snapshot_dir, RECEIVED, Compression::None).map_err(|e| format!("it {e}"))?;
        let (tree, _) = recovery::load(snapshot, zxid, config)?;
        Ok(tree)
    }

    /// Puts the image received last in place, durably: from now on recovery begins with it. A newer snapshot is of a history that went on
    /// nowhere (an image of a leader that was never established); it goes once there is something to begin with instead.
    pub fn install(&self, zxid: Zxid) -> io::Result<()> {
        self.change(|| self.install_now(zxid))
    }

    fn install_now(&self, zxid: Zxid) -> io::Result<()> {
        let installed = FileKind::Snapshot(zxid, Compression::None);
        dir::rename(&self.snapshot_dir, RECEIVED, &installed.name())?;
        let files = history_files(&self.snapshot_dir)?.into_iter();
        let superseded = files.filter(|f| matches!(f, FileKind::Snapshot(at, _) if *at >= zxid) && *f != installed);
        dir::remove(&self.snapshot_dir, superseded.map(|f| f.name()))
    }

    /// Removes what is not needed to recover from the newest `retain` verified snapshots (D7); returns the names. What is to go is found out
    /// beside everything else, which takes its time; when the history has been changed meanwhile, nothing more goes this time: a log of the
    /// same name may be another one now.
    pub fn purge(&self, retain: usize) -> io::Result<Vec<String>> {
        let planned_at = *self.changes();
        let plan = self.plan_purge(retain)?;
        self.purge_planned(&plan, planned_at)
    }

    fn purge_planned(&self, plan: &[FileKind], planned_at: u64) -> io::Result<Vec<String>> {
        let mut removed = Vec::new();
        for file in plan {
            let changes = self.changes();
            if *changes != planned_at {
                break;
            }
            let dir = if matches!(file, FileKind::Log(_)) { &self.log_dir } else { &self.snapshot_dir };
            dir::remove(dir, [file.name()])?;
            removed.push(file.name());
        }
        Ok(removed)
    }

    fn plan_purge(&self, retain: usize) -> io::Result<Vec<FileKind>> {
        let mut files = history_files(&self.snapshot_dir)?;
        if self.log_dir != self.snapshot_dir {
            files.extend(history_files(&self.log_dir)?);
        }
        let mut is_valid = |zxid, compression| verify(&self.snapshot_dir, zxid, compression).is_ok();
        Ok(purge_plan(&files, retain, &mut is_valid))
    }
}

/// Logs and snapshots in a directory.
pub fn history_files(dir: &Path) -> io::Result<Vec<FileKind>> {
    Ok(dir::list(dir)?.iter().filter_map(|entry| FileKind::parse(&entry.name)).collect())
}

/// Opens a snapshot to be read piece by piece, on a thread of its own what the disk and the decompression are concerned.
pub fn open(dir: &Path, name: &str, compression: Compression) -> Result<SnapshotReader<ReadAheadFile>, SnapshotError> {
    let file = File::open(dir.join(name))?;
    SnapshotReader::open(ReadAheadFile::start(snapshot::decoder(file, compression)?)?)
}

/// Reads a snapshot from end to end: structure and every seal.
pub fn check(dir: &Path, zxid: Zxid, compression: Compression) -> Result<(), SnapshotError> {
    let mut reader = open(dir, &FileKind::Snapshot(zxid, compression).name(), compression)?;
    while reader.next_piece()?.is_some() {}
    reader.finish().map(drop)
}

fn verify(dir: &Path, zxid: Zxid, compression: Compression) -> Result<(), SnapshotError> {
    let file = File::open(dir.join(FileKind::Snapshot(zxid, compression).name()))?;
    snapshot::verify_stream(io::BufReader::new(file), compression)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::ServerConfig;
    use std::fs;

    #[test]
    fn nothing_is_purged_by_a_plan_that_is_older_than_a_cut_or_an_image_d7() {
        let dir = tempfile::tempdir().expect("temp dir");
        let config = ServerConfig::development("127.0.0.1:0".parse().expect("address"), dir.path());
        let files = SnapshotFiles::new(&config.storage, true);
        dir::create_dirs(&config.storage.snapshot_version_dir()).expect("created");
        let put = |zxid: u64| fs::write(config.storage.log_version_dir().join(FileKind::Log(Zxid(zxid)).name()), b"x").expect("written");
        (1..=3).for_each(put);
        let plan: Vec<FileKind> = (1..=3).map(|zxid| FileKind::Log(Zxid(zxid))).collect();
        assert_eq!(files.purge_planned(&plan[..1], 0).expect("removed"), ["log.1"]);
        let remade = files.clone();
        remade.change(|| put(2));
        assert_eq!(files.purge_planned(&plan[1..], 0).expect("nothing to do"), [] as [&str; 0]);
        let now = *files.changes();
        assert_eq!(files.purge_planned(&plan[2..], now).expect("removed"), ["log.3"]);
        assert_eq!(history_files(&config.storage.log_version_dir()).expect("listed"), [FileKind::Log(Zxid(2))]);
    }
}

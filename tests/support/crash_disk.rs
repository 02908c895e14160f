//! A disk that may lose, keep or reorder everything that was not synced (design rule B12).
//!
//! Per 512-byte sector any version between the last completed sync and now may survive a power failure, one that was only half copied
//! included. Directory operations that were not followed by a directory sync survive or not, each for itself. A crash of the process alone
//! loses nothing, but makes nothing durable either.

use std::collections::BTreeMap;
use zoo::base::prng::Prng;

pub const SECTOR: usize = 512;

pub type Ino = usize;

#[derive(Clone, Default)]
struct Inode {
    /// What a reader sees.
    current: Vec<u8>,
    /// What is certainly on the platter.
    durable: Vec<u8>,
    /// Later versions of sectors, with the time each was made.
    versions: BTreeMap<usize, Vec<(u64, Vec<u8>)>>,
    /// Later sizes, with the time.
    sizes: Vec<(u64, usize)>,
}

#[derive(Clone)]
enum DirOp {
    Create(String, Ino),
    Rename(String, String, Ino),
    Remove(String),
}

/// A sync that has been issued.
pub struct Sync {
    ino: Ino,
    at: u64,
    image: Vec<u8>,
}

/// A directory sync that has been issued.
pub struct DirSync {
    at: u64,
}

#[derive(Clone, Default)]
pub struct Disk {
    inodes: Vec<Inode>,
    entries: BTreeMap<String, Ino>,
    durable_entries: BTreeMap<String, Ino>,
    pending: Vec<(u64, DirOp)>,
    clock: u64,
}

impl Disk {
    /// A file whose content is durable and whose directory entry is not.
    pub fn create(&mut self, name: &str, content: Vec<u8>) -> Ino {
        let ino = self.inodes.len();
        self.inodes.push(Inode { current: content.clone(), durable: content, ..Inode::default() });
        self.dir_op(DirOp::Create(name.to_owned(), ino));
        ino
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        let ino = self.entries[from];
        self.dir_op(DirOp::Rename(from.to_owned(), to.to_owned(), ino));
    }

    pub fn remove(&mut self, name: &str) {
        self.dir_op(DirOp::Remove(name.to_owned()));
    }

    fn dir_op(&mut self, op: DirOp) {
        self.clock += 1;
        apply(&mut self.entries, &op);
        self.pending.push((self.clock, op));
    }

    pub fn write(&mut self, ino: Ino, offset: usize, bytes: &[u8], rng: &mut Prng) {
        self.clock += 1;
        let inode = &mut self.inodes[ino];
        let end = offset + bytes.len();
        assert!(end <= inode.current.len(), "segments are allocated before they are written");
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let (from, to) = (offset.max(sector * SECTOR), end.min((sector + 1) * SECTOR));
            let versions = inode.versions.entry(sector).or_default();
            // Written back in the middle of the copy.
            let half = from + rng.below((to - from + 1) as u64) as usize;
            for until in [half, to] {
                inode.current[from..until].copy_from_slice(&bytes[from - offset..until - offset]);
                let sector_end = ((sector + 1) * SECTOR).min(inode.current.len());
                versions.push((self.clock, inode.current[sector * SECTOR..sector_end].to_vec()));
            }
        }
    }

    /// Shorter, or longer by zeros.
    pub fn resize(&mut self, ino: Ino, bytes: usize) {
        self.clock += 1;
        let inode = &mut self.inodes[ino];
        inode.current.resize(bytes, 0);
        inode.sizes.push((self.clock, bytes));
    }

    pub fn sync_begin(&self, ino: Ino) -> Sync {
        Sync { ino, at: self.clock, image: self.inodes[ino].current.clone() }
    }

    pub fn sync_end(&mut self, sync: Sync) {
        let inode = &mut self.inodes[sync.ino];
        inode.durable = sync.image;
        inode.versions.values_mut().for_each(|v| v.retain(|(at, _)| *at > sync.at));
        inode.sizes.retain(|(at, _)| *at > sync.at);
    }

    pub fn dir_sync_begin(&self) -> DirSync {
        DirSync { at: self.clock }
    }

    pub fn dir_sync_end(&mut self, sync: DirSync) {
        let (done, rest) = std::mem::take(&mut self.pending).into_iter().partition(|(at, _)| *at <= sync.at);
        self.pending = rest;
        let done: Vec<(u64, DirOp)> = done;
        done.iter().for_each(|(_, op)| apply(&mut self.durable_entries, op));
    }

    /// What is left after a power failure. `keep` of 100: the chance that a thing not synced has survived.
    pub fn power_failure(&self, keep: u64, rng: &mut Prng) -> Disk {
        let mut entries = self.durable_entries.clone();
        for (_, op) in &self.pending {
            if rng.chance(keep, 100) {
                apply(&mut entries, op);
            }
        }
        let inodes = self.inodes.iter().map(|inode| inode.after_power_failure(keep, rng)).collect();
        Disk { inodes, durable_entries: entries.clone(), entries, pending: Vec::new(), clock: self.clock }
    }

    pub fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }
    pub fn lookup(&self, name: &str) -> Option<Ino> {
        self.entries.get(name).copied()
    }
    pub fn read(&self, ino: Ino) -> &[u8] {
        &self.inodes[ino].current
    }
}

impl Inode {
    fn after_power_failure(&self, keep: u64, rng: &mut Prng) -> Inode {
        let mut content = self.durable.clone();
        if let Some((_, size)) = pick(&self.sizes, keep, rng) {
            content.resize(*size, 0);
        }
        for (sector, versions) in &self.versions {
            let at = sector * SECTOR;
            let Some((_, bytes)) = pick(versions, keep, rng).filter(|_| at < content.len()) else { continue };
            let end = content.len().min(at + bytes.len());
            content[at..end].copy_from_slice(&bytes[..end - at]);
        }
        Inode { current: content.clone(), durable: content, ..Inode::default() }
    }
}

/// What has survived of several versions: none, or the newest more often than one in between.
fn pick<'a, T>(versions: &'a [T], keep: u64, rng: &mut Prng) -> Option<&'a T> {
    if versions.is_empty() || !rng.chance(keep, 100) {
        return None;
    }
    let newest = versions.len() - 1;
    versions.get(if rng.chance(1, 2) { newest } else { rng.below(versions.len() as u64) as usize })
}

fn apply(entries: &mut BTreeMap<String, Ino>, op: &DirOp) {
    match op {
        DirOp::Create(name, ino) => drop(entries.insert(name.clone(), *ino)),
        DirOp::Rename(from, to, ino) => {
            entries.remove(from);
            entries.insert(to.clone(), *ino);
        }
        DirOp::Remove(name) => drop(entries.remove(name)),
    }
}

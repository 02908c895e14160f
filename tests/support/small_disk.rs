//! A disk that can be filled, broken and frozen: an ext4 on a small loop device on a small file system in memory. It needs root; without it tests
//! say loudly that nothing was tested.
#![allow(dead_code)] // each test binary uses a part of it

use crate::support::{PATIENCE, skipped, temp_dir};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Bytes of the device; a server with small segments needs two of 32 MiB.
const DEVICE_BYTES: u64 = 128 << 20;
/// What the file system below it has to give.
const BACKING_BYTES: u64 = DEVICE_BYTES + (16 << 20);

/// An ext4 on a loop device on a tmpfs; unmounted and gone when dropped.
pub struct SmallDisk {
    root: tempfile::TempDir,
    device: Option<String>,
}

impl SmallDisk {
    /// `None`, with a line that says so, where such a thing cannot be had.
    pub fn new(test: &str) -> Option<Self> {
        let mut disk = SmallDisk { root: temp_dir(), device: None };
        match disk.set_up() {
            Ok(()) => Some(disk),
            Err(why) => {
                skipped(test, &format!("no loop device with a file system of its own: {why}"));
                None
            }
        }
    }

    fn set_up(&mut self) -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("not root".into());
        }
        for dir in [self.backing(), self.mount_point()] {
            std::fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        }
        run("mount", &["-t", "tmpfs", "-o", &format!("size={BACKING_BYTES}"), "none", &text(&self.backing())])?;
        File::create(self.image()).and_then(|f| f.set_len(DEVICE_BYTES)).map_err(|e| e.to_string())?;
        // Without lazy initialisation nothing writes to it behind the tests' back.
        run("mkfs.ext4", &["-F", "-q", "-b", "4096", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", &text(&self.image())])?;
        self.device = Some(run("losetup", &["--show", "-f", &text(&self.image())])?.trim().to_owned());
        self.mount()
    }

    pub fn mount(&self) -> Result<(), String> {
        run("mount", &[self.device.as_deref().unwrap_or_default(), &text(&self.mount_point())]).map(drop)
    }

    pub fn unmount(&self) -> Result<(), String> {
        run_when_free("umount", &[&text(&self.mount_point())])
    }

    pub fn backing(&self) -> PathBuf {
        self.root.path().join("backing")
    }
    fn image(&self) -> PathBuf {
        self.backing().join("image")
    }
    pub fn mount_point(&self) -> PathBuf {
        self.root.path().join("disk")
    }
    pub fn data_dir(&self) -> PathBuf {
        self.mount_point().join("data")
    }

    /// Lets nothing that is written reach it until the answer is dropped: whoever waits for a flush waits. Reads go on.
    pub fn freeze(&self) -> Frozen {
        run("fsfreeze", &["--freeze", &text(&self.mount_point())]).expect("frozen");
        Frozen(self.mount_point())
    }

    /// Takes away the device's memory below this file from `from` on: what is written there has to be allocated anew.
    pub fn punch(&self, file: &Path, from: u64) {
        let extents = run("filefrag", &["-v", "-b1", &text(file)]).expect("extents are known");
        let image = OpenOptions::new().write(true).open(self.image()).expect("the image");
        let mut punched = 0;
        for (logical, physical, bytes) in extents.lines().filter_map(extent) {
            let skip = from.saturating_sub(logical).min(bytes);
            if bytes > skip {
                fallocate(&image, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, physical + skip, bytes - skip).expect("punched");
                punched += bytes - skip;
            }
        }
        assert!(punched > 0, "no extents in:\n{extents}");
    }
}

/// A disk that stands still.
pub struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = run("fsfreeze", &["--unfreeze", &text(&self.0)]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.unmount();
        if let Some(device) = &self.device {
            let _ = run("losetup", &["-d", device]);
        }
        let _ = run_when_free("umount", &[&text(&self.backing())]);
    }
}

pub fn text(path: &Path) -> String {
    path.display().to_string()
}

pub fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(args).env("PATH", path).env("LC_ALL", "C").output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// The same for what needs a file system that nobody uses: the kernel takes down the rings of a killed server in its own time, and until then
/// they hold its files.
pub fn run_when_free(program: &str, args: &[&str]) -> Result<(), String> {
    let started = Instant::now();
    loop {
        match run(program, args) {
            Err(why) if why.contains("busy") && started.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
            result => return result.map(drop),
        }
    }
}

/// Logical offset, physical offset and length of a line like `0:        0..  8191:    34816..   43007:   8192: …`.
fn extent(line: &str) -> Option<(u64, u64, u64)> {
    let mut parts = line.split(':').map(str::trim);
    parts.next()?.parse::<u32>().ok()?;
    let start = |range: &str| range.split("..").next()?.trim().parse::<u64>().ok();
    Some((start(parts.next()?)?, start(parts.next()?)?, parts.next()?.parse().ok()?))
}

/// Takes all the room there is on a file system. May be called again when some has become free.
pub struct Filler {
    path: PathBuf,
    file: File,
}

impl Filler {
    pub fn new(path: PathBuf) -> Self {
        let file = File::create(&path).expect("a filler");
        Filler { path, file }
    }

    pub fn fill(&mut self) {
        for piece in [1 << 20, 4096] {
            while self.file.write_all(&vec![0x5a; piece]).is_ok() {}
        }
        // Delayed allocation might still find that there is less room; then there is none, which is what is wanted.
        let _ = self.file.sync_all();
    }

    pub fn remove(self) {
        drop(self.file);
        std::fs::remove_file(&self.path).expect("the filler goes");
    }
}

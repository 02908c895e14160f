//! The directories of a configuration: file system, room, and the disk below it as the kernel states it.

use super::{Finding, Host, advice, ok, problem};
use crate::server::config::ServerConfig;
use rustix::fs::{OFlags, major, minor, stat, statfs};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Less is soon full.
const ROOM_WANTED: u64 = 1 << 30;
/// What a durable write is timed with.
const BLOCK: usize = 4096;
const WRITES: usize = 50;
/// Its name; removed however the measurement ends.
const PROBE: &str = ".zoo-check";

/// What is known of a kind of file system.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Measured,
    Lost,
    Remote,
    Other,
}

/// By the number the kernel gives them.
const FILE_SYSTEMS: [(u64, &str, Kind); 13] = [
    (0xef53, "ext4", Kind::Measured),
    (0x5846_5342, "XFS", Kind::Measured),
    (0x0102_1994, "tmpfs", Kind::Lost),
    (0x8584_58f6, "ramfs", Kind::Lost),
    (0x6969, "NFS", Kind::Remote),
    (0xff53_4d42, "CIFS", Kind::Remote),
    (0xfe53_4d42, "SMB", Kind::Remote),
    (0x0102_1997, "9p", Kind::Remote),
    (0x6573_5546, "FUSE", Kind::Remote),
    (0x9123_683e, "Btrfs", Kind::Other),
    (0x2fc1_2fc1, "ZFS", Kind::Other),
    (0xf2f5_2010, "F2FS", Kind::Other),
    (0x794c_7630, "overlayfs", Kind::Other),
];

/// All there is to say of `dataDir` and `dataLogDir`.
pub(super) fn check(host: &Host, config: &ServerConfig, measure: bool) -> Vec<Finding> {
    let storage = &config.storage;
    let mut findings = Vec::new();
    if !storage.force_sync {
        findings.push(advice("forceSync=no: what was acknowledged is lost when the machine stops"));
    }
    let mut dirs = vec![("dataDir", &storage.data_dir)];
    if storage.log_dir != storage.data_dir {
        dirs.push(("dataLogDir", &storage.log_dir));
    }
    let mut disks = Vec::new();
    for (name, dir) in dirs {
        let there = nearest(dir);
        if there != *dir && !storage.create_dirs {
            findings.push(problem(format!("{name} {}: is not there, and is not to be created", dir.display())));
            continue;
        }
        findings.extend(check_dir(host, name, dir, &there));
        disks.extend(queue_of(host, &there).map(|queue| queue.disk));
        if measure {
            findings.push(time_writes(name, &there));
        }
    }
    if let [first, second] = &disks[..]
        && first == second
    {
        findings
            .push(advice(format!("dataDir and dataLogDir are both on disk {first}: snapshots and the log's flushes wait for each other")));
    }
    findings
}

/// The directory, or the first above it that is there already.
fn nearest(dir: &Path) -> PathBuf {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    dir.ancestors().find(|a| a.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn check_dir(host: &Host, name: &str, dir: &Path, there: &Path) -> Vec<Finding> {
    let shown = dir.display();
    let fs = match statfs(there) {
        Ok(fs) => fs,
        Err(e) => return vec![problem(format!("{name} {shown}: {e}"))],
    };
    let mut findings = vec![file_system(name, &shown.to_string(), fs.f_type as u64 & 0xffff_ffff)];
    let room = fs.f_bavail.saturating_mul(u64::try_from(fs.f_bsize).unwrap_or(0));
    if room < ROOM_WANTED {
        findings.push(advice(format!("{name} {shown}: {} MiB left, and a full disk stops the server", room >> 20)));
    }
    if rustix::fs::access(there, rustix::fs::Access::WRITE_OK).is_err() {
        findings.push(problem(format!("{name} {shown}: this user may not write in {}", there.display())));
    }
    match queue_of(host, there) {
        Some(queue) => findings.extend(queue.findings()),
        None => findings.push(ok(format!("{name} {shown}: the kernel names no disk below it, so nothing is known of its cache"))),
    }
    findings
}

fn file_system(name: &str, dir: &str, magic: u64) -> Finding {
    let known = FILE_SYSTEMS.iter().find(|(number, ..)| *number == magic);
    match known.map(|(_, fs, kind)| (fs, kind)) {
        Some((fs, Kind::Measured)) => ok(format!("{name} {dir} is on {fs}")),
        Some((fs, Kind::Lost)) => problem(format!("{name} {dir} is on {fs}: nothing there survives the machine")),
        Some((fs, Kind::Remote)) => {
            advice(format!("{name} {dir} is on {fs}: durable is what somebody else says is durable, and a lock may not hold"))
        }
        Some((fs, Kind::Other)) => advice(format!("{name} {dir} is on {fs}: it works, and nothing was measured there (ext4, XFS)")),
        None => advice(format!("{name} {dir} is on a file system with number {magic:#x}: nothing was measured there (ext4, XFS)")),
    }
}

/// What the kernel says of a disk.
struct Queue {
    disk: String,
    write_cache: String,
    has_fua: bool,
    rotates: bool,
    scheduler: String,
}

fn queue_of(host: &Host, dir: &Path) -> Option<Queue> {
    let device = stat(dir).ok()?.st_dev;
    let link = host.path(&format!("/sys/dev/block/{}:{}", major(device), minor(device)));
    let block = std::fs::canonicalize(link).ok()?;
    // A partition is inside of its disk.
    let disk = [block.as_path(), block.parent()?].into_iter().find(|dir| dir.join("queue").is_dir())?;
    let value = |name: &str| std::fs::read_to_string(disk.join("queue").join(name)).map(|text| text.trim().to_owned()).unwrap_or_default();
    Some(Queue {
        disk: disk.file_name()?.to_string_lossy().into_owned(),
        write_cache: value("write_cache"),
        has_fua: value("fua") != "0",
        rotates: value("rotational") == "1",
        scheduler: value("scheduler"),
    })
}

impl Queue {
    fn findings(&self) -> Vec<Finding> {
        let Queue { disk, write_cache, has_fua, rotates, scheduler } = self;
        let mut findings = Vec::new();
        if write_cache == "write back" && !has_fua {
            findings.push(advice(format!(
                "disk {disk} has a write cache and no FUA: every group of writes takes two turns to the disk, the write and the flush of its cache"
            )));
        } else {
            findings.push(ok(format!("disk {disk}: write cache '{write_cache}', FUA {}", if *has_fua { "yes" } else { "no" })));
        }
        if *rotates {
            findings.push(advice(format!("disk {disk} says it rotates: every group of writes waits for it")));
        }
        if scheduler.contains("[bfq]") {
            findings.push(advice(format!(
                "disk {disk} is scheduled by bfq, which idles between writes that wait for each other ('none', 'mq-deadline')"
            )));
        }
        findings
    }
}

/// What one durable write takes: the latency of a lone client.
fn time_writes(name: &str, dir: &Path) -> Finding {
    let probe = dir.join(format!("{PROBE}.{}", std::process::id()));
    let timed = durable_writes(&probe);
    // It may never have been there.
    let _ = std::fs::remove_file(&probe);
    match timed {
        Ok(mut times) => {
            times.sort_unstable();
            let ms = |at: usize| times[at * (times.len() - 1) / 100].as_secs_f64() * 1e3;
            ok(format!(
                "{name}: a durable write of 4 KiB takes {:.2} ms (p50), {:.2} ms (p98): the latency of a lone client",
                ms(50),
                ms(98)
            ))
        }
        Err(e) => advice(format!("{name}: no direct writes there ({e}), so the log goes through the page cache")),
    }
}

fn durable_writes(probe: &Path) -> io::Result<Vec<Duration>> {
    let memory = vec![0u8; 2 * BLOCK];
    let from = memory.as_ptr().align_offset(BLOCK);
    let block = &memory[from..from + BLOCK];
    // Of a file that is there already, as segments are.
    std::fs::write(probe, block)?;
    let flags = (OFlags::DIRECT | OFlags::DSYNC).bits().cast_signed();
    let file = OpenOptions::new().write(true).custom_flags(flags).open(probe)?;
    file.sync_all()?;
    (0..WRITES)
        .map(|_| {
            let start = Instant::now();
            file.write_all_at(block, 0)?;
            Ok(start.elapsed())
        })
        .collect()
}

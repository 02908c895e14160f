//! What the operating system says: CPU time and memory of the server, and the machine a table was measured on.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// Kernel clock ticks are converted with this where the system does not say.
const TICKS_PER_SECOND_DEFAULT: u64 = 100;

/// CPU time of a process, all threads, those that have ended included. Counted in clock ticks (usually 10 ms):
/// good for windows of seconds.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_cpu_ticks(&stat).map(|ticks| Duration::from_nanos(ticks * 1_000_000_000 / ticks_per_second()))
}

/// utime + stime. The command name may hold blanks and brackets, so fields are counted behind the last bracket.
fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let utime: u64 = fields.next()?.parse().ok()?;
    let stime: u64 = fields.next()?.parse().ok()?;
    Some(utime + stime)
}

fn ticks_per_second() -> u64 {
    match rustix::param::clock_ticks_per_second() {
        0 => TICKS_PER_SECOND_DEFAULT,
        n => n,
    }
}

/// CPU time of the threads that are alive now, in nanoseconds: for windows of milliseconds. A thread that ends between
/// two readings is lost, so differences are taken per thread.
pub fn thread_cpu_times(pid: u32) -> Vec<(u32, u64)> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| {
            let tid: u32 = task.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            Some((tid, text.split_ascii_whitespace().next()?.parse().ok()?))
        })
        .collect()
}

/// Nanoseconds used between two readings of [`thread_cpu_times`].
pub fn cpu_between(before: &[(u32, u64)], after: &[(u32, u64)]) -> u64 {
    let earlier = |tid| before.iter().find(|(t, _)| *t == tid).map_or(0, |(_, ns)| *ns);
    after.iter().map(|&(tid, ns)| ns.saturating_sub(earlier(tid))).sum()
}

/// CPU time of this process.
pub fn own_cpu_time() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// Resident.
    pub rss: u64,
    /// Resident and not backed by a file: what the process really costs.
    pub rss_anon: u64,
    /// The most that was ever resident.
    pub rss_peak: u64,
}

/// Reads it; `None` when there is no such process.
pub fn memory(pid: u32) -> Option<Memory> {
    parse_memory(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_memory(status: &str) -> Option<Memory> {
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|l| l.strip_prefix(name))?;
        Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? << 10)
    };
    Some(Memory { rss: field("VmRSS:")?, rss_anon: field("RssAnon:")?, rss_peak: field("VmHWM:")? })
}

/// The machine, as it is printed beside a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Cores this process may use.
    pub cores: usize,
    /// Name of the processor.
    pub cpu: String,
    /// Kernel release.
    pub kernel: String,
    /// Runnable processes over 1, 5 and 15 minutes: a figure taken on a busy machine should say so.
    pub load_average: String,
    /// File system and device under the server's data, when told where it is.
    pub disk: Option<String>,
}

impl Machine {
    /// Describes this machine.
    pub fn describe(data_dir: Option<&Path>) -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|l| l.strip_prefix("model name")).and_then(|l| l.split_once(':')).map(|(_, n)| n.trim().to_owned());
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: cpu.unwrap_or_else(|| "unknown".to_owned()),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            load_average: fs::read_to_string("/proc/loadavg")
                .unwrap_or_default()
                .split_ascii_whitespace()
                .take(3)
                .collect::<Vec<_>>()
                .join(" "),
            disk: data_dir.map(|dir| describe_disk(dir).unwrap_or_else(|| "unknown".to_owned())),
        }
    }
}

fn describe_disk(dir: &Path) -> Option<String> {
    let dir = fs::canonicalize(dir).ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let mount = find_mount(&mounts, &dir)?;
    let device = mount.device.strip_prefix("/dev/").unwrap_or(mount.device);
    let mut text = format!("{} on {} ({})", mount.kind, device, mount.options);
    let setting = |name: &str| Some(fs::read_to_string(block_dir(device)?.join("queue").join(name)).ok()?.trim().to_owned());
    for (name, label) in [("write_cache", "write cache"), ("fua", "fua"), ("rotational", "rotational")] {
        if let Some(value) = setting(name) {
            text.push_str(&format!(", {label}: {value}"));
        }
    }
    Some(text)
}

/// The block device's directory; a partition's is inside that of its disk.
fn block_dir(device: &str) -> Option<std::path::PathBuf> {
    let class = fs::canonicalize(Path::new("/sys/class/block").join(device)).ok()?;
    if class.join("queue").is_dir() { Some(class) } else { class.parent().map(Path::to_path_buf) }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mount<'a> {
    device: &'a str,
    kind: &'a str,
    options: &'a str,
}

/// The mount that holds `dir`: the longest mount point above it, the last of equals.
fn find_mount<'a>(mounts: &'a str, dir: &Path) -> Option<Mount<'a>> {
    let mut best: Option<(usize, Mount<'a>)> = None;
    for line in mounts.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(device), Some(point), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if dir.starts_with(point) && best.is_none_or(|(len, _)| point.len() >= len) {
            best = Some((point.len(), Mount { device, kind, options }));
        }
    }
    best.map(|(_, mount)| mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_ticks_are_found_behind_a_hostile_name() {
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 700 30 0 0 20 0 9 0";
        assert_eq!(parse_cpu_ticks(stat), Some(730));
        assert_eq!(parse_cpu_ticks("42 (x) S 1"), None);
    }

    #[test]
    fn own_process_can_be_read() {
        let pid = std::process::id();
        assert!(cpu_time(pid).is_some());
        assert!(memory(pid).expect("status").rss >= memory(pid).expect("status").rss_anon);
        assert!(!thread_cpu_times(pid).is_empty());
        assert_eq!(cpu_time(0), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t 4096 kB\nVmRSS:\t    2048 kB\nRssAnon:\t 1024 kB\n";
        assert_eq!(parse_memory(status), Some(Memory { rss: 2 << 20, rss_anon: 1 << 20, rss_peak: 4 << 20 }));
        assert_eq!(parse_memory("Name:\tx\n"), None);
    }

    #[test]
    fn cpu_between_counts_new_threads_and_ignores_ended_ones() {
        assert_eq!(cpu_between(&[(1, 100), (2, 50)], &[(1, 130), (3, 7)]), 37);
    }

    #[test]
    fn the_longest_mount_point_wins() {
        let mounts = "/dev/a / ext4 rw 0 0\n/dev/b /data xfs rw,noatime 0 0\nproc /proc proc rw 0 0\n";
        assert_eq!(find_mount(mounts, Path::new("/data/zk")).map(|m| m.device), Some("/dev/b"));
        assert_eq!(find_mount(mounts, Path::new("/database")).map(|m| m.device), Some("/dev/a"));
    }
}

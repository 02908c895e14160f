//! What of this host matters to a server with this configuration: each thing is all right, or could be better, or has to be mended, and why.
//!
//! Changes nothing. Says what the kernel states; what a container forbids beyond that shows where an executor is started for a try.

mod disk;
#[cfg(test)]
mod tests;

use super::config::ServerConfig;
use crate::reactor::executors::{CorePlan, Executors, LOCKED_BYTES_PER_EXECUTOR};
use rustix::process::{Resource, getrlimit};
use std::fmt;
use std::path::{Path, PathBuf};

/// The oldest kernel whose io_uring is enough.
const KERNEL_MIN: (u32, u32) = (5, 8);
/// Since this kernel the rings of unprivileged users count against their limit of locked memory.
const KERNEL_COUNTS_RINGS: (u32, u32) = (6, 14);
/// Fewer descriptors are soon used up: each client takes one.
const FILES_WANTED: u64 = 65_536;
/// Clock sources that are read without a system call.
const FAST_CLOCKS: [&str; 5] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "riscv_clocksource"];
/// Swapping a tree out is not to be preferred to giving up caches.
const SWAPPINESS_FINE: u32 = 10;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Advice,
    /// The server will not start, or will not keep what it promises.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// How bad.
    pub verdict: Verdict,
    /// What was found, and why it matters.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Advice => "advice",
            Verdict::Problem => "PROBLEM",
        };
        write!(f, "{verdict:<8} {}", self.text)
    }
}

fn ok(text: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Ok, text: text.into() }
}

fn advice(text: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Advice, text: text.into() }
}

fn problem(text: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Problem, text: text.into() }
}

/// Looks at everything. With `measure`, a small file is written and removed in each directory, to time durable writes.
pub fn check(config: &ServerConfig, measure: bool) -> Vec<Finding> {
    let host = Host { root: PathBuf::from("/") };
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut findings = vec![kernel(&release), host.io_uring()];
    findings.extend(cores(config));
    let files = getrlimit(Resource::Nofile).maximum;
    let is_root = rustix::process::geteuid().is_root();
    let shards = CorePlan::new(config.cores.shards, config.cores.pin).map_or(1, |plan| plan.cores.len());
    findings.push(locked_memory(getrlimit(Resource::Memlock).current, shards, is_root || version(&release) < Some(KERNEL_COUNTS_RINGS)));
    findings.push(open_files(files, config));
    findings.extend(host.cpu_quota());
    findings.extend(host.governor());
    findings.push(host.clock());
    findings.push(host.huge_pages());
    findings.push(host.swap());
    findings.extend(host.memory_limit());
    findings.extend(host.backlog(config));
    findings.extend(disk::check(&host, config, measure));
    findings
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn kernel(release: &str) -> Finding {
    match version(release) {
        Some(v) if v >= KERNEL_MIN => ok(format!("kernel {release}")),
        _ => problem(format!(
            "kernel {release}: io_uring, without which the server does not start, needs {}.{} or newer",
            KERNEL_MIN.0, KERNEL_MIN.1
        )),
    }
}

/// How the work would be spread, and whether executors start at all.
fn cores(config: &ServerConfig) -> Vec<Finding> {
    let plan = match CorePlan::new(config.cores.shards, config.cores.pin) {
        Ok(plan) => plan,
        Err(why) => return vec![problem(why.to_string())],
    };
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = plan.cores.len();
    let bound = if plan.pinned() { "each bound to a core" } else { "not bound to cores" };
    let spread = format!("shards: {shards}, on {usable} cores that this process may use, {bound}");
    vec![
        if shards > usable { advice(format!("{spread}: they take time from each other; zoo.shards lower or unset")) } else { ok(spread) },
        match Executors::try_out(&plan) {
            Ok(()) => ok("an executor starts, so io_uring works for this user, here"),
            Err(why) => problem(why.to_string()),
        },
    ]
}

fn locked_memory(limit: Option<u64>, shards: usize, is_free: bool) -> Finding {
    let needed = shards as u64 * LOCKED_BYTES_PER_EXECUTOR;
    let needs = format!("the rings of {shards} shards need {} KiB", needed >> 10);
    match limit {
        _ if is_free => ok("locked memory: the rings do not count for this user on this kernel"),
        None => ok(format!("locked memory is unlimited; {needs}")),
        Some(limit) if limit >= needed => ok(format!("locked memory {} KiB; {needs}", limit >> 10)),
        Some(limit) => problem(format!("locked memory {} KiB, and {needs} (ulimit -l, LimitMEMLOCK=)", limit >> 10)),
    }
}

fn open_files(limit: Option<u64>, config: &ServerConfig) -> Finding {
    let wanted = config.net.max_cnxns.map_or(FILES_WANTED, |n| FILES_WANTED.min(n as u64));
    match limit {
        Some(limit) if limit < wanted => {
            advice(format!("{limit} open files at most, and every client takes one (ulimit -Hn, LimitNOFILE=)"))
        }
        Some(limit) => ok(format!("{limit} open files at most")),
        None => ok("open files are unlimited"),
    }
}

/// The kernel's own words, below a root.
struct Host {
    root: PathBuf,
}

impl Host {
    fn read(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn io_uring(&self) -> Finding {
        match self.read("/proc/sys/kernel/io_uring_disabled").as_deref() {
            None | Some("0") => ok("io_uring is allowed to everybody"),
            Some("1") => {
                let group = self.read("/proc/sys/kernel/io_uring_group").unwrap_or_default();
                advice(format!("io_uring is for privileged processes and group {group} only (kernel.io_uring_disabled=1)"))
            }
            Some(_) => problem("io_uring is switched off (kernel.io_uring_disabled=2); the server does not start without it"),
        }
    }

    /// The control group of this process and those above it, the innermost first.
    fn groups(&self) -> Vec<String> {
        let own = self.read("/proc/self/cgroup").unwrap_or_default();
        let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").trim_matches('/').to_owned();
        let above = Path::new(&own).ancestors().map(|a| format!("/sys/fs/cgroup/{}", a.display()));
        above.map(|path| path.trim_end_matches('/').to_owned()).collect()
    }

    fn cpu_quota(&self) -> Option<Finding> {
        let quota = self.groups().iter().find_map(|group| self.read(&format!("{group}/cpu.max")).filter(|max| !max.starts_with("max")));
        Some(match quota {
            Some(quota) => advice(format!(
                "a CPU quota ({quota} µs): who has used it up stands still until the period ends, and that is p99; weights or whole cores do not do that"
            )),
            None => ok("no CPU quota"),
        })
    }

    fn memory_limit(&self) -> Option<Finding> {
        let limit = self.groups().iter().find_map(|group| self.read(&format!("{group}/memory.max"))?.parse::<u64>().ok())?;
        Some(advice(format!(
            "memory is limited to {} MiB: a tree that outgrows it is the end of the server (memory.max, MemoryMax=)",
            limit >> 20
        )))
    }

    fn governor(&self) -> Option<Finding> {
        let governor = self.read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")?;
        Some(match governor.as_str() {
            "powersave" | "conservative" => advice(format!(
                "frequency governor {governor}: a server that mostly waits runs slowly then ('performance' where latency counts)"
            )),
            _ => ok(format!("frequency governor {governor}")),
        })
    }

    fn clock(&self) -> Finding {
        let source = self.read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
        let source = source.as_deref().unwrap_or("unknown");
        if FAST_CLOCKS.contains(&source) {
            ok(format!("clock source {source}"))
        } else {
            advice(format!("clock source {source}: reading the clock may be a system call, and every turn of a core reads it"))
        }
    }

    fn huge_pages(&self) -> Finding {
        match self.read("/sys/kernel/mm/transparent_hugepage/enabled") {
            Some(text) if text.contains("[always]") => {
                advice("transparent huge pages are 'always': resident memory may be larger than what is used ('madvise')")
            }
            _ => ok("transparent huge pages are not forced on the server"),
        }
    }

    fn swap(&self) -> Finding {
        let swaps = self.read("/proc/swaps").unwrap_or_default().lines().count();
        let swappiness: Option<u32> = self.read("/proc/sys/vm/swappiness").and_then(|text| text.parse().ok());
        match (swaps > 1, swappiness) {
            (false, _) => ok("no swap"),
            (true, Some(n)) if n <= SWAPPINESS_FINE => ok(format!("there is swap, and vm.swappiness is {n}")),
            (true, n) => advice(format!(
                "there is swap and vm.swappiness is {}: a tree that is paged out answers late, and sessions end (1, or MemorySwapMax=0)",
                n.map_or("unknown".to_owned(), |n| n.to_string())
            )),
        }
    }

    /// Of connections that wait to be accepted, when all clients come back at once.
    fn backlog(&self, config: &ServerConfig) -> Option<Finding> {
        let limit: u32 = self.read("/proc/sys/net/core/somaxconn")?.parse().ok()?;
        let wanted = config.net.backlog?;
        Some(if limit < wanted {
            advice(format!("clientPortListenBacklog={wanted} is cut to {limit} (net.core.somaxconn)"))
        } else {
            ok(format!("net.core.somaxconn {limit}"))
        })
    }
}

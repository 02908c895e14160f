//! Facts about this process and its machine, read from the system when a command asks for them.

use std::fs;
use std::path::Path;

/// What `envi` and `mntr` say about the process.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct ProcessFacts {
    pub host_name: String,
    pub os_name: String,
    pub os_arch: String,
    pub os_version: String,
    pub user_name: String,
    pub user_home: String,
    pub user_dir: String,
    pub temp_dir: String,
    /// The path of the running program.
    pub program: String,
    pub memory_available_bytes: u64,
    pub memory_limit_bytes: u64,
    pub memory_used_bytes: u64,
    pub open_files: u64,
    pub open_files_max: u64,
}

impl ProcessFacts {
    /// Reads them; what cannot be read stays empty or 0.
    #[must_use]
    pub fn read() -> Self {
        let uname = rustix::system::uname();
        let text = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        ProcessFacts {
            host_name: text(uname.nodename()),
            os_name: text(uname.sysname()),
            os_arch: text(uname.machine()),
            os_version: text(uname.release()),
            user_name: user_name(&fs::read_to_string("/etc/passwd").unwrap_or_default(), rustix::process::getuid().as_raw()),
            user_home: variable("HOME"),
            user_dir: std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default(),
            temp_dir: std::env::temp_dir().display().to_string(),
            program: std::env::current_exe().map(|p| p.display().to_string()).unwrap_or_default(),
            memory_available_bytes: kib_field(&meminfo, "MemAvailable:") << 10,
            memory_limit_bytes: kib_field(&meminfo, "MemTotal:") << 10,
            memory_used_bytes: kib_field(&status, "VmRSS:") << 10,
            open_files: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
            open_files_max: rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX),
        }
    }
}

/// The name of this user; its number where it has none.
fn user_name(passwd: &str, uid: u32) -> String {
    let number = uid.to_string();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&number));
    line.and_then(|line| line.split(':').next()).map_or(number.clone(), str::to_owned)
}

/// The number of a `Name:   123 kB` line.
fn kib_field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Bytes of all files below `dir`; what vanishes meanwhile counts as nothing. Symbolic links are not followed.
#[must_use]
pub fn directory_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => directory_bytes(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_sizes_are_sums_over_the_whole_tree() {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(dir.path().join("version-2")).expect("create");
        fs::write(dir.path().join("myid"), b"12").expect("write");
        fs::write(dir.path().join("version-2/log.1"), [0; 1000]).expect("write");
        assert_eq!(directory_bytes(dir.path()), 1002);
        assert_eq!(directory_bytes(&dir.path().join("absent")), 0);
    }

    #[test]
    fn the_running_process_has_files_and_memory() {
        let facts = ProcessFacts::read();
        assert!(facts.open_files > 0 && facts.open_files <= facts.open_files_max);
        assert!(facts.memory_used_bytes > 0 && facts.memory_limit_bytes > facts.memory_used_bytes);
        assert!(!facts.os_name.is_empty() && !facts.user_dir.is_empty());
    }

    #[test]
    fn users_are_named_when_they_have_a_name() {
        let passwd = "root:x:0:0:root:/:/bin/sh\nzookeeper:x:105:110::/var/lib/zookeeper:/bin/false\n";
        assert_eq!(user_name(passwd, 105), "zookeeper");
        assert_eq!(user_name(passwd, 10), "10");
    }

    #[test]
    fn fields_that_are_absent_read_as_zero() {
        assert_eq!(kib_field("VmRSS:\t  1234 kB\nVmSwap: 0 kB", "VmRSS:"), 1234);
        assert_eq!(kib_field("VmRSS: much", "VmRSS:"), 0);
        assert_eq!(kib_field("", "VmRSS:"), 0);
    }
}

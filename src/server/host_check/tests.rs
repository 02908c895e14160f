use super::*;
use std::fs;

/// A host that says these things of itself.
fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().expect("a directory");
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(path, text).expect("written");
    }
    let root = dir.path().to_owned();
    (dir, Host { root })
}

fn config(words: &[&str]) -> ServerConfig {
    let words: Vec<_> = words.iter().map(|w| (*w).to_owned()).collect();
    ServerConfig::load(&words, &|_| None).expect("valid").0
}

#[test]
fn kernels_are_told_apart_by_number_not_by_text() {
    let verdict = |release: &str| kernel(release).verdict;
    assert_eq!((verdict("5.10.0-28-amd64"), verdict("6.1"), verdict("10.0.0")), (Verdict::Ok, Verdict::Ok, Verdict::Ok));
    assert_eq!((verdict("5.7.19"), verdict("4.18.0"), verdict("rubbish")), (Verdict::Problem, Verdict::Problem, Verdict::Problem));
}

#[test]
fn locked_memory_has_to_do_for_every_shard() {
    let kib = |n: u64| Some(n << 10);
    assert_eq!(locked_memory(kib(8_192), 30, false).verdict, Verdict::Ok);
    assert_eq!(locked_memory(kib(64), 1, false).verdict, Verdict::Problem);
    assert_eq!(locked_memory(kib(8_192), 64, false).verdict, Verdict::Problem);
    assert_eq!((locked_memory(kib(512), 64, true).verdict, locked_memory(None, 64, false).verdict), (Verdict::Ok, Verdict::Ok));
    assert_eq!(locked_memory(kib(64), 1, true).verdict, Verdict::Problem, "the executor asks for it, whoever starts it");
}

#[test]
fn few_descriptors_matter_unless_clients_are_few() {
    let (any, few) = (config(&["--dataDir=x"]), config(&["--dataDir=x", "--maxCnxns=100"]));
    assert_eq!((open_files(Some(1_024), &any).verdict, open_files(Some(1_024), &few).verdict), (Verdict::Advice, Verdict::Ok));
}

#[test]
fn io_uring_is_allowed_restricted_or_off() {
    let verdicts = ["0\n", "1\n", "2\n"].map(|text| {
        let (_dir, host) = host(&[("proc/sys/kernel/io_uring_disabled", text)]);
        host.io_uring().verdict
    });
    assert_eq!(verdicts, [Verdict::Ok, Verdict::Advice, Verdict::Problem]);
    assert_eq!(host(&[]).1.io_uring().verdict, Verdict::Ok, "a kernel that says nothing forbids nothing");
}

#[test]
fn a_quota_of_any_group_above_is_found() {
    let files = [
        ("proc/self/cgroup", "0::/system.slice/zoo.service\n"),
        ("sys/fs/cgroup/system.slice/zoo.service/cpu.max", "max 100000\n"),
        ("sys/fs/cgroup/system.slice/cpu.max", "150000 100000\n"),
        ("sys/fs/cgroup/system.slice/zoo.service/memory.max", "max\n"),
    ];
    let (_dir, limited) = host(&files);
    let found = limited.cpu_quota().expect("something");
    assert!(found.verdict == Verdict::Advice && found.text.contains("150000 100000"), "{found}");
    assert_eq!(limited.memory_limit(), None);
    let (_dir, free) = host(&files[..2]);
    assert_eq!(free.cpu_quota().map(|f| f.verdict), Some(Verdict::Ok));
}

#[test]
fn what_makes_a_host_slow_is_advice() {
    let (_dir, slow) = host(&[
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
        ("proc/swaps", "Filename Type\n/dev/sda2 partition\n"),
        ("proc/sys/vm/swappiness", "60\n"),
        ("proc/sys/net/core/somaxconn", "128\n"),
    ]);
    let backlog = config(&["--dataDir=x", "--clientPortListenBacklog=1000"]);
    let findings = [Some(slow.clock()), Some(slow.huge_pages()), slow.governor(), Some(slow.swap()), slow.backlog(&backlog)];
    for finding in findings {
        let finding = finding.expect("something is said");
        assert_eq!(finding.verdict, Verdict::Advice, "{finding}");
    }
}

#[test]
fn a_host_as_it_should_be_gets_no_advice() {
    let (_dir, fast) = host(&[
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
        ("proc/swaps", "Filename Type\n"),
    ]);
    for finding in [Some(fast.clock()), Some(fast.huge_pages()), fast.governor(), Some(fast.swap()), Some(fast.io_uring())] {
        let finding = finding.expect("something is said");
        assert_eq!(finding.verdict, Verdict::Ok, "{finding}");
    }
}

#[test]
fn a_directory_that_nobody_may_create_is_a_problem_and_nothing_is_left_of_a_measurement() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("not/there");
    let set = format!("--dataDir={}", data.display());
    let real = Host { root: PathBuf::from("/") };
    let refused = disk::check(&real, &config(&[&set, "--zookeeper.datadir.autocreate=false"]), true);
    assert!(refused.iter().any(|f| f.verdict == Verdict::Problem && f.text.contains("is not there")), "{refused:?}");
    let made = disk::check(&real, &config(&[&set]), true);
    assert!(made.iter().any(|f| f.text.contains("durable write") || f.text.contains("direct writes")), "{made:?}");
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
}

#[test]
fn acknowledgements_that_are_not_durable_are_told_of() {
    let findings = disk::check(&Host { root: PathBuf::from("/") }, &config(&["--dataDir=.", "--forceSync=no"]), false);
    assert!(findings.iter().any(|f| f.verdict == Verdict::Advice && f.text.contains("forceSync=no")), "{findings:?}");
}

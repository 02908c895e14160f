//! Puts the commit and its date into the binary. Without git both can be given as `ZOO_COMMIT` and `SOURCE_DATE_EPOCH`; without
//! either the commit is "unknown".

use std::process::Command;

fn main() {
    for name in ["ZOO_COMMIT", "SOURCE_DATE_EPOCH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
        && std::path::Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
    }
    let from_env = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let commit = from_env("ZOO_COMMIT").or_else(|| git(&["rev-parse", "HEAD"]));
    let seconds = from_env("SOURCE_DATE_EPOCH").or_else(|| git(&["show", "-s", "--format=%ct", "HEAD"]));
    println!("cargo::rustc-env=ZOO_COMMIT={}", commit.unwrap_or_else(|| "unknown".to_owned()));
    println!("cargo::rustc-env=ZOO_COMMIT_SECONDS={}", seconds.filter(|s| s.parse::<u32>().is_ok()).unwrap_or_else(|| "0".to_owned()));
}

/// First line of what git prints; `None` without git, outside a repository or when it prints nothing.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
    let line = String::from_utf8(output.stdout).ok()?.lines().next()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}

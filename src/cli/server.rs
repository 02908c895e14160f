//! `zoo server`: a server in the foreground.

use super::{EXIT_FAILURE, EXIT_USAGE, fail, logging, say};
use crate::server::host_check::{self, Finding, Verdict};
use crate::server::{ServerConfig, bootstrap};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::io;
use std::process::ExitCode;

/// Start a server in the foreground
///
/// Settings are ZooKeeper's own keys, with or without "zookeeper." in front; the last one wins: defaults, then FILE, then -D options in
/// the environment variables JVMFLAGS and SERVER_JVMFLAGS, then the command line. Keys of this server begin with "zoo.": zoo.shards,
/// zoo.pin, zoo.replicaShare, zoo.placement, zoo.rebalanceInterval, zoo.sessionPassword, zoo.outBufferMax, zoo.watchesPerSessionMax, zoo.multiOpsMax,
/// zoo.logWriter.
///
/// Without FILE: 127.0.0.1:2181, data in ./zoo-data, tickTime 2000. Options of this command come before FILE.
///
/// Exit codes: 0 stopped, 1 failure, 2 bad command line or configuration, 3 data directory, 14 election port.
#[derive(clap::Args, Default)]
pub(super) struct ServerArgs {
    /// An unmodified zoo.cfg and settings: [FILE] [--key value | --key=value | -Dname=value]...
    #[arg(value_name = "FILE or SETTING", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) settings: Vec<String>,
    /// Start nothing: say what of this host matters for this configuration, each thing as ok, advice or PROBLEM, with the reason. The exit code is 1
    /// when there is a problem
    #[arg(long)]
    pub(super) check: bool,
    /// With --check: time durable writes in the directories, with a file of 4 KiB that is removed
    #[arg(long, requires = "check")]
    pub(super) measure: bool,
    /// The process that started this one, and without which it is not to go on
    #[arg(long, hide = true, value_name = "PID")]
    pub(super) ends_with: Option<i32>,
}

pub(super) fn run(args: &ServerArgs, log_level: Option<&str>) -> ExitCode {
    let (settings, level_behind) = match take_log_level(&args.settings) {
        Ok(taken) => taken,
        Err(why) => return fail(EXIT_USAGE, &why),
    };
    if let Err(why) = logging::start(level_behind.as_deref().or(log_level)) {
        return fail(EXIT_USAGE, &why);
    }
    if let Some(parent) = args.ends_with
        && let Err(why) = end_with(parent)
    {
        return fail(EXIT_FAILURE, &format!("cannot end together with process {parent}: {why}"));
    }
    let (config, warnings) = match ServerConfig::load(&settings, &|name| std::env::var(name).ok()) {
        Ok(loaded) => loaded,
        Err(why) => return fail(EXIT_USAGE, &why),
    };
    if args.check {
        return check_host(&config, &warnings, args.measure);
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    match bootstrap::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(why.exit_code(), &why),
    }
}

/// What `--check` prints.
fn check_host(config: &ServerConfig, warnings: &[String], measure: bool) -> ExitCode {
    let of_settings = warnings.iter().map(|warning| Finding { verdict: Verdict::Advice, text: warning.clone() });
    let findings: Vec<_> = of_settings.chain(host_check::check(config, measure)).collect();
    findings.iter().for_each(|finding| say(&finding.to_string()));
    let of = |verdict| findings.iter().filter(|f| f.verdict == verdict).count();
    say(&format!("{} problems, {} pieces of advice", of(Verdict::Problem), of(Verdict::Advice)));
    if of(Verdict::Problem) == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) }
}

/// From now on this process is asked to stop when `parent` ends, in whatever way.
fn end_with(parent: i32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // It may have ended before the kernel was told; then somebody else has taken this process over.
    let is_there = getppid().is_some_and(|now| now.as_raw_nonzero().get() == parent);
    if is_there { Ok(()) } else { Err(io::Error::other("it has ended")) }
}

/// `--log-level` may also stand among the settings, where the argument parser no longer looks.
fn take_log_level(args: &[String]) -> Result<(Vec<String>, Option<String>), &'static str> {
    let (mut settings, mut level) = (Vec::new(), None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--log-level" {
            level = Some(args.next().ok_or("--log-level needs a value")?.clone());
        } else if let Some(value) = arg.strip_prefix("--log-level=") {
            level = Some(value.to_owned());
        } else {
            settings.push(arg.clone());
        }
    }
    Ok((settings, level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_level_is_found_among_the_settings() {
        let args = |list: &[&str]| list.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
        let taken = take_log_level(&args(&["zoo.cfg", "--log-level", "debug", "--tickTime", "5"]));
        assert_eq!(taken, Ok((args(&["zoo.cfg", "--tickTime", "5"]), Some("debug".to_owned()))));
        assert_eq!(take_log_level(&args(&["--log-level=off"])), Ok((vec![], Some("off".to_owned()))));
        assert!(take_log_level(&args(&["--log-level"])).is_err());
    }

    #[test]
    fn a_server_ends_with_its_own_parent_only() {
        assert!(end_with(i32::MAX).is_err(), "no process has that number, or its death has gone unnoticed");
    }
}

//! The `zoo` command: arguments in, exit code out; one file per subcommand.
//!
//! `zoo server` ends with ZooKeeper's exit codes, the other subcommands with 0, 1 for a failure and 2 for a bad invocation.

mod balancing;
pub mod dump;
mod ensemble;
mod hold;
mod log;
mod logging;
mod server;
mod shell;
mod snapshot;
mod stages;
mod status;
mod watch;

use crate::client::{Builder, ZooClient};
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// Something is wrong with a file, or could not be done.
const EXIT_FAILURE: u8 = 1;
/// The invocation or the configuration makes no sense.
const EXIT_USAGE: u8 = 2;

const ABOUT: &str = "A drop-in Apache ZooKeeper server.\n\nWithout a subcommand it starts a standalone server for development on 127.0.0.1:2181 \
    with its data in ./zoo-data.";
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("ZOO_COMMIT"), ")");

#[derive(Parser)]
#[command(name = "zoo", version = VERSION, about = ABOUT, disable_help_subcommand = true)]
struct Cli {
    /// What to log to standard error: off, error, warn, info, debug or trace [default: info, or the environment variable ZOO_LOG]
    #[arg(long, value_name = "LEVEL", global = true)]
    log_level: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Server(server::ServerArgs),
    Cli(shell::ShellArgs),
    Ensemble(ensemble::EnsembleArgs),
    Log(log::LogArgs),
    Snapshot(snapshot::SnapshotArgs),
    Status(status::StatusArgs),
    Watch(watch::WatchArgs),
    Lock(hold::LockArgs),
    Elect(hold::ElectArgs),
}

/// Where a command's session is, and how long it lives.
#[derive(clap::Args)]
struct ClientArgs {
    /// The servers: host:port,host:port,...[/chroot]
    #[arg(short, long, value_name = "CONNECT_STRING", default_value = "localhost:2181")]
    server: String,
    /// Wanted session timeout
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(100..=86_400_000))]
    session_timeout: u64,
}

impl ClientArgs {
    fn session_timeout(&self) -> Duration {
        Duration::from_millis(self.session_timeout)
    }

    fn builder(&self) -> Builder {
        ZooClient::builder(&self.server).session_timeout(self.session_timeout())
    }
}

/// How results are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// Runs the command line; `args` begins with the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(end) => return explain(&end),
    };
    match cli.command {
        None => server::run(&server::ServerArgs::default(), cli.log_level.as_deref()),
        Some(Command::Server(args)) => server::run(&args, cli.log_level.as_deref()),
        Some(Command::Ensemble(args)) => ensemble::run(&args),
        Some(Command::Log(args)) => offline(|out| log::run(&args, &mut std::io::stdin().lock(), out)),
        Some(Command::Snapshot(args)) => offline(|out| snapshot::run(&args, out)),
        Some(Command::Cli(args)) => shell::run(&args),
        Some(Command::Status(args)) => status::run(&args),
        Some(Command::Watch(args)) => watch::run(&args),
        Some(Command::Lock(args)) => hold::lock(&args),
        Some(Command::Elect(args)) => hold::elect(&args),
    }
}

/// Runs a subcommand that only reads and writes files. `Ok(false)`: it found something wrong, and has said so.
fn offline(command: impl FnOnce(&mut dyn Write) -> Result<bool, String>) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let result = command(&mut out);
    // A reader that went away is no reason to fail differently.
    let _ = out.flush();
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_FAILURE),
        Err(why) => fail(EXIT_FAILURE, &why),
    }
}

/// Prints help, version or a usage error where it belongs.
fn explain(end: &clap::Error) -> ExitCode {
    // A reader that went away is no reason to fail differently.
    let _ = end.print();
    if end.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
}

/// A line for the user; one who has gone away is no reason to stop.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Says why on standard error.
fn fail(code: u8, why: &dyn std::fmt::Display) -> ExitCode {
    eprint!("{}", logging::escape(format!("zoo: {why}\n").as_bytes()));
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn server_keys_reach_the_server_as_they_are() {
        let args = ["zoo", "--log-level", "debug", "server", "zoo.cfg", "--tickTime", "5", "-Dzookeeper.x=y", "--a=b"];
        let cli = Cli::try_parse_from(args).expect("valid");
        assert_eq!(cli.log_level.as_deref(), Some("debug"));
        let Some(Command::Server(server)) = cli.command else { panic!("not the server") };
        assert_eq!(server.settings, ["zoo.cfg", "--tickTime", "5", "-Dzookeeper.x=y", "--a=b"]);

        let cli = Cli::try_parse_from(["zoo", "server", "--ends-with", "17", "zoo.cfg", "--a=b"]).expect("valid");
        let Some(Command::Server(server)) = cli.command else { panic!("not the server") };
        assert_eq!((server.ends_with, server.settings), (Some(17), vec!["zoo.cfg".to_owned(), "--a=b".to_owned()]));

        let cli = Cli::try_parse_from(["zoo", "server", "--clientPort", "2281"]).expect("valid");
        let Some(Command::Server(server)) = cli.command else { panic!("not the server") };
        assert_eq!(server.settings, ["--clientPort", "2281"]);
    }

    #[test]
    fn help_and_version_are_no_errors_and_nonsense_is() {
        for args in [&["zoo", "--help"][..], &["zoo", "server", "--help"], &["zoo", "--version"]] {
            let end = Cli::try_parse_from(args).err().expect("ends here");
            assert!(!end.use_stderr(), "{args:?}");
        }
        for args in [&["zoo", "nonsense"][..], &["zoo", "--nonsense"]] {
            assert!(Cli::try_parse_from(args).is_err_and(|e| e.use_stderr()), "{args:?}");
        }
        assert!(VERSION.starts_with(env!("CARGO_PKG_VERSION")) && VERSION.contains("commit"));
    }
}

//! The command line.

use crate::case::Case;
use crate::disturbance::Disturbance;
use crate::driver::Pace;
use crate::fan_out::{FanOutOptions, Watching};
use crate::fill::FillOptions;
use crate::idle::IdleOptions;
use crate::load::LoadOptions;
use crate::proxy::LinkSpec;
use crate::schedule::Spacing;
use crate::sessions::SessionsOptions;
use crate::suite::workload_file;
use crate::target::{Target, parse_addr};
use crate::workload::Mix;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Load generator for ZooKeeper servers: checks every reply, measures latency, throughput, and what it costs the server.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES, args_override_self = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  loadgen run --server 127.0.0.1:2181 --mix get=90,set=10 --connections 50 --in-flight 16
  loadgen run --server 127.0.0.1:2181 --pid 4711 --mix set --rate 5000 --duration 30
  loadgen fill --server 127.0.0.1:2181 --pid 4711 --znodes 1000000
  loadgen compare --target 127.0.0.1:2281,4711,zoo --target 127.0.0.1:2381,4712,java --mix get --alternations 5

Exit status: 0 done, 1 a wrong reply, a lost connection or a failure, 2 bad usage.";

/// The subcommands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)]
pub enum Command {
    /// Load one server or ensemble with a mix of operations, in a closed loop (--in-flight) or an open one (--rate)
    Run {
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        load: LoadArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Measure running servers (or ensembles) in turns, in closed loops and then in open ones at the same rate
    Compare(CompareArgs),
    /// Create many znodes in the layout /app/svc-123/inst-456 and weigh the server
    Fill {
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        fill: FillArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Change znodes that connections watch: time and CPU until the last event
    FanOut {
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        fan_out: FanOutArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Open and close sessions as fast as the server lets us
    Sessions {
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        sessions: SessionsArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Open many sessions and keep them idle: memory and CPU of each; then cut all connections at once and have all come back
    Idle {
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        idle: IdleArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Run workloads that are described in files on one server or several in turns, and report them
    Suite(SuiteArgs),
    /// Put runs that were saved with --json or --save side by side
    Report(ReportArgs),
    /// Stand between servers and make links slow, as told on standard input: "delay NAME MILLISECONDS"; ends with it
    Proxy {
        /// Name, where to listen, where to connect to; links may share a name
        #[arg(long, required = true, value_name = "NAME=HOST:PORT=HOST:PORT")]
        link: Vec<LinkSpec>,
    },
    /// Start a server and measure the time to its first answered getData; it is left running
    Start(StartArgs),
}

/// Which server.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Address of the server; several of an ensemble, between commas, get the connections in turn
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2181", value_parser = parse_addr, value_delimiter = ',')]
    pub server: Vec<SocketAddr>,
    /// Its process (or processes, between commas), to report CPU time and memory
    #[arg(long, value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Its name in reports; its first address when none is given
    #[arg(long)]
    pub label: Option<String>,
}

impl ServerArgs {
    /// As a target.
    pub fn target(&self) -> Result<Target, String> {
        Target::new(self.server.clone(), self.pid.clone(), self.label.clone()).ok_or_else(|| "no server is given".to_owned())
    }
}

/// How to report.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// The servers' data directory, to name its disk beside the figures
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// How durable an acknowledged write is, to print beside the figures (it cannot be seen from outside)
    #[arg(long, value_name = "TEXT", default_value = "not stated (--durability)")]
    pub durability: String,
}

/// What load.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Operations and their weights: get, exists, children, set, create, create-seq, delete, multi
    #[arg(long, default_value = "get")]
    pub mix: Mix,
    /// Sessions
    #[arg(long, default_value_t = 50, value_parser = positive)]
    pub connections: usize,
    /// Closed loop: requests each connection keeps outstanding
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub in_flight: usize,
    /// Open loop: requests a second in all; latency counts from the scheduled time
    #[arg(long, value_name = "OPS", value_parser = positive_f64)]
    pub rate: Option<f64>,
    /// Open loop: steady or poisson arrivals
    #[arg(long, default_value = "steady")]
    pub spacing: Spacing,
    /// Znodes read and written, chosen uniformly
    #[arg(long, default_value_t = 1_000, value_parser = positive)]
    pub keys: usize,
    /// Bytes of a value
    #[arg(long, default_value_t = 100)]
    pub value_size: usize,
    /// setData parts of one multi
    #[arg(long, default_value_t = 4, value_parser = positive)]
    pub multi_size: usize,
    /// Measured seconds
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = positive_f64)]
    pub duration: f64,
    /// Seconds of load before that
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    pub warmup: f64,
    /// Seconds to wait for the last replies
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub drain: f64,
    /// Of every random choice: the same seed sends the same requests
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads that drive the connections
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub threads: usize,
    /// Where the run's znodes live
    #[arg(long, value_name = "PATH", default_value = "/loadgen", value_parser = znode_path)]
    pub root: String,
    /// Session timeout to ask for, in seconds
    #[arg(long, value_name = "S", default_value_t = 30)]
    pub session_timeout: u64,
    /// Directory the server writes snapshots to: report latencies during and outside of them
    #[arg(long, value_name = "DIR")]
    pub snapshot_dir: Option<PathBuf>,
    /// Leave the keys for the next run
    #[arg(long)]
    pub keep: bool,
    /// Look for every znode whose create was acknowledged and that was not deleted, before they are removed
    #[arg(long)]
    pub verify: bool,
    /// A client whose connection breaks goes at once to the next server with its session; without this the run fails
    #[arg(long)]
    pub reconnect: bool,
    /// Shell command to run once in the middle; latencies before, during and after it are told apart
    #[arg(long, value_name = "COMMAND")]
    pub during: Option<String>,
    /// Measured seconds before that
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = positive_f64)]
    pub during_at: f64,
}

impl LoadArgs {
    /// With the pace the arguments ask for.
    pub fn options(&self) -> LoadOptions {
        let pace = match self.rate {
            Some(rate) => Pace::Open { rate, spacing: self.spacing },
            None => Pace::Closed { in_flight: self.in_flight, spacing: self.spacing },
        };
        LoadOptions {
            mix: self.mix.clone(),
            connections: self.connections,
            threads: self.threads,
            pace,
            key_count: self.keys,
            value_size: self.value_size,
            multi_size: self.multi_size,
            warmup_s: self.warmup.max(0.0),
            duration_s: self.duration,
            drain_s: self.drain.max(0.0),
            seed: self.seed,
            root: self.root.clone(),
            session_timeout: Duration::from_secs(self.session_timeout),
            snapshot_dir: self.snapshot_dir.clone(),
            keep: self.keep,
            reconnect: self.reconnect,
            verify: self.verify,
            disturbance: self.during.clone().map(|command| Disturbance { command, after_s: self.during_at }),
        }
    }
}

/// Servers and how they are measured in turns.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// A server or ensemble; to be given again, each is compared with the first
    #[arg(long, required = true, value_name = TARGET)]
    pub target: Vec<Target>,
    /// What to run on them
    #[arg(long, value_enum, default_value_t = CaseKind::Load)]
    pub case: CaseKind,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub load: LoadArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub fan_out: FanOutArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub turns: TurnsArgs,
}

/// How a target is told.
const TARGET: &str = "HOST:PORT[,HOST:PORT…][,PID…][,LABEL][,ops=OP+OP…][,protocol=etcd]";

impl CompareArgs {
    /// What is run.
    pub fn case(&self) -> Case {
        let options = self.load.options();
        match self.case {
            CaseKind::Load => Case::Load(Box::new(options)),
            CaseKind::FanOut => Case::FanOut(self.fan_out.options()),
            CaseKind::Sessions => Case::Sessions(SessionsOptions {
                clients: options.connections,
                warmup_s: options.warmup_s,
                duration_s: options.duration_s,
                session_timeout: options.session_timeout,
            }),
        }
    }
}

/// How often, how fast, and where to.
#[derive(Debug, Args)]
pub struct TurnsArgs {
    /// Turns each target gets
    #[arg(long, default_value_t = 5, value_parser = positive)]
    pub alternations: usize,
    /// Rate of the open loops that follow closed ones, as a share of the slowest target's closed-loop throughput; 0 leaves them out
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub open_share: f64,
    /// Seconds of load on each target before anything counts (a JVM compiles its code first)
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub warm_run: f64,
    /// Directory for the runs: JSON and HdrHistogram log of each
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
    /// Write a page with tables and drawings, too
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
}

/// What a comparison runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CaseKind {
    /// As `run`
    Load,
    /// As `fan-out`
    FanOut,
    /// As `sessions`, with --connections clients
    Sessions,
}

/// How many znodes.
#[derive(Debug, Args)]
pub struct FillArgs {
    /// Znodes to create, parents not counted
    #[arg(long, default_value_t = 1_000_000, value_parser = positive)]
    pub znodes: usize,
    /// Children of each parent
    #[arg(long, default_value_t = 1_000, value_parser = positive)]
    pub children_per_parent: usize,
    /// Bytes of a value
    #[arg(long, default_value_t = 100)]
    pub value_size: usize,
    /// Where they go
    #[arg(long, value_name = "PATH", default_value = "/app", value_parser = znode_path)]
    pub root: String,
    /// Sessions
    #[arg(long, default_value_t = 4, value_parser = positive)]
    pub connections: usize,
    /// Requests each keeps outstanding
    #[arg(long, default_value_t = 256, value_parser = positive)]
    pub in_flight: usize,
    /// Quiet seconds before memory is read
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub settle: u64,
    /// Command to run before memory is read, such as "jcmd PID GC.run"
    #[arg(long, value_name = "COMMAND")]
    pub settle_run: Option<String>,
    /// Session timeout to ask for, in seconds
    #[arg(long, value_name = "S", default_value_t = 30)]
    pub session_timeout: u64,
}

impl FillArgs {
    /// As options.
    pub fn options(&self) -> FillOptions {
        FillOptions {
            znodes: self.znodes,
            children_per_parent: self.children_per_parent,
            value_size: self.value_size,
            root: self.root.clone(),
            connections: self.connections,
            in_flight: self.in_flight,
            session_timeout: Duration::from_secs(self.session_timeout),
            settle: Duration::from_secs(self.settle),
            settle_run: self.settle_run.clone(),
        }
    }
}

/// How wide.
#[derive(Debug, Args)]
pub struct FanOutArgs {
    /// Connections that watch
    #[arg(long, default_value_t = 1_000, value_parser = positive)]
    pub watchers: usize,
    /// Znodes that are watched, each changed once a round
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub paths: usize,
    /// Who watches what: each connection every znode, every znode one connection, or each connection the whole subtree for good
    #[arg(long, value_enum, default_value_t = Watching::Each)]
    pub watch: Watching,
    /// Rounds of changes that are measured
    #[arg(long, default_value_t = 50, value_parser = positive)]
    pub rounds: usize,
    /// Rounds before that
    #[arg(long, default_value_t = 10)]
    pub warmup_rounds: usize,
}

impl FanOutArgs {
    /// As options.
    pub fn options(&self) -> FanOutOptions {
        FanOutOptions {
            watchers: self.watchers,
            paths: self.paths,
            watching: self.watch,
            rounds: self.rounds,
            warmup_rounds: self.warmup_rounds,
            value_size: 100,
            root: "/loadgen".to_owned(),
            session_timeout: Duration::from_secs(30),
        }
    }
}

/// How many sessions that do nothing.
#[derive(Debug, Args)]
pub struct IdleArgs {
    /// Sessions, each with a connection; 0 takes as many as the limits of files and ports allow
    #[arg(long, default_value_t = 10_000)]
    pub sessions: usize,
    /// One-shot watches that each sets and that never fire, every one on a path of its own: memory of each
    #[arg(long, default_value_t = 0)]
    pub watches: usize,
    /// Idle seconds, in which they ping
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = positive_f64)]
    pub quiet: f64,
    /// How often all connections are cut and made again at once
    #[arg(long, default_value_t = 3)]
    pub storms: usize,
    /// Session timeout to ask for, in seconds
    #[arg(long, value_name = "S", default_value_t = 30)]
    pub session_timeout: u64,
}

impl IdleArgs {
    /// As options.
    pub fn options(&self) -> IdleOptions {
        IdleOptions {
            sessions: self.sessions,
            watches: self.watches,
            quiet: Duration::from_secs_f64(self.quiet),
            storms: self.storms,
            session_timeout: Duration::from_secs(self.session_timeout),
        }
    }
}

/// How many.
#[derive(Debug, Args)]
pub struct SessionsArgs {
    /// Clients that connect and close, each on its own thread
    #[arg(long, default_value_t = 50, value_parser = positive)]
    pub clients: usize,
    /// Measured seconds
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = positive_f64)]
    pub duration: f64,
    /// Seconds before that
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    pub warmup: f64,
}

impl SessionsArgs {
    /// As options.
    pub fn options(&self) -> SessionsOptions {
        SessionsOptions {
            clients: self.clients,
            warmup_s: self.warmup.max(0.0),
            duration_s: self.duration,
            session_timeout: Duration::from_secs(30),
        }
    }
}

/// What to put side by side.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Runs, told apart by their labels; the first one's label is compared with each of the others
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Only figures whose name begins with one of these
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// Write a page with tables and drawings, too
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Which workloads, on what.
#[derive(Debug, Args)]
pub struct SuiteArgs {
    /// A server or ensemble; to be given again, each is compared with the first. A workload that one cannot do is left out on it
    #[arg(long, required = true, value_name = TARGET)]
    pub target: Vec<Target>,
    /// A file with workloads; may be given again
    #[arg(long, required = true, value_name = "FILE", value_parser = workload_file)]
    pub workload: Vec<PathBuf>,
    /// Only workloads whose name contains one of these
    #[arg(long, value_name = "TEXT", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Directory that workloads speak of as {dir}; {label} is that of each target
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// An option of every workload, whatever the files say; may be given again
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Measured seconds of loads and session storms, whatever the files say
    #[arg(long, value_name = "S", value_parser = positive_f64)]
    pub duration: Option<f64>,
    /// Seconds of load before that, whatever the files say
    #[arg(long, value_name = "S")]
    pub warmup: Option<f64>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub turns: TurnsArgs,
}

impl SuiteArgs {
    /// What is said here about every run.
    pub fn overrides(&self) -> impl Iterator<Item = String> {
        let said = [("duration", self.duration), ("warmup", self.warmup)];
        said.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?)))
    }
}

/// What to start.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Where it will listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2181", value_parser = parse_addr)]
    pub server: SocketAddr,
    /// Znode to ask for; it must exist
    #[arg(long, value_name = "PATH", default_value = "/zookeeper", value_parser = znode_path)]
    pub path: String,
    /// Measure the time until it has caught up with its ensemble, too: until it answers a sync
    #[arg(long)]
    pub sync: bool,
    /// Its name in reports; its address when none is given
    #[arg(long)]
    pub label: Option<String>,
    /// Give up after so many seconds
    #[arg(long, value_name = "S", default_value_t = 120)]
    pub limit: u64,
    /// File for its output
    #[arg(long, value_name = "FILE", default_value = "/dev/null")]
    pub log: PathBuf,
    /// Write its process id to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// The command, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("{text:?} is not a whole number above 0"))
}

fn positive_f64(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0).ok_or_else(|| format!("{text:?} is not a number above 0"))
}

fn znode_path(text: &str) -> Result<String, String> {
    let fine = text.starts_with('/') && text.len() > 1 && !text.ends_with('/') && !text.contains("//");
    if fine { Ok(text.to_owned()) } else { Err(format!("{text:?} is not an absolute znode path below /")) }
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
    fn a_rate_makes_the_loop_open() {
        let parse = |args: &[&str]| match Cli::try_parse_from([&["loadgen", "run"], args].concat()).expect("valid").command {
            Command::Run { load, .. } => load.options().pace,
            other => panic!("{other:?}"),
        };
        assert_eq!(parse(&["--in-flight", "16"]), Pace::Closed { in_flight: 16, spacing: Spacing::Steady });
        assert_eq!(parse(&["--rate", "10", "--spacing", "poisson"]), Pace::Open { rate: 10.0, spacing: Spacing::Poisson });
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            ["--connections", "0"],
            ["--rate", "nan"],
            ["--rate", "-1"],
            ["--root", "x"],
            ["--root", "/"],
            ["--mix", "fly"],
            ["--duration", "0"],
        ] {
            assert!(Cli::try_parse_from(["loadgen", "run", bad[0], bad[1]]).is_err(), "{bad:?}");
        }
    }
}

//! `loadgen`: load for any server of the ZooKeeper protocol, with its own lean driver on `zoo::base` and `zoo::proto`.

mod case;
mod cli;
mod compare;
mod connection;
mod disturbance;
mod draw;
mod driver;
#[cfg(feature = "etcd")]
mod etcd;
mod fan_out;
mod fill;
mod host;
mod idle;
mod intervals;
mod load;
mod measure;
mod outcome;
mod page;
mod progress;
mod proxy;
mod readiness;
mod report;
mod schedule;
mod sessions;
mod snapshots;
mod start;
mod suite;
mod tally;
mod target;
mod timeline;
mod workload;

use case::{Case, NamedCase};
use clap::Parser;
use cli::{Cli, Command, CompareArgs, OutputArgs, ServerArgs, StartArgs};
use host::Machine;
use outcome::{conditions, conditions_json, conditions_text};
use progress::Progress;
use serde_json::json;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("loadgen: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), String> {
    match command {
        Command::Run { server, load, output } => measure(&server, &output, &Case::Load(Box::new(load.options())), "run"),
        Command::Fill { server, fill, output } => measure(&server, &output, &Case::Fill(fill.options()), "fill"),
        Command::FanOut { server, fan_out, output } => measure(&server, &output, &Case::FanOut(fan_out.options()), "fan-out"),
        Command::Sessions { server, sessions, output } => measure(&server, &output, &Case::Sessions(sessions.options()), "sessions"),
        Command::Idle { server, idle, output } => measure(&server, &output, &Case::Idle(idle.options()), "idle"),
        Command::Proxy { link } => proxy::run_proxy(&link, std::io::stdin().lock()),
        Command::Report(args) => report::run_report(&args),
        Command::Suite(args) => suite::run_suite(&args),
        Command::Start(args) => start(&args),
        Command::Compare(args) => compare(&args),
    }
}

/// Runs and reports one case. The machine is described first: its load average must be that of the others.
fn measure(server: &ServerArgs, output: &OutputArgs, case: &Case, title: &str) -> Result<(), String> {
    let target = server.target()?;
    let conditions = conditions(&Machine::describe(output.data_dir.as_deref()), &output.durability, &case.describe());
    let outcome = case.run(&target, &Progress::new(title)).map_err(|e| e.to_string())?;
    if output.json {
        let mut value = outcome.json();
        value["server"] = json!(target.label);
        value["conditions"] = conditions_json(&conditions);
        println!("{value:#}");
    } else {
        print!("{}\n{}\n{}", target.label, conditions_text(&conditions), outcome.table());
    }
    outcome.failure.map_or(Ok(()), Err)
}

fn start(args: &StartArgs) -> Result<(), String> {
    let write_pid = |pid| args.pid_file.as_ref().map_or(Ok(()), |file| std::fs::write(file, format!("{pid}\n")));
    let options = start::StartOptions {
        server: args.server,
        path: &args.path,
        limit: std::time::Duration::from_secs(args.limit),
        until_in_sync: args.sync,
        log: &args.log,
        command: &args.command,
    };
    let (outcome, pid) = start::run_start(&options, write_pid).map_err(|e| e.to_string())?;
    if args.json {
        let mut value = outcome.json();
        value["server"] = json!(args.label.clone().unwrap_or_else(|| args.server.to_string()));
        value["pid"] = json!(pid);
        println!("{value:#}");
    } else {
        print!("process {pid}\n{}", outcome.table());
    }
    Ok(())
}

fn compare(args: &CompareArgs) -> Result<(), String> {
    let case = NamedCase { name: String::new(), version: None, case: args.case() };
    report::report_turns(&compare::run_cases(&args.target, &[case], &args.turns)?, &args.turns)
}

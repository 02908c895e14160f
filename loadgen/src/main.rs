//! `loadgen`: load for any server of the ZooKeeper protocol, with its own lean driver on `zoo::base` and `zoo::proto`.

mod cli;
mod compare;
mod connection;
mod disturbance;
mod driver;
mod fan_out;
mod fill;
mod host;
mod idle;
mod load;
mod measure;
mod outcome;
mod page;
mod progress;
mod proxy;
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

use clap::Parser;
use cli::{Case, Cli, Command, CompareArgs, LoadArgs, OutputArgs, ServerArgs, StartArgs};
use compare::Series;
use connection::Failure;
use driver::Pace;
use host::Machine;
use outcome::{Outcome, conditions, conditions_json, conditions_text};
use progress::Progress;
use serde_json::json;
use std::process::ExitCode;
use target::Target;

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
        Command::Run { server, load, output } => {
            let options = load.options();
            let what = describe_load(&load, options.pace);
            measure(&server, &output, what, |target| load::run_load(target, &options, &Progress::new("run")))
        }
        Command::Fill { server, fill, output } => {
            let what = format!(
                "{} znodes of {} B below {}, {} children a parent",
                fill.znodes, fill.value_size, fill.root, fill.children_per_parent
            );
            measure(&server, &output, what, |target| fill::run_fill(target, &fill.options(), &Progress::new("fill")))
        }
        Command::FanOut { server, fan_out, output } => {
            let options = fan_out.options();
            let run = |target: &Target| fan_out::run_fan_out(target, &options, &Progress::new("fan-out"));
            measure(&server, &output, describe_fan_out(&options), run)
        }
        Command::Sessions { server, sessions, output } => {
            let what = format!("{} clients connecting and closing", sessions.clients);
            measure(&server, &output, what, |target| sessions::run_sessions(target, &sessions.options(), &Progress::new("sessions")))
        }
        Command::Idle { server, idle, output } => {
            let what = format!("{} idle sessions with {} watches each", idle.sessions, idle.watches);
            measure(&server, &output, what, |target| idle::run_idle(target, &idle.options(), &Progress::new("idle")))
        }
        Command::Proxy { link } => proxy::run_proxy(&link, std::io::stdin().lock()),
        Command::Report(args) => report::run_report(&args.files, &args.only, args.html.as_deref()),
        Command::Suite(args) => suite::run_suite(&args),
        Command::Start(args) => start(&args),
        Command::Compare(args) => compare(&args),
    }
}

fn describe_fan_out(o: &fan_out::FanOutOptions) -> String {
    format!("{} connections with a data watch each on one znode, {} rounds", o.watchers, o.rounds)
}

fn describe_load(load: &LoadArgs, pace: Pace) -> String {
    let pace = match pace {
        Pace::Closed { in_flight } => format!("closed loop, {in_flight} in flight each"),
        Pace::Open { rate, .. } => format!("open loop, {rate:.0} ops/s"),
    };
    let LoadArgs { mix, connections, keys, value_size, duration, seed, .. } = load;
    format!("{mix}; {connections} connections; {pace}; {keys} keys of {value_size} B; {duration} s; seed {seed}")
}

/// Runs and reports one scenario. The machine is described first: its load average must be that of the others.
fn measure(
    server: &ServerArgs,
    output: &OutputArgs,
    what: String,
    run: impl FnOnce(&Target) -> Result<Outcome, Failure>,
) -> Result<(), String> {
    let target = server.target()?;
    let conditions = conditions(&Machine::describe(output.data_dir.as_deref()), &output.durability, &what);
    let outcome = run(&target).map_err(|e| e.to_string())?;
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
    let (a, b) = (&args.a, &args.b);
    let machine = Machine::describe(args.output.data_dir.as_deref());
    let options = args.load.options();
    let progress = |round: usize, label: &str| Progress::new(&format!("{}/{} {label}", round + 1, args.alternations));
    let mut sections: Vec<(String, Series)> = Vec::new();
    match args.case {
        Case::Load => {
            let load = |turns, options: &load::LoadOptions| {
                Series::measure(turns, a, b, |round, t| load::run_load(t, options, &progress(round, &t.label)).map_err(|e| e.to_string()))
            };
            if args.warm_run > 0.0 {
                load(1, &load::LoadOptions { warmup_s: 0.0, duration_s: args.warm_run, ..options.clone() })?;
            }
            let first = load(args.alternations, &options)?;
            let slower = first.medians("throughput").map_or(0.0, |(a, b)| a.min(b));
            let was_closed = matches!(options.pace, Pace::Closed { .. });
            sections.push((describe_load(&args.load, options.pace), first));
            if was_closed && args.open_share > 0.0 && slower > 0.0 {
                let pace = Pace::Open { rate: slower * args.open_share, spacing: args.load.spacing };
                let open = load(args.alternations, &load::LoadOptions { pace, ..options })?;
                sections.push((describe_load(&args.load, pace), open));
            }
        }
        Case::FanOut => {
            let options = args.fan_out.options();
            let what = describe_fan_out(&options);
            let series = Series::measure(args.alternations, a, b, |round, t| {
                fan_out::run_fan_out(t, &options, &progress(round, &t.label)).map_err(|e| e.to_string())
            })?;
            sections.push((what, series));
        }
        Case::Sessions => {
            let options = sessions::SessionsOptions {
                clients: options.connections,
                warmup_s: options.warmup_s,
                duration_s: options.duration_s,
                session_timeout: options.session_timeout,
            };
            let what = format!("{} clients connecting and closing", options.clients);
            let series = Series::measure(args.alternations, a, b, |round, t| {
                sessions::run_sessions(t, &options, &progress(round, &t.label)).map_err(|e| e.to_string())
            })?;
            sections.push((what, series));
        }
    }
    let mut all = Vec::new();
    for (what, series) in &sections {
        let conditions = conditions(&machine, &args.output.durability, what);
        if args.output.json {
            all.push(json!({"a": a.label, "b": b.label, "alternations": args.alternations, "conditions": conditions_json(&conditions), "result": series.json()}));
        } else {
            println!(
                "{} against {}, {} alternations; median [lowest–highest]; ~ marks a ratio within its spread",
                a.label, b.label, args.alternations
            );
            println!("{}\n{}", conditions_text(&conditions), series.table(&a.label, &b.label));
        }
    }
    if args.output.json {
        println!("{:#}", json!(all));
    }
    Ok(())
}

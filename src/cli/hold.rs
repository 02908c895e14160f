//! `zoo lock` and `zoo elect`: a command runs while this process holds a lock, or leads.

use super::{ClientArgs, EXIT_FAILURE, EXIT_USAGE, fail, logging};
use crate::client;
use crate::recipes::{Error, LeaderSelector, Leadership, Role, Sessions, Then};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the command and what it depends on are looked at.
const POLL: Duration = Duration::from_millis(50);
/// Of the session timeout: so long without a connection the command is asked to end (SIGTERM), and so long it is killed. The client notices silence after
/// two thirds of the timeout at the latest, so that it is dead before the servers give the lock to somebody else.
const ASKED_AFTER: u32 = 6;
const KILLED_AFTER: u32 = 3;
/// How long it is not worth a word that there is no connection yet.
const SILENT_FOR: Duration = Duration::from_secs(2);
/// As shells have it: the command cannot be run, is not there, was killed by a signal.
const EXIT_NOT_RUN: u8 = 126;
const EXIT_NO_COMMAND: u8 = 127;
const EXIT_SIGNAL: i32 = 128;

/// Run a command while holding a lock
///
/// Waits for the lock at PATH, in the order of arrival; Curator's InterProcessMutex and kazoo's Lock with its default names stand in the same line.
/// The command gets the fencing token of its turn in ZOO_TOKEN, a number that grows from holder to holder. It runs in a process group of its own, to which
/// SIGINT, SIGTERM and SIGHUP are passed on; it should not read from the terminal. When the connection is lost for long, or the session, it is killed
/// before anybody else can hold the lock as long as this process gets to run.
///
/// Exit codes: the command's; 128 + N if signal N killed it, 126 and 127 if it cannot be run; 1 if the lock was not had or was lost; 2 bad command line.
#[derive(clap::Args)]
pub(super) struct LockArgs {
    #[command(flatten)]
    hold: HoldArgs,
}

/// Run a command while being the leader
///
/// Stands for election at PATH and runs the command when elected, as "zoo lock" does. When leadership is lost, the command is killed and this process stands
/// again; when the command ends by itself, so does this.
///
/// Exit codes: the command's; 128 + N if signal N killed it, 126 and 127 if it cannot be run; 1 failure; 2 bad command line.
#[derive(clap::Args)]
pub(super) struct ElectArgs {
    #[command(flatten)]
    hold: HoldArgs,
}

#[derive(clap::Args)]
struct HoldArgs {
    /// The node below which holders stand in line; made if need be
    #[arg(value_name = "PATH")]
    path: String,
    #[command(flatten)]
    servers: ClientArgs,
    /// The command and its arguments, behind --
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<String>,
}

pub(super) fn lock(args: &LockArgs) -> ExitCode {
    run(&args.hold, Then::Stop)
}

pub(super) fn elect(args: &ElectArgs) -> ExitCode {
    run(&args.hold, Then::Again)
}

/// How a turn has ended.
enum End {
    Exited(ExitStatus),
    NotRun(std::io::Error),
    /// What the command depended on is gone, and so is the command.
    Lost,
}

/// The running command's process group, for whoever passes signals on.
type Running = Arc<Mutex<Option<Pid>>>;

fn run(args: &HoldArgs, when_lost: Then) -> ExitCode {
    let id = format!("{} {}", rustix::system::uname().nodename().to_string_lossy(), std::process::id());
    let sessions = Sessions::new(args.servers.builder());
    let selector = LeaderSelector::new(&sessions, &args.path, id.as_bytes());
    let running = Running::default();
    if let Err(why) = pass_signals_on(&selector, &running) {
        return fail(EXIT_FAILURE, &format!("cannot handle signals: {why}"));
    }
    if let Err(why @ client::Error::Unreachable(_)) = sessions.current().map_or(Ok(()), |client| client.until_connected(SILENT_FOR)) {
        warn_of(&why);
    }
    let mut end = None;
    let stood = selector.run(|leadership| {
        // Servers may grant less than was wanted.
        let wanted = args.servers.session_timeout();
        let timeout = sessions.current().map_or(wanted, |client| client.session_timeout().min(wanted));
        let turn = hold(leadership, &args.command, timeout, &running);
        let then = if matches!(turn, End::Lost) { when_lost } else { Then::Stop };
        end = Some(turn);
        then
    });
    // The command is over, or was never begun: nothing depends on this any more.
    drop(sessions.close());
    match (end, stood) {
        (Some(End::Exited(status)), _) => exit_code(status),
        (Some(End::NotRun(why)), _) => {
            let code = if why.kind() == std::io::ErrorKind::NotFound { EXIT_NO_COMMAND } else { EXIT_NOT_RUN };
            fail(code, &format!("{}: {why}", args.command[0]))
        }
        (_, Err(Error::Client(why @ (client::Error::BadArgument(_) | client::Error::BadPath(_))))) => fail(EXIT_USAGE, &why),
        (_, Err(why)) => fail(EXIT_FAILURE, &why),
        (Some(End::Lost), Ok(())) => fail(EXIT_FAILURE, &format!("{} is not held any more; the command was killed", args.path)),
        (None, Ok(())) => fail(EXIT_FAILURE, &"stopped before its turn came"),
    }
}

fn warn_of(why: &client::Error) {
    eprint!("{}", logging::escape(format!("zoo: {why}; waiting\n").as_bytes()));
}

/// Signals go to the command; without one they end the waiting for it.
fn pass_signals_on(selector: &LeaderSelector, running: &Running) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let (selector, running) = (selector.clone(), running.clone());
    let pass_on = move || {
        for signal in signals.forever() {
            let signal = match signal {
                SIGINT => Signal::INT,
                SIGHUP => Signal::HUP,
                _ => Signal::TERM,
            };
            let group = *running.lock().unwrap_or_else(PoisonError::into_inner);
            match group {
                Some(group) => send(group, signal),
                None => selector.stop(),
            }
        }
    };
    std::thread::Builder::new().name("zoo-signals".into()).spawn(pass_on).map(drop)
}

/// Runs the command until it ends, or until it must not go on.
fn hold(leadership: &Leadership, command: &[String], session_timeout: Duration, running: &Running) -> End {
    let started = Command::new(&command[0]).args(&command[1..]).env("ZOO_TOKEN", leadership.token().0.to_string()).process_group(0).spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(why) => return End::NotRun(why),
    };
    let show = |group| *running.lock().unwrap_or_else(PoisonError::into_inner) = group;
    show(Some(Pid::from_child(&child)));
    let end = guard(leadership, &mut child, session_timeout);
    show(None);
    end
}

fn guard(leadership: &Leadership, child: &mut Child, session_timeout: Duration) -> End {
    let mut suspended: Option<Instant> = None;
    let mut was_asked = false;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return End::Exited(status),
            Ok(None) => {}
            Err(why) => return End::NotRun(why),
        }
        let is_over = leadership.is_over_within(POLL);
        let away = match leadership.role() {
            Role::Leader(_) => {
                suspended = None;
                Duration::ZERO
            }
            _ => suspended.get_or_insert_with(Instant::now).elapsed(),
        };
        if is_over || away >= session_timeout / KILLED_AFTER {
            // Its children, too: nothing of it may go on.
            send(Pid::from_child(child), Signal::KILL);
            drop(child.wait());
            return End::Lost;
        }
        if away >= session_timeout / ASKED_AFTER && !was_asked {
            was_asked = true;
            send(Pid::from_child(child), Signal::TERM);
        }
    }
}

/// A group that has ended meanwhile needs no signal.
fn send(group: Pid, signal: Signal) {
    let _ = kill_process_group(group, signal);
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| EXIT_SIGNAL + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_FAILURE))
}

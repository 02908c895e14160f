//! `zoo ensemble`: several members on this machine, for development.

use super::{EXIT_FAILURE, fail, say};
use crate::client::four_letter::{self, value};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufRead};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often members are asked what they are.
const POLL: Duration = Duration::from_millis(300);
/// How long a member may take to answer.
const ANSWER: Duration = Duration::from_millis(500);
/// How long members may take to stop before they are killed.
const STOP: Duration = Duration::from_secs(10);
/// From the client port of a member to its ports for the other ones.
const QUORUM_PORTS: u16 = 700;
const ELECTION_PORTS: u16 = 1700;

/// Run an ensemble on this machine, for development
///
/// Starts the members as processes of their own on 127.0.0.1, with client ports PORT, PORT+1, ..., ports for each other at PORT+700 and
/// PORT+1700, and configuration, data and messages in DIR/1, DIR/2, ... Says what each of them is whenever that changes; the Enter key
/// shows all of them; Ctrl-C stops all, and none outlives this command. What is behind the options goes to every member, as behind "zoo server".
#[derive(clap::Args)]
pub(super) struct EnsembleArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    servers: u16,
    /// Where they keep everything
    #[arg(long, value_name = "DIR", default_value = "./zoo-ensemble")]
    dir: PathBuf,
    /// Client port of the first one
    #[arg(long, value_name = "PORT", default_value_t = 2181, value_parser = clap::value_parser!(u16).range(1..=63_000))]
    port: u16,
    /// Settings for all of them: [--key value | --key=value | -Dname=value]...
    #[arg(value_name = "SETTING", trailing_var_arg = true, allow_hyphen_values = true)]
    settings: Vec<String>,
}

/// One member.
struct Member {
    id: u16,
    address: SocketAddr,
    log: PathBuf,
    /// `None` when it has ended.
    process: Option<Child>,
    /// As last said.
    mode: String,
}

/// What the terminal and the signals ask for.
enum Wish {
    Show,
    Stop,
}

pub(super) fn run(args: &EnsembleArgs) -> ExitCode {
    if let Err(port) = ports_are_free(args) {
        return fail(EXIT_FAILURE, &format!("port {port} is taken by another process; --port chooses others"));
    }
    let members: io::Result<Vec<Member>> = (1..=args.servers).map(|id| start(args, id)).collect();
    let mut members = match members {
        Ok(members) => members,
        Err(e) => return fail(EXIT_FAILURE, &format!("cannot start members in {}: {e}", args.dir.display())),
    };
    let wishes = match listen_to_user() {
        Ok(wishes) => wishes,
        Err(e) => return fail(EXIT_FAILURE, &format!("cannot handle signals: {e}")),
    };
    let connect: Vec<String> = members.iter().map(|m| m.address.to_string()).collect();
    say(&format!(
        "{} members in {}; connect to {}; Enter shows them, Ctrl-C stops them",
        args.servers,
        args.dir.display(),
        connect.join(",")
    ));
    loop {
        members.iter_mut().for_each(Member::look);
        if members.iter().all(|member| member.process.is_none()) {
            return fail(EXIT_FAILURE, &"all members have ended");
        }
        match wishes.recv_timeout(POLL) {
            Ok(Wish::Show) => say(&table(&members)),
            Ok(Wish::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    stop(&mut members)
}

/// `Err` names the first port that is taken.
fn ports_are_free(args: &EnsembleArgs) -> Result<(), u16> {
    let ports = (0..args.servers).flat_map(|i| [0, QUORUM_PORTS, ELECTION_PORTS].map(|offset| args.port + offset + i));
    for port in ports {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|_| port)?;
    }
    Ok(())
}

/// What is in a member's file.
fn configuration(args: &EnsembleArgs, id: u16, dir: &Path) -> String {
    let mut text = format!(
        "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\n4lw.commands.whitelist=*\n",
        dir.display(),
        args.port + id - 1
    );
    if args.servers == 1 {
        text.push_str("standaloneEnabled=false\n");
    }
    for other in 1..=args.servers {
        let port = args.port + other - 1;
        let _ = writeln!(text, "server.{other}=127.0.0.1:{}:{}", port + QUORUM_PORTS, port + ELECTION_PORTS);
    }
    text
}

fn start(args: &EnsembleArgs, id: u16) -> io::Result<Member> {
    let dir = args.dir.join(id.to_string());
    fs::create_dir_all(&dir)?;
    let dir = fs::canonicalize(dir)?;
    fs::write(dir.join("myid"), id.to_string())?;
    let file = dir.join("zoo.cfg");
    fs::write(&file, configuration(args, id, &dir))?;
    let path = dir.join("zoo.log");
    let log = File::options().create(true).append(true).open(&path)?;
    let mut command = Command::new(std::env::current_exe()?);
    // However this command ends, its members do not stay behind.
    command
        .arg("server")
        .arg("--ends-with")
        .arg(std::process::id().to_string())
        .arg(&file)
        .args(&args.settings)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // In a group of its own: Ctrl-C is for this command, which stops its members itself.
    let process = command.process_group(0).spawn()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port + id - 1));
    Ok(Member { id, address, log: path, process: Some(process), mode: String::new() })
}

/// Signals and lines of the terminal, each from a thread of its own.
fn listen_to_user() -> io::Result<mpsc::Receiver<Wish>> {
    let (wish, wishes) = mpsc::channel();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let stop = wish.clone();
    std::thread::Builder::new().name("zoo-signals".into()).spawn(move || signals.forever().for_each(|_| drop(stop.send(Wish::Stop))))?;
    std::thread::Builder::new().name("zoo-terminal".into()).spawn(move || {
        for _ in io::stdin().lock().lines().map_while(Result::ok) {
            let _ = wish.send(Wish::Show);
        }
    })?;
    Ok(wishes)
}

impl Member {
    /// Says what it is, when that has changed.
    fn look(&mut self) {
        let Some(process) = &mut self.process else { return };
        let mode = match process.try_wait() {
            Ok(Some(status)) => {
                self.process = None;
                format!("has ended ({status}); its messages are in {}", self.log.display())
            }
            _ => self.ask("srvr").map_or_else(|| "starting".to_owned(), |answer| mode(&answer)),
        };
        if mode != self.mode {
            say(&format!("server {}  {}  {mode}", self.id, self.address));
            self.mode = mode;
        }
    }

    fn ask(&self, word: &str) -> Option<String> {
        four_letter::ask(self.address, word, ANSWER).ok()
    }
}

/// The mode in an answer to `srvr`.
fn mode(answer: &str) -> String {
    value(answer, "Mode").unwrap_or("looking").to_owned()
}

/// All members at a glance.
fn table(members: &[Member]) -> String {
    let mut text = format!("{:<8} {:<22} {:<10} {:<20} {:>11} {:>10}", "server", "address", "mode", "zxid", "connections", "nodes");
    for member in members {
        let answer = member.process.as_ref().and_then(|_| member.ask("srvr"));
        let mode = answer.as_deref().map_or_else(|| "ended".to_owned(), mode);
        let show = |key| answer.as_deref().and_then(|answer| value(answer, key)).unwrap_or("-");
        let (zxid, connections, nodes) = (show("Zxid"), show("Connections"), show("Node count"));
        let _ = write!(text, "\n{:<8} {:<22} {mode:<10} {zxid:<20} {connections:>11} {nodes:>10}", member.id, member.address.to_string());
    }
    text
}

/// Stops all of them cleanly; what does not stop in time is killed.
fn stop(members: &mut [Member]) -> ExitCode {
    say("stopping");
    for process in members.iter().filter_map(|member| member.process.as_ref()) {
        let _ = kill_process(Pid::from_child(process), Signal::TERM);
    }
    let give_up = Instant::now() + STOP;
    let mut clean = true;
    for member in members {
        let Some(process) = &mut member.process else { continue };
        while matches!(process.try_wait(), Ok(None)) && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(10));
        }
        let in_time = !matches!(process.try_wait(), Ok(None));
        if !in_time {
            let _ = process.kill();
        }
        let ended = process.wait().is_ok_and(|status| status.success());
        clean &= in_time && ended;
        if !(in_time && ended) {
            say(&format!("server {} did not stop cleanly; its messages are in {}", member.id, member.log.display()));
        }
    }
    if clean { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::ServerConfig;

    fn args(servers: u16) -> EnsembleArgs {
        EnsembleArgs { servers, dir: "unused".into(), port: 27_400, settings: Vec::new() }
    }

    #[test]
    fn every_member_is_told_the_same_members_and_its_own_place() {
        for count in [1, 3] {
            let memberships: Vec<_> = (1..=count)
                .map(|id| {
                    let dir = tempfile::tempdir().expect("temp dir");
                    fs::write(dir.path().join("myid"), id.to_string()).expect("written");
                    let file = dir.path().join("zoo.cfg");
                    fs::write(&file, configuration(&args(count), id, dir.path())).expect("written");
                    let file = file.to_str().expect("UTF-8").to_owned();
                    let (config, warnings) = ServerConfig::load(&[file], &|_| None).expect("valid");
                    assert_eq!(warnings, [""; 0]);
                    assert_eq!(config.net.listen, SocketAddr::from((Ipv4Addr::LOCALHOST, 27_400 + id - 1)));
                    let ensemble = config.ensemble.expect("a member");
                    assert_eq!(ensemble.me.0, i64::from(id));
                    ensemble.membership
                })
                .collect();
            assert!(memberships.iter().all(|m| *m == memberships[0] && m.members.len() == usize::from(count)));
        }
    }

    #[test]
    fn the_table_shows_what_srvr_says() {
        assert_eq!(mode("Zookeeper version: 1\nMode: leader\nNode count: 5\n"), "leader");
        assert_eq!(mode("This ZooKeeper instance is not currently serving requests\n"), "looking");
        let ended =
            Member { id: 2, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), log: PathBuf::new(), process: None, mode: String::new() };
        assert!(table(&[ended]).ends_with("2        127.0.0.1:1            ended      -                              -          -"));
    }
}

//! Real clients, led line by line: what their programs see when a quorum is lost and found.

use crate::members::Mixed;
use crate::modes::wait_until;
use crate::reference::process::Kind::{Java, Zoo};
use crate::reference::process::java_program;
use crate::reference::words;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const NO_JAVA: &str = "SKIPPED ZooKeeper's own client: no javac";
const NO_KAZOO: &str = "SKIPPED kazoo: it is installed by the clients' tests";

/// `tests/clients/modes`: one line in, one line out.
struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(mut command: Command) -> Program {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the client runs");
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Program { child, input, output }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").expect("the client reads");
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        assert!(!answer.is_empty(), "the client has ended at {line:?}");
        answer.trim_end().to_owned()
    }

    /// Waits for a state; the session's id.
    fn until(&mut self, state: &str) -> String {
        let mut session = String::new();
        wait_until(state, || {
            let answer = self.ask("state");
            session = answer.rsplit(' ').next().unwrap_or_default().to_owned();
            answer.split(' ').next() == Some(state)
        });
        session
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn java() -> Option<Command> {
    // Running a source file takes the compiler.
    let compiles = Command::new("javac").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    compiles.is_ok_and(|status| status.success()).then(|| java_program(&repository().join("tests/clients/modes/Modes.java")))
}

fn kazoo() -> Option<Command> {
    let python: PathBuf = repository().join(".cache/kazoo/bin/python");
    let mut command = Command::new(&python);
    command.arg(repository().join("tests/clients/modes/modes.py"));
    python.exists().then_some(command)
}

/// Sessions here are the ensemble's; readers are served all the same, which Java does with local sessions only.
fn sees_a_quorum_go_and_come(start: impl Fn() -> Command) {
    let mut mixed = Mixed::prepare([Zoo, Zoo, Java]).set("readonlymode.enabled", "true");
    mixed.run_all();
    mixed.settled(&[1, 2, 3]);
    let open = format!("open {} ro", mixed.ports.map(|port| format!("127.0.0.1:{port}")).join(","));
    let mut owner = Program::start(start());
    owner.ask(&open);
    let session = owner.until("CONNECTED");
    assert_eq!(owner.ask("create /a p"), "ok");
    assert_eq!(owner.ask("create /e e"), "ok");
    mixed.shows(1, "/e");
    mixed.kill(2);
    mixed.kill(3);
    wait_until("it serves readers", || words::ask(mixed.ports[0], "isro").is_ok_and(|answer| answer == "ro"));
    let mut reader = Program::start(start());
    reader.ask(&open);
    let local = reader.until("CONNECTEDREADONLY");
    assert_eq!(reader.ask("get /a"), "ok data");
    assert_eq!(reader.ask("create /b p"), "err -119");
    assert!(owner.ask("state").starts_with("CONNECTING"), "its session lives where there is a quorum");
    mixed.run(2);
    mixed.run(3);
    mixed.settled(&[1, 2, 3]);
    assert_eq!(owner.until("CONNECTED"), session, "it was told nothing wrong");
    assert_eq!(owner.ask("get /e"), "ok data");
    assert_ne!(reader.until("CONNECTED"), local, "what it had was a session for reading alone");
    assert_eq!(reader.ask("create /b e"), "ok");
    assert_eq!((owner.ask("close"), reader.ask("close")), ("ok".to_owned(), "ok".to_owned()));
}

/// A local session that has become the ensemble's goes on at another server, and no client ends up at a leader that takes none.
fn outlives_its_server(start: impl Fn() -> Command) {
    let settings = [("localSessionsEnabled", "true"), ("localSessionsUpgradingEnabled", "true"), ("leaderServes", "no")];
    let mut mixed = settings.iter().fold(Mixed::prepare([Zoo, Java, Zoo]), |mixed, (key, value)| mixed.set(key, value));
    mixed.run_all();
    let follows = |mixed: &Mixed, id: usize| mixed.mode(id).as_deref() == Some("follower");
    wait_until("two follow", || (1..=3).filter(|id| follows(&mixed, *id)).count() == 2);
    let leader = (1..=3).find(|id| !follows(&mixed, *id)).unwrap();
    let mut program = Program::start(start());
    program.ask(&format!("open {} rw", mixed.ports.map(|port| format!("127.0.0.1:{port}")).join(",")));
    let session = program.until("CONNECTED");
    let at = (i64::from_str_radix(&session, 16).expect("a session") >> 56) as usize;
    assert_ne!(at, leader);
    assert_eq!(words::monitored(mixed.ports[at - 1], "zk_local_sessions"), Some(1.0));
    assert_eq!(program.ask("create /e e"), "ok");
    assert_eq!(words::monitored(mixed.ports[at - 1], "zk_local_sessions"), Some(0.0));
    mixed.kill(at);
    let other = 6 - leader - at;
    wait_until("it goes on elsewhere", || words::ask(mixed.ports[other - 1], "cons").is_ok_and(|cons| cons.contains(&session)));
    assert_eq!(program.until("CONNECTED"), session);
    assert_eq!(program.ask("get /e"), "ok data");
    assert_eq!(program.ask("create /p p"), "ok");
    assert_eq!(program.ask("close"), "ok");
}

#[test]
#[ignore = "needs the reference server"]
fn a_session_of_zookeepers_own_client_that_was_local_outlives_its_server() {
    match java() {
        Some(_) => outlives_its_server(|| java().unwrap()),
        None => println!("{NO_JAVA}"),
    }
}

#[test]
#[ignore = "needs the reference server"]
fn a_session_of_kazoos_that_was_local_outlives_its_server() {
    match kazoo() {
        Some(_) => outlives_its_server(|| kazoo().unwrap()),
        None => println!("{NO_KAZOO}"),
    }
}

#[test]
#[ignore = "needs the reference server"]
fn zookeepers_own_client_reads_without_a_quorum_and_writes_when_there_is_one() {
    match java() {
        Some(_) => sees_a_quorum_go_and_come(|| java().unwrap()),
        None => println!("{NO_JAVA}"),
    }
}

#[test]
#[ignore = "needs the reference server"]
fn kazoo_reads_without_a_quorum_and_writes_when_there_is_one() {
    match kazoo() {
        Some(_) => sees_a_quorum_go_and_come(|| kazoo().unwrap()),
        None => println!("{NO_KAZOO}"),
    }
}

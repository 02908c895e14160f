//! `zoo cli`: the commands of ZooKeeper's shell, one at a time or one after another.
//!
//! Names, options, results and errors are zkCli's (3.9); what differs is in `docs/cli.md`.

mod access;
mod answer;
mod args;
mod commands;
mod failure;
mod membership;
mod nodes;
mod quota;
mod screen;
mod terminal;
mod watches;

use super::{EXIT_FAILURE, EXIT_USAGE, Format, fail};
use crate::client::{Error, SessionState, ZooClient};
use answer::Answer;
pub(super) use answer::data_json;
use failure::Failure;
use screen::Screen;
pub(super) use screen::{event_json, event_name};
use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use watches::KeptWatch;

/// How long the end of a session waits for the server.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// What `history` shows besides the command itself.
const HISTORY_SHOWN: usize = 10;

/// A shell like ZooKeeper's zkCli
///
/// With COMMAND it carries out that one, else it reads commands; "help" lists them. Options are zkCli's and stand before COMMAND:
///
///   -server HOST:PORT,...[/CHROOT]   servers [localhost:2181]
///   -timeout MS                      session timeout, and how long a command waits for a connection [30000]
///   -r                               put up with a read-only server
///   -waitforconnection               begin when there is a connection, or fail
///   -o text|json                     how results are shown
///
/// Exit codes: 0 the last command worked, 1 it did not, 2 bad options, 127 there is no such command.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct ShellArgs {
    /// [OPTION]... [COMMAND [ARGUMENT]...]
    #[arg(value_name = "OPTION or COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// What the options say.
#[derive(Debug, PartialEq, Eq)]
struct Settings {
    server: String,
    timeout: Duration,
    read_only: bool,
    waits: bool,
    format: Format,
}

impl Settings {
    /// The options in front, and the command behind them.
    fn parse(words: &[String]) -> Result<(Settings, Vec<String>), String> {
        let mut settings = Settings {
            server: "localhost:2181".to_owned(),
            timeout: Duration::from_secs(30),
            read_only: false,
            waits: false,
            format: Format::Text,
        };
        let mut rest = words.iter();
        while let Some(word) = rest.as_slice().first().filter(|word| word.starts_with('-')) {
            rest.next();
            let mut value = || rest.next().ok_or_else(|| format!("Error: no argument found for option {word}"));
            match word.as_str() {
                "-server" => settings.server.clone_from(value()?),
                "-timeout" => settings.timeout = milliseconds(value()?)?,
                "-r" => settings.read_only = true,
                "-waitforconnection" => settings.waits = true,
                "-o" => settings.format = clap::ValueEnum::from_str(value()?, false)?,
                "-client-configuration" => return Err("-client-configuration is for TLS and SASL, which are not there yet".to_owned()),
                unknown => return Err(format!("there is no option {unknown}; see zoo cli --help")),
            }
        }
        Ok((settings, rest.as_slice().to_vec()))
    }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_millis).map_err(|_| format!("-timeout wants milliseconds, not {text:?}"))
}

pub(super) fn run(args: &ShellArgs) -> ExitCode {
    let (settings, command) = match Settings::parse(&args.words) {
        Ok(parsed) => parsed,
        Err(why) => return fail(EXIT_USAGE, &why),
    };
    let mut shell = Shell::new(settings, !command.is_empty());
    shell.screen.banner(&format!("Connecting to {}", shell.settings.server));
    if let Err(why) = shell.connect(None) {
        shell.screen.complain(&why.message);
        return ExitCode::from(why.exit_code);
    }
    if command.is_empty() {
        shell.screen.banner("Welcome to ZooKeeper!");
        let read = if std::io::stdin().is_terminal() { terminal::read(&mut shell) } else { shell.read_lines() };
        if let Err(why) = read {
            shell.screen.complain(&why);
            shell.exit_code = EXIT_FAILURE;
        }
    } else {
        shell.process(&command);
    }
    shell.close();
    ExitCode::from(shell.exit_code)
}

/// A shell at work.
struct Shell {
    settings: Settings,
    /// As given last, for the prompt and for `connect` without an address.
    server: String,
    /// One command and no more: nobody is there to be told of events.
    is_one_shot: bool,
    client: Option<ZooClient>,
    screen: Arc<Screen>,
    teller: Option<JoinHandle<()>>,
    watches: Vec<KeptWatch>,
    /// Every line so far, that which is being carried out included.
    history: Vec<String>,
    has_quit: bool,
    exit_code: u8,
}

impl Shell {
    fn new(settings: Settings, is_one_shot: bool) -> Self {
        let screen = Arc::new(Screen::new(settings.format));
        let server = settings.server.clone();
        Shell {
            settings,
            server,
            is_one_shot,
            client: None,
            screen,
            teller: None,
            watches: Vec::new(),
            history: Vec::new(),
            has_quit: false,
            exit_code: 0,
        }
    }

    /// Ends the session, if there is one, and begins another.
    fn connect(&mut self, server: Option<&str>) -> Result<(), Failure> {
        self.close();
        if let Some(server) = server {
            server.clone_into(&mut self.server);
        }
        let Settings { timeout, read_only, waits, .. } = self.settings;
        let builder = ZooClient::builder(&self.server).session_timeout(timeout).read_only(read_only).fail_fast(true);
        let client = if waits { builder.connect() } else { builder.start() }.map_err(|why| Failure::of(&why))?;
        if !self.is_one_shot {
            let (mut notices, screen) = (client.notices(), self.screen.clone());
            let tell = move || std::iter::from_fn(|| notices.wait()).for_each(|notice| screen.notice(&notice));
            self.teller = std::thread::Builder::new().name("zoo-notices".into()).spawn(tell).ok();
        }
        self.client = Some(client);
        Ok(())
    }

    /// Ends the session; all that it was told of is shown before this returns.
    fn close(&mut self) {
        self.watches.clear();
        if let Some(client) = self.client.take()
            && client.pipelined().close().wait_for(CLOSE_PATIENCE).is_none()
        {
            client.abandon();
        }
        if let Some(teller) = self.teller.take() {
            drop(teller.join());
        }
    }

    /// The session of a command.
    fn client(&self) -> Result<&ZooClient, Failure> {
        self.client.as_ref().filter(|client| !client.state().is_over()).ok_or_else(|| Failure::of(&Error::Closed))
    }

    fn read_lines(&mut self) -> Result<(), String> {
        for line in std::io::stdin().lock().lines() {
            self.line(&line.map_err(|e| format!("standard input: {e}"))?);
            if self.has_quit {
                break;
            }
        }
        Ok(())
    }

    /// Carries out a line.
    fn line(&mut self, line: &str) {
        let words = args::words(line);
        if !words.is_empty() {
            self.history.push(line.to_owned());
            self.process(&words);
        }
    }

    fn process(&mut self, words: &[String]) {
        match self.execute(words) {
            Ok(answer) => {
                self.exit_code = 0;
                self.screen.show(&answer);
            }
            Err(why) => {
                let why = why.explained(self.client.as_ref().and_then(ZooClient::trouble).as_deref());
                self.exit_code = why.exit_code;
                self.screen.complain(&why.message);
            }
        }
    }

    fn execute(&mut self, words: &[String]) -> Result<Answer, Failure> {
        let Some((name, rest)) = words.split_first() else { return Ok(Answer::Nothing) };
        match name.as_str() {
            "quit" | "exit" => {
                self.has_quit = true;
                self.close();
                return Ok(Answer::Nothing);
            }
            "help" => return Ok(commands::help()),
            "history" => return Ok(self.show_history()),
            "redo" if !rest.is_empty() => return self.redo(&rest[0]),
            "printwatches" => return Ok(self.print_watches(rest.first())),
            "connect" => return self.connect(rest.first().map(String::as_str)).map(|()| Answer::Nothing),
            _ => {}
        }
        let Some(command) = commands::find(name) else {
            if !commands::is_built_in(name) {
                self.screen.remark(&commands::usage());
                return Err(Failure::unknown(name));
            }
            return Ok(Answer::Nothing);
        };
        if self.client().is_err() {
            return Ok(Answer::Text("Not connected".to_owned(), serde_json::json!({ "error": "Not connected" })));
        }
        self.watches.retain_mut(KeptWatch::is_alive);
        let args = command.parse(rest, &self.screen)?;
        (command.run)(self, &args)
    }

    fn show_history(&self) -> Answer {
        let current = self.history.len().saturating_sub(1);
        let shown = self.history.iter().enumerate().skip(current.saturating_sub(HISTORY_SHOWN));
        let lines: Vec<String> = shown.map(|(n, line)| format!("{n} - {line}")).collect();
        Answer::Text(lines.join("\n"), serde_json::json!({ "history": self.history }))
    }

    fn redo(&mut self, number: &str) -> Result<Answer, Failure> {
        let current = self.history.len().saturating_sub(1);
        let n: usize = number.parse().ok().filter(|n| *n < current).ok_or_else(|| Failure::new("Command index out of range"))?;
        let line = self.history[n].clone();
        let words = args::words(&line);
        if words.first().is_some_and(|name| name == "redo") {
            return Err(Failure::new("No redoing redos"));
        }
        self.history[current] = line;
        self.execute(&words)
    }

    fn print_watches(&self, wish: Option<&String>) -> Answer {
        match wish {
            Some(wish) => {
                self.screen.show_events(wish == "on");
                Answer::Nothing
            }
            None => {
                let state = if self.screen.shows_events() { "on" } else { "off" };
                Answer::Text(format!("printwatches is {state}"), serde_json::json!({ "printwatches": state }))
            }
        }
    }

    fn prompt(&self) -> String {
        let state = match self.client.as_ref().map_or(SessionState::Closed, ZooClient::state) {
            SessionState::Connecting | SessionState::Suspended => "CONNECTING",
            SessionState::Connected => "CONNECTED",
            SessionState::ConnectedReadOnly => "CONNECTEDREADONLY",
            SessionState::AuthFailed => "AUTH_FAILED",
            SessionState::Expired | SessionState::Closed => "CLOSED",
        };
        format!("[zk: {}({state}) {}] ", self.server, self.history.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_before_the_command_and_its_own_belong_to_it() {
        let parse = |line: &str| Settings::parse(&args::words(line));
        let (settings, command) = parse("-server a:1,b:2/app -timeout 500 -r -waitforconnection -o json ls -s /").expect("valid");
        let expected = Settings {
            server: "a:1,b:2/app".into(),
            timeout: Duration::from_millis(500),
            read_only: true,
            waits: true,
            format: Format::Json,
        };
        assert_eq!((settings, command), (expected, vec!["ls".to_owned(), "-s".to_owned(), "/".to_owned()]));
        for wrong in ["-server", "-timeout soon", "-o xml", "-nonsense"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse("").expect("valid").1, [""; 0]);
    }
}

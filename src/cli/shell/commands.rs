//! The commands that need a session: names, usage, options, and who carries them out.

use super::answer::Answer;
use super::args::{Args, OptionSpec};
use super::failure::Failure;
use super::screen::Screen;
use super::{Shell, access, membership, nodes, quota, watches};
use serde_json::json;

/// One command.
pub(super) struct Command {
    name: &'static str,
    usage: &'static str,
    /// What zkCli shows below the usage of some commands.
    details: &'static str,
    options: &'static [OptionSpec],
    /// Arguments without which it makes no sense.
    least: usize,
    /// A second argument once stood for `-w`: how that is written now.
    instead_of_word: Option<&'static str>,
    pub(super) run: fn(&mut Shell, &Args) -> Result<Answer, Failure>,
}

impl Command {
    const fn new(
        name: &'static str,
        usage: &'static str,
        options: &'static [OptionSpec],
        least: usize,
        run: fn(&mut Shell, &Args) -> Result<Answer, Failure>,
    ) -> Self {
        Command { name, usage, details: "", options, least, instead_of_word: None, run }
    }

    const fn with_details(mut self, details: &'static str) -> Self {
        self.details = details;
        self
    }

    const fn with_old_watch(mut self, instead: &'static str) -> Self {
        self.instead_of_word = Some(instead);
        self
    }

    /// `words` without the command's name.
    pub(super) fn parse(&self, words: &[String], screen: &Screen) -> Result<Args, Failure> {
        let args = Args::parse(self.options, words)?;
        if args.plain.len() < self.least {
            return Err(Failure::new(format!("{} {}{}", self.name, self.usage, self.details)));
        }
        let Some(instead) = self.instead_of_word.filter(|_| args.plain.len() > 1) else { return Ok(args) };
        screen.remark(&format!("'{} path [watch]' has been deprecated. Please use '{instead}' instead.", self.name));
        let mut words = words.to_vec();
        words[1] = "-w".to_owned();
        Args::parse(self.options, &words)
    }

    pub(super) fn usage_failure(name: &str) -> Failure {
        Failure::new(find(name).map_or_else(String::new, |c| format!("{} {}{}", c.name, c.usage, c.details)))
    }
}

const WATCHER_OPTIONS: &[OptionSpec] = &[("c", false), ("d", false), ("p", false), ("r", false), ("a", false), ("l", false)];
const QUOTA_VALUES: &[OptionSpec] = &[("n", true), ("b", true), ("N", true), ("B", true)];
const QUOTA_FLAGS: &[OptionSpec] = &[("n", false), ("b", false), ("N", false), ("B", false)];
const RECONFIG_OPTIONS: &[OptionSpec] = &[("s", false), ("v", true), ("file", true), ("members", true), ("add", true), ("remove", true)];
const GET_DETAILS: &str = "\n -b   Output data in base64 format\n -s   Print znode stats additionally\n -w   Watch for changes on the \
    znode\n -x   Output data in hexdump format\n";
const SET_DETAILS: &str = "\n -b         Supply data in base64 format\n -s         Print znode stats additionally\n -v <arg>   Set with an \
    expected version\n";

/// Sorted by name.
const COMMANDS: &[Command] = &[
    Command::new(
        "addWatch",
        "[-m mode] path # optional mode is one of [PERSISTENT, PERSISTENT_RECURSIVE] - default is PERSISTENT_RECURSIVE",
        &[("m", true)],
        1,
        watches::add,
    ),
    Command::new("addauth", "scheme auth", &[], 1, access::add_auth),
    Command::new("close", "", &[], 0, nodes::close),
    Command::new("config", "[-c] [-w] [-s]", &[("s", false), ("w", false), ("c", false)], 0, membership::config),
    Command::new(
        "create",
        "[-s] [-e] [-c] [-t ttl] path [data] [acl]",
        &[("e", false), ("s", false), ("c", false), ("t", true)],
        1,
        nodes::create,
    ),
    Command::new("delete", "[-v version] path", &[("v", true)], 1, nodes::delete),
    Command::new("deleteall", "path [-b batch size]", &[("b", true)], 1, nodes::delete_all),
    Command::new("delquota", "[-n|-b|-N|-B] path", QUOTA_FLAGS, 1, quota::delete),
    Command::new("get", "[-s] [-w] [-b] [-x] path", &[("s", false), ("w", false), ("b", false), ("x", false)], 1, nodes::get)
        .with_details(GET_DETAILS)
        .with_old_watch("get [-s] [-w] path"),
    Command::new("getAcl", "[-s] path", &[("s", false)], 1, access::get_acl),
    Command::new("getAllChildrenNumber", "path", &[], 1, nodes::count_all),
    Command::new("getEphemerals", "path", &[], 0, nodes::ephemerals),
    Command::new("listquota", "path", &[], 1, quota::list),
    Command::new("ls", "[-s] [-w] [-R] path", &[("s", false), ("w", false), ("R", false)], 1, nodes::list).with_old_watch("ls [-w] path"),
    Command::new(
        "reconfig",
        "[-s] [-v version] [[-file path] | [-members serverID=host:port1:port2;port3[,...]*]] | \
            [-add serverId=host:port1:port2;port3[,...]]* [-remove serverId[,...]*]",
        RECONFIG_OPTIONS,
        0,
        membership::reconfig,
    ),
    Command::new("removewatches", "path [-c|-d|-a] [-l]", WATCHER_OPTIONS, 1, watches::remove),
    Command::new("set", "path data [-s] [-v version] [-b]", &[("s", false), ("v", true), ("b", false)], 2, nodes::set)
        .with_details(SET_DETAILS),
    Command::new("setAcl", "[-s] [-v version] [-R] path acl", &[("s", false), ("v", true), ("R", false)], 2, access::set_acl),
    Command::new("setquota", "-n|-b|-N|-B val path", QUOTA_VALUES, 1, quota::set),
    Command::new("stat", "[-w] path", &[("w", false)], 1, nodes::stat).with_old_watch("stat [-w] path"),
    Command::new("sync", "path", &[], 1, nodes::sync),
    Command::new("version", "", &[], 0, nodes::version),
    Command::new("whoami", "", &[], 0, access::who_am_i),
];

/// Those that the shell itself carries out, sorted by name.
const BUILT_IN: [(&str, &str); 7] =
    [("connect", "host:port"), ("exit", ""), ("help", ""), ("history", ""), ("printwatches", "on|off"), ("quit", ""), ("redo", "cmdno")];

pub(super) fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

pub(super) fn is_built_in(name: &str) -> bool {
    BUILT_IN.iter().any(|(built_in, _)| *built_in == name)
}

/// Every command's name and what follows it, sorted.
fn all() -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<_> = COMMANDS.iter().map(|c| (c.name, c.usage)).chain(BUILT_IN).collect();
    all.sort_unstable();
    all
}

/// Every command's name, sorted.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    all().into_iter().map(|(name, _)| name)
}

pub(super) fn usage() -> String {
    let lines = all().into_iter().map(|(name, usage)| format!("\n\t{name} {usage}"));
    std::iter::once("zoo cli -server host:port cmd args".to_owned()).chain(lines).collect()
}

pub(super) fn help() -> Answer {
    let commands = all().into_iter().map(|(name, usage)| json!({ "name": name, "usage": usage })).collect::<Vec<_>>();
    Answer::Text(usage(), json!({ "commands": commands }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Format;

    #[test]
    fn a_command_without_its_arguments_says_how_it_is_used() {
        let screen = Screen::new(Format::Text);
        let get = find("get").expect("a command");
        let why = get.parse(&[], &screen).expect_err("no path");
        assert!(why.message.starts_with("get [-s] [-w] [-b] [-x] path\n -b   Output data"), "{}", why.message);
        assert_eq!(why.exit_code, 1);
        let old = get.parse(&["/a".to_owned(), "true".to_owned()], &screen).expect("an old form");
        assert!(old.has("w") && old.plain == ["/a"]);
    }

    #[test]
    fn every_command_is_found_by_its_name_and_named_once() {
        let all: Vec<_> = names().collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(all.iter().all(|name| find(name).is_some() != is_built_in(name)));
        assert!(find("nonsense").is_none());
    }
}

//! Workloads as files: what a command takes as options, one `name = value` a line, to be read, edited and named.
//!
//! Lines in front of the first `[name]` belong to every workload of the file; a file without such a heading is one workload, named as the file is.
//! `kind` says which command's options they are (load, where nothing is said); `version` is raised whenever figures of before can no longer be compared.

use crate::case::{Case, NamedCase};
use crate::cli::{FanOutArgs, FillArgs, IdleArgs, LoadArgs, SessionsArgs, SuiteArgs};
use crate::compare::run_cases;
use crate::report::report_turns;
use clap::{Args, Parser};
use std::fs;
use std::path::PathBuf;

/// Stands for the directory of `--dir`.
const DIR: &str = "{dir}";
/// Options that are said without a value on a command line, and as `name = yes` here.
const YES: &str = "yes";

/// One workload, as it is written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Written {
    name: String,
    kind: Option<String>,
    version: Option<u32>,
    /// As on the command line.
    words: Vec<String>,
}

/// The options of a command, alone.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, args_override_self = true)]
struct Options<A: Args> {
    #[command(flatten)]
    args: A,
}

/// Runs every workload of every file on every target in turns, saves each run and reports them all.
pub fn run_suite(args: &SuiteArgs) -> Result<(), String> {
    let mut cases = Vec::new();
    for file in &args.workload {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let read = read_cases(&text, &stem(file), args).map_err(|why| format!("{}: {why}", file.display()))?;
        cases.extend(read.into_iter().filter(|c| args.only.is_empty() || args.only.iter().any(|only| c.name.contains(only.as_str()))));
    }
    if cases.is_empty() {
        return Err("no workload is left of those given".to_owned());
    }
    report_turns(&run_cases(&args.target, &cases, &args.turns)?, &args.turns)
}

fn read_cases(text: &str, file_name: &str, args: &SuiteArgs) -> Result<Vec<NamedCase>, String> {
    let text = match (&args.dir, text.contains(DIR)) {
        (Some(dir), true) => text.replace(DIR, &dir.to_string_lossy()),
        (None, true) => return Err(format!("it speaks of {DIR}: --dir has to say what that is")),
        (_, false) => text.to_owned(),
    };
    parse(&text, file_name)?.iter().map(|written| written.case(args)).collect()
}

impl Written {
    fn case(&self, args: &SuiteArgs) -> Result<NamedCase, String> {
        // What is said on the command line wins.
        let words = || self.words.iter().cloned().chain(args.set.iter().map(|set| format!("--{set}")));
        let timed = || words().chain(args.overrides());
        let case = match self.kind.as_deref().unwrap_or("load") {
            "load" => Case::Load(Box::new(self.read::<LoadArgs>(timed())?.options())),
            "sessions" => Case::Sessions(self.read::<SessionsArgs>(timed())?.options()),
            "fan-out" => Case::FanOut(self.read::<FanOutArgs>(words())?.options()),
            "fill" => Case::Fill(self.read::<FillArgs>(words())?.options()),
            "idle" => Case::Idle(self.read::<IdleArgs>(words())?.options()),
            other => return Err(format!("{}: unknown kind {other:?}; known: load, sessions, fan-out, fill, idle", self.name)),
        };
        Ok(NamedCase { name: self.name.clone(), version: self.version, case })
    }

    fn read<A: Args>(&self, words: impl Iterator<Item = String>) -> Result<A, String> {
        Options::<A>::try_parse_from(words).map(|o| o.args).map_err(|e| format!("{}: {}", self.name, e.render()))
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let (name, value) = line.split_once('=').ok_or_else(|| format!("{line:?} is neither name = value nor [name]"))?;
        match (name.trim(), value.trim()) {
            ("kind", kind) => self.kind = Some(kind.to_owned()),
            ("version", version) => self.version = Some(version.parse().map_err(|_| format!("version {version:?} is not a whole number"))?),
            (name, YES) => self.words.push(format!("--{name}")),
            (name, value) => self.words.push(format!("--{name}={value}")),
        }
        Ok(())
    }
}

fn stem(file: &std::path::Path) -> String {
    file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

fn parse(text: &str, file_name: &str) -> Result<Vec<Written>, String> {
    let mut common = Written { name: file_name.to_owned(), ..Written::default() };
    let mut named: Vec<Written> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            named.push(Written { name: format!("{file_name}: {}", name.trim()), ..common.clone() });
            continue;
        }
        named.last_mut().unwrap_or(&mut common).line(line).map_err(|why| format!("line {}: {why}", at + 1))?;
    }
    Ok(if named.is_empty() { vec![common] } else { named })
}

/// For the command line: a workload's file must at least be there.
pub fn workload_file(text: &str) -> Result<PathBuf, String> {
    let file = PathBuf::from(text);
    if file.is_file() { Ok(file) } else { Err(format!("there is no file {text:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn suite(words: &[&str]) -> SuiteArgs {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: SuiteArgs,
        }
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let needed = ["loadgen", "--target", "127.0.0.1:1", "--workload", file];
        Line::try_parse_from([&needed, words].concat()).expect("valid").args
    }

    #[test]
    fn a_file_is_one_workload_or_as_many_as_it_has_headings() {
        let one = parse("# why\nversion = 3\nmix = get=9,set=1\n\nreconnect = yes\n", "plain").expect("valid");
        let words = vec!["--mix=get=9,set=1".to_owned(), "--reconnect".to_owned()];
        assert_eq!(one, [Written { name: "plain".to_owned(), kind: None, version: Some(3), words }]);
        let two = parse("keys = 7\n[a]\nmix = get\n[b]\nkind = fill\nmix = set\n", "sweep").expect("valid");
        assert_eq!(two.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["sweep: a", "sweep: b"]);
        assert_eq!((&two[1].words[..], two[1].kind.as_deref()), (&["--keys=7".to_owned(), "--mix=set".to_owned()][..], Some("fill")));
        assert!(parse("keys 7", "x").is_err() && parse("version = one", "x").is_err());
    }

    #[test]
    fn every_workload_that_comes_with_the_program_is_understood_and_has_a_version() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/workloads");
        let args = suite(&["--dir", "somewhere"]);
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).expect("the directory") {
            let path = entry.expect("an entry").path();
            let text = fs::read_to_string(&path).expect("text");
            for case in read_cases(&text, &stem(&path), &args).unwrap_or_else(|why| panic!("{}: {why}", path.display())) {
                assert!(case.version.is_some(), "{}", case.name);
                names.push(case.name);
            }
        }
        for wanted in [
            "read-ratio: reads 100 %",
            "read-ratio: reads 0 %",
            "create-latency: 20 workers",
            "mixes: 90/10",
            "mixes: 50/50",
            "list-heavy",
            "multi-heavy",
            "production",
            "hot-node",
            "large-values: 512 KiB",
            "watch: 1,000 on one znode",
            "watch: 10,000 znodes, one each",
            "watch: recursive on a busy subtree",
            "sessions: session storm",
            "sessions: idle and connection storms",
            "fill: 1,000,000",
            "fill: 10,000,000",
            "snapshot",
            "leader-kill",
            "catch-up",
            "overload",
        ] {
            assert!(names.iter().any(|n| n == wanted), "{wanted:?} is missing of {names:?}");
        }
    }

    #[test]
    fn the_command_line_wins_over_the_file_and_unknown_words_are_refused() {
        let read = |text: &str, words: &[&str]| read_cases(text, "x", &suite(words)).map(|cases| cases[0].case.describe());
        assert!(
            read("duration = 9\nkeys = 7\nkeys = 8", &["--duration", "3"]).expect("valid").contains("8 keys of 100 B; warm-up 2 s, 3 s")
        );
        for (text, why) in [("kyes = 7", "--kyes"), ("kind = flight", "unknown kind"), ("during = {dir}/x", "--dir")] {
            assert!(read(text, &[]).is_err_and(|e| e.contains(why)), "{text}");
        }
        assert!(read("during = {dir}/x {label}", &["--dir", "d"]).expect("valid").contains("d/x {label}"));
    }
}

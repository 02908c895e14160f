//! Workloads as files: what `run` takes as options, one `name = value` a line, to be read, edited and named.
//!
//! Lines in front of the first `[name]` belong to every workload of the file; a file without such a heading is one workload, named as the file is.

use crate::cli::{LoadArgs, SuiteArgs};
use crate::describe_load;
use crate::host::Machine;
use crate::load;
use crate::outcome::{conditions, conditions_json};
use crate::progress::Progress;
use crate::report;
use clap::Parser;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// One load with a name.
#[derive(Clone, PartialEq, Eq, Debug)]
struct NamedLoad {
    name: String,
    /// As on the command line.
    words: Vec<String>,
}

/// The options of a run, alone.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, args_override_self = true)]
struct Options {
    #[command(flatten)]
    load: LoadArgs,
}

/// Runs every workload of every file on every target in turns, saves each run and reports them all.
pub fn run_suite(args: &SuiteArgs) -> Result<(), String> {
    let mut loads = Vec::new();
    for file in &args.workload {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let named = parse(&text, &stem(file)).map_err(|why| format!("{}: {why}", file.display()))?;
        for NamedLoad { name, words } in named {
            // What is said on the command line wins.
            let words = words.into_iter().chain(args.overrides());
            let options = Options::try_parse_from(words).map_err(|e| format!("{}, {name}: {}", file.display(), e.render()))?;
            loads.push((name, options.load));
        }
    }
    fs::create_dir_all(&args.save).map_err(|e| format!("{}: {e}", args.save.display()))?;
    let mut saved = Vec::new();
    for (at, (name, load)) in loads.iter().enumerate() {
        for turn in 0..args.alternations {
            for step in 0..args.target.len() {
                // Each is the first in its turn.
                let target = &args.target[(turn + step) % args.target.len()];
                let file = args.save.join(format!("{:02}-{turn:02}-{step}.json", at + 1));
                run_one(args, name, load, target, &file)?;
                saved.push(file);
            }
        }
    }
    report::run_report(&saved, &[], args.html.as_deref())
}

fn run_one(args: &SuiteArgs, name: &str, load: &LoadArgs, target: &crate::target::Target, file: &Path) -> Result<(), String> {
    let options = load.options();
    let conditions = conditions(&Machine::describe(args.data_dir.as_deref()), &args.durability, &describe_load(load, options.pace));
    let progress = Progress::new(&format!("{name}: {}", target.label));
    let outcome = load::run_load(target, &options, &progress).map_err(|e| format!("{name} on {}: {e}", target.label))?;
    let mut value = outcome.json();
    value["workload"] = json!(name);
    value["server"] = json!(target.label);
    value["conditions"] = conditions_json(&conditions);
    fs::write(file, format!("{value:#}\n")).map_err(|e| format!("{}: {e}", file.display()))?;
    outcome.failure.map_or(Ok(()), |why| Err(format!("{name} on {}: {why}", target.label)))
}

fn stem(file: &Path) -> String {
    file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

fn parse(text: &str, file_name: &str) -> Result<Vec<NamedLoad>, String> {
    let mut common = NamedLoad { name: file_name.to_owned(), words: Vec::new() };
    let mut named: Vec<NamedLoad> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            named.push(NamedLoad { name: format!("{file_name}: {}", name.trim()), words: common.words.clone() });
            continue;
        }
        let (name, value) = line.split_once('=').ok_or_else(|| format!("line {}: {line:?} is neither name = value nor [name]", at + 1))?;
        named.last_mut().unwrap_or(&mut common).words.push(format!("--{}={}", name.trim(), value.trim()));
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

    #[test]
    fn a_file_is_one_workload_or_as_many_as_it_has_headings() {
        let one = parse("# why\nmix = get=9,set=1\n\nin-flight=4\n", "plain").expect("valid");
        assert_eq!(one, [NamedLoad { name: "plain".to_owned(), words: vec!["--mix=get=9,set=1".to_owned(), "--in-flight=4".to_owned()] }]);
        let two = parse("keys = 7\n[a]\nmix = get\n[b]\nmix = set\n", "sweep").expect("valid");
        assert_eq!(two.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["sweep: a", "sweep: b"]);
        assert_eq!(two[1].words, ["--keys=7", "--mix=set"]);
        assert!(parse("keys 7", "x").is_err());
    }

    #[test]
    fn every_workload_that_comes_with_the_program_is_understood() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/workloads");
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).expect("the directory") {
            let path = entry.expect("an entry").path();
            for load in parse(&fs::read_to_string(&path).expect("text"), &stem(&path)).expect("valid") {
                let options = Options::try_parse_from(&load.words).unwrap_or_else(|e| panic!("{}: {e}", load.name));
                assert!(options.load.connections > 1, "{}", load.name);
                names.push(load.name);
            }
        }
        assert!(names.len() >= 10, "{names:?}");
    }

    #[test]
    fn the_last_word_wins_and_unknown_ones_are_refused() {
        let of = |words: &[&str]| Options::try_parse_from(words).map(|o| o.load.keys);
        assert_eq!(of(&["--keys=7", "--keys=8"]).expect("valid"), 8);
        assert!(of(&["--kyes=7"]).is_err());
    }
}

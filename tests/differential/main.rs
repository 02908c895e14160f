//! The same requests to two servers, the answers compared byte for byte except for times, session ids and unordered lists.
//!
//! `zoo_answers_like_java` is the test; `java_answers_like_java` shows that the comparison itself is right: what differs between
//! two runs of one server must not be compared. Both need the reference server, so they are ignored unless asked for
//! (`tests/run.sh --layer differential`, or `cargo test --test differential -- --ignored`).
//!
//! `ZOO_DIFF_SEED` and `ZOO_DIFF_STEPS` choose the random part; `ZOO_DIFF_ONLY` runs the scenarios whose name contains it.
#![allow(missing_docs, clippy::unwrap_used)]

mod pair;
mod random;
#[path = "../reference/mod.rs"]
mod reference;
mod scenarios;
mod text;

use pair::Pair;
use reference::process::Kind;

const STEPS: u64 = 1500;
/// Members of an ensemble.
const MEMBERS: usize = 3;

fn run(kinds: [Kind; 2], members: usize) {
    let only = std::env::var("ZOO_DIFF_ONLY").unwrap_or_default();
    let number = |name: &str, default| std::env::var(name).ok().map_or(default, |v| v.parse().expect("a number"));
    let seed = number("ZOO_DIFF_SEED", 0x5eed);
    let mut differences = Vec::new();
    let mut steps = 0;
    for suite in scenarios::SUITES {
        let of_one = |name: &str| members > 1 && scenarios::OF_ONE_SERVER.contains(&name);
        let chosen: Vec<_> = suite.scenarios.iter().filter(|(name, _)| name.contains(&only) && !of_one(name)).collect();
        let random = suite.random && "random".contains(&only);
        if chosen.is_empty() && !random {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let settings = (suite.settings)();
        let mut context =
            scenarios::Context { pair: Pair::start(dir.path(), kinds, &settings, members), dir: dir.path(), settings: &settings };
        for (name, scenario) in chosen {
            context.pair.scenario(name);
            let started = std::time::Instant::now();
            scenario(&mut context);
            println!("{name}: {} ms", started.elapsed().as_millis());
        }
        if random {
            random::run(&mut context, seed, number("ZOO_DIFF_STEPS", STEPS));
        }
        steps += context.pair.steps;
        differences.append(&mut context.pair.differences);
    }
    println!("{kinds:?}, {members} members: {steps} steps compared, seed {seed:#x}, {} differences", differences.len());
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer differential"]
fn java_answers_like_java() {
    run([Kind::Java, Kind::Java], 1);
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer differential"]
fn zoo_answers_like_java() {
    run([Kind::Java, Kind::Zoo], 1);
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer differential"]
fn java_ensembles_answer_like_java_ensembles() {
    run([Kind::Java, Kind::Java], MEMBERS);
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer differential"]
fn ensembles_of_zoo_answer_like_java_ensembles() {
    run([Kind::Java, Kind::Zoo], MEMBERS);
}

/// The tests that only say something about one server: the listed, deliberate differences.
#[test]
#[ignore = "needs a server process: tests/run.sh --layer differential"]
fn zoo_differs_from_java_only_where_it_says_so() {
    scenarios::ours::run();
}

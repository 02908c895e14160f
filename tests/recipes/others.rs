//! One lock for our recipes and those of kazoo or Curator. Ignored where these may not be had: `tests/run.sh --layer clients` has them installed.

use super::{PATIENCE, Place};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use zoo::client::{CreateMode, ZooClient};
use zoo::recipes::{Mutex, Names};

const ROUNDS: usize = 150;
const CONTENDERS: usize = 2;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Takes turns under our lock while others do the same under theirs; whoever finds somebody inside fails.
fn contend(names: Names, others: impl Fn(&str) -> Vec<Child>) {
    let place = Place::new();
    let client = place.client();
    client.create("/checker", b"free", CreateMode::Persistent).expect("made");
    let others = others(&place.server.address.to_string());
    let count = others.len();
    super::support::wait_until("the others have come", || client.get("/checker").is_ok_and(|(_, stat)| stat.version > 0));
    let take_turns = |client: ZooClient| {
        let lock = Mutex::new(&client, "/lock").names(names);
        for _ in 0..ROUNDS {
            let held = lock.lock_for(PATIENCE).expect("its turn");
            let (data, stat) = client.get("/checker").expect("there");
            assert_eq!(String::from_utf8_lossy(&data), "free");
            client.set_version("/checker", b"zoo", stat.version).expect("nobody else changes it");
            client.set_version("/checker", b"free", stat.version + 1).expect("nobody else changes it");
            held.release().expect("released");
        }
    };
    std::thread::scope(|scope| (0..CONTENDERS).for_each(|_| drop(scope.spawn(|| take_turns(place.client())))));
    for mut other in others {
        assert!(other.wait().expect("a child can be waited for").success());
    }
    let (_, stat) = client.get("/checker").expect("there");
    assert_eq!(stat.version as usize, 2 * ROUNDS * (count + CONTENDERS), "every turn was taken alone");
}

fn kazoo(names: Names, patterns: &[&str]) {
    let python = root().join(".cache/kazoo/bin/python");
    if !python.exists() {
        return super::support::skipped("a lock shared with kazoo", "kazoo is not installed");
    }
    contend(names, |servers| {
        let start = |_| {
            let mut command = Command::new(&python);
            command.arg(root().join("tests/clients/recipes/contend.py")).args([servers, &ROUNDS.to_string()]).args(patterns);
            command.spawn().expect("python runs")
        };
        (0..CONTENDERS).map(start).collect()
    });
}

#[test]
#[ignore = "needs kazoo"]
fn kazoo_with_a_pattern_and_ours_never_hold_a_lock_together() {
    kazoo(Names::Curator, &["-lock-"]);
}

#[test]
#[ignore = "needs kazoo"]
fn kazoo_as_it_is_and_ours_with_its_names_never_hold_a_lock_together() {
    kazoo(Names::Kazoo, &[]);
}

#[test]
#[ignore = "needs Curator and a Java compiler"]
fn curator_and_ours_never_hold_a_lock_together() {
    let jars = root().join(".cache/oracle/jars");
    let classes = super::temp_dir();
    let class_path = [classes.path().to_owned(), jars.join("*")].map(|path: PathBuf| path.display().to_string()).join(":");
    let source = root().join("tests/clients/recipes/Contend.java");
    let compiled = Command::new("javac").args(["-nowarn", "-cp", &class_path, "-d"]).arg(classes.path()).arg(source).status();
    if !jars.join(".complete").exists() || !compiled.is_ok_and(|status| status.success()) {
        return super::support::skipped("a lock shared with Curator", "no Curator or no javac");
    }
    contend(Names::Curator, |servers| {
        let start = |_| {
            let mut command = Command::new("java");
            command.args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", &class_path, "Contend", servers, &ROUNDS.to_string()]);
            command.spawn().expect("java runs")
        };
        (0..CONTENDERS).map(start).collect()
    });
}

//! Our recipes beside those of kazoo and Curator, on the same nodes. Ignored where these may not be had: `tests/run.sh --layer clients` has them installed.

use super::{PATIENCE, Place};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;
use zoo::client::{CreateMode, ZooClient};
use zoo::recipes::{Barrier, Counter, Error, LeaderLatch, LeaderSelector, Mutex, Names, ReadWriteLock, Semaphore, Then, WorkQueue};

const ROUNDS: usize = 100;
const CONTENDERS: usize = 2;
/// As in their programs.
const LEASES: usize = 2;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Programs of theirs, each a contender.
struct Theirs {
    /// Without what they contend for, the servers and the number of rounds.
    command: Box<dyn Fn() -> Command>,
    patterns: &'static [&'static str],
    /// What they are compiled to.
    _classes: Option<tempfile::TempDir>,
}

impl Theirs {
    fn kazoo() -> Option<Self> {
        let python = root().join(".cache/kazoo/bin/python");
        if !python.exists() {
            super::support::skipped("recipes shared with kazoo", "kazoo is not installed");
            return None;
        }
        let command = move || {
            let mut command = Command::new(&python);
            command.arg(root().join("tests/clients/recipes/contend.py"));
            command
        };
        Some(Theirs { command: Box::new(command), patterns: &[], _classes: None })
    }

    fn curator() -> Option<Self> {
        let jars = root().join(".cache/oracle/jars");
        let classes = super::temp_dir();
        let class_path = [classes.path().to_owned(), jars.join("*")].map(|path: PathBuf| path.display().to_string()).join(":");
        let source = root().join("tests/clients/recipes/Contend.java");
        let compiled = Command::new("javac").args(["-nowarn", "-cp", &class_path, "-d"]).arg(classes.path()).arg(source).status();
        if !jars.join(".complete").exists() || !compiled.is_ok_and(|status| status.success()) {
            super::support::skipped("recipes shared with Curator", "no Curator or no javac");
            return None;
        }
        let command = move || {
            let mut command = Command::new("java");
            command.args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", &class_path, "Contend"]);
            command
        };
        Some(Theirs { command: Box::new(command), patterns: &[], _classes: Some(classes) })
    }

    fn with_pattern(self) -> Self {
        Theirs { patterns: &["-lock-"], ..self }
    }

    fn start(&self, what: &str, place: &Place) -> Running {
        let mut command = (self.command)();
        command.args([what, &place.server.address.to_string(), &ROUNDS.to_string()]).args(self.patterns);
        Running(command.spawn().expect("it runs"))
    }
}

/// One of their programs; it does not outlive a test that has failed.
struct Running(Child);

impl Running {
    fn ended_well(mut self) {
        assert!(self.0.wait().expect("a child can be waited for").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Two of ours take their turns while two of theirs do; each checks for itself. Then `check` looks at what all of them have left.
fn contend(theirs: Option<Theirs>, what: &str, ours: impl Fn(&Place, &ZooClient) + Sync, check: impl FnOnce(&ZooClient)) {
    let Some(theirs) = theirs else { return };
    let place = Place::new();
    let client = place.client();
    client.create("/checker", b"free", CreateMode::Persistent).expect("made");
    for path in ["/inside", "/done"] {
        client.create(path, b"", CreateMode::Persistent).expect("made");
    }
    let begun = client.exists("/").expect("an answer").expect("there").cversion;
    let children: Vec<Running> = (0..CONTENDERS).map(|_| theirs.start(what, &place)).collect();
    let has_come = || {
        let checker = client.exists("/checker").expect("an answer").expect("there");
        checker.version > 0 || client.exists("/").expect("an answer").expect("there").cversion > begun
    };
    super::support::wait_until("the others have come", has_come);
    std::thread::scope(|scope| (0..CONTENDERS).for_each(|_| drop(scope.spawn(|| ours(&place, &place.client())))));
    children.into_iter().for_each(Running::ended_well);
    check(&client);
}

/// Nobody else is inside.
fn alone(client: &ZooClient) {
    let (data, stat) = client.get("/checker").expect("there");
    assert_eq!(String::from_utf8_lossy(&data), "free");
    client.set_version("/checker", b"zoo", stat.version).expect("nobody else changes it");
    client.set_version("/checker", b"free", stat.version + 1).expect("nobody else changes it");
}

fn no_writer(client: &ZooClient) {
    let (data, stat) = client.get("/checker").expect("there");
    assert_eq!(String::from_utf8_lossy(&data), "free");
    assert_eq!(client.get("/checker").expect("there").1.version, stat.version, "a writer beside a reader");
}

fn not_too_many(client: &ZooClient) {
    let own = client.create("/inside/z-", b"", CreateMode::EphemeralSequential).expect("made");
    let inside = client.children("/inside").expect("there").len();
    assert!(inside <= LEASES, "{inside} are inside");
    client.delete(&own).expect("its own");
}

fn every_turn_was_taken_alone(client: &ZooClient) {
    assert_eq!(client.get("/checker").expect("there").1.version as usize, 2 * ROUNDS * 2 * CONTENDERS);
}

fn mutexes(theirs: Option<Theirs>, names: Names) {
    let ours = |_: &Place, client: &ZooClient| {
        let lock = Mutex::new(client, "/lock").names(names);
        for _ in 0..ROUNDS {
            let held = lock.lock_for(PATIENCE).expect("its turn");
            alone(client);
            held.release().expect("released");
        }
    };
    contend(theirs, "lock", ours, every_turn_was_taken_alone);
}

#[test]
#[ignore = "needs kazoo"]
fn kazoo_with_a_pattern_and_ours_never_hold_a_lock_together() {
    mutexes(Theirs::kazoo().map(Theirs::with_pattern), Names::Curator);
}

#[test]
#[ignore = "needs kazoo"]
fn kazoo_as_it_is_and_ours_with_its_names_never_hold_a_lock_together() {
    mutexes(Theirs::kazoo(), Names::Kazoo);
}

#[test]
#[ignore = "needs Curator and a Java compiler"]
fn curator_and_ours_never_hold_a_lock_together() {
    mutexes(Theirs::curator(), Names::Curator);
}

fn read_write_locks(theirs: Option<Theirs>, names: Names) {
    let ours = |_: &Place, client: &ZooClient| {
        let lock = ReadWriteLock::new(client, "/lock").names(names);
        for _ in 0..ROUNDS {
            let held = lock.write_for(PATIENCE).expect("its turn");
            alone(client);
            held.release().expect("released");
            let held = lock.read_for(PATIENCE).expect("its turn");
            no_writer(client);
            held.release().expect("released");
        }
    };
    contend(theirs, "read-write", ours, every_turn_was_taken_alone);
}

#[test]
#[ignore = "needs kazoo"]
fn kazoos_readers_and_writers_and_ours_get_along() {
    read_write_locks(Theirs::kazoo(), Names::Kazoo);
}

#[test]
#[ignore = "needs Curator and a Java compiler"]
fn curators_readers_and_writers_and_ours_get_along() {
    read_write_locks(Theirs::curator(), Names::Curator);
}

#[test]
#[ignore = "needs Curator and a Java compiler"]
fn curator_and_ours_never_hold_more_leases_than_there_are() {
    let ours = |_: &Place, client: &ZooClient| {
        let semaphore = Semaphore::new(client, "/leases", LEASES);
        for _ in 0..ROUNDS {
            let lease = semaphore.acquire_for(PATIENCE).expect("its turn");
            not_too_many(client);
            lease.release().expect("released");
        }
    };
    contend(Theirs::curator(), "semaphore", ours, |_| {});
}

#[test]
#[ignore = "needs Curator and a Java compiler"]
fn a_latch_of_curators_and_ours_never_lead_together() {
    let ours = |place: &Place, client: &ZooClient| {
        let sessions = place.sessions();
        for _ in 0..ROUNDS {
            let latch = LeaderLatch::start(&sessions, "/election", b"zoo").expect("started");
            latch.until_leader(PATIENCE).expect("its turn");
            alone(client);
            latch.stop().expect("stopped");
        }
    };
    contend(Theirs::curator(), "latch", ours, every_turn_was_taken_alone);
}

fn selectors(theirs: Option<Theirs>, what: &str) {
    let ours = |place: &Place, client: &ZooClient| {
        let mut left = ROUNDS;
        let selector = LeaderSelector::new(&place.sessions(), "/lock", b"zoo");
        let ended = selector.run(|_| {
            alone(client);
            left -= 1;
            if left == 0 { Then::Stop } else { Then::Again }
        });
        assert_eq!(ended, Ok(()));
    };
    contend(theirs, what, ours, every_turn_was_taken_alone);
}

#[test]
#[ignore = "needs Curator and a Java compiler"]
fn a_selector_of_curators_and_ours_never_lead_together() {
    selectors(Theirs::curator(), "selector");
}

#[test]
#[ignore = "needs kazoo"]
fn an_election_of_kazoos_with_a_pattern_and_our_selector_never_lead_together() {
    selectors(Theirs::kazoo().map(Theirs::with_pattern), "election");
}

#[test]
#[ignore = "needs kazoo"]
fn a_counter_of_kazoos_and_ours_count_together() {
    let ours = |_: &Place, client: &ZooClient| {
        let counter = Counter::open(client, "/count").expect("there");
        for _ in 0..ROUNDS {
            counter.add(1).expect("counted");
        }
    };
    contend(Theirs::kazoo(), "count", ours, |client| {
        let count = Counter::open(client, "/count").and_then(|counter| counter.get());
        assert_eq!(count, Ok((ROUNDS * 2 * CONTENDERS) as i64));
    });
}

#[test]
#[ignore = "needs kazoo"]
fn items_of_kazoos_queue_and_ours_are_done_once_by_one_or_the_other() {
    let all = ROUNDS * 2 * CONTENDERS;
    let ours = |_: &Place, client: &ZooClient| {
        let queue = WorkQueue::open(client, "/queue").expect("there");
        for n in 0..ROUNDS {
            queue.put(format!("{:x}-{n}", client.session_id()).as_bytes()).expect("put");
        }
        while client.children("/done").expect("there").len() < all {
            let taken = match queue.take_for(Duration::from_millis(200)) {
                Err(Error::TimedOut) => continue,
                taken => taken.expect("an item"),
            };
            let done = format!("/done/{}", String::from_utf8_lossy(taken.item()));
            taken.acknowledge_with(|t| t.create(&done, b"", CreateMode::Persistent)).expect("for the first time");
        }
        // So theirs end, too.
        client.set("/checker", b"done").expect("set");
    };
    contend(Theirs::kazoo(), "queue", ours, |client| {
        assert_eq!((client.children("/done").expect("there").len(), client.children("/queue/entries")), (all, Ok(vec![])));
    });
}

fn barriers(theirs: Option<Theirs>) {
    let Some(theirs) = theirs else { return };
    let place = Place::new();
    let client = place.client();
    let barrier = Barrier::new(&client, "/barrier");
    let is_there = |path: &str| client.exists(path).expect("an answer").is_some();
    barrier.close().expect("closed");
    let child = theirs.start("barrier", &place);
    super::support::wait_until("they wait", || is_there("/waits"));
    assert_eq!(barrier.pass_for(Duration::from_millis(50)), Err(Error::TimedOut));
    assert!(!is_there("/passed"));
    barrier.open().expect("opened");
    super::support::wait_until("they go on", || is_there("/closed"));
    assert_eq!(barrier.pass_for(Duration::from_millis(50)), Err(Error::TimedOut), "they have closed it");
    client.create("/open", b"", CreateMode::Persistent).expect("made");
    barrier.pass_for(PATIENCE).expect("they open it");
    child.ended_well();
}

#[test]
#[ignore = "needs kazoo"]
fn a_barrier_is_the_same_for_kazoo_and_for_us() {
    barriers(Theirs::kazoo());
}

#[test]
#[ignore = "needs Curator and a Java compiler"]
fn a_barrier_is_the_same_for_curator_and_for_us() {
    barriers(Theirs::curator());
}

//! An observer of one kind beside voters of the other.

use crate::members::Mixed;
use crate::reference::process::Kind::{self, Java, Zoo};
use crate::reference::words;
use crate::writers::Writers;

/// Member 3 takes part without a vote, through a change of its leader and a death of its own.
fn observes(kinds: [Kind; 3]) {
    observes_among(Mixed::with(kinds, &[3])).no_other_tree();
}

/// The same, learning from the follower: members 1 and 2 take turns at that.
fn observes_through_a_master(kinds: [Kind; 3]) {
    let mut members = observes_among(Mixed::with_master(kinds));
    // A Java observer that joins under writes can count a digest that differs in passing; that all trees agree in the end was seen above.
    members.ours_saw_no_other_tree();
    let leader = members.settled(&[1, 2, 3]);
    let said = words::ask(members.ports[2], "mntr").expect("an answer");
    let line = format!("zk_observer_master_id\t{}", 3 - leader);
    assert!(said.lines().any(|l| l == line), "{line}:\n{said}");
    let said = words::ask(members.ports[2 - leader], "mntr").expect("an answer");
    // Java's numbers have a fraction there.
    assert!(said.lines().any(|l| l.starts_with("zk_synced_observers\t1")), "{said}");
}

fn observes_among(mut members: Mixed) -> Mixed {
    let kinds = members.kinds;
    (1..=3).for_each(|id| members.run(id));
    let leader = members.settled(&[1, 2, 3]);
    assert_eq!(members.mode(3).as_deref(), Some("observer"));
    let writers = Writers::start(&members);
    writers.go_on(&members);
    members.kill(3);
    writers.go_on(&members);
    members.run(3);
    members.settled(&[1, 2, 3]);
    members.kill(leader);
    members.run(leader);
    let leader = members.settled(&[1, 2, 3]);
    println!("{kinds:?}: {leader} leads, writes again after {:.1?}", writers.go_on(&members));
    assert_eq!(members.mode(3).as_deref(), Some("observer"));
    writers.finish(&members);
    members.write_everywhere(&[1, 2, 3], "last");
    members.all_agree();
    members
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer mixed"]
fn one_of_ours_observes_java_servers() {
    observes([Java, Java, Zoo]);
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer mixed"]
fn a_java_server_observes_ours() {
    observes([Zoo, Zoo, Java]);
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer mixed"]
fn one_of_ours_observes_one_of_each() {
    observes([Java, Zoo, Zoo]);
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer mixed"]
fn one_of_ours_observes_through_a_java_master() {
    observes_through_a_master([Java, Java, Zoo]);
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer mixed"]
fn a_java_server_observes_through_a_master_of_ours() {
    observes_through_a_master([Zoo, Zoo, Java]);
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer mixed"]
fn one_of_ours_observes_through_masters_of_either_kind() {
    observes_through_a_master([Java, Zoo, Zoo]);
}

//! An observer of one kind beside voters of the other.

use crate::members::Mixed;
use crate::reference::process::Kind::{self, Java, Zoo};
use crate::writers::Writers;

/// Member 3 takes part without a vote, through a change of its leader and a death of its own.
fn observes(kinds: [Kind; 3]) {
    let mut members = Mixed::with(kinds, &[3]);
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
    members.no_other_tree();
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

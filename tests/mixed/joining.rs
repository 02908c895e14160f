//! A member that was not there from the beginning gets the history of the other kind of server, and outlives its leader.

use crate::members::Mixed;
use crate::reference::process::Kind;

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer mixed"]
fn a_java_server_follows_ours_and_goes_on_with_one_of_them() {
    let mut members = Mixed::prepare([Kind::Java, Kind::Zoo, Kind::Zoo]);
    [2, 3].into_iter().for_each(|id| members.run(id));
    let leader = members.settled(&[2, 3]);
    assert_eq!(leader, 3, "with equal histories the larger number");
    members.write_everywhere(&[2, 3], "before");
    members.run(1);
    assert_eq!(members.settled(&[1, 2, 3]), 3);
    members.shows(1, "/before-2");
    members.write_everywhere(&[1, 2, 3], "all");
    members.kill(3);
    members.settled(&[1, 2]);
    members.write_everywhere(&[1, 2], "two");
    members.run(3);
    members.settled(&[1, 2, 3]);
    members.write_everywhere(&[1, 2, 3], "again");
    (1..=3).for_each(|id| members.shows(id, "/two-1"));
    members.no_other_tree();
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer mixed"]
fn ours_follow_a_java_leader_outlive_it_and_take_it_back() {
    let mut members = Mixed::prepare([Kind::Zoo, Kind::Zoo, Kind::Java]);
    [1, 3].into_iter().for_each(|id| members.run(id));
    assert_eq!(members.settled(&[1, 3]), 3, "with equal histories the larger number");
    members.write_everywhere(&[1, 3], "before");
    // It has nothing: the Java leader sends it an image.
    members.run(2);
    assert_eq!(members.settled(&[1, 2, 3]), 3);
    members.write_everywhere(&[1, 2, 3], "all");
    members.kill(3);
    members.settled(&[1, 2]);
    members.write_everywhere(&[1, 2], "ours");
    members.run(3);
    members.settled(&[1, 2, 3]);
    members.shows(3, "/ours-1");
    members.write_everywhere(&[1, 2, 3], "again");
    members.no_other_tree();
}

//! Networks that fall apart, one way or both, for good or again and again; and slow ones.

use crate::network::Condition::{Cut, Drip, Open, Slow, Stuck};
use crate::support::wait_until;
use crate::{Stage, seconds, seed};
use rustix::process::Signal;
use std::time::{Duration, Instant};
use zoo::base::prng::Prng;

/// P15, P5: a leader without a quorum serves nobody, and the others elect.
#[test]
fn a_leader_cut_off_gives_up_and_the_majority_goes_on() {
    let mut stage = Stage::set(3);
    for condition in [Cut, Stuck] {
        let leader = stage.leader();
        let others = stage.others(&[leader]);
        stage.network.between(&[leader], &others, condition);
        wait_until("the leader alone serves nobody", || stage.cluster.mode(leader).is_none());
        let next = stage.cluster.settled(&others);
        assert_ne!(next, leader);
        stage.load.goes_on("writes of the majority", 30);
        stage.heal();
    }
    stage.judge("a leader cut off");
}

/// P15: two of five, the leader among them, are no quorum; then a half-open majority, where nobody reaches more than one other.
#[test]
fn of_a_split_in_two_the_majority_goes_on_and_of_one_in_three_nobody() {
    let mut stage = Stage::set(5);
    let leader = stage.leader();
    let minority = [leader, stage.others(&[leader])[0]];
    let majority = stage.others(&minority);
    stage.network.between(&minority, &majority, Stuck);
    wait_until("the minority serves nobody", || minority.iter().all(|id| stage.cluster.mode(*id).is_none()));
    stage.cluster.settled(&majority);
    stage.load.goes_on("writes of the majority", 30);
    stage.heal();
    let (one, rest) = ([1, 2], [3, 4, 5]);
    stage.network.between(&one, &rest, Cut);
    stage.network.between(&[3], &[4, 5], Cut);
    wait_until("nobody serves without a quorum", || stage.ids().iter().all(|id| stage.cluster.mode(*id).is_none()));
    stage.judge("five members split");
}

/// P15: a follower that hears its leader but is not heard, and one that is heard but hears nothing.
#[test]
fn ways_that_are_stuck_in_one_direction_stop_nobody_else() {
    let mut stage = Stage::set(3);
    for is_heard in [false, true] {
        let leader = stage.leader();
        let [follower, third] = stage.others(&[leader])[..] else { panic!("three members") };
        let (from, to) = if is_heard { (leader, follower) } else { (follower, leader) };
        stage.network.set(from, to, Stuck);
        stage.load.goes_on("writes with a member that is half there", 60);
        wait_until("the leader has one follower left", || stage.cluster.word(leader, "mntr").contains("zk_synced_followers\t1"));
        assert_eq!(stage.cluster.settled(&[leader, third]), leader, "nobody else has had to elect");
        stage.heal();
    }
    stage.judge("ways stuck in one direction");
}

/// Delay and narrow ways cost time and nothing else.
#[test]
fn slow_and_narrow_ways_break_no_promise() {
    let stage = Stage::set(3);
    stage.network.everywhere(Slow(Duration::from_millis(60)));
    stage.load.goes_on("writes over slow ways", 100);
    stage.network.everywhere(Open);
    let leader = stage.leader();
    stage.network.between(&[leader], &stage.others(&[leader])[..1], Drip);
    stage.load.goes_on("writes with a follower at the end of a narrow way", 150);
    stage.judge("slow and narrow ways");
}

/// Ways, members and standstills by dice.
#[test]
fn faults_by_dice_break_no_promise() {
    let mut stage = Stage::set(3);
    let mut random = Prng::new(seed());
    let end = Instant::now() + Duration::from_secs(seconds());
    while Instant::now() < end {
        let mut member = || 1 + random.below(3) as usize;
        let (a, b) = (member(), member());
        let others = stage.others(&[a]);
        let condition = [Cut, Stuck, Slow(Duration::from_millis(100)), Drip][random.below(4) as usize];
        match random.below(8) {
            0 if stage.cluster.is_running(a) => stage.cluster.kill(a),
            1 if !stage.cluster.is_running(a) => stage.cluster.run(a),
            2 if stage.cluster.is_running(a) => {
                stage.cluster.process(a).signal(Signal::STOP);
                std::thread::sleep(Duration::from_millis(random.below(3_000)));
                stage.cluster.process(a).signal(Signal::CONT);
            }
            3 if a != b => stage.network.set(a, b, condition),
            4 => stage.network.between(&[a], &others, condition),
            5 => stage.network.everywhere(condition),
            6 => stage.heal(),
            _ => stage.network.heal(),
        }
        std::thread::sleep(Duration::from_millis(random.below(1_500)));
    }
    stage.judge("faults by dice");
}

//! Leading, step by step: epochs, histories, proposals, time, and learners that do not behave.

use super::script::{Script, ack, follower_info, info, of_ours, request, stored, z};
use zoo::base::{PeerId, SessionId, Zxid};
use zoo::zab::{Input, LearnerInfo, LinkId, Membership, Packet, Reconfig, Role, ServerState, Stored};

pub const ALL: &[super::Named] = crate::named![
    epochs_are_on_disk_before_they_are_told_and_a_quorum_has_the_history_before_service_a24,
    promises_that_do_not_tell_a_history_do_not_count_and_better_histories_are_not_led,
    a_voter_whose_disk_may_have_been_wiped_does_not_decide_what_the_history_is_l21,
    a_voter_that_has_promised_an_epoch_and_has_nothing_does_not_decide_what_the_history_is_l21,
    a_wiped_voter_with_the_image_of_a_leader_that_never_served_does_not_decide_what_the_history_is_l21,
    a_leader_without_a_log_counts_nobody_who_may_have_lost_one_l21,
    a_leader_that_begins_an_ensemble_says_so_to_whoever_is_in_doubt_l21,
    a_new_ensemble_is_begun_by_servers_without_history,
    proposals_go_to_whoever_is_being_synchronised_from_the_cut_on_l19,
    commits_are_in_order_and_count_our_own_disk_like_any_other_p2,
    acknowledgements_of_an_older_link_do_not_count,
    a_leader_that_has_lost_its_followers_does_not_wait_for_the_clock,
    observers_are_informed_and_never_counted,
    a_sync_is_answered_when_everything_before_it_is_committed_and_a_quorum_still_follows_b3,
    one_round_of_pings_to_voters_confirms_all_syncs_that_came_before_it_b3,
    who_has_come_while_others_were_asked_confirms_by_its_own_answer_only_b3,
    learners_requests_and_sessions_reach_the_replica,
    hostile_and_mistaken_learners_cost_their_own_link_only_s7,
    strangers_are_few_and_have_little_time,
    learners_that_connect_before_the_election_is_over_are_not_lost,
    a_leader_without_answers_steps_down_and_one_with_answers_does_not,
    after_a_pause_the_clock_comes_first_l13,
    a_follower_whose_log_is_too_slow_is_cut_off,
    a_leader_whose_own_log_is_stuck_gives_up,
    a_learner_that_takes_nothing_is_cut_off_when_its_queue_is_full_l14,
    a_voter_that_has_promised_a_newer_epoch_gets_its_election,
    no_stranger_brings_the_epochs_near_their_end_s7,
    leading_without_a_quorum_ends_after_init_limit,
    a_single_voter_elects_itself_and_works_alone,
    a_configuration_that_only_the_log_knows_of_needs_its_own_quorum_l2,
    a_configuration_whose_file_was_quicker_than_the_log_counts_in_no_later_epoch,
    what_only_those_have_who_are_to_vote_is_cut_where_it_cannot_be_committed_p3,
    an_image_has_all_the_time_it_takes_and_then_the_learner_has_its_own,
    who_did_not_wait_until_the_log_was_looked_through_gets_an_image,
    what_a_server_has_from_an_epoch_that_is_over_is_cut_off_or_replaced_where_a_snapshot_might_bring_it_back_l6,
];

/// Server 3, whose log is 1:1 to 1:3 in epoch 1.
fn three() -> Script {
    Script::new(3, stored(1, 1, &[z(1, 1), z(1, 2), z(1, 3)]))
}
fn ack_epoch(last: Zxid, current_epoch: Option<i32>) -> Packet {
    Packet::AckEpoch { zxid: last, current_epoch }
}
fn accept(s: &mut Script, link: u64) {
    s.give(Input::Accepted(LinkId(link)));
}
fn is_leading(s: &Script) -> bool {
    matches!(s.zab.role(), Role::Leading { .. })
}
/// Server 3 leads epoch 2 with follower 2 on link 102, which answers.
fn leading() -> Script {
    let mut s = three();
    s.lead();
    s.answer_pings(&[102]);
    s.said();
    s
}

fn epochs_are_on_disk_before_they_are_told_and_a_quorum_has_the_history_before_service_a24() {
    let mut s = three();
    s.disk_waits = true;
    s.win();
    accept(&mut s, 102);
    s.packet(102, follower_info(2, 4));
    assert_eq!(s.said(), ["write Accepted 5"], "higher than whatever was promised to anybody");
    s.epoch_written();
    assert_eq!(s.said(), ["102 LEADERINFO 5:0"]);
    s.packet(102, ack_epoch(z(1, 2), Some(1)));
    assert_eq!(s.said(), ["write Current 5"]);
    s.epoch_written();
    assert_eq!(s.said(), ["102 DIFF 1:3", "102 PROPOSAL 1:3", "102 COMMIT 1:3", "102 NEWLEADER 5:0"]);
    assert_eq!(s.zab.next_zxid(), None);
    s.packet(102, ack(z(5, 0)));
    assert_eq!(s.said(), ["commit 1:3", "leading 5", "102 UPTODATE", "102 PING 5:0 0"]);
    assert_eq!(s.zab.next_zxid(), Some(z(5, 1)));
}

fn promises_that_do_not_tell_a_history_do_not_count_and_better_histories_are_not_led() {
    let mut s = three();
    s.win();
    for (id, link) in [(1, 101), (2, 102)] {
        accept(&mut s, link);
        s.packet(link, follower_info(id, 1));
    }
    s.said();
    s.packet(101, ack_epoch(z(1, 3), None));
    assert_eq!(s.said(), Vec::<String>::new(), "it promised this epoch before");
    s.packet(102, ack_epoch(Zxid::from_i64(-1), Some(0)));
    assert_eq!(s.said(), Vec::<String>::new(), "it has no history");
    for (last, epoch) in [(z(1, 4), 1), (z(1, 1), 2)] {
        accept(&mut s, 202);
        s.packet(202, follower_info(2, 1));
        s.said();
        s.packet(202, ack_epoch(last, Some(epoch)));
        assert_eq!(s.said(), ["202 close"], "{last} of epoch {epoch} is more than we have");
    }
    accept(&mut s, 302);
    s.packet(302, follower_info(2, 1));
    s.said();
    s.packet(302, ack_epoch(z(1, 3), Some(1)));
    assert_eq!(s.said()[0], "write Current 2");
}

fn a_voter_whose_disk_may_have_been_wiped_does_not_decide_what_the_history_is_l21() {
    let mut s = three();
    s.win();
    accept(&mut s, 102);
    s.packet(102, follower_info(2, 0));
    assert_eq!(s.said(), Vec::<String>::new(), "two of three, and one of them has forgotten everything");
    accept(&mut s, 101);
    s.packet(101, follower_info(1, 1));
    assert_eq!(s.said(), ["write Accepted 2", "101 LEADERINFO 2:0", "102 LEADERINFO 2:0"]);
    s.packet(102, ack_epoch(Zxid::ZERO, Some(0)));
    assert_eq!(s.said(), Vec::<String>::new());
    s.packet(101, ack_epoch(z(1, 3), Some(1)));
    let said = s.said();
    assert_eq!(said[0], "write Current 2");
    assert!(said.contains(&"102 image 1:3 as 2:0".to_string()), "it is brought up to date like everybody: {said:?}");
    s.packet(102, ack(z(2, 0)));
    assert!(is_leading(&s), "and then it has the history and counts");
}

/// The wiped one comes back a second time: the first time it promised the epoch, and stopped before any history was on its disk.
fn a_voter_that_has_promised_an_epoch_and_has_nothing_does_not_decide_what_the_history_is_l21() {
    let mut s = three();
    s.win();
    accept(&mut s, 102);
    s.packet(102, follower_info(2, 1));
    assert_eq!(s.said(), ["write Accepted 2", "102 LEADERINFO 2:0"]);
    s.packet(102, ack_epoch(Zxid::ZERO, Some(0)));
    assert_eq!(s.said(), Vec::<String>::new(), "a quorum of promises, and one of them is worth nothing");
    accept(&mut s, 101);
    s.packet(101, follower_info(1, 1)).packet(101, ack_epoch(z(1, 3), Some(1)));
    assert!(s.said().contains(&"write Current 2".to_string()));
}

/// What it had acknowledged before may be in the image, but nobody can tell: it has no epoch that would make it more than ours.
fn a_wiped_voter_with_the_image_of_a_leader_that_never_served_does_not_decide_what_the_history_is_l21() {
    let mut s = three();
    s.win();
    accept(&mut s, 102);
    s.packet(102, follower_info(2, 1)).packet(102, ack_epoch(z(1, 5), Some(0)));
    assert_eq!(s.said(), ["write Accepted 2", "102 LEADERINFO 2:0"]);
    accept(&mut s, 101);
    s.packet(101, follower_info(1, 1)).packet(101, ack_epoch(z(1, 3), Some(1)));
    assert!(s.said().contains(&"write Current 2".to_string()));
}

/// That it has logged nothing itself does not mean that nobody has: it may have been cut off when that began.
fn a_leader_without_a_log_counts_nobody_who_may_have_lost_one_l21() {
    let (says_nothing, has_lost_nothing, may_have_lost_all) = (0, 1, 2);
    for (says, counts) in [(says_nothing, true), (has_lost_nothing, true), (may_have_lost_all, false)] {
        let mut s = Script::new(3, stored(1, 1, &[]));
        s.win();
        accept(&mut s, 102);
        s.packet(102, Packet::FollowerInfo { zxid: z(1, says), info: info(2) });
        assert_eq!(s.said(), ["write Accepted 2", "102 LEADERINFO 2:0"]);
        s.packet(102, ack_epoch(Zxid::ZERO, Some(0)));
        assert_eq!(s.said().contains(&"write Current 2".to_string()), counts, "{says}");
        accept(&mut s, 101);
        s.packet(101, follower_info(1, 1)).packet(101, ack_epoch(Zxid::ZERO, Some(1)));
        assert_eq!(s.said().contains(&"write Current 2".to_string()), !counts, "{says}");
    }
}

/// Whoever promises to it has lost nothing, and may know it. Java's learners do not ask.
fn a_leader_that_begins_an_ensemble_says_so_to_whoever_is_in_doubt_l21() {
    for (epoch, says, told) in [(0, 2, "1:1"), (0, 0, "1:0"), (1, 2, "2:0")] {
        let mut s = Script::new(3, stored(epoch, epoch, &[]));
        s.win();
        for (id, link) in [(1, 101), (2, 102)] {
            accept(&mut s, link);
            s.packet(link, Packet::FollowerInfo { zxid: z(epoch, says), info: info(id) });
        }
        let said = s.said();
        assert!(said.contains(&format!("102 LEADERINFO {told}")), "{said:?}");
    }
}

fn a_new_ensemble_is_begun_by_servers_without_history() {
    let mut s = Script::new(3, stored(0, 0, &[]));
    s.lead();
    assert_eq!(s.zab.role(), Role::Leading { epoch: 1 });
    assert_eq!(s.zab.next_zxid(), Some(z(1, 1)));
}

fn proposals_go_to_whoever_is_being_synchronised_from_the_cut_on_l19() {
    let mut s = leading();
    s.disk_waits = true;
    assert_eq!(s.propose(), z(2, 1));
    assert_eq!(s.said(), ["102 PROPOSAL 2:1"]);
    accept(&mut s, 101);
    s.packet(101, follower_info(1, 1)).packet(101, ack_epoch(z(1, 2), Some(1)));
    assert_eq!(
        s.said(),
        ["101 LEADERINFO 2:0", "101 DIFF 1:3", "101 PROPOSAL 1:3", "101 COMMIT 1:3", "101 NEWLEADER 2:0", "101 PROPOSAL 2:1"]
    );
    s.propose();
    s.packet(102, ack(z(2, 1)));
    s.flushed();
    let said = s.said();
    assert_eq!(said, ["101 PROPOSAL 2:2", "102 PROPOSAL 2:2", "101 COMMIT 2:1", "102 COMMIT 2:1", "commit 2:1"]);
    s.packet(101, ack(z(2, 0)));
    assert_eq!(s.said(), ["101 UPTODATE", "101 PING 2:2 0"]);
    s.packet(101, ack(z(2, 0))).packet(101, ack(z(2, 1)));
    assert_eq!(s.said(), Vec::<String>::new());
    s.packet(101, ack(z(2, 2)));
    assert_eq!(s.said(), ["101 COMMIT 2:2", "102 COMMIT 2:2", "commit 2:2"]);
}

fn commits_are_in_order_and_count_our_own_disk_like_any_other_p2() {
    let mut s = leading();
    s.disk_waits = true;
    for _ in 0..3 {
        s.propose();
    }
    s.said();
    s.packet(102, Packet::Acks { first: z(2, 1), last: z(2, 3) });
    assert_eq!(s.said(), Vec::<String>::new(), "one disk of three");
    s.give(Input::Durable(z(2, 2)));
    assert_eq!(s.said(), ["102 COMMIT 2:1", "102 COMMIT 2:2", "commit 2:2"]);
    s.flushed();
    assert_eq!(s.said(), ["102 COMMIT 2:3", "commit 2:3"]);
}

fn acknowledgements_of_an_older_link_do_not_count() {
    let mut s = leading();
    s.join(1, 101);
    s.disk_waits = true;
    s.propose();
    s.packet(102, ack(z(2, 1)));
    s.said();
    accept(&mut s, 202);
    s.packet(202, follower_info(2, 2)).packet(202, ack_epoch(z(2, 1), None));
    let said = s.said();
    assert!(
        said.contains(&"102 close".to_string()) && said.contains(&"102 gone".to_string()),
        "the newer link replaces the older: {said:?}"
    );
    assert_eq!(
        said[said.len() - 3..],
        ["202 TRUNC 1:3", "202 NEWLEADER 2:0", "202 PROPOSAL 2:1"],
        "what is outstanding is cut and sent again"
    );
    s.packet(202, ack(z(2, 0))).flushed();
    assert!(!s.said().iter().any(|line| line.contains("COMMIT")), "it may not have it any more");
    s.packet(202, ack(z(2, 1)));
    assert_eq!(s.said(), ["101 COMMIT 2:1", "202 COMMIT 2:1", "commit 2:1"]);
}

/// A Java server that was elected with it has a snapshot of it, and reloads its newest snapshot after a cut.
fn what_a_server_has_from_an_epoch_that_is_over_is_cut_off_or_replaced_where_a_snapshot_might_bring_it_back_l6() {
    let greeting = follower_info(1, 1);
    for (greeting, opening) in [(of_ours(greeting.clone()), "101 TRUNC 1:3"), (greeting, "101 image 1:3 as 2:0")] {
        let mut s = leading();
        accept(&mut s, 101);
        s.packet(101, greeting).packet(101, ack_epoch(z(1, 5), Some(1)));
        let said = s.said();
        assert!(said.contains(&opening.to_string()), "{said:?}");
    }
    let mut s = leading();
    s.propose();
    s.packet(102, ack(z(2, 1)));
    accept(&mut s, 101);
    s.packet(101, follower_info(1, 1)).packet(101, ack_epoch(z(1, 5), Some(1)));
    let said = s.said();
    assert!(said.contains(&"101 image 2:1".to_string()), "{said:?}");
}

fn a_leader_that_has_lost_its_followers_does_not_wait_for_the_clock() {
    let mut s = leading();
    s.give(Input::Disconnected(LinkId(102))).give(Input::Timeout);
    assert_eq!(s.said(), ["102 gone", "looking"], "a follower that looks for a leader can only come back to one that looks, too");
}

fn observers_are_informed_and_never_counted() {
    let mut s = leading();
    accept(&mut s, 104);
    s.packet(104, Packet::ObserverInfo { zxid: z(1, 0), info: info(4) }).packet(104, ack_epoch(z(1, 3), Some(1))).packet(104, ack(z(2, 0)));
    assert_eq!(s.said(), ["104 LEADERINFO 2:0", "104 DIFF 1:3", "104 NEWLEADER 2:0", "104 UPTODATE", "104 PING 2:0 0"]);
    s.propose();
    assert_eq!(s.said(), ["102 PROPOSAL 2:1"]);
    s.packet(102, ack(z(2, 1)));
    assert_eq!(s.said(), ["104 INFORM 2:1", "102 COMMIT 2:1", "commit 2:1"]);
    s.propose();
    s.packet(104, ack(z(2, 2)));
    assert_eq!(s.said(), ["102 PROPOSAL 2:2", "104 close", "104 gone"], "observers acknowledge no proposals");
}

fn ping() -> Packet {
    Packet::Ping { zxid: z(2, 0), touched: Vec::new() }
}

fn a_sync_is_answered_when_everything_before_it_is_committed_and_a_quorum_still_follows_b3() {
    let mut s = leading();
    s.packet(102, Packet::Request(request(9)));
    assert_eq!(s.said(), ["102 request of 2 op 9"]);
    s.zab.sync_for(LinkId(102));
    s.pump();
    assert_eq!(s.said(), ["102 PING 2:0 0"], "nothing is outstanding, but there may be another leader");
    s.packet(102, ping());
    assert_eq!(s.said(), ["102 touched 0", "102 SYNC"]);
    s.propose();
    s.zab.sync_for(LinkId(102));
    s.propose();
    s.zab.sync_for(LinkId(9));
    s.pump();
    assert_eq!(s.said(), ["102 PROPOSAL 2:1", "102 PING 2:1 0", "102 PROPOSAL 2:2"]);
    s.packet(102, ping());
    assert_eq!((s.said(), s.zab.learner_counts().pending_syncs), (vec!["102 touched 0".to_owned()], 1));
    s.packet(102, ack(z(2, 1)));
    assert_eq!(s.said(), ["102 COMMIT 2:1", "commit 2:1", "102 SYNC"]);
}

fn one_round_of_pings_to_voters_confirms_all_syncs_that_came_before_it_b3() {
    let mut s = leading();
    s.join(1, 101);
    s.packet(101, ping());
    accept(&mut s, 104);
    s.packet(104, Packet::ObserverInfo { zxid: z(1, 0), info: info(4) }).packet(104, ack_epoch(z(1, 3), Some(1))).packet(104, ack(z(2, 0)));
    s.said();
    assert_eq!((s.zab.confirm(), s.zab.confirmed()), (1, 0));
    s.pump();
    assert_eq!(s.said(), ["101 PING 2:0 0", "102 PING 2:0 0"], "observers decide nothing");
    s.packet(104, ping());
    assert_eq!((s.zab.confirm(), s.zab.confirm(), s.zab.confirmed()), (2, 2, 0));
    s.said();
    s.packet(101, ping());
    assert_eq!(s.zab.confirmed(), 1, "with ourselves a quorum");
    assert_eq!(s.said(), ["101 touched 0", "101 PING 2:0 0", "102 PING 2:0 0"], "the second round, for both who came during the first");
    s.packet(102, ping());
    assert_eq!(s.zab.confirmed(), 1, "an answer to a ping of the first one");
    s.packet(102, ping());
    assert_eq!(s.zab.confirmed(), 2);
    assert_eq!(s.said(), ["102 touched 0", "102 touched 0"], "nobody waits for a third");
}

fn who_has_come_while_others_were_asked_confirms_by_its_own_answer_only_b3() {
    let mut s = leading();
    assert_eq!(s.zab.confirm(), 1);
    s.join(1, 101);
    s.give(Input::Disconnected(LinkId(102)));
    assert_eq!((is_leading(&s), s.zab.confirmed()), (true, 0), "it is just UPTODATE, and has not said a word since");
    s.packet(101, ping());
    assert_eq!(s.zab.confirmed(), 1);
}

fn learners_requests_and_sessions_reach_the_replica() {
    let mut s = leading();
    s.packet(102, Packet::Request(request(1)));
    s.packet(102, Packet::Revalidate { session: SessionId(7), timeout_ms: 4_000 });
    s.zab.revalidated(LinkId(102), SessionId(7), true);
    s.zab.revalidated(LinkId(9), SessionId(7), true);
    s.pump();
    assert_eq!(s.said(), ["102 request of 2 op 1", "102 revalidate 0x7 4000", "102 REVALIDATE 0x7 true"]);
    s.run(500);
    s.said();
    s.packet(102, Packet::Ping { zxid: z(2, 0), touched: vec![(SessionId(7), 4_000)] });
    assert_eq!(s.said(), ["102 touched 1"]);
    // More sessions than a packet holds come in front of an answer, and answer nothing.
    for _ in 0..3 {
        s.packet(102, Packet::Ping { zxid: Zxid(u64::MAX), touched: vec![(SessionId(8), 4_000); 2] });
        assert_eq!(s.said(), ["102 touched 2"]);
    }
    s.give(Input::Disconnected(LinkId(102)));
    assert_eq!(s.said(), ["102 gone"]);
}

fn hostile_and_mistaken_learners_cost_their_own_link_only_s7() {
    let greeting = |info| Packet::FollowerInfo { zxid: z(1, 0), info };
    let cases: Vec<(&str, Vec<Packet>)> = vec![
        ("an unknown server", vec![follower_info(9, 1)]),
        ("our own id", vec![follower_info(3, 1)]),
        ("no id", vec![greeting(LearnerInfo { id: None, ..info(1) })]),
        ("a newer configuration", vec![greeting(LearnerInfo { config_version: 1, ..info(1) })]),
        ("an older protocol", vec![greeting(LearnerInfo { protocol_version: 1, ..info(1) })]),
        ("an epoch beyond all bounds", vec![follower_info(1, u32::MAX)]),
        ("an epoch that nobody can have reached", vec![follower_info(1, 2 + (1 << 20) + 1)]),
        ("no greeting", vec![ack(z(2, 0))]),
        ("a request first", vec![Packet::Request(request(1))]),
        ("two greetings", vec![follower_info(1, 1), follower_info(1, 1)]),
        ("an ACK instead of a promise", vec![follower_info(1, 1), ack(z(2, 0))]),
        ("two promises", vec![follower_info(1, 1), ack_epoch(z(1, 3), Some(1)), ack_epoch(z(1, 3), Some(1))]),
        ("a request before NEWLEADER is acknowledged", vec![follower_info(1, 1), ack_epoch(z(1, 3), Some(1)), Packet::Request(request(1))]),
        ("an ACK of another epoch", vec![follower_info(1, 1), ack_epoch(z(1, 3), Some(1)), ack(z(3, 0))]),
        ("an ACK of a proposal before service", vec![follower_info(1, 1), ack_epoch(z(1, 3), Some(1)), ack(z(2, 1))]),
        ("an ACK of the future", vec![follower_info(1, 1), ack_epoch(z(1, 3), Some(1)), ack(z(2, 0)), ack(z(2, 1))]),
        ("a leader's packet", vec![follower_info(1, 1), ack_epoch(z(1, 3), Some(1)), ack(z(2, 0)), Packet::UpToDate]),
        (
            "answers to no pings",
            [
                vec![follower_info(1, 1), ack_epoch(z(1, 3), Some(1)), ack(z(2, 0))],
                vec![Packet::Ping { zxid: z(2, 0), touched: Vec::new() }; 2],
            ]
            .concat(),
        ),
    ];
    for (what, packets) in cases {
        let mut s = leading();
        accept(&mut s, 101);
        let (last, before) = packets.split_last().expect("one at least");
        for packet in before {
            s.packet(101, packet.clone());
            assert!(!s.said().contains(&"101 close".to_string()), "{what}: too early");
        }
        s.packet(101, last.clone());
        assert!(s.said().contains(&"101 close".to_string()), "{what}");
        assert!(is_leading(&s), "{what}");
        s.packet(101, ack(z(2, 0)));
        assert_eq!(s.said(), Vec::<String>::new(), "{what}: nothing more is heard of it");
    }
}

fn strangers_are_few_and_have_little_time() {
    let mut s = leading();
    for link in 0..40 {
        accept(&mut s, 1_000 + 2 * link);
    }
    let said = s.said();
    assert_eq!(said.len(), 20, "four members and sixteen more may wait: {said:?}");
    assert_eq!(said[0], "1000 close", "the one that came first makes room");
    for _ in 0..11 {
        s.run(1_000).answer_pings(&[102]);
    }
    let closed = s.said().iter().filter(|line| line.ends_with("close")).count();
    assert_eq!((closed, s.zab.learner_counts().learners), (20, 1));
}

fn learners_that_connect_before_the_election_is_over_are_not_lost() {
    let mut s = three();
    accept(&mut s, 102);
    s.packet(102, follower_info(2, 1));
    accept(&mut s, 101);
    s.packet(101, Packet::UpToDate);
    assert_eq!(s.said(), ["101 close"]);
    s.win();
    assert_eq!(s.said(), ["write Accepted 2", "102 LEADERINFO 2:0"]);
}

fn a_leader_without_answers_steps_down_and_one_with_answers_does_not() {
    let mut s = leading();
    for _ in 0..40 {
        s.run(500).answer_pings(&[102]);
    }
    assert!(is_leading(&s));
    s.said();
    s.run(5_600);
    let said = s.said();
    assert!(said.contains(&"looking".to_string()) && said.contains(&"102 close".to_string()), "{said:?}");
    assert_eq!((s.zab.state(), s.zab.confirmed(), s.zab.next_zxid()), (ServerState::Looking, 0, None));
}

fn after_a_pause_the_clock_comes_first_l13() {
    let mut s = leading();
    s.propose();
    s.said();
    s.pass(5_001);
    // What was on its way all the time would commit.
    s.packet(102, ack(z(2, 1)));
    assert_eq!(s.said(), ["looking", "102 close"]);
}

fn a_follower_whose_log_is_too_slow_is_cut_off() {
    let mut s = leading();
    s.join(1, 101);
    s.propose();
    s.packet(101, ack(z(2, 1)));
    for _ in 0..9 {
        s.run(500).answer_pings(&[101, 102]);
    }
    assert!(!s.said().contains(&"102 close".to_string()));
    s.run(1_200);
    assert!(s.said().contains(&"102 close".to_string()), "it answers pings, but no proposal for syncLimit");
    assert!(is_leading(&s));
}

fn a_leader_whose_own_log_is_stuck_gives_up() {
    let mut s = leading();
    s.disk_waits = true;
    s.propose();
    s.packet(102, ack(z(2, 1)));
    for _ in 0..12 {
        s.run(500).answer_pings(&[102]);
    }
    assert_eq!(s.zab.state(), ServerState::Looking);
    s.voted = None;
    s.run(60_000);
    assert_eq!(s.voted, None, "and does not vote before its disk answers");
    s.flushed();
    assert_eq!(s.voted.map(|vote| vote.zxid), Some(z(2, 1)));
}

fn a_learner_that_takes_nothing_is_cut_off_when_its_queue_is_full_l14() {
    let mut s = leading();
    s.join(1, 101);
    s.said();
    for _ in 0..300 {
        s.propose();
        let zxid = z(2, s.zab.next_zxid().expect("leading").counter() - 1);
        s.packet(101, ack(zxid)).answer_pings(&[101]);
    }
    let said = s.said();
    assert!(said.contains(&"102 close".to_string()) && !said.contains(&"101 close".to_string()));
    assert_eq!(said.iter().filter(|line| *line == "commit 2:300").count(), 1, "nobody waited for it");
}

fn a_voter_that_has_promised_a_newer_epoch_gets_its_election() {
    let mut s = leading();
    accept(&mut s, 101);
    s.packet(101, follower_info(1, 7));
    assert_eq!(s.said(), ["101 LEADERINFO 2:0", "looking", "101 close", "102 close"]);
}

/// An epoch is used up for ever: whoever speaks for a member before there is a leader must not take nearly all that are left.
fn no_stranger_brings_the_epochs_near_their_end_s7() {
    for (promised, epoch) in [(1, Some(2)), (1 + (1 << 20), Some(2 + (1 << 20))), (2 + (1 << 20), None), (i32::MAX as u32 - 1, None)] {
        let mut s = three();
        s.win();
        accept(&mut s, 101);
        s.said();
        s.packet(101, follower_info(1, promised));
        let said = s.said();
        match epoch {
            Some(epoch) => assert!(said.contains(&format!("write Accepted {epoch}")), "{promised}: {said:?}"),
            None => assert_eq!(said, ["101 close"], "{promised}"),
        }
    }
}

fn leading_without_a_quorum_ends_after_init_limit() {
    for steps in 0..3 {
        let mut s = three();
        s.win();
        accept(&mut s, 102);
        for packet in [follower_info(2, 1), ack_epoch(z(1, 3), Some(1))].into_iter().take(steps) {
            s.packet(102, packet);
        }
        s.run(9_900);
        assert_eq!(s.zab.state(), ServerState::Leading, "{steps}");
        s.run(700);
        assert_eq!(s.zab.state(), ServerState::Looking, "{steps}");
    }
}

fn a_single_voter_elects_itself_and_works_alone() {
    let membership = Membership::parse("server.5=a:1:2:participant\nversion=0").expect("valid");
    let mut s = Script::of(5, membership, stored(3, 3, &[z(3, 1)]));
    s.run(500);
    assert_eq!(s.said(), ["write Accepted 4", "write Current 4", "commit 3:1", "leading 4"]);
    s.propose();
    assert_eq!(s.said(), ["commit 4:1"]);
    assert_eq!((s.zab.confirm(), s.zab.confirmed()), (1, 1));
    s.pass(1_000_000).give(Input::Timeout);
    assert_eq!(s.zab.role(), Role::Leading { epoch: 4 }, "there is nobody to be cut off from");
    assert_eq!(s.zab.leader(), Some(PeerId(5)));
}

fn voters(ids: &[i64], version: Zxid) -> Membership {
    let lines: String = ids.iter().map(|id| format!("server.{id}=h{id}:1:2:participant\n")).collect();
    Membership::parse(&format!("{lines}version={:x}", version.as_i64())).expect("valid")
}

/// Its transaction was lost in epoch 3, and the history went on without it: whoever is in it need not be asked (P15).
fn a_configuration_whose_file_was_quicker_than_the_log_counts_in_no_later_epoch() {
    for (version, last, leads) in [
        (z(3, 7), z(3, 6), true),
        (z(3, 7), z(4, 9), true),
        (z(5, 0), z(4, 9), false), // no transaction: it comes with an epoch
    ] {
        let reconfig = Reconfig { enabled: true, proposed: Some(voters(&[6], version)), ..Reconfig::default() };
        let mut s = Script::with(5, voters(&[5], z(1, 1)), reconfig, stored(4, 4, &[last]));
        s.run(500);
        assert_eq!(is_leading(&s), leads, "{version} proposed, history up to {last}");
    }
}

/// Server 5 ends at 3:3, and 3:2 has proposed other members; server 6, which is one of those only, ends at 3:5. It cannot lead, and without it nobody can.
fn what_only_those_have_who_are_to_vote_is_cut_where_it_cannot_be_committed_p3() {
    let two: &[i64] = &[5, 7];
    for (active, next, ends, epoch, takes) in [
        (&[5][..], &[5, 6][..], None, 3, true), // a quorum of the new ones is not without us
        (&[5], &[6], None, 3, false),           // who may have gone on alone
        (&[5], &[5, 6], None, 4, false),        // the rest may be in the place of ours
        (two, &[6], Some(z(3, 1)), 3, true),    // never in force: server 7 has not heard of it
        (two, &[6], Some(z(3, 2)), 3, false),
    ] {
        let history = Stored { configuration: Some(voters(next, z(3, 2))), ..stored(3, 3, &[z(3, 1), z(3, 2), z(3, 3)]) };
        let mut s = Script::of(5, voters(active, z(1, 1)), history);
        let others: Vec<(i64, u64, Zxid, i32)> = [(7, 107, ends, 3), (6, 106, Some(z(3, 5)), epoch)]
            .into_iter()
            .filter_map(|(id, link, end, epoch)| end.map(|end| (id, link, end, epoch)))
            .collect();
        for (id, ..) in &others {
            s.hear(*id, ServerState::Looking, 5, z(3, 3), 3);
        }
        s.run(250);
        for (id, link, ..) in &others {
            accept(&mut s, *link);
            s.packet(*link, of_ours(follower_info(*id, 4)));
        }
        s.said();
        for (_, link, end, epoch) in &others {
            s.packet(*link, ack_epoch(*end, Some(*epoch)));
        }
        let said = s.said();
        assert_eq!(said.contains(&"write Current 5".to_string()), takes, "{active:?} {next:?} {ends:?}: {said:?}");
        assert_eq!(said.contains(&"106 TRUNC 3:3".to_string()), takes, "{active:?} {next:?} {ends:?}: {said:?}");
    }
}

/// The file of what is proposed may be missing: the power may have failed between the two, or the file may not be written at all.
fn a_configuration_that_only_the_log_knows_of_needs_its_own_quorum_l2() {
    for (logged, leads) in [(None, true), (Some(voters(&[5, 6, 7], z(3, 2))), false), (Some(voters(&[5, 6, 7], Zxid::ZERO)), true)] {
        let history = Stored { configuration: logged.clone(), ..stored(3, 3, &[z(3, 1), z(3, 2)]) };
        let mut s = Script::of(5, voters(&[5], z(1, 1)), history);
        s.run(500);
        assert_eq!(is_leading(&s), leads, "{logged:?}");
    }
}

fn an_image_has_all_the_time_it_takes_and_then_the_learner_has_its_own() {
    let mut s = leading();
    accept(&mut s, 101);
    s.packet(101, follower_info(1, 1)).packet(101, ack_epoch(z(1, 1), Some(1)));
    assert!(s.said().contains(&"101 DIFF 1:3".to_string()));
    accept(&mut s, 201);
    s.packet(201, follower_info(1, 2)).packet(201, ack_epoch(Zxid::ZERO, None));
    assert!(s.said().contains(&"201 image 1:3 as 2:0".to_string()));
    let wait = |s: &mut Script, ms| {
        for _ in 0..ms / 500 {
            s.run(500).answer_pings(&[102]);
        }
        s.said().contains(&"201 close".to_string())
    };
    assert!(!wait(&mut s, 100_000));
    s.give(Input::SnapshotSent(LinkId(201)));
    assert!(!wait(&mut s, 14_500));
    assert!(wait(&mut s, 1_500));
}

/// A long log takes longer to look through than a learner has patience, and would take as long every time.
fn who_did_not_wait_until_the_log_was_looked_through_gets_an_image() {
    let mut s = leading();
    let comes = |s: &mut Script, link, what: &str| {
        accept(s, link);
        s.packet(link, follower_info(1, 1)).packet(link, ack_epoch(z(1, 0), Some(1)));
        let said = s.said();
        assert!(said.contains(&format!("{link} {what}")), "{said:?}");
    };
    comes(&mut s, 101, "read log 1:0 to 1:3");
    s.give(Input::Disconnected(LinkId(101)));
    s.give(Input::LogRead(LinkId(101), Ok(Vec::new())));
    comes(&mut s, 201, "image 1:3 as 2:0");
    s.give(Input::Disconnected(LinkId(201)));
    comes(&mut s, 301, "read log 1:0 to 1:3");
    for _ in 0..32 {
        s.run(500).answer_pings(&[102]);
    }
    assert!(s.said().contains(&"301 close".to_string()));
    comes(&mut s, 401, "image 1:3 as 2:0");
}

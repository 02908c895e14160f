//! Following and observing, step by step: what must be on disk before what is said, what ends a role, and what a left role leaves behind.

use super::script::{Script, TICK_MS, ack, commit, commits, proposal, request, show_zxid, stored, z};
use zoo::base::{SessionId, Zxid};
use zoo::zab::{Emptiness, Input, LinkId, Packet, Role, ServerState, Stored};

pub const ALL: &[super::Named] = crate::named![
    the_promise_is_on_disk_before_it_is_given_a24,
    a_promise_given_before_is_not_counted_again_and_an_older_leader_is_left,
    an_epoch_that_cannot_be_told_is_never_promised_s7,
    history_then_epoch_then_acknowledgement_l2_l7,
    proposals_and_commits_may_come_in_any_of_the_three_windows,
    what_is_out_of_place_ends_the_role_and_is_never_guessed_at_l3,
    the_next_election_waits_until_the_old_role_has_left_nothing_on_its_way_a1_l4,
    an_epoch_on_its_way_to_the_disk_is_waited_for_l4,
    half_an_image_is_no_history_l5,
    an_image_takes_the_place_of_everything_and_the_stream_goes_on_behind_it,
    the_log_is_cut_where_the_leader_says_and_what_follows_waits_for_it,
    a_cut_below_what_is_committed_stops_the_server_l6,
    a_leader_that_has_not_applied_what_it_has_committed_is_asked_again_l6,
    an_image_of_less_than_what_is_committed_replaces_nothing_p3,
    an_image_from_beyond_the_promised_epoch_is_refused_l7,
    a_cut_to_what_is_not_in_the_log_is_refused_and_its_leader_asked_for_an_image_l6,
    a_leader_that_does_not_send_the_image_is_left_and_the_next_one_told_the_history,
    a_replica_that_finds_itself_different_asks_for_everything_l17,
    an_empty_disk_is_in_doubt_until_it_begins_an_ensemble_or_has_a_history_l21,
    an_operator_vouches_for_a_disk_until_it_takes_part_l21,
    each_proposal_is_acknowledged_once_it_is_durable_in_order_p2,
    commits_that_come_as_a_run_are_carried_out_one_by_one_up_to_the_first_out_of_place_l3,
    requests_syncs_pings_and_sessions_travel_both_ways,
    a_silent_leader_is_left_and_one_that_pings_is_not,
    a_leader_that_cannot_be_reached_is_dialed_five_times,
    an_observer_logs_what_it_is_informed_of_and_acknowledges_the_history_only,
    the_announced_epoch_is_that_of_the_leader_from_uptodate_on,
    who_connects_to_a_learner_is_turned_away_and_strangers_are_not_listened_to,
    roles_that_end_in_vain_are_followed_by_growing_pauses,
    a_server_that_is_given_no_image_tells_its_history_again,
];

/// After a role that ended before it served.
const PAUSE_MS: u64 = 100;

fn leader_info(epoch: u32) -> Packet {
    Packet::LeaderInfo { zxid: z(epoch, 0), protocol_version: 0x10000 }
}
fn new_leader(epoch: u32) -> Packet {
    Packet::NewLeader { zxid: z(epoch, 0), config: None }
}
/// Server 1, whose log is 1:1 to 1:3 in epoch 1.
fn one() -> Script {
    Script::new(1, stored(1, 1, &[z(1, 1), z(1, 2), z(1, 3)]))
}
/// ... which has promised epoch 2 to leader 3 and waits for the stream. The script and the link.
fn promised() -> (Script, u64) {
    let mut s = one();
    let link = s.follow();
    s.packet(link, leader_info(2));
    assert_eq!(s.said().last().map(String::as_str), Some(format!("{link} ACKEPOCH 1:3 1").as_str()));
    (s, link)
}
fn lines<const N: usize>(expected: [&str; N]) -> Vec<String> {
    expected.map(String::from).into()
}

fn the_promise_is_on_disk_before_it_is_given_a24() {
    let mut s = one();
    s.disk_waits = true;
    let link = s.follow();
    assert_eq!(s.said(), ["connect 3".into(), format!("{link} FOLLOWERINFO 1:0 Some(1)")]);
    s.packet(link, leader_info(2));
    assert_eq!(s.said(), lines(["write Accepted 2"]));
    s.epoch_written();
    assert_eq!(s.said(), [format!("{link} ACKEPOCH 1:3 1")]);
}

fn a_promise_given_before_is_not_counted_again_and_an_older_leader_is_left() {
    let mut s = Script::new(1, stored(2, 1, &[z(1, 1)]));
    let link = s.follow();
    s.said();
    s.packet(link, leader_info(2));
    assert_eq!(s.said(), [format!("{link} ACKEPOCH 1:1 -1")]);
    let mut s = Script::new(1, stored(3, 1, &[z(1, 1)]));
    let link = s.follow();
    s.said();
    s.packet(link, leader_info(2));
    assert_eq!(s.said(), [format!("{link} close")]);
}

fn an_epoch_that_cannot_be_told_is_never_promised_s7() {
    for (epoch, is_promised) in [(i32::MAX as u32, true), (i32::MAX as u32 + 1, false), (u32::MAX, false)] {
        let mut s = one();
        let link = s.follow();
        s.said();
        s.packet(link, leader_info(epoch));
        let said = s.said();
        assert_eq!(said.contains(&format!("write Accepted {epoch}")), is_promised, "{said:?}");
        assert_eq!(said.contains(&format!("{link} close")), !is_promised, "{said:?}");
    }
}

fn history_then_epoch_then_acknowledgement_l2_l7() {
    let (mut s, link) = promised();
    s.disk_waits = true;
    s.packet(link, Packet::Diff { zxid: z(1, 5) });
    for zxid in [z(1, 4), z(1, 5)] {
        s.packet(link, proposal(zxid)).packet(link, commit(zxid));
    }
    s.packet(link, new_leader(2));
    assert_eq!(s.said(), lines(["append 1:4", "append 1:5"]), "nothing is committed, and nothing acknowledged");
    s.flushed();
    assert_eq!(s.said(), lines(["write Current 2"]));
    assert_eq!(s.zab.current_epoch(), 1, "the file comes first");
    s.epoch_written();
    assert_eq!((s.said(), s.zab.current_epoch()), (vec![format!("{link} ACK 2:0")], 2));
    s.packet(link, Packet::UpToDate);
    assert_eq!(s.said(), [format!("{link} ACK 2:0"), "commit 1:5".into(), "following 3".into()]);
}

/// Every way in which two proposals, their commits, NEWLEADER and UPTODATE can follow each other.
fn proposals_and_commits_may_come_in_any_of_the_three_windows() {
    let zxids = [z(2, 1), z(2, 2)];
    let mut ways = 0;
    // Where each of the six stands: proposals in order, each commit behind its proposal and the commit before it, UPTODATE behind NEWLEADER.
    for order in permutations(6) {
        let at = |n: usize| order[n];
        let [p1, p2, c1, c2, nl, up] = [0, 1, 2, 3, 4, 5].map(at);
        if !(p1 < p2 && p1 < c1 && p2 < c2 && c1 < c2 && nl < up) {
            continue;
        }
        ways += 1;
        let (mut s, link) = promised();
        s.packet(link, Packet::Diff { zxid: z(1, 3) });
        let packets = [proposal(zxids[0]), proposal(zxids[1]), commit(zxids[0]), commit(zxids[1]), new_leader(2), Packet::UpToDate];
        for place in 0..6 {
            let n = order.iter().position(|at| *at == place).expect("a permutation");
            s.packet(link, packets[n].clone());
        }
        let said = s.said();
        let of = |word: &str| said.iter().filter(|line| line.contains(word)).cloned().collect::<Vec<_>>();
        assert_eq!(of("append"), ["append 2:1", "append 2:2"], "{order:?}");
        // Committed at NEWLEADER: acknowledged with it. All others one by one, behind the ACK of UPTODATE.
        let single = [(c1, "2:1"), (c2, "2:2")].into_iter().filter(|(c, _)| *c > nl).map(|(_, zxid)| format!("{link} ACK {zxid}"));
        let acks: Vec<_> = [format!("{link} ACK 2:0"), format!("{link} ACK 2:0")].into_iter().chain(single).collect();
        assert_eq!(of("ACK"), acks, "{order:?}");
        let before = [(c1, "1:3"), (c2, "2:1")].into_iter().filter(|(c, _)| *c > up).map(|(_, zxid)| zxid).next().unwrap_or("2:2");
        let after = [(c1, "2:1"), (c2, "2:2")].into_iter().filter(|(c, _)| *c > up).map(|(_, zxid)| zxid);
        let commits: Vec<_> = [before].into_iter().chain(after).map(|zxid| format!("commit {zxid}")).collect();
        assert_eq!(of("commit"), commits, "{order:?}");
        let first_commit = said.iter().position(|line| line.starts_with("commit")).expect("one");
        assert_eq!(said[first_commit + 1], "following 3");
    }
    assert_eq!(ways, 30, "two orders of P1 P2 C1 C2, each with fifteen places for NEWLEADER and UPTODATE");
}
fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(n - 1);
    shorter.iter().flat_map(|p| (0..n).map(|at| [&p[..at], &[n - 1], &p[at..]].concat())).collect()
}

fn what_is_out_of_place_ends_the_role_and_is_never_guessed_at_l3() {
    let diff = || Packet::Diff { zxid: z(1, 3) };
    let served = || vec![diff(), new_leader(2), Packet::UpToDate];
    let cases: Vec<(&str, Vec<Packet>)> = vec![
        ("a commit of nothing", vec![diff(), commit(z(1, 4))]),
        ("a commit of what was there before", vec![diff(), commit(z(1, 3))]),
        ("a commit out of order", vec![diff(), proposal(z(2, 1)), proposal(z(2, 2)), commit(z(2, 2))]),
        ("commits that begin too late", vec![diff(), proposal(z(2, 1)), proposal(z(2, 2)), commits(z(2, 2), z(2, 2))]),
        ("commits that go too far", vec![diff(), proposal(z(2, 1)), commits(z(2, 1), z(2, 2))]),
        ("a commit twice", vec![diff(), proposal(z(2, 1)), commit(z(2, 1)), commit(z(2, 1))]),
        ("a gap", vec![diff(), proposal(z(1, 5))]),
        ("a gap at the start of an epoch", vec![diff(), proposal(z(2, 2))]),
        ("a repetition", vec![diff(), proposal(z(1, 3))]),
        ("a proposal of a later epoch", vec![diff(), proposal(z(3, 1))]),
        ("a proposal before the stream", vec![proposal(z(1, 4))]),
        ("a commit before the stream", vec![commit(z(1, 4))]),
        ("a second stream", vec![diff(), diff()]),
        ("NEWLEADER before the stream", vec![new_leader(2)]),
        ("NEWLEADER of another epoch", vec![diff(), new_leader(3)]),
        ("NEWLEADER twice", vec![diff(), new_leader(2), new_leader(2)]),
        ("UPTODATE before NEWLEADER", vec![diff(), Packet::UpToDate]),
        ("UPTODATE twice", [served(), vec![Packet::UpToDate]].concat()),
        ("LEADERINFO again", vec![leader_info(3)]),
        ("a cut in service", [served(), vec![Packet::Trunc { zxid: z(1, 1) }]].concat()),
        ("a gap in service", [served(), vec![proposal(z(2, 2))]].concat()),
        ("a commit of nothing in service", [served(), vec![commit(z(2, 1))]].concat()),
        ("an answer to no sync", [served(), vec![Packet::Sync]].concat()),
        ("an INFORM to a follower", [served(), vec![Packet::Inform { zxid: z(2, 1), payload: super::script::payload(z(2, 1)) }]].concat()),
        (
            "a configuration that is not next",
            [served(), vec![proposal(z(2, 1)), Packet::CommitAndActivate { zxid: z(2, 2), leader: zoo::base::PeerId(2) }]].concat(),
        ),
        ("a learner's packet", [served(), vec![ack(z(2, 1))]].concat()),
    ];
    for (what, packets) in cases {
        let (mut s, link) = promised();
        let (last, before) = packets.split_last().expect("one at least");
        for packet in before {
            s.packet(link, packet.clone());
            assert_eq!(s.zab.state(), ServerState::Following, "{what}: too early");
        }
        let served = s.zab.role() != Role::Looking;
        s.said();
        s.packet(link, last.clone());
        let expected = if served { vec!["looking".to_string(), format!("{link} close")] } else { vec![format!("{link} close")] };
        assert_eq!((s.said(), s.zab.state()), (expected, ServerState::Looking), "{what}");
    }
}

fn the_next_election_waits_until_the_old_role_has_left_nothing_on_its_way_a1_l4() {
    let mut s = one();
    let link = s.serve(2);
    s.disk_waits = true;
    s.voted = None;
    s.packet(link, proposal(z(2, 1))).packet(link, proposal(z(2, 2)));
    s.give(Input::Disconnected(LinkId(link)));
    assert_eq!(s.said(), ["append 2:1".into(), "append 2:2".into(), "looking".into(), format!("{link} close")]);
    s.run(60_000);
    assert_eq!((s.voted, s.zab.poll_timeout()), (None, None), "it waits for the disk alone");
    s.give(Input::Durable(z(2, 1)));
    assert_eq!(s.voted, None);
    s.give(Input::Durable(z(2, 2)));
    let vote = s.voted.expect("now it votes");
    assert_eq!((vote.zxid, vote.peer_epoch), (z(2, 2), 2), "with all that is logged");
}

fn an_epoch_on_its_way_to_the_disk_is_waited_for_l4() {
    let mut s = one();
    s.disk_waits = true;
    let link = s.follow();
    s.packet(link, leader_info(2));
    s.voted = None;
    s.give(Input::Disconnected(LinkId(link)));
    assert_eq!(s.voted, None);
    s.epoch_written().run(PAUSE_MS);
    assert_eq!((s.voted.map(|v| v.zxid), s.zab.accepted_epoch()), (Some(z(1, 3)), 2));
    // A token of no write changes nothing.
    s.give(Input::EpochWritten(zoo::zab::EpochToken(99)));
    assert_eq!(s.zab.accepted_epoch(), 2);
}

fn half_an_image_is_no_history_l5() {
    for link_dies_first in [false, true] {
        let (mut s, link) = promised();
        s.packet(link, Packet::Snap { zxid: z(1, 9) });
        assert_eq!(s.said(), [format!("{link} install 1:9")]);
        s.voted = None;
        if link_dies_first {
            s.give(Input::Disconnected(LinkId(link)));
            assert_eq!(s.voted, None, "nothing begins while the image may still be installed (L4)");
        }
        s.give(Input::SnapshotFailed("cut off".into())).run(PAUSE_MS);
        let vote = s.voted.expect("an election");
        assert_eq!((vote.zxid, vote.peer_epoch), (z(1, 3), 1), "with the history of before");
    }
}

fn an_image_takes_the_place_of_everything_and_the_stream_goes_on_behind_it() {
    let (mut s, link) = promised();
    s.packet(link, Packet::Snap { zxid: z(2, 0) });
    s.said();
    s.installed(z(2, 0));
    s.packet(link, proposal(z(2, 1))).packet(link, new_leader(2)).packet(link, Packet::UpToDate).packet(link, commit(z(2, 1)));
    let ack = format!("{link} ACK 2:0");
    assert_eq!(
        s.said(),
        [
            "append 2:1".into(),
            "write Current 2".into(),
            ack.clone(),
            ack,
            "commit 2:0".into(),
            "following 3".into(),
            format!("{link} ACK 2:1"),
            "commit 2:1".into()
        ],
        "an image may be as of the start of an epoch (B7)"
    );
}

fn the_log_is_cut_where_the_leader_says_and_what_follows_waits_for_it() {
    let (mut s, link) = promised();
    s.packet(link, Packet::Trunc { zxid: z(1, 2) });
    s.packet(link, proposal(z(2, 1))).packet(link, commit(z(2, 1))).packet(link, new_leader(2));
    assert_eq!(s.said(), lines(["truncate 1:2"]));
    s.truncated(z(1, 2));
    assert_eq!(s.said(), ["append 2:1".into(), "write Current 2".into(), format!("{link} ACK 2:0")]);
}

fn a_cut_below_what_is_committed_stops_the_server_l6() {
    let mut s = one();
    let link = s.serve(2);
    s.give(Input::Disconnected(LinkId(link)));
    let link = s.follow();
    s.packet(link, leader_info(3));
    s.said();
    s.packet(link, Packet::Trunc { zxid: z(1, 2) });
    assert!(s.said()[0].starts_with("FATAL"));
}

fn a_leader_that_has_not_applied_what_it_has_committed_is_asked_again_l6() {
    let mut s = one();
    let link = s.serve(2);
    s.packet(link, proposal(z(2, 1))).packet(link, commit(z(2, 1)));
    s.give(Input::Disconnected(LinkId(link)));
    let link = s.follow();
    s.packet(link, leader_info(2));
    s.said();
    s.packet(link, Packet::Trunc { zxid: z(1, 3) });
    assert_eq!(s.said(), [format!("{link} close")], "nothing is removed");
    s.run(PAUSE_MS);
    assert_eq!(s.voted.map(|vote| vote.zxid), Some(z(2, 1)));
    let link = s.follow();
    s.packet(link, leader_info(2)).packet(link, Packet::Diff { zxid: z(2, 1) });
    s.packet(link, new_leader(2)).packet(link, Packet::UpToDate);
    assert_eq!(s.said().last().map(String::as_str), Some("following 3"));
}

fn an_image_of_less_than_what_is_committed_replaces_nothing_p3() {
    let mut s = one();
    let link = s.serve(2);
    s.give(Input::Disconnected(LinkId(link)));
    let link = s.follow();
    s.packet(link, leader_info(3));
    s.said();
    s.packet(link, Packet::Snap { zxid: z(1, 2) });
    assert_eq!(s.said(), [format!("{link} close")], "not a byte of it is taken");
    s.run(PAUSE_MS);
    assert_eq!(s.voted.map(|vote| vote.zxid), Some(z(1, 3)));
}

fn an_image_from_beyond_the_promised_epoch_is_refused_l7() {
    let (mut s, link) = promised();
    s.packet(link, Packet::Snap { zxid: z(3, 1) });
    assert_eq!(s.said(), [format!("{link} close")]);
}

fn a_cut_to_what_is_not_in_the_log_is_refused_and_its_leader_asked_for_an_image_l6() {
    let mut imaged = stored(1, 1, &[z(1, 1), z(1, 2), z(1, 3)]);
    imaged.snapshot = z(1, 2);
    for (disk, target) in [(stored(1, 1, &[z(1, 1), z(1, 3)]), z(1, 1)), (stored(1, 1, &[z(1, 1), z(1, 2)]), z(1, 7)), (imaged, z(1, 1))] {
        let mut s = Script::new(1, disk);
        let link = s.follow();
        s.packet(link, leader_info(2));
        s.said();
        s.packet(link, Packet::Trunc { zxid: target });
        if s.said().last() == Some(&format!("truncate {}", show_zxid(target))) {
            s.packet(link, proposal(z(2, 1))); // for a log that was cut there: it is not
            s.truncated(Zxid::ZERO); // only the disk could tell that it is not there
        }
        assert_eq!(s.zab.state(), ServerState::Following, "{target}: the same leader, which may have nobody else");
        s.said();
        s.run(PAUSE_MS);
        assert_eq!(s.said(), lines(["connect 3"]), "{target}");
        let link = s.dialed.take().expect("a link");
        s.give(Input::Connected(link)).packet(link.0, leader_info(2));
        let promises = [format!("{} FOLLOWERINFO 2:0 Some(1)", link.0), format!("{} ACKEPOCH 0:0 -1", link.0)];
        assert_eq!(s.said(), promises, "{target}: it asks for everything, and has told its history before");
        s.packet(link.0, Packet::Snap { zxid: z(1, 9) }).installed(z(1, 9));
        s.packet(link.0, new_leader(2)).packet(link.0, Packet::UpToDate);
        assert_eq!(s.said().last().map(String::as_str), Some("following 3"));
    }
}

fn a_leader_that_does_not_send_the_image_is_left_and_the_next_one_told_the_history() {
    let mut imaged = stored(1, 1, &[z(1, 1), z(1, 2), z(1, 3)]);
    imaged.snapshot = z(1, 2);
    let mut s = Script::new(1, imaged);
    let link = s.follow();
    s.packet(link, leader_info(2)).packet(link, Packet::Trunc { zxid: z(1, 1) });
    s.dialed = None;
    s.run(PAUSE_MS);
    let link = s.dialed.take().expect("a link");
    s.give(Input::Connected(link)).packet(link.0, leader_info(2)).packet(link.0, Packet::Trunc { zxid: z(1, 1) });
    assert_eq!(s.zab.state(), ServerState::Looking, "a cut is no answer to that");
    s.run(PAUSE_MS);
    let link = s.follow();
    s.packet(link, leader_info(3));
    assert_eq!(s.said().last(), Some(&format!("{link} ACKEPOCH 1:3 1")), "which its quorum may need");
}

fn a_replica_that_finds_itself_different_asks_for_everything_l17() {
    let mut s = one();
    let link = s.serve(2);
    s.voted = None;
    s.zab.resync("the digests differ");
    s.pump();
    assert_eq!(s.said(), ["looking".into(), format!("{link} close")]);
    assert_eq!(s.voted.map(|vote| (vote.zxid, vote.peer_epoch)), Some((z(1, 3), 2)), "votes tell the true end");
    let link = s.follow();
    s.packet(link, leader_info(3));
    assert_eq!(s.said().last(), Some(&format!("{link} ACKEPOCH 0:0 -1")));
}

fn commits_that_come_as_a_run_are_carried_out_one_by_one_up_to_the_first_out_of_place_l3() {
    let mut s = one();
    let link = s.serve(2);
    for counter in 1..=3 {
        s.packet(link, proposal(z(2, counter)));
    }
    s.said();
    s.packet(link, commits(z(2, 1), z(2, 2)));
    assert_eq!(s.said(), lines(["commit 2:1", "commit 2:2"]));
    s.packet(link, commits(z(2, 3), z(2, 4)));
    assert_eq!(s.said(), ["commit 2:3".into(), "looking".into(), format!("{link} close")]);
}

/// What it promised may be all that is left of what it had, unless that was to the first leader there ever was.
fn an_empty_disk_is_in_doubt_until_it_begins_an_ensemble_or_has_a_history_l21() {
    for (counter, is_certain) in [(0, false), (1, true)] {
        let mut s = Script::new(1, stored(0, 0, &[]));
        let link = s.follow();
        assert!(s.said().contains(&format!("{link} FOLLOWERINFO 0:2 Some(1)")));
        s.packet(link, Packet::LeaderInfo { zxid: z(1, counter), protocol_version: 0x10000 });
        assert_eq!(s.vouched, is_certain, "it is on the disk before the promise is");
        s.give(Input::Disconnected(LinkId(link)));
        s.run(10 * TICK_MS);
        s.said();
        let link = s.follow();
        assert_eq!(s.said().last(), Some(&format!("{link} FOLLOWERINFO 1:{} Some(1)", if is_certain { 1 } else { 2 })));
    }
    // With a history there is nothing to say of emptiness.
    let mut s = one();
    let link = s.follow();
    assert_eq!(s.said().last(), Some(&format!("{link} FOLLOWERINFO 1:0 Some(1)")));
    s.packet(link, Packet::LeaderInfo { zxid: z(2, 1), protocol_version: 0x10000 });
    assert!(!s.vouched);
}

fn an_operator_vouches_for_a_disk_until_it_takes_part_l21() {
    let mut s = Script::new(1, Stored { emptiness: Emptiness::Vouched, ..stored(0, 0, &[]) });
    let greeted = |s: &mut Script| {
        s.run(10 * TICK_MS);
        s.said();
        let link = s.follow();
        (link, s.said().last().cloned())
    };
    let (link, greeting) = greeted(&mut s);
    assert_eq!(greeting, Some(format!("{link} FOLLOWERINFO 0:1 Some(1)")));
    s.packet(link, leader_info(2)).packet(link, Packet::Snap { zxid: z(1, 9) }).installed(z(1, 9));
    s.give(Input::Disconnected(LinkId(link)));
    let (link, greeting) = greeted(&mut s);
    assert_eq!(greeting, Some(format!("{link} FOLLOWERINFO 2:1 Some(1)")), "an image has come, and nothing was acknowledged");
    s.packet(link, leader_info(3)).packet(link, Packet::Diff { zxid: z(1, 9) }).packet(link, new_leader(3));
    s.give(Input::Disconnected(LinkId(link)));
    let (link, greeting) = greeted(&mut s);
    assert_eq!(greeting, Some(format!("{link} FOLLOWERINFO 3:0 Some(1)")), "it has an epoch of its own");
}

fn each_proposal_is_acknowledged_once_it_is_durable_in_order_p2() {
    let mut s = one();
    let link = s.serve(2);
    s.disk_waits = true;
    for counter in 1..=3 {
        s.packet(link, proposal(z(2, counter)));
    }
    s.packet(link, commit(z(2, 1)));
    assert_eq!(s.said(), lines(["append 2:1", "append 2:2", "append 2:3", "commit 2:1"]), "the others may commit without this server");
    s.give(Input::Durable(z(2, 2)));
    assert_eq!(s.said(), [format!("{link} ACK 2:1"), format!("{link} ACK 2:2")]);
    s.flushed();
    assert_eq!(s.said(), [format!("{link} ACK 2:3")]);
}

fn requests_syncs_pings_and_sessions_travel_both_ways() {
    let mut s = one();
    let link = s.serve(2);
    s.zab.forward(request(1));
    s.zab.forward(request(9));
    s.zab.revalidate(SessionId(7), 5_000);
    s.pump();
    assert_eq!(s.said(), ["REQUEST op 1", "REQUEST op 9", "REVALIDATE 0x7 5000"].map(|line| format!("{link} {line}")));
    s.packet(link, Packet::Sync).packet(link, Packet::Revalidated { session: SessionId(7), valid: true });
    s.packet(link, Packet::Ping { zxid: z(2, 0), touched: Vec::new() });
    assert_eq!(s.said(), lines(["synced", "revalidated 0x7 true", "ping 2:0"]));
    s.zab.pinged(z(2, 0), vec![(SessionId(7), 5_000)]);
    s.zab.pinged(z(2, 0), Vec::new());
    s.pump();
    assert_eq!(s.said(), [format!("{link} PING 2:0 1")], "one answer to one ping");
    // Of many sessions no more go into a packet than a Java leader takes, and nothing but the last one is an answer.
    s.packet(link, Packet::Ping { zxid: z(2, 0), touched: Vec::new() });
    s.said();
    s.zab.pinged(z(2, 0), (0..150_000).map(|id| (SessionId(id), 5_000)).collect());
    s.pump();
    let table = "PING 4294967295:4294967295 65536";
    assert_eq!(s.said(), [table, table, "PING 2:0 18928"].map(|line| format!("{link} {line}")));
}

fn a_silent_leader_is_left_and_one_that_pings_is_not() {
    let mut s = one();
    let link = s.serve(2);
    for _ in 0..20 {
        s.run(2_000).packet(link, Packet::Ping { zxid: z(2, 0), touched: Vec::new() });
    }
    assert_eq!(s.zab.role(), Role::Following { leader: zoo::base::PeerId(3) });
    s.said();
    s.run(5_100);
    assert_eq!(s.said(), ["looking".into(), format!("{link} close")]);
}

fn a_leader_that_cannot_be_reached_is_dialed_five_times() {
    let mut s = one();
    s.hear(2, ServerState::Following, 3, Zxid::ZERO, 9).hear(3, ServerState::Leading, 3, Zxid::ZERO, 9);
    for dial in 1..=5 {
        assert_eq!(s.said(), ["connect 3"], "dial {dial}");
        let link = s.dialed.take().expect("a link");
        s.voted = None;
        s.give(Input::Disconnected(link));
        s.run(100);
    }
    assert!(s.voted.is_some(), "then there is an election");
}

fn an_observer_logs_what_it_is_informed_of_and_acknowledges_the_history_only() {
    let mut s = Script::new(4, stored(1, 1, &[z(1, 1)]));
    let link = s.follow();
    s.packet(link, leader_info(2));
    assert_eq!(s.said()[1..], [format!("{link} OBSERVERINFO 1:0 Some(4)"), "write Accepted 2".into(), format!("{link} ACKEPOCH 1:1 1")]);
    let inform = |zxid| Packet::Inform { zxid, payload: super::script::payload(zxid) };
    s.packet(link, Packet::Diff { zxid: z(1, 2) }).packet(link, proposal(z(1, 2))).packet(link, commit(z(1, 2)));
    s.packet(link, inform(z(2, 1))).packet(link, new_leader(2)).packet(link, inform(z(2, 2)));
    let ack = format!("{link} ACK 2:0");
    assert_eq!(s.said(), ["append 1:2", "append 2:1", "write Current 2", &ack, "append 2:2"]);
    s.packet(link, Packet::UpToDate).packet(link, inform(z(2, 3)));
    assert_eq!(s.said(), [&ack, "commit 2:2", "observing 3", "append 2:3", "commit 2:3"]);
    s.packet(link, inform(z(2, 5)));
    assert_eq!(s.said(), ["looking".into(), format!("{link} close")]);
}

fn the_announced_epoch_is_that_of_the_leader_from_uptodate_on() {
    let mut s = one();
    let link = s.follow();
    let asked = |s: &mut Script| {
        s.hear(2, ServerState::Looking, 2, Zxid::ZERO, 0);
        s.voted.map(|vote| (vote.leader.0, vote.zxid, vote.peer_epoch))
    };
    assert_eq!(asked(&mut s), Some((3, Zxid::ZERO, 9)), "what was elected");
    s.packet(link, leader_info(12)).packet(link, Packet::Diff { zxid: z(1, 3) }).packet(link, new_leader(12));
    assert_eq!(asked(&mut s), Some((3, Zxid::ZERO, 9)));
    s.packet(link, Packet::UpToDate);
    assert_eq!(asked(&mut s), Some((3, Zxid::ZERO, 12)), "zxid and round stay");
}

fn who_connects_to_a_learner_is_turned_away_and_strangers_are_not_listened_to() {
    let mut s = one();
    s.serve(2);
    s.give(Input::Accepted(LinkId(20)));
    assert_eq!(s.said(), lines(["20 close"]));
    s.packet(20, commit(z(9, 9))).packet(22, Packet::UpToDate).give(Input::Disconnected(LinkId(20)));
    assert_eq!((s.said(), s.zab.state()), (vec![], ServerState::Following));
}

fn roles_that_end_in_vain_are_followed_by_growing_pauses() {
    let mut s = one();
    let mut pauses = Vec::new();
    for _ in 0..7 {
        s.voted = None;
        let link = s.follow();
        s.packet(link, Packet::UpToDate);
        let left = s.now;
        while s.voted.is_none() {
            s.run(1);
        }
        pauses.push(s.now.since_ms(left));
    }
    for (pause, most) in pauses.iter().zip([100, 200, 400, 800, 1_000, 1_000, 1_000]) {
        assert!((most / 2..=most + 2).contains(pause), "{pauses:?}");
    }
    s.voted = None;
    let link = s.serve(2);
    s.packet(link, Packet::UpToDate);
    assert!(s.voted.is_some(), "none after a role that served");
}

fn a_server_that_is_given_no_image_tells_its_history_again() {
    let mut s = one();
    s.serve(2);
    s.zab.resync("the digests differ");
    s.pump();
    let mut promises = Vec::new();
    for _ in 0..4 {
        s.said();
        let link = s.follow();
        s.packet(link, leader_info(3));
        promises.extend(s.said().iter().filter_map(|line| line.split_once("ACKEPOCH ").map(|(_, promise)| promise.to_string())));
        s.give(Input::Disconnected(LinkId(link))).run(1_000);
    }
    assert_eq!(promises, ["0:0 -1", "0:0 -1", "0:0 -1", "1:3 -1"], "too many who ask would wait for each other");
}

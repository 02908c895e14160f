//! Scripts: what real servers were heard to say goes in, and what they answered must come out.

use super::*;
use crate::base::Reader;
use crate::zab::config::ZabConfig;
use crate::zab::wire::{Decoded, hello, notification};

const T0: Instant = Instant(0);
const FINALIZE_MS: u64 = 200;
const CAPTURED_CONFIG: &str = "server.1=127.0.0.1:22301:22401:participant\nserver.2=127.0.0.1:22302:22402:participant\n\
    server.3=127.0.0.1:22303:22403:participant\nserver.4=127.0.0.1:22304:22404:observer\nversion=0";

fn at(ms: u64) -> Instant {
    T0.plus_ms(ms)
}

pub(in crate::zab) fn config(me: i64, text: &str) -> ZabConfig {
    let membership = Membership::parse(text).expect("valid");
    ZabConfig {
        me: PeerId(me),
        is_observer: !membership.is_voter(PeerId(me)),
        membership,
        tick_ms: 1000,
        init_limit: 10,
        sync_limit: 5,
        notification_ms_min: 200,
        notification_ms_max: 60_000,
        finalize_ms: FINALIZE_MS,
        connect_retry_ms: 100,
        tail_count_min: 500,
        tail_bytes_max: 1 << 20,
        learner_bytes_max: 1 << 20,
        observer_masters: false,
        seed: 1,
        planted: Default::default(),
        reconfig: Default::default(),
    }
}

fn history(zxid: u64, epoch: u32) -> History {
    History { last_logged: Zxid(zxid), current_epoch: epoch, may_have_forgotten: false }
}

/// One server, and what it said last.
struct Server {
    election: Election,
    out: Notifications,
}

impl Server {
    fn new(me: i64, text: &str) -> Server {
        Server { election: Election::new(&config(me, text)), out: Notifications::new() }
    }
    /// Of an ensemble of three.
    fn of_three(me: i64) -> Server {
        Server::new(me, "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2")
    }
    fn begin(&mut self, now: u64, history: History) -> &Notifications {
        self.out.clear();
        self.election.begin(at(now), history, &mut self.out);
        &self.out
    }
    fn hear(&mut self, now: u64, from: i64, message: &Notification) -> Option<Elected> {
        self.out.clear();
        self.election.handle(at(now), PeerId(from), message, &mut self.out)
    }
    fn timeout(&mut self, now: u64) -> Option<Elected> {
        self.out.clear();
        assert!(self.election.poll_timeout().is_some_and(|due| due <= at(now)), "nothing is due: {:?}", self.election.poll_timeout());
        self.election.timeout(at(now), &mut self.out)
    }
    /// What it said last, to whom, and nothing to anybody else.
    fn said(&self, to: &[i64]) -> &Notification {
        assert_eq!(self.out.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), to);
        let (_, first) = &self.out[0];
        assert!(self.out.iter().all(|(_, message)| message == first));
        first
    }
    /// An established leader or follower of the captured ensemble.
    fn at_work(me: i64, leader: &Notification, epoch: u32) -> Server {
        let mut server = Server::new(me, CAPTURED_CONFIG);
        let mut vote = leader.vote;
        vote.peer_epoch = i64::from(epoch) - 1;
        server.begin(0, History { last_logged: vote.zxid, current_epoch: epoch - 1, may_have_forgotten: false });
        let state = |id: i64| if PeerId(id) == vote.leader { ServerState::Leading } else { ServerState::Following };
        let others = [1, 2, 3].into_iter().filter(|id| *id != me);
        let said = |id| Notification { state: state(id), vote, ..leader.clone() };
        let elected = others.filter_map(|id| server.hear(1, id, &said(id))).last().expect("all say the same");
        assert_eq!(elected.state, state(me));
        assert_eq!(elected.vote, vote);
        server.election.serving(epoch);
        server
    }
}

/// The notifications of one direction of a captured connection, with their bytes.
fn captured(file: &str, initial_message: bool) -> Vec<Notification> {
    let path = format!("{}/tests/fixtures/java-3.9.4/wire/{file}.bin", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut r = Reader::new(&bytes);
    if initial_message {
        let Ok(Decoded::Whole { bytes, .. }) = hello::decode(&bytes) else { panic!("{path} begins with the initial message") };
        r.take(bytes).expect("there");
    }
    let mut messages = Vec::new();
    while !r.is_empty() {
        let Ok(Decoded::Whole { value, bytes }) = notification::decode_frame(r.remaining()) else { panic!("{path}: half a message") };
        messages.push(notification::decode(value).expect("sent by a real server"));
        r.take(bytes).expect("there");
    }
    messages
}

fn elected(state: ServerState, vote: Vote) -> Option<Elected> {
    Some(Elected { state, vote })
}

#[test]
fn two_empty_servers_elect_the_larger_as_captured() {
    let from_2 = captured("s1_coldstart/election-to1-33742.c2s", true);
    let from_1 = captured("s1_coldstart/election-to1-33742.s2c", false);
    assert_eq!((from_1.len(), from_2.len()), (2, 1));

    let mut one = Server::new(1, CAPTURED_CONFIG);
    one.begin(0, history(0, 0));
    assert_eq!(one.said(&[2, 3]), &from_1[0]);
    assert_eq!(one.hear(10, 2, &from_2[0]), None);
    assert_eq!(one.said(&[2, 3]), &from_1[1], "the better vote is taken over and told");
    assert_eq!(one.election.poll_timeout(), Some(at(200)), "the resend comes before the end");
    assert_eq!(one.timeout(200), None);
    assert_eq!(one.timeout(210), elected(ServerState::Following, from_2[0].vote));

    let mut two = Server::new(2, CAPTURED_CONFIG);
    two.begin(0, history(0, 0));
    assert_eq!(two.said(&[1, 3]), &from_2[0]);
    assert_eq!(two.hear(10, 1, &from_1[0]), None);
    assert_eq!(two.said(&[1]), &from_2[0], "a worse vote is answered with the better one");
    assert_eq!(two.hear(20, 1, &from_1[1]), None);
    assert!(two.out.is_empty());
    assert_eq!(two.timeout(220), elected(ServerState::Leading, from_2[0].vote));
}

#[test]
fn a_third_server_joins_a_running_pair_as_captured() {
    let (to_1, to_2) = ("s2_third_joins/election-to1-58062", "s2_third_joins/election-to2-56440");
    let (from_3, from_1, from_2) =
        (captured(&format!("{to_1}.c2s"), true), captured(&format!("{to_1}.s2c"), false), captured(&format!("{to_2}.s2c"), false));

    let mut three = Server::new(3, CAPTURED_CONFIG);
    three.begin(0, history(0, 0));
    assert_eq!(three.said(&[1, 2]), &from_3[0]);
    for (from, stale) in [(1, &from_1[0]), (2, &from_2[0])] {
        assert_eq!(three.hear(10, from, stale), None, "what was said last over an older connection is heard again");
    }
    assert_eq!(three.hear(20, 2, &from_2[1]), None, "the leader alone is no quorum");
    assert_eq!(three.hear(30, 1, &from_1[1]), elected(ServerState::Following, from_2[1].vote));
    assert_eq!(three.election.vote().map(|v| v.peer_epoch), Some(1));

    for (me, answer) in [(1, &from_1[1]), (2, &from_2[1])] {
        let mut server = Server::at_work(me, &from_2[1], 1);
        assert_eq!(server.hear(5000, 3, &from_3[0]), None);
        assert_eq!(server.said(&[3]), answer);
    }
}

#[test]
fn an_observer_finds_the_leader_as_captured() {
    let conversation = |to: i64, port: u32| format!("s3_observer_joins/election-to{to}-{port}");
    let from_4 = captured(&format!("{}.c2s", conversation(1, 60018)), true);
    let answer = |to: i64, port: u32| captured(&format!("{}.s2c", conversation(to, port)), false).remove(0);
    let answers = [(2, answer(2, 39836)), (3, answer(3, 45586)), (1, answer(1, 60018))];

    let mut four = Server::new(4, CAPTURED_CONFIG);
    four.begin(0, history(0, 0));
    assert_eq!(four.said(&[1, 2, 3]), &from_4[0]);
    assert_eq!(four.hear(1, 2, &answers[0].1), None);
    assert_eq!(four.hear(2, 3, &answers[1].1), elected(ServerState::Observing, answers[0].1.vote));

    for (me, answer) in &answers {
        let mut server = Server::at_work(*me, &answers[0].1, 1);
        server.hear(5000, 4, &from_4[0]);
        assert_eq!(server.said(&[4]), answer);
    }
}

#[test]
fn restarted_servers_with_equal_histories_elect_the_larger_as_captured() {
    let (from_3, from_1) =
        (captured("s8_restart_1_3/election-to1-33190.c2s", true), captured("s8_restart_1_3/election-to1-33190.s2c", false));
    let logged = history(0x1_0000_0015, 1);
    let mut three = Server::new(3, CAPTURED_CONFIG);
    three.begin(0, logged);
    assert_eq!(three.said(&[1, 2]), &from_3[0]);
    for (due, said) in [(200, &from_3[1]), (600, &from_3[2])] {
        assert_eq!(three.timeout(due), None);
        assert_eq!(three.said(&[1, 2]), said);
    }
    assert_eq!(three.hear(1000, 1, &from_1[0]), None);
    assert_eq!(three.timeout(1200), elected(ServerState::Leading, from_3[0].vote));

    let mut one = Server::new(1, CAPTURED_CONFIG);
    one.begin(0, logged);
    assert_eq!(one.hear(1, 3, &from_3[0]), None);
    assert_eq!(one.said(&[2, 3]), &from_1[0]);
}

#[test]
fn a_longer_uncommitted_history_does_not_unseat_an_established_leader_as_captured() {
    let (with_1, with_3) = ("s9_trunc_2/election-to1-52972", "s9_trunc_2/election-to2-50718");
    let (from_2, from_1) = (captured(&format!("{with_1}.c2s"), true), captured(&format!("{with_1}.s2c"), false));
    let (from_3, to_3) = (captured(&format!("{with_3}.c2s"), true), captured(&format!("{with_3}.s2c"), false));

    let mut two = Server::new(2, CAPTURED_CONFIG);
    two.begin(0, history(0x1_0000_0018, 1));
    assert_eq!(two.said(&[1, 3]), &from_2[0]);
    assert_eq!(&from_2[0], &to_3[0]);
    for (from, message) in [(1, &from_1[0]), (3, &from_3[0])] {
        assert_eq!(two.hear(10, from, message), None);
        assert_eq!(two.election.vote(), Some(from_2[0].vote));
    }
    assert_eq!(two.hear(20, 1, &from_1[1]), None);
    assert_eq!(two.hear(30, 3, &from_3[1]), elected(ServerState::Following, from_3[1].vote));

    for (me, answer) in [(1, &from_1[1]), (3, &from_3[1])] {
        let mut server = Server::at_work(me, &from_3[1], 2);
        server.hear(9000, 2, &from_2[0]);
        assert_eq!(server.said(&[2]), answer);
    }
}

/// Just after its victory a Java server answers with the vote it had before, and round -1.
#[test]
fn a_leader_that_does_not_know_its_round_yet_is_survived_as_captured() {
    let from_1 = captured("r1_reconfig_coldstart/election-to1-56976.s2c", false);
    let from_2 = captured("r1_reconfig_coldstart/election-to2-57296.s2c", false);
    assert_eq!((from_2[1].state, from_2[1].vote.election_epoch), (ServerState::Leading, -1));
    let mut three = Server::of_three(3);
    three.begin(0, history(0, 0));
    for (from, message) in [(1, &from_1[0]), (2, &from_2[0]), (2, &from_2[1]), (1, &from_1[1])] {
        assert_eq!(three.hear(10, from, message), None);
    }
    let own = three.election.vote().expect("looking");
    assert_eq!(own.leader, PeerId(3));
    assert_eq!(three.timeout(200).or_else(|| three.timeout(210)), elected(ServerState::Leading, own));
}

fn looking(leader: i64, zxid: u64, epoch: i64, round: i64) -> Notification {
    let vote = Vote { leader: PeerId(leader), zxid: Zxid(zxid), peer_epoch: epoch, election_epoch: round };
    Notification { state: ServerState::Looking, vote, version: VERSION, config: None }
}

fn working(state: ServerState, leader: i64, epoch: i64, round: i64) -> Notification {
    Notification { state, ..looking(leader, 0, epoch, round) }
}

#[test]
fn the_resend_interval_doubles_up_to_its_limit_and_messages_do_not_reset_it() {
    let mut one = Server::of_three(1);
    one.begin(0, history(5, 1));
    let mut now = 0;
    for wait in [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000] {
        assert_eq!(one.election.poll_timeout(), Some(at(now + wait)));
        now += wait;
        assert_eq!(one.timeout(now), None);
        assert_eq!(one.said(&[2, 3]).vote.leader, PeerId(1));
        one.hear(now, 2, &looking(2, 1, 1, 1));
    }
}

#[test]
fn a_better_vote_during_the_last_wait_is_taken_over_and_waited_for_anew() {
    let mut one = Server::of_three(1);
    one.begin(0, history(5, 1));
    one.hear(0, 2, &looking(2, 5, 1, 1));
    one.hear(150, 2, &looking(2, 5, 1, 1));
    assert!(one.out.is_empty());
    one.hear(190, 3, &looking(3, 4, 2, 1));
    assert_eq!(one.said(&[2, 3]).vote, looking(3, 4, 2, 1).vote, "the epoch counts before the zxid");
    assert_eq!(one.timeout(200), None, "only the resend");
    assert_eq!(one.timeout(390), elected(ServerState::Following, looking(3, 4, 2, 1).vote));
}

#[test]
fn a_later_round_is_joined_with_the_better_of_its_vote_and_the_own_history() {
    let mut one = Server::of_three(1);
    one.begin(0, history(5, 1));
    one.hear(1, 2, &looking(2, 9, 1, 1));
    assert_eq!(one.election.vote(), Some(looking(2, 9, 1, 1).vote));
    one.hear(2, 3, &looking(3, 4, 1, 7));
    assert_eq!(one.said(&[2, 3]).vote, looking(1, 5, 1, 7).vote, "what was heard in older rounds is forgotten");
    assert_eq!(one.election.poll_timeout(), Some(at(200)), "nobody else of the round agrees yet");
    one.hear(3, 2, &looking(2, 9, 1, 6));
    assert_eq!(one.said(&[2]).vote.election_epoch, 7, "who is in an older round is told the newer one");
    one.hear(4, 3, &looking(1, 5, 1, 7));
    assert_eq!(one.timeout(200).or_else(|| one.timeout(204)), elected(ServerState::Leading, looking(1, 5, 1, 7).vote));
    one.election.withdraw();
    assert_eq!(one.begin(300, history(5, 1))[0].1.vote.election_epoch, 8, "rounds go on from election to election");
}

#[test]
fn rounds_at_the_end_of_numbers_do_not_overflow() {
    let mut one = Server::of_three(1);
    one.begin(0, history(5, 1));
    one.hear(1, 2, &looking(2, 5, 1, i64::MAX));
    assert_eq!(one.election.vote().map(|v| v.election_epoch), Some(i64::MAX));
    assert_eq!(one.begin(9, history(5, 1))[0].1.vote.election_epoch, i64::MAX);
}

#[test]
fn a_joiner_needs_the_leaders_own_word_and_a_quorum() {
    let (following, leading) = (working(ServerState::Following, 3, 4, 2), working(ServerState::Leading, 3, 4, 2));
    let five = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.4=d:1:2\nserver.5=e:1:2";
    let mut one = Server::new(1, five);
    one.begin(0, history(5, 1));
    for from in [2, 4, 5] {
        assert_eq!(one.hear(1, from, &following), None, "a quorum follows, but the leader is not heard");
    }
    assert_eq!(one.hear(2, 3, &following), None, "the leader says something else");
    assert_eq!(one.hear(3, 3, &leading), elected(ServerState::Following, leading.vote), "rounds of servers at work need not be ours");
    one.begin(10, history(5, 1));
    for (from, message) in [(3, &leading), (2, &following), (2, &following), (4, &working(ServerState::Following, 3, 3, 2))] {
        assert_eq!(one.hear(11, from, message), None, "two servers are no quorum of five, and another epoch is another election");
    }
    assert_eq!(one.hear(12, 2, &looking(2, 5, 1, 3)), None);
    assert_eq!(one.hear(13, 5, &following), None, "server 2 has left the leader meanwhile");
    assert!(one.hear(14, 2, &following).is_some());
}

/// While a new epoch begins, its leader may announce it already and its followers not yet.
#[test]
fn in_the_own_round_the_leader_alone_decides_whether_servers_at_work_agree() {
    let (following, leading) = (working(ServerState::Following, 3, 1, 1), working(ServerState::Leading, 3, 2, 1));
    let mut one = Server::of_three(1);
    one.begin(0, history(5, 1));
    assert_eq!(one.hear(1, 2, &following), None);
    assert_eq!(one.hear(2, 3, &leading), elected(ServerState::Following, leading.vote));

    let mut one = Server::of_three(1);
    one.begin(0, history(5, 1));
    assert_eq!(one.hear(1, 2, &following), None);
    one.hear(2, 2, &looking(2, 5, 1, 5));
    assert_eq!(one.hear(3, 3, &working(ServerState::Leading, 3, 2, 5)), None, "what was said in an older round does not count in this one");
}

#[test]
fn who_joined_an_older_round_tells_voters_of_that_and_others_of_its_own() {
    let mut one = Server::of_three(1);
    for now in 0..5 {
        one.begin(now, history(5, 1));
    }
    let said = |state| working(state, 3, 1, 2);
    one.hear(10, 2, &said(ServerState::Following));
    assert!(one.hear(11, 3, &said(ServerState::Leading)).is_some());
    for (from, round) in [(2, 2), (77, 5)] {
        one.hear(12, from, &looking(2, 5, 1, 9));
        assert_eq!(one.said(&[from]).vote, Vote { election_epoch: round, ..said(ServerState::Leading).vote });
    }
    assert_eq!(one.begin(20, history(5, 1))[0].1.vote.election_epoch, 6, "rounds do not go back");
}

#[test]
fn a_server_that_others_follow_leads_only_in_its_own_round() {
    let mut one = Server::of_three(1);
    one.begin(0, history(5, 1));
    let following = |round| working(ServerState::Following, 1, 1, round);
    assert_eq!(one.hear(1, 2, &following(3)), None);
    assert_eq!(one.hear(2, 3, &following(3)), None, "they follow who this server was before it restarted");
    one.begin(10, history(5, 1));
    assert_eq!(one.hear(11, 2, &following(2)), None, "its own vote is not for the history that server follows");
    assert_eq!(one.hear(12, 3, &following(2)).map(|e| e.state), Some(ServerState::Leading));
}

#[test]
fn observers_and_strangers_have_no_say_but_get_an_answer() {
    let text = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.4=d:1:2:observer";
    let mut one = Server::new(1, text);
    one.begin(0, history(5, 1));
    for from in [4, 77] {
        assert_eq!(one.hear(1, from, &looking(3, 99, 9, 9)), None);
        assert_eq!(one.said(&[from]).vote, looking(1, 5, 1, 1).vote);
        one.hear(1, from, &working(ServerState::Observing, 3, 1, 1));
        assert!(one.out.is_empty(), "or the two would answer each other for ever");
    }
    for message in [looking(4, 99, 9, 9), looking(77, 99, 9, 9), looking(NOBODY, 99, 9, 9), working(ServerState::Observing, 2, 9, 1)] {
        assert_eq!(one.hear(2, 2, &message), None);
        assert!(one.out.is_empty() && one.election.vote() == Some(looking(1, 5, 1, 1).vote), "{message:?}");
    }
    one.hear(3, 2, &looking(1, 5, 1, 1));
    assert!(one.timeout(200).or_else(|| one.timeout(203)).is_some());
    one.hear(300, 4, &looking(NOBODY, 1 << 63, NOBODY, 42));
    assert_eq!(one.said(&[4]).state, ServerState::Leading);
    one.hear(300, 2, &working(ServerState::Following, 1, 1, 1));
    assert!(one.out.is_empty(), "who is at work is not answered");
    one.election.withdraw();
    one.hear(301, 2, &looking(2, 5, 1, 1));
    assert!(one.out.is_empty() && one.election.poll_timeout().is_none(), "between roles there is nothing to say");
}

#[test]
fn a_member_of_type_participant_that_the_configuration_does_not_list_proposes_nobody() {
    let mut stranger = Election::new(&ZabConfig { is_observer: false, ..config(9, "server.1=a:1:2") });
    let mut out = Vec::new();
    stranger.begin(T0, history(5, 1), &mut out);
    assert_eq!(out[0].1.vote, looking(NOBODY, 1 << 63, NOBODY, 1).vote);
    let heard = stranger.handle(T0, PeerId(1), &working(ServerState::Leading, 1, 1, 8), &mut out);
    assert_eq!(heard.map(|e| e.state), Some(ServerState::Following));
}

#[test]
fn a_server_alone_elects_itself_and_one_without_weight_never() {
    let mut one = Server::new(1, "server.1=a:1:2");
    assert!(one.begin(0, history(0, 0)).is_empty());
    assert_eq!(one.timeout(200), elected(ServerState::Leading, looking(1, 0, 0, 1).vote));

    let weights = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\ngroup.1=1:2:3\nweight.3=0";
    let mut two = Server::new(2, weights);
    two.begin(0, history(5, 1));
    two.hear(1, 3, &looking(3, 9, 1, 1));
    assert_eq!(two.election.vote(), Some(looking(2, 5, 1, 1).vote));
    two.hear(2, 3, &looking(2, 5, 1, 1));
    assert_eq!(two.election.poll_timeout(), Some(at(200)));
    assert_eq!(two.timeout(200), None, "a vote without weight makes no quorum");
    two.hear(201, 1, &looking(2, 5, 1, 1));
    assert!(two.timeout(401).is_some());
}

#[test]
fn a_vote_without_a_known_history_is_not_heard() {
    let mut one = Server::of_three(1);
    one.begin(0, history(5, 1));
    assert_eq!(one.hear(1, 2, &looking(2, u64::MAX, 9, 1)), None);
    assert_eq!(one.election.vote(), Some(looking(1, 5, 1, 1).vote));
    let mut two = Server::of_three(2);
    two.begin(0, history(u64::MAX, 0));
    for from in [1, 3] {
        assert_eq!(two.hear(1, from, &looking(1, 5, 1, 1)), None);
    }
    assert_eq!(two.election.poll_timeout(), Some(at(200)), "it follows nobody who is only looking");
    assert_eq!(two.hear(2, 3, &working(ServerState::Following, 1, 1, 1)), None);
    assert!(two.hear(3, 1, &working(ServerState::Leading, 1, 1, 1)).is_some());
}

/// L21: one of three disks is wiped; a transaction that it and one other server had must not be lost because it votes as if it had
/// always been empty.
#[test]
fn a_wiped_server_helps_nobody_to_a_quorum_until_a_leader_is_established() {
    let wiped = History { may_have_forgotten: true, ..history(0, 0) };
    let mut three = Server::of_three(3);
    assert_eq!(three.begin(0, wiped)[0].1.vote, looking(3, 0, 0, 1).vote);
    assert_eq!(three.hear(1, 1, &looking(1, 0x1_0000_0005, 1, 1)), None);
    assert_eq!(three.said(&[1, 2]).vote.zxid, ZXID_UNKNOWN, "whatever it said before no longer counts anywhere");
    assert_eq!(three.hear(2, 2, &looking(3, 0, 0, 1)), None);
    assert_eq!(three.timeout(200), None, "an empty history that a second server supports does not win either");
    assert_eq!(three.hear(201, 1, &working(ServerState::Following, 3, 1, 1)), None);
    assert_eq!(three.hear(202, 2, &working(ServerState::Following, 3, 1, 1)), None, "nor does it lead again in the name of its past");
    assert_eq!(three.hear(203, 1, &working(ServerState::Leading, 1, 2, 1)), None);
    assert!(three.hear(204, 2, &working(ServerState::Following, 1, 2, 1)).is_some());

    // The others do not count it: server 1 alone has no quorum.
    let mut one = Server::of_three(1);
    one.begin(0, history(0x1_0000_0005, 1));
    for message in [looking(3, 0, 0, 1), looking(3, u64::MAX, 0, 1)] {
        one.hear(1, 3, &message);
        assert_eq!(one.election.poll_timeout(), Some(at(200)));
    }

    // Where nobody has a history of an ensemble, one begins: from nothing, or from what a standalone server has.
    let mut two = Server::of_three(2);
    two.begin(0, wiped);
    two.hear(1, 1, &looking(1, 700, 0, 1));
    assert_eq!(two.said(&[1, 3]).vote, looking(1, 700, 0, 1).vote);
    assert_eq!(two.timeout(200).or_else(|| two.timeout(201)), elected(ServerState::Following, looking(1, 700, 0, 1).vote));
    let mut three = Server::of_three(3);
    three.begin(0, wiped);
    three.hear(1, 2, &looking(3, 0, 0, 1));
    assert_eq!(three.timeout(200).or_else(|| three.timeout(201)), elected(ServerState::Leading, looking(3, 0, 0, 1).vote));
}

/// Of three, of whom the third goes and a fourth comes.
fn changing(me: i64) -> (Server, Membership) {
    let mut server = Server::of_three(me);
    let next = Membership::parse("server.1=a:1:2\nserver.2=b:1:2\nserver.4=d:1:2\nversion=5").expect("valid");
    server.reconfigure(Some(&next));
    (server, next)
}

impl Server {
    fn reconfigure(&mut self, proposed: Option<&Membership>) {
        let active = Membership::parse("server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2").expect("valid");
        let quorum = proposed.map_or_else(|| active.quorum(), |next| active.quorum().and(next.quorum()));
        self.out.clear();
        self.election.reconfigure(T0, View { active: &active, proposed, quorum: &quorum, is_observer: false }, &mut self.out);
    }
}

#[test]
fn while_a_configuration_is_proposed_both_elect() {
    let (mut one, _) = changing(1);
    let asked: Vec<i64> = one.begin(0, history(5, 1)).iter().map(|(to, _)| to.0).collect();
    assert_eq!(asked, [2, 3, 4]);
    one.hear(1, 3, &looking(1, 5, 1, 1));
    assert_eq!(one.timeout(200), None, "two of three old ones, one of three new ones");
    one.hear(201, 4, &looking(1, 5, 1, 1));
    assert_eq!(one.timeout(401), elected(ServerState::Leading, looking(1, 5, 1, 1).vote));
    let (mut one, _) = changing(1);
    one.begin(0, history(5, 1));
    one.hear(1, 4, &looking(4, 9, 1, 1));
    assert_eq!(one.election.vote(), Some(looking(4, 9, 1, 1).vote), "who is to vote may be voted for");
}

/// It has more, which nobody else may have, and is needed for the quorum of the new ones.
#[test]
fn who_is_only_to_vote_agrees_with_whoever_the_others_elect() {
    let (mut four, _) = changing(4);
    four.begin(0, history(9, 1));
    four.hear(1, 1, &looking(2, 5, 1, 1));
    assert_eq!(four.election.vote(), Some(looking(2, 5, 1, 1).vote));
    four.hear(2, 2, &looking(2, 5, 1, 1));
    assert_eq!(four.timeout(300).map(|e| e.state), Some(ServerState::Following));
}

#[test]
fn who_leads_with_the_quorum_in_force_is_followed_whatever_is_proposed_here() {
    let (mut one, _) = changing(1);
    one.begin(0, history(5, 1));
    assert_eq!(one.hear(1, 2, &working(ServerState::Following, 3, 1, 8)), None);
    assert_eq!(one.hear(2, 3, &working(ServerState::Leading, 3, 1, 8)).map(|e| e.state), Some(ServerState::Following));
}

#[test]
fn a_server_that_is_to_vote_and_does_not_know_it_brings_us_into_its_round() {
    let (mut one, _) = changing(1);
    one.begin(0, history(5, 1));
    one.hear(1, 4, &looking(NOBODY, 3, 1, 7));
    assert_eq!(one.election.vote(), Some(looking(1, 5, 1, 7).vote));
    assert_eq!(one.out.len(), 3, "all are told");
    one.hear(2, 4, &looking(NOBODY, 3, 1, 2));
    assert!(one.out.is_empty() && one.election.vote() == Some(looking(1, 5, 1, 7).vote));
}

#[test]
fn an_election_begins_again_when_others_elect_and_goes_on_when_only_the_version_changes() {
    let (mut one, next) = changing(1);
    one.begin(0, history(5, 1));
    one.reconfigure(Some(&next));
    assert!(one.out.is_empty(), "nothing has changed");
    one.reconfigure(None);
    assert_eq!(one.out.iter().map(|(to, _)| to.0).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(one.election.vote(), Some(looking(1, 5, 1, 2).vote), "in a round of its own");
}

#[test]
fn a_leader_that_a_configuration_names_is_announced_like_an_elected_one() {
    let mut one = Server::of_three(1);
    assert_eq!(one.election.appoint(PeerId(2), Zxid(9)).state, ServerState::Following);
    one.election.serving(4);
    one.hear(1, 3, &looking(3, 5, 1, 1));
    assert_eq!(one.said(&[3]).vote, Vote { leader: PeerId(2), zxid: Zxid(9), peer_epoch: 4, election_epoch: -1 });
    assert_eq!(one.election.appoint(PeerId(1), Zxid(9)).state, ServerState::Leading);
}

//! Captured conversations of real servers: one side is ours now, hears what its place in the capture heard, and must say what was said then.

use super::script::{Script, THREE_AND_OBSERVER, ack, follower_info, of_ours, payload, stored, z};
use std::path::Path;
use zoo::base::{PeerId, Zxid};
use zoo::storage::snapshot_stream::StreamScanner;
use zoo::zab::wire::packet::{DATA_BYTES_MAX, decode, encode};
use zoo::zab::wire::{Decoded, Side};
use zoo::zab::{Input, LinkId, Membership, Packet, Payload, Role, ServerState, Stored};

pub const ALL: &[super::Named] = crate::named![
    an_empty_server_follows_as_the_real_one_did,
    a_server_that_joins_by_an_image_follows_as_the_real_one_did,
    an_observer_joins_as_the_real_one_did,
    a_server_that_lacks_a_little_is_brought_up_to_date_as_the_real_one_was,
    a_server_with_an_uncommitted_tail_is_cut_as_the_real_one_was,
    the_first_follower_is_led_as_by_the_real_leader,
    a_follower_that_lacks_a_little_is_sent_what_the_real_leader_sent,
    a_follower_with_an_uncommitted_tail_is_cut_where_the_real_leader_cut_it,
    a_second_epoch_begins_as_with_the_real_leader,
];

/// The packets of one direction, with the bytes of each.
fn packets(scenario: &str, connection: &str, side: Side) -> Vec<Packet> {
    let way = if side == Side::Learner { "c2s" } else { "s2c" };
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/java-3.9.4/wire/{scenario}/quorum-{connection}.{way}.bin"));
    let stream = std::fs::read(file).expect("the capture is there");
    let (mut packets, mut at) = (Vec::new(), 0);
    while at < stream.len() {
        let Ok(Decoded::Whole { value, bytes }) = decode(&stream[at..], side, DATA_BYTES_MAX) else { panic!("{scenario} at {at}") };
        at += bytes;
        if matches!(value, Packet::Snap { .. }) {
            at += StreamScanner::default().feed(&stream[at..]).expect("an image").bytes;
        }
        packets.push(value);
    }
    packets
}
fn bytes(packets: &[Packet], side: Side) -> Vec<u8> {
    let mut out = Vec::new();
    for packet in packets {
        encode(packet, side, &mut out);
    }
    out
}
/// Of a greeting's zxid Java's leaders look at the epoch only; ours find in the counter what a disk says of its emptiness.
fn as_java_sees_it(packet: Packet) -> Packet {
    match packet {
        Packet::FollowerInfo { zxid, info } => Packet::FollowerInfo { zxid: z(zxid.epoch(), 0), info },
        Packet::ObserverInfo { zxid, info } => Packet::ObserverInfo { zxid: z(zxid.epoch(), 0), info },
        packet => packet,
    }
}
fn members() -> Membership {
    Membership::parse(THREE_AND_OBSERVER).expect("valid")
}

/// Ours is the learner.
fn learn(scenario: &str, connection: &str, me: i64, leader: i64, disk: Stored) -> Script {
    let (heard, said) = (packets(scenario, connection, Side::Leader), packets(scenario, connection, Side::Learner));
    let mut s = Script::of(me, members(), disk);
    for (id, state) in [(leader, ServerState::Leading), (if me == 1 || leader == 1 { 5 - leader } else { 1 }, ServerState::Following)] {
        s.hear(id, state, leader, Zxid::ZERO, 1);
    }
    let link = s.dialed.take().expect("a leader is found");
    s.give(Input::Connected(link));
    for packet in heard {
        let image = match packet {
            Packet::Snap { zxid } => Some(zxid),
            _ => None,
        };
        let ping = match packet {
            Packet::Ping { zxid, .. } => Some(zxid),
            _ => None,
        };
        let cut = match packet {
            Packet::Trunc { zxid } => Some(zxid),
            _ => None,
        };
        s.give(Input::Packet(link, packet));
        if let Some(zxid) = image {
            s.installed(zxid);
        }
        if let Some(zxid) = cut {
            s.truncated(zxid);
        }
        if let Some(zxid) = ping {
            s.zab.pinged(zxid, Vec::new());
            s.pump();
        }
    }
    let ours: Vec<Packet> = s.sent.iter().map(|(_, packet)| packet.clone()).map(as_java_sees_it).collect();
    // A capture may end between a ping and its answer.
    let pings = |packets: &[Packet]| packets.iter().filter(|p| matches!(p, Packet::Ping { .. })).count();
    assert!(pings(&ours).abs_diff(pings(&said)) <= 1, "{scenario}");
    let both = ours.len().min(said.len());
    assert_eq!(bytes(&ours[..both], Side::Learner), bytes(&said[..both], Side::Learner), "{scenario}");
    assert!(both >= 4, "{scenario}: a greeting, a promise and two acknowledgements");
    s
}

fn an_empty_server_follows_as_the_real_one_did() {
    let s = learn("s1_coldstart", "to2-35006", 1, 2, stored(0, 0, &[]));
    assert_eq!((s.zab.role(), s.zab.current_epoch()), (Role::Following { leader: PeerId(2) }, 1));
}

fn a_server_that_joins_by_an_image_follows_as_the_real_one_did() {
    learn("s2_third_joins", "to2-43616", 3, 2, stored(0, 0, &[]));
    let s = learn("s7_follower_snap", "to2-60596", 1, 2, stored(0, 0, &[]));
    assert_eq!(s.zab.role(), Role::Following { leader: PeerId(2) });
}

fn an_observer_joins_as_the_real_one_did() {
    let mut disk = stored(0, 0, &[]);
    disk.snapshot = Zxid::ZERO;
    let s = learn("s3_observer_joins", "to2-35224", 4, 2, disk);
    assert_eq!(s.zab.role(), Role::Observing { leader: PeerId(2) });
}

fn a_server_that_lacks_a_little_is_brought_up_to_date_as_the_real_one_was() {
    let log: Vec<Zxid> = (1..=15).map(|n| z(1, n)).collect();
    let mut s = learn("s6_follower_diff", "to2-55798", 1, 2, stored(1, 1, &log));
    let said = s.said();
    let appended: Vec<_> = said.iter().filter(|line| line.starts_with("append")).cloned().collect();
    assert_eq!(appended, (16..=20).map(|n| format!("append 1:{n}")).collect::<Vec<_>>());
    assert!(said.contains(&"commit 1:20".to_string()));
}

fn a_server_with_an_uncommitted_tail_is_cut_as_the_real_one_was() {
    let log: Vec<Zxid> = (1..=0x18).map(|n| z(1, n)).collect();
    let mut s = learn("s9_trunc_2", "to3-57652", 2, 3, stored(1, 1, &log));
    assert!(s.said().contains(&"truncate 1:21".to_string()));
    assert_eq!(s.zab.role(), Role::Following { leader: PeerId(3) });
}

/// Ours is the leader: hears the learner, and says the same up to UPTODATE; pings are asked for by clocks that differ.
fn teach(scenario: &str, connection: &str, s: &mut Script) {
    teach_one_that(|packet| packet, scenario, connection, s);
}
/// The same, where the learner has said it so.
fn teach_one_that(says: fn(Packet) -> Packet, scenario: &str, connection: &str, s: &mut Script) {
    let (heard, said) = (packets(scenario, connection, Side::Learner), packets(scenario, connection, Side::Leader));
    let link = LinkId(1_000);
    s.sent.clear();
    s.give(Input::Accepted(link));
    for packet in heard.into_iter().take(4) {
        s.give(Input::Packet(link, says(packet)));
    }
    let no_pings = |packets: Vec<Packet>| -> Vec<Packet> { packets.into_iter().filter(|p| !matches!(p, Packet::Ping { .. })).collect() };
    let ours = no_pings(s.sent.iter().filter(|(to, _)| *to == link).map(|(_, packet)| packet.clone()).collect());
    assert_eq!(bytes(&ours, Side::Leader), bytes(&no_pings(said), Side::Leader), "{scenario}");
}
/// Elected by voter `voter` and on the way to its epoch.
fn elect(me: i64, voter: i64, disk: Stored) -> Script {
    let mut s = Script::of(me, members(), disk);
    let vote = s.voted.expect("it votes");
    s.hear(voter, ServerState::Looking, me, vote.zxid, vote.peer_epoch);
    s.run(250);
    s
}

fn the_first_follower_is_led_as_by_the_real_leader() {
    let mut s = elect(2, 1, stored(0, 0, &[]));
    teach("s1_coldstart", "to2-35006", &mut s);
    assert_eq!(s.zab.role(), Role::Leading { epoch: 1 });
}

fn a_follower_that_lacks_a_little_is_sent_what_the_real_leader_sent() {
    let captured: Vec<(Zxid, Payload)> = packets("s6_follower_diff", "to2-55798", Side::Leader)
        .into_iter()
        .filter_map(|packet| match packet {
            Packet::Proposal { zxid, payload } => Some((zxid, payload)),
            _ => None,
        })
        .collect();
    assert_eq!(captured.len(), 5);
    let mut s = elect(2, 3, stored(0, 0, &[]));
    s.give(Input::Accepted(LinkId(103)));
    for packet in [follower_info(3, 0), Packet::AckEpoch { zxid: Zxid::ZERO, current_epoch: Some(0) }, ack(z(1, 0))] {
        s.packet(103, packet);
    }
    for counter in 1..=20 {
        let zxid = z(1, counter);
        assert_eq!(s.zab.next_zxid(), Some(zxid));
        let bytes = captured.iter().find(|(at, _)| *at == zxid).map_or_else(|| payload(zxid), |(_, bytes)| bytes.clone());
        s.zab.propose(zxid, bytes);
        s.give(Input::Durable(zxid)).packet(103, ack(zxid));
    }
    teach("s6_follower_diff", "to2-55798", &mut s);
}

/// Only one of ours is: a real learner is given an image instead.
fn a_follower_with_an_uncommitted_tail_is_cut_where_the_real_leader_cut_it() {
    let log: Vec<Zxid> = (1..=0x15).map(|n| z(1, n)).collect();
    let mut s = elect(3, 1, stored(1, 1, &log));
    s.give(Input::Accepted(LinkId(101)));
    for packet in [follower_info(1, 1), Packet::AckEpoch { zxid: z(1, 0x15), current_epoch: Some(1) }, ack(z(2, 0))] {
        s.packet(101, packet);
    }
    teach_one_that(of_ours, "s9_trunc_2", "to3-57652", &mut s);
}

fn a_second_epoch_begins_as_with_the_real_leader() {
    let log: Vec<Zxid> = (1..=0x15).map(|n| z(1, n)).collect();
    let mut s = elect(3, 1, stored(1, 1, &log));
    teach("s8_restart_1_3", "to3-43586", &mut s);
    assert_eq!(s.zab.role(), Role::Leading { epoch: 2 });
}

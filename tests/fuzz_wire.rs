//! Hostile bytes on the ports between servers (rules S1, P14): no panic, no allocation beyond a small multiple of the input, and what is
//! accepted means the same when it is written again. Seeds are the messages that real servers sent.

mod fuzzing;

use fuzzing::{allocated_by, each_case, mutate, pick};
use std::path::Path;
use zoo::base::prng::Prng;
use zoo::storage::snapshot_stream::{SIGNATURE, StreamScanner};
use zoo::zab::wire::{Decoded, Side, hello, notification, packet};
use zoo::zab::{Membership, Packet};

const CASES: u64 = 20_000;
/// Small, so that limits are met.
const DATA_MAX: usize = 4096;
/// Room for what does not depend on the input.
const ALLOCATION_SLACK: usize = 1024;

/// What was captured in one scenario: of this port, in this direction.
fn captured(port: &str, direction: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/java-3.9.4/wire");
    let mut files = Vec::new();
    for scenario in ["s1_coldstart", "s3_observer_joins", "s4_broadcast", "s7_follower_snap", "s9_trunc_2", "r3_reconfig_add_observer"] {
        for entry in std::fs::read_dir(root.join(scenario)).expect("fixtures are there") {
            let path = entry.expect("entry").path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if name.starts_with(port) && name.contains(direction) {
                files.push(path);
            }
        }
    }
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("read")).collect()
}

/// Packets of one side, still encoded, one of each kind and size.
fn packets(side: Side) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for stream in captured("quorum", if side == Side::Learner { ".c2s" } else { ".s2c" }) {
        let mut at = 0;
        while let Ok(Decoded::Whole { value, bytes }) = packet::decode(&stream[at..], side, packet::DATA_BYTES_MAX) {
            found.push(stream[at..at + bytes].to_vec());
            at += bytes;
            if matches!(value, Packet::Snap { .. }) {
                at += StreamScanner::default().feed(&stream[at..]).expect("an image").bytes;
            }
        }
    }
    found.sort_by_key(|bytes| (bytes[..4].to_vec(), bytes.len()));
    found.dedup_by_key(|bytes| (bytes[..4].to_vec(), bytes.len()));
    assert!(found.len() >= 7, "{side:?}: {} packets to begin with", found.len());
    found
}

#[test]
fn packets_survive_hostile_bytes() {
    for side in [Side::Leader, Side::Learner] {
        let seeds = packets(side);
        each_case("packets", CASES, |rng| {
            let mut bytes = seeds[rng.below(seeds.len() as u64) as usize].clone();
            if rng.chance(7, 8) {
                mutate(rng, &mut bytes);
            }
            let from = if rng.chance(7, 8) { side } else { pick(rng, &[Side::Leader, Side::Learner]) };
            check_packet(&bytes, from);
        });
    }
}

fn check_packet(bytes: &[u8], from: Side) {
    let (decoded, allocated) = allocated_by(|| packet::decode(bytes, from, DATA_MAX));
    assert!(allocated <= 8 * bytes.len() + ALLOCATION_SLACK, "{allocated} bytes allocated for {}", bytes.len());
    match decoded {
        Err(_) => {}
        Ok(Decoded::Need(need)) => assert!(need > bytes.len(), "{need} of {}", bytes.len()),
        Ok(Decoded::Whole { value, bytes: taken }) => {
            assert!(taken <= bytes.len());
            let mut again = Vec::new();
            packet::encode(&value, from, &mut again);
            let length = again.len();
            assert_eq!(packet::decode(&again, from, DATA_MAX), Ok(Decoded::Whole { value, bytes: length }));
        }
    }
}

#[test]
fn notifications_survive_hostile_bytes() {
    let mut seeds = captured("election", ".s2c");
    seeds.retain(|stream| !stream.is_empty());
    each_case("notifications", CASES, |rng| {
        let mut bytes = seeds[rng.below(seeds.len() as u64) as usize].clone();
        bytes.drain(..4);
        bytes.truncate(pick(rng, &[28, 40, 44, 100, 222]));
        mutate(rng, &mut bytes);
        let (decoded, allocated) = allocated_by(|| notification::decode(&bytes));
        assert!(allocated <= 2 * bytes.len() + ALLOCATION_SLACK);
        if let Ok(message) = decoded {
            let mut again = Vec::new();
            notification::encode_frame(&message, &mut again);
            let Ok(Decoded::Whole { value, bytes }) = notification::decode_frame(&again) else { panic!("half a frame") };
            assert_eq!((notification::decode(value), bytes), (Ok(message), again.len()));
        }
        if let Ok(Decoded::Need(need)) = notification::decode_frame(&bytes) {
            assert!(need > bytes.len() && need <= 4 + notification::MESSAGE_BYTES_MAX);
        }
    });
}

#[test]
fn initial_messages_survive_hostile_bytes() {
    let seeds = captured("election", ".c2s");
    each_case("initial messages", CASES, |rng| {
        let mut bytes = seeds[rng.below(seeds.len() as u64) as usize].clone();
        bytes.truncate(35);
        mutate(rng, &mut bytes);
        let (decoded, allocated) = allocated_by(|| hello::decode(&bytes));
        assert!(allocated <= 64 * bytes.len() + ALLOCATION_SLACK, "a host and its port may be three bytes");
        match decoded {
            Err(_) => {}
            Ok(Decoded::Need(need)) => assert!(need > bytes.len() && need <= 20 + hello::ADDRESS_BYTES_MAX),
            Ok(Decoded::Whole { value, .. }) => {
                let mut again = Vec::new();
                hello::encode(&value, &mut again);
                let length = again.len();
                assert_eq!(hello::decode(&again), Ok(Decoded::Whole { value, bytes: length }));
            }
        }
    });
}

#[test]
fn configuration_texts_survive_hostile_bytes() {
    const SEEDS: [&str; 3] = [
        "server.1=127.0.0.1:22301:22401:participant\nserver.2=[::1]:1:2:observer;[::]:2181\nversion=100000004",
        "server.1=a:1:2|b:3:4\nserver.2=c:1:2;2181\ngroup.1=1\ngroup.2=2\nweight.1=0\nversion=0",
        "server.3=h:2888:3888:participant;0.0.0.0:2181\n# note\n\nversion=ff",
    ];
    each_case("configurations", CASES, |rng| {
        let mut bytes = pick(rng, &SEEDS).as_bytes().to_vec();
        match rng.below(3) {
            0 => mutate(rng, &mut bytes),
            1 => splice(rng, &mut bytes),
            _ => (0..3).for_each(|_| splice(rng, &mut bytes)),
        }
        let text = String::from_utf8_lossy(&bytes);
        let (parsed, allocated) = allocated_by(|| Membership::parse(&text));
        assert!(allocated <= 200 * text.len() + ALLOCATION_SLACK, "{allocated} bytes allocated for {}", text.len());
        match parsed {
            Ok(membership) => {
                let printed = membership.to_text();
                assert_eq!(Membership::parse(&printed).as_ref(), Ok(&membership), "{text} {printed}");
                let everybody = membership.quorum().reached(|_| true);
                assert!(everybody || !membership.groups.is_empty(), "without weights all together are a quorum");
            }
            Err(e) => assert!(!e.to_string().contains(char::is_control), "{e:?} writes what it likes into a log"),
        }
    });
}

/// Puts a piece that means something in a random place.
fn splice(rng: &mut Prng, bytes: &mut Vec<u8>) {
    const PIECES: [&str; 16] = [
        "=",
        ":",
        ";",
        "|",
        "[",
        "]",
        "\n",
        "server.1",
        "group.",
        "weight.2=9",
        "version",
        "observer",
        " ",
        "\\",
        "99999999999999999999",
        "-1",
    ];
    let at = rng.below(bytes.len() as u64 + 1) as usize;
    bytes.splice(at..at, pick(rng, &PIECES).bytes());
}

#[test]
fn streamed_snapshots_survive_hostile_bytes() {
    let stream = captured("quorum", ".s2c").into_iter().find_map(|bytes| {
        let at = bytes.windows(SIGNATURE.len()).position(|w| w == SIGNATURE)?;
        // LEADERINFO and SNAP come before it.
        Some(bytes[44..at + SIGNATURE.len()].to_vec())
    });
    let stream = stream.expect("a scenario with a snapshot");
    assert!(StreamScanner::default().feed(&stream).is_ok_and(|fed| fed.whole && fed.bytes == stream.len()));
    each_case("snapshots", CASES, |rng| {
        let mut bytes = stream.clone();
        mutate(rng, &mut bytes);
        let (at_once, allocated) = allocated_by(|| StreamScanner::default().feed(&bytes));
        assert_eq!(allocated, 0, "the scanner keeps nothing");
        let (mut scanner, mut at, mut body) = (StreamScanner::default(), 0, 0);
        let in_pieces = loop {
            let end = bytes.len().min(at + 1 + rng.below(9) as usize);
            match scanner.feed(&bytes[at..end]) {
                Err(e) => break Err(e),
                Ok(fed) => {
                    (at, body) = (at + fed.bytes, body + fed.body);
                    if fed.whole || at == bytes.len() {
                        break Ok((body, at, fed.whole));
                    }
                }
            }
        };
        assert_eq!(at_once.map(|fed| (fed.body, fed.bytes, fed.whole)), in_pieces, "cuts make no difference");
    });
}

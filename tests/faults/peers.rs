//! Hostile connections to the election and quorum ports of a running ensemble, up to servers that play their role for a while and then send what
//! no server sends (S1, S7, P15): each costs its own connection, the ensemble keeps its leader and goes on.

use crate::Witness;
use crate::ensemble::{Cluster, Place};
use crate::support::{PATIENCE, wait_until};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use zoo::base::{PeerId, Writer, Zxid};
use zoo::zab::wire::packet::{DATA_BYTES_MAX, decode, encode};
use zoo::zab::wire::{Decoded, Hello, Side, hello, notification};
use zoo::zab::{LearnerInfo, Notification, Packet, ServerState, Vote};

/// Silence is noticed after two seconds; coming up to date may take five.
const TIMES: [&str; 4] = ["tickTime=200", "syncLimit=10", "initLimit=25", "4lw.commands.whitelist=*"];
/// A member of the configuration that is never there.
const ABSENT: usize = 4;
const PROTOCOL_VERSION: i32 = 0x10000;

/// Three voters, and an observer that only the tests play.
fn ensemble() -> Cluster {
    let mut cluster = Cluster::prepare(ABSENT, &TIMES);
    cluster.observers = vec![ABSENT];
    [1, 2, 3].into_iter().for_each(|id| cluster.run(id));
    cluster.settled(&[1, 2, 3]);
    cluster
}

fn dial(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// It was closed at the other end, whatever came before.
fn ends(mut stream: TcpStream) -> bool {
    let mut rest = vec![0; 1 << 16];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }
}

/// Packets that are none: each ends its link.
fn no_packets() -> Vec<(&'static str, Vec<u8>)> {
    let head = |kind: i32, length: i32| {
        let mut bytes = Vec::new();
        bytes.put_i32(kind);
        bytes.put_i64(1);
        bytes.put_i32(length);
        bytes
    };
    let identities = |count: i32| {
        let mut bytes = head(3, -1);
        bytes.put_i32(count);
        bytes
    };
    vec![
        ("a web browser", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("ones", vec![0xff; 400]),
        ("zeros", vec![0; 400]),
        ("data of two gigabytes", head(1, i32::MAX)),
        ("data of less than nothing", head(1, -2)),
        ("a kind that is none", [head(77, -1), vec![0xff; 4]].concat()),
        ("two billion identities", identities(i32::MAX)),
        ("a request without data", identities(-1).into_iter().enumerate().map(|(n, byte)| if n == 3 { 1 } else { byte }).collect()),
    ]
}

/// A fake server at the other end of a quorum link.
struct Fake {
    stream: TcpStream,
    input: Vec<u8>,
    plays: Side,
}

impl Fake {
    fn new(stream: TcpStream, plays: Side) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Fake { stream, input: Vec::new(), plays }
    }

    fn say(&mut self, packet: &Packet) {
        let mut bytes = Vec::new();
        encode(packet, self.plays, &mut bytes);
        self.stream.write_all(&bytes).expect("taken");
    }

    fn hear(&mut self) -> Packet {
        let other = if self.plays == Side::Learner { Side::Leader } else { Side::Learner };
        loop {
            if let Decoded::Whole { value, bytes } = decode(&self.input, other, DATA_BYTES_MAX).expect("a packet") {
                self.input.drain(..bytes);
                return value;
            }
            let mut piece = [0; 4096];
            let count = self.stream.read(&mut piece).expect("it goes on");
            assert!(count > 0, "closed before its time");
            self.input.extend(&piece[..count]);
        }
    }

    fn hear_until(&mut self, wanted: impl Fn(&Packet) -> bool) -> Packet {
        loop {
            let packet = self.hear();
            if wanted(&packet) {
                return packet;
            }
        }
    }
}

/// How far a fake server plays its role.
const PHASES: [&str; 4] = ["connected", "told the epoch", "synchronised", "serving"];

/// The absent observer, as far as a phase, on a link to the leader.
fn learner_in(phase: usize, leader: &Place, last: Zxid) -> Fake {
    let mut fake = Fake::new(dial(leader.quorum_port), Side::Learner);
    if phase >= 1 {
        let info = LearnerInfo { id: Some(PeerId(ABSENT as i64)), protocol_version: PROTOCOL_VERSION, config_version: 0 };
        fake.say(&Packet::ObserverInfo { zxid: Zxid::new(last.epoch(), 0), info });
        fake.hear_until(|packet| matches!(packet, Packet::LeaderInfo { .. }));
    }
    if phase >= 2 {
        fake.say(&Packet::AckEpoch { zxid: last, current_epoch: Some(last.epoch() as i32) });
        fake.hear_until(|packet| matches!(packet, Packet::NewLeader { .. }));
    }
    if phase >= 3 {
        fake.say(&Packet::Ack { zxid: Zxid::new(last.epoch(), 0) });
        fake.hear_until(|packet| matches!(packet, Packet::UpToDate));
    }
    fake
}

#[test]
fn a_learner_that_sends_what_no_learner_sends_loses_its_link_in_every_phase() {
    let cluster = ensemble();
    let leader = cluster.settled(&[1, 2, 3]);
    let witness = Witness::start(cluster.address(leader));
    let mut client = cluster.client(leader);
    let place = &cluster.members[leader - 1];
    let before = cluster.process(leader).descriptors();
    let mute = learner_in(0, place, Zxid::ZERO);
    for (phase, name) in PHASES.into_iter().enumerate() {
        let of_a_leader = [Packet::UpToDate, Packet::Commit { zxid: Zxid::new(1, 1) }, Packet::Snap { zxid: Zxid::ZERO }];
        let of_a_leader = of_a_leader.map(|packet| {
            let mut bytes = Vec::new();
            encode(&packet, Side::Leader, &mut bytes);
            ("what only a leader sends", bytes)
        });
        for (what, bytes) in no_packets().into_iter().chain(of_a_leader) {
            let last = Zxid::from_i64(client.set("/witness", b"", -7).zxid);
            let mut fake = learner_in(phase, place, last);
            fake.stream.write_all(&bytes).expect("taken");
            assert!(ends(fake.stream), "{name}, {what}");
        }
    }
    // One that says nothing more has its time.
    for phase in [1, 2, 3] {
        let last = Zxid::from_i64(client.set("/witness", b"", -7).zxid);
        assert!(ends(learner_in(phase, place, last).stream), "{}, and then silent", PHASES[phase]);
    }
    assert!(ends(mute.stream), "one that never says anything");
    // Acknowledgements of what is not proposed yet, and answers to pings that were not sent.
    for packet in [Packet::Ack { zxid: Zxid::new(1, u32::MAX) }, Packet::Ping { zxid: Zxid::ZERO, touched: Vec::new() }] {
        let last = Zxid::from_i64(client.set("/witness", b"", -7).zxid);
        let mut fake = learner_in(3, place, last);
        fake.say(&packet);
        assert!(ends(fake.stream), "{packet:?}");
    }
    witness.finish();
    assert_eq!(cluster.settled(&[1, 2, 3]), leader, "nobody had to elect again");
    wait_until("their descriptors are closed", || cluster.process(leader).descriptors() <= before);
}

/// A greeting with the number, protocol, configuration or epoch of somebody who cannot belong to this ensemble ends its link. No epoch is used up for it, and
/// what is told before there is a leader does not move the epochs either.
#[test]
fn greetings_that_no_member_would_send_end_their_links_and_move_no_epoch_s7() {
    let mut cluster = ensemble();
    let leader = cluster.settled(&[1, 2, 3]);
    let witness = Witness::start(cluster.address(leader));
    let epoch = Zxid::from_i64(cluster.client(leader).create("/before", b"", 0).zxid).epoch();
    let voter = (1..=3).find(|id| *id != leader).expect("three") as i64;
    let info = |id| LearnerInfo { id: Some(PeerId(id)), protocol_version: PROTOCOL_VERSION, config_version: 0 };
    let greetings = |of: i64| {
        let greeting = |epoch, info| Packet::FollowerInfo { zxid: Zxid::new(epoch, 0), info };
        [
            ("a stranger's number", greeting(epoch, info(99))),
            ("a number below all", greeting(epoch, info(i64::MIN))),
            ("no number", greeting(epoch, LearnerInfo { id: None, ..info(of) })),
            ("the protocol of long ago", greeting(epoch, LearnerInfo { protocol_version: 1, ..info(of) })),
            ("a configuration of the future", greeting(epoch, LearnerInfo { config_version: i64::MAX, ..info(of) })),
            ("an epoch that cannot be told", greeting(u32::MAX, info(of))),
            ("nearly the last epoch", greeting(i32::MAX as u32 - 2, info(of))),
        ]
    };
    let place = &cluster.members[leader - 1];
    for (what, packet) in greetings(voter) {
        let mut fake = Fake::new(dial(place.quorum_port), Side::Learner);
        fake.say(&packet);
        assert!(ends(fake.stream), "{what}");
    }
    witness.finish();
    assert_eq!(cluster.settled(&[1, 2, 3]), leader, "nobody had to elect again");
    // All that are alive are told the same while they elect; some of it is heard by whoever leads next before it knows its epoch.
    let stop = Arc::new(AtomicBool::new(false));
    let ports: Vec<u16> = cluster.members[..3].iter().map(|m| m.quorum_port).collect();
    let told = stop.clone();
    let liar = std::thread::spawn(move || {
        let mut links = 0_u64;
        while !told.load(Ordering::Relaxed) {
            for port in &ports {
                let Ok(mut stream) = TcpStream::connect(("127.0.0.1", *port)) else { continue };
                let mut bytes = Vec::new();
                let far = Zxid::new(i32::MAX as u32 - 2, 0);
                encode(&Packet::FollowerInfo { zxid: far, info: info(1 + (links % 3) as i64) }, Side::Learner, &mut bytes);
                let _ = stream.write_all(&bytes);
                links += 1;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        links
    });
    cluster.kill(leader);
    let others: Vec<usize> = (1..=3).filter(|id| *id != leader).collect();
    let next = cluster.settled(&others);
    stop.store(true, Ordering::Relaxed);
    assert!(liar.join().expect("it only connects") > 0);
    let after = Zxid::from_i64(cluster.client(next).create("/after", b"", 0).zxid).epoch();
    assert!(after > epoch && after < epoch + 1_000, "epoch {after} after {epoch}");
    cluster.run(leader);
    cluster.settled(&[1, 2, 3]);
    (1..=3).for_each(|id| cluster.shows(id, "/after"));
}

/// Member 3 is played, and member 1 made to follow it.
struct FakeLeader<'a> {
    follower: &'a Place,
    quorum: TcpListener,
    round: u32,
}

impl FakeLeader<'_> {
    /// A link of the follower, which has taken this one for its leader.
    fn elected(&mut self) -> Fake {
        self.round += 1;
        let vote = Vote { leader: PeerId(3), zxid: Zxid::new(500, 1), peer_epoch: 500, election_epoch: i64::from(self.round) << 20 };
        let (mut greeting, mut said) = (Vec::new(), Vec::new());
        hello::encode(&Hello { peer: PeerId(3), addresses: vec![("127.0.0.1".to_owned(), 1)], multi_address: false }, &mut greeting);
        notification::encode_frame(&Notification { state: ServerState::Looking, vote, version: 2, config: None }, &mut said);
        let mut election = dial(self.follower.election_port);
        election.write_all(&greeting).expect("taken");
        let began = Instant::now();
        loop {
            // Again and again: what is said before the follower looks for a leader is lost on it.
            let _ = election.write_all(&said);
            std::thread::sleep(Duration::from_millis(50));
            if let Ok((stream, _)) = self.quorum.accept() {
                stream.set_nonblocking(false).expect("a socket");
                return Fake::new(stream, Side::Leader);
            }
            assert!(began.elapsed() < PATIENCE, "round {}: nobody follows", self.round);
        }
    }

    fn in_phase(&mut self, phase: usize) -> Fake {
        let mut fake = self.elected();
        let epoch = 100 + self.round;
        fake.hear_until(|packet| matches!(packet, Packet::FollowerInfo { .. }));
        if phase >= 1 {
            fake.say(&Packet::LeaderInfo { zxid: Zxid::new(epoch, 0), protocol_version: PROTOCOL_VERSION });
            let Packet::AckEpoch { zxid, .. } = fake.hear_until(|packet| matches!(packet, Packet::AckEpoch { .. })) else { unreachable!() };
            if phase >= 2 {
                fake.say(&Packet::Diff { zxid });
            }
        }
        if phase >= 3 {
            fake.say(&Packet::NewLeader { zxid: Zxid::new(epoch, 0), config: None });
            fake.hear_until(|packet| matches!(packet, Packet::Ack { .. }));
            fake.say(&Packet::UpToDate);
            fake.hear_until(|packet| matches!(packet, Packet::Ack { .. }));
        }
        fake
    }
}

#[test]
fn a_leader_that_sends_what_no_leader_sends_is_left_in_every_phase() {
    let mut cluster = Cluster::prepare(3, &TIMES);
    (1..=3).for_each(|id| cluster.run(id));
    cluster.settled(&[1, 2, 3]);
    assert_eq!(cluster.client(1).create("/kept", b"", 0).err, 0);
    (1..=3).for_each(|id| cluster.shows(id, "/kept"));
    [2, 3].into_iter().for_each(|id| cluster.kill(id));
    wait_until("member 1 serves no more", || cluster.mode(1).is_none());
    let quorum = TcpListener::bind(("127.0.0.1", cluster.members[2].quorum_port)).expect("member 3 is down");
    quorum.set_nonblocking(true).expect("a socket");
    let mut leader = FakeLeader { follower: &cluster.members[0], quorum, round: 0 };
    for (phase, name) in PHASES.into_iter().enumerate() {
        // Each election takes its time: in two phases one half of them, in the last one all.
        for (_, (what, bytes)) in no_packets().into_iter().enumerate().filter(|(n, _)| phase == 3 || n % 2 == phase % 2) {
            let mut fake = leader.in_phase(phase);
            fake.stream.write_all(&bytes).expect("taken");
            assert!(ends(fake.stream), "{name}, {what}");
        }
    }
    // Silence: not for longer than it takes to come up to date.
    for phase in [1, 3] {
        assert!(ends(leader.in_phase(phase).stream), "{}, and then silent", PHASES[phase]);
    }
    drop(leader);
    [2, 3].into_iter().for_each(|id| cluster.run(id));
    cluster.settled(&[1, 2, 3]);
    (1..=3).for_each(|id| cluster.shows(id, "/kept"));
    assert_eq!(cluster.client(1).create("/goes-on", b"", 0).err, 0);
    (1..=3).for_each(|id| cluster.shows(id, "/goes-on"));
}

/// What says nothing useful on the election port: each ends its connection, or is no more than a word of some member.
fn no_elections() -> Vec<Vec<u8>> {
    let greeting = |version: i64, id: i64, length: i32, address: &[u8]| {
        let mut bytes = Vec::new();
        bytes.put_i64(version);
        bytes.put_i64(id);
        bytes.put_i32(length);
        bytes.put_raw(address);
        bytes
    };
    let good = |id| greeting(-65_536, id, 11, b"127.0.0.1:1");
    let behind = |bytes: &[u8]| [&good(ABSENT as i64)[..], bytes].concat();
    vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 400],
        greeting(-65_530, 1, 11, b"127.0.0.1:1"),
        greeting(-65_536, 1, i32::MAX, b""),
        greeting(-65_536, 1, -1, b""),
        greeting(-65_536, 1, 3, &[0xff, 0xfe, 0xfd]),
        good(99),
        good(-5),
        good(i64::MIN),
        behind(&i32::MAX.to_be_bytes()),
        behind(&[0; 4]),
        behind(&(-9_i32).to_be_bytes()),
    ]
}

#[test]
fn nonsense_on_the_election_ports_ends_its_connection_and_nobody_elects() {
    let cluster = ensemble();
    let leader = cluster.settled(&[1, 2, 3]);
    let witness = Witness::start(cluster.address(leader));
    for member in &cluster.members[..3] {
        for bytes in no_elections() {
            let mut stream = dial(member.election_port);
            stream.write_all(&bytes).expect("taken");
            assert!(ends(stream), "member {}: {}", member.id, bytes.escape_ascii());
        }
        // Votes for everybody, for nobody and in epochs that will never be, from a member that is not there: heard, and no more.
        let mut bytes = Vec::new();
        hello::encode(
            &Hello { peer: PeerId(ABSENT as i64), addresses: vec![("127.0.0.1".to_owned(), 1)], multi_address: false },
            &mut bytes,
        );
        for (candidate, state) in [(1, ServerState::Looking), (99, ServerState::Leading), (i64::MIN, ServerState::Following)] {
            for epoch in [0, i64::MAX, i64::MIN] {
                let vote = Vote { leader: PeerId(candidate), zxid: Zxid::from_i64(i64::MAX), peer_epoch: epoch, election_epoch: epoch };
                let config = Some("version=7fffffffffffffff\nserver.1=nowhere:1:2".into());
                notification::encode_frame(&Notification { state, vote, version: 2, config }, &mut bytes);
            }
        }
        dial(member.election_port).write_all(&bytes).expect("taken");
    }
    witness.finish();
    assert_eq!(cluster.settled(&[1, 2, 3]), leader, "nobody had to elect again");
}

/// Keeps connections open that say nothing, or a byte now and then, and opens new ones for those that are closed.
struct Besiegers {
    stop: Arc<AtomicBool>,
    opened: JoinHandle<usize>,
}

impl Besiegers {
    /// So many at a time, at each of these ports.
    fn start(ports: Vec<u16>, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let opened = std::thread::spawn(move || {
            let mut held: Vec<Option<TcpStream>> = (0..ports.len() * count).map(|_| None).collect();
            let mut opened = 0;
            while !told.load(Ordering::Relaxed) {
                for (n, place) in held.iter_mut().enumerate() {
                    let is_open = place.as_mut().is_some_and(|stream| stream.write_all(&[0xff]).is_ok());
                    if !is_open {
                        *place = TcpStream::connect(("127.0.0.1", ports[n % ports.len()])).ok();
                        opened += usize::from(place.is_some());
                    }
                }
                // Leaves the machine to the others.
                std::thread::sleep(Duration::from_millis(400));
            }
            opened
        });
        Besiegers { stop, opened }
    }

    fn leave(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.opened.join().expect("they only connect")
    }
}

#[test]
fn an_ensemble_besieged_by_silent_connections_goes_on_elects_and_takes_members_back() {
    let mut cluster = ensemble();
    let leader = cluster.settled(&[1, 2, 3]);
    let witness = Witness::start(cluster.address(leader));
    let ports = cluster.members[..3].iter().flat_map(|m| [m.election_port, m.quorum_port]).collect();
    let besiegers = Besiegers::start(ports, 300);
    let follower = (1..=3).find(|id| *id != leader).expect("three");
    cluster.kill(follower);
    cluster.run(follower);
    assert_eq!(cluster.settled(&[1, 2, 3]), leader, "the member is back, and nobody had to elect again");
    witness.finish();
    cluster.kill(leader);
    let others: Vec<usize> = (1..=3).filter(|id| *id != leader).collect();
    cluster.settled(&others);
    cluster.run(leader);
    cluster.settled(&[1, 2, 3]);
    assert_eq!(cluster.client(leader).create("/besieged", b"", 0).err, 0);
    (1..=3).for_each(|id| cluster.shows(id, "/besieged"));
    println!("{} hostile connections", besiegers.leave());
}

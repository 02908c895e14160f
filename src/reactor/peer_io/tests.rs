//! Transports of two servers against each other, and against connections that misbehave.

use super::*;
use crate::base::PeerId;
use crate::reactor::executor::run;
use crate::tree::{Tree, TreeConfig};
use crate::zab::membership::{Member, MemberAddress, MemberKind};
use crate::zab::wire;
use crate::zab::{EpochFile, EpochToken, LearnerInfo, Notification, ServerState, Vote};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;

/// Longest wait for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(40);

/// One server's transports, and what has come out of them.
struct Side {
    io: PeerIo,
    election_port: u16,
    quorum_port: u16,
    control: Arc<Inbox<ToReplicaTask>>,
    history: Arc<Received>,
    epochs: tempfile::TempDir,
}

/// Keeps the images it gets.
#[derive(Default)]
struct Received(Mutex<Vec<u8>>);

/// A log whose parts are of one record.
struct OneByOne;

impl LogParts for OneByOne {
    fn read(&mut self, from: Zxid, _: Zxid) -> Result<Vec<(Zxid, crate::zab::Payload)>, String> {
        Ok(vec![(from, Vec::new().into())])
    }
}

impl History for Received {
    fn receive(&self, image: &ImageStream) -> Result<(), String> {
        while let Some(piece) = image.next().map_err(|e| e.to_string())? {
            self.0.lock().expect("not poisoned").extend(piece);
        }
        Ok(())
    }
    fn load(&self, _: Zxid) -> Result<Tree, String> {
        Ok(Tree::new(TreeConfig::default()))
    }
    fn install(&self, _: Zxid) -> io::Result<()> {
        Ok(())
    }
    fn open_log(&self, from: Zxid, _: Option<(Zxid, u64)>) -> Result<Box<dyn LogParts>, String> {
        if from == Zxid::ZERO { Err("an image is better".to_owned()) } else { Ok(Box::new(OneByOne)) }
    }
    fn reload(&self) -> Result<Tree, String> {
        Err("not wanted".to_owned())
    }
}

/// A listener and its port.
type Port = (TcpListener, u16);

fn port() -> Port {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

/// Servers 1 to N, listening.
fn servers(count: i64, link_bytes_max: usize) -> Vec<Side> {
    servers_with(count, link_bytes_max, PATIENCE)
}

/// The same, with an image's time.
fn servers_with(count: i64, link_bytes_max: usize, image_silence: Duration) -> Vec<Side> {
    let ports: Vec<_> = (0..count).map(|_| (port(), port())).collect();
    let member = |election_port, quorum_port| Member {
        addresses: vec![MemberAddress { host: "127.0.0.1".to_owned(), quorum_port, election_port }],
        kind: MemberKind::Participant,
        client: None,
    };
    let members = ports.iter().zip(1..).map(|(((_, election), (_, quorum)), id)| (PeerId(id), member(*election, *quorum)));
    let membership = Membership { members: members.collect(), ..Membership::default() };
    let start = |((election, election_port), (quorum, quorum_port)): (Port, Port), id: i64| {
        let epochs = tempfile::tempdir().expect("temp dir");
        let config = PeerIoConfig {
            me: PeerId(id),
            membership: membership.clone(),
            hello: Hello { peer: PeerId(id), addresses: vec![("127.0.0.1".to_owned(), election_port)], multi_address: false },
            connect_limit: PATIENCE,
            set_up_limit: Duration::from_millis(300),
            learner_connect_limit: PATIENCE,
            image_silence,
            link_bytes_max,
            packet_bytes_max: 1 << 20,
            observer_master_port: None,
            tcp_keep_alive: false,
            client_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            admits_strangers: false,
            epoch_dir: epochs.path().to_owned(),
            cuts: None,
        };
        let bind: super::Bind = Arc::new(|host, port| TcpListener::bind((host, port)));
        let (control, history) = (Arc::new(Inbox::new(16)), Arc::<Received>::default());
        let parts = PeerParts {
            config,
            election: vec![election],
            quorum: vec![quorum],
            observers: Vec::new(),
            history: history.clone(),
            configs: None,
            bind: bind.clone(),
            bind_clients: bind.clone(),
        };
        let io = PeerIo::start(parts, control.clone(), glommio::executor().current_task_queue());
        Side { io, election_port, quorum_port, control, history, epochs }
    };
    ports.into_iter().zip(1..).map(|((election, quorum), id)| start((election, quorum), id)).collect()
}

impl Side {
    async fn call(&self) -> Input {
        within(PATIENCE, self.io.events.calls.next()).await.expect("something happens")
    }
    async fn of_links(&self) -> Input {
        within(PATIENCE, self.io.events.links.next()).await.expect("something happens")
    }
    async fn told(&self) -> ToReplicaTask {
        within(PATIENCE, self.control.ready()).await.expect("something happens");
        let mut one = Vec::new();
        self.control.drain(&mut one, 1);
        one.remove(0)
    }
    fn say(&self, to: i64, round: i64) {
        self.io.perform(Output::Notify { to: PeerId(to), message: notification(round) });
    }
    /// Waits until this one is heard; older ones and repetitions are normal.
    async fn hears(&self, from: i64, round: i64) {
        loop {
            match self.call().await {
                Input::Notification { from: sender, message } if (sender, message.vote.election_epoch) == (PeerId(from), round) => return,
                Input::Notification { from: sender, message } => {
                    assert!(sender == PeerId(from) && message.vote.election_epoch <= round, "{sender:?} {message:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
    fn send(&self, link: LinkId, packet: Packet) {
        self.io.perform(Output::Send { link, packet });
        self.io.flush();
    }
    async fn packet(&self, link: LinkId) -> Packet {
        match self.of_links().await {
            Input::Packet(id, packet) if id == link => packet,
            other => panic!("{other:?}"),
        }
    }
    /// Connects to the other one's quorum port; the link's name here and there.
    async fn connect(&self, link: u64, other: (&Side, i64)) -> (LinkId, LinkId) {
        self.io.perform(Output::Connect { link: LinkId(link), peer: PeerId(other.1) });
        assert!(matches!(self.of_links().await, Input::Connected(id) if id == LinkId(link)));
        match other.0.of_links().await {
            Input::Accepted(there) => (LinkId(link), there),
            other => panic!("{other:?}"),
        }
    }
}

fn notification(round: i64) -> Notification {
    let vote = Vote { leader: PeerId(2), zxid: Zxid(7), peer_epoch: 0, election_epoch: round };
    Notification { state: ServerState::Looking, vote, version: 2, config: Some("version=0".into()) }
}

fn hello(stream: &mut TcpStream, id: i64) {
    let mut bytes = Vec::new();
    wire::hello::encode(&Hello { peer: PeerId(id), addresses: vec![("127.0.0.1".to_owned(), 1)], multi_address: false }, &mut bytes);
    stream.write_all(&bytes).expect("sent");
}

/// Waits for the other end to close; what came before.
async fn closed(mut stream: TcpStream) -> Vec<u8> {
    let read = crate::reactor::on_thread("test-read", move || {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut all = Vec::new();
        match stream.read_to_end(&mut all) {
            Err(e) if e.kind() != io::ErrorKind::ConnectionReset => panic!("not closed: {e}"),
            _ => all,
        }
    });
    read.await.expect("a thread")
}

fn dial(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).expect("it listens")
}

/// A1: the connection of a pair is the one made by the larger id, whoever has something to say.
#[test]
fn servers_hear_each_other_whoever_speaks_first() {
    run(|| async {
        let sides = servers(3, 1 << 20);
        sides[0].say(2, 1); // the smaller one knocks
        sides[1].hears(1, 1).await;
        sides[1].say(1, 2);
        sides[0].hears(2, 2).await;
        sides[2].say(1, 1); // the larger one connects
        sides[0].hears(3, 1).await;
        // Both at once.
        sides[1].say(3, 3);
        sides[2].say(2, 3);
        sides[2].hears(2, 3).await;
        sides[1].hears(3, 3).await;
        sides[0].say(1, 9);
        sides[0].hears(1, 9).await;
    });
}

/// A3: a newer message replaces one that waits, and what was sent last is sent again over a new connection.
#[test]
fn only_the_newest_message_waits_and_the_last_one_is_repeated_after_a_reconnect() {
    run(|| async {
        let sides = servers(2, 1 << 20);
        (1..=20).for_each(|round| sides[0].say(2, round));
        sides[1].hears(1, 20).await;
        sides[1].io.election.stop().await;
        sides[1].say(1, 21);
        sides[0].hears(2, 21).await;
        sides[1].hears(1, 20).await;
    });
}

/// S7, P15: strangers, nonsense and silence cost their own connection only.
#[test]
fn garbage_on_the_election_port_harms_nobody() {
    run(|| async {
        let sides = servers(2, 1 << 20);
        sides[0].say(2, 1);
        sides[1].hears(1, 1).await;
        let port = sides[0].election_port;
        let mut garbage = dial(port);
        garbage.write_all(&[0x80; 100]).expect("sent");
        let mut stranger = dial(port);
        hello(&mut stranger, 77);
        let mut myself = dial(port);
        hello(&mut myself, 1);
        let silent = dial(port);
        let mut half = dial(port);
        half.write_all(&[0xff; 9]).expect("sent");
        for stream in [garbage, stranger, myself, silent, half] {
            assert_eq!(closed(stream).await, b"");
        }
        // A member's connection ends at a message that is longer than any, and goes on after one that makes no sense.
        let mut member = dial(port);
        hello(&mut member, 2);
        member.write_all(&[&4u32.to_be_bytes()[..], b"what", &(1u32 << 30).to_be_bytes()].concat()).expect("sent");
        closed(member).await;
        sides[1].say(1, 2);
        sides[0].hears(2, 2).await;
        sides[0].say(2, 3);
        sides[1].hears(1, 3).await;
    });
}

#[test]
fn packets_go_both_ways_and_the_end_of_a_link_is_reported_once() {
    run(|| async {
        let sides = servers(2, 1 << 20);
        let (here, there) = sides[0].connect(1, (&sides[1], 2)).await;
        let info = Packet::FollowerInfo {
            zxid: Zxid::ZERO,
            info: LearnerInfo { id: Some(PeerId(1)), protocol_version: 0x10000, config_version: 0 },
        };
        sides[0].send(here, info.clone());
        assert_eq!(sides[1].packet(there).await, info);
        for counter in 1..=50 {
            let payload: crate::zab::Payload = vec![counter as u8; 10_000].into();
            sides[1].send(there, Packet::Proposal { zxid: Zxid::new(1, counter), payload });
        }
        for counter in 1..=50 {
            assert!(matches!(sides[0].packet(here).await, Packet::Proposal { zxid, .. } if zxid == Zxid::new(1, counter)));
        }
        // What was queued before the order to close still leaves.
        sides[1].io.perform(Output::Send { link: there, packet: Packet::UpToDate });
        sides[1].io.perform(Output::Close(there));
        assert_eq!(sides[0].packet(here).await, Packet::UpToDate);
        assert!(matches!(sides[0].of_links().await, Input::Disconnected(link) if link == here));
        sides[0].send(here, Packet::UpToDate);
        let (again, _) = sides[0].connect(3, (&sides[1], 2)).await;
        assert_ne!(again, here);
        assert!(sides.iter().all(|side| side.io.events.links.is_empty()), "nothing is reported twice, nor what was ordered");
    });
}

#[test]
fn a_leader_that_does_not_listen_is_reported_as_gone() {
    run(|| async {
        let sides = servers(2, 1 << 20);
        let (_, nobody) = port();
        let address = MemberAddress { host: "127.0.0.1".to_owned(), quorum_port: nobody, election_port: nobody };
        assert!(socket::connect_to_any(&[address], |a| a.quorum_port, PATIENCE, false).await.is_err());
        sides[0].io.perform(Output::Connect { link: LinkId(5), peer: PeerId(9) });
        assert!(matches!(sides[0].of_links().await, Input::Disconnected(LinkId(5))));
        // An attempt that was taken back is not reported.
        sides[0].io.perform(Output::Connect { link: LinkId(7), peer: PeerId(2) });
        sides[0].io.perform(Output::Close(LinkId(7)));
        let (_, there) = sides[0].connect(9, (&sides[1], 2)).await;
        assert_eq!(there, LinkId(2));
    });
}

#[test]
fn garbage_on_the_quorum_port_ends_its_own_link() {
    run(|| async {
        let sides = servers(2, 1 << 20);
        let mut garbage = dial(sides[1].quorum_port);
        garbage.write_all(&[0x7f; 64]).expect("sent");
        assert!(matches!(sides[1].of_links().await, Input::Accepted(_)));
        assert!(matches!(sides[1].of_links().await, Input::Disconnected(_)));
        assert_eq!(closed(garbage).await, b"");
        let (here, there) = sides[0].connect(1, (&sides[1], 2)).await;
        sides[0].send(here, Packet::Ack { zxid: Zxid(5) });
        assert_eq!(sides[1].packet(there).await, Packet::Ack { zxid: Zxid(5) });
    });
}

/// L14.
#[test]
fn a_learner_that_takes_nothing_is_cut_off_at_the_bound_and_others_go_on() {
    run(|| async {
        let sides = servers(2, 4 << 20);
        let idle = dial(sides[1].quorum_port);
        let Input::Accepted(stuck) = sides[1].of_links().await else { panic!("accepted") };
        let (here, there) = sides[0].connect(1, (&sides[1], 2)).await;
        let payload: crate::zab::Payload = vec![0; 100_000].into();
        for counter in 1..1000 {
            sides[1].send(stuck, Packet::Proposal { zxid: Zxid::new(1, counter), payload: payload.clone() });
        }
        assert!(matches!(sides[1].of_links().await, Input::Disconnected(link) if link == stuck));
        sides[1].send(there, Packet::UpToDate);
        assert_eq!(sides[0].packet(here).await, Packet::UpToDate);
        drop(idle);
    });
}

/// What is read of the log waits until the learner has taken what came before, and is not reported for a link that is closed.
#[test]
fn the_log_is_read_for_a_learner_as_it_takes_what_it_is_sent_l14() {
    run(|| async {
        let sides = servers(2, 64 << 20);
        let (here, there) = sides[0].connect(1, (&sides[1], 2)).await;
        let ask = LogAsk { from: Zxid::new(1, 1), upto: Zxid::new(1, 9), first: true, newest: None };
        sides[1].io.read_log(there, ask);
        assert!(matches!(sides[1].of_links().await, Input::LogRead(link, Ok(part)) if link == there && part.len() == 1));
        let payload: crate::zab::Payload = vec![0; 500_000].into();
        let count = 60;
        for counter in 1..=count {
            sides[1].send(there, Packet::Proposal { zxid: Zxid::new(1, counter), payload: payload.clone() });
        }
        sides[1].io.read_log(there, LogAsk { first: false, ..ask });
        // Its socket is full, and it stays so while nobody takes what has come: 30 MB are more than sockets hold.
        assert!(matches!(sides[0].packet(here).await, Packet::Proposal { .. }));
        assert!(sides[1].io.events.links.is_empty());
        for _ in 2..=count {
            sides[0].packet(here).await;
        }
        assert!(matches!(sides[1].of_links().await, Input::LogRead(link, Ok(_)) if link == there));
        sides[1].io.read_log(there, LogAsk { from: Zxid::ZERO, ..ask });
        assert!(matches!(sides[1].of_links().await, Input::LogRead(link, Err(_)) if link == there), "refused");
        sides[1].io.read_log(there, ask);
        sides[1].io.perform(Output::Close(there));
        assert!(matches!(sides[0].of_links().await, Input::Disconnected(link) if link == here));
        assert!(sides[1].io.events.links.is_empty());
    });
}

/// C3: an image goes between the packets before and behind it, and what is behind it is handed on when it has been installed.
#[test]
fn an_image_arrives_whole_between_the_packets_around_it() {
    run(|| async {
        let sides = servers(2, 1 << 20);
        let (here, there) = sides[0].connect(1, (&sides[1], 2)).await;
        let mut tree = Tree::new(TreeConfig::default());
        let mut body: Vec<u8> = Vec::new();
        tree.begin_image().write(&mut |piece| io::Write::write_all(&mut body, piece)).expect("written");
        sides[1].io.perform(Output::Send { link: there, packet: Packet::LeaderInfo { zxid: Zxid::new(1, 0), protocol_version: 0x10000 } });
        sides[1].io.send_image(there, tree.begin_image(), tree.applied());
        sides[1].send(there, Packet::UpToDate);
        assert!(matches!(sides[0].packet(here).await, Packet::LeaderInfo { .. }));
        assert_eq!(sides[0].packet(here).await, Packet::Snap { zxid: tree.applied() });
        sides[0].io.receive_image(here, tree.applied());
        assert!(matches!(sides[0].told().await, ToReplicaTask::ImageReceived(Ok(_))));
        assert_eq!(*sides[0].history.0.lock().expect("not poisoned"), body);
        assert!(matches!(sides[1].of_links().await, Input::SnapshotSent(link) if link == there));
        assert!(sides[0].io.events.links.is_empty(), "what is behind the image waits for its installation");
        sides[0].io.image_loader(tree.applied())();
        assert!(matches!(sides[0].told().await, ToReplicaTask::ImageLoaded(Ok(_))));
        sides[0].io.install_image(tree.applied());
        assert!(matches!(sides[0].told().await, ToReplicaTask::ImageInstalled));
        sides[0].io.image_done();
        assert_eq!(sides[0].packet(here).await, Packet::UpToDate);
    });
}

/// An image holds a version of the tree: nobody who takes nothing of it, or hardly anything, keeps it for longer than its time (L14).
#[test]
fn a_learner_that_takes_its_image_too_slowly_is_cut_off_and_its_writer_ends() {
    run(|| async {
        for takes in [0, 1_000] {
            let limit = Duration::from_millis(400);
            let sides = servers_with(2, 64 << 20, limit);
            let mut slow = dial(sides[1].quorum_port);
            let Input::Accepted(link) = sides[1].of_links().await else { panic!("accepted") };
            let (stream, writer) = pipe::pipe();
            sides[1].io.quorum.send_image(link, &Packet::Snap { zxid: Zxid(9) }, stream);
            sides[1].io.flush();
            let writer = std::thread::spawn(move || while writer.send(vec![0; 64 << 10]).is_ok() {});
            let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
            let told = done.clone();
            // A little at a time: it is never silent for long.
            let reader = std::thread::spawn(move || {
                while !told.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = slow.read(&mut vec![0; takes]);
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            assert!(matches!(sides[1].of_links().await, Input::Disconnected(gone) if gone == link), "{takes}");
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            writer.join().expect("the image is let go");
            reader.join().expect("ends");
        }
    });
}

/// ZK-3642: a stream that breaks off is reported as such, whoever ended it.
#[test]
fn an_image_that_breaks_off_is_reported_as_failed() {
    run(|| async {
        for by_leader in [true, false] {
            let sides = servers(2, 1 << 20);
            let (here, there) = sides[0].connect(1, (&sides[1], 2)).await;
            let (stream, writer) = pipe::pipe();
            sides[1].io.quorum.send_image(there, &Packet::Snap { zxid: Zxid(9) }, stream);
            sides[1].io.flush();
            writer.send(vec![0; 4]).expect("taken");
            assert_eq!(sides[0].packet(here).await, Packet::Snap { zxid: Zxid(9) });
            sides[0].io.receive_image(here, Zxid(9));
            if by_leader {
                drop(writer);
            } else {
                sides[0].io.perform(Output::Close(here));
            }
            assert!(matches!(sides[0].told().await, ToReplicaTask::ImageReceived(Err(_))));
        }
        // The link is gone before the order comes.
        let sides = servers(1, 1 << 20);
        sides[0].io.receive_image(LinkId(1), Zxid(9));
        assert!(matches!(sides[0].told().await, ToReplicaTask::ImageReceived(Err(_))));
    });
}

/// A24.
#[test]
fn epoch_files_are_on_disk_when_they_are_reported() {
    run(|| async {
        let sides = servers(1, 1 << 20);
        sides[0].io.perform(Output::WriteEpoch { token: EpochToken(1), file: EpochFile::Accepted, epoch: 4, vouches: true });
        sides[0].io.perform(Output::WriteEpoch { token: EpochToken(2), file: EpochFile::Current, epoch: 3, vouches: false });
        let vouched = || sides[0].epochs.path().join(crate::storage::format::VOUCHED_FILE).exists();
        assert!(matches!(sides[0].call().await, Input::EpochWritten(EpochToken(1))));
        assert!(matches!(sides[0].call().await, Input::EpochWritten(EpochToken(2))));
        assert!(!vouched(), "with an epoch of a history the disk is not empty any more");
        sides[0].io.perform(Output::WriteEpoch { token: EpochToken(3), file: EpochFile::Accepted, epoch: 4, vouches: true });
        assert!(matches!(sides[0].call().await, Input::EpochWritten(EpochToken(3))));
        assert!(vouched());
        let read = |name: &str| std::fs::read_to_string(sides[0].epochs.path().join(name)).expect("written");
        assert_eq!((read("acceptedEpoch"), read("currentEpoch")), ("4".to_owned(), "3".to_owned()));
    });
}

//! Golden traffic of real ZooKeeper 3.9.4 servers: every byte they exchanged is read as what it was, and written again the same (L18).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use zoo::base::Reader;
use zoo::record::TxnHeader;
use zoo::storage::snapshot_body::BodyReader;
use zoo::storage::snapshot_stream::{SIGNATURE, StreamScanner};
use zoo::zab::wire::packet::DATA_BYTES_MAX;
use zoo::zab::wire::{Decoded, Hello, Side, hello, notification, packet};
use zoo::zab::{LearnerInfo, Membership, Notification, Packet, ServerState};

/// Offset and text of each unit of a stream, as in the listing beside it.
type Listing = Vec<(usize, String)>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/java-3.9.4/wire")
}

/// Every captured direction of a connection: (scenario, file name, bytes).
fn streams() -> Vec<(String, String, Vec<u8>)> {
    let mut found = Vec::new();
    for scenario in names(&root()) {
        let dir = root().join(&scenario);
        for name in names(&dir).into_iter().filter(|n| n.ends_with(".bin")) {
            let bytes = std::fs::read(dir.join(&name)).expect("read");
            found.push((scenario.clone(), name, bytes));
        }
    }
    found
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("fixtures are there");
    let mut names: Vec<_> = entries.map(|e| e.expect("entry").file_name().into_string().expect("plain names")).collect();
    names.sort();
    names
}

/// What the listing of a scenario says, by connection and direction.
fn listings(scenario: &str) -> BTreeMap<String, Listing> {
    let text = std::fs::read_to_string(root().join(scenario).join("decoded.txt")).expect("read");
    let mut found: BTreeMap<String, Listing> = BTreeMap::new();
    for line in text.lines() {
        let (left, unit) = line.split_once('@').expect("an offset");
        let (offset, unit) = unit.split_once(' ').expect("a unit");
        let stream: Vec<&str> = left.split_whitespace().skip(1).collect();
        found.entry(stream.join(".")).or_default().push((offset.parse().expect("a number"), unit.trim().to_owned()));
    }
    found
}

#[test]
fn everything_java_servers_say_is_understood_and_written_the_same() {
    let (mut files, mut units) = (0, 0);
    for (scenario, name, stream) in streams() {
        let whole_name = format!("{scenario}/{name}");
        let is_mid = name.ends_with(".mid.bin");
        let key = name.trim_end_matches(".bin").trim_end_matches(".mid").to_owned();
        let from_connecting_side = key.ends_with(".c2s");
        let (listing, again) = if name.starts_with("election") {
            read_election(&stream, from_connecting_side && !is_mid, &whole_name)
        } else {
            read_quorum(&stream, if from_connecting_side { Side::Learner } else { Side::Leader }, &whole_name)
        };
        assert!(again == stream, "{whole_name}: written differently");
        let expected = listings(&scenario).remove(&key).unwrap_or_default();
        assert_eq!(listing.len(), expected.len(), "{whole_name}");
        for (got, want) in listing.iter().zip(&expected) {
            assert_eq!(got, want, "{whole_name}");
        }
        files += 1;
        units += listing.len();
    }
    let listed: usize = names(&root()).iter().flat_map(|scenario| listings(scenario).into_values()).map(|listing| listing.len()).sum();
    assert_eq!((files, units), (165, listed), "nothing that was captured is left out");
}

fn read_election(stream: &[u8], initial_message: bool, name: &str) -> (Listing, Vec<u8>) {
    let (mut listing, mut again, mut at) = (Listing::new(), Vec::new(), 0);
    if initial_message {
        let (hello, length) = whole(hello::decode(stream), name);
        hello::encode(&hello, &mut again);
        listing.push((0, show_hello(&hello)));
        at = length;
    }
    while at < stream.len() {
        let (message, length) = whole(notification::decode_frame(&stream[at..]), name);
        let decoded = notification::decode(message).unwrap_or_else(|e| panic!("{name} at {at}: {e}"));
        notification::encode_frame(&decoded, &mut again);
        listing.push((at, show_notification(&decoded, message.len())));
        at += length;
    }
    (listing, again)
}

fn read_quorum(stream: &[u8], side: Side, name: &str) -> (Listing, Vec<u8>) {
    let (mut listing, mut again, mut at) = (Listing::new(), Vec::new(), 0);
    while at < stream.len() {
        let (decoded, length) = whole(packet::decode(&stream[at..], side, DATA_BYTES_MAX), name);
        packet::encode(&decoded, side, &mut again);
        listing.push((at, show_packet(&decoded, side)));
        at += length;
        if matches!(decoded, Packet::Snap { .. }) {
            let fed = StreamScanner::default().feed(&stream[at..]).unwrap_or_else(|e| panic!("{name} at {at}: {e}"));
            assert!(fed.whole, "{name}");
            assert_eq!(&stream[at + fed.body..at + fed.bytes], SIGNATURE, "{name}");
            listing.push((at, show_snapshot(&stream[at..at + fed.body])));
            again.extend_from_slice(&stream[at..at + fed.bytes]);
            at += fed.bytes;
        }
    }
    (listing, again)
}

fn whole<T>(decoded: Result<Decoded<T>, zoo::base::DecodeError>, name: &str) -> (T, usize) {
    match decoded {
        Ok(Decoded::Whole { value, bytes }) => (value, bytes),
        Ok(Decoded::Need(bytes)) => panic!("{name}: needs {bytes} bytes"),
        Err(e) => panic!("{name}: {e}"),
    }
}

/// Configurations are printed as they were read, too.
fn show_config(config: Option<&str>) -> String {
    let Some(text) = config else { return "null".to_owned() };
    assert_eq!(Membership::parse(text).map(|m| m.to_text()).as_deref(), Ok(text));
    format!("'{}'", text.replace('\n', "\\n"))
}

fn show_hello(hello: &Hello) -> String {
    let version = if hello.multi_address { -65535 } else { -65536 };
    let addresses: Vec<_> = hello.addresses.iter().map(|(host, port)| format!("{host}:{port}")).collect();
    format!("INITIAL proto={version} sid={} addr='{}'", hello.peer.0, addresses.join("|"))
}

fn show_notification(n: &Notification, length: usize) -> String {
    let state = match n.state {
        ServerState::Looking => "LOOKING",
        ServerState::Following => "FOLLOWING",
        ServerState::Leading => "LEADING",
        ServerState::Observing => "OBSERVING",
    };
    let v = &n.vote;
    format!(
        "NOTIFICATION len={length} state={state} leader={} zxid={} electionEpoch=0x{:x} peerEpoch=0x{:x} version={} config={}",
        v.leader.0,
        v.zxid,
        v.election_epoch,
        v.peer_epoch,
        n.version,
        show_config(n.config.as_deref())
    )
}

fn show_packet(packet: &Packet, side: Side) -> String {
    let none = "zxid=0xffffffffffffffff";
    let text = match packet {
        Packet::Request(r) => {
            let auth: Vec<_> = r.auth.ids.iter().map(|id| format!("('{}', '{}')", id.scheme, id.id)).collect();
            let auth = if auth.is_empty() { "null".to_owned() } else { format!("[{}]", auth.join(", ")) };
            let body = hex(&r.body);
            return format!("REQUEST {none} session={} cxid={} op={} payload={body} auth={auth}", r.session, r.cxid.0, r.op);
        }
        Packet::Proposal { zxid, payload } => format!("PROPOSAL zxid={zxid} {}", show_payload(payload)),
        Packet::Inform { zxid, payload } => format!("INFORM zxid={zxid} {}", show_payload(payload)),
        Packet::InformAndActivate { zxid, leader, payload } => {
            format!("INFORMANDACTIVATE zxid={zxid} designatedLeader={} {}", leader.0, show_payload(payload))
        }
        Packet::CommitAndActivate { zxid, leader } => format!("COMMITANDACTIVATE zxid={zxid} designatedLeader={}", leader.0),
        Packet::Ack { zxid } => format!("ACK zxid={zxid} data=null"),
        Packet::Commit { zxid } => format!("COMMIT zxid={zxid} data=null"),
        Packet::Acks { .. } | Packet::Commits { .. } => unreachable!("packets are decoded one by one"),
        Packet::Ping { zxid, .. } if side == Side::Leader => format!("PING zxid={zxid} data=null"),
        Packet::Ping { zxid, touched } => {
            let touched: Vec<_> = touched.iter().map(|(session, ms)| format!("{session}:{ms}")).collect();
            format!("PING zxid={zxid} touch=[{}]", touched.join(", "))
        }
        Packet::Revalidate { session, timeout_ms } => format!("REVALIDATE {none} session={session} timeout={timeout_ms}"),
        Packet::Revalidated { session, valid } => {
            format!("REVALIDATE {none} session={session} valid={}", if *valid { "True" } else { "False" })
        }
        Packet::Sync => "SYNC zxid=0x0 data=null".to_owned(),
        Packet::NewLeader { zxid, config } => format!("NEWLEADER zxid={zxid} config={}", show_config(config.as_deref())),
        Packet::FollowerInfo { zxid, info } => format!("FOLLOWERINFO zxid={zxid} {}", show_info(info)),
        Packet::ObserverInfo { zxid, info } => format!("OBSERVERINFO zxid={zxid} {}", show_info(info)),
        Packet::LeaderInfo { zxid, protocol_version } => format!("LEADERINFO zxid={zxid} proto=0x{protocol_version:x}"),
        Packet::AckEpoch { zxid, current_epoch } => format!("ACKEPOCH zxid={zxid} epoch={}", current_epoch.unwrap_or(-1)),
        Packet::UpToDate => format!("UPTODATE {none} data=null"),
        Packet::Diff { zxid } => format!("DIFF zxid={zxid} data=null"),
        Packet::Trunc { zxid } => format!("TRUNC zxid={zxid} data=null"),
        Packet::Snap { zxid } => format!("SNAP zxid={zxid} data=null"),
    };
    text + " auth=null"
}

fn show_payload(payload: &[u8]) -> String {
    let mut r = Reader::new(payload);
    let h = TxnHeader::read(&mut r).expect("a header");
    let body = hex(r.remaining());
    format!("hdr{{client={} cxid={} zxid={} time={} type={}}} body={body}", h.session, h.cxid.0, h.zxid, h.time.0, h.kind)
}

fn show_info(info: &LearnerInfo) -> String {
    let id = info.id.map_or(-1, |id| id.0);
    format!("LearnerInfo{{sid={id} proto=0x{:x} configVersion=0x{:x}}}", info.protocol_version, info.config_version)
}

fn show_snapshot(body: &[u8]) -> String {
    let mut reader = BodyReader::new(body);
    let sessions = reader.sessions().expect("sessions");
    let sessions: Vec<_> = sessions.iter().map(|(id, ms)| format!("{id}:{ms}")).collect();
    let lists = reader.acls().expect("lists").len();
    let mut paths = Vec::new();
    while let Some(node) = reader.next_node().expect("a node") {
        paths.push(format!("'{}'", node.path));
    }
    let (sessions, paths) = (sessions.join(", "), paths.join(", "));
    format!("snapshot stream: {} bytes sessions=[{sessions}] acls={lists} nodes=[{paths}] ; signature='BenWasHere'", body.len())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// However the network cuts a stream: the same packets come out, and never too early.
#[test]
fn streams_are_read_the_same_byte_by_byte() {
    for (scenario, name, stream) in streams().into_iter().filter(|(_, name, _)| name.starts_with("quorum")) {
        let side = if name.contains(".c2s") { Side::Learner } else { Side::Leader };
        let (mut start, mut scanner, mut packets, mut image) = (0, None::<StreamScanner>, 0, 0);
        for end in 1..=stream.len() {
            if let Some(scan) = &mut scanner {
                let fed = scan.feed(&stream[start..end]).expect("well formed");
                image += fed.body;
                start += fed.bytes;
                if fed.whole {
                    scanner = None;
                }
                continue;
            }
            match packet::decode(&stream[start..end], side, DATA_BYTES_MAX).expect("well formed") {
                Decoded::Need(bytes) => assert!(bytes > end - start),
                Decoded::Whole { value, bytes } => {
                    assert_eq!(start + bytes, end, "{scenario}/{name}: taken with its last byte");
                    start = end;
                    packets += 1;
                    scanner = matches!(value, Packet::Snap { .. }).then(StreamScanner::default);
                }
            }
        }
        assert_eq!(start, stream.len(), "{scenario}/{name}");
        let (listing, _) = read_quorum(&stream, side, &name);
        let expected = listing.iter().filter(|(_, text)| !text.starts_with("snapshot")).count();
        assert_eq!(packets, expected);
        assert_eq!(image > 0, expected < listing.len());
    }
}

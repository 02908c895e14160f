//! Clients that do not keep to the protocol, by mistake or on purpose.

use crate::support::{PATIENCE, RawClient, ServerProcess, connections, create, path_watch, set_data, temp_dir, wait_until};
use crate::{OPEN, Witness};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};
use zoo::base::prng::Prng;
use zoo::base::{Reader, SessionId, Writer};
use zoo::proto::OpCode;
use zoo::proto::connect::{ConnectRequest, ConnectResponse};

/// Short sessions, and no limit on connections of one address.
const SHORT: [&str; 4] = ["tickTime=100", "minSessionTimeout=200", "maxSessionTimeout=60000", "maxClientCnxns=0"];

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// Reads to the end; true when there is one.
fn ends(mut stream: TcpStream) -> bool {
    let mut sink = [0; 4096];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

fn connect_frame() -> Vec<u8> {
    ConnectRequest::new_session(30_000).frame()
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_len(payload.len());
    bytes.put_raw(payload);
    bytes
}

#[test]
fn garbage_for_first_bytes_costs_its_own_connection_only() {
    let dir = temp_dir();
    let server = ServerProcess::start(dir.path(), 1, &SHORT);
    let witness = Witness::start(server.address);
    let mut password_len = connect_frame();
    password_len[28..32].copy_from_slice(&i32::MAX.to_be_bytes());
    let mut negative_password = connect_frame();
    negative_password[28..32].copy_from_slice(&(-2_i32).to_be_bytes());
    // Each of these is refused as soon as it has arrived.
    let refused: [&[u8]; 12] = [
        &[0xff; 4],
        &[0xff; 4096],
        &i32::MIN.to_be_bytes(),
        &i32::MAX.to_be_bytes(),
        &0x10_0000_i32.to_be_bytes(), // one more than jute.maxbuffer
        &0_i32.to_be_bytes(),
        &frame(&[1]),
        &frame(&[0; 27]),
        &password_len,
        &negative_password,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client says hello",
    ];
    for bytes in refused {
        let mut stream = open(server.address);
        stream.write_all(bytes).expect("sent");
        assert!(ends(stream), "{bytes:?} is not refused");
    }
    // Random bytes, and connect requests that stop at some point: over at the latest when the client says that nothing follows.
    let mut rng = Prng::new(1);
    for i in 0..60 {
        let mut bytes = connect_frame();
        if i % 2 == 0 {
            bytes.truncate(rng.below(bytes.len() as u64) as usize);
        } else {
            bytes = (0..rng.below(200)).map(|_| rng.next_u64() as u8).collect();
        }
        let mut stream = open(server.address);
        // It may have been refused before all is sent.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        assert!(ends(stream), "{bytes:?} is not given up");
    }
    witness.finish();
}

#[test]
fn bad_frames_of_a_session_end_its_connection_and_nothing_else() {
    let dir = temp_dir();
    let server = ServerProcess::start(dir.path(), 1, &SHORT);
    let witness = Witness::start(server.address);
    let bad: [Vec<u8>; 6] = [
        (-1_i32).to_be_bytes().to_vec(),
        i32::MIN.to_be_bytes().to_vec(),
        i32::MAX.to_be_bytes().to_vec(),
        0x10_0000_i32.to_be_bytes().to_vec(),
        frame(&[]),
        frame(&[0, 0, 0, 1, 0, 0]),
    ];
    for bytes in bad {
        let mut client = RawClient::connect(server.address);
        let (session, password) = (client.session, client.password);
        client.stream().write_all(&bytes).expect("sent");
        assert!(client.is_closed(), "{bytes:?} is not refused");
        RawClient::attach(server.address, session, password, 30_000).expect("the session lives on").close();
    }
    witness.finish();
}

#[test]
fn unknown_requests_are_answered_with_unimplemented_and_end_the_connection() {
    let dir = temp_dir();
    let server = ServerProcess::start(dir.path(), 1, &SHORT);
    let witness = Witness::start(server.address);
    // Numbers nobody uses, and two that only a server may put into a transaction.
    for op in [10_i32, 23, 99, 108, 12_345, -1, -12, i32::MIN, i32::MAX, OpCode::CreateSession as i32, OpCode::DeleteContainer as i32] {
        let mut client = RawClient::connect(server.address);
        let mut payload = Vec::new();
        payload.put_i32(7);
        payload.put_i32(op);
        payload.put_raw(b"whatever this is");
        client.stream().write_all(&frame(&payload)).expect("sent");
        let reply = client.reply().expect("answered");
        assert_eq!((reply.xid, reply.err), (7, -6), "request type {op}");
        assert!(client.is_closed(), "request type {op}");
    }
    witness.finish();
}

#[test]
fn requests_that_cannot_be_decoded_are_refused_and_their_session_goes_on() {
    let dir = temp_dir();
    let server = ServerProcess::start(dir.path(), 1, &SHORT);
    let witness = Witness::start(server.address);
    let mut client = RawClient::connect(server.address);
    let whole = create("/whole", b"data", OPEN);
    for cut in 0..whole.len() {
        assert_eq!(client.call(OpCode::Create, &whole[..cut]).err, -5, "the first {cut} bytes of a create");
    }
    let mut huge = Vec::new();
    huge.put_i32(i32::MAX); // length of the path
    assert_eq!(client.call(OpCode::GetData, &huge).err, -5);
    assert_eq!(client.call(OpCode::Exists, &path_watch("/whole", false)).err, -101, "none of them has had an effect");
    assert_eq!(client.call(OpCode::Create, &whole).err, 0);
    witness.finish();
}

#[test]
fn frames_that_come_byte_by_byte_are_frames() {
    let dir = temp_dir();
    let server = ServerProcess::start(dir.path(), 1, &SHORT);
    let witness = Witness::start(server.address);
    let mut stream = open(server.address);
    let mut dribble = |bytes: &[u8]| bytes.chunks(1).for_each(|byte| stream.write_all(byte).expect("sent"));
    dribble(&connect_frame());
    let mut payload = Vec::new();
    payload.put_i32(1);
    payload.put_i32(OpCode::Create as i32);
    payload.put_raw(&create("/dribbled", b"x", OPEN));
    dribble(&frame(&payload));
    let mut read = || {
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("answered");
        let mut payload = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut payload).expect("answered");
        payload
    };
    assert_ne!(ConnectResponse::decode(&read()).expect("well formed").timeout_ms, 0);
    let reply = read();
    let mut r = Reader::new(&reply);
    assert_eq!(r.i32().expect("xid"), 1);
    assert_eq!(RawClient::connect(server.address).get("/dribbled", false).data().0.as_deref(), Some(&b"x"[..]));
    witness.finish();
}

#[test]
fn a_client_that_never_reads_is_given_up_and_holds_bounded_memory() {
    const OUT_MAX: u64 = 8 << 20;
    const SESSION_MS: i32 = 1_000;
    let dir = temp_dir();
    let mut settings = SHORT.to_vec();
    settings.push("zoo.outBufferMax=8388608");
    let server = ServerProcess::start(dir.path(), 1, &settings);
    let witness = Witness::start(server.address);
    let mut other = RawClient::connect(server.address);
    assert_eq!(other.create("/big", &vec![7; 512 << 10], OPEN).err, 0);
    let before = server.resident();

    let mut deaf = RawClient::attach(server.address, SessionId::NONE, [0; 16], SESSION_MS).expect("a session");
    let watches: Vec<_> = (0..500).map(|i| (OpCode::Exists, path_watch(&format!("/fires-{i}"), true))).collect();
    let reads: Vec<_> = (0..500).map(|_| (OpCode::GetData, path_watch("/big", false))).collect();
    let started = Instant::now();
    deaf.send_all(&watches).expect("sent");
    deaf.send_all(&reads).expect("small enough for the socket's buffers");
    // 250 MiB of answers are asked for, and the watches fire.
    let fire: Vec<_> = (0..500).map(|i| (OpCode::Create, create(&format!("/fires-{i}"), b"", OPEN))).collect();
    other.send_all(&fire).expect("sent");
    (0..500).for_each(|_| assert_eq!(other.reply().expect("answered").err, 0));
    other.close();
    let mut most = 0;
    wait_until("the connection that is never read is closed", || {
        most = most.max(server.resident());
        connections(server.address) == 1
    });
    println!("given up after {:?}; {} MiB before, {} MiB at most", started.elapsed(), before >> 20, most >> 20);
    assert!(started.elapsed() >= Duration::from_millis(SESSION_MS as u64), "it has a session timeout to begin reading");
    assert!(most - before < 4 * OUT_MAX, "{before} bytes before, {most} at most");
    witness.finish();
}

#[test]
fn half_open_connections_are_closed_after_their_time() {
    const LIMIT: Duration = Duration::from_millis(400);
    let dir = temp_dir();
    let mut settings = SHORT.to_vec();
    settings.push("nio.sessionlessCnxnTimeout=400");
    let server = ServerProcess::start(dir.path(), 1, &settings);
    let witness = Witness::start(server.address);
    let started = Instant::now();
    let whole = connect_frame();
    let half_open: Vec<_> = (0..30)
        .map(|i| {
            let mut stream = open(server.address);
            stream.write_all(&whole[..[0, 3, 20][i % 3]]).expect("sent");
            stream
        })
        .collect();
    for stream in half_open {
        assert!(ends(stream));
    }
    assert!(started.elapsed() >= LIMIT, "closed after {:?}", started.elapsed());
    witness.finish();
}

#[test]
fn five_hundred_connections_opened_and_dropped_at_once_leave_nothing_behind() {
    let dir = temp_dir();
    let server = ServerProcess::start(dir.path(), 2, &SHORT);
    let witness = Witness::start(server.address);
    let before = server.descriptors();
    for round in 0..2 {
        let flood: Vec<_> = (0..500)
            .map(|i| {
                let mut stream = open(server.address);
                // The server may be in the middle of anything when the client goes.
                let _ = stream.write_all(&connect_frame()[..[0, 10, 49][(i + round) % 3]]);
                stream
            })
            .collect();
        drop(flood);
    }
    wait_until("all dropped connections are gone", || connections(server.address) == 1);
    wait_until("their descriptors are closed", || server.descriptors() <= before);
    witness.finish();
}

#[test]
fn one_address_gets_no_more_than_its_connections_in_a_flood() {
    let dir = temp_dir();
    let server = ServerProcess::start(dir.path(), 2, &["maxClientCnxns=10"]);
    let witness = Witness::start(server.address);
    let flood: Vec<_> = (0..100).map(|_| open(server.address)).collect();
    let mut served = 0;
    for mut stream in flood.iter().rev() {
        let _ = stream.write_all(&connect_frame());
    }
    for mut stream in &flood {
        served += usize::from(matches!(stream.read(&mut [0; 4]), Ok(4)));
    }
    assert_eq!(served, 9, "the well-behaved client has the tenth place");
    drop(flood);
    witness.finish();
}

#[test]
fn a_flood_leaves_the_server_the_descriptors_that_its_own_files_need() {
    const FLOOD: usize = 200;
    let dir = temp_dir();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 128 && exec \"$0\" \"$@\"", &ServerProcess::binary()]);
    let started = ServerProcess::try_start_by(limited, dir.path(), 0, 1, &["maxClientCnxns=0", "snapCount=10"]);
    let server = started.unwrap_or_else(|(status, log)| panic!("the server did not start ({status}):\n{log}"));
    let mut writer = RawClient::connect(server.address);
    let before = server.descriptors();
    let mut flood: Vec<_> = (0..FLOOD).map(|_| open(server.address)).collect();
    for stream in &mut flood {
        let _ = stream.write_all(&connect_frame());
    }
    let served = flood.iter_mut().map(|stream| usize::from(matches!(stream.read(&mut [0; 4]), Ok(4)))).sum::<usize>();
    assert!((10..FLOOD / 2).contains(&served), "{served} of {FLOOD} were served, and {before} descriptors open before");
    assert!(server.log().contains("open files that are left to clients"), "{}", server.log());
    // The first write of all names the log's file; more of them begin new ones, and snapshots.
    for i in 0..100 {
        assert_eq!(writer.create(&format!("/{i}"), b"", OPEN).err, 0, "{}", server.log());
    }
    let snapshots = || std::fs::read_dir(dir.path().join("version-2")).expect("a directory").flatten();
    let count = || snapshots().filter(|file| file.file_name().to_string_lossy().starts_with("snapshot.")).count();
    wait_until("snapshots are written all the same", || count() > 2);
    drop(flood);
    wait_until("their places are free again", || server.descriptors() <= before + served / 2);
    assert_eq!(RawClient::connect(server.address).create("/late", b"", OPEN).err, 0);
}

#[test]
fn what_follows_the_end_of_a_session_is_neither_answered_nor_done() {
    let dir = temp_dir();
    let server = ServerProcess::start(dir.path(), 1, &SHORT);
    let witness = Witness::start(server.address);
    let mut client = RawClient::connect(server.address);
    assert_eq!(client.create("/before", b"1", OPEN).err, 0);
    let requests = [
        (OpCode::SetData, set_data("/before", b"2", -1)),
        (OpCode::CloseSession, Vec::new()),
        (OpCode::Create, create("/after", b"", OPEN)),
        (OpCode::GetData, path_watch("/before", false)),
    ];
    let first = client.send_all(&requests).expect("sent");
    for i in 0..2 {
        let reply = client.reply().expect("answered");
        assert_eq!((reply.xid, reply.err), (first + i, 0));
    }
    assert!(client.is_closed(), "nothing follows the answer to closeSession");
    let mut other = RawClient::connect(server.address);
    assert_eq!(other.get("/before", false).data().0.as_deref(), Some(&b"2"[..]));
    assert_eq!(other.call(OpCode::Exists, &path_watch("/after", false)).err, -101);
    witness.finish();
}

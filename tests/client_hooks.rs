//! Connections that a program wraps, and credentials that it brings for each of them: as with TLS, without its arithmetic.
#![allow(missing_docs)]

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use zoo::client::{Builder, CreateMode, Error, EventType, ZooClient};
use zoo::server::ZooServer;

/// Longer than anything takes when it works.
const PATIENCE: Duration = Duration::from_secs(60);
/// What everything is veiled with, and what both sides say first.
const VEIL: u8 = 0x5a;
const HELLO: &[u8; 4] = b"veil";
/// What a veiled stream keeps back before it takes no more, and what it takes in and gives out at once: as TLS does with its records.
const KEPT_MAX: usize = 16 << 10;
const RECORD: usize = 4 << 10;
const PIECE: usize = 1_000;

/// Like the stream of a TLS library: it takes bytes that the socket does not take yet, and takes from the socket what nobody has read yet.
struct Veiled {
    socket: TcpStream,
    out: VecDeque<u8>,
    input: VecDeque<u8>,
}

impl Veiled {
    fn push(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            let sent = self.socket.write(self.out.as_slices().0)?;
            self.out.drain(..sent);
        }
        Ok(())
    }
}

impl Write for Veiled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.out.len() >= KEPT_MAX {
            self.push()?;
        }
        let taken = bytes.len().min(KEPT_MAX);
        self.out.extend(bytes[..taken].iter().map(|byte| byte ^ VEIL));
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()
    }
}

impl Read for Veiled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            let mut record = [0; RECORD];
            let bytes = self.socket.read(&mut record)?;
            self.input.extend(record[..bytes].iter().map(|byte| byte ^ VEIL));
        }
        let piece = buffer.len().min(PIECE);
        self.input.read(&mut buffer[..piece])
    }
}

/// Shakes hands and veils what comes after.
fn veil(mut socket: TcpStream) -> io::Result<Veiled> {
    socket.write_all(HELLO)?;
    let mut answer = [0; HELLO.len()];
    socket.read_exact(&mut answer)?;
    if &answer != HELLO {
        return Err(ErrorKind::InvalidData.into());
    }
    Ok(Veiled { socket, out: VecDeque::new(), input: VecDeque::new() })
}

/// Takes the veil off, in front of a server. It serves until the process ends.
fn unveiler(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || drop(unveil(client, server)));
        }
    });
    address
}

fn unveil(mut client: TcpStream, server: SocketAddr) -> io::Result<()> {
    let mut hello = [0; HELLO.len()];
    client.read_exact(&mut hello)?;
    client.write_all(&hello)?;
    let server = TcpStream::connect(server)?;
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || carry(from_client, to_server));
    carry(server, client);
    Ok(())
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        bytes[..count].iter_mut().for_each(|byte| *byte ^= VEIL);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    [from, to].iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
}

fn builder(servers: &str) -> Builder {
    ZooClient::builder(servers).session_timeout(Duration::from_secs(30))
}

fn veiled(servers: &str) -> Builder {
    builder(servers).wrap(|socket, _| Ok(Box::new(veil(socket)?)))
}

#[test]
fn a_client_talks_through_what_the_program_has_made_of_its_connection() {
    let mut server = ZooServer::start().expect("a server");
    let front = unveiler(server.address());
    let c = veiled(&front.to_string()).connect().expect("a session");
    let large: Vec<u8> = (0..900_000u32).map(|i| (i % 251) as u8).collect();
    c.create("/large", &large, CreateMode::Persistent).expect("made");
    let p = c.pipelined();
    let writes: Vec<_> = (0..2_000).map(|i| p.create(&format!("/n{i:04}"), &[7; 200], CreateMode::Persistent)).collect();
    let reads: Vec<_> = (0..20).map(|_| p.get("/large")).collect();
    for (i, write) in writes.into_iter().enumerate() {
        assert_eq!(write.wait(), Ok(format!("/n{i:04}")));
    }
    assert!(reads.into_iter().all(|read| read.wait().is_ok_and(|(data, _)| data == large)));
    let (_, _, mut watch) = c.get_and_watch("/large").expect("there");
    let session = c.session_id();
    server.restart().expect("the same port");
    let other = ZooClient::connect(server.host()).expect("a session without a veil");
    other.set("/large", b"small").expect("set");
    let event = watch.wait_for(PATIENCE).expect("in time").expect("an event");
    assert_eq!((event.kind, c.session_id()), (EventType::NodeDataChanged, session), "also at the next connection");
    assert_eq!(c.get("/large").expect("there").0, b"small");
    c.close().expect("closed");
}

#[test]
fn what_the_program_does_not_trust_is_a_server_that_cannot_be_reached() {
    let server = ZooServer::start().expect("a server");
    let (good, bad) = (unveiler(server.address()), unveiler(server.address()));
    let refuses = move |socket: TcpStream, host: &zoo::client::Host| -> io::Result<Box<dyn zoo::client::Stream>> {
        if host.port == bad.port() { Err(io::Error::other("not its certificate")) } else { Ok(Box::new(veil(socket)?)) }
    };
    for _ in 0..4 {
        let c = builder(&format!("{bad},{good}")).wrap(refuses).connect().expect("the other one is trusted");
        assert_eq!(c.exists("/none"), Ok(None));
        assert_eq!(c.trouble(), None);
    }
    let nobody = builder(&bad.to_string()).wrap(refuses).connect_patience(Duration::from_millis(300)).connect();
    assert_eq!(nobody.map(drop), Err(Error::Unreachable(format!("{bad}: not its certificate"))));
}

#[test]
fn a_handshake_that_nobody_answers_is_given_up_and_leaves_no_thread_behind() {
    let server = ZooServer::start().expect("a server");
    let front = unveiler(server.address());
    // It accepts, by its kernel, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_at = silent.local_addr().expect("bound");
    let (tell, told) = mpsc::channel();
    let shakes = move |socket: TcpStream, host: &zoo::client::Host| -> io::Result<Box<dyn zoo::client::Stream>> {
        let shaken = veil(socket);
        if host.port == silent_at.port() {
            // The test may be over.
            let _ = tell.send(shaken.is_err());
        }
        Ok(Box::new(shaken?))
    };
    let servers = format!("{silent_at},{front}");
    let c = ZooClient::builder(&servers)
        .session_timeout(Duration::from_secs(2))
        .connect_patience(PATIENCE)
        .prefer(&[&silent_at.to_string()])
        .wrap(shakes)
        .connect()
        .expect("a session at the other one");
    assert_eq!(c.exists("/none"), Ok(None));
    assert_eq!(told.recv_timeout(PATIENCE), Ok(true), "the hook was not left waiting");
}

#[test]
fn every_connection_is_given_credentials_of_its_own() {
    let mut server = ZooServer::start().expect("a server");
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = asked.clone();
    let identify = move |_: &zoo::client::Host| {
        let number = counts.fetch_add(1, Ordering::Relaxed);
        Ok(vec![("digest".to_owned(), format!("user{number}:secret").into_bytes())])
    };
    let c = builder(server.host()).auth("digest", b"always:same").auth_by(identify).connect().expect("a session");
    let names = |c: &ZooClient| {
        let digests = c.who_am_i().expect("a list").into_iter().filter(|(scheme, _)| scheme == "digest");
        digests.map(|(_, name)| name).collect::<Vec<_>>()
    };
    let first = names(&c);
    assert_eq!(first.len(), 2, "{first:?}");
    assert!(first.contains(&"always".to_owned()));
    server.restart().expect("the same port");
    let second = names(&c);
    assert!(second.len() == 2 && second.contains(&"always".to_owned()) && second != first, "{first:?}, then {second:?}");
    assert!(asked.load(Ordering::Relaxed) >= 2);
    let fails =
        builder(server.host()).auth_by(|_| Err(io::Error::other("no ticket"))).connect_patience(Duration::from_millis(300)).connect();
    assert_eq!(fails.map(drop), Err(Error::Unreachable(format!("{}: no ticket", server.host()))));
    let refused = builder(server.host()).auth_by(|_| Ok(vec![("nonsense".to_owned(), b"x".to_vec())])).start().expect("it begins");
    assert_eq!(refused.exists("/none"), Err(Error::AuthFailed), "before anything is asked");
    let shown = format!("{:?}", builder("a").auth("digest", b"user:secret"));
    assert!(shown.contains("digest") && !shown.contains("secret") && !shown.contains(&format!("{:?}", b"user:secret")), "{shown}");
}

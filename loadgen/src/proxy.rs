//! A proxy between servers that can make single links slow: bytes leave in the order they came, each so much later.
//!
//! Plain threads, two for each direction of a connection: one reads and notes when, the other waits and writes.

use std::io::{self, BufRead, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Most bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks under way in one direction; a sender that is further ahead waits, as on a real network whose pipe is full.
const CHUNKS_MAX: usize = 256;
/// Wait for the server behind the proxy.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Where a link begins and ends, and what it is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkSpec {
    /// Several links may have the same name.
    pub name: String,
    /// Where the proxy listens.
    pub listen: SocketAddr,
    /// Where it connects to.
    pub target: SocketAddr,
}

impl FromStr for LinkSpec {
    type Err = String;

    /// `NAME=LISTEN=TARGET`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not NAME=HOST:PORT=HOST:PORT");
        let mut parts = text.split('=');
        let (Some(name), Some(listen), Some(target), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(wrong());
        };
        let (Ok(listen), Ok(target)) = (listen.parse(), target.parse()) else { return Err(wrong()) };
        Ok(LinkSpec { name: name.to_owned(), listen, target })
    }
}

/// A link that is open, and how slow it is.
#[derive(Debug)]
struct Link {
    name: String,
    delay_us: Arc<AtomicU64>,
}

/// Opens every link and obeys `commands` until their end: `delay NAME MILLISECONDS` makes each direction of the links of that name so slow.
pub fn run_proxy(specs: &[LinkSpec], commands: impl BufRead) -> Result<(), String> {
    let links: Vec<Link> = specs.iter().map(|spec| open(spec).map_err(|e| format!("{}: {e}", spec.listen))).collect::<Result<_, _>>()?;
    for line in commands.lines() {
        let line = line.map_err(|e| e.to_string())?;
        obey(&links, &line)?;
    }
    Ok(())
}

fn obey(links: &[Link], line: &str) -> Result<(), String> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let ["delay", name, ms] = words[..] else { return Err(format!("{line:?} is not \"delay NAME MILLISECONDS\"")) };
    let ms: u64 = ms.parse().map_err(|_| format!("{ms:?} is no number of milliseconds"))?;
    let named = || links.iter().filter(|l| l.name == name);
    named().next().ok_or_else(|| format!("there is no link {name:?}"))?;
    named().for_each(|link| link.delay_us.store(ms.saturating_mul(1_000), Relaxed));
    Ok(())
}

fn open(spec: &LinkSpec) -> io::Result<Link> {
    let listener = TcpListener::bind(spec.listen)?;
    let delay_us = Arc::new(AtomicU64::new(0));
    let (delay, target) = (Arc::clone(&delay_us), spec.target);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let delay = Arc::clone(&delay);
            thread::spawn(move || {
                // A server that is not there ends the client's connection: more a proxy cannot say.
                if let Ok(server) = TcpStream::connect_timeout(&target, CONNECT_LIMIT) {
                    let _ = join(client, server, &delay);
                }
            });
        }
    });
    Ok(Link { name: spec.name.clone(), delay_us })
}

fn join(a: TcpStream, b: TcpStream, delay: &Arc<AtomicU64>) -> io::Result<()> {
    for (from, to) in [(a.try_clone()?, b.try_clone()?), (b, a)] {
        to.set_nodelay(true)?;
        let (sender, receiver) = sync_channel(CHUNKS_MAX);
        let delay = Arc::clone(delay);
        thread::spawn(move || take_in(from, &sender, &delay));
        thread::spawn(move || give_out(to, &receiver));
    }
    Ok(())
}

/// When it is due, and what; nothing is the end of the stream.
type Chunk = (Instant, Vec<u8>);

fn take_in(mut from: TcpStream, sender: &SyncSender<Chunk>, delay: &AtomicU64) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        // An error is an end, too: both are passed on as one.
        let n = from.read(&mut buffer).unwrap_or(0);
        let due = Instant::now() + Duration::from_micros(delay.load(Relaxed));
        if sender.send((due, buffer[..n].to_vec())).is_err() || n == 0 {
            return;
        }
    }
}

fn give_out(mut to: TcpStream, receiver: &Receiver<Chunk>) {
    for (due, bytes) in receiver {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if bytes.is_empty() {
            // The other side may be gone already.
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
        if to.write_all(&bytes).is_err() {
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Echoes one connection until its end.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            io::copy(&mut stream.try_clone().expect("a socket"), &mut stream).expect("echoed");
        });
        addr
    }

    fn free_addr() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port")
    }

    #[test]
    fn bytes_pass_in_order_each_way_as_late_as_asked_and_so_does_the_end() {
        let spec = LinkSpec { name: "l".to_owned(), listen: free_addr(), target: echo() };
        let links = [open(&spec).expect("opened")];
        let mut client = TcpStream::connect(spec.listen).expect("connected");
        let mut round_trip = |bytes: &[u8]| {
            let (started, mut back) = (Instant::now(), vec![0; bytes.len()]);
            client.write_all(bytes).expect("sent");
            client.read_exact(&mut back).expect("received");
            assert_eq!(back, bytes);
            started.elapsed()
        };
        let long: Vec<u8> = (0..3 * CHUNK_BYTES).map(|i| i as u8).collect();
        round_trip(&long);
        obey(&links, "delay l 60").expect("understood");
        assert!(round_trip(b"slow") >= Duration::from_millis(120));
        obey(&links, "delay l 0").expect("understood");
        round_trip(&long);
        client.shutdown(Shutdown::Write).expect("open");
        assert_eq!(client.read(&mut [0]).expect("the end"), 0);
    }

    #[test]
    fn a_server_that_is_not_there_ends_the_connection() {
        let spec = LinkSpec { name: "l".to_owned(), listen: free_addr(), target: free_addr() };
        open(&spec).expect("opened");
        let mut client = TcpStream::connect(spec.listen).expect("the proxy takes it");
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    }

    #[test]
    fn commands_and_links_that_make_no_sense_are_refused() {
        let spec: LinkSpec = "a=127.0.0.1:1=127.0.0.1:2".parse().expect("valid");
        assert_eq!((spec.name.as_str(), spec.listen.port(), spec.target.port()), ("a", 1, 2));
        for bad in ["", "a=1=2", "127.0.0.1:1=127.0.0.1:2", "a=127.0.0.1:1=127.0.0.1:2=3"] {
            assert!(bad.parse::<LinkSpec>().is_err(), "{bad}");
        }
        let links = [Link { name: "a".to_owned(), delay_us: Arc::default() }];
        assert!(obey(&links, "delay a 7").is_ok() && links[0].delay_us.load(Relaxed) == 7_000);
        for bad in ["delay b 1", "delay a x", "slow a 1", "delay a"] {
            assert!(obey(&links, bad).is_err(), "{bad}");
        }
    }
}

//! What clients notice when 1,000 connections of one shard are spread over two while all of them are in use.
//!
//! `cargo bench --bench rebalance [-- --rounds N]`. A server with two shards inside this program; connections are dealt in turn, and every other one is closed
//! again, so that all that are left are on one shard. Each writes its own node and reads it back, two requests at a time, and knows exactly what must come: an
//! answer that is lost, doubled, out of order or another connection's ends the program. Latencies are told of three kinds of time: before the first connection
//! moves, around the moves, which come in bursts, and between and after these.
//!
//! One round says little of a tail: it is the machine's as much as the server's. So there are several, each with a server of its own, and beside the ratio of the
//! time around moves to the rest stands that of equally long times half-way between moves, which differ from the rest by nothing but chance.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use zoo::base::{Reader, Stat, Writer};
use zoo::client::ZooClient;
use zoo::proto::OpCode;
use zoo::proto::connect::{ConnectRequest, ConnectResponse};
use zoo::proto::response::ReplyHeader;
use zoo::server::ZooServer;

const ROUNDS: usize = 7;
const CONNECTIONS: usize = 1_000;
const IN_TEST: usize = 40;
/// Each drives its share of the connections, one after another.
const THREADS: usize = 4;
const SHARDS: u16 = 2;
/// How often the server looks whether connections are to move. It takes two looks to begin, and moves 64 at the most by each.
const INTERVAL: Duration = Duration::from_secs(1);
/// Without a further move for so many looks it is over.
const QUIET: u32 = 5;
/// How often it is asked how many have moved.
const POLL: Duration = Duration::from_millis(5);
/// An answer counts as one around a move when it was under way so long before a move was seen, or came so long afterwards.
const AROUND: Duration = Duration::from_millis(50);
const SESSION_TIMEOUT_MS: i32 = 600_000;

/// When an answer was complete, and how long it took.
type Timed = (Instant, Duration);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let is_measured = args.iter().any(|a| a == "--bench");
    let rounds =
        args.iter().position(|a| a == "--rounds").and_then(|at| args.get(at + 1)).map_or(ROUNDS, |n| n.parse().expect("a number")).max(1);
    let (connections, interval, rounds) = if is_measured { (CONNECTIONS, INTERVAL, rounds) } else { (IN_TEST, INTERVAL / 10, 1) };
    let (of_moves, of_chance): (Vec<f64>, Vec<f64>) = (0..rounds).map(|_| round(connections, interval)).unzip();
    for (what, mut ratios) in [("around moves to the rest", of_moves), ("half-way between moves to the rest", of_chance)] {
        ratios.sort_unstable_by(f64::total_cmp);
        let (least, middle, most) = (ratios[0], ratios[ratios.len() / 2], ratios[ratios.len() - 1]);
        println!("p99.9, {what}: {middle:.2} times in the middle of {rounds} rounds ({least:.2} to {most:.2})");
    }
}

/// The p99.9 around moves by that of the rest, and that half-way between moves likewise.
fn round(connections: usize, interval: Duration) -> (f64, f64) {
    let server = server(interval);
    let setup = ZooClient::connect(server.host()).expect("a session");
    setup.ensure("/r").expect("made");
    let all: Vec<Connection> = (0..2 * connections).map(|number| Connection::new(server.address(), number)).collect();
    let mut left: Vec<Connection> = all.into_iter().step_by(usize::from(SHARDS)).collect();
    left.iter_mut().for_each(Connection::create);
    let is_over = &AtomicBool::new(false);
    let (mut moves_at, mut moves, mut timed) = (Vec::new(), 0, Vec::new());
    std::thread::scope(|scope| {
        let workers: Vec<_> = left.chunks_mut(connections.div_ceil(THREADS)).map(|some| scope.spawn(|| work(some, is_over))).collect();
        while moves_at.last().is_none_or(|last: &Instant| last.elapsed() < QUIET * interval) {
            let moved = moved(server.address());
            if moved > moves {
                moves = moved;
                moves_at.push(Instant::now());
            }
            std::thread::sleep(POLL);
        }
        is_over.store(true, Ordering::Relaxed);
        workers.into_iter().for_each(|worker| timed.extend(worker.join().expect("every answer was as it must be")));
    });
    println!("{moves} of {connections} connections moved, {} answers, each as it must be", 2 * timed.len());
    let nothing_at: Vec<Instant> = moves_at.iter().map(|at| *at - interval / 2).collect();
    let mut kinds = [Vec::new(), Vec::new(), Vec::new()];
    let (mut around_nothing, mut rest) = (Vec::new(), Vec::new());
    for (end, took) in timed {
        let is_around = |at: &Instant| end - took < *at + AROUND && *at < end + AROUND;
        if moves_at.iter().any(is_around) {
            kinds[1].push(took);
            continue;
        }
        kinds[2 * usize::from(end > moves_at[0])].push(took);
        if nothing_at.iter().any(is_around) { &mut around_nothing } else { &mut rest }.push(took);
    }
    for (name, all) in ["before", "while connections move", "otherwise"].iter().zip(&mut kinds) {
        println!("{name:24} {:8} pairs: {}", all.len(), shown(all));
    }
    let of_rest = us(&mut rest, 0.999);
    (us(&mut kinds[1], 0.999) / of_rest, us(&mut around_nothing, 0.999) / of_rest)
}

fn server(interval: Duration) -> ZooServer {
    ZooServer::builder()
        .shards(SHARDS)
        .set("zoo.rebalanceInterval", interval.as_millis())
        .set("maxClientCnxns", 0)
        .set("4lw.commands.whitelist", "mntr")
        .session_timeouts(Duration::from_secs(1), Duration::from_secs(600))
        .force_sync(false)
        .start()
        .expect("a server")
}

fn us(all: &mut [Duration], q: f64) -> f64 {
    all.sort_unstable();
    all.get((all.len().saturating_sub(1) as f64 * q) as usize).map_or(0.0, |d| d.as_secs_f64() * 1e6)
}

fn shown(all: &mut [Duration]) -> String {
    let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|q| us(all, q));
    format!("p50 {p50:7.0} µs, p99 {p99:7.0} µs, p99.9 {p999:7.0} µs, longest {max:7.0} µs")
}

fn moved(server: SocketAddr) -> usize {
    let mut stream = TcpStream::connect(server).expect("the server listens");
    stream.write_all(b"mntr").expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it answers");
    let line = text.lines().find_map(|line| line.strip_prefix("zk_zoo_connections_moved"));
    line.and_then(|number| number.trim().parse().ok()).expect("mntr tells")
}

fn work(connections: &mut [Connection], is_over: &AtomicBool) -> Vec<Timed> {
    let mut timed = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        for connection in &mut *connections {
            let took = connection.write_and_read();
            timed.push((Instant::now(), took));
        }
    }
    timed
}

struct Connection {
    stream: TcpStream,
    path: String,
    xid: i32,
    written: i32,
}

impl Connection {
    fn new(server: SocketAddr, number: usize) -> Self {
        let mut stream = TcpStream::connect(server).expect("the server listens");
        stream.set_nodelay(true).expect("TCP");
        let mut hello = Vec::new();
        ConnectRequest::new_session(SESSION_TIMEOUT_MS).write_frame(&mut hello);
        stream.write_all(&hello).expect("it reads");
        let mut connection = Connection { stream, path: format!("/r/{number}"), xid: 0, written: 0 };
        assert!(ConnectResponse::decode(&connection.frame()).is_ok_and(|response| response.timeout_ms > 0));
        connection
    }

    fn create(&mut self) {
        let mut request = Vec::new();
        let path = self.path.clone();
        let xid = self.request(&mut request, OpCode::Create, |body| {
            body.put_string(&path);
            body.put_buffer(Some(b""));
            body.put_len(1);
            body.put_i32(31);
            body.put_string("world");
            body.put_string("anyone");
            body.put_i32(0);
        });
        self.stream.write_all(&request).expect("it reads");
        self.answer(xid);
    }

    fn write_and_read(&mut self) -> Duration {
        let (path, value, version) = (self.path.clone(), format!("{}:{}", self.path, self.written), self.written);
        let mut requests = Vec::new();
        let set = self.request(&mut requests, OpCode::SetData, |body| {
            body.put_string(&path);
            body.put_buffer(Some(value.as_bytes()));
            body.put_i32(version);
        });
        let get = self.request(&mut requests, OpCode::GetData, |body| {
            body.put_string(&path);
            body.put_bool(false);
        });
        let begun = Instant::now();
        self.stream.write_all(&requests).expect("it reads");
        let stat = self.answer(set);
        self.written += 1;
        assert_eq!(Stat::read(&mut Reader::new(&stat)).expect("a stat").version, self.written, "{path}");
        let found = self.answer(get);
        assert_eq!(Reader::new(&found).buffer(), Ok(Some(value.as_bytes())), "{path}");
        begun.elapsed()
    }

    fn request(&mut self, out: &mut Vec<u8>, op: OpCode, body: impl FnOnce(&mut Vec<u8>)) -> i32 {
        self.xid += 1;
        let mut payload = Vec::new();
        payload.put_i32(self.xid);
        payload.put_i32(op as i32);
        body(&mut payload);
        out.put_len(payload.len());
        out.put_raw(&payload);
        self.xid
    }

    /// The body of the answer that must come next.
    fn answer(&mut self, xid: i32) -> Vec<u8> {
        let frame = self.frame();
        let mut reader = Reader::new(&frame);
        let header = ReplyHeader::read(&mut reader).expect("a header");
        assert_eq!((header.xid.0, header.err), (xid, 0), "{}", self.path);
        reader.remaining().to_vec()
    }

    fn frame(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("the connection stays");
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).expect("the connection stays");
        frame
    }
}

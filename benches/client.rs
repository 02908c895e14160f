//! What `ZooClient` costs: pipelined getData against the bare server of `echo`, beside a loop that does nothing but write requests and
//! check the answers' headers, which is what no client can do without.
//!
//! `cargo bench --bench client` starts that server as a process of its own, on another core if there is one, and keeps itself to one core,
//! the client's thread included. `-- --server 127.0.0.1:7001` takes one that runs (`cargo bench --bench echo -- --listen …`), so that `loadgen run` can be
//! shown the same. CPU is that of this process, by the replies it got.

#[path = "support/echo.rs"]
mod support;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use zoo::base::{Reader, Writer};
use zoo::client::{Pending, Pipelined, Stat, ZooClient};
use zoo::proto::OpCode;
use zoo::proto::connect::{ConnectRequest, ConnectResponse};
use zoo::proto::response::ReplyHeader;

const VALUE_BYTES: usize = 100;
const PATH: &str = "/loadgen/keys/k0000000";
/// Requests on their way at once.
const DEPTHS: [usize; 3] = [1024, 64, 1];
/// How long each figure is measured, and how long the program goes on before that.
const MEASURED: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(200);
/// When it only has to be shown that the program works.
const IN_TEST: Duration = Duration::from_millis(5);
/// Rounds over all figures; the median of each is told.
const ROUNDS: usize = 5;
/// Calls in a row before anybody looks at the time.
const STRETCH: usize = 2048;

type Way<'a> = (&'static str, Box<dyn FnMut(usize, usize) + 'a>);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|a| a == "--serve") {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        println!("{}", listener.local_addr().expect("bound"));
        std::thread::spawn(|| {
            // Whoever started this is gone, however it ended.
            drop(std::io::stdin().read_to_end(&mut Vec::new()));
            std::process::exit(0);
        });
        return support::serve(listener, VALUE_BYTES);
    }
    let is_measured = args.iter().any(|a| a == "--bench");
    let given = args.iter().position(|a| a == "--server").and_then(|at| args.get(at + 1)).cloned();
    let own = if given.is_none() { Some(Echo::start()) } else { None };
    let server = given.unwrap_or_else(|| own.as_ref().map(|echo| echo.address.clone()).unwrap_or_default());
    keep_to_core(0);
    let client = ZooClient::connect(&server).expect("a session");
    let p = client.pipelined();
    let mut bare = Bare::connect(&server);
    let mut ways: [Way; 3] = [
        ("no client: one thread, requests written and headers checked", Box::new(|depth, count| bare.exchange(depth, count))),
        ("ZooClient, answers waited for", Box::new(|depth, count| waited(p, depth, count))),
        ("ZooClient, answers as futures", Box::new(|depth, count| awaited(p, depth, count))),
    ];
    for depth in DEPTHS {
        let mut figures = vec![Vec::new(); ways.len()];
        for _ in 0..if is_measured { ROUNDS } else { 1 } {
            for ((_, way), figures) in ways.iter_mut().zip(&mut figures) {
                if is_measured {
                    let _ = measure(WARM_UP, depth, way);
                }
                figures.push(measure(if is_measured { MEASURED } else { IN_TEST }, depth, way));
            }
        }
        println!("getData of {VALUE_BYTES} B, {depth} in flight, median of {} [lowest–highest]:", figures[0].len());
        for ((name, _), mut runs) in ways.iter().zip(figures) {
            runs.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (cpu, rate) = runs[runs.len() / 2];
            println!("  {name:62} {cpu:6.3} [{:.3}–{:.3}] µs of CPU, {rate:10.0}/s", runs[0].0, runs[runs.len() - 1].0);
        }
    }
}

/// Microseconds of CPU of this process for each call, and calls a second.
fn measure(duration: Duration, depth: usize, way: &mut dyn FnMut(usize, usize)) -> (f64, f64) {
    let (cpu_before, begun, mut calls) = (cpu_time(), Instant::now(), 0);
    // A single request in flight takes its time.
    let stretch = STRETCH.min(depth * 64);
    while begun.elapsed() < duration {
        way(depth, stretch);
        calls += stretch;
    }
    let (cpu, took) = (cpu_time() - cpu_before, begun.elapsed());
    (cpu.as_secs_f64() * 1e6 / calls as f64, calls as f64 / took.as_secs_f64())
}

fn cpu_time() -> Duration {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// The core of this number among those that this process may use, if there are so many; threads that begin later inherit it.
fn keep_to_core(number: usize) {
    let Ok(all) = sched_getaffinity(None) else { return };
    let mut usable = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu));
    if let Some(cpu) = usable.nth(number) {
        let mut one = CpuSet::new();
        one.set(cpu);
        // Where it is not allowed, the figures are those of several cores.
        let _ = sched_setaffinity(None, &one);
    }
}

/// The bare server, in a process of its own.
struct Echo {
    process: Child,
    address: String,
}

impl Echo {
    fn start() -> Self {
        let all = sched_getaffinity(None);
        keep_to_core(1);
        let program = std::env::current_exe().expect("this program");
        let mut process =
            Command::new(program).arg("--serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs once more");
        if let Ok(all) = all {
            let _ = sched_setaffinity(None, &all);
        }
        let mut address = String::new();
        let output = process.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut address).expect("it tells where it listens");
        Echo { process, address: address.trim().to_owned() }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What is asked by whoever has much to ask: topped up in halves.
struct Asked<'a> {
    p: Pipelined<'a>,
    depth: usize,
    left: usize,
    pending: VecDeque<Pending<(Vec<u8>, Stat)>>,
}

impl<'a> Asked<'a> {
    fn new(p: Pipelined<'a>, depth: usize, count: usize) -> Self {
        Asked { p, depth, left: count, pending: VecDeque::with_capacity(depth) }
    }

    /// The oldest that was asked.
    fn next(&mut self) -> Option<Pending<(Vec<u8>, Stat)>> {
        if self.pending.len() <= self.depth / 2 {
            while self.pending.len() < self.depth && self.left > 0 {
                self.pending.push_back(self.p.get(PATH));
                self.left -= 1;
            }
        }
        self.pending.pop_front()
    }
}

/// Each answer is waited for by the thread that asked.
fn waited(p: Pipelined<'_>, depth: usize, count: usize) {
    let mut asked = Asked::new(p, depth, count);
    while let Some(answer) = asked.next() {
        assert_eq!(answer.wait().expect("an answer").0.len(), VALUE_BYTES);
    }
}

/// The same as one task of a runtime, which runs on this thread.
fn awaited(p: Pipelined<'_>, depth: usize, count: usize) {
    run(async {
        let mut asked = Asked::new(p, depth, count);
        while let Some(answer) = asked.next() {
            assert_eq!(answer.await.expect("an answer").0.len(), VALUE_BYTES);
        }
    });
}

/// The least of runtimes: one task, one thread that sleeps while it waits.
fn run(task: impl Future<Output = ()>) {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut task = pin!(task);
    while task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        std::thread::park();
    }
}

/// A session without a client.
struct Bare {
    stream: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
    start: usize,
    end: usize,
    body: Vec<u8>,
    xid: i32,
}

impl Bare {
    fn connect(server: &str) -> Self {
        let stream = TcpStream::connect(server).expect("the server listens");
        stream.set_nodelay(true).expect("TCP");
        let mut body = Vec::new();
        body.put_string(PATH);
        body.put_bool(false);
        let mut bare = Bare { stream, out: Vec::new(), input: vec![0; 64 << 10], start: 0, end: 0, body, xid: 0 };
        ConnectRequest::new_session(30_000).write_frame(&mut bare.out);
        bare.flush();
        bare.next(|frame| assert!(ConnectResponse::decode(frame).is_ok_and(|r| r.timeout_ms > 0)));
        bare
    }

    fn exchange(&mut self, depth: usize, count: usize) {
        let (mut asked, mut answered, first) = (0, 0, self.xid + 1);
        while answered < count {
            if asked - answered <= depth / 2 {
                while asked < count && asked - answered < depth {
                    self.xid += 1;
                    self.out.put_len(8 + self.body.len());
                    self.out.put_i32(self.xid);
                    self.out.put_i32(OpCode::GetData as i32);
                    self.out.put_raw(&self.body);
                    asked += 1;
                }
                self.flush();
            }
            self.next(|frame| {
                let header = ReplyHeader::read(&mut Reader::new(frame)).expect("a header");
                assert_eq!((header.xid.0, header.err), (first + answered as i32, 0));
            });
            answered += 1;
        }
    }

    fn flush(&mut self) {
        self.stream.write_all(&self.out).expect("the server reads");
        self.out.clear();
    }

    fn next(&mut self, check: impl FnOnce(&[u8])) {
        loop {
            if let Some(head) = self.input[self.start..self.end].first_chunk::<4>() {
                let end = self.start + 4 + u32::from_be_bytes(*head) as usize;
                if end <= self.end {
                    check(&self.input[self.start + 4..end]);
                    self.start = end;
                    return;
                }
            }
            if self.end == self.input.len() {
                self.input.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            let bytes = self.stream.read(&mut self.input[self.end..]).expect("the server answers");
            assert!(bytes > 0, "the server closed");
            self.end += bytes;
        }
    }
}

//! A bare glommio server that answers with frames of the right size and does nothing else.
//!
//! One executor, one task per connection, the shape the real server has: one receive, all frames in it, one send. A getData with a
//! watch is remembered, and the next setData of anything sends an event to all of these: one frame, as many sends.

use glommio::io::PollableFd;
use glommio::{LocalExecutorBuilder, Placement};
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;
use zoo::base::{Reader, SessionId, Stat, Writer};
use zoo::proto::connect::{ConnectRequest, ConnectResponse};
use zoo::proto::event::write_notification;
use zoo::proto::{ErrorCode, EventType, OpCode};

/// As the server's executors.
const IO_MEMORY: usize = 64 << 10;
const RING_DEPTH: usize = 128;
/// Never, as there: an executor that is pre-empted before its first task has run sleeps with work to do.
const PREEMPT_TIMER: Duration = Duration::from_secs(24 * 3600);
/// Receive buffer of a connection.
const BUFFER_BYTES: usize = 64 << 10;

/// Serves until the process ends.
pub fn serve(listener: TcpListener, value_size: usize) {
    listener.set_nonblocking(true).expect("a listener can be non-blocking");
    LocalExecutorBuilder::new(Placement::Unbound)
        .name("echo")
        .io_memory(IO_MEMORY)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        .spawn(move || async move {
            let listener = PollableFd::new(listener).expect("inside an executor");
            let watchers = Rc::new(RefCell::new(Vec::new()));
            loop {
                match listener.get_ref().accept() {
                    Ok((stream, _)) => {
                        drop(glommio::spawn_local(connection(stream, Answers::new(value_size), watchers.clone())).detach());
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => listener.readable().await.expect("poll a listener"),
                    Err(e) => panic!("accept: {e}"),
                }
            }
        })
        .expect("io_uring is available")
        .join()
        .expect("the executor does not panic");
}

type Watchers = Rc<RefCell<Vec<Rc<PollableFd<TcpStream>>>>>;

async fn connection(stream: TcpStream, answers: Answers, watchers: Watchers) {
    if stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true)).is_err() {
        return;
    }
    let Ok(socket) = PollableFd::new(stream).map(Rc::new) else { return };
    let (mut input, mut filled, mut output, mut connected) = (vec![0u8; BUFFER_BYTES], 0, Vec::with_capacity(BUFFER_BYTES), false);
    loop {
        if socket.readable().await.is_err() {
            return;
        }
        match socket.get_ref().read(&mut input[filled..]) {
            Ok(0) => return,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        }
        let mut at = 0;
        let mut ends = false;
        while let Some(head) = input[at..filled].first_chunk::<4>() {
            let end = at + 4 + u32::from_be_bytes(*head) as usize;
            assert!(end - at <= BUFFER_BYTES, "frames of this program's clients fit the buffer");
            if end > filled {
                break;
            }
            let frame = &input[at + 4..end];
            if connected {
                watch(frame, &socket, &watchers);
            }
            ends |= answers.answer(frame, &mut connected, &mut output);
            at = end;
        }
        input.copy_within(at..filled, 0);
        filled -= at;
        if send_all(&socket, &output).await.is_err() || ends {
            return;
        }
        output.clear();
    }
}

/// Remembers who watches, and tells all of them when something is set.
fn watch(frame: &[u8], socket: &Rc<PollableFd<TcpStream>>, watchers: &Watchers) {
    let mut r = Reader::new(frame);
    let op = r.i32().and_then(|_xid| r.i32()).ok().and_then(OpCode::from_i32);
    let path = r.string().unwrap_or_default();
    match op {
        Some(OpCode::GetData) if r.bool() == Ok(true) => watchers.borrow_mut().push(socket.clone()),
        Some(OpCode::SetData) => {
            let mut event = Vec::new();
            write_notification(&mut event, 0, EventType::NodeDataChanged, path);
            for watcher in watchers.borrow_mut().drain(..) {
                // A client that is gone hears nothing; one that does not read for so long is not one of this program's.
                drop(watcher.get_ref().write(&event));
            }
        }
        _ => {}
    }
}

async fn send_all(socket: &PollableFd<TcpStream>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.get_ref().write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => socket.writable().await.map_err(io::Error::other)?,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Bodies made beforehand.
struct Answers {
    get: Vec<u8>,
    stat: Vec<u8>,
}

impl Answers {
    fn new(value_size: usize) -> Self {
        let stat = Stat { data_length: value_size as i32, ..Stat::default() };
        let (mut get, mut only_stat) = (Vec::new(), Vec::new());
        get.put_buffer(Some(&vec![b'v'; value_size]));
        stat.write(&mut get);
        stat.write(&mut only_stat);
        Answers { get, stat: only_stat }
    }

    /// Appends the answer to one frame; true when it asks to close the session.
    fn answer(&self, frame: &[u8], connected: &mut bool, out: &mut Vec<u8>) -> bool {
        let mut r = Reader::new(frame);
        if !std::mem::replace(connected, true) {
            let request = ConnectRequest::decode(frame).expect("clients of this program are well behaved");
            ConnectResponse { timeout_ms: request.timeout_ms, session: SessionId(1), password: [0; 16], read_only: Some(false) }
                .write_frame(out);
            return false;
        }
        let (xid, op) = (r.i32().expect("a header"), r.i32().expect("a header"));
        let (err, body) = match OpCode::from_i32(op) {
            Some(OpCode::GetData) => (0, &self.get[..]),
            Some(OpCode::SetData | OpCode::Exists) => (0, &self.stat[..]),
            // The path comes back as it came, length included.
            Some(OpCode::Create) => (0, r.remaining().get(..4 + r.string().map_or(0, str::len)).unwrap_or_default()),
            Some(OpCode::GetChildren | OpCode::GetChildren2) => (ErrorCode::NoNode.code(), &[][..]),
            _ => (0, &[][..]),
        };
        out.put_len(16 + body.len());
        out.put_i32(xid);
        out.put_i64(0);
        out.put_i32(err);
        out.put_raw(body);
        op == OpCode::CloseSession as i32
    }
}

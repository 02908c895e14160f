//! A lean gRPC client beneath a session, so that the same loop, the same checks and the same figures serve for etcd: requests of the ZooKeeper
//! protocol go in, what etcd is asked instead goes out over HTTP/2, and its answers come back as replies. getData becomes a serializable Range (from the
//! server's own memory, as a read of ZooKeeper is), create and setData become Put.
//!
//! No header is compressed beyond the static table and none of etcd's is read: a stream that ends without a message was an error, and ends the run. Replies
//! are handed on in the order of the requests, as ZooKeeper's come; one that overtook another waits for it.

use crate::connection::Failure;
use std::collections::{HashMap, VecDeque};
use zoo::base::{Reader, Stat, Writer};
use zoo::proto::OpCode;

/// Largest value that can be asked for or written: a request has to fit the window of its stream.
pub const VALUE_BYTES_MAX: usize = 32 << 10;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
/// Longer frames were not agreed to.
const FRAME_BYTES_MAX: usize = 1 << 20;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
/// Flags.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const INITIAL_WINDOW_SIZE: u16 = 4;
const WINDOW_START: i64 = 65_535;
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// So many received bytes are given back to the server's window at once.
const WINDOW_GIVE_BACK: u32 = 1 << 30;
/// Of a message in front of which gRPC writes whether it is compressed, and its length.
const GRPC_HEAD: usize = 5;

/// A request whose answer is awaited.
#[derive(Debug)]
struct Asked {
    xid: i32,
    /// 0 for what an HTTP/2 ping stands for.
    stream: u32,
    op: OpCode,
    /// Of a value that was written.
    length: usize,
    reply: Option<Vec<u8>>,
}

/// One connection.
#[derive(Debug)]
pub struct Wire {
    /// For the socket.
    pub out: Vec<u8>,
    received: Vec<u8>,
    authority: String,
    next_stream: u32,
    /// Bytes of messages the server still takes; headers are not counted.
    window: i64,
    /// Requests it does not take yet, and how much of them is a message.
    waiting: VecDeque<(Vec<u8>, i64)>,
    asked: VecDeque<Asked>,
    messages: HashMap<u32, Vec<u8>>,
    consumed: u32,
}

impl Wire {
    /// Of a connection to this host and port; its first words are ready to be sent.
    pub fn new(authority: String) -> Self {
        let mut out = PREFACE.to_vec();
        let mut settings = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        settings.extend(WINDOW_MAX.to_be_bytes());
        frame(&mut out, SETTINGS, 0, 0, &settings);
        frame(&mut out, WINDOW_UPDATE, 0, 0, &(WINDOW_MAX - WINDOW_START as u32).to_be_bytes());
        Wire {
            out,
            received: Vec::new(),
            authority,
            next_stream: 1,
            window: WINDOW_START,
            waiting: VecDeque::new(),
            asked: VecDeque::new(),
            messages: HashMap::new(),
            consumed: 0,
        }
    }

    /// Takes whole request frames of the ZooKeeper protocol.
    pub fn ask(&mut self, requests: &[u8]) -> Result<(), Failure> {
        let mut r = Reader::new(requests);
        while !r.is_empty() {
            let request = r.buffer()?.unwrap_or_default();
            self.ask_one(&mut Reader::new(request))?;
        }
        self.send_waiting();
        Ok(())
    }

    fn ask_one(&mut self, r: &mut Reader<'_>) -> Result<(), Failure> {
        let (xid, number) = (r.i32()?, r.i32()?);
        let op = OpCode::from_i32(number).ok_or_else(|| Failure::Mismatch(format!("operation {number}")))?;
        let (mut message, mut length) = (Vec::new(), 0);
        let method = match op {
            OpCode::GetData => {
                field(&mut message, 1, r.string()?.as_bytes());
                // serializable = true
                message.extend([7 << 3, 1]);
                "Range"
            }
            OpCode::Create | OpCode::SetData => {
                field(&mut message, 1, r.string()?.as_bytes());
                let value = r.buffer()?.unwrap_or_default();
                field(&mut message, 2, value);
                length = value.len();
                "Put"
            }
            OpCode::Delete => {
                field(&mut message, 1, r.string()?.as_bytes());
                "DeleteRange"
            }
            OpCode::Ping | OpCode::Sync | OpCode::CloseSession | OpCode::GetChildren => {
                frame(&mut self.out, PING, 0, 0, &[0; 8]);
                self.asked.push_back(Asked { xid, stream: 0, op, length, reply: None });
                return Ok(());
            }
            _ => return Err(Failure::Mismatch(format!("etcd cannot be asked for {op:?}"))),
        };
        let stream = self.next_stream;
        self.next_stream += 2;
        self.waiting.push_back((self.request(stream, method, &message), (GRPC_HEAD + message.len()) as i64));
        self.asked.push_back(Asked { xid, stream, op, length, reply: None });
        Ok(())
    }

    fn request(&self, stream: u32, method: &str, message: &[u8]) -> Vec<u8> {
        // POST and http of the static table; the others in full, by the table's names where it has them.
        let mut headers = vec![0x83, 0x86];
        literal(&mut headers, &[0x04], &format!("/etcdserverpb.KV/{method}"));
        literal(&mut headers, &[0x01], &self.authority);
        literal(&mut headers, &[0x0f, 0x10], "application/grpc");
        literal(&mut headers, &[0x00, 2, b't', b'e'], "trailers");
        let mut data = vec![0];
        data.extend((message.len() as u32).to_be_bytes());
        data.extend(message);
        let mut bytes = Vec::with_capacity(2 * FRAME_HEAD + headers.len() + data.len());
        frame(&mut bytes, HEADERS, END_HEADERS, stream, &headers);
        frame(&mut bytes, DATA, END_STREAM, stream, &data);
        bytes
    }

    /// As much as the server's window takes.
    fn send_waiting(&mut self) {
        while let Some((bytes, counted)) = self.waiting.front()
            && self.window >= *counted
        {
            self.window -= counted;
            self.out.extend(bytes);
            self.waiting.pop_front();
        }
    }

    /// Takes bytes of the server, and appends the replies that are complete, as frames.
    pub fn take(&mut self, bytes: &[u8], replies: &mut Vec<u8>) -> Result<(), Failure> {
        self.received.extend(bytes);
        let received = std::mem::take(&mut self.received);
        let mut at = 0;
        while let Some(head) = received[at..].first_chunk::<FRAME_HEAD>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if length > FRAME_BYTES_MAX {
                return Err(Failure::Mismatch(format!("an HTTP/2 frame of {length} bytes")));
            }
            let Some(payload) = received.get(at + FRAME_HEAD..at + FRAME_HEAD + length) else { break };
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & WINDOW_MAX;
            self.frame(head[3], head[4], stream, payload)?;
            at += FRAME_HEAD + length;
        }
        self.received = received[at..].to_vec();
        self.send_waiting();
        while self.asked.front().is_some_and(|asked| asked.reply.is_some()) {
            if let Some(Asked { xid, reply: Some(body), .. }) = self.asked.pop_front() {
                write_reply(replies, xid, &body);
            }
        }
        Ok(())
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<(), Failure> {
        match kind {
            DATA if flags & PADDED != 0 => return Err(Failure::Mismatch("a padded frame".to_owned())),
            DATA => {
                self.messages.entry(stream).or_default().extend(payload);
                self.give_back(payload.len());
            }
            SETTINGS if flags & ACK == 0 => frame(&mut self.out, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(&mut self.out, PING, ACK, 0, payload),
            PING => {
                let asked = self.asked.iter_mut().find(|a| a.stream == 0 && a.reply.is_none());
                asked.ok_or_else(|| Failure::Mismatch("an answer to no ping".to_owned()))?.answer(&[])?;
            }
            WINDOW_UPDATE if stream == 0 => {
                let more = payload.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
                self.window += i64::from(more);
            }
            RST_STREAM | GOAWAY => return Err(Failure::Mismatch(format!("etcd ended a stream or the connection: {payload:?}"))),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            let message = self.messages.remove(&stream).unwrap_or_default();
            let message = message.get(GRPC_HEAD..).ok_or_else(|| Failure::Mismatch("etcd refused a request".to_owned()))?;
            let asked = self.asked.iter_mut().find(|a| a.stream == stream);
            asked.ok_or_else(|| Failure::Mismatch(format!("an answer on stream {stream}")))?.answer(message)?;
        }
        Ok(())
    }

    fn give_back(&mut self, bytes: usize) {
        self.consumed += bytes as u32;
        if self.consumed >= WINDOW_GIVE_BACK {
            frame(&mut self.out, WINDOW_UPDATE, 0, 0, &self.consumed.to_be_bytes());
            self.consumed = 0;
        }
    }
}

impl Asked {
    /// The body of the reply that etcd's message stands for.
    fn answer(&mut self, message: &[u8]) -> Result<(), Failure> {
        let mut body = Vec::new();
        match self.op {
            OpCode::GetData => {
                let value = value_of(message).ok_or_else(|| Failure::Mismatch("a key that is not there".to_owned()))?;
                body.put_buffer(Some(value));
                Stat { data_length: value.len() as i32, ..Stat::default() }.write(&mut body);
            }
            OpCode::SetData => Stat { data_length: self.length as i32, ..Stat::default() }.write(&mut body),
            OpCode::GetChildren => body.put_len(0),
            _ => {}
        }
        self.reply = Some(body);
        Ok(())
    }
}

fn write_reply(out: &mut Vec<u8>, xid: i32, body: &[u8]) {
    out.put_len(16 + body.len());
    out.put_i32(xid);
    out.put_i64(0);
    out.put_i32(0);
    out.put_raw(body);
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// A header in full, not to be remembered; text of this program is shorter than 127 bytes.
fn literal(out: &mut Vec<u8>, name: &[u8], value: &str) {
    out.extend(name);
    out.push(value.len() as u8);
    out.extend(value.as_bytes());
}

/// A field of bytes of a protobuf message.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(bytes);
}

/// The value of the first key of a RangeResponse: field 5 of its field 2. One that is empty is not written.
fn value_of(message: &[u8]) -> Option<&[u8]> {
    Some(bytes_field(bytes_field(message, 2)?, 5).unwrap_or_default())
}

/// The first field of bytes with this number.
fn bytes_field(mut message: &[u8], wanted: u64) -> Option<&[u8]> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match key & 7 {
            0 => {
                varint(&mut message)?;
            }
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                if key >> 3 == wanted {
                    return Some(bytes);
                }
                message = rest;
            }
            _ => return None,
        }
    }
    None
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{begin_request, write_read, write_set};
    use zoo::base::Xid;

    /// A server's whole answer on a stream: headers, a message, trailers.
    fn answer(stream: u32, message: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame(&mut bytes, HEADERS, END_HEADERS, stream, &[0x88]);
        let mut data = vec![0];
        data.extend((message.len() as u32).to_be_bytes());
        data.extend(message);
        frame(&mut bytes, DATA, 0, stream, &data);
        frame(&mut bytes, HEADERS, END_HEADERS | END_STREAM, stream, &[]);
        bytes
    }

    fn range_response(value: &[u8]) -> Vec<u8> {
        let (mut kv, mut message) = (Vec::new(), vec![1 << 3 | 2, 2, 3 << 3, 9]);
        field(&mut kv, 1, b"/k");
        kv.extend([2 << 3, 0x96, 0x01]);
        field(&mut kv, 5, value);
        field(&mut message, 2, &kv);
        message
    }

    fn asked() -> Wire {
        let mut requests = Vec::new();
        write_read(&mut requests, Xid(1), OpCode::GetData, "/k", false);
        write_set(&mut requests, Xid(2), "/k", b"four");
        begin_request(&mut requests, Xid::PING, OpCode::Ping).finish(&mut requests);
        let mut wire = Wire::new("127.0.0.1:1".to_owned());
        wire.ask(&requests).expect("known operations");
        wire
    }

    #[test]
    fn requests_become_puts_and_ranges_and_answers_come_back_in_their_order() {
        let mut wire = asked();
        assert!(wire.out.starts_with(PREFACE));
        let sent = String::from_utf8_lossy(&wire.out).into_owned();
        assert!(sent.contains("/etcdserverpb.KV/Range") && sent.contains("/etcdserverpb.KV/Put") && sent.contains("four"), "{sent}");
        let mut replies = Vec::new();
        // The second overtakes the first, in pieces of a byte.
        for byte in answer(3, &[]) {
            wire.take(&[byte], &mut replies).expect("valid");
        }
        assert!(replies.is_empty(), "it waits for the first");
        wire.take(&answer(1, &range_response(b"abc")), &mut replies).expect("valid");
        let mut r = Reader::new(&replies);
        let first = r.buffer().expect("a frame").expect("not null");
        assert_eq!((&first[..4], &first[16..23]), (&[0, 0, 0, 1][..], &[0, 0, 0, 3, b'a', b'b', b'c'][..]));
        let second = r.buffer().expect("a frame").expect("not null");
        assert_eq!(&second[..4], [0, 0, 0, 2]);
        assert!(r.is_empty());
    }

    #[test]
    fn a_stream_without_a_message_and_a_key_that_is_gone_are_failures() {
        let refused = |bytes: &[u8]| asked().take(bytes, &mut Vec::new()).is_err();
        let mut trailers = Vec::new();
        frame(&mut trailers, HEADERS, END_HEADERS | END_STREAM, 1, &[0x88]);
        assert!(refused(&trailers) && refused(&answer(1, &[1 << 3 | 2, 0])) && refused(&answer(99, &[])));
        let mut end = Vec::new();
        frame(&mut end, GOAWAY, 0, 0, &[0; 8]);
        assert!(refused(&end) && !refused(&answer(3, &[])));
    }

    #[test]
    fn what_the_servers_window_does_not_take_waits_for_it() {
        let (mut wire, mut requests) = (Wire::new("x".to_owned()), Vec::new());
        (1..=3).for_each(|xid| write_set(&mut requests, Xid(xid), "/k", &[7; 30_000]));
        wire.ask(&requests).expect("known operations");
        assert_eq!(wire.waiting.len(), 1);
        let mut more = Vec::new();
        frame(&mut more, WINDOW_UPDATE, 0, 0, &60_000u32.to_be_bytes());
        wire.take(&more, &mut Vec::new()).expect("valid");
        assert!(wire.waiting.is_empty() && wire.out.len() > 90_000);
    }
}

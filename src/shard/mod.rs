//! One core's brain: its connections, its read zxid, its watches; pure. INTERFACE.
//!
//! The reactor's turn, per connection with bytes: recv into `input(conn)` → `received(now, conn, n)` (which loads `applied`, drains the stream,
//! then serves: rule A3) → `poll_transmit` until `None`: send `output(conn)` → `poll_close`. On a wake-up from the replica: `drain(now)`, then the same polls.
use crate::base::{ConnId, Instant, SessionId, ShardId, Zxid};
use crate::handoff::{Batch, Inbox, Subscriber, ToReplica};
use crate::tree::TreeReader;
use std::net::SocketAddr;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct ShardConfig {
    pub frame_bytes_max: usize,
    pub out_buffer_bytes_max: usize,
    pub watches_per_session_max: usize,
    pub session_outstanding_max: usize,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    /// base64 of SHA-1 for user "super" ("super:<base64>").
    pub super_digest: Option<String>,
    pub digest_auth_enabled: bool,
    pub skip_acl: bool,
    pub hash_seed: u64,
}

pub struct Shard {}

/// What the reactor does with a connection after `poll_transmit`/`poll_close`.
#[derive(Debug, PartialEq, Eq)]
pub enum Close {
    /// Send what is in `output`, then shut down and close.
    AfterOutput,
    /// Close at once.
    Now,
}

impl Shard {
    pub fn new(id: ShardId, config: ShardConfig, reader: TreeReader, stream: Subscriber<Batch>, to_replica: Arc<Inbox<ToReplica>>) -> Self { unimplemented!() }
    /// A new socket. (Per-IP and total limits are the reactor's, checked before.)
    pub fn accept(&mut self, now: Instant, peer: SocketAddr) -> ConnId { unimplemented!() }
    /// Spare room of the connection's input buffer, to be filled by recv; grows with the frame that is being received, shrinks when idle.
    pub fn input(&mut self, conn: ConnId) -> &mut [u8] { unimplemented!() }
    /// `n` bytes were received into `input`.
    pub fn received(&mut self, now: Instant, conn: ConnId, n: usize) { unimplemented!() }
    /// End of stream or a socket error: the session lives on, the connection does not.
    pub fn disconnected(&mut self, now: Instant, conn: ConnId) { unimplemented!() }
    /// Loads `applied` and works through the stream up to it: events, replies, waiting reads (rules A2, A3, A4).
    pub fn drain(&mut self, now: Instant) { unimplemented!() }
    /// True when there is something in the stream beyond this shard's position that `applied` releases.
    pub fn behind(&self) -> bool { unimplemented!() }
    /// A connection with bytes to send; each at most once until more is written.
    pub fn poll_transmit(&mut self) -> Option<ConnId> { unimplemented!() }
    /// The bytes to send.
    pub fn output(&self, conn: ConnId) -> &[u8] { unimplemented!() }
    /// `n` of them were sent.
    pub fn sent(&mut self, now: Instant, conn: ConnId, n: usize) { unimplemented!() }
    pub fn poll_close(&mut self) -> Option<(ConnId, Close)> { unimplemented!() }
    /// The reactor has closed the socket after `poll_close`.
    pub fn closed(&mut self, now: Instant, conn: ConnId) { unimplemented!() }
    /// A connection whose reading state changed: true = resume reading, false = pause (back-pressure).
    pub fn poll_read_change(&mut self) -> Option<(ConnId, bool)> { unimplemented!() }
    /// A four-letter word arrived on a fresh connection: the reactor answers it through `admin` with `answer_four_letter`.
    pub fn poll_four_letter(&mut self) -> Option<(ConnId, [u8; 4], Vec<u8>)> { unimplemented!() }
    /// Text to send, then close.
    pub fn answer_four_letter(&mut self, conn: ConnId, text: &[u8]) { unimplemented!() }
    pub fn poll_timeout(&self) -> Option<Instant> { unimplemented!() }
    pub fn handle_timeout(&mut self, now: Instant) { unimplemented!() }
    /// True when something was pushed to the replica since the last call: kick its inbox once.
    pub fn take_kick(&mut self) -> bool { unimplemented!() }
    /// Retry what a full queue to the replica held back.
    pub fn replica_has_room(&mut self, now: Instant) { unimplemented!() }
    pub fn read_zxid(&self) -> Zxid { unimplemented!() }
    pub fn report(&self, now: Instant) -> ShardReport { unimplemented!() }
    /// `crst`, `srst`.
    pub fn reset_stats(&mut self) { unimplemented!() }
}

/// Plain numbers for admin commands.
#[derive(Clone, Debug, Default)]
pub struct ShardReport {
    pub connections: Vec<ConnReport>,
    pub packets_received: u64,
    pub packets_sent: u64,
    /// Requests answered, sum, min and max of their latency in ms.
    pub latency_count: u64,
    pub latency_sum_ms: u64,
    pub latency_min_ms: u64,
    pub latency_max_ms: u64,
    /// Data-table watches: (path, sessions).
    pub watches: Vec<(String, Vec<SessionId>)>,
    /// Both tables.
    pub watch_count: u64,
    pub auth_failed: u64,
}

/// One line of `cons` and `stat`.
#[derive(Clone, Debug)]
pub struct ConnReport {
    pub peer: SocketAddr,
    pub session: Option<SessionId>,
    pub queued: u64,
    pub received: u64,
    pub sent: u64,
    pub last_op: &'static str,
    pub established_ms: i64,
    pub timeout_ms: i32,
    pub last_cxid: i64,
    pub last_zxid: i64,
    pub last_response_ms: u64,
    pub last_latency_ms: u64,
    pub min_latency_ms: u64,
    pub avg_latency_ms: u64,
    pub max_latency_ms: u64,
}

//! Every maximum that is a constant, with what happens when it is reached. Configurable ones only have their default here.

/// Largest client frame payload (`jute.maxbuffer`): the connection is closed.
pub const JUTE_MAX_BUFFER: usize = 0xfffff;
/// Longest transaction payload written (`jute.maxbuffer` and its extra size): a request that would need more is refused with -5, because a
/// ZooKeeper with the same settings could not read it. What others have written is read whatever its size.
pub const TXN_PAYLOAD_MAX: usize = 2 * JUTE_MAX_BUFFER;
/// Capacity of the queue from one shard to the replica, in messages: when full the shard stops reading its sockets.
pub const SHARD_QUEUE_LEN: usize = 16 * 1024;
/// Bytes of frames in that queue: the same reaction. One turn of the replica takes at most this much out of it.
pub const SHARD_QUEUE_BYTES_MAX: usize = 16 << 20;
/// Requests one session may have outstanding: its connection is not read until replies leave.
pub const SESSION_OUTSTANDING_MAX: usize = 4096;
/// Bytes of unanswered requests one connection may hold in its shard: it is not read until replies leave.
pub const CONN_PENDING_BYTES_MAX: usize = 4 << 20;
/// Bytes waiting in one connection's output buffer (`zoo.outBufferMax`): above half the connection is not read; above all of it, closed
/// when the peer does not read for a session timeout.
pub const OUT_BUFFER_MAX: usize = 64 << 20;
/// What a shard does in one turn, in units of about 0.2 µs (a request, an event, 64 bytes of a reply): the rest waits for the next turn.
pub const SHARD_TURN_COST_MAX: usize = 1024;
/// Nodes a listing looks at in one turn. One of no more children is answered at once.
pub const LISTING_NODES_PER_TURN: usize = 1024;
/// Bytes of a long listing waiting in an output buffer: the next piece is made when the client has taken half of them.
pub const LISTING_BYTES_AHEAD: usize = 64 << 10;
/// Long listings under way in one shard, each holding a zxid: further requests for one wait, and their connections are not read.
pub const LISTINGS_MAX: usize = 256;
/// Watches one session may hold (`zoo.watchesPerSessionMax`): further ones are refused with -5.
pub const WATCHES_PER_SESSION_MAX: usize = 4 << 20;
/// Operations in one multi (`zoo.multiOpsMax`): more is refused with -5.
pub const MULTI_OPS_MAX: usize = 100_000;
/// Bytes appended to the log but not yet synced: the replica stops appending (rule A22).
pub const UNSYNCED_BYTES_MAX: usize = 16 << 20;
/// Size of one preallocated log segment.
pub const SEGMENT_BYTES: usize = 64 << 20;
/// How long a shard may lag behind the published stream before the process stops with a message (rule A7).
pub const SHARD_LAG_MS_MAX: u64 = 60_000;
/// A connection that has not finished its connect request is closed after this long.
pub const SESSIONLESS_MS_MAX: u64 = 10_000;
/// Bytes of recent transactions kept in memory for learners that miss only these: older ones are dropped.
pub const TAIL_BYTES_MAX: usize = 16 << 20;
/// Bytes that may wait for one other server: beyond it the connection is closed, and it comes back by a synchronisation (L14).
pub const LEARNER_BYTES_MAX: usize = 256 << 20;

const _: () = assert!(UNSYNCED_BYTES_MAX * 2 <= SEGMENT_BYTES, "one flush's worth must fit in a segment");
const _: () = assert!(TXN_PAYLOAD_MAX < UNSYNCED_BYTES_MAX, "the largest transaction must be appendable");

//! One client connection: bytes in, frames out of them, bytes to send; who the client is; what awaits an answer. Pure.
//!
//! Never knows sockets, the tree, watches or other connections: the shard decides what a frame means. Invariants: buffers grow
//! with what was received, never with a length that was read (S1); replies leave in the order of the requests (`order`).

pub mod auth;
pub mod handshake;
pub mod input;
pub mod order;
pub mod output;

use crate::base::{Auth, Instant, SessionId, Zxid};
use crate::proto::OpCode;
use std::net::SocketAddr;
use std::sync::Arc;

pub use handshake::First;
pub use input::{FrameStatus, Input};
pub use order::{Order, Turn, Waiting};
pub use output::Output;

/// Identities one connection may have: the auth packet that would give it more is refused (S2).
const AUTH_IDS_MAX: usize = 256;

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Its first bytes: a connect request or a four-letter word.
    AwaitConnect,
    /// The text that answers a four-letter word.
    AwaitText,
    /// The replica's word on its session.
    AwaitAttach {
        /// The request carried the read-only flag, so the response carries one too.
        has_read_only: bool,
        /// When it asked for a new session, if it did.
        opening: Option<Instant>,
    },
    /// Requests.
    Serving {
        /// The session it serves.
        session: SessionId,
        /// As negotiated.
        timeout_ms: i32,
    },
    /// The connection that is on its way here from another shard, in whose place this one is.
    Arriving,
    /// To be closed: nothing more is processed (L16).
    Closing,
}

/// One client connection.
#[derive(Debug)]
pub struct Connection {
    /// Remote address.
    pub peer: SocketAddr,
    /// Where it stands.
    pub phase: Phase,
    /// Received bytes.
    pub input: Input,
    /// Bytes to send.
    pub output: Output,
    /// Requests awaiting their turn.
    pub order: Order,
    /// Identities, for writes and watch events.
    pub auth: Arc<Auth>,
    /// Identities for the reads at the front of `order`: an auth packet takes effect for the requests behind it.
    pub read_auth: Arc<Auth>,
    /// When bytes last arrived.
    pub heard: Instant,
    /// closeSession has been forwarded: what follows is never answered.
    pub ended: bool,
    /// Its server is without a quorum: what needs one is refused.
    pub read_only: bool,
    /// No other server knows its session.
    pub local: bool,
    /// Numbers for `cons`.
    pub stats: ConnStats,
}

/// Numbers for `stat` and `cons`.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct ConnStats {
    pub established: Instant,
    pub received: u64,
    pub sent: u64,
    pub last_op: &'static str,
    pub last_cxid: i64,
    pub last_zxid: i64,
    pub last_response: Instant,
    pub last_latency_ms: u64,
    pub latency: Latency,
}

/// Count, sum and extremes of latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Latency {
    pub count: u64,
    pub sum_ms: u64,
    pub min_ms: u64,
    pub max_ms: u64,
}

impl Latency {
    /// Adds one measurement.
    pub fn record(&mut self, ms: u64) {
        self.min_ms = if self.count == 0 { ms } else { self.min_ms.min(ms) };
        self.max_ms = self.max_ms.max(ms);
        self.sum_ms += ms;
        self.count += 1;
    }
}

impl Connection {
    /// A socket that was just accepted.
    #[must_use]
    pub fn new(peer: SocketAddr, now: Instant) -> Self {
        let auth = Arc::new(auth::initial(peer.ip()));
        Connection {
            peer,
            phase: Phase::AwaitConnect,
            input: Input::default(),
            output: Output::default(),
            order: Order::default(),
            read_auth: auth.clone(),
            auth,
            heard: now,
            ended: false,
            read_only: false,
            local: false,
            stats: ConnStats::new(now),
        }
    }

    /// The place of one that comes from another shard.
    #[must_use]
    pub fn arriving(peer: SocketAddr, now: Instant) -> Self {
        Connection { phase: Phase::Arriving, ..Connection::new(peer, now) }
    }

    /// The session it serves, if any.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match self.phase {
            Phase::Serving { session, .. } => Some(session),
            _ => None,
        }
    }

    /// Adds identities gained by an auth packet: at once for writes and events, behind the queued reads for reads. False when it
    /// would have too many.
    #[must_use]
    pub fn gain(&mut self, ids: Vec<crate::base::AuthId>) -> bool {
        let mut auth = Auth::clone(&self.auth);
        for id in ids {
            if !auth.ids.contains(&id) {
                auth.ids.push(id);
            }
        }
        if auth.ids.len() > AUTH_IDS_MAX {
            return false;
        }
        self.auth = Arc::new(auth);
        if self.order.is_idle() {
            self.read_auth = self.auth.clone();
        } else {
            self.order.push_auth(self.auth.clone());
        }
        true
    }
}

impl ConnStats {
    fn new(now: Instant) -> Self {
        ConnStats {
            established: now,
            received: 0,
            sent: 0,
            last_op: "NA",
            last_cxid: -1,
            last_zxid: -1,
            last_response: Instant(0),
            last_latency_ms: 0,
            latency: Latency::default(),
        }
    }
    /// `crst`: everything but the time it was established.
    pub fn reset(&mut self) {
        *self = ConnStats::new(self.established);
    }
    /// The answer to an operation was queued.
    pub fn answered(&mut self, now: Instant, op: &'static str, cxid: i64, zxid: Zxid, latency_ms: u64) {
        self.last_op = op;
        if cxid >= 0 {
            self.last_cxid = cxid; // pings have negative ones and leave it
        }
        self.last_zxid = zxid.as_i64();
        self.last_response = now;
        self.last_latency_ms = latency_ms;
        self.latency.record(latency_ms);
    }
}

/// How `cons` names a request type.
#[must_use]
pub fn op_label(op: Option<OpCode>) -> &'static str {
    use OpCode::*;
    let Some(op) = op else { return "NA" };
    match op {
        Ping => "PING",
        CreateSession => "SESS",
        Multi => "MULT",
        MultiRead => "MLTR",
        Create | Create2 | CreateContainer | CreateTtl => "CREA",
        Delete | DeleteContainer => "DELE",
        SetData => "SETD",
        Reconfig => "RECO",
        SetAcl => "SETA",
        CloseSession => "CLOS",
        Sync => "SYNC",
        Check => "CHEC",
        Exists => "EXIS",
        GetData => "GETD",
        SetWatches => "SETW",
        SetWatches2 => "STW2",
        AddWatch => "ADDW",
        GetAcl => "GETA",
        GetChildren | GetChildren2 => "GETC",
        GetAllChildrenNumber => "GETACN",
        CheckWatches => "CHKW",
        RemoveWatches => "REMW",
        WhoAmI => "HOMI",
        GetEphemerals => "GETE",
        Auth | Sasl => "NA",
    }
}

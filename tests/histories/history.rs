//! What clients did and saw, for the checker to judge.

use std::time::Duration;
use zoo::base::Stat;

pub const OPEN: i32 = 0;
pub const EPHEMERAL: i32 = 1;
pub const SEQUENTIAL: i32 = 2;
pub const NODE_EXISTS: i32 = -110;
pub const BAD_VERSION: i32 = -103;
/// The event of changed data.
pub const DATA_CHANGED: i32 = 3;

/// Two nodes that are only ever written together.
pub const TWINS: [&str; 2] = ["/m/a", "/m/b"];
/// Parents of nodes that are created once, with a sequence number, for the life of a session.
pub const NODES: &str = "/n";
pub const SEQUENCE: &str = "/s";
pub const EPHEMERALS: &str = "/e";

/// A request. Values are used once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    Set { path: String, value: String, expected: i32 },
    SetTwins { value: String },
    Create { path: String, value: String, flags: i32 },
    Delete { path: String },
    Get { path: String, watch: bool },
    List { path: String },
    Sync,
    Watch { paths: Vec<String>, seen: i64 },
    Close,
}

impl Request {
    pub fn is_write(&self) -> bool {
        matches!(self, Request::Set { .. } | Request::SetTwins { .. } | Request::Create { .. } | Request::Delete { .. } | Request::Close)
    }
}

/// An answer.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Reply {
    pub zxid: i64,
    pub err: i32,
    /// Of sets and gets.
    pub stat: Option<Stat>,
    /// Of gets.
    pub value: String,
    /// Of creates, the path that came out; of lists, the names.
    pub names: Vec<String>,
}

/// A request and what became of it. Times count from the beginning of the load.
#[derive(Clone, Debug)]
pub struct Call {
    pub request: Request,
    pub sent: Duration,
    /// `None`: the connection was lost before, and whether it was done is not known.
    pub answer: Option<(Duration, Reply)>,
}

/// What a client noted, in the order of its coming.
#[derive(Clone, Debug)]
pub enum Note {
    /// A new session.
    Opened(i64),
    /// The session goes on, at this or another member.
    Moved,
    /// The session was refused; the time since the server was heard last.
    Expired {
        silence: Duration,
        timeout: Duration,
    },
    Event {
        kind: i32,
        path: String,
        zxid: i64,
    },
    Done(Call),
}

/// What one client noted from beginning to end.
pub type History = Vec<Note>;

/// The node as a member shows it in the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub value: String,
    pub stat: Stat,
}

//! Wire error codes (`KeeperException.Code`), those a server sends.

/// The result of a request. Decided in `tree`, `shard` and `conn`, carried untouched by everyone else.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(i32)]
pub enum ErrorCode {
    /// It was carried out.
    Ok = 0,
    /// In a transaction: not carried out, because another part was refused. Otherwise: the server contradicts itself.
    RuntimeInconsistency = -2,
    /// The server cannot read the request.
    Marshalling = -5,
    /// The server knows no such operation.
    Unimplemented = -6,
    /// Arguments that make no sense.
    BadArguments = -8,
    /// Too few of the members that are to be have what the ensemble has.
    NewConfigNoQuorum = -13,
    /// Another change of members is under way.
    ReconfigInProgress = -14,
    /// There is no such node.
    NoNode = -101,
    /// Not permitted to those whose credentials were shown.
    NoAuth = -102,
    /// The node has another version than the one expected.
    BadVersion = -103,
    /// Ephemeral nodes have no children.
    NoChildrenForEphemerals = -108,
    /// The node exists already.
    NodeExists = -110,
    /// The node has children.
    NotEmpty = -111,
    /// The session is over.
    SessionExpired = -112,
    /// No valid access control list.
    InvalidAcl = -114,
    /// The credentials are not accepted.
    AuthFailed = -115,
    /// The session has gone on at another server.
    SessionMoved = -118,
    /// The server has lost its ensemble and takes no writes.
    NotReadOnly = -119,
    /// A session that only one server knows cannot have ephemeral nodes.
    EphemeralOnLocalSession = -120,
    /// There is no such watch.
    NoWatcher = -121,
    /// Members cannot be changed here.
    ReconfigDisabled = -123,
    /// The server wants SASL, and has closed the session.
    SessionClosedRequireSaslAuth = -124,
    /// A quota does not allow it.
    QuotaExceeded = -125,
    /// The server has too much to do; it was not carried out.
    ThrottledOp = -127,
}

impl ErrorCode {
    const ALL: [ErrorCode; 24] = {
        use ErrorCode::*;
        [
            Ok,
            RuntimeInconsistency,
            Marshalling,
            Unimplemented,
            BadArguments,
            NewConfigNoQuorum,
            ReconfigInProgress,
            NoNode,
            NoAuth,
            BadVersion,
            NoChildrenForEphemerals,
            NodeExists,
            NotEmpty,
            SessionExpired,
            InvalidAcl,
            AuthFailed,
            SessionMoved,
            NotReadOnly,
            EphemeralOnLocalSession,
            NoWatcher,
            ReconfigDisabled,
            SessionClosedRequireSaslAuth,
            QuotaExceeded,
            ThrottledOp,
        ]
    };

    /// The code an error transaction carries; one that this server does not know is a `RuntimeInconsistency`.
    #[must_use]
    pub fn from_i32(code: i32) -> Self {
        Self::ALL.into_iter().find(|c| c.code() == code).unwrap_or(ErrorCode::RuntimeInconsistency)
    }

    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }
}

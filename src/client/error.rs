//! What can go wrong, and whether asking again is safe.

use crate::base::DecodeError;
use crate::base::path::PathError;
use crate::proto::ErrorCode;
use std::fmt;

/// Why an operation has no result. [`Error::may_have_happened`] tells what a caller has to reckon with.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The server refused it, for this reason. Nothing has changed.
    Refused(ErrorCode),
    /// One operation of a transaction was refused, so none of it happened.
    RefusedPart {
        /// Which one, from 0.
        index: usize,
        /// Why.
        code: ErrorCode,
    },
    /// The connection broke after it was sent and before it was answered: it may have happened or not. Reads are repeated by the client itself and do not
    /// end like this.
    ConnectionLoss,
    /// The connection broke, or time was up, before it was sent: it has not happened.
    NotSent,
    /// The session is over, and with it its ephemeral nodes and watches. A new client is needed.
    SessionExpired,
    /// A server refused the credentials given by `add_auth`. The client does not go on.
    AuthFailed,
    /// The client was closed.
    Closed,
    /// No legal path.
    BadPath(PathError),
    /// The connect string, or a name in a call by name, is not understood.
    BadArgument(String),
    /// A server sent what is no answer to what was asked. The connection was closed.
    BadReply(DecodeError),
    /// The client could not be started.
    Io(String),
}

impl Error {
    /// Could the server have carried it out? Then a write is repeated only by somebody who knows that this does no harm.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Error::ConnectionLoss | Error::SessionExpired | Error::BadReply(_) | Error::Closed)
    }

    /// Would asking again, with the same client, make sense and be safe?
    #[must_use]
    pub fn may_be_repeated(&self) -> bool {
        matches!(self, Error::NotSent | Error::Refused(ErrorCode::ThrottledOp))
    }

    /// Is the client at its end, so that only a new one can help?
    #[must_use]
    pub fn ends_the_client(&self) -> bool {
        matches!(self, Error::SessionExpired | Error::AuthFailed | Error::Closed)
    }

    /// The server's reason, if it was a server that refused.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Refused(code) | Error::RefusedPart { code, .. } => Some(*code),
            _ => None,
        }
    }
}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::SessionExpired => Error::SessionExpired,
            ErrorCode::AuthFailed => Error::AuthFailed,
            code => Error::Refused(code),
        }
    }
}

impl From<PathError> for Error {
    fn from(e: PathError) -> Self {
        Error::BadPath(e)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(code) => write!(f, "refused: {}", reason(*code)),
            Error::RefusedPart { index, code } => write!(f, "operation {index} of the transaction was refused: {}", reason(*code)),
            Error::ConnectionLoss => f.write_str("the connection broke before the answer came; it may have happened"),
            Error::NotSent => f.write_str("there was no connection in time; it has not happened"),
            Error::SessionExpired => f.write_str("the session has expired"),
            Error::AuthFailed => f.write_str("the server does not accept the credentials"),
            Error::Closed => f.write_str("the client is closed"),
            Error::BadPath(why) => write!(f, "bad path: {why:?}"),
            Error::BadArgument(what) => f.write_str(what),
            Error::BadReply(why) => write!(f, "the server's answer makes no sense: {why}"),
            Error::Io(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

fn reason(code: ErrorCode) -> String {
    let text = match code {
        ErrorCode::NoNode => "there is no such node",
        ErrorCode::NodeExists => "the node exists",
        ErrorCode::NotEmpty => "the node has children",
        ErrorCode::BadVersion => "the node has another version",
        ErrorCode::NoAuth => "not permitted",
        ErrorCode::NoChildrenForEphemerals => "ephemeral nodes have no children",
        ErrorCode::InvalidAcl => "the access control list is not valid",
        ErrorCode::BadArguments => "bad arguments",
        ErrorCode::QuotaExceeded => "the quota is exceeded",
        ErrorCode::NotReadOnly => "the server is read-only",
        ErrorCode::NoWatcher => "there is no such watch",
        ErrorCode::EphemeralOnLocalSession => "a local session has no ephemeral nodes",
        ErrorCode::ReconfigDisabled => "reconfiguration is switched off",
        ErrorCode::RuntimeInconsistency => "not carried out, because another operation was refused",
        other => return format!("{other:?} ({})", other.code()),
    };
    format!("{text} ({})", code.code())
}

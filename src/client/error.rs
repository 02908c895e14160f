//! What can go wrong, and whether asking again is safe.

use crate::base::DecodeError;
use crate::base::path::PathError;
use crate::proto::ErrorCode;
use std::fmt;

/// Why an operation has no result.
///
/// | | [may have happened](Error::may_have_happened) | [may be repeated](Error::may_be_repeated) | [ends the client](Error::ends_the_client) |
/// |---|---|---|---|
/// | `Refused`, `RefusedPart` | no | only where the reason passes | no |
/// | `ConnectionLoss`, `BadReply`, `Unexpected` | yes | no: look first | no |
/// | `NotSent`, `Unreachable` | no | yes | no |
/// | `SessionExpired`, `AuthFailed`, `Closed` | yes | no | yes |
/// | `BadPath`, `BadArgument`, `Io` | no | no | no |
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
    /// The server could not do it, by a number that this client has no name for. It may have happened or not.
    Unexpected(i32),
    /// The connection broke after it was sent and before it was answered: it may have happened or not. Reads are repeated by the client itself and do not
    /// end like this.
    ConnectionLoss,
    /// The connection broke, or time was up, before it was sent: it has not happened.
    NotSent,
    /// No server has been reached in the time given for that. What the last attempt came to, with the server's name in front. Nothing has happened,
    /// and where a client has been made, it goes on trying.
    Unreachable(String),
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
        matches!(
            self,
            // Credentials are refused at once, while what was sent before them may still be carried out.
            Error::Unexpected(_) | Error::ConnectionLoss | Error::SessionExpired | Error::AuthFailed | Error::BadReply(_) | Error::Closed
        )
    }

    /// Would asking again, with the same client, make sense and be safe? It has not happened, and the reason may pass: there was no connection,
    /// the server is busy, or another reconfiguration is under way or has no quorum yet.
    #[must_use]
    pub fn may_be_repeated(&self) -> bool {
        use ErrorCode::{NewConfigNoQuorum, ReconfigInProgress, ThrottledOp};
        matches!(self, Error::NotSent | Error::Unreachable(_) | Error::Refused(ThrottledOp | ReconfigInProgress | NewConfigNoQuorum))
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
            Error::Unexpected(code) => write!(f, "the server has failed with number {code}; it may have happened"),
            Error::ConnectionLoss => f.write_str("the connection broke before the answer came; it may have happened"),
            Error::NotSent => f.write_str("there was no connection in time; it has not happened"),
            Error::Unreachable(why) => write!(f, "no server could be reached in time: {why}"),
            Error::SessionExpired => f.write_str("the session has expired"),
            Error::AuthFailed => f.write_str("the server does not accept the credentials"),
            Error::Closed => f.write_str("the client is closed"),
            Error::BadPath(why) => write!(f, "not a legal path: {why}"),
            Error::BadArgument(what) => f.write_str(what),
            Error::BadReply(why) => write!(f, "the server's answer makes no sense: {why}"),
            Error::Io(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::BadPath(why) => Some(why),
            Error::BadReply(why) => Some(why),
            _ => None,
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_repeated_that_may_have_happened() {
        let all = [
            Error::Refused(ErrorCode::NoNode),
            Error::Refused(ErrorCode::ThrottledOp),
            Error::Refused(ErrorCode::ReconfigInProgress),
            Error::RefusedPart { index: 0, code: ErrorCode::BadVersion },
            Error::Unexpected(-1),
            Error::ConnectionLoss,
            Error::NotSent,
            Error::Unreachable("a:1: refused".into()),
            Error::SessionExpired,
            Error::AuthFailed,
            Error::Closed,
            Error::BadPath(PathError::Empty),
            Error::BadArgument("x".into()),
            Error::BadReply(DecodeError::BadLength(-1)),
            Error::Io("x".into()),
        ];
        for error in all {
            assert!(!(error.may_be_repeated() && (error.may_have_happened() || error.ends_the_client())), "{error}");
            assert!(!error.ends_the_client() || error.may_have_happened(), "{error}");
        }
    }
}

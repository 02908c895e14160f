//! What went wrong with a command, in zkCli's words.

use crate::base::path::PathError;
use crate::client::{Error, ErrorCode};

/// zkCli's exit code for a command that it does not know.
const EXIT_UNKNOWN: u8 = 127;

/// Why a command has no result.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) message: String,
    /// What the process ends with if this was its last command.
    pub(super) exit_code: u8,
    /// There was no connection, or none any more.
    pub(super) is_of_the_connection: bool,
}

impl Failure {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Failure { message: message.into(), exit_code: super::super::EXIT_FAILURE, is_of_the_connection: false }
    }

    pub(super) fn unknown(command: &str) -> Self {
        Failure { message: format!("Command not found: Command not found {command}"), exit_code: EXIT_UNKNOWN, is_of_the_connection: false }
    }

    /// Adds why there is no connection, where that is the matter.
    pub(super) fn explained(mut self, trouble: Option<&str>) -> Self {
        if let Some(trouble) = trouble.filter(|_| self.is_of_the_connection) {
            self.message = format!("{} ({trouble})", self.message);
        }
        self
    }

    fn about(error: &Error, message: String) -> Self {
        let is_of_the_connection = matches!(error, Error::ConnectionLoss | Error::NotSent | Error::Unreachable(_));
        let failure = Failure { is_of_the_connection, ..Failure::new(message) };
        match error {
            Error::Unreachable(why) => failure.explained(Some(why)),
            _ => failure,
        }
    }

    /// What became of an operation on this node.
    pub(super) fn at(path: &str, error: &Error) -> Self {
        use ErrorCode as E;
        let of_code = |code| match code {
            E::NoNode => format!("Node does not exist: {path}"),
            E::NoChildrenForEphemerals => format!("Ephemerals cannot have children: {path}"),
            E::NodeExists => format!("Node already exists: {path}"),
            E::NotEmpty => format!("Node not empty: {path}"),
            E::NotReadOnly => format!("Not a read-only call: {path}"),
            E::InvalidAcl => format!("Acl is not valid : {path}"),
            E::NoAuth => format!("Insufficient permission : {path}"),
            E::BadArguments => format!("Arguments are not valid : {path}"),
            E::BadVersion => format!("version No is not valid : {path}"),
            E::QuotaExceeded => format!("Quota has exceeded : {path}"),
            code => keeper_message(code_name(code), Some(path)),
        };
        match error {
            Error::Refused(code) | Error::RefusedPart { code, .. } => Failure::new(of_code(*code)),
            Error::BadPath(why) => Failure::new(path_message(path, *why)),
            other => Failure::about(other, error_name(other).map_or_else(|| other.to_string(), |name| keeper_message(name, Some(path)))),
        }
    }

    /// What became of an operation that concerns no node.
    pub(super) fn of(error: &Error) -> Self {
        let message = match error {
            Error::Refused(ErrorCode::ReconfigInProgress) => {
                "Another reconfiguration is in progress -- concurrent reconfigs not supported (yet)".to_owned()
            }
            Error::Refused(ErrorCode::NewConfigNoQuorum) => "No quorum of new config is connected and up-to-date with the leader of last \
                commmitted config - try invoking reconfiguration after new servers are connected and synced"
                .to_owned(),
            Error::Refused(code) if *code == ErrorCode::BadArguments => "Arguments are not valid : null".to_owned(),
            Error::Refused(code) if *code == ErrorCode::BadVersion => "version No is not valid : null".to_owned(),
            Error::Refused(code) if *code == ErrorCode::NoAuth => "Insufficient permission : null".to_owned(),
            Error::Refused(code) => keeper_message(code_name(*code), None),
            other => error_name(other).map_or_else(|| other.to_string(), |name| keeper_message(name, None)),
        };
        Failure::about(error, message)
    }
}

/// The text of Java's exception, which zkCli shows where it has no words of its own.
pub(super) fn keeper_message(name: &str, path: Option<&str>) -> String {
    path.map_or_else(|| format!("KeeperErrorCode = {name}"), |path| format!("KeeperErrorCode = {name} for {path}"))
}

fn error_name(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::ConnectionLoss | Error::NotSent | Error::Unreachable(_) => "ConnectionLoss",
        Error::SessionExpired | Error::Closed => "Session expired",
        Error::AuthFailed => "AuthFailed",
        _ => return None,
    })
}

fn code_name(code: ErrorCode) -> &'static str {
    use ErrorCode as E;
    match code {
        E::Ok => "ok",
        E::RuntimeInconsistency => "RuntimeInconsistency",
        E::Marshalling => "MarshallingError",
        E::Unimplemented => "Unimplemented",
        E::BadArguments => "BadArguments",
        E::NewConfigNoQuorum => "NewConfigNoQuorum",
        E::ReconfigInProgress => "ReconfigInProgress",
        E::NoNode => "NoNode",
        E::NoAuth => "NoAuth",
        E::BadVersion => "BadVersion",
        E::NoChildrenForEphemerals => "NoChildrenForEphemerals",
        E::NodeExists => "NodeExists",
        E::NotEmpty => "Directory not empty",
        E::SessionExpired => "Session expired",
        E::InvalidAcl => "InvalidACL",
        E::AuthFailed => "AuthFailed",
        E::SessionMoved => "Session moved",
        E::NotReadOnly => "Not a read-only call",
        E::EphemeralOnLocalSession => "Ephemeral node on local session",
        E::NoWatcher => "No such watcher",
        E::ReconfigDisabled => "Reconfig is disabled",
        E::SessionClosedRequireSaslAuth => "Session closed because client failed to authenticate",
        E::QuotaExceeded => "Quota has exceeded",
        E::ThrottledOp => "Op throttled due to high load",
    }
}

fn path_message(path: &str, why: PathError) -> String {
    let reason = match why {
        PathError::Empty => return "Path length must be > 0".to_owned(),
        PathError::NotAbsolute => return "Path must start with / character".to_owned(),
        PathError::TrailingSlash => return "Path must not end with / character".to_owned(),
        PathError::EmptyElement => format!("empty node name specified @{}", utf16(path, path.find("//").map_or(0, |at| at + 1))),
        PathError::RelativeElement => format!("relative paths not allowed @{}", utf16(path, relative_element_end(path))),
        PathError::BadCharacter => match path.find('\0') {
            Some(at) => format!("null character not allowed @{}", utf16(path, at)),
            None => format!("invalid character @{}", utf16(path, bad_character(path))),
        },
    };
    format!("Invalid path string \"{path}\" caused by {reason}")
}

/// Java counts in UTF-16.
fn utf16(path: &str, at: usize) -> usize {
    path[..at].encode_utf16().count()
}

fn relative_element_end(path: &str) -> usize {
    let mut at = 0;
    for element in path.split('/') {
        let end = at + element.len();
        if matches!(element, "." | "..") {
            return end - 1;
        }
        at = end + 1;
    }
    0
}

fn bad_character(path: &str) -> usize {
    let is_bad = |c: char| crate::base::path::validate(&format!("/{c}")) == Err(PathError::BadCharacter);
    path.find(is_bad).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::path;

    #[test]
    fn errors_read_as_in_zkcli() {
        for (error, text) in [
            (Error::Refused(ErrorCode::NoNode), "Node does not exist: /a"),
            (Error::Refused(ErrorCode::NoWatcher), "KeeperErrorCode = No such watcher for /a"),
            (Error::NotSent, "KeeperErrorCode = ConnectionLoss for /a"),
            (Error::SessionExpired, "KeeperErrorCode = Session expired for /a"),
        ] {
            let failure = Failure::at("/a", &error);
            assert_eq!((failure.message.as_str(), failure.exit_code), (text, 1));
        }
        assert_eq!(Failure::of(&Error::Refused(ErrorCode::ReconfigDisabled)).message, "KeeperErrorCode = Reconfig is disabled");
        let unknown = Failure::unknown("x");
        assert_eq!((unknown.message.as_str(), unknown.exit_code), ("Command not found: Command not found x", 127));
        let refused = Some("h:1: Connection refused");
        assert_eq!(Failure::of(&Error::NotSent).explained(refused).message, "KeeperErrorCode = ConnectionLoss (h:1: Connection refused)");
        assert_eq!(Failure::new("other").explained(refused).message, "other");
    }

    #[test]
    fn bad_paths_are_explained_as_in_java() {
        for (path, text) in [
            ("", "Path length must be > 0"),
            ("a", "Path must start with / character"),
            ("/a/", "Path must not end with / character"),
            ("/a//b", "Invalid path string \"/a//b\" caused by empty node name specified @3"),
            ("/a/../b", "Invalid path string \"/a/../b\" caused by relative paths not allowed @4"),
            ("/a/.", "Invalid path string \"/a/.\" caused by relative paths not allowed @3"),
            ("/\u{e9}\u{7f}", "Invalid path string \"/\u{e9}\u{7f}\" caused by invalid character @2"),
        ] {
            let why = path::validate(path).expect_err("not legal");
            assert_eq!(Failure::at(path, &Error::BadPath(why)).message, text);
        }
    }
}

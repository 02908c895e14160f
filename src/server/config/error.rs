//! Why a configuration is refused.

use super::keys;
use super::settings::{Origin, Setting};
use std::path::PathBuf;
use thiserror::Error;

/// Every one of them ends the start with ZooKeeper's exit code for a bad configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A configuration file cannot be read.
    #[error("cannot read {path:?}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A `\u` escape is incomplete.
    #[error("{origin}: malformed \\u escape; expected four hexadecimal digits")]
    Escape {
        /// Where it stands.
        origin: Origin,
    },
    /// A value is not what its key takes.
    #[error("{origin}: {key}: {value} is not {expected}")]
    Value {
        /// Where it stands.
        origin: Origin,
        /// Of which key.
        key: String,
        /// As it is to be shown: without secrets and control characters.
        value: String,
        /// What the key takes.
        expected: String,
    },
    /// Ignoring this setting would weaken security or change what the server is.
    #[error("{origin}: {key}: {why}")]
    Refused {
        /// Where it stands.
        origin: Origin,
        /// Which.
        key: String,
        /// What would come of ignoring it.
        why: String,
    },
    /// Something required is not there, or settings contradict each other.
    #[error("{0}")]
    Incomplete(String),
}

impl ConfigError {
    /// A bad value; secrets are not repeated, control characters are escaped (rule S9).
    #[must_use]
    pub fn value(setting: &Setting, expected: impl Into<String>) -> Self {
        let value = if keys::is_secret(&setting.key) { "the value (not shown)".to_owned() } else { format!("{:?}", setting.value) };
        ConfigError::Value { origin: setting.origin.clone(), key: printable(&setting.key), value, expected: expected.into() }
    }

    /// A setting that cannot be honoured and must not be ignored.
    #[must_use]
    pub fn refused(setting: &Setting, why: impl Into<String>) -> Self {
        ConfigError::Refused { origin: setting.origin.clone(), key: printable(&setting.key), why: why.into() }
    }
}

/// A key as messages show it: keys may hold anything, and messages are one line.
#[must_use]
pub fn printable(key: &str) -> String {
    key.escape_debug().to_string()
}

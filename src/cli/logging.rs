//! The log: one line per event on standard error, control characters escaped (rule S9).

use std::borrow::Cow;
use std::io::{self, Write};
use tracing_subscriber::EnvFilter;

/// Environment variable with the level or a filter such as `info,zoo::replica=debug`.
const LEVEL_VARIABLE: &str = "ZOO_LOG";
const DEFAULT_LEVEL: &str = "info";

/// Starts logging at `level`, else at the environment's, else at info. The error says which level is not one.
pub(super) fn start(level: Option<&str>) -> Result<(), String> {
    let from_env = std::env::var(LEVEL_VARIABLE).ok().filter(|v| !v.trim().is_empty());
    let wanted = level.map(str::to_owned).or(from_env).unwrap_or_else(|| DEFAULT_LEVEL.to_owned());
    let filter = EnvFilter::try_new(&wanted).map_err(|e| format!("log level {wanted:?}: {e}"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_target(false).with_writer(|| EscapedStderr);
    log.try_init().map_err(|e| format!("cannot start logging: {e}"))
}

/// Standard error, one event per `write`, with everything escaped that could forge a line or move a terminal's cursor.
struct EscapedStderr;

impl Write for EscapedStderr {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(escape(event).as_bytes())?;
        Ok(event.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The event with its control characters escaped, but for the newline at its end.
pub(super) fn escape(event: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(event);
    let line = text.strip_suffix('\n').unwrap_or(&text);
    if !line.contains(char::is_control) {
        return text;
    }
    let mut out = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.push('\n');
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stays_one_line_without_control_characters() {
        assert_eq!(escape(b"plain text\n"), "plain text\n");
        assert_eq!(escape(b"a\nINFO forged\x1b[31m\r\tz\n"), "a\\nINFO forged\\u{1b}[31m\\r\\tz\n");
        assert_eq!(escape("caf\u{e9} \u{9b}x\n".as_bytes()), "caf\u{e9} \\u{9b}x\n");
        assert_eq!(escape(b"bad \xff\n"), "bad \u{fffd}\n");
    }
}

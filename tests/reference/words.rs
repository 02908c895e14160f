//! Four-letter words: ask, read to the end.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Sends `word` on a fresh connection and returns all that comes back until the server closes.
pub fn ask(port: u16, word: &str) -> io::Result<String> {
    ask_bytes(port, word.as_bytes())
}

pub fn ask_bytes(port: u16, word: &[u8]) -> io::Result<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(word)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The number that follows `key` in the answer to `mntr`.
pub fn monitored(port: u16, key: &str) -> Option<f64> {
    let answer = ask(port, "mntr").ok()?;
    answer.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('\t')?.trim().parse().ok())
}

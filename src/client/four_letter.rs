//! Four-letter words, asked of servers over their client port.

use super::entry::Stream;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Longest answer that is read; what is longer is no answer to a word asked here.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Asks one server; every address of its name is tried. `patience` is for the whole conversation.
pub(crate) fn ask(server: impl ToSocketAddrs, word: &str, patience: Duration) -> io::Result<String> {
    ask_through(server, word, patience, |socket| Ok(Box::new(socket)))
}

/// Likewise, through what `wrap` makes of the connection.
pub(crate) fn ask_through(
    server: impl ToSocketAddrs,
    word: &str,
    patience: Duration,
    wrap: impl FnOnce(TcpStream) -> io::Result<Box<dyn Stream>>,
) -> io::Result<String> {
    let give_up = Instant::now() + patience;
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in server.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(give_up)?) {
            Ok(socket) => {
                // Also for what is said below the words.
                socket.set_read_timeout(Some(left(give_up)?))?;
                socket.set_write_timeout(Some(left(give_up)?))?;
                return converse(&socket, wrap(socket.try_clone()?)?, word, give_up);
            }
            Err(e) => failure = e,
        }
    }
    Err(failure)
}

fn converse(socket: &TcpStream, mut stream: Box<dyn Stream>, word: &str, give_up: Instant) -> io::Result<String> {
    stream.write_all(word.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        socket.set_read_timeout(Some(left(give_up)?))?;
        match stream.read(&mut piece)? {
            0 => break,
            n if (answer.len() + n) as u64 > ANSWER_BYTES_MAX => return Err(io::Error::other("the answer has no end")),
            n => answer.extend_from_slice(&piece[..n]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn left(give_up: Instant) -> io::Result<Duration> {
    let left = give_up.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The value of `key` in an answer of lines `key: value`.
pub(crate) fn value<'a>(answer: &'a str, key: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_server_that_accepts_and_says_nothing_does_not_hold_the_caller() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let failure = ask(address, "srvr", Duration::from_millis(50)).expect_err("no answer");
        assert!(matches!(failure.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{failure}");
    }

    #[test]
    fn values_are_found_by_their_whole_key() {
        let answer = "Zookeeper version: 3.9.4\nMode: leader\nNode count: 5\n";
        assert_eq!(value(answer, "Mode"), Some("leader"));
        assert_eq!(value(answer, "Node"), None);
    }
}

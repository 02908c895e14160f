//! The initial message of the election port: the side that connects says who it is.

use super::{Decoded, bounded_length};
use crate::base::{DecodeError, PeerId, Reader, Writer};
use crate::zab::membership::{split_host, write_host};
use std::fmt::Write as _;

/// Longest address part of an initial message: beyond it the connection is closed.
pub const ADDRESS_BYTES_MAX: usize = 2048;

/// First long of an initial message with one address.
const HELLO_ONE_ADDRESS: i64 = -65_536;
/// First long of an initial message with any number of addresses.
const HELLO_ADDRESSES: i64 = -65_535;
/// Version, id and length in front of the addresses.
const HELLO_HEAD_BYTES: usize = 8 + 8 + 4;

/// The initial message: who connects, and where it can be called back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Who.
    pub peer: PeerId,
    /// Host and election port, as configured there. Empty: the form before 3.5, which is the id alone.
    pub addresses: Vec<(String, u16)>,
    /// Sent with `multiAddress.enabled`; readers take both forms.
    pub multi_address: bool,
}

/// Reads the initial message; after an error the connection is of no use.
pub fn decode(bytes: &[u8]) -> Result<Decoded<Hello>, DecodeError> {
    let mut r = Reader::new(bytes);
    let Ok(first) = r.i64() else { return Ok(Decoded::Need(8)) };
    if first >= 0 {
        let hello = Hello { peer: PeerId(first), addresses: Vec::new(), multi_address: false };
        return Ok(Decoded::Whole { value: hello, bytes: 8 });
    }
    if first != HELLO_ONE_ADDRESS && first != HELLO_ADDRESSES {
        return Err(DecodeError::BadValue("version of an initial message", first));
    }
    let (Ok(peer), Ok(length)) = (r.i64(), r.i32()) else { return Ok(Decoded::Need(HELLO_HEAD_BYTES)) };
    let length = bounded_length(length, ADDRESS_BYTES_MAX)?;
    let Ok(addresses) = r.take(length) else { return Ok(Decoded::Need(HELLO_HEAD_BYTES + length)) };
    let addresses = std::str::from_utf8(addresses).map_err(|_| DecodeError::NotUtf8)?;
    let addresses = addresses.split('|').map(parse_address).collect::<Option<_>>();
    let addresses = addresses.ok_or(DecodeError::BadValue("address in an initial message of server", peer))?;
    let hello = Hello { peer: PeerId(peer), addresses, multi_address: first == HELLO_ADDRESSES };
    Ok(Decoded::Whole { value: hello, bytes: HELLO_HEAD_BYTES + length })
}

/// Appends the initial message; to be sent in one piece, because Java servers read the addresses at once.
pub fn encode(hello: &Hello, out: &mut Vec<u8>) {
    if hello.addresses.is_empty() {
        return out.put_i64(hello.peer.0);
    }
    let mut text = String::new();
    for (n, (host, port)) in hello.addresses.iter().enumerate() {
        text.push_str(if n == 0 { "" } else { "|" });
        write_host(&mut text, host);
        let _ = write!(text, ":{port}");
    }
    out.put_i64(if hello.multi_address { HELLO_ADDRESSES } else { HELLO_ONE_ADDRESS });
    out.put_i64(hello.peer.0);
    out.put_string(&text);
}

fn parse_address(text: &str) -> Option<(String, u16)> {
    let (host, port) = split_host(text)?;
    Some((host, port?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initial_message_has_three_forms() {
        let one = Hello { peer: PeerId(2), addresses: vec![("127.0.0.1".to_owned(), 22402)], multi_address: false };
        let two = Hello { addresses: vec![("a".to_owned(), 1), ("0:0:0:0:0:0:0:1".to_owned(), 2)], multi_address: true, ..one.clone() };
        let old = Hello { addresses: Vec::new(), ..one.clone() };
        for (hello, length) in [(one, 35), (two, 20 + 3 + 1 + 19), (old, 8)] {
            let mut bytes = Vec::new();
            encode(&hello, &mut bytes);
            assert_eq!(bytes.len(), length);
            for cut in 0..length {
                assert!(matches!(decode(&bytes[..cut]), Ok(Decoded::Need(need)) if need > cut && need <= length), "{cut}");
            }
            assert_eq!(decode(&bytes).expect("valid").whole(length), hello);
        }
    }

    #[test]
    fn a_hostile_initial_message_is_refused() {
        let hello = |version: i64, length: i32, text: &[u8]| {
            let mut out = Vec::new();
            out.put_i64(version);
            out.put_i64(2);
            out.put_i32(length);
            out.put_raw(text);
            decode(&out)
        };
        assert_eq!(hello(-1, 3, b"a:1"), Err(DecodeError::BadValue("version of an initial message", -1)));
        for length in [0, -1, 2049] {
            assert_eq!(hello(HELLO_ONE_ADDRESS, length, b"a:1"), Err(DecodeError::BadLength(length)));
        }
        for text in [&b"a"[..], b":1", b"a:x", b"a:1|", b"[::1:5", b"\xff:1", b"a:99999"] {
            assert!(hello(HELLO_ONE_ADDRESS, text.len() as i32, text).is_err(), "{text:?}");
        }
    }
}

//! The election port: the initial message of the side that connects, then notifications, each with its length in front.

use super::Decoded;
use crate::base::{DecodeError, PeerId, Reader, Writer, Zxid};
use crate::zab::membership::{split_host, write_host};
use crate::zab::message::{Notification, ServerState, Vote};
use std::sync::Arc;

/// Longest message of the election port: a connection that announces a longer one is closed.
pub const MESSAGE_BYTES_MAX: usize = 512 * 1024;
/// Longest address part of an initial message: beyond it the connection is closed.
pub const ADDRESS_BYTES_MAX: usize = 2048;

/// First long of an initial message with one address.
const HELLO_ONE_ADDRESS: i64 = -65_536;
/// First long of an initial message with any number of addresses.
const HELLO_ADDRESSES: i64 = -65_535;
/// Version, id and length in front of the addresses.
const HELLO_HEAD_BYTES: usize = 8 + 8 + 4;

/// Sizes of the older forms of a notification; newer ones are longer.
const WITHOUT_EPOCH_BYTES: usize = 28;
const WITHOUT_VERSION_BYTES: usize = 40;
/// The version we send: with configuration.
pub const VERSION: i32 = 2;

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

impl Hello {
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
        let length = bounded(length, ADDRESS_BYTES_MAX)?;
        let Ok(addresses) = r.take(length) else { return Ok(Decoded::Need(HELLO_HEAD_BYTES + length)) };
        let addresses = std::str::from_utf8(addresses).map_err(|_| DecodeError::NotUtf8)?;
        let addresses = addresses.split('|').map(parse_address).collect::<Option<_>>();
        let addresses = addresses.ok_or(DecodeError::BadValue("address in an initial message of server", peer))?;
        let hello = Hello { peer: PeerId(peer), addresses, multi_address: first == HELLO_ADDRESSES };
        Ok(Decoded::Whole { value: hello, bytes: HELLO_HEAD_BYTES + length })
    }

    /// Appends the initial message; to be sent in one piece, because Java servers read the addresses at once.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if self.addresses.is_empty() {
            return out.put_i64(self.peer.0);
        }
        let mut text = String::new();
        for (n, (host, port)) in self.addresses.iter().enumerate() {
            text.push_str(if n == 0 { "" } else { "|" });
            write_host(&mut text, host);
            text.push_str(&format!(":{port}"));
        }
        out.put_i64(if self.multi_address { HELLO_ADDRESSES } else { HELLO_ONE_ADDRESS });
        out.put_i64(self.peer.0);
        out.put_string(&text);
    }
}

/// Splits off a message with its length; after an error the connection is of no use.
pub fn decode_frame(bytes: &[u8]) -> Result<Decoded<&[u8]>, DecodeError> {
    let mut r = Reader::new(bytes);
    let Ok(length) = r.i32() else { return Ok(Decoded::Need(4)) };
    let length = bounded(length, MESSAGE_BYTES_MAX)?;
    match r.take(length) {
        Ok(message) => Ok(Decoded::Whole { value: message, bytes: 4 + length }),
        Err(_) => Ok(Decoded::Need(4 + length)),
    }
}

/// Reads a message. An error is no reason to close the connection: the message is dropped (ZK-3769).
pub fn decode(message: &[u8]) -> Result<Notification, DecodeError> {
    if message.len() < WITHOUT_EPOCH_BYTES {
        return Err(DecodeError::Truncated);
    }
    let mut r = Reader::new(message);
    let state = state_of(r.i32()?)?;
    let (leader, zxid, election_epoch) = (PeerId(r.i64()?), Zxid::from_i64(r.i64()?), r.i64()?);
    let old_form = message.len() == WITHOUT_EPOCH_BYTES;
    let peer_epoch = if old_form { i64::from(zxid.epoch()) } else { r.i64()? };
    let mut notification = Notification { state, vote: Vote { leader, zxid, peer_epoch, election_epoch }, version: 0, config: None };
    if old_form || message.len() == WITHOUT_VERSION_BYTES {
        return Ok(notification);
    }
    let version = r.i32()?;
    // Version 1 has nothing that version 0 has not.
    if version > 1 {
        let length = r.i32()?;
        let config = usize::try_from(length).map_err(|_| DecodeError::BadLength(length)).and_then(|n| r.take(n))?;
        let config = std::str::from_utf8(config).map_err(|_| DecodeError::NotUtf8)?;
        notification.version = version;
        notification.config = (!config.is_empty()).then(|| Arc::from(config));
    }
    Ok(notification)
}

/// Appends a notification with its length: of the newest form, or, of version 0, of the form that tells no version.
pub fn encode_frame(notification: &Notification, out: &mut Vec<u8>) {
    let Notification { state, vote, version, config } = notification;
    let config = config.as_deref().unwrap_or("");
    let with_config = *version > 1;
    out.put_len(WITHOUT_VERSION_BYTES + if with_config { 4 + config.len() } else { 0 });
    out.put_i32(number_of(*state));
    out.put_i64(vote.leader.0);
    out.put_i64(vote.zxid.as_i64());
    out.put_i64(vote.election_epoch);
    out.put_i64(vote.peer_epoch);
    out.put_i32(*version);
    if with_config {
        out.put_string(config);
    }
}

fn bounded(length: i32, max: usize) -> Result<usize, DecodeError> {
    usize::try_from(length).ok().filter(|n| (1..=max).contains(n)).ok_or(DecodeError::BadLength(length))
}

fn parse_address(text: &str) -> Option<(String, u16)> {
    let (host, port) = split_host(text)?;
    Some((host, port?.parse().ok()?))
}

fn state_of(number: i32) -> Result<ServerState, DecodeError> {
    Ok(match number {
        0 => ServerState::Looking,
        1 => ServerState::Following,
        2 => ServerState::Leading,
        3 => ServerState::Observing,
        other => return Err(DecodeError::BadValue("server state", other.into())),
    })
}

fn number_of(state: ServerState) -> i32 {
    match state {
        ServerState::Looking => 0,
        ServerState::Following => 1,
        ServerState::Leading => 2,
        ServerState::Observing => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize, version: i32, config: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_i32(2);
        [3, 0x5_0000_0001, 7, 4].into_iter().for_each(|n| out.put_i64(n));
        out.put_i32(version);
        out.put_buffer(Some(config));
        out.resize(bytes, 0);
        out
    }

    #[test]
    fn every_size_has_its_own_reading() {
        let full = decode(&message(44 + 5, 2, b"hello")).expect("valid");
        assert_eq!((full.state, full.version, full.config.as_deref()), (ServerState::Leading, 2, Some("hello")));
        let vote = Vote { leader: PeerId(3), zxid: Zxid(0x5_0000_0001), peer_epoch: 4, election_epoch: 7 };
        assert_eq!(full.vote, vote);
        let oldest = decode(&message(28, 2, b"")).expect("valid");
        assert_eq!(oldest, Notification { vote: Vote { peer_epoch: 5, ..vote }, version: 0, config: None, ..full.clone() });
        let forty = Notification { version: 0, config: None, ..full.clone() };
        assert_eq!(decode(&message(40, 2, b"")), Ok(forty.clone()), "at 40 bytes the version is not looked at");
        assert_eq!(decode(&message(41, 1, b"")), Ok(forty.clone()));
        assert_eq!(decode(&message(44, 2, b"")), Ok(Notification { version: 2, ..forty }));
        assert_eq!(decode(&message(60, 2, b"hello")), Ok(full), "what follows the configuration is not looked at");
        for bytes in [0, 27, 29, 36, 39, 43] {
            assert!(decode(&message(bytes, 2, b"")).is_err(), "{bytes}");
        }
    }

    #[test]
    fn malformed_messages_are_errors() {
        let mut bad = message(50, 2, b"hello");
        bad[3] = 4;
        assert_eq!(decode(&bad), Err(DecodeError::BadValue("server state", 4)));
        for length in [-1, 7, i32::MAX] {
            let mut bad = message(50, 2, b"");
            bad[40..44].copy_from_slice(&i32::to_be_bytes(length));
            assert!(decode(&bad).is_err(), "{length}");
        }
        assert_eq!(decode(&message(45, 2, b"\xff")), Err(DecodeError::NotUtf8));
    }

    #[test]
    fn a_frame_is_taken_when_it_is_whole_and_refused_by_its_length() {
        let mut bytes = Vec::new();
        encode_frame(&decode(&message(49, 2, b"hello")).expect("valid"), &mut bytes);
        assert_eq!(decode_frame(&bytes[..3]), Ok(Decoded::Need(4)));
        assert_eq!(decode_frame(&bytes[..4]), Ok(Decoded::Need(53)));
        assert_eq!(decode_frame(&bytes[..52]), Ok(Decoded::Need(53)));
        assert_eq!(decode_frame(&bytes).expect("whole").whole(53), message(49, 2, b"hello"));
        for length in [0, -1, i32::MIN, MESSAGE_BYTES_MAX as i32 + 1] {
            assert_eq!(decode_frame(&length.to_be_bytes()), Err(DecodeError::BadLength(length)));
        }
    }

    #[test]
    fn the_initial_message_has_three_forms() {
        let one = Hello { peer: PeerId(2), addresses: vec![("127.0.0.1".to_owned(), 22402)], multi_address: false };
        let two = Hello { addresses: vec![("a".to_owned(), 1), ("0:0:0:0:0:0:0:1".to_owned(), 2)], multi_address: true, ..one.clone() };
        let old = Hello { addresses: Vec::new(), ..one.clone() };
        for (hello, length) in [(one, 35), (two, 20 + 3 + 1 + 19), (old, 8)] {
            let mut bytes = Vec::new();
            hello.encode(&mut bytes);
            assert_eq!(bytes.len(), length);
            for cut in 0..length {
                assert!(matches!(Hello::decode(&bytes[..cut]), Ok(Decoded::Need(need)) if need > cut && need <= length), "{cut}");
            }
            assert_eq!(Hello::decode(&bytes).expect("valid").whole(length), hello);
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
            Hello::decode(&out)
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

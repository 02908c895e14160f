//! Notifications: what goes over the election port after the initial message, each with its length in front.

use super::{Decoded, bounded_length};
use crate::base::{DecodeError, PeerId, Reader, Writer, Zxid};
use crate::zab::message::{Notification, ServerState, Vote};
use std::sync::Arc;

/// Longest message of the election port: a connection that announces a longer one is closed.
pub const MESSAGE_BYTES_MAX: usize = 512 * 1024;
/// Sizes of the older forms of a notification; newer ones are longer.
const WITHOUT_EPOCH_BYTES: usize = 28;
const WITHOUT_VERSION_BYTES: usize = 40;
/// The version we send: with configuration.
pub const VERSION: i32 = 2;

/// Splits off a message with its length; after an error the connection is of no use.
pub fn decode_frame(bytes: &[u8]) -> Result<Decoded<&[u8]>, DecodeError> {
    let mut r = Reader::new(bytes);
    let Ok(length) = r.i32() else { return Ok(Decoded::Need(4)) };
    let length = bounded_length(length, MESSAGE_BYTES_MAX)?;
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
}

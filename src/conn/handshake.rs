//! The first bytes of a connection: a four-letter word or a connect request.

use super::input::{FrameStatus, Input};
use crate::proto::connect::ConnectRequest;

/// The words of the client port, exact and case-sensitive.
const WORDS: [&[u8; 4]; 18] = [
    b"conf", b"cons", b"crst", b"dirs", b"dump", b"envi", b"gtmk", b"ruok", b"stmk", b"srst", b"srvr", b"stat", b"wchc", b"wchp", b"wchs",
    b"mntr", b"isro", b"hash",
];
/// What telnet sends when it is interrupted: a word as well.
const TELNET_CLOSE: [u8; 4] = [0xff, 0xf4, 0xff, 0xfd];
/// Argument of `stmk`: a trace mask.
const STMK_ARGUMENT_BYTES: usize = 8;

/// What the first bytes turned out to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum First {
    /// Cannot be told yet.
    NeedMore,
    /// A four-letter word and its argument (only `stmk` has one).
    FourLetter([u8; 4], Vec<u8>),
    /// A connect request; the frame is consumed, pipelined requests may follow it.
    Connect(ConnectRequest),
    /// Neither: close without an answer.
    Close,
}

/// Examines the first bytes and consumes what it recognises.
pub fn first(input: &mut Input, frame_bytes_max: usize) -> First {
    let bytes = input.bytes();
    let Some(head) = bytes.first_chunk::<4>() else { return First::NeedMore };
    if WORDS.contains(&head) || *head == TELNET_CLOSE {
        let argument_bytes = if head == b"stmk" { STMK_ARGUMENT_BYTES } else { 0 };
        let Some(argument) = bytes[4..].get(..argument_bytes) else { return First::NeedMore };
        return First::FourLetter(*head, argument.to_vec());
    }
    match input.frame(frame_bytes_max) {
        FrameStatus::Partial => First::NeedMore,
        FrameStatus::BadLength => First::Close,
        FrameStatus::Whole(len) => {
            let request = ConnectRequest::decode(&bytes[4..4 + len]);
            input.consume(4 + len);
            request.map_or(First::Close, First::Connect)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SessionId;

    fn examine(bytes: &[u8]) -> (First, usize) {
        let mut input = Input::default();
        input.spare()[..bytes.len()].copy_from_slice(bytes);
        input.filled(bytes.len());
        (first(&mut input, 0xfffff), input.bytes().len())
    }

    fn request(has_read_only: bool) -> (ConnectRequest, Vec<u8>) {
        let request = ConnectRequest {
            last_zxid_seen: 0,
            timeout_ms: 10_000,
            session: SessionId(7),
            password: vec![1; 16],
            read_only: false,
            has_read_only,
        };
        let mut frame = Vec::new();
        request.write_frame(&mut frame);
        (request, frame)
    }

    #[test]
    fn connect_requests_with_and_without_the_flag() {
        for has_read_only in [true, false] {
            let (want, mut frame) = request(has_read_only);
            assert_eq!(frame.len(), 4 + 44 + usize::from(has_read_only));
            for cut in [0, 3, 4, 20, frame.len() - 1] {
                assert_eq!(examine(&frame[..cut]).0, First::NeedMore);
            }
            frame.extend_from_slice(b"pipelined");
            assert_eq!(examine(&frame), (First::Connect(want), 9));
        }
    }

    #[test]
    fn words_in_pieces_and_their_argument() {
        assert_eq!(examine(b"ru").0, First::NeedMore);
        assert_eq!(examine(b"ruok").0, First::FourLetter(*b"ruok", vec![]));
        assert_eq!(examine(b"srvr\n").0, First::FourLetter(*b"srvr", vec![]));
        assert_eq!(examine(&TELNET_CLOSE).0, First::FourLetter(TELNET_CLOSE, vec![]));
        assert_eq!(examine(b"stmk\0\0\0").0, First::NeedMore);
        assert_eq!(examine(b"stmk\0\0\0\0\0\0\0\x05rest").0, First::FourLetter(*b"stmk", vec![0, 0, 0, 0, 0, 0, 0, 5]));
    }

    #[test]
    fn garbage_is_closed_without_an_answer() {
        assert_eq!(examine(b"xxxx").0, First::Close);
        assert_eq!(examine(b"RUOK").0, First::Close);
        assert_eq!(examine(&(-1i32).to_be_bytes()).0, First::Close);
        assert_eq!(examine(b"\0\0\0\x04\0\0\0\0").0, First::Close, "too short for its five fields");
    }
}

//! A snapshot's body as one server streams it to another: where it ends, found while it arrives.
//!
//! The stream has no length: sessions, access control lists, nodes and the end marker, just as they lie in a file, then a signature. The
//! scanner takes chunks of any size, keeps nothing but a few bytes of the field it is in, and allocates nothing, whatever the lengths say (S1).

use super::snapshot_body::{END_MARKER, PERSISTED_STAT_BYTES, SESSION_BYTES};
use crate::base::DecodeError;

/// What a sender writes behind the body; the bytes of a string.
pub const SIGNATURE: &[u8] = b"\0\0\0\x0aBenWasHere";

/// What became of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fed {
    /// So many of its first bytes belong to the body.
    pub body: usize,
    /// So many are used up: body and signature.
    pub bytes: usize,
    /// Body and signature are whole; what follows in the chunk is something else.
    pub whole: bool,
}

/// Finds the end of a streamed body.
#[derive(Clone, Debug)]
pub struct StreamScanner {
    next: Field,
    /// The first bytes of a field that is looked at.
    head: [u8; HEAD_BYTES],
    head_filled: usize,
    /// Bytes of the body before the next field.
    skip: u64,
    lists_left: u64,
    entries_left: u64,
}

/// Longest field that is looked at: the number of a list and the count of its entries.
const HEAD_BYTES: usize = 12;
/// Number of its list and the stat, behind the data of a node.
const NODE_TAIL_BYTES: u64 = 8 + PERSISTED_STAT_BYTES as u64;

/// The field that comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Field {
    Sessions,
    Lists,
    /// Number of a list and count of its entries.
    List,
    /// Permissions of an entry and the length of its scheme.
    Scheme,
    /// Length of the name.
    Name,
    /// Length of a path.
    Path,
    /// The one byte of a path that may be the end marker.
    ShortPath,
    /// Length of the data of a node.
    Data,
    Signature,
    End,
}

impl Default for StreamScanner {
    fn default() -> Self {
        StreamScanner { next: Field::Sessions, head: [0; HEAD_BYTES], head_filled: 0, skip: 0, lists_left: 0, entries_left: 0 }
    }
}

impl StreamScanner {
    /// Looks at the next chunk. After an error, or once it is whole, the scanner is of no use.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<Fed, DecodeError> {
        let mut at = 0;
        let mut body = 0;
        loop {
            if self.next == Field::End {
                return Ok(Fed { body, bytes: at, whole: true });
            }
            if self.next == Field::Signature {
                at += self.match_signature(&chunk[at..])?;
            } else {
                at += self.skip_bytes(chunk.len() - at);
                if self.skip == 0 {
                    at += self.fill_head(&chunk[at..])?;
                }
                body = at;
            }
            if at == chunk.len() && self.next != Field::End {
                return Ok(Fed { body, bytes: at, whole: false });
            }
        }
    }

    /// Passes over what need not be looked at.
    fn skip_bytes(&mut self, available: usize) -> usize {
        let bytes = usize::try_from(self.skip).map_or(available, |skip| skip.min(available));
        self.skip -= bytes as u64;
        bytes
    }

    /// Collects the next field and, when it is whole, goes on to the one behind it.
    fn fill_head(&mut self, chunk: &[u8]) -> Result<usize, DecodeError> {
        let wanted = self.next.bytes();
        let bytes = (wanted - self.head_filled).min(chunk.len());
        self.head[self.head_filled..self.head_filled + bytes].copy_from_slice(&chunk[..bytes]);
        self.head_filled += bytes;
        if self.head_filled == wanted {
            self.head_filled = 0;
            self.next = self.judge(wanted)?;
        }
        Ok(bytes)
    }

    /// The field is in `head`, of this length: what comes after it, and how far away.
    fn judge(&mut self, field_bytes: usize) -> Result<Field, DecodeError> {
        let mut last = [0; 4];
        last.copy_from_slice(&self.head[field_bytes.max(4) - 4..field_bytes.max(4)]);
        let number = i32::from_be_bytes(last);
        Ok(match self.next {
            Field::Sessions => {
                self.skip = count(number) * SESSION_BYTES as u64;
                Field::Lists
            }
            Field::Lists => {
                self.lists_left = count(number);
                self.after_list()
            }
            Field::List => {
                self.lists_left -= 1;
                self.entries_left = count(number);
                self.after_entry()
            }
            Field::Scheme => {
                self.skip = length(number)?;
                Field::Name
            }
            Field::Name => {
                self.skip = length(number)?;
                self.entries_left -= 1;
                self.after_entry()
            }
            Field::Path if number == END_MARKER.len() as i32 => Field::ShortPath,
            Field::Path if number < 0 => return Err(DecodeError::BadLength(number)),
            Field::Path => {
                self.skip = length(number)?;
                Field::Data
            }
            Field::ShortPath if self.head[..1] == *END_MARKER => Field::Signature,
            Field::ShortPath => Field::Data,
            Field::Data => {
                self.skip = length(number)? + NODE_TAIL_BYTES;
                Field::Path
            }
            Field::Signature | Field::End => self.next,
        })
    }

    fn after_list(&self) -> Field {
        if self.lists_left > 0 { Field::List } else { Field::Path }
    }

    fn after_entry(&self) -> Field {
        if self.entries_left > 0 { Field::Scheme } else { self.after_list() }
    }

    fn match_signature(&mut self, chunk: &[u8]) -> Result<usize, DecodeError> {
        let left = &SIGNATURE[self.head_filled..];
        let bytes = left.len().min(chunk.len());
        self.head_filled += left.iter().zip(chunk).take_while(|(wanted, got)| wanted == got).count();
        if self.head_filled < SIGNATURE.len() - left.len() + bytes {
            return Err(DecodeError::BadValue("signature behind a snapshot, at byte", self.head_filled as i64));
        }
        if self.head_filled == SIGNATURE.len() {
            self.next = Field::End;
        }
        Ok(bytes)
    }
}

impl Field {
    fn bytes(self) -> usize {
        match self {
            Field::Sessions | Field::Lists | Field::Name | Field::Path | Field::Data => 4,
            Field::List => HEAD_BYTES,
            Field::Scheme => 8,
            Field::ShortPath => END_MARKER.len(),
            Field::Signature | Field::End => 0,
        }
    }
}

/// A count; negative ones read as none, as in files.
fn count(number: i32) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A length; -1 is null.
fn length(number: i32) -> Result<u64, DecodeError> {
    if number == -1 { Ok(0) } else { u64::try_from(number).map_err(|_| DecodeError::BadLength(number)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{AclVec, Writer};
    use crate::storage::snapshot_body::BodyReader;
    use proptest::prelude::*;

    /// A body of these sessions, lists and nodes, encoded the plain way.
    fn body(sessions: usize, lists: &[usize], nodes: &[(&str, Option<&[u8]>)]) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_len(sessions);
        out.put_raw(&vec![7; sessions * SESSION_BYTES]);
        out.put_len(lists.len());
        for (number, entries) in lists.iter().enumerate() {
            out.put_i64(number as i64);
            out.put_len(*entries);
            for n in 0..*entries {
                out.put_i32(31);
                out.put_buffer((n % 3 > 0).then_some(&b"digest"[..n]));
                out.put_string(&"x".repeat(n));
            }
        }
        for (path, data) in nodes {
            out.put_string(path);
            out.put_buffer(*data);
            out.put_raw(&[0; NODE_TAIL_BYTES as usize]);
        }
        out.put_buffer(Some(END_MARKER));
        out
    }

    /// Feeds all of `stream` in pieces of these sizes, over and over.
    fn feed_in_pieces(stream: &[u8], sizes: &[usize]) -> (usize, usize, bool) {
        let (mut scanner, mut at, mut body) = (StreamScanner::default(), 0, 0);
        for size in sizes.iter().cycle() {
            let chunk = &stream[at..stream.len().min(at + size)];
            let fed = scanner.feed(chunk).expect("well formed");
            assert!(fed.body <= fed.bytes && fed.bytes <= chunk.len());
            body += fed.body;
            at += fed.bytes;
            if fed.whole || at == stream.len() {
                return (body, at, fed.whole);
            }
            assert_eq!(fed.bytes, chunk.len(), "all is used up before the end");
        }
        unreachable!("sizes are not empty")
    }

    proptest! {
        #[test]
        fn the_end_is_found_however_the_stream_is_cut(
            sessions in 0usize..3,
            lists in prop::collection::vec(0usize..4, 0..3),
            nodes in prop::collection::vec(("(/[a-z]{0,3}){0,2}|[a-z]", prop::option::of(prop::collection::vec(any::<u8>(), 0..20))), 0..5),
            sizes in prop::collection::vec(1usize..40, 1..6),
            behind in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let nodes: Vec<_> = nodes.iter().filter(|(path, _)| path != "/").map(|(path, data)| (path.as_str(), data.as_deref())).collect();
            let body = body(sessions, &lists, &nodes);
            prop_assert_eq!(BodyReader::new(&body).skip_all(), Ok(body.len()), "as the reader of files sees it");
            let mut stream = [&body, SIGNATURE].concat();
            let whole = stream.len();
            prop_assert_eq!(feed_in_pieces(&stream[..whole - 1], &sizes), (body.len(), whole - 1, false));
            stream.extend(behind);
            prop_assert_eq!(feed_in_pieces(&stream, &sizes), (body.len(), whole, true));
        }

        #[test]
        fn noise_is_refused_or_waited_for_and_never_hurts(noise in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..200)) {
            let mut scanner = StreamScanner::default();
            if let Ok(fed) = scanner.feed(&noise) {
                prop_assert!(fed.body <= fed.bytes && fed.bytes <= noise.len());
                let reader = BodyReader::new(&noise).skip_all();
                prop_assert!(!fed.whole || reader == Ok(fed.body), "{:?}", reader);
            }
        }
    }

    #[test]
    fn a_stream_that_is_not_signed_is_refused() {
        let body = body(0, &[], &[("", None)]);
        for (at, byte) in [(0, 1), (5, b'b'), (13, b'E')] {
            let mut signature = SIGNATURE.to_vec();
            signature[at] = byte;
            let stream = [&body, &signature[..]].concat();
            assert!(StreamScanner::default().feed(&stream).is_err(), "{at}");
        }
    }

    #[test]
    fn impossible_lengths_are_refused_and_large_ones_only_waited_for() {
        let mut bad_path = body(0, &[], &[]);
        let at = bad_path.len() - 5;
        bad_path[at..at + 4].copy_from_slice(&(-1i32).to_be_bytes());
        assert_eq!(StreamScanner::default().feed(&bad_path), Err(DecodeError::BadLength(-1)), "a node without a path");
        bad_path[at..at + 4].copy_from_slice(&(-2i32).to_be_bytes());
        assert_eq!(StreamScanner::default().feed(&bad_path), Err(DecodeError::BadLength(-2)));
        let mut sessions = i32::MAX.to_be_bytes().to_vec();
        sessions.resize(100, 0);
        assert_eq!(StreamScanner::default().feed(&sessions), Ok(Fed { body: 100, bytes: 100, whole: false }));
        let mut open = Vec::new();
        open.put_len(0);
        open.put_len(1);
        open.put_i64(1);
        open.put_raw(AclVec::OPEN.raw());
        open.put_buffer(Some(END_MARKER));
        let length = open.len();
        open.put_raw(SIGNATURE);
        assert_eq!(StreamScanner::default().feed(&open), Ok(Fed { body: length, bytes: open.len(), whole: true }));
    }
}

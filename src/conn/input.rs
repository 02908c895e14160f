//! Received bytes and the frames in them.
//!
//! Bytes are received into one buffer of the shard and worked on there; only what is left over (part of a frame, or requests of
//! a paused connection) moves into a buffer of the connection's own, which is given back as soon as it is empty. So a connection
//! that is idle between requests holds no buffer at all.

/// First size of a connection's own buffer.
const INITIAL_BYTES: usize = 2 << 10;
/// Room a receive into it always gets.
const SPARE_BYTES_MIN: usize = 512;

/// A receive buffer that grows with what has arrived.
#[derive(Debug, Default)]
pub struct Input {
    /// All of it initialised; `start..end` is unread.
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

/// What is at the front of the unread bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameStatus {
    /// Not a whole frame yet.
    Partial,
    /// A length that is negative or above the limit: the connection is closed.
    BadLength,
    /// A whole frame with this many bytes of payload, behind 4 bytes of length.
    Whole(usize),
}

impl Input {
    /// The shard's buffer, of which the first `n` bytes have just been received.
    #[must_use]
    pub fn borrowed(buf: Vec<u8>, n: usize) -> Self {
        assert!(n <= buf.len(), "more received than there was room for");
        Input { buf, start: 0, end: n }
    }

    /// The shard's buffer back.
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.buf
    }

    /// A connection's own buffer with these left-over bytes.
    #[must_use]
    pub fn left_over(bytes: &[u8]) -> Self {
        let mut buf = vec![0; (bytes.len() + SPARE_BYTES_MIN).max(INITIAL_BYTES)];
        buf[..bytes.len()].copy_from_slice(bytes);
        Input { buf, start: 0, end: bytes.len() }
    }

    /// Room for the next receive; never empty.
    pub fn spare(&mut self) -> &mut [u8] {
        if self.buf.len() - self.end < SPARE_BYTES_MIN && self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buf.len() - self.end < SPARE_BYTES_MIN {
            // Twice what was received, whatever length a frame claims to have (S1).
            self.buf.resize((self.buf.len() * 2).max(INITIAL_BYTES), 0);
        }
        &mut self.buf[self.end..]
    }

    /// `n` bytes have been received into `spare`.
    pub fn filled(&mut self, n: usize) {
        assert!(n <= self.buf.len() - self.end, "more received than there was room for");
        self.end += n;
    }

    /// Nothing unread.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Unread bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Drops `n` bytes from the front.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.end - self.start);
        self.start += n;
    }

    /// Drops everything, memory included.
    pub fn clear(&mut self) {
        *self = Input::default();
    }

    /// Looks at the front.
    #[must_use]
    pub fn frame(&self, frame_bytes_max: usize) -> FrameStatus {
        let bytes = self.bytes();
        let Some(length) = bytes.first_chunk::<4>() else { return FrameStatus::Partial };
        match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(len) if len <= frame_bytes_max => {
                if bytes.len() - 4 < len {
                    FrameStatus::Partial
                } else {
                    FrameStatus::Whole(len)
                }
            }
            _ => FrameStatus::BadLength,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(input: &mut Input, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = input.spare();
            let n = room.len().min(bytes.len());
            room[..n].copy_from_slice(&bytes[..n]);
            input.filled(n);
            bytes = &bytes[n..];
        }
    }

    #[test]
    fn frames_come_out_however_they_were_cut() {
        let mut wire = Vec::new();
        for len in [0usize, 1, 8, 3000, 70_000] {
            wire.extend_from_slice(&(len as i32).to_be_bytes());
            wire.extend(std::iter::repeat_n(len as u8, len));
        }
        for cut in [1, 3, 4096, wire.len()] {
            let (mut input, mut lens) = (Input::default(), Vec::new());
            for piece in wire.chunks(cut) {
                receive(&mut input, piece);
                while let FrameStatus::Whole(len) = input.frame(1 << 20) {
                    assert!(input.bytes()[4..4 + len].iter().all(|b| *b == len as u8));
                    lens.push(len);
                    input.consume(4 + len);
                }
            }
            assert_eq!(lens, [0, 1, 8, 3000, 70_000]);
        }
    }

    #[test]
    fn a_claimed_length_allocates_nothing_s1() {
        let mut input = Input::default();
        receive(&mut input, &0x000f_ffffi32.to_be_bytes());
        assert_eq!(input.frame(0x000f_ffff), FrameStatus::Partial);
        assert!(input.spare().len() <= INITIAL_BYTES);
    }

    #[test]
    fn lengths_outside_the_limit_are_refused() {
        for (len, want) in [(-1, FrameStatus::BadLength), (101, FrameStatus::BadLength), (100, FrameStatus::Partial)] {
            let mut input = Input::default();
            receive(&mut input, &i32::to_be_bytes(len));
            assert_eq!(input.frame(100), want);
        }
    }

    #[test]
    fn left_over_bytes_go_on_in_a_buffer_of_their_own() {
        let mut shared = vec![0; 64];
        shared[..6].copy_from_slice(b"\0\0\0\x05ab");
        let input = Input::borrowed(shared, 6);
        let mut own = Input::left_over(input.bytes());
        assert_eq!(input.into_buffer().len(), 64);
        receive(&mut own, b"cde");
        assert_eq!(own.frame(100), FrameStatus::Whole(5));
        assert_eq!(&own.bytes()[4..], b"abcde");
    }
}

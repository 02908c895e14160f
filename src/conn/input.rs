//! Received bytes and the frames in them.

/// First size of a connection's buffer.
const INITIAL_BYTES: usize = 2 << 10;
/// A full receive doubles the buffer up to this, so that a busy connection needs few receives; an empty buffer above it is given back.
const BUSY_BYTES_MAX: usize = 64 << 10;
/// Room a receive always gets.
const SPARE_BYTES_MIN: usize = 512;
/// Small receives in a row after which an empty, grown buffer is given back.
const QUIET_RECEIVES: u8 = 16;

/// A receive buffer that grows with what has arrived.
#[derive(Debug, Default)]
pub struct Input {
    /// All of it initialised; `start..end` is unread.
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// The last receive filled all the room there was.
    full: bool,
    quiet: u8,
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
    /// Room for the next receive; never empty.
    pub fn spare(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            let idle = self.quiet >= QUIET_RECEIVES && self.buf.len() > INITIAL_BYTES;
            if idle || self.buf.len() > BUSY_BYTES_MAX {
                self.buf = Vec::new();
                self.quiet = 0;
            }
        }
        let room = self.buf.len() - self.end;
        if room < SPARE_BYTES_MIN && self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = self.buf.len() - self.end;
        // Twice what was received, whatever length a frame claims to have (S1).
        if room < SPARE_BYTES_MIN || (self.full && self.buf.len() < BUSY_BYTES_MAX) {
            let len = (self.buf.len() * 2).max(INITIAL_BYTES);
            self.buf.resize(len, 0);
        }
        &mut self.buf[self.end..]
    }

    /// `n` bytes have been received into `spare`.
    pub fn filled(&mut self, n: usize) {
        assert!(n <= self.buf.len() - self.end, "more received than there was room for");
        self.end += n;
        self.full = self.end == self.buf.len();
        self.quiet = if n * 8 < self.buf.len() { self.quiet.saturating_add(1) } else { 0 };
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
    fn a_buffer_that_grew_is_given_back_when_quiet() {
        let mut input = Input::default();
        receive(&mut input, &[0; 60_000]);
        input.consume(60_000);
        for _ in 0..=QUIET_RECEIVES {
            receive(&mut input, &[0; 4]);
            input.consume(4);
        }
        assert!(input.spare().len() <= INITIAL_BYTES);
    }
}

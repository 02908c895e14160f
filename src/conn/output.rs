//! Bytes to send.

/// An empty buffer larger than this is given back.
const KEEP_BYTES_MAX: usize = 16 << 10;
/// Sent bytes at the front are dropped when they are at least this much and most of the buffer.
const COMPACT_BYTES_MIN: usize = 64 << 10;

/// A send buffer: replies and events are appended, the reactor takes from the front. One reply may be made in pieces: what is
/// appended meanwhile waits behind it.
#[derive(Debug, Default)]
pub struct Output {
    buf: Vec<u8>,
    sent: usize,
    /// Frames behind the reply that is being made in pieces.
    behind: Option<Vec<u8>>,
    /// Bytes ever sent, to see progress.
    sent_total: u64,
}

impl Output {
    /// Where whole frames are appended.
    pub fn writer(&mut self) -> &mut Vec<u8> {
        self.behind.as_mut().unwrap_or(&mut self.buf)
    }
    /// From now on a reply is made in pieces; there is at most one.
    pub fn begin_pieces(&mut self) {
        assert!(self.behind.is_none(), "two replies cannot be made at once");
        self.behind = Some(Vec::new());
    }
    /// Where its pieces are appended.
    pub fn pieces(&mut self) -> &mut Vec<u8> {
        assert!(self.behind.is_some(), "no reply is being made in pieces");
        &mut self.buf
    }
    /// The reply is complete.
    pub fn end_pieces(&mut self) {
        let behind = self.behind.take().unwrap_or_default();
        if self.buf.is_empty() {
            self.buf = behind;
        } else {
            self.buf.extend_from_slice(&behind);
        }
    }
    /// What can be sent now.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buf[self.sent..]
    }
    /// Number of bytes held, those that cannot be sent yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buf.len() - self.sent + self.behind.as_ref().map_or(0, Vec::len)
    }
    /// Nothing held and nothing to come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buf.len() == self.sent && self.behind.is_none()
    }
    /// Bytes ever sent.
    #[must_use]
    pub fn sent_total(&self) -> u64 {
        self.sent_total
    }
    /// The first `n` bytes have been sent.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.bytes().len(), "more sent than there was");
        self.sent += n;
        self.sent_total += n as u64;
        if self.sent == self.buf.len() {
            self.sent = 0;
            self.buf.clear();
            if self.buf.capacity() > KEEP_BYTES_MAX {
                self.buf = Vec::new();
            }
        } else if self.sent >= COMPACT_BYTES_MIN && self.sent * 2 > self.buf.len() {
            self.buf.drain(..self.sent);
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_sent_once_in_order() {
        let (mut output, mut sent, mut next) = (Output::default(), Vec::new(), 0u32);
        for step in 0..2000usize {
            for _ in 0..50 {
                output.writer().extend_from_slice(&next.to_be_bytes());
                next += 1;
            }
            let n = (step * 37) % (output.len() + 1);
            sent.extend_from_slice(&output.bytes()[..n]);
            output.advance(n);
        }
        sent.extend_from_slice(output.bytes());
        output.advance(output.len());
        assert!(output.is_empty());
        assert_eq!(sent.len() as u64, output.sent_total());
        let want: Vec<u8> = (0..next).flat_map(u32::to_be_bytes).collect();
        assert_eq!(sent, want);
    }
    #[test]
    fn frames_written_while_a_reply_is_made_in_pieces_come_behind_it() {
        let mut output = Output::default();
        output.writer().extend_from_slice(b"before ");
        output.begin_pieces();
        output.writer().extend_from_slice(b" behind");
        assert_eq!((output.bytes(), output.len()), (&b"before "[..], 14));
        output.advance(7);
        assert!(output.bytes().is_empty() && !output.is_empty());
        for piece in [&b"one"[..], b", two"] {
            output.pieces().extend_from_slice(piece);
            output.advance(2);
        }
        assert_eq!(output.bytes(), b" two");
        output.writer().extend_from_slice(b", too");
        output.end_pieces();
        assert_eq!(output.bytes(), b" two behind, too");
        output.begin_pieces();
        output.advance(16);
        output.writer().extend_from_slice(b"last");
        output.end_pieces();
        assert_eq!(output.bytes(), b"last", "a reply of no pieces leaves what is behind it");
    }
}

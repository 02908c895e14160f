//! Bytes to send.

/// An empty buffer larger than this is given back.
const KEEP_BYTES_MAX: usize = 16 << 10;
/// Sent bytes at the front are dropped when they are at least this much and most of the buffer.
const COMPACT_BYTES_MIN: usize = 64 << 10;

/// A send buffer: replies and events are appended, the reactor takes from the front.
#[derive(Debug, Default)]
pub struct Output {
    buf: Vec<u8>,
    sent: usize,
    /// Bytes ever sent, to see progress.
    sent_total: u64,
}

impl Output {
    /// Where frames are appended.
    pub fn writer(&mut self) -> &mut Vec<u8> {
        &mut self.buf
    }
    /// What is to be sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buf[self.sent..]
    }
    /// Number of bytes to be sent.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buf.len() - self.sent
    }
    /// Nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Bytes ever sent.
    #[must_use]
    pub fn sent_total(&self) -> u64 {
        self.sent_total
    }
    /// The first `n` bytes have been sent.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.len(), "more sent than there was");
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
}

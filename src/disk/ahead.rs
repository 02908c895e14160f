//! Reading a file on a thread of its own, ahead of whoever uses the bytes: a start-up that decodes what it reads then waits for the disk, and
//! for decompression, only when it has nothing else to do.

use std::io::{self, Read};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::JoinHandle;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks read and not yet taken: what may be read ahead.
const CHUNKS_MAX: usize = 8;

/// The reading end. The bytes are those of the input, its errors too.
#[derive(Debug)]
pub struct ReadAheadFile {
    /// An empty chunk is the end; a channel that closes without one means that the thread is gone, which is an error. `None` when dropped.
    full: Option<Receiver<io::Result<Vec<u8>>>>,
    /// Chunks to be filled again.
    spent: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    taken: usize,
    ended: bool,
    thread: Option<JoinHandle<()>>,
}

impl ReadAheadFile {
    /// Starts reading `input`, which may decode what it reads.
    pub fn start(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (filled, full) = mpsc::sync_channel(CHUNKS_MAX);
        let (spent, emptied) = mpsc::channel();
        let thread = std::thread::Builder::new().name("zoo-read".into()).spawn(move || read_all(input, &filled, &emptied))?;
        Ok(ReadAheadFile { full: Some(full), spent, chunk: Vec::new(), taken: 0, ended: false, thread: Some(thread) })
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let next = self.full.as_ref().and_then(|full| full.recv().ok());
        let next = next.unwrap_or_else(|| Err(io::Error::other("the reading thread has ended")))?;
        let spent = std::mem::replace(&mut self.chunk, next);
        // Nobody fills it when all has been read.
        let _ = self.spent.send(spent);
        self.taken = 0;
        self.ended = self.chunk.is_empty();
        Ok(())
    }
}

impl Read for ReadAheadFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.chunk.len() && !self.ended {
            self.next_chunk()?;
        }
        let n = buf.len().min(self.chunk.len() - self.taken);
        buf[..n].copy_from_slice(&self.chunk[self.taken..self.taken + n]);
        self.taken += n;
        Ok(n)
    }
}

impl Drop for ReadAheadFile {
    fn drop(&mut self) {
        // A thread that waits for room is told that nobody takes any more.
        drop(self.full.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_all(mut input: impl Read, filled: &SyncSender<io::Result<Vec<u8>>>, emptied: &Receiver<Vec<u8>>) {
    loop {
        let mut chunk = emptied.try_recv().unwrap_or_default();
        chunk.clear();
        let read = input.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
        let last = !matches!(read, Ok(n) if n > 0);
        if filled.send(read.map(|_| chunk)).is_err() || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `left` bytes in short reads, then ends as told.
    struct Input {
        left: usize,
        error: bool,
        panics: bool,
    }

    impl Read for Input {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            assert!(self.left > 0 || !self.panics, "planned");
            if self.left == 0 && self.error {
                return Err(io::Error::other("bad sector"));
            }
            let n = buf.len().min(self.left).min(70_000);
            buf[..n].iter_mut().enumerate().for_each(|(i, byte)| *byte = ((self.left - i) % 251) as u8);
            self.left -= n;
            Ok(n)
        }
    }

    fn input(left: usize) -> Input {
        Input { left, error: false, panics: false }
    }

    #[test]
    fn the_bytes_are_those_of_the_input_whatever_its_length() {
        for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, (CHUNKS_MAX + 3) * CHUNK_BYTES + 17] {
            let (mut want, mut got) = (Vec::new(), Vec::new());
            input(len).read_to_end(&mut want).expect("no error");
            let mut ahead = ReadAheadFile::start(input(len)).expect("a thread");
            ahead.read_to_end(&mut got).expect("no error");
            assert!(got == want, "{len} bytes");
            assert_eq!(ahead.read(&mut [0; 9]).expect("no error"), 0, "the end stays the end");
        }
    }

    #[test]
    fn an_error_of_the_input_is_never_taken_for_its_end_d9() {
        let mut ahead = ReadAheadFile::start(Input { error: true, ..input(2 * CHUNK_BYTES) }).expect("a thread");
        let mut got = Vec::new();
        assert_eq!(ahead.read_to_end(&mut got).map_err(|e| e.to_string()), Err("bad sector".to_owned()));
        let mut dead = ReadAheadFile::start(Input { panics: true, ..input(CHUNK_BYTES) }).expect("a thread");
        assert!(dead.read_to_end(&mut got).is_err(), "nor is a thread that is gone");
        assert!(dead.read(&mut [0; 9]).is_err());
    }

    #[test]
    fn dropping_it_early_ends_the_thread() {
        let mut ahead = ReadAheadFile::start(input(100 * CHUNK_BYTES)).expect("a thread");
        assert!(ahead.read(&mut [0; 9]).is_ok());
        drop(ahead); // joins: a thread that stayed would hang the test
    }
}

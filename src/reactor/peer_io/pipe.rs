//! Pieces of a long stream between a task of an executor, which must not wait, and a thread, which may. Bounded in both directions.

use atomic_waker::AtomicWaker;
use crossbeam::queue::ArrayQueue;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::thread::Thread;
use std::time::Duration;

/// Pieces under way; with pieces of 64 KiB half a megabyte.
const PIECES_MAX: usize = 8;
/// A waiting thread looks again after this long even if nobody has called it.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// One direction of a stream. Either end may give up; the other one then finds out.
struct Pipe {
    pieces: ArrayQueue<Vec<u8>>,
    /// The sender has sent everything, or the receiver wants no more.
    ended: AtomicBool,
    /// Set with `ended` when everything was sent.
    whole: AtomicBool,
    task: AtomicWaker,
    thread: OnceLock<Thread>,
}

/// The end held by a task.
pub struct TaskEnd(Arc<Pipe>);
/// The end held by a thread.
pub struct ThreadEnd(Arc<Pipe>);

/// The other end has given up.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

/// A stream between a task and a thread, in whichever direction they use it.
pub fn pipe() -> (TaskEnd, ThreadEnd) {
    let pipe = Arc::new(Pipe {
        pieces: ArrayQueue::new(PIECES_MAX),
        ended: AtomicBool::new(false),
        whole: AtomicBool::new(false),
        task: AtomicWaker::new(),
        thread: OnceLock::new(),
    });
    (TaskEnd(pipe.clone()), ThreadEnd(pipe))
}

impl Pipe {
    fn end(&self, whole: bool) {
        if whole {
            self.whole.store(true, Ordering::Release);
        }
        self.ended.store(true, Ordering::SeqCst);
        self.task.wake();
        self.call_thread();
    }

    fn ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// The receiver's view when no piece is left: `None` while there may be more.
    fn verdict<T>(&self) -> Option<Result<Option<T>, Broken>> {
        // What was sent before the end is taken first.
        (self.ended() && self.pieces.is_empty()).then(|| if self.whole.load(Ordering::Acquire) { Ok(None) } else { Err(Broken) })
    }

    fn call_thread(&self) {
        fence(Ordering::SeqCst); // what was done before the look at who waits
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl TaskEnd {
    /// Sends a piece, when there is room.
    pub async fn send(&self, piece: Vec<u8>) -> Result<(), Broken> {
        let mut piece = Some(piece);
        poll_fn(|cx| {
            self.0.task.register(cx.waker());
            let Some(unsent) = piece.take() else { return Poll::Ready(Ok(())) };
            if self.0.ended() {
                return Poll::Ready(Err(Broken));
            }
            match self.0.pieces.push(unsent) {
                Ok(()) => {
                    self.0.call_thread();
                    Poll::Ready(Ok(()))
                }
                Err(back) => {
                    piece = Some(back);
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The next piece; `Ok(None)` after the last one.
    pub async fn receive(&self) -> Result<Option<Vec<u8>>, Broken> {
        poll_fn(|cx| {
            self.0.task.register(cx.waker());
            let ended = self.0.verdict();
            match self.0.pieces.pop() {
                Some(piece) => {
                    self.0.call_thread();
                    Poll::Ready(Ok(Some(piece)))
                }
                None => ended.map_or(Poll::Pending, Poll::Ready),
            }
        })
        .await
    }

    /// Everything has been sent.
    pub fn finish(self) {
        self.0.end(true);
    }
}

impl ThreadEnd {
    /// Sends a piece, waiting for room.
    pub fn send(&self, mut piece: Vec<u8>) -> Result<(), Broken> {
        loop {
            if self.0.ended() {
                return Err(Broken);
            }
            match self.0.pieces.push(piece) {
                Ok(()) => {
                    self.0.task.wake();
                    return Ok(());
                }
                Err(back) => piece = back,
            }
            self.wait();
        }
    }

    /// The next piece, waiting for it; `Ok(None)` after the last one.
    pub fn receive(&self) -> Result<Option<Vec<u8>>, Broken> {
        loop {
            let ended = self.0.verdict();
            if let Some(piece) = self.0.pieces.pop() {
                self.0.task.wake();
                return Ok(Some(piece));
            }
            if let Some(ended) = ended {
                return ended;
            }
            self.wait();
        }
    }

    /// Everything has been sent.
    pub fn finish(self) {
        self.0.end(true);
    }

    /// A call that comes before this has begun to wait is not lost: it ends the wait at once. The first wait of all looks again by itself.
    fn wait(&self) {
        self.0.thread.get_or_init(std::thread::current);
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

impl Drop for TaskEnd {
    fn drop(&mut self) {
        self.0.end(false);
    }
}

impl Drop for ThreadEnd {
    fn drop(&mut self) {
        self.0.end(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::executor::run;

    #[test]
    fn everything_arrives_in_order_and_then_the_end_in_both_directions() {
        run(|| async {
            let (task, thread) = pipe();
            let writer = std::thread::spawn(move || {
                (0..100u8).for_each(|i| thread.send(vec![i]).expect("taken"));
                thread.finish();
            });
            for i in 0..100u8 {
                assert_eq!(task.receive().await, Ok(Some(vec![i])));
            }
            assert_eq!(task.receive().await, Ok(None));
            writer.join().expect("ends");

            let (task, thread) = pipe();
            let reader = std::thread::spawn(move || {
                let mut got = Vec::new();
                while let Some(piece) = thread.receive().expect("whole") {
                    got.extend(piece);
                }
                got
            });
            for i in 0..100u8 {
                task.send(vec![i]).await.expect("taken");
            }
            task.finish();
            assert_eq!(reader.join().expect("ends"), (0..100).collect::<Vec<u8>>());
        });
    }

    #[test]
    fn an_end_that_goes_away_breaks_the_stream_for_the_other_one() {
        run(|| async {
            let (task, thread) = pipe();
            let writer = std::thread::spawn(move || while thread.send(vec![0; 10]).is_ok() {});
            assert!(task.receive().await.is_ok());
            drop(task);
            writer.join().expect("ends");

            let (task, thread) = pipe();
            let reader = std::thread::spawn(move || (thread.receive(), thread.receive()));
            task.send(vec![1]).await.expect("room");
            drop(task);
            assert_eq!(reader.join().expect("ends"), (Ok(Some(vec![1])), Err(Broken)), "what was sent is not the whole");
        });
    }
}

//! The bytes between servers of an ensemble: the election port (`hello`, then `notification`) and the quorum port (`packet`).
//!
//! Decoding works on what has arrived so far: a whole value, or how many bytes there must be at least, or an error. Nothing is allocated
//! by a length before the bytes are there (S1).

pub mod hello;
pub mod notification;
pub mod packet;

use crate::base::DecodeError;

pub use hello::Hello;
pub use packet::Side;

/// What the bytes received so far are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoded<T> {
    /// A whole value.
    Whole {
        /// The value.
        value: T,
        /// How many bytes it took.
        bytes: usize,
    },
    /// The beginning of one: not before this many bytes are there, in all, can it be whole.
    Need(usize),
}

/// A length of at least 1 and at most `max`.
fn bounded_length(length: i32, max: usize) -> Result<usize, DecodeError> {
    usize::try_from(length).ok().filter(|n| (1..=max).contains(n)).ok_or(DecodeError::BadLength(length))
}

#[cfg(test)]
impl<T> Decoded<T> {
    /// The value, which has taken all of the `total` bytes.
    fn whole(self, total: usize) -> T {
        match self {
            Decoded::Whole { value, bytes } if bytes == total => value,
            Decoded::Whole { bytes, .. } => panic!("{bytes} of {total} bytes"),
            Decoded::Need(bytes) => panic!("needs {bytes} bytes"),
        }
    }
}

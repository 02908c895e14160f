//! The transaction id: epoch in the high 32 bits, counter in the low 32.

use std::fmt;

/// A ZooKeeper transaction id. Ordered as the unsigned 64-bit number, which is how history is ordered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Zxid(pub u64);

impl Zxid {
    /// No transaction at all: the state of an empty tree.
    pub const ZERO: Zxid = Zxid(0);
    /// Larger than every zxid that can be assigned.
    pub const MAX: Zxid = Zxid(u64::MAX);

    /// The zxid with this epoch and counter.
    #[must_use]
    pub const fn new(epoch: u32, counter: u32) -> Self {
        Zxid(((epoch as u64) << 32) | counter as u64)
    }
    /// The epoch in which the transaction was proposed.
    #[must_use]
    pub const fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }
    /// The position inside the epoch.
    #[must_use]
    pub const fn counter(self) -> u32 {
        self.0 as u32
    }
    /// The next zxid of the same epoch; `None` when the counter is exhausted and a new epoch is needed.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        if self.counter() == u32::MAX { None } else { Some(Zxid(self.0 + 1)) }
    }
    /// This zxid and those after it, up to `last`, of the same epoch.
    pub fn through(self, last: Self) -> impl Iterator<Item = Self> + use<> {
        std::iter::successors(Some(self), |zxid| zxid.next()).take_while(move |zxid| *zxid <= last)
    }
    /// The signed form that goes to the wire and to disk.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.0 as i64
    }
    /// From the signed form of wire and disk.
    #[must_use]
    pub const fn from_i64(value: i64) -> Self {
        Zxid(value as u64)
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}
impl fmt::Debug for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

//! Lock-free cross-core queues (crossbeam, atomics) and the messages that travel on them; no runtime.

pub mod message;
pub mod queue;
pub mod stream;

pub use message::{Batch, Control, Entry, Event, Reply, ToReplica};
pub use queue::Inbox;
pub use stream::{Publisher, Subscriber};

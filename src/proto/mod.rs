//! The ZooKeeper client protocol: bytes to types and back, no state. Layout facts: the 3.9 client protocol.

pub mod connect;
pub mod error_code;
pub mod event;
pub mod op_code;
pub mod request;
pub mod response;

#[cfg(test)]
mod golden;

pub use error_code::ErrorCode;
pub use event::EventType;
pub use op_code::{OpClass, OpCode};
pub use request::Request;

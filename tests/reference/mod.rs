//! What the tests that drive real server processes share: starting and stopping them, and talking to them over bare sockets.
#![allow(dead_code, missing_docs, clippy::unwrap_used)] // each test binary uses its own part

pub mod client;
#[path = "../support/ports.rs"]
mod ports;
pub mod process;
pub mod request;
pub mod seen;
pub mod words;

//! The server as a whole: configuration, start and stop. The only layer that knows all others.

pub mod config;
pub mod recovery;
pub mod snapshots;

pub use config::ServerConfig;

//! The server as a whole: configuration, start and stop. The only layer that knows all others.

pub mod config;

pub use config::ServerConfig;

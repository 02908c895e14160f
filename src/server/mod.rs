//! The server as a whole: configuration, start and stop. The only layer that knows all others.

pub mod bootstrap;
pub mod config;
mod embedded;
mod embedded_ensemble;
pub mod epochs;
pub mod host_check;
mod log_feed;
mod member;
pub mod recovery;
pub mod shutdown;
pub mod snapshots;

pub use crate::reactor::on_fatal;
pub use bootstrap::{StartError, run};
pub use config::ServerConfig;
pub use embedded::{ServerBuilder, ZooServer};
pub use embedded_ensemble::{EnsembleBuilder, Mode, ZooEnsemble};
pub use shutdown::Stopper;

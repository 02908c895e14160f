//! Atomic broadcast: elections, discovery, synchronisation and broadcast as ZooKeeper 3.9's servers practise them. Pure: it is told
//! what happened (`Input`) and says what must be done (`Output`); payloads are opaque bytes.
//!
//! Must never know: sockets, files, clocks, znodes, what a transaction means.
#![doc(hidden)]

pub mod config;
pub mod election;
pub mod election_link;
pub mod input;
pub mod membership;
pub mod message;
pub mod output;
pub mod quorum;
pub mod vote;
pub mod wire;

pub use config::ZabConfig;
pub use election::{Elected, Election, History};
pub use input::{EpochToken, Input, LinkId};
pub use membership::Membership;
pub use message::{ForwardedRequest, LearnerInfo, Notification, Packet, Payload, ServerState, Vote};
pub use output::{EpochFile, Output, Role};
pub use quorum::Quorum;

//! Ensembles of our servers and reference servers: either leads, either follows, either is killed and comes back, one takes the other's place,
//! and all show one history.
//!
//! Needs the reference server: `tests/run.sh --layer mixed`, or `cargo test --test mixed -- --ignored`.
#![allow(missing_docs, clippy::unwrap_used)]

mod balancing;
mod changes;
mod failover;
mod joining;
mod members;
mod migration;
mod modes;
mod observers;
mod programs;
#[path = "../reference/mod.rs"]
mod reference;
mod session;
mod writers;

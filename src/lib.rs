//! `zoo`: an Apache ZooKeeper server built for today's hardware, as a library. See `ARCHITECTURE.md` for the whole picture.
//!
//! Layers, each using only those before it: `base` (vocabulary) → `record` (transactions), `proto` (client protocol) →
//! `tree` (znodes), `storage` (log and snapshots), `zab` (atomic broadcast), `handoff` (cross-core queues), `disk` (blocking file work) →
//! `conn`, `replica`, `balance`, `shard` (pure cores) → `reactor` (the runtime) → `server`. Beside them, `client` → `recipes` → `cli`.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/client.md")]
pub struct ClientPage;

pub mod admin;
pub mod balance;
pub mod base;
pub mod cli;
pub mod client;
pub mod conn;
pub mod disk;
pub mod handoff;
pub mod metrics;
pub mod proto;
pub mod reactor;
pub mod recipes;
pub mod record;
pub mod replica;
pub mod server;
pub mod shard;
pub mod storage;
pub mod tree;
pub mod zab;

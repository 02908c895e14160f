//! ZooKeeper's transactions: already-decided changes with everything that is needed to apply them, in the encoding that
//! log, snapshots and peers share. Knows bytes and types; no tree, no log file, no protocol state.

pub mod epochs;
pub mod frame;
pub mod header;
pub mod txn;

pub use header::TxnHeader;
pub use txn::{Txn, TxnDigest, TxnType};

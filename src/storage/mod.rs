//! Log and snapshots as pure state machines over bytes and actions; ZooKeeper's own file formats. INTERFACE.

pub mod log;

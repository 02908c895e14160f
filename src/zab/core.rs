//! What every role works with: the settings, the time, this server's own state, and the orders given out.

use super::config::{Stored, ZabConfig};
use super::input::LinkId;
use super::local::Local;
use super::message::Packet;
use super::output::{EpochFile, Output};
use super::quorum::Quorum;
use crate::base::{Instant, PeerId, Zxid};
use std::collections::VecDeque;
use std::sync::Arc;

/// The only version of the learners' protocol there is: ZAB 1.0, since 3.4.
pub const PROTOCOL_VERSION: i32 = 0x10000;
/// What a packet is counted for beside its payload, when a learner's queue is limited.
pub const PACKET_BYTES: usize = 64;

/// A reason to give a role up.
#[derive(Debug)]
pub struct Leave(pub String);

impl Leave {
    /// For this reason.
    pub fn because<T>(why: impl Into<String>) -> Result<T, Leave> {
        Err(Leave(why.into()))
    }
}

/// Shared by the roles.
pub struct Core {
    /// Settings.
    pub config: ZabConfig,
    /// Who decides.
    pub quorum: Quorum,
    /// The membership as text, for NEWLEADER.
    pub config_text: Arc<str>,
    /// The time of the last input.
    pub now: Instant,
    /// This server's history and epochs.
    pub local: Local,
    outputs: VecDeque<Output>,
}

impl Core {
    /// At the start.
    pub fn new(config: ZabConfig, stored: Stored, now: Instant) -> Core {
        let quorum = config.membership.quorum();
        let config_text = config.membership.to_text().into();
        let local = Local::new(stored, config.planted);
        Core { config, quorum, config_text, now, local, outputs: VecDeque::new() }
    }
    /// This server.
    pub fn me(&self) -> PeerId {
        self.config.me
    }
    /// Milliseconds of `initLimit`.
    pub fn init_ms(&self) -> u64 {
        self.config.tick_ms * self.config.init_limit
    }
    /// Milliseconds of `syncLimit`.
    pub fn sync_ms(&self) -> u64 {
        self.config.tick_ms * self.config.sync_limit
    }

    /// Gives out an order.
    pub fn put(&mut self, output: Output) {
        self.outputs.push_back(output);
    }
    /// The next one.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
    /// Sends a packet.
    pub fn send(&mut self, link: LinkId, packet: Packet) {
        self.put(Output::Send { link, packet });
    }
    /// Tells the operator.
    pub fn note(&mut self, text: String) {
        self.put(Output::Note(text));
    }
    /// Has an epoch file written.
    pub fn write_epoch(&mut self, file: EpochFile, epoch: u32) {
        let token = self.local.write_epoch(file, epoch);
        self.put(Output::WriteEpoch { token, file, epoch });
    }
    /// Everything up to here is committed.
    pub fn commit(&mut self, zxid: Zxid) {
        self.local.commit(zxid);
        self.put(Output::Commit(zxid));
    }
}

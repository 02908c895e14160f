//! What every role works with: the settings, the time, this server's own state, and the orders given out.

use super::config::{Stored, ZabConfig};
use super::input::{ConfigToken, LinkId};
use super::local::Local;
use super::membership::Membership;
use super::message::Packet;
use super::output::{ConfigWrite, EpochFile, Output};
use super::planted::Bug;
use super::quorum::Quorum;
use crate::base::{Instant, PeerId, Zxid};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// The only version of the learners' protocol there is: ZAB 1.0, since 3.4.
pub const PROTOCOL_VERSION: i32 = 0x10000;
/// What a packet is counted for beside its payload, when a learner's queue is limited.
pub const PACKET_BYTES: usize = 64;

/// So many learners that are no members are remembered as lacking an image; those beyond it are tried with the log again.
const UNFED_MAX: usize = 1_024;

/// A reason to give a role up.
#[derive(Debug)]
pub struct Leave {
    /// For the operator.
    pub why: String,
    /// Who leads next, without an election: a configuration has taken effect that names it.
    pub successor: Option<PeerId>,
}

impl Leave {
    /// For this reason.
    pub fn because<T>(why: impl Into<String>) -> Result<T, Leave> {
        Err(Leave { why: why.into(), successor: None })
    }
    /// For another role, or another leader, under a new configuration.
    pub fn for_successor<T>(leader: PeerId) -> Result<T, Leave> {
        Err(Leave { why: "the configuration has changed".into(), successor: Some(leader) })
    }
}

/// A configuration that is proposed, or completed by a new leader, and not in force.
struct Proposed {
    membership: Membership,
    /// The write that brings it to the disk: nobody is told that we have it before.
    write: ConfigToken,
}

/// Shared by the roles.
pub struct Core {
    /// Settings. The membership is the one in force.
    pub config: ZabConfig,
    /// Who decides: a quorum of the configuration in force and, while another one is proposed, of that too.
    pub quorum: Quorum,
    /// The configuration in force as text.
    pub config_text: Arc<str>,
    proposed: Option<Proposed>,
    /// Writes of configurations asked for, and done.
    config_writes: (ConfigToken, ConfigToken),
    /// Somebody has to be told of another configuration.
    has_reconfigured: bool,
    /// The time of the last input.
    pub now: Instant,
    /// This server's history and epochs.
    pub local: Local,
    /// Whom the log on the disk did not bring to its end, or kept waiting for too long: an image does, the next time (L1). That may be in another term:
    /// without them there may be no quorum.
    pub unfed: BTreeSet<PeerId>,
    outputs: VecDeque<Output>,
}

impl Core {
    /// At the start.
    pub fn new(config: ZabConfig, mut stored: Stored, now: Instant) -> Core {
        let quorum = config.membership.quorum();
        let config_text = config.membership.to_text().into();
        let logged = stored.configuration.take();
        let local = Local::new(stored, config.planted);
        let nothing = (ConfigToken(0), ConfigToken(0));
        let logged_version = logged.as_ref().map(|logged| logged.version);
        let newer = |proposed: &Membership| {
            let is_newer = config.reconfig.enabled && proposed.version > config.membership.version;
            is_newer && was_acknowledged(proposed, logged_version, &local)
        };
        let proposed = config.reconfig.proposed.iter().cloned().chain(logged).filter(newer).max_by_key(|proposed| proposed.version);
        let mut core = Core {
            config,
            quorum,
            config_text,
            proposed: None,
            config_writes: nothing,
            has_reconfigured: false,
            now,
            local,
            unfed: BTreeSet::new(),
            outputs: VecDeque::new(),
        };
        core.proposed = proposed.map(|membership| Proposed { membership, write: ConfigToken(0) });
        core.reconfigured();
        core
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
    /// The log on the disk does not hold what this learner lacks.
    pub fn needs_image(&mut self, learner: PeerId) {
        if self.unfed.len() < UNFED_MAX || self.config.membership.members.contains_key(&learner) {
            self.unfed.insert(learner);
        }
    }
    /// Has an epoch file written.
    pub fn write_epoch(&mut self, file: EpochFile, epoch: u32) {
        let token = self.local.write_epoch(file, epoch);
        self.put(Output::WriteEpoch { token, file, epoch, vouches: false });
    }
    /// Has the promise of a leader's epoch written. To promise to one that has none (`begins`) is to begin an ensemble, and whoever is empty then
    /// has lost nothing: a quorum has elected that leader, and nobody of it had more.
    pub fn write_promise(&mut self, epoch: u32, begins: bool) {
        let vouches = begins && self.local.is_unexplained();
        let token = self.local.write_epoch(EpochFile::Accepted, epoch);
        if vouches {
            self.local.vouch();
        }
        self.put(Output::WriteEpoch { token, file: EpochFile::Accepted, epoch, vouches });
    }
    /// The configuration that is proposed, if there is one.
    pub fn proposed(&self) -> Option<&Membership> {
        self.proposed.as_ref().map(|proposed| &proposed.membership)
    }
    /// Does this server vote, now or when what is proposed takes effect?
    pub fn is_voter(&self, id: PeerId) -> bool {
        self.config.membership.is_voter(id) || self.proposed().is_some_and(|proposed| proposed.is_voter(id))
    }
    /// A configuration was proposed, or comes with a new leader's history. From here on it counts beside the one in force; one as old as
    /// that takes back what was proposed before and is not known to the leader.
    pub fn propose_config(&mut self, membership: Membership) {
        if !self.config.reconfig.enabled || self.proposed() == Some(&membership) {
            return;
        }
        let is_newer = membership.version > self.config.membership.version;
        if !is_newer && self.proposed.is_none() {
            return;
        }
        let text = is_newer.then(|| membership.to_text().into());
        let write = self.write_config(ConfigWrite::Proposed(text));
        self.proposed = is_newer.then_some(Proposed { membership, write });
        self.reconfigured();
    }
    /// A configuration takes effect. `true`: the role of this server is another one, with or without a vote.
    pub fn activate(&mut self, membership: Membership) -> bool {
        if !self.config.reconfig.enabled || membership.version <= self.config.membership.version {
            return false;
        }
        if self.proposed().is_some_and(|proposed| proposed.version <= membership.version) {
            self.proposed = None;
        }
        let observed = self.config.is_observer;
        self.config.is_observer = membership.is_observer(self.config.me);
        self.config_text = membership.to_text().into();
        self.note(format!("the configuration is now of version {:x}", membership.version));
        self.write_config(ConfigWrite::Active { membership: membership.clone(), keeps_proposed: self.proposed.is_some() });
        self.config.membership = membership;
        self.reconfigured();
        observed != self.config.is_observer
    }
    fn reconfigured(&mut self) {
        let active = self.config.membership.quorum();
        let joint = self.proposed().filter(|_| !self.config.planted.has(Bug::ProposedConfigIgnored)).map(Membership::quorum);
        self.quorum = joint.into_iter().fold(active, Quorum::and);
        self.has_reconfigured = true;
    }
    /// Whether the others have to be told of another configuration, once.
    pub fn take_reconfigured(&mut self) -> bool {
        std::mem::take(&mut self.has_reconfigured)
    }
    fn write_config(&mut self, write: ConfigWrite) -> ConfigToken {
        self.config_writes.0.0 += 1;
        let token = self.config_writes.0;
        self.put(Output::WriteConfig { token, write });
        token
    }
    /// A configuration is written, or cannot be.
    pub fn config_written(&mut self, token: ConfigToken) {
        self.config_writes.1 = self.config_writes.1.max(token);
    }
    /// Is what is proposed on the disk?
    pub fn has_stored_proposed(&self) -> bool {
        self.proposed.as_ref().is_none_or(|proposed| proposed.write <= self.config_writes.1)
    }
    /// Up to where this server may say that it has the history: a transaction that proposes a configuration counts when that is on the disk
    /// by itself too.
    pub fn acknowledgeable(&self) -> Zxid {
        let durable = self.local.durable();
        match &self.proposed {
            Some(proposed) if proposed.write > self.config_writes.1 => durable.min(before(proposed.membership.version)),
            _ => durable,
        }
    }
    /// Nothing is on its way to the disk.
    pub fn is_settled(&self) -> bool {
        self.local.is_settled() && self.config_writes.0 == self.config_writes.1
    }

    /// Everything up to here is committed.
    pub fn commit(&mut self, zxid: Zxid) {
        self.local.commit(zxid);
        self.put(Output::Commit(zxid));
    }
}

/// One whose transaction is of the epoch of our history or an older one, and not in that history, was never said to be here, or was taken back since: its
/// file was quicker than the log, and may lie there for epochs. It must not be asked for, or those who have it, and more history than we have, could never
/// follow us. `logged` is the newest of the history.
fn was_acknowledged(proposed: &Membership, logged: Option<i64>, local: &Local) -> bool {
    let zxid = Zxid::from_i64(proposed.version);
    let is_in_history = zxid <= local.last() && logged >= Some(proposed.version);
    zxid.counter() == 0 || is_in_history || zxid > local.last() && zxid.epoch() > local.current_epoch()
}

/// The zxid in front of a configuration's own.
fn before(version: i64) -> Zxid {
    Zxid(Zxid::from_i64(version).0.saturating_sub(1))
}

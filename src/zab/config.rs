//! Settings of a member of an ensemble, validated.

use super::membership::Membership;
use super::message::Payload;
use super::planted::Planted;
use crate::base::{PeerId, Zxid};

/// Everything ZAB is told at the start; a small struct by value.
#[derive(Clone, Debug)]
pub struct ZabConfig {
    /// This server (`myid`).
    pub me: PeerId,
    /// Who votes, who observes, and where they are.
    pub membership: Membership,
    /// `peerType=observer`, or listed as one.
    pub is_observer: bool,
    /// `tickTime`.
    pub tick_ms: u64,
    /// `initLimit`, in ticks: for epochs, synchronisation, and the NEWLEADER quorum.
    pub init_limit: u64,
    /// `syncLimit`, in ticks: how long a peer may be silent.
    pub sync_limit: u64,
    /// `fastleader.minNotificationInterval`.
    pub notification_ms_min: u64,
    /// `fastleader.maxNotificationInterval`.
    pub notification_ms_max: u64,
    /// `zoo.electionWait`: how long an election waits for a better vote once it has a quorum (200 in ZooKeeper).
    pub finalize_ms: u64,
    /// `leaderConnectDelayDuringRetryMs`.
    pub connect_retry_ms: u64,
    /// `commitLogCount`: the tail of recent transactions holds at least so many.
    pub tail_count_min: usize,
    /// Bytes of payload beyond which the tail drops its oldest entries, if they are committed and more than `tail_count_min`.
    pub tail_bytes_max: usize,
    /// Bytes on their way to one learner, not known to have arrived, beyond which it is cut off, to come back by a synchronisation (L14);
    /// a learner that lacks more than half of it is sent an image.
    pub learner_bytes_max: usize,
    /// `observerMasterPort` is set: followers feed observers, and observers learn from followers.
    pub observer_masters: bool,
    /// Jitter.
    pub seed: u64,
    /// A bug for the simulation to find; none in a server.
    pub planted: Planted,
    /// Whether the membership can change.
    pub reconfig: Reconfig,
}

/// What a member is told about changes of the membership. By default there are none, whatever others say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reconfig {
    /// `reconfigEnabled`.
    pub enabled: bool,
    /// So many voters a new configuration must have: 2 when a server alone would be a standalone one (`standaloneEnabled`), else 1.
    pub voters_min: usize,
    /// What the disk holds of a configuration that was proposed, or being completed, and not known to be in force.
    pub proposed: Option<Membership>,
}

/// What the disk holds at start.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// `acceptedEpoch`.
    pub accepted_epoch: u32,
    /// `currentEpoch`.
    pub current_epoch: u32,
    /// The end of the history, durable: of the log, or of the snapshot if that is later.
    pub last_logged: Zxid,
    /// The newest snapshot, whether it was used at the start or not, or `Zxid::ZERO`: the log cannot be cut below it, or the directory would not be
    /// read again. It need not be committed: it may be an image from a leader that was never established.
    pub snapshot: Zxid,
    /// What it means that there is nothing, where there is nothing at the start.
    pub emptiness: Emptiness,
    /// The newest configuration in the history, committed or not. It may be newer than what the configuration's files say: the server may have
    /// stopped between the two, and a file that cannot be written is no reason to stop.
    pub configuration: Option<Membership>,
    /// The end of the log without a gap, oldest first.
    pub recent: Vec<(Zxid, Payload)>,
}

/// What it means that a disk holds no history (L21).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Emptiness {
    /// Nobody says: it was wiped, if there is an ensemble that has a history.
    #[default]
    Unexplained,
    /// The operator vouches that it has never held any (`initialize`): this server has forgotten nothing, and counts.
    Vouched,
    /// It is not to be taken for an empty database (`db.autocreate=false`): this server takes no part in elections before it has a history.
    Distrusted,
}

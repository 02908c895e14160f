//! Everything that can happen to this server's part in the ensemble.

use super::message::{Notification, Packet};
use crate::base::{PeerId, Zxid};

/// A connection of the quorum port, never reused while the process lives. Links this server asked for (`Output::Connect`) have the odd
/// numbers it chose; accepted ones get even numbers from the shell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// Names one write of an epoch file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EpochToken(pub u64);

/// Names one write of a configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConfigToken(pub u64);

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// A message on the election port. The shell has checked that `from` is whom it claims to be, as far as the transport can.
    Notification {
        /// The sender; this server itself among them.
        from: PeerId,
        /// What it says.
        message: Notification,
    },
    /// A learner has connected to our quorum port.
    Accepted(LinkId),
    /// The link asked for with `Output::Connect` is up.
    Connected(LinkId),
    /// A link is gone, or could not be made. Nothing more comes from it.
    Disconnected(LinkId),
    /// A packet. After a `Packet::Snap` the shell gives no further packet of the link until the installation it was asked for has ended.
    Packet(LinkId, Packet),
    /// Everything in our log up to this zxid is on stable storage.
    Durable(Zxid),
    /// The epoch file is on stable storage, under its name.
    EpochWritten(EpochToken),
    /// The configuration is on stable storage, or cannot be written, which the shell has said loudly: the log has it too, and a change of the
    /// membership must not fail for a file that nobody may write.
    ConfigWritten(ConfigToken),
    /// The log ends at this zxid, durably, and so does the tree (answer to `Output::Truncate`). Less than what was asked for: that zxid was
    /// not in the log, and the next synchronisation will ask for everything.
    Truncated(Zxid),
    /// The image has been received whole, is durable and is the tree now; log and tree are at this zxid (answer to `Output::InstallSnapshot`).
    SnapshotInstalled(Zxid),
    /// It could not be received; log and tree are what they were before.
    SnapshotFailed(String),
    /// The stream to this learner has been handed to the network; the packets queued behind it follow.
    SnapshotSent(LinkId),
    /// `poll_timeout` has passed.
    Timeout,
}

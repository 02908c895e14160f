//! Everything the shell (the replica, and the peer transports around it) must do, in the order given out.

use super::input::{ConfigToken, EpochToken, LinkId};
use super::membership::Membership;
use super::message::{ForwardedRequest, Notification, Packet, Payload};
use crate::base::{PeerId, SessionId, Zxid};
use crate::record::epochs::{Epochs, StoredEpoch};
use std::sync::Arc;

/// One of the two epoch files (`record::epochs`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EpochFile {
    /// The highest epoch promised.
    Accepted,
    /// The epoch whose history is here.
    Current,
}

impl EpochFile {
    /// What the files say when this one says `epoch`, and the other one nothing.
    #[must_use]
    pub fn of(self, epoch: u32) -> Epochs {
        let epoch = StoredEpoch(i64::from(epoch));
        match self {
            EpochFile::Accepted => Epochs { accepted: epoch, ..Epochs::NONE },
            EpochFile::Current => Epochs { current: epoch, ..Epochs::NONE },
        }
    }
}

/// What is to be written about the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigWrite {
    /// The one that is proposed; `None`: none is.
    Proposed(Option<Arc<str>>),
    /// The one in force from now on.
    Active {
        /// It.
        membership: Membership,
        /// A newer one is proposed, and stays so.
        keeps_proposed: bool,
    },
}

/// What this server is for its clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Nobody to serve: electing, discovering or synchronising.
    Looking,
    /// Established leader of this epoch: everything up to `Output::Commit` given before is committed; new zxids come from `Zab::next_zxid`.
    Leading {
        /// The epoch.
        epoch: u32,
    },
    /// Up to date behind this leader; writes go to it.
    Following {
        /// Whom.
        leader: PeerId,
    },
    /// The same without a vote.
    Observing {
        /// Whom.
        leader: PeerId,
    },
}

/// One order.
#[derive(Debug)]
pub enum Output {
    // ---- transports
    /// Put this into the one-message queue of the election connection to `to` (a newer one replaces it), connecting if need be. `to` may
    /// be this server: then it comes back as an input.
    Notify {
        /// To whom.
        to: PeerId,
        /// What.
        message: Notification,
    },
    /// Connect to the quorum port of this peer; report `Connected` or `Disconnected`.
    Connect {
        /// Names the link.
        link: LinkId,
        /// To whom.
        peer: PeerId,
    },
    /// Observing: the same, to its port for observers.
    ConnectToMaster {
        /// Names the link.
        link: LinkId,
        /// To whom.
        peer: PeerId,
    },
    /// Send, in order; a link that is gone swallows it.
    Send {
        /// Where.
        link: LinkId,
        /// What.
        packet: Packet,
    },
    /// Send an image of everything up to `zxid`, exactly: `Packet::Snap`, the stream, its signature; later `Send`s of the link wait behind it.
    /// Where that is not published yet, wait for it. While `Role::Looking` lasts the leader is not established, and this is its whole log:
    /// publish up to it for this purpose (nobody is served), but let no snapshot file be made of it (A13). Report `SnapshotSent`.
    SendSnapshot {
        /// Where.
        link: LinkId,
        /// The image's zxid.
        zxid: Zxid,
        /// The zxid in its packet: the same, or the start of the epoch, where nothing comes between the two.
        told: Zxid,
    },
    /// Leader: read records from this server's own log on the disk, once what the link was sent before is on its way: those at or above `from`,
    /// up to `upto`, in order, about `zab::LOG_PART_BYTES` of them. Report `LogRead`. An order that begins (`first`) is refused where the log
    /// costs more than an image. One at a time per link; nothing is reported for a link that was closed.
    ReadLog {
        /// For whom.
        link: LinkId,
        /// The first zxid wanted.
        from: Zxid,
        /// The last one; durable here.
        upto: Zxid,
        /// The first order for this link.
        first: bool,
    },
    /// Close the link; it is not reported.
    Close(LinkId),

    // ---- this server's durable state
    /// Write the epoch file durably (temporary file, fsync, rename, fsync of the directory), off the reactor; report `EpochWritten` (A24).
    WriteEpoch {
        /// To be given back.
        token: EpochToken,
        /// Which.
        file: EpochFile,
        /// Its content.
        epoch: u32,
        /// First say durably that this disk is empty because it has never held anything, as with the operator's `initialize` (L21).
        vouches: bool,
    },
    /// Write a configuration where the next start finds it, off the reactor and one after the other; report `ConfigWritten`. No role begins
    /// before.
    WriteConfig {
        /// To be given back.
        token: ConfigToken,
        /// What.
        write: ConfigWrite,
    },
    /// Learner: put this transaction on top of the tree (above `applied`) and append it to the log; report `Durable` some time.
    Append {
        /// Its place.
        zxid: Zxid,
        /// Its bytes.
        payload: Payload,
    },
    /// Everything up to here is committed: publish it as soon as it is durable here. Never moves back. One comes before every role that
    /// serves, with the end of the history it begins with.
    Commit(Zxid),
    /// Remove everything above this zxid from log and tree, durably; report `Truncated` with what is the end then. Appends that are given out
    /// later wait for it. A failure stops the process (ZK-3701).
    Truncate(Zxid),
    /// Receive the image that follows on the link: into a file first, then, whole and durable, in place of log and tree. Report
    /// `SnapshotInstalled` or `SnapshotFailed`, exactly one of them, even when the link is closed or lost meanwhile: no other role begins
    /// before (L4). A stream that brings no byte for `initLimit` ticks has failed. Until then no tree is served or snapshotted.
    InstallSnapshot {
        /// Where it comes from.
        link: LinkId,
        /// What it is as of.
        zxid: Zxid,
    },

    // ---- clients of the replica
    /// The role has changed. Leaving a role (`Looking`) comes before anything of the next one: cut the clients, forget what is forwarded.
    Role(Role),
    /// Leading: a write of a learner's client. One transaction each, in the order given out per learner (A14). A sync (op 9) comes here too,
    /// since its answer must not overtake those of earlier requests: `Zab::sync_for` when everything before it is proposed.
    Request {
        /// The learner.
        from: PeerId,
        /// Over which connection: a session belongs to the link through which it talks.
        link: LinkId,
        /// What.
        request: ForwardedRequest,
    },
    /// Leading: sessions a learner has heard from, with their timeouts in ms.
    Touched {
        /// Through which learner.
        link: LinkId,
        /// Which.
        sessions: Vec<(SessionId, i32)>,
    },
    /// Leading: a learner asks whether a session is alive; answer with `Zab::revalidated`.
    Revalidate {
        /// Where the answer goes, and the session's new owner.
        link: LinkId,
        /// Which.
        session: SessionId,
        /// The timeout it asks for.
        timeout_ms: i32,
    },
    /// Leading: this learner is gone; sessions that talked through it have no connection now.
    LearnerGone(LinkId),
    /// Learner: the leader's answer to a revalidation.
    Revalidated {
        /// Which.
        session: SessionId,
        /// May it go on?
        valid: bool,
    },
    /// The oldest pending sync is due as soon as everything committed so far is applied here.
    Synced,
    /// Learner: the leader's ping wants to know the sessions heard from since the last one; answer with `Zab::pinged`.
    Ping {
        /// To be returned.
        zxid: Zxid,
    },
    /// The configurations that count have changed: connections follow, and clients are shown the one in force. Given out at the start too.
    Config {
        /// In force.
        active: Membership,
        /// Proposed, or being completed by a new leader.
        proposed: Option<Membership>,
    },
    /// Why a link or a role was given up: for the operator's log.
    Note(String),
    /// A broken invariant: print and abort.
    Fatal(String),
}

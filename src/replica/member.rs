//! This server as a member of an ensemble: what `Zab` orders done to log, tree and clients, and what it is told back.
//!
//! Invariants: the tree's head is the log's end in every role, so that leaving one undoes nothing (A1, D10); `applied` moves to what is both
//! committed and durable here, and only while there is a tree to serve (A2, A13); without a role nobody is served: all connections are cut by
//! an order in the stream, and no other is taken (A9); what is removed from history is gone from the disk before anything is appended
//! (L6, L20, B11).

use super::learner::Learner;
use super::read_only::ReadOnly;
use super::report::ProposalBytes;
use super::{Arrival, Output, Replica};
use crate::base::{Instant, WallTime, Zxid};
use crate::handoff::Control;
use crate::record::TxnDigest;
use crate::record::txn::decode_payload;
use crate::tree::Tree;
use crate::zab::{self, LinkId, Packet, Role, Zab};
use std::collections::VecDeque;

/// What a standalone server does not have.
pub(super) struct Member {
    pub(super) zab: Zab,
    /// As last ordered; `zab` may be ahead by orders that are still to be carried out.
    pub(super) role: Role,
    /// Everything up to here is committed.
    pub(super) committed: Zxid,
    pub(super) learner: Learner,
    pub(super) read_only: ReadOnly,
    /// For the shell, before anything else: what goes to peers need not wait for our own disk.
    pub(super) outbox: VecDeque<Output>,
    images: Vec<AwaitedImage>,
    /// What of the log `zab` knows to be durable.
    told_durable: Zxid,
    change: Option<Change>,
    /// It waits for the mark.
    epoch_write: Option<zab::Output>,
    digests: Digests,
    /// A digest has not matched once in this run.
    has_differed: bool,
    pub(super) proposal_bytes: Option<ProposalBytes>,
    pub(super) role_since: Instant,
    /// The time of the last input.
    now: Instant,
    /// The same by the clock on the wall.
    pub(super) wall: WallTime,
}

/// An image that is to be sent when exactly its zxid is applied.
struct AwaitedImage {
    link: LinkId,
    zxid: Zxid,
    /// The zxid in its packet.
    told: Zxid,
    /// What is sent on the link behind it.
    behind: Vec<zab::Output>,
}

/// A change of history that is not an append, under way.
enum Change {
    /// The tree ends at this zxid already; the log is being cut.
    Truncating(Zxid),
    /// The log is being cut; then the tree is read again from the disk.
    Reloading(Zxid),
    /// An image has come and is being loaded; the tree it replaces is gone.
    Loading,
    /// It cannot be loaded, for this reason: the tree is read again from the disk, which is what it was.
    Restoring(String),
    /// It is loaded: no snapshot of the old tree is being written any more, then the log is being cut, then the image takes the place of the
    /// snapshot, then of the tree.
    Installing(Box<Tree>),
}

/// Whether the digests that come with transactions say something about this tree (L17).
enum Digests {
    /// Those above this zxid do.
    Compared(Zxid),
    /// An image was taken while the tree changed: none does before the end of the synchronisation.
    NotYet,
    /// One did not match: the leader has been asked for everything.
    Wrong,
}

impl Member {
    pub(super) fn new(zab: Zab, head: Zxid, now: Instant, wall: WallTime, seed: u64) -> Self {
        Member {
            zab,
            role: Role::Looking,
            committed: Zxid::ZERO,
            learner: Learner::new(seed),
            read_only: ReadOnly::No,
            outbox: VecDeque::new(),
            images: Vec::new(),
            told_durable: head,
            change: None,
            epoch_write: None,
            digests: Digests::Compared(Zxid::ZERO),
            has_differed: false,
            proposal_bytes: None,
            role_since: now,
            now,
            wall,
        }
    }

    pub(super) fn is_serving(&self) -> bool {
        self.role != Role::Looking
    }

    /// No change of history is under way, and nothing is known against the tree.
    pub(super) fn tree_is_whole(&self) -> bool {
        self.change.is_none() && matches!(self.digests, Digests::Compared(_))
    }
}

impl Replica {
    /// Tells `zab` what it waits for, and carries out what it orders. True when there was any.
    pub(super) fn follow_orders(&mut self, now: Instant) -> bool {
        let mut any = false;
        self.tell_durable(now);
        while self.fatal.is_none()
            && let Some(order) = self.member.as_mut().and_then(|m| m.zab.poll_output())
        {
            any = true;
            self.order(now, order);
        }
        any
    }

    /// Something the peers' transports or the epoch files report.
    pub(super) fn peer(&mut self, now: Instant, input: zab::Input) {
        if let Some(member) = &mut self.member {
            member.now = now;
            match unreadable(&input) {
                Some((link, why)) => member.zab.refuse(link, &why),
                None => member.zab.handle(now, input),
            }
        }
    }

    pub(super) fn tell_durable(&mut self, now: Instant) {
        let durable = self.log.durable_zxid();
        if let Some(member) = self.member.as_mut().filter(|m| m.told_durable < durable) {
            member.told_durable = durable;
            member.zab.handle(now, zab::Input::Durable(durable));
        }
    }

    /// The same after the log has given out orders, some of which make things durable by themselves (`forceSync=no`).
    pub(super) fn tell_durable_late(&mut self) {
        let Some(now) = self.member.as_ref().filter(|m| m.told_durable < self.log.durable_zxid()).map(|m| m.now) else { return };
        self.follow_orders(now);
    }

    fn order(&mut self, now: Instant, order: zab::Output) {
        use zab::Output as Order;
        let Some(member) = &mut self.member else { return };
        match order {
            Order::Send { link, .. } => match member.images.iter_mut().find(|image| image.link == link) {
                Some(image) => image.behind.push(order),
                None => member.outbox.push_back(Output::Peer(order)),
            },
            Order::Close(link) => {
                member.images.retain(|image| image.link != link);
                member.outbox.push_back(Output::Peer(order));
            }
            Order::Notify { .. } | Order::Connect { .. } | Order::ConnectToMaster { .. } | Order::WriteConfig { .. } | Order::Note(_) => {
                member.outbox.push_back(Output::Peer(order));
            }
            Order::ReadLog { link, from, upto, first } => {
                let newest = self.log.newest();
                member.outbox.push_back(Output::ReadLog { link, from, upto, first, newest });
            }
            Order::WriteEpoch { file, epoch, .. } => {
                self.log.raise_epochs(file.of(epoch));
                member.epoch_write = Some(order);
                self.write_epoch();
            }
            Order::SendSnapshot { link, zxid, told } => member.images.push(AwaitedImage { link, zxid, told, behind: Vec::new() }),
            Order::Append { zxid, payload } => self.arrive(Arrival::Append(zxid, payload)),
            Order::Commit(zxid) => member.committed = member.committed.max(zxid),
            Order::Truncate(zxid) => self.truncate(zxid),
            Order::InstallSnapshot { link, zxid } => member.outbox.push_back(Output::ReceiveSnapshot { link, zxid }),
            Order::Role(Role::Looking) => self.leave_role(),
            Order::Role(role) => self.take_role(now, role),
            Order::Request { link, request, .. } => self.arrive(Arrival::Forwarded(link, request)),
            Order::Touched { mut sessions, .. } => {
                self.connections.take_told(now, &mut sessions);
                sessions.into_iter().for_each(|(session, timeout_ms)| self.sessions.heard_elsewhere(session, timeout_ms, now));
            }
            Order::Revalidate { link, session, timeout_ms } => self.arrive(Arrival::Revalidate(link, session, timeout_ms)),
            // Its sessions stay its own: nobody else uses its number, and nobody tells that they are alive.
            Order::LearnerGone(_) => {}
            Order::Revalidated { session, valid } => self.arrive(Arrival::Revalidated(session, valid)),
            Order::Synced => self.arrive(Arrival::Synced),
            Order::Ping { zxid } => self.tell_touched(zxid),
            Order::Config { ref active, .. } => {
                let (text, version, wall) = (active.to_text().into(), active.version, member.wall);
                member.outbox.push_back(Output::Peer(order));
                self.tree.show_configuration(text, version, wall);
            }
            Order::Fatal(why) => self.fatal = Some(why),
        }
    }

    /// The mark knows the epochs that have been raised.
    pub(super) fn mark_synced(&mut self) {
        self.log.handle_mark_synced();
        self.write_epoch();
    }

    /// An epoch file is written when the mark is ahead of it, durably (A23).
    fn write_epoch(&mut self) {
        if let Some(member) = self.member.as_mut().filter(|_| !self.log.is_raising()) {
            member.outbox.extend(member.epoch_write.take().map(Output::Peer));
        }
    }

    /// Nobody is served any more: connections are cut, what was forwarded or not published is answered to nobody.
    fn leave_role(&mut self) {
        let Some(member) = &mut self.member else { return };
        member.role = Role::Looking;
        member.learner.clear();
        member.images.clear();
        self.backlog.keep_appends();
        self.sessions.clear();
        self.local.clear();
        self.removals.forget();
        self.connections.forget();
        self.groups.forget_clients();
        self.groups.control_all(Control::CutAll);
    }

    fn take_role(&mut self, now: Instant, role: Role) {
        self.end_read_only();
        let head = self.tree.head_zxid();
        let Some(member) = &mut self.member else { return };
        assert!(head == self.log.appended_zxid() && member.change.is_none(), "tree and log are one history when a role begins (B11)");
        match member.digests {
            Digests::Compared(_) => {}
            Digests::NotYet => {
                member.digests = Digests::Compared(head);
                // The file that came may not be exact at its zxid: replace it by one that is.
                self.snapshots.want(head);
            }
            Digests::Wrong => {
                self.fatal = Some("the tree differs from the leader's, and the leader has sent no image to replace it".into());
                return;
            }
        }
        member.role = role;
        (member.role_since, member.proposal_bytes) = (now, None);
        self.groups.expect_clients();
        if matches!(role, Role::Leading { .. }) {
            self.open_sessions(now);
            self.removals.restart(&self.config, now);
        }
    }

    /// Learner: a transaction of the leader's history.
    pub(super) fn append(&mut self, zxid: Zxid, payload: &[u8]) {
        let decoded = decode_payload(payload).ok().filter(|(header, ..)| header.zxid == zxid);
        let Some((header, txn, digest)) = decoded else {
            self.fatal = Some(format!("transaction {zxid} was accepted from the leader and cannot be read"));
            return;
        };
        assert!(zxid > self.tree.head_zxid(), "{zxid} came after {}", self.tree.head_zxid());
        if self.is_serving() {
            self.apply_for_clients(&header, &txn);
        } else {
            self.tree.apply_unheard(&header, &txn);
            self.groups.silent(zxid);
        }
        self.log.append(zxid, payload);
        self.compare(zxid, digest.as_ref());
        self.groups.seal_if_large();
        self.roll_if_due();
    }

    /// A tree that differs from the leader's is left alone: once this server asks for an image, the second time it stops (L17).
    fn compare(&mut self, zxid: Zxid, digest: Option<&TxnDigest>) {
        let Some(member) = &mut self.member else { return };
        let told = matches!(member.digests, Digests::Compared(above) if zxid > above);
        if !told || self.tree.digest_matches(digest) != Some(false) {
            return;
        }
        let why = format!("after transaction {zxid} the tree here is not the leader's");
        if member.has_differed {
            self.fatal = Some(why + ", for the second time");
            return;
        }
        (member.has_differed, member.digests) = (true, Digests::Wrong);
        member.zab.resync(&why);
        self.abandon_snapshot();
    }

    /// Removes what is above `zxid` from tree and log. A tree that counts it as applied, which only one that was recovered does, is read again.
    fn truncate(&mut self, zxid: Zxid) {
        let Some(member) = &mut self.member else { return };
        if zxid < member.committed {
            self.fatal = Some(format!("told to remove transactions above {zxid}, but {} is committed", member.committed));
            return;
        }
        if zxid >= self.tree.applied() {
            self.tree.undo_above(zxid);
            if self.tree.head_zxid() != zxid {
                self.fatal = Some(format!("told to go back to {zxid}, which is not in the history here"));
                return;
            }
            self.groups.undo_above(zxid);
            member.change = Some(Change::Truncating(zxid));
        } else {
            member.change = Some(Change::Reloading(zxid));
        }
        self.snapshots.forget_above(zxid);
        self.log.cut(zxid);
    }

    /// An image has come, whole and durable under a temporary name. Nobody is served: the tree makes way before the new one is loaded, so that
    /// memory has to hold one of them only.
    pub(super) fn snapshot_received(&mut self, zxid: Zxid) {
        let Some(member) = &mut self.member else { return };
        assert!(member.change.is_none() && member.role == Role::Looking, "one change of history at a time, while nobody is served");
        member.change = Some(Change::Loading);
        self.replace_tree(self.tree.emptied());
        if let Some(member) = &mut self.member {
            member.outbox.push_back(Output::LoadSnapshot { zxid });
        }
    }

    /// The image's tree; or it is none, and everything on the disk is what it was (L5).
    pub(super) fn snapshot_loaded(&mut self, loaded: Result<Box<Tree>, String>) {
        let Some(member) = &mut self.member else { return };
        assert!(matches!(member.change, Some(Change::Loading)), "a tree was loaded that was not asked for");
        match loaded {
            Ok(tree) => {
                member.change = Some(Change::Installing(tree));
                self.abandon_snapshot();
                self.make_way_for_image();
            }
            Err(why) => {
                member.change = Some(Change::Restoring(format!("it cannot be loaded: {why}")));
                member.outbox.push_back(Output::LoadTree { zxid: self.log.durable_zxid() });
            }
        }
    }

    /// A snapshot of the tree as it was must not come after the image, and perhaps under its name: the tree may be wrong (L17).
    fn abandon_snapshot(&mut self) {
        if self.snapshots.abandon()
            && let Some(member) = &mut self.member
        {
            member.outbox.push_back(Output::AbandonSnapshot);
        }
    }

    /// Cuts the log for an image that has come, when no snapshot is being written.
    pub(super) fn make_way_for_image(&mut self) {
        if let Some(Change::Installing(tree)) = self.member.as_ref().and_then(|m| m.change.as_ref())
            && !self.snapshots.is_running()
            && !self.log.is_cutting()
        {
            self.log.cut(tree.applied());
        }
    }

    /// The log holds nothing above the zxid of its cut any more.
    pub(super) fn log_cut(&mut self, now: Instant) {
        self.log.handle_cut();
        let end = self.log.durable_zxid();
        let Some(member) = &mut self.member else { return };
        member.told_durable = end;
        match &member.change {
            Some(Change::Truncating(zxid)) => {
                let zxid = *zxid;
                member.change = None;
                member.zab.handle(now, zab::Input::Truncated(zxid));
            }
            Some(Change::Reloading(zxid)) => member.outbox.push_back(Output::LoadTree { zxid: *zxid }),
            Some(Change::Installing(tree)) => member.outbox.push_back(Output::InstallSnapshot { zxid: tree.applied() }),
            Some(Change::Loading | Change::Restoring(_)) | None => {}
        }
    }

    /// The tree as the disk has it, after a cut or instead of an image.
    pub(super) fn tree_loaded(&mut self, now: Instant, tree: Box<Tree>) {
        let (zxid, input) = match self.member.as_mut().and_then(|m| m.change.take()) {
            Some(Change::Reloading(zxid)) => (zxid, zab::Input::Truncated(zxid)),
            Some(Change::Restoring(why)) => (self.log.durable_zxid(), zab::Input::SnapshotFailed(why)),
            _ => return,
        };
        if tree.head_zxid() != zxid {
            self.fatal = Some(format!("told to go back to {zxid}, but the disk holds a history up to {}", tree.head_zxid()));
            return;
        }
        self.replace_tree(*tree);
        self.peer(now, input);
    }

    /// The image has the name of a snapshot now.
    pub(super) fn snapshot_installed(&mut self, now: Instant) {
        let Some(Change::Installing(tree)) = self.member.as_mut().and_then(|m| m.change.take()) else { return };
        let zxid = tree.applied();
        self.replace_tree(*tree);
        if let Some(member) = &mut self.member {
            member.digests = Digests::NotYet;
        }
        self.peer(now, zab::Input::SnapshotInstalled(zxid));
    }

    fn replace_tree(&mut self, tree: Tree) {
        assert_eq!(tree.head_zxid(), tree.applied(), "a tree that was read is committed");
        let applied = tree.applied();
        let old = Box::new(std::mem::replace(&mut self.tree, tree));
        if let Some(member) = &self.member {
            let active = member.zab.membership();
            self.tree.show_configuration(active.to_text().into(), active.version, member.wall);
        }
        let generation = self.groups.replace_tree(applied);
        self.snapshots.forget_above(Zxid::ZERO);
        if let Some(member) = &mut self.member {
            member.outbox.push_back(Output::TreeReplaced { generation, old });
        }
    }

    /// The next image that can be sent. One whose zxid is no more to be had is given up with its link; the learner comes again.
    pub(super) fn poll_image(&mut self) -> Option<Output> {
        let member = self.member.as_mut()?;
        let applied = self.tree.applied();
        let at = member.images.iter().position(|image| image.zxid <= applied)?;
        let AwaitedImage { link, zxid, told, behind } = member.images.remove(at);
        if zxid == applied {
            member.outbox.extend(behind.into_iter().map(Output::Peer));
            return Some(Output::SendSnapshot { link, image: self.tree.begin_image(), told });
        }
        member.zab.handle(member.now, zab::Input::Disconnected(link));
        Some(Output::Peer(zab::Output::Close(link)))
    }

    /// Up to where transactions may be published. A leader that is not established yet serves nobody, and lets its tree go on to the end of
    /// its history where it has to send an image of that.
    pub(super) fn limit(&self) -> Zxid {
        let durable = self.log.durable_zxid();
        let Some(member) = &self.member else { return durable };
        let Some(image) = member.images.iter().map(|image| image.zxid).min() else { return durable.min(member.committed) };
        let known = if member.is_serving() { member.committed } else { member.committed.max(image) };
        durable.min(known).min(image)
    }

    pub(super) fn zab_timeout(&mut self, now: Instant) {
        if let Some(member) = self.member.as_mut().filter(|m| m.zab.poll_timeout().is_some_and(|at| at <= now)) {
            member.now = now;
            member.zab.handle(now, zab::Input::Timeout);
        }
    }
}

/// A transaction that this server cannot apply, damaged or of a kind it does not know (a newer leader's): it is told apart before anything is done
/// with it, so that it is neither logged nor acknowledged (L22). As in ZooKeeper the learner leaves its leader, and says so as often as it comes.
fn unreadable(input: &zab::Input) -> Option<(LinkId, String)> {
    let zab::Input::Packet(link, packet) = input else { return None };
    let (Packet::Proposal { zxid, payload } | Packet::Inform { zxid, payload } | Packet::InformAndActivate { zxid, payload, .. }) = packet
    else {
        return None;
    };
    let why = match decode_payload(payload) {
        Ok((header, ..)) if header.zxid == *zxid => return None,
        Ok((header, ..)) => format!("it says that it is {}", header.zxid),
        Err(e) => e.to_string(),
    };
    Some((*link, format!("transaction {zxid} of the leader cannot be read by this version: {why}")))
}

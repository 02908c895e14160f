//! One broadcast core under a script: inputs by hand, its orders as short lines. Its disk answers at once, or when the script says so.

use std::collections::VecDeque;
use zoo::base::{Instant, PeerId, SessionId, Xid, Zxid};
use zoo::zab::{
    Emptiness, EpochFile, EpochToken, ForwardedRequest, Input, LearnerInfo, LinkId, Membership, Notification, Output, Packet, Payload,
    Reconfig, Role, ServerState, Stored, Vote, Zab, ZabConfig,
};

pub const TICK_MS: u64 = 1_000;
pub const THREE_AND_OBSERVER: &str = "server.1=127.0.0.1:22301:22401:participant\nserver.2=127.0.0.1:22302:22402:participant\n\
    server.3=127.0.0.1:22303:22403:participant\nserver.4=127.0.0.1:22304:22404:observer\nversion=0";

/// A zxid from epoch and counter.
pub fn z(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(epoch, counter)
}
pub fn payload(zxid: Zxid) -> Payload {
    Payload::from(zxid.0.to_be_bytes().to_vec())
}
pub fn show_zxid(zxid: Zxid) -> String {
    format!("{}:{}", zxid.epoch(), zxid.counter())
}
pub fn proposal(zxid: Zxid) -> Packet {
    Packet::Proposal { zxid, payload: payload(zxid) }
}
pub fn commit(zxid: Zxid) -> Packet {
    Packet::Commit { zxid }
}
pub fn commits(first: Zxid, last: Zxid) -> Packet {
    Packet::Commits { first, last }
}
pub fn ack(zxid: Zxid) -> Packet {
    Packet::Ack { zxid }
}
pub fn request(op: i32) -> ForwardedRequest {
    ForwardedRequest { session: SessionId(7), cxid: Xid(1), op, body: Box::default(), auth: Default::default() }
}
/// A disk whose log ends with these transactions.
pub fn stored(accepted_epoch: u32, current_epoch: u32, log: &[Zxid]) -> Stored {
    let recent: Vec<_> = log.iter().map(|zxid| (*zxid, payload(*zxid))).collect();
    let last_logged = log.last().copied().unwrap_or(Zxid::ZERO);
    Stored {
        accepted_epoch,
        current_epoch,
        last_logged,
        snapshot: Zxid::ZERO,
        emptiness: Emptiness::default(),
        configuration: None,
        recent,
    }
}
pub fn follower_info(id: i64, accepted_epoch: u32) -> Packet {
    Packet::FollowerInfo { zxid: z(accepted_epoch, 0), info: info(id) }
}
/// A greeting as a server of ours says it, which has a history.
pub fn of_ours(packet: Packet) -> Packet {
    match packet {
        Packet::FollowerInfo { zxid, info } => Packet::FollowerInfo { zxid: z(zxid.epoch(), 3), info },
        packet => packet,
    }
}
pub fn info(id: i64) -> LearnerInfo {
    LearnerInfo { id: Some(PeerId(id)), protocol_version: 0x10000, config_version: 0 }
}

pub struct Script {
    pub zab: Zab,
    pub now: Instant,
    /// The disk does nothing until told.
    pub disk_waits: bool,
    said: Vec<String>,
    /// Packets sent, as they were.
    pub sent: Vec<(LinkId, Packet)>,
    logged: Zxid,
    epochs: VecDeque<EpochToken>,
    /// The disk has been said to have lost nothing.
    pub vouched: bool,
    cut: Option<Zxid>,
    /// The last link asked for.
    pub dialed: Option<LinkId>,
    pub voted: Option<Vote>,
}

impl Script {
    pub fn new(me: i64, stored: Stored) -> Script {
        let membership = Membership::parse(THREE_AND_OBSERVER).expect("valid");
        Script::of(me, membership, stored)
    }
    pub fn of(me: i64, membership: Membership, stored: Stored) -> Script {
        let reconfig = Reconfig { enabled: stored.configuration.is_some(), ..Reconfig::default() };
        Script::with(me, membership, reconfig, stored)
    }
    pub fn with(me: i64, membership: Membership, reconfig: Reconfig, stored: Stored) -> Script {
        let is_observer = !membership.is_voter(PeerId(me));
        let config = ZabConfig {
            me: PeerId(me),
            membership,
            is_observer,
            tick_ms: TICK_MS,
            init_limit: 10,
            sync_limit: 5,
            notification_ms_min: 200,
            notification_ms_max: 60_000,
            finalize_ms: 200,
            connect_retry_ms: 100,
            tail_count_min: 500,
            tail_bytes_max: 0,
            learner_bytes_max: 10_000,
            observer_masters: false,
            seed: 1,
            planted: Default::default(),
            reconfig,
        };
        let now = Instant(1_000_000_000);
        let logged = stored.last_logged;
        let mut script = Script {
            zab: Zab::new(config, stored, now),
            now,
            disk_waits: false,
            said: Vec::new(),
            sent: Vec::new(),
            logged,
            epochs: VecDeque::new(),
            vouched: false,
            cut: None,
            dialed: None,
            voted: None,
        };
        script.pump();
        script
    }
    /// Time goes by.
    pub fn pass(&mut self, ms: u64) -> &mut Script {
        self.now = self.now.plus_ms(ms);
        self
    }
    /// Time goes by, and the core is called whenever it wants to be.
    pub fn run(&mut self, ms: u64) -> &mut Script {
        let end = self.now.plus_ms(ms);
        while let Some(due) = self.zab.poll_timeout().filter(|due| *due <= end) {
            self.now = due.max(Instant(self.now.0 + 1));
            self.give(Input::Timeout);
        }
        self.now = end;
        self
    }
    pub fn give(&mut self, input: Input) -> &mut Script {
        self.zab.handle(self.now, input);
        self.pump();
        self
    }
    pub fn packet(&mut self, link: u64, packet: Packet) -> &mut Script {
        self.give(Input::Packet(LinkId(link), packet))
    }
    /// What was ordered since the last time.
    pub fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }
    /// The disk has flushed everything.
    pub fn flushed(&mut self) -> &mut Script {
        let logged = self.logged;
        self.give(Input::Durable(logged))
    }
    /// The disk has written the epoch.
    pub fn epoch_written(&mut self) -> &mut Script {
        let token = self.epochs.pop_front().expect("an epoch is being written");
        self.give(Input::EpochWritten(token))
    }
    /// The log is cut.
    pub fn truncated(&mut self, end: Zxid) -> &mut Script {
        assert!(self.cut.take().is_some());
        self.logged = end;
        self.give(Input::Truncated(end))
    }
    /// The image is there.
    pub fn installed(&mut self, zxid: Zxid) -> &mut Script {
        self.logged = zxid;
        self.give(Input::SnapshotInstalled(zxid))
    }
    pub fn propose(&mut self) -> Zxid {
        let zxid = self.zab.next_zxid().expect("leading");
        self.logged = zxid;
        self.zab.propose(zxid, payload(zxid));
        self.pump();
        if !self.disk_waits {
            self.flushed();
        }
        zxid
    }

    pub fn pump(&mut self) {
        while let Some(output) = self.zab.poll_output() {
            self.obey(output);
        }
    }
    fn obey(&mut self, output: Output) {
        let line = match output {
            Output::Notify { message, .. } => {
                self.voted = Some(message.vote);
                return;
            }
            Output::Note(_) | Output::Config { .. } => return,
            Output::WriteConfig { token, .. } => return self.zab.handle(self.now, Input::ConfigWritten(token)),
            Output::Connect { link, peer } => {
                self.dialed = Some(link);
                format!("connect {}", peer.0)
            }
            Output::ConnectToMaster { link, peer } => {
                self.dialed = Some(link);
                format!("connect to master {}", peer.0)
            }
            Output::Send { link, packet } => {
                for packet in one_by_one(packet) {
                    self.said.push(format!("{} {}", link.0, show(&packet)));
                    self.sent.push((link, packet));
                }
                return;
            }
            Output::SendSnapshot { link, zxid, told } if told == zxid => format!("{} image {}", link.0, show_zxid(zxid)),
            Output::SendSnapshot { link, zxid, told } => format!("{} image {} as {}", link.0, show_zxid(zxid), show_zxid(told)),
            Output::ReadLog { link, from, upto, .. } => format!("{} read log {} to {}", link.0, show_zxid(from), show_zxid(upto)),
            Output::Close(link) => format!("{} close", link.0),
            Output::WriteEpoch { token, file, epoch, vouches } => {
                self.epochs.push_back(token);
                self.vouched |= vouches;
                if !self.disk_waits {
                    self.epoch_written_later(file, epoch);
                    return;
                }
                format!("write {file:?} {epoch}")
            }
            Output::Append { zxid, .. } => {
                self.logged = zxid;
                self.said.push(format!("append {}", show_zxid(zxid)));
                if !self.disk_waits {
                    self.flushed();
                }
                return;
            }
            Output::Commit(zxid) => format!("commit {}", show_zxid(zxid)),
            Output::Truncate(zxid) => {
                self.cut = Some(zxid);
                format!("truncate {}", show_zxid(zxid))
            }
            Output::InstallSnapshot { link, zxid } => format!("{} install {}", link.0, show_zxid(zxid)),
            Output::Role(role) => show_role(role),
            Output::Request { from, link, request } => format!("{} request of {} op {}", link.0, from.0, request.op),
            Output::Touched { link, sessions } => format!("{} touched {}", link.0, sessions.len()),
            Output::Revalidate { link, session, timeout_ms } => format!("{} revalidate {session} {timeout_ms}", link.0),
            Output::LearnerGone(link) => format!("{} gone", link.0),
            Output::Revalidated { session, valid } => format!("revalidated {session} {valid}"),
            Output::Synced => "synced".into(),
            Output::Ping { zxid } => format!("ping {}", show_zxid(zxid)),
            Output::Fatal(why) => format!("FATAL {why}"),
        };
        self.said.push(line);
    }
    fn epoch_written_later(&mut self, file: EpochFile, epoch: u32) {
        self.said.push(format!("write {file:?} {epoch}"));
        self.epoch_written();
    }

    // ---- on the way to a role

    /// A notification of another server.
    pub fn hear(&mut self, from: i64, state: ServerState, leader: i64, zxid: Zxid, peer_epoch: i64) -> &mut Script {
        let vote = Vote { leader: PeerId(leader), zxid, peer_epoch, election_epoch: 1 };
        let message = Notification { state, vote, version: 2, config: None };
        self.give(Input::Notification { from: PeerId(from), message })
    }
    /// Server 1 (or the observer, 4) has found leader 3; the link is up. The link.
    pub fn follow(&mut self) -> u64 {
        self.hear(2, ServerState::Following, 3, Zxid::ZERO, 9).hear(3, ServerState::Leading, 3, Zxid::ZERO, 9);
        let link = self.dialed.take().expect("a link is asked for");
        self.give(Input::Connected(link));
        link.0
    }
    /// ... and is synchronised with an empty difference in this epoch, and serves.
    pub fn serve(&mut self, epoch: u32) -> u64 {
        let link = self.follow();
        self.packet(link, Packet::LeaderInfo { zxid: z(epoch, 0), protocol_version: 0x10000 });
        self.packet(link, Packet::Diff { zxid: Zxid::ZERO });
        self.packet(link, Packet::NewLeader { zxid: z(epoch, 0), config: None });
        self.packet(link, Packet::UpToDate);
        assert_ne!(self.zab.role(), Role::Looking);
        self.said();
        link
    }
    /// Server 3 is elected by 2, which has nothing.
    pub fn win(&mut self) -> &mut Script {
        let vote = self.voted.expect("it has voted");
        self.hear(2, ServerState::Looking, 3, vote.zxid, vote.peer_epoch);
        self.run(250);
        assert_eq!(self.zab.state(), ServerState::Leading);
        self
    }
    /// ... and leads, with follower 2 on link 102.
    pub fn lead(&mut self) -> &mut Script {
        self.win();
        self.join(2, 102);
        assert!(matches!(self.zab.role(), Role::Leading { .. }));
        self
    }
    /// A follower that has what the leader has comes in on this link, up to its ACK of NEWLEADER.
    pub fn join(&mut self, id: i64, link: u64) -> &mut Script {
        let last = self.logged;
        let promised = self.zab.accepted_epoch();
        self.give(Input::Accepted(LinkId(link)));
        // Whoever has promised nothing may have forgotten; so it has the same epochs as the leader.
        self.packet(link, follower_info(id, promised.min(1)));
        self.packet(link, Packet::AckEpoch { zxid: last, current_epoch: Some(last.epoch() as i32) });
        let epoch = self.zab.accepted_epoch();
        self.packet(link, ack(z(epoch, 0)))
    }
    /// Answers every ping that was sent on these links since the last call.
    pub fn answer_pings(&mut self, links: &[u64]) -> &mut Script {
        for (link, packet) in std::mem::take(&mut self.sent) {
            if let (Packet::Ping { zxid, .. }, true) = (packet, links.contains(&link.0)) {
                self.packet(link.0, Packet::Ping { zxid, touched: Vec::new() });
            }
        }
        self
    }
}

/// Runs as they are on the wire.
fn one_by_one(packet: Packet) -> Vec<Packet> {
    match packet {
        Packet::Acks { first, last } => first.through(last).map(ack).collect(),
        Packet::Commits { first, last } => first.through(last).map(commit).collect(),
        packet => vec![packet],
    }
}
pub fn show(packet: &Packet) -> String {
    match packet {
        Packet::Request(request) => format!("REQUEST op {}", request.op),
        Packet::Proposal { zxid, .. } => format!("PROPOSAL {}", show_zxid(*zxid)),
        Packet::Ack { zxid } => format!("ACK {}", show_zxid(*zxid)),
        Packet::Commit { zxid } => format!("COMMIT {}", show_zxid(*zxid)),
        Packet::Acks { .. } | Packet::Commits { .. } => unreachable!("runs are shown one by one"),
        Packet::Ping { zxid, touched } => format!("PING {} {}", show_zxid(*zxid), touched.len()),
        Packet::Revalidate { session, timeout_ms } => format!("REVALIDATE {session} {timeout_ms}"),
        Packet::Revalidated { session, valid } => format!("REVALIDATE {session} {valid}"),
        Packet::Sync => "SYNC".into(),
        Packet::Inform { zxid, .. } => format!("INFORM {}", show_zxid(*zxid)),
        Packet::CommitAndActivate { zxid, .. } => format!("COMMITANDACTIVATE {}", show_zxid(*zxid)),
        Packet::InformAndActivate { zxid, .. } => format!("INFORMANDACTIVATE {}", show_zxid(*zxid)),
        Packet::NewLeader { zxid, .. } => format!("NEWLEADER {}", show_zxid(*zxid)),
        Packet::FollowerInfo { zxid, info } => format!("FOLLOWERINFO {} {:?}", show_zxid(*zxid), info.id.map(|id| id.0)),
        Packet::ObserverInfo { zxid, info } => format!("OBSERVERINFO {} {:?}", show_zxid(*zxid), info.id.map(|id| id.0)),
        Packet::LeaderInfo { zxid, .. } => format!("LEADERINFO {}", show_zxid(*zxid)),
        Packet::AckEpoch { zxid, current_epoch } => format!("ACKEPOCH {} {}", show_zxid(*zxid), current_epoch.unwrap_or(-1)),
        Packet::UpToDate => "UPTODATE".into(),
        Packet::Diff { zxid } => format!("DIFF {}", show_zxid(*zxid)),
        Packet::Trunc { zxid } => format!("TRUNC {}", show_zxid(*zxid)),
        Packet::Snap { zxid } => format!("SNAP {}", show_zxid(*zxid)),
    }
}
fn show_role(role: Role) -> String {
    match role {
        Role::Looking => "looking".into(),
        Role::Leading { epoch } => format!("leading {epoch}"),
        Role::Following { leader } => format!("following {}", leader.0),
        Role::Observing { leader } => format!("observing {}", leader.0),
    }
}

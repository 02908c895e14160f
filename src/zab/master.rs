//! A follower as a master of observers (`observerMasterPort`): it feeds them what its leader has committed, passes on what they want of the leader,
//! and gives them the answers. To the leader all they do is done by this follower. Exists while this server follows and serves.
//!
//! Invariants: an observer is told nothing that this server does not know to be committed; the leader's answers go to whoever asked, in the
//! order asked; with the role all observers go.

use super::core::Core;
use super::feed::send;
use super::input::LinkId;
use super::leader::{Leader, LearnerCounts};
use super::learner::ANSWERS_NOTHING;
use super::message::{ForwardedRequest, Packet, Payload};
use super::progress::Step;
use crate::base::{Instant, PeerId, SessionId, Zxid};
use std::collections::BTreeMap;

/// The observers of a follower.
pub struct Master {
    /// Feeds them, as a leader does who has no followers.
    feeder: Leader,
    /// Sessions they have heard from since the leader last asked.
    touched: BTreeMap<SessionId, i32>,
}

/// What an observer wants of the leader.
pub enum Wish {
    /// A write or a sync of a client.
    Request(ForwardedRequest),
    /// May this session go on there?
    Revalidate(SessionId, i32),
}

impl Master {
    /// In this epoch, of a history that is committed up to here.
    pub fn new(core: &Core, epoch: u32, committed: Zxid) -> Master {
        Master { feeder: Leader::of_observers(core, epoch, committed), touched: BTreeMap::new() }
    }
    /// Counts of observers.
    pub fn counts(&self) -> LearnerCounts {
        self.feeder.counts()
    }
    /// When `timeout` is due.
    pub fn poll_timeout(&self) -> Instant {
        self.feeder.poll_timeout()
    }
    /// Pings, and whoever has been silent for too long.
    pub fn timeout(&mut self, core: &mut Core) {
        self.feeder.tend(core);
    }

    /// Somebody has connected.
    pub fn accepted(&mut self, core: &mut Core, link: LinkId) {
        self.feeder.accepted(core, link);
    }
    /// A link is gone.
    pub fn disconnected(&mut self, core: &mut Core, link: LinkId) {
        self.feeder.disconnected(core, link);
    }
    /// An image is out.
    pub fn snapshot_sent(&mut self, core: &Core, link: LinkId) {
        self.feeder.snapshot_sent(core, link);
    }
    /// A part of the log was read.
    pub fn log_read(&mut self, core: &mut Core, link: LinkId, part: Result<Vec<(Zxid, Payload)>, String>) {
        self.feeder.log_read(core, link, part);
    }

    /// An observer says something. What it wants of the leader is given back.
    pub fn packet(&mut self, core: &mut Core, link: LinkId, packet: Packet) -> Option<Wish> {
        let deadline = core.now.plus_ms(core.sync_ms());
        let serving = self.feeder.learners.get_mut(&link).filter(|observer| observer.step == Step::Serving);
        match (packet, serving) {
            (Packet::Request(request), Some(observer)) => {
                observer.deadline = Some(deadline);
                return Some(Wish::Request(request));
            }
            (Packet::Revalidate { session, timeout_ms }, Some(observer)) => {
                observer.deadline = Some(deadline);
                return Some(Wish::Revalidate(session, timeout_ms));
            }
            (Packet::Ping { zxid, touched }, Some(observer)) => {
                observer.deadline = Some(deadline);
                if zxid == ANSWERS_NOTHING || observer.answer().is_some() {
                    self.touched.extend(touched);
                } else {
                    self.feeder.refuse(core, link, "an answer to no ping");
                }
            }
            (packet, _) => self.feeder.handshake(core, link, packet),
        }
        None
    }
    /// The leader lets a session of an observer's client go on: it is alive.
    pub fn touch(&mut self, session: SessionId, timeout_ms: i32) {
        self.touched.insert(session, timeout_ms);
    }
    /// For the leader.
    pub fn take_touched(&mut self) -> BTreeMap<SessionId, i32> {
        std::mem::take(&mut self.touched)
    }

    /// The leader has committed one more; with a configuration in which this server leads, if it says so.
    pub fn committed(&mut self, core: &mut Core, zxid: Zxid, leader: Option<PeerId>) {
        let Some(pipeline) = &mut self.feeder.pipeline else { return };
        pipeline.relay_to(zxid);
        let fed: Vec<LinkId> = self.feeder.learners.iter().filter(|(_, l)| l.is_fed()).map(|(link, _)| *link).collect();
        let payload = core.local.tail.payload(zxid);
        for link in fed {
            let Some(payload) = payload.clone() else {
                self.feeder.refuse(core, link, "a transaction it lacks is not in memory");
                continue;
            };
            if let Some(observer) = self.feeder.learners.get_mut(&link) {
                let packet = match leader {
                    None => Packet::Inform { zxid, payload },
                    Some(leader) => Packet::InformAndActivate { zxid, leader, payload },
                };
                send(core, link, observer, packet);
            }
        }
        self.feeder.bound_queues(core);
    }

    /// Closes every link.
    pub fn leave(&mut self, core: &mut Core) {
        self.feeder.leave(core);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Xid;
    use crate::zab::election::tests::config;
    use crate::zab::learner::CUTS_WHOLLY;
    use crate::zab::message::LearnerInfo;
    use crate::zab::output::Output;
    use crate::zab::{Stored, ZabConfig};

    const LINK: LinkId = LinkId(2);
    const MEMBERS: &str = "server.1=a:1:2:participant\nserver.2=b:1:2:participant\nserver.4=d:1:2:observer\nversion=0";

    fn z(epoch: u32, counter: u32) -> Zxid {
        Zxid::new(epoch, counter)
    }
    /// A follower in epoch 3 that has committed all it has, up to 2:5, and remembers from 2:2 on.
    fn follower() -> (Core, Master) {
        let recent = (2..=5).map(|counter| (z(2, counter), Payload::from(vec![0; 10]))).collect();
        let stored = Stored { accepted_epoch: 3, current_epoch: 3, last_logged: z(2, 5), recent, ..Stored::default() };
        let core = Core::new(ZabConfig { observer_masters: true, ..config(1, MEMBERS) }, stored, Instant(1_000_000_000));
        let master = Master::new(&core, 3, z(2, 5));
        (core, master)
    }
    fn info() -> LearnerInfo {
        LearnerInfo { id: Some(PeerId(4)), protocol_version: 0x10000, config_version: 0 }
    }
    /// What it does, in a few words.
    fn done(core: &mut Core) -> Vec<String> {
        std::iter::from_fn(|| core.poll_output())
            .filter_map(|output| match output {
                Output::Send { packet, .. } => Some(format!("{packet:?}").split([' ', '(']).next().unwrap_or_default().to_owned()),
                Output::Close(_) => Some("close".into()),
                Output::SendSnapshot { zxid, .. } => Some(format!("image {zxid}")),
                Output::ReadLog { from, upto, .. } => Some(format!("log {from} to {upto}")),
                _ => None,
            })
            .collect()
    }
    /// What an observer of ours is told whose log ends there.
    fn told(last: Zxid) -> (Core, Master, Vec<String>) {
        told_after(z(2, CUTS_WHOLLY), last)
    }
    fn told_after(greeting: Zxid, last: Zxid) -> (Core, Master, Vec<String>) {
        let (mut core, mut master) = follower();
        master.accepted(&mut core, LINK);
        master.packet(&mut core, LINK, Packet::ObserverInfo { zxid: greeting, info: info() });
        assert_eq!(done(&mut core), ["LeaderInfo"]);
        master.packet(&mut core, LINK, Packet::AckEpoch { zxid: last, current_epoch: Some(2) });
        let done = done(&mut core);
        (core, master, done)
    }

    #[test]
    fn an_observer_is_brought_up_to_date_as_by_a_leader_and_turned_away_when_it_is_ahead() {
        let cases: [(Zxid, &[&str]); 5] = [
            (z(2, 5), &["Diff", "NewLeader"]),
            (z(2, 4), &["Diff", "Proposal", "Commit", "NewLeader"]),
            (z(2, 7), &["Trunc", "NewLeader"]), // of an epoch whose history is settled
            (z(1, 9), &["log 0x100000009 to 0x200000005"]),
            (z(3, 1), &["close"]), // of our own epoch: committed, and not heard of here
        ];
        for (last, expected) in cases {
            assert_eq!(told(last).2, expected, "{last}");
        }
        assert_eq!(told_after(z(2, 0), z(2, 7)).2[0], "image 0x200000005", "a Java server may have a snapshot of what it would cut");
    }
    #[test]
    fn only_observers_are_fed_and_they_are_heard_when_they_serve() {
        let request = || ForwardedRequest { session: SessionId(7), cxid: Xid(1), op: 1, body: Box::default(), auth: Default::default() };
        let (mut core, mut master) = follower();
        master.accepted(&mut core, LINK);
        master.packet(&mut core, LINK, Packet::FollowerInfo { zxid: z(2, 0), info: info() });
        assert_eq!(done(&mut core), ["close"]);
        let (mut core, mut master, _) = told(z(2, 5));
        assert!(master.packet(&mut core, LINK, Packet::Request(request())).is_none());
        assert_eq!(done(&mut core), ["close"], "out of place");
        let (mut core, mut master, _) = told(z(2, 5));
        assert!(master.packet(&mut core, LINK, Packet::Ack { zxid: z(3, 0) }).is_none());
        assert_eq!(done(&mut core), ["UpToDate", "Ping"]);
        assert!(matches!(master.packet(&mut core, LINK, Packet::Request(request())), Some(Wish::Request(asked)) if asked == request()));
        assert!(matches!(
            master.packet(&mut core, LINK, Packet::Revalidate { session: SessionId(7), timeout_ms: 9 }),
            Some(Wish::Revalidate(SessionId(7), 9))
        ));
        master.packet(&mut core, LINK, Packet::Ping { zxid: z(3, 0), touched: vec![(SessionId(7), 9)] });
        assert_eq!(master.take_touched(), BTreeMap::from([(SessionId(7), 9)]));
        assert_eq!((done(&mut core), master.counts().synced_observers), (vec![], 1));
        core.local.append(z(3, 1), vec![0].into());
        master.committed(&mut core, z(3, 1), None);
        core.local.append(z(3, 2), vec![0].into());
        master.committed(&mut core, z(3, 2), Some(PeerId(2)));
        assert_eq!(done(&mut core), ["Inform", "InformAndActivate"]);
        master.packet(&mut core, LINK, Packet::Ping { zxid: z(3, 0), touched: vec![] });
        assert_eq!(done(&mut core), ["close"], "an answer to no ping");
    }
}

//! What a leader sends to one learner: its history, NEWLEADER behind it in the same queue, UPTODATE, pings. A learner is part of the
//! broadcast from the moment its stream is cut (L19), and is cut off when its queue grows beyond its limit (L14).

use super::core::{Core, PACKET_BYTES};
use super::input::LinkId;
use super::leader::{Leader, Refusal, Stage};
use super::message::Packet;
use super::output::{Output, Role};
use super::progress::{Kind, Progress, Step};
use super::sync::{self, Leading, Opening};
use crate::base::Zxid;

/// A learner is pinged besides when so large a part of its queue's limit was sent since the last ping: its answer says what has arrived.
const PING_PER_QUEUE: u64 = 8;

/// Puts a packet into a learner's queue.
pub(super) fn send(core: &mut Core, link: LinkId, learner: &mut Progress, packet: Packet) {
    let payload = match &packet {
        Packet::Proposal { payload, .. } | Packet::Inform { payload, .. } => payload.len(),
        _ => 0,
    };
    learner.count(payload + PACKET_BYTES);
    core.send(link, packet);
}

impl Leader {
    /// Begins to feed everybody who has promised.
    pub(super) fn feed_promised(&mut self, core: &mut Core) {
        let waiting: Vec<LinkId> = self.learners.iter().filter(|(_, l)| l.step == Step::Promised).map(|(link, _)| *link).collect();
        for link in waiting {
            self.feed(core, link);
        }
    }

    /// Cuts the stream of one learner: history, then what is outstanding, then NEWLEADER; whatever is proposed later goes behind it.
    pub(super) fn feed(&mut self, core: &mut Core, link: LinkId) {
        let (Some(learner), Some(pipeline)) = (self.learners.get_mut(&link), &self.pipeline) else { return };
        let end = pipeline.committed();
        let leading = Leading { end, epoch: self.epoch };
        let stream = sync::decide(&core.local.tail, leading, learner.promise.0, core.config.learner_bytes_max as u64 / 2);
        let patience = core.init_ms() + core.sync_ms();
        learner.deadline = Some(core.now.plus_ms(patience));
        match stream.opening {
            Opening::Diff(zxid) => send(core, link, learner, Packet::Diff { zxid }),
            Opening::Trunc(zxid) => send(core, link, learner, Packet::Trunc { zxid }),
            Opening::Snap(zxid) => {
                core.put(Output::SendSnapshot { link, zxid });
                learner.deadline = None; // as long as the image takes; then `snapshot_sent`
            }
        }
        for (zxid, payload) in stream.history {
            send(core, link, learner, Packet::Proposal { zxid, payload });
            send(core, link, learner, Packet::Commit { zxid });
        }
        learner.sent = end;
        learner.acked = end; // counts from the ACK of NEWLEADER on
        // What a new leader finds proposed is completed with its history; what is proposed later takes effect by its own commit. A learner
        // takes the configuration of NEWLEADER for the newest, so what is outstanding comes behind it.
        let completed = core.proposed().filter(|_| self.stage < Stage::Serving).map(|proposed| proposed.to_text().into());
        let config = Some(completed.unwrap_or_else(|| core.config_text.clone()));
        send(core, link, learner, Packet::NewLeader { zxid: Zxid::new(self.epoch, 0), config });
        learner.mark(core.now, 0);
        if learner.kind == Kind::Follower {
            for (zxid, payload) in pipeline.outstanding() {
                send(core, link, learner, Packet::Proposal { zxid: *zxid, payload: payload.clone() });
                learner.sent = *zxid;
            }
        }
        learner.step = Step::Syncing;
    }
    /// The image is out: the learner's time begins.
    pub fn snapshot_sent(&mut self, core: &Core, link: LinkId) {
        if let Some(learner) = self.learners.get_mut(&link)
            && learner.step == Step::Syncing
        {
            learner.deadline = Some(core.now.plus_ms(core.init_ms() + core.sync_ms()));
        }
    }

    /// A learner has our whole history on its disk.
    pub(super) fn synced(&mut self, core: &mut Core, link: LinkId) -> Result<(), Refusal> {
        let learner = self.learners.get_mut(&link).ok_or("unknown link")?;
        learner.answer();
        learner.step = Step::Synced;
        learner.deadline = None;
        if self.stage == Stage::Serving {
            self.serve(core, link);
        }
        Ok(())
    }
    /// Takes up service once a quorum has our history.
    pub(super) fn establish(&mut self, core: &mut Core) {
        let me = core.me();
        let ours = core.has_stored_proposed();
        if !core.quorum.reached(|id| if id == me { ours } else { self.member(id).is_some_and(|l| l.step >= Step::Synced) }) {
            return;
        }
        self.enter(core, Stage::Serving);
        self.complete_config(core);
        core.commit(self.rank.1);
        core.put(Output::Role(Role::Leading { epoch: self.epoch }));
        let synced: Vec<LinkId> = self.learners.iter().filter(|(_, l)| l.step == Step::Synced).map(|(link, _)| *link).collect();
        for link in synced {
            self.serve(core, link);
        }
    }
    fn serve(&mut self, core: &mut Core, link: LinkId) {
        let Some(learner) = self.learners.get_mut(&link) else { return };
        learner.step = Step::Serving;
        learner.deadline = Some(core.now.plus_ms(core.sync_ms()));
        learner.contact = Some(core.now);
        if learner.kind == Kind::Follower && learner.sent > learner.acked {
            learner.overdue.sent(learner.sent, core.now);
        }
        send(core, link, learner, Packet::UpToDate);
        self.ping(core, link);
    }

    /// A ping. Only those behind UPTODATE are answered; before it they keep the link alive.
    pub(super) fn ping(&mut self, core: &mut Core, link: LinkId) {
        let (Some(learner), Some(pipeline)) = (self.learners.get_mut(&link), &self.pipeline) else { return };
        send(core, link, learner, Packet::Ping { zxid: pipeline.last(), touched: Vec::new() });
        if learner.step == Step::Serving {
            learner.mark(core.now, self.rounds.begun());
        }
    }
    /// Looks after the queues that have grown.
    pub(super) fn bound_queues(&mut self, core: &mut Core) {
        let limit = core.config.learner_bytes_max as u64;
        let over: Vec<LinkId> = self.learners.iter().filter(|(_, l)| l.bytes_unconfirmed() > limit).map(|(link, _)| *link).collect();
        for link in over {
            self.refuse(core, link, "it takes too little of what it is sent");
        }
        let asked = |l: &Progress| l.step == Step::Serving && l.bytes_unmarked() > limit / PING_PER_QUEUE;
        let asked: Vec<LinkId> = self.learners.iter().filter(|(_, l)| asked(l)).map(|(link, _)| *link).collect();
        for link in asked {
            self.ping(core, link);
        }
    }
}

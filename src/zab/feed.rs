//! What a leader sends to one learner: its history, NEWLEADER behind it in the same queue, UPTODATE, pings. A learner is part of the
//! broadcast from the moment its stream is cut (L19), and is cut off when its queue grows beyond its limit (L14).

use super::core::{Core, PACKET_BYTES};
use super::input::LinkId;
use super::leader::{Leader, Refusal, Stage};
use super::message::{Packet, Payload};
use super::output::{Output, Role};
use super::progress::{Kind, Progress, Step};
use super::sync::{self, Leading, Opening};
use crate::base::{Instant, Zxid};

/// A learner is pinged besides when so large a part of its queue's limit was sent since the last ping: its answer says what has arrived.
const PING_PER_QUEUE: u64 = 8;

/// Puts a packet into a learner's queue.
pub(super) fn send(core: &mut Core, link: LinkId, learner: &mut Progress, packet: Packet) {
    let bytes = match &packet {
        Packet::Proposal { payload, .. } | Packet::Inform { payload, .. } => payload.len() + PACKET_BYTES,
        Packet::Commits { first, last } => PACKET_BYTES * (last.counter() - first.counter() + 1) as usize,
        _ => PACKET_BYTES,
    };
    learner.count(bytes);
    core.send(link, packet);
}

/// When a learner that takes its history must have said or taken something.
pub(super) fn patience(core: &Core) -> Instant {
    core.now.plus_ms(core.init_ms() + core.sync_ms())
}
/// Bytes of history that may be queued for a learner at once.
pub(super) fn queue_max(core: &Core) -> u64 {
    core.config.learner_bytes_max as u64 / 2
}

impl Leader {
    /// Begins to feed everybody who has promised.
    pub(super) fn feed_promised(&mut self, core: &mut Core) {
        let waiting: Vec<LinkId> = self.learners.iter().filter(|(_, l)| l.step == Step::Promised).map(|(link, _)| *link).collect();
        for link in waiting {
            self.feed(core, link);
        }
    }

    /// Begins the stream of one learner.
    pub(super) fn feed(&mut self, core: &mut Core, link: LinkId) {
        let (Some(learner), Some(pipeline)) = (self.learners.get_mut(&link), &self.pipeline) else { return };
        let leading = Leading { end: pipeline.committed(), epoch: self.epoch };
        let (last, _) = learner.promise;
        if self.relays && last > leading.end && last.epoch() == self.epoch {
            // What it has is committed: this server has only not heard of it yet.
            return self.refuse(core, link, "it is ahead of us");
        }
        let stream = sync::decide(&core.local.tail, leading, last, queue_max(core));
        learner.deadline = Some(patience(core));
        match stream.opening {
            Opening::Diff(zxid) => send(core, link, learner, Packet::Diff { zxid }),
            // When it was elected with it, a Java server took a snapshot of what it would have to cut, and it would reload that.
            Opening::Trunc(_) if !learner.cuts_wholly && last.epoch() != self.epoch => return self.feed_image(core, link),
            Opening::Trunc(zxid) => send(core, link, learner, Packet::Trunc { zxid }),
            Opening::Log if !core.unfed.contains(&learner.peer) => return self.begin_log(core, link),
            Opening::Log | Opening::Snap => return self.feed_image(core, link),
        }
        self.cut_stream(core, link, stream.history);
    }
    /// The stream begins with an image of everything.
    pub(super) fn feed_image(&mut self, core: &mut Core, link: LinkId) {
        let (Some(learner), Some(pipeline)) = (self.learners.get_mut(&link), &self.pipeline) else { return };
        core.unfed.remove(&learner.peer);
        let zxid = pipeline.committed();
        // Among all snapshots that a Java server has, those of histories that are over included, the one it takes of this must be the newest.
        let told = if learner.cuts_wholly { zxid } else { zxid.max(Zxid::new(self.epoch, 0)) };
        core.put(Output::SendSnapshot { link, zxid, told });
        learner.deadline = None; // as long as the image takes; then `snapshot_sent`
        self.cut_stream(core, link, Vec::new());
    }
    /// Cuts the stream of one learner: the rest of the history, then what is outstanding, then NEWLEADER; whatever is proposed later goes
    /// behind it.
    pub(super) fn cut_stream(&mut self, core: &mut Core, link: LinkId, history: Vec<(Zxid, Payload)>) {
        let (Some(learner), Some(pipeline)) = (self.learners.get_mut(&link), &self.pipeline) else { return };
        for (zxid, payload) in history {
            send(core, link, learner, Packet::Proposal { zxid, payload });
            send(core, link, learner, Packet::Commit { zxid });
        }
        let end = pipeline.committed();
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
            learner.deadline = Some(patience(core));
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

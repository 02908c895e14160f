//! Learners that lack more than the leader remembers: what they lack is read from the log on the leader's disk, a part at a time, each when the
//! one before it is on its way, until the rest is in memory. Only what is committed is asked for, and only what goes on without a hole is
//! sent (L1): where the log does not, the learner gets an image instead.

use super::core::Core;
use super::feed::{patience, queue_max};
use super::input::LinkId;
use super::leader::{Leader, Refusal};
use super::message::{Packet, Payload};
use super::output::Output;
use super::progress::Step;
use super::sync;
use crate::base::Zxid;

/// Why a learner that was sent a part of the log does not get the rest of it.
const HOLE: Refusal = "our log on the disk does not hold all it lacks; it gets an image when it comes back";

impl Leader {
    /// Looks for the end of a learner's history in the log.
    pub(super) fn begin_log(&mut self, core: &mut Core, link: LinkId) {
        let Some(learner) = self.learners.get_mut(&link) else { return };
        learner.step = Step::Reading;
        learner.sent = learner.promise.0;
        let from = learner.sent;
        self.ask_log(core, link, from, true);
    }
    fn ask_log(&mut self, core: &mut Core, link: LinkId, from: Zxid, first: bool) {
        let (Some(learner), Some(pipeline)) = (self.learners.get_mut(&link), &self.pipeline) else { return };
        learner.deadline = Some(patience(core));
        let upto = pipeline.committed().min(core.local.durable());
        core.put(Output::ReadLog { link, from, upto, first });
    }

    /// The log has been read.
    pub fn log_read(&mut self, core: &mut Core, link: LinkId, part: Result<Vec<(Zxid, Payload)>, String>) {
        let (Some(learner), Some(pipeline)) = (self.learners.get_mut(&link), &self.pipeline) else { return };
        if learner.step != Step::Reading {
            return;
        }
        let (sent, end, first) = (learner.sent, pipeline.committed(), learner.awaits_log());
        let part = match part {
            Ok(part) if first => sync::joined(sent, part),
            Ok(part) => Some(part),
            Err(why) => {
                core.note(format!("learner {} is not fed from the log on the disk: {why}", learner.peer.0));
                None
            }
        };
        let part = part.filter(|part| !part.is_empty() && sync::goes_on(sent, part) && part.iter().all(|(zxid, _)| *zxid <= end));
        let Some(part) = part else {
            if first {
                return self.feed_image(core, link);
            }
            core.needs_image(learner.peer);
            return self.refuse(core, link, HOLE);
        };
        if first {
            core.send(link, Packet::Diff { zxid: end });
        }
        // Not counted: the next part is read when these have left, so no more than two are ever on the way.
        for (zxid, payload) in part {
            learner.sent = zxid;
            core.send(link, Packet::Proposal { zxid, payload });
            core.send(link, Packet::Commit { zxid });
        }
        let sent = learner.sent;
        match sync::rest(&core.local.tail, sent, end, queue_max(core)).filter(|_| core.local.tail.holds(sent)) {
            Some(rest) => {
                learner.deadline = Some(patience(core));
                self.cut_stream(core, link, rest);
            }
            None => self.ask_log(core, link, Zxid(sent.0 + 1), false),
        }
    }
}

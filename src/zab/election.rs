//! Fast leader election: servers tell each other their votes, change them only for better ones, and end when a quorum says the same.
//!
//! It runs in every state, because a server that is not looking answers those that are. An election only proposes: two servers of one round may
//! both come to think they lead (one of them on votes that were changed since), and discovery, which needs a quorum behind it, settles that.
//!
//! Invariants:
//! 1. Rounds only go up while the process lives, and the vote of a round changes only for a better one (L15).
//! 2. The own vote is counted here and never sent to oneself.
//! 3. Every answer is to a looking server, and looking servers are contradicted only by better votes or later rounds, so answers die out.

use super::config::ZabConfig;
use super::membership::Membership;
use super::message::{Notification, ServerState, Vote};
use super::planted::{Bug, Planted};
use super::quorum::Quorum;
use super::vote::{Ballot, NOBODY, ZXID_UNKNOWN};
use super::wire::notification::VERSION;
use crate::base::{Instant, PeerId, Zxid};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a server brings into an election.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct History {
    /// The last zxid in its log, durably (A1).
    pub last_logged: Zxid,
    /// The epoch of that history.
    pub current_epoch: u32,
    /// The disk is empty, and nobody vouches that it always was: it may have acknowledged what it does not know any more (L21). Such a server
    /// helps to begin an ensemble, from nothing or from the data of a standalone server; as soon as it hears of the history of an ensemble it
    /// stays out of the election and follows whom the others have elected.
    pub may_have_forgotten: bool,
}

/// How an election ended here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elected {
    /// What this server does now: leading, following or observing.
    pub state: ServerState,
    /// The vote that won.
    pub vote: Vote,
}

/// The configurations that count.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// In force.
    pub active: &'a Membership,
    /// Proposed.
    pub proposed: Option<&'a Membership>,
    /// Of both.
    pub quorum: &'a Quorum,
    /// What this server is in the first.
    pub is_observer: bool,
}

/// Round and epoch of a vote that nobody has cast, as ZooKeeper has them.
const NO_ROUND: i64 = -1;

/// Messages to other servers, in order.
pub type Notifications = Vec<(PeerId, Notification)>;

/// This server's part in elections.
#[derive(Debug)]
pub struct Election {
    me: PeerId,
    membership: Membership,
    /// Voters of a configuration that is proposed: they have a say already.
    next_voters: BTreeSet<PeerId>,
    /// Who elects: both configurations.
    quorum: Quorum,
    /// Whose following shows that a leader is at work: that of the configuration in force.
    active_quorum: Quorum,
    /// The configuration in force as it is sent.
    config: Arc<str>,
    is_observer: bool,
    notification_ms: (u64, u64),
    finalize_ms: u64,
    planted: Planted,
    /// The round (logical clock); goes on from election to election.
    round: i64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// A role has been lost, or none has been had yet, and what this server would vote for is not known yet.
    Withdrawn,
    Looking(Looking),
    /// The election has ended; announced to those that are looking.
    Elected(Elected),
}

/// An election under way.
#[derive(Debug)]
struct Looking {
    history: History,
    /// The vote for the history here.
    initial: Vote,
    proposal: Vote,
    /// As in `History`.
    may_have_forgotten: bool,
    /// Ballots of this round, the own one included.
    round_ballots: BTreeMap<PeerId, Ballot>,
    /// Ballots of servers at work, of any round.
    working_ballots: BTreeMap<PeerId, Ballot>,
    resend_at: Instant,
    resend_ms: u64,
    /// A quorum agrees with the proposal: it has won unless something better comes until then.
    wins_at: Option<Instant>,
}

impl Election {
    /// Before the first election.
    #[must_use]
    pub fn new(config: &ZabConfig) -> Election {
        Election {
            me: config.me,
            next_voters: BTreeSet::new(),
            quorum: config.membership.quorum(),
            active_quorum: config.membership.quorum(),
            config: Arc::from(config.membership.to_text()),
            membership: config.membership.clone(),
            is_observer: config.is_observer,
            notification_ms: (config.notification_ms_min.max(1), config.notification_ms_max.max(config.notification_ms_min).max(1)),
            finalize_ms: config.finalize_ms,
            planted: config.planted,
            round: 0,
            phase: Phase::Withdrawn,
        }
    }

    /// Other configurations count from now on. An election that is under way begins again among their voters; rounds go on.
    pub fn reconfigure(&mut self, now: Instant, view: View<'_>, out: &mut Notifications) {
        let View { active, proposed, quorum, is_observer } = view;
        self.next_voters = proposed.map(|proposed| proposed.voters().collect()).unwrap_or_default();
        self.active_quorum = active.quorum();
        self.config = Arc::from(active.to_text());
        self.membership = active.clone();
        let is_other = (&self.quorum, self.is_observer) != (quorum, is_observer);
        (self.quorum, self.is_observer) = (quorum.clone(), is_observer);
        if is_other && let Phase::Looking(looking) = &self.phase {
            self.begin(now, looking.history, out);
        }
    }

    /// A configuration has taken effect that names a leader: it is as if it had been elected, in no round.
    pub fn appoint(&mut self, leader: PeerId, last_logged: Zxid) -> Elected {
        let elected = self.elected(Vote { leader, zxid: last_logged, peer_epoch: NO_ROUND, election_epoch: NO_ROUND });
        self.phase = Phase::Elected(elected);
        elected
    }

    /// The role is lost, and the log not drained yet: until the next election nobody is answered.
    pub fn withdraw(&mut self) {
        self.phase = Phase::Withdrawn;
    }

    /// Begins an election with this history.
    pub fn begin(&mut self, now: Instant, history: History, out: &mut Notifications) {
        self.round = self.round.saturating_add(1);
        let initial = self.initial_vote(history);
        let resend_ms = self.notification_ms.0;
        let mut looking = Looking {
            history,
            initial,
            proposal: initial,
            may_have_forgotten: history.may_have_forgotten,
            round_ballots: BTreeMap::new(),
            working_ballots: BTreeMap::new(),
            resend_at: now.plus_ms(resend_ms),
            resend_ms,
            wins_at: None,
        };
        self.count_own(&mut looking);
        self.judge_round(now, &mut looking);
        self.send_all(looking.proposal, out);
        self.phase = Phase::Looking(looking);
    }

    /// A message of another server.
    pub fn handle(&mut self, now: Instant, from: PeerId, message: &Notification, out: &mut Notifications) -> Option<Elected> {
        if from == self.me {
            return None;
        }
        match std::mem::replace(&mut self.phase, Phase::Withdrawn) {
            Phase::Withdrawn => None,
            Phase::Elected(elected) => {
                self.phase = Phase::Elected(elected);
                self.answer_at_work(from, message, elected, out);
                None
            }
            Phase::Looking(mut looking) => {
                let elected = self.hear(now, from, message, &mut looking, out);
                self.phase = elected.map_or(Phase::Looking(looking), Phase::Elected);
                elected
            }
        }
    }

    /// `poll_timeout` has passed.
    pub fn timeout(&mut self, now: Instant, out: &mut Notifications) -> Option<Elected> {
        let Phase::Looking(looking) = &mut self.phase else { return None };
        let proposal = looking.proposal;
        if looking.wins_at.is_some_and(|at| at <= now) {
            let elected = self.elected(proposal);
            self.phase = Phase::Elected(elected);
            return Some(elected);
        }
        if looking.resend_at <= now {
            looking.resend_ms = looking.resend_ms.saturating_mul(2).min(self.notification_ms.1);
            looking.resend_at = now.plus_ms(looking.resend_ms);
            self.send_all(proposal, out);
        }
        None
    }

    /// When to call `timeout`, at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Looking(looking) => Some(looking.wins_at.map_or(looking.resend_at, |at| at.min(looking.resend_at))),
            Phase::Withdrawn | Phase::Elected(_) => None,
        }
    }

    /// The new epoch is established here: from now on it is announced, so that all members tell a joiner the same (zxid and round stay).
    pub fn serving(&mut self, epoch: u32) {
        if let Phase::Elected(elected) = &mut self.phase {
            elected.vote.peer_epoch = i64::from(epoch);
        }
    }

    /// What this server says it does.
    #[must_use]
    pub fn state(&self) -> ServerState {
        match &self.phase {
            Phase::Elected(elected) => elected.state,
            Phase::Withdrawn | Phase::Looking(_) => ServerState::Looking,
        }
    }

    /// What it votes for, or has been elected.
    #[must_use]
    pub fn vote(&self) -> Option<Vote> {
        match &self.phase {
            Phase::Withdrawn => None,
            Phase::Looking(looking) => Some(looking.proposal),
            Phase::Elected(elected) => Some(elected.vote),
        }
    }

    /// The vote for the own history. A server that cannot be elected proposes nobody and no history: where it is needed because it is to vote, it
    /// agrees with whoever the others elect, and what it has beyond that one's history is for the leader to judge.
    fn initial_vote(&self, history: History) -> Vote {
        let (me, election_epoch) = (self.me, self.round);
        if self.membership.is_voter(me) && !self.is_observer {
            return Vote { leader: me, zxid: history.last_logged, peer_epoch: i64::from(history.current_epoch), election_epoch };
        }
        let leader = if self.membership.is_voter(me) { me } else { PeerId(NOBODY) };
        let is_unknown = history.last_logged == ZXID_UNKNOWN && !self.is_observer;
        let zxid = if is_unknown { ZXID_UNKNOWN } else { Zxid::from_i64(NOBODY) };
        Vote { leader, zxid, peer_epoch: NOBODY, election_epoch }
    }

    /// This server is not looking: it tells those that are what it knows. What is not looking is never answered, so no two servers can
    /// answer each other for ever.
    fn answer_at_work(&self, from: PeerId, message: &Notification, elected: Elected, out: &mut Notifications) {
        if message.state != ServerState::Looking {
            return;
        }
        let mut vote = elected.vote;
        if !self.is_voter(from) {
            vote.election_epoch = self.round;
        }
        out.push((from, self.notification(elected.state, vote)));
    }

    /// This server is looking.
    fn hear(
        &mut self,
        now: Instant,
        from: PeerId,
        message: &Notification,
        looking: &mut Looking,
        out: &mut Notifications,
    ) -> Option<Elected> {
        if !self.is_voter(from) {
            if message.state == ServerState::Looking {
                out.push((from, self.notification(ServerState::Looking, looking.proposal)));
            }
            return None;
        }
        let vote = &message.vote;
        if !self.is_voter(vote.leader) {
            // It votes in a configuration that is proposed, and may not know it: to be counted it has to be in our round, and it goes back to none.
            let is_next = message.state == ServerState::Looking && vote.leader.0 == NOBODY && !self.membership.is_voter(from);
            if is_next && vote.election_epoch > self.round {
                self.enter_round(now, vote.election_epoch, looking, out);
            }
            return None;
        }
        let stands_aside = looking.may_have_forgotten && !self.planted.has(Bug::WipedServerCounts);
        if stands_aside && is_history_of_an_ensemble(vote) && looking.initial.zxid != ZXID_UNKNOWN {
            self.stand_aside(looking, out);
        }
        match message.state {
            ServerState::Looking => {
                self.hear_candidate(now, from, message, looking, out);
                None
            }
            ServerState::Observing => None,
            ServerState::Following | ServerState::Leading => self.hear_worker(from, message, looking),
        }
    }

    /// The vote of a server that is looking, too.
    fn hear_candidate(&mut self, now: Instant, from: PeerId, message: &Notification, looking: &mut Looking, out: &mut Notifications) {
        looking.working_ballots.remove(&from);
        let vote = message.vote;
        // A server without a vote tells nobody better: it is answered whatever it says, and two such answers would follow each other for ever.
        let votes = self.is_voter(self.me);
        if vote.election_epoch < self.round && votes {
            // It has to hear of the later round to be counted.
            out.push((from, self.notification(ServerState::Looking, looking.proposal)));
        }
        if vote.zxid == ZXID_UNKNOWN || looking.initial.zxid == ZXID_UNKNOWN || vote.election_epoch < self.round {
            return;
        }
        let before = looking.proposal;
        if vote.election_epoch > self.round {
            self.round = vote.election_epoch;
            looking.round_ballots.clear();
            looking.initial.election_epoch = self.round;
            looking.proposal = if vote.is_better_than(&looking.initial, &self.quorum) { vote } else { looking.initial };
        } else if vote.is_better_than(&looking.proposal, &self.quorum) || self.planted.has(Bug::FickleVote) {
            looking.proposal = vote;
        }
        if looking.proposal != before {
            self.count_own(looking);
            self.send_all(looking.proposal, out);
        } else if votes && looking.proposal.is_better_than(&vote, &self.quorum) {
            out.push((from, self.notification(ServerState::Looking, looking.proposal)));
        }
        // While looking the format does not matter.
        looking.round_ballots.insert(from, Ballot { version: 0, ..Ballot::of(message) });
        if looking.proposal != before {
            looking.wins_at = None;
        }
        self.judge_round(now, looking);
    }

    /// A later round, without a vote that could be better than ours.
    fn enter_round(&mut self, now: Instant, round: i64, looking: &mut Looking, out: &mut Notifications) {
        self.round = round;
        looking.initial.election_epoch = round;
        looking.proposal = looking.initial;
        looking.round_ballots.clear();
        looking.wins_at = None;
        self.count_own(looking);
        self.send_all(looking.proposal, out);
        self.judge_round(now, looking);
    }

    /// A server at work: when a quorum follows the same leader, and the leader itself says so, this server joins them.
    fn hear_worker(&mut self, from: PeerId, message: &Notification, looking: &mut Looking) -> Option<Elected> {
        let (ballot, vote) = (Ballot::of(message), message.vote);
        if vote.election_epoch == self.round {
            // Kept without its format: in one round the leader alone decides whether two of them agree.
            looking.round_ballots.insert(from, Ballot { version: 0, ..ballot });
            if self.is_established(looking, &looking.round_ballots, &ballot) {
                return Some(self.elected(vote));
            }
        }
        looking.working_ballots.insert(from, ballot);
        if self.is_established(looking, &looking.working_ballots, &ballot) {
            // Never back to an older round: in the next election a vote of a round already voted in would be taken back.
            self.round = self.round.max(vote.election_epoch);
            return Some(self.elected(vote));
        }
        None
    }

    /// An ensemble has a history, and this server may have had a part in it that it does not know any more: from now on its votes do not count.
    fn stand_aside(&self, looking: &mut Looking, out: &mut Notifications) {
        looking.initial.zxid = ZXID_UNKNOWN;
        looking.proposal = looking.initial;
        looking.wins_at = None;
        self.count_own(looking);
        self.send_all(looking.proposal, out);
    }

    /// Is a quorum of these ballots with this one, and is its leader leading? Where that is this server, it is true if it is about this round.
    fn is_established(&self, looking: &Looking, ballots: &BTreeMap<PeerId, Ballot>, ballot: &Ballot) -> bool {
        let leader = ballot.vote.leader;
        let leads = if leader == self.me {
            ballot.vote.election_epoch == self.round && looking.initial.zxid != ZXID_UNKNOWN
        } else {
            ballots.get(&leader).is_some_and(|its| its.state == ServerState::Leading)
        };
        leads && self.active_quorum.reached(|id| ballots.get(&id).is_some_and(|other| ballot.agrees_with(other)))
    }

    /// Starts or ends the last wait: does a quorum of the round agree with the proposal?
    fn judge_round(&self, now: Instant, looking: &mut Looking) {
        let proposal = Ballot { vote: looking.proposal, state: ServerState::Looking, version: 0 };
        let agreed = self.quorum.reached(|id| looking.round_ballots.get(&id).is_some_and(|other| proposal.agrees_with(other)));
        let waits_until = looking.wins_at.unwrap_or(now.plus_ms(self.finalize_ms));
        looking.wins_at = (agreed && looking.initial.zxid != ZXID_UNKNOWN).then_some(waits_until);
    }

    /// Has a say in who leads: votes, or will when what is proposed takes effect.
    fn is_voter(&self, id: PeerId) -> bool {
        self.membership.is_voter(id) || self.next_voters.contains(&id)
    }

    /// A server without a vote does so in vain: quorums count voters only.
    fn count_own(&self, looking: &mut Looking) {
        let own = Ballot { vote: looking.proposal, state: ServerState::Looking, version: 0 };
        looking.round_ballots.insert(self.me, own);
    }

    fn elected(&self, vote: Vote) -> Elected {
        let state = if vote.leader == self.me {
            ServerState::Leading
        } else if self.is_observer {
            ServerState::Observing
        } else {
            ServerState::Following
        };
        Elected { state, vote }
    }

    fn send_all(&self, proposal: Vote, out: &mut Notifications) {
        let message = self.notification(ServerState::Looking, proposal);
        let voters: BTreeSet<PeerId> = self.membership.voters().chain(self.next_voters.iter().copied()).collect();
        out.extend(voters.into_iter().filter(|id| *id != self.me).map(|id| (id, message.clone())));
    }

    fn notification(&self, state: ServerState, vote: Vote) -> Notification {
        Notification { state, vote, version: VERSION, config: Some(self.config.clone()) }
    }
}

#[cfg(test)]
#[path = "election_sim_tests.rs"]
mod sim_tests;
/// Has a quorum ever acknowledged anything of it? Before its first epoch a history is that of a standalone server, or of nobody.
fn is_history_of_an_ensemble(vote: &Vote) -> bool {
    vote.peer_epoch > 0 || vote.zxid.epoch() > 0
}

#[cfg(test)]
#[path = "election_tests.rs"]
pub(super) mod tests;

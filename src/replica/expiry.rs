//! Sessions where they expire: all of them on a server that stands alone or leads, and local ones on theirs. Who owns each, and when its time is
//! over.
//!
//! Expiry times are rounded up to the next tick, so sessions lie in buckets, and a bucket is looked at once. A session whose
//! connection lives is not expired on our own opinion: its shard is asked first when it was last heard from (A17). Of sessions that talk
//! through another server that server tells by itself.

use crate::base::{ConnKey, Instant, SessionId, Zxid};
use crate::proto::ErrorCode;
use crate::zab::LinkId;
use foldhash::fast::FixedState;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// What a connection is to a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Its requests are carried out.
    Owner,
    /// Its session is being closed: -112.
    OwnerOfClosing,
    /// Unknown session, or a connection older than the owner: dropped unanswered (A16).
    Stranger,
}

/// Through whom a session talks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Holder {
    /// A connection of this server.
    Here(Owner),
    /// Another server. It may be gone; a link never comes back.
    Through(LinkId),
}

impl Holder {
    fn here(self) -> Option<Owner> {
        if let Holder::Here(owner) = self { Some(owner) } else { None }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) conn: ConnKey,
    /// When its socket was accepted: the newest connection keeps the session (L16).
    pub(super) accepted: Instant,
}

struct Session {
    holder: Option<Holder>,
    timeout_ms: i32,
    closing: bool,
    /// When it is due.
    due: Instant,
    /// The bucket it is looked at in, then or before; it moves on when that is over, so that a sign of life costs no place in another one.
    bucket: Option<Instant>,
    /// Its end is in the list of what is due, and it was not heard from since.
    overdue: bool,
}

impl Session {
    fn owner(&self) -> Option<Owner> {
        self.holder.and_then(Holder::here)
    }
}

/// What to do with a session that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// Ask the shard of this connection.
    Ask(SessionId, ConnKey),
    /// Nobody is connected, or the shard has said that it was silent for too long.
    Expire(SessionId),
}

/// All sessions by id and by bucket.
pub(super) struct Sessions {
    tick_ms: u64,
    by_id: HashMap<SessionId, Session, FixedState>,
    /// A session is in the bucket it says, and perhaps in a later one it has left.
    buckets: BTreeMap<Instant, Vec<SessionId>>,
    due: VecDeque<Due>,
    /// Closing sessions by the zxid of their end.
    ends: VecDeque<(Zxid, SessionId)>,
    /// No session counts as silent for longer than since then.
    afresh: Instant,
}

impl Sessions {
    pub(super) fn new(tick_ms: u64, seed: u64) -> Self {
        Sessions {
            tick_ms: tick_ms.max(1),
            by_id: HashMap::with_hasher(FixedState::with_seed(seed)),
            buckets: BTreeMap::new(),
            due: VecDeque::new(),
            ends: VecDeque::new(),
            afresh: Instant(0),
        }
    }

    /// A new or recovered session, nobody connected yet.
    pub(super) fn open(&mut self, session: SessionId, timeout_ms: i32, now: Instant) {
        let entry = Session { holder: None, timeout_ms, closing: false, due: Instant(0), bucket: None, overdue: false };
        self.by_id.insert(session, entry);
        self.touch(session, now);
    }

    /// A session that exists only as the owner of ephemerals: due at the first tick.
    pub(super) fn open_dead(&mut self, session: SessionId) {
        self.open(session, 0, Instant(0));
    }

    /// Exists and is not being closed.
    pub(super) fn is_open(&self, session: SessionId) -> bool {
        self.by_id.get(&session).is_some_and(|s| !s.closing)
    }

    pub(super) fn is_known(&self, session: SessionId) -> bool {
        self.by_id.contains_key(&session)
    }

    pub(super) fn standing(&self, session: SessionId, conn: ConnKey) -> Standing {
        match self.by_id.get(&session) {
            Some(s) if s.owner().is_some_and(|o| o.conn == conn) => {
                if s.closing {
                    Standing::OwnerOfClosing
                } else {
                    Standing::Owner
                }
            }
            _ => Standing::Stranger,
        }
    }

    /// What a link is to a session in whose name it sends. One that nobody has talked for since this server leads is its own from now on. What
    /// comes through its holder is a sign of life.
    pub(super) fn standing_through(&mut self, session: SessionId, link: LinkId, now: Instant) -> Result<(), ErrorCode> {
        let Some(s) = self.by_id.get_mut(&session).filter(|s| !s.closing) else { return Err(ErrorCode::SessionExpired) };
        match *s.holder.get_or_insert(Holder::Through(link)) {
            Holder::Through(holder) if holder == link => {
                self.touch(session, now);
                Ok(())
            }
            _ => Err(ErrorCode::SessionMoved),
        }
    }

    /// The connection of this server that owns it.
    pub(super) fn owner(&self, session: SessionId) -> Option<Owner> {
        self.by_id.get(&session).and_then(Session::owner)
    }

    /// The session now talks through this holder, with this timeout.
    pub(super) fn attach(&mut self, session: SessionId, holder: Holder, timeout_ms: i32, now: Instant) {
        if let Some(s) = self.by_id.get_mut(&session) {
            s.holder = Some(holder);
            s.timeout_ms = timeout_ms;
            self.touch(session, now);
        }
    }

    /// Another server has heard from it since it last told.
    pub(super) fn heard_elsewhere(&mut self, session: SessionId, timeout_ms: i32, now: Instant) {
        if let Some(s) = self.by_id.get_mut(&session).filter(|s| !s.closing) {
            s.timeout_ms = timeout_ms;
            self.touch(session, now);
        }
    }

    /// This server does not lead any more.
    pub(super) fn clear(&mut self) {
        self.by_id.clear();
        self.buckets.clear();
        self.due.clear();
        self.ends.clear();
    }

    /// The connection is gone. Ignored when it is not the owner any more.
    pub(super) fn detach(&mut self, session: SessionId, conn: ConnKey, heard: Instant) {
        if let Some(s) = self.by_id.get_mut(&session).filter(|s| s.owner().is_some_and(|o| o.conn == conn)) {
            s.holder = None;
            if !s.closing {
                self.touch(session, heard);
            }
        }
    }

    /// The session's connection goes to another shard. False when it is not the owner, or the session is being closed.
    pub(super) fn move_owner(&mut self, session: SessionId, from: ConnKey, to: ConnKey, heard: Instant) -> bool {
        let Some(s) = self.by_id.get_mut(&session).filter(|s| !s.closing) else { return false };
        match &mut s.holder {
            Some(Holder::Here(owner)) if owner.conn == from => owner.conn = to,
            _ => return false,
        }
        self.touch(session, heard);
        true
    }

    /// The owner's shard has answered, at the time `answered`. What it did not know then decides nothing: an answer that had to wait for a
    /// slow disk is followed by another question.
    pub(super) fn heard(&mut self, session: SessionId, conn: ConnKey, heard: Instant, answered: Instant) {
        if self.standing(session, conn) == Standing::Owner && self.touch(session, heard) <= answered {
            self.expire(session);
        }
    }

    /// Marks a session as closing by the transaction `zxid`; gives its owner.
    pub(super) fn close(&mut self, session: SessionId, zxid: Zxid) -> Option<Owner> {
        let s = self.by_id.get_mut(&session)?;
        s.closing = true;
        self.ends.push_back((zxid, session));
        s.owner()
    }

    /// Forgets a session at once; gives its owner and its timeout.
    pub(super) fn take(&mut self, session: SessionId) -> Option<(Option<Owner>, i32)> {
        self.by_id.remove(&session).map(|s| (s.owner(), s.timeout_ms))
    }

    /// Forgets sessions whose end is committed.
    pub(super) fn committed(&mut self, applied: Zxid) {
        while let Some(&(zxid, session)) = self.ends.front()
            && zxid <= applied
        {
            self.ends.pop_front();
            self.by_id.remove(&session);
        }
    }

    /// All timers start again now, as after a restart. Sessions move to their new buckets when their old ones are over.
    pub(super) fn start_afresh(&mut self, now: Instant) {
        self.afresh = now;
        for due in std::mem::take(&mut self.due) {
            let (Due::Ask(session, _) | Due::Expire(session)) = due;
            self.touch(session, now);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Time has passed: sessions whose bucket is over are due.
    pub(super) fn tick(&mut self, now: Instant) {
        while let Some(bucket) = self.buckets.first_entry().filter(|b| *b.key() <= now) {
            let (at, sessions) = bucket.remove_entry();
            for session in sessions {
                let Some(s) = self.by_id.get_mut(&session).filter(|s| s.bucket == Some(at) && !s.closing) else { continue };
                s.bucket = None;
                if s.overdue {
                    continue;
                }
                let due = s.due.max(due_after(self.afresh, s.timeout_ms, self.tick_ms));
                if due > at {
                    self.put_into_bucket(session, due);
                    continue;
                }
                match s.owner() {
                    None => self.expire(session),
                    Some(owner) => {
                        self.due.push_back(Due::Ask(session, owner.conn));
                        // Asked again if no answer comes; the shard that owes it may lag.
                        self.touch(session, now);
                    }
                }
            }
        }
    }

    /// The next session that is due. One that was heard from in between is still asked about or expired by a later tick.
    pub(super) fn next_expired(&mut self) -> Option<Due> {
        while let Some(due) = self.due.pop_front() {
            match due {
                Due::Ask(session, conn) if self.standing(session, conn) != Standing::Owner => {}
                Due::Expire(session) if !self.by_id.get(&session).is_some_and(|s| s.overdue && !s.closing) => {}
                _ => return Some(due),
            }
        }
        None
    }

    /// Some are due and not dealt with.
    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Puts back what could not be done yet.
    pub(super) fn put_back(&mut self, due: Due) {
        self.due.push_front(due);
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.buckets.first_key_value().map(|(at, _)| *at)
    }

    /// (session, timeout, ms until it is due), by id.
    pub(super) fn report(&self, now: Instant) -> Vec<(SessionId, i32, u64)> {
        let mut all: Vec<_> =
            self.by_id.iter().filter(|(_, s)| !s.closing).map(|(id, s)| (*id, s.timeout_ms, s.due.since_ms(now))).collect();
        all.sort_unstable();
        all
    }

    fn expire(&mut self, session: SessionId) {
        if let Some(s) = self.by_id.get_mut(&session) {
            s.overdue = true;
            self.due.push_back(Due::Expire(session));
        }
    }

    /// Heard from at `at`: into the bucket of `at` + timeout, rounded up to the next tick. Returns when it is due.
    fn touch(&mut self, session: SessionId, at: Instant) -> Instant {
        let Some(s) = self.by_id.get_mut(&session) else { return at };
        let due = due_after(at.max(self.afresh), s.timeout_ms, self.tick_ms);
        s.overdue = false;
        self.put_into_bucket(session, due);
        due
    }

    fn put_into_bucket(&mut self, session: SessionId, due: Instant) {
        let Some(s) = self.by_id.get_mut(&session) else { return };
        s.due = due;
        if s.bucket.is_none_or(|bucket| due < bucket) {
            s.bucket = Some(due);
            self.buckets.entry(due).or_default().push(session);
        }
    }
}

fn due_after(heard: Instant, timeout_ms: i32, tick_ms: u64) -> Instant {
    let ms = heard.as_ms().saturating_add(timeout_ms.max(0) as u64);
    Instant(0).plus_ms((ms / tick_ms + 1).saturating_mul(tick_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ConnId, ShardId};

    const TICK: u64 = 1000;
    const S: SessionId = SessionId(5);

    fn at(ms: u64) -> Instant {
        Instant(0).plus_ms(ms)
    }
    fn conn(n: u64) -> ConnKey {
        ConnKey { shard: ShardId(0), conn: ConnId(n) }
    }
    fn here(n: u64, accepted_ms: u64) -> Holder {
        Holder::Here(Owner { conn: conn(n), accepted: at(accepted_ms) })
    }
    fn attached() -> Sessions {
        let mut sessions = Sessions::new(TICK, 1);
        sessions.open(S, 4000, at(100));
        sessions.attach(S, here(1, 50), 4000, at(100));
        sessions
    }

    #[test]
    fn expiry_is_rounded_up_to_the_next_tick() {
        let mut sessions = Sessions::new(TICK, 1);
        sessions.open(S, 4000, at(100));
        assert_eq!(sessions.next_due(), Some(at(5000)));
        sessions.open(SessionId(6), 4000, at(1000));
        sessions.tick(at(4999));
        assert_eq!(sessions.next_expired(), None);
        sessions.tick(at(5000));
        assert_eq!(sessions.next_expired(), Some(Due::Expire(S)));
        assert_eq!(sessions.next_expired(), None);
        assert_eq!(sessions.next_due(), Some(at(6000)), "strictly later than heard + timeout");
    }

    #[test]
    fn a_connected_session_is_asked_about_before_it_expires_a17() {
        let mut sessions = attached();
        sessions.tick(at(5000));
        assert_eq!(sessions.next_expired(), Some(Due::Ask(S, conn(1))));
        sessions.heard(S, conn(1), at(4500), at(5020));
        assert_eq!(sessions.next_expired(), None);
        sessions.tick(at(9000));
        assert_eq!(sessions.next_expired(), Some(Due::Ask(S, conn(1))));
        sessions.heard(S, conn(1), at(4500), at(9020));
        assert_eq!(sessions.next_expired(), Some(Due::Expire(S)));
    }

    #[test]
    fn a_question_without_an_answer_is_asked_again() {
        let mut sessions = attached();
        sessions.tick(at(5000));
        assert_eq!(sessions.next_expired(), Some(Due::Ask(S, conn(1))));
        sessions.tick(at(10_000));
        assert_eq!(sessions.next_expired(), Some(Due::Ask(S, conn(1))));
    }

    #[test]
    fn a_fresh_start_moves_what_is_due_and_what_will_be_a17() {
        let mut sessions = Sessions::new(TICK, 1);
        (5..8).for_each(|id| sessions.open(SessionId(id), 4000, at(100 * (id as u64 - 4))));
        sessions.open(SessionId(9), 30_000, at(100));
        sessions.tick(at(5000));
        assert!(sessions.has_due());
        sessions.start_afresh(at(9500));
        assert_eq!(sessions.next_expired(), None);
        sessions.tick(at(13_999));
        assert_eq!(sessions.next_expired(), None);
        sessions.tick(at(14_000));
        let expired: Vec<_> = std::iter::from_fn(|| sessions.next_expired()).collect();
        assert_eq!(expired, [5, 6, 7].map(|id| Due::Expire(SessionId(id))));
        sessions.tick(at(39_999));
        assert_eq!(sessions.next_expired(), None, "one with a longer timeout has all of it");
        sessions.tick(at(40_000));
        assert_eq!(sessions.next_expired(), Some(Due::Expire(SessionId(9))));
    }

    #[test]
    fn a_session_that_waits_for_its_end_among_many_is_not_asked_about_again() {
        let mut sessions = attached();
        sessions.tick(at(5000));
        assert_eq!(sessions.next_expired(), Some(Due::Ask(S, conn(1))));
        sessions.heard(S, conn(1), at(500), at(5020));
        sessions.tick(at(5030));
        assert_eq!((sessions.next_expired(), sessions.next_expired()), (Some(Due::Expire(S)), None));
    }

    #[test]
    fn however_often_a_session_is_heard_from_it_stands_in_one_bucket_and_is_due_in_time() {
        const HOUR_MS: i32 = 3_600_000;
        let mut sessions = Sessions::new(TICK, 1);
        sessions.open(S, HOUR_MS, at(100));
        sessions.attach(S, Holder::Through(LinkId(2)), HOUR_MS, at(100));
        for ms in (500..7_200_500).step_by(500) {
            sessions.heard_elsewhere(S, HOUR_MS, at(ms));
            sessions.tick(at(ms));
            assert_eq!((sessions.next_expired(), sessions.buckets.values().map(Vec::len).sum::<usize>()), (None, 1), "{ms}");
        }
        sessions.heard_elsewhere(S, 4000, at(7_200_500));
        sessions.tick(at(7_204_999));
        assert_eq!(sessions.next_expired(), None);
        sessions.tick(at(7_205_000));
        assert_eq!(sessions.next_expired(), Some(Due::Expire(S)), "a shorter time counts at once");
        sessions.heard_elsewhere(S, 4000, at(7_205_100));
        sessions.tick(at(20_000_000));
        assert_eq!(sessions.next_expired(), Some(Due::Expire(S)));
    }

    #[test]
    fn only_the_owner_counts_a16() {
        let mut sessions = attached();
        sessions.attach(S, here(2, 60), 6000, at(200));
        assert_eq!(sessions.standing(S, conn(1)), Standing::Stranger);
        assert_eq!(sessions.standing(S, conn(2)), Standing::Owner);
        sessions.detach(S, conn(1), at(0));
        assert_eq!(sessions.standing(S, conn(2)), Standing::Owner);
        sessions.heard(S, conn(1), at(0), at(60_000));
        assert_eq!(sessions.next_expired(), None);
        sessions.detach(S, conn(2), at(300));
        sessions.tick(at(7000));
        assert_eq!(sessions.next_expired(), Some(Due::Expire(S)));
    }

    #[test]
    fn a_session_taken_up_again_before_its_end_could_be_logged_lives_on_a17() {
        let mut sessions = Sessions::new(TICK, 1);
        sessions.open(S, 4000, at(100));
        sessions.tick(at(5000));
        let due = sessions.next_expired().expect("nobody is connected");
        sessions.put_back(due);
        sessions.attach(S, here(1, 5100), 4000, at(5200));
        assert_eq!(sessions.next_expired(), None, "its client is there");
        sessions.detach(S, conn(1), at(5300));
        sessions.tick(at(10_000));
        assert_eq!(sessions.next_expired(), Some(Due::Expire(S)), "and may be silent again");
    }

    #[test]
    fn the_owner_of_left_over_ephemerals_is_due_at_the_first_tick() {
        let mut sessions = Sessions::new(TICK, 1);
        sessions.open_dead(S);
        assert!(sessions.next_due().is_some_and(|due| due <= at(TICK)));
        sessions.tick(at(TICK));
        assert_eq!(sessions.next_expired(), Some(Due::Expire(S)));
    }

    #[test]
    fn a_closing_session_is_forgotten_when_its_end_commits() {
        let mut sessions = attached();
        assert!(sessions.close(S, Zxid(9)).is_some());
        assert_eq!(sessions.standing(S, conn(1)), Standing::OwnerOfClosing);
        assert!(!sessions.is_open(S));
        sessions.committed(Zxid(8));
        assert_eq!(sessions.standing(S, conn(1)), Standing::OwnerOfClosing);
        sessions.committed(Zxid(9));
        assert_eq!(sessions.standing(S, conn(1)), Standing::Stranger);
    }

    #[test]
    fn a_session_talks_through_one_server_and_moves_to_the_newest_a14() {
        let mut sessions = Sessions::new(TICK, 1);
        assert_eq!(sessions.standing_through(S, LinkId(2), at(300)), Err(ErrorCode::SessionExpired), "unknown");
        sessions.open(S, 4000, at(100));
        assert_eq!(sessions.standing_through(S, LinkId(2), at(300)), Ok(()), "the first to talk for it after an election");
        assert_eq!(sessions.standing_through(S, LinkId(4), at(300)), Err(ErrorCode::SessionMoved));
        sessions.attach(S, Holder::Through(LinkId(4)), 4000, at(200));
        assert_eq!(sessions.standing_through(S, LinkId(4), at(300)), Ok(()));
        assert_eq!(sessions.standing_through(S, LinkId(2), at(300)), Err(ErrorCode::SessionMoved));
        sessions.attach(S, here(1, 50), 4000, at(300));
        assert_eq!(sessions.standing_through(S, LinkId(4), at(300)), Err(ErrorCode::SessionMoved));
        sessions.close(S, Zxid(9));
        assert_eq!(sessions.standing_through(S, LinkId(4), at(300)), Err(ErrorCode::SessionExpired));
    }

    #[test]
    fn a_session_of_another_server_expires_unless_that_server_has_heard_from_it_p13() {
        let mut sessions = Sessions::new(TICK, 1);
        sessions.open(S, 4000, at(100));
        sessions.attach(S, Holder::Through(LinkId(2)), 4000, at(100));
        sessions.heard_elsewhere(S, 4000, at(3000));
        sessions.tick(at(5000));
        assert_eq!(sessions.next_expired(), None);
        sessions.tick(at(8000));
        assert_eq!(sessions.next_expired(), Some(Due::Expire(S)), "nobody here can be asked");
    }

    #[test]
    fn a_write_that_comes_through_another_server_shows_that_its_session_is_alive_p13() {
        let mut sessions = Sessions::new(TICK, 1);
        sessions.open(S, 4000, at(100));
        sessions.attach(S, Holder::Through(LinkId(2)), 4000, at(100));
        assert_eq!(sessions.standing_through(S, LinkId(2), at(4900)), Ok(()));
        assert_eq!(sessions.standing_through(S, LinkId(4), at(6900)), Err(ErrorCode::SessionMoved), "a server that does not have it");
        sessions.tick(at(8999));
        assert_eq!(sessions.next_expired(), None);
        sessions.tick(at(9000));
        assert_eq!(sessions.next_expired(), Some(Due::Expire(S)));
    }
}

//! Requests that took long: which, and in which stage. So many a second are told of; what more there were is counted.

use super::route::Answered;
use crate::base::{Instant, SessionId, Xid};
use crate::handoff::Passed;
use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::net::SocketAddr;

/// Told of in one second: a slow disk makes every request slow.
const TOLD_PER_SECOND: u32 = 10;
const SECOND_MS: u64 = 1_000;

/// A request that took long.
#[derive(Clone, Debug)]
pub struct SlowRequest {
    /// Its type.
    pub op: &'static str,
    #[allow(missing_docs)]
    pub xid: Xid,
    /// Whose it is.
    pub session: SessionId,
    /// Where it came from.
    pub peer: SocketAddr,
    /// From its receipt to its answer.
    pub took_ms: u64,
    /// Milliseconds of each stage, if it came to the replica.
    stages: Option<[(&'static str, u64); 4]>,
    /// So many before it were not told of.
    pub untold: u64,
}

/// What one shard has to tell.
#[derive(Debug, Default)]
pub(super) struct Slow {
    to_tell: VecDeque<SlowRequest>,
    /// The second that is counted began here.
    since: Instant,
    told: u32,
    untold: u64,
}

impl Slow {
    /// One more; `whose` finds out what is told of it.
    pub(super) fn note(&mut self, now: Instant, op: &'static str, answered: &Answered, whose: (SessionId, SocketAddr)) {
        if now.since_ms(self.since) >= SECOND_MS {
            (self.since, self.told) = (now, 0);
        }
        if self.told == TOLD_PER_SECOND {
            self.untold += 1;
            return;
        }
        self.told += 1;
        let (session, peer) = whose;
        self.to_tell.push_back(SlowRequest {
            op,
            xid: answered.xid,
            session,
            peer,
            took_ms: now.since_ms(answered.received),
            stages: answered.passed.map(|passed| stages(answered.received, passed, now)),
            untold: std::mem::take(&mut self.untold),
        });
    }

    pub(super) fn poll(&mut self) -> Option<SlowRequest> {
        self.to_tell.pop_front()
    }
}

/// Of the batch that answered it: a request that came while its oldest transaction was on its way has spent less in front of it.
fn stages(received: Instant, passed: Passed, answered: Instant) -> [(&'static str, u64); 4] {
    let from = |earlier: Instant| earlier.max(received);
    [
        ("queue", passed.prepared.since_ms(received)),
        ("log", passed.durable.since_ms(from(passed.prepared))),
        ("quorum", passed.published.since_ms(from(passed.durable))),
        ("shard", answered.since_ms(from(passed.published))),
    ]
}

impl Display for SlowRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SlowRequest { op, xid, session, peer, took_ms, stages, untold } = self;
        write!(f, "slow request: {op} {} of session {session} ({peer}) took {took_ms} ms, ", xid.0)?;
        match stages {
            None => write!(f, "all in its shard: it waited for what was asked before it, or its client takes a long answer slowly")?,
            Some(stages) => {
                let slowest = stages.iter().max_by_key(|(_, ms)| *ms).map_or("", |(name, _)| name);
                let each: Vec<String> = stages.iter().map(|(name, ms)| format!("{name} {ms}")).collect();
                write!(f, "most of it in the {slowest} ({} ms)", each.join(", "))?;
            }
        }
        if *untold > 0 {
            write!(f, "; {untold} more before it")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Zxid;
    use crate::proto::OpCode;

    fn at(ms: u64) -> Instant {
        Instant(0).plus_ms(ms)
    }

    fn told(slow: &mut Slow, now: Instant, received: Instant, passed: Option<Passed>) -> Option<String> {
        let answered = Answered { op: OpCode::SetData, refused: false, xid: Xid(5), zxid: Zxid(1), received, bytes: 0, passed };
        slow.note(now, "SETD", &answered, (SessionId(0x10), SocketAddr::from(([127, 0, 0, 1], 9))));
        slow.poll().map(|request| request.to_string())
    }

    #[test]
    fn the_stage_in_which_the_time_went_is_named() {
        let passed = Passed { prepared: at(12), durable: at(1_212), published: at(1_242) };
        let line = told(&mut Slow::default(), at(2_000), at(10), Some(passed)).expect("told");
        assert_eq!(
            line,
            "slow request: SETD 5 of session 0x10 (127.0.0.1:9) took 1990 ms, most of it in the log (queue 2, log 1200, quorum 30, shard 758 ms)"
        );
        let late = told(&mut Slow::default(), at(2_000), at(1_200), Some(passed)).expect("told");
        assert!(late.ends_with("most of it in the shard (queue 0, log 12, quorum 30, shard 758 ms)"), "{late}");
        let read = told(&mut Slow::default(), at(2_000), at(10), None).expect("told");
        assert!(read.contains("1990 ms, all in its shard"), "{read}");
    }

    #[test]
    fn many_at_once_are_counted() {
        let mut slow = Slow::default();
        let mut lines = |now: u64, count: u32| (0..count).filter_map(|_| told(&mut slow, at(now), at(0), None)).collect::<Vec<_>>();
        assert_eq!(lines(5_000, 25).len(), 10);
        assert_eq!(lines(5_999, 1).len(), 0);
        let next = lines(6_000, 2);
        assert!(next[0].ends_with("; 16 more before it") && !next[1].contains("more"), "{next:?}");
    }
}

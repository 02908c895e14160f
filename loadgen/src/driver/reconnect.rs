//! Connections that outlive their server: one that breaks goes at once to the next server of the list with its session, and counts what it
//! does not know the outcome of. The rules of replies stay: a server that shows less than the session has seen fails the run.

use super::{Conn, Pace, Worker};
use crate::connection::Failure;
use crate::readiness::EventFlags;
use crate::schedule::SECOND_NS;
use crate::workload::Issued;
use zoo::proto::connect::ConnectResponse;

/// When no server of the list took the connection, the next round of them begins after this long.
const ROUND_EVERY_NS: u64 = 5_000_000;
/// A server that accepts a connection and says nothing is left after this long.
const WELCOME_NS_MAX: u64 = SECOND_NS;

/// Where a connection stands.
#[derive(Debug)]
pub(super) struct Link {
    state: State,
    /// The server it is at, or tries: its place in the list.
    server: usize,
    /// Servers tried since it was lost.
    tried: usize,
    lost_at_ns: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Up,
    /// The connect request is under way or unanswered.
    Moving {
        until_ns: u64,
    },
    /// Every server was tried.
    Resting {
        until_ns: u64,
    },
}

impl Link {
    pub(super) fn of_connection(global: usize) -> Self {
        Link { state: State::Up, server: global, tried: 0, lost_at_ns: 0 }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }
}

impl Conn {
    /// Forgets what was asked; returns it.
    fn abandon(&mut self) -> impl Iterator<Item = (Issued, u64)> {
        std::mem::take(&mut self.pending).into_iter().filter_map(|p| Some((p.issued?, p.at_ns)))
    }
}

impl Worker<'_> {
    /// A connection that broke goes on elsewhere, if that is wanted; everything else that can go wrong ends the run.
    pub(super) fn survive(&mut self, at: usize, result: Result<(), Failure>) -> Result<(), Failure> {
        match result {
            Err(Failure::Io(_) | Failure::Closed) if self.plan.reconnect => self.leave(at),
            other => other,
        }
    }

    /// The connection is gone: counts what was under way and tries the next server.
    fn leave(&mut self, at: usize) -> Result<(), Failure> {
        let now = self.now_ns();
        let conn = &mut self.conns[at];
        if conn.link.is_up() {
            (conn.link.lost_at_ns, conn.link.tried) = (now, 0);
            self.down += 1;
        }
        for (issued, at_ns) in conn.abandon() {
            if self.plan.window.contains(at_ns) {
                let lost = if issued.kind.is_write() { &mut self.tally.unknown_writes } else { &mut self.tally.lost_reads };
                *lost += 1;
            }
        }
        // A socket that stays registered while its connection rests would report its end for ever.
        self.readiness.remove(self.conns[at].session.stream())?;
        self.try_servers(at, now)
    }

    /// The next server of the list, and those after it when they refuse at once, until all were tried.
    fn try_servers(&mut self, at: usize, now: u64) -> Result<(), Failure> {
        let servers = self.plan.target.servers().count();
        let conn = &mut self.conns[at];
        loop {
            conn.link.tried += 1;
            if conn.link.tried.is_multiple_of(servers + 1) {
                conn.link.state = State::Resting { until_ns: now + ROUND_EVERY_NS };
                return Ok(());
            }
            conn.link.server += 1;
            let addr = self.plan.target.of_connection(conn.link.server).addr;
            match conn.session.move_to(addr, self.plan.session_timeout, conn.last_zxid.max(0)) {
                Ok(session) => {
                    conn.session = session;
                    break;
                }
                Err(Failure::Io(_)) => {}
                Err(other) => return Err(other),
            }
        }
        conn.link.state = State::Moving { until_ns: now + WELCOME_NS_MAX };
        conn.blocked = true;
        self.readiness.add(conn.session.stream(), at, EventFlags::IN | EventFlags::OUT)?;
        Ok(())
    }

    /// The answer to the connect request, when it is there: true when the connection is up again.
    pub(super) fn finish_move(&mut self, at: usize, now: u64) -> Result<bool, Failure> {
        let conn = &mut self.conns[at];
        let Some(frame) = conn.session.input.next_frame()? else { return Ok(false) };
        let response = ConnectResponse::decode(frame)?;
        if conn.session.welcome(&response).is_err() {
            // It has expired while no server could be reached: begin anew, as an application would.
            conn.session.forget();
            self.tally.sessions_lost += 1;
            return Err(Failure::Closed);
        }
        conn.link.state = State::Up;
        self.down -= 1;
        self.tally.moves.record(now.saturating_sub(conn.link.lost_at_ns));
        if let Pace::Closed { in_flight, .. } = self.plan.pace
            && now < self.plan.window.to_ns
        {
            conn.issue_many(in_flight, now);
            self.send(at, now)?;
        }
        Ok(true)
    }

    /// Connections whose rest is over, or whose server says nothing.
    pub(super) fn retry_lost(&mut self, now: u64) -> Result<(), Failure> {
        if self.down == 0 {
            return Ok(());
        }
        for at in 0..self.conns.len() {
            match self.conns[at].link.state {
                State::Resting { until_ns } if until_ns <= now => self.try_servers(at, now)?,
                State::Moving { until_ns } if until_ns <= now => self.leave(at)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Nanoseconds until `retry_lost` has something to do.
    pub(super) fn until_retry(&self, now: u64) -> u64 {
        let until = |conn: &Conn| match conn.link.state {
            State::Up => u64::MAX,
            State::Moving { until_ns } | State::Resting { until_ns } => until_ns.saturating_sub(now),
        };
        if self.down == 0 { u64::MAX } else { self.conns.iter().map(until).min().unwrap_or(u64::MAX) }
    }

    /// A server that has answered nothing for two thirds of the session timeout, as ZooKeeper's own clients count, is left.
    pub(super) fn give_up_silent(&mut self, at: usize, now: u64) -> Result<(), Failure> {
        let conn = &self.conns[at];
        let patience = self.plan.session_timeout.as_nanos() as u64 / 3 * 2;
        let asked_at = conn.pending.front().map_or(now, |p| p.at_ns);
        let silent = now.saturating_sub(conn.last_heard_ns.max(asked_at)) > patience;
        if silent && conn.link.is_up() && self.plan.reconnect { self.leave(at) } else { Ok(()) }
    }

    /// In an open loop it is the turn of the next connection that is up.
    pub(super) fn pass_over_lost(&mut self) {
        if self.down > 0
            && let Some(step) = (0..self.conns.len()).find(|step| self.conns[(self.next_conn + step) % self.conns.len()].link.is_up())
        {
            self.next_conn = (self.next_conn + step) % self.conns.len();
        }
    }
}

//! What a leader does for the clients of other servers: each forwarded write becomes exactly one transaction, in the order its server sent
//! them (A14); sessions are opened, ended and moved in their name.

use super::Replica;
use super::expiry::Holder;
use super::intake::{Asker, Work};
use crate::base::{Instant, Reader, SessionId, WallTime};
use crate::proto::{ErrorCode, OpCode, Request};
use crate::zab::{ForwardedRequest, LinkId};

impl Replica {
    /// A write of another server's client. Whatever is wrong with it, it takes its place in history: that server waits for it.
    pub(super) fn forwarded(&mut self, now: Instant, wall: WallTime, link: LinkId, request: &ForwardedRequest) {
        let asker = Asker { session: request.session, xid: request.cxid, auth: &request.auth, conn: None };
        let mut body = Reader::new(&request.body);
        let Some(op) = OpCode::from_i32(request.op) else {
            return self.prepare(wall, &asker, Work::Error(ErrorCode::Unimplemented));
        };
        match op {
            // It is no transaction, and has its place all the same: behind what that server sent before.
            OpCode::Sync => {
                if let Some(member) = &mut self.member {
                    member.zab.sync_for(link);
                }
            }
            OpCode::CreateSession => {
                let Some(timeout_ms) = body.i32().ok().filter(|_| !self.sessions.is_known(request.session)) else {
                    return self.prepare(wall, &asker, Work::Error(ErrorCode::Marshalling));
                };
                self.sessions.open(request.session, timeout_ms, now);
                self.sessions.attach(request.session, Holder::Through(link), timeout_ms, now);
                self.prepare(wall, &asker, Work::CreateSession { timeout_ms });
            }
            // As in ZooKeeper it is carried out whoever asks.
            OpCode::CloseSession => self.prepare(wall, &asker, Work::CloseSession),
            _ => {
                let decoded = Request::decode(op, &mut body).map_err(|_| ErrorCode::Marshalling);
                match self.standing_through(request.session, link, now).and(decoded) {
                    Ok(request) => self.prepare(wall, &asker, Work::Request(&request)),
                    Err(err) => self.prepare(wall, &asker, Work::Error(err)),
                }
            }
        }
    }

    /// With local sessions, one that is not known may be that server's; one of this server's own has ended.
    fn standing_through(&mut self, session: SessionId, link: LinkId, now: Instant) -> Result<(), ErrorCode> {
        let is_own = (session.0 >> 56) as u8 == self.config.server_id as u8;
        if self.makes_local_sessions() && !is_own && !self.sessions.is_known(session) {
            return Ok(());
        }
        self.sessions.standing_through(session, link, now)
    }

    /// A client of another server wants to go on with a session there: that server is its holder from now on, and a connection here loses it.
    pub(super) fn revalidate(&mut self, now: Instant, link: LinkId, session: SessionId, timeout_ms: i32) {
        let valid = self.sessions.is_open(session) && self.tree.has_session(session);
        if valid {
            if let Some(owner) = self.sessions.owner(session) {
                self.cut(owner.conn);
            }
            self.sessions.attach(session, Holder::Through(link), timeout_ms, now);
            self.tree.set_session_timeout(session, timeout_ms);
        }
        if let Some(member) = &mut self.member {
            member.zab.revalidated(link, session, valid);
        }
    }
}

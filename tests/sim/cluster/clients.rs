//! What clients ask of servers, and operators of leaders.

use super::*;

impl World {
    /// A client of this server writes, or asks for a sync.
    pub fn client(&mut self, id: PeerId) {
        if self.prng.chance(1, 4) { self.sync(id) } else { self.write(id) }
    }
    /// A client of this server writes.
    pub fn write(&mut self, id: PeerId) {
        let Some(running) = self.awake(id) else { return };
        let life = running.life;
        match running.role {
            Role::Leading { .. } => self.propose(life),
            Role::Following { .. } | Role::Observing { .. } => self.forward(life, OP_CREATE),
            Role::Looking => {}
        }
    }
    /// A client of this server asks for a sync: all that is committed anywhere must be here when it is answered.
    pub fn sync(&mut self, id: PeerId) {
        let committed = self.checker.last_committed();
        let Some(running) = self.awake(id) else { return };
        let life = running.life;
        match running.role {
            Role::Leading { .. } => {
                running.own_syncs.push_back((running.zab.confirm(), committed));
                self.pump(life);
            }
            Role::Following { .. } | Role::Observing { .. } => {
                running.syncs.push_back(committed);
                self.forward(life, OP_SYNC);
            }
            Role::Looking => {}
        }
    }
    pub(super) fn awake(&mut self, id: PeerId) -> Option<&mut Running> {
        let now = self.now;
        self.running(id).filter(|r| r.paused_until <= now)
    }
    pub(super) fn forward(&mut self, life: Life, op: i32) {
        if let Some(running) = self.alive(life) {
            let request = ForwardedRequest { session: SessionId(1), cxid: Xid(1), op, body: Box::default(), auth: Default::default() };
            running.zab.forward(request);
        }
        self.pump(life);
    }
    pub(super) fn propose(&mut self, life: Life) {
        let Some(zxid) = self.alive(life).and_then(|r| r.zab.next_zxid()) else { return };
        let payload: Payload = self.checker.proposal(zxid).into();
        self.propose_this(life, zxid, payload);
    }
    pub(super) fn propose_this(&mut self, life: Life, zxid: Zxid, payload: Payload) {
        if let Some(running) = self.alive(life) {
            running.memory.push((zxid, payload.clone()));
            running.zab.propose(zxid, payload);
        }
        self.flush(life);
        self.pump(life);
    }
    pub(super) fn request(&mut self, life: Life, link: LinkId, request: &ForwardedRequest) {
        if request.op == OP_SYNC {
            if let Some(running) = self.alive(life) {
                running.zab.sync_for(link);
            }
        } else {
            self.propose(life);
        }
    }

    // ---- configurations

    pub(super) fn in_force(&mut self, membership: Membership) {
        if membership.version > self.membership.version {
            self.membership = membership;
        }
    }

    /// What a server's file says, and what it has of a proposed one. Those that are to join know the first members and themselves.
    pub(super) fn platter_config(&self, id: PeerId) -> (Membership, Option<Membership>) {
        let platter = &self.servers[&id].platter;
        let first = || {
            let mut first = self.first.clone();
            first.members.entry(id).or_insert_with(|| member(id, MemberKind::Participant, 1));
            first
        };
        (platter.active.clone().unwrap_or_else(first), platter.proposed.clone())
    }
    /// Asks a leader for other members, whoever they may be.
    pub fn reconfigure(&mut self, id: PeerId) {
        let ids = self.ids();
        let mut lines = Vec::new();
        for id in ids {
            let kind = if self.prng.chance(1, 4) { "observer" } else { "participant" };
            let port = 1 + 2 * u64::from(self.prng.chance(1, 8));
            if self.prng.chance(3, 5) {
                lines.push(format!("server.{}=s{}:{port}:2:{kind}", id.0, id.0));
            }
        }
        let members = lines.join(",");
        let request = ReconfigRequest { joining: None, leaving: None, members: Some(&members), version: -1 };
        let Some(running) = self.running(id).filter(|r| matches!(r.role, Role::Leading { .. })) else { return };
        let life = running.life;
        let (Some(zxid), Ok(next)) = (running.zab.next_zxid(), running.zab.plan_reconfig(&request)) else { return };
        let number = self.checker.proposal(zxid);
        let number = i64::from_be_bytes(number.try_into().expect("eight bytes"));
        let header = TxnHeader { session: SessionId(number), cxid: Xid(0), zxid, time: Default::default(), kind: TxnType::Reconfig as i32 };
        let mut payload = Vec::new();
        header.write(&mut payload);
        Txn::Reconfig { path: "/zookeeper/config", data: Some(next.to_text().as_bytes()), version: -1 }.write_body(&mut payload);
        self.count("reconfigurations");
        self.say(format_args!("{:?} proposes {zxid}: {members}", life.0));
        self.propose_this(life, zxid, payload.into());
    }
}

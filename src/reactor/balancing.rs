//! The task that carries out the balancing strategies of a server: looks at the nodes that say them, moves connections between shards, closes some so that
//! they go to other servers, and tells the replica how many there are. On shard 0's executor.

use crate::balance::{Balancer, GiveAway, Note, Orders, Placement, Placer, Shares, Shed, Steward};
use crate::base::{Instant, ShardId};
use crate::reactor::clock;
use crate::reactor::mesh::{Mesh, ToReplicaTask, ToShard};
use crate::reactor::replica_loop::ReplicaLoop;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// How often the nodes are looked at: what they say takes effect within this time.
const LOOK_MS: u64 = 250;
/// How often the replica is told how many connections there are, while somebody wants to know.
const TELL_MS: u64 = 1_000;

/// What it works with.
pub struct Balancing {
    mesh: Arc<Mesh>,
    replica: Rc<ReplicaLoop>,
    placer: Rc<RefCell<Placer>>,
    balancer: Balancer,
    steward: Steward,
    placement: Placement,
    rebalance_ms: Option<u64>,
    rebalance_at: Option<Instant>,
    tell_at: Instant,
    /// The replica counts on being told.
    is_telling: bool,
}

impl Balancing {
    /// With what the configuration file says.
    pub fn new(
        mesh: Arc<Mesh>,
        replica: Rc<ReplicaLoop>,
        placer: Rc<RefCell<Placer>>,
        shares: Shares,
        (placement, rebalance_ms): (Placement, Option<u64>),
    ) -> Self {
        let steward = Steward::new(replica.ask(crate::replica::Replica::server_id), placement, rebalance_ms);
        let balancer = Balancer::new(placement, shares);
        let (rebalance_at, tell_at) = (None, clock::now());
        Balancing { mesh, replica, placer, balancer, steward, placement, rebalance_ms, rebalance_at, tell_at, is_telling: false }
    }

    /// For as long as the task lives.
    pub async fn run(mut self) {
        let mut look_at = clock::now();
        loop {
            let now = clock::now();
            if look_at <= now {
                self.look(now);
                look_at = now.plus_ms(LOOK_MS);
            }
            self.rebalance(now);
            let next = self.rebalance_at.map_or(look_at, |at| at.min(look_at));
            glommio::timer::sleep(std::time::Duration::from_millis(next.since_ms(now).max(1))).await;
        }
    }

    fn look(&mut self, now: Instant) {
        // Without a role it serves nobody, and what it knows may be old.
        let Some(nodes) = self.replica.ask(crate::replica::Replica::balance_nodes) else { return };
        let nodes = nodes.nodes();
        let connections = self.mesh.loads_now().iter().map(|load| load.connections).sum();
        let orders = self.steward.look(now.as_ms(), &nodes, connections, self.mesh.shed_so_far());
        for note in self.steward.take_notes() {
            match note {
                Note::Changed(what) => tracing::info!("{what}"),
                Note::Ignored(what) => tracing::warn!("{what}"),
            }
        }
        // A count that was published goes when nobody wants it any more, whoever leads then.
        if (orders.publishes || nodes.root.is_some() || self.is_telling) && self.tell_at <= now {
            self.is_telling = orders.publishes;
            self.tell_at = now.plus_ms(TELL_MS);
            let told = orders.publishes.then_some(connections);
            // A replica that has too much to do is told the next time.
            let _ = self.mesh.tell_replica(ToReplicaTask::Connections(told));
        }
        self.carry_out(&orders);
    }

    fn carry_out(&mut self, orders: &Orders) {
        if self.placement != orders.placement {
            self.placement = orders.placement;
            self.placer.borrow_mut().set(orders.placement);
            self.balancer.set(orders.placement);
        }
        if self.rebalance_ms != orders.rebalance_ms {
            (self.rebalance_ms, self.rebalance_at) = (orders.rebalance_ms, None);
        }
        if let Some(shed) = orders.shed {
            self.shed(shed);
        }
    }

    /// Each shard closes a part of what it has.
    fn shed(&self, Shed { connections, idle_ms }: Shed) {
        let loads = self.mesh.loads_now();
        let all = loads.iter().map(|load| u64::from(load.connections)).sum::<u64>().max(1);
        let mut left = connections;
        for (shard, load) in loads.iter().enumerate() {
            let part = (connections * u64::from(load.connections)).div_ceil(all).min(left);
            left -= part;
            if part > 0 {
                // Without room for the order there is enough under way.
                let _ = self.mesh.tell(shard, ToShard::Shed { connections: part, idle_ms });
            }
        }
    }

    /// Has a shard that has too much give connections away, when it is time to look.
    fn rebalance(&mut self, now: Instant) {
        let Some(every) = self.rebalance_ms.filter(|_| self.mesh.shards.len() > 1) else { return };
        let at = *self.rebalance_at.get_or_insert(now.plus_ms(every));
        if at > now {
            return;
        }
        self.rebalance_at = Some(now.plus_ms(every));
        if let Some(GiveAway { from, to, connections }) = self.balancer.look(&self.mesh.loads_now()) {
            tracing::debug!("shard {from} gives {connections} connections to shard {to}");
            // Without room for the order there is enough under way.
            let _ = self.mesh.tell(from, ToShard::GiveAway { to: ShardId(to as u16), connections });
        }
    }
}

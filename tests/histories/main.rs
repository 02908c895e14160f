//! Ensembles of real processes under faults and load: what clients saw is recorded and judged by the promises (P3 to P13), and in the end all
//! members have one tree with everything in it that was acknowledged.
//!
//! Takes about two minutes. `ZOO_HISTORY_SECONDS` is how long the faults go on that come by dice, `ZOO_HISTORY_SEED` repeats their order.
#![allow(missing_docs)]

mod check;
mod check_tests;
mod crashes;
mod disks;
#[path = "../support/cluster.rs"]
mod ensemble;
mod history;
mod load;
mod network;
mod partitions;
mod pauses;
#[path = "../support/small_disk.rs"]
mod small_disk;
#[path = "../support/mod.rs"]
mod support;

use check::Tree;
use ensemble::Cluster;
use history::Seen;
use load::Load;
use network::Network;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;
use support::{RawClient, path_watch, wait_until};
use zoo::base::{Reader, Stat, Writer};
use zoo::proto::OpCode;

/// Short limits, so that faults are noticed soon: two seconds of silence, ten to come up to date.
const TIMES: [&str; 4] = ["tickTime=200", "syncLimit=10", "initLimit=50", "4lw.commands.whitelist=*"];
/// Logs and snapshots of every kind in a test's life.
const SMALL_FILES: [&str; 2] = ["snapCount=400", "preAllocSize=1024"];

/// An ensemble, the network between its members, and clients that use it.
struct Stage {
    cluster: Cluster,
    network: Network,
    load: Load,
    began: Instant,
}

impl Stage {
    fn set(members: usize) -> Stage {
        Self::set_with(Cluster::prepare(members, &[&TIMES[..], &SMALL_FILES].concat()))
    }

    fn set_with(mut cluster: Cluster) -> Stage {
        let began = Instant::now();
        let ports: Vec<_> = cluster.members.iter().map(|m| (m.quorum_port, m.election_port)).collect();
        let network = Network::new(&ports);
        cluster.routes = network.routes();
        let ids: Vec<usize> = cluster.members.iter().map(|m| m.id).collect();
        ids.iter().for_each(|id| cluster.run(*id));
        cluster.settled(&ids);
        let addresses: Vec<SocketAddr> = ids.iter().map(|id| cluster.address(*id)).collect();
        let load = Load::start(&addresses, ids.len() + 1, seed());
        load.goes_on("writes before any fault", 50);
        Stage { cluster, network, load, began }
    }

    fn ids(&self) -> Vec<usize> {
        self.cluster.members.iter().map(|m| m.id).collect()
    }

    /// All but these.
    fn others(&self, than: &[usize]) -> Vec<usize> {
        self.ids().into_iter().filter(|id| !than.contains(id)).collect()
    }

    /// The leader of all, while nothing is wrong.
    fn leader(&self) -> usize {
        self.cluster.settled(&self.ids())
    }

    /// Nothing is wrong any more: everybody serves, everything goes on.
    fn heal(&mut self) {
        self.network.heal();
        for id in self.ids() {
            if !self.cluster.is_running(id) {
                self.cluster.run(id);
            }
        }
        self.cluster.settled(&self.ids());
        self.load.goes_on("writes when nothing is wrong any more", 30);
    }

    /// Heals, ends the load, and judges.
    fn judge(mut self, story: &str) {
        self.heal();
        let histories = self.load.stop();
        let tree = agreed_tree(&self.cluster);
        let (done, doubtful) = check::counts(&histories);
        let violations = check::violations(&histories, &tree);
        println!("{story}: {done} writes acknowledged, {doubtful} in doubt, {} nodes, {:?}", tree.len(), self.began.elapsed());
        assert!(violations.is_empty(), "{story}, ZOO_HISTORY_SEED={}:\n{}\n{}", seed(), violations.join("\n"), self.cluster.logs());
        for id in 1..=self.cluster.members.len() {
            let log = self.cluster.log(id);
            assert!(!log.contains("panicked") && !log.contains("is not the leader's"), "member {id}:\n{log}");
        }
    }
}

fn seed() -> u64 {
    std::env::var("ZOO_HISTORY_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| u64::from(std::process::id()))
}

/// How long faults come by dice.
fn seconds() -> u64 {
    std::env::var("ZOO_HISTORY_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(15)
}

/// What all members show once they have come to one zxid: the same.
fn agreed_tree(cluster: &Cluster) -> Tree {
    let ids: Vec<usize> = cluster.members.iter().map(|m| m.id).collect();
    let zxid = |id: &usize| cluster.word(*id, "srvr").lines().find_map(|line| line.strip_prefix("Zxid: ").map(str::to_owned));
    wait_until("all members come to one zxid", || {
        let zxids: Vec<_> = ids.iter().map(zxid).collect();
        zxids[0].is_some() && zxids.iter().all(|z| *z == zxids[0])
    });
    // Sessions of the readers differ, their trees do not.
    let trees: Vec<Tree> = ids.iter().map(|id| tree(&mut cluster.client(*id))).collect();
    for (id, other) in ids.iter().zip(&trees).skip(1) {
        let differs = |path: &&String| trees[0].get(*path) != other.get(*path);
        let paths: Vec<_> = trees[0].keys().chain(other.keys()).filter(differs).collect();
        assert!(paths.is_empty(), "members {} and {id} differ at {paths:?}", ids[0]);
    }
    trees.into_iter().next().expect("a member")
}

fn tree(client: &mut RawClient) -> Tree {
    let mut body = Vec::new();
    body.put_string("/");
    assert_eq!(client.call(OpCode::Sync, &body).err, 0);
    let (mut nodes, mut todo) = (BTreeMap::new(), vec!["/".to_owned()]);
    while let Some(path) = todo.pop() {
        let (data, stat): (_, Stat) = client.get(&path, false).data();
        let list = client.call(OpCode::GetChildren, &path_watch(&path, false));
        let names = Reader::new(&list.body).string_vec().expect("names");
        let prefix = if path == "/" { "" } else { &path };
        // The system's own nodes are not the clients'.
        todo.extend(names.iter().filter(|name| *name != "zookeeper").map(|name| format!("{prefix}/{name}")));
        nodes.insert(path, Seen { value: String::from_utf8_lossy(&data.unwrap_or_default()).into_owned(), stat });
    }
    nodes
}

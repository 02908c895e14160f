//! Keeps the strategies of one server in force: reads them where they have changed, and says what is to be done by them. Pure.
//!
//! A node that others than the super user may write, or that is malformed, changes nothing: what was understood last stays in force. One that is gone gives
//! way to the configuration file. An order to shed is carried out once, by servers that see it come.

use super::Placement;
use super::shedding::{Allowance, Shedder, Sight};
use super::strategy::{self, Cores, Counts, Demand, Pace, Servers};

/// How long it is tried to carry out an order to shed.
const DEMAND_MS_MAX: u64 = 300_000;

/// One node as committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    /// The transaction that wrote its data.
    pub mzxid: i64,
    /// The version of its ACL.
    pub aversion: i32,
    /// Nobody but the super user may write it.
    pub is_guarded: bool,
    /// What it says.
    pub data: &'a [u8],
}

/// The nodes there are.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Nodes<'a> {
    pub root: Option<Node<'a>>,
    pub cores: Option<Node<'a>>,
    pub servers: Option<Node<'a>>,
    pub shed: Option<Node<'a>>,
    /// Only if the leader of the time wrote it.
    pub counts: Option<Node<'a>>,
}

/// What the operator is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Something is in force that was not.
    Changed(String),
    /// Something was ignored.
    Ignored(String),
}

/// Connections to be closed, so that their clients go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shed {
    /// At most so many now.
    pub connections: u64,
    /// Only those that have been silent for so long.
    pub idle_ms: u64,
}

/// What is to be done from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orders {
    /// Where connections are placed.
    pub placement: Placement,
    /// How often shards are compared; `None` is never.
    pub rebalance_ms: Option<u64>,
    /// Connections are counted for everybody to see.
    pub publishes: bool,
    /// What is to be closed now.
    pub shed: Option<Shed>,
}

/// A node and what was last understood of it.
#[derive(Debug)]
struct Kept<T> {
    path: &'static str,
    seen: Option<Version>,
    good: Option<T>,
}

/// What of a node decides whether it is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    mzxid: i64,
    aversion: i32,
    is_guarded: bool,
}

/// An order to shed, under way.
#[derive(Debug)]
struct Running {
    left: u64,
    until_ms: u64,
    pace: Pace,
}

/// The strategies of one server.
#[derive(Debug)]
pub struct Steward {
    /// By the configuration file.
    placement: Placement,
    rebalance_ms: Option<u64>,
    own: i64,
    cores: Kept<Cores>,
    servers: Kept<Servers>,
    counts: Kept<Counts>,
    /// The newest order to shed that was there; `None` before the first look.
    demanded: Option<Version>,
    running: Option<Running>,
    allowance: Allowance,
    closed: u64,
    shedder: Shedder,
    notes: Vec<Note>,
}

impl Steward {
    /// For server number `own`, with what its configuration file says.
    #[must_use]
    pub fn new(own: i64, placement: Placement, rebalance_ms: Option<u64>) -> Self {
        Steward {
            placement,
            rebalance_ms,
            own,
            cores: Kept::new(strategy::CORES),
            servers: Kept::new(strategy::SERVERS),
            counts: Kept::new(strategy::COUNTS),
            demanded: None,
            running: None,
            allowance: Allowance::default(),
            closed: 0,
            shedder: Shedder::default(),
            notes: Vec::new(),
        }
    }

    /// What is in force now; to be asked a few times a second. `connections` is how many this server has, `closed` how many it has closed by
    /// these orders so far.
    pub fn look(&mut self, now_ms: u64, nodes: &Nodes<'_>, connections: u32, closed: u64) -> Orders {
        let is_guarded = nodes.root.is_some_and(|root| root.is_guarded);
        self.cores.look(below(is_guarded, nodes.cores), Cores::parse, &mut self.notes);
        if self.servers.look(below(is_guarded, nodes.servers), Servers::parse, &mut self.notes) {
            self.shedder = Shedder::default();
        }
        // What it says is no strategy, and nobody is told of each change.
        self.counts.look(below(is_guarded, nodes.counts), Counts::parse, &mut Vec::new());
        self.look_for_demand(now_ms, below(is_guarded, nodes.shed), connections);
        let shed = self.demanded_now(now_ms, closed).or_else(|| self.evened_now(now_ms, connections, closed));
        self.closed = closed;
        let cores = self.cores.good;
        Orders {
            placement: cores.map_or(self.placement, |cores| cores.placement),
            rebalance_ms: cores.and_then(|cores| cores.rebalance_ms).or(self.rebalance_ms).filter(|ms| *ms > 0),
            publishes: self.servers.good.is_some(),
            shed: shed.filter(|shed| shed.connections > 0),
        }
    }

    /// What has happened since the last time.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// An order counts when it is written while this server looks.
    fn look_for_demand(&mut self, now_ms: u64, node: Option<Node<'_>>, connections: u32) {
        let version = node.map_or(Version { mzxid: 0, aversion: 0, is_guarded: false }, |node| Version::of(&node));
        let Some(before) = self.demanded.replace(version) else { return };
        if version.mzxid <= before.mzxid {
            // The newest one that was carried out stays the measure, though it may be gone.
            self.demanded = Some(before);
            return;
        }
        let Some(node) = node else { return };
        match understood(&node, Demand::parse) {
            Ok(demand) if demand.server == self.own => {
                let left = demand.amount.of(connections);
                self.notes.push(Note::Changed(format!("{}: {left} of {connections} connections are to be closed", strategy::SHED)));
                self.running = Some(Running { left, until_ms: now_ms + DEMAND_MS_MAX, pace: demand.pace });
            }
            Ok(_) => {}
            Err(why) => self.notes.push(Note::Ignored(format!("{} is ignored: {why}", strategy::SHED))),
        }
    }

    fn demanded_now(&mut self, now_ms: u64, closed: u64) -> Option<Shed> {
        let running = self.running.as_mut()?;
        let closed = closed.saturating_sub(self.closed);
        let allowed = self.allowance.now(now_ms, running.pace.rate);
        self.allowance.spend(closed);
        running.left = running.left.saturating_sub(closed);
        let shed = Shed { connections: running.left.min(allowed.saturating_sub(closed)), idle_ms: running.pace.idle_ms };
        if running.left == 0 {
            self.notes.push(Note::Changed(format!("{} is carried out", strategy::SHED)));
            self.running = None;
        } else if running.until_ms <= now_ms {
            let left = running.left;
            self.notes.push(Note::Ignored(format!("{} is given up: {left} connections were never idle", strategy::SHED)));
            self.running = None;
        }
        Some(shed)
    }

    fn evened_now(&mut self, now_ms: u64, connections: u32, closed: u64) -> Option<Shed> {
        let rule = self.servers.good.filter(|rule| rule.is_even)?;
        let (counts, publication) = self.counts.good.as_ref().zip(self.counts.seen)?;
        let sight = Sight { now_ms, counts, publication: publication.mzxid, own: self.own, connections, closed };
        Some(Shed { connections: self.shedder.look(rule.tolerance_percent, rule.pace, &sight), idle_ms: rule.pace.idle_ms })
    }
}

impl<T: PartialEq + std::fmt::Debug> Kept<T> {
    fn new(path: &'static str) -> Self {
        Kept { path, seen: None, good: None }
    }

    /// True when something else is in force than before.
    fn look(&mut self, node: Option<Node<'_>>, parse: fn(&[u8]) -> Result<T, String>, notes: &mut Vec<Note>) -> bool {
        let version = node.as_ref().map(Version::of);
        if std::mem::replace(&mut self.seen, version) == version {
            return false;
        }
        let path = self.path;
        let Some(node) = node else {
            let was = self.good.take().is_some();
            if was {
                notes.push(Note::Changed(format!("{path} is gone: what the configuration file says is in force")));
            }
            return was;
        };
        match understood(&node, parse) {
            Ok(good) if self.good.as_ref() == Some(&good) => false,
            Ok(good) => {
                notes.push(Note::Changed(format!("{path} is in force: {}", String::from_utf8_lossy(node.data).escape_debug())));
                self.good = Some(good);
                true
            }
            Err(why) => {
                let stays = if self.good.is_some() { "; the last one that was understood stays in force" } else { "" };
                notes.push(Note::Ignored(format!("{path} is ignored: {why}{stays}")));
                false
            }
        }
    }
}

impl Version {
    fn of(node: &Node<'_>) -> Self {
        Version { mzxid: node.mzxid, aversion: node.aversion, is_guarded: node.is_guarded }
    }
}

/// Whoever may write what is above a node may replace it.
fn below(is_guarded: bool, node: Option<Node<'_>>) -> Option<Node<'_>> {
    node.map(|node| Node { is_guarded: node.is_guarded && is_guarded, ..node })
}

fn understood<T>(node: &Node<'_>, parse: fn(&[u8]) -> Result<T, String>) -> Result<T, String> {
    if !node.is_guarded {
        return Err(format!("others than the super user may write it, or {}", strategy::ROOT));
    }
    parse(node.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(mzxid: i64, data: &str) -> Option<Node<'_>> {
        Some(Node { mzxid, aversion: 0, is_guarded: true, data: data.as_bytes() })
    }

    fn nodes<'a>(cores: Option<Node<'a>>, servers: Option<Node<'a>>) -> Nodes<'a> {
        Nodes { root: node(1, ""), cores, servers, ..Nodes::default() }
    }

    fn steward() -> Steward {
        Steward::new(1, Placement::RoundRobin, Some(77))
    }

    fn ignored(steward: &mut Steward) -> String {
        let notes = steward.take_notes();
        match &notes[..] {
            [Note::Ignored(why)] => why.clone(),
            other => panic!("{other:?}"),
        }
    }

    const LEAST: &str = r#"{"strategy":"least-connections","rebalanceInterval":5}"#;
    const EVEN: &str = r#"{"strategy":"even"}"#;

    #[test]
    fn a_strategy_is_in_force_until_it_is_gone() {
        let mut steward = steward();
        let quiet = Orders { placement: Placement::RoundRobin, rebalance_ms: Some(77), publishes: false, shed: None };
        assert_eq!(steward.look(0, &Nodes::default(), 9, 0), quiet);
        let strict = Orders { placement: Placement::LeastConnections, rebalance_ms: Some(5), publishes: true, shed: None };
        assert_eq!(steward.look(1, &nodes(node(2, LEAST), node(3, EVEN)), 9, 0), strict);
        assert_eq!(steward.take_notes().len(), 2);
        let without = Orders { rebalance_ms: None, ..strict.clone() };
        let never = r#"{"strategy":"least-connections","rebalanceInterval":0}"#;
        assert_eq!(steward.look(2, &nodes(node(4, never), node(3, EVEN)), 9, 0), without);
        assert_eq!(steward.look(3, &Nodes::default(), 9, 0), quiet);
        assert_eq!(steward.take_notes().len(), 3);
        steward.look(4, &Nodes::default(), 9, 0);
        assert_eq!(steward.take_notes(), []);
    }

    #[test]
    fn a_malformed_node_is_told_of_once_and_the_last_good_one_stays() {
        let mut steward = steward();
        steward.look(0, &nodes(node(2, LEAST), None), 9, 0);
        steward.take_notes();
        for _ in 0..3 {
            assert_eq!(steward.look(1, &nodes(node(3, "{"), None), 9, 0).placement, Placement::LeastConnections);
        }
        let why = ignored(&mut steward);
        assert!(why.starts_with("/zookeeper/balance/cores is ignored: it is no JSON") && why.contains("stays in force"), "{why}");
        assert_eq!(steward.look(2, &nodes(None, None), 9, 0).placement, Placement::RoundRobin, "what is gone is gone");
    }

    #[test]
    fn what_others_may_write_is_ignored_and_so_is_everything_below_it() {
        let open = |node: Option<Node<'static>>| node.map(|node| Node { is_guarded: false, ..node });
        for (root, cores) in [(node(1, ""), open(node(2, LEAST))), (open(node(1, "")), node(2, LEAST))] {
            let mut steward = steward();
            let all = Nodes { root, cores, ..Nodes::default() };
            assert_eq!(steward.look(0, &all, 9, 0).placement, Placement::RoundRobin);
            assert!(ignored(&mut steward).contains("super user"));
            // The ACL is put right: nothing else has to be written.
            let right = nodes(node(2, LEAST), None);
            assert_eq!(steward.look(1, &right, 9, 0).placement, Placement::LeastConnections);
        }
    }

    #[test]
    fn an_order_to_shed_is_carried_out_once_by_the_one_it_is_for_at_its_pace() {
        let mut steward = steward();
        let order = |mzxid, data| Nodes { root: node(1, ""), shed: node(mzxid, data), ..Nodes::default() };
        const TEN: &str = r#"{"server":1,"connections":10,"rate":8,"idle":3}"#;
        assert_eq!(steward.look(0, &order(5, TEN), 100, 0).shed, None, "it is from before");
        assert_eq!(steward.look(250, &order(6, r#"{"server":2,"percent":100}"#), 100, 0).shed, None, "it is another one's");
        let (mut closed, mut connections, mut by_second) = (0, 100, Vec::new());
        for second in 1..4 {
            let before = closed;
            for look in 0..4 {
                let orders = steward.look(1_000 * second + 250 * look, &order(7, TEN), connections, closed);
                let shed = orders.shed.map_or(0, |shed| shed.connections);
                assert!(orders.shed.is_none_or(|shed| shed.idle_ms == 3));
                (closed, connections) = (closed + shed, connections - shed as u32);
            }
            by_second.push(closed - before);
        }
        assert_eq!(by_second.iter().sum::<u64>(), 10, "{by_second:?}");
        assert!(by_second.iter().all(|n| *n <= 8), "{by_second:?}");
        assert_eq!(steward.look(9_000, &Nodes { root: node(1, ""), ..Nodes::default() }, 90, 10).shed, None);
        assert_eq!(steward.look(9_250, &order(7, TEN), 90, 10).shed, None, "the same one, after the tree was replaced");
    }

    #[test]
    fn an_order_that_cannot_be_carried_out_is_given_up() {
        let mut steward = steward();
        steward.look(0, &Nodes::default(), 9, 0);
        let order = Nodes { root: node(1, ""), shed: node(5, r#"{"server":1,"percent":100}"#), ..Nodes::default() };
        steward.look(1, &order, 9, 0);
        assert_eq!(steward.look(1_001, &order, 9, 0).shed, Some(Shed { connections: 9, idle_ms: 500 }));
        steward.take_notes();
        steward.look(1 + DEMAND_MS_MAX, &order, 9, 0);
        assert!(ignored(&mut steward).contains("given up"));
        assert_eq!(steward.look(2 + DEMAND_MS_MAX, &order, 9, 0).shed, None);
    }

    #[test]
    fn a_server_sheds_by_the_published_counts_while_the_strategy_says_so() {
        let with = |strategy: &'static str| Nodes {
            counts: node(9, r#"{"1":90,"2":0,"3":0}"#),
            ..nodes(None, node(strategy.len() as i64, strategy))
        };
        let mut steward = steward();
        let looks = |steward: &mut Steward, strategy: &'static str| {
            (0..8).filter_map(|n| steward.look(10_000 + 250 * n, &with(strategy), 90, 0).shed).map(|shed| shed.connections).max()
        };
        assert_eq!(looks(&mut steward, r#"{"strategy":"none"}"#), None);
        assert_eq!(looks(&mut steward, r#"{"strategy":"even","rate":1000}"#), Some(60));
    }
}

//! Several elections over a network that loses, repeats and delays: whatever happened, once it is calm all work for one leader.

use super::*;
use crate::base::prng::Prng;
use crate::zab::membership::Membership;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const NOTIFICATION_MS_MAX: u64 = 3_000;
/// How long the network misbehaves.
const STORM_MS: u64 = 4_000;
/// Calm by then, at the latest.
const END_MS: u64 = 60_000;
/// How long a server tries to work in a role before it looks again.
const ROLE_MS: u64 = 1_500;
const STEP_MS: u64 = 10;

/// A server with as much of a role behind its election as is needed to notice that the election was wrong.
struct Server {
    election: Election,
    history: History,
    /// Role, and until when it must have found its quorum or its leader.
    elected: Option<(Elected, u64)>,
    established: bool,
    /// What it proposed, by round.
    proposals: BTreeMap<i64, Vec<Vote>>,
}

struct World {
    now: u64,
    rng: Prng,
    quorum: Quorum,
    servers: BTreeMap<PeerId, Server>,
    /// Messages under way, by connection, in order; with the time before which they do not arrive.
    network: BTreeMap<(PeerId, PeerId), VecDeque<(u64, Notification)>>,
    /// In percent.
    loss: u64,
    delay_ms: u64,
}

impl World {
    fn new(seed: u64, text: &str, histories: &[(u64, u32)], loss: u64, delay_ms: u64) -> World {
        let membership = Membership::parse(text).expect("valid");
        let server = |(id, (zxid, epoch)): (PeerId, &(u64, u32))| {
            let config = super::tests::config(id.0, text);
            let config = ZabConfig { notification_ms_max: NOTIFICATION_MS_MAX, ..config };
            let history = History { last_logged: Zxid(*zxid), current_epoch: *epoch, may_have_forgotten: false };
            (id, Server { election: Election::new(&config), history, elected: None, established: false, proposals: BTreeMap::new() })
        };
        World {
            now: 0,
            rng: Prng::new(seed),
            quorum: membership.quorum(),
            servers: membership.voters().zip(histories).map(server).collect(),
            network: BTreeMap::new(),
            loss,
            delay_ms,
        }
    }

    fn is_storm(&self) -> bool {
        self.now < STORM_MS
    }

    fn begin(&mut self, id: PeerId) {
        let server = self.servers.get_mut(&id).expect("exists");
        server.established = false;
        server.elected = None;
        let mut out = Vec::new();
        server.election.withdraw();
        server.election.begin(Instant(0).plus_ms(self.now), server.history, &mut out);
        self.send(id, out, None);
    }

    fn send(&mut self, from: PeerId, out: Notifications, elected: Option<Elected>) {
        let now = self.now;
        let server = self.servers.get_mut(&from).expect("exists");
        if let Some(vote) = server.election.vote().filter(|_| server.election.state() == ServerState::Looking) {
            let said = server.proposals.entry(vote.election_epoch).or_default();
            if said.last() != Some(&vote) {
                said.push(vote);
            }
        }
        if let Some(elected) = elected {
            server.elected = Some((elected, now + ROLE_MS));
        }
        for (to, message) in out {
            if self.is_storm() && self.rng.chance(self.loss, 100) {
                continue;
            }
            let copies = if self.is_storm() && self.rng.chance(self.loss, 200) { 2 } else { 1 };
            for _ in 0..copies {
                let at = now + 1 + self.rng.below(if self.is_storm() { self.delay_ms } else { 20 });
                self.network.entry((from, to)).or_default().push_back((at, message.clone()));
            }
        }
    }

    fn step(&mut self) {
        self.now += STEP_MS;
        let now = self.now;
        let connections: Vec<_> = self.network.keys().copied().collect();
        for (from, to) in connections {
            while let Some((_, message)) = self.network.get_mut(&(from, to)).and_then(|queue| queue.pop_front_if(|(at, _)| *at <= now)) {
                let mut out = Vec::new();
                let server = self.servers.get_mut(&to).expect("exists");
                let elected = server.election.handle(Instant(0).plus_ms(now), from, &message, &mut out);
                self.send(to, out, elected);
            }
        }
        for id in self.servers.keys().copied().collect::<Vec<_>>() {
            let instant = Instant(0).plus_ms(now);
            let election = &mut self.servers.get_mut(&id).expect("exists").election;
            if election.poll_timeout().is_some_and(|due| due <= instant) {
                let mut out = Vec::new();
                let elected = election.timeout(instant, &mut out);
                if let Some(elected) = elected {
                    self.check_victory(&elected);
                }
                self.send(id, out, elected);
            }
            self.play_role(id);
        }
    }

    /// A leader needs a quorum that follows it, a follower a leader that leads; else they look again.
    fn play_role(&mut self, id: PeerId) {
        let Some((elected, until)) = self.servers[&id].elected else { return };
        let leader = elected.vote.leader;
        let works_for = |server: &Server| server.elected.map(|(e, _)| e.vote.leader);
        let works = if leader == id {
            self.quorum.reached(|other| self.servers.get(&other).is_some_and(|s| works_for(s) == Some(id)))
        } else {
            works_for(&self.servers[&leader]) == Some(leader)
        };
        let crashes = self.is_storm() && self.rng.chance(1, 200);
        if crashes || (!works && self.now >= until) {
            self.begin(id);
        } else if works {
            let epoch = self.servers.values().map(|s| s.history.current_epoch).max().unwrap_or(0) + 1;
            let server = self.servers.get_mut(&id).expect("exists");
            server.elected = Some((elected, self.now + ROLE_MS));
            if !server.established {
                server.established = true;
                server.election.serving(epoch);
            }
        }
    }

    /// Whoever wins by votes has been voted for by a quorum in this round, and no one of them knows a better history.
    fn check_victory(&self, elected: &Elected) {
        let vote = elected.vote;
        let supports = |id: &PeerId| self.servers[id].proposals.get(&vote.election_epoch).is_some_and(|said| said.contains(&vote));
        let supporters: BTreeSet<PeerId> = self.servers.keys().copied().filter(supports).collect();
        assert!(self.quorum.reached(|id| supporters.contains(&id)), "{vote:?} by {supporters:?}");
        for id in &supporters {
            assert!(self.rank(vote.leader) >= self.rank(*id), "{vote:?}: server {} knows more", id.0);
        }
    }

    fn rank(&self, id: PeerId) -> (bool, u32, Zxid, PeerId) {
        let History { last_logged, current_epoch, .. } = self.servers[&id].history;
        (self.quorum.weight(id) > 0, current_epoch, last_logged, id)
    }

    fn leader_of_all(&self) -> Option<PeerId> {
        let mut leaders = self.servers.values().map(|s| s.elected.filter(|_| s.established).map(|(e, _)| e.vote.leader));
        let first = leaders.next().flatten()?;
        leaders.all(|leader| leader == Some(first)).then_some(first)
    }
}

/// Runs to the end; the leader, and when all had it.
fn run(world: &mut World) -> (PeerId, u64) {
    for id in world.servers.keys().copied().collect::<Vec<_>>() {
        world.begin(id);
    }
    while world.now < END_MS {
        world.step();
        if let Some(leader) = world.leader_of_all().filter(|_| !world.is_storm()) {
            return (leader, world.now);
        }
    }
    let states: Vec<_> = world.servers.iter().map(|(id, s)| (id, s.election.state(), s.election.vote())).collect();
    panic!("no leader after {END_MS} ms: {states:#?}");
}

fn members(count: usize) -> String {
    (1..=count).map(|id| format!("server.{id}=host{id}:1:2\n")).collect()
}

proptest! {
    #[test]
    fn elections_end_with_one_leader_that_a_quorum_cannot_better(
        seed in any::<u64>(),
        count in prop::sample::select(vec![1usize, 3, 5]),
        histories in prop::collection::vec((0u64..3, 0u32..3), 5),
        is_weighed in any::<bool>(),
        loss in 0u64..60,
        delay_ms in 1u64..600,
    ) {
        let mut text = members(count);
        if is_weighed && count > 1 {
            let ids: Vec<String> = (1..=count).map(|id| id.to_string()).collect();
            text += &format!("group.1={}\nweight.{}=0\n", ids.join(":"), 1 + seed as usize % count);
        }
        let mut world = World::new(seed, &text, &histories, loss, delay_ms);
        let (leader, _) = run(&mut world);
        let beaten = |id: PeerId| world.rank(leader) >= world.rank(id);
        prop_assert!(world.quorum.reached(beaten), "{leader:?}");
        prop_assert!(world.quorum.weight(leader) > 0);
        for (id, server) in &world.servers {
            for (round, said) in &server.proposals {
                prop_assert!(said.windows(2).all(|w| w[1].is_better_than(&w[0], &world.quorum)), "L15: {:?} in round {}: {:?}", id, round, said);
            }
        }
    }

    #[test]
    fn where_nothing_is_lost_the_best_history_of_all_wins_in_a_few_hundred_milliseconds(
        seed in any::<u64>(),
        histories in prop::collection::vec((0u64..3, 0u32..3), 5),
    ) {
        let mut world = World::new(seed, &members(5), &histories, 0, 20);
        world.now = STORM_MS;
        let (leader, at) = run(&mut world);
        let best = world.servers.keys().copied().max_by_key(|id| world.rank(*id));
        prop_assert_eq!(Some(leader), best);
        prop_assert!(at - STORM_MS <= 1_000, "{} ms", at - STORM_MS);
    }
}

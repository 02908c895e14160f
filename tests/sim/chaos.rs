//! Faults by dice: each run turns most of them off and some far up.

use super::cluster::{Conditions, Event, Server, World, membership};
use std::collections::BTreeMap;
use zoo::base::prng::Prng;
use zoo::base::{PeerId, Zxid};
use zoo::zab::{Membership, Quorum, Role};

const SECOND: u64 = 1_000_000_000;
/// How long things go wrong, and how long they may take to become right again.
const CHAOS_S: u64 = 40;
const HEALING_S: u64 = 60;
/// How long a healthy disk takes to read a part of a log.
const READ_MS_WELL: u64 = 20;

/// What may go wrong in a run: how often in a hundred steps.
#[derive(Clone, Debug)]
pub struct Chaos {
    pub voters: i64,
    pub observers: i64,
    /// Hierarchical quorums.
    pub groups: BTreeMap<i64, Vec<PeerId>>,
    pub conditions: Conditions,
    pub step_ms: u64,
    pub client_ms: u64,
    pub crash: u64,
    pub silent: bool,
    pub crash_all: u64,
    pub cut_way: u64,
    pub isolate: u64,
    pub heal: u64,
    pub pause: u64,
    pub resync: u64,
    pub restore: u64,
    pub wipe: u64,
    /// Servers that join a membership that changes.
    pub spare: i64,
    pub reconfigure: u64,
    /// Heal only a quorum at first.
    pub leaves_some_broken: bool,
}

impl Chaos {
    /// What is wrong with the ensemble of this seed.
    pub fn of(seed: u64) -> Chaos {
        let (voters, observers) = match seed % 8 {
            0..3 => (3, 0),
            3 => (3, 1),
            4..6 => (5, 1),
            6 => (5, 0),
            _ => (1, 1),
        };
        let mut chaos = Chaos::among(seed, voters, observers);
        if seed % 8 == 6 {
            chaos.groups =
                [(1, vec![1, 2, 3]), (2, vec![4]), (3, vec![5])].map(|(group, ids)| (group, ids.into_iter().map(PeerId).collect())).into();
        }
        chaos
    }
    /// The same with members that come and go. No disk forgets: who may be asked for what it knew is another question when members change.
    pub fn with_changes(seed: u64) -> Chaos {
        let mut chaos = Chaos::among(seed, [1, 3, 3, 2][(seed % 4) as usize], 0);
        chaos.conditions.reconfigures = true;
        (chaos.restore, chaos.wipe) = (0, 0);
        // A configuration that is proposed needs a quorum of its own to be completed, so a quorum of the one in force is not enough to go on.
        chaos.leaves_some_broken = false;
        (chaos.spare, chaos.reconfigure) = (1 + (seed % 3) as i64, 10 + seed % 50);
        chaos
    }
    fn among(seed: u64, voters: i64, observers: i64) -> Chaos {
        let mut prng = Prng::new(seed ^ 0xC4A0_5EED);
        let mut logs = Prng::new(seed ^ 0x1065_5EED);
        let mut sometimes = |one_in: u64, max: u64| if prng.chance(1, one_in) { 1 + prng.below(max) } else { 0 };
        let delay_ms = 1 + sometimes(2, 30) + sometimes(6, 150);
        let flush_ms = 1 + sometimes(2, 10) + sometimes(5, 400);
        let conditions = Conditions {
            delay_ms,
            flush_ms,
            read_ms: flush_ms,
            tail_count_min: 2 + sometimes(2, 40) as usize,
            tail_bytes_max: sometimes(2, 2_000) as usize,
            recent_max: 1 + sometimes(2, 60) as usize,
            learner_bytes_max: if sometimes(5, 1) == 1 { 3_000 } else { 1 << 20 },
            observer_masters: observers > 0 && logs.chance(1, 2),
            image_failures: sometimes(3, 60),
            log_refusals: if logs.chance(1, 3) { logs.below(60) } else { 0 },
            log_holes: if logs.chance(1, 3) { logs.below(30) } else { 0 },
            log_breaks: 0,
            flush_failures: sometimes(4, 8),
            repeats: sometimes(3, 50),
            reconfigures: false,
            planted: Default::default(),
            shell_bug: None,
        };
        Chaos {
            voters,
            observers,
            groups: BTreeMap::new(),
            conditions,
            step_ms: 50 + sometimes(2, 1_000),
            client_ms: if sometimes(10, 1) == 1 { 1 } else { 10 + sometimes(2, 100) },
            crash: sometimes(2, 25),
            silent: sometimes(2, 1) == 1,
            crash_all: sometimes(4, 6),
            cut_way: sometimes(3, 25),
            isolate: sometimes(3, 20),
            heal: 5 + sometimes(2, 40),
            pause: sometimes(3, 15),
            resync: sometimes(4, 10),
            restore: sometimes(3, 10),
            wipe: sometimes(3, 10),
            spare: 0,
            reconfigure: 0,
            leaves_some_broken: sometimes(2, 1) == 1,
        }
    }
}

/// Runs it; the world as it is afterwards.
pub fn run(seed: u64, chaos: &Chaos, prints: bool) -> World {
    let mut members = membership(chaos.voters, chaos.observers);
    members.groups.clone_from(&chaos.groups);
    let mut world = World::new(seed, members, chaos.conditions.clone());
    world.prints = prints;
    world.add_servers(chaos.spare);
    if prints {
        println!("{chaos:#?}");
    }
    world.back_up_all();
    world.after(chaos.step_ms, Event::Chaos);
    world.after(chaos.client_ms, Event::Client);
    let end = world.now + CHAOS_S * SECOND;
    while let Some(event) = world.step_until(end) {
        match event {
            Event::Chaos => {
                strike(&mut world, chaos);
                world.after(chaos.step_ms, Event::Chaos);
            }
            _ => {
                let ids = world.ids();
                let id = ids[world.prng.below(ids.len() as u64) as usize];
                let leader = world.leader().filter(|_| world.prng.chance(1, 2));
                world.client(leader.unwrap_or(id));
                world.after(chaos.client_ms, Event::Client);
            }
        }
        world.network.sweep();
    }
    if chaos.leaves_some_broken {
        heal_quorum(&mut world);
    }
    heal(&mut world);
    let ids = world.ids();
    if chaos.reconfigure == 0 {
        converge(&mut world);
    } else if !becomes_whole(&mut world, &ids) {
        assert!(
            only_the_operator_can_tell(&world),
            "not everybody of {ids:?} is back, {:?} are in force: {}",
            world.membership.voters().collect::<Vec<_>>(),
            holdings(&world)
        );
        world.count("changes that stay stuck");
    }
    world
}

fn strike(world: &mut World, chaos: &Chaos) {
    let ids = world.ids();
    let one = |world: &mut World| ids[world.prng.below(ids.len() as u64) as usize];
    let dice = |world: &mut World, percent| world.prng.chance(percent, 100);
    if dice(world, chaos.crash) {
        let victim = one(world);
        world.crash(victim, chaos.silent);
        world.count("crashes");
        let back = world.prng.below(4_000);
        world.after(back, Event::Start(victim));
    }
    if dice(world, chaos.crash_all) {
        world.count("power losses");
        for id in &ids {
            world.crash(*id, chaos.silent);
            let back = world.prng.below(500);
            world.after(back, Event::Start(*id));
        }
    }
    if dice(world, chaos.cut_way) {
        let way = (one(world), one(world));
        world.network.blocked.insert(way);
        world.count("ways cut");
    }
    if dice(world, chaos.isolate) {
        let alone = one(world);
        world.count("isolations");
        for id in ids.iter().filter(|id| **id != alone) {
            world.network.blocked.insert((alone, *id));
            world.network.blocked.insert((*id, alone));
        }
    }
    if dice(world, chaos.heal) {
        world.network.blocked.clear();
    }
    if dice(world, chaos.pause) {
        let (victim, ms) = (one(world), world.prng.below(3_000));
        world.pause(victim, ms);
        world.count("pauses");
    }
    if dice(world, chaos.resync) {
        let doubtful = one(world);
        world.resync(doubtful);
        world.count("doubts");
    }
    if dice(world, chaos.restore) {
        let victim = one(world);
        if world.prng.chance(1, 3) {
            world.back_up(victim);
        } else if world.restore(victim) {
            world.start(victim);
        }
    }
    if dice(world, chaos.reconfigure)
        && let Some(leader) = world.leader()
    {
        world.reconfigure(leader);
    }
    if dice(world, chaos.wipe) {
        let victim = one(world);
        if world.wipe(victim) {
            let back = world.prng.below(4_000);
            world.after(back, Event::Start(victim));
        }
    }
}

/// A quorum is well again, the rest stays cut off: everything that waits for the quorum is done in time. A voter with nothing on its disk may have lost it
/// and is not counted where others have something (L21), so it is none of the quorum that has to be enough.
fn heal_quorum(world: &mut World) {
    let mut rest: Vec<PeerId> = world.membership.voters().filter(|id| world.servers[id].platter.vouches()).collect();
    if rest.is_empty() {
        rest.extend(world.membership.voters());
    }
    if !world.membership.quorum().reached(|id| rest.contains(&id)) {
        return;
    }
    mend(world);
    let quorum = world.membership.quorum();
    let mut well: Vec<PeerId> = Vec::new();
    while !quorum.reached(|id| well.contains(&id)) {
        well.push(rest.swap_remove(world.prng.below(rest.len() as u64) as usize));
    }
    let broken: Vec<PeerId> = world.ids().into_iter().filter(|id| !well.contains(id)).collect();
    for id in broken {
        if world.prng.chance(1, 2) {
            world.crash(id, true);
        }
        for other in &well {
            world.network.blocked.extend([(id, *other), (*other, id)]);
        }
    }
    for id in &well {
        world.start(*id);
    }
    converge_these(world, &well);
    world.count("quorums healed alone");
}
/// Ways, links and disks are well. Small parts of a long log are read in less than a flush takes: initLimit is enough for what a learner lacks.
fn mend(world: &mut World) {
    world.network.blocked.clear();
    let conditions = &mut world.conditions;
    (conditions.image_failures, conditions.flush_failures) = (0, 0);
    conditions.learner_bytes_max = 1 << 20;
    conditions.read_ms = conditions.read_ms.min(READ_MS_WELL);
}
/// Nothing goes wrong any more.
pub fn heal(world: &mut World) {
    mend(world);
    for id in world.ids() {
        world.start(id);
    }
}

/// Everybody serves, with one history, and it goes on.
pub fn converge(world: &mut World) {
    let ids = world.ids();
    converge_these(world, &ids);
}
fn converge_these(world: &mut World, ids: &[PeerId]) {
    assert!(becomes_whole(world, ids), "not everybody of {ids:?} is back: {:?}", roles(world));
}
/// The only end without a way out: who is needed because it is to vote has more than any of those in force, and its new members may be in force and have
/// committed that without them: a quorum in force has the change, and so may a quorum of the new ones. Whoever has nothing may have had it and forgotten
/// (L21). Whoever is in force has to give it up or to find it by hand; as with ZooKeeper somebody has to decide (`docs/membership.md`).
fn only_the_operator_can_tell(world: &World) -> bool {
    let platter = |id: PeerId| &world.servers[&id].platter;
    let rank = |id: PeerId| {
        let stored = platter(id).stored(1);
        (stored.current_epoch, stored.last_logged)
    };
    // A change may be in force without anybody's file saying so.
    let newest = world.servers.values().filter_map(|server| server.platter.active.as_ref()).max_by_key(|active| active.version);
    let active = newest.unwrap_or(&world.membership);
    let Some(best) = active.voters().max_by_key(|id| (rank(*id), *id)) else { return false };
    let Some(change) = platter(best).stored(1).configuration.filter(|next| next.version > active.version) else { return false };
    let (quorum, next) = (active.quorum(), change.quorum());
    let has_nothing = |id: PeerId| platter(id).last() == Zxid::ZERO;
    let is_blocked = |quorum: &Quorum, end: Zxid| !quorum.reached(|id| has_nothing(id) || platter(id).last() >= end);
    let is_ahead = |id: PeerId| !active.is_voter(id) && rank(id) > rank(best);
    let is_needed = !next.reached(|id| !is_ahead(id) && !has_nothing(id));
    let proposed = Zxid::from_i64(change.version);
    let may_be_in_force = !is_blocked(&quorum, proposed) && !is_blocked(&next, proposed);
    let beyond = Zxid(rank(best).1.0 + 1);
    let is_of_later_epoch = change.voters().any(|id| is_ahead(id) && rank(id).0 > rank(best).0);
    is_needed && (is_of_later_epoch || may_be_in_force && !is_blocked(&next, beyond))
}
/// Whether they serve again in time.
fn becomes_whole(world: &mut World, ids: &[PeerId]) -> bool {
    let end = world.now + HEALING_S * SECOND;
    while world.now < end {
        let until = world.now + SECOND;
        while world.step_until(until).is_some() {}
        let leader = world.leader().filter(|leader| ids.contains(leader));
        let is_idle = leader.and_then(|id| world.running(id)).is_some_and(|r| r.memory.last().is_none_or(|(last, _)| *last <= r.committed));
        if is_idle && is_whole(world, ids) {
            return true;
        }
        if let Some(leader) = leader.filter(|_| is_idle) {
            world.client(leader);
        }
    }
    false
}
/// They serve, in the newest epoch, with something of it committed, and nothing is waited for.
fn is_whole(world: &mut World, ids: &[PeerId]) -> bool {
    let last = world.checker.last_committed();
    ids.iter().all(|id| {
        world.running(*id).is_some_and(|r| {
            let is_served = r.role != Role::Looking && r.committed == last && r.applied > 0 && r.syncs.is_empty() && r.own_syncs.is_empty();
            is_served && r.zab.current_epoch() == last.epoch()
        })
    })
}
/// What every server has, one a line.
fn holdings(world: &World) -> String {
    let of = |(id, server): (&PeerId, &Server)| {
        let p = &server.platter;
        let show = |m: &Option<Membership>| {
            m.as_ref()
                .map_or("none".into(), |m| format!("{} {:?}", Zxid::from_i64(m.version), m.voters().map(|id| id.0).collect::<Vec<_>>()))
        };
        let configurations = [show(&p.active), show(&p.proposed), show(&p.stored(1).configuration)];
        format!("\n  {id:?}: {p}, active, proposed, logged {configurations:?}")
    };
    world.servers.iter().map(of).collect()
}
fn roles(world: &mut World) -> Vec<(PeerId, Option<Role>)> {
    world.ids().into_iter().map(|id| (id, world.running(id).map(|r| r.role))).collect()
}

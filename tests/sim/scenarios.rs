//! Situations that chaos meets too seldom.

use super::chaos::{converge, heal};
use super::cluster::{Conditions, Event, World, membership};
use zoo::base::PeerId;
use zoo::zab::Role;

pub const ALL: &[super::Named] = crate::named![
    a_server_without_its_disk_does_not_help_to_forget_what_it_acknowledged_l21,
    a_sync_of_a_leader_that_does_not_know_of_the_next_one_is_not_answered,
];

const SECOND: u64 = 1_000_000_000;

fn quiet(seed: u64, voters: i64) -> World {
    let conditions = Conditions {
        delay_ms: 2,
        flush_ms: 2,
        tail_count_min: 10,
        tail_bytes_max: 0,
        recent_max: 10,
        learner_bytes_max: 1 << 20,
        image_failures: 0,
        flush_failures: 0,
        repeats: 0,
        reconfigures: false,
        planted: Default::default(),
        shell_bug: None,
    };
    World::new(seed, membership(voters, 0), conditions)
}
fn wait(world: &mut World, seconds: u64) {
    let end = world.now + seconds * SECOND;
    while world.step_until(end).is_some() {}
}
fn write(world: &mut World, count: usize) {
    for _ in 0..count {
        let leader = world.leader().expect("a leader");
        world.client(leader);
        world.after(20, Event::Client);
        wait_for_client(world);
    }
}
fn wait_for_client(world: &mut World) {
    assert!(matches!(world.step_until(u64::MAX), Some(Event::Client)));
}
fn isolate(world: &mut World, alone: PeerId) {
    for id in world.ids().into_iter().filter(|id| *id != alone) {
        world.network.blocked.insert((alone, id));
        world.network.blocked.insert((id, alone));
    }
}

/// One server was cut off, one acknowledged and lost its disk, one has everything and is down: two of three are up, and what was committed is
/// on neither of them.
fn a_server_without_its_disk_does_not_help_to_forget_what_it_acknowledged_l21() {
    for seed in 1..=8 {
        let mut world = quiet(seed, 3);
        wait(&mut world, 5);
        let leader = world.leader().expect("a leader");
        let others: Vec<PeerId> = world.ids().into_iter().filter(|id| *id != leader).collect();
        write(&mut world, 5);
        isolate(&mut world, others[0]);
        wait(&mut world, 3);
        write(&mut world, 20);
        let committed = world.checker.last_committed();
        world.crash(leader, false);
        assert!(world.wipe(others[1]));
        world.network.blocked.clear();
        world.start(others[1]);
        wait(&mut world, 30);
        assert_eq!(world.leader(), None, "seed {seed}: those two do not know what was committed");
        heal(&mut world);
        converge(&mut world);
        assert!(world.checker.committed.iter().any(|(zxid, _)| *zxid == committed));
        for id in world.ids() {
            assert!(world.servers[&id].platter.has(committed), "seed {seed}: server {id:?}");
        }
    }
}

/// A leader's link to its follower dies without a word, and the follower starts anew: it has forgotten whom it followed, and helps another one to
/// its quorum at once, long before the old leader has waited in vain for syncLimit (B3, P9).
fn a_sync_of_a_leader_that_does_not_know_of_the_next_one_is_not_answered() {
    for seed in 1..=8 {
        let mut world = quiet(seed, 3);
        wait(&mut world, 5);
        let old = world.leader().expect("a leader");
        isolate(&mut world, old);
        for id in world.ids().into_iter().filter(|id| *id != old) {
            world.crash(id, true);
            world.start(id);
        }
        let end = world.now + 20 * SECOND;
        let leads = |world: &mut World, id| world.running(id).is_some_and(|r| matches!(r.role, Role::Leading { .. }));
        let mut overlaps = false;
        while leads(&mut world, old) {
            assert!(world.now < end, "seed {seed}: it gives up by its own clock");
            let next = world.ids().into_iter().find(|id| *id != old && leads(&mut world, *id));
            if let Some(next) = next {
                overlaps = true;
                world.write(next);
            }
            // Its clients' syncs are checked against everything that is committed.
            world.sync(old);
            let until = world.now + SECOND / 100;
            while world.step_until(until).is_some() {}
        }
        assert!(overlaps, "seed {seed}");
        heal(&mut world);
        converge(&mut world);
    }
}

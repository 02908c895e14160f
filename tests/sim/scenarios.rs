//! Situations that chaos meets too seldom.

use super::chaos::{converge, heal};
use super::cluster::{Conditions, Event, World, membership};
use zoo::base::PeerId;
use zoo::zab::{Emptiness, Role};

pub const ALL: &[super::Named] = crate::named![
    a_server_without_its_disk_does_not_help_to_forget_what_it_acknowledged_l21,
    a_server_that_has_logged_nothing_does_not_take_that_for_the_history_of_all_l21,
    an_ensemble_is_restored_from_one_disk_when_its_operator_vouches_for_the_empty_ones_l21,
    servers_whose_emptiness_is_distrusted_elect_nobody_and_join_whoever_serves_l21,
    a_learner_behind_what_is_in_memory_is_fed_from_the_log_on_the_disk_l1,
    where_the_log_has_a_hole_the_learner_is_sent_an_image_l1,
    a_quorum_that_needs_a_learner_whose_log_breaks_off_comes_about_l1,
    a_sync_of_a_leader_that_does_not_know_of_the_next_one_is_not_answered,
];

const SECOND: u64 = 1_000_000_000;

fn quiet(seed: u64, voters: i64) -> World {
    let conditions = Conditions {
        delay_ms: 2,
        flush_ms: 2,
        read_ms: 2,
        tail_count_min: 10,
        tail_bytes_max: 0,
        recent_max: 10,
        learner_bytes_max: 1 << 20,
        observer_masters: false,
        image_failures: 0,
        log_refusals: 0,
        log_holes: 0,
        log_breaks: 0,
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

/// One was cut off before anything was logged; one has acknowledged all of it, lost its disk, promised an epoch to somebody and gone again; the third is down. To
/// the first it looks as if there had never been anything.
fn a_server_that_has_logged_nothing_does_not_take_that_for_the_history_of_all_l21() {
    for seed in 1..=8 {
        let mut world = quiet(seed, 3);
        wait(&mut world, 5);
        let leader = world.leader().expect("a leader");
        let others: Vec<PeerId> = world.ids().into_iter().filter(|id| *id != leader).collect();
        isolate(&mut world, others[0]);
        wait(&mut world, 3);
        write(&mut world, 20);
        let committed = world.checker.last_committed();
        world.crash(leader, false);
        assert!(world.wipe(others[1]));
        world.servers.get_mut(&others[1]).expect("a server").platter.accepted_epoch = 7;
        world.network.blocked.clear();
        world.start(others[1]);
        wait(&mut world, 30);
        assert_eq!(world.leader(), None, "seed {seed}: those two do not know what was committed");
        heal(&mut world);
        converge(&mut world);
        assert!(world.checker.committed.iter().any(|(zxid, _)| *zxid == committed), "seed {seed}");
        for id in world.ids() {
            assert!(world.servers[&id].platter.has(committed), "seed {seed}: server {id:?}");
        }
    }
}

/// All disks but one are lost, and that one, or a backup of it, is what there is to go on with.
fn an_ensemble_is_restored_from_one_disk_when_its_operator_vouches_for_the_empty_ones_l21() {
    for (seed, vouched) in (1..=6).flat_map(|seed| [(seed, false), (seed, true)]) {
        let mut world = quiet(seed, 3);
        wait(&mut world, 5);
        write(&mut world, 20);
        let committed = world.checker.last_committed();
        let (kept, empty) = (world.leader().expect("a leader"), world.ids());
        world.crash(kept, false);
        for id in empty.into_iter().filter(|id| *id != kept) {
            world.lose(id, if vouched { Emptiness::Vouched } else { Emptiness::default() });
        }
        world.start(kept);
        wait(&mut world, 1);
        heal(&mut world);
        if !vouched {
            wait(&mut world, 60);
            assert_eq!(world.leader(), None, "seed {seed}: those two may have acknowledged more");
            continue;
        }
        converge(&mut world);
        for id in world.ids() {
            assert!(world.servers[&id].platter.has(committed), "seed {seed}: server {id:?}");
        }
    }
}

/// Where empty databases are not made by themselves, nobody begins an ensemble from nothing without being told to.
fn servers_whose_emptiness_is_distrusted_elect_nobody_and_join_whoever_serves_l21() {
    for seed in 1..=6 {
        let mut world = quiet(seed, 3);
        let set = |world: &mut World, id: PeerId, emptiness| {
            if let Some(server) = world.servers.get_mut(&id) {
                server.platter.emptiness = emptiness;
            }
        };
        let ids = world.ids();
        ids.iter().for_each(|id| set(&mut world, *id, Emptiness::Distrusted));
        wait(&mut world, 30);
        assert_eq!(world.leader(), None, "seed {seed}");
        for id in &ids[..2] {
            world.crash(*id, false);
            set(&mut world, *id, Emptiness::Vouched);
            world.start(*id);
        }
        wait(&mut world, 10);
        let leader = world.leader().expect("two vouch for themselves");
        assert_ne!(leader, ids[2], "seed {seed}");
        converge(&mut world);
    }
}

/// A follower that was away for long, and a leader that has just been started: neither is the end of what is in memory.
fn a_learner_behind_what_is_in_memory_is_fed_from_the_log_on_the_disk_l1() {
    for (seed, restarted) in (1..=6).flat_map(|seed| [(seed, false), (seed, true)]) {
        let mut world = quiet(seed, 3);
        wait(&mut world, 5);
        let leader = world.leader().expect("a leader");
        let late = world.ids().into_iter().find(|id| *id != leader).expect("a follower");
        write(&mut world, 5);
        world.crash(late, false);
        write(&mut world, 150);
        if restarted {
            for id in world.ids() {
                world.crash(id, false);
            }
            for id in world.ids().into_iter().filter(|id| *id != late) {
                world.start(id);
            }
            wait(&mut world, 5);
        }
        let images = world.times("SNAP");
        world.start(late);
        converge(&mut world);
        assert_eq!(world.times("SNAP"), images, "seed {seed}");
        assert!(world.times("parts of logs sent") >= 2, "seed {seed}: {} parts", world.times("parts of logs sent"));
    }
}

/// A log that ends early, or in a hole, is made up for by an image: at once, or when the learner comes again.
fn where_the_log_has_a_hole_the_learner_is_sent_an_image_l1() {
    for seed in 1..=6 {
        for (refusals, holes) in [(100, 0), (0, 100)] {
            let mut world = quiet(seed, 3);
            (world.conditions.log_refusals, world.conditions.log_holes) = (refusals, holes);
            wait(&mut world, 5);
            let leader = world.leader().expect("a leader");
            let late = world.ids().into_iter().find(|id| *id != leader).expect("a follower");
            write(&mut world, 5);
            world.crash(late, false);
            write(&mut world, 60);
            let images = world.times("SNAP");
            world.start(late);
            converge(&mut world);
            assert_eq!(world.times("SNAP"), images + 1, "seed {seed}, {refusals} {holes}");
        }
    }
}

/// Who breaks off leaves its leader, which has no quorum without it and begins anew: it has to remember what was missing.
fn a_quorum_that_needs_a_learner_whose_log_breaks_off_comes_about_l1() {
    for seed in 1..=6 {
        let mut world = quiet(seed, 3);
        world.conditions.log_breaks = 100;
        wait(&mut world, 5);
        let leader = world.leader().expect("a leader");
        let late = world.ids().into_iter().find(|id| *id != leader).expect("a follower");
        write(&mut world, 5);
        world.crash(late, false);
        write(&mut world, 150);
        for id in world.ids() {
            world.crash(id, false);
        }
        let images = world.times("SNAP");
        for id in [leader, late] {
            world.start(id);
        }
        wait(&mut world, 30);
        assert!(world.leader().is_some() && world.times("SNAP") > images, "seed {seed}");
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

//! Crash consistency of a member's whole directory: the real `Log`, and the real code of epoch files, cuts, images, snapshots, purge and recovery,
//! over a simulated disk that loses, tears and reorders whatever was not flushed. Random histories with elections, truncations and images are
//! crashed at any moment, recovery included, again and again (reliability of P2, P3; L2, L6, L7, L20; D1 to D7, A20, A22, A23).
//!
//! Whatever a crash leaves: a start accepts it; what was durable is there; what was cut is not; promised and adopted epochs are remembered.
//!
//! `ZOO_CRASH_SEEDS=n` tries so many histories, `ZOO_CRASH_SEED=n` one.

#[path = "../support/crash_disk.rs"]
mod disk;
mod member;
mod trace;

use member::{Crash, Member, Outline};
use zoo::base::prng::Prng;

/// Lives of one directory, each ended by a crash.
const LIVES: usize = 4;

fn story(seed: u64) {
    let mut rng = Prng::new(seed);
    let mut member = Member::new(&mut rng);
    for life in 0..LIVES {
        let Crash = member.live(&mut rng);
        let context = format!("seed {seed}, life {life}");
        // The power fails, or only the process ends and the page cache stays.
        member = if rng.chance(2, 3) { member.after_power_failure(&mut rng, &context) } else { member.after_kill(&mut rng, &context) };
    }
}

#[test]
fn a_member_starts_from_whatever_a_crash_leaves_with_all_it_acknowledged_and_promised() {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    match number("ZOO_CRASH_SEED") {
        Some(seed) => story(seed),
        None => (1..=number("ZOO_CRASH_SEEDS").unwrap_or(15)).for_each(story),
    }
}

/// The histories meet what they are about.
#[test]
fn the_histories_hold_elections_cuts_images_snapshots_and_purges() {
    let mut outline = Outline::default();
    for seed in 1..=12 {
        let mut rng = Prng::new(seed);
        let mut member = Member::new(&mut rng);
        let Crash = member.live(&mut rng);
        outline.add(&member.outline);
    }
    let Outline { epochs, cuts, reloads, images, snapshots, purged } = outline;
    assert!(epochs > 20 && cuts > 2 && images > 2 && snapshots > 5 && purged > 0, "{epochs} {cuts} {images} {snapshots} {purged}");
    assert_eq!(reloads, 0, "only a tree that was recovered is read again");
}

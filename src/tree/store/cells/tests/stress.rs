//! Real threads: what readers and holds see is exact at every zxid while the writer works as fast as it can.

use super::super::{Writer, body};
use super::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ACCOUNTS: usize = 64;
const START: i64 = 1000;

fn path(account: usize) -> String {
    format!("/bank/{account}")
}
fn balance(data: Option<&[u8]>) -> i64 {
    i64::from_le_bytes(data.expect("an account has a balance").try_into().expect("eight bytes"))
}

/// Tells the readers to stop, also when the writer's assertions failed: a failed test must not hang.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The sum over all accounts that exist; those closed hold nothing.
fn total<'a>(get: impl Fn(&str) -> Option<super::super::NodeView<'a>>, paths: &[String]) -> i64 {
    paths.iter().filter_map(|path| get(path)).map(|view| balance(view.data())).sum()
}

/// One transfer, closing an account that is emptied and opening one that is not there: two nodes at one zxid.
fn transfer(writer: &mut Writer, zxid: Zxid, from: usize, to: usize, amount: i64) {
    let move_money = |writer: &mut Writer, account: usize, amount: i64| {
        let path = path(account);
        let found = writer.head(&path).map(|view| (view.cell(), balance(view.data())));
        let new = found.map_or(0, |(_, old)| old) + amount;
        match found {
            None => drop(writer.create(zxid, &path, &NodeMeta::default(), Some(&new.to_le_bytes()), &open_acl())),
            Some((cell, _)) if new == 0 => writer.remove(zxid, cell),
            Some((cell, _)) => writer.change(zxid, cell, &set(&new.to_le_bytes())),
        }
    };
    move_money(writer, from, -amount);
    move_money(writer, to, amount);
}

#[test]
fn the_sum_is_the_same_at_every_zxid_anyone_reads_at() {
    let live = body::live::get();
    let run_for = Duration::from_millis(std::env::var("STORE_STRESS_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(700));
    let mut writer = Writer::with_parts(7, 2);
    for account in 0..ACCOUNTS {
        create(&mut writer, 1, &path(account), &START.to_le_bytes());
    }
    writer.commit(Zxid(1));
    let paths: Vec<String> = (0..ACCOUNTS).map(path).collect();
    let expected = START * ACCOUNTS as i64;
    let stop = AtomicBool::new(false);
    let (reads, holds_read) = (AtomicU64::new(0), AtomicU64::new(0));
    let freed_elsewhere = AtomicU64::new(0);
    let stop_all = &stop;
    thread::scope(|scope| {
        for reader_number in 0..3u64 {
            let mut reader = writer.reader();
            let (paths, stop, reads, holds_read) = (&paths, &stop, &reads, &holds_read);
            let freed_elsewhere = &freed_elsewhere;
            scope.spawn(move || {
                let mut prng = crate::base::prng::Prng::new(reader_number);
                let mut low = 0;
                let mut hold = None;
                while !stop.load(Ordering::Relaxed) {
                    let at = reader.begin_burst();
                    if low == 0 {
                        low = at.0;
                    }
                    for _ in 0..prng.below(4) {
                        let at = Zxid(low + prng.below(at.0 - low + 1));
                        assert_eq!(total(|path| reader.get(path, at), paths), expected, "at {at}");
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                    match prng.below(8) {
                        0 => {
                            reader.park();
                            low = 0;
                        }
                        1 | 2 => {
                            low += prng.below(at.0 - low + 1);
                            reader.set_low(Zxid(low));
                        }
                        3 => hold = Some(reader.hold(Zxid(low + prng.below(at.0 - low + 1)))),
                        4 => hold = None,
                        _ => {}
                    }
                    if let Some(hold) = &mut hold {
                        assert_eq!(total(|path| hold.get(path), paths), expected, "held at {}", hold.zxid());
                        holds_read.fetch_add(1, Ordering::Relaxed);
                        if prng.chance(1, 2) {
                            hold.quiesce();
                        }
                    }
                }
                assert_eq!(body::live::get(), 0, "only the writer frees");
                freed_elsewhere.fetch_add(1, Ordering::Relaxed);
            });
        }
        let _stop = StopAtEnd(stop_all);
        let mut prng = crate::base::prng::Prng::new(99);
        let (mut zxid, mut published) = (1, 1);
        let started = Instant::now();
        while started.elapsed() < run_for {
            for _ in 0..32 {
                zxid += 1;
                let from = (0..).map(|_| prng.below(ACCOUNTS as u64) as usize).find(|a| writer.head(&path(*a)).is_some()).expect("money");
                let to = (from + 1 + prng.below(ACCOUNTS as u64 - 1) as usize) % ACCOUNTS;
                let funds = balance(writer.head(&path(from)).expect("found").data());
                transfer(&mut writer, Zxid(zxid), from, to, if prng.chance(1, 2) { funds } else { prng.below(funds as u64) as i64 + 1 });
            }
            // Some of it is taken back, some stays uncommitted for a while.
            for _ in 0..prng.below(4) {
                writer.undo_last();
                writer.undo_last();
                zxid -= 1;
            }
            published = (zxid - prng.below(3)).max(published);
            writer.commit(Zxid(published));
            writer.reclaim(prng.below(200) as usize);
        }
        while writer.uncommitted_len() > 0 {
            writer.undo_last();
        }
    });
    assert_eq!(freed_elsewhere.load(Ordering::Relaxed), 3, "all readers came to their end");
    assert!(reads.load(Ordering::Relaxed) > 100 && holds_read.load(Ordering::Relaxed) > 100, "they were reading");
    (0..1000).take_while(|_| writer.reclaim(1000) > 0 || writer.garbage_len() > 0).count();
    assert_eq!(writer.garbage_len(), 0);
    let left = writer.node_count() as isize;
    assert_eq!(body::live::get() - live, left, "one body per node");
    drop(writer);
    assert_eq!(body::live::get(), live);
}

#[test]
fn paths_come_and_go_under_probing_readers() {
    let run_for = Duration::from_millis(300);
    let mut writer = Writer::with_parts(3, 2);
    create(&mut writer, 1, "/always", b"here");
    writer.commit(Zxid(1));
    let stop = AtomicBool::new(false);
    let found = AtomicU64::new(0);
    let stop_all = &stop;
    thread::scope(|scope| {
        for _ in 0..2 {
            let mut reader = writer.reader();
            let (stop, found) = (&stop, &found);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let at = reader.begin_burst();
                    assert_eq!(reader.get("/always", at).expect("always there").data(), Some(&b"here"[..]));
                    // Nodes made at z live for 100 transactions: at any zxid those are there, and nothing else.
                    for z in at.0.saturating_sub(150).max(2)..at.0 + 5 {
                        let there = reader.get(&format!("/n{z}"), at).is_some();
                        assert_eq!(there, z <= at.0 && z + 100 > at.0, "/n{z} at {at}");
                        found.fetch_add(u64::from(there), Ordering::Relaxed);
                    }
                    reader.park();
                }
            });
        }
        let _stop = StopAtEnd(stop_all);
        let started = Instant::now();
        let mut zxid = 1;
        while started.elapsed() < run_for {
            zxid += 1;
            create(&mut writer, zxid, &format!("/n{zxid}"), b"");
            if let Some(cell) = zxid.checked_sub(100).and_then(|z| writer.head(&format!("/n{z}"))).map(|view| view.cell()) {
                writer.remove(Zxid(zxid), cell);
            }
            if zxid % 7 == 0 {
                writer.commit(Zxid(zxid));
                writer.reclaim(100);
            }
        }
    });
    assert!(found.load(Ordering::Relaxed) > 1000, "they were reading");
}

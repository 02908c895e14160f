//! The watch tables against a plain map, and what they cost.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn tables() -> Watches {
    Watches::new(Arc::new(Bell::new(0, 1 << 10)), 7)
}

fn fired(w: &mut Watches, table: Table, path: &str) -> Vec<ClientSlot> {
    let mut hits = Vec::new();
    w.fire(table, path, &mut hits);
    hits.sort_unstable();
    hits
}

#[test]
fn a_standard_watch_fires_once() {
    let mut w = tables();
    w.add(Table::Data, "/a", 1, Modes::STANDARD);
    w.add(Table::Data, "/a", 1, Modes::STANDARD);
    w.add(Table::Data, "/a", 2, Modes::STANDARD);
    assert_eq!(w.len(), 2);
    assert!(fired(&mut w, Table::Child, "/a").is_empty());
    assert_eq!(fired(&mut w, Table::Data, "/a"), [1, 2]);
    assert!(fired(&mut w, Table::Data, "/a").is_empty());
    assert!(w.is_empty());
}

#[test]
fn persistent_stays_and_recursive_sees_below_once() {
    let mut w = tables();
    w.add(Table::Data, "/a", 1, Modes::PERSISTENT);
    w.add(Table::Data, "/a", 1, Modes::STANDARD);
    w.add(Table::Data, "/a", 1, Modes::RECURSIVE);
    w.add(Table::Data, "/", 1, Modes::RECURSIVE);
    for _ in 0..2 {
        assert_eq!(fired(&mut w, Table::Data, "/a"), [1]);
        assert_eq!(fired(&mut w, Table::Data, "/a/b/c"), [1]);
        assert_eq!(fired(&mut w, Table::Data, "/other"), [1]);
        assert!(fired(&mut w, Table::Child, "/a").is_empty());
    }
    assert!(!w.contains(Table::Data, "/a", 1, Modes::STANDARD));
    assert!(w.contains(Table::Data, "/a", 1, Modes::PERSISTENT));
    assert!(w.remove(Table::Data, "/", 1, Modes::RECURSIVE));
    assert!(fired(&mut w, Table::Data, "/other").is_empty());
}

#[test]
fn the_filter_knows_what_is_watched_a8() {
    let bell = Arc::new(Bell::new(0, 1 << 10));
    let mut w = Watches::new(bell.clone(), 7);
    let matches = |path: &str| bell.interest().matches(path_hash(path));
    assert!(!matches("/a"));
    w.add(Table::Child, "/a", 1, Modes::STANDARD);
    w.add(Table::Data, "/a", 2, Modes::STANDARD);
    assert!(matches("/a"));
    w.drop_client(1);
    assert!(matches("/a"));
    fired(&mut w, Table::Data, "/a");
    assert!(!matches("/a"));
    w.add(Table::Data, "/r", 1, Modes::RECURSIVE);
    assert!(matches("/r/anything"));
    w.drop_client(1);
    assert!(!matches("/r/anything") && !matches("/r"));
}

#[test]
fn rewatching_for_ever_keeps_the_way_back_short() {
    let mut w = tables();
    for round in 0..100_000 {
        w.add(Table::Data, &format!("/p{}", round % 10), 1, Modes::STANDARD);
        fired(&mut w, Table::Data, &format!("/p{}", round % 10));
    }
    assert!(w.clients[1].paths.len() < 1000);
    assert!(w.paths.len() <= 10);
}

#[test]
fn a_million_one_shot_watches_cost_about_a_hundred_bytes_each() {
    let mut w = tables();
    let n = 100_000usize;
    for i in 0..n {
        w.add(Table::Data, &format!("/app/svc-{:03}/inst-{:03}", i / 1000, i % 1000), (i % 100) as u32, Modes::STANDARD);
    }
    let path_bytes: usize = (0..w.paths.len()).map(|slot| w.paths[slot].path.len().next_multiple_of(16) + 16).sum();
    let way_back: usize = w.clients.iter().map(|c| c.paths.capacity() * 4).sum();
    let index = w.paths.len() as usize * 4 * 2;
    let slots = w.paths.len() as usize * size_of::<WatchedPath>();
    assert!((path_bytes + way_back + index + slots) / n <= 100, "{} B", (path_bytes + way_back + index + slots) / n);
}

#[derive(Clone, Debug)]
enum Op {
    Add(bool, usize, u32, u8),
    Remove(bool, usize, u32, u8),
    Fire(bool, usize),
    Drop(u32),
}

const PATHS: [&str; 6] = ["/", "/a", "/a/b", "/a/b/c", "/d", "/d/e"];

fn op() -> impl Strategy<Value = Op> {
    let modes = prop_oneof![Just(1u8), Just(2), Just(4), Just(7)];
    prop_oneof![
        4 => (any::<bool>(), 0..PATHS.len(), 0u32..4, modes.clone()).prop_map(|(t, p, c, m)| Op::Add(t, p, c, m)),
        1 => (any::<bool>(), 0..PATHS.len(), 0u32..4, modes).prop_map(|(t, p, c, m)| Op::Remove(t, p, c, m)),
        3 => (any::<bool>(), 0..PATHS.len()).prop_map(|(t, p)| Op::Fire(t, p)),
        1 => (0u32..4).prop_map(Op::Drop),
    ]
}

fn table(data: bool) -> Table {
    if data { Table::Data } else { Table::Child }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn behaves_as_a_plain_map(ops in proptest::collection::vec(op(), 0..80)) {
        let bell = Arc::new(Bell::new(0, 1 << 10));
        let mut w = Watches::new(bell.clone(), 3);
        let mut model: BTreeMap<(bool, &str, u32), u8> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Add(t, p, c, m) => {
                    w.add(table(t), PATHS[p], c, Modes(m));
                    *model.entry((t, PATHS[p], c)).or_default() |= m;
                }
                Op::Remove(t, p, c, m) => {
                    let entry = model.get_mut(&(t, PATHS[p], c));
                    let want = entry.as_ref().is_some_and(|e| **e & m != 0);
                    if let Some(e) = entry { *e &= !m; }
                    prop_assert_eq!(w.remove(table(t), PATHS[p], c, Modes(m)), want);
                }
                Op::Fire(t, p) => {
                    let at = PATHS[p];
                    let below = |anc: &str| anc == "/" || at.strip_prefix(anc).is_some_and(|rest| rest.starts_with('/'));
                    let want: BTreeSet<u32> = model.iter()
                        .filter(|((mt, mp, _), m)| *mt == t && **m != 0 && (*mp == at || (t && **m & 4 != 0 && below(mp))))
                        .map(|((_, _, c), _)| *c).collect();
                    for ((mt, mp, _), m) in model.iter_mut() {
                        if *mt == t && *mp == at { *m &= !1; }
                    }
                    prop_assert!(want.is_empty() || bell.interest().matches(path_hash(at)));
                    let got = fired(&mut w, table(t), at);
                    prop_assert_eq!(got, want.into_iter().collect::<Vec<_>>());
                }
                Op::Drop(c) => {
                    w.drop_client(c);
                    model.retain(|(_, _, mc), _| *mc != c);
                }
            }
            model.retain(|_, m| *m != 0);
            prop_assert_eq!(w.len(), model.len());
            prop_assert_eq!(w.paths.len() as usize - w.free.len(), model.keys().map(|k| k.1).collect::<BTreeSet<_>>().len());
        }
    }
}

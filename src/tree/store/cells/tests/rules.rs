//! One test per promise of the module header that a random history might not isolate.

use super::super::{Writer, body};
use super::*;

/// Reclaims until nothing more goes; returns what was freed.
fn reclaim_all(writer: &mut Writer) -> usize {
    let mut freed = 0;
    for _ in 0..4 {
        freed += writer.reclaim(usize::MAX);
    }
    freed
}

#[test]
fn uncommitted_bodies_are_seen_by_the_writer_only() {
    let mut writer = Writer::new(1);
    let mut reader = writer.reader();
    let cell = create(&mut writer, 1, "/a", b"one");
    assert!(writer.head("/a").is_some() && writer.committed("/a").is_none());
    let at = reader.begin_burst();
    assert!(reader.get("/a", at).is_none());
    writer.commit(Zxid(1));
    let at = reader.begin_burst();
    writer.change(Zxid(2), cell, &set(b"two"));
    assert_eq!(reader.get("/a", at).expect("there").data(), Some(&b"one"[..]));
    assert_eq!(writer.committed("/a").expect("there").data(), Some(&b"one"[..]));
    assert_eq!(writer.head("/a").expect("there").data(), Some(&b"two"[..]));
}

#[test]
fn a_registered_reader_keeps_its_versions_until_it_lets_go() {
    let mut writer = Writer::new(1);
    let mut reader = writer.reader();
    let cell = create(&mut writer, 1, "/a", b"1");
    writer.commit(Zxid(1));
    assert_eq!(reader.begin_burst(), Zxid(1));
    for z in 2..=5u64 {
        writer.change(Zxid(z), cell, &set(z.to_string().as_bytes()));
        writer.commit(Zxid(z));
        assert_eq!(reclaim_all(&mut writer), 0, "all of 1..={z} may still be read");
    }
    assert_eq!(reader.begin_burst(), Zxid(5));
    for z in 1..=5 {
        assert_eq!(reader.get("/a", Zxid(z)).expect("kept").zxid(), Zxid(z));
    }
    reader.set_low(Zxid(4));
    assert_eq!(writer.reclaim(10), 0, "unlinked now, freed when the reader has passed a quiescent point");
    assert_eq!(writer.reclaim(10), 0);
    reader.begin_burst();
    assert_eq!(writer.reclaim(10), 3);
    assert_eq!(reader.get("/a", Zxid(4)).expect("kept").zxid(), Zxid(4));
    reader.park();
    assert_eq!(reclaim_all(&mut writer), 1);
    assert_eq!(writer.garbage_len(), 0);
}

#[test]
#[should_panic(expected = "read outside what this reader holds")]
fn a_parked_reader_cannot_read() {
    let mut writer = Writer::new(1);
    let mut reader = writer.reader();
    let at = reader.begin_burst();
    reader.park();
    reader.get("/", at);
}

#[test]
#[should_panic(expected = "read outside what this reader holds")]
fn a_reader_cannot_read_below_its_lowest_zxid() {
    let mut writer = Writer::new(1);
    let mut reader = writer.reader();
    writer.commit(Zxid(5));
    reader.begin_burst();
    reader.get("/", Zxid(4));
}

#[test]
fn a_long_hold_costs_one_body_per_changed_node() {
    let mut writer = Writer::new(1);
    let cells: Vec<_> = (0..50).map(|i| create(&mut writer, 1, &format!("/{i}"), b"old")).collect();
    writer.commit(Zxid(1));
    let hold = writer.hold();
    for z in 2..1000u64 {
        writer.change(Zxid(z), cells[z as usize % 50], &set(b"new"));
        writer.commit(Zxid(z));
        writer.reclaim(64);
    }
    reclaim_all(&mut writer);
    assert_eq!(writer.garbage_len(), 50, "an idle hold keeps versions, and no memory beyond them");
    assert!((0..50).all(|i| hold.get(&format!("/{i}")).expect("held").data() == Some(b"old")));
    drop(hold);
    reclaim_all(&mut writer);
    assert_eq!(writer.garbage_len(), 0);
}

#[test]
fn a_hold_being_read_keeps_memory_until_it_is_quiescent() {
    let mut writer = Writer::new(1);
    let cell = create(&mut writer, 1, "/a", b"1");
    writer.commit(Zxid(1));
    let mut hold = writer.hold();
    for z in 2..=4 {
        writer.change(Zxid(z), cell, &set(b"x"));
        writer.commit(Zxid(z));
    }
    assert!(hold.get("/a").is_some());
    assert_eq!(reclaim_all(&mut writer), 0, "the hold may be standing on the middle versions");
    hold.quiesce();
    assert_eq!(reclaim_all(&mut writer), 2);
    assert_eq!(hold.get("/a").expect("held").zxid(), Zxid(1));
}

#[test]
fn several_holds_keep_just_the_versions_they_select() {
    let mut writer = Writer::new(1);
    let cell = create(&mut writer, 1, "/a", b"1");
    writer.commit(Zxid(1));
    let mut holds = Vec::new();
    for z in 2..=40 {
        writer.change(Zxid(z), cell, &set(b"x"));
        writer.commit(Zxid(z));
        if z % 10 == 0 {
            holds.push(writer.hold());
        }
        reclaim_all(&mut writer);
    }
    assert_eq!(writer.garbage_len(), 3, "versions 10, 20 and 30; 40 is the newest");
    for hold in &mut holds {
        assert_eq!(hold.get("/a").expect("held").zxid(), hold.zxid());
        hold.quiesce();
    }
    holds.remove(1);
    assert_eq!(reclaim_all(&mut writer), 1);
    assert!(holds.iter().all(|hold| hold.get("/a").expect("held").zxid() == hold.zxid()));
}

#[test]
fn reclaim_does_no_more_than_its_budget() {
    let mut writer = Writer::new(1);
    let cell = create(&mut writer, 1, "/a", b"1");
    for z in 2..=1001 {
        writer.change(Zxid(z), cell, &keep());
    }
    writer.commit(Zxid(1001));
    let mut freed = 0;
    let mut calls = 0;
    while writer.garbage_len() > 0 && calls < 1000 {
        let now = writer.reclaim(7);
        assert!(now <= 7);
        freed += now;
        calls += 1;
    }
    assert_eq!(freed, 1000);
    assert!(calls <= 1000 / 7 + 3, "and no less, when there is enough to do");
    assert_eq!(writer.reclaim(7), 0);
}

#[test]
fn a_version_deep_below_unreclaimed_ones_is_found_again() {
    let mut writer = Writer::new(1);
    let cell = create(&mut writer, 1, "/a", b"1");
    writer.commit(Zxid(1));
    let hold = writer.hold();
    writer.change(Zxid(2), cell, &keep());
    writer.commit(Zxid(2));
    reclaim_all(&mut writer);
    let mut reader = writer.reader();
    reader.begin_burst();
    for z in 3..3000 {
        writer.change(Zxid(z), cell, &keep());
        writer.commit(Zxid(z));
    }
    drop(hold);
    reclaim_all(&mut writer);
    assert_eq!(writer.garbage_len(), 2998, "the reader keeps the chain; the version the hold kept is too far down to look for");
    reader.park();
    reclaim_all(&mut writer);
    assert_eq!(writer.garbage_len(), 0);
}

#[test]
fn a_recreated_node_reuses_its_cell_and_the_hold_still_sees_the_first_life() {
    let mut writer = Writer::new(1);
    let cell = create(&mut writer, 1, "/a", b"first");
    writer.commit(Zxid(1));
    let first = writer.hold();
    writer.remove(Zxid(2), cell);
    writer.commit(Zxid(2));
    let gap = writer.hold();
    reclaim_all(&mut writer);
    assert_eq!(create(&mut writer, 3, "/a", b"second"), cell);
    writer.commit(Zxid(3));
    reclaim_all(&mut writer);
    assert_eq!(first.get("/a").expect("held").data(), Some(&b"first"[..]));
    assert!(gap.get("/a").is_none());
    assert_eq!(writer.hold().get("/a").expect("new").data(), Some(&b"second"[..]));
}

#[test]
fn a_deleted_node_s_cell_is_used_for_another_node() {
    let mut writer = Writer::new(1);
    let mut zxid = 0;
    let keeper = create(&mut writer, 0, "/keeper", b"");
    let mut cells = std::collections::BTreeSet::new();
    for i in 0..2000 {
        zxid += 1;
        let cell = create(&mut writer, zxid, &format!("/n{i}"), b"x");
        cells.insert(cell);
        writer.commit(Zxid(zxid));
        zxid += 1;
        writer.remove(Zxid(zxid), cell);
        writer.commit(Zxid(zxid));
        reclaim_all(&mut writer);
        assert!(writer.head_of(cell).is_none());
    }
    assert!(cells.len() <= 4, "churn takes no new cells: {}", cells.len());
    assert_eq!(writer.garbage_len(), 0);
    assert_eq!(writer.node_count(), 1);
    assert_eq!(writer.head_of(keeper).expect("still there").path(), "/keeper");
}

#[test]
fn undoing_a_recreation_lets_the_tombstone_go() {
    let mut writer = Writer::new(1);
    let cell = create(&mut writer, 1, "/a", b"x");
    writer.commit(Zxid(1));
    writer.remove(Zxid(2), cell);
    writer.commit(Zxid(2));
    create(&mut writer, 3, "/a", b"y");
    reclaim_all(&mut writer);
    writer.undo_last();
    assert!(writer.head("/a").is_none());
    reclaim_all(&mut writer);
    assert_eq!(writer.garbage_len(), 0);
    assert!(writer.head_body(cell).is_none(), "the cell is free");
}

#[test]
fn the_same_zxid_may_come_again_with_other_content() {
    let mut writer = Writer::new(1);
    let mut reader = writer.reader();
    let cell = create(&mut writer, 1, "/a", b"1");
    writer.commit(Zxid(1));
    writer.change(Zxid(2), cell, &set(b"never"));
    let at = reader.begin_burst();
    writer.undo_last();
    assert_eq!(writer.uncommitted_len(), 0);
    writer.change(Zxid(2), cell, &set(b"two"));
    writer.commit(Zxid(2));
    assert_eq!(reader.get("/a", at).expect("there").data(), Some(&b"1"[..]));
    let at = reader.begin_burst();
    assert_eq!(reader.get("/a", at).expect("there").data(), Some(&b"two"[..]));
    reader.park();
    reclaim_all(&mut writer);
    assert_eq!(writer.garbage_len(), 0);
}

#[test]
fn of_two_bodies_with_one_zxid_the_second_counts() {
    let mut writer = Writer::new(1);
    let cell = create(&mut writer, 1, "/a", b"first");
    writer.change(Zxid(1), cell, &set(b"second"));
    writer.commit(Zxid(1));
    let hold = writer.hold();
    assert_eq!(hold.get("/a").expect("there").data(), Some(&b"second"[..]));
    reclaim_all(&mut writer);
    drop(hold);
    reclaim_all(&mut writer);
    assert_eq!(writer.garbage_len(), 0, "no hold can select the first");
}

#[test]
fn paths_with_one_hash_are_told_apart() {
    let mut writer = Writer::with_parts(1, 1);
    let mut by_tag = std::collections::HashMap::new();
    let paths = (0..).map(|n| format!("/{n}"));
    let (a, b) =
        paths.map(|path| (by_tag.insert(writer.shared.hash(&path) as u32, path.clone()), path)).find(|(a, _)| a.is_some()).expect("soon");
    let a = a.expect("found");
    create(&mut writer, 1, &a, b"a");
    assert!(writer.head(&b).is_none());
    create(&mut writer, 1, &b, b"b");
    writer.commit(Zxid(1));
    let hold = writer.hold();
    assert_eq!(hold.get(&a).expect("there").data(), Some(&b"a"[..]));
    assert_eq!(hold.get(&b).expect("there").data(), Some(&b"b"[..]));
    let cell = writer.head(&a).expect("there").cell();
    writer.remove(Zxid(2), cell);
    writer.commit(Zxid(2));
    drop(hold);
    reclaim_all(&mut writer);
    assert!(writer.head(&a).is_none() && writer.head(&b).is_some());
}

#[test]
fn hashes_of_short_paths_differ() {
    // Overlapping reads of a few bytes must not make "/1" and "/11" one: `hash_start` sees to that.
    for seed in 0..4 {
        let writer = Writer::new(seed);
        let names = (0..8).flat_map(|byte| (1..40).map(move |len| format!("/{}", char::from(b'a' + byte).to_string().repeat(len))));
        let paths: Vec<String> = names.chain((0..1000).map(|n| format!("/{n}"))).collect();
        let hashes: std::collections::BTreeSet<u64> = paths.iter().map(|path| writer.shared.hash(path)).collect();
        assert_eq!(hashes.len(), paths.len());
    }
}

#[test]
fn big_data_is_shared_by_bodies_that_keep_it() {
    let mut writer = Writer::new(1);
    let big = vec![7u8; body::INLINE_DATA_MAX + 1];
    let cell = create(&mut writer, 1, "/a", &big);
    writer.change(Zxid(2), cell, &keep());
    let address = |view: Option<super::super::NodeView<'_>>| view.and_then(|view| view.data().map(<[u8]>::as_ptr));
    let newer = address(writer.head("/a"));
    writer.commit(Zxid(1));
    assert_eq!(address(writer.committed("/a")), newer, "one buffer for both");
    writer.commit(Zxid(2));
    reclaim_all(&mut writer);
    assert_eq!(writer.head("/a").expect("there").data(), Some(&big[..]));
}

#[test]
fn readers_and_holds_outlive_the_writer_and_free_everything() {
    let live = body::live::get();
    let mut writer = Writer::new(1);
    let mut reader = writer.reader();
    let cell = create(&mut writer, 1, "/a", b"1");
    create(&mut writer, 1, "/b", &[1; 5000]);
    writer.commit(Zxid(1));
    let at = reader.begin_burst();
    let hold = writer.hold();
    writer.change(Zxid(2), cell, &set(b"2"));
    writer.change(Zxid(3), cell, &set(b"3"));
    writer.commit(Zxid(2));
    writer.undo_last();
    writer.reclaim(10);
    drop(writer);
    assert_eq!(reader.get("/a", at).expect("there").data(), Some(&b"1"[..]));
    assert_eq!(hold.get("/b").expect("there").data(), Some(&[1; 5000][..]));
    drop(reader);
    drop(hold);
    assert_eq!(body::live::get(), live);
}

#[test]
fn start_up_may_push_at_applied_itself() {
    let mut writer = Writer::new(1);
    create(&mut writer, 0, "/", b"");
    writer.commit(Zxid(0));
    let dead = create(&mut writer, 9, "/dead", b"");
    writer.commit(Zxid(9));
    writer.remove(Zxid(9), dead);
    writer.commit(Zxid(9));
    let mut reader = writer.reader();
    let at = reader.begin_burst();
    assert!(reader.get("/", at).is_some() && reader.get("/dead", at).is_none());
    reader.park();
    reclaim_all(&mut writer);
    assert_eq!(writer.garbage_len(), 0);
}

#[test]
fn children_of_a_large_directory_are_added_removed_and_listed_from_anywhere() {
    let count: u32 = if cfg!(debug_assertions) { 20_000 } else { 200_000 };
    let mut writer = Writer::new(1);
    let parent = create(&mut writer, 1, "/dir", b"");
    let mut cells = Vec::new();
    for i in 0..count {
        let child = create(&mut writer, 1, &format!("/dir/{i}"), b"");
        writer.change(Zxid(1), parent, &Change { children: ChildChange::Add(child), ..keep() });
        cells.push(child);
        if i % 64 == 0 {
            writer.commit(Zxid(1));
            writer.reclaim(1000);
        }
    }
    writer.commit(Zxid(1));
    let hold = writer.hold();
    for child in cells.iter().step_by(2) {
        writer.remove(Zxid(2), *child);
        writer.change(Zxid(2), parent, &Change { children: ChildChange::Remove(&[*child]), ..keep() });
    }
    writer.commit(Zxid(2));
    let mut listed = Vec::new();
    // In slices, as a reply is built.
    loop {
        let before = listed.len();
        let view = hold.get("/dir").expect("held");
        listed.extend(view.children_after(listed.last().copied()).take(1000));
        if listed.len() == before {
            break;
        }
    }
    assert_eq!(listed, cells);
    assert_eq!(writer.head_of(parent).expect("there").stat().num_children.get(), (count / 2) as i32);
}

//! Every interleaving, within a bound of preemptions, of the store's writer with a reader or a hold: the files of `src/tree/store/cells`
//! themselves, over loom's atomics. Freed memory is marked, not given back, so looking at it fails the model.
//!
//! `cargo test --test loom_store [NAME]`; `LOOM_MAX_PREEMPTIONS` sets another bound. Without the usual harness, since that would bring
//! the included files' own tests along.
#![allow(missing_docs, unsafe_code, dead_code, unused_imports, clippy::unwrap_used)]

mod base {
    pub use zoo::base::*;
}
#[path = "../src/tree/store/cells/mod.rs"]
mod cells;
/// What `src/tree/store/sync.rs` offers, modelled.
mod sync {
    pub use loom::sync::Arc;
    pub use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence};

    pub const MODEL: bool = true;

    pub struct Canary(loom::cell::UnsafeCell<bool>);

    impl Canary {
        pub fn new() -> Self {
            Canary(loom::cell::UnsafeCell::new(true))
        }
        pub fn look(&self) {
            // SAFETY: loom checks that no write is concurrent.
            self.0.with(|alive| assert!(unsafe { *alive }, "used after it was freed"));
        }
        pub fn free(&self) {
            // SAFETY: loom checks that no other access is concurrent.
            self.0.with_mut(|alive| unsafe { assert!(std::mem::replace(&mut *alive, false), "freed twice") });
        }
    }
}

use base::{AclList, AclVec, Zxid};
use cells::{Hold, Reader, Writer};
use loom::thread;
use zoo::tree::store::{CellId, Change, ChildChange, DataChange, NodeMeta, PATH_BYTES_MAX};

fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let models: &[(&str, fn())] = &[
        ("a_parked_reader_registers_while_versions_are_retired", a_parked_reader_registers_while_versions_are_retired),
        ("a_registered_reader_keeps_what_it_may_read", a_registered_reader_keeps_what_it_may_read),
        ("a_hold_is_taken_while_a_scan_runs", a_hold_is_taken_while_a_scan_runs),
        ("a_used_hold_slot_is_taken_for_a_lower_zxid", a_used_hold_slot_is_taken_for_a_lower_zxid),
        ("a_hold_walks_past_middle_versions_being_unlinked", a_hold_walks_past_middle_versions_being_unlinked),
        ("a_reader_walks_past_a_body_being_undone", a_reader_walks_past_a_body_being_undone),
        ("a_probe_meets_a_growing_table", a_probe_meets_a_growing_table),
        ("a_probe_meets_a_cell_that_changes_hands", a_probe_meets_a_cell_that_changes_hands),
        ("the_writer_goes_first", the_writer_goes_first),
    ];
    for (name, model) in models.iter().filter(|(name, _)| name.contains(&filter)) {
        print!("model {name} ... ");
        model();
        println!("ok");
    }
}

/// Runs the model; `LOOM_MAX_PREEMPTIONS` overrides the bound.
fn explore(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.or(Some(preemptions));
    model.check(body);
}

fn keep() -> Change<'static> {
    Change { meta: NodeMeta::default(), data: DataChange::Keep, acl: None, children: ChildChange::Keep }
}

fn create(writer: &mut Writer, zxid: u64, path: &str) -> CellId {
    writer.create(Zxid(zxid), path, &NodeMeta::default(), None, &AclList::new(AclList::OPEN_ID, AclVec::OPEN))
}

/// A store with "/a" made at zxid 1.
fn store() -> (Writer, CellId) {
    let mut writer = Writer::new(1);
    let cell = create(&mut writer, 1, "/a");
    writer.commit(Zxid(1));
    (writer, cell)
}

fn change_and_commit(writer: &mut Writer, zxid: u64, cell: CellId) {
    writer.change(Zxid(zxid), cell, &keep());
    writer.commit(Zxid(zxid));
}

/// "/a" is changed by every transaction, so a read at z finds the body stamped z.
fn see_own_zxid(reader: &Reader, at: Zxid) {
    assert_eq!(reader.get("/a", at).expect("there at every zxid").zxid(), at);
}

fn see_held(hold: &Hold) {
    assert_eq!(hold.get("/a").expect("there at every zxid").zxid(), hold.zxid());
}

fn a_parked_reader_registers_while_versions_are_retired() {
    explore(3, || {
        let (mut writer, cell) = store();
        let mut reader = writer.reader();
        let shard = thread::spawn(move || {
            let at = reader.begin_burst();
            see_own_zxid(&reader, at);
            reader.park();
            let at = reader.begin_burst();
            see_own_zxid(&reader, at);
        });
        change_and_commit(&mut writer, 2, cell);
        writer.reclaim(9);
        writer.reclaim(9);
        shard.join().expect("no panic");
    });
}

fn a_registered_reader_keeps_what_it_may_read() {
    explore(3, || {
        let (mut writer, cell) = store();
        let mut reader = writer.reader();
        reader.begin_burst();
        let shard = thread::spawn(move || {
            let at = reader.begin_burst();
            see_own_zxid(&reader, Zxid(1));
            see_own_zxid(&reader, at);
            reader.set_low(at);
            see_own_zxid(&reader, at);
        });
        change_and_commit(&mut writer, 2, cell);
        writer.reclaim(9);
        writer.reclaim(9);
        shard.join().expect("no panic");
    });
}

fn a_hold_is_taken_while_a_scan_runs() {
    explore(3, || {
        let (mut writer, cell) = store();
        let mut reader = writer.reader();
        reader.begin_burst();
        change_and_commit(&mut writer, 2, cell);
        let shard = thread::spawn(move || {
            let hold = reader.hold(Zxid(1));
            reader.park();
            see_held(&hold);
        });
        writer.reclaim(9);
        writer.reclaim(9);
        shard.join().expect("no panic");
        for _ in 0..4 {
            writer.reclaim(9);
        }
        assert_eq!(writer.garbage_len(), 0, "all of it goes in the end");
    });
}

fn a_used_hold_slot_is_taken_for_a_lower_zxid() {
    explore(2, || {
        let (mut writer, cell) = store();
        let mut reader = writer.reader();
        reader.begin_burst();
        change_and_commit(&mut writer, 2, cell);
        let newer = writer.hold();
        let shard = thread::spawn(move || {
            drop(newer);
            let hold = reader.hold(Zxid(1));
            reader.begin_burst();
            reader.set_low(Zxid(2));
            see_held(&hold);
        });
        writer.reclaim(9);
        writer.reclaim(9);
        shard.join().expect("no panic");
    });
}

fn a_hold_walks_past_middle_versions_being_unlinked() {
    explore(3, || {
        let (mut writer, cell) = store();
        let mut hold = writer.hold();
        change_and_commit(&mut writer, 2, cell);
        change_and_commit(&mut writer, 3, cell);
        let listing = thread::spawn(move || {
            see_held(&hold);
            hold.quiesce();
            see_held(&hold);
        });
        writer.reclaim(9);
        writer.reclaim(9);
        listing.join().expect("no panic");
        for _ in 0..4 {
            writer.reclaim(9);
        }
        assert_eq!(writer.garbage_len(), 0, "all of it goes in the end");
    });
}

fn a_reader_walks_past_a_body_being_undone() {
    explore(3, || {
        let (mut writer, cell) = store();
        let mut reader = writer.reader();
        reader.begin_burst();
        writer.change(Zxid(2), cell, &keep());
        let shard = thread::spawn(move || {
            see_own_zxid(&reader, Zxid(1));
            let at = reader.begin_burst();
            see_own_zxid(&reader, at);
        });
        writer.undo_last();
        writer.reclaim(9);
        writer.reclaim(9);
        change_and_commit(&mut writer, 2, cell);
        shard.join().expect("no panic");
    });
}

fn a_probe_meets_a_growing_table() {
    explore(3, || {
        let (mut writer, _) = store();
        let mut reader = writer.reader();
        let shard = thread::spawn(move || {
            let at = reader.begin_burst();
            assert!(reader.get("/a", at).is_some());
            assert_eq!(reader.get("/b", at).is_some(), at >= Zxid(2));
        });
        create(&mut writer, 2, "/b");
        writer.commit(Zxid(2));
        create(&mut writer, 3, "/c");
        writer.reclaim(9);
        writer.reclaim(9);
        shard.join().expect("no panic");
    });
}

fn a_probe_meets_a_cell_that_changes_hands() {
    explore(3, || {
        let (mut writer, a) = store();
        let mut reader = writer.reader();
        let shard = thread::spawn(move || {
            let at = reader.begin_burst();
            assert_eq!(reader.get("/a", at).is_some(), at < Zxid(2), "/a at {at}");
            assert_eq!(reader.get("/b", at).is_some(), at >= Zxid(3), "/b at {at}");
            if let Some(node) = reader.node(a, at) {
                assert_eq!(node.path(), if at < Zxid(2) { "/a" } else { "/b" });
            }
        });
        writer.remove(Zxid(2), a);
        writer.commit(Zxid(2));
        writer.reclaim(9);
        writer.reclaim(9);
        create(&mut writer, 3, "/b");
        writer.commit(Zxid(3));
        shard.join().expect("no panic");
    });
}

fn the_writer_goes_first() {
    explore(3, || {
        let (mut writer, cell) = store();
        let mut reader = writer.reader();
        let shard = thread::spawn(move || {
            let at = reader.begin_burst();
            see_own_zxid(&reader, at);
        });
        change_and_commit(&mut writer, 2, cell);
        writer.reclaim(9);
        drop(writer);
        shard.join().expect("no panic");
    });
}

//! A connection goes from one shard to another while the two are at different points of the stream.

use super::driver::{Frame, Setup, World, data_of};
use super::watches::event;
use zoo::base::ShardId;

const FROM: usize = 0;
const TO: usize = 1;

/// Two changes of a watched node, before and behind the point at which its watcher moves.
fn move_a_watcher(taker_first: bool) {
    let mut w = World::new(Setup { shards: 2, ..Setup::default() });
    let ((watcher, _), (writer, _)) = (w.connect(FROM), w.connect(TO));
    w.create(writer, "/n", "1", 0);
    w.settle();
    w.get(watcher, "/n", true);
    w.settle();
    (w.take(watcher), w.take(writer));
    w.give_away(FROM, ShardId(TO as u16), 1);
    assert!(w.between_step() && w.between_step(), "it asks for a place, and has one");
    // The replica moves the session, and then the node is changed.
    w.replica_step(usize::MAX);
    w.set(writer, "/n", "2");
    w.deliver(writer, usize::MAX);
    w.replica_step(usize::MAX);
    while w.disk_step() {}
    for shard in if taker_first { [TO, FROM] } else { [FROM, TO] } {
        while w.shard_step(shard) {}
    }
    assert_eq!(w.take(watcher), [], "the change is behind the point at which it goes");
    assert!(w.between_step() && w.moves == 1);
    w.get(watcher, "/n", false);
    w.get(writer, "/n", false);
    w.settle();
    let frames = w.take(watcher);
    assert_eq!(frames[0], event(4, 3, "/n"), "told by the shard that had passed it before the connection came: {frames:?}");
    assert_eq!((data_of(&frames[1]).as_str(), frames.len()), ("2", 2));
    w.set(writer, "/n", "3");
    w.set(watcher, "/n", "4");
    w.settle();
    let frames = w.take(watcher);
    assert!(matches!(frames[..], [Frame::Reply { err: 0, .. }]), "the watch is spent, and the session is its connection's: {frames:?}");
}

#[test]
fn a_watch_fires_once_when_its_connection_moves_to_a_shard_that_is_ahead() {
    move_a_watcher(true);
}

#[test]
fn a_watch_fires_once_when_its_connection_moves_from_a_shard_that_is_ahead() {
    move_a_watcher(false);
}

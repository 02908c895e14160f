//! Which watches this client has set, whom each one tells, and what has to be set again on another connection.

use crate::base::jute::Writer;
use crate::base::path;
use crate::proto::{EventType, OpCode};
use std::collections::{BTreeMap, BTreeSet};

/// The kinds of watches, as clients know them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum WatchKind {
    /// One change of a node's data, or its end.
    Data,
    /// The creation of a node that does not exist.
    Exist,
    /// One change of the names of a node's children, or the node's end.
    Child,
    /// Every change of a node.
    Persistent,
    /// Every change of a node and all below it.
    Recursive,
}

impl WatchKind {
    const ALL: [WatchKind; 5] = [WatchKind::Data, WatchKind::Exist, WatchKind::Child, WatchKind::Persistent, WatchKind::Recursive];

    const fn fires_once(self) -> bool {
        matches!(self, WatchKind::Data | WatchKind::Exist | WatchKind::Child)
    }
}

/// Which of a client's watches on a node are meant when they are removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(i32)]
pub enum WatcherType {
    /// Those of one change of the names of its children.
    Children = 1,
    /// Those of one change of its data, or of its creation.
    Data = 2,
    /// All.
    Any = 3,
    /// Those that stay and are for this node alone.
    Persistent = 4,
    /// Those that stay and are for all below it, too.
    PersistentRecursive = 5,
}

impl WatcherType {
    /// Is a watch of this kind meant?
    #[must_use]
    pub const fn includes(self, kind: WatchKind) -> bool {
        match self {
            WatcherType::Any => true,
            WatcherType::Children => matches!(kind, WatchKind::Child),
            WatcherType::Data => matches!(kind, WatchKind::Data | WatchKind::Exist),
            WatcherType::Persistent => matches!(kind, WatchKind::Persistent),
            WatcherType::PersistentRecursive => matches!(kind, WatchKind::Recursive),
        }
    }
}

/// Whom a watch tells.
pub trait Sink: Clone {
    /// Still listens?
    fn is_wanted(&self) -> bool;
}

/// Bytes of paths in one setWatches request, as Java's client has it: well below the server's limit for a frame.
const SET_WATCHES_BYTES_MAX: usize = 128 << 10;

/// Watches that are added before those nobody listens to any more are looked for.
const SWEEP_MIN: usize = 64;

/// All watches of a client, by absolute path.
#[derive(Debug)]
pub(super) struct Watches<W> {
    by_kind: [BTreeMap<String, Vec<W>>; 5],
    added: usize,
    /// When so many have been added, there is another look for those that nobody listens to.
    sweep_at: usize,
}

impl<W: Sink> Watches<W> {
    pub(super) fn new() -> Self {
        Watches { by_kind: Default::default(), added: 0, sweep_at: SWEEP_MIN }
    }

    /// Whoever watches, gives up and watches again leaves nothing behind: as many as there are may come before all are looked at again.
    pub(super) fn add(&mut self, kind: WatchKind, path: String, sink: W) {
        self.added += 1;
        if self.added >= self.sweep_at {
            self.sweep();
        }
        self.by_kind[kind as usize].entry(path).or_default().push(sink);
    }

    fn sweep(&mut self) {
        let mut left = 0;
        for table in &mut self.by_kind {
            table.retain(|_, sinks| {
                sinks.retain(Sink::is_wanted);
                left += sinks.len();
                !sinks.is_empty()
            });
        }
        (self.added, self.sweep_at) = (0, left.max(SWEEP_MIN));
    }

    /// Everybody who is told of this event, and whether that was the last they hear.
    pub(super) fn fire(&mut self, event: EventType, path: &str) -> Vec<(W, bool)> {
        use EventType::*;
        use WatchKind::*;
        let mut told = Vec::new();
        for kind in WatchKind::ALL {
            let concerned = match kind {
                Data => matches!(event, NodeDataChanged | NodeDeleted | NodeCreated),
                Exist => matches!(event, NodeCreated | NodeDeleted | NodeDataChanged),
                Child => matches!(event, NodeChildrenChanged | NodeDeleted),
                Persistent => true,
                Recursive => event != NodeChildrenChanged,
            };
            if !concerned {
                continue;
            }
            let table = &mut self.by_kind[kind as usize];
            if kind.fires_once() {
                told.extend(table.remove(path).unwrap_or_default().into_iter().map(|sink| (sink, true)));
            } else {
                let mut at = Some(path);
                while let Some(here) = at {
                    keep_wanted(table, here, &mut told);
                    at = if kind == Recursive { path::parent(here) } else { None };
                }
            }
        }
        told.retain(|(sink, _)| sink.is_wanted());
        told
    }

    /// Forgets these watches on a node; whoever was told by them is returned.
    pub(super) fn remove(&mut self, path: &str, which: WatcherType) -> Vec<W> {
        let tables = WatchKind::ALL.into_iter().zip(&mut self.by_kind).filter(|(kind, _)| which.includes(*kind));
        tables.flat_map(|(_, table)| table.remove(path).unwrap_or_default()).collect()
    }

    /// Everybody, at the end of the session.
    pub(super) fn drain(&mut self) -> Vec<W> {
        self.by_kind.iter_mut().flat_map(|table| std::mem::take(table).into_values().flatten()).collect()
    }

    /// The requests, operation and body, that set all of them again. A server answers with what was missed since `zxid`.
    pub(super) fn set_again(&mut self, zxid: i64) -> Vec<(OpCode, Vec<u8>)> {
        let mut requests = Vec::new();
        let mut group: [BTreeSet<&str>; 5] = Default::default();
        let mut bytes = 0;
        self.sweep();
        for kind in WatchKind::ALL {
            for path in self.by_kind[kind as usize].keys() {
                if bytes + path.len() > SET_WATCHES_BYTES_MAX && bytes > 0 {
                    requests.push(set_watches(zxid, &group));
                    group = Default::default();
                    bytes = 0;
                }
                group[kind as usize].insert(path);
                bytes += path.len() + 4;
            }
        }
        if bytes > 0 {
            requests.push(set_watches(zxid, &group));
        }
        requests
    }
}

fn keep_wanted<W: Sink>(table: &mut BTreeMap<String, Vec<W>>, path: &str, told: &mut Vec<(W, bool)>) {
    if let Some(sinks) = table.get_mut(path) {
        sinks.retain(Sink::is_wanted);
        told.extend(sinks.iter().map(|sink| (sink.clone(), false)));
        if sinks.is_empty() {
            table.remove(path);
        }
    }
}

fn set_watches(zxid: i64, group: &[BTreeSet<&str>; 5]) -> (OpCode, Vec<u8>) {
    // Servers before 3.6 know nothing of watches that stay.
    let lists = if group[3].is_empty() && group[4].is_empty() { 3 } else { 5 };
    let mut body = Vec::new();
    body.put_i64(zxid);
    for paths in &group[..lists] {
        body.put_len(paths.len());
        for path in paths {
            body.put_string(path);
        }
    }
    (if lists == 3 { OpCode::SetWatches } else { OpCode::SetWatches2 }, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Reader;
    use crate::proto::Request;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct To(&'static str);
    impl Sink for To {
        fn is_wanted(&self) -> bool {
            self.0 != "gone"
        }
    }

    #[test]
    fn each_event_tells_those_it_concerns_and_one_shot_watches_once() {
        use EventType::*;
        let mut w = Watches::new();
        let set = |w: &mut Watches<To>| {
            w.by_kind = Default::default();
            for (kind, name) in [
                (WatchKind::Data, "data"),
                (WatchKind::Exist, "exist"),
                (WatchKind::Child, "child"),
                (WatchKind::Persistent, "persistent"),
                (WatchKind::Recursive, "recursive"),
                (WatchKind::Data, "gone"),
            ] {
                w.add(kind, "/a".into(), To(name));
            }
        };
        for (event, told, again) in [
            (NodeCreated, vec!["data", "exist", "persistent", "recursive"], vec!["persistent", "recursive"]),
            (NodeDataChanged, vec!["data", "exist", "persistent", "recursive"], vec!["persistent", "recursive"]),
            (NodeDeleted, vec!["data", "exist", "child", "persistent", "recursive"], vec!["persistent", "recursive"]),
            (NodeChildrenChanged, vec!["child", "persistent"], vec!["persistent"]),
        ] {
            set(&mut w);
            assert_eq!(w.fire(event, "/a").iter().map(|t| t.0.0).collect::<Vec<_>>(), told, "{event:?}");
            assert_eq!(w.fire(event, "/a").iter().map(|t| t.0.0).collect::<Vec<_>>(), again, "{event:?} again");
        }
        set(&mut w);
        assert_eq!(w.fire(NodeCreated, "/a/b/c"), [(To("recursive"), false)]);
        assert_eq!(w.fire(NodeCreated, "/ab"), []);
        assert_eq!(w.remove("/a", WatcherType::PersistentRecursive), [To("recursive")]);
        assert_eq!(w.remove("/a", WatcherType::Data).len(), 3);
        assert_eq!(w.remove("/a", WatcherType::Any).len(), 2);
        assert_eq!(w.drain(), []);
    }

    #[test]
    fn watches_that_nobody_listens_to_any_more_do_not_pile_up() {
        let mut w = Watches::new();
        w.add(WatchKind::Data, "/kept".into(), To("kept"));
        let count = |w: &Watches<To>| w.by_kind.iter().flat_map(BTreeMap::values).map(Vec::len).sum::<usize>();
        for i in 0..10_000 {
            w.add(WatchKind::Child, "/same".into(), To("gone"));
            w.add(WatchKind::Exist, format!("/{i}"), To("gone"));
            assert!(count(&w) <= SWEEP_MIN + 1);
        }
        assert_eq!(w.fire(EventType::NodeDataChanged, "/kept"), [(To("kept"), true)]);
    }

    #[test]
    fn watches_are_set_again_in_requests_of_bounded_size() {
        let mut w = Watches::new();
        for i in 0..3000 {
            w.add(WatchKind::Child, format!("/{i:0100}"), To("x"));
        }
        w.add(WatchKind::Recursive, "/r".into(), To("x"));
        w.add(WatchKind::Data, "/unwanted".into(), To("gone"));
        let requests = w.set_again(7);
        assert_eq!(requests.iter().map(|(op, _)| *op).collect::<Vec<_>>(), [OpCode::SetWatches, OpCode::SetWatches, OpCode::SetWatches2]);
        let mut children = 0;
        for (op, body) in &requests {
            assert!(body.len() < SET_WATCHES_BYTES_MAX + 1000);
            match Request::decode(*op, &mut Reader::new(body)).expect("what a server understands") {
                Request::SetWatches(lists) => {
                    assert_eq!((lists.relative_zxid, lists.data.len()), (7, 0));
                    children += lists.child.len();
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(children, 3000);
    }
}

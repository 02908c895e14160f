//! Answers too long for one turn, made in pieces at a held zxid (rule B5): children, a session's ephemerals, the number of nodes below one.
//!
//! A reply says its length first, so a listing is walked twice: measured, then written. The alternative, a sum of the names' lengths in
//! every set of children, would cost memory in every parent and time at every create and delete for the sake of rare requests; a second
//! walk costs the one that asks, about 0.05 µs a child.

use super::read::TreeReader;
use super::store::{CellId, Hold};
use crate::base::stat::STAT_WIRE_BYTES;
use crate::base::{Auth, Writer as _, Zxid, path};
use crate::proto::ErrorCode;
use imbl::OrdSet;
use std::ops::Bound;
use zerocopy::IntoBytes as _;

/// One answer on its way. Keeps the nodes as they are at its zxid, at the cost of one old version per node changed since.
pub struct Listing {
    hold: Hold,
    what: What,
    /// Nodes found.
    count: usize,
    /// Bytes of the body.
    bytes: usize,
    begun: bool,
}

enum What {
    Children {
        of: CellId,
        with_stat: bool,
        after: Option<CellId>,
    },
    Ephemerals {
        cells: OrdSet<u32>,
        prefix: String,
        after: Option<CellId>,
    },
    /// Where the walk stands, from the top down: a node and the last of its children that was looked at.
    Below {
        walk: Vec<(CellId, Option<CellId>)>,
    },
}

impl TreeReader {
    /// The children of a node, as getChildren gives them.
    pub fn list_children(&self, at: Zxid, path: &str, with_stat: bool, auth: &Auth) -> Result<Listing, ErrorCode> {
        let of = self.readable(at, path, auth)?.cell();
        Ok(self.listing(at, What::Children { of, with_stat, after: None }))
    }

    /// How many nodes lie below one, as getAllChildrenNumber gives it.
    pub fn count_below(&self, at: Zxid, path: &str, auth: &Auth) -> Result<Listing, ErrorCode> {
        let top = self.readable(at, path, auth)?.cell();
        Ok(self.listing(at, What::Below { walk: vec![(top, None)] }))
    }

    /// The paths of these nodes that start with `prefix`, as getEphemerals gives them, in the order of their cells.
    pub fn list_ephemerals(&self, at: Zxid, cells: OrdSet<u32>, prefix: &str) -> Listing {
        self.listing(at, What::Ephemerals { cells, prefix: prefix.to_owned(), after: None })
    }

    fn listing(&self, at: Zxid, what: What) -> Listing {
        Listing { hold: self.hold(at), what, count: 0, bytes: 0, begun: false }
    }
}

impl Listing {
    /// The zxid it shows.
    pub fn zxid(&self) -> Zxid {
        self.hold.zxid()
    }

    /// Looks at `visits` nodes more; the length of the body once it is known.
    pub fn measure(&mut self, visits: usize) -> Option<usize> {
        let (count, bytes) = (&mut self.count, &mut self.bytes);
        let whole = self.what.walk(&self.hold, visits, |name| {
            *count += 1;
            *bytes += 4 + name.len();
            true
        });
        self.hold.quiesce();
        whole.then(|| {
            self.what.rewind();
            self.bytes = 4 + match self.what {
                What::Children { with_stat, .. } => self.bytes + if with_stat { STAT_WIRE_BYTES } else { 0 },
                What::Ephemerals { .. } => self.bytes,
                What::Below { .. } => 0,
            };
            self.bytes
        })
    }

    /// After it has been measured: appends what `visits` nodes add to the body, or little more than `bytes`; true when the body is whole.
    pub fn write(&mut self, visits: usize, bytes: usize, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        if !std::mem::replace(&mut self.begun, true) {
            out.put_i32(i32::try_from(self.count).unwrap_or(i32::MAX));
        }
        let whole = self.what.walk(&self.hold, visits, |name| {
            out.put_string(name);
            out.len() - start < bytes
        });
        if whole && let What::Children { of, with_stat: true, .. } = self.what {
            let node = self.hold.node(of).expect("a node is there as long as its zxid is held");
            out.put_raw(node.stat().as_bytes());
        }
        self.hold.quiesce();
        self.bytes -= out.len() - start;
        assert!(!whole || self.bytes == 0, "a held listing is as long as it was measured");
        whole
    }
}

impl What {
    /// Goes on where it stands for at most `visits` nodes, as long as `each` wants more; true when there is nothing left.
    fn walk(&mut self, hold: &Hold, visits: usize, mut each: impl FnMut(&str) -> bool) -> bool {
        match self {
            What::Children { of, after, .. } => {
                let node = hold.node(*of).expect("a node is there as long as its zxid is held");
                let from = *after;
                some(node.children_after(from), visits, after, |cell| hold.node(cell).is_none_or(|child| each(path::name(child.path()))))
            }
            What::Ephemerals { cells, prefix, after } => {
                let from = after.map_or(Bound::Unbounded, |cell| Bound::Excluded(cell.0));
                let rest = cells.range((from, Bound::Unbounded)).map(|cell| CellId(*cell));
                some(rest, visits, after, |cell| {
                    hold.node(cell).is_none_or(|node| !node.path().starts_with(prefix.as_str()) || each(node.path()))
                })
            }
            What::Below { walk } => walk_below(walk, hold, visits, |cell| {
                each("");
                hold.node(cell).is_some_and(|node| node.children_len() > 0)
            }),
        }
    }

    fn rewind(&mut self) {
        match self {
            What::Children { after, .. } | What::Ephemerals { after, .. } => *after = None,
            What::Below { .. } => {}
        }
    }
}

/// Calls `each` for at most `visits` of these, until it says no, and notes the last one; true when there is nothing left.
fn some(cells: impl Iterator<Item = CellId>, visits: usize, last: &mut Option<CellId>, mut each: impl FnMut(CellId) -> bool) -> bool {
    let mut left = visits;
    for cell in cells {
        if left == 0 {
            return false;
        }
        left -= 1;
        *last = Some(cell);
        if !each(cell) {
            left = 0;
        }
    }
    true
}

/// The same for all nodes below the first of `walk`; `each` says whether a node has children of its own.
fn walk_below(walk: &mut Vec<(CellId, Option<CellId>)>, hold: &Hold, visits: usize, mut each: impl FnMut(CellId) -> bool) -> bool {
    let mut left = visits;
    while let Some((of, after)) = walk.last_mut() {
        let node = hold.node(*of).expect("a node is there as long as its zxid is held");
        let mut deeper = None;
        for cell in node.children_after(*after) {
            if left == 0 {
                return false;
            }
            left -= 1;
            *after = Some(cell);
            if each(cell) {
                deeper = Some((cell, None));
                break;
            }
        }
        match deeper {
            Some(place) => walk.push(place),
            None => drop(walk.pop()),
        }
    }
    true
}

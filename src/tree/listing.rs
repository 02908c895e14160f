//! Answers too long for one turn, made in pieces at a held zxid (rule B5): children, a session's ephemerals, the number of nodes below one,
//! all that a multiRead asks for.
//!
//! A reply says its length first, so a listing is walked twice: measured, then written. The alternative, a sum of the names' lengths in
//! every set of children, would cost memory in every parent and time at every create and delete for the sake of rare requests; a second
//! walk costs the one that asks, about 0.05 µs a child.

use super::multi_read::Parts;
use super::read::TreeReader;
use super::store::{CellId, Hold};
use crate::base::stat::STAT_WIRE_BYTES;
use crate::base::{Auth, Writer, Zxid, path};
use crate::proto::{ErrorCode, Request};
use imbl::OrdSet;
use std::ops::Bound;
use zerocopy::IntoBytes as _;

/// One answer on its way. Keeps the nodes as they are at its zxid, at the cost of one old version per node changed since.
pub struct Listing {
    hold: Hold,
    what: What,
    measured: Measured,
    /// Bytes of the body that are still to be written, once it has been measured.
    left: Option<usize>,
    begun: bool,
}

/// What a walk is written to.
pub(super) trait Sink: Writer {
    fn written(&self) -> usize;
    fn make_room(&mut self, _bytes: usize) {}
}

impl Sink for Vec<u8> {
    fn written(&self) -> usize {
        self.len()
    }
    fn make_room(&mut self, bytes: usize) {
        self.reserve(bytes);
    }
}

/// Keeps nothing but how much there is.
#[derive(Default)]
struct Measured {
    names: usize,
    bytes: usize,
}

impl Writer for Measured {
    fn put_raw(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
    }
    fn put_string(&mut self, name: &str) {
        self.names += 1;
        self.bytes += 4 + name.len();
    }
}

impl Sink for Measured {
    fn written(&self) -> usize {
        self.bytes
    }
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
    Parts(Parts),
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

    /// What these reads answer together, as multiRead gives it.
    pub fn multi_read(&self, at: Zxid, parts: &[Request<'_>], auth: &Auth) -> Listing {
        self.listing(at, What::Parts(Parts::new(parts, auth, self.skip_acl)))
    }

    fn listing(&self, at: Zxid, what: What) -> Listing {
        Listing { hold: self.hold(at), what, measured: Measured::default(), left: None, begun: false }
    }
}

impl Listing {
    /// The zxid it shows.
    pub fn zxid(&self) -> Zxid {
        self.hold.zxid()
    }

    /// Looks at `visits` nodes more; the length of the body once it is known.
    pub fn measure(&mut self, visits: usize) -> Option<usize> {
        if self.left.is_none() && self.what.walk(&self.hold, visits, usize::MAX, &mut self.measured) {
            self.what.rewind();
            let bytes = self.measured.bytes;
            self.left = Some(match self.what {
                What::Children { with_stat, .. } => 4 + bytes + if with_stat { STAT_WIRE_BYTES } else { 0 },
                What::Ephemerals { .. } => 4 + bytes,
                What::Below { .. } => 4,
                What::Parts(_) => bytes,
            });
        }
        self.hold.quiesce();
        self.left
    }

    /// After it has been measured: appends what `visits` nodes add to the body, or little more than `bytes`; true when the body is whole.
    pub fn write(&mut self, visits: usize, bytes: usize, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        if !std::mem::replace(&mut self.begun, true) && !matches!(self.what, What::Parts(_)) {
            out.put_i32(i32::try_from(self.measured.names).unwrap_or(i32::MAX));
        }
        let whole = self.what.walk(&self.hold, visits, bytes, out);
        if whole && let What::Children { of, with_stat: true, .. } = self.what {
            let node = self.hold.node(of).expect("a node is there as long as its zxid is held");
            out.put_raw(node.stat().as_bytes());
        }
        self.hold.quiesce();
        let left = self.left.and_then(|left| left.checked_sub(out.len() - start)).expect("a held listing is as long as it was measured");
        assert!(!whole || left == 0, "a held listing is as long as it was measured");
        self.left = Some(left);
        whole
    }
}

impl What {
    /// Goes on where it stands for at most `visits` nodes, or little more than `bytes`; true when there is nothing left.
    fn walk(&mut self, hold: &Hold, visits: usize, bytes: usize, out: &mut impl Sink) -> bool {
        let start = out.written();
        let mut name = |name: &str| {
            out.put_string(name);
            out.written() - start < bytes
        };
        match self {
            What::Children { of, after, .. } => {
                let node = hold.node(*of).expect("a node is there as long as its zxid is held");
                let from = *after;
                some(node.children_after(from), visits, after, |cell| hold.node(cell).is_none_or(|child| name(path::name(child.path()))))
            }
            What::Ephemerals { cells, prefix, after } => {
                let from = after.map_or(Bound::Unbounded, |cell| Bound::Excluded(cell.0));
                let rest = cells.range((from, Bound::Unbounded)).map(|cell| CellId(*cell));
                some(rest, visits, after, |cell| {
                    hold.node(cell).is_none_or(|node| !node.path().starts_with(prefix.as_str()) || name(node.path()))
                })
            }
            What::Below { walk } => walk_below(walk, hold, visits, |cell| {
                name("");
                hold.node(cell).is_some_and(|node| node.children_len() > 0)
            }),
            What::Parts(parts) => parts.walk(hold, visits, bytes, out),
        }
    }

    fn rewind(&mut self) {
        match self {
            What::Children { after, .. } | What::Ephemerals { after, .. } => *after = None,
            What::Below { .. } => {}
            What::Parts(parts) => parts.rewind(),
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

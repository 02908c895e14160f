//! What a multiRead answers, part by part: data, children, or why not.

use super::listing::Sink;
use super::permits;
use super::store::{CellId, Hold, NodeView};
use crate::base::stat::STAT_WIRE_BYTES;
use crate::base::{Auth, Perms, path};
use crate::proto::response::{write_multi_end, write_multi_error, write_multi_ok};
use crate::proto::{ErrorCode, OpCode, Request};
use zerocopy::IntoBytes as _;

/// The parts as they were asked for, and where the walk through them stands.
pub(super) struct Parts {
    /// All paths, one behind the other.
    paths: String,
    asked: Vec<Asked>,
    auth: Auth,
    skip_acl: bool,
    /// The part that comes next, and where its path begins.
    next: (usize, usize),
    /// Within the children of a node: the last one that was looked at.
    inside: Option<(CellId, Option<CellId>)>,
}

struct Asked {
    op: Option<OpCode>,
    path_end: usize,
}

impl Parts {
    pub(super) fn new(requests: &[Request<'_>], auth: &Auth, skip_acl: bool) -> Self {
        let mut paths = String::new();
        let asked = requests.iter().map(|request| {
            let (op, path) = match *request {
                Request::GetData { path, .. } => (Some(OpCode::GetData), path),
                Request::GetChildren { path, .. } => (Some(OpCode::GetChildren), path),
                _ => (None, ""),
            };
            paths.push_str(path);
            Asked { op, path_end: paths.len() }
        });
        let asked = asked.collect();
        Parts { paths, asked, auth: auth.clone(), skip_acl, next: (0, 0), inside: None }
    }

    pub(super) fn rewind(&mut self) {
        (self.next, self.inside) = ((0, 0), None);
    }

    /// Writes on where it stands, for at most `visits` nodes or little more than `bytes`; true when the body is whole.
    pub(super) fn walk(&mut self, hold: &Hold, visits: usize, bytes: usize, out: &mut impl Sink) -> bool {
        let (start, mut left) = (out.written(), visits);
        loop {
            if let Some((of, after)) = &mut self.inside {
                let node = hold.node(*of).expect("a node is there as long as its zxid is held");
                for cell in node.children_after(*after) {
                    if left == 0 || out.written() - start >= bytes {
                        return false;
                    }
                    left -= 1;
                    *after = Some(cell);
                    let child = hold.node(cell).expect("a child is there as long as its parent is held");
                    out.put_string(path::name(child.path()));
                }
                self.inside = None;
            }
            if left == 0 || out.written() - start >= bytes {
                return false;
            }
            left -= 1;
            if !self.begin_next(hold, out) {
                write_multi_end(out);
                return true;
            }
        }
    }

    /// False when there is no further part.
    fn begin_next(&mut self, hold: &Hold, out: &mut impl Sink) -> bool {
        let (number, path_start) = self.next;
        let Some(asked) = self.asked.get(number) else { return false };
        self.next = (number + 1, asked.path_end);
        let path = &self.paths[path_start..asked.path_end];
        match (asked.op, self.readable(hold, path)) {
            (Some(op @ OpCode::GetChildren), Ok(node)) => {
                write_multi_ok(out, op);
                out.put_len(node.children_len());
                self.inside = Some((node.cell(), None));
            }
            (Some(op), Ok(node)) => {
                write_multi_ok(out, op);
                out.make_room(4 + node.data().map_or(0, <[u8]>::len) + STAT_WIRE_BYTES);
                out.put_buffer(node.data());
                out.put_raw(node.stat().as_bytes());
            }
            (None, _) => write_multi_error(out, ErrorCode::Marshalling),
            (_, Err(err)) => write_multi_error(out, err),
        }
        true
    }

    fn readable<'a>(&self, hold: &'a Hold, path: &str) -> Result<NodeView<'a>, ErrorCode> {
        let node = hold.get(if path.is_empty() { super::znode::ROOT } else { path }).ok_or(ErrorCode::NoNode)?;
        if permits(node.acl(), Perms::READ, &self.auth, self.skip_acl) { Ok(node) } else { Err(ErrorCode::NoAuth) }
    }
}

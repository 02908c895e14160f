//! Reads at a zxid, written straight from the stored node into the output buffer (rule A4: the caller says which zxid). getData and
//! exists allocate nothing; a listing walks the children set once.

use super::permits;
use super::store::{CellId, Hold, NodeView, Reader};
use crate::base::acl::AclEntry;
use crate::base::{Auth, Perms, Writer as _, Zxid, path};
use crate::proto::ErrorCode;
use zerocopy::IntoBytes as _;

/// One shard's view. Reads are answered at a given zxid between `low` and the burst's.
pub struct TreeReader {
    reader: Reader,
    pub(super) skip_acl: bool,
}

impl TreeReader {
    pub(super) fn new(reader: Reader, skip_acl: bool) -> Self {
        TreeReader { reader, skip_acl }
    }
    /// Starts or continues reading; returns `applied` as loaded (rules A3, A5).
    pub fn begin_burst(&mut self) -> Zxid {
        self.reader.begin_burst()
    }
    /// `applied`, without registering: only to decide whether to begin a burst.
    pub fn applied(&self) -> Zxid {
        self.reader.applied()
    }
    /// Raises the lowest zxid this reader may still read at.
    pub fn set_low(&mut self, zxid: Zxid) {
        self.reader.set_low(zxid);
    }
    /// Nothing more to read: holds nothing.
    pub fn park(&mut self) {
        self.reader.park();
    }

    /// getData body: buffer + Stat.
    pub fn get_data(&self, at: Zxid, path: &str, auth: &Auth, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let node = self.readable(at, path, auth)?;
        let data = node.data();
        out.reserve(4 + data.map_or(0, <[u8]>::len) + crate::base::stat::STAT_WIRE_BYTES);
        out.put_buffer(data);
        out.put_raw(node.stat().as_bytes());
        Ok(())
    }

    /// exists body: Stat. A path with NUL is a bad argument, only here.
    pub fn exists(&self, at: Zxid, path: &str, auth: &Auth, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        if path.contains('\0') {
            return Err(ErrorCode::BadArguments);
        }
        let node = self.readable(at, path, auth)?;
        out.put_raw(node.stat().as_bytes());
        Ok(())
    }

    /// getChildren body: names, and the Stat if asked for. False, and nothing appended, when there are more than `most` children or much
    /// more than `bytes` of names: then it is for `list_children`.
    pub fn get_children(
        &self,
        at: Zxid,
        path: &str,
        with_stat: bool,
        auth: &Auth,
        (most, bytes): (usize, usize),
        out: &mut Vec<u8>,
    ) -> Result<bool, ErrorCode> {
        let node = self.readable(at, path, auth)?;
        if node.children_len() > most {
            return Ok(false);
        }
        let start = out.len();
        out.put_len(node.children_len());
        for child in node.children().filter_map(|c| self.reader.node(c, at)) {
            out.put_string(path::name(child.path()));
            if out.len() - start > bytes {
                out.truncate(start);
                return Ok(false);
            }
        }
        if with_stat {
            out.put_raw(node.stat().as_bytes());
        }
        Ok(true)
    }

    /// How many children a node has, for who may not even read it: to judge how long an answer may become.
    pub fn children_len(&self, at: Zxid, path: &str) -> usize {
        self.node(at, path).map_or(0, |node| node.children_len())
    }

    /// getEphemerals body: the paths of these nodes that start with `prefix`, sorted.
    pub fn get_ephemerals(&self, at: Zxid, cells: impl Iterator<Item = u32>, prefix: &str, out: &mut Vec<u8>) {
        let nodes = cells.filter_map(|cell| self.reader.node(CellId(cell), at)).filter(|node| node.path().starts_with(prefix));
        let nodes: Vec<NodeView<'_>> = nodes.collect();
        let mut paths: Vec<&str> = nodes.iter().map(NodeView::path).collect();
        paths.sort_unstable();
        out.put_len(paths.len());
        paths.into_iter().for_each(|path| out.put_string(path));
    }

    /// getACL body: the list and the Stat. Who may not administer the node sees digest identities without their hash.
    pub fn get_acl(&self, at: Zxid, path: &str, auth: &Auth, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let node = self.node(at, path).ok_or(ErrorCode::NoNode)?;
        let acl = node.acl();
        if !permits(acl, Perms(Perms::READ.0 | Perms::ADMIN.0), auth, self.skip_acl) {
            return Err(ErrorCode::NoAuth);
        }
        let list = acl.entries();
        out.put_len(list.len());
        if permits(acl, Perms::ADMIN, auth, self.skip_acl) {
            list.iter().for_each(|entry| entry.write(out));
        } else {
            list.iter().for_each(|entry| write_masked(&entry, out));
        }
        out.put_raw(node.stat().as_bytes());
        Ok(())
    }

    /// (mzxid, pzxid) for setWatches, no ACL check.
    pub fn change_zxids(&self, at: Zxid, path: &str) -> Option<(i64, i64)> {
        let node = self.node(at, path)?;
        let stat = node.stat();
        Some((stat.mzxid.get(), stat.pzxid.get()))
    }

    /// A node by path; "" is another name for the root.
    fn node(&self, at: Zxid, path: &str) -> Option<NodeView<'_>> {
        self.reader.get(if path.is_empty() { super::znode::ROOT } else { path }, at)
    }
    pub(super) fn readable(&self, at: Zxid, path: &str, auth: &Auth) -> Result<NodeView<'_>, ErrorCode> {
        let node = self.node(at, path).ok_or(ErrorCode::NoNode)?;
        if permits(node.acl(), Perms::READ, auth, self.skip_acl) { Ok(node) } else { Err(ErrorCode::NoAuth) }
    }
    /// The nodes as they are at `at`, for a long time.
    pub(super) fn hold(&self, at: Zxid) -> Hold {
        self.reader.hold(at)
    }
}

fn write_masked(entry: &AclEntry<'_>, out: &mut Vec<u8>) {
    out.put_i32(entry.perms);
    out.put_string(entry.scheme);
    match entry.id.split_once(':') {
        Some((user, _)) if entry.scheme == "digest" => {
            out.put_len(user.len() + 2);
            out.put_raw(user.as_bytes());
            out.put_raw(b":x");
        }
        _ => out.put_string(entry.id),
    }
}

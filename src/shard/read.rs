//! Reads: answered from the shared tree at this shard's zxid and from its own watch tables, in one step with the watch they set.

use super::listing::Piecewise;
use super::route::Answered;
use super::watch::{ClientSlot, Modes, Table, Watches};
use super::{Close, Shard, ShardConfig};
use crate::base::limits::LISTING_BYTES_AHEAD;
use crate::base::{Auth, ConnId, Instant, Reader, Writer, Xid, Zxid};
use crate::conn::{Connection, auth};
use crate::proto::event::{ZXID_REPLAYED, write_notification};
use crate::proto::request::{RequestHeader, SetWatches};
use crate::proto::response::{ReplyFrame, write_header_only};
use crate::proto::{ErrorCode, EventType, OpClass, OpCode, Request};
use crate::tree::{Listing, TreeReader};

/// zxid in the reply to a request type that does not exist.
const ZXID_UNIMPLEMENTED: i64 = -1;
/// addWatch modes.
const ADD_PERSISTENT: i32 = 0;
const ADD_RECURSIVE: i32 = 1;

/// What a read may look at.
struct Reading<'a> {
    tree: &'a TreeReader,
    watches: &'a mut Watches,
    config: &'a ShardConfig,
    client: ClientSlot,
    auth: &'a Auth,
    at: Zxid,
    /// An answer that is too long for a turn can be made in pieces; otherwise it is made at once.
    in_pieces: bool,
    /// Notifications written.
    events: u64,
}

impl Shard {
    /// Serves one request at the current zxid; nothing of the session is in front of it.
    pub(super) fn serve(&mut self, now: Instant, id: ConnId, frame: &[u8], received: Instant) {
        let Some(slot) = self.clients.slot(id) else { return };
        let in_pieces = self.takes_listing(id);
        let Some(client) = self.clients.at_mut(slot) else { return };
        let mut body = Reader::new(frame);
        let Ok(header) = RequestHeader::read(&mut body) else { return };
        let Connection { output, read_auth, read_only, .. } = &mut client.conn;
        let out = output.writer();
        let start = out.len();
        if *read_only && OpCode::from_i32(header.op).is_some_and(OpCode::needs_quorum) {
            write_header_only(out, header.xid, self.at.as_i64(), ErrorCode::NotReadOnly);
            let bytes = out.len() - start;
            return self.replied(id, bytes);
        }
        let op = OpCode::from_i32(header.op).filter(|op| op.class() != OpClass::Refused);
        let Some(op) = op else {
            write_header_only(out, header.xid, ZXID_UNIMPLEMENTED, ErrorCode::Unimplemented);
            self.totals.sent += 1;
            self.end(now, id, Some(Close::AfterOutput));
            return;
        };
        let mut reading = Reading {
            tree: &self.reader,
            watches: &mut self.watches,
            config: &self.config,
            client: slot,
            auth: read_auth,
            at: self.at,
            in_pieces,
            events: 0,
        };
        let listing = match Request::decode(op, &mut body) {
            Ok(request) => reading.answer(header.xid, &request, out),
            Err(_) => {
                write_header_only(out, header.xid, self.at.as_i64(), ErrorCode::Marshalling);
                None
            }
        };
        self.totals.sent += reading.events;
        let bytes = out.len() - start;
        if let Some(listing) = listing {
            return self.begin_listing(id, Piecewise::new(listing, header.xid, op, received));
        }
        // A write comes here only when it cannot be decoded.
        let refused = op.class() == OpClass::Write;
        self.answered(now, id, Answered { op, refused, xid: header.xid, zxid: self.at, received, bytes, passed: None });
    }
}

impl Reading<'_> {
    /// Writes the whole reply, or nothing when it is one to be made in pieces.
    fn answer(&mut self, xid: Xid, request: &Request<'_>, out: &mut Vec<u8>) -> Option<Listing> {
        let xid = if *request == Request::Ping { Xid::PING } else { xid };
        if let Request::SetWatches(lists) = request {
            // Its events precede its reply.
            if let Err(err) = self.set_watches(lists, out) {
                write_header_only(out, xid, self.at.as_i64(), err);
                return None;
            }
        }
        let start = out.len();
        let reply = ReplyFrame::begin(out, xid, self.at);
        match self.body_or_listing(request, out) {
            Ok(None) => reply.finish(out),
            Ok(Some(listing)) => {
                out.truncate(start);
                return Some(listing);
            }
            Err(err) => reply.fail(out, err),
        }
        None
    }

    fn body_or_listing(&mut self, request: &Request<'_>, out: &mut Vec<u8>) -> Result<Option<Listing>, ErrorCode> {
        let (tree, at, auth) = (self.tree, self.at, self.auth);
        let nodes = if self.in_pieces { self.config.listing_nodes_per_turn } else { usize::MAX };
        let bytes = if self.in_pieces { LISTING_BYTES_AHEAD } else { usize::MAX };
        match *request {
            Request::GetChildren { path, watch, with_stat } => {
                self.room_for_watch(watch)?;
                let whole = tree.get_children(at, path, with_stat, auth, (nodes, bytes), out)?;
                self.watch_if(watch, Table::Child, path);
                if whole { Ok(None) } else { tree.list_children(at, path, with_stat, auth).map(Some) }
            }
            Request::GetAllChildrenNumber { path } => {
                let mut listing = tree.count_below(at, path, auth)?;
                if listing.measure(nodes).is_none() {
                    return Ok(Some(listing));
                }
                listing.write(nodes, bytes, out);
                Ok(None)
            }
            Request::MultiRead(ref parts) => {
                let mut listing = tree.multi_read(at, parts, auth);
                if listing.measure(nodes).is_none_or(|body| body > bytes) {
                    return Ok(Some(listing));
                }
                listing.write(nodes, bytes, out);
                Ok(None)
            }
            _ => self.body(request, out).map(|()| None),
        }
    }

    fn body(&mut self, request: &Request<'_>, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let (tree, at, auth) = (self.tree, self.at, self.auth);
        match *request {
            Request::Ping | Request::SetWatches(_) => Ok(()),
            Request::GetData { path, watch } => {
                self.room_for_watch(watch)?;
                tree.get_data(at, path, auth, out)?;
                self.watch_if(watch, Table::Data, path);
                Ok(())
            }
            Request::Exists { path, watch } => {
                self.room_for_watch(watch)?;
                let found = tree.exists(at, path, auth, out);
                // Also when the node is absent: that is what the watch waits for.
                if matches!(found, Ok(()) | Err(ErrorCode::NoNode)) {
                    self.watch_if(watch, Table::Data, path);
                }
                found
            }
            Request::GetAcl { path } => tree.get_acl(at, path, auth, out),
            Request::AddWatch { path, mode } => self.add_watch(path, mode, out),
            Request::CheckWatches { path, kind } => self.check_watches(path, kind),
            Request::RemoveWatches { path, kind } => self.remove_watches(path, kind),
            Request::WhoAmI => {
                auth::write_who_am_i(auth, out);
                Ok(())
            }
            // Decodes, but is answered elsewhere: `OpCode::class` says so and the router obeys.
            _ => Err(ErrorCode::Unimplemented),
        }
    }

    fn room_for_watch(&self, watch: bool) -> Result<(), ErrorCode> {
        let full = watch && self.watches.client_count(self.client) >= self.config.watches_per_session_max;
        if full { Err(ErrorCode::Marshalling) } else { Ok(()) }
    }

    fn watch_if(&mut self, watch: bool, table: Table, path: &str) {
        if watch {
            self.watches.add(table, path, self.client, Modes::STANDARD);
        }
    }

    fn add_watch(&mut self, path: &str, mode: i32, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        self.room_for_watch(true)?;
        match mode {
            ADD_PERSISTENT => self.add_persistent(path),
            ADD_RECURSIVE => self.watches.add(Table::Data, path, self.client, Modes::RECURSIVE),
            _ => return Err(ErrorCode::Marshalling),
        }
        out.put_i32(0);
        Ok(())
    }

    fn add_persistent(&mut self, path: &str) {
        self.watches.add(Table::Data, path, self.client, Modes::PERSISTENT);
        self.watches.add(Table::Child, path, self.client, Modes::PERSISTENT);
    }

    /// Watches a client had on another connection: what was missed since fires now, the rest is registered.
    fn set_watches(&mut self, lists: &SetWatches<'_>, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let wanted = lists.data.len() + lists.exist.len() + lists.child.len() + 2 * lists.persistent.len() + lists.recursive.len();
        if self.watches.client_count(self.client) + wanted > self.config.watches_per_session_max {
            return Err(ErrorCode::Marshalling);
        }
        let since = lists.relative_zxid;
        for path in lists.data.iter() {
            match self.tree.change_zxids(self.at, path) {
                None => self.replay(EventType::NodeDeleted, path, out),
                Some((mzxid, _)) if mzxid > since => self.replay(EventType::NodeDataChanged, path, out),
                Some(_) => self.watch_if(true, Table::Data, path),
            }
        }
        for path in lists.exist.iter() {
            match self.tree.change_zxids(self.at, path) {
                None => self.watch_if(true, Table::Data, path),
                Some(_) => self.replay(EventType::NodeCreated, path, out),
            }
        }
        for path in lists.child.iter() {
            match self.tree.change_zxids(self.at, path) {
                None => self.replay(EventType::NodeDeleted, path, out),
                Some((_, pzxid)) if pzxid > since => self.replay(EventType::NodeChildrenChanged, path, out),
                Some(_) => self.watch_if(true, Table::Child, path),
            }
        }
        for path in lists.persistent.iter() {
            self.add_persistent(path);
        }
        for path in lists.recursive.iter() {
            self.watches.add(Table::Data, path, self.client, Modes::RECURSIVE);
        }
        Ok(())
    }

    fn replay(&mut self, kind: EventType, path: &str, out: &mut Vec<u8>) {
        write_notification(out, ZXID_REPLAYED, kind, path);
        self.events += 1;
    }

    fn check_watches(&self, path: &str, kind: i32) -> Result<(), ErrorCode> {
        let has = |table, modes| self.watches.contains(table, path, self.client, modes);
        let found = match WatcherKind::from_i32(kind)? {
            WatcherKind::Children => has(Table::Child, Modes::STANDARD),
            WatcherKind::Data => has(Table::Data, Modes::STANDARD),
            WatcherKind::Any => has(Table::Data, Modes::ANY) || has(Table::Child, Modes::ANY),
            WatcherKind::Persistent => has(Table::Data, Modes::PERSISTENT),
            WatcherKind::Recursive => has(Table::Data, Modes::RECURSIVE),
        };
        if found { Ok(()) } else { Err(ErrorCode::NoWatcher) }
    }

    fn remove_watches(&mut self, path: &str, kind: i32) -> Result<(), ErrorCode> {
        let client = self.client;
        let mut remove = |table, modes| self.watches.remove(table, path, client, modes);
        // `|`, not `||`: both tables are cleared.
        let found = match WatcherKind::from_i32(kind)? {
            WatcherKind::Children => remove(Table::Child, Modes::STANDARD),
            WatcherKind::Data => remove(Table::Data, Modes::STANDARD),
            WatcherKind::Any => remove(Table::Data, Modes::ANY) | remove(Table::Child, Modes::ANY),
            WatcherKind::Persistent => remove(Table::Data, Modes::PERSISTENT) | remove(Table::Child, Modes::PERSISTENT),
            WatcherKind::Recursive => remove(Table::Data, Modes::RECURSIVE),
        };
        if found { Ok(()) } else { Err(ErrorCode::NoWatcher) }
    }
}

/// Watcher types of checkWatches and removeWatches.
enum WatcherKind {
    Children,
    Data,
    Any,
    Persistent,
    Recursive,
}

impl WatcherKind {
    fn from_i32(n: i32) -> Result<Self, ErrorCode> {
        Ok(match n {
            1 => WatcherKind::Children,
            2 => WatcherKind::Data,
            3 => WatcherKind::Any,
            4 => WatcherKind::Persistent,
            5 => WatcherKind::Recursive,
            _ => return Err(ErrorCode::Marshalling),
        })
    }
}

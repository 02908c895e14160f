//! Long listings, sent in pieces (rule B5): measured and made a turn's worth at a time at a held zxid, no further ahead of what the client
//! has taken than a few pieces. What else the connection is told meanwhile comes behind the listing, whose zxid is older (P10, A4).
//!
//! A connection has at most one under way. A request that may be long is not looked at while something is in front of it or too many are
//! under way: it waits among the received bytes. So what a client makes the server hold stays small.

use super::route::Answered;
use super::{Shard, ShardConfig};
use crate::base::limits::{LISTING_BYTES_AHEAD, LISTINGS_MAX};
use crate::base::{ConnId, Instant, Reader, Writer as _, Xid};
use crate::conn::Output;
use crate::proto::request::RequestHeader;
use crate::proto::response::{REPLY_HEADER_BYTES, write_header_only};
use crate::proto::{ErrorCode, OpCode, Request};
use crate::tree::Listing;

/// A reply that is being made in pieces.
pub(super) struct Piecewise {
    listing: Listing,
    xid: Xid,
    op: OpCode,
    received: Instant,
    /// Size of the whole frame, once known.
    bytes: Option<usize>,
    /// The client has to take something first.
    pub(super) waits: bool,
}

impl Piecewise {
    pub(super) fn new(listing: Listing, xid: Xid, op: OpCode, received: Instant) -> Self {
        Piecewise { listing, xid, op, received, bytes: None, waits: false }
    }

    /// Makes the next piece; true when the reply is whole.
    fn step(&mut self, config: &ShardConfig, output: &mut Output) -> bool {
        let nodes = config.listing_nodes_per_turn;
        if self.bytes.is_some() {
            return self.listing.write(nodes, LISTING_BYTES_AHEAD, output.pieces());
        }
        let Some(body) = self.listing.measure(nodes) else { return false };
        let zxid = self.listing.zxid().as_i64();
        let out = output.pieces();
        let Ok(len) = i32::try_from(REPLY_HEADER_BYTES + body) else {
            // More than a frame can say.
            write_header_only(out, self.xid, zxid, ErrorCode::Marshalling);
            self.bytes = Some(4 + REPLY_HEADER_BYTES);
            return true;
        };
        out.put_i32(len);
        out.put_i32(self.xid.0);
        out.put_i64(zxid);
        out.put_i32(0);
        self.bytes = Some(4 + REPLY_HEADER_BYTES + body);
        false
    }
}

impl Shard {
    /// Must this request wait until what is in front of it is answered, because its own answer may be long?
    pub(super) fn must_wait(&mut self, id: ConnId, frame: &[u8]) -> bool {
        let Some(client) = self.clients.get(id) else { return false };
        let full = self.clients.listings() >= LISTINGS_MAX;
        if client.conn.order.is_idle() && client.listing.is_none() && !full || !self.may_be_long(frame) {
            return false;
        }
        if let Some(client) = self.clients.get_mut(id) {
            client.must_wait = true;
            if full && !std::mem::replace(&mut client.awaits_listings, true) {
                self.listing_waits.push_back(id);
            }
        }
        true
    }

    fn may_be_long(&self, frame: &[u8]) -> bool {
        let mut body = Reader::new(frame);
        let Some(op) = RequestHeader::read(&mut body).ok().and_then(|header| OpCode::from_i32(header.op)) else { return false };
        match op {
            OpCode::GetEphemerals | OpCode::GetAllChildrenNumber | OpCode::MultiRead => true,
            OpCode::GetChildren | OpCode::GetChildren2 => match Request::decode(op, &mut body) {
                Ok(Request::GetChildren { path, .. }) => self.reader.children_len(self.at, path) > self.config.listing_nodes_per_turn,
                _ => false,
            },
            _ => false,
        }
    }

    /// Can this connection be sent a listing in pieces now?
    pub(super) fn takes_listing(&self, id: ConnId) -> bool {
        self.clients.listings() < LISTINGS_MAX && self.clients.get(id).is_some_and(|c| c.listing.is_none())
    }

    pub(super) fn begin_listing(&mut self, id: ConnId, listing: Piecewise) {
        self.clients.begin_listing(id, listing);
        self.listings.push_back(id);
    }

    /// Makes one piece of the listing whose turn it is.
    pub(super) fn next_piece(&mut self, now: Instant) {
        let Some(id) = self.listings.pop_front() else { return };
        let Some(client) = self.clients.get_mut(id) else { return };
        let Some(listing) = &mut client.listing else { return };
        if !listing.step(&self.config, &mut client.conn.output) {
            listing.waits = client.conn.output.bytes().len() >= LISTING_BYTES_AHEAD;
            if !listing.waits {
                self.listings.push_back(id);
            }
        } else if let Some(done) = self.clients.end_listing(id) {
            let (zxid, bytes) = (done.listing.zxid(), done.bytes.unwrap_or(0));
            let Piecewise { op, xid, received, .. } = *done;
            self.answered(now, id, Answered { op, refused: false, xid, zxid, received, bytes, passed: None });
            self.stop_waiting(id);
        }
        self.touched(now, id);
    }

    /// The client has taken something: the next piece can be made when that was enough.
    pub(super) fn go_on_listing(&mut self, id: ConnId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let few = client.conn.output.bytes().len() <= LISTING_BYTES_AHEAD / 2;
        if let Some(listing) = client.listing.as_mut().filter(|l| l.waits && few) {
            listing.waits = false;
            self.listings.push_back(id);
        }
    }

    /// Requests that waited because there were too many listings are looked at again, as many as there is room for.
    pub(super) fn admit_listings(&mut self) {
        let room = LISTINGS_MAX - self.clients.listings().min(LISTINGS_MAX);
        for _ in 0..room.min(self.listing_waits.len()) {
            let Some(id) = self.listing_waits.pop_front() else { return };
            if let Some(client) = self.clients.get_mut(id) {
                client.awaits_listings = false;
            }
            self.stop_waiting(id);
        }
    }

    /// What the connection's next request waited for may be over: it is looked at again.
    pub(super) fn stop_waiting(&mut self, id: ConnId) {
        if let Some(client) = self.clients.get_mut(id) {
            client.must_wait = false;
        }
        self.make_ready(id);
    }
}

//! One connection of the quorum port: packets in, packets out, and images of the tree between them.
//!
//! What is queued for a peer is bytes in one buffer, sent with one call per turn; a task waits with it only while the socket is full. An
//! image goes between what was queued before it and what is queued behind it. Invariants:
//! 1. Bytes leave in the order in which they were queued.
//! 2. The buffers are bounded; a peer beyond the bound is cut off, to come back by a synchronisation (L14).
//! 3. After a `Packet::Snap` nothing of the link is handed on before its image has been installed, or could not be.

use super::Events;
use super::log_out::LogParts;
use super::pipe::TaskEnd;
use super::snapshot_in::Receiving;
use super::socket::{PeerSocket, within};
use crate::reactor::clock;
use crate::zab::wire::packet::{self, LastIdentities};
use crate::zab::wire::{Decoded, Side};
use crate::zab::{Input, LinkId, Packet};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Received with one call; the buffer grows beyond it only for a packet that is larger.
const RECEIVE_BYTES: usize = 64 << 10;
/// A buffer that has grown beyond this is given back when it is empty.
const KEPT_BYTES: usize = 1 << 20;

/// A connection to a learner, or to the leader.
pub struct Link {
    /// Its name.
    pub id: LinkId,
    socket: PeerSocket,
    out: RefCell<Out>,
    limits: LinkLimits,
    closed: Cell<bool>,
    image_in: RefCell<ImageIn>,
    /// The reader, while it waits for what becomes of an image.
    reader: Cell<Option<Waker>>,
    /// Where this server's log is read for the learner.
    pub log: RefCell<Option<Box<dyn LogParts>>>,
    /// Whoever waits until there is room for more of it.
    drained: Cell<Option<Waker>>,
}

/// Bounds of one link's buffers.
#[derive(Clone, Copy, Debug)]
pub struct LinkLimits {
    /// Bytes that may wait for the peer: beyond it the link is closed.
    pub queued_bytes: usize,
    /// Data of the largest packet: a larger one closes the link.
    pub packet_bytes: usize,
    /// Without a byte of an image for so long the link is closed; so it is when the learner takes longer for each `IMAGE_STEP_BYTES` of one.
    pub silence: Duration,
}

/// An image holds a version of the tree and what is proposed meanwhile, so whoever takes it must go on taking it: this much in the time of
/// `LinkLimits::silence`. With the default times that is 52 KiB/s.
const IMAGE_STEP_BYTES: usize = 1 << 20;

#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    /// Of `bytes`.
    sent: usize,
    image: ImageOut,
    /// What follows the image.
    behind: Vec<u8>,
    /// A task is sending.
    busy: bool,
}

#[derive(Default)]
enum ImageOut {
    #[default]
    None,
    /// Comes when `bytes` are sent.
    Next(TaskEnd),
    UnderWay,
}

enum ImageIn {
    None,
    /// Its packet has been handed on, and the order that must follow has not come yet.
    Expected,
    /// Where it goes.
    Ordered(Receiving),
    /// Received; it is being installed.
    Received,
}

impl Link {
    /// Over a socket that is up.
    pub fn new(id: LinkId, socket: PeerSocket, limits: LinkLimits) -> Rc<Self> {
        Rc::new(Link {
            id,
            socket,
            out: RefCell::default(),
            limits,
            closed: Cell::new(false),
            image_in: RefCell::new(ImageIn::None),
            reader: Cell::new(None),
            log: RefCell::default(),
            drained: Cell::new(None),
        })
    }

    fn own_side(&self) -> Side {
        // Links this server asked for have odd numbers: it is the learner then.
        if self.id.0 % 2 == 1 { Side::Learner } else { Side::Leader }
    }

    fn other_side(&self) -> Side {
        if self.id.0 % 2 == 1 { Side::Leader } else { Side::Learner }
    }

    /// Who is at the other end, for messages.
    pub fn peer(&self) -> SocketAddr {
        self.socket.peer
    }

    /// Closes it, after a last attempt to send what is queued. Its tasks end at their next wake-up, which this causes.
    pub fn close(&self) {
        self.closed.set(true);
        let mut out = self.out.borrow_mut();
        if !out.busy {
            let _ = out.send_now(&self.socket);
        }
        out.image = ImageOut::None;
        drop(out);
        self.socket.shut();
        self.wake_reader();
        self.wake_drained();
    }

    /// It is: nothing comes or goes any more.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    // ---- out ----

    /// Queues a packet. `false`: the peer has taken too little for too long.
    #[must_use]
    pub fn queue(&self, packet: &Packet) -> bool {
        let mut out = self.out.borrow_mut();
        let to = if matches!(out.image, ImageOut::None) { &mut out.bytes } else { &mut out.behind };
        packet::encode(packet, self.own_side(), to);
        out.waiting() <= self.limits.queued_bytes
    }

    /// Queues an image and the packet that announces it; `SnapshotSent` is reported when its last byte has been given to the network.
    pub fn queue_image(&self, packet: &Packet, image: TaskEnd) {
        let mut out = self.out.borrow_mut();
        assert!(matches!(out.image, ImageOut::None), "a learner gets one image at a time");
        packet::encode(packet, self.own_side(), &mut out.bytes);
        out.image = ImageOut::Next(image);
    }

    /// Sends what is queued as far as the socket takes it; `Ok(true)`: a task has to go on with `write`.
    pub fn flush(&self) -> io::Result<bool> {
        if self.out.borrow().busy {
            return Ok(false);
        }
        let all = self.send_some()?;
        let mut out = self.out.borrow_mut();
        out.busy = !all || matches!(out.image, ImageOut::Next(_));
        Ok(out.busy)
    }

    /// Sends until everything is sent, waiting where the socket is full or an image is not ready.
    pub async fn write(&self, events: &Events) -> io::Result<()> {
        loop {
            while !self.send_some()? && !self.closed.get() {
                self.room().await?;
            }
            let image = {
                let mut out = self.out.borrow_mut();
                if self.closed.get() || !matches!(out.image, ImageOut::Next(_)) {
                    out.busy = false;
                    return Ok(());
                }
                match std::mem::replace(&mut out.image, ImageOut::UnderWay) {
                    ImageOut::Next(image) => image,
                    _ => return Ok(()),
                }
            };
            self.send_image(image).await?;
            let mut out = self.out.borrow_mut();
            out.image = ImageOut::None;
            out.bytes = std::mem::take(&mut out.behind);
            out.sent = 0;
            drop(out);
            if !self.closed.get() {
                events.links.push(Input::SnapshotSent(self.id));
            }
        }
    }

    fn send_some(&self) -> io::Result<bool> {
        let all = self.out.borrow_mut().send_now(&self.socket)?;
        self.wake_drained();
        Ok(all)
    }

    fn wake_drained(&self) {
        if let Some(waker) = self.drained.take() {
            waker.wake();
        }
    }

    /// Waits until the peer has taken all but so much of what was queued. `false`: the link is closed.
    pub async fn has_taken(&self, all_but: usize) -> bool {
        poll_fn(|cx| {
            if self.closed.get() || self.out.borrow().waiting() <= all_but {
                return Poll::Ready(());
            }
            self.drained.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
        !self.closed.get()
    }

    /// Waits until the socket takes more. What stands before an image has its time as the image has; else the broadcast core watches over it.
    async fn room(&self) -> io::Result<()> {
        if matches!(self.out.borrow().image, ImageOut::None) {
            return self.socket.writable().await;
        }
        within(self.limits.silence, self.socket.writable()).await.unwrap_or_else(too_slow)
    }

    async fn send_image(&self, image: TaskEnd) -> io::Result<()> {
        let (mut left, mut step) = (self.limits.silence, 0);
        loop {
            // Waiting for the writer does not count.
            let piece = match image.receive().await {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(()),
                Err(_) => return Err(io::Error::other("the image of the tree could not be written")),
            };
            let began = clock::now();
            within(left, self.socket.send(&piece)).await.unwrap_or_else(too_slow)?;
            left = left.saturating_sub(Duration::from_nanos(clock::now().since_ns(began)));
            step += piece.len();
            if step >= IMAGE_STEP_BYTES {
                (left, step) = (self.limits.silence, 0);
            }
        }
    }

    // ---- in ----

    /// Hands on what comes until the peer closes.
    pub async fn read(&self, events: &Events) -> io::Result<()> {
        let (mut input, mut last) = (InputBuffer::default(), LastIdentities::default());
        while !self.closed.get() {
            while let Decoded::Whole { value: packet, bytes } = self.decode(input.unread(), &mut last)? {
                input.consume(bytes);
                if matches!(packet, Packet::Snap { .. }) {
                    *self.image_in.borrow_mut() = ImageIn::Expected;
                    events.links.push(Input::Packet(self.id, packet));
                    self.read_image(&mut input).await?;
                } else {
                    self.hand_on(events, packet);
                }
            }
            // What was handed on is dealt with before more is received.
            events.links.emptied().await;
            if input.receive(&self.socket).await? == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What belongs to the packet before it is handed on with that, as one.
    fn hand_on(&self, events: &Events, packet: Packet) {
        let joined = |newest: &mut Input| match newest {
            Input::Packet(link, before) if *link == self.id => before.absorb(&packet),
            _ => false,
        };
        if !events.links.change_newest(joined) {
            events.links.push(Input::Packet(self.id, packet));
        }
    }

    fn decode(&self, bytes: &[u8], last: &mut LastIdentities) -> io::Result<Decoded<Packet>> {
        packet::decode_next(bytes, self.other_side(), self.limits.packet_bytes, last).map_err(io::Error::other)
    }

    async fn read_image(&self, input: &mut InputBuffer) -> io::Result<()> {
        let Some(mut receiving) = self.ordered().await else { return Ok(()) };
        loop {
            let (bytes, whole) = receiving.take(input.unread()).await?;
            input.consume(bytes);
            if whole {
                break;
            }
            let received = within(self.limits.silence, input.receive(&self.socket)).await;
            if received.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        *self.image_in.borrow_mut() = ImageIn::Received;
        receiving.finish();
        self.wait_while(|state| matches!(state, ImageIn::Received)).await;
        Ok(())
    }

    /// Waits for the order to receive the image; `None` when it will not come.
    async fn ordered(&self) -> Option<Receiving> {
        self.wait_while(|state| matches!(state, ImageIn::Expected)).await;
        match std::mem::replace(&mut *self.image_in.borrow_mut(), ImageIn::None) {
            ImageIn::Ordered(receiving) => Some(receiving),
            _ => None,
        }
    }

    async fn wait_while(&self, waits: impl Fn(&ImageIn) -> bool) {
        poll_fn(|cx| {
            if self.closed.get() || !waits(&self.image_in.borrow()) {
                return Poll::Ready(());
            }
            self.reader.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// The order that the `Packet::Snap` of this link has led to.
    pub fn receive_image(&self, receiving: Receiving) {
        let mut state = self.image_in.borrow_mut();
        if matches!(*state, ImageIn::Expected) {
            *state = ImageIn::Ordered(receiving);
            drop(state);
            self.wake_reader();
        }
    }

    /// The image is installed, or is not going to be: what comes behind it may be handed on.
    pub fn image_done(&self) {
        *self.image_in.borrow_mut() = ImageIn::None;
        self.wake_reader();
    }

    fn wake_reader(&self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }
}

fn too_slow<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::TimedOut, "it takes its image of the tree too slowly"))
}

impl Out {
    fn waiting(&self) -> usize {
        self.bytes.len() - self.sent + self.behind.len()
    }

    /// Sends what the socket takes of `bytes`; true when all of it went.
    fn send_now(&mut self, socket: &PeerSocket) -> io::Result<bool> {
        while self.sent < self.bytes.len() {
            match socket.send_now(&self.bytes[self.sent..])? {
                0 => {
                    // A peer that never catches up quite must not keep what it has taken.
                    if self.sent >= KEPT_BYTES {
                        self.bytes.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Ok(false);
                }
                n => self.sent += n,
            }
        }
        self.sent = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
        Ok(true)
    }
}

/// What has been received and not been used.
#[derive(Default)]
pub struct InputBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl InputBuffer {
    /// In the order received.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// So many bytes have been used.
    pub fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        assert!(self.start <= self.end);
    }

    /// Receives more; 0 is the end. The caller has seen to it that what is unread is bounded.
    pub async fn receive(&mut self, socket: &PeerSocket) -> io::Result<usize> {
        self.make_room();
        let received = socket.receive(&mut self.bytes[self.end..]).await?;
        self.end += received;
        Ok(received)
    }

    /// Moves what is unread to the front, with room behind it; what a large packet needed is given back once it is used.
    fn make_room(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == 0 && self.bytes.len() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
        if self.bytes.len() - self.end < RECEIVE_BYTES / 2 {
            self.bytes.resize((2 * self.end).max(RECEIVE_BYTES), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_grew_for_a_large_packet_and_is_used_up_takes_more() {
        let mut input = InputBuffer::default();
        while input.bytes.len() <= KEPT_BYTES {
            input.make_room();
            input.end = input.bytes.len();
        }
        input.consume(input.end);
        input.make_room();
        assert_eq!((input.unread(), input.bytes.len()), (&[][..], RECEIVE_BYTES));
        input.end = 3;
        input.consume(1);
        input.make_room();
        assert_eq!(input.unread().len(), 2);
    }
}

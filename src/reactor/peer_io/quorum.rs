//! The quorum port and the links over it: learners that connect to us while we lead, and our own connection to a leader.
//!
//! The port is answered for as long as the server runs: who may stay is decided by the broadcast core, which may learn later than a learner
//! that it leads. The end of a link is reported once, and not at all when the order to close it came from inside.

use super::cuts::call;
use super::link::{Link, LinkLimits};
use super::log_out::{self, LogAsk};
use super::snapshot_in::{History, Receiving};
use super::socket::{PeerSocket, accept_all};
use super::{Events, Members, PeerIoConfig, pipe, spawn};
use crate::base::PeerId;
use crate::zab::membership::MemberAddress;
use crate::zab::{Input, LinkId, Packet};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;

/// Links of the quorum port: every learner has one. More are closed as they come.
const LINKS_MAX: usize = 256;

/// All links of a server.
pub struct QuorumIo {
    config: Rc<PeerIoConfig>,
    events: Rc<Events>,
    members: RefCell<Members>,
    links: RefCell<BTreeMap<LinkId, Slot>>,
    /// Links with something new to send.
    dirty: RefCell<Vec<Rc<Link>>>,
    /// The name of the link accepted last.
    accepted: Cell<u64>,
}

enum Slot {
    /// The task that connects; dropping it ends the attempt.
    Connecting {
        _task: glommio::Task<()>,
    },
    Up(Rc<Link>),
}

impl QuorumIo {
    /// No links yet.
    pub fn new(config: Rc<PeerIoConfig>, events: Rc<Events>) -> Rc<Self> {
        let members = RefCell::new(config.membership.members.clone());
        Rc::new(QuorumIo { config, events, members, links: RefCell::default(), dirty: RefCell::default(), accepted: Cell::new(0) })
    }

    /// These are the members from now on.
    pub fn reconfigure(&self, members: Members) {
        self.members.replace(members);
    }

    /// Accepts learners until the task is dropped; `accepted` tells the core of one.
    pub async fn listen(self: Rc<Self>, listener: TcpListener, accepted: fn(LinkId) -> Input) {
        let keep_alive = self.config.tcp_keep_alive;
        accept_all(listener, keep_alive, |socket| self.admit(socket, accepted)).await;
    }

    fn admit(self: &Rc<Self>, socket: PeerSocket, accepted: fn(LinkId) -> Input) {
        if self.links.borrow().len() >= LINKS_MAX {
            return self.events.say(|| tracing::warn!("too many connections to the quorum port; closed the one from {}", socket.peer));
        }
        // Even names are those of accepted links.
        self.accepted.set(self.accepted.get() + 2);
        let id = LinkId(self.accepted.get());
        self.events.links.push(accepted(id));
        self.up(id, socket);
    }

    /// Connects to a peer's quorum port, or to its port for observers.
    pub fn connect(self: &Rc<Self>, id: LinkId, peer: PeerId, port: fn(&PeerIoConfig, &MemberAddress) -> u16) {
        let quorum = self.clone();
        let task = spawn(async move {
            // A new task is polled at once: its slot must be there first.
            glommio::executor().yield_now().await;
            let config = &quorum.config;
            let addresses = quorum.members.borrow().get(&peer).map_or_else(Vec::new, |member| member.addresses.clone());
            match call(config, peer, &addresses, |a| port(config, a), config.learner_connect_limit).await {
                Ok(socket) => {
                    quorum.events.links.push(Input::Connected(id));
                    quorum.up(id, socket);
                }
                Err(e) => {
                    tracing::debug!("cannot connect to server {} to learn from it: {e}", peer.0);
                    quorum.gone(id);
                }
            }
        });
        self.links.borrow_mut().insert(id, Slot::Connecting { _task: task });
    }

    fn up(self: &Rc<Self>, id: LinkId, socket: PeerSocket) {
        let config = &self.config;
        let limits =
            LinkLimits { queued_bytes: config.link_bytes_max, packet_bytes: config.packet_bytes_max, silence: config.image_silence };
        let link = Link::new(id, socket, limits);
        let before = self.links.borrow_mut().insert(id, Slot::Up(link.clone()));
        // The slot of an attempt holds the very task that runs this: let it go when it has ended.
        if let Some(Slot::Connecting { _task }) = before {
            _task.detach();
        }
        let quorum = self.clone();
        self.events.tasks.run(async move {
            let result = link.read(&quorum.events).await;
            quorum.lost(&link, result.err());
        });
    }

    fn link(&self, id: LinkId) -> Option<Rc<Link>> {
        match self.links.borrow().get(&id) {
            Some(Slot::Up(link)) => Some(link.clone()),
            _ => None,
        }
    }

    /// Queues a packet; `flush` sends it.
    pub fn send(&self, id: LinkId, packet: &Packet) {
        let Some(link) = self.link(id) else { return };
        if link.queue(packet) {
            return self.touch(link);
        }
        self.lost(&link, Some(io::Error::other("it has taken too little for too long")));
    }

    /// Queues the packet that announces an image, and the image.
    pub fn send_image(&self, id: LinkId, packet: &Packet, image: pipe::TaskEnd) {
        let Some(link) = self.link(id) else { return };
        link.queue_image(packet, image);
        self.touch(link);
    }

    /// Reads a part of the log for a learner, when it has taken what it was sent before.
    pub fn read_log(&self, id: LinkId, ask: LogAsk, history: Arc<dyn History>) {
        let Some(link) = self.link(id) else { return };
        let events = self.events.clone();
        self.events.tasks.run(async move { log_out::read_part(&link, ask, history, &events).await });
    }

    fn touch(&self, link: Rc<Link>) {
        let mut dirty = self.dirty.borrow_mut();
        if !dirty.iter().any(|other| Rc::ptr_eq(other, &link)) {
            dirty.push(link);
        }
    }

    /// Sends what has been queued since the last time: one call per link.
    pub fn flush(self: &Rc<Self>) {
        for link in self.dirty.take() {
            match link.flush() {
                Ok(false) => {}
                Ok(true) => {
                    let quorum = self.clone();
                    self.events.tasks.run(async move {
                        if let Err(e) = link.write(&quorum.events).await {
                            quorum.lost(&link, Some(e));
                        }
                    });
                }
                Err(e) => self.lost(&link, Some(e)),
            }
        }
    }

    /// Closes a link without a report.
    pub fn close(&self, id: LinkId) {
        let slot = self.links.borrow_mut().remove(&id);
        if let Some(Slot::Up(link)) = slot {
            link.close();
        }
    }

    /// Closes a link that cannot go on.
    pub fn break_off(&self, id: LinkId) {
        if let Some(link) = self.link(id) {
            self.lost(&link, None);
        }
    }

    /// Where the image that was announced on this link goes; dropped when there is no such link any more.
    pub fn receive_image(&self, id: LinkId, receiving: Receiving) {
        if let Some(link) = self.link(id) {
            link.receive_image(receiving);
        }
    }

    /// The image has been installed, or is not going to be.
    pub fn image_done(&self, id: LinkId) {
        if let Some(link) = self.link(id) {
            link.image_done();
        }
    }

    /// Closes all links without a report.
    pub async fn stop(&self) {
        for slot in self.links.take().into_values() {
            match slot {
                Slot::Up(link) => link.close(),
                Slot::Connecting { _task } => drop(_task.cancel().await),
            }
        }
    }

    fn lost(&self, link: &Rc<Link>, error: Option<io::Error>) {
        if self.link(link.id).is_some() {
            self.events.say(|| match error {
                Some(e) => tracing::info!("the connection to {} over the quorum port is closed: {e}", link.peer()),
                None => tracing::info!("{} has closed its connection over the quorum port", link.peer()),
            });
            link.close();
            self.gone(link.id);
        }
    }

    fn gone(&self, id: LinkId) {
        match self.links.borrow_mut().remove(&id) {
            Some(Slot::Connecting { _task }) => {
                _task.detach();
            }
            Some(Slot::Up(_)) => {}
            None => return,
        }
        self.events.links.push(Input::Disconnected(id));
    }
}

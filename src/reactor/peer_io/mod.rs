//! Everything between a member's replica and the other servers: the election port, the quorum port, images of trees, the epoch files.
//!
//! Runs on shard 0's executor, in the replica's task queue. What happens is put into two queues, which the replica's task empties in its
//! turns: `calls` at once, `links` only while the replica takes packets; a reader goes on when its link's packets have been taken, so what a
//! leader sends faster than our disk takes it waits in the sockets. No decision about votes, epochs or history is made here.

mod chatter;
mod configs;
mod cuts;
mod election;
mod epochs;
mod link;
mod log_out;
mod pipe;
mod ports;
mod queue;
mod quorum;
mod snapshot_in;
mod snapshot_out;
mod socket;

pub use configs::ConfigFiles;
pub use cuts::Cuts;
pub use epochs::{vouch, write_epoch};
pub use log_out::{LogAsk, LogParts};
pub use ports::{Bind, ClientMoves, bind_in_time};
pub use snapshot_in::{History, ImageStream};
pub use socket::{resolve_blocking, within};

use crate::base::{PeerId, Zxid};
use crate::handoff::Inbox;
use crate::reactor::clock;
use crate::reactor::mesh::{ToReplicaTask, tell_result};
use crate::reactor::tasks::Tasks;
use crate::tree::Image;
use crate::zab::membership::Member;
use crate::zab::wire::Hello;
use crate::zab::{Input, LinkId, Membership, Output, Packet};
use chatter::Chatter;
use configs::WantedConfig;
use election::ElectionIo;
use epochs::EpochWrite;
use glommio::TaskQueueHandle;
use ports::{Listening, Ports};
use queue::LocalQueue;
use quorum::QuorumIo;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

/// Who the other servers are and where.
type Members = BTreeMap<PeerId, Member>;

/// What the transports are told at start.
#[derive(Clone, Debug)]
pub struct PeerIoConfig {
    /// This server.
    pub me: PeerId,
    /// Who the others are and where.
    pub membership: Membership,
    /// How we introduce ourselves on election ports.
    pub hello: Hello,
    /// `cnxTimeout`: connecting to an election port.
    pub connect_limit: Duration,
    /// `quorumCnxnTimeoutMs`: how long a server that connects to our election port may take to say who it is.
    pub set_up_limit: Duration,
    /// Connecting to a leader, all attempts together.
    pub learner_connect_limit: Duration,
    /// How long an image that is being received may pause, and how long a learner may take for a part of one that it is sent.
    pub image_silence: Duration,
    /// Bytes that may wait for one peer: beyond it the link is closed (L14).
    pub link_bytes_max: usize,
    /// Data of the largest packet accepted.
    pub packet_bytes_max: usize,
    /// `observerMasterPort`, of every server.
    pub observer_master_port: Option<u16>,
    /// `tcpKeepAlive`.
    pub tcp_keep_alive: bool,
    /// Where clients connect in the beginning.
    pub client_listen: SocketAddr,
    /// `reconfigEnabled`: servers that are in no configuration yet are listened to.
    pub admits_strangers: bool,
    /// Where the epoch files are.
    pub epoch_dir: PathBuf,
    /// Who is out of reach, where that can be ordered.
    pub cuts: Option<Arc<Cuts>>,
}

/// What a member has besides what every server has; travels to the replica's executor.
pub struct PeerParts {
    /// Settings.
    pub config: PeerIoConfig,
    /// Bound to the election port.
    pub election: Vec<TcpListener>,
    /// Bound to the quorum port.
    pub quorum: Vec<TcpListener>,
    /// Bound to the port for observers, where there is one.
    pub observers: Vec<TcpListener>,
    /// How a leader's image gets to the disk.
    pub history: Arc<dyn History>,
    /// Where configurations are kept, if anywhere.
    pub configs: Option<Arc<dyn ConfigFiles>>,
    /// Binds ports for other servers that change.
    pub bind: Bind,
    /// Binds a port for clients.
    pub bind_clients: Bind,
}

/// What has happened, until the replica's task takes it.
#[derive(Default)]
pub struct Events {
    /// Notifications and epoch files.
    calls: LocalQueue<Input>,
    /// Links and their packets, in the order of each link.
    links: LocalQueue<Input>,
    chatter: Chatter,
    /// What waits for other servers.
    tasks: Rc<Tasks>,
}

impl Events {
    /// Prints a line about other servers, unless there have been many.
    fn say(&self, line: impl FnOnce()) {
        self.chatter.say(clock::now(), line);
    }
}

/// The other servers, as the replica's task sees them. Lives on its executor.
pub struct PeerIo {
    events: Rc<Events>,
    election: Rc<ElectionIo>,
    quorum: Rc<QuorumIo>,
    epochs: Rc<LocalQueue<EpochWrite>>,
    configs: Rc<LocalQueue<WantedConfig>>,
    history: Arc<dyn History>,
    control: Arc<Inbox<ToReplicaTask>>,
    /// The link whose image is being received or installed.
    installing: Cell<Option<LinkId>>,
    ports: Ports,
    tasks: Vec<glommio::Task<()>>,
}

impl PeerIo {
    /// Begins to listen, in this task queue. `control` is told what threads have done.
    pub fn start(parts: PeerParts, control: Arc<Inbox<ToReplicaTask>>, queue: TaskQueueHandle) -> Self {
        let PeerParts {
            config,
            election: election_ports,
            quorum: quorum_ports,
            observers: observer_ports,
            history,
            configs: files,
            bind,
            bind_clients: _,
        } = parts;
        let config = Rc::new(config);
        let events: Rc<Events> = Rc::default();
        let (election, quorum) = (ElectionIo::new(config.clone(), events.clone()), QuorumIo::new(config.clone(), events.clone()));
        let epochs: Rc<LocalQueue<EpochWrite>> = Rc::default();
        let configs: Rc<LocalQueue<WantedConfig>> = Rc::default();
        let spawn = |task: Pin<Box<dyn Future<Output = ()>>>| crate::reactor::spawn_into(task, queue);
        let mut tasks =
            vec![spawn(Box::pin(epochs::write_epochs(config.epoch_dir.clone(), history.clone(), epochs.clone(), events.clone())))];
        tasks.push(spawn(Box::pin(configs::write_configs(files, configs.clone(), events.clone()))));
        let (takes_votes, takes_learners) = (election.clone(), quorum.clone());
        let listening = [
            Listening::new(queue, Rc::new(move |port| Box::pin(takes_votes.clone().listen(port)))),
            Listening::new(queue, Rc::new(move |port| Box::pin(takes_learners.clone().listen(port, Input::Accepted)))),
        ];
        tasks.extend(observer_ports.into_iter().map(|port| spawn(Box::pin(quorum.clone().listen(port, Input::ObserverAccepted)))));
        let own = config.membership.members.get(&config.me);
        for (at, (election, quorum)) in own.iter().flat_map(|own| &own.addresses).zip(election_ports.into_iter().zip(quorum_ports)) {
            listening[0].open((at.host.clone(), at.election_port), election);
            listening[1].open((at.host.clone(), at.quorum_port), quorum);
        }
        let ports = Ports::new(config.me, own, config.client_listen, bind, listening);
        PeerIo { events, election, quorum, epochs, configs, history, control, installing: Cell::new(None), ports, tasks }
    }

    /// Where clients are to be listened to, when that changes.
    pub fn client_moves(&self) -> Rc<ClientMoves> {
        self.ports.client_moves.clone()
    }

    /// True when there is something to take; otherwise the task is woken when there is.
    pub fn poll_ready(&self, cx: &Context<'_>, admits_packets: bool) -> bool {
        let calls = self.events.calls.poll_ready(cx);
        calls || (admits_packets && self.events.links.poll_ready(cx))
    }

    /// The next thing that does not have to wait for the disk.
    pub fn next_call(&self) -> Option<Input> {
        self.events.calls.pop()
    }

    /// The next thing that happened to a link; to be asked for while the replica admits packets.
    pub fn next_of_links(&self) -> Option<Input> {
        self.events.links.pop()
    }

    /// Carries out an order of the broadcast core.
    pub fn perform(&self, order: Output) {
        match order {
            Output::Notify { to, message } => self.election.notify(to, message),
            Output::Connect { link, peer } => self.quorum.connect(link, peer, |_, address| address.quorum_port),
            // An observer that is not told the port dials none.
            Output::ConnectToMaster { link, peer } => self.quorum.connect(link, peer, |config, _| config.observer_master_port.unwrap_or(0)),
            Output::Send { link, packet } => self.quorum.send(link, &packet),
            Output::Close(link) => self.quorum.close(link),
            Output::WriteEpoch { token, file, epoch, vouches } => self.epochs.push(EpochWrite { token, file, epoch, vouches }),
            Output::WriteConfig { token, write } => self.configs.push(WantedConfig { token, write }),
            Output::Config { active, proposed } => {
                self.ports.follow(&active.members);
                let members = all_members(active, proposed);
                self.election.reconfigure(&members);
                self.quorum.reconfigure(members);
            }
            Output::Note(what) => self.events.say(|| tracing::info!("{what}")),
            other => panic!("an order for the replica came to the transports: {other:?}"),
        }
    }

    /// Sends an image and the packet that announces it.
    pub fn send_image(&self, link: LinkId, image: Image, told: Zxid) {
        let packet = Packet::Snap { zxid: told };
        match snapshot_out::send_image(image) {
            Ok(stream) => self.quorum.send_image(link, &packet, stream),
            Err(e) => {
                tracing::warn!("no thread for the image a learner needs: {e}");
                self.quorum.break_off(link);
            }
        }
    }

    /// Reads a part of this server's log for a learner; ends in `zab::Input::LogRead`.
    pub fn read_log(&self, link: LinkId, ask: LogAsk) {
        self.quorum.read_log(link, ask, self.history.clone());
    }

    /// Receives the image announced on a link; ends in `ToReplicaTask::ImageReceived`.
    pub fn receive_image(&self, link: LinkId, zxid: Zxid) {
        self.installing.set(Some(link));
        match snapshot_in::receive(zxid, self.history.clone(), self.control.clone()) {
            // Without the link the stream is broken off at once, and the thread says so.
            Ok(receiving) => self.quorum.receive_image(link, receiving),
            Err(e) => {
                tell_result(&self.control, ToReplicaTask::ImageReceived(Err(format!("no thread for it: {e}"))));
            }
        }
    }

    /// Loads the tree in the image received last, when called; ends in `ToReplicaTask::ImageLoaded`.
    pub fn image_loader(&self, zxid: Zxid) -> impl FnOnce() + 'static {
        let (history, control) = (self.history.clone(), self.control.clone());
        move || snapshot_in::load(zxid, history, control)
    }

    /// Puts the image in place; ends in `ToReplicaTask::ImageInstalled`.
    pub fn install_image(&self, zxid: Zxid) {
        snapshot_in::install(zxid, self.history.clone(), self.control.clone());
    }

    /// Loads the tree again; ends in `ToReplicaTask::TreeLoaded`.
    pub fn load_tree(&self, zxid: Zxid) {
        snapshot_in::reload(zxid, self.history.clone(), self.control.clone());
    }

    /// The image has been installed, or is not going to be: what came behind it on its link may be taken.
    pub fn image_done(&self) {
        if let Some(link) = self.installing.take() {
            self.quorum.image_done(link);
        }
    }

    /// End of a turn: sends what it has queued.
    pub fn flush(&self) {
        self.quorum.flush();
    }

    /// Closes everything.
    pub async fn stop(self) {
        for task in self.tasks {
            task.cancel().await;
        }
        self.ports.stop().await;
        self.election.stop().await;
        self.quorum.stop().await;
        self.events.tasks.stop().await;
    }
}

/// The members of both configurations; one of both is found where the newer says.
fn all_members(active: Membership, proposed: Option<Membership>) -> Members {
    active.members.into_iter().chain(proposed.into_iter().flat_map(|m| m.members)).collect()
}

fn spawn(task: impl Future<Output = ()> + 'static) -> glommio::Task<()> {
    crate::reactor::spawn_into(task, glommio::executor().current_task_queue())
}

#[cfg(test)]
mod tests;

//! The replica's task: feeds it what happened, carries out what it asks for, publishes what it commits.
//!
//! Runs on shard 0's executor in a task queue of its own. Invariants:
//! 1. A batch is on the stream before `applied` moves, and `applied` has moved before a shard is woken (rule A2).
//! 2. Messages stay in the shards' queues while the replica does not admit them: full queues push back on sockets (rule A7).
//! 3. Nothing here waits for a shard, a disk or a thread; a flush, a rename, a snapshot come back as inputs.
//! 4. After something was published, a flush may have to wait until this executor's tasks have had one more turn and its sockets were looked at
//!    (`hold`). Flushes get fewer and larger, and nobody waits for one that began just before.
//! 5. A failed flush or a broken invariant ends the process (rules D1, L12); nothing is retried.

use crate::base::limits::SHARD_LAG_MS_MAX;
use crate::base::{Instant, ShardId, Zxid};
use crate::handoff::{Batch, Passed, Publisher, ToReplica, notify};
use crate::metrics::ReplicaMetrics;
use crate::reactor::clock::{self, Alarm};
use crate::reactor::disk_io::{LogFiles, Snapshots};
use crate::reactor::hold::Hold;
use crate::reactor::lag::LagWatch;
use crate::reactor::mesh::{Mesh, Report, ToReplicaTask, ToShard};
use crate::reactor::peer_io::{LogAsk, PeerIo};
use crate::reactor::stages::Stages;
use crate::reactor::way::Way;
use crate::replica::{Input, Output, Replica};
use crate::storage::log::LogAction;
use crate::tree::Tree;
use crate::zab;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Requests taken from all shards together before sockets and flushes get their turn (about 200 µs, rule B2).
const MESSAGES_PER_TURN: usize = 128;
/// Messages of other servers taken in one turn, and those dealt with together.
const PACKETS_PER_TURN: usize = 256;
const PACKETS_AT_ONCE: usize = 32;
/// Completions and orders taken in one turn.
const CONTROL_PER_TURN: usize = 64;

/// What surrounds one replica. Lives on shard 0's executor.
pub struct ReplicaLoop {
    state: RefCell<State>,
    mesh: Arc<Mesh>,
    alarm: Alarm,
    /// The main task's waker, for turns of other tasks that change what it waits for.
    main: RefCell<Option<Waker>>,
    waits_for_admission: Cell<bool>,
}

struct State {
    replica: Replica,
    publisher: Publisher<Batch>,
    log: LogFiles,
    snapshots: Snapshots,
    /// The other servers, for a member of an ensemble.
    peers: Option<PeerIo>,
    lag: LagWatch,
    metrics: ReplicaMetrics,
    /// Tells the shards of the newest tree and drops the one before, when that is done for older ones.
    replacing: Option<glommio::Task<()>>,
    stages: Stages,
    /// The shard whose queue is looked at first; moves on, so that none is favoured.
    first: usize,
    messages: Vec<ToReplica>,
    control: Vec<ToReplicaTask>,
    hold: Hold,
    stopped: bool,
    /// It has ended as a killed process does: nothing more is taken in or carried out.
    killed: bool,
}

impl ReplicaLoop {
    /// Around a recovered replica.
    pub fn new(
        replica: Replica,
        publisher: Publisher<Batch>,
        log: LogFiles,
        snapshots: Snapshots,
        peers: Option<PeerIo>,
        mesh: Arc<Mesh>,
    ) -> Rc<Self> {
        let state = State {
            replica,
            publisher,
            log,
            snapshots,
            peers,
            lag: LagWatch::new(mesh.shards.len(), clock::now()),
            metrics: ReplicaMetrics::default(),
            replacing: None,
            stages: Stages::default(),
            first: 0,
            messages: Vec::with_capacity(MESSAGES_PER_TURN),
            control: Vec::with_capacity(CONTROL_PER_TURN),
            hold: Hold::default(),
            stopped: false,
            killed: false,
        };
        Rc::new(ReplicaLoop {
            state: RefCell::new(state),
            mesh,
            alarm: Alarm::of_this_executor(),
            main: RefCell::new(None),
            waits_for_admission: Cell::new(false),
        })
    }

    /// What the replica knows about it, now.
    pub fn ask<R>(&self, question: impl FnOnce(&Replica) -> R) -> R {
        question(&self.state.borrow().replica)
    }

    /// Runs until a clean stop is complete, then tells all shards to stop.
    pub async fn run(self: Rc<Self>) {
        let queue = glommio::executor().current_task_queue();
        let timers = super::spawn_into(self.clone().ring(), queue);
        self.turn(None);
        let way = Way::of_this_executor();
        while !self.state.borrow().stopped {
            self.until_woken().await;
            if self.state.borrow().replica.holds_flush() {
                way.give_round().await;
                self.state.borrow_mut().hold.waited();
            }
            self.turn(None);
            way.give().await;
        }
        timers.cancel().await;
        let peers = self.state.borrow_mut().peers.take();
        if let Some(peers) = peers {
            peers.stop().await;
        }
        let replacing = self.state.borrow_mut().replacing.take();
        if let Some(told) = replacing {
            told.await;
        }
        for shard in 0..self.mesh.shards.len() {
            while self.mesh.tell(shard, ToShard::Stop).is_err() {
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    async fn until_woken(&self) {
        poll_fn(|cx| {
            *self.main.borrow_mut() = Some(cx.waker().clone());
            let mut ready = pin!(self.mesh.control.ready()).poll(cx).is_ready();
            let state = self.state.borrow();
            let admits = state.replica.admits();
            // The alarm's turn may have taken in the order to stop.
            ready |= state.stopped || state.replica.holds_flush();
            ready |= state.peers.as_ref().is_some_and(|peers| peers.poll_ready(cx, state.replica.admits_packets()));
            self.waits_for_admission.set(!admits);
            if admits {
                for inbox in &self.mesh.to_replica {
                    ready |= pin!(inbox.ready()).poll(cx).is_ready();
                }
            }
            if ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    async fn ring(self: Rc<Self>) {
        loop {
            self.alarm.rung().await;
            self.turn(Some(Input::Timeout));
        }
    }

    /// Takes in `input` and what is queued, then carries out everything that follows.
    fn turn(&self, input: Option<Input>) {
        let (now, wall) = (clock::now(), clock::wall());
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if let Some(input) = input {
            state.replica.handle(now, wall, input);
        }
        self.take_control(state, now);
        if state.killed {
            return self.wake_main();
        }
        self.take_from_peers(state, now);
        self.carry_out(state, now);
        if self.take_requests(state, now) {
            self.carry_out(state, now);
        }
        let mut holds = state.replica.holds_flush();
        if !state.hold.lasts(now, state.replica.head_zxid()) {
            state.replica.hold_flush(false);
            if std::mem::take(&mut holds) {
                self.carry_out(state, now);
            }
        }
        if let Some(peers) = &state.peers {
            peers.flush();
        }
        state.replica.reclaim();
        self.alarm.set(state.replica.poll_timeout());
        if self.waits_for_admission.get() && state.replica.admits() || holds || state.stopped {
            self.wake_main();
        }
    }

    fn wake_main(&self) {
        if let Some(waker) = self.main.borrow_mut().take() {
            waker.wake();
        }
    }

    fn take_control(&self, state: &mut State, now: Instant) {
        let mut control = std::mem::take(&mut state.control);
        self.mesh.control.drain(&mut control, CONTROL_PER_TURN);
        for message in control.drain(..) {
            let input = match message {
                ToReplicaTask::Flushed(done) => {
                    state.metrics.flushed(done.took.as_micros() as u64);
                    state.hold.flushed(done.took);
                    Input::LogSynced(state.log.flushed(done))
                }
                ToReplicaTask::LogOpened(file) => Input::LogOpened(file),
                ToReplicaTask::MarkSynced => Input::MarkSynced,
                ToReplicaTask::LogCut => Input::LogCut,
                ToReplicaTask::SnapshotDone { zxid, ok } => Input::SnapshotDone { zxid, ok },
                ToReplicaTask::Connections(own) => Input::Connections(own),
                ToReplicaTask::Stop => Input::Stop,
                ToReplicaTask::Kill => {
                    (state.stopped, state.killed) = (true, true);
                    return state.log.abandon();
                }
                ToReplicaTask::ResetServerStats => {
                    state.metrics = ReplicaMetrics::default();
                    state.replica.reset_stats();
                    continue;
                }
                ToReplicaTask::SegmentTaken(file, segment) => {
                    state.log.segment_taken(file, *segment);
                    continue;
                }
                ToReplicaTask::ImageReceived(Ok(zxid)) => Input::SnapshotReceived(zxid),
                ToReplicaTask::ImageLoaded(loaded) => Input::SnapshotLoaded(loaded),
                ToReplicaTask::ImageReceived(Err(why)) => Input::Peer(zab::Input::SnapshotFailed(why)),
                ToReplicaTask::ImageInstalled => Input::SnapshotInstalled,
                ToReplicaTask::TreeLoaded(tree) => Input::TreeLoaded(tree),
                ToReplicaTask::Report { to, lists } => {
                    let report = if lists { state.replica.report(now) } else { state.replica.summary() };
                    let _ = to.push(Report::Replica(Box::new((report, state.metrics.clone()))));
                    to.kick();
                    continue;
                }
            };
            let image_done =
                matches!(input, Input::SnapshotInstalled | Input::SnapshotLoaded(Err(_)) | Input::Peer(zab::Input::SnapshotFailed(_)));
            state.replica.handle(now, clock::wall(), input);
            if image_done && let Some(peers) = &state.peers {
                peers.image_done();
            }
        }
        state.control = control;
    }

    /// Takes in what other servers have said.
    fn take_from_peers(&self, state: &mut State, now: Instant) {
        let Some(peers) = &state.peers else { return };
        let wall = clock::wall();
        let mut taken = 0;
        while taken < PACKETS_PER_TURN {
            let input = match peers.next_call() {
                Some(input) => Some(input),
                None if state.replica.admits_packets() => peers.next_of_links(),
                None => None,
            };
            let Some(input) = input else { break };
            state.replica.take_in(now, wall, Input::Peer(input));
            taken += 1;
            // What they ask for counts against what the replica admits.
            if taken.is_multiple_of(PACKETS_AT_ONCE) {
                state.replica.work(now, wall);
            }
        }
        if !taken.is_multiple_of(PACKETS_AT_ONCE) {
            state.replica.work(now, wall);
        }
    }

    /// Moves requests from the shards' queues into the replica; true when there were any.
    fn take_requests(&self, state: &mut State, now: Instant) -> bool {
        let shards = self.mesh.to_replica.len();
        let mut budget = MESSAGES_PER_TURN;
        let wall = clock::wall();
        let queued: usize = self.mesh.to_replica.iter().map(|inbox| inbox.len()).sum();
        for i in 0..shards {
            if budget == 0 || !state.replica.admits() {
                break;
            }
            let shard = (state.first + i) % shards;
            let inbox = &self.mesh.to_replica[shard];
            // A fair part for each; what one leaves over is the next one's.
            let part = budget.div_ceil(shards - i);
            let taken = inbox.drain(&mut state.messages, part);
            budget -= taken;
            // The oldest waited longest; what was pushed since this turn began waited for nothing.
            if let Some(at) = state.messages.iter().find_map(ToReplica::queued_at) {
                state.metrics.queue_us.record(now.since_us(at));
            }
            for message in state.messages.drain(..) {
                state.replica.take_in(now, wall, Input::Shard(ShardId(shard as u16), message));
            }
            if taken > 0 {
                state.replica.work(now, wall);
                self.mesh.made_room(shard);
            }
        }
        if budget < MESSAGES_PER_TURN {
            state.metrics.queue_size.record((MESSAGES_PER_TURN - budget) as u64);
            state.metrics.queued.record(queued as u64);
        }
        state.first = (state.first + 1) % shards;
        budget < MESSAGES_PER_TURN
    }

    fn carry_out(&self, state: &mut State, now: Instant) {
        state.stages.prepared(now, state.replica.head_zxid(), state.replica.applied());
        state.stages.durable(now, state.replica.durable_zxid());
        while let Some(output) = state.replica.poll_output() {
            match output {
                Output::Log(action) => {
                    match &action {
                        LogAction::Write { bytes, .. } => state.metrics.written(bytes.len()),
                        LogAction::Sync { .. } => state.metrics.flush_asked(),
                        _ => {}
                    }
                    state.log.perform(action);
                }
                Output::Publish(mut batch) => {
                    state.metrics.batch_size.record(batch.entries.len() as u64);
                    batch.passed = state.note_published(batch.last_zxid, now);
                    let batch = state.publisher.publish(batch);
                    state.replica.published(batch.last_zxid);
                    state.hold.answered(now, state.replica.head_zxid(), batch.entries.len());
                    state.replica.hold_flush(true);
                    notify(&self.mesh.bells, &*batch, batch.position());
                    if let Some(shard) = state.lag.check(now, batch.position(), &self.mesh.bells) {
                        super::fatal(&format!("shard {shard} has not followed the published transactions for {SHARD_LAG_MS_MAX} ms"));
                    }
                }
                Output::Snapshot(image) => state.snapshots.begin(image),
                Output::AbandonSnapshot => state.snapshots.abandon(),
                Output::Fatal(message) => super::fatal(&message),
                Output::Stopped => state.stopped = true,
                Output::TreeReplaced { generation, old } => self.replace_tree(state, generation, old),
                Output::LoadSnapshot { zxid } => load_image(state, zxid),
                output => match &state.peers {
                    Some(peers) => tell_peers(peers, output),
                    None => super::fatal("a server that stands alone was told to speak to others"),
                },
            }
        }
    }

    /// Gives every shard a reader of the tree that has taken the place of `old`: one tree after the other, whatever inboxes are full.
    fn replace_tree(&self, state: &mut State, generation: u64, old: Box<Tree>) {
        let readers: Vec<_> = (0..self.mesh.shards.len()).map(|_| Box::new(state.replica.tree_mut().reader())).collect();
        let mesh = self.mesh.clone();
        let (before, queue) = (state.replacing.take(), glommio::executor().current_task_queue());
        let told = super::spawn_into(
            async move {
                if let Some(before) = before {
                    before.await;
                }
                for (shard, reader) in readers.into_iter().enumerate() {
                    let mut order = ToShard::ReplaceTree(generation, reader);
                    while let Err(back) = mesh.tell(shard, order) {
                        order = back;
                        glommio::timer::sleep(Duration::from_millis(1)).await;
                    }
                }
                // Large, and still read by shards that have not looked at the order: it is dropped by a thread.
                if let Err(e) = super::on_thread("zoo-old-tree", move || drop(old)).await {
                    tracing::debug!("the old tree was dropped here: {e}");
                }
            },
            queue,
        );
        state.replacing = Some(told);
    }
}

/// Loads a received image when the trees before it are gone.
fn load_image(state: &mut State, zxid: Zxid) {
    let Some(load) = state.peers.as_ref().map(|peers| peers.image_loader(zxid)) else {
        super::fatal("a server that stands alone was told to load an image");
    };
    let before = state.replacing.take();
    let loading = async move {
        if let Some(before) = before {
            before.await;
        }
        load();
    };
    state.replacing = Some(super::spawn_into(loading, glommio::executor().current_task_queue()));
}

impl State {
    fn note_published(&mut self, last: Zxid, now: Instant) -> Option<Passed> {
        let passed = (last > self.replica.applied()).then(|| self.stages.published(now, last)).flatten()?;
        let (log_us, quorum_us) = (passed.log_us(), passed.quorum_us());
        self.metrics.published(log_us, quorum_us, self.replica.unpublished() as u64);
        if u128::from(log_us + quorum_us) >= self.log.slow().as_micros() {
            let (log, quorum) = (log_us / 1000, quorum_us / 1000);
            tracing::warn!(
                "writes up to {last} have taken {log} ms until they were in the log, then {quorum} ms until they could be shown"
            );
        }
        Some(passed)
    }
}

/// Orders that concern other servers.
fn tell_peers(peers: &PeerIo, output: Output) {
    match output {
        Output::Peer(order) => peers.perform(order),
        Output::SendSnapshot { link, image, told } => peers.send_image(link, image, told),
        Output::ReadLog { link, from, upto, first, newest } => peers.read_log(link, LogAsk { from, upto, first, newest }),
        Output::ReceiveSnapshot { link, zxid } => peers.receive_image(link, zxid),
        Output::InstallSnapshot { zxid } => peers.install_image(zxid),
        Output::LoadTree { zxid } => peers.load_tree(zxid),
        Output::Log(_)
        | Output::Publish(_)
        | Output::Snapshot(_)
        | Output::AbandonSnapshot
        | Output::Fatal(_)
        | Output::Stopped
        | Output::TreeReplaced { .. }
        | Output::LoadSnapshot { .. } => {
            unreachable!("carried out by the replica's own task")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::{disk_io, executor};
    use crate::replica::tests::config;
    use crate::tree::TreeConfig;

    /// A replica that stands alone, with its log in a directory.
    fn replica_loop(dir: &std::path::Path) -> (Rc<ReplicaLoop>, Arc<Mesh>) {
        let mesh = Arc::new(Mesh::new(1, 16));
        let disk = disk_io::tests::disk(dir, &mesh.control);
        let log = LogFiles::new(disk, mesh.control.clone(), Duration::from_secs(60)).expect("a thread");
        let snapshots = Snapshots::new(Arc::new(|_, _| Ok(0)), mesh.control.clone());
        let replica = Replica::new(config(), Tree::new(TreeConfig::default()), clock::now(), clock::wall());
        (ReplicaLoop::new(replica, Publisher::new(), log, snapshots, None, mesh.clone()), mesh)
    }

    #[test]
    fn an_end_that_the_alarm_finds_before_the_main_task_is_an_end() {
        for end in [|| ToReplicaTask::Stop, || ToReplicaTask::Kill] {
            let dir = tempfile::tempdir().expect("temp dir");
            let path = dir.path().to_path_buf();
            executor::run(move || async move {
                let (server, mesh) = replica_loop(&path);
                let ended = Rc::new(Cell::new(false));
                let ends = ended.clone();
                let main = server.clone();
                glommio::spawn_local(async move {
                    main.run().await;
                    ends.set(true);
                })
                .detach();
                glommio::timer::sleep(Duration::from_millis(20)).await;
                // Nobody is woken by this push: the alarm was on its way.
                assert!(mesh.control.push(end()).is_ok());
                server.turn(Some(Input::Timeout));
                for _ in 0..1_000 {
                    if ended.get() {
                        return;
                    }
                    glommio::timer::sleep(Duration::from_millis(10)).await;
                }
                panic!("it waits for ever");
            });
        }
    }
}

//! Four-letter words: gathers what a word needs from all shards and the replica by message, with a deadline (rule B4).

use crate::admin::four_letter::{self, Needs, Order};
use crate::admin::process::directory_bytes;
use crate::admin::{AdminView, DirectorySizes, ProcessFacts, ServerFacts};
use crate::base::{Instant, ShardId};
use crate::handoff::Inbox;
use crate::reactor::clock;
use crate::reactor::mesh::{Mesh, Report, ToReplicaTask, ToShard};
use crate::reactor::peer_io::within;
use crate::shard::{Detail, ShardReport};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// How long an answer waits for cores that are busy.
const GATHER: Duration = Duration::from_millis(500);
/// ZooKeeper's trace mask after start.
const TRACE_MASK_DEFAULT: i64 = 306;

/// What all executors of a server share to answer words.
pub struct Admin {
    facts: ServerFacts,
    serving_since: Instant,
    trace_mask: AtomicI64,
}

impl Admin {
    /// For a server that begins to serve now.
    pub fn new(facts: ServerFacts) -> Self {
        Admin { facts, serving_since: clock::now(), trace_mask: AtomicI64::new(TRACE_MASK_DEFAULT) }
    }

    /// The text to send before the connection is closed. `own` makes the asking shard's report.
    pub async fn answer(&self, mesh: &Mesh, shard: ShardId, own: impl FnOnce(Detail) -> ShardReport, word: [u8; 4], arg: &[u8]) -> Vec<u8> {
        let needs = four_letter::needs(word, &self.facts);
        let mut view = AdminView {
            facts: self.facts.clone(),
            serving: true,
            now: clock::wall(),
            clock: clock::now(),
            uptime_ms: clock::now().since_ms(self.serving_since),
            trace_mask: self.trace_mask.load(Ordering::Relaxed),
            ..AdminView::default()
        };
        if needs.shards || needs.replica {
            gather(&mut view, mesh, shard, own, needs).await;
        }
        let member = view.replica.member.as_ref();
        view.serving = self.facts.member.is_none() || member.is_some_and(|member| member.takes_clients || member.is_read_only);
        if needs.process || needs.directories {
            (view.process, view.directories) = self.read_machine(needs).await;
        }
        let answer = four_letter::answer(word, arg, &view);
        match answer.order {
            Some(Order::ResetConnections) => tell_all(mesh, || ToShard::ResetConnectionStats),
            Some(Order::ResetServer) => {
                tell_all(mesh, || ToShard::ResetServerStats);
                let _ = mesh.tell_replica(ToReplicaTask::ResetServerStats);
            }
            Some(Order::SetTraceMask(mask)) => self.trace_mask.store(mask, Ordering::Relaxed),
            None => {}
        }
        answer.text
    }

    /// Reads /proc and walks directories, so on another thread.
    async fn read_machine(&self, needs: Needs) -> (ProcessFacts, DirectorySizes) {
        let (snapshots, logs) = (self.facts.snapshot_dir.clone(), self.facts.log_dir.clone());
        glommio::executor()
            .spawn_blocking(move || {
                let process = if needs.process { ProcessFacts::read() } else { ProcessFacts::default() };
                let mut directories = DirectorySizes::default();
                if needs.directories {
                    directories.snapshot_bytes = directory_bytes(&snapshots);
                    directories.log_bytes = directory_bytes(&logs);
                }
                (process, directories)
            })
            .await
    }
}

fn tell_all(mesh: &Mesh, order: impl Fn() -> ToShard) {
    for shard in 0..mesh.shards.len() {
        if mesh.tell(shard, order()).is_err() {
            tracing::warn!("shard {shard} is too busy to reset its statistics");
        }
    }
}

async fn gather(view: &mut AdminView, mesh: &Mesh, shard: ShardId, own: impl FnOnce(Detail) -> ShardReport, needs: Needs) {
    let shards = mesh.shards.len();
    let answers = Arc::new(Inbox::new(shards + 1));
    let detail = Detail { connections: needs.connections, watches: needs.watches };
    let mut wanted = 0;
    if needs.shards {
        wanted += shards - 1;
        for other in (0..shards).filter(|&other| other != usize::from(shard.0)) {
            // A full inbox is a core that does not answer in time; the text will say so.
            let _ = mesh.tell(other, ToShard::Report(answers.clone(), detail));
        }
    }
    if needs.replica {
        wanted += 1;
        let _ = mesh.tell_replica(ToReplicaTask::Report { to: answers.clone(), lists: needs.lists });
    }
    let mut reports = Vec::with_capacity(wanted);
    let give_up = clock::now().plus_ms(GATHER.as_millis() as u64);
    while reports.len() < wanted {
        let left = Duration::from_nanos(give_up.since_ns(clock::now()));
        if left.is_zero() || within(left, answers.ready()).await.is_none() {
            break;
        }
        answers.drain(&mut reports, wanted);
    }
    let mut by_shard = Vec::with_capacity(shards);
    if needs.shards {
        by_shard.push((shard, own(detail)));
    }
    for report in reports {
        match report {
            Report::Shard(id, report) => by_shard.push((id, *report)),
            Report::Replica(report) => (view.replica, view.replica_metrics) = *report,
        }
    }
    by_shard.sort_by_key(|(id, _)| *id);
    view.shards_missing = if needs.shards { shards - by_shard.len() } else { 0 };
    view.shards = by_shard.into_iter().map(|(_, report)| report).collect();
}

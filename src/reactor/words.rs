//! Four-letter words: gathers reports from all shards and the replica by message, with a deadline (rule B4), and has them formatted.

use crate::base::ShardId;
use crate::handoff::Inbox;
use crate::reactor::clock;
use crate::reactor::mesh::{Mesh, Report, ToReplicaTask, ToShard};
use crate::replica::ReplicaReport;
use crate::shard::ShardReport;
use std::sync::Arc;
use std::time::Duration;

/// How long an answer waits for cores that are busy.
const GATHER: Duration = Duration::from_millis(500);

/// What the cores said. Parts of cores that did not answer in time are missing.
#[derive(Default)]
pub struct Gathered {
    /// In shard order.
    pub shards: Vec<(ShardId, ShardReport)>,
    /// The replica's report.
    pub replica: Option<ReplicaReport>,
    /// Somebody did not answer in time.
    pub partial: bool,
}

/// What a word comes to.
pub struct WordAnswer {
    /// Sent to the client, which is then disconnected.
    pub text: Vec<u8>,
    /// `srst`, `crst`: all shards forget their statistics.
    pub reset_stats: bool,
}

/// Formats the answer to a word from what the cores said.
pub trait FourLetterWords: Send + Sync {
    /// True when the answer depends on reports; false spares the cores the work.
    fn wants_reports(&self, word: [u8; 4]) -> bool;
    /// The answer.
    fn answer(&self, word: [u8; 4], argument: &[u8], gathered: &Gathered) -> WordAnswer;
}

/// Shared by all executors of a server.
pub type Words = Arc<dyn FourLetterWords>;

/// Gathers and formats. `own` is the asking shard's report.
pub async fn answer(words: &Words, mesh: &Mesh, shard: ShardId, own: Report, word: [u8; 4], argument: &[u8]) -> Vec<u8> {
    let mut gathered = Gathered::default();
    if words.wants_reports(word) {
        gathered = gather(mesh, shard, own).await;
    }
    let answer = words.answer(word, argument, &gathered);
    if answer.reset_stats {
        for shard in 0..mesh.shards.len() {
            let _ = mesh.tell(shard, ToShard::ResetStats);
        }
    }
    answer.text
}

async fn gather(mesh: &Mesh, shard: ShardId, own: Report) -> Gathered {
    let wanted = mesh.shards.len() + 1;
    let answers = Arc::new(Inbox::new(wanted));
    for other in (0..mesh.shards.len()).filter(|&other| other != usize::from(shard.0)) {
        let _ = mesh.tell(other, ToShard::Report(answers.clone()));
    }
    let _ = mesh.tell_replica(ToReplicaTask::Report(answers.clone()));

    let mut reports = vec![own];
    let give_up = clock::now().plus_ms(GATHER.as_millis() as u64);
    while reports.len() < wanted {
        let left = give_up.since_ns(clock::now());
        let waited = glommio::timer::timeout(Duration::from_nanos(left), async {
            answers.ready().await;
            Ok::<(), glommio::GlommioError<()>>(())
        });
        if left == 0 || waited.await.is_err() {
            break;
        }
        answers.drain(&mut reports, wanted);
    }
    let partial = reports.len() < wanted;
    let mut gathered = Gathered { partial, ..Gathered::default() };
    for report in reports {
        match report {
            Report::Shard(id, report) => gathered.shards.push((id, *report)),
            Report::Replica(report) => gathered.replica = Some(*report),
        }
    }
    gathered.shards.sort_by_key(|(id, _)| *id);
    gathered
}

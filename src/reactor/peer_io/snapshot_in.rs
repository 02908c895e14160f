//! An image of the leader's tree on its way to the disk: the link's task finds its end, a thread writes, verifies and loads it.

use super::log_out::LogParts;
use super::pipe::{TaskEnd, ThreadEnd, pipe};
use crate::base::Zxid;
use crate::handoff::Inbox;
use crate::reactor::mesh::{ToReplicaTask, tell_result};
use crate::reactor::{AbortOnPanic, fatal, lower_priority};
use crate::storage::snapshot_stream::StreamScanner;
use crate::tree::Tree;
use std::io;
use std::sync::Arc;

/// What happens on the disk when this server's history is replaced; blocking.
pub trait History: Send + Sync {
    /// Writes an image to a temporary file, durably.
    fn receive(&self, image: &ImageStream) -> Result<(), String>;
    /// Loads the tree from that file, verifying it.
    fn load(&self, zxid: Zxid) -> Result<Tree, String>;
    /// Puts the image received last in place of what the snapshots said before.
    fn install(&self, zxid: Zxid) -> io::Result<()>;
    /// Goes to the first record of this server's log, which goes on meanwhile, that a learner is asked for; `Err` says why an image is better.
    fn open_log(&self, from: Zxid, newest: Option<(Zxid, u64)>) -> Result<Box<dyn LogParts>, String>;
    /// Reads the tree from snapshot and logs again.
    fn reload(&self) -> Result<Tree, String>;
}

/// The task's side.
pub struct Receiving {
    scanner: StreamScanner,
    to: TaskEnd,
}

/// The thread's side: the image's bytes, to be read once.
pub struct ImageStream(ThreadEnd);

impl ImageStream {
    /// The next bytes; `None` after the last ones. An error when the stream has broken off.
    pub fn next(&self) -> io::Result<Option<Vec<u8>>> {
        self.0.receive().map_err(|_| io::Error::other("the leader's image has broken off"))
    }
}

/// Begins to receive; the end is told to `control`.
pub fn receive(zxid: Zxid, history: Arc<dyn History>, control: Arc<Inbox<ToReplicaTask>>) -> io::Result<Receiving> {
    let (task, thread) = pipe();
    in_background(control, move || {
        let result = history.receive(&ImageStream(thread)).map(|()| zxid);
        match &result {
            Ok(_) => tracing::info!("received the leader's image at {zxid}"),
            Err(why) => tracing::warn!("the leader's image at {zxid} could not be received: {why}"),
        }
        ToReplicaTask::ImageReceived(result)
    })?;
    Ok(Receiving { scanner: StreamScanner::default(), to: task })
}

/// Loads what has been received.
pub fn load(zxid: Zxid, history: Arc<dyn History>, control: Arc<Inbox<ToReplicaTask>>) {
    let done = in_background(control, move || {
        let result = history.load(zxid).map(Box::new);
        if let Err(why) = &result {
            tracing::warn!("the leader's image at {zxid} cannot be used: {why}; going back to what the disk holds");
        }
        ToReplicaTask::ImageLoaded(result)
    });
    done.unwrap_or_else(|e| fatal(&format!("no thread to load an image: {e}")));
}

/// Puts what has been received in place. A failure ends the process: the log has made way already.
pub fn install(zxid: Zxid, history: Arc<dyn History>, control: Arc<Inbox<ToReplicaTask>>) {
    let done = in_background(control, move || match history.install(zxid) {
        Ok(()) => ToReplicaTask::ImageInstalled,
        Err(e) => fatal(&format!("the image at {zxid} could not be put in place: {e}")),
    });
    done.unwrap_or_else(|e| fatal(&format!("no thread to install an image: {e}")));
}

/// Loads the tree again after its log has been cut. A failure ends the process (ZK-3701).
pub fn reload(zxid: Zxid, history: Arc<dyn History>, control: Arc<Inbox<ToReplicaTask>>) {
    let done = in_background(control, move || match history.reload() {
        Ok(tree) if tree.head_zxid() == zxid => ToReplicaTask::TreeLoaded(Box::new(tree)),
        Ok(tree) => fatal(&format!("the log was cut to {zxid} and is read back to {}", tree.head_zxid())),
        Err(why) => fatal(&format!("the log was cut to {zxid} and cannot be read back: {why}")),
    });
    done.unwrap_or_else(|e| fatal(&format!("no thread to load the tree: {e}")));
}

fn in_background(control: Arc<Inbox<ToReplicaTask>>, work: impl FnOnce() -> ToReplicaTask + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name("zoo-install".into()).spawn(move || {
        let _guard = AbortOnPanic;
        lower_priority();
        tell_result(&control, work());
    })?;
    Ok(())
}

impl Receiving {
    /// Takes what belongs to the image: how many bytes were used, and whether it is whole.
    pub async fn take(&mut self, bytes: &[u8]) -> io::Result<(usize, bool)> {
        let fed = self.scanner.feed(bytes).map_err(io::Error::other)?;
        if fed.body > 0 {
            let sent = self.to.send(bytes[..fed.body].to_vec()).await;
            sent.map_err(|_| io::Error::other("the image could not be installed"))?;
        }
        Ok((fed.bytes, fed.whole))
    }

    /// The image has been received whole.
    pub fn finish(self) {
        self.to.finish();
    }
}

//! This server's log for learners that lack more than is in memory: read by threads, a part at a time, each when the link has room for it.

use super::Events;
use super::link::Link;
use super::snapshot_in::History;
use crate::base::Zxid;
use crate::reactor::{lower_priority, on_thread};
use crate::zab::{Input, LOG_PART_BYTES, Payload};
use std::sync::Arc;

/// A place in the log; blocking.
pub trait LogParts: Send {
    /// The next records from `from` on, up to `upto`.
    fn read(&mut self, from: Zxid, upto: Zxid) -> Result<Vec<(Zxid, Payload)>, String>;
}

/// What is wanted of it.
#[derive(Clone, Copy, Debug)]
pub struct LogAsk {
    /// The first zxid wanted.
    pub from: Zxid,
    /// The last one.
    pub upto: Zxid,
    /// It is the first part for its link.
    pub first: bool,
    /// The log that is being written, and how much of it is durable.
    pub newest: Option<(Zxid, u64)>,
}

/// Reads one part and reports it, unless the link is closed before. What is on the way is bounded: this part, and what the link has not sent.
pub async fn read_part(link: &Link, ask: LogAsk, history: Arc<dyn History>, events: &Events) {
    if !link.has_taken(LOG_PART_BYTES).await {
        return;
    }
    let open = link.log.take().filter(|_| !ask.first);
    let read = on_thread("zoo-log-feed", move || {
        lower_priority();
        let mut log = open.map_or_else(|| history.open_log(ask.from, ask.newest), Ok)?;
        let part = log.read(ask.from, ask.upto)?;
        Ok((log, part))
    });
    let part = match read.await {
        Ok(Ok((log, part))) => {
            link.log.replace(Some(log));
            Ok(part)
        }
        Ok(Err(why)) => Err(why),
        Err(e) => Err(format!("no thread to read it: {e}")),
    };
    if !link.is_closed() {
        events.links.push(Input::LogRead(link.id, part));
    }
}

//! Who belongs to the ensemble, as far as the client's own thread has to know: read once, and again whenever that changes.

use super::op::{Op, Ops};
use super::pending::{Completion, Pending};
use super::pipelined::{CONFIG, data};
use super::watch::{Feed, News, Watch};
use super::{Error, Host, Stat, WatchedEvent, client_addresses};
use std::time::Duration;

/// A reading of the configuration, under way or answered, and the watch that came with it.
#[derive(Debug, Default)]
pub(super) struct Members {
    asked: Option<Pending<(Vec<u8>, Stat)>>,
    watch: Option<Watch>,
    /// It may not be read here; asking again would not help.
    is_refused: bool,
}

impl Members {
    /// The operation that reads it, and who is told what comes of it.
    pub(super) fn read(&mut self) -> (Result<Op, Error>, Completion, Feed<WatchedEvent>) {
        let (done, asked) = Pending::pair(data);
        let (feed, news) = News::exact();
        self.asked = Some(asked);
        self.watch = Some(Watch { feed: feed.clone(), news });
        (Ops { chroot: "" }.get(CONFIG, true), done, feed)
    }

    /// Nothing is under way, and what is known may have changed: the watch has fired, or was never set.
    pub(super) fn is_to_be_read(&mut self) -> bool {
        let may_ask = self.asked.is_none() && !self.is_refused;
        may_ask && self.watch.as_mut().is_none_or(|watch| watch.wait_for(Duration::ZERO).is_ok())
    }

    /// The members, once for each reading. None of them where one does not say where its clients go, or nobody may read it.
    pub(super) fn answer(&mut self) -> Option<Vec<Host>> {
        let answer = self.asked.as_mut()?.wait_for(Duration::ZERO)?;
        self.asked = None;
        self.is_refused = matches!(answer, Err(Error::Refused(_)));
        let (config, _) = answer.ok()?;
        Some(client_addresses(&String::from_utf8_lossy(&config))).filter(|hosts| !hosts.is_empty())
    }
}

//! Watches that the shell has set: addWatch, removewatches, and what `-w` leaves behind.

use super::Shell;
use super::answer::Answer;
use super::args::Args;
use super::commands::Command;
use super::failure::Failure;
use super::nodes::{path_of, wait};
use crate::client::{AddWatchMode, Error, Watch, WatchKind, WatcherType};
use std::time::Duration;

/// A watch whose events are shown. As long as it is kept, the client sets it again at every server.
pub(super) struct KeptWatch {
    path: String,
    kind: WatchKind,
    watch: Watch,
}

impl KeptWatch {
    pub(super) fn new(path: &str, kind: WatchKind, watch: Watch) -> Self {
        KeptWatch { path: path.to_owned(), kind, watch }
    }

    /// What it has told is shown already, by whoever hears all notices; here it only is over or not.
    pub(super) fn is_alive(&mut self) -> bool {
        loop {
            match self.watch.wait_for(Duration::ZERO) {
                Ok(Some(_)) => {}
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }
}

pub(super) fn add(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let usage = || Command::usage_failure("addWatch");
    let mode = match args.value("m").map(str::to_ascii_uppercase).as_deref() {
        None | Some("PERSISTENT_RECURSIVE") => AddWatchMode::PersistentRecursive,
        Some("PERSISTENT") => AddWatchMode::Persistent,
        Some(_) => return Err(usage()),
    };
    let [path] = args.plain.as_slice() else { return Err(usage()) };
    let (set, watch) = shell.client()?.pipelined().add_watch(path, mode);
    wait(path, set)?;
    let kind = match mode {
        AddWatchMode::Persistent => WatchKind::Persistent,
        AddWatchMode::PersistentRecursive => WatchKind::Recursive,
    };
    shell.watches.push(KeptWatch::new(path, kind, watch));
    Ok(Answer::Nothing)
}

pub(super) fn remove(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let path = path_of(args);
    let given = |(name, which): &(&str, WatcherType)| args.has(name).then_some(*which);
    let types =
        [("c", WatcherType::Children), ("d", WatcherType::Data), ("p", WatcherType::Persistent), ("r", WatcherType::PersistentRecursive)];
    let which = types.iter().find_map(given).unwrap_or(WatcherType::Any);
    let removed = shell.client()?.pipelined().remove_watches_of(path, which).wait();
    let state = match &removed {
        Ok(()) => "SyncConnected",
        // Without a server they are forgotten here, and not set again at the next one.
        Err(Error::NotSent | Error::ConnectionLoss) if args.has("l") => "Disconnected",
        Err(why) => return Err(Failure::at(path, why)),
    };
    let is_meant = |kept: &KeptWatch| kept.path == path && which.includes(kept.kind);
    let kinds: Vec<WatchKind> = shell.watches.iter().filter(|kept| is_meant(kept)).map(|kept| kept.kind).collect();
    shell.watches.retain(|kept| !is_meant(kept));
    for (event, includes) in REMOVALS {
        if kinds.iter().any(|kind| includes(*kind)) {
            shell.screen.event(state, event, Some(path), None);
        }
    }
    Ok(Answer::Nothing)
}

type Includes = fn(WatchKind) -> bool;

/// What is told of watches that were removed: once for each sort.
const REMOVALS: [(&str, Includes); 3] = [
    ("ChildWatchRemoved", |kind| matches!(kind, WatchKind::Child)),
    ("DataWatchRemoved", |kind| matches!(kind, WatchKind::Data | WatchKind::Exist)),
    ("PersistentWatchRemoved", |kind| matches!(kind, WatchKind::Persistent | WatchKind::Recursive)),
];

//! `zoo watch`: what happens to a node, until somebody stops it.

use super::shell::{data_json, event_json, event_name};
use super::{ClientArgs, EXIT_FAILURE, EXIT_USAGE, Format, fail, say};
use crate::client::{AddWatchMode, Error, ErrorCode, EventType, Notice, SessionState, WatchedEvent, ZooClient};
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;

/// Print what happens to a node, until stopped
///
/// First its data, if it exists, then a line for each event; a change of data is followed by the new data. What happened while there was no
/// connection is made up for by reading again.
///
/// Exit codes: 0 --count is reached, 1 failure, 2 bad command line.
#[derive(clap::Args)]
pub(super) struct WatchArgs {
    /// The node
    #[arg(value_name = "PATH")]
    path: String,
    #[command(flatten)]
    servers: ClientArgs,
    /// Everything below it, too
    #[arg(short, long)]
    recursive: bool,
    /// End after so many events
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,
    /// How to show them
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn run(args: &WatchArgs) -> ExitCode {
    match args.servers.builder().connect().and_then(|client| follow(&client, args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why @ (Error::BadArgument(_) | Error::BadPath(_))) => fail(EXIT_USAGE, &why),
        Err(why) => fail(EXIT_FAILURE, &why),
    }
}

fn follow(client: &ZooClient, args: &WatchArgs) -> Result<(), Error> {
    let mode = if args.recursive { AddWatchMode::PersistentRecursive } else { AddWatchMode::Persistent };
    // Before the watch is set: everything it tells is heard.
    let mut notices = client.notices();
    let mut watch = client.add_watch(&args.path, mode)?;
    let mut seen = i64::MIN;
    show_data(client, args, &args.path, None, &mut seen)?;
    let mut is_connected = true;
    let mut left = args.count;
    while left != Some(0) {
        // The same events come as notices; here they are only not to pile up.
        while let Ok(Some(_)) = watch.wait_for(Duration::ZERO) {}
        match notices.wait() {
            None => return Err(Error::Closed),
            Some(Notice::State(SessionState::Expired)) => return Err(Error::SessionExpired),
            Some(Notice::State(state)) => {
                let is_back = state == SessionState::Connected && !is_connected;
                is_connected = matches!(state, SessionState::Connected | SessionState::ConnectedReadOnly);
                if is_back {
                    show_data(client, args, &args.path, None, &mut seen)?;
                }
            }
            Some(Notice::Event(event)) => {
                show_event(client, args, &event, &mut seen)?;
                left = left.map(|n| n - 1);
            }
        }
    }
    Ok(())
}

fn show_event(client: &ZooClient, args: &WatchArgs, event: &WatchedEvent, seen: &mut i64) -> Result<(), Error> {
    match event.kind {
        EventType::NodeCreated | EventType::NodeDataChanged => show_data(client, args, &event.path, Some(event), seen),
        EventType::NodeDeleted | EventType::NodeChildrenChanged => {
            show(args, Some(event), None);
            Ok(())
        }
    }
}

/// The data of a node, unless it is gone already, behind the event that made it worth reading. Without one: only if it has changed since it was last seen.
fn show_data(client: &ZooClient, args: &WatchArgs, path: &str, event: Option<&WatchedEvent>, seen: &mut i64) -> Result<(), Error> {
    match client.get(path) {
        Ok((data, stat)) => {
            let is_new = path != args.path || stat.mzxid > *seen;
            if path == args.path {
                *seen = stat.mzxid.max(*seen);
            }
            if event.is_some() || is_new {
                show(args, event, Some(&data));
            }
        }
        Err(Error::Refused(ErrorCode::NoNode)) if event.is_none() => {}
        Err(Error::Refused(ErrorCode::NoNode | ErrorCode::NoAuth)) => show(args, event, None),
        Err(why) => return Err(why),
    }
    Ok(())
}

fn show(args: &WatchArgs, event: Option<&WatchedEvent>, data: Option<&[u8]>) {
    match args.output {
        Format::Json => {
            let mut line = event.map_or_else(
                || Value::Object(serde_json::Map::new()),
                |event| event_json("SyncConnected", event_name(event.kind), Some(&event.path), event.zxid),
            );
            if let (Some(data), Value::Object(line)) = (data, &mut line)
                && let Value::Object(data) = data_json(Some(data))
            {
                line.extend(data);
            }
            say(&line.to_string());
        }
        Format::Text => {
            if let Some(event) = event {
                let zxid = event.zxid.map_or_else(|| "-".to_owned(), |zxid| format!("0x{zxid:x}"));
                say(&format!("{} {} {zxid}", event_name(event.kind), event.path));
            }
            if let Some(data) = data {
                say(&String::from_utf8_lossy(data));
            }
        }
    }
}

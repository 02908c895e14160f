//! Who belongs to the ensemble: config, reconfig.

use super::Shell;
use super::answer::{Answer, stat_json};
use super::args::Args;
use super::commands::Command;
use super::failure::Failure;
use super::watches::KeptWatch;
use crate::client::{Stat, WatchKind};
use serde_json::json;

/// Where the configuration is kept, outside of every chroot.
const CONFIG: &str = "/zookeeper/config";

pub(super) fn config(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let calls = shell.client()?.pipelined();
    let found = if args.has("w") {
        let (found, watch) = calls.config_and_watch();
        let found = found.wait();
        shell.watches.push(KeptWatch::new(CONFIG, WatchKind::Data, watch));
        found
    } else {
        calls.config().wait()
    };
    let (data, stat) = found.map_err(|why| Failure::at(CONFIG, &why))?;
    let text = String::from_utf8_lossy(&data).into_owned();
    let shown = if args.has("c") { connect_string(&text) } else { text };
    Ok(with_stat(shown, "config", args.has("s").then_some(&stat)))
}

fn with_stat(text: String, name: &str, stat: Option<&Stat>) -> Answer {
    let value = json!({ name: text, "stat": stat.map(stat_json) });
    let below = stat.and_then(|stat| Answer::Stat(*stat).text()).map_or_else(String::new, |stat| format!("\n{stat}"));
    Answer::Text(text + &below, value)
}

/// Version and client addresses of a configuration's servers, as they stand there.
fn connect_string(config: &str) -> String {
    let entries = || config.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.trim(), value.trim()));
    let version = entries().find(|(key, _)| *key == "version").map_or("", |(_, value)| value);
    let servers = entries().filter(|(key, _)| key.starts_with("server."));
    // A port alone stands for every interface.
    let address = |client: &str| if client.contains(':') { client.replace(['[', ']'], "") } else { format!("0.0.0.0:{client}") };
    let addresses: Vec<String> = servers.filter_map(|(_, value)| value.split_once(';')).map(|(_, client)| address(client)).collect();
    format!("{version} {}", addresses.join(","))
}

pub(super) fn reconfig(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let whole = args.has("file") || args.has("members");
    let parts = args.has("add") || args.has("remove");
    if !whole && !parts {
        return Err(Command::usage_failure("reconfig"));
    }
    let not_hex = || Failure::new("-v must be followed by a long (configuration version)");
    let version = args.value("v").map_or(Ok(-1), |text| i64::from_str_radix(text, 16).map_err(|_| not_hex()))?;
    if whole && parts {
        return Err(Failure::new(
            "Can't use -file or -members together with -add or -remove (mixing incremental and non-incremental modes is not allowed)",
        ));
    }
    if args.has("file") && args.has("members") {
        return Err(Failure::new("Can't use -file and -members together (conflicting non-incremental modes)"));
    }
    let lower = |name| args.value(name).map(str::to_lowercase);
    let members = match args.value("file") {
        Some(file) => Some(members_in(file)?),
        None => lower("members"),
    };
    let (joining, leaving) = (lower("add"), lower("remove"));
    let asked = shell.client()?.pipelined().reconfig(joining.as_deref(), leaving.as_deref(), members.as_deref(), version);
    let (data, stat) = asked.wait().map_err(|why| Failure::of(&why))?;
    let text = format!("Committed new configuration:\n{}", String::from_utf8_lossy(&data));
    Ok(with_stat(text, "config", args.has("s").then_some(&stat)))
}

/// The members in a file like those that servers write, by commas.
fn members_in(file: &str) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file).map_err(|why| Failure::new(format!("Error processing {file}: {why}")))?;
    let is_member = |line: &&str| ["server.", "group.", "weight."].iter().any(|key| line.starts_with(key));
    let lines: Vec<&str> = text.lines().map(str::trim).filter(is_member).collect();
    if lines.is_empty() { Err(Failure::new(format!("Error processing {file}: it names no server"))) } else { Ok(lines.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_string_has_the_servers_client_addresses() {
        let config = "server.1=a:1:2:participant;0.0.0.0:2181\nserver.2=b:1:2:observer;2182\nserver.3=c:1:2\nversion=100000000";
        assert_eq!(connect_string(config), "100000000 0.0.0.0:2181,0.0.0.0:2182");
    }

    #[test]
    fn a_file_gives_its_members_and_nothing_else() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "# ours\nserver.1=a:1:2;3\n server.2=b:1:2;3\nversion=5\n").expect("written");
        let name = file.path().to_str().expect("UTF-8");
        assert_eq!(members_in(name).ok().as_deref(), Some("server.1=a:1:2;3,server.2=b:1:2;3"));
        assert!(members_in("/nowhere/at/all").is_err());
    }
}

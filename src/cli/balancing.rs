//! What the nodes below `/zookeeper/balance` say, for `zoo status`: understood as the servers understand it.

use crate::balance::strategy::{self, Cores, Counts, Demand, Pace, Servers};
use crate::client::{Acl, Error, ErrorCode, ZooClient};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Permission to read; whoever has another one may change something.
const READ: i32 = 1;

/// Why a node is ignored that nobody has asked for.
const UNKNOWN: &str = "there is nothing of this name";

/// What a node says, or why it cannot be understood.
type InWords = fn(&[u8]) -> Result<String, String>;

/// The nodes there are, by name, each with what it says or why the servers ignore it.
pub(super) struct Balancing(Vec<(String, Result<String, String>)>);

impl Balancing {
    /// `None`: nothing is said there, and each server has what its configuration file says.
    pub(super) fn of(servers: &str, patience: Duration) -> Result<Option<Self>, Error> {
        let builder = ZooClient::builder(servers).connect_patience(patience).request_timeout(patience).fail_fast(true);
        let client = builder.connect()?;
        let found = Self::read(&client);
        // If it does not end now, it does by its timeout.
        let _ = client.close();
        found
    }

    fn read(client: &ZooClient) -> Result<Option<Self>, Error> {
        let Some(root_is_guarded) = is_guarded(client, strategy::ROOT)? else { return Ok(None) };
        let mut nodes = Vec::new();
        let all: [(_, _, InWords); 4] = [
            ("cores", strategy::CORES, |data| Cores::parse(data).map(cores)),
            ("servers", strategy::SERVERS, |data| Servers::parse(data).map(servers)),
            ("shed", strategy::SHED, |data| Demand::parse(data).map(demand)),
            ("counts", strategy::COUNTS, |data| Counts::parse(data).map(|counts| listed(&counts))),
        ];
        for (name, path, understood) in all {
            let Some(guarded) = is_guarded(client, path)? else { continue };
            let says = match client.get(path) {
                Err(Error::Refused(ErrorCode::NoNode)) => continue,
                Err(why) => Err(why.to_string()),
                Ok(_) if !(guarded && root_is_guarded) => Err("others than the super user may write it".to_owned()),
                Ok((data, _)) => understood(&data),
            };
            nodes.push((name.to_owned(), says));
        }
        let known = |name: &String| all.iter().any(|(known, ..)| known == name);
        let unknown = client.children(strategy::ROOT)?.into_iter().filter(|name| !known(name));
        nodes.extend(unknown.map(|name| (name, Err(UNKNOWN.to_owned()))));
        Ok(Some(Balancing(nodes)).filter(|balancing| !balancing.0.is_empty()))
    }

    /// A line for each node.
    pub(super) fn text(&self) -> String {
        let line = |(name, says): &(String, Result<String, String>)| match says {
            Ok(what) => format!("balance/{name}: {what}"),
            Err(why) if why == UNKNOWN => format!("balance/{name}: ignored ({why})"),
            Err(why) => format!("balance/{name}: ignored, each server keeps what it understood last ({why})"),
        };
        self.0.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn json(&self) -> Value {
        let node = |(name, says): &(String, Result<String, String>)| {
            (name.clone(), json!({ "says": says.as_ref().ok(), "ignored": says.as_ref().err() }))
        };
        Value::Object(self.0.iter().map(node).collect::<Map<_, _>>())
    }
}

/// Does nobody but the super user do anything but read it? `None` where there is no such node.
fn is_guarded(client: &ZooClient, path: &str) -> Result<Option<bool>, Error> {
    match client.get_acl(path) {
        Ok((acl, _)) => Ok(Some(acl.iter().all(|Acl { perms, scheme, .. }| scheme == "super" || perms & !READ == 0))),
        Err(Error::Refused(ErrorCode::NoNode)) => Ok(None),
        Err(why) => Err(why),
    }
}

fn cores(cores: Cores) -> String {
    let moves = match cores.rebalance_ms {
        None => "moves between cores as each server's configuration file has them".to_owned(),
        Some(0) => "no moves between cores".to_owned(),
        Some(ms) => format!("cores compared every {ms} ms"),
    };
    format!("{}, {moves}", cores.placement.name())
}

fn servers(servers: Servers) -> String {
    let Servers { is_even, tolerance_percent, pace } = servers;
    if is_even {
        format!("even within {tolerance_percent} %, {}", paced(pace))
    } else {
        "none: counts are published, nothing more".to_owned()
    }
}

fn demand(demand: Demand) -> String {
    let amount = match demand.amount {
        strategy::Amount::Connections(n) => format!("{n} connections"),
        strategy::Amount::Percent(percent) => format!("{percent} % of its connections"),
    };
    format!("server {} was told to close {amount}, {}", demand.server, paced(demand.pace))
}

fn paced(Pace { rate, idle_ms }: Pace) -> String {
    format!("at most {rate} connections a second, idle for {idle_ms} ms")
}

fn listed(Counts(counts): &Counts) -> String {
    let all: Vec<String> = counts.iter().map(|(server, connections)| format!("server {server} has {connections}")).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_shown_in_words_and_ignored_ones_with_the_reason() {
        let even = Servers::parse(br#"{"strategy":"even","rate":7}"#).map(servers);
        let least = Cores::parse(br#"{"strategy":"least-load","rebalanceInterval":100}"#).map(cores);
        let counts = Counts::parse(br#"{"2":5,"1":4}"#).map(|counts| listed(&counts));
        let shed = Demand::parse(b"{}").map(demand);
        let typo = Err(UNKNOWN.to_owned());
        let all = [("cores", least), ("servers", even), ("shed", shed), ("counts", counts), ("server", typo)];
        let all = Balancing(all.map(|(name, says)| (name.to_owned(), says)).into());
        let text = all.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "balance/cores: least-load, cores compared every 100 ms");
        assert_eq!(lines[1], "balance/servers: even within 5 %, at most 7 connections a second, idle for 500 ms");
        assert!(lines[2].starts_with("balance/shed: ignored") && lines[2].contains("\"server\" is missing"), "{text}");
        assert_eq!(lines[3], "balance/counts: server 1 has 4, server 2 has 5");
        assert_eq!(lines[4], "balance/server: ignored (there is nothing of this name)");
        assert_eq!(all.json()["counts"], json!({ "says": "server 1 has 4, server 2 has 5", "ignored": null }));
    }
}

//! `zoo status`: the servers of an ensemble at a glance, by what each says to `srvr`, and the strategies by which their connections are balanced.

use super::balancing::Balancing;
use super::stages::Stages;
use super::{EXIT_FAILURE, EXIT_USAGE, Format, fail};
use crate::client::four_letter::{ask, value};
use crate::client::{ConnectString, Host};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

/// Show the servers of an ensemble
///
/// Asks each server of the connect string for "srvr", which every server answers unless its whitelist says otherwise. The strategies in
/// /zookeeper/balance, if there are any, are read in a session. With --stages each is asked for "mntr", too, which its whitelist has to name.
///
/// Exit codes: 0 every server serves, 1 some do not, 2 bad command line.
#[derive(clap::Args)]
pub(super) struct StatusArgs {
    /// The servers: host:port,host:port,...
    #[arg(value_name = "CONNECT_STRING", default_value = "localhost:2181")]
    servers: String,
    /// How to show them
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// How long a server may take to answer, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    patience: u64,
    /// Make no session, and so show no strategies
    #[arg(long)]
    no_session: bool,
    /// Show where requests spend their time on each server, by stages, since it started or was told "srst"
    #[arg(long)]
    stages: bool,
}

/// What one server has said, or why nothing.
struct Row {
    server: String,
    answer: Result<String, String>,
    /// To `mntr`, if it was asked.
    stages: Option<Result<String, String>>,
}

pub(super) fn run(args: &StatusArgs) -> ExitCode {
    let servers = match ConnectString::parse(&args.servers) {
        Ok(servers) => servers.hosts,
        Err(why) => return fail(EXIT_USAGE, &why),
    };
    let patience = Duration::from_millis(args.patience);
    // All at once: one that hangs delays nobody else.
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let asked: Vec<_> = servers.iter().map(|host| (host, scope.spawn(move || look(host, patience, args.stages)))).collect();
        let gone = |host: &Host| Row { server: host.to_string(), answer: Err("not asked".to_owned()), stages: None };
        asked.into_iter().map(|(host, thread)| thread.join().unwrap_or_else(|_| gone(host))).collect()
    });
    let asks = !args.no_session && rows.iter().any(Row::serves);
    let balancing = if asks { Balancing::of(&args.servers, patience) } else { Ok(None) };
    match args.output {
        Format::Text => {
            super::say(&table(&rows));
            match balancing {
                Ok(balancing) => balancing.iter().for_each(|balancing| super::say(&balancing.text())),
                Err(why) => super::say(&format!("balance: unknown ({why})")),
            }
            rows.iter().filter_map(Row::stages_text).for_each(|text| super::say(&text));
        }
        Format::Json => {
            let balance = balancing.ok().flatten().map(|balancing| balancing.json());
            super::say(&rows.iter().map(|row| row.json(balance.as_ref())).collect::<Value>().to_string());
        }
    }
    if rows.iter().all(Row::serves) { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) }
}

fn look(host: &Host, patience: Duration, with_stages: bool) -> Row {
    let say = |word| ask((host.name.as_str(), host.port), word, patience).map_err(|e| e.to_string());
    Row { server: host.to_string(), answer: say("srvr"), stages: with_stages.then(|| say("mntr")) }
}

impl Row {
    fn get(&self, key: &str) -> Option<&str> {
        value(self.answer.as_deref().ok()?, key)
    }

    fn serves(&self) -> bool {
        self.get("Mode").is_some()
    }

    /// The mode, or in its place what is wrong.
    fn mode(&self) -> &str {
        match &self.answer {
            Ok(_) => self.get("Mode").unwrap_or("not serving"),
            Err(_) => "unreachable",
        }
    }

    /// Without commit and date.
    fn version(&self) -> Option<&str> {
        self.get("Zookeeper version").map(|v| v.split([',', ' ']).next().unwrap_or(v))
    }

    fn cells(&self) -> [&str; 7] {
        let show = |key| self.get(key).unwrap_or("-");
        [
            &self.server,
            self.mode(),
            show("Zxid"),
            show("Connections"),
            show("Node count"),
            show("Latency min/avg/max"),
            self.version().unwrap_or("-"),
        ]
    }

    fn stages(&self) -> Option<Result<Stages<'_>, String>> {
        Some(self.stages.as_ref()?.as_deref().map_err(Clone::clone).and_then(Stages::of))
    }

    fn stages_text(&self) -> Option<String> {
        Some(match self.stages()? {
            Ok(stages) => format!("\n{}\n{}", self.server, stages.text()),
            Err(why) => format!("\n{}\n  no stages: {why}", self.server),
        })
    }

    fn json(&self, balance: Option<&Value>) -> Value {
        let number = |key| self.get(key).and_then(|text| text.parse::<u64>().ok());
        let latency: Vec<Option<f64>> =
            self.get("Latency min/avg/max").map_or_else(Vec::new, |text| text.split('/').map(|part| part.parse().ok()).collect());
        let part = |n: usize| latency.get(n).copied().flatten();
        json!({
            "server": self.server,
            "serving": self.serves(),
            "mode": self.mode(),
            "zxid": self.get("Zxid"),
            "connections": number("Connections"),
            "outstanding": number("Outstanding"),
            "nodes": number("Node count"),
            "latency_ms": { "min": part(0), "avg": part(1), "max": part(2) },
            "version": self.version(),
            "balance": balance,
            "stages": self.stages().and_then(|stages| Some(stages.ok()?.json())),
            "error": self.answer.as_ref().err(),
        })
    }
}

const HEAD: [&str; 7] = ["server", "mode", "zxid", "connections", "nodes", "latency ms", "version"];

/// Columns as wide as what is in them; what is wrong with a server stands behind its line.
fn table(rows: &[Row]) -> String {
    let cells: Vec<[&str; 7]> = std::iter::once(HEAD).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    let line = |row: &[&str; 7]| {
        let padded: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let why = |n: usize| n.checked_sub(1).and_then(|n| rows[n].answer.as_ref().err());
    let lines = cells.iter().enumerate().map(|(n, row)| line(row) + &why(n).map_or_else(String::new, |why| format!("  ({why})")));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let leader = "Zookeeper version: 3.9.4-abc, built on 2026-11-23 03:00 UTC\nLatency min/avg/max: 0/0.25/7\nReceived: 9\nSent: 9\n\
            Connections: 2\nOutstanding: 1\nZxid: 0x100000002\nMode: leader\nNode count: 5\n";
        let row = |server: &str, answer: Result<&str, &str>| Row {
            server: server.to_owned(),
            answer: answer.map(str::to_owned).map_err(str::to_owned),
            stages: None,
        };
        vec![
            row("a:1", Ok(leader)),
            row("b:2", Ok("This ZooKeeper instance is not currently serving requests\n")),
            row("c:3", Err("Connection refused")),
        ]
    }

    #[test]
    fn the_table_shows_every_server_and_what_is_wrong_with_it() {
        let text = table(&rows());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "server  mode         zxid         connections  nodes  latency ms  version");
        assert_eq!(lines[1], "a:1     leader       0x100000002  2            5      0/0.25/7    3.9.4-abc");
        assert_eq!(lines[2], "b:2     not serving  -            -            -      -           -");
        assert_eq!(lines[3], "c:3     unreachable  -            -            -      -           -  (Connection refused)");
    }

    #[test]
    fn json_has_numbers_for_numbers_and_null_for_what_is_not_known() {
        let rows = rows();
        let leader = rows[0].json(Some(&json!({ "cores": 1 })));
        assert_eq!(leader["latency_ms"], json!({ "min": 0.0, "avg": 0.25, "max": 7.0 }));
        assert_eq!((&leader["connections"], &leader["zxid"], &leader["serving"]), (&json!(2), &json!("0x100000002"), &json!(true)));
        let gone = rows[2].json(None);
        assert_eq!((&leader["balance"], &gone["balance"]), (&json!({ "cores": 1 }), &Value::Null));
        assert_eq!((&gone["error"], &gone["nodes"], &gone["serving"]), (&json!("Connection refused"), &Value::Null, &json!(false)));
    }
}

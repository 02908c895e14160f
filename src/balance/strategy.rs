//! Strategies as znodes say them: one JSON object per node below `ROOT`, and the counts that the servers publish there.
//!
//! Whatever is not understood to the last key is refused as a whole: a misspelt key must not leave its default in force unnoticed.

use super::Placement;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Above all others; absent until the super user creates it.
pub const ROOT: &str = "/zookeeper/balance";
/// How connections are placed on the cores of a server, and moved between them.
pub const CORES: &str = "/zookeeper/balance/cores";
/// How connections are spread over the servers of the ensemble.
pub const SERVERS: &str = "/zookeeper/balance/servers";
/// An order to one server to give connections away, whatever the strategy.
pub const SHED: &str = "/zookeeper/balance/shed";
/// How many connections each server has, written by the leader.
pub const COUNTS: &str = "/zookeeper/balance/counts";

/// A node with more than this says nothing sensible.
const BYTES_MAX: usize = 64 << 10;
const TOLERANCE_PERCENT: u64 = 5;
/// Connections closed in a second.
const RATE: u64 = 50;
const RATE_MAX: u64 = 100_000;
/// For how long a connection has sent nothing before it may be closed.
const IDLE_MS: u64 = 500;
const IDLE_MS_MAX: u64 = 3_600_000;
const INTERVAL_MS_MAX: u64 = i32::MAX as u64;

/// What `CORES` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// Which core gets a new connection.
    pub placement: Placement,
    /// How often it is looked whether some should move; 0 is never, `None` as each server's configuration file has it.
    pub rebalance_ms: Option<u64>,
}

/// What `SERVERS` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Servers {
    /// False (`none`): counts are published, and nobody gives anything away because of them.
    pub is_even: bool,
    /// A server with so much more than its share is left alone.
    pub tolerance_percent: u64,
    /// How connections are closed.
    pub pace: Pace,
}

/// How a server closes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// At most so many in a second.
    pub rate: u64,
    /// Only those whose clients have sent nothing for so long.
    pub idle_ms: u64,
}

/// What `SHED` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Who is to do it.
    pub server: i64,
    /// How much.
    pub amount: Amount,
    /// How fast.
    pub pace: Pace,
}

/// A number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many.
    Connections(u64),
    /// So much of what there is.
    Percent(u64),
}

impl Amount {
    /// Of this many.
    #[must_use]
    pub fn of(self, connections: u32) -> u64 {
        match self {
            Amount::Connections(n) => n.min(u64::from(connections)),
            Amount::Percent(percent) => (u64::from(connections) * percent).div_ceil(100),
        }
    }
}

impl Cores {
    /// Understands the node, or says why not.
    pub fn parse(data: &[u8]) -> Result<Self, String> {
        let mut fields = Fields::read(data)?;
        let name = fields.required_text("strategy")?;
        let placement = Placement::named(&name).ok_or_else(|| unknown(&name, Placement::NAMES.map(|(name, _)| name).as_slice()))?;
        let rebalance_ms = fields.number("rebalanceInterval", 0..=INTERVAL_MS_MAX)?;
        fields.end(Cores { placement, rebalance_ms })
    }
}

impl Servers {
    /// Understands the node, or says why not.
    pub fn parse(data: &[u8]) -> Result<Self, String> {
        let mut fields = Fields::read(data)?;
        let is_even = match fields.required_text("strategy")?.as_str() {
            "even" => true,
            "none" => false,
            other => return Err(unknown(other, &["even", "none"])),
        };
        let tolerance_percent = fields.number("tolerance", 0..=100)?.unwrap_or(TOLERANCE_PERCENT);
        let pace = fields.pace()?;
        fields.end(Servers { is_even, tolerance_percent, pace })
    }
}

impl Demand {
    /// Understands the node, or says why not.
    pub fn parse(data: &[u8]) -> Result<Self, String> {
        let mut fields = Fields::read(data)?;
        let server = fields.number("server", 0..=i64::MAX as u64)?.ok_or("\"server\" is missing")? as i64;
        let connections = fields.number("connections", 0..=u64::from(u32::MAX))?;
        let amount = match (connections, fields.number("percent", 0..=100)?) {
            (Some(n), None) => Amount::Connections(n),
            (None, Some(percent)) => Amount::Percent(percent),
            _ => return Err("one of \"connections\" and \"percent\" is needed".to_owned()),
        };
        let pace = fields.pace()?;
        fields.end(Demand { server, amount, pace })
    }
}

/// How many connections each server has, by its number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub BTreeMap<i64, u32>);

impl Counts {
    /// As the node has them.
    #[must_use]
    pub fn to_json(&self) -> String {
        let all: Vec<String> = self.0.iter().map(|(server, connections)| format!("\"{server}\":{connections}")).collect();
        format!("{{{}}}", all.join(","))
    }

    /// Understands the node, or says why not.
    pub fn parse(data: &[u8]) -> Result<Self, String> {
        let count = |(server, value): (&String, &Value)| {
            let connections = value.as_u64().and_then(|n| u32::try_from(n).ok());
            server.parse::<i64>().ok().zip(connections).ok_or_else(|| format!("{server:?} is no server with a number of connections"))
        };
        Fields::read(data)?.0.iter().map(count).collect::<Result<_, _>>().map(Counts)
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    format!("strategy {name:?} is none of {}", known.join(", "))
}

/// An object whose keys are taken out one by one.
struct Fields(Map<String, Value>);

impl Fields {
    fn read(data: &[u8]) -> Result<Self, String> {
        if data.len() > BYTES_MAX {
            return Err(format!("it has more than {BYTES_MAX} bytes"));
        }
        match serde_json::from_slice(data) {
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            Ok(_) => Err("it is no JSON object".to_owned()),
            Err(e) => Err(format!("it is no JSON: {e}")),
        }
    }

    fn required_text(&mut self, key: &str) -> Result<String, String> {
        match self.0.remove(key) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(format!("{key:?} is no string")),
            None => Err(format!("{key:?} is missing")),
        }
    }

    fn number(&mut self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, String> {
        let Some(value) = self.0.remove(key) else { return Ok(None) };
        let number = value.as_u64().filter(|n| range.contains(n));
        number.map(Some).ok_or_else(|| format!("{key:?} is no number from {} to {}", range.start(), range.end()))
    }

    fn pace(&mut self) -> Result<Pace, String> {
        let rate = self.number("rate", 1..=RATE_MAX)?.unwrap_or(RATE);
        let idle_ms = self.number("idle", 0..=IDLE_MS_MAX)?.unwrap_or(IDLE_MS);
        Ok(Pace { rate, idle_ms })
    }

    fn end<T>(self, understood: T) -> Result<T, String> {
        match self.0.keys().next() {
            Some(key) => Err(format!("{key:?} means nothing here")),
            None => Ok(understood),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strategies_are_understood_with_their_defaults() {
        let cores = |placement, rebalance_ms| Ok(Cores { placement, rebalance_ms });
        assert_eq!(Cores::parse(br#"{"strategy":"least-load"}"#), cores(Placement::LeastLoad, None));
        assert_eq!(Cores::parse(br#"{"strategy":"round-robin","rebalanceInterval":0}"#), cores(Placement::RoundRobin, Some(0)));
        let pace = |rate, idle_ms| Pace { rate, idle_ms };
        let even = Servers { is_even: true, tolerance_percent: 5, pace: pace(50, 500) };
        assert_eq!(Servers::parse(br#"{"strategy":"even"}"#), Ok(even));
        let all = br#"{"strategy":"none","tolerance":20,"rate":7,"idle":0}"#;
        assert_eq!(Servers::parse(all), Ok(Servers { is_even: false, tolerance_percent: 20, pace: pace(7, 0) }));
        let demand = |amount| Ok(Demand { server: 2, amount, pace: pace(50, 500) });
        assert_eq!(Demand::parse(br#"{"server":2,"percent":50}"#), demand(Amount::Percent(50)));
        assert_eq!(Demand::parse(br#"{"server":2,"connections":9}"#), demand(Amount::Connections(9)));
        assert_eq!([Amount::Percent(50).of(9), Amount::Percent(100).of(9), Amount::Connections(20).of(9)], [5, 9, 9]);
    }

    #[test]
    fn what_is_not_understood_is_refused_with_the_reason() {
        let why = |data: &[u8]| Servers::parse(data).expect_err("malformed");
        assert!(why(b"even").contains("no JSON"));
        assert!(why(b"").contains("no JSON"));
        assert_eq!(why(b"[]"), "it is no JSON object");
        assert_eq!(why(b"{}"), "\"strategy\" is missing");
        assert_eq!(why(br#"{"strategy":1}"#), "\"strategy\" is no string");
        assert_eq!(why(br#"{"strategy":"odd"}"#), "strategy \"odd\" is none of even, none");
        assert_eq!(why(br#"{"strategy":"even","tolerance":101}"#), "\"tolerance\" is no number from 0 to 100");
        assert_eq!(why(br#"{"strategy":"even","rate":-1}"#), "\"rate\" is no number from 1 to 100000");
        assert_eq!(why(br#"{"strategy":"even","tolerence":9}"#), "\"tolerence\" means nothing here");
        assert!(why(&vec![b' '; BYTES_MAX + 1]).contains("more than"));
        assert!(why("[".repeat(50_000).as_bytes()).contains("no JSON"));
        assert!(Cores::parse(br#"{"strategy":"most"}"#).expect_err("unknown").contains("least-connections"));
        assert!(Demand::parse(br#"{"server":1}"#).expect_err("how many?").contains("percent"));
        assert!(Demand::parse(br#"{"percent":1}"#).expect_err("who?").contains("server"));
        assert!(Counts::parse(br#"{"one":1}"#).is_err() && Counts::parse(br#"{"1":-1}"#).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange_to_be_refused(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Cores::parse(&data), Servers::parse(&data), Demand::parse(&data), Counts::parse(&data));
        }

        #[test]
        fn counts_come_back_as_they_were_published(counts in prop::collection::btree_map(any::<i64>(), any::<u32>(), 0..9)) {
            let counts = Counts(counts);
            prop_assert_eq!(Counts::parse(counts.to_json().as_bytes()), Ok(counts));
        }
    }
}

//! Connect strings, and the order in which the servers of one are tried.

use super::Error;
use crate::base::path;
use crate::base::prng::Prng;

/// The port of a server that is named without one.
const DEFAULT_PORT: u16 = 2181;

/// Servers and chroot, as in `a:2181,b:2181,[::1]:2181/app`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectString {
    /// Name or address and port of each server; at least one.
    pub hosts: Vec<Host>,
    /// What is put in front of every path: empty, or `/…` without a slash at its end.
    pub chroot: String,
}

/// One server.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Host {
    /// Name or address, without brackets.
    pub name: String,
    /// Client port.
    pub port: u16,
}

impl ConnectString {
    /// Understands what every ZooKeeper client understands.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (hosts, chroot) = match text.find('/') {
            Some(at) => (&text[..at], text[at..].trim_end_matches('/')),
            None => (text, ""),
        };
        if !chroot.is_empty() {
            path::validate(chroot)?;
        }
        let hosts: Vec<Host> = hosts.split(',').map(str::trim).filter(|h| !h.is_empty()).map(parse_host).collect::<Result<_, _>>()?;
        if hosts.is_empty() {
            return Err(Error::BadArgument(format!("no server in the connect string {text:?}")));
        }
        Ok(ConnectString { hosts, chroot: chroot.to_owned() })
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.name.contains(':') { write!(f, "[{}]:{}", self.name, self.port) } else { write!(f, "{}:{}", self.name, self.port) }
    }
}

fn parse_host(text: &str) -> Result<Host, Error> {
    let bad = || Error::BadArgument(format!("{text:?} is no server: expected host, host:port or [address]:port"));
    let (name, port) = if let Some(rest) = text.strip_prefix('[') {
        let (name, rest) = rest.split_once(']').ok_or_else(bad)?;
        (name, rest.strip_prefix(':'))
    } else {
        match text.rsplit_once(':') {
            // More than one colon: an address without brackets and port.
            Some((front, _)) if front.contains(':') => (text, None),
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        }
    };
    let port = port.map_or(Ok(DEFAULT_PORT), |p| p.parse::<u16>().map_err(|_| bad()))?;
    if name.is_empty() || port == 0 {
        return Err(bad());
    }
    Ok(Host { name: name.to_owned(), port })
}

/// The servers in the order in which this client tries them: shuffled once, so that clients spread, then round and round.
#[derive(Debug)]
pub struct HostList {
    hosts: Vec<Host>,
    next: usize,
    tried: usize,
}

impl HostList {
    /// `seed` decides the order.
    #[must_use]
    pub fn new(mut hosts: Vec<Host>, seed: u64) -> Self {
        let mut random = Prng::new(seed);
        for i in (1..hosts.len()).rev() {
            hosts.swap(i, (random.below(i as u64 + 1)) as usize);
        }
        HostList { hosts, next: 0, tried: 0 }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.hosts.len()
    }

    /// Have all been tried, once or several times, since the last success?
    #[must_use]
    pub fn round_is_over(&self) -> bool {
        self.tried > 0 && self.tried.is_multiple_of(self.hosts.len())
    }

    /// The next server.
    pub fn advance(&mut self) -> Host {
        let host = self.hosts[self.next].clone();
        self.next = (self.next + 1) % self.hosts.len();
        self.tried += 1;
        host
    }

    /// A session was made or continued at the last one.
    pub fn succeeded(&mut self) {
        self.tried = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: u16) -> Host {
        Host { name: name.into(), port }
    }

    #[test]
    fn connect_strings_are_understood_as_by_every_client() {
        let parsed = ConnectString::parse("a:1, b ,[::1]:3,::1/app/x/").expect("valid");
        assert_eq!(parsed.hosts, [host("a", 1), host("b", 2181), host("::1", 3), host("::1", 2181)]);
        assert_eq!(parsed.chroot, "/app/x");
        assert_eq!(ConnectString::parse("a/").expect("valid").chroot, "");
        for bad in ["", ",", "/app", "a:0", "a:x", ":1", "[::1", "a//b", "a/./b"] {
            assert!(ConnectString::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_server_is_tried_before_one_is_tried_again() {
        let all: Vec<Host> = (1..=5).map(|p| host("h", p)).collect();
        let mut list = HostList::new(all.clone(), 7);
        let mut round = Vec::new();
        for _ in 0..5 {
            assert!(!list.round_is_over());
            round.push(list.advance());
        }
        assert!(list.round_is_over());
        assert_eq!(list.advance(), round[0]);
        round.sort_by_key(|h| h.port);
        assert_eq!(round, all);
        for _ in 0..4 {
            list.advance();
        }
        assert!(list.round_is_over());
        list.succeeded();
        assert!(!list.round_is_over());
    }
}

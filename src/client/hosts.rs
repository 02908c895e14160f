//! Connect strings, and the order in which the servers of one are tried.

use super::Error;
use super::preference::{Preference, Ranking};
use crate::base::path;
use crate::base::prng::Prng;
use std::collections::VecDeque;

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
///
/// When the list changes, clients move so that each server is left with its share of them, as ZooKeeper's own client does: where servers were added, as
/// many go to the new ones as those lack; where the own server is gone, old and new servers are chosen by what each sort lacks; else nobody moves.
#[derive(Debug)]
pub struct HostList {
    hosts: Vec<Host>,
    /// Which are better than others: these are first in the order.
    ranking: Ranking,
    next: usize,
    tried: usize,
    /// Of the last attempt.
    current: Option<Host>,
    /// To be tried before the others, once.
    first: VecDeque<Host>,
    random: Prng,
}

impl HostList {
    /// `seed` decides the order of servers that are equally good.
    #[must_use]
    pub fn new(hosts: Vec<Host>, preference: Preference, seed: u64) -> Self {
        let (ranking, random) = (Ranking::new(preference), Prng::new(seed));
        let mut list = HostList { hosts: Vec::new(), ranking, next: 0, tried: 0, current: None, first: VecDeque::new(), random };
        list.hosts = list.ordered(hosts);
        list
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
        let host = self.first.pop_front().unwrap_or_else(|| self.turn());
        self.tried += 1;
        self.current = Some(host.clone());
        host
    }

    /// A server to look at while another one is used.
    pub fn another(&mut self) -> Option<Host> {
        let here = self.current.clone();
        (0..self.hosts.len()).map(|_| self.turn()).find(|host| Some(host) != here.as_ref())
    }

    /// This one is to be the next.
    pub fn go_first(&mut self, host: Host) {
        self.first.push_front(host);
    }

    /// A session was made or continued at the last one.
    pub fn succeeded(&mut self) {
        self.tried = 0;
        self.first.clear();
        if !self.ranking.is_indifferent() {
            // Whoever was less than preferred is not to be followed by his neighbour.
            self.next = 0;
        }
    }

    /// All of them, to be measured.
    #[must_use]
    pub fn all(&self) -> &[Host] {
        &self.hosts
    }

    /// How long it takes to connect to those that could be reached, in µs. True: this client would rather be at another one, which is the next.
    pub fn measured(&mut self, distances: Vec<(Host, u64)>) -> bool {
        self.ranking.measured(distances);
        self.hosts = self.ordered(self.hosts.clone());
        // From the best one on, as whenever there is a preference.
        self.next = 0;
        let (Some(here), Some(best)) = (&self.current, self.hosts.first()) else { return false };
        self.ranking.rank(here).yields_to(self.ranking.rank(best))
    }

    /// From now on these are the servers. True: this client belongs to another one of them.
    pub fn update(&mut self, hosts: Vec<Host>) -> bool {
        let hosts = self.ordered(hosts);
        if hosts.is_empty() {
            return false;
        }
        let here = self.first.front().or(self.current.as_ref()).or(self.hosts.first());
        let is_kept = here.is_some_and(|here| hosts.contains(here));
        let (old, new): (Vec<Host>, Vec<Host>) = hosts.iter().cloned().partition(|host| self.hosts.contains(host));
        let (before, now) = (self.hosts.len() as u64, hosts.len() as u64);
        let grows = now > before;
        let moves = if is_kept { grows && self.random.chance(now - before, now) } else { true };
        self.first.clear();
        if moves {
            // How likely an old server is: by what the old ones have too few of.
            let lacking = if grows { 0 } else { old.len() as u64 * (before - now) };
            let of = now * (before - old.len() as u64);
            self.interleave(old, new, lacking, of);
        }
        self.next = hosts.iter().position(|host| !moves && Some(host) == self.current.as_ref()).map_or(0, |at| (at + 1) % hosts.len());
        self.hosts = hosts;
        self.tried = 0;
        moves
    }

    /// All of them, each time one of `old` with this probability, one of `new` otherwise, as long as there are any.
    fn interleave(&mut self, old: Vec<Host>, new: Vec<Host>, numerator: u64, denominator: u64) {
        let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
        while old.peek().is_some() || new.peek().is_some() {
            let takes_old = self.random.chance(numerator, denominator);
            let chosen = if old.peek().is_some() && (takes_old || new.peek().is_none()) { old.next() } else { new.next() };
            self.first.extend(chosen);
        }
    }

    fn turn(&mut self) -> Host {
        let host = self.hosts[self.next].clone();
        self.next = (self.next + 1) % self.hosts.len();
        host
    }

    /// Shuffled, each once, what is preferred first.
    fn ordered(&mut self, hosts: Vec<Host>) -> Vec<Host> {
        let mut order: Vec<Host> = Vec::with_capacity(hosts.len());
        for host in hosts {
            if !order.contains(&host) {
                order.push(host);
            }
        }
        for i in (1..order.len()).rev() {
            order.swap(i, (self.random.below(i as u64 + 1)) as usize);
        }
        order.sort_by_key(|host| self.ranking.rank(host));
        order
    }
}

/// Where the clients of a configuration's servers go; empty when one of them does not say.
#[must_use]
pub fn client_addresses(config: &str) -> Vec<Host> {
    let servers = config.lines().filter_map(|line| line.split_once('=')).filter(|(key, _)| key.trim().starts_with("server."));
    servers.map(|(_, value)| client_address(value.trim())).collect::<Option<_>>().unwrap_or_default()
}

/// The part behind `;` of a server's line. One that stands for every interface is reached where the server itself is.
fn client_address(value: &str) -> Option<Host> {
    let (server, client) = value.split_once(';')?;
    // An address without brackets has no port of its own here.
    let client = if client.contains(':') { parse_host(client).ok()? } else { Host { name: String::new(), port: client.parse().ok()? } };
    if !matches!(client.name.as_str(), "" | "0.0.0.0" | "::") {
        return Some(client);
    }
    let server = server.split('|').next().unwrap_or(server);
    let name = match server.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => server.split(':').next(),
    };
    name.filter(|name| !name.is_empty()).map(|name| Host { name: name.to_owned(), port: client.port })
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
        let all = all(1..=5);
        let mut list = HostList::new(all.clone(), Preference::default(), 7);
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

    fn all(ports: impl IntoIterator<Item = u16>) -> Vec<Host> {
        ports.into_iter().map(|p| host("h", p)).collect()
    }

    /// Of clients spread evenly over `before`, how many are at each server of `after` when the list has changed.
    fn rebalanced(before: &[u16], after: &[u16]) -> Vec<usize> {
        let mut at = vec![0; 100];
        for seed in 0..6_000 {
            let mut list = HostList::new(all(before.iter().copied()), Preference::default(), seed);
            let here = list.advance();
            list.succeeded();
            let there = if list.update(all(after.iter().copied())) { list.advance() } else { here };
            at[usize::from(there.port)] += 1;
        }
        after.iter().map(|port| at[usize::from(*port)]).collect()
    }

    #[test]
    fn clients_are_spread_evenly_when_servers_come_and_go() {
        for (before, after) in [
            (&[1, 2, 3][..], &[1, 2, 3, 4, 5][..]),
            (&[1, 2, 3, 4, 5], &[1, 2, 3]),
            (&[1, 2, 3], &[4, 5, 6]),
            (&[1, 2, 3, 4], &[3, 4, 5]),
            (&[1, 2, 3], &[2, 3, 4, 5]),
        ] {
            let share = 6_000 / after.len();
            for clients in rebalanced(before, after) {
                assert!(clients.abs_diff(share) < share / 8, "{before:?} to {after:?}: {clients} where {share} belong");
            }
        }
    }

    #[test]
    fn whoever_need_not_move_stays_where_it_is() {
        for seed in 0..50 {
            let mut list = HostList::new(all([1, 2, 3]), Preference::default(), seed);
            let here = list.advance();
            list.succeeded();
            assert!(!list.update(all([3, 2, 1])), "the same servers");
            assert!(!list.update(vec![here.clone()]), "its own is left");
            assert_eq!(list.advance(), here);
        }
    }

    #[test]
    fn preferred_servers_are_tried_before_all_others_again_and_again() {
        for seed in 0..20 {
            let preference = Preference { zones: vec![vec!["h:3".into(), "h:4".into()]], ..Preference::default() };
            let mut list = HostList::new(all([1, 2, 3, 4]), preference, seed);
            for _ in 0..2 {
                let mut first = [list.advance().port, list.advance().port];
                first.sort_unstable();
                assert_eq!(first, [3, 4]);
                list.advance();
                list.succeeded();
            }
        }
    }

    #[test]
    fn a_client_goes_to_one_of_the_near_servers_and_stays_there() {
        let preference = Preference { near_percent: Some(150), ..Preference::default() };
        let mut arrivals = [0; 5];
        for seed in 0..400 {
            let mut list = HostList::new(all([1, 2, 3, 4]), preference.clone(), seed);
            let distances: Vec<(Host, u64)> = all([1, 2, 3]).into_iter().zip([9_000, 1_000, 1_200]).collect();
            let mut here = list.advance();
            list.succeeded();
            // Nothing is known of the fourth: whoever is there stays.
            assert_eq!(list.measured(distances.clone()), here.port == 1, "from {}", here.port);
            if here.port == 1 {
                here = list.advance();
                list.succeeded();
            }
            arrivals[usize::from(here.port)] += 1;
            assert!(!list.measured(distances), "{} is near enough", here.port);
        }
        assert_eq!(arrivals[1], 0);
        assert!(arrivals[2] > 100 && arrivals[3] > 100 && arrivals[4] > 50, "each near one gets its part: {arrivals:?}");
    }

    #[test]
    fn the_members_of_an_ensemble_are_where_their_clients_go() {
        let config = "server.1=a:1:2:participant;0.0.0.0:2181\nserver.2=b:1:2:observer;2182\nserver.3=[::1]:1:2;[::]:5\nversion=100000000";
        assert_eq!(client_addresses(config), [host("a", 2181), host("b", 2182), host("::1", 5)]);
        assert_eq!(client_addresses("server.1=a:1:2;10.0.0.1:7\nserver.2=b:1:2\n"), [], "one of them does not say");
        assert_eq!(client_addresses(""), []);
    }
}

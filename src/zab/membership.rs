//! Who is in the ensemble, who votes, and where they are: the members of a configuration and its text.
//!
//! The text travels in notifications and NEWLEADER and lies in configuration files: one `key=value` per line, `server.N`, for hierarchical
//! quorums `group.N` and `weight.N`, and last `version`, in hex and without an end of line.

use super::quorum::Quorum;
use crate::base::PeerId;
use crate::base::address::ipv6_text;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv6Addr;

/// One address of a member. Hosts stay text: resolving them is the transport's, each time anew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberAddress {
    /// Host name or address, without brackets.
    pub host: String,
    /// Where the leader listens for learners.
    pub quorum_port: u16,
    /// Where elections are held.
    pub election_port: u16,
}

/// Whether a member votes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberKind {
    /// Votes and may lead.
    Participant,
    /// Follows without a vote.
    Observer,
}

/// A `server.N` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// One or several (`|` between them), in the order of their hosts: so they are printed.
    pub addresses: Vec<MemberAddress>,
    /// Voter or observer.
    pub kind: MemberKind,
    /// Where its clients connect, if the line says so: host and port.
    pub client: Option<(String, u16)>,
}

/// A configuration of the ensemble.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Membership {
    /// By id.
    pub members: BTreeMap<PeerId, Member>,
    /// Hierarchical quorums: the groups of voters, by group number. Empty: plain majority.
    pub groups: BTreeMap<i64, Vec<PeerId>>,
    /// Weights of voters, where not 1.
    pub weights: BTreeMap<PeerId, u64>,
    /// 0 for a static configuration.
    pub version: i64,
}

/// What a `server.N` value must look like.
pub const SERVER_FORM: &str = "host:quorumPort:electionPort[:participant|observer][;[clientHost:]clientPort]";
/// Where clients connect when a line names a port alone.
const CLIENT_HOST_DEFAULT: &str = "0.0.0.0";
/// The id of learners that are in no configuration; no member may have it.
const ANONYMOUS: i64 = i64::MAX;

/// Why a text is no configuration. Keys are quoted, so a hostile one cannot write into a log what it likes (S9).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MembershipError {
    /// A line without a `=`.
    #[error("a line is not of the form key=value")]
    NoValue,
    /// A key that means nothing here.
    #[error("unknown key {0:?}")]
    UnknownKey(String),
    /// The same key twice.
    #[error("{0:?} stands there twice")]
    Twice(String),
    /// A malformed `server.N`.
    #[error("{0:?} is not of the form server.N={SERVER_FORM}")]
    Server(String),
    /// A malformed `group.N`, `weight.N` or `version`.
    #[error("the value of {0:?} is malformed")]
    Value(String),
    /// Two ports of a member that must differ.
    #[error("quorum port and election port of {0:?} are the same")]
    SamePorts(String),
    /// With groups every voter is in one, and in one only.
    #[error("server {0} is not in exactly one group")]
    NotInOneGroup(i64),
    /// A group has a member without a vote.
    #[error("server {0} is in a group, but does not vote")]
    NoVoter(i64),
    /// Nobody votes.
    #[error("no participant is listed")]
    NoParticipant,
}

impl Member {
    /// Parses what stands behind `server.N=`; `key` names it in errors.
    pub fn parse(key: &str, value: &str) -> Result<Member, MembershipError> {
        let malformed = || MembershipError::Server(key.to_owned());
        let (servers, client) = match value.split_once(';') {
            Some((servers, client)) => (servers, Some(parse_client(client.trim()).ok_or_else(malformed)?)),
            None => (value, None),
        };
        let (mut addresses, mut kind) = (Vec::new(), None);
        for server in servers.split('|') {
            let (address, its_kind) = parse_address(server.trim()).ok_or_else(malformed)?;
            if address.quorum_port == address.election_port {
                return Err(MembershipError::SamePorts(key.to_owned()));
            }
            if its_kind.is_some() && kind.is_some() && kind != its_kind {
                return Err(malformed());
            }
            kind = kind.or(its_kind);
            addresses.push(address);
        }
        addresses.sort_by(|a, b| a.host.cmp(&b.host));
        addresses.dedup();
        Ok(Member { addresses, kind: kind.unwrap_or(MemberKind::Participant), client })
    }

    /// The value of its line.
    fn write(&self, out: &mut String) {
        for (n, address) in self.addresses.iter().enumerate() {
            out.push_str(if n == 0 { "" } else { "|" });
            write_host(out, &address.host);
            let _ = write!(out, ":{}:{}", address.quorum_port, address.election_port);
        }
        out.push_str(match self.kind {
            MemberKind::Participant => ":participant",
            MemberKind::Observer => ":observer",
        });
        if let Some((host, port)) = &self.client {
            out.push(';');
            write_host(out, host);
            let _ = write!(out, ":{port}");
        }
    }
}

impl Membership {
    /// Parses a whole text.
    pub fn parse(text: &str) -> Result<Membership, MembershipError> {
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(['#', '!']));
        let entries: Vec<_> = lines.map(|l| l.split_once('=').ok_or(MembershipError::NoValue)).collect::<Result<_, _>>()?;
        Membership::from_settings(entries.into_iter().map(|(key, value)| (key.trim(), value.trim())))
    }

    /// From keys and values: `server.N`, `group.N`, `weight.N`, `version`, and nothing else.
    pub fn from_settings<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Membership, MembershipError> {
        let mut found = Membership::default();
        let mut keys = BTreeSet::new();
        for (key, value) in entries {
            if !keys.insert(key) {
                return Err(MembershipError::Twice(key.to_owned()));
            }
            found.take(key, value)?;
        }
        found.check()?;
        let is_default = |id: &PeerId, weight: u64| weight == 1 && found.is_voter(*id);
        found.weights = found.weights.iter().filter(|(id, weight)| !is_default(id, **weight)).map(|(id, weight)| (*id, *weight)).collect();
        Ok(found)
    }

    /// The configuration as text, byte for byte as Java servers print it.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for (id, member) in &self.members {
            let _ = write!(out, "server.{}=", id.0);
            member.write(&mut out);
            out.push('\n');
        }
        for (group, members) in &self.groups {
            let ids: Vec<String> = members.iter().map(|id| id.0.to_string()).collect();
            let _ = writeln!(out, "group.{group}={}", ids.join(":"));
        }
        if !self.groups.is_empty() {
            // Java fills in the weights that are not given, and prints them all.
            let defaults = self.voters().filter(|id| !self.weights.contains_key(id)).map(|id| (id, 1));
            let all: BTreeMap<PeerId, u64> = self.weights.iter().map(|(id, weight)| (*id, *weight)).chain(defaults).collect();
            for (id, weight) in all {
                let _ = writeln!(out, "weight.{}={weight}", id.0);
            }
        }
        let _ = write!(out, "version={:x}", self.version);
        out
    }

    /// Those who vote, in ascending order.
    pub fn voters(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.members.iter().filter(|(_, member)| member.kind == MemberKind::Participant).map(|(id, _)| *id)
    }

    /// Does this server vote?
    #[must_use]
    pub fn is_voter(&self, id: PeerId) -> bool {
        self.members.get(&id).is_some_and(|member| member.kind == MemberKind::Participant)
    }

    /// Is this server listed as an observer? One that is not listed at all is none: it follows without a vote.
    #[must_use]
    pub fn is_observer(&self, id: PeerId) -> bool {
        self.members.get(&id).is_some_and(|member| member.kind == MemberKind::Observer)
    }

    /// Is this server to be found there as before, for those who follow it?
    #[must_use]
    pub fn leads_as_in(&self, before: &Membership, id: PeerId) -> bool {
        let quorum_addresses =
            |of: &Membership| of.members.get(&id).map(|m| m.addresses.iter().map(|a| (a.host.clone(), a.quorum_port)).collect::<Vec<_>>());
        self.is_voter(id) && quorum_addresses(self) == quorum_addresses(before)
    }

    /// The same members: whatever the version, nobody's role or connection is another one.
    #[must_use]
    pub fn has_same_members(&self, other: &Membership) -> bool {
        (&self.members, &self.groups, &self.weights) == (&other.members, &other.groups, &other.weights)
    }

    /// A number that a member may have.
    #[must_use]
    pub fn member_id(id: i64) -> Option<PeerId> {
        (0..ANONYMOUS).contains(&id).then_some(PeerId(id))
    }

    /// What counts as a quorum.
    #[must_use]
    pub fn quorum(&self) -> Quorum {
        if self.groups.is_empty() {
            return Quorum::majority(self.voters());
        }
        let weighed = |ids: &Vec<PeerId>| ids.iter().map(|id| (*id, self.weights.get(id).copied().unwrap_or(1))).collect();
        Quorum::hierarchical(self.groups.values().map(weighed))
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), MembershipError> {
        let malformed = || MembershipError::Value(key.to_owned());
        let unknown = || MembershipError::UnknownKey(key.to_owned());
        if key == "version" {
            self.version = i64::from_str_radix(value, 16).ok().filter(|v| *v >= 0).ok_or_else(malformed)?;
            return Ok(());
        }
        match key.split_once('.').ok_or_else(unknown)? {
            ("server", id) => {
                let id = parse_id(id).ok_or_else(unknown)?;
                let twice = self.members.insert(id, Member::parse(key, value)?).is_some();
                if twice { Err(MembershipError::Twice(key.to_owned())) } else { Ok(()) }
            }
            ("group", number) => {
                let number: i64 = number.parse().map_err(|_| unknown())?;
                let mut ids: Vec<PeerId> = value.split(':').map(|id| parse_id(id.trim())).collect::<Option<_>>().ok_or_else(malformed)?;
                ids.sort_unstable();
                let twice = self.groups.insert(number, ids).is_some();
                if twice { Err(MembershipError::Twice(key.to_owned())) } else { Ok(()) }
            }
            ("weight", id) => {
                let weight: u64 = value.parse().ok().filter(|w| i64::try_from(*w).is_ok()).ok_or_else(malformed)?;
                let twice = self.weights.insert(parse_id(id).ok_or_else(unknown)?, weight).is_some();
                if twice { Err(MembershipError::Twice(key.to_owned())) } else { Ok(()) }
            }
            _ => Err(unknown()),
        }
    }

    fn check(&self) -> Result<(), MembershipError> {
        if self.voters().next().is_none() {
            return Err(MembershipError::NoParticipant);
        }
        if self.groups.is_empty() && self.weights.is_empty() {
            return Ok(());
        }
        let mut grouped = BTreeSet::new();
        for id in self.groups.values().flatten() {
            if !self.is_voter(*id) {
                return Err(MembershipError::NoVoter(id.0));
            }
            if !grouped.insert(*id) {
                return Err(MembershipError::NotInOneGroup(id.0));
            }
        }
        match self.voters().find(|id| !grouped.contains(id)) {
            Some(id) => Err(MembershipError::NotInOneGroup(id.0)),
            None => Ok(()),
        }
    }
}

fn parse_id(text: &str) -> Option<PeerId> {
    text.parse().ok().and_then(Membership::member_id)
}

/// `host:quorumPort:electionPort[:kind]`.
fn parse_address(text: &str) -> Option<(MemberAddress, Option<MemberKind>)> {
    let (host, rest) = split_host(text)?;
    let mut parts = rest?.split(':');
    let (quorum_port, election_port) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let kind = match parts.next().map(|kind| kind.trim().to_ascii_lowercase()).as_deref() {
        None => None,
        Some("participant") => Some(MemberKind::Participant),
        Some("observer") => Some(MemberKind::Observer),
        Some(_) => return None,
    };
    parts.next().is_none().then_some((MemberAddress { host, quorum_port, election_port }, kind))
}

/// `[host:]port`.
fn parse_client(text: &str) -> Option<(String, u16)> {
    match split_host(text) {
        Some((host, Some(port))) => Some((host, port.parse().ok()?)),
        _ => Some((CLIENT_HOST_DEFAULT.to_owned(), text.parse().ok()?)),
    }
}

/// Splits off the host, which is in brackets when it has colons itself; IPv6 addresses come out in the long form in which Java prints them.
pub(super) fn split_host(text: &str) -> Option<(String, Option<&str>)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => text.split_once(':').map_or((text, None), |(host, rest)| (host, Some(rest))),
    };
    let wrong = |c: char| c.is_whitespace() || c.is_control() || "[]|;=\\".contains(c);
    if host.is_empty() || host.contains(wrong) {
        return None;
    }
    let host = match host.parse::<Ipv6Addr>() {
        Ok(address) => ipv6_text(address),
        Err(_) => host.to_owned(),
    };
    Some((host, rest))
}

pub(super) fn write_host(out: &mut String, host: &str) {
    let _ = if host.contains(':') { write!(out, "[{host}]") } else { write!(out, "{host}") };
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;

//! Changes of the configuration, as requests ask for them and as proposals carry them: what a request may ask for, and in which transaction a
//! configuration travels. When it counts is in `core.rs`, and what becomes of roles in `leader.rs` and `learner.rs`.

use super::membership::{Member, Membership, MembershipError};
use crate::base::{PeerId, Zxid};
use crate::record::header::TXN_HEADER_BYTES;
use crate::record::txn::decode_payload;
use crate::record::{Txn, TxnType};
use std::net::IpAddr;

/// What a client asks for. Lists are comma-separated, as in the request; a full list (`members`) goes before the other two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReconfigRequest<'a> {
    /// `server.N=…` entries to be added, or to take the place of those with the same number.
    pub joining: Option<&'a str>,
    /// Numbers of servers to be removed.
    pub leaving: Option<&'a str>,
    /// The whole new configuration.
    pub members: Option<&'a str>,
    /// The version it is meant to change; -1 for any.
    pub version: i64,
}

/// Why there will be no new configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReconfigError {
    /// Another one is proposed and not committed.
    #[error("another reconfiguration is under way")]
    InProgress,
    /// The configuration in force is not the one meant.
    #[error("the configuration has another version")]
    BadVersion,
    /// What is asked for is no configuration, or not one for this ensemble.
    #[error("the new configuration is malformed")]
    BadArguments,
    /// A number is none; ZooKeeper has a code of its own for it.
    #[error("a number in the request is malformed")]
    Malformed,
    /// No quorum of the new voters is connected and up to date.
    #[error("no quorum of the new configuration is connected and up to date")]
    NoQuorum,
}

impl ReconfigRequest<'_> {
    /// The configuration that is asked for, with this version, which is the zxid of its transaction.
    pub fn applied_to(&self, current: &Membership, voters_min: usize, version: Zxid) -> Result<Membership, ReconfigError> {
        let mut next = match self.members {
            Some(members) => whole(members)?,
            None => self.incremental(current)?,
        };
        if next.voters().count() < voters_min.max(1) {
            return Err(ReconfigError::BadArguments);
        }
        next.version = version.as_i64();
        Ok(next)
    }

    /// Leaving servers first, then joining ones, which need all three ports.
    fn incremental(&self, current: &Membership) -> Result<Membership, ReconfigError> {
        if !current.groups.is_empty() {
            return Err(ReconfigError::BadArguments);
        }
        let mut next = current.clone();
        next.weights.clear();
        for id in entries(self.leaving) {
            next.members.remove(&PeerId(id.parse().map_err(|_| ReconfigError::Malformed)?));
        }
        for entry in entries(self.joining) {
            let (key, value) = entry.split_once('=').filter(|(_, value)| !value.contains('=')).ok_or(ReconfigError::BadArguments)?;
            let (key, value) = (key.trim(), value.trim());
            let id: i64 = key.rsplit('.').next().and_then(|id| id.parse().ok()).ok_or(ReconfigError::Malformed)?;
            let member = Member::parse(key, value).ok().filter(|m| m.client.is_some()).ok_or(ReconfigError::BadArguments)?;
            let id = Membership::member_id(id).ok_or(ReconfigError::BadArguments)?;
            if next.members.iter().any(|(other, its)| *other != id && clash(&member, its)) {
                return Err(ReconfigError::BadArguments);
            }
            next.members.insert(id, member);
        }
        Ok(next)
    }
}

/// Entries of a comma-separated list, without blanks around them; none are empty.
fn entries(list: Option<&str>) -> impl Iterator<Item = &str> {
    list.unwrap_or_default().split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

fn whole(members: &str) -> Result<Membership, ReconfigError> {
    Membership::parse(&members.replace(',', "\n")).map_err(|why| match why {
        MembershipError::NoParticipant => ReconfigError::BadArguments,
        MembershipError::Value(key) | MembershipError::UnknownKey(key) if has_numbered_key(&key) => ReconfigError::Malformed,
        _ => ReconfigError::BadArguments,
    })
}

/// A key whose name is right, so that what is wrong is a number.
fn has_numbered_key(key: &str) -> bool {
    ["server.", "group.", "weight."].iter().any(|family| key.starts_with(family)) || key == "version"
}

/// Do two members claim the same address? Those that mean this machine, or all of its addresses, are not compared: every machine has them.
fn clash(a: &Member, b: &Member) -> bool {
    let b: Vec<_> = claims(b).collect();
    claims(a).any(|claim| b.contains(&claim))
}

fn claims(member: &Member) -> impl Iterator<Item = (&str, u16)> {
    let own = member.addresses.iter().flat_map(|a| [(a.host.as_str(), a.quorum_port), (a.host.as_str(), a.election_port)]);
    let client = member.client.as_ref().map(|(host, port)| (host.as_str(), *port));
    own.chain(client).filter(|(host, _)| !means_any_machine(host))
}

fn means_any_machine(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    address.is_ok_and(|a| a.is_loopback() || a.is_unspecified()) || host.eq_ignore_ascii_case("localhost")
}

/// The configuration in a proposal, when it is one of a configuration. A text that is none is left alone, as it would be by those who agree on
/// it: it changes nothing but the node.
#[must_use]
pub fn proposed_in(payload: &[u8]) -> Option<Membership> {
    // Of all the others only the type is looked at: it stands last in the header.
    let kind = payload.get(TXN_HEADER_BYTES - 4..TXN_HEADER_BYTES)?;
    if kind != (TxnType::Reconfig as i32).to_be_bytes() {
        return None;
    }
    let (_, txn, _) = decode_payload(payload).ok()?;
    let Txn::Reconfig { data: Some(text), .. } = txn else { return None };
    Membership::parse(std::str::from_utf8(text).ok()?).ok()
}

/// The version at the end of a configuration's text, without reading the rest.
#[must_use]
pub fn version_of(text: &str) -> Option<i64> {
    let (_, version) = text.trim_end().rsplit_once("version=")?;
    i64::from_str_radix(version, 16).ok()
}

#[cfg(test)]
#[path = "reconfig_tests.rs"]
mod tests;

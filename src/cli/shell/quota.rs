//! Quotas, which are nodes below `/zookeeper/quota`: setquota, listquota, delquota.

use super::Shell;
use super::answer::Answer;
use super::args::Args;
use super::commands::Command;
use super::failure::Failure;
use super::nodes::{child, path_of, wait, walk};
use crate::client::{Acl, CreateMode, Error, ErrorCode, ZooClient};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const QUOTA: &str = "/zookeeper/quota";
const LIMITS: &str = "zookeeper_limits";
const USAGE: &str = "zookeeper_stats";
/// Each option, the name of its limit in a quota's node, whether it counts bytes (else nodes), and what it is called.
const KINDS: [(&str, &str, bool); 4] =
    [("n", "count", false), ("b", "bytes", true), ("N", "countHardLimit", false), ("B", "byteHardLimit", true)];

fn quota_path(path: &str) -> String {
    format!("{QUOTA}{path}")
}

/// The numbers of a limits or usage node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Numbers(BTreeMap<String, i64>);

impl Numbers {
    fn parse(data: &[u8]) -> Self {
        let text = String::from_utf8_lossy(data);
        let pairs = text.split([',', ';']).filter_map(|pair| {
            let mut parts = pair.split('=');
            let key = parts.next()?.to_owned();
            Some((key, parts.next()?.parse().unwrap_or(-1)))
        });
        Numbers(pairs.collect())
    }

    /// -1: no limit.
    fn get(&self, key: &str) -> i64 {
        self.0.get(key).copied().unwrap_or(-1)
    }

    /// The form that servers before hard limits still understand.
    fn text(&self) -> String {
        let mut text = format!("count={},bytes={}", self.get("count"), self.get("bytes"));
        let others: Vec<_> = self.0.iter().filter(|(key, _)| !matches!(key.as_str(), "count" | "bytes")).collect();
        if !others.is_empty() {
            text.push('=');
        }
        others.iter().for_each(|(key, value)| text.push_str(&format!(";{key}={value}")));
        text
    }

    fn json(&self) -> Value {
        self.0.iter().map(|(key, value)| (key.clone(), json!(value))).collect::<serde_json::Map<_, _>>().into()
    }
}

pub(super) fn list(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let path = path_of(args);
    let quota = quota_path(path);
    let limits_path = child(&quota, LIMITS);
    shell.screen.remark(&format!("absolute path is {limits_path}"));
    let calls = shell.client()?.pipelined();
    let both = [calls.get(&limits_path), calls.get(&child(&quota, USAGE))].map(|pending| pending.wait());
    let [Ok((limits, _)), Ok((usage, _))] = &both else {
        let why = both.into_iter().find_map(Result::err).unwrap_or(Error::Closed);
        return if is_absent(&why) { Ok(no_quota(path)) } else { Err(Failure::at(&limits_path, &why)) };
    };
    let (limits, usage) = (Numbers::parse(limits), Numbers::parse(usage));
    let text = format!("Output quota for {path} {}\nOutput stat for {path} {}", limits.text(), usage.text());
    Ok(Answer::Text(text, json!({ "quota": limits.json(), "usage": usage.json() })))
}

fn is_absent(why: &Error) -> bool {
    matches!(why, Error::Refused(ErrorCode::NoNode))
}

fn no_quota(path: &str) -> Answer {
    Answer::Remark(format!("quota for {path} does not exist."), json!({ "quota": null }))
}

pub(super) fn set(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let path = path_of(args);
    let (key, limit) = match wanted(args)? {
        Ok(wanted) => wanted,
        Err(why) => return Ok(refused(why)),
    };
    if path.starts_with(QUOTA) {
        return Ok(refused(format!("cannot set a quota under the path: {QUOTA}")));
    }
    let client = shell.client()?.clone();
    if wait(path, client.pipelined().exists(path))?.is_none() {
        return Err(Failure::new(format!("{path} does not exist.")));
    }
    no_quota_below(shell, path)?;
    no_quota_above(&client, path)?;
    let quota = quota_path(path);
    ensure(&client, &quota)?;
    let (limits_path, usage_path) = (child(&quota, LIMITS), child(&quota, USAGE));
    let existing = match client.get(&limits_path) {
        Ok((data, _)) => Some(Numbers::parse(&data)),
        Err(why) if is_absent(&why) => None,
        Err(why) => return Err(Failure::at(&limits_path, &why)),
    };
    let is_new = existing.is_none();
    let none = || Numbers(KINDS.iter().map(|(_, key, _)| ((*key).to_owned(), -1)).collect());
    let mut limits = existing.unwrap_or_else(none);
    limits.0.insert(key.to_owned(), limit);
    if is_new {
        make(&client, &limits_path, &limits)?;
        make(&client, &usage_path, &Numbers([("count".to_owned(), 0), ("bytes".to_owned(), 0)].into()))?;
    }
    let usage = Numbers::parse(&wait(&usage_path, client.pipelined().get(&usage_path))?.0);
    let warnings = warnings(&limits, &usage);
    if !is_new {
        wait(&limits_path, client.pipelined().set_version(&limits_path, limits.text().as_bytes(), -1))?;
    }
    Ok(if warnings.is_empty() { Answer::Nothing } else { Answer::Text(warnings.join("\n"), json!({ "warnings": warnings })) })
}

/// Nothing is done, and zkCli does not count that as a failure.
fn refused(why: impl Into<String>) -> Answer {
    let why = why.into();
    Answer::Remark(why.clone(), json!({ "error": why }))
}

type Wanted = Result<(&'static str, i64), &'static str>;

/// The limit that is asked for; the inner error is what zkCli only remarks.
fn wanted(args: &Args) -> Result<Wanted, Failure> {
    let mut given = KINDS.iter().filter(|(option, ..)| args.has(option));
    let Some((option, key, is_bytes)) = given.next() else { return Err(Command::usage_failure("setquota")) };
    if let Some((second, ..)) = given.next() {
        return Err(two_options(second, option));
    }
    let Ok(Some(limit)) = args.number::<i64>(option).map(|limit| limit.filter(|n| *is_bytes || i32::try_from(*n).is_ok())) else {
        return Ok(Err("NumberFormatException happens when parsing the option value"));
    };
    Ok(match (is_bytes, limit) {
        (true, ..0) => Err("the bytes quota must be greater than or equal to zero"),
        (false, ..1) => Err("the num quota must be greater than zero"),
        _ => Ok((key, limit)),
    })
}

fn two_options(second: &str, first: &str) -> Failure {
    Failure::new(format!("The option '{second}' was specified but an option from this group has already been selected: '{first}'"))
}

/// Quotas do not nest.
fn no_quota_below(shell: &mut Shell, path: &str) -> Result<(), Failure> {
    let own = quota_path(path);
    let mut limited = None;
    let mut look = |found: &str| {
        if limited.is_none() && found.ends_with(&format!("/{LIMITS}")) && found != child(&own, LIMITS) {
            limited = found.strip_prefix(QUOTA).and_then(|found| found.rsplit_once('/')).map(|(node, _)| node.to_owned());
        }
    };
    walk(shell, &own, false, &mut look)?;
    limited.map_or(Ok(()), |node| Err(Failure::new(format!("{path} has a child {node} which has a quota"))))
}

fn no_quota_above(client: &ZooClient, path: &str) -> Result<(), Failure> {
    let slashes: Vec<usize> = path.match_indices('/').map(|(at, _)| at).skip(1).collect();
    for end in slashes {
        let above = &path[..end];
        let limits = child(&quota_path(above), LIMITS);
        if wait(&limits, client.pipelined().exists(&limits))?.is_some() {
            return Err(Failure::new(format!("{path} has a parent {above} which has a quota")));
        }
    }
    Ok(())
}

/// Sees to it that a quota's node is there, with all above it.
fn ensure(client: &ZooClient, quota: &str) -> Result<(), Failure> {
    let ends = quota.match_indices('/').map(|(at, _)| at).skip(1).chain([quota.len()]);
    for end in ends {
        let path = &quota[..end];
        match client.pipelined().create_null(path, &Acl::open(), CreateMode::Persistent).wait() {
            Ok(_) | Err(Error::Refused(ErrorCode::NodeExists)) => {}
            Err(why) => return Err(Failure::at(path, &why)),
        }
    }
    Ok(())
}

fn make(client: &ZooClient, path: &str, numbers: &Numbers) -> Result<(), Failure> {
    wait(path, client.pipelined().create(path, numbers.text().as_bytes(), CreateMode::Persistent)).map(drop)
}

fn warnings(limits: &Numbers, usage: &Numbers) -> Vec<String> {
    let exceeds = |limit: &str, of: &str| (0..usage.get(of)).contains(&limits.get(limit));
    let mut said = Vec::new();
    for (soft, hard, name) in [("count", "countHardLimit", "count"), ("bytes", "byteHardLimit", "bytes")] {
        if exceeds(soft, name) || exceeds(hard, name) {
            said.push(format!("[Warning]: the {name} quota you create is less than the existing {name}:{}", usage.get(name)));
        }
    }
    said
}

pub(super) fn delete(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let path = path_of(args);
    let mut given = KINDS.iter().filter(|(option, ..)| args.has(option));
    let kind = given.next();
    if let (Some((first, ..)), Some((second, ..))) = (kind, given.next()) {
        return Err(two_options(second, first));
    }
    let client = shell.client()?.clone();
    let quota = quota_path(path);
    let limits_path = child(&quota, LIMITS);
    let limits = match client.get(&limits_path) {
        Ok((data, _)) => Numbers::parse(&data),
        Err(why) if is_absent(&why) => {
            return Ok(Answer::Text(format!("Quota does not exist for {path}"), json!({ "quota": null })));
        }
        Err(why) => return Err(Failure::at(&limits_path, &why)),
    };
    let outcome = match kind {
        Some((_, key, _)) => {
            let mut limits = limits;
            limits.0.insert((*key).to_owned(), -1);
            client.set(&limits_path, limits.text().as_bytes()).map(drop)
        }
        None => delete_whole(&client, &quota),
    };
    match outcome {
        Ok(()) => Ok(Answer::Nothing),
        Err(why) if is_absent(&why) => Ok(no_quota(path)),
        Err(why) => Err(Failure::at(&limits_path, &why)),
    }
}

/// A quota's node, and every node above it that is there for no other quota.
fn delete_whole(client: &ZooClient, quota: &str) -> Result<(), Error> {
    for name in client.children(quota)? {
        client.delete(&child(quota, &name))?;
    }
    let mut node = quota;
    while node != QUOTA && client.children(node)?.is_empty() {
        client.delete(node)?;
        let Some(parent) = crate::base::path::parent(node) else { break };
        node = parent;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_written_so_that_old_servers_understand_it() {
        let none = Numbers(KINDS.iter().map(|(_, key, _)| ((*key).to_owned(), -1)).collect());
        assert_eq!(none.text(), "count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=-1");
        assert_eq!(Numbers::parse(none.text().as_bytes()), none);
        let usage = Numbers::parse(b"count=2,bytes=14");
        assert_eq!((usage.get("count"), usage.get("bytes"), usage.text().as_str()), (2, 14, "count=2,bytes=14"));
    }

    #[test]
    fn a_limit_below_what_there_is_is_warned_of() {
        let usage = Numbers::parse(b"count=5,bytes=100");
        let warned = |limits: &str| warnings(&Numbers::parse(limits.as_bytes()), &usage).len();
        assert_eq!((warned("count=5,bytes=-1"), warned("count=4,bytes=-1"), warned("count=-1,bytes=0=;countHardLimit=1")), (0, 1, 2));
    }
}

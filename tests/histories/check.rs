//! Judges histories by the promises. The zxid in the header of each answer says where in the order of all transactions it belongs, so each rule
//! looks at each answer once.

use super::history::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;
use zoo::base::Stat;

/// All nodes at the end, by path.
pub type Tree = BTreeMap<String, Seen>;

/// What came into existence with one transaction, as some answer has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Version {
    version: i32,
    value: String,
}

#[derive(Default)]
struct Checker {
    /// By path and zxid.
    versions: BTreeMap<String, BTreeMap<i64, Version>>,
    /// Zxids of acknowledged writes.
    written: BTreeMap<i64, Request>,
    /// When each acknowledged write was answered, and the highest zxid answered until then.
    answered: BTreeMap<Duration, i64>,
    /// Values whose write was refused.
    refused: BTreeSet<String>,
    /// Values that were sent.
    sent: BTreeSet<String>,
    violations: Vec<String>,
}

/// Everything that breaks a promise.
pub fn violations(histories: &[History], tree: &Tree) -> Vec<String> {
    let mut checker = Checker::default();
    checker.collect(histories);
    for (path, seen) in tree.iter().filter(|(path, _)| is_register(path)) {
        checker.shown(path, &seen.stat, &seen.value);
    }
    checker.versions_are_one_chain();
    checker.writes_follow_real_time(histories);
    for (client, history) in histories.iter().enumerate() {
        checker.session(&format!("client {client}"), history);
    }
    checker.sequence_numbers_rise(histories, tree);
    checker.ephemerals_live_as_long_as_their_session(histories);
    checker.nodes_are_there(histories, tree);
    checker.violations
}

/// How many writes were acknowledged, and how many are in doubt.
pub fn counts(histories: &[History]) -> (usize, usize) {
    let writes: Vec<_> = calls(histories).filter(|call| call.request.is_write()).collect();
    (writes.iter().filter(|call| is_done(call)).count(), writes.iter().filter(|call| call.answer.is_none()).count())
}

fn calls(histories: &[History]) -> impl Iterator<Item = &Call> {
    histories.iter().flatten().filter_map(|note| match note {
        Note::Done(call) => Some(call),
        _ => None,
    })
}

fn is_done(call: &Call) -> bool {
    call.answer.as_ref().is_some_and(|(_, reply)| reply.err == 0)
}

/// Nodes that are written again and again.
fn is_register(path: &str) -> bool {
    path.starts_with("/r/") || TWINS.contains(&path)
}

fn number(name: &str) -> Option<u64> {
    name.get(name.len().checked_sub(10)?..)?.parse().ok()
}

impl Checker {
    fn breaks(&mut self, promise: &str, what: String) {
        self.violations.push(format!("{promise}: {what}"));
    }

    fn collect(&mut self, histories: &[History]) {
        for call in calls(histories) {
            if let Request::Set { value, .. } | Request::SetTwins { value } | Request::Create { value, .. } = &call.request {
                if !self.sent.insert(value.clone()) {
                    self.breaks("the load", format!("{value} is used twice"));
                }
                if call.answer.as_ref().is_some_and(|(_, reply)| reply.err != 0) {
                    self.refused.insert(value.clone());
                }
            }
        }
        for call in calls(histories) {
            let Some((at, reply)) = &call.answer else { continue };
            if reply.err == 0 {
                self.done(&call.request, *at, reply);
            }
        }
        // From "this one" to "the highest until then".
        let mut highest = i64::MIN;
        for zxid in self.answered.values_mut() {
            highest = highest.max(*zxid);
            *zxid = highest;
        }
    }

    fn done(&mut self, request: &Request, at: Duration, reply: &Reply) {
        if request.is_write() {
            let highest = self.answered.entry(at).or_insert(reply.zxid);
            *highest = (*highest).max(reply.zxid);
            if let Some(other) = self.written.insert(reply.zxid, request.clone()) {
                self.breaks("P1", format!("{:#x} is both {other:?} and {request:?}", reply.zxid));
            }
        }
        match request {
            Request::Set { path, value, expected } => {
                let Some(stat) = reply.stat else { return };
                self.shown(path, &stat, value);
                if stat.mzxid != reply.zxid {
                    self.breaks("P6", format!("{request:?} is answered with {reply:?}"));
                }
                if *expected >= 0 && stat.version != expected + 1 {
                    self.breaks("P5", format!("{request:?} made version {}", stat.version));
                }
            }
            Request::SetTwins { value } => {
                let Some(stat) = reply.stat else { return };
                TWINS.into_iter().for_each(|path| self.shown(path, &stat, value));
            }
            Request::Get { path, .. } if is_register(path) => {
                let Some(stat) = reply.stat else { return };
                self.shown(path, &stat, &reply.value);
            }
            _ => {}
        }
    }

    fn shown(&mut self, path: &str, stat: &Stat, value: &str) {
        let version = Version { version: stat.version, value: value.to_owned() };
        if let Some(known) = self.versions.entry(path.to_owned()).or_default().insert(stat.mzxid, version.clone())
            && known != version
        {
            self.breaks("P1", format!("{path} was made both {known:?} and {version:?} by {:#x}", stat.mzxid));
        }
    }

    /// P1, P4, P5: versions rise with zxids, each value came to be once, and none that was refused or never sent. P11: twins are alike.
    fn versions_are_one_chain(&mut self) {
        let versions = std::mem::take(&mut self.versions);
        for (path, chain) in &versions {
            let mut values = HashMap::new();
            for ((zxid, version), next) in chain.iter().zip(chain.iter().skip(1).map(Some).chain([None])) {
                if let Some((after, next)) = next
                    && next.version <= version.version
                {
                    self.breaks("P5", format!("{path} is {version:?} at {zxid:#x} and {next:?} at {after:#x}"));
                }
                if let Some(other) = values.insert(&version.value, zxid) {
                    self.breaks("P4", format!("{} was written to {path} at {other:#x} and at {zxid:#x}", version.value));
                }
                if !version.value.is_empty() && (!self.sent.contains(&version.value) || self.refused.contains(&version.value)) {
                    self.breaks("P4", format!("{path} has shown {:?}, which was refused or never sent", version.value));
                }
            }
        }
        let none = BTreeMap::new();
        let [one, other] = TWINS.map(|path| versions.get(path).unwrap_or(&none));
        for (zxid, version) in one.iter().filter(|(_, version)| version.version > 0) {
            if other.get(zxid).is_some_and(|twin| twin != version) {
                self.breaks("P11", format!("{version:?} and {:?} were written by one transaction, {zxid:#x}", other[zxid]));
            }
        }
        // What was written to one was written to the other, whichever of them was looked at.
        let both: BTreeMap<_, _> = one.iter().chain(other).filter(|(_, v)| v.version > 0).map(|(z, v)| (*z, v.clone())).collect();
        self.versions = versions;
        for path in TWINS {
            self.versions.entry(path.to_owned()).or_default().extend(both.clone());
        }
    }

    /// P5: what is sent after another write was answered comes after it.
    fn writes_follow_real_time(&mut self, histories: &[History]) {
        for call in calls(histories).filter(|call| call.request.is_write()) {
            let Some((_, reply)) = &call.answer else { continue };
            let before = self.answered.range(..call.sent).next_back().map_or(0, |(_, zxid)| *zxid);
            if reply.zxid <= before {
                self.breaks("P5", format!("{:?} took {:#x} after {before:#x} had been answered", call.request, reply.zxid));
            }
        }
    }

    fn session(&mut self, client: &str, history: &History) {
        let mut session = Session::default();
        for note in history {
            match note {
                Note::Opened(id) => session = Session { name: format!("{client}, session {id:#x}"), ..Session::default() },
                Note::Moved => {}
                Note::Expired { silence, timeout } => {
                    if silence < timeout && !session.may_be_closed {
                        self.breaks("P13", format!("{} expired after {silence:?} of {timeout:?}", session.name));
                    }
                }
                Note::Event { kind, path, zxid } => self.event(&mut session, *kind, path, *zxid),
                Note::Done(Call { request, sent, answer: Some((_, reply)) }) => {
                    self.reply(&mut session, request, *sent, reply);
                }
                Note::Done(Call { request, .. }) => session.may_be_closed |= *request == Request::Close,
            }
        }
    }

    /// P6, P7, P8, P9, P10.
    fn reply(&mut self, session: &mut Session, request: &Request, sent: Duration, reply: &Reply) {
        let name = &session.name;
        if reply.zxid < session.seen {
            self.violations.push(format!("P7, P8: {name} is at {:#x} with {request:?} after {:#x}", reply.zxid, session.seen));
        }
        session.seen = session.seen.max(reply.zxid);
        if *request == Request::Sync && reply.err == 0 {
            let committed = self.answered.range(..sent).next_back().map_or(0, |(_, zxid)| *zxid);
            session.synced = session.synced.max(committed);
        }
        if reply.zxid < session.synced {
            self.violations.push(format!("P9: {name} is at {:#x} with {request:?} after a sync at {:#x}", reply.zxid, session.synced));
        }
        for (path, since) in &session.watches {
            if let Some(due) = self.version_after(path, *since).filter(|due| *due <= reply.zxid) {
                self.violations
                    .push(format!("P10: {name} is at {:#x} with {request:?} and has had no event of {path}, {due:#x}", reply.zxid));
            }
        }
        match request {
            Request::Get { path, watch } if is_register(path) => {
                self.read_is_the_newest(name, path, reply);
                if *watch && reply.err == 0 {
                    session.watches.entry(path.clone()).or_insert(reply.zxid);
                }
            }
            Request::Set { path, expected, .. } if reply.err == BAD_VERSION && self.version_at(path, reply.zxid) == Some(*expected) => {
                self.violations.push(format!("P5: {name}: {request:?} was refused at {:#x}, where it was right", reply.zxid));
            }
            Request::Create { .. } if reply.err == NODE_EXISTS => {
                self.violations.push(format!("P4: {name}: {request:?} finds the node there"));
            }
            _ => {}
        }
    }

    fn read_is_the_newest(&mut self, name: &str, path: &str, reply: &Reply) {
        let Some(stat) = reply.stat else { return };
        let newest = self.versions.get(path).and_then(|chain| chain.range(..=reply.zxid).next_back()).map(|(zxid, _)| *zxid);
        if newest != Some(stat.mzxid) {
            let newest = newest.unwrap_or_default();
            self.breaks("P6", format!("{name} saw {path} of {:#x} at {:#x}, where {newest:#x} is the newest", stat.mzxid, reply.zxid));
        }
    }

    /// The version at a zxid, where what comes before and after it leaves no doubt.
    fn version_at(&self, path: &str, zxid: i64) -> Option<i32> {
        let chain = self.versions.get(path)?;
        let (_, before) = chain.range(..zxid).next_back()?;
        match chain.range(zxid..).next() {
            Some((_, after)) if after.version != before.version + 1 => None,
            _ => Some(before.version),
        }
    }

    fn version_after(&self, path: &str, zxid: i64) -> Option<i64> {
        self.versions.get(path)?.range((Excluded(zxid), Unbounded)).next().map(|(zxid, _)| *zxid)
    }

    /// P10: once, of the first change, and not before it.
    fn event(&mut self, session: &mut Session, kind: i32, path: &str, zxid: i64) {
        let Some(since) = session.watches.remove(path) else {
            return self.breaks("P10", format!("{}: event {kind} of {path} without a watch", session.name));
        };
        // One that was due while the client was away has no zxid.
        let first = self.version_after(path, since);
        let is_right = zxid < 0 || first.is_some_and(|first| since < zxid && zxid <= first);
        if kind != DATA_CHANGED || !is_right {
            self.breaks(
                "P10",
                format!("{}: event {kind} of {path} at {zxid:#x}, watched since {since:#x}, {first:x?} is due", session.name),
            );
        }
    }

    /// P12.
    fn sequence_numbers_rise(&mut self, histories: &[History], tree: &Tree) {
        let created = calls(histories).filter(|call| is_done(call)).filter_map(|call| match (&call.request, &call.answer) {
            (Request::Create { flags: SEQUENTIAL, .. }, Some((_, reply))) => Some((reply.zxid, reply.names[0].clone())),
            _ => None,
        });
        let left =
            tree.iter().filter(|(path, _)| path.starts_with(&format!("{SEQUENCE}/"))).map(|(path, seen)| (seen.stat.czxid, path.clone()));
        let all: BTreeMap<i64, String> = created.chain(left).collect();
        let mut last = None;
        for (zxid, path) in all {
            let Some(now) = number(&path) else {
                self.breaks("P12", format!("{path} has no number"));
                continue;
            };
            if last.is_some_and(|last| now <= last) {
                self.breaks("P12", format!("{path}, at {zxid:#x}, comes after number {last:?}"));
            }
            last = Some(now);
        }
    }

    /// P13, by lists of all ephemerals, each complete at its zxid.
    fn ephemerals_live_as_long_as_their_session(&mut self, histories: &[History]) {
        let lives = ephemerals(histories);
        for call in calls(histories) {
            let (Request::List { path }, Some((_, reply))) = (&call.request, &call.answer) else { continue };
            if path != EPHEMERALS || reply.err != 0 {
                continue;
            }
            let listed: BTreeSet<_> = reply.names.iter().map(String::as_str).collect();
            for (name, life) in &lives {
                let is_listed = listed.contains(name.as_str());
                if is_listed && life.ended.is_some_and(|ended| ended <= reply.zxid) {
                    self.breaks("P13", format!("{name} is there at {:#x}, its session was closed at {:x?}", reply.zxid, life.ended));
                }
                let is_due = life.created.is_some_and(|created| created <= reply.zxid) && life.safe_until >= reply.zxid;
                if is_due && !is_listed {
                    self.breaks("P13", format!("{name} of {:x?} is missing at {:#x} while its session lives", life.created, reply.zxid));
                }
            }
        }
    }

    /// P3, P4, P13: in the end there is what was acknowledged, and nothing else but what is in doubt.
    fn nodes_are_there(&mut self, histories: &[History], tree: &Tree) {
        let deletes: BTreeMap<&str, &Call> = calls(histories)
            .filter_map(|call| match &call.request {
                Request::Delete { path } => Some((path.as_str(), call)),
                _ => None,
            })
            .collect();
        for call in calls(histories).filter(|call| is_done(call)) {
            let (Request::Create { value, flags, .. }, Some((_, reply))) = (&call.request, &call.answer) else { continue };
            let path = reply.names[0].as_str();
            let (deleted, left) = (deletes.get(path), tree.get(path));
            let may_be_gone = *flags == EPHEMERAL || deleted.is_some_and(|call| call.answer.is_none() || is_done(call));
            let is_right = left.is_some_and(|seen| seen.value == *value && seen.stat.czxid == reply.zxid);
            let is_rightly_gone = may_be_gone && left.is_none();
            if !(is_right || is_rightly_gone) {
                self.breaks("P3", format!("{path} = {value} of {:#x} is {left:?} in the end", reply.zxid));
            }
            if left.is_some() && deleted.is_some_and(|call| is_done(call)) {
                self.breaks("P3", format!("{path} was deleted, and is there in the end"));
            }
        }
        let created: BTreeSet<&str> = calls(histories)
            .filter_map(|call| match &call.request {
                Request::Create { value, .. } => Some(value.as_str()),
                _ => None,
            })
            .collect();
        let parents = [NODES, SEQUENCE, EPHEMERALS].map(|parent| format!("{parent}/"));
        for (path, seen) in tree.iter().filter(|(path, _)| parents.iter().any(|parent| path.starts_with(parent))) {
            if !created.contains(seen.value.as_str()) || self.refused.contains(&seen.value) {
                self.breaks("P4", format!("nobody has created {path} = {:?}", seen.value));
            }
            if path.starts_with(&parents[2]) {
                self.breaks("P13", format!("{path} is there when all sessions have ended"));
            }
        }
    }
}

#[derive(Default)]
struct Session {
    name: String,
    seen: i64,
    synced: i64,
    /// A close is in doubt.
    may_be_closed: bool,
    watches: BTreeMap<String, i64>,
}

/// An ephemeral node, by what its owner knows.
struct Life {
    created: Option<i64>,
    /// The zxid of the answered close.
    ended: Option<i64>,
    /// The session was certainly there up to here.
    safe_until: i64,
}

fn ephemerals(histories: &[History]) -> BTreeMap<String, Life> {
    let mut lives = BTreeMap::new();
    for history in histories {
        let (mut names, mut seen): (Vec<String>, i64) = (Vec::new(), 0);
        for note in history {
            let Note::Done(Call { request, answer, .. }) = note else {
                if let Note::Opened(_) = note {
                    (names, seen) = (Vec::new(), 0);
                }
                continue;
            };
            let goes_on = *request != Request::Close;
            if let Request::Create { path, flags: EPHEMERAL, .. } = request {
                let created = answer.as_ref().filter(|(_, reply)| reply.err == 0).map(|(_, reply)| reply.zxid);
                let name = path.rsplit('/').next().unwrap_or_default().to_owned();
                names.push(name.clone());
                lives.insert(name, Life { created, ended: None, safe_until: 0 });
            }
            let Some((_, reply)) = answer else { continue };
            if goes_on {
                seen = seen.max(reply.zxid);
            }
            for name in &names {
                let Some(life) = lives.get_mut(name) else { continue };
                life.safe_until = seen;
                life.ended = (!goes_on && reply.err == 0).then_some(reply.zxid);
            }
        }
    }
    lives
}

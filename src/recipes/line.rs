//! A line of contenders: numbered nodes below one, served in the order of their numbers. Locks of all kinds and elections are lines.
//!
//! The names are those of Curator and of kazoo, so that all three can stand in the same line (`docs/recipes.md` says when that works).

use super::guid::{Guarded, OwnNode, child, delete, new_guid};
use super::wait::{Until, in_the_background, is_transient};
use super::{Error, Token};
use crate::client::{CreateMode, ErrorCode, SessionState, Transaction, ZooClient};

/// Whose names nodes get. Those of both are always understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Names {
    /// `_c_<uuid>-lock-0000000001` and so on. A kazoo lock heeds them if it is made with `extra_lock_patterns=["-lock-"]`.
    #[default]
    Curator,
    /// `<uuid>__lock__0000000001` and so on. Curator's locks do not heed them.
    Kazoo,
}

/// What somebody in a line is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    Lock,
    Write,
    Read,
    Latch,
    Member,
}

/// What stands before the number, and whether it stands for somebody who wants to be alone.
const LABELS: [(&str, bool); 7] = [
    ("lock-", true),
    ("__lock__", true),
    ("latch-", true),
    ("member-", true),
    ("__WRIT__", true),
    ("__READ__", false),
    ("__rlock__", false),
];
/// Digits of a number, at least.
const DIGITS: usize = 10;

impl Names {
    fn prefix(self, purpose: Purpose, guid: &str) -> String {
        match (self, purpose) {
            (Names::Curator, Purpose::Lock) => format!("_c_{guid}-lock-"),
            (Names::Curator, Purpose::Write) => format!("_c_{guid}-__WRIT__"),
            (Names::Curator, Purpose::Read) => format!("_c_{guid}-__READ__"),
            (_, Purpose::Latch) => format!("_c_{guid}-latch-"),
            (_, Purpose::Member) => format!("_c_{guid}-member-"),
            (Names::Kazoo, Purpose::Lock | Purpose::Write) => format!("{}__lock__", guid.replace('-', "")),
            (Names::Kazoo, Purpose::Read) => format!("{}__rlock__", guid.replace('-', "")),
        }
    }
}

/// Somebody in the line, by the name of their node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Contender<'a> {
    pub(super) name: &'a str,
    number: i32,
    is_exclusive: bool,
}

impl<'a> Contender<'a> {
    /// `None`: a node that has nothing to do with it.
    fn parse(name: &'a str) -> Option<Self> {
        LABELS.iter().find_map(|(label, is_exclusive)| {
            let digits = &name[name.rfind(label)? + label.len()..];
            let number = digits.parse().ok().filter(|_| digits.len() >= DIGITS && !digits.starts_with('+'))?;
            Some(Contender { name, number, is_exclusive: *is_exclusive })
        })
    }

    /// How far behind this one the other is; negative: in front. Numbers go round after two thousand million nodes.
    fn distance_to(&self, other: &Contender<'_>) -> i32 {
        other.number.wrapping_sub(self.number)
    }
}

/// All contenders, first come first.
pub(super) fn in_order(names: &[String]) -> Vec<Contender<'_>> {
    let mut line: Vec<_> = names.iter().filter_map(|name| Contender::parse(name)).collect();
    if let Some(any) = line.first().copied() {
        line.sort_by_key(|contender| any.distance_to(contender));
    }
    line
}

/// A place in a line, held until it is left or the session ends.
#[derive(Debug)]
pub(super) struct Place {
    client: ZooClient,
    parent: String,
    node: OwnNode,
    left: bool,
}

/// How one joins a line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) client: ZooClient,
    pub(super) path: String,
    pub(super) names: Names,
    pub(super) data: Vec<u8>,
}

impl Line {
    pub(super) fn new(client: &ZooClient, path: &str) -> Self {
        Line { client: client.clone(), path: path.to_owned(), names: Names::default(), data: Vec::new() }
    }

    /// Joins it and waits for one's turn.
    pub(super) fn pass(&self, purpose: Purpose, until: &Until) -> Result<Place, Error> {
        let (place, names) = self.join(purpose, until)?;
        place.wait(names, until)?;
        Ok(place)
    }

    /// Joins it, and leaves it again unless it is one's turn.
    pub(super) fn try_pass(&self, purpose: Purpose) -> Result<Option<Place>, Error> {
        let until = Until::within(self.client.session_timeout());
        let (mut place, names) = self.join(purpose, &until)?;
        let names = match names {
            Some(names) => names,
            None => place.list(&until)?,
        };
        if place.blocker(&names)?.is_none() {
            return Ok(Some(place));
        }
        place.leave()?;
        Ok(None)
    }

    pub(super) fn join(&self, purpose: Purpose, until: &Until) -> Result<(Place, Option<Vec<String>>), Error> {
        let prefix = self.names.prefix(purpose, &new_guid()?);
        let (client, parent, mode) = (&self.client, self.path.as_str(), CreateMode::EphemeralSequential);
        // kazoo makes sure of its parent once only, and barriers keep their members in it: such a parent must not go.
        let stays = self.names == Names::Kazoo || purpose == Purpose::Member;
        let parents = if stays { CreateMode::Persistent } else { CreateMode::Container };
        let (node, names) = Guarded { client, parent, prefix, data: &self.data, mode, parents }.create(until)?;
        Ok((Place::new(client, parent, node), names))
    }

    /// The data of everybody in it, first come first.
    pub(super) fn contenders(&self) -> Result<Vec<Vec<u8>>, Error> {
        let until = Until::done();
        let names = match until.insist(|| self.client.pipelined().children(&self.path)) {
            Err(why) if why.code() == Some(ErrorCode::NoNode) => return Ok(Vec::new()),
            listed => listed?.0,
        };
        let mut all = Vec::new();
        for contender in in_order(&names) {
            let path = child(&self.path, contender.name);
            match until.insist(|| self.client.pipelined().get(&path)) {
                Err(why) if why.code() == Some(ErrorCode::NoNode) => {}
                got => all.push(got?.0),
            }
        }
        Ok(all)
    }
}

impl Place {
    pub(super) fn new(client: &ZooClient, parent: &str, node: OwnNode) -> Self {
        Place { client: client.clone(), parent: parent.to_owned(), node, left: false }
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.node.name == name
    }

    pub(super) fn is_among(&self, names: &[String]) -> bool {
        names.contains(&self.node.name)
    }

    pub(super) fn sibling(&self, name: &str) -> String {
        child(&self.parent, name)
    }

    pub(super) fn token(&self) -> Token {
        self.node.token
    }

    pub(super) fn path(&self) -> String {
        self.sibling(&self.node.name)
    }

    pub(super) fn client(&self) -> &ZooClient {
        &self.client
    }

    pub(super) fn list(&self, until: &Until) -> Result<Vec<String>, Error> {
        match until.insist(|| self.client.pipelined().children(&self.parent)) {
            Err(why) if why.code() == Some(ErrorCode::NoNode) => Err(Error::Lost),
            listed => Ok(listed?.0),
        }
    }

    /// Whoever is to be waited for: the last one in front that does not get along with us. When that one goes, nobody else looks.
    fn blocker<'a>(&self, names: &'a [String]) -> Result<Option<&'a str>, Error> {
        if !self.is_among(names) {
            return Err(Error::Lost);
        }
        let Some(me) = Contender::parse(&self.node.name) else { return Err(Error::Lost) };
        let in_front = |other: &Contender<'_>| me.distance_to(other) < 0 && (me.is_exclusive || other.is_exclusive);
        let line = names.iter().filter_map(|name| Contender::parse(name)).filter(in_front);
        Ok(line.max_by_key(|other| me.distance_to(other)).map(|other| other.name))
    }

    /// Waits for one's turn; the names of the children may be known from joining.
    pub(super) fn wait(&self, mut names: Option<Vec<String>>, until: &Until) -> Result<(), Error> {
        loop {
            let listed = match names.take() {
                Some(names) => names,
                None => self.list(until)?,
            };
            let Some(blocker) = self.blocker(&listed)? else { return Ok(()) };
            let path = self.sibling(blocker);
            // By get, not exists: where there is no node any more, no watch is left behind.
            let (found, mut watch) = self.client.pipelined().get_and_watch(&path);
            match until.answer(found) {
                Ok(_) => drop(until.hear(watch.event())?),
                Err(why) if why.code() == Some(ErrorCode::NoNode) => {}
                Err(Error::Client(why)) if is_transient(&why) => until.pause_after(&why)?,
                Err(why) => return Err(why),
            }
        }
    }

    /// Does it stand, as far as is known here without asking?
    pub(super) fn seems_held(&self) -> bool {
        self.client.state() == SessionState::Connected
    }

    /// Asks the servers.
    pub(super) fn confirm(&self) -> Result<(), Error> {
        let until = Until::done();
        let path = self.path();
        until.insist(|| self.client.pipelined().sync(&path))?;
        match until.insist(|| self.client.pipelined().exists(&path))? {
            Some(stat) if stat.czxid == self.node.token.0 => Ok(()),
            _ => Err(Error::Lost),
        }
    }

    /// Writes that happen only while this stands.
    pub(super) fn transaction(&self) -> Transaction<'_> {
        self.client.transaction().check(&self.path(), -1)
    }

    /// Leaves the line. When that cannot be done within a session timeout, it goes on in the background.
    pub(super) fn leave(&mut self) -> Result<(), Error> {
        self.left = true;
        let path = self.path();
        let left = delete(&self.client, &path, &Until::within(self.client.session_timeout()));
        if left == Err(Error::TimedOut) {
            self.leave_in_the_background();
        }
        left
    }

    fn leave_in_the_background(&self) {
        let path = self.path();
        // What cannot be deleted goes with the session.
        in_the_background(&self.client, move |client| drop(delete(client, &path, &Until::done())));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.left && !self.client.state().is_over() {
            self.leave_in_the_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_names_of_curator_and_kazoo_stand_in_one_line() {
        let all = names(&[
            "_c_0a8f61be-0ee0-4bf9-8e0e-cdd43f0d0cd0-lock-0000000012",
            "9f9fd8e1ef2142b9b2fc4b6d2a1bd2a1__lock__0000000002",
            "leases",
            "_c_0a8f61be-0ee0-4bf9-8e0e-cdd43f0d0cd1-__READ__0000000003",
            "00000000000000000000000000000000__rlock__0000000001",
            "_c_0a8f61be-0ee0-4bf9-8e0e-cdd43f0d0cd2-__WRIT__0000000004",
            "lock-12",
        ]);
        let line: Vec<_> = in_order(&all).iter().map(|c| (c.number, c.is_exclusive)).collect();
        assert_eq!(line, [(1, false), (2, true), (3, false), (4, true), (12, true)]);
    }

    #[test]
    fn the_order_survives_numbers_that_go_round() {
        let all = names(&["a-lock--2147483648", "b-lock-2147483647", "c-lock--2147483647"]);
        assert_eq!(in_order(&all).iter().map(|c| &c.name[..1]).collect::<String>(), "bac");
    }

    #[test]
    fn every_name_that_is_made_is_understood() {
        for names in [Names::Curator, Names::Kazoo] {
            for (purpose, is_exclusive) in [(Purpose::Lock, true), (Purpose::Write, true), (Purpose::Read, false), (Purpose::Latch, true)] {
                let name = names.prefix(purpose, "0a8f61be-0ee0-4bf9-8e0e-cdd43f0d0cd0") + "0000000007";
                assert_eq!(Contender::parse(&name), Some(Contender { name: &name, number: 7, is_exclusive }), "{name}");
            }
        }
    }
}

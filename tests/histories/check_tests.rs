//! The checker finds each kind of broken promise, and none where there is none.

use crate::check::{Tree, violations};
use crate::history::*;
use std::time::Duration;
use zoo::base::Stat;

/// A history under construction: each call takes a millisecond.
#[derive(Default)]
struct Story {
    now: u64,
    notes: History,
}

impl Story {
    fn opened() -> Story {
        Story { now: 0, notes: vec![Note::Opened(1)] }
    }
    fn later(mut self, ms: u64) -> Story {
        self.now += ms;
        self
    }
    fn call(mut self, request: Request, reply: Option<Reply>) -> Story {
        let (sent, answered) = (Duration::from_millis(self.now), Duration::from_millis(self.now + 1));
        self.now += 2;
        self.notes.push(Note::Done(Call { request, sent, answer: reply.map(|reply| (answered, reply)) }));
        self
    }
    fn set(self, value: &str, expected: i32, zxid: i64, version: i32) -> Story {
        let request = Request::Set { path: "/r/0".into(), value: value.into(), expected };
        self.call(request, Some(Reply { zxid, stat: Some(stat(zxid, version)), ..Reply::default() }))
    }
    fn refused(self, request: Request, zxid: i64, err: i32) -> Story {
        self.call(request, Some(Reply { zxid, err, ..Reply::default() }))
    }
    fn get(self, path: &str, watch: bool, zxid: i64, value: &str, stat: Stat) -> Story {
        let reply = Reply { zxid, value: value.into(), stat: Some(stat), ..Reply::default() };
        self.call(Request::Get { path: path.into(), watch }, Some(reply))
    }
    fn twins(self, value: &str, zxid: i64, version: i32) -> Story {
        self.call(Request::SetTwins { value: value.into() }, Some(Reply { zxid, stat: Some(stat(zxid, version)), ..Reply::default() }))
    }
    fn create(self, path: &str, flags: i32, value: &str, zxid: i64) -> Story {
        let reply = Reply { zxid, names: vec![path.into()], ..Reply::default() };
        self.call(Request::Create { path: path.into(), value: value.into(), flags }, Some(reply))
    }
    fn list(self, zxid: i64, names: &[&str]) -> Story {
        let reply = Reply { zxid, names: names.iter().map(|name| (*name).to_owned()).collect(), ..Reply::default() };
        self.call(Request::List { path: EPHEMERALS.into() }, Some(reply))
    }
    fn simple(self, request: Request, zxid: i64) -> Story {
        self.call(request, Some(Reply { zxid, ..Reply::default() }))
    }
    fn event(mut self, zxid: i64) -> Story {
        self.notes.push(Note::Event { kind: DATA_CHANGED, path: "/r/0".into(), zxid });
        self
    }
}

fn stat(mzxid: i64, version: i32) -> Stat {
    Stat { mzxid, czxid: mzxid, version, ..Stat::default() }
}

fn tree(nodes: &[(&str, &str, i64)]) -> Tree {
    nodes.iter().map(|(path, value, zxid)| ((*path).to_owned(), Seen { value: (*value).to_owned(), stat: stat(*zxid, 0) })).collect()
}

/// These histories break this promise and no other one.
fn breaks(promise: &str, stories: Vec<Story>, tree: &Tree) {
    let histories: Vec<History> = stories.into_iter().map(|story| story.notes).collect();
    let found = violations(&histories, tree);
    assert!(!found.is_empty() && found.iter().all(|v| v.starts_with(promise)), "wanted {promise}, found {found:?}");
}

fn set_request(value: &str, expected: i32) -> Request {
    Request::Set { path: "/r/0".into(), value: value.into(), expected }
}

#[test]
fn a_history_that_keeps_all_promises_passes() {
    let one = Story::opened()
        .set("a", -1, 11, 1)
        .get("/r/0", true, 11, "a", stat(11, 1))
        .event(12)
        .get("/r/0", false, 12, "b", stat(12, 2))
        .refused(set_request("c", 1), 13, BAD_VERSION)
        .call(set_request("d", 2), None)
        .create("/e/x", EPHEMERAL, "x", 15)
        .list(15, &["x"])
        .simple(Request::Close, 17);
    let other = Story::opened().later(3).set("b", 1, 12, 2).later(60).list(20, &[]).create("/n/y", OPEN, "y", 21);
    let histories = [one.notes, other.notes];
    // The write in doubt was done; it is seen in the end.
    let mut end = tree(&[("/r/0", "d", 14), ("/n/y", "y", 21)]);
    end.get_mut("/r/0").expect("there").stat.version = 3;
    assert_eq!(violations(&histories, &end), Vec::<String>::new());
}

#[test]
fn writes_that_are_lost_doubled_or_invented_are_found() {
    let none = Tree::new();
    // Two values of one version: one of the acknowledged writes was lost.
    breaks("P5", vec![Story::opened().set("a", -1, 11, 1), Story::opened().later(1).set("b", -1, 12, 1)], &none);
    breaks("P5", vec![Story::opened().set("a", 3, 11, 7)], &none);
    breaks("P1", vec![Story::opened().set("a", -1, 11, 1), Story::opened().simple(Request::Close, 11)], &none);
    let twice = Story::opened().call(set_request("a", -1), None).get("/r/0", false, 11, "a", stat(11, 1));
    breaks("P4", vec![twice.get("/r/0", false, 12, "a", stat(12, 2))], &none);
    let refused = Story::opened().refused(set_request("a", 9), 10, BAD_VERSION);
    breaks("P4", vec![refused.get("/r/0", false, 11, "a", stat(11, 1))], &none);
    breaks("P3", vec![Story::opened().create("/n/y", OPEN, "y", 21)], &none);
    breaks("P3", vec![Story::opened().create("/n/y", OPEN, "y", 21)], &tree(&[("/n/y", "y", 22)]));
    let deleted = Story::opened().create("/n/y", OPEN, "y", 21).simple(Request::Delete { path: "/n/y".into() }, 22);
    breaks("P3", vec![deleted], &tree(&[("/n/y", "y", 21)]));
    breaks("P4", vec![], &tree(&[("/n/y", "y", 22)]));
    let exists = Request::Create { path: "/n/y".into(), value: "y".into(), flags: OPEN };
    breaks("P4", vec![Story::opened().refused(exists, 10, NODE_EXISTS)], &none);
}

#[test]
fn writes_out_of_order_and_wrong_refusals_are_found() {
    let none = Tree::new();
    let first = Story::opened().set("a", -1, 12, 2);
    breaks("P5", vec![first, Story::opened().later(5).set("b", -1, 11, 1)], &none);
    let right = Story::opened().set("a", -1, 11, 1).refused(set_request("b", 1), 12, BAD_VERSION);
    breaks("P5", vec![right.set("c", -1, 13, 2)], &none);
}

#[test]
fn reads_that_miss_something_or_go_back_are_found() {
    let none = Tree::new();
    let writer = || Story::opened().set("a", -1, 11, 1).set("b", -1, 12, 2);
    breaks("P6", vec![writer(), Story::opened().get("/r/0", false, 12, "a", stat(11, 1))], &none);
    let back = Story::opened().get("/r/0", false, 12, "b", stat(12, 2)).get("/r/0", false, 11, "a", stat(11, 1));
    breaks("P7, P8", vec![writer(), back], &none);
    let stale = Story::opened().later(9).simple(Request::Sync, 11).get("/r/0", false, 11, "a", stat(11, 1));
    breaks("P9", vec![writer(), stale], &none);
    let half = Story::opened().get("/m/a", false, 12, "a", stat(12, 1)).get("/m/b", false, 13, "", stat(2, 0));
    breaks("P6", vec![Story::opened().twins("a", 12, 1), half], &none);
    let twins = |value: &str| Story::opened().call(Request::SetTwins { value: value.into() }, None);
    let torn = Story::opened().get("/m/a", false, 12, "a", stat(12, 1)).get("/m/b", false, 12, "b", stat(12, 1));
    breaks("P11", vec![twins("a"), twins("b"), torn], &none);
}

#[test]
fn events_that_are_missing_late_doubled_or_wrong_are_found() {
    let none = Tree::new();
    let writer = || Story::opened().set("a", -1, 11, 1).set("b", -1, 12, 2);
    let watch = || Story::opened().get("/r/0", true, 10, "", stat(5, 0));
    breaks("P10", vec![writer(), watch().get("/r/0", false, 11, "a", stat(11, 1))], &none);
    breaks("P10", vec![writer(), watch().simple(Request::Sync, 12).event(11)], &none);
    breaks("P10", vec![writer(), watch().event(12)], &none);
    breaks("P10", vec![writer(), watch().event(11).event(12)], &none);
}

#[test]
fn numbers_given_twice_and_ephemerals_of_the_dead_are_found() {
    let none = Tree::new();
    let numbers = |one: &str, other: &str| Story::opened().create(one, SEQUENTIAL, "a", 11).create(other, SEQUENTIAL, "b", 12);
    let (four, five) = ("/s/0000000004", "/s/0000000005");
    breaks("P12", vec![numbers(five, four)], &tree(&[(five, "a", 11), (four, "b", 12)]));
    // The second of two with one name takes the place of the first.
    let found = violations(&[numbers(five, five).notes], &tree(&[(five, "b", 12)]));
    assert!(found.iter().any(|v| v.starts_with("P12")) && found.iter().any(|v| v.starts_with("P3")), "{found:?}");
    let owner = || Story::opened().create("/e/x", EPHEMERAL, "x", 11);
    breaks("P13", vec![owner().simple(Request::Close, 12), Story::opened().later(9).list(12, &["x"])], &none);
    breaks("P13", vec![owner().simple(Request::Sync, 14), Story::opened().later(9).list(13, &[])], &none);
    breaks("P13", vec![owner()], &tree(&[("/e/x", "x", 11)]));
    let expired = |mut story: Story| {
        story.notes.push(Note::Expired { silence: Duration::from_secs(3), timeout: Duration::from_secs(4) });
        story
    };
    breaks("P13", vec![expired(owner())], &none);
    assert_eq!(violations(&[expired(owner().call(Request::Close, None)).notes], &none), [""; 0], "its end is in doubt");
}

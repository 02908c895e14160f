//! The recent end of the history, in memory: what a learner that is a little behind is brought up to date from.
//! Without a hole, always: checked whenever something is put on and whenever something is sent (L1).

use super::message::Payload;
use super::planted::{Bug, Planted};
use crate::base::Zxid;
use std::collections::VecDeque;

/// May `next` stand right behind `previous`? The next counter of the epoch, or the first of a later one.
pub fn follows(previous: Zxid, next: Zxid) -> bool {
    previous.next() == Some(next) || (next.epoch() > previous.epoch() && next.counter() == 1)
}

/// A contiguous run of transactions, and the zxid it stands on.
#[derive(Debug)]
pub struct Tail {
    /// The transaction (or image) before the first entry: held here, its payload not.
    base: Zxid,
    entries: VecDeque<(Zxid, Payload)>,
    bytes: usize,
    planted: Planted,
}

impl Tail {
    /// From the end of a log. What is not contiguous, or does not end where the log ends, is of no use.
    pub fn new(recent: Vec<(Zxid, Payload)>, last: Zxid, planted: Planted) -> Tail {
        let mut tail = Tail { planted, ..Tail::empty(last) };
        let whole = recent.windows(2).all(|pair| follows(pair[0].0, pair[1].0));
        if whole && recent.last().is_some_and(|(zxid, _)| *zxid == last) {
            let mut recent = recent.into_iter();
            tail.base = recent.next().map_or(last, |(zxid, _)| zxid);
            for (zxid, payload) in recent {
                let pushed = tail.push(zxid, payload);
                debug_assert!(pushed);
            }
        }
        tail
    }
    /// Nothing, after `base`.
    pub fn empty(base: Zxid) -> Tail {
        Tail { base, entries: VecDeque::new(), bytes: 0, planted: Planted::default() }
    }
    /// Forgets everything up to `base`.
    pub fn restart(&mut self, base: Zxid) {
        *self = Tail { planted: self.planted, ..Tail::empty(base) };
    }
    /// The oldest zxid from which everything up to the end is here.
    pub fn base(&self) -> Zxid {
        self.base
    }
    /// The end of the history.
    pub fn last(&self) -> Zxid {
        self.entries.back().map_or(self.base, |(zxid, _)| *zxid)
    }
    /// Puts a transaction on. `false`: there would be a hole before it; then nothing older is kept (L1).
    #[must_use]
    pub fn push(&mut self, zxid: Zxid, payload: Payload) -> bool {
        if !self.joins(self.last(), zxid) {
            self.restart(zxid);
            return false;
        }
        self.bytes += payload.len();
        self.entries.push_back((zxid, payload));
        true
    }
    /// Is this zxid part of the history, as far as the tail reaches back?
    pub fn holds(&self, zxid: Zxid) -> bool {
        zxid == self.base || self.entries.binary_search_by_key(&zxid, |(at, _)| *at).is_ok()
    }
    /// What stands in (`after`, `upto`], which must not reach below the base. `None`: it does, or there is a hole.
    pub fn between(&self, after: Zxid, upto: Zxid) -> Option<Vec<(Zxid, Payload)>> {
        if after < self.base {
            return None;
        }
        let start = self.entries.partition_point(|(zxid, _)| *zxid <= after);
        let part: Vec<_> = self.entries.iter().skip(start).take_while(|(zxid, _)| *zxid <= upto).cloned().collect();
        part.windows(2).all(|pair| self.joins(pair[0].0, pair[1].0)).then_some(part)
    }
    fn joins(&self, previous: Zxid, next: Zxid) -> bool {
        follows(previous, next) || self.planted.has(Bug::HoleInTail)
    }
    /// The bytes of this transaction.
    pub fn payload(&self, zxid: Zxid) -> Option<Payload> {
        let at = self.entries.binary_search_by_key(&zxid, |(at, _)| *at).ok()?;
        self.entries.get(at).map(|(_, payload)| payload.clone())
    }
    /// The first transaction after this zxid.
    pub fn first_after(&self, zxid: Zxid) -> Option<Zxid> {
        self.entries.get(self.entries.partition_point(|(at, _)| *at <= zxid)).map(|(at, _)| *at)
    }
    /// Forgets everything above this zxid, where the log was cut.
    pub fn cut(&mut self, above: Zxid) {
        if above < self.base {
            self.restart(above);
            return;
        }
        while self.entries.back().is_some_and(|(zxid, _)| *zxid > above) {
            self.bytes -= self.entries.pop_back().map_or(0, |(_, payload)| payload.len());
        }
    }
    /// Drops the oldest while there are more than `count_min` and more than `bytes_max`, but nothing above `keep_above`.
    pub fn trim(&mut self, count_min: usize, bytes_max: usize, keep_above: Zxid) {
        while self.entries.len() > count_min && self.bytes > bytes_max && self.entries.front().is_some_and(|(zxid, _)| *zxid <= keep_above)
        {
            if let Some((zxid, payload)) = self.entries.pop_front() {
                self.bytes -= payload.len();
                self.base = zxid;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(epoch: u32, counter: u32) -> (Zxid, Payload) {
        (Zxid::new(epoch, counter), Payload::from(vec![0; 10]))
    }
    fn zxids(part: Option<Vec<(Zxid, Payload)>>) -> Option<Vec<u64>> {
        part.map(|p| p.iter().map(|(z, _)| z.0).collect())
    }
    fn tail() -> Tail {
        Tail::new(vec![entry(1, 3), entry(1, 4), entry(2, 1), entry(2, 2)], Zxid::new(2, 2), Planted::default())
    }

    #[test]
    fn it_reaches_back_to_the_first_entry_it_was_given() {
        let tail = tail();
        assert_eq!((tail.base(), tail.last()), (Zxid::new(1, 3), Zxid::new(2, 2)));
        assert_eq!(zxids(tail.between(Zxid::new(1, 4), Zxid::MAX)), Some(vec![Zxid::new(2, 1).0, Zxid::new(2, 2).0]));
        assert_eq!(zxids(tail.between(Zxid::new(1, 3), Zxid::new(1, 4))), Some(vec![Zxid::new(1, 4).0]));
        assert_eq!(tail.between(Zxid::new(1, 2), Zxid::MAX), None);
        assert!(tail.holds(Zxid::new(1, 3)) && tail.holds(Zxid::new(2, 1)) && !tail.holds(Zxid::new(1, 5)));
    }
    #[test]
    fn a_hole_clears_it_when_pushed_l1() {
        for hole in [Zxid::new(2, 4), Zxid::new(2, 2), Zxid::new(3, 2), Zxid::new(1, 9)] {
            let mut tail = tail();
            assert!(!tail.push(hole, Payload::from(vec![0])), "{hole}");
            assert_eq!(
                (tail.base(), tail.last(), tail.between(Zxid::new(1, 3), Zxid::MAX)),
                (hole, hole, if hole <= Zxid::new(1, 3) { Some(vec![]) } else { None })
            );
        }
    }
    #[test]
    fn a_log_end_with_a_hole_or_another_end_is_not_used_l1() {
        let holed = Tail::new(vec![entry(1, 3), entry(1, 5)], Zxid::new(1, 5), Planted::default());
        let stale = Tail::new(vec![entry(1, 3), entry(1, 4)], Zxid::new(1, 5), Planted::default());
        for tail in [holed, stale] {
            assert_eq!((tail.base(), tail.last()), (Zxid::new(1, 5), Zxid::new(1, 5)));
        }
    }
    #[test]
    fn a_hole_found_while_sending_is_not_sent_l1() {
        let mut tail = tail();
        tail.entries.remove(1);
        assert_eq!(tail.between(Zxid::new(1, 3), Zxid::MAX), None);
    }
    #[test]
    fn trimming_keeps_the_count_and_what_is_not_applied() {
        let mut tail = Tail::empty(Zxid::ZERO);
        for counter in 1..=100 {
            assert!(tail.push(Zxid::new(1, counter), entry(1, counter).1));
        }
        tail.trim(10, 500, Zxid::new(1, 30));
        assert_eq!(tail.base(), Zxid::new(1, 30));
        tail.trim(10, 500, Zxid::new(1, 100));
        assert_eq!(tail.base(), Zxid::new(1, 50), "500 bytes are 50 entries");
        tail.trim(10, 0, Zxid::new(1, 100));
        assert_eq!(tail.base(), Zxid::new(1, 90));
    }
    #[test]
    fn cutting_goes_back_to_the_zxid_or_forgets_all() {
        let mut tail = tail();
        tail.cut(Zxid::new(1, 4));
        assert_eq!(tail.last(), Zxid::new(1, 4));
        tail.cut(Zxid::new(1, 1));
        assert_eq!((tail.base(), tail.last()), (Zxid::new(1, 1), Zxid::new(1, 1)));
    }
}

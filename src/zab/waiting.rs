//! Learners that connect while this server is still electing: their election ended earlier than ours. They wait, with the one packet that
//! a learner sends unasked, until it is clear whether we lead.

use super::input::LinkId;
use super::message::Packet;
use crate::base::Instant;
use std::collections::BTreeMap;

/// Places beside one for each member.
const SPARE: usize = 16;

/// The links that wait.
pub struct WaitingRoom {
    links: BTreeMap<LinkId, (Instant, Option<Packet>)>,
    max: usize,
}

impl WaitingRoom {
    /// For an ensemble of so many members.
    pub fn new(members: usize) -> WaitingRoom {
        WaitingRoom { links: BTreeMap::new(), max: members + SPARE }
    }
    /// A link comes in, for a time. The link to close instead, when there is no room: the one that has waited longest.
    pub fn enter(&mut self, link: LinkId, until: Instant) -> Option<LinkId> {
        self.links.insert(link, (until, None));
        if self.links.len() <= self.max { None } else { self.links.pop_first().map(|(oldest, _)| oldest) }
    }
    /// Its packet. `false`: it has no business sending this; it is forgotten.
    pub fn keep(&mut self, link: LinkId, packet: Packet) -> bool {
        let is_greeting = matches!(packet, Packet::FollowerInfo { .. } | Packet::ObserverInfo { .. });
        match self.links.get_mut(&link) {
            None => true, // closed a moment ago
            Some((_, kept)) if is_greeting && kept.is_none() => {
                *kept = Some(packet);
                true
            }
            Some(_) => {
                self.links.remove(&link);
                false
            }
        }
    }
    /// It is gone.
    pub fn leave(&mut self, link: LinkId) {
        self.links.remove(&link);
    }
    /// The next time that somebody has waited for too long.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.links.values().map(|(until, _)| *until).min()
    }
    /// Those that have; forgotten.
    pub fn expired(&mut self, now: Instant) -> Vec<LinkId> {
        self.links.extract_if(.., |_, (until, _)| *until <= now).map(|(link, _)| link).collect()
    }
    /// We lead: everybody comes in, with what it has sent.
    pub fn open(&mut self) -> Vec<(LinkId, Option<Packet>)> {
        std::mem::take(&mut self.links).into_iter().map(|(link, (_, packet))| (link, packet)).collect()
    }
    /// We do not lead: everybody has to go.
    pub fn close(&mut self) -> Vec<LinkId> {
        std::mem::take(&mut self.links).into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PeerId, Zxid};
    use crate::zab::LearnerInfo;

    fn greeting() -> Packet {
        Packet::FollowerInfo { zxid: Zxid::ZERO, info: LearnerInfo { id: Some(PeerId(1)), protocol_version: 0x10000, config_version: 0 } }
    }

    #[test]
    fn a_link_waits_with_its_greeting_and_with_nothing_else() {
        let mut room = WaitingRoom::new(3);
        for link in [2, 4, 6] {
            assert_eq!(room.enter(LinkId(link), Instant(100)), None);
        }
        assert!(room.keep(LinkId(2), greeting()));
        assert!(room.keep(LinkId(4), greeting()) && !room.keep(LinkId(4), greeting()), "once only");
        assert!(!room.keep(LinkId(6), Packet::UpToDate));
        assert_eq!(room.open(), [(LinkId(2), Some(greeting()))]);
    }
    #[test]
    fn the_room_is_small_and_nobody_waits_for_ever() {
        let mut room = WaitingRoom::new(0);
        let closed: Vec<_> = (0..20).filter_map(|n| room.enter(LinkId(n), Instant(n))).collect();
        assert_eq!(closed, [LinkId(0), LinkId(1), LinkId(2), LinkId(3)]);
        assert_eq!(room.poll_timeout(), Some(Instant(4)));
        assert_eq!(room.expired(Instant(5)), [LinkId(4), LinkId(5)]);
        assert_eq!(room.close().len(), 14);
    }
}

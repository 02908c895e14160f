//! Links between servers: in order, with delays; a blocked way swallows everything from then on, as a cut cable does, and tells nobody.

use super::disk::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use zoo::base::{PeerId, Zxid};
use zoo::zab::{LinkId, Notification, Packet};

/// One server between two starts.
pub type Life = (PeerId, u64);

/// On a link.
pub enum Message {
    Packet(Packet),
    /// SNAP and its stream.
    Image(Zxid, Vec<Entry>),
    Closed,
}

/// One end of a link.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub life: Life,
    pub link: LinkId,
    pub is_open: bool,
}

/// A link; direction 0 is from the end that connected.
pub struct Link {
    pub ends: [End; 2],
    pub queues: [VecDeque<Message>; 2],
    /// Time of the last delivery planned, by direction.
    pub planned: [u64; 2],
    /// Nothing more arrives.
    pub is_cut: [bool; 2],
    /// The receiver is busy with an image; so many deliveries are owed to it.
    pub stalled: [Option<usize>; 2],
}

#[derive(Default)]
pub struct Network {
    pub links: BTreeMap<u64, Link>,
    pub by_end: BTreeMap<(Life, LinkId), (u64, usize)>,
    /// The newest undelivered notification on each way.
    pub notifications: BTreeMap<(PeerId, PeerId), Notification>,
    /// Ways on which nothing arrives.
    pub blocked: BTreeSet<(PeerId, PeerId)>,
    next: u64,
}

impl Network {
    /// A learner is told to put another history in the place of its own, or to cut it.
    pub fn replaces_history(&self) -> bool {
        let replaces = |message: &Message| matches!(message, Message::Image(..) | Message::Packet(Packet::Trunc { .. }));
        self.links.values().flat_map(|link| link.queues.iter().flatten()).any(replaces)
    }
    /// A link that `from` has asked for, to be accepted by `to`.
    pub fn link(&mut self, from: Life, link: LinkId, to: Life) -> u64 {
        self.next += 1;
        let ends = [End { life: from, link, is_open: true }, End { life: to, link: LinkId(self.next * 2), is_open: true }];
        for (n, end) in ends.iter().enumerate() {
            self.by_end.insert((end.life, end.link), (self.next, n));
        }
        let link = Link { ends, queues: Default::default(), planned: [0; 2], is_cut: [false; 2], stalled: [None; 2] };
        self.links.insert(self.next, link);
        self.next
    }
    /// The link with this end, and the direction in which that end sends.
    pub fn find(&self, life: Life, link: LinkId) -> Option<(u64, usize)> {
        self.by_end.get(&(life, link)).copied()
    }
    pub fn is_blocked(&self, from: PeerId, to: PeerId) -> bool {
        self.blocked.contains(&(from, to))
    }
    /// Forgets links of which nobody knows any more.
    pub fn sweep(&mut self) {
        let gone: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, l)| l.ends.iter().all(|e| !e.is_open) && l.queues.iter().all(VecDeque::is_empty))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            if let Some(link) = self.links.remove(&id) {
                for end in link.ends {
                    self.by_end.remove(&(end.life, end.link));
                }
            }
        }
    }
}

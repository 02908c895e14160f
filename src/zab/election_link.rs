//! Which of two servers keeps a connection of the election port: the one with the larger id makes it (A1). The other one can only knock:
//! it connects, says who it is, is cut off and called back.

use crate::base::PeerId;

/// What the side that has connected does once its initial message is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outgoing {
    /// This is the connection with the peer from now on; an older one is closed.
    Keep,
    /// Close it: the peer calls back.
    Knock,
}

/// What the side that was connected to does once it has read the initial message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// This is the connection with the peer from now on; an older one is closed.
    Keep,
    /// Close it, and any older one with this peer, and connect to the peer.
    CallBack,
    /// Close it: our own id (two servers are configured as one), or none that a member can have.
    Refuse,
}

/// For a connection made by `me`.
#[must_use]
pub fn outgoing(me: PeerId, to: PeerId) -> Outgoing {
    if to > me { Outgoing::Knock } else { Outgoing::Keep }
}

/// For a connection made by `from`.
#[must_use]
pub fn incoming(me: PeerId, from: PeerId) -> Incoming {
    if from == me || from.0 < 0 || from.0 == i64::MAX {
        Incoming::Refuse
    } else if from > me {
        Incoming::Keep
    } else {
        Incoming::CallBack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_id_makes_the_connection_whoever_begins() {
        let (small, large) = (PeerId(1), PeerId(3));
        assert_eq!((outgoing(large, small), incoming(small, large)), (Outgoing::Keep, Incoming::Keep));
        assert_eq!((outgoing(small, large), incoming(large, small)), (Outgoing::Knock, Incoming::CallBack));
    }

    #[test]
    fn ids_that_no_other_member_has_are_refused() {
        for id in [2, -1, i64::MIN, i64::MAX] {
            assert_eq!(incoming(PeerId(2), PeerId(id)), Incoming::Refuse, "{id}");
        }
    }

    /// Both sides of every pair come to the same conclusion about every connection, so exactly one remains.
    #[test]
    fn both_sides_agree() {
        for (a, b) in (0..5).flat_map(|a| (0..5).map(move |b| (PeerId(a), PeerId(b)))).filter(|(a, b)| a != b) {
            assert_eq!(outgoing(a, b) == Outgoing::Keep, incoming(b, a) == Incoming::Keep);
            assert_ne!(outgoing(a, b) == Outgoing::Keep, outgoing(b, a) == Outgoing::Keep);
        }
    }
}

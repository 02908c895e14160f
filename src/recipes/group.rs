//! Who is there, and whom to ask: members that register themselves, and rosters that follow them.

use super::cache::{Cache, Freshness, Snapshot};
use super::guid::child;
use super::persistent::{PersistentNode, Standing};
use super::{Error, Sessions, Token};
use crate::client::lock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A member of a group, such as an instance of a service.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Member {
    /// Its name in the group, of which there is one at a time: the name of its node.
    pub id: String,
    /// Where it is to be found.
    pub address: String,
    /// How busy it says it is, in whatever unit the group has agreed upon.
    pub load: u64,
    /// Anything else others should know.
    pub note: String,
}

impl Member {
    /// One that is idle and has nothing else to say.
    #[must_use]
    pub fn new(id: &str, address: &str) -> Self {
        Member { id: id.to_owned(), address: address.to_owned(), ..Member::default() }
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::json!({ "address": self.address, "load": self.load, "note": self.note }).to_string().into_bytes()
    }

    /// `None`: somebody else's node.
    fn decode(id: &str, data: &[u8]) -> Option<Self> {
        let value: serde_json::Value = serde_json::from_slice(data).ok()?;
        let text = |name: &str| value.get(name).and_then(|v| v.as_str()).map(str::to_owned);
        let load = value.get("load").and_then(serde_json::Value::as_u64).unwrap_or(0);
        Some(Member { id: id.to_owned(), address: text("address")?, load, note: text("note").unwrap_or_default() })
    }
}

/// A group at a node: every child is a member.
///
/// - A member is listed from its registration until it leaves, or its session ends: by its timeout at the latest, after the process has died. Over expired sessions it
///   registers again by itself.
/// - A roster shows the group as it was at one moment, behind by the way to the servers. While there is no connection it goes on showing the last one.
///
/// ```
/// # use std::time::Duration;
/// # use zoo::{client::ZooClient, server::ZooServer};
/// # let server = ZooServer::start()?;
/// # let client = ZooClient::connect(server.host())?;
/// use zoo::recipes::{Group, Member, Pick, Sessions};
///
/// let sessions = Sessions::new(ZooClient::builder(server.host()));
/// let group = Group::new(&sessions, "/services/thumbnails");
/// let me = group.join(Member::new("host-1", "10.0.0.1:80"))?;
/// let roster = group.roster()?;
/// roster.until(Duration::from_secs(10), |members| members.len() == 1)?;
/// assert_eq!(roster.pick(Pick::Sticky("image 7")).map(|member| member.address).as_deref(), Some("10.0.0.1:80"));
/// me.leave()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Group {
    sessions: Sessions,
    path: String,
}

impl Group {
    /// The group at this node, which need not exist.
    #[must_use]
    pub fn new(sessions: &Sessions, path: &str) -> Self {
        Group { sessions: sessions.clone(), path: path.to_owned() }
    }

    /// Registers a member. If there is one of that id already, its end is waited for.
    pub fn join(&self, member: Member) -> Result<Registration, Error> {
        let node = PersistentNode::start(&self.sessions, &child(&self.path, &member.id), &member.encode())?;
        Ok(Registration { node, member: Mutex::new(member) })
    }

    /// Follows the group.
    pub fn roster(&self) -> Result<Roster, Error> {
        let cache = Cache::start(&self.sessions, &self.path)?;
        Ok(Roster { cache, path: self.path.clone(), turn: AtomicUsize::new(0) })
    }
}

/// A member's own entry, kept as long as this is.
#[derive(Debug)]
pub struct Registration {
    node: PersistentNode,
    member: Mutex<Member>,
}

impl Registration {
    /// How it stands with the entry.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.node.standing()
    }

    /// Waits until it is listed.
    pub fn until_listed(&self, patience: Duration) -> Result<Token, Error> {
        self.node.until_there(patience)
    }

    /// Tells how busy it is.
    pub fn report_load(&self, load: u64) -> Result<(), Error> {
        let mut member = lock(&self.member);
        member.load = load;
        self.node.set_data(&member.encode())
    }

    /// Leaves the group.
    pub fn leave(self) -> Result<(), Error> {
        self.node.stop()
    }
}

/// How one of several members is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pick<'a> {
    /// One after another.
    RoundRobin,
    /// One of those that say they are the least busy, in turn.
    LeastLoaded,
    /// The same for the same key, for everybody, as long as it is there. When a member goes or comes, only keys move that were its own or become so.
    Sticky(&'a str),
}

/// The members of a group, kept up to date.
#[derive(Debug)]
pub struct Roster {
    cache: Cache,
    path: String,
    turn: AtomicUsize,
}

impl Roster {
    /// All of them, in the order of their ids.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        members(&self.cache.snapshot(), &self.path)
    }

    /// Whether the list is kept up to date.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        self.cache.freshness()
    }

    /// Waits until the members are as wanted.
    pub fn until(&self, patience: Duration, is_wanted: impl Fn(&[Member]) -> bool) -> Result<Vec<Member>, Error> {
        let snapshot = self.cache.until(patience, |snapshot| is_wanted(&members(snapshot, &self.path)))?;
        Ok(members(&snapshot, &self.path))
    }

    /// One of them; none when there is none.
    #[must_use]
    pub fn pick(&self, how: Pick<'_>) -> Option<Member> {
        pick(self.members(), how, || self.turn.fetch_add(1, Ordering::Relaxed))
    }
}

fn members(snapshot: &Snapshot, path: &str) -> Vec<Member> {
    snapshot.children(path).filter_map(|(id, node)| Member::decode(id, &node.data)).collect()
}

fn pick(mut members: Vec<Member>, how: Pick<'_>, turn: impl Fn() -> usize) -> Option<Member> {
    match how {
        Pick::RoundRobin => {}
        Pick::LeastLoaded => {
            let least = members.iter().map(|member| member.load).min()?;
            members.retain(|member| member.load == least);
        }
        Pick::Sticky(key) => return members.into_iter().max_by_key(|member| affinity(key, &member.id)),
    }
    let count = members.len();
    (count > 0).then(|| members.swap_remove(turn() % count))
}

/// How much a key and a member like each other: a number that everybody computes alike (FNV-1a, its bits mixed once more at the end).
fn affinity(key: &str, id: &str) -> u64 {
    let bytes = key.bytes().chain([0]).chain(id.bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 29
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(loads: &[u64]) -> Vec<Member> {
        loads.iter().enumerate().map(|(i, load)| Member { load: *load, ..Member::new(&format!("m{i}"), "a:1") }).collect()
    }

    #[test]
    fn members_are_picked_in_turn_by_load_and_by_key() {
        let turn = std::cell::Cell::new(0);
        let next = || turn.replace(turn.get() + 1);
        let ids = |how, loads: &[u64]| -> Vec<String> { (0..4).filter_map(|_| pick(some(loads), how, next)).map(|m| m.id).collect() };
        assert_eq!(ids(Pick::RoundRobin, &[9, 0, 5]), ["m0", "m1", "m2", "m0"]);
        assert_eq!(ids(Pick::LeastLoaded, &[1, 7, 1]), ["m0", "m2", "m0", "m2"]);
        assert_eq!(ids(Pick::RoundRobin, &[]), Vec::<String>::new());
        assert_eq!(pick(Vec::new(), Pick::LeastLoaded, next), None);
    }

    #[test]
    fn when_a_member_goes_only_its_keys_move_and_they_spread() {
        let keys: Vec<String> = (0..1000).map(|i| format!("key-{i}")).collect();
        let owner = |members: Vec<Member>, key: &str| pick(members, Pick::Sticky(key), || 0).expect("there are members").id;
        let before: Vec<_> = keys.iter().map(|key| owner(some(&[0; 5]), key)).collect();
        let after: Vec<_> = keys.iter().map(|key| owner(some(&[0; 4]), key)).collect();
        let mut moved_to = std::collections::BTreeMap::new();
        for (was, is) in before.iter().zip(&after) {
            if was == "m4" {
                *moved_to.entry(is).or_insert(0) += 1;
            } else {
                assert_eq!(was, is);
            }
        }
        assert_eq!(moved_to.len(), 4, "{moved_to:?}");
        assert!(moved_to.values().all(|count| *count > 20), "{moved_to:?}");
    }

    #[test]
    fn what_a_member_says_of_itself_survives_the_way() {
        let member = Member { id: "a".into(), address: "10.0.0.1:80".into(), load: 7, note: "\"zone\": 1\n".into() };
        assert_eq!(Member::decode("a", &member.encode()), Some(member));
        for foreign in [&b""[..], b"10.0.0.1", b"[1]", b"{\"load\": 1}"] {
            assert_eq!(Member::decode("a", foreign), None);
        }
    }
}

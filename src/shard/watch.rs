//! The watch tables of one core: data and child watches by path, for its own connections only.
//!
//! Compact, because a million one-shot watches are real: each watched path is stored once, in a slot of 32 bytes; a single
//! watcher lies inside the slot, several in a side table; the way back from a connection is a list of slot numbers. Slots never move: a table
//! that has to grow stops nobody. Firing costs one test of the interest filter when nobody watches anything near.

use super::path_index::PathIndex;
use super::pieces::Pieces;
use crate::base::path;
use crate::handoff::{Bell, path_hash};
use std::sync::Arc;

/// Bits of the modes in which a connection watches a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Modes(pub u8);

#[allow(missing_docs)]
impl Modes {
    pub const STANDARD: Modes = Modes(1);
    pub const PERSISTENT: Modes = Modes(2);
    pub const RECURSIVE: Modes = Modes(4);
    pub const ANY: Modes = Modes(7);

    fn overlaps(self, other: Modes) -> bool {
        self.0 & other.0 != 0
    }
}

/// The two tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// getData, exists, addWatch.
    Data,
    /// getChildren, addWatch persistent.
    Child,
}

/// One registration of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watched {
    pub(super) path: Box<str>,
    pub(super) table: Table,
    pub(super) modes: Modes,
}

/// The connection's place in its shard; reused only after `drop_client`.
pub type ClientSlot = u32;

/// All watches of a shard.
pub struct Watches {
    index: PathIndex,
    paths: Pieces<WatchedPath>,
    free: Vec<u32>,
    /// Lists of more than one watcher, by connection: thousands may watch one path.
    lists: Vec<Vec<Watcher>>,
    free_lists: Vec<u32>,
    clients: Vec<ClientWatches>,
    /// (connection, path) pairs in each table.
    data_count: usize,
    child_count: usize,
    /// Pairs with the recursive mode: while there are none, ancestors need not be looked up.
    recursive_count: usize,
    /// How many watched paths map to each bit of the filter.
    bit_counts: Vec<u32>,
    bell: Arc<Bell>,
}

#[derive(Default)]
struct WatchedPath {
    path: Box<str>,
    hash: u32,
    /// By table: the only watcher, or the list of them; `kinds` says which.
    numbers: [u32; 2],
    /// By table: the modes of the only watcher, 0 for nobody, or `LISTED`.
    kinds: [u8; 2],
}

/// There is a list of watchers: no modes.
const LISTED: u8 = u8::MAX;

/// Who watches a path in one table.
#[derive(Clone, Copy)]
enum Watchers {
    Nobody,
    One(Watcher),
    List(u32),
}

#[derive(Clone, Copy)]
struct Watcher {
    client: ClientSlot,
    modes: Modes,
}

/// The way back: paths a connection has watched. May hold paths it no longer watches, or twice; compacted when these prevail.
#[derive(Default)]
struct ClientWatches {
    paths: Vec<u32>,
    count: usize,
}

const _: () = assert!(size_of::<WatchedPath>() <= 32);

impl WatchedPath {
    fn watchers(&self, table: Table) -> Watchers {
        let (number, kind) = (self.numbers[table as usize], self.kinds[table as usize]);
        match kind {
            0 => Watchers::Nobody,
            LISTED => Watchers::List(number),
            modes => Watchers::One(Watcher { client: number, modes: Modes(modes) }),
        }
    }

    fn set_watchers(&mut self, table: Table, watchers: Watchers) {
        let (number, kind) = match watchers {
            Watchers::Nobody => (0, 0),
            Watchers::List(list) => (list, LISTED),
            Watchers::One(w) => (w.client, w.modes.0),
        };
        (self.numbers[table as usize], self.kinds[table as usize]) = (number, kind);
    }

    fn is_watched(&self) -> bool {
        self.kinds != [0, 0]
    }
}

impl Watches {
    /// Empty tables; `bell` gets told what is watched (rule A8). `hash_seed` guards against chosen paths.
    #[must_use]
    pub fn new(bell: Arc<Bell>, hash_seed: u64) -> Self {
        Watches {
            index: PathIndex::new(hash_seed),
            paths: Pieces::default(),
            free: Vec::new(),
            lists: Vec::new(),
            free_lists: Vec::new(),
            clients: Vec::new(),
            data_count: 0,
            child_count: 0,
            recursive_count: 0,
            bit_counts: vec![0; bell.interest().bits()],
            bell,
        }
    }

    /// (connection, path) pairs in both tables.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data_count + self.child_count
    }
    /// Nobody watches anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Pairs of one connection.
    #[must_use]
    pub fn client_count(&self, client: ClientSlot) -> usize {
        self.clients.get(client as usize).map_or(0, |c| c.count)
    }

    /// Adds modes; idempotent.
    pub fn add(&mut self, table: Table, path: &str, client: ClientSlot, modes: Modes) {
        let slot = self.slot_of(path);
        let before = self.modes(slot, table, client);
        let after = Modes(before.0 | modes.0);
        if before == after {
            return;
        }
        self.set_modes(slot, table, client, after);
        if before.0 == 0 {
            let index = client as usize;
            if self.clients.len() <= index {
                self.clients.resize_with(index + 1, ClientWatches::default);
            }
            self.clients[index].paths.push(slot);
            self.compact_client(client);
        }
    }

    /// Removes modes; true when any of them was there.
    pub fn remove(&mut self, table: Table, path: &str, client: ClientSlot, modes: Modes) -> bool {
        let Some(slot) = self.find(path) else { return false };
        let before = self.modes(slot, table, client);
        if !before.overlaps(modes) {
            return false;
        }
        self.set_modes(slot, table, client, Modes(before.0 & !modes.0));
        self.free_if_unwatched(slot);
        true
    }

    /// True when the connection watches the path in any of these modes.
    #[must_use]
    pub fn contains(&self, table: Table, path: &str, client: ClientSlot, modes: Modes) -> bool {
        self.find(path).is_some_and(|slot| self.modes(slot, table, client).overlaps(modes))
    }

    /// Appends to `hits` the connections that an event on `path` concerns, each once, and takes away standard watches. In the
    /// data table recursive watches of the path and its ancestors match too.
    pub fn fire(&mut self, table: Table, path: &str, hits: &mut Vec<ClientSlot>) {
        let first = hits.len();
        if let Some(slot) = self.find(path) {
            hits.extend(self.watchers(slot, table).map(|w| w.client));
            self.take_standard(slot, table);
        }
        if table == Table::Data && self.recursive_count > 0 {
            let mut ancestor = path::parent(path);
            while let Some(p) = ancestor {
                if let Some(slot) = self.find(p) {
                    let recursive = self.watchers(slot, Table::Data).filter(|w| w.modes.overlaps(Modes::RECURSIVE));
                    hits.extend(recursive.map(|w| w.client));
                }
                ancestor = path::parent(p);
            }
            dedup_from(hits, first);
        }
    }

    /// What `fire` means for one connection: true when the event concerns it, whose standard watch it takes away.
    pub fn fire_one(&mut self, table: Table, path: &str, client: ClientSlot) -> bool {
        let hit = self.contains(table, path, client, Modes::ANY) || table == Table::Data && self.watches_above(path, client);
        self.remove(table, path, client, Modes::STANDARD);
        hit
    }

    fn watches_above(&self, path: &str, client: ClientSlot) -> bool {
        let mut ancestors = std::iter::successors(path::parent(path), |p| path::parent(p)).take_while(|_| self.recursive_count > 0);
        ancestors.any(|p| self.contains(Table::Data, p, client, Modes::RECURSIVE))
    }

    /// Forgets a connection, and gives what it has watched.
    pub fn take_client(&mut self, client: ClientSlot) -> Vec<Watched> {
        let mut slots = self.clients.get(client as usize).map_or_else(Vec::new, |entry| entry.paths.clone());
        slots.sort_unstable();
        slots.dedup();
        let all = slots.into_iter().flat_map(|slot| [Table::Data, Table::Child].map(|table| (slot, table)));
        let registered = |(slot, table)| (slot, table, self.modes(slot, table, client));
        let watched = all.map(registered).filter(|(.., modes)| modes.0 != 0);
        let watches = watched.map(|(slot, table, modes)| Watched::new(&self.paths[slot].path, table, modes)).collect();
        self.drop_client(client);
        watches
    }

    /// Forgets a connection.
    pub fn drop_client(&mut self, client: ClientSlot) {
        let Some(entry) = self.clients.get_mut(client as usize) else { return };
        for slot in std::mem::take(&mut entry.paths) {
            for table in [Table::Data, Table::Child] {
                self.set_modes(slot, table, client, Modes(0));
            }
            self.free_if_unwatched(slot);
        }
        debug_assert_eq!(self.client_count(client), 0);
    }

    /// Watched paths of the data table with their watchers, sorted by path, for admin commands.
    #[must_use]
    pub fn data_watches(&self) -> Vec<(&str, Vec<ClientSlot>)> {
        let slots = (0..self.paths.len()).filter(|slot| self.paths[*slot].kinds[Table::Data as usize] != 0);
        let watched = slots.map(|slot| (&*self.paths[slot].path, self.watchers(slot, Table::Data).map(|w| w.client).collect()));
        let mut all: Vec<(&str, Vec<_>)> = watched.collect();
        all.sort_unstable_by_key(|(path, _)| *path);
        all
    }

    fn find(&self, path: &str) -> Option<u32> {
        self.index.find(self.index.hash(path), |slot| &*self.paths[slot].path == path)
    }

    fn slot_of(&mut self, path: &str) -> u32 {
        if let Some(slot) = self.find(path) {
            return slot;
        }
        let hash = self.index.hash(path);
        let entry = WatchedPath { path: path.into(), hash, ..WatchedPath::default() };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.paths[slot] = entry;
                slot
            }
            None => self.paths.push(entry),
        };
        let paths = &self.paths;
        self.index.insert(hash, slot, |slot| paths[slot].hash);
        self.count_bit(path_hash(path), true);
        slot
    }

    fn free_if_unwatched(&mut self, slot: u32) {
        let entry = &self.paths[slot];
        if entry.is_watched() {
            return;
        }
        let (hash, bit_hash) = (entry.hash, path_hash(&entry.path));
        let paths = &self.paths;
        // A slot that is free already is not in the index.
        if self.index.remove(hash, slot, |slot| paths[slot].hash) {
            self.paths[slot].path = Box::default();
            self.free.push(slot);
            self.count_bit(bit_hash, false);
        }
    }

    fn count_bit(&mut self, hash: u64, more: bool) {
        let interest = self.bell.interest();
        let bit = interest.bit(hash);
        let count = &mut self.bit_counts[bit];
        *count = if more { *count + 1 } else { *count - 1 };
        if *count == u32::from(more) {
            interest.set(bit, more);
        }
    }

    fn watchers(&self, slot: u32, table: Table) -> impl Iterator<Item = Watcher> {
        let (one, list): (_, &[Watcher]) = match self.paths[slot].watchers(table) {
            Watchers::Nobody => (None, &[]),
            Watchers::One(w) => (Some(w), &[]),
            Watchers::List(list) => (None, &self.lists[list as usize]),
        };
        one.into_iter().chain(list.iter().copied())
    }

    fn modes(&self, slot: u32, table: Table, client: ClientSlot) -> Modes {
        match self.paths[slot].watchers(table) {
            Watchers::One(w) if w.client == client => w.modes,
            Watchers::Nobody | Watchers::One(_) => Modes(0),
            Watchers::List(list) => {
                let watchers = &self.lists[list as usize];
                watchers.binary_search_by_key(&client, |w| w.client).map_or(Modes(0), |at| watchers[at].modes)
            }
        }
    }

    fn set_modes(&mut self, slot: u32, table: Table, client: ClientSlot, modes: Modes) {
        let before = self.modes(slot, table, client);
        if before == modes {
            return;
        }
        self.account(table, client, before, modes);
        let watcher = Watcher { client, modes };
        match self.paths[slot].watchers(table) {
            Watchers::Nobody => self.paths[slot].set_watchers(table, Watchers::One(watcher)),
            Watchers::One(w) if w.client == client => self.paths[slot].set_watchers(table, Watchers::One(watcher)),
            Watchers::One(other) => {
                let list = self.new_list(if other.client < client { vec![other, watcher] } else { vec![watcher, other] });
                self.paths[slot].set_watchers(table, Watchers::List(list));
            }
            Watchers::List(list) => {
                let watchers = &mut self.lists[list as usize];
                match watchers.binary_search_by_key(&client, |w| w.client) {
                    Ok(at) if modes.0 == 0 => drop(watchers.remove(at)),
                    Ok(at) => watchers[at] = watcher,
                    Err(at) => watchers.insert(at, watcher),
                }
                self.shrink_list(slot, table, list);
            }
        }
    }

    /// Keeps the counters when a connection's modes on a path change.
    fn account(&mut self, table: Table, client: ClientSlot, before: Modes, after: Modes) {
        let count = if table == Table::Data { &mut self.data_count } else { &mut self.child_count };
        let index = client as usize;
        if self.clients.len() <= index {
            self.clients.resize_with(index + 1, ClientWatches::default);
        }
        match (before.0 == 0, after.0 == 0) {
            (true, false) => {
                *count += 1;
                self.clients[index].count += 1;
            }
            (false, true) => {
                *count -= 1;
                self.clients[index].count -= 1;
            }
            _ => {}
        }
        match (before.overlaps(Modes::RECURSIVE), after.overlaps(Modes::RECURSIVE)) {
            (false, true) => self.recursive_count += 1,
            (true, false) => self.recursive_count -= 1,
            _ => return,
        }
        // Recursive watches see every event below them, which the filter cannot express.
        self.bell.interest().set_everything(self.recursive_count > 0);
    }

    fn take_standard(&mut self, slot: u32, table: Table) {
        let left = |modes: Modes| Modes(modes.0 & !Modes::STANDARD.0);
        match self.paths[slot].watchers(table) {
            Watchers::Nobody => {}
            Watchers::One(w) => self.set_modes(slot, table, w.client, left(w.modes)),
            Watchers::List(list) => {
                let mut watchers = std::mem::take(&mut self.lists[list as usize]);
                watchers.retain_mut(|w| {
                    let (before, after) = (w.modes, left(w.modes));
                    w.modes = after;
                    self.account(table, w.client, before, after);
                    after.0 != 0
                });
                self.lists[list as usize] = watchers;
                self.shrink_list(slot, table, list);
            }
        }
        self.free_if_unwatched(slot);
    }

    fn new_list(&mut self, watchers: Vec<Watcher>) -> u32 {
        match self.free_lists.pop() {
            Some(list) => {
                self.lists[list as usize] = watchers;
                list
            }
            None => {
                self.lists.push(watchers);
                (self.lists.len() - 1) as u32
            }
        }
    }

    fn shrink_list(&mut self, slot: u32, table: Table, list: u32) {
        let rest = &self.lists[list as usize];
        if rest.len() > 1 {
            return;
        }
        let rest = rest.first().map_or(Watchers::Nobody, |w| Watchers::One(*w));
        self.paths[slot].set_watchers(table, rest);
        self.lists[list as usize] = Vec::new();
        self.free_lists.push(list);
    }

    /// Drops what the way back holds in vain, once that is most of it.
    fn compact_client(&mut self, client: ClientSlot) {
        let entry = &mut self.clients[client as usize];
        if entry.paths.len() <= 2 * entry.count + 64 {
            return;
        }
        let mut paths = std::mem::take(&mut entry.paths);
        paths.sort_unstable();
        paths.dedup();
        paths.retain(|slot| [Table::Data, Table::Child].iter().any(|t| self.modes(*slot, *t, client).0 != 0));
        paths.shrink_to_fit();
        self.clients[client as usize].paths = paths;
    }
}

fn dedup_from(hits: &mut Vec<ClientSlot>, first: usize) {
    if hits.len() - first < 2 {
        return;
    }
    hits[first..].sort_unstable();
    let mut kept = first + 1;
    for i in first + 1..hits.len() {
        if hits[i] != hits[kept - 1] {
            hits[kept] = hits[i];
            kept += 1;
        }
    }
    hits.truncate(kept);
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;

//! Access control: the table of interned lists, the fix-up of lists clients send, and the one permission check (rules B9, S5).
//!
//! Equal lists share one allocation and one number; numbers are this server's own and appear in snapshots only. Uses are counted at
//! the head; a list without users stays until the transaction that took the last one is committed, because committed nodes still
//! show it.

use super::TreeConfig;
use super::undo::{UndoLog, UndoOp};
use crate::base::acl::AclEntry;
use crate::base::{AclList, AclVec, Auth, Perms, Reader, Writer, Zxid};
use crate::proto::ErrorCode;
use foldhash::fast::FixedState;
use imbl::OrdMap;
use std::borrow::{Borrow, Cow};
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::Ipv6Addr;
use std::sync::Arc;

/// Lists by number, with the zxid that first used each; cheap to copy for an image.
pub(super) type AclNumbers = OrdMap<i64, (Zxid, Arc<AclList>)>;

/// Lists with more entries than this look for duplicates by hash, so that a long list costs no square.
const SCAN_ENTRIES_MAX: usize = 16;
/// What stands for a number an image uses without defining it: an entry that grants nothing, so only `super` passes.
const NOBODY_RAW: &[u8] = b"\0\0\0\x01\0\0\0\0\0\0\0\x05world\0\0\0\x06anyone";

/// A list as the key of its contents.
struct ByContents(Arc<AclList>);

impl Borrow<[u8]> for ByContents {
    fn borrow(&self) -> &[u8] {
        self.0.entries().raw()
    }
}
impl Hash for ByContents {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let raw: &[u8] = self.borrow();
        raw.hash(state);
    }
}
impl PartialEq for ByContents {
    fn eq(&self, other: &Self) -> bool {
        self.0.entries().raw() == other.0.entries().raw()
    }
}
impl Eq for ByContents {}

/// How much a list is used.
#[derive(Clone, Copy)]
struct Uses {
    heads: u64,
    /// Stamp of the transaction that took the last user, while there is none.
    unused_since: Zxid,
}

/// The interned lists.
pub(super) struct AclTable {
    open: Arc<AclList>,
    by_contents: HashMap<ByContents, i64, FixedState>,
    numbers: AclNumbers,
    uses: HashMap<i64, Uses, FixedState>,
    /// Lists that lost their last user, in stamp order; looked at on commit.
    unused: VecDeque<(Zxid, i64)>,
    next: i64,
}

impl AclTable {
    /// Only the open list.
    pub(super) fn new(hash_seed: u64) -> Self {
        let state = || FixedState::with_seed(hash_seed);
        AclTable {
            open: AclList::new(AclList::OPEN_ID, AclVec::OPEN),
            by_contents: HashMap::with_hasher(state()),
            numbers: OrdMap::new(),
            uses: HashMap::with_hasher(state()),
            unused: VecDeque::new(),
            next: 1,
        }
    }
    /// The built-in open list of nodes the server itself made.
    pub(super) fn open(&self) -> Arc<AclList> {
        Arc::clone(&self.open)
    }
    /// The interned form of `list`, with one more user. A null list is the open one.
    pub(super) fn acquire(&mut self, list: AclVec<'_>, stamp: Zxid, undo: &mut UndoLog) -> Arc<AclList> {
        if list.is_null() {
            return self.open();
        }
        if let Some((key, id)) = self.by_contents.get_key_value(list.raw()) {
            self.uses.get_mut(id).expect("every number has a count").heads += 1;
            undo.push(UndoOp::AclUsed(*id));
            return Arc::clone(&key.0);
        }
        let id = self.next;
        self.next += 1;
        let list = AclList::new(id, list);
        self.insert(&list, stamp, 1);
        undo.push(UndoOp::AclNew(id));
        list
    }
    /// A node no longer uses `list`.
    pub(super) fn release(&mut self, list: &AclList, stamp: Zxid, undo: &mut UndoLog) {
        if list.id == AclList::OPEN_ID {
            return;
        }
        let uses = self.uses.get_mut(&list.id).expect("a used list is in the table");
        undo.push(UndoOp::AclReleased(list.id, uses.unused_since));
        uses.heads -= 1;
        if uses.heads == 0 {
            uses.unused_since = stamp;
            self.unused.push_back((stamp, list.id));
        }
    }
    /// Everything up to `zxid` is committed: lists that have had no user since then are forgotten.
    pub(super) fn commit(&mut self, zxid: Zxid) {
        while let Some((stamp, id)) = self.unused.front().copied().filter(|u| u.0 <= zxid) {
            self.unused.pop_front();
            if self.uses.get(&id).is_some_and(|u| u.heads == 0 && u.unused_since == stamp) {
                self.remove(id);
            }
        }
    }
    /// Takes `AclNew` back.
    pub(super) fn undo_new(&mut self, id: i64) {
        self.remove(id);
        self.next = id;
    }
    /// Takes `AclUsed` back. A list that had no user before, and lost its last one in a transaction committed since, goes.
    pub(super) fn undo_used(&mut self, id: i64, applied: Zxid) {
        let uses = self.uses.get_mut(&id).expect("a used list is in the table");
        uses.heads -= 1;
        if uses.heads == 0 && uses.unused_since <= applied {
            self.remove(id);
        }
    }
    /// Takes `AclReleased` back.
    pub(super) fn undo_released(&mut self, id: i64, unused_since: Zxid) {
        let uses = self.uses.get_mut(&id).expect("a list is kept while its release can be undone");
        if uses.heads == 0 {
            let queued = self.unused.pop_back();
            assert_eq!(queued.map(|u| u.1), Some(id), "releases are undone in reverse order");
        }
        uses.heads += 1;
        uses.unused_since = unused_since;
    }
    /// The table by number.
    pub(super) fn numbers(&self) -> &AclNumbers {
        &self.numbers
    }

    /// Enters a list of an image under its number, without users.
    pub(super) fn load(&mut self, id: i64, list: AclVec<'_>, stamp: Zxid) {
        let list = if list.is_null() { AclList::new(id, AclVec::OPEN) } else { AclList::new(id, list) };
        self.insert(&list, stamp, 0);
        self.next = self.next.max(id.saturating_add(1));
    }
    /// The list with this number for a node of an image. A number nobody defined (a fuzzy image can hold one) stands for a list that
    /// grants nothing until replay brings the right one.
    pub(super) fn load_use(&mut self, id: i64, stamp: Zxid) -> Arc<AclList> {
        if id == AclList::OPEN_ID {
            return self.open();
        }
        if !self.uses.contains_key(&id) {
            let nobody = AclVec::read(&mut Reader::new(NOBODY_RAW)).expect("a constant that decodes");
            self.insert(&AclList::new(id, nobody), stamp, 0);
            self.next = self.next.max(id.saturating_add(1));
        }
        self.uses.get_mut(&id).expect("just made sure of").heads += 1;
        Arc::clone(&self.numbers[&id].1)
    }
    /// Ends loading: lists no node uses are dropped.
    pub(super) fn load_done(&mut self) {
        let idle: Vec<i64> = self.uses.iter().filter(|(_, u)| u.heads == 0).map(|(id, _)| *id).collect();
        for id in idle {
            self.remove(id);
        }
    }

    fn insert(&mut self, list: &Arc<AclList>, stamp: Zxid, heads: u64) {
        // An image may hold one list under two numbers; new users get the first.
        self.by_contents.entry(ByContents(Arc::clone(list))).or_insert(list.id);
        self.numbers.insert(list.id, (stamp, Arc::clone(list)));
        self.uses.insert(list.id, Uses { heads, unused_since: Zxid::MAX });
    }
    fn remove(&mut self, id: i64) {
        self.uses.remove(&id);
        if let Some((_, list)) = self.numbers.remove(&id) {
            let raw = list.entries().raw();
            if self.by_contents.get(raw) == Some(&id) {
                self.by_contents.remove(raw);
            }
        }
    }
    /// (number, users) of every list, for comparing tables.
    #[cfg(test)]
    pub(super) fn dump(&self) -> Vec<(i64, u64, Vec<u8>)> {
        self.numbers.iter().map(|(id, (_, list))| (*id, self.uses[id].heads, list.entries().raw().to_vec())).collect()
    }
}

/// The one permission check (semantics section 8): true when `auth` holds `perm` under `acl`. Used for requests and at watch fire time.
pub fn permits(acl: &AclList, perm: Perms, auth: &Auth, skip_acl: bool) -> bool {
    let list = acl.entries();
    if skip_acl || list == AclVec::OPEN || list.is_empty() || auth.is_super() {
        return true;
    }
    list.iter().filter(|e| e.perms & perm.0 != 0).any(|e| {
        (e.scheme == "world" && e.id == "anyone")
            || auth.ids.iter().any(|id| id.scheme == e.scheme && if e.scheme == "ip" { ip_matches(e.id, &id.id) } else { id.id == e.id })
    })
}

/// The list, encoded, that a create or setACL stores for what the client sent: duplicates dropped, `auth` replaced by the connection's
/// identities, everything else checked.
pub(super) fn fix_up<'a>(auth: &Auth, sent: AclVec<'a>, config: &TreeConfig) -> Result<Cow<'a, [u8]>, ErrorCode> {
    if sent == AclVec::OPEN {
        return Ok(Cow::Borrowed(sent.raw()));
    }
    let mut out = Vec::with_capacity(sent.raw().len());
    out.put_i32(0);
    let mut count = 0usize;
    for_each_distinct(sent, config.hash_seed, |entry| {
        count += write_fixed(auth, entry, config, &mut out)?;
        // `auth` multiplies: many entries times many identities must not outgrow what a transaction may hold.
        if out.len() > config.payload_bytes_max { Err(ErrorCode::InvalidAcl) } else { Ok(()) }
    })?;
    if count == 0 {
        return Err(ErrorCode::InvalidAcl);
    }
    out[..4].copy_from_slice(&(count as i32).to_be_bytes());
    Ok(Cow::Owned(out))
}

fn for_each_distinct<'a>(
    list: AclVec<'a>,
    seed: u64,
    mut each: impl FnMut(&AclEntry<'a>) -> Result<(), ErrorCode>,
) -> Result<(), ErrorCode> {
    if list.len() <= SCAN_ENTRIES_MAX {
        for (i, entry) in list.iter().enumerate() {
            if !list.iter().take(i).any(|earlier| earlier == entry) {
                each(&entry)?;
            }
        }
        return Ok(());
    }
    let mut seen = HashSet::with_hasher(FixedState::with_seed(seed));
    for entry in list.iter() {
        if seen.insert((entry.perms, entry.scheme, entry.id, entry.has_null)) {
            each(&entry)?;
        }
    }
    Ok(())
}

/// Writes what one entry comes to; returns how many entries that is.
fn write_fixed(auth: &Auth, entry: &AclEntry<'_>, config: &TreeConfig, out: &mut Vec<u8>) -> Result<usize, ErrorCode> {
    // A null scheme or id reads as "", which no scheme takes but `auth`, where the id is not looked at: kazoo sends null there.
    let valid = match entry.scheme {
        "world" => entry.id == "anyone",
        "ip" => is_ip_expression(entry.id),
        "digest" => config.digest_scheme && is_digest_id(entry.id),
        "auth" => {
            let mut count = 0;
            for id in auth.ids.iter().filter(|i| matches!(i.scheme.as_str(), "digest" | "sasl" | "x509")) {
                AclEntry { perms: entry.perms, scheme: &id.scheme, id: &id.id, has_null: false }.write(out);
                count += 1;
            }
            return if count > 0 { Ok(count) } else { Err(ErrorCode::InvalidAcl) };
        }
        _ => false,
    };
    if !valid {
        return Err(ErrorCode::InvalidAcl);
    }
    entry.write(out);
    Ok(1)
}

/// Exactly two parts around ":", where empty parts at the end do not count.
fn is_digest_id(id: &str) -> bool {
    id.trim_end_matches(':').split(':').count() == 2
}

/// An address as bytes, and how many of its bits count.
fn ip_expression(text: &str) -> Option<([u8; 16], usize, u32)> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    let (bytes, len) = ip_bytes(address)?;
    let all = len as u32 * 8;
    let bits = match bits {
        None => all,
        Some(b) => b.parse::<u32>().ok().filter(|b| *b <= all)?,
    };
    Some((bytes, len, bits))
}

fn is_ip_expression(text: &str) -> bool {
    ip_expression(text).is_some()
}

/// IPv4 as a dotted quad (leading zeros and plus signs allowed, as in ZooKeeper) or IPv6 in hexadecimal groups, without a zone or an IPv4 ending;
/// the bytes and how many there are.
fn ip_bytes(text: &str) -> Option<([u8; 16], usize)> {
    if text.contains(':') {
        let v6: Ipv6Addr = text.parse().ok().filter(|_| !text.contains('.'))?;
        return Some((v6.octets(), 16));
    }
    let mut bytes = [0u8; 16];
    let mut parts = text.split('.');
    for byte in &mut bytes[..4] {
        *byte = parts.next()?.parse().ok()?;
    }
    parts.next().is_none().then_some((bytes, 4))
}

fn ip_matches(expression: &str, peer: &str) -> bool {
    let Some((want, want_len, bits)) = ip_expression(expression) else { return false };
    let Some((have, have_len)) = ip_bytes(peer) else { return false };
    if want_len != have_len {
        return false;
    }
    (0..want_len).all(|i| {
        let left = bits.saturating_sub(i as u32 * 8).min(8);
        let mask = if left == 0 { 0 } else { 0xffu8 << (8 - left) };
        want[i] & mask == have[i] & mask
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::AuthId;

    fn encode(entries: &[(i32, &str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_len(entries.len());
        for (perms, scheme, id) in entries {
            AclEntry { perms: *perms, scheme, id, has_null: false }.write(&mut out);
        }
        out
    }
    fn list(raw: &[u8]) -> AclVec<'_> {
        AclVec::read(&mut Reader::new(raw)).expect("valid")
    }
    fn auth(ids: &[(&str, &str)]) -> Auth {
        Auth { ids: ids.iter().map(|(s, i)| AuthId { scheme: (*s).into(), id: (*i).into() }).collect() }
    }
    fn fixed(who: &Auth, entries: &[(i32, &str, &str)]) -> Result<Vec<(i32, String, String)>, ErrorCode> {
        let raw = encode(entries);
        let fixed = fix_up(who, list(&raw), &TreeConfig::default())?;
        Ok(list(&fixed).iter().map(|e| (e.perms, e.scheme.into(), e.id.into())).collect())
    }

    #[test]
    fn fix_up_drops_duplicates_and_keeps_order() {
        let me = auth(&[("ip", "10.0.0.1")]);
        let got = fixed(&me, &[(1, "world", "anyone"), (31, "digest", "u:h"), (1, "world", "anyone"), (2, "world", "anyone")]);
        let want = [(1, "world", "anyone"), (31, "digest", "u:h"), (2, "world", "anyone")];
        assert_eq!(got, Ok(want.map(|(p, s, i)| (p, s.to_owned(), i.to_owned())).to_vec()));
        let many: Vec<_> = (0..100).map(|i| (i % 7, "world", "anyone")).collect();
        assert_eq!(fixed(&me, &many).map(|l| l.len()), Ok(7), "long lists take the hashed way");
    }

    #[test]
    fn fix_up_expands_auth_to_authenticated_identities_only() {
        let me = auth(&[("ip", "10.0.0.1"), ("digest", "u:h"), ("super", ""), ("digest", "v:h")]);
        let got = fixed(&me, &[(5, "auth", "ignored")]);
        assert_eq!(got, Ok(vec![(5, "digest".to_owned(), "u:h".to_owned()), (5, "digest".to_owned(), "v:h".to_owned())]));
        assert_eq!(fixed(&auth(&[("ip", "10.0.0.1"), ("super", "")]), &[(5, "auth", "")]), Err(ErrorCode::InvalidAcl));
    }

    #[test]
    fn fix_up_refuses_what_no_provider_accepts() {
        let me = auth(&[]);
        for (scheme, id, ok) in [
            ("world", "anyone", true),
            ("world", "everyone", false),
            ("digest", "a:b", true),
            ("digest", ":b", true),
            ("digest", "a", false),
            ("digest", "a:", false),
            ("digest", "a:b:c", false),
            ("ip", "1.2.3.4", true),
            ("ip", "1.2.3.4/8", true),
            ("ip", "1.2.3.4/33", false),
            ("ip", "1.2.3", false),
            ("ip", "1.2.3.256", false),
            ("ip", "1.2.3.4.5", false),
            ("ip", "::1/128", true),
            ("ip", "::1/129", false),
            ("ip", "+1.002.3.4", true),
            ("ip", "1.2.3.", false),
            ("ip", "::", true),
            ("ip", "1:2:3:4:5:6:7::", true),
            ("ip", "1:2:3:4:5:6:7::8", false),
            ("ip", "::ffff:1.2.3.4", false),
            ("ip", "fe80::1%eth0", false),
            ("super", "x", false),
            ("x509", "CN=a", false),
            ("nosuch", "x", false),
        ] {
            assert_eq!(fixed(&me, &[(1, scheme, id)]).is_ok(), ok, "{scheme}:{id}");
        }
        assert_eq!(fixed(&me, &[]), Err(ErrorCode::InvalidAcl));
        let config = TreeConfig::default();
        let null = (-1i32).to_be_bytes();
        assert_eq!(fix_up(&me, list(&null), &config), Err(ErrorCode::InvalidAcl));
        let null_id = b"\0\0\0\x01\0\0\0\x1f\0\0\0\x05world\xff\xff\xff\xff";
        assert_eq!(fix_up(&me, list(null_id), &config), Err(ErrorCode::InvalidAcl));
        let null_auth = b"\0\0\0\x01\0\0\0\x1f\0\0\0\x04auth\xff\xff\xff\xff";
        assert!(fix_up(&auth(&[("digest", "u:h")]), list(null_auth), &config).is_ok());
    }

    #[test]
    fn a_scheme_that_is_switched_off_is_an_unknown_one() {
        let config = TreeConfig { digest_scheme: false, ..TreeConfig::default() };
        let raw = encode(&[(31, "world", "anyone"), (31, "digest", "u:h")]);
        assert_eq!(fix_up(&auth(&[]), list(&raw), &config), Err(ErrorCode::InvalidAcl));
        assert!(fix_up(&auth(&[]), list(&raw), &TreeConfig::default()).is_ok());
        let others = encode(&[(31, "world", "anyone"), (31, "ip", "10.0.0.1")]);
        assert!(fix_up(&auth(&[]), list(&others), &config).is_ok());
    }

    #[test]
    fn auth_cannot_multiply_a_list_beyond_a_transaction() {
        let long = "x".repeat(2000);
        let me = auth(&[("digest", long.as_str()); 600]);
        let raw = encode(&[(1, "auth", "")]);
        let fix = |payload_bytes_max| fix_up(&me, list(&raw), &TreeConfig { payload_bytes_max, ..TreeConfig::default() }).is_ok();
        assert_eq!((fix(600 * 2000), fix(600 * 2100)), (false, true));
    }

    #[test]
    fn permissions_follow_entries_bits_and_identities() {
        let allowed = |entries: &[(i32, &str, &str)], perm, who: &Auth| permits(&AclList::new(1, list(&encode(entries))), perm, who, false);
        let me = auth(&[("ip", "192.168.7.9"), ("digest", "u:h")]);
        assert!(allowed(&[], Perms::ADMIN, &me), "no entries means open");
        assert!(allowed(&[(1, "world", "anyone")], Perms::READ, &me));
        assert!(!allowed(&[(1, "world", "anyone")], Perms::WRITE, &me));
        assert!(allowed(&[(2, "digest", "u:h")], Perms::WRITE, &me));
        assert!(!allowed(&[(2, "digest", "u:other")], Perms::WRITE, &me));
        assert!(!allowed(&[(2, "sasl", "u:h")], Perms::WRITE, &me));
        for (expression, ok) in [
            ("192.168.7.9", true),
            ("192.168.0.0/16", true),
            ("192.168.7.8/31", true),
            ("192.168.7.8/32", false),
            ("10.0.0.0/8", false),
            ("0.0.0.0/0", true),
            ("::/0", false),
        ] {
            assert_eq!(allowed(&[(1, "ip", expression)], Perms::READ, &me), ok, "{expression}");
        }
        assert!(allowed(&[(0, "world", "anyone")], Perms::READ, &auth(&[("super", "")])), "super passes everything");
        assert!(permits(&AclList::new(1, list(NOBODY_RAW)), Perms::ALL, &me, true), "skipACL passes everyone");
        assert!(!permits(&AclList::new(1, list(NOBODY_RAW)), Perms::ALL, &me, false));
    }
}

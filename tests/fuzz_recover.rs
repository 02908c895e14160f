//! Logs cut, flipped and overwritten at any byte, against a slow oracle: nothing acknowledged is ever lost in silence, a tail that a crash can
//! leave is always accepted, and arbitrary bytes never panic (rules D3, D4, S1).

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{self, Cursor};
use zoo::base::prng::Prng;
use zoo::base::{SessionId, WallTime, Writer, Xid, Zxid};
use zoo::record::TxnHeader;
use zoo::record::epochs::Epochs;
use zoo::record::frame::write_frame;
use zoo::storage::format::FileHeader;
use zoo::storage::mark::Mark;
use zoo::storage::recover::{LogEnd, LogSource, ReplayError, ReplayPlan, replay};
use zoo::storage::segment::Record;

#[derive(Clone, Debug, Default)]
struct Dir(BTreeMap<u64, Vec<u8>>);

impl LogSource for Dir {
    type File = Cursor<Vec<u8>>;
    fn open(&mut self, log: Zxid) -> io::Result<Self::File> {
        Ok(Cursor::new(self.0[&log.0].clone()))
    }
}

fn payload(zxid: u64, extra: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    TxnHeader { session: SessionId(7), cxid: Xid(3), zxid: Zxid(zxid), time: WallTime(0x0102_0304_0506), kind: 5 }.write(&mut out);
    out.put_raw(extra);
    out
}

/// A directory of logs with records of these sizes, a new file at each `true`, padding at the end; and the end offset of every record.
fn build(records: &[(bool, usize)], dbid: i64, padding: usize, rng: &mut Prng) -> (Dir, Vec<(u64, usize)>) {
    let mut dir = Dir::default();
    let (mut current, mut ends) = (1, Vec::new());
    for (i, (new_file, size)) in records.iter().enumerate() {
        let zxid = i as u64 + 1;
        if *new_file || i == 0 {
            current = zxid;
            let mut head = Vec::new();
            FileHeader::log(dbid).write(&mut head);
            dir.0.insert(current, head);
        }
        let extra: Vec<u8> = (0..*size).map(|_| if rng.chance(1, 2) { 0 } else { rng.next_u64() as u8 }).collect();
        let file = dir.0.get_mut(&current).expect("just made");
        write_frame(&payload(zxid, &extra), file);
        ends.push((current, file.len()));
    }
    let last = dir.0.values_mut().last().expect("a file");
    last.resize(last.len() + padding, 0);
    (dir, ends)
}

type Outcome = Result<(Vec<u64>, LogEnd), String>;

fn recover(dir: &Dir, mark: Option<Mark>) -> Outcome {
    let logs: Vec<Zxid> = dir.0.keys().map(|z| Zxid(*z)).collect();
    let plan = ReplayPlan { logs: &logs, after: Zxid::ZERO, mark, epochs: Epochs::NONE };
    let mut seen = Vec::new();
    let mut apply = |_: Zxid, r: &Record<'_>| -> Result<(), ()> {
        seen.push(r.header.zxid.0);
        Ok(())
    };
    match replay(&mut dir.clone(), &plan, &mut apply) {
        Ok(end) => Ok((seen, end)),
        Err(ReplayError::Corrupt(c)) => Err(c.to_string()),
        Err(other) => panic!("{other:?}"),
    }
}

mod oracle {
    //! The rules once more, as slowly and plainly as possible.
    use super::BTreeMap;

    fn adler(bytes: &[u8]) -> u64 {
        let (mut a, mut b) = (1u64, 0u64);
        for byte in bytes {
            a = (a + u64::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        b << 16 | a
    }

    fn number(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))
    }

    /// Zxid and length of the record at the start of `bytes`.
    pub fn record(bytes: &[u8]) -> Option<(u64, usize)> {
        let length = number(bytes.get(8..12)?) as usize;
        if length < 32 || bytes.len() < length + 13 {
            return None;
        }
        let payload = &bytes[12..12 + length];
        let good = bytes[12 + length] == b'B' && number(&bytes[..8]) == adler(payload);
        good.then(|| (number(&payload[12..20]), length + 13))
    }

    /// The last zxid, or `None` where the history must be refused.
    pub fn judge(files: &BTreeMap<u64, Vec<u8>>) -> Option<u64> {
        let mut last = 0;
        // Bad bytes at the ends of files that no later file has made good; one may not hide another.
        let mut open_ends: Vec<&[u8]> = Vec::new();
        for (name, file) in files {
            if file.len() < 16 || file.iter().all(|b| *b == 0) {
                continue;
            }
            if file[..4] != *b"ZKLG" {
                return None;
            }
            let mut at = 16;
            while let Some((zxid, length)) = record(&file[at..]) {
                if zxid != last + 1 || (at == 16 && zxid != *name) {
                    return None;
                }
                last = zxid;
                at += length;
            }
            if at > 16 {
                open_ends.clear();
            }
            if file[at..].iter().any(|b| *b != 0) {
                open_ends.push(&file[at..]);
            }
        }
        let goes_on = |rest: &&[u8]| (0..rest.len()).any(|at| record(&rest[at..]).is_some_and(|(zxid, _)| zxid > last));
        if open_ends.iter().any(goes_on) { None } else { Some(last) }
    }
}

/// Without a mark: recovery and the oracle agree, and nothing but a bad tail is ever left out.
fn agrees(dir: &Dir, context: &str) {
    let (got, want) = (recover(dir, None), oracle::judge(&dir.0));
    match (&got, want) {
        (Ok((seen, end)), Some(last)) => {
            assert_eq!(*seen, (1..=last).collect::<Vec<_>>(), "{context}");
            assert_eq!(end.last_zxid.0, last, "{context}");
        }
        (Err(_), None) => {}
        _ => panic!("{context}: recovery {got:?}, oracle {want:?}"),
    }
}

fn sample() -> (Dir, Vec<(u64, usize)>) {
    let records = [(true, 0), (false, 9), (false, 40), (true, 1), (false, 0), (true, 20), (false, 5), (false, 0)];
    build(&records, 77, 30, &mut Prng::new(5))
}

#[test]
fn a_bit_flipped_anywhere_is_judged_as_the_oracle_does() {
    let (dir, _) = sample();
    for (name, file) in &dir.0 {
        // The version and the dbid of the header are not checked.
        for bit in (0..32).chain(16 * 8..file.len() * 8) {
            let mut bad = dir.clone();
            bad.0.get_mut(name).expect("there")[bit / 8] ^= 1 << (bit % 8);
            agrees(&bad, &format!("log.{name:x}, bit {bit}"));
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_judged_as_the_oracle_does() {
    let (dir, _) = sample();
    for (name, file) in &dir.0 {
        for cut in 0..file.len() {
            let mut bad = dir.clone();
            bad.0.get_mut(name).expect("there").truncate(cut);
            agrees(&bad, &format!("log.{name:x} cut at {cut}"));
        }
    }
}

/// Every position of the mark and every flip: what the mark vouches for comes back, or the start is refused; what it does not vouch for may be a
/// torn tail, however much lies behind it.
#[test]
fn nothing_below_the_mark_is_ever_lost_in_silence() {
    let (dir, ends) = sample();
    let newest = *dir.0.keys().last().expect("a file");
    for (i, (file, end)) in ends.iter().enumerate().filter(|(_, (file, _))| *file == newest) {
        let zxid = i as u64 + 1;
        let (_, start) = if i > 0 && ends[i - 1].0 == *file { ends[i - 1] } else { (0, 16) };
        let adler = u32::from_be_bytes(dir.0[file][start + 4..start + 8].try_into().expect("four"));
        let mark = Mark {
            file: Zxid(*file),
            dbid: 77,
            offset: *end as u64,
            zxid: Zxid(zxid),
            adler,
            unsynced_bytes_max: 1 << 20,
            epochs: Epochs::NONE,
        };
        for byte in 16..dir.0[file].len() {
            let mut bad = dir.clone();
            bad.0.get_mut(file).expect("there")[byte] ^= 0x41;
            match recover(&bad, Some(mark)) {
                Ok((_, after)) => assert!(after.last_zxid.0 >= zxid, "byte {byte}, mark {mark:?}"),
                Err(why) => assert!(byte < *end, "a tail above the mark was refused: byte {byte}, {why}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn random_damage_is_judged_as_the_oracle_does(
        records in proptest::collection::vec((proptest::bool::weighted(0.2), 0usize..80), 1..20),
        padding in 0usize..100,
        seed in any::<u64>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..4, 0usize..600), 1..4),
    ) {
        let mut rng = Prng::new(seed);
        let (mut dir, _) = build(&records, 0, padding, &mut rng);
        for (file, at, kind, size) in damage {
            let names: Vec<u64> = dir.0.keys().copied().collect();
            let bytes = dir.0.get_mut(file.get(&names)).expect("there");
            if bytes.is_empty() {
                continue;
            }
            let at = at.index(bytes.len());
            let to = (at + size).min(bytes.len());
            match kind {
                0 => bytes.truncate(at),
                1 => bytes[at..to].fill(0),
                2 => bytes[at..to].iter_mut().for_each(|b| *b = rng.next_u64() as u8),
                // A misdirected write: other bytes of the same file.
                _ => bytes.copy_within(0..to - at, at),
            }
        }
        agrees(&dir, &format!("{dir:?}"));
    }

    #[test]
    fn arbitrary_bytes_never_panic(files in proptest::collection::btree_map(0u64..20, proptest::collection::vec(any::<u8>(), 0..200), 1..4), magic in any::<bool>()) {
        let mut dir = Dir(files);
        if magic {
            dir.0.values_mut().filter(|f| f.len() >= 4).for_each(|f| f[..4].copy_from_slice(b"ZKLG"));
        }
        let _ = recover(&dir, None);
    }
}

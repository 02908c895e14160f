use super::*;
use crate::base::{SessionId, WallTime, Writer, Xid};
use crate::record::TxnHeader;
use crate::record::frame::{FrameError, write_frame};
use crate::storage::format::FileHeader;
use std::collections::BTreeMap;
use std::io::Cursor;

/// A record of these tests: 32-byte header, an error code, the frame.
const RECORD: u64 = 13 + 36;

#[derive(Default, Clone)]
struct Dir(BTreeMap<Zxid, Vec<u8>>);

impl LogSource for Dir {
    type File = Cursor<Vec<u8>>;
    fn open(&mut self, log: Zxid) -> io::Result<Self::File> {
        self.0.get(&log).cloned().map(Cursor::new).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

fn payload(zxid: Zxid) -> Vec<u8> {
    let mut out = Vec::new();
    TxnHeader { session: SessionId(1), cxid: Xid(1), zxid, time: WallTime(1), kind: -1 }.write(&mut out);
    out.put_i32(-101);
    out
}

fn file(dbid: i64, zxids: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut out = Vec::new();
    FileHeader::log(dbid).write(&mut out);
    for zxid in zxids {
        write_frame(&payload(Zxid(zxid)), &mut out);
    }
    out
}

fn zeros(mut bytes: Vec<u8>, n: usize) -> Vec<u8> {
    bytes.resize(bytes.len() + n, 0);
    bytes
}

fn torn(mut bytes: Vec<u8>, zxid: u64) -> Vec<u8> {
    let mut record = Vec::new();
    write_frame(&payload(Zxid(zxid)), &mut record);
    bytes.extend_from_slice(&record[..record.len() / 2]);
    bytes
}

fn dir(files: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Dir {
    Dir(files.into_iter().map(|(z, b)| (Zxid(z), b)).collect())
}

fn run(dir: &Dir, after: u64, mark: Option<Mark>) -> Result<(Vec<u64>, LogEnd), Corruption> {
    let logs: Vec<Zxid> = dir.0.keys().copied().collect();
    let plan = ReplayPlan { logs: &logs, after: Zxid(after), mark, epochs: Epochs::NONE };
    let mut seen = Vec::new();
    let mut apply = |_: Zxid, r: &Record<'_>| -> Result<(), ()> {
        seen.push(r.header.zxid.0);
        Ok(())
    };
    match replay(&mut dir.clone(), &plan, &mut apply) {
        Ok(end) => Ok((seen, end)),
        Err(ReplayError::Corrupt(c)) => Err(c),
        Err(other) => panic!("{other:?}"),
    }
}

fn good(dir: &Dir, after: u64, mark: Option<Mark>) -> (Vec<u64>, LogEnd) {
    run(dir, after, mark).unwrap_or_else(|c| panic!("{c}"))
}

fn mark_at(file: u64, dbid: i64, zxid: u64, reach: u64) -> Mark {
    let adler = crate::base::checksum::adler32(&payload(Zxid(zxid)));
    Mark {
        file: Zxid(file),
        dbid,
        offset: 16 + (zxid - file + 1) * RECORD,
        zxid: Zxid(zxid),
        adler,
        unsynced_bytes_max: reach,
        epochs: Epochs::NONE,
    }
}

// --- the table of storage format 2.4, row by row, as this server reads it ---

#[test]
fn zeros_after_the_last_record_are_the_end() {
    let (seen, end) = good(&dir([(1, zeros(file(0, 1..=3), 5000))]), 0, None);
    assert_eq!(seen, [1, 2, 3]);
    assert_eq!((end.last_zxid, end.torn, end.cut), (Zxid(3), false, Some((Zxid(1), 16 + 3 * RECORD))), "padding is cut (A20)");
}

#[test]
fn the_exact_end_needs_no_cut() {
    let (_, end) = good(&dir([(1, file(0, 1..=3))]), 0, None);
    assert_eq!((end.cut, end.torn), (None, false));
}

#[test]
fn a_record_cut_at_any_byte_is_a_torn_tail_of_the_newest_file_d4() {
    let whole = file(0, 1..=3);
    for cut in 16 + 2 * RECORD as usize + 1..whole.len() {
        let (seen, end) = good(&dir([(1, whole[..cut].to_vec())]), 0, None);
        assert_eq!(seen, [1, 2], "cut at {cut}");
        assert_eq!(end.cut, Some((Zxid(1), 16 + 2 * RECORD)));
    }
}

#[test]
fn a_last_record_with_its_marker_and_a_wrong_checksum_is_a_torn_tail_zk_4813() {
    let mut bytes = file(0, 1..=3);
    let n = bytes.len();
    bytes[n - 10] ^= 1;
    let (seen, end) = good(&dir([(1, zeros(bytes, 4096))]), 0, None);
    assert_eq!((seen, end.torn), (vec![1, 2], true));
}

#[test]
fn a_missing_marker_or_bad_length_with_a_whole_record_behind_is_damage_d4() {
    for (byte, value) in [(12 + 36, 0u8), (8, 0xff), (8, 0x7f), (11, 0), (11, 37), (30, 1)] {
        let mut bytes = file(0, 1..=3);
        bytes[16 + RECORD as usize + byte] ^= value.max(1);
        let corruption = run(&dir([(1, bytes)]), 0, None).expect_err("damage");
        assert!(matches!(corruption.damage, Damage::GoodRecordBehind(_, at) if at == 16 + 2 * RECORD), "{corruption}");
        assert_eq!((corruption.log, corruption.offset, corruption.last_good), (Zxid(1), 16 + RECORD, Zxid(1)));
    }
}

#[test]
fn zeros_in_the_middle_are_damage_not_the_end_d4() {
    let mut bytes = file(0, 1..=30);
    let (from, to) = (16 + 5 * RECORD as usize, 16 + 9 * RECORD as usize);
    bytes[from..to].fill(0);
    let corruption = run(&dir([(1, zeros(bytes, 100))]), 0, None).expect_err("damage");
    assert!(matches!(corruption.damage, Damage::GoodRecordBehind(StopReason::Frame(FrameError::ZeroLength), _)));
}

#[test]
fn a_negative_length_at_the_very_end_is_a_torn_tail_and_never_a_crash() {
    for length in [-1i32, -2, i32::MIN, i32::MAX] {
        let mut bytes = file(0, 1..=2);
        bytes.extend_from_slice(&[0, 0, 0, 0, 1, 2, 3, 4]);
        bytes.extend_from_slice(&length.to_be_bytes());
        let (seen, end) = good(&dir([(1, bytes)]), 0, None);
        assert_eq!((seen, end.torn), (vec![1, 2], true), "length {length}");
    }
}

#[test]
fn the_newest_file_may_be_empty_short_zero_or_only_a_header() {
    for newest in [vec![], vec![0x5a; 7], vec![0; 8208], file(0, []), zeros(file(0, []), 8192)] {
        let (seen, end) = good(&dir([(1, file(0, 1..=3)), (4, newest.clone())]), 0, None);
        assert_eq!((seen, end.last_zxid), (vec![1, 2, 3], Zxid(3)));
        assert_eq!(end.remove, [Zxid(4)], "no log without a durable first record survives start-up (A20): {} bytes", newest.len());
    }
}

#[test]
fn an_older_file_without_records_is_damage_when_its_records_are_missed() {
    for older in [vec![], vec![1; 7], vec![0; 100]] {
        let corruption = run(&dir([(1, file(0, 1..=3)), (4, older), (5, file(0, 5..=6))]), 0, None).expect_err("4 is missing");
        assert_eq!(corruption.damage, Damage::Gap(Zxid(5)));
    }
}

#[test]
fn a_wrong_magic_is_damage() {
    let mut bytes = file(0, 1..=3);
    bytes[0] ^= 1;
    assert!(matches!(run(&dir([(1, bytes)]), 0, None).expect_err("damage").damage, Damage::Header(HeaderError::BadMagic(_))));
}

// --- several files ---

#[test]
fn a_torn_tail_before_a_file_that_goes_on_is_how_java_leaves_a_crash() {
    let (seen, end) = good(&dir([(1, zeros(torn(file(0, 1..=2), 3), 500)), (3, zeros(file(0, 3..=4), 64))]), 0, None);
    assert_eq!(seen, [1, 2, 3, 4]);
    assert_eq!(end.cut, Some((Zxid(3), 16 + 2 * RECORD)), "only the newest is cut");
}

#[test]
fn a_bad_record_before_a_file_that_does_not_go_on_is_damage() {
    let mut bytes = file(0, 1..=4);
    bytes[16 + 2 * RECORD as usize + 20] ^= 1;
    let corruption = run(&dir([(1, bytes), (5, file(0, 5..=6))]), 0, None).expect_err("3 and 4 are missing");
    assert!(matches!(corruption.damage, Damage::NextLogElsewhere(StopReason::Frame(FrameError::BadChecksum { .. }), Zxid(5))));
    assert_eq!((corruption.log, corruption.last_good), (Zxid(1), Zxid(2)), "the damaged file is named, not the one after it");
}

#[test]
fn damage_is_not_hidden_by_a_newer_file_whose_first_record_is_torn_d5() {
    let mut bytes = file(0, 1..=10);
    bytes[16 + 4 * RECORD as usize + 20] ^= 1;
    let corruption = run(&dir([(1, bytes), (11, torn(file(0, []), 11))]), 0, None).expect_err("6 to 10 are whole");
    assert!(matches!(corruption.damage, Damage::GoodRecordBehind(..)), "{corruption}");
    assert_eq!((corruption.log, corruption.last_good), (Zxid(1), Zxid(4)));
}

#[test]
fn the_log_that_holds_the_end_is_synced_whatever_lies_behind_it() {
    for behind in [torn(file(0, []), 4), file(0, []), vec![]] {
        let (_, end) = good(&dir([(1, zeros(file(0, 1..=3), 64)), (4, behind)]), 0, None);
        assert_eq!((end.keep, end.cut), (vec![Zxid(1)], Some((Zxid(1), 16 + 3 * RECORD))));
        assert_eq!(end.remove, [Zxid(4)]);
    }
}

#[test]
fn a_torn_tail_followed_only_by_a_file_without_records_is_still_judged() {
    let (_, end) = good(&dir([(1, torn(file(0, 1..=2), 3)), (3, vec![])]), 0, None);
    assert_eq!((end.cut, end.remove, end.torn), (Some((Zxid(1), 16 + 2 * RECORD)), vec![Zxid(3)], true));
    let mut bytes = file(0, 1..=3);
    bytes[16 + RECORD as usize + 20] ^= 1;
    assert!(run(&dir([(1, bytes), (4, vec![])]), 0, None).is_err());
}

#[test]
fn gaps_are_damage_unless_a_snapshot_covers_them() {
    let gap = dir([(1, file(0, 1..=3)), (6, file(0, 6..=8))]);
    assert_eq!(run(&gap, 0, None).expect_err("gap").damage, Damage::Gap(Zxid(6)));
    assert_eq!(run(&gap, 3, None).expect_err("gap").damage, Damage::Gap(Zxid(6)));
    assert_eq!(good(&gap, 5, None).0, [6, 7, 8], "the snapshot at 5 covers it");
    assert_eq!(good(&gap, 7, None).0, [8]);
    let missing_start = dir([(6, file(0, 6..=8))]);
    assert!(run(&missing_start, 4, None).is_err());
}

#[test]
fn damage_wholly_below_the_snapshot_does_not_matter() {
    let mut old = file(0, 1..=3);
    old[16 + 20] ^= 1;
    assert_eq!(good(&dir([(1, old), (4, file(0, 4..=6))]), 4, None).0, [5, 6]);
}

#[test]
fn a_new_epoch_begins_at_its_first_zxid() {
    let epoch = |e: u64, n: u64| (e << 32) | n;
    let ok = dir([(1, file(0, [1, 2, epoch(1, 1), epoch(1, 2)])), (epoch(3, 1), file(0, [epoch(3, 1)]))]);
    assert_eq!(good(&ok, 0, None).0.len(), 5);
    let hole = dir([(1, file(0, [1, 2, epoch(1, 2)]))]);
    assert_eq!(run(&hole, 0, None).expect_err("hole").damage, Damage::Gap(Zxid(epoch(1, 2))));
}

#[test]
fn records_out_of_order_or_under_a_wrong_name_are_damage() {
    assert_eq!(run(&dir([(1, file(0, [1, 2, 2]))]), 0, None).expect_err("repeat").damage, Damage::OutOfOrder(Zxid(2)));
    assert_eq!(run(&dir([(1, file(0, [1, 3]))]), 0, None).expect_err("gap").damage, Damage::Gap(Zxid(3)));
    assert_eq!(run(&dir([(2, file(0, [1, 2]))]), 0, None).expect_err("name").damage, Damage::WrongName(Zxid(1)));
}

// --- the mark (D3, A22, A23) ---

#[test]
fn a_bad_record_below_the_mark_is_damage_even_at_the_end() {
    let bytes = zeros(torn(file(7, 1..=2), 3), 100);
    let d = dir([(1, bytes)]);
    let corruption = run(&d, 0, Some(mark_at(1, 7, 3, 1 << 20))).expect_err("3 had been flushed");
    assert!(matches!(corruption.damage, Damage::BelowMark(_)), "{corruption}");
    assert!(run(&d, 0, Some(mark_at(1, 7, 2, 1 << 20))).is_ok(), "above the mark it is a torn tail");
    let cut_off = dir([(1, file(7, 1..=2))]);
    assert!(run(&cut_off, 0, Some(mark_at(1, 7, 3, 1 << 20))).is_err(), "a file cut short below the mark");
    let zeroed = dir([(1, zeros(file(7, 1..=2), 4096))]);
    assert!(run(&zeroed, 0, Some(mark_at(1, 7, 3, 1 << 20))).is_err(), "a lost write below the mark");
}

#[test]
fn above_the_mark_records_within_reach_are_a_torn_tail_and_beyond_it_damage_a22() {
    let mut bytes = file(7, 1..=10);
    let hole = 16 + 4 * RECORD as usize;
    bytes[hole..hole + RECORD as usize].fill(0);
    let d = dir([(1, bytes)]);
    let (seen, end) = good(&d, 0, Some(mark_at(1, 7, 4, 10 * RECORD)));
    assert_eq!((seen, end.torn), (vec![1, 2, 3, 4], true), "out-of-order writes before a crash");
    assert_eq!(end.cut, Some((Zxid(1), 16 + 4 * RECORD)), "all that was within reach goes");
    let corruption = run(&d, 0, Some(mark_at(1, 7, 4, 4 * RECORD))).expect_err("record 10 is further away than that");
    assert!(matches!(corruption.damage, Damage::GoodRecordBehind(..)));
}

#[test]
fn a_mark_that_means_other_files_is_void_and_never_refuses_a23() {
    let d = dir([(1, torn(file(7, 1..=2), 3))]);
    for void in [mark_at(1, 8, 3, 0), mark_at(2, 9, 3, 0), Mark { file: Zxid(9), ..mark_at(1, 6, 3, 0) }] {
        assert!(run(&d, 0, Some(void)).is_ok(), "{void:?}");
    }
    // The record at the marked place is another one: the file was made again.
    let again = dir([(1, torn(file(7, 1..=3), 4))]);
    let stale = Mark { adler: 1, offset: 16 + 3 * RECORD, ..mark_at(1, 7, 3, 0) };
    assert!(run(&again, 0, Some(stale)).is_ok());
    // A java server went on in a file of its own; its torn tail is judged without our mark.
    let java = dir([(1, file(7, 1..=2)), (3, torn(file(0, 3..=4), 5))]);
    assert_eq!(good(&java, 0, Some(mark_at(1, 7, 2, 1 << 20))).0, [1, 2, 3, 4]);
}

#[test]
fn a_mark_for_a_later_file_proves_that_this_one_was_whole() {
    let mark = Mark { file: Zxid(4), ..mark_at(1, 7, 3, 1 << 20) };
    let whole = dir([(1, file(7, 1..=3))]);
    assert!(run(&whole, 0, Some(mark)).is_ok(), "the later file had no durable name yet");
    let short = dir([(1, file(7, 1..=2))]);
    assert!(matches!(run(&short, 0, Some(mark)).expect_err("3 is missing").damage, Damage::BelowMark(_)));
}

#[test]
fn a_mark_for_the_file_after_an_image_demands_nothing_of_the_logs_before_it_a23() {
    // The log ended at 3, a leader's image at 9 came, and the server died when the mark was durable and the next log had no name yet.
    let mark = Mark { file: Zxid(10), ..mark_at(1, 7, 3, 0) };
    let (replayed, end) = good(&dir([(1, file(7, 1..=3))]), 9, Some(mark));
    assert_eq!((replayed, end.last_zxid), (vec![], Zxid(9)));
}

#[test]
fn the_marked_file_reduced_to_zeros_is_damage() {
    let d = dir([(1, file(7, 1..=3)), (4, vec![0; 100])]);
    let mark = Mark { file: Zxid(4), ..mark_at(1, 7, 3, 0) };
    assert!(matches!(run(&d, 0, Some(mark)).expect_err("4 had been flushed").damage, Damage::Header(HeaderError::AllZero)));
}

#[test]
fn the_new_mark_describes_the_end_after_the_cut() {
    let (_, end) = good(&dir([(1, torn(file(7, 1..=3), 4))]), 0, Some(mark_at(1, 7, 2, 4096)));
    assert_eq!(end.mark, Some(mark_at(1, 7, 3, 4096)));
    let (_, end) = good(&dir([(1, file(0, 1..=3))]), 0, None);
    assert_eq!(end.mark, None, "a file of java's has no id to mark");
}

// --- cutting ---

#[test]
fn a_cut_leaves_nothing_above_the_zxid_wherever_it_falls_l6() {
    let mut d = dir([(1, file(0, 1..=2)), (4, zeros(file(0, 4..=6), 50)), (7, file(0, 7..=7))]);
    let logs: Vec<Zxid> = d.0.keys().copied().collect();
    let mut plan = |z: u64| plan_cut(&mut d, &logs, Zxid(z)).expect("io");
    let end = |n: u64| 16 + n * RECORD;
    let expected = |last: u64, keep: &[u64], cut, remove: &[u64]| {
        let zxids = |z: &[u64]| z.iter().copied().map(Zxid).collect();
        CutPlan { last: (last > 0).then_some(Zxid(last)), keep: zxids(keep), cut, remove: zxids(remove) }
    };
    assert_eq!(plan(5), expected(5, &[1, 4], Some((Zxid(4), end(2))), &[7]));
    assert_eq!(plan(6), expected(6, &[1, 4], Some((Zxid(4), end(3))), &[7]));
    assert_eq!(plan(3), expected(2, &[1], None, &[7, 4]), "3 is in no log; 4 must not survive");
    assert_eq!(plan(7), expected(7, &[1, 4, 7], None, &[]));
    assert_eq!(plan(0), expected(0, &[], None, &[7, 4, 1]));
}

use super::*;
use crate::record::frame::read_frame;

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 4096,
        unsynced_bytes_max: 1 << 20,
        force_sync: true,
        file_bytes_max: None,
        payload_bytes_max: crate::base::limits::TXN_PAYLOAD_MAX,
        dbid: 7,
        epochs: Epochs::NONE,
        mark: None,
    }
}

fn drain(log: &mut Log) -> Vec<LogAction> {
    std::iter::from_fn(|| log.poll_action()).collect()
}

fn token(actions: &[LogAction]) -> SyncToken {
    let found = actions.iter().find_map(|a| if let LogAction::Sync { token, .. } = a { Some(*token) } else { None });
    found.expect("a sync was asked for")
}

fn kinds(actions: &[LogAction]) -> Vec<&'static str> {
    let kind = |a: &LogAction| match a {
        LogAction::Open { .. } => "open",
        LogAction::Write { .. } => "write",
        LogAction::Sync { .. } => "sync",
        LogAction::Mark { .. } => "mark",
        LogAction::SyncMark => "sync mark",
        LogAction::Name { .. } => "name",
        LogAction::Close { .. } => "close",
        LogAction::Cut { .. } => "cut",
    };
    actions.iter().map(kind).collect()
}

/// Appends one record and carries out everything until it is durable.
fn append_durably(log: &mut Log, zxid: u64) -> Vec<LogAction> {
    log.append(Zxid(zxid), b"payload");
    settle(log)
}

fn settle(log: &mut Log) -> Vec<LogAction> {
    let mut done = Vec::new();
    loop {
        let actions = drain(log);
        if actions.is_empty() {
            return done;
        }
        for action in &actions {
            match action {
                LogAction::Sync { token, .. } => log.handle_synced(*token),
                LogAction::Name { file, .. } => log.handle_opened(*file),
                LogAction::SyncMark => log.handle_mark_synced(),
                LogAction::Cut { .. } => log.handle_cut(),
                _ => {}
            }
        }
        done.extend(actions);
    }
}

#[test]
fn nothing_is_durable_before_both_the_flush_and_the_directory_entry_d2() {
    let mut log = Log::new(config(), Zxid(4));
    log.append(Zxid(5), b"a");
    let actions = drain(&mut log);
    assert_eq!(kinds(&actions), ["open", "write", "sync"]);
    assert_eq!(log.durable_zxid(), Zxid(4));
    log.handle_synced(token(&actions));
    assert_eq!(log.durable_zxid(), Zxid(4), "flushed, but a crash would lose the directory entry");
    assert_eq!(kinds(&drain(&mut log)), ["mark", "name"], "the mark is written before the name can become durable");
    log.handle_opened(FileId(1));
    assert_eq!(log.durable_zxid(), Zxid(5));
}

#[test]
fn a_file_is_named_only_when_its_first_record_is_durable_a20() {
    let mut log = Log::new(config(), Zxid(0));
    log.append(Zxid(1), b"a");
    let actions = drain(&mut log);
    assert!(!kinds(&actions).contains(&"name"));
    log.handle_synced(token(&actions));
    let named = drain(&mut log);
    assert!(named.contains(&LogAction::Name { file: FileId(1), first_zxid: Zxid(1) }));
}

#[test]
fn one_flush_covers_all_that_was_appended_before_it_and_nothing_after() {
    let mut log = Log::new(config(), Zxid(0));
    append_durably(&mut log, 1);
    log.append(Zxid(2), b"b");
    log.append(Zxid(3), b"c");
    let first = drain(&mut log);
    assert_eq!(kinds(&first), ["write", "sync"], "one write and one flush for the whole group");
    log.append(Zxid(4), b"d");
    assert_eq!(kinds(&drain(&mut log)), ["write"], "the next group forms while the flush is under way");
    log.handle_synced(token(&first));
    assert_eq!(log.durable_zxid(), Zxid(3));
    let second = drain(&mut log);
    assert_eq!(kinds(&second), ["mark", "sync"]);
    log.handle_synced(token(&second));
    assert_eq!(log.durable_zxid(), Zxid(4));
}

#[test]
fn a_flush_that_is_held_covers_what_comes_meanwhile() {
    let mut log = Log::new(config(), Zxid(0));
    append_durably(&mut log, 1);
    log.hold_flush(true);
    assert!(!log.holds_flush(), "there is nothing to flush");
    log.append(Zxid(2), b"b");
    assert_eq!(kinds(&drain(&mut log)), ["write"]);
    assert!(log.holds_flush());
    log.append(Zxid(3), b"c");
    log.hold_flush(false);
    let actions = drain(&mut log);
    assert_eq!(kinds(&actions), ["write", "sync"]);
    log.handle_synced(token(&actions));
    assert_eq!(log.durable_zxid(), Zxid(3));
}

#[test]
fn the_bytes_written_are_a_zookeeper_log() {
    let mut log = Log::new(config(), Zxid(0));
    log.append(Zxid(1), b"first");
    log.append(Zxid(2), b"second");
    let actions = drain(&mut log);
    let LogAction::Write { offset: 0, bytes, .. } = &actions[1] else { panic!("{actions:?}") };
    assert_eq!(FileHeader::read(bytes), Some(FileHeader::log(7)));
    let first = read_frame(&bytes[16..]).expect("good");
    let second = read_frame(&bytes[16 + first.len()..]).expect("good");
    assert_eq!((first.payload, second.payload), (&b"first"[..], &b"second"[..]));
    assert_eq!(16 + first.len() + second.len(), bytes.len());
}

#[test]
fn a_full_segment_rolls_by_itself_and_the_old_one_is_closed_at_its_used_length() {
    let mut log = Log::new(LogConfig { segment_bytes: 16 + 2 * 20, ..config() }, Zxid(0));
    append_durably(&mut log, 1);
    append_durably(&mut log, 2);
    let actions = append_durably(&mut log, 3);
    assert_eq!(kinds(&actions), ["open", "write", "sync", "mark", "name", "close"]);
    assert!(actions.contains(&LogAction::Close { file: FileId(1), used_bytes: 56 }));
    assert_eq!(log.durable_zxid(), Zxid(3));
    assert_eq!(log.since_roll().0, 3, "a full segment is no reason to forget that a snapshot is due");
}

#[test]
fn a_roll_with_a_flush_under_way_keeps_order_and_loses_nothing() {
    let mut log = Log::new(config(), Zxid(0));
    append_durably(&mut log, 1);
    log.append(Zxid(2), b"b");
    let old = drain(&mut log);
    log.append(Zxid(3), b"c");
    log.roll();
    log.append(Zxid(4), b"d");
    let both = drain(&mut log);
    assert_eq!(kinds(&both), ["write", "open", "write"], "the old file's bytes go first; no second flush");
    log.handle_synced(token(&old));
    assert_eq!(log.durable_zxid(), Zxid(2));
    let rest = drain(&mut log);
    assert!(matches!(rest.last(), Some(LogAction::Sync { file: FileId(1), .. })), "the old file first: {rest:?}");
    log.handle_synced(token(&rest));
    assert_eq!(log.durable_zxid(), Zxid(3));
    settle(&mut log);
    assert_eq!(log.durable_zxid(), Zxid(4));
}

#[test]
fn names_become_durable_in_order() {
    let mut log = Log::new(config(), Zxid(0));
    log.append(Zxid(1), b"a");
    log.roll();
    log.append(Zxid(2), b"b");
    let first = drain(&mut log);
    log.handle_synced(token(&first));
    let second = drain(&mut log);
    assert_eq!(kinds(&second), ["mark", "name", "sync"]);
    log.handle_synced(token(&second));
    assert!(!kinds(&drain(&mut log)).contains(&"name"), "the second waits for the first");
    assert_eq!(log.durable_zxid(), Zxid(0), "flushed twice, but no name is durable");
    log.handle_opened(FileId(1));
    assert_eq!(log.durable_zxid(), Zxid(1));
    assert!(kinds(&drain(&mut log)).contains(&"name"));
    log.handle_opened(FileId(2));
    assert_eq!(log.durable_zxid(), Zxid(2));
}

#[test]
fn the_mark_never_vouches_for_a_file_behind_one_without_a_name() {
    let mut log = Log::new(config(), Zxid(0));
    for zxid in 1..=3 {
        log.append(Zxid(zxid), b"a");
        log.roll();
    }
    let marked = |actions: &[LogAction]| {
        let read = |a: &LogAction| if let LogAction::Mark { bytes, .. } = a { Mark::read(bytes) } else { None };
        actions.iter().rev().find_map(read).map(|(_, mark)| mark.file.0)
    };
    let first = drain(&mut log);
    log.handle_synced(token(&first));
    let second = drain(&mut log);
    assert_eq!(marked(&second), Some(1));
    log.handle_synced(token(&second));
    let third = drain(&mut log);
    assert_eq!(kinds(&third), ["sync"], "2 is flushed, but a crash now would leave no file of that name, nor of the one before");
    log.handle_opened(FileId(1));
    let fourth = drain(&mut log);
    assert_eq!(kinds(&fourth), ["mark", "name"]);
    assert_eq!(marked(&fourth), Some(2));
}

#[test]
fn a_record_larger_than_a_segment_gets_a_larger_one() {
    let mut log = Log::new(config(), Zxid(0));
    append_durably(&mut log, 1);
    log.append(Zxid(2), &[9; 10_000]);
    let actions = drain(&mut log);
    assert_eq!(actions[0], LogAction::Open { file: FileId(2), first_zxid: Zxid(2), min_bytes: 16 + 10_000 + 13 });
}

#[test]
fn what_was_admitted_just_below_the_limit_fits_with_the_header_of_its_new_file_a22() {
    let config = LogConfig { unsynced_bytes_max: 0, payload_bytes_max: 10_000, ..config() };
    let largest = vec![1; config.payload_bytes_max];
    let mut log = Log::new(config, Zxid(4));
    let half = log.unsynced_limit() as usize / 2;
    log.append(Zxid(5), &vec![1; half - FILE_HEADER_BYTES - RECORD_OVERHEAD]);
    assert!(log.can_append());
    log.roll();
    log.append(Zxid(6), b"the session of who asks for the next");
    log.append(Zxid(7), &largest);
    settle(&mut log);
    assert_eq!(log.durable_zxid(), Zxid(7));
}

#[test]
fn admission_closes_at_the_unsynced_limit_and_opens_after_a_flush_a22() {
    let mut log = Log::new(LogConfig { segment_bytes: 64 << 20, unsynced_bytes_max: 8 << 20, ..config() }, Zxid(0));
    let payload = vec![1; 100_000];
    let mut zxid = 0;
    while log.can_append() {
        zxid += 1;
        log.append(Zxid(zxid), &payload);
    }
    assert!((4 << 20..8 << 20).contains(&(zxid * 100_000)), "{zxid} records");
    let actions = drain(&mut log);
    assert!(!log.can_append(), "writing is not enough");
    log.handle_synced(token(&actions));
    assert!(log.can_append());
}

#[test]
fn the_size_limit_rolls_after_the_flush_that_exceeds_it() {
    let mut log = Log::new(LogConfig { file_bytes_max: Some(50), ..config() }, Zxid(0));
    assert!(!kinds(&append_durably(&mut log, 1)).contains(&"close"));
    append_durably(&mut log, 2);
    assert!(kinds(&append_durably(&mut log, 3)).contains(&"close"), "56 bytes were more than 50");
}

#[test]
fn without_force_sync_written_is_durable_and_no_flush_is_asked_for() {
    let mut log = Log::new(LogConfig { force_sync: false, ..config() }, Zxid(0));
    log.append(Zxid(1), b"a");
    assert_eq!(log.durable_zxid(), Zxid(0), "not before the shell has it");
    let actions = drain(&mut log);
    assert_eq!(kinds(&actions), ["open", "write", "mark", "name"]);
    let LogAction::Mark { bytes, .. } = &actions[2] else { panic!("{actions:?}") };
    let (_, mark) = Mark::read(bytes).expect("a slot");
    assert!(!mark.vouches(), "nothing was flushed");
    assert_eq!(log.durable_zxid(), Zxid(0), "nobody would find it under its neutral name");
    log.handle_opened(FileId(1));
    assert_eq!(log.durable_zxid(), Zxid(1));
    log.append(Zxid(2), b"b");
    assert_eq!(kinds(&drain(&mut log)), ["write"]);
    assert_eq!(log.durable_zxid(), Zxid(2));
}

#[test]
fn closing_cuts_the_last_file_once_all_is_durable() {
    let mut log = Log::new(config(), Zxid(0));
    log.append(Zxid(1), b"payload");
    log.close();
    assert!(!log.can_append());
    assert_eq!(settle(&mut log).last(), Some(&LogAction::Close { file: FileId(1), used_bytes: 36 }));
    assert!(log.is_closed());
    let mut empty = Log::new(config(), Zxid(0));
    empty.close();
    assert!(empty.is_closed() && empty.poll_action().is_none());
}

#[test]
fn the_mark_names_the_last_durable_record() {
    let mut log = Log::new(config(), Zxid(0));
    let mut actions = append_durably(&mut log, 1);
    actions.extend(append_durably(&mut log, 2));
    let mut file = vec![0; crate::storage::mark::MARK_FILE_BYTES];
    for action in actions {
        if let LogAction::Mark { offset, bytes } = action {
            file[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
        }
    }
    let (_, mark) = Mark::read(&file).expect("written");
    assert_eq!((mark.file, mark.dbid, mark.offset, mark.zxid), (Zxid(1), 7, 56, Zxid(2)));
    assert_eq!(mark.unsynced_bytes_max, log.unsynced_limit());
}

#[test]
#[should_panic(expected = "appended after")]
fn a_zxid_that_does_not_grow_is_a_bug() {
    let mut log = Log::new(config(), Zxid(5));
    log.append(Zxid(5), b"x");
}

#[test]
fn a_cut_closes_every_file_then_lowers_the_mark_and_removes_the_rest_before_the_next_append_l20() {
    let mut log = Log::new(config(), Zxid(0));
    append_durably(&mut log, 1);
    append_durably(&mut log, 2);
    log.cut(Zxid(1));
    assert!(!log.can_append());
    let actions = drain(&mut log);
    assert_eq!(kinds(&actions), ["close", "cut"]);
    let LogAction::Cut { above, mark, .. } = &actions[1] else { panic!("{actions:?}") };
    assert_eq!(*above, Zxid(1));
    let (_, mark) = Mark::read(mark).expect("a whole slot");
    assert!(!mark.vouches(), "nothing is vouched for while files shrink (A23)");
    assert!(log.is_cutting() && !log.can_append(), "nothing is appended before the cut is durable");
    log.handle_cut();
    assert_eq!((log.appended_zxid(), log.durable_zxid()), (Zxid(1), Zxid(1)));
    assert_eq!(kinds(&append_durably(&mut log, 2)), ["open", "write", "sync", "mark", "name"], "it goes on in a new file");
}

#[test]
fn a_log_without_files_of_this_run_is_cut_and_goes_on_where_an_image_ends() {
    let mut log = Log::new(config(), Zxid(5));
    log.cut(Zxid(0x2_0000_0000));
    assert_eq!(kinds(&settle(&mut log)), ["cut"]);
    let actions = append_durably(&mut log, 0x2_0000_0001);
    assert!(actions.contains(&LogAction::Name { file: FileId(1), first_zxid: Zxid(0x2_0000_0001) }));
}

fn epochs(accepted: i64, current: i64) -> Epochs {
    use crate::record::epochs::StoredEpoch;
    Epochs { accepted: StoredEpoch(accepted), current: StoredEpoch(current) }
}

fn marks(actions: &[LogAction]) -> Vec<Mark> {
    let read = |a: &LogAction| if let LogAction::Mark { bytes, .. } = a { Mark::read(bytes).map(|(_, mark)| mark) } else { None };
    actions.iter().filter_map(read).collect()
}

#[test]
fn an_epoch_is_in_the_mark_on_disk_before_its_file_may_be_written_a23() {
    let mut log = Log::new(LogConfig { epochs: epochs(1, 1), ..config() }, Zxid(0));
    append_durably(&mut log, 1);
    log.raise_epochs(epochs(2, -1));
    assert!(log.is_raising());
    let actions = drain(&mut log);
    assert_eq!(kinds(&actions), ["mark", "sync mark"]);
    assert_eq!(marks(&actions)[0].epochs, epochs(2, 1), "the other one is not lowered");
    assert!(log.is_raising(), "it may still be lost");
    log.handle_mark_synced();
    assert!(!log.is_raising());
    log.raise_epochs(epochs(2, 1));
    assert!(!log.is_raising(), "it knows");
}

#[test]
fn what_recovery_has_marked_stands_with_raised_epochs_until_this_run_has_flushed_something_a23() {
    let mut log = Log::new(config(), Zxid(4));
    log.raise_epochs(epochs(3, 3));
    assert!(!log.is_raising() && drain(&mut log).is_empty(), "there is no mark that could become void");
    let mark = Mark { file: Zxid(2), dbid: 9, offset: 77, zxid: Zxid(4), adler: 5, unsynced_bytes_max: 8, epochs: epochs(2, 1) };
    let mut log = Log::new(LogConfig { mark: Some(mark), epochs: epochs(2, 1), ..config() }, Zxid(4));
    log.raise_epochs(epochs(-1, 2));
    assert_eq!(marks(&settle(&mut log)), [Mark { epochs: epochs(2, 2), ..mark }]);
    let own = marks(&append_durably(&mut log, 5));
    assert_eq!((own[0].dbid, own[0].epochs), (7, epochs(2, 2)));
    log.cut(Zxid(4));
    settle(&mut log);
    log.raise_epochs(epochs(3, -1));
    let raised = marks(&settle(&mut log));
    assert!(!raised[0].vouches() && raised[0].epochs == epochs(3, 2), "what was removed is not vouched for again");
}

#[test]
fn the_mark_is_left_alone_while_it_is_flushed_a23() {
    let mut log = Log::new(config(), Zxid(0));
    log.append(Zxid(1), b"a");
    let actions = drain(&mut log);
    log.handle_synced(token(&actions));
    assert_eq!(kinds(&drain(&mut log)), ["mark", "name"]);
    log.append(Zxid(2), b"b");
    let actions = drain(&mut log);
    log.handle_synced(token(&actions));
    log.raise_epochs(epochs(1, -1));
    assert_eq!(kinds(&drain(&mut log)), [""; 0], "the name is being made durable, and with it the mark");
    log.handle_opened(FileId(1));
    assert_eq!(kinds(&drain(&mut log)), ["mark", "sync mark"]);
    log.append(Zxid(3), b"c");
    let actions = drain(&mut log);
    log.handle_synced(token(&actions));
    assert_eq!(kinds(&drain(&mut log)), [""; 0]);
    log.handle_mark_synced();
    assert_eq!(kinds(&drain(&mut log)), ["mark"]);
}

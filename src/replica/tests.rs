//! A replica that stands alone: session ids, standstills, expiry.

use super::*;
use crate::base::{AclVec, ConnId, ConnKey, SessionId, Xid};
use crate::proto::connect::ConnectRequest;
use crate::record::TxnHeader;
use crate::record::txn::{CreateKind, CreateTxn, Txn};
use crate::tree::TreeConfig;

pub(crate) fn config() -> ReplicaConfig {
    ReplicaConfig {
        server_id: 0,
        tick_ms: 1000,
        min_session_timeout_ms: 2000,
        max_session_timeout_ms: 20_000,
        snap_count: 100_000,
        snap_size_limit_bytes: None,
        container_check_interval_ms: 0,
        container_max_per_minute: 0,
        container_max_never_used_ms: 0,
        global_outstanding_limit: 1000,
        modes: ClientModes::default(),
        log: LogConfig {
            segment_bytes: 4096,
            unsynced_bytes_max: 1 << 20,
            force_sync: true,
            file_bytes_max: None,
            payload_bytes_max: crate::base::limits::TXN_PAYLOAD_MAX,
            dbid: 7,
            epochs: crate::record::epochs::Epochs::NONE,
            mark: None,
        },
        seed: 1,
    }
}

/// A disk that does everything at once.
fn settle(replica: &mut Replica, now: Instant) {
    while let Some(output) = replica.poll_output() {
        match output {
            Output::Log(LogAction::Sync { token, .. }) => replica.handle(now, WallTime(2), Input::LogSynced(token)),
            Output::Log(LogAction::SyncMark) => replica.handle(now, WallTime(2), Input::MarkSynced),
            Output::Log(LogAction::Name { file, .. }) => replica.handle(now, WallTime(2), Input::LogOpened(file)),
            Output::Publish(batch) => replica.published(batch.last_zxid),
            _ => {}
        }
    }
}

/// Nothing happens but time.
fn pass(replica: &mut Replica, from_ms: u64, to_ms: u64) {
    for ms in (from_ms..=to_ms).step_by(500) {
        let now = Instant(0).plus_ms(ms);
        replica.handle(now, WallTime(2), Input::Timeout);
        settle(replica, now);
    }
}

fn connect(replica: &mut Replica, now: Instant, session: SessionId, conn: u64) -> ConnKey {
    let conn = ConnKey { shard: ShardId(0), conn: ConnId(conn) };
    let password = if session == SessionId::NONE { Vec::new() } else { derived_password(session).to_vec() };
    let request = ConnectRequest { last_zxid_seen: 0, timeout_ms: 4000, session, password, read_only: false, has_read_only: false };
    replica.handle(now, WallTime(2), Input::Shard(ShardId(0), ToReplica::Connect { conn, accepted: now, request }));
    settle(replica, now);
    conn
}

#[test]
fn session_ids_start_at_the_wall_clock_and_pass_over_those_that_live() {
    let ms = 0x19a_bcde_f012;
    let first = 0x01 << 56 | 0x9a_bcde_f012 << 16; // server id, the clock's lower 40 bits, the counter
    assert_eq!(first_session_id(1, WallTime(ms)), first);
    assert_eq!(first_session_id(-1, WallTime(ms)), -1 << 56 | 0x9a_bcde_f012 << 16);
    let mut tree = Tree::new(TreeConfig::default());
    for (zxid, session) in [(1, first), (2, first + 1), (3, first + 3)] {
        let header = TxnHeader { session: SessionId(session), cxid: Xid(0), zxid: Zxid(zxid), time: WallTime(1), kind: -10 };
        let _ = tree.apply(&header, &Txn::CreateSession { timeout_ms: 4000 });
    }
    tree.commit(Zxid(3));
    let mut replica = Replica::new(ReplicaConfig { server_id: 1, ..config() }, tree, Instant(0), WallTime(ms));
    for conn in 0..2 {
        connect(&mut replica, Instant(0), SessionId::NONE, conn);
    }
    let ids: Vec<_> = replica.report(Instant(0)).sessions.iter().map(|(id, ..)| id.0 - first).collect();
    assert_eq!(ids, [0, 1, 2, 3, 4], "three of an earlier run, whose clock was as far, and two new ones");
}

#[test]
fn after_a_standstill_every_session_has_its_whole_timeout_again_a17() {
    let mut replica = Replica::new(config(), Tree::new(TreeConfig::default()), Instant(0), WallTime(2));
    let at = |ms| Instant(0).plus_ms(ms);
    for conn in 0..3 {
        let conn = connect(&mut replica, at(0), SessionId::NONE, conn);
        let session = replica.report(at(0)).sessions.last().expect("opened").0;
        replica.handle(at(0), WallTime(2), Input::Shard(ShardId(0), ToReplica::Detach { conn, session, heard: at(0) }));
    }
    pass(&mut replica, 0, 4_500);
    // It stands still over the moment at which they are due. Their clients wait to be accepted; the timer comes first.
    replica.handle(at(9_000), WallTime(2), Input::Timeout);
    settle(&mut replica, at(9_000));
    let (session, ..) = replica.report(at(9_000)).sessions[0];
    connect(&mut replica, at(9_001), session, 7);
    pass(&mut replica, 9_001, 13_001);
    assert_eq!(replica.report(at(13_001)).sessions.len(), 3, "no shorter than after a restart");
    pass(&mut replica, 13_501, 14_001);
    assert_eq!(replica.report(at(14_001)).sessions.len(), 1, "and no longer");
}

#[test]
fn an_answer_that_waited_too_long_expires_nobody_a17() {
    let mut replica = Replica::new(config(), Tree::new(TreeConfig::default()), Instant(0), WallTime(2));
    let at = |ms| Instant(0).plus_ms(ms);
    let conn = connect(&mut replica, at(0), SessionId::NONE, 1);
    let (session, ..) = replica.report(at(0)).sessions[0];
    replica.handle(at(5000), WallTime(2), Input::Timeout);
    settle(&mut replica, at(5000));
    // The shard heard from it just before it answered; its answer waited for half a minute behind others.
    pass(&mut replica, 5_000, 35_000);
    let answer = ToReplica::Heard { conn, session, heard: at(5000), at: at(5020) };
    replica.handle(at(35_000), WallTime(2), Input::Shard(ShardId(0), answer));
    settle(&mut replica, at(35_000));
    assert_eq!(replica.report(at(35_000)).sessions.len(), 1);
    replica.handle(at(35_000), WallTime(2), Input::Timeout);
    assert_eq!(replica.sessions.next_expired(), None, "asked again, and the question is out");
    let silent = ToReplica::Heard { conn, session, heard: at(5000), at: at(35_020) };
    replica.handle(at(35_030), WallTime(2), Input::Shard(ShardId(0), silent));
    settle(&mut replica, at(35_030));
    assert!(replica.report(at(35_030)).sessions.is_empty(), "silence that the shard has seen counts");
}

#[test]
fn ephemerals_whose_session_does_not_exist_go_by_a_logged_transaction_at_once() {
    let mut tree = Tree::new(TreeConfig::default());
    let header = TxnHeader { session: SessionId(7), cxid: Xid(1), zxid: Zxid(1), time: WallTime(1), kind: 1 };
    let kind = CreateKind::Create { ephemeral: true };
    let create = CreateTxn { kind, path: "/dead", data: None, acl: AclVec::OPEN, parent_cversion: Some(1) };
    let _ = tree.apply(&header, &Txn::Create(create));
    tree.commit(Zxid(1));
    let now = Instant(0).plus_ms(100_000);
    let mut replica = Replica::new(config(), tree, now, WallTime(2));
    assert!(replica.poll_timeout().is_some_and(|at| at <= now), "nobody waits for a tick");
    replica.handle(now, WallTime(2), Input::Timeout);
    settle(&mut replica, now);
    let report = replica.report(now);
    assert_eq!((report.last_zxid, report.ephemerals.len(), report.sessions.len()), (Zxid(2), 0, 0));
}

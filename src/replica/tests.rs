use super::*;
use crate::base::{AclVec, ConnId, ConnKey, SessionId, Xid};
use crate::proto::connect::ConnectRequest;
use crate::record::TxnHeader;
use crate::record::txn::{CreateKind, CreateTxn, Txn};
use crate::tree::TreeConfig;

fn config() -> ReplicaConfig {
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
        log: LogConfig {
            segment_bytes: 4096,
            unsynced_bytes_max: 1 << 20,
            force_sync: true,
            file_bytes_max: None,
            payload_bytes_max: crate::base::limits::TXN_PAYLOAD_MAX,
            dbid: 7,
            epochs: crate::record::epochs::Epochs::NONE,
        },
        seed: 1,
    }
}

/// A disk that does everything at once.
fn settle(replica: &mut Replica, now: Instant) {
    while let Some(output) = replica.poll_output() {
        match output {
            Output::Log(LogAction::Sync { token, .. }) => replica.handle(now, WallTime(2), Input::LogSynced(token)),
            Output::Log(LogAction::Name { file, .. }) => replica.handle(now, WallTime(2), Input::LogOpened(file)),
            Output::Publish(batch) => replica.published(batch.last_zxid),
            _ => {}
        }
    }
}

#[test]
fn an_answer_that_waited_too_long_expires_nobody_a17() {
    let mut replica = Replica::new(config(), Tree::new(TreeConfig::default()), Instant(0), WallTime(2));
    let at = |ms| Instant(0).plus_ms(ms);
    let conn = ConnKey { shard: ShardId(0), conn: ConnId(1) };
    let request = ConnectRequest {
        last_zxid_seen: 0,
        timeout_ms: 4000,
        session: SessionId::NONE,
        password: Vec::new(),
        read_only: false,
        has_read_only: false,
    };
    replica.handle(at(0), WallTime(2), Input::Shard(ShardId(0), ToReplica::Connect { conn, accepted: at(0), request }));
    settle(&mut replica, at(0));
    let (session, ..) = replica.report(at(0)).sessions[0];
    replica.handle(at(5000), WallTime(2), Input::Timeout);
    settle(&mut replica, at(5000));
    // The shard heard from it just before it answered; the disk kept us from looking for half a minute.
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

use super::*;
use crate::base::AclList;
use crate::base::{AclVec, ConnId, ShardId};
use crate::handoff::message::path_hash as hash_of;
use crate::proto::EventType;

fn conn(n: u64) -> ConnKey {
    ConnKey { shard: ShardId(n as u16), conn: ConnId(n) }
}

/// A transaction with an event and a reply, whose bytes tell which it is.
fn add(groups: &mut Groups, zxid: u64) {
    let start = groups.bytes().len();
    groups.bytes().extend_from_slice(format!("reply {zxid}").as_bytes());
    let reply = groups.reply_since(start, conn(zxid), ErrorCode::Ok, false);
    let acl = AclList::new(AclList::OPEN_ID, AclVec::OPEN);
    let event = NodeEvent { kind: EventType::NodeDataChanged, path: format!("/{zxid}").into(), acl, parent_acl: None };
    groups.txn(Zxid(zxid), &[event], Some(reply), None);
}

/// What shards are told, checked for what belongs together.
fn told(batch: &Batch) -> Vec<String> {
    let mut told = Vec::new();
    for entry in &batch.entries {
        match entry {
            Entry::Txn { zxid, events, reply, .. } => {
                let event = &batch.events[events.start as usize];
                assert_eq!((events.len(), batch.path(event)), (1, format!("/{}", zxid.0).as_str()));
                assert_eq!(event.hash, hash_of(batch.path(event)));
                told.push(String::from_utf8(batch.frame(reply.as_ref().expect("a reply")).to_vec()).expect("text"));
            }
            Entry::Answer(reply) => told.push(String::from_utf8(batch.frame(reply).to_vec()).expect("text")),
            Entry::Ephemerals { .. } | Entry::Control(_) => told.push("control".into()),
        }
    }
    told
}

fn answer(groups: &mut Groups, text: &str) {
    let start = groups.bytes().len();
    groups.bytes().extend_from_slice(text.as_bytes());
    let reply = groups.reply_since(start, conn(0), ErrorCode::Ok, false);
    groups.answer(reply);
}

#[test]
fn what_is_committed_leaves_without_what_is_not() {
    let mut groups = Groups::new(Zxid(0));
    for zxid in 1..=4 {
        add(&mut groups, zxid);
        answer(&mut groups, &format!("answer {zxid}"));
    }
    groups.control(conn(1), Control::Cut { conn: conn(1) });
    groups.seal();
    add(&mut groups, 5);
    assert!(groups.take_any(Zxid(0), 0).is_none());
    let first = groups.take_any(Zxid(2), 0).expect("a part");
    assert_eq!((first.last_zxid, told(&first)), (Zxid(2), vec!["reply 1".into(), "answer 1".into(), "reply 2".into(), "answer 2".into()]));
    assert!(groups.take_any(Zxid(2), 0).is_none());
    let second = groups.take_any(Zxid(3), 0).expect("a part");
    assert_eq!((second.last_zxid, told(&second)), (Zxid(3), vec!["reply 3".into(), "answer 3".to_owned()]));
    let third = groups.take_any(Zxid(5), 0).expect("the rest of the sealed one");
    assert_eq!((third.last_zxid, told(&third)), (Zxid(4), vec!["reply 4".into(), "answer 4".into(), "control".to_owned()]));
    assert_eq!(told(&groups.take_any(Zxid(5), 0).expect("the open one")), ["reply 5"]);
    assert_eq!((groups.outstanding(), groups.committed()), (0, 5));
}

#[test]
fn a_role_that_is_lost_takes_replies_with_it_and_its_orders_wait_for_no_commit_a9() {
    let mut groups = Groups::new(Zxid(0));
    add(&mut groups, 1);
    groups.seal();
    add(&mut groups, 2);
    groups.forget_clients();
    groups.control_all(Control::CutAll);
    let cut = groups.take_any(Zxid(0), 0).expect("at once");
    assert_eq!((cut.last_zxid, told(&cut)), (Zxid(0), vec!["control".to_owned()]));
    assert_eq!(cut.shards, ShardSet::ALL);
    groups.silent(Zxid(3));
    let silent = groups.take_any(Zxid(1), 0).expect("committed");
    assert_eq!((silent.last_zxid, silent.entries.len()), (Zxid(1), 0));
    groups.control(conn(1), Control::Cut { conn: conn(1) });
    assert_eq!(groups.take_any(Zxid(1), 0).map(|b| b.last_zxid), Some(Zxid(1)), "connects are turned away meanwhile");
    groups.undo_above(Zxid(2));
    groups.silent(Zxid(3));
    groups.expect_clients();
    groups.control(conn(1), Control::Cut { conn: conn(1) });
    add(&mut groups, 4);
    assert_eq!(groups.take_any(Zxid(2), 0).map(|b| (b.last_zxid, b.entries.len())), Some((Zxid(2), 0)));
    assert!(groups.take_any(Zxid(2), 0).is_none(), "orders of the new role come behind what it began with");
    assert_eq!(groups.take_any(Zxid(4), 0).map(|b| (b.last_zxid, b.entries.len())), Some((Zxid(3), 0)));
    assert_eq!(groups.take_any(Zxid(4), 0).map(|b| (b.last_zxid, told(&b).len())), Some((Zxid(4), 2)));
}

#[test]
fn orders_left_over_from_the_tree_before_reach_the_readers_of_the_next() {
    let mut groups = Groups::new(Zxid(9));
    groups.control(conn(1), Control::Cut { conn: conn(1) });
    assert_eq!(groups.replace_tree(Zxid(4)), 1);
    add(&mut groups, 5);
    let left_over = groups.take_any(Zxid(4), 0).expect("orders");
    assert_eq!((left_over.tree, left_over.last_zxid, told(&left_over)), (1, Zxid(4), vec!["control".to_owned()]));
    assert_eq!(groups.take_any(Zxid(5), 0).map(|b| (b.tree, b.last_zxid)), Some((1, Zxid(5))));
}

#[test]
fn the_answer_to_a_sync_and_what_comes_behind_it_wait_until_it_is_confirmed_who_leads_b3() {
    let mut groups = Groups::new(Zxid(0));
    add(&mut groups, 1);
    for text in ["sync 1", "sync 2"] {
        groups.await_round(4);
        answer(&mut groups, text);
    }
    add(&mut groups, 2);
    groups.await_round(5);
    answer(&mut groups, "sync 3");
    assert_eq!(told(&groups.take_any(Zxid(2), 3).expect("what was before")), ["reply 1"]);
    assert!(groups.take_any(Zxid(2), 3).is_none());
    let part = groups.take_any(Zxid(1), 4).expect("confirmed");
    assert_eq!((part.last_zxid, told(&part)), (Zxid(1), vec!["sync 1".into(), "sync 2".to_owned()]));
    assert_eq!(told(&groups.take_any(Zxid(2), 4).expect("committed")), ["reply 2"]);
    assert!(groups.take_any(Zxid(2), 4).is_none());
    assert_eq!(told(&groups.take_any(Zxid(2), 5).expect("confirmed")), ["sync 3"]);
    assert!(groups.is_empty());
}

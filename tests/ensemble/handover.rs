//! What becomes of clients when a configuration gives the lead to another server.

use super::cluster::Cluster;
use super::driver::{Frame, Setup, new_session};
use zoo::base::Writer as _;
use zoo::proto::OpCode;

/// Three servers whose configuration every client may change.
fn changing() -> Cluster {
    let mut setup = Setup::default();
    setup.tree.reconfig_enabled = true;
    setup.tree.skip_acl = true;
    let mut c = Cluster::new(setup, 3, 0);
    c.reconfigures = true;
    (0..3).for_each(|n| c.start(n));
    c.until_all_serve();
    c
}

fn put_leaving(b: &mut Vec<u8>, server: usize) {
    b.put_i32(-1);
    b.put_string(&(server + 1).to_string());
    b.put_i32(-1);
    b.put_i64(-1);
}

/// A leader that has been voted out proposes nothing any more. Until it has lost its role it must not promise what it cannot keep either: a
/// session that no other server will ever know, or an answer to what was sent behind a write that was never made (P7, P13).
#[test]
fn a_leader_that_was_voted_out_makes_no_sessions_and_cuts_off_who_wants_to_write() {
    let mut c = changing();
    let leader = c.leader().expect("one");
    let (client, other) = (c.connect(leader), c.connect(leader));
    let followers = c.followers();
    c.world(leader).request(client.index, OpCode::Reconfig, |b| put_leaving(b, leader));
    c.world(leader).settle();
    c.carry_out(leader);
    // The others log the proposal, and do not hear that it is committed.
    let ends: Vec<_> = c.links.keys().copied().filter(|(n, _)| followers.contains(n)).collect();
    for end in ends {
        while c.deliver_on(end) {}
    }
    c.deaf.extend(followers.iter().copied());
    c.settle();
    let frames = c.world(leader).take(client.index);
    assert!(matches!(frames.as_slice(), [Frame::Reply { err: 0, .. }]), "the new configuration is committed: {frames:?}");
    assert!(c.report(leader).is_serving);

    let (_, answer) = c.try_connect(leader, 0, &new_session());
    assert!(answer.is_none(), "no session");
    let frames = c.ask(&other, |w, i| {
        w.create(i, "/a", "", 0);
        w.request(i, OpCode::GetEphemerals, |b| b.put_string("/"))
    });
    assert_eq!(frames, [], "nothing behind the write is answered");
    assert!(c.is_closed(&other));

    c.deaf.clear();
    c.until("another one leads", |c| c.leader().is_some_and(|now| now != leader));
    c.until_all_serve();
    let successor = c.leader().expect("one");
    let again = c.connect_again(successor, &other.session);
    c.ok(&again, |w, i| w.create(i, "/a", "", 0));
    c.assert_same();
}

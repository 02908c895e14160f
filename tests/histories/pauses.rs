//! Members that stand still for longer than others wait for them, and go on.

use crate::Stage;
use crate::support::{RawClient, create, wait_until};
use rustix::process::Signal;
use zoo::proto::OpCode;

/// P5: what a leader is sent while it stands still, and others have elected another one, it does not acknowledge of itself.
#[test]
fn a_leader_that_stood_still_acknowledges_nothing() {
    let stage = Stage::set(3);
    for round in 0..2 {
        let leader = stage.leader();
        let mut writer = stage.cluster.client(leader);
        stage.cluster.process(leader).signal(Signal::STOP);
        let late = format!("/late-{round}");
        writer.send(OpCode::Create, &create(&late, b"", 0)).expect("the kernel takes it");
        let others = stage.others(&[leader]);
        wait_until("the others have another leader", || others.iter().any(|id| stage.cluster.mode(*id).as_deref() == Some("leader")));
        let mut newer = stage.cluster.client(others[0]);
        assert_eq!(newer.create(&format!("/newer-{round}"), b"", 0).err, 0);
        stage.cluster.process(leader).signal(Signal::CONT);
        if let Ok(reply) = writer.reply() {
            assert_eq!(reply.err, 0, "it is a write like any other");
            stage.cluster.shows(others[0], &late);
        }
        stage.cluster.settled(&stage.ids());
    }
    stage.judge("a leader that stood still");
}

/// P15: a follower that stands still holds up nobody, and comes back.
#[test]
fn a_follower_that_stands_still_holds_up_nobody() {
    let stage = Stage::set(3);
    let leader = stage.leader();
    let follower = stage.others(&[leader])[0];
    stage.cluster.process(follower).signal(Signal::STOP);
    stage.load.goes_on("writes without the follower", 100);
    let synced = || stage.cluster.word(leader, "mntr").contains("zk_synced_followers\t1");
    wait_until("the leader gives the follower up", synced);
    stage.load.goes_on("writes with two members", 50);
    stage.cluster.process(follower).signal(Signal::CONT);
    let mut client: RawClient = stage.cluster.client(leader);
    assert_eq!(client.create("/meanwhile", b"", 0).err, 0);
    stage.cluster.shows(follower, "/meanwhile");
    stage.judge("a follower that stood still");
}

//! A `ZooEnsemble` as a program has it: it elects, loses members and connections between them, and goes on.

use crate::support::{RawClient, temp_dir, wait_until};
use crate::{alone, shared};
use std::time::{Duration, Instant};
use zoo::base::SessionId;
use zoo::client::{CreateMode, Error, ZooClient};
use zoo::server::{Mode, ZooEnsemble};

fn client(host: &str) -> ZooClient {
    ZooClient::builder(host).session_timeout(Duration::from_secs(20)).connect().expect("a session")
}

/// Does what may have to be tried again while a leader is being elected.
fn in_the_end(what: &str, mut done: impl FnMut() -> Result<(), Error>) {
    wait_until(what, || done().is_ok());
}

#[test]
fn an_ensemble_is_started_without_a_word_and_serves_through_every_member() {
    let _shared = shared();
    let ensemble = ZooEnsemble::start(3).expect("starts");
    let leader = ensemble.leader().expect("one leads");
    let modes: Vec<Mode> = ensemble.ids().map(|id| ensemble.mode(id)).collect();
    assert_eq!(modes.iter().filter(|mode| **mode == Mode::Follower).count(), 2, "{modes:?}");
    assert_eq!(ensemble.mode(leader), Mode::Leader);
    for id in ensemble.ids() {
        client(ensemble.member(id).host()).create(&format!("/through-{id}"), b"", CreateMode::Persistent).expect("made");
    }
    let client = client(&ensemble.host());
    client.sync("/").expect("answered");
    assert!(ensemble.ids().all(|id| client.exists(&format!("/through-{id}")).expect("an answer").is_some()));
}

#[test]
fn while_a_leader_is_cut_off_the_majority_goes_on_and_its_own_clients_are_refused() {
    let _shared = shared();
    let ensemble = ZooEnsemble::start(3).expect("starts");
    let old = ensemble.leader().expect("one leads");
    let mut left_behind = RawClient::connect(ensemble.member(old).address());
    assert_eq!(left_behind.create("/before", b"", 0).err, 0);
    ensemble.isolate(old);
    ensemble.until(old, Mode::NotServing).expect("it steps down");
    assert!(left_behind.is_closed(), "its clients are sent away");
    let again = RawClient::try_attach(ensemble.member(old).address(), SessionId::NONE, [0; 16], 20_000);
    assert!(!matches!(again, Ok(Some(_))), "and no others are let in");
    let new = ensemble.leader().expect("the others elect one");
    assert_ne!(new, old);
    let others = client(ensemble.member(new).host());
    in_the_end("the majority serves", || others.create("/meanwhile", b"", CreateMode::Persistent).map(drop));
    ensemble.heal();
    ensemble.until(old, Mode::Follower).expect("it comes back");
    let back = client(ensemble.member(old).host());
    back.sync("/").expect("answered");
    assert!(back.exists("/meanwhile").expect("an answer").is_some());
}

#[test]
fn a_cut_between_two_followers_harms_nobody_and_a_member_that_restarts_is_still_cut_off() {
    let _shared = shared();
    let mut ensemble = ZooEnsemble::start(3).expect("starts");
    let leader = ensemble.leader().expect("one leads");
    let followers: Vec<usize> = ensemble.ids().filter(|id| *id != leader).collect();
    ensemble.cut(followers[0], followers[1]);
    let client = client(ensemble.member(followers[0]).host());
    client.create("/x", b"", CreateMode::Persistent).expect("both reach the leader");
    ensemble.isolate(followers[1]);
    ensemble.until(followers[1], Mode::NotServing).expect("it has no leader");
    ensemble.member_mut(followers[1]).restart().expect("starts");
    client.set("/x", b"1").expect("two are a majority");
    assert_eq!(ensemble.mode(followers[1]), Mode::NotServing);
    ensemble.heal();
    ensemble.until(followers[1], Mode::Follower).expect("it comes back");
}

#[test]
fn what_was_acknowledged_outlives_the_kill_of_every_member_one_after_the_other_and_of_all() {
    let _shared = shared();
    let mut ensemble = ZooEnsemble::start(3).expect("starts");
    let client = client(&ensemble.host());
    let mut made = 0;
    let mut write = |client: &ZooClient| {
        for _ in 0..20 {
            // A lost connection says nothing of what became of the request, so what is there already is as good.
            in_the_end("a node is made", || match client.create(&format!("/{made}"), b"", CreateMode::Persistent) {
                Err(Error::Refused(zoo::client::ErrorCode::NodeExists)) => Ok(()),
                other => other.map(drop),
            });
            made += 1;
        }
    };
    for id in ensemble.ids() {
        write(&client);
        ensemble.member_mut(id).kill().expect("ends");
        assert_eq!(ensemble.mode(id), Mode::Down);
        write(&client);
        ensemble.member_mut(id).restart().expect("starts");
        ensemble.until_all_serve().expect("three serve again");
    }
    ensemble.ids().for_each(|id| ensemble.member_mut(id).kill().expect("ends"));
    ensemble.ids().for_each(|id| ensemble.member_mut(id).restart().expect("starts"));
    ensemble.until_all_serve().expect("three serve again");
    for id in ensemble.ids() {
        let mut reader = RawClient::connect(ensemble.member(id).address());
        let lost: Vec<_> = (0..made).filter(|n| reader.get(&format!("/{n}"), false).err != 0).collect();
        assert!(lost.is_empty(), "member {id} has lost {lost:?} of {made}");
    }
}

#[test]
fn two_ensembles_in_one_program_know_nothing_of_each_other_and_leave_nothing_behind() {
    let _alone = alone();
    let dir = temp_dir();
    let began = Instant::now();
    let temporary = ZooEnsemble::start(3).expect("starts");
    println!("an ensemble of three serves after {:?}", began.elapsed());
    let kept = ZooEnsemble::builder(2).dir(dir.path()).set("tickTime", 500).start().expect("starts");
    client(&kept.host()).create("/kept", b"", CreateMode::Persistent).expect("made");
    assert_eq!(client(&temporary.host()).exists("/kept"), Ok(None));
    let home = temporary.member(1).data_dir().parent().expect("the ensemble's").to_owned();
    drop((temporary, kept));
    assert!(!home.exists());
    let kept = ZooEnsemble::builder(2).dir(dir.path()).start().expect("starts on other ports");
    assert!(client(&kept.host()).exists("/kept").expect("an answer").is_some());
    drop(kept);
    crate::embedded::until_no_thread_is_left();
}

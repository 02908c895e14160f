//! Members of both kinds leave and come back while clients write: each kind leads changes that the other follows, and hands leadership over to
//! the other.

use crate::members::{Mixed, POLL, SETTLE_MAX};
use crate::reference::client::Client;
use crate::reference::process::Kind::{self, Java, Zoo};
use crate::reference::request::{get_data, reconfig};
use crate::writers::Writers;
use std::time::Instant;
use zoo::base::{Reader, SessionId};

/// A session at a server that may have no role at the moment.
fn open(members: &Mixed, id: usize) -> Option<Client> {
    Client::try_attach(members.ports[id - 1], SessionId::NONE, &[0; 16], 20_000, 0).ok()
}

/// Waits until all of these show a configuration of just these members, all of the same version.
fn all_show(members: &Mixed, ids: &[usize]) {
    let began = Instant::now();
    let is_shown = |id: &usize| {
        let reply = open(members, *id)?.try_call(&get_data("/zookeeper/config", false)).filter(|reply| reply.err == 0)?;
        let text = Reader::new(&reply.body).buffer().ok().flatten().map(|text| String::from_utf8_lossy(text).into_owned())?;
        let listed = |other: usize| text.contains(&format!("server.{other}="));
        (1..=3).all(|other| listed(other) == ids.contains(&other)).then(|| text.rsplit('=').next().map(str::to_owned)).flatten()
    };
    loop {
        let shown: Option<Vec<String>> = ids.iter().map(is_shown).collect();
        if shown.is_some_and(|versions| versions.iter().all(|version| *version == versions[0])) {
            return;
        }
        assert!(began.elapsed() < SETTLE_MAX, "{ids:?} do not show themselves\n{}", members.last_words());
        std::thread::sleep(POLL);
    }
}

/// Asks until it is done: what joins may have to be brought up to date first, and the answer may be lost with a leader.
fn change(members: &Mixed, through: usize, joining: Option<&str>, leaving: Option<&str>, left: &[usize]) {
    let began = Instant::now();
    loop {
        let answer = open(members, through).and_then(|mut client| client.try_call(&reconfig(joining, leaving, None, -1)));
        match answer.map(|reply| reply.err) {
            Some(0) | None => break,
            Some(err) => assert!(matches!(err, -13 | -14), "{joining:?} {leaving:?}: {err}"),
        }
        assert!(began.elapsed() < SETTLE_MAX, "{joining:?} {leaving:?}: refused for too long\n{}", members.last_words());
        std::thread::sleep(POLL);
    }
    all_show(members, left);
}

fn members_come_and_go(kinds: [Kind; 3]) {
    let mut members = Mixed::changing(kinds);
    (1..=3).for_each(|id| members.run(id));
    let leader = members.settled(&[1, 2, 3]);
    all_show(&members, &[1, 2, 3]);
    let writers = Writers::start(&members);
    writers.go_on(&members);
    let others: Vec<usize> = (1..=3).filter(|id| *id != leader).collect();
    for leaver in &others {
        let rest: Vec<usize> = (1..=3).filter(|id| id != leaver).collect();
        change(&members, leader, None, Some(&leaver.to_string()), &rest);
        writers.go_on(&members);
        change(&members, leader, Some(&members.line(*leaver)), None, &[1, 2, 3]);
        writers.go_on(&members);
    }
    change(&members, others[0], None, Some(&leader.to_string()), &others);
    let next = members.settled(&[1, 2, 3]);
    assert_ne!(next, leader);
    println!("{kinds:?}: {leader} ({:?}) hands over to {next} ({:?})", kinds[leader - 1], kinds[next - 1]);
    writers.go_on(&members);
    change(&members, next, Some(&members.line(leader)), None, &[1, 2, 3]);
    members.settled(&[1, 2, 3]);
    let count = writers.finish(&members);
    println!("{kinds:?}: all {count} acknowledged writes are everywhere");
    members.all_agree();
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer mixed"]
fn ours_leads_changes_of_java_servers_and_hands_over_to_one() {
    members_come_and_go([Java, Java, Zoo]);
}

#[test]
#[ignore = "needs the reference server: tests/run.sh --layer mixed"]
fn a_java_server_leads_changes_of_ours_and_hands_over_to_one() {
    members_come_and_go([Zoo, Zoo, Java]);
}

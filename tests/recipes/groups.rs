//! Members that are listed as long as they live.

use super::{PATIENCE, Place};
use std::time::Duration;
use zoo::client::CreateMode;
use zoo::recipes::{Error, Group, Member, PersistentNode, Pick, Standing};

fn ids(members: &[Member]) -> Vec<&str> {
    members.iter().map(|member| member.id.as_str()).collect()
}

#[test]
fn a_roster_follows_its_members_and_picks_among_them() {
    let place = Place::new();
    let (all, own) = (place.sessions(), place.sessions());
    let group = Group::new(&all, "/services/web");
    let roster = group.roster().expect("started");
    assert_eq!(roster.pick(Pick::RoundRobin), None);
    let join = |id: &str| Group::new(&own, "/services/web").join(Member::new(id, &format!("{id}:80"))).expect("started");
    let (a, b) = (join("a"), group.join(Member { load: 3, note: "slow".into(), ..Member::new("b", "b:80") }).expect("started"));
    let members = roster.until(PATIENCE, |members| members.len() == 2).expect("both");
    assert_eq!((ids(&members), members[1].note.as_str()), (vec!["a", "b"], "slow"));
    let turns: Vec<_> = (0..4).filter_map(|_| roster.pick(Pick::RoundRobin)).map(|member| member.id).collect();
    assert_eq!(turns.iter().filter(|id| *id == "a").count(), 2);
    assert_eq!(roster.pick(Pick::LeastLoaded).map(|member| member.id), Some("a".into()));
    a.report_load(10).expect("told");
    roster.until(PATIENCE, |members| members[0].load == 10).expect("heard");
    assert_eq!(roster.pick(Pick::LeastLoaded).map(|member| member.id), Some("b".into()));
    let sticky = roster.pick(Pick::Sticky("user-1"));
    assert!((0..5).all(|_| roster.pick(Pick::Sticky("user-1")) == sticky));
    b.leave().expect("gone");
    roster.until(PATIENCE, |members| ids(members) == ["a"]).expect("one is left");
    drop(a);
    roster.until(PATIENCE, <[Member]>::is_empty).expect("none is left");
}

#[test]
fn a_member_registers_again_in_a_new_session_and_with_what_it_said_last() {
    let place = Place::new();
    let (sessions, others) = (place.sessions(), place.sessions());
    let group = Group::new(&sessions, "/group");
    let roster = Group::new(&others, "/group").roster().expect("started");
    let member = group.join(Member::new("a", "a:1")).expect("started");
    let first = member.until_listed(PATIENCE).expect("listed");
    member.report_load(7).expect("told");
    place.end_session(&sessions.current().expect("a session"));
    super::support::wait_until("it is listed again", || matches!(member.standing(), Standing::There(token) if token > first));
    roster.until(PATIENCE, |members| members.len() == 1 && members[0].load == 7).expect("as before");
    place.client().delete("/group/a").expect("by hand");
    roster.until(PATIENCE, |members| members.len() == 1 && members[0].load == 7).expect("again");
    place.end_session(&others.current().expect("a session"));
    member.leave().expect("gone");
    roster.until(PATIENCE, <[Member]>::is_empty).expect("seen in a new session");
}

#[test]
fn a_persistent_node_waits_for_its_place_and_puts_back_what_it_says() {
    let place = Place::new();
    let (client, sessions) = (place.client(), place.sessions());
    client.create("/mine", b"theirs", CreateMode::Ephemeral).expect("made");
    let node = PersistentNode::start(&sessions, "/mine", b"one").expect("started");
    assert_eq!(node.until_there(Duration::from_millis(50)), Err(Error::TimedOut));
    assert_eq!(client.get("/mine").expect("there").0, b"theirs");
    client.delete("/mine").expect("gone");
    node.until_there(PATIENCE).expect("there");
    assert_eq!(client.get("/mine").expect("there").0, b"one");
    client.set("/mine", b"vandals").expect("set");
    super::support::wait_until("it is put back", || client.get("/mine").is_ok_and(|(data, _)| data == b"one"));
    node.set_data(b"two").expect("set");
    assert_eq!(client.get("/mine").expect("there").0, b"two");
    node.stop().expect("stopped");
    assert_eq!(client.exists("/mine"), Ok(None));
}

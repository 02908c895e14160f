//! At most one leader per epoch, and one soon.

use super::trouble::{self, Members};
use super::{PATIENCE, Place};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use zoo::client::CreateMode;
use zoo::recipes::{Error, LeaderLatch, LeaderSelector, Mutex, Role, Sessions, Then};

#[test]
fn leadership_goes_from_one_candidate_to_the_next() {
    let place = Place::new();
    let sessions: Vec<_> = (0..3).map(|_| place.sessions()).collect();
    let start = |i: usize| LeaderLatch::start(&sessions[i], "/election", format!("c{i}").as_bytes()).expect("started");
    let first = start(0);
    let token = first.until_leader(PATIENCE).expect("alone");
    let second = start(1);
    super::support::wait_until("two in line", || second.candidates().expect("a list").len() == 2);
    let third = start(2);
    super::support::wait_until("three in line", || first.candidates().expect("a list").len() == 3);
    assert_eq!(first.candidates(), Ok(vec![b"c0".to_vec(), b"c1".to_vec(), b"c2".to_vec()]));
    assert_eq!((second.role(), third.role()), (Role::Follower, Role::Follower));
    assert_eq!(third.until_leader(Duration::from_millis(10)), Err(Error::TimedOut));
    assert_eq!(third.transaction(|t| t.commit()), Err(Error::Lost), "it does not lead");
    first.stop().expect("stopped");
    assert!(second.until_leader(PATIENCE).expect("next") > token);
    assert_eq!(third.role(), Role::Follower);
    drop(second);
    assert_eq!(third.until_leader(PATIENCE).map(|_| third.role().leads().is_some()), Ok(true));
}

#[test]
fn who_loses_its_session_or_its_node_leads_no_more_and_lines_up_again() {
    let place = Place::new();
    let (sessions, others) = (place.sessions(), place.sessions());
    let latch = LeaderLatch::start(&sessions, "/election", b"a").expect("started");
    let token = latch.until_leader(PATIENCE).expect("alone");
    let other = LeaderLatch::start(&others, "/election", b"b").expect("started");
    super::support::wait_until("two in line", || latch.candidates().expect("a list").len() == 2);
    place.end_session(&sessions.current().expect("a session"));
    assert_eq!(latch.role_after(&Role::Leader(token), PATIENCE).leads(), None);
    let second = other.until_leader(PATIENCE).expect("next");
    assert!(second > token);
    super::support::wait_until("it is in line again", || other.candidates() == Ok(vec![b"b".to_vec(), b"a".to_vec()]));
    let client = place.client();
    let mut names = client.children("/election").expect("there");
    names.sort_by_key(|name| name[name.len() - 10..].to_owned());
    client.delete(&format!("/election/{}", names[0])).expect("by hand");
    assert!(latch.until_leader(PATIENCE).expect("next") > second);
    assert_eq!(other.role_after(&Role::Leader(second), PATIENCE), Role::Follower);
}

#[test]
fn a_leader_that_is_cut_off_for_a_moment_leads_on_in_the_same_epoch() {
    let place = Place::new();
    let (tell, told) = mpsc::channel();
    let sessions = Sessions::new(super::builder(&place.proxy.address.to_string()));
    let latch = LeaderLatch::start_with(&sessions, "/election", b"a", move |role| tell.send(role.clone()).expect("somebody listens"))
        .expect("started");
    let token = latch.until_leader(PATIENCE).expect("alone");
    place.proxy.cut(zoo::proto::OpCode::GetChildren2, super::proxy::Cut::Request);
    assert_eq!(latch.candidates().map(|all| all.len()), Ok(1), "asked again");
    let roles: Vec<_> = (0..3).map(|_| told.recv_timeout(PATIENCE).expect("told")).collect();
    assert_eq!(roles, [Role::Leader(token), Role::Suspended(token), Role::Leader(token)]);
    assert_eq!(latch.until_leader(PATIENCE), Ok(token));
}

#[test]
fn a_selector_leads_by_a_function_and_lines_up_behind_the_others() {
    let place = Place::new();
    let sessions = place.sessions();
    let (ran, runs) = mpsc::channel();
    let blocker = Mutex::new(&place.client(), "/election").lock().expect("free");
    let threads: Vec<_> = (0..2)
        .map(|i| {
            let (selector, ran) = (LeaderSelector::new(&sessions, "/election", &[i]), ran.clone());
            std::thread::spawn(move || {
                let mut left = 3;
                selector.run(|leadership| {
                    leadership.transaction().commit().expect("it leads");
                    ran.send((leadership.token(), i)).expect("they are counted");
                    left -= 1;
                    if left == 0 { Then::Stop } else { Then::Again }
                })
            })
        })
        .collect();
    super::support::wait_until("both are in line", || place.client().children("/election").expect("there").len() == 3);
    blocker.release().expect("released");
    threads.into_iter().for_each(|thread| assert_eq!(thread.join().expect("no panic"), Ok(())));
    let all: Vec<_> = runs.try_iter().collect();
    assert_eq!(all.len(), 6);
    assert!(all.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 != w[1].1), "in turns: {all:?}");
}

#[test]
fn a_leading_function_is_told_of_the_end_and_stop_ends_it_wherever_it_is() {
    let place = Place::new();
    let sessions = place.sessions();
    let selector = LeaderSelector::new(&sessions, "/election", b"a");
    let terms = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let runs = scope.spawn(|| {
            selector.run(|leadership| {
                terms.fetch_add(1, Ordering::SeqCst);
                assert!(leadership.is_over_within(PATIENCE));
                Then::Again
            })
        });
        super::support::wait_until("it leads", || terms.load(Ordering::SeqCst) == 1);
        place.end_session(&sessions.current().expect("a session"));
        super::support::wait_until("it leads again", || terms.load(Ordering::SeqCst) == 2);
        selector.stop();
        assert_eq!(runs.join().expect("no panic"), Ok(()));
    });
    let blocker = Mutex::new(&place.client(), "/election").lock_for(PATIENCE).expect("free");
    let waiting = Arc::new(LeaderSelector::new(&sessions, "/election", b"a"));
    let runs = std::thread::spawn({
        let waiting = waiting.clone();
        move || waiting.run(|_| Then::Again)
    });
    super::support::wait_until("it is in line", || place.client().children("/election").expect("there").len() == 2);
    waiting.stop();
    assert_eq!(runs.join().expect("no panic"), Ok(()));
    blocker.release().expect("released");
}

/// The order of what leaders wrote by `transaction` is that of their epochs, and each epoch is one candidate's.
#[test]
fn no_two_leaders_of_an_epoch_and_none_of_an_old_one_under_kills_pauses_and_lost_sessions() {
    no_two_leaders_of_an_epoch_and_none_of_an_old_one(Members::processes());
}

#[test]
fn no_two_leaders_of_an_epoch_and_none_of_an_old_one_under_partitions_and_lost_sessions() {
    no_two_leaders_of_an_epoch_and_none_of_an_old_one(Members::network());
}

fn no_two_leaders_of_an_epoch_and_none_of_an_old_one(members: Members) {
    let (client, written, _members) = trouble::during(members, 4, 0xe1ec, |trouble, i| {
        let sessions = Sessions::new(trouble.builder());
        let setup = sessions.current().expect("a client");
        while !trouble.is_over() && setup.ensure("/log").is_err() {}
        let latch = LeaderLatch::start(&sessions, "/election", &[i as u8]).expect("started");
        let (mut written, mut turns) = (0, 0);
        while !trouble.is_over() {
            if let Ok(client) = sessions.current() {
                trouble.may_drop(&client);
            }
            let Ok(token) = latch.until_leader(Duration::from_millis(200)) else { continue };
            let line = format!("{} {i}", token.0);
            let sent = latch.transaction(|t| t.create("/log/", line.as_bytes(), CreateMode::PersistentSequential).commit());
            written += u32::from(matches!(sent, Ok(Ok(_))));
            turns += 1;
            // Nobody leads for long: somebody clears the line now and then.
            if turns % 50 == 0 {
                let _ = sessions.current().map(|client| client.delete_all("/election"));
            }
        }
        drop(latch.stop());
        written
    });
    let mut names = client.children("/log").expect("there");
    names.sort_unstable();
    let lines: Vec<(i64, usize)> = names
        .iter()
        .map(|name| {
            let text = String::from_utf8(client.get(&format!("/log/{name}")).expect("there").0).expect("text");
            let (token, id) = text.split_once(' ').expect("two words");
            (token.parse().expect("a number"), id.parse().expect("a number"))
        })
        .collect();
    assert!(lines.windows(2).all(|w| w[0].0 < w[1].0 || w[0] == w[1]), "{lines:?}");
    let acknowledged: u32 = written.iter().sum();
    let epochs = lines.iter().map(|(token, _)| token).collect::<std::collections::BTreeSet<_>>().len();
    assert!(epochs > 1 && lines.len() >= acknowledged as usize, "{epochs} epochs, {} lines, {acknowledged} acknowledged", lines.len());
}

//! Every recipe, with its connection cut and its session ended at every one of its requests, in its place, or between what it did and the answer; and at
//! every event that it is told.
//!
//! Each is run through, from joining to leaving, over and over in places of their own, and once more directly afterwards, which shows that nothing stands
//! in the way of others. Whatever has an order or happens once is checked over both runs.
//!
//! Bugs that were put in to see whether this finds them, one at a time, and it did: a lost create repeated without looking for what the first has made; a lost
//! acknowledgement taken for granted, or repeated; a lost claim of an item not recognised; a lost count taken for granted, or repeated; a lost delete taken for
//! granted; watches not set again. A turn that is believed without looking at the line again is found by `locks`.

use super::proxy::Cut;
use super::support::wait_until;
use super::{PATIENCE, Place, builder};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;
use zoo::client::{self, CreateMode, Transaction, ZooClient};
use zoo::recipes::{
    Barrier, Cache, Counter, DoubleBarrier, Error, Freshness, Group, Held, LeaderLatch, LeaderSelector, Member, Mutex, PersistentNode,
    ReadWriteLock, Role, Semaphore, Sessions, Then, Token, WorkQueue,
};

/// Fewer than any needs.
const STEPS_MIN: usize = 3;
/// More requests than any recipe needs for one run.
const STEPS_MAX: usize = 80;

/// Where a recipe is run through, and what came of it so far.
struct Stage<'a> {
    /// What it connects to.
    servers: String,
    /// Everybody else.
    direct: &'a ZooClient,
    path: String,
    /// Different in each run.
    name: &'static str,
    tally: &'a StdMutex<Tally>,
}

/// What happened, what may have, and how often.
#[derive(Default, Debug)]
struct Tally {
    begun: Vec<String>,
    done: Vec<String>,
    uncertain: Vec<String>,
}

impl Stage<'_> {
    fn client(&self) -> ZooClient {
        builder(&self.servers).connect().expect("a session")
    }

    fn sessions(&self) -> Sessions {
        Sessions::new(builder(&self.servers))
    }

    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how something ended that must not happen twice.
    fn note<T>(&self, what: &str, ended: Result<T, Error>) -> Result<T, Error> {
        let mut tally = self.tally();
        match &ended {
            Ok(_) => tally.done.push(what.to_owned()),
            Err(_) => tally.uncertain.push(what.to_owned()),
        }
        drop(tally);
        ended
    }

    /// Adds a line to a log as somebody who holds something: only while it is held.
    fn write(&self, transaction: Transaction<'_>, token: Token) -> Result<(), Error> {
        let line = token.0.to_string();
        match transaction.create(&self.at("log/"), line.as_bytes(), CreateMode::PersistentSequential).commit() {
            // It is not repeated for the caller, who knows why.
            Ok(_) | Err(client::Error::ConnectionLoss | client::Error::NotSent) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }

    fn use_and_release(&self, held: Held) -> Result<Token, Error> {
        let (token, path) = (held.token(), held.path());
        self.write(held.transaction(), token)?;
        held.confirm()?;
        held.release()?;
        // The session lives on: it is not its end that has released it.
        assert_eq!(self.direct.exists(&path), Ok(None), "released");
        Ok(token)
    }

    /// Nobody has written after somebody who came later.
    fn log_is_in_order(&self) {
        let client = self.direct;
        let mut names = client.children(&self.at("log")).expect("there");
        names.sort_unstable();
        let read = |name: &String| String::from_utf8(client.get(&self.at(&format!("log/{name}"))).expect("there").0).expect("text");
        let tokens: Vec<i64> = names.iter().map(|name| read(name).parse().expect("a number")).collect();
        assert!(tokens.is_sorted() && !tokens.is_empty(), "{}: {tokens:?}", self.path);
    }

    fn is_empty(&self, name: &str) {
        let path = self.at(name);
        wait_until("nobody is left", || self.direct.children(&path).map_or(true, |names| names.is_empty()));
    }
}

/// Is a recipe's run over when its session is?
#[derive(Clone, Copy, PartialEq, Eq)]
enum WithItsSession {
    Ends,
    GoesOn,
}

fn at_every_step(what: WithItsSession, run: impl Fn(&Stage<'_>) -> Result<(), Error>, check: impl Fn(&Stage<'_>)) {
    let place = Place::new();
    let direct = place.client();
    for cut in Cut::ALL {
        for step in 0.. {
            let (tally, path) = (StdMutex::default(), format!("/{cut:?}-{step}"));
            let stage = |servers: String, name| Stage { servers, direct: &direct, path: path.clone(), name, tally: &tally };
            direct.ensure(&format!("{path}/log")).expect("made");
            place.proxy.cut_behind(step, cut);
            let ended = run(&stage(place.proxy.address.to_string(), "first"));
            let was_cut = place.proxy.has_cut();
            match ended {
                Ok(()) => {}
                Err(why) if why.session_is_over() && cut.ends_the_session() && was_cut && what == WithItsSession::Ends => {}
                Err(why) => panic!("{cut:?} at step {step}: {why}"),
            }
            let second = stage(place.server.address.to_string(), "second");
            run(&second).unwrap_or_else(|why| panic!("after {cut:?} at step {step}: {why}"));
            check(&second);
            if !was_cut {
                assert!(step >= STEPS_MIN || cut.is_of_an_event(), "{cut:?}: only {step} steps were cut");
                break; // the end of its steps
            }
            assert!(step < STEPS_MAX, "{cut:?}: it comes to no end");
        }
    }
}

#[test]
fn a_mutex_is_held_or_free_wherever_it_is_cut() {
    let run = |stage: &Stage<'_>| stage.use_and_release(Mutex::new(&stage.client(), &stage.at("lock")).lock_for(PATIENCE)?).map(drop);
    at_every_step(WithItsSession::Ends, run, |stage| {
        stage.log_is_in_order();
        stage.is_empty("lock");
    });
}

#[test]
fn a_mutex_that_is_waited_for_comes_to_its_turn_wherever_it_is_cut() {
    let run = |stage: &Stage<'_>| {
        let client = stage.client();
        let before = Mutex::new(stage.direct, &stage.at("lock")).lock_for(PATIENCE)?;
        let token = before.token();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| stage.use_and_release(Mutex::new(&client, &stage.at("lock")).lock_for(PATIENCE)?));
            let in_line = || waits.is_finished() || stage.direct.children(&stage.at("lock")).expect("there").len() > 1;
            wait_until("it is in line, or gone", in_line);
            stage.use_and_release(before)?;
            assert!(waits.join().expect("no panic")? > token);
            Ok(())
        })
    };
    at_every_step(WithItsSession::Ends, run, |stage| {
        stage.log_is_in_order();
        stage.is_empty("lock");
    });
}

#[test]
fn a_read_write_lock_is_held_or_free_wherever_it_is_cut() {
    let run = |stage: &Stage<'_>| {
        let lock = ReadWriteLock::new(&stage.client(), &stage.at("lock"));
        let (one, two) = (lock.read_for(PATIENCE)?, lock.read_for(PATIENCE)?);
        let shared = stage.use_and_release(two)?;
        one.release()?;
        assert!(stage.use_and_release(lock.write_for(PATIENCE)?)? > shared);
        Ok(())
    };
    at_every_step(WithItsSession::Ends, run, |stage| {
        stage.log_is_in_order();
        stage.is_empty("lock");
    });
}

#[test]
fn a_semaphore_loses_no_lease_wherever_it_is_cut() {
    let run = |stage: &Stage<'_>| {
        let semaphore = Semaphore::new(&stage.client(), &stage.at("two"), 2);
        let (one, two) = (semaphore.acquire_for(PATIENCE)?, semaphore.acquire_for(PATIENCE)?);
        assert!(semaphore.try_acquire()?.is_none(), "there are two");
        one.release()?;
        stage.use_and_release(two).map(drop)
    };
    at_every_step(WithItsSession::Ends, run, |stage| {
        stage.log_is_in_order();
        stage.is_empty("two/leases");
        stage.is_empty("two/locks");
    });
}

#[test]
fn a_queue_neither_loses_nor_doubles_an_item_wherever_it_is_cut() {
    let run = |stage: &Stage<'_>| {
        let client = stage.client();
        let queue = WorkQueue::open(&client, &stage.at("queue"))?;
        for number in 0..2 {
            let item = format!("{}-{number}", stage.name);
            let put = queue.put(item.as_bytes());
            let mut tally = stage.tally();
            if put.is_ok() { &mut tally.begun } else { &mut tally.uncertain }.push(item);
            drop(tally);
            put?;
        }
        while let Some(taken) = queue.try_take()? {
            let item = String::from_utf8_lossy(taken.item()).into_owned();
            // The result of an item appears once, with its acknowledgement.
            let result = stage.at(&format!("log/{item}"));
            stage.note(&item, taken.acknowledge_with(|t| t.create(&result, b"", CreateMode::Persistent)))?;
        }
        // Nothing waits for the end of the session either.
        assert_eq!(stage.direct.children(&stage.at("queue/entries")), Ok(vec![]));
        Ok(())
    };
    at_every_step(WithItsSession::Ends, run, |stage| {
        // What the session's end has given back is there at once, for it was ended by the servers.
        stage.is_empty("queue/entries");
        let tally = stage.tally();
        let mut done = tally.done.clone();
        done.sort_unstable();
        done.dedup();
        assert_eq!(done.len(), tally.done.len(), "acknowledged twice: {tally:?}");
        let results = stage.direct.children(&stage.at("log")).expect("there");
        assert!(tally.done.iter().chain(&tally.begun).all(|item| results.contains(item)), "lost: {tally:?}, {results:?}");
        assert!(results.iter().all(|item| tally.done.contains(item) || tally.uncertain.contains(item)), "{tally:?}, {results:?}");
    });
}

#[test]
fn a_counter_counts_once_wherever_it_is_cut() {
    let run = |stage: &Stage<'_>| {
        let counter = Counter::open(&stage.client(), &stage.at("count"))?;
        let first = stage.note("added", counter.add(1))?;
        assert!(stage.note("added", counter.compare_and_set(first, first + 1))?, "nobody else changes it");
        Ok(())
    };
    at_every_step(WithItsSession::Ends, run, |stage| {
        let value = Counter::open(stage.direct, &stage.at("count")).and_then(|counter| counter.get()).expect("a number") as usize;
        let tally = stage.tally();
        assert!((tally.done.len()..=tally.done.len() + tally.uncertain.len()).contains(&value), "{value}, {tally:?}");
    });
}

#[test]
fn a_barrier_is_open_or_closed_wherever_it_is_cut() {
    let run = |stage: &Stage<'_>| {
        let barrier = Barrier::new(&stage.client(), &stage.at("barrier"));
        barrier.close()?;
        barrier.open()?;
        barrier.pass_for(PATIENCE)
    };
    at_every_step(WithItsSession::Ends, run, |stage| assert_eq!(stage.direct.exists(&stage.at("barrier")), Ok(None)));
}

#[test]
fn a_double_barrier_lets_its_members_in_and_out_together_wherever_one_is_cut() {
    let run = |stage: &Stage<'_>| {
        let client = stage.client();
        let (mine, its) = (DoubleBarrier::new(&client, &stage.at("gate"), 2), DoubleBarrier::new(stage.direct, &stage.at("gate"), 2));
        let is_over = AtomicBool::new(false);
        let partner = || {
            // Whoever's partner vanishes comes again.
            while !is_over.load(Ordering::Relaxed) {
                match its.enter_for(Duration::from_millis(500)) {
                    Ok(inside) => inside.leave_for(PATIENCE).expect("a member whose session has ended has left"),
                    Err(why) => assert_eq!(why, Error::TimedOut),
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(partner);
            let ended = mine.enter_for(PATIENCE).and_then(|inside| inside.leave_for(PATIENCE));
            is_over.store(true, Ordering::Relaxed);
            ended
        })
    };
    at_every_step(WithItsSession::Ends, run, |stage| stage.is_empty("gate"));
}

#[test]
fn a_latch_leads_one_epoch_at_a_time_wherever_it_is_cut() {
    let run = |stage: &Stage<'_>| {
        let latch = LeaderLatch::start(&stage.sessions(), &stage.at("election"), stage.name.as_bytes())?;
        loop {
            let token = latch.until_leader(PATIENCE)?;
            // It may lead no more by the time of the write, which then does not happen.
            match latch.transaction(|transaction| stage.write(transaction, token)) {
                Ok(Ok(())) => break,
                Err(Error::Lost) => {}
                Ok(Err(why)) if why.session_is_over() => drop(latch.role_after(&Role::Leader(token), PATIENCE)),
                Ok(Err(why)) | Err(why) => return Err(why),
            }
        }
        latch.stop()
    };
    at_every_step(WithItsSession::GoesOn, run, |stage| {
        stage.log_is_in_order();
        stage.is_empty("election");
    });
}

#[test]
fn a_selector_leads_one_epoch_at_a_time_wherever_it_is_cut() {
    let run = |stage: &Stage<'_>| {
        let selector = LeaderSelector::new(&stage.sessions(), &stage.at("election"), stage.name.as_bytes());
        selector.run(|leadership| match stage.write(leadership.transaction(), leadership.token()) {
            Ok(()) => Then::Stop,
            Err(why) => {
                assert!(why.session_is_over(), "{why}");
                Then::Again
            }
        })
    };
    at_every_step(WithItsSession::GoesOn, run, |stage| {
        stage.log_is_in_order();
        stage.is_empty("election");
    });
}

#[test]
fn a_persistent_node_is_there_with_its_data_wherever_it_is_cut() {
    let run = |stage: &Stage<'_>| {
        let node = PersistentNode::start(&stage.sessions(), &stage.at("mine/node"), b"one")?;
        node.until_there(PATIENCE)?;
        node.set_data(b"two")?;
        let has = |data: &[u8]| stage.direct.get(&stage.at("mine/node")).is_ok_and(|(found, _)| found == data);
        wait_until("it says what it was told last", || has(b"two"));
        node.stop()
    };
    at_every_step(WithItsSession::GoesOn, run, |stage| stage.is_empty("mine"));
}

#[test]
fn a_member_is_listed_until_it_leaves_wherever_it_is_cut() {
    let run = |stage: &Stage<'_>| {
        let group = Group::new(&stage.sessions(), &stage.at("group"));
        let (member, roster) = (group.join(Member::new("a", "a:1"))?, group.roster()?);
        member.until_listed(PATIENCE)?;
        member.report_load(3)?;
        roster.until(PATIENCE, |members| members.iter().any(|member| member.load == 3))?;
        member.leave()?;
        roster.until(PATIENCE, <[Member]>::is_empty).map(drop)
    };
    at_every_step(WithItsSession::GoesOn, run, |stage| stage.is_empty("group"));
}

#[test]
fn a_copy_catches_up_wherever_it_is_cut() {
    let run = |stage: &Stage<'_>| {
        let cache = Cache::start(&stage.sessions(), &stage.at("config"))?;
        cache.until(PATIENCE, |_| true)?;
        for name in ["a", "b"] {
            let path = stage.at(&format!("config/{}-{name}", stage.name));
            stage.direct.create_all(&path, name.as_bytes(), CreateMode::Persistent)?;
            cache.until(PATIENCE, |seen| seen.get(&path).is_some_and(|node| node.data == name.as_bytes()))?;
            stage.direct.delete(&path)?;
            cache.until(PATIENCE, |seen| seen.get(&path).is_none())?;
        }
        wait_until("nothing is missing", || cache.freshness() == Freshness::Current);
        Ok(())
    };
    at_every_step(WithItsSession::GoesOn, run, |_| {});
}

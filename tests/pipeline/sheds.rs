//! Connections that are closed so that their clients go to other servers: none of them loses anything.

use super::driver::{Setup, World, again};

/// Whoever has been silent for so long may be closed.
const IDLE_MS: u64 = 500;

fn closed(w: &World) -> Vec<bool> {
    w.clients.iter().map(|client| client.closed).collect()
}

#[test]
fn those_silent_for_longest_go_first_and_no_more_than_were_asked_for() {
    let mut w = World::new(Setup::default());
    for _ in 0..3 {
        w.connect(0);
        w.pass(300);
    }
    w.shed(0, 1, IDLE_MS);
    assert_eq!(closed(&w), [true, false, false]);
    w.shed(0, 10, IDLE_MS);
    assert_eq!(closed(&w), [true, true, false], "the last one was heard from lately");
    assert_eq!(w.shards[0].shard.shed_so_far(), 2);
}

#[test]
fn a_connection_with_anything_unanswered_unread_or_untaken_stays() {
    let mut w = World::new(Setup::default());
    let ((asking, _), (sending, _), (deaf, _), (idle, _)) = (w.connect(0), w.connect(0), w.connect(0), w.connect(0));
    w.create(idle, "/n", "1", 0);
    w.settle();
    w.clients[deaf].deaf = true;
    w.get(deaf, "/n", false);
    w.settle();
    w.pass(1_000);
    w.create(asking, "/asked", "", 0);
    w.deliver(asking, usize::MAX);
    w.now = w.now.plus_ms(1_000);
    // It is in the socket, and the server has not looked yet.
    w.create(sending, "/sent", "", 0);
    w.shed(0, 10, IDLE_MS);
    assert_eq!(closed(&w), [false, false, false, true]);
    w.listen(deaf);
    w.settle();
    assert_eq!([asking, sending, deaf].map(|client| w.replies(client).iter().filter(|(_, _, err)| *err == 0).count()), [1, 1, 1]);
    w.pass(1_000);
    w.shed(0, 10, IDLE_MS);
    assert_eq!(closed(&w), [true; 4], "nothing holds them any more");
}

#[test]
fn the_session_of_a_closed_connection_has_all_of_its_time_to_go_on() {
    let mut w = World::new(Setup::default());
    let (client, session) = w.connect(0);
    w.create(client, "/ephemeral", "", 1);
    w.settle();
    let timeout_ms = u64::try_from(session.timeout_ms).expect("positive");
    w.pass(timeout_ms * 3 / 4);
    w.shed(0, 1, IDLE_MS);
    assert!(w.clients[client].closed);
    w.pass(timeout_ms * 3 / 4);
    let (back, response) = w.connect_with(0, &again(&session));
    assert_eq!(response.session, session.session, "it goes on");
    w.get(back, "/ephemeral", false);
    w.settle();
    assert!(matches!(w.replies(back)[..], [(_, _, 0)]), "and its ephemeral with it");
}

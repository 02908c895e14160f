//! Two producers, four consumers, one of which dies again and again at its work: `cargo run --example work_queue [SERVERS]`, beside a server such as
//! `cargo run --release`. Ends by saying what it has proved.

use std::error::Error;
use std::time::Duration;
use zoo::client::{CreateMode, ZooClient};
use zoo::recipes::{Error as RecipeError, WorkQueue};

const ROOT: &str = "/examples/work";
const PRODUCERS: usize = 2;
const CONSUMERS: usize = 4;
const ITEMS: usize = 100;
/// After so long without an item a consumer looks whether all is done.
const PATIENCE: Duration = Duration::from_millis(300);

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    run(&std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2181".into()))
}

fn produce(servers: &str, producer: usize) -> Result<(), Failure> {
    let client = ZooClient::connect(servers)?;
    let queue = WorkQueue::open(&client, &format!("{ROOT}/queue"))?;
    for i in 0..ITEMS {
        queue.put(format!("item-{producer}-{i}").as_bytes())?;
    }
    Ok(())
}

/// Works until every item has a result; `deaths` times it vanishes with an item in its hands.
fn consume(servers: &str, mut deaths: usize) -> Result<(), Failure> {
    loop {
        let client = ZooClient::builder(servers).session_timeout(Duration::from_secs(4)).connect()?;
        let queue = WorkQueue::open(&client, &format!("{ROOT}/queue"))?;
        loop {
            let taken = match queue.take_for(PATIENCE) {
                Ok(taken) => taken,
                Err(RecipeError::TimedOut) if client.children(&format!("{ROOT}/results"))?.len() == PRODUCERS * ITEMS => return Ok(()),
                Err(RecipeError::TimedOut) => continue,
                Err(why) => return Err(why.into()),
            };
            if deaths > 0 {
                deaths -= 1;
                client.abandon();
                break;
            }
            // The result appears with the acknowledgement, or neither does: a second result of the same item would be refused.
            let result = format!("{ROOT}/results/{}", String::from_utf8_lossy(taken.item()));
            taken.acknowledge_with(|transaction| transaction.create(&result, b"done", CreateMode::Persistent))?;
        }
    }
}

/// Everything, at these servers.
pub fn run(servers: &str) -> Result<(), Failure> {
    let client = ZooClient::connect(servers)?;
    client.delete_all(ROOT)?;
    client.ensure(&format!("{ROOT}/results"))?;
    std::thread::scope(|scope| {
        let producers = (0..PRODUCERS).map(|i| scope.spawn(move || produce(servers, i))).collect::<Vec<_>>();
        let consumers = (0..CONSUMERS).map(|i| scope.spawn(move || consume(servers, if i == 0 { 3 } else { 0 }))).collect::<Vec<_>>();
        producers.into_iter().chain(consumers).try_for_each(|thread| thread.join().map_err(|_| "a thread has panicked")?)
    })?;
    let queue = WorkQueue::open(&client, &format!("{ROOT}/queue"))?;
    proves(queue.count()? == 0, "the queue is empty");
    let results = client.children(&format!("{ROOT}/results"))?;
    proves(results.len() == PRODUCERS * ITEMS, "every item has its result, also those whose consumer died");
    let all_once = results.iter().all(|name| client.get(&format!("{ROOT}/results/{name}")).is_ok_and(|(_, stat)| stat.version == 0));
    proves(all_once, "and no item has two");
    client.delete_all(ROOT)?;
    Ok(())
}

fn proves(holds: bool, what: &str) {
    assert!(holds, "not so: {what}");
    println!("proved: {what}");
}

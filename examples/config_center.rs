//! One administrator and three services whose configuration changes while they run: `cargo run --example config_center [SERVERS]`, beside a server such as
//! `cargo run --release`. Ends by saying what it has proved.

use std::error::Error;
use std::sync::mpsc;
use std::time::Duration;
use zoo::client::{CreateMode, ZooClient};
use zoo::recipes::{Cache, Sessions, Snapshot};

const ROOT: &str = "/examples/config";
const SERVICES: usize = 3;
const CHANGES: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    run(&std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2181".into()))
}

fn value(config: &Snapshot, name: &str) -> Option<u32> {
    String::from_utf8_lossy(&config.get(&format!("{ROOT}/{name}"))?.data).parse().ok()
}

/// Everything, at these servers.
pub fn run(servers: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let admin = ZooClient::connect(servers)?;
    admin.delete_all(ROOT)?;
    admin.ensure(ROOT)?;
    let (tell, told) = mpsc::channel();
    let services = (0..SERVICES)
        .map(|i| {
            let tell = tell.clone();
            // What a service does with a new configuration happens here.
            let listener = move |config: &Snapshot, _: &[_]| drop(tell.send((i, config.clone())));
            Cache::start_with(&Sessions::new(ZooClient::builder(servers)), ROOT, listener)
        })
        .collect::<Result<Vec<_>, _>>()?;
    for service in &services {
        service.until(PATIENCE, |_| true)?;
    }

    admin.create(&format!("{ROOT}/threads"), b"0", CreateMode::Persistent)?;
    admin.create(&format!("{ROOT}/connections"), b"0", CreateMode::Persistent)?;
    for i in 1..=CHANGES {
        // Ten connections for each thread: together or not at all.
        let (threads, connections) = (i.to_string(), (10 * i).to_string());
        let change = admin.transaction().set(&format!("{ROOT}/threads"), threads.as_bytes());
        change.set(&format!("{ROOT}/connections"), connections.as_bytes()).commit()?;
    }
    for service in &services {
        service.until(PATIENCE, |config| value(config, "threads") == Some(CHANGES))?;
    }
    proves(true, "every service has the last configuration, without asking for it");
    drop(services);

    let seen: Vec<_> = told.try_iter().collect();
    let pairs: Vec<_> = seen.iter().filter_map(|(i, c)| Some((*i, value(c, "threads")?, value(c, "connections")?))).collect();
    proves(pairs.iter().all(|(_, threads, connections)| *connections == 10 * threads), "nobody has ever seen half a change");
    let grows = |i| pairs.iter().filter(|(service, ..)| *service == i).map(|(_, threads, _)| *threads).is_sorted();
    proves((0..SERVICES).all(grows), "nobody has ever gone back to an older one");
    println!("{} configurations were seen by {SERVICES} services in {CHANGES} changes", pairs.len());
    admin.delete_all(ROOT)?;
    Ok(())
}

fn proves(holds: bool, what: &str) {
    assert!(holds, "not so: {what}");
    println!("proved: {what}");
}

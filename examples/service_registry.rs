//! Instances of a service that come, go and die, and a caller that always knows whom to ask: `cargo run --example service_registry [SERVERS]`, beside a server
//! such as `cargo run --release`. Ends by saying what it has proved.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;
use zoo::client::ZooClient;
use zoo::recipes::{Group, Member, Pick, Sessions};

const SERVICE: &str = "/examples/services/thumbnails";
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    run(&std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2181".into()))
}

/// Everything, at these servers.
pub fn run(servers: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let sessions = || Sessions::new(ZooClient::builder(servers).session_timeout(Duration::from_secs(4)));
    let caller = Group::new(&sessions(), SERVICE).roster()?;
    // Each instance is a process of its own in real life, with its own session.
    let places: Vec<_> = (0..3).map(|_| sessions()).collect();
    let join = |i: usize| Group::new(&places[i], SERVICE).join(Member::new(&format!("instance-{i}"), &format!("10.0.0.{i}:80")));
    let mut instances = (0..3).map(join).collect::<Result<Vec<_>, _>>()?;
    caller.until(PATIENCE, |members| members.len() == 3)?;
    proves(true, "whoever registers is found");

    let asked: BTreeSet<_> = (0..3).filter_map(|_| caller.pick(Pick::RoundRobin)).map(|member| member.address).collect();
    proves(asked.len() == 3, "calls go round");
    instances[0].report_load(10)?;
    instances[1].report_load(10)?;
    caller.until(PATIENCE, |members| members.iter().filter(|member| member.load == 10).count() == 2)?;
    proves(caller.pick(Pick::LeastLoaded).is_some_and(|member| member.id == "instance-2"), "or to whoever is the least busy");
    let users: Vec<String> = (0..100).map(|i| format!("user-{i}")).collect();
    let homes = || users.iter().map(|user| caller.pick(Pick::Sticky(user)).map(|member| member.id)).collect::<Vec<_>>();
    let before = homes();
    proves(before == homes(), "or to the same instance for the same user");

    if let Some(last) = instances.pop() {
        last.leave()?;
    }
    caller.until(PATIENCE, |members| members.len() == 2)?;
    let moved = before.iter().zip(homes()).filter(|(was, is)| **was != *is).all(|(was, _)| was.as_deref() == Some("instance-2"));
    proves(moved, "when an instance goes, only its own users move");

    places[1].current()?.abandon();
    caller.until(PATIENCE, |members| members.len() == 1 && members[0].id == "instance-0")?;
    proves(true, "an instance that dies without a word is gone after its session's timeout");
    Ok(())
}

fn proves(holds: bool, what: &str) {
    assert!(holds, "not so: {what}");
    println!("proved: {what}");
}

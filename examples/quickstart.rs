//! A server and its client in one program: `cargo run --example quickstart`. Ends by saying what it has proved.

use std::error::Error;
use std::time::Instant;
use zoo::client::{CreateMode, EventType, SessionState, ZooClient};
use zoo::server::ZooServer;

fn main() -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let mut server = ZooServer::start()?;
    println!("a server is ready on {} after {:.1?}, with its data in {}", server.host(), began.elapsed(), server.data_dir().display());

    let client = ZooClient::connect(server.host())?;
    client.send("create", "/test", "")?;
    let (_, _, mut change) = client.get_and_watch("/test")?;
    client.send("set", "/test", "hello")?;
    let event = change.wait();
    proves(event.is_some_and(|e| e.kind == EventType::NodeDataChanged && e.path == "/test"), "a watch tells of a change");
    let (data, stat) = client.get("/test")?;
    proves(data == b"hello" && stat.version == 1, "what was set is what is read");

    client.create("/here", b"", CreateMode::Ephemeral)?;
    server.kill()?;
    server.restart()?;
    proves(client.get("/test")?.0 == b"hello", "a server that was killed comes back with everything it had acknowledged");
    proves(client.exists("/here")?.is_some() && client.state() == SessionState::Connected, "the client's session has outlived it");

    client.close()?;
    let other = ZooClient::connect(server.host())?;
    proves(other.exists("/here")?.is_none(), "what was ephemeral went with its session");
    let dir = server.data_dir().to_owned();
    drop((other, server));
    proves(!dir.exists(), "nothing is left behind");
    Ok(())
}

fn proves(holds: bool, what: &str) {
    assert!(holds, "not so: {what}");
    println!("proved: {what}");
}

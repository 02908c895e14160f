//! The recipes against real servers: what they promise, under lost answers, dropped sessions, servers that are killed and servers that stand still.
#![allow(missing_docs)]

#[path = "../support/cluster.rs"]
mod ensemble;
#[path = "../support/mod.rs"]
mod support;

mod caches;
mod elections;
mod examples;
mod gates;
mod groups;
mod locks;
mod others;
mod proxy;
mod queues;
mod refusals;
mod steps;
mod trouble;

use proxy::Proxy;
use std::net::SocketAddr;
use std::time::Duration;
use support::{RawClient, ServerProcess, temp_dir};
use zoo::base::SessionId;
use zoo::client::{Builder, ZooClient};
use zoo::proto::OpCode;
use zoo::proto::connect::Password;
use zoo::recipes::Sessions;

/// Longer than anything takes when it works.
const PATIENCE: Duration = Duration::from_secs(60);

/// One server, and a proxy in front of it.
struct Place {
    _dir: tempfile::TempDir,
    server: ServerProcess,
    proxy: Proxy,
}

impl Place {
    fn new() -> Self {
        let dir = temp_dir();
        // Empty containers stay, however long a test takes.
        let settings = ["tickTime=200", "maxSessionTimeout=60000", "maxClientCnxns=0", "znode.container.checkIntervalMs=3600000"];
        let server = ServerProcess::start(dir.path(), 1, &settings);
        let proxy = Proxy::to(server.address);
        Place { _dir: dir, server, proxy }
    }

    fn client(&self) -> ZooClient {
        self.builder().connect().expect("a session")
    }

    fn builder(&self) -> Builder {
        builder(&self.server.address.to_string())
    }

    /// By way of the proxy.
    fn counted(&self) -> ZooClient {
        builder(&self.proxy.address.to_string()).connect().expect("a session")
    }

    fn sessions(&self) -> Sessions {
        Sessions::new(self.builder())
    }

    fn end_session(&self, client: &ZooClient) {
        end_session(self.server.address, SessionId(client.session_id()), client.session_password());
    }
}

fn builder(servers: &str) -> Builder {
    ZooClient::builder(servers).session_timeout(Duration::from_secs(20))
}

/// Ends a session behind its client's back, if the server serves.
fn end_session(at: SocketAddr, id: SessionId, password: Password) {
    if let Ok(Some(mut thief)) = RawClient::try_attach(at, id, password, 20_000) {
        let _ = thief.send(OpCode::CloseSession, &[]).and_then(|_| thief.reply());
    }
}

//! Ports that move with the configuration: where other servers find this one, and where its clients do.

use super::Members;
use super::queue::LocalQueue;
use crate::base::PeerId;
use crate::reactor::on_thread;
use crate::zab::membership::{Member, MemberAddress};
use glommio::TaskQueueHandle;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Binds a port of a host's; may wait.
pub type Bind = Arc<dyn Fn(&str, u16) -> io::Result<TcpListener> + Send + Sync>;
/// Where clients are to be listened to from now on, or that they are not.
pub type ClientMoves = LocalQueue<Option<(String, u16)>>;

/// Between two attempts to bind a port that is still taken, or of a host that is not known yet.
const BIND_PAUSE: Duration = Duration::from_secs(1);

/// Binds a port, however long that takes.
pub async fn bind_in_time(bind: &Bind, host: &str, port: u16) -> TcpListener {
    loop {
        let (thread_bind, thread_host) = (bind.clone(), host.to_owned());
        let bound = on_thread("zoo-listen", move || thread_bind(&thread_host, port)).await;
        match bound.and_then(|bound| bound) {
            Ok(listener) => return listener,
            Err(e) => tracing::warn!("cannot listen on {host}:{port}, where the configuration has this server now: {e}"),
        }
        glommio::timer::sleep(BIND_PAUSE).await;
    }
}

/// What becomes of a listener.
type Serve = Rc<dyn Fn(TcpListener) -> Pin<Box<dyn Future<Output = ()>>>>;

/// The listeners of one kind of port, by address. A task that is dropped ends.
pub struct Listening {
    serve: Serve,
    queue: TaskQueueHandle,
    tasks: RefCell<BTreeMap<(String, u16), glommio::Task<()>>>,
}

impl Listening {
    /// On none yet; `serve` takes what connects.
    pub fn new(queue: TaskQueueHandle, serve: Serve) -> Self {
        Listening { serve, queue, tasks: RefCell::default() }
    }

    /// On one that is bound.
    pub fn open(&self, at: (String, u16), listener: TcpListener) {
        self.spawn(at, (self.serve)(listener));
    }

    /// On just these from now on.
    fn move_to(&self, bind: &Bind, wanted: &[(String, u16)]) {
        self.tasks.borrow_mut().retain(|at, _| wanted.contains(at));
        for at in wanted {
            if self.tasks.borrow().contains_key(at) {
                continue;
            }
            let ((host, port), bind, serve) = (at.clone(), bind.clone(), self.serve.clone());
            let task = async move {
                let listener = bind_in_time(&bind, &host, port).await;
                tracing::info!("other servers find this one on {host}:{port}");
                serve(listener).await;
            };
            self.spawn(at.clone(), Box::pin(task));
        }
    }

    fn spawn(&self, at: (String, u16), task: Pin<Box<dyn Future<Output = ()>>>) {
        self.tasks.borrow_mut().insert(at, crate::reactor::spawn_into(task, self.queue));
    }

    /// Ends all of them.
    pub async fn stop(self) {
        for task in self.tasks.into_inner().into_values() {
            task.cancel().await;
        }
    }
}

/// All ports of a member.
pub struct Ports {
    me: PeerId,
    bind: Bind,
    election: Listening,
    quorum: Listening,
    /// Where its line has its clients.
    client: RefCell<Option<(String, u16)>>,
    /// Where they really connect, as long as no line has said anything else.
    listen: SocketAddr,
    /// What the acceptor is told.
    pub client_moves: Rc<ClientMoves>,
}

impl Ports {
    /// As the configuration file has them.
    pub fn new(me: PeerId, own: Option<&Member>, listen: SocketAddr, bind: Bind, [election, quorum]: [Listening; 2]) -> Self {
        let client = RefCell::new(own.and_then(|member| member.client.clone()));
        Ports { me, bind, election, quorum, client, listen, client_moves: Rc::default() }
    }

    /// Goes where these members have this server; one that is in no configuration stays where it is.
    pub fn follow(&self, members: &Members) {
        let Some(own) = members.get(&self.me) else { return };
        let at = |port: fn(&MemberAddress) -> u16| own.addresses.iter().map(|a| (a.host.clone(), port(a))).collect::<Vec<_>>();
        self.election.move_to(&self.bind, &at(|a| a.election_port));
        self.quorum.move_to(&self.bind, &at(|a| a.quorum_port));
        let before = self.client.replace(own.client.clone());
        let is_there = before.is_none() && own.client.as_ref().is_some_and(|client| means(client, self.listen));
        if before != own.client && !is_there {
            self.client_moves.push(own.client.clone());
        }
    }

    /// Ends all listeners.
    pub async fn stop(self) {
        self.election.stop().await;
        self.quorum.stop().await;
    }
}

/// Is this the address that is listened on?
fn means((host, port): &(String, u16), listen: SocketAddr) -> bool {
    let is_same = |ip: IpAddr| ip == listen.ip() || ip.is_unspecified() && listen.ip().is_unspecified();
    *port == listen.port() && host.parse().is_ok_and(is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_one_listened_on_when_both_mean_the_same() {
        let on = |listen: &str, host: &str, port| means(&(host.to_owned(), port), listen.parse().expect("an address"));
        assert!(on("[::]:2181", "0.0.0.0", 2181) && on("127.0.0.1:2181", "127.0.0.1", 2181));
        assert!(!on("[::]:2181", "0.0.0.0", 2182) && !on("[::]:2181", "127.0.0.1", 2181) && !on("127.0.0.1:2181", "host", 2181));
    }
}

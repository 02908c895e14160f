//! What is measured: one server, or several that form an ensemble, over which connections are spread.

use crate::host::{self, Memory};
use crate::workload::OpKind;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

/// One server or an ensemble.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Where it listens; never empty.
    addrs: Vec<SocketAddr>,
    /// Its processes, for CPU and memory; may be empty.
    pids: Vec<u32>,
    /// Its name in tables.
    pub label: String,
    /// What it can be asked, by name; everything when nothing is said.
    ops: Vec<String>,
    protocol: Protocol,
}

/// One server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Endpoint { addr, protocol: Protocol::default() }
    }
}

/// What a target speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// ZooKeeper's client protocol.
    #[default]
    ZooKeeper,
    /// etcd's, version 3, over gRPC.
    #[cfg(feature = "etcd")]
    Etcd,
}

/// What etcd is asked: it has neither znodes nor their watches.
#[cfg(feature = "etcd")]
const ETCD_OPS: [&str; 2] = ["get", "set"];
/// How [`Target::notifies`] is named among the operations.
const WATCH: &str = "watch";

impl Target {
    /// Of the servers at these addresses; `None` when there is none.
    pub fn new(addrs: Vec<SocketAddr>, pids: Vec<u32>, label: Option<String>) -> Option<Self> {
        let first = addrs.first()?;
        let label = label.unwrap_or_else(|| first.to_string());
        Some(Target { addrs, pids, label, ops: Vec::new(), protocol: Protocol::default() })
    }

    /// Every server.
    pub fn servers(&self) -> impl Iterator<Item = Endpoint> {
        (0..self.addrs.len()).map(|n| self.of_connection(n))
    }

    /// The server that prepares and cleans up.
    pub fn first(&self) -> Endpoint {
        self.of_connection(0)
    }

    /// The server of the n-th connection: each in turn.
    pub fn of_connection(&self, n: usize) -> Endpoint {
        Endpoint { addr: self.addrs[n % self.addrs.len()], protocol: self.protocol }
    }

    /// Does it take values of this size?
    #[cfg_attr(not(feature = "etcd"), expect(unused_variables, reason = "ZooKeeper's limit is a setting of the server"))]
    pub fn takes(&self, value_size: usize) -> bool {
        match self.protocol {
            Protocol::ZooKeeper => true,
            #[cfg(feature = "etcd")]
            Protocol::Etcd => value_size <= crate::etcd::VALUE_BYTES_MAX,
        }
    }

    /// Can it be asked this?
    pub fn does(&self, kind: OpKind) -> bool {
        self.does_all() || self.ops.iter().any(|op| op == kind.name())
    }

    /// Is it a whole server?
    pub fn does_all(&self) -> bool {
        self.ops.is_empty()
    }

    /// Does it tell those who watch a znode with getData that it changed?
    pub fn notifies(&self) -> bool {
        self.does_all() || self.ops.iter().any(|op| op == WATCH)
    }

    /// Are its processes known?
    pub fn has_pids(&self) -> bool {
        !self.pids.is_empty()
    }

    /// CPU time of all processes together; `None` when one of them is not known or gone.
    pub fn cpu_time(&self) -> Option<Duration> {
        let times: Option<Vec<Duration>> = self.pids.iter().map(|pid| host::cpu_time(*pid)).collect();
        times.filter(|t| !t.is_empty()).map(|t| t.iter().sum())
    }

    /// CPU time of their threads, for short windows.
    pub fn thread_cpu_times(&self) -> Vec<(u32, u64)> {
        self.pids.iter().flat_map(|pid| host::thread_cpu_times(*pid)).collect()
    }

    /// Memory of all processes together.
    pub fn memory(&self) -> Option<Memory> {
        let each: Option<Vec<Memory>> = self.pids.iter().map(|pid| host::memory(*pid)).collect();
        let sum = |each: Vec<Memory>| {
            each.iter().fold(Memory::default(), |sum, m| Memory {
                rss: sum.rss + m.rss,
                rss_anon: sum.rss_anon + m.rss_anon,
                rss_peak: sum.rss_peak + m.rss_peak,
            })
        };
        each.filter(|e| !e.is_empty()).map(sum)
    }
}

impl FromStr for Target {
    type Err = String;

    /// `host:port[,host:port…][,pid…][,label][,ops=get+set][,protocol=etcd]`: what has a colon is an address, what is a number a process.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not host:port[,host:port…][,pid…][,label][,ops=…][,protocol=…]");
        let (mut addrs, mut pids, mut label) = (Vec::new(), Vec::new(), None);
        let (mut ops, mut protocol) = (Vec::new(), Protocol::default());
        for part in text.split(',').map(str::trim) {
            match (part.parse::<u32>(), part.split_once('=')) {
                _ if part.is_empty() => return Err(wrong()),
                (Ok(pid), _) => pids.push(pid),
                (_, Some(("ops", names))) => ops = parse_ops(names)?,
                (_, Some(("protocol", name))) => protocol = name.parse()?,
                _ if part.contains(':') => addrs.push(parse_addr(part)?),
                _ if label.is_some() || part.contains('=') => return Err(wrong()),
                _ => label = Some(part.to_owned()),
            }
        }
        #[cfg(feature = "etcd")]
        if protocol == Protocol::Etcd {
            ops = ETCD_OPS.map(str::to_owned).to_vec();
        }
        let target = Target::new(addrs, pids, label).ok_or_else(wrong)?;
        Ok(Target { ops, protocol, ..target })
    }
}

fn parse_ops(names: &str) -> Result<Vec<String>, String> {
    let known = |name: &str| name == WATCH || OpKind::ALL.iter().any(|k| k.name() == name);
    match names.split('+').find(|name| !known(name)) {
        Some(name) => Err(format!("unknown operation {name:?} in {names:?}")),
        None => Ok(names.split('+').map(str::to_owned).collect()),
    }
}

impl FromStr for Protocol {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "zookeeper" => Ok(Protocol::ZooKeeper),
            #[cfg(feature = "etcd")]
            "etcd" => Ok(Protocol::Etcd),
            #[cfg(not(feature = "etcd"))]
            "etcd" => Err("this program was built without etcd: cargo build --release -p loadgen --features etcd".to_owned()),
            other => Err(format!("unknown protocol {other:?}; known: zookeeper, etcd")),
        }
    }
}

/// Resolves `host:port`.
pub fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|e| format!("{text:?}: {e}"))?;
    found.next().ok_or_else(|| format!("{text:?} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "etcd")]
    fn etcd_is_asked_for_values_of_a_size_it_takes_and_nothing_else() {
        let etcd: Target = "127.0.0.1:1,etcd,protocol=etcd".parse().expect("valid");
        assert!(etcd.does(OpKind::Get) && etcd.does(OpKind::Set) && !etcd.does(OpKind::Create) && !etcd.does_all());
        assert!(etcd.takes(1_024) && !etcd.takes(512 << 10));
    }

    #[test]
    fn a_target_takes_servers_processes_and_a_label_in_any_order_and_refuses_rubbish() {
        let t: Target = "127.0.0.1:2181,42,zoo".parse().expect("valid");
        assert_eq!((t.first().addr.port(), &t.pids[..], t.label.as_str()), (2181, &[42][..], "zoo"));
        let t: Target = "127.0.0.1:2181,java".parse().expect("valid");
        assert_eq!((t.has_pids(), t.label.as_str(), t.cpu_time(), t.memory()), (false, "java", None, None));
        assert_eq!("127.0.0.1:2181".parse::<Target>().expect("valid").label, "127.0.0.1:2181");
        for bad in [
            "",
            "127.0.0.1",
            "127.0.0.1:x",
            "127.0.0.1:1,a,b",
            "127.0.0.1:1,,",
            "42",
            "zoo",
            "127.0.0.1:1,ops=fly",
            "127.0.0.1:1,protocol=x",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_target_that_is_no_whole_server_is_asked_what_it_can_do() {
        let echo: Target = "127.0.0.1:1,echo,ops=get+watch".parse().expect("valid");
        assert!(echo.does(OpKind::Get) && !echo.does(OpKind::Set) && echo.notifies() && !echo.does_all());
        let zoo: Target = "127.0.0.1:1,zoo".parse().expect("valid");
        assert!(zoo.does(OpKind::Multi) && zoo.notifies() && zoo.does_all());
    }

    #[test]
    fn connections_go_round_the_servers_and_processes_add_up() {
        let own = std::process::id();
        let t: Target = format!("127.0.0.1:1,127.0.0.1:2,{own},{own}").parse().expect("valid");
        let ports: Vec<_> = (0..3).map(|n| t.of_connection(n).addr.port()).collect();
        assert_eq!(ports, [1, 2, 1]);
        let once: Target = format!("127.0.0.1:1,{own}").parse().expect("valid");
        assert!(t.memory().expect("runs").rss > once.memory().expect("runs").rss);
        assert!(t.cpu_time().is_some() && t.thread_cpu_times().len() >= 2 * once.thread_cpu_times().len().min(1));
        assert_eq!("127.0.0.1:1,0".parse::<Target>().expect("valid").cpu_time(), None, "no such process");
    }
}

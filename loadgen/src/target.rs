//! What is measured: one server, or several that form an ensemble, over which connections are spread.

use crate::host::{self, Memory};
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
}

impl Target {
    /// Of the servers at these addresses; `None` when there is none.
    pub fn new(addrs: Vec<SocketAddr>, pids: Vec<u32>, label: Option<String>) -> Option<Self> {
        let first = addrs.first()?;
        let label = label.unwrap_or_else(|| first.to_string());
        Some(Target { addrs, pids, label })
    }

    /// Every server.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The server that prepares and cleans up.
    pub fn first(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// The server of the n-th connection: each in turn.
    pub fn of_connection(&self, n: usize) -> SocketAddr {
        self.addrs[n % self.addrs.len()]
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

    /// `host:port[,host:port…][,pid…][,label]`: what has a colon is an address, what is a number a process.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not host:port[,host:port…][,pid…][,label]");
        let (mut addrs, mut pids, mut label) = (Vec::new(), Vec::new(), None);
        for part in text.split(',').map(str::trim) {
            match part.parse::<u32>() {
                _ if part.is_empty() => return Err(wrong()),
                Ok(pid) => pids.push(pid),
                Err(_) if part.contains(':') => addrs.push(parse_addr(part)?),
                Err(_) if label.is_some() => return Err(wrong()),
                Err(_) => label = Some(part.to_owned()),
            }
        }
        Target::new(addrs, pids, label).ok_or_else(wrong)
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
    fn a_target_takes_servers_processes_and_a_label_in_any_order_and_refuses_rubbish() {
        let t: Target = "127.0.0.1:2181,42,zoo".parse().expect("valid");
        assert_eq!((t.first().port(), &t.pids[..], t.label.as_str()), (2181, &[42][..], "zoo"));
        let t: Target = "127.0.0.1:2181,java".parse().expect("valid");
        assert_eq!((t.has_pids(), t.label.as_str(), t.cpu_time(), t.memory()), (false, "java", None, None));
        assert_eq!("127.0.0.1:2181".parse::<Target>().expect("valid").label, "127.0.0.1:2181");
        for bad in ["", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:1,a,b", "127.0.0.1:1,,", "42", "zoo"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn connections_go_round_the_servers_and_processes_add_up() {
        let own = std::process::id();
        let t: Target = format!("127.0.0.1:1,127.0.0.1:2,{own},{own}").parse().expect("valid");
        let ports: Vec<_> = (0..3).map(|n| t.of_connection(n).port()).collect();
        assert_eq!(ports, [1, 2, 1]);
        let once: Target = format!("127.0.0.1:1,{own}").parse().expect("valid");
        assert!(t.memory().expect("runs").rss > once.memory().expect("runs").rss);
        assert!(t.cpu_time().is_some() && t.thread_cpu_times().len() >= 2 * once.thread_cpu_times().len().min(1));
        assert_eq!("127.0.0.1:1,0".parse::<Target>().expect("valid").cpu_time(), None, "no such process");
    }
}
